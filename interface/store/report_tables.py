"""The tables of reports; part of `store.tables`."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, Text, UniqueConstraint, Uuid

from interface.store.columns import at, flag, integer, key, metadata, ref, string, tenant, tenant_seen_to, word

# append-only: a version of an order's report; `body` is its content (`render.report_json`), `digest` of what makes it
report = Table(
    "report", metadata, key(), tenant(), ref("order_id", "lab_order", True), integer("version", 1),
    Column("status", Text, nullable=False), Column("body", LargeBinary, nullable=True), at("created_at", True),
    Column("digest", LargeBinary, nullable=True), flag("preliminary", False), word("paper", "a4"),
    word("language", "en"),
    UniqueConstraint("order_id", "version"),
)  # fmt: skip
report_file = Table(  # append-only: what was made of a version, byte for byte
    "report_file", metadata, key(), tenant(), ref("report_id", "report", True), Column("paper", Text, nullable=False),
    Column("language", Text, nullable=False), Column("sha1", LargeBinary, nullable=False), integer("size"),
    Column("body", LargeBinary, nullable=False), at("created_at", True),
    UniqueConstraint("report_id", "paper", "language"),
)  # fmt: skip
report_setting = Table(  # what stands above an organization's reports, and their usual form
    "report_setting", metadata, key(), tenant(), string("address"), string("phone"), string("director"),
    string("accreditation"), word("zone", "UTC"), word("paper", "a4"), word("language", "en"), integer("version", 1),
    at("updated_at", True), UniqueConstraint("organization_id"),
)  # fmt: skip
report_due = Table(  # orders whose report is to be looked at: triggers add them, who has looked deletes them
    "report_due", metadata, key(), tenant_seen_to(), Column("order_id", Uuid, nullable=False), at("created_at", True),
    Index(None, "order_id"),
)  # fmt: skip
turnaround_target = Table(  # how soon: from one stage to another, in minutes; an empty field is any
    "turnaround_target", metadata, key(), tenant(), string("test_code"), string("department"), string("priority"),
    Column("stage", Text, nullable=False), Column("minutes", Integer, nullable=False), at("updated_at", True),
    UniqueConstraint("organization_id", "test_code", "department", "priority", "stage", name="turnaround_target_key"),
)  # fmt: skip

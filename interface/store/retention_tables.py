"""What is kept longer than its class, and where the audit trails begin once their oldest part is gone."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, LargeBinary, Table, Text, Uuid, text

from interface.store.columns import at, did, ended, key, metadata, string, tenant

legal_hold = Table(  # of what nothing is deleted while it stands: everything, a patient's, an order's
    "legal_hold", metadata, key(), tenant(),
    Column("kind", Text, nullable=False),  # organization, patient, order
    Column("subject_id", Uuid, nullable=False), string("reason"), *did(), *ended(),
    Index("legal_hold_standing_idx", "organization_id", "kind", "subject_id", unique=True,
          postgresql_where=text("ended_at is null")),
)  # fmt: skip
audit_anchor = Table(  # the last segment of an audit trail whose rows were deleted with it: what is left follows on it
    "audit_anchor", metadata,
    Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True), Column("digest", LargeBinary, nullable=False),
    Column("ended_position", BigInteger, nullable=False), Column("ended_id", Uuid, nullable=False),
    Column("sealed_at", DateTime(timezone=True), nullable=False), Column("rows", BigInteger, nullable=False),
    at("created_at", True),
)  # fmt: skip

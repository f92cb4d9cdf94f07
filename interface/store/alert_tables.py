"""Alerts, what was told of them to whom, what is quiet, and what wards were told; see `store.tables`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Table, Text, Uuid, text

from interface.store.columns import at, did, ended, integer, key, metadata, ref, string, tenant, word

alert = Table(  # stands from its entry to its recovery
    "alert", metadata, key(), tenant(),
    Column("kind", Text, nullable=False),  # domain.alerts.AlertKind
    string("thing"), string("subject"),  # what it is about: a word, and its name or id
    Column("severity", Text, nullable=False),  # notice, warning, urgent
    string("note"), at("entered_at", True), at("recovered_at"), string("recovery"),
    at("told_at"), at("recovery_told_at"),  # when it was decided whom to tell
    integer("step"), at("stepped_at"),  # how far it is escalated
    at("acknowledged_at"), Column("acknowledged_by", Uuid, nullable=True), string("acknowledged_name"),
    integer("version", 1),
    Index("alert_standing_idx", "organization_id", "kind", "thing", "subject", unique=True,
          postgresql_where=text("recovered_at is null")),
    Index("alert_untold_idx", "organization_id", "id",
          postgresql_where=text("recovered_at is null or (told_at is not null and recovery_told_at is null)")),
    Index(None, "organization_id", "entered_at"),
)  # fmt: skip
alert_message = Table(  # one message to one person by one channel; it may speak of many alerts
    "alert_message", metadata, key(), tenant(),
    Column("about", Text, nullable=False),  # entered, recovered, escalated, several, notice, test
    Column("channel", Text, nullable=False), string("person"), string("address"), string("severity"),
    string("title"), string("body"),
    word("state", "waiting"),  # waiting, sent, failed
    integer("attempts"), at("due_at", True), Column("claimed_by", Uuid, nullable=True), at("claimed_until"),
    string("error"), at("created_at", True), at("sent_at"),
    Column("place", BigInteger, Identity(always=False), nullable=False),  # in this order for each address
    Index("alert_message_waiting_idx", "organization_id", "channel", "address", "place",
          postgresql_where=text("state = 'waiting'")),
    Index(None, "organization_id", "created_at"),
)  # fmt: skip
alert_event = Table(  # append-only: what happened to an alert, and who was told what
    "alert_event", metadata, key(), tenant(), ref("alert_id", "alert"), ref("message_id", "alert_message"),
    Column("what", Text, nullable=False),  # entered, told, escalated, acknowledged, silenced, recovered, failed …
    string("channel"), string("person"), string("note"), *did(),
    Index(None, "alert_id", "id"), Index(None, "message_id"),
)  # fmt: skip
alert_silence = Table(  # of what nothing is told for a while; empty: of everything
    "alert_silence", metadata, key(), tenant(), string("kind"), string("thing"), string("subject"),
    at("begins_at", True), Column("ends_at", at("ends_at").type, nullable=False), string("reason"), *did(), *ended(),
    Index(None, "organization_id", "ends_at"),
)  # fmt: skip
notice = Table(  # append-only: of what wards and practitioners were told, once
    "notice", metadata, Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    Column("what", Text, primary_key=True),  # final, cancelled, rejected, critical
    Column("record_id", Uuid, primary_key=True),  # an order, a specimen, the task of a critical result
    at("created_at", True),
)  # fmt: skip

"""What changed, in order, and who is told of it: the feed, subscriptions and exports; see `store.tables`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY

from interface.store.columns import (
    at,
    document,
    integer,
    key,
    metadata,
    ref,
    string,
    strings,
    tenant,
    tenant_seen_to,
)


def big(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


outbox = Table(  # what changed, for whoever follows; written by who changes it, in the same transaction
    "outbox", metadata, key(), tenant_seen_to(),
    Column("kind", Text, nullable=False),  # order, result, preliminary, patient, specimen, critical, qc_problem, alert
    # a result's version, or an order with the versions of its results, or a message with those that no order knows
    Column("entity_id", Uuid, nullable=False), integer("entity_version"), at("created_at", True), at("sealed_at"),
    Column("versions", ARRAY(Uuid), nullable=False, server_default=text("'{}'")),
    Column("place", BigInteger, Identity(always=False), nullable=False),  # in the order of writing
    Column("seq", BigInteger, nullable=True),  # in the feed, given after the commit: see `store.changes`
    string("note"),  # of an alert: what happened
    Index(None, "entity_id"),
    Index("outbox_unsealed_idx", "organization_id", "place", postgresql_where=text("seq is null")),
    Index("outbox_organization_id_seq_idx", "organization_id", "seq", unique=True,
          postgresql_where=text("seq is not null")),
    Index(None, "organization_id", "sealed_at"),
)  # fmt: skip
subscription = Table(  # who is told; `position`: all up to it is done, and of the next row `done` resources
    "subscription", metadata, key(), tenant(), ref("client_id", "client", True),
    Column("status", Text, nullable=False),  # active, error, off
    Column("resource", Text, nullable=False), Column("criteria", Text, nullable=False),
    Column("endpoint", Text, nullable=False), string("payload"), strings("headers"), string("reason"), at("ends_at"),
    strings("scopes"),  # of the token it was made with
    big("position"), integer("done"),
    string("error"), integer("attempts"), at("due_at", True),
    Column("claimed_by", Uuid, nullable=True), at("claimed_until"),  # by one sender at a time
    big("sent"), at("sent_at"), integer("version", 1), at("created_at", True), at("updated_at", True), at("ended_at"),
    Index(None, "client_id"),
    Index("subscription_live_idx", "organization_id", postgresql_where=text("status in ('active', 'error')")),
)  # fmt: skip
subscription_letter = Table(  # what an endpoint refused: a person may have it sent again
    "subscription_letter", metadata, key(), tenant(), ref("subscription_id", "subscription", True),
    Column("seq", BigInteger, nullable=False), Column("resource_id", Uuid, nullable=False), string("error"),
    integer("attempts"), at("created_at", True), at("again_at"), at("sent_at"),
    Index(None, "subscription_id", "id"),
)  # fmt: skip
export_job = Table(
    "export_job", metadata, key(), tenant(), ref("client_id", "client", True),
    Column("state", Text, nullable=False),  # accepted, running, completed, failed, cancelled
    Column("request", Text, nullable=False), Column("level", Text, nullable=False),  # system, patient
    strings("types"), strings("filters"), at("since"), strings("scopes"), at("transaction_time"), big("progress"),
    Column("files", document("files").type, nullable=False, server_default=text("'[]'")),
    string("error"), integer("attempts"), Column("claimed_by", Uuid, nullable=True), at("claimed_until"),
    at("created_at", True), at("started_at"), at("ended_at"), at("expires_at"), at("removed_at"),
    Column("position", BigInteger, nullable=True),  # of the feed when it began
    Index(None, "client_id"),
    Index("export_job_kept_idx", "organization_id", "state", postgresql_where=text("removed_at is null")),
)  # fmt: skip

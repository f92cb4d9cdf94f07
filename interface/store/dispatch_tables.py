"""The tables of the order book: which analyzer is to measure what, and what each was told and answered.

A row of `dispatch` is one code of one order item for one analyzer; what happened to it is in `dispatch_event`. Work
that was told and is to be taken back stays the same row with the kind `cancel`: it goes by the same work id.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from interface.store.columns import (
    at,
    did,
    ended,
    flag,
    integer,
    key,
    metadata,
    read_before,
    ref,
    string,
    strings,
    tenant,
    tenant_seen_to,
)

_OPEN = "state not in ('resulted', 'cancelled')"

sending = Table(  # append-only: a message of ours to an analyzer, stored before it leaves
    "sending", metadata, key(), tenant_seen_to(), ref("link_id", "link", True),
    ref("query_id", "message"),  # that it answers
    Column("bytes", LargeBinary, nullable=False), at("created_at", True), Index(None, "query_id"),
)  # fmt: skip
# Its item and specimen are read, under the organization's row-level security, before it is written, and no row of them
# is ever deleted; a foreign key to the specimen would wait for whoever decides about its results.
dispatch = Table(
    "dispatch", metadata, key(), tenant_seen_to(),
    Column("order_item_id", Uuid, nullable=False), Column("specimen_id", Uuid, nullable=False),
    ref("analyzer_id", "analyzer", True), ref("link_id", "link"),  # by which it was told last
    # From the sequence `dispatch_work_id_seq`, which goes back for nobody: a number is never used again.
    Column("work_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False, server_default=text("'new'")),  # new, rerun, dilution, cancel
    string("code"),  # the analyzer's
    Column("state", Text, nullable=False),  # queued, sent, accepted, refused, failed, resulted, cancelled
    string("answer"), string("reason"),  # the analyzer's words, and ours
    ref("follow_up_id", "follow_up"), Column("dilution", Numeric, nullable=True),
    string("specimen_told"),  # the id by which the analyzer was told of the specimen
    integer("attempts"),  # to tell it that did not succeed
    read_before("sending_id"),
    flag("barred", False),  # a person has said that this analyzer is not to do it
    at("created_at", True), at("updated_at", True), at("sent_at"), at("answered_at"), at("ended_at"),
    UniqueConstraint("organization_id", "work_id"), Index(None, "order_item_id"),
    Index("dispatch_open_idx", "order_item_id", "analyzer_id", "code", unique=True, postgresql_where=text(_OPEN)),
    Index("dispatch_due_idx", "analyzer_id", "id", postgresql_where=text("state = 'queued'")),
    Index("dispatch_unconfirmed_idx", "link_id",
          postgresql_where=text("state in ('queued', 'sent') and sending_id is not null")),
    Index("dispatch_alert_idx", "organization_id", "id", postgresql_where=text("state in ('refused', 'failed')")),
)  # fmt: skip
dispatch_event = Table(  # append-only
    "dispatch_event", metadata, key(), tenant_seen_to(), ref("dispatch_id", "dispatch", True),
    Column("kind", Text, nullable=False), Column("state", Text, nullable=False),  # from then on
    string("answer"), string("reason"), read_before("sending_id"), *did(), Index(None, "dispatch_id"),
    Index("dispatch_event_sending_id_idx", "sending_id", postgresql_where=text("sending_id is not null")),
)  # fmt: skip
route = Table(  # which analyzers measure a test, in order of preference; none: all that can are offered it
    "route", metadata, key(), tenant(), ref("test_id", "test", True), string("specimen_type"),
    ref("analyzer_id", "analyzer", True), Column("place", SmallInteger, nullable=False), integer("share"),
    Column("when_down", Text, nullable=False, server_default=text("'next'")),  # next, wait
    strings("codes"),  # to order it by, where the code map has several
    *did(), *ended(),
    Index("route_active_idx", "test_id", "specimen_type", "analyzer_id", unique=True,
          postgresql_where=text("ended_at is null")),
)  # fmt: skip
analyzer_down = Table(  # that an analyzer measures nothing at the moment, as a person said, until it is ended
    "analyzer_down", metadata, key(), tenant(), ref("analyzer_id", "analyzer", True), string("reason"),
    *did(), *ended(),
    Index("analyzer_down_active_idx", "analyzer_id", unique=True, postgresql_where=text("ended_at is null")),
)  # fmt: skip
link_state = Table(  # how a link stood when it was looked at last
    "link_state", metadata, ref("link_id", "link", key=True), tenant(),
    Column("connected", Boolean, nullable=False), at("changed_at", True), at("heard_at"), at("looked_at", True),
)  # fmt: skip
work_due = Table(  # items to be measured of which an analyzer that is told of its work was not told yet
    "work_due", metadata, Column("analyzer_id", Uuid, primary_key=True),
    Column("order_item_id", Uuid, primary_key=True), tenant(), at("since", True),
)  # fmt: skip

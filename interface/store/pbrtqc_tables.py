"""The tables of quality control by the patients' own results: plans, what proved them, where each stands, its alarms.

No value of a patient is in any of them: `pbrtqc_value` names the version of the result that was counted and holds the
statistic that it led to.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from interface.store.columns import (
    at,
    did,
    ended,
    flag,
    integer,
    key,
    metadata,
    ref,
    string,
    strings,
    tenant,
    tenant_seen_to,
)


def _stream() -> tuple[Column[Any], ...]:
    return ref("analyzer_id", "analyzer", True), string("module"), ref("test_id", "test", True)


pbrtqc_plan = Table(  # append-only: a revision never changes; `digest` is of its body
    "pbrtqc_plan", metadata, key(), tenant(), Column("name", Text, nullable=False), integer("revision", 1),
    *_stream(), Column("body", Text, nullable=False),  # `domain.pbrtqc_plan.write_plan`
    string("digest"), string("reason"), *did(), UniqueConstraint("organization_id", "name", "revision"),
    Index(None, "analyzer_id", "test_id"),
)  # fmt: skip
pbrtqc_validation = Table(  # append-only: a simulation of exactly this revision, and whether it met the goals
    "pbrtqc_validation", metadata, key(), tenant(), ref("plan_id", "pbrtqc_plan", True),
    Column("digest", Text, nullable=False), Column("engine", Text, nullable=False),
    at("begin_at", True), at("end_at", True),  # of the results it ran over
    Column("outcome", JSON, nullable=False), Column("met", Boolean, nullable=False), strings("unmet"), *did(),
    Index(None, "plan_id"),
)  # fmt: skip
pbrtqc_use = Table(  # that a revision follows its stream, until it is ended
    "pbrtqc_use", metadata, key(), tenant(), ref("plan_id", "pbrtqc_plan", True), Column("name", Text, nullable=False),
    Column("mode", Text, nullable=False),  # watch, warn, hold
    string("reason"), *did(), *ended(),
    Index("pbrtqc_use_active_idx", "organization_id", "name", unique=True,
          postgresql_where=text("ended_at is null")),
    Index(None, "plan_id"),
)  # fmt: skip
pbrtqc_value = Table(  # append-only: a result that was counted, and the statistic that it led to
    "pbrtqc_value", metadata, Column("use_id", Uuid, nullable=False), Column("ordinal", BigInteger, nullable=False),
    tenant_seen_to(), Column("result_version_id", Uuid, nullable=False),
    at("measured_at", True), Column("statistic", Numeric, nullable=True),  # null: not enough values yet
    PrimaryKeyConstraint("use_id", "ordinal"), UniqueConstraint("use_id", "result_version_id"),
)  # fmt: skip
pbrtqc_event = Table(  # append-only: the statistic went beyond a limit, came back, or a person ended the alarm
    "pbrtqc_event", metadata, key(), tenant(), *_stream(), ref("plan_id", "pbrtqc_plan", True),
    ref("use_id", "pbrtqc_use", True), Column("kind", Text, nullable=False),  # alarm, back, closed
    ref("alarm_id", "pbrtqc_event"),  # of back and closed: which alarm
    string("mode"), flag("gates", False), string("side"),  # low, high
    Column("statistic", Numeric, nullable=True), Column("bound", Numeric, nullable=True),
    Column("ordinal", BigInteger, nullable=True),  # of the value at which it happened
    at("since", True),  # measured: of that value
    at("suspect_from"),  # measured: when the statistic last stood at its centre, or beyond it on the other side
    string("reason"), *did(), Index(None, "analyzer_id", "test_id", "since"), UniqueConstraint("alarm_id"),
)  # fmt: skip
pbrtqc_state = Table(  # how far each use has got
    "pbrtqc_state", metadata, ref("use_id", "pbrtqc_use", key=True), tenant(),
    Column("cursor_id", Uuid, nullable=False),  # versions of results up to this one have been looked at
    Column("ordinal", BigInteger, nullable=False, server_default=text("0")),  # of the last value
    Column("restart", BigInteger, nullable=False, server_default=text("0")),  # values after this one are in the window
    Column("statistic", Numeric, nullable=True), at("last_at"),  # measured: of the last result that was looked at
    ref("alarm_id", "pbrtqc_event"),  # that is open
    integer("version", 1), at("updated_at", True),
)  # fmt: skip

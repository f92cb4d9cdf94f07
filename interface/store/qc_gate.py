"""The gate of quality control as rows: plans, the state of each stream with its history, events and actions.

Two locks keep it and the decisions about patients' results apart: who decides has an analyzer's shared, who judges its
controls, or says what was done, has it alone. Both take it before they lock anything else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from asyncpg import Record

from interface.domain.facts import QcState
from interface.domain.qc import QcMode, QcRule, QcVerdict, Stream
from interface.domain.qc_state import (
    DEFAULT_PLAN,
    Acted,
    History,
    Meanwhile,
    Measured,
    Plan,
    Span,
    StreamState,
)
from interface.domain.times import end_of, measured_at
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7

POINTS = 200  # of a stream that its state is made of; and all since a failure began

# ---- the locks -------------------------------------------------------------------------------------------------------

_LOCK = "select pg_advisory_xact_lock(hashtextextended('labora qc ' || $1 || $2, 0))"


@dataclass(frozen=True, slots=True)
class Token:
    """Of an analyzer's streams: the same as before, and so are they."""

    versions: int
    changed_at: datetime


async def lock_deciding(connection: Connection, analyzer_ids: Collection[UUID]) -> dict[UUID, Token]:
    """For who decides about patients' results of these analyzers: their controls are as they are until the caller's
    transaction ends. Analyzers that have no stream are left out."""
    rows = await connection.fetch("select * from lab.qc_deciding($1)", list(analyzer_ids))
    return {row["analyzer_id"]: Token(row["versions"], row["changed_at"]) for row in rows}


async def lock_judging(connection: Connection, organization_id: UUID, analyzer_id: UUID) -> None:
    """For who judges an analyzer's controls: nobody decides about its results until the caller's transaction ends."""
    await connection.execute(_LOCK, str(organization_id), str(analyzer_id))


# ---- plans -----------------------------------------------------------------------------------------------------------

_PLANS = """
select p.id, p.analyzer_id, p.test_id, coalesce(a.name, '') as analyzer, coalesce(t.code, '') as test, p.mode, p.rules,
       p.levels, p.run_minutes, p.interval_minutes, p.before_first, p.timezone, p.loose_r4s, p.allowable_error,
       p.version, p.updated_at
from lab.qc_plan p left join lab.analyzer a on a.id = p.analyzer_id left join lab.test t on t.id = p.test_id
where p.ended_at is null
"""


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan as it was set, and its row."""

    id: UUID
    plan: Plan
    updated_at: datetime


def _plan(row: Record) -> Plan:
    return Plan(
        row["analyzer"], row["test"], QcMode(row["mode"]), tuple(map(QcRule, row["rules"])), row["levels"],
        row["run_minutes"], row["interval_minutes"], row["before_first"], row["timezone"], row["loose_r4s"],
        row["allowable_error"], row["version"],
    )  # fmt: skip


async def plan_of(connection: Connection, analyzer_id: UUID, test_id: UUID) -> Plan:
    """The most special plan decides: of the analyzer's test, of the analyzer, of the test, of all; else the default."""
    row = await connection.fetchrow(
        _PLANS + " and coalesce(p.analyzer_id = $1, true) and coalesce(p.test_id = $2, true)"
        " order by p.analyzer_id is null, p.test_id is null limit 1",
        analyzer_id,
        test_id,
    )
    return DEFAULT_PLAN if row is None else _plan(row)


async def plans(connection: Connection) -> list[PlanView]:
    """Those that are set, the most general first."""
    rows = await connection.fetch(_PLANS + " order by a.name nulls first, t.code nulls first")
    return [PlanView(row["id"], _plan(row), row["updated_at"]) for row in rows]


async def set_plan(
    connection: Connection, organization_id: UUID, analyzer_id: UUID | None, test_id: UUID | None, plan: Plan
) -> int:
    """Set a plan, whole; its new version. The caller has the lock of the plans."""
    version: int = await connection.fetchval(
        "select coalesce(max(version), 0) + 1 from lab.qc_plan"
        " where analyzer_id is not distinct from $1 and test_id is not distinct from $2",
        analyzer_id,
        test_id,
    )
    await end_plan(connection, analyzer_id, test_id)
    await connection.execute(
        """insert into lab.qc_plan (id, organization_id, analyzer_id, test_id, mode, rules, levels, run_minutes,
               interval_minutes, before_first, timezone, loose_r4s, allowable_error, version)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)""",
        uuid7(), organization_id, analyzer_id, test_id, plan.mode, list(plan.rules), plan.levels, plan.run_minutes,
        plan.interval_minutes, plan.before_first, plan.timezone, plan.loose_r4s, plan.allowable_error, version,
    )  # fmt: skip
    return version


async def end_plan(connection: Connection, analyzer_id: UUID | None, test_id: UUID | None) -> bool:
    """Take a plan out of use. False where there is none."""
    done = await connection.execute(
        "update lab.qc_plan set ended_at = now() where ended_at is null"
        " and analyzer_id is not distinct from $1 and test_id is not distinct from $2",
        analyzer_id,
        test_id,
    )
    return not done.endswith(" 0")


async def lock_plans(connection: Connection, organization_id: UUID) -> None:
    """One change of plans at a time."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('labora qc plans ' || $1, 0))", str(organization_id)
    )


# ---- events of a stream ----------------------------------------------------------------------------------------------

# A target that a person ended since a point was judged by it, from before it was measured on, was wrong then: what
# passed by it counts as what is excluded.
_POINTS = """
select p.qc_result_id, p.measured_at, p.created_at, p.level_number, p.run_id, p.verdict,
       p.excluded_at is not null or coalesce(t.ended_at <= least(p.measured_at, p.created_at), false) as out,
       p.reagent_lot, l.expires_on, l.id as lot_id, l.lot, l.level
from lab.qc_point p join lab.qc_lot l on l.id = p.lot_id left join lab.qc_target t on t.id = p.target_id
where p.analyzer_id = $1 and p.test_id = $2 and p.module = $3
"""

_BEFORE = """
select min(measured_at) from (
    select measured_at from lab.qc_point where analyzer_id = $1 and test_id = $2 and module = $3
        and measured_at <= (select measured_at from lab.qc_point where qc_result_id = $4)
    order by measured_at desc limit $5) as before
"""


async def points_of(
    connection: Connection, stream: Stream, plan: Plan, since: datetime | None = None, about: UUID | None = None
) -> list[Measured]:
    """The newest points of a stream, and in any case those since a time, and those since `about` with as many before
    it: a point that came late, or counts no more, changes what is said from its own time on. Oldest first."""
    of = (stream.analyzer_id, stream.test_id, stream.module)
    rows = await connection.fetch(_POINTS + " order by p.measured_at desc, p.qc_result_id desc limit $4", *of, POINTS)
    if len(rows) == POINTS and about is not None and all(row["qc_result_id"] != about for row in rows):
        found = await connection.fetchval(_BEFORE, *of, about, POINTS)
        since = min((at for at in (since, found) if at is not None), default=None)
    if since is not None and len(rows) == POINTS and rows[-1]["measured_at"] > since:
        rows = await connection.fetch(
            _POINTS + " and p.measured_at >= $4 order by p.measured_at desc, p.qc_result_id desc", *of, since
        )
    targets = await _aims(connection, stream)
    return [_measured(row, plan, targets) for row in reversed(rows)]


async def wrong_points(connection: Connection, stream: Stream, target_id: UUID) -> list[UUID]:
    """The points of a stream that passed by a target which was wrong then, oldest first."""
    rows = await connection.fetch(
        """select p.qc_result_id from lab.qc_point p join lab.qc_target t on t.id = p.target_id
           where p.analyzer_id = $1 and p.test_id = $2 and p.module = $3 and t.id = $4 and p.excluded_at is null
             and p.verdict in ('accept', 'warn') and t.ended_at <= least(p.measured_at, p.created_at)
           order by p.measured_at, p.qc_result_id""",
        stream.analyzer_id, stream.test_id, stream.module, target_id,
    )  # fmt: skip
    return [row["qc_result_id"] for row in rows]


async def expired_points(connection: Connection, stream: Stream, lot_id: UUID) -> list[UUID]:
    """The points of a stream that passed and are of a lot which, as is known by now, had expired by then, oldest
    first."""
    rows = await connection.fetch(
        """select p.qc_result_id from lab.qc_point p join lab.qc_lot l on l.id = p.lot_id
           where p.analyzer_id = $1 and p.test_id = $2 and p.module = $3 and l.id = $4 and p.excluded_at is null
             and p.verdict in ('accept', 'warn')
             and p.measured_at >= (l.expires_on + 1)::timestamp at time zone 'UTC'
           order by p.measured_at, p.qc_result_id""",
        stream.analyzer_id, stream.test_id, stream.module, lot_id,
    )  # fmt: skip
    return [row["qc_result_id"] for row in rows]


async def older(connection: Connection, stream: Stream, than: datetime) -> bool:
    """Whether a stream has a point from before a time."""
    found: bool = await connection.fetchval(
        """select exists (select from lab.qc_point
               where analyzer_id = $1 and test_id = $2 and module = $3 and measured_at < $4)""",
        stream.analyzer_id, stream.test_id, stream.module, than,
    )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class _Aim:
    """When a lot had a target, and could be used."""

    lot_id: UUID
    level: int
    reagent_lot: str
    begin: datetime
    ends: tuple[datetime, ...]

    def holds(self, at: datetime, reagent_lot: str) -> bool:
        return self.reagent_lot in ("", reagent_lot) and self.begin <= at and all(at < end for end in self.ends)


async def _aims(connection: Connection, stream: Stream) -> list[_Aim]:
    rows = await connection.fetch(
        """select l.id, l.level_number, t.reagent_lot, t.valid_from, t.valid_to, t.ended_at, l.closed_at, l.expires_on
           from lab.qc_target t join lab.qc_lot l on l.id = t.lot_id
           where t.analyzer_id = $1 and t.test_id = $2 and t.module in ('', $3)""",
        stream.analyzer_id, stream.test_id, stream.module,
    )  # fmt: skip
    return [
        _Aim(
            row["id"], row["level_number"], row["reagent_lot"], row["valid_from"],
            tuple(end for end in (row["valid_to"], row["ended_at"], row["closed_at"], _end(row["expires_on"])) if end),
        )
        for row in rows
    ]  # fmt: skip


def _end(day: date | None) -> datetime | None:
    """A lot is good through its last day."""
    return None if day is None else end_of(day)


def _measured(row: Record, plan: Plan, aims: Sequence[_Aim]) -> Measured:
    at = row["measured_at"]
    held = [one for one in aims if one.holds(at, row["reagent_lot"])]
    wanted = frozenset() if plan.levels else frozenset(one.level for one in held)
    name = f"{row['lot']}/{row['level']}" if row["level"] else row["lot"]
    return Measured(
        str(row["qc_result_id"]), at, row["created_at"], row["level_number"], str(row["run_id"]),
        QcVerdict(row["verdict"]), wanted, plan.levels, row["out"], row["reagent_lot"], _end(row["expires_on"]),
        str(row["lot_id"]), name, frozenset(str(one.lot_id) for one in held),
    )  # fmt: skip


async def actions_of(connection: Connection, stream: Stream, since: datetime) -> list[Acted]:
    """Corrective actions, documented since a time."""
    rows = await connection.fetch(
        """select id, created_at, measured, qc_result_id from lab.qc_action
           where analyzer_id = $1 and test_id = $2 and module = $3 and kind = 'corrective' and created_at >= $4
           and measured <> '' and qc_result_id is not null order by created_at, id""",
        stream.analyzer_id, stream.test_id, stream.module, since,
    )  # fmt: skip
    return [
        Acted(str(row["id"]), row["created_at"], Meanwhile(row["measured"]), str(row["qc_result_id"])) for row in rows
    ]


# ---- streams ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream as it stands. `state`: without regard to time, but for the patients' own alarm."""

    id: UUID
    stream: Stream
    analyzer: str
    test: str
    state: QcState
    since: datetime
    last_ok_at: datetime | None
    last_ok_id: UUID | None
    failed_id: UUID | None
    action_due: bool
    expires_at: datetime | None
    reason: str
    version: int
    swept: int
    plan: str
    history: History
    alarm: QcState | None
    alarm_since: datetime | None
    alarm_reason: str


_STREAMS = """
select s.*, a.name as analyzer, t.code as test
from lab.qc_stream s join lab.analyzer a on a.id = s.analyzer_id join lab.test t on t.id = s.test_id
"""


async def streams_of(connection: Connection, analyzer_ids: Collection[UUID]) -> list[StreamRow]:
    """Every stream of these analyzers."""
    rows = await connection.fetch(
        _STREAMS + " where s.analyzer_id = any($1) order by a.name, t.code, s.module", list(analyzer_ids)
    )
    return [_stream(row) for row in rows]


async def all_streams(connection: Connection) -> list[StreamRow]:
    return [_stream(row) for row in await connection.fetch(_STREAMS + " order by a.name, t.code, s.module")]


async def unswept(connection: Connection) -> list[StreamRow]:
    """Streams whose last change the patients' results have not followed yet."""
    rows = await connection.fetch(_STREAMS + " where s.swept < s.version order by s.id")
    return [_stream(row) for row in rows]


async def stream_row(connection: Connection, stream: Stream) -> StreamRow | None:
    """The stream as it stands; None where nothing was ever said of it."""
    row = await connection.fetchrow(
        _STREAMS + " where s.analyzer_id = $1 and s.test_id = $2 and s.module = $3",
        stream.analyzer_id, stream.test_id, stream.module,
    )  # fmt: skip
    return None if row is None else _stream(row)


def _stream(row: Record) -> StreamRow:
    alarm = QcState(row["alarm"]) if row["alarm"] else None
    return StreamRow(
        row["id"], Stream(row["analyzer_id"], row["test_id"], row["module"]), row["analyzer"], row["test"],
        QcState(row["state"]), row["since"], row["last_ok_at"], row["last_ok_id"], row["failed_id"], row["action_due"],
        row["expires_at"], row["reason"], row["version"], row["swept"], row["plan"],
        read_history(row["history"], row["expires_at"], alarm, row["alarm_since"]), alarm, row["alarm_since"],
        row["alarm_reason"],
    )  # fmt: skip


def write_history(history: History) -> str:
    """The column's text; when it expires and the alarm are columns of their own."""
    spans = [[span.begin.isoformat(), span.state.value, span.point, span.action] for span in history.spans]
    return json.dumps({"spans": spans, "lots": sorted(history.lots)})


def read_history(
    read: Mapping[str, Any], expires_at: datetime | None, alarm: QcState | None, alarm_since: datetime | None
) -> History:
    spans = tuple(
        Span(datetime.fromisoformat(begin), QcState(state), point, action)
        for begin, state, point, action in read.get("spans", ())
    )
    return History(spans, expires_at, frozenset(read.get("lots", ())), alarm, alarm_since)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is written of a stream."""

    state: QcState
    since: datetime
    made: StreamState
    history: History
    plan: str
    reason: str


async def write_stream(connection: Connection, organization_id: UUID, stream: Stream, now: Standing) -> None:
    """The stream as it stands from now on; the caller has the analyzer's lock alone."""
    failure = now.made.failure
    await connection.execute(
        """insert into lab.qc_stream (id, organization_id, analyzer_id, module, test_id, state, since, last_ok_at,
               last_ok_id, failed_id, action_due, expires_at, reason, history, plan, updated_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::text::jsonb, $15, clock_timestamp())
           on conflict (organization_id, analyzer_id, module, test_id) do update set
               state = excluded.state, since = excluded.since, last_ok_at = excluded.last_ok_at,
               last_ok_id = excluded.last_ok_id, failed_id = excluded.failed_id, action_due = excluded.action_due,
               expires_at = excluded.expires_at, reason = excluded.reason, history = excluded.history,
               plan = excluded.plan, updated_at = clock_timestamp(), version = qc_stream.version + 1""",
        uuid7(), organization_id, stream.analyzer_id, stream.module, stream.test_id, now.state, now.since,
        now.made.ok_at, _uuid(now.made.ok), _uuid(failure.last if failure else ""),
        failure is not None and failure.action is None, now.history.expires_at, now.reason,
        write_history(now.history), now.plan,
    )  # fmt: skip


async def set_alarm(
    connection: Connection, organization_id: UUID, stream: Stream, alarm: QcState | None, since: datetime | None,
    reason: str,
) -> None:  # fmt: skip
    """What the patients' own results say of a stream, which may have no controls."""
    await connection.execute(
        """insert into lab.qc_stream (id, organization_id, analyzer_id, module, test_id, state, alarm, alarm_since,
               alarm_reason, updated_at)
           values ($1, $2, $3, $4, $5, 'unknown', $6, $7, $8, clock_timestamp())
           on conflict (organization_id, analyzer_id, module, test_id) do update set
               alarm = excluded.alarm, alarm_since = excluded.alarm_since, alarm_reason = excluded.alarm_reason,
               updated_at = clock_timestamp(), version = qc_stream.version + 1""",
        uuid7(), organization_id, stream.analyzer_id, stream.module, stream.test_id, alarm.value if alarm else "",
        since, reason,
    )  # fmt: skip


async def touch(connection: Connection, stream: Stream) -> None:
    """Let the patients' results of a stream be gone through once more."""
    await connection.execute(
        """update lab.qc_stream set version = version + 1, updated_at = clock_timestamp()
           where analyzer_id = $1 and test_id = $2 and module = $3""",
        stream.analyzer_id, stream.test_id, stream.module,
    )  # fmt: skip


async def set_swept(connection: Connection, stream_id: UUID, version: int) -> None:
    await connection.execute(
        "update lab.qc_stream set swept = greatest(swept, $2) where id = $1", stream_id, version
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Of:
    """What quality control is asked about a version of a result that an analyzer measured."""

    analyzer_id: UUID
    analyzer: str
    test: str
    at: datetime
    module: str
    reagent_lot: str


# The analyzer of a result `r`: that which sent it, or of whose worksheet it was typed.
MEASURED_ON = """coalesce(r.analyzer_id, (
    select w.analyzer_id from lab.worksheet_item i join lab.worksheet w on w.id = i.worksheet_id
    where i.result_id = r.id order by i.id desc limit 1))"""


async def of_version(connection: Connection, version_id: UUID) -> Of | None:
    """None for what no analyzer measured."""
    row = await connection.fetchrow(
        f"""select a.id as analyzer_id, a.name, t.code, v.module, v.reagent_lot, v.instrument_at,
                  coalesce(m.received_at, r.created_at) as received_at
           from lab.result_version v join lab.result r on r.id = v.result_id
           join lab.analyzer a on a.id = {MEASURED_ON} join lab.test t on t.id = r.test_id
           left join lab.message m on m.id = v.message_id where v.id = $1""",  # noqa: S608 - a constant
        version_id,
    )
    if row is None:
        return None
    at = measured_at(row["instrument_at"], row["received_at"])
    return Of(row["analyzer_id"], row["name"], row["code"], at, row["module"], row["reagent_lot"])


# ---- what happened ---------------------------------------------------------------------------------------------------


async def add_event(
    connection: Connection, actor: Actor, stream: Stream, state: QcState, since: datetime, reason: str,
    point_id: UUID | None = None, action_id: UUID | None = None,
) -> None:  # fmt: skip
    """A change of a stream's state."""
    await connection.execute(
        """insert into lab.qc_event (id, organization_id, analyzer_id, module, test_id, state, since, point_id,
               action_id, reason, actor_kind, actor_id, actor_name)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)""",
        uuid7(), actor.organization_id, stream.analyzer_id, stream.module, stream.test_id, state, since, point_id,
        action_id, reason, actor.kind, actor.id, actor.name,
    )  # fmt: skip


async def add_action(
    connection: Connection, actor: Actor, stream: Stream, kind: str, text: str, measured: str = "",
    qc_result_id: UUID | None = None,
) -> UUID:  # fmt: skip
    """A person's word about a stream; its time is when it is written, not when the transaction began."""
    action_id = uuid7()
    await connection.execute(
        """insert into lab.qc_action (id, organization_id, analyzer_id, module, test_id, qc_result_id, kind, text,
               measured, actor_kind, actor_id, actor_name, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, clock_timestamp())""",
        action_id, actor.organization_id, stream.analyzer_id, stream.module, stream.test_id, qc_result_id, kind, text,
        measured, actor.kind, actor.id, actor.name,
    )  # fmt: skip
    return action_id


@dataclass(frozen=True, slots=True)
class ActionView:
    """What a person did or said about a stream."""

    id: UUID
    analyzer: str
    module: str
    test: str
    kind: str
    text: str
    meanwhile: str
    point_id: UUID | None
    by: str
    at: datetime


async def actions(connection: Connection, analyzer: str = "", test: str = "", limit: int = 100) -> list[ActionView]:
    """The newest, of an analyzer and of a test where they are named."""
    rows = await connection.fetch(
        """select x.id, a.name as analyzer, x.module, t.code as test, x.kind, x.text, x.measured, x.qc_result_id,
                  x.actor_name, x.created_at
           from lab.qc_action x join lab.analyzer a on a.id = x.analyzer_id join lab.test t on t.id = x.test_id
           where $1 in ('', a.name) and $2 in ('', t.code) order by x.created_at desc, x.id desc limit $3""",
        analyzer, test, limit,
    )  # fmt: skip
    return [ActionView(*row) for row in rows]


async def ids_of(connection: Connection, analyzer: str, test: str) -> tuple[UUID | None, UUID | None]:
    """The ids of an analyzer and a test by their names; None where there is none."""
    row = await connection.fetchrow(
        """select (select id from lab.analyzer where name = $1) as analyzer_id,
                  (select id from lab.test where code = $2) as test_id""",
        analyzer,
        test,
    )
    return (row["analyzer_id"], row["test_id"]) if row is not None else (None, None)


async def never_controlled(connection: Connection) -> list[tuple[str, str, str]]:
    """Analyzer, module and test of what has a target in force, and no stream."""
    rows = await connection.fetch(
        """select distinct a.name, t.module, c.code
           from lab.qc_target t join lab.analyzer a on a.id = t.analyzer_id join lab.test c on c.id = t.test_id
           where t.ended_at is null and t.valid_from <= now() and (t.valid_to is null or t.valid_to > now())
           and not exists (select from lab.qc_stream s where s.analyzer_id = t.analyzer_id and s.test_id = t.test_id
                           and (t.module in ('', s.module)))
           order by 1, 2, 3"""
    )
    return [(row["name"], row["module"], row["code"]) for row in rows]


def _uuid(text: str) -> UUID | None:
    return UUID(text) if text else None

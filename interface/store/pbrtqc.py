"""Rows of patient-based quality control: plans, validations, uses, counted values, alarms; and the results they follow.

Nothing that a row says is written again, but that a use ends and how far it has got. Every function works in the
caller's connection and transaction, which must act for the organization.

**Which results are counted, and in which order.** The first version of a result, as an analyzer's message was decided:
a number in the plan's unit, of a known specimen, held for nothing that puts the measurement in doubt (`COUNTED`), not
rejected or retracted since, and the first of its specimen and test (what comes after it is a repeat, a rerun or a
dilution). Controls are no results. In the order of the versions' ids, which is the order in which they were decided.
A value's time is the instrument's where that is plausible, else that of the decision.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from asyncpg import Record

from interface.domain.model import Comparator, HoldReason
from interface.domain.pbrtqc import Mode, Reading, Side
from interface.domain.pbrtqc_plan import Stamp, digest_of
from interface.domain.qc import Stream
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7, uuid7_floor
from interface.store.schema import OWNER_ROLE

# Held for these a result is as good a measurement as any: a person was to look at it for what it says.
COUNTED = (HoldReason.RULE, HoldReason.AMBIGUOUS_INTERVAL, HoldReason.MEASURING_RANGE)

_MEASURED = """
    case when v.instrument_at between v.created_at - interval '7 days' and v.created_at + interval '5 minutes'
    then v.instrument_at else v.created_at end"""
_RESULTS = f"""
select v.id, r.analyzer_id, r.test_id, v.module, v.number, v.comparator, v.unit, {_MEASURED} as measured_at,
       coalesce(o.ward, '') as ward, coalesce(o.patient_group, '') as patient_group
  from lab.result_version v
  join lab.result r on r.id = v.result_id
  left join lateral (select ward, patient_group from lab.lab_order where id = r.order_id limit 1) o on true
 where v.id > $1 and v.id < $2
   and v.version = 1 and v.kind = 'numeric' and v.number is not null and v.held <@ $3::text[]
   and r.analyzer_id = any($4::uuid[]) and r.test_id = any($5::uuid[]) and r.origin = 'analyzer'
   and r.specimen_id is not null and r.status not in ('cancelled', 'entered-in-error')
   and not exists (select from lab.result e where e.specimen_id = r.specimen_id and e.test_id = r.test_id
                      and e.origin = 'analyzer' and (e.id < r.id) is true)  -- so that it is found by its specimen
 order by v.id
"""  # noqa: S608 - put together of constants


@dataclass(frozen=True, slots=True)
class Validation:
    """A simulation of exactly a revision, kept."""

    at: datetime
    by: str
    stamp: Stamp
    begin: datetime
    end: datetime
    outcome: Mapping[str, object]
    unmet: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """A stored plan. `mode`: "" when it does not follow; `validation`: the newest."""

    id: UUID
    name: str
    revision: int
    stream: Stream
    analyzer: str  # its name
    test: str  # its code
    test_unit: str  # that it is reported in now
    body: str
    digest: str
    reason: str
    author: str
    created_at: datetime
    use_id: UUID | None = None
    mode: str = ""
    since: datetime | None = None
    by: str = ""
    validation: Validation | None = None

    @property
    def version(self) -> str:
        return f"{self.name}@{self.revision}"


@dataclass(frozen=True, slots=True)
class State:
    """How far a use has got. `restart`: only values after this ordinal are in the window."""

    use_id: UUID
    cursor_id: UUID
    ordinal: int = 0
    restart: int = 0
    statistic: Decimal | None = None
    last_at: datetime | None = None
    alarm_id: UUID | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A result that a plan of its stream may count."""

    version_id: UUID
    analyzer_id: UUID
    test_id: UUID
    module: str
    unit: str
    ward: str
    group: str
    at: datetime
    reading: Reading


@dataclass(frozen=True, slots=True)
class Counted:
    """A value that was counted, to be written."""

    ordinal: int
    version_id: UUID
    at: datetime
    statistic: Decimal | None


@dataclass(frozen=True, slots=True)
class Event:
    """An alarm, and what ended it: `kind` is alarm, back (the statistic did) or closed (a person did).

    `suspect_from`: when the statistic last stood at its centre or beyond it on the other side, or began.
    """

    id: UUID
    stream: Stream
    plan_id: UUID
    use_id: UUID
    kind: str
    mode: Mode
    gates: bool
    side: Side | None
    statistic: Decimal | None
    bound: Decimal | None
    ordinal: int | None
    since: datetime
    reason: str = ""
    alarm_id: UUID | None = None
    by: str = ""
    created_at: datetime | None = None
    suspect_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenAlarm:
    """An alarm that gates and that no person has ended. `since`: what was measured since then is suspect."""

    event_id: UUID
    stream: Stream
    mode: Mode
    since: datetime
    reason: str


# ---- revisions ------------------------------------------------------------------------------------------------------


async def lock(connection: Connection, organization_id: UUID) -> None:
    """Let one transaction at a time change an organization's plans and their uses."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))", f"labora pbrtqc {organization_id}"
    )


async def add_revision(connection: Connection, actor: Actor, name: str, stream: Stream, body: str, reason: str) -> int:
    """The next revision of a name; its number. The caller holds `lock`."""
    number: int = await connection.fetchval(
        """insert into lab.pbrtqc_plan (id, organization_id, name, revision, analyzer_id, module, test_id, body, digest,
                                        reason, actor_kind, actor_id, actor_name)
           select $1, $2, $3, coalesce(max(revision), 0) + 1, $4, $5, $6, $7, $8, $9, $10, $11, $12
             from lab.pbrtqc_plan where name = $3
           returning revision""",
        uuid7(), actor.organization_id, name, stream.analyzer_id, stream.module, stream.test_id, body, digest_of(body),
        reason, actor.kind.value, actor.id, actor.name,
    )  # fmt: skip
    return number


_REVISIONS = """
select p.*, a.name as analyzer, t.code as test, t.unit as test_unit, u.id as use_id, u.mode, u.created_at as since,
       u.actor_name as by, w.created_at as validated_at, w.actor_name as validated_by, w.digest as validated_digest,
       w.engine, w.met, w.unmet, w.begin_at, w.end_at, w.outcome
  from lab.pbrtqc_plan p
  join lab.analyzer a on a.id = p.analyzer_id
  join lab.test t on t.id = p.test_id
  left join lab.pbrtqc_use u on u.plan_id = p.id and u.ended_at is null
  left join lateral (select * from lab.pbrtqc_validation o where o.plan_id = p.id order by o.id desc limit 1) w on true
"""


async def read_revisions(connection: Connection, name: str = "", limit: int = 1000) -> list[Revision]:
    """The newest of each name first."""
    rows = await connection.fetch(
        f"{_REVISIONS} where $1 = '' or p.name = $1 order by p.name, p.revision desc limit $2", name, limit
    )
    return [_revision(row) for row in rows]


async def find_revision(connection: Connection, name: str, revision: int | None = None) -> Revision | None:
    """This revision; without a number the newest."""
    row = await connection.fetchrow(
        f"{_REVISIONS} where p.name = $1 and ($2::int is null or p.revision = $2) order by p.revision desc limit 1",
        name,
        revision,
    )
    return _revision(row) if row else None


async def in_use(connection: Connection) -> list[Revision]:
    """Those that follow their streams, in the order of their names."""
    return [_revision(row) for row in await connection.fetch(f"{_REVISIONS} where u.id is not null order by p.name")]


def _revision(row: Record) -> Revision:
    validation = None
    if row["validated_at"] is not None:
        validation = Validation(
            row["validated_at"], row["validated_by"], Stamp(row["validated_digest"], row["engine"], row["met"]),
            row["begin_at"], row["end_at"], row["outcome"], tuple(row["unmet"]),
        )  # fmt: skip
    return Revision(
        row["id"], row["name"], row["revision"], Stream(row["analyzer_id"], row["test_id"], row["module"]),
        row["analyzer"], row["test"], row["test_unit"], row["body"], row["digest"], row["reason"], row["actor_name"],
        row["created_at"], row["use_id"], row["mode"] or "", row["since"], row["by"] or "", validation,
    )  # fmt: skip


async def find_stream(connection: Connection, analyzer: str, test: str) -> tuple[UUID, UUID, str] | None:
    """Ids of an analyzer of this name and a test of this code, and the test's unit."""
    row = await connection.fetchrow(
        """select a.id as analyzer_id, t.id as test_id, t.unit from lab.analyzer a, lab.test t
            where a.name = $1 and t.code = $2 and t.active""",
        analyzer,
        test,
    )
    return (row["analyzer_id"], row["test_id"], row["unit"]) if row else None


async def add_validation(
    connection: Connection,
    actor: Actor,
    plan: Revision,
    stamp: Stamp,
    period: tuple[datetime, datetime],
    outcome: Mapping[str, object],
    unmet: Sequence[str],
) -> UUID:
    validation_id = uuid7()
    await connection.execute(
        """insert into lab.pbrtqc_validation (id, organization_id, plan_id, digest, engine, begin_at, end_at, outcome,
                                              met, unmet, actor_kind, actor_id, actor_name)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)""",
        validation_id, actor.organization_id, plan.id, stamp.digest, stamp.engine, *period, dict(outcome), stamp.met,
        list(unmet), actor.kind.value, actor.id, actor.name,
    )  # fmt: skip
    return validation_id


# ---- uses -----------------------------------------------------------------------------------------------------------


async def begin_use(
    connection: Connection, actor: Actor, plan: Revision, mode: Mode, reason: str, cursor_id: UUID
) -> UUID:
    """Let a revision follow the versions after `cursor_id`; the caller holds `lock` and has ended what it replaces."""
    use_id = uuid7()
    await connection.execute(
        """insert into lab.pbrtqc_use (id, organization_id, plan_id, name, mode, reason, actor_kind, actor_id,
                                       actor_name)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        use_id, actor.organization_id, plan.id, plan.name, mode.value, reason, actor.kind.value, actor.id, actor.name,
    )  # fmt: skip
    await connection.execute(
        "insert into lab.pbrtqc_state (use_id, organization_id, cursor_id) values ($1, $2, $3)",
        use_id, actor.organization_id, cursor_id,
    )  # fmt: skip
    return use_id


async def end_use(connection: Connection, actor: Actor, use_id: UUID, reason: str) -> None:
    await connection.execute(
        """update lab.pbrtqc_use set ended_at = now(), ended_by = $1, ended_by_name = $2, end_reason = $3
            where id = $4 and ended_at is null""",
        actor.id, actor.name, reason, use_id,
    )  # fmt: skip


async def lock_states(connection: Connection, use_ids: Collection[UUID], *, wait: bool) -> dict[UUID, State]:
    """How far these uses have got, locked. Without `wait` those that another transaction holds are left out."""
    found = await connection.fetch(
        f"""select * from lab.pbrtqc_state where use_id = any($1::uuid[]) order by use_id
               for update {"" if wait else "skip locked"}""",  # noqa: S608 - two words of ours
        list(use_ids),
    )
    return {row["use_id"]: _state(row) for row in found}


async def read_states(connection: Connection, use_ids: Collection[UUID]) -> dict[UUID, State]:
    found = await connection.fetch("select * from lab.pbrtqc_state where use_id = any($1::uuid[])", list(use_ids))
    return {row["use_id"]: _state(row) for row in found}


def _state(row: Record) -> State:
    return State(
        row["use_id"], row["cursor_id"], row["ordinal"], row["restart"], row["statistic"], row["last_at"],
        row["alarm_id"], row["updated_at"],
    )  # fmt: skip


async def write_state(connection: Connection, state: State) -> None:
    await connection.execute(
        """update lab.pbrtqc_state set cursor_id = $2, ordinal = $3, restart = $4, statistic = $5, last_at = $6,
                  alarm_id = $7, version = version + 1, updated_at = now() where use_id = $1""",
        state.use_id, state.cursor_id, state.ordinal, state.restart, state.statistic, state.last_at, state.alarm_id,
    )  # fmt: skip


# ---- results --------------------------------------------------------------------------------------------------------


async def page_end(connection: Connection, after: UUID, before: UUID, most: int) -> UUID | None:
    """The id of the last of the first `most` versions between two ids; None when there are fewer."""
    end: UUID | None = await connection.fetchval(
        "select id from lab.result_version where id > $1 and id < $2 order by id offset $3 limit 1",
        after, before, most - 1,
    )  # fmt: skip
    return end


async def read_results(
    connection: Connection, after: UUID, before: UUID, analyzer_ids: Collection[UUID], test_ids: Collection[UUID]
) -> list[Candidate]:
    """Results between two ids of versions, neither included, in their order."""
    rows = await connection.fetch(_RESULTS, after, before, list(COUNTED), list(analyzer_ids), list(test_ids))
    readings: dict[tuple[Decimal, str], Reading] = {}
    return [_candidate(row, readings) for row in rows]


async def stream_results(
    connection: Connection, begin: datetime, end: datetime, stream: Stream
) -> AsyncIterator[list[Candidate]]:
    """The same of one analyzer and test, decided in [begin, end), however many: by the day."""
    while begin < end:
        until = min(begin + timedelta(days=1), end)
        yield await read_results(
            connection, uuid7_floor(begin), uuid7_floor(until), [stream.analyzer_id], [stream.test_id]
        )
        begin = until


def _candidate(row: Record, readings: dict[tuple[Decimal, str], Reading]) -> Candidate:
    key = row["number"], row["comparator"]
    reading = readings.get(key)
    if reading is None:  # the same few numbers come again and again
        reading = readings[key] = Reading(key[0], Comparator(key[1]) if key[1] else None)
    return Candidate(
        row["id"], row["analyzer_id"], row["test_id"], row["module"], row["unit"], row["ward"], row["patient_group"],
        row["measured_at"], reading,
    )  # fmt: skip


async def known(connection: Connection, use_id: UUID, version_ids: Collection[UUID]) -> set[UUID]:
    """Which of these versions the use has counted already."""
    rows = await connection.fetch(
        "select result_version_id from lab.pbrtqc_value where use_id = $1 and result_version_id = any($2::uuid[])",
        use_id,
        list(version_ids),
    )
    return {row["result_version_id"] for row in rows}


async def window(connection: Connection, use_id: UUID, after: int, most: int) -> list[Reading]:
    """What the last `most` counted values after an ordinal were read from, oldest first."""
    rows = await connection.fetch(
        """select v.number, v.comparator from lab.pbrtqc_value c join lab.result_version v on v.id = c.result_version_id
            where c.use_id = $1 and c.ordinal > $2 order by c.ordinal desc limit $3""",
        use_id, after, most,
    )  # fmt: skip
    return [
        Reading(row["number"], Comparator(row["comparator"]) if row["comparator"] else None) for row in reversed(rows)
    ]


async def alarms_by_mode(connection: Connection) -> dict[str, int]:
    """How many alarms of plans in use are open, by mode."""
    rows = await connection.fetch(
        """select u.mode, count(*) as number from lab.pbrtqc_state s join lab.pbrtqc_use u on u.id = s.use_id
           where s.alarm_id is not null and u.ended_at is null group by u.mode"""
    )
    return {row["mode"]: row["number"] for row in rows}


KEPT = timedelta(days=400)  # a year with the month beside it
_ALWAYS, _AT_ONCE = 10_000, 50_000  # the last values of each use, whatever their age: a window; rows a transaction
# By the order in which they were counted, along the key: of the oldest those that are old, up to the first that is not.
_PRUNE = """
delete from lab.pbrtqc_value where use_id = $1 and ordinal <= (
    select max(ordinal) from (
        select ordinal, bool_and(measured_at < $2) over (order by ordinal) as old from (
            select ordinal, measured_at from lab.pbrtqc_value
            where use_id = $1 and ordinal <= $3 order by ordinal limit $4) first) oldest
    where old)
"""


async def prune(connection: Connection, now: datetime) -> int:
    """Delete values that were counted longer than KEPT ago; how many. What happened (`pbrtqc_event`) stays. The login
    must be the owner's: whoever counts only adds."""
    async with connection.transaction():
        await connection.execute(f"set local role {OWNER_ROLE}")
        organizations = await connection.fetch("select id from lab.organization order by id")
    pruned = 0
    for organization in organizations:
        done = _AT_ONCE
        while done:
            done = 0
            async with connection.transaction():
                # The owner is held to row-level security as well.
                await connection.execute(f"set local role {OWNER_ROLE}")
                await connection.execute("select set_config('labora.org', $1, true)", str(organization["id"]))
                for row in await connection.fetch("select use_id, ordinal from lab.pbrtqc_state"):
                    told = await connection.execute(
                        _PRUNE, row["use_id"], now - KEPT, row["ordinal"] - _ALWAYS, _AT_ONCE
                    )  # fmt: skip
                    done += int(told.split()[-1])
            pruned += done
    return pruned


async def add_values(connection: Connection, organization_id: UUID, use_id: UUID, values: Sequence[Counted]) -> None:
    """One statement for all of them."""
    if not values:
        return
    await connection.execute(
        """insert into lab.pbrtqc_value (use_id, organization_id, ordinal, result_version_id, measured_at, statistic)
           select $1, $2, * from unnest($3::bigint[], $4::uuid[], $5::timestamptz[], $6::numeric[])""",
        use_id, organization_id, [one.ordinal for one in values], [one.version_id for one in values],
        [one.at for one in values], [one.statistic for one in values],
    )  # fmt: skip


async def at_centre(connection: Connection, use_id: UUID, after: int, centre: Decimal, side: Side) -> datetime | None:
    """When, measured, the statistic last stood at its centre or on the other side of it than `side`, of the values
    after an ordinal; else when the first of these was."""
    at: datetime | None = await connection.fetchval(
        f"""select coalesce(
                (select measured_at from lab.pbrtqc_value where use_id = $1 and ordinal > $2
                    and statistic {"<=" if side is Side.HIGH else ">="} $3 order by ordinal desc limit 1),
                (select measured_at from lab.pbrtqc_value where use_id = $1 and ordinal > $2
                  order by ordinal limit 1))""",  # noqa: S608 - a sign of ours
        use_id, after, centre,
    )  # fmt: skip
    return at


async def read_values(
    connection: Connection, plan_id: UUID, begin: datetime, end: datetime, limit: int
) -> list[Counted]:
    """The newest of what the uses of a revision counted that was measured in [begin, end), in the order of counting."""
    rows = await connection.fetch(
        """select c.ordinal, c.result_version_id, c.measured_at, c.statistic
             from lab.pbrtqc_value c join lab.pbrtqc_use u on u.id = c.use_id
            where u.plan_id = $1 and c.measured_at >= $2 and c.measured_at < $3
            order by c.use_id desc, c.ordinal desc limit $4""",
        plan_id, begin, end, limit,
    )  # fmt: skip
    return [Counted(*row) for row in reversed(rows)]


# ---- alarms ---------------------------------------------------------------------------------------------------------


async def add_event(connection: Connection, actor: Actor, event: Event) -> None:
    await connection.execute(
        """insert into lab.pbrtqc_event (id, organization_id, analyzer_id, module, test_id, plan_id, use_id, kind,
                                         alarm_id, mode, gates, side, statistic, bound, ordinal, since, reason,
                                         actor_kind, actor_id, actor_name, suspect_from)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)""",
        event.id, actor.organization_id, event.stream.analyzer_id, event.stream.module, event.stream.test_id,
        event.plan_id, event.use_id, event.kind, event.alarm_id, event.mode.value, event.gates,
        event.side.value if event.side else "", event.statistic, event.bound, event.ordinal, event.since, event.reason,
        actor.kind.value, actor.id, actor.name, event.suspect_from,
    )  # fmt: skip


async def find_event(connection: Connection, event_id: UUID) -> Event | None:
    row = await connection.fetchrow("select * from lab.pbrtqc_event where id = $1", event_id)
    return _event(row) if row else None


async def read_events(connection: Connection, plan_name: str = "", limit: int = 100) -> list[Event]:
    """The newest first, of one plan's revisions or of all."""
    rows = await connection.fetch(
        """select e.* from lab.pbrtqc_event e join lab.pbrtqc_plan p on p.id = e.plan_id
            where $1 = '' or p.name = $1 order by e.id desc limit $2""",
        plan_name,
        limit,
    )
    return [_event(row) for row in rows]


def _event(row: Record) -> Event:
    return Event(
        row["id"], Stream(row["analyzer_id"], row["test_id"], row["module"]), row["plan_id"], row["use_id"],
        row["kind"], Mode(row["mode"]), row["gates"], Side(row["side"]) if row["side"] else None, row["statistic"],
        row["bound"], row["ordinal"], row["since"], row["reason"], row["alarm_id"], row["actor_name"],
        row["created_at"], row["suspect_from"],
    )  # fmt: skip


async def open_alarms(connection: Connection, analyzer_ids: Collection[UUID]) -> list[OpenAlarm]:
    """Alarms of these analyzers that gate, the oldest first. A stream's module "" stands for all of the analyzer's."""
    rows = await connection.fetch(
        """select e.* from lab.pbrtqc_state s join lab.pbrtqc_event e on e.id = s.alarm_id
            where e.gates and e.analyzer_id = any($1::uuid[]) order by e.id""",
        list(analyzer_ids),
    )
    return [
        OpenAlarm(one.id, one.stream, one.mode, one.suspect_from or one.since, one.reason) for one in map(_event, rows)
    ]

"""The tasks to tell somebody of a critical result, each in the caller's transaction. Rows and nothing else.

What follows from what is decided in `domain.critical` and `flow.criticals`. Every change of a task appends an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.critical import Claim, Kind, Means, Obstacle, State
from interface.domain.flags import CRITICAL
from interface.domain.model import RELEASED, Priority, ResultStatus
from interface.domain.runs import GONE
from interface.domain.values import signed
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.versions import versions_of

DEFAULT_MINUTES = (15, 30, 60)  # until somebody must have been told, and each escalation; a laboratory sets its own

_OPENED = sorted(status.value for status in RELEASED | {ResultStatus.PRELIMINARY})
_LIVE = "(t.state in ('open', 'attempted') or (t.state = 'notified' and not t.read_back))"


@dataclass(frozen=True, slots=True)
class Judged:
    """A version that the transaction has written. `critical`: by the laboratory's own limits (LL, HH, AA).

    `fresh`: the first version of its result; `pending`: it waits beside a released version; `settled`: it was released,
    or a person took the result back.
    """

    result_id: UUID
    version_id: UUID
    critical: bool
    fresh: bool = False
    pending: bool = False
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a subject's chain of tasks; its unfinished task is locked. See `domain.critical.plan`."""

    now: Claim
    told: Claim | None
    told_id: UUID | None  # the task in which it was told
    live: Claim | None
    live_id: UUID | None
    live_version_id: UUID | None
    seen: bool
    other: Claim | None = None  # another run that is critical, and that nobody has taken back
    other_version_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What somebody did about a task."""

    what: str
    kind: Kind
    version_id: UUID
    happened_at: datetime | None = None  # None: now
    person: str = ""
    practitioner_id: UUID | None = None
    means: Means | None = None
    outcome: Obstacle | None = None
    read_back: bool | None = None
    comment: str = ""


# ---- opening --------------------------------------------------------------------------------------------------------

_MINUTES = """coalesce(
    (select critical_minutes from lab.review_policy where test_id = r.test_id),
    (select critical_minutes from lab.review_policy where test_id is null), $2::int[])"""
_OPEN = f"""
with i as (
    select t.*, coalesce(t.of_id, r.order_item_id, r.id) as subject_id, (
        select array_agg(now() + make_interval(mins => minutes) order by minutes) from unnest({_MINUTES}) minutes
    ) as escalate_at
    from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::uuid[], $9::uuid[], $14::uuid[])
        as t (id, result_id, version_id, follows_id, kind, event_id, audit_id, of_id)
    join lab.result r on r.id = t.result_id
), n as (
    insert into lab.critical_notification (id, organization_id, result_id, subject_id, result_version_id, kind, state,
        follows_id, escalate_at)
    select id, $1, result_id, subject_id, version_id, kind, 'open', follows_id, escalate_at from i
    returning id
), e as (
    insert into lab.critical_event (id, organization_id, notification_id, what, kind, result_version_id, actor_kind,
        actor_id, actor_name)
    select event_id, $1, id, 'opened', kind, version_id, $10, $11, $12 from i
)
insert into lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
    address, outcome, detail)
select audit_id, $1, $10, $11, $12, 'critical.open', 'critical', id, $13, 'ok',
    jsonb_build_object('result', result_id, 'kind', kind)
from i
"""  # noqa: S608 - put together of constants


async def insert(
    connection: Connection, actor: Actor, opened: Sequence[tuple[Judged, Kind, UUID | None]], of: UUID | None = None
) -> list[UUID]:
    """New tasks, each with its first event and its audit row: (version, kind, the task it follows). One statement.
    `of`: the subject, where it is known; else what the result answers."""
    ids = [uuid7() for _ in opened]
    await connection.execute(
        _OPEN,
        actor.organization_id,
        list(DEFAULT_MINUTES),
        ids,
        [judged.result_id for judged, _, _ in opened],
        [judged.version_id for judged, _, _ in opened],
        [follows for _, _, follows in opened],
        [kind.value for _, kind, _ in opened],
        [uuid7() for _ in opened],
        [uuid7() for _ in opened],
        actor.kind.value,
        actor.id,
        actor.name,
        actor.address,
        [of for _ in opened],
    )
    return ids


# ---- what there is --------------------------------------------------------------------------------------------------

_SUBJECTS = """
select r.id, coalesce(r.order_item_id, r.id) as subject_id,
    exists (select from lab.critical_notification t where t.subject_id = coalesce(r.order_item_id, r.id)) as chained
from lab.result r where r.id = any($1::uuid[])
"""
_TASKS = f"""
select t.id, t.result_version_id, t.kind, exists (
    select from lab.result_version seen join lab.result_version aimed on aimed.id = t.result_version_id
    where seen.result_id = t.result_id and seen.held = '{{}}' and seen.status = any($2::text[])
    and (seen.comparator, seen.value, seen.unit, seen.flags)
        = (aimed.comparator, aimed.value, aimed.unit, aimed.flags)) as seen
from lab.critical_notification t where t.subject_id = $1 and {_LIVE} for update of t
"""  # noqa: S608
_TOLD = """
select t.id, e.result_version_id, e.kind
from lab.critical_event e join lab.critical_notification t on t.id = e.notification_id
where t.subject_id = $1 and e.what = 'notified' order by e.id desc limit 1
"""
OTHER_RUN = """
select r.version_id from lab.result r join lab.result_version v on v.id = r.version_id
where r.order_id = (select i.order_id from lab.order_item i where i.id = $1) and r.order_item_id = $1 and r.id <> $2
  and r.status <> all($3::text[]) and v.flags && $4::text[]
order by r.reportable desc, r.id desc limit 1
"""
_CLAIMS = "select id, result_id, comparator, value, unit, flags from lab.result_version where id = any($1::uuid[])"


# A task names the result that it is about; of a subject the last one says where its chain stands.
_MOVED = """
select distinct on (t.subject_id) t.subject_id, coalesce(r.order_item_id, r.id) as now_id, t.result_id,
    t.result_version_id, t.kind = 'critical' and t.state <> 'withdrawn' as stands, aimed.test_code = v.test_code as same
from lab.result r join lab.result_version v on v.id = r.version_id
join lab.critical_notification t on t.result_id = r.id and t.subject_id <> coalesce(r.order_item_id, r.id)
join lab.result_version aimed on aimed.id = t.result_version_id
where r.id = any($1::uuid[]) order by t.subject_id, t.id desc
"""
_SPARE = f"""
select t.id, t.kind, t.result_version_id from lab.critical_notification t
where t.subject_id = $1 and t.state in ('open', 'attempted')
    and exists (select from lab.critical_notification o where o.subject_id = $2 and {_LIVE.replace("t.", "o.")})
for update of t
"""  # noqa: S608 - put together of constants
_MOVE = f"""
update lab.critical_notification t set subject_id = $2 where subject_id = $1 and not ({_LIVE}
    and exists (select from lab.critical_notification o where o.subject_id = $2 and {_LIVE.replace("t.", "o.")}))
"""  # noqa: S608 - put together of constants


@dataclass(frozen=True, slots=True)
class Moved:
    """A chain of tasks whose result answers another subject now. `same`: as the same test; `stands`: it is critical."""

    subject_id: UUID
    now_id: UUID
    result_id: UUID
    version_id: UUID
    stands: bool
    same: bool


async def moved(connection: Connection, result_ids: Sequence[UUID]) -> list[Moved]:
    """Of these results the chains that are of another subject than the result is now."""
    return [Moved(*row) for row in await connection.fetch(_MOVED, result_ids)]


async def spare(connection: Connection, one: Moved) -> tuple[UUID, Event] | None:
    """The task that nobody was told of where the subject now has an unfinished one already; with what is to be said."""
    row = await connection.fetchrow(_SPARE, one.subject_id, one.now_id)
    if row is None:
        return None
    said = "another task of the order item is to be told"
    return row["id"], Event("withdrawn", Kind(row["kind"]), row["result_version_id"], comment=said)


async def move(connection: Connection, one: Moved) -> None:
    """What was told goes along: who was told hears what becomes of it. Of two tasks that somebody was told of, and of
    which neither was read back, one stays until it is."""
    await connection.execute(_MOVE, one.subject_id, one.now_id)


async def subjects(connection: Connection, result_ids: Sequence[UUID]) -> dict[UUID, tuple[UUID, bool]]:
    """The subject of each result, and whether there is a task about it already."""
    rows = await connection.fetch(_SUBJECTS, result_ids)
    return {row["id"]: (row["subject_id"], row["chained"]) for row in rows}


async def standing(connection: Connection, subject_id: UUID, judged: Judged) -> Standing:
    """Where a subject's chain stands now that this version was written. The caller has locked the result."""
    live = await connection.fetchrow(_TASKS, subject_id, _OPENED)
    told = await connection.fetchrow(_TOLD, subject_id)
    gone, critical = [status.value for status in GONE], sorted(CRITICAL)
    other = None if judged.critical else await connection.fetchval(
        OTHER_RUN, subject_id, judged.result_id, gone, critical
    )  # fmt: skip
    wanted = [row["result_version_id"] for row in (live, told) if row is not None]
    wanted += [other] if other is not None else []
    versions = {row["id"]: row for row in await connection.fetch(_CLAIMS, [*wanted, judged.version_id])}

    def claim(row: Record | None) -> Claim | None:
        return None if row is None else _claim(versions[row["result_version_id"]], row["kind"] == Kind.CRITICAL)

    return Standing(
        now=_claim(versions[judged.version_id], judged.critical),
        told=claim(told),
        told_id=None if told is None else told["id"],
        live=claim(live),
        live_id=None if live is None else live["id"],
        live_version_id=None if live is None else live["result_version_id"],
        # That something is not so any more is always to be told: what it was may have been acted upon.
        seen=live is not None and (live["seen"] or live["kind"] == Kind.NO_LONGER),
        other=None if other is None else _claim(versions[other], True),
        other_version_id=other,
    )


def _claim(row: Record, critical: bool) -> Claim:
    value = f"{signed(row['comparator'], row['value'])} {row['unit']}".strip()
    return Claim(row["result_id"], critical, value, tuple(row["flags"]))


async def was_told_or_released(connection: Connection, task_id: UUID) -> bool:
    """Whether anybody was told anything of the task's subject, or one of its critical versions was ever released."""
    found: bool = await connection.fetchval(
        f"""
        select exists (
            select from lab.critical_event e join lab.critical_notification o on o.id = e.notification_id
            where o.subject_id = t.subject_id and e.what = 'notified')
        or exists (
            select from lab.critical_event e join lab.critical_notification o on o.id = e.notification_id
            join lab.result_version aimed on aimed.id = e.result_version_id
            cross join lateral {versions_of("= aimed.result_id")} v
            where o.subject_id = t.subject_id and e.kind = 'critical' and v.status = any($2::text[])
            and (v.comparator, v.value, v.unit, v.flags) = (aimed.comparator, aimed.value, aimed.unit, aimed.flags))
        from lab.critical_notification t where t.id = $1
        """,  # noqa: S608 - names of ours
        task_id,
        sorted(RELEASED),
    )
    return found


# ---- changes --------------------------------------------------------------------------------------------------------


async def aim(connection: Connection, task_id: UUID, result_id: UUID, version_id: UUID, kind: Kind) -> None:
    """The unfinished task is about this version now: whoever was told of another must be told again."""
    await connection.execute(
        """
        update lab.critical_notification
        set result_id = $2, result_version_id = $3, kind = $4, state = 'open', notified = '', notified_at = null,
            practitioner_id = null, means = '', aimed_at = now(), updated_at = now(), version = version + 1
        where id = $1
        """,
        task_id,
        result_id,
        version_id,
        kind.value,
    )


async def set_state(connection: Connection, task_id: UUID, state: State, event: Event) -> None:
    """The task's new state, and of a notification who was told, when, how and whether it was read back."""
    told = event.what == "notified"
    await connection.execute(
        """
        update lab.critical_notification
        set state = $2, version = version + 1, updated_at = now(),
            notified = case when $3 then $4 else notified end,
            practitioner_id = case when $3 then $5 else practitioner_id end,
            notified_at = case when $3 then $6 else notified_at end,
            means = case when $3 then $7 else means end,
            read_back = case when $3 then $8 else read_back end,
            closed_at = case when $2 in ('closed', 'withdrawn') then now() end
        where id = $1
        """,
        task_id,
        state.value,
        told,
        event.person,
        event.practitioner_id,
        event.happened_at,
        event.means.value if event.means else "",
        bool(event.read_back),
    )


async def append(connection: Connection, actor: Actor, task_id: UUID, event: Event) -> None:
    """Who did what about the task."""
    await connection.execute(
        """
        insert into lab.critical_event (id, organization_id, notification_id, what, kind, result_version_id,
            happened_at, person, practitioner_id, means, outcome, read_back, comment, actor_kind, actor_id, actor_name)
        values ($1, $2, $3, $4, $5, $6, coalesce($7, now()), $8, $9, $10, $11, $12, $13, $14, $15, $16)
        """,
        uuid7(),
        actor.organization_id,
        task_id,
        event.what,
        event.kind.value,
        event.version_id,
        event.happened_at,
        event.person,
        event.practitioner_id,
        event.means.value if event.means else "",
        event.outcome.value if event.outcome else "",
        event.read_back,
        event.comment,
        actor.kind.value,
        actor.id,
        actor.name,
    )


# ---- reads ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CriticalView:
    """One task with the result it is about, as that stands in the version the task names. `level`: see `domain`."""

    id: UUID
    version: int
    kind: Kind
    state: State
    opened_at: datetime
    aimed_at: datetime
    escalate_at: tuple[datetime, ...]
    level: int
    follows_id: UUID | None
    result_id: UUID
    result_version: int
    result_version_id: UUID
    status: ResultStatus
    test_code: str
    test_name: str
    comparator: str
    value: str
    unit: str
    flags: tuple[str, ...]
    barcode: str
    patient_id: UUID | None
    patient: str  # family and given name, for whoever makes the call
    ward: str
    priority: Priority
    attempts: int
    notified: str
    practitioner_id: UUID | None
    notified_at: datetime | None
    means: str
    read_back: bool
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventView:
    what: str
    kind: Kind
    result_version_id: UUID
    happened_at: datetime
    recorded_at: datetime
    person: str
    practitioner_id: UUID | None
    means: str
    outcome: str
    read_back: bool | None
    comment: str
    actor: str


# How many of its times for escalation have passed. What was opened by a clock that has been put back since waits nobody
# knows how long: all of them.
_LEVEL = """(select count(*) from unnest(t.escalate_at) at
    where at <= now() or t.created_at > now() + interval '1 minute')::int"""
_VIEW = f"""
select t.id, t.version, t.kind, t.state, t.created_at as opened_at, t.aimed_at, t.escalate_at,
    case when t.state in ('open', 'attempted') or (t.state = 'notified' and not t.read_back)
        then {_LEVEL} else 0 end as level,
    t.follows_id, t.result_id, v.version as result_version, t.result_version_id, v.status, v.test_code, v.test_name,
    v.comparator, v.value, v.unit, v.flags, coalesce(nullif(v.specimen_as_sent, ''), s.barcode, '') as barcode,
    r.patient_id,
    concat_ws(', ', nullif(p.family, ''), nullif(p.given, '')) as patient, coalesce(o.ward, '') as ward,
    coalesce(o.priority, 'routine') as priority,
    (select count(*) from lab.critical_event e where e.notification_id = t.id and e.what = 'attempted')::int
        as attempts,
    t.notified, t.practitioner_id, t.notified_at, t.means, t.read_back, t.closed_at
from lab.critical_notification t
join lab.result r on r.id = t.result_id
join lab.result_version v on v.id = t.result_version_id
left join lab.specimen s on s.id = r.specimen_id
left join lab.patient q on q.id = r.patient_id
left join lab.patient p on p.id = coalesce(q.merged_into_id, q.id)  -- the ward knows a merged patient as the survivor
left join lab.lab_order o on o.id = r.order_id
"""  # noqa: S608 - put together of constants


async def find(
    connection: Connection,
    *,
    ids: Iterable[UUID] = (),
    result_ids: Iterable[UUID] = (),
    states: Iterable[State] = (),
    overdue: bool = False,
    limit: int = 500,
) -> list[CriticalView]:
    """Tasks, what is to be told before what is only to be closed, of each the longest waiting first. Empty lists ask
    nothing; `overdue`: past their first time for escalation."""
    rows = await connection.fetch(
        _VIEW
        + """
        where (cardinality($1::uuid[]) = 0 or t.id = any($1)) and (cardinality($2::uuid[]) = 0 or t.result_id = any($2))
        and (cardinality($3::text[]) = 0 or t.state = any($3))
        and (not $4 or ((t.escalate_at[1] <= now() or t.created_at > now() + interval '1 minute')
                        and (t.state in ('open', 'attempted') or (t.state = 'notified' and not t.read_back))))
        order by t.state = 'notified' and t.read_back, t.created_at, t.id limit $5
        """,
        list(ids),
        list(result_ids),
        [state.value for state in states],
        overdue,
        limit,
    )
    return [_view(row) for row in rows]


def _view(row: Record) -> CriticalView:
    fields = dict(row.items())
    fields |= {
        "kind": Kind(row["kind"]),
        "state": State(row["state"]),
        "status": ResultStatus(row["status"]),
        "priority": Priority(row["priority"]),
        "escalate_at": tuple(row["escalate_at"]),
        "flags": tuple(row["flags"]),
    }
    return CriticalView(**fields)


async def history(connection: Connection, task_id: UUID) -> list[EventView]:
    """Everything that was done about a task, oldest first."""
    rows = await connection.fetch(
        """
        select what, kind, result_version_id, happened_at, created_at as recorded_at, person, practitioner_id, means,
            outcome, read_back, comment, concat_ws(' ', actor_kind, nullif(actor_name, '')) as actor
        from lab.critical_event where notification_id = $1 order by id
        """,
        task_id,
    )
    return [EventView(**{**dict(row.items()), "kind": Kind(row["kind"])}) for row in rows]


async def levels(connection: Connection) -> dict[int, int]:
    """How many tasks nobody has confirmed yet, by how many of their times for escalation have passed."""
    rows = await connection.fetch(
        f"""
        select {_LEVEL} as level, count(*) as tasks
        from lab.critical_notification t where {_LIVE} group by 1
        """  # noqa: S608
    )
    return {row["level"]: row["tasks"] for row in rows}


async def practitioner_name(connection: Connection, practitioner_id: UUID) -> str | None:
    """A practitioner's name; None when there is none of this id."""
    name: str | None = await connection.fetchval(
        "select concat_ws(' ', nullif(given, ''), nullif(family, '')) from lab.practitioner where id = $1",
        practitioner_id,
    )
    return name


async def result_of(connection: Connection, task_id: UUID) -> UUID | None:
    """The result a task is about; its specimen and the result are locked before the task is."""
    found: UUID | None = await connection.fetchval(
        "select result_id from lab.critical_notification where id = $1", task_id
    )
    return found


async def lock(connection: Connection, task_id: UUID) -> CriticalView | None:
    """The task, locked; its result must be."""
    await connection.execute("select from lab.critical_notification where id = $1 for update", task_id)
    found = await find(connection, ids=(task_id,))
    return found[0] if found else None

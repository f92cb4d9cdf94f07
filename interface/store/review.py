"""What waits for a person and how it is reviewed: queues, counts, policies, runs. Rows; see `flow.review`.

A queue shows what a decision would be about: of a released result with a change, the change; and not the runs that are
kept beside the one that is reported. It is for staff.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from interface.domain.model import RELEASED, HoldReason, Priority, Step
from interface.domain.values import signed
from interface.domain.views import Audience, ResultView
from interface.store.changes import TELL_RUNS
from interface.store.db import Connection
from interface.store.explanations import comments_of, read_steps
from interface.store.ids import uuid7
from interface.store.lab import VERSION_COLUMNS, read_result

# STAT first; a result that is asked for on the phone goes before the morning's round.
_RANK = "array_position(array['stat', 'asap', 'callback', 'preop', 'routine'], coalesce(o.priority, 'routine'))"
# Steps of `flow.review`, but that a change was accepted: what is said of one change is not of the next.
_RELEASED = ("verified by ", "released by ")


class Queue(StrEnum):
    ALL = "all"
    HELD = "held"  # for a reason; of a change too
    PRELIMINARY = "preliminary"  # nothing holds it: it waits to be released
    VERIFIED = "verified"  # by the first of two people
    CHANGED = "changed"  # a change to a released result


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """What waits. Empty asks nothing; different fields must all hold, values of one field any."""

    queue: Queue = Queue.ALL
    reasons: tuple[HoldReason, ...] = ()
    test_codes: tuple[str, ...] = ()
    analyzers: tuple[str, ...] = ()  # their names
    wards: tuple[str, ...] = ()
    priorities: tuple[Priority, ...] = ()
    patient_ids: tuple[UUID, ...] = ()
    order_ids: tuple[UUID, ...] = ()
    barcodes: tuple[str, ...] = ()
    older_than_min: int = 0  # minutes that it has waited
    after: UUID | None = None  # the last result of the page before
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Waiting:
    """A result that waits, in the version that a person would decide about."""

    result: ResultView
    priority: Priority
    ward: str
    patient: str  # family and given name
    waiting_since: datetime
    verified: bool
    reported: str  # of a change: what is released now, with its unit


_FROM = """
from lab.result r
join lab.result_version v on v.id = coalesce(r.pending_version_id, r.version_id)
join lab.result_version c on c.id = r.version_id
left join lab.analyzer a on a.id = r.analyzer_id
left join lab.specimen s on s.id = r.specimen_id
left join lab.lab_order o on o.id = r.order_id
left join lab.patient q on q.id = r.patient_id
left join lab.patient p on p.id = coalesce(q.merged_into_id, q.id)  -- whose records were merged, as the survivor says
where (r.status in ('registered', 'preliminary') or r.pending_version_id is not null)
and (r.reportable or 'already_reported' = any(v.held))
and case $1 when 'held' then v.held <> '{}'
            when 'preliminary' then r.status = 'preliminary' and r.held = '{}' and c.verified_by is null
            when 'verified' then r.status = 'preliminary' and r.held = '{}' and c.verified_by is not null
            when 'changed' then r.pending_version_id is not null else true end
and (cardinality($2::text[]) = 0 or v.held && $2)
and (cardinality($3::text[]) = 0 or v.test_code = any($3))
and (cardinality($4::text[]) = 0 or a.name = any($4))
and (cardinality($5::text[]) = 0 or o.ward = any($5))
and (cardinality($6::text[]) = 0 or coalesce(o.priority, 'routine') = any($6))
and (cardinality($7::uuid[]) = 0 or r.patient_id = any($7) or p.id = any($7))
and (cardinality($8::uuid[]) = 0 or r.order_id = any($8))
and (cardinality($9::text[]) = 0 or v.specimen_as_sent = any($9) or s.barcode = any($9))
and r.created_at <= now() - make_interval(mins => $10)
"""
_PAGE = f"""
and ($11::uuid is null or ({_RANK}, r.created_at, r.id) > (
    select {_RANK}, r.created_at, r.id from lab.result r left join lab.lab_order o on o.id = r.order_id
    where r.id = $11))
order by {_RANK}, r.created_at, r.id limit $12
"""  # noqa: S608 - put together of constants
_QUEUE = f"""
select {VERSION_COLUMNS}, r.updated_at, coalesce(o.priority, 'routine') as priority, coalesce(o.ward, '') as ward,
    concat_ws(', ', nullif(p.family, ''), nullif(p.given, '')) as patient_name,
    case when r.pending_version_id is null then r.created_at else v.created_at end as waiting_since,
    r.held = '{{}}' and c.verified_by is not null as verified,
    r.pending_version_id is not null as changed, c.comparator as sign, c.value as released, c.unit as released_unit
{_FROM} {_PAGE}"""
_COUNTS = f"""
select reason, count(*) as results {_FROM.replace("where", "cross join lateral unnest(case when v.held = '{}' then array[''] else v.held end) as reason where", 1)}
group by reason order by results desc, reason
"""  # noqa: E501


def _values(filter: QueueFilter) -> list[object]:
    return [
        filter.queue.value, list(filter.reasons), list(filter.test_codes), list(filter.analyzers), list(filter.wards),
        [priority.value for priority in filter.priorities], list(filter.patient_ids), list(filter.order_ids),
        list(filter.barcodes), filter.older_than_min,
    ]  # fmt: skip


async def waiting(connection: Connection, filter: QueueFilter) -> list[Waiting]:
    """A page of what waits: STAT first, then the longest waiting."""
    rows = await connection.fetch(_QUEUE, *_values(filter), filter.after, filter.limit)
    return [
        Waiting(
            read_result(row, Audience.STAFF), Priority(row["priority"]), row["ward"], row["patient_name"],
            row["waiting_since"], row["verified"],
            f"{signed(row['sign'], row['released'])} {row['released_unit']}".strip() if row["changed"] else "",
        )
        for row in rows
    ]  # fmt: skip


async def counts(connection: Connection, filter: QueueFilter) -> dict[str, int]:
    """How many results wait for each reason, most first; "" for none. A result with two reasons counts for both."""
    rows = await connection.fetch(_COUNTS, *_values(filter))
    return {row["reason"]: row["results"] for row in rows}


# ---- policies -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """How results are reviewed. `test` "": the organization's. None: as the organization, or the default, says."""

    test: str
    two_steps: bool | None  # two people verify
    critical_minutes: tuple[int, ...] | None  # until somebody must have been told, and each escalation


async def with_comments(
    connection: Connection, version_id: UUID, change_id: UUID, comment: str
) -> tuple[str, tuple[Step, ...]]:
    """What is added to the note of a change that takes a version's place: what staff said of that one, also with its
    release, and the change does not say, and the comment; with the lines of who said it."""
    steps = await connection.fetchval(
        "select lab.explained(steps) from lab.decision where result_version_id = $1", version_id
    )
    note = await connection.fetchval("select note from lab.result_version where id = $1", change_id)
    there = (
        replace(one, step="comment", verdict="none") if one.text.startswith(_RELEASED) else one
        for one in read_steps(steps or "[]")
    )
    said = {step.inputs["comment"]: step for step in comments_of(there)}
    kept = {words: step for words, step in said.items() if f"\n{words}\n" not in f"\n{note}\n"}
    return "\n".join((*kept, *filter(None, (comment,)))), tuple(kept.values())


async def two_steps(connection: Connection, test_id: UUID | None) -> bool:
    """Whether two people must verify the test's results."""
    asked: bool = await connection.fetchval(
        """select coalesce((select two_steps from lab.review_policy where test_id = $1),
                           (select two_steps from lab.review_policy where test_id is null), false)""",
        test_id,
    )
    return asked


async def of_two_steps(connection: Connection, test_ids: Iterable[str]) -> frozenset[str]:
    """Of these tests those whose results two people must verify."""
    rows = await connection.fetch(
        """select t.id::text as id from unnest($1::uuid[]) t (id)
            where coalesce((select p.two_steps from lab.review_policy p where p.test_id = t.id),
                           (select p.two_steps from lab.review_policy p where p.test_id is null), false)""",
        list(dict.fromkeys(test_ids)),
    )
    return frozenset(row["id"] for row in rows)


async def policies(connection: Connection) -> list[Policy]:
    """What was set, the organization's first."""
    rows = await connection.fetch(
        """select coalesce(t.code, '') as test, p.two_steps, p.critical_minutes from lab.review_policy p
           left join lab.test t on t.id = p.test_id order by t.code nulls first"""
    )
    return [
        Policy(row["test"], row["two_steps"], tuple(row["critical_minutes"]) if row["critical_minutes"] else None)
        for row in rows
    ]


async def lock_policy(connection: Connection, test: str) -> Policy:
    """What was set for a test, "" the organization, locked; nothing where there is none."""
    row = await connection.fetchrow(
        """select two_steps, critical_minutes from lab.review_policy
           where test_id is not distinct from (select id from lab.test where code = $1) for update""",
        test,
    )
    minutes = row["critical_minutes"] if row else None
    return Policy(test, row["two_steps"] if row else None, tuple(minutes) if minutes else None)


async def set_policy(connection: Connection, organization_id: UUID, policy: Policy) -> bool:
    """Set a policy, whole. False when there is no such test."""
    test_id = await connection.fetchval("select id from lab.test where code = $1", policy.test)
    if policy.test and test_id is None:
        return False
    values = (
        organization_id, test_id, policy.two_steps, list(policy.critical_minutes) if policy.critical_minutes else None
    )  # fmt: skip
    done = await connection.execute(
        """update lab.review_policy set two_steps = $3, critical_minutes = $4, updated_at = now()
           where organization_id = $1 and test_id is not distinct from $2""",
        *values,
    )
    if done.endswith(" 0"):
        await connection.execute(
            """insert into lab.review_policy (id, organization_id, test_id, two_steps, critical_minutes)
               values ($5, $1, $2, $3, $4)""",
            *values,
            uuid7(),
        )
    return True


# ---- the runs of an order item --------------------------------------------------------------------------------------


# By the index of their order: an item's results are not looked for among all there are.
_OF_ITEM = "(order_id = (select i.order_id from lab.order_item i where i.id = $1) and order_item_id = $1)"


async def released_runs(connection: Connection, order_item_id: UUID | None, result_id: UUID) -> list[UUID]:
    """The item's other results that are released, oldest first."""
    rows = await connection.fetch(
        f"select id from lab.result where {_OF_ITEM} and id <> $2 and status = any($3::text[]) order by id",  # noqa: S608
        order_item_id,
        result_id,
        sorted(RELEASED),
    )
    return [row["id"] for row in rows]


async def report_run(connection: Connection, order_item_id: UUID | None, result_id: UUID) -> int:
    """Of the item's runs this one is reported from now on. How many runs that changed."""
    found: int = await connection.fetchval(
        f"""with changed as (
               update lab.result set reportable = (id = $2), updated_at = now()
               where (id = $2 or {_OF_ITEM}) and reportable <> (id = $2) returning *
           ), told as ({TELL_RUNS}) select count(*) from changed""",  # noqa: S608
        order_item_id,
        result_id,
    )
    return found


def flat(waiting: Waiting) -> Mapping[str, object]:
    """One row of a queue as one object: the result's fields, and those of its waiting beside them."""
    shown = {field.name: getattr(waiting.result, field.name) for field in fields(waiting.result)}
    return shown | {name.name: getattr(waiting, name.name) for name in fields(waiting) if name.name != "result"}

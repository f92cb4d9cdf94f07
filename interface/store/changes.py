"""The feed of changes: what was committed, in one order, to which nothing is ever added but at its end.

Who changes a record says so in `outbox`, in the same transaction. A row has no position until it is sealed, which
happens after its commit, in passes of which there is one at a time: the pass holds the organization's counter, and
reads after it has it. So of two positions in different passes the smaller was committed first, and who has read up to a
position has missed nothing, however long a transaction took. Within a pass rows stand as they were written (`place`):
of two changes of one record, the second is written when the first is committed.

A row is about one record; which resources it means (`resources`) is made of it when it is read. What they hold, and
who may see them, is read when it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from interface.domain.times import earlier
from interface.store.db import Connection

LONGEST: Final = timedelta(minutes=10)  # that a transaction takes: an idle one is ended after five
BATCH: Final = 1000  # rows of a pass
COUNTER: Final = "changes"  # the name of the counter that positions are of

# Of each type: the resources that the rows after $1 and up to $2 of the kinds $3 mean, as (seq, id), in the order they
# are told in.
_ROWS: Final = "o.seq > $1 and o.seq <= $2 and o.kind = any($3::text[])"
_RESULTS = f"""
    select o.seq, v.result_id as id, u.place from lab.outbox o
    cross join lateral unnest(o.versions) with ordinality as u (version_id, place)
    join lab.result_version v on v.id = u.version_id
    where {_ROWS} and o.kind in ('order', 'preliminary')
    union all
    select o.seq, o.entity_id, 0 from lab.outbox o where {_ROWS} and o.kind = 'result'
"""  # noqa: S608 - names of ours
_REPORTS = f"""
    select o.seq, o.entity_id as id, 0 as place from lab.outbox o where {_ROWS} and o.kind = 'order'
    union all
    select o.seq, r.order_id, 0 from lab.outbox o join lab.result r on r.id = o.entity_id
    where {_ROWS} and o.kind = 'result' and r.order_id is not null
    union all
    select o.seq, o.entity_id, 0 from lab.outbox o join lab.lab_order l on l.id = o.entity_id
    where {_ROWS} and o.kind = 'preliminary'
"""  # noqa: S608 - names of ours
_REQUESTS = f"""
    select o.seq, i.id, row_number() over (partition by o.seq order by i.id) as place
    from lab.outbox o join lab.order_item i on i.order_id = o.entity_id
    where {_ROWS} and o.kind = 'order'
"""  # noqa: S608 - names of ours
# A specimen that no order knows is seen once a result of it is: the result's row means it too.
_SPECIMENS = f"""
    select o.seq, o.entity_id as id, 0 as place from lab.outbox o where {_ROWS} and o.kind = 'specimen'
    union all
    select o.seq, r.specimen_id, 0 from lab.outbox o join lab.result r on r.id = o.entity_id
    where {_ROWS} and o.kind = 'result' and r.order_id is null and r.specimen_id is not null
"""  # noqa: S608 - names of ours
_PATIENTS = f"""
    select o.seq, o.entity_id as id, 0 as place from lab.outbox o where {_ROWS} and o.kind = 'patient'
"""  # noqa: S608 - names of ours
_MEANT: Final = {
    "Patient": _PATIENTS,
    "ServiceRequest": _REQUESTS,
    "Specimen": _SPECIMENS,
    "Observation": _RESULTS,
    "DiagnosticReport": _REPORTS,
}
FOLLOWED: Final = tuple(_MEANT)  # the types whose changes are in the feed, in the order in which a row tells them
RELEASED: Final = ("order", "result", "patient", "specimen")  # kinds of rows that tell what an EMR may see
PRELIMINARY: Final = (*RELEASED, "preliminary")  # and what it may see where `[api] preliminary` shows it
ALERT: Final = "alert"  # entered, or recovered: `store.alerts`
ALERTS: Final = ("critical", "qc_problem", ALERT)  # kinds of rows for the laboratory's own people


# Of the results in `changed`, each of which is the run of its item to report now or no more, the preliminary ones.
TELL_RUNS: Final = """
insert into lab.outbox (id, organization_id, kind, entity_id, versions)
select lab.new_id(), organization_id, 'preliminary', coalesce(order_id, id), array[version_id] from changed
where status = 'preliminary' and held = '{}'
"""
# Locks the counter, and is a statement of its own: the next one sees what was committed until this one had the lock,
# the last pass among it.
_LAST = "select value from lab.counter where name = $1 for update"
_SEAL = """
with due as (
    select d.id, row_number() over (order by d.place) as number
    from (select id, place from lab.outbox where seq is null order by place limit $2) d
), sealed as (
    update lab.outbox o set seq = $1 + due.number, sealed_at = clock_timestamp() from due where o.id = due.id
    returning o.seq
)
update lab.counter set value = (select max(seq) from sealed) where name = $3 and exists (select from sealed)
returning value
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the feed. `at`: when its transaction began, which is also the records' own time of change."""

    position: int
    kind: str
    entity_id: UUID
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that a row of the feed means."""

    position: int
    type: str
    id: UUID


async def unsealed(connection: Connection) -> bool:
    """Whether there are rows without a position."""
    return bool(await connection.fetchval("select exists (select from lab.outbox where seq is null)"))


async def seal(connection: Connection, organization_id: UUID, limit: int = BATCH) -> int:
    """Give positions to rows that have none, `limit` at most; returns to how many. In a transaction of its own, which
    waits for one that does so too."""
    last: int | None = await connection.fetchval(_LAST, COUNTER)
    if last is None:  # of this organization nothing was ever sealed
        await connection.execute(
            "insert into lab.counter (organization_id, name) values ($1, $2) on conflict do nothing",
            organization_id,
            COUNTER,
        )
        last = await connection.fetchval(_LAST, COUNTER)
    end: int | None = await connection.fetchval(_SEAL, last, limit, COUNTER)
    return 0 if end is None or last is None else end - last


async def last_position(connection: Connection, kinds: Sequence[str] = ()) -> int:
    """The last row's position, of these kinds (none: of all): 0 where nothing has changed yet."""
    if not kinds:  # where the counter stands: one row, of however many
        return int(await connection.fetchval("select value from lab.counter where name = $1", COUNTER) or 0)
    found = await connection.fetchval(
        "select seq from lab.outbox where seq is not null and kind = any($1::text[]) order by seq desc limit 1",
        list(kinds),
    )
    return int(found or 0)


async def has(connection: Connection, position: int) -> bool:
    """Whether the feed has a row of this position, which whoever read up to it was given. It has not when the database
    was restored from a moment before, and when rows that old are no longer kept: something may have been missed."""
    return bool(await connection.fetchval("select exists (select from lab.outbox where seq = $1)", position))


async def after(connection: Connection, position: int, limit: int, kinds: Sequence[str]) -> list[Change]:
    """The rows of these kinds after a position, the first `limit` of them."""
    rows = await connection.fetch(
        """select seq, kind, entity_id, note, created_at from lab.outbox
            where seq > $1 and kind = any($3::text[]) order by seq limit $2""",
        position, limit, list(kinds),
    )  # fmt: skip
    return [Change(row["seq"], row["kind"], row["entity_id"], row["note"], row["created_at"]) for row in rows]


async def resources(
    connection: Connection, type: str, after: int, until: int, kinds: Sequence[str] = PRELIMINARY
) -> list[Resource]:
    """What the rows of (after, until] of these kinds mean of one type, in order. A resource that changed twice is there
    twice."""
    text = " ".join(("select seq, id from (", _MEANT[type], ") meant order by seq, place, id"))
    return [Resource(row["seq"], type, row["id"]) for row in await connection.fetch(text, after, until, list(kinds))]


async def all_resources(
    connection: Connection, types: Sequence[str], after: int, until: int, kinds: Sequence[str] = PRELIMINARY
) -> list[Resource]:
    """The same of several types: row by row, and of a row type by type as FOLLOWED has them."""
    asked = [type for type in FOLLOWED if type in types]
    found = [one for type in asked for one in await resources(connection, type, after, until, kinds)]
    return sorted(found, key=lambda one: one.position)  # stable: what a row means stays as it was found


async def changed_since(connection: Connection, since: datetime, position: int | None = None) -> datetime:
    """From which time of change on everything is found that was not there to be read before `since`. `position`: where
    the feed stood then, if that is known: what came after a clock was put back is of an earlier time.

    A record's time of change is when its transaction began: one that was under way at `since` wrote an earlier time.
    It got its position after `since`, as all that was committed later; the earliest of these began the search.
    """
    earliest = await connection.fetchval(
        "select min(created_at) from lab.outbox where sealed_at >= $1 or sealed_at is null", since
    )
    first: int | None = await connection.fetchval("select min(seq) from lab.outbox where seq is not null")
    if first is not None and first > 1 and not await _told_before(connection, since):
        # Rows that old are no longer kept (`store.retention`): nothing says what was under way then.
        since = earlier(since, LONGEST)
    found: list[datetime | None] = [since, earliest]
    if position is not None:
        found.append(await connection.fetchval("select min(created_at) from lab.outbox where seq > $1", position))
    return min(one for one in found if one is not None)


async def _told_before(connection: Connection, since: datetime) -> bool:
    return bool(await connection.fetchval("select exists (select from lab.outbox where sealed_at < $1)", since))


async def note_preliminary(connection: Connection, organization_id: UUID, entity_id: UUID, version_id: UUID) -> None:
    """A version that nobody has released and nothing holds, or that takes such a one back, in the transaction in which
    it becomes the current one. `entity_id`: of the order, else of the result."""
    await connection.execute(
        """insert into lab.outbox (id, organization_id, kind, entity_id, versions)
           values (lab.new_id(), $1, 'preliminary', $2, array[$3::uuid])""",
        organization_id, entity_id, version_id,
    )  # fmt: skip


async def note_alert(connection: Connection, organization_id: UUID, kind: str, entity_id: UUID, note: str) -> None:
    """Something for the laboratory's own people, in the transaction in which it happens, of one of the kinds ALERTS.
    No patient data in `note`."""
    await connection.execute(
        "insert into lab.outbox (id, organization_id, kind, entity_id, note) values (lab.new_id(), $1, $2, $3, $4)",
        organization_id, kind, entity_id, note,
    )  # fmt: skip

"""Deleting what was kept long enough, class by class, as the schema's owner; the application role may delete nothing.

Raw frames and audit rows go a month at a time, by dropping the month's partition: detached, what must stay put back
(it goes to the DEFAULT partition), dropped, and told in each organization's audit trail, in one transaction. Of a month
of which much must stay, frames are deleted where they are. Everything else goes row by row, so many in a transaction.
Killed in the middle, a month is there or gone.

Never deleted: a message that is not settled or was parked, one with a result that waits, is held or belongs to an order
that is still worked on, what stands under a legal hold, a row of the feed that a subscription has not been told of, an
audit row that is not sealed, an alert that stands. Results, quality control and reports are not deleted at all
(docs/retention.md says why).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from interface.domain.views import Actor, ActorKind
from interface.store import audit
from interface.store.db import Connection
from interface.store.ids import instant_of, uuid7_floor
from interface.store.partitions import MOST_MOVED
from interface.store.schema import OWNER_ROLE, SCHEMA

BATCH: Final = 5000
DAY: Final = timedelta(days=1)
ALL_STAYS: Final = "all of it must stay"
LOCK_WAIT: Final = "2s"  # longer, those who wait behind us would notice
_MONTH: Final = re.compile(r"_(\d{4})_(\d{2})$")

_PARTITIONS: Final = """select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = $1::regclass order by c.relname"""
# Messages of a range that must keep their frames.
_KEPT: Final = """
with hold as (select kind, subject_id from lab.legal_hold where organization_id = $1 and ended_at is null),
    held_patient as (
        select p.id from lab.patient p
        where p.organization_id = $1 and coalesce(p.merged_into_id, p.id) in (
            select coalesce(h.merged_into_id, h.id) from lab.patient h
            where h.organization_id = $1 and h.id in (select subject_id from hold where kind = 'patient'))),
    open_order as (
        select order_id from lab.order_item
        where organization_id = $1 and status not in ('completed', 'verified', 'cancelled', 'rejected')),
    waits as (
        select r.id from lab.result r where r.organization_id = $1 and (
            r.held <> '{}' or r.status in ('registered', 'preliminary') or r.pending_version_id is not null
            or r.order_id in (select order_id from open_order)
            or r.order_id in (select subject_id from hold where kind = 'order')
            or r.patient_id in (select id from held_patient)))
select m.id from lab.message m join lab.link l on l.id = m.link_id and l.organization_id = m.organization_id
where m.organization_id = $1 and m.id >= $2 and m.id < $3 and ($4::uuid[] is null or m.id = any($4)) and (
    m.settled is null or m.settled = 'parked'
    or exists (select from lab.queue q where q.message_id = m.id)
    or exists (select from hold where kind = 'organization')
    or l.role = 'hospital' and exists (select from hold)  -- which of its messages speak of whom is not in a table
    or exists (select from lab.qc_result c join lab.qc_problem b on b.qc_result_id = c.id
        where c.message_id = m.id and c.organization_id = $1 and b.ended_at is null)
    or m.settled = 'held' and not exists (
        select from lab.result_version v where v.message_id = m.id and v.organization_id = $1)
    or exists (select from lab.result_version v join waits w on w.id = v.result_id
        where v.message_id = m.id and v.organization_id = $1))
"""
# The last segment whose rows all belong to what is dropped; one later one stays, so that sealing goes on from it. What
# was sealed after a young one is young, whatever the clock said: it is behind after a start without a battery. A time
# that is still to come is no time: it was ahead.
_CUT: Final = """select number, digest, ended_position, ended_id, sealed_at from lab.audit_segment
    where organization_id = $1 and sealed_at < $2 and number < (
        select min(number) from lab.audit_segment where organization_id = $1 and (sealed_at between $2 and now()
            or number = (select max(number) from lab.audit_segment where organization_id = $1)))
    order by number desc limit 1"""


# Of days, those on which something was stored. Messages are never deleted; what is rests on its own rows.
_LIVED: Final = """select d.at from unnest($2::timestamptz[], $3::uuid[], $4::uuid[]) as d (at, low, high)
    where exists (select from lab.message m where m.organization_id = $1 and m.id >= d.low and m.id < d.high)
        or exists (select from lab.audit_event a where a.organization_id = $1 and a.id >= d.low and a.id < d.high)
        or exists (select from lab.outbox o where o.organization_id = $1 and o.id >= d.low and o.id < d.high)"""
_LAST_BEFORE: Final = """select id from (
    (select id from lab.message where organization_id = $1 and id < $2 order by id desc limit 1)
    union all (select id from lab.audit_event where organization_id = $1 and id < $2 order by id desc limit 1)
    union all (select id from lab.outbox where organization_id = $1 and id < $2 order by id desc limit 1)) as of_each
    order by id desc limit 1"""
_DAYS_AT_ONCE: Final = 400


class Kind(StrEnum):
    """The classes of data that are deleted."""

    FRAMES = "frames"
    AUDIT = "audit"
    FEED = "feed"
    WIRE_LOG = "wire_log"
    EXPORTS = "exports"
    TOKENS = "tokens"
    ALERTS = "alerts"


@dataclass(frozen=True, slots=True)
class Deleted:
    """What went, or would go: `rows` of `name`, a partition or a table; `kept`: rows of it that stay; `why` it stays
    whole, where it does."""

    kind: Kind
    name: str
    rows: int
    kept: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Month:
    """A partition of a month; everything in it is from before `stop`."""

    table: str
    name: str
    start: datetime
    stop: datetime


async def organizations(connection: Connection) -> list[UUID]:
    async with _as_owner(connection):
        return [row["id"] for row in await connection.fetch("select id from lab.organization order by id")]


async def months(connection: Connection, table: str, before: datetime) -> list[Month]:
    """The partitions of whole months that ended before an instant, the oldest first."""
    found = []
    for row in await connection.fetch(_PARTITIONS, f"{SCHEMA}.{table}"):
        if match := _MONTH.search(row["name"]):
            year, month = int(match[1]), int(match[2])
            start = datetime(year, month, 1, tzinfo=UTC)
            stop = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
            if stop <= before:
                found.append(Month(table, row["name"], start, stop))
    return sorted(found, key=lambda one: one.start)


async def lived_days(
    connection: Connection, organization_ids: Sequence[UUID], now: datetime
) -> AsyncGenerator[datetime, None]:
    """The days of UTC, by their beginnings and the last first, on which any of these organizations stored something;
    none that begins after `now`."""
    stop = day_of(now) + DAY
    while True:
        days = [stop - DAY * number for number in range(1, _DAYS_AT_ONCE + 1)]
        floors = [uuid7_floor(day) for day in days], [uuid7_floor(day + DAY) for day in days]
        found: set[datetime] = set()
        last: list[UUID] = []
        for each in organization_ids:
            async with _as_owner(connection):
                await _act_for(connection, each)
                found |= {row["at"] for row in await connection.fetch(_LIVED, each, days, *floors)}
                last += filter(None, [await connection.fetchval(_LAST_BEFORE, each, floors[0][-1])])
        for day in sorted(found, reverse=True):
            yield day
        if not last:
            return
        stop = day_of(instant_of(max(last))) + DAY


def day_of(at: datetime) -> datetime:
    """The beginning of its day, of UTC."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@asynccontextmanager
async def _as_owner(connection: Connection) -> AsyncIterator[None]:
    async with connection.transaction():
        await connection.execute(f"set local role {OWNER_ROLE}; set local lock_timeout = '{LOCK_WAIT}'")
        yield


async def _act_for(connection: Connection, organization_id: UUID) -> None:
    """The owner too is held to the policies; a superuser is not, so that statements name the organization as well."""
    await connection.execute("select set_config('labora.org', $1, true)", str(organization_id))


async def _columns(connection: Connection, table: str) -> str:
    names: str = await connection.fetchval(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute"
        " where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
        f"{SCHEMA}.{table}",
    )
    return names


async def _told(connection: Connection, organization_id: UUID, what: str, **detail: object) -> None:
    actor = Actor(ActorKind.SETUP, None, "retention", organization_id)
    await audit.record(
        connection, actor, "delete", what, None, {key: str(value) for key, value in detail.items()}
    )  # fmt: skip


async def _detach(connection: Connection, month: Month) -> None:
    await connection.execute(f"alter table {SCHEMA}.{month.table} detach partition {SCHEMA}.{month.name}")


async def _counts(connection: Connection, name: str) -> dict[UUID, int]:
    """Rows of a partition by organization: reached directly, no policy is in the way of its owner."""
    rows = await connection.fetch(
        f"select organization_id, count(*) as rows from {SCHEMA}.{name} group by organization_id"  # noqa: S608
    )
    return {row["organization_id"]: row["rows"] for row in rows}


# ---- raw frames -----------------------------------------------------------------------------------------------------


async def kept_messages(
    connection: Connection, organization_id: UUID, start: datetime, stop: datetime, among: list[UUID] | None = None
) -> list[UUID]:
    """The messages of a span, `among` these, that must keep their frames. In a transaction as the owner."""
    await _act_for(connection, organization_id)
    rows = await connection.fetch(_KEPT, organization_id, uuid7_floor(start), uuid7_floor(stop), among)
    return [row["id"] for row in rows]


async def drop_frames(connection: Connection, month: Month, *, dry_run: bool) -> Deleted:
    """A month's frames, but for those of messages that must keep them."""
    async with _as_owner(connection):
        counts = await _counts(connection, month.name)
        kept = {each: await kept_messages(connection, each, month.start, month.stop) for each in counts}
        stay = {
            each: await connection.fetchval(
                f"select count(*) from {SCHEMA}.{month.name} where organization_id = $1 and message_id = any($2)",  # noqa: S608
                each, ids,
            )
            for each, ids in kept.items()
        }  # fmt: skip
        found = Deleted(Kind.FRAMES, month.name, sum(counts.values()) - sum(stay.values()), sum(stay.values()))
        if found.kept and not found.rows:  # all links would wait while it is moved, and nothing would be won
            return replace(found, why=ALL_STAYS)
        if dry_run:
            return found
        if found.kept > MOST_MOVED:  # another laboratory is under a hold, and nobody's links are to wait for that
            for each, ids in kept.items():
                await connection.execute(
                    f"delete from {SCHEMA}.{month.name} where organization_id = $1"  # noqa: S608
                    " and not exists (select from unnest($2::uuid[]) as kept where kept = message_id)",
                    each, ids,
                )  # fmt: skip
                await _told_of_frames(connection, month, each, counts[each], stay[each], ids)
            return found
        columns = await _columns(connection, "frame")
        await _detach(connection, month)
        for each, ids in kept.items():
            await _act_for(connection, each)
            await connection.execute(
                f"insert into {SCHEMA}.frame ({columns}) select {columns} from {SCHEMA}.{month.name}"  # noqa: S608
                " where organization_id = $1 and message_id = any($2)",
                each, ids,
            )  # fmt: skip
            await _told_of_frames(connection, month, each, counts[each], stay[each], ids)
        await connection.execute(f"drop table {SCHEMA}.{month.name}")
    return found


async def _told_of_frames(
    connection: Connection, month: Month, organization_id: UUID, rows: int, stay: int, messages: list[UUID]
) -> None:
    await _act_for(connection, organization_id)
    await _told(
        connection, organization_id, "frame", partition=month.name, rows=rows - stay, kept=stay,
        messages_kept=len(messages),
    )  # fmt: skip


async def sweep_frames(connection: Connection, organization_id: UUID, before: datetime, *, dry_run: bool) -> Deleted:
    """Of the DEFAULT partition, where frames went that had to stay: those that need not any more."""
    async with _as_owner(connection):
        there = await connection.fetch(
            f"select distinct message_id as id from {SCHEMA}.frame_default where organization_id = $1 and id < $2",  # noqa: S608
            organization_id, uuid7_floor(before),
        )  # fmt: skip
        if not there:
            return Deleted(Kind.FRAMES, "frame_default", 0, 0)
        begin = datetime(1970, 1, 1, tzinfo=UTC)
        kept = await kept_messages(connection, organization_id, begin, before, [row["id"] for row in there])
        where = f"from {SCHEMA}.frame_default where organization_id = $1 and id < $2 and message_id"
        arguments = organization_id, uuid7_floor(before), kept
        stay = await connection.fetchval(f"select count(*) {where} = any($3)", *arguments)
        rows = await connection.fetchval(f"select count(*) {where} <> all($3)", *arguments)
        if rows and not dry_run:
            await connection.execute(f"delete {where} <> all($3)", *arguments)
            await _told(connection, organization_id, "frame", partition="frame_default", rows=rows, kept=stay)
    return Deleted(Kind.FRAMES, "frame_default", rows, stay)


# ---- the audit trail ------------------------------------------------------------------------------------------------


async def drop_audit(connection: Connection, month: Month, *, dry_run: bool) -> Deleted:
    """A month's audit rows with the segments that sealed them; the last of these stays as the anchor of what follows.

    Nothing where an organization has a legal hold, or rows that are not sealed: then the month stays whole.
    """
    async with _as_owner(connection):
        counts = await _counts(connection, month.name)
        total = sum(counts.values())
        cuts: dict[UUID, Any] = {}
        for each in counts:
            await _act_for(connection, each)
            if await _any_hold(connection, each):
                return Deleted(Kind.AUDIT, month.name, 0, total, "a legal hold stands")
            cut = await connection.fetchrow(_CUT, each, month.stop)
            if cut is None:
                return Deleted(Kind.AUDIT, month.name, 0, total, "it is not sealed")
            cuts[each] = cut
        stay = {
            each: await connection.fetchval(
                f"select count(*) from {SCHEMA}.{month.name} where organization_id = $1 and (position, id) >= ($2, $3)",  # noqa: S608
                each, cut["ended_position"], cut["ended_id"],
            )
            for each, cut in cuts.items()
        }  # fmt: skip
        found = Deleted(Kind.AUDIT, month.name, total - sum(stay.values()), sum(stay.values()))
        if dry_run:
            return found
        columns = await _columns(connection, "audit_event")
        await _detach(connection, month)
        for each, cut in cuts.items():
            await _cut_trail(connection, month, columns, each, cut, counts[each] - stay[each])
        await connection.execute(f"drop table {SCHEMA}.{month.name}")
    return found


async def _any_hold(connection: Connection, organization_id: UUID) -> bool:
    return bool(
        await connection.fetchval(
            "select exists (select from lab.legal_hold where organization_id = $1 and ended_at is null)",
            organization_id,
        )
    )


async def _cut_trail(
    connection: Connection, month: Month, columns: str, organization_id: UUID, cut: Any, dropped: int
) -> None:
    """Put back what the last dropped segment did not seal; what it sealed and lies elsewhere goes too."""
    await _act_for(connection, organization_id)
    place = organization_id, cut["ended_position"], cut["ended_id"]
    await connection.execute(
        f"insert into {SCHEMA}.audit_event ({columns}) select {columns} from {SCHEMA}.{month.name}"  # noqa: S608
        " where organization_id = $1 and (position, id) >= ($2, $3)",
        *place,
    )
    more = await connection.fetchval(
        """with gone as (delete from lab.audit_event where organization_id = $1 and (position, id) < ($2, $3)
               returning 1) select count(*) from gone""",
        *place,
    )
    await connection.execute(
        """insert into lab.audit_anchor (organization_id, number, digest, ended_position, ended_id, sealed_at, rows)
           values ($1, $2, $3, $4, $5, $6, $7)""",
        organization_id, cut["number"], cut["digest"], cut["ended_position"], cut["ended_id"], cut["sealed_at"],
        dropped + more,
    )  # fmt: skip
    await connection.execute(
        "delete from lab.audit_segment where organization_id = $1 and number <= $2", organization_id, cut["number"]
    )
    await _told(
        connection, organization_id, "audit_event", partition=month.name, rows=dropped + more,
        anchor=f"{cut['number']}:{cut['digest'].hex()}",
    )  # fmt: skip


# ---- what goes row by row -------------------------------------------------------------------------------------------

_NO_HOLD: Final = "not exists (select from lab.legal_hold where organization_id = $1 and ended_at is null)"
_OVER: Final = """a.recovered_at < $2 and (a.told_at is null or a.recovery_told_at is not null)"""
# Of each class its tables with what must be so of a row, one after the other.
_ROWS: Final = {
    # The last row stays: who has read up to it must find it (`store.changes.has`). What comes after a young one does
    # too, as of segments (`_CUT`): a hole is missed by everybody who has not come to it. And before what goes something
    # old must stand at last: to a clock that is behind all times are to come, and none is young.
    Kind.FEED: ((
        "outbox",
        """t.seq < (select max(seq) from lab.outbox where organization_id = $1)
           and t.seq <= (select seq from lab.outbox where organization_id = $1 and sealed_at < $2
                   and seq < coalesce((select seq from lab.outbox where organization_id = $1 and seq is not null
                           and sealed_at between $2 and now() order by seq limit 1), 9223372036854775807)
                   order by seq desc limit 1)
           and t.seq <= coalesce((select min(position) from lab.subscription
                                  where organization_id = $1 and ended_at is null), t.seq)""",
    ),),
    Kind.WIRE_LOG: (("wire_log", f"t.ended_at < $2 and {_NO_HOLD}"),),
    Kind.EXPORTS: (("export_job", "t.ended_at < $2 and (t.files = '[]' or t.removed_at is not null)"),),
    Kind.TOKENS: (("access_token", "coalesce(t.revoked_at, t.expires_at) < $2"),),
    # What is over, and was told to be; what was told of it, once it speaks of nothing else.
    Kind.ALERTS: (
        ("alert_event",
         f"""t.created_at < $2 and {_NO_HOLD}
             and (t.alert_id is null or exists (select from lab.alert a where a.id = t.alert_id and {_OVER}))
             and not exists (select from lab.alert_message m where m.id = t.message_id and m.state = 'waiting')"""),  # noqa: S608
        ("alert_message",
         f"""t.created_at < $2 and t.state <> 'waiting' and {_NO_HOLD}
             and not exists (select from lab.alert_event e where e.message_id = t.id)"""),
        ("alert",
         f"""{_OVER.replace("a.", "t.")} and {_NO_HOLD}
             and not exists (select from lab.alert_event e where e.alert_id = t.id)"""),
    ),
}  # fmt: skip


def tables(kind: Kind) -> tuple[str, ...]:
    """The tables of a class that goes row by row, in the order in which their rows can go."""
    return tuple(table for table, _ in _ROWS[kind])


async def delete_rows(
    connection: Connection, kind: Kind, table: str, organization_id: UUID, before: datetime, *, dry_run: bool,
    most: int = BATCH,
) -> Deleted:  # fmt: skip
    """At most `most` rows of a table of a class, told in the audit trail; `rows` equal to it: there may be more."""
    condition = dict(_ROWS[kind])[table]
    where = f"from {SCHEMA}.{table} t where t.organization_id = $1 and {condition}"
    async with _as_owner(connection):
        await _act_for(connection, organization_id)
        if dry_run:
            rows = await connection.fetchval(f"select count(*) {where}", organization_id, before)
            return Deleted(kind, table, rows, 0)
        rows = await connection.fetchval(
            f"with gone as (delete from {SCHEMA}.{table} where organization_id = $1 and ctid in (select t.ctid {where}"  # noqa: S608
            " limit $3) returning 1) select count(*) from gone",
            organization_id, before, most,
        )  # fmt: skip
        if rows:
            await _told(connection, organization_id, table, rows=rows, before=before.isoformat())
    return Deleted(kind, table, rows, 0)


async def forget_assertions(connection: Connection, organization_id: UUID, now: datetime) -> int:
    """What clients signed once and cannot sign again, for it has expired: no longer anything of anybody's."""
    async with _as_owner(connection):
        await _act_for(connection, organization_id)
        rows: int = await connection.fetchval(
            """with gone as (delete from lab.client_assertion where organization_id = $1
                   and expires_at < $2::timestamptz - interval '1 hour' returning 1) select count(*) from gone""",
            organization_id, now,
        )  # fmt: skip
        return rows

"""Partitions by ranges of UUIDv7: months of frames and audit rows, years of result versions.

Nothing depends on them being there: a row without a partition of its own goes to the DEFAULT one, and moves when its
partition is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from interface.store.db import Connection
from interface.store.ids import uuid7_floor
from interface.store.schema import OWNER_ROLE, PARTITIONED, SCHEMA

# Whoever stores what goes to the DEFAULT partition waits while rows are moved out of it. More stay there: only where
# nobody has made any for months are there more.
MOST_MOVED = 10_000


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: ids from `start` (inclusive) to `stop` (exclusive)."""

    table: str
    name: str
    start: UUID
    stop: UUID


def _month(index: int) -> datetime:
    """The first instant of a month counted from year 0."""
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


def _partitions(table: str, now: datetime, ahead: int) -> Iterator[Partition]:
    if PARTITIONED[table] == "year":
        for year in range(now.year - 1, now.year + ahead + 1):
            start, stop = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
            yield Partition(table, f"{table}_{year}", uuid7_floor(start), uuid7_floor(stop))
        return
    this_month = now.year * 12 + now.month - 1
    for index in range(this_month - 1, this_month + ahead + 1):
        start, stop = _month(index), _month(index + 1)
        yield Partition(table, f"{table}_{start:%Y_%m}", uuid7_floor(start), uuid7_floor(stop))


async def ensure(connection: Connection, now: datetime, *, ahead: int = 3) -> list[str]:
    """Make the partitions from the last month (year) to `ahead` months (years) after `now`; returns those newly made.

    The login must be the owner role or a member of it. `now` is aware UTC. Safe to repeat and to run beside a daemon:
    each partition is made in a transaction of its own that waits at most two seconds for its locks.
    """
    made = []
    for table in sorted(PARTITIONED):
        for partition in _partitions(table, now.astimezone(UTC), ahead):
            if await _missing(connection, partition) and await _create(connection, partition):
                made.append(partition.name)
    return made


async def _missing(connection: Connection, partition: Partition) -> bool:
    return bool(await connection.fetchval("select to_regclass($1) is null", f"{SCHEMA}.{partition.name}"))


async def _create(connection: Connection, partition: Partition) -> bool:
    """Make one beside the table and attach it: unlike `create table … partition of`, that does not stop the readers.

    False when another program has made it meanwhile, or too much would have to be moved into it.
    """
    parent, child = f"{SCHEMA}.{partition.table}", f"{SCHEMA}.{partition.name}"
    start, stop = partition.start, partition.stop
    async with connection.transaction():
        await connection.execute(f"set local role {OWNER_ROLE}; set local lock_timeout = '2s'")
        # Locked from here on, so that no row comes between the move and the attachment, and no other program between
        # the check and the making (an advisory lock would not do: it leaves the catalogue cache as it was).
        await connection.execute(f"lock table {parent}_default in access exclusive mode")
        if await connection.fetchval(
            f"select count(*) > $3 from (select from {parent}_default where id >= $1 and id < $2 limit $3 + 1) f",  # noqa: S608
            start, stop, MOST_MOVED,
        ):  # fmt: skip
            return False
        if not await _missing(connection, partition):
            return False
        await connection.execute(f"create table {child} (like {parent} including defaults including constraints)")
        await connection.execute(
            f"alter table {child} enable row level security"
        )  # and no grant: only through the parent
        columns = await connection.fetchval(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute"
            " where attrelid = $1::regclass and attnum > 0 and not attisdropped",
            parent,
        )
        await connection.execute(
            f"with moved as (delete from {parent}_default where id >= $1 and id < $2 returning {columns})"  # noqa: S608
            f" insert into {child} ({columns}) select {columns} from moved",
            start,
            stop,
        )
        await connection.execute(
            f"alter table {parent} attach partition {child} for values from ('{start}') to ('{stop}')"
        )
    return True

"""The wire log in the database: written in the background, bounded for each link, read back with its frames.

It vouches for nothing, so nothing waits for it: its commits do not wait for the disk, and what cannot be written within
its limits is refused, which the log then says. The application cannot delete; the owner does, see `prune`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from interface.errors import StoreError
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from interface.store.schema import OWNER_ROLE

log = structlog.get_logger(__name__)

ROW_BYTES = 200  # what a row takes beside its events
LINK_WAITING_BYTES, WAITING_BYTES = 1 << 20, 16 << 20  # of one link, and of all, waiting to be written
GROUP_ROWS = 500
GATHER_S, RETRY_S, LAST_WAIT_S = 0.25, 1.0, 3.0
SLACK = 1.25  # how far over its bound a link's log may grow before it is pruned
PRUNED_TO = 0.9

_INSERT = """
INSERT INTO lab.wire_log (id, organization_id, link_id, connection_id, peer, began_at, ended_at, bytes, events)
SELECT id, $1, link_id, connection_id, peer, began_at, ended_at, octet_length(events), events
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::bytea[])
    AS t(id, link_id, connection_id, peer, began_at, ended_at, events)
ON CONFLICT (id) DO NOTHING
"""
_SIZES = f"SELECT link_id, sum(bytes + {ROW_BYTES})::bigint AS size FROM lab.wire_log GROUP BY link_id"  # noqa: S608
_OVER = f"""
SELECT l.id, l.name, coalesce(sum(w.bytes + {ROW_BYTES}), 0)::bigint AS size
FROM lab.link l JOIN lab.wire_log w ON w.link_id = l.id WHERE l.organization_id = $1 GROUP BY l.id, l.name
"""  # noqa: S608
_PRUNE = f"""
DELETE FROM lab.wire_log WHERE id IN (
    SELECT id FROM (SELECT id, sum(bytes + {ROW_BYTES}) OVER (ORDER BY ended_at, id) - bytes - {ROW_BYTES} AS before
                    FROM lab.wire_log WHERE link_id = $1) t
    WHERE before < $2)
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class WireLogRow:
    """A piece of one connection's log. `events`: see `wire.wirelog`."""

    id: UUID
    link_id: UUID
    connection_id: UUID
    peer: str
    began_at: datetime
    ended_at: datetime
    events: bytes

    @property
    def size(self) -> int:
        return len(self.events) + ROW_BYTES


class LinkLog:
    """One link's way in: `link.recorder.WireLog`."""

    def __init__(self, writer: WireLogWriter, organization_id: UUID, link_id: UUID, bound_bytes: int) -> None:
        self._writer, self.organization_id, self.link_id = writer, organization_id, link_id
        self.bound_bytes = bound_bytes
        self.waiting_bytes = self.stored_bytes = 0

    @property
    def over(self) -> bool:
        """Whether it is time to prune."""
        return self.stored_bytes > self.bound_bytes

    def keep(self, connection_id: UUID, peer: str, began_at: datetime, ended_at: datetime, events: bytes) -> bool:
        """Take a piece to be written soon; False when there is no room for it. Returns at once."""
        row = WireLogRow(uuid7(), self.link_id, connection_id, peer, began_at, ended_at, events)
        total = self.waiting_bytes + row.size
        if total > LINK_WAITING_BYTES or self._writer.waiting_bytes + row.size > WAITING_BYTES:
            return False
        if self.stored_bytes + total > self.bound_bytes * SLACK:
            return False
        self.waiting_bytes = total
        self._writer.put(self, row)
        return True


class WireLogWriter:
    """Writes what the links heard. `start()` before, `stop()` after use."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._links: dict[UUID, LinkLog] = {}
        self._measured = True  # how large the log of each link is
        self.waiting_bytes = 0
        self._waiting: deque[tuple[LinkLog, WireLogRow]] = deque()
        self._arrived, self._stopping = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.over = asyncio.Event()  # a link's log is over its bound

    def of(self, organization_id: UUID, link_id: UUID, bound_bytes: int) -> LinkLog:
        """A link's log, at most `bound_bytes` large but for what comes between two prunings; also while it runs."""
        link = self._links.get(link_id)
        if link is None:
            link = self._links[link_id] = LinkLog(self, organization_id, link_id, bound_bytes)
            self._measured = False
        link.bound_bytes = bound_bytes
        return link

    def put(self, link: LinkLog, row: WireLogRow) -> None:
        self._waiting.append((link, row))
        self.waiting_bytes += row.size
        self._arrived.set()

    async def start(self) -> None:
        """Raises StoreError when the database is not there."""
        await self.measure()
        self._task = asyncio.create_task(self._write_forever(), name="wire log")

    async def stop(self) -> None:
        """Write what waits, if the database takes it soon."""
        self._stopping.set()
        self._arrived.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=LAST_WAIT_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._waiting:
            log.warning("wire log not written", action="wire_log.lost", rows=len(self._waiting))

    async def measure(self) -> None:
        """Ask how large the logs are; raises StoreError."""
        links = list(self._links.values())
        for organization_id in {link.organization_id for link in links}:
            async with self._database.organization(organization_id) as connection:
                sizes = {row["link_id"]: row["size"] for row in await connection.fetch(_SIZES)}
            for link in links:
                if link.organization_id == organization_id:
                    link.stored_bytes = sizes.get(link.link_id, 0)
        self._measured = len(links) == len(self._links)
        self._judge()

    def _judge(self) -> None:
        if any(link.over for link in self._links.values()):
            self.over.set()
        else:
            self.over.clear()

    async def _write_forever(self) -> None:
        while not self._stopping.is_set():
            await self._arrived.wait()
            self._arrived.clear()
            await self._pause(GATHER_S)  # one commit for what many links heard
            while self._waiting and not self._stopping.is_set():
                if not await self._write_some():
                    await self._pause(RETRY_S)
        while self._waiting and await self._write_some():
            pass

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _write_some(self) -> bool:
        """Write rows of one organization; False when the database did not take them and they wait on."""
        organization_id = self._waiting[0][0].organization_id
        chosen = [one for one in self._waiting if one[0].organization_id == organization_id][:GROUP_ROWS]
        rows = [row for _, row in chosen]
        try:
            if not self._measured:  # a link was added
                await self.measure()
            async with self._database.transaction(organization_id) as connection:
                # Lost with the server's last moments, at the worst; and no link's commit has to wait for its fsync.
                await connection.execute("SET LOCAL synchronous_commit = off")
                names = ("id", "link_id", "connection_id", "peer", "began_at", "ended_at", "events")
                await connection.execute(
                    _INSERT, organization_id, *([getattr(row, name) for row in rows] for name in names)
                )
        except StoreError as error:
            log.debug("wire log waits", action="wire_log.waits", error=type(error).__name__)
            return False
        except Exception as error:  # what the database does not take now, it never will
            log.warning("wire log not written", action="wire_log.lost", rows=len(rows), error=type(error).__name__)
            self._done_with(chosen, written=False)
            return True
        self._done_with(chosen, written=True)
        return True

    def _done_with(self, chosen: Iterable[tuple[LinkLog, WireLogRow]], *, written: bool) -> None:
        gone = set()
        for link, row in chosen:
            gone.add(row.id)
            link.waiting_bytes -= row.size
            self.waiting_bytes -= row.size
            link.stored_bytes += row.size if written else 0
        self._waiting = deque(one for one in self._waiting if one[1].id not in gone)
        self._judge()


async def prune(connection: Connection, bound_of: Callable[[str, str], int]) -> int:
    """Delete the oldest rows of each log that is over its bound; returns how many. Frames are never touched.

    `bound_of(organization, link)`: bytes, by their names. The login must be the owner or a member of it.
    """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
        organizations = await connection.fetch("SELECT id, name FROM lab.organization ORDER BY name")
    pruned = 0
    for organization in organizations:
        async with connection.transaction():
            # The owner is held to row-level security as well, so it acts for one organization after the other.
            await connection.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
            await connection.execute("SELECT set_config('labora.org', $1, true)", str(organization["id"]))
            for link in await connection.fetch(_OVER, organization["id"]):
                bound = bound_of(organization["name"], link["name"])
                if link["size"] > bound:
                    done = await connection.execute(_PRUNE, link["id"], link["size"] - int(bound * PRUNED_TO))
                    pruned += int(done.split()[-1])
    return pruned


# ---- reading ---------------------------------------------------------------------------------------------------------

_COLUMNS = "id, link_id, connection_id, peer, began_at, ended_at, events"
_READ_BYTES = 8 << 20  # at once


_LONGEST_PIECE = timedelta(minutes=2)  # from a piece's first event to its end


async def read_frame_bytes(connection: Connection, frame_ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Frames as they were on the wire, by id; unknown ids left out."""
    rows = await connection.fetch("SELECT id, bytes FROM lab.frame WHERE id = ANY($1)", list(frame_ids))
    return {row["id"]: row["bytes"] for row in rows}


async def rows_at(connection: Connection, link_id: UUID, at: datetime) -> list[WireLogRow]:
    """Those of a link's rows in which an instant is, about one for each connection that was open."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM lab.wire_log"  # noqa: S608
        " WHERE link_id = $1 AND ended_at BETWEEN $2 AND $3 AND began_at <= $2 ORDER BY id",
        link_id, at, at + _LONGEST_PIECE,
    )  # fmt: skip
    return [WireLogRow(**dict(row.items())) for row in rows]


async def rows_between(
    connection: Connection, link_id: UUID, connection_id: UUID, since: datetime, until: datetime
) -> list[WireLogRow]:
    """The rows of one connection on a link that ended between two instants, in order."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM lab.wire_log"  # noqa: S608
        " WHERE link_id = $1 AND connection_id = $2 AND ended_at BETWEEN $3 AND $4 ORDER BY id",
        link_id, connection_id, since, until,
    )  # fmt: skip
    return [WireLogRow(**dict(row.items())) for row in rows]


async def newest_rows(
    connection: Connection, link_id: UUID, limit: int, since: datetime | None, before: UUID | None
) -> list[WireLogRow]:
    """A link's newest rows, in order: `limit` or as many as are read at once, those before a row if it is given."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM (SELECT *, sum(bytes) OVER (ORDER BY id DESC) - bytes AS newer FROM ("  # noqa: S608
        "   SELECT * FROM lab.wire_log WHERE link_id = $1 AND ($3::timestamptz IS NULL OR ended_at >= $3)"
        "   AND ($4::uuid IS NULL OR id < $4) ORDER BY id DESC LIMIT $2) t) s WHERE newer < $5 ORDER BY id",
        link_id, limit, since, before, _READ_BYTES,
    )  # fmt: skip
    return [WireLogRow(**dict(row.items())) for row in rows]


async def rows_after(connection: Connection, link_id: UUID, row_id: UUID | None, limit: int) -> list[WireLogRow]:
    """A link's rows that were written after one, in order."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM lab.wire_log WHERE link_id = $1 AND ($2::uuid IS NULL OR id > $2)"  # noqa: S608
        " ORDER BY id LIMIT $3",
        link_id, row_id, limit,
    )  # fmt: skip
    return [WireLogRow(**dict(row.items())) for row in rows]

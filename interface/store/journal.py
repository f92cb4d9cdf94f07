"""The journal: every accepted byte, committed before anyone is told so (DESIGN §1.1, §3.3).

One writer per organization groups the commits of all its links: whatever arrived while the last group was being
committed is the next group, one statement and one fsync for all of it. When many links deliver, a group waits for a few
turns of the event loop until half of what they have under way is in it: the other half is being answered meanwhile, and
a statement costs more than its rows (`store.halves`). A group that fails for what it says (a poisoned
row) is repeated entry by entry, so that only the culprit is refused; one that fails for want of a database is repeated
until each entry's time is up. Repeating is safe: message and frame ids are made before the first try, and the primary
keys make a second insertion of the same id a no-op.

While one group is being committed slowly and enough waits for another, that is committed at the same time, over a
second connection; what belongs to one connection of a link keeps its order, and two with the same digest never meet.

A message's bytes are its frames; there is no second copy. A frame's id is its message's id with the ordinal and the
attempt in the low 24 bits, so the frames of a message are one index range in order.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from interface import telemetry
from interface.errors import LeaseLost, StoreAmbiguous, StoreError, StoreUnavailable
from interface.store.db import Connection, Database
from interface.store.driver_errors import translate
from interface.store.halves import Halves
from interface.store.ids import go_on_after, of_int, uuid7_number
from interface.store.journal_line import Line, Session
from interface.store.journal_recover import recovered
from interface.store.journal_sql import APPEND, APPEND_BLOCKS, APPEND_FRAMES, SEAL_CUT
from interface.store.notes import Notes
from interface.store.pressure import Lane, Pressure

log = structlog.get_logger()

ATTEMPT_BITS, FRAME_BITS = 4, 24
MAX_ATTEMPT, MAX_ORDINAL = (1 << ATTEMPT_BITS) - 1, (1 << (FRAME_BITS - ATTEMPT_BITS)) - 1
GROUP_ENTRIES, GROUP_BYTES = 200, 8 << 20
WAITING_BYTES = 64 << 20  # more than this waiting for one writer is refused: memory is bounded, the peer resends
PROBE_S = 0.25
COMPANY_TURNS = 4  # of the event loop, for which a group waits at most until it is large enough
SECOND_ENTRIES = 6  # so many waiting make a second group while the first is being committed
SECOND_AFTER_S = 0.003  # and has been for so long: a disk whose fsync takes longer, a lock that somebody holds
TICK_S = 0.002  # the event loop counts in milliseconds
QUIET_S = 0.02  # without an append for so long, no link waits for one


def new_message_id() -> UUID:
    """A UUIDv7 whose low 24 bits are free for its frames (`store.ids` keeps uniqueness above them)."""
    return of_int(uuid7_number() >> FRAME_BITS << FRAME_BITS)


def frame_id(message_id: UUID, ordinal: int, attempt: int) -> UUID:
    place = ordinal << ATTEMPT_BITS | attempt
    return of_int(message_id.int | place) if place else message_id


def message_of(frame_id: UUID) -> UUID:
    """The message a frame belongs to."""
    return of_int(frame_id.int >> FRAME_BITS << FRAME_BITS)


def ordinal_of(frame_id: UUID) -> int:
    return frame_id.int >> ATTEMPT_BITS & MAX_ORDINAL


class MessageRow(NamedTuple):
    """A message as it is opened or sealed. `settled` only for what needs no decision (`rejected`)."""

    id: UUID
    link_id: UUID
    protocol: str
    state: str  # receiving, complete, incomplete
    received_at: datetime
    peer: str = ""
    sealed_at: datetime | None = None
    settled: str | None = None
    control_id: str = ""
    message_type: str = ""
    reason: str = ""
    digest: bytes | None = None  # of the assembled text; None: never taken for a resend
    bytes: int = 0
    priority: int = 5  # queue: lower goes first
    again: bool = False  # the same bytes came before, and their sender took the reply: no resend
    asks: bool = False  # a query that its link's own sender answers: the worker gets it only when that was not done


class FrameRow(NamedTuple):
    """`bytes` as they were on the wire; `start`, `stop`: the part of the frame's text that is this message's."""

    message_id: UUID
    ordinal: int
    attempt: int
    fn: int | None
    bytes: bytes
    received_at: datetime
    start: int | None = None
    stop: int | None = None


class BlockRow(NamedTuple):
    """A whole message of HL7 that came in one block and of which nothing is decided yet: most messages there are.

    `digest`: of `block`, 32 bytes. The fields are the parameters of `APPEND_BLOCKS`, in its order.
    """

    id: UUID
    link_id: UUID
    control_id: str
    message_type: str
    digest: bytes
    received_at: datetime
    peer: str
    block: bytes

    def in_general(self) -> Append:
        """The same in the general form."""
        row = MessageRow(
            self.id, self.link_id, "hl7", "complete", self.received_at, self.peer, self.received_at,
            control_id=self.control_id, message_type=self.message_type, digest=self.digest, bytes=len(self.block),
        )  # fmt: skip
        return Append((row,), (FrameRow(self.id, 0, 0, None, self.block, self.received_at),))


class Append(NamedTuple):
    """One link's request: committed whole or not at all."""

    messages: tuple[MessageRow, ...] = ()
    frames: tuple[FrameRow, ...] = ()

    @property
    def size(self) -> int:
        return sum(len(frame.bytes) for frame in self.frames)

    @property
    def keys(self) -> tuple[tuple[UUID, bytes], ...]:
        return tuple((row.link_id, row.digest) for row in self.messages if row.digest is not None)

    @property
    def lane(self) -> Lane | None:
        """The connection, where it may have more than one append under way (MLLP has): they keep their order."""
        return (self.messages[0].link_id, self.messages[0].peer) if self.messages else None


@dataclass(slots=True, eq=False)
class _Entry:
    """An append on its way: who waits for it and until when (loop time)."""

    append: Append | BlockRow
    size: int
    keys: tuple[tuple[UUID, bytes], ...]
    lane: Lane | None
    done: asyncio.Future[frozenset[UUID]]
    deadline: float

    @property
    def rows(self) -> Append:
        return self.append if isinstance(self.append, Append) else self.append.in_general()


class Journal:
    """The group-committing writer of one organization. `start()`, or a first `recover()`, before; `stop()` after use.

    `resend_window_s`: how long the same bytes on the same link are taken for a resend. `commit_wait_s`: how long an
    append may wait for its commit. `wake` is called after each commit that put a message into the queue. `vouched`:
    whether the links are still this daemon's; what was committed while nobody knew that is not acknowledged.
    """

    def __init__(
        self,
        database: Database,
        organization_id: UUID,
        *,
        resend_window_s: float,
        commit_wait_s: float,
        wake: Callable[[], None],
        vouched: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._database, self._organization_id, self._vouched = database, organization_id, vouched
        self._window = timedelta(seconds=resend_window_s)
        self._commit_wait_s, self._wake = commit_wait_s, wake
        self._waiting: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._notes = Notes(database, organization_id, lambda: self.busy)
        self.taken = self._notes.taken
        self._promised: deque[tuple[float, asyncio.Future[frozenset[UUID]]]] = deque()  # until when, soonest first
        self._late: asyncio.TimerHandle | None = None
        self._cut: dict[UUID, MessageRow] = {}  # to be sealed once the database is back
        self._arrived = asyncio.Event()
        self._crowded, self._landed = asyncio.Event(), asyncio.Event()
        self._former: set[Session] = set()
        self._first, self._second = (Line(database, organization_id, self._former) for _ in range(2))
        self._flying: list[list[_Entry]] = []  # groups that are being committed
        self._flying_since = 0.0  # loop time, where one is
        self._pressure, self._halves = Pressure(), Halves()
        self._under_way = 0.0  # how many appends there have been at the same time lately
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.available = True
        self.appended_at = -math.inf  # loop time at which a link last wanted something committed
        self.turns = 0  # of the writer: that it is not stuck

    async def start(self) -> None:
        """Connect and seal what was left open where nobody has the link; raises StoreError when the database is not
        there."""
        await self.recover(())

    async def stop(self) -> None:
        """Commit what waits (no longer than an append may wait), then stop. Nothing may be appended afterwards."""
        self._stopping = True
        self._arrived.set()
        self._crowded.set()
        await asyncio.gather(*self._tasks)
        await self._notes.stop()
        for line in (self._first, self._second):
            line.cut()
        if self._late is not None:
            self._late.cancel()

    @property
    def engaged(self) -> bool:
        """Whether the writer has something to do."""
        return bool(self._waiting or self._flying or self._cut)

    @property
    def busy(self) -> bool:
        """Whether links send as fast as they are answered: what vouches for nothing should wait."""
        if not self._pressure.high:
            return False
        return bool(self._flying) or asyncio.get_running_loop().time() - self.appended_at < QUIET_S

    async def append(self, append: Append) -> frozenset[UUID]:
        """Commit; returns the ids of those of its messages that are resends. Raises StoreError: promise nothing."""
        return await self._enter(append, append.size, append.keys, append.lane)

    async def append_block(self, row: BlockRow) -> bool:
        """Commit a message; whether it is a resend. Raises StoreError: promise nothing."""
        keys, lane = ((row.link_id, row.digest),), (row.link_id, row.peer)
        return bool(await self._enter(row, len(row.block), keys, lane))

    def _enter(
        self,
        append: Append | BlockRow,
        size: int,
        keys: tuple[tuple[UUID, bytes], ...],
        lane: Lane | None,
    ) -> asyncio.Future[frozenset[UUID]]:
        # One append may be larger than the limit: alone it is taken, else its message never could be.
        if self._stopping or (self._waiting_bytes and self._waiting_bytes + size > WAITING_BYTES):
            raise StoreUnavailable("the journal takes nothing more for the moment")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[frozenset[UUID]] = loop.create_future()
        self.appended_at = now = loop.time()
        self._pressure.came(now, lane)
        deadline = now + self._commit_wait_s
        self._waiting.append(_Entry(append, size, keys, lane, done, deadline))
        self._waiting_bytes += size
        self._arrived.set()
        if self._flying and len(self._waiting) >= SECOND_ENTRIES:
            self._crowded.set()
        while self._promised and self._promised[0][1].done():
            self._promised.popleft()
        self._promised.append((deadline, done))
        if self._late is None:
            self._late = loop.call_at(self._promised[0][0], self._expire)
        return done

    def seal_later(self, rows: Iterable[MessageRow]) -> None:
        """Seal messages when the database is back, as far as they are still open: what was cut where it is there, and
        what EOT had completed, of which every frame is. Returns at once."""
        self._cut.update((row.id, row) for row in rows)
        self._arrived.set()

    def replied(self, message_id: UUID, sent: bool) -> None:
        """Note that the reply owed for a message left, or could not. Returns at once."""
        self._notes.replied(message_id, sent)

    def _expire(self) -> None:
        """Whatever the writer does, the peer gets its answer."""
        loop, self._late = asyncio.get_running_loop(), None
        while self._promised and (self._promised[0][1].done() or self._promised[0][0] <= loop.time() + TICK_S):
            done = self._promised.popleft()[1]
            if not done.done():
                done.set_exception(StoreAmbiguous("the commit is late"))
        if self._promised:
            self._late = loop.call_at(self._promised[0][0], self._expire)

    # ---- the writer -------------------------------------------------------------------------------------------------

    async def _write_forever(self) -> None:
        while True:
            self.turns += 1
            if self._cut and self.available and not self._flying:  # what is being committed may have to be sealed
                await self._seal_cut(list(self._cut.values()))
            if self._waiting:
                await self._company()
                if not await self._commit_next(self._first) and self._waiting:
                    await self._landed.wait()  # what is next must not overtake what the second line is committing
            elif self._stopping:
                return
            elif not self.available:
                await self._probe()
            else:
                await self._idle()

    async def _company(self) -> None:
        """Let the event loop turn until a group is large enough. Alone, nobody waits; nor does anybody for long."""
        enough = min(self._under_way / 2, GROUP_ENTRIES)
        for _ in range(COMPANY_TURNS):
            if len(self._waiting) >= enough or self._stopping:
                return
            await asyncio.sleep(0)

    async def _idle(self) -> None:
        """Wait for something to write."""
        self._arrived.clear()
        if not self._cut:
            await self._arrived.wait()
        elif self._flying:
            self._landed.clear()
            await self._landed.wait()

    async def _help_forever(self) -> None:
        """A second group while the first is being committed, so that server and disk need not wait for us."""
        loop = asyncio.get_running_loop()
        while not self._stopping:
            await self._crowded.wait()
            self._crowded.clear()
            while self._flying and self.available and not self._cut and len(self._waiting) >= SECOND_ENTRIES:
                if (left := self._flying_since + SECOND_AFTER_S - loop.time()) > 0:
                    await asyncio.sleep(left)
                elif not await self._commit_next(self._second):
                    break

    async def _commit_next(self, line: Line) -> bool:
        """Commit the next group; False when there is none that may be committed now."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        most = len(self._waiting) if self._flying else self._halves.most(len(self._waiting), self._under_way, began)
        group = self._next_group(min(most, GROUP_ENTRIES))
        if not group:
            self._landed.clear()
            return not self._flying
        if not self._flying:
            self._flying_since = began
            self._pressure.began(began)
        self._flying.append(group)
        if len(self._waiting) >= SECOND_ENTRIES:
            self._crowded.set()
        # It shrinks slowly: that a link pauses between two messages is no reason to wait for nobody.
        self._under_way = max(self._now_under_way, self._under_way - 0.25)
        try:
            await self._commit(line, group)
        except Exception as error:  # a fault of ours: nobody in the group may be left waiting
            log.error("journal writer failed", action="journal.fault", error=type(error).__name__)
            self._refuse(group, StoreUnavailable("the journal failed"))
        finally:
            self._under_way = max(self._now_under_way, self._under_way)  # the group is, until it is answered
            self._flying = [other for other in self._flying if other is not group]
            self._pressure.ended(loop.time(), [entry.lane for entry in group])
            self._halves.landed(began, loop.time())
            self._landed.set()
        return True

    @property
    def _now_under_way(self) -> int:
        return sum(map(len, self._flying)) + len(self._waiting)

    def _next_group(self, most: int) -> list[_Entry]:
        """What waits, up to a group's limits and in its order; two with the same digest never share a group.

        Nor are they committed at the same time, or two of the same connection.
        """
        group: list[_Entry] = []
        size, keys = 0, {key for other in self._flying for entry in other for key in entry.keys}
        lanes = {entry.lane for other in self._flying for entry in other if entry.lane is not None}
        while self._waiting and len(group) < most and size < GROUP_BYTES:
            entry = self._waiting[0]
            if entry.lane in lanes or not keys.isdisjoint(entry.keys):
                break
            self._waiting.popleft()
            self._waiting_bytes -= entry.size
            if entry.done.done():  # its connection is gone and nobody waits: not stored, not promised
                continue
            group.append(entry)
            size += entry.size
            keys.update(entry.keys)
        return group

    async def _commit(self, line: Line, group: list[_Entry], again: bool = False) -> None:
        """Commit a group, or refuse each of it. Repeats while the database is away and there is time.

        `again`: some of it may be stored.
        """
        loop = asyncio.get_running_loop()
        while group:
            self.turns += 1
            try:
                began = loop.time()
                duplicates, queued = await self._write(line, [entry.append for entry in group], again)
                telemetry.observe_commit(loop.time() - began, len(group))
                if self._vouched is not None and not await self._vouched():  # this process was stopped, or cut off
                    raise LeaseLost("another daemon may have the links by now")
            except Exception as error:
                store_error = translate(error, committing=True)
                if isinstance(error, asyncpg.UniqueViolationError) and not again:
                    again = True  # a link repeats what it was told nothing certain of
                    continue
                if store_error is None:
                    await self._find_culprit(line, group, error)
                    return
                if isinstance(store_error, LeaseLost):
                    self._refuse(group, store_error)
                    return
                again = True
                self._went_away(line, error)
                late = [entry for entry in group if loop.time() + PROBE_S >= entry.deadline or self._stopping]
                self._refuse(late, store_error)
                group = [entry for entry in group if entry not in late]
                await asyncio.sleep(PROBE_S)
            else:
                self._came_back()
                for entry in group:
                    if not entry.done.done():
                        own = duplicates & {row.id for row in entry.rows.messages} if duplicates else duplicates
                        entry.done.set_result(own)
                if queued:
                    self._wake()
                return

    async def _find_culprit(self, line: Line, group: list[_Entry], error: Exception) -> None:
        """The group says something the database does not take: refuse only who said it."""
        if len(group) == 1:
            log.error("journal entry refused", action="journal.poisoned", error=type(error).__name__)
            self._refuse(group, StoreUnavailable("the database refuses these bytes"))
        else:
            for entry in group:
                await self._commit(line, [entry], again=True)

    async def _seal_cut(self, rows: Sequence[MessageRow]) -> None:
        """Seal what links could not. What the database does not take for what it says, the next start tries again."""
        try:
            await self._seal(rows)
        except Exception as error:
            if translate(error, committing=True) is not None or not await self._takes_anything():
                self._went_away(self._first, error)
                await asyncio.sleep(PROBE_S)  # a full disk refuses this and still answers
            elif len(rows) > 1:
                for row in rows:
                    await self._seal_cut([row])
            else:
                log.error("cut transmission not sealed", action="journal.fault", error=type(error).__name__)
                del self._cut[rows[0].id]

    async def _seal(self, rows: Sequence[MessageRow]) -> None:
        whole, cut = ([row for row in rows if (row.state == "complete") is so] for so in (True, False))
        for row in whole:  # each alone: two may have one digest
            await self._write(self._first, [Append((row,))], again=True)
        columns = _columns(cut, "id", "control_id", "message_type", "reason", "bytes", "sealed_at")
        connection, of = await self._first.connect(), self._organization_id
        sealed = await connection.fetchval(SEAL_CUT, of, *columns, timeout=self._commit_wait_s)
        for row in rows:
            del self._cut[row.id]
        if whole:
            log.info("transmissions sealed that were whole", action="journal.completed", messages=len(whole))
        if sealed:
            log.warning("cut transmissions sealed", action="journal.sealed", messages=sealed)
        self._wake()

    async def _probe(self) -> None:
        """Wait until the database takes what the journal says, or somebody new has something to say."""
        while not self._waiting and not self._stopping and not self.available:
            if await self._takes_anything():
                self._came_back()
            else:
                await asyncio.sleep(PROBE_S)

    async def _takes_anything(self) -> bool:
        """Said without a row: a server that answers may have another schema, a locked table, a role without rights."""
        try:
            await self._write(self._first, (), again=True)
        except Exception as error:  # whatever it is: not yet
            log.debug("journal still cannot commit", action="journal.probe", error=type(error).__name__)
            self._first.cut()
            return False
        return True

    def _went_away(self, line: Line, error: Exception) -> None:
        if self.available:
            self.available = False
            log.warning("journal cannot commit", action="journal.down", error=type(error).__name__)
            self._arrived.set()  # a writer that rests is to look when it can again
        line.cut()

    def _came_back(self) -> None:
        if not self.available:
            self.available = True
            log.info("journal commits again", action="journal.up")

    @staticmethod
    def _refuse(entries: Iterable[_Entry], error: StoreError) -> None:
        for entry in entries:
            if not entry.done.done():
                entry.done.set_exception(error)

    async def _write(self, line: Line, group: Sequence[Append | BlockRow], again: bool) -> tuple[frozenset[UUID], bool]:
        """One statement, one commit. Returns the duplicates and whether anything was queued."""
        blocks = [one for one in group if isinstance(one, BlockRow)]
        if len(blocks) == len(group) and not again:
            rows = await line.fetch(
                APPEND_BLOCKS, self._organization_id, *zip(*blocks, strict=True), self._window,
                timeout_s=self._commit_wait_s,
            )  # fmt: skip
            return frozenset(row["id"] for row in rows), True
        appends = [one if isinstance(one, Append) else one.in_general() for one in group]
        messages = [row for append in appends for row in append.messages]
        frames = [row for append in appends for row in append.frames]
        framed = _framed(self._organization_id, frames)
        if not messages and not again:
            await line.fetch(APPEND_FRAMES, *framed, timeout_s=self._commit_wait_s)
            return frozenset(), False
        rows = await line.fetch(APPEND, *framed, *_sealed(messages), self._window, timeout_s=self._commit_wait_s)
        return frozenset(row["id"] for row in rows), any(
            row.state != "receiving" and row.settled is None for row in messages
        )

    async def recover(self, link_ids: Collection[UUID]) -> None:
        """Seal as incomplete what was still being received when the last process ended: over links that nobody has, and
        over these, which are ours from now on and over which nothing comes yet. What comes then is later than all that
        waits, whatever the clock of who took it. Raises StoreError, or what a database says that takes nothing."""
        # While other links are served the writer's own may be in the middle of a commit.
        line = Line(self._database, self._organization_id, self._former) if self._tasks else self._first
        try:
            connection = await line.connect()
            takes = partial(self._write, line, (), again=True)
            sealed, last = await recovered(connection, self._organization_id, link_ids, takes)
        except asyncio.CancelledError:
            line.cut()
            raise
        except Exception as error:
            line.cut()
            raise translate(error) or error from error
        if line is not self._first:
            line.cut(idle=True)
        if last is not None:
            go_on_after(last)
        if sealed:
            log.warning("cut transmissions sealed", action="journal.recovered", messages=sealed)
            self._wake()
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._write_forever(), name="journal"),
                asyncio.create_task(self._help_forever(), name="journal, second group"),
            ]
            self._notes.start()


async def append_within(connection: Connection, organization_id: UUID, append: Append) -> None:
    """Store messages that are settled, in the caller's transaction. None has a digest: resends are not looked for."""
    await connection.fetch(APPEND, *_framed(organization_id, append.frames), *_sealed(append.messages), timedelta())


def _framed(organization_id: UUID, frames: Sequence[FrameRow]) -> tuple[Any, ...]:
    # Half of what a message's digest would be, as `APPEND_BLOCKS` takes it where a frame is a message.
    digests = [blake2b(row.bytes, digest_size=32).digest()[:16] for row in frames]
    return (
        organization_id,
        [frame_id(row.message_id, row.ordinal, row.attempt) for row in frames],
        *_columns(frames, "message_id", "ordinal", "attempt", "fn", "bytes", "start", "stop"),
        digests,
        [row.received_at for row in frames],
    )


def _sealed(messages: Sequence[MessageRow]) -> list[Sequence[Any]]:
    return _columns(
        messages,
        "id", "link_id", "protocol", "state", "settled", "control_id", "message_type", "reason",
        "digest", "bytes", "received_at", "sealed_at", "peer", "priority", "again", "asks",
    )  # fmt: skip


def _columns(rows: Sequence[MessageRow] | Sequence[FrameRow], *names: str) -> list[Sequence[Any]]:
    if not rows:
        return [() for _ in names]
    columns = dict(zip(rows[0]._fields, zip(*rows, strict=True), strict=True))
    return [columns[name] for name in names]

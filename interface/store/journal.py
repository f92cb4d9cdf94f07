"""The journal: every accepted byte, committed before anyone is told so (DESIGN §1.1, §3.3).

One writer per organization groups the commits of all its links: whatever arrived while the last group was being
committed is the next group, one statement and one fsync for all of it. A group that fails for what it says (a poisoned
row) is repeated entry by entry, so that only the culprit is refused; one that fails for want of a database is repeated
until each entry's time is up. Repeating is safe: message and frame ids are made before the first try, and the primary
keys make a second insertion of the same id a no-op.

A message's bytes are its frames; there is no second copy. A frame's id is its message's id with the ordinal and the
attempt in the low 24 bits, so the frames of a message are one index range in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from interface import telemetry
from interface.errors import StoreAmbiguous, StoreError, StoreUnavailable
from interface.store.db import Connection, Database, translate
from interface.store.ids import uuid7

log = structlog.get_logger()

ATTEMPT_BITS, FRAME_BITS = 4, 24
MAX_ATTEMPT, MAX_ORDINAL = (1 << ATTEMPT_BITS) - 1, (1 << (FRAME_BITS - ATTEMPT_BITS)) - 1
GROUP_ENTRIES, GROUP_BYTES = 200, 8 << 20
WAITING_BYTES = 64 << 20  # more than this waiting for one writer is refused: memory is bounded, the peer resends
REJECTS_KEPT, REJECT_BYTES = 256, 4096  # refused bytes waiting to be written, and how much of each is kept
IDLE_FLUSH_S, PROBE_S, CONNECT_WAIT_S = 0.5, 0.25, 10.0


def new_message_id() -> UUID:
    """A UUIDv7 whose low 24 bits are free for its frames (`store.ids` keeps uniqueness above them)."""
    return UUID(int=uuid7().int >> FRAME_BITS << FRAME_BITS)


def frame_id(message_id: UUID, ordinal: int, attempt: int) -> UUID:
    return UUID(int=message_id.int | ordinal << ATTEMPT_BITS | attempt)


@dataclass(frozen=True, slots=True)
class MessageRow:
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


@dataclass(frozen=True, slots=True)
class FrameRow:
    """`bytes` as they were on the wire; `start`, `stop`: the part of the frame's text that is this message's."""

    message_id: UUID
    ordinal: int
    attempt: int
    fn: int | None
    bytes: bytes
    received_at: datetime
    start: int | None = None
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """One link's request: committed whole or not at all."""

    messages: tuple[MessageRow, ...] = ()
    frames: tuple[FrameRow, ...] = ()

    @property
    def size(self) -> int:
        return sum(len(frame.bytes) for frame in self.frames)

    @property
    def keys(self) -> frozenset[tuple[UUID, bytes]]:
        return frozenset((row.link_id, row.digest) for row in self.messages if row.digest is not None)


@dataclass(frozen=True, slots=True)
class StoredFrame:
    ordinal: int
    fn: int | None
    bytes: bytes
    start: int | None
    stop: int | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message with its frames, the last attempt of each ordinal, in order."""

    id: UUID
    organization_id: UUID
    link_id: UUID
    protocol: str
    state: str
    settled: str | None
    control_id: str
    message_type: str
    reason: str
    reply: str
    bytes: int
    attempts: int
    received_at: datetime
    sealed_at: datetime | None
    settled_at: datetime | None
    peer: str
    duplicate_of: UUID | None
    frames: tuple[StoredFrame, ...] = ()


@dataclass(slots=True)
class _Entry:
    """An Append on its way: who waits for it and until when (loop time)."""

    append: Append
    done: asyncio.Future[frozenset[UUID]]
    deadline: float


@dataclass(slots=True)
class _Notes:
    """What rides along with the next group and vouches for nothing: replies that left, bytes that were refused."""

    replies: dict[UUID, str] = field(default_factory=dict)
    rejects: deque[tuple[UUID, str, bytes, datetime]] = field(default_factory=lambda: deque(maxlen=REJECTS_KEPT))

    def __bool__(self) -> bool:
        return bool(self.replies or self.rejects)

    def give_back(self, notes: _Notes) -> None:
        """The commit they rode with did not take place."""
        self.replies = {**notes.replies, **self.replies}
        self.rejects.extendleft(reversed(notes.rejects))


# One statement, so one round trip and one commit for a whole group. `message_key` finds the resend of a message that
# was completed within the window; the row of the loser is stored, sealed and settled as a duplicate at once.
_APPEND = """
WITH m_in AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                         $10::bytea[], $11::int[], $12::timestamptz[], $13::timestamptz[], $14::text[], $15::smallint[])
        AS t(id, link_id, protocol, state, settled, control_id, message_type, reason,
             digest, bytes, received_at, sealed_at, peer, priority)
), keyed AS (
    INSERT INTO lab.message_key AS k (link_id, digest, organization_id, message_id, sealed_at)
    SELECT link_id, digest, $1, id, sealed_at FROM m_in WHERE digest IS NOT NULL
    ON CONFLICT (link_id, digest) DO UPDATE SET message_id = excluded.message_id, sealed_at = excluded.sealed_at
        WHERE k.message_id = excluded.message_id OR k.sealed_at < excluded.sealed_at - $16::interval
    RETURNING message_id
), m AS (
    INSERT INTO lab.message AS m (id, organization_id, link_id, protocol, state, settled, reply, control_id,
        message_type, reason, digest, bytes, received_at, sealed_at, settled_at, peer, duplicate_of)
    SELECT i.id, $1, i.link_id, i.protocol, i.state,
           CASE WHEN i.digest IS NOT NULL AND keyed.message_id IS NULL THEN 'duplicate' ELSE i.settled END,
           'owed', i.control_id, i.message_type, i.reason, i.digest, i.bytes, i.received_at, i.sealed_at,
           CASE WHEN i.settled IS NOT NULL OR i.digest IS NOT NULL AND keyed.message_id IS NULL THEN i.sealed_at END,
           i.peer, CASE WHEN i.digest IS NOT NULL AND keyed.message_id IS NULL THEN o.message_id END
    FROM m_in i LEFT JOIN keyed ON keyed.message_id = i.id
         LEFT JOIN lab.message_key o ON o.link_id = i.link_id AND o.digest = i.digest
    ON CONFLICT (id) DO UPDATE SET (state, settled, control_id, message_type, reason, digest, bytes, sealed_at,
        settled_at, duplicate_of) = (excluded.state, excluded.settled, excluded.control_id, excluded.message_type,
        excluded.reason, excluded.digest, excluded.bytes, excluded.sealed_at, excluded.settled_at,
        excluded.duplicate_of)
        WHERE m.state = 'receiving' AND excluded.state <> 'receiving'
    RETURNING m.id, m.link_id, m.state, m.settled
), q AS (
    INSERT INTO lab.queue (message_id, organization_id, lane, priority)
    SELECT m.id, $1, m.link_id, i.priority FROM m JOIN m_in i ON i.id = m.id
    WHERE m.settled IS NULL AND m.state <> 'receiving'
    ON CONFLICT (message_id) DO NOTHING
), f AS (
    INSERT INTO lab.frame (id, organization_id, message_id, ordinal, attempt, fn, bytes, start, stop, digest,
                           received_at)
    SELECT id, $1, message_id, ordinal, attempt, fn, bytes, start, stop, digest, received_at
    FROM unnest($17::uuid[], $18::uuid[], $19::int[], $20::smallint[], $21::smallint[], $22::bytea[], $23::int[],
                $24::int[], $25::bytea[], $26::timestamptz[])
        AS t(id, message_id, ordinal, attempt, fn, bytes, start, stop, digest, received_at)
    ON CONFLICT (id) DO NOTHING
), r AS (
    UPDATE lab.message SET reply = t.reply
    FROM unnest($27::uuid[], $28::text[]) AS t(id, reply)
    WHERE lab.message.id = t.id AND lab.message.id IN (
        SELECT id FROM lab.message WHERE id = ANY($27) FOR NO KEY UPDATE SKIP LOCKED)  -- never wait for a decision
    RETURNING lab.message.id
), x AS (
    INSERT INTO lab.rejected_frame (id, organization_id, link_id, reason, bytes, received_at)
    SELECT id, $1, link_id, reason, bytes, received_at
    FROM unnest($29::uuid[], $30::uuid[], $31::text[], $32::bytea[], $33::timestamptz[])
        AS t(id, link_id, reason, bytes, received_at)
), a AS (  -- settled at once, so no decision will leave its row; the message's id serves as the row's
    INSERT INTO lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
                                 address, outcome)
    SELECT m.id, $1, 'link', m.link_id, l.name, 'message.settle', 'message', m.id, i.peer, m.settled
    FROM m JOIN m_in i ON i.id = m.id JOIN lab.link l ON l.id = m.link_id WHERE m.settled IS NOT NULL
    ON CONFLICT (id) DO NOTHING
)
SELECT id, false AS noted FROM m WHERE settled = 'duplicate' UNION ALL SELECT id, true FROM r
"""

# What a link could not seal when its transmission was cut. A message that was never stored, or is sealed, stays so.
_SEAL_CUT = """
WITH m AS (
    UPDATE lab.message m SET state = 'incomplete', control_id = t.control_id, message_type = t.message_type,
        reason = t.reason, bytes = t.bytes, sealed_at = t.sealed_at
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::timestamptz[])
        AS t(id, control_id, message_type, reason, bytes, sealed_at)
    WHERE m.id = t.id AND m.state = 'receiving' RETURNING m.id, m.link_id
), q AS (
    INSERT INTO lab.queue (message_id, organization_id, lane) SELECT id, $1, link_id FROM m
    ON CONFLICT (message_id) DO NOTHING
) SELECT count(*) FROM m
"""

_READ_MESSAGES = """
SELECT id, organization_id, link_id, protocol, state, settled, control_id, message_type, reason, reply, bytes, attempts,
       received_at, sealed_at, settled_at, peer, duplicate_of
FROM lab.message WHERE id = ANY($1)
"""


class Journal:
    """The group-committing writer of one organization. `start()` before, `stop()` after use.

    `resend_window_s`: how long the same bytes on the same link are taken for a resend. `commit_wait_s`: how long an
    append may wait for its commit. `wake` is called after each commit that put a message into the queue.
    """

    def __init__(
        self,
        database: Database,
        organization_id: UUID,
        *,
        resend_window_s: float,
        commit_wait_s: float,
        wake: Callable[[], None],
    ) -> None:
        self._database, self._organization_id = database, organization_id
        self._resend_window_s, self._commit_wait_s, self._wake = resend_window_s, commit_wait_s, wake
        self._waiting: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._notes = _Notes()
        self._cut: dict[UUID, MessageRow] = {}  # to be sealed once the database is back
        self._flush: asyncio.TimerHandle | None = None
        self._arrived = asyncio.Event()
        self._connection: asyncpg.Connection[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.available = True

    async def start(self) -> None:
        """Connect and seal what a former life left open; raises StoreError when the database is not there."""
        await self._connect()
        await self._recover()
        self._task = asyncio.create_task(self._write_forever(), name="journal")

    async def stop(self) -> None:
        """Commit what waits (no longer than an append may wait), then stop. Nothing may be appended afterwards."""
        self._stopping = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        await self._disconnect()

    async def append(self, append: Append) -> frozenset[UUID]:
        """Commit; returns the ids of those of its messages that are resends. Raises StoreError: promise nothing."""
        # One append may be larger than the limit: alone it is taken, else its message never could be.
        if self._stopping or (self._waiting_bytes and self._waiting_bytes + append.size > WAITING_BYTES):
            raise StoreUnavailable("the journal takes nothing more for the moment")
        loop = asyncio.get_running_loop()
        entry = _Entry(append, loop.create_future(), loop.time() + self._commit_wait_s)
        self._waiting.append(entry)
        self._waiting_bytes += append.size
        self._arrived.set()
        try:
            async with asyncio.timeout_at(entry.deadline):  # whatever the writer is doing, the peer gets its answer
                return await entry.done
        except TimeoutError as error:
            raise StoreAmbiguous("the commit is late") from error

    def seal_later(self, rows: Iterable[MessageRow]) -> None:
        """Seal cut messages when the database is back, as far as they are there and still open. Returns at once."""
        self._cut.update((row.id, row) for row in rows)
        self._arrived.set()

    def replied(self, message_id: UUID, sent: bool) -> None:
        """Note that the reply owed for a message left, or could not. Written with the next group, or soon."""
        self._notes.replies[message_id] = "sent" if sent else "unsent"
        self._flush_soon()

    def rejected(self, link_id: UUID, reason: str, data: bytes) -> None:
        """Keep refused bytes (4 kB of each, the newest 256 that wait). Written with the next group, or soon."""
        self._notes.rejects.append((link_id, reason, data[:REJECT_BYTES], datetime.now(UTC)))
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Wake the writer for the notes when no group has taken them along."""
        if self._flush is None and not self._stopping:
            self._flush = asyncio.get_running_loop().call_later(IDLE_FLUSH_S, self._arrived.set)

    # ---- the writer -------------------------------------------------------------------------------------------------

    async def _write_forever(self) -> None:
        while True:
            if self._cut and self.available:
                await self._seal_cut()
            if self._waiting:
                group = self._next_group()
                try:
                    await self._commit(group)
                except Exception as error:  # a fault of ours: nobody in the group may be left waiting
                    log.error("journal writer failed", action="journal.fault", error=type(error).__name__)
                    self._refuse(group, StoreUnavailable("the journal failed"))
            elif self._stopping:
                await self._flush_notes()
                return
            elif not self.available:
                await self._probe()
            else:
                await self._idle()

    async def _idle(self) -> None:
        """Wait for something to write; notes that have waited for company long enough go alone."""
        self._arrived.clear()
        if not self._cut:
            await self._arrived.wait()
        if not self._waiting and not self._stopping:
            await self._flush_notes()

    def _next_group(self) -> list[_Entry]:
        """What waits, up to a group's limits; two with the same digest never share a group (see `_APPEND`)."""
        group: list[_Entry] = []
        size, keys = 0, set[tuple[UUID, bytes]]()
        while self._waiting and len(group) < GROUP_ENTRIES and size < GROUP_BYTES:
            if not keys.isdisjoint(self._waiting[0].append.keys):
                break
            entry = self._waiting.popleft()
            self._waiting_bytes -= entry.append.size
            if entry.done.done():  # its connection is gone and nobody waits: not stored, not promised
                continue
            group.append(entry)
            size += entry.append.size
            keys |= entry.append.keys
        return group

    async def _commit(self, group: list[_Entry], *, with_notes: bool = True) -> None:
        """Commit a group, or refuse each of it. Repeats while the database is away and there is time."""
        loop = asyncio.get_running_loop()
        while group:
            notes = self._take_notes() if with_notes else _Notes()
            try:
                began = loop.time()
                duplicates, queued = await self._write([entry.append for entry in group], notes)
                telemetry.observe_commit(loop.time() - began, len(group))
            except Exception as error:
                store_error = translate(error, committing=True)
                if store_error is None:
                    await self._find_culprit(group, notes, error)
                    return
                self._give_back(notes)
                await self._went_away(error)
                late = [entry for entry in group if loop.time() + PROBE_S >= entry.deadline or self._stopping]
                self._refuse(late, store_error)
                group = [entry for entry in group if entry not in late]
                await asyncio.sleep(PROBE_S)
            else:
                self._came_back()
                for entry in group:
                    if not entry.done.done():
                        entry.done.set_result(duplicates & {row.id for row in entry.append.messages})
                if queued:
                    self._wake()
                return

    async def _find_culprit(self, group: list[_Entry], notes: _Notes, error: Exception) -> None:
        """The group says something the database does not take: refuse only who said it, notes last of all."""
        if notes:
            await self._commit(group, with_notes=False)
            self._give_back(notes)
            await self._flush_notes()
        elif len(group) == 1:
            log.error("journal entry refused", action="journal.poisoned", error=type(error).__name__)
            self._refuse(group, StoreUnavailable("the database refuses these bytes"))
        else:
            for entry in group:
                await self._commit([entry], with_notes=False)

    async def _seal_cut(self) -> None:
        """Seal what links could not seal themselves."""
        rows = list(self._cut.values())
        try:
            connection = await self._connect()
            sealed = await connection.fetchval(
                _SEAL_CUT,
                self._organization_id,
                *_columns(rows, "id", "control_id", "message_type", "reason", "bytes", "sealed_at"),
                timeout=self._commit_wait_s,
            )
        except Exception as error:
            if translate(error, committing=True) is None:  # the next start seals them
                log.error("cut transmissions not sealed", action="journal.fault", error=type(error).__name__)
                self._cut.clear()
            await self._went_away(error)
            return
        for row in rows:
            del self._cut[row.id]
        if sealed:
            log.warning("cut transmissions sealed", action="journal.sealed", messages=sealed)
            self._wake()

    async def _probe(self) -> None:
        """Wait until the database answers, or somebody new has something to say."""
        while not self._waiting and not self._stopping and not self.available:
            try:
                connection = await self._connect()
                await connection.fetchval("SELECT 1", timeout=self._commit_wait_s)
            except Exception as error:  # whatever it is: not yet
                log.debug("journal still cannot commit", action="journal.probe", error=type(error).__name__)
                await self._disconnect()
                await asyncio.sleep(PROBE_S)
            else:
                self._came_back()

    async def _went_away(self, error: Exception) -> None:
        if self.available:
            self.available = False
            log.warning("journal cannot commit", action="journal.down", error=type(error).__name__)
        await self._disconnect()

    def _came_back(self) -> None:
        if not self.available:
            self.available = True
            log.info("journal commits again", action="journal.up")

    @staticmethod
    def _refuse(entries: Iterable[_Entry], error: StoreError) -> None:
        for entry in entries:
            if not entry.done.done():
                entry.done.set_exception(error)

    async def _flush_notes(self) -> None:
        """Write the notes alone. They vouch for nothing: what the database does not take is dropped."""
        notes = self._take_notes()
        if not notes or not self.available:
            self._give_back(notes)
            return
        try:
            await self._write([], notes)
        except Exception as error:
            if translate(error, committing=True) is None:
                log.warning("journal notes lost", action="journal.notes", error=type(error).__name__)
                await self._disconnect()
            else:
                self._give_back(notes)
                await self._went_away(error)

    def _take_notes(self) -> _Notes:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        notes, self._notes = self._notes, _Notes()
        return notes

    def _give_back(self, notes: _Notes) -> None:
        if notes:
            self._notes.give_back(notes)
            self._flush_soon()

    async def _write(self, appends: Sequence[Append], notes: _Notes) -> tuple[frozenset[UUID], bool]:
        """One statement, one commit. Returns the duplicates and whether anything was queued."""
        messages = [row for append in appends for row in append.messages]
        frames = [row for append in appends for row in append.frames]
        replies = list(notes.replies.items())
        connection = await self._connect()
        rows = await connection.fetch(
            _APPEND,
            self._organization_id,
            *_columns(
                messages,
                "id", "link_id", "protocol", "state", "settled", "control_id", "message_type", "reason",
                "digest", "bytes", "received_at", "sealed_at", "peer", "priority",
            ),
            timedelta(seconds=self._resend_window_s),
            [frame_id(row.message_id, row.ordinal, row.attempt) for row in frames],
            *_columns(frames, "message_id", "ordinal", "attempt", "fn", "bytes", "start", "stop"),
            [blake2b(row.bytes, digest_size=16).digest() for row in frames],
            [row.received_at for row in frames],
            [message_id for message_id, _ in replies],
            [reply for _, reply in replies],
            [uuid7() for _ in notes.rejects],
            *([reject[at] for reject in notes.rejects] for at in range(4)),
            timeout=self._commit_wait_s,
        )  # fmt: skip
        noted = {row["id"] for row in rows if row["noted"]}
        self._give_back(_Notes({key: reply for key, reply in replies if key not in noted}))  # locked at the moment
        queued = any(row.state != "receiving" and row.settled is None for row in messages)
        return frozenset(row["id"] for row in rows if not row["noted"]), queued

    async def _connect(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            async with asyncio.timeout(CONNECT_WAIT_S):  # a server may freeze between its first answer and its second
                self._connection = await self._database.dedicated(self._organization_id)
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()  # never waits: the server may be frozen
            self._connection = None

    async def _recover(self) -> None:
        """Seal as incomplete what was still being received when the last process ended."""
        connection = await self._connect()
        sealed = await connection.fetchval(
            """WITH m AS (
                   UPDATE lab.message SET state = 'incomplete', reason = 'restart', sealed_at = now(), reply = 'unsent'
                   WHERE state = 'receiving' RETURNING id, link_id
               ), q AS (
                   INSERT INTO lab.queue (message_id, organization_id, lane) SELECT id, $1, link_id FROM m
                   ON CONFLICT (message_id) DO NOTHING
               ) SELECT count(*) FROM m""",
            self._organization_id,
        )
        if sealed:
            log.warning("cut transmissions sealed", action="journal.recovered", messages=sealed)


def _columns(rows: Sequence[object], *names: str) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in names]


async def read_messages(
    connection: Connection, message_ids: Sequence[UUID], *, with_frames: bool = True
) -> dict[UUID, StoredMessage]:
    """Messages by id, with their frames (last attempt of each ordinal) unless told otherwise; unknown ids left out."""
    heads = await connection.fetch(_READ_MESSAGES, list(message_ids))
    frames: dict[UUID, dict[int, StoredFrame]] = {row["id"]: {} for row in heads}
    if with_frames:
        rows = await connection.fetch(
            """SELECT f.message_id, f.ordinal, f.fn, f.bytes, f.start, f.stop, f.received_at
               FROM unnest($1::uuid[], $2::uuid[]) AS t(low, high)
               JOIN lab.frame f ON f.id >= t.low AND f.id <= t.high ORDER BY f.id""",
            list(frames),
            [UUID(int=message_id.int | (1 << FRAME_BITS) - 1) for message_id in frames],
        )
        for row in rows:  # in order of (ordinal, attempt): the last attempt wins
            frames[row["message_id"]][row["ordinal"]] = StoredFrame(*list(row)[1:])
    return {row["id"]: StoredMessage(**dict(row), frames=tuple(frames[row["id"]].values())) for row in heads}


async def read_message(connection: Connection, message_id: UUID) -> StoredMessage | None:
    """One message with its frames, or None."""
    return (await read_messages(connection, [message_id])).get(message_id)

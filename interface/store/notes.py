"""What is written beside the journal and vouches for nothing: replies that left, bytes that were refused.

No acknowledgement waits for a note, and no note for its fsync. Notes are written together, half a second after the
first of them; while links deliver they wait for up to `LONGEST_WAIT_S`. A crash may take some: `owed` then stands where
a reply may have left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog

from interface.errors import StoreError
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.journal_sql import NOTE_REJECTS, NOTE_REPLIES

log = structlog.get_logger()

REJECTS_KEPT, REJECT_BYTES = 256, 4096  # refused bytes that wait to be written, and how much of each is kept
REPLIES_KEPT, REPLIES_AT_ONCE = 16_384, 256
FLUSH_S, LONGEST_WAIT_S, RETRY_S = 0.5, 5.0, 1.0

Reject = tuple[UUID, str, bytes, datetime]


class Notes:
    """The notes of one organization's links. `busy`: whether links deliver at the moment."""

    def __init__(self, database: Database, organization_id: UUID, busy: Callable[[], bool]) -> None:
        self._database, self._organization_id, self._busy = database, organization_id, busy
        self._replies: dict[UUID, str] = {}
        self._rejects: deque[Reject] = deque(maxlen=REJECTS_KEPT)
        self._arrived, self._stopped = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_forever(), name="notes")

    async def stop(self) -> None:
        """Write what there is, if that can be done at once."""
        self._stopped.set()
        self._arrived.set()
        if self._task is not None:
            await self._task

    def replied(self, message_id: UUID, sent: bool) -> None:
        """The reply owed for a message left, or could not."""
        if len(self._replies) >= REPLIES_KEPT:  # memory is bounded; of the oldest it is not known any more
            del self._replies[next(iter(self._replies))]
        self._replies[message_id] = "sent" if sent else "unsent"
        self._arrived.set()

    def rejected(self, link_id: UUID, reason: str, data: bytes) -> None:
        """Bytes that were refused: 4 kB of each are kept, the newest 256 that wait."""
        self._rejects.append((link_id, reason, data[:REJECT_BYTES], datetime.now(UTC)))
        self._arrived.set()

    async def _write_forever(self) -> None:
        while not self._stopped.is_set():
            await self._arrived.wait()
            await self._pause()
            self._arrived.clear()
            try:
                await self._write()
            except StoreError:
                if not self._stopped.is_set():
                    self._arrived.set()
                    await self._sleep(RETRY_S)
        try:
            await self._write()
        except StoreError as error:
            log.info("notes not written", action="notes.lost", error=error.slug)

    async def _pause(self) -> None:
        """Wait for company; and for the links, which go first, as long as that may be."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST_WAIT_S
        await self._sleep(FLUSH_S)
        while self._busy() and loop.time() < until and not self._stopped.is_set():
            await self._sleep(FLUSH_S / 5)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return

    async def _write(self) -> None:
        """Raises StoreError; then what was not written is kept."""
        await self._write_rejects()
        replies, self._replies = self._replies, {}
        ids = list(replies)
        for at in range(0, len(ids), REPLIES_AT_ONCE):
            some = ids[at : at + REPLIES_AT_ONCE]
            try:
                noted = await self._run(NOTE_REPLIES, some, [replies[one] for one in some])
            except StoreError:
                self._replies = {one: replies[one] for one in ids[at:]} | self._replies
                raise
            if left := {one: replies[one] for one in some if one not in noted}:  # locked at the moment, or not there
                self._replies = left | self._replies
                self._arrived.set()

    async def _write_rejects(self) -> None:
        rejects = list(self._rejects)
        self._rejects.clear()
        try:
            await self._keep(rejects)
        except StoreError:
            self._rejects.extendleft(reversed(rejects))
            raise
        except Exception:  # one of them says what the database does not take: it alone is dropped
            for reject in rejects:
                try:
                    await self._keep([reject])
                except StoreError:
                    raise
                except Exception as error:
                    log.warning("refused bytes not kept", action="notes.lost", error=type(error).__name__)

    async def _keep(self, rejects: Sequence[Reject]) -> None:
        if rejects:
            columns = ([reject[at] for reject in rejects] for at in range(4))
            await self._run(NOTE_REJECTS, self._organization_id, [uuid7() for _ in rejects], *columns)

    async def _run(self, statement: str, *arguments: object) -> frozenset[UUID]:
        async with self._database.transaction(self._organization_id) as connection:
            await connection.execute(
                "SET LOCAL synchronous_commit = off; SET LOCAL plan_cache_mode = force_custom_plan"
            )
            return frozenset(row["id"] for row in await connection.fetch(statement, *arguments))

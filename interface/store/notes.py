"""What is written beside the journal and vouches for nothing: that replies left, or could not; that they were taken.

No acknowledgement waits for a note, and no note for its fsync. Notes are written together, half a second after the
first of them; while links deliver they wait for up to `LONGEST_WAIT_S`. A crash may take some: `owed` then stands where
a reply may have left.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

import structlog

from interface.errors import StoreError
from interface.store.db import Database
from interface.store.journal_sql import NOTE_REPLIES, NOTE_TAKEN

log = structlog.get_logger()

REPLIES_KEPT, REPLIES_AT_ONCE = 16_384, 256
FLUSH_S, LONGEST_WAIT_S, RETRY_S = 0.5, 5.0, 1.0


class Notes:
    """The notes of one organization's links. `busy`: whether links deliver at the moment."""

    def __init__(self, database: Database, organization_id: UUID, busy: Callable[[], bool]) -> None:
        self._database, self._organization_id, self._busy = database, organization_id, busy
        self._replies: OrderedDict[UUID, str] = OrderedDict()
        self._taken: OrderedDict[UUID, None] = OrderedDict()
        self._arrived, self._stopped = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False  # by what no outage is

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
            self._replies.popitem(last=False)
        self._replies[message_id] = "sent" if sent else "unsent"
        self._arrived.set()

    def taken(self, message_id: UUID) -> None:
        """The message's sender went on after the reply."""
        if len(self._taken) >= REPLIES_KEPT:
            self._taken.popitem(last=False)
        self._taken[message_id] = None
        self._arrived.set()

    async def _write_forever(self) -> None:
        while not self._stopped.is_set():
            await self._arrived.wait()
            await self._pause()
            self._arrived.clear()
            if not await self._written() and not self._stopped.is_set():
                self._arrived.set()
                await self._sleep(RETRY_S)
        if not await self._written():
            log.info("notes not written", action="notes.lost")

    async def _written(self) -> bool:
        """Write what there is; else it is kept, whatever the error was: nobody else writes any until the next start."""
        try:
            await self._write()
        except StoreError:
            return False
        except Exception as error:
            if not self._failing:
                self._failing = True
                log.error("notes not written", action="notes.failed", error=type(error).__name__)
            return False
        self._failing = False
        return True

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
        """What was not written where it raises is kept."""
        await self._write_taken()
        replies, self._replies = self._replies, OrderedDict()
        ids = list(replies)
        for at in range(0, len(ids), REPLIES_AT_ONCE):
            some = ids[at : at + REPLIES_AT_ONCE]
            try:
                noted = await self._run(NOTE_REPLIES, some, [replies[one] for one in some])
            except Exception:
                self._replies = OrderedDict((one, replies[one]) for one in ids[at:]) | self._replies
                raise
            if left := {one: replies[one] for one in some if one not in noted}:  # locked at the moment, or not there
                self._replies = OrderedDict(left) | self._replies
                self._arrived.set()

    async def _write_taken(self) -> None:
        while self._taken:
            some = list(self._taken)[:REPLIES_AT_ONCE]
            await self._run(NOTE_TAKEN, some)
            for one in some:
                self._taken.pop(one, None)

    async def _run(self, statement: str, *arguments: object) -> frozenset[UUID]:
        async with self._database.transaction(self._organization_id) as connection:
            await connection.execute(
                "SET LOCAL synchronous_commit = off; SET LOCAL plan_cache_mode = force_custom_plan"
            )
            return frozenset(row[0] for row in await connection.fetch(statement, *arguments))

"""Keeps the feed of changes sealed, and wakes who follows it; see `store.changes`.

Every process does so for the organizations that it knows: those of its links, and those for which somebody has asked.
A pass excludes every other, whichever process makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from uuid import UUID

import structlog

from interface.errors import StoreError
from interface.store import changes
from interface.store.db import Database

POLL_S: Final = 0.5
_EACH_S: Final = 0.02  # of many organizations, each is looked at less often

log = structlog.get_logger(__name__)


class Feed:
    """The ends of the feeds, as this process knows them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ends: dict[UUID, int] = {}
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._poked = asyncio.Event()
        self._moving: set[asyncio.Event] = set()

    @property
    def organizations(self) -> tuple[UUID, ...]:
        """Those that are looked at."""
        return tuple(self._ends)

    def end(self, organization_id: UUID) -> int:
        """The position of the last row that is known of, whatever its kind."""
        return self._ends.get(organization_id, 0)

    def know(self, organization_id: UUID) -> None:
        """Look at this organization's feed from now on."""
        self._ends.setdefault(organization_id, 0)

    def poke(self, organization_id: UUID) -> None:
        """Something was committed that others may wait for: look now. Only a shorter way."""
        self.know(organization_id)
        self._poked.set()

    async def look(self, organization_id: UUID) -> int:
        """Seal what is committed, wake who waits for more than there was; returns the end. Raises StoreError."""
        # By index: a feed that grows by thousands of rows a minute is larger than a plan is made for.
        async with self._database.by_index(organization_id) as connection:
            more = await changes.unsealed(connection)
            end = 0 if more else await changes.last_position(connection)
        while more:
            async with self._database.by_index(organization_id) as connection:
                more = await changes.seal(connection, organization_id) == changes.BATCH
                end = await changes.last_position(connection)
        if end != self._ends.get(organization_id):
            for waiting in (*self._waiting.get(organization_id, ()), *self._moving):
                waiting.set()
        self._ends[organization_id] = end
        return end

    async def wait(self, organization_id: UUID, position: int, timeout_s: float) -> bool:
        """Return when there is something after `position`, or after `timeout_s`; whether there is."""
        self.know(organization_id)
        waiting = asyncio.Event()
        self._waiting.setdefault(organization_id, set()).add(waiting)
        try:
            async with asyncio.timeout(timeout_s):
                while self._ends[organization_id] <= position:
                    waiting.clear()
                    await waiting.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting[organization_id].discard(waiting)
            if not self._waiting[organization_id]:
                del self._waiting[organization_id]
        return True

    async def moved(self, seen: Mapping[UUID, int], timeout_s: float) -> Mapping[UUID, int]:
        """The ends of all feeds, as soon as they are other than `seen`, or after `timeout_s`."""
        waiting = asyncio.Event()
        self._moving.add(waiting)
        try:
            async with asyncio.timeout(timeout_s):
                while self._ends == seen:
                    waiting.clear()
                    await waiting.wait()
        except TimeoutError:
            pass
        finally:
            self._moving.discard(waiting)
        return dict(self._ends)

    async def run(self, organization_ids: Callable[[], Iterable[UUID]]) -> None:
        """Look until cancelled, at the organizations of `organization_ids` and those that became known."""
        while True:
            for organization_id in organization_ids():
                self.know(organization_id)
            self._poked.clear()
            for organization_id in self.organizations:
                try:
                    await self.look(organization_id)
                except StoreError as error:
                    log.warning("changes not sealed", action="changes.seal", error=error.slug)
                except Exception as error:  # what ends this loop keeps every EMR from being told, until the next start
                    log.error("changes not sealed", action="changes.seal", exc_info=error)
            pause_s = max(POLL_S, _EACH_S * len(self._ends))
            try:
                await asyncio.wait_for(self._poked.wait(), pause_s)
            except TimeoutError:
                continue

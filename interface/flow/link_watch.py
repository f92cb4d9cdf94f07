"""Tells the laboratory's people when a link goes down or comes up: a row of the feed of changes each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from interface.errors import StoreError
from interface.store import changes
from interface.store.db import Database

WATCH_S: Final = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LinkUp:
    organization_id: UUID
    link_id: UUID
    up: bool


class LinkWatch:
    """What is told is what it is now and was not before; how links are at the start is nothing to tell."""

    def __init__(self, database: Database, links: Callable[[], Iterable[LinkUp]]) -> None:
        self._database, self._links = database, links
        self._known: dict[UUID, bool] = {one.link_id: one.up for one in links()}

    async def look(self) -> None:
        """Raises StoreError; then it is told at the next look."""
        for one in self._links():
            if self._known.get(one.link_id, one.up) != one.up:
                async with self._database.transaction(one.organization_id) as connection:
                    what = "up" if one.up else "down"
                    await changes.note_alert(connection, one.organization_id, "link", one.link_id, what)
            self._known[one.link_id] = one.up

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self.look()
            except StoreError as error:
                log.warning("a link's change is not told yet", action="links.watch", error=error.slug)

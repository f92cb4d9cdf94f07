"""Links that are down as alerts: entered when one goes down, recovered when it is up or configured no more."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from interface.domain.alerts import AlertKind, Subject
from interface.errors import StoreError
from interface.flow import alerting
from interface.store.db import Database

WATCH_S: Final = 1.0
START_LOOKS: Final = 15  # so long a link that was not up yet may take to be so

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LinkUp:
    organization_id: UUID
    name: str
    up: bool
    fault: str = ""  # why it is not


class LinkWatch:
    """The first look settles what stood when the daemon was stopped; later ones ask only for what is new."""

    def __init__(self, database: Database, links: Callable[[], Iterable[LinkUp]]) -> None:
        self._database, self._links = database, links
        self._settled: dict[UUID, frozenset[Subject]] = {}  # those that are down
        self._begun: set[tuple[UUID, str]] = set()  # were up once, or had the time for it
        self._looks = 0

    async def look(self) -> None:
        """Raises StoreError; then it is told at the next look."""
        down: dict[UUID, dict[Subject, str]] = defaultdict(dict)
        starting = self._looks < START_LOOKS
        for one in self._links():
            found, key = down[one.organization_id], (one.organization_id, one.name)
            if one.up or not starting:
                self._begun.add(key)
            if not one.up and key in self._begun:
                found[Subject("link", one.name)] = one.fault
        for organization_id in (*down, *(gone for gone in self._settled if gone not in down)):
            found = down.get(organization_id, {})
            if self._settled.get(organization_id) != found.keys():
                async with self._database.transaction(organization_id) as connection:
                    await alerting.settle(connection, organization_id, AlertKind.LINK_DOWN, found)
                self._settled[organization_id] = frozenset(found)
        self._looks += 1

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self.look()
            except StoreError as error:
                log.warning("a link's change is not told yet", action="links.watch", error=error.slug)

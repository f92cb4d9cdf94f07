"""Links that are down as alerts: entered when one goes down, recovered when it is up or configured no more.

Each daemon tells of the links that it serves, and leaves alone what another has.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from interface.domain.alerts import AlertKind, Subject
from interface.errors import StoreError
from interface.flow import alerting
from interface.store import leases
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


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a look has found in an organization: the links that there are here, and those of them that are down."""

    links: frozenset[str] = frozenset()
    down: frozenset[Subject] = frozenset()


def _is_here(others: Collection[str], link: Subject) -> bool:
    return link.name not in others


class LinkWatch:
    """The first look settles what stood when the daemon was stopped; later ones ask only for what is new."""

    def __init__(self, database: Database, links: Callable[[], Iterable[LinkUp]]) -> None:
        self._database, self._links = database, links
        self._settled: dict[UUID, _Looked] = {}
        self._begun: set[tuple[UUID, str]] = set()  # were up once, or had the time for it
        self._looks = 0

    async def look(self) -> None:
        """Raises what one laboratory was not told for, when the others were; it is told at the next look."""
        down: dict[UUID, dict[Subject, str]] = defaultdict(dict)
        here: dict[UUID, set[str]] = defaultdict(set)
        starting = self._looks < START_LOOKS
        failed: Exception | None = None
        for one in self._links():
            found, key = down[one.organization_id], (one.organization_id, one.name)
            here[one.organization_id].add(one.name)
            if one.up or not starting:
                self._begun.add(key)
            if not one.up and key in self._begun:
                found[Subject("link", one.name)] = one.fault
        for organization_id in (*down, *(gone for gone in self._settled if gone not in down)):
            found = down.get(organization_id, {})
            looked = _Looked(frozenset(here[organization_id]), frozenset(found))
            if self._settled.get(organization_id) != looked:
                try:
                    async with self._database.transaction(organization_id) as connection:
                        mine = partial(_is_here, set((await leases.elsewhere(connection)).values()))
                        await alerting.settle(connection, organization_id, AlertKind.LINK_DOWN, found, mine=mine)
                except Exception as error:  # nobody would be told of a link of those behind it
                    failed = failed or error
                else:
                    self._settled[organization_id] = looked
        self._looks += 1
        if failed is not None:
            raise failed

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self.look()
            except StoreError as error:
                log.warning("a link's change is not told yet", action="links.watch", error=error.slug)
            except Exception as error:  # nobody would be told of a link that is down, until the next start
                log.error("a link's change is not told yet", action="links.watch", exc_info=error)

"""What the analyzer of a link can be told to measure: its code map read backwards, kept as long as no map changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from interface.domain.mapping import Effective
from interface.domain.routing import menu
from interface.flow.context import LinkContext
from interface.store import dispatch
from interface.store.db import Connection

# A span of a map begins or ends without a change being made at that moment: as long as results are decided by a map.
KEPT = timedelta(seconds=15)
MOST_LINKS = 1024


@dataclass(slots=True)
class Menu:
    """`changes`: the number of the last change of any map that it knows of."""

    changes: int
    read_at: datetime
    found: Effective
    _by_type: dict[str, dict[str, dict[str, tuple[bool, bool]]]] = field(default_factory=dict)

    def of(self, specimen_type: str) -> Mapping[str, Mapping[str, tuple[bool, bool]]]:
        """By test: see `domain.routing.menu`."""
        known = self._by_type.get(specimen_type)
        if known is None:
            known = self._by_type[specimen_type] = menu(self.found, specimen_type)
        return known


_menus: dict[tuple[UUID, str], Menu] = {}


def menu_at_hand(link: LinkContext, changes: int, now: datetime) -> Menu | None:
    """The link's menu, unless it is old or the number of the last change is another."""
    known = _menus.get((link.link_id, link.driver.id))
    return known if known is not None and known.changes == changes and abs(now - known.read_at) < KEPT else None


async def menu_of(connection: Connection, link: LinkContext, changes: int, now: datetime) -> Menu:
    """The link's menu, read anew where it is not at hand."""
    if (known := menu_at_hand(link, changes, now)) is not None:
        return known
    if len(_menus) >= MOST_LINKS:
        _menus.clear()
    made = Menu(changes, now, await dispatch.code_map(connection, link.driver.id, link.link_id))
    _menus[link.link_id, link.driver.id] = made
    return made

"""Page links that say nothing: a random name for a search and a place in it, kept by the server.

A search may carry a patient's name or number; a link that carried the search on would put these into the logs of every
proxy on the way (DESIGN §1.9). The names live in memory: after a restart, or an hour, a client searches again.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.errors import ApiError
from interface.store.query import Cursor
from interface.store.search.engine import Place

MOST_PAGES, PAGE_LIFETIME_S = 20_000, 3600.0


@dataclass(frozen=True, slots=True)
class NextPage:
    """Where a search goes on. `kind`: what it searches; `parameters` in order, as applied; `total` as first counted.

    `after`: the last row of a list; `place`: the last resource of a FHIR search, which was begun at `asked_at`.
    """

    kind: str
    actor_id: UUID | None
    organization_id: UUID
    parameters: tuple[tuple[str, str], ...]
    after: Cursor | None = None
    place: Place | None = None
    total: int | None = None
    asked_at: datetime | None = None


class Pages:
    """The pages to come of the searches of the last hour; the oldest go first when there are too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, NextPage]] = OrderedDict()

    def keep(self, page: NextPage) -> str:
        """A name for the page, good for PAGE_LIFETIME_S."""
        now = self._clock()
        while self._kept and (len(self._kept) >= MOST_PAGES or next(iter(self._kept.values()))[0] < now):
            self._kept.popitem(last=False)
        name = secrets.token_urlsafe(18)
        self._kept[name] = (now + PAGE_LIFETIME_S, page)
        return name

    def find(self, name: str, kind: str, actor_id: UUID | None, organization_id: UUID) -> NextPage:
        """The page of that name; another actor's does not exist. Raises ApiError 410 (issue type `expired`)."""
        until, page = self._kept.get(name, (0.0, None))
        mine = page is not None and (page.kind, page.actor_id, page.organization_id) == (
            kind,
            actor_id,
            organization_id,
        )
        if page is None or not mine or until < self._clock():
            raise ApiError(410, "expired", "this page is no longer there; search again")
        return page

"""Resources outside a request: what a subscription, an export or the feed of changes may tell, by the same search.

What an EMR may not see is not found; a scope's query is one more search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.api.fhir.routes import TYPES, Match
from interface.api.fhir.search import Criteria, read_search
from interface.domain.permissions import Permission
from interface.domain.views import Audience
from interface.errors import ApiError
from interface.store.db import Connection
from interface.store.query import Cursor, Page

_TYPES = {kind.name: kind for kind in TYPES}
EVERYTHING: tuple[tuple[tuple[str, str], ...], ...] = ((),)
Parameters = tuple[tuple[str, str], ...]
_RESULT_CONTROL = (
    "_count",
    "_sort",
    "_include",
    "_revinclude",
    "_total",
    "_summary",
    "_elements",
    "_format",
    "_cursor",
)


@dataclass(frozen=True, slots=True)
class Reader:
    """How resources are read: as which audience, and under which address they refer to each other."""

    audience: Audience
    base_url: str

    def check(self, type: str, parameters: Parameters) -> None:
        """Raise ApiError for what a search of this type would refuse, or what says how to show what is found."""
        if type not in _TYPES:
            raise ApiError(422, "not-supported", f"{type[:60]!r} cannot be searched here")
        for name, _ in parameters:
            if name.partition(":")[0] in _RESULT_CONTROL:
                raise ApiError(422, "not-supported", f"{name} has no meaning here: it does not say which resources")
        self._criteria(type, parameters)

    async def among(
        self,
        connection: Connection,
        type: str,
        ids: Sequence[UUID],
        parameters: Parameters,
        within: Sequence[Parameters],
    ) -> dict[UUID, Match]:
        """Those of `ids` that meet the parameters and one of `within` (`permissions.restrictions`), and are seen."""
        found: dict[UUID, Match] = {}
        for narrowed in within if ids else ():
            criteria = self._criteria(type, (*parameters, *narrowed))
            criteria.among("_id", list(ids))
            if criteria.nothing:
                continue
            page = Page(limit=max(len(ids), 1))
            for row in await _TYPES[type].rows(connection, criteria, self.audience, page):
                found.update((match.id, match) for match in row if match.resource and match.id in criteria.sets["_id"])
        return found

    async def page(
        self,
        connection: Connection,
        type: str,
        parameters: Parameters,
        since: datetime | None,
        after: Cursor | None,
        limit: int,
    ) -> tuple[list[Match], Cursor | None]:
        """The next resources in the order of their last change, and where to go on; None at the end."""
        criteria = self._criteria(type, parameters)
        if criteria.nothing:
            return [], None
        rows = await _TYPES[type].rows(connection, criteria, self.audience, Page(since=since, after=after, limit=limit))
        matches = [match for row in rows for match in row if match.resource]
        return matches, rows[-1][0].at if len(rows) == limit else None

    def _criteria(self, type: str, parameters: Parameters) -> Criteria:
        criteria, _ = read_search(type, parameters, self.base_url, strict=True)
        return criteria


def permission_of(type: str) -> Permission:
    """What a user needs to read resources of a type."""
    return _TYPES[type].permission

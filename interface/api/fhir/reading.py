"""Resources outside a request: what a subscription, an export or the feed of changes may tell, by the same search.

What an EMR may not see is not found; a scope's query is one more search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from interface.api.fhir import search
from interface.api.fhir.page import shown
from interface.api.fhir.search import CONTROLS
from interface.api.fhir.types import TYPES, AnyShown
from interface.domain.permissions import Permission, Restriction, restrictions
from interface.domain.search import All, Among, Is, Moment, Node, Prefix
from interface.domain.views import Audience
from interface.errors import ApiError
from interface.store.db import Connection
from interface.store.search.engine import Order, Place, Rows, find_places
from interface.store.search.kinds import NEVER_SAID, kinds

EVERYTHING: tuple[tuple[tuple[str, str], ...], ...] = ((),)
Parameters = tuple[tuple[str, str], ...]
_BY_CHANGE = Order((("_lastUpdated", False),))
_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reader:
    """How resources are read: as which audience, under which address they refer to each other, and (`may_search`) by
    which other types they may be searched, in a chain or `_has`."""

    audience: Audience
    base_url: str
    may_search: Mapping[str, tuple[Restriction, ...]] = field(default_factory=dict)

    def of(self, scopes: Iterable[str]) -> Reader:
        """The same for a client with these scopes: what leads from one type to another needs both."""
        held = tuple(scopes)
        return replace(self, may_search={type: restrictions(held, type, "s") for type in TYPES})

    def check(self, type: str, parameters: Parameters) -> None:
        """Raise ApiError for what a search of this type would refuse, or what says how to show what is found."""
        if type not in TYPES:
            raise ApiError(422, "not-supported", f"{type[:60]!r} cannot be searched here")
        for name, _ in parameters:
            if name.partition(":")[0] in (*CONTROLS, "_cursor"):
                raise ApiError(422, "not-supported", f"{name} has no meaning here: it does not say which resources")
            if name in NEVER_SAID:
                raise ApiError(422, "not-supported", f"nothing here says a {name}: nothing would ever be found")
        self._where(type, parameters, EVERYTHING)

    async def among(
        self,
        connection: Connection,
        type: str,
        ids: Sequence[UUID],
        parameters: Parameters,
        within: Sequence[Parameters],
    ) -> dict[UUID, AnyShown]:
        """Those of `ids` that meet the parameters and one of `within` (`permissions.restrictions`), and are seen."""
        if not ids or not within:
            return {}
        rows = Rows(type, All((Among(tuple(ids)), self._where(type, parameters, within))))
        places = await find_places(connection, kinds(self.audience), rows, Order(), None, len(ids))
        found = await shown(connection, type, [place.id for place in places], self.audience)
        return {one.id: one for one in found}

    async def page(
        self,
        connection: Connection,
        type: str,
        parameters: Parameters,
        since: datetime | None,
        after: Place | None,
        limit: int,
        within: Sequence[Parameters] = EVERYTHING,
    ) -> tuple[list[AnyShown], Place | None]:
        """The next resources in the order of their last change, and where to go on; None at the end."""
        where = self._where(type, parameters, within)
        if since is not None:
            where = All((where, Is("_lastUpdated", (Moment(Prefix.GE, since, _LAST),))))
        rows = Rows(type, where)
        places = await find_places(connection, kinds(self.audience), rows, _BY_CHANGE, after, limit)
        found = await shown(connection, type, [place.id for place in places], self.audience)
        return found, places[-1] if len(places) == limit else None

    def _where(self, type: str, parameters: Parameters, within: Sequence[Parameters]) -> Node:
        allowed = {**self.may_search, type: tuple(map(Restriction, within))}
        reader = search.Reader(kinds(self.audience), allowed, self.base_url, datetime.now(UTC))
        return reader.search(type, parameters, strict=True).where


def permission_of(type: str) -> Permission:
    """What a user needs to read resources of a type."""
    return TYPES[type].permission

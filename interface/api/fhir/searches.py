"""Searches that are in flight at the same moment: those of one form share a statement, which costs more than its rows.

Only searches for what is of one patient, specimen or the like: how long one takes, those that share the statement wait;
for one that the disk is slow for, those that come after it do not. A statement begins after each of those came that
share it, none is of two organizations or audiences, and nothing is remembered. Where it can be told from the address
what is searched, who asks is found by the same statement (`search_along`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Final, Generic, TypeAlias, TypeVar
from uuid import UUID

from aiohttp import web

from interface.api.context import services
from interface.api.fhir.negotiation import strict
from interface.api.fhir.page import Found, find_page
from interface.api.fhir.search import Reader, Search, Summary
from interface.api.fhir.types import TYPES
from interface.domain.permissions import Restriction
from interface.domain.views import Audience
from interface.errors import ApiError
from interface.flow.actors import FindHolder
from interface.store.actors import TokenHolder
from interface.store.db import Database
from interface.store.search.along import Asked, Told, find_along
from interface.store.search.engine import Form, Place, Row, Rows, TooCostly, find_together
from interface.store.search.kinds import kinds
from interface.store.search.shapes import Known, Shapes
from interface.store.together import Together

MOST_TOGETHER, TURNS = 8, 4
PATIENCE_S = 0.03  # with what is in memory a statement takes 3 ms
MOST_FORMS = 64  # that are remembered; EMRs ask in few

_Values: TypeAlias = Sequence[object]
_Wanted = TypeVar("_Wanted")
_Had = TypeVar("_Had")


@cache
def _shapes(audience: Audience) -> Shapes:
    return Shapes(kinds(audience))


class _Forms(Generic[_Wanted, _Had]):
    """What is asked for together, by organization and form."""

    def __init__(self, find: Callable[[UUID, Form, Sequence[_Wanted]], Awaitable[Sequence[_Had]]]) -> None:
        self._find = find
        self._asked: OrderedDict[tuple[UUID, Form], Together[_Wanted, _Had]] = OrderedDict()

    async def want(self, organization_id: UUID, form: Form, one: _Wanted) -> _Had:
        key = organization_id, form
        asked = self._asked.get(key)
        if asked is None:
            find = partial(self._find, organization_id, form)
            asked = self._asked[key] = Together(find, MOST_TOGETHER, TURNS, patience_s=PATIENCE_S)
            if len(self._asked) > MOST_FORMS:
                self._asked.popitem(last=False)  # who waits in it is served all the same
        self._asked.move_to_end(key)
        return await asked.want(one)


class Searches:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages: _Forms[_Values, list[Row]] = _Forms(self._find)
        self._along: _Forms[Asked, Told | None] = _Forms(self._find_along)

    async def page(self, organization_id: UUID, search: Search, audience: Audience, after: Place | None) -> Found:
        """As `find_page`. Raises TooCostly."""
        known = known_page(search, audience, after)
        if known is not None and known.form is not None:
            rows = await self._pages.want(organization_id, known.form, known.page.values)
            return _shown(search, known, rows, audience, after)
        async with self._database.searching(organization_id) as connection:
            return await find_page(connection, search, audience, after)

    async def along(
        self, organization_id: UUID, digest: bytes, search: Search, known: Known, form: Form, audience: Audience
    ) -> tuple[TokenHolder, Found] | None:
        """Whose the token is, and the first page of what is searched; None where it is not valid. Raises TooCostly."""
        told = await self._along.want(organization_id, form, Asked(digest, known.page.values))
        return (told.holder, _shown(search, known, told.rows, audience, None)) if told is not None else None

    async def _find(self, organization_id: UUID, form: Form, asked: Sequence[_Values]) -> list[list[Row]]:
        async with self._database.searching(organization_id) as connection:
            return await find_together(connection, form, asked)

    async def _find_along(self, organization_id: UUID, form: Form, asked: Sequence[Asked]) -> list[Told | None]:
        async with self._database.searching(organization_id) as connection:
            return await find_along(connection, form, asked)


def known_page(search: Search, audience: Audience, after: Place | None) -> Known | None:
    """The statement of a search whose page is all that is wanted, and that shows what the statement finds."""
    more = search.includes or search.total or search.summary is Summary.COUNT
    if more or TYPES[search.kind].read is None:
        return None
    return _shapes(audience).page(Rows(search.kind, search.where), search.order, after, search.count)


def _shown(search: Search, known: Known, rows: Sequence[Row], audience: Audience, after: Place | None) -> Found:
    read = TYPES[search.kind].read
    assert read is not None  # noqa: S101 - see `known_page`
    found, following = known.page.page(rows)
    total = len(found) if after is None and following is None else None
    return Found([read(row, audience) for row in found], [], following, total)


SEARCHES: web.AppKey[Searches] = web.AppKey("searches", Searches)


# ---- with who asks --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ahead:
    """A search that was read before it was known who asks, as who may see everything of the type; what it found is for
    no one else."""

    search: Search
    asked_at: datetime
    found: Found | TooCostly | None = None


AHEAD: Final = web.RequestKey("ahead", Ahead)


def search_along(kind: str, request: web.Request) -> FindHolder | None:
    """What finds who asks together with what they search, and leaves it in the request's AHEAD; None for a search that
    is not for what is of one patient or the like, leads to other types or goes on after a page."""
    given = list(request.query.items())
    if request.method != "GET" or any(name == "_cursor" for name, _ in given):
        return None
    served, asked_at = services(request), datetime.now(UTC)
    reader = Reader(kinds(served.emr), {kind: (Restriction(),)}, served.base_url, asked_at)
    try:
        search = reader.search(kind, given, strict(request))
    except ApiError:
        return None  # it is said to who asks, once that is known
    known = known_page(search, served.emr, None)
    form = known.form if known is not None else None
    if known is None or form is None:
        return None
    return partial(_find, request, Ahead(search, asked_at), known, form)


async def _find(
    request: web.Request, ahead: Ahead, known: Known, form: Form, organization_id: UUID, digest: bytes
) -> TokenHolder | None:
    served = services(request)
    try:
        found = await request.app[SEARCHES].along(organization_id, digest, ahead.search, known, form, served.emr)
    except TooCostly as error:
        ahead.found = error
        holder = await served.tokens.holder(organization_id, digest)
    else:
        holder, ahead.found = found or (None, None)
    request[AHEAD] = ahead
    return holder

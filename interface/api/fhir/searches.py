"""Searches that are in flight at the same moment: those of one form share a statement, which costs more than its rows.

Only searches for what is of one patient, specimen or the like: how long one takes, those that share the statement wait;
for one that the disk is slow for, those that come after it do not. A statement begins after each of those came that
share it, none is of two organizations or audiences, and nothing is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache, partial
from typing import TypeAlias
from uuid import UUID

from aiohttp import web

from interface.api.fhir.page import Found, find_page
from interface.api.fhir.search import Search, Summary
from interface.api.fhir.types import TYPES
from interface.domain.views import Audience
from interface.store.db import Database
from interface.store.search.engine import Form, Place, Row, Rows, find_together
from interface.store.search.kinds import kinds
from interface.store.search.shapes import Shapes
from interface.store.together import Together

MOST_TOGETHER = 8
PATIENCE_S = 0.03  # with what is in memory a statement takes 3 ms
MOST_FORMS = 64  # that are remembered; EMRs ask in few

_Values: TypeAlias = Sequence[object]


@cache
def _shapes(audience: Audience) -> Shapes:
    return Shapes(kinds(audience))


class Searches:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: OrderedDict[tuple[UUID, Form], Together[_Values, list[Row]]] = OrderedDict()

    async def page(self, organization_id: UUID, search: Search, audience: Audience, after: Place | None) -> Found:
        """As `find_page`. Raises TooCostly."""
        read, more = TYPES[search.kind].read, search.includes or search.total or search.summary is Summary.COUNT
        if read is not None and not more:
            known = _shapes(audience).page(Rows(search.kind, search.where), search.order, after, search.count)
            if known.form is not None:
                found, following = known.page.page(await self._of(organization_id, known.form).want(known.page.values))
                total = len(found) if after is None and following is None else None
                return Found([read(row, audience) for row in found], [], following, total)
        async with self._database.searching(organization_id) as connection:
            return await find_page(connection, search, audience, after)

    def _of(self, organization_id: UUID, form: Form) -> Together[_Values, list[Row]]:
        key = organization_id, form
        asked = self._asked.get(key)
        if asked is None:
            find = partial(self._find, organization_id, form)
            asked = self._asked[key] = Together(find, MOST_TOGETHER, patience_s=PATIENCE_S)
            if len(self._asked) > MOST_FORMS:
                self._asked.popitem(last=False)  # who waits in it is served all the same
        self._asked.move_to_end(key)
        return asked

    async def _find(self, organization_id: UUID, form: Form, asked: Sequence[_Values]) -> list[list[Row]]:
        async with self._database.searching(organization_id) as connection:
            return await find_together(connection, form, asked)


SEARCHES: web.AppKey[Searches] = web.AppKey("searches", Searches)

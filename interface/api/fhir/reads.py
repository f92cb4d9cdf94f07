"""Reads of one resource by its id. Those in flight in a process share statements: one costs more than its rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias
from uuid import UUID

from aiohttp import web

from interface.api.fhir.page import read_one, shown
from interface.api.fhir.search import EVERYTHING
from interface.api.fhir.types import TYPES, AnyShown
from interface.domain.search import Node
from interface.domain.views import Audience
from interface.store.db import Database
from interface.store.together import Together

MOST_TOGETHER = 16  # of one statement: what is read with many waits for all of them
TURNS = 4

_Group: TypeAlias = tuple[UUID, str, Audience]  # an organization, a type, and who reads


class Reads:
    """What a read shows. A statement begins after each of those came that share it, and none is of two organizations or
    audiences; nothing is remembered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: dict[_Group, Together[UUID, AnyShown | None]] = {}

    async def one(
        self, organization_id: UUID, kind: str, id: UUID, allowed: Node, audience: Audience
    ) -> AnyShown | None:
        """The resource, if it is among those that the caller may read (`Reader.narrowed`)."""
        if allowed == EVERYTHING and TYPES[kind].by_rule:
            return await self._of((organization_id, kind, audience)).want(id)
        async with self._database.searching(organization_id) as connection:
            return await read_one(connection, kind, id, allowed, audience)

    def _of(self, group: _Group) -> Together[UUID, AnyShown | None]:
        asked = self._asked.get(group)
        if asked is None:
            asked = self._asked[group] = Together(partial(self._read, group), MOST_TOGETHER, TURNS)
        return asked

    async def _read(self, group: _Group, ids: Sequence[UUID]) -> list[AnyShown | None]:
        organization_id, kind, audience = group
        async with self._database.searching(organization_id) as connection:
            found = {one.id: one for one in await shown(connection, kind, list(dict.fromkeys(ids)), audience)}
        return [found.get(id) for id in ids]


READS: web.AppKey[Reads] = web.AppKey("reads", Reads)

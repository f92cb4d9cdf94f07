"""Reads of one resource by its id. Those in flight in a process share statements: one costs more than its rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from aiohttp import web

from interface.api.context import services
from interface.api.fhir.negotiation import Ready
from interface.api.fhir.page import read_one, shown
from interface.api.fhir.search import EVERYTHING
from interface.api.fhir.types import TYPES, AnyShown, ShownRow
from interface.api.fhir.values import read_id
from interface.domain.search import Node
from interface.domain.views import Audience
from interface.flow.actors import FindHolder
from interface.store import observation_reads
from interface.store.actors import TokenHolder
from interface.store.db import Database
from interface.store.observation_reads import Asked, Beside, Said, Told
from interface.store.together import Together

MOST_TOGETHER = 16  # of one statement: what is read with many waits for all of them
TURNS = 4
MOST_KEPT, LONGEST_KEPT = 4096, 4000  # Observations as JSON, and bytes of one

_Group: TypeAlias = tuple[UUID, str, Audience]  # an organization, a type, and who reads
_Readers: TypeAlias = tuple[UUID, Audience]
_Found: TypeAlias = tuple[TokenHolder, Ready | None] | None


@dataclass(frozen=True, slots=True)
class Along:
    """What was found along with who asks; `one`: None where there is nothing that the audience may see."""

    one: Ready | None


class Kept(NamedTuple):
    """An Observation as it was shown, with all that it was made of."""

    beside: Beside
    said: Said
    shown: Ready


class Rendered:
    """Observations as they were shown, by organization, audience and id, the latest; each with all that it was made of.

    It is asked for only with what a read has just found in the database: that the result is there, is this
    organization's and may be seen, which version is the current one, and every word that is shown beside the version
    (`Beside`). What was kept is shown again only if all of these are the same, and a version never changes. So nothing
    that is held, older, of another organization or another audience's can come out of it, whatever it holds.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[UUID, Audience, UUID], Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, of: _Readers, id: UUID) -> Kept | None:
        """What may be shown again by `shown`."""
        key = (*of, id)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def shown(self, of: _Readers, id: UUID, told: Told, kept: Kept | None) -> Ready | None:
        """The Observation that was found, as it is shown: as it was before, where it is still made of the same. `kept`:
        what `get` gave before it was looked for."""
        beside, said = told.beside, told.said
        if beside is None:
            return None
        if kept is not None and kept.beside.version_id == beside.version_id:
            if kept.beside == beside:
                return kept.shown
            said = kept.said
        if said is None:
            return None  # its version is gone
        ready = Ready.of(ShownRow(observation_reads.observation_row(id, beside, said, of[1])))
        self.keep(of, id, Kept(beside, said, ready))
        return ready

    def keep(self, of: _Readers, id: UUID, kept: Kept) -> None:
        if len(kept.shown.json) > LONGEST_KEPT:
            return
        key = (*of, id)
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


class Reads:
    """What a read shows. A statement begins after each of those came that share it, and none is of two organizations or
    audiences; nothing but `Rendered` is remembered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: dict[_Group, Together[UUID, AnyShown | None]] = {}
        self._observed: dict[_Readers, Together[Asked, Told | None]] = {}
        self._rendered = Rendered()

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

    # ---- Observations, with who asks for them

    async def observation(self, organization_id: UUID, audience: Audience, digest: bytes, id: UUID) -> _Found:
        """Whose the token is, and the Observation that it asks for; None where the token is not valid."""
        of = organization_id, audience
        together = self._observed.get(of)
        if together is None:
            together = self._observed[of] = Together(partial(self._observe, of), MOST_TOGETHER, TURNS)
        kept = self._rendered.get(of, id)
        told = await together.want(Asked(digest, id, kept.beside.version_id if kept is not None else None))
        return (told.holder, self._rendered.shown(of, id, told, kept)) if told is not None else None

    async def _observe(self, of: _Readers, asked: Sequence[Asked]) -> list[Told | None]:
        async with self._database.at_once(of[0]) as connection:
            return await observation_reads.find(connection, asked, of[1])


READS: web.AppKey[Reads] = web.AppKey("reads", Reads)
ALONG: Final = web.RequestKey("along", Along)


def observation_along(request: web.Request) -> FindHolder | None:
    """What finds who asks for an Observation together with it, and leaves it in the request's ALONG."""
    id = read_id(request.match_info["id"])
    if id is None:
        return None
    reads, audience = request.app[READS], services(request).emr

    async def find(organization_id: UUID, digest: bytes) -> TokenHolder | None:
        found = await reads.observation(organization_id, audience, digest, id)
        if found is None:
            return None
        request[ALONG] = Along(found[1])
        return found[0]

    return find

"""A page of a search: the matches in order, what comes along with them, and where the next page begins.

Ids first, by the search's statement; then the covering rows of just these, where these are not columns of the same
statement (`Type.find`). A resource that is gone from one to the other, or may no longer be seen, is left out: what is
shown is always read by the rule of `store.lab`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from interface.api.fhir.search import EVERYTHING, Include, Search, Summary
from interface.api.fhir.types import TYPES, AnyShown, Parts, Type
from interface.domain.search import All, Among, Node, Referred, Refers
from interface.domain.views import Audience
from interface.render.json import dumps
from interface.store.db import Connection
from interface.store.search.engine import Covered, Kinds, Order, Place, Rows, count_rows, find_places
from interface.store.search.kinds import kinds

MOST_INCLUDED, MOST_ROUNDS = 1000, 5
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


@dataclass(frozen=True, slots=True)
class Found:
    """One page. `included`: each with its type; `after`: where the next one begins, None at the end; `total`: where it
    is known; `cut`: not everything that should come along did."""

    matches: Sequence[AnyShown]
    included: Sequence[tuple[str, AnyShown]]
    after: Place | None = None
    total: int | None = None
    cut: bool = False


async def shown(connection: Connection, kind: str, ids: Sequence[UUID], audience: Audience) -> list[AnyShown]:
    """The resources of these ids, in their order."""
    if not ids:
        return []
    found = {one.id: one for one in await TYPES[kind].fetch(connection, ids, audience)}
    return [found[id] for id in ids if id in found]


async def find_page(connection: Connection, search: Search, audience: Audience, after: Place | None = None) -> Found:
    """A page of what the search finds; its total where it costs nothing or is asked for, on the first page."""
    known, rows = kinds(audience), Rows(search.kind, search.where)
    if search.summary is Summary.COUNT:
        return Found([], [], total=await count_rows(connection, known, rows))
    matches, following = await _matches(connection, rows, search, after, audience)
    total = None
    if after is None:
        total = len(matches) if following is None else None
        if following is not None and search.total:
            total = await count_rows(connection, known, rows)
    included, cut = await _included(connection, known, search, matches, audience) if search.includes else ([], False)
    return Found(matches, included, following, total, cut)


async def _matches(
    connection: Connection, rows: Rows, search: Search, after: Place | None, audience: Audience
) -> tuple[Sequence[AnyShown], Place | None]:
    """The page, and the place of its last if there are more."""
    count, read = search.count, TYPES[search.kind].read
    if read is not None:
        found, following = await Covered.of(kinds(audience), rows, search.order, after, count).find(connection)
        return [read(row, audience) for row in found], following
    places = await find_places(connection, kinds(audience), rows, search.order, after, count + 1)
    matches = await shown(connection, search.kind, [place.id for place in places[:count]], audience)
    return matches, places[count - 1] if len(places) > count else None


async def read_one(connection: Connection, kind: str, id: UUID, allowed: Node, audience: Audience) -> AnyShown | None:
    """One resource, if it is among those that the caller may read (`Reader.narrowed`)."""
    if allowed == EVERYTHING and TYPES[kind].by_rule:
        found = await shown(connection, kind, (id,), audience)
        return found[0] if found else None
    rows = Rows(kind, All((Among((id,)), allowed)))
    places = await find_places(connection, kinds(audience), rows, Order(), None, 1)
    found = await shown(connection, kind, [place.id for place in places], audience)
    return found[0] if found else None


# ---- what comes along -----------------------------------------------------------------------------------------------


async def _included(
    connection: Connection, known: Kinds, search: Search, matches: Iterable[AnyShown], audience: Audience
) -> tuple[list[tuple[str, AnyShown]], bool]:
    """What the matches refer to, and what refers to them; with `iterate` from what came along in turn."""
    have = {search.kind: dict.fromkeys(one.id for one in matches)}
    fresh = {kind: list(ids) for kind, ids in have.items()}
    includes, came, cut = search.includes, list[tuple[str, UUID]](), False
    for _ in range(MOST_ROUNDS):
        added: dict[str, list[UUID]] = {}
        for include in includes:
            kind, node = _reached(include, fresh)
            if node is None:
                continue
            limit = MOST_INCLUDED - len(came) + 1
            rows = Rows(kind, All((node, search.included[kind])))
            found = [place.id for place in await find_places(connection, known, rows, Order(), None, limit)]
            already = have.setdefault(kind, {})
            new = [id for id in found if id not in already]
            cut = cut or len(found) == limit
            already.update(dict.fromkeys(new))
            added.setdefault(kind, []).extend(new)
            came += [(kind, id) for id in new]
        includes, fresh = [one for one in includes if one.iterate], added
        if cut or not includes or not any(fresh.values()):
            break
    else:
        cut = True
    by_kind: dict[str, list[UUID]] = {}
    for kind, id in came[:MOST_INCLUDED]:
        by_kind.setdefault(kind, []).append(id)
    return [(kind, one) for kind, ids in by_kind.items() for one in await shown(connection, kind, ids, audience)], cut


def _reached(include: Include, fresh: dict[str, list[UUID]]) -> tuple[str, Node | None]:
    """The type that an include leads to from these resources, and which of it."""
    kind, source = (include.kind, include.target) if include.reverse else (include.target, include.kind)
    ids = tuple(fresh.get(source, ()))
    if not ids:
        return kind, None
    if include.reverse:
        return kind, Refers(include.parameter, include.target, ids)
    return kind, Referred(include.kind, include.parameter, Among(ids))


# ---- parts of resources ---------------------------------------------------------------------------------------------


def subset(kind: Type | Parts, one: AnyShown, search: Search) -> bytes:
    """The resource as JSON, with the elements that `_summary` or `_elements` asks for, and a tag that says so (R4)."""
    if search.elements and kind.name == search.kind:
        kept = search.elements | kind.required
    elif search.summary is Summary.TRUE:
        kept = kind.summary | kind.required
    elif search.summary is Summary.TEXT:
        kept = kind.required | {"text"}
    elif search.summary is Summary.DATA:
        kept = frozenset(one.resource) - {"text"}
    else:
        return one.json
    kept |= {"resourceType", "id", "meta", "implicitRules"}
    resource = one.resource
    part = {name: value for name, value in resource.items() if name in kept or name.removeprefix("_") in kept}
    meta = resource.get("meta", {})
    return dumps({**part, "meta": {**meta, "tag": [*meta.get("tag", []), SUBSETTED]}})

"""FHIR R4 (4.0.1) below /fhir: metadata, read and search of the types in `types.TYPES`; `ordering` writes.

Whoever asks, staff too, sees here what an EMR may see: nothing held, nothing unreleased but where `[api] preliminary`
says so. What may not be seen is answered exactly like what is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache, partial

from aiohttp import web

from interface.api.bodies import read_form
from interface.api.context import (
    NEEDS,
    PUBLIC,
    SEAL,
    Handler,
    Need,
    Route,
    actor_of,
    json_response,
    note_read,
    services,
)
from interface.api.fhir.capability import capability_statement
from interface.api.fhir.negotiation import MEDIA_TYPE as MEDIA_TYPE
from interface.api.fhir.negotiation import Ready, fhir_response, negotiate, resource_response, strict
from interface.api.fhir.page import MOST_INCLUDED, Found, subset
from interface.api.fhir.reads import ALONG, READS, observation_along
from interface.api.fhir.search import EVERYTHING, UNRESTRICTED, Access, Reader, Search
from interface.api.fhir.searches import AHEAD, SEARCHES, search_along
from interface.api.fhir.types import PARTS, TYPES, AnyShown, Type
from interface.api.fhir.values import read_id
from interface.api.paging import NextPage
from interface.domain.search import All
from interface.errors import ApiError
from interface.render import fhir
from interface.store.search.engine import Order, Place, TooCostly
from interface.store.search.kinds import kinds


def reader_of(request: web.Request, now: datetime | None = None) -> Reader:
    """What reads the searches of who asks, and says what they may see (`Reader.narrowed`)."""
    served = services(request)
    return Reader(kinds(served.emr), Access(actor_of(request)), served.base_url, now or datetime.now(UTC))


def _search(kind: Type) -> Handler:
    async def search(request: web.Request) -> web.StreamResponse:
        given = await _given(request)
        negotiate(request, given)
        served, actor = services(request), actor_of(request)
        cursor = dict(given).get("_cursor")
        self_url = f"{served.base_url}/fhir/{kind.name}"
        after: Place | None = None
        total: int | None = None
        asked_at, known = datetime.now(UTC), None
        if cursor is not None:
            place = request[SEAL].find(cursor, kind.name, actor.id, actor.organization_id)
            given, after, total = list(place.parameters), place.place, place.total
            asked_at = place.asked_at or asked_at
            asked = reader_of(request, asked_at).search(kind.name, given)
            if after is not None and len(after.keys) != len(asked.order.by):
                asked.order = Order()  # a link of a program in which this search had no order but this
            self_url += f"?_cursor={cursor}"
        else:
            reader, ahead = reader_of(request, asked_at), request.get(AHEAD)
            if ahead is not None and reader.narrowed(kind.name, "s") == EVERYTHING:
                asked, asked_at, known = ahead.search, ahead.asked_at, ahead.found
            else:
                asked = reader.search(kind.name, given, strict(request))
            self_url += f"?{asked.query}" if asked.applied else ""
        found = await _found(request, asked, after, known)
        total = found.total if found.total is not None else total
        next_url = ""
        if found.after is not None:
            page = NextPage(
                kind.name,
                actor.id,
                actor.organization_id,
                tuple(asked.applied),
                place=found.after,
                total=total,
                asked_at=asked_at,
            )
            next_url = f"{served.base_url}/fhir/{kind.name}?_cursor={request[SEAL].keep(page)}"
        body = _bundle(f"{served.base_url}/fhir", asked, found, self_url, next_url, total)
        detail = {"query": asked.query, "matches": str(len(found.matches))}
        patients = [one.patient_id for one in (*found.matches, *(one for _, one in found.included))]
        await note_read(request, "search", kind.name, None, patients, detail)
        return fhir_response(body)

    return search


async def _found(request: web.Request, asked: Search, after: Place | None, known: Found | TooCostly | None) -> Found:
    """The page; `known`: what was found along with who asks."""
    if isinstance(known, TooCostly):
        raise known
    if known is not None:
        return known
    return await request.app[SEARCHES].page(actor_of(request).organization_id, asked, services(request).emr, after)


def _bundle(base: str, asked: Search, found: Found, self_url: str, next_url: str, total: int | None) -> bytes:
    of = TYPES[asked.kind]
    if asked.whole:
        matches = [(of.name, one.name, one.json) for one in found.matches]
    else:
        matches = [(of.name, one.name, subset(of, one, asked)) for one in found.matches]
    included = [(kind, one.id, subset(TYPES[kind], one, asked)) for kind, one in found.included]
    outcome = None
    if found.cut:
        text = f"not everything that belongs to these comes along: at most {MOST_INCLUDED} resources do"
        outcome = fhir.operation_outcome("incomplete", text, "warning")
    return fhir.searchset(base, matches, self_url, next_url, total, included=included, outcome=outcome)


def part_of(request: web.Request, kind: str) -> Search:
    """What a read shows of the resource."""
    if "?" not in request.raw_path:
        return _all_of(kind)
    return reader_of(request).part(kind, list(request.query.items()))


@cache
def _all_of(kind: str) -> Search:
    return Search(kind, All())


def read_response(request: web.Request, found: AnyShown | Ready, part: Search) -> web.Response:
    """A read's answer, with the elements that are asked for."""
    if not part.whole and not isinstance(found, Ready):
        found = Ready.of(found, subset(PARTS[part.kind], found, part))
    return resource_response(request, found)


def _read(kind: Type) -> Handler:
    async def read(request: web.Request) -> web.StreamResponse:
        negotiate(request)
        served, actor, id = services(request), actor_of(request), read_id(request.match_info["id"])
        everything = Access(actor).to(kind.name, "r") == UNRESTRICTED  # as nearly always
        allowed = EVERYTHING if everything else reader_of(request).narrowed(kind.name, "r")
        part = part_of(request, kind.name)
        reads, own = request.app[READS], actor.organization_id
        along = request.get(ALONG) if allowed == EVERYTHING and part.whole else None
        found: AnyShown | Ready | None = None
        if along is not None:
            found = along.one
        elif id is not None:
            found = await reads.one(own, kind.name, id, allowed, served.emr)
        patients = [found.patient_id] if found is not None else []
        await note_read(request, "read", kind.name, id, patients, {"found": "yes" if found is not None else "no"})
        if found is None:
            raise ApiError(404, "not-found", f"there is no {kind.name} of this id")
        return read_response(request, found, part)

    return read


async def _metadata(request: web.Request) -> web.StreamResponse:
    negotiate(request)
    served = services(request)
    routes = request.app[NEEDS].keys()
    statement = capability_statement(served.base_url, kinds(served.emr), routes)
    return json_response(statement, content_type=MEDIA_TYPE)


async def _given(request: web.Request) -> list[tuple[str, str]]:
    """The parameters of the URL, and of the form where there is one."""
    given = list(request.query.items())
    if request.method == "POST" and request.body_exists:
        given += await read_form(request)
    return given


def _routes() -> Iterator[Route]:
    yield Route("GET", "/fhir/metadata", _metadata, PUBLIC)
    for kind in TYPES.values():
        search, read = _search(kind), _read(kind)
        ahead = partial(search_along, kind.name) if kind.read is not None else None
        found = Need(kind.permission, kind.name, "s", narrowed=True, along=ahead)
        yield Route("GET", f"/fhir/{kind.name}", search, found)
        yield Route("POST", f"/fhir/{kind.name}/_search", search, found)
        along = observation_along if kind.name == "Observation" else None
        needs = Need(kind.permission, kind.name, "r", narrowed=True, along=along)
        yield Route("GET", f"/fhir/{kind.name}/{{id}}", read, needs)


ROUTES = tuple(_routes())

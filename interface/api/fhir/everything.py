"""Patient/[id]/$everything (FHIR R4 operation-patient-everything): all that is served of a patient, in pages.

By GET, and by POST with the parameters in the body. First the patient, then what is his, type by type, then who and
what it refers to. Types that who asks may not read are left out. Under whichever of the merged records: the search
finds all of a person's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web

from interface.api.context import SEAL, Need, Route, actor_of, note_read, services
from interface.api.fhir.negotiation import fhir_response, negotiate, only
from interface.api.fhir.page import read_one, shown
from interface.api.fhir.parameters import Given, read_parameters
from interface.api.fhir.routes import reader_of
from interface.api.fhir.search import DEFAULT_COUNT, MOST_COUNT, Access, Reader
from interface.api.fhir.types import AnyShown
from interface.api.fhir.values import bad, period, read_id, unsupported
from interface.api.paging import NextPage
from interface.domain.permissions import Permission
from interface.domain.search import NEVER, All, Among, Either, Is, Moment, Node, Prefix, Referred, Refers
from interface.errors import ApiError
from interface.render import fhir
from interface.store.db import Connection
from interface.store.search.engine import Order, Place, Rows, find_places
from interface.store.search.kinds import kinds

_NAME = "Patient/$everything"
# What is the patient's, with the parameter that says when it was so (R4: start and end are of clinical dates).
_DATED: Final = {
    "ServiceRequest": "authored",
    "Specimen": "collected",
    "Observation": "date",
    "DiagnosticReport": "date",
    "Provenance": "recorded",
}
# What these refer to: the type and the parameter that does.
_REFERRED: Final = {
    "Practitioner": (("ServiceRequest", "requester"),),
    "Device": (("Observation", "device"),),
    "Organization": (("Observation", "performer"), ("DiagnosticReport", "performer")),
}
_ONCE: Final = ("start", "end", "_since", "_count", "_cursor")
_ALL: Final = ("Patient", *_DATED, *_REFERRED)
_FIRST = UUID(int=0)


class _Asked:
    """What is asked of one patient: which types, since when, from when to when."""

    def __init__(self, patient_id: UUID, given: dict[str, str], access: Access, reader: Reader) -> None:
        self.patient_id, self._access, self._reader = patient_id, access, reader
        named = [one for one in given.get("_type", "").split(",") if one]
        if unknown := [one for one in named if one not in _ALL]:
            raise unsupported(f"_type names {unknown[0][:40]!r}, which is not served of a patient")
        self.types = [one for one in _ALL if (not named or one in named) and access.to(one, "r")]
        self._since = [period(text, "_since")[0]] if (text := given.get("_since")) else []
        # R4: `start` and `end` are dates, all of the day of `end` is within
        self._start = [period(text, "start")[0]] if (text := given.get("start")) else []
        self._end = [period(text, "end")[1]] if (text := given.get("end")) else []

    def where(self, kind: str) -> Node:
        nodes = [self._his(kind)]
        if self._since:
            nodes.append(_at_or_after("_lastUpdated", self._since[0]))
        if kind in _DATED and self._start:
            nodes.append(_at_or_after(_DATED[kind], self._start[0]))
        if kind in _DATED and self._end:
            nodes.append(Is(_DATED[kind], (Moment(Prefix.LT, self._end[0], self._end[0]),)))
        return All(tuple(nodes))

    def _his(self, kind: str) -> Node:
        if kind == "Patient":  # and the records merged with it, which its results go on to name as their subject
            return Either((Among((self.patient_id,)), Refers("link", "Patient", (self.patient_id,))))
        if kind == "Provenance":  # R4: in the compartment is what has the patient as its target; here, his results
            return Refers("target", "Observation", where=self._his("Observation"))
        if kind in _DATED:
            return Refers("patient", "Patient", (self.patient_id,))
        # Who asked for what, and who measured it, is what requests and results say: to those who may read them.
        ways = [Referred(source, link, All((self._his(source), self._reader.narrowed(source, "r"))))
                for source, link in _REFERRED[kind] if self._access.to(source, "r")]  # fmt: skip
        return Either(tuple(ways)) if ways else NEVER


def _at_or_after(parameter: str, at: datetime) -> Node:
    return Is(parameter, (Moment(Prefix.GE, at, at),))


async def _page(
    request: web.Request, connection: Connection, asked: _Asked, count: int, after: Place
) -> tuple[list[tuple[str, AnyShown]], Place | None]:
    """The next resources, and where the page after them begins."""
    audience, reader = services(request).emr, reader_of(request)
    found: list[tuple[str, AnyShown]] = []
    for kind in asked.types[asked.types.index(after.keys[0]) :]:
        last = Place((), after.id) if kind == after.keys[0] and after.id != _FIRST else None
        rows = Rows(kind, All((asked.where(kind), reader.narrowed(kind, "r"))))
        left = count - len(found)
        places = await find_places(connection, kinds(audience), rows, Order(), last, left + 1)
        some = await shown(connection, kind, [place.id for place in places[:left]], audience)
        found += [(kind, one) for one in sorted(some, key=lambda one: one.id != asked.patient_id)]  # first the patient
        if len(places) > left:
            return found, Place((kind,), places[left - 1].id if left else _FIRST)
    return found, None


def _once(said: Given) -> dict[str, str]:
    """By name; of `_type`, which may be said several times, all."""
    given = dict(said)
    if types := [value for name, value in said if name == "_type" and value]:
        given["_type"] = ",".join(types)
    return given


async def _everything(request: web.Request) -> web.StreamResponse:
    said = await read_parameters(request)
    negotiate(request, said)
    only(request, said, "$everything", _ONCE, ("_type",))
    served, actor, id = services(request), actor_of(request), read_id(request.match_info["id"])
    given, after = _once(said), Place(("Patient",), _FIRST)
    url = f"{served.base_url}/fhir/Patient/{request.match_info['id']}/$everything"
    if cursor := given.get("_cursor"):
        place = request[SEAL].find(cursor, _NAME, actor.id, actor.organization_id)
        given, after = dict(place.parameters), place.place or after
        if given.get("id") != str(id):
            raise ApiError(410, "expired", "this page is no longer there; ask again")
    count = _count(given.get("_count", ""))
    allowed = reader_of(request).narrowed("Patient", "r")
    async with served.database.searching(actor.organization_id) as connection:
        patient = await read_one(connection, "Patient", id, allowed, served.emr) if id is not None else None
        if patient is None or id is None:
            await note_read(request, "everything", "Patient", id, [], {"found": "no"})
            raise ApiError(404, "not-found", "there is no Patient of this id")
        asked = _Asked(id, given, Access(actor), reader_of(request))
        if after.keys[0] not in asked.types:
            after = Place((asked.types[0],), _FIRST) if asked.types else after
        found, following = await _page(request, connection, asked, count, after) if asked.types else ([], None)
    next_url = ""
    if following is not None:
        kept = tuple((name, text) for name, text in {**given, "id": str(id)}.items() if name != "_cursor")
        page = NextPage(_NAME, actor.id, actor.organization_id, kept, place=following)
        next_url = f"{url}?_cursor={request[SEAL].keep(page)}"
    self_url = f"{url}?{urlencode(said)}" if said else url
    entries = [(kind, one.id, one.json) for kind, one in found]
    body = fhir.searchset(f"{served.base_url}/fhir", entries, self_url, next_url)
    detail = {"found": "yes", "resources": str(len(found))}
    await note_read(request, "everything", "Patient", id, [one.patient_id for _, one in found], detail)
    return fhir_response(body)


def _count(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and int(text[:9])):
        raise bad("_count is a number, at least 1")
    return min(int(text[:9]), MOST_COUNT) if text else DEFAULT_COUNT


_NEED = Need(Permission.PATIENT_READ, "Patient", "r", narrowed=True)
ROUTES = tuple(Route(method, "/fhir/Patient/{id}/$everything", _everything, _NEED) for method in ("GET", "POST"))

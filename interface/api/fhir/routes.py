"""FHIR R4 (4.0.1) below /fhir: metadata, read and search of the types in `search.PARAMETERS`; `ordering` writes.

Whoever asks, staff too, sees here what an EMR may see: nothing held, nothing unreleased but where `[api] preliminary`
says so. What may not be seen is answered exactly like what is not there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web

from interface.api.context import PUBLIC, Handler, Need, Route, actor_of, json_response, note_read, services
from interface.api.fhir.capability import capability_statement
from interface.api.fhir.search import PARAMETERS, Criteria, read_search
from interface.api.paging import NextPage
from interface.domain.model import ResultStatus, Sex
from interface.domain.permissions import Permission
from interface.domain.views import Audience, ReportView
from interface.errors import ApiError
from interface.render import fhir
from interface.render.fhir import Json
from interface.store import actors, lab, patients
from interface.store.db import Connection
from interface.store.lab import OrderFilter, ResultFilter, SpecimenFilter
from interface.store.patients import PatientFilter
from interface.store.query import Cursor, Page

MEDIA_TYPE = "application/fhir+json"
_JSON_TYPES = frozenset({MEDIA_TYPE, "application/json", "text/json"})
MOST_ROWS, MOST_BATCHES = 200, 20  # a search that must look at more orders for one page goes on with the next


@dataclass(frozen=True, slots=True)
class Match:
    """One resource found, and where its row (`at`) stands, so that a page can begin there."""

    id: UUID
    resource: Json
    updated_at: datetime
    patient_id: UUID | None
    at: Cursor


Rows = Callable[[Connection, Criteria, Audience, Page], Awaitable[list[list[Match]]]]
Count = Callable[[Connection, Criteria, Audience], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Type:
    """One resource type: its rows in order (a row may give several matches or none), and their number where cheap."""

    name: str
    permission: Permission
    rows: Rows
    count: Count | None = None


def _one(
    id: UUID, resource: Json, updated_at: datetime, patient_id: UUID | None, at: datetime | None = None
) -> list[Match]:
    return [Match(id, resource, updated_at, patient_id, Cursor(at or updated_at, id))]


# ---- the types ------------------------------------------------------------------------------------------------------


def _patients_wanted(criteria: Criteria, page: Page) -> PatientFilter:
    since, until = criteria.intervals.get("birthdate", (None, None))
    gender = criteria.words("gender")
    return PatientFilter(
        ids=criteria.ids("_id"),
        identifier=criteria.texts.get("identifier", ""),
        authority=criteria.texts.get("authority"),
        family=criteria.texts.get("family", ""),
        given=criteria.texts.get("given", ""),
        name=criteria.texts.get("name", ""),
        born_since=since.date() if since else None,
        born_until=until.date() if until else None,
        sex=Sex(gender[0]) if gender else None,
        page=page,
    )


async def _patients(connection: Connection, criteria: Criteria, audience: Audience, page: Page) -> list[list[Match]]:
    found = await patients.find_patients(connection, _patients_wanted(criteria, page))
    return [_one(view.id, fhir.patient(view), view.updated_at, view.id) for view in found]


async def _patient_count(connection: Connection, criteria: Criteria, audience: Audience) -> int:
    return await patients.count_patients(connection, _patients_wanted(criteria, _page(criteria)))


def _results_wanted(criteria: Criteria, page: Page) -> ResultFilter:
    since, until = criteria.intervals.get("date", (None, None))
    codes = criteria.sets.get("code", frozenset())
    return ResultFilter(
        ids=criteria.ids("_id"),
        patient_ids=criteria.ids("patient"),
        specimen_ids=criteria.ids("specimen"),
        statuses=tuple(map(ResultStatus, criteria.words("status"))),
        loincs=_codes(codes, fhir.LOINC),
        test_codes=_codes(codes, fhir.TEST_SYSTEM),
        effective_since=since,
        effective_until=until,
        by_effective=criteria.sort == "date",
        page=page,
    )


def _codes(pairs: frozenset[object], wanted: str) -> tuple[str, ...]:
    return tuple(pair[1] for pair in pairs if isinstance(pair, tuple) and pair[0] == wanted)


async def _results(connection: Connection, criteria: Criteria, audience: Audience, page: Page) -> list[list[Match]]:
    filter = _results_wanted(criteria, page)
    found = await lab.find_results(connection, filter, audience)
    laboratory = await actors.laboratory_name(connection)
    return [
        _one(
            view.id,
            fhir.observation(view, laboratory),
            view.updated_at,
            view.patient_id,
            lab.stamp_of(view, filter.by_effective),
        )
        for view in found
    ]


async def _result_count(connection: Connection, criteria: Criteria, audience: Audience) -> int:
    return await lab.count_results(connection, _results_wanted(criteria, _page(criteria)), audience)


def _specimens_wanted(criteria: Criteria, page: Page) -> SpecimenFilter:
    return SpecimenFilter(
        ids=criteria.ids("_id"), barcodes=criteria.words("barcode"), patient_ids=criteria.ids("patient"), page=page
    )


async def _specimens(connection: Connection, criteria: Criteria, audience: Audience, page: Page) -> list[list[Match]]:
    found = await lab.find_specimens(connection, _specimens_wanted(criteria, page), audience)
    return [_one(view.id, fhir.specimen(view), view.updated_at, view.patient_id) for view in found]


async def _specimen_count(connection: Connection, criteria: Criteria, audience: Audience) -> int:
    return await lab.count_specimens(connection, _specimens_wanted(criteria, _page(criteria)), audience)


async def _requests(connection: Connection, criteria: Criteria, audience: Audience, page: Page) -> list[list[Match]]:
    """One row an order, one match an item of it that is asked for."""
    since, until = criteria.intervals.get("authored", (None, None))
    codes, numbers = criteria.sets.get("code", frozenset()), criteria.sets.get("number", frozenset())
    filter = OrderFilter(
        item_ids=criteria.ids("_id"),
        patient_ids=criteria.ids("patient"),
        specimen_ids=criteria.ids("specimen"),
        own_numbers=_codes(numbers, fhir.ORDER_SYSTEM),
        placer_numbers=_codes(numbers, fhir.PLACER_SYSTEM),
        loincs=_codes(codes, fhir.LOINC),
        test_codes=_codes(codes, fhir.TEST_SYSTEM),
        ordered_since=since,
        ordered_until=until,
        page=page,
    )
    rows = []
    for order in await lab.find_orders(connection, filter, audience):
        at, row = Cursor(order.updated_at, order.id), []
        for item in order.items:
            pairs = {(fhir.LOINC, item.loinc), (fhir.TEST_SYSTEM, item.test_code)}
            resource = fhir.service_request(order, item)
            if (
                item.id in criteria.sets.get("_id", {item.id})
                and item.specimen_id in criteria.sets.get("specimen", {item.specimen_id})
                and (not codes or pairs & codes)
                and resource["status"] in criteria.sets.get("status", {resource["status"]})
            ):
                row.append(Match(item.id, resource, order.updated_at, order.patient_id, at))
        rows.append(row or [_gap(at)])
    return rows


async def _reports(connection: Connection, criteria: Criteria, audience: Audience, page: Page) -> list[list[Match]]:
    numbers = criteria.sets.get("number", frozenset())
    filter = OrderFilter(
        ids=criteria.ids("_id"),
        patient_ids=criteria.ids("patient"),
        item_ids=criteria.ids("based-on"),
        own_numbers=_codes(numbers, fhir.ORDER_SYSTEM),
        placer_numbers=_codes(numbers, fhir.PLACER_SYSTEM),
        page=page,
    )
    laboratory = await actors.laboratory_name(connection)
    rows = []
    for view in await lab.find_reports(connection, filter, audience):
        at = Cursor(view.updated_at, view.order.id)
        status = fhir.report_status(view)
        if status in criteria.sets.get("status", {status}) and _taken_within(view, criteria):
            resource = fhir.diagnostic_report(view, laboratory)
            rows.append([Match(view.order.id, resource, view.updated_at, view.order.patient_id, at)])
        else:
            rows.append([_gap(at)])
    return rows


def _taken_within(view: ReportView, criteria: Criteria) -> bool:
    if "date" not in criteria.intervals:
        return True
    since, until = criteria.intervals["date"]
    taken = fhir.report_time(view)
    return taken is not None and (since is None or taken >= since) and (until is None or taken < until)


def _gap(at: Cursor) -> Match:
    """A row that gives nothing: it only moves the search on."""
    return Match(at.id, {}, at.updated_at, None, at)


TYPES = (
    Type("Patient", Permission.PATIENT_READ, _patients, _patient_count),
    Type("Observation", Permission.RESULT_READ, _results, _result_count),
    Type("DiagnosticReport", Permission.RESULT_READ, _reports),
    Type("ServiceRequest", Permission.ORDER_READ, _requests),
    Type("Specimen", Permission.ORDER_READ, _specimens, _specimen_count),
)


# ---- a page of matches ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    matches: list[Match]
    more: bool
    after: Cursor | None  # where the next page begins
    shown: tuple[UUID, ...]


def _page(criteria: Criteria, after: Cursor | None = None, limit: int = 1) -> Page:
    since, until = criteria.intervals.get("_lastUpdated", (None, None))
    return Page(since=since, until=until, after=after, newest_first=criteria.descending, limit=limit)


async def _collect(
    connection: Connection,
    kind: Type,
    criteria: Criteria,
    audience: Audience,
    after: Cursor | None,
    shown: Sequence[UUID],
) -> _Found:
    """Up to `criteria.count` matches after a place, leaving out those of the first row that were shown before."""
    matches: list[Match] = []
    limit = min(criteria.count + 1, MOST_ROWS)
    before, skipped = after, frozenset(shown)
    for _ in range(MOST_BATCHES):
        rows = await kind.rows(connection, criteria, audience, _page(criteria, before, limit))
        for row in rows:
            for place, match in enumerate(row):
                if not match.resource or match.id in skipped:
                    continue
                if len(matches) == criteria.count:
                    done = tuple(earlier.id for earlier in row[:place])
                    return _Found(matches, True, before, done)
                matches.append(match)
            before = row[0].at
        if len(rows) < limit:
            return _Found(matches, False, None, ())
    return _Found(matches, True, before, ())


async def _bundle(
    request: web.Request, kind: Type, criteria: Criteria, place: NextPage, self_url: str
) -> tuple[Json, list[Match]]:
    served, organization_id = services(request), place.organization_id
    base = f"{served.base_url}/fhir"
    if criteria.nothing:
        return fhir.searchset(base, [], self_url, total=0), []
    async with served.database.organization(organization_id) as connection:
        found = await _collect(connection, kind, criteria, served.emr, place.after, place.shown)
        total = place.total
        if total is None and place.after is None and not place.shown:
            if not found.more:
                total = len(found.matches)
            elif kind.count is not None:
                total = await kind.count(connection, criteria, served.emr)
    following = ""
    if found.more and criteria.count:
        page = NextPage(place.kind, place.actor_id, organization_id, place.parameters, found.after, found.shown, total)
        following = f"{base}/{kind.name}?_cursor={served.pages.keep(page)}"
    resources = [match.resource for match in found.matches]
    return fhir.searchset(base, resources, self_url, following, total), found.matches


# ---- handlers -------------------------------------------------------------------------------------------------------


def _search(kind: Type) -> Handler:
    async def search(request: web.Request) -> web.StreamResponse:
        _negotiate(request)
        served, actor = services(request), actor_of(request)
        given = await _given(request)
        strict = "handling=strict" in request.headers.get("Prefer", "").replace(" ", "").lower()
        cursor = dict(given).get("_cursor")
        self_url = f"{served.base_url}/fhir/{kind.name}"
        if cursor is not None:
            place = served.pages.find(cursor, kind.name, actor.id, actor.organization_id)
            criteria, applied = read_search(kind.name, place.parameters, served.base_url, strict)
            self_url += f"?_cursor={cursor}"
        else:
            criteria, applied = read_search(kind.name, given, served.base_url, strict)
            place = NextPage(kind.name, actor.id, actor.organization_id, applied, None)
            self_url += f"?{urlencode(applied)}" if applied else ""
        bundle, matches = await _bundle(request, kind, criteria, place, self_url)
        detail = {"query": urlencode(applied), "matches": str(len(matches))}
        await note_read(request, "search", kind.name, None, [match.patient_id for match in matches], detail)
        return json_response(bundle, content_type=MEDIA_TYPE)

    return search


def _read(kind: Type) -> Handler:
    async def read(request: web.Request) -> web.StreamResponse:
        _negotiate(request)
        served, actor = services(request), actor_of(request)
        criteria, _ = read_search(kind.name, [("_id", request.match_info["id"])], served.base_url, strict=True)
        place = NextPage(kind.name, actor.id, actor.organization_id, (), None)
        _, matches = await _bundle(request, kind, criteria, place, "")
        match = matches[0] if matches else None
        id = next(iter(criteria.ids("_id")), None)
        patients = [match.patient_id] if match is not None else []
        await note_read(request, "read", kind.name, id, patients, {"found": "yes" if match is not None else "no"})
        if match is None:
            raise ApiError(404, "not-found", f"there is no {kind.name} of this id")
        headers = {
            "ETag": f'W/"{match.resource["meta"]["versionId"]}"',
            "Last-Modified": format_datetime(match.updated_at.replace(microsecond=0), usegmt=True),
        }
        return json_response(match.resource, headers=headers, content_type=MEDIA_TYPE)

    return read


async def _metadata(request: web.Request) -> web.StreamResponse:
    _negotiate(request)
    return json_response(capability_statement(services(request).base_url), content_type=MEDIA_TYPE)


async def _given(request: web.Request) -> list[tuple[str, str]]:
    """The parameters of the URL, and of the form where there is one."""
    given = list(request.query.items())
    if request.method == "POST":
        if request.content_type != "application/x-www-form-urlencoded":
            raise ApiError(415, "not-supported", "a search is posted as application/x-www-form-urlencoded")
        form: Any = await request.post()
        given += [(name, value) for name, value in form.items() if isinstance(value, str)]
    return given


def _negotiate(request: web.Request) -> None:
    """Raise ApiError 406 unless JSON is acceptable. `_format` wins over Accept (R4 http.html 3.1.0.1.11)."""
    wanted = request.query.get("_format", "").replace(" ", "+").partition(";")[0].strip().lower()
    if wanted:
        if wanted != "json" and wanted not in _JSON_TYPES:
            raise ApiError(406, "not-supported", f"this server speaks {MEDIA_TYPE} only")
        return
    if not any(_acceptable(request.headers.getall("Accept", ["*/*"]))):
        raise ApiError(406, "not-supported", f"this server speaks {MEDIA_TYPE} only")


def _acceptable(headers: Sequence[str]) -> Iterator[bool]:
    for entry in ",".join(headers).split(","):
        media_type, *options = (part.strip().lower() for part in entry.split(";"))
        refused = any(option.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for option in options)
        yield not refused and (media_type in ("", "*/*", "application/*", "text/*") or media_type in _JSON_TYPES)


def _routes() -> Iterator[Route]:
    yield Route("GET", "/fhir/metadata", _metadata, PUBLIC)
    for kind in TYPES:
        search, read = _search(kind), _read(kind)
        yield Route("GET", f"/fhir/{kind.name}", search, Need(kind.permission, kind.name, "s"))
        yield Route("POST", f"/fhir/{kind.name}/_search", search, Need(kind.permission, kind.name, "s"))
        yield Route("GET", f"/fhir/{kind.name}/{{id}}", read, Need(kind.permission, kind.name, "r"))


ROUTES = tuple(_routes())
if {kind.name for kind in TYPES} != set(PARAMETERS):
    raise AssertionError("every type has its search parameters")

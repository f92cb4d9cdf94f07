"""Binary: the report of an order as PDF, by the id of a version or, for the newest, of the order.

Who may not read the DiagnosticReport that it belongs to finds nothing. By the id of a version there is that version
alone; by the order's all that were printed, each under its number. Nothing is listed but by name: a PDF is long, and
made when it is asked for first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web

from interface.api.bodies import read_form
from interface.api.context import SEAL, Need, Route, actor_of, json_response, note_read, services
from interface.api.fhir.negotiation import MEDIA_TYPE, fhir_response, negotiate, resource_response, strict
from interface.api.fhir.page import read_one
from interface.api.fhir.past import Page, asked_of, bundle, page_of
from interface.api.fhir.routes import reader_of
from interface.api.fhir.types import Shown
from interface.api.fhir.values import alternatives, bad, read_id, unsupported
from interface.api.paging import NextPage
from interface.domain.permissions import Permission
from interface.domain.report import ReportDocument, StoredReport
from interface.domain.search import Node
from interface.errors import ApiError
from interface.flow import reports
from interface.render import fhir
from interface.render.fhir.binaries import binary
from interface.store.db import Connection
from interface.store.search.engine import Place

MOST_AT_ONCE: Final = 10  # in one Bundle
MOST_NAMED: Final = 50
_CONTROLS: Final = ("_count", "_format", "_pretty", "_cursor")


@dataclass(frozen=True, slots=True)
class _Named:
    """A version, by the id that it is asked for."""

    id: UUID
    report: StoredReport

    @property
    def version(self) -> str:
        return str(self.report.version)

    @property
    def updated_at(self) -> datetime:
        return self.report.created_at

    async def shown(self, connection: Connection) -> Shown:
        """With its pages."""
        document = await reports.document(connection, self.report)
        return Shown(self.id, binary(self.id, document), self.updated_at, document.patient_id)


def _allowed(request: web.Request) -> Node:
    """The reports that who asks may read. Raises ApiError 403."""
    return reader_of(request).narrowed("DiagnosticReport", "r")


async def _versions(request: web.Request, connection: Connection, id: UUID | None, allowed: Node) -> list[_Named]:
    """Newest first; empty where nothing may be read."""
    if id is None:
        return []
    emr = services(request).emr
    found = await reports.versions_of(connection, id, emr)
    if not found or await read_one(connection, "DiagnosticReport", found[0].order_id, allowed, emr) is None:
        return []
    return [_Named(id, one) for one in found]


async def _one(request: web.Request, action: str, version: str | None = None) -> web.StreamResponse:
    """The newest, or a version, as it is, unless FHIR's own form is asked for (R4 binary.html#rest)."""
    id, as_resource, allowed = read_id(request.match_info["id"]), _as_resource(request), _allowed(request)
    document: ReportDocument | None = None
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        found = await _versions(request, connection, id, allowed)
        one = next((one for one in found if version in (None, one.version)), None)
        if one is not None:
            document = await reports.document(connection, one.report)
    told = {"found": "yes" if document is not None else "no"}
    await note_read(request, action, "Binary", id, [document.patient_id] if document is not None else [], told)
    if document is None or id is None:
        what = "Binary of this id" if version is None else "such version of a Binary of this id"
        raise ApiError(404, "not-found", f"there is no {what}")
    if as_resource:
        return resource_response(request, Shown(id, binary(id, document), document.report.created_at, None))
    headers = {
        "ETag": f'"{document.hash.hex()}"',
        "Vary": "Accept, Authorization",
        "X-Security-Context": f"DiagnosticReport/{document.report.order_id}",
        "Content-Disposition": f'inline; filename="{document.filename}"',
    }
    if any(known.value in (document.hash.hex(), "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=document.body, headers=headers, content_type=reports.MEDIA_TYPE)


async def read_binary(request: web.Request) -> web.StreamResponse:
    return await _one(request, "read")


async def vread(request: web.Request) -> web.StreamResponse:
    return await _one(request, "vread", request.match_info["vid"])


async def history(request: web.Request) -> web.StreamResponse:
    negotiate(request)
    id, asked = read_id(request.match_info["id"]), asked_of(request, MOST_AT_ONCE)
    allowed = _allowed(request)
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        found = await _versions(request, connection, id, allowed)
        page = page_of(found, asked) if found else None
        shown = [await one.shown(connection) for one in page.versions] if page is not None else []
    patients = [one.patient_id for one in shown]
    await note_read(request, "history", "Binary", id, patients, {"versions": str(len(found))})
    if page is None or id is None:
        raise ApiError(404, "not-found", "there is no Binary of this id")
    made = bundle(request, "Binary", id, Page(shown, page.total, page.first, page.more))
    return json_response(made, content_type=MEDIA_TYPE)


async def search(request: web.Request) -> web.StreamResponse:
    """By `_id` alone: R4 has no search parameters of a Binary's own."""
    given = list(request.query.items())
    if request.method == "POST" and request.body_exists:
        given += await read_form(request)
    negotiate(request, given)
    served, actor = services(request), actor_of(request)
    after: Place | None = None
    self_url = f"{served.base_url}/fhir/Binary"
    if cursor := dict(given).get("_cursor"):
        place = request[SEAL].find(cursor, "Binary", actor.id, actor.organization_id)
        given, after = list(place.parameters), place.place
        self_url += f"?_cursor={cursor}"
    applied, ids = _asked(given, strict(request))
    self_url += f"?{urlencode(applied)}" if after is None else ""
    count = _count(dict(applied).get("_count", ""))
    allowed = _allowed(request)
    async with served.database.transaction(actor.organization_id) as connection:
        # A report that has changed is made anew, by one at a time: all who ask for several go by the same order.
        newest = {id: found[0] for id in sorted(ids) if (found := await _versions(request, connection, id, allowed))}
        named = [newest[id] for id in ids if id in newest]
        start = next((at for at, one in enumerate(named, 1) if after is not None and one.id == after.id), 0)
        shown = [await one.shown(connection) for one in named[start : start + count]]
    next_url = ""
    if shown and start + count < len(named):
        kept = NextPage("Binary", actor.id, actor.organization_id, tuple(applied), place=Place((), shown[-1].id))
        next_url = f"{served.base_url}/fhir/Binary?_cursor={request[SEAL].keep(kept)}"
    detail = {"query": urlencode(applied), "matches": str(len(shown))}
    await note_read(request, "search", "Binary", None, [one.patient_id for one in shown], detail)
    entries = [("Binary", one.name, one.json) for one in shown]
    return fhir_response(fhir.searchset(f"{served.base_url}/fhir", entries, self_url, next_url, len(named)))


def _asked(given: Iterable[tuple[str, str]], strictly: bool) -> tuple[list[tuple[str, str]], list[UUID]]:
    """The parameters that are applied, and the ids that are asked for. Raises ApiError 400."""
    applied: list[tuple[str, str]] = []
    wanted: list[dict[UUID, None]] = []
    for name, value in given:
        if name.partition(":")[0] == "_id" and name != "_id":
            raise unsupported(f"the modifier of {name[:40]!r} is not supported")
        if name == "_id" and value:
            wanted.append(dict.fromkeys(id for one in alternatives(value) if (id := read_id(one)) is not None))
        elif strictly and name not in _CONTROLS:
            raise unsupported(f"a Binary has no search parameter {name[:40]!r}")
        if value and name in ("_id", "_count"):
            applied.append((name, value))
    if not wanted:
        raise ApiError(400, "required", "say which: a Binary is searched by _id, and DiagnosticReports name them")
    ids = [id for id in wanted[0] if all(id in others for others in wanted)]
    if len(ids) > MOST_NAMED:
        raise ApiError(400, "too-costly", f"a search names at most {MOST_NAMED} ids")
    return applied, ids


def _count(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise bad("_count is a number")
    return min(int(text[:9]), MOST_AT_ONCE) if text else MOST_AT_ONCE


def _as_resource(request: web.Request) -> bool:
    """Whether FHIR is asked for, by `_format` or Accept. Raises ApiError 406 for what is neither that nor a PDF."""
    accepted = ",".join(request.headers.getall("Accept", [])).lower()
    if request.query.get("_format") or MEDIA_TYPE in accepted:
        negotiate(request)
        return True
    if reports.MEDIA_TYPE not in accepted and "*/*" not in accepted and "application/*" not in accepted and accepted:
        negotiate(request)
        return True
    return False


_READ = Need(Permission.RESULT_READ, "Binary", "r", narrowed=True)
_SEARCH = Need(Permission.RESULT_READ, "Binary", "s", narrowed=True)
ROUTES = (
    Route("GET", "/fhir/Binary", search, _SEARCH),
    Route("POST", "/fhir/Binary/_search", search, _SEARCH),
    Route("GET", "/fhir/Binary/{id}", read_binary, _READ),
    Route("GET", "/fhir/Binary/{id}/_history", history, _READ),
    Route("GET", "/fhir/Binary/{id}/_history/{vid}", vread, _READ),
)

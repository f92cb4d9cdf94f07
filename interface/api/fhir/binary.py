"""Binary: the report of an order as PDF, by the id of a version or, for the newest, of the order.

Who may not read the DiagnosticReport that it belongs to finds nothing. By the id of a version there is that version
alone; by the order's all that were printed, each under its number. Nothing is listed but by name: a PDF is long, and
made when it is asked for first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final
from uuid import UUID

from aiohttp import web

from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.fhir.few import Few, few
from interface.api.fhir.negotiation import MEDIA_TYPE, has_it, negotiate
from interface.api.fhir.page import read_one
from interface.api.fhir.past import Page, asked_of, bundle, page_of
from interface.api.fhir.routes import part_of, read_response, reader_of
from interface.api.fhir.types import Shown
from interface.api.fhir.values import read_id
from interface.domain.permissions import Permission
from interface.domain.report import ReportDocument, StoredReport
from interface.domain.search import Node
from interface.errors import ApiError
from interface.flow import reports
from interface.render.fhir.binaries import binary
from interface.store.db import Connection

MOST_AT_ONCE: Final = 10  # in one Bundle
MOST_NAMED: Final = 50
PARAMETERS: Final = ("_id", "_lastUpdated")


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
    part = part_of(request, "Binary")
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
        shown = Shown(id, binary(id, document), document.report.created_at, document.patient_id)
        return read_response(request, shown, part)
    updated_at = document.report.created_at
    headers = {
        "ETag": f'"{document.hash.hex()}"',
        "Last-Modified": format_datetime(updated_at.astimezone(UTC).replace(microsecond=0), usegmt=True),
        "Vary": "Accept, Authorization",
        "X-Security-Context": f"DiagnosticReport/{document.report.order_id}",
        "Content-Disposition": f'inline; filename="{document.filename}"',
    }
    if has_it(request, document.hash.hex()):
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
    """Of those that are named: R4 has no search parameters of a Binary's own."""
    asked, allowed = await few(request, "Binary", PARAMETERS, MOST_AT_ONCE), _allowed(request)
    ids = _ids(asked)
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        # A report that has changed is made anew, by one at a time: all who ask for several go by the same order.
        newest = {id: found[0] for id in sorted(ids) if (found := await _versions(request, connection, id, allowed))}
        named = [newest[id] for id in ids if id in newest and asked.changed(newest[id].updated_at)]
        shown = [await one.shown(connection) for one in asked.page(named, ids)]
    detail = {"query": asked.query, "matches": str(len(shown))}
    await note_read(request, "search", "Binary", None, [one.patient_id for one in shown], detail)
    return asked.answer(request, named, shown)


def _ids(asked: Few) -> list[UUID]:
    """Raises ApiError 400 where none are named, or too many."""
    wanted = [[id for one in each if (id := read_id(one)) is not None] for each in asked.said("_id")]
    if not wanted:
        raise ApiError(400, "required", "say which: a Binary is searched by _id, and DiagnosticReports name them")
    ids = [id for id in dict.fromkeys(wanted[0]) if all(id in others for others in wanted)]
    if len(ids) > MOST_NAMED:
        raise ApiError(400, "too-costly", f"a search names at most {MOST_NAMED} ids")
    return ids


def _as_resource(request: web.Request) -> bool:
    """Whether FHIR is asked for, by `_format` or Accept. Raises ApiError 406 for what is neither that nor a PDF."""
    accepted, wanted = ",".join(request.headers.getall("Accept", [])).lower(), request.query.get("_format", "")
    if wanted.strip().lower() == reports.MEDIA_TYPE:  # which wins over Accept
        return False
    if wanted or MEDIA_TYPE in accepted:
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

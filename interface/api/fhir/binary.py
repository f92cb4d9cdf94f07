"""GET /fhir/Binary/{id}: the report of an order as PDF, by the id of a version or, for the newest, of the order."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from interface.api.context import Need, Route, actor_of, note_read, services
from interface.api.fhir.negotiation import MEDIA_TYPE, negotiate, resource_response
from interface.api.fhir.page import read_one
from interface.api.fhir.routes import reader_of
from interface.api.fhir.types import Shown
from interface.api.fhir.values import read_id
from interface.domain.permissions import Permission
from interface.domain.report import ReportDocument
from interface.domain.views import Audience
from interface.errors import ApiError
from interface.flow import reports
from interface.render.fhir.binaries import binary
from interface.store.db import Connection


async def read_binary(request: web.Request) -> web.StreamResponse:
    """As it is, unless FHIR's own form is asked for (R4 binary.html#rest). Who may not read the DiagnosticReport that
    it belongs to finds nothing."""
    served, actor, id = services(request), actor_of(request), read_id(request.match_info["id"])
    as_resource = _as_resource(request)
    allowed = reader_of(request).narrowed("DiagnosticReport", "r")
    found = None
    if id is not None:
        async with served.database.transaction(actor.organization_id) as connection:
            found = await _document(connection, id, served.emr)
            if found is not None:
                of = await read_one(connection, "DiagnosticReport", found.report.order_id, allowed, served.emr)
                found = found if of is not None else None
    told = {"found": "yes" if found is not None else "no"}
    await note_read(request, "read", "Binary", id, [found.patient_id] if found is not None else [], told)
    if found is None or id is None:
        raise ApiError(404, "not-found", "there is no Binary of this id")
    if as_resource:
        return resource_response(request, Shown(id, binary(id, found), found.report.created_at, None))
    headers = {
        "ETag": f'"{found.hash.hex()}"',
        "Vary": "Accept, Authorization",
        "X-Security-Context": f"DiagnosticReport/{found.report.order_id}",
        "Content-Disposition": f'inline; filename="{found.filename}"',
    }
    if any(known.value in (found.hash.hex(), "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.body, headers=headers, content_type=reports.MEDIA_TYPE)


async def _document(connection: Connection, id: UUID, audience: Audience) -> ReportDocument | None:
    try:
        return await reports.binary_of(connection, id, audience) or await reports.pdf_of(connection, id, audience)
    except ApiError:
        return None


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


ROUTES = (Route("GET", "/fhir/Binary/{id}", read_binary, Need(Permission.RESULT_READ, "Binary", "r", narrowed=True)),)

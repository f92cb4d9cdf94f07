"""Reports over REST: of orders, as PDF or as their content; how they look. Staff and clients see the same."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import path_id, read_query
from interface.api.media import wanted
from interface.domain.permissions import Permission
from interface.domain.report import Language, OrderReport, Paper, ReportDocument, ReportSettings, StoredReport
from interface.flow import reports
from interface.flow.reports import SettingsChange

_TEXTS = ("address", "phone", "director", "accreditation", "zone")
_ORDER = ("version", "paper", "language")
_MEDIA = (reports.MEDIA_TYPE, "application/json")


async def get_order_report(request: web.Request) -> web.StreamResponse:
    """`?version=`, without it the current one; `paper=` and `language=` in place of its own; JSON where Accept asks."""
    query, order_id = read_query(request, "api/reports/orders", _ORDER), path_id(request)
    number = query.number("version")
    version = number if query.text("version") else None
    papers, languages = query.choices("paper", Paper), query.choices("language", Language)
    content = wanted(request, _MEDIA, "a report is application/pdf or application/json") == _MEDIA[1]
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        report = await reports.version_of(connection, order_id, services(request).emr, version)
        made = await reports.document(
            connection, report, papers[0] if papers else None, languages[0] if languages else None
        )
        said = await reports.content_of(connection, report) if content else None
    await note_read(
        request,
        "print",
        "report",
        report.id,
        (made.patient_id,),
        {"order": made.number, "version": str(report.version)},
    )
    if said is not None:
        return json_response({"report": _listed(report), "content": said})
    return _pdf(request, made)


async def list_versions(request: web.Request) -> web.StreamResponse:
    """Every version that was issued, the oldest first."""
    order_id = path_id(request)
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        found = await reports.versions(connection, order_id, services(request).emr)
    await note_read(request, "read", "report", order_id, (), {"versions": str(len(found))})
    return json_response({"versions": [_listed(one) for one in found]})


async def get_settings(request: web.Request) -> web.StreamResponse:
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        found = await reports.get_settings(connection)
    await note_read(request, "read", "report_setting")
    return json_response(found)


async def put_settings(request: web.Request) -> web.StreamResponse:
    """What is given replaces what was there; versions that were issued stay as they are."""
    body = await read_body(request)
    address, phone, director, accreditation, zone = (body.text(name) if body.has(name) else None for name in _TEXTS)
    change = SettingsChange(
        address,
        phone,
        director,
        accreditation,
        zone,
        paper=body.choice("paper", Paper, Paper.A4) if body.has("paper") else None,
        language=body.choice("language", Language, Language.ENGLISH) if body.has("language") else None,
        version=body.number("version"),
    )
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        changed = await reports.change_settings(connection, actor, change)
    return json_response(changed)


def _pdf(request: web.Request, made: ReportDocument) -> web.Response:
    """A version never changes; which one is current does, so a copy is asked about each time."""
    tag = made.hash.hex()
    headers = {
        "Cache-Control": "private, no-cache",
        "ETag": f'"{tag}"',
        "Vary": "Accept, Authorization",
        "Content-Disposition": f'inline; filename="{made.filename}"',
    }
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=made.body, headers=headers, content_type=reports.MEDIA_TYPE)


def _listed(report: StoredReport) -> dict[str, object]:
    return {
        "id": report.id, "order_id": report.order_id, "version": report.version, "status": report.status,
        "created_at": report.created_at, "paper": report.paper, "language": report.language,
    }  # fmt: skip


_LISTED = {
    "id": UUID, "order_id": UUID, "version": int, "status": str, "created_at": datetime, "paper": Paper,
    "language": Language,
}  # fmt: skip
_P = Permission
_READ = Need(_P.RESULT_READ, "DiagnosticReport", "r")
ROUTES = (
    Route("GET", "/api/reports/settings", get_settings, Need(_P.ORDER_READ), gives=ReportSettings),
    Route("PUT", "/api/reports/settings", put_settings, Need(_P.CATALOGUE_WRITE), gives=ReportSettings),
    Route(
        "GET",
        "/api/reports/orders/{id}",
        get_order_report,
        _READ,
        gives={"report": _LISTED, "content": OrderReport},
        media=_MEDIA,
        also={304: None},
    ),
    Route("GET", "/api/reports/orders/{id}/versions", list_versions, _READ, gives={"versions": [_LISTED]}),
)

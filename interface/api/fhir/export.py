"""Bulk Data Access 2.0: `$export` of the whole laboratory or of its patients, as files of NDJSON; docs/changes.md.

For clients; by GET, or by POST with the parameters in the body. What is exported is what each resource's search would
find for this client: its scopes, their queries, what an EMR may see. Groups are not kept here, so that there is none to
export.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from aiohttp import web

from interface.api.context import Need, Route, actor_of, base_url_of, emr_of, json_response, note_read, services
from interface.api.fhir.negotiation import MEDIA_TYPE
from interface.api.fhir.parameters import read_parameters
from interface.api.fhir.reading import Reader
from interface.api.fhir.types import TYPES
from interface.api.fhir.values import read_id
from interface.domain.permissions import restrictions
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow import exporting, waking
from interface.flow.exporting import Exporter
from interface.flow.feed import Feed
from interface.flow.subscriptions import read_criteria
from interface.render import fhir
from interface.settings import Settings
from interface.store.db import Database
from interface.store.exports import ExportJob

NDJSON = "application/fhir+ndjson"
_FORMATS = frozenset({"", NDJSON, "application/ndjson", "ndjson"})
_NOT_EXPORTED = frozenset({"AuditEvent", "Binary"})
_KNOWN = ("_outputFormat", "_since", "_type", "_typeFilter")
POLL_S = 5


def folder_of(settings: Settings) -> Path:
    return settings.state_dir / "exports"


def exporter(settings: Settings, database: Database, feed: Feed) -> Exporter:
    """To be run by the caller, beside `feed`."""
    return Exporter(database, feed, Reader(emr_of(settings), base_url_of(settings)), folder_of(settings))


async def export_system(request: web.Request) -> web.StreamResponse:
    return await _begin(request, "system")


async def export_patients(request: web.Request) -> web.StreamResponse:
    return await _begin(request, "patient")


async def export_group(request: web.Request) -> web.StreamResponse:
    raise ApiError(404, "not-supported", "there are no Groups here: export all patients, with Patient/$export")


async def _begin(request: web.Request, level: str) -> web.StreamResponse:
    served, actor = services(request), actor_of(request)
    given = [(name, value) for name, value in await read_parameters(request) if value]
    if "respond-async" not in ",".join(request.headers.getall("Prefer", [])).replace(" ", "").lower().split(","):
        raise ApiError(400, "not-supported", "an export is answered later: ask with Prefer: respond-async")
    lenient = "handling=lenient" in ",".join(request.headers.getall("Prefer", [])).replace(" ", "").lower()
    if odd := [name for name, _ in given if name not in _KNOWN and not (lenient or name.startswith("_format"))]:
        raise ApiError(400, "not-supported", f"the parameter {odd[0][:40]!r} is not supported")
    if any(value not in _FORMATS for name, value in given if name == "_outputFormat"):
        raise ApiError(400, "not-supported", f"_outputFormat is {NDJSON}")
    types = _types(request, [part for name, value in given if name == "_type" for part in value.split(",") if part])
    reader = Reader(served.emr, served.base_url).of(actor.scopes)
    filters = _filters(reader, types, [value for name, value in given if name == "_typeFilter"])
    since = _since([value for name, value in given if name == "_since"])
    path = "/fhir/$export" if level == "system" else "/fhir/Patient/$export"
    query = f"?{request.query_string}" if request.query_string else ""
    await served.feed.look(actor.organization_id)
    async with served.database.transaction(actor.organization_id) as connection:
        url = f"{served.base_url}{path}{query}"
        id = await exporting.begin(connection, actor, url, level, types, filters, since)
    _wanted(request)
    headers = {"Content-Location": f"{served.base_url}/fhir/$export-status/{id}"}
    said = fhir.operation_outcome(
        "informational", "the export has begun; Content-Location says where to ask", "information"
    )
    return json_response(said, 202, headers, MEDIA_TYPE)


def _wanted(request: web.Request) -> None:
    """Who works on exports knows only laboratories that have links or that somebody has asked for since it began."""
    organization_id = actor_of(request).organization_id
    services(request).feed.poke(organization_id)
    waking.wake(organization_id)  # the daemon, where this is another process


def _types(request: web.Request, wanted: list[str]) -> list[str]:
    """What is exported: all that is asked for and may be read. Raises ApiError 400, 403."""
    scopes = actor_of(request).scopes
    known = [type for type in TYPES if type not in _NOT_EXPORTED]
    if unknown := [type for type in wanted if type not in known]:
        raise ApiError(400, "not-supported", f"{unknown[0][:40]!r} is not exported; {', '.join(known)} are")
    may = [type for type in known if restrictions(scopes, type, "r")]
    if refused := [type for type in wanted if type not in may]:
        raise ApiError(403, "forbidden", f"this needs the scope system/{refused[0]}.r")
    return [type for type in may if not wanted or type in wanted]


def _filters(reader: Reader, types: list[str], texts: list[str]) -> dict[str, str]:
    """`Observation?code=…` by type, one of each. Raises ApiError 400."""
    found: dict[str, str] = {}
    for text in texts:
        type, parameters = read_criteria(text)
        if type not in types:
            raise ApiError(400, "value", "_typeFilter is of a type that is exported: Observation?code=…")
        if type in found:
            raise ApiError(400, "not-supported", f"one _typeFilter of {type} is supported")
        try:
            reader.check(type, parameters)
        except ApiError as error:
            raise ApiError(400, error.code, f"_typeFilter: {error}") from None
        found[type] = text
    return found


def _since(texts: list[str]) -> datetime | None:
    try:
        instants = [datetime.fromisoformat(text.replace(" ", "+")) for text in texts]
        if len(instants) > 1 or any(one.tzinfo is None for one in instants):
            raise ApiError(400, "value", "_since is one instant with its zone, 2026-01-02T03:04:05Z")
        return instants[0].astimezone(UTC) if instants else None
    except (ValueError, OverflowError):
        raise ApiError(400, "value", "_since is an instant, 2026-01-02T03:04:05Z") from None


async def status(request: web.Request) -> web.StreamResponse:
    served, actor, id = services(request), actor_of(request), _id(request)
    async with served.database.organization(actor.organization_id) as connection:
        job = await exporting.own(connection, actor, id)
    await note_read(request, "read", "export", id, (), {"state": job.state})
    if job.state == "failed":
        raise ApiError(500, "exception", f"the export failed: {job.error}")
    if job.state != "completed" or job.transaction_time is None:
        _wanted(request)
        progress = f"{job.progress} resources, {len(job.files)} of {len(job.types)} types"
        return web.Response(status=202, headers={"X-Progress": progress, "Retry-After": str(POLL_S)})
    headers = {"Expires": job.expires_at.strftime("%a, %d %b %Y %H:%M:%S GMT")} if job.expires_at else {}
    return json_response(_manifest(job, served.base_url), 200, headers)


def _manifest(job: ExportJob, base_url: str) -> dict[str, object]:
    assert job.transaction_time is not None  # noqa: S101 - it was begun
    return {
        "transactionTime": fhir.instant(job.transaction_time),
        "request": job.request,
        "requiresAccessToken": True,
        "output": [
            {"type": one.type, "url": f"{base_url}/fhir/$export-files/{job.id}/{one.name}", "count": one.count}
            for one in job.files
            if one.count
        ],
        "deleted": [],
        "error": [],
    }


async def delete(request: web.Request) -> web.StreamResponse:
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        await exporting.cancel(connection, actor, _id(request))
    return web.Response(status=202)


async def download(request: web.Request) -> web.StreamResponse:
    """One file, by the name that the manifest gives it."""
    served, actor, id = services(request), actor_of(request), _id(request)
    async with served.database.organization(actor.organization_id) as connection:
        job = await exporting.own(connection, actor, id)
    file = next((one for one in job.files if one.name == request.match_info["name"]), None)
    if file is None or job.state != "completed":
        raise ApiError(404, "not-found", "there is no such file, or not yet")
    _still_reads(actor, job, file.type)
    await note_read(request, "export", file.type, id, (), {"count": str(file.count)})
    path = folder_of(served.settings) / str(id) / file.name
    if not path.is_file():
        raise ApiError(404, "not-found", "the file is not there any more")
    return web.FileResponse(path, headers={"Content-Type": NDJSON})


def _still_reads(actor: Actor, job: ExportJob, type: str) -> None:
    """Raise ApiError 403 unless all that the file may hold may be read by this token too: the file was made for the one
    that asked for it, which a query may not have narrowed as far."""
    may, asked = restrictions(actor.scopes, type, "r"), restrictions(job.scopes, type, "r")
    if not any(not one.parameters for one in may) and not (may and set(asked) <= set(may)):
        raise ApiError(403, "forbidden", f"this needs the scope system/{type}.r that the export was asked for with")


def _id(request: web.Request) -> UUID:
    id = read_id(request.match_info["id"])
    if id is None:
        raise ApiError(404, "not-found", "there is no export of this id, or it is over")
    return id


_NEED = Need(None, "Patient", "r", narrowed=True)  # what is exported is patients' data, whatever the types
ROUTES = (
    *(
        Route(method, path, handler, _NEED)
        for path, handler in (
            ("/fhir/$export", export_system),
            ("/fhir/Patient/$export", export_patients),
            ("/fhir/Group/{id}/$export", export_group),
        )
        for method in ("GET", "POST")
    ),
    Route("GET", "/fhir/$export-status/{id}", status, _NEED),
    Route("DELETE", "/fhir/$export-status/{id}", delete, _NEED),
    Route("GET", "/fhir/$export-files/{id}/{name}", download, _NEED),
)

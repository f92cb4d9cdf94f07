"""vread and the history of one resource (FHIR R4 http.html#vread, #history): what an EMR could see of it, newest first.

Whoever may not read a resource as it stands may not read it as it stood, and a version that was not to be seen is none:
neither is it listed, nor is there a gap where it would be. None of these is ever deleted. The pasts of Subscriptions
and Binaries, which no search of a laboratory's records finds, are in `subscription` and `binary`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Final
from uuid import UUID

from aiohttp import web

from interface.api.context import Handler, Need, Route, actor_of, json_response, note_read, services
from interface.api.fhir.negotiation import MEDIA_TYPE, negotiate
from interface.api.fhir.page import read_one
from interface.api.fhir.past import asked_of, bundle, page_of
from interface.api.fhir.routes import part_of, read_response, reader_of
from interface.api.fhir.types import TYPES, AnyShown, Shown
from interface.api.fhir.values import read_id, with_article
from interface.domain.views import Audience
from interface.errors import ApiError
from interface.render import fhir
from interface.store import evidence, history, lab
from interface.store.db import Connection

Versions = Callable[[Connection, UUID, Audience], Awaitable[list[Shown]]]  # newest first


async def _patients(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    found = await history.patient_versions(connection, id)
    return [Shown(id, fhir.patient(view), view.updated_at, id) for view in found]


async def _practitioners(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    found = await history.provider_versions(connection, id)
    return [Shown(id, fhir.practitioner(view), view.updated_at, None) for view in found]


async def _specimens(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    found = await history.specimen_versions(connection, id)
    return [Shown(id, fhir.specimen(view), view.updated_at, view.patient_id) for view in found]


async def _results(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    laboratory = await evidence.laboratory(connection)
    found = reversed(await lab.result_as_read(connection, id, audience))
    return [
        Shown(id, fhir.observation(replace(view, version_id=shown_id), laboratory), view.updated_at, view.patient_id)
        for shown_id, view in found
    ]


async def _reports(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    laboratory = await evidence.laboratory(connection)
    past = await history.order_past(connection, id, audience)
    views = [view for at in past.report_instants() if (view := past.at(at)) is not None]
    return [Shown(id, fhir.diagnostic_report(one, laboratory), one.updated_at, one.order.patient_id) for one in views]


async def _requests(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    order_id = await history.order_of(connection, id)
    past = await history.order_past(connection, order_id, audience) if order_id else history.OrderPast((), ())
    return [
        Shown(id, fhir.service_request(view.order, item), view.updated_at, view.order.patient_id)
        for at in past.request_instants()
        if (view := past.at(at)) is not None
        for item in view.order.items
        if item.id == id
    ]


async def _organizations(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    found = await history.laboratory_versions(connection, id)
    return [Shown(id, fhir.organization(view), view.updated_at, None) for view in found]


async def _devices(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    found = await history.device_versions(connection, id)
    return [Shown(id, fhir.device(view), view.updated_at, None) for view in found]


async def _only(connection: Connection, id: UUID, audience: Audience) -> list[Shown]:
    """Of what never changes: it is its one version."""
    return []


PASTS: Final[dict[str, Versions]] = {
    "Patient": _patients,
    "Observation": _results,
    "DiagnosticReport": _reports,
    "ServiceRequest": _requests,
    "Specimen": _specimens,
    "Practitioner": _practitioners,
    "Organization": _organizations,
    "Device": _devices,
    "Provenance": _only,
    "AuditEvent": _only,
}


_TOGETHER: Final = ("DiagnosticReport", "ServiceRequest")  # put together of an order and its results as of an instant


async def versions(request: web.Request, connection: Connection, kind: str, id: UUID) -> list[AnyShown]:
    """All versions that who asks may see, newest first: the present one as it is read, then what was before it. Empty
    where the resource may not be read."""
    audience = services(request).emr
    now = await read_one(connection, kind, id, reader_of(request).narrowed(kind, "r"), audience)
    if now is None:
        return []
    before = [one for one in await PASTS[kind](connection, id, audience) if one.version != now.version]
    if kind in _TOGETHER:
        before = [one for one in before if one.updated_at <= now.updated_at]
    return [now, *before]


# ---- handlers -------------------------------------------------------------------------------------------------------


async def _found(request: web.Request, kind: str, id: UUID | None) -> list[AnyShown]:
    if id is None:
        return []
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        return await versions(request, connection, kind, id)


def _vread(kind: str) -> Handler:
    async def vread(request: web.Request) -> web.StreamResponse:
        negotiate(request)
        id, version = read_id(request.match_info["id"]), request.match_info["vid"]
        part = part_of(request, kind)
        found = next((one for one in await _found(request, kind, id) if one.version == version), None)
        patients = [found.patient_id] if found is not None else []
        await note_read(request, "vread", kind, id, patients, {"found": "yes" if found is not None else "no"})
        if found is None:
            raise ApiError(404, "not-found", f"there is no such version of {with_article(kind)} of this id")
        return read_response(request, found, part)

    return vread


def _history(kind: str) -> Handler:
    async def past(request: web.Request) -> web.StreamResponse:
        negotiate(request)
        id, asked = read_id(request.match_info["id"]), asked_of(request)
        found = await _found(request, kind, id)
        await note_read(request, "history", kind, id, [one.patient_id for one in found], {"versions": str(len(found))})
        if not found or id is None:
            raise ApiError(404, "not-found", f"there is no {kind} of this id")
        return json_response(bundle(request, kind, id, page_of(found, asked)), content_type=MEDIA_TYPE)

    return past


def _routes() -> Iterator[Route]:
    for kind in PASTS:
        need = Need(TYPES[kind].permission, kind, "r", narrowed=True)
        yield Route("GET", f"/fhir/{kind}/{{id}}/_history", _history(kind), need)
        yield Route("GET", f"/fhir/{kind}/{{id}}/_history/{{vid}}", _vread(kind), need)


ROUTES = tuple(_routes())

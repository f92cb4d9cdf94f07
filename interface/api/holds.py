"""`/api/legal-holds`: what is kept beyond its time (docs/retention.md); for those who may say so."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import path_id, read_query
from interface.domain.permissions import Permission
from interface.errors import ApiError
from interface.flow import holds
from interface.store.holds import Hold, HoldKind, standing


@dataclass(frozen=True, slots=True)
class Made:
    """The hold that stands from now on, or did already."""

    id: UUID


async def list_holds(request: web.Request) -> web.StreamResponse:
    """Those that stand, the oldest first. Patients are named by their ids only."""
    read_query(request, "api/legal-holds", ())
    actor = actor_of(request)
    async with services(request).database.organization(actor.organization_id) as connection:
        found = await standing(connection)
    await note_read(request, "search", "legal_hold")
    return json_response({"holds": found})


async def add_hold(request: web.Request) -> web.StreamResponse:
    """`{patient, reason}`: of a patient, by id, and whoever is found to be the same; `{order, reason}`: of an order, by
    number; `{reason}`: of the whole laboratory."""
    body = await read_body(request)
    of = {HoldKind.PATIENT: body.text("patient", ""), HoldKind.ORDER: body.text("order", "")}
    reason = body.text("reason")
    body.done()
    named = [(kind, name) for kind, name in of.items() if name] or [(HoldKind.ORGANIZATION, "")]
    if len(named) > 1:
        raise ApiError(422, "value", "patient or order, not both")
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        made = await holds.add(connection, actor, *named[0], reason)
    return json_response({"hold": Made(made)}, 201)


async def end_hold(request: web.Request) -> web.StreamResponse:
    """`{reason}`: what it kept goes with the next retention, if it is old enough."""
    id, body = path_id(request), await read_body(request)
    reason = body.text("reason")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        await holds.remove(connection, actor, id, reason)
    return json_response({"hold": Made(id)})


_READ, _WRITE = Need(Permission.AUDIT_READ), Need(Permission.HOLD_WRITE)
ROUTES = (
    Route("GET", "/api/legal-holds", list_holds, _READ, gives={"holds": [Hold]}),
    Route("POST", "/api/legal-holds", add_hold, _WRITE, gives={"hold": Made}, status=201),
    Route("POST", "/api/legal-holds/{id}/end", end_hold, _WRITE, gives={"hold": Made}),
)

"""`/api/subscriptions`: which EMRs are told of changes, and whether they take it; for the laboratory's people."""

from __future__ import annotations

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, services
from interface.api.lists import path_id
from interface.domain.permissions import Permission
from interface.flow import subscriptions
from interface.flow.subscriptions import Shown
from interface.store.subscriptions import LetterView


async def list_subscriptions(request: web.Request) -> web.StreamResponse:
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        return json_response({"subscriptions": await subscriptions.listed(connection, actor)})


async def get_subscription(request: web.Request) -> web.StreamResponse:
    """One, with the letters that its endpoint refused."""
    id, actor = path_id(request), actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        found, letters = await subscriptions.shown(connection, actor, id)
    return json_response({"subscription": found, "letters": letters})


async def resume(request: web.Request) -> web.StreamResponse:
    """`{letters}`: go on from where it stopped; with what was refused, first."""
    id, body = path_id(request), await read_body(request, optional=True)
    letters = body.flag("letters")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        found = await subscriptions.resume(connection, actor, id, letters=letters)
    return json_response({"subscription": found})


async def switch_off(request: web.Request) -> web.StreamResponse:
    """`{reason}`: tell it nothing more."""
    id, body = path_id(request), await read_body(request)
    reason = body.text("reason")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        found = await subscriptions.switch_off(connection, actor, id, reason)
    return json_response({"subscription": found})


_NEED = Need(Permission.CLIENT_WRITE)
ROUTES = (
    Route("GET", "/api/subscriptions", list_subscriptions, _NEED, gives={"subscriptions": [Shown]}),
    Route(
        "GET",
        "/api/subscriptions/{id}",
        get_subscription,
        _NEED,
        gives={"subscription": Shown, "letters": [LetterView]},
    ),
    Route("POST", "/api/subscriptions/{id}/resume", resume, _NEED, gives={"subscription": Shown}),
    Route("POST", "/api/subscriptions/{id}/off", switch_off, _NEED, gives={"subscription": Shown}),
)

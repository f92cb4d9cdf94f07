"""Who orders: `/api/providers`. For staff; an EMR names its requesters in its orders."""

from __future__ import annotations

from aiohttp import web

from interface.api.bodies import read_body, version_of
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import listing, not_found, path_id, read_query
from interface.api.people import identifiers_of
from interface.domain.permissions import Permission
from interface.domain.views import ProviderView
from interface.flow import practitioners as flow
from interface.store import practitioners
from interface.store.practitioners import ProviderFilter


async def list_providers(request: web.Request) -> web.StreamResponse:
    query = read_query(request, "api/providers", ("identifier", "authority", "name", "active"))
    filter = ProviderFilter(
        identifier=query.text("identifier"),
        authority=query.text("authority") or None,
        name=query.text("name"),
        active=query.asked("active"),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await practitioners.find_providers(connection, filter)
    await note_read(request, "search", "provider", None, (), {"query": query.words})
    return query.answer("providers", found)


async def get_provider(request: web.Request) -> web.StreamResponse:
    provider_id = path_id(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        view = await practitioners.get_provider(connection, provider_id)
    await note_read(request, "read", "provider", provider_id, (), {"found": "no" if view is None else "yes"})
    if view is None:
        raise not_found()
    return json_response(view)


async def create_provider(request: web.Request) -> web.StreamResponse:
    body = await read_body(request)
    words = {name: body.text(name, "") for name in ("family", "given", "role")}
    new = flow.NewProvider(identifiers_of(body), **words)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await flow.create_provider(connection, actor, new)
    return json_response(view, 201, {"Location": f"/api/providers/{view.id}"})


async def update_provider(request: web.Request) -> web.StreamResponse:
    """Only the members that are given change; `identifiers` are then all of them. `version` as of a patient."""
    body = await read_body(request)
    words = {name: body.text(name, "") if body.has(name) else None for name in ("family", "given", "role")}
    change = flow.ProviderChange(
        identifiers=identifiers_of(body) if body.has("identifiers") else None,
        active=body.flag("active") if body.has("active") else None,
        **words,
    )
    version = version_of(request, body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await flow.update_provider(connection, actor, path_id(request), change, version)
    return json_response(view)


_P = Permission
ROUTES = (
    Route("GET", "/api/providers", list_providers, Need(_P.ORDER_READ), gives=listing("providers", ProviderView)),
    Route("POST", "/api/providers", create_provider, Need(_P.PROVIDER_WRITE), gives=ProviderView, status=201),
    Route("GET", "/api/providers/{id}", get_provider, Need(_P.ORDER_READ), gives=ProviderView),
    Route("PATCH", "/api/providers/{id}", update_provider, Need(_P.PROVIDER_WRITE), gives=ProviderView),
)

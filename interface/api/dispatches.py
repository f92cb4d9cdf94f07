"""The order book over REST: what analyzers were told and answered, and which measures what. For staff alone."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import listing, one, read_query
from interface.domain.permissions import Permission
from interface.domain.routing import DispatchKind, DispatchState, WhenDown
from interface.flow import dispatches
from interface.flow.dispatches import RouteEntry
from interface.store import dispatch_views
from interface.store.db import Connection
from interface.store.dispatch_views import DispatchEventView, DispatchFilter, DispatchView, RouteView
from interface.store.query import Cursor


async def list_dispatches(request: web.Request) -> web.StreamResponse:
    """The newest first: what has not ended, of `state` whatever is asked for, with `all=true` everything."""
    known = ("state", "kind", "analyzer", "barcode", "order", "test", "all")
    query = read_query(request, "api/dispatches", known)
    states = query.choices("state", DispatchState)
    filter = DispatchFilter(
        states=states,
        kinds=query.choices("kind", DispatchKind),
        analyzers=one(query.text("analyzer")),
        barcodes=one(query.text("barcode")),
        order_numbers=one(query.text("order")),
        tests=one(query.text("test")),
        open_only=not states and not query.flag("all"),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await dispatch_views.find(connection, filter)
    shown = found[: query.limit]
    await note_read(request, "search", "dispatch", None, [each.patient_id for each in shown], {"query": query.words})
    more = len(found) > len(shown)
    link = query.link("dispatches", Cursor(shown[-1].created_at, shown[-1].id)) if more else None
    return json_response({"dispatches": shown, "next": link})


async def get_dispatch(request: web.Request) -> web.StreamResponse:
    """By id or work id, with everything that happened to it."""
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        view, events = await dispatches.show(connection, await _id(request, connection))
    await note_read(request, "read", "dispatch", view.id, [view.patient_id])
    return json_response({"dispatch": view, "events": events})


async def resend(request: web.Request) -> web.StreamResponse:
    """`{reason}`: it is told again, as new work; the answer is that."""
    actor, (dispatch_id, reason) = actor_of(request), await _what(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await dispatches.resend(connection, actor, dispatch_id, reason)
    return json_response({"dispatch": view})


async def cancel(request: web.Request) -> web.StreamResponse:
    """`{reason}`: this analyzer is not to measure it."""
    actor, (dispatch_id, reason) = actor_of(request), await _what(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await dispatches.cancel(connection, actor, dispatch_id, reason)
    return json_response({"dispatch": view})


async def list_routes(request: web.Request) -> web.StreamResponse:
    """Those in force, of `test` or all."""
    query = read_query(request, "api/routes", ("test",))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await dispatch_views.find_routes(connection, one(query.text("test")))
    await note_read(request, "search", "route", None, (), {"query": query.words})
    return json_response({"routes": found})


async def set_routes(request: web.Request) -> web.StreamResponse:
    """`{analyzers: [{analyzer, share, when_down, codes}], specimen_type, reason}`, in order of preference; none: all
    that can measure it are offered it."""
    body = await read_body(request)
    entries = []
    for entry in body.objects("analyzers"):
        entries.append(
            RouteEntry(
                entry.text("analyzer"),
                entry.number("share") or 0,
                entry.choice("when_down", WhenDown, WhenDown.NEXT),
                entry.texts("codes"),
            )
        )
        entry.close()
    specimen_type, reason = body.text("specimen_type", ""), body.text("reason")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        test = request.match_info["test"]
        found = await dispatches.set_routes(connection, actor, test, entries, reason, specimen_type)
    return json_response({"routes": found})


async def set_down(request: web.Request) -> web.StreamResponse:
    """`{reason}`: the analyzer measures nothing; its routed work goes to the next."""
    return await _set_down(request, is_down=True)


async def set_up(request: web.Request) -> web.StreamResponse:
    """`{reason}`: it measures again."""
    return await _set_down(request, is_down=False)


async def _set_down(request: web.Request, *, is_down: bool) -> web.StreamResponse:
    reason, actor, name = await _reason(request), actor_of(request), request.match_info["name"]
    async with services(request).database.transaction(actor.organization_id) as connection:
        await dispatches.set_down(connection, actor, name, reason, is_down=is_down)
    return json_response({"analyzer": name, "down": is_down})


async def _id(request: web.Request, connection: Connection) -> UUID:
    return await dispatches.find_id(connection, request.match_info["id"])


async def _what(request: web.Request) -> tuple[UUID, str]:
    """The work and the reason. An id that is not known is 404 whatever the body says, another laboratory's too."""
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        dispatch_id = await _id(request, connection)
    return dispatch_id, await _reason(request)


async def _reason(request: web.Request) -> str:
    body = await read_body(request)
    reason = body.text("reason")
    body.done()
    return reason


_P = Permission
ROUTES = (
    Route("GET", "/api/dispatches", list_dispatches, Need(_P.ORDER_READ), gives=listing("dispatches", DispatchView)),
    Route(
        "GET",
        "/api/dispatches/{id}",
        get_dispatch,
        Need(_P.ORDER_READ),
        gives={"dispatch": DispatchView, "events": [DispatchEventView]},
    ),
    Route("POST", "/api/dispatches/{id}/resend", resend, Need(_P.DISPATCH_WRITE), gives={"dispatch": DispatchView}),
    Route("POST", "/api/dispatches/{id}/cancel", cancel, Need(_P.DISPATCH_WRITE), gives={"dispatch": DispatchView}),
    Route("GET", "/api/routes", list_routes, Need(_P.ORDER_READ), gives={"routes": [RouteView]}),
    Route("PUT", "/api/routes/{test}", set_routes, Need(_P.MAP_WRITE), gives={"routes": [RouteView]}),
    Route(
        "POST", "/api/analyzers/{name}/down", set_down, Need(_P.DISPATCH_WRITE), gives={"analyzer": str, "down": bool}
    ),
    Route("POST", "/api/analyzers/{name}/up", set_up, Need(_P.DISPATCH_WRITE), gives={"analyzer": str, "down": bool}),
)

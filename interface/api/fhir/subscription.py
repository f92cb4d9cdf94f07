"""Subscription: a client has itself told of changes (R4 subscription.html, rest-hook); docs/changes.md.

Each client sees its own. What is wrong with one is said all at once; what it asks for is active at once. Values of
headers are not shown: `Authorization: ***` sent back for the same endpoint leaves the value as it is.
"""

from __future__ import annotations

from email.utils import format_datetime
from uuid import UUID

import orjson
from aiohttp import web

from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.fhir.element import Element, Faults
from interface.api.fhir.few import Few, few
from interface.api.fhir.negotiation import JSON_TYPES, MEDIA_TYPE, negotiate
from interface.api.fhir.past import Deletion, asked_of, bundle, page_of
from interface.api.fhir.reading import Reader
from interface.api.fhir.routes import part_of, read_response
from interface.api.fhir.search import MOST_COUNT
from interface.api.fhir.types import SUBSCRIPTION, AnyShown, Shown
from interface.api.fhir.values import alternatives, read_id
from interface.errors import ApiError
from interface.flow import subscriptions
from interface.flow.hooks import Hooks
from interface.flow.subscriptions import Asked
from interface.render import fhir
from interface.render.fhir import Json
from interface.store import history as kept
from interface.store import subscriptions as rows
from interface.store.history import SubscriptionPast
from interface.store.subscriptions import SubscriptionView


def resource(view: SubscriptionView | SubscriptionPast) -> Json:
    channel: Json = {"type": "rest-hook", "endpoint": view.endpoint}
    if view.payload:
        channel["payload"] = view.payload
    if view.headers:
        channel["header"] = [subscriptions.masked(one) for one in view.headers]
    found: Json = {
        "resourceType": "Subscription",
        "id": str(view.id),
        "meta": {"versionId": str(view.version), "lastUpdated": fhir.instant(view.updated_at)},
        "status": view.status.value,
        "reason": view.reason or "changes",
        "criteria": view.criteria,
        "channel": channel,
    }
    if view.ends_at is not None:
        found["end"] = fhir.instant(view.ends_at)
    if view.error:
        found["error"] = view.error
    return found


async def _asked(request: web.Request, id: UUID | None = None) -> Asked:
    """Raises ApiError 400, 415, 422."""
    if request.content_type not in JSON_TYPES:
        raise ApiError(415, "not-supported", f"the body is {MEDIA_TYPE}")
    try:
        value = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise ApiError(400, "structure", "the body is not JSON") from None
    faults = Faults()
    body = Element(value, "Subscription", faults)
    if body.text("resourceType") != "Subscription":
        raise ApiError(400, "structure", "the body is not a Subscription")
    if id is not None and body.text("id").lower() != str(id):
        raise ApiError(400, "value", "Subscription.id is not that of the address")
    channel = body.one("channel") or Element({}, "Subscription.channel", faults)
    if channel.text("type", required=True) not in ("rest-hook", ""):
        channel.fault("is rest-hook here", "type", "not-supported")
    asked = Asked(
        body.text("status", required=True),
        body.text("criteria", required=True),
        channel.text("endpoint", required=True),
        channel.text("payload"),
        channel.texts("header"),
        body.text("reason", required=True),
        body.instant("end"),
    )
    faults.check()
    return asked


def _parts(request: web.Request) -> tuple[Hooks, Reader]:
    served = services(request)
    api = served.settings.api
    return Hooks.of(api.hooks, api.hook_networks), Reader(served.emr, served.base_url)


async def create(request: web.Request) -> web.StreamResponse:
    asked, actor = await _asked(request), actor_of(request)
    await services(request).feed.look(actor.organization_id)  # it is told of what comes now, and of nothing before
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await subscriptions.create(connection, actor, asked, *_parts(request))
    location = f"{services(request).base_url}/fhir/Subscription/{view.id}/_history/{view.version}"
    return _answer(view, 201, {"Location": location})


async def update(request: web.Request) -> web.StreamResponse:
    id, actor = _id(request), actor_of(request)
    async with services(request).database.organization(actor.organization_id) as connection:
        await subscriptions.own(connection, actor, id)  # what is not there has no body that could be wrong
    asked, version = await _asked(request, id), _version(request.headers.get("If-Match", ""))
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await subscriptions.update(connection, actor, id, asked, *_parts(request), version)
    return _answer(view, 200, {})


def _answer(view: SubscriptionView, status: int, headers: dict[str, str]) -> web.Response:
    tags = {
        "ETag": f'W/"{view.version}"',
        "Last-Modified": format_datetime(view.updated_at.replace(microsecond=0), usegmt=True),
    }
    return json_response(resource(view), status, headers | tags, MEDIA_TYPE)


async def delete(request: web.Request) -> web.StreamResponse:
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        await subscriptions.delete(connection, actor, _id(request))
    return web.Response(status=204)


async def read(request: web.Request) -> web.StreamResponse:
    negotiate(request)
    id, actor, part = _id(request), actor_of(request), part_of(request, "Subscription")
    await note_read(request, "read", "Subscription", id)
    async with services(request).database.organization(actor.organization_id) as connection:
        view = await subscriptions.own(connection, actor, id)
    return read_response(request, Shown(view.id, resource(view), view.updated_at, None), part)


async def _versions(request: web.Request, id: UUID | None) -> list[AnyShown | Deletion]:
    """All of the client's own, also of one that it has deleted, newest first; none of anybody else's."""
    actor = actor_of(request)
    if id is None or actor.id is None:
        return []
    async with services(request).database.organization(actor.organization_id) as connection:
        view = await rows.find(connection, id)
        if not (view and view.client_id == actor.id) and not await rows.deleted(connection, id, actor.id):
            return []
        found = await kept.subscription_versions(connection, id)
    return [
        Deletion(str(one.version), one.updated_at) if one.ended else Shown(id, resource(one), one.updated_at, None)
        for one in found
    ]


async def history(request: web.Request) -> web.StreamResponse:
    negotiate(request)
    id, asked = read_id(request.match_info["id"]), asked_of(request)
    found = await _versions(request, id)
    await note_read(request, "history", "Subscription", id, (), {"versions": str(len(found))})
    if not found or id is None:
        raise ApiError(404, "not-found", "there is no Subscription of this id")
    return json_response(bundle(request, "Subscription", id, page_of(found, asked)), content_type=MEDIA_TYPE)


async def vread(request: web.Request) -> web.StreamResponse:
    negotiate(request)
    id, version = read_id(request.match_info["id"]), request.match_info["vid"]
    part = part_of(request, "Subscription")
    found = next((one for one in await _versions(request, id) if one.version == version), None)
    await note_read(request, "vread", "Subscription", id, (), {"found": "yes" if found is not None else "no"})
    if found is None:
        raise ApiError(404, "not-found", "there is no such version of a Subscription of this id")
    if isinstance(found, Deletion):
        raise ApiError(410, "deleted", "this version says that it was deleted")
    return read_response(request, found, part)


async def search(request: web.Request) -> web.StreamResponse:
    """The client's own, the oldest first."""
    asked, actor = await few(request, "Subscription", SUBSCRIPTION, MOST_COUNT), actor_of(request)
    async with services(request).database.organization(actor.organization_id) as connection:
        own = await rows.all_of(connection, actor.id)
    found = [Shown(view.id, resource(view), view.updated_at, None) for view in own if _meant(asked, view)]
    shown = asked.page(found)
    await note_read(request, "search", "Subscription", None, (), {"matches": str(len(shown))})
    return asked.answer(request, found, shown)


def _meant(asked: Few, view: SubscriptionView) -> bool:
    codes = {"status": view.status.value, "type": "rest-hook", "payload": view.payload, "_id": str(view.id)}
    texts = {"criteria": view.criteria, "url": view.endpoint}
    for name, value in asked.applied:
        if name in texts and texts[name] != value:
            return False
        if name in codes and codes[name] not in [one.rpartition("|")[2] for one in alternatives(value)]:
            return False
    return asked.changed(view.updated_at)


def _id(request: web.Request) -> UUID:
    id = read_id(request.match_info["id"])
    if id is None:
        raise ApiError(404, "not-found", "there is no Subscription of this id")
    return id


def _version(tag: str) -> int | None:
    if not tag:
        return None
    text = tag.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ApiError(412, "conflict", "If-Match is not a version of this resource")
    return int(text)


ROUTES = (
    Route("GET", "/fhir/Subscription", search, Need(None, "Subscription", "s")),
    Route("POST", "/fhir/Subscription/_search", search, Need(None, "Subscription", "s")),
    Route("GET", "/fhir/Subscription/{id}", read, Need(None, "Subscription", "r")),
    Route("GET", "/fhir/Subscription/{id}/_history", history, Need(None, "Subscription", "r")),
    Route("GET", "/fhir/Subscription/{id}/_history/{vid}", vread, Need(None, "Subscription", "r")),
    Route("POST", "/fhir/Subscription", create, Need(None, "Subscription", "c")),
    Route("PUT", "/fhir/Subscription/{id}", update, Need(None, "Subscription", "u")),
    Route("DELETE", "/fhir/Subscription/{id}", delete, Need(None, "Subscription", "d")),
)

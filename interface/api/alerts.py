"""`/api/alerts`: what is wrong, who sees to it, and what is not told for a while; for the laboratory's people."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import path_id, read_query
from interface.domain.alerts import AlertKind, Subject
from interface.domain.permissions import Permission
from interface.errors import ApiError
from interface.flow import alerting
from interface.store.alerts import AlertEvent, AlertView, SilenceView


async def list_alerts(request: web.Request) -> web.StreamResponse:
    """What stands, the latest first; `all=true`: also what has recovered. `kind`: of one kind."""
    query = read_query(request, "api/alerts", ("kind", "all"))
    actor, kind = actor_of(request), query.text("kind")
    if kind and kind not in list(AlertKind):
        raise ApiError(400, "value", f"kind is none of {', '.join(AlertKind)}")
    async with services(request).database.organization(actor.organization_id) as connection:
        found = await alerting.listed(
            connection, actor, kinds=(AlertKind(kind),) if kind else (), standing=not query.flag("all"),
            limit=query.limit,
        )  # fmt: skip
    await note_read(request, "search", "alert", None, (), {"query": query.words})
    return json_response({"alerts": found})


async def get_alert(request: web.Request) -> web.StreamResponse:
    """One, with what happened to it and who was told."""
    id, actor = path_id(request), actor_of(request)
    async with services(request).database.organization(actor.organization_id) as connection:
        found, events = await alerting.shown(connection, actor, id)
    await note_read(request, "read", "alert", id)
    return json_response({"alert": found, "events": events})


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """`{comment}`: somebody sees to it, and nobody else is told."""
    id, body = path_id(request), await read_body(request, optional=True)
    comment = body.text("comment", "")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        found = await alerting.acknowledge(connection, actor, id, comment)
    return json_response({"alert": found})


async def list_silences(request: web.Request) -> web.StreamResponse:
    """What is not told now or will not be; `all=true`: also what was not."""
    query, actor = read_query(request, "api/alert-silences", ("all",)), actor_of(request)
    async with services(request).database.organization(actor.organization_id) as connection:
        found = await alerting.silences(connection, actor, past=query.flag("all"))
    await note_read(request, "search", "alert_silence", None, (), {"query": query.words})
    return json_response({"silences": found})


async def silence(request: web.Request) -> web.StreamResponse:
    """`{kind, thing, subject, begins_at, ends_at, reason}`: nothing is told of these; without what, of all."""
    body = await read_body(request)
    body.required("ends_at")
    kind = body.word("kind", {one.value: one for one in AlertKind}) if body.has("kind") else None
    subject = Subject(body.text("thing", ""), body.text("subject", ""))
    begins_at, ends_at, reason = body.instant("begins_at"), body.instant("ends_at"), body.text("reason")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        made = await alerting.silence(
            connection, actor, ends_at=ends_at or datetime.now(UTC), reason=reason, kind=kind, subject=subject,
            begins_at=begins_at,
        )  # fmt: skip
    return json_response({"silence": made}, 201)


async def end_silence(request: web.Request) -> web.StreamResponse:
    """They are told again."""
    id, actor = path_id(request), actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        found = await alerting.end_silence(connection, actor, id)
    return json_response({"silence": found})


_READ, _WRITE = Need(Permission.ALERT_READ), Need(Permission.ALERT_WRITE)
ROUTES = (
    Route("GET", "/api/alerts", list_alerts, _READ, gives={"alerts": [AlertView]}),
    Route("GET", "/api/alerts/{id}", get_alert, _READ, gives={"alert": AlertView, "events": [AlertEvent]}),
    Route("POST", "/api/alerts/{id}/acknowledge", acknowledge, _WRITE, gives={"alert": AlertView}),
    Route("GET", "/api/alert-silences", list_silences, _READ, gives={"silences": [SilenceView]}),
    Route("POST", "/api/alert-silences", silence, _WRITE, gives={"silence": SilenceView}, status=201),
    Route("POST", "/api/alert-silences/{id}/end", end_silence, _WRITE, gives={"silence": SilenceView}),
)

"""For machines that watch the daemon: no patient data, no names, no authentication."""

from __future__ import annotations

from aiohttp import web

from interface import telemetry
from interface.api.context import PUBLIC, Route, json_response, services


async def health(request: web.Request) -> web.StreamResponse:
    """The process answers."""
    return json_response({"status": "ok"})


async def ready(request: web.Request) -> web.StreamResponse:
    """The database and every link can do their work; 503 when not."""
    state = services(request).ready()
    answer = {"ready": state.ready, "database": state.database, "links": state.links, "text": state.text}
    return json_response(answer, 200 if state.ready else 503)


async def active(request: web.Request) -> web.StreamResponse:
    """This daemon has the links of its configuration; 503 where another has one of them (docs/standby.md)."""
    state = services(request).ready()
    return json_response({"active": state.active}, 200 if state.active else 503)


async def metrics(request: web.Request) -> web.StreamResponse:
    """OpenMetrics text."""
    body, content_type = await services(request).metrics()
    return web.Response(body=body, headers={"Content-Type": content_type})


_READY = {"ready": bool, "database": bool, "links": bool, "text": str}
ROUTES = (
    Route("GET", "/health", health, PUBLIC, gives={"status": str}),
    Route("GET", "/ready", ready, PUBLIC, gives=_READY, also={503: _READY}),
    Route("GET", "/active", active, PUBLIC, gives={"active": bool}, also={503: {"active": bool}}),
    Route("GET", "/metrics", metrics, PUBLIC, gives=str, media=telemetry.METRICS_MEDIA),
)

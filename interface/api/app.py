"""The HTTP server: its routes from their tables, and what is true of every request.

From the outside in: request id, headers and metrics; errors in the words of the interface asked (OperationOutcome below
/fhir, RFC 9457 elsewhere), never with internals; authentication (`api.auth`); limits; of changes, that each is made
once, and waking the links that may have to tell of it; the handler.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiohttp import web

from interface import telemetry
from interface.api import (
    alerts,
    auth,
    catalogue,
    changes,
    criticals,
    dispatches,
    events,
    health,
    holds,
    idempotency,
    limits,
    openapi,
    orders,
    pbrtqc,
    people,
    providers,
    qc,
    qc_charts,
    qc_gate,
    qc_lots,
    qc_peers,
    reports,
    rest,
    results,
    rules,
    specimens,
    statistics,
    subscriptions,
    worksheets,
)
from interface.api.context import (
    ACTOR,
    AFTER,
    ENDING,
    NEEDS,
    NOTED,
    REQUEST_ID,
    SEAL,
    SERVICES,
    Handler,
    LinkStatus,
    Readiness,
    Route,
    Services,
    actor_of,
    base_url_of,
    json_response,
    services,
)
from interface.api.fhir import binary, everything, export, history, ordering, subscription
from interface.api.fhir import routes as fhir
from interface.api.fhir.reads import READS, Reads
from interface.api.fhir.searches import SEARCHES, Searches
from interface.api.key_fetch import KeyFetcher
from interface.api.paging import Pages
from interface.domain.review import Refusal, ReviewError
from interface.domain.views import Actor
from interface.errors import ApiError, IllegalStep, Issue, StoreError
from interface.flow import waking
from interface.flow.actors import Tokens
from interface.flow.client_keys import KeySource
from interface.flow.feed import Feed
from interface.flow.problems import OrderError
from interface.render.fhir import operation_outcome
from interface.settings import Settings
from interface.store.audit import AuditWriter
from interface.store.db import SEARCH_TIMEOUT_S, Database
from interface.store.ids import uuid7
from interface.store.search.engine import TooCostly

__all__ = ["MOST_BODY_BYTES", "LinkStatus", "Readiness", "build_app", "routes"]

MOST_BODY_BYTES = 1 << 20

_log = structlog.get_logger(__name__)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "Labora",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_OF_TLS = {"Strict-Transport-Security": "max-age=31536000"}  # RFC 6797
_OF_ALL: web.AppKey[tuple[tuple[str, str], ...]] = web.AppKey("of_all", tuple)  # headers of every answer
_REFUSALS = {
    Refusal.NOT_FOUND: (404, "not-found"),
    Refusal.FORBIDDEN: (403, "forbidden"),
    Refusal.CONFLICT: (409, "conflict"),
    Refusal.INVALID: (422, "value"),
}
_NOTED_ELSEWHERE = (401, 429)  # by `auth` and `limits`
_REACHED = (403, 410)  # a type that a scope is not for, in an include or chain; a page of somebody else
_NUL = re.compile("%00|\0")
_HTTP_CODES = {400: "structure", 404: "not-found", 405: "not-supported", 413: "too-long", 415: "not-supported"}


def routes() -> tuple[Route, ...]:
    """Every route there is, with what it needs."""
    # Worksheets before orders: the worklist's path is also that of an order, and the first that takes it has it.
    bench = (worksheets, orders, specimens, results, criticals, dispatches, reports, statistics)
    of_qc = (qc_gate, qc, qc_lots, qc_peers, qc_charts, pbrtqc)  # the gate first: `status` is no result's id
    told = (changes, events, alerts, subscriptions, subscription, export, binary)
    of_fhir = (fhir, history, everything, ordering)
    of_staff = (people, providers, *bench, catalogue, rules, holds)
    rooms = (health, openapi, auth, rest, *of_staff, *of_qc, *told, *of_fhir)
    return tuple(route for room in rooms for route in room.ROUTES)


def build_app(
    database: Database,
    settings: Settings,
    audit: AuditWriter,
    *,
    ready: Callable[[], Readiness],
    link_status: Callable[[], Sequence[LinkStatus]],
    keys: KeySource | None = None,
    feed: Feed | None = None,
    metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None = None,
) -> web.Application:
    """The application, to be served by the caller; the caller also starts and closes `audit`, and runs `feed`.

    `metrics`: what `/metrics` shows, by default what this process counts.
    `keys`: from where the public keys of clients are fetched; by default as `[api] jwks_hosts` allows.
    """
    app = web.Application(
        middlewares=[
            _frame, _errors, limits.of_address, auth.authenticate, _taken, _changed,
        ],
        client_max_size=MOST_BODY_BYTES,
    )  # fmt: skip
    app[limits.LIMITS], app[limits.MOST_BODY] = limits.Limits.of(settings.api), MOST_BODY_BYTES
    keys, feed = keys or KeyFetcher(settings.api.jwks_hosts), feed or Feed(database)
    app[ENDING] = asyncio.Event()
    secure = base_url_of(settings).startswith("https:")  # also where a proxy has the certificate
    app[_OF_ALL] = (*_HEADERS.items(), *(_OF_TLS.items() if secure else ()))
    app[SERVICES] = Services(
        database, settings, audit, ready, metrics or _own_metrics, link_status, Pages(database), keys, feed,
        Tokens(database),
    )  # fmt: skip
    app[READS] = Reads(database)
    app[SEARCHES] = Searches(database)
    app[events.STREAMS] = Counter()
    app[openapi.DESCRIBED] = openapi.Described(routes())
    app[NEEDS] = {(method, route.path): route.need for route in routes() for method in _methods(route)}
    for route in routes():
        for method in _methods(route):
            app.router.add_route(method, route.path, route.handler)
    return app


def _methods(route: Route) -> tuple[str, ...]:
    """What is read can be asked for without being sent (RFC 9110 9.3.2), but for a stream, which has no end, and an
    export, which begins with it."""
    reads = route.method == "GET" and route.media != "text/event-stream" and not route.path.endswith("/$export")
    return ("GET", "HEAD") if reads else (route.method,)


async def _own_metrics() -> tuple[bytes, str]:
    return telemetry.metrics_page()


# ---- what is true of every request ----------------------------------------------------------------------------------


@web.middleware
async def _frame(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Request id, security headers, metrics by route pattern (a path may name a patient)."""
    started = time.perf_counter()
    id = request[REQUEST_ID] = str(uuid7())
    resource = request.match_info.route.resource
    pattern = resource.canonical if resource is not None else "unknown"
    status = 500
    try:
        response = await handler(request)
        status = response.status
        if 400 <= status < 500:
            await _note_refused(request, pattern, status)
    finally:
        telemetry.observe_request(request.method, pattern, status, time.perf_counter() - started)
    headers = response.headers
    for name, value in request.app[_OF_ALL]:
        headers.setdefault(name, value)
    headers["X-Request-Id"] = id
    if request.app[ENDING].is_set():
        response.force_close()
    return response


async def _note_refused(request: web.Request, pattern: str, status: int) -> None:
    """What was refused was tried: a change stands in the audit as one that was made does, and so does who asked for
    what is not theirs."""
    if ACTOR not in request or NOTED in request or status in _NOTED_ELSEWHERE:
        return
    routed = request.match_info.http_exception is None
    if _asks(request) and status not in _REACHED and routed:
        return
    if not routed:
        pattern = await _pattern(request) or pattern
    detail = {"request": request[REQUEST_ID], "route": pattern, "status": str(status)}
    await services(request).audit.read(actor_of(request), request.method.lower(), "route", None, detail, "refused")


async def _pattern(request: web.Request) -> str:
    """Of the route that has the path, if not the method; "" where none has."""
    for resource in request.app.router.resources():
        if (await resource.resolve(request))[1]:
            return resource.canonical
    return ""


def _asks(request: web.Request) -> bool:
    """Whether the request changes nothing."""
    return request.method in ("GET", "HEAD") or request.path.endswith(("/_search", "/$everything"))


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if _NUL.search(request.raw_path) and (
            "\0" in request.path or any("\0" in value for value in request.query.values())
        ):
            raise ApiError(400, "value", "the address holds a character that is none")
        return await handler(request)
    except ApiError as error:
        headers = {"WWW-Authenticate": 'Bearer realm="labora"'} if error.status == 401 else {}
        if error.status == 429:  # RFC 6585 4
            wait_s = error.retry_after_s if isinstance(error, limits.Throttled) else 1.0
            headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
        return _problem(request, error.status, error.code, str(error), headers, error.issues)
    except OrderError as error:
        kind = (409, "conflict") if error.conflict else (404, "not-found") if error.missing else (422, "business-rule")
        return _problem(request, *kind, str(error))
    except ReviewError as error:
        return _problem(request, *_REFUSALS[error.refusal], str(error))
    except IllegalStep as error:
        return _problem(request, 409, "conflict", str(error))
    except TooCostly:
        text = f"this takes more than {SEARCH_TIMEOUT_S:.0f} s: name a patient, a specimen or an order, or ask for less"
        return _problem(request, 400, "too-costly", text)
    except StoreError as error:
        _log.warning("request without a database", action="api.store", request=request[REQUEST_ID], error=error.slug)
        return _problem(request, 503, "transient", "the database is not available now", {"Retry-After": "5"})
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _problem(request, error.status, _HTTP_CODES.get(error.status, "processing"), error.reason, kept)
    except Exception:
        _log.error("request failed", action="api.failed", request=request[REQUEST_ID], exc_info=True)
        text = f"something went wrong inside; the laboratory finds it in its log as {request[REQUEST_ID]}"
        return _problem(request, 500, "exception", text)


@web.middleware
async def _taken(request: web.Request, handler: Handler) -> web.StreamResponse:
    """How often who asks may ask, the body, and what page links are made and opened with, of who asks' organization."""
    actor: Actor | None = request.get(ACTOR)
    if actor is not None and request.path not in limits.UNLIMITED:
        await limits.of_client(request, actor)
    if request.body_exists:
        await limits.of_body(request)
    if actor is not None:
        request[SEAL] = await services(request).pages.seal(actor.organization_id)
    return await handler(request)


@web.middleware
async def _changed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A change is made once (`idempotency`). What was changed, by whatever route, may be work for analyzers: their
    links look now, for it is committed."""
    if ACTOR not in request or _asks(request):
        return await handler(request)
    response = await idempotency.once(request, handler)
    if (after := request.get(AFTER)) is not None:
        await after()
    waking.wake(actor_of(request).organization_id)
    services(request).feed.poke(actor_of(request).organization_id)
    return response


def _problem(
    request: web.Request,
    status: int,
    code: str,
    text: str,
    headers: dict[str, str] | None = None,
    issues: tuple[Issue, ...] = (),
) -> web.Response:
    if request.path == "/fhir" or request.path.startswith("/fhir/"):
        return json_response(operation_outcome(code, text, issues=issues), status, headers, fhir.MEDIA_TYPE)
    reason = web.Response(status=status).reason
    problem = {"type": "about:blank", "title": reason, "status": status, "code": code, "detail": text}
    return json_response(problem, status, headers, "application/problem+json")

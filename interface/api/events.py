"""`/api/events`: what happens, as it happens, by server-sent events (WHATWG HTML, 9.2); docs/changes.md.

The positions are those of the feed of changes: `id` stands with the last event of a row, so that `Last-Event-ID`
resumes without a gap whatever was cut off. Users hear of results, links and alerts as their permissions go, clients
of what their scopes read. A reader that does not read is cut: nothing is kept for it here, the feed keeps it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from aiohttp import web

from interface.api.changes import Told, kinds_of, position_of, readable, told
from interface.api.context import ENDING, TOKEN, Need, Route, actor_of, note_read, services
from interface.api.fhir.reading import Reader
from interface.api.lists import read_query
from interface.domain.alerts import Told as AlertTold
from interface.domain.permissions import Permission
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError
from interface.render.json import dumps
from interface.store import changes
from interface.store.changes import Change

HEARTBEAT_S: Final = 15.0
LONGEST_S: Final = 3600.0  # then the client connects again, from where it was
WRITE_S: Final = 10.0  # a reader that takes nothing for so long is cut
RETRY_MS: Final = 2000
ROWS: Final = 100
MOST_OF_ONE, MOST_OF_ALL = 10, 500
_ALERTS: Final = {
    "critical": Permission.RESULT_READ,
    "qc_problem": Permission.QC_READ,
    changes.ALERT: Permission.ALERT_READ,
}

# It is sent before the rest of the server could add its own.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Accel-Buffering": "no",  # nginx passes it on as it comes
    "X-Content-Type-Options": "nosniff",
}


STREAMS: web.AppKey[Counter[UUID | None]] = web.AppKey("streams", Counter)  # that are open, by whose they are


def alerts_of(actor: Actor) -> frozenset[str]:
    """The kinds of alerts that the actor hears of: users of the laboratory, by permission."""
    if actor.kind is not ActorKind.USER:
        return frozenset()
    return frozenset(kind for kind, permission in _ALERTS.items() if permission.value in actor.scopes)


async def events(request: web.Request) -> web.StreamResponse:
    """`?after=POSITION`, or Last-Event-ID; nothing: from now on. `wait=false`: what there is, and the end."""
    query = read_query(request, "events", ("after", "wait"))
    asked, wait = query.text("after"), query.asked("wait") is not False
    served, actor = services(request), actor_of(request)
    if not readable(actor) and not alerts_of(actor):
        raise ApiError(403, "forbidden", "nothing whose events are told may be read")
    await served.feed.look(actor.organization_id)
    kinds = _kinds(request, actor)
    async with served.database.organization(actor.organization_id) as connection:
        asked = request.headers.get("Last-Event-ID", "") or asked or "now"
        position = await position_of(connection, asked, kinds)
    streams = request.app[STREAMS]
    if streams[actor.id] >= MOST_OF_ONE or streams.total() >= MOST_OF_ALL:
        raise ApiError(429, "throttled", f"at most {MOST_OF_ONE} streams are open for one; close another")
    await note_read(request, "listen", "event", None, (), {"after": str(position)})
    streams[actor.id] += 1
    try:
        return await _stream(request, actor, kinds, position, wait)
    finally:
        streams[actor.id] -= 1


def _kinds(request: web.Request, actor: Actor) -> tuple[str, ...]:
    return (*kinds_of(services(request).emr), *alerts_of(actor))


async def _stream(
    request: web.Request, actor: Actor, kinds: tuple[str, ...], position: int, wait: bool
) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    response.content_type, response.charset = "text/event-stream", "utf-8"
    await response.prepare(request)
    until = asyncio.get_running_loop().time() + LONGEST_S
    try:
        await _write(response, f"retry: {RETRY_MS}\n\n".encode())
        while True:
            end = services(request).feed.end(actor.organization_id)  # also of what is of no kind that is told here
            position, more = await _send(request, response, actor, kinds, position)
            if not more and (not wait or await _over(request, end)):
                break
            # Also while there is more: who reads a long feed slowly reads no longer than who waits.
            if (wait and asyncio.get_running_loop().time() > until) or await _may_no_more(request, actor):
                break
            if not more:
                await _write(response, b":\n\n")  # a comment: it keeps the connection, and finds out that it is gone
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


async def _over(request: web.Request, end: int) -> bool:
    """Wait for something after `end`, or for HEARTBEAT_S; whether the server stops."""
    closing = asyncio.create_task(request.app[ENDING].wait())
    feed = services(request).feed
    news = asyncio.create_task(feed.wait(actor_of(request).organization_id, end, HEARTBEAT_S))
    try:
        await asyncio.wait((closing, news), return_when=asyncio.FIRST_COMPLETED)
        return closing.done()
    finally:
        closing.cancel()
        news.cancel()
        await asyncio.gather(closing, news, return_exceptions=True)


async def _may_no_more(request: web.Request, actor: Actor) -> bool:
    """Whether the token has ended, or what it may: the client comes again with what it has then."""
    now = await services(request).tokens.actor(request[TOKEN], actor.address)
    return now is None or now.scopes != actor.scopes


async def _send(
    request: web.Request, response: web.StreamResponse, actor: Actor, kinds: tuple[str, ...], position: int
) -> tuple[int, bool]:
    """What comes after the position, ROWS of it at most: where it ends, and whether there is more."""
    served = services(request)
    async with served.database.organization(actor.organization_id) as connection:
        rows = await changes.after(connection, position, ROWS, kinds)
        if not rows:
            return position, False
        found = await told(
            connection, Reader(served.emr, served.base_url), readable(actor), position, rows[-1].position
        )
    if found:
        detail = {"after": str(position), "matches": str(len(found))}
        await note_read(request, "search", "event", None, [one.patient_id for one in found], detail)
    text = b"".join(_event(*one) for one in _events(rows, found))
    if text:
        await _write(response, text)
    return rows[-1].position, len(rows) == ROWS


def _events(rows: Iterable[Change], found: Iterable[Told]) -> Iterable[tuple[str, dict[str, object], int | None]]:
    """Name, data, and with the last of a row its position."""
    by_row: dict[int, list[tuple[str, dict[str, object]]]] = {}
    for one in found:
        data: dict[str, object] = {"type": one.type, "id": one.id, "version": one.version}
        by_row.setdefault(one.position, []).append((one.type, data))
    for row in rows:
        if row.kind in _ALERTS:
            by_row.setdefault(row.position, []).append((row.kind, {"id": row.entity_id, **_said(row)}))
    for position, events in sorted(by_row.items()):
        for place, (name, data) in enumerate(events, 1):
            yield name, data, position if place == len(events) else None


def _said(row: Change) -> dict[str, object]:
    if row.kind != changes.ALERT:
        return {"what": row.note}
    said = AlertTold.read(row.note)
    return {"what": said.phase, "kind": said.kind, "thing": said.subject.thing, "subject": said.subject.name}


def _event(name: str, data: dict[str, object], position: int | None) -> bytes:
    head = f"id: {position}\n" if position is not None else ""
    return f"{head}event: {name}\ndata: ".encode() + dumps(data) + b"\n\n"


async def _write(response: web.StreamResponse, text: bytes) -> None:
    """Returns when the rest fits the connection's buffer. TimeoutError: nobody reads."""
    async with asyncio.timeout(WRITE_S):
        await response.write(text)


ROUTES = (Route("GET", "/api/events", events, Need(any_actor=True), gives=str, media="text/event-stream"),)

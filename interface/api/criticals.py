"""Critical results over REST: what must be told, who was called, who was told. For staff alone."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web

from interface.api.bodies import Body, read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import path_id, read_query
from interface.domain.critical import Means, Obstacle
from interface.domain.permissions import Permission
from interface.flow import criticals
from interface.flow.criticals import Told
from interface.store.criticals import CriticalView, EventView


async def list_criticals(request: web.Request) -> web.StreamResponse:
    """What is not finished: what is to be told, then what is to be closed, the longest waiting first; `overdue=true`:
    what is past its time. `more`: than `limit`."""
    query = read_query(request, "api/results/critical", ("overdue",))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await criticals.waiting(connection, overdue=query.flag("overdue"), limit=query.limit + 1)
    found, more = found[: query.limit], len(found) > query.limit
    await note_read(request, "search", "critical", None, [task.patient_id for task in found], {"query": query.words})
    return json_response({"criticals": found, "more": more})


async def get_critical(request: web.Request) -> web.StreamResponse:
    """One task with everything that was done about it."""
    task_id = path_id(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        task, events = await criticals.show(connection, task_id)
    await note_read(request, "read", "critical", task_id, [task.patient_id])
    return json_response({"critical": task, "events": events})


async def attempt(request: web.Request) -> web.StreamResponse:
    """`{obstacle, person, means, at, comment, version}`: somebody was called and not reached."""
    task_id, body = path_id(request), await _body(request)
    obstacle, person = body.choice("obstacle", Obstacle, Obstacle.OTHER), body.text("person", "")
    means, at, comment, version = _common(body)
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        task = await criticals.attempt(
            connection, actor, task_id, obstacle, person=person, means=means, at=at, comment=comment, version=version
        )
    return _answer(task)


async def notify(request: web.Request) -> web.StreamResponse:
    """`{person, practitioner_id, at, means, read_back, comment, version}`: somebody was told."""
    task_id, body = path_id(request), await _body(request)
    person, practitioner_id, read_back = body.text("person", ""), body.id("practitioner_id"), body.flag("read_back")
    means, at, comment, version = _common(body)
    told = Told(person, practitioner_id, at, means, read_back)
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        task = await criticals.notify(connection, actor, task_id, told, comment=comment, version=version)
    return _answer(task)


async def close(request: web.Request) -> web.StreamResponse:
    """`{comment, version}`: it was told and read back."""
    return await _finish(request, withdraw=False)


async def withdraw(request: web.Request) -> web.StreamResponse:
    """`{comment, version}`: there is nothing to tell after all, and nobody was told."""
    return await _finish(request, withdraw=True)


async def _finish(request: web.Request, *, withdraw: bool) -> web.StreamResponse:
    task_id, body = path_id(request), await _body(request)
    comment, version = body.text("comment", ""), body.number("version")
    body.done()
    finish = criticals.withdraw if withdraw else criticals.close
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        task = await finish(connection, actor, task_id, comment=comment, version=version)
    return _answer(task)


def _common(body: Body) -> tuple[Means, datetime | None, str, int | None]:
    common = body.choice("means", Means, Means.PHONE), body.instant("at"), body.text("comment", "")
    version = body.number("version")
    body.done()
    return (*common, version)


async def _body(request: web.Request) -> Body:
    return await read_body(request, optional=True)


def _answer(task: CriticalView) -> web.StreamResponse:
    return json_response({"critical": task})


_P = Permission
ROUTES = (
    Route(
        "GET",
        "/api/results/critical",
        list_criticals,
        Need(_P.RESULT_READ),
        gives={"criticals": [CriticalView], "more": bool},
    ),
    Route(
        "GET",
        "/api/criticals/{id}",
        get_critical,
        Need(_P.RESULT_READ),
        gives={"critical": CriticalView, "events": [EventView]},
    ),
    Route("POST", "/api/criticals/{id}/attempt", attempt, Need(_P.CRITICAL_WRITE), gives={"critical": CriticalView}),
    Route("POST", "/api/criticals/{id}/notify", notify, Need(_P.CRITICAL_WRITE), gives={"critical": CriticalView}),
    Route("POST", "/api/criticals/{id}/close", close, Need(_P.CRITICAL_WRITE), gives={"critical": CriticalView}),
    Route("POST", "/api/criticals/{id}/withdraw", withdraw, Need(_P.CRITICAL_WRITE), gives={"critical": CriticalView}),
)

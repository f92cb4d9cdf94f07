"""Controls' results: `/api/qc-results`. What links sent and persons entered, each point with why it was judged so.

Staff. Nothing of a patient.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, time

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import Query, listing, path_id, read_query
from interface.domain.permissions import Permission
from interface.domain.qc import QcVerdict
from interface.domain.qc_views import ControlView
from interface.domain.views import Actor
from interface.flow import qc_people
from interface.flow.qc_lots import lots_named
from interface.flow.qc_people import Entry
from interface.flow.qc_sweep import sweep
from interface.store.db import Connection
from interface.store.qc import AnalysisFilter
from interface.store.qc_find import ControlFilter, find_controls

_FILTERS = (
    "analyzer", "module", "test", "lot", "level", "role", "origin", "verdict", "rule", "excluded", "problems",
    "problem", "specimen", "message", "since", "until",
)  # fmt: skip


async def list_controls(request: web.Request) -> web.StreamResponse:
    """Controls, the newest first. `since` and `until`: days on which they were measured; `problems=true`: those that
    made no point and wait for a person."""
    query = read_query(request, "api/qc-results", _FILTERS)
    since, until = _days(query)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        lots = await lots_named(connection, query.text("lot")) if query.text("lot") else ()
        filter = ControlFilter(
            message_ids=query.id("message"), analyzer=query.text("analyzer"), module=query.text("module") or None,
            test=query.text("test"), lot_ids=lots, level=query.text("level"), role=query.text("role"),
            origin=query.text("origin"), verdicts=query.choices("verdict", QcVerdict), rule=query.text("rule"),
            excluded=query.asked("excluded"), problems=query.asked("problems"), problem=query.text("problem"),
            specimen_as_sent=query.text("specimen"), since=since, until=until, page=query.page,
        )  # fmt: skip
        found = await find_controls(connection, filter)
    await note_read(request, "search", "qc_result", None, (), {"query": query.words})
    return query.answer("qc-results", found)


async def enter_control(request: web.Request) -> web.StreamResponse:
    """`{analyzer, test, lot, value, unit, module, measured_at, reagent_lot, calibrator_lot, comment}`. `value` is text,
    read as an analyzer's would be; without `unit` it is in the test's own, without `measured_at` of now."""
    body = await read_body(request)
    entry = Entry(
        body.text("analyzer"), body.text("test"), body.text("lot"), body.text("value"), body.text("unit", ""),
        body.text("module", ""), body.instant("measured_at"), body.text("reagent_lot", ""),
        body.text("calibrator_lot", ""), body.text("comment", ""),
    )  # fmt: skip
    body.done()
    return await _done(request, lambda connection, actor: qc_people.enter(connection, actor, entry), 201)


async def get_control(request: web.Request) -> web.StreamResponse:
    """One control with its explanation and what was said of it."""
    id = path_id(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await qc_people.control_of(connection, id)
    await note_read(request, "read", "qc_result", id)
    return json_response(found)


async def exclude(request: web.Request) -> web.StreamResponse:
    """`{reason}`: the point stays on the chart and counts nowhere; a failure that it was stays one."""
    id, reason = path_id(request), await _reason(request)
    return await _done(request, lambda connection, actor: qc_people.exclude(connection, actor, id, reason))


async def restore(request: web.Request) -> web.StreamResponse:
    """`{reason}`: it counts again."""
    id, reason = path_id(request), await _reason(request)
    return await _done(request, lambda connection, actor: qc_people.restore(connection, actor, id, reason))


async def dismiss(request: web.Request) -> web.StreamResponse:
    """`{reason}`: that it made no point needs nobody's attention any more."""
    id, reason = path_id(request), await _reason(request)
    return await _done(request, lambda connection, actor: qc_people.dismiss(connection, actor, id, reason))


async def assign(request: web.Request) -> web.StreamResponse:
    """`{lot, reason, test}`: of which lot a control is that made no point; it is judged now. `test`: where no map says
    of which it is."""
    id, body = path_id(request), await read_body(request)
    lot, reason, test = body.text("lot"), body.text("reason"), body.text("test", "")
    body.done()
    return await _done(request, lambda connection, actor: qc_people.assign(connection, actor, id, lot, reason, test))


async def comment(request: web.Request) -> web.StreamResponse:
    """`{text}`: a remark on a point."""
    id, body = path_id(request), await read_body(request)
    text = body.text("text")
    body.done()
    return await _done(request, lambda connection, actor: qc_people.comment(connection, actor, id, text))


async def analysis(request: web.Request) -> web.StreamResponse:
    """Per stream, lot and target: n, mean, SD, CV, bias, SDI, total error and sigma of the counted points; of a month
    unless `since` and `until` are given."""
    query = read_query(request, "api/qc-results/analysis", ("analyzer", "module", "test", "lot", "since", "until"))
    begin, end = qc_people.window(*_days(query))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        lots = await lots_named(connection, query.text("lot")) if query.text("lot") else ()
        filter = AnalysisFilter(
            begin, end, query.text("analyzer"), query.text("module") or None, query.text("test"), lots
        )
        found = await qc_people.analysis(connection, filter)
    await note_read(request, "read", "qc_analysis", None, (), {"query": query.words})
    return json_response({"since": begin, "until": end, "analysis": [asdict(one) for one in found]})


def _days(query: Query) -> tuple[datetime | None, datetime | None]:
    """The first and the last day, both inclusive, in UTC."""
    since, until = query.day("since"), query.day("until")
    return (
        datetime.combine(since, time(), UTC) if since else None,
        datetime.combine(until, time.max, UTC) if until else None,
    )


async def _reason(request: web.Request) -> str:
    body = await read_body(request)
    reason = body.text("reason")
    body.done()
    return reason


async def _done(
    request: web.Request, step: Callable[[Connection, Actor], Awaitable[ControlView]], status: int = 200
) -> web.StreamResponse:
    """A person's step, and what follows for the patients' results."""
    actor, database = actor_of(request), services(request).database
    async with database.transaction(actor.organization_id) as connection:
        view = await step(connection, actor)
    await sweep(database, actor.organization_id)
    return json_response(view, status)


_P = Permission
ROUTES = (
    Route("GET", "/api/qc-results", list_controls, Need(_P.QC_READ), gives=listing("qc-results", ControlView)),
    Route("POST", "/api/qc-results", enter_control, Need(_P.QC_WRITE), gives=ControlView, status=201),
    Route(
        "GET",
        "/api/qc-results/analysis",
        analysis,
        Need(_P.QC_READ),
        gives={"since": datetime, "until": datetime, "analysis": [dict[str, object]]},
    ),
    Route("GET", "/api/qc-results/{id}", get_control, Need(_P.QC_READ), gives=ControlView),
    Route("POST", "/api/qc-results/{id}/exclude", exclude, Need(_P.QC_WRITE), gives=ControlView),
    Route("POST", "/api/qc-results/{id}/restore", restore, Need(_P.QC_WRITE), gives=ControlView),
    Route("POST", "/api/qc-results/{id}/assign", assign, Need(_P.QC_WRITE), gives=ControlView),
    Route("POST", "/api/qc-results/{id}/dismiss", dismiss, Need(_P.QC_WRITE), gives=ControlView),
    Route("POST", "/api/qc-results/{id}/comment", comment, Need(_P.QC_WRITE), gives=ControlView),
)

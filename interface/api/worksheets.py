"""Worklist and worksheets over REST: for the laboratory's people only."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import MOST_LIMIT, one, read_query
from interface.domain.model import ItemStatus, Priority
from interface.domain.permissions import Permission
from interface.domain.states import OPEN_ITEM
from interface.domain.views import ResultView
from interface.errors import ApiError
from interface.flow import worksheets
from interface.flow.problems import OrderError
from interface.flow.worksheets import PlaceEntry
from interface.store import worksheets as store
from interface.store.db import Connection
from interface.store.worksheets import PendingView, WorkFilter, WorksheetState, WorksheetView


async def worklist(request: web.Request) -> web.StreamResponse:
    """What waits, the most urgent first; `more`: whether there is more than `limit`."""
    query = read_query(request, "api/worklist", ("analyzer", "test", "department", "ward", "priority", "status"))
    if query.after is not None:
        raise ApiError(400, "value", "the worklist has no pages: what is done leaves it")
    statuses = query.choices("status", ItemStatus)
    if closed := set(statuses) - OPEN_ITEM:
        raise ApiError(400, "value", f"what is {closed.pop()} does not wait")
    filter = WorkFilter(
        analyzers=one(query.text("analyzer")),
        test_codes=one(query.text("test")),
        departments=one(query.text("department")),
        wards=one(query.text("ward")),
        priorities=query.choices("priority", Priority),
        statuses=statuses,
        limit=query.limit + 1,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await store.pending(connection, filter)
    shown = found[: query.limit]
    await note_read(request, "search", "worklist", None, [each.patient_id for each in shown], {"query": query.words})
    return json_response({"items": shown, "more": len(found) > len(shown)})


async def list_worksheets(request: web.Request) -> web.StreamResponse:
    """The newest `limit`, without their items."""
    query = read_query(request, "api/worksheets", ("state",))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await store.find(connection, states=query.choices("state", WorksheetState), limit=query.limit)
    await note_read(request, "search", "worksheet", None, (), {"query": query.words})
    return json_response({"worksheets": found})


async def get_worksheet(request: web.Request) -> web.StreamResponse:
    """By id or number."""
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await worksheets.view(connection, await _id(request, connection))
    await note_read(request, "read", "worksheet", found.id, [item.patient_id for item in found.items])
    return json_response(found)


async def build(request: web.Request) -> web.StreamResponse:
    """`{name, analyzers, tests, departments, wards, priorities, limit, expected}`."""
    body = await read_body(request)
    name, expected = body.text("name", ""), body.flag("expected")
    limit = body.number("limit")
    filter = WorkFilter(
        analyzers=body.texts("analyzers"),
        test_codes=body.texts("tests"),
        departments=body.texts("departments"),
        wards=body.texts("wards"),
        priorities=body.choices("priorities", Priority),
        limit=min(MOST_LIMIT, worksheets.MOST_ITEMS) if limit is None else limit,
    )
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        made = await worksheets.build(connection, actor, filter, name, expected=expected)
    return json_response(made, 201, {"Location": f"/api/worksheets/{made.id}"})


async def enter(request: web.Request) -> web.StreamResponse:
    """`{entries: [{place, value, unit, comment, method}], version}`: all of them or none."""
    body = await read_body(request)
    entries = []
    for entry in body.objects("entries"):
        entry.required("place")
        place = entry.number("place") or 0
        said = [entry.text(name, "") for name in ("unit", "comment", "method")]
        entries.append(PlaceEntry(place, entry.text("value"), *said))
        entry.close()
    version = body.number("version")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        sheet, results = await worksheets.enter(connection, actor, await _id(request, connection), entries, version)
    return json_response({"worksheet": sheet, "results": results})


async def complete(request: web.Request) -> web.StreamResponse:
    """`{note, unmeasured, version}`; `unmeasured`: why what was not measured is left."""
    body = await read_body(request, optional=True)
    note, unmeasured, version = body.text("note", ""), body.text("unmeasured", ""), body.number("version")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        worksheet_id = await _id(request, connection)
        done = await worksheets.complete(
            connection, actor, worksheet_id, note=note, unmeasured=unmeasured, version=version
        )
    return json_response(done)


async def _id(request: web.Request, connection: Connection) -> UUID:
    key = request.match_info["id"]
    try:
        return UUID(key)
    except ValueError:
        found = await store.find_id(connection, key)
    if found is None:
        raise OrderError(["there is no such worksheet"], missing=True)
    return found


_P = Permission
ROUTES = (
    Route("GET", "/api/orders/worklist", worklist, Need(_P.ORDER_READ), gives={"items": [PendingView], "more": bool}),
    Route("GET", "/api/worksheets", list_worksheets, Need(_P.RESULT_READ), gives={"worksheets": [WorksheetView]}),
    Route("POST", "/api/worksheets", build, Need(_P.WORKSHEET_WRITE), gives=WorksheetView, status=201),
    Route("GET", "/api/worksheets/{id}", get_worksheet, Need(_P.RESULT_READ), gives=WorksheetView),
    Route(
        "POST",
        "/api/worksheets/{id}/entries",
        enter,
        Need(_P.WORKSHEET_WRITE),
        gives={"worksheet": WorksheetView, "results": [ResultView]},
    ),
    Route("POST", "/api/worksheets/{id}/complete", complete, Need(_P.WORKSHEET_WRITE), gives=WorksheetView),
)

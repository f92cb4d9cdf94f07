"""The laboratory's own catalogue: `/api/tests`, `/api/panels`, `/api/specimen-types`, `/api/intervals`. For staff.

Quantities are text, as everywhere they must be exact. A change needs a `reason`; `version` is what it was made from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from datetime import datetime
from uuid import UUID

from aiohttp import web

from interface.api.bodies import Body, read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import not_found, one, path_id, read_query
from interface.domain.model import Interval, IntervalUse, Sex, ValueKind
from interface.domain.permissions import Permission
from interface.domain.units import Substance
from interface.domain.views import Actor, IntervalView, LabTestView, PanelView, SpecimenTypeView
from interface.flow import catalogue
from interface.store import catalogue_rows as rows
from interface.store.db import Connection

# ---- reading ---------------------------------------------------------------------------------------------------------


async def list_tests(request: web.Request) -> web.StreamResponse:
    """All of them: a catalogue has no pages."""
    query = read_query(request, "api/tests", ("code", "department", "active"))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        codes = one(query.text("code")) or None
        found = await rows.read_tests(connection, codes, query.text("department"), query.asked("active"))
    await note_read(request, "search", "test", None, (), {"query": query.words})
    return json_response({"tests": found})


async def get_test(request: web.Request) -> web.StreamResponse:
    """A test with its intervals, also those that have ended: they may have decided a result."""
    code = request.match_info["code"]
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await rows.read_tests(connection, [code])
        intervals = await rows.read_intervals(connection, [code], ended=True)
    await note_read(request, "read", "test", None, (), {"code": code, "found": "yes" if found else "no"})
    if not found:
        raise not_found()
    return json_response({"test": found[0], "intervals": [_flat(view) for view in intervals]})


async def list_panels(request: web.Request) -> web.StreamResponse:
    query = read_query(request, "api/panels", ("code", "active"))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await rows.read_panels(connection, one(query.text("code")) or None, query.asked("active"))
    await note_read(request, "search", "panel", None, (), {"query": query.words})
    return json_response({"panels": found})


async def list_specimen_types(request: web.Request) -> web.StreamResponse:
    query = read_query(request, "api/specimen-types", ("active",))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await rows.read_specimen_types(connection, query.asked("active"))
    await note_read(request, "search", "specimen_type", None, (), {"query": query.words})
    return json_response({"specimen_types": found})


async def list_intervals(request: web.Request) -> web.StreamResponse:
    """`ended=true`: also those that apply to no specimen that is collected from now on."""
    query = read_query(request, "api/intervals", ("test", "ended"))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await rows.read_intervals(connection, one(query.text("test")) or None, ended=query.flag("ended"))
    await note_read(request, "search", "interval", None, (), {"query": query.words})
    return json_response({"intervals": [_flat(view) for view in found]})


def _flat(view: IntervalView) -> dict[str, object]:
    return {"test": view.test, **{one.name: getattr(view.interval, one.name) for one in fields(Interval)}}


# ---- changing --------------------------------------------------------------------------------------------------------


async def put_test(request: web.Request) -> web.StreamResponse:
    """Add a test or change one; only the members that are given change. `decimals` null: as measured; `molar_mass`,
    `valence` null: not known."""
    code, body = request.match_info["code"], await read_body(request)
    as_measured = body.null("decimals")
    unknown = tuple([name for name in ("molar_mass", "valence") if body.null(name)])
    substance = None
    if body.has("molar_mass") or body.has("valence"):
        substance = Substance(body.decimal("molar_mass"), body.number("valence"))
    change = catalogue.TestChange(
        name=_word(body, "name"),
        loinc=_word(body, "loinc"),
        unit=_word(body, "unit"),
        decimals=body.number("decimals"),
        as_measured=as_measured,
        kind=body.choice("kind", ValueKind, ValueKind.NUMERIC) if body.has("kind") else None,
        department=_word(body, "department"),
        specimen_types=body.texts("specimen_types") if body.has("specimen_types") else None,
        substance=substance,
        unknown=unknown,
        source=_word(body, "source"),
        active=_flag(body, "active"),
    )
    reason, version = body.text("reason"), body.number("version")
    body.done()
    return await _change(
        request, lambda connection, actor: catalogue.set_test(connection, actor, code, change, reason, version)
    )


async def put_panel(request: web.Request) -> web.StreamResponse:
    code, body = request.match_info["code"], await read_body(request)
    change = catalogue.PanelChange(
        name=_word(body, "name"),
        loinc=_word(body, "loinc"),
        tests=body.texts("tests") if body.has("tests") else None,
        source=_word(body, "source"),
        active=_flag(body, "active"),
    )
    reason, version = body.text("reason"), body.number("version")
    body.done()
    return await _change(
        request, lambda connection, actor: catalogue.set_panel(connection, actor, code, change, reason, version)
    )


async def put_specimen_type(request: web.Request) -> web.StreamResponse:
    code, body = request.match_info["code"], await read_body(request)
    name, source, active = _word(body, "name"), _word(body, "source"), _flag(body, "active")
    reason = body.text("reason")
    body.done()
    return await _change(
        request,
        lambda connection, actor: catalogue.set_specimen_type(connection, actor, code, name, reason, source, active),
    )


async def deactivate(request: web.Request) -> web.StreamResponse:
    """Take a test or panel out of use, for a `reason`."""
    code, body = request.match_info["code"], await read_body(request)
    reason = body.text("reason")
    body.done()
    step = catalogue.deactivate_test if request.path.startswith("/api/tests/") else catalogue.deactivate_panel
    return await _change(request, lambda connection, actor: step(connection, actor, code, reason))


async def add_interval(request: web.Request) -> web.StreamResponse:
    body = await read_body(request)
    test, reason = body.text("test"), body.text("reason")
    new = interval_of(body, Interval("", "", ""))
    body.done()
    return await _change(
        request,
        lambda connection, actor: _add(connection, actor, test, new, reason),
        201,
    )


async def _add(connection: Connection, actor: Actor, test: str, new: Interval, reason: str) -> object:
    return _flat(await catalogue.add_interval(connection, actor, test, new, reason))


async def change_interval(request: web.Request) -> web.StreamResponse:
    """Ends the interval and adds another that differs in what is given, from `at` (now) on; answers with that one."""
    interval_id, body = path_id(request), await read_body(request)
    reason, at = body.text("reason"), body.instant("at")
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await rows.read_intervals(connection, ids=[interval_id], ended=True)
    if not found:
        raise not_found()
    new = interval_of(body, found[0].interval)
    body.done()
    return await _change(request, lambda connection, actor: _replace(connection, actor, interval_id, new, reason, at))


async def _replace(
    connection: Connection, actor: Actor, id: UUID, new: Interval, reason: str, at: datetime | None
) -> object:
    return _flat(await catalogue.change_interval(connection, actor, id, new, reason, at))


async def end_interval(request: web.Request) -> web.StreamResponse:
    """`{reason, at, never}`; `never`: it was wrong, and applies to no specimen whenever collected."""
    interval_id, body = path_id(request), await read_body(request)
    reason, at, never = body.text("reason"), body.instant("at"), body.flag("never")
    body.done()
    return await _change(request, lambda connection, actor: _end(connection, actor, interval_id, reason, at, never))


async def _end(connection: Connection, actor: Actor, id: UUID, reason: str, at: datetime | None, never: bool) -> object:
    return _flat(await catalogue.end_interval(connection, actor, id, reason, at, never))


_QUANTITIES = ("low", "high", "critical_low", "critical_high")
_NUMBERS = ("age_low_d", "age_high_d", "age_low_h", "age_high_h", "gestation_low_w", "gestation_high_w", "priority")
_WORDS = ("unit", "specimen_type", "text", "source", "method", "analyzer")
_LISTS = ("normal_values", "abnormal_values", "critical_values")


def interval_of(body: Body, base: Interval) -> Interval:
    """`base` with the members that are given; null empties one."""
    empty = Interval("", "", "")
    changed: dict[str, object] = {
        name: getattr(empty, name)
        for name in (*_QUANTITIES, *_NUMBERS, "sex", "pregnant", "valid_from", "valid_to")
        if body.null(name)
    }
    changed |= {name: body.decimal(name) for name in _QUANTITIES if body.has(name)}
    changed |= {name: body.number(name) for name in _NUMBERS if body.has(name)}
    changed |= {name: body.text(name) for name in _WORDS if body.has(name)}
    changed |= {name: body.texts(name) for name in _LISTS if body.has(name)}
    changed |= {name: body.instant(name) for name in ("valid_from", "valid_to") if body.has(name)}
    if body.has("sex"):
        changed["sex"] = body.choice("sex", Sex, Sex.UNKNOWN)
    if body.has("pregnant"):
        changed["pregnant"] = body.flag("pregnant")
    if body.has("use"):
        changed["use"] = body.choice("use", IntervalUse, IntervalUse.BOTH)
    if changed.get("age_low_d", 0) is None:  # what is wrong with it has been noted
        changed.pop("age_low_d")
    if changed.get("priority", 0) is None:
        changed.pop("priority")
    return replace(base, **changed)  # type: ignore[arg-type]


# ---- parts -----------------------------------------------------------------------------------------------------------


def _word(body: Body, name: str) -> str | None:
    return body.text(name) if body.has(name) else None


def _flag(body: Body, name: str) -> bool | None:
    return body.flag(name) if body.has(name) else None


async def _change(
    request: web.Request, change: Callable[[Connection, Actor], Awaitable[object]], status: int = 200
) -> web.StreamResponse:
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await change(connection, actor)
    return json_response(view, status)


_P = Permission
_READ, _WRITE = Need(_P.RESULT_READ), Need(_P.CATALOGUE_WRITE)
ROUTES = (
    Route("GET", "/api/tests", list_tests, _READ, gives={"tests": [LabTestView]}),
    Route("GET", "/api/tests/{code}", get_test, _READ, gives={"test": LabTestView, "intervals": [dict[str, object]]}),
    Route("PUT", "/api/tests/{code}", put_test, _WRITE, gives=LabTestView),
    Route("POST", "/api/tests/{code}/deactivate", deactivate, _WRITE, gives=LabTestView),
    Route("GET", "/api/panels", list_panels, _READ, gives={"panels": [PanelView]}),
    Route("PUT", "/api/panels/{code}", put_panel, _WRITE, gives=PanelView),
    Route("POST", "/api/panels/{code}/deactivate", deactivate, _WRITE, gives=PanelView),
    Route("GET", "/api/specimen-types", list_specimen_types, _READ, gives={"specimen_types": [SpecimenTypeView]}),
    Route("PUT", "/api/specimen-types/{code}", put_specimen_type, _WRITE, gives=SpecimenTypeView),
    Route("GET", "/api/intervals", list_intervals, _READ, gives={"intervals": [dict[str, object]]}),
    Route("POST", "/api/intervals", add_interval, _WRITE, gives=dict[str, object], status=201),
    Route("PATCH", "/api/intervals/{id}", change_interval, _WRITE, gives=dict[str, object]),
    Route("POST", "/api/intervals/{id}/end", end_interval, _WRITE, gives=dict[str, object]),
)

"""Control materials, lots, targets, lots in use: `/api/qc-materials`, `-lots`, `-targets`, `/api/analyzer-lots`. Staff.

Quantities are text, as everywhere they must be exact. A change of what there is needs a `reason`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from aiohttp import web

from interface.api.bodies import Body, read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import Query, path_id, read_query
from interface.domain.map_files import FileFaults
from interface.domain.permissions import Permission
from interface.domain.qc_lots import (
    AnalyzerLotView,
    LotKind,
    LotView,
    MaterialView,
    TargetKind,
    TargetSource,
    TargetView,
)
from interface.domain.qc_targets import Proposal, Spread
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow import qc_lot_files, qc_lots, qc_targets
from interface.flow.qc_lots import LotChange, MaterialChange, NewUse
from interface.flow.qc_targets import Establishing, Place, TargetChange, Wanted
from interface.render.qc_lot_table import read_lots, write_csv
from interface.store import qc_lots as rows
from interface.store.db import Connection
from interface.store.qc_lots import TargetFilter

T = TypeVar("T")


class View(Protocol):
    """What a change answers with."""

    @property
    def id(self) -> UUID: ...


# ---- materials and lots ---------------------------------------------------------------------------------------------


async def list_materials(request: web.Request) -> web.StreamResponse:
    """`closed=true`: also those that are not used any more."""
    query = read_query(request, "api/qc-materials", ("closed",))
    found = await _read(request, lambda connection: rows.read_materials(connection, closed=query.flag("closed")))
    await note_read(request, "search", "qc_material", None, (), {"query": query.words})
    return json_response({"materials": found})


async def get_material(request: web.Request) -> web.StreamResponse:
    """With its lots, the closed ones too."""
    material_id = path_id(request)
    view = await _read(request, lambda connection: qc_lots.material_of(connection, material_id))
    lots = await _read(request, lambda connection: rows.read_lots(connection, material_id=material_id, closed=True))
    await note_read(request, "read", "qc_material", material_id)
    return json_response({"material": view, "lots": lots})


async def create_material(request: web.Request) -> web.StreamResponse:
    body = await read_body(request)
    body.required("name")
    new = _material(body)
    body.done()
    return await _change(request, lambda c, actor: qc_lots.create_material(c, actor, new), "qc-materials")


async def change_material(request: web.Request) -> web.StreamResponse:
    """Only the members that are given change."""
    material_id, body = path_id(request), await read_body(request)
    change, reason, version = _material(body), body.text("reason"), body.number("version")
    body.done()
    return await _change(
        request, lambda c, actor: qc_lots.change_material(c, actor, material_id, change, reason, version)
    )


async def switch_material(request: web.Request) -> web.StreamResponse:
    """Close it, or open it again."""
    step = qc_lots.close_material if request.path.endswith("/close") else qc_lots.reopen_material
    material_id, reason = path_id(request), await _reason(request)
    return await _change(request, lambda c, actor: step(c, actor, material_id, reason))


def _material(body: Body) -> MaterialChange:
    names = ("name", "manufacturer", "catalogue_number", "note")
    return MaterialChange(**{name: body.text(name) for name in names if body.has(name)})


async def list_lots(request: web.Request) -> web.StreamResponse:
    """`material`: of this one, by id or name; `lot`: as people call it; `closed=true`: also those that are closed."""
    query = read_query(request, "api/qc-lots", ("material", "lot", "closed"))
    found = await _read(request, lambda connection: _lots(connection, query))
    await note_read(request, "search", "qc_lot", None, (), {"query": query.words})
    return json_response({"lots": found})


async def _lots(connection: Connection, query: Query) -> Sequence[LotView]:
    material = query.text("material")
    material_id = (await qc_lots.material_named(connection, material)).id if material else None
    named, closed = query.text("lot") or None, query.flag("closed")
    return await rows.read_lots(connection, material_id=material_id, named=named, closed=closed)


async def get_lot(request: web.Request) -> web.StreamResponse:
    """With all its targets, those too that have ended: they may have judged a point."""
    lot_id = path_id(request)
    view = await _read(request, lambda connection: qc_lots.lot_of(connection, lot_id))
    wanted = TargetFilter(lot_ids=(lot_id,), ended=True)
    targets = await _read(request, lambda connection: rows.find_targets(connection, wanted))
    await note_read(request, "read", "qc_lot", lot_id)
    return json_response({"lot": view, "targets": targets})


async def create_lot(request: web.Request) -> web.StreamResponse:
    """`{material, lot, level, …}`; the material by its id or its name."""
    body = await read_body(request)
    material = body.text("material")
    body.required("lot")
    new = _lot(body)
    body.done()

    async def create(connection: Connection, actor: Actor) -> LotView:
        of = await qc_lots.material_named(connection, material)
        return await qc_lots.create_lot(connection, actor, of.id, new)

    return await _change(request, create, "qc-lots")


async def change_lot(request: web.Request) -> web.StreamResponse:
    """Only the members that are given change; `identifiers` and `analyzers` are then all of them."""
    lot_id, body = path_id(request), await read_body(request)
    change, reason, version = _lot(body), body.text("reason"), body.number("version")
    body.done()
    return await _change(request, lambda c, actor: qc_lots.change_lot(c, actor, lot_id, change, reason, version))


async def switch_lot(request: web.Request) -> web.StreamResponse:
    """Close it, or open it again."""
    step = qc_lots.close_lot if request.path.endswith("/close") else qc_lots.reopen_lot
    lot_id, reason = path_id(request), await _reason(request)
    return await _change(request, lambda c, actor: step(c, actor, lot_id, reason))


def _lot(body: Body) -> LotChange:
    return LotChange(
        lot=_word(body, "lot"),
        level=_word(body, "level"),
        level_number=body.number("level_number"),
        expires_on=body.day("expires_on"),
        identifiers=body.texts("identifiers") if body.has("identifiers") else None,
        analyzers=body.texts("analyzers") if body.has("analyzers") else None,
        note=_word(body, "note"),
    )


async def import_lots(request: web.Request) -> web.StreamResponse:
    """`{file, reason, dry_run}`: the text of a CSV or JSON file. All of it or nothing, every fault with its line."""
    body = await read_body(request)
    text, reason, dry_run = body.text("file"), body.text("reason"), body.flag("dry_run")
    body.done()
    actor = actor_of(request)
    try:
        read = read_lots("file", text.removeprefix("\ufeff"))
        async with services(request).database.transaction(actor.organization_id) as connection:
            done = await qc_lot_files.import_lots(connection, actor, read, reason, dry_run)
    except FileFaults as error:
        raise ApiError(422, "value", "; ".join(map(str, error.faults))) from None
    if dry_run:
        await note_read(request, "read", "qc_lot", None, (), {"by": "import"})
    return json_response(done)


async def export_lots(request: web.Request) -> web.StreamResponse:
    """CSV that `import` takes: open lots with the targets that are not over. `material`, `closed` as of the list."""
    query = read_query(request, "api/qc-lots/export", ("material", "closed"))
    found = await _read(
        request,
        lambda connection: qc_lot_files.export_lots(
            connection, material=query.text("material"), closed=query.flag("closed")
        ),
    )
    await note_read(request, "export", "qc_lot", None, (), {"query": query.words})
    return web.Response(text=write_csv(found), content_type="text/csv", charset="utf-8")


# ---- targets --------------------------------------------------------------------------------------------------------


async def list_targets(request: web.Request) -> web.StreamResponse:
    """`analyzer`, `test`, `lot`; `at`: in force then; `ended=true`: all there ever were."""
    query = read_query(request, "api/qc-targets", ("analyzer", "test", "lot", "at", "ended"))

    async def find(connection: Connection) -> list[TargetView]:
        wanted = await qc_targets.filter_of(
            connection, query.text("analyzer"), query.text("test"), query.text("lot"), _instant(query, "at"),
            query.flag("ended"),
        )  # fmt: skip
        return await rows.find_targets(connection, wanted)

    found = await _read(request, find)
    await note_read(request, "search", "qc_target", None, (), {"query": query.words})
    return json_response({"targets": found})


async def get_target(request: web.Request) -> web.StreamResponse:
    target_id = path_id(request)
    view = await _read(request, lambda connection: qc_targets.target_of(connection, target_id))
    await note_read(request, "read", "qc_target", target_id)
    return json_response(view)


async def set_target(request: web.Request) -> web.StreamResponse:
    """`{lot, analyzer, test, mean, sd, unit, reason, …}`."""
    body = await read_body(request)
    for name in ("mean", "sd"):
        body.required(name)
    place, said, reason = _place(body), _target(body), body.text("reason")
    begin, end = body.instant("valid_from"), body.instant("valid_to")
    body.done()
    assert said.mean is not None and said.sd is not None  # noqa: S101 - `done` has raised for their absence
    wanted = Wanted(
        said.mean, said.sd, said.unit or "", said.source or TargetSource.LABORATORY, said.kind or TargetKind.FIXED,
        said.note or "", begin, end,
    )  # fmt: skip
    return await _change(request, lambda c, actor: qc_targets.set_target(c, actor, place, wanted, reason), "qc-targets")


async def replace_target(request: web.Request) -> web.StreamResponse:
    """From `at` (now) on another target in its place, which differs in what is given; answers with that one."""
    target_id, body = path_id(request), await read_body(request)
    change, at, reason = _target(body), body.instant("at"), body.text("reason")
    body.done()
    return await _change(
        request, lambda c, actor: qc_targets.change_target(c, actor, target_id, change, reason, at), "qc-targets"
    )


async def end_target(request: web.Request) -> web.StreamResponse:
    """`{reason, at, never}`; `never`: it was wrong from its begin."""
    target_id, body = path_id(request), await read_body(request)
    reason, at, never = body.text("reason"), body.instant("at"), body.flag("never")
    body.done()
    return await _change(request, lambda c, actor: qc_targets.end_target(c, actor, target_id, reason, at, never))


async def recompute_target(request: web.Request) -> web.StreamResponse:
    """A cumulative target anew, from all counted points of its lot; answers with the one that begins now."""
    target_id, reason = path_id(request), await _reason(request)
    return await _change(request, lambda c, actor: qc_targets.recompute(c, actor, target_id, reason), "qc-targets")


async def recompute_targets(request: web.Request) -> web.StreamResponse:
    """Every cumulative target for which there is something new."""
    reason, actor = await _reason(request), actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        made = await qc_targets.recompute_all(connection, actor, reason)
    if not made:
        await note_read(request, "read", "qc_target", None, (), {"by": "recompute"})
    return json_response({"targets": made})


async def propose_target(request: web.Request) -> web.StreamResponse:
    """What a lot's own points make of its target, beside the lot in use; sets nothing."""
    known = ("lot", "analyzer", "test", "module", "reagent_lot", "spread", "fewest_points", "fewest_days", "since")
    query = read_query(request, "api/qc-targets/proposal", known)
    place = Place(*(query.text(name) for name in known[:5]))
    [spread] = query.choices("spread", Spread) or (Spread.OBSERVED,)
    of = Establishing(
        place, spread, query.number("fewest_points") or None, query.number("fewest_days") or None,
        _instant(query, "since"),
    )  # fmt: skip
    found = await _read(request, lambda connection: qc_targets.proposal(connection, of))
    await note_read(request, "read", "qc_target", None, (), {"query": query.words})
    return json_response(found)


async def establish_target(request: web.Request) -> web.StreamResponse:
    """Set what the proposal showed, asked in the same way. `points`: from how many that was."""
    body = await read_body(request)
    body.required("points")
    place, points, reason = _place(body), body.number("points"), body.text("reason")
    of = Establishing(
        place, body.choice("spread", Spread, Spread.OBSERVED), body.number("fewest_points"), body.number("fewest_days"),
        body.instant("since"),
    )  # fmt: skip
    kind, begin = body.choice("kind", TargetKind, TargetKind.FIXED), body.instant("valid_from")
    body.done()
    return await _change(
        request, lambda c, actor: qc_targets.establish(c, actor, of, points or 0, reason, kind, begin), "qc-targets"
    )


def _place(body: Body) -> Place:
    return Place(
        body.text("lot"),
        body.text("analyzer"),
        body.text("test"),
        body.text("module", ""),
        body.text("reagent_lot", ""),
    )


def _target(body: Body) -> TargetChange:
    return TargetChange(
        mean=body.decimal("mean"),
        sd=body.decimal("sd"),
        unit=_word(body, "unit"),
        source=body.choice("source", TargetSource, TargetSource.LABORATORY) if body.has("source") else None,
        kind=body.choice("kind", TargetKind, TargetKind.FIXED) if body.has("kind") else None,
        note=_word(body, "note"),
    )


# ---- reagents and calibrators in use --------------------------------------------------------------------------------


async def list_uses(request: web.Request) -> web.StreamResponse:
    """`analyzer`, `kind`; `ended=true`: also what is not used any more."""
    query = read_query(request, "api/analyzer-lots", ("analyzer", "kind", "ended"))
    [kind] = query.choices("kind", LotKind) or (None,)

    async def find(connection: Connection) -> object:
        name = query.text("analyzer")
        analyzer_id = await qc_lots.analyzer_named(connection, name) if name else None
        return await rows.find_analyzer_lots(connection, analyzer_id=analyzer_id, kind=kind, ended=query.flag("ended"))

    found = await _read(request, find)
    await note_read(request, "search", "analyzer_lot", None, (), {"query": query.words})
    return json_response({"lots": found})


async def enter_use(request: web.Request) -> web.StreamResponse:
    """`{analyzer, kind, lot, module, test, expires_on, from}`: from then on, in place of what was used."""
    body = await read_body(request)
    body.required("kind")
    new = NewUse(
        body.text("analyzer"), body.choice("kind", LotKind, LotKind.REAGENT), body.text("lot"), body.text("module", ""),
        body.text("test", ""), body.day("expires_on"), body.instant("from"),
    )  # fmt: skip
    body.done()
    return await _change(request, lambda c, actor: qc_lots.enter_use(c, actor, new), "analyzer-lots")


async def end_use(request: web.Request) -> web.StreamResponse:
    use_id, body = path_id(request), await read_body(request)
    reason, at = body.text("reason"), body.instant("at")
    body.done()
    return await _change(request, lambda c, actor: qc_lots.end_use(c, actor, use_id, reason, at))


# ---- parts ----------------------------------------------------------------------------------------------------------


async def _read(request: web.Request, read: Callable[[Connection], Awaitable[T]]) -> T:
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        return await read(connection)


async def _change(
    request: web.Request, change: Callable[[Connection, Actor], Awaitable[View]], made: str = ""
) -> web.StreamResponse:
    """Make a change; `made`: it makes something that stands below this path."""
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await change(connection, actor)
    return json_response(view, 201, {"Location": f"/api/{made}/{view.id}"}) if made else json_response(view)


async def _reason(request: web.Request) -> str:
    """Of a body that says nothing else."""
    body = await read_body(request)
    reason = body.text("reason")
    body.done()
    return reason


def _word(body: Body, name: str) -> str | None:
    return body.text(name) if body.has(name) else None


def _instant(query: Query, name: str) -> datetime | None:
    text = query.text(name)
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        at = None
    if text and (at is None or at.tzinfo is None):
        raise ApiError(400, "value", f"{name} is a time with its zone, YYYY-MM-DDThh:mm:ssZ")
    return query.instant(name)


_P = Permission
_READ, _MANAGE, _WRITE = Need(_P.QC_READ), Need(_P.QC_MANAGE), Need(_P.QC_WRITE)
ROUTES = (
    Route("GET", "/api/qc-materials", list_materials, _READ, gives={"materials": [MaterialView]}),
    Route("POST", "/api/qc-materials", create_material, _MANAGE, gives=MaterialView, status=201),
    Route("GET", "/api/qc-materials/{id}", get_material, _READ, gives={"material": MaterialView, "lots": [LotView]}),
    Route("PATCH", "/api/qc-materials/{id}", change_material, _MANAGE, gives=MaterialView),
    Route("POST", "/api/qc-materials/{id}/close", switch_material, _MANAGE, gives=MaterialView),
    Route("POST", "/api/qc-materials/{id}/reopen", switch_material, _MANAGE, gives=MaterialView),
    Route("GET", "/api/qc-lots", list_lots, _READ, gives={"lots": [LotView]}),
    Route("POST", "/api/qc-lots", create_lot, _MANAGE, gives=LotView, status=201),
    Route("GET", "/api/qc-lots/export", export_lots, _READ, gives=str, media="text/csv"),
    Route("POST", "/api/qc-lots/import", import_lots, _MANAGE, gives=qc_lot_files.Imported),
    Route("GET", "/api/qc-lots/{id}", get_lot, _READ, gives={"lot": LotView, "targets": [TargetView]}),
    Route("PATCH", "/api/qc-lots/{id}", change_lot, _MANAGE, gives=LotView),
    Route("POST", "/api/qc-lots/{id}/close", switch_lot, _MANAGE, gives=LotView),
    Route("POST", "/api/qc-lots/{id}/reopen", switch_lot, _MANAGE, gives=LotView),
    Route("GET", "/api/qc-targets", list_targets, _READ, gives={"targets": [TargetView]}),
    Route("POST", "/api/qc-targets", set_target, _MANAGE, gives=TargetView, status=201),
    Route("GET", "/api/qc-targets/proposal", propose_target, _READ, gives=Proposal),
    Route("POST", "/api/qc-targets/establish", establish_target, _MANAGE, gives=TargetView, status=201),
    Route("POST", "/api/qc-targets/recompute", recompute_targets, _MANAGE, gives={"targets": [TargetView]}),
    Route("GET", "/api/qc-targets/{id}", get_target, _READ, gives=TargetView),
    Route("POST", "/api/qc-targets/{id}/replace", replace_target, _MANAGE, gives=TargetView, status=201),
    Route("POST", "/api/qc-targets/{id}/end", end_target, _MANAGE, gives=TargetView),
    Route("POST", "/api/qc-targets/{id}/recompute", recompute_target, _MANAGE, gives=TargetView, status=201),
    Route("GET", "/api/analyzer-lots", list_uses, _READ, gives={"lots": [AnalyzerLotView]}),
    Route("POST", "/api/analyzer-lots", enter_use, _WRITE, gives=AnalyzerLotView, status=201),
    Route("POST", "/api/analyzer-lots/{id}/end", end_use, _WRITE, gives=AnalyzerLotView),
)

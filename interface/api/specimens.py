"""Specimens over REST: find, step, divide, label. A client may find and collect them; the rest is the laboratory's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from aiohttp import web

from interface.api.bodies import Body, read_body
from interface.api.context import Need, Route, actor_of, audience_of, json_response, note_read, services
from interface.api.lists import listing, not_found, one, path_id, read_query
from interface.domain.permissions import Permission
from interface.domain.specimens import RejectReason
from interface.domain.states import SpecimenState
from interface.domain.views import Audience, SpecimenEventView, SpecimenView
from interface.errors import ApiError
from interface.flow import specimens
from interface.flow.actors import require
from interface.flow.labels import label_of
from interface.flow.trace import Trace, trace
from interface.render import labels
from interface.render.code128 import Unprintable
from interface.store import specimens as store
from interface.store.db import Connection
from interface.store.lab import SpecimenFilter, find_specimens

_SVG, _ZPL = "image/svg+xml", "application/zpl"


async def list_specimens(request: web.Request) -> web.StreamResponse:
    known = ("barcode", "order_id", "patient_id", "type", "state", "rack", "parent_id")
    query = read_query(request, "api/specimens", known)
    filter = SpecimenFilter(
        barcodes=one(query.text("barcode")),
        order_ids=query.id("order_id"),
        patient_ids=query.id("patient_id"),
        types=one(query.text("type")),
        states=query.choices("state", SpecimenState),
        racks=one(query.text("rack")),
        parent_ids=query.id("parent_id"),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await find_specimens(connection, filter, audience_of(request))
    patients = [view.patient_id for view in found[: query.limit]]
    await note_read(request, "search", "specimen", None, patients, {"query": query.words})
    return query.answer("specimens", found)


async def get_specimen(request: web.Request) -> web.StreamResponse:
    """The specimen; for staff also its aliquots and its history."""
    specimen_id = path_id(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        return await _answer(request, connection, specimen_id)


async def get_by_barcode(request: web.Request) -> web.StreamResponse:
    """The open specimen of this barcode, else the newest that carried it."""
    barcode = request.match_info["barcode"]
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        return await _answer(request, connection, await specimens.by_barcode(connection, barcode))


async def _answer(request: web.Request, connection: Connection, specimen_id: UUID) -> web.Response:
    audience = audience_of(request)
    found = await find_specimens(connection, SpecimenFilter(ids=(specimen_id,)), audience)
    said = {"found": "yes" if found else "no"}
    await note_read(request, "read", "specimen", specimen_id, [view.patient_id for view in found], said)
    if not found:
        raise not_found()
    if audience is not Audience.STAFF:
        return json_response({"specimen": found[0]})
    aliquots = await find_specimens(connection, SpecimenFilter(parent_ids=(specimen_id,)), audience)
    history = await store.read_events(connection, specimen_id)
    return json_response({"specimen": found[0], "aliquots": aliquots, "history": history})


async def get_journey(request: web.Request) -> web.StreamResponse:
    """Every step of a barcode's results, from the bytes to the reply, as the order or as an analyzer has it.

    What `labora trace --json` prints. It shows what is held and what was sent: for staff who may read both.
    """
    barcode, actor = request.match_info["barcode"], actor_of(request)
    require(actor, Permission.RESULT_READ)
    async with services(request).database.organization(actor.organization_id) as connection:
        found = await trace(connection, barcode)
    known = bool(found.specimens or found.results or found.queries)
    specimen_id = found.specimens[0].id if len(found.specimens) == 1 else None
    patients = [view.patient_id for view in found.specimens]
    patients += [one.current.patient_id for one in found.results]
    said = {"messages": " ".join(str(one.id) for one in found.messages), "found": "yes" if known else "no"}
    await note_read(request, "trace", "specimen", specimen_id, patients, said)
    if not known:
        raise not_found()
    return json_response(found)


async def get_svg(request: web.Request) -> web.StreamResponse:
    """`?width=` and `?height=` in millimetres."""
    return await _label(request, labels.svg, _SVG)


async def get_zpl(request: web.Request) -> web.StreamResponse:
    """Also `?dpmm=`: 8, 12 or 24 dots to the millimetre."""
    return await _label(request, labels.zpl, _ZPL)


async def _label(request: web.Request, draw: Callable[[labels.Label, labels.Size], str], kind: str) -> web.Response:
    specimen_id, size = path_id(request), _size(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        label, view = await label_of(connection, specimen_id)
    await note_read(request, "label", "specimen", specimen_id, [view.patient_id])
    try:
        text = draw(label, size)
    except Unprintable as error:
        raise ApiError(422, "business-rule", str(error)) from None
    return web.Response(text=text, content_type=kind, charset="utf-8")


def _size(request: web.Request) -> labels.Size:
    query, default = read_query(request, "api/specimens/label", ("width", "height", "dpmm")), labels.Size()

    def number(name: str, standard: int, allowed: range | tuple[int, ...]) -> int:
        if (value := query.number(name) or standard) not in allowed:
            raise ApiError(400, "value", f"{name} is a whole number that a label has")
        return value

    return labels.Size(
        number("width", default.width_um // 1000, range(20, 201)) * 1000,
        number("height", default.height_um // 1000, range(10, 201)) * 1000,
        number("dpmm", default.dots_per_mm, (8, 12, 24)),
    )


# ---- steps ----------------------------------------------------------------------------------------------------------


async def _do(request: web.Request, body: Body, step: Callable[..., Awaitable[object]], **said: object) -> web.Response:
    """One step with what the body said."""
    specimen_id = path_id(request)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        done = await step(connection, actor, specimen_id, **said)
    return json_response({"specimen": done} if isinstance(done, SpecimenView) else done)


async def _body(request: web.Request) -> Body:
    return await read_body(request, optional=True)


async def collect(request: web.Request) -> web.StreamResponse:
    """`{at, by, container}`, all optional: now, by the one who asks."""
    body = await _body(request)
    said = {"at": body.instant("at"), "by": body.text("by", ""), "container": body.text("container", "")}
    return await _do(request, body, specimens.collect, **said, audience=audience_of(request))


async def retime(request: web.Request) -> web.StreamResponse:
    """`{at, reason}`: the time of its collection that was told is wrong."""
    body = await _body(request)
    body.required("at")
    return await _do(request, body, specimens.retime, at=body.instant("at"), reason=body.text("reason"))


async def receive(request: web.Request) -> web.StreamResponse:
    """`{at, by, collected_at}`, all optional."""
    body = await _body(request)
    said = {"at": body.instant("at"), "by": body.text("by", ""), "collected_at": body.instant("collected_at")}
    return await _do(request, body, specimens.receive, **said)


async def move(request: web.Request) -> web.StreamResponse:
    """`{rack, position}`; without a rack it is taken out."""
    body = await _body(request)
    return await _do(request, body, specimens.move, rack=body.text("rack", ""), position=body.text("position", ""))


async def reject(request: web.Request) -> web.StreamResponse:
    """`{reason, text, recollect}`; the answer names what was rejected, and what is released and stays."""
    body = await _body(request)
    body.required("reason")
    code = body.choice("reason", RejectReason, RejectReason.OTHER)
    said = {"code": code, "text": body.text("text", ""), "recollect": body.flag("recollect")}
    return await _do(request, body, specimens.reject, **said)


async def reinstate(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    return await _do(request, body, specimens.reinstate, reason=body.text("reason"))


async def exhaust(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    return await _do(request, body, specimens.exhaust, reason=body.text("reason", ""))


async def dispose(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    return await _do(request, body, specimens.dispose, reason=body.text("reason", ""))


async def aliquot(request: web.Request) -> web.StreamResponse:
    """`{barcode, container, tests}`, all optional; the answer is the aliquot."""
    body = await _body(request)
    said = {"barcode": body.text("barcode", ""), "container": body.text("container", ""), "tests": body.texts("tests")}
    return await _do(request, body, specimens.aliquot, **said)


_P = Permission
_WHOLE = {"specimen": SpecimenView, "aliquots?": [SpecimenView], "history?": [SpecimenEventView]}
_READ, _WRITE = Need(_P.ORDER_READ, "Specimen", "r"), Need(_P.SPECIMEN_WRITE)
ROUTES = (
    Route(
        "GET",
        "/api/specimens",
        list_specimens,
        Need(_P.ORDER_READ, "Specimen", "s"),
        gives=listing("specimens", SpecimenView),
    ),
    Route(
        "GET", "/api/specimens/barcode/{barcode}", get_by_barcode, Need(_P.ORDER_READ, "Specimen", "s"), gives=_WHOLE
    ),
    Route("GET", "/api/specimens/barcode/{barcode}/journey", get_journey, Need(_P.MESSAGE_READ), gives=Trace),
    Route("GET", "/api/specimens/{barcode}/journey", get_journey, Need(_P.MESSAGE_READ), gives=Trace),
    Route("GET", "/api/specimens/{id}", get_specimen, _READ, gives=_WHOLE),
    Route("GET", "/api/specimens/{id}/label.svg", get_svg, Need(_P.ORDER_READ), gives=str, media=_SVG),
    Route("GET", "/api/specimens/{id}/label.zpl", get_zpl, Need(_P.ORDER_READ), gives=str, media=_ZPL),
    Route(
        "POST",
        "/api/specimens/{id}/collect",
        collect,
        Need(_P.SPECIMEN_WRITE, "Specimen", "u"),
        gives={"specimen": SpecimenView},
    ),
    Route("POST", "/api/specimens/{id}/retime", retime, _WRITE, gives={"specimen": SpecimenView}),
    Route("POST", "/api/specimens/{id}/receive", receive, _WRITE, gives={"specimen": SpecimenView}),
    Route("POST", "/api/specimens/{id}/move", move, _WRITE, gives={"specimen": SpecimenView}),
    Route("POST", "/api/specimens/{id}/reject", reject, _WRITE, gives=dict[str, object]),
    Route("POST", "/api/specimens/{id}/reinstate", reinstate, _WRITE, gives={"specimen": SpecimenView}),
    Route("POST", "/api/specimens/{id}/exhaust", exhaust, _WRITE, gives={"specimen": SpecimenView}),
    Route("POST", "/api/specimens/{id}/dispose", dispose, _WRITE, gives={"specimen": SpecimenView}),
    Route("POST", "/api/specimens/{id}/aliquot", aliquot, _WRITE, gives=dict[str, object]),
)

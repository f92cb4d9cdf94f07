"""Orders over REST: create, list, show, change, replace, add tests, cancel."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from aiohttp import web

from interface.api.bodies import Body, read_body, version_of
from interface.api.context import Need, Route, actor_of, audience_of, json_response, note_read, services
from interface.api.lists import listing, not_found, one, path_id, read_query
from interface.api.people import new_patient
from interface.domain.model import Priority
from interface.domain.permissions import Permission
from interface.domain.views import Audience, OrderView
from interface.errors import ApiError
from interface.flow import order_changes, orders
from interface.store import lab
from interface.store.lab import OrderFilter


def new_order(body: Body) -> orders.NewOrder:
    """The order a JSON object says; `labora order create --file` reads it by this too."""
    specimens = []
    for entry in body.objects("specimens"):
        specimens.append(new_specimen(entry))
    patient, requester = body.part("patient"), body.part("requester")
    return orders.NewOrder(
        specimens=tuple(specimens),
        patient=new_patient(patient) if patient is not None else None,
        patient_id=body.id("patient_id"),
        placer_number=body.text("placer_number", ""),
        priority=body.choice("priority", Priority, Priority.ROUTINE),
        clinical_history=body.text("clinical_history", ""),
        ordered_at=body.instant("ordered_at"),
        requester=_practitioner(requester) if requester is not None else None,
        requester_id=body.id("requester_id"),
        ward=body.text("ward", ""),
        patient_group=body.text("patient_group", ""),
        pregnant=body.maybe("pregnant"),
        gestation_weeks=body.number("gestation_weeks"),
        placer_authority=body.text("placer_authority", ""),
    )


def new_specimen(entry: Body) -> orders.NewSpecimen:
    specimen = orders.NewSpecimen(
        tests=entry.texts("tests"),
        barcode=entry.text("barcode", ""),
        type=entry.text("type", ""),
        collected_at=entry.instant("collected_at"),
        received_at=entry.instant("received_at"),
        container=entry.text("container", ""),
        time_points_min=entry.numbers("time_points_min"),
        collected_by=entry.text("collected_by", ""),
        received_by=entry.text("received_by", ""),
    )
    entry.close()
    return specimen


def _practitioner(body: Body) -> orders.NewPractitioner:
    found = orders.NewPractitioner(*(body.text(name, "") for name in ("identifier", "family", "given", "authority")))
    body.close()
    return found


async def create_order(request: web.Request) -> web.StreamResponse:
    """Sent again with the same placer number and content, it is answered with the order that exists."""
    body = await read_body(request)
    new = new_order(body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await orders.create_order(connection, actor, new, audience_of(request))
    return json_response(view, 201, {"Location": f"/api/orders/{view.id}"})


async def list_orders(request: web.Request) -> web.StreamResponse:
    query = read_query(request, "api/orders", ("patient_id", "number", "barcode", "test"))
    filter = OrderFilter(
        patient_ids=query.id("patient_id"),
        numbers=one(query.text("number")),
        barcodes=one(query.text("barcode")),
        test_codes=one(query.text("test")),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await lab.find_orders(connection, filter, audience_of(request))
    patients = [view.patient_id for view in found[: query.limit]]
    await note_read(request, "search", "order", None, patients, {"query": query.words})
    return query.answer("orders", found)


async def get_order(request: web.Request) -> web.StreamResponse:
    """By id, or by number: the laboratory's, else the placer's where only one order has it."""
    key = request.match_info["id"]
    try:
        filter = OrderFilter(ids=(UUID(key),))
    except ValueError:
        filter = OrderFilter(numbers=(key,))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await lab.find_orders(connection, filter, audience_of(request))
    if len(found) > 1:
        found = [view for view in found if view.number == key]
    patients = [view.patient_id for view in found]
    await note_read(request, "read", "order", found[0].id if found else None, patients, {"query": key})
    if not found:
        raise not_found()
    return json_response(found[0])


async def add_items(request: web.Request) -> web.StreamResponse:
    """`{tests, specimen_id}`: on a specimen the order has; `{specimen: {tests, type, container, …}}`: on one more."""
    order_id = path_id(request)
    body = await read_body(request)
    specimen, specimen_id, tests = body.part("specimen"), body.id("specimen_id"), body.texts("tests")
    new = new_specimen(specimen) if specimen is not None else None
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await order_changes.add(
            connection, actor, order_id, tests, specimen_id=specimen_id, specimen=new, audience=audience_of(request)
        )
    return json_response(view)


async def change(request: web.Request) -> web.StreamResponse:
    """Only the members that are given change; null empties `pregnant`, `gestation_weeks` and `requester`. `version`:
    what was looked at, in the body or as If-Match. Nothing can be changed once nothing of the order waits any more."""
    order_id = path_id(request)
    body = await read_body(request)
    cleared = frozenset(name for name in order_changes.CLEARABLE if body.null(name))
    requester = body.part("requester")
    said = order_changes.OrderChange(
        priority=body.choice("priority", Priority, Priority.ROUTINE) if body.has("priority") else None,
        clinical_history=body.text("clinical_history", "") if body.has("clinical_history") else None,
        ward=body.text("ward", "") if body.has("ward") else None,
        patient_group=body.text("patient_group", "") if body.has("patient_group") else None,
        pregnant=body.maybe("pregnant"),
        gestation_weeks=body.number("gestation_weeks"),
        requester=_practitioner(requester) if requester is not None else None,
        requester_id=body.id("requester_id"),
        cleared=cleared,
        ward_at=datetime.now(UTC),
    )
    version = version_of(request, body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await order_changes.change(
            connection, actor, order_id, said, version=version, audience=audience_of(request)
        )
    return json_response(view)


async def replace(request: web.Request) -> web.StreamResponse:
    """`{reason, order, in_progress}`: the whole order is cancelled and `order`, as it is made by POST, takes its place;
    its patient need not be named again."""
    order_id = path_id(request)
    body = await read_body(request)
    reason, in_progress, part = body.text("reason"), body.flag("in_progress"), body.part("order")
    if part is None:
        body.required("order")
        body.done()
        raise ApiError(422, "value", "order is missing")
    new = new_order(part)
    part.close()
    body.done()
    actor, audience = actor_of(request), audience_of(request)
    if in_progress and audience is not Audience.STAFF:
        raise ApiError(403, "forbidden", "only the laboratory cancels what is in progress")
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await order_changes.replace_order(
            connection, actor, order_id, reason, new, in_progress=in_progress, audience=audience
        )
    return json_response(view, 201, {"Location": f"/api/orders/{view.id}"})


async def cancel(request: web.Request) -> web.StreamResponse:
    """`{reason, items, in_progress}`: these items, or the whole order; `in_progress`: also what is being measured."""
    order_id = path_id(request)
    body = await read_body(request)
    reason, items, in_progress = body.text("reason"), body.ids("items"), body.flag("in_progress")
    body.done()
    actor, audience = actor_of(request), audience_of(request)
    if in_progress and audience is not Audience.STAFF:
        raise ApiError(403, "forbidden", "only the laboratory cancels what is in progress")
    async with services(request).database.transaction(actor.organization_id) as connection:
        done = await order_changes.cancel(
            connection, actor, order_id, reason, item_ids=items, in_progress=in_progress, audience=audience
        )
    return json_response(done)


_P = Permission
ROUTES = (
    Route(
        "POST", "/api/orders", create_order, Need(_P.ORDER_WRITE, "ServiceRequest", "c"), gives=OrderView, status=201
    ),
    Route(
        "GET",
        "/api/orders",
        list_orders,
        Need(_P.ORDER_READ, "ServiceRequest", "s"),
        gives=listing("orders", OrderView),
    ),
    Route("GET", "/api/orders/{id}", get_order, Need(_P.ORDER_READ, "ServiceRequest", "r"), gives=OrderView),
    Route("PATCH", "/api/orders/{id}", change, Need(_P.ORDER_WRITE, "ServiceRequest", "u"), gives=OrderView),
    Route(
        "POST",
        "/api/orders/{id}/replace",
        replace,
        Need(_P.ORDER_WRITE, "ServiceRequest", "u"),
        gives=OrderView,
        status=201,
    ),
    Route("POST", "/api/orders/{id}/items", add_items, Need(_P.ORDER_WRITE, "ServiceRequest", "u"), gives=OrderView),
    Route(
        "POST",
        "/api/orders/{id}/cancel",
        cancel,
        Need(_P.ORDER_WRITE, "ServiceRequest", "u"),
        gives=order_changes.Cancelled,
    ),
)

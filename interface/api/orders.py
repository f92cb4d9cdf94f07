"""Orders over REST: create, list, show."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from interface.api.bodies import Body, read_json
from interface.api.context import Need, Route, actor_of, audience_of, json_response, note_read, services
from interface.api.lists import Query, not_found, one
from interface.api.people import new_patient
from interface.domain.model import Priority
from interface.domain.permissions import Permission
from interface.flow import orders
from interface.store import lab
from interface.store.lab import OrderFilter


def new_order(body: Body) -> orders.NewOrder:
    """The order a JSON object says; `labora order create --file` reads it by this too."""
    specimens = []
    for entry in body.objects("specimens"):
        specimens.append(
            orders.NewSpecimen(
                tests=entry.texts("tests"),
                barcode=entry.text("barcode", ""),
                type=entry.text("type", ""),
                collected_at=entry.instant("collected_at"),
                received_at=entry.instant("received_at"),
            )
        )
        entry.close()
    patient = body.part("patient")
    return orders.NewOrder(
        specimens=tuple(specimens),
        patient=new_patient(patient) if patient is not None else None,
        patient_id=body.id("patient_id"),
        placer_number=body.text("placer_number", ""),
        priority=body.choice("priority", Priority, Priority.ROUTINE),
        clinical_history=body.text("clinical_history", ""),
        ordered_at=body.instant("ordered_at"),
    )


async def create_order(request: web.Request) -> web.StreamResponse:
    """Sent again with the same placer number and content, it is answered with the order that exists."""
    body = Body(await read_json(request))
    new = new_order(body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await orders.create_order(connection, actor, new)
    return json_response(view, 201, {"Location": f"/api/orders/{view.id}"})


async def list_orders(request: web.Request) -> web.StreamResponse:
    query = Query(request, "api/orders", ("patient_id", "number", "barcode", "test"))
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


_P = Permission
ROUTES = (
    Route("POST", "/api/orders", create_order, Need(_P.ORDER_WRITE, "ServiceRequest", "c")),
    Route("GET", "/api/orders", list_orders, Need(_P.ORDER_READ, "ServiceRequest", "s")),
    Route("GET", "/api/orders/{id}", get_order, Need(_P.ORDER_READ, "ServiceRequest", "r")),
)

"""The laboratory's own REST interface: users, patients, orders, results, links.

Staff see everything of their organization, held results too; a client that comes here sees what an EMR may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aiohttp import web

from interface.api.bodies import Body, read_json
from interface.api.context import (
    Need,
    Route,
    actor_of,
    audience_of,
    json_response,
    note_read,
    services,
)
from interface.api.paging import NextPage
from interface.domain.model import Priority, ResultStatus, Sex
from interface.domain.permissions import Permission
from interface.domain.views import Audience, IdentifierView, OrderView, PatientView, ResultView
from interface.errors import ApiError
from interface.flow import actors, orders, review
from interface.store import lab
from interface.store.lab import Cursor, OrderFilter, Page, PatientFilter, ResultFilter

DEFAULT_LIMIT, MOST_LIMIT = 100, 500


# ---- queries and pages ----------------------------------------------------------------------------------------------


class _Query:
    """The parameters of a list, each at most once; `cursor` stands for all of them."""

    def __init__(self, request: web.Request, kind: str, known: Sequence[str]) -> None:
        self._request, self._kind = request, kind
        given = tuple((name, value) for name, value in request.query.items() if value)
        actor = actor_of(request)
        self.after: Cursor | None = None
        cursor = request.query.get("cursor")
        if cursor is not None:
            if len(given) > 1:
                raise ApiError(400, "value", "cursor stands alone: it holds the other parameters")
            page = services(request).pages.find(cursor, kind, actor.id, actor.organization_id)
            given, self.after = page.parameters, page.after
        self._given = dict(given)
        unknown = sorted(set(self._given) - {*known, "limit"})
        if unknown or len(self._given) < len(given):
            raise ApiError(
                400, "value", f"a parameter is repeated or not one of {', '.join((*known, 'limit', 'cursor'))}"
            )

    @property
    def words(self) -> str:
        return "&".join(f"{name}={value}" for name, value in self._given.items())

    def text(self, name: str) -> str:
        return self._given.get(name, "")

    def id(self, name: str) -> tuple[UUID, ...]:
        try:
            return (UUID(self._given[name]),) if name in self._given else ()
        except ValueError:
            raise ApiError(400, "value", f"{name} is not an id") from None

    def flag(self, name: str) -> bool:
        value = self.text(name)
        if value not in ("", "true", "false"):
            raise ApiError(400, "value", f"{name} is true or false")
        return value == "true"

    @property
    def limit(self) -> int:
        value = self._given.get("limit", str(DEFAULT_LIMIT))
        if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MOST_LIMIT):
            raise ApiError(400, "value", f"limit is a number from 1 to {MOST_LIMIT}")
        return int(value)

    @property
    def page(self) -> Page:
        """One row more than is shown tells whether there is a next page."""
        return Page(after=self.after, newest_first=True, limit=self.limit + 1)

    def answer(self, name: str, found: Sequence[PatientView | OrderView | ResultView]) -> web.Response:
        shown = found[: self.limit]
        link = None
        if len(found) > self.limit:
            actor = actor_of(self._request)
            after = Cursor(shown[-1].updated_at, shown[-1].id)
            page = NextPage(self._kind, actor.id, actor.organization_id, tuple(self._given.items()), after)
            link = f"/api/{name}?cursor={services(self._request).pages.keep(page)}"
        return json_response({name: shown, "next": link})


def _path_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise _not_found() from None


def _not_found() -> ApiError:
    return ApiError(404, "not-found", "there is none of this id")


# ---- users ----------------------------------------------------------------------------------------------------------


async def list_users(request: web.Request) -> web.StreamResponse:
    found = await actors.list_users(services(request).database, actor_of(request))
    return json_response({"users": found})


async def create_user(request: web.Request) -> web.StreamResponse:
    body = Body(await read_json(request))
    new = actors.NewUser(
        body.text("username"), body.text("password"), body.texts("roles"), full_name=body.text("full_name", "")
    )
    body.done()
    return json_response(await actors.create_user(services(request).database, actor_of(request), new), 201)


# ---- patients -------------------------------------------------------------------------------------------------------


def _new_patient(body: Body) -> orders.NewPatient:
    identifiers = []
    for entry in body.objects("identifiers"):
        identifier = IdentifierView(entry.text("authority", ""), entry.text("value"), entry.text("type", ""))
        identifiers.append(identifier)
        entry.close()
    patient = orders.NewPatient(
        identifiers=tuple(identifiers),
        family=body.text("family", ""),
        given=body.text("given", ""),
        birth_date=body.day("birth_date"),
        sex=body.choice("sex", Sex, Sex.UNKNOWN),
    )
    body.close()
    return patient


async def create_patient(request: web.Request) -> web.StreamResponse:
    body = Body(await read_json(request))
    new = _new_patient(body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await orders.create_patient(connection, actor, new)
    return json_response(view, 201, {"Location": f"/api/patients/{view.id}"})


async def list_patients(request: web.Request) -> web.StreamResponse:
    query = _Query(request, "api/patients", ("identifier", "authority", "family", "given", "name"))
    filter = PatientFilter(
        identifier=query.text("identifier"),
        authority=query.text("authority") or None,
        family=query.text("family"),
        given=query.text("given"),
        name=query.text("name"),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await lab.find_patients(connection, filter)
    shown = [view.id for view in found[: query.limit]]
    await note_read(request, "search", "patient", None, shown, {"query": query.words})
    return query.answer("patients", found)


async def get_patient(request: web.Request) -> web.StreamResponse:
    patient_id = _path_id(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        view = await lab.get_patient(connection, patient_id)
    await note_read(request, "read", "patient", patient_id, (), {"found": "no" if view is None else "yes"})
    if view is None:
        raise _not_found()
    return json_response(view)


# ---- orders ---------------------------------------------------------------------------------------------------------


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
        patient=_new_patient(patient) if patient is not None else None,
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
    query = _Query(request, "api/orders", ("patient_id", "number", "barcode", "test"))
    filter = OrderFilter(
        patient_ids=query.id("patient_id"),
        numbers=_one(query.text("number")),
        barcodes=_one(query.text("barcode")),
        test_codes=_one(query.text("test")),
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
        raise _not_found()
    return json_response(found[0])


def _one(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


# ---- results --------------------------------------------------------------------------------------------------------


async def list_results(request: web.Request) -> web.StreamResponse:
    query = _Query(request, "api/results", ("held", "patient_id", "order_id", "barcode", "test", "status"))
    filter = ResultFilter(
        patient_ids=query.id("patient_id"),
        order_ids=query.id("order_id"),
        barcodes=_one(query.text("barcode")),
        test_codes=_one(query.text("test")),
        statuses=_statuses(query.text("status")),
        held_only=query.flag("held"),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await lab.find_results(connection, filter, audience_of(request))
    patients = [view.patient_id for view in found[: query.limit]]
    await note_read(request, "search", "result", None, patients, {"query": query.words})
    return query.answer("results", found)


def _statuses(text: str) -> tuple[ResultStatus, ...]:
    try:
        return tuple(map(ResultStatus, _one(text)))
    except ValueError:
        raise ApiError(400, "value", f"status is one of {', '.join(status.value for status in ResultStatus)}") from None


async def get_result(request: web.Request) -> web.StreamResponse:
    """The current version; for staff also its earlier versions and the explanation of each."""
    result_id, audience = _path_id(request), audience_of(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        view = await lab.get_result(connection, result_id, audience)
        history = await lab.result_history(connection, result_id, audience) if view is not None else []
        known = [version.version_id for version in history] if audience is Audience.STAFF else []
        explained = await lab.explanations(connection, known)
    patients = [view.patient_id] if view is not None else []
    await note_read(request, "read", "result", result_id, patients, {"found": "no" if view is None else "yes"})
    if view is None:
        raise _not_found()
    if audience is not Audience.STAFF:
        return json_response({"result": view})
    versions = [{"version": version, "explanation": explained.get(version.version_id, ())} for version in history]
    return json_response({"result": view, "explanation": explained.get(view.version_id, ()), "versions": versions})


async def release(request: web.Request) -> web.StreamResponse:
    return await _decide(request, "release")


async def accept_change(request: web.Request) -> web.StreamResponse:
    return await _decide(request, "accept-change")


async def reject_change(request: web.Request) -> web.StreamResponse:
    return await _decide(request, "reject-change")


async def discard(request: web.Request) -> web.StreamResponse:
    return await _decide(request, "discard")


async def _decide(request: web.Request, what: str) -> web.StreamResponse:
    """`{comment, version, accept_hold}`, all of them optional; `version` is what the person looked at."""
    result_id = _path_id(request)
    body = Body(await read_json(request) if request.can_read_body else {})
    comment, version = body.text("comment", ""), body.number("version")
    accept_hold = body.flag("accept_hold") if what in ("release", "accept-change") else False
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        if what == "release":
            view = await review.release(connection, actor, result_id, comment, version, accept_hold)
        elif what == "accept-change":
            view = await review.accept_change(connection, actor, result_id, comment, version, accept_hold)
        elif what == "reject-change":
            view = await review.reject_change(connection, actor, result_id, comment, version)
        else:
            view = await review.discard(connection, actor, result_id, comment, version)
    return json_response({"result": view})


# ---- links ----------------------------------------------------------------------------------------------------------


async def list_links(request: web.Request) -> web.StreamResponse:
    """The organization's own links."""
    own = actor_of(request).organization_id
    return json_response({"links": [link for link in services(request).link_status() if link.organization_id == own]})


_P = Permission
ROUTES = (
    Route("GET", "/api/users", list_users, Need(_P.USER_READ)),
    Route("POST", "/api/users", create_user, Need(_P.USER_WRITE)),
    Route("POST", "/api/patients", create_patient, Need(_P.PATIENT_WRITE, "Patient", "c")),
    Route("GET", "/api/patients", list_patients, Need(_P.PATIENT_READ, "Patient", "s")),
    Route("GET", "/api/patients/{id}", get_patient, Need(_P.PATIENT_READ, "Patient", "r")),
    Route("POST", "/api/orders", create_order, Need(_P.ORDER_WRITE, "ServiceRequest", "c")),
    Route("GET", "/api/orders", list_orders, Need(_P.ORDER_READ, "ServiceRequest", "s")),
    Route("GET", "/api/orders/{id}", get_order, Need(_P.ORDER_READ, "ServiceRequest", "r")),
    Route("GET", "/api/results", list_results, Need(_P.RESULT_READ, "Observation", "s")),
    Route("GET", "/api/results/{id}", get_result, Need(_P.RESULT_READ, "Observation", "r")),
    Route("POST", "/api/results/{id}/release", release, Need(_P.RESULT_RELEASE)),
    Route("POST", "/api/results/{id}/accept-change", accept_change, Need(_P.RESULT_RELEASE)),
    Route("POST", "/api/results/{id}/reject-change", reject_change, Need(_P.RESULT_RELEASE)),
    Route("POST", "/api/results/{id}/discard", discard, Need(_P.RESULT_RELEASE)),
    Route("GET", "/api/links", list_links, Need(_P.LINK_READ)),
)

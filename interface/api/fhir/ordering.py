"""Orders over FHIR: a transaction Bundle of ServiceRequests with their Patient and Specimens, one request by itself,
and taking one back. What is done is what `/api/orders` does.

A transaction is done whole or not at all. The same placer number is one order: sent again with the same content it is
answered with what is there, with other content it is refused (409). A Patient is found by its identifiers or created,
with or without ifNoneExist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from uuid import UUID

from aiohttp import web

from interface.api.bodies import parse_json
from interface.api.context import Handler, Need, Route, actor_of, audience_of, json_response, note_read, services
from interface.api.fhir import said
from interface.api.fhir.bundle import (
    NO_CONDITION,
    Entry,
    Group,
    Transaction,
    patient_id_of,
    patient_identifier_of,
    read_transaction,
    supported,
    understood,
)
from interface.api.fhir.element import Element, Faults
from interface.api.fhir.negotiation import Ready, is_of, preference
from interface.api.fhir.page import read_one, shown
from interface.api.fhir.routes import MEDIA_TYPE, reader_of
from interface.api.fhir.said import RequestSaid, SpecimenSaid
from interface.domain.model import ItemStatus, Priority
from interface.domain.permissions import Permission, allows
from interface.domain.states import CLOSED_ITEM
from interface.domain.views import Actor, ActorKind, Audience, OrderItemView, OrderView
from interface.errors import ApiError
from interface.flow import order_changes, people
from interface.flow.orders import NewOrder, NewSpecimen, OrderError, create_order, placed_order
from interface.flow.people import NewPatient
from interface.render import fhir
from interface.render.fhir import Json
from interface.store import lab, lab_changes, placing, specimens
from interface.store.db import Connection
from interface.store.lab import OrderFilter
from interface.store.people import find_by_identifiers, persons

_URGENCY = (Priority.STAT, Priority.ASAP, Priority.ROUTINE)
_REVOKING = frozenset({"revoked", "entered-in-error"})
_JSON_TYPES = frozenset({MEDIA_TYPE, "application/json"})


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an entry. `id` None: it was taken and has no address of its own here. `version`: that after all
    entries; "" where it is not shown."""

    kind: str
    id: UUID | None
    created: bool
    version: str = ""
    updated_at: datetime | None = None
    note: str = ""
    gone: str = ""  # what of it is not done any more, though it is there

    @property
    def status(self) -> str:
        return "201 Created" if self.created else "200 OK"


class _Ordering:
    """One transaction at work, in the caller's database transaction."""

    def __init__(self, connection: Connection, actor: Actor, audience: Audience, asked: Transaction) -> None:
        self._connection, self._actor, self._audience, self._asked = connection, actor, audience, asked
        self.done: dict[int, Done] = {}
        self._patients: dict[int, UUID] = {}  # by the place of their entry

    async def run(self) -> None:
        """Raises ApiError with every fault that is found before anything is written; OrderError, IllegalStep later."""
        asked = self._asked
        asked.faults.check()
        await lab_changes.lock_orders(self._connection, self._actor.organization_id)
        # All at once and by id, as everybody locks: one order's after another's could meet who decides of both.
        revoked = [entry.id for entry in asked.entries if entry.id is not None]
        beside = await specimens.specimens_beside(self._connection, revoked)
        await specimens.lock_specimens(self._connection, beside)
        codes = await self._codes()
        asked.faults.check()
        await self._register([place for place, patient in asked.patients.items() if patient.identifiers])
        for group in asked.groups:
            await self._order(group, codes)
        # Who has no identifier is made with the first order, which is compared by name when it comes again.
        await self._register([place for place in asked.patients if place not in self._patients])
        for place in asked.practitioners:
            self.done[place] = Done("Practitioner", None, False, note="taken as the requester")
        for entry in asked.entries:
            if entry.method == "PUT":
                self.done[entry.place] = await _revoke(
                    self._connection, self._actor, self._audience, entry, self._named
                )
        await self._versions()

    async def _versions(self) -> None:
        """Which version each resource is now, as a read says: a later entry may have changed an earlier one's."""
        for kind in {done.kind for done in self.done.values() if done.id is not None}:
            ids = {done.id for done in self.done.values() if done.kind == kind and done.id is not None}
            now = {one.id: one for one in await shown(self._connection, kind, sorted(ids), self._audience)}
            for place, done in self.done.items():
                if done.kind == kind and done.id is not None and (one := now.get(done.id)) is not None:
                    self.done[place] = replace(done, version=one.version, updated_at=one.updated_at)

    async def _register(self, places: Sequence[int]) -> None:
        for place in places:
            patient = self._asked.patients[place]
            self._patients[place], made = await people.find_or_create(self._connection, self._actor, patient)
            self.done[place] = Done("Patient", self._patients[place], made)

    async def _codes(self) -> dict[int, str]:
        """The test or panel of each request, by the place of its entry."""
        requests = self._asked.requests
        split = {place: said.test_codes(request.codings) for place, request in requests.items()}
        loincs = {code for _, found in split.values() for code in found}
        by_loinc = await lab_changes.find_loincs(self._connection, loincs)
        codes = {}
        for place, (own, of_loinc) in split.items():
            meant = [code for loinc in of_loinc for code in by_loinc.get(loinc, ())]
            named = list(dict.fromkeys(own or meant))
            at = requests[place].path + ".code"
            if len(named) > 1:
                self._asked.faults.add(f"{at} means several tests: {', '.join(named)}", at, "multiple-matches")
            elif not named:
                text = f"{at} has no code of a test here: say one of {fhir.TEST_SYSTEM} or a LOINC code that a test has"
                self._asked.faults.add(text, at, "code-invalid")
            elif own and meant and named[0] not in meant:
                self._asked.faults.add(f"{at} has two codes that mean different tests", at, "code-invalid")
            else:
                codes[place] = named[0]
        return codes

    async def _order(self, group: Group, codes: Mapping[int, str]) -> None:
        keys = list(dict.fromkeys(group.specimens))  # in the order in which they are named
        on = {place: one for (place, _), one in zip(group.requests, group.specimens, strict=True)}
        new = [_specimen(key, [codes[place] for place, _ in group.requests if on[place] == key]) for key in keys]
        number, authority = group.placer.number, group.placer.authority
        order = NewOrder(tuple(new), placer_number=number, requester=group.requester, placer_authority=authority)
        order = _with_facts(order, group)
        order, subject = await self._for_patient(order, group)
        known = await placed_order(self._connection, group.placer)
        conditional = {entry.place for entry in self._asked.entries if entry.if_none}
        if_none = conditional.issuperset(place for place, _ in group.requests)
        try:
            view = await create_order(self._connection, self._actor, order, self._audience, if_none=if_none)
        except OrderError as error:
            at = group.requests[0][1].path
            raise OrderError([f"{at}: {each}" for each in error.problems], error.conflict, error.missing) from error
        if subject is not None and view.patient_id is not None and subject not in self._patients:
            self._patients[subject] = view.patient_id
            self.done[subject] = Done("Patient", view.patient_id, known is None)
        await self._tell(group, view, known is None, codes, keys, on)

    async def _for_patient(self, order: NewOrder, group: Group) -> tuple[NewOrder, int | None]:
        """The order with its patient, and the place of the patient's entry. Raises ApiError for nobody."""
        reference, at = group.subject, f"{group.requests[0][1].path}.subject"
        if reference is None:
            raise ApiError(422, "required", f"{at} is missing")
        entry = self._asked.entry_of(reference)
        if entry is not None and entry.place in self._asked.patients:
            if (known := self._patients.get(entry.place)) is not None:
                return replace(order, patient_id=known), entry.place
            return replace(order, patient=self._asked.patients[entry.place]), entry.place
        if (id := patient_id_of(reference, self._asked.base_url)) is not None:
            return replace(order, patient_id=id), None
        identifier = patient_identifier_of(reference)
        if identifier is None:
            text = f"{at} is neither in this transaction, nor Patient/[id], nor Patient?identifier=system|value alone"
            raise ApiError(422, "not-found", text)
        found = await people.find_patient(self._connection, NewPatient((identifier,)))
        if found is None:
            raise ApiError(422, "not-found", f"{at} is nobody: no patient has this identifier")
        return replace(order, patient_id=found), None

    async def _named(self, resource: Element) -> set[UUID]:
        """Every record of whoever a resource says it is of. Nobody where the id or number is nobody's here: how the
        sender calls patients is its own affair."""
        if (reference := said.reference(resource, "subject")) is None:
            return set()
        entry = self._asked.entry_of(reference)
        known = self._patients.get(entry.place) if entry is not None else None
        known = known or patient_id_of(reference, self._asked.base_url)
        identifier = patient_identifier_of(reference)
        found = {known} if known is not None else set()
        if known is None and identifier is not None:
            found = {row.id for row in await find_by_identifiers(self._connection, (identifier,))}
        return {id for ids in (await persons(self._connection, found)).values() for id in ids}

    async def _tell(
        self,
        group: Group,
        view: OrderView,
        created: bool,
        codes: Mapping[int, str],
        keys: Sequence[SpecimenSaid | None],
        on: Mapping[int, SpecimenSaid | None],
    ) -> None:
        """Where each request and each specimen is to be found now."""
        members = await lab_changes.find_codes(self._connection, list(codes.values()))
        tests = await lab_changes.test_codes(self._connection, {id for [found] in members.values() for id in found})
        wanted = {place: {tests[id] for id in members[code][0]} for place, code in codes.items()}
        ordered = {key: {one for place in on if on[place] == key for one in wanted[place]} for key in keys}
        by_key = await self._specimens_of(view, ordered)
        for place, request in group.requests:
            items = _of_each([i for i in view.items if i.specimen_id == by_key.get(on[place])], wanted[place])
            await self._name(request, group, view, [item.id for item in items])
            self.done[place] = Done(
                "ServiceRequest", items[0].id if items else None, created, note=_panel(items), gone=_gone(items)
            )
        for place, specimen in self._asked.specimens.items():
            if specimen in by_key:
                self.done[place] = Done("Specimen", by_key[specimen], created)

    async def _specimens_of(
        self, view: OrderView, ordered: Mapping[SpecimenSaid | None, Collection[str]]
    ) -> dict[SpecimenSaid | None, UUID]:
        """Which of the order's each specimen that was sent is: of its number, with what is ordered on it; each another
        one, in the order in which they were made."""
        left, found = await lab_changes.order_specimen_ids(self._connection, view.id), dict[SpecimenSaid | None, UUID]()
        for sent, tests in sorted(ordered.items(), key=lambda each: not (each[0] and each[0].barcode)):
            number = sent.barcode if sent is not None else ""
            for id in left:
                items = [item for item in view.items if item.specimen_id == id]
                if {item.test_code for item in items}.issuperset(tests) and number in ("", items[0].barcode):
                    found[sent] = id
                    left.remove(id)
                    break
        return found

    async def _name(self, request: RequestSaid, group: Group, view: OrderView, items: Sequence[UUID]) -> None:
        """The request's own number stands for its items, as an ORC-2 of HL7 v2 does."""
        if not request.own.number or request.own == group.placer:
            return
        organization_id, known = self._actor.organization_id, await placing.find(self._connection, request.own)
        if known is not None and known.order_id != view.id:
            text = f"{request.path}.identifier is the placer number of another order"
            raise OrderError([text], conflict=True)
        if known is None:
            filler = await placing.next_filler(self._connection, view.id)
            placed_id = await placing.insert(
                self._connection, organization_id, request.own, view.id, filler, group=group.placer
            )
            await placing.stand_for(self._connection, organization_id, placed_id, items)


def _specimen(sent: SpecimenSaid | None, tests: Sequence[str]) -> NewSpecimen:
    if sent is None:
        return NewSpecimen(tuple(tests))
    return NewSpecimen(tuple(tests), sent.barcode, sent.type, sent.collected_at, sent.received_at, sent.container)


def _with_facts(order: NewOrder, group: Group) -> NewOrder:
    """What its requests say of the order: the most urgent priority, the earliest time, every reason."""
    requests: list[RequestSaid] = [request for _, request in group.requests]
    times = [request.ordered_at for request in requests if request.ordered_at is not None]
    return replace(
        order,
        priority=min((request.priority for request in requests), key=_URGENCY.index),
        clinical_history="\n".join(dict.fromkeys(request.history for request in requests if request.history)),
        ordered_at=min(times, default=None),
    )


def _of_each(items: Sequence[OrderItemView], tests: Collection[str]) -> list[OrderItemView]:
    """Of each test what is done of it; only where nothing is, what was cancelled."""
    wanted = {item.test_code for item in items if item.status not in CLOSED_ITEM}
    return [one for one in items if one.test_code in tests and (
        one.status not in CLOSED_ITEM or one.test_code not in wanted
    )]  # fmt: skip


def _gone(items: Sequence[OrderItemView]) -> str:
    """Who is told that a request is there believes that it will be done."""
    since = {ItemStatus.CANCELLED: "cancelled since", ItemStatus.REJECTED: "its specimen was rejected"}
    words = [
        f"{since[one.status]}: {one.test_code}" + (f" ({one.reason})" if one.reason.strip() else "")
        for one in items
        if one.status in since
    ]
    return "; ".join(dict.fromkeys(words))


def _panel(items: Sequence[OrderItemView]) -> str:
    if len(items) < 2:
        return ""
    return "a panel: " + ", ".join(f"ServiceRequest/{item.id} {item.test_code}" for item in items)


async def _revoke(
    connection: Connection,
    actor: Actor,
    audience: Audience,
    entry: Entry,
    whose: Callable[[Element], Awaitable[set[UUID]]],
) -> Done:
    """PUT of a ServiceRequest that is there: nothing but its status can be changed, and only so."""
    resource, id = entry.resource, entry.id
    if id is None or resource.text("id") not in ("", str(id)):
        raise ApiError(400, "invalid", f"{resource.at('id')} is not that of the address")
    found = await lab.find_orders(connection, OrderFilter(item_ids=(id,)), audience)
    if not found:
        raise ApiError(404, "not-found", "there is no ServiceRequest of this id")
    if entry.if_match and not is_of(entry.if_match, fhir.version_of(found[0].updated_at)):
        raise ApiError(412, "conflict", "the request has changed since the version that If-Match names")
    if resource.text("status") not in _REVOKING:
        raise ApiError(422, "not-supported", f"{resource.at('status')}: a request is only ever revoked; "
                       "tests are added with POST /api/orders/[id]/items")  # fmt: skip
    reason = "; ".join(note.text("text") for note in resource.many("note")) or "revoked by who ordered it"
    # R4 http.html#update: what is sent is the whole resource; by the id alone somebody would be left without a test.
    if (named := await whose(resource)) and found[0].patient_id not in named:
        resource.fault("is another patient than that of the request of this id", "subject", "business-rule")
    item = next(one for one in found[0].items if one.id == id)
    if not await _is_of_test(connection, resource, item):
        resource.fault("is another test than that of the request of this id", "code", "business-rule")
    resource.faults.check()
    await order_changes.cancel(connection, actor, found[0].id, reason, item_ids=(id,), audience=audience)
    return Done("ServiceRequest", id, False)


async def _is_of_test(connection: Connection, resource: Element, item: OrderItemView) -> bool:
    """Whether a request means the item's test, or a panel that has it; also where no code of it is a test's here: how
    the sender calls tests is its own affair."""
    code = resource.one("code")
    own, loincs = said.test_codes(code.codings() if code is not None else ())
    if item.test_code in own or (item.loinc and item.loinc in loincs):
        return True
    meant = {each for codes in (await lab_changes.find_loincs(connection, loincs)).values() for each in codes}
    known = await lab_changes.find_codes(connection, meant.union(own))
    tests = await lab_changes.test_codes(connection, {id for found in known.values() for ids in found for id in ids})
    return not tests or item.test_code in tests.values()


def _allowed(actor: Actor, asked: Transaction) -> None:
    """A client's scopes are asked for each entry; what a user may is asked where it is done."""
    if actor.kind is not ActorKind.CLIENT:
        return
    for entry in asked.entries:
        action = "u" if entry.method == "PUT" else "c"
        if entry.kind != "Practitioner" and not allows(actor.scopes, entry.kind, action):
            raise ApiError(403, "forbidden", f"this needs system/{entry.kind}.{action}")


# ---- handlers -------------------------------------------------------------------------------------------------------


async def _perform(request: web.Request, asked: Transaction) -> dict[int, Done]:
    actor = actor_of(request)
    _allowed(actor, asked)
    async with services(request).database.transaction(actor.organization_id) as connection:
        ordering = _Ordering(connection, actor, audience_of(request), asked)
        await ordering.run()
    return ordering.done


async def transact(request: web.Request) -> web.StreamResponse:
    """A transaction Bundle; its answer has an entry for each, in the same order."""
    asked = read_transaction(await _body(request), services(request).base_url)
    done = await _perform(request, asked)
    entries = [_answer(done[entry.place]) for entry in asked.entries]
    answer = {"resourceType": "Bundle", "type": "transaction-response"} | ({"entry": entries} if entries else {})
    return json_response(answer, content_type=MEDIA_TYPE)


def _answer(done: Done) -> Json:
    response: Json = {"status": done.status}
    if done.id is not None:
        response["location"] = f"{done.kind}/{done.id}"
    if done.version:
        response["etag"] = f'W/"{done.version}"'
    if done.updated_at is not None:
        response["lastModified"] = fhir.instant(done.updated_at)
    if done.gone or done.note:
        response["outcome"] = _outcome(done)
    return {"response": response}


def _outcome(done: Done) -> Json:
    if done.gone:
        return fhir.operation_outcome("business-rule", done.gone, "warning")
    note = done.note or ("created" if done.created else "done")
    return fhir.operation_outcome("informational", note, "information")


def _creating(kind: str) -> Handler:
    async def create(request: web.Request) -> web.StreamResponse:
        """As a transaction of this one resource; what it names is contained in it or is there already."""
        served, faults = services(request), Faults()
        resource = Element(await _body(request), kind, faults)
        if resource.text("resourceType") != kind:
            raise ApiError(400, "structure", f"the body is not a {kind}")
        if not supported(resource, request.headers.get("If-None-Exist", "")):
            raise ApiError(412, "not-supported", f"If-None-Exist {NO_CONDITION}")
        conditional = bool(request.headers.get("If-None-Exist"))
        asked = understood([Entry(0, "POST", kind, "", resource, if_none=conditional)], faults, served.base_url)
        return await _alone(request, (await _perform(request, asked))[0])

    return create


async def update_request(request: web.Request) -> web.StreamResponse:
    """PUT ServiceRequest/[id] with a status that revokes it."""
    served, faults = services(request), Faults()
    resource = Element(await _body(request), "ServiceRequest", faults)
    try:
        id = UUID(request.match_info["id"])
    except ValueError:
        raise ApiError(404, "not-found", "there is no ServiceRequest of this id") from None
    entry = Entry(0, "PUT", "ServiceRequest", "", resource, id, request.headers.get("If-Match", ""))
    asked = understood([entry], faults, served.base_url)
    return await _alone(request, (await _perform(request, asked))[0])


async def _alone(request: web.Request, done: Done) -> web.Response:
    """R4 http.html#create: Location with the version, ETag and Last-Modified; the resource itself is read there, or
    comes along where it is preferred and may be read."""
    preferred = preference(request, "return")
    if preferred == "representation" and (resource := await _representation(request, done)) is not None:
        return resource
    headers = {"Location": _url(request, done)}
    if done.version:
        headers["ETag"] = f'W/"{done.version}"'
    if done.updated_at is not None:
        headers["Last-Modified"] = format_datetime(done.updated_at.replace(microsecond=0), usegmt=True)
    status = 201 if done.created else 200
    if preferred == "minimal":
        return web.Response(status=status, headers=headers)
    return json_response(_outcome(done), status, headers, MEDIA_TYPE)


async def _representation(request: web.Request, done: Done) -> web.Response | None:
    actor, audience = actor_of(request), services(request).emr
    try:
        allowed = reader_of(request).narrowed(done.kind, "r")
    except ApiError:
        return None
    async with services(request).database.organization(actor.organization_id) as connection:
        found = await read_one(connection, done.kind, done.id, allowed, audience) if done.id else None
    if found is None:
        return None
    await note_read(request, "read", done.kind, found.id, [found.patient_id], {"found": "yes"})
    ready = Ready.of(found)
    headers = {**ready.headers, "Location": _url(request, done)}
    return web.Response(body=ready.json, status=201 if done.created else 200, headers=headers)


def _url(request: web.Request, done: Done) -> str:
    version = f"/_history/{done.version}" if done.version else ""
    return f"{services(request).base_url}/fhir/{done.kind}/{done.id}{version}"


async def _body(request: web.Request) -> object:
    if request.content_type not in _JSON_TYPES:
        raise ApiError(415, "not-supported", f"the body is {MEDIA_TYPE}")
    return parse_json(await request.read())


_P = Permission
ROUTES = (
    Route("POST", "/fhir", transact, Need(_P.ORDER_WRITE, "ServiceRequest", "c")),
    Route("POST", "/fhir/ServiceRequest", _creating("ServiceRequest"), Need(_P.ORDER_WRITE, "ServiceRequest", "c")),
    Route("PUT", "/fhir/ServiceRequest/{id}", update_request, Need(_P.ORDER_WRITE, "ServiceRequest", "u")),
    Route("POST", "/fhir/Patient", _creating("Patient"), Need(_P.PATIENT_WRITE, "Patient", "c")),
)

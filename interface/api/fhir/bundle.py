"""A transaction Bundle, read: its entries, what refers to what, and which requests are one order. Asks no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote
from uuid import UUID

from interface.api.fhir import said
from interface.api.fhir.element import Element, Faults
from interface.api.fhir.said import Reference, RequestSaid, SpecimenSaid
from interface.domain.views import IdentifierView
from interface.errors import ApiError
from interface.flow.orders import NewPractitioner
from interface.flow.people import NewPatient
from interface.flow.placing import PlacerNumber
from interface.render.fhir import authority_of

CREATED: Final = ("Patient", "Practitioner", "Specimen", "ServiceRequest")
MOST_ENTRIES = 500

NO_CONDITION = "is not one of the resource's own identifiers"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to do. `id`: of what is there already, where it is a PUT, and `if_match` the versions it may be of;
    `if_none`: a POST that is to be passed over where there is one already."""

    place: int
    method: str
    kind: str
    full_url: str
    resource: Element
    id: UUID | None = None
    if_match: str = ""
    if_none: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The requests of one order, each with the entry it came in; `specimens`: what each is done on, None where no
    specimen is named."""

    placer: PlacerNumber
    requests: tuple[tuple[int, RequestSaid], ...]
    subject: Reference | None
    requester: NewPractitioner | None
    specimens: tuple[SpecimenSaid | None, ...]


@dataclass(slots=True)
class Transaction:
    """Everything a Bundle asks for. `patients`, `specimens`: by the place of their entry."""

    entries: list[Entry]
    faults: Faults
    base_url: str
    patients: dict[int, NewPatient] = field(default_factory=dict)
    specimens: dict[int, SpecimenSaid] = field(default_factory=dict)
    practitioners: dict[int, NewPractitioner] = field(default_factory=dict)
    requests: dict[int, RequestSaid] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def entry_of(self, reference: Reference) -> Entry | None:
        """The entry that a reference means, by its fullUrl (R4 bundle.html#references)."""
        urls = {reference.url, f"{self.base_url}/fhir/{reference.url}"}
        return next((entry for entry in self.entries if entry.full_url and entry.full_url in urls), None)


def read_transaction(value: object, base_url: str) -> Transaction:
    """Raises ApiError for what is no transaction; faults of its entries are noted, for `faults.check`."""
    faults = Faults()
    bundle = Element(value, "Bundle", faults)
    if bundle.text("resourceType") != "Bundle":
        raise ApiError(400, "structure", "the body is not a Bundle")
    if (kind := bundle.text("type")) != "transaction":
        raise ApiError(422, "not-supported", f"a Bundle of type {kind or 'none'!r} is not taken; send a transaction")
    found = list(bundle.many("entry"))
    if len(found) > MOST_ENTRIES:
        raise ApiError(422, "too-costly", f"a transaction has at most {MOST_ENTRIES} entries")
    entries = [_entry(place, element, base_url) for place, element in enumerate(found)]
    return understood([entry for entry in entries if entry is not None], faults, base_url)


def understood(entries: list[Entry], faults: Faults, base_url: str) -> Transaction:
    """The entries read, and their requests put together."""
    done = Transaction(entries, faults, base_url)
    urls = [entry.full_url for entry in entries if entry.full_url]
    if len(urls) != len(set(urls)):
        faults.add("two entries have the same fullUrl", "Bundle.entry.fullUrl", "invalid")
    for entry in entries:
        if entry.method == "POST":
            _read(done, entry)
    _group(done)
    return done


def _entry(place: int, element: Element, base_url: str) -> Entry | None:
    resource, request = element.one("resource"), element.one("request")
    if resource is None or request is None:
        element.fault("needs a resource and a request", code="required")
        return None
    kind, method = resource.text("resourceType", required=True), request.text("method", required=True)
    url = request.text("url", required=True).removeprefix(f"{base_url}/fhir/").strip("/")
    full_url = element.text("fullUrl")
    if method == "POST" and kind in CREATED and url == kind:
        condition = request.text("ifNoneExist")
        if not supported(resource, condition):
            request.fault(NO_CONDITION, "ifNoneExist", "not-supported")
        return Entry(place, method, kind, full_url, resource, if_none=bool(condition))
    if method == "PUT" and kind == "ServiceRequest" and (id := _id(url, kind)):
        return Entry(place, method, kind, full_url, resource, id, request.text("ifMatch"))
    request.fault(
        f"is not done here: a transaction creates {', '.join(CREATED)}, and updates ServiceRequest/[id] to revoke it",
        code="not-supported",
    )
    return None


def supported(resource: Element, condition: str) -> bool:
    """`ifNoneExist` names the resource by one of its own identifiers, or it is about something else."""
    if not condition:
        return True
    pairs = parse_qsl(condition.removeprefix("?").partition("?")[2] or condition.removeprefix("?"))
    own = {(one.authority, one.value) for one in said.identifiers(resource)}
    for name in ("requisition", "accessionIdentifier"):
        if (more := resource.one(name)) is not None:
            own.add((said.identifier(more).authority, said.identifier(more).value))
    for name, value in pairs or [("", "")]:
        system, bar, text = value.rpartition("|")
        same = any(text == known and (not bar or authority == authority_of(system)) for authority, known in own)
        if name != "identifier" or not same:
            return False
    return True


def _id(url: str, kind: str) -> UUID | None:
    name, _, id = url.partition("/")
    try:
        return UUID(id) if name == kind else None
    except ValueError:
        return None


def _read(done: Transaction, entry: Entry) -> None:
    match entry.kind:
        case "Patient":
            done.patients[entry.place] = said.patient(entry.resource)
        case "Practitioner":
            done.practitioners[entry.place] = said.practitioner(entry.resource)
        case "Specimen":
            done.specimens[entry.place] = said.specimen(entry.resource)
        case _:
            done.requests[entry.place] = said.request(entry.resource)


# ---- which requests are one order -----------------------------------------------------------------------------------


def _group(done: Transaction) -> None:
    """Requests with one placer number are one order; one without is an order of its own."""
    together: dict[object, list[tuple[int, RequestSaid]]] = {}
    for place, request in done.requests.items():
        together.setdefault(request.placer if request.placer.number else place, []).append((place, request))
    done.groups = [_as_group(done, requests) for requests in together.values()]
    used = {one.path for group in done.groups for one in group.specimens if one is not None}
    for specimen in done.specimens.values():
        if specimen.path not in used:
            done.faults.add(
                f"{specimen.path} is not named by a request: a specimen comes with what is ordered on it",
                specimen.path, "business-rule",
            )  # fmt: skip
        elif sum(specimen in group.specimens for group in done.groups) > 1:
            done.faults.add(f"{specimen.path} is named by two orders", specimen.path, "business-rule")


def _as_group(done: Transaction, requests: Sequence[tuple[int, RequestSaid]]) -> Group:
    first = requests[0][1]
    requesters = [_requester(done, request) for _, request in requests]
    for (_, request), requester in zip(requests, requesters, strict=True):
        if _same(request.subject) != _same(first.subject):
            done.faults.add(f"{request.path}.subject is not that of the order's other requests",
                            f"{request.path}.subject", "business-rule")  # fmt: skip
        if requester != requesters[0]:
            done.faults.add(f"{request.path}.requester is not that of the order's other requests",
                            f"{request.path}.requester", "business-rule")  # fmt: skip
    specimens = tuple(_specimen(done, request) for _, request in requests)
    for one in specimens:
        if one is not None and one.subject is not None and _same(one.subject) != _same(first.subject):
            done.faults.add(f"{one.path}.subject is another than that of what is ordered on it",
                            f"{one.path}.subject", "business-rule")  # fmt: skip
    return Group(first.placer, tuple(requests), first.subject, requesters[0], specimens)


def _same(reference: Reference | None) -> object:
    if reference is None:
        return None
    return reference.url or reference.identifier


def _specimen(done: Transaction, request: RequestSaid) -> SpecimenSaid | None:
    if not request.specimens:
        return None
    at = f"{request.path}.specimen"
    if len(request.specimens) > 1:
        done.faults.add(f"{at} names several: a test is ordered on one", at, "business-rule")
    reference = request.specimens[0]
    held = _contained(request, reference)
    if held is not None and held.text("resourceType") == "Specimen":
        return said.specimen(held)
    entry = done.entry_of(reference)
    if entry is not None and entry.place in done.specimens:
        return done.specimens[entry.place]
    done.faults.add(f"{at} is no specimen of this transaction; tests on one that is there are added to its order",
                    at, "not-supported" if reference.url.startswith("Specimen/") else "not-found")  # fmt: skip
    return None


def _requester(done: Transaction, request: RequestSaid) -> NewPractitioner | None:
    reference = request.requester
    if reference is None:
        return None
    if (held := _contained(request, reference)) is not None:
        return said.practitioner(held)
    entry = done.entry_of(reference)
    if entry is not None and entry.place in done.practitioners:
        return done.practitioners[entry.place]
    known = reference.identifier or IdentifierView("", "")
    if not known.value and not reference.display:
        done.faults.add(f"{request.path}.requester is not in this transaction, and has neither identifier nor display",
                        f"{request.path}.requester", "not-found")  # fmt: skip
    return NewPractitioner(known.value, "" if known.value else reference.display, "", known.authority)


def _contained(request: RequestSaid, reference: Reference) -> Element | None:
    if not reference.url.startswith("#"):
        return None
    return next((one for one in request.contained if one.text("id") == reference.url[1:]), None)


def patient_id_of(reference: Reference, base_url: str) -> UUID | None:
    """`Patient/[id]`, also absolute."""
    return _id(reference.url.removeprefix(f"{base_url}/fhir/"), "Patient")


def patient_identifier_of(reference: Reference) -> IdentifierView | None:
    """`Patient?identifier=system|value` (R4 http.html#trules: a conditional reference), or a logical one. A search with
    other conditions beside is none: who is found without them may be somebody else."""
    if reference.identifier is not None:
        return reference.identifier
    kind, _, query = reference.url.partition("?")
    match parse_qsl(query, keep_blank_values=True) if kind == "Patient" else ():
        case [("identifier", value)]:
            system, _, text = value.rpartition("|")
            return IdentifierView(authority_of(unquote(system)), text)
    return None

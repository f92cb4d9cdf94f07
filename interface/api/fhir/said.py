"""What an EMR says as FHIR when it orders: Patient, Specimen, Practitioner and ServiceRequest, read into our own words.

The reverse of `render.fhir`. What is said and cannot be kept is refused with its place, as far as leaving it out would
change what is ordered; what is about other things (addresses, insurance, performers) is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from interface.api.fhir.element import Coding, Element
from interface.api.fhir.values import period
from interface.domain.model import Priority, Sex
from interface.domain.views import IdentifierView
from interface.errors import ApiError
from interface.flow.orders import NewPractitioner
from interface.flow.people import NewPatient
from interface.flow.placing import PlacerNumber
from interface.render.fhir import (
    BIRTH_TIME,
    LOINC,
    PLACER_SYSTEM,
    SPECIMEN_TYPE_SYSTEM,
    TERMINOLOGY,
    TEST_SYSTEM,
    authority_of,
)

# Types of specimen are those of HL7 table 0487, which has a code system of its own too.
_SPECIMEN_TYPES = frozenset({SPECIMEN_TYPE_SYSTEM, TERMINOLOGY + "v2-0487"})
_PRIORITIES = {
    "": Priority.ROUTINE, "routine": Priority.ROUTINE, "urgent": Priority.ASAP, "asap": Priority.ASAP,
    "stat": Priority.STAT,
}  # fmt: skip
_ORDERS = frozenset({"order", "original-order", "filler-order", "instance-order"})
# What would be ordered otherwise than we would do it.
_NOT_DONE = ("doNotPerform", "quantityQuantity", "quantityRatio", "quantityRange", "occurrenceTiming",
             "asNeededBoolean", "asNeededCodeableConcept", "orderDetail")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reference:
    """To whom or what: a relative or absolute URL, `#contained`, a search, or an identifier."""

    url: str
    identifier: IdentifierView | None
    display: str
    path: str


@dataclass(frozen=True, slots=True)
class SpecimenSaid:
    """A specimen as sent; which tests are ordered on it stands in the requests."""

    barcode: str
    type: str
    container: str
    collected_at: datetime | None
    received_at: datetime | None
    subject: Reference | None
    path: str


_NO_NUMBER = PlacerNumber()


@dataclass(frozen=True, slots=True)
class RequestSaid:
    """A request for one test or panel. `placer`: the number of the order it belongs to; without one it is an order of
    its own. `own`: its own number, where it has one beside the requisition's."""

    placer: PlacerNumber
    own: PlacerNumber
    codings: tuple[Coding, ...]
    subject: Reference | None
    specimens: tuple[Reference, ...]
    requester: Reference | None
    priority: Priority
    history: str
    ordered_at: datetime | None
    contained: tuple[Element, ...]
    path: str


def identifiers(element: Element) -> tuple[IdentifierView, ...]:
    """Those in use. R4 datatypes.html#Identifier: `use` is a modifier element, for a number that is old may be somebody
    else's by now."""
    return tuple(identifier(one) for one in element.many("identifier") if _in_use(one))


def _in_use(identifier: Element) -> bool:
    if identifier.text("use") == "old":
        return False
    time = identifier.one("period")
    if time is not None and (end := time.text("end")):
        try:
            return period(end, "")[1] > datetime.now(UTC)
        except ApiError:
            time.fault("is not a date", "end")
    return True


def the_identifier(element: Element) -> IdentifierView:
    """One that is the only one of its kind."""
    if not _in_use(element):
        element.fault("is no longer in use", code="business-rule")
    return identifier(element)


def identifier(element: Element) -> IdentifierView:
    kind = element.one("type")
    codes = [coding.code for coding in kind.codings()] if kind else []
    value = element.text("value", required=True)
    return IdentifierView(authority_of(element.text("system")), value, next(iter(codes), ""))


def reference(element: Element, name: str) -> Reference | None:
    found = element.one(name)
    return None if found is None else _reference(found)


def _reference(element: Element) -> Reference:
    logical = element.one("identifier")
    url = element.text("reference")
    known = the_identifier(logical) if logical is not None and not url else None
    return Reference(url, known, element.text("display"), element.path)


def patient(element: Element) -> NewPatient:
    if element.flag("active") is False:
        element.fault("says that nothing may be ordered for this patient", "active", "business-rule")
    family, given = _name(element)
    birth = element.one("_birthDate")
    timed = birth.extension(BIRTH_TIME) if birth is not None else None
    gender = element.text("gender")
    if gender and gender not in frozenset(Sex):
        element.fault(f"is none of {', '.join(Sex)}", "gender", "code-invalid")
        gender = ""
    return NewPatient(
        identifiers=identifiers(element),
        family=family,
        given=given,
        birth_date=element.day("birthDate"),
        sex=Sex(gender) if gender else Sex.UNKNOWN,
        birth_at=timed.instant("valueDateTime") if timed is not None else None,
    )


def _name(element: Element) -> tuple[str, str]:
    """The official name, else the first that is no former one."""
    names = [name for name in element.many("name") if name.text("use") not in ("old", "maiden")]
    names.sort(key=lambda name: name.text("use") != "official")
    if not names:
        return "", ""
    family = names[0].text("family")
    if not family and names[0].has("text"):
        names[0].fault("is missing; the name as one text is not taken apart", "family", "required")
    return family, " ".join(names[0].texts("given"))


def specimen(element: Element) -> SpecimenSaid:
    if (status := element.text("status")) not in ("", "available"):
        element.fault(f"is {status!r}; only an available specimen is ordered on", "status", "business-rule")
    if element.has("parent"):
        element.fault("is not taken: aliquots are made in the laboratory", "parent", "not-supported")
    accession = element.one("accessionIdentifier")
    known = (the_identifier(accession),) if accession is not None else identifiers(element)
    barcodes = {one.value for one in known}
    if len(barcodes) > 1:
        element.fault("has several values; say with accessionIdentifier which is the barcode", "identifier")
    collection, container = element.one("collection"), next(element.many("container"), None)
    if collection is not None and collection.has("collectedPeriod"):
        collection.fault("is no point in time; say collectedDateTime", "collectedPeriod", "not-supported")
    return SpecimenSaid(
        barcode=next(iter(barcodes), ""),
        type=_specimen_type(element),
        container=_words(container.one("type")) if container is not None else "",
        collected_at=collection.instant("collectedDateTime") if collection is not None else None,
        received_at=element.instant("receivedTime"),
        subject=reference(element, "subject"),
        path=element.path,
    )


def _specimen_type(element: Element) -> str:
    kind = element.one("type")
    if kind is None:
        return ""
    codes = {coding.code for coding in kind.codings() if coding.system in _SPECIMEN_TYPES}
    if len(codes) != 1:
        kind.fault("needs one code of HL7 table 0487 (v2-0487)", code="code-invalid")
    return next(iter(codes), "")


def _words(concept: Element | None) -> str:
    if concept is None:
        return ""
    return next((coding.code for coding in concept.codings()), "") or concept.text("text")


def practitioner(element: Element) -> NewPractitioner:
    family, given = _name(element)
    known = identifiers(element)
    first = known[0] if known else IdentifierView("", "")
    return NewPractitioner(first.value, family, given, first.authority)


def request(element: Element) -> RequestSaid:
    if (status := element.text("status", required=True)) not in ("", "active"):
        element.fault(f"is {status!r}; what is ordered is active", "status", "business-rule")
    if (intent := element.text("intent", required=True)) and intent not in _ORDERS:
        element.fault(f"is {intent!r}; only an order is measured", "intent", "business-rule")
    for name in _NOT_DONE:
        if element.has(name):
            element.fault("is not understood here", name, "not-supported")
    code = element.one("code")
    if code is None:
        element.fault("is missing", "code", "required")
    if (priority := element.text("priority")) not in _PRIORITIES:
        element.fault(f"is none of {', '.join(filter(None, _PRIORITIES))}", "priority", "code-invalid")
    placer, own = _placer(element)
    subject = element.one("subject")
    if subject is not None and subject.text("type") not in ("", "Patient"):  # R4 references.html#Reference
        subject.fault("is no Patient", "type", "not-supported")
    return RequestSaid(
        placer=placer,
        own=own,
        codings=code.codings() if code is not None else (),
        subject=_reference(subject) if subject is not None else None,
        specimens=tuple(_reference(one) for one in element.many("specimen")),
        requester=reference(element, "requester"),
        priority=_PRIORITIES.get(priority, Priority.ROUTINE),
        history=_history(element),
        ordered_at=element.instant("authoredOn"),
        contained=tuple(element.many("contained")),
        path=element.path,
    )


def _placer(element: Element) -> tuple[PlacerNumber, PlacerNumber]:
    """The number of the order, the requisition's, else the placer's own (v2-to-FHIR: of type PLAC), else the first; and
    the request's own beside a requisition. Whose a number is, its system says; ours is nobody's in particular."""
    requisition = element.one("requisition")
    own = [(one, one.text("system")) for one in element.many("identifier") if _in_use(one)]
    known = [(identifier(one), system) for one, system in own]
    placers = [each for each, system in known if each.type == "PLAC" or system == PLACER_SYSTEM]
    mine = next(iter(placers or ([each for each, _ in known] if requisition is None else [])), IdentifierView("", ""))
    number = _number(mine)
    return (number, _NO_NUMBER) if requisition is None else (_number(the_identifier(requisition)), number)


def _number(of: IdentifierView) -> PlacerNumber:
    return PlacerNumber(of.value, "" if of.authority == PLACER_SYSTEM else of.authority)


def _history(element: Element) -> str:
    reasons: Iterable[str] = (reason.text("text") or _words(reason) for reason in element.many("reasonCode"))
    notes = (note.text("text") for note in element.many("note"))
    return "\n".join(filter(None, (*reasons, *notes)))


def test_codes(codings: Iterable[Coding]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The laboratory's own codes, and those of LOINC."""
    own = tuple(coding.code for coding in codings if coding.system == TEST_SYSTEM)
    return own, tuple(coding.code for coding in codings if coding.system == LOINC)

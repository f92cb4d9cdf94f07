"""The laboratory's records as FHIR R4 (4.0.1) resources: pure functions from `domain.views` to dicts of JSON values.

Mapping after HL7 v2-to-FHIR and US Core. Nothing empty is ever put in (R4 json.html: no nulls, no empty arrays, objects
or strings); quantities stay Decimal, see `render.json`. What an audience may not see is not in the view: nothing here
decides it. Ids: Patient, Specimen and Observation are our rows, a DiagnosticReport is an order, a
ServiceRequest is an order item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from interface.domain.model import RELEASED, ItemStatus, Priority, ResultStatus, ValueKind
from interface.domain.views import (
    IdentifierView,
    OrderItemView,
    OrderView,
    PatientView,
    ReportView,
    ResultView,
    SpecimenView,
)
from interface.errors import Issue

Json = dict[str, Any]

BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
LOINC, UCUM, SNOMED = "http://loinc.org", "http://unitsofmeasure.org", "http://snomed.info/sct"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
INTERPRETATION = TERMINOLOGY + "v3-ObservationInterpretation"
# What the laboratory names itself. A site's own authority may be a URI, which is then used as it is.
LOCAL = "urn:labora:"
TEST_SYSTEM, SPECIMEN_TYPE_SYSTEM = LOCAL + "test", LOCAL + "specimen-type"
ORDER_SYSTEM, PLACER_SYSTEM, BARCODE_SYSTEM = LOCAL + "order", LOCAL + "placer-order", LOCAL + "specimen"

# v3-ObservationInterpretation: what the table 0078 map of v2-to-FHIR names as targets
_INTERPRETATIONS = frozenset(
    (
        "< > A AA B CAR D DET E EX EXP H HH HU I IE IND L LL LU N NCL ND NEG NR NS POS"
        " R RR S SDD SYN-R SYN-S U UNE W WR"
    ).split()
)
_PRIORITY = {  # request-priority has four codes; the two of HL7 table 0485 without one of their own are urgent
    Priority.STAT: "stat",
    Priority.ASAP: "asap",
    Priority.ROUTINE: "routine",
    Priority.CALLBACK: "urgent",
    Priority.PREOP: "urgent",
}
_REQUEST_STATUS = {
    ItemStatus.REQUESTED: "active",
    ItemStatus.COLLECTED: "active",
    ItemStatus.RECEIVED: "active",
    ItemStatus.IN_PROGRESS: "active",
    ItemStatus.COMPLETED: "completed",
    ItemStatus.VERIFIED: "completed",
    ItemStatus.CANCELLED: "revoked",
    ItemStatus.REJECTED: "revoked",
}
_SPECIMEN_STATUS = {
    "available": "available",
    "unavailable": "unavailable",
    "unsatisfactory": "unsatisfactory",
    "entered-in-error": "entered-in-error",
}
_ABSENT = {  # data-absent-reason, by kind of value
    ValueKind.FAILED: "error",
    ValueKind.IMAGE: "unsupported",
    ValueKind.EMPTY: "unknown",
}
_ABSENT_BY_STATUS = {ResultStatus.CANCELLED: "not-performed", ResultStatus.ENTERED_IN_ERROR: "error"}
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s*[:/]\s*(\d+(?:\.\d+)?)", re.ASCII)
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


# ---- parts ----------------------------------------------------------------------------------------------------------


def instant(at: datetime) -> str:
    """FHIR instant and dateTime: seconds and zone always, fractions when there are any."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def reference(kind: str, id: UUID | None) -> Json | None:
    """A relative reference, None for none."""
    return None if id is None else {"reference": f"{kind}/{id}"}


def _text(text: str) -> str:
    """Text without what a FHIR string may not hold: control characters, blanks around it."""
    return _CONTROL.sub(" ", text).strip()


def _without_empty(resource: Mapping[str, Any]) -> Json:
    """The resource without elements that say nothing."""
    return {name: value for name, value in resource.items() if value or value is False or isinstance(value, Decimal)}


def _meta(version: int | str, updated_at: datetime) -> Json:
    return {"versionId": str(version), "lastUpdated": instant(updated_at)}


def version_of(version: int, updated_at: datetime) -> str:
    """A versionId for what is put together from several rows: it changes when any of them does."""
    return f"{version}-{int(updated_at.timestamp() * 1_000_000)}"


def _concept(code: str, name: str, loinc: str) -> Json:
    """A test: its LOINC code where there is one, and the laboratory's own."""
    display = _text(name)
    codings = [_without_empty({"system": LOINC, "code": loinc})] if loinc else []
    if code:
        codings.append(_without_empty({"system": TEST_SYSTEM, "code": code, "display": display}))
    return _without_empty({"coding": codings, "text": display or code or loinc})


def _quantity(number: Decimal | None, unit: str) -> Json | None:
    if number is None:
        return None
    return _without_empty({"value": number, "unit": unit, "system": UCUM if unit else "", "code": unit})


def system_of(authority: str) -> str:
    """The identifier system of an assigning authority: itself when it is a URI, else one made of its name."""
    if not authority:
        return LOCAL + "patient"
    return authority if _URI.fullmatch(authority) else LOCAL + "authority:" + quote(authority, safe="")


def authority_of(system: str) -> str:
    """The assigning authority that `system_of` made the system of."""
    if system == LOCAL + "patient":
        return ""
    prefix = LOCAL + "authority:"
    return unquote(system.removeprefix(prefix)) if system.startswith(prefix) else system


def _identifier(identifier: IdentifierView) -> Json:
    kind = {"coding": [{"system": TERMINOLOGY + "v2-0203", "code": identifier.type}]} if identifier.type else None
    return _without_empty({"type": kind, "system": system_of(identifier.authority), "value": _text(identifier.value)})


def _order_identifier(kind: str, system: str, value: str) -> Json | None:
    """v2-to-FHIR: ORC-2 is of type PLAC, ORC-3 of type FILL."""
    if not value:
        return None
    return {
        "type": {"coding": [{"system": TERMINOLOGY + "v2-0203", "code": kind}]},
        "system": system,
        "value": _text(value),
    }


def _order_identifiers(order: OrderView) -> list[Json]:
    both = (
        _order_identifier("FILL", ORDER_SYSTEM, order.number),
        _order_identifier("PLAC", PLACER_SYSTEM, order.placer_number),
    )
    return [identifier for identifier in both if identifier is not None]


# ---- resources ------------------------------------------------------------------------------------------------------


def patient(view: PatientView) -> Json:
    family, given = _text(view.family), _text(view.given)
    name = _without_empty({"family": family, "given": given.split() if given else []})
    return _without_empty(
        {
            "resourceType": "Patient",
            "id": str(view.id),
            "meta": _meta(view.version, view.updated_at),
            "identifier": [_identifier(identifier) for identifier in view.identifiers],
            "active": view.active and view.merged_into is None,
            "name": [name] if name else [],
            "gender": view.sex.value,
            "birthDate": view.birth_date.isoformat() if view.birth_date else "",
            "_birthDate": {"extension": [{"url": BIRTH_TIME, "valueDateTime": instant(view.birth_at)}]}
            if view.birth_at
            else None,
            "link": _links(view),
        }
    )


def _links(view: PatientView) -> list[Json]:
    """R4 patient.html#merging: the one that is not to be used any more points to the one that is, and back."""
    links = [("replaced-by", view.merged_into)] if view.merged_into else []
    links += [("replaces", prior) for prior in view.replaces]
    return [{"other": reference("Patient", other), "type": kind} for kind, other in links]


def specimen(view: SpecimenView) -> Json:
    kind = _text(view.type)
    identifier = {"system": BARCODE_SYSTEM, "value": _text(view.barcode)} if _text(view.barcode) else None
    return _without_empty(
        {
            "resourceType": "Specimen",
            "id": str(view.id),
            "meta": _meta(view.version, view.updated_at),
            "identifier": [identifier] if identifier else [],
            "accessionIdentifier": identifier,
            "status": _SPECIMEN_STATUS.get(view.status, "unavailable"),
            "type": {"coding": [{"system": SPECIMEN_TYPE_SYSTEM, "code": kind}], "text": kind} if kind else None,
            "subject": reference("Patient", view.patient_id),
            "receivedTime": instant(view.received_at) if view.received_at else "",
            "collection": {"collectedDateTime": instant(view.collected_at)} if view.collected_at else None,
            "note": [{"text": _text(view.reject_reason)}] if _text(view.reject_reason) else [],
        }
    )


def service_request(order: OrderView, item: OrderItemView) -> Json:
    """One ordered test. An order of several is told by its `requisition`."""
    revoked = order.cancelled or item.status in (ItemStatus.CANCELLED, ItemStatus.REJECTED)
    return _without_empty(
        {
            "resourceType": "ServiceRequest",
            "id": str(item.id),
            "meta": _meta(version_of(order.version, order.updated_at), order.updated_at),
            "identifier": _order_identifiers(order),
            "requisition": _order_identifier("FILL", ORDER_SYSTEM, order.number),
            "status": "revoked" if revoked else _REQUEST_STATUS[item.status],
            "intent": "order",
            "category": [{"coding": [{"system": SNOMED, "code": "108252007"}]}],  # US Core: laboratory procedure
            "priority": _PRIORITY[order.priority],
            "code": _concept(item.test_code, item.test_name, item.loinc),
            "subject": reference("Patient", order.patient_id) or {"display": "not known to the laboratory"},
            "authoredOn": instant(order.ordered_at),
            "reasonCode": [{"text": _text(order.clinical_history)}] if _text(order.clinical_history) else [],
            "specimen": [{"reference": f"Specimen/{item.specimen_id}"}] if item.specimen_id else [],
        }
    )


def observation(view: ResultView, laboratory: str = "") -> Json:
    """One result. `laboratory`: the performing organization's title."""
    effective = view.collected_at or view.instrument_at
    value = _value(view)
    notes = [text for text in (_text(note) for note in (*view.comments, view.note)) if text]
    return _without_empty(
        {
            "resourceType": "Observation",
            "id": str(view.id),
            "meta": _meta(view.version, view.updated_at),
            "basedOn": [{"reference": f"ServiceRequest/{view.order_item_id}"}] if view.order_item_id else [],
            "status": view.status.value,
            "category": [{"coding": [{"system": TERMINOLOGY + "observation-category", "code": "laboratory"}]}],
            "code": _concept(view.test_code, view.test_name, view.loinc) or {"text": "not known to the laboratory"},
            "subject": reference("Patient", view.patient_id),
            "effectiveDateTime": instant(effective) if effective else "",
            "issued": instant(view.updated_at),  # R4: when this version was made available
            "performer": [{"display": laboratory}] if laboratory else [],
            **value,
            # R4 obs-6: dataAbsentReason only where there is no value
            "dataAbsentReason": None if value else _absent(view),
            "interpretation": [_interpretation(flag) for flag in view.flags if _text(flag)],
            "note": [{"text": text} for text in notes],
            "specimen": reference("Specimen", view.specimen_id),
            "device": {"display": _text(view.analyzer)} if _text(view.analyzer) else None,
            "referenceRange": _reference_range(view),
        }
    )


def _value(view: ResultView) -> Json:
    """value[x] by the kind of value; nothing when there is none."""
    text = _text(view.value)
    if view.kind is ValueKind.NUMERIC and view.number is not None:
        quantity = _quantity(view.number, view.unit) or {}
        if view.comparator is not None:
            quantity = {"value": view.number, "comparator": view.comparator.value, **quantity}
        return {"valueQuantity": quantity}
    if not text or view.kind in _ABSENT:
        return {}
    if view.kind is ValueKind.RATIO and (match := _RATIO.fullmatch(text)):
        return {"valueRatio": {"numerator": {"value": Decimal(match[1])}, "denominator": {"value": Decimal(match[2])}}}
    if view.kind is ValueKind.RANGE and (match := _RANGE.fullmatch(text)) and Decimal(match[1]) <= Decimal(match[2]):
        low, high = _quantity(Decimal(match[1]), view.unit), _quantity(Decimal(match[2]), view.unit)
        return {"valueRange": {"low": low, "high": high}}
    if view.kind is ValueKind.CODED:
        return {"valueCodeableConcept": {"text": text}}
    return {"valueString": text}


def _absent(view: ResultView) -> Json:
    reason = _ABSENT_BY_STATUS.get(view.status) or _ABSENT.get(view.kind, "unknown")
    return {"coding": [{"system": TERMINOLOGY + "data-absent-reason", "code": reason}]}


def _interpretation(flag: str) -> Json:
    return {"coding": [{"system": INTERPRETATION, "code": flag}]} if flag in _INTERPRETATIONS else {"text": _text(flag)}


def _reference_range(view: ResultView) -> list[Json]:
    # R4 obs-3: low, high or text must be there
    interval = _without_empty(
        {
            "low": _quantity(view.low, view.unit),
            "high": _quantity(view.high, view.unit),
            "text": _text(view.reference),
        }
    )
    return [interval] if interval else []


def report_status(view: ReportView) -> str:
    """diagnostic-report-status, from what the audience sees of the order and its results."""
    statuses = [one.status for one in view.results if one.status is not ResultStatus.ENTERED_IN_ERROR]
    retracted = len(statuses) < len(view.results)
    released = [status for status in statuses if status in RELEASED]
    if view.order.cancelled and not released:
        return "cancelled"
    if not statuses:
        return "entered-in-error" if retracted else "registered"
    if not released:
        return "preliminary" if ResultStatus.PRELIMINARY in statuses else "registered"
    answered = {result.order_item_id for result in view.results if result.status in RELEASED}
    closed = (ItemStatus.CANCELLED, ItemStatus.REJECTED)
    if len(released) < len(statuses) or any(i.id not in answered and i.status not in closed for i in view.order.items):
        return "partial"
    if retracted or ResultStatus.CORRECTED in released:
        return "corrected"
    return "amended" if ResultStatus.AMENDED in released else "final"


def report_time(view: ReportView) -> datetime | None:
    """When the first of its specimens was taken (else measured), as far as the audience sees results of it."""
    return min((at for one in view.results if (at := one.collected_at or one.instrument_at) is not None), default=None)


def diagnostic_report(view: ReportView, laboratory: str = "") -> Json:
    """One order with its results."""
    order = view.order
    taken = report_time(view)
    specimens = dict.fromkeys(item.specimen_id for item in order.items if item.specimen_id is not None)
    return _without_empty(
        {
            "resourceType": "DiagnosticReport",
            "id": str(order.id),
            "meta": _meta(version_of(order.version, view.updated_at), view.updated_at),
            "identifier": _order_identifiers(order),
            "basedOn": [{"reference": f"ServiceRequest/{item.id}"} for item in order.items],
            "status": report_status(view),
            "category": [{"coding": [{"system": TERMINOLOGY + "v2-0074", "code": "LAB"}]}],
            "code": {"coding": [{"system": LOINC, "code": "11502-2"}], "text": "Laboratory report"},
            "subject": reference("Patient", order.patient_id),
            "effectiveDateTime": instant(taken) if taken else "",
            "issued": instant(view.updated_at) if view.results else "",
            "performer": [{"display": laboratory}] if laboratory else [],
            "specimen": [{"reference": f"Specimen/{id}"} for id in specimens],
            "result": [{"reference": f"Observation/{result.id}"} for result in view.results],
        }
    )


# ---- containers -----------------------------------------------------------------------------------------------------


def searchset(
    base_url: str, resources: Iterable[Json], self_url: str, next_url: str = "", total: int | None = None
) -> Json:
    """A Bundle of matches. `base_url` is that of the FHIR service, without a slash at its end."""
    links = [{"relation": "self", "url": self_url}]
    if next_url:
        links.append({"relation": "next", "url": next_url})
    entries = [
        {
            "fullUrl": f"{base_url}/{resource['resourceType']}/{resource['id']}",
            "resource": resource,
            "search": {"mode": "match"},
        }
        for resource in resources
    ]
    bundle: Json = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        bundle["total"] = total
    bundle["link"] = links
    if entries:
        bundle["entry"] = entries
    return bundle


def operation_outcome(code: str, text: str, severity: str = "error", issues: Sequence[Issue] = ()) -> Json:
    """`code` is an issue type (issue-type value set). `issues`: each fault with its place, instead of the text."""
    each = [
        {"severity": severity, "code": one.code, "diagnostics": one.text, "expression": [one.expression]}
        for one in issues
    ]
    return {
        "resourceType": "OperationOutcome",
        "issue": each or [{"severity": severity, "code": code, "diagnostics": text}],
    }

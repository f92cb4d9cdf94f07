"""Observations: results."""

from __future__ import annotations

import re
from decimal import Decimal

from interface.domain.evidence import OrganizationView
from interface.domain.model import Origin, ResultStatus, ValueKind
from interface.domain.views import ResultView
from interface.render.fhir.parts import (
    INTERPRETATION,
    TERMINOLOGY,
    Json,
    clean,
    concept,
    instant,
    meta,
    performed_by,
    quantity,
    reference,
    without_empty,
)

_INTERPRETATIONS = frozenset(
    (
        "< > A AA B CAR D DET E EX EXP H HH HU I IE IND L LL LU N NCL ND NEG NR NS POS"
        " R RR S SDD SYN-R SYN-S U UNE W WR"
    ).split()
)
_ABSENT = {  # data-absent-reason, by kind of value
    ValueKind.FAILED: "error",
    ValueKind.IMAGE: "unsupported",
    ValueKind.EMPTY: "unknown",
}
_ABSENT_BY_STATUS = {ResultStatus.CANCELLED: "not-performed", ResultStatus.ENTERED_IN_ERROR: "error"}
_METHODS = {Origin.MANUAL: "entered by hand", Origin.CALCULATION: "calculated"}  # an analyzer does not say its own
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s*[:/]\s*(\d+(?:\.\d+)?)", re.ASCII)
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)", re.ASCII)


def observation(view: ResultView, laboratory: OrganizationView | None = None) -> Json:
    """One result. `laboratory`: who performs.

    versionId is the id of the version, not its number: what is missing in a row of numbers would tell that something
    was held between two that were released.
    """
    effective = view.collected_at or view.instrument_at
    value = _value(view)
    notes = [text for text in (clean(note) for note in (*view.comments, view.note)) if text]
    return without_empty(
        {
            "resourceType": "Observation",
            "id": str(view.id),
            "meta": meta(view.version_id, view.updated_at),
            "basedOn": [{"reference": f"ServiceRequest/{view.order_item_id}"}] if view.order_item_id else [],
            "status": view.status.value,
            "category": [{"coding": [{"system": TERMINOLOGY + "observation-category", "code": "laboratory"}]}],
            "code": concept(view.test_code, view.test_name, view.loinc) or {"text": "not known to the laboratory"},
            "subject": reference("Patient", view.patient_id),
            "effectiveDateTime": instant(effective) if effective else "",
            "issued": instant(view.updated_at),  # R4: when this version was made available
            "performer": [performed_by(laboratory)] if laboratory else [],
            **value,
            # R4 obs-6: dataAbsentReason only where there is no value
            "dataAbsentReason": None if value else _absent(view),
            "interpretation": [_interpretation(flag) for flag in view.flags if clean(flag)],
            "note": [{"text": text} for text in notes],
            "method": {"text": _METHODS[view.origin]} if view.origin in _METHODS else None,
            "specimen": reference("Specimen", view.specimen_id),
            "device": _device(view),
            "referenceRange": _reference_range(view),
        }
    )


def _value(view: ResultView) -> Json:
    """value[x] by the kind of value; nothing when there is none."""
    text = clean(view.value)
    if view.kind is ValueKind.NUMERIC and view.number is not None:
        number = quantity(view.number, view.unit) or {}
        if view.comparator is not None:
            number = {"value": view.number, "comparator": view.comparator.value, **number}
        return {"valueQuantity": number}
    if not text or view.kind in _ABSENT:
        return {}
    if view.kind is ValueKind.RATIO and (match := _RATIO.fullmatch(text)):
        return {"valueRatio": {"numerator": {"value": Decimal(match[1])}, "denominator": {"value": Decimal(match[2])}}}
    if view.kind is ValueKind.RANGE and (match := _RANGE.fullmatch(text)) and Decimal(match[1]) <= Decimal(match[2]):
        low, high = quantity(Decimal(match[1]), view.unit), quantity(Decimal(match[2]), view.unit)
        return {"valueRange": {"low": low, "high": high}}
    if view.kind is ValueKind.CODED:
        return {"valueCodeableConcept": {"text": text}}
    return {"valueString": text}


def _device(view: ResultView) -> Json | None:
    device = {"reference": f"Device/{view.analyzer_id}" if view.analyzer_id else "", "display": clean(view.analyzer)}
    return without_empty(device) or None


def _absent(view: ResultView) -> Json:
    reason = _ABSENT_BY_STATUS.get(view.status) or _ABSENT.get(view.kind, "unknown")
    return {"coding": [{"system": TERMINOLOGY + "data-absent-reason", "code": reason}]}


def _interpretation(flag: str) -> Json:
    return {"coding": [{"system": INTERPRETATION, "code": flag}]} if flag in _INTERPRETATIONS else {"text": clean(flag)}


def _reference_range(view: ResultView) -> list[Json]:
    # R4 obs-3: low, high or text must be there
    interval = without_empty(
        {
            "low": quantity(view.low, view.unit),
            "high": quantity(view.high, view.unit),
            "text": clean(view.reference),
        }
    )
    return [interval] if interval else []

"""Observations: results."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from interface.domain.evidence import LaboratoryView
from interface.domain.model import Origin, ResultStatus, ValueKind
from interface.domain.views import ObservationRow, ResultView
from interface.render.fhir.parts import (
    INTERPRETATION,
    TERMINOLOGY,
    Json,
    clean,
    concept,
    instant,
    performed_by,
    quantity,
    reference,
    without_empty,
)
from interface.render.json import dumps

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
_ABSENT_BY_STATUS = {
    ResultStatus.REGISTERED: "temp-unknown",  # it may come yet: a person looks at it
    ResultStatus.CANCELLED: "not-performed",
    ResultStatus.ENTERED_IN_ERROR: "error",
}
_METHODS = {Origin.MANUAL: "entered by hand", Origin.CALCULATION: "calculated"}  # where no other is known
_MOST_KEPT, _LARGEST_KEPT = 20_000, 2_000  # parts of each sort, characters
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s*[:/]\s*(\d+(?:\.\d+)?)", re.ASCII)
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)", re.ASCII)


def observation(view: ResultView, laboratory: LaboratoryView | None = None) -> Json:
    """One result. `laboratory`: who performs."""
    return observation_of(observation_row(view, laboratory))


def observation_row(view: ResultView, laboratory: LaboratoryView | None = None) -> ObservationRow:
    effective = view.effective_at
    return ObservationRow(
        id=view.id,
        version_id=view.version_id,
        order_item_id=view.order_item_id,
        updated=instant(view.updated_at),
        effective=instant(effective) if effective else "",
        patient_id=view.patient_id,
        laboratory_id=laboratory.id if laboratory else None,
        laboratory_title=laboratory.title if laboratory else None,
        laboratory_name=laboratory.name if laboratory else None,
        test_code=view.test_code,
        test_name=view.test_name,
        loinc=view.loinc,
        status=view.status.value,
        kind=view.kind.value,
        comparator=view.comparator.value if view.comparator else "",
        number=_digits(view.number),
        value=view.value,
        unit=view.unit,
        low=_digits(view.low),
        high=_digits(view.high),
        reference=view.reference,
        flags=view.flags,
        comments=view.comments,
        note=view.note,
        origin=view.origin.value,
        method=view.method,
        specimen_id=view.specimen_id,
        analyzer_id=view.analyzer_id,
        analyzer=view.analyzer,
    )


def observation_of(row: ObservationRow) -> Json:
    """The resource: its head, and the parts of _PARTS one after the other."""
    return _head(*row[:4]) | {name: value for part, of in _PARTS for name, value in part.make(*of(row)).items()}


def observation_json(row: ObservationRow) -> bytes:
    """The same as JSON, of parts that are remembered: most of a result is what others of its test, visit and specimen
    are too."""
    what, visit, said, rest = (part[of(row)] for part, of in _PARTS)
    ids = f"{row.id}{row.version_id}{row.order_item_id or ''}"
    return observation_together(ids, row.updated, what, visit, said, rest)


def observation_together(ids: str, updated: str, what: str, visit: str, said: str, rest: str) -> bytes:
    """The resource as JSON. `ids`: the ids of the result, of its version and, where there is one, of its order item, 36
    characters each; then the parts, as `observation_what` and the like give them."""
    id, version, item = ids[:36], ids[36:72], ids[72:]
    based_on = f',"basedOn":[{{"reference":"ServiceRequest/{item}"}}]' if item else ""
    return (  # JSON escapes nothing of ids and instants
        f'{{"resourceType":"Observation","id":"{id}","meta":{{"versionId":"{version}","lastUpdated":"{updated}"}}'
        f"{based_on}{what}{visit}{said}{rest}}}"
    ).encode()


class _Part(dict[tuple[Any, ...], str]):
    """Elements that stand together and are made of the same fields of a row: as JSON by these fields, with a comma
    before it. Bounded in number and size."""

    def __init__(self, make: Callable[..., Json]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, fields: tuple[Any, ...]) -> str:
        part = self.json(*fields)
        if len(part) <= _LARGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[fields] = part
        return part

    def json(self, *fields: Any) -> str:
        """The elements, which are not remembered."""
        found = self.make(*fields)
        return "," + dumps(found)[1:-1].decode() if found else ""


def _head(id: UUID, version_id: UUID, order_item_id: UUID | None, updated: str) -> Json:
    """versionId is the id of the version, not its number: what is missing in a row of numbers would tell that something
    was held between two that were released."""
    head: Json = {
        "resourceType": "Observation",
        "id": str(id),
        "meta": {"versionId": str(version_id), "lastUpdated": updated},
    }
    if order_item_id:
        head["basedOn"] = [{"reference": f"ServiceRequest/{order_item_id}"}]
    return head


def _what(test_code: str, test_name: str, loinc: str, status: str) -> Json:
    return {
        "status": status,
        "category": [{"coding": [{"system": TERMINOLOGY + "observation-category", "code": "laboratory"}]}],
        "code": concept(test_code, test_name, loinc) or {"text": "not known to the laboratory"},
    }


def _visit(
    updated: str,
    effective: str,
    patient_id: UUID | None,
    laboratory_id: UUID | None,
    title: str | None,
    name: str | None,
    specimen_id: UUID | None,
    analyzer_id: UUID | None,
    analyzer: str | None,
) -> Json:
    device = {"reference": f"Device/{analyzer_id}" if analyzer_id else "", "display": clean(analyzer or "")}
    performer = [performed_by(laboratory_id, title or "", name or "")] if laboratory_id else []
    return without_empty(
        {
            "subject": reference("Patient", patient_id),
            "effectiveDateTime": effective,
            "issued": updated,  # R4: when this version was made available
            "performer": performer,
            "specimen": reference("Specimen", specimen_id),
            "device": without_empty(device),
        }
    )


def _said(status: str, kind: str, comparator: str, number: str | None, value: str, unit: str) -> Json:
    # R4 obs-6: dataAbsentReason only where there is no value
    return _value(ValueKind(kind), comparator, _decimal(number), clean(value), unit) or {
        "dataAbsentReason": _absent(ResultStatus(status), ValueKind(kind))
    }


def _value(kind: ValueKind, comparator: str, number: Decimal | None, text: str, unit: str) -> Json:
    """value[x] by the kind of value; nothing when there is none."""
    if kind is ValueKind.NUMERIC and number is not None:
        quantified = quantity(number, unit) or {}
        return {
            "valueQuantity": {"value": number, "comparator": comparator, **quantified} if comparator else quantified
        }
    if not text or kind in _ABSENT:
        return {}
    if kind is ValueKind.RATIO and (match := _RATIO.fullmatch(text)):
        return {"valueRatio": {"numerator": {"value": Decimal(match[1])}, "denominator": {"value": Decimal(match[2])}}}
    if kind is ValueKind.RANGE and (match := _RANGE.fullmatch(text)) and Decimal(match[1]) <= Decimal(match[2]):
        return {"valueRange": {"low": quantity(Decimal(match[1]), unit), "high": quantity(Decimal(match[2]), unit)}}
    if kind is ValueKind.CODED:
        return {"valueCodeableConcept": {"text": text}}
    return {"valueString": text}


def _absent(status: ResultStatus, kind: ValueKind) -> Json:
    reason = _ABSENT_BY_STATUS.get(status) or _ABSENT.get(kind, "unknown")
    return {"coding": [{"system": TERMINOLOGY + "data-absent-reason", "code": reason}]}


def _rest(
    unit: str,
    low: str | None,
    high: str | None,
    reference: str,
    flags: tuple[str, ...] | None,
    comments: tuple[str, ...] | None,
    note: str,
    origin: str,
    method: str,
) -> Json:
    notes = [text for text in (clean(note) for note in (*(comments or ()), note)) if text]
    # R4 obs-3: low, high or text must be there
    interval = {"low": quantity(_decimal(low), unit), "high": quantity(_decimal(high), unit), "text": clean(reference)}
    return without_empty(
        {
            "interpretation": [_interpretation(flag) for flag in flags or () if clean(flag)],
            "note": [{"text": text} for text in notes],
            "method": without_empty({"text": clean(method) or _METHODS.get(Origin(origin), "")}),
            "referenceRange": [without_empty(interval)] if any(interval.values()) else [],
        }
    )


def _interpretation(flag: str) -> Json:
    return {"coding": [{"system": INTERPRETATION, "code": flag}]} if flag in _INTERPRETATIONS else {"text": clean(flag)}


def _digits(number: Decimal | None) -> str | None:
    return str(number) if number is not None else None


def _decimal(digits: str | None) -> Decimal | None:
    return Decimal(digits) if digits is not None else None


_WHAT, _VISIT, _SAID, _REST = _Part(_what), _Part(_visit), _Part(_said), _Part(_rest)
observation_what, observation_visit, observation_said, observation_rest = (
    part.json for part in (_WHAT, _VISIT, _SAID, _REST)
)
_FIELDS = tuple[Any, ...]
_PARTS: Final[tuple[tuple[_Part, Callable[[_FIELDS], _FIELDS]], ...]] = (
    (_WHAT, lambda row: row[9:13]),  # test_code to status
    (_VISIT, lambda row: row[3:9] + row[26:]),  # updated to laboratory_name, specimen_id to analyzer
    (_SAID, lambda row: row[12:18]),  # status to unit
    (_REST, lambda row: row[17:26]),  # unit to method
)

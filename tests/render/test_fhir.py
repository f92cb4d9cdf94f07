"""What leaves as FHIR: every element after its rule, structurally R4B, required bindings by our own lists."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.patient import Patient
from fhir.resources.R4B.servicerequest import ServiceRequest
from fhir.resources.R4B.specimen import Specimen
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain.evidence import LaboratoryView
from interface.domain.model import Comparator, ItemStatus, Origin, Priority, ResultStatus, Sex, ValueKind
from interface.domain.views import (
    IdentifierView,
    OrderItemView,
    OrderView,
    PatientView,
    ReportView,
    ResultView,
    SpecimenView,
)
from interface.render import fhir
from interface.render.json import dumps

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LABORATORY = LaboratoryView(UUID(int=9), "lab", "Test Laboratory", 1, AT)
RESULT = ResultView(
    id=UUID(int=1), version=2, version_id=UUID(int=2), status=ResultStatus.FINAL, held=(), updated_at=AT, created_at=AT,
    released_at=AT, test_code="HGB", test_name="Haemoglobin", loinc="718-7", kind=ValueKind.NUMERIC, value="5.10",
    number=Decimal("5.10"), comparator=None, unit="g/dL", low=Decimal("11.90"), high=Decimal("15.0"),
    reference="11.90 - 15.0", flags=("L",), note="", specimen_id=UUID(int=3), barcode="B", patient_id=UUID(int=4),
    order_id=UUID(int=5), order_item_id=UUID(int=6), analyzer="xn-1", message_id=None, code="HGB", raw_value="5.10",
    raw_unit="g/dL", raw_flags="L", instrument_time="20260102100405",
    instrument_at=datetime(2026, 1, 2, 10, 4, 5, tzinfo=timezone(timedelta(hours=7))),
    analyzer_id=UUID(int=8),
)  # fmt: skip
ITEM = OrderItemView(UUID(int=6), "HGB", "Haemoglobin", "718-7", ItemStatus.VERIFIED, UUID(int=3), "B")
ORDER = OrderView(
    UUID(int=5), 1, AT, "2026-000001", "P-1", Priority.STAT, AT, UUID(int=4), "anaemia?", items=(ITEM,)
)  # fmt: skip

# Required bindings, written down once more from the specification
OBSERVATION_STATUS = set("registered preliminary final amended corrected cancelled entered-in-error unknown".split())
REPORT_STATUS = set(
    "registered partial preliminary final amended corrected appended cancelled entered-in-error unknown".split()
)
REQUEST_STATUS = set("draft active on-hold revoked completed entered-in-error unknown".split())
REQUEST_PRIORITY = {"routine", "urgent", "asap", "stat"}
SPECIMEN_STATUS = {"available", "unavailable", "unsatisfactory", "entered-in-error"}


def observation(**changed: Any) -> dict[str, Any]:
    """The resource as JSON says it, checked for structure and for what may never be."""
    view = replace(RESULT, **changed)
    body = dumps(fhir.observation(view, LABORATORY))
    assert fhir.observation_json(fhir.observation_row(view, LABORATORY)) == body
    Observation.model_validate_json(body)
    resource: dict[str, Any] = orjson.loads(body)
    check(resource)
    assert resource["status"] in OBSERVATION_STATUS
    values = [name for name in resource if name.startswith("value")]
    assert len(values) <= 1
    assert not (values and "dataAbsentReason" in resource), "obs-6"
    return resource


def check(value: Any) -> None:
    """No nulls, no empty strings, lists or objects anywhere."""
    assert value is not None
    assert value != ""
    if isinstance(value, (list, dict)):
        assert value
        for inner in value.values() if isinstance(value, dict) else value:
            check(inner)


def test_the_method_is_what_is_known_of_it() -> None:
    assert "method" not in observation()
    assert observation(method="ISE, indirect")["method"] == {"text": "ISE, indirect"}
    assert observation(origin=Origin.MANUAL)["method"] == {"text": "entered by hand"}
    assert observation(origin=Origin.MANUAL, method="strip test")["method"] == {"text": "strip test"}
    assert observation(origin=Origin.CALCULATION)["method"] == {"text": "calculated"}


def test_a_numeric_result_whole() -> None:
    category = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}
    assert observation(note="checked", comments=("diluted",), collected_at=AT) == {
        "resourceType": "Observation",
        "id": str(RESULT.id),
        "meta": {"versionId": str(RESULT.version_id), "lastUpdated": "2026-01-02T03:04:05Z"},
        "basedOn": [{"reference": f"ServiceRequest/{RESULT.order_item_id}"}],
        "status": "final",
        "category": [{"coding": [category]}],
        "code": {
            "coding": [
                {"system": "http://loinc.org", "code": "718-7"},
                {"system": "urn:labora:test", "code": "HGB", "display": "Haemoglobin"},
            ],
            "text": "Haemoglobin",
        },
        "subject": {"reference": f"Patient/{RESULT.patient_id}"},
        "effectiveDateTime": "2026-01-02T03:04:05Z",
        "issued": "2026-01-02T03:04:05Z",
        "performer": [{"reference": f"Organization/{LABORATORY.id}", "display": "Test Laboratory"}],
        "valueQuantity": {"value": 5.1, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
        "interpretation": [{"coding": [{"system": fhir.INTERPRETATION, "code": "L"}]}],
        "note": [{"text": "diluted"}, {"text": "checked"}],
        "specimen": {"reference": f"Specimen/{RESULT.specimen_id}"},
        "device": {"reference": f"Device/{UUID(int=8)}", "display": "xn-1"},
        "referenceRange": [
            {
                "low": {"value": 11.9, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
                "high": {"value": 15.0, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
                "text": "11.90 - 15.0",
            }
        ],
    }


_WORDS = st.sampled_from(["", " ", "HGB", "pos", "1:128", "5-10", "10-5", "<", 'a"b', "\x07", "é ß", "N", "odd\u2028"])
_NUMBERS = st.one_of(st.none(), st.sampled_from(["5.10", "5.1", "0", "-0.0", "1E-7", "0.0000001", "1E+3"]).map(Decimal))
_IDS = st.one_of(st.none(), st.integers(1, 3).map(lambda n: UUID(int=n)))
_TIMES = st.sampled_from([AT, AT + timedelta(microseconds=1), AT.astimezone(timezone(timedelta(hours=7)))])
_VIEWS = st.builds(
    partial(replace, RESULT),
    version_id=_IDS.filter(bool), order_item_id=_IDS, patient_id=_IDS, specimen_id=_IDS, analyzer_id=_IDS,
    updated_at=_TIMES, collected_at=st.none() | _TIMES, instrument_at=st.none() | _TIMES,
    status=st.sampled_from(ResultStatus), kind=st.sampled_from(ValueKind), origin=st.sampled_from(Origin),
    comparator=st.none() | st.sampled_from(Comparator), number=_NUMBERS, low=_NUMBERS, high=_NUMBERS,
    value=_WORDS, unit=_WORDS, reference=_WORDS, note=_WORDS, test_code=_WORDS, test_name=_WORDS, loinc=_WORDS,
    analyzer=_WORDS, flags=st.lists(_WORDS, max_size=2).map(tuple), comments=st.lists(_WORDS, max_size=2).map(tuple),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_VIEWS, st.sampled_from([None, LABORATORY, replace(LABORATORY, title="")]))
def test_an_observation_put_together_of_remembered_parts_is_the_same_letter_for_letter(
    view: ResultView, laboratory: LaboratoryView | None
) -> None:
    """Of values that are nearly the same too: 5.1 is not 5.10, and nobody's subject is somebody's."""
    row = fhir.observation_row(view, laboratory)
    whole = dumps(fhir.observation(view, laboratory))
    assert fhir.observation_json(row) == whole
    check(orjson.loads(whole))
    assert orjson.loads(whole).get("subject") == (
        {"reference": f"Patient/{view.patient_id}"} if view.patient_id else None
    )
    assert orjson.loads(whole)["id"] == str(view.id)


@pytest.mark.parametrize("text", ["5.10", "0", "0.00", "-1.50", "123456789012345678901.1234567890", "1E-7", "1E+3"])
def test_a_decimal_keeps_every_digit(text: str) -> None:
    body = dumps(fhir.observation(replace(RESULT, number=Decimal(text), value=text)))
    assert f'"valueQuantity":{{"value":{text},'.encode() in body


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_no_number_never_becomes_json(text: str) -> None:
    with pytest.raises(ValueError, match="Decimal"):
        dumps({"value": Decimal(text)})


@pytest.mark.parametrize(
    ("kind", "value", "changed", "expected"),
    [
        (ValueKind.NUMERIC, "<0.5", {"number": Decimal("0.5"), "comparator": Comparator.LT, "unit": ""},
         {"valueQuantity": {"value": 0.5, "comparator": "<"}}),
        (ValueKind.TEXT, " turbid \x07", {}, {"valueString": "turbid"}),
        (ValueKind.CODED, "positive", {}, {"valueCodeableConcept": {"text": "positive"}}),
        (ValueKind.RATIO, "1:128", {}, {"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}),
        (ValueKind.RATIO, ">1:128", {}, {"valueString": ">1:128"}),
        (ValueKind.RANGE, "5-10", {"unit": ""}, {"valueRange": {"low": {"value": 5}, "high": {"value": 10}}}),
        (ValueKind.RANGE, "10-5", {}, {"valueString": "10-5"}),
        (ValueKind.TIME, "20260102", {}, {"valueString": "20260102"}),
    ],
)  # fmt: skip
def test_each_kind_of_value_has_its_element(
    kind: ValueKind, value: str, changed: dict[str, Any], expected: dict[str, Any]
) -> None:
    resource = observation(**{"kind": kind, "value": value, "number": None, **changed})
    assert {name: resource[name] for name in resource if name.startswith("value")} == expected


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        (ValueKind.FAILED, ResultStatus.FINAL, "error"),
        (ValueKind.EMPTY, ResultStatus.FINAL, "unknown"),
        (ValueKind.IMAGE, ResultStatus.FINAL, "unsupported"),
        (ValueKind.EMPTY, ResultStatus.CANCELLED, "not-performed"),
    ],
)
def test_a_result_without_a_value_says_why(kind: ValueKind, status: ResultStatus, reason: str) -> None:
    resource = observation(kind=kind, status=status, value="-----", number=None)
    assert resource["dataAbsentReason"]["coding"][0]["code"] == reason


@pytest.mark.parametrize("status", ResultStatus)
def test_every_status_is_one_of_the_required_binding(status: ResultStatus) -> None:
    assert observation(status=status)["status"] == status.value


def test_what_is_not_known_is_left_out() -> None:
    resource = observation(
        test_code="", test_name="", loinc="", patient_id=None, specimen_id=None, order_item_id=None, instrument_at=None,
        low=None, high=None, reference="", flags=("", "odd flag"), analyzer="", analyzer_id=None, released_at=None,
        unit="",
    )  # fmt: skip
    assert not {"subject", "specimen", "basedOn", "effectiveDateTime", "referenceRange", "device"} & set(resource)
    assert resource["interpretation"] == [{"text": "odd flag"}]
    assert resource["code"] == {"text": "not known to the laboratory"}
    assert resource["issued"] == "2026-01-02T03:04:05Z"


def test_a_correction_is_issued_when_it_was_made_and_not_when_the_wrong_value_was() -> None:
    """R4 Observation.issued: when this version was made available."""
    later = AT + timedelta(days=1)
    resource = observation(status=ResultStatus.CORRECTED, released_at=AT, updated_at=later)
    assert resource["issued"] == "2026-01-03T03:04:05Z"


def test_a_measurement_time_leaves_with_its_zone() -> None:
    assert observation()["effectiveDateTime"] == "2026-01-02T03:04:05Z"


def test_a_patient() -> None:
    identifiers = (
        IdentifierView("urn:hospital", "4711", "MR"),
        IdentifierView("St. Anna", "7"),
        IdentifierView("", "9"),
    )
    view = PatientView(UUID(int=4), 1, AT, identifiers, "Muster", "Eva Maria", date(1980, 5, 1), Sex.FEMALE)
    body = dumps(fhir.patient(view))
    Patient.model_validate_json(body)
    resource = orjson.loads(body)
    check(resource)
    assert [one["system"] for one in resource["identifier"]] == [
        "urn:hospital", "urn:labora:authority:St.%20Anna", "urn:labora:patient",
    ]  # fmt: skip
    assert [fhir.authority_of(one["system"]) for one in resource["identifier"]] == ["urn:hospital", "St. Anna", ""]
    assert resource["name"] == [{"family": "Muster", "given": ["Eva", "Maria"]}]
    assert (resource["birthDate"], resource["gender"], resource["active"]) == ("1980-05-01", "female", True)
    nobody = orjson.loads(dumps(fhir.patient(PatientView(UUID(int=4), 1, AT, active=False))))
    assert "name" not in nobody
    assert nobody["active"] is False


def test_a_patient_with_an_hour_of_birth_and_links() -> None:
    """R4 patient.html#merging, and the extension patient-birthTime: with the zone, beside the day."""
    born = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=7)))
    prior = PatientView(UUID(int=4), 1, AT, birth_date=born.date(), birth_at=born, merged_into=UUID(int=5))
    body = dumps(fhir.patient(prior))
    Patient.model_validate_json(body)
    said = orjson.loads(body)
    assert (said["birthDate"], said["active"]) == ("2026-01-02", False)
    assert said["_birthDate"]["extension"] == [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
            "valueDateTime": "2026-01-01T18:30:00Z",
        }
    ]
    assert said["link"] == [{"other": {"reference": f"Patient/{UUID(int=5)}"}, "type": "replaced-by"}]
    survivor = orjson.loads(dumps(fhir.patient(PatientView(UUID(int=5), 1, AT, replaces=(UUID(int=4),)))))
    assert (survivor["active"], survivor["link"][0]["type"]) == (True, "replaces")


@pytest.mark.parametrize("status", ["available", "unsatisfactory", "something new"])
def test_a_specimen(status: str) -> None:
    view = SpecimenView(UUID(int=3), 1, AT, "B", "SER", status, UUID(int=4), UUID(int=5), AT, AT, "clotted")
    body = dumps(fhir.specimen(view))
    Specimen.model_validate_json(body)
    resource = orjson.loads(body)
    check(resource)
    assert resource["status"] in SPECIMEN_STATUS
    assert resource["accessionIdentifier"] == {"system": "urn:labora:specimen", "value": "B"}
    check(orjson.loads(dumps(fhir.specimen(SpecimenView(UUID(int=3), 1, AT, "")))))


@pytest.mark.parametrize("priority", Priority)
@pytest.mark.parametrize("status", ItemStatus)
def test_a_service_request(status: ItemStatus, priority: Priority) -> None:
    order = replace(ORDER, priority=priority, patient_id=None)
    body = dumps(fhir.service_request(order, replace(ITEM, status=status)))
    ServiceRequest.model_validate_json(body)
    resource = orjson.loads(body)
    check(resource)
    assert resource["status"] in REQUEST_STATUS
    assert resource["priority"] in REQUEST_PRIORITY
    assert resource["subject"]["display"]
    assert fhir.service_request(replace(order, cancelled=True), ITEM)["status"] == "revoked"


_R, _P, _F, _C, _A = (
    ResultStatus.REGISTERED, ResultStatus.PRELIMINARY, ResultStatus.FINAL, ResultStatus.CORRECTED, ResultStatus.AMENDED,
)  # fmt: skip


@pytest.mark.parametrize(
    ("statuses", "items", "cancelled", "expected"),
    [
        ((), 1, False, "registered"), ((_P,), 1, False, "preliminary"), ((_R,), 1, False, "registered"),
        ((_F,), 1, False, "final"), ((_F,), 2, False, "partial"), ((_F, _P), 2, False, "partial"),
        ((_F, _C), 2, False, "corrected"), ((_F, _A), 2, False, "amended"), ((), 1, True, "cancelled"),
        ((_F,), 1, True, "final"),
    ],
)  # fmt: skip
def test_a_report_says_how_far_it_is(
    statuses: tuple[ResultStatus, ...], items: int, cancelled: bool, expected: str
) -> None:
    order = replace(
        ORDER, cancelled=cancelled, items=tuple(replace(ITEM, id=UUID(int=100 + place)) for place in range(items))
    )
    results = tuple(
        replace(RESULT, id=UUID(int=200 + place), order_item_id=UUID(int=100 + place), status=status)
        for place, status in enumerate(statuses)
    )
    body = dumps(fhir.diagnostic_report(ReportView(order, results, AT)))
    DiagnosticReport.model_validate_json(body)
    resource = orjson.loads(body)
    check(resource)
    assert resource["status"] == expected
    assert resource["status"] in REPORT_STATUS
    assert [one["reference"] for one in resource.get("result", [])] == [f"Observation/{one.id}" for one in results]
    if results:
        assert resource["effectiveDateTime"]
        assert resource["issued"]

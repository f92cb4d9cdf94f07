"""Each validator is shown to catch faults: one that could not would say nothing about what leaves here."""

from __future__ import annotations

import json
from typing import Any

from tests.fhir.validators import NAMES, judge, needs_node, official_schema

GOOD: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "0197-a",
    "status": "final",
    "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                              "code": "laboratory"}]}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}], "text": "Haemoglobin"},
    "subject": {"reference": "Patient/1"},
    "effectiveDateTime": "2026-01-02T03:04:05Z",
    "valueQuantity": {"value": 5.10, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
    "referenceRange": [{"low": {"value": 4}, "text": "4 -"}],
}  # fmt: skip
# Each fault, and who catches it (measured once, PROTOCOLS of the tools); the others let it pass.
FAULTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "missing status": ({"status": None}, {"fhirkit-rs", "fhir.resources", "medplum", "fhir"}),
    "status not in the value set": ({"status": "finalX"}, {"jsonschema", "fhir"}),
    "unknown element": ({"statusX": "final"}, set(NAMES)),
    "two values": ({"valueString": "x"}, {"fhir.resources", "fhirkit-rs"}),
    "reason and value (obs-6)": ({"dataAbsentReason": {"text": "x"}}, {"medplum"}),
    "empty range (obs-3)": ({"referenceRange": [{"age": {"low": {"value": 1}}}]}, {"medplum"}),
    "time without a zone": ({"effectiveDateTime": "2026-01-02T03:04:05"},
                            {"jsonschema", "fhirkit-rs", "fhir.resources"}),
    "number as text": ({"valueQuantity": {"value": "5.10"}}, {"jsonschema", "fhirkit-rs", "medplum", "fhir"}),
    "unknown comparator": ({"valueQuantity": {"value": 5, "comparator": "~"}}, {"jsonschema", "fhir"}),
    "empty array": ({"note": []}, {"fhirkit-rs"}),
    "empty text": ({"code": {"text": ""}}, {"jsonschema", "fhirkit-rs", "fhir.resources"}),
    "bad id": ({"id": "a b"}, {"jsonschema", "fhir.resources"}),
    "object where a list belongs": ({"category": {"text": "x"}}, set(NAMES)),
}  # fmt: skip


def planted(change: dict[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in {**GOOD, **change}.items() if value is not None}).encode()


@needs_node
def test_each_validator_catches_the_faults_that_it_is_there_for() -> None:
    good, *faulty = judge([json.dumps(GOOD).encode(), *(planted(change) for change, _ in FAULTS.values())])
    assert good == {name: [] for name in NAMES}
    caught = {fault: {name for name in NAMES if said[name]} for fault, said in zip(FAULTS, faulty, strict=True)}
    for fault, (_, by) in FAULTS.items():
        assert by <= caught[fault], f"{fault}: {sorted(by - caught[fault])} let it pass"
    for name in NAMES:
        assert any(name in by for _, by in FAULTS.values())
    print("\n" + "\n".join(f"{fault:30} {' '.join(sorted(by))}" for fault, by in caught.items()))


@needs_node
def test_the_schema_is_held_against_what_is_in_a_bundle() -> None:
    for change, wrong in (({}, 0), ({"statusX": "final"}, 1)):
        entries = [{"fullUrl": "urn:x:1", "resource": GOOD}, {"resource": json.loads(planted(change))}]
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        nested = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": bundle}]}
        for one in (bundle, nested):
            assert len(official_schema([json.dumps(one).encode()])[0]) == wrong
    assert official_schema([b'{"resourceType": "Bundle", "type": "collection", "entry": [{"x": 1}]}']) != [[]]

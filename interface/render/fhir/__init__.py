"""The laboratory's records as FHIR R4 (4.0.1) resources: pure functions from `domain.views` to dicts of JSON values.

Mapping after HL7 v2-to-FHIR and US Core. Nothing empty is ever put in (R4 json.html: no nulls, no empty arrays, objects
or strings); quantities stay Decimal, see `render.json`. What an audience may not see is not in the view: nothing here
decides it. Ids: Patient, Specimen and Observation are our rows, a DiagnosticReport is an order, a
ServiceRequest is an order item.
"""

from __future__ import annotations

from interface.render.fhir.actors import device, organization, practitioner
from interface.render.fhir.audit import audit_event
from interface.render.fhir.containers import operation_outcome, searchset
from interface.render.fhir.observations import (
    observation,
    observation_json,
    observation_of,
    observation_rest,
    observation_row,
    observation_said,
    observation_together,
    observation_visit,
    observation_what,
)
from interface.render.fhir.parts import (
    ABSENT_SYSTEM,
    BARCODE_SYSTEM,
    INTERPRETATION,
    LOCAL,
    LOINC,
    ORDER_SYSTEM,
    PLACER_SYSTEM,
    SNOMED,
    SPECIMEN_TYPE_SYSTEM,
    TERMINOLOGY,
    TEST_SYSTEM,
    UCUM,
    Json,
    authority_of,
    instant,
    reference,
    system_of,
    version_of,
)
from interface.render.fhir.people import BIRTH_TIME, patient
from interface.render.fhir.provenance import MESSAGE_SYSTEM, provenance
from interface.render.fhir.reports import diagnostic_report, report_status, report_time
from interface.render.fhir.requests import service_request
from interface.render.fhir.specimens import specimen

__all__ = [
    "ABSENT_SYSTEM",
    "BARCODE_SYSTEM",
    "BIRTH_TIME",
    "INTERPRETATION",
    "LOCAL",
    "LOINC",
    "MESSAGE_SYSTEM",
    "ORDER_SYSTEM",
    "PLACER_SYSTEM",
    "SNOMED",
    "SPECIMEN_TYPE_SYSTEM",
    "TERMINOLOGY",
    "TEST_SYSTEM",
    "UCUM",
    "Json",
    "audit_event",
    "authority_of",
    "device",
    "diagnostic_report",
    "instant",
    "observation",
    "observation_json",
    "observation_of",
    "observation_rest",
    "observation_row",
    "observation_said",
    "observation_together",
    "observation_visit",
    "observation_what",
    "operation_outcome",
    "organization",
    "patient",
    "practitioner",
    "provenance",
    "reference",
    "report_status",
    "report_time",
    "searchset",
    "service_request",
    "specimen",
    "system_of",
    "version_of",
]

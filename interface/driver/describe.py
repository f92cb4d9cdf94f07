"""A decoded message as plain data: what `labora decode --json` prints and an `expected.json` holds (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from interface.domain.model import (
    UNSAID,
    Attachment,
    DecodedMessage,
    MeasuredWith,
    Observed,
    ObservedPatient,
    ObservedSpecimen,
    Problem,
    Query,
    ValueKind,
)


def describe(message: DecodedMessage, envelope: Iterable[Problem] = ()) -> dict[str, Any]:
    """The public shape, keys in order. `envelope`: problems found around the message, told first."""
    return {
        "protocol": str(message.protocol),
        "control_id": message.control_id,
        "sender": message.sender,
        "patients": [_patient(patient) for patient in message.patients],
        "specimens": [_specimen(specimen) for specimen in message.specimens],
        "queries": [_query(query) for query in message.queries],
        "problems": [{"location": p.location, "text": p.text} for p in (*envelope, *message.problems)],
    }


def _patient(patient: ObservedPatient) -> dict[str, Any]:
    return {
        "patient_id": patient.patient_id,
        "name": patient.name,
        "birth_date": patient.birth_date.isoformat() if patient.birth_date else None,
        "sex": str(patient.sex) if patient.sex else None,
    }


def _specimen(specimen: ObservedSpecimen) -> dict[str, Any]:
    return {
        "patient": specimen.patient,
        "specimen_id": specimen.specimen_id,
        "type": specimen.type,
        "role": str(specimen.role),
        "order_code": specimen.order_code,
        "results": [_result(result) for result in specimen.results],
        "attachments": [_attachment(attachment) for attachment in specimen.attachments],
    } | ({"comments": list(specimen.comments)} if specimen.comments else {})


def _result(result: Observed) -> dict[str, Any]:
    value = result.value
    return (
        {
            "code": result.code,
            "name": result.name,
            "value": None if value.kind is ValueKind.EMPTY else value.text or None,
            "comparator": str(value.comparator) if value.comparator else None,
            "unit": result.unit,
            "reference": result.reference,
            "flags": list(result.flags),
            "status": result.status,
            "kind": str(value.kind),
            "raw_value": result.raw_value,
            "instrument_time": result.instrument_time,
            "comments": list(result.comments),
        }
        | ({"detail": True} if result.detail else {})
        | ({"method": result.method} if result.method else {})
        | _measured_with(result.measured_with)
    )


def _measured_with(said: MeasuredWith) -> dict[str, str]:
    return {} if said == UNSAID else {name: text for name, text in asdict(said).items() if text}


def _attachment(attachment: Attachment) -> dict[str, Any]:
    return {"name": attachment.name, "media_type": attachment.media_type, "data": attachment.data}


def _query(query: Query) -> dict[str, Any]:
    return (
        {
            "specimen_ids": list(query.specimen_ids),
            "all": query.all,
            "patient_id": query.patient_id,
            "tests": list(query.tests),
            "raw": query.raw,
        }
        | ({"ranges": [list(ends) for ends in query.ranges]} if query.ranges else {})
        | ({"cancels": True} if query.cancels else {})
    )

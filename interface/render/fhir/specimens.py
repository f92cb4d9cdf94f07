"""Specimens."""

from __future__ import annotations

from interface.domain.views import SpecimenView
from interface.render.fhir.parts import (
    ABSENT_SYSTEM,
    BARCODE_SYSTEM,
    SPECIMEN_TYPE_SYSTEM,
    TERMINOLOGY,
    Json,
    clean,
    instant,
    meta,
    reference,
    without_empty,
)

_REJECTED = {
    "expired": "EX", "quantity_not_sufficient": "QS", "missing_patient_id": "RA", "broken_container": "RB",
    "clotted": "RC", "missing_collection_date": "RD", "missing_patient_name": "RE", "haemolysed": "RH",
    "identification": "RI", "labelling": "RM", "contaminated": "RN", "missing_collector": "RP", "storage": "RR",
    "name_misspelt": "RS",
}  # fmt: skip
_SPECIMEN_STATUS = {
    "available": "available",
    "unavailable": "unavailable",
    "unsatisfactory": "unsatisfactory",
    "entered-in-error": "entered-in-error",
}


def specimen(view: SpecimenView) -> Json:
    identifier = {"system": BARCODE_SYSTEM, "value": clean(view.barcode)} if clean(view.barcode) else None
    return without_empty(
        {
            "resourceType": "Specimen",
            "id": str(view.id),
            "meta": meta(view.version, view.updated_at),
            "identifier": [identifier] if identifier else [],
            "accessionIdentifier": identifier,
            "status": _SPECIMEN_STATUS.get(view.status, "unavailable"),
            "type": _type(view),
            "subject": reference("Patient", view.patient_id),
            "receivedTime": instant(view.received_at) if view.received_at else "",
            "parent": [{"reference": f"Specimen/{view.parent_id}"}] if view.parent_id else [],
            "collection": _collection(view),
            "container": [{"type": {"text": clean(view.container)}}] if clean(view.container) else [],
            "condition": _condition(view),
            "note": [{"text": clean(view.reject_reason)}] if clean(view.reject_reason) else [],
        }
    )


def _type(view: SpecimenView) -> Json:
    """US Core asks for a type; one that nobody has said is unknown."""
    if kind := clean(view.type):
        return {"coding": [{"system": SPECIMEN_TYPE_SYSTEM, "code": kind}], "text": kind}
    return {"coding": [{"system": ABSENT_SYSTEM, "code": "unknown"}], "text": "not known"}


def _collection(view: SpecimenView) -> Json | None:
    collector = {"display": clean(view.collected_by)} if clean(view.collected_by) else None
    collected = instant(view.collected_at) if view.collected_at else ""
    return without_empty({"collector": collector, "collectedDateTime": collected}) or None


def _condition(view: SpecimenView) -> list[Json]:
    """Why it was rejected: HL7 table 0490 (`domain.specimens.RejectReason`), as far as the reason is in it."""
    if not view.reject_code:
        return []
    coding = _REJECTED.get(view.reject_code)
    codings = [{"system": TERMINOLOGY + "v2-0490", "code": coding}] if coding else []
    return [without_empty({"coding": codings, "text": view.reject_code.replace("_", " ")})]

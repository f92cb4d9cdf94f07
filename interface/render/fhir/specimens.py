"""Specimens."""

from __future__ import annotations

from interface.domain.views import SpecimenView
from interface.render.fhir.parts import (
    BARCODE_SYSTEM,
    SPECIMEN_TYPE_SYSTEM,
    Json,
    clean,
    instant,
    meta,
    reference,
    without_empty,
)

_SPECIMEN_STATUS = {
    "available": "available",
    "unavailable": "unavailable",
    "unsatisfactory": "unsatisfactory",
    "entered-in-error": "entered-in-error",
}


def specimen(view: SpecimenView) -> Json:
    kind = clean(view.type)
    identifier = {"system": BARCODE_SYSTEM, "value": clean(view.barcode)} if clean(view.barcode) else None
    return without_empty(
        {
            "resourceType": "Specimen",
            "id": str(view.id),
            "meta": meta(view.version, view.updated_at),
            "identifier": [identifier] if identifier else [],
            "accessionIdentifier": identifier,
            "status": _SPECIMEN_STATUS.get(view.status, "unavailable"),
            "type": {"coding": [{"system": SPECIMEN_TYPE_SYSTEM, "code": kind}], "text": kind} if kind else None,
            "subject": reference("Patient", view.patient_id),
            "receivedTime": instant(view.received_at) if view.received_at else "",
            "collection": {"collectedDateTime": instant(view.collected_at)} if view.collected_at else None,
            "note": [{"text": clean(view.reject_reason)}] if clean(view.reject_reason) else [],
        }
    )

"""DiagnosticReports: an order with what is known of it."""

from __future__ import annotations

from datetime import datetime
from zlib import crc32

from interface.domain.evidence import LaboratoryView
from interface.domain.model import RELEASED, TAKEN_BACK, ItemStatus, ResultStatus
from interface.domain.views import ReportView
from interface.render.fhir.parts import (
    LOINC,
    TERMINOLOGY,
    Json,
    instant,
    meta,
    order_identifiers,
    performed_by,
    reference,
    version_of,
    without_empty,
)

_UNKNOWN = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}


def report_status(view: ReportView) -> str:
    """diagnostic-report-status, from what the audience sees of the order and its results."""
    told = [one.status for one in view.results if one.status not in TAKEN_BACK]
    statuses = [status for status in told if status is not ResultStatus.ENTERED_IN_ERROR]
    retracted = len(statuses) < len(told)
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
    return min((at for one in view.results if (at := one.effective_at) is not None), default=None)


def report_version(view: ReportView) -> str:
    """The versionId: when it changed last, and a check sum of what stands in it.

    A time of change is when its transaction began, so that what is committed later may be of an earlier time than what
    was read already, as after a clock was put back: by the time alone who has the report before would be told 304
    (R4 http.html#cread: only of the same version)."""
    said = [report_status(view), str(report_time(view)), *(f"{one.id} {one.specimen_id}" for one in view.order.items)]
    said += sorted(f"{one.id} {one.version_id}" for one in view.results)
    return f"{version_of(view.updated_at)}.{crc32(' '.join(said).encode()):08x}"


def diagnostic_report(view: ReportView, laboratory: LaboratoryView | None = None) -> Json:
    """One order with its results."""
    order = view.order
    taken = report_time(view)
    specimens = dict.fromkeys(item.specimen_id for item in order.items if item.specimen_id is not None)
    return without_empty(
        {
            "resourceType": "DiagnosticReport",
            "id": str(order.id),
            "meta": meta(report_version(view), view.updated_at),
            "identifier": order_identifiers(order),
            "basedOn": [{"reference": f"ServiceRequest/{item.id}"} for item in order.items],
            "status": report_status(view),
            "category": [{"coding": [{"system": TERMINOLOGY + "v2-0074", "code": "LAB"}]}],
            "code": {"coding": [{"system": LOINC, "code": "11502-2"}], "text": "Laboratory report"},
            "subject": reference("Patient", order.patient_id),
            "effectiveDateTime": instant(taken) if taken else "",
            # US Core us-core-8: a report of results says when they were so, or that it is not known
            "_effectiveDateTime": None if taken or not view.results else {"extension": [_UNKNOWN]},
            "issued": instant(view.updated_at) if view.results else "",
            "performer": [performed_by(laboratory.id, laboratory.title, laboratory.name)] if laboratory else [],
            "specimen": [{"reference": f"Specimen/{id}"} for id in specimens],
            "result": [{"reference": f"Observation/{result.id}"} for result in view.results],
        }
    )

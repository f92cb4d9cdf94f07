"""ServiceRequests: what is ordered."""

from __future__ import annotations

from interface.domain.model import ItemStatus, Priority
from interface.domain.views import OrderItemView, OrderView
from interface.render.fhir.parts import (
    ORDER_SYSTEM,
    SNOMED,
    Json,
    clean,
    concept,
    instant,
    meta,
    order_identifier,
    order_identifiers,
    reference,
    version_of,
    without_empty,
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
    ItemStatus.COMPLETED: "active",  # measured, not released: R4 has no further activity after completed
    ItemStatus.VERIFIED: "completed",
    ItemStatus.CANCELLED: "revoked",
    ItemStatus.REJECTED: "revoked",
}


def service_request(order: OrderView, item: OrderItemView) -> Json:
    """One ordered test. An order of several is told by its `requisition`."""
    reason = item.reason or order.cancel_reason  # R4 has no element for why a request was revoked
    revoked = order.cancelled or item.status in (ItemStatus.CANCELLED, ItemStatus.REJECTED)
    return without_empty(
        {
            "resourceType": "ServiceRequest",
            "id": str(item.id),
            "meta": meta(version_of(order.updated_at), order.updated_at),
            "identifier": order_identifiers(order, item.placers),
            "requisition": order_identifier("FILL", ORDER_SYSTEM, order.number),
            "status": "revoked" if revoked else _REQUEST_STATUS[item.status],
            "intent": "order",
            "category": [{"coding": [{"system": SNOMED, "code": "108252007"}]}],  # US Core: laboratory procedure
            "priority": _PRIORITY[order.priority],
            "code": concept(item.test_code, item.test_name, item.loinc),
            "subject": reference("Patient", order.patient_id) or {"display": "not known to the laboratory"},
            "authoredOn": instant(order.ordered_at),
            # without the name: it may change, and the request would say something else under the same versionId
            "requester": reference("Practitioner", order.requester.id) if order.requester else None,
            "locationCode": [{"text": clean(order.ward)}] if clean(order.ward) else [],
            "reasonCode": [{"text": clean(order.clinical_history)}] if clean(order.clinical_history) else [],
            "specimen": [{"reference": f"Specimen/{item.specimen_id}"}] if item.specimen_id else [],
            "note": [{"text": clean(reason)}] if clean(reason) else [],
        }
    )

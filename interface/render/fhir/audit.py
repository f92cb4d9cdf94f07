"""AuditEvent: who saw or changed what, as the audit trail has it."""

from __future__ import annotations

from base64 import b64encode

from interface import __version__
from interface.domain.evidence import AuditView
from interface.domain.views import ActorKind
from interface.render.fhir.parts import LOCAL, TERMINOLOGY, Json, clean, instant, without_empty

_REST = {"system": TERMINOLOGY + "audit-event-type", "code": "rest", "display": "RESTful Operation"}
_INTERACTION, _OBJECT_ROLE = "http://hl7.org/fhir/restful-interaction", TERMINOLOGY + "object-role"
_ACTIONS = {  # audit-event-action, and restful-interaction where it is one
    "read": ("R", "read"),
    "vread": ("R", "vread"),
    "history": ("R", "history-instance"),
    "search": ("E", "search-type"),
    "disclose": ("R", ""),
    "create": ("C", "create"),
    "update": ("U", "update"),
    "delete": ("D", "delete"),
    "export": ("R", "operation"),
    "everything": ("E", "operation"),
}
# Those whose id is of a resource that is served, by what the trail calls them.
_KINDS = {
    "patient": "Patient",
    "result": "Observation",
    "report": "Binary",  # a printed version's id, or the order's, which is that of the newest
    "order": "DiagnosticReport",
    "specimen": "Specimen",
    "provider": "Practitioner",
    "organization": "Organization",
    "analyzer": "Device",
}
_WHO = {ActorKind.USER.value: "Practitioner", ActorKind.CLIENT.value: "Organization"}


def audit_event(view: AuditView) -> Json:
    """One row. It never changes: its one version is 1."""
    action, interaction = _ACTIONS.get(view.action, ("E", ""))
    subtype = {"system": _INTERACTION, "code": interaction} if interaction else {
        "system": LOCAL + "audit-action", "code": clean(view.action)
    }  # fmt: skip
    return without_empty(
        {
            "resourceType": "AuditEvent",
            "id": str(view.id),
            "meta": {"versionId": "1", "lastUpdated": instant(view.at)},
            "type": _REST,
            "subtype": [subtype],
            "action": action,
            "recorded": instant(view.at),
            "outcome": "0" if view.outcome == "ok" else "4",  # audit-event-outcome: success, minor failure
            "outcomeDesc": "" if view.outcome == "ok" else clean(view.outcome),
            "agent": [_agent(view)],
            "source": {
                "observer": {"type": "Device", "display": f"Labora {__version__}"},
                "type": [
                    {"system": TERMINOLOGY + "security-source-type", "code": "4", "display": "Application Server"}
                ],
            },
            "entity": _entities(view),
        }
    )


def _agent(view: AuditView) -> Json:
    name = clean(view.actor_name) or view.actor_kind
    system = LOCAL + view.actor_kind.replace("_", "-")
    who = without_empty(
        {
            "type": _WHO.get(view.actor_kind, "Device"),
            "identifier": {"system": system, "value": str(view.actor_id) if view.actor_id else name},
            "display": name,
        }
    )
    # network-type 2: an IP address
    network = {"address": clean(view.address), "type": "2"} if clean(view.address) else None
    return without_empty({"who": who, "name": name, "requestor": True, "network": network})


def _entities(view: AuditView) -> list[Json]:
    details = [(clean(name), clean(text)) for name, text in view.detail.items() if name != "query"]
    told = [{"type": name, "valueString": text} for name, text in details if name and text]
    kind = _KINDS.get(view.entity_kind, view.entity_kind)
    if view.action == "export" and kind[:1].isupper():  # a file of such resources: the id is the job's
        kind = "export"
    what = None
    if view.entity_id is not None:
        served = kind[:1].isupper()
        what = {"reference": f"{kind}/{view.entity_id}"} if served else {
            "identifier": {"system": LOCAL + kind.replace("_", "-"), "value": str(view.entity_id)}
        }  # fmt: skip
    entities = [
        without_empty(
            {
                "what": what,
                # object-role: 1 patient, 4 domain resource
                "role": {"system": _OBJECT_ROLE, "code": "1" if kind == "Patient" else "4"},
                "description": clean(view.entity_kind),
                "detail": told,
            }
        )
    ]
    if query := view.detail.get("query"):
        role = {"system": _OBJECT_ROLE, "code": "24", "display": "Query"}
        entities.append({"role": role, "query": b64encode(query.encode()).decode()})
    return entities

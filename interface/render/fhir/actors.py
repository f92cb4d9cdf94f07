"""Who and what acts: Organization (the laboratory), Practitioner (who orders), Device (an analyzer)."""

from __future__ import annotations

from interface.domain.evidence import DeviceView, LaboratoryView
from interface.domain.systems import ANALYZER_SYSTEM, ORGANIZATION_SYSTEM, SERIAL_SYSTEM, TERMINOLOGY
from interface.domain.views import ProviderView
from interface.render.fhir.parts import Json, clean, identifier, meta, without_empty


def organization(view: LaboratoryView) -> Json:
    """The laboratory."""
    return without_empty(
        {
            "resourceType": "Organization",
            "id": str(view.id),
            "meta": meta(view.version, view.updated_at),
            "identifier": [{"system": ORGANIZATION_SYSTEM, "value": clean(view.name)}],
            "active": True,
            # R4 organization-type has no laboratory; prov is a healthcare provider
            "type": [{"coding": [{"system": TERMINOLOGY + "organization-type", "code": "prov"}], "text": "Laboratory"}],
            "name": clean(view.title) or clean(view.name),
        }
    )


def practitioner(view: ProviderView) -> Json:
    family, given = clean(view.family), clean(view.given)
    name = without_empty({"family": family, "given": given.split() if given else []})
    return without_empty(
        {
            "resourceType": "Practitioner",
            "id": str(view.id),
            "meta": meta(view.version, view.updated_at),
            "identifier": [identifier(one) for one in view.identifiers],
            "active": view.active,
            "name": [name] if name else [],
            "qualification": [{"code": {"text": clean(view.role)}}] if clean(view.role) else [],
        }
    )


def device(view: DeviceView) -> Json:
    """An analyzer."""
    serial = {"system": SERIAL_SYSTEM, "value": clean(view.serial)} if clean(view.serial) else None
    return without_empty(
        {
            "resourceType": "Device",
            "id": str(view.id),
            "meta": meta(view.version, view.updated_at),
            "identifier": [{"system": ANALYZER_SYSTEM, "value": clean(view.name)}, *([serial] if serial else [])],
            "status": "active",
            "manufacturer": clean(view.manufacturer),
            "serialNumber": clean(view.serial),
            "deviceName": [{"name": clean(view.name), "type": "user-friendly-name"}],
            "modelNumber": clean(view.model),
            "type": {"text": "Laboratory analyzer"},
        }
    )

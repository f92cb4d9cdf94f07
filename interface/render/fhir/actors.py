"""Who and what acts: Organization (the laboratory), Practitioner (who orders), Device (an analyzer)."""

from __future__ import annotations

from hashlib import blake2b

from interface.domain.evidence import DeviceView, OrganizationView
from interface.domain.systems import ANALYZER_SYSTEM, ORGANIZATION_SYSTEM, SERIAL_SYSTEM, TERMINOLOGY
from interface.domain.views import ProviderView
from interface.render.fhir.parts import Json, clean, identifier, instant, meta, without_empty


def organization(view: OrganizationView) -> Json:
    """The laboratory. What it was called before is not kept: its versionId says only whether it is as it was."""
    return _as_it_is(
        {
            "resourceType": "Organization",
            "id": str(view.id),
            "meta": {"lastUpdated": instant(view.created_at)},
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
    """An analyzer. What its driver was before is not kept: versionId as the laboratory's."""
    serial = {"system": SERIAL_SYSTEM, "value": clean(view.serial)} if clean(view.serial) else None
    return _as_it_is(
        {
            "resourceType": "Device",
            "id": str(view.id),
            "meta": {"lastUpdated": instant(view.created_at)},
            "identifier": [{"system": ANALYZER_SYSTEM, "value": clean(view.name)}, *([serial] if serial else [])],
            "status": "active",
            "manufacturer": clean(view.manufacturer),
            "serialNumber": clean(view.serial),
            "deviceName": [{"name": clean(view.name), "type": "user-friendly-name"}],
            "modelNumber": clean(view.model),
            "type": {"text": "Laboratory analyzer"},
        }
    )


def _as_it_is(resource: Json) -> Json:
    made = without_empty(resource)
    version = blake2b(repr(sorted(made.items())).encode(), digest_size=8).hexdigest()
    return {**made, "meta": {"versionId": version, **made["meta"]}}

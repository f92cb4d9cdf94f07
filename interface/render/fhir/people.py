"""Patients."""

from __future__ import annotations

from interface.domain.views import PatientView
from interface.render.fhir.parts import Json, clean, identifier, instant, meta, reference, without_empty

BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"


def patient(view: PatientView) -> Json:
    family, given = clean(view.family), clean(view.given)
    name = without_empty({"family": family, "given": given.split() if given else []})
    return without_empty(
        {
            "resourceType": "Patient",
            "id": str(view.id),
            "meta": meta(view.version, view.updated_at),
            "identifier": [identifier(one) for one in view.identifiers],
            "active": view.active and view.merged_into is None,
            "name": [name] if name else [],
            "gender": view.sex.value,
            "birthDate": view.birth_date.isoformat() if view.birth_date else "",
            "_birthDate": {"extension": [{"url": BIRTH_TIME, "valueDateTime": instant(view.birth_at)}]}
            if view.birth_at
            else None,
            "link": _links(view),
        }
    )


def _links(view: PatientView) -> list[Json]:
    """R4 patient.html#merging: the one that is not to be used any more points to the one that is, and back."""
    links = [("replaced-by", view.merged_into)] if view.merged_into else []
    links += [("replaces", prior) for prior in view.replaces]
    return [{"other": reference("Patient", other), "type": kind} for kind, other in links]

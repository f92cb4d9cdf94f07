"""What controls came to in a month as FHIR R4 (4.0.1), for a peer programme: a Bundle of Observations of Devices.

Nothing of a patient is in it: the subject of each Observation is the analyzer, a Device, and its focus the control
material, a Substance with its lot. The numbers are components with the codes of R4's observation-statistics, as
Observation/$stats answers them. It is a file that is handed over; no FHIR route of this service serves it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from interface.domain.qc_peers import OwnPeriod, month, rounded_mean, rounded_sd
from interface.domain.qc_statistics import Statistics, presented
from interface.render.fhir import LOCAL, LOINC, TERMINOLOGY, TEST_SYSTEM, UCUM, Json, instant

STATISTICS = TERMINOLOGY + "observation-statistics"
_CV = {"text": "coefficient of variation"}  # observation-statistics has none
_NAMES = UUID("6f6a1c1e-6d0c-5c0e-9d57-0f8a1b1d7f10")  # of the Observations: the same month has the same id again


def periods_bundle(laboratory: str, periods: Iterable[OwnPeriod]) -> Json:
    """A collection: each analyzer and each level of a lot once, then the Observations."""
    devices: dict[UUID, Json] = {}
    substances: dict[UUID, Json] = {}
    observations = []
    for period in periods:
        devices.setdefault(period.analyzer_id, _device(period))
        substances.setdefault(period.lot_id, _substance(period))
        observations.append(_observation(period, laboratory))
    resources = [*devices.values(), *substances.values(), *observations]
    bundle: Json = {"resourceType": "Bundle", "type": "collection"}
    if resources:
        bundle["entry"] = [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in resources]
    return bundle


def _device(period: OwnPeriod) -> Json:
    return _said(
        {
            "resourceType": "Device",
            "id": str(period.analyzer_id),
            "deviceName": [{"name": period.analyzer, "type": "user-friendly-name"}],
            "type": {"text": period.driver} if period.driver else None,
        }
    )


def _substance(period: OwnPeriod) -> Json:
    expires = {"expiry": period.expires_on.isoformat()} if period.expires_on else {}
    kinds = (("manufacturer", period.manufacturer), ("catalogue", period.catalogue_number))
    return _said(
        {
            "resourceType": "Substance",
            "id": str(period.lot_id),
            "identifier": [{"system": f"{LOCAL}control-{kind}", "value": text} for kind, text in kinds if text],
            "code": {"text": period.material},
            "description": f"control material, level {period.level}" if period.level else "control material",
            "instance": [{"identifier": {"system": LOCAL + "control-lot", "value": period.lot}, **expires}],
        }
    )


def _observation(period: OwnPeriod, laboratory: str) -> Json:
    begin, end = month(period.period)
    name = f"{period.analyzer_id} {period.module} {period.test_id} {period.lot_id} {period.period}"
    codings = [{"system": LOINC, "code": period.loinc}] if period.loinc else []
    return _said(
        {
            "resourceType": "Observation",
            "id": str(uuid5(_NAMES, name)),
            "status": "final" if period.complete else "preliminary",  # the month goes on
            "category": [{"text": "quality control"}],
            "code": {
                "coding": [*codings, {"system": TEST_SYSTEM, "code": period.test, "display": period.test_name}],
                "text": period.test_name or period.test,
            },
            "subject": {"reference": f"urn:uuid:{period.analyzer_id}"},
            "focus": [{"reference": f"urn:uuid:{period.lot_id}"}],
            "effectivePeriod": {"start": instant(begin), "end": instant(end - timedelta(seconds=1))},
            "performer": [{"display": laboratory}] if laboratory else None,
            "note": [{"text": f"module {period.module}"}] if period.module else None,
            "component": _components(period, period.own),
        }
    )


def _components(period: OwnPeriod, of: Statistics) -> list[Json]:
    told: list[tuple[Json, Decimal | None, str]] = [
        (_code("count"), Decimal(of.n), "1"),
        (_code("average"), rounded_mean(of.mean, period), period.unit),
        (_code("std-dev"), rounded_sd(of.sd, period), period.unit),
        (_code("minimum"), of.minimum, period.unit),
        (_code("maximum"), of.maximum, period.unit),
        (_CV, presented(of.cv), "%"),
    ]
    return [{"code": code, "valueQuantity": _quantity(value, unit)} for code, value, unit in told if value is not None]


def _code(code: str) -> Json:
    return {"coding": [{"system": STATISTICS, "code": code}]}


def _quantity(value: Decimal, unit: str) -> Json:
    return {"value": value} if not unit else {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _said(resource: dict[str, Any]) -> Json:
    """Without what is not said: R4 has no nulls and nothing empty."""
    return {name: value for name, value in resource.items() if value}

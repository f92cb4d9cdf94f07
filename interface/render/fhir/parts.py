"""What FHIR resources are made of: names of systems, identifiers, codes, quantities, instants."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from interface.domain.systems import BARCODE_SYSTEM as BARCODE_SYSTEM
from interface.domain.systems import LOCAL as LOCAL
from interface.domain.systems import LOINC as LOINC
from interface.domain.systems import ORDER_SYSTEM as ORDER_SYSTEM
from interface.domain.systems import PLACER_SYSTEM as PLACER_SYSTEM
from interface.domain.systems import SNOMED as SNOMED
from interface.domain.systems import SPECIMEN_TYPE_SYSTEM as SPECIMEN_TYPE_SYSTEM
from interface.domain.systems import TERMINOLOGY as TERMINOLOGY
from interface.domain.systems import TEST_SYSTEM as TEST_SYSTEM
from interface.domain.systems import UCUM as UCUM
from interface.domain.systems import authority_of as authority_of
from interface.domain.systems import placer_system_of
from interface.domain.systems import system_of as system_of
from interface.domain.views import IdentifierView, OrderView

Json = dict[str, Any]
ABSENT_SYSTEM = TERMINOLOGY + "data-absent-reason"
INTERPRETATION = TERMINOLOGY + "v3-ObservationInterpretation"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def instant(at: datetime) -> str:
    """FHIR instant and dateTime: seconds and zone always, fractions when there are any."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def reference(kind: str, id: UUID | None) -> Json | None:
    """A relative reference, None for none."""
    return None if id is None else {"reference": f"{kind}/{id}"}


def clean(text: str) -> str:
    """Text without what a FHIR string may not hold: control characters, blanks around it."""
    return _CONTROL.sub(" ", text).strip()


def without_empty(resource: Mapping[str, Any]) -> Json:
    """The resource without elements that say nothing."""
    return {name: value for name, value in resource.items() if value or value is False or isinstance(value, Decimal)}


def meta(version: int | str | UUID, updated_at: datetime) -> Json:
    return {"versionId": str(version), "lastUpdated": instant(updated_at)}


def version_of(updated_at: datetime) -> str:
    """A versionId for what is put together from several rows: the microsecond of the last change of any of them, from
    which the version can be put together again (`store.history`)."""
    return str((updated_at - _EPOCH) // timedelta(microseconds=1))


def concept(code: str, name: str, loinc: str) -> Json:
    """A test: its LOINC code where there is one, and the laboratory's own."""
    display = clean(name)
    codings = [without_empty({"system": LOINC, "code": loinc})] if loinc else []
    if code:
        codings.append(without_empty({"system": TEST_SYSTEM, "code": code, "display": display}))
    return without_empty({"coding": codings, "text": display or code or loinc})


def quantity(number: Decimal | None, unit: str) -> Json | None:
    if number is None:
        return None
    return without_empty({"value": number, "unit": unit, "system": UCUM if unit else "", "code": unit})


def identifier(identifier: IdentifierView) -> Json:
    kind = {"coding": [{"system": TERMINOLOGY + "v2-0203", "code": identifier.type}]} if identifier.type else None
    return without_empty({"type": kind, "system": system_of(identifier.authority), "value": clean(identifier.value)})


def performed_by(laboratory_id: UUID, title: str, name: str) -> Json:
    return {"reference": f"Organization/{laboratory_id}", "display": clean(title) or clean(name)}


def order_identifier(kind: str, system: str, value: str) -> Json | None:
    """v2-to-FHIR: ORC-2 is of type PLAC, ORC-3 of type FILL."""
    if not value:
        return None
    return {
        "type": {"coding": [{"system": TERMINOLOGY + "v2-0203", "code": kind}]},
        "system": system,
        "value": clean(value),
    }


def order_identifiers(order: OrderView, placers: Sequence[IdentifierView] | None = None) -> list[Json]:
    """`placers`: the numbers by which a request of the order is known; None: its own."""
    if placers is None:
        placers = (IdentifierView(order.placer_authority, order.placer_number),)
    each = (
        order_identifier("FILL", ORDER_SYSTEM, order.number),
        *(order_identifier("PLAC", placer_system_of(one.authority), one.value) for one in placers),
    )
    return [one for one in each if one is not None]

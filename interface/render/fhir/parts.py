"""What FHIR resources are made of: names of systems, identifiers, codes, quantities, instants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from interface.domain.views import IdentifierView, OrderView

Json = dict[str, Any]
LOINC, UCUM, SNOMED = "http://loinc.org", "http://unitsofmeasure.org", "http://snomed.info/sct"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
INTERPRETATION = TERMINOLOGY + "v3-ObservationInterpretation"
# What the laboratory names itself. A site's own authority may be a URI, which is then used as it is.
LOCAL = "urn:labora:"
TEST_SYSTEM, SPECIMEN_TYPE_SYSTEM = LOCAL + "test", LOCAL + "specimen-type"
ORDER_SYSTEM, PLACER_SYSTEM, BARCODE_SYSTEM = LOCAL + "order", LOCAL + "placer-order", LOCAL + "specimen"

# v3-ObservationInterpretation: what the table 0078 map of v2-to-FHIR names as targets
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", re.ASCII)
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


def meta(version: int | str, updated_at: datetime) -> Json:
    return {"versionId": str(version), "lastUpdated": instant(updated_at)}


def version_of(version: int, updated_at: datetime) -> str:
    """A versionId for what is put together from several rows: it changes when any of them does."""
    return f"{version}-{int(updated_at.timestamp() * 1_000_000)}"


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


def system_of(authority: str) -> str:
    """The identifier system of an assigning authority: itself when it is a URI, else one made of its name."""
    if not authority:
        return LOCAL + "patient"
    return authority if _URI.fullmatch(authority) else LOCAL + "authority:" + quote(authority, safe="")


def authority_of(system: str) -> str:
    """The assigning authority that `system_of` made the system of."""
    if system == LOCAL + "patient":
        return ""
    prefix = LOCAL + "authority:"
    return unquote(system.removeprefix(prefix)) if system.startswith(prefix) else system


def identifier(identifier: IdentifierView) -> Json:
    kind = {"coding": [{"system": TERMINOLOGY + "v2-0203", "code": identifier.type}]} if identifier.type else None
    return without_empty({"type": kind, "system": system_of(identifier.authority), "value": clean(identifier.value)})


def order_identifier(kind: str, system: str, value: str) -> Json | None:
    """v2-to-FHIR: ORC-2 is of type PLAC, ORC-3 of type FILL."""
    if not value:
        return None
    return {
        "type": {"coding": [{"system": TERMINOLOGY + "v2-0203", "code": kind}]},
        "system": system,
        "value": clean(value),
    }


def order_identifiers(order: OrderView) -> list[Json]:
    both = (
        order_identifier("FILL", ORDER_SYSTEM, order.number),
        order_identifier("PLAC", PLACER_SYSTEM, order.placer_number),
    )
    return [one for one in both if one is not None]

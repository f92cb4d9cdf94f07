"""The URIs that say whose code or identifier something is, as FHIR names them. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
SNOMED: Final = "http://snomed.info/sct"
TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
# What the laboratory names itself. A site's own authority may be a URI, which is then used as it is.
LOCAL: Final = "urn:labora:"
TEST_SYSTEM: Final = LOCAL + "test"
SPECIMEN_TYPE_SYSTEM: Final = LOCAL + "specimen-type"
ORDER_SYSTEM: Final = LOCAL + "order"
PLACER_SYSTEM: Final = LOCAL + "placer-order"
BARCODE_SYSTEM: Final = LOCAL + "specimen"
ORGANIZATION_SYSTEM: Final = LOCAL + "organization"
ANALYZER_SYSTEM: Final = LOCAL + "analyzer"
SERIAL_SYSTEM: Final = LOCAL + "serial"

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", re.ASCII)


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


def placer_system_of(authority: str) -> str:
    """The system of a placer's number: its authority's, or ours where it is nobody's in particular."""
    return system_of(authority) if authority else PLACER_SYSTEM


def placer_authority_of(system: str) -> str:
    """The authority that `placer_system_of` made the system of."""
    return "" if system == PLACER_SYSTEM else authority_of(system) or system

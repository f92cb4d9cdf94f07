"""Paths of fields as a `driver.toml` writes them. Pure."""

from __future__ import annotations

import re

from interface.domain.table import Form
from interface.driver.rules import FieldPath

_PATH = re.compile(r"(?:([A-Z])\.|([A-Z][A-Z0-9]{2})-)([1-9][0-9]?)(?:\.([1-9][0-9]?))?(?:\.([1-9][0-9]?))?")
_NUMBER = r"[1-9][0-9]?"
# The same for readers of the JSON Schema: LIS2 has no subcomponents.
_PATTERN = rf"[A-Z]\.{_NUMBER}(?:\.{_NUMBER})?|[A-Z][A-Z0-9]{{2}}-{_NUMBER}(?:\.{_NUMBER}){{0,2}}"


def parse_places(text: str) -> tuple[FieldPath, ...]:
    """`R.3.4 + R.3.8`: what stands at several places makes one; raises ValueError."""
    return tuple(parse_path(part.strip()) for part in text.split(" + "))


def parse_path(text: str) -> FieldPath:
    """`R.3.5`, `OBX-3.1`; raises ValueError."""
    match = _PATH.fullmatch(text)
    if match is None or (match[1] and match[5]):
        raise ValueError(f"{text!r} is not a field path such as R.3.5 or OBX-3.1")
    component, subcomponent = (int(group) if group else None for group in (match[4], match[5]))
    return FieldPath(match[1] or match[2], int(match[3]), component, subcomponent)


# What stands at one place; alternatives of one place or of several that make one.
PATH = Form(parse_path, f"^(?:{_PATTERN})$")
PLACES = Form(parse_places, rf"^(?:{_PATTERN})(?: \+ (?:{_PATTERN}))*$")

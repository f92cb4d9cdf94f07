"""JSON with exact decimals: `5.10` stays `5.10` (FHIR R4 "decimal": precision is kept)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson


def dumps(value: Any) -> bytes:
    """`value` as JSON. Decimals keep every digit, datetimes are RFC 3339. Raises ValueError for NaN and infinity."""
    try:
        return orjson.dumps(value, default=_fragment, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        raise ValueError(str(error)) from error


def _fragment(value: object) -> object:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("JSON has no NaN and no infinity")
        return orjson.Fragment(str(value))
    if isinstance(value, UUID):  # the database driver's own subclass, which orjson does not take
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"no JSON for {type(value).__name__}")

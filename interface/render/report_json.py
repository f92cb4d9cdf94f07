"""A report's content as JSON and back, for its row: decimals as texts, so that 5.10 stays 5.10."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

import orjson

from interface.domain.report import OrderReport

T = TypeVar("T")
_SCALARS: Mapping[type, Callable[[Any], Any]] = {
    datetime: datetime.fromisoformat, date: date.fromisoformat, Decimal: Decimal,
}  # fmt: skip


def dumps(report: OrderReport) -> bytes:
    """The same report is the same bytes."""
    return orjson.dumps(report, default=str, option=orjson.OPT_UTC_Z)


def loads(data: bytes) -> OrderReport:
    """What `dumps` wrote; a field that a later version of Labora has added is as it is by default."""
    made: OrderReport = _made(OrderReport, orjson.loads(data))
    return made


def digest(report: OrderReport, merged: Sequence[UUID] = ()) -> bytes:
    """SHA-256 of what makes a version of it. `merged`: the patient's other records that it tells earlier results of;
    where that merge is taken back, they are another person's."""
    return hashlib.sha256(b"".join((dumps(report.content), *(id.bytes for id in merged)))).digest()


@lru_cache(maxsize=64)
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _made(kind: Any, value: Any) -> Any:
    origin = get_origin(kind)
    if origin is UnionType:  # the only unions are with None
        if value is None:
            return None
        [kind] = [each for each in get_args(kind) if each is not NoneType]
        return _made(kind, value)
    if origin is tuple:
        return tuple(_made(get_args(kind)[0], each) for each in value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{field.name: _made(hints[field.name], value[field.name]) for field in fields(kind)
                       if field.name in value})  # fmt: skip
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return _SCALARS[kind](value) if kind in _SCALARS else value

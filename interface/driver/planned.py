"""What a simulated analyzer is to say, before it is written. Pure: numbers and times come from outside."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from interface.domain.model import Observed, SpecimenRole, Value, ValueKind
from interface.domain.values import numeric

_TOKEN = re.compile(r"[0-9]+(?:([.,])([0-9]+))?(?:[eE][+-]?[0-9]+)?")
_TIME = re.compile(r"([0-9]{8})([0-9]{2})?([0-9]{2})?([0-9]{2})?(\.[0-9]{1,4})?([+-][0-9]{4})?")


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a message is made and which it is. `at`: the instrument's own clock, which has no zone."""

    at: datetime
    control_id: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """One result. `raw`: the value's field as it is to be sent; `like`: the result it is written in the shape of."""

    like: Observed
    raw: str
    value: Value
    flags: tuple[str, ...]
    unit: str

    @property
    def code(self) -> str:
        return self.like.code


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured of one specimen."""

    specimen_id: str
    role: SpecimenRole = SpecimenRole.PATIENT
    results: tuple[Measured, ...] = ()
    codes: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", frozenset(one.code for one in self.results))


def again(seen: Observed) -> Measured:
    """The same result once more."""
    return Measured(seen, seen.raw_value, seen.value, seen.flags, seen.unit)


def revalued(seen: Observed, number: Decimal) -> Measured:
    """The result with another number, rounded to the digits that the analyzer prints; the same where it has none.

    A comparator stays with its number: `<0.5` is the end of a scale.
    """
    value = seen.value
    if value.kind is not ValueKind.NUMERIC or value.number is None or value.comparator is not None:
        return again(seen)
    for match in reversed(list(_TOKEN.finditer(seen.raw_value))):
        if "e" in match[0].lower() or _read(match[0]) != abs(value.number):
            continue
        places = len(match[2] or "")
        digits = f"{abs(number).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):f}"
        if match[0].startswith("0") and not match[0].startswith(("0.", "0,")):
            digits = digits.zfill(len(match[0]))
        if len(digits) != len(match[0]):
            continue  # it might not fit where this one stood
        raw = seen.raw_value[: match.start()] + digits.replace(".", match[1] or ".") + seen.raw_value[match.end() :]
        sign = -1 if value.number < 0 else 1
        return Measured(seen, raw, numeric(sign * Decimal(digits)), seen.flags, seen.unit)
    return again(seen)


def _read(token: str) -> Decimal | None:
    try:
        return Decimal(token.replace(",", "."))
    except InvalidOperation:
        return None


def flagged(result: Measured, flag: str) -> Measured:
    """With this flag alone; with none where it is ""."""
    return replace(result, flags=(flag,) if flag else ())


def timed(before: str, at: datetime) -> str:
    """Another time in the form of `before`; anything that is not plainly year to second stays as it is."""
    match = _TIME.fullmatch(before.strip())
    if match is None:
        return before
    made = at.strftime("%Y%m%d%H%M%S")[: sum(len(match[n] or "") for n in range(1, 5))]
    return before.replace(match[0], made + (match[5] or "") + (match[6] or ""))

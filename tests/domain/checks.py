"""Facts and rules as the tests of checks write them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypeVar

from interface.domain.facts import Facts, PreviousResult, Sibling, Subject
from interface.domain.model import Comparator, HoldReason, LabTest, Sex, Value, ValueKind
from interface.domain.table import Table
from interface.domain.units import UNKNOWN_SUBSTANCE, Substance

X = TypeVar("X")
NOW = datetime(2026, 3, 10, 8, 0, tzinfo=UTC)
ADULT = Subject(
    sex=Sex.FEMALE, birth_date=date(1980, 5, 17), specimen_type="SER", collected_at=NOW, age_d=16_733
)  # 45 years


def number(text: str) -> Value:
    """`<=3.5` is a number with a comparator; what is no number is a word."""
    digits = text.lstrip("<>=")
    sign = text[: len(text) - len(digits)]
    try:
        return Value(ValueKind.NUMERIC, digits, Decimal(digits), Comparator(sign) if sign else None)
    except ArithmeticError:
        return Value(ValueKind.TEXT, text)


def sibling(code: str, value: str, unit: str = "", *, holds: tuple[HoldReason, ...] = ()) -> Sibling:
    return Sibling(code, number(value), unit, holds=holds, version_id=f"v-{code}")


def siblings(*given: Sibling) -> Mapping[str, Sibling]:
    return {one.test: one for one in given}


def facts(
    value: str,
    unit: str = "mmol/L",
    *,
    test: str = "K",
    substance: Substance = UNKNOWN_SUBSTANCE,
    subject: Subject = ADULT,
    previous: PreviousResult | None = None,
    low: str | None = None,
    high: str | None = None,
    around: Mapping[str, Sibling] | None = None,
    analyzer: str = "",
    method: str = "",
    dilution: str | None = "1",
    flags: tuple[str, ...] = (),
    holds: tuple[HoldReason, ...] = (),
    follow_ups: int = 0,
) -> Facts:
    return Facts(
        test=LabTest(f"t-{test}", test, test, unit=unit, decimals=1, substance=substance),
        value=number(value),
        unit=unit,
        subject=subject,
        previous=previous,
        low=Decimal(low) if low else None,
        high=Decimal(high) if high else None,
        siblings=around or {},
        analyzer=analyzer,
        method=method,
        dilution=Decimal(dilution) if dilution else None,
        flags=flags,
        holds=holds,
        follow_ups=follow_ups,
    )


def read(parse: Callable[[Table], X], text: str) -> X:
    """One entry from the TOML of its keys, in which there is nothing wrong."""
    made, problems = attempt(parse, text)
    assert problems == []
    return made


def attempt(parse: Callable[[Table], X], text: str) -> tuple[X, list[str]]:
    """The entry and what is wrong with it."""
    table = Table(tomllib.loads(text, parse_float=Decimal), "entry", [])
    made = parse(table)
    table.finish()
    return made, table.problems

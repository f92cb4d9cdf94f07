"""Ranges a value must lie in to be a result: measuring, reportable, plausible. `[[range]]` of a rule set. Pure.

* `measuring`: what the analyzer measured, before any dilution is counted in, must lie in it. `<x` at or below its lower
  limit, or `>x` at or above its upper one, is how such a value is told; whether it may be reported so is the rule's.
* `reportable`: the result itself, with its dilution.
* `absurd`: outside it no living patient's result lies; a swapped or spoiled specimen's does.

`<x` and `>x` are judged as all they may stand for: straddling a limit holds, as being outside does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final

from interface.domain import scope
from interface.domain.exact import EXACT, in_unit_of, measurable
from interface.domain.facts import Facts, Finding, Verdict
from interface.domain.flags import side
from interface.domain.model import Comparator, HoldReason, Value, ValueKind
from interface.domain.scope import EVERYTHING, Scope
from interface.domain.table import Table
from interface.domain.verdicts import Memo, said
from interface.errors import UnknownUnit

CHECK = "range"
# Digits before the point. The largest numbers that laboratories report have fourteen and fifteen: erythrocytes in a
# litre (10^13), copies of parvovirus B19 in a millilitre (10^14). Of more a program that reckons in double precision
# does not keep each: it is what one prints for a number that it does not have (FLT_MAX has 39).
MOST_DIGITS: Final = 15
_BELOW_ZERO = "below zero, which no limit of the test admits"
_TOO_LARGE = "of more than fifteen digits before the point, which no limit of the test admits"
_BELOW = frozenset({Comparator.LT, Comparator.LE})


class RangeKind(StrEnum):
    MEASURING = "measuring"
    REPORTABLE = "reportable"
    ABSURD = "absurd"


_REASONS = {
    RangeKind.MEASURING: (HoldReason.MEASURING_RANGE,),
    RangeKind.REPORTABLE: (HoldReason.MEASURING_RANGE,),
    RangeKind.ABSURD: (HoldReason.IMPLAUSIBLE,),
}
_INSIDE = {
    RangeKind.MEASURING: "within the measuring range",
    RangeKind.REPORTABLE: "within the reportable range",
    RangeKind.ABSURD: "a living patient may have it",
}
_OUTSIDE = {
    RangeKind.MEASURING: "outside the measuring range",
    RangeKind.REPORTABLE: "outside the reportable range",
    RangeKind.ABSURD: "no living patient has it",
}


@dataclass(frozen=True, slots=True)
class Range:
    """Limits are inclusive. `report_below`, `report_above`: `<low`, `>high` may be reported so (measuring only)."""

    name: str
    test: str
    kind: RangeKind
    low: Decimal | None
    high: Decimal | None
    unit: str = ""  # "" is the test's
    report_below: bool = False
    report_above: bool = False
    scope: Scope = EVERYTHING
    source: str = ""
    tests: tuple[str, ...] = field(init=False)
    memo: Memo = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tests", (self.test,))


def parse(entry: Table) -> Range:
    """One `[[range]]`. Says what is wrong to the table; what comes back then is of no use."""
    test, kind = entry.text("test", None), entry.choice("kind", RangeKind, RangeKind.ABSURD)
    low, high = entry.decimal("low"), entry.decimal("high")
    if low is None and high is None and not {"low", "high"} & entry.raw.keys():
        entry.say(entry.path, "says neither low nor high")
    if low is not None and high is not None and low >= high:
        entry.say(entry.at("high"), "is not above low")
    below, above = entry.flag("report_below"), entry.flag("report_above")
    for key, wanted, limit in (("report_below", below, low), ("report_above", above, high)):
        if wanted and (kind is not RangeKind.MEASURING or limit is None):
            entry.say(entry.at(key), "is for a measuring range with that limit")
    return Range(
        name=entry.text("name") or f"{test} {kind.value}",
        test=test,
        kind=kind,
        low=low,
        high=high,
        unit=entry.text("unit"),
        report_below=below,
        report_above=above,
        scope=scope.parse(entry),
        source=entry.text("source"),
    )


def check(rules: tuple[Range, ...], facts: Facts, version: str = "") -> tuple[Verdict, ...]:
    """Each rule of the test on the result."""
    return tuple([_checked(rule, facts, version) for rule in rules])


def unmeasurable(rules: tuple[Range, ...], facts: Facts, version: str = "") -> tuple[Verdict, ...]:
    """What is held though no range says so: a number that no test has of which the laboratory does not say that it
    has."""
    number = facts.value.number
    if number is None:
        return ()
    verdicts: tuple[Verdict, ...] = ()
    if number.is_signed() and number:  # most are not: all of it is asked of these alone
        verdicts += below_zero(rules, facts, version)
    if beyond_measure(number):
        verdicts += too_large(rules, facts, version)
    return verdicts


def below_zero(rules: tuple[Range, ...], facts: Facts, version: str = "") -> tuple[Verdict, ...]:
    """Of a number below zero: whether anything that the laboratory says of the test admits one, be it a limit of its
    interval, of its critical values or of a range. A concentration, a count, an activity cannot be below zero; a base
    excess can, and has such limits."""
    admitted = any(limit is not None and limit.is_signed() and limit for limit in _limits(rules, facts))
    if facts.value.kind is not ValueKind.NUMERIC or admitted:
        return ()
    return (Verdict(CHECK, Finding.HOLD, _BELOW_ZERO, "", version, holds=_REASONS[RangeKind.ABSURD]),)


def too_large(rules: tuple[Range, ...], facts: Facts, version: str = "") -> tuple[Verdict, ...]:
    """Of a number that is `beyond_measure`: whether a limit of the test is as well, and so admits one."""
    admitted = any(limit is not None and beyond_measure(limit) for limit in _limits(rules, facts))
    if facts.test.kind is not ValueKind.NUMERIC or facts.value.kind is not ValueKind.NUMERIC or admitted:
        return ()
    return (Verdict(CHECK, Finding.HOLD, _TOO_LARGE, "", version, holds=_REASONS[RangeKind.ABSURD]),)


def beyond_measure(number: Decimal) -> bool:
    """Whether it is larger than anything that is measured."""
    return bool(number) and number.adjusted() >= MOST_DIGITS


def _limits(rules: tuple[Range, ...], facts: Facts) -> list[Decimal | None]:
    """All that the laboratory names for the test, whatever it is for."""
    limits = [facts.low, facts.high, facts.critical_low, facts.critical_high]
    for rule in rules:
        limits += (rule.low, rule.high)
    return limits


def _checked(rule: Range, facts: Facts, version: str) -> Verdict:
    value = facts.value
    number = value.number
    if value.kind is not ValueKind.NUMERIC:
        return _none(rule, version, "not a number")
    if number is None or not measurable(number):
        return _unknown(rule, version, "no number that can be measured")
    if rule.scope is not EVERYTHING:
        applies = rule.scope.applies(facts)
        if applies is None:
            return _unknown(rule, version, "what the rule asks for is not known of this result")
        if not applies:
            return _none(rule, version, "not of such a result")
    low: Decimal | None = rule.low
    high: Decimal | None = rule.high
    if rule.unit not in ("", facts.unit):
        try:
            low = low if low is None else in_unit_of(facts.test, low, rule.unit, facts.unit)
            high = high if high is None else in_unit_of(facts.test, high, rule.unit, facts.unit)
        except UnknownUnit:
            return _unknown(rule, version, "the rule's limits are in a unit that cannot be compared")
    if rule.kind is RangeKind.MEASURING and facts.dilution != 1:
        return _diluted(rule, facts.dilution, number, value, low, high, version)
    return _found(rule, value, low, high, version)


def _diluted(
    rule: Range, dilution: Decimal | None, number: Decimal, value: Value, low: Decimal | None, high: Decimal | None,
    version: str,
) -> Verdict:  # fmt: skip
    """What was measured in the dilution is the result divided by its factor; what is said names the factor."""
    if dilution is None:
        return _unknown(rule, version, "whether it was diluted, or how far, is not known")
    if not measurable(dilution) or dilution <= 0:
        return _unknown(rule, version, "the dilution is not above zero")
    measured = EXACT.divide(number, dilution)
    found = _found(rule, Value(value.kind, "", measured, value.comparator), low, high, version)
    factor = f"{dilution.normalize():f}"
    return replace(found, text=f"{found.text}, diluted 1:{factor}", inputs={**found.inputs, "dilution": factor})


def _found(rule: Range, value: Value, low: Decimal | None, high: Decimal | None, version: str) -> Verdict:
    found = side(value, low, high)
    if found == 0:
        return said(rule.memo, CHECK, Finding.PASS, _INSIDE[rule.kind], rule.name, version)
    if rule.kind is RangeKind.MEASURING and value.comparator is not None:
        told = _told(rule, value, low, high)
        if told is not None:
            return said(rule.memo, CHECK, Finding.PASS, told, rule.name, version)
    if found is None:
        return _unknown(rule, version, f"may be {_OUTSIDE[rule.kind]}")
    inputs = {"limit": f"{low if found == -1 else high:f}"}
    return Verdict(CHECK, Finding.HOLD, _OUTSIDE[rule.kind], rule.name, version, inputs, _REASONS[rule.kind])


def _told(rule: Range, value: Value, low: Decimal | None, high: Decimal | None) -> str | None:
    """`<x` at the lower limit and `>x` at the upper, where they may be reported so: `<0.5` of a range from 0.5."""
    if value.comparator in _BELOW and rule.report_below and low is not None and value.number is not None:
        return "below the measuring range, reported so" if value.number <= low else None
    if value.comparator not in _BELOW and rule.report_above and high is not None and value.number is not None:
        return "above the measuring range, reported so" if value.number >= high else None
    return None


def _unknown(rule: Range, version: str, text: str) -> Verdict:
    return said(rule.memo, CHECK, Finding.UNKNOWN, text, rule.name, version, _REASONS[rule.kind])


def _none(rule: Range, version: str, text: str) -> Verdict:
    return said(rule.memo, CHECK, Finding.NOT_APPLICABLE, text, rule.name, version)

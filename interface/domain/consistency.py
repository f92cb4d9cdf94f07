"""What several results of one specimen must have to do with each other. `[[consistency]]` of a rule set. Pure.

A relation is a sum of tests, each times a number, that must lie between two bounds: HCT - 3 HGB between -3 and 3,
TBIL - DBIL not below 0, the differential between 99 and 101. Or it is a test against a formula of others (`formulas`):
MCHC against HGB / HCT. It is evaluated for each of its tests, so that all that disagree are held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from interface.domain import scope
from interface.domain.exact import EXACT, in_unit, measurable, shown
from interface.domain.facts import Facts, Finding, Verdict
from interface.domain.formulas import FORMULAS, Formula, NoResult
from interface.domain.model import Comparator, HoldReason, ValueKind
from interface.domain.scope import EVERYTHING, Scope
from interface.domain.table import Table
from interface.domain.units import UNKNOWN_SUBSTANCE, Substance
from interface.domain.verdicts import Memo, said
from interface.errors import UnknownUnit

CHECK = "consistency"
_HOLDS = (HoldReason.INCONSISTENT,)
_BELOW = frozenset({Comparator.LT, Comparator.LE})
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Term:
    test: str
    factor: Decimal
    unit: str = ""  # which the bounds are thought in; "": as the test is reported


@dataclass(frozen=True, slots=True)
class Consistency:
    """The sum of `terms`, or the test less what `formula` makes of its inputs, lies in [low, high].

    `required`: a result whose companion is missing or held is held; if not required, the rule does not speak of
    a result without. `signed`: a value may be below zero (a base excess); else `<5` is taken as 0 to 5.
    """

    name: str
    terms: tuple[Term, ...]
    low: Decimal | None
    high: Decimal | None
    formula: Formula | None = None
    inputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # the formula's name → test
    required: bool = False
    signed: bool = False
    text: str = ""  # what a person reads when it does not hold
    scope: Scope = EVERYTHING
    source: str = ""
    tests: tuple[str, ...] = field(init=False)
    memo: Memo = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        tests = (*(term.test for term in self.terms), *self.inputs.values())
        object.__setattr__(self, "tests", tuple(dict.fromkeys(tests)))


def parse(entry: Table) -> Consistency:
    """One `[[consistency]]`. Says what is wrong to the table; what comes back then is of no use."""
    formula, inputs = _formula(entry)
    terms = _terms(entry, formula)
    low, high = entry.decimal("low"), entry.decimal("high")
    if low is None and high is None and not {"low", "high"} & entry.raw.keys():
        entry.say(entry.path, "says neither low nor high")
    if low is not None and high is not None and low > high:
        entry.say(entry.at("high"), "is below low")
    return Consistency(
        name=entry.text("name", None),
        terms=terms,
        low=low,
        high=high,
        formula=formula,
        inputs=MappingProxyType(inputs),
        required=entry.flag("required"),
        signed=entry.flag("signed"),
        text=entry.text("text", None),
        scope=scope.parse(entry),
        source=entry.text("source"),
    )


def _formula(entry: Table) -> tuple[Formula | None, dict[str, str]]:
    name, inputs = entry.text("formula"), entry.table("inputs")
    formula = FORMULAS.get(name)
    if name and formula is None:
        entry.say(entry.at("formula"), f"there is no formula {name!r}")
    if formula is not None:
        for wanted in formula.inputs:
            if wanted.name not in inputs.raw:
                inputs.say(inputs.at(wanted.name), "is missing: the test of this input")
        for key in inputs.raw:
            if key not in {wanted.name for wanted in formula.inputs}:
                inputs.say(inputs.at(key), f"{name} has no such input")
    elif inputs.raw and not name:
        entry.say(entry.at("inputs"), "are of a formula, and none is named")
    return formula, {key: inputs.text(key) for key in inputs.raw}


def _terms(entry: Table, formula: Formula | None) -> tuple[Term, ...]:
    units, written = entry.table("units"), entry.table("sum")
    if formula is not None:
        units.taken.update(units.raw)
        if written.raw:
            entry.say(entry.at("sum"), "stands beside a formula")
        test = entry.text("test", None)
        return (Term(test, Decimal(1), formula.unit),)
    terms = [Term(test, written.decimal(test) or _ZERO, units.text(test)) for test in written.raw]
    if len(terms) < 2:
        entry.say(entry.at("sum"), "does not name two tests or more, each with its factor")
    for term in terms:
        if not term.factor:
            written.say(written.at(term.test), "is zero")
    return tuple(terms)


def check(rules: tuple[Consistency, ...], facts: Facts, version: str = "") -> tuple[Verdict, ...]:
    """Each rule that the test has a part in, on the result and its companions."""
    return tuple([_checked(rule, facts, version) for rule in rules])


def _checked(rule: Consistency, facts: Facts, version: str) -> Verdict:
    if rule.scope is not EVERYTHING:
        applies = rule.scope.applies(facts)
        if applies is None:
            return _unknown(rule, version, "what the rule asks for is not known of this result")
        if not applies:
            return _none(rule, version, "not of such a result")
    own, siblings = facts.test.code, facts.siblings
    for test in rule.tests:
        if test != own and test not in siblings:
            if rule.required:
                return _unknown(rule, version, f"{test} of this specimen is missing")
            return _none(rule, version, f"{test} of this specimen is missing")
        if rule.required and test != own and siblings[test].holds:
            return _unknown(rule, version, f"{test} of this specimen is held")
    try:
        low, high = _formula_bounds(rule, facts) if rule.formula is not None else _sum_bounds(rule, facts)
    except UnknownUnit:
        return _unknown(rule, version, "a unit cannot be compared")
    except NoResult as error:
        return _unknown(rule, version, error.text)
    return _judged(rule, low, high, version)


def _judged(rule: Consistency, low: Decimal | None, high: Decimal | None, version: str) -> Verdict:
    """The sum is somewhere from `low` to `high`: certain only when the whole of that is on one side."""
    above = rule.low is None or (low is not None and low >= rule.low)
    below = rule.high is None or (high is not None and high <= rule.high)
    if above and below:
        return said(rule.memo, CHECK, Finding.PASS, "the results agree", rule.name, version)
    surely = (rule.low is not None and high is not None and high < rule.low) or (
        rule.high is not None and low is not None and low > rule.high
    )
    if not surely:
        return _unknown(rule, version, f"whether the results agree is not certain: {rule.text}")
    inputs = {} if low is None else {"found": shown(low, 3)}
    return Verdict(CHECK, Finding.HOLD, rule.text, rule.name, version, inputs, _HOLDS)


Bounds = tuple[Decimal | None, Decimal | None]


def _sum_bounds(rule: Consistency, facts: Facts) -> Bounds:
    low: Decimal | None = _ZERO
    high: Decimal | None = _ZERO
    for term in rule.terms:
        first, last = _value_bounds(term.test, term.unit, facts, rule.signed)
        if term.factor < 0:
            first, last = last, first
        if low is high and first is last:  # exact so far
            low = high = _plus(low, first, term.factor)
        else:
            low, high = _plus(low, first, term.factor), _plus(high, last, term.factor)
    return low, high


def _plus(total: Decimal | None, number: Decimal | None, factor: Decimal) -> Decimal | None:
    """None is without a bound."""
    return None if total is None or number is None else EXACT.add(total, EXACT.multiply(number, factor))


def _formula_bounds(rule: Consistency, facts: Facts) -> Bounds:
    """The reported value less the formula's: of exact numbers only."""
    formula = rule.formula
    if formula is None:
        return None, None
    inputs = {}
    for wanted in formula.inputs:
        first, last = _value_bounds(rule.inputs[wanted.name], wanted.unit, facts, rule.signed, wanted.substance)
        if first is None or first != last:
            raise NoResult(f"{rule.inputs[wanted.name]} is no exact number")
        inputs[wanted.name] = first
    first, last = _value_bounds(rule.terms[0].test, formula.unit, facts, rule.signed)
    made = formula.evaluate(inputs, facts.subject, {})
    return (
        None if first is None else EXACT.subtract(first, made),
        None if last is None else EXACT.subtract(last, made),
    )


def _value_bounds(test: str, unit: str, facts: Facts, signed: bool, substance: Substance = UNKNOWN_SUBSTANCE) -> Bounds:
    """From where to where the value may lie. Raises NoResult for what is no number, UnknownUnit."""
    if test == facts.test.code:
        value, has, substance = facts.value, facts.unit, facts.test.substance
    else:
        sibling = facts.siblings[test]
        value, has = sibling.value, sibling.unit
    number = value.number
    if number is None or value.kind is not ValueKind.NUMERIC or not measurable(number):
        raise NoResult(f"{test} is no number")
    if has != unit and unit:
        number = in_unit(number, has, unit, substance)
    if value.comparator is None:
        return number, number
    if value.comparator in _BELOW:
        return None if signed else min(_ZERO, number), number
    return number, None


def _unknown(rule: Consistency, version: str, text: str) -> Verdict:
    return said(rule.memo, CHECK, Finding.UNKNOWN, text, rule.name, version, _HOLDS)


def _none(rule: Consistency, version: str, text: str) -> Verdict:
    return said(rule.memo, CHECK, Finding.NOT_APPLICABLE, text, rule.name, version)

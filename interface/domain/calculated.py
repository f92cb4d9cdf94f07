"""Calculated tests: a result made of other results of the same specimen. `[[calculation]]` of a rule set. Pure.

Only exact numbers that nothing holds enter a calculation: with `<5`, words, a held or a missing input there is no
result, and the reason is said. The result is rounded half up, once, to the digits its test is reported with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from interface.domain.exact import exact_number, in_unit, rounded
from interface.domain.facts import Finding, Sibling, Subject
from interface.domain.formulas import FORMULAS, Formula, Input, NoResult
from interface.domain.model import LabTest, Step, Value, ValueKind
from interface.domain.subject import years_of
from interface.domain.table import Table
from interface.errors import UnknownUnit

CHECK = "calculation"
CORRECTED = "correct"  # the step of a value that a person put in the place of what was calculated
RULE, SEX, AGE = "rule", "sex", "age in years"  # in an explanation, beside the tests
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Calculation:
    """`target`: the code of the test that is made. `inputs`: the formula's name of each → the tests that may be it.

    Of several tests for one input (a creatinine in mg/dL, another in umol/L) the first that the specimen has is taken.
    """

    name: str
    target: str
    formula: Formula
    inputs: Mapping[str, tuple[str, ...]]
    parameters: Mapping[str, Decimal] = field(default_factory=lambda: MappingProxyType({}))
    specimen_types: frozenset[str] = frozenset()
    source: str = ""
    tests: tuple[str, ...] = field(init=False)  # with a result of any of them it is calculated anew

    def __post_init__(self) -> None:
        tests = dict.fromkeys(code for codes in self.inputs.values() for code in codes)
        object.__setattr__(self, "tests", tuple(tests))


@dataclass(frozen=True, slots=True)
class Calculated:
    """`value` None: there is no result, and `text` says why. `inputs`: the values that went in, by test; `of`: what the
    formula takes of the person. `made_of`: the versions of the results that went in."""

    target: str
    value: Value | None
    unit: str
    text: str
    finding: Finding
    rule: str
    version: str = ""
    inputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    made_of: tuple[str, ...] = ()
    of: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def explained(self) -> dict[str, str]:
        """What it is calculated from, as the inputs of its step."""
        return {RULE: self.rule} | dict(self.inputs) | dict(self.of)


def parse(entry: Table) -> Calculation:
    """One `[[calculation]]`. Says what is wrong to the table; what comes back then is of no use."""
    name = entry.text("formula", None)
    formula = FORMULAS.get(name)
    if formula is None:
        if name:
            entry.say(entry.at("formula"), f"there is no formula {name!r}: {', '.join(sorted(FORMULAS))}")
        formula = FORMULAS["non_hdl"]
        entry.table("inputs").taken.update(entry.raw.get("inputs") or ())
        entry.table("parameters").taken.update(entry.raw.get("parameters") or ())
        inputs: dict[str, tuple[str, ...]] = {}
        parameters: dict[str, Decimal] = {}
    else:
        inputs, parameters = _inputs(entry.table("inputs"), formula), _parameters(entry.table("parameters"), formula)
    target = entry.text("test", None)
    if any(target in codes for codes in inputs.values()):
        entry.say(entry.at("inputs"), "name the test itself")
    return Calculation(
        name=entry.text("name") or f"{target} {name}",
        target=target,
        formula=formula,
        inputs=MappingProxyType(inputs),
        parameters=MappingProxyType(parameters),
        specimen_types=frozenset(entry.texts("specimen_types")),
        source=entry.text("source"),
    )


def _inputs(table: Table, formula: Formula) -> dict[str, tuple[str, ...]]:
    inputs = {wanted.name: table.texts(wanted.name) for wanted in formula.inputs}
    for name, codes in inputs.items():
        if not codes and name not in table.raw:
            table.say(table.at(name), "is missing: the test, or tests, of this input")
    return inputs


def _parameters(table: Table, formula: Formula) -> dict[str, Decimal]:
    given = {}
    for name, default in formula.parameters.items():
        number = table.decimal(name)
        if number is not None and number <= 0:
            table.say(table.at(name), "is not above zero")
        elif number is not None:
            given[name] = number
        elif default is None and name not in table.raw:
            table.say(table.at(name), f"is missing: {formula.name} has no default for it")
    return given


def calculate(
    rule: Calculation, test: LabTest, siblings: Mapping[str, Sibling], subject: Subject, version: str = ""
) -> Calculated:
    """What the rule makes of the results of a specimen. `test`: the target, as the laboratory reports it."""
    inputs: dict[str, str] = {}
    made_of: list[str] = []
    of = _of(rule.formula, subject)
    try:
        if rule.specimen_types and subject.specimen_type not in rule.specimen_types:
            raise NoResult("not of such a specimen")
        numbers = {
            wanted.name: _number(wanted, rule.inputs[wanted.name], siblings, inputs, made_of)
            for wanted in rule.formula.inputs
        }
        exact = rule.formula.evaluate(numbers, subject, rule.parameters)
        exact = in_unit(exact, rule.formula.unit, test.unit or rule.formula.unit, test.substance)
    except UnknownUnit:
        return _none(rule, version, "a unit cannot be converted", inputs, made_of, of)
    except NoResult as error:
        return _none(rule, version, error.text, inputs, made_of, of)
    number = rounded(exact, rule.formula.decimals if test.decimals is None else test.decimals)
    return Calculated(
        target=rule.target,
        value=Value(ValueKind.NUMERIC, f"{number:f}", number),
        unit=test.unit or rule.formula.unit,
        text=f"by {rule.formula.name}",
        finding=Finding.PASS,
        rule=rule.name,
        version=version,
        inputs=MappingProxyType(inputs),
        made_of=tuple(made_of),
        of=of,
    )


def _of(formula: Formula, subject: Subject) -> Mapping[str, str]:
    """What the formula takes of the person."""
    of = {SEX: subject.sex.value} if formula.sexed else {}
    if formula.age_low_y is not None:
        of[AGE] = _years(subject)
    return MappingProxyType(of)


def _number(
    wanted: Input, codes: tuple[str, ...], siblings: Mapping[str, Sibling], inputs: dict[str, str], made_of: list[str]
) -> Decimal:
    sibling = next((siblings[code] for code in codes if code in siblings), None)
    if sibling is None:
        raise NoResult(f"{wanted.name} is missing")
    inputs[sibling.test] = _now(sibling)
    if sibling.version_id:
        made_of.append(sibling.version_id)
    if sibling.holds:
        raise NoResult(f"{sibling.test} is held")
    number = exact_number(sibling.value)
    if number is None:
        raise NoResult(f"{sibling.test} is no exact number")
    return in_unit(number, sibling.unit, wanted.unit, wanted.substance)


def _none(
    rule: Calculation, version: str, text: str, inputs: dict[str, str], made_of: list[str], of: Mapping[str, str]
) -> Calculated:
    return Calculated(
        rule.target,
        None,
        "",
        text,
        Finding.NOT_APPLICABLE,
        rule.name,
        version,
        MappingProxyType(inputs),
        tuple(made_of),
        of,
    )


# ---- what a result was calculated from, afterwards -------------------------------------------------------------------


def inputs_of(steps: Sequence[Step]) -> Mapping[str, str] | None:
    """The inputs of the calculation that an explanation's value is of; None where the value is none, or a person's."""
    last = next((step for step in reversed(steps) if step.step in (CHECK, CORRECTED)), None)
    return last.inputs if last is not None and last.step == CHECK else None


def outdated(inputs: Mapping[str, str], siblings: Mapping[str, Sibling], subject: Subject) -> list[str]:
    """Which of the inputs are others now, each in words; `siblings`: the results of the specimen as they are now."""
    found = []
    for name, was in inputs.items():
        if name == SEX and was != subject.sex:
            found.append(f"the patient's sex was {was}, is {subject.sex}")
        elif name == AGE and was != (now := _years(subject)):
            found.append(f"the patient's age at collection was {was} years, is {now}")
        elif name not in (RULE, SEX, AGE) and (now := _now(siblings.get(name))) != was:
            found.append(f"{name} was {was}, is {now}")
    return found


def _years(subject: Subject) -> str:
    years = years_of(subject)
    return _UNKNOWN if years is None else str(years)


def _now(sibling: Sibling | None) -> str:
    if sibling is None:
        return "not reported any more"
    return "held" if sibling.holds else f"{sibling.value.comparator or ''}{sibling.value.text}"

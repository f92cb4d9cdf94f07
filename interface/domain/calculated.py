"""Calculated tests: a result made of other results of the same specimen. `[[calculation]]` of a rule set. Pure.

Only exact numbers that nothing holds enter a calculation: with `<5`, words, a held or a missing input there is no
result, and the reason is said. The result is rounded half up, once, to the digits its test is reported with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from interface.domain.exact import exact_number, in_unit, rounded
from interface.domain.facts import Finding, Sibling, Subject
from interface.domain.formulas import FORMULAS, Formula, Input, NoResult
from interface.domain.model import LabTest, Value, ValueKind
from interface.domain.table import Table
from interface.errors import UnknownUnit

CHECK = "calculation"


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
    """`value` None: there is no result, and `text` says why. `made_of`: the versions of the results that went in."""

    target: str
    value: Value | None
    unit: str
    text: str
    finding: Finding
    rule: str
    version: str = ""
    inputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    made_of: tuple[str, ...] = ()


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
        return _none(rule, version, "a unit cannot be converted", inputs, made_of)
    except NoResult as error:
        return _none(rule, version, error.text, inputs, made_of)
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
    )


def _number(
    wanted: Input, codes: tuple[str, ...], siblings: Mapping[str, Sibling], inputs: dict[str, str], made_of: list[str]
) -> Decimal:
    sibling = next((siblings[code] for code in codes if code in siblings), None)
    if sibling is None:
        raise NoResult(f"{wanted.name} is missing")
    inputs[sibling.test] = f"{sibling.value.comparator or ''}{sibling.value.text}"
    if sibling.version_id:
        made_of.append(sibling.version_id)
    if sibling.holds:
        raise NoResult(f"{sibling.test} is held")
    number = exact_number(sibling.value)
    if number is None:
        raise NoResult(f"{sibling.test} is no exact number")
    return in_unit(number, sibling.unit, wanted.unit, wanted.substance)


def _none(rule: Calculation, version: str, text: str, inputs: dict[str, str], made_of: list[str]) -> Calculated:
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
    )

"""Whatever stands in a result, its companions or its history: the checks answer, and what is no number passes none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain import judging
from interface.domain.calculated import calculate
from interface.domain.facts import Facts, Finding, PreviousResult, Sibling
from interface.domain.model import Comparator, Sex, Value, ValueKind
from tests.domain.checks import ADULT, NOW
from tests.domain.test_default_rules import RULES, TESTS

CODES = ["NA", "CL", "CO2", "CREA", "K", "H_INDEX", "HGB", "HCT", "MCHC", "CHOL", "HDL", "TRIG", "INR"]
NUMBERS = st.decimals(allow_nan=True, allow_infinity=True) | st.sampled_from(
    [Decimal(text) for text in ("0", "-0", "NaN", "sNaN", "Infinity", "-Infinity", "1E+999999", "1E-999999", "9" * 40)]
)
OWN = "the test's own"
UNITS = st.just(OWN) | st.sampled_from(
    ["", "1", "mmol/L", "mg/dL", "g/dL", "%", "fL", "pg", "{ratio}", "10*6/uL", "nonsense"]
)
ANY_VALUE = st.builds(
    Value, st.sampled_from(list(ValueKind)), st.text(max_size=5), st.none() | NUMBERS,
    st.none() | st.sampled_from(list(Comparator)),
)  # fmt: skip
A_NUMBER = st.builds(
    Value, st.just(ValueKind.NUMERIC), st.just(""), NUMBERS, st.none() | st.sampled_from(list(Comparator))
)
VALUES = A_NUMBER | A_NUMBER | ANY_VALUE
AROUND = st.dictionaries(st.sampled_from(CODES), st.tuples(VALUES, UNITS), max_size=30)


@settings(max_examples=100)
@given(
    st.sampled_from(CODES), VALUES, UNITS, AROUND, st.none() | st.tuples(VALUES, UNITS, st.integers(-40, 40)),
    st.none() | NUMBERS, st.sampled_from(list(Sex)), st.none() | st.integers(0, 40_000),
)  # fmt: skip
def test_no_facts_make_a_check_fail(
    code: str,
    value: Value,
    unit: str,
    around: dict[str, tuple[Value, str]],
    before: tuple[Value, str, int] | None,
    dilution: Decimal | None,
    sex: Sex,
    age_d: int | None,
) -> None:
    siblings = {test: Sibling(test, other, _unit(test, its)) for test, (other, its) in around.items()}
    previous = None
    if before is not None:
        previous = PreviousResult(before[0], _unit(code, before[1]), NOW - timedelta(days=before[2]), "v")
    subject = replace(ADULT, sex=sex, age_d=age_d)
    facts = Facts(
        TESTS[code], value, _unit(code, unit), subject, low=Decimal(1), high=Decimal(9), previous=previous,
        siblings=siblings, dilution=dilution,
    )  # fmt: skip
    judged = judging.check(RULES, facts)
    for verdict in judged.verdicts:
        assert bool(verdict.holds) is (verdict.finding in (Finding.HOLD, Finding.UNKNOWN))
    no_number = value.kind is ValueKind.NUMERIC and (value.number is None or not value.number.is_finite())
    if no_number:
        assert all(one.finding is not Finding.PASS for one in judged.verdicts)
    for rule in RULES.of(code).calculations:
        made = calculate(rule, TESTS[rule.target], siblings, subject)
        assert made.value is None or (made.value.number is not None and made.value.number.is_finite())


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+999999", "1E-999999"])
def test_what_cannot_be_measured_passes_no_check(text: str) -> None:
    wild, plain = (Value(ValueKind.NUMERIC, "", number) for number in (Decimal(text), Decimal(5)))
    around = {code: Sibling(code, wild, TESTS[code].unit) for code in CODES}
    for code in CODES:
        unit = TESTS[code].unit
        for value, before in ((wild, plain), (wild, wild), (plain, wild)):
            previous = PreviousResult(before, unit, NOW - timedelta(days=1), "v")
            judged = judging.check(RULES, Facts(TESTS[code], value, unit, ADULT, previous=previous, siblings=around))
            passed = {one.check for one in judged.verdicts if one.finding is Finding.PASS}
            assert passed <= ({"range"} if value is plain else set())


def _unit(code: str, unit: str) -> str:
    return TESTS[code].unit if unit == OWN else unit

"""The shipped rule set: it is read without a fault, is of tests and units there are, and says where it is from."""

from __future__ import annotations

import tomllib
from collections import Counter
from decimal import Decimal
from itertools import pairwise

import pytest

from interface.domain import consistency, delta, indices, ranges
from interface.domain.calculated import Calculation, calculate
from interface.domain.facts import Facts, Finding, PreviousResult, Sibling
from interface.domain.model import LabTest
from interface.domain.rule_files import parse_rule_set
from interface.domain.units import commensurable
from interface.settings import packaged
from interface.store.catalogue import shipped_tests
from tests.domain.checks import ADULT, NOW, number

TEXT = (packaged("mappings") / "rules" / "default.toml").read_text("utf-8")
RULES = parse_rule_set(TEXT)
TESTS = {
    one.code: LabTest(one.code, one.code, one.name, one.loinc, one.unit, one.decimals, one.kind, one.substance)
    for one in shipped_tests()
}


def test_every_test_it_names_is_in_the_catalogue() -> None:
    named = RULES.tests() | {one.target for one in RULES.calculations} | {one.index_test for one in RULES.indices}
    assert sorted(named - TESTS.keys()) == []


def test_every_unit_it_names_can_be_compared_with_its_test_s() -> None:
    named = [(one.test, one.unit) for one in RULES.deltas]
    named += [(one.test, one.unit) for one in RULES.ranges]
    named += [(one.index_test, one.unit) for one in RULES.indices]
    for relation in RULES.consistency:
        named += [(term.test, term.unit) for term in relation.terms]
        for wanted in relation.formula.inputs if relation.formula else ():
            named.append((relation.inputs[wanted.name], wanted.unit))
    wrong = [
        (code, unit)
        for code, unit in named
        if unit and not commensurable(unit, TESTS[code].unit, TESTS[code].substance)
    ]
    assert wrong == []


@pytest.mark.parametrize("rule", RULES.calculations, ids=lambda rule: rule.target)
def test_every_calculation_makes_a_result_of_each_test_it_may_be_made_of(rule: Calculation) -> None:
    """With plain numbers in the catalogue's own units: every input is converted, and so is the result."""
    fitting = {"albumin": "4", "protein": "7", "total": "9", "direct": "1", "sodium": "140", "chloride": "100",
               "bicarbonate": "20", "cholesterol": "9", "hdl": "2", "triglycerides": "3", "hba1c": "6", "iron": "50",
               "tibc": "300", "uibc": "250"}  # fmt: skip
    most = max(len(codes) for codes in rule.inputs.values())
    for choice in range(most):
        around = {}
        for name, codes in rule.inputs.items():
            code = codes[min(choice, len(codes) - 1)]
            around[code] = Sibling(code, number(fitting.get(name, "5")), TESTS[code].unit)
        found = calculate(rule, TESTS[rule.target], around, ADULT)
        assert found.value is not None, found.text
        assert found.unit == TESTS[rule.target].unit


def test_no_two_calculations_make_the_same_test() -> None:
    assert [code for code, count in Counter(one.target for one in RULES.calculations).items() if count > 1] == []


def test_every_entry_names_its_source() -> None:
    document = tomllib.loads(TEXT)  # a formula names its own
    assert [
        (section, entry.get("test", entry.get("name")))
        for section in ("delta", "index", "range", "consistency")
        for entry in document[section]
        if not entry.get("source")
    ] == []


def facts(code: str, value: str, previous: str | None = None, **around: str) -> Facts:
    test = TESTS[code]
    siblings = {other: Sibling(other, number(text), TESTS[other].unit) for other, text in around.items()}
    before = PreviousResult(number(previous), test.unit, NOW, "v") if previous else None
    return Facts(test, number(value), test.unit, ADULT, previous=before, siblings=siblings)


BLOOD = {
    "HGB": "14.2",
    "HCT": "42.5",
    "RBC": "4.75",
    "MCV": "89.5",
    "MCH": "29.9",
    "MCHC": "33.4",
    "WBC": "6.1",
    "PLT": "250",
    "NEUT_PCT": "58.0",
    "LYMPH_PCT": "31.2",
    "MONO_PCT": "7.4",
    "EO_PCT": "2.6",
    "BASO_PCT": "0.8",
}
SERUM = {
    "NA": "140",
    "K": "4.1",
    "CL": "103",
    "CO2": "25",
    "CREA": "0.9",
    "BUN": "14",
    "GLU": "92",
    "TBIL": "0.7",
    "DBIL": "0.2",
    "TP": "7.1",
    "ALB": "4.3",
    "CHOL": "190",
    "HDL": "55",
    "TRIG": "110",
    "IRON": "90",
    "TIBC": "320",
    "H_INDEX": "5",
    "LDH": "180",
    "MG": "2.0",
    "PHOS": "3.4",
}


@pytest.mark.parametrize("panel", [BLOOD, SERUM], ids=["blood", "serum"])
def test_an_ordinary_panel_passes_every_check(panel: dict[str, str]) -> None:
    for code, value in panel.items():
        part, given = RULES.of(code), facts(code, value, value, **panel)
        said = [
            *delta.check(part.deltas, given), *indices.check(part.indices, given),
            *ranges.check(part.ranges, given), *consistency.check(part.consistency, given),
        ]  # fmt: skip
        assert [one for one in said if one.finding not in (Finding.PASS, Finding.NOT_APPLICABLE)] == []


@pytest.mark.parametrize(
    ("code", "value", "rule"),
    [
        ("HGB", "16.0", "haematocrit and haemoglobin"), ("MCV", "95", "MCV"), ("MCH", "32", "MCH"),
        ("MCHC", "36", "MCHC"),
        ("NEUT_PCT", "85", "differential"), ("DBIL", "0.8", "bilirubin"), ("ALB", "7.2", "albumin and protein"),
        ("HDL", "191", "HDL and cholesterol"), ("IRON", "321", "iron and its binding capacity"),
        ("CL", "140", "anion gap"),
    ],
)  # fmt: skip
def test_each_relation_holds_what_contradicts_it(code: str, value: str, rule: str) -> None:
    panel = {**BLOOD, **SERUM, code: value}
    said = consistency.check(RULES.of(code).consistency, facts(code, value, **panel))
    assert rule in [one.rule for one in said if one.finding is Finding.HOLD]


def test_each_delta_holds_just_beyond_its_limit() -> None:
    for code, before, within, beyond in (
        ("NA", "140", "153", "153.1"), ("MCV", "90", "93", "93.1"), ("CREA", "2.00", "2.29", "2.30"),
        ("CREA_SI", "200", "229", "230"),
    ):  # fmt: skip
        for value, finding in ((within, Finding.PASS), (beyond, Finding.HOLD)):
            (verdict,) = delta.check(RULES.of(code).deltas, facts(code, value, before))
            assert (code, value, verdict.finding) == (code, value, finding)


def test_each_absurd_limit_is_above_every_critical_one() -> None:
    """What is implausible is beyond what is critical, never instead of it."""
    limits = {one.test: one.high for one in RULES.ranges}
    order = [Decimal("6.1"), limits["K"], limits["NA"]]
    assert all(low is not None and high is not None and low < high for low, high in pairwise(order))

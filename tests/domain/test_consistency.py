"""Relations between results of one specimen: exact numbers, sets, missing companions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interface.domain.consistency import check, parse
from interface.domain.facts import Finding, Sibling, Verdict
from interface.domain.model import HoldReason, Value, ValueKind
from tests.domain.checks import ADULT, attempt, facts, read, sibling, siblings

PASS, HOLD, UNKNOWN, NONE = Finding.PASS, Finding.HOLD, Finding.UNKNOWN, Finding.NOT_APPLICABLE
THREE = """name = "rule of three"
sum = {HCT = "1", HGB = "-3"}
units = {HCT = "%", HGB = "g/dL"}
low = "-3"
high = "3"
text = "the haematocrit is not three times the haemoglobin"
"""
BILIRUBIN = 'name = "direct"\nsum = {TBIL = "1", DBIL = "-1"}\nlow = "0"\ntext = "direct above total bilirubin"\n'
DIFFERENTIAL = """name = "differential"
sum = {NEUT_PCT = "1", LYMPH_PCT = "1", MONO_PCT = "1"}
low = "99"
high = "101"
text = "the differential is not 100 %"
"""


def judged(keys: str, test: str, value: str, unit: str, *around: Sibling) -> Verdict:
    (verdict,) = check((read(parse, keys),), facts(value, unit, test=test, around=siblings(*around)))
    return verdict


@pytest.mark.parametrize(
    ("hgb", "hct", "finding"),
    [
        ("15.0", "45", PASS), ("15.0", "48", PASS), ("15.0", "42", PASS),
        ("15.0", "48.1", HOLD), ("15.0", "41.9", HOLD),
    ],
)  # fmt: skip
def test_the_rule_of_three_holds_both_that_disagree(hgb: str, hct: str, finding: Finding) -> None:
    for verdict in (
        judged(THREE, "HGB", hgb, "g/dL", sibling("HCT", hct, "%")),
        judged(THREE, "HCT", hct, "%", sibling("HGB", hgb, "g/dL")),
    ):
        assert verdict.finding is finding
        assert verdict.holds == ((HoldReason.INCONSISTENT,) if finding is HOLD else ())


def test_values_are_compared_in_the_rule_s_units() -> None:
    assert judged(THREE, "HGB", "150", "g/L", sibling("HCT", "45", "%")).finding is PASS
    assert judged(THREE, "HCT", "0.45", "1", sibling("HGB", "150", "g/L")).finding is PASS
    assert judged(THREE, "HGB", "15", "mmol/L", sibling("HCT", "45", "%")).finding is UNKNOWN


@pytest.mark.parametrize(
    ("total", "direct", "finding"),
    [
        ("1.0", "1.0", PASS), ("1.0", "1.1", HOLD), ("<0.1", "0.2", HOLD), ("0.5", "<0.1", PASS),
        ("<0.5", "0.1", UNKNOWN),
        ("0.05", "<0.1", UNKNOWN), (">30", "12", PASS), (">30", "31", UNKNOWN),
    ],
)  # fmt: skip
def test_a_value_with_a_comparator_is_all_it_may_be(total: str, direct: str, finding: Finding) -> None:
    assert judged(BILIRUBIN, "TBIL", total, "mg/dL", sibling("DBIL", direct, "mg/dL")).finding is finding


def test_below_zero_is_nothing_unless_the_rule_says_so() -> None:
    excess = BILIRUBIN.replace("TBIL", "BE")
    assert judged(excess, "BE", "5", "mmol/L", sibling("DBIL", "<4", "mmol/L")).finding is PASS
    both = 'name = "x"\nsum = {A = "1", B = "1"}\nlow = "0"\ntext = "t"\n'
    assert judged(both, "A", "0", "mmol/L", sibling("B", "<2", "mmol/L")).finding is PASS
    assert judged(both + "signed = true", "A", "0", "mmol/L", sibling("B", "<2", "mmol/L")).finding is UNKNOWN


@pytest.mark.parametrize(("mono", "finding"), [("10", PASS), ("9", PASS), ("11", PASS), ("8.9", HOLD), ("11.1", HOLD)])
def test_a_differential_is_a_hundred_per_cent(mono: str, finding: Finding) -> None:
    around = sibling("NEUT_PCT", "60", "%"), sibling("LYMPH_PCT", "30", "%")
    assert judged(DIFFERENTIAL, "MONO_PCT", mono, "%", *around).finding is finding


def test_a_missing_companion_holds_only_where_the_rule_asks_for_it() -> None:
    assert judged(DIFFERENTIAL, "MONO_PCT", "10", "%", sibling("NEUT_PCT", "60", "%")).finding is NONE
    needed = DIFFERENTIAL + "required = true"
    assert judged(needed, "MONO_PCT", "10", "%", sibling("NEUT_PCT", "60", "%")).finding is UNKNOWN


def test_a_companion_that_is_held_is_none_that_a_rule_asks_for() -> None:
    """It may be another tube's: that the two agree says nothing then."""
    total = sibling("TBIL", "1.0", "mg/dL", holds=(HoldReason.PATIENT_MISMATCH,))
    assert judged(BILIRUBIN + "required = true", "DBIL", "0.3", "mg/dL", total).finding is Finding.UNKNOWN
    assert (
        judged(BILIRUBIN + "required = true", "DBIL", "0.3", "mg/dL", replace(total, holds=())).finding is Finding.PASS
    )
    assert judged(BILIRUBIN, "DBIL", "1.3", "mg/dL", total).finding is Finding.HOLD


def test_a_companion_that_failed_is_no_number() -> None:
    failed = replace(sibling("HCT", "45", "%"), value=Value(ValueKind.FAILED, "----"))
    assert judged(THREE, "HGB", "15", "g/dL", failed).finding is UNKNOWN


MCHC = """name = "mchc"
test = "MCHC"
formula = "mchc"
inputs = {haemoglobin = "HGB", haematocrit = "HCT"}
low = "-0.5"
high = "0.5"
text = "the MCHC is not haemoglobin by haematocrit"
"""


@pytest.mark.parametrize(
    ("mchc", "hct", "finding"),
    [
        ("33.3", "45", PASS), ("33.8", "45", PASS), ("33.9", "45", HOLD), ("32.8", "45", HOLD),
        ("33.3", "<45", UNKNOWN),
        ("33.3", "0", UNKNOWN), ("<33", "45", UNKNOWN), (">33.9", "45", HOLD),
    ],
)  # fmt: skip
def test_a_result_may_be_held_against_a_formula_of_others(mchc: str, hct: str, finding: Finding) -> None:
    around = sibling("HGB", "15.0", "g/dL"), sibling("HCT", hct, "%")
    assert judged(MCHC, "MCHC", mchc, "g/dL", *around).finding is finding
    if finding is HOLD:  # whichever of the three comes last
        assert judged(MCHC, "HCT", hct, "%", around[0], sibling("MCHC", mchc, "g/dL")).finding is HOLD


def test_a_relation_may_be_of_some_specimens_only() -> None:
    one = read(parse, THREE + 'specimen_types = ["BLD"]')
    given = facts("15", "g/dL", test="HGB", around=siblings(sibling("HCT", "50", "%")))
    assert check((one,), given)[0].finding is NONE
    assert check((one,), replace(given, subject=replace(ADULT, specimen_type="BLD")))[0].finding is HOLD


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('sum = {A = "1", B = "1"}\nlow = "1"\ntext = "t"', "entry.name: is missing"),
        ('name = "x"\nsum = {A = "1"}\nlow = "1"\ntext = "t"',
         "entry.sum: does not name two tests or more, each with its factor"),
        ('name = "x"\nsum = {A = "1", B = "0"}\nlow = "1"\ntext = "t"', "entry.sum.B: is zero"),
        ('name = "x"\nsum = {A = "1", B = "1"}\ntext = "t"', "entry: says neither low nor high"),
        ('name = "x"\nsum = {A = "1", B = "1"}\nlow = "2"\nhigh = "1"\ntext = "t"', "entry.high: is below low"),
        ('name = "x"\nsum = {A = "1", B = "1"}\nunits = {C = "g"}\nlow = "2"\ntext = "t"',
         "entry.units.C: is not a known key"),
        (MCHC.replace('"mchc"\ninputs', '"mcxc"\ninputs'), "entry.formula: there is no formula 'mcxc'"),
        (MCHC.replace("haematocrit =", "hematocrit ="), "entry.inputs.haematocrit: is missing: the test of this input"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_rule_is_said_with_its_place(keys: str, problem: str) -> None:
    assert problem in attempt(parse, keys)[1]

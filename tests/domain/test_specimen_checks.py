"""Interference indices and ranges: at their limits, without their facts, and for values that are sets."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain import indices, judging, ranges
from interface.domain.facts import Facts, Finding, Verdict
from interface.domain.model import Comparator, HoldReason, Value, ValueKind
from interface.domain.rule_set import RuleSet
from interface.domain.units import Substance
from tests.domain.checks import ADULT, attempt, facts, number, read, sibling, siblings

PASS, HOLD, UNKNOWN, NONE = Finding.PASS, Finding.HOLD, Finding.UNKNOWN, Finding.NOT_APPLICABLE
HAEMOLYSIS = 'test = "K"\nindex = "H"\nlimit = "100"\n'


def index(keys: str, given: Facts) -> Verdict:
    (verdict,) = indices.check((read(indices.parse, keys),), given)
    return verdict


def haemolytic(value: str, unit: str = "mg/dL") -> Facts:
    return facts("4.1", around=siblings(sibling("H_INDEX", value, unit)))


@pytest.mark.parametrize(
    ("value", "finding"),
    [
        ("0", PASS), ("100", PASS), ("101", HOLD), ("<100", PASS), (">100", HOLD), (">=100", UNKNOWN),
        ("<200", UNKNOWN),        (">50", UNKNOWN), ("+++", UNKNOWN),
    ],
)  # fmt: skip
def test_an_index_above_the_limit_holds(value: str, finding: Finding) -> None:
    verdict = index(HAEMOLYSIS, haemolytic(value))
    assert verdict.finding is finding
    assert verdict.holds == ((HoldReason.INTERFERENCE,) if finding in (HOLD, UNKNOWN) else ())


def test_an_index_that_is_absent_holds_where_the_rule_asks_for_it() -> None:
    assert index(HAEMOLYSIS, facts("4.1")).finding is NONE
    assert index(HAEMOLYSIS + "required = true", facts("4.1")).finding is UNKNOWN


@pytest.mark.parametrize("reason", [HoldReason.PATIENT_MISMATCH, HoldReason.QUESTIONABLE, HoldReason.RULE])
@pytest.mark.parametrize("value", ["20", "150"])
def test_an_index_that_is_held_itself_says_nothing_of_the_specimen(value: str, reason: HoldReason) -> None:
    """Whose it is, or whether it is so, is what a person is to find out."""
    around = siblings(sibling("H_INDEX", value, "mg/dL", holds=(reason,)))
    for more in ("", "required = true", 'action = "comment"\ncomment = "haemolysed"'):
        verdict = index(HAEMOLYSIS + more, facts("4.1", around=around))
        assert (verdict.finding, verdict.holds) == (UNKNOWN, (HoldReason.INTERFERENCE,))


def test_a_limit_in_another_unit_is_compared_in_it_and_never_without() -> None:
    assert index(HAEMOLYSIS + 'unit = "g/L"', haemolytic("10100", "mg/dL")).finding is HOLD
    assert index(HAEMOLYSIS + 'unit = "g/L"', haemolytic("9900", "mg/dL")).finding is PASS
    assert index(HAEMOLYSIS + 'unit = "g/L"', haemolytic("9900", "1")).finding is UNKNOWN


@pytest.mark.parametrize(("word", "finding"), [("2+", HOLD), ("NONE", PASS), ("1+", UNKNOWN), ("", UNKNOWN)])
def test_an_index_in_words_is_judged_by_the_rule_s_lists(word: str, finding: Finding) -> None:
    keys = 'test = "K"\nindex = "H"\nwords = ["2+", "3+"]\nharmless = ["none"]'
    given = siblings(replace(sibling("H_INDEX", "0"), value=Value(ValueKind.TEXT, word)))
    assert index(keys, facts("4.1", around=given)).finding is finding
    assert index(keys, haemolytic("5")).finding is UNKNOWN  # a number, and the rule has words only


def test_an_index_may_comment_or_suppress() -> None:
    comment = index(HAEMOLYSIS + 'action = "comment"\ncomment = "haemolysed"', haemolytic("150"))
    assert (comment.finding, comment.comment, comment.holds) == (PASS, "haemolysed", ())
    assert index(HAEMOLYSIS + 'action = "comment"\ncomment = "haemolysed"', haemolytic("50")).comment == ""
    gone = index(HAEMOLYSIS + 'action = "suppress"\ncomment = "haemolysed"', haemolytic("150"))
    assert (gone.finding, gone.comment) == (HOLD, "haemolysed")
    assert gone.holds == (HoldReason.INTERFERENCE, HoldReason.SUPPRESSED)


def test_a_limit_may_be_of_one_analyzer() -> None:
    keys = HAEMOLYSIS + 'analyzers = ["c1"]'
    given = haemolytic("150")
    assert index(keys, replace(given, analyzer="c1")).finding is HOLD
    assert index(keys, replace(given, analyzer="c2")).finding is NONE
    assert index(keys, given).finding is UNKNOWN


# ---- ranges ----------------------------------------------------------------------------------------------------------

MEASURING = 'test = "K"\nkind = "measuring"\nlow = "1.5"\nhigh = "10"\n'
TOLD = MEASURING + "report_below = true\nreport_above = true"
ABSURD = 'test = "K"\nkind = "absurd"\nlow = "1"\nhigh = "12"\n'


def ranged(keys: str, given: Facts) -> Verdict:
    (verdict,) = ranges.check((read(ranges.parse, keys),), given)
    return verdict


@pytest.mark.parametrize(
    ("value", "plain", "told"),
    [
        ("1.5", PASS, PASS), ("10", PASS, PASS), ("1.49", HOLD, HOLD), ("10.1", HOLD, HOLD),
        ("<1.5", HOLD, PASS), ("<1.4", HOLD, PASS), ("<=1.5", UNKNOWN, PASS), ("<1.6", UNKNOWN, UNKNOWN),
        (">10", HOLD, PASS), (">11", HOLD, PASS), (">=10", UNKNOWN, PASS), (">9.9", UNKNOWN, UNKNOWN),
    ],
)  # fmt: skip
def test_what_is_outside_the_measuring_range_or_may_be_is_held(value: str, plain: Finding, told: Finding) -> None:
    for keys, finding in ((MEASURING, plain), (TOLD, told)):
        verdict = ranged(keys, facts(value))
        assert verdict.finding is finding
        assert verdict.holds == ((HoldReason.MEASURING_RANGE,) if finding in (HOLD, UNKNOWN) else ())


@pytest.mark.parametrize(
    ("value", "dilution", "finding"),
    [
        ("80", "10", PASS), ("100", "10", PASS), ("101", "10", HOLD), ("14.9", "10", HOLD), ("80", None, UNKNOWN),
        ("80", "1", HOLD), ("5", "0", UNKNOWN), ("5", None, UNKNOWN), ("3", "10", HOLD),
    ],
)  # fmt: skip
def test_the_measuring_range_is_of_what_was_measured_in_the_dilution(
    value: str, dilution: str | None, finding: Finding
) -> None:
    assert ranged(MEASURING, facts(value, dilution=dilution)).finding is finding


def test_what_is_said_of_the_measuring_range_names_the_factor() -> None:
    verdict = ranged(MEASURING, facts("3", dilution="10"))
    assert (verdict.text, verdict.inputs["dilution"]) == ("outside the measuring range, diluted 1:10", "10")
    assert "not known" in ranged(MEASURING, facts("5", dilution=None)).text


def test_the_reportable_range_is_of_the_result_with_its_dilution() -> None:
    keys = 'test = "K"\nkind = "reportable"\nhigh = "90"'
    assert ranged(keys, facts("90", dilution="10")).finding is PASS
    assert ranged(keys, facts("91", dilution="10")).holds == (HoldReason.MEASURING_RANGE,)


@pytest.mark.parametrize(
    ("value", "finding"),
    [("1", PASS), ("12", PASS), ("0.9", HOLD), ("12.1", HOLD), ("-1", HOLD), (">12", HOLD), (">10", UNKNOWN)],
)
def test_what_no_living_patient_has_is_implausible(value: str, finding: Finding) -> None:
    verdict = ranged(ABSURD, facts(value))
    assert verdict.finding is finding
    assert verdict.holds == ((HoldReason.IMPLAUSIBLE,) if finding in (HOLD, UNKNOWN) else ())


def test_limits_in_another_unit_are_converted_and_words_have_no_range() -> None:
    glucose = Substance(Decimal("180.156"))
    keys = 'test = "K"\nkind = "absurd"\nhigh = "100"\nunit = "mmol/L"'
    assert ranged(keys, facts("1801", "mg/dL", substance=glucose)).finding is PASS
    assert ranged(keys, facts("1802", "mg/dL", substance=glucose)).finding is HOLD
    assert ranged(keys, facts("1802", "mg/dL")).finding is UNKNOWN
    assert ranged(keys, facts("positive")).finding is NONE


def test_absurd_limits_may_be_of_an_age() -> None:
    keys = ABSURD + "age_low_d = 28"
    assert ranged(keys, facts("13")).finding is HOLD
    assert ranged(keys, facts("13", subject=replace(ADULT, age_d=3))).finding is NONE
    assert ranged(keys, facts("13", subject=replace(ADULT, age_d=None))).finding is UNKNOWN
    band = ABSURD + "age_low_d = 28\nage_high_d = 365"
    for age_d, finding in ((27, NONE), (28, HOLD), (364, HOLD), (365, NONE)):
        assert ranged(band, facts("13", subject=replace(ADULT, age_d=age_d))).finding is finding


@given(
    st.decimals("-5", "20", places=1), st.sampled_from(list(Comparator)), st.decimals("0.1", "9", places=1),
    st.sampled_from([MEASURING, ABSURD]),
)  # fmt: skip
def test_what_passes_as_a_set_passes_for_each_of_its_values(
    bound: Decimal, comparator: Comparator, distance: Decimal, keys: str
) -> None:
    given = facts("0")
    whole = replace(given, value=Value(ValueKind.NUMERIC, "", bound, comparator))
    if ranged(keys, whole).finding is PASS:
        below = comparator in (Comparator.LT, Comparator.LE)
        one = bound - distance if below else bound + distance
        assert ranged(keys, replace(given, value=number(str(one)))).finding is PASS


@pytest.mark.parametrize(
    ("parse", "keys", "problem"),
    [
        ("index", 'test = "K"', "entry.index: is missing: H, I or L"),
        ("index", 'test = "K"\nindex = "X"', "entry.index: 'X' is not one of H, I, L"),
        ("index", 'test = "K"\nindex = "H"', "entry: says neither limit nor words"),
        ("index", HAEMOLYSIS + 'action = "comment"', "entry.comment: is missing: comment needs one"),
        ("index", HAEMOLYSIS + "required = 1", "entry.required: is not true or false"),
        ("range", 'test = "K"\nkind = "absurd"', "entry: says neither low nor high"),
        ("range", 'test = "K"\nkind = "absurd"\nlow = "2"\nhigh = "2"', "entry.high: is not above low"),
        ("range", ABSURD + "report_below = true", "entry.report_below: is for a measuring range with that limit"),
        ("range", ABSURD + "age_high_d = 0", "entry.age_high_d: is not above age_low_d"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_with_its_place(parse: str, keys: str, problem: str) -> None:
    problems = attempt(indices.parse, keys)[1] if parse == "index" else attempt(ranges.parse, keys)[1]
    assert problem in problems


# ---- below zero ------------------------------------------------------------------------------------------------------

ONLY_ABOVE = 'test = "K"\nkind = "absurd"\nhigh = "20"\n'


@pytest.mark.parametrize(
    ("value", "limits", "rules", "holds"),
    [
        ("-3", {}, (), True), ("-0.1", {"low": "3.5", "high": "5.1"}, (), True), ("<-3", {}, (), True),
        ("-3", {}, (ONLY_ABOVE,), True), ("-3", {}, (ABSURD.replace('"1"', '"-5"'),), False),
        ("-30", {}, (MEASURING.replace('"1.5"', '"-5"'),), False), ("-1", {"low": "-2", "high": "2"}, (), False),
        ("-9", {"high": "-1"}, (), False),
        ("-0", {}, (), False), ("-0.0", {}, (), False), ("0", {}, (), False), ("3", {}, (), False), 
        ("minus", {}, (), False),
    ],
)  # fmt: skip
def test_a_number_below_zero_is_held_where_no_limit_admits_one(
    value: str, limits: dict[str, Any], rules: tuple[str, ...], holds: bool
) -> None:
    rule_set = RuleSet("default", ranges=tuple(read(ranges.parse, keys) for keys in rules))
    found = [
        one for one in judging.check(rule_set, facts(value, **limits)).verdicts if one.text.startswith("below zero")
    ]
    assert [(one.finding, one.holds) for one in found] == [(HOLD, (HoldReason.IMPLAUSIBLE,))] * holds


# ---- larger than anything that is measured ---------------------------------------------------------------------------

LARGEST = "9" * 15  # a hundred thousand billion copies of a virus in a millilitre, and ten times that
HUGE = "1" + "0" * 15


@pytest.mark.parametrize(
    ("value", "limits", "rules", "holds"),
    [
        (HUGE, {}, (), True), ("3" * 39, {}, (), True), (HUGE, {"low": "98", "high": "107"}, (), True),
        (f">{HUGE}", {}, (), True), (f"<{HUGE}", {}, (), True), ("-" + HUGE, {}, (), True),
        (HUGE, {}, (MEASURING,), True), (HUGE, {}, (ONLY_ABOVE.replace("20", "1" + HUGE),), False),
        (HUGE, {"high": HUGE}, (), False), (LARGEST, {}, (), False), (f"{LARGEST}.{LARGEST}", {}, (), False),
        ("4.0999999999999996447286321199499070644378662109375", {}, (), False),  # as some programs write 4.1
        ("250000000000", {}, (), False), ("0." + "0" * 30 + "1", {}, (), False), ("0", {}, (), False),
        ("minus", {}, (), False),
    ],
)  # fmt: skip
def test_a_number_larger_than_anything_that_is_measured_is_held_where_no_limit_admits_one(
    value: str, limits: dict[str, Any], rules: tuple[str, ...], holds: bool
) -> None:
    rule_set = RuleSet("default", ranges=tuple(read(ranges.parse, keys) for keys in rules))
    found = [one for one in judging.check(rule_set, facts(value, **limits)).verdicts if "than fifteen" in one.text]
    assert [(one.finding, one.holds) for one in found] == [(HOLD, (HoldReason.IMPLAUSIBLE,))] * holds


def test_zero_is_not_large_however_it_is_written() -> None:
    zero = replace(facts("0"), value=Value(ValueKind.NUMERIC, "0", Decimal("0E+20")))
    assert judging.check(RuleSet("default"), zero).verdicts == ()


def test_a_text_may_be_a_number_of_any_length() -> None:
    given = facts(HUGE)
    lot = replace(given, test=replace(given.test, kind=ValueKind.TEXT))
    assert judging.check(RuleSet("default"), lot).holds == ()

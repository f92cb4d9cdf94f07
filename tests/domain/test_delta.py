"""Delta checks: each formula at its limit, what is not computed, and several analytes of one tube."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.delta import Delta, check, parse, reference_change, swap
from interface.domain.exact import shown
from interface.domain.facts import Finding, PreviousResult, Verdict
from interface.domain.model import HoldReason
from interface.domain.units import Substance
from tests.domain.checks import ADULT, NOW, attempt, facts, number, read

PASS, HOLD, UNKNOWN, NONE = Finding.PASS, Finding.HOLD, Finding.UNKNOWN, Finding.NOT_APPLICABLE


def rule(keys: str) -> Delta:
    return read(parse, f'test = "K"\nwindow_d = 30\n{keys}')


def before(value: str, days: float = 1, unit: str = "mmol/L") -> PreviousResult:
    return PreviousResult(number(value), unit, NOW - timedelta(days=days), "v-before")


def judged(keys: str, previous: PreviousResult | None, now: str, **more: str) -> Verdict:
    (verdict,) = check((rule(keys),), facts(now, previous=previous, low=more.get("low"), high=more.get("high")))
    return verdict


@pytest.mark.parametrize(
    ("keys", "previous", "days", "now", "finding", "flags", "change"),
    [
        ('kind = "absolute"\nlimit = "1.0"', "4.0", 1, "5.0", PASS, (), "1.0"),
        ('kind = "absolute"\nlimit = "1.0"', "4.0", 1, "5.01", HOLD, ("U",), "1.01"),
        ('kind = "absolute"\nlimit = "1.0"', "4.0", 1, "2.99", HOLD, ("D",), "-1.01"),
        ('kind = "absolute"\nup = "1.0"', "4.0", 1, "0.1", PASS, (), "-3.9"),
        ('kind = "absolute"\ndown = "1.0"', "4.0", 1, "9.9", PASS, (), "5.9"),
        ('kind = "percent"\nlimit = "50"', "80", 1, "120", PASS, (), "40"),
        ('kind = "percent"\nlimit = "50"', "80", 1, "120.1", HOLD, ("U",), "50.13"),
        ('kind = "percent"\nlimit = "50"', "80", 1, "39.9", HOLD, ("D",), "-50.13"),
        ('kind = "percent"\nlimit = "50"', "-4", 1, "-6.1", HOLD, ("D",), "-52.50"),  # base excess: of its size
        ('kind = "percent"\nlimit = "50"', "0", 1, "0.0", PASS, (), "0.0"),
        ('kind = "percent"\nlimit = "50"', "0", 1, "0.1", UNKNOWN, (), None),  # no percentage of zero
        ('kind = "rate"\nlimit = "2"', "100", 2, "104", PASS, (), "4"),
        ('kind = "rate"\nlimit = "2"', "100", 2, "104.1", HOLD, ("U",), "2.05"),
        ('kind = "rate"\nlimit = "2"\nper = "hour"', "100", 0.5, "124", PASS, (), "24"),
        ('kind = "rate"\nlimit = "2"\nper = "hour"', "100", 0.5, "75.9", HOLD, ("D",), "-2.01"),
        ('kind = "rate_percent"\nlimit = "10"', "50", 4, "70", PASS, (), "20"),
        ('kind = "rate_percent"\nlimit = "10"', "50", 4, "70.1", HOLD, ("U",), "10.05"),
        ('kind = "rate"\nlimit = "2"', "100", 0, "101", UNKNOWN, (), None),
    ],
)
def test_each_kind_at_its_limit(
    keys: str, previous: str, days: float, now: str, finding: Finding, flags: tuple[str, ...], change: str | None
) -> None:
    verdict = judged(keys, before(previous, days), now)
    assert (verdict.finding, verdict.flags) == (finding, flags)
    if finding is PASS:
        assert verdict.inputs == {"previous": "v-before", "difference": change}
    else:
        assert verdict.inputs.get("change") == change
    assert verdict.holds == ((HoldReason.DELTA,) if finding in (HOLD, UNKNOWN) else ())


def test_a_first_result_and_one_after_the_window_are_not_compared() -> None:
    keys = 'kind = "absolute"\nlimit = "1"'
    assert judged(keys, None, "9").finding is NONE
    assert judged(keys, before("4", 30), "9").finding is HOLD
    assert judged(keys, before("4", 30.1), "9").finding is NONE


@pytest.mark.parametrize(("previous", "now"), [("<5", "9"), ("4", ">9"), ("<5", "<5"), ("positive", "9"), ("4", "NEG")])
def test_what_is_no_exact_number_is_never_computed_with(previous: str, now: str) -> None:
    assert judged('kind = "absolute"\nlimit = "100"', before(previous), now).finding is UNKNOWN


@pytest.mark.parametrize(
    ("previous", "now", "finding"),
    [
        ("3.6", "5.1", PASS), ("3.5", "5.2", PASS), ("3.4", "5.1", HOLD), ("3.6", "5.3", HOLD), ("<5", "5.1", UNKNOWN),
    ],
)  # fmt: skip
def test_two_values_within_the_interval_pass_where_the_rule_says_so(previous: str, now: str, finding: Finding) -> None:
    keys = 'kind = "absolute"\nlimit = "1"\nsuppress_within = true'
    assert judged(keys, before(previous), now, low="3.5", high="5.2").finding is finding
    assert judged(keys, before("3.6"), "5.1").finding is HOLD  # without an interval there is no within


def test_what_is_surely_within_an_open_interval_passes_with_a_comparator_too() -> None:
    keys = 'kind = "percent"\nlimit = "50"\nsuppress_within = true'
    assert judged(keys, before("<0.6"), "<0.6", high="5").finding is PASS
    assert judged(keys, before("<6"), "<0.6", high="5").finding is UNKNOWN


def test_units_are_compared_and_converted_and_never_mixed() -> None:
    glucose = Substance(Decimal("180.156"))
    previous = before("5.0", unit="mmol/L")
    of_mass = facts("90.078", "mg/dL", previous=previous, substance=glucose)
    limit = rule('kind = "absolute"\nlimit = "0.1"\nunit = "mmol/L"')
    assert check((limit,), of_mass)[0].inputs["difference"] == "0.000"
    assert check((limit,), facts("93", "mg/dL", previous=previous, substance=glucose))[0].finding is HOLD
    assert check((limit,), facts("91", "mg/dL", previous=previous, substance=glucose))[0].finding is PASS
    assert check((limit,), facts("91", "mg/dL", previous=previous))[0].finding is UNKNOWN
    for before_, now in (("<5.0", "91"), ("5.0", ">91")):  # no number to convert
        of_set = facts(now, "mg/dL", previous=before(before_, unit="mmol/L"), substance=glucose)
        assert check((limit,), of_set)[0].finding is UNKNOWN


def test_without_the_time_of_the_result_nothing_is_compared() -> None:
    (verdict,) = check(
        (rule('kind = "absolute"\nlimit = "1"'),),
        facts("4", previous=before("4"), subject=replace(ADULT, collected_at=None)),
    )
    assert verdict.finding is UNKNOWN


def test_a_rule_may_leave_out_patients_and_ask_for_specimens() -> None:
    keys = 'kind = "absolute"\nlimit = "1"\nexcept_groups = ["dialysis"]\nspecimen_types = ["SER"]'
    for subject, finding in (
        (ADULT, HOLD),
        (replace(ADULT, patient_group="dialysis"), NONE),
        (replace(ADULT, specimen_type="PLAS"), NONE),
        (replace(ADULT, specimen_type=""), UNKNOWN),
    ):
        assert check((rule(keys),), facts("9", previous=before("4"), subject=subject))[0].finding is finding


# ---- the reference change value --------------------------------------------------------------------------------------


@given(st.decimals("0", "60", places=1), st.decimals("0", "60", places=1), st.booleans())
def test_more_variation_never_narrows_the_limits(cva: Decimal, cvi: Decimal, log_normal: bool) -> None:
    up, down = reference_change(cva, cvi, log_normal=log_normal)
    wider_up, wider_down = reference_change(cva, cvi + 1, log_normal=log_normal)
    assert wider_up > up >= 0
    assert wider_down > down >= 0
    assert down <= up
    if log_normal:
        assert down < 100  # nothing falls by more than all of it


def test_log_normal_limits_are_a_factor_and_its_inverse() -> None:
    up, down = reference_change(Decimal(10), Decimal(40), log_normal=True)
    assert shown((1 + up / 100) * (1 - down / 100), 20) == "1.00000000000000000000"


def test_the_limits_of_a_rule_are_its_variation_s() -> None:
    keys = 'kind = "rcv"\ncva = "3"\ncvi = "4"'
    one = rule(keys)
    assert (shown(one.up or Decimal(0), 2), one.up) == ("13.86", one.down)  # sqrt(2) x 1.96 x 5
    assert rule(keys + '\ndirection = "up"\nz = "1.65"').down is None
    assert judged(keys, before("100"), "113.8").finding is PASS
    assert judged(keys, before("100"), "113.9").flags == ("U",)
    assert judged(keys, before("100"), "86.1").flags == ("D",)


# ---- several analytes of one tube ------------------------------------------------------------------------------------


def said(finding: Finding) -> Verdict:
    return Verdict("delta", finding, "")


@pytest.mark.parametrize(
    ("verdicts", "failed", "suspected"),
    [
        ({"K": [said(HOLD)]}, 1, False),  # one analyte alone changes with an illness
        ({"K": [said(HOLD)], "NA": [said(HOLD)]}, 2, True),
        ({"K": [said(HOLD)], "NA": [said(HOLD)], "CL": [said(PASS)], "CA": [said(PASS)]}, 2, True),
        ({"K": [said(HOLD)], "NA": [said(HOLD)], "CL": [said(PASS)], "CA": [said(PASS)], "MG": [said(PASS)]}, 2, False),
        ({"K": [said(HOLD), said(PASS)], "NA": [said(HOLD)], "CL": [said(NONE)]}, 2, True),
        ({"K": [said(UNKNOWN)], "NA": [said(UNKNOWN)]}, 0, False),
        ({"K": [Verdict("range", HOLD, "")], "NA": [said(HOLD)]}, 1, False),
        ({}, 0, False),
    ],
)
def test_several_analytes_of_one_tube_speak_for_another_person_s_specimen(
    verdicts: dict[str, list[Verdict]], failed: int, suspected: bool
) -> None:
    found = swap(verdicts)
    assert (len(found.failed), found.suspected) == (failed, suspected)
    assert ("whose specimen" in found.text) is suspected


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('kind = "absolute"', "entry: says no limit: limit, or up or down"),
        ('kind = "absolute"\nlimit = "0"', "entry.limit: is not above zero"),
        ('kind = "absolute"\nlimit = 1.5e3', "entry.limit: is not a number in plain decimal digits"),
        ('kind = "absolute"\nlimit = "1"\nup = "1"', "entry.limit: is for both directions: leave out up and down"),
        ('kind = "percent"\nlimit = "1"\nunit = "g/L"', "entry.unit: says nothing of percent, which is in per cent"),
        ('kind = "percent"\nlimit = "1"\nper = "day"', "entry.per: says nothing of percent, which is no rate"),
        ('kind = "rcv"\ncva = "3"', "entry.cvi: is missing: a coefficient of variation in per cent"),
        ('kind = "rcv"\ncva = "3"\ncvi = "101"', "entry.cvi: is not between 0 and 100 per cent"),
        ('kind = "rcv"\ncva = "3"\ncvi = "1"\nz = "0"', "entry.z: is not between 0 and 10"),
        ('kind = "rcv"\ncva = "3"\ncvi = "1"\nlimit = "4"', "entry.limit: is not a known key"),
        ('kind = "slope"\nlimit = "4"', "entry.kind: 'slope' is not one of absolute, percent, rate, rate_percent, rcv"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_with_its_place(keys: str, problem: str) -> None:
    assert problem in attempt(parse, f'test = "K"\nwindow_d = 30\n{keys}')[1]

"""Calculated tests: of exact numbers that nothing holds, in the units of the formula, rounded once."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from interface.domain.calculated import Calculated, Calculation, calculate, outdated, parse
from interface.domain.facts import Finding, Sibling
from interface.domain.model import HoldReason, LabTest, Value, ValueKind
from interface.domain.units import Substance
from tests.domain.checks import ADULT, attempt, read, sibling, siblings

EGFR = LabTest("t", "EGFR_2021", "eGFR", unit="mL/min/{1.73_m2}", decimals=0)
LDL = LabTest("t", "LDL", "LDL", unit="mg/dL", decimals=1, substance=Substance(Decimal("386.664")))
RULE = 'test = "EGFR_2021"\nformula = "ckd_epi_2021"\ninputs = {creatinine = ["CREA", "CREA_SI"]}'
FRIEDEWALD = (
    'test = "LDL"\nformula = "ldl_friedewald"\ninputs = {cholesterol = "CHOL", hdl = "HDL", triglycerides = "TRIG"}'
)


def rule(keys: str = RULE) -> Calculation:
    return read(parse, keys)


def made(*around: Sibling, keys: str = RULE, test: LabTest = EGFR) -> Calculated:
    return calculate(rule(keys), test, siblings(*around), ADULT, "default 1")


def lipids(total: str = "200", hdl: str = "50", fat: str = "150", test: LabTest = LDL) -> Calculated:
    around = sibling("CHOL", total, "mg/dL"), sibling("HDL", hdl, "mg/dL"), sibling("TRIG", fat, "mg/dL")
    return made(*around, keys=FRIEDEWALD, test=test)


def test_a_result_names_what_it_is_made_of() -> None:
    found = made(sibling("CREA", "1.09", "mg/dL"))
    assert found.value == Value(ValueKind.NUMERIC, "64", Decimal(64))
    assert (found.target, found.unit, found.finding) == ("EGFR_2021", "mL/min/{1.73_m2}", Finding.PASS)
    assert (dict(found.inputs), found.made_of, found.version) == ({"CREA": "1.09"}, ("v-CREA",), "default 1")


def test_inputs_are_converted_to_the_formula_s_units() -> None:
    assert made(sibling("CREA_SI", "96.36", "umol/L")).value == made(sibling("CREA", "1.09", "mg/dL")).value
    assert made(sibling("CREA", "1.09", "mmol/kg")).value is None


def test_of_several_tests_for_one_input_the_first_that_is_there_is_taken() -> None:
    assert made(sibling("CREA_SI", "500", "umol/L"), sibling("CREA", "1.09", "mg/dL")).made_of == ("v-CREA",)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((), "creatinine is missing"),
        ((sibling("CREA", "<0.5", "mg/dL"),), "CREA is no exact number"),
        ((sibling("CREA", ">=20", "mg/dL"),), "CREA is no exact number"),
        ((sibling("CREA", "haemolysed", "mg/dL"),), "CREA is no exact number"),
        ((sibling("CREA", "1.09", "mg/dL", holds=(HoldReason.DELTA,)),), "CREA is held"),
        ((replace(sibling("CREA", "1"), value=Value(ValueKind.FAILED, "----")),), "CREA is no exact number"),
        ((sibling("CREA", "1.09", "{ratio}"),), "a unit cannot be converted"),
        ((sibling("CREA", "0", "mg/dL"),), "creatinine is not above zero"),
    ],
)
def test_what_is_no_exact_number_or_is_held_never_enters(given: tuple[Sibling, ...], reason: str) -> None:
    found = made(*given)
    assert (found.value, found.finding, found.text) == (None, Finding.NOT_APPLICABLE, reason)


def test_what_was_held_then_and_is_now_is_no_change() -> None:
    """It was not calculated with: a person may say that there is no result."""
    held = sibling("CREA", "9", "mg/dL", holds=(HoldReason.DELTA,))
    assert outdated(made(held).explained, siblings(held), ADULT) == []
    released = sibling("CREA", "9", "mg/dL")
    assert outdated(made(held).explained, siblings(released), ADULT) == ["CREA was held, is 9"]
    assert outdated(made(released).explained, siblings(held), ADULT) == ["CREA was 9, is held"]


def test_a_held_result_hides_no_other_test_of_the_same_input() -> None:
    """The first is taken or there is no result: a second creatinine is not chosen because the first is in doubt."""
    held = sibling("CREA", "9", "mg/dL", holds=(HoldReason.DELTA,))
    assert made(held, sibling("CREA_SI", "96.4", "umol/L")).value is None


@pytest.mark.parametrize(
    ("total", "fat", "decimals", "text"),
    [("200.1", "150.2", 1, "120.1"), ("200.1", "150.2", 0, "120"), ("200.25", "150", 1, "120.3"),
     ("200", "150", 2, "120.00")],
)  # fmt: skip
def test_it_is_rounded_once_half_up_to_the_digits_of_its_test(total: str, fat: str, decimals: int, text: str) -> None:
    value = lipids(total, "50", fat, replace(LDL, decimals=decimals)).value
    assert value is not None
    assert value.text == text


def test_the_result_is_in_the_unit_of_its_test() -> None:
    found = lipids(test=replace(LDL, unit="mmol/L", decimals=2))
    assert found.value is not None
    assert (found.value.text, found.unit) == ("3.10", "mmol/L")  # 120 mg/dL / 386.664 g/mol
    assert lipids(test=replace(LDL, unit="mmol/L", substance=Substance())).value is None


def test_a_calculation_may_be_of_some_specimens_only() -> None:
    keys = RULE + '\nspecimen_types = ["SER"]'
    given = siblings(sibling("CREA", "1.09", "mg/dL"))
    assert calculate(rule(keys), EGFR, given, ADULT).value is not None
    assert calculate(rule(keys), EGFR, given, replace(ADULT, specimen_type="UR")).value is None


def test_it_is_calculated_anew_with_each_of_its_inputs() -> None:
    assert rule(FRIEDEWALD).tests == ("CHOL", "HDL", "TRIG")
    assert rule().tests == ("CREA", "CREA_SI")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (RULE.replace("ckd_epi_2021", "ckd_epi"), "entry.formula: there is no formula 'ckd_epi'"),
        (RULE.replace("creatinine =", "creatinin ="), "entry.inputs.creatinine: is missing: the test, or"),
        (RULE.replace("creatinine =", "creatinin ="), "entry.inputs.creatinin: is not a known key"),
        (RULE.replace('"CREA_SI"', '"EGFR_2021"'), "entry.inputs: name the test itself"),
        (RULE + "\nparameters = {isi = 1}", "entry.parameters.isi: is not a known key"),
        (
            'test = "INR"\nformula = "inr"\ninputs = {time = "PT"}\nparameters = {isi = "1.1"}',
            "entry.parameters.normal_time: is missing: inr has no default for it",
        ),
        (
            'test = "INR"\nformula = "inr"\ninputs = {time = "PT"}\nparameters = {isi = "0", normal_time = "12"}',
            "entry.parameters.isi: is not above zero",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_rule_is_said_with_its_place(keys: str, problem: str) -> None:
    assert any(one.startswith(problem) for one in attempt(parse, keys)[1])

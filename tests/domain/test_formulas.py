"""The formulas of calculated tests: published worked examples to the printed digit, and where they are not valid."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.delta import reference_change
from interface.domain.exact import rounded, shown
from interface.domain.facts import Subject
from interface.domain.formulas import FORMULAS, NoResult
from interface.domain.model import Sex
from interface.domain.units import parse

COLLECTED = date(2026, 3, 1)


def person(years: int, sex: str = "", *, days: int = 0) -> Subject:
    """Who is so many years and days old."""
    birth = date(COLLECTED.year - years, COLLECTED.month, COLLECTED.day) - timedelta(days=days)
    return Subject(sex=Sex(sex or "unknown"), birth_date=birth, age_d=(COLLECTED - birth).days)


def computed(formula: str, inputs: dict[str, str], subject: Subject = Subject(), **parameters: str) -> Decimal:  # noqa: B008
    given = {name: Decimal(number) for name, number in inputs.items()}
    return FORMULAS[formula].evaluate(given, subject, {key: Decimal(value) for key, value in parameters.items()})


# The National Kidney Foundation's calculator, as the tests of the R package admiral quote it (pharmaverse/admiral,
# tests/testthat/test-compute_kidney.R); the fourth decimals are that package's, with its 88.42 umol/L to the mg/dL.
ADMIRAL = "pharmaverse/admiral test-compute_kidney.R"
# The R package tabletools, calculate_egfr_ckdepi: examples checked at kidney.org (JMLuther/tabletools).
TABLETOOLS = "JMLuther/tabletools calculate_egfr_ckdepi"


@pytest.mark.parametrize(
    ("creatinine", "per_mg_dl", "years", "sex", "expected", "source"),
    [
        ("1.09", "1", 55, "male", "80", ADMIRAL),
        ("85", "88.42", 65, "female", "66", ADMIRAL),
        ("96.3", "88.42", 55, "male", "80.2293", ADMIRAL),
        ("70", "88.42", 52, "female", "89.7175", ADMIRAL),
        ("77", "88.42", 67, "male", "94.5453", ADMIRAL),
        ("65", "88.42", 76, "female", "84.4646", ADMIRAL),
        ("0.8", "1", 70, "male", "95.2", TABLETOOLS),
        ("0.8", "1", 70, "female", "79.2", TABLETOOLS),
    ],
)
def test_ckd_epi_2021(creatinine: str, per_mg_dl: str, years: int, sex: str, expected: str, source: str) -> None:
    number = str(Decimal(creatinine) / Decimal(per_mg_dl))
    decimals = len(expected.partition(".")[2])
    assert shown(computed("ckd_epi_2021", {"creatinine": number}, person(years, sex)), decimals) == expected


def test_mdrd_is_without_race() -> None:
    """MDCalc's value for a white man, as pharmaverse/admiral test-compute_kidney.R quotes it."""
    assert shown(computed("mdrd_175", {"creatinine": "1.09"}, person(55, "male")), 1) == "70.2"
    # The same source has 70.6 for a black woman of 65 with 85 umol/L, that is with the factor 1.212, left out here.
    woman = computed("mdrd_175", {"creatinine": str(Decimal(85) / Decimal("88.42"))}, person(65, "female"))
    assert shown(woman * Decimal("1.212"), 1) == "70.6"


@pytest.mark.parametrize(
    ("formula", "total", "hdl", "triglycerides", "expected", "source"),
    [
        ("ldl_friedewald", "200", "50", "150", "120", "bit1024.com/tool/Friedewald-Equation-Calculator, first example"),
        (
            "ldl_friedewald",
            "250",
            "60",
            "200",
            "150",
            "bit1024.com/tool/Friedewald-Equation-Calculator, second example",
        ),
        ("ldl_friedewald", "250", "40", "210", "168", "clinicallabsciencestudyguide.examzify.com, LDL question"),
        ("ldl_friedewald", "220", "45", "175", "140", "abracalc.com, Friedewald, TC 220 HDL 45 TG 175"),
        ("ldl_friedewald", "400", "100", "300", "240", "atlas.org, lipid panel of a patient with chest pain"),
        ("ldl_friedewald", "30", "27", "8", "1.4", "easycalculation.com/medical/ldl-cholesterol.php"),
        # Sampson's equation 2; its value for these three as a public test of the published equation has it
        # (test_sampson_ldl_matches_published_equation: 123.3973)
        ("ldl_sampson", "200", "50", "150", "123.3973", "a public test of the equation"),
    ],
)
def test_ldl(formula: str, total: str, hdl: str, triglycerides: str, expected: str, source: str) -> None:
    found = computed(formula, {"cholesterol": total, "hdl": hdl, "triglycerides": triglycerides})
    assert shown(found, len(expected.partition(".")[2])) == expected


@given(st.integers(60, 400), st.integers(20, 59), st.integers(20, 800))
def test_sampson_is_its_equation_in_exact_fractions(total: int, hdl: int, fat: int) -> None:
    """Sampson M et al., JAMA Cardiol 2020;5:540, equation 2."""
    vldl = Fraction(fat) / Fraction("8.56") + Fraction(fat * (total - hdl), 2140) - Fraction(fat * fat, 16100)
    exact = Fraction(total) / Fraction("0.948") - Fraction(hdl) / Fraction("0.971") - vldl - Fraction("9.44")
    inputs = {"cholesterol": str(total), "hdl": str(hdl), "triglycerides": str(fat)}
    if exact < 0:
        with pytest.raises(NoResult):
            computed("ldl_sampson", inputs)
    else:
        assert abs(Fraction(computed("ldl_sampson", inputs)) - exact) < Fraction(1, 10**20)


@pytest.mark.parametrize(
    ("formula", "inputs", "expected", "source"),
    [
        ("anion_gap", {"sodium": "138", "chloride": "103", "bicarbonate": "8"}, "27", "vimatics.com OneLiner_987"),
        ("anion_gap", {"sodium": "135", "chloride": "100", "bicarbonate": "25"}, "10", "ivorysimple.pages.dev, 2nd"),
        # perinatology.com/calculators/Aniongap.htm gives the form: (Na + K) - (Cl + HCO3)
        (
            "anion_gap_k", {"sodium": "135", "potassium": "4.2", "chloride": "100", "bicarbonate": "25"}, "14.2",
            "perinatology.com",
        ),
        ("corrected_calcium", {"calcium": "8.5", "albumin": "3.0"}, "9.3", "theprimecalculator.com, example"),
        ("corrected_calcium_si", {"calcium": "1.98", "albumin": "23"}, "2.32", "notaperubatan.com, example"),
        # (3 x 16.0) is not 30: MCHC 53 g/dL, "which is impossible" (qoschin.com, rule of three)
        ("mchc", {"haemoglobin": "16.0", "haematocrit": "30.0"}, "53", "qoschin.com/qa/d4prTfBoMMJL"),
        # RBC 5.0, haemoglobin 15.0, haematocrit 45.0 are the 1:3:9 of worktaps.com: indices by definition
        ("mcv", {"haematocrit": "45.0", "erythrocytes": "5.0"}, "90.0", "worktaps.com, rule of three"),
        ("mch", {"haemoglobin": "15.0", "erythrocytes": "5.0"}, "30.0", "worktaps.com, rule of three"),
        ("osmolality_si", {"sodium": "140", "glucose": "5", "urea": "5"}, "290", "notaperubatan.com gives the form"),
        ("osmolality", {"sodium": "140", "glucose": "90", "urea_nitrogen": "14"}, "290", "the same in mg/dL"),
        ("transferrin_saturation", {"iron": "100", "tibc": "300"}, "33.3", "by definition"),
        ("tibc", {"iron": "100", "uibc": "200"}, "300", "by definition"),
        ("globulin", {"protein": "7.0", "albumin": "4.2"}, "2.8", "by definition"),
        ("a_g_ratio", {"protein": "7.0", "albumin": "4.2"}, "1.50", "by definition"),
        ("indirect_bilirubin", {"total": "1.2", "direct": "0.30"}, "0.90", "by definition"),
        ("bun_creatinine_ratio", {"urea_nitrogen": "20", "creatinine": "1.0"}, "20.0", "by definition"),
        ("non_hdl", {"cholesterol": "200", "hdl": "50"}, "150", "by definition"),
        ("per_creatinine", {"substance": "30", "creatinine": "1.2"}, "25.0", "by definition"),
        ("per_creatinine_si", {"substance": "30", "creatinine": "10"}, "3.0", "by definition"),
        ("average_glucose", {"hba1c": "6.0"}, "126", "Nathan DM et al. 2008: 6 % is 126 mg/dL"),
        ("average_glucose", {"hba1c": "7.0"}, "154", "Nathan DM et al. 2008: 7 % is 154 mg/dL"),
    ],
)  # fmt: skip
def test_sums_differences_and_ratios(formula: str, inputs: dict[str, str], expected: str, source: str) -> None:
    assert shown(computed(formula, inputs), len(expected.partition(".")[2])) == expected


def test_inr_is_the_ratio_to_the_power_of_the_sensitivity_index() -> None:
    assert shown(computed("inr", {"time": "24"}, isi="1", normal_time="12"), 2) == "2.00"
    assert shown(computed("inr", {"time": "24"}, isi="2", normal_time="12"), 2) == "4.00"
    assert shown(computed("inr", {"time": "18"}, isi="0.5", normal_time="12"), 4) == "1.2247"  # sqrt(1.5)


@pytest.mark.parametrize(
    ("formula", "inputs", "subject", "reason"),
    [
        ("ckd_epi_2021", {"creatinine": "1"}, person(17, "male", days=364), "not valid below 18 years"),
        ("ckd_epi_2021", {"creatinine": "1"}, person(40), "the sex is not known"),
        ("ckd_epi_2021", {"creatinine": "1"}, Subject(sex=Sex.OTHER), "the sex is not known"),
        ("ckd_epi_2021", {"creatinine": "1"}, Subject(sex=Sex.MALE), "the age is not known"),
        ("ckd_epi_2021", {"creatinine": "1"}, Subject(sex=Sex.MALE, birth_date=COLLECTED), "the age is not known"),
        ("ckd_epi_2021", {"creatinine": "0"}, person(40, "male"), "creatinine is not above zero"),
        ("ldl_friedewald", {"cholesterol": "200", "hdl": "50", "triglycerides": "400.1"}, Subject(), "above 400 mg/dL"),
        ("ldl_friedewald", {"cholesterol": "60", "hdl": "50", "triglycerides": "100"}, Subject(), "below zero"),
        ("ldl_friedewald_si", {"cholesterol": "5", "hdl": "1", "triglycerides": "4.6"}, Subject(), "above 4.5 mmol/L"),
        ("ldl_sampson", {"cholesterol": "200", "hdl": "50", "triglycerides": "801"}, Subject(), "above 800 mg/dL"),
        ("a_g_ratio", {"protein": "4", "albumin": "4"}, Subject(), "albumin is not below the total protein"),
        ("transferrin_saturation", {"iron": "0", "tibc": "0"}, Subject(), "tibc is not above zero"),
    ],
)
def test_where_a_formula_is_not_valid_there_is_no_result(
    formula: str, inputs: dict[str, str], subject: Subject, reason: str
) -> None:
    with pytest.raises(NoResult, match=reason):
        computed(formula, inputs, subject)


def test_the_limits_of_validity_are_within_them() -> None:
    assert computed("ckd_epi_2021", {"creatinine": "1"}, person(18, "male")) > 0
    assert computed("ldl_friedewald", {"cholesterol": "200", "hdl": "50", "triglycerides": "400"}) == 70
    assert computed("anion_gap", {"sodium": "130", "chloride": "110", "bicarbonate": "25"}) == -5


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=lambda one: one.name)
def test_every_formula_names_its_source_and_units_that_are_ucum(formula: object) -> None:
    one = FORMULAS[getattr(formula, "name", "")]
    assert one.source
    for unit in (one.unit, *(wanted.unit for wanted in one.inputs)):
        parse(unit)


CREATININE = st.decimals("0.1", "20", places=2)


@given(CREATININE, CREATININE, st.integers(18, 110), st.sampled_from(["male", "female"]))
def test_more_creatinine_or_age_is_never_a_higher_filtration(
    first: Decimal, second: Decimal, years: int, sex: str
) -> None:
    low, high = sorted((first, second))
    better = computed("ckd_epi_2021", {"creatinine": str(low)}, person(years, sex))
    assert better >= computed("ckd_epi_2021", {"creatinine": str(high)}, person(years, sex))
    assert better > computed("ckd_epi_2021", {"creatinine": str(low)}, person(years + 1, sex))


def test_the_two_slopes_meet_at_the_knot() -> None:
    for sex, knot in (("female", "0.7"), ("male", "0.9")):
        at = computed("ckd_epi_2021", {"creatinine": knot}, person(18, sex))
        near = computed("ckd_epi_2021", {"creatinine": knot + "000000001"}, person(18, sex))
        assert abs(at - near) < Decimal("0.00001")


# ---- the reference change value --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("z", "constant", "source"),
    [
        ("1.96", "2.77", "Prince of Wales Hospital ward manual: change > 2.77 (CVA² + CVI²)^½, after Soletormos 1993"),
        ("1.96", "2.8", "baspath.co.uk, PIP 43: 2.8 times the total variation"),
        # The Z values of biologicalvariation.com/RCV.html, times the square root of two
        ("2.58", "3.65", "biologicalvariation.com: highly significant, both directions"),
        ("1.65", "2.33", "biologicalvariation.com: significant, one direction"),
    ],
)
def test_the_reference_change_value_of_one_per_cent_is_the_published_constant(
    z: str, constant: str, source: str
) -> None:
    up, down = reference_change(Decimal(0), Decimal(1), Decimal(z))
    assert shown(up, len(constant.partition(".")[2])) == constant
    assert up == down


@pytest.mark.parametrize(
    ("cva", "cvi", "published"),
    [("2.51", "4.51", "14.26"), ("2.43", "4.21", "13.43")],  # creatinine by Jaffe and enzymatically
)
def test_published_reference_change_values_of_creatinine(cva: str, cvi: str, published: str) -> None:
    """Mercan H et al., Clin Lab 2022 (doi 10.7754/Clin.Lab.2022.220524): their RCV is the mean of persons' own."""
    up, _ = reference_change(Decimal(cva), Decimal(cvi))
    assert abs(up - Decimal(published)) < Decimal("0.06")


def test_the_log_normal_form_is_the_published_one() -> None:
    """Fokkema MR et al. 2006: sigma² = ln(CV² + 1), exp(±z sqrt(2) sigma) - 1: with sigma² = 1/2 it is e^±z."""
    cv = (Decimal("0.5").exp() - 1).sqrt() * 100
    up, down = reference_change(Decimal(0), cv, Decimal(1), log_normal=True)
    assert shown(up, 4) == shown((Decimal(1).exp() - 1) * 100, 4) == "171.8282"
    assert shown(down, 4) == "63.2121"


def test_rounding_is_half_up_and_has_no_minus_zero() -> None:
    cases = {("2.5", 0): "3", ("-2.5", 0): "-3", ("1.005", 2): "1.01", ("-0.04", 1): "0.0", ("0.045", 2): "0.05"}
    for (number, decimals), expected in cases.items():
        assert str(rounded(Decimal(number), decimals)) == expected

"""Units: what is understood, what is converted exactly, and what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.units import (
    MAX_UNIT_CHARS,
    Substance,
    UnitAliases,
    bare,
    canonical,
    commensurable,
    convert,
    parse,
)
from interface.errors import UnknownUnit

CONVERSIONS = [
    ("65", "g/L", "g/dL", "6.5"),
    ("6.5", "g/dL", "g/L", "65"),
    ("8.13", "10*3/uL", "10*9/L", "8.13"),
    ("8.13", "10*9/L", "10*3/uL", "8.13"),
    ("4.53", "10*12/L", "10*6/uL", "4.53"),
    ("8130", "/mm3", "10*3/uL", "8.130"),
    ("8130", "{cells}/uL", "10*9/L", "8.130"),
    ("90.6", "um3", "fL", "90.6"),
    ("0.405", "L/L", "%", "40.5"),
    ("0.133", "1", "%", "13.3"),
    ("1.40", "mL/L", "%", "0.140"),
    ("5.85", "mmol/L", "umol/L", "5850"),
    ("2.5", "u[iU]/mL", "m[iU]/L", "2.5"),
    ("30", "ukat/L", "nkat/mL", "30"),
    ("60", "U/L", "nkat/L", "1000"),  # 1 U is 1 umol/min
    ("120", "mm[Hg]", "kPa", "15.99864"),
    ("90", "min", "h", "1.5"),
    ("30", "mg/g{creat}", "ug/mg{creat}", "30"),
    ("48", "mmol/mol", "mmol/mol", "48"),
    ("7.41", "10^3/uL", "10*3/uL", "7.41"),
    ("12", "g.dL-1", "g/L", "120"),
    ("5", "umol/(min.L)", "U/L", "5"),
    ("0.5", "ug/mL{FEU}", "ng/mL{FEU}", "500"),
    ("20", "{copies}/uL", "{copies}/mL", "20000"),
    ("3", "/100{WBCs}", "%", "3"),
    ("24", "mg/h", "mg/(24.h)", "576"),
]


@pytest.mark.parametrize(("number", "source", "target", "expected"), CONVERSIONS)
def test_a_number_is_moved_between_units_of_one_dimension(number: str, source: str, target: str, expected: str) -> None:
    assert convert(Decimal(number), source, target) == Decimal(expected)


def test_a_power_of_ten_only_moves_the_point_and_keeps_the_measured_digits() -> None:
    assert str(convert(Decimal("5.10"), "g/dL", "g/L")) == "51.0"
    assert format(convert(Decimal("5.10"), "mmol/L", "umol/L"), "f") == "5100"
    assert str(convert(Decimal("65"), "g/L", "g/dL")) == "6.5"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("target", ["g/dL", "g/L"])
def test_what_is_no_number_is_not_converted(number: str, target: str) -> None:
    with pytest.raises(UnknownUnit):
        convert(Decimal(number), "g/L", target)
    with pytest.raises(UnknownUnit):
        convert(Decimal(number), "U/L", "nkat/L")


REFUSED = [
    ("mmol/L", "mg/dL"),  # needs the molar mass
    ("mmol/mol", "%"),  # HbA1c: IFCC and NGSP are related by a regression
    ("mg/g", "%"),  # albumin per creatinine is no percentage
    ("meq/L", "mmol/L"),  # needs the valence
    ("mosm/kg", "mmol/kg"),
    ("[iU]/L", "U/L"),  # an international unit is what its standard says
    ("g/L", "10*9/L"),
    ("fL", "pg"),
    ("Cel", "1"),
    ("[pH]", "1"),
    ("U/L", "umol/L"),
    ("/uL", "%"),
    ("{ratio}", "%"),
    ("{INR}", "{ratio}"),
    ("{Log_copies}/mL", "{copies}/mL"),
    ("{copies}/mL", "/mL"),
    ("ng/mL{FEU}", "ng/mL{DDU}"),
    ("ng/mL{FEU}", "ng/mL"),
    ("mL/min/{1.73_m2}", "mL/min"),
]


@pytest.mark.parametrize(("source", "target"), REFUSED)
def test_what_no_factor_relates_is_refused_in_both_directions(source: str, target: str) -> None:
    assert not commensurable(source, target)
    for first, second in ((source, target), (target, source)):
        with pytest.raises(UnknownUnit):
            convert(Decimal(1), first, second)


@pytest.mark.parametrize(
    "text",
    ["", "K/uL", "Mg/dL", "MMOL/L", "foo", "mg/", "mg//dL", "mg/0", "(mg", "mg)", "{", "mg dL", "10E3/uL", "m-",
     "x10^3/uL", "10*99", "mg" + "/L" * MAX_UNIT_CHARS, "..", "-3", "mmol/L{", "1.5", "l/l/l/l/l-31"],
)  # fmt: skip
def test_what_is_not_a_unit_is_unknown(text: str) -> None:
    with pytest.raises(UnknownUnit):
        parse(text)


@given(st.text(alphabet="mgLlUuol10*^/.(){}[]iU%-+ kdE3", max_size=30) | st.text(max_size=100))
def test_nothing_an_analyzer_may_send_as_a_unit_does_more_than_be_unknown(text: str) -> None:
    try:
        code = canonical(text, UnitAliases())
    except UnknownUnit:
        return
    assert convert(Decimal("1.5"), code, code) == Decimal("1.5")


SUBSTANCES = [
    ("5.5", "mmol/L", "mg/dL", Substance(Decimal("180.156")), "99.0858"),
    ("99.0858", "mg/dL", "mmol/L", Substance(Decimal("180.156")), "5.5"),
    ("4", "meq/L", "mmol/L", Substance(valence=2), "2"),
    ("2", "mmol/L", "meq/L", Substance(valence=2), "4"),
    ("5", "meq/L", "mg/dL", Substance(Decimal("40.08"), 2), "10.02"),
    ("10", "mmol/(24.h)", "mg/(24.h)", Substance(Decimal("113.12")), "1131.2"),
]


@pytest.mark.parametrize(("number", "source", "target", "substance", "expected"), SUBSTANCES)
def test_mass_amount_and_equivalents_are_converted_by_what_is_known_of_the_substance(
    number: str, source: str, target: str, substance: Substance, expected: str
) -> None:
    assert convert(Decimal(number), source, target, substance) == Decimal(expected)
    assert commensurable(source, target, substance)
    assert not commensurable(source, target)
    with pytest.raises(UnknownUnit):
        convert(Decimal(number), source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("mmol/L", "mg"),
        ("mmol/mol", "mg/g"),
        ("U/L", "mg/dL"),
        ("mmol/L", "U/L"),
        ("g/L", "[iU]/L"),
    ],
)
def test_a_molar_mass_relates_nothing_but_the_mass_and_the_amount_of_one_thing(source: str, target: str) -> None:
    known = Substance(Decimal(100), 1)
    assert not commensurable(source, target, known)
    with pytest.raises(UnknownUnit):
        convert(Decimal(1), source, target, known)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("1", True),
        ("{INR}", True),
        ("[pH]", True),
        ("%", False),
        ("{copies}/mL", False),
        ("g/L", False),
        ("10*3", False),
    ],
)
def test_what_is_written_without_a_unit_is_known(code: str, expected: bool) -> None:
    assert bare(code) is expected


GROUPS = [
    ["g/L", "g/dL", "mg/mL", "mg/dL", "ug/mL", "ng/mL", "pg/mL"],
    ["mmol/L", "umol/L", "nmol/L", "mol/m3"],
    ["10*3/uL", "10*9/L", "/uL", "/mm3", "{cells}/L", "10*6/mL"],
    ["%", "1", "L/L", "mL/L", "mL/dL", "[ppm]"],
    ["fL", "um3", "pL"],
]
NUMBERS = st.decimals(min_value="-1e9", max_value="1e9", allow_nan=False, allow_infinity=False, places=6)


@given(
    st.sampled_from(GROUPS).flatmap(lambda group: st.tuples(st.sampled_from(group), st.sampled_from(group))), NUMBERS
)
def test_a_conversion_and_its_inverse_give_back_the_very_number(units: tuple[str, str], number: Decimal) -> None:
    source, target = units
    there = convert(number, source, target)
    assert str(convert(there, target, source)) == str(number)
    assert len(there.as_tuple().digits) == len(number.as_tuple().digits)


@given(st.sampled_from([("U/L", "nkat/L"), ("mm[Hg]", "kPa"), ("s", "wk"), ("min", "d")]), NUMBERS)
def test_a_conversion_by_any_other_factor_comes_back_to_thirty_digits(units: tuple[str, str], number: Decimal) -> None:
    source, target = units
    back = convert(convert(number, source, target), target, source)
    assert abs(back - number) <= abs(number) * Decimal("1e-30")


@given(NUMBERS, NUMBERS)
def test_a_conversion_keeps_the_order_of_values(first: Decimal, second: Decimal) -> None:
    moved = convert(first, "U/L", "nkat/L"), convert(second, "U/L", "nkat/L")
    assert (first < second) == (moved[0] < moved[1])


ALIASES = UnitAliases(
    {"x10³/uL": ("10*3/uL",), "IU/L": ("[iU]/L", "U/L"), "Copies / mL": ("{copies}/mL",)}, frozenset({"1"}), 7
)


def test_a_known_spelling_becomes_its_ucum_code() -> None:
    assert canonical(" x10³/µL ", ALIASES) == "10*3/uL"  # micro sign
    assert canonical("x10³/μL", ALIASES) == "10*3/uL"  # Greek mu
    assert canonical("Copies  /  mL", ALIASES) == "{copies}/mL"
    assert canonical("U/l", ALIASES) == "U/l"


def test_only_the_test_s_own_unit_chooses_between_two_readings() -> None:
    assert canonical("IU/L", ALIASES, "U/L") == "U/L"
    assert canonical("IU/L", ALIASES, "m[iU]/L") == "[iU]/L"
    assert canonical("IU/L", ALIASES, "mg/dL") == "[iU]/L"
    assert canonical("IU/L", ALIASES) == "[iU]/L"


def test_a_refused_spelling_is_unknown_although_it_is_ucum() -> None:
    with pytest.raises(UnknownUnit, match="different units"):
        canonical("1", ALIASES)

"""Conversions against what others published and computed: tables of factors, labunits and ucumvert."""

from __future__ import annotations

import itertools
import re
import tomllib
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from labunits.converters import Analyte, analytes
from ucumvert import PintUcumRegistry

from interface.domain.units import Substance, commensurable, convert, parse
from interface.store.catalogue import shipped_aliases, shipped_tests
from tests.domain.substances import FORMULAS, VALENCES, molar_mass

PUBLISHED = tomllib.loads((Path(__file__).parent / "published_factors.toml").read_text("utf-8"))
FACTORS: list[dict[str, Any]] = [
    {**row, "source": source} for source, rows in PUBLISHED["factors"].items() for row in rows
]


def rounded(number: Decimal, like: Decimal) -> Decimal:
    """`number` with as many digits after the point as `like` has."""
    exponent = like.as_tuple().exponent
    assert isinstance(exponent, int)
    return number.quantize(Decimal(1).scaleb(min(exponent, 0)), ROUND_HALF_UP)


# ---- published tables ------------------------------------------------------------------------------------------------


def test_published_factors_agree_to_their_last_digit() -> None:
    wrong = []
    for row in FACTORS:
        mass = molar_mass(row["formula"]) if "formula" in row else None
        ours = convert(Decimal(1), row["from"], row["to"], Substance(mass, row.get("valence")))
        if rounded(ours, Decimal(row["factor"])) != Decimal(row["factor"]):
            wrong.append((row["source"], row["analyte"], row["factor"], ours))
    assert wrong == []
    assert {row["source"] for row in FACTORS} == set(PUBLISHED["sources"])


def test_two_hundred_published_factors_are_compared() -> None:
    assert len(FACTORS) + len(analytes()) - len(LABUNITS_DIFFERS) >= 200


# ---- labunits --------------------------------------------------------------------------------------------------------

LABUNITS_FORMULAS = {
    "5568-1": "C3H6O", "1768-1": "C21H28O5", "1765-7": "C21H28O5", "5574-9": "Al", "2200-4": "C5H9NO3", "5583-0": "As",
    "1980-2": "C10H16N2O3S", "8161-2": "Bi", "17864-0": "Ca", "5619-2": "Cr", "2127-9": "C6H8O7", "5627-5": "Co",
    "5631-7": "Cu", "2137-8": "C36H38N4O8", "2147-7": "C21H30O5", "2160-0": "C4H7N3O", "2162-6": "C4H7N3O",
    "2177-4": "C6H12N2O4S2", "1465-4": "C9H13NO3", "2232-7": "C9H13NO3", "3616-0": "C7H11NO2", "50544-6": "C53H83NO14",
    "1769-9": "C18H34O2", "6899-9": "C11H14N2O4", "9738-6": "C9H17NO2", "2345-7": "C6H12O6", "2342-4": "C6H12O6",
    "2372-1": "C5H10N2O3", "2391-1": "C2H5NO2", "2420-8": "C6H9N3O2", "29512-1": "C4H8O3", "2446-3": "C5H9NO3",
    "2500-7": "Fe", "2508-0": "C6H13NO2", "6948-4": "C9H7Cl2N5", "2560-1": "C6H13NO2", "30471-7": "C8H14N2O2",
    "2585-8": "C6H14N2O2", "19123-9": "Mg", "2601-3": "Mg", "5681-2": "Mn", "5685-3": "Hg", "5693-7": "CH4O",
    "2622-9": "C5H11NO2S", "5700-0": "Ni", "2666-6": "C8H11NO3", "2668-2": "C8H11NO3", "2679-9": "C5H12N2O2",
    "2699-7": "C2H2O4", "2765-6": "C9H11NO2", "2836-5": "C21H36O3", "2845-6": "C5H9NO2", "2898-5": "C34H34N4O4",
    "5722-4": "Se", "2936-3": "C3H7NO3", "29247-4": "C51H79NO13", "11253-2": "C44H69NO12", "2981-9": "C2H7NO3S",
    "3008-0": "C4H9NO3", "17713-9": "C12H21NO8S", "2571-8": "C57H104O6", "3070-0": "C11H12N2O2", "3079-1": "C9H11NO3",
    "3094-0": "N2", "3108-8": "C33H44N4O6", "3118-7": "C5H11NO2", "62290-2": "C27H44O3", "5763-8": "Zn",
}  # fmt: skip
# Its own spellings; what is not here our table of analyzers' spellings or UCUM knows.
LABUNITS_UNITS = {
    "Fraction of 1.0": "1", "Fraction of total Hb": "1", "% of total Hb": "%", "% total Hb": "%", "U/g of Hb": "U/g",
    "mOsm/kg H2O": "mosm/kg", "mmol/kg H2O": "mmol/kg", "MU/mol Hb": "U/umol", "nmol/s/L": "nmol/s/L",
    "nmol/(s L)": "nmol/(s.L)", "mg/24 h": "mg/(24.h)", "g/24 h": "g/(24.h)", "ug/24 h": "ug/(24.h)",
    "nmol/day": "nmol/d", "umol/day": "umol/d", "mmol/day": "mmol/d", "uKat/L": "ukat/L", "mEq/L": "meq/L",
    "IU/mL": "[iU]/mL", "kIU/L": "k[iU]/L", "IU/L": "[iU]/L", "mU/mL": "m[iU]/mL", "uU/mL": "u[iU]/mL",
}  # fmt: skip
_ROUNDED = "rounded before the last step"
_PROTEIN = "the molar mass of a protein: not ours to name"
_OSMOLES = "how many osmoles a mole is depends on the solute"
# Where labunits 0.2.1 (its factors are those of the AMA Manual of Style) and we differ, and why.
LABUNITS_DIFFERS = {
    "2099-0": "U/mL to U/L is 1000, not 1",
    "2666-6": "the factor is of pmol/L, the unit says nmol/L",
    "2177-4": "of cysteine",
    "2699-7": "of an oxalate ion",
    "62290-2": "2.6 is of another molar mass than 1,25-dihydroxyvitamin D's",
    "3108-8": "of another urobilinogen",
    "20448-7": "an international unit is what its standard says",
    **dict.fromkeys(("2391-1", "29512-1", "2508-0", "6948-4", "2560-1", "2585-8", "2622-9", "2679-9"), _ROUNDED),
    **dict.fromkeys(("2898-5", "3070-0", "3118-7"), _ROUNDED),
    **dict.fromkeys(("1986-9", "1952-1", "2942-1", "15082-1", "32546-4"), _PROTEIN),
    **dict.fromkeys(("2692-2", "2695-5"), _OSMOLES),
}


def labunits_agrees(analyte: Analyte) -> bool:
    micro = str.maketrans("\u00b5\u03bc", "uu")
    names = (analyte.traditional_unit.translate(micro), analyte.si_unit.translate(micro))
    source, target = (LABUNITS_UNITS.get(name, name) for name in names)
    formula = LABUNITS_FORMULAS.get(analyte.loinc_num)
    substance = Substance(molar_mass(formula) if formula else None, 2 if formula == "Mg" else 1)
    if not commensurable(source, target, substance):
        return False
    theirs = Decimal(repr(analyte.conversion_factor)).normalize()
    return rounded(convert(Decimal(1), source, target, substance), theirs) == theirs


def test_labunits_agrees_but_where_it_is_known_not_to() -> None:
    differs = {analyte.loinc_num for analyte in analytes() if not labunits_agrees(analyte)}
    assert differs == set(LABUNITS_DIFFERS)


# ---- ucumvert --------------------------------------------------------------------------------------------------------


@cache
def ucumvert() -> Any:
    return PintUcumRegistry(non_int_type=Decimal)


def without_braces(code: str) -> str:
    """Ours are units where they stand alone, UCUM's are notes."""
    return re.sub(r"\{[^}]*\}", "", code).replace("//", "/").rstrip("/")


def unit_codes() -> list[str]:
    codes = {test.unit for test in shipped_tests() if test.unit}
    codes |= {reading for readings in shipped_aliases().spellings.values() for reading in readings}
    return sorted(codes)


MERCURY = "mm[Hg]"  # 133.322 Pa in UCUM, which ucumvert takes from pint with more digits
NOT_IN_UCUMVERT = {"[pH]"}  # 0.3.2 fails on it


def test_ucumvert_converts_between_all_units_in_use_as_we_do() -> None:
    codes = sorted({without_braces(code) for code in unit_codes()} - NOT_IN_UCUMVERT - {""})
    compared = 0
    for first, second in itertools.combinations(codes, 2):
        if first == "/100" or second == "/100" or not commensurable(first, second):
            continue
        theirs = ucumvert().from_ucum(first).to(ucumvert().from_ucum(second).units).magnitude
        theirs /= ucumvert().from_ucum(second).magnitude
        ours = parse(first).factor / parse(second).factor
        tolerance = Fraction(1, 10**5) if MERCURY in (first, second) else Fraction(1, 10**12)
        assert abs(Fraction(theirs) / ours - 1) < tolerance, (first, second, theirs, ours)
        compared += 1
    assert compared > 150


def test_what_ucumvert_cannot_convert_we_do_not_either() -> None:
    codes = [code for code in unit_codes() if "{" not in code and code not in NOT_IN_UCUMVERT]
    theirs = {code: ucumvert().from_ucum(code).dimensionality for code in codes}
    pairs = itertools.combinations(codes, 2)
    loose = [(one, other) for one, other in pairs if commensurable(one, other) and theirs[one] != theirs[other]]
    assert loose == []


# ---- the shipped tests -----------------------------------------------------------------------------------------------


def test_the_molar_masses_and_valences_of_the_shipped_tests_are_those_of_their_substances() -> None:
    tests = {test.code: test.substance for test in shipped_tests()}
    masses = {code: substance.molar_mass for code, substance in tests.items() if substance.molar_mass}
    assert masses == {code: molar_mass(formula) for code, formula in FORMULAS.items()}
    assert {code: substance.valence for code, substance in tests.items() if substance.valence} == VALENCES


@pytest.mark.parametrize(
    ("code", "sent", "unit", "reported"),
    [
        ("GLU", "5.6", "mmol/L", "100.88736"),
        ("GLU_SI", "100.88736", "mg/dL", "5.6"),
        ("CREA", "88.4", "umol/L", "0.999980800"),
        ("CA", "5.0", "meq/L", "10.01950"),  # two equivalents a mole
        ("K", "4.1", "meq/L", "4.1"),
        ("BUN", "5.0", "mmol/L", "14.0070"),  # urea: two atoms of nitrogen
        ("FT4_SI", "1.2", "ng/dL", None),
    ],
)
def test_a_test_s_own_substance_relates_mass_and_amount(code: str, sent: str, unit: str, reported: str | None) -> None:
    test = next(test for test in shipped_tests() if test.code == code)
    there = convert(Decimal(sent), unit, test.unit, test.substance)
    assert reported is None or there == Decimal(reported)
    assert abs(convert(there, test.unit, unit, test.substance) - Decimal(sent)) < Decimal("1e-30")


@pytest.mark.parametrize("code", ["HGB", "AMON", "UREA_SI", "INS", "PTH", "CPEP", "ALB", "TRF"])
def test_what_the_mass_is_of_is_not_certain_for_these(code: str) -> None:
    """Haemoglobin's monomer or tetramer, ammonia or its nitrogen, urea or its nitrogen, and proteins."""
    assert next(test for test in shipped_tests() if test.code == code).substance == Substance()

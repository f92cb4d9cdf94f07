"""Every shipped LOINC code has its check digit and means what the catalogue says: property, unit, system, specimen.

What LOINC means by a code is in `mappings/loinc.toml`: its long common name, as a named public source has it.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from interface.domain.model import ValueKind
from interface.domain.units import Dimensions, parse
from interface.settings import packaged
from interface.store.catalogue import ShippedTest, shipped_panels, shipped_specimen_types, shipped_tests

TESTS = {test.code: test for test in shipped_tests()}
LOINC = tomllib.loads((packaged("mappings") / "loinc.toml").read_text("utf-8"))
NAMES = {code: row["name"] for code, row in LOINC["codes"].items()}


def has_loinc_check_digit(code: str) -> bool:
    """LOINC Users' Guide, appendix C: mod 10 over the digits before the hyphen."""
    if re.fullmatch(r"[0-9]{1,7}-[0-9]", code) is None:
        return False
    number, check = code.split("-")
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value // 10 + value % 10
    return (10 - total % 10) % 10 == int(check)


def _units(*codes: str) -> frozenset[Dimensions]:
    return frozenset(parse(code).dimensions for code in codes)


NO_UNIT: frozenset[Dimensions] = frozenset()  # words and titres
# What LOINC's property, in the brackets of the long common name, allows as a unit.
PROPERTIES = {
    "mass/volume": _units("g/L"),
    "moles/volume": _units("mol/L"),
    "#/volume": _units("/L", "{copies}/mL"),
    "log #/volume": _units("{Log_copies}/mL"),
    "units/volume": _units("[iU]/L", "[arb'U]/L", "[GPL'U]/mL", "[MPL'U]/mL"),
    "enzymatic activity/volume": _units("U/L"),
    "enzymatic activity/mass": _units("U/g"),
    "mass/time": _units("mg/(24.h)"),
    "moles/time": _units("mmol/(24.h)"),
    "volume rate/area": _units("mL/min/{1.73_m2}"),
    "volume fraction": _units("%"),
    "molar fraction": _units("%"),
    "mass fraction": _units("%"),
    "entitic volume": _units("fL"),
    "entitic mass": _units("pg"),
    "partial pressure": _units("kPa"),
    "#/area": _units("/[HPF]", "/[LPF]"),
    "ratio": _units("%", "{ratio}", "/100{WBCs}", "mg/mmol{creat}"),
    "# ratio": _units("{ratio}"),
    "time": _units("s"),
    "time ratio": _units("{ratio}"),
    "molar ratio": _units("{ratio}"),
    "mass ratio": _units("{ratio}", "mg/g{creat}"),
    "susceptibility": _units("ug/mL"),  # the minimum inhibitory concentration
    "titer": NO_UNIT,
    "presence": NO_UNIT,
    "identifier": NO_UNIT,
    "interpretation": NO_UNIT,
    "type": NO_UNIT,
}
# Names whose property is not in brackets, or says too little there.
NAMED = (
    (r"D-dimer FEU", _units("ng/mL{FEU}")),
    (r"D-dimer DDU", _units("ng/mL{DDU}")),
    (r"A1c.*IFCC", _units("mmol/mol")),
    (
        r"/100 |/Platelets |/Reticulocytes\.total|/Hemoglobin\.total|actual/[nN]ormal|Ag\.total|kinase\.total",
        _units("%"),
    ),
    (r"saturation|[Oo]xyhemoglobin|oxygen concentration|resin uptake", _units("%")),
    (r"^pH ", _units("[pH]")),
    (r"^INR ", _units("{INR}")),
    (r"(Prothrombin|[Tt]hromboplastin|Thrombin|venom|clotting) time|^aPTT ", _units("s")),
    (r"sedimentation rate", _units("mm/h")),
    (r"^Osmolality", _units("mosm/kg")),
    (r"^Anion gap|^Base excess", _units("mmol/L")),
    (r"^Specific gravity", _units("{ratio}")),
    (r"clearance", _units("mL/min")),
    (r"Partial pressure difference", _units("kPa")),
    (r"^Body temperature", _units("Cel")),
    (r"Signal/Cutoff", _units("{s_co_ratio}")),
    (r"identified|^Color|^Appearance|^Clarity", NO_UNIT),
)
ANY = frozenset(code for code, _ in shipped_specimen_types())
_SERUM, _WHOLE = frozenset({"SER"}), frozenset({"BLD", "BLDA", "BLDV", "BLDC"})
# Where the long common name says the measurement is made → the specimen types it may be made from; the first that fits.
SYSTEMS: tuple[tuple[str, frozenset[str]], ...] = (
    ("Serum, Plasma or Blood", _SERUM | {"PLAS"} | _WHOLE),
    ("Serum or Plasma", _SERUM | {"PLAS"}),
    ("Serum", _SERUM),
    ("Platelet poor plasma", frozenset({"PLAS"})),
    ("Plasma", frozenset({"PLAS"})),
    ("Arterial blood", frozenset({"BLDA"})),
    ("Venous blood", frozenset({"BLDV"})),
    ("Capillary blood", frozenset({"BLDC"})),
    ("Blood", _WHOLE),
    ("Red Blood Cells", frozenset({"BLD"})),
    ("Reticulocytes", frozenset({"BLD"})),
    ("Urine", frozenset({"UR"})),
    ("Cerebral spinal fluid", frozenset({"CSF"})),
    ("Body fluid", frozenset({"FLU"})),
    ("Stool", frozenset({"STL"})),
    ("Sputum", frozenset({"SPT"})),
    ("Wound", frozenset({"WND"})),
    (r"(?:Unspecified )?[Ss]pecimen|Respiratory specimen|Throat|Cervix|Genital specimen|Isolate", frozenset()),
)
# The long common name does not say where; LOINC's system is RBC, Bld, Ser/Plas+Urine, or none.
UNSAID = {
    "788-0": {"BLD"}, "787-2": {"BLD"}, "785-6": {"BLD"}, "786-4": {"BLD"}, "21000-5": {"BLD"}, "30341-2": {"BLD"},
    "4537-7": {"BLD"}, "5894-1": {"PLAS"}, "2164-2": {"UR"}, "19991-9": {"BLDA"}, "4821-5": {"BLD"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a long common name says: the dimensions a unit may have, and the specimen types it is measured in."""

    dimensions: frozenset[Dimensions]
    specimens: frozenset[str]


def meaning(code: str, name: str) -> Meaning:
    dimensions = next((allowed for pattern, allowed in NAMED if re.search(pattern, name)), None)
    if dimensions is None:
        bracket = re.search(r"\[([^\]]+)\]", name)
        assert bracket, name
        dimensions = PROPERTIES[bracket[1].casefold()]
    for system, specimens in SYSTEMS:
        if re.search(rf" (?:in|of|on|from)(?: 24 hour)? {system}\b", name):
            return Meaning(dimensions, specimens)
    return Meaning(dimensions, frozenset(UNSAID.get(code, ())))


def faults(test: ShippedTest) -> list[str]:
    """What the catalogue says of a test and its LOINC code does not."""
    said = meaning(test.loinc, NAMES[test.loinc])
    found = []
    if said.dimensions and (not test.unit or parse(test.unit).dimensions not in said.dimensions):
        found.append(f"{test.code}: unit {test.unit!r} for {NAMES[test.loinc]}")
    if not said.dimensions and test.unit:
        found.append(f"{test.code}: a unit for {NAMES[test.loinc]}")
    if not set(test.specimen_types) <= said.specimens or (said.specimens and not test.specimen_types):
        found.append(f"{test.code}: specimen types {test.specimen_types} for {NAMES[test.loinc]}")
    return found


def test_the_check_digit_test_can_fail() -> None:
    assert has_loinc_check_digit("2345-7")
    assert not has_loinc_check_digit("2345-8")
    assert not has_loinc_check_digit("3245-7")  # two digits swapped
    assert not has_loinc_check_digit("NEWTEST")


def test_there_are_enough_tests_and_most_have_a_verified_loinc_code() -> None:
    assert len(TESTS) >= 700
    assert sum(bool(test.loinc) for test in TESTS.values()) >= 650


def test_every_loinc_code_has_its_check_digit_and_is_given_once() -> None:
    codes = [test.loinc for test in shipped_tests() if test.loinc]
    codes += [panel.loinc for panel in shipped_panels() if panel.loinc]
    assert [code for code in codes if not has_loinc_check_digit(code)] == []
    assert [code for code, count in Counter(codes).items() if count > 1] == []


def test_every_loinc_code_was_verified_in_a_named_source_and_none_is_left_over() -> None:
    codes = {test.loinc for test in shipped_tests()} | {panel.loinc for panel in shipped_panels()}
    assert codes - {""} == set(NAMES)
    assert {row["source"] for row in LOINC["codes"].values()} <= set(LOINC["sources"])
    assert all(len(source) > 20 for source in LOINC["sources"].values())


def test_property_and_system_of_every_loinc_code_agree_with_unit_and_specimen() -> None:
    assert [fault for test in shipped_tests() if test.loinc for fault in faults(test)] == []


@pytest.mark.parametrize(
    ("test", "loinc", "words"),
    [
        ("GLU", "14749-6", "unit 'mg/dL' for Glucose [Moles/volume] in Serum or Plasma"),
        ("CK", "13969-1", "unit 'U/L' for Creatine kinase.MB [Mass/volume] in Serum or Plasma"),
        ("GLU", "2342-4", "specimen types ('SER', 'PLAS') for Glucose [Mass/volume] in Cerebral spinal fluid"),
        ("NEUT_PCT", "751-8", "unit '%' for Neutrophils [#/volume] in Blood by Automated count"),
        ("PH_A", "2746-6", "specimen types ('BLDA',) for pH of Venous blood"),
        ("GRAM", "600-7", ""),  # words of any specimen: `in Blood` wants a blood specimen
    ],
)
def test_a_wrong_loinc_code_is_found(test: str, loinc: str, words: str) -> None:
    found = faults(replace(TESTS[test], loinc=loinc))
    assert found
    assert words in found[0]


def test_the_tests_of_a_panel_are_made_from_the_specimen_its_loinc_code_names() -> None:
    for panel in shipped_panels():
        named = re.search(r"(?: - |in random )(.+?)(?: by .*)?$", NAMES[panel.loinc]) if panel.loinc else None
        system = next((allowed for words, allowed in SYSTEMS if named and named[1] == words), ANY)
        assert [code for code in panel.tests if not system & set(TESTS[code].specimen_types)] == [], panel.code


def test_a_panel_has_a_code_of_its_own() -> None:
    panels = [panel.code for panel in shipped_panels()]
    assert [code for code, count in Counter([*panels, *TESTS]).items() if count > 1] == []
    assert [code for code in panels if re.fullmatch(r"[A-Z][A-Z0-9_]{0,15}", code) is None] == []


def test_every_test_has_what_its_kind_needs() -> None:
    wrong = []
    for test in shipped_tests():
        numeric = test.kind is ValueKind.NUMERIC
        if numeric != bool(test.unit) or (not numeric and test.decimals is not None):
            wrong.append(f"{test.code}: {test.kind} with unit {test.unit!r} and decimals {test.decimals}")
        if test.unit and not parse(test.unit):
            wrong.append(f"{test.code}: {test.unit}")
        if not set(test.specimen_types) <= ANY:
            wrong.append(f"{test.code}: {test.specimen_types}")
        if re.fullmatch(r"[A-Z][A-Z0-9_]{0,15}", test.code) is None or not test.name or not test.department:
            wrong.append(f"{test.code}: code, name or department")
        if test.kind not in (ValueKind.NUMERIC, ValueKind.TEXT, ValueKind.CODED, ValueKind.RATIO):
            wrong.append(f"{test.code}: {test.kind}")
    assert wrong == []


def test_no_code_and_no_name_is_given_twice() -> None:
    for words in ([test.code for test in shipped_tests()], [test.name for test in shipped_tests()]):
        assert [word for word, count in Counter(words).items() if count > 1] == []

"""Suggestions: what speaks for a test is told, what speaks against it rules it out."""

from __future__ import annotations

from interface.domain.map_suggest import Hints, Suggestion, Unmapped, suggest
from interface.domain.model import LabTest, ValueKind
from interface.domain.units import UnitAliases

GLU = LabTest("1", "GLU", "Glucose", "2345-7", "mg/dL")
GLU_SI = LabTest("2", "GLU_SI", "Glucose (molar)", "14749-6", "mmol/L")
NEUT = LabTest("3", "NEUT", "Neutrophils", "751-8", "10*3/uL")
NEUT_PCT = LabTest("4", "NEUT_PCT", "Neutrophils of leukocytes", "770-8", "%")
COLOUR = LabTest("5", "UCOL", "Colour of urine", "5778-6", "", kind=ValueKind.TEXT)
TESTS = (GLU, GLU_SI, NEUT, NEUT_PCT, COLOUR)
ALIASES = UnitAliases({"mg%": ("mg/dL",)})


def ranked(code: Unmapped, hints: Hints | None = None) -> list[Suggestion]:
    return suggest(code, TESTS, hints or Hints(), ALIASES)


def names(found: list[Suggestion]) -> list[str]:
    return [one.test for one in found]


def test_a_name_is_found_and_the_unit_tells_mass_from_amount() -> None:
    assert names(ranked(Unmapped("d", "0012", names=("Glucose HK liquid",), units=("mmol/L",)))) == ["GLU_SI"]
    assert names(ranked(Unmapped("d", "0012", names=("Glucose HK liquid",), units=("mg%",)))) == ["GLU"]
    assert set(names(ranked(Unmapped("d", "0012", names=("Glucose",))))) == {"GLU", "GLU_SI"}


def test_a_unit_alone_is_no_evidence() -> None:
    assert ranked(Unmapped("d", "0012", units=("mg/dL",))) == []


def test_a_unit_that_nobody_knows_rules_nothing_out() -> None:
    [found] = ranked(Unmapped("d", "GLU", units=("wibble",)))[:1]
    assert found.test == "GLU"


def test_a_count_and_its_percentage_are_told_apart() -> None:
    assert names(ranked(Unmapped("d", "NEUT%")))[0] == "NEUT_PCT"
    assert names(ranked(Unmapped("d", "NEUT#")))[0] == "NEUT"


def test_words_do_not_answer_a_test_that_is_a_number() -> None:
    assert "GLU" not in names(ranked(Unmapped("d", "GLU", kinds=("text",))))
    assert names(ranked(Unmapped("d", "COL", names=("Urine colour",), kinds=("text",)))) == ["UCOL"]


def test_a_number_means_something_only_to_analyzers_of_the_same_vendor() -> None:
    elsewhere = {"717": {"GLU": frozenset({"acme_1"})}}
    hints = Hints(elsewhere=elsewhere, vendors={"acme_1": "Acme", "acme_2": "Acme", "other": "Other"})
    [found] = ranked(Unmapped("acme_2", "717"), hints)
    assert (found.test, found.reasons) == ("GLU", ("acme_1 has this code for it",))
    assert ranked(Unmapped("other", "717"), hints) == []
    assert ranked(Unmapped("acme_1", "717"), hints) == [], "a driver is no witness for itself"


def test_a_vendor_s_own_statement_beats_the_likeness_of_names() -> None:
    hints = Hints(livd={"X": {"751-8": "acme.xlsx:7"}})
    found = ranked(Unmapped("d", "X", names=("Neutrophils of leukocytes",)), hints)
    assert names(found)[0] == "NEUT"
    assert "LIVD maps it to 751-8 (acme.xlsx:7)" in found[0].reasons


def test_an_unverified_row_of_the_shipped_map_is_told_with_its_reason() -> None:
    hints = Hints(unverified={("d", "687"): ("GLU", "no method sheet at hand")})
    [found] = ranked(Unmapped("d", "687"), hints)
    assert found.reasons == ("the shipped map has it, unverified: no method sheet at hand",)


def test_open_orders_speak_by_their_share() -> None:
    code = Unmapped("d", "0012", specimens=4, open_items={"GLU": 4, "GLU_SI": 1})
    found = ranked(code)
    assert names(found) == ["GLU", "GLU_SI"]
    assert found[0].score > 3 * found[1].score

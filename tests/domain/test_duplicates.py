from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.duplicates import (
    LIKELY,
    POINTS,
    SHOWN,
    Demographics,
    alike,
    compare,
    jaro,
    near_dates,
    similarity,
)
from interface.domain.model import Sex
from interface.domain.views import IdentifierView

BORN = date(1980, 5, 12)
EVA = Demographics("Müller", "Eva Maria", BORN, Sex.FEMALE, (IdentifierView("urn:a", "4711"),))


def like(
    family: str = "Müller", given: str = "Eva Maria", born: date | None = BORN, sex: Sex = Sex.FEMALE, *numbers: str
) -> Demographics:
    identifiers = tuple(IdentifierView(*number.split("|")) for number in numbers)
    return Demographics(family, given, born, sex, identifiers)


# The decision table: another record beside EVA → what is found, and whether it is shown, or likely.
TABLE = [
    (like(), "same name; same birth date; same sex", "likely"),
    (like("MUELLER", "Eva-Maria"), "similar name; same birth date; same sex", "likely"),
    (like("Muller", "Maria Eva"), "same name; same birth date; same sex", "likely"),
    (like("Eva Maria", "Müller"), "family and given name exchanged; same birth date; same sex", "likely"),
    (like("Müller", "Eva"), "similar name; same birth date; same sex", "likely"),
    (like("Müller", "E."), "similar name; same birth date; same sex", "likely"),
    (like("Müler", "Ewa Maria"), "similar name; same birth date; same sex", "likely"),
    (like(born=date(1980, 12, 5)), "same name; birth date with day and month exchanged; same sex", "likely"),
    (like(born=date(1908, 5, 12)), "same name; birth date two digits exchanged; same sex", "shown"),
    (like(born=date(1990, 5, 12)), "same name; birth date one digit off; same sex", "shown"),
    (like(born=date(1980, 5, 13)), "same name; birth date one day off; same sex", "shown"),
    (like(born=None), "same name; same sex", "no"),  # a name alone
    (like(born=None, sex=Sex.UNKNOWN), "same name", "no"),
    (like(sex=Sex.MALE), "same name; same birth date; another sex", "shown"),
    (like(sex=Sex.UNKNOWN), "same name; same birth date", "likely"),
    (like("Müller", "Anton"), "same family name; another given name; same birth date; same sex", "no"),  # a twin
    (like("Schmidt", "Eva Maria"), "same given name; same birth date; same sex", "shown"),  # a married name
    (like("Schmidt", "Eva Maria", date(1990, 1, 1)), "same given name; another birth date; same sex", "no"),
    (like("Schmidt", "Anna"), "another name; same birth date; same sex", "no"),
    (like(born=date(1955, 1, 30)), "same name; another birth date; same sex", "no"),  # a namesake
    (like("Müller", "Eva Maria", None, Sex.UNKNOWN, "urn:b|4711"), "same name; same number of another authority",
     "likely"),
    (like("Schmidt", "Anna", date(1955, 1, 30), Sex.MALE, "urn:b|4711"),
     "another name; another birth date; another sex; same number of another authority", "no"),
    (like("", "", BORN, Sex.FEMALE, "urn:a|4711"), "same birth date; same sex; same number", "likely"),
    (like("", "", None, Sex.UNKNOWN, "urn:a|9"), "", "no"),
    (like("Müller", ""), "same family name; same birth date; same sex", "shown"),
]  # fmt: skip


@pytest.mark.parametrize(("other", "reasons", "verdict"), TABLE, ids=lambda value: str(value)[:60])
def test_the_table(other: Demographics, reasons: str, verdict: str) -> None:
    found = compare(EVA, other)
    assert "; ".join(found.reasons) == reasons
    assert found.score == sum(POINTS[reason] for reason in found.reasons)
    said = "likely" if found.score >= LIKELY else "shown" if found.score >= SHOWN else "no"
    assert said == verdict, found
    assert found.likely == (verdict == "likely")


def test_every_finding_is_in_the_table() -> None:
    assert {reason for _, reasons, _ in TABLE for reason in reasons.split("; ") if reason} == set(POINTS)


# Porter and Winkler, Approximate String Comparison and its Effect on an Advanced Record Linkage System (1997), table
# "Comparison of String Comparators Using Last Names, First Names, and Street Names": the columns Jaro and Winkler.
@pytest.mark.parametrize(
    ("one", "other", "plain", "winkler"),
    [
        ("martha", "marhta", "0.944", "0.961"),
        ("dixon", "dicksonx", "0.767", "0.813"),
        ("dwayne", "duane", "0.822", "0.840"),
        ("jones", "johnson", "0.790", "0.832"),
        ("abroms", "abrams", "0.889", "0.922"),
        ("hardin", "martinez", "0.722", "0.722"),
        ("itman", "smith", "0.467", "0.467"),
    ],
)
def test_similarity_is_that_of_the_published_examples(one: str, other: str, plain: str, winkler: str) -> None:
    def rounded(value: Fraction) -> str:
        return str((Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal("0.001")))

    assert (rounded(jaro(one, other)), rounded(similarity(one, other))) == (plain, winkler)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("anna", "ana", True), ("meyer", "meier", True), ("mohammed", "mohamed", True), ("anna", "anja", False),
        ("e", "eva", True), ("e", "anna", False), ("mueller", "muller", True), ("joe", "jo", True),
        ("eva", "ava", False),
    ],
)  # fmt: skip
def test_words_that_may_be_one(one: str, other: str, same: bool) -> None:
    assert alike(one, other) is same


NAMES = st.sampled_from(["Müller", "Mueller", "Eva", "E", "Maria", "", "O'Brien", "Ali", "Nguyễn"])
PEOPLE = st.builds(
    Demographics,
    family=NAMES,
    given=st.lists(NAMES, max_size=3).map(" ".join),
    birth_date=st.none() | st.dates(date(1900, 1, 1), date(2026, 1, 1)),
    sex=st.sampled_from(Sex),
    identifiers=st.lists(st.builds(IdentifierView, st.sampled_from("ab"), st.sampled_from("12")), max_size=2).map(
        tuple
    ),
)


@given(PEOPLE, PEOPLE)
def test_it_is_the_same_both_ways_round(one: Demographics, other: Demographics) -> None:
    assert compare(one, other) == compare(other, one)


@given(st.dates(date(1900, 1, 1), date(2026, 1, 1)), st.dates(date(1900, 1, 1), date(2026, 1, 1)))
def test_candidates_are_looked_for_wherever_a_date_is_near(one: date, other: date) -> None:
    for born in near_dates(one):
        assert "another birth date" not in compare(Demographics(birth_date=one), Demographics(birth_date=born)).reasons
    if "another birth date" not in compare(Demographics(birth_date=one), Demographics(birth_date=other)).reasons:
        assert other in near_dates(one)
    assert one in near_dates(one)

"""Critical limits where it is not known whom a value is of: those of everybody it may be, against trying everybody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interface.domain.book import Book
from interface.domain.catalogue import Catalogue
from interface.domain.facts import Subject
from interface.domain.flags import evaluate_each
from interface.domain.intervals import has_critical, select
from interface.domain.model import Interval, IntervalUse, LabTest, PatientFacts, Sex, Value, ValueKind
from interface.domain.possible import MOST_POSSIBLE, possible_subjects
from interface.domain.subject import at_collection, possible_collections

D = Decimal
AT = datetime(2026, 3, 11, 12, tzinfo=UTC)
ROW = Interval("row", "t-k", "mmol/L", None, None, D("2.5"), D("6.5"), use=IntervalUse.CRITICAL)
WOMEN, MEN = replace(ROW, id="women", sex=Sex.FEMALE), replace(ROW, id="men", sex=Sex.MALE, critical_high=D(7))
YOUNG, OLD = replace(ROW, id="young", age_high_d=28), replace(ROW, id="old", age_low_d=28)
EARLY, LATE = replace(ROW, id="early", age_high_h=36), replace(ROW, id="late", age_low_h=36)
EXPECTING, OTHERS = replace(ROW, id="expecting", pregnant=True), replace(ROW, id="others", pregnant=False)
BEGUN = replace(EXPECTING, id="begun", gestation_high_w=13)
NOBODY = Subject(collected_at=AT, specimen_type="SER")
KNOWN = replace(NOBODY, sex=Sex.FEMALE, age_d=9000)


def limits(rows: tuple[Interval, ...]) -> set[tuple[object, ...]]:
    return {(one.critical_low, one.critical_high) if has_critical(one) else () for one in rows}


@pytest.mark.parametrize(
    ("rows", "subject", "possible", "unsure"),
    [
        ((WOMEN, MEN), NOBODY, "men women", True),
        ((WOMEN, MEN), KNOWN, "", False),
        ((WOMEN, MEN), replace(NOBODY, sex=Sex.OTHER), "men women", True),
        ((WOMEN, replace(MEN, critical_high=D("6.5"))), NOBODY, "men women", True),  # the same whoever it is
        ((WOMEN,), NOBODY, "women ", True),
        ((YOUNG, OLD), NOBODY, "old young", True),
        ((YOUNG,), NOBODY, "young ", True),
        ((EARLY, LATE), replace(NOBODY, age_d=1), "early late", True),
        ((EARLY, LATE), replace(NOBODY, age_d=4), "late", True),
        ((EARLY, OLD), NOBODY, "early old ", True),
        ((EXPECTING, OTHERS), KNOWN, "expecting others", True),
        ((EXPECTING, OTHERS), replace(KNOWN, sex=Sex.MALE), "others", True),
        ((EXPECTING,), KNOWN, "expecting ", True),
        ((BEGUN, EXPECTING, OTHERS), KNOWN, "begun expecting others", True),
        ((replace(ROW, specimen_type="PLAS"),), replace(KNOWN, specimen_type=""), "row ", True),
        ((replace(ROW, method="enzymatic"),), KNOWN, "row ", True),
        ((ROW, MEN), NOBODY, "", False),  # one that is for everybody is for whoever it is
    ],
)
def test_those_count_that_whoever_it_may_be_has(
    rows: tuple[Interval, ...], subject: Subject, possible: str, unsure: bool
) -> None:
    found = select(rows, subject)
    assert " ".join(one.id for one in found.possible) == possible
    assert found.critical_unsure is unsure
    assert (found.critical is None) is unsure


def test_what_the_interval_says_is_said_beside_limits_that_are_not_certain() -> None:
    interval = Interval("all", "t-k", "mmol/L", D("3.5"), D("5.1"), None, None)
    found = select((interval, WOMEN, MEN), NOBODY)
    assert found.interval is interval
    for number, flags, held in (("5.5", ("H",), 0), ("6.8", ("H",), 1), ("8", ("HH",), 0), ("4", ("N",), 0)):
        said = evaluate_each(Value(ValueKind.NUMERIC, number, D(number)), found.interval, found.possible)
        assert (said.flags, len(said.holds), said.display) == (flags, held, "")


def test_of_too_many_that_it_may_be_nothing_is_certain() -> None:
    rows = tuple(
        replace(ROW, id=f"{sex} {day}", sex=sex, age_low_d=day, age_high_d=day + 1)
        for sex, day in product((Sex.FEMALE, Sex.MALE), range(MOST_POSSIBLE))
    )
    assert possible_subjects(rows, NOBODY, "") == ()
    found = select(rows, NOBODY)
    assert (found.critical, found.critical_unsure, found.possible[-1].id) == (None, True, "")


def test_nothing_is_collected_before_the_birth() -> None:
    born = AT - timedelta(hours=50, minutes=20)
    times = possible_collections(None, AT, born, hourly=True)
    assert (times[0], times[-1], len(times)) == (born, AT, 52)
    assert possible_collections(None, AT, born) == (born, AT)
    ages = [at_collection(PatientFacts("p", birth_at=born), None, "SER", at, UTC).age_h for at in times]
    assert ages[:-1] == list(range(51)) and ages[-1] == 50
    week = timedelta(days=7)
    assert possible_collections(None, AT, AT - 2 * week) == (AT - week, AT)
    assert possible_collections(None, AT, AT + week) == (AT - week, AT)  # such a birth is wrong, and says nothing


@pytest.mark.parametrize("hour", [12, 24, 36, 48, 60, 100])
def test_people_share_what_is_possible_only_where_the_same_is(hour: int) -> None:
    """Of somebody whose hour of birth is not known, the days say which hours there may be."""
    rows = replace(EARLY, age_high_h=hour), replace(LATE, age_low_h=hour, critical_high=D(7))
    test = LabTest("t-k", "K", "potassium", unit="mmol/L")
    for days in (range(9), range(8, -1, -1)):
        book = Book(Catalogue(tests={test.id: test}, intervals={test.id: rows}), "", "")
        for day in days:
            subject = replace(NOBODY, age_d=day)
            known = book.people((subject,))
            limits_of = known.setdefault(test.id, book.limits(test, "", (subject,)))
            assert limits_of.selection == select(rows, subject), day


HOURS, DAYS = (0, 12, 24, 30, 48), (0, 1, 2, 3)
AGES = st.one_of(
    st.builds(
        lambda one, other: {"age_low_h": min(one, other), "age_high_h": max(one, other) + 1 if one else None},
        st.sampled_from(HOURS), st.sampled_from(HOURS),
    ),
    st.builds(
        lambda one, other: {"age_low_d": min(one, other), "age_high_d": max(one, other) + 1 if one else None},
        st.sampled_from(DAYS), st.sampled_from(DAYS),
    ),
)  # fmt: skip
ROWS = st.builds(
    lambda use, high, ages, sex, pregnant: replace(
        ROW, use=use, critical_high=None if use is IntervalUse.REFERENCE else high,
        critical_low=None, low=None if use is IntervalUse.CRITICAL else D(1), sex=sex, pregnant=pregnant, **ages,
    ),
    st.sampled_from(list(IntervalUse)), st.sampled_from([D(6), D(7)]), AGES,
    st.sampled_from([None, Sex.FEMALE, Sex.MALE]), st.sampled_from([None, None, True, False]),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.lists(ROWS, max_size=4), st.sampled_from([Sex.UNKNOWN, Sex.FEMALE, Sex.MALE]),
    st.sampled_from([None, 0, 1, 2, 5]), st.sampled_from([None, True, False]),
)  # fmt: skip
def test_they_are_those_that_are_found_by_trying_everybody(
    given_rows: list[Interval], sex: Sex, days: int | None, pregnant: bool | None
) -> None:
    assume(not (sex is Sex.MALE and pregnant))
    rows = [replace(row, id=f"r{place}") for place, row in enumerate(given_rows)]
    found = select(rows, replace(NOBODY, sex=sex, age_d=days, pregnant=pregnant))
    if found.critical is not None and has_critical(found.critical):
        return  # they surely apply
    tried: set[tuple[object, ...]] = set()
    for each, hour, more in product((Sex.FEMALE, Sex.MALE), range(24 * 7), (0, 1)):
        if (sex in (Sex.UNKNOWN, each)) and days in (None, hour // 24 + more):
            for expects in (True, False) if pregnant is None and each is Sex.FEMALE else (bool(pregnant),):
                one = select(rows, replace(NOBODY, sex=each, age_h=hour, age_d=hour // 24 + more, pregnant=expects))
                tried |= limits(one.possible or ((one.critical,) if one.critical else (Interval("", "", ""),)))
    assert tried == (limits(found.possible) if found.possible else {()})
    assert found.critical_unsure or not found.possible

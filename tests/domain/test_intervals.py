"""Reference intervals: age at collection, the most specific wins, and what is unknown is never guessed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.intervals import Selection, age_in_days, select
from interface.domain.model import Interval, Sex

BORN = date(2000, 2, 29)
COLLECTED = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


def interval(
    name: str, *, sex: Sex | None = None, ages: tuple[int, int | None] = (0, None), specimen: str = "",
    priority: int = 0, high: str | None = None,
) -> Interval:  # fmt: skip
    limit = Decimal(high) if high else Decimal(len(name))
    return Interval(name, "t", "g/L", Decimal(1), limit, None, None, sex, ages[0], ages[1], specimen, "", "", priority)


def chosen(
    *intervals: Interval, sex: Sex = Sex.FEMALE, born: date | None = BORN, at: datetime | None = COLLECTED,
    specimen: str = "SER", test_id: str = "t",
) -> Selection:  # fmt: skip
    return select(intervals, test_id=test_id, sex=sex, birth_date=born, collected_at=at, specimen_type=specimen)


def names(selection: Selection) -> tuple[str, ...]:
    return (selection.interval.id,) if selection.interval else tuple(one.id for one in selection.ambiguous)


ANY = interval("any")
FEMALE = interval("female", sex=Sex.FEMALE)
MALE = interval("male", sex=Sex.MALE)
ADULT = interval("adult", ages=(6574, None))
CHILD = interval("child", ages=(0, 6574))
ADULT_FEMALE = interval("adult-female", sex=Sex.FEMALE, ages=(6574, None))
SERUM = interval("serum", specimen="SER")


def test_the_most_specific_interval_wins() -> None:
    assert names(chosen(ANY, FEMALE, MALE, ADULT, ADULT_FEMALE)) == ("adult-female",)
    assert names(chosen(ANY, FEMALE, MALE, CHILD)) == ("female",)
    assert names(chosen(ANY, SERUM)) == ("serum",)
    assert names(chosen(ANY, SERUM, specimen="PLAS")) == ("any",)


def test_a_narrower_age_band_is_more_specific() -> None:
    infant = interval("infant", ages=(0, 365))
    neonate = interval("neonate-first-week", ages=(0, 7))
    third_day = datetime(2000, 3, 3, tzinfo=UTC)
    assert names(chosen(ANY, CHILD, infant, neonate, at=third_day)) == ("neonate-first-week",)


@pytest.mark.parametrize(
    ("collected", "expected"),
    [
        (datetime(2000, 3, 1, tzinfo=UTC), ("day-one",)),
        (datetime(2000, 3, 6, 23, 59, tzinfo=UTC), ("day-one",)),
        (datetime(2000, 3, 7, tzinfo=UTC), ("week-two",)),
        (datetime(2000, 3, 14, tzinfo=UTC), ()),
    ],
)
def test_the_lower_age_is_in_the_band_and_the_upper_is_not(collected: datetime, expected: tuple[str, ...]) -> None:
    bands = interval("day-one", ages=(1, 7)), interval("week-two", ages=(7, 14))
    assert names(chosen(*bands, at=collected)) == expected


def test_an_interval_that_depends_on_what_is_unknown_is_not_used() -> None:
    assert names(chosen(FEMALE, MALE, sex=Sex.UNKNOWN)) == ()
    assert names(chosen(FEMALE, MALE, sex=Sex.OTHER)) == ()
    assert names(chosen(FEMALE, MALE, ANY, sex=Sex.UNKNOWN)) == ("any",)
    assert names(chosen(ADULT, CHILD, born=None)) == ()
    assert names(chosen(ADULT, CHILD, at=None)) == ()
    assert names(chosen(ADULT, FEMALE, born=None)) == ("female",)


def test_a_birth_after_the_collection_is_no_age() -> None:
    assert age_in_days(date(2030, 1, 1), COLLECTED) is None
    assert names(chosen(CHILD, born=date(2030, 1, 1))) == ()


def test_none_is_selected_when_none_applies() -> None:
    assert chosen() == Selection()
    assert chosen(ANY, test_id="other") == Selection()


def test_priority_decides_between_intervals_neither_of_which_is_more_specific() -> None:
    urgent = interval("adult", ages=(6574, None), priority=2)
    assert names(chosen(FEMALE, urgent)) == ("adult",)
    assert names(chosen(interval("female", sex=Sex.FEMALE, priority=3), urgent)) == ("female",)


def test_two_that_nothing_decides_between_are_ambiguous_unless_they_say_the_same() -> None:
    assert names(chosen(FEMALE, ADULT)) == ("adult", "female")
    assert chosen(FEMALE, ADULT).interval is None
    alike = interval("b", sex=Sex.FEMALE, high="9"), interval("a", ages=(6574, None), high="9")
    assert names(chosen(*alike)) == ("a",)


MANY = st.builds(
    interval,
    st.text("abc", min_size=1, max_size=3),
    sex=st.sampled_from([None, Sex.FEMALE, Sex.MALE]),
    ages=st.tuples(st.integers(0, 12000), st.none() | st.integers(1, 12000)),
    specimen=st.sampled_from(["", "SER", "PLAS"]),
    priority=st.integers(0, 2),
)


@given(st.lists(MANY, max_size=6))
def test_the_choice_does_not_depend_on_the_order_of_the_rows(rows: list[Interval]) -> None:
    shuffled = sorted(rows, key=lambda row: (row.priority, row.id, str(row)), reverse=True)
    first, second = chosen(*rows), chosen(*shuffled)
    assert (first.interval is None) == (second.interval is None)
    assert sorted(map(str, first.ambiguous)) == sorted(map(str, second.ambiguous))


@given(st.lists(MANY, max_size=6))
def test_without_sex_and_birth_date_only_intervals_for_everyone_are_chosen(rows: list[Interval]) -> None:
    found = chosen(*rows, sex=Sex.UNKNOWN, born=None)
    for one in (found.interval, *found.ambiguous):
        assert one is None or (one.sex is None and one.age_low_d == 0 and one.age_high_d is None)

"""Reference intervals: age at collection, the most specific wins, and what is unknown is never guessed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.intervals import Selection, faults, select
from interface.domain.model import Interval, IntervalUse, PatientFacts, Sex, SpecimenFacts
from interface.domain.subject import age_in_days, age_in_hours, age_in_years, at_collection, possible_collections
from interface.store.catalogue import shipped_intervals

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
    specimen: str = "SER", born_at: datetime | None = None, pregnant: bool | None = None, weeks: int | None = None,
    method: str = "", analyzer: str = "",
) -> Selection:  # fmt: skip
    patient = PatientFacts("p", birth_date=born, birth_at=born_at, sex=sex)
    taken = SpecimenFacts("s", "B", pregnant=pregnant, gestation_weeks=weeks)
    return select(intervals, at_collection(patient, taken, specimen, at, UTC), method=method, analyzer=analyzer)


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
    assert chosen(MALE) == Selection()


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


# ---- hours, calendars and clocks ---

BIRTH = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
# Bilirubin of the newborn rises by the hour: AAP 2022 (Kemper AR et al., Pediatrics 2022;150(3)) acts on age in hours.
DAY_ONE = replace(interval("first-24-h"), age_low_h=0, age_high_h=24)
DAY_TWO = replace(interval("24-to-48-h"), age_low_h=24, age_high_h=48)
LATER = replace(interval("48-h-to-28-d", ages=(0, 28)), age_low_h=48)


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        (timedelta(), ("first-24-h",)),
        (timedelta(hours=23, minutes=59), ("first-24-h",)),
        (timedelta(hours=24), ("24-to-48-h",)),
        (timedelta(hours=47, minutes=59, seconds=59), ("24-to-48-h",)),
        (timedelta(hours=48), ("48-h-to-28-d",)),
        (timedelta(days=26), ("48-h-to-28-d",)),
        (timedelta(days=29), ()),
        (-timedelta(minutes=1), ()),
    ],
)
def test_newborns_are_aged_in_hours(passed: timedelta, expected: tuple[str, ...]) -> None:
    assert names(chosen(DAY_ONE, DAY_TWO, LATER, born=BIRTH.date(), born_at=BIRTH, at=BIRTH + passed)) == expected


def test_hours_are_not_guessed_from_a_birth_date() -> None:
    assert names(chosen(DAY_ONE, DAY_TWO, LATER, ANY, born=BIRTH.date(), at=BIRTH + timedelta(days=3))) == ("any",)


def test_an_hour_is_sixty_minutes_when_the_clocks_change() -> None:
    jena = ZoneInfo("Europe/Berlin")
    born = datetime(2026, 3, 29, 1, 30, tzinfo=jena)  # half an hour before 02:00 becomes 03:00
    assert age_in_hours(born, datetime(2026, 3, 29, 3, 29, tzinfo=jena)) == 0
    assert age_in_hours(born, datetime(2026, 3, 29, 3, 30, tzinfo=jena)) == 1
    assert age_in_hours(datetime(2026, 10, 25, 1, 30, tzinfo=jena), datetime(2026, 10, 25, 4, 30, tzinfo=jena)) == 4


def test_a_day_is_the_laboratory_s() -> None:
    at = datetime(2026, 3, 1, 18, 0, tzinfo=UTC)  # the second of March in Jakarta
    patient = PatientFacts("p", birth_date=date(2026, 3, 1), sex=Sex.FEMALE)
    assert at_collection(patient, None, "SER", at, ZoneInfo("Asia/Jakarta")).age_d == 1
    assert at_collection(patient, None, "SER", at, UTC).age_d == 0


@pytest.mark.parametrize(
    ("born", "at", "days", "years"),
    [
        (date(2024, 2, 29), date(2025, 2, 28), 365, 0),
        (date(2024, 2, 29), date(2025, 3, 1), 366, 1),
        (date(2024, 2, 29), date(2028, 2, 29), 1461, 4),
        (date(2008, 3, 1), date(2026, 2, 28), 6573, 17),
        (date(2008, 3, 1), date(2026, 3, 1), 6574, 18),
        (date(2026, 3, 1), date(2026, 3, 1), 0, 0),
    ],
)
def test_leap_days_and_the_day_of_birth(born: date, at: date, days: int, years: int) -> None:
    assert (age_in_days(born, at), age_in_years(born, at)) == (days, years)


def test_of_who_or_when_is_not_known_there_is_no_age() -> None:
    day = date(2026, 3, 1)
    for born, at in ((None, day), (day, None), (None, None), (day, date(2026, 2, 28))):
        assert (age_in_days(born, at), age_in_years(born, at)) == (None, None)
    assert age_in_hours(None, BIRTH) is age_in_hours(BIRTH, None) is None


def test_a_birth_later_on_the_day_of_the_collection_is_no_age() -> None:
    subject = at_collection(PatientFacts("p", birth_at=BIRTH), None, "SER", BIRTH - timedelta(hours=1), UTC)
    assert (subject.age_h, subject.age_d) == (None, None)


def test_an_unknown_time_of_collection_has_bounds() -> None:
    received = datetime(2026, 3, 8, tzinfo=UTC)
    assert possible_collections(COLLECTED, received) == (COLLECTED,)
    assert possible_collections(None, received) == (datetime(2026, 3, 1, tzinfo=UTC), received)
    assert possible_collections(None, None) == (None,)


# ---- pregnancy, method, validity, critical limits of their own ---

PREGNANT = replace(interval("pregnant"), pregnant=True)
FIRST = replace(interval("1st-trimester"), pregnant=True, gestation_high_w=13)
SECOND = replace(interval("2nd-trimester!"), pregnant=True, gestation_low_w=13, gestation_high_w=28)
NOT_PREGNANT = replace(interval("not-pregnant!!"), pregnant=False)


@pytest.mark.parametrize(
    ("pregnant", "weeks", "expected"),
    [
        (True, 12, "1st-trimester"), (True, 13, "2nd-trimester!"), (True, 27, "2nd-trimester!"), (True, 28, "pregnant"),
        (True, None, "pregnant"), (False, None, "not-pregnant!!"), (None, None, "any"), (None, 20, "any"),
    ],
)  # fmt: skip
def test_pregnancy_and_its_weeks_are_never_guessed(pregnant: bool | None, weeks: int | None, expected: str) -> None:
    assert names(chosen(ANY, PREGNANT, FIRST, SECOND, NOT_PREGNANT, pregnant=pregnant, weeks=weeks)) == (expected,)


def test_an_interval_of_a_method_or_an_analyzer_is_only_for_that_one() -> None:
    enzymatic = replace(interval("enzymatic"), method="enzymatic")
    first = replace(interval("first-analyzer"), analyzer="c1")
    assert names(chosen(ANY, enzymatic, first)) == ("any",)
    assert names(chosen(ANY, enzymatic, first, method="enzymatic", analyzer="c2")) == ("enzymatic",)
    assert names(chosen(ANY, enzymatic, first, method="jaffe", analyzer="c1")) == ("first-analyzer",)
    assert names(chosen(ANY, enzymatic, first, method="enzymatic", analyzer="c1")) == ("enzymatic", "first-analyzer")


def test_an_interval_is_valid_for_what_was_collected_while_it_was() -> None:
    change = datetime(2026, 1, 1, tzinfo=UTC)
    old, new = replace(interval("old"), valid_to=change), replace(interval("newer"), valid_from=change)
    assert names(chosen(old, new, at=change - timedelta(seconds=1))) == ("old",)
    assert names(chosen(old, new, at=change)) == ("newer",)
    assert names(chosen(old, new, at=None)) == ()


def test_critical_limits_of_their_own_stand_beside_the_interval() -> None:
    own = replace(ADULT_FEMALE, critical_high=Decimal(90))
    newborn = replace(interval("critical-newborn", ages=(0, 28)), use=IntervalUse.CRITICAL, critical_high=Decimal(15))
    everyone = replace(interval("critical"), use=IntervalUse.CRITICAL, critical_high=Decimal(20))
    found = chosen(own, newborn)
    assert (found.interval, found.critical) == (own, own)
    found = chosen(own, newborn, everyone)
    assert (found.interval, found.critical) == (own, everyone)
    found = chosen(own, newborn, everyone, at=datetime(2000, 3, 1, tzinfo=UTC))
    assert (found.interval, found.critical) == (None, newborn)
    assert chosen(replace(own, use=IntervalUse.REFERENCE)).critical is None
    twice = replace(everyone, id="twice", critical_high=Decimal(21))
    assert chosen(own, everyone, twice).ambiguous == (everyone, twice)


LIMITS = replace(interval("critical", ages=(28, None)), use=IntervalUse.CRITICAL, critical_high=Decimal(15))
HOURS = replace(interval("hours"), age_low_h=12, age_high_h=48)
PREGNANT = replace(interval("pregnant"), pregnant=True)


@pytest.mark.parametrize(
    ("rows", "about", "unsure"),
    [
        ((), {"sex": Sex.UNKNOWN, "born": None}, (False, False)),
        ((FEMALE, MALE), {}, (False, False)),
        ((FEMALE, MALE), {"sex": Sex.UNKNOWN}, (True, False)),
        ((FEMALE, MALE), {"sex": Sex.OTHER}, (True, False)),  # a sex for which the laboratory has no limits
        ((MALE,), {}, (False, False)),
        ((ANY, FEMALE), {"sex": Sex.UNKNOWN}, (False, False)),  # one that is for everyone is for whoever it is
        ((ADULT,), {"born": None}, (True, False)),
        ((ADULT,), {"at": datetime(2005, 1, 1, tzinfo=UTC)}, (False, False)),
        ((HOURS,), {}, (False, False)),  # hours of the birth are not known, and do not matter to a grown person
        ((HOURS,), {"at": datetime(2000, 3, 2, tzinfo=UTC)}, (True, False)),
        ((PREGNANT,), {}, (True, False)),
        ((PREGNANT,), {"sex": Sex.MALE}, (False, False)),
        ((PREGNANT,), {"pregnant": False}, (False, False)),
        ((SERUM,), {"specimen": ""}, (True, False)),
        ((SERUM,), {"specimen": "PLAS"}, (False, False)),
        ((ANY, LIMITS), {"born": None}, (False, True)),
        ((ANY, LIMITS), {}, (False, False)),
        ((ANY, LIMITS), {"at": datetime(2000, 3, 2, tzinfo=UTC)}, (False, False)),
        ((replace(FEMALE, critical_high=Decimal(9)), MALE), {"sex": Sex.UNKNOWN}, (True, True)),
        ((replace(FEMALE, critical_values=("x",)), MALE), {"sex": Sex.UNKNOWN}, (True, True)),
    ],
)  # fmt: skip
def test_that_none_was_found_because_something_is_not_known_is_said(
    rows: tuple[Interval, ...], about: dict[str, Any], unsure: tuple[bool, bool]
) -> None:
    found = chosen(*rows, **about)
    assert (found.unsure, found.critical_unsure) == unsure


@given(st.integers(0, 24 * 40), st.integers(0, 24 * 10), st.integers(0, 24 * 10))
def test_an_hour_of_birth_that_is_not_known_leaves_every_row_possible_that_it_may_decide_for(
    age: int, low: int, more: int
) -> None:
    row = replace(interval("hours"), age_low_h=low, age_high_h=low + more + 1)
    known = chosen(row, born=BIRTH.date(), born_at=BIRTH, at=BIRTH + timedelta(hours=age))
    lost = chosen(row, born=BIRTH.date(), at=BIRTH + timedelta(hours=age))
    assert lost.unsure or known.interval is None


@given(st.lists(MANY, max_size=5), st.booleans() | st.none(), st.integers(0, 45) | st.none(), st.integers(0, 40000))
def test_what_is_chosen_surely_applies(
    rows: list[Interval], pregnant: bool | None, weeks: int | None, hours: int
) -> None:
    rows = [replace(row, pregnant=(None, True, False)[len(row.id) % 3], age_low_h=len(row.id) * 8) for row in rows]
    found = chosen(*rows, born=None, born_at=BIRTH, at=BIRTH + timedelta(hours=hours), pregnant=pregnant, weeks=weeks)
    for one in (found.interval, *found.ambiguous):
        assert one is None or (one.age_low_h or 0) <= hours
        assert one is None or one.pregnant in (None, pregnant)


# ---- the published intervals that are shipped ---

SHIPPED = [
    Interval(
        f"{number}", one.test, one.unit, one.low, one.high, one.critical_low, one.critical_high, one.sex, one.age_low_d,
        one.age_high_d, one.specimen_type, one.text, one.source, one.priority,
    )
    for number, one in enumerate(shipped_intervals())
]  # fmt: skip


@pytest.mark.parametrize(
    ("test", "sex", "born", "at", "limits", "source"),
    [
        # Mayo Clinic Laboratories, ELPN: 1 to 17 years; Tate JR et al. 2016: adults (PMC4975217)
        ("NA", Sex.MALE, date(2025, 3, 1), date(2026, 2, 28), None, ""),
        ("NA", Sex.MALE, date(2025, 3, 1), date(2026, 3, 1), ("135", "145"), "Mayo"),
        ("K", Sex.FEMALE, date(2008, 3, 1), date(2026, 2, 28), ("3.6", "5.2"), "Mayo"),
        ("K", Sex.FEMALE, date(2008, 3, 1), date(2026, 3, 1), ("3.5", "5.2"), "Tate"),
        # Mayo Clinic Laboratories, ELPN: bicarbonate of boys below and from 3 years, of girls below and from 8. Years
        # are shipped as days (365.25 each): a birthday is met to within a day.
        ("CO2", Sex.MALE, date(2023, 3, 3), date(2026, 3, 1), ("17", "25"), "Mayo"),
        ("CO2", Sex.MALE, date(2023, 3, 1), date(2026, 3, 1), ("18", "26"), "Mayo"),
        ("CO2", Sex.FEMALE, date(2023, 3, 1), date(2026, 3, 1), ("18", "25"), "Mayo"),
        ("CO2", Sex.FEMALE, date(2018, 3, 3), date(2026, 3, 1), ("20", "27"), "Mayo"),
        ("CO2", Sex.FEMALE, date(2018, 3, 1), date(2026, 3, 1), ("21", "28"), "Mayo"),
        ("CO2", Sex.UNKNOWN, date(2018, 3, 1), date(2026, 3, 1), None, ""),
    ],
)
def test_published_intervals_by_age_and_sex_at_their_boundaries(
    test: str, sex: Sex, born: date, at: date, limits: tuple[str, str] | None, source: str
) -> None:
    instant = datetime(at.year, at.month, at.day, 12, tzinfo=UTC)
    found = chosen(*(one for one in SHIPPED if one.test_id == test), sex=sex, born=born, at=instant).interval
    if limits is None:
        assert found is None
    else:
        assert found is not None
        assert (found.low, found.high) == (Decimal(limits[0]), Decimal(limits[1]))
        assert source in found.source


def test_no_shipped_interval_contradicts_itself() -> None:
    assert [(one.test_id, faults(one)) for one in SHIPPED if faults(one)] == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"age_low_h": 1, "age_low_d": 1}, "an age limit is in hours or in days, not in both"),
        ({"age_high_h": 48, "age_high_d": 2}, "an age limit is in hours or in days, not in both"),
        ({"age_low_h": 48, "age_high_d": 2}, "the upper age is not above the lower"),
        ({"gestation_low_w": 12}, "weeks of gestation are of a pregnancy"),
        ({"pregnant": True, "gestation_low_w": 12, "gestation_high_w": 12}, "the upper weeks are not above the lower"),
        ({"low": Decimal(9), "high": Decimal(8)}, "the lower limit is above the upper"),
        ({"use": IntervalUse.CRITICAL}, "a row of critical limits has no others"),
        ({"use": IntervalUse.REFERENCE, "critical_low": Decimal(1)}, "a row of reference limits has no critical ones"),
        ({"low": None, "high": None}, "it says nothing"),
        ({"age_low_h": -1}, "ages and weeks are from 0 to 10000000"),
        ({"age_low_d": 10_000_001}, "ages and weeks are from 0 to 10000000"),
        ({"valid_from": COLLECTED, "valid_to": COLLECTED}, "it ends before it begins"),
    ],
)
def test_a_row_that_contradicts_itself_says_how(changes: dict[str, Any], fault: str) -> None:
    assert faults(replace(ANY, **changes)) == (fault,)
    assert faults(ANY) == ()
    for words in ({"text": "see comment"}, {"normal_values": ("Neg",)}, {"critical_values": ("Pos",)}):
        assert faults(replace(ANY, low=None, high=None, **words)) == ()

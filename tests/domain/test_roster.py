"""Hours of a week with nights, holidays and days of 23 and 25 hours; who is told, and who is next."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.alerts import AlertKind, Severity
from interface.domain.hours import DAYS, Calendar, read_hours, within, working_s
from interface.domain.roster import Contact, NoticeKind, Person, Roster, Scope, Shift, Step, Wish

BERLIN = Calendar(ZoneInfo("Europe/Berlin"), frozenset({date(2026, 12, 25)}))
NOTICE, WARNING, URGENT = Severity


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN.zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("hours", "at", "expected"),
    [
        ("mon-fri 07:00-18:00", "2026-11-26 07:00", True), ("mon-fri 07:00-18:00", "2026-11-26 18:00", False),
        ("mon-fri 07:00-18:00", "2026-11-28 12:00", False), ("sat,sun 08:00-12:00", "2026-11-29 11:59", True),
        ("fri-mon 00:00-24:00", "2026-11-29 23:59", True), ("fri-mon 00:00-24:00", "2026-11-26 12:00", False),
        ("fri 22:00-06:00", "2026-11-28 05:59", True), ("fri 22:00-06:00", "2026-11-27 05:59", False),
        # Christmas Day 2026 is a Friday; the night before belongs to Thursday, its own hours do not count
        ("daily 07:00-18:00", "2026-12-25 12:00", False), ("thu 22:00-06:00", "2026-12-25 05:00", True),
        ("holiday 09:00-11:00", "2026-12-25 10:00", True), ("holiday 09:00-11:00", "2026-12-24 10:00", False),
        ("daily 02:30-03:30", "2026-03-29 03:15", True),  # the clock goes from 02:00 to 03:00
    ],
)  # fmt: skip
def test_an_instant_lies_in_hours_or_not(hours: str, at: str, expected: bool) -> None:
    assert within([read_hours(hours)], BERLIN, local(at)) is expected
    assert within([], BERLIN, local(at)), "no hours: always"


@pytest.mark.parametrize(
    ("hours", "since", "until", "expected_h"),
    [
        (["mon-fri 07:00-18:00"], "2026-11-27 17:00", "2026-11-30 08:00", 2.0),  # a weekend is no silence
        (["mon-fri 07:00-18:00", "mon-fri 12:00-20:00"], "2026-11-26 06:00", "2026-11-26 23:00", 13.0),  # once only
        (["daily 00:00-24:00"], "2026-03-28 12:00", "2026-03-29 12:00", 23.0),
        (["daily 00:00-24:00"], "2026-10-24 12:00", "2026-10-25 12:00", 25.0),
        (["mon-fri 22:00-06:00"], "2026-11-26 00:00", "2026-11-27 00:00", 8.0),
        (["daily 07:00-18:00"], "2026-12-24 17:00", "2026-12-26 08:00", 2.0),
        ([], "2026-12-24 17:00", "2026-12-25 17:00", 24.0),
    ],
)
def test_silence_is_counted_in_working_hours(hours: list[str], since: str, until: str, expected_h: float) -> None:
    found = working_s([read_hours(text) for text in hours], BERLIN, local(since), local(until))
    assert found == expected_h * 3600


@given(
    st.lists(st.tuples(st.sampled_from(DAYS), st.integers(0, 1439), st.integers(0, 1440)), min_size=1, max_size=4),
    st.integers(0, 96),
    st.integers(0, 72),
)  # fmt: skip
def test_working_hours_add_up_to_what_the_instants_say(
    written: list[tuple[str, int, int]], after_h: int, length_h: int
) -> None:
    """Every quarter of an hour counted alone, over the end of winter time."""
    clock = [(day, begin // 15 * 15, end // 15 * 15) for day, begin, end in written]
    hours = [
        read_hours(f"{day} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}")
        for day, begin, end in clock
        if begin != end and begin < 1440
    ]
    if not hours:
        return
    start = datetime(2026, 3, 27, tzinfo=UTC) + timedelta(hours=after_h)
    quarters = [start + timedelta(minutes=15 * number) for number in range(length_h * 4)]
    expected = sum(900 for at in quarters if within(hours, BERLIN, at))
    assert working_s(hours, BERLIN, start, start + timedelta(hours=length_h)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "mon", "mon 7:00-8:00", "mon 07:00", "mon 07:00-07:00", "mon 24:00-06:00", "mon 25:00-26:00", "mo 07:00-08:00",
     "mon-xyz 07:00-08:00", "mon- 07:00-08:00", "weekend 07:00-08:00", "mon 07:60-08:00", "07:00-08:00"],
)  # fmt: skip
def test_what_are_no_hours_is_said_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^\""):
        read_hours(text)


ANNA = Person("anna", (Contact("mail", "anna@lab.example"), Contact("sms", "+49 1", URGENT)))
BERT, CHIEF, PLUMBER = (
    Person(name, (Contact("mail", f"{name}@lab.example"),)) for name in ("bert", "chief", "plumber")
)
ROSTER = Roster(
    BERLIN,
    {one.id: one for one in (ANNA, BERT, CHIEF, PLUMBER)},
    (
        Shift("day", ("anna",), (read_hours("mon-fri 07:00-15:00"),)),
        Shift("late", ("bert",), (read_hours("mon-fri 14:00-22:00"),), Scope(least=WARNING)),
        Shift("machines", ("plumber",), (), Scope("main", frozenset({AlertKind.DISK}))),
    ),
    (Step(1800, ("chief",)), Step(900, ("bert",)), Step(3600, ("plumber",), Scope(kinds=frozenset({AlertKind.DISK})))),
)


@pytest.mark.parametrize(
    ("at", "kind", "severity", "organization", "step", "told"),
    [
        ("2026-11-26 08:00", AlertKind.BACKLOG, WARNING, "main", 0, "anna"),
        ("2026-11-26 14:30", AlertKind.BACKLOG, WARNING, "main", 0, "anna bert"),  # shifts overlap
        ("2026-11-26 14:30", AlertKind.BACKLOG, NOTICE, "main", 0, "anna"),
        ("2026-11-26 23:00", AlertKind.BACKLOG, WARNING, "main", 1, "bert"),  # nobody: the next at once
        ("2026-11-26 23:00", AlertKind.DISK, URGENT, "main", 0, "plumber"),
        ("2026-11-26 23:00", AlertKind.DISK, URGENT, "other", 1, "bert"),
    ],
)
def test_who_is_told_first(
    at: str, kind: AlertKind, severity: Severity, organization: str, step: int, told: str
) -> None:
    found = ROSTER.first_told(organization, kind, severity, local(at))
    assert (found[0], " ".join(person.id for person in found[1])) == (step, told)
    assert Roster().first_told(organization, kind, severity, local(at)) == (0, ())


@pytest.mark.parametrize(
    ("kind", "step", "waited_s", "expected", "told"),
    [
        (AlertKind.BACKLOG, 0, 899, 0, ""), (AlertKind.BACKLOG, 0, 900, 1, "bert"), (AlertKind.BACKLOG, 1, 1799, 1, ""),
        (AlertKind.BACKLOG, 1, 1800, 2, "chief"), (AlertKind.BACKLOG, 2, 10**6, 2, ""),
        (AlertKind.BACKLOG, 0, 7200, 2, "bert chief"),  # after a stop nobody is left out
        (AlertKind.DISK, 2, 3600, 3, "plumber"),
    ],
)  # fmt: skip
def test_who_is_next(kind: AlertKind, step: int, waited_s: float, expected: int, told: str) -> None:
    found = ROSTER.escalated("main", kind, URGENT, step, waited_s)
    assert (found[0], " ".join(person.id for person in found[1])) == (expected, told)


def test_somebody_is_reached_by_what_is_meant_for_it() -> None:
    assert [one.channel for one in ANNA.reached(WARNING)] == ["mail"]
    assert [one.channel for one in ANNA.reached(URGENT)] == ["mail", "sms"]
    only = Person("only", (Contact("sms", "+49 2", URGENT),))
    assert only.reached(NOTICE) == only.contacts, "who is to be told is told"


@pytest.mark.parametrize(
    ("wish", "ward", "practitioner", "kind", "told"),
    [
        ({"ward": "3A"}, " 3a ", "", NoticeKind.FINAL, True), ({"ward": "3A"}, "3B", "", NoticeKind.FINAL, False),
        ({"ward": "3A"}, "3A", "", NoticeKind.CANCELLED, False),
        ({"practitioner": "urn:x|1"}, "3A", "urn:x|1", NoticeKind.FINAL, True),
        ({"practitioner": "urn:x|1"}, "3A", "urn:x|2", NoticeKind.FINAL, False),
        ({"practitioner": "urn:x|1", "ward": "3A"}, "3B", "urn:x|1", NoticeKind.FINAL, False),
        ({"ward": "3A", "organization": "other"}, "3A", "", NoticeKind.FINAL, False),
    ],
)  # fmt: skip
def test_a_wish_is_of_its_ward_and_practitioner(
    wish: dict[str, str], ward: str, practitioner: str, kind: NoticeKind, told: bool
) -> None:
    one = Wish((Contact("mail", "ward@x"),), frozenset({NoticeKind.FINAL}), **wish)
    assert one.of("main", ward, (practitioner,), kind) is told

"""Hours of the week in a time zone, with holidays: when somebody works, when something is to be heard. Pure.

Written `mon-fri 07:00-18:00`, `sat,sun 08:00-12:00`, `daily 00:00-24:00`, `holiday 09:00-11:00`. Hours that end before
they begin end on the next day, and belong to the one they begin on. On a holiday only hours of `holiday` count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOLIDAY: Final = 7
_DAY_MIN: Final = 24 * 60
_TEXT = re.compile(r"(?P<days>[a-z,-]+) +(?P<begin>[0-2][0-9]:[0-5][0-9])-(?P<end>[0-2][0-9]:[0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Hours:
    """`days`: 0 for Monday to 6, HOLIDAY; `begin` and `end` in minutes of the day, `end` on the next where it is not
    after `begin`."""

    days: frozenset[int]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """A laboratory's days."""

    zone: tzinfo = UTC
    holidays: frozenset[date] = frozenset()

    def day(self, day: date) -> int:
        """As `Hours.days` has it."""
        return HOLIDAY if day in self.holidays else day.weekday()


def read_hours(text: str) -> Hours:
    """Raises ValueError with a sentence."""
    match = _TEXT.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f'"{text}" is not written as hours are: mon-fri 07:00-18:00, sat,sun 08:00-12:00, holiday …')
    begin, end = _minutes(match["begin"], text), _minutes(match["end"], text)
    if begin == end or begin == _DAY_MIN:
        raise ValueError(f'"{text}" has no length: a whole day is 00:00-24:00')
    return Hours(_days(match["days"], text), begin, end)


def _minutes(text: str, whole: str) -> int:
    minutes = int(text[:2]) * 60 + int(text[3:])
    if minutes > _DAY_MIN:
        raise ValueError(f'"{whole}": {text} is no time of a day')
    return minutes


def _days(text: str, whole: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if part == "daily":
            found |= set(range(7))
        elif part == "holiday":
            found.add(HOLIDAY)
        elif first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f'"{whole}": {part} is none of {", ".join(DAYS)}, daily, holiday')
        else:
            begin, end = DAYS.index(first), DAYS.index(last if dash else first)
            found |= {day % 7 for day in range(begin, (end if end >= begin else end + 7) + 1)}
    return frozenset(found)


def within(hours: Sequence[Hours], calendar: Calendar, at: datetime) -> bool:
    """Whether the instant lies in the hours; without any it always does."""
    return not hours or any(begin <= at < end for begin, end in _spans(hours, calendar, at, at))


def working_s(hours: Sequence[Hours], calendar: Calendar, since: datetime, until: datetime) -> float:
    """How many seconds between two instants lie in the hours; without any all do."""
    if not hours:
        return max(0.0, (until - since).total_seconds())
    total, reached = 0.0, since
    for begin, end in sorted(_spans(hours, calendar, since, until)):
        begin, end = max(begin, reached), min(end, until)
        if end > begin:
            total += (end - begin).total_seconds()
            reached = end
    return total


def _spans(
    hours: Sequence[Hours], calendar: Calendar, since: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Every span that may touch the time between, in UTC: a day may have 23 or 25 hours."""
    day = since.astimezone(calendar.zone).date() - timedelta(days=1)  # whose night reaches into this one
    last = until.astimezone(calendar.zone).date()
    while day <= last:
        kind = calendar.day(day)
        for one in hours:
            if kind in one.days:
                end = one.end if one.end > one.begin else one.end + _DAY_MIN
                yield min(_instants(day, one.begin, calendar)), max(_instants(day, end, calendar))
        day += timedelta(days=1)


def _instants(day: date, minutes: int, calendar: Calendar) -> tuple[datetime, datetime]:
    """A time on a clock is two instants in the night in which it is set back, and between two in which it is set on
    (PEP 495): hours are rather too long than too short."""
    days, minutes = divmod(minutes, _DAY_MIN)
    local = datetime.combine(day + timedelta(days=days), time(*divmod(minutes, 60)), calendar.zone)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)

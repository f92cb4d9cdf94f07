"""The axis of time: ticks at places that a person knows, in the laboratory's zone, no nearer than labels allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise

from interface.domain.record import record
from interface.render import typeface

MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # not the process's locale
_GAP = 12  # pixels between two labels
_DAY = timedelta(days=1)


@record
class Tick:
    at: datetime
    text: str


@record
class Axis:
    """Instants from `begin` to `end` over `left` to `right`, in pixels."""

    begin: datetime
    end: datetime
    left: float
    right: float

    def x(self, at: datetime) -> float:
        span = self.end - self.begin
        part = (at - self.begin) / span if span else 0.5
        return self.left + part * (self.right - self.left)


def day(at: date) -> str:
    return f"{at.day} {MONTHS[at.month - 1]}"


def moment(at: datetime, zone: tzinfo, year: bool = False) -> str:
    """`3 Nov 08:12`, with the year if asked."""
    local = at.astimezone(zone)
    return f"{day(local)}{f' {local.year}' if year else ''} {local:%H:%M}"


def period(begin: datetime, end: datetime, zone: tzinfo) -> str:
    """The days from `begin` to before `end`; with hours where they are not whole days."""
    first, last = begin.astimezone(zone), end.astimezone(zone)
    if first.time() == time() and last.time() == time() and last > first:
        final = last.date() - _DAY
        if final == first.date():
            return f"{day(final)} {final.year}"
        return f"{day(first)} {first.year} {typeface.DASH} {day(final)} {final.year}"
    return f"{moment(begin, zone, True)} {typeface.DASH} {moment(end, zone, True)}"


def ticks(axis: Axis, zone: tzinfo, size: float) -> list[Tick]:
    """The closest ticks whose labels of `size` do not touch; none if not even years fit."""
    room = axis.right - axis.left
    for least, widest, marks in _LADDER:
        most = room / (typeface.width(widest, size) + _GAP)
        if (axis.end - axis.begin) / least > most:
            continue
        found = [tick for tick in marks(axis, zone) if axis.begin <= tick.at <= axis.end]
        if all(_apart(axis, one, next_, size) for one, next_ in pairwise(found)):
            return found
    return []


def _apart(axis: Axis, one: Tick, next_: Tick, size: float) -> bool:
    wide = (typeface.width(one.text, size) + typeface.width(next_.text, size)) / 2
    return axis.x(next_.at) - axis.x(one.at) >= wide + _GAP / 2


_Marks = Callable[[Axis, tzinfo], Iterator[Tick]]


def _hours(step: int) -> _Marks:
    def marks(axis: Axis, zone: tzinfo) -> Iterator[Tick]:
        last = None
        for date_ in _dates(axis, zone):
            for hour in range(0, 24, step):
                at = datetime.combine(date_, time(hour), zone).astimezone(UTC)
                if last is None or at > last:  # an hour that the clock skips is the next one
                    yield Tick(at, f"{hour:02d}:00" if hour else day(date_))
                    last = at

    return marks


def _days(step: int) -> _Marks:
    def marks(axis: Axis, zone: tzinfo) -> Iterator[Tick]:
        for date_ in _dates(axis, zone):
            if (date_.toordinal() - 1) % step == 0:  # day 1 is a Monday
                yield _midnight(date_, zone, day(date_))

    return marks


def _months(step: int) -> _Marks:
    def marks(axis: Axis, zone: tzinfo) -> Iterator[Tick]:
        first, last = axis.begin.astimezone(zone).date(), axis.end.astimezone(zone).date()
        for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
            year, month = divmod(number, 12)
            if (number if step > 12 else month) % step == 0:
                text = f"{MONTHS[month]} {year}" if step < 12 else str(year)
                yield _midnight(date(year, month + 1, 1), zone, text)

    return marks


def _dates(axis: Axis, zone: tzinfo) -> Iterator[date]:
    date_, last = axis.begin.astimezone(zone).date(), axis.end.astimezone(zone).date()
    while date_ <= last:
        yield date_
        date_ += _DAY


def _midnight(date_: date, zone: tzinfo, text: str) -> Tick:
    return Tick(datetime.combine(date_, time(), zone).astimezone(UTC), text)


# The least time between two ticks, what their widest label may be, and the ticks themselves.
_LADDER: tuple[tuple[timedelta, str, _Marks], ...] = (
    *((timedelta(hours=step), "00:00", _hours(step)) for step in (1, 2, 3, 6, 12)),
    *((timedelta(days=step), "30 Nov", _days(step)) for step in (1, 2, 3, 7, 14)),
    *((timedelta(days=28 * step), "Nov 2026", _months(step)) for step in (1, 3, 6)),
    *((timedelta(days=365 * step), "2026", _months(12 * step)) for step in (1, 5, 20)),
)

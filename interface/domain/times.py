"""Instants that somebody tells us: which of them there are, and an instrument's clock: text as sent → instant, as far
as that can be said. Pure; the zone is an argument."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache

# LIS02-A2 6.6.2 and HL7 v2.5.1 2.A.22 (TS): YYYYMMDD[HH[MM[SS[.S…]]]][+/-ZZZZ]
_TIME = re.compile(
    r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6})\d*)?)?)?)?\s*(?:([+-])(\d\d):?(\d\d))?(?:\^.*)?"
)

# How far an instrument's clock is believed: it may be a little ahead, and what it kept may come months later (a meter
# that is seldom docked). Beyond that it was never set, or lost its battery.
CLOCK_AHEAD, CLOCK_BEHIND = timedelta(minutes=5), timedelta(days=90)

# Nobody alive was born, and no specimen collected, before; and no zone lacks an instant between the two.
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
OUT_OF_RANGE = "is before the year 1 or after the year 9999 in UTC"


def in_range(instant: datetime) -> bool:
    """Whether UTC has it: 0001-01-01T00:00+07:00 is written, but nothing can read it again as UTC."""
    try:
        instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def local(instant: datetime, zone: tzinfo) -> datetime:
    """In the zone; as it is where the zone has no such instant, which is the first or the last day that there is."""
    try:
        return instant.astimezone(zone)
    except (ValueError, OverflowError):
        return instant


def earlier(instant: datetime, by: timedelta) -> datetime:
    """So much before it, or the first instant that there is."""
    first = datetime.min.replace(tzinfo=UTC)
    return instant - by if instant - first > by else first


def day_after(day: date | None) -> date | None:
    """None after the last day that there is, and where none is given."""
    return None if day is None or day == date.max else day + timedelta(days=1)


def end_of(day: date) -> datetime:
    """The first instant in UTC after it; 9999-12-31, by which many say that there is none, ends with time itself."""
    after = day_after(day)
    return datetime.combine(after, time(), UTC) if after else datetime.max.replace(tzinfo=UTC)


@lru_cache(maxsize=1024)  # one message, one time for most of its results
def believed(instrument_at: datetime | None, received_at: datetime) -> datetime | None:
    """What an instrument's clock says, where that is plausible."""
    if instrument_at is None or not received_at - CLOCK_BEHIND <= instrument_at <= received_at + CLOCK_AHEAD:
        return None
    return instrument_at


def measured_at(instrument_at: datetime | None, received_at: datetime) -> datetime:
    """When something was measured: by the instrument's clock where that is plausible, else when it was received."""
    return believed(instrument_at, received_at) or received_at


def zone_of_sender(text: str, zone: tzinfo, came_at: datetime) -> tzinfo:
    """The zone of times that name none, by when the sender says that it made a message, which came at `came_at`, and by
    the offset of that. `zone`: what is said to be its.

    That is `zone` where it has this offset at that time, as it knows of summer and winter; else it is not the sender's.
    Nor is the offset where the time is that of the coming in `zone`, or is nearer to it there than by the offset, which
    makes the message come before it was made: some write +0000 beside their local time. What is nearer by the offset is
    of a clock that is ahead.
    """
    found = _TIME.fullmatch(text.strip())
    at = instrument_instant(text, zone)
    named = _offset(found) if found is not None and found[8] else None
    if named is None or at is None or at.astimezone(zone).utcoffset() == named.utcoffset(None):
        return zone
    in_zone = at.astimezone(named).replace(tzinfo=zone)
    ahead, late = at - came_at, came_at - in_zone
    now = abs(late) <= CLOCK_AHEAD < abs(ahead)
    return zone if now or (ahead > CLOCK_AHEAD and timedelta() < late <= ahead) else named


def offset_by_rote(text: str, zone: tzinfo) -> timedelta | None:
    """The offset that stands in when the sender says that it made a message, whose times are in `zone` all the same:
    in others of them it says nothing either. None where it says what is so."""
    found = _TIME.fullmatch(text.strip())
    at = instrument_instant(text, zone)
    named = _offset(found) if found is not None and found[8] else None
    said = named.utcoffset(None) if named is not None and at is not None else None
    return None if at is None or said == at.astimezone(zone).utcoffset() else said


def _offset(found: re.Match[str]) -> timezone | None:
    offset = timedelta(hours=int(found[9]), minutes=int(found[10]))
    return timezone(-offset if found[8] == "-" else offset) if offset < timedelta(hours=24) else None


def instrument_instant(
    text: str, zone: tzinfo, by_rote: timedelta | None = None, came_at: datetime | None = None
) -> datetime | None:
    """The instant in UTC of an instrument's time stamp; `zone` is the instrument's where the text names none, or one
    that the instrument writes `by_rote`. When clocks are set back an hour is shown twice (PEP 495): the second time is
    meant, unless that was still to come when it came, at `came_at`.

    None for what is no time, for impossible dates, for a date without an hour (a day is no instant), and for what lies
    before EARLIEST or after LATEST: a clock that was never set.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None or found[4] is None:
        return None
    if found[8]:
        named = _offset(found)
        if named is None:
            return None
        zone = zone if named.utcoffset(None) == by_rote else named
    parts = [int(found[at] or 0) for at in range(1, 7)]
    try:
        local = datetime(*parts, int((found[7] or "0").ljust(6, "0")), tzinfo=zone)  # type: ignore[arg-type, misc]
        instant = local.astimezone(UTC)
        if came_at is not None and instant < (second := local.replace(fold=1).astimezone(UTC)) <= came_at + CLOCK_AHEAD:
            instant = second
    except (ValueError, OverflowError):
        return None
    return instant if EARLIEST <= instant <= LATEST else None

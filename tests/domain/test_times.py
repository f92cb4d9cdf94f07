"""An instrument's clock: when it is believed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from interface.domain.times import (
    CLOCK_AHEAD,
    CLOCK_BEHIND,
    earlier,
    end_of,
    in_range,
    instrument_instant,
    local,
    measured_at,
)

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("by_instrument", "believed"),
    [
        (None, False),
        (NOW - timedelta(hours=3), True),
        (NOW + CLOCK_AHEAD, True),
        (NOW + CLOCK_AHEAD + A_SECOND, False),  # of the future
        (NOW - CLOCK_BEHIND, True),  # a meter that was docked late
        (NOW - CLOCK_BEHIND - A_SECOND, False),
        (datetime(2000, 1, 1, tzinfo=UTC), False),  # lost its battery
    ],
)
def test_an_instruments_time_counts_where_it_is_plausible(by_instrument: datetime | None, believed: bool) -> None:
    assert measured_at(by_instrument, NOW) == (by_instrument if believed else NOW)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("19000101000000", True),
        ("18991231235959", False),
        ("00010101000000", False),  # a clock that was never set
        ("00010101000000+0700", False),
        ("99991231235959", False),
        ("99991231235959-0700", False),
    ],
)
def test_an_instruments_time_that_some_zone_has_not_is_none(text: str, read: bool) -> None:
    assert (instrument_instant(text, UTC) is not None) is read


@pytest.mark.parametrize(
    ("at", "there"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), True),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=7))), False),
        (datetime.max.replace(tzinfo=UTC), True),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-7))), False),
    ],
)
def test_an_instant_that_utc_has_not_is_none(at: datetime, there: bool) -> None:
    assert in_range(at) is there


def test_an_instant_that_a_zone_has_not_stays_as_it_is() -> None:
    west = timezone(timedelta(hours=-7))
    assert local(datetime(1, 1, 1, tzinfo=UTC), west).isoformat() == "0001-01-01T00:00:00+00:00"
    assert local(datetime(1, 1, 2, tzinfo=UTC), west).isoformat() == "0001-01-01T17:00:00-07:00"


def test_what_is_earlier_begins_with_the_first_instant() -> None:
    first = datetime.min.replace(tzinfo=UTC)
    assert earlier(NOW, A_SECOND) == NOW - A_SECOND
    assert earlier(first + A_SECOND, timedelta(days=30)) == first


def test_a_day_ends_with_the_next_or_with_time_itself() -> None:
    assert end_of(date(2026, 2, 28)) == datetime(2026, 3, 1, tzinfo=UTC)
    assert end_of(date.max) == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "came", "hour"),
    [
        ("20261025023000", (0, 31), 0),  # 02:30 in summer time: the other was still to come
        ("20261025023000", (1, 29), 1),  # an analyzer's clock may be a little ahead
        ("20261025023000", (1, 31), 1),
        ("20261025023000", (9, 0), 1),  # kept for hours: nobody knows
        ("20261025023000+0200", (1, 31), 0),
    ],
)
def test_of_an_hour_that_clocks_show_twice_the_second_is_meant_once_it_has_come(
    text: str, came: tuple[int, int], hour: int
) -> None:
    came_at = datetime(2026, 10, 25, *came, tzinfo=UTC)
    at = instrument_instant(text, ZoneInfo("Europe/Berlin"), None, came_at)
    assert at == datetime(2026, 10, 25, hour, 30, tzinfo=UTC)


def test_an_hour_that_clocks_do_not_show_is_after_the_one_before() -> None:
    at = instrument_instant("20260329023000", ZoneInfo("Europe/Berlin"), None, NOW)
    assert at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)

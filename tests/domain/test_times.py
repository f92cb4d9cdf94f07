"""An instrument's clock: when it is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.times import CLOCK_AHEAD, CLOCK_BEHIND, measured_at

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

"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import click
import pytest

from interface.cli.laboratory import INSTANT, MOMENT, aware, instant_of

ZONE = ZoneInfo("Asia/Jakarta")
NOW = datetime(2026, 11, 27, 20, 15, tzinfo=UTC)  # in the laboratory the 28th has begun


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("2026-11-27", "2026-11-27T00:00:00+00:00"),
        ("2026-11-27T08:30", "2026-11-27T08:30:00+00:00"),
        ("2026-11-27 08:30:15", "2026-11-27T08:30:15+00:00"),
        ("2026-11-27T08:30+07:00", "2026-11-27T01:30:00+00:00"),
        ("2026-11-27T08:30:15-0500", "2026-11-27T13:30:15+00:00"),
        ("02:30", "2026-11-27T19:30:00+00:00"),
        ("00:00", "2026-11-27T17:00:00+00:00"),
    ],
)
def test_a_moment_is_read_in_each_way_it_may_be_typed(typed: str, means: str) -> None:
    found = instant_of(MOMENT.convert(typed, None, None), ZONE, NOW)
    assert found.astimezone(UTC).isoformat() == means


@pytest.mark.parametrize(
    "typed", ["", "yesterday", "24:00", "8:30", "08:60", "2026-13-01", "27.11.2026", "2026-11-27T"]
)
def test_nonsense_is_refused_in_one_sentence(typed: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no time; say it as 2026-11-27, .* or 08:30$"):
        MOMENT.convert(typed, None, None)


@pytest.mark.parametrize("typed", ["0001-01-01T00:00+07:00", "9999-12-31T23:59-07:00"])
def test_what_utc_has_not_is_refused(typed: str) -> None:
    read = INSTANT.convert(typed, None, None)
    with pytest.raises(click.UsageError, match="is before the year 1 or after the year 9999 in UTC"):
        aware(read)
    with pytest.raises(click.UsageError, match="is before the year 1"):
        instant_of(MOMENT.convert(typed, None, None), ZONE, NOW)


@pytest.mark.parametrize("typed", ["03:16", "2026-11-28", "2026-11-27T20:16"])
def test_what_is_still_to_come_is_refused(typed: str) -> None:
    with pytest.raises(click.UsageError, match="is still to come"):
        instant_of(MOMENT.convert(typed, None, None), ZONE, NOW)

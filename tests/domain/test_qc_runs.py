"""Runs are formed from time and level alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from interface.domain.qc import Point
from interface.domain.qc_runs import run_of

AT = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


def point(minute: int, level: int, run: str, excluded: bool = False) -> Point:
    at = AT + timedelta(minutes=minute)
    return Point(f"{minute}/{level}", at, run, level, "lot", "target", Decimal(0), excluded=excluded)


@pytest.mark.parametrize(
    ("known", "minute", "level", "run"),
    [
        ([], 0, 1, None),
        ([(0, 1, "a")], 5, 2, "a"),
        ([(0, 1, "a")], 0, 2, "a"),  # at the same time
        ([(0, 1, "a")], 5, 1, None),  # the level is repeated
        ([(0, 1, "a"), (5, 1, "b")], 6, 2, "b"),  # the newest, not the first that lacks the level
        ([(0, 1, "a")], 60, 2, "a"),
        ([(0, 1, "a")], 61, 2, None),  # too late
        ([(0, 1, "a"), (55, 2, "a")], 61, 3, None),  # by the run's first
        ([(5, 2, "a")], 0, 1, "a"),  # it comes late, and was measured with the other
        ([(5, 2, "a"), (55, 3, "a")], -10, 1, None),  # that would be a run of more than an hour
        ([(5, 1, "a")], 0, 1, None),
        ([(0, 1, "a"), (10, 1, "b")], 5, 2, "a"),  # between two: the earlier takes it
        ([(0, 1, "a"), (0, 2, "a"), (10, 1, "b")], 5, 2, "b"),  # which has the level, so the later
    ],
)
def test_a_point_joins_the_newest_run_that_may_take_it(
    known: list[tuple[int, int, str]], minute: int, level: int, run: str | None
) -> None:
    points = [point(*one) for one in known]
    assert run_of(points, AT + timedelta(minutes=minute), level, 60) == run
    assert run_of(points[::-1], AT + timedelta(minutes=minute), level, 60) == run


def test_an_excluded_point_was_measured_all_the_same() -> None:
    assert run_of([point(0, 1, "a", excluded=True)], AT, 1, 60) is None

"""What a lot's own points make of its target: exact, with enough digits, and refused where they are too few."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from interface.domain.qc_targets import Former, Spread, Summary, cumulated, propose, summary

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def points(*numbers: str, hours: int = 24) -> list[tuple[datetime, Decimal]]:
    return [(NOON + timedelta(hours=hours * place), Decimal(number)) for place, number in enumerate(numbers)]


def former(mean: str, sd: str, cv: str | None) -> Former:
    return Former("old", Decimal(mean), Decimal(sd), "mmol/L", None if cv is None else Decimal(cv), Summary(0, 0))


def test_a_summary_counts_points_and_days() -> None:
    found = summary(points("5.0", "5.2", "5.4", hours=12))
    assert (found.points, found.days, found.mean, found.sd) == (3, 2, Decimal("5.2"), Decimal("0.2"))
    assert (found.first, found.last) == (NOON, NOON + timedelta(hours=24))
    assert summary([]) == Summary(0, 0)
    assert summary(points("5.0")).sd is None


@pytest.mark.parametrize(
    ("low", "high", "decimals", "mean", "sd"),
    [
        ("5.0", "5.2", 1, "5.100", "0.103"),
        ("5.0", "5.2", None, "5.100", "0.103"),
        ("5.00", "5.20", None, "5.1000", "0.1026"),
        ("250", "260", 0, "255.00", "5.13"),
        ("5.0000", "5.0002", 1, "5.000100", "0.000103"),  # an SD has three digits that count
        ("-2.1", "-1.9", 1, "-2.000", "0.103"),
    ],
)
def test_a_mean_and_sd_have_more_digits_than_results(
    low: str, high: str, decimals: int | None, mean: str, sd: str
) -> None:
    found = propose(points(*(low, high) * 10), "mmol/L", decimals, None)
    assert (str(found.mean), str(found.sd), found.problems) == (mean, sd, ())


@pytest.mark.parametrize(
    ("count", "hours", "spread", "fewest", "days", "enough"),
    [
        (20, 24, Spread.OBSERVED, None, None, True), (19, 24, Spread.OBSERVED, None, None, False),
        (20, 12, Spread.OBSERVED, None, None, True), (20, 8, Spread.OBSERVED, None, None, False),
        (10, 24, Spread.PREVIOUS, None, None, True), (9, 24, Spread.PREVIOUS, None, None, False),
        (10, 12, Spread.PREVIOUS, None, None, False), (5, 1, Spread.OBSERVED, 5, 1, True),
        (20, 24, Spread.OBSERVED, 30, None, False),
    ],
)  # fmt: skip
def test_enough_points_on_enough_days(
    count: int, hours: int, spread: Spread, fewest: int | None, days: int | None, enough: bool
) -> None:
    measured = points(*(["5.0", "5.2"] * 10)[:count], hours=hours)
    found = propose(measured, "mmol/L", 1, former("5.0", "0.1", "2"), spread, fewest, days)
    assert (found.problems == ()) is enough, found.problems


@pytest.mark.parametrize(
    ("measured", "spread", "of", "problem"),
    [
        (points(*["5.0"] * 20), Spread.OBSERVED, None, "the SD comes to 0"),
        (points(*["5.0"] * 20), Spread.PREVIOUS, None, "there is no lot in use whose CV could be taken"),
        (points(*["5.0"] * 20), Spread.PREVIOUS, former("0", "0.1", None), "no lot in use whose CV"),
        (points(*["-0.1", "0.1"] * 10), Spread.PREVIOUS, former("5", "0.1", "2"), "the SD comes to 0"),
    ],
)
def test_what_has_no_sd_makes_no_target(
    measured: list[tuple[datetime, Decimal]], spread: Spread, of: Former | None, problem: str
) -> None:
    found = propose(measured, "mmol/L", 1, of, spread)
    assert len(found.problems) == 1
    assert problem in found.problems[0]


def test_the_former_cv_gives_a_negative_mean_a_positive_sd() -> None:
    found = propose(points(*["-10.0"] * 10), "mmol/L", 1, former("-5", "0.1", "2"), Spread.PREVIOUS)
    assert (found.mean, found.sd, found.problems) == (Decimal("-10.000"), Decimal("0.200"), ())


def test_one_point_is_no_target_even_when_one_is_asked_for() -> None:
    assert propose(points("5.0"), "mmol/L", 1, None, Spread.OBSERVED, 1, 1).problems == ("one point has no SD",)
    assert cumulated(points(*["5.0", "5.2"] * 9, "5.1"), 1) is None
    assert cumulated(points(*["5.0", "5.2"] * 10, hours=0), 1) == (Decimal("5.100"), Decimal("0.103"))

"""Agreement between a revision in the shadow and people."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interface.domain.agreement import Agreement


def test_the_worked_example_of_two_readers_of_fifty_grants() -> None:
    """20 and 15 agreed upon, 5 and 10 not: kappa 0.40 (howcodex.com/statistics/cohen_kappa_coefficient.htm)."""
    found = Agreement("K", both_release=20, both_keep=15, only_rules=5, only_people=10, open=7)
    assert (found.decided, found.agree, found.kappa) == (50, Decimal("0.700"), Decimal("0.400"))
    assert found.released == Decimal("0.500")


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        ((0, 0, 0, 0), None),
        ((9, 0, 0, 0), None),  # both always say the same: nothing beyond chance can be seen
        ((5, 5, 0, 0), Decimal(1)),
        ((0, 0, 5, 5), Decimal(-1)),
    ],
)
def test_kappa_at_its_ends(counts: tuple[int, int, int, int], kappa: Decimal | None) -> None:
    assert Agreement("K", *counts).kappa == kappa


@pytest.mark.parametrize(
    ("releases", "human", "field"),
    [
        (True, "released", "both_release"),
        (True, "changed", "only_rules"),
        (True, "rejected", "only_rules"),
        (False, "released", "only_people"),
        (False, "changed", "both_keep"),
        (False, "rejected", "both_keep"),
        (True, "open", "open"),
        (False, "open", "open"),
    ],
)
def test_what_counts_as_what(releases: bool, human: str, field: str) -> None:
    found = Agreement.of("K", releases, human, 3)
    assert getattr(found, field) == 3 == found.decided + found.open
    assert (Agreement("all", 1) + found).test == "all"

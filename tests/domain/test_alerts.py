"""Alerts as words and thresholds."""

from __future__ import annotations

import pytest

from interface.domain.alerts import SEVERITY, AlertKind, Phase, Severity, Subject, Told, threshold


def test_every_kind_has_a_severity_and_they_are_ordered() -> None:
    assert SEVERITY.keys() == set(AlertKind)
    assert [one.rank for one in (Severity.NOTICE, Severity.WARNING, Severity.URGENT)] == [0, 1, 2]


@pytest.mark.parametrize("subject", [Subject("link", "hema-1"), Subject("queue", ""), Subject("test", "Na in serum")])
def test_what_the_feed_says_is_read_back(subject: Subject) -> None:
    told = Told(Phase.RECOVERED, AlertKind.LINK_DOWN.value, subject)
    assert Told.read(str(told)) == told


def test_a_measure_that_swings_about_its_threshold_enters_once() -> None:
    """Enters at 100, recovers at 50 and below; in between it stays as it was."""
    limit, stands, seen = threshold(100), False, []
    for value in (99, 100, 99, 101, 51, 50, 99, 100):
        stands = limit.stands(value, stands)
        seen.append(stands)
    assert seen == [False, True, True, True, True, False, False, True]
    assert not threshold(0).stands(10**9, standing=False), "0: never"

"""How much of what waits a group takes: halves where an answer takes longer than a commit."""

from __future__ import annotations

import pytest

from interface.store.halves import Halves


def in_step(commit_s: float, turn_s: float, senders: int = 16, turns: int = 100) -> int:
    """What the next group takes, after senders have been in step for so many turns."""
    halves, now, most = Halves(), 0.0, senders
    for _ in range(turns):
        most = halves.most(senders, senders, now)
        halves.landed(now, now + commit_s)
        now += commit_s + turn_s
    return most


@pytest.mark.parametrize(("senders", "most"), [(16, 8), (17, 9), (8, 4), (200, 100), (7, 7), (1, 1)])
def test_where_answers_take_as_long_as_commits_one_half_is_committed_while_the_other_is_answered(
    senders: int, most: int
) -> None:
    assert in_step(0.0013, 0.0014, senders) == most


def test_on_a_slow_disk_a_group_is_as_large_as_it_can_be() -> None:
    assert in_step(0.010, 0.0014) == 16


def test_senders_that_pause_are_not_in_step() -> None:
    assert in_step(0.001, 1.0) == 16


def test_who_is_halved_already_is_not_halved_again() -> None:
    halves = Halves()
    halves.landed(0.0, 0.0)
    assert halves.most(16, 16, 0.01) == 8
    assert halves.most(8, 16, 0.01) == 8
    assert halves.most(11, 16, 0.01) == 11


def test_nothing_is_known_of_the_first_group() -> None:
    assert Halves().most(16, 16, 5.0) == 16

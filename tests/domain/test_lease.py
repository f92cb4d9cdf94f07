"""When a daemon is taken for dead: by whoever has looked at it for long enough, on his own clock."""

from __future__ import annotations

import pytest

from interface.domain.lease import Seen, Watch

LEASE_S, PAUSE_S = 6.0, 1.0


def dead_after(watch: Watch[str], looks: int, *, beats: bool = False, session: bool = True, step_s: float = 1.0) -> int:
    """The look, of so many, at which the other is dead; 0: at none."""
    for at in range(looks):
        if watch.look([Seen("a", at if beats else 7, LEASE_S, session)], 1000.0 + at * step_s):
            return at
    return 0


@pytest.mark.parametrize(
    ("beats", "session", "step_s", "dead_at"),
    [
        (True, True, 1.0, 0),
        (True, False, 1.0, 0),  # it beats: whatever its connections are called
        (False, True, 1.0, 6),
        (False, False, 1.0, 3),  # its process has ended
        (False, True, 0.25, 24),  # who looks more often waits as long
        (False, True, 3600.0, 3),  # a clock that jumps, or a pause of ours, counts as two looks' time
        (False, True, -3600.0, 0),
    ],
)
def test_who_does_not_beat_for_its_lease_is_dead(beats: bool, session: bool, step_s: float, dead_at: int) -> None:
    assert dead_after(Watch(PAUSE_S), 30, beats=beats, session=session, step_s=step_s) == dead_at


def test_one_beat_begins_anew() -> None:
    watch = Watch[str](PAUSE_S)
    for at in range(20):
        assert not watch.look([Seen("a", at // 5, LEASE_S, True)], float(at))


def test_after_an_outage_nobody_is_dead_for_the_time_of_it() -> None:
    watch = Watch[str](PAUSE_S)
    for at in range(3):
        assert not watch.look([Seen("a", 7, LEASE_S, False)], float(at))
    watch.interrupted()
    for at in range(60, 63):
        assert not watch.look([Seen("a", 7, LEASE_S, False)], float(at)), "it is given its time to come back"
    assert watch.look([Seen("a", 7, LEASE_S, False)], 63.0) == {"a"}


def test_each_is_judged_by_its_own_lease() -> None:
    watch = Watch[str](PAUSE_S)
    others = [Seen("quick", 1, 2.0, True), Seen("slow", 1, 60.0, True)]
    found = [watch.look(others, float(at)) for at in range(4)]
    assert found == [frozenset(), frozenset(), {"quick"}, {"quick"}]


def test_a_connection_that_comes_back_is_a_living_process() -> None:
    watch = Watch[str](PAUSE_S)
    sessions = [False, False, False, True, False, False, False]
    assert not any(watch.look([Seen("a", 1, 60.0, one)], float(at)) for at, one in enumerate(sessions))

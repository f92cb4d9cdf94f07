"""Whether links send as fast as they are answered: told from their ordinary pace, on any machine."""

from __future__ import annotations

import pytest

from interface.store.pressure import Pressure


def after(pressure: Pressure, commits: int, every_s: float, takes_s: float, appends: int = 1) -> Pressure:
    """So many commits, one begun in each `every_s`."""
    for number in range(commits):
        begin = 100.0 + number * every_s
        pressure.began(begin)
        pressure.ended(begin + takes_s, appends)
    return pressure


@pytest.mark.parametrize(
    ("every_s", "takes_s", "appends", "high"),
    [
        (0.0008, 0.0005, 1, True),  # one sender that waits for each reply
        (0.0024, 0.0015, 1, True),  # on a machine three times as slow
        (0.0016, 0.0010, 8, True),  # sixteen of them
        (0.0100, 0.0005, 1, False),  # a hundred messages a second
        (0.0050, 0.0030, 1, False),  # two hundred, and their results are being decided beside it
        (0.0250, 0.0200, 1, False),  # a slow disk, which leaves the machine free
        (0.0250, 0.0200, 16, True),  # the same, and sixteen senders that wait for each reply
        (2.0000, 0.0005, 1, False),
    ],
)
def test_a_burst_is_told_from_an_ordinary_pace(every_s: float, takes_s: float, appends: int, high: bool) -> None:
    assert after(Pressure(), 1000, every_s, takes_s, appends).high == high


def test_the_first_commit_after_a_silence_is_no_burst() -> None:
    pressure = after(Pressure(), 300, 0.0008, 0.0005)
    assert pressure.high
    pressure.began(105.0)
    pressure.ended(105.0005, 1)
    assert not pressure.high

"""Whether links send as fast as they are answered: told from their ordinary pace, on any machine."""

from __future__ import annotations

from itertools import cycle, islice

import pytest

from interface.store.ids import uuid7
from interface.store.pressure import Pressure

LINK = uuid7()


def after(
    pressure: Pressure, commits: int, every_s: float, takes_s: float, appends: int = 1, senders: int | None = None
) -> Pressure:
    """So many commits, one begun in each `every_s`. Without `senders` as many as a commit has appends, in turn."""
    lanes = cycle([(LINK, str(number)) for number in range(senders or appends)])
    for number in range(commits):
        begin, own = 100.0 + number * every_s, list(islice(lanes, appends))
        for lane in own:
            pressure.came(begin, lane)
        pressure.began(begin)
        pressure.ended(begin + takes_s, own)
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


@pytest.mark.parametrize(("senders", "high"), [(1, True), (4, True), (16, False)])
def test_hundreds_of_messages_a_second_that_come_one_by_one_are_no_burst(senders: int, high: bool) -> None:
    """Sixteen analyzers send eighteen a second each: they wait for their next result, not for us."""
    assert after(Pressure(), 1000, 0.0034, 0.002, senders=senders).high == high


def test_senders_that_connect_for_each_message_are_a_burst_too() -> None:
    assert after(Pressure(), 1000, 0.0016, 0.001, senders=1000).high


def test_frames_of_what_is_being_sent_wait_for_one_another() -> None:
    pressure = Pressure()
    for number in range(1000):
        begin = 100.0 + number * 0.0016
        for _ in range(8):
            pressure.came(begin, None)
        pressure.began(begin)
        pressure.ended(begin + 0.001, [None] * 8)
    assert pressure.high


def test_who_came_long_ago_is_not_remembered_for_ever() -> None:
    pressure = after(Pressure(), 20_000, 0.001, 0.0005, senders=20_000)
    assert len(pressure._landed) <= 4097


def test_the_first_commit_after_a_silence_is_no_burst() -> None:
    pressure = after(Pressure(), 300, 0.0008, 0.0005)
    assert pressure.high
    pressure.began(105.0)
    pressure.ended(105.0005, [None])
    assert not pressure.high

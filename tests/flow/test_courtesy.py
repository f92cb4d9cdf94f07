"""Acknowledging and answering before deciding: what deciding may take while links deliver or clients ask, and that its
backlog does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from interface.flow.courtesy import (
    ASKED_SHARE,
    BURST_S,
    LEAST_SHARE,
    LISTEN_AFTER_S,
    LISTEN_S,
    PATIENCE_S,
    TOGETHER_S,
    Courtesy,
    share_of,
)


class Machine:
    """A clock that only work and waiting move; links deliver as long as `busy` says so, clients ask as `asked` does."""

    def __init__(self) -> None:
        self.at, self.worked, self.running, self.most = 100.0, 0.0, 0, 0
        self.busy, self.asked = True, False
        self.courtesy = Courtesy(lambda: self.busy, lambda: self.asked, lambda: self.at, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        await asyncio.sleep(0)

    def work(self, seconds: float) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0)
            self.at += seconds
            self.worked += seconds
            self.running -= 1

        return run


@pytest.mark.parametrize(
    ("waited_s", "share"),
    [(0, LEAST_SHARE), (BURST_S, LEAST_SHARE), (10, (1 + LEAST_SHARE) / 2), (PATIENCE_S, 1), (1e9, 1)],
)
def test_the_share_grows_with_the_age_of_the_oldest_message(waited_s: float, share: float) -> None:
    assert share_of(waited_s) == pytest.approx(share)


async def test_while_links_deliver_a_small_part_of_the_time_goes_to_deciding_one_at_a_time() -> None:
    machine = Machine()
    began = machine.at
    await asyncio.gather(*(machine.courtesy.turn(0.0, machine.work(0.01)) for _ in range(20)))
    assert machine.worked / (machine.at - began) == pytest.approx(LEAST_SHARE, rel=0.1)
    assert machine.most == 1


async def test_what_has_waited_long_is_not_held_up_whatever_the_links_do() -> None:
    machine = Machine()
    began = machine.at
    await asyncio.gather(*(machine.courtesy.turn(PATIENCE_S, machine.work(0.01)) for _ in range(20)))
    assert machine.at - began == pytest.approx(machine.worked)
    assert machine.most > 1


@pytest.mark.parametrize("waited_s", [0.0, PATIENCE_S, 1e9])
async def test_while_clients_ask_one_at_a_time_is_decided_with_moments_between(waited_s: float) -> None:
    """However long it has waited: it is decided nearly as fast."""
    machine = Machine()
    machine.busy, machine.asked = False, True
    began = machine.at
    await asyncio.gather(*(machine.courtesy.turn(waited_s, machine.work(0.01)) for _ in range(60)))
    assert machine.worked / (machine.at - began) == pytest.approx(ASKED_SHARE, rel=0.02)
    assert machine.most == 1


async def test_when_both_are_there_deciding_takes_what_the_links_leave() -> None:
    machine = Machine()
    machine.asked = True
    began = machine.at
    await asyncio.gather(*(machine.courtesy.turn(0.0, machine.work(0.01)) for _ in range(20)))
    assert machine.worked / (machine.at - began) == pytest.approx(LEAST_SHARE, rel=0.1)


async def test_when_the_links_fall_silent_only_the_clients_are_left_their_time() -> None:
    machine = Machine()
    machine.asked = True
    await machine.courtesy.turn(0.0, machine.work(1.0))  # forty-nine seconds are the links' now
    machine.busy, began = False, machine.at
    await machine.courtesy.turn(0.0, machine.work(0.0))
    assert machine.at - began == pytest.approx(1 / ASKED_SHARE - 1)


async def test_when_the_links_fall_silent_nothing_is_held_up() -> None:
    machine = Machine()
    await machine.courtesy.turn(0.0, machine.work(1.0))  # nineteen seconds are the links' now
    machine.busy, began = False, machine.at
    await machine.courtesy.turn(0.0, machine.work(0.0))
    assert machine.at == began


@pytest.mark.parametrize("asked", [False, True])
async def test_after_some_work_the_links_are_listened_to_for_a_moment(asked: bool) -> None:
    """Who waits for its replies sends slowly while results are decided: only in a pause it shows how fast it would."""
    machine = Machine()
    machine.busy, machine.asked = False, asked
    began = machine.at
    await machine.courtesy.turn(0.0, machine.work(LISTEN_AFTER_S))
    assert machine.at - began == pytest.approx(LISTEN_AFTER_S)
    machine.asked = False
    await machine.courtesy.turn(0.0, machine.work(0.01))
    await machine.courtesy.turn(0.0, machine.work(0.01))
    assert machine.at - began == pytest.approx(LISTEN_AFTER_S + LISTEN_S + 0.02)


async def test_links_are_listened_to_between_pieces_of_work_that_wait_for_one_another() -> None:
    machine = Machine()
    machine.busy, machine.asked = False, True
    heard: list[float] = []
    sleep = machine.courtesy._sleep

    async def listening(seconds: float) -> None:
        heard.append(seconds)
        await sleep(seconds)

    machine.courtesy._sleep = listening
    await asyncio.gather(*(machine.courtesy.turn(0.0, machine.work(LISTEN_AFTER_S / 2)) for _ in range(6)))
    assert heard.count(LISTEN_S) == 2


async def test_work_that_fails_raises_and_gives_the_links_their_time() -> None:
    machine = Machine()

    async def fail() -> None:
        machine.at += 0.1
        raise ValueError

    with pytest.raises(ValueError):
        await machine.courtesy.turn(0.0, fail)
    before = machine.at
    await machine.courtesy.turn(0.0, machine.work(0.0))
    assert machine.at - before == pytest.approx(0.1 / LEAST_SHARE - 0.1, rel=0.1)


async def test_what_comes_after_the_queue_was_emptied_is_let_come_together() -> None:
    machine = Machine()
    began = machine.at
    machine.at += TOGETHER_S / 3  # it was read meanwhile
    await machine.courtesy.gather(began)
    assert machine.at - began == pytest.approx(TOGETHER_S)
    machine.at += 1.0
    await machine.courtesy.gather(began)
    assert machine.at - began == pytest.approx(TOGETHER_S + 1.0)

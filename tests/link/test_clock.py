"""The limit on how long a task waits, set time and again: late blocks end, others never hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from interface.link.clock import LoopClock, LoopLimit
from tests.link.bench import PATIENCE_S, settle


@pytest.fixture
def clock() -> LoopClock:
    return LoopClock()


async def test_a_block_that_is_late_ends_with_a_timeout_and_the_task_goes_on(clock: LoopClock) -> None:
    limit = clock.limit()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            with limit.at(clock.now() - 1.0):
                await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None and not task.cancelling()
    limit.close()


async def test_a_block_that_ended_in_time_does_not_cut_the_one_after_it(clock: LoopClock) -> None:
    limit = clock.limit()
    for when in (None, clock.now() + PATIENCE_S):
        with limit.at(clock.now()):
            pass
        with limit.at(when):
            await settle()  # the first block's timer rings
    with pytest.raises(TimeoutError):
        with limit.at(clock.now() - 1.0):
            await asyncio.Event().wait()
    limit.close()


async def test_many_blocks_have_one_timer(clock: LoopClock, monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[float] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def noted(when: float, ring: Callable[[], None]) -> asyncio.TimerHandle:
        armed.append(when)
        return call_at(when, ring)

    monkeypatch.setattr(loop, "call_at", noted)
    limit = clock.limit()
    begin = clock.now()
    for at in (200.0, 100.0, 150.0, 100.5, 300.0):
        with limit.at(begin + at):
            await asyncio.sleep(0)
    assert armed == [begin + 200.0, begin + 100.0], "moved only for what ends before it rings"
    limit.close()


async def test_who_is_cancelled_by_somebody_else_is_cancelled(clock: LoopClock) -> None:
    began = asyncio.Event()

    async def wait(limit: LoopLimit) -> None:
        with limit.at(clock.now() + PATIENCE_S):
            began.set()
            await asyncio.Event().wait()

    limit = LoopLimit()
    task = asyncio.create_task(wait(limit))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    limit.close()


async def test_a_limit_that_was_closed_rings_no_more(clock: LoopClock) -> None:
    limit = clock.limit()
    with limit.at(clock.now()):
        pass
    limit.close()
    await settle()
    assert not (task := asyncio.current_task()) or not task.cancelling()

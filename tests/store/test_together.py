"""What several want at the same moment is done as one, and nobody pays for another's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from interface.errors import StoreUnavailable
from interface.store.together import Together


class Work:
    """Doubles numbers; refuses 13, and everything while it is `away`. It goes on when it may."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun, self.may = asyncio.Event(), asyncio.Event()
        self.away = False

    async def do(self, group: Sequence[int]) -> list[int]:
        self.groups.append(list(group))
        self.begun.set()
        await self.may.wait()
        if self.away:
            raise StoreUnavailable("away")
        if 13 in group:
            raise ValueError("13")
        return [2 * one for one in group]


async def test_what_comes_while_a_group_is_done_is_the_next_in_its_order() -> None:
    work = Work()
    together = Together(work.do, 3)
    first = asyncio.create_task(together.want(1))
    await work.begun.wait()
    others = [asyncio.create_task(together.want(one)) for one in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    assert together.busy
    work.may.set()
    assert [await one for one in (first, *others)] == [2, 4, 6, 8, 10]
    assert work.groups == [[1], [2, 3, 4], [5]]
    await together.idle()
    assert not together.busy


async def test_who_waited_for_a_group_that_the_database_failed_does_not_wait_for_another() -> None:
    """Two, each of which ends after 22 s, are 44 s for somebody."""
    work, now = Work(), [0.0]
    work.away = True
    together = Together(work.do, 10, clock=lambda: now[0])
    tasks = []
    for came, one in ((0.0, 1), (0.1, 2), (20.9, 3), (21.5, 4)):
        now[0] = came
        tasks.append(asyncio.create_task(together.want(one)))
        await asyncio.sleep(0)
        await work.begun.wait()
    now[0] = 22.0
    work.may.set()
    said = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, StoreUnavailable) for one in said)
    assert work.groups == [[1], [4]]
    await together.idle()
    work.away = False
    assert await together.want(5) == 10


async def test_only_who_is_at_fault_hears_of_it() -> None:
    work = Work()
    together = Together(work.do, 10)
    work.may.set()
    said = await asyncio.gather(*(together.want(one) for one in (1, 13, 2)), return_exceptions=True)
    assert said[0] == 2 and said[2] == 4 and isinstance(said[1], ValueError)
    assert work.groups == [[1, 13, 2], [1], [13], [2]]


async def test_a_database_that_is_away_is_asked_once_for_all_and_again_later() -> None:
    work = Work()
    work.away = True
    work.may.set()
    together = Together(work.do, 10)
    said = await asyncio.gather(*(together.want(one) for one in (1, 2)), return_exceptions=True)
    assert all(isinstance(one, StoreUnavailable) for one in said)
    assert work.groups == [[1, 2]]
    work.away = False
    assert await together.want(3) == 6


async def test_nothing_is_done_for_who_does_not_wait_any_more() -> None:
    work = Work()
    together = Together(work.do, 10)
    first = asyncio.create_task(together.want(1))
    await work.begun.wait()
    gone, stays = asyncio.create_task(together.want(2)), asyncio.create_task(together.want(3))
    await asyncio.sleep(0)
    gone.cancel()
    work.may.set()
    assert [await first, await stays] == [2, 6]
    assert work.groups == [[1], [3]]
    with pytest.raises(asyncio.CancelledError):
        await gone


class Slow:
    """Does what is not above three when it may, everything else at once."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.all_begun = asyncio.Event()
        self.may = {number: asyncio.Event() for number in (1, 2, 3)}

    async def do(self, group: Sequence[int]) -> list[int]:
        self.begun += group
        if len(self.begun) == 3:
            self.all_begun.set()
        for one in group:
            if one in self.may:
                await self.may[one].wait()
        return [2 * one for one in group]


async def test_for_a_group_that_is_slow_nobody_else_waits() -> None:
    """Beside three that are slow there is no fourth; who ends first goes on with what waits."""
    work = Slow()
    together = Together(work.do, 1, patience_s=0.001)
    slow = [asyncio.create_task(together.want(one)) for one in work.may]
    async with asyncio.timeout(20):
        await work.all_begun.wait()
        fourth = asyncio.create_task(together.want(4))
        await asyncio.wait((fourth,), timeout=0.01)
        assert work.begun == [1, 2, 3] and together.busy
        work.may[2].set()
        assert (await fourth, await slow[1]) == (8, 4)
        assert await together.want(5) == 10
        assert not slow[0].done() and not slow[2].done()
        for may in work.may.values():
            may.set()
        assert [await one for one in slow] == [2, 4, 6]
        await together.idle()
    assert not together.busy


async def test_what_is_being_done_when_the_loop_ends_is_given_up() -> None:
    work = Slow()
    together = Together(work.do, 1, patience_s=0.001)
    wanted = [asyncio.create_task(together.want(one)) for one in (1, 2, 3, 4)]
    async with asyncio.timeout(20):
        await work.all_begun.wait()
        for one in asyncio.all_tasks() - {*wanted, asyncio.current_task()}:
            one.cancel()
        said = await asyncio.gather(*wanted, return_exceptions=True)
        await together.idle()
    assert all(isinstance(one, asyncio.CancelledError) for one in said)

"""What several want of the database at the same moment, done as one: a statement costs more than its rows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Generic, TypeVar

from interface.errors import StoreError, StoreUnavailable

MOST_BESIDE = 3  # groups that are done at the same time: each has a connection of its own
IN_VAIN_S = 1.0  # who has waited for a group that failed hears of it, rather than wait for as long again
Wanted = TypeVar("Wanted")
Had = TypeVar("Had")


class Together(Generic[Wanted, Had]):
    """What comes while one group is being done is the next; alone, nobody waits for another.

    `do`: gives what each of a group gets, in its order, or raises; a group that fails for anything but the database's
    absence is done one by one, so that only who is at fault hears of it. `most`: in a group. `turns`: of the loop, in
    which those come that have arrived already and are read from their connections one after the other. `patience_s`:
    for a group that takes longer nobody else waits, the next is done beside it, up to MOST_BESIDE; None: one group is
    done after the other. A database that is away while a group is done is away also for who has waited for IN_VAIN_S
    beside it: nobody waits for two groups that fail.
    """

    def __init__(
        self, do: Callable[[Sequence[Wanted]], Awaitable[Sequence[Had]]], most: int, turns: int = 0,
        patience_s: float | None = None, clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        self._do, self._most, self._turns, self._patience_s, self._clock = do, most, turns, patience_s, clock
        self._waiting: deque[tuple[Wanted, asyncio.Future[Had]]] = deque()
        self._came: deque[float] = deque()  # when each of them did
        self._tasks: set[asyncio.Task[None]] = set()
        self._taker: asyncio.Task[None] | None = None  # which of them does the next group; None: who is ready first
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether anything is being done or waits."""
        return bool(self._tasks)

    async def idle(self) -> None:
        """Wait until nothing does."""
        await self._idle.wait()

    async def want(self, one: Wanted) -> Had:
        """Raises what `do` does. Who waits no longer may have been served all the same."""
        done: asyncio.Future[Had] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, done))
        self._came.append(self._clock())
        if self._taker is None and len(self._tasks) < MOST_BESIDE:
            self._take()
        return await done

    def _take(self) -> None:
        self._idle.clear()
        self._taker = asyncio.get_running_loop().create_task(self._serve())
        self._tasks.add(self._taker)

    def _pass_on(self) -> None:
        """The group that is being done is slow: it keeps nobody else."""
        self._taker = None
        if self._waiting and len(self._tasks) < MOST_BESIDE:
            self._take()

    async def _serve(self) -> None:
        own = asyncio.current_task()
        group: list[tuple[Wanted, asyncio.Future[Had]]] = []
        try:
            while self._waiting and self._taker in (own, None):
                self._taker = own
                group = await self._next()
                await self._patiently(group)
        finally:
            others = self._taker not in (own, None)
            for _, done in (*group, *(() if others else self._waiting)):
                done.cancel()  # of a loop that ends; else all of them are done
            if not others:
                self._waiting.clear()
                self._came.clear()
                self._taker = None
            self._tasks = {one for one in self._tasks if one is not own}
            if not self._tasks:
                self._idle.set()

    async def _patiently(self, group: Sequence[tuple[Wanted, asyncio.Future[Had]]]) -> None:
        if self._patience_s is None:
            await self._group(group)
            return
        slow = asyncio.get_running_loop().call_later(self._patience_s, self._pass_on)
        try:
            await self._group(group)
        finally:
            slow.cancel()

    async def _next(self) -> list[tuple[Wanted, asyncio.Future[Had]]]:
        for _ in range(self._turns):
            if len(self._waiting) >= self._most:
                break
            await asyncio.sleep(0)
        group: list[tuple[Wanted, asyncio.Future[Had]]] = []
        while self._waiting and len(group) < self._most:
            one, done = self._waiting.popleft()
            self._came.popleft()
            if not done.done():  # else nobody waits for it any more
                group.append((one, done))
        return group

    async def _group(self, group: Sequence[tuple[Wanted, asyncio.Future[Had]]]) -> None:
        try:
            had = await self._do([one for one, _ in group]) if group else ()
        except Exception as error:
            if len(group) > 1 and not isinstance(error, StoreError):
                for each in group:
                    await self._group([each])
                return
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
            if isinstance(error, StoreError):
                self._refuse_who_waited(error)
            return
        for (_, waits), own in zip(group, had, strict=True):
            if not waits.done():
                waits.set_result(own)

    def _refuse_who_waited(self, error: StoreError) -> None:
        """Nothing has been sent of theirs, so nothing of it is in doubt."""
        since = self._clock() - IN_VAIN_S
        while self._came and self._came[0] <= since:
            self._came.popleft()
            _, done = self._waiting.popleft()
            if not done.done():
                done.set_exception(StoreUnavailable(f"the database did not answer others: {error}"))

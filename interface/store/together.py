"""What several want of the database at the same moment, done as one: a statement costs more than its rows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from interface.errors import StoreError

Wanted = TypeVar("Wanted")
Had = TypeVar("Had")


class Together(Generic[Wanted, Had]):
    """What comes while one group is being done is the next; alone, nobody waits for another.

    `do`: gives what each of a group gets, in its order, or raises; a group that fails for anything but the database's
    absence is done one by one, so that only who is at fault hears of it. `most`: in a group. `turns`: of the loop, in
    which those come that have arrived already and are read from their connections one after the other.
    """

    def __init__(self, do: Callable[[Sequence[Wanted]], Awaitable[Sequence[Had]]], most: int, turns: int = 0) -> None:
        self._do, self._most, self._turns = do, most, turns
        self._waiting: deque[tuple[Wanted, asyncio.Future[Had]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether anything is being done or waits."""
        return self._task is not None

    async def idle(self) -> None:
        """Wait until nothing does."""
        await self._idle.wait()

    async def want(self, one: Wanted) -> Had:
        """Raises what `do` does. Who waits no longer may have been served all the same."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Had] = loop.create_future()
        self._waiting.append((one, done))
        if self._task is None:
            self._idle.clear()
            self._task = loop.create_task(self._serve())
        return await done

    async def _serve(self) -> None:
        group: list[tuple[Wanted, asyncio.Future[Had]]] = []
        try:
            while self._waiting:
                group = []
                for _ in range(self._turns):
                    if len(self._waiting) >= self._most:
                        break
                    await asyncio.sleep(0)
                while self._waiting and len(group) < self._most:
                    one, done = self._waiting.popleft()
                    if not done.done():  # else nobody waits for it any more
                        group.append((one, done))
                await self._group(group)
        finally:
            for _, done in (*group, *self._waiting):
                done.cancel()  # of a loop that ends; else all of them are done
            self._waiting.clear()
            self._task = None
            self._idle.set()

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
            return
        for (_, waits), own in zip(group, had, strict=True):
            if not waits.done():
                waits.set_result(own)

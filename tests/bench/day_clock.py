"""Time for a day that is lived in minutes: what a link waits for takes a fraction of it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from interface.link.clock import LoopClock, LoopLimit

FASTER = 10  # a hold-off of 20 s is 2 s


class _FastLimit(LoopLimit):
    def at(self, when: float | None) -> LoopLimit:
        return super().at(None if when is None else when / FASTER)


class FastClock(LoopClock):
    """Seconds that are short."""

    def now(self) -> float:
        return super().now() * FASTER

    def timeout_at(self, when: float | None) -> AbstractAsyncContextManager[object]:
        return super().timeout_at(None if when is None else when / FASTER)

    def limit(self) -> LoopLimit:
        return _FastLimit()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / FASTER)

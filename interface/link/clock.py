"""Time for the links, injected so that tests need not wait for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a link may know of time."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def utc(self) -> datetime:
        """The instant, aware UTC."""
        ...

    def timeout_at(self, when: float | None) -> AbstractAsyncContextManager[object]:
        """A block that is cancelled at `when` (as `now`; None: never) and then raises TimeoutError."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class LoopClock:
    """The event loop's own time."""

    def now(self) -> float:
        return time.monotonic()  # as the loops count, which would have to be found first

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def timeout_at(self, when: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout_at(when)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

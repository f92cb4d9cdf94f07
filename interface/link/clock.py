"""Time for the links, injected so that tests need not wait for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol

_TICK_S: Final = 0.002  # the loop counts in milliseconds


class Limit(Protocol):
    """How long one task waits, time and again: as `Clock.timeout_at`, for what is done with every message."""

    def at(self, when: float | None) -> AbstractContextManager[object]:
        """The same block as `Clock.timeout_at` makes; one at a time, and always in the same task."""
        ...

    def cut(self) -> None:
        """End the block that is under way as if its time were up; called by another task."""
        ...

    def close(self) -> None:
        """It is not needed any more."""
        ...


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

    def limit(self) -> Limit:
        """For a task that waits often."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class LoopLimit:
    """`asyncio.timeout_at` with one timer for all its blocks, since nearly none of them is ever late.

    The timer is let run when a block ends, and is moved only for a block that ends before it rings; when it rings early
    it is set anew, for the block that is under way then.
    """

    __slots__ = ("_inside", "_late", "_others", "_task", "_timer", "_when")

    def __init__(self) -> None:
        self._when: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._inside = False
        self._others, self._late = 0, False  # cancellations by others when the block began; whether we cancelled

    def at(self, when: float | None) -> LoopLimit:
        """See `Limit`."""
        self._when = when
        return self

    def __enter__(self) -> None:
        if self._task is None:
            self._task = asyncio.current_task()
            if self._task is None:
                raise RuntimeError("a limit is a task's")
        self._inside, self._others, self._late = True, self._task.cancelling(), False
        if self._when is not None and (self._timer is None or self._timer.when() > self._when):
            self._arm(self._when)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._when, self._inside = None, False
        # As asyncio.timeout: a cancellation of ours is a timeout, one of anybody else stays one.
        if self._late and self._task is not None and self._task.uncancel() <= self._others:
            self._late = False
            if kind is asyncio.CancelledError:
                raise TimeoutError from error

    def cut(self) -> None:
        """See `Limit`."""
        if self._inside and not self._late and self._task is not None:
            self._late = True
            self._task.cancel()

    def close(self) -> None:
        """See `Limit`."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._task = self._when = None

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._when is None or self._task is None:
            return
        if asyncio.get_running_loop().time() + _TICK_S < self._when:
            self._arm(self._when)
        elif not self._late:
            self._late = True
            self._task.cancel()


class LoopClock:
    """The event loop's own time."""

    # Asked several times for each message: without a frame of their own.
    now = staticmethod(time.monotonic)  # as the loops count, which would have to be found first
    utc = staticmethod(partial(datetime.now, UTC))

    def timeout_at(self, when: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout_at(when)

    def limit(self) -> Limit:
        return LoopLimit()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

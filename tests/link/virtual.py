"""Virtual time: an event loop whose clock jumps to the next timer, and a cable that delays, loses and damages bytes.

Nothing waits, so a session of minutes takes milliseconds, and everything that happens is decided by a seed.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

from interface.errors import LinkLost
from interface.link.clock import LoopLimit

_T = TypeVar("_T")


class _Selector(selectors.SelectSelector):
    """Never waits: the time that it would have waited has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for something that will never happen"
        self.passed_s += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """See above. For code that uses no thread and no other process."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed_s


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """The coroutine's result, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class VirtualClock:
    """`link.clock.Clock` by the loop that runs."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def utc(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now())

    def timeout_at(self, when: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout_at(when)

    def limit(self) -> LoopLimit:
        return LoopLimit()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Weather:
    """What befalls the bytes: the chances that of what is written at once one byte is lost, or comes as another.

    Never two of the same writing, which a checksum may take for good.
    """

    lost: float = 0.0
    damaged: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.05)


class _Wire:
    """One direction. Bytes arrive in order, late, and not all of them."""

    def __init__(self, dice: Random, weather: Weather) -> None:
        self.dice, self.weather = dice, weather
        self.arrived: deque[bytes] = deque()
        self.changed = asyncio.Event()
        self.closed = False
        self._last = 0.0

    def put(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._last = max(self._last, loop.time() + self.dice.uniform(*self.weather.delay_s))
        if kept := self._befallen(data):
            loop.call_at(self._last, self._arrive, kept)

    def _befallen(self, data: bytes) -> bytes:
        chance, at = self.dice.random(), self.dice.randrange(len(data))
        if chance < self.weather.lost:
            return data[:at] + data[at + 1 :]
        if chance < self.weather.lost + self.weather.damaged:
            return data[:at] + bytes([data[at] ^ 1 << self.dice.randrange(8)]) + data[at + 1 :]
        return data

    def _arrive(self, data: bytes) -> None:
        self.arrived.append(data)
        self.changed.set()

    def close(self) -> None:
        self.closed = True
        self.changed.set()


class VirtualStream:
    """One end of a `cable`."""

    def __init__(self, incoming: _Wire, outgoing: _Wire, peer: str) -> None:
        self._in, self._out, self.peer = incoming, outgoing, peer

    async def read(self) -> bytes:
        while not self._in.arrived and not self._in.closed:
            self._in.changed.clear()
            await self._in.changed.wait()
        return self._in.arrived.popleft() if self._in.arrived else b""

    async def write(self, data: bytes) -> None:
        if self._out.closed:
            raise LinkLost("the cable is unplugged")
        self._out.put(data)

    async def close(self) -> None:
        self._in.close()
        self._out.close()


def cable(dice: Random, weather: Weather) -> tuple[VirtualStream, VirtualStream]:
    """Two connected ends (the analyzer's, the host's)."""
    there, back = _Wire(dice, weather), _Wire(dice, weather)
    return VirtualStream(back, there, "host"), VirtualStream(there, back, "analyzer")

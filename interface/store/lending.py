"""A pool's connections, lent for one statement at a time.

To have a connection of the pool and to give it back costs a process as much as the statement that it is for. So the
one that was used last stays out for LENT_S and goes from hand to hand; who finds it in use has another of the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

LENT_S: Final = 1.0


class Lending:
    """`acquire` and `release`: have a connection of the pool, and give it back."""

    def __init__(self, acquire: Callable[[], Awaitable[Any]], release: Callable[[Any], Awaitable[None]]) -> None:
        self._acquire, self._release = acquire, release
        self._loop = asyncio.get_running_loop()
        self._free: tuple[Any, float] | None = None  # and until when it stays out
        self._giving: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        """A connection for a statement, which leaves nothing in its session; where that fails it is given back."""
        connection, until = await self._taken()
        well = False
        try:
            yield connection
            well = True
        finally:
            if well and self._free is None and self._loop.time() < until:
                self._free = connection, until
            else:
                await self._release(connection)

    async def close(self) -> None:
        """Give back what nobody uses."""
        if self._free is not None:
            (connection, _), self._free = self._free, None
            await self._release(connection)
        await asyncio.gather(*self._giving)

    async def _taken(self) -> tuple[Any, float]:
        if self._free is not None:
            (connection, until), self._free = self._free, None
            if not connection.is_closed():
                return connection, until
            await self._release(connection)
        connection, until = await self._acquire(), self._loop.time() + LENT_S
        self._loop.call_at(until, self._over)
        return connection, until

    def _over(self) -> None:
        """One has been out for long enough. Who uses it gives it back."""
        if self._free is not None and self._free[1] <= self._loop.time():
            (connection, _), self._free = self._free, None
            giving = asyncio.ensure_future(self._release(connection))
            self._giving.add(giving)
            giving.add_done_callback(self._giving.discard)

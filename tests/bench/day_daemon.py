"""The daemon of `scripts/bench day`: in this process, or in one of its own that dies between two of its steps.

A step is a statement that changes something, a commit, or a write to a link; before and after each the daemon may end
as by kill -9. So it dies between any two steps of an order, a download, a query, a result: which, a seed says.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeVar

import aiohttp
import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from interface import telemetry
from interface.daemon import started
from interface.errors import LinkError
from interface.link.tcp import TcpStream
from interface.settings import Address, Settings
from tests.bench.day_clock import FastClock
from tests.e2e.daemon import free_ports

_T = TypeVar("_T")
_LOST = (LinkError, aiohttp.ClientError, OSError)
STEPS = 300  # that an order takes, about, with all that is done beside it
_CHANGES = re.compile(r"insert|update|delete|commit|pg_advisory", re.IGNORECASE)
EARLY = 0.15  # of the daemons die before they are ready, if they get there


@dataclass
class House:
    """Where the daemon is reached. `kills`: so often it was killed; `cut`: what was asked and not answered for it."""

    links: Mapping[str, Address]
    api: Address
    mortal: bool = False
    kills: int = 0
    cut: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)  # until then it is not killed

    async def persist(self, do: Callable[[int], Awaitable[_T]]) -> _T:
        """What it gives, done again for as long as the daemon dies of it; it is told how often it was tried."""
        tried = 0
        while True:
            try:
                return await do(tried)
            except _LOST:
                if not self.mortal:
                    raise
            tried, self.cut = tried + 1, self.cut + 1
            await self.up.wait()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def housed(settings: Settings, folder: Path, orders: int, kills: int, seed: int) -> AsyncIterator[House]:
    """A daemon, in this process if it is not to be killed."""
    if not kills:
        async with started(settings, FastClock()) as daemon:
            yield House(daemon.links, daemon.api)
        return
    ports = iter(free_ports(1 + len(settings.links)))
    links = tuple(
        replace(one, transport=replace(one.transport, endpoint=Address("127.0.0.1", next(ports))))
        for one in settings.links
    )
    api = replace(settings.api, listen=Address("127.0.0.1", next(ports)))
    place = {one.id: one.transport.endpoint for one in links if isinstance(one.transport.endpoint, Address)}
    house = House(place, api.listen, mortal=True)
    (folder / "settings").write_bytes(pickle.dumps(replace(settings, links=links, api=api)))
    log = open(folder / "log", "ab")  # noqa: ASYNC230 - once, and closed below
    lives = Lives(kills, STEPS * orders / kills, random.Random(seed))  # noqa: S311
    keeper = asyncio.create_task(_keep(house, folder, log, lives))
    try:
        up = asyncio.create_task(house.up.wait())
        await asyncio.wait({up, keeper}, return_when=asyncio.FIRST_COMPLETED)
        if keeper.done():
            keeper.result()
        yield house
        if keeper.done():
            keeper.result()
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        log.close()


@dataclass(frozen=True, slots=True)
class Lives:
    """How often the daemon dies, and after how many steps on the average."""

    kills: int
    steps: float
    dice: random.Random


async def _keep(house: House, folder: Path, log: IO[bytes], lives: Lives) -> None:
    """Start it again whenever it was killed, until it was so often enough. Raises RuntimeError where it ends else."""
    while True:
        steps = 1 + int(lives.dice.expovariate(1 / lives.steps)) if 0 < house.kills < lives.kills else 0
        early = steps and lives.dice.random() < EARLY
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.day_daemon", str(folder / "settings"), str(steps),
            "early" if early else "ready", stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            if await process.stdout.readline() == b"ready\n":
                house.up.set()
                if not house.kills:
                    await house.begun.wait()
                    process.kill()
            status = await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        house.up.clear()
        if status != -signal.SIGKILL:
            raise RuntimeError(f"the daemon ended with {status}: {folder / 'log'}")
        house.kills += 1


# ---- the process ----------------------------------------------------------------------------------------------------


class _Fuse:
    """Counts steps; the last is its end."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: type, name: str, counts: Callable[..., bool]) -> None:
        """A step before each call that counts and one after."""
        real = getattr(owner, name)

        async def stepping(*args: Any, **kwargs: Any) -> Any:
            if not counts(*args[:2]):
                return await real(*args, **kwargs)
            self.step()
            made = await real(*args, **kwargs)
            self.step()
            return made

        setattr(owner, name, stepping)

    def light(self) -> None:
        for name in ("execute", "executemany", "_execute"):
            self.around(asyncpg.Connection, name, lambda connection, query: _changes(query))
        self.around(PreparedStatement, "fetch", lambda statement, *first: _changes(statement.get_query()))
        self.around(TcpStream, "write", lambda stream, data: True)


@lru_cache(maxsize=1024)
def _changes(query: str) -> bool:
    return _CHANGES.search(query) is not None


async def _serve(settings: Settings, fuse: _Fuse | None, *, early: bool) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if fuse is not None and early:
        fuse.light()
    async with started(settings, FastClock()):
        print("ready", flush=True)
        if fuse is not None and not early:
            fuse.light()
        await stop.wait()


def main() -> int:
    """`python -m tests.bench.day_daemon SETTINGS STEPS early|ready`."""
    file, steps, when = sys.argv[1:]
    telemetry.configure_logs(40)
    settings = pickle.loads(Path(file).read_bytes())  # noqa: S301 - our own
    asyncio.run(_serve(settings, _Fuse(int(steps)) if int(steps) else None, early=when == "early"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

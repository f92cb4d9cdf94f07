"""`scripts/bench memory`: what a daemon of 64 links weighs after many messages, and how soon it is there again.

64 links, a connection each; messages of 25 results over all of them, some with an order, the rest held. Then the daemon
is killed (-9) `--kills` times while one analyzer goes on sending: how long until it is READY, and until the next
acknowledgement. `--stored 10000000`: on a database with so many results already.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import asyncpg

from interface.wire.mllp import encode
from tests.bench.flow import _rules_in_force
from tests.bench.messages import hl7_message
from tests.bench.population import Population
from tests.bench.soak import memory_mb
from tests.bench.yardstick import (
    NoYardstick,
    Postgres,
    Yardstick,
    daemon,
    say,
    scratch_folder,
    stopped_by_signal,
)

LINKS, ORDERED = 64, 4000
MOST_MB, MOST_READY_S, MOST_ACK_S = 150.0, 1.5, 1.0
LOOK_S = 1.0


async def _populate(url: str, stored: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        organization_id = await connection.fetchval("select id from lab.organization where name = 'main'")
        population = Population(connection, organization_id)
        if stored:
            beside = await asyncpg.connect(url)
            await population.store(stored, beside)
            await beside.close()
        await population.make("B", ORDERED)
        await _rules_in_force(url, organization_id, population)
    finally:
        await connection.close()


async def _acked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(encode(hl7_message(f"B{number:08d}", f"C{number}", number)))
    answer = await reader.readuntil(b"\x1c\r")
    if b"MSA|AA|" not in answer and b"MSA|CA|" not in answer:
        raise NoYardstick(f"not accepted: {answer[:200]!r}")


async def _load(url: str, pid: int, ports: tuple[int, ...], messages: int) -> tuple[float, list[float]]:
    """What it weighs before the first message, with every connection open, and every second until all is decided."""
    numbers = iter(range(1, messages + 1))
    opened = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
    before, seen = memory_mb(pid), [memory_mb(pid)]

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in numbers:
            await _acked(reader, writer, number)

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            seen.append(memory_mb(pid))

    looking = asyncio.create_task(look())
    await asyncio.gather(*(link(*one) for one in opened))
    connection = await asyncpg.connect(url)
    while await connection.fetchval("select count(*) from lab.queue"):  # noqa: ASYNC110 - another process empties it
        await asyncio.sleep(LOOK_S)
    await connection.close()
    looking.cancel()
    for _, writer in opened:
        writer.close()
    return before, seen


class _Killed:
    """The daemon, started by its own command so that it can be killed and started again."""

    def __init__(self, folder: Path, url: str, port: int) -> None:
        self._command = [str(Path(sys.executable).parent / "labora"), "--config", str(folder / "config.toml"), "run"]
        self._env, self._log, self._port = os.environ | {"LABORA_DATABASE_URL": url}, folder / "killed.log", port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Returns after how long it was READY."""
        began, before = time.perf_counter(), self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._env, stderr=log, stdout=log)
        while b'"daemon.ready"' not in self._log.read_bytes()[before:]:
            if self._process.poll() is not None:
                raise NoYardstick(f"the daemon ended: {self._log.read_bytes()[-500:]!r}")
            time.sleep(0.005)
        return time.perf_counter() - began

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    async def next_ack(self, number: int, began: float) -> float:
        """An analyzer that tries again until it is answered: how long since `began`."""
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await _acked(reader, writer, number)
                    return time.perf_counter() - began
                finally:
                    writer.close()
            await asyncio.sleep(0.005)


def _kills(folder: Path, url: str, port: int, kills: int, first: int) -> tuple[list[float], list[float]]:
    """Seconds from the start to READY, and from the kill to the next acknowledgement."""
    at = _Killed(folder, url, port)
    ready, acked = [at.start()], []
    try:
        for number in range(first, first + kills):
            at.kill()
            began = time.perf_counter()
            ready.append(at.start())
            acked.append(asyncio.run(at.next_ack(number, began)))
    finally:
        at.kill()
    return ready[1:], acked


def _p95(found: list[float]) -> float:
    return statistics.quantiles(found, n=20)[-1] if len(found) > 1 else found[0]


def _measure(postgres: Postgres, messages: int, kills: int, stored: int) -> bool:
    verdicts: list[bool] = []

    def verdict(what: str, value: float, most: float, unit: str, told: Callable[[float], str]) -> None:
        verdicts.append(value <= most)
        say(f"{what:<44}{told(value):>10} {unit}   (wanted at most {told(most)})")

    url = postgres.fresh(migrated=True)
    try:
        with scratch_folder() as folder:
            with daemon(url, folder, mllp=LINKS, astm=0):
                pass
            asyncio.run(_populate(url, stored))
            with daemon(url, folder, mllp=LINKS, astm=0) as (pid, links):
                before, seen = asyncio.run(_load(url, pid, links.mllp, messages))
                port = links.mllp[0]
            say(f"{LINKS} links, a connection each{'':<16}{before:>10.0f} MB   before the first message")
            verdict(f"after {messages:,} messages", seen[-1], MOST_MB, "MB", lambda value: f"{value:.0f}")
            say(f"{'the most meanwhile':<44}{max(seen):>10.0f} MB")
            ready, acked = _kills(folder, url, port, kills, messages + 1)
            verdict(f"READY, warm, p95 of {kills}", _p95(ready), MOST_READY_S, "s ", lambda value: f"{value:.2f}")
            verdict(
                f"kill -9 to the next ACK, p95 of {kills}", _p95(acked), MOST_ACK_S, "s ", lambda value: f"{value:.2f}"
            )
    finally:
        postgres.drop(url)
    return all(verdicts)


def main() -> None:
    """Print the table; status 1 when what is wanted was not met."""
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stored", type=int, default=0)
    options = parser.parse_args()
    stopped_by_signal()
    try:
        with Yardstick().postgres() as postgres:
            met = _measure(postgres, options.messages, options.kills, options.stored)
    except NoYardstick as error:
        sys.exit(str(error))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()

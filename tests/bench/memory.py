"""`scripts/bench memory`: what a daemon of 64 links weighs after many messages, and how soon it is there again.

64 links, a connection each; messages of 25 results over all of them, some with an order, the rest held. Its weight is
the resident memory of the daemon and of every process that it has started, added up; what they share counts in each.
That is looked at once all is decided, at a moment when no report is being printed: the process that prints lives for a
second, and what both weigh then is said beside it (the most of a look every second).
Then the daemon is killed (-9) `--kills` times while one analyzer goes on sending: how long until it is READY, and until
the next acknowledgement. `--stored 10000000`: on a database with so many results already. `--database URL`: on one
that is there, which keeps what the kills store in it; with `--messages 0` nothing else is.
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.bench.flow import _rules_in_force
from tests.bench.messages import hl7_message
from tests.bench.population import Population
from tests.bench.record import TARGETS, note
from tests.bench.soak import memory_mb
from tests.bench.yardstick import (
    NoYardstick,
    Yardstick,
    accepted,
    daemon,
    say,
    scratch_folder,
    stopped_by_signal,
)

LINKS, ORDERED = 64, 4000
IDLE = 20 * LINKS  # connections that say nothing
LOOK_S, SETTLE_S = 1.0, 3.0
POLL_S, PATIENCE_S = 0.05, 60.0


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
    await accepted(reader, writer, hl7_message(f"B{number:08d}", f"C{number}", number))


def started_by(pid: int) -> list[int]:
    """What a process has started, in any of its threads, and has not ended."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def weight_mb(pid: int) -> float:
    """Of a process and all that it has started; one that ends meanwhile, as those that print, weighs nothing."""
    try:
        return memory_mb(pid) + sum(map(weight_mb, started_by(pid)))
    except (OSError, IndexError):  # of what has ended, the system tells nothing any more
        return 0.0


async def at_rest(pid: int, patience_s: float = PATIENCE_S) -> tuple[float, int]:
    """What it weighs with what it has started for good, and how many processes these are: what ends soon is waited
    for, up to so long."""
    end = time.monotonic() + patience_s
    while (others := len(started_by(pid))) and time.monotonic() < end:  # noqa: ASYNC110 - another process ends them
        await asyncio.sleep(POLL_S)
    return weight_mb(pid), others


@dataclass(frozen=True, slots=True)
class _Weights:
    """In MB. `rest`: `at_rest`, with `others` beside it; `seen`: with how many messages had been sent, every second;
    `own`: of the daemon's process alone."""

    before: float
    rest: float
    others: int
    seen: list[tuple[int, float]]
    own: list[tuple[int, float]]


async def _load(url: str, pid: int, ports: tuple[int, ...], messages: int) -> _Weights:
    """What it weighs with every connection open, and every second until all is decided."""
    numbers = iter(range(1, messages + 1))
    opened = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
    before, sent = weight_mb(pid), 0
    seen, own = [(0, before)], [(0, memory_mb(pid))]

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for number in numbers:
            await _acked(reader, writer, number)
            sent += 1

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            seen.append((sent, weight_mb(pid)))
            own.append((sent, memory_mb(pid)))

    looking = asyncio.create_task(look())
    await asyncio.gather(*(link(*one) for one in opened))
    connection = await asyncpg.connect(url)
    while await connection.fetchval("select count(*) from lab.queue"):  # noqa: ASYNC110 - another process empties it
        await asyncio.sleep(LOOK_S)
    await connection.close()
    looking.cancel()
    seen.append((sent, weight_mb(pid)))
    own.append((sent, memory_mb(pid)))
    rest, others = await at_rest(pid)
    for _, writer in opened:
        writer.close()
    return _Weights(before, rest, others, seen, own)


async def _idle_kb(pid: int, ports: tuple[int, ...]) -> float:
    """What each connection weighs that says nothing, of a daemon that has no memory to spare yet."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
    await asyncio.sleep(SETTLE_S)
    before = weight_mb(pid)
    opened += [await asyncio.open_connection("127.0.0.1", ports[at % LINKS]) for at in range(IDLE)]
    await asyncio.sleep(SETTLE_S)
    weight_kb = (weight_mb(pid) - before) * 1024
    for _, writer in opened:
        writer.close()
    return weight_kb / IDLE


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
    ready: list[float] = []
    acked: list[float] = []

    async def again(number: int) -> None:
        began = time.perf_counter()
        ready_s, acked_s = await asyncio.gather(asyncio.to_thread(at.start), at.next_ack(number, began))
        ready.append(ready_s)
        acked.append(acked_s)

    at.start()
    try:
        for number in range(first, first + kills):
            at.kill()
            asyncio.run(again(number))
    finally:
        at.kill()
    return ready, acked


def _p95(found: list[float]) -> float:
    return statistics.quantiles(found, n=20)[-1] if len(found) > 1 else found[0]


def verdict(name: str, value: float, how: str) -> bool:
    target = TARGETS[name]
    say(f"{target.what:<56}{value:>9.2f} {target.unit:<3} (wanted at most {target.wanted:g})  {how}")
    return note(name, value, how)


def _measure(url: str, messages: int, kills: int, stored: int, *, fresh: bool) -> bool:
    met = []
    held = f"{stored:,} results stored before" if stored else ""
    with scratch_folder() as folder:
        if fresh:
            with daemon(url, folder, mllp=LINKS, astm=0):
                pass
            asyncio.run(_populate(url, stored))
        if messages:
            with daemon(url, folder, mllp=LINKS, astm=0) as (pid, links):
                met.append(verdict("P13-idle", asyncio.run(_idle_kb(pid, links.mllp)), f"{IDLE:,} more connections"))
        with daemon(url, folder, mllp=LINKS, astm=0) as (pid, links):
            port = links.mllp[0]
            if messages:
                weights = asyncio.run(_load(url, pid, links.mllp, messages))
        if messages:
            most = max(mb for _, mb in weights.seen)
            alone = max(mb for _, mb in weights.own)
            beside = f"with {weights.others} processes that stay" if weights.others else "when no report is printed"
            how = (f"the most that it ever weighed; {weights.rest:.0f} after {messages:,} messages, {beside}; "
                   f"{weights.before:.0f} before; {most:.0f} at most with a process that prints; {held}")  # fmt: skip
            met.append(verdict("P13-rss", max(alone, weights.rest), how.strip("; ")))
        if kills:
            ready, acked = _kills(folder, url, port, kills, round(time.time()))
            for name, found in (("ready", ready), ("next-ack", acked)):
                how = f"of {kills}; median {statistics.median(found):.2f}; {held}".strip("; ")
                met.append(verdict(name, _p95(found), how))
    return all(met)


def main() -> None:
    """Print the table; status 1 when what is wanted was not met."""
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stored", type=int, default=0)
    parser.add_argument("--database", metavar="URL", help="of an administrator")
    options = parser.parse_args()
    stopped_by_signal()
    try:
        if options.database:
            met = _measure(options.database, options.messages, options.kills, options.stored, fresh=False)
        else:
            with Yardstick().postgres() as postgres:
                url = postgres.fresh(migrated=True)
                try:
                    met = _measure(url, options.messages, options.kills, options.stored, fresh=True)
                finally:
                    postgres.drop(url)
    except NoYardstick as error:
        sys.exit(str(error))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()

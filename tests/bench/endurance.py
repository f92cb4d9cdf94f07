"""`scripts/bench endurance`: a daemon under an even load for long, tenth by tenth: memory, descriptors, latency (F20).

`--rate` messages of 25 results a second over 64 links, in an open loop: each is stored, decided and registered. Of each
tenth: the resident memory of the daemon and of all that it has started (the median of a look every second), its open
descriptors, how long acknowledgements took from when they were due, CPU. Growth is the slope of the tenths after the
second, over a million messages: until then tables fill up with what comes again, and the allocator finds its size.
Wanted (status 1 where it is not met): growth of at most 5 MB, no descriptor more, p99 of the last tenth at most 1.2
times that of the third.

What was decided is removed from the database again and again: a million messages are 40 GB. `--messages 1000000 --rate
100` takes 2.8 hours. Ctrl-C or SIGTERM ends it early: the tenths that are whole are judged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.bench.memory import LINKS, verdict, weight_mb
from tests.bench.messages import hl7_message
from tests.bench.yardstick import (
    NoYardstick,
    Refused,
    Yardstick,
    accepted,
    daemon,
    say,
    scratch_folder,
    stopped_by_signal,
)

LOOK_S, POLL_S, AGAIN_S, DECIDED_S = 1.0, 0.1, 1.0, 300.0
TENTHS, WARM = 10, 2
REMOVED_EVERY = 10_000  # messages, whose results are 400 MB
MOST_SLOWER = 1.2
_DECIDED = "select not exists (select from lab.queue)"
_REMOVE = "truncate lab.outbox, lab.result, lab.result_version, lab.frame cascade"


@dataclass(slots=True)
class Tenth:
    """What was seen while a tenth of the messages was sent."""

    mb: list[float] = field(default_factory=list)
    descriptors: int = 0  # at its end
    waited_s: list[float] = field(default_factory=list)
    refused: int = 0  # and sent again, as an analyzer does
    cpu_s: float = 0.0
    took_s: float = 0.0

    @property
    def weight_mb(self) -> float:
        return statistics.median(self.mb)

    @property
    def p99_ms(self) -> float:
        return sorted(self.waited_s)[int(len(self.waited_s) * 0.99)] * 1e3


def growth_mb(tenths: Sequence[Tenth], each: int) -> tuple[float, float]:
    """Over a million messages, by the tenths after the first ones, of `each` so many, and its standard error."""
    weights = [one.weight_mb for one in tenths[WARM:]]
    sent = [at * each / 1e6 for at in range(len(weights))]
    slope, level = statistics.linear_regression(sent, weights)
    off = sum((weight - level - slope * at) ** 2 for at, weight in zip(sent, weights, strict=True))
    apart = sum((at - statistics.fmean(sent)) ** 2 for at in sent)
    return slope, (off / max(1, len(sent) - 2) / apart) ** 0.5


def _processes(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):  # it has ended
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _processes(int(child))


def _descriptors(pid: int) -> int:
    count = 0
    for one in _processes(pid):
        with suppress(OSError):
            count += len(os.listdir(f"/proc/{one}/fd"))
    return count


async def _taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> bool:
    """Whether a message was accepted; refused, an analyzer waits before it sends it again."""
    try:
        await accepted(reader, writer, message)
    except Refused:
        await asyncio.sleep(AGAIN_S)
        return False
    return True


class Load:
    """Messages at an even rate over all links, tenth by tenth. `tenths`: those that are whole."""

    def __init__(self, yardstick: Yardstick, pids: Sequence[int], rate: float) -> None:
        self._yardstick, self._pids, self._rate, self._sent = yardstick, pids, rate, 0
        self._links: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.tenths: list[Tenth] = []

    async def run(self, url: str, ports: Sequence[int], messages: int) -> None:
        """All of them; SIGINT and SIGTERM end it, and what is whole is kept."""
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        connection = await asyncpg.connect(url)
        try:
            self._links = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
            with suppress(asyncio.CancelledError):
                for _ in range(TENTHS):
                    await self._tenth(connection, messages // TENTHS)
        finally:
            for _, writer in self._links:
                writer.close()
            await connection.close()

    async def _tenth(self, connection: asyncpg.Connection[asyncpg.Record], messages: int) -> None:
        tenth, began, cpu = Tenth(), time.monotonic(), self._yardstick.cpu(self._pids)

        async def look() -> None:
            while True:
                tenth.mb.append(weight_mb(self._pids[0]))
                await asyncio.sleep(LOOK_S)

        looking = asyncio.create_task(look())
        try:
            for first in range(0, messages, REMOVED_EVERY):
                await self._send(min(REMOVED_EVERY, messages - first), tenth)
                await self._decided(connection)
                await connection.execute(_REMOVE)
        finally:
            looking.cancel()
        tenth.descriptors = _descriptors(self._pids[0])
        tenth.cpu_s, tenth.took_s = self._yardstick.cpu(self._pids) - cpu, time.monotonic() - began
        self.tenths.append(tenth)
        self._say(tenth, messages)

    async def _send(self, messages: int, tenth: Tenth) -> None:
        began, first = time.perf_counter(), self._sent
        self._sent += messages

        async def link(at: int) -> None:
            reader, writer = self._links[at]
            for number in range(at, messages, LINKS):
                due = began + number / self._rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                name = f"{first + number:09d}"
                message = hl7_message(f"E{name}", f"C{name}", number)
                while not await _taken(reader, writer, message):
                    tenth.refused += 1
                tenth.waited_s.append(time.perf_counter() - due)

        await asyncio.gather(*(link(at) for at in range(LINKS)))

    async def _decided(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        end = time.monotonic() + DECIDED_S
        while not await connection.fetchval(_DECIDED):
            if time.monotonic() > end:
                raise NoYardstick(f"{self._rate:.0f} messages/s are more than are decided; take a lower --rate")
            await asyncio.sleep(POLL_S)

    def _say(self, tenth: Tenth, messages: int) -> None:
        say(f"{self._sent:>10,} messages {tenth.weight_mb:>8.1f} MB {tenth.descriptors:>5} descriptors"
            f"  p99 {tenth.p99_ms:>7.1f} ms  {messages / tenth.took_s:>6.0f}/s"
            f"  {tenth.cpu_s / tenth.took_s:>5.2f} cores, {tenth.cpu_s / messages * 1e3:.2f} ms a message"
            f"{f', {tenth.refused} refused' if tenth.refused else ''}")  # fmt: skip


def judged(tenths: Sequence[Tenth], each: int) -> bool:
    """Whether it neither grew nor slowed down; false where too little was measured to say."""
    measured = tenths[WARM:]
    if len(measured) < 2:
        say(f"{len(tenths)} tenths are too few to say anything")
        return False
    first, last = measured[0], measured[-1]
    how = f"of {each * len(tenths):,} messages the last {each * len(measured):,}: {first.weight_mb:.1f} MB, then"
    slope, error = growth_mb(tenths, each)
    met = [verdict("P13-growth", slope, f"± {error:.1f}; {how} {last.weight_mb:.1f} MB")]
    met.append(last.descriptors <= first.descriptors)
    say(f"descriptors: {first.descriptors}, then {last.descriptors}")
    slower = last.p99_ms / first.p99_ms
    met.append(slower <= MOST_SLOWER)
    say(f"p99 of the last tenth: {slower:.2f} times that of the third (wanted at most {MOST_SLOWER})")
    return all(met)


def main() -> None:
    """Print the table; status 1 when what is wanted was not met."""
    parser = argparse.ArgumentParser(prog="scripts/bench endurance", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second")
    options = parser.parse_args()
    stopped_by_signal()
    try:
        yardstick = Yardstick()
        with yardstick.postgres() as postgres, scratch_folder() as folder:
            url = postgres.fresh(migrated=True)
            with daemon(url, folder, mllp=LINKS, astm=0, link='unsolicited = "register"\n') as (pid, links):
                load = Load(yardstick, [pid, postgres.pid], options.rate)
                try:
                    asyncio.run(load.run(url, links.mllp, options.messages))
                except (NoYardstick, OSError, EOFError) as error:
                    say(f"ended early: {error}")  # what is whole is judged
    except NoYardstick as error:
        sys.exit(str(error))
    sys.exit(0 if judged(load.tenths, options.messages // TENTHS) else 1)


if __name__ == "__main__":
    main()

"""Many analyzers at once, most of them healthy: what `scripts/bench soak` and its short twin in the tests play.

A healthy one sends a message, waits for each acknowledgement as the standards say, and keeps what it was promised.
The others are slow, mad, dead, greedy or endless; whatever they do must cost nobody but themselves.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from interface.wire.frames import build_frame
from tests.bench.messages import hl7_message, lis2_message

HOST = "127.0.0.1"
ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"
TRIES = 6  # LIS01-A2 6.5.1.2
ANSWER_S = 30.0


class Protocol(StrEnum):
    ASTM = "astm"
    MLLP = "mllp"


@dataclass(slots=True)
class Report:
    """What healthy analyzers saw. Latencies in seconds; `promised`: control ids acknowledged to the last frame."""

    enq: list[float] = field(default_factory=list)
    frame: list[float] = field(default_factory=list)
    message: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)  # how much later than due a message was begun
    promised: dict[str, int] = field(default_factory=dict)  # frames or blocks of each
    naks: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def every(self) -> list[float]:
        """Every acknowledgement."""
        return self.enq + self.frame + self.message


class Healthy:
    """An analyzer that does as the standards say, on a connection it keeps."""

    def __init__(self, protocol: Protocol, port: int, name: str, report: Report) -> None:
        self._protocol, self._port, self._name, self._report = protocol, port, name, report
        self._number = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, messages: int, every_s: float = 0.0, first_s: float = 0.0) -> None:
        """Send so many messages, one every `every_s` (0: as they are acknowledged), the first after `first_s`."""
        loop = asyncio.get_running_loop()
        due = loop.time() + first_s
        for _ in range(messages):
            await asyncio.sleep(due - loop.time())
            self._report.late.append(max(0.0, loop.time() - due))
            await self.send()
            due = max(due + every_s, loop.time())
        await self.close()

    async def send(self) -> None:
        """One message, sent until it is acknowledged."""
        self._number += 1
        control_id = f"{self._name}-{self._number}"
        for _ in range(TRIES):
            try:
                if await (self._session if self._protocol is Protocol.ASTM else self._block)(control_id):
                    return
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self._report.faults.append(f"{control_id}: {type(error).__name__}")
                await self.close()
        self._report.faults.append(f"{control_id}: given up")

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None

    async def _asked(self, data: bytes, until: bytes, latencies: list[float]) -> bytes:
        """Send and wait for the answer: one byte, or all to `until`."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._writer.write(data)
        async with asyncio.timeout(ANSWER_S):
            answer = await (self._reader.readuntil(until) if until else self._reader.readexactly(1))
        latencies.append(loop.time() - began)
        return answer

    async def _session(self, control_id: str) -> bool:
        while await self._asked(ENQ, b"", self._report.enq) != ACK:
            self._report.naks += 1
            await asyncio.sleep(0.2)
        records = lis2_message(f"S{control_id}", control_id).split(b"\r")[:-1]
        for number, record in enumerate(records, 1):
            frame, tries = build_frame(number, record + b"\r", True), 0
            while (answer := await self._asked(frame, b"", self._report.frame)) != ACK:
                self._report.naks += 1
                tries += 1
                if tries == TRIES or answer != NAK:
                    assert self._writer is not None
                    self._writer.write(EOT)
                    return False
        assert self._writer is not None
        self._report.promised[control_id] = len(records)
        self._writer.write(EOT)
        return True

    async def _block(self, control_id: str) -> bool:
        block = b"\x0b" + hl7_message(f"S{control_id}", control_id) + b"\x1c\r"
        answer = await self._asked(block, b"\x1c\r", self._report.message)
        if re.search(rb"\rMSA\|[AC]A\|%s\r" % control_id.encode(), answer) is None:
            self._report.naks += 1
            return False
        self._report.promised[control_id] = 1
        return True


# ---- those that misbehave --------------------------------------------------------------------------------------------

Misdeed = Callable[[Protocol, asyncio.StreamReader, asyncio.StreamWriter, random.Random], Awaitable[None]]


async def slowloris(
    protocol: Protocol, _: asyncio.StreamReader, writer: asyncio.StreamWriter, __: random.Random
) -> None:
    """A byte now and then: the message never ends."""
    begin = ENQ + b"\x021H|\\^&" if protocol is Protocol.ASTM else b"\x0bMSH|^~\\&|SLOW"
    for at in range(1 << 20):
        writer.write(begin[at : at + 1] or b"x")
        await writer.drain()
        await asyncio.sleep(0.2)


async def garbage(_: Protocol, __: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random) -> None:
    """Noise, as of a wrong baud rate, 20 kB a second."""
    while True:
        writer.write(chance.randbytes(1000))
        await writer.drain()
        await asyncio.sleep(0.05)


async def half_open(
    protocol: Protocol, _: asyncio.StreamReader, writer: asyncio.StreamWriter, __: random.Random
) -> None:
    """Silence in the middle of a frame or block, as of a peer whose power was cut: nothing ends the connection."""
    writer.write(ENQ + b"\x021H|\\^&|" if protocol is Protocol.ASTM else b"\x0bMSH|^~\\&|HALF")
    await writer.drain()
    await asyncio.sleep(3600)


async def flooding(
    protocol: Protocol, _: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random
) -> None:
    """As much as the line takes, without a look at any answer."""
    number, run = 0, chance.randbytes(4).hex()
    while True:
        number += 1
        if protocol is Protocol.ASTM:
            writer.write((ENQ + build_frame(1, b"H|\\^&|FLOOD\r", True) + EOT) * 20)
        else:
            writer.write(b"\x0b" + hl7_message(f"SF{run}{number}", f"FLOOD{run}{number}") + b"\x1c\r")
        await writer.drain()
        await asyncio.sleep(0)


async def oversize(
    protocol: Protocol, _: asyncio.StreamReader, writer: asyncio.StreamWriter, __: random.Random
) -> None:
    """A frame or block without end, 4 MB a second."""
    writer.write(ENQ + b"\x021H|\\^&|" if protocol is Protocol.ASTM else b"\x0bMSH|^~\\&|ENDLESS")
    while True:
        writer.write(b"x" * 200_000)
        await writer.drain()
        await asyncio.sleep(0.05)


MISDEEDS: dict[str, Misdeed] = {
    "slowloris": slowloris, "garbage": garbage, "half-open": half_open, "flooding": flooding, "oversize": oversize,
}  # fmt: skip


async def misbehave(deed: str, protocol: Protocol, port: int, seed: int) -> None:
    """Do it until cancelled, over a new connection whenever the host has had enough."""
    chance = random.Random(seed)  # noqa: S311  noise, not a secret
    while True:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
            await MISDEEDS[deed](protocol, reader, writer, chance)
        except OSError:
            await asyncio.sleep(0.2)
        finally:
            if writer is not None:
                writer.transport.abort()


def shared_out(ports: dict[Protocol, list[int]], every: int) -> Iterator[tuple[Protocol, int, str]]:
    """Each port with the misdeed of its analyzer, "" for a healthy one; of `every` ports of a protocol one is bad."""
    deeds = list(MISDEEDS)
    for protocol, own in ports.items():
        for at, port in enumerate(own):
            yield protocol, port, deeds[at // every % len(deeds)] if at % every == every - 1 else ""

"""Listens on a line and records what is said, for `driver.diagnose`: passively, as a tap, or refusing everything.

Passive sends not one byte. A tap forwards both directions unchanged. A probe answers as `ops.refusal` says. Nothing is
stored; what is recorded is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from interface.driver.diagnose import examine
from interface.driver.diagnosis import Diagnosis, Framing, Heard
from interface.errors import LinkError, LinkLost
from interface.link.clock import Clock
from interface.link.serial import open_port
from interface.link.stream import ByteStream
from interface.link.tcp import TcpListener, connect
from interface.ops.refusal import Hl7Refusal, Refuser
from interface.settings import Address, LineFormat, Parity, SerialPort
from interface.wire.trace import Direction

MAX_RECORDED_BYTES = 16 * 1024 * 1024
SCAN_BAUDS = (9600, 19200, 38400, 57600, 115200, 4800, 2400, 1200)  # as the field has them, most frequent first
# 7E1, 7O1 and 7N2 show in the 8th bit of what 8N1 hears; 8 bits with a parity do only where there are pauses.
SCAN_FORMATS = (LineFormat(), LineFormat(8, Parity.EVEN, 1), LineFormat(8, Parity.ODD, 1))
_SENSELESS_BYTES = 24  # so many that make no sense are enough to try the next setting
_MADE_SENSE = frozenset(Framing) - {Framing.SILENT, Framing.UNKNOWN, Framing.FOREIGN}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the analyzer is: it connects to `endpoint`, or is called there (`dial`), or is at a serial port."""

    endpoint: Address | SerialPort
    dial: bool = False


@dataclass(frozen=True, slots=True)
class Tap:
    """Where the other side of a tap is. `host_connects`: it is the analyzer, and the host connects to us."""

    endpoint: Address | SerialPort
    host_connects: bool = False


@dataclass(frozen=True, slots=True)
class ScanStep:
    """What one setting of a serial port gave."""

    port: SerialPort
    byte_count: int
    found: Diagnosis

    @property
    def makes_sense(self) -> bool:
        return self.found.framing in _MADE_SENSE


class Recording:
    """What was heard, connection by connection, to MAX_RECORDED_BYTES in all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begin: float | None = None
        self._conversations: list[list[Heard]] = []
        self._room = MAX_RECORDED_BYTES
        self.connections = 0

    @property
    def full(self) -> bool:
        return self._room <= 0

    def conversation(self) -> Callable[[Direction, bytes], None]:
        """A new connection; what is called with each piece that is heard on it."""
        heard: list[Heard] = []
        self._conversations.append(heard)
        self.connections += 1
        if self._begin is None:
            self._begin = self._clock.now()
        begin = self._begin

        def note(direction: Direction, data: bytes) -> None:
            if data and self._room > 0:
                kept = data[: self._room]
                self._room -= len(kept)
                heard.append(Heard(direction, kept, self._clock.now() - begin))

        return note

    def heard(self) -> tuple[Heard, ...]:
        """Everything, one connection after the other."""
        return tuple(one for conversation in self._conversations for one in conversation)


@dataclass(slots=True)
class _Line:
    """One connection that is listened to, and answered by `refuser` if there is one."""

    stream: ByteStream
    refuser: Refuser | None
    note: Callable[[Direction, bytes], None] | None = None
    before: list[tuple[Direction, bytes]] = field(default_factory=list)  # heard before anybody took notes

    async def hear(self, clock: Clock) -> bytes:
        """The next bytes, noted and answered; b"" at the end. Raises LinkLost."""
        while True:
            timer = self.refuser.timer if self.refuser is not None else None
            try:
                async with clock.timeout_at(clock.now() + timer.seconds if timer else None):
                    data = await self.stream.read()
            except TimeoutError:
                if self.refuser is not None:
                    self.refuser.timeout()
                continue
            self._note(Direction.ANALYZER, data)
            if self.refuser is not None and (reply := self.refuser.feed(data)):
                self._note(Direction.HOST, reply)
                await self.stream.write(reply)
            return data

    def _note(self, direction: Direction, data: bytes) -> None:
        if self.note is not None:
            self.note(direction, data)
        elif data:
            self.before.append((direction, data))


class LineDoctor:
    """Listens at a place until it is stopped. `tell` is given a sentence whenever something happens on the line."""

    def __init__(
        self,
        place: Place,
        clock: Clock,
        *,
        tap: Tap | None = None,
        probe: bool = False,
        hl7: Hl7Refusal = Hl7Refusal.NONE,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._place, self._clock, self._tap, self._tell = place, clock, tap, tell
        self._probe, self._hl7 = probe, hl7
        self._found: _Line | None = None  # what a scan ended with
        self.recording = Recording(clock)

    async def run(self, seconds: float) -> None:
        """Listen for so long. Raises LinkError when the line cannot be had at all."""
        deadline = self._clock.now() + seconds
        try:
            async with self._clock.timeout_at(deadline):
                if self._found is not None:
                    await self._attend(self._found.stream, self._found)
                elif isinstance(self._place.endpoint, Address) and not self._place.dial:
                    await self._accept(self._place.endpoint)
                else:
                    await self._attend(await _open(self._place.endpoint))
        except TimeoutError:
            return

    async def scan(self, dwell_s: float, bauds: Sequence[int] = SCAN_BAUDS) -> tuple[ScanStep, ...]:
        """Try the usual settings of the serial port, each for `dwell_s` at most, until one gives sense.

        `run` then goes on with that setting. Raises LinkError when the port cannot be opened.
        """
        port = self._place.endpoint
        if not isinstance(port, SerialPort):
            raise LinkError("only a serial port has settings to try")
        steps: list[ScanStep] = []
        for form in SCAN_FORMATS:
            for baud in bauds:
                step = await self._try(replace(port, baud=baud, format=form), dwell_s)
                steps.append(step)
                self._tell(f"{baud} {form}: {step.byte_count} bytes, {_sense(step)}")
                if step.makes_sense:
                    return tuple(steps)
        return tuple(steps)

    @property
    def place(self) -> Place:
        """Where it listens; the port that was found, after a scan."""
        return self._place

    async def _try(self, port: SerialPort, dwell_s: float) -> ScanStep:
        line = _Line(open_port(port), self._refuser())
        data = bytearray()
        found = examine(b"")
        try:
            self._tell(f"listening at {port.baud} {port.format}")
            async with self._clock.timeout_at(self._clock.now() + dwell_s):
                while found.framing not in _MADE_SENSE and len(data) < _SENSELESS_BYTES:
                    chunk = await line.hear(self._clock)
                    if not chunk:
                        break
                    data += chunk
                    found = examine(bytes(data))
        except TimeoutError:
            pass
        except BaseException:
            await line.stream.close()
            raise
        if found.framing in _MADE_SENSE:
            self._place, self._found = Place(port), line
        else:
            await line.stream.close()
        return ScanStep(port, len(data), found)

    def _refuser(self) -> Refuser | None:
        return Refuser(self._hl7, self._clock.utc) if self._probe else None

    async def _accept(self, address: Address) -> None:
        listener = TcpListener(address, self._attend)
        await listener.start()
        self._place = Place(listener.address)
        self._tell(f"listening on {listener.address}")
        try:
            await asyncio.Event().wait()
        finally:
            await listener.stop()
            tasks = listener.connections
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _attend(self, stream: ByteStream, line: _Line | None = None) -> None:
        """One connection, to its end."""
        line = line or _Line(stream, self._refuser())
        line.note = self.recording.conversation()
        for direction, data in line.before:
            line.note(direction, data)
        self._tell(f"connected with {stream.peer}")
        try:
            if self._tap is not None:
                await self._forward(stream, self._tap, line.note)
            else:
                while await line.hear(self._clock):
                    continue
        except LinkError as error:
            self._tell(str(error))
        finally:
            await stream.close()
            self._tell(f"the connection with {stream.peer} is over")

    async def _forward(self, stream: ByteStream, tap: Tap, note: Callable[[Direction, bytes], None]) -> None:
        """Carry both directions; when one side hangs up, so does the other."""
        here, there = Direction.ANALYZER, Direction.HOST
        if tap.host_connects:
            here, there = there, here
        async with AsyncExitStack() as stack:
            other = await _open(tap.endpoint)
            stack.push_async_callback(other.close)
            carriers = [
                asyncio.create_task(_carry(stream, other, here, note)),
                asyncio.create_task(_carry(other, stream, there, note)),
            ]
            try:
                await asyncio.wait(carriers, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for carrier in carriers:
                    carrier.cancel()
                await asyncio.gather(*carriers, return_exceptions=True)


async def _carry(
    source: ByteStream, sink: ByteStream, direction: Direction, note: Callable[[Direction, bytes], None]
) -> None:
    while data := await source.read():
        note(direction, data)
        try:
            await sink.write(data)
        except LinkLost:
            return


async def _open(endpoint: Address | SerialPort) -> ByteStream:
    return open_port(endpoint) if isinstance(endpoint, SerialPort) else await connect(endpoint)


def _sense(step: ScanStep) -> str:
    if step.makes_sense:
        form = f", and says {step.found.line_format}" if step.found.line_format else ""
        return f"which make sense ({step.found.framing}{form})"
    return "which make no sense" if step.byte_count else "nothing was heard"

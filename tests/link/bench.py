"""What the link tests share: a clock that is turned by hand, an intake that remembers, an analyzer's end of a line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from uuid import UUID, uuid4

from interface.domain.model import Protocol
from interface.errors import StoreError
from interface.link.clock import LoopClock
from interface.link.intake import Outgoing, Receipt, ReceivedBlock, ReceivedFrame
from interface.link.stream import ByteStream
from interface.settings import Address, LinkSettings, Transport, TransportType
from interface.wire.declared import Grammar

ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"
PATIENCE_S = 10.0  # of a test before it fails; never waited for when all is well


class FakeClock:
    """Time passes only by `advance`."""

    def __init__(self) -> None:
        self._now = 0.0
        self._alarms = set[_Alarm]()

    def now(self) -> float:
        return self._now

    def utc(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def timeout_at(self, when: float | None) -> _Alarm:
        return _Alarm(self, when)

    def limit(self) -> FakeLimit:
        return FakeLimit(self)

    async def sleep(self, seconds: float) -> None:
        alarm = self.timeout_at(self._now + seconds)
        try:
            async with alarm:
                await asyncio.Event().wait()
        except TimeoutError:
            return

    async def advance(self, seconds: float) -> None:
        """Let everybody arm their alarms, turn the clock, let everybody hear them."""
        await settle()
        self._now += seconds
        for alarm in list(self._alarms):
            alarm.ring_if_due(self._now)
        await settle()

    def watch(self, alarm: _Alarm) -> None:
        self._alarms.add(alarm)

    def forget(self, alarm: _Alarm) -> None:
        self._alarms.discard(alarm)


@dataclass(slots=True)
class FakeLimit:
    """Alarms of one task, one after the other."""

    clock: FakeClock
    alarm: _Alarm | None = None

    def at(self, when: float | None) -> _Alarm:
        self.alarm = _Alarm(self.clock, when)
        return self.alarm

    def cut(self) -> None:
        if self.alarm is not None:
            self.alarm.ring()

    def close(self) -> None:
        """Nothing to do."""


class _Alarm:
    def __init__(self, clock: FakeClock, when: float | None) -> None:
        self._clock, self._when, self._timeout = clock, when, asyncio.timeout(None)

    def __enter__(self) -> _Alarm:
        _at_once(self._timeout.__aenter__())
        self._clock.watch(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clock.forget(self)
        _at_once(self._timeout.__aexit__(kind, error, trace))

    async def __aenter__(self) -> _Alarm:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def ring_if_due(self, now: float) -> None:
        if self._when is not None and self._when <= now:
            self.ring()

    def ring(self) -> None:
        self._clock.forget(self)
        self._timeout.reschedule(asyncio.get_running_loop().time())


def _at_once(step: Coroutine[object, None, object]) -> None:
    """Run what never waits: asyncio.timeout's begin and end."""
    try:
        step.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


class HastyClock(LoopClock):
    """Does not sleep: what trickles in comes in as many pieces, without the pauses."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(25):
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Framing:
    """What a link needs of its driver."""

    leniencies: frozenset[str] = frozenset()
    frame_text_bytes: int = 0
    ack_colliding_enq: bool = False
    protocol: Protocol = Protocol.LIS2
    blocks: Grammar | None = None


class RecordingIntake:
    """Remembers what it was given; `failures` are raised by the next commits, `gate` holds them back."""

    def __init__(self) -> None:
        self.ready = True
        self.stored = list[ReceivedFrame]()
        self.ends = list[str]()
        self.blocks = list[bytes]()
        self.replies = list[tuple[UUID | None, bool]]()
        self.refused = list[tuple[str, bytes]]()
        self.failures = list[Exception]()
        self.receipts = list[Receipt]()  # for the next blocks
        self.end_receipts = list[Receipt]()  # for the next ends
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.most_waiting = 0
        self.ended = asyncio.Event()
        self.changed = asyncio.Event()

    def frames(self, peer: str) -> RecordingIntake:
        return self

    async def _commit(self) -> None:
        self.waiting += 1
        self.most_waiting = max(self.waiting, self.most_waiting)
        self.changed.set()
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        self.changed.set()
        if self.failures:
            raise self.failures.pop(0)

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        await self._commit()
        self.stored.append(frame)
        self.changed.set()
        return Receipt(message_id=uuid4() if frame.text.startswith(b"L") else None)

    async def end(self, reason: str) -> Receipt:
        self.ends.append(reason)
        self.changed.set()
        self.ended.set()
        return self.end_receipts.pop(0) if self.end_receipts else Receipt()

    async def block(self, block: bytes, peer: str) -> Receipt:
        try:
            await self._commit()
        except StoreError:
            return Receipt(reply=b"AR")
        self.blocks.append(block)
        return self.receipts.pop(0) if self.receipts else Receipt(uuid4(), b"AA " + block)

    def declared(self, peer: str) -> RecordingBlocks:
        return RecordingBlocks(self)

    def outgoing(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        return None

    def replied(self, receipt: Receipt, sent: bool) -> None:
        self.replies.append((receipt.message_id, sent))
        self.changed.set()

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        self.refused.append((reason, data))
        self.changed.set()

    async def until(self, count: int) -> None:
        """Wait until `count` commits are being held back."""
        async with asyncio.timeout(PATIENCE_S):
            while self.waiting < count:
                self.changed.clear()
                await self.changed.wait()


class RecordingBlocks:
    """A connection's way into a `RecordingIntake`, for framings that a driver declares."""

    def __init__(self, intake: RecordingIntake) -> None:
        self._intake = intake

    async def block(self, block: ReceivedBlock) -> Receipt:
        await self._intake._commit()
        self._intake.blocks.append(block.text)
        return Receipt(uuid4())


class Analyzer:
    """The analyzer's end of a line."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._read = b""

    async def send(self, *chunks: bytes) -> None:
        for chunk in chunks:
            await self.stream.write(chunk)
            await asyncio.sleep(0)

    async def expect(self, expected: bytes) -> None:
        """The host's next bytes are these, and nothing else has come with them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self._read) < len(expected):
                chunk = await self.stream.read()
                assert chunk, f"the host hung up after {self._read!r}"
                self._read += chunk
        assert self._read == expected
        self._read = b""

    async def expect_end(self) -> None:
        """The host hangs up without another byte."""
        async with asyncio.timeout(PATIENCE_S):
            assert await self.stream.read() == b""

    async def talk(self, *parts: tuple[bytes, bytes]) -> None:
        """Send and expect in turn."""
        for said, answer in parts:
            await self.send(said)
            if answer:
                await self.expect(answer)


def settings(type: TransportType = TransportType.TCP_LISTEN, **more: object) -> LinkSettings:
    """A link on a free loopback port."""
    values: dict[str, object] = {"id": "link-1", "organization": "main", "driver": "generic_lis2", **more}
    return LinkSettings(transport=Transport(type, Address("127.0.0.1", 0)), **values)  # type: ignore[arg-type]

"""The analyzer's side of a line: LIS01-A2 sender, MLLP client waiting for its ACK, or the blocks of a framing that a
driver declares, with faults."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from interface.errors import LinkError, LinkLost
from interface.link.clock import Clock, LoopClock
from interface.link.serial import open_port
from interface.link.stream import ByteStream
from interface.link.tcp import connect
from interface.settings import Address, SerialPort
from interface.simulator.source import PlayProtocol, Source, count_messages
from interface.wire import declared, hl7_ack, lis01, mllp
from interface.wire.frames import ENQ, NAK, STX

_RECORD_END = re.compile(rb"\r\n?|\n")
_NOISE = b"\x00~\xff~"
_MOST_TRIES = 6  # of a block that the host refuses
_TRICKLES, _TRICKLE_S = 40, 0.1  # a slow frame comes in so many pieces, with a pause before each


Endpoint = Address | SerialPort | ByteStream  # a stream is one connection: it cannot be made anew


class Fault(StrEnum):
    """What goes wrong on the line, once per transmission."""

    NONE = "none"
    CHECKSUM = "checksum"  # the first frame arrives damaged
    CUT = "cut"  # the connection breaks halfway; the transmission is sent again whole on a new one
    REPEAT = "repeat"  # the replies are lost: each frame or message is sent twice
    NOISE = "noise"  # stray bytes before each frame or message
    SLOW = "slow"  # frames and messages trickle in, a few bytes at a time
    CONTENTION = "contention"  # LIS01-A2: when the host asks for the line, the analyzer asks for it at the same moment


@dataclass(frozen=True, slots=True)
class PlayReport:
    """What came of it. `replies`: HL7 acknowledgements, or frame texts that the host sent; `faults`: what failed."""

    protocol: PlayProtocol
    messages: int
    acknowledged: int
    rejections: int  # NAKs, negative HL7 acknowledgements
    seconds: float
    replies: tuple[bytes, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.acknowledged == self.messages


class Cut(Exception):
    """The planned break of the connection."""


@dataclass(slots=True)
class Tally:
    """What has happened so far."""

    messages: int = 0
    acknowledged: int = 0
    rejections: int = 0


class Player:
    """One connection at a time to one host."""

    def __init__(self, endpoint: Endpoint, fault: Fault, options: lis01.LinkOptions, clock: Clock) -> None:
        self._endpoint, self._options, self._clock = endpoint, options, clock
        self.fault = fault
        self._stream: ByteStream | None = None
        self.tally = Tally()
        self.replies: list[bytes] = []

    async def line(self) -> ByteStream:
        """The connection, made anew when there is none. Raises LinkError."""
        if self._stream is None:
            at = self._endpoint
            if isinstance(at, Address):
                self._stream = await connect(at)
            else:
                self._stream = open_port(at) if isinstance(at, SerialPort) else at
        return self._stream

    async def hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def put(self, stream: ByteStream, data: bytes) -> None:
        """Write a frame, a message or a block."""
        if self.fault is not Fault.SLOW:
            await stream.write(data)
            return
        size = max(-(-len(data) // _TRICKLES), 1)
        for at in range(0, len(data), size):
            await self._clock.sleep(_TRICKLE_S)
            await stream.write(data[at : at + size])

    async def transmit(self, parts: tuple[bytes, ...]) -> str:
        """Send one transmission; "" when it was acknowledged, else why not."""
        raise NotImplementedError

    async def listen(self, seconds: float, *, once: bool = False) -> None:
        """Take what the host has to say for so long; with `once` until it has said something whole."""

    async def play(self, parts: tuple[bytes, ...]) -> str:
        """`transmit`, through a planned break; a line that breaks otherwise is a fault."""
        try:
            try:
                return await self.transmit(parts)
            except Cut:
                await self.hang_up()
                return await self.transmit(parts)
        except LinkLost as error:
            await self.hang_up()
            return str(error)


class _AstmPlayer(Player):
    """The instrument's side of LIS01-A2, on the same core as the host's."""

    def __init__(self, endpoint: Endpoint, fault: Fault, options: lis01.LinkOptions, clock: Clock) -> None:
        super().__init__(endpoint, fault, options, clock)
        self._core = lis01.DataLink(lis01.Station.INSTRUMENT, options)
        self._seen = 0  # frames of this transmission that went out, resends left out
        self._last = b""
        self._withheld = False
        self._broken = False  # the planned fault has happened
        self._listening = self._collided = False
        self._parts: tuple[bytes, ...] = ()

    async def hang_up(self) -> None:
        await super().hang_up()
        self._core = lis01.DataLink(lis01.Station.INSTRUMENT, self._options)

    async def transmit(self, parts: tuple[bytes, ...]) -> str:
        ticket = self._core.send_frames(parts)
        self._seen, self._last, self._withheld = 0, b"", False
        self._parts, self._collided = parts, False
        half = (len(parts) + 1) // 2
        async with aclosing(self._events(half)) as events:
            async for event in events:
                if isinstance(event, lis01.Delivered) and event.ticket == ticket:
                    self._broken = False
                    return ""
                if isinstance(event, lis01.SendFailed) and event.ticket == ticket:
                    return f"the host did not take the transmission: {event.reason}"
        raise LinkLost("the host hung up")

    async def listen(self, seconds: float, *, once: bool = False) -> None:
        self._listening, heard = True, len(self.replies)
        try:
            async with self._clock.timeout_at(self._clock.now() + seconds), aclosing(self._events(0)) as events:
                async for event in events:
                    if once and isinstance(event, lis01.SessionEnded) and len(self.replies) > heard:
                        return
        except TimeoutError:
            return
        finally:
            self._listening = False

    async def _events(self, cut_at: int) -> AsyncGenerator[lis01.Event, None]:
        """Run the core until the host hangs up; what an event wants written is written before it is given."""
        deadline, timer = None, None
        stream = await self.line()
        while True:
            while (event := self._core.next_event()) is not None:
                if isinstance(event, lis01.FrameReceived):
                    self.replies.append(event.text)
                    self._core.stored()
                await self._write(stream, self._core.data_to_send(), cut_at)
                yield event
            await self._write(stream, self._core.data_to_send(), cut_at)
            if self._core.timer is not timer:
                timer = self._core.timer
                deadline = self._clock.now() + timer.seconds if timer else None
            try:
                async with self._clock.timeout_at(deadline):
                    data = await stream.read()
            except TimeoutError:
                self._core.timeout()
                continue
            if not data:
                return
            await self._hear(stream, data)

    async def _hear(self, stream: ByteStream, data: bytes) -> None:
        self.tally.rejections += data.count(NAK)
        if self.fault is Fault.CONTENTION and self._listening and ENQ in data and not self._collided:
            # The same transmission once more: as a query it is to be answered anew, as results it is a resend.
            self._collided = True
            self._core.send_frames(self._parts)
        if self.fault is Fault.REPEAT and data == b"\x06" and self._last and not self._withheld:
            self._withheld = True  # as if it had been lost
            await stream.write(self._last)
        else:
            self._core.receive(data)

    async def _write(self, stream: ByteStream, data: bytes, cut_at: int) -> None:
        if not data:
            return
        at = data.find(STX)
        if at < 0:
            self._last = b""
            await stream.write(data)
            return
        frame, again = data[at:], data[at:] == self._last
        self._seen += not again
        self._last, self._withheld = frame, False
        if self.fault is Fault.CUT and not self._broken and self._seen == cut_at:
            self._broken = True
            await stream.write(data[: at + len(frame) // 2])
            raise Cut
        if self.fault is Fault.CHECKSUM and self._seen == 1 and not again:
            frame = frame[:-4] + (b"00" if frame[-4:-2] != b"00" else b"11") + frame[-2:]
        if self.fault is Fault.NOISE:
            frame = _NOISE + frame
        await self.put(stream, data[:at] + frame)


class _MllpPlayer(Player):
    """An HL7 sender that has one message outstanding and knows its acknowledgement by MSA-2."""

    def __init__(self, endpoint: Endpoint, fault: Fault, options: lis01.LinkOptions, clock: Clock) -> None:
        super().__init__(endpoint, fault, options, clock)
        self._decoder = mllp.Decoder()
        self._broken = False

    async def hang_up(self) -> None:
        await super().hang_up()
        self._decoder = mllp.Decoder()

    async def transmit(self, parts: tuple[bytes, ...]) -> str:
        stream, block = await self.line(), parts[0]
        data = (_NOISE if self.fault is Fault.NOISE else b"") + mllp.encode(block)
        if self.fault is Fault.CUT and not self._broken:
            self._broken = True
            await stream.write(data[: len(data) // 2])
            raise Cut
        self._broken = False
        verdict = ""
        for _ in range(2 if self.fault is Fault.REPEAT else 1):
            await self.put(stream, data)
            if hl7_ack.due(block, hl7_ack.Outcome.STORED) != hl7_ack.Due():
                verdict = await self._verdict(stream, _field(block, b"MSH", 10))
        return verdict

    async def listen(self, seconds: float, *, once: bool = False) -> None:
        """Messages of the host's own are accepted, those that are acknowledgements themselves are kept only."""
        stream, heard = await self.line(), len(self.replies)
        try:
            async with self._clock.timeout_at(self._clock.now() + seconds):
                while not once or len(self.replies) == heard:
                    data = await stream.read()
                    if not data:
                        return
                    for event in self._decoder.receive(data):
                        if isinstance(event, mllp.BlockReceived):
                            self.replies.append(event.block)
                            await self._accept(stream, event.block)
        except TimeoutError:
            return

    async def _accept(self, stream: ByteStream, block: bytes) -> None:
        due, control_id = hl7_ack.due(block, hl7_ack.Outcome.STORED), f"A{len(self.replies)}"
        for code in (due.first, due.then):
            if code is not None:
                answer = hl7_ack.acknowledge(block, code, control_id=control_id, now=self._clock.utc())
                await stream.write(mllp.encode(answer))

    async def _verdict(self, stream: ByteStream, control_id: bytes) -> str:
        """ "" when the message was accepted, else why not."""
        deadline = self._clock.now() + self._options.reply_wait_s
        while True:
            try:
                async with self._clock.timeout_at(deadline):
                    data = await stream.read()
            except TimeoutError:
                return f"no acknowledgement within {self._options.reply_wait_s:g} s"
            if not data:
                raise LinkLost("the host hung up")
            replies = [event.block for event in self._decoder.receive(data) if isinstance(event, mllp.BlockReceived)]
            self.replies += replies
            for reply in replies:
                if _field(reply, b"MSA", 2) == control_id:
                    code = _field(reply, b"MSA", 1).decode("ascii", "replace")
                    self.tally.rejections += code not in ("AA", "CA")
                    return "" if code in ("AA", "CA") else f"the host answered {code}"


class _DeclaredPlayer(Player):
    """A device whose framing a driver declares. One that hears nothing sends and goes on."""

    def __init__(
        self, endpoint: Endpoint, fault: Fault, options: lis01.LinkOptions, clock: Clock,
        grammar: declared.Grammar,
    ) -> None:  # fmt: skip
        super().__init__(endpoint, fault, options, clock)
        self._grammar = grammar
        self._heard = b""
        self._broken = False  # the planned fault has happened

    async def hang_up(self) -> None:
        await super().hang_up()
        self._heard = b""

    async def transmit(self, parts: tuple[bytes, ...]) -> str:
        stream, grammar = await self.line(), self._grammar
        if grammar.opens:
            await stream.write(grammar.opens)
            if await self._answer(stream, grammar.ready, grammar.busy) != grammar.ready:
                return "the host does not let the device begin"
        for number, block in enumerate(parts):
            if self.fault is Fault.CUT and not self._broken and number == len(parts) // 2:
                self._broken = True
                await stream.write(block[: len(block) // 2])
                raise Cut
            if problem := await self._send(stream, block, damaged=self.fault is Fault.CHECKSUM and number == 0):
                return problem
        await stream.write(grammar.closes)
        self._broken = False
        return ""

    async def _send(self, stream: ByteStream, block: bytes, *, damaged: bool) -> str:
        """ "" once the block was accepted as often as it is to be sent."""
        grammar, wanted = self._grammar, 2 if self.fault is Fault.REPEAT else 1
        for _ in range(_MOST_TRIES):
            noise = _NOISE if self.fault is Fault.NOISE else b""
            await self.put(stream, noise + (_altered(block, len(grammar.start)) if damaged else block))
            damaged = False
            if grammar.ends_in_silence:
                await self._clock.sleep(grammar.silence_s * 1.5)
            if not grammar.one_way:
                answer = await self._answer(stream, grammar.good, grammar.bad)
                if answer == grammar.bad:
                    self.tally.rejections += 1
                    continue
                if answer != grammar.good:
                    return f"no answer within {self._options.reply_wait_s:g} s"
            wanted -= 1
            if not wanted:
                return ""
        return "the host did not take the block"

    async def _answer(self, stream: ByteStream, *known: bytes) -> bytes:
        """The host's next known answer, b"" when there is none in time; other bytes count for nothing."""
        deadline = self._clock.now() + self._options.reply_wait_s
        while True:
            places = [(at, answer) for answer in known if (at := self._heard.find(answer)) >= 0]
            if places:
                at, answer = min(places)
                self._heard = self._heard[at + len(answer) :]
                return answer
            try:
                async with self._clock.timeout_at(deadline):
                    data = await stream.read()
            except TimeoutError:
                return b""
            if not data:
                raise LinkLost("the host hung up")
            self._heard += data


def _altered(block: bytes, at: int) -> bytes:
    """A block damaged on the line, with another first byte of its text."""
    return block[:at] + bytes([block[at] ^ 0x01]) + block[at + 1 :]


def _field(message: bytes, segment: bytes, number: int) -> bytes:
    """A field as sent; b"" when it is not there. MSH-1 is the separator itself (HL7 v2.5.1 2.14.9.1)."""
    separator = message[3:4]
    for line in _RECORD_END.split(message):
        fields = line.split(separator) if separator else []
        place = number - 1 if segment == b"MSH" else number
        if fields and fields[0] == segment and len(fields) > place:
            return fields[place]
    return b""


def player_for(source: Source, to: Endpoint, fault: Fault, options: lis01.LinkOptions, clock: Clock) -> Player:
    """Who plays what `source` holds. Raises LinkError for a line or a fault that its protocol does not have."""
    if isinstance(to, SerialPort) and source.protocol is PlayProtocol.MLLP:
        raise LinkError("MLLP is for TCP, not for a serial line")
    refuse(source, fault)
    if source.grammar is not None:
        return _DeclaredPlayer(to, fault, options, clock, source.grammar)
    return (_AstmPlayer if source.protocol is PlayProtocol.ASTM else _MllpPlayer)(to, fault, options, clock)


def refuse(source: Source, fault: Fault) -> None:
    """Raises LinkError for a fault that the protocol does not have."""
    if fault is Fault.CHECKSUM and source.protocol is PlayProtocol.MLLP:
        raise LinkError("MLLP has no checksum that could be wrong")
    if fault is Fault.CONTENTION and source.protocol is not PlayProtocol.ASTM:
        raise LinkError("only in LIS01-A2 do both sides ask for the line")
    if source.grammar is not None and fault is Fault.CHECKSUM and (source.grammar.one_way or not source.grammar.check):
        raise LinkError("this device's framing has no checksum that could be refused")
    if source.grammar is not None and fault is Fault.NOISE and not source.grammar.start:
        raise LinkError("this device's framing has no begin that noise could stand before")


async def play(
    source: Source,
    to: Endpoint,
    *,
    rate_per_s: float | None = None,
    fault: Fault = Fault.NONE,
    repeat: int = 1,
    linger_s: float = 0.0,
    options: lis01.LinkOptions | None = None,
    clock: Clock | None = None,
) -> PlayReport:
    """Play every transmission of `source`, `repeat` times over; the same bytes each time, as a resend would be.

    A device that hears nothing cannot say what was taken: of its blocks, those that were sent count.

    `rate_per_s`: transmissions, None as fast as the host takes them. `linger_s`: how long to stay for what the host
    sends by itself. Ends at the first transmission that fails. Raises LinkError when nobody answers at the address or
    the serial port cannot be opened, and for a line or a fault that the protocol does not have.
    """
    clock = clock or LoopClock()
    player = player_for(source, to, fault, options or lis01.LinkOptions(), clock)
    faults: list[str] = []
    begin = clock.now()
    try:
        await player.line()
        for number, parts in enumerate(source.transmissions * repeat):
            if rate_per_s is not None:
                await clock.sleep(max(0.0, begin + number / rate_per_s - clock.now()))
            count = count_messages(source, parts)
            player.tally.messages += count
            if problem := await player.play(parts):
                faults.append(problem)
                break
            player.tally.acknowledged += count
        if linger_s and not faults:
            await player.listen(linger_s)
    finally:
        await player.hang_up()
    tally, seconds = player.tally, clock.now() - begin
    return PlayReport(
        source.protocol, tally.messages, tally.acknowledged, tally.rejections, seconds,
        tuple(player.replies), tuple(faults),
    )  # fmt: skip

"""Plays a capture or a driver's vector as the analyzer would: LIS01-A2 sender, MLLP client waiting for its ACK, or the
blocks of a framing that a driver declares.

Frames are sent with the numbers and cuts of the capture; checksums and line ends are made anew, so that a value may be
altered. What a host refused in a trace is left out: the refusal was the point there, here it would only be noise.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from interface.errors import LaboraError, LinkError, LinkLost
from interface.link.clock import Clock, LoopClock
from interface.link.serial import open_port
from interface.link.stream import ByteStream
from interface.link.tcp import connect
from interface.settings import Address, SerialPort
from interface.wire import declared, lis01, mllp
from interface.wire.frames import MAX_TEXT_BYTES, NAK, STX, build_frame, parse_frame
from interface.wire.trace import Direction, Trace, parse_trace
from interface.wire.transmission import MessageSplitter

_FRAME = re.compile(rb"\x02([0-9])([^\x02\x03\x17]*)([\x03\x17])")
_SESSION_EDGE = re.compile(b"[\x04\x05]")
_HEADER = re.compile(rb"[Hh][^A-Za-z0-9 ]")
_RECORD_END = re.compile(rb"\r\n?|\n")
_BATCH = (b"FHS", b"BHS", b"BTS", b"FTS")  # HL7 v2.5.1 2.10.3: an envelope around messages, not part of any
_BOM = b"\xef\xbb\xbf"
_NOISE = b"\x00~\xff~"
_MOST_TRIES = 6  # of a block that the host refuses
_WHITE = b" \t\r\n"


Endpoint = Address | SerialPort | ByteStream  # a stream is one connection: it cannot be made anew


class PlayProtocol(StrEnum):
    ASTM = "astm"
    MLLP = "mllp"
    DECLARED = "declared"  # as a driver's grammar has it


class Fault(StrEnum):
    """What goes wrong on the line, once per transmission."""

    NONE = "none"
    CHECKSUM = "checksum"  # the first frame arrives damaged
    CUT = "cut"  # the connection breaks halfway; the transmission is sent again whole on a new one
    REPEAT = "repeat"  # the replies are lost: each frame or message is sent twice
    NOISE = "noise"  # stray bytes before each frame or message


@dataclass(frozen=True, slots=True)
class Source:
    """What is played. `transmissions`: LIS01-A2 the frames of each session, HL7 one message each, unframed; of a
    declared framing (`grammar`) the blocks of each session."""

    protocol: PlayProtocol
    transmissions: tuple[tuple[bytes, ...], ...]
    grammar: declared.Grammar | None = None

    def altered(self, old: bytes, new: bytes) -> Source:
        """A copy in which `old` reads `new`, with checksums that fit. Raises LaboraError when `old` is not found.

        In LIS01-A2 `old` must lie within one frame.
        """
        found = False

        def alter(part: bytes) -> bytes:
            nonlocal found
            if self.protocol is PlayProtocol.MLLP:
                found = found or old in part
                return part.replace(old, new)
            if self.grammar is not None:
                found = found or old in part
                block = next(e for e in _decoded(self.grammar, part) if isinstance(e, declared.BlockReceived))
                return declared.encode(self.grammar, block.text.replace(old, new))
            fn, text, last = parse_frame(part)
            found = found or old in text
            return build_frame(fn, text.replace(old, new), last)

        transmissions = tuple(tuple(map(alter, parts)) for parts in self.transmissions)
        if not found:
            raise LaboraError("the source does not contain what is to be altered")
        return replace(self, transmissions=transmissions)


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


# ---- reading a source -----------------------------------------------------------------------------------------------


def load(path: Path, protocol: PlayProtocol | None = None, grammar: declared.Grammar | None = None) -> Source:
    """Read a `*.trace` or a raw capture; the protocol is seen from the bytes unless given. Raises LaboraError.

    `grammar`: the framing is a driver's own.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LaboraError(f"cannot read {path}: {(error.strerror or 'unknown').lower()}") from error
    if path.suffix != ".trace":
        return parse_source(data, protocol, grammar)
    try:
        trace = parse_trace(data.decode())
    except UnicodeDecodeError as error:
        raise LaboraError(f"{path.name} is not UTF-8 text, which a trace must be") from error
    return parse_source(_taken(trace) if grammar is None else trace.bytes_of(Direction.ANALYZER), protocol, grammar)


def parse_source(data: bytes, protocol: PlayProtocol | None = None, grammar: declared.Grammar | None = None) -> Source:
    """A capture's bytes, framed or bare. Raises LaboraError when there is nothing to play in them."""
    data = data.removeprefix(_BOM)
    if grammar is not None:
        return Source(PlayProtocol.DECLARED, _declared_sessions(grammar, data), grammar)
    if protocol is None:
        begin = data.lstrip(_WHITE + b"\x0b")[:3]
        protocol = PlayProtocol.MLLP if begin in (b"MSH", *_BATCH) else PlayProtocol.ASTM
    transmissions = _hl7_messages(data) if protocol is PlayProtocol.MLLP else _astm_sessions(data)
    if not transmissions:
        raise LaboraError("there is no message to play in this source")
    return Source(protocol, transmissions)


def _taken(trace: Trace) -> bytes:
    """What the analyzer said, without the frames that the host refused."""
    said: list[bytes] = []
    for step in trace.steps:
        if step.direction is Direction.ANALYZER:
            said.append(step.data)
        elif step.data[:1] == bytes([NAK]) and said and said[-1][:1] == bytes([STX]):
            said.pop()
    return b"".join(said)


def _astm_sessions(data: bytes) -> tuple[tuple[bytes, ...], ...]:
    if STX not in data:
        return _bare_sessions(data)
    sessions = (
        tuple(build_frame(int(fn), text, end == b"\x03") for fn, text, end in _FRAME.findall(part))
        for part in _SESSION_EDGE.split(data)
    )
    return tuple(frames for frames in sessions if frames)


def _bare_sessions(data: bytes) -> tuple[tuple[bytes, ...], ...]:
    """Records without frames: a session for each H, a frame for each record, more where it is too long for one."""
    sessions: list[list[bytes]] = []
    for record in _RECORD_END.split(_SESSION_EDGE.sub(b"", data)):
        if not record.strip():
            continue
        if not sessions or _HEADER.match(record):
            sessions.append([])
        text = record + b"\r"
        parts = [text[at : at + MAX_TEXT_BYTES] for at in range(0, len(text), MAX_TEXT_BYTES)]
        for place, part in enumerate(parts, start=1):
            sessions[-1].append(build_frame(len(sessions[-1]) + 1, part, place == len(parts)))
    return tuple(map(tuple, sessions))


def _hl7_messages(data: bytes) -> tuple[tuple[bytes, ...], ...]:
    if mllp.VT in data:
        decoder = mllp.Decoder()
        events = decoder.receive(data) + decoder.eof()
        return tuple((event.block,) for event in events if isinstance(event, mllp.BlockReceived))
    messages: list[bytearray] = []
    for segment in _RECORD_END.split(data):
        if not segment.strip() or segment[:3] in _BATCH:
            continue
        if not messages or segment[:3] == b"MSH":
            messages.append(bytearray())
        messages[-1] += segment + b"\r"
    return tuple((bytes(message),) for message in messages)


def _decoded(grammar: declared.Grammar, data: bytes) -> list[declared.Event]:
    decoder = declared.Decoder(grammar, max(len(data), 1))
    return decoder.receive(data) + decoder.eof()


def _declared_sessions(grammar: declared.Grammar, data: bytes) -> tuple[tuple[bytes, ...], ...]:
    """The good blocks, by the characters that open and close sessions."""
    sessions: list[list[bytes]] = [[]]
    for event in _decoded(grammar, data):
        if isinstance(event, declared.BlockReceived):
            sessions[-1].append(event.raw)
        elif isinstance(event, declared.Opened | declared.Closed):
            sessions.append([])
    if not any(sessions):
        raise LaboraError("there is no block of this driver's framing in this source")
    return tuple(tuple(session) for session in sessions if session)


def _count(source: Source, parts: tuple[bytes, ...]) -> int:
    """Messages in one transmission."""
    if source.protocol is PlayProtocol.MLLP:
        return 1
    if source.protocol is PlayProtocol.DECLARED:
        return len(parts)
    splitter = MessageSplitter()
    frames = (parse_frame(part) for part in parts)
    return sum(piece.opens for _, text, last in frames for piece in splitter.feed(text, last))


# ---- playing --------------------------------------------------------------------------------------------------------


class _Cut(Exception):
    """The planned break of the connection."""


@dataclass(slots=True)
class _Tally:
    """What has happened so far."""

    messages: int = 0
    acknowledged: int = 0
    rejections: int = 0


class _Player:
    """One connection at a time to one host."""

    def __init__(self, endpoint: Endpoint, fault: Fault, options: lis01.LinkOptions, clock: Clock) -> None:
        self._endpoint, self._fault, self._options, self._clock = endpoint, fault, options, clock
        self._stream: ByteStream | None = None
        self.tally = _Tally()
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

    async def transmit(self, parts: tuple[bytes, ...]) -> str:
        """Send one transmission; "" when it was acknowledged, else why not."""
        raise NotImplementedError

    async def listen(self, seconds: float) -> None:
        """Take what the host has to say for so long."""

    async def play(self, parts: tuple[bytes, ...]) -> str:
        """`transmit`, through a planned break; a line that breaks otherwise is a fault."""
        try:
            try:
                return await self.transmit(parts)
            except _Cut:
                await self.hang_up()
                return await self.transmit(parts)
        except LinkLost as error:
            await self.hang_up()
            return str(error)


class _AstmPlayer(_Player):
    """The instrument's side of LIS01-A2, on the same core as the host's."""

    def __init__(self, endpoint: Endpoint, fault: Fault, options: lis01.LinkOptions, clock: Clock) -> None:
        super().__init__(endpoint, fault, options, clock)
        self._core = lis01.DataLink(lis01.Station.INSTRUMENT, options)
        self._seen = 0  # frames of this transmission that went out, resends left out
        self._last = b""
        self._withheld = False
        self._broken = False  # the planned fault has happened

    async def hang_up(self) -> None:
        await super().hang_up()
        self._core = lis01.DataLink(lis01.Station.INSTRUMENT, self._options)

    async def transmit(self, parts: tuple[bytes, ...]) -> str:
        ticket = self._core.send_frames(parts)
        self._seen, self._last, self._withheld = 0, b"", False
        half = (len(parts) + 1) // 2
        async with aclosing(self._events(half)) as events:
            async for event in events:
                if isinstance(event, lis01.Delivered) and event.ticket == ticket:
                    self._broken = False
                    return ""
                if isinstance(event, lis01.SendFailed) and event.ticket == ticket:
                    return f"the host did not take the transmission: {event.reason}"
        raise LinkLost("the host hung up")

    async def listen(self, seconds: float) -> None:
        try:
            async with self._clock.timeout_at(self._clock.now() + seconds), aclosing(self._events(0)) as events:
                async for _ in events:
                    continue
        except TimeoutError:
            return

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
        if self._fault is Fault.REPEAT and data == b"\x06" and self._last and not self._withheld:
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
        if self._fault is Fault.CUT and not self._broken and self._seen == cut_at:
            self._broken = True
            await stream.write(data[: at + len(frame) // 2])
            raise _Cut
        if self._fault is Fault.CHECKSUM and self._seen == 1 and not again:
            frame = frame[:-4] + (b"00" if frame[-4:-2] != b"00" else b"11") + frame[-2:]
        if self._fault is Fault.NOISE:
            frame = _NOISE + frame
        await stream.write(data[:at] + frame)


class _MllpPlayer(_Player):
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
        data = (_NOISE if self._fault is Fault.NOISE else b"") + mllp.encode(block)
        if self._fault is Fault.CUT and not self._broken:
            self._broken = True
            await stream.write(data[: len(data) // 2])
            raise _Cut
        self._broken = False
        verdict = ""
        for _ in range(2 if self._fault is Fault.REPEAT else 1):
            await stream.write(data)
            if _wants_reply(block):
                verdict = await self._verdict(stream, _field(block, b"MSH", 10))
        return verdict

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


class _DeclaredPlayer(_Player):
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
            if self._fault is Fault.CUT and not self._broken and number == len(parts) // 2:
                self._broken = True
                await stream.write(block[: len(block) // 2])
                raise _Cut
            if problem := await self._send(stream, block, damaged=self._fault is Fault.CHECKSUM and number == 0):
                return problem
        await stream.write(grammar.closes)
        self._broken = False
        return ""

    async def _send(self, stream: ByteStream, block: bytes, *, damaged: bool) -> str:
        """ "" once the block was accepted as often as it is to be sent."""
        grammar, wanted = self._grammar, 2 if self._fault is Fault.REPEAT else 1
        for _ in range(_MOST_TRIES):
            noise = _NOISE if self._fault is Fault.NOISE else b""
            await stream.write(noise + (_altered(block, len(grammar.start)) if damaged else block))
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


def _wants_reply(message: bytes) -> bool:
    """HL7 v2.5.1 2.9.2: in enhanced mode (MSH-15 or MSH-16 valued) a sender may want none."""
    modes = {_field(message, b"MSH", 15), _field(message, b"MSH", 16)}
    return b"NE" not in modes or not modes <= {b"", b"NE"}


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
    if isinstance(to, SerialPort) and source.protocol is PlayProtocol.MLLP:
        raise LinkError("MLLP is for TCP, not for a serial line")
    if fault is Fault.CHECKSUM and source.protocol is PlayProtocol.MLLP:
        raise LinkError("MLLP has no checksum that could be wrong")
    if source.grammar is not None and fault is Fault.CHECKSUM and (source.grammar.one_way or not source.grammar.check):
        raise LinkError("this device's framing has no checksum that could be refused")
    if source.grammar is not None and fault is Fault.NOISE and not source.grammar.start:
        raise LinkError("this device's framing has no begin that noise could stand before")
    clock, options = clock or LoopClock(), options or lis01.LinkOptions()
    player: _Player
    if source.grammar is not None:
        player = _DeclaredPlayer(to, fault, options, clock, source.grammar)
    else:
        player = (_AstmPlayer if source.protocol is PlayProtocol.ASTM else _MllpPlayer)(to, fault, options, clock)
    faults: list[str] = []
    begin = clock.now()
    try:
        await player.line()
        for number, parts in enumerate(source.transmissions * repeat):
            if rate_per_s is not None:
                await clock.sleep(max(0.0, begin + number / rate_per_s - clock.now()))
            count = _count(source, parts)
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

"""What the simulator plays: a capture's or a trace's transmissions as frames, messages or blocks, ready to be sent.

Frames keep the numbers and cuts of the capture; checksums and line ends are made anew, so that a value may be altered.
What a host refused in a trace is left out: the refusal was the point there, here it would only be noise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from interface.errors import LaboraError
from interface.wire import declared, mllp
from interface.wire.frames import MAX_TEXT_BYTES, NAK, STX, build_frame, parse_frame
from interface.wire.trace import Direction, Trace, parse_trace
from interface.wire.transmission import MessageSplitter

_FRAME = re.compile(rb"\x02([0-9])([^\x02\x03\x17]*)([\x03\x17])")
_SESSION_EDGE = re.compile(b"[\x04\x05]")
_HEADER = re.compile(rb"[Hh][^A-Za-z0-9 ]")
_RECORD_END = re.compile(rb"\r\n?|\n")
_BATCH = (b"FHS", b"BHS", b"BTS", b"FTS")  # HL7 v2.5.1 2.10.3: an envelope around messages, not part of any
_BOM = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"


class PlayProtocol(StrEnum):
    ASTM = "astm"
    MLLP = "mllp"
    DECLARED = "declared"  # as a driver's grammar has it


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


def count_messages(source: Source, parts: tuple[bytes, ...]) -> int:
    """Messages in one transmission."""
    if source.protocol is PlayProtocol.MLLP:
        return 1
    if source.protocol is PlayProtocol.DECLARED:
        return len(parts)
    splitter = MessageSplitter()
    frames = (parse_frame(part) for part in parts)
    return sum(piece.opens for _, text, last in frames for piece in splitter.feed(text, last))

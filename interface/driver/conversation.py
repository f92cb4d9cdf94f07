"""A capture as the conversation it was: a trace as it is, raw bytes cut into what was written at once, with the answers
that LIS01-A2 or the driver's framing has. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interface.domain.model import Protocol
from interface.driver.capture import read_capture
from interface.driver.manifest import Driver
from interface.wire import declared, mllp
from interface.wire.datalink_events import Leniency
from interface.wire.frames import ACK, ENQ, EOT, NAK, build_frame, checksum
from interface.wire.trace import Direction, TraceStep, parse_trace

_WRITTEN = re.compile(
    rb"[\x04\x05\x06\x15]|\x02[0-7][^\x02\x03\x17]*[\x03\x17][0-9A-Fa-f]{0,2}[\r\n]*|[^\x02\x04\x05\x06\x15]+|\x02"
)
_FRAME = re.compile(rb"\x02([0-7][^\x02\x03\x17]*[\x03\x17])([0-9A-Fa-f]{0,2})")
_BLOCK = re.compile(rb"\x0b[^\x0b]*")
_RECORD = re.compile(rb"[^\r\n]+[\r\n]*")
_LONGEST_FRAME_BYTES = 240


def steps_of(data: bytes, driver: Driver) -> tuple[TraceStep, ...]:
    """What both sides wrote. Raises CaptureError or LinkFrameError for a file that holds no message."""
    if data.startswith(b"#"):
        return parse_trace(data.decode("utf-8", "replace")).steps
    if driver.blocks is not None:
        return tuple(_blocks(data, driver.blocks))
    if b"\x0b" in data:
        return tuple(_said(match[0]) for match in _BLOCK.finditer(data))
    if _FRAME.search(data):
        return tuple(_frames(data, driver))
    messages = [message.text for message in read_capture(data)]
    if driver.protocol is Protocol.HL7:
        return tuple(_said(mllp.encode(text)) for text in messages)
    if Leniency.BARE_RECORDS in driver.leniencies:
        return (_said(data),)
    return tuple(step for text in messages for step in _session(text))


def _said(data: bytes) -> TraceStep:
    return TraceStep(Direction.ANALYZER, data)


def _answered(*codes: int) -> TraceStep:
    return TraceStep(Direction.HOST, bytes(codes))


def _frames(data: bytes, driver: Driver) -> Iterator[TraceStep]:
    """LIS01-A2 as it was; where the capture has one side only, a host that takes what is right is put beside it."""
    both = bytes([ACK]) in data
    lenient = bool({Leniency.NO_CHECKSUM, Leniency.ZERO_CHECKSUM} & driver.leniencies)
    for match in _WRITTEN.finditer(data):
        part = match[0]
        if part[0] in (ACK, NAK):
            yield _answered(part[0])
            continue
        yield _said(part)
        frame = _FRAME.match(part)
        if not both and part[0] == ENQ:
            yield _answered(ACK)
        elif not both and frame is not None:
            yield _answered(ACK if lenient or checksum(frame[1]) == frame[2].upper() else NAK)


def _session(text: bytes) -> Iterator[TraceStep]:
    """Records without frames, in a session with one in each."""
    yield _said(bytes([ENQ]))
    yield _answered(ACK)
    number = 0
    for record in _RECORD.findall(text):
        parts = [record[at : at + _LONGEST_FRAME_BYTES] for at in range(0, len(record), _LONGEST_FRAME_BYTES)]
        for place, part in enumerate(parts, start=1):
            number += 1
            yield _said(build_frame(number, part, place == len(parts)))
            yield _answered(ACK)
    yield _said(bytes([EOT]))


def _blocks(data: bytes, grammar: declared.Grammar) -> Iterator[TraceStep]:
    decoder = declared.Decoder(grammar, max(len(data), 1))
    for event in (*decoder.receive(data), *decoder.eof()):
        if isinstance(event, declared.BlockReceived):
            yield _said(event.raw)
            answer = grammar.good
        elif isinstance(event, declared.BlockRejected):
            yield _said(event.data)
            answer = grammar.bad if event.answer else b""
        elif isinstance(event, declared.Opened | declared.Closed):
            yield _said(grammar.opens if isinstance(event, declared.Opened) else grammar.closes)
            answer = grammar.ready if isinstance(event, declared.Opened) else b""
        else:
            continue
        if answer:
            yield TraceStep(Direction.HOST, answer)

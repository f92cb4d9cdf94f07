"""Captures, as files hold them, into messages: traces, LIS01-A2 frames (of LIS2 or HL7) or bare records, MLLP blocks or
bare HL7, blocks of a declared framing. Pure.

For reading by people and tests. A link never comes this way: it has the data link's rules, a capture only tolerance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from interface.domain.model import Problem, Protocol
from interface.errors import LaboraError
from interface.wire import declared, hl7_batch, mllp
from interface.wire.frames import checksum
from interface.wire.hl7_frames import Hl7Splitter
from interface.wire.trace import Direction, escape, parse_trace
from interface.wire.transmission import MessageSplitter

_FRAME = re.compile(rb"\x02([0-7][^\x02\x03\x17]*[\x03\x17])([0-9A-Fa-f]{0,2})")
_SESSION_MARK = re.compile(rb"[\x04\x05]")
_HL7_START = re.compile(rb"(?:MSH|FHS|BHS)[^A-Za-z0-9\s]", re.IGNORECASE)
_LIS2_START = re.compile(rb"[Hh][^A-Za-z0-9\s]")
_BOM = b"\xef\xbb\xbf"


class CaptureError(LaboraError):
    """A file that holds no message of a known protocol."""

    slug = "capture"


@dataclass(frozen=True, slots=True)
class CapturedMessage:
    """The assembled bytes of one message, and what was wrong with their envelope."""

    protocol: Protocol
    text: bytes
    problems: tuple[Problem, ...] = ()
    whole: bool = True  # nothing was amiss but, at most, the end of the last block of the file


def read_capture(data: bytes) -> tuple[CapturedMessage, ...]:
    """Every message of a capture, in order. Raises CaptureError when there is none."""
    body = _analyzer_bytes(data).removeprefix(_BOM).lstrip(b"\r\n\t \x00")
    if b"\x0b" in body[:1] or _HL7_START.match(body):
        return _read_hl7(body)
    if _FRAME.search(body):
        return _read_frames(body)
    if _LIS2_START.match(body.lstrip(b"\x05\x02")):
        return tuple(_split([(body, True)], []))
    raise CaptureError("neither LIS2-A2 records nor HL7 segments were found")


def read_declared(data: bytes, grammar: declared.Grammar, protocol: Protocol) -> tuple[CapturedMessage, ...]:
    """Every block of a capture whose framing a driver declares. Raises CaptureError when there is none.

    A capture may lack the last block's end: the block counts where it is good with it.
    """
    body = _analyzer_bytes(data).removeprefix(_BOM)
    messages: list[CapturedMessage] = []
    problems: list[Problem] = []
    decoder = declared.Decoder(grammar, max(len(body), 1))
    answers = grammar.good + grammar.bad + grammar.ready + grammar.busy  # to blocks of the host
    for number, event in enumerate((*decoder.receive(body), *decoder.eof()), start=1):
        if isinstance(event, declared.BlockReceived):
            messages.append(CapturedMessage(protocol, event.text))
        elif isinstance(event, declared.BlockRejected):
            late = declared.Decoder(grammar).receive(event.data.rstrip(b"\r\n") + grammar.end)
            if event.reason == "cut" and grammar.end and late and isinstance(late[0], declared.BlockReceived):
                end = (Problem("block", f"the block is not ended by {escape(grammar.end)}"),)
                messages.append(CapturedMessage(protocol, late[0].text, end))
            else:
                problems.append(Problem(f"block {number}", f"left out: {event.reason}"))
        elif isinstance(event, declared.Skipped) and event.data.strip(answers):
            problems.append(Problem(f"block {number}", "bytes outside any block are left out"))
    if not messages:
        raise CaptureError("; ".join(f"{p.location}: {p.text}" for p in problems) or "no block was found")
    first = messages[0]
    messages[0] = CapturedMessage(first.protocol, first.text, (*problems, *first.problems), not problems)
    return tuple(messages)


def _analyzer_bytes(data: bytes) -> bytes:
    """A trace's, or the capture itself."""
    if data.startswith(b"#"):
        return parse_trace(data.decode("utf-8", "replace")).bytes_of(Direction.ANALYZER)
    return data


def _read_hl7(body: bytes) -> tuple[CapturedMessage, ...]:
    if not body.startswith(b"\x0b"):
        messages = [CapturedMessage(Protocol.HL7, text) for text in hl7_batch.messages(body)]
    else:
        decoder = mllp.Decoder(max(len(body), 1))
        messages = []
        for event in (*decoder.receive(body), *decoder.eof()):
            if isinstance(event, mllp.BlockReceived):
                cut = mllp.Tolerated.MISSING_CR in event.tolerated
                fault = (Problem("MLLP", "the block is ended by 1C alone"),) if cut else ()
                parts = hl7_batch.messages(event.block) if hl7_batch.is_batch(event.block) else (event.block,)
                messages += [CapturedMessage(Protocol.HL7, part, fault) for part in parts]
            elif isinstance(event, mllp.BlockRejected) and event.reason == "cut":
                problem = Problem("MLLP", "the block is not ended by 1C 0D")
                messages.append(CapturedMessage(Protocol.HL7, event.data, (problem,)))
    if not messages:
        raise CaptureError("no HL7 message was found")
    return tuple(messages)


def _read_frames(body: bytes) -> tuple[CapturedMessage, ...]:
    """Good frames in order. A frame identical to the one before it is a repeat (its ACK was lost) and counts once."""
    problems: list[Problem] = []
    messages: list[CapturedMessage] = []
    texts: list[tuple[bytes, bool]] = []
    before, end, number = b"", 0, 0
    for match in _FRAME.finditer(body):
        number += 1
        if _SESSION_MARK.search(body, end, match.start()):
            messages += _split(texts, problems)
            texts, before, problems = [], b"", []
        end = match.end()
        content = match[1]
        if checksum(content) != match[2].upper():
            problems.append(Problem(f"frame {number}", "the checksum is wrong; the frame is left out"))
            continue
        if content != before:
            texts.append((content[1:-1], content[-1:] == b"\x03"))
        before = content
    messages += _split(texts, problems)
    if not messages:
        raise CaptureError("; ".join(f"{p.location}: {p.text}" for p in problems) or "the frames hold no message")
    return tuple(messages)


def _split(texts: list[tuple[bytes, bool]], problems: list[Problem]) -> list[CapturedMessage]:
    """One session's texts into messages; envelope problems go to the first."""
    protocol = Protocol.HL7 if texts and _HL7_START.match(texts[0][0].lstrip(b"\r\n")) else Protocol.LIS2
    splitter = Hl7Splitter() if protocol is Protocol.HL7 else MessageSplitter()
    made: list[bytearray] = []
    for text, last in texts:
        for piece in splitter.feed(text, last):
            if piece.opens or not made:
                made.append(bytearray())
            made[-1] += text[piece.start : piece.stop]
            if last and piece.stop == len(text) and not made[-1].endswith((b"\r", b"\n")):
                made[-1] += b"\r"
    return [
        CapturedMessage(protocol, bytes(text), tuple(problems) if index == 0 else ()) for index, text in enumerate(made)
    ]

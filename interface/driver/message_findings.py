"""What LIS02-A2 and HL7 messages have in common, in words and counts and without their data. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from interface.driver.diagnosis import CharsetFindings, Hl7Findings, RecordFindings, counted
from interface.driver.frame_findings import END_NAMES
from interface.driver.text_findings import charset_findings
from interface.errors import LocatedError, RecordError, SegmentError
from interface.wire import charsets, hl7, hl7_ack, lis02
from interface.wire.transmission import MessageSplitter, part_text

_END = re.compile(rb"\r\n|\r|\n")
_FILE_EDGE = re.compile(rb"(?:^|[\r\n\x0b])(?:FHS|BHS)[^A-Za-z0-9]")
_NO_KIND = "?"  # a line that is no record or segment: what it begins with may be a patient's name


def split_records(texts: Sequence[bytes]) -> list[bytes]:
    """Messages from the texts of sessions; a session ends a message."""
    made: list[bytearray] = []
    for text in texts:
        splitter = MessageSplitter()
        for piece in splitter.feed(text, True):
            if piece.opens or not made:
                made.append(bytearray())
            made[-1] += part_text(text, True, piece.start, piece.stop)
    return [bytes(message) for message in made]


def split_hl7(text: bytes) -> list[bytes]:
    """Messages of one text, with the segment ends that were sent."""
    starts = [match.end() - 4 for match in re.finditer(rb"(?:^|[\r\n\x0b\x00 ]|\xef\xbb\xbf)MSH[^A-Za-z0-9\s]", text)]
    edges = [*starts, len(text)]
    return [text[start:stop].strip(b"\x0b\x1c\x00") for start, stop in itertools.pairwise(edges)]


def bare_ends(texts: Sequence[bytes]) -> tuple[tuple[str, int], ...]:
    """What ends the records of texts without frames."""
    names: list[str] = []
    for text in texts:
        names += [END_NAMES[end] for end in _END.findall(text)]
        if not text.endswith((b"\r", b"\n")):
            names.append("none")
    return counted(names)


def record_findings(messages: Sequence[bytes], ends: tuple[tuple[str, int], ...]) -> RecordFindings:
    """What LIS02-A2 messages have in common."""
    parsed: list[lis02.Message] = []
    faults: list[str] = []
    for message in messages:
        try:
            parsed.append(lis02.parse(message))
        except RecordError as error:
            faults.append(f"{error.location}: {error.text}")
    faults += [f"{fault.location}: {fault.text}" for one in parsed for fault in one.faults]
    escapes = [kind for one in parsed for kind in _escapes(one)]
    headers = [one.header for one in parsed]
    return RecordFindings(
        messages=len(messages),
        terminated=sum(one.complete for one in parsed),
        types=counted(_kind(record) for one in parsed for record in one.records),
        delimiters=_each(one.delimiters.field + one.delimiters.definition for one in parsed),
        record_ends=ends,
        escapes=_each(escapes),
        senders=_each(header.field(5) for header in headers),
        versions=_each(header.field(13) for header in headers),
        faults=tuple(dict.fromkeys(faults)),
    )


def _kind(record: lis02.Record) -> str:
    return record.type if record.type in lis02.LEVELS or record.type in lis02.ATTACHED else _NO_KIND


def _escapes(message: lis02.Message) -> list[str]:
    mark = re.escape(message.delimiters.escape)
    found = [
        re.findall(f"{mark}([FRSEHN]|X[0-9A-Fa-f]+){mark}", record.text)
        for record in message.records
        if record.type != "H"
    ]
    return [body[:1] for bodies in found for body in bodies]


def hl7_findings(
    messages: Sequence[bytes], text: bytes, tolerated: Sequence[str] = (), rejected: Sequence[str] = ()
) -> Hl7Findings:
    """What HL7 messages have in common; `text`: all of it, with the batch's envelope."""
    parsed: list[hl7.Message] = []
    refusals: list[str] = []
    for message in messages:
        try:
            parsed.append(hl7.parse(message))
            hl7.check_syntax(message)
        except LocatedError as error:
            code = "AE" if isinstance(error, SegmentError) else "AR"
            refusals.append(f"{code}: {error.text} ({error.location})")
    headers = [one.header for one in parsed]
    modes = {"enhanced" if _enhanced(header) else "original" for header in headers}
    due = [hl7_ack.due(message, hl7_ack.Outcome.STORED) for message in messages]
    wants = [" and ".join(str(code) for code in (one.first, one.then) if code) or "none" for one in due]
    return Hl7Findings(
        messages=len(messages),
        types=counted(header.field(9) or "(none)" for header in headers),
        versions=_each(header.value(12) for header in headers),
        senders=_each(" ".join(filter(None, (header.field(3), header.field(4)))) for header in headers),
        charsets=_each(charsets.named_charset(message) for message in messages),
        delimiters=_each(one.delimiters.field + one.delimiters.definition for one in parsed),
        acknowledgement=modes.pop() if len(modes) == 1 else "mixed" if modes else "",
        wants=_each(wants),
        segment_ends=counted(END_NAMES[end] for end in _END.findall(b"".join(messages))),
        segments=counted(
            segment.id if not hl7.segment_fault(segment) else _NO_KIND for one in parsed for segment in one.segments
        ),
        batches=len(_FILE_EDGE.findall(text)),
        refusals=tuple(dict.fromkeys(refusals)),
        tolerated=counted(tolerated),
        rejected=counted(rejected),
    )


def _enhanced(header: hl7.Segment) -> bool:
    return any(header.value(number).strip().upper() in ("AL", "NE", "ER", "SU") for number in (15, 16))


def hl7_charset(messages: Sequence[bytes]) -> CharsetFindings:
    """MSH-18 held against the bytes."""
    names = _each(charsets.named_charset(message) for message in messages)
    faults = _each(charsets.decode(message).fault for message in messages)
    declared = (charsets.codec(names[0]) or "") if len(names) == 1 else ""
    contradiction = f"MSH-18 says {', '.join(names)}; {'; '.join(faults)}" if faults else ""
    return charset_findings(b"".join(messages), declared, contradiction)


def _each(things: Iterable[str]) -> tuple[str, ...]:
    """Every thing once, in order, empty ones left out."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, things))))

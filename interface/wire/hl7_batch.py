"""HL7 batches: several messages between FHS, BHS and BTS, FTS (HL7 v2.5.1 2.10.3). Pure; nothing raises.

A batch is taken apart and each of its messages goes its own way, as if it had come by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

EVIDENCE_BYTES = 4096  # of an envelope
MOST_LINES = 20_000  # headers and trailers of one block; with more it is taken for one message, and refused as that
_BOM = b"\xef\xbb\xbf"
_BEFORE = b"\r\n\x00 \x0b"
_LINE = re.compile(rb"[\r\n\x0b](?=[MFB])(MSH|FHS|BHS|BTS|FTS)(?=[^A-Za-z0-9]|\Z)", re.IGNORECASE)
_MORE = re.compile(rb"[\r\n][^\r\n\x0b\x1c]")
_MLLP_END = re.compile(rb"[\x0b\x1c][\x0b\x1c\r\n]*\Z")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a batch has beside its messages: the bytes, at most EVIDENCE_BYTES, and what its counts contradict.

    `strays`: there is more in it than headers and trailers.
    """

    data: bytes
    fault: str
    strays: bool


def is_batch(block: bytes) -> bool:
    """Whether a block begins with the header of a file or of a batch, and has messages that can be taken apart."""
    if block[:4] == b"MSH|":  # as nearly always
        return False
    line = _LINE.match(_body(block[:64]))
    if line is None or line[1].upper() not in (b"FHS", b"BHS"):
        return False
    kinds = [line[1].upper() for line in islice(_LINE.finditer(_body(block)), MOST_LINES + 1)]
    return b"MSH" in kinds and len(kinds) <= MOST_LINES


def messages(block: bytes) -> Iterator[bytes]:
    """The messages of a batch, or of a file without any, as sent: each from its MSH to the next header or trailer."""
    return (_MLLP_END.sub(b"", part) for kind, part in _parts(_body(block)) if kind == b"MSH")


def envelope(block: bytes) -> Envelope:
    """The batch's own segments and whatever stands outside its messages; BTS-1 and FTS-1 are counted after."""
    rest, strays = bytearray(), False
    faults: list[str] = []
    counts = {b"BTS": 0, b"FTS": 0}  # messages of the batch, batches of the file
    for kind, part in _parts(_body(block)):
        if kind == b"MSH":
            counts[b"BTS"] += 1
            continue
        strays = strays or not kind or _MORE.search(part) is not None
        if kind == b"BHS":
            counts = {b"BTS": 0, b"FTS": counts[b"FTS"] + 1}
        elif kind in counts:
            said = _first_field(part)
            if said is not None and said != counts[kind]:
                faults.append(f"{kind.decode()}-1 says {said}, there are {counts[kind]}")
        if len(rest) < EVIDENCE_BYTES:
            rest += part[:EVIDENCE_BYTES]
    return Envelope(bytes(rest[:EVIDENCE_BYTES]), "; ".join(faults[:3]), strays)


def _parts(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The block from one header or trailer to the next, with its segment id; b"" for what stands before the first."""
    kind, start = b"", 1
    for line in _LINE.finditer(body):
        if line.start(1) > start or kind:
            yield kind, body[start : line.start(1)]
        kind, start = line[1].upper(), line.start(1)
    if start < len(body):
        yield kind, body[start:]


def _body(block: bytes) -> bytes:
    """With a line end before the first line as before any other."""
    return b"\r" + block.removeprefix(_BOM).lstrip(_BEFORE)


def _first_field(line: bytes) -> int | None:
    """BTS-1 or FTS-1; None when it is not said. A batch without counts is legal."""
    mark = line[3:4]
    fields = line[:64].split(mark) if mark and not mark.isspace() else []
    said = fields[1].strip() if len(fields) > 1 else b""
    return int(said) if said.isdigit() and len(said) < 10 else None

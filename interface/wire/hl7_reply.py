"""The replies to messages of our own: whose reply a block is, and whether another one follows it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from interface.errors import SegmentError
from interface.wire.charsets import raw_header
from interface.wire.hl7 import read_header

_MSA = re.compile(rb"[\r\n]MSA([^\r\n]*)")
_MSA_WINDOW_BYTES = 65_536  # MSA stands behind MSH and SFT
# Of a reply that is read beyond its MSA: it speaks of one message of ours. One of 10 MB took half a minute to be read.
MOST_BYTES, MOST_LINES = 262_144, 5_000


class Verdict(NamedTuple):
    """MSA-1 (HL7 table 0008) and MSA-2, as they were sent."""

    code: str
    control_id: str


def verdict(block: bytes) -> Verdict | None:
    """What a block acknowledges; None when it acknowledges nothing. Never raises."""
    found, mark = _MSA.search(block[:_MSA_WINDOW_BYTES]), raw_header(block)[3:4]
    if found is None or not mark:
        return None
    fields = found[1].split(mark)
    if len(fields) < 3:
        return None
    return Verdict(fields[1].strip().decode("ascii", "replace").upper(), fields[2].strip().decode("utf-8", "replace"))


def readable(block: bytes) -> bool:
    """Whether a reply is short enough to be read to its end while others wait."""
    return len(block) <= MOST_BYTES and block.count(b"\r") + block.count(b"\n") <= MOST_LINES


def is_last(message: bytes, code: str) -> bool:
    """Whether nothing more is to be waited for, once `code` has answered our `message`.

    HL7 v2.5.1 2.9.3: an accept acknowledgement is followed by the application's where MSH-16 asks for one, and by
    none where it is negative.
    """
    if code != "CA":
        return True
    try:
        return read_header(message).header.value(16).strip().upper() != "AL"
    except SegmentError:
        return True

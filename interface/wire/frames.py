"""LIS01-A2 frames: envelope and checksum. Pure functions, shared by the data link and readers of the journal."""

from __future__ import annotations

import re

from interface.errors import LinkFrameError

STX, ETX, EOT, ENQ, ACK, NAK, ETB = 0x02, 0x03, 0x04, 0x05, 0x06, 0x15, 0x17
CR, LF = 0x0D, 0x0A
FRAME_OVERHEAD_BYTES = 7  # STX FN ETB/ETX C1 C2 CR LF
LEGACY_TEXT_BYTES = 240  # E1381-91 and -95
MAX_TEXT_BYTES = 63_993  # LIS01-A2
_END = re.compile(rb"[\x03\x17]")


def checksum(body: bytes) -> bytes:
    """Two upper-case hex digits; `body` is everything after STX up to and with ETB or ETX, before any charset."""
    return b"%02X" % (sum(body) & 0xFF)


def build_frame(fn: int, text: bytes, last: bool) -> bytes:
    """One frame, STX to LF. `fn` is taken modulo 8."""
    body = b"%d%s%c" % (fn % 8, text, ETX if last else ETB)
    return b"\x02%s%s\r\n" % (body, checksum(body))


def cut(text: bytes, size: int) -> tuple[bytes, ...]:
    """Frames for one message: ETB between pieces of at most `size` bytes, ETX at the end, numbers from 1."""
    parts = [text[at : at + size] for at in range(0, len(text), size)] or [b""]
    return tuple(build_frame(number, part, number == len(parts)) for number, part in enumerate(parts, start=1))


def parse_frame(raw: bytes) -> tuple[int, bytes, bool]:
    """(frame number, text, whether ETX) of a frame that the data link has accepted; it is not verified again.

    Raises LinkFrameError when `raw` is no frame at all.
    """
    end = _END.search(raw, 2)
    if end is None or raw[0] != STX or not 0x30 <= raw[1] <= 0x39:
        raise LinkFrameError("not_a_frame", "stored bytes are not a LIS01-A2 frame")
    return raw[1] - 0x30, raw[2 : end.start()], raw[end.start()] == ETX

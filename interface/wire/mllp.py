"""MLLP, releases 1 and 2: `0B block 1C 0D`. Pure; no input raises anything, memory is bounded by the block limit.

What departs from the standard and can be understood is taken, each departure by its name (`Tolerated`). HL7 without any
envelope is refused: nothing says where it ends, so half a message would be acknowledged as a whole one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from interface.wire.buffer import ByteQueue

VT, FS, CR = 0x0B, 0x1C, 0x0D
EVIDENCE_BYTES = 4096  # of refused or skipped bytes, kept for the administrator
DEFAULT_MAX_BLOCK_BYTES = 16 * 1024 * 1024  # images travel as base64 inside results
COMMITTED, NOT_COMMITTED = b"\x0b\x06\x1c\r", b"\x0b\x15\x1c\r"  # release 2: the receiver's word on storage alone
_BOM = b"\xef\xbb\xbf"
_COMMIT_CODES = {b"\x06": True, b"\x15": False}
_UNFRAMED = re.compile(rb"(?:^|[\r\n\x00\xbf])(?:MSH|FHS|BHS)[^A-Za-z0-9\s\x00]", re.IGNORECASE)
_BEGIN = re.compile(b"\x0b")
_MARK = re.compile(b"\x0b|\x1c(?=[\x0b\r]|\\Z)")  # a 1C that may end the block; any other is data
_NOT_BEGIN = re.compile(b"[^\x0b]")


class Tolerated(StrEnum):
    """Departures that are taken, and counted."""

    MISSING_CR = "missing_cr"  # 1C without 0D before the next block, a silence or the end of the stream
    SECOND_BEGIN = "second_begin"  # 0B within a block: what came before it is rejected, the rest taken
    STRAY_BYTES = "stray_bytes"  # between blocks
    STRAY_NULS = "stray_nuls"  # between blocks, and nothing else
    LF_SEGMENTS = "lf_segments"  # segments end with LF or CR LF
    BOM = "bom"  # a UTF-8 byte order mark before the message
    NO_FINAL_CR = "no_final_cr"  # the last segment has no end
    PIPELINED = "pipelined"  # a block before the reply to the one before it


@dataclass(frozen=True, slots=True)
class BlockReceived:
    """One whole block, without its envelope."""

    block: bytes
    tolerated: tuple[Tolerated, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockRejected:
    """`reason`: oversize, restarted (0B within a block), cut (the stream ended), empty."""

    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    """Bytes outside any block, at most EVIDENCE_BYTES each time. Line ends alone are not reported."""

    data: bytes
    unframed: bool = False  # it looks like HL7 that has no envelope

    @property
    def reason(self) -> str:
        """`unframed`, `stray_nuls` or `stray_bytes`."""
        if self.unframed:
            return "unframed"
        return Tolerated.STRAY_BYTES if self.data.strip(b"\r\n\x00") else Tolerated.STRAY_NULS


@dataclass(frozen=True, slots=True)
class CommitReceived:
    """A commit block of release 2: whether the peer has stored what we sent. It answers the block before it."""

    positive: bool


Event = BlockReceived | BlockRejected | Skipped | CommitReceived


def encode(block: bytes) -> bytes:
    """A block in its envelope."""
    return b"\x0b%s\x1c\r" % block


def departures(block: bytes) -> tuple[Tolerated, ...]:
    """What the inside of a block has that HL7 v2.5.1 2.6 does not know: a segment ends with CR, the last one too."""
    found: list[Tolerated] = []
    if block.startswith(_BOM):
        found.append(Tolerated.BOM)
    if b"\n" in block:
        found.append(Tolerated.LF_SEGMENTS)
    if block[-1:] not in (b"\r", b"\n"):
        found.append(Tolerated.NO_FINAL_CR)
    return tuple(found)


class Decoder:
    """Finds blocks in a byte stream. Only `1C 0D` ends one: a lone 1C may be half of a double-byte character."""

    def __init__(self, max_message_bytes: int = DEFAULT_MAX_BLOCK_BYTES) -> None:
        self._limit = max_message_bytes
        self._in = ByteQueue()
        self._junk = bytearray()
        self._unframed = False  # the bytes that are being skipped began as HL7
        self._block = bytearray()
        self._inside = False
        self._mark = False  # the last byte was 1C
        self._oversize = False

    @property
    def inside(self) -> bool:
        """Whether a block has begun and not ended."""
        return self._inside

    @property
    def ends_in_mark(self) -> bool:
        """Whether the block would be whole if no 0D were missing."""
        return self._inside and self._mark

    @property
    def pending(self) -> bool:
        """Whether there is something to be said when nothing follows soon: then call `silence`."""
        return self.ends_in_mark or bool(self._junk)

    def receive(self, data: bytes) -> list[Event]:
        """What the bytes complete, in order."""
        if (block := self._alone(data)) is not None:
            return [block]
        events: list[Event] = []
        self._in.append(data)
        while len(self._in):
            if not self._inside:
                self._hunt(events)
            elif self._mark:
                self._after_mark(events)
            else:
                self._collect(events)
        return events

    def _alone(self, data: bytes) -> BlockReceived | None:
        """As nearly always: what was read is one block, and nothing is left of what came before."""
        if len(data) - 3 > self._limit or self._inside or self._junk or self._unframed:
            return None
        if data[:1] != b"\x0b" or data[-2:] != b"\x1c\r" or data.find(FS) < len(data) - 2 or data.rfind(VT):
            return None
        block = data[1:-2]
        return BlockReceived(block, departures(block)) if block and block not in _COMMIT_CODES else None

    def silence(self) -> list[Event]:
        """Nothing has come for a while: a block that lacks only its 0D is taken, stray bytes are told."""
        events: list[Event] = []
        if self.ends_in_mark:
            self._end(events, missing_cr=True)
        self._flush_junk(events)
        return events

    def eof(self) -> list[Event]:
        """The stream has ended: the rest is a whole block without 0D, or lost."""
        events = self.silence()
        if self._inside:
            self._reject(events, "oversize" if self._oversize else "cut")
            self._inside = False
        return events

    def _hunt(self, events: list[Event]) -> None:
        self._junk += self._in.take(self._in.find(_BEGIN))
        while len(self._junk) >= EVIDENCE_BYTES:
            self._skip(events, bytes(self._junk[:EVIDENCE_BYTES]))
            del self._junk[:EVIDENCE_BYTES]
        if len(self._in):
            self._in.take(1)
            self._flush_junk(events)
            self._begin()

    def _begin(self) -> None:
        self._inside, self._mark, self._oversize = True, False, False
        self._block.clear()

    def _collect(self, events: list[Event]) -> None:
        self._keep(self._in.take(self._end_at()))
        if not len(self._in):
            return
        if self._in.first() == FS:
            self._in.take(1)
            self._mark = True
            return
        self._in.take(self._in.find(_NOT_BEGIN))
        if self._block:
            self._reject(events, "oversize" if self._oversize else "restarted")
        self._begin()

    def _end_at(self) -> int:
        """Where the next byte is that may end the block; nearly always the first 1C there is."""
        end, begin = self._in.find_byte(FS), self._in.find_byte(VT)
        after = self._in.peek(min(end, begin) + 2)[-1:] if end < begin else b"\x0b"
        return min(end, begin) if after in (b"\r", b"\x0b") else self._in.find(_MARK)

    def _after_mark(self, events: list[Event]) -> None:
        code = self._in.first()
        if code == CR:
            self._in.take(1)
            self._end(events)
        elif code == VT:
            self._end(events, missing_cr=True)  # and the 0B begins the next
        else:
            self._keep(b"\x1c")
            self._mark = False

    def _keep(self, data: bytes) -> None:
        if self._oversize:
            return
        self._block += data
        if len(self._block) > self._limit:
            self._oversize = True
            del self._block[min(EVIDENCE_BYTES, self._limit) :]

    def _end(self, events: list[Event], missing_cr: bool = False) -> None:
        block = bytes(self._block)
        if self._oversize:
            self._reject(events, "oversize")
        elif not block:
            self._reject(events, "empty")
        elif block in _COMMIT_CODES:
            events.append(CommitReceived(_COMMIT_CODES[block]))
        else:
            events.append(BlockReceived(block, (Tolerated.MISSING_CR,) * missing_cr + departures(block)))
        self._inside = self._mark = False
        self._block.clear()

    def _reject(self, events: list[Event], reason: str) -> None:
        events.append(BlockRejected(reason, bytes(self._block[:EVIDENCE_BYTES])))
        self._block.clear()

    def _flush_junk(self, events: list[Event]) -> None:
        if self._junk.strip(b"\r\n"):
            self._skip(events, bytes(self._junk))
        self._junk.clear()
        self._unframed = False

    def _skip(self, events: list[Event], data: bytes) -> None:
        self._unframed = self._unframed or _UNFRAMED.search(data) is not None
        events.append(Skipped(data, self._unframed))

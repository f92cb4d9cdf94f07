"""MLLP release 1: `0B block 1C 0D`. Pure; no input raises anything, memory is bounded by the block limit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from interface.wire.buffer import ByteQueue

VT, FS, CR = 0x0B, 0x1C, 0x0D
EVIDENCE_BYTES = 4096  # of refused or skipped bytes, kept for the administrator
DEFAULT_MAX_BLOCK_BYTES = 16 * 1024 * 1024  # images travel as base64 inside results
_BEGIN = re.compile(b"\x0b")
_MARK = re.compile(b"\x0b|\x1c(?=[\x0b\r]|\\Z)")  # a 1C that may end the block; any other is data
_NOT_BEGIN = re.compile(b"[^\x0b]")


class Tolerated(StrEnum):
    """Departures that are taken, and counted."""

    MISSING_CR = "missing_cr"  # 1C without 0D before the next block, a silence or the end of the stream


@dataclass(frozen=True, slots=True)
class BlockReceived:
    """One whole block, without its envelope."""

    block: bytes
    tolerated: Tolerated | None = None


@dataclass(frozen=True, slots=True)
class BlockRejected:
    """`reason`: oversize, restarted (0B within a block), cut (the stream ended), empty."""

    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    """Bytes outside any block, at most EVIDENCE_BYTES each time. Line ends alone are not reported."""

    data: bytes


Event = BlockReceived | BlockRejected | Skipped


def encode(block: bytes) -> bytes:
    """A block in its envelope."""
    return b"\x0b%s\x1c\r" % block


class Decoder:
    """Finds blocks in a byte stream. Only `1C 0D` ends one: a lone 1C may be half of a double-byte character."""

    def __init__(self, max_message_bytes: int = DEFAULT_MAX_BLOCK_BYTES) -> None:
        self._limit = max_message_bytes
        self._in = ByteQueue()
        self._junk = bytearray()
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
        """Whether the block would be whole if no 0D were missing: call `silence` when nothing follows soon."""
        return self._inside and self._mark

    def receive(self, data: bytes) -> list[Event]:
        """What the bytes complete, in order."""
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

    def silence(self) -> list[Event]:
        """Nothing has come for a while: a block that lacks only its 0D is taken."""
        events: list[Event] = []
        if self.ends_in_mark:
            self._end(events, Tolerated.MISSING_CR)
        return events

    def eof(self) -> list[Event]:
        """The stream has ended: the rest is a whole block without 0D, or lost."""
        events = self.silence()
        if self._inside:
            self._reject(events, "oversize" if self._oversize else "cut")
            self._inside = False
        self._flush_junk(events)
        return events

    def _hunt(self, events: list[Event]) -> None:
        self._junk += self._in.take(self._in.find(_BEGIN))
        while len(self._junk) >= EVIDENCE_BYTES:
            events.append(Skipped(bytes(self._junk[:EVIDENCE_BYTES])))
            del self._junk[:EVIDENCE_BYTES]
        if len(self._in):
            self._in.take(1)
            self._flush_junk(events)
            self._begin()

    def _begin(self) -> None:
        self._inside, self._mark, self._oversize = True, False, False
        self._block.clear()

    def _collect(self, events: list[Event]) -> None:
        self._keep(self._in.take(self._in.find(_MARK)))
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

    def _after_mark(self, events: list[Event]) -> None:
        code = self._in.first()
        if code == CR:
            self._in.take(1)
            self._end(events, None)
        elif code == VT:
            self._end(events, Tolerated.MISSING_CR)  # and the 0B begins the next
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

    def _end(self, events: list[Event], tolerated: Tolerated | None) -> None:
        if self._oversize:
            self._reject(events, "oversize")
        elif not self._block:
            self._reject(events, "empty")
        else:
            events.append(BlockReceived(bytes(self._block), tolerated))
        self._inside = self._mark = False
        self._block.clear()

    def _reject(self, events: list[Event], reason: str) -> None:
        events.append(BlockRejected(reason, bytes(self._block[:EVIDENCE_BYTES])))
        self._block.clear()

    def _flush_junk(self, events: list[Event]) -> None:
        if self._junk.strip(b"\r\n"):
            events.append(Skipped(bytes(self._junk)))
        self._junk.clear()

"""LIS01-A2: one frame out of a line's bytes, and the pieces of a message that comes without frames. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from interface.wire.buffer import ByteQueue
from interface.wire.datalink_events import EVIDENCE_BYTES, FrameReceived, Leniency, LinkOptions
from interface.wire.frames import CR, ENQ, EOT, ETX, FRAME_OVERHEAD_BYTES, LF, STX, checksum
from interface.wire.transmission import MessageSplitter

_NOT_STX = re.compile(b"[^\x02]")
_FRAME_END = re.compile(b"[\x02\x03\x04\x05\x17]")
_RECORD_STOP = re.compile(b"[\r\n\x04\x05]")
_TRAILER = re.compile(b"[0-9A-Fa-f]{2}\r\n")
_PLAIN = re.compile(b"\x02[0-9][^\x02\x03\x04\x05\x17]*[\x03\x17][0-9A-F]{2}\r\n")
_UPPER, _LOWER = b"0123456789ABCDEF", b"abcdef"


@dataclass(frozen=True, slots=True)
class Whole:
    """A frame with good bytes. `tail_due`: its CR LF, if it has one, was not waited for (missing_crlf)."""

    fn: int
    raw: bytes
    text: bytes
    last: bool
    used: Leniency | None
    tail_due: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """A frame that must be refused."""

    reason: str
    data: bytes
    tail_due: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """EOT inside a frame."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Replaced:
    """STX inside a frame: what came before is no frame, and what follows is refused at its end."""

    data: bytes


class _Phase(StrEnum):
    HUNT = "hunt"
    TEXT = "text"
    CHECK = "check"


class FrameReader:
    """Reads one frame after the other; `begin` after each STX, then `read` until it gives an outcome."""

    def __init__(self, options: LinkOptions) -> None:
        self._lenient = options.leniencies
        self._limit = options.max_frame_bytes - FRAME_OVERHEAD_BYTES + 2  # STX and FN count, the end has not come
        self._phase = _Phase.HUNT
        self._frame = bytearray()  # STX to ETB or ETX
        self._trailer = bytearray()
        self._damage = ""  # why the frame under way cannot be taken

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._phase is not _Phase.HUNT

    @property
    def growing(self) -> bool:
        """Whether its bytes are still kept."""
        return self.inside and self._damage != "oversize"

    def begin(self, damage: str = "") -> None:
        """STX was read; `damage`: why the frame will be refused whatever it holds."""
        self._phase, self._damage = _Phase.TEXT, damage
        self._frame[:] = b"\x02"
        self._trailer.clear()

    def drop(self) -> bytes:
        """The frame under way is none any more; what there was of it."""
        data = bytes(self._frame + self._trailer) if self.inside else b""
        self._phase = _Phase.HUNT
        return data

    def alone(self, data: bytes) -> Whole | None:
        """The frame, where `data` is nothing else and follows the standard to the letter, as nearly always."""
        return self._plain(data) if _PLAIN.fullmatch(data) else None

    def next(self, line: ByteQueue) -> Whole | None:
        """Take the frame that `line` begins with, where it is whole and follows the standard to the letter."""
        found = line.match(_PLAIN)
        frame = self._plain(found) if found else None
        if frame is not None:
            line.take(len(frame.raw))
        return frame

    def _plain(self, raw: bytes) -> Whole | None:
        if len(raw) - 4 > self._limit or Leniency.MISSING_CRLF in self._lenient:
            return None
        if checksum(raw[1:-4]) != raw[-4:-2]:
            return None
        return Whole(raw[1] - 0x30, raw, raw[2:-5], raw[-5] == ETX, None, False)

    def read(self, line: ByteQueue) -> Whole | Broken | Cut | Replaced | None:
        """Take bytes from `line`, which has some; None when the frame needs more."""
        if self._phase is _Phase.TEXT:
            return self._read_text(line)
        return self._read_trailer(line)

    def _read_text(self, line: ByteQueue) -> Broken | Cut | Replaced | None:
        text = line.take(line.find(_FRAME_END))
        if self._damage != "oversize":
            self._frame += text
            if len(self._frame) > self._limit:
                self._damage = "oversize"
                del self._frame[min(EVIDENCE_BYTES, self._limit) :]
        if not len(line):
            return None
        code = line.take(1)[0]
        if code == STX:
            # The frame before it was cut, or noise made an STX: what follows is not taken, and answered once.
            data = bytes(self._frame) + line.take(line.find(_NOT_STX))
            self.begin("control_character")
            return Replaced(data)
        if code == EOT:
            return Cut(self.drop())
        if code == ENQ:
            # An ACK could be taken for the frame's; NAK is right for a sender that restarts and for one that does not.
            return self._broken("control_character")
        self._frame.append(code)
        self._phase = _Phase.CHECK
        return None

    def _read_trailer(self, line: ByteQueue) -> Whole | Broken | Cut | None:
        lenient, place = self._lenient, len(self._trailer)
        if place == 0 and Leniency.MISSING_CRLF not in lenient and _TRAILER.fullmatch(line.peek(4)):
            self._trailer += line.take(4)  # as nearly every frame ends: one step instead of four
            return self._complete()
        code = line.first()
        if place == 0 and Leniency.NO_CHECKSUM in lenient and code not in _UPPER and code not in _LOWER:
            if code != CR and Leniency.MISSING_CRLF in lenient:
                return self._complete()  # the byte is not the frame's
            if code == CR:
                self._trailer += b"\0\0"  # no digits were sent
                place = 2
        if code == EOT:
            line.take(1)
            return Cut(self.drop())
        self._trailer += line.take(1)
        if place < 2:
            if code not in _UPPER and code not in _LOWER:
                return self._broken("checksum")
            return self._complete() if place == 1 and Leniency.MISSING_CRLF in lenient else None
        if code != (CR, LF)[place - 2]:
            return self._broken("terminator")
        return self._complete() if place == 3 or Leniency.MISSING_CRLF in lenient else None

    def _complete(self) -> Whole | Broken:
        """A whole frame is there."""
        digits, wanted = bytes(self._trailer[:2]).replace(b"\0", b""), checksum(bytes(self._frame[1:]))
        tail_due = Leniency.MISSING_CRLF in self._lenient and len(self._trailer) == 2
        used = self._departure(digits, wanted)
        if self._damage:
            return self._broken(self._damage, tail_due)
        if digits != wanted and used is None:
            return self._broken("checksum", tail_due)
        if not 0x30 <= self._frame[1] <= 0x39:
            return self._broken("frame_number", tail_due)
        raw = bytes(self._frame) + digits + bytes(self._trailer[2:])
        self._phase = _Phase.HUNT
        fn, text, last = self._frame[1] - 0x30, bytes(self._frame[2:-1]), self._frame[-1] == ETX
        return Whole(fn, raw, text, last, used, tail_due)

    def _departure(self, digits: bytes, wanted: bytes) -> Leniency | None:
        """The leniency that takes these digits, the narrowest first; None when none does or none is needed."""
        if digits == wanted:
            return None
        narrow = [Leniency.LOWER_CASE_CHECKSUM] if digits.upper() == wanted else []
        if digits == b"00":
            narrow.append(Leniency.ZERO_CHECKSUM)
        return next((name for name in (*narrow, Leniency.NO_CHECKSUM) if name in self._lenient), None)

    def _broken(self, reason: str, tail_due: bool = False) -> Broken:
        return Broken(reason, self.drop(), tail_due)


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of a message without frames. `last`: silence or a control character ended its L record."""

    text: bytes
    last: bool
    closes: bool  # it ends the message


class RecordReader:
    """Reads a message that comes without frames, a record at a time; one that is longer than the limit in pieces."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._text = bytearray()
        self._begun = False  # the open record has a character
        self._head: int | None = None  # where in the text it begins; None: in an earlier piece
        self._splitter = MessageSplitter()

    def begin(self) -> None:
        """A new message."""
        self._text.clear()
        self._begun, self._head, self._splitter = False, None, MessageSplitter()

    def read(self, line: ByteQueue) -> Piece | None:
        """Take bytes from `line`, which has some; None when more are needed, or ENQ or EOT is next in `line`."""
        while len(line):
            run = line.take(min(line.find(_RECORD_STOP), self._limit - len(self._text)))
            if run and not self._begun:
                self._begun, self._head = True, len(self._text)
            self._text += run
            if len(self._text) >= self._limit:
                return self._piece(False)
            if not len(line) or line.first() in (ENQ, EOT):
                return None
            self._text += line.take(1)
            if self._begun:  # else an empty line, which goes with the record after it
                self._begun = False
                return self._piece(False)
        return None

    @property
    def ending(self) -> bool:
        """Whether the open record is the L record, which lacks only its end."""
        if self._head is None or self._text[self._head] not in b"Ll":
            return False
        twin = self._splitter.fork()
        twin.feed(bytes(self._text), True)
        return not twin.open

    def flush(self) -> Piece | None:
        """Nothing more comes: what is open. Only an L record counts as ended, any other may be half of one."""
        piece = self._piece(self.ending) if self._begun and self._text else None
        self._text.clear()
        return piece

    def _piece(self, last: bool) -> Piece:
        text = bytes(self._text)
        self._text.clear()
        self._head = None
        self._splitter.feed(text, last)
        return Piece(text, last, not self._splitter.open)


def bare(piece: Piece) -> FrameReceived:
    """The piece as an event."""
    return FrameReceived(None, piece.text, piece.text, piece.last)


def departures(frame: Whole) -> list[Leniency]:
    """What is always taken and still counted (PROTOCOLS §1.5)."""
    text, used = frame.text, list[Leniency]()
    if feeds := text.count(b"\n"):
        together = text.count(b"\r\n")
        used += [Leniency.CRLF_RECORDS] * bool(together) + [Leniency.LF_RECORDS] * (feeds > together)
    if frame.last and text and text[-1] not in b"\r\n":
        used.append(Leniency.MISSING_FINAL_CR)
    return used

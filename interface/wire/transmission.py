"""From the frames of a session to messages: H to L, wherever the frames are cut. Pure.

Vendors cut differently (one record per frame, whole messages at every 240th byte, ETB after complete records), so only
the concatenated text tells: ETB neither ends nor continues a record; ETX ends the record that is open; CR, LF and CR LF
end records. Nothing that was acknowledged is left out: text outside H..L makes a message of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from interface.wire.frames import parse_frame

_RECORD_END = re.compile(rb"[\r\n]+")
_CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class Piece:
    """`text[start:stop]` of one frame belongs to one message.

    `opens`: it is the message's first. `seals`: it ends the message's L record, the message is complete.
    `breaks`: it opens a message while another was open, which therefore stays incomplete.
    """

    start: int
    stop: int
    opens: bool
    seals: bool
    breaks: bool = False


class MessageSplitter:
    """Cuts one session's frame texts into messages. Keeps two bytes of the open record; use one per session."""

    def __init__(self) -> None:
        self._open = False  # a message is open
        self._head = b""  # the first bytes of the record that is open, two at most
        self._field = 0  # the message's field delimiter, 0 while unknown

    @property
    def open(self) -> bool:
        """Whether a message has begun and has no L record yet."""
        return self._open

    def fork(self) -> MessageSplitter:
        """A copy to try a frame on: kept when the frame is stored, thrown away when it is refused."""
        copy = MessageSplitter()
        copy._open, copy._head, copy._field = self._open, self._head, self._field
        return copy

    def feed(self, text: bytes, last: bool) -> tuple[Piece, ...]:
        """The pieces of the next frame's text, in order; `last`: the frame ended with ETX.

        Record ends between two messages belong to the message before; alone in a frame they make no piece.
        """
        pieces: list[Piece] = []
        begin = at = 0  # of the piece, of the record
        opens = breaks = False
        while at < len(text):
            if not self._open:
                begin = at = _skip_record_ends(text, at)
                if at == len(text):
                    break
                self._open, self._field, opens, breaks = True, 0, True, False
            elif not self._head and begins_header(text, at):
                if at > begin:
                    pieces.append(Piece(begin, at, opens, False, breaks))
                self._field, begin, opens, breaks = 0, at, True, True
            end = _RECORD_END.search(text, at)
            self._note_head(text[at : min(end.start() if end else len(text), at + 2)])
            at = end.end() if end else len(text)
            if (end or last) and self._end_record():
                pieces.append(Piece(begin, at, opens, True, breaks))
                self._open, begin, opens, breaks = False, at, False, False
        if self._open:
            seals = last and self._end_record()  # the record was cut by ETB and this frame is empty
            pieces.append(Piece(begin, len(text), opens, seals, breaks))
            self._open = not seals
        return tuple(pieces)

    def _note_head(self, begin: bytes) -> None:
        self._head = (self._head + begin)[:2]
        if not self._field and len(self._head) == 2 and self._head[0] in b"Hh" and _is_delimiter(self._head[1]):
            self._field = self._head[1]

    def _end_record(self) -> bool:
        """The open record ends here; whether it was the message's L record."""
        head, self._head = self._head, b""
        if head[:1] not in (b"L", b"l"):
            return False
        return len(head) == 1 or head[1] == self._field or (not self._field and _is_delimiter(head[1]))


def _skip_record_ends(text: bytes, at: int) -> int:
    end = _RECORD_END.match(text, at)
    return end.end() if end else at


def begins_header(text: bytes, at: int) -> bool:
    """The record here is an H record. A lone letter at a frame's end is taken for one: no other begins so."""
    return text[at] in b"Hh" and (at + 1 == len(text) or _is_delimiter(text[at + 1]))


def _is_delimiter(code: int) -> bool:
    """LIS02-A2: a delimiter is a printable character that is neither letter nor digit."""
    return 0x21 <= code <= 0x7E and not chr(code).isalnum()


def part_text(text: bytes, last: bool, start: int, stop: int) -> bytes:
    """`text[start:stop]` of a frame as part of its message: ETX (`last`) ends a record that has no end of its own."""
    part = text[start:stop]
    return part + b"\r" if last and stop == len(text) and part and part[-1] not in _CRLF else part


def assemble(pieces: Iterable[tuple[bytes, int, int]]) -> bytes:
    """A message's text from its (raw frame, start, stop) rows. What the message's digest is made over.

    Bytes are as sent; a CR is added only where ETX ended a record without one.
    """
    out = bytearray()
    for raw, start, stop in pieces:
        _, text, last = parse_frame(raw)
        out += part_text(text, last, start, stop)
        if last and not text and out and out[-1] not in _CRLF:  # ETX alone ends what the frames before left open
            out.append(0x0D)
    return bytes(out)

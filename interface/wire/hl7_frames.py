"""From the LIS01-A2 frames of a session to HL7 messages: MSH to the next MSH, wherever the frames are cut. Pure.

Nothing in HL7 ends a message: the next one does, or the session. ETX ends the segment that is open, as it does a record
in LIS02-A2. What stands before the first MSH was acknowledged as well and makes a message of its own.
"""

from __future__ import annotations

import re

from interface.wire.transmission import Piece

_SEGMENT_END = re.compile(rb"[\r\n]+")
_HEADER = b"MSH"


class Hl7Splitter:
    """Cuts one session's frame texts into messages, as `MessageSplitter` does for LIS02-A2; use one per session.

    No piece `seals`: a message that is open when the session ends is whole. One that `breaks` ends the message before.
    """

    def __init__(self) -> None:
        self._open = False
        self._ended = False  # the last segment is

    @property
    def open(self) -> bool:
        return self._open

    def fork(self) -> Hl7Splitter:
        """See `MessageSplitter.fork`."""
        copy = Hl7Splitter()
        copy._open, copy._ended = self._open, self._ended
        return copy

    def feed(self, text: bytes, last: bool) -> tuple[Piece, ...]:
        """The pieces of the next frame's text, in order; `last`: the frame ended with ETX."""
        pieces: list[Piece] = []
        begin = at = 0  # of the piece, of the segment
        opens = breaks = False
        while at < len(text):
            if not self._open:
                begin = at = _skip_ends(text, at)
                if at == len(text):
                    return tuple(pieces)
                self._open, opens = True, True
            elif self._ended and _begins_header(text, at):
                if at > begin:
                    pieces.append(Piece(begin, at, opens, False, breaks))
                begin, opens, breaks = at, True, True
            end = _SEGMENT_END.search(text, at)
            self._ended = end is not None
            at = end.end() if end else len(text)
        if self._open:
            pieces.append(Piece(begin, len(text), opens, False, breaks))
            self._ended = self._ended or last
        return tuple(pieces)


def _skip_ends(text: bytes, at: int) -> int:
    end = _SEGMENT_END.match(text, at)
    return end.end() if end else at


def _begins_header(text: bytes, at: int) -> bool:
    """The segment here is MSH. A begin of it at the frame's end is taken for one: of what analyzers send no other
    segment begins so."""
    return text[at : at + 3] == _HEADER[: len(text) - at]

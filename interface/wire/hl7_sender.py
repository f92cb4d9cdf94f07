"""What the messages of one sender have in common, worked out once: whether they are taken, and how they are answered.

Two headers of a sender differ in their time (MSH-7) and their control id (MSH-10) only. What is left of a header is its
shape; a shape whose messages are in order, and the bytes of their acknowledgement, are kept and used again. Whatever is
unusual has no shape, and is read each time as `hl7` and `hl7_ack` do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from interface.errors import SegmentError, UnsupportedMessage
from interface.wire import charsets, hl7
from interface.wire.hl7_ack import AckCode, Template

_MOST_BYTES, _MOST_SHAPES = 1024, 64
_TIME = re.compile(rb"[0-9]{0,14}(?:\.[0-9]{1,4})?(?:[+-][0-9]{4})?")
_CONTROL_ID = re.compile(rb"[A-Za-z0-9._-]{1,50}")


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of message that is in order if its segments are. `replies`: the acknowledgements that are due for it."""

    message_type: str
    replies: tuple[Template, ...]


class Known(NamedTuple):
    """A message in order, of a known shape."""

    shape: Shape
    control_id: str

    def replies(self, control_id: Callable[[], str], now: datetime) -> list[bytes]:
        """The acknowledgements that are due, unframed; `control_id` gives one for each, `now` is aware."""
        return [template.fill(control_id(), self.control_id, now) for template in self.shape.replies]


class Sender:
    """The shapes of a link's messages, the latest few.

    `due` judges a header in order: the acknowledgements that are due for a stored message with it; None when such a
    message is not taken, or has to be looked at whole.
    """

    def __init__(self, encoding: str, due: Callable[[bytes, hl7.Message], Sequence[AckCode] | None]) -> None:
        self._encoding, self._due = encoding, due
        self._shapes: dict[bytes, Shape | None] = {}

    def know(self, block: bytes) -> Known | None:
        """The message, if it is in order and nothing in its header is new; else None, which says nothing against it."""
        header = charsets.raw_header(block)
        fields = header.split(header[3:4], 11) if 8 < len(header) <= _MOST_BYTES else []
        if len(fields) < 12 or not _TIME.fullmatch(fields[6]) or not _CONTROL_ID.fullmatch(fields[9]):
            return None
        control_id = fields[9].decode("ascii")
        fields[6], fields[9] = b"", b"ID"
        key = header[3:4].join(fields)
        if key not in self._shapes:
            if len(self._shapes) >= _MOST_SHAPES:
                del self._shapes[next(iter(self._shapes))]
            self._shapes[key] = self._judge(key)
        shape = self._shapes[key]
        if shape is None or not hl7.in_order(block, header):
            return None
        return Known(shape, control_id)

    def _judge(self, header: bytes) -> Shape | None:
        try:
            message = hl7.check_syntax(header, self._encoding)
        except (SegmentError, UnsupportedMessage):
            return None
        if message.encoding not in hl7.PLAIN_CODECS or message.charset_fault:
            return None
        codes = self._due(header, message)
        if codes is None:
            return None
        return Shape(hl7.message_type(header), tuple(Template(message, code) for code in codes))

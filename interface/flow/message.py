"""A stored message as it was before framing."""

from __future__ import annotations

from collections.abc import Sequence

from interface.errors import LinkFrameError
from interface.store.stored_messages import StoredFrame, StoredMessage
from interface.wire.frames import parse_frame
from interface.wire.transmission import part_text


def storable(text: str, most_characters: int = 200) -> str:
    """Words of a message as a column holds them: PostgreSQL's text has no NUL. The bytes are in the frame."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:most_characters]


def frame_text(frame: StoredFrame) -> bytes:
    """The part of a frame's text that belongs to the message. What has no frame number is its own text (HL7, records
    without frames), or says where its text lies (a framing that a driver declares)."""
    if frame.fn is None:
        return frame.bytes[frame.start or 0 : frame.stop]
    try:
        _, text, last = parse_frame(frame.bytes)
    except LinkFrameError:
        return b""
    return part_text(text, last, frame.start or 0, len(text) if frame.stop is None else frame.stop)


def _text_of(frames: Sequence[StoredFrame], parts: Sequence[bytes]) -> bytes:
    """As `wire.transmission.assemble`: ETX alone ends what the frames before left open."""
    made = bytearray()
    for frame, part in zip(frames, parts, strict=True):
        made += part
        if not part and made and made[-1] not in b"\r\n" and _is_etx_alone(frame):
            made += b"\r"
    return bytes(made)


def _is_etx_alone(frame: StoredFrame) -> bool:
    if frame.fn is None:
        return False
    try:
        _, text, last = parse_frame(frame.bytes)
    except LinkFrameError:
        return False
    return last and not text


def message_text(message: StoredMessage) -> bytes:
    """All of the message, without its frames' envelopes."""
    parts = list(map(frame_text, message.frames))
    text = b"".join(parts) if all(parts) else _text_of(message.frames, parts)
    bare = message.protocol == "lis2" and bool(message.frames) and message.frames[-1].fn is None
    # Silence may stand for the end of an L record without frame; the digest has its CR as well.
    return text + b"\r" if bare and message.state == "complete" and text[-1:] not in (b"\r", b"\n") else text


def whole_records(message: StoredMessage) -> bytes:
    """The message as far as it can be decoded: of a cut transmission without its last record, unless that is whole."""
    text = message_text(message)
    if message.state == "incomplete":
        text = text[: max(text.rfind(b"\r"), text.rfind(b"\n")) + 1]
    return text

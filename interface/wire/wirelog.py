"""The wire log: what went over a connection, both ways, in a form small enough to keep (docs/decisions/wire-log.md).

A piece of log is a list of events in the order of the wire. Bytes that the journal has are not in it: a `FrameCame`
names the row that holds them. Pure; `decode(encode(events)) == events`.

The form: the byte 1; the first event's instant, microseconds since 1970 UTC in 8 bytes; then each event as its kind,
the microseconds since the event before, and its content. Numbers are base-128, low groups first; those that may be
negative are zigzag. A frame's id is written as its difference (exclusive or) from the id before, which for the frames
of one message is three bytes; a block is a message, so its id is written as it is, in 16.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from interface.errors import LinkFrameError

_VERSION = 1
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_LONGEST_NUMBER = 19  # groups of 7 bits: an id has 128 bits
_FIRST, _LAST = 0, 253_402_300_799_999_999  # what `datetime` can hold from 1970 on


class Meaning(StrEnum):
    """What the bytes of a `FrameCame` are to the frame it names."""

    STORED = "stored"  # it was committed from these bytes
    BLOCK = "block"  # the same, and MLLP's envelope came with it in one read: 0B before it, 1C 0D after it
    AGAIN = "again"  # the same once more: acknowledged, not stored again
    APART = "apart"  # it was committed from bytes that stand in the log as they came, since it differs from them


class What(StrEnum):
    """What a `Noted` says."""

    OPENED = "opened"  # the connection was made; `text`: the peer
    CLOSED = "closed"
    REFUSED = "refused"  # `count` bytes were no frame; `text`: why, `skipped` where they were between frames
    NOT_STORED = "not_stored"  # a whole frame could not be committed; `text`: why
    ENDED = "ended"  # the session is over; `text`: eot, enq, timeout, lost, stop
    UNSENT = "unsent"  # `count` bytes could not be handed to the peer
    MISSING = "missing"  # `count` bytes went over the wire here and are not in the log


@dataclass(frozen=True, slots=True)
class Came:
    """Bytes from the peer that are in no frame of the journal. `at`: when the first of them was read, aware UTC."""

    at: datetime
    data: bytes


class FrameCame(NamedTuple):
    """The bytes of a frame; `ids`: the rows that hold them, each all of them (one row for each of its messages)."""

    at: datetime
    ids: tuple[UUID, ...]
    meaning: Meaning = Meaning.STORED


class Left(NamedTuple):
    """Bytes that were handed to the peer. `answers`: the frame that they are the acknowledgement of, HL7 only."""

    at: datetime
    data: bytes
    answers: UUID | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that happened and is no byte."""

    at: datetime
    what: What
    text: str = ""
    count: int = 0


Event = Came | FrameCame | Left | Noted

_CAME, _LEFT, _ANSWER = 0, 1, 2
_MEANINGS = {Meaning.STORED: 3, Meaning.AGAIN: 4, Meaning.APART: 5, Meaning.BLOCK: 6}
_NOTES = {what: 16 + at for at, what in enumerate(What)}  # their order is part of the form: add at the end
_MEANING_OF = {code: meaning for meaning, code in _MEANINGS.items()}
_NOTE_OF = {code: what for what, code in _NOTES.items()}


def encode(events: Iterable[Event]) -> bytes:
    """The events as bytes; b"" for none. Instants to the microsecond, from 1970 on."""
    out = bytearray()
    instant = last_id = 0
    for event in events:
        at = (event.at - _EPOCH) // _MICROSECOND
        if not out:
            instant = at
            out.append(_VERSION)
            out += at.to_bytes(8)
        step, instant = at - instant, at
        match event:  # what every message has comes first
            case FrameCame(_, ids, meaning):
                _begin(out, _MEANINGS[meaning], step)
                _number(out, len(ids))
                for one in ids:
                    number = one.int
                    if meaning is Meaning.BLOCK:
                        out += one.bytes
                    else:
                        _number(out, number ^ last_id)
                    last_id = number
            case Left(_, data, answers):
                _begin(out, _LEFT if answers is None else _ANSWER, step)
                if answers is not None:
                    number = answers.int
                    _number(out, number ^ last_id)
                    last_id = number
                _text(out, data)
            case Came(_, data):
                _begin(out, _CAME, step)
                _text(out, data)
            case Noted(_, what, text, count):
                _begin(out, _NOTES[what], step)
                _text(out, text.encode())
                _number(out, count)
    return bytes(out)


def _begin(out: bytearray, kind: int, step: int) -> None:
    out.append(kind)
    _number(out, step << 1 if step >= 0 else ~step << 1 | 1)


def _number(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _text(out: bytearray, data: bytes) -> None:
    _number(out, len(data))
    out += data


def decode(data: bytes) -> list[Event]:
    """The events of `encode`. Raises LinkFrameError (reason `wire_log`) for bytes that are none."""
    if not data:
        return []
    reader = _Reader(data)
    if reader.take(1)[0] != _VERSION:
        raise LinkFrameError("wire_log", "a piece of wire log in a form that this program does not know")
    instant = int.from_bytes(reader.take(8))
    events: list[Event] = []
    last_id = 0
    while reader.left:
        kind, step = reader.take(1)[0], reader.number()
        instant += ~(step >> 1) if step & 1 else step >> 1
        if not _FIRST <= instant <= _LAST:
            raise _damaged()
        event, last_id = _event(reader, kind, _EPOCH + instant * _MICROSECOND, last_id)
        events.append(event)
    return events


def _event(reader: _Reader, kind: int, at: datetime, last_id: int) -> tuple[Event, int]:
    """The content of an event, and the id that the next one differs from."""
    if kind == _CAME:
        return Came(at, reader.text()), last_id
    if kind == _LEFT:
        return Left(at, reader.text()), last_id
    if kind == _ANSWER:
        last_id = reader.identifier(last_id)
        return Left(at, reader.text(), UUID(int=last_id)), last_id
    if kind in _MEANING_OF:
        ids: list[UUID] = []
        meaning = _MEANING_OF[kind]
        for _ in range(reader.number()):
            last_id = int.from_bytes(reader.take(16)) if meaning is Meaning.BLOCK else reader.identifier(last_id)
            ids.append(UUID(int=last_id))
        return FrameCame(at, tuple(ids), meaning), last_id
    if kind in _NOTE_OF:
        return Noted(at, _NOTE_OF[kind], reader.text().decode(errors="replace"), reader.number()), last_id
    raise _damaged()


def _damaged() -> LinkFrameError:
    return LinkFrameError("wire_log", "a piece of wire log is damaged")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _damaged()
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self) -> int:
        value = 0
        for group in range(_LONGEST_NUMBER):
            code = self.take(1)[0]
            value |= (code & 0x7F) << 7 * group
            if code < 0x80:
                return value
        raise _damaged()

    def text(self) -> bytes:
        return self.take(self.number())

    def identifier(self, last_id: int) -> int:
        value = self.number() ^ last_id
        if value >> 128:
            raise _damaged()
        return value

"""Which part of a connection's log is shown with a message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from interface.wire.conversation import of_block, of_frames
from interface.wire.wirelog import Came, Event, FrameCame, Left, Meaning, Noted, What

START = datetime(2026, 1, 2, tzinfo=UTC)
ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"


class Log(list[Event]):
    """Events, each a second after the one before. A message's number is its frames' id, less the last 8 bits."""

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=len(self))

    def came(self, data: bytes) -> Log:
        self.append(Came(self.now, data))
        return self

    def left(self, data: bytes = ACK, answers: int | None = None) -> Log:
        self.append(Left(self.now, data, UUID(int=answers << 8) if answers else None))
        return self

    def frame(self, message: int, ordinal: int = 0, meaning: Meaning = Meaning.STORED) -> Log:
        self.append(FrameCame(self.now, (UUID(int=message << 8 | ordinal),), meaning))
        return self

    def note(self, what: What, text: str = "") -> Log:
        self.append(Noted(self.now, what, text))
        return self

    def of(self, message: int) -> list[int]:
        """The places of what is shown with a message of frames."""
        return [self.index(event) for event in of_frames(self, lambda one: one.int >> 8 == message)]


def session(log: Log, *messages: int) -> Log:
    log.came(ENQ).left()
    for message in messages:
        log.frame(message, 0).left().frame(message, 1).left()
    return log.came(EOT).note(What.ENDED, "eot")


def test_a_message_has_its_session_and_no_other() -> None:
    log = session(session(session(Log().note(What.OPENED), 1), 2), 3).note(What.CLOSED)
    assert log.of(1) == list(range(0, 9))
    assert log.of(2) == list(range(9, 17))
    assert log.of(3) == list(range(17, 25))
    assert log.of(4) == []


def test_of_several_in_a_session_each_has_what_follows_the_reply_to_the_one_before() -> None:
    log = session(Log(), 1, 2, 3)
    assert log.of(1) == list(range(0, 6))
    assert log.of(2) == list(range(6, 10))
    assert log.of(3) == list(range(10, 16))


def test_an_enq_that_cuts_a_message_is_shown_with_both() -> None:
    log = Log().came(ENQ).left().frame(1).left().came(ENQ).note(What.ENDED, "enq").left().frame(2).left()
    assert log.of(1) == [0, 1, 2, 3, 4, 5]
    assert log.of(2) == [4, 5, 6, 7, 8]


def test_refused_frames_and_repeats_between_are_shown() -> None:
    log = Log().came(ENQ).left().frame(1).left().came(b"bad").note(What.REFUSED, "checksum").left(NAK)
    log.frame(1, 1).left().frame(1, 1, Meaning.AGAIN).left().came(b"late noise")
    assert log.of(1) == list(range(12))


def test_where_nobody_waited_for_replies_they_are_shown_after_all_frames() -> None:
    log = Log().came(ENQ).frame(1).frame(1, 1).frame(2).came(EOT)
    for _ in range(4):
        log.left()
    log.note(What.ENDED, "eot")
    assert log.of(1) == list(range(10))
    assert log.of(2) == list(range(3, 10))


def test_a_block_has_its_envelope_and_its_own_replies() -> None:
    log = Log().came(b"noise\x0b").frame(1).came(b"\x1c\r\x0b").frame(2).came(b"\x1c\r\n\n")
    log.left(b"\x0bAA 1\x1c\r", 1).left(b"\x0bCA 2\x1c\r", 2).left(b"\x0bAA 2\x1c\r", 2).left(b"else")

    def of(message: int) -> list[bytes]:
        chosen = of_block(log, lambda one: one.int >> 8 == message)
        return [event.data if isinstance(event, Came | Left) else b"frame" for event in chosen]

    assert of(1) == [b"\x0b", b"frame", b"\x1c\r", b"\x0bAA 1\x1c\r"]
    assert of(2) == [b"\x0b", b"frame", b"\x1c\r", b"\x0bCA 2\x1c\r", b"\x0bAA 2\x1c\r"]
    assert of(3) == []


def test_a_block_with_its_envelope_has_no_byte_of_its_neighbours() -> None:
    log = Log().came(b"\x0bstray").frame(1, meaning=Meaning.BLOCK).left(answers=1).came(b"\x1c\r").left(answers=2)
    assert of_block(log, lambda one: one.int >> 8 == 1) == [log[1], log[2]]

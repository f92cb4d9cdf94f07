"""From bytes to the wire log: nothing is added, left out or put in another order, and memory is bounded."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from interface.wire.frames import build_frame
from interface.wire.mllp import encode
from interface.wire.tape import EVIDENCE_BYTES, HEAD_BYTES, MOST_BESIDE, PENDING_BYTES, Tape
from interface.wire.wirelog import Came, Event, FrameCame, Left, Meaning, Noted, What

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENQ, ACK, NAK = b"\x05", b"\x06", b"\x15"


def at(milliseconds: float) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


def ident(number: int) -> UUID:
    return UUID(int=number << 24)


def frame(number: int, size: int = 20) -> bytes:
    return build_frame(number % 8, b"%d|" % number + b"x" * size + b"\r", True)


def incoming(events: list[Event], frames: dict[UUID, bytes]) -> bytes:
    """What came, as the log says it."""
    said = b""
    for event in events:
        if isinstance(event, Came):
            said += event.data
        elif isinstance(event, FrameCame) and event.meaning is not Meaning.APART:
            said += frames[event.ids[0]]
    return said


def test_a_conversation_is_in_the_order_of_the_wire() -> None:
    tape, one = Tape(), frame(1)
    tape.note(What.OPENED, at(0), "peer")
    tape.came(ENQ, at(1))
    tape.left(ACK, at(2))
    tape.came(one, at(50))
    slot = tape.frame(one, at(51))
    assert [type(event) for event in tape.take()] == [Noted, Came, Left], "the frame's fate is not known yet"
    tape.stored(slot, (ident(1),))
    tape.left(ACK, at(60))
    tape.came(b"\x04", at(70))
    tape.note(What.ENDED, at(71), "eot")
    assert tape.take() == [FrameCame(at(50), (ident(1),)), Left(at(60), ACK)]
    tape.settle()
    assert tape.take() == [Came(at(70), b"\x04"), Noted(at(71), What.ENDED, "eot")]
    assert tape.empty


def test_what_is_no_frame_is_kept_as_it_came_and_a_repeat_is_named() -> None:
    tape, one, two, bad = Tape(), frame(1), frame(2), b"\x022|nonsense\r\x03FF\r\n"
    tape.came(b"~~" + one, at(0))
    tape.stored(tape.frame(one, at(1)), (ident(1),))
    tape.left(ACK, at(2))
    tape.came(one, at(20))
    tape.left(ACK, at(21))
    tape.came(bad, at(40))
    tape.note(What.REFUSED, at(41), "checksum", len(bad))
    tape.left(NAK, at(42))
    tape.came(two, at(60))
    tape.stored(tape.frame(two, at(61)), (ident(2), ident(3)))
    assert tape.take() == [
        Came(at(0), b"~~"),
        FrameCame(at(0), (ident(1),)),
        Left(at(2), ACK),
        FrameCame(at(20), (ident(1),), Meaning.AGAIN),
        Left(at(21), ACK),
        Came(at(40), bad),
        Noted(at(41), What.REFUSED, "checksum", len(bad)),
        Left(at(42), NAK),
        FrameCame(at(60), (ident(2), ident(3))),
    ]


def test_a_block_that_came_with_its_envelope_is_one_event() -> None:
    tape, one, big = Tape(), b"MSH|1\r", b"MSH|" + b"x" * EVIDENCE_BYTES
    tape.came(encode(one), at(0))
    tape.stored(tape.frame(one, at(1)), (ident(1),))
    tape.left(ACK, at(2))
    tape.came(encode(big), at(20))
    tape.not_stored(tape.frame(big, at(21)), at(22), "store_unavailable")
    came, left, kept, missing, why = tape.take()
    assert (came, left) == (FrameCame(at(0), (ident(1),), Meaning.BLOCK), Left(at(2), ACK))
    assert kept == Came(at(20), encode(big)[:EVIDENCE_BYTES])
    assert missing == Noted(at(20), What.MISSING, count=len(encode(big)) - EVIDENCE_BYTES)
    assert why == Noted(at(22), What.NOT_STORED, "store_unavailable")
    assert tape.empty


def test_a_frame_that_is_not_stored_is_kept_with_the_reason() -> None:
    tape, one, big = Tape(), frame(1), frame(2, 100_000)
    tape.came(one, at(0))
    tape.not_stored(tape.frame(one, at(1)), at(2), "store_unavailable")
    assert tape.take() == [Came(at(0), one), Noted(at(2), What.NOT_STORED, "store_unavailable")]
    tape.came(big, at(10))
    tape.not_stored(tape.frame(big, at(11)), at(12), "store_unavailable")
    kept, missing, _ = tape.take()
    assert kept == Came(at(10), big[:EVIDENCE_BYTES])
    assert missing == Noted(at(10), What.MISSING, "", len(big) - EVIDENCE_BYTES)


def test_a_frame_that_differs_from_what_came_is_named_beside_it() -> None:
    """A vendor's framing may make a frame that was never on the wire like that."""
    tape = Tape()
    tape.came(b"<TX>R|1<CK>", at(0))
    tape.stored(tape.frame(b"R|1\r", at(1)), (ident(1),))
    tape.settle()
    assert tape.take() == [Came(at(0), b"<TX>R|1<CK>"), FrameCame(at(1), (ident(1),), Meaning.APART)]


def test_a_frame_that_belongs_to_no_message_is_kept_as_it_came() -> None:
    tape, empty = Tape(), build_frame(3, b"\r", True)
    tape.came(empty, at(0))
    tape.stored(tape.frame(empty, at(1)), ())
    assert tape.take() == [Came(at(0), empty)]


def test_a_block_that_is_longer_than_what_may_wait_is_known_by_both_ends_and_its_sum() -> None:
    big = b"MSH|" + random.Random(1).randbytes(20 * PENDING_BYTES)  # noqa: S311
    for stream, whole in ((b"\x0b" + big + b"\x1c\r", True), (b"\x0b" + big[:-9] + b"_" + big[-8:] + b"\x1c\r", False)):
        tape = Tape()
        for begin in range(0, len(stream), 65_536):
            tape.came(stream[begin : begin + 65_536], at(begin / 65_536))
        tape.stored(tape.frame(big, at(99)), (ident(1),))
        tape.settle()
        events = tape.take()
        frames = [event for event in events if isinstance(event, FrameCame)]
        assert [one.meaning for one in frames] == [Meaning.STORED if whole else Meaning.APART]
        if whole:
            assert incoming(events, {ident(1): big}) == stream
            assert frames[0].at == at(0)
        else:
            missing = sum(event.count for event in events if isinstance(event, Noted))
            assert missing + len(incoming(events, {})) == len(stream)


def test_a_block_that_was_cut_and_sent_again_is_found_at_its_second_begin() -> None:
    big = b"MSH|" + random.Random(2).randbytes(2 * PENDING_BYTES)  # noqa: S311
    tape = Tape()
    tape.came(b"\x0b" + big[: HEAD_BYTES // 2] + b"\x0b" + big + b"\x1c\r", at(0))
    tape.stored(tape.frame(big, at(1)), (ident(1),))
    events = tape.take()
    assert events == [Came(at(0), b"\x0b" + big[: HEAD_BYTES // 2] + b"\x0b"), FrameCame(at(0), (ident(1),))]


def test_a_flood_keeps_its_begin_its_end_and_its_size() -> None:
    tape = Tape()
    for number in range(1000):
        tape.came(b"%06d" % number * 2048, at(number))
        tape.note(What.REFUSED, at(number), "skipped", 3 * 4096)
    assert tape._pending.waiting <= PENDING_BYTES
    assert len(tape._beside) <= MOST_BESIDE
    tape.settle()
    events = tape.take()
    kept = incoming(events, {})
    assert kept.startswith(b"000000") and kept.endswith(b"000999")
    missing = sum(event.count for event in events if isinstance(event, Noted) and event.what is What.MISSING)
    assert missing + len(kept) == 12_288_000
    refused = [event for event in events if isinstance(event, Noted) and event.what is What.REFUSED]
    assert [one.count for one in refused] == [12_288_000], "a flood has one note"


def test_replies_without_end_do_not_wait_without_end() -> None:
    tape = Tape()
    for number in range(10 * MOST_BESIDE):
        tape.came(ENQ, at(number))
        tape.left(ACK, at(number))
    assert len(tape._beside) <= MOST_BESIDE
    tape.settle()
    events = tape.take()
    assert b"".join(event.data for event in events if isinstance(event, Left)) == ACK * 10 * MOST_BESIDE
    assert incoming(events, {}) == ENQ * 10 * MOST_BESIDE


pieces = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), st.integers(0, 60)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.just("refused"), st.integers(0, 60)),
        st.tuples(st.just("junk"), st.integers(1, 10)),
    ),
    max_size=12,
)


@given(pieces, st.lists(st.integers(1, 40), min_size=1, max_size=5), st.booleans())
def test_whatever_comes_is_in_the_log_as_it_came(what: list[tuple[str, int]], sizes: list[int], early: bool) -> None:
    """Cut into reads of any size; `early`: all is read before anything is known to be a frame."""
    stream, stored, ends = b"", dict[UUID, bytes](), list[tuple[int, bytes, UUID | None]]()
    last = b""
    for number, (kind, size) in enumerate(what):
        raw = last if kind == "again" else ENQ * size if kind == "junk" else frame(number, size)
        stream += raw
        if kind == "frame":
            stored[ident(number)] = last = raw
        if kind in ("frame", "refused"):
            ends.append((len(stream), raw, ident(number) if kind == "frame" else None))
    tape, clock, read = Tape(), 0, 0
    events: list[Event] = []
    replies = 0
    while read < len(stream) or ends:
        size = sizes[clock % len(sizes)]
        tape.came(stream[read : read + size], at(clock * 30))
        read, clock = min(read + size, len(stream)), clock + 1
        while ends and ends[0][0] <= read and (not early or read == len(stream)):
            _, raw, identifier = ends.pop(0)
            slot = tape.frame(raw, at(clock * 30))
            events += tape.take()
            if identifier:
                tape.stored(slot, (identifier,))
            else:
                tape.not_stored(slot, at(clock * 30), "store_unavailable")
            tape.left(ACK, at(clock * 30))
            replies += 1
    tape.settle()
    events += tape.take()
    assert tape.empty
    assert incoming(events, stored) == stream
    assert [event.ids[0] for event in events if isinstance(event, FrameCame) and event.meaning is Meaning.STORED] == [
        *stored
    ]
    assert sum(isinstance(event, Left) for event in events) == replies
    instants = [event.at for event in events if not isinstance(event, Noted)]
    assert instants == sorted(instants)

"""The wire log's form: what is written is read back, and nothing else raises anything but a wire error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import LinkFrameError
from interface.wire.wirelog import Came, Event, FrameCame, Left, Meaning, Noted, What, decode, encode

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MESSAGE = UUID("01890000-0000-7000-8000-000000000000")

instants = st.integers(0, 250_000_000_000_000_000).map(lambda us: EPOCH + timedelta(microseconds=us))
ids = st.uuids()
text = st.text(st.characters(codec="utf-8"), max_size=20)
events = st.lists(
    st.one_of(
        st.builds(Came, instants, st.binary(max_size=300)),
        st.builds(FrameCame, instants, st.lists(ids, max_size=3).map(tuple), st.sampled_from(Meaning)),
        st.builds(Left, instants, st.binary(max_size=300), st.none() | ids),
        st.builds(Noted, instants, st.sampled_from(What), text, st.integers(0, 1 << 40)),
    ),
    max_size=12,
)


@given(events)
def test_what_is_written_is_read_back(written: list[Event]) -> None:
    assert decode(encode(written)) == written


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_a_wire_error(data: bytes, headed: bool) -> None:
    try:
        decode(b"\x01" + AT.microsecond.to_bytes(8) + data if headed else data)
    except LinkFrameError as error:
        assert error.reason == "wire_log"


@given(events, st.data())
def test_a_piece_that_was_cut_is_found_or_ends_with_an_event(written: list[Event], data: st.DataObject) -> None:
    whole = encode(written)
    piece = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        assert decode(piece) == written[: len(decode(piece))]
    except LinkFrameError as error:
        assert error.reason == "wire_log"


def test_the_form_of_the_first_version_stays_readable() -> None:
    """Rows outlive the program that wrote them; this one is typed by hand."""
    base = (AT - EPOCH) // timedelta(microseconds=1)
    row = b"".join(
        (
            b"\x01" + base.to_bytes(8),
            b"\x10\x00\x031:2\x00",  # opened, the peer is 1:2
            b"\x00\x02\x01\x05",  # a microsecond later ENQ
            b"\x01\xc8\x01\x01\x06",  # 100 later ACK
            b"\x03\x01\x01\x81\x01",  # one earlier, by the clock, a frame; its id differs from 0 by 129
            b"\x02\x00\x01\x01A",  # an answer to the frame that differs by 1 from that
        )
    )
    after = [AT + timedelta(microseconds=step) for step in (1, 101, 100)]
    assert decode(row) == [
        Noted(AT, What.OPENED, "1:2"),
        Came(after[0], b"\x05"),
        Left(after[1], b"\x06"),
        FrameCame(after[2], (UUID(int=129),)),
        Left(after[2], b"A", UUID(int=128)),
    ]


def test_the_frames_of_a_message_take_a_few_bytes_each() -> None:
    frames = [FrameCame(AT, (UUID(int=MESSAGE.int | ordinal << 4),)) for ordinal in range(29)]
    assert len(encode(frames)) - len(encode(frames[:1])) <= 28 * 6


@pytest.mark.parametrize(
    "data", [b"\x02", b"\x01", b"\x01" + bytes(8) + b"\xff\x00", b"\x01" + b"\xff" * 8 + b"\x00\x00\x00"]
)
def test_what_is_no_log_is_refused(data: bytes) -> None:
    with pytest.raises(LinkFrameError):
        decode(data)

"""HL7 messages in LIS01-A2 frames: from MSH to the next, however they are cut, and nothing left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from interface.wire.hl7_frames import Hl7Splitter
from interface.wire.transmission import Piece, part_text

ONE = b"MSH|^~\\&|A||||1||ORU^R01|1|P|2.3.1\rPID|1\rOBX|1|NM|MSH\r"
TWO = b"MSH|^~\\&|A||||2||ORU^R01|2|P|2.3.1\rOBX|1|NM|K||4\r"


def messages(*frames: tuple[bytes, bool]) -> list[bytes]:
    """The messages of one session."""
    splitter, found = Hl7Splitter(), list[bytes]()
    for text, last in frames:
        for piece in splitter.feed(text, last):
            if piece.opens:
                found.append(b"")
            found[-1] += part_text(text, last, piece.start, piece.stop)
    return found


def test_a_message_goes_on_to_the_next_header() -> None:
    assert messages((ONE + TWO, True)) == [ONE, TWO]
    assert messages((ONE, True), (TWO, True)) == [ONE, TWO]
    assert messages(*((line + b"\r", False) for line in (ONE + TWO).split(b"\r")[:-1])) == [ONE, TWO]


def test_a_header_breaks_and_nothing_seals() -> None:
    splitter = Hl7Splitter()
    assert splitter.feed(ONE, False) == (Piece(0, len(ONE), True, False),)
    assert splitter.feed(TWO, True) == (Piece(0, len(TWO), True, False, True),)
    assert splitter.open


def test_every_cut_gives_the_same_messages() -> None:
    text = ONE + TWO
    for at in range(len(text)):
        assert messages((text[:at], False), (text[at:], True)) == [ONE, TWO], at


def test_etx_ends_a_segment_that_has_no_end() -> None:
    assert messages((ONE[:-1], True), (TWO[:-1], True)) == [ONE, TWO]
    assert messages((ONE[:-1], False), (b"", True), (TWO, True))[-1:] == [TWO]


def test_text_before_a_header_is_kept() -> None:
    assert messages((b"\r\nPID|1\r" + ONE, True)) == [b"PID|1\r", ONE]
    assert messages((b"\r\n", True)) == []


@given(st.lists(st.tuples(st.binary(max_size=30) | st.sampled_from([ONE, TWO, b"MSH", b"MS"]), st.booleans())))
def test_no_byte_is_left_out(frames: list[tuple[bytes, bool]]) -> None:
    splitter = Hl7Splitter()
    for text, last in frames:
        covered, opened = b"", False
        for piece in splitter.feed(text, last):
            covered += text[piece.start : piece.stop]
            opened = opened or piece.opens
        assert text.endswith(covered)
        assert not text[: len(text) - len(covered)].strip(b"\r\n")

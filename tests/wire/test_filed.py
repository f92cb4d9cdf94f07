"""Files into what the journal takes: whole or not at all, and nothing but a wire error for any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import LinkFrameError
from interface.wire.filed import Step, hl7_messages, lis2_steps
from interface.wire.lis01 import FrameReceived, LinkOptions, SessionEnded, build_frame
from interface.wire.mllp import encode

RECORDS = (b"H|\\^&\r", b"P|1\r", b"L|1|N\r")
FRAMES = tuple(build_frame(number, text, True) for number, text in enumerate(RECORDS, start=1))
ONE, TWO = b"MSH|^~\\&|1\rPID|1\r", b"MSH|^~\\&|2\r"


def texts(steps: tuple[Step, ...]) -> list[bytes]:
    return [step.text for step in steps if isinstance(step, FrameReceived)]


@pytest.mark.parametrize(
    "data",
    [
        b"\x05" + b"".join(FRAMES) + b"\x04",
        b"".join(FRAMES),
        b"\x05" + FRAMES[0] + FRAMES[0] + b"".join(FRAMES[1:]) + b"\x04",  # its ACK was lost
        b"\x05" + b"\r\n".join(FRAMES) + b"\r\n\x04\r\n",
    ],
)
def test_frames_are_taken_as_from_the_line(data: bytes) -> None:
    steps = lis2_steps(data, LinkOptions())
    assert texts(steps) == list(RECORDS)
    assert isinstance(steps[-1], SessionEnded)


@pytest.mark.parametrize("data", [b"".join(RECORDS), b"\xef\xbb\xbf\r\n" + b"".join(RECORDS), b"".join(RECORDS)[:-1]])
def test_records_without_frames_are_taken_byte_by_byte(data: bytes) -> None:
    steps = lis2_steps(data, LinkOptions())
    assert b"".join(texts(steps)).rstrip(b"\r") == b"".join(RECORDS).rstrip(b"\r")
    assert all(step.fn is None for step in steps if isinstance(step, FrameReceived))


def test_two_sessions_in_a_file() -> None:
    session = b"\x05" + b"".join(FRAMES) + b"\x04"
    steps = lis2_steps(session * 2, LinkOptions())
    assert texts(steps) == list(RECORDS) * 2
    assert sum(isinstance(step, SessionEnded) for step in steps) == 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (FRAMES[0].replace(b"H|", b"H!"), "frame 1 cannot be accepted: checksum"),
        (FRAMES[0] + FRAMES[2], "frame 2 cannot be accepted: gap"),
        (b"\x05" + FRAMES[0] + b"stray" + FRAMES[1], "after frame 1 there are bytes that are no record"),
        (b"\x05" + FRAMES[0] + FRAMES[1][:-6], "after frame 1 there are bytes that are no record"),
        (b"", "it holds neither frames nor an H record"),
        (b"\x05\x04", "it holds neither frames nor an H record"),
        (ONE, "after frame 0 there are bytes that are no record"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(LinkFrameError) as caught:
        lis2_steps(data, LinkOptions())
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (ONE, (ONE,)),
        (ONE + TWO, (ONE, TWO)),
        (b"\xef\xbb\xbf" + ONE, (ONE,)),
        (encode(ONE) + encode(TWO), (ONE, TWO)),
        (b"FHS|^~\\&\rBHS|^~\\&\r" + ONE + TWO + b"BTS|2\rFTS|1\r", (ONE, TWO)),
    ],
)
def test_hl7_messages_are_taken_as_sent(data: bytes, messages: tuple[bytes, ...]) -> None:
    filed = hl7_messages(data, 1000)
    assert filed.messages == messages
    assert filed.fault == ""


def test_a_batch_that_is_shorter_than_it_says_is_told() -> None:
    filed = hl7_messages(b"BHS|^~\\&\r" + ONE + b"BTS|2\r", 1000)
    assert filed.messages == (ONE,)
    assert filed.fault == "BTS-1 says 2, there are 1"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it does not begin with MSH, FHS or BHS"),
        (b"PID|1\r" + ONE, "it does not begin with MSH, FHS or BHS"),
        (b"BHS|^~\\&\rBTS|0\r", "it holds no message"),
        (b"BHS|^~\\&\r" + 20_000 * b"MSH|\r", "its batch has more than 20000 headers and trailers"),
        (b"MSH|" + b"x" * 1000, "it holds a message of more than 1000 bytes"),
        (encode(ONE) + b"\x0bMSH|", "block 2 cannot be accepted: cut"),
        (encode(ONE) + b"stray" + encode(TWO), "after block 1 there are bytes outside any block"),
    ],
)
def test_an_hl7_file_that_is_not_whole_is_refused_with_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(LinkFrameError) as caught:
        hl7_messages(data, 1000)
    assert str(caught.value) == said


PIECES = st.sampled_from([*FRAMES, *RECORDS, b"\x05", b"\x04", b"\x02", b"\x0b", b"\x1c\r", ONE, TWO, b"BHS|\r", b"\r"])


@given(st.lists(st.one_of(PIECES, st.binary(max_size=5)), max_size=12).map(b"".join))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    for read in (lambda: lis2_steps(data, LinkOptions()), lambda: hl7_messages(data, 1000)):
        try:
            read()
        except LinkFrameError as error:
            assert str(error)

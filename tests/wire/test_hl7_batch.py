"""HL7 batches taken apart: no message lost, none doubled, the counts compared."""

from __future__ import annotations

from time import process_time

from hypothesis import given
from hypothesis import strategies as st

from interface.wire.hl7 import control_id
from interface.wire.hl7_batch import MOST_LINES, envelope, is_batch, messages

ONE, TWO = b"MSH|^~\\&|A||||||ORU^R01|ID7|P|2.5\rPID|1\r", b"MSH|^~\\&|A||||||ORU^R01|ID8|P|2.5\rPID|2\r"
FILE = b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + ONE + TWO + b"BTS|2\rFTS|1\r"


def test_each_message_comes_out_as_it_was_sent() -> None:
    assert is_batch(FILE)
    assert list(messages(FILE)) == [ONE, TWO]
    assert envelope(FILE).data == b"FHS|^~\\&|A\rBHS|^~\\&|A\rBTS|2\rFTS|1\r"
    assert not envelope(FILE).fault


def test_what_is_no_batch_is_not_taken_for_one() -> None:
    assert not any(map(is_batch, (ONE, b"", b"BHSX|", b"BTS|1", ONE + FILE)))
    assert list(messages(ONE)) == [ONE]
    assert list(messages(b"NTE|1||no MSH|\r")) == []


def test_line_ends_a_mark_of_order_and_blank_lines_do_not_matter() -> None:
    for end in (b"\n", b"\r\n"):
        block = b"\xef\xbb\xbf\r\n" + FILE.replace(b"\r", end)
        assert is_batch(block)
        assert [control_id(message) for message in messages(block)] == ["ID7", "ID8"]
    assert [control_id(message) for message in messages(ONE + b"\r\r" + TWO)] == ["ID7", "ID8"]


def test_counts_that_do_not_agree_are_told() -> None:
    assert envelope(FILE.replace(b"BTS|2", b"BTS|3")).fault == "BTS-1 says 3, there are 2"
    assert envelope(FILE.replace(b"FTS|1", b"FTS|4")).fault == "FTS-1 says 4, there are 1"
    for uncounted in (b"BTS", b"BTS|", b"BTS|many"):
        assert not envelope(FILE.replace(b"BTS|2", uncounted)).fault
    two_batches = b"FHS|\rBHS|\r" + ONE + b"BTS|1\rBHS|\r" + TWO + b"BTS|1\rFTS|2\r"
    assert not envelope(two_batches).fault
    assert len(list(messages(two_batches))) == 2


def test_the_word_msh_inside_a_segment_begins_no_message() -> None:
    block = FILE.replace(b"PID|1", b"NTE|1||MSH|and BTS|9 and\x0cMSH|")
    assert len(list(messages(block))) == 2
    assert not envelope(block).fault


def test_a_batch_without_messages_or_with_too_many_is_not_taken_apart() -> None:
    """Nothing in the journal would stand for the one; of the other each line would be a message to be stored."""
    assert not is_batch(b"FHS|\rBHS|\rPID|1\rBTS|0\rFTS|1\r")
    assert is_batch(b"BHS|\r" + ONE * (MOST_LINES - 1))
    assert not is_batch(b"BHS|\r" + ONE * MOST_LINES)


def test_what_is_more_than_headers_and_trailers_is_told() -> None:
    assert not envelope(FILE).strays
    assert not envelope(FILE + b"\n\x1c\r").strays
    for place in (b"BHS|", b"FTS|"):
        assert envelope(FILE.replace(place, b"OBX|1\r" + place)).strays
    assert envelope(FILE + b"OBX|1\r").strays


def test_no_block_takes_long_to_be_looked_through() -> None:
    for line in (b"\r", b"BTS|\r", b"MSH|\r", b"x"):
        block = b"FHS|\r" + line * (4_000_000 // len(line))
        began = process_time()
        if is_batch(block):
            envelope(block)
        assert process_time() - began < 2.0


@given(
    st.lists(st.sampled_from([ONE, TWO, b"FHS|\r", b"BHS|\r", b"BTS|2\r", b"FTS|1\r", b"junk\r", b"\x0b", b"\x1c\r"]))
)
def test_every_message_comes_out_once_and_in_order_whatever_stands_around_it(parts: list[bytes]) -> None:
    block = b"".join(parts)
    expected = [control_id(part) for part in parts if part in (ONE, TWO)]
    assert [control_id(message) for message in messages(block)] == expected
    envelope(block)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_apart(data: bytes) -> None:
    for block in (data, b"FHS|" + data, FILE + data):
        is_batch(block)
        envelope(block)
        assert all(message[:3].upper() == b"MSH" for message in messages(block))

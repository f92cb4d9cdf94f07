"""MLLP framing and what it tolerates (PROTOCOLS 3.1)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.wire.mllp import (
    COMMITTED,
    EVIDENCE_BYTES,
    NOT_COMMITTED,
    BlockReceived,
    BlockRejected,
    CommitReceived,
    Decoder,
    Event,
    Skipped,
    Tolerated,
    encode,
)

ONE, TWO = b"MSH|^~\\&|A\rPID|1\r", b"MSH|^~\\&|B\r"


def feed(decoder: Decoder, *chunks: bytes) -> list[Event]:
    return [event for chunk in chunks for event in decoder.receive(chunk)]


def single(data: bytes) -> list[bytes]:
    return [bytes([code]) for code in data]


def test_several_blocks_in_one_read_come_in_order() -> None:
    assert feed(Decoder(), encode(ONE) + encode(TWO)) == [BlockReceived(ONE), BlockReceived(TWO)]


def test_one_byte_at_a_time_gives_the_same() -> None:
    assert feed(Decoder(), *single(encode(ONE) + encode(TWO))) == [BlockReceived(ONE), BlockReceived(TWO)]


def test_stray_bytes_are_skipped_and_told() -> None:
    assert feed(Decoder(), b"stray" + encode(ONE) + b"\r\n" + encode(TWO) + b"tail") == [
        Skipped(b"stray"),
        BlockReceived(ONE),
        BlockReceived(TWO),
    ]


def test_a_lone_1c_is_data() -> None:
    block = b"OBX|1|TX|\x1c\x1cx\x1c|\r"
    assert feed(Decoder(), *single(encode(block))) == [BlockReceived(block)]


def test_a_missing_0d_is_tolerated_before_the_next_block_a_silence_and_the_end() -> None:
    whole = BlockReceived(ONE, (Tolerated.MISSING_CR,))
    assert feed(Decoder(), encode(ONE)[:-1] + encode(TWO)) == [whole, BlockReceived(TWO)]
    for finish in (Decoder.silence, Decoder.eof):
        decoder = Decoder()
        assert feed(decoder, encode(ONE)[:-1]) == []
        assert decoder.ends_in_mark
        assert finish(decoder) == [whole]
        assert feed(decoder, b"\r" + encode(TWO)) == [BlockReceived(TWO)]


def test_a_block_begun_anew_rejects_the_first() -> None:
    assert feed(Decoder(), encode(ONE)[:-2] + encode(TWO)) == [BlockRejected("restarted", ONE), BlockReceived(TWO)]


def test_a_run_of_begins_is_one() -> None:
    assert feed(Decoder(), b"\x0b\x0b" + encode(ONE)) == [BlockReceived(ONE)]


def test_a_silence_in_mid_block_changes_nothing() -> None:
    decoder = Decoder()
    decoder.receive(b"\x0bMSH")
    assert decoder.silence() == []
    assert decoder.inside
    assert decoder.eof() == [BlockRejected("cut", b"MSH")]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_an_oversize_block_is_dropped_and_the_next_taken(size: int) -> None:
    stream = encode(b"x" * 10_001) + encode(b"y" * 10_000)
    decoder = Decoder(max_message_bytes=10_000)
    events = feed(decoder, *(stream[at : at + size] for at in range(0, len(stream), size)))
    assert events == [BlockRejected("oversize", b"x" * 4096), BlockReceived(b"y" * 10_000, (Tolerated.NO_FINAL_CR,))]


def test_an_empty_block_is_rejected() -> None:
    assert feed(Decoder(), encode(b"")) == [BlockRejected("empty", b"")]


@given(
    st.lists(st.one_of(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\n", ONE, encode(TWO)]), st.binary(max_size=9))),
    st.lists(st.integers(1, 30), max_size=40),
)
def test_any_bytes_in_any_chunks_give_the_same_events(parts: list[bytes], sizes: list[int]) -> None:
    data = b"".join(parts)
    edges = [0, *(edge for edge in itertools.accumulate(sizes) if edge < len(data)), len(data)]
    whole, cut, slow = Decoder(20), Decoder(20), Decoder(20)
    events = feed(whole, data) + whole.eof()
    assert feed(cut, *(data[a:b] for a, b in itertools.pairwise(edges))) + cut.eof() == events
    assert feed(slow, *single(data)) + slow.eof() == events
    assert feed(whole, encode(TWO)) == [BlockReceived(TWO)]


@given(
    st.binary(min_size=2).filter(lambda block: b"\x0b" not in block and b"\x1c\r" not in block and block[-1] != 0x1C)
)
def test_a_block_survives_its_envelope(block: bytes) -> None:
    (event,) = feed(Decoder(), encode(block))
    assert isinstance(event, BlockReceived)
    assert event.block == block


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (b"\xef\xbb\xbf" + ONE, Tolerated.BOM),
        (ONE.replace(b"\r", b"\n"), Tolerated.LF_SEGMENTS),
        (ONE.replace(b"\r", b"\r\n"), Tolerated.LF_SEGMENTS),
        (ONE[:-1], Tolerated.NO_FINAL_CR),
    ],
)
def test_what_departs_inside_a_block_is_named_and_the_bytes_are_kept(block: bytes, name: Tolerated) -> None:
    assert feed(Decoder(), encode(block)) == [BlockReceived(block, (name,))]


def test_departures_add_up() -> None:
    block = b"\xef\xbb\xbf" + ONE.replace(b"\r", b"\n")[:-1]
    (event,) = feed(Decoder(), encode(block)[:-1] + b"\x0b")
    assert event == BlockReceived(
        block, (Tolerated.MISSING_CR, Tolerated.BOM, Tolerated.LF_SEGMENTS, Tolerated.NO_FINAL_CR)
    )


def test_nuls_between_blocks_are_told_apart_from_other_bytes() -> None:
    skipped = feed(Decoder(), encode(ONE) + b"\0\0\r\n" + encode(TWO) + b"x\0" + encode(TWO))[1::2]
    assert skipped == [Skipped(b"\0\0\r\n"), Skipped(b"x\0")]
    assert [event.reason for event in skipped if isinstance(event, Skipped)] == ["stray_nuls", "stray_bytes"]


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n", b"\0", b"hello\r"])
@pytest.mark.parametrize("head", [ONE, b"FHS|^~\\&|A\r" + ONE])
def test_hl7_without_an_envelope_is_no_message_and_is_named(before: bytes, head: bytes) -> None:
    """Nothing says where it ends: half of it would be acknowledged as a whole."""
    decoder = Decoder()
    assert feed(decoder, before + head) == []
    assert decoder.pending
    assert decoder.silence() == [Skipped(before + head, unframed=True)]
    assert not decoder.pending
    assert feed(decoder, encode(TWO)) == [BlockReceived(TWO)]


def test_long_hl7_without_an_envelope_is_named_to_its_end() -> None:
    events = feed(Decoder(), ONE + b"OBX|1\r" * 2000 + b"\x0b")
    assert len(events) == 3
    assert all(isinstance(event, Skipped) and event.reason == "unframed" for event in events)


def test_stray_bytes_are_told_after_a_silence() -> None:
    decoder = Decoder()
    assert feed(decoder, b"noise") == []
    assert decoder.silence() == [Skipped(b"noise")]
    assert feed(decoder, b"\r\n") == decoder.silence() == []


def test_commit_blocks_of_release_2_are_recognised() -> None:
    stream = COMMITTED + encode(ONE) + NOT_COMMITTED
    assert feed(Decoder(), *single(stream)) == [CommitReceived(True), BlockReceived(ONE), CommitReceived(False)]


def test_what_was_skipped_before_a_block_says_nothing_of_what_comes_after_it() -> None:
    decoder = Decoder()
    head = b"MSH|" + b"x" * (EVIDENCE_BYTES - 4)
    assert decoder.receive(head) == [Skipped(head, unframed=True)]
    assert decoder.receive(b"\x0bMSH|1\r\x1c\r") == [BlockReceived(b"MSH|1\r")]
    decoder.receive(b"stray")
    assert decoder.silence() == [Skipped(b"stray")]

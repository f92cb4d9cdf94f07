"""Where messages begin and end, whatever way the frames are cut (PROTOCOLS 1.5)."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from interface.wire.frames import build_frame
from interface.wire.transmission import MessageSplitter, Piece, assemble

FIRST = b"H|\\^&|1\rP|1\rR|1|LOW^HIGH\rL|1|N\r"
SECOND = b"H|\\^&|2\rP|1\rL|1|N\r"


def split(*frames: tuple[bytes, bool]) -> list[tuple[bytes, str]]:
    """(text, how it ended) per message: sealed, broken or open."""
    splitter, messages = MessageSplitter(), list[tuple[list[tuple[bytes, int, int]], str]]()
    for fn, (text, last) in enumerate(frames):
        for piece in splitter.feed(text, last):
            if piece.breaks:
                messages[-1] = (messages[-1][0], "broken")
            if piece.opens:
                messages.append(([], "open"))
            assert messages[-1][1] == "open"
            messages[-1][0].append((build_frame(fn, text, last), piece.start, piece.stop))
            if piece.seals:
                messages[-1] = (messages[-1][0], "sealed")
    assert splitter.open == (bool(messages) and messages[-1][1] == "open")
    return [(assemble(rows), how) for rows, how in messages]


def test_one_record_per_frame() -> None:
    frames = [(record + b"\r", True) for record in FIRST.split(b"\r")[:-1]]
    assert split(*frames) == [(FIRST, "sealed")]


def test_etb_after_complete_records_joins_nothing() -> None:
    frames = [(record + b"\r", False) for record in FIRST.split(b"\r")[:-2]]
    assert split(*frames, (b"L|1|N\r", True)) == [(FIRST, "sealed")]


def test_records_cut_in_mid_field_are_joined() -> None:
    assert split((FIRST[:21], False), (FIRST[21:], True)) == [(FIRST, "sealed")]


def test_etx_ends_a_record_without_cr() -> None:
    assert split((b"H|\\^&|1", True), (b"P|1", True), (b"L|1|N", True)) == [(b"H|\\^&|1\rP|1\rL|1|N\r", "sealed")]


def test_etb_does_not_end_the_l_record() -> None:
    assert split((b"H|\\^&\rL|1|N", False)) == [(b"H|\\^&\rL|1|N", "open")]
    assert split((b"H|\\^&\rL", False), (b"|1|N", False), (b"", True)) == [(b"H|\\^&\rL|1|N\r", "sealed")]


def test_lf_and_crlf_end_records_and_stay_as_sent() -> None:
    for end in (b"\n", b"\r\n"):
        text = FIRST.replace(b"\r", end)
        assert split((text, True)) == [(text, "sealed")]


def test_a_crlf_cut_between_frames_opens_no_message() -> None:
    assert split((b"H|\\^&\r\nL|1|N\r", False), (b"\n", True)) == [(b"H|\\^&\r\nL|1|N\r", "sealed")]


def test_two_messages_in_one_frame() -> None:
    assert MessageSplitter().feed(FIRST + SECOND, True) == (
        Piece(0, len(FIRST), True, True),
        Piece(len(FIRST), len(FIRST + SECOND), True, True),
    )


def test_a_header_ends_an_open_message_incomplete() -> None:
    cut = FIRST[:-6]
    assert split((cut + SECOND, True)) == [(cut, "broken"), (SECOND, "sealed")]
    assert split((cut, True), (SECOND, True)) == [(cut, "broken"), (SECOND, "sealed")]


def test_text_before_a_header_is_a_message_of_its_own() -> None:
    assert split((b"R|1|LOST\r" + SECOND, True)) == [(b"R|1|LOST\r", "broken"), (SECOND, "sealed")]
    assert split((FIRST + b"C|1|late\r", True)) == [(FIRST, "sealed"), (b"C|1|late\r", "open")]


def test_words_that_begin_like_records_are_no_records() -> None:
    text = b"H|\\^&\rC|1|I|see\rHIV NEGATIVE\rLIPEMIC\rL|1|N\r"
    assert split((text, True)) == [(text, "sealed")]


def test_delimiters_are_the_messages_own() -> None:
    text = b"h!@^\\!GX\rC!1!x\rL|not ours\rl!1!N\r"
    assert split((text, True)) == [(text, "sealed")]


def test_a_fork_leaves_the_original_where_it_was() -> None:
    splitter = MessageSplitter()
    splitter.feed(b"H|\\^&\r", True)
    assert splitter.fork().feed(b"L|1|N\r", True) == (Piece(0, 6, False, True),)
    assert splitter.open
    assert splitter.feed(b"L|1|N\r", True) == (Piece(0, 6, False, True),)


@given(st.lists(st.integers(1, len(FIRST + SECOND) - 1), max_size=12))
def test_every_cut_gives_the_same_messages(cuts: list[int]) -> None:
    text, edges = FIRST + SECOND, sorted({0, *cuts, len(FIRST + SECOND)})
    frames = [(text[a:b], b == len(text)) for a, b in itertools.pairwise(edges)]
    assert split(*frames) == [(FIRST, "sealed"), (SECOND, "sealed")]


@given(st.lists(st.tuples(st.text("HLhlPR|^\r\n", max_size=9).map(str.encode), st.booleans()), max_size=9))
def test_nothing_but_blank_record_ends_is_left_out(frames: list[tuple[bytes, bool]]) -> None:
    splitter = MessageSplitter()
    for text, last in frames:
        kept, at = bytearray(text), 0
        for piece in splitter.feed(text, last):
            assert at <= piece.start <= piece.stop
            kept[piece.start : piece.stop] = b"." * (piece.stop - piece.start)
            at = piece.stop
        assert set(kept) <= set(b".\r\n")

"""The text form of a conversation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import LinkFrameError
from interface.wire.trace import Direction, Trace, TraceStep, escape, format_trace, parse_trace, unescape


def test_control_characters_are_written_by_name() -> None:
    trace = parse_trace("# invented\n> <ENQ>\n< <ACK>\n\n# a comment\n> <STX>1H|\\^&<CR><ETX>E5<CR><LF>\n")
    assert trace.provenance == "invented"
    assert trace.steps == (
        TraceStep(Direction.ANALYZER, b"\x05"),
        TraceStep(Direction.HOST, b"\x06"),
        TraceStep(Direction.ANALYZER, b"\x021H|\\^&\r\x03E5\r\n"),
    )
    assert trace.bytes_of(Direction.ANALYZER) == b"\x05\x021H|\\^&\r\x03E5\r\n"


def test_angle_brackets_in_a_value_stay_text() -> None:
    assert unescape("R|1||< 1.20|<LOW>|<0xe9><LT>CR>") == b"R|1||< 1.20|<LOW>|\xe9<CR>"


@pytest.mark.parametrize("text", ["", "> <ENQ>\n", "# told\nENQ\n"])
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(LinkFrameError):
        parse_trace(text)


@given(st.lists(st.tuples(st.sampled_from(list(Direction)), st.binary(min_size=1, max_size=40)), max_size=8))
def test_a_trace_survives_writing_and_reading(steps: list[tuple[Direction, bytes]]) -> None:
    trace = Trace("made up", tuple(TraceStep(*step) for step in steps))
    assert parse_trace(format_trace(trace)) == trace
    assert all(unescape(escape(data)) == data for _, data in steps)

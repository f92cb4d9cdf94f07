"""HL7 messages written: what is written reads back equal, here and by another implementation."""

from __future__ import annotations

import hl7 as second_opinion
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import SegmentError
from interface.wire.hl7 import DEFAULT_DELIMITERS, Delimiters, FieldState, check_syntax, parse
from interface.wire.hl7_write import NULL, Components, NewSegment, Repeats, Subcomponents, Value, components, write
from interface.wire.mllp import BlockReceived, Decoder, encode

CHARSETS = {"UNICODE UTF-8": "utf-8", "8859/1": "latin-1", "8859/15": "iso8859-15", "GB 18030-2000": "gb18030"}


def header(charset: str = "UNICODE UTF-8", version: str = "2.5.1") -> NewSegment:
    kind = components("OML", "O21", "OML_O21")
    return NewSegment(
        "MSH",
        ("Labora", "LAB", "A", "B", "20260105", "", kind, "ID7", "P", version, "", "", "", "", "", charset),
    )


def test_a_message_is_written_as_the_standard_has_it() -> None:
    block = write([header(), NewSegment("PID", ("1", "", components("P1", "", "", "LAB"), "", NULL, "", ""))])
    assert block == (
        b'MSH|^~\\&|Labora|LAB|A|B|20260105||OML^O21^OML_O21|ID7|P|2.5.1||||||UNICODE UTF-8\rPID|1||P1^^^LAB||""\r'
    )
    assert check_syntax(block).type == "OML^O21"


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("a|b^c&d~e\\f", "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f"),
        ("one\rtwo\x0bthree\x1c", "one\\X0D\\two\\X0B\\three\\X1C\\"),
        ('""', "\\X2222\\"),
        (Repeats(("1", components("2", "x"))), "1~2^x"),
        (components("a", Subcomponents(("b", "c|d")), ""), "a^b&c\\F\\d"),
        (Repeats(("", "2")), "~2"),
    ],
)
def test_fields_are_escaped_and_joined(field: Value, written: str) -> None:
    assert parse(write([header(), NewSegment("NTE", (field,))])).segments[1].field(1) == written


LEAF = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MARKS = st.sampled_from(
    [DEFAULT_DELIMITERS, Delimiters("!", ":", "*", "%", "@"), Delimiters("|", "^", "~", "\\", "&", "#")]
)


@st.composite
def trees(draw: st.DrawFn) -> list[list[list[list[str]]]]:
    """Fields of repetitions of components of sub-components."""
    subs = st.lists(LEAF, min_size=1, max_size=3)
    return draw(st.lists(st.lists(st.lists(subs, min_size=1, max_size=3), min_size=1, max_size=3), max_size=4))


def built(field: list[list[list[str]]]) -> Value:
    return Repeats(tuple(Components(tuple(Subcomponents(tuple(subs)) for subs in parts)) for parts in field))


@given(trees(), MARKS)
def test_every_leaf_reads_back_equal(fields: list[list[list[list[str]]]], marks: Delimiters) -> None:
    block = write([header(), NewSegment("ZXY", tuple(map(built, fields)))], marks)
    (event,) = Decoder().receive(encode(block))
    assert isinstance(event, BlockReceived)
    assert event.block == block, "no text breaks the block"
    message = check_syntax(block)
    assert (message.delimiters, message.charset_fault, len(message.segments)) == (marks, "", 2)
    segment = message.segments[1]
    for number, field in enumerate(fields, 1):
        for repeat, parts in enumerate(field, 1):
            for component, subs in enumerate(parts, 1):
                for sub, leaf in enumerate(subs, 1):
                    assert segment.value(number, component, repeat, sub) == leaf


@given(
    st.sampled_from(sorted(CHARSETS)),
    st.text("aZ|^&~\\\r\n\t \u00e4\u00df\u00a3\u20ac\u4e2d\u6587\u0416\U0001f9ea", max_size=20),
)
def test_text_reads_back_in_every_charset_that_has_it(charset: str, text: str) -> None:
    codec = CHARSETS[charset]
    text = text.encode(codec, "ignore").decode(codec)
    message = parse(write([header(charset), NewSegment("NTE", ("1", "", text))], encoding=codec))
    assert message.charset_fault == ""
    assert message.segments[1].value(3) == text


def test_text_that_a_charset_does_not_have_is_not_sent_changed() -> None:
    with pytest.raises(SegmentError) as caught:
        write([header("8859/1"), NewSegment("PID", ("1", "", "\u0416"))], encoding="latin-1")
    assert (caught.value.location, caught.value.code) == ("PID^1", 102)


@pytest.mark.parametrize("name", ["", "P", "PIDX", "pid", "P|D", "1ID"])
def test_what_is_no_segment_id_is_not_written(name: str) -> None:
    with pytest.raises(SegmentError):
        write([header(), NewSegment(name)])


def test_the_three_states_of_a_field_can_be_written() -> None:
    (_, pid) = parse(write([header(), NewSegment("PID", ("", NULL, "x"))])).segments
    assert [pid.state(n) for n in (1, 2, 3, 4)] == [
        FieldState.EMPTY,
        FieldState.NULL,
        FieldState.VALUED,
        FieldState.ABSENT,
    ]


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=10), min_size=1, max_size=6))
def test_another_implementation_reads_what_is_written(leaves: list[str]) -> None:
    block = write([header(), NewSegment("ZXY", (*leaves, "end"))])  # the other one strips the end of a message
    theirs, ours = second_opinion.parse(block.decode()), parse(block)
    for number in range(1, len(leaves) + 1):
        assert str(theirs[1][number]) == ours.segments[1].field(number)
        assert theirs.unescape(str(theirs[1][number])) == leaves[number - 1]

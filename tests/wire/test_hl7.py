"""HL7 v2 reading: delimiters, numbering, escapes, charsets, field states, syntax checks."""

from __future__ import annotations

from time import process_time

import hl7 as second_opinion
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import SegmentError, UnsupportedMessage
from interface.wire.charsets import named_charset, raw_header
from interface.wire.hl7 import (
    MOST_SEGMENTS,
    Delimiters,
    FieldState,
    check_syntax,
    control_id,
    escape,
    header_of,
    in_order,
    message_type,
    parse,
    read_header,
    unescape,
)

HEAD = "MSH|^~\\&|LabOne|LAB|Labora|H|20260105||ORU^R01^ORU_R01|ID7|P|2.5.1"
ORU = (
    HEAD + "\rPID|1||P1^^^LAB^MR~P2^^^NAT||Testa^Anna\rOBR|1||F|GLU^Glucose^L\r"
    'OBX|1|NM|2345-7^Glucose^LN||5.10|mmol/L|3.9-6.1|N~A|||F||""\r'
    "OBX|2|ST|X&sub2^Y||C:\\PATH\\E\\x|||||\r"
)


def test_msh_is_numbered_from_its_own_separator() -> None:
    header = parse(ORU).header
    assert [header.field(n) for n in (1, 2, 3, 10, 12)] == ["|", "^~\\&", "LabOne", "ID7", "2.5.1"]
    assert header.value(2) == "^~\\&"
    assert header.value(9, 2) == "R01"
    assert parse(ORU).type == "ORU^R01"


def test_repetitions_components_and_subcomponents_are_split_on_access() -> None:
    message = parse(ORU)
    pid, (first, second) = message.first("PID"), message.all("OBX")
    assert pid is not None
    assert [pid.value(3, 1, n) for n in (1, 2, 3)] == ["P1", "P2", ""]
    assert pid.value(3, 4, 2) == "NAT"
    assert first.value(3, 3) == "LN"
    assert first.repeats(8) == ["N", "A"]
    assert [second.value(3, 1, 1, n) for n in (1, 2, 3)] == ["X", "sub2", ""]
    assert second.components(3) == ["X&sub2", "Y"]


@given(
    st.integers(1, 30), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["~", "&", "\\X\\"])
)
def test_the_short_way_reads_as_the_long_way(
    field: int, component: int, repeat: int, subcomponent: int, extra: str
) -> None:
    """A message without repetitions, escapes and sub-components is read by a shorter path: it must not differ."""
    body = "\rOBX|1|NM|2345-7^Glucose^LN||5.10|mmol/L^^UCUM|3.9-6.1|N|||F|||20260105"
    short, long = parse(HEAD + body).first("OBX"), parse(HEAD + body + "\rZZZ|" + extra).first("OBX")
    assert short is not None
    assert long is not None
    place = (field, component, repeat, subcomponent)
    assert short.value(*place) == long.value(*place)


def test_three_states_of_a_field_are_told_apart() -> None:
    obx = next(parse(ORU).all("OBX"))
    assert obx.state(40) is FieldState.ABSENT
    assert obx.state(4) is FieldState.EMPTY
    assert obx.state(13) is FieldState.NULL
    assert obx.state(5) is FieldState.VALUED
    assert obx.value(13) == "", "the explicit null is no text of two quote characters"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"\X0D0A\x", "\r\nx"),
        (r"one\.br\two\.sp 2\three", "one\ntwo\nthree"),
        (r"\H\loud\N\ quiet", "loud quiet"),
        (r"\Zab\ \C2842\ stay", r"\Zab\ \C2842\ stay"),
        (r"C:\DIR\FILE", r"C:\DIR\FILE"),
        (r"10\S\3", "10^3"),
        (r"lone \ character", r"lone \ character"),
        (r"\X4\ \XZZ\ ", r"\X4\ \XZZ\ "),
        (r"\Q\F\ ", r"\Q| "),
    ],
)
def test_known_escapes_are_resolved_and_everything_else_is_data(sent: str, meant: str) -> None:
    assert unescape(sent) == meant


def test_hex_escapes_are_bytes_of_the_message_charset() -> None:
    block = (HEAD + "||||||UNICODE UTF-8\rNTE|1||\\XC3BC\\\r").encode()
    note = parse(block).first("NTE")
    assert note is not None
    assert note.value(3) == "\u00fc"


@given(st.text(max_size=30), st.sampled_from([Delimiters(), Delimiters("!", ":", "*", "%", "@")]))
def test_an_escaped_leaf_reads_back(text: str, delimiters: Delimiters) -> None:
    assert unescape(escape(text, delimiters), delimiters, "utf-8") == text


def test_unusual_and_longer_encoding_characters_are_read() -> None:
    odd = parse("MSH!:*%@!A!!!!!!ORU:R01!1!P!2.7\rOBX!1!NM!a:b!!1*2\r")
    assert odd.type == "ORU^R01"
    obx = odd.first("OBX")
    assert obx is not None
    assert obx.value(3, 2) == "b"
    assert obx.repeats(5) == ["1", "2"]
    assert parse("MSH|^~\\&#|A||||||ORU^R01|1|P|2.7\r").header.value(3) == "A"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r", "\n\n"])
def test_line_ends_blank_lines_and_a_mark_of_order_do_not_matter(end: str) -> None:
    block = b"\xef\xbb\xbf" + ORU.replace("\r", end).encode()
    assert [segment.id for segment in check_syntax(block).segments] == ["MSH", "PID", "OBR", "OBX", "OBX"]


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("UNICODE UTF-8", "utf-8"),
        ("utf-8", "utf-8"),
        ("UNICODE", "utf-8"),
        ("8859/1", "latin-1"),
        ("8859/15", "iso8859-15"),
        ("", "utf-8"),
        ("", "latin-1"),
        ("ASCII", "utf-8"),
        ("ASCII", "latin-1"),
        ("KLINGON", "utf-8"),
    ],
)
def test_names_survive_the_charset_however_it_is_declared(charset: str, codec: str) -> None:
    block = f"{HEAD}||||||{charset}\rPID|1||1||M\u00fcller^Zo\u00eb\r".encode(codec)
    pid = parse(block).first("PID")
    assert pid is not None
    assert pid.value(5) == "M\u00fcller"


def test_a_charset_that_is_not_what_it_says_is_reported() -> None:
    assert parse(f"{HEAD}||||||UNICODE UTF-8\rNTE|1||\u00fc\r".encode("latin-1")).charset_fault
    assert parse(f"{HEAD}||||||KLINGON\r".encode()).charset_fault
    assert not parse(f"{HEAD}||||||UNICODE UTF-8\rNTE|1||\u00fc\r".encode()).charset_fault
    assert named_charset(f"{HEAD}||||||8859/1~ISO IR87\r".encode()) == "8859/1"


@pytest.mark.parametrize("more", ["", "x"])  # the first had an even number of bytes
def test_a_header_that_can_be_read_is_not_in_two_bytes_a_character(more: str) -> None:
    """Every second message was refused: its bytes, two by two, were letters of some script, and no MSH."""
    message = parse(f"{HEAD}||||||UNICODE UTF-16\rNTE|1||\u00fc{more}\r".encode())
    assert [segment.id for segment in message.segments] == ["MSH", "NTE"]
    assert message.segments[1].value(3) == f"\u00fc{more}"
    assert message.charset_fault == "the character set 'UNICODE UTF-16' is not known"


def test_the_peers_own_charset_comes_before_the_last_resort() -> None:
    pid = parse(f"{HEAD}\rPID|1||1||\u0416\r".encode("cp1251"), "cp1251").first("PID")
    assert pid is not None
    assert pid.value(5) == "\u0416"


def test_bytes_of_no_declared_charset_are_windows_text_and_none_is_lost() -> None:
    note = parse(f"{HEAD}\rNTE|1||".encode() + b"\x80 5 \x93x\x94\r").first("NTE")
    assert note is not None
    assert note.value(3) == "\u20ac 5 \u201cx\u201d"
    undefined = f"{HEAD}\rNTE|1||".encode() + b"\x81\xfc\r"
    assert parse(undefined).segments[1].text.encode("latin-1") == b"NTE|1||\x81\xfc"


def test_the_peers_charset_that_does_not_fit_is_reported() -> None:
    block = f"{HEAD}\rNTE|1||\u00fc\r".encode("latin-1")
    assert parse(block, "utf-8").charset_fault == "the bytes are not utf-8"
    assert not parse(block, "latin-1").charset_fault
    assert not parse(block).charset_fault, "nobody said what they are"


def test_the_truncation_character_is_read_and_its_escape_resolved() -> None:
    """HL7 v2.7 2.5.5.2."""
    message = parse("MSH|^~\\&#|A||||||ORU^R01|1|P|2.7\rNTE|1||long te#\rNTE|2||item \\P\\5\r")
    assert message.delimiters == Delimiters(truncation="#")
    assert [one.value(3) for one in message.all("NTE")] == ["long te#", "item #5"]
    assert message.delimiters.definition == "^~\\&#"
    assert parse("MSH|^~\\&|A\rNTE|1||\\P\\\r").segments[1].value(3) == "\\P\\", "unknown before 2.7"
    assert parse("MSH|^~\\&^|A\r").delimiters == Delimiters(), "one that is another delimiter is none"


@pytest.mark.parametrize(
    ("block", "location", "code"),
    [
        (b"", "MSH^1", 100),
        (b"PID|1\r", "MSH^1", 100),
        (b"MSH", "MSH^1^1", 101),
        (b"MSH|\r", "MSH^1^2", 101),
        (b"MSH|^^\\&|A||||||ORU^R01|1|P|2.5\r", "MSH^1^2", 101),
        (b"MSH|^~\\&|A|||||||1|P|2.5\r", "MSH^1^9", 101),
        (b"MSH|^~\\&|A||||||ORU^R01||P|2.5\r", "MSH^1^10", 101),
        (b"MSH|^~\\&|A||||||ORU^R01|" + b"9" * 200 + b"|P|2.5\r", "MSH^1^10", 104),
        (HEAD.encode() + b"\rgarbage line\r", "GAR^1", 100),
        (HEAD.encode() + b"\r??|1\r", "???^1", 100),
        (HEAD.encode() + b"\rOBX^1|NM\r", "OBX^1", 100),
        (HEAD.encode() + b"\r" + HEAD.encode() + b"\r", "MSH^2", 100),
        (HEAD.encode() + b"\rOBX|1|TX|A||half of i\rADD\rDSC|W4|F\r", "ADD^1", 100),
        (HEAD.encode() + b"\rADD|t||||||F\rOBX|2|NM|B||1\r", "ADD^1", 100),
    ],
)
def test_header_and_segment_faults_are_located(block: bytes, location: str, code: int) -> None:
    with pytest.raises(SegmentError) as caught:
        check_syntax(block)
    assert (caught.value.location, caught.value.code) == (location, code)


LINES = st.sampled_from(
    ["OBX|1|NM", "OBX", "OBX^1", "OB", "PID|1", "ZX9|", "9ZX|", "msh|1", "MSH", "MSH|2", " ", "", "a", "ADD"]
)
ENDS = st.sampled_from(["\r", "\n", "\r\n", "\r\r", ""])


@given(st.lists(st.tuples(ENDS, LINES), max_size=6), ENDS)
def test_the_quick_look_at_segments_finds_what_reading_them_finds(lines: list[tuple[str, str]], end: str) -> None:
    block = (HEAD + "\r" + "".join(before + line for before, line in lines) + end).encode()
    try:
        check_syntax(block)
        good = True
    except SegmentError:
        good = False
    assert in_order(block, raw_header(block)) == good


@pytest.mark.parametrize(
    ("old", "new", "location", "code"),
    [("|P|2.5.1", "|Z|2.5.1", "MSH^1^11", 202), ("|2.5.1", "|3.0", "MSH^1^12", 203)],
)
def test_what_is_not_supported_is_said_apart(old: str, new: str, location: str, code: int) -> None:
    with pytest.raises(UnsupportedMessage) as caught:
        check_syntax(ORU.replace(old, new).encode())
    assert (caught.value.location, caught.value.code) == (location, code)


@pytest.mark.parametrize("definition", ["\x80^~\\&", "\u00a7~\\&", "^~\\\u00a7"])
@pytest.mark.parametrize("codec", ["utf-8", "latin-1"])
def test_delimiters_are_ascii(definition: str, codec: str) -> None:
    """Others would be one delimiter or two by the charset that is tried, and the segments would divide otherwise."""
    with pytest.raises(SegmentError) as caught:
        check_syntax(ORU.replace("^~\\&", definition, 1).encode(codec))
    assert caught.value.location == "MSH^1^2"


@pytest.mark.parametrize("version", ["2.1", "2.3.1", "2.9", ""])
def test_every_version_two_is_read(version: str) -> None:
    assert check_syntax(ORU.replace("|2.5.1", f"|{version}").encode()).version == version


def test_unknown_segments_and_extra_fields_are_no_fault() -> None:
    check_syntax((ORU + "ZXY|1|what\rOBX|3" + "|" * 60 + "\r").encode())


@pytest.mark.parametrize("cut", range(4, 30))
def test_a_segment_that_is_continued_is_the_segment_that_it_was(cut: int) -> None:
    """HL7 v2.5.1 2.10.2.1: a segment may end anywhere, and what is behind ADD and its separator belongs to it."""
    whole = "OBX|1|NM|GLU^^L||105|mmol/L||||F"
    for parts in ((whole[:cut], whole[cut:]), (whole[:cut], whole[cut : cut + 1], whole[cut + 1 :])):
        block = HEAD + "\r" + "\rADD|".join(parts) + "\rNTE|1\r"
        assert not in_order(block.encode(), HEAD.encode())  # it is read
        assert [segment.text for segment in check_syntax(block.encode()).segments] == [HEAD, whole, "NTE|1"]


def test_a_segment_in_many_parts_takes_no_longer_than_in_one() -> None:
    began = process_time()
    block = HEAD + "\rOBX|1|TX|A||" + "\rADD|0123456789" * (MOST_SEGMENTS - 3) + "\r"
    assert len(parse(block).segments[1].field(5)) == 10 * (MOST_SEGMENTS - 3)
    assert process_time() - began < 2.0


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused_with_a_located_error(data: bytes) -> None:
    for block in (data, b"MSH|^~\\&|" + data, ORU.encode() + data):
        assert isinstance(control_id(block), str)
        assert isinstance(message_type(block), str)
        try:
            check_syntax(block)
        except (SegmentError, UnsupportedMessage) as error:
            assert error.location.startswith(error.location[:3])
            assert len(error.location.split("^")[0]) == 3


def test_ids_are_read_without_parsing() -> None:
    assert control_id(ORU.encode()) == "ID7"
    assert message_type(ORU.encode()) == "ORU^R01"
    assert control_id(b"") == message_type(b"") == control_id(b"MSH|^~\\&") == ""


def test_another_implementation_reads_the_same_values() -> None:
    theirs, ours = second_opinion.parse(ORU), parse(ORU)
    for index, segment in enumerate(ours.segments):
        for number in range(1, segment.field_count + 1):
            assert str(theirs[index][number]) == segment.field(number), (segment, number)
    for path, ours_read in (("PID.F5.R1.C2", ours.segments[1].value(5, 2)), ("OBX.F3.R1.C2", "Glucose")):
        assert theirs[path] == ours_read


def test_locations_are_those_of_err_2() -> None:
    message = parse(ORU)
    second = list(message.all("OBX"))[1]
    assert message.location(second, 5) == "OBX^2^5"
    assert message.location(second, 5, 1, 2) == "OBX^2^5^1^2"


def test_locating_every_segment_of_a_long_message_takes_no_longer_than_reading_it() -> None:
    """Counting anew for each took minutes for 16 MB, and all links waited."""
    message = parse(b"MSH|^~\\&|A\r" + b"OBX|1\r" * 40_000)
    began = process_time()
    assert message.location(message.segments[-1]) == "OBX^40000"
    assert len({message.location(segment) for segment in message.segments}) == 40_001
    assert process_time() - began < 10.0


@pytest.mark.parametrize("charset", [b"", b"|||||ISO IR87"])
@pytest.mark.parametrize("line", [b"A\r", b"OBX\r", b"\r", b"\n", b"MSH|\r"])
def test_what_has_more_lines_than_any_message_is_refused_before_they_are_read(charset: bytes, line: bytes) -> None:
    """16 MB of two bytes a line took 13 s and 1.3 GB, in which no link was answered."""
    block = ORU.encode().replace(b"|P|2.5.1", b"|P|2.5.1" + charset, 1) + line * 2_000_000
    began = process_time()
    with pytest.raises(SegmentError) as caught:
        check_syntax(block)
    assert process_time() - began < 0.5
    assert caught.value.location == "MSH^1"


def test_a_message_of_as_many_lines_as_may_be_is_read() -> None:
    block = HEAD.encode() + b"\rOBX|1" * (MOST_SEGMENTS - 1) + b"\r"
    assert check_syntax(block).control_id == "ID7"
    with pytest.raises(SegmentError):
        check_syntax(block + b"NTE|1\r")


def test_an_endless_header_is_read_as_far_as_it_may_say_something() -> None:
    assert read_header(HEAD.encode() + b"|" * 1_000_000).header.field_count < 70_000


@given(
    st.sampled_from([HEAD, HEAD + "||||||UNICODE UTF-16", HEAD + "||||||8859/1", "MSH|^"]), ENDS, st.binary(max_size=40)
)
def test_the_header_is_what_it_is_in_the_whole_message(header: str, end: str, rest: bytes) -> None:
    for block in (header.encode() + end.encode() + rest, rest):
        try:
            whole = parse(block, "gb18030").header
        except SegmentError as error:
            with pytest.raises(SegmentError) as caught:
                header_of(block, "gb18030")
            assert str(caught.value) == str(error)
        else:
            alone = header_of(block, "gb18030")
            assert (alone.text, alone.delimiters) == (whole.text, whole.delimiters)
            assert [alone.value(n, 1) for n in range(1, 20)] == [whole.value(n, 1) for n in range(1, 20)]

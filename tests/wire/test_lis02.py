"""LIS02-A2 records: delimiters, fields, escapes, hierarchy, writing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import RecordError
from interface.wire.lis02 import (
    DEFAULT_DELIMITERS,
    Delimiters,
    escape,
    header_control_id,
    parse,
    unescape,
    write_message,
    write_record,
)

SMALL = b"H|\\^&|M7||Maker^Model\rP|1|PID\rO|1|S1\rR|1|^^^GLU|5.10\rL|1|N\r"

leaves = st.text(st.characters(codec="latin-1"), max_size=12)
components = st.lists(leaves, min_size=1, max_size=4)
delimiter_sets = st.sampled_from(
    [
        DEFAULT_DELIMITERS,
        Delimiters("|", "@", "^", "\\"),
        Delimiters("|", "`", "^", "&"),
        Delimiters("!", "~", ":", "%"),
    ]
)


def test_fields_count_the_type_letter_as_the_first() -> None:
    record = parse(b"H|\\^&\rR|1|^^^GLU^x|5.10|mmol/L\r").records[1]
    assert record.field(1) == "R"
    assert record.field(3) == "^^^GLU^x"
    assert record.component(3, 4) == "GLU"
    assert record.component(4) == "5.10"
    assert record.field(60) == record.component(60, 2) == record.component(3, 9) == ""


def test_each_message_brings_its_own_delimiters() -> None:
    record = parse(b"H|@^\\|1\rR|1|a^b@c^d|1&2\r").records[1]
    assert record.component(3, 2, repeat=2) == "d"
    assert record.component(4) == "1&2", "the escape character is the backslash here"


def test_repetitions_split_before_components() -> None:
    record = parse(b"H|\\^&\rO|1|S||^^^A\\^^^B\\^^^C\r").records[1]
    assert [record.component(5, 4, n) for n in (1, 2, 3, 4)] == ["A", "B", "C", ""]
    assert record.repeats(5) == ["^^^A", "^^^B", "^^^C"]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("PNG&R&2026&R&x.PNG", "PNG\\2026\\x.PNG"),
        ("a&F&b&S&c&E&d", "a|b^c&d"),
        ("&X41&&X0D&", "A\r"),
        ("&H&loud&N&", "loud"),
        ("R&D", "R&D"),
        ("a&|&b", "a&|&b"),
        ("&&&", "&&&"),
        ("&Q&F&", "&Q|"),
        ("A&B&C", "A&B&C"),
        ("&X4&", "&X4&"),
    ],
)
def test_known_escapes_are_resolved_and_everything_else_is_data(sent: str, meant: str) -> None:
    assert unescape(sent) == meant


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("a&|&b", ["a|b"]),
        ("a&\\&b", ["a\\b"]),
        ("a&^&b", ["a^b"]),
        ("a&&&b", ["a&b"]),
        ("&|&&&&", ["|&"]),
        ("&F&|&S&", ["|", "^"]),
        ("a&|b&", ["a&", "b&"]),
    ],
)
def test_a_vendors_escaped_delimiters_are_read_where_a_driver_says_so(sent: str, meant: list[str]) -> None:
    message = parse(f"H|\\^&\rC|{sent}\rL|1\r", literal_escapes=True)
    assert [message.records[1].component(2 + at) for at in range(len(meant) + 1)] == [*meant, ""]
    assert not message.faults


@pytest.mark.parametrize(("sent", "fault"), [("a&|&b", 1), ("&&&", 1), ("&F&|&S&", 0), ("R&D|x", 0), ("a&|b&", 0)])
def test_else_they_are_a_fault_of_their_record(sent: str, fault: int) -> None:
    message = parse(f"H|\\^&|||&|&\rR|1|{sent}\rL|1\r")
    assert [each.location for each in message.faults] == ["R 1"] * fault
    assert message.records[1].text == f"R|1|{sent}"


def test_one_record_with_an_escape_or_a_repetition_changes_nothing_in_the_others() -> None:
    message = parse("H|\\^&\rR|1|a^b|1\\2\rR|2|a^&S&|2\rR|3|a^b|3\r")
    read = [[record.component(3, 2), record.component(4), record.component(4, 1, 2)] for record in message.records[1:]]
    assert read == [["b", "1", "2"], ["^", "2", ""], ["b", "3", ""]]


def test_a_second_header_is_read_as_the_first_is() -> None:
    """Found by the fuzzer: its field 2 becomes the definition, which has all marks, and was taken for plain text."""
    first, second = parse("H|\\^&|1\rH||2\r").records
    assert second.field(2) == first.field(2) == "\\^&"
    for record in (first, second):
        assert [record.component(2, 1, repeat) for repeat in (1, 2, 3)] == ["", "", ""]
        assert record.component(2, 2, 2) == record.components(2, 2)[1] == "&"


def test_an_escaped_delimiter_never_splits() -> None:
    record = parse(b"H|\\^&\rR|1|x&S&y^z\r").records[1]
    assert record.components(3) == ["x^y", "z"]


def test_comments_belong_to_the_record_before_them() -> None:
    message = parse(
        b"H|\\^&\rC|1|I|head\rP|1\rC|1|I|patient\rO|1|S\rC|1|I|order\rR|1|^^^A|1\rC|1|I|first\rM|1|RAW\r"
        b"R|2|^^^B|2\rC|1|I|second\rC|2|I|third\rP|2\rO|1|T\rR|1|^^^A|3\rL|1|N\r"
    )
    tree = message.tree()
    assert [c.field(4) for c in tree.comments] == ["head"]
    first, second, end = tree.children
    assert (first.record.type, second.record.type, end.record.type) == ("P", "P", "L")
    assert [c.field(4) for c in first.comments] == ["patient"]
    order = first.children[0]
    assert [c.field(4) for c in order.comments] == ["order"]
    assert [[c.field(4) for c in r.comments] for r in order.children] == [["first"], ["second", "third"]]
    assert [m.field(3) for m in order.children[0].manufacturer] == ["RAW"]
    assert [r.record.field(4) for r in second.children[0].children] == ["3"]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_any_line_end_ends_a_record(end: bytes) -> None:
    message = parse(SMALL.replace(b"\r", end))
    assert [record.type for record in message.records] == ["H", "P", "O", "R", "L"]
    assert message.complete
    assert not message.faults


def test_lower_case_type_letters_are_read() -> None:
    assert [r.type for r in parse(b"h|\\^&\rp|1\rl|1\r").records] == ["H", "P", "L"]


def test_locations_count_records_of_a_kind() -> None:
    message = parse(b"H|\\^&\rP|1\rO|1|S\rR|1|a|1\rR|2|b|2\rL|1\r")
    assert [record.location for record in message.records] == ["H 1", "P 1", "O 1", "R 1", "R 2", "L 1"]


@pytest.mark.parametrize("bad", [b"", b"\r\r", b"P|1\r", b"H\r", b"HA^B\r", b"H |\\^&\r", b"H|abc\r"])
def test_a_message_without_a_usable_header_is_refused_with_its_place(bad: bytes) -> None:
    with pytest.raises(RecordError) as caught:
        parse(bad)
    assert caught.value.location


def test_tolerated_headers_are_reported() -> None:
    doubled = parse(b"H|\\\\^&|1\rR|1|a^b\r")
    assert doubled.records[1].component(3, 2) == "b"
    assert [fault.location for fault in doubled.faults] == ["H 1 field 2"]
    short = parse(b"H|\\^|1\rR|1|a&S&b\r")
    assert short.records[1].component(3) == "a^b"
    assert short.faults


def test_strange_records_are_kept_and_reported() -> None:
    message = parse(b"H|\\^&\rX|1|what\rP1|2\rL|1\r")
    assert [record.type for record in message.records] == ["H", "X", "P", "L"]
    assert [fault.location for fault in message.faults] == ["X 1", "P 1"]


def test_bytes_outside_the_charset_fall_back_and_are_reported() -> None:
    message = parse("H|\\^&\rP|1|||M\u00fcller\r".encode("latin-1"), "utf-8")
    assert message.records[1].component(5) == "M\u00fcller"
    assert "utf-8" in message.faults[0].text
    unknown = parse(b"H|\\^&\rP|1||&X41&\r", "no-such-charset")
    assert (unknown.records[1].component(4), len(unknown.faults)) == ("A", 1)
    assert parse("H|\\^&\rP|1|||\u738b\r".encode("gb18030"), "gb18030").records[1].component(5) == "\u738b"


@pytest.mark.parametrize(
    ("first", "control_id"),
    [(SMALL, "M7"), (b"H|\\^&\r", ""), (b"", ""), (b"\xff\x00", ""), (b"H", ""), (b"H|\\^&|AB", "AB"), (b"P|1|X", "")],
)
def test_the_control_id_is_read_from_the_first_bytes(first: bytes, control_id: str) -> None:
    assert header_control_id(first) == control_id


@given(st.binary(max_size=60))
def test_the_control_id_never_raises(data: bytes) -> None:
    assert len(header_control_id(b"H|\\^&|" + data)) <= 80
    assert isinstance(header_control_id(data), str)


@given(leaves, delimiter_sets)
def test_an_escaped_leaf_reads_back(leaf: str, delimiters: Delimiters) -> None:
    written = escape(leaf, delimiters)
    assert not set(written) & {delimiters.field, delimiters.repeat, delimiters.component, "\r", "\n"}
    assert unescape(written, delimiters) == leaf


@given(st.lists(st.lists(components, min_size=1, max_size=3), max_size=6), delimiter_sets)
def test_what_is_written_reads_back(fields: list[list[list[str]]], delimiters: Delimiters) -> None:
    data = write_message([["H", "", "ID"], ["R", "1", *fields], ["L", "1", "N"]], delimiters)
    message = parse(data)
    assert message.delimiters == delimiters
    assert [record.type for record in message.records] == ["H", "R", "L"]
    assert message.header.component(3) == "ID"
    for number, repeats in enumerate(fields, start=3):
        for index, parts in enumerate(repeats, start=1):
            read = [message.records[1].component(number, place, index) for place in range(1, len(parts) + 1)]
            assert read == parts


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_as_a_record_error(data: bytes) -> None:
    try:
        message = parse(b"H|\\^&\r" + data)
    except RecordError:
        pytest.fail("a message with a good header is never refused")
    assert message.tree().record is message.header
    try:
        parse(data)
    except RecordError as error:
        assert error.text


def test_trailing_empty_fields_are_not_written() -> None:
    assert write_record(["L", "1", "", ""]) == "L|1\r"
    assert write_record(["H", "ignored", "x"]) == "H|\\^&|x\r"

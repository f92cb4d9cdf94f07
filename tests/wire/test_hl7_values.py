"""OBX-5 by OBX-2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.wire.hl7 import Segment, parse
from interface.wire.hl7_values import TYPES, Attached, ValueType, coded, encapsulated, lines, pointer, value_type


def obx(value: str, kind: str = "ST") -> Segment:
    return parse(f"MSH|^~\\&|A||||||ORU^R01|1|P|2.5.1\rOBX|1|{kind}|C||{value}\r").segments[1]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("NM nm", ValueType.NUMBER),
        ("SN", ValueType.STRUCTURED),
        ("ST TX FT EI", ValueType.TEXT),
        ("CE CWE CNE CF", ValueType.CODED),
        ("TS DTM DT TM DR", ValueType.TIME),
        ("NA MA", ValueType.ARRAY),
        ("ED", ValueType.ENCAPSULATED),
        ("RP", ValueType.POINTER),
        ("ZZ ?", ValueType.UNKNOWN),
    ],
)
def test_every_type_of_the_standard_has_a_kind(names: str, kind: ValueType) -> None:
    assert {value_type(name) for name in names.split()} == {kind}
    assert value_type("") is ValueType.UNKNOWN


def test_of_a_coded_value_the_text_is_taken_and_every_repetition() -> None:
    assert coded(obx("POS^Positive^L~NEG^^L~^^99ROC", "CWE")) == ["Positive", "NEG"]


def test_of_a_coded_value_an_ampersand_is_one_of_its_text() -> None:
    sent = 'X^A NEGATIVE & B POSITIVE^L~A&B^^L~A^ & ^L~&^&^L~^A \\T\\ B~""^'
    assert coded(obx(sent, "CWE")) == ["A NEGATIVE & B POSITIVE", "A&B", "A", "A & B"]
    assert coded(obx('""', "CWE")) == coded(obx("&", "CWE")) == []


def test_repetitions_of_text_are_lines_and_so_are_line_commands() -> None:
    assert lines(obx("one~two\\.br\\three~10\\S\\9", "TX")) == "one\ntwo\nthree\n10^9"


@pytest.mark.parametrize(
    ("sent", "media", "data"),
    [
        ("^Image^PNG^Base64^aGVs\\.br\\bG8=", "image/png", "aGVsbG8="),
        ("APP^Image^BMP^Base64^aGVs\\X0D0A\\ bG8=", "image/bmp", "aGVsbG8="),
        ("^application^pdf^Hex^25 50", "application/pdf;encoding=hex", "2550"),
        ("^TEXT^^A^two words\\T\\more", "text", "two words&more"),
        ("APP^^^Base64^", "", ""),
    ],
)
def test_encapsulated_data_comes_without_what_senders_break_it_with(sent: str, media: str, data: str) -> None:
    assert encapsulated(obx(sent, "ED")) == Attached(media, data)


def test_a_pointer_says_where_the_thing_lies() -> None:
    assert pointer(obx("http://host/a?b=1\\T\\c=2^VIEWER^Image^JPEG", "RP")) == Attached(
        "image/jpeg", "http://host/a?b=1&c=2"
    )


@given(st.sampled_from(sorted(TYPES)), st.text(max_size=40))
def test_any_text_is_read(kind: str, text: str) -> None:
    segment = Segment(f"OBX|1|{kind}|C||" + text.replace("\r", ""), parse("MSH|^~\\&|").delimiters)
    assert isinstance(lines(segment), str)
    assert all(coded(segment))
    for read in (encapsulated, pointer):
        assert isinstance(read(segment).data, str)

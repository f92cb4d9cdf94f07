"""Labels: every text decodes back from the picture, by a decoder that is not ours and by tables typed for the test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st

from interface.render.code128 import Unprintable, encode, modules, widths
from interface.render.labels import Label, Size, svg, zpl

ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64)
SEVEN_BITS = st.text(st.characters(max_codepoint=127), min_size=1, max_size=40)
DIGITS_AND_ALL = st.lists(
    st.one_of(st.from_regex(r"[0-9]{1,9}", fullmatch=True), st.sampled_from(["a", "B", "-", ">", "^", "~", "_", " "])),
    min_size=1, max_size=6,
).map("".join)  # fmt: skip
WIDE = Size(width_um=250_000)


def seen(picture: str) -> zxingcpp.Barcode:
    """What a reader sees in the SVG's bars: the path drawn as dark pixels, one per module, and decoded."""
    root = ElementTree.fromstring(picture)  # noqa: S314 - our own
    [path] = [node for node in root.iter() if node.tag.endswith("path")]
    boxes = re.findall(r"M(\d+) \d+h(\d+)v\d+h-\d+z", path.attrib["d"])
    module = min(int(width) for _, width in boxes)
    wide = int(root.attrib["viewBox"].split()[2]) // module
    row = bytearray(b"\xff" * wide)
    for left, width in boxes:
        at = int(left) // module
        row[at : at + int(width) // module] = bytes(int(width) // module)
    big = b"".join(bytes([pixel]) * 3 for pixel in row)
    image = memoryview(big * 24).cast("B", shape=(24, len(big)))
    [found] = zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.Code128))
    return found


@given(ASCII)
def test_any_printable_text_decodes_back(text: str) -> None:
    assert seen(svg(Label(text), WIDE)).bytes == text.encode()


@given(st.one_of(SEVEN_BITS, DIGITS_AND_ALL))
def test_so_does_what_changes_code_sets_and_shifts(text: str) -> None:
    assert seen(svg(Label(text), WIDE)).bytes == text.encode()


@given(st.one_of(SEVEN_BITS, DIGITS_AND_ALL))
def test_no_shorter_sequence_of_symbols_says_the_same(text: str) -> None:
    assert len(encode(text)) - 2 == _shortest(text)


def _shortest(text: str) -> int:
    """The fewest symbols between start and check character, searched breadth first from the beginning."""
    front = {(0, name) for name in "ABC"}
    symbols, been = 0, set(front)
    while not any(at == len(text) for at, _ in front):
        symbols += 1
        front = {after for place in front for after in _after(text, *place)} - been
        been |= front
    return symbols


def _after(text: str, at: int, name: str) -> Iterator[tuple[int, str]]:
    """Where one symbol leads from here; "a" and "b" are A and B for one character, after a shift."""
    if name in "ab":
        if _has(text, at, name.upper()):
            yield at + 1, {"a": "B", "b": "A"}[name]
        return
    yield from ((at, other) for other in "ABC" if other != name)
    if name != "C":
        yield at, {"A": "b", "B": "a"}[name]
    if _has(text, at, name):
        yield at + (2 if name == "C" else 1), name


def _has(text: str, at: int, name: str) -> bool:
    if name == "C":
        return re.match("[0-9]{2}", text[at:]) is not None
    return at < len(text) and (text[at] < "`" if name == "A" else text[at] >= " ")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("26000001011", (104, 18, 99, 60, 0, 0, 10, 11, 19)),
        ("123456", (105, 12, 34, 56, 44)),
        ("A\tB", (103, 33, 73, 34, 6)),  # 103 + 33 + 2*73 + 3*34 = 384 = 3*103 + 75
    ],
)  # fmt: skip
def test_symbols_and_check_characters(text: str, values: tuple[int, ...]) -> None:
    check = (values[0] + sum(place * value for place, value in enumerate(values[1:-1], 1))) % 103
    assert encode(text)[:-1] == values[:-1]
    assert encode(text)[-1] == check


def test_the_check_character_of_a_published_example() -> None:
    # barcodeisland.com, "Code 128": HI345678 in code sets A and C sums to 1406, which leaves 67
    assert encode("HI345678", "AC") == (103, 40, 41, 99, 34, 56, 78, 67)


@given(DIGITS_AND_ALL)
def test_the_printed_width_is_what_was_reckoned(text: str) -> None:
    values = encode(text)
    assert sum(widths(values)) + 20 == modules(values)


@pytest.mark.parametrize("text", ["", "Ä1", "\N{DEGREE SIGN}", "1\N{ARABIC-INDIC DIGIT TWO}"])
def test_what_code_128_has_no_symbol_for_is_refused(text: str) -> None:
    with pytest.raises(Unprintable):
        encode(text)


def test_a_code_that_would_be_too_fine_for_a_reader_is_refused() -> None:
    for made in (svg, zpl):
        with pytest.raises(Unprintable, match="too long for a label of 50 mm"):
            made(Label("x" * 40))
        with pytest.raises(Unprintable, match="no room"):
            made(Label("1", ("a",) * 8))
    assert seen(svg(Label("x" * 40), Size(width_um=110_000))).text == "x" * 40


def test_nothing_that_is_written_becomes_markup_or_a_command() -> None:
    label = Label("1", ('<script>&"', "^XA~JR_5E\\"), below="^XZ", mark="<b>")
    root = ElementTree.fromstring(svg(label))  # noqa: S314 - our own
    said = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert said == ['<script>&"', "^XA~JR_5E\\", "<b>", "1", "^XZ"]
    text = zpl(label)
    assert "^FD_5EXA_7EJR_5F5E_5C^FS" in text
    assert text.count("^XA") == text.count("^XZ") == 1
    assert "~" not in text


def test_what_is_not_seen_takes_no_room_and_no_text_is_longer_than_the_label() -> None:
    hidden = "\0\x1b\u202e\u200b\r\n" * 2000
    label = Label("1", (hidden + "Muster, Eva", "\u05d0" * 10_000), below="9" * 10_000)
    for text in (svg(label), zpl(label)):
        assert "Muster, Eva" in text
        assert not any(letter in text for letter in "\0\x1b\u202e\u200b\r")
        assert len(text) < 8_000


def test_the_most_important_line_is_cut_before_it_runs_into_the_mark() -> None:
    label = Label("1", ("N" * 60, "n" * 60), mark="STAT")
    first, second = re.findall(r">([Nn]+…)<", svg(label))
    assert len(first) < len(second) < 40


# ---- ZPL: what the printer encodes ----------------------------------------------------------------------------------

# Typed from the ZPL II Programming Guide, ^BC, "Code 128 Invocation Characters": code, decimal value
INVOCATION = {"<": 62, "0": 30, "=": 94, "1": 95, "5": 99, "6": 100, "7": 101, "9": 103, ":": 104, ";": 105}


def as_printed(field: str) -> list[int]:
    """The symbol values a printer makes of ^BC's field data, without the check character."""
    values: list[int] = []
    name, rest = "", field
    while rest:
        if rest[0] == ">":
            values.append(INVOCATION[rest[1]])
            name = {"5": "C", "6": "B", "7": "A", "9": "A", ":": "B", ";": "C"}.get(rest[1], name)
            rest = rest[2:]
        elif name == "C":
            values.append(int(rest[:2]))
            rest = rest[2:]
        else:
            assert rest[0] not in "^~"
            values.append(ord(rest[0]) - 32)
            rest = rest[1:]
    return values


@given(st.one_of(ASCII, DIGITS_AND_ALL))
def test_a_printer_makes_the_same_symbols_of_it(text: str) -> None:
    printed = zpl(Label(text), WIDE)
    [field] = re.findall(r"\^BCN,\d+,N,N,N\^FD(.*)\^FS", printed)
    values = encode(text, "BC", shift=False)
    assert as_printed(field) == list(values[:-1])
    assert len(values) == len(encode(text))  # printable text is never shorter with A


@pytest.mark.parametrize(("dots", "module"), [(8, 2), (12, 3), (24, 6)])
def test_bars_are_whole_dots_of_a_quarter_of_a_millimetre(dots: int, module: int) -> None:
    printed = zpl(Label("26000001011"), Size(dots_per_mm=dots))
    assert f"^BY{module}^" in printed
    assert f"^PW{50 * dots}" in printed

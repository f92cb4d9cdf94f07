"""A declared layout's records without the people in them; every text keeps its length. Pure."""

from __future__ import annotations

import re

from interface.driver.decode_declared import DEFAULT_ENCODING, read_text
from interface.driver.layout import Layout, LayoutKind, Meaning
from interface.driver.manifest import Driver
from interface.driver.rules import TEXT_PATH
from interface.driver.scrubber import Do, Scrubber
from interface.errors import DriverError

_LINE = re.compile(r"(\r\n?|\n)")


def scrub_rows(driver: Driver, scrubber: Scrubber, text: bytes) -> bytes:
    """The block's text with its people replaced. Raises DriverError where a length cannot be kept."""
    layout, encoding = driver.layout, driver.encoding or DEFAULT_ENCODING
    if layout is None:
        raise DriverError(f"driver {driver.id} lays out no records")
    words = read_text(driver, text)
    known = driver.recognises({TEXT_PATH: words})
    if layout.kind is LayoutKind.FIXED:
        # Between the columns that are read may stand anything: it is blotted out, unless the analyzer is known by it.
        made = _fixed(layout, scrubber, words, encoding, scrubber.pseudonyms.free)
        if known and not driver.recognises({TEXT_PATH: made}):
            made = _fixed(layout, scrubber, words, encoding, scrubber.between)
    else:
        made = (_tagged if layout.kind is LayoutKind.TAGGED else _csv)(layout, scrubber, words, encoding)
    out = made.encode(encoding, "replace")
    if len(out) != len(text):
        raise DriverError("a text could not be replaced by one of its own length; nothing was written")
    if known and not driver.recognises({TEXT_PATH: made}):
        raise DriverError("without its people the block would not be known as this analyzer's; nothing was written")
    return out


def _meanings(layout: Layout) -> dict[str, Meaning]:
    """What each named place says; of a place with several meanings a specimen's or a result's own counts."""
    found: dict[str, Meaning] = {}
    for fields in (layout.fields, *layout.results):
        for meaning, many in fields.items():
            for places in many:
                for place in places:
                    if place.word is None:
                        if found.get(place.name, Meaning.COMMENTS) is Meaning.COMMENTS:
                            found[place.name] = meaning
    return found


def _done(do: Do | None, value: str, encoding: str) -> str:
    return do(value, encoding) if do is not None and value.strip() else value


def _tagged(layout: Layout, scrubber: Scrubber, text: str, encoding: str) -> str:
    """Fields by their tags; what a full line is folded with stands in words and tags too, and stays where it was."""
    if not layout.fold:
        return _fields(layout, scrubber, text, encoding)
    made = iter(_fields(layout, scrubber, "".join(one for one in text if one not in layout.fold), encoding))
    return "".join(one if one in layout.fold else next(made, "") for one in text)


def _fields(layout: Layout, scrubber: Scrubber, text: str, encoding: str) -> str:
    meanings = _meanings(layout)
    lead, pieces = layout.cut(text)
    made = []
    for piece in pieces:
        begin = len(piece) - len(piece.lstrip("\r\n")) + layout.tag_width
        tag, body = piece[:begin].strip("\r\n"), piece[begin:]
        value = body.rstrip("\r\n").removesuffix(layout.ends)
        meaning = meanings.get(tag)
        known = meaning is not None or tag == layout.begins
        do = scrubber.meaning(meaning) if known else scrubber.meaning(None)
        made.append(piece[:begin] + _done(do, value, encoding) + body[len(value) :])
    outside = scrubber.between(lead, encoding)
    return layout.separator.join([outside, *made]) if layout.separator else "".join([*made, outside])


def _fixed(layout: Layout, scrubber: Scrubber, text: str, encoding: str, between: Do) -> str:
    spans = sorted(
        {
            (place.first, place.last, meaning)
            for fields in (layout.fields, *layout.results)
            for meaning, many in fields.items()
            for places in many
            for place in places
            if place.word is None
        }
    )
    parts = _LINE.split(text) if layout.lines else [text]
    for number, line in enumerate(parts):
        if number % 2 and layout.lines:
            continue
        made, at = "", 0
        for first, last, meaning in spans:
            if first - 1 < at:
                continue  # two meanings of the same columns
            made += between(line[at : first - 1], encoding)
            made += _done(scrubber.meaning(meaning), line[first - 1 : last], encoding)
            at = last
        parts[number] = made + between(line[at:], encoding)
    return "".join(parts)


def _csv(layout: Layout, scrubber: Scrubber, text: str, encoding: str) -> str:
    """Cells by their columns; one that the layout does not name may hold anything. The header stays."""
    meanings, header = _meanings(layout), list[str]()
    quote = re.escape(layout.quote) if layout.quote else ""
    mark = re.escape(layout.delimiter)
    quoted = rf"{quote}(?:[^{quote}]|{quote}{quote})*{quote}|" if quote else ""
    cell = re.compile(rf"(^|{mark})({quoted}[^{mark}\r\n]*)")
    parts = _LINE.split(text)
    for number, line in enumerate(parts):
        if number % 2 or not line.strip():
            continue
        cells = cell.findall(line)
        if layout.header and not header:
            header = [value.strip().strip(layout.quote or " ") for _, value in cells]
            continue
        made = ""
        for at, (lead, value) in enumerate(cells):
            name = header[at] if at < len(header) else ""
            meaning = meanings.get(name) or meanings.get(str(at + 1))
            kept = bool(layout.columns) and at + 1 >= layout.columns
            made += lead + (value if kept else _done(scrubber.meaning(meaning), value, encoding))
        parts[number] = made
    return "".join(parts)

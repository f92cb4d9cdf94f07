"""The `[framing]` and `[record]` of a `driver.toml`: a framing of the driver's own, and the layout of its records."""

from __future__ import annotations

import re
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from interface.domain.model import Protocol
from interface.domain.table import Table
from interface.driver.layout import Fields, Layout, LayoutKind, Meaning, Place, Places
from interface.driver.manifest import LinkFraming
from interface.wire import declared
from interface.wire.declared import LARGEST_SIZED_BLOCK_BYTES, Check, CheckRule, Grammar, Length, Number, Written
from interface.wire.trace import unescape

_COLUMNS = re.compile(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?")
_LINKS = {Protocol.LIS2: LinkFraming.LIS01, Protocol.HL7: LinkFraming.MLLP, Protocol.DECLARED: LinkFraming.DECLARED}
_E = TypeVar("_E", bound=StrEnum)


# ---- framing --------------------------------------------------------------------------------------------------------


def read_framing(table: Table, protocol: Protocol) -> tuple[LinkFraming, Grammar | None]:
    """Which framing carries the driver's messages, and the grammar of one that it declares itself."""
    link = _chosen(table, "link", LinkFraming, _LINKS[protocol])
    block, session = table.table("block"), table.table("session")
    if block.raw or protocol is Protocol.DECLARED:
        if not block.raw:
            table.say(block.path, "is missing: nothing says what begins and ends a block")
        if "link" in table.raw and link is not LinkFraming.DECLARED:
            table.say(table.at("link"), "is one framing, and block declares another")
        return LinkFraming.DECLARED, _grammar(block, session)
    if session.raw or link is LinkFraming.DECLARED:
        table.say(block.path, "is missing: nothing says what begins and ends a block")
    if link is LinkFraming.MLLP and protocol is Protocol.LIS2:
        table.say(table.at("link"), "carries HL7 only")
    return link, None


def _grammar(table: Table, session: Table) -> Grammar:
    start = _bytes(table, "start")
    length = table.table("length")
    grammar = Grammar(
        start=start,
        end=_bytes(table, "end"),
        size=table.whole("size"),
        length=_length(length) if length.raw else None,
        check=_check(table.table("check"), len(start)),
        good=_bytes(table, "good"),
        bad=_bytes(table, "bad"),
        opens=_bytes(session, "opens", 1),
        ready=_bytes(session, "ready"),
        busy=_bytes(session, "busy"),
        closes=_bytes(session, "closes", 1),
        silence_s=table.seconds("silence_s", 0.0),
        wait_s=table.seconds("wait_s", 15.0),
        max_bytes=table.whole("max_bytes", declared.DEFAULT_MAX_BLOCK_BYTES),
    )
    for fault in _faults(grammar):
        table.say(table.path, fault)
    return grammar


def _faults(grammar: Grammar) -> list[str]:
    check, end = grammar.check, (grammar.end, grammar.size, grammar.length, grammar.silence_s)
    overhead = len(grammar.start) + len(grammar.end) + (check.width if check else 0)
    rules = {
        "needs end, size, length or silence_s": not any(end),
        "has both a size and a length": bool(grammar.size and grammar.length),
        "silence_s is for blocks that nothing else ends": bool(grammar.silence_s) and not grammar.ends_in_silence,
        "a block of known size needs start, else none is found again": grammar.sized and not grammar.start,
        "size leaves no text, or is too large": bool(grammar.size)
        and not overhead < grammar.size <= min(LARGEST_SIZED_BLOCK_BYTES, grammar.max_bytes),
        # Its byte may be the end's own first: then the end is found one byte too early.
        "a checksum of one byte before the end needs size or length": check is not None
        and check.written is Written.BYTE
        and check.place is declared.Place.BEFORE_END
        and not grammar.sized,
        "check needs end or size": check is not None and grammar.ends_in_silence,
        "pad is for checksums in digits before an end": check is not None
        and bool(check.pad)
        and (check.written is Written.BYTE or check.place is declared.Place.AFTER_END),
        "good and bad come together": bool(grammar.good) != bool(grammar.bad),
        "opens needs ready and busy": bool(grammar.opens) and not (grammar.ready and grammar.busy),
        "ready and busy need opens": bool(grammar.ready or grammar.busy) and not grammar.opens,
        "wait_s and max_bytes are more than 0": not (grammar.wait_s > 0 and grammar.max_bytes > 0),
    }
    return [text for text, broken in rules.items() if broken]


def _check(table: Table, skip: int) -> Check | None:
    if not table.raw:
        return None
    return Check(
        rule=table.choice("rule", CheckRule, CheckRule.SUM),
        written=table.choice("written", Written, Written.HEX),
        place=table.choice("place", declared.Place, declared.Place.BEFORE_END),
        skip=table.whole("skip", skip),
        covers_end=table.flag("covers_end"),
        mark=_bytes(table, "mark"),
        pad=_bytes(table, "pad"),
    )


def _length(table: Table) -> Length:
    made = Length(
        table.whole("at"), table.whole("width"), table.choice("written", Number, Number.DECIMAL), table.whole("plus")
    )
    if not 0 < made.width <= 8:
        table.say(table.at("width"), "is not 1 to 8")
    return made


def _bytes(table: Table, key: str, count: int = 0) -> bytes:
    """Bytes as a trace writes them; `count`: how many there must be."""
    made = unescape(table.text(key))
    if count and len(made) not in (0, count):
        table.say(table.at(key), "is not one character")
        return b""
    return made


# ---- records --------------------------------------------------------------------------------------------------------


def read_layout(root: Table, protocol: Protocol) -> Layout | None:
    """The layout of the driver's records; None for a protocol that has its own."""
    table = root.table("record")
    if protocol is not Protocol.DECLARED:
        if table.raw:
            root.say(table.path, f"is for protocol {Protocol.DECLARED}")
        return None
    kind = table.choice("kind", LayoutKind, LayoutKind.CSV)
    fields = _fields(table.table("fields"), kind)
    results = tuple(_fields(one, kind) for one in table.tables("result"))
    layout = Layout(
        kind,
        fields,
        results,
        types=frozenset(table.texts("types")),
        query_types=frozenset(table.texts("query_types")),
        value_pattern=_value_pattern(table),
        skip_empty=table.flag("skip_empty"),
        **_of_kind(table, kind),  # type: ignore[arg-type]
    )
    for fault in _layout_faults(layout):
        table.say(table.path, fault)
    return layout


def _of_kind(table: Table, kind: LayoutKind) -> dict[str, object]:
    """What only one kind of layout has."""
    if kind is LayoutKind.TAGGED:
        return {
            "separator": unescape(table.text("separator")).decode("latin-1"),
            "ends": unescape(table.text("ends")).decode("latin-1"),
            "fold": unescape(table.text("fold")).decode("latin-1"),
            "tag_width": table.whole("tag_width"),
            "begins": table.text("begins", None),
            "ignored": frozenset(table.texts("ignored")),
        }
    if kind is LayoutKind.FIXED:
        repeat = table.table("repeat")
        return {
            "width": table.whole("width"),
            "lines": table.flag("lines"),
            "unfold": table.flag("unfold"),
            "repeat_at": repeat.whole("at"),
            "repeat_width": repeat.whole("width"),
        }
    return {
        "delimiter": unescape(table.text("delimiter", ",")).decode("latin-1"),
        "quote": table.text("quote", '"'),
        "header": table.flag("header"),
        "columns": table.whole("columns"),
    }


def _layout_faults(layout: Layout) -> list[str]:
    places = (layout.fields, *layout.results)
    has_code = Meaning.CODE in layout.fields or bool(layout.columns)
    has_value = Meaning.VALUE in layout.fields or bool(layout.columns)
    named = [p for fields in places for many in fields.values() for parts in many for p in parts if p.word is None]
    rules = {
        "names no place of a code": not has_code and not all(Meaning.CODE in one for one in layout.results or [{}]),
        "names no place of a value": not has_value and not all(Meaning.VALUE in one for one in layout.results or [{}]),
        "names no place of a specimen_id": Meaning.SPECIMEN_ID not in layout.fields,
        "types needs the place of type": bool(layout.types or layout.query_types) and Meaning.TYPE not in layout.fields,
        "result and columns both say where results are": bool(layout.columns) and bool(layout.results),
        "columns needs a header": bool(layout.columns) and not layout.header,
    }
    if layout.kind is LayoutKind.TAGGED:
        rules["needs a separator or ends, and a tag_width"] = not (
            (layout.separator or layout.ends) and layout.tag_width
        )
        rules["has tags of another width than tag_width"] = any(len(p.name) != layout.tag_width for p in named)
        rules["result is for columns, not for tags"] = bool(layout.results)
    elif layout.kind is LayoutKind.FIXED:
        cell = max(
            (p.last for fields in layout.results for many in fields.values() for ps in many for p in ps), default=0
        )
        rules["reads columns beyond its width"] = bool(layout.width) and layout.reach > layout.width
        rules["repeat needs at and width"] = bool(layout.repeat_at) != bool(layout.repeat_width)
        rules["repeat is of one result, and of no fixed width"] = bool(layout.repeat_at) and (
            len(layout.results) != 1 or bool(layout.width)
        )
        rules["result reaches beyond the repeat's width"] = 0 < layout.repeat_width < cell
        rules["lines and unfold are not both so"] = layout.lines and layout.unfold
    else:
        rules["delimiter is not one character"] = len(layout.delimiter) != 1
        rules["quote is not one character, or none"] = len(layout.quote) > 1
        rules["names columns and has no header"] = not layout.header and any(p.first == 0 for p in named)
    return [text for text, broken in rules.items() if broken]


def _fields(table: Table, kind: LayoutKind) -> Fields:
    made: dict[Meaning, tuple[Places, ...]] = {}
    for key in table.keys(Meaning):
        texts = table.texts(key)
        meaning = table.made(key, Meaning, key)
        if meaning is not None:
            made[meaning] = tuple(tuple(_place(table, key, kind, part) for part in text.split(" + ")) for text in texts)
    return MappingProxyType(made)


def _place(table: Table, key: str, kind: LayoutKind, text: str) -> Place:
    if text.startswith("="):
        return Place(text, word=text[1:])
    columns = _COLUMNS.fullmatch(text)
    if kind is LayoutKind.TAGGED or (kind is LayoutKind.CSV and (columns is None or columns[2])):
        return Place(text)
    first, last = (int(columns[1]), int(columns[2] or columns[1])) if columns else (0, 0)
    if not 0 < first <= last:
        table.say(table.at(key), f"{text!r} is not columns such as 16-27")
    return Place(text, first, last)


def _value_pattern(table: Table) -> re.Pattern[str] | None:
    pattern = table.pattern("value_pattern")
    if pattern is not None and not {"value"} <= pattern.groupindex.keys() <= {"value", "unit"}:
        table.say(table.at("value_pattern"), "needs the group value, and may have unit")
        return None
    return pattern


def _chosen(table: Table, key: str, kind: type[_E], default: _E) -> _E:
    """A choice that may be left out."""
    return table.choice(key, kind, default) if key in table.raw else default

"""LIS02-A2 (ASTM E1394) records: the message layer above LIS01-A2 frames. Pure.

A message is H .. L as assembled bytes. Delimiters are read from each header; fields are split when they are asked for;
escapes are resolved on leaf components only, and what is not a known escape sequence stays as it is.
Field numbers are the standard's: the type letter is field 1, so `record.component(3, 4)` is R-3.4 of the documents.

Some vendors (Beckman C03112) escape a delimiter by itself: `&|&`, `&\\&`, `&^&`, `&&&`. To the standard `&|&` ends a
field and moves all that follows it: they are read the vendor's way only where a driver says so (`literal_escapes`), and
are a fault of their record otherwise, whose values are then not to be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

from interface.errors import RecordError

DEFAULT_ENCODING = "latin-1"  # every byte is a character: nothing an analyzer sends can fail to decode

# LIS02-A2 hierarchy: H and L 0, P 1, O 2, R 3. Q and S stand beside P. C and M attach to the record before them.
LEVELS = {"H": 0, "L": 0, "P": 1, "Q": 1, "S": 1, "O": 2, "R": 3}
ATTACHED = frozenset("CM")
_TYPES = ATTACHED.union(LEVELS)

_HEX = re.compile(r"X((?:[0-9A-Fa-f]{2})+)")
_MAX_CONTROL_ID = 80

# A field to be written: a leaf, its components, or its repetitions of components.
Field: TypeAlias = str | Sequence[str] | Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Delimiters:
    """LIS02-A2: field, repeat, component, escape, in this order (HL7's MSH-2 has another one)."""

    field: str = "|"
    repeat: str = "\\"
    component: str = "^"
    escape: str = "&"

    @property
    def definition(self) -> str:
        """Field 2 of the header."""
        return self.repeat + self.component + self.escape


DEFAULT_DELIMITERS = Delimiters()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was read with a tolerance. `location` as in `errors.LocatedError`."""

    location: str
    text: str


class Record:
    """One record. Split on first access; all accessors give "" for what was not sent.

    `plain`: there is neither escape nor repetition in it, so that most of the looking can be left out.
    """

    __slots__ = ("_fields", "_mark", "_ordinal", "delimiters", "encoding", "text", "type")

    def __init__(
        self, text: str, type_: str, ordinal: int, delimiters: Delimiters, encoding: str, plain: bool = False
    ) -> None:
        self.text = text
        self.type = type_
        self.delimiters = delimiters
        self.encoding = encoding
        self._ordinal = ordinal
        self._mark = delimiters.component if plain else ""  # all that a plain record's fields are split at
        self._fields: list[str] | None = None

    def __repr__(self) -> str:
        return f"Record({self.location})"

    @property
    def location(self) -> str:
        """`R 3`: the type and which of its kind it is in the message, from 1."""
        return f"{self.type} {self._ordinal}"

    @property
    def fields(self) -> list[str]:
        """All fields as sent; index 0 is field 1, the type letter."""
        return self._fields or self._split()

    def _split(self) -> list[str]:
        fields = self._fields = self.text.split(self.delimiters.field)
        if self.type == "H" and len(fields) > 1:
            # Field 2 of H defines the delimiters; nothing in it is split or unescaped.
            fields[1] = self.delimiters.definition
        return fields

    def field(self, number: int) -> str:
        """Field `number` from 1, as sent."""
        fields = self._fields or self._split()
        return fields[number - 1] if number <= len(fields) else ""

    def repeats(self, number: int) -> list[str]:
        """The repetitions of a field as sent; an empty field has none."""
        raw = self.field(number)
        return raw.split(self.delimiters.repeat) if raw else []

    def components(self, number: int, repeat: int = 1) -> list[str]:
        """The components of one repetition, unescaped; [] when it was not sent."""
        repeats = self.repeats(number)
        if repeat > len(repeats):
            return []
        return [self.unescape(leaf) for leaf in repeats[repeat - 1].split(self.delimiters.component)]

    def component(self, number: int, component: int = 1, repeat: int = 1) -> str:
        """One leaf, unescaped."""
        try:  # a seventh faster than asking first, and this is what reading a message consists of
            raw = (self._fields or self._split())[number - 1]
        except IndexError:
            return ""
        mark = self._mark
        if not mark:
            marks = self.delimiters
            mark = marks.component
            if marks.repeat in raw:
                repeats = raw.split(marks.repeat)
                raw = repeats[repeat - 1] if repeat <= len(repeats) else ""
                repeat = 1
            if marks.escape in raw:
                leaves = raw.split(mark)
                return self.unescape(leaves[component - 1]) if component <= len(leaves) and repeat == 1 else ""
        if mark not in raw:
            return raw if component == 1 == repeat else ""
        leaves = raw.split(mark)
        return leaves[component - 1] if component <= len(leaves) and repeat == 1 else ""

    def every(self, number: int, component: int = 1) -> list[str]:
        """One leaf of each repetition, unescaped: the field is split once, however often it is repeated."""
        raw, marks = self.field(number), self.delimiters
        found = []
        for repeat in raw.split(marks.repeat) if raw else ():
            leaves = repeat.split(marks.component)
            leaf = leaves[component - 1] if component <= len(leaves) else ""
            found.append(self.unescape(leaf) if marks.escape in leaf else leaf)
        return found

    def read(self, number: int, component: int | None = None) -> str:
        """One leaf of the first repetition, or a whole field as words (`component` None), unescaped and stripped."""
        fields = self._fields or self._split()
        if number > len(fields) or not (raw := fields[number - 1]):
            return ""
        mark = self._mark
        if not mark:
            return self._words(raw) if component is None else self.component(number, component).strip()
        if mark not in raw:
            return raw.strip() if component is None or component == 1 else ""
        if component is None:
            return raw.rstrip(mark).strip()
        leaves = raw.split(mark)
        return leaves[component - 1].strip() if component <= len(leaves) else ""

    def _words(self, raw: str) -> str:
        """A whole field as words: its leaves unescaped, delimiters as sent, trailing empty components left out."""
        marks = self.delimiters
        if not any(mark in raw for mark in (marks.component, marks.repeat, marks.escape)):
            return raw.strip()
        repeats = [
            marks.component.join(map(self.unescape, repeat.split(marks.component))).rstrip(marks.component)
            for repeat in raw.split(marks.repeat)
        ]
        return marks.repeat.join(repeats).strip()

    def unescape(self, leaf: str) -> str:
        """Resolve the standard's escape sequences in one leaf component; unknown ones stay verbatim."""
        return unescape(leaf, self.delimiters, self.encoding)


@dataclass(slots=True)
class Node:
    """A record with what hangs below it. `comments` are C records, `manufacturer` M records, each on its own parent."""

    record: Record
    children: list[Node] = field(default_factory=list)
    comments: list[Record] = field(default_factory=list)
    manufacturer: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `faults` are what had to be tolerated to read it."""

    delimiters: Delimiters
    records: tuple[Record, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def header(self) -> Record:
        return self.records[0]

    @property
    def complete(self) -> bool:
        """Whether the message ends with its L record."""
        return self.records[-1].type == "L"

    def tree(self) -> Node:
        """The header's node with everything below it.

        LIS02-A2 5.2: a record belongs to the nearest preceding record of a lower level; a comment to the record
        before it. A level that was skipped (an R without an O) attaches to what is there.
        """
        root = Node(self.records[0])
        path = [root]  # the open record of each level, outermost first
        for record in self.records[1:]:
            if record.type == "C":
                path[-1].comments.append(record)
                continue
            if record.type == "M":
                path[-1].manufacturer.append(record)
                continue
            level = LEVELS.get(record.type, 3)
            while len(path) > 1 and LEVELS.get(path[-1].record.type, 3) >= level:
                path.pop()
            node = Node(record)
            path[-1].children.append(node)
            path.append(node)
        return root


def parse(data: bytes | str, encoding: str = DEFAULT_ENCODING, literal_escapes: bool = False) -> Message:
    """Read the bytes of one assembled message. The charset is decoded here, after assembly.

    `literal_escapes`: a delimiter between two escape characters is that character (see above).
    Raises RecordError when it does not start with a usable H record; anything else is kept for the reader to judge.
    """
    faults: list[Fault] = []
    text = data if isinstance(data, str) else _decode(data, encoding, faults)
    if "\n" in text:
        text = text.replace("\r\n", "\r").replace("\n", "\r")
    lines = [line for line in text.split("\r") if line.strip("\x00 ")]
    if not lines:
        raise RecordError("the message is empty", "H 1")
    delimiters = _delimiters(lines[0], faults)
    mark, repeat, escape = delimiters.field, delimiters.repeat, delimiters.escape
    escapes = escape in text[len(lines[0]) :]
    seen: dict[str, int] = {}
    records: list[Record] = []
    for line in lines:
        kind = line[0].upper()
        ordinal = seen[kind] = seen.get(kind, 0) + 1
        plain = kind != "H" and repeat not in line
        if escapes and records and escape in line:
            plain = False
            standard = _standard_escapes(line, delimiters)
            if standard != line and not literal_escapes:
                faults.append(Fault(f"{kind} {ordinal}", "a delimiter stands between two escape characters"))
            line = standard if literal_escapes else line
        if kind not in _TYPES:
            faults.append(Fault(f"{kind} {ordinal}", "not a record type of LIS02-A2"))
        elif line[1:2] != mark and len(line) > 1:
            faults.append(Fault(f"{kind} {ordinal}", "the type letter is not followed by the field delimiter"))
        records.append(Record(line, kind, ordinal, delimiters, encoding, plain))
    return Message(delimiters, tuple(records), tuple(faults))


def header_control_id(first_bytes: bytes) -> str:
    """The message control id (H-3) from the first bytes of a message; "" when there is none. Never raises."""
    line = re.split(rb"[\r\n]", first_bytes[:1024].lstrip(b"\r\n\x00 "), maxsplit=1)[0].decode(DEFAULT_ENCODING)
    if len(line) < 2 or line[0] not in "Hh":
        return ""
    fields = line.split(line[1])
    return fields[2].strip()[:_MAX_CONTROL_ID] if len(fields) > 2 else ""


def unescape(leaf: str, delimiters: Delimiters = DEFAULT_DELIMITERS, encoding: str = DEFAULT_ENCODING) -> str:
    """Resolve escape sequences in one leaf; see `Record.unescape`."""
    mark = delimiters.escape
    if not mark or mark not in leaf:
        return leaf
    known = {"F": delimiters.field, "R": delimiters.repeat, "S": delimiters.component, "E": mark, "H": "", "N": ""}
    out: list[str] = []
    position = 0
    while True:
        start = leaf.find(mark, position)
        end = leaf.find(mark, start + 1) if start >= 0 else -1
        if end < 0:
            out.append(leaf[position:])
            return "".join(out)
        body = leaf[start + 1 : end]
        replacement = known.get(body)
        if replacement is None and (match := _HEX.fullmatch(body)):
            replacement = _decode(bytes.fromhex(match[1]), encoding, [])
        out.append(leaf[position:start])
        if replacement is None:
            # Not a sequence: the mark is data, and the second mark may open a real sequence.
            out.append(leaf[start:end])
            position = end
        else:
            out.append(replacement)
            position = end + 1


def escape(leaf: str, delimiters: Delimiters = DEFAULT_DELIMITERS) -> str:
    """A leaf as it may stand in a record: delimiters by name, control characters in hexadecimal.

    LIS01-A2: a frame's text must not hold control characters, and a CR would end the record.
    """
    mark, names = delimiters.escape, _escape_names(delimiters)
    return "".join(
        f"{mark}{names[c]}{mark}" if c in names else f"{mark}X{ord(c):02X}{mark}" if c < " " or c == "\x7f" else c
        for c in leaf
    )


def write_record(fields: Sequence[Field], delimiters: Delimiters = DEFAULT_DELIMITERS) -> str:
    """One record with its CR. `fields[0]` is the type letter; trailing empty fields are left out.

    Field 2 of an H record is set from `delimiters`, whatever `fields` says.
    Raises ValueError when they are not four different marks: nobody could read it.
    """
    _check_marks(delimiters)
    written = [_write_field(value, delimiters) for value in fields]
    if written[0].upper() == "H":
        written[1:2] = [delimiters.definition]
    while len(written) > 1 and not written[-1]:
        written.pop()
    return delimiters.field.join(written) + "\r"


def write_message(
    records: Sequence[Sequence[Field]], delimiters: Delimiters = DEFAULT_DELIMITERS, encoding: str = DEFAULT_ENCODING
) -> bytes:
    """Records as bytes, ready for framing.

    Raises ValueError as `write_record`, UnicodeEncodeError (a ValueError) when the charset lacks a character.
    """
    return "".join(write_record(fields, delimiters) for fields in records).encode(encoding)


@cache
def _check_marks(delimiters: Delimiters) -> None:
    marks = delimiters.field, delimiters.repeat, delimiters.component, delimiters.escape
    if len(set(marks)) != 4 or not all(map(_is_mark, marks)):
        raise ValueError("LIS02 delimiters are four different printable characters, neither letters nor digits")


def _is_mark(character: str) -> bool:
    return len(character) == 1 and "!" <= character <= "~" and not character.isalnum()


def _write_field(value: Field, delimiters: Delimiters) -> str:
    if isinstance(value, str):
        return escape(value, delimiters)
    if all(isinstance(part, str) for part in value):
        return _write_components([str(part) for part in value], delimiters)
    return delimiters.repeat.join(_write_components(part, delimiters) for part in value)


def _write_components(components: Sequence[str], delimiters: Delimiters) -> str:
    return delimiters.component.join(escape(leaf, delimiters) for leaf in components)


def _standard_escapes(line: str, delimiters: Delimiters) -> str:
    """A record with the vendors' `&|&` written as the standard's `&F&`; sequences are read from the left."""
    names = _escape_names(delimiters)
    mark, marks = re.escape(delimiters.escape), "".join(map(re.escape, names))
    pattern = rf"{mark}(?:([{marks}])|[EFHNRS]|X(?:[0-9A-Fa-f]{{2}})+){mark}"
    return re.sub(pattern, lambda m: f"{delimiters.escape}{names[m[1]]}{delimiters.escape}" if m[1] else m[0], line)


def _escape_names(delimiters: Delimiters) -> dict[str, str]:
    return {delimiters.escape: "E", delimiters.field: "F", delimiters.repeat: "R", delimiters.component: "S"}


def _decode(data: bytes, encoding: str, faults: list[Fault]) -> str:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        faults.append(Fault("H 1", f"not all bytes are {encoding}; read as {DEFAULT_ENCODING}"))
        return data.decode(DEFAULT_ENCODING)


def _delimiters(line: str, faults: list[Fault]) -> Delimiters:
    """The delimiters that a header defines. LIS02-A2: H, then field, repeat, component, escape."""
    if line[:1].upper() != "H":
        raise RecordError("the message does not start with a header record", f"{line[:1]} 1")
    mark = line[1:2]
    if not _is_mark(mark):  # as `transmission` has it, which finds the messages
        raise RecordError("the header names no field delimiter", "H 1 field 2")
    definition = line[2:].split(mark, 1)[0]
    distinct = "".join(dict.fromkeys(definition))
    if distinct != definition:
        faults.append(Fault("H 1 field 2", "the delimiter definition repeats a character; each is taken once"))
    if len(distinct) < 3:
        faults.append(Fault("H 1 field 2", "the delimiter definition is short; completed from the standard's"))
        distinct += "".join(c for c in DEFAULT_DELIMITERS.definition[len(distinct) :] if c not in distinct)
    if len(distinct) < 3 or any(c.isalnum() for c in distinct[:3]):
        raise RecordError("the header's delimiters cannot be told apart", "H 1 field 2")
    return Delimiters(mark, distinct[0], distinct[1], distinct[2])

"""HL7 v2 in its ER7 encoding: a lazy reader. Pure.

Splitting is what costs (LIBRARIES: an eager tree is twenty times the price), so a message is split into segments, a
segment into fields when one is asked for, and a field into repetitions, components and sub-components only where its
delimiters occur. Numbers are the standard's, from 1, and MSH-1 is the field separator itself (HL7 v2.5.1 2.9.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache

from interface.errors import SegmentError, UnsupportedMessage
from interface.wire import charsets

# HL7 table 0357
SEGMENT_SEQUENCE = 100
REQUIRED_MISSING = 101
TABLE_VALUE = 103
UNSUPPORTED_PROCESSING_ID = 202
UNSUPPORTED_VERSION = 203

_SEGMENT = re.compile(r"[A-Za-z][A-Za-z0-9]{2}")
_VERSION = re.compile(r"2(\.[0-9]){0,3}")
# HL7 table 0103, and Q: Mindray marks quality control with it (BC-5380 host interface manual, appendix C).
_PROCESSING_IDS = frozenset("PTDQ")
_NEWLINES = re.compile(r"\.(br|sp|in|ti|sk|ce)\b")
_MAX_ID = 199
_IN_ANOTHER = "a part of this segment is in another message"
# Each costs memory and time whatever stands in it. An ORU^R01 of a thousand results with a note each has 2,001.
MOST_SEGMENTS = 100_000
_MOST_HEADER_BYTES = 65_536  # of an MSH that is read for itself
_OBX_PLACES = [f"OBX^{nth}" for nth in range(256)]  # of each result of each message


class FieldState(StrEnum):
    """HL7 v2.5.1 2.5.3.4: what a sender says about a field."""

    ABSENT = "absent"  # the segment ended before it: keep what is stored
    EMPTY = "empty"  # nothing between the separators: the same
    NULL = "null"  # two quote characters: delete what is stored
    VALUED = "valued"


@dataclass(frozen=True, slots=True)
class Delimiters:
    """MSH-1 and MSH-2: component, repetition, escape, sub-component (LIS02-A2 has another order), truncation (2.7)."""

    field: str = "|"
    component: str = "^"
    repeat: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""  # says that a value was cut short; it divides nothing

    @property
    def definition(self) -> str:
        """MSH-2."""
        return self.component + self.repeat + self.escape + self.subcomponent + self.truncation


DEFAULT_DELIMITERS = Delimiters()


class Segment:
    """One segment. All accessors give "" for what was not sent, and for the explicit null `""`.

    `simple`: nothing in it but fields and components, so that most of the looking can be left out.
    """

    __slots__ = ("_encoding", "_fields", "_mark", "delimiters", "id", "nth", "text")

    def __init__(self, text: str, delimiters: Delimiters, encoding: str = "utf-8", simple: bool = False) -> None:
        self.text = text
        self.id = "OBX" if text.startswith("OBX") else text[:3].upper()  # most are: nothing is cut out for them
        self.nth = 0  # which of its kind in its message, once the message has counted
        self.delimiters = delimiters
        self._mark = delimiters.component if simple else ""  # all that a simple segment's fields are split at
        self._encoding = encoding
        self._fields: list[str] | None = None

    def __repr__(self) -> str:
        return f"Segment({self.id})"

    def _split(self) -> list[str]:
        fields = self.text.split(self.delimiters.field)
        if self.id in ("MSH", "BHS", "FHS"):
            fields.insert(1, self.delimiters.field)
        self._fields = fields
        return fields

    def field(self, number: int) -> str:
        """A field as sent."""
        fields = self._fields or self._split()
        return fields[number] if number < len(fields) else ""

    @property
    def field_count(self) -> int:
        return len(self._fields or self._split()) - 1

    def state(self, number: int) -> FieldState:
        fields = self._fields or self._split()
        if number >= len(fields):
            return FieldState.ABSENT
        if not fields[number]:
            return FieldState.EMPTY
        return FieldState.NULL if fields[number] == '""' else FieldState.VALUED

    def repeats(self, number: int) -> list[str]:
        """The repetitions of a field as sent; an empty field has none."""
        raw = self.field(number)
        if not raw:
            return []
        return raw.split(self.delimiters.repeat) if number != 2 or self.id != "MSH" else [raw]

    def value(self, number: int, component: int = 1, repeat: int = 1, subcomponent: int = 1) -> str:
        """One leaf, unescaped."""
        try:  # a seventh faster than asking first, and this is what reading a message consists of
            raw = (self._fields or self._split())[number]
        except IndexError:
            return ""
        if mark := self._mark:
            if mark not in raw:
                return raw if component == 1 == repeat == subcomponent else ""
            parts = raw.split(mark)
            return parts[component - 1] if component <= len(parts) and repeat == subcomponent == 1 else ""
        marks = self.delimiters
        if not raw or (number <= 2 and self.id == "MSH"):
            return raw
        if marks.repeat in raw:
            parts = raw.split(marks.repeat)
            raw = parts[repeat - 1] if repeat <= len(parts) else ""
        elif repeat > 1:
            return ""
        return self.leaf(raw, component, subcomponent)

    def every(self, number: int, component: int = 1, subcomponent: int = 1) -> list[str]:
        """One leaf of each repetition, unescaped: the field is split once, however often it is repeated."""
        return [self.leaf(repeat, component, subcomponent) for repeat in self.repeats(number)]

    def read(self, number: int, component: int | None = None, subcomponent: int | None = None) -> str:
        """One leaf, or a whole field as words (`component` None), unescaped and stripped."""
        fields = self._fields or self._split()
        if number >= len(fields) or not (raw := fields[number]):
            return ""
        mark = self._mark
        if not mark:
            if component is None:
                return self.words(raw, number)
            return self.value(number, component, 1, subcomponent or 1).strip()
        if mark not in raw:
            return raw.strip() if (component or 1) == (subcomponent or 1) == 1 else ""
        if component is None:
            return raw.rstrip(mark).strip()
        parts = raw.split(mark)
        return parts[component - 1].strip() if component <= len(parts) and (subcomponent or 1) == 1 else ""

    def words(self, raw: str, number: int) -> str:
        """A whole field as words: leaves unescaped, delimiters as sent, trailing empty components left out."""
        marks = self.delimiters
        if marks.component not in raw and marks.repeat not in raw and marks.escape not in raw:
            return "" if raw == '""' else raw.strip()
        return marks.repeat.join(
            marks.component.join(map(self.unescape, repeat.split(marks.component))).rstrip(marks.component)
            for repeat in self.repeats(number)
        ).strip()

    def leaf(self, raw: str, component: int = 1, subcomponent: int = 1) -> str:
        """One leaf of a single repetition, unescaped."""
        marks = self.delimiters
        if marks.component in raw:
            parts = raw.split(marks.component)
            raw = parts[component - 1] if component <= len(parts) else ""
        elif component > 1:
            return ""
        if marks.subcomponent in raw:
            parts = raw.split(marks.subcomponent)
            raw = parts[subcomponent - 1] if subcomponent <= len(parts) else ""
        elif subcomponent > 1:
            return ""
        if marks.escape in raw:
            return unescape(raw, marks, self._encoding)
        return "" if raw == '""' else raw

    def components(self, number: int, repeat: int = 1) -> list[str]:
        """The components of one repetition; sub-components stay joined by `&` and only their escapes are resolved."""
        repeats = self.repeats(number)
        if repeat > len(repeats):
            return []
        return [self.unescape(part) for part in repeats[repeat - 1].split(self.delimiters.component)]

    def unescape(self, text: str) -> str:
        """Resolve the escapes of text without delimiters, and the explicit null."""
        if self.delimiters.escape in text:
            return unescape(text, self.delimiters, self._encoding)
        return "" if text == '""' else text


class Message:
    """One message. Made by `parse` or `check_syntax`."""

    __slots__ = ("_counted", "charset_fault", "delimiters", "encoding", "segments")

    def __init__(
        self, segments: tuple[Segment, ...], delimiters: Delimiters, encoding: str, charset_fault: str
    ) -> None:
        self.segments = segments
        self.delimiters = delimiters
        self.encoding = encoding
        self.charset_fault = charset_fault
        self._counted = False

    @property
    def header(self) -> Segment:
        return self.segments[0]

    @property
    def control_id(self) -> str:
        return self.header.value(10)

    @property
    def type(self) -> str:
        """`ORU^R01`: message code and trigger event, without the structure."""
        code, event = self.header.value(9), self.header.value(9, 2)
        return f"{code}^{event}" if event else code

    @property
    def version(self) -> str:
        return self.header.value(12)

    def all(self, segment_id: str) -> Iterator[Segment]:
        """The segments with this id, in order."""
        return (segment for segment in self.segments if segment.id == segment_id)

    def first(self, segment_id: str) -> Segment | None:
        return next(self.all(segment_id), None)

    def faults(self) -> list[tuple[Segment, str]]:
        """The segments whose form is wrong, in order, each with what is."""
        found = []
        good = "\r"  # how the good segment before begins, id and separator: most begin so, too
        for at, segment in enumerate(self.segments):
            if segment.text.startswith(good):
                continue
            if fault := segment_fault(segment):
                if segment.id == "ADD" and at > 1:
                    found.append((self.segments[at - 1], _IN_ANOTHER))
                found.append((segment, fault))
            elif len(segment.text) > 3:
                good = segment.text[:4]
        return found

    def location(self, segment: Segment, field: int = 0, repeat: int = 0, component: int = 0) -> str:
        """ERR-2: segment, which of its kind, field, repetition, component."""
        if not self._counted:  # for all at once: counting for each of many segments would take minutes
            self._counted, seen = True, dict[str, int]()
            for other in self.segments:
                seen[other.id] = other.nth = seen.get(other.id, 0) + 1
        if not field:
            if segment.id == "OBX" and segment.nth < len(_OBX_PLACES):
                return _OBX_PLACES[segment.nth]
            return f"{segment.id}^{segment.nth}"
        return "^".join([segment.id, str(segment.nth)] + [str(n) for n in (field, repeat, component) if n])


def parse(block: bytes | str, encoding: str = "") -> Message:
    """Read one message. `encoding` is the peer's codec, used when MSH-18 does not say.

    Raises SegmentError when there is no MSH with usable delimiters; anything below is the reader's to judge.
    """
    if isinstance(block, str):
        decoded = charsets.Decoded(block.replace("\r\n", "\r").replace("\n", "\r").lstrip("\ufeff\r "), "utf-8")
    else:
        decoded = charsets.decode(block, encoding)
    lines = [line for line in decoded.text.split("\r") if line]
    delimiters = _delimiters(lines[0] if lines else "")
    codec = decoded.encoding
    if "\rADD" in decoded.text:
        lines = _continued(lines, f"ADD{delimiters.field}")
    body = decoded.text[len(lines[0]) :]
    marks = (delimiters.escape, delimiters.repeat, delimiters.subcomponent, '""')
    escape, repeat, subcomponent, null = marks
    simple = not any(mark in body for mark in marks)
    # A list, not a generator: that alone is a tenth of the whole reading.
    segments = [Segment(lines[0], delimiters, codec)]
    if simple:
        segments += [Segment(line, delimiters, codec, True) for line in lines[1:]]
    else:
        segments += [
            Segment(
                line, delimiters, codec, not (escape in line or repeat in line or subcomponent in line or null in line)
            )
            for line in lines[1:]
        ]
    return Message(tuple(segments), delimiters, codec, decoded.fault)


def _continued(lines: list[str], begin: str) -> list[str]:
    """The segments as they were before they were cut. HL7 v2.5.1 2.10.2.1: what stands behind ADD and its separator is
    the rest of the segment before. An ADD without anything, or behind MSH, stays: the other part is not here."""
    made = [lines[:1]]
    for line in lines[1:]:
        if len(made) > 1 and line.startswith(begin) and len(line) > len(begin):
            made[-1].append(line[len(begin) :])
        else:
            made.append([line])
    return ["".join(parts) for parts in made]


def check_syntax(block: bytes, encoding: str = "") -> Message:
    """Read a message and check what must be right before it can be answered with AA: MSH, and each segment's form.

    Raises SegmentError (AE) or UnsupportedMessage (AR), with the location for ERR-2. Deeper faults are for decoding.
    """
    if _too_long(block):
        raise SegmentError(f"the message has more than {MOST_SEGMENTS} lines", "MSH^1", SEGMENT_SEQUENCE)
    message = parse(block, encoding)
    _check_header(message)
    for index, segment in enumerate(message.segments):
        fault = segment_fault(segment)
        if fault:
            # "ß" has two capital letters: the id is cut again
            place = "".join(c if c.isascii() and c.isalnum() else "?" for c in segment.id).ljust(3, "?")[:3]
            raise SegmentError(f"{fault} (segment {index + 1} of the message)", f"{place}^1", SEGMENT_SEQUENCE)
        if index and segment.id == "MSH":
            raise SegmentError("a second MSH in one message", "MSH^2", SEGMENT_SEQUENCE)
    return message


def read_header(block: bytes, encoding: str = "") -> Message:
    """`parse` of the MSH alone, for what the rest of the message says nothing about. Raises SegmentError."""
    return parse((charsets.raw_header(block) or block)[:_MOST_HEADER_BYTES], encoding)


def header_of(block: bytes, encoding: str = "") -> Segment:
    """The header that `parse` would find, by the charset of the whole message. Raises SegmentError."""
    decoded = charsets.decode(block, encoding)
    line = decoded.text.partition("\r")[0]
    return Segment(line, _delimiters(line), decoded.encoding)


# Codecs in which the bytes of a segment's begin and end mean nothing else.
PLAIN_CODECS = frozenset({"ascii", "utf-8", *(f"iso8859-{part}" for part in range(1, 17)), "cp1251", "cp1252"})


def in_order(block: bytes, header: bytes) -> bool:
    """Whether the segments after `header`, the block's MSH as it stands there, have the form that `check_syntax` wants,
    and none is continued.

    Of a message in one of `PLAIN_CODECS`; at a fraction of the cost. A segment is known by what it begins with.
    """
    if _too_long(block):
        return False
    begin = block.find(header) + len(header)
    if b"\n" in block:
        return _out_of_order(header[3:4]).search(block[begin:].replace(b"\n", b"\r")) is None
    return _out_of_order(header[3:4]).search(block, begin) is None


@cache
def _out_of_order(separator: bytes) -> re.Pattern[bytes]:
    """The end of a line before something that is neither empty nor a segment as `segment_fault` wants it, or a second
    MSH, or an ADD, which has to be read. Results come first, which are most of what there is."""
    mark = re.escape(separator)
    segment = rb"(?![Mm][Ss][Hh]|[Aa][Dd][Dd])[A-Za-z][A-Za-z0-9]{2}(?:%s|\r|\Z)" % mark
    return re.compile(rb"\r(?!OBX%s|\r|\Z|%s)" % (mark, segment))


def _too_long(block: bytes) -> bool:
    return len(block) > MOST_SEGMENTS and block.count(b"\r") + block.count(b"\n") > MOST_SEGMENTS


def _check_header(message: Message) -> None:
    header = message.header
    if not header.value(9):
        raise SegmentError("no message type", "MSH^1^9", REQUIRED_MISSING)
    if not header.value(10):
        raise SegmentError("no message control id", "MSH^1^10", REQUIRED_MISSING)
    if len(header.field(10)) > _MAX_ID:
        raise SegmentError(f"the message control id is longer than {_MAX_ID} characters", "MSH^1^10", 104)
    processing = header.value(11)
    if processing and processing not in _PROCESSING_IDS:
        raise UnsupportedMessage("the processing id is not of table 0103", "MSH^1^11", UNSUPPORTED_PROCESSING_ID)
    if message.version and not _VERSION.fullmatch(message.version):
        raise UnsupportedMessage("not a version 2 message", "MSH^1^12", UNSUPPORTED_VERSION)


def segment_fault(segment: Segment) -> str:
    """What is wrong with the form of a segment; "" when nothing is."""
    return _fault(segment.text[:4], segment.delimiters.field)


@lru_cache(maxsize=1024)
def _fault(begin: str, separator: str) -> str:
    if not _SEGMENT.fullmatch(begin[:3]):
        return "a line does not start with a segment id"
    if len(begin) > 3 and begin[3] != separator:
        return "a segment id is not followed by the field separator"
    return _IN_ANOTHER if begin[:3].upper() == "ADD" else ""


def control_id(block: bytes) -> str:
    """MSH-10 of raw bytes; "" when it cannot be found. Never raises."""
    return _raw_field(block, 10)


def sender(block: bytes) -> tuple[str, str]:
    """MSH-3 and MSH-4 of raw bytes, as sent; "" where they cannot be found. Never raises."""
    return _raw_field(block, 3), _raw_field(block, 4)


def message_type(block: bytes) -> str:
    """MSH-9 of raw bytes as `ORU^R01`; "" when it cannot be found. Never raises."""
    header = charsets.raw_header(block)
    component = header[4:5].decode("latin-1") or "^"
    return "^".join(_raw_field(block, 9).split(component)[:2])


def unescape(text: str, delimiters: Delimiters = DEFAULT_DELIMITERS, encoding: str = "utf-8") -> str:
    r"""Resolve escape sequences in a leaf.

    HL7 v2.5.1 2.7: `\F\ \S\ \T\ \R\ \E\`, from 2.7 on `\P\`, `\Xhh..\`, `\H\ \N\` (dropped), `\.br\` and the other
    line commands (newline). Unknown sequences (`\Zhh\`, `\Cxxyy\`) stay verbatim, and an escape character that opens
    none is data (`C:\PATH`).
    """
    mark = delimiters.escape
    if not mark or mark not in text:
        return text
    known = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repeat,
        "E": mark,
        "H": "",
        "N": "",
        ".fi": "",
        ".nf": "",
    }
    if delimiters.truncation:
        known["P"] = delimiters.truncation
    return _replace_sequences(text, mark, lambda body: known.get(body, _special(body, encoding)))


def escape(text: str, delimiters: Delimiters = DEFAULT_DELIMITERS) -> str:
    """A leaf as it may stand in a segment: delimiters by name, control characters in hexadecimal."""
    mark = delimiters.escape
    names = {
        mark: "E",
        delimiters.field: "F",
        delimiters.component: "S",
        delimiters.subcomponent: "T",
        delimiters.repeat: "R",
    }
    if delimiters.truncation:
        names[delimiters.truncation] = "P"
    return "".join(
        f"{mark}{names[c]}{mark}" if c in names else f"{mark}X{ord(c):02X}{mark}" if c < " " or c == "\x7f" else c
        for c in text
    )


def _special(body: str, encoding: str) -> str | None:
    if body[:1] == "X" and len(body) > 1 and len(body) % 2 == 1:
        try:
            return bytes.fromhex(body[1:]).decode(encoding, "replace")
        except ValueError:
            return None
    return "\n" if _NEWLINES.match(body) else None


def _replace_sequences(text: str, mark: str, meaning: Callable[[str], str | None]) -> str:
    out: list[str] = []
    position = 0
    while True:
        start = text.find(mark, position)
        end = text.find(mark, start + 1) if start >= 0 else -1
        if end < 0:
            out.append(text[position:])
            return "".join(out)
        replacement = meaning(text[start + 1 : end])
        out.append(text[position:start])
        if replacement is None:
            out.append(text[start:end])
            position = end
        else:
            out.append(replacement)
            position = end + 1


def _raw_field(block: bytes, number: int) -> str:
    header = charsets.raw_header(block)[:4096]
    fields = header.split(header[3:4]) if len(header) > 3 else []
    return fields[number - 1].decode("latin-1").strip()[:_MAX_ID] if number <= len(fields) else ""


def _delimiters(header: str) -> Delimiters:
    """MSH-1 and MSH-2. Raises SegmentError when they cannot be told apart."""
    if header[:3].upper() != "MSH":
        raise SegmentError("the message does not start with MSH", "MSH^1", SEGMENT_SEQUENCE)
    mark = header[3:4]
    if not mark or mark.isalnum() or mark.isspace():
        raise SegmentError("no field separator", "MSH^1^1", REQUIRED_MISSING)
    # A fifth character, truncation, is legal from 2.7 on.
    definition = header[4:].split(mark, 1)[0]
    characters = definition + DEFAULT_DELIMITERS.definition[len(definition) :]
    used = mark + characters[:4]
    # Others than ASCII would be others by the charset, which is found by them.
    if not definition or len(set(used)) != 5 or any(c.isalnum() or c.isspace() or not c.isascii() for c in used):
        raise SegmentError("the encoding characters are missing or not distinct", "MSH^1^2", REQUIRED_MISSING)
    truncation = definition[4:5]
    if truncation in used or truncation.isalnum() or truncation.isspace() or not truncation.isascii():
        truncation = ""
    return Delimiters(mark, characters[0], characters[1], characters[2], characters[3], truncation)

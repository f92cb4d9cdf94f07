"""Lines of LIS02-A2 and HL7 messages, read and changed leaf by leaf with everything else left as it is. Pure.

For what is written in the shape of something an analyzer has sent: the simulator's messages, a capture without its
patients. A decoder never comes this way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from interface.domain.model import Protocol
from interface.driver.rules import FieldPath
from interface.wire import hl7, lis02

_HEADERS = ("MSH", "BHS", "FHS")
_ODD_BYTES = "surrogateescape"  # bytes that the charset does not have go out as they came
Marks = lis02.Delimiters | hl7.Delimiters


@dataclass(frozen=True, slots=True)
class Lines:
    """A message as its lines without their ends. `line_end`: what stood between them."""

    protocol: Protocol
    lines: tuple[str, ...]
    marks: Marks
    encoding: str
    line_end: str = "\r"
    ended: bool = True  # the last line has an end as well

    def encode(self, lines: tuple[str, ...] | list[str]) -> bytes:
        """Other lines of the same kind as bytes. Raises UnicodeEncodeError for what the charset lacks."""
        words = self.line_end.join(lines) + (self.line_end if self.ended else "")
        return words.encode(self.encoding, _ODD_BYTES)


def lines_of(protocol: Protocol, text: bytes, encoding: str = "", literal_escapes: bool = False) -> Lines:
    """The lines of an assembled LIS2 or HL7 message. Raises RecordError or SegmentError where there is no header."""
    if protocol is Protocol.HL7:
        message = hl7.parse(text, encoding)
        marks: Marks = message.delimiters
        codec = message.encoding
    else:
        codec = encoding or lis02.DEFAULT_ENCODING
        marks = lis02.parse(text, codec, literal_escapes).delimiters
    words = text.decode(codec, _ODD_BYTES).lstrip("\ufeff")
    end = "\r\n" if "\r\n" in words else "\n" if "\r" not in words else "\r"
    words = words.replace("\r\n", "\r").replace("\n", "\r")
    found = tuple(line for line in words.split("\r") if line.strip("\x00 "))
    return Lines(protocol, found, marks, codec, end, words.endswith("\r"))


def line_id(line: str, protocol: Protocol) -> str:
    """The record's letter or the segment's id."""
    return line[:3].upper() if protocol is Protocol.HL7 else line[:1].upper()


def _place(line: str, path: FieldPath) -> int:
    """Where in the split line the field stands. MSH-1 is the separator itself (HL7 v2.5.1 2.9.2)."""
    return path.field - 1 if len(path.record) == 1 or line[:3].upper() in _HEADERS else path.field


def raw(line: str, path: FieldPath, marks: Marks) -> str:
    """What stands at a path as sent, of the first repetition; the whole field where the path has no component."""
    parts, at = line.split(marks.field), _place(line, path)
    if at >= len(parts):
        return ""
    if path.component is None:
        return parts[at]
    leaf = _nth(parts[at].split(marks.repeat)[0], marks.component, path.component)
    if isinstance(marks, hl7.Delimiters) and path.subcomponent is not None:
        leaf = _nth(leaf, marks.subcomponent, path.subcomponent)
    return leaf


def _nth(text: str, mark: str, number: int) -> str:
    parts = text.split(mark)
    return parts[number - 1] if number <= len(parts) else ""


def put(line: str, path: FieldPath, value: str, marks: Marks) -> str:
    """The line with `value`, as it is to be sent, at a path; of a repeated field the first repetition."""

    def change(field: str) -> str:
        if path.component is None:
            return value
        first, *others = field.split(marks.repeat)
        if isinstance(marks, hl7.Delimiters) and path.subcomponent is not None:
            sub = _set(_nth(first, marks.component, path.component), marks.subcomponent, path.subcomponent, value)
        else:
            sub = value
        return marks.repeat.join([_set(first, marks.component, path.component, sub), *others])

    return edit(line, path, change, marks)


def edit(line: str, path: FieldPath, change: Callable[[str], str], marks: Marks) -> str:
    """The line with the whole field of a path changed, and made where it was not there and comes to hold something."""
    parts, at = line.split(marks.field), _place(line, path)
    before = parts[at] if at < len(parts) else ""
    after = change(before)
    if after == before:
        return line
    parts += [""] * (at + 1 - len(parts))
    parts[at] = after
    return marks.field.join(parts)


def _set(text: str, mark: str, number: int, value: str) -> str:
    parts = text.split(mark)
    if not value and number > len(parts):
        return text
    parts += [""] * (number - len(parts))
    parts[number - 1] = value
    return mark.join(parts)


def escaped(text: str, marks: Marks) -> str:
    """A leaf as it may stand in a line."""
    return hl7.escape(text, marks) if isinstance(marks, hl7.Delimiters) else lis02.escape(text, marks)


def unescaped(leaf: str, marks: Marks) -> str:
    """The text that a leaf stands for."""
    return hl7.unescape(leaf, marks) if isinstance(marks, hl7.Delimiters) else lis02.unescape(leaf, marks)


def fitted(before: str, inside: str, value: str) -> str:
    """`value` in the place of `inside` within the leaf `before`, padded as that was: its width stays where it can."""
    at = before.find(inside) if inside else -1
    lead, trail = (before[:at], before[at + len(inside) :]) if at >= 0 else ("", "")
    grown = len(value) - len(inside)
    if grown > 0 and lead.strip() == "" and len(lead) >= grown:
        lead = lead[grown:]
    elif grown > 0 and trail.startswith(" " * grown):
        trail = trail[grown:]
    elif grown < 0 and lead and not lead.strip():
        lead += " " * -grown
    elif grown < 0 and trail[:1] == " ":
        trail = " " * -grown + trail
    return lead + value + trail

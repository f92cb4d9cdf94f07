"""HL7 v2 messages written in their ER7 encoding: what is written reads back equal. Pure.

A field is a text (one leaf), or is made of `Repeats`, `Components`, `Subcomponents`; `NULL` deletes what the receiver
has. Delimiters and control characters in leaves are escaped, so no text can break a message or an MLLP block.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from interface.errors import SegmentError
from interface.wire.hl7 import DEFAULT_DELIMITERS, Delimiters, escape

DATA_TYPE = 102  # HL7 table 0357
_ID = re.compile(r"[A-Z][A-Z0-9]{2}")
_WITH_DELIMITERS = ("MSH", "BHS", "FHS")


class Null(Enum):
    """HL7 v2.5.1 2.5.3.4: two quote characters."""

    NULL = '""'


NULL = Null.NULL


@dataclass(frozen=True, slots=True)
class Subcomponents:
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Components:
    parts: tuple[str | Subcomponents, ...]


@dataclass(frozen=True, slots=True)
class Repeats:
    values: tuple[str | Subcomponents | Components, ...]


Value: TypeAlias = str | Null | Subcomponents | Components | Repeats


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment to be written. `fields`: from the first on; of MSH from MSH-3 on, for MSH-1 and MSH-2 are made."""

    id: str
    fields: tuple[Value, ...] = ()


def components(*parts: str | Subcomponents) -> Components:
    """A field of components."""
    return Components(parts)


def write(
    segments: Sequence[NewSegment], delimiters: Delimiters = DEFAULT_DELIMITERS, encoding: str = "utf-8"
) -> bytes:
    """The message, unframed. `encoding`: what MSH-18 of it says, which is the caller's to keep true.

    Raises SegmentError for an id that is none, and for text that `encoding` does not have: nothing is sent changed.
    """
    lines = [segment_text(segment, delimiters) for segment in segments]
    try:
        return ("\r".join(lines) + "\r").encode(encoding)
    except UnicodeEncodeError:
        for segment, line in zip(segments, lines, strict=True):
            try:
                line.encode(encoding)
            except UnicodeEncodeError:
                raise SegmentError(f"its text cannot be written in {encoding}", f"{segment.id}^1", DATA_TYPE) from None
        raise


def segment_text(segment: NewSegment, delimiters: Delimiters = DEFAULT_DELIMITERS) -> str:
    """One segment without its end; empty fields at its end are left out."""
    if not _ID.fullmatch(segment.id):
        raise SegmentError("not a segment id", "", DATA_TYPE)
    fields = [_field(value, delimiters) for value in segment.fields]
    while fields and not fields[-1]:
        fields.pop()
    begin = [segment.id, delimiters.definition] if segment.id in _WITH_DELIMITERS else [segment.id]
    return delimiters.field.join(begin + fields)


def _field(value: Value, marks: Delimiters) -> str:
    match value:
        case Null():
            return value.value
        case Repeats(values):
            return marks.repeat.join(_repeat(one, marks) for one in values)
        case _:
            return _repeat(value, marks)


def _repeat(value: str | Subcomponents | Components, marks: Delimiters) -> str:
    match value:
        case Components(parts):
            return _trim(marks.component.join(_part(part, marks) for part in parts), marks.component)
        case _:
            return _part(value, marks)


def _part(value: str | Subcomponents, marks: Delimiters) -> str:
    if isinstance(value, Subcomponents):
        return _trim(marks.subcomponent.join(_leaf(leaf, marks) for leaf in value.leaves), marks.subcomponent)
    return _leaf(value, marks)


def _leaf(text: str, marks: Delimiters) -> str:
    if text == NULL.value:  # as text, not as the null
        return f"{marks.escape}X2222{marks.escape}"
    return escape(text, marks)


def _trim(text: str, mark: str) -> str:
    return text.rstrip(mark)

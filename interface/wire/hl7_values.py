"""What OBX-2 makes of OBX-5: the kinds of value, and the parts of those that have some (HL7 v2.5.1 7.4.2.2). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from interface.wire.hl7 import Segment


class ValueType(StrEnum):
    NUMBER = "number"
    STRUCTURED = "structured"  # comparator, number, separator, number
    TEXT = "text"
    CODED = "coded"
    TIME = "time"  # an instant, a part of one, or a span
    ARRAY = "array"  # numbers of a curve
    ENCAPSULATED = "encapsulated"  # the data of a document or picture
    POINTER = "pointer"  # where one lies
    UNKNOWN = "unknown"  # of another type, or of none


_TYPES = {
    ValueType.NUMBER: "NM",
    ValueType.STRUCTURED: "SN",
    ValueType.TEXT: "ST TX FT IS ID EI CX XPN XAD XTN PN",
    ValueType.CODED: "CE CWE CNE CF",
    ValueType.TIME: "TS DTM DT TM DR",
    ValueType.ARRAY: "NA MA",
    ValueType.ENCAPSULATED: "ED",
    ValueType.POINTER: "RP",
}
TYPES: dict[str, ValueType] = {name: kind for kind, names in _TYPES.items() for name in names.split()}
# Kept with the specimen, never in a value's text
ATTACHED = frozenset({ValueType.ARRAY, ValueType.ENCAPSULATED, ValueType.POINTER})
# Components of a coded value, by what says it best
_SAYS = (1, 0, 4, 3, 8)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Attached:
    """`data`: base64 text, plain text, or where the thing lies. `media_type` says `;encoding=hex` where it is that."""

    media_type: str
    data: str


def value_type(name: str) -> ValueType:
    """The kind of an OBX-2."""
    return TYPES.get(name.strip().upper(), ValueType.UNKNOWN)


def coded(segment: Segment, number: int = 5) -> list[str]:
    """Of each repetition the text, else the code, the alternate text and code, the original text (HL7 v2.5.1 2.A.13).
    `^^99ROC`, a coding system without a code, says nothing.

    An `&` that a sender did not escape is one of the text (HL7 v2.5.1 2.7): what stands behind it is said, too.
    """
    component, mark = segment.delimiters.component, segment.delimiters.subcomponent
    words: list[str] = []
    for repeat in segment.repeats(number):
        parts = repeat.split(component)
        said = (segment.unescape(parts[at]) for at in _SAYS if at < len(parts))
        if text := next((part.strip() for part in said if part.replace(mark, " ").strip()), ""):
            words.append(text)
    return words


def lines(segment: Segment, number: int = 5) -> str:
    """HL7 v2.5.1 2.A.78: repetitions of TX are lines."""
    return "\n".join(segment.unescape(line) for line in segment.repeats(number)).strip()


def encapsulated(segment: Segment, number: int = 5) -> Attached:
    """HL7 v2.5.1 2.A.24: source, type, subtype, encoding, data. Senders break base64 into lines, which are no data."""
    data, encoding = segment.value(number, 5), segment.value(number, 4).strip().lower()
    media = _media_type(segment, number, 2)
    if encoding != "a":
        data = _SPACE.sub("", data)
    return Attached(f"{media};encoding=hex" if encoding == "hex" else media, data)


def pointer(segment: Segment, number: int = 5) -> Attached:
    """HL7 v2.5.1 2.A.65: pointer, application, type, subtype."""
    return Attached(_media_type(segment, number, 3), segment.value(number).strip())


def _media_type(segment: Segment, number: int, component: int) -> str:
    parts = (segment.value(number, at).strip() for at in (component, component + 1))
    return "/".join(part for part in parts if part).lower()

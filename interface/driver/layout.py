"""What a `driver.toml` says about records that are neither LIS02-A2's nor HL7's: tags, columns, separated values. Pure.

A place is a tag (`ci`), columns from-to counted from 1 (`16-27`), or a column's number or header name. `=CRP` is the
word itself, where the device does not say it; `td + tt` are two places with a blank between them. Where several are
given, the first that is not empty counts; of flags and comments all do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class LayoutKind(StrEnum):
    TAGGED = "tagged"  # fields that begin with their tag
    FIXED = "fixed"  # fields at fixed columns
    CSV = "csv"  # separated values, a row for each result or each specimen


class Meaning(StrEnum):
    """What a place says. `type`: the kind of the record; `role`: what the `[[role]]` rules look at."""

    TYPE = "type"
    ROLE = "role"
    SENDER = "sender"
    CONTROL_ID = "control_id"
    PATIENT_ID = "patient_id"
    PATIENT_NAME = "patient_name"
    BIRTH_DATE = "birth_date"
    SEX = "sex"
    SPECIMEN_ID = "specimen_id"
    SPECIMEN_TYPE = "specimen_type"
    ORDER_CODE = "order_code"
    COLLECTED = "collected"
    CODE = "code"
    NAME = "name"
    VALUE = "value"
    UNIT = "unit"
    REFERENCE = "reference"
    FLAGS = "flags"
    STATUS = "status"
    INSTRUMENT_TIME = "instrument_time"
    OPERATOR = "operator"
    METHOD = "method"
    COMMENTS = "comments"
    MODULE = "module"
    REAGENT_LOT = "reagent_lot"
    CALIBRATOR_LOT = "calibrator_lot"
    CONTROL_LOT = "control_lot"
    LEVEL = "level"
    SCALE = "scale"  # a power of ten: digits without a point are so many tenths or hundredths


OF_RESULTS = frozenset(
    {
        Meaning.CODE,
        Meaning.NAME,
        Meaning.VALUE,
        Meaning.UNIT,
        Meaning.REFERENCE,
        Meaning.FLAGS,
        Meaning.STATUS,
        Meaning.INSTRUMENT_TIME,
        Meaning.OPERATOR,
        Meaning.METHOD,
        Meaning.COMMENTS,
        Meaning.SCALE,
        Meaning.MODULE,
        Meaning.REAGENT_LOT,
        Meaning.CALIBRATOR_LOT,
    }
)
MATERIALS = (
    Meaning.MODULE,
    Meaning.REAGENT_LOT,
    Meaning.CALIBRATOR_LOT,
    Meaning.CONTROL_LOT,
    Meaning.LEVEL,
)  # in the order of `MeasuredWith`


@dataclass(frozen=True, slots=True)
class Place:
    """One place. `first`, `last`: columns, from 1; 0 where it is named. `word`: it says the same in every record."""

    name: str
    first: int = 0
    last: int = 0
    word: str | None = None


Places = tuple[Place, ...]  # read with a blank between them
Fields = Mapping[Meaning, tuple[Places, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """One record layout. `results`: several results in a record, each with the places that differ from `fields`."""

    kind: LayoutKind
    fields: Fields = field(default_factory=lambda: MappingProxyType({}))
    results: tuple[Fields, ...] = ()
    types: frozenset[str] = frozenset()  # of records that hold results; empty: all do
    query_types: frozenset[str] = frozenset()  # of records that ask for work
    value_pattern: re.Pattern[str] | None = None  # groups `value` and `unit`, where a field holds both
    skip_empty: bool = False  # a result without a value was not asked for
    # tagged
    separator: str = ""  # begins a field
    ends: str = ""  # ends a field
    fold: str = ""  # stands where a line is full, in words and tags too: none of the text
    tag_width: int = 0
    begins: str = ""  # the tag that begins a result
    ignored: frozenset[str] = frozenset()  # tags that are known and not used
    # fixed
    repeat_at: int = 0  # from this column on, the results' places repeat to the end of the record; 0: they do not
    repeat_width: int = 0
    unfold: bool = False  # ends of lines within a record are none of it
    width: int = 0  # characters of a record; 0: as far as the places reach
    lines: bool = False  # each line is a record, not the whole block
    # csv
    delimiter: str = ","
    quote: str = '"'
    header: bool = False
    columns: int = 0  # with a header: from this column on, each is a result whose code is its header; 0: none
    needed: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        names = {
            place.name
            for fields in (self.fields, *self.results)
            for places in fields.values()
            for parts in places
            for place in parts
            if place.word is None
        }
        object.__setattr__(self, "needed", frozenset(names))

    @property
    def reach(self) -> int:
        """The last column that is read."""
        results = () if self.repeat_at else self.results
        every = (places for fields in (self.fields, *results) for places in fields.values())
        return max((place.last for places in every for parts in places for place in parts), default=0)

    def cut(self, text: str) -> tuple[str, list[str]]:
        """Tagged: what belongs to no field, and the fields with what ends them."""
        if self.separator:
            lead, *pieces = text.split(self.separator)
            return lead, pieces
        *pieces, rest = text.split(self.ends)
        return rest, [piece + self.ends for piece in pieces]

    @property
    def specimen_tags(self) -> frozenset[str]:
        """Tagged: the tags that hold for all results behind them."""
        return frozenset(
            place.name
            for meaning, places in self.fields.items()
            if meaning not in OF_RESULTS
            for parts in places
            for place in parts
        )

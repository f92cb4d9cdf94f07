"""Code maps in time: which code stands for which test, on which link and specimen type, from when to when. Pure.

A key has spans that never overlap. Whoever changes a key says what is to be there; what is not touched stays as it is:
a span that begins tomorrow leaves today's in force until then, one that ends gives way to what was there before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID


@dataclass(frozen=True, slots=True, order=True)
class MapKey:
    """`link` "": every link of the driver; `specimen_type` "": any type that has no row of its own."""

    driver: str
    link: str
    code: str
    specimen_type: str

    def __str__(self) -> str:
        where = f"link {self.link}" if self.link else self.driver
        return f"{where} {self.code}" + (f" on {self.specimen_type}" if self.specimen_type else "")


@dataclass(frozen=True, slots=True)
class Target:
    """What a code stands for. `test` is the laboratory's code of the test, "": results are to be held.

    `unit`: the UCUM code of what the number is in when the analyzer sends no unit. `method`: by which the code's
    results are measured, as the laboratory calls it; "": as the analyzer says.
    """

    test: str
    unit: str = ""
    note: str = ""
    method: str = ""

    def __str__(self) -> str:
        said = self.test or "held", self.unit and f"[{self.unit}]", self.method and f"by {self.method}"
        return " ".join(filter(None, said))


@dataclass(frozen=True, slots=True)
class Span:
    """A target from `start` on and before `end`; None: for good."""

    target: Target
    start: datetime
    end: datetime | None = None

    def covers(self, instant: datetime) -> bool:
        return self.start <= instant and (self.end is None or instant < self.end)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants for a key. `start` None: from now on."""

    key: MapKey
    target: Target
    start: datetime | None = None
    end: datetime | None = None


class Kind(StrEnum):
    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """The spans of one key before and after a change."""

    key: MapKey
    before: tuple[Span, ...]
    after: tuple[Span, ...]

    @property
    def ended(self) -> tuple[Span, ...]:
        return tuple(span for span in self.before if span not in self.after)

    @property
    def added(self) -> tuple[Span, ...]:
        return tuple(span for span in self.after if span not in self.before)

    def kind(self, now: datetime) -> Kind:
        """What it does to what holds from now on."""
        before, after = _from(self.before, now), _from(self.after, now)
        return Kind.ADD if not before else Kind.CHANGE if after else Kind.REMOVE


@dataclass(frozen=True, slots=True)
class MapRow:
    """One row of a map. `change`: the number of the change that made it, 0 for one that was shipped."""

    id: UUID
    key: MapKey
    span: Span
    site: bool
    revision: int
    change: int = 0
    test_name: str = ""
    loinc: str = ""
    test_unit: str = ""
    ended_at: datetime | None = None
    ended_by: int = 0

    @property
    def strength(self) -> tuple[bool, bool, int, UUID]:
        """Of the rows for one code and specimen type the strongest counts: the site's, the link's own, the newest."""
        return self.site, bool(self.key.link), self.revision, self.id


Effective = dict[tuple[str, str], MapRow]


def effective(rows: Iterable[MapRow], driver: str, link: str, at: datetime) -> Effective:
    """What holds on a link at an instant, by code and specimen type; rows without a test included."""
    found: Effective = {}
    for row in rows:
        key = row.key
        if key.driver == driver and key.link in ("", link) and row.span.covers(at):
            place = key.code, key.specimen_type
            if place not in found or found[place].strength < row.strength:
                found[place] = row
    return found


def lookup(found: Effective, code: str, specimen_type: str) -> MapRow | None:
    """The row for the code on this specimen type, else the one for any."""
    return found.get((code, specimen_type)) or found.get((code, ""))


def _from(spans: Iterable[Span], now: datetime) -> tuple[Span, ...]:
    return tuple(span for span in spans if span.end is None or span.end > now)


def cut(spans: Iterable[Span], start: datetime, end: datetime | None) -> tuple[Span, ...]:
    """The spans without what lies in [start, end)."""
    left: list[Span] = []
    for span in spans:
        if (span.end is not None and span.end <= start) or (end is not None and end <= span.start):
            left.append(span)
            continue
        if span.start < start:
            left.append(replace(span, end=start))
        if end is not None and (span.end is None or end < span.end):
            left.append(replace(span, start=end))
    return tuple(left)


def overlay(spans: Iterable[Span], new: Span) -> tuple[Span, ...]:
    """The spans with `new` in the place of what overlaps it."""
    return tuple(sorted((*cut(spans, new.start, new.end), new), key=lambda span: span.start))


def put(spans: Sequence[Span], wanted: Wanted, now: datetime) -> tuple[Span, ...]:
    """The spans once `wanted` holds; unchanged where it holds already."""
    start = wanted.start or now
    there = next((span for span in spans if span.covers(start)), None)
    if there is not None and (there.target, there.end) == (wanted.target, wanted.end):
        if wanted.start is None or there.start == wanted.start:
            return tuple(spans)
    return overlay(spans, Span(wanted.target, start, wanted.end))


def replan(spans: Sequence[Span], wanted: Iterable[Wanted], now: datetime) -> tuple[Span, ...]:
    """The spans once `wanted` is all that holds from now on. What has passed stays, and so does what holds already."""
    after = cut(spans, now, None)
    for one in wanted:
        start = one.start or now
        if one.start is None:
            there = next((span for span in spans if span.covers(now)), None)
            if there is not None and (there.target, there.end) == (one.target, one.end):
                start = there.start
        after = overlay(after, Span(one.target, start, one.end))
    return after

"""What one catalogue says to the results of analyzers that are alike, looked up once: what a code stands for, whose
limits count.

Everything in here follows from a catalogue, which never changes; so results with the same code share one `Plan`, and
those of people whom no interval tells apart share one `Limits` for each test. Both are known by identity. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from interface.domain.facts import Subject
from interface.domain.intervals import Selection, possible_days, select, together
from interface.domain.model import CodeMapping, HoldReason, Interval, LabTest, Step

if TYPE_CHECKING:
    from interface.domain.catalogue import Catalogue

MOST_BANDS = 1024  # of people that are told apart; more are looked up again

Band: TypeAlias = tuple[object, ...]


@dataclass(slots=True, eq=False)
class Plan:
    """What a code stands for on a specimen type, and the line of the explanation that says so."""

    mapping: CodeMapping | None
    test: LabTest | None  # None: there is no mapping that can be used
    step: Step
    holds: tuple[HoldReason, ...] = ()

    @property
    def method(self) -> str:
        """By which the map says that the code is measured."""
        return self.mapping.method if self.mapping else ""


@dataclass(slots=True, eq=False)
class Limits:
    """The intervals that apply to the results of a test for some people."""

    selection: Selection


NO_LIMITS = Limits(Selection())


class Book:
    """Made by `book_of`. `driver`: of the analyzer, `analyzer`: where intervals ask for it; `methods`: that they ask
    for."""

    __slots__ = ("_bands", "_catalogue", "_limits", "_marks", "analyzer", "driver", "methods", "plans")

    def __init__(self, catalogue: Catalogue, driver: str, analyzer: str) -> None:
        self._catalogue = catalogue
        self.driver, self.analyzer = driver, analyzer
        self.methods = frozenset([one.method for several in catalogue.intervals.values() for one in several])
        self.plans: dict[str, dict[str, Plan]] = {}  # by the type of the specimen, then code
        self._bands: dict[Band, dict[str, Limits]] = {}
        self._limits: dict[tuple[str, str, str, str, bool, bool], Limits] = {}
        self._marks = _Marks(one for several in catalogue.intervals.values() for one in several)

    def people(self, subjects: tuple[Subject, ...]) -> dict[str, Limits]:
        """What is known of the limits of people like these, by `which`; the caller adds to it."""
        band = tuple(self._marks.band(subject) for subject in subjects)
        known = self._bands.get(band)
        if known is None:
            if len(self._bands) >= MOST_BANDS:
                self._bands.clear()
            known = self._bands[band] = {}
        return known

    def may_differ_between(self, first: Subject, last: Subject) -> bool:
        """Whether an interval may apply to a subject at a time between these two and at neither of them."""
        return self._marks.between(first, last) > 1

    def limits(self, test: LabTest, method: str, subjects: tuple[Subject, ...]) -> Limits:
        """The interval at collection. When that time is unknown: the one that applies whenever it may have been, and
        the critical limits that apply whenever it may have been."""
        intervals = self._catalogue.intervals.get(test.id, ())
        if not intervals:
            return NO_LIMITS
        alike = {self._marks.band(subject): subject for subject in subjects}.values()
        found = [select(intervals, subject, method=method, analyzer=self.analyzer) for subject in alike]
        chosen = found[0]
        if not all(one == chosen for one in found):
            chosen = together(found)
        several = " ".join([one.id for one in chosen.ambiguous + chosen.possible])
        unsure, critical_unsure = chosen.unsure, chosen.critical_unsure
        key = (test.id, _id(chosen.interval), _id(chosen.critical), several, unsure, critical_unsure)
        known = self._limits.get(key)
        if known is None or known.selection != chosen:
            known = self._limits[key] = Limits(chosen)
        return known


def which(test: LabTest, method: str) -> str:
    """What the limits of a test, measured by a method, are known by."""
    return f"{test.id} {method}" if method else test.id


def _id(interval: Interval | None) -> str:
    return "" if interval is None else interval.id


class _Marks:
    """The ages and instants at which an interval begins or ends: between two of them nobody is told apart."""

    __slots__ = ("_days", "_hours", "_times")

    def __init__(self, intervals: Iterable[Interval]) -> None:
        days: set[int] = set()
        hours: set[int] = set()
        times: set[datetime] = set()
        for one in intervals:
            days.update((one.age_low_d, one.age_low_d if one.age_high_d is None else one.age_high_d))
            days.update(day for day in possible_days(one) if day is not None)
            for mark in (one.age_low_h, one.age_high_h):
                if mark is not None:
                    hours.add(mark)
                    days.update((mark // 24, -(-mark // 24) + 1))  # of these days it may be that hour, or is past it
            times.update(mark for mark in (one.valid_from, one.valid_to) if mark is not None)
        self._days, self._hours, self._times = sorted(days), sorted(hours), sorted(times)

    def band(self, subject: Subject) -> Band:
        """All that `intervals.select` looks at in a subject."""
        at = subject.collected_at
        return (
            subject.sex,
            subject.specimen_type,
            subject.pregnant,
            subject.gestation_weeks,
            None if subject.age_d is None else bisect_right(self._days, subject.age_d),
            None if subject.age_h is None else bisect_right(self._hours, subject.age_h),
            None if at is None else bisect_right(self._times, at),
        )

    def between(self, first: Subject, last: Subject) -> int:
        """How many of them lie between two subjects; what is not known of one of the two may be anything."""
        passed = _passed(self._days, first.age_d, last.age_d) + _passed(self._hours, first.age_h, last.age_h)
        if first.collected_at is not None and last.collected_at is not None:
            passed += bisect_right(self._times, last.collected_at) - bisect_right(self._times, first.collected_at)
        return passed


def _passed(marks: list[int], first: int | None, last: int | None) -> int:
    if first is None or last is None:
        return 0 if first is last else len(marks)
    return bisect_right(marks, last) - bisect_right(marks, first)


def book_of(catalogue: Catalogue, driver: str, analyzer: str) -> Book:
    """The catalogue's book for an analyzer. Those that no interval tells apart share one: of 64 that are alike each
    would else keep all that its values come to."""
    key = driver, analyzer
    known = catalogue.books.get(key)
    if known is None:
        analyzers = {one.analyzer for several in catalogue.intervals.values() for one in several}
        shared = driver, analyzer if analyzer in analyzers else ""
        known = catalogue.books.get(shared) or catalogue.books.setdefault(shared, Book(catalogue, *shared))
        catalogue.books[key] = known
    return known

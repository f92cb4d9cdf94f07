"""Whom a result may be of, where something that reference intervals ask for is not known of its patient or specimen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

from interface.domain.facts import Subject
from interface.domain.model import Interval, Sex

TOLD_APART = (Sex.FEMALE, Sex.MALE)
MOST_POSSIBLE = 256  # of more nothing is worked out

_DAY = 24  # hours
_Age = tuple[int | None, int | None]  # in hours, in days
_Pregnancy = tuple[bool | None, int | None]  # whether, and the weeks


def possible_subjects(rows: Sequence[Interval], subject: Subject, method: str) -> tuple[tuple[Subject, str], ...]:
    """Everybody whom the rows tell apart among those that it may be, each with the method by which it was measured; ()
    where they are too many. Only what the rows ask for is supposed. A sex for which no row is made is as one that is
    not known; of a specimen's type and a method there may always be another than the rows name."""
    asked = any(one.sex is not None or one.pregnant is not None for one in rows)
    sexes = TOLD_APART if asked and subject.sex not in TOLD_APART else (subject.sex,)
    people = [(sex, *one) for sex in sexes for one in _pregnancies(rows, subject, sex)]
    types = [subject.specimen_type] if subject.specimen_type else sorted({"", *(one.specimen_type for one in rows)})
    methods = [method] if method else sorted({"", *(one.method for one in rows)})
    ages = _ages(rows, subject)
    if len(people) * len(types) * len(methods) * len(ages) > MOST_POSSIBLE:
        return ()
    return tuple([
        (
            replace(
                subject, sex=sex, pregnant=pregnant, gestation_weeks=weeks, specimen_type=kind, age_h=age_h, age_d=age_d
            ),
            by,
        )
        for (sex, pregnant, weeks), (age_h, age_d), kind, by in product(people, ages, types, methods)
    ])  # fmt: skip


def _pregnancies(rows: Sequence[Interval], subject: Subject, sex: Sex) -> list[_Pregnancy]:
    known, weeks = subject.pregnant, subject.gestation_weeks
    if all(one.pregnant is None for one in rows) or known is False:
        return [(known, weeks)]
    found: list[_Pregnancy] = [] if known else [(False, weeks)]
    if known or sex is not Sex.MALE:
        marks = [0, *_marks((one.gestation_low_w, one.gestation_high_w) for one in rows)]
        found += [(True, week) for week in (marks if weeks is None else [weeks])]
    return found


def _ages(rows: Sequence[Interval], subject: Subject) -> list[_Age]:
    """Days are those of the calendar: in so many hours there pass as many whole days, or one more."""
    hours, days = subject.age_h, subject.age_d
    in_hours = _marks((one.age_low_h, one.age_high_h) for one in rows)
    if hours is not None or (days is not None and not in_hours):
        return [(hours, days)]
    if days is not None:
        first, last = max(days - 1, 0) * _DAY, (days + 1) * _DAY
        return [(hour, days) for hour in sorted({first, *(hour for hour in in_hours if first < hour < last)})]
    in_days = [day * _DAY for day in _marks((one.age_low_d, one.age_high_d) for one in rows)]
    if not in_hours and not any(in_days):
        return [(None, None)]
    before = [hour - _DAY for hour in in_days if hour]
    return [(hour, hour // _DAY + more) for hour in sorted({0, *in_hours, *in_days, *before}) for more in (0, 1)]


def _marks(pairs: Iterable[tuple[int | None, int | None]]) -> list[int]:
    """Where something begins or ends."""
    return sorted({mark for pair in pairs for mark in pair if mark is not None})

"""Which reference interval applies. What is unknown of the subject is never guessed: what depends on it is not used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from interface.domain.facts import Subject
from interface.domain.model import Interval, IntervalUse, Sex
from interface.domain.possible import TOLD_APART, possible_subjects
from interface.domain.record import record

_ENDLESS_H = 1 << 40
_NO_LIMITS = Interval("", "", "")
MOST_SPAN = 10_000_000  # hours, days or weeks


@record
class Selection:
    """The interval that applies, or None; `ambiguous` names those between which nothing decides.

    `critical`: the row whose critical limits count, which is the interval itself unless a row of critical limits
    applies. `possible`: where it is not known which row that is, those that it may be; where each of them surely
    applies at its time and all give the same critical limits, `critical` is one of them. `unsure`: there is no interval
    because of what is not known (sex, age, …): with it one might apply; `critical_unsure`: so with the critical limits.
    """

    interval: Interval | None = None
    ambiguous: tuple[Interval, ...] = ()
    critical: Interval | None = None
    unsure: bool = False
    critical_unsure: bool = False
    possible: tuple[Interval, ...] = ()


def select(intervals: Iterable[Interval], subject: Subject, *, method: str = "", analyzer: str = "") -> Selection:
    """The most specific interval that surely applies, then the one of highest priority.

    `intervals`: those of one test. An interval is more specific than another when it applies to fewer people or
    specimens and to none that the other does not. Two that are left with equal priority and different limits are
    ambiguous. Where no critical limits surely apply, those count that whoever it may be has.
    """
    rows = tuple(intervals)
    reference, critical, others = _applying(rows, subject, method, analyzer)
    chosen, left = _most_specific(reference)
    limits, several = _most_specific(critical)
    possible: tuple[Interval, ...] = ()
    if several or (left and limits is None):
        limits, possible = _critical_of(several or left)
    elif limits is None and chosen is not None and chosen.use is IntervalUse.BOTH:
        limits = chosen
    ambiguous = left or several
    known = chosen is not None, limits is not None and has_critical(limits)
    unsure = [
        (one.use is not IntervalUse.CRITICAL, has_critical(one))
        for one in (() if all(known) else others)
        if _may_apply(one, subject, method, analyzer)
    ]
    others_may = not known[1] and any(critical or possible for _, critical in unsure)
    if others_may:
        anybody = _of_anybody(rows, subject, method, analyzer)
        if any(map(has_critical, anybody)):
            limits, possible = None, anybody
    critical_unsure = not known[1] and (bool(possible) or others_may)
    return Selection(
        None if ambiguous else chosen, ambiguous, limits,
        bool(ambiguous) or (not known[0] and any(reference for reference, _ in unsure)), critical_unsure, possible,
    )  # fmt: skip


def _applying(
    rows: tuple[Interval, ...], subject: Subject, method: str, analyzer: str
) -> tuple[list[Interval], list[Interval], list[Interval]]:
    """Those that surely apply, for reference and for critical values, and the others."""
    reference: list[Interval] = []
    critical: list[Interval] = []
    others: list[Interval] = []
    for interval in rows:
        if _applies(interval, subject, method, analyzer):
            (critical if interval.use is IntervalUse.CRITICAL else reference).append(interval)
        else:
            others.append(interval)
    return reference, critical, others


def _of_anybody(rows: tuple[Interval, ...], subject: Subject, method: str, analyzer: str) -> tuple[Interval, ...]:
    """The rows that give the critical limits of everybody whom it may be of; one without limits where somebody has
    none. Whom nobody knows as a man or a woman, or how old, is one of these, and critical for each is critical."""
    found: dict[str, Interval] = {}
    for one, by in possible_subjects(rows, subject, method):
        reference, critical, _ = _applying(rows, one, by, analyzer)
        limits, several = _most_specific(critical)
        chosen, left = _most_specific(reference)
        for row in several or (limits and (limits,)) or left or (chosen and (chosen,)) or (_NO_LIMITS,):
            row = row if has_critical(row) else _NO_LIMITS
            found[row.id] = row
    if not found:  # they are too many to be looked at
        found = {row.id: row for row in rows if has_critical(row) and _may_apply(row, subject, method, analyzer)}
        found[_NO_LIMITS.id] = _NO_LIMITS
    return tuple(sorted(found.values(), key=lambda row: (not row.id, row.id)))


def together(found: Sequence[Selection]) -> Selection:
    """What is certain where it is not known which of these is the right one: no interval, and the critical limits only
    as far as each of them gives some."""
    rows = {row.id: row for one in found for row in one.possible or (one.critical or _NO_LIMITS,)}
    limits, possible = _critical_of(tuple(rows.values()))
    unsure = any(one.unsure or one.interval is not None for one in found)
    critical_unsure = any(one.critical_unsure for one in found) or (limits is None and bool(possible))
    if critical_unsure and limits is not None:
        limits, possible = None, tuple(rows.values())
    return Selection(None, (), limits, unsure, critical_unsure, possible)


def _critical_of(rows: tuple[Interval, ...]) -> tuple[Interval | None, tuple[Interval, ...]]:
    """The critical limits that count whichever of these rows applies, and the rows where there are several."""
    if not any(map(has_critical, rows)):
        return None, ()
    same = len({_critical(one) for one in rows}) == 1
    return rows[0] if same else None, rows if len(rows) > 1 else ()


def _critical(one: Interval) -> tuple[object, ...]:
    return (one.unit, one.critical_low, one.critical_high, one.critical_values) if has_critical(one) else ()


def has_critical(one: Interval) -> bool:
    """Whether critical limits of a row count."""
    return _says_critical(one) and one.use is not IntervalUse.REFERENCE


def _says_critical(one: Interval) -> bool:
    return bool(one.critical_values) or (one.critical_low, one.critical_high) != (None, None)


def faults(one: Interval) -> tuple[str, ...]:
    """Why a row can never be what was meant; () when nothing speaks against it."""
    low_h = one.age_low_d * 24 if one.age_low_h is None else one.age_low_h
    high_h = one.age_high_h if one.age_high_h is not None else one.age_high_d and one.age_high_d * 24
    limits = one.low, one.critical_low, one.critical_high, one.high
    spans = one.age_low_d, one.age_low_h, one.age_high_d, one.age_high_h, one.gestation_low_w, one.gestation_high_w
    checks = {
        f"ages and weeks are from 0 to {MOST_SPAN}": any(
            not 0 <= span <= MOST_SPAN for span in spans if span is not None
        ),
        "an age limit is in hours or in days, not in both": (one.age_low_h is not None and one.age_low_d > 0)
        or (one.age_high_h is not None and one.age_high_d is not None),
        "the upper age is not above the lower": high_h is not None and high_h <= low_h,
        "weeks of gestation are of a pregnancy": (one.gestation_low_w, one.gestation_high_w) != (None, None)
        and one.pregnant is not True,
        "the upper weeks are not above the lower": one.gestation_high_w is not None
        and one.gestation_high_w <= (one.gestation_low_w or 0),
        "the lower limit is above the upper": _crossed(one.low, one.high),
        "the lower critical limit is above the upper": _crossed(one.critical_low, one.critical_high),
        "a row of critical limits has no others": one.use is IntervalUse.CRITICAL
        and (bool(one.normal_values) or (one.low, one.high) != (None, None)),
        "a row of reference limits has no critical ones": one.use is IntervalUse.REFERENCE and _says_critical(one),
        "it says nothing": not any(limit is not None for limit in limits)
        and not (one.text or one.normal_values or one.abnormal_values or one.critical_values),
        "it ends before it begins": one.valid_from is not None
        and one.valid_to is not None
        and one.valid_to <= one.valid_from,
    }
    return tuple(text for text, wrong in checks.items() if wrong)


def _crossed(low: Decimal | None, high: Decimal | None) -> bool:
    return low is not None and high is not None and low > high


def _most_specific(applying: list[Interval]) -> tuple[Interval | None, tuple[Interval, ...]]:
    """The one, or those between which nothing decides."""
    if len(applying) < 2:
        return (applying[0] if applying else None), ()
    specific = [one for one in applying if not any(_narrower(other, one) for other in applying)]
    top = max(interval.priority for interval in specific)
    left = sorted((interval for interval in specific if interval.priority == top), key=lambda interval: interval.id)
    if len({_limits(interval) for interval in left}) > 1:
        return None, tuple(left)
    return left[0], ()


def _applies(one: Interval, subject: Subject, method: str, analyzer: str) -> bool:
    return (
        (one.sex is None or one.sex is subject.sex)
        and one.specimen_type in ("", subject.specimen_type)
        and (one.pregnant is None or one.pregnant is subject.pregnant)
        and one.method in ("", method)
        and one.analyzer in ("", analyzer)
        and _of_age(one, subject)
        and _of_gestation(one, subject)
        and _valid(one, subject)
    )


def _may_apply(one: Interval, subject: Subject, method: str, analyzer: str) -> bool:
    """Whether it might apply, were all known that is not known of the subject. A sex for which no row is made is as
    one that is not known."""
    return (
        (one.sex is None or one.sex is subject.sex or subject.sex not in TOLD_APART)
        and (not subject.specimen_type or one.specimen_type in ("", subject.specimen_type))
        and (one.pregnant is None or subject.pregnant is None or one.pregnant is subject.pregnant)
        and (one.pregnant is not True or subject.sex is not Sex.MALE)
        and (not method or one.method in ("", method))
        and one.analyzer in ("", analyzer)
        and _may_be_of_age(one, subject)
        and (subject.gestation_weeks is None or _of_gestation(one, subject))
        and (subject.collected_at is None or _valid(one, subject))
    )


def possible_days(one: Interval) -> tuple[int, int | None]:
    """Between which days of age, the last left out, somebody may be whose hours are not known. Days are calendar days:
    so many of them pass in a day less and in a day more of hours."""
    low = one.age_low_d if one.age_low_h is None else one.age_low_h // 24 - 1
    return low, one.age_high_d if one.age_high_h is None else one.age_high_h // 24 + 2


def _may_be_of_age(one: Interval, subject: Subject) -> bool:
    hours, days = subject.age_h, subject.age_d
    low, high = possible_days(one)
    if days is not None and (days < low or (high is not None and days >= high)):
        return False
    return hours is None or (
        (one.age_low_h is None or hours >= one.age_low_h) and (one.age_high_h is None or hours < one.age_high_h)
    )


def _of_age(one: Interval, subject: Subject) -> bool:
    if one.age_low_h is not None:
        old_enough = subject.age_h is not None and subject.age_h >= one.age_low_h
    else:
        old_enough = one.age_low_d <= 0 or (subject.age_d is not None and subject.age_d >= one.age_low_d)
    if not old_enough or one.age_high_h is None:
        high = one.age_high_d
        return old_enough and (high is None or (subject.age_d is not None and subject.age_d < high))
    return subject.age_h is not None and subject.age_h < one.age_high_h


def _of_gestation(one: Interval, subject: Subject) -> bool:
    low, high, weeks = one.gestation_low_w, one.gestation_high_w, subject.gestation_weeks
    if low is None and high is None:
        return True
    return weeks is not None and (low is None or low <= weeks) and (high is None or weeks < high)


def _valid(one: Interval, subject: Subject) -> bool:
    start, end, at = one.valid_from, one.valid_to, subject.collected_at
    if start is None and end is None:
        return True
    return at is not None and (start is None or start <= at) and (end is None or at < end)


def collide(one: Interval, other: Interval) -> bool:
    """Whether the two would be ambiguous: for the same people and specimens at some time, with the same priority."""
    critical = IntervalUse.CRITICAL
    return (
        _scope(one) == _scope(other)
        and one.priority == other.priority
        and (one.use is critical) == (other.use is critical)
        and not any(
            first.valid_to is not None and second.valid_from is not None and first.valid_to <= second.valid_from
            for first, second in ((one, other), (other, one))
        )
    )


def _narrower(one: Interval, other: Interval) -> bool:
    """Whether `one` applies to a proper part of what `other` applies to."""
    scope, wider = _scope(one), _scope(other)
    if scope == wider:
        return False
    words, bands = scope
    wider_words, wider_bands = wider
    return all(theirs in (None, "", ours) for ours, theirs in zip(words, wider_words, strict=True)) and all(
        low >= wider_low and high <= wider_high
        for (low, high), (wider_low, wider_high) in zip(bands, wider_bands, strict=True)
    )


def _scope(one: Interval) -> tuple[tuple[object, ...], tuple[tuple[int, int], tuple[int, int]]]:
    """What it applies to: words that must agree, and bands of age in hours and of weeks."""
    low_h = one.age_low_d * 24 if one.age_low_h is None else one.age_low_h
    high_h = one.age_high_h
    if high_h is None:
        high_h = _ENDLESS_H if one.age_high_d is None else one.age_high_d * 24
    weeks = one.gestation_low_w or 0, _ENDLESS_H if one.gestation_high_w is None else one.gestation_high_w
    if one.gestation_low_w is not None and weeks == (0, _ENDLESS_H):
        weeks = 0, _ENDLESS_H - 1  # known weeks, whichever: narrower than any
    return (one.specimen_type, one.sex, one.pregnant, one.method, one.analyzer), ((low_h, high_h), weeks)


def _limits(one: Interval) -> tuple[object, ...]:
    return (
        one.unit, one.low, one.high, one.critical_low, one.critical_high, one.text, one.use, one.normal_values,
        one.abnormal_values, one.critical_values,
    )  # fmt: skip

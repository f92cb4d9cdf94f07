"""Which reference interval applies. Unknown sex or birth date is never guessed: what depends on it is not used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from interface.domain.model import Interval, Sex


@dataclass(frozen=True, slots=True)
class Selection:
    """The interval that applies, or None; `ambiguous` names those between which nothing decides."""

    interval: Interval | None = None
    ambiguous: tuple[Interval, ...] = ()


def age_in_days(birth_date: date | None, at: datetime | date | None) -> int | None:
    """Whole days from birth to `at` (a date, or an instant's date in its own zone); None when unknown or impossible."""
    if birth_date is None or at is None:
        return None
    day = at.date() if isinstance(at, datetime) else at
    age_d = (day - birth_date).days
    return age_d if age_d >= 0 else None


def select(
    intervals: Iterable[Interval],
    *,
    test_id: str,
    sex: Sex,
    birth_date: date | None,
    collected_at: datetime | date | None,
    specimen_type: str,
) -> Selection:
    """The most specific interval that surely applies, then the one of highest priority.

    An interval is more specific than another when it applies to fewer people or specimens and to none that the other
    does not. Two that are left with equal priority and different limits are ambiguous.
    """
    age_d = age_in_days(birth_date, collected_at)
    applying = [
        interval
        for interval in intervals
        if interval.test_id == test_id
        and interval.specimen_type in ("", specimen_type)
        and interval.sex in (None, sex)
        and _covers(interval, age_d)
    ]
    specific = [one for one in applying if not any(_narrower(other, one) for other in applying)]
    if not specific:
        return Selection()
    top = max(interval.priority for interval in specific)
    left = sorted((interval for interval in specific if interval.priority == top), key=lambda interval: interval.id)
    if len({_limits(interval) for interval in left}) > 1:
        return Selection(None, tuple(left))
    return Selection(left[0])


def _covers(interval: Interval, age_d: int | None) -> bool:
    if interval.age_low_d <= 0 and interval.age_high_d is None:
        return True
    return (
        age_d is not None
        and interval.age_low_d <= age_d
        and (interval.age_high_d is None or age_d < interval.age_high_d)
    )


def _narrower(one: Interval, other: Interval) -> bool:
    """Whether `one` applies to a proper part of what `other` applies to."""
    within = (
        other.specimen_type in ("", one.specimen_type)
        and other.sex in (None, one.sex)
        and one.age_low_d >= other.age_low_d
        and (other.age_high_d is None or (one.age_high_d is not None and one.age_high_d <= other.age_high_d))
    )
    return within and _scope(one) != _scope(other)


def _scope(interval: Interval) -> tuple[object, ...]:
    return interval.specimen_type, interval.sex, interval.age_low_d, interval.age_high_d


def _limits(interval: Interval) -> tuple[object, ...]:
    return interval.unit, interval.low, interval.high, interval.critical_low, interval.critical_high, interval.text

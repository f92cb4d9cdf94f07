"""The laboratory's own flags, by HL7 v3 ObservationInterpretation. The instrument's are kept apart and change nothing.

Limits are inclusive: a value on a limit is normal, and not critical. A value with a comparator is judged as the set of
all values it may stand for, and only what holds for the whole set is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from interface.domain.model import Comparator, HoldReason, Interval, Value, ValueKind

NORMAL, LOW, HIGH, CRITICAL_LOW, CRITICAL_HIGH = "N", "L", "H", "LL", "HH"
OFF_SCALE_LOW, OFF_SCALE_HIGH = "<", ">"
CRITICAL = frozenset({CRITICAL_LOW, CRITICAL_HIGH})

_BELOW = frozenset({Comparator.LT, Comparator.LE})


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`flags`: off-scale first, then the one that says most. `holds`: the value straddles a limit, a person judges."""

    flags: tuple[str, ...] = ()
    holds: tuple[HoldReason, ...] = ()


def evaluate(value: Value, interval: Interval | None) -> Evaluation:
    """Judge a numeric value, already in the interval's unit. Other kinds, and no interval, get no flag: not N.

    PROTOCOLS order: off-scale, critical, abnormal, normal. The most specific of critical and abnormal stands alone.
    """
    if value.kind is not ValueKind.NUMERIC or value.number is None:
        return Evaluation()
    scale = _off_scale(value.comparator)
    if interval is None:
        return Evaluation(scale)
    critical = _side(value.number, value.comparator, interval.critical_low, interval.critical_high)
    ordinary = _side(value.number, value.comparator, interval.low, interval.high)
    if critical in (-1, 1):
        return Evaluation((*scale, CRITICAL_LOW if critical == -1 else CRITICAL_HIGH))
    flag: tuple[str, ...] = ()
    if ordinary is not None and (interval.low, interval.high) != (None, None):
        flag = ({-1: LOW, 0: NORMAL, 1: HIGH}[ordinary],)
    undecided = critical is None or ordinary is None
    return Evaluation((*scale, *flag), (HoldReason.AMBIGUOUS_INTERVAL,) if undecided else ())


def _off_scale(comparator: Comparator | None) -> tuple[str, ...]:
    if comparator is None:
        return ()
    return (OFF_SCALE_LOW,) if comparator in _BELOW else (OFF_SCALE_HIGH,)


def _side(number: Decimal, comparator: Comparator | None, low: Decimal | None, high: Decimal | None) -> int | None:
    """-1 surely below `low`, 0 surely within, 1 surely above `high`, None when the set of values straddles a limit."""
    if comparator is None:
        if low is not None and number < low:
            return -1
        return 1 if high is not None and number > high else 0
    if comparator in _BELOW:
        return _side_below(number, comparator is Comparator.LT, low, high)
    return _side_above(number, comparator is Comparator.GT, low, high)


def _side_below(number: Decimal, strict: bool, low: Decimal | None, high: Decimal | None) -> int | None:
    """The set is everything up to `number`, without it when `strict`."""
    if low is not None and (number < low or (strict and number == low)):
        return -1
    # A quantity whose interval starts at zero has no values below zero: `<0.6` lies within 0 to 5.
    if (low is None or low == 0) and (high is None or number <= high):
        return 0
    return None


def _side_above(number: Decimal, strict: bool, low: Decimal | None, high: Decimal | None) -> int | None:
    """The set is everything from `number` on, without it when `strict`."""
    if high is not None and (number > high or (strict and number == high)):
        return 1
    if high is None and (low is None or number >= low):
        return 0
    return None

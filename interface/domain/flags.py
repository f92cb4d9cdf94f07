"""The laboratory's own flags, by HL7 v3 ObservationInterpretation. The instrument's are kept apart and change nothing.

Limits are inclusive: a value on a limit is normal, and not critical. A value with a comparator is judged as the set of
all values it may stand for, and only what holds for the whole set is said. What is not a number is judged by the
laboratory's lists of words, and so is a number where there are such lists: a grade is sent as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache

from interface.domain.model import Comparator, HoldReason, Interval, IntervalUse, Value, ValueKind
from interface.domain.record import record
from interface.domain.values import parse_value

NORMAL, LOW, HIGH, CRITICAL_LOW, CRITICAL_HIGH = "N", "L", "H", "LL", "HH"
ABNORMAL, CRITICAL_WORD = "A", "AA"
DELTA_UP, DELTA_DOWN = "U", "D"  # added by the delta check
OFF_SCALE_LOW, OFF_SCALE_HIGH = "<", ">"
CRITICAL = frozenset({CRITICAL_LOW, CRITICAL_HIGH, CRITICAL_WORD})
DEFAULT_RULE = "default_rule"

_BELOW = frozenset({Comparator.LT, Comparator.LE})
_WORDS = frozenset({ValueKind.TEXT, ValueKind.CODED, ValueKind.RATIO, ValueKind.RANGE, ValueKind.TIME})
_LAST = "0123456789."  # what a number ends with
_NO_CRITICAL = Interval("", "", "")
_HALF, _THREE_HALVES = Decimal("0.5"), Decimal("1.5")


@record
class Evaluation:
    """`flags`: off-scale first, then the one that says most. `holds`: the value straddles a limit, a person judges.

    `display`: LL or HH by the rule of thumb (`DEFAULT_RULE`), to be shown as such and for nothing else: it is no
    critical result, is not in `flags`, notifies nobody and releases nothing.
    """

    flags: tuple[str, ...] = ()
    holds: tuple[HoldReason, ...] = ()
    display: str = ""


def evaluate(value: Value, interval: Interval | None, critical: Interval | None = None) -> Evaluation:
    """Judge a value that is already in the interval's unit. No interval, and kinds without limits, get no flag: not N.

    `critical`: the row whose critical limits count; without one the interval's own do.
    PROTOCOLS order: off-scale, critical, abnormal, normal. The most specific of critical and abnormal stands alone.
    """
    critical = critical or interval
    if value.kind in _WORDS:
        return _word(value.text, interval, critical)
    if value.kind is not ValueKind.NUMERIC or value.number is None:
        return Evaluation()
    if _listed(interval, critical):
        return _listed_number(value, interval, critical)
    return _number(value, interval, critical)


def evaluate_each(value: Value, interval: Interval | None, rows: Iterable[Interval]) -> Evaluation:
    """By rows of which one gives the critical limits, and it is not known which: only what all of them say is said.
    The rule of thumb is not: it is for who has no critical limits."""
    said = [evaluate(value, interval, row) for row in rows]
    if all((one.flags, one.holds) == (said[0].flags, said[0].holds) for one in said):
        return Evaluation(said[0].flags, said[0].holds)
    surely = evaluate(value, interval, _NO_CRITICAL)
    return Evaluation(surely.flags, tuple(dict.fromkeys((*surely.holds, HoldReason.AMBIGUOUS_INTERVAL))))


def _number(value: Value, interval: Interval | None, critical: Interval | None) -> Evaluation:
    """By the limits."""
    scale = _off_scale(value.comparator)
    extreme: int | None = 0
    ordinary: int | None = 0
    low = high = critical_low = critical_high = None
    if critical is not None and critical.use is not IntervalUse.REFERENCE:
        critical_low, critical_high = critical.critical_low, critical.critical_high
        extreme = side(value, critical_low, critical_high)
    if interval is not None:
        low, high = interval.low, interval.high
        ordinary = side(value, low, high)
    if extreme in (-1, 1):
        return Evaluation((*scale, CRITICAL_LOW if extreme == -1 else CRITICAL_HIGH))
    flag: tuple[str, ...] = ()
    if ordinary is not None and (low, high) != (None, None):
        flag = ({-1: LOW, 0: NORMAL, 1: HIGH}[ordinary],)
    holds = (HoldReason.AMBIGUOUS_INTERVAL,) if extreme is None or ordinary is None else ()
    return Evaluation((*scale, *flag), holds, _rule_of_thumb(value, ordinary, low, high, critical_low, critical_high))


def _listed(interval: Interval | None, critical: Interval | None) -> bool:
    if critical is not None and critical.critical_values:
        return True
    return interval is not None and bool(interval.normal_values or interval.abnormal_values)


def _listed_number(value: Value, interval: Interval | None, critical: Interval | None) -> Evaluation:
    """By the lists, and by the limits where no list has it; what the critical limits say, no list takes away."""
    word = _word(f"{value.comparator or ''}{value.text}", interval, critical)
    critically = _number(value, None, critical)
    if CRITICAL_WORD in word.flags:
        return Evaluation((*_off_scale(value.comparator), CRITICAL_WORD))
    if not CRITICAL.isdisjoint(critically.flags):
        return critically
    limited = interval is not None and (interval.low, interval.high) != (None, None)
    if word.flags or (word.holds and not limited):
        return Evaluation((*critically.flags, *word.flags), critically.holds or word.holds)
    return _number(value, interval, critical)


def _rule_of_thumb(
    value: Value,
    ordinary: int | None,
    low: Decimal | None,
    high: Decimal | None,
    critical_low: Decimal | None,
    critical_high: Decimal | None,
) -> str:
    """LL below half the lower limit, HH above 1.5 x the upper, where the laboratory has no critical limit of its own.

    Of potassium, pH or a base excess it says nothing clinical, and of limits that are not positive it says nothing.
    """
    if ordinary == -1 and low is not None and low > 0 and critical_low is None:
        return CRITICAL_LOW if side(value, low * _HALF, None) == -1 else ""
    if ordinary == 1 and high is not None and high > 0 and critical_high is None:
        return CRITICAL_HIGH if side(value, None, high * _THREE_HALVES) == 1 else ""
    return ""


def _word(text: str, interval: Interval | None, critical: Interval | None) -> Evaluation:
    """Words by the laboratory's lists. Where it names the normal ones, a word in no list is judged by a person."""
    word = plain(text)
    if critical is not None and critical.use is not IntervalUse.REFERENCE and word in _words(critical.critical_values):
        return Evaluation((CRITICAL_WORD,))
    if interval is None:
        return Evaluation()
    if word in _words(interval.abnormal_values):
        return Evaluation((ABNORMAL,))
    if word in _words(interval.normal_values):
        return Evaluation((NORMAL,))
    return Evaluation((), (HoldReason.AMBIGUOUS_INTERVAL,) if interval.normal_values else ())


def plain(text: str) -> str:
    """A word without regard to case and spacing; a number or a titre is one word however it is written (`4`, `4.0`)."""
    word = " ".join(text.split()).casefold()
    if word[-1:] not in _LAST:  # most words: it is no number
        return word
    value = parse_value(word.replace("/", ":"))
    if value.kind is ValueKind.RATIO:
        return f"{value.comparator or ''}{value.numerator}:{value.denominator}"
    if value.kind is not ValueKind.NUMERIC or value.number is None:
        return word
    digits = f"{abs(value.number) if not value.number else value.number:f}"
    return f"{value.comparator or ''}{digits.rstrip('0').rstrip('.') if '.' in digits else digits}"


@lru_cache(maxsize=1024)
def _words(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(plain, values))


def _off_scale(comparator: Comparator | None) -> tuple[str, ...]:
    if comparator is None:
        return ()
    return (OFF_SCALE_LOW,) if comparator in _BELOW else (OFF_SCALE_HIGH,)


def side(value: Value, low: Decimal | None, high: Decimal | None) -> int | None:
    """-1 surely below `low`, 0 surely within, 1 surely above `high`, None when the set of values straddles a limit.

    Of a numeric value with its number, in the unit of the limits.
    """
    number, comparator = value.number, value.comparator
    if number is None or not number.is_finite():
        return None
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

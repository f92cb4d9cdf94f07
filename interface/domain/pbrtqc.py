"""Patient-based real-time quality control: a moving statistic of patients' results, and when it goes too far. Pure.

The procedures are those that the IFCC's committee recommends to verify (Loh et al., Clin Chem Lab Med 2020,
doi:10.1515/cclm-2019-1024), as compared by simulation in Bietenbeck et al., Clin Chem 2020;66:1072-83: moving mean,
moving median, exponentially weighted mean; outlying values truncated or winsorised; limits from the percentiles of
daily extremes.

Arithmetic: a mean is its exact sum divided once, a median is exact, both to 34 digits. An EWMA is rounded half to even
at 34 digits at each step, an error that does not grow. A Box-Cox transform is not exact: it is computed to 50 digits
and rounded to 34, so that the same value gives the same number everywhere. The same code follows the live stream and
runs the simulation.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from interface.domain.exact import EXACT, measurable
from interface.domain.model import Comparator
from interface.domain.record import record

ENGINE = "pbrtqc 1"  # another meaning of plans is another engine, and voids what was validated under this one
_SUM = Context(prec=200, rounding=ROUND_HALF_EVEN)  # exact for any sum of what is measurable (`domain.exact`)
_TRANSFORM = Context(prec=50, rounding=ROUND_HALF_EVEN)
LIMIT_DIGITS = 6  # significant digits of a limit from history; it is rounded outwards
DAY_S = 86_400


class Statistic(StrEnum):
    MEAN = "mean"  # of the last `block` values
    MEDIAN = "median"  # of the last `block` values
    EWMA = "ewma"  # E = weight * value + (1 - weight) * E, from the centre on


class Outlying(StrEnum):
    """What becomes of a value below `low` or above `high`; the limits themselves are inside."""

    KEEP = "keep"
    TRUNCATE = "truncate"  # left out
    WINSORISE = "winsorise"  # counted as the limit


class Mode(StrEnum):
    """What an alarm does. `warn` and `hold` gate, and want a validation."""

    WATCH = "watch"  # it is told
    WARN = "warn"  # the stream's state is WARN
    HOLD = "hold"  # the stream's state is FAIL


class Side(StrEnum):
    LOW = "low"
    HIGH = "high"


@record
class Reading:
    """A number as reported; `comparator` where it stands for all numbers on one side of it."""

    number: Decimal
    comparator: Comparator | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """How the statistic is computed.

    `block`: values in it; for EWMA values before the first statistic. `weight`: EWMA's alone. `boxcox`: the exponent, 0
    for the logarithm, applied after `low` and `high`; statistic and limits are then on the transformed scale.
    `restart_after_min`: a pause longer than this between two results begins anew; None: never.
    """

    statistic: Statistic
    block: int
    weight: Decimal | None = None
    outlying: Outlying = Outlying.KEEP
    low: Decimal | None = None
    high: Decimal | None = None
    boxcox: Decimal | None = None
    restart_after_min: int | None = None


# ---- one value ------------------------------------------------------------------------------------------------------


def treated(method: Method, reading: Reading) -> Decimal | None:
    """The value that is counted for a reading; None where it is left out.

    `<5` is counted only where the limits tell for certain what becomes of it: winsorised at a `low` of 5 or more.
    """
    number, low, high = reading.number, method.low, method.high
    if method.outlying is Outlying.KEEP:
        found = number if reading.comparator is None else None
    else:
        below = low is not None and _surely_below(reading, low)
        above = high is not None and _surely_above(reading, high)
        if below or above:
            found = None if method.outlying is Outlying.TRUNCATE else low if below else high
        else:
            found = number if reading.comparator is None else None
    if found is None or not measurable(found):
        return None
    return found if method.boxcox is None else boxcox(found, method.boxcox)


def _surely_below(reading: Reading, low: Decimal) -> bool:
    if reading.comparator is None:
        return reading.number < low
    return reading.comparator in (Comparator.LT, Comparator.LE) and reading.number <= low


def _surely_above(reading: Reading, high: Decimal) -> bool:
    if reading.comparator is None:
        return reading.number > high
    return reading.comparator in (Comparator.GT, Comparator.GE) and reading.number >= high


@lru_cache(maxsize=1 << 14)  # a hundred microseconds each, and the same few numbers come again and again
def boxcox(number: Decimal, exponent: Decimal) -> Decimal | None:
    """(x^e - 1) / e, or ln x for e = 0 (Box and Cox, J R Stat Soc B 1964;26:211-52); None unless x is positive."""
    if number <= 0:
        return None
    logarithm = _TRANSFORM.ln(number)
    if exponent:
        power = _TRANSFORM.exp(_TRANSFORM.multiply(exponent, logarithm))
        logarithm = _TRANSFORM.divide(_TRANSFORM.subtract(power, Decimal(1)), exponent)
    return EXACT.plus(logarithm)


# ---- the statistic --------------------------------------------------------------------------------------------------


class Monitor(Protocol):
    """One stream's statistic. `count`: values since the last restart."""

    count: int

    def add(self, value: Decimal) -> Decimal | None:
        """The statistic with this value; None while there are fewer than the block."""
        ...

    def restart(self) -> None:
        """As if no value had been seen."""
        ...

    def resume(self, recent: Iterable[Decimal], last: Decimal | None, count: int) -> None:
        """Be where another was after `count` values since its restart: `recent` are the last of these, oldest first,
        `block` of them or all there were; `last` its statistic."""
        ...


class _Mean:
    def __init__(self, block: int) -> None:
        self._block = block
        self.restart()

    def restart(self) -> None:
        self.count, self._total = 0, Decimal(0)
        self._window: deque[Decimal] = deque()

    def add(self, value: Decimal) -> Decimal | None:
        self.count += 1
        self._window.append(value)
        self._total = _SUM.add(self._total, value)
        if len(self._window) > self._block:
            self._total = _SUM.subtract(self._total, self._window.popleft())
        return None if len(self._window) < self._block else EXACT.divide(self._total, Decimal(self._block))

    def resume(self, recent: Iterable[Decimal], last: Decimal | None, count: int) -> None:
        self.restart()
        self._window.extend(recent)
        for value in self._window:
            self._total = _SUM.add(self._total, value)
        self.count = count


class _Median:
    def __init__(self, block: int) -> None:
        self._block = block
        self.restart()

    def restart(self) -> None:
        self.count = 0
        self._window: deque[Decimal] = deque()
        self._sorted: list[Decimal] = []

    def add(self, value: Decimal) -> Decimal | None:
        self.count += 1
        self._window.append(value)
        insort(self._sorted, value)
        if len(self._window) > self._block:
            del self._sorted[bisect_left(self._sorted, self._window.popleft())]
        return None if len(self._window) < self._block else median(self._sorted)

    def resume(self, recent: Iterable[Decimal], last: Decimal | None, count: int) -> None:
        self.restart()
        self._window.extend(recent)
        self._sorted = sorted(self._window)
        self.count = count


class _Ewma:
    def __init__(self, weight: Decimal, block: int, centre: Decimal) -> None:
        self._weight, self._block, self._centre = weight, block, centre
        self._rest = EXACT.subtract(Decimal(1), weight)
        self.restart()

    def restart(self) -> None:
        self.count, self._mean = 0, self._centre

    def add(self, value: Decimal) -> Decimal | None:
        self.count += 1
        self._mean = EXACT.fma(self._weight, value, EXACT.multiply(self._rest, self._mean))
        return None if self.count < self._block else self._mean

    def resume(self, recent: Iterable[Decimal], last: Decimal | None, count: int) -> None:
        self.restart()
        if last is None:
            for value in recent:
                self.add(value)
        else:
            self._mean = last
        self.count = count


def monitor(method: Method, centre: Decimal) -> Monitor:
    """A monitor that has seen nothing. `centre`: where an EWMA begins, on the scale of the statistic."""
    match method.statistic:
        case Statistic.MEAN:
            return _Mean(method.block)
        case Statistic.MEDIAN:
            return _Median(method.block)
        case Statistic.EWMA:
            return _Ewma(method.weight or Decimal(1), method.block, centre)


def median(ordered: Sequence[Decimal]) -> Decimal:
    """Of at least one value, in order; of an even number the mean of the two in the middle."""
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return EXACT.divide(_SUM.add(ordered[middle - 1], ordered[middle]), Decimal(2))


class Follower:
    """A monitor that also sees the pauses. Times are whole seconds since 1970 UTC, of the measurements."""

    __slots__ = ("_restart_after_s", "last_at", "method", "monitor")

    def __init__(self, method: Method, centre: Decimal, last_at: int | None = None) -> None:
        self.method, self.monitor, self.last_at = method, monitor(method, centre), last_at
        self._restart_after_s = None if method.restart_after_min is None else 60 * method.restart_after_min

    def see(self, at: int, value: Decimal | None) -> Decimal | None:
        """The statistic after the next reading, `value` as `treated` made it; None when it gives none."""
        if self._restart_after_s is not None and self.last_at is not None and at - self.last_at > self._restart_after_s:
            self.monitor.restart()
        self.last_at = at
        return None if value is None else self.monitor.add(value)


# ---- limits ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What the statistic may not leave; both limits are inside. On the statistic's scale.

    `sd`: of the treated, untransformed values of the training period, what a bias in SD is a multiple of.
    """

    low: Decimal
    high: Decimal
    centre: Decimal
    sd: Decimal | None = None


def beyond(limits: Limits, statistic: Decimal) -> Side | None:
    """On which side the statistic is outside the limits."""
    return Side.LOW if statistic < limits.low else Side.HIGH if statistic > limits.high else None


@record
class Day:
    """The extremes of the statistic on one day. `number`: days since 1970, from the hour at which days begin."""

    number: int
    low: Decimal
    high: Decimal
    values: int


def days_needed(rate: Decimal) -> int:
    """Days of history without which a limit cannot promise `rate`: one day in them is all that each side may lose."""
    return int(EXACT.divide(Decimal(2), rate).to_integral_value(rounding=ROUND_CEILING))


def extreme_limits(days: Sequence[Day], rate: Decimal) -> tuple[Decimal, Decimal]:
    """Limits that the statistic left on at most the fraction `rate` of these days, half of it on each side.

    Percentiles of daily extremes (Bietenbeck 2020): the lower limit is a low percentile of the days' minima, the upper
    a high one of their maxima. No interpolation: of n days the k = floor(n * rate / 2) most extreme are outside, so
    that the promise holds on the training days themselves. Rounded outwards. ValueError with too few days.
    """
    if len(days) < days_needed(rate):
        raise ValueError(f"{len(days)} days of history; a rate of {rate} needs {days_needed(rate)}")
    outside = int(EXACT.multiply(Decimal(len(days)), rate)) // 2
    lows, highs = sorted(day.low for day in days), sorted((day.high for day in days), reverse=True)
    return _outwards(lows[outside], ROUND_FLOOR), _outwards(highs[outside], ROUND_CEILING)


def _outwards(number: Decimal, rounding: str) -> Decimal:
    return Context(prec=LIMIT_DIGITS, rounding=rounding).plus(number)


def mean_sd(values: Sequence[Decimal]) -> tuple[Decimal, Decimal]:
    """Mean and sample SD of at least two values; sums are exact."""
    count = Decimal(len(values))
    total = squares = Decimal(0)
    for value in values:
        total = _SUM.add(total, value)
        squares = _SUM.add(squares, _SUM.multiply(value, value))
    spread = _SUM.subtract(_SUM.multiply(count, squares), _SUM.multiply(total, total))
    return EXACT.divide(total, count), EXACT.sqrt(EXACT.divide(spread, Decimal(len(values) * (len(values) - 1))))

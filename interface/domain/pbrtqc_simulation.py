"""Whether a patient-based procedure finds a bias: the laboratory's own results with a bias put into them. Pure.

After Bietenbeck et al., Clin Chem 2020;66:1072-83, and the IFCC's recommendation for performance verification (Loh et
al., Clin Chem Lab Med 2020, doi:10.1515/cclm-2019-1024): from a position in the history on every result has the bias,
and the patients are counted until the statistic leaves the limit on the side of the bias, at most `horizon` of them.
The positions are drawn with a seed, so that whoever repeats a simulation gets its figures.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from itertools import pairwise

from interface.domain.exact import EXACT
from interface.domain.pbrtqc import (
    DAY_S,
    Day,
    Follower,
    Limits,
    Method,
    Reading,
    Side,
    Statistic,
    beyond,
    extreme_limits,
    mean_sd,
    median,
    treated,
)

HORIZON = 1000  # Bietenbeck 2020: "within the simulated 1000 erroneous measurements"
RUNS = 200
FEWEST_RUNS, MOST_RUNS, MOST_HORIZON = 20, 10_000, 100_000
_MASK = (1 << 64) - 1
_SHORT = Context(prec=10, rounding=ROUND_HALF_EVEN)  # what a person reads and a plan says: centre and SD


@dataclass(frozen=True, slots=True)
class Series:
    """Counted results in the order in which they were decided. `at`: seconds since 1970 UTC, of the measurements."""

    at: Sequence[int]
    readings: Sequence[Reading]

    def __len__(self) -> int:
        return len(self.readings)


class BiasUnit(StrEnum):
    PERCENT = "percent"  # of the result
    SD = "sd"  # multiples of the SD of the training period
    ABSOLUTE = "absolute"  # in the test's unit


@dataclass(frozen=True, slots=True)
class Bias:
    """A systematic error; negative ones lower the results."""

    amount: Decimal
    unit: BiasUnit

    def __str__(self) -> str:
        suffix = {BiasUnit.PERCENT: "%", BiasUnit.SD: "SD", BiasUnit.ABSOLUTE: ""}[self.unit]
        return f"{self.amount:+f}{suffix}"

    def put(self, reading: Reading, sd: Decimal | None) -> Reading:
        """The reading as it would have been; not rounded as reported, and `<5` stays what it is."""
        if reading.comparator is not None:
            return reading
        number = reading.number
        match self.unit:
            case BiasUnit.PERCENT:
                number = EXACT.fma(number, EXACT.divide(self.amount, Decimal(100)), number)
            case BiasUnit.SD:
                if sd is None:
                    raise ValueError("a bias in SD wants limits from a training period")
                number = EXACT.fma(self.amount, sd, number)
            case BiasUnit.ABSOLUTE:
                number = EXACT.add(number, self.amount)
        return Reading(number)


# ---- the history as it was ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Walk:
    """The statistic over a series. `values`: as treated; `begun`: the index at which its window began (anew)."""

    values: Sequence[Decimal | None]
    statistics: Sequence[Decimal | None]
    begun: array[int]


def _treated(method: Method, series: Series) -> list[Decimal | None]:
    """Each reading as it is counted; the same few numbers come again and again, and each is treated once."""
    known = {reading: treated(method, reading) for reading in set(series.readings)}
    return [known[reading] for reading in series.readings]


def walk(method: Method, centre: Decimal, series: Series) -> Walk:
    """Follow a series from its beginning."""
    values = _treated(method, series)
    follower, begun, begin, count = Follower(method, centre), array("q"), 0, 0
    statistics: list[Decimal | None] = []
    for index, at in enumerate(series.at):
        statistics.append(follower.see(at, values[index]))
        if follower.monitor.count < count or (follower.monitor.count == 1 and values[index] is not None):
            begin = index
        count = follower.monitor.count
        begun.append(begin)
    return Walk(values, statistics, begun)


def daily(series: Series, statistics: Sequence[Decimal | None], day_begins_min: int = 0) -> list[Day]:
    """The extremes of each day that has a statistic, in the order of the days."""
    found: dict[int, list[Decimal]] = {}
    counts: dict[int, int] = {}
    shift = 60 * day_begins_min
    for at, statistic in zip(series.at, statistics, strict=True):
        if statistic is None:
            continue
        number = (at - shift) // DAY_S
        extremes = found.get(number)
        if extremes is None:
            found[number], counts[number] = [statistic, statistic], 1
            continue
        counts[number] += 1
        if statistic < extremes[0]:
            extremes[0] = statistic
        elif statistic > extremes[1]:
            extremes[1] = statistic
    return [Day(number, found[number][0], found[number][1], counts[number]) for number in sorted(found)]


def establish(method: Method, series: Series, rate: Decimal, day_begins_min: int = 0) -> tuple[Limits, int]:
    """Limits from a training period, for false alarms on at most `rate` of its days; and how many days it has.

    ValueError, for the reader, where the history does not suffice.
    """
    counted = [value for value in _treated(method, series) if value is not None]
    if len(counted) < max(2, method.block):
        raise ValueError(f"{len(counted)} results can be counted; a block of {method.block} needs more")
    mean, sd = mean_sd(counted)
    centre = _SHORT.plus(median(sorted(counted)) if method.statistic is Statistic.MEDIAN else mean)
    if method.boxcox is not None:
        _, sd = mean_sd([value for value in _treated(_plain(method), series) if value is not None])
    days = daily(series, walk(method, centre, series).statistics, day_begins_min)
    low, high = extreme_limits(days, rate)
    return Limits(low, high, centre, _SHORT.plus(sd)), len(days)


def _plain(method: Method) -> Method:
    return Method(method.statistic, method.block, method.weight, method.outlying, method.low, method.high)


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Alarms without a bias. `alarms`: times that the statistic went outside; `alarm_days`: days on which it was."""

    values: int
    days: int
    alarms: int
    alarm_days: int

    @property
    def per_day(self) -> Decimal:
        """Of alarms and alarm days the larger: a statistic that stays outside alarms anew each time it was closed."""
        most = max(self.alarms, self.alarm_days)
        return EXACT.divide(Decimal(most), Decimal(self.days)) if self.days else Decimal(0)


def false_alarms(
    limits: Limits, series: Series, statistics: Sequence[Decimal | None], day_begins_min: int
) -> FalseAlarms:
    """How often the procedure alarms over a series as it was."""
    given = [statistic for statistic in statistics if statistic is not None]
    outside = [beyond(limits, statistic) is not None for statistic in given]
    alarms = sum(now and not before for before, now in pairwise([False, *outside]))
    days = daily(series, statistics, day_begins_min)
    alarm_days = sum(day.low < limits.low or day.high > limits.high for day in days)
    return FalseAlarms(len(given), len(days), alarms, alarm_days)


# ---- with a bias ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """How soon a bias is found. `median`, `p95`: patients until it is, the one at whom it is found included, over all
    runs (nearest rank); None where so many runs did not find it at all."""

    bias: Bias
    runs: int
    undetected: int
    median: int | None
    p95: int | None

    @property
    def undetected_fraction(self) -> Decimal:
        return EXACT.divide(Decimal(self.undetected), Decimal(self.runs))


@dataclass(frozen=True, slots=True)
class Simulation:
    """What became of it. `places`: positions that could be drawn."""

    seed: int
    runs: int
    horizon: int
    places: int
    false: FalseAlarms
    found: tuple[Found, ...]


def splitmix64(seed: int) -> Iterator[int]:
    """Pseudo-random numbers of 64 bits: Steele, Lea, Flood, OOPSLA 2014 (doi:10.1145/2660193.2660195)."""
    state = seed & _MASK
    while True:
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        yield mixed ^ (mixed >> 31)


def simulate(
    method: Method,
    limits: Limits,
    series: Series,
    biases: Sequence[Bias],
    *,
    seed: int,
    runs: int = RUNS,
    horizon: int = HORIZON,
    day_begins_min: int = 0,
) -> Simulation:
    """Put each bias into the series from each of `runs` drawn positions on; all biases from the same positions.

    A position can be drawn where the statistic before it is inside the limits, and `horizon` results follow.
    ValueError, for the reader, when there is none.
    """
    past = walk(method, limits.centre, series)
    false = false_alarms(limits, series, past.statistics, day_begins_min)
    places = array("q")
    for index in range(1, len(series) - horizon + 1):
        before = past.statistics[index - 1]
        if before is not None and beyond(limits, before) is None:
            places.append(index)
    if not places:
        raise ValueError(f"{len(series)} results: there is no position with a statistic and {horizon} results after it")
    numbers = splitmix64(seed)
    drawn = [places[(next(numbers) * len(places)) >> 64] for _ in range(runs)]
    found = tuple(_found(method, limits, series, past, bias, drawn, horizon) for bias in biases)
    return Simulation(seed, runs, horizon, len(places), false, found)


def _found(
    method: Method, limits: Limits, series: Series, past: Walk, bias: Bias, drawn: Sequence[int], horizon: int
) -> Found:
    side = Side.LOW if bias.amount < 0 else Side.HIGH
    known: dict[Reading, Decimal | None] = {}

    def biased(reading: Reading) -> Decimal | None:
        if reading not in known:
            known[reading] = treated(method, bias.put(reading, limits.sd))
        return known[reading]

    patients: list[int] = []
    for place in drawn:
        follower = _at(method, limits.centre, series, past, place)
        for number in range(horizon):
            statistic = follower.see(series.at[place + number], biased(series.readings[place + number]))
            if statistic is not None and beyond(limits, statistic) is side:
                patients.append(number + 1)
                break
    patients.sort()
    runs = len(drawn)
    return Found(bias, runs, runs - len(patients), _rank(patients, runs, 50), _rank(patients, runs, 95))


def _at(method: Method, centre: Decimal, series: Series, past: Walk, place: int) -> Follower:
    """A follower that has seen the series up to before `place`, as it was."""
    begin, at = past.begun[place - 1], place - 1
    recent: list[Decimal] = []
    while at >= begin and len(recent) < method.block:
        value = past.values[at]
        if value is not None:
            recent.append(value)
        at -= 1
    last = past.statistics[place - 1]
    follower = Follower(method, centre, series.at[place - 1])
    follower.monitor.resume(reversed(recent), last, len(recent))
    return follower


def _rank(ordered: Sequence[int], runs: int, percent: int) -> int | None:
    """Nearest rank among all runs, of which those that found nothing come last."""
    rank = -(-runs * percent // 100)
    return ordered[rank - 1] if rank <= len(ordered) else None

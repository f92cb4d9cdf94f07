"""The moving statistics: published examples, and a plain recomputation of the whole window as a second opinion."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction

import pytest

from interface.domain.model import Comparator
from interface.domain.pbrtqc import (
    Day,
    Follower,
    Limits,
    Method,
    Outlying,
    Reading,
    Side,
    Statistic,
    beyond,
    boxcox,
    days_needed,
    extreme_limits,
    mean_sd,
    median,
    monitor,
    treated,
)

D = Decimal
ZERO = D(0)


def numbers(text: str) -> list[Decimal]:
    return [D(part) for part in text.split()]


def over(method: Method, values: Sequence[Decimal], centre: Decimal = ZERO) -> list[Decimal | None]:
    one = monitor(method, centre)
    return [one.add(value) for value in values]


# ---- published ------------------------------------------------------------------------------------------------------


def test_the_ewma_of_the_nist_handbook() -> None:
    """NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.4: https://www.itl.nist.gov/div898/handbook/pmc/section3/
    pmc324.htm: 20 values, weight 0.3, EWMA0 50, limits 50 +/- 3 * 0.4201 * 2.0539; printed to two digits."""
    data = numbers(
        "52.0 47.0 53.0 49.3 50.1 47.0 51.0 50.1 51.2 50.5 49.6 47.6 49.9 51.3 47.8 51.2 52.6 52.4 53.6 52.1"
    )
    printed = numbers(
        "50.60 49.52 50.56 50.18 50.16 49.21 49.75 49.85 50.26 50.33 50.11 49.36 49.52 50.05 49.38 49.92 50.73 51.23"
        " 51.94 51.99"
    )
    found = over(Method(Statistic.EWMA, 1, D("0.3")), data, D(50))
    assert [value.quantize(D("0.01")) for value in found if value is not None] == printed
    limits = Limits(D("47.4115"), D("52.5884"), D(50))
    assert all(value is not None and beyond(limits, value) is None for value in found)  # "the process is in control"


def test_the_moving_median_of_a_published_exercise() -> None:
    """MATLAB Cody problem 57641, "Median filter over three values": its example."""
    found = over(Method(Statistic.MEDIAN, 3), numbers("2 3 1 4 6 2 60 8 3 5 7 6"))
    assert found == [None, None, *numbers("2 3 4 4 6 8 8 5 5 6")]


def test_the_winsorised_mean_of_a_published_example() -> None:
    """Wikipedia, "Winsorizing": 20 values of mean 101.5; with -40 counted as -5 and 1053 as 101 the mean is 55.65."""
    values = numbers("92 19 101 58 1053 91 26 78 10 13 -40 101 86 85 15 89 89 28 -5 41")
    whole = Method(Statistic.MEAN, 20)
    cut = Method(Statistic.MEAN, 20, outlying=Outlying.WINSORISE, low=D(-5), high=D(101))
    assert over(whole, values)[-1] == D("101.5")
    assert over(cut, [D(value) for one in values if (value := treated(cut, Reading(one))) is not None])[-1] == D(
        "55.65"
    )


# ---- a second opinion -----------------------------------------------------------------------------------------------


def naive(method: Method, stream: Sequence[tuple[int, Reading]], centre: Decimal) -> Iterator[Fraction | None]:
    """The statistic after each reading from its definition: the window is sought anew each time, in fractions."""
    for end in range(1, len(stream) + 1):
        begin = 0
        for at in range(1, end):
            pause = method.restart_after_min
            if pause is not None and stream[at][0] - stream[at - 1][0] > 60 * pause:
                begin = at
        kept: list[Fraction] = []
        counts = False
        for _, reading in stream[begin:end]:
            number, counts = reading.number, reading.comparator is None
            if not counts and method.outlying is Outlying.WINSORISE and method.low is not None and number <= method.low:
                counts, number = True, method.low  # `<` is the only comparator of these streams
            if counts and method.low is not None and number < method.low:
                counts, number = method.outlying is Outlying.WINSORISE, method.low
            if counts and method.high is not None and number > method.high:
                counts, number = method.outlying is Outlying.WINSORISE, method.high
            if counts:
                kept.append(Fraction(number))
        if not counts or len(kept) < method.block:
            yield None
        elif method.statistic is Statistic.EWMA:
            weight = Fraction(method.weight or 1)
            so_far = Fraction(centre) * (1 - weight) ** len(kept)
            yield so_far + sum(
                (weight * (1 - weight) ** age * value for age, value in enumerate(reversed(kept))), Fraction(0)
            )
        else:
            window = kept[-method.block :]
            ordered, half = sorted(window), len(window) // 2
            middle = ordered[half] if len(window) % 2 else (ordered[half - 1] + ordered[half]) / 2
            yield sum(window, Fraction(0)) / len(window) if method.statistic is Statistic.MEAN else middle


def a_stream(rng: random.Random, length: int) -> list[tuple[int, Reading]]:
    """Few distinct values (ties), some far out, some `<`, some pauses, now and then a clock that goes back."""
    at, stream = 1_700_000_000, []
    for _ in range(length):
        at += rng.choice((0, 30, 60, 90, 3_600, 20_000, -40))
        number = D(rng.choice((40, 41, 41, 42, 43, 44, rng.randrange(-90, 400)))).scaleb(-1)
        stream.append((at, Reading(number, Comparator.LT if rng.random() < 0.05 else None)))
    return stream


@pytest.mark.parametrize("statistic", Statistic)
@pytest.mark.parametrize("outlying", Outlying)
def test_step_by_step_is_what_the_whole_window_gives(statistic: Statistic, outlying: Outlying) -> None:
    rng = random.Random(f"{statistic} {outlying}")  # noqa: S311 - no secret
    for _ in range(12):
        ewma, keep = statistic is Statistic.EWMA, outlying is Outlying.KEEP
        method = Method(
            statistic,
            rng.choice((1, 3)) if ewma else rng.choice((2, 3, 8, 21)),
            D(rng.choice(("0.05", "0.2", "0.5"))) if ewma else None,
            outlying,
            None if keep else D("4.0"),
            None if keep else D("4.4"),
            restart_after_min=rng.choice((None, 59, 300)),
        )
        stream, centre = a_stream(rng, 120), D("4.15")
        follower = Follower(method, centre)
        for (at, reading), expected in zip(stream, naive(method, stream, centre), strict=True):
            found = follower.see(at, treated(method, reading))
            assert (found is None) is (expected is None), (method, at)
            if found is not None and expected is not None:
                assert abs(Fraction(found) - expected) <= abs(expected) * Fraction(1, 10**31), method
                if statistic is Statistic.MEDIAN:
                    assert Fraction(found) == expected


@pytest.mark.parametrize(
    "method",
    [
        Method(Statistic.MEAN, 7),
        Method(Statistic.MEDIAN, 6),
        Method(Statistic.EWMA, 4, D("0.1")),
        Method(Statistic.EWMA, 1, D("0.1")),
    ],
    ids=str,
)
def test_who_resumes_goes_on_to_the_last_digit_as_who_never_stopped(method: Method) -> None:
    rng, centre = random.Random(7), D("3.3")  # noqa: S311 - no secret
    values = [D(rng.randrange(10, 90)).scaleb(-1) for _ in range(40)]
    for cut in range(1, 40):
        whole, resumed = monitor(method, centre), monitor(method, centre)
        last = [whole.add(value) for value in values[:cut]][-1]
        resumed.resume(values[:cut][-method.block :], last, cut)
        assert resumed.count == whole.count
        assert [resumed.add(value) for value in values[cut:]] == [whole.add(value) for value in values[cut:]]


def test_a_mean_is_exact_after_any_number_of_values() -> None:
    """The sum of a window forgets nothing: what a large value would have rounded away is there when it has left."""
    method = Method(Statistic.MEAN, 2)
    found = over(method, [D("1E+30"), D("1E-30"), D("0.1"), D("0.2")])
    assert found[-1] == D("0.15")


# ---- one value ------------------------------------------------------------------------------------------------------

CUT, WINSOR = (
    Method(Statistic.MEAN, 20, outlying=how, low=D(5), high=D(10)) for how in (Outlying.TRUNCATE, Outlying.WINSORISE)
)
KEEP = Method(Statistic.MEAN, 20)
LT, LE, GT, GE = Comparator


@pytest.mark.parametrize(
    ("method", "number", "comparator", "counted"),
    [
        (KEEP, "4", None, "4"), (KEEP, "4", LT, None), (KEEP, "4", GE, None),
        (CUT, "5", None, "5"), (CUT, "10", None, "10"), (CUT, "4.9", None, None), (CUT, "10.1", None, None),
        (CUT, "3", LT, None), (CUT, "7", LT, None), (CUT, "20", GT, None),
        (WINSOR, "5", None, "5"), (WINSOR, "4.9", None, "5"), (WINSOR, "10.1", None, "10"), (WINSOR, "7", None, "7"),
        (WINSOR, "5", LT, "5"), (WINSOR, "5", LE, "5"), (WINSOR, "3", LT, "5"), (WINSOR, "5.1", LT, None),
        (WINSOR, "10", GT, "10"), (WINSOR, "12", GE, "10"), (WINSOR, "9", GT, None), (WINSOR, "3", GT, None),
        (WINSOR, "20", LT, None), (KEEP, "1E+90", None, None), (KEEP, "NaN", None, None),
    ],
)  # fmt: skip
def test_what_is_counted_for_a_reading(
    method: Method, number: str, comparator: Comparator | None, counted: str | None
) -> None:
    assert treated(method, Reading(D(number), comparator)) == (None if counted is None else D(counted))


def test_box_and_cox() -> None:
    """(x^e - 1) / e: exact where the power is, and as its Taylor series for the logarithm says."""
    assert boxcox(D(4), D("0.5")) == D(2)
    assert boxcox(D(4), D(-1)) == D("0.75")
    assert boxcox(D(10), D(0)) == D("2.302585092994045684017991454684364")  # OEIS A002392
    assert boxcox(D(0), D(0)) is None and boxcox(D(-1), D(2)) is None
    ordered = [boxcox(D(value), D("-0.7")) for value in range(1, 50)]
    assert ordered == sorted(value for value in ordered if value is not None)  # a bias keeps its side


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_limits_are_left_on_no_more_days_than_wanted() -> None:
    rng = random.Random(11)  # noqa: S311 - no secret
    for _ in range(200):
        rate = D(rng.choice(("0.05", "0.1", "0.2", "0.5")))
        count = days_needed(rate) + rng.randrange(80)
        days = []
        for number in range(count):
            low, high = sorted(D(rng.randrange(1000, 1100)).scaleb(-7) / 3 for _ in range(2))
            days.append(Day(number, low, high, 10))
        low, high = extreme_limits(days, rate)
        limits = Limits(low, high, low)
        for side, extremes in ((Side.LOW, [day.low for day in days]), (Side.HIGH, [day.high for day in days])):
            outside = sum(beyond(limits, extreme) is side for extreme in extremes)
            assert outside <= count * rate / 2, (count, rate, side)
        distinct = {day.low for day in days}
        if len(distinct) == count:  # and not less than promised, where no two days tie
            assert sum(day.low < low for day in days) == count * rate // 2


def test_limits_by_hand() -> None:
    """40 days, a tenth of them: two days on each side are outside, the third is the limit."""
    days = [Day(number, D(number), D(100 + number), 1) for number in range(40)]
    assert extreme_limits(days, D("0.1")) == (D(2), D(137))


@pytest.mark.parametrize(("rate", "days"), [("0.1", 20), ("0.3", 7), ("1", 2), ("0.01", 200)])
def test_too_little_history_promises_nothing(rate: str, days: int) -> None:
    assert days_needed(D(rate)) == days
    one_less = [Day(number, D(1), D(2), 1) for number in range(days - 1)]
    with pytest.raises(ValueError, match=f"{days - 1} days of history; a rate of {rate} needs {days}"):
        extreme_limits(one_less, D(rate))


def test_mean_and_sd_by_hand() -> None:
    mean, sd = mean_sd(numbers("2 4 4 4 5 5 7 9"))  # squares about 5: 9 1 1 1 0 0 4 16
    assert mean == D(5) and abs(sd * sd * 7 - 32) < D("1E-25")
    assert median(numbers("1 2 3 10")) == D("2.5")

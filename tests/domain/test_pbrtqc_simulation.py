"""The simulation: its draws, its counts by hand, and that nothing but the seed decides."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from itertools import islice

import pytest

from interface.domain.model import Comparator
from interface.domain.pbrtqc import DAY_S, Follower, Limits, Method, Outlying, Reading, Side, Statistic, beyond, treated
from interface.domain.pbrtqc_simulation import (
    Bias,
    BiasUnit,
    Series,
    daily,
    establish,
    false_alarms,
    simulate,
    splitmix64,
    walk,
)

D = Decimal
P, SD, A = BiasUnit.PERCENT, BiasUnit.SD, BiasUnit.ABSOLUTE


def history(days: int, a_day: int, seed: int = 1, mean: int = 1400, spread: int = 30) -> Series:
    """Results of an analyte such as sodium, in tenths; a day has `a_day` of them, a minute apart."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    at, readings = [], []
    for day in range(days):
        for number in range(a_day):
            at.append(day * DAY_S + 60 * number)
            readings.append(Reading(D(round(rng.gauss(mean, spread))).scaleb(-1)))
    return Series(at, readings)


def test_the_generator_is_the_published_one() -> None:
    """Of the reference implementation for seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64")."""
    assert list(islice(splitmix64(1234567), 5)) == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


# ---- by hand --------------------------------------------------------------------------------------------------------


def constant(length: int, number: str = "10") -> Series:
    return Series([60 * at for at in range(length)], [Reading(D(number))] * length)


@pytest.mark.parametrize(
    ("bias", "high", "patients"),
    [
        # Mean of 4 values of 10: with +1 it is 10.25, 10.5, 10.75, 11 at the 1st to 4th patient.
        (Bias(D(1), A), "10.2", 1), (Bias(D(1), A), "10.25", 2), (Bias(D(1), A), "10.7", 3),
        (Bias(D(1), A), "10.75", 4),
        (Bias(D(1), A), "11", None), (Bias(D(10), P), "10.7", 3), (Bias(D(2), SD), "10.7", 3),
        (Bias(D(-1), A), "10.7", 3), (Bias(D(-10), P), "11", None),
    ],
)  # fmt: skip
def test_patients_until_it_is_found(bias: Bias, high: str, patients: int | None) -> None:
    limits = Limits(D(20) - D(high), D(high), D(10), D("0.5"))
    found = simulate(Method(Statistic.MEAN, 4), limits, constant(60), [bias], seed=1, runs=20, horizon=20)
    assert (found.found[0].median, found.found[0].p95) == (patients, patients)
    assert found.found[0].undetected == (20 if patients is None else 0)
    assert found.places == 60 - 20 - 4 + 1
    assert (found.false.alarms, found.false.alarm_days, found.false.days) == (0, 0, 1)


def test_an_ewma_finds_it_when_its_formula_says() -> None:
    """After n patients of +1 it is at 10 + 1 - 0.8^n: above 10.5 from n = 4 on (0.8^3 = 0.512, 0.8^4 = 0.4096)."""
    limits = Limits(D("9.5"), D("10.5"), D(10))
    found = simulate(Method(Statistic.EWMA, 1, D("0.2")), limits, constant(90), [Bias(D(1), A)], seed=3, horizon=30)
    assert (found.found[0].median, found.found[0].p95) == (4, 4)


def test_what_the_other_limit_says_is_no_detection() -> None:
    limits = Limits(D("9.9"), D("30"), D(10))
    found = simulate(Method(Statistic.MEAN, 2), limits, constant(60), [Bias(D(1), A)], seed=1, runs=20, horizon=9)
    assert found.found[0].undetected == 20


def test_percentiles_count_the_runs_that_found_nothing() -> None:
    """A bias in percent of values that are 0 or 10: found only where a 10 comes soon enough."""
    readings = [Reading(D(0))] * 50 + [Reading(D(10))] * 50
    series = Series([60 * at for at in range(100)], readings)
    limits = Limits(D(-1), D(10), D(0))
    found = simulate(Method(Statistic.MEAN, 2), limits, series, [Bias(D(50), P)], seed=5, runs=100, horizon=10).found[0]
    assert 0 < found.undetected < 100 and found.undetected_fraction == D(found.undetected) / 100
    assert (found.median is None) is (found.undetected > 50) and (found.p95 is None) is (found.undetected > 5)


def test_a_bias_moves_values_across_the_truncation_limits() -> None:
    """Truncation hides a bias that pushes every value out; winsorising finds it."""
    limits = Limits(D(9), D("10.4"), D(10))
    for how, undetected in ((Outlying.TRUNCATE, 20), (Outlying.WINSORISE, 0)):
        method = Method(Statistic.MEAN, 4, outlying=how, low=D(8), high=D("10.5"))
        found = simulate(method, limits, constant(60), [Bias(D(1), A)], seed=1, runs=20, horizon=20).found[0]
        assert found.undetected == undetected, how


def test_a_bias_leaves_what_stands_for_many_numbers() -> None:
    assert Bias(D(10), P).put(Reading(D(5), Comparator.LT), None) == Reading(D(5), Comparator.LT)
    with pytest.raises(ValueError, match="training period"):
        Bias(D(1), SD).put(Reading(D(5)), None)


def test_false_alarms_by_hand() -> None:
    """Out on the first day once and back, out over midnight once more: two alarms, on two days of three."""
    values = [D(text) for text in "10 12 12 10 10 13 13 10 10".split()]
    at = [0, 1, 2, 3, 4, DAY_S - 1, DAY_S, DAY_S + 1, 2 * DAY_S]
    series = Series(at, [Reading(value) for value in values])
    found = false_alarms(Limits(D(9), D(11), D(10)), series, values, 0)
    assert (found.values, found.alarms, found.alarm_days, found.days) == (9, 2, 2, 3)
    assert round(found.per_day, 5) == D("0.66667")
    assert [day.number for day in daily(series, values, day_begins_min=1)] == [-1, 0, 1]
    assert [(day.low, day.high, day.values) for day in daily(series, values)] == [
        (D(10), D(13), 6), (D(10), D(13), 2), (D(10), D(10), 1),
    ]  # fmt: skip


def test_who_stays_outside_alarms_every_day() -> None:
    """One alarm in ten days is not a tenth of an alarm a day where it never ends."""
    series = Series([DAY_S * day + hour for day in range(10) for hour in range(3)], [Reading(D(12))] * 30)
    found = false_alarms(Limits(D(9), D(11), D(10)), series, [D(12)] * 30, 0)
    assert (found.alarms, found.alarm_days, found.per_day) == (1, 10, D(1))


# ---- over a history -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", Statistic)
def test_limits_keep_the_promise_on_the_days_they_come_from(statistic: Statistic) -> None:
    method = Method(statistic, 20, D("0.1") if statistic is Statistic.EWMA else None)
    series = history(60, 80)
    limits, days = establish(method, series, D("0.1"))
    assert days == 60 and limits.sd is not None and 2 < limits.sd < 4 and 139 < limits.centre < 141
    found = false_alarms(limits, series, walk(method, limits.centre, series).statistics, 0)
    assert found.alarm_days <= 6 and found.days == 60
    larger = simulate(
        method, limits, history(40, 80, seed=2), [Bias(D(k), SD) for k in ("-2", "-1", "1", "2")], seed=1, horizon=200
    ).found
    assert [one.undetected for one in (larger[0], larger[3])] == [0, 0]
    assert (larger[0].median or 999) < (larger[1].median or 999) and (larger[3].median or 999) < (
        larger[2].median or 999
    )


def test_a_run_is_what_a_follower_sees_from_the_beginning() -> None:
    """Each run begins where the statistic was, though it is not recomputed from the beginning: also after pauses."""
    method = replace(Method(Statistic.EWMA, 3, D("0.2"), restart_after_min=120), outlying=Outlying.TRUNCATE, low=D(135))
    series = history(12, 30)
    limits = Limits(D("139.3"), D("140.7"), D(140), D(3))
    bias = Bias(D("0.5"), SD)
    whole = simulate(method, limits, series, [bias], seed=8, runs=60, horizon=40)
    past = walk(method, limits.centre, series).statistics
    places = [
        at for at in range(1, len(series) - 39)
        if (before := past[at - 1]) is not None and beyond(limits, before) is None
    ]  # fmt: skip
    numbers, patients = splitmix64(8), []
    for _ in range(60):
        place = places[(next(numbers) * len(places)) >> 64]
        follower = Follower(method, limits.centre)
        for at, (when, reading) in enumerate(zip(series.at[: place + 40], series.readings, strict=False)):
            put = bias.put(reading, limits.sd) if at >= place else reading
            statistic = follower.see(when, treated(method, put))
            if at >= place and statistic is not None and beyond(limits, statistic) is Side.HIGH:
                patients.append(at - place + 1)
                break
    patients.sort()
    assert whole.places == len(places) and whole.found[0].undetected == 60 - len(patients)
    assert whole.found[0].median == (patients[29] if len(patients) > 29 else None)


def test_the_same_seed_gives_the_same_figures_and_another_gives_others() -> None:
    method = Method(Statistic.MEDIAN, 15)
    series = history(30, 60)
    limits, _ = establish(method, series, D("0.2"))
    biases = [Bias(D(1), P), Bias(D(-1), P)]
    one, again, other = (
        simulate(method, limits, series, biases, seed=seed, runs=50, horizon=100) for seed in (1, 1, 2)
    )
    assert one == again and one.found != other.found


def test_what_cannot_be_simulated_says_why() -> None:
    limits = Limits(D(9), D(11), D(10))
    with pytest.raises(ValueError, match="60 results: there is no position with a statistic and 60 results after it"):
        simulate(Method(Statistic.MEAN, 4), limits, constant(60), [Bias(D(1), A)], seed=1, horizon=60)
    with pytest.raises(ValueError, match="1 results can be counted; a block of 4 needs more"):
        establish(Method(Statistic.MEAN, 4), constant(1), D("0.1"))
    with pytest.raises(ValueError, match="1 days of history"):
        establish(Method(Statistic.MEAN, 4), constant(60), D("0.1"))

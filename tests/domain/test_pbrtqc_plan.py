"""Plans as text and back, goals, and what voids a validation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from interface.domain.pbrtqc import ENGINE, Limits, Method, Outlying, Statistic
from interface.domain.pbrtqc_plan import (
    Goal,
    Plan,
    PlanError,
    Stamp,
    Training,
    digest_of,
    parse_bias,
    parse_goal,
    read_plan,
    seed_of,
    unmet,
    void,
    write_plan,
)
from interface.domain.pbrtqc_simulation import Bias, BiasUnit, FalseAlarms, Found, Simulation

D = Decimal
P = BiasUnit.PERCENT
LIMITS = Limits(D("4.60"), D("5.41235"), D("5.0125"), D("0.731"))
GOAL = Goal("tea", Bias(D(10), P), 40, 120, D("0.05"))
FULL = Plan(
    "a", "m1", "t", "mmol/L",
    Method(Statistic.EWMA, 3, D("0.05"), Outlying.WINSORISE, D("3"), D("8.0"), D("-0.5"), 240), LIMITS,
    Training(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC), 12_345, 59, D("0.1")),
    ("oncology", "dialysis"), ("research",), 360, (GOAL, replace(GOAL, name="small", p95=None)), D("0.25"), 500,
)  # fmt: skip
BARE = Plan("a", "", "t", "", Method(Statistic.MEAN, 20), Limits(D(1), D(2), D(1)))


@pytest.mark.parametrize("plan", [FULL, BARE], ids=["full", "bare"])
def test_a_plan_is_read_as_it_was_written(plan: Plan) -> None:
    body = write_plan(plan)
    read = read_plan(body)
    assert replace(read, excluded_wards=tuple(sorted(plan.excluded_wards))) == read
    assert replace(read, excluded_wards=plan.excluded_wards) == plan
    assert write_plan(read) == body and "e" not in str(read.limits.high)
    assert 0 <= seed_of(digest_of(body)) < 1 << 64


def test_whatever_is_changed_changes_the_digest() -> None:
    changed = [
        replace(FULL, module=""), replace(FULL, unit="mg/dL"), replace(FULL, horizon=501), replace(FULL, goals=(GOAL,)),
        replace(FULL, method=replace(FULL.method, weight=D("0.06"))),
        replace(FULL, limits=replace(LIMITS, low=D("4.61"))),
        replace(FULL, excluded_wards=()), replace(FULL, day_begins_min=0), replace(FULL, most_false_alarms=D("0.26")),
        replace(FULL, goals=(replace(GOAL, undetected=D("0.06")), FULL.goals[1])), replace(FULL, training=None),
    ]  # fmt: skip
    assert len({digest_of(write_plan(plan)) for plan in [FULL, *changed]}) == len(changed) + 1
    assert write_plan(replace(FULL, excluded_wards=("dialysis", "oncology"))) == write_plan(FULL)


@pytest.mark.parametrize("body", ["", "{}", "[]", "null", write_plan(FULL).replace('"ewma"', '"mode"'), '{"method":1}'])
def test_what_cannot_be_read_is_refused(body: str) -> None:
    with pytest.raises(PlanError, match="this version of the program cannot read it"):
        read_plan(body)


def test_what_a_plan_counts() -> None:
    assert FULL.counts("m1", "mmol/L", "", "")
    for module, unit, ward, group in (
        ("", "mmol/L", "", ""), ("m2", "mmol/L", "", ""), ("m1", "mg/dL", "", ""), ("m1", "mmol/L", "dialysis", ""),
        ("m1", "mmol/L", "", "research"),
    ):  # fmt: skip
        assert not FULL.counts(module, unit, ward, group)
    assert BARE.counts("m1", "", "dialysis", "research") and BARE.counts("", "", "", "")


# ---- goals ----------------------------------------------------------------------------------------------------------


def simulated(low: Found, high: Found, alarms: int = 5, days: int = 20) -> Simulation:
    return Simulation(1, 100, 500, 900, FalseAlarms(1000, days, alarms, alarms), (low, high))


UP, DOWN = Found(Bias(D(10), P), 100, 5, 40, 120), Found(Bias(D(-10), P), 100, 0, 1, 2)


@pytest.mark.parametrize(
    ("simulation", "missed"),
    [
        (simulated(DOWN, UP), []),  # at each limit
        (simulated(DOWN, replace(UP, median=41)), ["goal tea: +10%: median 41, 40 patients at most"]),
        (simulated(DOWN, replace(UP, p95=121)), ["goal tea: +10%: 95th percentile 121, 120 patients at most"]),
        (
            simulated(DOWN, replace(UP, p95=None, undetected=6)),
            [
                "goal tea: +10%: 95th percentile not found, 120 patients at most",
                "goal tea: +10%: 0.06 not found, 0.05 at most",
            ],
        ),
        (simulated(replace(DOWN, undetected=50), UP), ["goal tea: -10%: 0.5 not found, 0.05 at most"]),
        (simulated(UP, UP), ["goal tea: -10%: not simulated"]),
        (simulated(DOWN, UP, alarms=6), ["0.3 false alarms a day, 0.25 at most"]),
        (simulated(DOWN, UP, days=0), ["there was no day to count false alarms on"]),
    ],
)
def test_goals_that_are_missed_are_named(simulation: Simulation, missed: list[str]) -> None:
    assert list(unmet(replace(FULL, goals=(GOAL,)), simulation)) == missed


def test_nothing_wanted_is_nothing_met() -> None:
    assert unmet(BARE, simulated(DOWN, UP)) == (
        "the plan has no goal", "the plan does not say how many false alarms a day are too many",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "bias", "shown"),
    [
        ("10%", Bias(D(10), P), "+10%"), ("-10%", Bias(D(-10), P), "-10%"),
        ("+0.5SD", Bias(D("0.5"), BiasUnit.SD), "+0.5SD"), ("-0.40", Bias(D("-0.40"), BiasUnit.ABSOLUTE), "-0.40"),
    ],
)  # fmt: skip
def test_a_bias_as_a_person_writes_it(text: str, bias: Bias, shown: str) -> None:
    assert parse_bias(text) == bias and str(bias) == shown


@pytest.mark.parametrize("text", ["", "%", "10 %", "1e3%", "ten", "10%%", "٣%", "NaN"])
def test_what_is_no_bias(text: str) -> None:
    with pytest.raises(ValueError, match="is not a bias such as"):
        parse_bias(text)


def test_a_goal_as_a_person_writes_it() -> None:
    assert parse_goal("tea 10% median=40 p95=120 undetected=0.05") == GOAL
    assert parse_goal("any 0.5SD") == Goal("any", Bias(D("0.5"), BiasUnit.SD))
    assert [str(bias) for bias in parse_goal("any -0.5SD").biases] == ["-0.5SD", "+0.5SD"]
    for wrong in ("tea", "tea 10% median=x", "tea 10% mean=3", "tea 10% 40", "tea 10% undetected=NaN"):
        with pytest.raises(ValueError, match=r"is not a bias such as|is none of median"):
            parse_goal(wrong)


# ---- validations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "test_unit", "why"),
    [
        (Stamp("d", ENGINE, True), "g/L", ""),
        (None, "g/L", "it has not been validated"),
        (Stamp("other", ENGINE, True), "g/L", "it has not been validated"),
        (Stamp("d", "pbrtqc 0", True), "g/L", "it was validated by another version of this program"),
        (Stamp("d", ENGINE, False), "g/L", "its validation did not meet the laboratory's goals"),
        (Stamp("d", ENGINE, True), "", "the test is reported in no unit now, the plan is in g/L"),
    ],
)
def test_what_voids_a_validation(stamp: Stamp | None, test_unit: str, why: str) -> None:
    assert void(stamp, "d", "g/L", test_unit) == why

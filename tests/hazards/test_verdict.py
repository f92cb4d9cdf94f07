"""The plan is what it says, and the comparison sees every kind of wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.hazards.generator import CLASSES, plan
from tests.hazards.plan import Expected, Fate, Plan
from tests.hazards.runner import Found, State
from tests.hazards.verdict import compare

PLAN = plan(7, 2000)
STATUS = {Fate.RELEASED: "final", Fate.HELD: "registered", Fate.WAITS: "preliminary"}


def as_expected(one: Expected) -> Found:
    """What a faultless laboratory would have of it."""
    released = one.fate is Fate.RELEASED
    return Found(
        one.key, STATUS[one.fate], one.reasons, one.value or "", one.unit or "", one.flags or (), one.test or "",
        frozenset(one.patients[:1]), one.reportable is not False, one.versions, one.pending,
        frozenset({"changed_after_release"} if one.pending is not None else ()), bool(one.critical),
        f"{one.value} {one.unit}".strip() if released else None, "rule_set" if released else "link",
        one.dated,
    )  # fmt: skip


def faultless(planned: Plan) -> State:
    return State(tuple(map(as_expected, planned.expected)), planned.controls, planned.duplicates, 0, 0, 0)


def test_a_seed_makes_one_plan_of_exactly_so_many_results_with_every_class_in_it() -> None:
    assert plan(7, 2000) == PLAN != plan(8, 2000)
    assert sum(send.results for stage in PLAN.stages for lane in stage.lanes for send in lane) == PLAN.sent == 2000
    kinds = {one.kind for one in PLAN.expected if one.hazard}
    assert len(kinds) >= 40
    assert len({one.key for one in PLAN.expected}) == len(PLAN.expected)
    assert len(CLASSES) >= 50


def test_of_every_plan_most_must_be_released() -> None:
    for seed in range(5):
        planned = plan(seed, 1000)
        assert sum(one.fate is Fate.RELEASED for one in planned.expected) >= 0.6 * planned.sent


def test_a_laboratory_that_does_as_planned_has_no_fault() -> None:
    verdict = compare(PLAN, faultless(PLAN))
    assert verdict.faults == ()
    assert verdict.released == sum(one.fate is Fate.RELEASED for one in PLAN.expected)


RELEASED = {
    "another value": lambda one: replace(one, value="1" + one.value),
    "another unit": lambda one: replace(one, unit="furlong"),
    "another flag": lambda one: replace(one, flags=("X",)),
    "another patient": lambda one: replace(one, patients=frozenset({"P0"})),
    "nobody": lambda one: replace(one, patients=frozenset()),
    "another test": lambda one: replace(one, test="XYZ"),
    "another value for an EMR": lambda one: replace(one, emr="0"),
}
OTHERS: dict[str, Callable[[Found], Found]] = {
    "a person's": lambda one: replace(one, actor="user"),
    "a version too many": lambda one: replace(one, versions=one.versions + 1),
    "a task for nothing": lambda one: replace(one, critical=not one.critical),
    "a change beside it": lambda one: replace(one, pending="7"),
    "not to report": lambda one: replace(one, reportable=False),
}


def _with(change: Callable[[Found], Found], fate: Fate) -> State:
    at = next(at for at, one in enumerate(PLAN.expected) if one.fate is fate and one.value and one.patients)
    state = faultless(PLAN)
    results = (*state.results[:at], change(state.results[at]), *state.results[at + 1 :])
    return replace(state, results=results)


@pytest.mark.parametrize("name", RELEASED)
def test_what_is_released_otherwise_than_planted_is_a_wrong_release(name: str) -> None:
    assert compare(PLAN, _with(RELEASED[name], Fate.RELEASED)).wrong_releases >= 1


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_difference_is_a_fault(name: str) -> None:
    assert compare(PLAN, _with(OTHERS[name], Fate.RELEASED)).faults


@pytest.mark.parametrize("fate", [Fate.HELD, Fate.WAITS])
def test_what_is_shown_and_must_not_be_is_a_wrong_release(fate: Fate) -> None:
    assert compare(PLAN, _with(lambda one: replace(one, emr="4.1 mmol/L"), fate)).wrong_releases >= 1
    assert compare(PLAN, _with(lambda one: replace(one, status="final", held=frozenset()), fate)).wrong_releases >= 1


def test_what_is_held_for_another_reason_is_a_fault() -> None:
    assert compare(PLAN, _with(lambda one: replace(one, held=one.held | {"person"}), Fate.HELD)).faults
    assert compare(PLAN, _with(lambda one: replace(one, held=frozenset()), Fate.HELD)).faults


def test_what_is_lost_doubled_or_unplanned_is_a_fault() -> None:
    state = faultless(PLAN)
    lost = replace(state, results=state.results[1:])
    doubled = replace(state, results=(*state.results, state.results[0]))
    unplanned = replace(state, results=(*state.results, replace(state.results[0], key=("B", "Z", "T"))))
    held_back = replace(
        state, results=tuple(replace(one, status="registered", emr=None, actor="link") for one in state.results)
    )  # fmt: skip
    for wrong in (lost, doubled, unplanned, held_back, replace(state, controls=0), replace(state, unsettled=1),
                  replace(state, parked=1), replace(state, unexplained=1), replace(state, duplicates=0)):  # fmt: skip
        assert compare(PLAN, wrong).faults

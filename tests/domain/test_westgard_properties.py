"""What holds of the control rules whatever is measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain.qc import Evaluation, Multirule, Point, QcMode, QcRule, QcVerdict
from interface.domain.westgard import HISTORY, evaluate
from tests.domain.qc_series import EVERY, only, point

NUMBERS = st.one_of(
    st.sampled_from([Decimal(n) for n in (0, 1, -1, 2, -2, 3, -3)]),
    st.decimals(-4, 4, places=1),
    st.decimals(Decimal("0.1"), Decimal("2.6"), places=1),  # many on one side
)
MULTIRULES = st.builds(
    Multirule,
    rules=st.lists(st.sampled_from(EVERY), min_size=1, unique=True).map(tuple),
    mode=st.sampled_from(QcMode),
    loose_r4s=st.booleans(),
)


@st.composite
def streams(draw: st.DrawFn, most: int = 16) -> list[Point]:
    """Runs of up to four levels, in the order of runs, within a run in any order."""
    points = []
    for run in range(1, draw(st.integers(1, most)) + 1):
        for level in draw(st.lists(st.integers(1, 4), min_size=1, max_size=4, unique=True)):
            points.append(point(run, level, draw(NUMBERS)))
    return points


def ours(rule: Multirule, points: Sequence[Point]) -> Evaluation:
    return evaluate(rule, points[:-1], points[-1], 3)


@settings(max_examples=50, deadline=None)
@given(MULTIRULES, streams())
def test_neither_ids_nor_times_nor_names_of_lots_matter(rule: Multirule, points: list[Point]) -> None:
    moved = [
        replace(each, id="x" + each.id, at=each.at + timedelta(days=400), run="y" + each.run, lot="a", target="b")
        for each in points
    ]
    found, again = ours(rule, points), ours(rule, moved)
    assert again.verdict is found.verdict and again.insufficient == found.insufficient
    assert [tuple("x" + each for each in violation.points) for violation in found.violations] == [
        violation.points for violation in again.violations
    ]


@settings(max_examples=50, deadline=None)
@given(MULTIRULES, streams())
def test_both_sides_are_judged_alike(rule: Multirule, points: list[Point]) -> None:
    mirrored = [replace(each, z=each.z.copy_negate()) for each in points if each.z is not None]
    found, again = ours(rule, points), ours(rule, mirrored)
    assert (again.verdict, again.violations, again.insufficient) == (
        found.verdict,
        found.violations,
        found.insufficient,
    )


@settings(max_examples=50, deadline=None)
@given(MULTIRULES, streams(), st.data())
def test_what_is_excluded_or_has_no_z_never_matters(rule: Multirule, points: list[Point], data: st.DataObject) -> None:
    noise = list(points)
    for n in range(data.draw(st.integers(1, 6))):
        made = point(data.draw(st.integers(1, 16)), data.draw(st.integers(1, 4)), data.draw(NUMBERS), n=n + 1)
        made = data.draw(st.sampled_from([replace(made, excluded=True), replace(made, z=None)]))
        noise.insert(data.draw(st.integers(0, len(noise) - 1)), made)
    # put in the middle of a run, one that counts nowhere must not change which run is first either
    assert ours(rule, noise) == ours(rule, points)


@settings(max_examples=50, deadline=None)
@given(MULTIRULES, streams(24))
def test_more_history_than_is_needed_changes_nothing(rule: Multirule, points: list[Point]) -> None:
    kept: dict[int, int] = defaultdict(int)
    needed = [points[-1]]
    for each in reversed(points[:-1]):
        kept[each.level] += 1
        if kept[each.level] <= HISTORY:
            needed.insert(0, each)
    assert ours(rule, needed) == ours(rule, points)


@settings(max_examples=40, deadline=None)
@given(MULTIRULES, streams())
def test_every_violation_is_of_the_newest_run_and_says_across_what_is(rule: Multirule, points: list[Point]) -> None:
    by_id = {each.id: each for each in points}
    new, found = points[-1], ours(rule, points)
    for violation in found.violations:
        levels = {by_id[each].level for each in violation.points}
        assert violation.across is (len(levels) > 1)
        assert new.run in {by_id[each].run for each in violation.points}
        if rule.mode is QcMode.MODERN:
            assert new.id in violation.points
        if violation.rule in (QcRule.R_4S,) or (violation.across and violation.rule in (QcRule.R2_2S, QcRule.R2OF3_2S)):
            assert {by_id[each].run for each in violation.points} == {new.run}
        assert len(set(violation.points)) == len(violation.points)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EVERY), streams(10), st.data())
def test_a_run_is_judged_alike_however_its_levels_arrive(
    rule: QcRule, points: list[Point], data: st.DataObject
) -> None:
    points = [each for each in points if each.level < 4]
    last = [point(99, level, data.draw(NUMBERS)) for level in (1, 2, 3)]

    def said(order: Sequence[Point]) -> bool:
        return any(evaluate(only(rule), [*points, *order[:n]], each, 3).violations for n, each in enumerate(order))

    order = data.draw(st.permutations(last))
    assert not said(last) or said(order)  # nothing is missed; a level that is still to come may have stood between


@settings(max_examples=40, deadline=None)
@given(MULTIRULES, streams(), streams(3))
def test_with_more_history_no_rule_becomes_insufficient(
    rule: Multirule, points: list[Point], older: list[Point]
) -> None:
    before = [replace(each, id="o" + each.id, run="o" + each.run) for each in older]
    found, more = ours(rule, points), ours(rule, [*before, *points])
    broken = {each.rule for each in found.violations}
    assert set(more.insufficient) <= set(found.insufficient) | (broken - {each.rule for each in more.violations})
    assert not set(found.insufficient) & broken


@settings(max_examples=40, deadline=None)
@given(MULTIRULES, streams())
def test_the_verdict_follows_from_what_is_broken(rule: Multirule, points: list[Point]) -> None:
    found = ours(rule, points)
    broken = {each.rule for each in found.violations}
    expected = QcVerdict.REJECT if broken - {QcRule.R1_2S} else QcVerdict.WARN if broken else QcVerdict.ACCEPT
    assert found.verdict is expected
    assert broken <= {*rule.rules, QcRule.R1_2S}
    warn = replace(rule, warn_only=EVERY)
    assert ours(warn, points).verdict is not QcVerdict.REJECT


@settings(max_examples=40, deadline=None)
@given(streams())
def test_classic_mode_says_nothing_that_modern_mode_would_not_have_said_of_the_run(points: list[Point]) -> None:
    new = points[-1]
    modern = {
        (violation.rule, violation.points)
        for n, each in enumerate(points)
        if each.run == new.run
        for violation in evaluate(only(*EVERY), [*points[:n], *points[n + 1 :]], each, 3).violations
    }
    classic = ours(only(*EVERY, mode=QcMode.CLASSIC), points)
    assert {(violation.rule, violation.points) for violation in classic.violations} <= modern
    beyond = any(each.run == new.run and each.z is not None and abs(each.z) > 2 for each in points)
    assert beyond or classic.verdict is QcVerdict.ACCEPT

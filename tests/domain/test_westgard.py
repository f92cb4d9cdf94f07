"""What each of Westgard's rules is, case by case: PROTOCOLS §4.4."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from interface.domain.qc import Multirule, QcMode, QcRule, QcVerdict
from interface.domain.westgard import HISTORY, by_levels, evaluate, needs, z_of
from tests.domain.qc_series import EVERY, broken, judged, only, point, series

# A series and, of its last point, the points that break the rule: within its level (`|`), across levels (`+`).
CASES = [
    (QcRule.R1_2S, "2.01", "|1.1"),
    (QcRule.R1_2S, "-2.01", "|1.1"),
    (QcRule.R1_2S, "2", ""),
    (QcRule.R1_2S, "2.5 0", ""),
    (QcRule.R1_3S, "3.01", "|1.1"),
    (QcRule.R1_3S, "-3.0000000000000001", "|1.1"),
    (QcRule.R1_3S, "3", ""),
    (QcRule.R1_3S, "-3", ""),
    (QcRule.R1_3S, "3.5 1", ""),
    (QcRule.R2_2S, "2.1 2.2", "|1.1 2.1"),
    (QcRule.R2_2S, "-2.1 -2.2", "|1.1 2.1"),
    (QcRule.R2_2S, "2.1 2", ""),
    (QcRule.R2_2S, "2.1 -2.1", ""),
    (QcRule.R2_2S, "2.1 0 2.1", ""),
    (QcRule.R2_2S, "2.1 2.2 0", ""),
    (QcRule.R2_2S, "0,0 2.1,2.2", "+2.1 2.2"),
    (QcRule.R2_2S, "2.1,0,2.2", "+1.1 1.3"),  # any two levels of the run
    (QcRule.R2_2S, "0,2.1 2.1,0", ""),  # another level in another run
    (QcRule.R2_2S, "0,2.1 2.1", ""),
    (QcRule.R2_2S, "0,-2.1 -2.1,-2.1", "|1.2 2.2+2.1 2.2"),
    (QcRule.R_4S, "2.1,-2.1", "+1.1 1.2"),
    (QcRule.R_4S, "-2.1,2.1", "+1.1 1.2"),
    (QcRule.R_4S, "2,-2.1", ""),
    (QcRule.R_4S, "2.1,-2", ""),
    (QcRule.R_4S, "3.5,-1", ""),  # 4.5 apart, but only one beyond 2 SD: strict
    (QcRule.R_4S, "2.1,0,-2.1", "+1.1 1.3"),
    (QcRule.R_4S, "2.1 -2.1", ""),  # another run
    (QcRule.R_4S, "0,2.1 -2.1,0", ""),
    (QcRule.R_4S, "2.000000000000000000000000000000001,-2.000000000000000000000000000000001", "+1.1 1.2"),
    (QcRule.R2OF3_2S, "2.1 0 2.1", "|1.1 3.1"),
    (QcRule.R2OF3_2S, "2.1 0 0 2.1", ""),
    (QcRule.R2OF3_2S, "2.1 2.1 0", ""),  # said of the second
    (QcRule.R2OF3_2S, "2.1 2.1", "|1.1 2.1"),  # no third takes it back
    (QcRule.R2OF3_2S, "2.1 0 -2.1", ""),
    (QcRule.R2OF3_2S, "2.1 2.1 2", ""),
    (QcRule.R2OF3_2S, "0,0,2.1 2.1", ""),
    (QcRule.R2OF3_2S, "2.1 -1 2", ""),
    (QcRule.R2OF3_2S, "2.1,0,2.1", "+1.1 1.3"),
    (QcRule.R2OF3_2S, "-2.1,-2.1,0", ""),
    (QcRule.R2OF3_2S, "0,0,2.1 2.1,0,0", ""),  # another level in another run
    (QcRule.R3_1S, "1.1 1.1 1.1", "|1.1 2.1 3.1"),
    (QcRule.R3_1S, "1.1 1 1.1", ""),
    (QcRule.R3_1S, "1.1 -1.1 1.1", ""),
    (QcRule.R3_1S, "-1.1,-1.1,-1.1", "+1.1 1.2 1.3"),
    (QcRule.R3_1S, "0,1.1,1.1 1.1", "+1.2 1.3 2.1"),
    (QcRule.R4_1S, "1.1 1.1 1.1 1.1", "|1.1 2.1 3.1 4.1"),
    (QcRule.R4_1S, "1.1 1.1 1.1", ""),
    (QcRule.R4_1S, "1.1,1.1 1.1,1.1", "+1.1 1.2 2.1 2.2"),
    (QcRule.R4_1S, "1.1,0 1.1,0 1.1,0 1.1", "|1.1 2.1 3.1 4.1"),
    (QcRule.R4_1S, "1.1,1.1 1.1,1", ""),
    (QcRule.R4_1S, "-1.1,-1.1 -1.1,1.1", ""),
    (QcRule.R6X, "0.1 0.1 0.1 0.1 0.1 0.1", "|1.1 2.1 3.1 4.1 5.1 6.1"),
    (QcRule.R6X, "0.1 0.1 0.1 0.1 0.1", ""),
    (QcRule.R6X, "0.1 0.1 0.1 0 0.1 0.1 0.1", ""),
    (QcRule.R6X, "-1,-1,-1 -1,-1,-1", "+1.1 1.2 1.3 2.1 2.2 2.3"),
    (QcRule.R6X, "-1,-1,-1 -1,0,-1", ""),
    (QcRule.R8X, " 1,1" * 4, "+1.1 1.2 2.1 2.2 3.1 3.2 4.1 4.2"),
    (QcRule.R8X, " 1,-1" * 7 + " 1", "|1.1 2.1 3.1 4.1 5.1 6.1 7.1 8.1"),
    (QcRule.R8X, " 1,1" * 3 + " 1", ""),
    (QcRule.R9X, " 1,1,1" * 3, "+1.1 1.2 1.3 2.1 2.2 2.3 3.1 3.2 3.3"),
    (QcRule.R9X, " 1,1,1" * 2 + " 1,1", ""),
    (QcRule.R10X, " 1,1" * 5, "+1.1 1.2 2.1 2.2 3.1 3.2 4.1 4.2 5.1 5.2"),
    (QcRule.R10X, " 1,1" * 4 + " 1", ""),
    (QcRule.R10X, " -0.01" * 10, "|1.1 2.1 3.1 4.1 5.1 6.1 7.1 8.1 9.1 10.1"),
    (QcRule.R12X, " 1,1" * 6, "+1.1 1.2 2.1 2.2 3.1 3.2 4.1 4.2 5.1 5.2 6.1 6.2"),
    (QcRule.R12X, " 1,1" * 5 + " 1", ""),
    (QcRule.R7T, "-3 -2 -1 0 1 2 3", "|1.1 2.1 3.1 4.1 5.1 6.1 7.1"),
    (QcRule.R7T, "3 2 1 0 -1 -2 -2.01", "|1.1 2.1 3.1 4.1 5.1 6.1 7.1"),
    (QcRule.R7T, "-3 -2 -1 0 1 2 2", ""),
    (QcRule.R7T, "-3 -2 -1 0 0 1 2", ""),
    (QcRule.R7T, "-2 -1 0 1 2 3", ""),
    (QcRule.R7T, "5 -3,0 -2,1 -1,0 0,1 1,0 2,1 3", "|2.1 3.1 4.1 5.1 6.1 7.1 8.1"),  # within its level
]


def _said(text: str) -> set[tuple[bool, tuple[str, ...]]]:
    within, _, across = text.partition("+")
    sides = [(False, within.removeprefix("|")), (True, across)]
    return {(side, tuple(points.split())) for side, points in sides if points}


@pytest.mark.parametrize(("rule", "text", "expected"), CASES)
def test_each_rule_is_broken_by_the_newest_point_as_the_protocol_says_and_by_no_less(
    rule: QcRule, text: str, expected: str
) -> None:
    points = series(text)
    found = evaluate(only(rule), points[:-1], points[-1], 2)
    assert {(each.across, each.points) for each in found.violations} == _said(expected)
    assert all(each.rule is rule for each in found.violations)
    warns = QcVerdict.WARN if rule is QcRule.R1_2S else QcVerdict.REJECT
    assert found.verdict is (warns if expected else QcVerdict.ACCEPT)


@pytest.mark.parametrize(("rule", "text", "expected"), CASES)
def test_a_mirrored_series_breaks_the_same_rules(rule: QcRule, text: str, expected: str) -> None:
    points = [replace(each, z=None if each.z is None else each.z.copy_negate()) for each in series(text)]
    found = evaluate(only(rule), points[:-1], points[-1], 2)
    assert {(each.across, each.points) for each in found.violations} == _said(expected)


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [("3.5,-1", False, True), ("2,-2", False, False), ("2.1,-2.1", True, True), ("4.1,0", False, True)],
)
def test_r4s_is_strict_by_default_and_by_the_range_where_it_is_said(text: str, strict: bool, loose: bool) -> None:
    points = series(text)
    for rule, expected in ((only(QcRule.R_4S), strict), (only(QcRule.R_4S, loose=True), loose)):
        assert bool(evaluate(rule, points[:-1], points[-1], 2).violations) is expected


def test_four_sd_apart_is_not_more_than_four_whatever_division_leaves() -> None:
    seven, five = (z_of(Decimal(n), Decimal(0), Decimal(3)) for n in (7, -5))
    history, new = [point(1, 1, seven)], point(1, 2, five)
    assert not evaluate(only(QcRule.R_4S, loose=True), history, new, 2).violations
    further = point(1, 2, z_of(Decimal("-5.0001"), Decimal(0), Decimal(3)))
    assert evaluate(only(QcRule.R_4S, loose=True), history, further, 2).violations


@pytest.mark.parametrize(
    ("number", "mean", "sd", "z"),
    [
        ("110", "100", "5", "2"),
        ("95", "100", "5", "-1"),
        ("100", "100", "5", "0"),
        (None, "100", "5", None),
        ("NaN", "100", "5", None),
        ("110", "100", "0", None),
        ("110", "100", "-5", None),
        ("110", "100", "NaN", None),
        ("110", "NaN", "5", None),
    ],
)
def test_z_is_none_without_a_number_or_a_usable_sd(number: str | None, mean: str, sd: str, z: str | None) -> None:
    found = z_of(None if number is None else Decimal(number), Decimal(mean), Decimal(sd))
    assert found == (None if z is None else Decimal(z))


def test_no_rounding_brings_z_back_onto_a_limit() -> None:
    sd = Decimal("0.3")
    just = Decimal("5.6" + "0" * 38 + "1")
    beyond = z_of(just, Decimal(5), sd)
    assert beyond is not None and beyond > 2
    assert z_of(Decimal(5) + 2 * sd, Decimal(5), sd) == 2


def test_what_has_no_z_or_is_excluded_is_not_judged_and_counts_nowhere() -> None:
    rule = only(QcRule.R2_2S)
    for silent in (point(2, 1, None), point(2, 1, "NaN"), point(2, 1, "2.5", excluded=True)):
        found = evaluate(rule, series("2.1"), silent, 1)
        assert (found.verdict, found.violations) == (QcVerdict.UNKNOWN, ())
        assert found.text
        after = evaluate(rule, [*series("2.1"), silent], point(3, 1, "2.1"), 1)
        assert [each.points for each in after.violations] == [("1.1", "3.1")]


def test_a_point_that_is_in_its_own_history_counts_once() -> None:
    points = series("2.1")
    assert not evaluate(only(QcRule.R2_2S), points, points[0], 1).violations


def test_another_lot_or_target_begins_anew_for_its_level_alone() -> None:
    before = series(" 1.1,1.1" * 3)
    of_old = point(4, 1, "1.1")
    for new in (replace(of_old, lot="new"), replace(of_old, target="new")):
        found = evaluate(only(QcRule.R4_1S), before, new, 2)
        assert broken(found) == {(QcRule.R4_1S, True)}
        assert found.violations[0].points == ("1.2", "2.2", "3.2", "4.1")
        assert not evaluate(only(QcRule.R4_1S), series(" 1.1" * 3), new, 1).violations
        assert evaluate(only(QcRule.R4_1S), series(" 1.1" * 3), new, 1).insufficient == (QcRule.R4_1S,)


def test_too_few_points_are_said_to_be_too_few() -> None:
    rule = Multirule(rules=EVERY)
    found = judged(series(" 0.1,-0.1" * 13), rule, 2)
    assert set(found[0].insufficient) == set(EVERY) - {QcRule.R1_2S, QcRule.R1_3S}
    assert QcRule.R_4S not in found[1].insufficient  # the second of the run
    assert set(found[11].insufficient) == {QcRule.R7T, QcRule.R8X, QcRule.R9X, QcRule.R10X, QcRule.R12X}
    assert not found[23].insufficient
    assert all(str(each) in found[0].text for each in found[0].insufficient)


def test_a_broken_rule_is_not_called_insufficient() -> None:
    found = judged(series("1.5,1.5 1.5,1.5"), only(QcRule.R4_1S), 2)[-1]
    assert found.verdict is QcVerdict.REJECT
    assert not found.insufficient


@pytest.mark.parametrize(
    ("levels", "rules"),
    [
        (1, "1-3s 2-2s 4-1s 8x"),
        (2, "1-3s 2-2s R-4s 4-1s 8x"),
        (3, "1-3s 2of3-2s R-4s 3-1s 6x"),
        (4, "1-3s 2-2s R-4s 4-1s 8x"),
        (6, "1-3s 2of3-2s R-4s 3-1s 6x"),
    ],
)
def test_the_number_of_levels_chooses_the_rules(levels: int, rules: str) -> None:
    assert " ".join(by_levels(levels)) == rules
    points = series("3.5")
    assert evaluate(Multirule(), [], points[0], levels) == evaluate(only(*by_levels(levels)), [], points[0], levels)


def test_a_rule_that_only_warns_does_not_reject() -> None:
    points = series(" 1" * 10)
    rule = Multirule(rules=(QcRule.R1_3S, QcRule.R10X), warn_only=(QcRule.R10X,))
    assert evaluate(rule, points[:-1], points[-1], 1).verdict is QcVerdict.WARN
    assert evaluate(rule, points[:-1], point(11, 1, "3.5"), 1).verdict is QcVerdict.REJECT


def test_classic_mode_looks_at_the_others_only_after_1_2s() -> None:
    classic, modern = (only(QcRule.R10X, mode=mode) for mode in (QcMode.CLASSIC, QcMode.MODERN))
    before = series(" 1" * 9)
    reject = QcVerdict.REJECT
    for z, of_classic, of_modern in (
        ("1", QcVerdict.ACCEPT, reject),
        ("2", QcVerdict.ACCEPT, reject),
        ("2.1", reject, reject),
    ):
        assert evaluate(classic, before, point(10, 1, z), 1).verdict is of_classic
        assert evaluate(modern, before, point(10, 1, z), 1).verdict is of_modern
    alone = evaluate(only(*by_levels(2), mode=QcMode.CLASSIC), [], point(1, 1, "2.1"), 2)
    assert (alone.verdict, broken(alone)) == (QcVerdict.WARN, {(QcRule.R1_2S, False)})


def test_in_classic_mode_the_first_of_a_run_beyond_2sd_has_the_whole_run_looked_at() -> None:
    classic = only(QcRule.R10X, mode=QcMode.CLASSIC)
    points = series(" 1,-1" * 9 + " 1,-2.1")
    found = evaluate(classic, points[:-1], points[-1], 2)
    assert {each.points[-1] for each in found.violations if each.rule is QcRule.R10X} == {"10.1", "10.2"}
    # and what comes in the run after it is looked at though it is within 2 SD
    points = series(" 1,-1" * 9 + " 2.1,-1")
    assert evaluate(classic, points[:-1], points[-1], 2).verdict is QcVerdict.REJECT


def test_of_a_run_the_order_of_levels_counts_and_not_that_of_arrival() -> None:
    first, second, third = series(" 1.1,1.1,0" * 2)[3:]
    before = series("0,1.1,1.1")
    found = evaluate(only(QcRule.R4_1S), [*before, second, third], first, 3)
    assert [each.points for each in found.violations] == [("1.2", "1.3", "2.1", "2.2")]


def test_how_many_points_the_rules_look_at() -> None:
    assert needs(()) == 0
    assert needs(by_levels(2)) == 8
    assert needs([QcRule.R_4S]) == 2
    assert HISTORY == needs(EVERY) == 12

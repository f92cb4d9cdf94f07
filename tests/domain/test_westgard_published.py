"""Worked examples that others published, with their answers; each names its source.

Where an answer and PROTOCOLS §4.4 differ, the test says so: the protocol takes limits strictly and R-4s as one beyond
+2 SD and another beyond -2 SD unless its loose form is chosen.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from interface.domain.qc import Multirule, Point, QcRule
from interface.domain.westgard import by_levels, z_of
from tests.domain.qc_series import judged, only, point, series

# Westgard S, Break All the Rules, answers to part one, 2015: westgard.com/break-all-rules-answers1.htm. One control,
# mean 47, SD 3. Its last example, 10:x from the 58th on, is not here: the text at hand ends with the 62nd.
ONE_CONTROL = """
    42.5 55.1 46.4 47.0 43.1 56.9 41.3 44.9 45.5 41.3 47.0 37.7 41.6 53.3 55.4 44.6 47.3 48.2 41.3 42.8 44.3 47.6 44.3
    45.8 47.6 39.8 39.8 50.9 49.7 45.5 45.2 47.3 47.9 44.3 40.1 48.2 40.7 41.9 43.4 43.7 49.7 42.2 52.1 44.6 45.2 45.8
    41.6 41.3 44.9 43.7 45.2 50.6 50.3 51.2 51.5 44.3 41.6 53.9 48.8 48.2 50.6 48.2"""

# The same, answers to part two: westgard.com, article 708, break-all-rules-answers2. Means 47 and 71, SD 3 and 8.
TWO_CONTROLS = """
    51.5,82.2 38.9,51 47.6,74.2 46.0,91.8 50.9,74.2 53.9,69.0 52.7,58.2 49.1,95.5 48.5,65.4 37.0,90.0 47.0,63.0
    54.0,82.2 53.3,65.4 40.0,86.2 55.4,70.2 49.4,88.6 46.7,87.8 45.8,85.0 52.7,76.6 51.1,65.4 54.0,86.2 53.0,71.0
    49.7,81.4 48.2,90.2 46.4,80.6 54.2,54.0"""

# Barry PL, The Levey-Jennings control chart, answers: westgard.com/lssn12p2.htm. Cholesterol, means 200 and 250 mg/dL,
# SD 4 and 5, 28 days.
CHOLESTEROL = """
    200,247 205,250 195,255 202,243 186,254 207,263 194,251 209,264 200,253 196,244 190,261 204,254 196,239 207,236
    200,250 205,259 209,257 197,256 196,249 198,257 197,241 195,255 198,250 199,259 191,247 197,242 190,256 202,246"""


def measured(text: str, *targets: tuple[int, int]) -> list[Point]:
    """Runs of controls as measured; of each level, mean and SD."""
    return [
        point(run, level, z_of(Decimal(number), *map(Decimal, targets[level - 1])))
        for run, numbers in enumerate(text.split(), start=1)
        for level, number in enumerate(numbers.split(","), start=1)
    ]


def answers(points: list[Point], rule: Multirule, levels: int) -> set[tuple[QcRule, tuple[str, ...]]]:
    """Every broken rule with the points that break it."""
    return {(each.rule, each.points) for found in judged(points, rule, levels) for each in found.violations}


def runs(first: int, last: int, level: int = 1) -> tuple[str, ...]:
    return tuple(f"{run}.{level}" for run in range(first, last + 1))


def test_break_all_the_rules_with_one_control() -> None:
    assert answers(measured(ONE_CONTROL, (47, 3)), only(*by_levels(1)), 1) == {
        (QcRule.R1_3S, runs(6, 6)),
        (QcRule.R1_3S, runs(12, 12)),
        (QcRule.R2_2S, runs(14, 15)),
        (QcRule.R2_2S, runs(26, 27)),
        (QcRule.R4_1S, runs(37, 40)),
        (QcRule.R8X, runs(44, 51)),
        (QcRule.R4_1S, runs(52, 55)),
    }


def test_break_all_the_rules_with_two_controls() -> None:
    points = measured(TWO_CONTROLS, (47, 3), (71, 8))
    strict = {
        (QcRule.R2_2S, ("2.1", "2.2")),  # "on both"
        (QcRule.R1_3S, ("8.2",)),
        (QcRule.R1_3S, ("10.1",)),
        (QcRule.R_4S, ("10.1", "10.2")),  # "on both"
        (QcRule.R2_2S, runs(12, 13)),  # "on 1"
        (QcRule.R2_2S, runs(16, 17, 2)),  # "on 2"
        (QcRule.R4_1S, runs(19, 22)),  # "on 1". Also "2:2s on 1": the 22nd is on 2 SD, which is not beyond it
        (QcRule.R_4S, ("26.1", "26.2")),
    }
    by_calculation = {(QcRule.R_4S, ("14.1", "14.2"))}  # "R:4s by calc": -2.33 and +1.9, more than 4 SD apart
    assert answers(points, only(*by_levels(2)), 2) == strict
    assert answers(points, only(*by_levels(2), loose=True), 2) == strict | by_calculation


def test_the_levey_jennings_chart_of_cholesterol() -> None:
    points = measured(CHOLESTEROL, (200, 4), (250, 5))

    def days(rule: QcRule) -> set[int]:
        return {int(last.split(".")[0]) for _, (*_, last) in answers(points, only(rule), 2)}

    assert days(QcRule.R1_2S) == {5, 6, 8, 11, 13, 14, 17, 25, 27}
    assert days(QcRule.R1_3S) == {5}
    assert answers(points, only(QcRule.R2_2S), 2) == {
        (QcRule.R2_2S, ("8.1", "8.2")),  # "+ 2s twice"
        (QcRule.R2_2S, runs(13, 14, 2)),  # "2 days in a row exceeding - 2s"
    }
    assert answers(points, only(QcRule.R_4S), 2) == {(QcRule.R_4S, ("11.1", "11.2"))}  # "both exceed 2s in opposite"


@pytest.mark.parametrize(
    ("rule", "n", "in_runs", "z"),
    [
        # 4-1s "over two consecutive runs (N=2, R=2)", 10x "over five (R=5)": westgard.com/mltirule2.htm
        (QcRule.R4_1S, 2, 2, "1.5"),
        (QcRule.R10X, 2, 5, "0.5"),
        # "2 controls across 5 runs": a laboratory lesson, transtutors.com question 13949167, on "10 mean"
        (QcRule.R10X, 1, 10, "0.5"),
        # "4 consecutive controls fall on the same side of the mean with both": labce.com/spg113780, on 8x
        (QcRule.R8X, 2, 4, "0.5"),
        (QcRule.R8X, 4, 2, "0.5"),  # "N=4, R=2 or N=2, R=4": Westgard Sigma Rules, as scribd.com/document/398223014
        (QcRule.R6X, 3, 2, "0.5"),  # "6x: N=3, R=2" (same)
        (QcRule.R9X, 3, 3, "0.5"),  # "9x: 3 runs with 3 controls per run" (same)
        (QcRule.R3_1S, 3, 1, "1.5"),  # "for 3 controls within the same run": labce.com/spg574557
        (QcRule.R3_1S, 1, 3, "1.5"),  # "across runs for the same control" (same)
        (QcRule.R12X, 2, 6, "0.5"),  # "12 consecutive on one side of the mean": westgard.com/westgard-rules
        (QcRule.R12X, 4, 3, "0.5"),
    ],
)
def test_rules_that_count_are_broken_by_the_last_of_so_many_runs(rule: QcRule, n: int, in_runs: int, z: str) -> None:
    for sign in ("", "-"):
        points = series(" ".join([",".join([sign + z] * n)] * in_runs))
        found = judged(points, only(rule), n)
        assert [bool(each.violations) for each in found] == [False] * (n * in_runs - 1) + [True]


@pytest.mark.parametrize(
    ("rule", "text", "found"),
    [
        # For three controls: labce.com/spg574557_westgard_multi_rule_approach_continued.aspx
        (QcRule.R2OF3_2S, "2.1 0 2.2", True),  # "2 of the last 3 values across runs are outside the same 2 SD"
        (QcRule.R2OF3_2S, "2.1,0,2.2", True),  # "or within a run, 2 of 3 values"
        (QcRule.R2OF3_2S, "-2.1,2.2,0", False),
        (QcRule.R_4S, "2.1,0,-2.2", True),  # "any 2 of the 3 controls within a run"
        # A run is "a single day": "had only one been greater than +2SD, the run would have been accepted, but rejected
        # on the next run if the same control was again out": labce.com/spg49746_westgard_rule_22s.aspx
        (QcRule.R2_2S, "2.5,2.5", True),
        (QcRule.R2_2S, "2.5,1 2.5,1", True),
        (QcRule.R2_2S, "2.5,1 1,2.5", False),
        # "seven control measurements trend in the same direction, i.e. get progressively higher or progressively
        # lower": westgard.com/westgard-rules. So six steps, and equals are not progressively higher
        (QcRule.R7T, "-3 -2.5 -2 -1.5 -1 -0.5 0", True),
        (QcRule.R7T, "3 2.5 2 1.5 1 0.5 0", True),
        (QcRule.R7T, "-3 -2.5 -2 -1.5 -1 -0.5", False),
        (QcRule.R7T, "-3 -2.5 -2 -2 -1.5 -1 -0.5", False),
    ],
)
def test_rules_as_courses_and_definitions_put_them(rule: QcRule, text: str, found: bool) -> None:
    points = series(text)
    assert any(each.violations for each in judged(points, only(rule), len(text.split()[0].split(",")))) is found


# thienchiedu/iqc-pro, tests/westgard-compliance.test.ts, as stored at 0fd45ef: one control of mean 100 and SD 5, a run
# each, and the rule that its authors expect. They take a limit as broken on it, the protocol beyond it (`on_it`).
@pytest.mark.parametrize(
    ("rule", "values", "on_it"),
    [
        (QcRule.R10X, "102 102 102 102 102 102 102 102 102 102", False),
        (QcRule.R6X, "102 102 102 102 102 102", False),
        (QcRule.R9X, "101 101 101 101 101 101 101 101 101", False),
        (QcRule.R7T, "95 96 97 98 99 100 101", False),
        (QcRule.R2_2S, "90 89", True),
        (QcRule.R4_1S, "106 107 105 108", True),
        (QcRule.R2OF3_2S, "90 89 95", True),
        (QcRule.R3_1S, "106 107 105", True),
    ],
)
def test_series_of_another_projects_tests_with_the_rule_it_expects(rule: QcRule, values: str, on_it: bool) -> None:
    found = judged(measured(values, (100, 5)), only(rule), 1)
    assert [each.violations != () for each in found] == [False] * (len(found) - 1) + [not on_it]
    if on_it:  # a hair further out they are broken as expected
        further = [point(run, 1, z_of(Decimal(value), Decimal(100), Decimal("4.999"))) for run, value in
                   enumerate(values.split(), start=1)]  # fmt: skip
        assert any(each.violations for each in judged(further, only(rule), 1))

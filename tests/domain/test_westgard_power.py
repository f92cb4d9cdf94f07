"""How often the rules reject a shift: power functions, exactly.

What a rule finds depends only on which limits each control is beyond. So all combinations of those are given to the
rules, each is weighed with its probability under a shift, and the sum is the rules' power, without sampling error.
It is compared with the closed forms of the same probability, known for single rules (Westgard JO, Groth T, Power
functions for statistical control rules, Clin Chem 1979;25:863-869: N controls in each of R runs, all of them shifted;
that rules within a run need no simulation: the abstract at library.wolfram.com/infocenter/Articles/3180).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest

from interface.domain.qc import QcRule, QcVerdict
from interface.domain.westgard import evaluate
from tests.domain.qc_series import only, point

SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)


def above(limit: float, shift: float, sd: float = 1.0) -> float:
    """P(z > limit) of a control shifted by so many SD."""
    return 0.5 * math.erfc((limit - shift) / (sd * math.sqrt(2)))


def below(limit: float, shift: float, sd: float = 1.0) -> float:
    return above(-limit, -shift, sd)


def power(rules: Sequence[QcRule], n: int, runs: int, limits: Sequence[int]) -> Callable[[float, float], float]:
    """The probability that the last of the runs is rejected; `limits`: those that the rules tell apart, ascending."""
    edges = [-math.inf, *limits, math.inf]
    middles = [str((max(low, -9) + min(high, 9)) / 2) for low, high in itertools.pairwise(edges)]
    rejected: list[tuple[int, ...]] = []
    for cells in itertools.product(range(len(middles)), repeat=n * runs):
        points = [point(1 + at // n, 1 + at % n, middles[cell]) for at, cell in enumerate(cells)]
        last = range(n * (runs - 1), n * runs)
        if any(evaluate(only(*rules), points[:at], points[at], n).verdict is QcVerdict.REJECT for at in last):
            rejected.append(cells)

    def of(shift: float, sd: float = 1.0) -> float:
        weights = [above(low, shift, sd) - above(high, shift, sd) for low, high in itertools.pairwise(edges)]
        return sum(math.prod(weights[cell] for cell in cells) for cells in rejected)

    return of


def _one_beyond(limit: float, n: int, shift: float) -> float:
    return 1 - (1 - above(limit, shift) - below(-limit, shift)) ** n


def _two_beyond_2sd(n: int, shift: float) -> float:
    """At least two above or at least two below: 1 - P(at most one on either side)."""
    high, low = above(2, shift), below(-2, shift)
    rest = 1 - high - low
    neither = rest**n + n * rest ** (n - 1) * (high + low) + n * (n - 1) * rest ** (n - 2) * high * low
    return 1 - neither


def _both_beyond_2sd(n: int, shift: float) -> float:
    """One above and one below, by inclusion and exclusion."""
    high, low = above(2, shift), below(-2, shift)
    return 1 - (1 - high) ** n - (1 - low) ** n + (1 - high - low) ** n


def _all_beyond(limit: float, count: int, shift: float) -> float:
    return above(limit, shift) ** count + below(-limit, shift) ** count


def _ten_of_twelve(shift: float) -> float:
    """At least 10 consecutive of 12 on one side: begun at the first, or after one of the other side."""
    return sum(side**10 + 2 * (1 - side) * side**10 for side in (above(0, shift), below(0, shift)))


CURVES: list[tuple[QcRule, int, int, Sequence[int], Callable[[float], float]]] = [
    (QcRule.R1_3S, 2, 1, (-3, 3), lambda shift: _one_beyond(3, 2, shift)),
    (QcRule.R1_3S, 4, 1, (-3, 3), lambda shift: _one_beyond(3, 4, shift)),
    (QcRule.R2_2S, 2, 1, (-2, 2), lambda shift: _two_beyond_2sd(2, shift)),
    (QcRule.R2_2S, 4, 1, (-2, 2), lambda shift: _two_beyond_2sd(4, shift)),
    (QcRule.R2OF3_2S, 3, 1, (-2, 2), lambda shift: _two_beyond_2sd(3, shift)),
    (QcRule.R_4S, 2, 1, (-2, 2), lambda shift: _both_beyond_2sd(2, shift)),
    (QcRule.R_4S, 4, 1, (-2, 2), lambda shift: _both_beyond_2sd(4, shift)),
    (QcRule.R3_1S, 3, 1, (-1, 1), lambda shift: _all_beyond(1, 3, shift)),
    (QcRule.R4_1S, 2, 2, (-1, 1), lambda shift: _all_beyond(1, 4, shift)),
    (QcRule.R4_1S, 4, 1, (-1, 1), lambda shift: _all_beyond(1, 4, shift)),
    (QcRule.R6X, 3, 2, (0,), lambda shift: _all_beyond(0, 6, shift)),
    (QcRule.R8X, 4, 2, (0,), lambda shift: _all_beyond(0, 8, shift)),
    (QcRule.R10X, 2, 5, (0,), lambda shift: _all_beyond(0, 10, shift)),
    (QcRule.R10X, 4, 3, (0,), _ten_of_twelve),
]


@pytest.mark.parametrize(("rule", "n", "runs", "limits", "closed_form"), CURVES)
def test_a_rule_rejects_a_shift_as_often_as_its_power_function_says(
    rule: QcRule, n: int, runs: int, limits: Sequence[int], closed_form: Callable[[float], float]
) -> None:
    ours = power([rule], n, runs, limits)
    for shift in SHIFTS:
        assert ours(shift, 1.0) == pytest.approx(closed_form(shift), abs=1e-12), shift


def test_false_rejections_are_as_often_as_published() -> None:
    """5 % (N=1), 9 % (N=2), 14 % (N=3) with 1-2s, 0.3 % with 1-3s: Bio-Rad, unityweb.qcnet.com/Documentation/Help/
    URTO/2843.htm, which takes 2 SD to hold 95 %; they hold 95.45 %. 1-2s only warns: counted is what it says."""
    for n, published in ((1, 0.05), (2, 0.09), (3, 0.14)):
        cells = itertools.product(("-3", "0", "3"), repeat=n)
        weights = {"-3": below(-2, 0), "0": 1 - below(-2, 0) - above(2, 0), "3": above(2, 0)}
        said = 0.0
        for z in cells:
            points = [point(1, 1 + at, each) for at, each in enumerate(z)]
            warned = any(evaluate(only(QcRule.R1_2S), points[:at], points[at], n).violations for at in range(n))
            said += warned * math.prod(weights[each] for each in z)
        assert said == pytest.approx(published, abs=0.01)
    assert round(power([QcRule.R1_3S], 1, 1, (-3, 3))(0.0, 1.0), 3) == 0.003


def test_more_rules_detect_more_in_the_order_of_the_published_curves() -> None:
    """N=2, systematic error, from the bottom: 1-3s; with 2-2s and R-4s; with 4-1s over two runs; with 10x over five
    (westgard.com/mltirule2.htm). The last is by far the most work to add up exactly: what it adds, alone."""
    within = [QcRule.R1_3S, QcRule.R2_2S, QcRule.R_4S]
    limits = (-3, -2, -1, 1, 2, 3)
    alone, three, four = (
        power([QcRule.R1_3S], 2, 1, (-3, 3)),
        power(within, 2, 1, (-3, -2, 2, 3)),
        power([*within, QcRule.R4_1S], 2, 2, limits),
    )
    for shift in SHIFTS[1:-1]:
        assert alone(shift, 1.0) < three(shift, 1.0) < four(shift, 1.0)
    # 10x over five runs, by itself, finds small shifts that all the others together do not
    assert power([QcRule.R10X], 2, 5, (0,))(1.0, 1.0) > four(1.0, 1.0)

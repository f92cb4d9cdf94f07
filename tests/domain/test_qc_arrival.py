"""Of which lot a control is, and what is said of one that comes late."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from interface.domain.qc import Evaluation, Multirule, Point, QcRule, QcVerdict
from interface.domain.qc_arrival import QcProblem, Sent, judge_late, recognise
from interface.domain.qc_lots import LotView
from interface.domain.westgard import evaluate

AT = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


def lot(number: str, level: str, *identifiers: str, expires: date | None = None, closed: bool = False) -> LotView:
    return LotView(
        uuid4(),
        1,
        AT,
        uuid4(),
        "Norm",
        number,
        level,
        int(level),
        expires,
        identifiers,
        closed_at=AT if closed else None,
    )


ONE, TWO = lot("77", "1", "QC1", "PCCM1*"), lot("77", "2", "QC2")
NEXT = lot("78", "1", "QC1")
OLD = lot("76", "1", "QC1", expires=date(2026, 11, 1))
DONE = lot("75", "1", "QC0", closed=True)
AMBIGUOUS, UNKNOWN, UNUSABLE = QcProblem.AMBIGUOUS_CONTROL, QcProblem.UNKNOWN_CONTROL, QcProblem.UNUSABLE_LOT


@pytest.mark.parametrize(
    ("sent", "lots", "found"),
    [
        (Sent("QC1"), [ONE, TWO], ONE),
        (Sent("PCCM1-17"), [ONE, TWO], ONE),
        (Sent("PCCM"), [ONE, TWO], UNKNOWN),
        (Sent(""), [ONE], UNKNOWN),
        (Sent("qc1"), [ONE], UNKNOWN),  # as the analyzer writes it
        (Sent("X", "77"), [ONE, TWO], AMBIGUOUS),  # which level?
        (Sent("X", "77", "2"), [ONE, TWO], TWO),
        (Sent("QC2", "77"), [ONE, TWO], TWO),
        (Sent("QC1"), [ONE, NEXT], AMBIGUOUS),
        (Sent("QC1", "78"), [ONE, NEXT], NEXT),
        (Sent("QC1", "79"), [ONE, NEXT], UNKNOWN),  # a lot that nobody entered is not the old one
        (Sent("QC2", "78"), [TWO, NEXT], UNKNOWN),  # what it is called and its lot contradict each other
        (Sent("QC1"), [OLD, ONE], ONE),  # only one of them can be meant
        (Sent("QC1"), [OLD], UNUSABLE),
        (Sent("QC0"), [DONE], UNUSABLE),
        (Sent("PCCM1"), [ONE, lot("90", "1", "PCCM1")], "90"),  # who is called exactly so, before any end
    ],
)
def test_a_control_is_of_the_one_lot_that_is_called_so(
    sent: Sent, lots: list[LotView], found: LotView | QcProblem | str
) -> None:
    made = recognise(sent, lots, AT)
    if isinstance(found, QcProblem):
        assert (made.lot, made.problem, made.step.verdict) == (None, found, "hold")
    else:
        wanted = found.lot if isinstance(found, LotView) else found
        assert made.lot is not None
        assert (made.lot.lot, made.problem) == (wanted, None)


def point(hour: int, z: str, level: int = 1, run: str = "", target: str = "t") -> Point:
    name = f"{hour}/{level}"
    return Point(name, AT + timedelta(hours=hour), run or name, level, "lot", target, Decimal(z))


def late(new: Point, before: list[Point], after: list[Point], rule: Multirule) -> Evaluation:
    return judge_late(rule, before, new, after, 2)


def test_what_is_broken_only_with_a_late_point_is_said_of_it() -> None:
    rule = Multirule((QcRule.R1_3S, QcRule.R2_2S))
    after = [point(2, "2.4")]
    assert evaluate(rule, [], after[0], 2).verdict is QcVerdict.ACCEPT
    found = late(point(1, "2.2"), [], after, rule)
    assert found.verdict is QcVerdict.REJECT
    assert [(one.rule, one.points) for one in found.violations] == [(QcRule.R2_2S, ("1/1", "2/1"))]
    assert "with what was measured after it: 2-2s" in found.text


def test_what_later_points_broke_without_it_is_not_its() -> None:
    rule = Multirule((QcRule.R2_2S,))
    assert late(point(1, "0.1"), [], [point(2, "2.4"), point(3, "2.5")], rule).violations == ()


def test_a_late_point_of_another_target_has_no_say_in_its_levels_later_points() -> None:
    rule = Multirule((QcRule.R2_2S,))
    assert late(point(1, "2.2", target="before"), [], [point(2, "2.4")], rule).verdict is QcVerdict.ACCEPT


def test_a_late_points_warning_warns() -> None:
    rule = Multirule((QcRule.R2_2S,), warn_only=(QcRule.R2_2S,))
    assert late(point(1, "2.2"), [], [point(2, "2.4")], rule).verdict is QcVerdict.WARN


def test_without_later_points_it_is_the_rules_own_word() -> None:
    rule, new, before = Multirule((QcRule.R2_2S,)), point(3, "2.2"), [point(1, "2.1")]
    assert late(new, before, [], rule) == evaluate(rule, before, new, 2)

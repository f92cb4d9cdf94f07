"""Which lot and target a control is of, how long a lot is good, and what may be said of a target."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from interface.domain.qc_lots import (
    AnalyzerLotView,
    InUse,
    LotKind,
    LotView,
    TargetKind,
    TargetSource,
    TargetView,
    in_force,
    names,
    overlapping,
    target_problems,
    unusable,
)
from interface.domain.units import Substance

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LOT, TEST, ANALYZER = uuid4(), uuid4(), uuid4()
BASE = TargetView(
    id=UUID(int=1), lot_id=LOT, lot="4711", level="low", level_number=1, material="Control", analyzer_id=ANALYZER,
    analyzer="chem", module="", test_id=TEST, test="GLU", mean=Decimal("5.5"), sd=Decimal("0.1"), unit="mmol/L",
    source=TargetSource.LABORATORY, kind=TargetKind.FIXED, points=0, reagent_lot="", note="", valid_from=NOON,
    valid_to=None, created_at=NOON, by="dora",
)  # fmt: skip


@pytest.mark.parametrize(
    ("identifier", "sent", "is_it"),
    [
        ("QC1", "QC1", True), ("QC1", "QC10", False), ("QC1", "qc1", False), ("QC*", "QC10", True), ("QC*", "QC", True),
        ("QC*", "Q", False), ("*", "", False), ("*", "anything", True), ("Q*1", "QC1", False),
    ],
)  # fmt: skip
def test_an_identifier_is_what_was_sent_or_its_beginning(identifier: str, sent: str, is_it: bool) -> None:
    assert names(identifier, sent) is is_it


@pytest.mark.parametrize(
    ("expires_on", "closed_at", "at", "why"),
    [
        (None, None, NOON, ""),
        (date(2026, 11, 26), None, datetime(2026, 11, 26, 23, 59, 59, tzinfo=UTC), ""),
        (date(2026, 11, 26), None, datetime(2026, 11, 27, tzinfo=UTC), "lot 4711/low expired on 2026-11-26"),
        # the same instant, by a clock at UTC+7
        (date(2026, 11, 26), None, datetime(2026, 11, 27, 6, tzinfo=timezone(timedelta(hours=7))), ""),
        (None, NOON, NOON - timedelta(seconds=1), ""),
        (None, NOON, NOON, "lot 4711/low was closed on 2026-11-26"),
        (date(2026, 1, 1), NOON, NOON, "lot 4711/low was closed on 2026-11-26"),
    ],
)
def test_a_lot_is_good_to_the_end_of_its_day_and_until_it_is_closed(
    expires_on: date | None, closed_at: datetime | None, at: datetime, why: str
) -> None:
    lot = LotView(
        uuid4(), 1, NOON, uuid4(), "Control", "4711", "low", expires_on=expires_on, closed_at=closed_at
    )  # fmt: skip
    assert unusable(lot, at) == why


# ---- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("valid_to", "ended_at", "after", "holds"),
    [
        (None, None, timedelta(0), True), (None, None, -DAY, False), (None, None, 900 * DAY, True),
        (NOON + DAY, None, DAY, False), (NOON + DAY, None, DAY / 2, True), (None, NOON + DAY, DAY, False),
        (NOON + 2 * DAY, NOON + DAY, DAY, False), (NOON + DAY, NOON + 2 * DAY, DAY, False),
        (None, NOON, timedelta(0), False),  # it never was
    ],
)  # fmt: skip
def test_a_target_holds_from_its_first_instant_to_before_its_last(
    valid_to: datetime | None, ended_at: datetime | None, after: timedelta, holds: bool
) -> None:
    one = replace(BASE, valid_to=valid_to, ended_at=ended_at)
    assert one.holds(NOON + after) is holds
    assert (in_force([one], LOT, "", TEST, "", NOON + after) is one) is holds
    assert one.as_target().valid_to == one.end


def test_the_target_of_a_module_and_of_a_reagent_lot_comes_before_that_of_all() -> None:
    of_all, of_module = BASE, replace(BASE, id=UUID(int=2), module="M1")
    of_reagent = replace(BASE, id=UUID(int=3), reagent_lot="R7")
    both = replace(BASE, id=UUID(int=4), module="M1", reagent_lot="R7")
    known = [of_all, of_module, of_reagent, both]

    def found(module: str, reagent: str) -> int | None:
        target = in_force(known, LOT, module, TEST, reagent, NOON)
        return target.id.int if target else None

    assert [found("", ""), found("M2", ""), found("M1", ""), found("", "R7"), found("M1", "R7")] == [1, 1, 2, 3, 4]
    assert found("M1", "R8") == 2, "another reagent lot than the target's"
    assert in_force([of_module, of_reagent], LOT, "M2", TEST, "R8", NOON) is None
    assert in_force(known, uuid4(), "", TEST, "", NOON) is None, "another lot"
    assert in_force(known, LOT, "", uuid4(), "", NOON) is None, "another test"


@pytest.mark.parametrize(
    ("change", "overlaps"),
    [
        ({}, True),
        ({"valid_from": NOON + DAY}, True),
        ({"valid_from": NOON - DAY, "valid_to": NOON}, False),
        ({"valid_from": NOON - DAY, "valid_to": NOON + DAY}, True),
        ({"module": "M1"}, False), ({"reagent_lot": "R"}, False), ({"lot_id": uuid4()}, False),
        ({"test_id": uuid4()}, False), ({"analyzer_id": uuid4()}, False),
    ],
)  # fmt: skip
def test_two_targets_of_the_same_points_never_hold_at_once(change: dict[str, object], overlaps: bool) -> None:
    new = replace(BASE, id=uuid4(), **change)  # type: ignore[arg-type]
    assert (overlapping(new, [BASE]) is not None) is overlaps
    ended = replace(BASE, ended_at=BASE.valid_from)
    assert overlapping(new, [ended]) is None, "one that never was in force is in nobody's way"


GLUCOSE = Substance(Decimal("180.156"))


@pytest.mark.parametrize(
    ("mean", "sd", "unit", "substance", "valid_to", "problem"),
    [
        ("5.5", "0.1", "mmol/L", GLUCOSE, None, ""),
        ("99.5", "2", "mg/dL", GLUCOSE, None, ""),
        ("-2", "0.5", "mmol/L", GLUCOSE, None, ""),  # base excess
        ("99.5", "2", "mg/dL", Substance(), None, "mg/dL cannot be converted to mmol/L, in which GLU is reported"),
        ("5.5", "0.1", "%", GLUCOSE, None, "% cannot be converted to mmol/L, in which GLU is reported"),
        ("5.5", "0.1", "mmol/xyz", GLUCOSE, None, "unknown unit 'mmol/xyz'"),
        ("5.5", "0.1", "", GLUCOSE, None, "a target of GLU needs a unit, such as mmol/L"),
        ("5.5", "0", "mmol/L", GLUCOSE, None, "the SD is not above 0"),
        ("5.5", "-0.1", "mmol/L", GLUCOSE, None, "the SD is not above 0"),
        ("NaN", "0.1", "mmol/L", GLUCOSE, None, "the mean is no number that can be measured"),
        ("Infinity", "0.1", "mmol/L", GLUCOSE, None, "the mean is no number that can be measured"),
        ("1e70", "0.1", "mmol/L", GLUCOSE, None, "the mean is no number that can be measured"),
        ("5.5", "NaN", "mmol/L", GLUCOSE, None, "the SD is no number that can be measured"),
        ("5.5", "0." + "1" * 31, "mmol/L", GLUCOSE, None, "the SD has more than 30 digits"),
        ("5.5", "0.1", "mmol/L", GLUCOSE, NOON, "it would end before it begins"),
    ],
)
def test_a_target_that_cannot_judge_is_refused_in_a_sentence(
    mean: str, sd: str, unit: str, substance: Substance, valid_to: datetime | None, problem: str
) -> None:
    found = list(target_problems(Decimal(mean), Decimal(sd), unit, "GLU", "mmol/L", substance, NOON, valid_to))
    assert found == ([problem] if problem else [])


# ---- reagents and calibrators ---------------------------------------------------------------------------------------


def use(
    lot: str, module: str = "", test: UUID | None = None, hours: int = 0, until: int | None = None
) -> AnalyzerLotView:
    return AnalyzerLotView(
        uuid4(), ANALYZER, "chem", module, test, "", LotKind.REAGENT, lot, None, NOON + timedelta(hours=hours), "hema",
        None if until is None else NOON + timedelta(hours=until),
    )  # fmt: skip


def test_the_lot_in_use_is_the_most_special_that_holds_then() -> None:
    of = InUse([use("any"), use("module", "M1"), use("test", "", TEST), use("both", "M1", TEST)])
    other = uuid4()
    asked = [("", other), ("M1", other), ("", TEST), ("M2", TEST), ("M1", TEST), ("M2", None)]
    assert [of.lot(LotKind.REAGENT, module, test, NOON) for module, test in asked] == [
        "any", "module", "test", "test", "both", "any",
    ]  # fmt: skip
    assert of.lot(LotKind.CALIBRATOR, "", TEST, NOON) == ""
    assert of.lot(LotKind.REAGENT, "", TEST, NOON - timedelta(seconds=1)) == "", "it was not in use yet"


def test_a_lot_that_was_changed_is_the_one_of_its_time() -> None:
    of = InUse([use("old", until=8), use("new", hours=8), use("late", hours=2, until=8)])
    asked = [0, 1, 2, 7, 8, 30]
    assert [of.lot(LotKind.REAGENT, "", TEST, NOON + timedelta(hours=hour)) for hour in asked] == [
        "old", "old", "late", "late", "new", "new",
    ]  # fmt: skip

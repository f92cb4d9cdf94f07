"""What is worked out once is what would be worked out anew, for everybody and everything it is used for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product

import pytest

from interface.domain.catalogue import Catalogue
from interface.domain.decide import Decision, decide
from interface.domain.decision_context import DecisionContext
from interface.domain.intervals import select
from interface.domain.model import (
    CodeMapping,
    Comparator,
    HoldReason,
    Interval,
    IntervalUse,
    ItemStatus,
    LabTest,
    Observed,
    ObservedSpecimen,
    OrderedItem,
    PatientFacts,
    Sex,
    SpecimenFacts,
    Value,
    ValueKind,
)
from interface.domain.units import UnitAliases

BORN = datetime(2026, 3, 1, 6, tzinfo=UTC)
CHANGED = BORN + timedelta(days=400)
K = LabTest("t-k", "K", "potassium", unit="mmol/L", decimals=1)
GLU = LabTest("t-glu", "GLU", "glucose", unit="mmol/L")  # reported as it was measured
D = Decimal
INTERVALS = (
    Interval("i-hours", K.id, "mmol/L", D("3.9"), D("5.9"), age_low_h=0, age_high_h=24),
    Interval("i-month", K.id, "mmol/L", D("3.8"), D("5.8"), age_low_d=1, age_high_d=30),
    Interval("i-old", K.id, "mmol/L", D("3.4"), D("5.0"), age_low_d=30, valid_to=CHANGED),
    Interval("i-new", K.id, "mmol/L", D("3.5"), D("5.1"), age_low_d=30, valid_from=CHANGED),
    Interval("i-women", K.id, "mmol/L", D("3.3"), D("4.9"), sex=Sex.FEMALE, age_low_d=365),
    Interval("i-pregnant", K.id, "mmol/L", D("3.2"), D("4.8"), sex=Sex.FEMALE, pregnant=True, gestation_low_w=20),
    Interval("i-plasma", K.id, "mmol/L", D("3.1"), D("4.7"), specimen_type="PLAS"),
    Interval("c-month", K.id, "mmol/L", None, None, D("2.5"), D("7.5"), age_high_d=30, use=IntervalUse.CRITICAL),
    Interval("c-all", K.id, "mmol/L", None, None, D("2.8"), D("6.2"), age_low_d=30, use=IntervalUse.CRITICAL),
)
CATALOGUE = Catalogue(
    tests={one.id: one for one in (K, GLU)},
    intervals={K.id: INTERVALS},
    mappings={("K", ""): CodeMapping("K", K.id), ("G", ""): CodeMapping("G", GLU.id, unit="mmol/L")},
    aliases=UnitAliases({"mM": ("mmol/L",)}),
)


def specimen(at: datetime | None, sex: Sex, kind: str, pregnant: bool | None, weeks: int | None) -> SpecimenFacts:
    patient = PatientFacts("p", birth_date=BORN.date(), birth_at=BORN, sex=sex)
    items = tuple(OrderedItem(f"i-{one.code}", one.id, "o", ItemStatus.RECEIVED) for one in (K, GLU))
    return SpecimenFacts("s", "B", kind, at, patient, items, pregnant=pregnant, gestation_weeks=weeks)


def decided(one: Observed, of: SpecimenFacts, catalogue: Catalogue = CATALOGUE) -> Decision:
    context = DecisionContext(catalogue, "xn", "2", (of,), received_at=BORN + timedelta(days=5))
    return decide(one, ObservedSpecimen(specimen_id="B"), context)


def number(text: str, sign: Comparator | None = None) -> Value:
    return Value(ValueKind.NUMERIC, f"{Decimal(text):f}", Decimal(text), sign)


def test_people_share_limits_only_where_no_interval_tells_them_apart() -> None:
    marks = (timedelta(hours=24), timedelta(days=1), timedelta(days=30), timedelta(days=365), CHANGED - BORN)
    ages = sorted({mark + step for mark in (timedelta(), *marks) for step in map(timedelta, (-1, 0, 1))})
    ages += [mark - timedelta(hours=1) for mark in marks]
    times = [None, *(BORN + age for age in ages)]
    texts = set()
    for at, sex, kind, pregnant in product(times, Sex, ("SER", "PLAS"), (None, True, False)):
        for weeks in (None, 19, 20) if pregnant else (None,):
            one, of = Observed("K", number("4.85"), unit="mmol/L"), specimen(at, sex, kind, pregnant, weeks)
            shared, alone = decided(one, of), decided(one, of, replace(CATALOGUE))
            assert shared == alone, (at, sex, kind, pregnant, weeks)
            texts.add((shared.reference, shared.critical_high))
    assert len(texts) == 10


def test_analyzers_share_limits_only_where_no_interval_tells_them_apart() -> None:
    named = replace(INTERVALS[2], id="i-named", high=D("4.9"), analyzer="A1")
    of_method = replace(INTERVALS[2], id="i-method", high=D("4.8"), method="ISE")
    of = specimen(BORN + timedelta(days=40), Sex.MALE, "SER", None, None)
    analyzers = list(product(("", "A1", "A2", "A3"), ("", "ISE", "FES")))
    for intervals, books in ((INTERVALS, 1), ((*INTERVALS, named), 2), ((*INTERVALS, named, of_method), 2)):
        catalogue = replace(CATALOGUE, intervals={K.id: intervals})
        for analyzer, method in analyzers:
            one = Observed("K", number("4.85"), method=method)
            context = DecisionContext(
                catalogue, "xn", "2", (of,), received_at=BORN + timedelta(days=50), analyzer=analyzer
            )
            alone = replace(context, catalogue=replace(catalogue))
            assert decide(one, ObservedSpecimen(specimen_id="B"), context) == decide(
                one, ObservedSpecimen(specimen_id="B"), alone
            )
            subjects = context.collections(of, "SER")
            chosen = select(intervals, subjects[0], method=method, analyzer=analyzer)
            assert context.book.limits(K, method, subjects).selection == chosen
        assert len(set(catalogue.books.values())) == books


VALUES = (
    number("120"), number("12E1"), number("120.0"), number("5.04999"), number("5"), number("5", Comparator.LT),
    number("5", Comparator.GE), Value(ValueKind.TEXT, "5"), Value(ValueKind.RATIO, "1:5", None, None, D(1), D(5)),
    Value(ValueKind.FAILED, "5"), Value(ValueKind.EMPTY), Value(ValueKind.NUMERIC, "NaN", D("NaN")),
)  # fmt: skip


@pytest.mark.parametrize("again", range(2))
def test_values_share_a_reading_only_where_they_are_alike_in_every_digit(again: int) -> None:
    of = specimen(BORN + timedelta(days=40), Sex.MALE, "SER", None, None)
    holds = ((), (HoldReason.QUESTIONABLE,))
    some = product(("K", "G", "?"), VALUES[:: -1 if again else 1], ("", "mmol/L", "mM", "mg/dL"), (None, ""), holds)
    for code, value, unit, ucum, hold in some:
        one = Observed(code, value, unit=unit, ucum=ucum, holds=hold)
        shared, alone = decided(one, of), decided(one, of, replace(CATALOGUE))
        if value.text != "NaN":
            assert shared == alone, one
        assert repr(shared) == repr(alone), one  # 120 and 12E1 are equal numbers


def test_a_code_that_means_nothing_is_not_kept() -> None:
    catalogue, of = replace(CATALOGUE), specimen(BORN, Sex.MALE, "SER", None, None)
    for at in range(9):
        decided(Observed(f"X{at}", number("1")), of, catalogue)
    decided(Observed("K", number("4")), of, catalogue)
    assert [list(map(len, book.plans.values())) for book in catalogue.books.values()] == [[1]]


def test_results_of_one_code_and_time_share_the_lines_that_explain_them() -> None:
    of = specimen(datetime.combine(date(2026, 6, 1), datetime.min.time(), UTC), Sex.MALE, "SER", None, None)
    one, other = (decided(Observed("K", number("4.1"), unit="mmol/L"), of) for _ in range(2))
    assert all(a is b for a, b in zip(one.steps, other.steps, strict=True))

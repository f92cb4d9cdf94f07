"""Critical limits that are certain count where the interval is not, and those that are not certain flag nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain.catalogue import Catalogue
from interface.domain.decide import Decision, decide
from interface.domain.decision_context import DecisionContext
from interface.domain.flags import CRITICAL
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
from interface.domain.subject import possible_collections

D = Decimal
K = LabTest("t-k", "K", "potassium", unit="mmol/L", decimals=1)
CAME = datetime(2026, 3, 11, 12, tzinfo=UTC)
BORN = datetime(2026, 3, 1, 6, tzinfo=UTC)
SINCE = CAME - timedelta(days=1)
HOLD = (HoldReason.AMBIGUOUS_INTERVAL,)
ROW = Interval("row", K.id, "mmol/L", D("3.5"), D("5.1"), D("2.5"), D("6.5"))
OLD, NEW = replace(ROW, id="old", valid_to=SINCE), replace(ROW, id="new", low=D("3.6"), valid_from=SINCE)
ALL = replace(ROW, id="all", low=None, high=None, use=IntervalUse.CRITICAL)
WOMEN, GROWN = replace(ROW, id="women", sex=Sex.FEMALE), replace(ROW, id="grown", low=D("3.6"), age_low_d=5)
PLAIN = {"use": IntervalUse.REFERENCE, "critical_low": None, "critical_high": None}


def decided(
    value: str, *rows: Interval, at: datetime | None = None, sex: Sex = Sex.FEMALE, unit: str = "mmol/L"
) -> Decision:
    patient = PatientFacts("p", birth_date=BORN.date(), birth_at=BORN, sex=sex)
    items = (OrderedItem("i", K.id, "o", ItemStatus.RECEIVED),)
    specimen = SpecimenFacts("s", "B", "SER", at, patient, items)
    catalogue = Catalogue(
        tests={K.id: K}, intervals={K.id: rows}, mappings={("K", ""): CodeMapping("K", K.id, unit=unit)}
    )
    context = DecisionContext(catalogue, "xn", "2", (specimen,), received_at=CAME)
    digits = value.lstrip("<>=")
    sign = value[: len(value) - len(digits)]
    number = Value(ValueKind.NUMERIC, digits, D(digits), Comparator(sign) if sign else None)
    return decide(Observed("K", number), ObservedSpecimen(specimen_id="B"), context)


def said(found: Decision, step: str) -> list[tuple[str, str]]:
    return [(one.verdict, one.text) for one in found.steps if one.step == step]


def test_they_count_on_both_sides_of_a_change_of_the_interval() -> None:
    found = decided("8.1", OLD, NEW)
    assert (found.flags, found.holds, found.low, found.critical_high) == (("HH",), (), None, D("6.5"))
    assert (found.unsure, found.critical_unsure) == (True, False)
    assert said(found, "interval") == [("none", "which one applies is not known")]
    assert said(found, "critical") == [("ok", "2.5 - 6.5")]
    assert said(found, "flag") == [("HH", "against the critical limits")]
    assert [one.inputs for one in found.steps if one.step == "critical"] == [{"intervals": "old new"}]
    assert (decided("4.1", OLD, NEW).flags, decided("4.1", OLD, NEW).holds) == ((), ())
    assert decided("<9", OLD, NEW).holds == HOLD


@pytest.mark.parametrize(
    ("value", "flags", "holds"),
    [("8.1", ("HH",), ()), ("6.8", (), HOLD), ("4.1", (), ()), ("2.2", (), HOLD), ("1.9", ("LL",), ())],
)
def test_where_they_differ_critical_by_all_is_critical_and_critical_by_some_is_held(
    value: str, flags: tuple[str, ...], holds: tuple[HoldReason, ...]
) -> None:
    found = decided(value, OLD, replace(NEW, critical_low=D("2.0"), critical_high=D("7.0")))
    assert (found.flags, found.holds, found.critical_unsure) == (flags, holds, True)
    assert (found.critical_low, found.critical_high) == (None, None)
    assert said(found, "critical") == [("none", "2.5 - 6.5 or 2.0 - 7.0")]


def test_limits_that_there_may_not_be_flag_nothing() -> None:
    found = decided("8.1", OLD)
    assert (found.flags, found.holds, found.critical_unsure) == ((), HOLD, True)
    assert said(found, "critical") == [("none", "2.5 - 6.5 or no limits")]
    assert decided("4.1", OLD).holds == ()


def test_a_row_of_its_own_counts_beside_intervals_between_which_nothing_decides() -> None:
    women, grown = replace(WOMEN, **PLAIN), replace(GROWN, **PLAIN)  # type: ignore[arg-type]
    found = decided("8.1", women, grown, ALL, at=CAME)
    assert (found.flags, found.holds, found.critical_high) == (("HH",), HOLD, D("6.5"))
    assert (found.unsure, found.critical_unsure) == (True, False)
    assert [one.version for one in found.steps if one.step == "critical"] == ["all"]
    assert said(found, "interval") == [("hold", "several apply")]
    found = decided("8.1", women, grown, at=CAME)
    assert (found.flags, found.holds, said(found, "critical")) == ((), HOLD, [])


@pytest.mark.parametrize(
    ("value", "high", "flags", "unsure"),
    [
        ("8.1", D("6.5"), ("HH",), False), ("8.1", D("7.0"), ("HH",), True), ("6.8", D("7.0"), (), True),
        ("8.1", None, (), True), ("1.9", None, ("LL",), True),
    ],
)  # fmt: skip
def test_those_that_ambiguous_intervals_share_count(
    value: str, high: Decimal | None, flags: tuple[str, ...], unsure: bool
) -> None:
    found = decided(value, WOMEN, replace(GROWN, critical_high=high), at=CAME)
    assert (found.flags, found.holds, found.critical_unsure) == (flags, HOLD, unsure)


def test_ambiguous_rows_of_critical_limits_flag_what_is_critical_by_each() -> None:
    other = replace(ALL, id="other", critical_high=D("7.0"))
    found = decided("8.1", ROW, ALL, other, at=CAME)
    assert (found.flags, found.holds, found.low) == (("HH",), HOLD, None)
    assert (decided("6.8", ROW, ALL, other, at=CAME).flags, found.critical_unsure) == ((), True)


def test_limits_in_another_unit_are_compared_in_the_unit_of_the_report() -> None:
    micro = {"unit": "umol/L", "low": D(3600), "high": D(5100), "critical_low": D(2500), "critical_high": D(6500)}
    found = decided("8.1", OLD, replace(NEW, **micro))  # type: ignore[arg-type]
    assert (found.flags, found.holds) == (("HH",), ())
    found = decided("8.1", OLD, replace(NEW, unit="g/L"))
    assert (found.flags, found.holds) == ((), (HoldReason.UNKNOWN_UNIT,))


ROWS = st.builds(
    lambda use, low, high, ages, valid, sex: replace(
        ROW, low=None if use is IntervalUse.CRITICAL else low, high=None,
        critical_low=None if use is IntervalUse.REFERENCE else low - 1,
        critical_high=None if use is IntervalUse.REFERENCE else high,
        age_low_d=min(ages), age_high_d=max(ages) + 1 if max(ages) < 9 else None, use=use, sex=sex,
        valid_from=SINCE if valid > 0 else None, valid_to=SINCE if valid < 0 else None,
    ),
    st.sampled_from(list(IntervalUse)), st.sampled_from([D(3), D(4)]), st.sampled_from([D(6), D(7), None]),
    st.tuples(st.integers(0, 12), st.integers(0, 12)), st.integers(-1, 1), st.sampled_from([None, Sex.FEMALE]),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4), st.sampled_from(["1.5", "2.5", "4", "6.5", "8", "<3", ">6.5"]))
def test_what_is_said_without_a_time_of_collection_is_said_at_each_that_it_may_have(
    rows: list[Interval], value: str
) -> None:
    named = [replace(row, id=f"r{place}") for place, row in enumerate(rows)]
    found = decided(value, *named)
    flags = CRITICAL.intersection(found.flags)
    times = possible_collections(None, CAME, hourly=True)[::12]
    alone = {CRITICAL.intersection(decided(value, *named, at=at).flags) for at in times}
    if flags or len(alone) == 1:
        assert alone == {flags}
    else:
        assert HoldReason.AMBIGUOUS_INTERVAL in found.holds

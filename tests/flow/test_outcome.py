"""A decided case as the row that is written: each column says what it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from interface.domain.decide import Decision
from interface.domain.model import (
    Comparator,
    HoldReason,
    ItemStatus,
    LabTest,
    MeasuredWith,
    Observed,
    ObservedSpecimen,
    OrderedItem,
    Origin,
    ResultStatus,
    SpecimenFacts,
    Step,
    Value,
    ValueKind,
)
from interface.domain.views import ActorKind
from interface.flow import version_making
from interface.flow.cases import Case
from interface.flow.outcome import Made, Surroundings
from interface.flow.version_making import By, version_of, versions_of
from interface.store.surroundings import Locked
from interface.store.version_rows import ResultVersion

AT = datetime(2026, 11, 26, 8, tzinfo=UTC)
ID = [UUID(int=number) for number in range(20)]
TEST = LabTest(str(ID[1]), "K", "potassium", "2823-3", unit="mmol/L")
ITEM = OrderedItem(str(ID[2]), TEST.id, str(ID[3]), ItemStatus.RECEIVED)
SPECIMEN = SpecimenFacts(str(ID[4]), "B1", "SER", AT)
OBSERVED = Observed(
    "KA", Value(ValueKind.NUMERIC, "4.11", Decimal("4.11")), "4.11", "KA^x", "sub", 0, "Kalium", "mM", "3-5",
    ("h", "x"), "F", "20261126075959", "operator", ("said",), (), "R 3",
    measured_with=MeasuredWith("m-1", "lot-1", "cal-1"),
)  # fmt: skip
DECISION = Decision(
    Value(ValueKind.NUMERIC, "4.1", Decimal("4.1"), Comparator.LT), ResultStatus.PRELIMINARY, TEST, SPECIMEN, ITEM,
    str(ID[5]), "mmol/L", Decimal("3.5"), Decimal("5.1"), "3.5 - 5.1", flags=("H",), holds=(HoldReason.DELTA,),
    steps=(Step("decode", "ok", "read"),), map_revision=7, method="ISE",
)  # fmt: skip
BY = By(ActorKind.LINK, ID[6], ID[7], AT + timedelta(hours=1), ID[8], "xn 2", ID[9], "typed")


def case() -> Case:
    made = Case(b"key", DECISION, Origin.ANALYZER, OBSERVED, ObservedSpecimen(specimen_id="sent"), id=ID[10])
    made.result_id, made.version, made.measured_at, made.status = ID[11], 3, AT, ResultStatus.REGISTERED
    made.replaces, made.reportable = (2, ID[12]), False
    return made


def columns(one: ResultVersion) -> dict[str, Any]:
    """What it says, by the name of the column."""
    said = {name.name: getattr(part, name.name) for part in (one, one.alike, one.message) for name in fields(part)}
    return {name: value for name, value in said.items() if name not in ("alike", "message", "fields")}


def test_each_column_of_what_an_analyzer_sent_says_what_it_is_called() -> None:
    version = version_of(case(), BY)
    wanted = {
        "id": ID[10], "result_id": ID[11], "version": 3, "fresh": False, "pending": False, "natural_key": b"key",
        "status": ResultStatus.REGISTERED, "held": (HoldReason.DELTA,), "kind": "numeric", "message_id": ID[7],
        "actor_kind": ActorKind.LINK, "actor_id": ID[6], "analyzer_id": ID[8], "specimen_id": ID[4],
        "patient_id": ID[5], "order_id": ID[3], "order_item_id": ID[2], "test_id": ID[1], "location": "R 3",
        "specimen_as_sent": "sent", "code": "KA", "code_path": "KA^x", "raw_value": "4.11", "raw_unit": "mM",
        "raw_flags": "h x", "raw_status": "F", "raw_reference": "3-5", "instrument_time": "20261126075959",
        "instrument_at": AT, "comments": ("said",), "test_code": "K", "test_name": "potassium", "loinc": "2823-3",
        "comparator": "<", "number": Decimal("4.1"), "value": "4.1", "unit": "mmol/L", "low": Decimal("3.5"),
        "high": Decimal("5.1"), "reference": "3.5 - 5.1", "flags": ("H",), "note": "",
        "steps": (Step("decode", "ok", "read"),), "driver_revision": "xn 2", "map_revision": 7, "reportable": False,
        "origin": Origin.ANALYZER, "effective_at": AT, "item_status": "", "module": "m-1", "reagent_lot": "lot-1",
        "calibrator_lot": "cal-1", "method": "ISE",
    }  # fmt: skip
    assert columns(version) == wanted


def test_what_nobody_ordered_or_sent_has_nothing_of_it() -> None:
    typed = case()
    typed.observed, typed.sent, typed.origin, typed.replaces = None, None, Origin.MANUAL, None
    said = columns(version_of(typed, BY))
    assert [said[name] for name in ("specimen_as_sent", "code", "instrument_at", "note")] == ["B1", "", None, "typed"]
    assert [said[name] for name in ("fresh", "analyzer_id", "driver_revision")] == [True, None, ""]
    unknown = Case(b"key", replace(DECISION, test=None, specimen=None, item=None, patient_id=None), observed=OBSERVED)
    said = columns(version_of(unknown, BY))
    ids = "specimen_id", "patient_id", "order_id", "order_item_id", "test_id"
    assert [said[name] for name in ids] == [None] * 5
    assert [said[name] for name in ("test_code", "test_name")] == ["", "Kalium"]
    assert said["effective_at"] == AT + timedelta(hours=1)


def changed(**said: Any) -> Callable[[Case], None]:
    """A case of which this is otherwise: of its decision or what was sent, or itself."""

    def change(one: Case) -> None:
        for name, value in said.items():
            if name in OF_DECISION:
                one.decision = replace(one.decision, **{name: value})
                one.item, one.holds, one.flags = one.decision.item, one.decision.holds, one.decision.flags
            elif name in OF_OBSERVED:
                assert one.observed is not None
                one.observed = replace(one.observed, **{name: value})
            else:
                setattr(one, name, value)

    return change


OF_DECISION = {"value", "test", "specimen", "item", "patient_id", "unit", "low", "high", "reference", "map_revision",
               "method"}  # fmt: skip
OF_OBSERVED = {"code", "code_path", "raw_value", "name", "comments", "location",
               "measured_with", "instrument_time"}  # fmt: skip
CHANGES: list[dict[str, Any]] = [
    {}, {"value": Value(ValueKind.NUMERIC, "4.2", Decimal("4.2"))}, {"value": Value(ValueKind.TEXT, "4.1", None)},
    {"test": replace(TEST, name="K+")}, {"test": None}, {"test": None, "name": "K"}, {"test": None, "code": ""},
    {"specimen": replace(SPECIMEN, barcode="B2")}, {"specimen": replace(SPECIMEN, id=str(ID[13]))}, {"specimen": None},
    {"item": replace(ITEM, id=str(ID[14]))}, {"item": replace(ITEM, order_id=str(ID[14]))}, {"item": None},
    {"item": replace(ITEM, order_id="")}, {"patient_id": str(ID[15])}, {"patient_id": None}, {"unit": "mg/dL"},
    {"low": Decimal("3.50")}, {"low": None}, {"high": Decimal("5.10")}, {"high": None}, {"reference": "x"},
    {"map_revision": 8}, {"method": ""}, {"code": "KB"}, {"code_path": "KA"}, {"raw_value": "4.1"}, {"name": "K"},
    {"comments": ()}, {"location": "R 4"}, {"measured_with": MeasuredWith("m-1", "lot-1", "cal-2")},
    {"measured_with": MeasuredWith("m-1", "lot-2", "cal-1")}, {"measured_with": MeasuredWith("", "lot-1", "cal-1")},
    {"instrument_time": "20261126080000"}, {"measured_at": AT + timedelta(minutes=1)}, {"measured_at": None},
    {"sent": ObservedSpecimen(specimen_id="other")}, {"sent": ObservedSpecimen(specimen_id=None)}, {"sent": None},
    {"observed": None}, {"observed": replace(OBSERVED, unit="mmol/L")}, {"observed": replace(OBSERVED, flags=("h",))},
    {"observed": replace(OBSERVED, flags=("h x",))}, {"observed": replace(OBSERVED, status="P")},
    {"observed": replace(OBSERVED, reference="")}, {"flags": ()}, {"flags": ("L",)}, {"holds": ()},
    {"holds": (HoldReason.DELTA, HoldReason.RULE)}, {"version": 4}, {"replaces": None}, {"pending": True},
    {"reportable": True}, {"reportable": True, "holds": ()}, {"beside_released": True}, {"origin": Origin.MANUAL},
    {"origin": Origin.CALCULATION}, {"status": ResultStatus.FINAL}, {"status": ResultStatus.FINAL, "pending": True},
    {"status": ResultStatus.CORRECTED}, {"status": ResultStatus.PRELIMINARY},
]  # fmt: skip
OTHERS: list[dict[str, Any]] = [
    {}, {"kind": ActorKind.USER}, {"id": ID[16]}, {"analyzer_id": ID[16]}, {"driver_revision": "xn 3"},
    {"rule_set_id": None}, {"rule_set_id": ID[16]}, {"note": "other"},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_what_was_said_of_a_version_before_is_said_of_another_only_where_it_is_so(other: dict[str, Any]) -> None:
    """Each change with each before it, of its author and of another; beside what is made where nothing was."""
    by = replace(BY, **other)
    cases = [case() for _ in CHANGES]
    for one, said in zip(cases, CHANGES, strict=True):
        changed(**said)(one)
    in_turn = [one for each in cases for one in (cases[0], each, each)] + cases[::-1]
    wanted = []
    for one in in_turn:
        version_making._known._by.clear()
        wanted.append(exactly(version_of(one, by)))
    versions_of(cases, BY)
    made = versions_of(in_turn, by)
    assert list(map(exactly, made)) == wanted
    assert made[1].alike is made[2].alike and made[1].message is made[2].message


def exactly(one: ResultVersion) -> str:
    """4.10 is not 4.1 here."""
    return repr(columns(one))


def test_what_was_made_of_a_tube_is_kept_for_those_that_were_parted_from_it_alone() -> None:
    tube, part = (SpecimenFacts(str(ID[at]), f"B{at}", "SER", AT, family=(str(ID[4]), str(ID[5]))) for at in (4, 5))
    alone = SpecimenFacts(str(ID[6]), "B6", "SER", AT, family=(str(ID[6]),))
    at = Surroundings(Locked(by_id={one.id: one for one in (tube, part, alone)}))
    at.made |= {tube.id: [Made([case()])], alone.id: [Made([case()])]}
    at.forget()
    assert list(at.made) == [tube.id]

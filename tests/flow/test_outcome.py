"""A decided case as the row that is written: each column says what it is called."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

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
from interface.flow.cases import Case
from interface.flow.outcome import By, Made, Surroundings, version_of
from interface.store.surroundings import Locked

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
    assert version._asdict() == wanted
    assert len(version) == len(wanted)  # it is made without a look at that


def test_what_nobody_ordered_or_sent_has_nothing_of_it() -> None:
    typed = case()
    typed.observed, typed.sent, typed.origin, typed.replaces = None, None, Origin.MANUAL, None
    version = version_of(typed, BY)
    assert (version.specimen_as_sent, version.code, version.instrument_at, version.note) == ("B1", "", None, "typed")
    assert (version.fresh, version.analyzer_id, version.driver_revision) == (True, None, "")
    unknown = Case(b"key", replace(DECISION, test=None, specimen=None, item=None, patient_id=None), observed=OBSERVED)
    version = version_of(unknown, BY)
    ids = (version.specimen_id, version.patient_id, version.order_id, version.order_item_id, version.test_id)
    assert ids == (None,) * 5
    assert (version.test_code, version.test_name, version.effective_at) == ("", "Kalium", AT + timedelta(hours=1))


def test_what_was_made_of_a_tube_is_kept_for_those_that_were_parted_from_it_alone() -> None:
    tube, part = (SpecimenFacts(str(ID[at]), f"B{at}", "SER", AT, family=(str(ID[4]), str(ID[5]))) for at in (4, 5))
    alone = SpecimenFacts(str(ID[6]), "B6", "SER", AT, family=(str(ID[6]),))
    at = Surroundings(Locked(by_id={one.id: one for one in (tube, part, alone)}))
    at.made |= {tube.id: [Made([case()])], alone.id: [Made([case()])]}
    at.forget()
    assert list(at.made) == [tube.id]

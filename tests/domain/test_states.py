"""The tables of legal steps against a copy typed from DESIGN §5: every pair of states, with and without a reason.

`>` a step onward, `<` one back that needs a reason, `.` none.
"""

from __future__ import annotations

from itertools import product

import pytest

from interface.domain.model import ItemStatus
from interface.domain.states import (
    CLOSED_ITEM,
    DONE_ITEM,
    OPEN_ITEM,
    SPECIMEN_STATUS,
    SpecimenState,
    SpecimenStatus,
    item_step,
    may_become,
    specimen_step,
)
from interface.errors import IllegalStep

# From (row) to (column), both: requested collected received in_progress completed verified cancelled rejected
ITEMS = """
requested    . > > > > > > >
collected    . . > > > > > >
received     . . . > > > > >
in_progress  < < < . > > > >
completed    . . . < . > . >
verified     . . . < . . . .
cancelled    . . . . . . . .
rejected     . . < . . . . .
"""

# From to: expected collected received stored exhausted rejected disposed cancelled
SPECIMENS = """
expected     . > > . . > . >
collected    . . > . > > > .
received     . . . > > > > .
stored       . . > . > > > .
exhausted    . . < . . . > .
rejected     . . < . . . > .
disposed     . . . . . . . .
cancelled    . . . . . . . .
"""


def read(table: str) -> dict[tuple[str, str], str]:
    rows = [line.split() for line in table.split("\n") if line]
    names = [row[0] for row in rows]
    return {(row[0], name): mark for row in rows for name, mark in zip(names, row[1:], strict=True)}


def taken(step: object, old: object, new: object, reason: str) -> bool:
    try:
        step(old, new, reason)  # type: ignore[operator]
    except IllegalStep:
        return False
    return True


def test_every_step_of_an_order_item_is_as_the_design_has_it() -> None:
    wanted = read(ITEMS)
    assert {name for name, _ in wanted} == {status.value for status in ItemStatus}
    for old, new in product(ItemStatus, ItemStatus):
        mark = wanted[old.value, new.value]
        assert taken(item_step, old, new, "") is (mark == ">"), (old, new)
        assert taken(item_step, old, new, " \t") is (mark == ">"), (old, new)
        assert taken(item_step, old, new, "a reason") is (mark in "<>"), (old, new)
        assert (old.value in may_become(new)) is (mark == ">")


def test_every_step_of_a_specimen_is_as_the_design_has_it() -> None:
    wanted = read(SPECIMENS)
    assert {name for name, _ in wanted} == {state.value for state in SpecimenState}
    for old, new in product(SpecimenState, SpecimenState):
        mark = wanted[old.value, new.value]
        assert taken(specimen_step, old, new, "") is (mark == ">"), (old, new)
        assert taken(specimen_step, old, new, "a reason") is (mark in "<>"), (old, new)


def test_an_illegal_step_is_one_clear_sentence() -> None:
    with pytest.raises(IllegalStep) as caught:
        item_step(ItemStatus.CANCELLED, ItemStatus.IN_PROGRESS, "please")
    assert str(caught.value) == "the order item is cancelled; it cannot become in progress"
    with pytest.raises(IllegalStep, match="the specimen is rejected; that it becomes received again needs a reason"):
        specimen_step(SpecimenState.REJECTED, SpecimenState.RECEIVED)


def test_what_is_measured_is_what_fhir_calls_available() -> None:
    available = {state for state, status in SPECIMEN_STATUS.items() if status is SpecimenStatus.AVAILABLE}
    assert available == {
        SpecimenState.EXPECTED,
        SpecimenState.COLLECTED,
        SpecimenState.RECEIVED,
        SpecimenState.STORED,
    }
    assert SPECIMEN_STATUS[SpecimenState.REJECTED] is SpecimenStatus.UNSATISFACTORY
    assert set(SPECIMEN_STATUS) == set(SpecimenState)


def test_an_item_is_open_done_or_closed() -> None:
    assert OPEN_ITEM | DONE_ITEM | CLOSED_ITEM == set(ItemStatus)
    assert len(OPEN_ITEM) + len(DONE_ITEM) + len(CLOSED_ITEM) == len(ItemStatus)

"""What an analyzer sends for aliquots, time series, rejected specimens and worksheets, from its bytes to the items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ItemStatus, ResultStatus
from interface.domain.review import ReviewError
from interface.domain.specimens import RejectReason
from interface.domain.views import Audience, IdentifierView, OrderView
from interface.errors import IllegalStep
from interface.flow import order_changes, specimens, worksheets
from interface.flow.correction import NewValue
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.flow.review import accept_change, correct, retract
from interface.store import lab as reads
from interface.store.review import Policy, set_policy
from interface.store.worksheets import WorkFilter, pending
from tests.flow.laboratory import Laboratory, laboratory, message

AT = datetime(2026, 1, 2, tzinfo=UTC)
WBC = "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000"
HGB = "R|2|^^^HGB|13.1|g/dL||N||F||||20260102030000"


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


async def send(lab: Laboratory, barcode: str, *records: str) -> None:
    await lab.send(message(f"O|1|{barcode}", *records, control=f"C-{barcode}"))
    await lab.settle()


async def statuses(lab: Laboratory, made: OrderView) -> list[tuple[str, str]]:
    async with lab.database.organization(lab.organization_id) as connection:
        view = await reads.get_order(connection, made.id, Audience.STAFF)
    assert view is not None
    return [(item.test_code, item.status.value) for item in view.items]


def specimen_of(made: OrderView) -> UUID:
    specimen_id = made.items[0].specimen_id
    assert specimen_id is not None
    return specimen_id


async def test_an_aliquots_result_answers_the_item_that_stayed_with_its_parent(lab: Laboratory) -> None:
    made = await lab.order("S1", "WBC", "HGB")
    async with lab.database.transaction(lab.organization_id) as connection:
        child = await specimens.aliquot(connection, lab.director, specimen_of(made), tests=("HGB",))
    await send(lab, child.barcode, WBC, HGB)
    results = await lab.results()
    assert [(one.test_code, one.held) for one in results] == [("WBC", ()), ("HGB", ())]
    assert {one.specimen_id for one in results} == {child.id}
    assert [one.order_item_id for one in results] == [item.id for item in made.items]
    assert await statuses(lab, made) == [("WBC", "completed"), ("HGB", "completed")]


async def test_what_a_rejected_aliquot_answered_for_its_parent_waits_again(lab: Laboratory) -> None:
    made = await lab.order("S1", "WBC", "HGB")
    async with lab.database.transaction(lab.organization_id) as connection:
        child = await specimens.aliquot(connection, lab.director, specimen_of(made), tests=("HGB",))
    await send(lab, child.barcode, WBC, HGB)
    async with lab.database.transaction(lab.organization_id) as connection:
        done = await specimens.reject(connection, lab.director, child.id, RejectReason.CONTAMINATED)
        waits = await pending(connection, WorkFilter())
    assert done.rejected == ("HGB",)
    assert [one.status for one in await lab.results()] == [ResultStatus.CANCELLED] * 2
    assert await statuses(lab, made) == [("WBC", "in_progress"), ("HGB", "rejected")]
    assert [one.test_code for one in waits] == ["WBC"]
    await send(lab, "S1", WBC)
    assert (await statuses(lab, made))[0] == ("WBC", "completed")


async def test_what_its_parent_has_answered_is_not_rejected_with_an_aliquot(lab: Laboratory) -> None:
    """Its result could not be released any more, and the patient was drawn again for it."""
    made = await lab.order("S1", "WBC", "HGB")
    async with lab.database.transaction(lab.organization_id) as connection:
        child = await specimens.aliquot(connection, lab.director, specimen_of(made), tests=("WBC", "HGB"))
    await send(lab, "S1", HGB)
    async with lab.database.transaction(lab.organization_id) as connection:
        done = await specimens.reject(connection, lab.director, child.id, RejectReason.CLOTTED, recollect=True)
    assert done.rejected == ("WBC",)
    assert await statuses(lab, made) == [("WBC", "rejected"), ("HGB", "completed"), ("WBC", "requested")]
    [one] = await lab.results()
    await lab.release(one.id)
    assert (await statuses(lab, made))[1] == ("HGB", "verified")


async def test_a_result_that_is_retracted_for_its_specimen_leaves_nothing_that_seems_to_be_measured(
    lab: Laboratory,
) -> None:
    """The test stood as in progress, on a tube that nobody measures any more, and was neither done nor asked for."""
    made = await lab.order("S1", "WBC", "HGB")
    await send(lab, "S1", WBC, HGB)
    results = await lab.results()
    for one in results:
        await lab.release(one.id)
    async with lab.database.transaction(lab.organization_id) as connection:
        await retract(connection, lab.director, results[0].id, "by mistake")
        await specimens.reject(connection, lab.director, specimen_of(made), RejectReason.CLOTTED)
        await retract(connection, lab.director, results[1].id, "clotted")
        waits = await pending(connection, WorkFilter())
    assert await statuses(lab, made) == [("WBC", "rejected"), ("HGB", "rejected")]
    assert waits == []


async def test_an_order_whose_specimen_was_rejected_by_mistake_is_no_longer_cancelled(lab: Laboratory) -> None:
    """Its result was released, and its EMR read that the request had been revoked."""
    made = await lab.order("S1", "WBC")
    async with lab.database.transaction(lab.organization_id) as connection:
        await order_changes.add(connection, lab.director, made.id, (), specimen=NewSpecimen(("HGB",), "S2"))
        await specimens.reject(connection, lab.director, specimen_of(made), RejectReason.CLOTTED)
        gone = await order_changes.cancel(connection, lab.director, made.id, "the patient has left")
        await specimens.reinstate(connection, lab.director, specimen_of(made), "it is not clotted")
        view = await reads.get_order(connection, made.id, Audience.EMR)
    assert gone.order.cancelled
    assert view is not None and not view.cancelled
    assert await statuses(lab, made) == [("WBC", "received"), ("HGB", "cancelled")]


async def test_each_tube_of_a_time_series_answers_its_own_item(lab: Laboratory) -> None:
    series = NewSpecimen(("WBC",), time_points_min=(0, 60, 120))
    new = NewOrder((series,), NewPatient((IdentifierView("TEST", "P-1"),), "Muster"))
    async with lab.database.transaction(lab.organization_id) as connection:
        made = await create_order(connection, lab.director, new)
        for item in made.items:
            assert item.specimen_id is not None
            await specimens.receive(connection, lab.director, item.specimen_id)
    for item, value in ((made.items[2], "9.9"), (made.items[0], "5.5")):
        await send(lab, item.barcode, WBC.replace("7.35", value))
    results = {one.order_item_id: one.value for one in await lab.results()}
    assert [results.get(item.id, "")[:3] for item in made.items] == ["5.5", "", "9.9"]
    assert [status for _, status in await statuses(lab, made)] == ["completed", "received", "completed"]


async def test_nothing_of_a_rejected_specimen_is_taken_or_released(lab: Laboratory) -> None:
    made = await lab.order("S1", "WBC", "HGB")
    await send(lab, "S1", WBC)
    async with lab.database.transaction(lab.organization_id) as connection:
        done = await specimens.reject(connection, lab.director, specimen_of(made), RejectReason.CLOTTED)
    assert done.rejected == ("WBC", "HGB")
    await lab.send(message("O|1|S1", HGB, control="LATE"))
    await lab.settle()
    first, late = await lab.results()
    assert first.status is ResultStatus.CANCELLED
    assert late.held == (HoldReason.NO_SUCH_SPECIMEN,)
    assert await statuses(lab, made) == [("WBC", "rejected"), ("HGB", "rejected")]
    [gone] = await lab.results(Audience.EMR_PRELIMINARY)
    assert (gone.id, gone.status, gone.value) == (first.id, ResultStatus.CANCELLED, "")


async def test_an_analyzers_result_fills_its_place_on_a_worksheet(lab: Laboratory) -> None:
    made = await lab.order("S1", "WBC")
    async with lab.database.transaction(lab.organization_id) as connection:
        sheet = await worksheets.build(connection, lab.director, WorkFilter(test_codes=("WBC",)))
    assert await statuses(lab, made) == [("WBC", "in_progress")]
    await send(lab, "S1", WBC)
    async with lab.database.transaction(lab.organization_id) as connection:
        done = await worksheets.complete(connection, lab.director, sheet.id)
    [item] = done.items
    assert (item.value[:4], item.status) == ("7.35", ItemStatus.COMPLETED)
    with pytest.raises(IllegalStep):
        async with lab.database.transaction(lab.organization_id) as connection:
            await specimens.collect(connection, lab.director, specimen_of(made))


async def test_a_change_that_was_measured_on_a_rejected_specimen_is_never_accepted(lab: Laboratory) -> None:
    """It waited on beside the released result, and whoever accepted it released what nobody may."""
    made = await lab.order("S1", "HGB")
    await send(lab, "S1", HGB)
    [one] = await lab.results()
    await lab.release(one.id)
    await lab.send(message("O|1|S1", HGB.replace("13.1", "9.1"), control="anew"))
    await lab.settle()
    [one] = await lab.results()
    assert (one.value, one.pending) == ("13.1", True)
    async with lab.database.transaction(lab.organization_id) as connection:
        done = await specimens.reject(connection, lab.director, specimen_of(made), RejectReason.CLOTTED)
    assert (done.rejected, done.released) == ((), ("HGB",))
    [one] = await lab.results()
    assert (one.status, one.value, one.pending) == (ResultStatus.FINAL, "13.1", False)
    with pytest.raises(ReviewError, match="no change to this result waits"):
        async with lab.database.transaction(lab.organization_id) as connection:
            await accept_change(connection, lab.director, one.id, "seen", accept_hold=True)
    kept = await lab.owner.fetch("select value, status from lab.result_version order by version desc limit 1")
    assert [tuple(row) for row in kept] == [("9.1", "cancelled")]


async def test_a_persons_correction_waits_on_when_its_specimen_is_rejected(lab: Laboratory) -> None:
    """For the second of two people: what they typed is in the place of what was measured."""
    made = await lab.order("S1", "HGB")
    await send(lab, "S1", HGB)
    [one] = await lab.results()
    await lab.release(one.id)
    async with lab.database.transaction(lab.organization_id) as connection:
        await set_policy(connection, lab.organization_id, Policy("", True, None))
        await correct(connection, lab.director, one.id, NewValue("12.9"), "another tube's")
        await specimens.reject(connection, lab.director, specimen_of(made), RejectReason.CLOTTED)
    [one] = await lab.results()
    assert (one.value, one.pending) == ("13.1", True)

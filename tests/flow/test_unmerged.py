"""After a merge by mistake: what was compared with somebody else's results is named, for a person to look at."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.views import UnmergedView
from interface.flow import review
from interface.flow.people import merge, unmerge
from interface.store.ids import uuid7
from interface.store.look_again import compared_with
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import put_in_force, sent


async def measured(lab: Laboratory, barcode: str, patient: str, value: str, control: str) -> UUID:
    """A creatinine; its patient."""
    order = await lab.order(barcode, "CREA", patient_id=patient)
    await lab.send(sent(barcode, {"CREA": value}, control=control, patient=patient))
    await lab.settle()
    assert order.patient_id is not None
    return order.patient_id


async def merged(lab: Laboratory, prior: UUID, survivor: UUID) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await merge(connection, lab.director, prior, survivor, "one person")


async def split(lab: Laboratory, prior: UUID) -> UnmergedView:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await unmerge(connection, lab.director, prior, "two people")


async def test_what_was_compared_with_the_other_is_named_whatever_came_of_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        one = await measured(lab, "S1", "P-1", "1.00", "C1")
        other = (await lab.order("S2", "CREA", patient_id="P-2")).patient_id
        assert other is not None
        await merged(lab, one, other)
        await lab.send(sent("S2", {"CREA": "1.10"}, control="C2", patient="P-2"))
        await lab.settle()
        await measured(lab, "S3", "P-2", "2.00", "C3")  # beyond the limit: held
        first, second, third = await lab.results()
        assert [view.status for view in (first, second, third)] == [
            ResultStatus.FINAL, ResultStatus.FINAL, ResultStatus.REGISTERED,
        ]  # fmt: skip
        view = await split(lab, one)
        assert (view.id, view.merged_into) == (one, None)
        said = [(row.result_id, row.compared_with, row.value, row.other_value, row.barcode) for row in view.look_again]
        assert said[0] == (second.id, first.id, "1.10 mg/dL", "1.00 mg/dL", "S2")
        assert {row.result_id for row in view.look_again} <= {second.id, third.id}
        assert (view.look_again[0].patient_id, view.look_again[0].other_patient_id) == (other, one)
        told = await lab.owner.fetch("select detail from lab.audit_event where action = 'unmerge'")
        assert all(str(second.id) in str(row["detail"]) for row in told) and len(told) == 2


async def test_nor_is_it_passed_over_where_the_clock_was_ahead_when_they_were_merged(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = (time.time_ns() // 1_000_000) + 7 * 86_400_000
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        one = await measured(lab, "S1", "P-1", "1.00", "C1")
        other = (await lab.order("S2", "CREA", patient_id="P-2")).patient_id
        assert other is not None
        with monkeypatch.context() as then:
            then.setattr("interface.store.people.uuid7", lambda: uuid7(ahead))
            await merged(lab, one, other)
        await lab.send(sent("S2", {"CREA": "1.10"}, control="C2", patient="P-2"))
        await lab.settle()
        assert [row.barcode for row in (await split(lab, one)).look_again] == ["S2"]


async def test_what_was_compared_with_ones_own_or_taken_back_is_not_named(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        one = await measured(lab, "S1", "P-1", "1.00", "C1")
        await measured(lab, "S2", "P-1", "1.10", "C2")  # with its own, before
        order = await lab.order("S3", "CREA", patient_id="P-2")
        assert order.patient_id is not None
        await merged(lab, one, order.patient_id)
        await lab.send(sent("S3", {"CREA": "1.20"}, control="C3", patient="P-2"))
        await lab.settle()
        last = (await lab.results())[-1]
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.comment(connection, lab.director, (await lab.results())[1].id, "fasting")  # a version since
            await review.retract(connection, lab.director, last.id, "another tube")
        assert (await split(lab, one)).look_again == ()


async def test_what_was_compared_with_what_was_retracted_is_named_and_with_what_got_a_comment_is_not(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        for number, value in enumerate(("1.00", "1.10", "1.05"), 1):
            await measured(lab, f"S{number}", "P-1", value, f"C{number}")
        first, second, third = await lab.results()
        assert {view.status for view in (first, second, third)} == {ResultStatus.FINAL}

        async def named() -> list[UUID]:
            async with lab.database.transaction(lab.organization_id) as connection:
                return [row.result_id for row in await compared_with(connection, second.id)]

        async with lab.database.transaction(lab.organization_id) as connection:
            await review.comment(connection, lab.director, second.id, "seen")
        assert await named() == [], "it says what it said"
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.retract(connection, lab.director, second.id, "another tube")
        assert await named() == [third.id]


async def test_nor_is_what_was_compared_with_a_run_that_another_is_reported_in_place_of(database_url: str) -> None:
    """The person who releases the other run retracts the first by it."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await measured(lab, "S1", "P-1", "1.00", "C1")
        await measured(lab, "S2", "P-1", "1.10", "C2")
        await lab.send(sent("S1", {"CREA": "1.40"}, control="C3", at="20260102031500"))
        await lab.settle()
        first, second, run = await lab.results()
        assert run.held == (HoldReason.ALREADY_REPORTED,)
        async with lab.database.transaction(lab.organization_id) as connection:
            assert await compared_with(connection, run.id) == ()
            await review.release(connection, lab.director, run.id, "clotted before", accept_hold=True)
            named = await compared_with(connection, run.id)
        assert [(row.result_id, row.compared_with, row.other_value) for row in named] == [
            (second.id, first.id, "1.00 mg/dL")
        ]


async def test_what_was_ordered_while_they_were_one_is_named(database_url: str) -> None:
    """What was ordered under the prior's number is of the survivor's record, and stays it: whoever took the merge back
    was not told which of these orders, and results, may be the other person's."""
    async with laboratory(database_url) as lab:
        one = (await lab.order("S1", "CREA", patient_id="P-1")).patient_id
        other = (await lab.order("S2", "CREA", patient_id="P-2")).patient_id
        assert one is not None and other is not None
        await merged(lab, one, other)
        meanwhile = [await lab.order("S3", "CREA", patient_id="P-1"), await lab.order("S4", "CREA", patient_id="P-2")]
        assert {order.patient_id for order in meanwhile} == {other}
        view = await split(lab, one)
        assert [(row.order_id, row.order_number, row.patient_id) for row in view.ordered_meanwhile] == [
            (order.id, order.number, other) for order in meanwhile
        ]
        told = await lab.owner.fetch("select detail from lab.audit_event where action = 'unmerge'")
        assert all(str(meanwhile[0].id) in str(row["detail"]) for row in told) and len(told) == 2
        await merged(lab, one, other)
        assert (await split(lab, one)).ordered_meanwhile == (), "of this merge nothing"

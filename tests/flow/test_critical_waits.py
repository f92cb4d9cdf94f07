"""A call about a critical value stands until a value was released, or a person took the critical one back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.domain.critical import Kind, State
from interface.domain.model import FollowUpKind, HoldReason, ResultStatus
from interface.flow.follow_ups import request
from interface.flow.review import comment, reject, reject_change, release
from interface.store import criticals as store
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import put_in_force, sent

HIGH, HIGHER, NORMAL = "7.4", "7.6", "4.1"


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    """Potassium is ordered, and its first value is critical and held: nobody outside has seen it."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "K")
        await measured(lab, HIGH)
        (result,) = await lab.results()
        assert result.status is ResultStatus.REGISTERED and "HH" in result.flags
        assert await tasks(lab) == [(Kind.CRITICAL, State.OPEN, HIGH)]
        yield lab


async def measured(lab: Laboratory, value: str, at: str = "20260102030000", control: str = "C1") -> None:
    await lab.send(sent("S1", {"K": value}, control=control, at=at))
    await lab.settle()


async def tasks(lab: Laboratory) -> list[tuple[Kind, State, str]]:
    async with lab.database.transaction(lab.organization_id) as connection:
        return [(one.kind, one.state, one.value) for one in await store.find(connection)]


async def rejected(lab: Laboratory, run: int) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await reject(connection, lab.director, (await lab.results())[run].id, "haemolysed")


async def rerun(lab: Laboratory) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await request(connection, lab.director, (await lab.results())[0].id, FollowUpKind.RERUN, reason="sure?")


async def test_another_value_takes_the_call_back_once_it_is_released(lab: Laboratory) -> None:
    await measured(lab, NORMAL, control="C2")
    (result,) = await lab.results()
    assert (result.value, result.held) == (NORMAL, (HoldReason.SAID_ANEW,))
    assert await tasks(lab) == [(Kind.CRITICAL, State.OPEN, HIGH)]
    async with lab.database.transaction(lab.organization_id) as connection:
        await release(connection, lab.director, result.id, "a new specimen agrees", accept_hold=True)
    assert await tasks(lab) == [(Kind.CRITICAL, State.WITHDRAWN, HIGH)]


async def test_a_person_who_rejects_the_value_takes_the_call_back(lab: Laboratory) -> None:
    await rejected(lab, 0)
    assert await tasks(lab) == [(Kind.CRITICAL, State.WITHDRAWN, HIGH)]


async def test_a_rerun_that_is_normal_speaks_for_itself_until_the_first_run_is_rejected(lab: Laboratory) -> None:
    await rerun(lab)
    await measured(lab, NORMAL, at="20260102040000", control="C2")
    again = (await lab.results())[1]
    if again.status is not ResultStatus.FINAL:
        await lab.release(again.id)
    assert await tasks(lab) == [(Kind.CRITICAL, State.OPEN, HIGH)]
    await rejected(lab, 0)
    assert await tasks(lab) == [(Kind.CRITICAL, State.WITHDRAWN, HIGH)]


@pytest.mark.parametrize("gone", [0, 1], ids=["the first run", "the rerun"])
async def test_of_two_critical_runs_the_one_that_is_left_is_to_be_told(lab: Laboratory, gone: int) -> None:
    await rerun(lab)
    await measured(lab, HIGHER, at="20260102040000", control="C2")
    assert await tasks(lab) == [(Kind.CRITICAL, State.OPEN, HIGHER)]
    await rejected(lab, gone)
    assert await tasks(lab) == [(Kind.CRITICAL, State.OPEN, (HIGHER, HIGH)[gone])]
    await rejected(lab, 1 - gone)
    assert [state for _, state, _ in await tasks(lab)] == [State.WITHDRAWN]


async def test_what_waits_beside_a_released_value_is_to_be_told_until_a_person_rejects_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "K")
        await measured(lab, NORMAL)
        (result,) = await lab.results()
        assert result.status is ResultStatus.FINAL
        await measured(lab, HIGH, control="C2")
        assert await tasks(lab) == [(Kind.CRITICAL, State.OPEN, HIGH)]
        async with lab.database.transaction(lab.organization_id) as connection:
            await comment(connection, lab.director, result.id, "asked for another tube")
        assert await tasks(lab) == [(Kind.CRITICAL, State.OPEN, HIGH)]
        async with lab.database.transaction(lab.organization_id) as connection:
            await reject_change(connection, lab.director, result.id, "the tube of somebody else")
        assert await tasks(lab) == [(Kind.CRITICAL, State.WITHDRAWN, HIGH)]


async def test_other_runs_are_found_without_reading_every_result(lab: Laboratory) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await connection.execute("set local enable_seqscan = off")  # of a table as small as this it would read it whole
        (result,) = await lab.results()
        lines = await connection.fetch(
            f"explain {store.OTHER_RUN}", result.order_item_id, result.id, ["cancelled"], ["HH"]
        )
    plan = "\n".join(line[0] for line in lines)
    assert "Seq Scan on result" not in plan and "order_id" in plan

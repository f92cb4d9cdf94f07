"""A rerun is asked for once, the result waits for it, and what is released stays."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from interface.domain.model import FollowUpKind, HoldReason, ItemStatus, ResultStatus
from interface.domain.permissions import Role
from interface.domain.specimens import RejectReason
from interface.domain.views import Actor, ActorKind, Audience, ResultView
from interface.flow import follow_ups, order_changes, review, specimens
from interface.flow.correction import NewValue
from interface.flow.follow_ups import FollowUpError
from interface.flow.trace import trace
from interface.store import lab
from interface.store.db import Database
from interface.store.follow_ups import FollowUp, of_result
from interface.store.ids import uuid7
from interface.store.review import Policy, set_policy
from tests.conftest import Organization
from tests.records import Laboratory, found, user

RERUN, DILUTION = FollowUpKind.RERUN, FollowUpKind.DILUTION


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def ask(
    laboratory: Laboratory, result_id: UUID, kind: FollowUpKind = RERUN, *, by: Actor | None = None, rule: str = "",
    dilution: Decimal | None = None,
) -> FollowUp:  # fmt: skip
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        actor = by or laboratory.technologist
        return await follow_ups.request(connection, actor, result_id, kind, rule=rule, dilution=dilution, reason="clot")


async def seen(laboratory: Laboratory, result_id: UUID) -> ResultView:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        view = await lab.get_result(connection, result_id, Audience.STAFF)
    assert view is not None
    return view


async def test_a_result_waits_for_its_rerun_and_its_item_is_in_progress(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    asked = await ask(laboratory, result_id)
    assert (asked.kind, asked.rule, asked.depth, asked.state) == (RERUN, "person 1", 1, "requested")
    view = await seen(laboratory, result_id)
    assert (view.status, view.held, view.version) == (ResultStatus.REGISTERED, (HoldReason.RERUN,), 2)
    assert asked.order_item_id == view.order_item_id
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        steps = (await lab.explanations(connection, [view.version_id]))[view.version_id]
        status = await connection.fetchval("select status from lab.order_item where id = $1", view.order_item_id)
    assert (steps[-1].step, steps[-1].verdict, steps[-1].inputs["reason"]) == ("rerun", "hold", "clot")
    assert status == ItemStatus.IN_PROGRESS
    assert await laboratory.count("audit_event", "action = 'follow_up' and entity_id = $1", result_id) == 1


async def test_the_same_again_is_the_one_that_is_open_and_another_is_deeper(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    first = await ask(laboratory, result_id)
    assert await ask(laboratory, result_id) == first
    second = await ask(laboratory, result_id, DILUTION, dilution=Decimal(5))
    assert (second.rule, second.depth, second.dilution) == ("person 2", 2, Decimal(5))
    assert (await seen(laboratory, result_id)).held == (HoldReason.RERUN,)


async def test_a_rule_asks_once(laboratory: Laboratory) -> None:
    rules = Actor(ActorKind.RULE_SET, uuid7(), "default 1", laboratory.organization_id)
    result_id = await laboratory.result(await laboratory.order())
    first = await ask(laboratory, result_id, by=rules, rule="rerun glucose")
    assert await ask(laboratory, result_id, by=rules, rule="rerun glucose") == first
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.follow_up set state = 'done' where id = $1", first.id)
    with pytest.raises(FollowUpError, match="asked for it before"):
        await ask(laboratory, result_id, by=rules, rule="rerun glucose")


async def test_a_released_result_stays_while_it_is_measured_again(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order(), status=ResultStatus.FINAL)
    await ask(laboratory, result_id)
    view = await seen(laboratory, result_id)
    assert (view.status, view.version, view.held) == (ResultStatus.FINAL, 1, ())


@pytest.mark.parametrize(
    ("kind", "dilution", "role", "rule", "words"),
    [
        (RERUN, None, Role.VIEWER, "", "result:release"),
        (RERUN, None, Role.TECHNOLOGIST, "mine", "as the rule set"),
        (RERUN, Decimal(2), Role.TECHNOLOGIST, "", "factor"),
        (DILUTION, None, Role.TECHNOLOGIST, "", "factor"),
        (DILUTION, Decimal(1), Role.TECHNOLOGIST, "", "above 1"),
        (DILUTION, Decimal("NaN"), Role.TECHNOLOGIST, "", "above 1"),
        (FollowUpKind.REFLEX, None, Role.TECHNOLOGIST, "", "another test"),
    ],
)
async def test_what_may_not_be_asked_for_is_refused_in_one_sentence(
    laboratory: Laboratory, kind: FollowUpKind, dilution: Decimal | None, role: Role, rule: str, words: str
) -> None:
    result_id = await laboratory.result(await laboratory.order())
    with pytest.raises(FollowUpError, match=words):
        await ask(laboratory, result_id, kind, by=user(laboratory.organization_id, role), rule=rule, dilution=dilution)
    assert (await seen(laboratory, result_id)).version == 1


async def test_what_answers_no_item_or_is_gone_cannot_be_measured_again(laboratory: Laboratory) -> None:
    held = (HoldReason.NO_SUCH_SPECIMEN,)
    unordered = await laboratory.result(None, status=ResultStatus.REGISTERED, held=held, barcode="S9")
    gone = await laboratory.result(await laboratory.order(), status=ResultStatus.CANCELLED)
    for result_id, words in ((unordered, "no order item"), (gone, "cancelled"), (uuid7(), "no such result")):
        with pytest.raises(FollowUpError, match=words):
            await ask(laboratory, result_id)


async def test_an_emr_sees_of_several_runs_the_one_to_report(laboratory: Laboratory) -> None:
    order = await laboratory.order()
    first = await laboratory.result(order, status=ResultStatus.FINAL)
    second = await laboratory.result(order, status=ResultStatus.FINAL)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.result set reportable = false where id = $1", second)
        wanted = lab.ResultFilter(order_ids=(order.id,))
        shown = await lab.find_results(connection, wanted, Audience.EMR)
        kept = await lab.find_results(connection, wanted, Audience.STAFF)
    assert [view.id for view in shown] == [first]
    assert {view.id for view in kept} == {first, second}


@pytest.mark.parametrize("end", ["cancelled", "rejected"])
async def test_what_was_asked_for_of_an_item_that_ended_is_awaited_by_nobody(laboratory: Laboratory, end: str) -> None:
    """A trace said that the rerun is requested, for ever; of a specimen that was reinstated it was asked for again."""
    placed = await laboratory.order()
    [item] = placed.items
    result_id = await laboratory.result(placed)
    await ask(laboratory, result_id)
    director = user(laboratory.organization_id, Role.LABORATORY_DIRECTOR)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        if end == "cancelled":
            await order_changes.cancel(connection, director, placed.id, "no more", in_progress=True)
        else:
            assert item.specimen_id is not None
            await specimens.reject(connection, director, item.specimen_id, RejectReason.CLOTTED)
        [result] = (await trace(connection, item.barcode)).results
    assert [(one.kind, one.state) for one in result.asked] == [(RERUN, "cancelled")]


@pytest.mark.parametrize("step", ["correct", "release", "verify"])
async def test_a_rerun_is_awaited_by_nobody_once_a_person_has_decided_without_it(
    laboratory: Laboratory, step: str
) -> None:
    """It stayed requested beside an item that was done, and nobody was told to do it."""
    placed = await laboratory.order()
    result_id = await laboratory.result(placed)
    await ask(laboratory, result_id)
    by = laboratory.technologist
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await review.comment(connection, by, result_id, "it is being measured again")
        [waits] = await of_result(connection, result_id)
        if step == "correct":
            await review.correct(connection, by, result_id, NewValue("14.0"), "read from the printout")
        elif step == "release":
            await review.release(connection, by, result_id, "urgent", accept_hold=True)
        else:
            await set_policy(connection, laboratory.organization_id, Policy("", True, None))
            await review.verify(connection, by, result_id, "urgent", accept_hold=True)
        [ended] = await of_result(connection, result_id)
    assert (waits.state, ended.state) == ("requested", "cancelled")

"""Several people, and people and analyzers, at the same result at the same moment: real transactions, real locks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from interface.domain.model import RELEASED, HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.domain.review import ACCEPTABLE, ReviewError, ReviewStep
from interface.domain.views import Actor, Audience, ResultView
from interface.flow import review
from interface.flow.correction import NewValue
from interface.flow.review_many import many
from interface.store import lab, lab_changes
from interface.store import review as rows
from interface.store.db import Connection, Database
from interface.store.results import load_current
from interface.store.review import Policy, QueueFilter
from tests.conftest import Organization
from tests.flow.laboratory import laboratory as analyzer_and_desk
from tests.flow.laboratory import message
from tests.records import Laboratory, found, user

WAITING = """
select count(*) from pg_sleep(0.01), pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def at_once(laboratory: Laboratory, *steps: Callable[[Connection], Awaitable[ResultView]]) -> list[object]:
    """Each in its own transaction, all begun before any of them goes on."""
    gate = asyncio.Barrier(len(steps))

    async def one(step: Callable[[Connection], Awaitable[ResultView]]) -> ResultView:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            await connection.fetchval("select count(*) from lab.result")
            await gate.wait()
            return await step(connection)

    return await asyncio.gather(*(one(step) for step in steps), return_exceptions=True)


def refused(outcomes: list[object]) -> list[str]:
    assert all(isinstance(outcome, ReviewError | ResultView) for outcome in outcomes), outcomes
    return [str(outcome) for outcome in outcomes if isinstance(outcome, ReviewError)]


async def test_of_two_who_correct_what_they_both_looked_at_one_does(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    who = laboratory.technologist
    outcomes = await at_once(
        laboratory,
        lambda at: review.correct(at, who, result_id, NewValue("9.1"), "typing error", 1),
        lambda at: review.correct(at, who, result_id, NewValue("9.2"), "typing error", 1),
    )
    assert [text.split(":")[0] for text in refused(outcomes)] == ["the result has changed"]


async def test_of_release_and_hold_at_once_only_one_is_done(laboratory: Laboratory) -> None:
    who = laboratory.technologist
    for _ in range(4):
        result_id = await laboratory.result(await laboratory.order())
        outcomes = await at_once(
            laboratory,
            lambda at, id=result_id: review.release(at, who, id, version=1),  # type: ignore[misc]
            lambda at, id=result_id: review.hold(at, who, id, "please look", 1),  # type: ignore[misc]
            lambda at, id=result_id: review.reject(at, who, id, "clotted", 1),  # type: ignore[misc]
        )
        assert len(refused(outcomes)) == 2


async def test_the_first_of_two_cannot_be_the_second_by_being_quick(laboratory: Laboratory) -> None:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await rows.set_policy(connection, laboratory.organization_id, Policy("", True, None))
    result_id = await laboratory.result(await laboratory.order())
    who = laboratory.technologist
    outcomes = await at_once(laboratory, *(lambda at: review.verify(at, who, result_id) for _ in range(3)))
    assert len(refused(outcomes)) == 2
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        view = await lab.get_result(connection, result_id, Audience.STAFF)
    assert view is not None and view.status is ResultStatus.PRELIMINARY


async def test_of_two_runs_released_at_once_one_is_reported(laboratory: Laboratory) -> None:
    order = await laboratory.order()
    runs = [await laboratory.result(order, value) for value in ("13.5", "9.1")]
    who = laboratory.technologist
    outcomes = await at_once(
        laboratory,
        *(lambda at, id=run: review.release(at, who, id) for run in runs),
    )
    assert ["already_reported" in text for text in refused(outcomes)] == [True]
    assert await laboratory.count("result", "status = 'final' and reportable") == 1


async def test_batches_that_name_the_same_results_in_any_order_never_wait_for_each_other(
    laboratory: Laboratory,
) -> None:
    order = await laboratory.order()
    ids = [await laboratory.result(await laboratory.order()) for _ in range(5)]
    who = user(laboratory.organization_id, Role.LABORATORY_DIRECTOR)

    async def batch(at: Connection, turn: int) -> ResultView:
        turned = ids[turn:] + ids[:turn]
        named = [(id, None) for id in (turned if turn % 2 else turned[::-1])]
        answers = await many(at, who, named, lambda id, seen: review.release(at, who, id, follow=False))
        assert all(answer.view and answer.view.status is ResultStatus.FINAL for answer in answers)
        view = answers[0].view
        assert view is not None
        return view

    outcomes = await at_once(laboratory, *(lambda at, turn=turn: batch(at, turn) for turn in range(5)))
    assert refused(outcomes) == []
    assert await laboratory.count("audit_event", "action = 'release'") == len(ids)
    assert order.items


async def test_a_batch_and_deciding_lock_results_of_no_specimen_in_one_order(laboratory: Laboratory) -> None:
    """Their specimens are not there to be locked first. The keys are in the order that is not the ids'."""
    ids = [await laboratory.result(None) for _ in range(2)]
    keys = [b"2", b"1"]
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        for result_id, key in zip(ids, keys, strict=True):
            await connection.execute("update lab.result set natural_key = $2 where id = $1", result_id, key)

    async def locking(lock: Callable[[Connection], Awaitable[object]]) -> None:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            await lock(connection)

    async def waiting(count: int) -> None:
        async with asyncio.timeout(20), laboratory.database.transaction(laboratory.organization_id) as connection:
            while await connection.fetchval(WAITING) < count:  # nothing tells that a statement has begun to wait
                pass

    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("select from lab.result where id = $1 for update", ids[0])
        batch = asyncio.create_task(locking(lambda at: lab_changes.lock_results(at, ids)))
        await waiting(1)
        deciding = asyncio.create_task(locking(lambda at: load_current(at, keys)))
        await waiting(2)
    assert list(await asyncio.gather(batch, deciding)) == [None, None]  # DeadlockDetectedError, were it not so


async def test_a_person_and_an_analyzer_at_the_same_result(database_url: str) -> None:
    """What the analyzer sends while a person releases is a new value before it, or a change that waits after it."""
    first, second = "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000", "R|1|^^^WBC|1.35|10*3/uL||N||F||||20260102030000"
    async with analyzer_and_desk(database_url) as desk:
        seen = set()
        for turn in range(6):
            barcode = f"S{turn}"
            await desk.order(barcode, "WBC", patient_id=f"P-{turn}")
            await desk.send(message(f"O|1|{barcode}", first, control=f"A{turn}"))
            await desk.settle()
            (result,) = [one for one in await desk.results() if one.barcode == barcode]
            await desk.send(message(f"O|1|{barcode}", second, control=f"B{turn}"))
            settling = asyncio.create_task(desk.settle())
            for _ in range(turn):  # each time a little later
                await asyncio.sleep(0)
            try:
                async with desk.database.transaction(desk.organization_id) as connection:
                    await review.release(connection, desk.director, result.id, version=result.version)
            except ReviewError as error:
                assert "has changed" in str(error)
            await settling
            (now,) = [one for one in await desk.results() if one.barcode == barcode]
            seen.add((now.status, now.value, now.pending))
        assert seen <= {("final", "7.35", True), ("preliminary", "1.35", False)}, "what nobody looked at is released"


# ---- whatever is done, in whatever order ----------------------------------------------------------------------------

DO: dict[ReviewStep, Callable[[Connection, Actor, ResultView], Awaitable[ResultView]]] = {
    ReviewStep.VERIFY: lambda at, who, one: review.verify(at, who, one.id, "seen", accept_hold=True),
    ReviewStep.RELEASE: lambda at, who, one: review.release(at, who, one.id, "seen", accept_hold=True),
    ReviewStep.ACCEPT_CHANGE: lambda at, who, one: review.accept_change(at, who, one.id, "seen", accept_hold=True),
    ReviewStep.REJECT_CHANGE: lambda at, who, one: review.reject_change(at, who, one.id, "seen"),
    ReviewStep.REJECT: lambda at, who, one: review.reject(at, who, one.id, "clotted"),
    ReviewStep.HOLD: lambda at, who, one: review.hold(at, who, one.id, "please look"),
    ReviewStep.RERUN: lambda at, who, one: review.rerun(at, who, one.id, "doubtful"),
    ReviewStep.COMMENT: lambda at, who, one: review.comment(at, who, one.id, "seen"),
    ReviewStep.CORRECT: lambda at, who, one: review.correct(at, who, one.id, NewValue("9"), "typed", accept_hold=True),
    ReviewStep.RETRACT: lambda at, who, one: review.retract(at, who, one.id, "wrong tube"),
}  # fmt: skip


async def test_every_history_is_kept_and_nothing_is_released_with_a_reason_that_nobody_may_accept(
    laboratory: Laboratory,
) -> None:
    """Walks of any steps by two people from any reasons to hold; a seed is a walk."""
    people = [user(laboratory.organization_id, Role.TECHNOLOGIST, name) for name in ("vera", "otto")]
    likely = [*sorted(DO), *[ReviewStep.VERIFY, ReviewStep.RELEASE, ReviewStep.ACCEPT_CHANGE] * 4]
    released = 0
    for seed in range(30):
        chance = random.Random(seed)  # noqa: S311
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            two = chance.random() < 0.5
            await rows.set_policy(connection, laboratory.organization_id, Policy("", two, None))
        among = sorted(ACCEPTABLE if chance.random() < 0.6 else HoldReason)
        held = tuple(chance.sample(among, chance.choice((0, 0, 1, 1, 2, 3))))
        begin = ResultStatus.FINAL if chance.random() < 0.7 else ResultStatus.PRELIMINARY
        status = ResultStatus.REGISTERED if held else begin
        result_id = await laboratory.result(await laboratory.order(), status=status, held=held)
        for _ in range(chance.randint(2, 10)):
            if chance.random() < 0.4:
                await _change(laboratory, result_id)
            released += await _step(laboratory, result_id, chance.choice(likely), chance.choice(people), two, seed)
    assert released > 10, "the walks get somewhere"


async def _change(laboratory: Laboratory, result_id: UUID) -> None:
    """Where the result is released, its analyzer sends another value."""
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        now = await lab.get_result(connection, result_id, Audience.STAFF)
    if now is not None and now.status in RELEASED:
        versions = len(await _kept(laboratory, result_id))
        await laboratory.change(result_id, f"9.{versions}", version=versions + 1)


async def _step(laboratory: Laboratory, result_id: UUID, step: ReviewStep, who: Actor, two: bool, seed: int) -> bool:
    """One step, and what must be so after it; whether it released the result."""
    case, kept = f"walk {seed}, {step} by {who.name}", await _kept(laboratory, result_id)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        before = await lab.get_result(connection, result_id, Audience.STAFF)
        assert before is not None
        waiting = await rows.waiting(connection, QueueFilter(order_ids=(before.order_id,) if before.order_id else ()))
        first = await connection.fetchval("select verified_by from lab.result_version where id = $1", before.version_id)
        changed_by = await connection.fetchval(
            "select v.actor_id from lab.result r join lab.result_version v on v.id = r.pending_version_id"
            " where r.id = $1 and v.actor_kind = 'user'",
            result_id,
        )
    refused = False
    try:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            after = await DO[step](connection, who, before)
    except ReviewError:
        refused, after = True, before
    now = await _kept(laboratory, result_id)
    assert now[: len(kept)] == kept, case
    assert not refused or now == kept, case
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        seen = await lab.get_result(connection, result_id, Audience.EMR)
    assert (seen is not None) == (after.status in RELEASED or after.status is ResultStatus.ENTERED_IN_ERROR), case
    new = after.status in RELEASED and after.version_id != before.version_id and step is not ReviewStep.COMMENT
    if not new:
        return False
    reasons = {reason for row in waiting for reason in row.result.held} - {HoldReason.CHANGED_AFTER_RELEASE}
    assert step is ReviewStep.CORRECT or reasons <= ACCEPTABLE, case
    assert after.held == (), case
    if two and before.status not in RELEASED:
        assert first is not None and first != who.id, case
    if two and step is ReviewStep.ACCEPT_CHANGE:
        assert changed_by is not None and changed_by != who.id, case
    return True


async def _kept(laboratory: Laboratory, result_id: UUID) -> list[str]:
    """Every version with its explanation, as it is stored."""
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        found = await connection.fetch(
            "select to_jsonb(v)::text || d.steps::text as kept from lab.result_version v"
            " join lab.decision d on d.result_version_id = v.id where v.result_id = $1 order by v.version",
            result_id,
        )
    return [row["kept"] for row in found]

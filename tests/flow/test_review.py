from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ItemStatus, ResultStatus, ValueKind
from interface.domain.permissions import Role
from interface.domain.review import ACCEPTABLE, Refusal, ReviewError
from interface.domain.views import Actor, ActorKind, Audience, ResultView
from interface.flow import review
from interface.flow.correction import NewValue
from interface.store import lab
from interface.store import review as rows
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.records import Laboratory, found, user

QUESTIONABLE = (HoldReason.QUESTIONABLE,)


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


@asynccontextmanager
async def transaction(laboratory: Laboratory) -> AsyncIterator[Connection]:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        yield connection


async def release(laboratory: Laboratory, result_id: UUID, **options: object) -> ResultView:
    async with transaction(laboratory) as connection:
        return await review.release(connection, laboratory.technologist, result_id, **options)  # type: ignore[arg-type]


async def history(laboratory: Laboratory, result_id: UUID) -> list[tuple[int, ResultStatus, str]]:
    async with transaction(laboratory) as connection:
        versions = await lab.result_history(connection, result_id, Audience.STAFF)
    return [(one.version, one.status, one.value) for one in versions]


async def test_a_release_appends_a_final_version_and_all_that_follows(laboratory: Laboratory) -> None:
    order = await laboratory.order()
    result_id = await laboratory.result(order, "13.50")
    released = await release(laboratory, result_id, comment="seen")
    assert (released.status, released.version, released.value, released.note) == ("final", 2, "13.50", "seen")
    assert released.held == ()
    assert released.released_at is not None
    assert await history(laboratory, result_id) == [(1, "preliminary", "13.50"), (2, "final", "13.50")]
    async with transaction(laboratory) as connection:
        now = await lab.get_order(connection, order.id, Audience.EMR)
        steps = await connection.fetchval(
            "select lab.explained(steps)::json from lab.decision where result_version_id = $1", released.version_id
        )
        author = await connection.fetchrow(
            "select actor_kind, actor_id from lab.result_version where id = $1", released.version_id
        )
    assert now is not None
    assert now.items[0].status is ItemStatus.VERIFIED
    assert now.version == order.version + 1
    assert [step["step"] for step in steps] == ["decode", "map", "release"]
    assert steps[-1]["inputs"] == {"from_version": "1", "comment": "seen"}
    assert author is not None
    assert tuple(author) == ("user", laboratory.technologist.id)
    assert await laboratory.count("outbox", "entity_id = $1 and entity_version = 2", result_id) == 1
    assert await laboratory.count("audit_event", "entity_id = $1 and action = 'release'", result_id) == 1


async def test_a_release_again_changes_nothing(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    first = await release(laboratory, result_id, version=1)
    assert await release(laboratory, result_id, version=1) == first
    assert await release(laboratory, result_id) == first
    assert await laboratory.count("result_version", "result_id = $1", result_id) == 2
    assert await laboratory.count("outbox", "entity_id = $1", result_id) == 1


async def test_of_two_releases_at_once_one_makes_the_version(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    views = await asyncio.gather(*(release(laboratory, result_id, version=1) for _ in range(4)))
    assert {view.version_id for view in views} == {views[0].version_id}
    assert await laboratory.count("result_version", "result_id = $1", result_id) == 2
    assert await laboratory.count("audit_event", "entity_id = $1 and action = 'release'", result_id) == 1


async def test_of_release_and_reject_at_once_one_wins(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order(), held=QUESTIONABLE)

    async def throw_away() -> ResultView:
        async with transaction(laboratory) as connection:
            return await review.reject(connection, laboratory.technologist, result_id, "clot", version=1)

    accepted = release(laboratory, result_id, version=1, comment="seen", accept_hold=True)
    outcomes = await asyncio.gather(accepted, throw_away(), return_exceptions=True)
    assert [isinstance(outcome, ReviewError) for outcome in outcomes].count(True) == 1
    assert len(await history(laboratory, result_id)) == 2


async def test_a_result_that_changed_since_it_was_looked_at_is_not_released(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    with pytest.raises(ReviewError, match="version 7 was looked at, it is now version 1") as caught:
        await release(laboratory, result_id, version=7)
    assert caught.value.refusal is Refusal.CONFLICT
    assert await history(laboratory, result_id) == [(1, "preliminary", "13.5")]


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.VIEWER, Role.PHLEBOTOMIST, Role.AUDITOR])
async def test_only_those_who_may_release_decide(laboratory: Laboratory, role: Role) -> None:
    result_id = await laboratory.result(await laboratory.order(), held=QUESTIONABLE)
    actor = user(laboratory.organization_id, role)
    async with transaction(laboratory) as connection:
        for decide in (review.release, review.accept_change, review.reject_change, review.reject):
            with pytest.raises(ReviewError) as caught:
                await decide(connection, actor, result_id, "because")
            assert caught.value.refusal is Refusal.FORBIDDEN


async def test_a_client_never_releases_whatever_its_scopes_say(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    client = replace(laboratory.technologist, kind=ActorKind.CLIENT)
    async with transaction(laboratory) as connection:
        with pytest.raises(ReviewError, match="only a user"):
            await review.release(connection, client, result_id)


async def test_a_director_may_release(laboratory: Laboratory) -> None:
    director: Actor = user(laboratory.organization_id, Role.LABORATORY_DIRECTOR)
    result_id = await laboratory.result(await laboratory.order())
    async with transaction(laboratory) as connection:
        assert (await review.release(connection, director, result_id)).status is ResultStatus.FINAL


@pytest.mark.parametrize("reason", sorted(set(HoldReason) - ACCEPTABLE))
async def test_what_is_held_because_something_is_not_known_cannot_be_released(
    laboratory: Laboratory, reason: HoldReason
) -> None:
    result_id = await laboratory.result(
        await laboratory.order(), status=ResultStatus.REGISTERED, held=(reason, HoldReason.QUESTIONABLE)
    )
    with pytest.raises(ReviewError, match=reason):
        await release(laboratory, result_id, comment="seen", accept_hold=True)


@pytest.mark.parametrize("reason", sorted(ACCEPTABLE))
async def test_a_hold_is_accepted_knowingly_and_with_a_comment_only(laboratory: Laboratory, reason: HoldReason) -> None:
    result_id = await laboratory.result(await laboratory.order(), status=ResultStatus.REGISTERED, held=(reason,))
    with pytest.raises(ReviewError, match="must accept this"):
        await release(laboratory, result_id, comment="seen")
    with pytest.raises(ReviewError, match="needs a comment") as caught:
        await release(laboratory, result_id, comment=" ", accept_hold=True)
    assert caught.value.refusal is Refusal.INVALID
    released = await release(laboratory, result_id, comment="seen", accept_hold=True)
    assert (released.status, released.held, released.note) == ("final", (), "seen")


@pytest.mark.parametrize("kind", [ValueKind.FAILED, ValueKind.EMPTY])
async def test_what_has_no_value_is_never_released(laboratory: Laboratory, kind: ValueKind) -> None:
    result_id = await laboratory.result(await laboratory.order(), "", kind=kind)
    with pytest.raises(ReviewError, match="nothing to release"):
        await release(laboratory, result_id)


async def test_a_result_of_no_known_test_is_never_released(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(None, barcode="X")
    with pytest.raises(ReviewError, match="nothing to release"):
        await release(laboratory, result_id)


async def test_an_accepted_change_corrects_the_result(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order(), "13.5")
    first = await release(laboratory, result_id)
    await laboratory.change(result_id, "9.1", version=3)
    async with transaction(laboratory) as connection:
        with pytest.raises(ReviewError, match="version 2 was looked at"):
            await review.accept_change(connection, laboratory.technologist, result_id, version=2)
        corrected = await review.accept_change(connection, laboratory.technologist, result_id, "rerun", version=3)
    assert (corrected.status, corrected.version, corrected.value, corrected.pending) == ("corrected", 4, "9.1", False)
    assert corrected.released_at == first.released_at
    assert await laboratory.count("outbox", "entity_id = $1 and entity_version = 4", result_id) == 1
    assert await laboratory.count("audit_event", "entity_id = $1 and action = 'accept_change'", result_id) == 1


async def test_what_staff_said_of_a_result_stays_with_it_when_a_change_is_accepted(laboratory: Laboratory) -> None:
    """The ward had read `haemolysed` beside the potassium; of the corrected one nobody said it any more."""
    result_id = await laboratory.result(await laboratory.order(), "13.5")
    async with transaction(laboratory) as connection:
        await review.comment(connection, laboratory.technologist, result_id, "haemolysed")
    await release(laboratory, result_id)
    async with transaction(laboratory) as connection:
        await review.comment(connection, laboratory.technologist, result_id, "ward 3 was told")
    await laboratory.change(result_id, "9.1", version=5)
    async with transaction(laboratory) as connection:
        first = await review.accept_change(connection, laboratory.technologist, result_id, "rerun")
    assert first.note == "haemolysed\nward 3 was told\nrerun"
    await laboratory.change(result_id, "9.2", version=7)
    async with transaction(laboratory) as connection:
        await review.accept_change(connection, laboratory.technologist, result_id)
        second = await review.correct(connection, laboratory.technologist, result_id, NewValue("9.3"), "typed")
    assert second.note == "haemolysed\nward 3 was told\ntyped"


async def test_so_does_what_was_said_with_its_release(laboratory: Laboratory) -> None:
    """Whoever accepts that it is held must say why, and the ward reads it: of the corrected one nobody said it."""
    result_id = await laboratory.result(await laboratory.order(), "13.5", held=QUESTIONABLE)
    await release(laboratory, result_id, comment="haemolysed", accept_hold=True)
    await laboratory.change(result_id, "9.1", version=3)
    async with transaction(laboratory) as connection:
        first = await review.accept_change(connection, laboratory.technologist, result_id, "rerun")
    await laboratory.change(result_id, "9.2", version=5)
    async with transaction(laboratory) as connection:
        second = await review.accept_change(connection, laboratory.technologist, result_id)
    assert (first.note, second.note) == ("haemolysed\nrerun", "haemolysed")


async def test_a_rejected_change_is_kept_and_the_released_version_stays(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order(), "13.5")
    before = await release(laboratory, result_id)
    await laboratory.change(result_id, "9.1", version=3)
    async with transaction(laboratory) as connection:
        after = await review.reject_change(connection, laboratory.technologist, result_id, "wrong tube", version=3)
        seen = await lab.result_history(connection, result_id, Audience.EMR)
    assert after == before
    assert await history(laboratory, result_id) == [
        (1, "preliminary", "13.5"),
        (2, "final", "13.5"),
        (3, "registered", "9.1"),
        (4, "cancelled", "9.1"),
    ]
    assert [one.version for one in seen] == [2]
    assert await laboratory.count("outbox", "entity_id = $1", result_id) == 1
    assert await laboratory.count("audit_event", "entity_id = $1 and action = 'reject_change'", result_id) == 1


async def test_a_change_is_held_for_its_other_reasons_too(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    await release(laboratory, result_id)
    both = (HoldReason.CHANGED_AFTER_RELEASE, HoldReason.UNKNOWN_UNIT)
    await laboratory.change(result_id, "9.1", held=both, version=3)
    async with transaction(laboratory) as connection:
        with pytest.raises(ReviewError, match="unknown_unit"):
            await review.accept_change(connection, laboratory.technologist, result_id, "seen", accept_hold=True)


async def test_a_change_without_a_value_cannot_be_accepted(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    await release(laboratory, result_id)
    await laboratory.change(result_id, "", version=3, kind=ValueKind.FAILED)
    async with transaction(laboratory) as connection:
        with pytest.raises(ReviewError, match="nothing to release"):
            await review.accept_change(connection, laboratory.technologist, result_id)


async def test_without_a_change_there_is_nothing_to_accept_or_reject(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    async with transaction(laboratory) as connection:
        for decide in (review.accept_change, review.reject_change):
            with pytest.raises(ReviewError, match="no change to this result waits"):
                await decide(connection, laboratory.technologist, result_id)


async def test_a_held_result_is_rejected_with_a_reason_and_never_seen(laboratory: Laboratory) -> None:
    order = await laboratory.order()
    result_id = await laboratory.result(order, held=(HoldReason.PATIENT_MISMATCH,))
    async with transaction(laboratory) as connection:
        with pytest.raises(ReviewError, match="needs a comment"):
            await review.reject(connection, laboratory.technologist, result_id, "  ")
        gone = await review.reject(connection, laboratory.technologist, result_id, "wrong tube")
        assert await review.reject(connection, laboratory.technologist, result_id, "wrong tube") == gone
        assert await lab.get_result(connection, result_id, Audience.EMR_PRELIMINARY) is None
    assert (gone.status, gone.held, gone.released_at) == ("cancelled", (), None)
    assert await laboratory.count("outbox", "entity_id = $1", result_id) == 0
    assert await laboratory.count("audit_event", "entity_id = $1 and action = 'reject'", result_id) == 1


async def test_another_laboratorys_result_does_not_exist(
    laboratory: Laboratory, other_organization: Organization
) -> None:
    other = await found(laboratory.database, other_organization.id)
    result_id = await other.result(await other.order())
    for unknown in (result_id, uuid7()):
        with pytest.raises(ReviewError, match="there is no such result") as caught:
            await release(laboratory, unknown)
        assert caught.value.refusal is Refusal.NOT_FOUND
    assert len(await history(other, result_id)) == 1


async def test_a_comment_is_storable_text(laboratory: Laboratory) -> None:
    result_id = await laboratory.result(await laboratory.order())
    for comment in ("a\x00b", "x" * 4001):
        with pytest.raises(ReviewError) as caught:
            await release(laboratory, result_id, comment=comment)
        assert caught.value.refusal is Refusal.INVALID


@pytest.mark.parametrize("other", [HoldReason.RUN_FAILED, HoldReason.DELTA, None])
async def test_a_test_is_measured_again_when_only_runs_that_are_held_are_left_of_it(
    laboratory: Laboratory, other: HoldReason | None
) -> None:
    """A run that had failed before kept the test as completed: no analyzer was told to measure it once more."""
    order = await laboratory.order()
    await laboratory.result(order, "12.1", held=(other,) if other else ())
    result_id = await laboratory.result(order, "13.5")
    async with transaction(laboratory) as connection:
        await review.reject(connection, laboratory.technologist, result_id, "clotted")
        now = await lab.get_order(connection, order.id, Audience.STAFF)
    assert now is not None and now.items[0].status is (ItemStatus.IN_PROGRESS if other else ItemStatus.COMPLETED)


@pytest.mark.parametrize("state", ["cancelled", "rejected"])
async def test_nothing_is_released_on_an_item_that_is_closed(laboratory: Laboratory, state: str) -> None:
    order = await laboratory.order()
    result_id = await laboratory.result(order)
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.order_item set status = $2 where order_id = $1", order.id, state)
    with pytest.raises(ReviewError, match=f"the order item is {state}; it cannot become verified") as caught:
        await release(laboratory, result_id)
    assert caught.value.refusal is Refusal.CONFLICT
    assert await history(laboratory, result_id) == [(1, "preliminary", "13.5")]
    assert await laboratory.count("outbox", "entity_id = $1", result_id) == 0


@pytest.mark.parametrize(
    ("kind", "value", "said"), [(ValueKind.RATIO, "<1:10", "<1:10 g/dL"), (ValueKind.NUMERIC, "5", "<5 g/dL")]
)
async def test_who_decides_about_a_change_reads_what_is_released_with_its_sign_once(
    laboratory: Laboratory, kind: ValueKind, value: str, said: str
) -> None:
    result_id = await laboratory.result(
        await laboratory.order(), value, status=ResultStatus.FINAL, kind=kind, comparator="<"
    )
    await laboratory.change(result_id, value.replace("<", ""), kind=kind)
    async with transaction(laboratory) as connection:
        [waits] = await rows.waiting(connection, rows.QueueFilter(rows.Queue.CHANGED))
    assert waits.reported == said

"""A specimen's way through the laboratory over real PostgreSQL: each step with its items, results, events and audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from interface.domain.model import HoldReason, ItemStatus, ResultStatus
from interface.domain.permissions import Role
from interface.domain.specimens import RejectReason
from interface.domain.states import SPECIMEN_STATUS, SpecimenState
from interface.domain.views import Actor, ActorKind, Audience, OrderView, SpecimenView
from interface.errors import ApiError, IllegalStep
from interface.flow import order_changes, review, specimens
from interface.flow.orders import NewSpecimen, create_order
from interface.flow.problems import OrderError
from interface.flow.specimens import Rejected
from interface.store import lab
from interface.store import specimens as store
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.records import Laboratory, found, order, patient, user

NOW = datetime.now(UTC).replace(microsecond=0)
TAKEN, CAME = NOW - timedelta(hours=2), NOW - timedelta(hours=1)


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


@asynccontextmanager
async def transaction(laboratory: Laboratory) -> AsyncIterator[Connection]:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        yield connection


async def do(laboratory: Laboratory, step: Callable[..., Awaitable[Any]], *args: object, **options: object) -> Any:
    async with transaction(laboratory) as connection:
        return await step(connection, options.pop("actor", laboratory.technologist), *args, **options)


async def items(laboratory: Laboratory, made: OrderView, audience: Audience = Audience.STAFF) -> list[tuple[str, str]]:
    async with transaction(laboratory) as connection:
        view = await lab.get_order(connection, made.id, audience)
    assert view is not None
    return [(item.test_code, item.status.value) for item in view.items]


async def events(laboratory: Laboratory, specimen_id: UUID) -> list[tuple[str, str]]:
    async with transaction(laboratory) as connection:
        return [(one.action, one.state.value) for one in await store.read_events(connection, specimen_id)]


def specimen_of(made: OrderView) -> UUID:
    specimen_id = made.items[0].specimen_id
    assert specimen_id is not None
    return specimen_id


async def measured(laboratory: Laboratory, *tests: str, received: bool = True) -> tuple[OrderView, UUID]:
    """An order whose specimen the laboratory has."""
    one = NewSpecimen(tests or ("HGB",), type="BLD", container="EDTA", collected_at=TAKEN if received else None,
                      received_at=CAME if received else None)  # fmt: skip
    made = await laboratory.order(replace(order(), specimens=(one,)))
    return made, specimen_of(made)


async def test_the_whole_way_with_who_and_when(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB", "WBC"))
    one = specimen_of(made)
    taken: SpecimenView = await do(laboratory, specimens.collect, one, at=TAKEN, by="Nurse Jackie", container="EDTA")
    assert (taken.state, taken.status, taken.collected_at, taken.collected_by, taken.container) == (
        "collected", "available", TAKEN, "Nurse Jackie", "EDTA",
    )  # fmt: skip
    assert await items(laboratory, made) == [("HGB", "collected"), ("WBC", "collected")]
    came: SpecimenView = await do(laboratory, specimens.receive, one, at=CAME)
    assert (came.state, came.received_at, came.received_by, came.collected_at) == ("received", CAME, "vera", TAKEN)
    assert await items(laboratory, made) == [("HGB", "received"), ("WBC", "received")]
    stored = await do(laboratory, specimens.move, one, rack="R1", position="A3")
    assert (stored.state, stored.rack, stored.position) == ("stored", "R1", "A3")
    moved = await do(laboratory, specimens.move, one, rack="R2")
    assert (moved.rack, moved.position) == ("R2", "")
    out = await do(laboratory, specimens.move, one)
    assert (out.state, out.rack) == ("received", "")
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.order_item set status = 'verified' where order_id = $1", made.id)
    await do(laboratory, specimens.exhaust, one)
    gone: SpecimenView = await do(laboratory, specimens.dispose, one)
    assert (gone.state, gone.status, gone.received_by) == ("disposed", "unavailable", "vera")
    assert await events(laboratory, one) == [
        ("create", "expected"), ("collect", "collected"), ("receive", "received"), ("store", "stored"),
        ("store", "stored"), ("take_out", "received"), ("exhaust", "exhausted"), ("dispose", "disposed"),
    ]  # fmt: skip
    async with transaction(laboratory) as connection:
        history = await store.read_events(connection, one)
    assert [(each.rack, each.position) for each in history][3:5] == [("R1", "A3"), ("R2", "")]
    assert history[1].happened_at == TAKEN
    assert await laboratory.count("audit_event", "entity_id = $1 and actor_name = 'vera'", one) == 7
    assert gone.version == 8


async def test_each_step_shows_in_the_orders_version(laboratory: Laboratory) -> None:
    made = await laboratory.order()
    await do(laboratory, specimens.collect, specimen_of(made))
    await do(laboratory, specimens.receive, specimen_of(made))
    async with transaction(laboratory) as connection:
        now = await lab.get_order(connection, made.id, Audience.EMR)
    assert now is not None
    assert (now.version, now.items[0].status) == (made.version + 2, ItemStatus.RECEIVED)


async def test_receiving_what_nobody_said_was_collected(laboratory: Laboratory) -> None:
    made = await laboratory.order()
    came = await do(laboratory, specimens.receive, specimen_of(made), at=CAME, collected_at=TAKEN)
    assert (came.collected_at, came.received_at) == (TAKEN, CAME)
    other = specimen_of(await laboratory.order())
    unknown = await do(laboratory, specimens.receive, other)
    assert unknown.collected_at is None  # not guessed


@pytest.mark.parametrize(
    ("step", "options", "text"),
    [
        (specimens.collect, {"at": NOW + timedelta(hours=1)}, "in the future"),
        (specimens.collect, {"at": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001
        (specimens.collect, {"by": "a\x07"}, "cannot be printed"),
        (specimens.receive, {"at": TAKEN, "collected_at": CAME}, "received before it was collected"),
        (specimens.move, {"position": "A1"}, "name the rack"),
        (specimens.reinstate, {"reason": " "}, "needs a reason"),
        (specimens.aliquot, {"barcode": " B"}, "begins or ends with a space"),
    ],
)
async def test_what_cannot_be_is_said_and_nothing_changes(
    laboratory: Laboratory, step: Callable[..., Awaitable[Any]], options: dict[str, object], text: str
) -> None:
    made = await laboratory.order()
    with pytest.raises(OrderError, match=text):
        await do(laboratory, step, specimen_of(made), **options)
    assert await events(laboratory, specimen_of(made)) == [("create", "expected")]


async def test_when_it_was_taken_may_be_told_of_one_that_has_come_and_of_its_aliquot(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB"))
    one = specimen_of(made)
    await do(laboratory, specimens.receive, one, at=CAME)
    part = await do(laboratory, specimens.aliquot, one)
    await do(laboratory, specimens.move, one, rack="R1", position="A3")
    with pytest.raises(OrderError, match="received before it was collected"):
        await do(laboratory, specimens.collect, one, at=CAME + timedelta(minutes=1))
    told: SpecimenView = await do(laboratory, specimens.collect, one, at=TAKEN, by="ward 3")
    assert (told.state, told.rack, told.position) == ("stored", "R1", "A3")
    assert (told.collected_at, told.collected_by, told.received_at) == (TAKEN, "ward 3", CAME)
    async with transaction(laboratory) as connection:
        aliquot = await specimens.view(connection, part.id)
    assert (aliquot.state, aliquot.collected_at) == ("received", TAKEN)
    with pytest.raises(IllegalStep, match="the specimen is stored; it cannot become collected"):
        await do(laboratory, specimens.collect, one, at=TAKEN)


async def test_illegal_steps_are_told_and_change_nothing(laboratory: Laboratory) -> None:
    made, one = await measured(laboratory)
    for step, options, text in (
        (specimens.collect, {}, "the specimen is received; it cannot become collected"),
        (specimens.receive, {}, "the specimen is received"),
        (specimens.reinstate, {"reason": "oops"}, "only one that is rejected or exhausted is reinstated"),
        (specimens.move, {}, "not stored; it cannot be taken out"),
        (specimens.dispose, {}, "tests wait for it: HGB"),
        (specimens.exhaust, {}, "tests wait for it: HGB"),
    ):
        with pytest.raises(IllegalStep, match=text):
            await do(laboratory, step, one, **options)
    await do(laboratory, specimens.move, one, rack="R1")
    with pytest.raises(IllegalStep, match="take it out instead"):
        await do(laboratory, specimens.receive, one)
    assert await items(laboratory, made) == [("HGB", "received")]
    expected = specimen_of(await laboratory.order())
    with pytest.raises(IllegalStep, match="is expected; no aliquot"):
        await do(laboratory, specimens.aliquot, expected)
    with pytest.raises(IllegalStep, match="is expected; it cannot become stored"):
        await do(laboratory, specimens.move, expected, rack="R1")
    with pytest.raises(OrderError, match="no specimen of this id") as caught:
        await do(laboratory, specimens.collect, uuid7())
    assert caught.value.missing


async def test_a_place_holds_one_specimen(laboratory: Laboratory) -> None:
    ones = [(await measured(laboratory))[1] for _ in range(3)]
    moved = await asyncio.gather(
        *(do(laboratory, specimens.move, one, rack="R1", position="A1") for one in ones), return_exceptions=True
    )
    assert [isinstance(each, OrderError) for each in moved].count(True) == 2
    await do(laboratory, specimens.move, ones[0], rack="R1", position="A2")


# ---- rejecting ------------------------------------------------------------------------------------------------------


async def test_rejecting_takes_items_and_unreleased_results_with_it(laboratory: Laboratory) -> None:
    made, one = await measured(laboratory, "HGB", "WBC")
    result_id = await laboratory.result(made)
    done: Rejected = await do(laboratory, specimens.reject, one, RejectReason.CLOTTED, "fibrin strands")
    assert (done.rejected, done.released, done.again) == (("HGB", "WBC"), (), None)
    assert (done.specimen.state, done.specimen.status) == ("rejected", "unsatisfactory")
    assert (done.specimen.reject_code, done.specimen.reject_reason) == ("clotted", "fibrin strands")
    assert await items(laboratory, made) == [("HGB", "rejected"), ("WBC", "rejected")]
    async with transaction(laboratory) as connection:
        result = await lab.get_result(connection, result_id, Audience.STAFF)
        assert result is not None
        steps = (await lab.explanations(connection, [result.version_id]))[result.version_id]
        early = await lab.get_result(connection, result_id, Audience.EMR_PRELIMINARY)
        with pytest.raises(Exception, match=r"cancelled|rejected"):
            await review.release(connection, laboratory.technologist, result_id)
    assert (result.status, result.version) == (ResultStatus.CANCELLED, 2)
    assert early is not None and (early.status, early.value, early.note) == (ResultStatus.CANCELLED, "", "")
    assert steps[-1].text == "the specimen was rejected by vera: clotted: fibrin strands"
    assert await laboratory.count("audit_event", "action = 'reject' and entity_id = $1", one) == 1
    with pytest.raises(IllegalStep):
        await do(laboratory, specimens.reject, one, RejectReason.CLOTTED)


async def test_what_is_released_stays_and_is_named(laboratory: Laboratory) -> None:
    made, one = await measured(laboratory, "HGB", "WBC")
    result_id = await laboratory.result(made)
    async with transaction(laboratory) as connection:
        await review.release(connection, laboratory.technologist, result_id)
    done: Rejected = await do(laboratory, specimens.reject, one, RejectReason.IDENTIFICATION)
    assert (done.rejected, done.released) == (("WBC",), ("HGB",))
    assert await items(laboratory, made, Audience.EMR) == [("HGB", "verified"), ("WBC", "rejected")]


async def test_only_who_may_discard_results_rejects_what_has_some(laboratory: Laboratory) -> None:
    made, one = await measured(laboratory)
    nurse = user(laboratory.organization_id, Role.PHLEBOTOMIST, "jackie")
    await laboratory.result(made, held=(HoldReason.QUESTIONABLE,))
    with pytest.raises(ApiError, match="result:release"):
        await do(laboratory, specimens.reject, one, RejectReason.CLOTTED, actor=nurse)
    assert (await do(laboratory, specimens.reject, one, RejectReason.CLOTTED)).rejected == ("HGB",)
    _, other = await measured(laboratory)
    assert (await do(laboratory, specimens.reject, other, RejectReason.CLOTTED, actor=nurse)).rejected == ("HGB",)


async def test_what_is_recollected_is_expected_once_more(laboratory: Laboratory) -> None:
    series = NewSpecimen(("GLU",), type="PLAS", container="grey", time_points_min=(60,), received_at=CAME)
    made = await laboratory.order(replace(order(), specimens=(series,)))
    done: Rejected = await do(laboratory, specimens.reject, specimen_of(made), RejectReason.HAEMOLYSED, recollect=True)
    assert done.again is not None
    again = done.again
    assert (again.state, again.type, again.container, again.time_point_min) == ("expected", "PLAS", "grey", 60)
    assert again.barcode != done.specimen.barcode
    assert await items(laboratory, made) == [("GLU", "rejected"), ("GLU", "requested")]
    assert await events(laboratory, again.id) == [("create", "expected")]


async def _recollected(laboratory: Laboratory, made: OrderView) -> None:
    one = specimen_of(made)
    for _ in range(2):
        done: Rejected = await do(laboratory, specimens.reject, one, RejectReason.CLOTTED, recollect=True)
        assert done.again is not None
        one = done.again.id


async def _parted(laboratory: Laboratory, made: OrderView) -> None:
    await do(laboratory, specimens.receive, specimen_of(made))
    part: SpecimenView = await do(laboratory, specimens.aliquot, specimen_of(made), tests=["HGB"])
    await do(laboratory, specimens.aliquot, part.id, tests=["HGB"])


async def _added_to(laboratory: Laboratory, made: OrderView) -> None:
    """As a reflex does."""
    await do(laboratory, order_changes.add, made.id, ["GLU"], specimen_id=specimen_of(made))


@pytest.mark.parametrize("step", [_recollected, _parted, _added_to])
async def test_an_order_that_is_said_again_is_the_same_whatever_the_laboratory_did_with_its_specimen(
    laboratory: Laboratory, step: Callable[[Laboratory, OrderView], Awaitable[None]]
) -> None:
    """It was refused as of other specimens and tests: whoever had no answer believed that nothing was ordered."""
    new = order("CBC", placer_number="EMR-1")
    made = await laboratory.order(new)
    await step(laboratory, made)
    assert (await laboratory.order(new)).id == made.id
    async with transaction(laboratory) as connection:
        same = await create_order(connection, laboratory.technologist, new, if_none=True)
    assert same.id == made.id
    for other in (NewSpecimen(("HGB",)), NewSpecimen(("CBC", "GLU"), type="UR")):
        with pytest.raises(OrderError, match="specimens and tests"):
            await laboratory.order(replace(new, specimens=(other,)))


async def test_a_reason_is_one_of_the_list_and_other_is_explained(laboratory: Laboratory) -> None:
    _, one = await measured(laboratory)
    with pytest.raises(OrderError, match="say what the reason is"):
        await do(laboratory, specimens.reject, one, RejectReason.OTHER)
    done = await do(laboratory, specimens.reject, one, RejectReason.OTHER, "found in the corridor")
    assert done.specimen.reject_reason == "found in the corridor"


async def test_a_mistaken_rejection_is_taken_back_with_a_reason(laboratory: Laboratory) -> None:
    made, one = await measured(laboratory, "HGB", "WBC")
    await do(laboratory, specimens.reject, one, RejectReason.CLOTTED)
    back: SpecimenView = await do(laboratory, specimens.reinstate, one, "it was the other tube")
    assert (back.state, back.reject_code, back.reject_reason) == ("received", "", "")
    assert await items(laboratory, made) == [("HGB", "received"), ("WBC", "received")]
    await do(laboratory, specimens.reject, one, RejectReason.CLOTTED)
    await laboratory.order(order(barcode=back.barcode))
    with pytest.raises(OrderError, match="already on a specimen that is open"):
        await do(laboratory, specimens.reinstate, one, "again")


async def test_what_is_disposed_of_keeps_why_it_was_rejected(laboratory: Laboratory) -> None:
    _, one = await measured(laboratory)
    await do(laboratory, specimens.reject, one, RejectReason.STORAGE, "thawed")
    gone = await do(laboratory, specimens.dispose, one)
    assert (gone.state, gone.reject_code, gone.reject_reason) == ("disposed", "storage", "thawed")


# ---- aliquots -------------------------------------------------------------------------------------------------------


async def test_an_aliquot_inherits_and_takes_the_tests_it_is_made_for(laboratory: Laboratory) -> None:
    made, one = await measured(laboratory, "HGB", "WBC", "GLU")
    parent = await do_view(laboratory, one)
    first: SpecimenView = await do(laboratory, specimens.aliquot, one, tests=("GLU",), container="cup")
    second: SpecimenView = await do(laboratory, specimens.aliquot, one)
    own: SpecimenView = await do(laboratory, specimens.aliquot, one, barcode="OWN1")
    assert [each.barcode for each in (first, second, own)] == [f"{parent.barcode}-1", f"{parent.barcode}-2", "OWN1"]
    assert (first.parent_id, first.patient_id, first.order_id, first.state, first.container) == (
        one, parent.patient_id, made.id, "received", "cup",
    )  # fmt: skip
    assert (first.collected_at, first.received_at, second.container) == (TAKEN, CAME, "EDTA")
    async with transaction(laboratory) as connection:
        view = await lab.get_order(connection, made.id, Audience.STAFF)
    assert view is not None
    assert [item.specimen_id for item in view.items] == [one, one, first.id]
    with pytest.raises(OrderError, match="already on a specimen that is open"):
        await do(laboratory, specimens.aliquot, one, barcode="OWN1")
    with pytest.raises(OrderError, match="GLU is not ordered on it"):
        await do(laboratory, specimens.aliquot, one, tests=("GLU",))
    third: SpecimenView = await do(laboratory, specimens.aliquot, first.id)
    assert third.barcode == f"{first.barcode}-1"


async def do_view(laboratory: Laboratory, specimen_id: UUID) -> SpecimenView:
    async with transaction(laboratory) as connection:
        return await specimens.view(connection, specimen_id)


async def test_rejecting_a_specimen_rejects_what_was_made_of_it_and_not_the_other_way_round(
    laboratory: Laboratory,
) -> None:
    made, one = await measured(laboratory, "HGB", "GLU")
    child: SpecimenView = await do(laboratory, specimens.aliquot, one, tests=("GLU",))
    grandchild: SpecimenView = await do(laboratory, specimens.aliquot, child.id)
    await do(laboratory, specimens.reject, grandchild.id, RejectReason.CONTAMINATED)
    assert (await do_view(laboratory, one)).state is SpecimenState.RECEIVED
    done: Rejected = await do(laboratory, specimens.reject, one, RejectReason.IDENTIFICATION)
    assert done.rejected == ("HGB", "GLU")
    assert (await do_view(laboratory, child.id)).state is SpecimenState.REJECTED
    assert await items(laboratory, made) == [("HGB", "rejected"), ("GLU", "rejected")]


# ---- by barcode, two at once, who may -------------------------------------------------------------------------------


async def test_a_barcode_finds_the_open_specimen_and_a_mistyped_one_is_told(laboratory: Laboratory) -> None:
    made = await laboratory.order()
    barcode = made.items[0].barcode
    async with transaction(laboratory) as connection:
        assert await specimens.by_barcode(connection, barcode) == specimen_of(made)
        with pytest.raises(OrderError, match="was it mistyped") as caught:
            await specimens.by_barcode(connection, barcode[:-1] + str((int(barcode[-1]) + 1) % 10))
        assert caught.value.missing
        with pytest.raises(OrderError) as caught:
            await specimens.by_barcode(connection, "B-1")
        assert "mistyped" not in str(caught.value)
    await do(laboratory, specimens.reject, specimen_of(made), RejectReason.NOT_COLLECTED)
    async with transaction(laboratory) as connection:
        assert await specimens.by_barcode(connection, barcode) == specimen_of(made)
    again = await laboratory.order(order(barcode=barcode))
    async with transaction(laboratory) as connection:
        assert await specimens.by_barcode(connection, barcode) == specimen_of(again)
        await connection.execute("update lab.specimen set state = 'received', status = 'available'")
        with pytest.raises(OrderError, match="2 open specimens") as caught:
            await specimens.by_barcode(connection, barcode)
        assert caught.value.conflict


async def test_of_two_who_collect_at_once_one_does(laboratory: Laboratory) -> None:
    one = specimen_of(await laboratory.order())
    done = await asyncio.gather(
        *(do(laboratory, specimens.collect, one, by=f"nurse {n}") for n in range(4)), return_exceptions=True
    )
    assert [isinstance(each, IllegalStep) for each in done].count(True) == 3
    [winner] = [each for each in done if isinstance(each, SpecimenView)]
    assert (await do_view(laboratory, one)).collected_by == winner.collected_by
    assert await events(laboratory, one) == [("create", "expected"), ("collect", "collected")]


async def test_of_receiving_and_rejecting_at_once_both_or_one_happen_in_order(laboratory: Laboratory) -> None:
    made = await laboratory.order()
    one = specimen_of(made)
    await asyncio.gather(
        do(laboratory, specimens.receive, one),
        do(laboratory, specimens.reject, one, RejectReason.LABELLING),
        do(laboratory, specimens.reject, one, RejectReason.CLOTTED),
        return_exceptions=True,
    )
    assert (await do_view(laboratory, one)).state is SpecimenState.REJECTED
    assert await items(laboratory, made) == [("HGB", "rejected")]
    assert [each[0] for each in await events(laboratory, one)].count("reject") == 1


async def test_releasing_and_rejecting_at_once_never_both_on_an_unreleased_result(laboratory: Laboratory) -> None:
    made, one = await measured(laboratory)
    result_id = await laboratory.result(made)
    done = await asyncio.gather(
        do(laboratory, review.release, result_id),
        do(laboratory, specimens.reject, one, RejectReason.CLOTTED),
        return_exceptions=True,
    )
    async with transaction(laboratory) as connection:
        result = await lab.get_result(connection, result_id, Audience.STAFF)
    assert result is not None
    if isinstance(done[0], Exception):
        assert (result.status, await items(laboratory, made)) == (ResultStatus.CANCELLED, [("HGB", "rejected")])
    else:
        assert (result.status, await items(laboratory, made)) == (ResultStatus.FINAL, [("HGB", "verified")])
        assert isinstance(done[1], Rejected)
        assert done[1].released == ("HGB",)


async def test_who_may_not_work_with_specimens_cannot(laboratory: Laboratory) -> None:
    one = specimen_of(await laboratory.order())
    viewer = user(laboratory.organization_id, Role.VIEWER)
    for step, args in (
        (specimens.collect, ()), (specimens.receive, ()), (specimens.move, ()), (specimens.exhaust, ()),
        (specimens.dispose, ()), (specimens.aliquot, ()), (specimens.reinstate, ("because",)),
        (specimens.reject, (RejectReason.CLOTTED,)),
    ):  # fmt: skip
        with pytest.raises(ApiError, match="specimen:write"):
            await do(laboratory, step, one, *args, actor=viewer)


async def test_one_laboratory_cannot_step_anothers_specimen(
    laboratory: Laboratory, other_organization: Organization
) -> None:
    other = await found(laboratory.database, other_organization.id)
    theirs = specimen_of(await other.order(replace(order(), patient=patient("P1"))))
    with pytest.raises(OrderError, match="no specimen"):
        await do(laboratory, specimens.collect, theirs)
    with pytest.raises(OrderError, match="no specimen"):
        await do(laboratory, specimens.reject, theirs, RejectReason.CLOTTED)


async def test_an_emr_that_collects_sees_no_more_than_it_may(laboratory: Laboratory) -> None:
    emr = Actor(ActorKind.CLIENT, uuid7(), "ward tablet", laboratory.organization_id)
    one = specimen_of(await laboratory.order())
    taken = await do(laboratory, specimens.collect, one, actor=emr, audience=Audience.EMR)
    assert (taken.state, taken.collected_by) == ("collected", "ward tablet")
    assert await laboratory.count("audit_event", "actor_kind = 'client' and entity_id = $1", one) == 1


@pytest.mark.parametrize("state", list(SpecimenState))
async def test_the_database_holds_state_and_status_together(laboratory: Laboratory, state: SpecimenState) -> None:
    one = specimen_of(await laboratory.order())
    statement = "update lab.specimen set state = $2, status = $3 where id = $1"
    async with transaction(laboratory) as connection:
        await connection.execute(statement, one, state, SPECIMEN_STATUS[state])
    wrong = "unavailable" if SPECIMEN_STATUS[state] == "available" else "available"
    with pytest.raises(asyncpg.CheckViolationError):
        async with transaction(laboratory) as connection:
            await connection.execute(statement, one, state, wrong)

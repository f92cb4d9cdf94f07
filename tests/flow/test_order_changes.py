"""Tests added to an order, items and orders cancelled: what may go, what stays, and who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ItemStatus, Priority, ResultStatus
from interface.domain.permissions import Role
from interface.domain.review import ReviewError
from interface.domain.views import Actor, ActorKind, Audience, OrderView
from interface.errors import ApiError, IllegalStep
from interface.flow import order_changes, orders, review
from interface.flow.order_changes import Cancelled
from interface.flow.orders import NewPractitioner, NewSpecimen, OrderError
from interface.store import lab
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.records import Laboratory, found, order, patient, user


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


@asynccontextmanager
async def transaction(laboratory: Laboratory) -> AsyncIterator[Connection]:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        yield connection


async def cancel(laboratory: Laboratory, made: OrderView, reason: str = "by mistake", **options: object) -> Cancelled:
    async with transaction(laboratory) as connection:
        return await order_changes.cancel(connection, laboratory.technologist, made.id, reason, **options)  # type: ignore[arg-type]


async def add(laboratory: Laboratory, made: OrderView, *tests: str, **options: object) -> OrderView:
    async with transaction(laboratory) as connection:
        return await order_changes.add(connection, laboratory.technologist, made.id, tests, **options)  # type: ignore[arg-type]


async def put(laboratory: Laboratory, item_id: UUID, status: ItemStatus) -> None:
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.order_item set status = $2 where id = $1", item_id, status)


async def seen(laboratory: Laboratory, made: OrderView, audience: Audience) -> OrderView:
    async with transaction(laboratory) as connection:
        view = await lab.get_order(connection, made.id, audience)
    assert view is not None
    return view


async def state(laboratory: Laboratory, specimen_id: UUID | None) -> tuple[str, str]:
    async with transaction(laboratory) as connection:
        row = await connection.fetchrow("select state, status from lab.specimen where id = $1", specimen_id)
    assert row is not None
    return row["state"], row["status"]


async def test_what_an_order_says_of_its_patient_is_kept_and_shown(laboratory: Laboratory) -> None:
    new = replace(
        order(placer_number="EMR-1"), priority=Priority.PREOP, ward="3B", patient_group="dialysis", pregnant=True,
        gestation_weeks=31, requester=NewPractitioner("D1", "House", "Gregory"),
    )  # fmt: skip
    made = await laboratory.order(new)
    assert (made.priority, made.ward, made.patient_group, made.pregnant, made.gestation_weeks) == (
        Priority.PREOP, "3B", "dialysis", True, 31,
    )  # fmt: skip
    assert made.requester is not None
    assert (made.requester.identifier, made.requester.family, made.requester.given) == ("D1", "House", "Gregory")
    assert await laboratory.order(new) == made
    for change in ({"ward": "4"}, {"gestation_weeks": 32}, {"requester": NewPractitioner("D2")}):
        with pytest.raises(OrderError, match="with a different"):
            await laboratory.order(replace(new, **change))
    again = await laboratory.order(replace(order(), requester=NewPractitioner("D1")))
    assert again.requester == made.requester
    by_id = replace(order(placer_number="EMR-2"), requester_id=made.requester.id)
    assert (await laboratory.order(by_id)).requester == made.requester
    assert (await laboratory.order(by_id)).requester == made.requester
    unsaid = await laboratory.order()
    assert (unsaid.pregnant, unsaid.gestation_weeks, unsaid.requester, unsaid.ward) == (None, None, None, "")


async def test_of_two_of_one_name_none_is_taken_for_the_one_who_asks(laboratory: Laboratory) -> None:
    for number in ("D1", "D2"):
        await laboratory.order(replace(order(), requester=NewPractitioner(number, "House", "Gregory")))
    with pytest.raises(OrderError, match="several providers have this name") as caught:
        await laboratory.order(replace(order(), requester=NewPractitioner("", "House", "Gregory")))
    assert caught.value.conflict
    with pytest.raises(OrderError, match="no provider with this id"):
        await laboratory.order(replace(order(), requester_id=uuid7()))


@pytest.mark.parametrize(
    "change",
    [
        {"requester": NewPractitioner("D1"), "requester_id": uuid7()},
        {"gestation_weeks": 12},
        {"gestation_weeks": 12, "pregnant": False},
        {"gestation_weeks": 46, "pregnant": True},
        {"ward": "\x07"},
        {"requester": NewPractitioner()},
    ],
)
async def test_what_cannot_be_of_a_patient_is_refused(laboratory: Laboratory, change: dict[str, object]) -> None:
    with pytest.raises(OrderError):
        await laboratory.order(replace(order(), **change))  # type: ignore[arg-type]


async def test_a_time_series_is_a_specimen_for_each_point(laboratory: Laboratory) -> None:
    series = NewSpecimen(("GLU",), type="PLAS", container="grey", time_points_min=(0, 60, 120))
    new = replace(order(placer_number="OGTT"), specimens=(series, NewSpecimen(("HGB",))))
    made = await laboratory.order(new)
    assert [(item.test_code, item.time_point_min) for item in made.items] == [
        ("GLU", 0), ("GLU", 60), ("GLU", 120), ("HGB", None),
    ]  # fmt: skip
    assert len({item.barcode for item in made.items}) == 4
    assert await laboratory.order(new) == made
    with pytest.raises(OrderError, match="one barcode"):
        await laboratory.order(replace(new, specimens=(replace(series, barcode="B"),), placer_number=""))
    with pytest.raises(OrderError, match="different minutes"):
        await laboratory.order(replace(new, specimens=(replace(series, time_points_min=(0, 0)),), placer_number=""))


async def test_tests_are_added_to_a_specimen_and_with_a_new_one(laboratory: Laboratory) -> None:
    made = await laboratory.order()
    on = made.items[0].specimen_id
    more = await add(laboratory, made, "WBC", specimen_id=on)
    assert [(item.test_code, item.specimen_id) for item in more.items] == [("HGB", on), ("WBC", on)]
    assert more.version == made.version + 1
    more = await add(laboratory, made, specimen=NewSpecimen(("GLU",), type="PLAS"))
    assert len({item.barcode for item in more.items}) == 2
    assert await laboratory.count("audit_event", "action = 'add' and entity_id = $1", made.id) == 2


async def test_what_cannot_be_added_is_refused_and_leaves_nothing(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB"))
    on = made.items[0].specimen_id
    for tests, options, text in (
        (("HGB",), {"specimen_id": on}, "already ordered on this specimen: HGB"),
        (("CBC",), {"specimen_id": on}, "already ordered on this specimen: HGB"),
        (("NOPE",), {"specimen_id": on}, 'no test or panel "NOPE"'),
        (("WBC",), {"specimen_id": uuid7()}, "no specimen of this id"),
        (("WBC",), {}, "one of the order's specimens or with a new one"),
        ((), {"specimen_id": on}, "no test is ordered"),
    ):
        with pytest.raises(OrderError, match=text):
            await add(laboratory, made, *tests, **options)
    async with transaction(laboratory) as connection:
        await connection.execute(
            "update lab.specimen set state = 'rejected', status = 'unsatisfactory' where id = $1", on
        )
    with pytest.raises(OrderError, match="the specimen is rejected"):
        await add(laboratory, made, "WBC", specimen_id=on)
    await cancel(laboratory, made)
    with pytest.raises(OrderError, match="the order is cancelled"):
        await add(laboratory, made, specimen=NewSpecimen(("GLU",)))
    assert await laboratory.count("order_item", "order_id = $1", made.id) == 1


async def test_a_cancelled_item_may_be_ordered_again(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB", "WBC"))
    await cancel(laboratory, made, item_ids=[made.items[0].id])
    again = await add(laboratory, made, "HGB", specimen_id=made.items[0].specimen_id)
    assert [(i.test_code, i.status.value) for i in again.items] == [
        ("HGB", "cancelled"), ("WBC", "requested"), ("HGB", "requested"),
    ]  # fmt: skip


# ---- cancelling -----------------------------------------------------------------------------------------------------


async def test_a_whole_order_is_cancelled_with_its_expected_specimens(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB", "WBC", barcode="B1"))
    done = await cancel(laboratory, made)
    assert (done.cancelled, done.kept) == (("HGB", "WBC"), ())
    assert done.order.cancelled
    assert done.order.cancel_reason == "by mistake"
    assert {item.status for item in done.order.items} == {ItemStatus.CANCELLED}
    assert {item.reason for item in done.order.items} == {"by mistake"}
    assert done.order.version == made.version + 1
    assert await state(laboratory, made.items[0].specimen_id) == ("cancelled", "unavailable")
    assert await laboratory.count("specimen_event", "action = 'cancel' and reason = 'by mistake'") == 1
    assert await laboratory.count("audit_event", "action = 'cancel' and entity_id = $1", made.id) == 1
    await laboratory.order(order(barcode="B1"))  # its barcode is free
    again = await cancel(laboratory, made)
    assert (again.cancelled, again.order) == ((), done.order)


async def test_a_specimen_that_was_taken_stays_and_so_does_one_that_is_still_needed(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB", "WBC"))
    taken = (await add(laboratory, made, specimen=NewSpecimen(("GLU",)))).items[2]
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.specimen set state = 'collected' where id = $1", taken.specimen_id)
    done = await cancel(laboratory, made, item_ids=[made.items[0].id, taken.id])
    assert not done.order.cancelled
    assert await state(laboratory, made.items[0].specimen_id) == ("expected", "available")
    assert await state(laboratory, taken.specimen_id) == ("collected", "available")


@pytest.mark.parametrize("status", list(ItemStatus))
async def test_what_may_be_cancelled_is_one_rule(laboratory: Laboratory, status: ItemStatus) -> None:
    made = await laboratory.order(order("HGB", "WBC"))
    await put(laboratory, made.items[0].id, status)
    goes = status in (ItemStatus.REQUESTED, ItemStatus.COLLECTED, ItemStatus.RECEIVED)
    closed = status in (ItemStatus.CANCELLED, ItemStatus.REJECTED)
    named = [made.items[0].id, made.items[1].id]
    if not goes and status is not ItemStatus.CANCELLED:
        with pytest.raises(IllegalStep, match="nothing was cancelled: HGB"):
            await cancel(laboratory, made, item_ids=named)
        assert (await seen(laboratory, made, Audience.STAFF)).items[1].status is ItemStatus.REQUESTED
    done = await cancel(laboratory, made)
    now = [item.status for item in done.order.items]
    assert now == [ItemStatus.CANCELLED if goes else status, ItemStatus.CANCELLED]
    assert done.order.cancelled is (goes or closed)
    assert bool(done.kept) is (not goes and status is not ItemStatus.CANCELLED)
    if status is ItemStatus.IN_PROGRESS:
        last = await cancel(laboratory, made, in_progress=True)
        assert last.order.cancelled


async def test_a_result_of_a_cancelled_item_cannot_be_released(laboratory: Laboratory) -> None:
    made = await laboratory.order()
    result_id = await laboratory.result(made, held=(HoldReason.QUESTIONABLE,))
    await cancel(laboratory, made)
    async with transaction(laboratory) as connection:
        with pytest.raises(ReviewError, match="the order item is cancelled"):
            await review.release(connection, laboratory.technologist, result_id, "seen", None, accept_hold=True)


async def test_what_is_released_stays(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB", "WBC"))
    result_id = await laboratory.result(made)
    async with transaction(laboratory) as connection:
        await review.release(connection, laboratory.technologist, result_id)
    done = await cancel(laboratory, made)
    assert (done.cancelled, done.kept) == (("WBC",), ("HGB: verified",))
    assert not done.order.cancelled
    async with transaction(laboratory) as connection:
        kept = await lab.get_result(connection, result_id, Audience.EMR)
    assert kept is not None
    assert kept.status is ResultStatus.FINAL
    with pytest.raises(OrderError, match="nothing can be cancelled: HGB: verified"):
        await cancel(laboratory, made)


async def test_an_emr_learns_nothing_of_an_unreleased_result_by_cancelling(laboratory: Laboratory) -> None:
    """Being measured and having been measured are told in the same words, and show the same."""
    emr = Actor(ActorKind.CLIENT, uuid7(), "emr", laboratory.organization_id)
    told = []
    for status in (ItemStatus.IN_PROGRESS, ItemStatus.COMPLETED):
        made = await laboratory.order(order("HGB", "WBC"))
        await laboratory.result(made, held=(HoldReason.QUESTIONABLE,))
        await put(laboratory, made.items[0].id, status)
        async with transaction(laboratory) as connection:
            done = await order_changes.cancel(connection, emr, made.id, "moved", audience=Audience.EMR)
            assert done.order == await lab.get_order(connection, made.id, Audience.EMR)
        told.append((done.kept, done.cancelled, [item.status for item in done.order.items], done.order.version))
    assert told[0] == told[1]
    assert told[0][0] == ("HGB: in progress",)


async def test_an_order_sent_again_by_an_emr_shows_it_what_it_may_see(laboratory: Laboratory) -> None:
    emr = Actor(ActorKind.CLIENT, uuid7(), "emr", laboratory.organization_id)
    new = order(placer_number="EMR-9")
    made = await laboratory.order(new)
    await laboratory.result(made)  # completes the item; nobody has released it
    async with transaction(laboratory) as connection:
        again = await orders.create_order(connection, emr, new, Audience.EMR)
    assert [item.status for item in again.items] == [ItemStatus.REQUESTED]


async def test_of_two_who_cancel_at_once_one_does(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB", "WBC"))
    done = await asyncio.gather(*(cancel(laboratory, made) for _ in range(4)))
    assert sorted(len(one.cancelled) for one in done) == [0, 0, 0, 2]
    assert len({one.order for one in done}) == 1
    assert await laboratory.count("audit_event", "action = 'cancel' and entity_id = $1", made.id) == 1


async def test_cancelling_needs_a_reason_a_permission_and_an_order(laboratory: Laboratory) -> None:
    made = await laboratory.order()
    for reason in ("", "  ", "a\x07", "x" * 1001):
        with pytest.raises(OrderError):
            await cancel(laboratory, made, reason)
    with pytest.raises(OrderError, match="no item"):
        await cancel(laboratory, made, item_ids=[uuid7()])
    with pytest.raises(OrderError, match="no order") as caught:
        await cancel(laboratory, replace(made, id=uuid7()))
    assert caught.value.missing
    viewer = user(laboratory.organization_id, Role.VIEWER)
    async with transaction(laboratory) as connection:
        with pytest.raises(ApiError, match="order:write"):
            await order_changes.cancel(connection, viewer, made.id, "because")
        with pytest.raises(ApiError, match="order:write"):
            await order_changes.add(connection, viewer, made.id, ["WBC"], specimen_id=made.items[0].specimen_id)


async def test_one_laboratory_cannot_cancel_anothers_order(
    laboratory: Laboratory, other_organization: Organization
) -> None:
    other = await found(laboratory.database, other_organization.id)
    theirs = await other.order(replace(order(), patient=patient("P1")))
    with pytest.raises(OrderError, match="no order"):
        await cancel(laboratory, theirs)
    assert not (await seen(other, theirs, Audience.STAFF)).cancelled

"""The worklist and worksheets over real PostgreSQL: order, entry by the way an analyzer's values go, completion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from interface.domain.facts import QcState
from interface.domain.model import ItemStatus, Origin, Priority, ResultStatus
from interface.domain.permissions import Role
from interface.domain.specimens import RejectReason
from interface.domain.views import Actor, ActorKind, Audience, OrderView
from interface.errors import ApiError
from interface.flow import order_changes, review, specimens, worksheets
from interface.flow.orders import NewSpecimen
from interface.flow.problems import OrderError
from interface.flow.worksheets import PlaceEntry
from interface.store import follow_ups, lab
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from interface.store.worksheets import WorkFilter, WorksheetState, WorksheetView, pending
from tests.conftest import Organization
from tests.records import Laboratory, found, order, user

NOW = datetime.now(UTC)
GLUCOSE = WorkFilter(test_codes=("GLU",))


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


@asynccontextmanager
async def transaction(laboratory: Laboratory) -> AsyncIterator[Connection]:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        yield connection


async def received(laboratory: Laboratory, *tests: str, hours: int = 1, **changed: object) -> OrderView:
    """An order whose specimen came so many hours ago."""
    one = NewSpecimen(tests or ("GLU",), received_at=NOW - timedelta(hours=hours))
    return await laboratory.order(replace(order(), specimens=(one,), **changed))  # type: ignore[arg-type]


async def build(laboratory: Laboratory, filter: WorkFilter = GLUCOSE, **options: Any) -> WorksheetView:
    async with transaction(laboratory) as connection:
        return await worksheets.build(connection, options.pop("actor", laboratory.technologist), filter, **options)


async def enter(laboratory: Laboratory, sheet: WorksheetView, *entries: PlaceEntry, **options: Any) -> WorksheetView:
    async with transaction(laboratory) as connection:
        after, _ = await worksheets.enter(connection, laboratory.technologist, sheet.id, entries, **options)
    return after


async def complete(laboratory: Laboratory, sheet: WorksheetView, **options: Any) -> WorksheetView:
    async with transaction(laboratory) as connection:
        return await worksheets.complete(connection, laboratory.technologist, sheet.id, **options)


async def waiting(laboratory: Laboratory, **chosen: Any) -> list[UUID]:
    async with transaction(laboratory) as connection:
        return [one.item_id for one in await pending(connection, WorkFilter(**chosen))]


async def statuses(laboratory: Laboratory, made: OrderView, audience: Audience = Audience.STAFF) -> list[str]:
    async with transaction(laboratory) as connection:
        view = await lab.get_order(connection, made.id, audience)
    assert view is not None
    return [item.status.value for item in view.items]


# ---- the worklist ---------------------------------------------------------------------------------------------------


async def test_the_worklist_is_by_priority_then_by_age(laboratory: Laboratory) -> None:
    made = [
        await received(laboratory, hours=hours, priority=priority)
        for hours, priority in (
            (1, Priority.ROUTINE), (5, Priority.ROUTINE), (1, Priority.PREOP), (2, Priority.STAT), (3, Priority.STAT),
            (9, Priority.CALLBACK), (1, Priority.ASAP),
        )
    ]  # fmt: skip
    in_order = [made[at].items[0].id for at in (4, 3, 6, 5, 2, 1, 0)]
    assert await waiting(laboratory) == in_order
    assert await waiting(laboratory, limit=2) == in_order[:2]
    assert await waiting(laboratory, priorities=(Priority.STAT,)) == in_order[:2]


async def test_the_worklist_is_filtered_and_shows_only_what_waits(laboratory: Laboratory) -> None:
    ward = await received(laboratory, "GLU", "HGB", ward="3B")
    await laboratory.result(ward)  # of GLU: completed
    expected = await laboratory.order(order("WBC"))
    haemoglobin, leukocytes = ward.items[1].id, expected.items[0].id
    assert set(await waiting(laboratory)) == {haemoglobin, leukocytes}
    assert await waiting(laboratory, wards=("3B",)) == [haemoglobin]
    assert await waiting(laboratory, test_codes=("WBC",)) == [leukocytes]
    assert await waiting(laboratory, statuses=(ItemStatus.RECEIVED,)) == [haemoglobin]
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.test set department = 'haematology' where code = 'HGB'")
        await connection.execute(
            "insert into lab.code_map (id, organization_id, driver, code, test_id, origin) values"
            " ($1, $2, 'generic_lis2', 'WBC', $3, 'site')",
            uuid7(), laboratory.organization_id, laboratory.tests["WBC"],
        )  # fmt: skip
    assert await waiting(laboratory, departments=("haematology",)) == [haemoglobin]
    assert await waiting(laboratory, analyzers=("hema",)) == [leukocytes]
    assert await waiting(laboratory, analyzers=("other",)) == []
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.code_map set ended_at = now()")
        [one] = await pending(connection, WorkFilter(wards=("3B",)))
    assert await waiting(laboratory, analyzers=("hema",)) == []
    assert (one.order_number, one.test_code, one.barcode, one.worksheet) == (
        ward.number, "HGB", ward.items[1].barcode, "",
    )  # fmt: skip


# ---- worksheets -----------------------------------------------------------------------------------------------------


async def test_a_worksheet_keeps_the_order_and_takes_its_items_in_hand(laboratory: Laboratory) -> None:
    old, stat, new = (
        await received(laboratory, hours=5),
        await received(laboratory, hours=1, priority=Priority.STAT),
        await received(laboratory, hours=2),
    )
    other = await received(laboratory, "HGB")
    await laboratory.order(order("GLU"))  # not received
    sheet = await build(laboratory, name="glucose, morning")
    assert [item.item_id for item in sheet.items] == [one.items[0].id for one in (stat, old, new)]
    assert [item.place for item in sheet.items] == [1, 2, 3]
    assert sheet.number == f"W{NOW.year}-00001"
    assert (sheet.name, sheet.state, sheet.test_code, sheet.created_by) == (
        "glucose, morning", WorksheetState.OPEN, "GLU", "vera",
    )  # fmt: skip
    assert await statuses(laboratory, old) == ["in_progress"]
    assert await statuses(laboratory, other) == ["received"]
    async with transaction(laboratory) as connection:
        assert {one.worksheet for one in await pending(connection, GLUCOSE)} == {sheet.number, ""}
    with pytest.raises(OrderError, match="nothing waits"):
        await build(laboratory)
    later = await build(laboratory, expected=True)
    assert len(later.items) == 1


async def test_an_emr_does_not_see_that_an_item_is_on_a_worksheet_or_measured(laboratory: Laboratory) -> None:
    made = await received(laboratory)
    async with transaction(laboratory) as connection:
        before = await lab.get_order(connection, made.id, Audience.EMR)
    sheet = await build(laboratory)
    await enter(laboratory, sheet, PlaceEntry(1, "5.4"))
    await complete(laboratory, sheet)
    async with transaction(laboratory) as connection:
        assert await lab.get_order(connection, made.id, Audience.EMR) == before
    assert await statuses(laboratory, made) == ["completed"]


async def test_values_are_decided_as_an_analyzers_with_the_user_as_their_origin(laboratory: Laboratory) -> None:
    made = [await received(laboratory, "HGB", hours=hours) for hours in (2, 1)]
    sheet = await build(laboratory, WorkFilter(test_codes=("HGB",)))
    after = await enter(laboratory, sheet, PlaceEntry(2, "135", "g/L"), PlaceEntry(1, "13.5", comment="by hand"))
    assert [(item.value, item.result_unit, item.result_status) for item in after.items] == [
        ("13.5", "g/dL", ResultStatus.PRELIMINARY), ("13.5", "g/dL", ResultStatus.PRELIMINARY),
    ]  # fmt: skip
    assert after.version == sheet.version + 1
    result_id = after.items[0].result_id
    assert result_id is not None
    async with transaction(laboratory) as connection:
        result = await lab.get_result(connection, result_id, Audience.STAFF)
        assert result is not None
        assert (result.order_item_id, result.origin) == (made[0].items[0].id, Origin.MANUAL)
        author = await connection.fetchrow(
            "select actor_kind, actor_id from lab.result_version where id = $1", result.version_id
        )
        await review.release(connection, laboratory.technologist, result_id)
    assert author is not None
    assert tuple(author) == ("user", laboratory.technologist.id)
    assert await statuses(laboratory, made[0], Audience.EMR) == ["verified"]
    again = await enter(laboratory, sheet, PlaceEntry(2, "14"))
    assert again.items[1].value == "14"


async def test_who_enters_a_value_may_say_by_which_method_it_was_measured(laboratory: Laboratory) -> None:
    await received(laboratory, "HGB")
    sheet = await build(laboratory, WorkFilter(test_codes=("HGB",)))
    said = []
    for method in ("", "cyanmethaemoglobin", "", " strip  test"):
        after = await enter(laboratory, sheet, PlaceEntry(1, "13.5", method=method))
        assert after.items[0].result_id is not None
        async with transaction(laboratory) as connection:
            result = await lab.get_result(connection, after.items[0].result_id, Audience.STAFF)
        assert result is not None
        said.append((result.version, result.method))
    assert said == [(1, ""), (2, "cyanmethaemoglobin"), (2, "cyanmethaemoglobin"), (3, "strip test")]
    with pytest.raises(OrderError, match="a method is longer"):
        await enter(laboratory, sheet, PlaceEntry(1, "13.5", method="x" * 201))


async def test_a_waiting_value_that_is_entered_again_by_another_method_is_a_new_version(laboratory: Laboratory) -> None:
    await received(laboratory, "HGB")
    sheet = await build(laboratory, WorkFilter(test_codes=("HGB",)))
    before = await enter(laboratory, sheet, PlaceEntry(1, "13.5", method="cyanmethaemoglobin"))
    result_id = before.items[0].result_id
    assert result_id is not None
    async with transaction(laboratory) as connection:
        await review.release(connection, laboratory.technologist, result_id)
    said = []
    for method in ("cyanmethaemoglobin", "strip test", "", "strip test", "cyanmethaemoglobin"):
        await enter(laboratory, sheet, PlaceEntry(1, "14", method=method))
        async with transaction(laboratory) as connection:
            result = await lab.get_result(connection, result_id, Audience.STAFF)
            waits = await connection.fetchrow(
                """select v.version, v.method from lab.result r join lab.result_version v on v.id = r.pending_version_id
                   where r.id = $1""",
                result_id,
            )
        assert result is not None
        assert waits is not None
        assert (result.value, result.method) == ("13.5", "cyanmethaemoglobin")
        said.append(tuple(waits))
    first = said[0][0]
    assert said == [
        (first, "cyanmethaemoglobin"), *[(first + 1, "strip test")] * 3, (first + 2, "cyanmethaemoglobin"),
    ]  # fmt: skip


async def test_an_entry_is_whole_or_not_at_all_and_names_the_place(laboratory: Laboratory) -> None:
    for hours in (2, 1):
        await received(laboratory, hours=hours)
    sheet = await build(laboratory)
    good = PlaceEntry(1, "5.4")
    for entries, text in (
        ((good, PlaceEntry(3, "1")), "there is no place 3"),
        ((good, replace(good, value="5.5")), "a place is entered twice"),
        ((), "nothing is entered"),
        ((good, PlaceEntry(2, " ")), "place 2: "),
    ):
        with pytest.raises(OrderError, match=text):
            await enter(laboratory, sheet, *entries)
    with pytest.raises(OrderError, match="version 7 was looked at") as caught:
        await enter(laboratory, sheet, good, version=7)
    assert caught.value.conflict
    assert await laboratory.count("result", "true") == 0


async def test_completing_needs_every_value_or_a_reason_and_keeps_the_state_of_qc(laboratory: Laboratory) -> None:
    class Gate:
        def state(self, analyzer: str, test: str, at: datetime | None) -> QcState:
            return {"GLU": QcState.WARN}[test]

    measured, left = await received(laboratory, hours=2), await received(laboratory, hours=1)
    sheet = await build(laboratory)
    await enter(laboratory, sheet, PlaceEntry(1, "5.4"))
    with pytest.raises(OrderError, match="not measured: 2; say why"):
        await complete(laboratory, sheet)
    done = await complete(laboratory, sheet, unmeasured="too little", note="lot 7", qc=Gate())
    assert (done.state, done.qc, done.note, done.completed_by) == (WorksheetState.COMPLETED, "warn", "lot 7", "vera")
    assert await statuses(laboratory, measured) == ["completed"]
    assert await statuses(laboratory, left) == ["received"]
    for step in (enter(laboratory, sheet, PlaceEntry(2, "5")), complete(laboratory, sheet)):
        with pytest.raises(OrderError, match="is completed"):
            await step
    assert [item.item_id for item in (await build(laboratory)).items] == [left.items[0].id]
    assert await laboratory.count("audit_event", "entity_id = $1 and actor_name = 'vera'", sheet.id) == 3
    unknown = await complete(laboratory, await build_one_more(laboratory), unmeasured="later")
    assert unknown.qc == "unknown"  # nobody says that it is in order


async def build_one_more(laboratory: Laboratory) -> WorksheetView:
    await received(laboratory, "HGB")
    return await build(laboratory, WorkFilter(test_codes=("HGB",)))


async def test_what_is_rejected_or_cancelled_leaves_its_worksheet(laboratory: Laboratory) -> None:
    gone, cancelled, stays = [await received(laboratory, hours=hours) for hours in (3, 2, 1)]
    sheet = await build(laboratory)
    async with transaction(laboratory) as connection:
        specimen_id = gone.items[0].specimen_id
        assert specimen_id is not None
        await specimens.reject(connection, laboratory.technologist, specimen_id, RejectReason.CLOTTED)
        await order_changes.cancel(connection, laboratory.technologist, cancelled.id, "moved", in_progress=True)
        now = await worksheets.view(connection, sheet.id)
    assert [(item.status.value, item.open) for item in now.items] == [
        ("rejected", False), ("cancelled", False), ("in_progress", True),
    ]  # fmt: skip
    with pytest.raises(OrderError, match="place 1 was taken off"):
        await enter(laboratory, sheet, PlaceEntry(1, "5"))
    await enter(laboratory, sheet, PlaceEntry(3, "5"))
    await complete(laboratory, sheet)
    assert await statuses(laboratory, stays) == ["completed"]


async def test_two_worksheets_built_at_once_share_no_item(laboratory: Laboratory) -> None:
    made = {(await received(laboratory)).items[0].id for _ in range(6)}
    built = await asyncio.gather(
        *(build(laboratory, replace(GLUCOSE, limit=4)) for _ in range(3)), return_exceptions=True
    )
    sheets = [one for one in built if isinstance(one, WorksheetView)]
    assert all(isinstance(one, WorksheetView | OrderError) for one in built)
    taken = [item.item_id for sheet in sheets for item in sheet.items]
    assert len(taken) == len(set(taken))
    assert set(taken) <= made


async def test_what_is_no_worksheet_is_refused(laboratory: Laboratory) -> None:
    await received(laboratory)
    for filter, text in (
        (WorkFilter(), "of an analyzer, of tests or of a department"),
        (WorkFilter(test_codes=("NOPE",)), 'no test "NOPE"'),
        (WorkFilter(analyzers=("nope",)), 'no analyzer "nope"'),
        (replace(GLUCOSE, limit=401), "from 1 to 400 items"),
    ):
        with pytest.raises(OrderError, match=text):
            await build(laboratory, filter)
    with pytest.raises(ApiError, match="worksheet:write"):
        await build(laboratory, actor=user(laboratory.organization_id, Role.PHLEBOTOMIST))


async def test_one_laboratory_does_not_see_anothers_work(
    laboratory: Laboratory, other_organization: Organization
) -> None:
    other = await found(laboratory.database, other_organization.id)
    await received(other)
    sheet = await build(other)
    assert await waiting(laboratory) == []
    with pytest.raises(OrderError, match="nothing waits"):
        await build(laboratory)
    with pytest.raises(OrderError, match="no such worksheet"):
        await complete(laboratory, sheet)


async def _rejected(laboratory: Laboratory, result_id: UUID) -> None:
    async with transaction(laboratory) as connection:
        await review.reject(connection, laboratory.technologist, result_id, "wrong tube")


async def _retracted(laboratory: Laboratory, result_id: UUID) -> None:
    async with transaction(laboratory) as connection:
        await review.release(connection, laboratory.technologist, result_id)
        await review.retract(connection, laboratory.technologist, result_id, "wrong tube")


async def _run_again(laboratory: Laboratory, result_id: UUID) -> None:
    async with transaction(laboratory) as connection:
        await review.rerun(connection, laboratory.technologist, result_id, "sure?")


@pytest.mark.parametrize("step", [_rejected, _retracted, _run_again])
async def test_what_is_to_be_measured_again_is_taken_on_a_worksheet(
    laboratory: Laboratory, step: Callable[[Laboratory, UUID], Awaitable[None]]
) -> None:
    """It was in progress, on no worksheet, and no worksheet took it: what is measured by hand could not be entered."""
    made = await received(laboratory)
    sheet = await build(laboratory)
    after = await enter(laboratory, sheet, PlaceEntry(1, "5.4"))
    await complete(laboratory, sheet)
    [result_id] = [item.result_id for item in after.items if item.result_id]
    await step(laboratory, result_id)
    assert await waiting(laboratory) == [made.items[0].id]
    again = await build(laboratory)
    assert [(item.item_id, item.value) for item in again.items] == [(made.items[0].id, "")]
    with pytest.raises(OrderError, match="not measured: 1; say why"):
        await complete(laboratory, again)
    await enter(laboratory, again, PlaceEntry(1, "5.6"))
    await complete(laboratory, again)
    assert await waiting(laboratory) == []


@pytest.mark.parametrize("is_out", [False, True], ids=["held", "released"])
@pytest.mark.parametrize("value", ["5.4", "5.6"])
async def test_what_is_entered_after_a_rerun_was_asked_for_is_that_run(
    laboratory: Laboratory, value: str, is_out: bool
) -> None:
    """The same value was no new version: the first run waited on for it, held, and nothing said that it had come."""
    made = await received(laboratory)
    sheet = await enter(laboratory, await build(laboratory), PlaceEntry(1, "5.4"))
    first = sheet.items[0].result_id
    assert first is not None
    if is_out:
        async with transaction(laboratory) as connection:
            await review.release(connection, laboratory.technologist, first)
    await complete(laboratory, sheet)
    await _run_again(laboratory, first)
    again = await enter(laboratory, await build(laboratory), PlaceEntry(1, value))
    [item] = again.items
    assert (item.value, item.result_id != first) == (value, True)
    corrected = await enter(laboratory, again, PlaceEntry(1, "5.7"))  # it was mistyped
    assert [(one.value, one.result_id) for one in corrected.items] == [("5.7", item.result_id)]
    async with transaction(laboratory) as connection:
        asked = await follow_ups.of_result(connection, first)
    assert [one.state for one in asked] == ["done"]
    await complete(laboratory, again)
    assert (await waiting(laboratory), await statuses(laboratory, made)) == (
        [],
        ["verified" if is_out else "completed"],
    )


async def test_what_is_reported_is_no_new_request_when_a_worksheet_is_completed_without_its_rerun(
    laboratory: Laboratory,
) -> None:
    """It was received once more, to EMRs too, and a hospital could cancel the test whose result it has."""
    made = await received(laboratory)
    sheet = await enter(laboratory, await build(laboratory), PlaceEntry(1, "5.4"))
    first = sheet.items[0].result_id
    assert first is not None
    async with transaction(laboratory) as connection:
        await review.release(connection, laboratory.technologist, first)
    await complete(laboratory, sheet)
    await _run_again(laboratory, first)
    await complete(laboratory, await build(laboratory), unmeasured="no reagent")
    assert await statuses(laboratory, made, Audience.EMR) == ["in_progress"]
    emr = Actor(ActorKind.CLIENT, uuid7(), "emr", laboratory.organization_id)
    async with transaction(laboratory) as connection:
        with pytest.raises(OrderError, match="nothing can be cancelled"):
            await order_changes.cancel(connection, emr, made.id, "no more", audience=Audience.EMR)
    assert [item.item_id for item in (await build(laboratory)).items] == [made.items[0].id]


async def test_what_the_laboratory_never_got_is_not_said_to_be_received_when_its_worksheet_is_completed(
    laboratory: Laboratory,
) -> None:
    """EMRs were told that it is here, and the next worksheet, and analyzers, were given it as what is there."""
    made = await laboratory.order(order("GLU"))
    taken = await laboratory.order(order("GLU"))
    specimen_id = taken.items[0].specimen_id
    assert specimen_id is not None
    async with transaction(laboratory) as connection:
        await specimens.collect(connection, laboratory.technologist, specimen_id, at=NOW)
    sheet = await build(laboratory, expected=True)
    await complete(laboratory, sheet, unmeasured="it never came")
    for audience in (Audience.STAFF, Audience.EMR):
        assert [await statuses(laboratory, one, audience) for one in (made, taken)] == [["requested"], ["collected"]]
    with pytest.raises(OrderError, match="nothing waits"):
        await build(laboratory)

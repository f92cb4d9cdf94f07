"""The whole loop of a critical result over a real database: opened, called, told, read back, closed, taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from interface import telemetry
from interface.domain.critical import Kind, Means, Obstacle, State
from interface.domain.model import RELEASED, ResultStatus
from interface.domain.permissions import Role
from interface.domain.review import Refusal, ReviewError
from interface.flow import criticals, people
from interface.flow.critical_watch import count_criticals
from interface.flow.criticals import Told
from interface.store import criticals as store
from interface.store import lab_changes
from interface.store.criticals import CriticalView, Judged
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.records import Laboratory, found, patient, user

SETTLED = RELEASED | {ResultStatus.CANCELLED, ResultStatus.ENTERED_IN_ERROR}
TOLD = Told("ward 3, nurse Meier", read_back=True)


@dataclass(frozen=True, slots=True)
class Desk:
    laboratory: Laboratory

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.laboratory.database.transaction(self.laboratory.organization_id) as connection:
            yield connection

    async def critical(self, value: str = "7.0", **options: object) -> tuple[UUID, UUID]:
        """A result with a critical value, its task opened; (result, version)."""
        result_id = await self.laboratory.result(await self.laboratory.order(), value, **options)  # type: ignore[arg-type]
        version_id = await self.version_of(result_id)
        await self.judge(Judged(result_id, version_id, critical=True, fresh=True))
        return result_id, version_id

    async def version_of(self, result_id: UUID) -> UUID:
        async with self.transaction() as connection:
            version: UUID = await connection.fetchval("select version_id from lab.result where id = $1", result_id)
        return version

    async def judge(self, *judged: Judged) -> None:
        async with self.transaction() as connection:
            await criticals.open_for(connection, self.laboratory.technologist, judged)

    async def again(
        self, result_id: UUID, value: str, critical: bool, status: ResultStatus = ResultStatus.FINAL, number: int = 2
    ) -> None:
        """The next version of a result."""
        version_id = await self.laboratory.version(result_id, value, number, status, ())
        async with self.transaction() as connection:
            await connection.execute(
                "update lab.result set version_id = $2, version = $3, status = $4 where id = $1",
                result_id, version_id, number, status.value,
            )  # fmt: skip
        await self.judge(Judged(result_id, version_id, critical, settled=status in SETTLED))

    async def tasks(self) -> list[CriticalView]:
        async with self.transaction() as connection:
            return await store.find(connection)

    async def task(self) -> CriticalView:
        (task,) = await self.tasks()
        return task

    async def tell(self, task: CriticalView, told: Told = TOLD, **options: object) -> CriticalView:
        async with self.transaction() as connection:
            return await criticals.notify(
                connection, self.laboratory.technologist, task.id, told, **options  # type: ignore[arg-type]
            )  # fmt: skip

    async def close(self, task: CriticalView) -> CriticalView:
        async with self.transaction() as connection:
            return await criticals.close(connection, self.laboratory.technologist, task.id)

    async def events(self, task: CriticalView) -> list[str]:
        async with self.transaction() as connection:
            _, events = await criticals.show(connection, task.id)
        return [event.what for event in events]


@pytest.fixture
async def desk(database: Database, organization: Organization) -> Desk:
    return Desk(await found(database, organization.id))


async def test_from_the_critical_value_to_the_closed_task(desk: Desk) -> None:
    result_id, version_id = await desk.critical()
    task = await desk.task()
    assert (task.kind, task.state, task.result_id, task.result_version_id) == (
        "critical",
        "open",
        result_id,
        version_id,
    )
    assert (task.value, task.unit, task.patient, task.level) == ("7.0", "g/dL", "Muster, Eva", 0)
    assert [at - task.opened_at for at in task.escalate_at] == [timedelta(minutes=after) for after in (15, 30, 60)]
    async with desk.transaction() as connection:
        tried = await criticals.attempt(connection, desk.laboratory.technologist, task.id, Obstacle.NO_ANSWER)
    assert (tried.state, tried.attempts) == (State.ATTEMPTED, 1)
    told = await desk.tell(tried, version=tried.version)
    assert (told.state, told.notified, told.means, told.read_back) == ("notified", "ward 3, nurse Meier", "phone", True)
    assert told.notified_at is not None
    closed = await desk.close(told)
    assert closed.state is State.CLOSED
    assert closed.closed_at is not None
    assert await desk.close(closed) == closed
    assert await desk.events(closed) == ["opened", "attempted", "notified", "closed"]
    for action in ("open", "attempted", "notified", "closed"):
        assert await desk.laboratory.count(
            "audit_event", "entity_id = $1 and action = $2", task.id, f"critical.{action}"
        )


async def test_who_called_before_there_was_another_value_has_not_told_it(desk: Desk) -> None:
    """A call takes minutes. What the analyzer sends meanwhile is what is to be told then."""
    result_id, _ = await desk.critical("7.2")
    listed = await desk.task()
    await desk.again(result_id, "8.4", critical=True)
    with pytest.raises(ReviewError, match=r"what is to be told has changed at .*: version 2 says 8\.4 g/dL"):
        await desk.tell(listed)
    now = await desk.task()
    assert (now.state, now.value, now.version) == (State.OPEN, "8.4", 2)
    assert (await desk.tell(now, version=now.version)).state is State.NOTIFIED


async def test_it_is_closed_only_when_it_was_told_and_read_back(
    desk: Desk, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await desk.critical()
    task = await desk.task()
    with pytest.raises(ReviewError, match="the task is open; it is closed once somebody was told"):
        await desk.close(task)
    with pytest.raises(ReviewError, match="say who was told"):
        await desk.tell(task, Told(" "))
    told = await desk.tell(task, Told("ward 3"))
    assert (told.state, told.read_back) == (State.NOTIFIED, False)
    with pytest.raises(ReviewError, match="not read back"):
        await desk.close(told)
    async with desk.transaction() as connection:
        assert await criticals.waiting(connection) == [told]
    again = await desk.tell(told, Told("Dr Weber", read_back=True))
    with pytest.raises(ReviewError, match="read back already"):
        await desk.tell(again)
    assert (await desk.close(again)).notified == "Dr Weber"
    # The database says so too, whatever a program does.
    for wrong in ("notified = ''", "notified_at = null", "read_back = false", "closed_at = null"):
        statement = " ".join(("update lab.critical_notification set", wrong, "where id = $1"))
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute(statement, task.id)


async def test_the_same_version_again_makes_no_second_task(desk: Desk) -> None:
    result_id, version_id = await desk.critical()
    for fresh in (True, False):
        await desk.judge(Judged(result_id, version_id, critical=True, fresh=fresh))
    assert await desk.events(await desk.task()) == ["opened"]


async def test_two_transactions_that_open_at_once_make_one_task(desk: Desk) -> None:
    result_id = await desk.laboratory.result(await desk.laboratory.order(), "7.0")
    version_id = await desk.version_of(result_id)
    gate = asyncio.Barrier(2)

    async def open_one() -> None:
        async with desk.transaction() as connection:
            await gate.wait()
            await lab_changes.lock_result(connection, result_id)
            await criticals.open_for(connection, desk.laboratory.technologist, [Judged(result_id, version_id, True)])

    await asyncio.gather(open_one(), open_one())
    assert await desk.events(await desk.task()) == ["opened"]


async def test_what_the_transaction_takes_back_has_no_task(desk: Desk) -> None:
    result_id = await desk.laboratory.result(await desk.laboratory.order(), "7.0")
    version_id = await desk.version_of(result_id)
    with pytest.raises(RuntimeError):
        async with desk.transaction() as connection:
            await criticals.open_for(connection, desk.laboratory.technologist, [Judged(result_id, version_id, True)])
            raise RuntimeError
    assert await desk.tasks() == []


async def test_a_value_that_is_not_critical_asks_the_database_nothing() -> None:
    fresh = Judged(uuid7(), uuid7(), critical=False, fresh=True)
    waits = Judged(uuid7(), uuid7(), critical=False, pending=True)
    await criticals.open_for(None, None, [fresh, waits])  # type: ignore[arg-type]


async def test_the_runs_of_one_item_are_one_call(desk: Desk) -> None:
    order = await desk.laboratory.order()
    runs = [await desk.laboratory.result(order, value) for value in ("7.0", "7.1")]
    await desk.judge(*[Judged(run, await desk.version_of(run), critical=True, fresh=True) for run in runs])
    task = await desk.task()
    assert (task.value, task.result_id) == ("7.1", runs[1])
    assert await desk.events(task) == ["opened", "aimed"]


async def test_a_correction_that_is_critical_too_must_be_told_again(desk: Desk) -> None:
    result_id, _ = await desk.critical("7.0")
    first = await desk.close(await desk.tell(await desk.task()))
    await desk.again(result_id, "7.0", critical=True)  # the same, released: nothing new
    assert len(await desk.tasks()) == 1
    await desk.again(result_id, "8.5", critical=True, number=3)
    _, second = await desk.tasks()
    assert (second.follows_id, second.kind, second.value, second.state) == (first.id, "critical", "8.5", "open")


async def test_a_correction_that_is_not_critical_must_be_told_too(desk: Desk) -> None:
    result_id, _ = await desk.critical("7.0")
    first = await desk.close(await desk.tell(await desk.task()))
    await desk.again(result_id, "4.1", critical=False)
    _, second = await desk.tasks()
    assert (second.follows_id, second.kind, second.value) == (first.id, Kind.NO_LONGER, "4.1")
    await desk.close(await desk.tell(second))
    await desk.again(result_id, "4.2", critical=False, number=3)
    assert len(await desk.tasks()) == 2


async def test_what_was_told_and_not_read_back_is_told_anew_by_the_same_task(desk: Desk) -> None:
    result_id, _ = await desk.critical("7.0")
    await desk.tell(await desk.task(), Told("ward 3"))
    await desk.again(result_id, "4.1", critical=False)
    task = await desk.task()
    assert (task.kind, task.state, task.notified, task.notified_at) == (Kind.NO_LONGER, State.OPEN, "", None)
    assert await desk.events(task) == ["opened", "notified", "aimed"]


async def test_only_what_nobody_has_seen_or_heard_is_withdrawn(desk: Desk) -> None:
    held, _ = await desk.critical("7.0", status=ResultStatus.REGISTERED, held=("questionable",))
    await desk.again(held, "4.1", critical=False, status=ResultStatus.CANCELLED)
    assert (await desk.task()).state is State.WITHDRAWN
    seen, _ = await desk.critical("7.0")
    await desk.again(seen, "4.1", critical=False, status=ResultStatus.CANCELLED)
    assert [(task.state, task.kind) for task in await desk.tasks()] == [
        (State.WITHDRAWN, Kind.CRITICAL),
        (State.OPEN, Kind.NO_LONGER),
    ]


async def test_who_is_overdue_is_a_query(desk: Desk, owner: asyncpg.Connection[asyncpg.Record]) -> None:
    await desk.critical()
    await desk.critical()
    first, second = await desk.tasks()
    await owner.execute(
        "update lab.critical_notification set escalate_at = array[now() - interval '9 min', now() - interval '1 min',"
        " now() + interval '1 hour'] where id = $1", first.id,
    )  # fmt: skip
    async with desk.transaction() as connection:
        overdue = await criticals.waiting(connection, overdue=True)
        assert [(task.id, task.level) for task in overdue] == [(first.id, 2)]
        assert await store.levels(connection) == {0: 1, 2: 1}
    await desk.tell(first, Told("ward 3"))
    async with desk.transaction() as connection:
        assert len(await criticals.waiting(connection, overdue=True)) == 1, "told is not read back"
    async with desk.transaction() as connection:
        await criticals.notify(connection, desk.laboratory.technologist, first.id, TOLD)
        assert await criticals.waiting(connection, overdue=True) == []
        assert await store.levels(connection) == {0: 1}
    assert second.level == 0


async def test_what_was_opened_while_the_clock_was_ahead_is_overdue(
    desk: Desk, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    """How long it waits nobody knows; until that time came nobody was told that nobody was called."""
    await desk.critical()
    await owner.execute(
        "update lab.critical_notification set created_at = created_at + interval '1 year',"
        " aimed_at = aimed_at + interval '1 year',"
        " escalate_at = array(select at + interval '1 year' from unnest(escalate_at) at)"
    )
    async with desk.transaction() as connection:
        [task] = await criticals.waiting(connection, overdue=True)
        assert task.level == len(task.escalate_at) > 0
        assert await store.levels(connection) == {task.level: 1}
    called = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    assert (await desk.tell(task, Told("ward 3", read_back=True, at=called))).notified_at == called


async def test_who_is_overdue_is_a_metric(desk: Desk, owner: asyncpg.Connection[asyncpg.Record]) -> None:
    for _ in range(3):
        await desk.critical()
    task = (await desk.tasks())[0]
    await owner.execute(
        "update lab.critical_notification set escalate_at = array_fill(now(), array[$2::int]) where id = $1", task.id, 2
    )
    laboratory = desk.laboratory
    assert await count_criticals(laboratory.database, [laboratory.organization_id]) == {0: 2, 2: 1}
    page = telemetry.metrics_page()[0].decode()
    for line in ('labora_criticals_waiting{level="0"} 2.0', 'labora_criticals_waiting{level="2"} 1.0'):
        assert line in page
    await desk.close(await desk.tell(task))
    await count_criticals(laboratory.database, [laboratory.organization_id])
    assert 'labora_criticals_waiting{level="2"} 0.0' in telemetry.metrics_page()[0].decode()


async def test_the_organization_and_the_test_say_how_long(desk: Desk) -> None:
    test_id = desk.laboratory.tests["HGB"]
    for at, minutes, expected in ((None, [20], 20), (test_id, [5, 10], 5)):
        async with desk.transaction() as connection:
            await connection.execute(
                "insert into lab.review_policy (id, organization_id, test_id, critical_minutes)"
                " values ($1, $2, $3, $4)",
                uuid7(), desk.laboratory.organization_id, at, minutes,
            )  # fmt: skip
        await desk.critical()
        task = (await desk.tasks())[-1]
        assert task.escalate_at[0] - task.opened_at == timedelta(minutes=expected)


async def test_a_call_is_neither_in_the_future_nor_before_the_value(desk: Desk) -> None:
    await desk.critical()
    task = await desk.task()
    now = datetime.now(UTC)
    for at, says in ((now + timedelta(hours=1), "in the future"), (now - timedelta(hours=1), "the call was before")):
        with pytest.raises(ReviewError, match=says):
            await desk.tell(task, Told("ward 3", at=at))
    minute = now.replace(second=0, microsecond=0)
    assert (await desk.tell(task, Told("ward 3", at=minute, means=Means.IN_PERSON))).notified_at == minute


async def test_what_nobody_was_told_stands_before_what_is_only_to_be_closed(desk: Desk) -> None:
    for _ in range(2):
        await desk.critical()
        (task,) = [one for one in await desk.tasks() if one.state is State.OPEN]
        await desk.tell(task)
    result_id, _ = await desk.critical()
    async with desk.transaction() as connection:
        (first,) = await criticals.waiting(connection, limit=1)
    assert (first.result_id, first.state) == (result_id, State.OPEN)


async def test_who_was_merged_is_called_about_by_the_name_that_the_ward_knows(desk: Desk) -> None:
    await desk.critical()
    laboratory = desk.laboratory
    result = (await desk.task()).result_id
    async with desk.transaction() as connection:
        prior = await connection.fetchval("select patient_id from lab.result where id = $1", result)
        known = await people.create_patient(connection, laboratory.technologist, patient(family="Bekannt"))
        await people.merge(connection, laboratory.technologist, prior, known.id, "brought in without a name")
    task = await desk.task()
    assert (task.patient, task.patient_id) == ("Bekannt, Eva", prior)


async def test_a_practitioner_is_one_of_the_laboratorys(desk: Desk, other_organization: Organization) -> None:
    await desk.critical()
    task = await desk.task()
    other = await found(desk.laboratory.database, other_organization.id)
    ids = []
    for laboratory in (desk.laboratory, other):
        ids.append(uuid7())
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            await connection.execute(
                "insert into lab.practitioner (id, organization_id, family, given) values ($1, $2, 'Weber', 'Ada')",
                ids[-1], laboratory.organization_id,
            )  # fmt: skip
    with pytest.raises(ReviewError, match="no practitioner"):
        await desk.tell(task, Told(practitioner_id=ids[1], read_back=True))
    told = await desk.tell(task, Told(practitioner_id=ids[0], read_back=True))
    assert (told.notified, told.practitioner_id) == ("Ada Weber", ids[0])


async def test_who_may_not_and_who_is_elsewhere(desk: Desk, other_organization: Organization) -> None:
    await desk.critical()
    task = await desk.task()
    for role in (Role.VIEWER, Role.PHLEBOTOMIST, Role.AUDITOR):
        async with desk.transaction() as connection:
            with pytest.raises(ReviewError) as caught:
                await criticals.notify(connection, user(desk.laboratory.organization_id, role), task.id, TOLD)
            assert caught.value.refusal is Refusal.FORBIDDEN
    other = await found(desk.laboratory.database, other_organization.id)
    async with other.database.transaction(other.organization_id) as connection:
        for call in (
            criticals.notify(connection, other.technologist, task.id, TOLD),
            criticals.close(connection, other.technologist, task.id),
            criticals.attempt(connection, other.technologist, task.id, Obstacle.BUSY),
        ):
            with pytest.raises(ReviewError, match="no such critical task"):
                await call
    assert await desk.events(task) == ["opened"]


async def test_of_two_who_call_at_once_one_is_told_that_it_changed(desk: Desk) -> None:
    await desk.critical()
    task = await desk.task()
    calls = (desk.tell(task, TOLD, version=task.version) for _ in range(2))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    (refused,) = [one for one in outcomes if isinstance(one, ReviewError)]
    assert refused.refusal is Refusal.CONFLICT
    assert await desk.events(task) == ["opened", "notified"]

"""Workload and turn-around: counted against a plan that was written down before, medians as by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from interface.domain.statistics import By, Period, Stage, Target, TurnaroundRow, WorkloadRow
from interface.errors import ApiError
from interface.flow import statistics
from interface.flow.problems import OrderError
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.flow.test_reports import done, transaction
from tests.records import Laboratory, found

DAY = datetime(2026, 2, 3, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PERIOD = Period(DAY, DAY + timedelta(days=1), ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True)
class Plan:
    """One result; the times in minutes after midnight, None where not known."""

    test: str = "HGB"
    priority: str = "routine"
    ordered: int = 0
    collected: int | None = 10
    received: int | None = 20
    measured: int = 50
    released: int | None = 60
    status: str = "final"
    by: str = "user"
    reportable: bool = True
    held: tuple[str, ...] = ()


async def lived(laboratory: Laboratory, *plans: Plan) -> None:
    organization_id = laboratory.organization_id

    def at(minutes: int | None) -> datetime | None:
        return DAY + minutes * MINUTE if minutes is not None else None

    async with transaction(laboratory) as connection:
        for plan in plans:
            made = at(plan.measured)
            assert made is not None
            order_id, tube, item, version = uuid7(), uuid7(), uuid7(), uuid7()
            result = uuid7(int(made.timestamp() * 1000))
            test = laboratory.tests[plan.test]
            for statement, values in (
                ("insert into lab.lab_order (id, organization_id, number, priority, ordered_at)"
                 " values ($1,$2,$3,$4,$5)",
                 (order_id, organization_id, str(order_id), plan.priority, at(plan.ordered))),
                ("insert into lab.specimen (id, organization_id, barcode, order_id, collected_at, received_at)"
                 " values ($1,$2,$3,$4,$5,$6)",
                 (tube, organization_id, str(tube)[-12:], order_id, at(plan.collected), at(plan.received))),
                ("insert into lab.order_item (id, organization_id, order_id, test_id, specimen_id)"
                 " values ($1,$2,$3,$4,$5)", (item, organization_id, order_id, test, tube)),
                ("insert into lab.result_version (id, organization_id, result_id, status, kind, actor_kind, test_code)"
                 " values ($1,$2,$3,$4,'numeric',$5,$6)",
                 (version, organization_id, result, "final" if plan.released is not None else plan.status, plan.by,
                  plan.test)),
                ("insert into lab.result (id, organization_id, natural_key, analyzer_id, specimen_id, order_id,"
                 " order_item_id, test_id, version_id, status, held, reportable, created_at, released_at, updated_at)"
                 " values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15)",
                 (result, organization_id, result.bytes, laboratory.analyzer_id, tube, order_id, item, test, version,
                  plan.status, list(plan.held), plan.reportable, made, at(plan.released),
                  at(plan.released) or made)),
            ):  # fmt: skip
                await connection.execute(statement, *values)


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    made = await found(database, organization.id)
    async with transaction(made) as connection:
        await connection.execute("update lab.test set department = 'Haematology' where code in ('HGB', 'WBC')")
    return made


async def test_workload_counts_what_was_planned(laboratory: Laboratory) -> None:
    await lived(
        laboratory, Plan(), Plan(by="rule_set"), Plan(by="rule_set", status="corrected"), Plan(test="GLU"),
        Plan(status="preliminary", released=None, held=("delta",)),
        Plan(status="preliminary", released=None, reportable=False), Plan(status="entered-in-error"),
        Plan(measured=-5, released=5), Plan(measured=24 * 60, released=24 * 60 + 5),  # the days before and after
    )  # fmt: skip
    async with transaction(laboratory) as connection:
        report = await statistics.workload(connection, PERIOD, By.DEPARTMENT)
        assert report.rows == (
            WorkloadRow("", 1, 1, 1, 0, 0, 0, 0, 1, 1),
            WorkloadRow("Haematology", 6, 5, 4, 2, 1, 1, 1, 6, 6),
        )
        assert report.total == WorkloadRow("", 7, 6, 5, 2, 1, 1, 1, 7, 7)
        for by, keys in (
            (By.TEST, ["GLU", "HGB"]), (By.ANALYZER, ["hema"]), (By.PRIORITY, ["routine"]), (By.DAY, ["2026-02-03"]),
        ):  # fmt: skip
            report = await statistics.workload(connection, PERIOD, by)
            assert [row.key for row in report.rows] == keys
            assert sum(row.results for row in report.rows) == report.total.results == 7
        empty = Period(DAY - timedelta(days=9), DAY - timedelta(days=8), ZoneInfo("UTC"))
        assert (await statistics.workload(connection, empty, By.TEST)).total == WorkloadRow("", *(0,) * 9)


def stage(rows: tuple[TurnaroundRow, ...], wanted: Stage, key: str = "") -> TurnaroundRow:
    [row] = [row for row in rows if row.stage is wanted and row.key == key]
    return row


async def test_turnaround_is_as_by_hand_and_leaves_out_what_is_not_known(laboratory: Laboratory) -> None:
    waits = (5, 7, 9, 11, 13, 15, 17, 19, 21, 100)  # minutes from measured to released
    await lived(
        laboratory, *(Plan(released=50 + wait) for wait in waits), Plan(received=None), Plan(collected=30, received=20),
        Plan(released=None, status="preliminary"), Plan(reportable=False),
    )  # fmt: skip
    async with transaction(laboratory) as connection:
        report = await statistics.turnaround(connection, PERIOD, By.TEST)
    row = stage(report.total, Stage.MEASURED_RELEASED)
    # nearest rank of 12: 5 7 9 10 10 11 13 15 17 19 21 100 → the 6th and the 11th
    assert (row.known, row.median, row.p90, row.longest) == (12, 11 * 60, 21 * 60, 100 * 60)
    assert stage(report.rows, Stage.MEASURED_RELEASED, "HGB") == TurnaroundRow(
        "HGB", Stage.MEASURED_RELEASED, 12, 660, 1260, 6000, 0, 0, 0, 0
    )
    received = stage(report.total, Stage.COLLECTED_RECEIVED)
    assert (received.known, received.unknown, received.disordered, received.median) == (10, 1, 1, 600)
    assert [one.stage for one in report.total] == list(Stage)


async def test_the_target_that_says_most_counts(laboratory: Laboratory) -> None:
    await lived(
        laboratory, Plan(priority="stat"), Plan(priority="stat", released=90), Plan(), Plan(test="WBC"),
        Plan(test="GLU", priority="stat"),
    )  # fmt: skip
    whole = Stage.RECEIVED_RELEASED  # 40 minutes of each, 70 of the second
    targets = [
        Target(whole, 30), Target(whole, 45, priority="stat"), Target(whole, 40, department="Haematology"),
        Target(whole, 39, test="WBC"),
    ]  # fmt: skip
    assert list(await done(laboratory, statistics.put_targets, targets)) == sorted(
        targets, key=lambda one: (one.test, one.department, one.priority)
    )
    async with transaction(laboratory) as connection:
        report = await statistics.turnaround(connection, PERIOD, By.TEST)
    met = {row.key: (row.met, row.aimed) for row in report.rows if row.stage is whole}
    assert met == {"HGB": (2, 3), "WBC": (0, 1), "GLU": (1, 1)}
    assert stage(report.total, Stage.ORDERED_RELEASED).aimed == 0
    assert await laboratory.count("audit_event", "entity_kind = 'turnaround_target'") == 1


@pytest.mark.parametrize(
    "wrong",
    [Target(Stage.RECEIVED_RELEASED, 0), Target(Stage.RECEIVED_RELEASED, 60, test="none"),
     Target(Stage.RECEIVED_RELEASED, 60, priority="soon")],
)  # fmt: skip
async def test_a_target_that_means_nothing_is_refused(laboratory: Laboratory, wrong: Target) -> None:
    with pytest.raises(ApiError):
        await done(laboratory, statistics.put_targets, [wrong])
    with pytest.raises(ApiError):
        await done(laboratory, statistics.put_targets, [Target(Stage.RECEIVED_RELEASED, 60)] * 2)


async def test_another_laboratory_counts_its_own(
    laboratory: Laboratory, database: Database, other_organization: Organization
) -> None:
    await lived(laboratory, Plan())
    other = await found(database, other_organization.id)
    async with transaction(other) as connection:
        assert (await statistics.workload(connection, PERIOD, By.TEST)).total.results == 0
        assert (await statistics.turnaround(connection, PERIOD, By.TEST)).total == ()


async def test_days_are_whole_and_of_the_zone(laboratory: Laboratory) -> None:
    now = datetime(2026, 2, 3, 20, tzinfo=UTC)  # the fourth in Jakarta

    async def asked(first: date | None, last: date | None, zone: str = "") -> tuple[Any, Any]:
        async with transaction(laboratory) as connection:
            period = await statistics.period_of(connection, first, last, zone, now)
        return period.begin, period.end

    assert await asked(date(2026, 2, 3), date(2026, 2, 3)) == (DAY, DAY + timedelta(days=1))
    jakarta = timedelta(hours=7)
    assert await asked(date(2026, 2, 3), date(2026, 2, 3), "Asia/Jakarta") == (
        DAY - jakarta,
        DAY - jakarta + timedelta(1),
    )
    assert await asked(None, None) == (DAY - timedelta(days=29), DAY + timedelta(days=1))
    assert await asked(None, None, "Asia/Jakarta") == (
        DAY - timedelta(days=28) - jakarta,
        DAY + timedelta(days=2) - jakarta,
    )
    for first, last in ((date(2026, 2, 4), date(2026, 2, 3)), (date(2024, 1, 1), date(2026, 1, 1))):
        with pytest.raises(ApiError):
            await asked(first, last)
    with pytest.raises(OrderError):
        await asked(None, None, "Mars")

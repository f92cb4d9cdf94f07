"""Charts and monthly reports, read from what the laboratory has."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from interface.domain.qc import Chart, PointKind, QcVerdict, Stream
from interface.domain.qc_report import MonthReport
from interface.domain.qc_state import Plan
from interface.flow import qc_reports
from interface.flow.problems import OrderError
from interface.render.charts import Look, levey_jennings
from interface.render.qc_pdf import pdf
from interface.store import qc_gate, qc_lookback
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.conftest import Organization, make_organization
from tests.qc_records import add_judged, add_lot, add_target
from tests.records import Laboratory, found, order

JAKARTA = ZoneInfo("Asia/Jakarta")
DAY = timedelta(days=1)
# Last month, as the laboratory has it: targets cannot begin in the future.
END = datetime.now(JAKARTA).replace(day=1, hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
BEGIN = (END - DAY).astimezone(JAKARTA).replace(day=1).replace(hour=0).astimezone(UTC)
MONTH = f"{BEGIN.astimezone(JAKARTA):%Y-%m}"
FIRST, LAST = BEGIN.astimezone(JAKARTA).date(), (END - DAY).astimezone(JAKARTA).date()
NOW = END - timedelta(hours=12)


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def chart(laboratory: Laboratory, **said: object) -> Chart:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        made, _ = await qc_reports.chart(
            connection,
            "hema",
            "HGB",
            **{"now": NOW, "zone": JAKARTA, "first": FIRST, "last": LAST} | said,  # type: ignore[arg-type]
        )
    return made


async def month(laboratory: Laboratory, name: str = MONTH) -> MonthReport:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await qc_reports.month(connection, laboratory.technologist, name, zone=JAKARTA, now=NOW)


async def measured(laboratory: Laboratory) -> Stream:
    """Two levels over a month: one failure that was acted upon, one point excluded; points before and after it too."""
    of = laboratory.organization_id
    low, high = await add_lot(laboratory), await add_lot(laboratory, level="", number=2)
    since = BEGIN - 10 * DAY
    first = await add_target(laboratory, "4711/low", "12.0", "0.5", valid_from=since)
    second = await add_target(laboratory, "4711/", "150", "4.0", unit="g/L", valid_from=since)
    ids = await add_judged(laboratory, low, first, ["0.2", "9", "-1", "3.4", "0.1", "2.2", "-4.6"], BEGIN, DAY)
    await add_judged(laboratory, high, second, ["0.5", "-0.5"], BEGIN + timedelta(hours=1), DAY, comment="Suhu 27 °C")
    for at in (BEGIN - timedelta(seconds=1), END):  # outside the month, by as little as can be
        await add_judged(laboratory, low, first, ["0"], at, DAY)
    stream = Stream(laboratory.analyzer_id, laboratory.tests["HGB"])
    async with laboratory.database.transaction(of) as connection:
        await connection.execute(
            "update lab.qc_point set excluded_at = $2, excluded_by_name = 'vera', exclude_reason = 'wrong vial'"
            " where qc_result_id = $1", ids[1], BEGIN + 2 * DAY,
        )  # fmt: skip
        for at, kind, text, id in (
            (BEGIN + 3.5 * DAY, "corrective", "probe rinsed", ids[3]),
            (BEGIN + 5 * DAY, "comment", "lamp is old", None),
            (END, "comment", "of another month", None),
        ):  # fmt: skip
            await connection.execute(
                "insert into lab.qc_action (id, organization_id, analyzer_id, test_id, qc_result_id, kind, text,"
                " actor_kind, actor_name, created_at) values ($1, $2, $3, $4, $5, $6, $7, 'user', 'vera', $8)",
                uuid7(), of, stream.analyzer_id, stream.test_id, id, kind, text, at,
            )  # fmt: skip
        await qc_lookback.begin(connection, of, stream, ids[3], "", BEGIN + 2 * DAY, BEGIN + 3 * DAY, "1-3s")
    return stream


async def test_a_chart_has_the_points_targets_and_deeds_of_its_days(laboratory: Laboratory) -> None:
    await measured(laboratory)
    made = await chart(laboratory)
    assert (made.analyzer, made.module, made.test, made.test_name, made.unit) == (
        "hema",
        "",
        "HGB",
        "Haemoglobin",
        "g/dL",
    )
    assert (made.begin, made.end, made.state) == (BEGIN, END, "unknown")
    assert [(one.level, one.number, one.lot) for one in made.levels] == [
        ("low", 1, "Control 4711"),
        ("2", 2, "Control 4711"),
    ]
    assert len(made.points) == 9, "neither of the points outside"
    assert [one.at for one in made.points] == sorted(one.at for one in made.points)
    [excluded] = [one for one in made.points if one.excluded]
    assert excluded.note == "excluded: wrong vial (vera)" and excluded.rules == ("1-3s",)
    [noted] = [one for one in made.points if one.note == "Suhu 27 °C"]
    assert noted.level == "2"
    worst = made.points[-1]
    assert (worst.z, worst.number, worst.verdict) == (Decimal("-4.6"), Decimal("9.70"), QcVerdict.REJECT)


async def test_targets_in_another_unit_are_drawn_in_the_tests(laboratory: Laboratory) -> None:
    await measured(laboratory)
    made = await chart(laboratory)
    assert [(one.mean, one.sd, one.unit) for level in made.levels for one in level.targets] == [
        (Decimal("12.0"), Decimal("0.5"), "g/dL"), (Decimal("15.0"), Decimal("0.4"), "g/dL"),
    ]  # fmt: skip


async def test_what_changed_and_what_was_done_is_marked_with_who_did_it(laboratory: Laboratory) -> None:
    await measured(laboratory)
    lot, at = await add_lot(laboratory, "4712"), BEGIN + 9 * DAY
    new = await add_target(laboratory, "4712/low", "12.4", "0.5", valid_from=at, valid_to=at + 4 * DAY)
    await add_judged(laboratory, lot, new, ["0.3"], at, DAY)
    await add_target(laboratory, "4712/low", "12.5", "0.5", valid_from=at + 4 * DAY)
    made = await chart(laboratory)
    assert [(one.kind, one.text, one.level) for one in made.marks] == [
        (PointKind.ACTION, "probe rinsed (vera)", "low"),
        (PointKind.COMMENT, "lamp is old (vera)", ""),
        (PointKind.LOT, "Control 4712: 12.4 ± 0.5", "low"),
        (PointKind.TARGET, "12.4 ± 0.5 → 12.5 ± 0.5", "low"),
    ]
    assert [one.lot for one in made.levels] == ["Control 4711", "Control 4712", "Control 4711"]


async def test_a_module_is_asked_for_only_where_there_are_several(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    aim = await add_target(laboratory, "4711/low", valid_from=BEGIN - DAY)
    await add_judged(laboratory, lot, aim, ["1"], BEGIN, DAY, module="A")
    assert (await chart(laboratory)).module == "A"
    await add_judged(laboratory, lot, aim, ["1", "2"], BEGIN, DAY, module="B")
    with pytest.raises(OrderError, match='several modules of hema: say which, of "A", "B"'):
        await chart(laboratory)
    assert len((await chart(laboratory, module="B")).points) == 2
    assert (await chart(laboratory, module="C")).points == ()


async def test_a_chart_is_of_days_in_its_zone(laboratory: Laboratory) -> None:
    made = await chart(laboratory, first=FIRST + DAY, last=FIRST + DAY)
    assert (made.begin, made.end) == (BEGIN + DAY, BEGIN + 2 * DAY)
    made = await chart(laboratory, first=None, last=None, days=3)
    assert (made.begin, made.end) == (END - 3 * DAY, END)
    for said in ({"first": LAST, "last": FIRST}, {"days": 5000}, {"days": 0}, {"last": date.max}, {"first": date.min}):
        with pytest.raises(OrderError):
            await chart(laboratory, **said)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await qc_gate.set_plan(connection, laboratory.organization_id, None, None, Plan(timezone="Asia/Makassar"))
        made, zone = await qc_reports.chart(connection, "hema", "HGB", now=NOW)
    assert (str(zone), made.end) == ("Asia/Makassar", END - timedelta(hours=1))


async def test_what_there_is_not_is_said(laboratory: Laboratory) -> None:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        with pytest.raises(OrderError, match='there is no analyzer "none"; there is no test "NONE"'):
            await qc_reports.chart(connection, "none", "NONE")
        for name in ("2026-13", "2026", "26-1", "0001-01"):
            with pytest.raises(OrderError):
                await qc_reports.month(connection, laboratory.technologist, name)
    with pytest.raises(OrderError):
        qc_reports.zone_named("Mars/Olympus")


async def test_a_month_has_every_stream_with_its_statistics_failures_and_look_backs(laboratory: Laboratory) -> None:
    await measured(laboratory)
    await add_lot(laboratory, "99", level="w")
    await add_target(laboratory, "99/w", "7", "1", test="WBC", unit="10*9/L", valid_from=BEGIN)
    report = await month(laboratory)
    assert (report.begin, report.end) == (BEGIN, END)
    hgb, wbc = report.streams
    assert (hgb.chart.test, wbc.chart.test, hgb.empty, wbc.empty) == ("HGB", "WBC", False, True)
    low, high = hgb.lots
    assert (low.own and low.own.n, low.warned, low.rejected, low.excluded) == (6, 1, 3, 1)
    assert low.analysis is not None and low.analysis.own.n == 6 and high.own is not None and high.own.n == 2
    assert [one.rules for one in hgb.failures] == [("1-3s",), ("1-3s",), ("1-2s",), ("1-3s",)]
    assert [(one.reason, one.by) for one in hgb.exclusions] == [("wrong vial", "vera")]
    [lookback] = hgb.lookbacks
    assert (lookback.state, lookback.since, lookback.until) == ("open", BEGIN + 2 * DAY, BEGIN + 3 * DAY)
    assert "without a plan" in hgb.plan
    assert pdf(report).startswith(b"%PDF-")


async def test_a_look_back_is_told_in_numbers_and_never_by_patient(laboratory: Laboratory) -> None:
    stream = await measured(laboratory)
    of = await laboratory.order(order("HGB"))
    result_id = await laboratory.result(of)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "insert into lab.qc_lookback_item (id, organization_id, lookback_id, result_id, result_version_id, state)"
            " select $1, $2, k.id, r.id, r.version_id, 'stands' from lab.qc_lookback k, lab.result r where r.id = $1",
            result_id, laboratory.organization_id,
        )  # fmt: skip
    report = await month(laboratory)
    assert report.streams[0].lookbacks[0].outcomes == (("stands", 1),)
    assert stream.analyzer_id == laboratory.analyzer_id
    said = repr(report) + repr(levey_jennings(report.streams[0].chart, Look()))
    assert of.patient_id is not None and str(of.patient_id) not in said
    assert of.items[0].barcode not in said and "Muster" not in said and str(result_id) not in said


async def test_controls_that_made_no_point_are_counted(laboratory: Laboratory) -> None:
    await measured(laboratory)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        for at, role in ((BEGIN, "qc"), (END - DAY, "qc"), (END, "qc"), (BEGIN, "calibrator")):
            id = uuid7()
            await connection.execute(
                "insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, kind, measured_at,"
                " created_at) values ($1, $2, $3, $4, $5, 'numeric', $6, $6)",
                id, laboratory.organization_id, id.bytes, laboratory.analyzer_id, role, at,
            )  # fmt: skip
    assert (await month(laboratory)).unjudged == (("hema", 2),)


async def test_an_empty_month_has_no_streams(laboratory: Laboratory) -> None:
    assert (await month(laboratory)).streams == ()


async def test_one_laboratory_never_sees_anothers_points(
    database: Database, laboratory: Laboratory, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await measured(laboratory)
    other = await found(database, (await make_organization(owner)).id)
    assert (await chart(other)).points == () and (await month(other)).streams == ()
    assert len((await chart(laboratory)).points) == 9

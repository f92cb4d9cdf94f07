"""A new lot measured beside the one in use, from its first control to its own target, the whole way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from interface.domain.facts import QcState
from interface.domain.qc import QcVerdict
from interface.domain.qc_lots import LotKind, LotView
from interface.domain.qc_views import PointView
from interface.flow import qc_lots, qc_targets
from interface.flow.qc_lots import NewUse
from interface.flow.qc_people import Entry, enter
from interface.flow.qc_targets import Establishing, Place
from interface.store.db import Database
from tests.conftest import Organization
from tests.qc_records import WHY, add_lot, add_target, director
from tests.records import Laboratory, found

DAY = timedelta(days=1)
PLACE = Place("4711", "hema", "GLU")


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    """Which reports glucose in mmol/L."""
    made = await found(database, organization.id)
    async with database.transaction(organization.id) as connection:
        await connection.execute(
            "update lab.test set unit = 'mmol/L', molar_mass = 180.156, decimals = 1 where code = 'GLU'"
        )
    return made


async def measure(laboratory: Laboratory, lot: LotView, value: str, at: datetime, unit: str = "mg/dL") -> PointView:
    entry = Entry("hema", "GLU", str(lot.id), value, unit, measured_at=at)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        point = (await enter(connection, laboratory.technologist, entry)).point
    assert point is not None
    return point


async def state(laboratory: Laboratory) -> str:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        found: str = await connection.fetchval("select state from lab.qc_stream")
        return found


async def test_a_new_lot_collects_gates_nothing_and_is_judged_once_it_has_a_target(laboratory: Laboratory) -> None:
    now = datetime.now(UTC)
    old, new = await add_lot(laboratory, "4710"), await add_lot(laboratory, "4711")
    await add_target(laboratory, "4710", "100", "2", "GLU", unit="mg/dL", valid_from=now - 40 * DAY)
    values = ["99", "101"] * 10
    for day, value in enumerate(values):
        at = now - (len(values) - day) * DAY
        assert (await measure(laboratory, old, "100", at)).verdict is QcVerdict.ACCEPT
        before = await state(laboratory)
        point = await measure(laboratory, new, value, at + timedelta(minutes=5))
        assert (point.verdict, point.z) == (QcVerdict.UNKNOWN, None)
        assert await state(laboratory) == before == QcState.OK, "a lot that is being established gates nothing"
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        shown = await qc_targets.proposal(connection, Establishing(PLACE))
        assert (shown.measured.points, shown.measured.days, shown.unit, shown.problems) == (20, 20, "mmol/L", ())
        # 100 mg/dL; the SD of ten 99 and ten 101 is the root of 20/19
        assert (shown.mean, shown.sd) == (Decimal("5.5507"), Decimal("0.0569"))
        assert shown.former is not None
        assert (shown.former.lot, shown.former.unit, shown.former.measured.points) == ("4710/low", "mg/dL", 20)
        made = await qc_targets.establish(connection, director(laboratory), Establishing(PLACE), 20, WHY)
        await qc_lots.close_lot(connection, director(laboratory), old.id, WHY)
    assert made.unit == "mmol/L"
    judged = await measure(laboratory, new, "5.6", datetime.now(UTC), "mmol/L")
    assert (judged.verdict, judged.z is not None) == (QcVerdict.ACCEPT, True)
    assert await state(laboratory) == QcState.OK


async def test_runs_of_the_lot_in_use_stay_whole_whatever_is_measured_between_its_levels(
    laboratory: Laboratory,
) -> None:
    now = datetime.now(UTC)
    lots = [
        await add_lot(laboratory, lot, level, number)
        for lot in ("4710", "4711")
        for level, number in (("low", 1), ("high", 2))
    ]
    low, high, new_low, new_high = lots
    for name in ("4710/low", "4710/high"):
        await add_target(laboratory, name, "100", "2", "GLU", unit="mg/dL", valid_from=now - 2 * DAY)
    order = (new_low, low, new_low, new_high, high, new_high)
    points = [
        await measure(laboratory, lot, "101", now - timedelta(minutes=30 - place)) for place, lot in enumerate(order)
    ]
    assert points[1].run_id == points[4].run_id, "both levels of the lot in use are one run"
    assert points[1].run_id not in {points[place].run_id for place in (0, 2, 3, 5)}
    assert await state(laboratory) == QcState.OK


async def test_two_sd_exactly_are_two_sd_in_whatever_unit_the_test_is_reported(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory, "4710")
    await add_target(laboratory, "4710", "100", "2", "GLU", unit="mg/dL")
    point = await measure(laboratory, lot, "104", datetime.now(UTC))
    assert (point.z, point.verdict) == (Decimal(2), QcVerdict.ACCEPT), "1-2s is beyond, not at"


async def test_a_point_has_the_reagent_lot_that_was_in_use_when_it_was_measured(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory, "4710")
    now = datetime.now(UTC)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        for name, since in (("R1", now - 4 * DAY), ("R2", now - 2 * DAY)):
            use = NewUse("hema", LotKind.REAGENT, name, test="GLU", from_at=since)
            await qc_lots.enter_use(connection, laboratory.technologist, use)
    carried = [(await measure(laboratory, lot, "100", now - days * DAY)).reagent_lot for days in (5, 3, 1)]
    assert carried == ["", "R1", "R2"]

"""What was judged by a target of which a person said since that it was wrong vouches for nothing."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from interface.domain.qc import Stream
from interface.domain.qc_state import Meanwhile
from interface.flow import qc_gate, qc_targets
from interface.flow.qc_sweep import sweep
from interface.flow.qc_targets import Place, TargetChange, Wanted
from tests.flow.control_bench import ControlBench, control_bench
from tests.flow.controls import bench
from tests.flow.laboratory import laboratory

WHY = "its SD was mistyped: 10 for 0.1"


async def state(at: ControlBench) -> str:
    await sweep(at.lab.database, at.lab.organization_id)
    found: str = await at.lab.owner.fetchval("select state from lab.qc_stream")
    return found


@pytest.mark.parametrize(
    ("how", "said"), [("ended", "unknown"), ("ended now", "ok"), ("changed", "unknown"), ("changed now", "ok")]
)
async def test_a_control_that_a_wrong_target_let_pass_vouches_for_nothing(
    database_url: str, how: str, said: str
) -> None:
    """It went on opening the gate: what failed by the right one had been acceptable, and nobody was told."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        lot = await at.lot(1, "QC1")
        place = Place(f"{lot.material}/{lot.lot}/{lot.level}", "bench", "WBC")
        begin = at.now - timedelta(days=80)
        async with lab.database.transaction(lab.organization_id) as connection:
            wanted = Wanted(Decimal(7), Decimal(10), "10*9/L", valid_from=begin)
            target = await qc_targets.set_target(connection, lab.director, place, wanted, WHY)
        await at.send("QC1", "9.0", 30)
        assert await state(at) == "ok"
        right = TargetChange(sd=Decimal("0.1"))
        async with lab.database.transaction(lab.organization_id) as connection:
            if how.startswith("ended"):
                await qc_targets.end_target(connection, lab.director, target.id, WHY, never=how == "ended")
            else:
                since = begin if how == "changed" else None
                await qc_targets.change_target(connection, lab.director, target.id, right, WHY, since)
        assert await state(at) == said
        if how == "changed":  # what the right one says counts again
            await at.send("QC1", "7.05", 5)
            assert await state(at) == "ok"


async def made_good(at: ControlBench, minutes: int) -> None:
    """A good control of QC9, and what was done, both known at that time."""
    lab, known = at.lab, at.now - timedelta(minutes=minutes)
    await at.send("QC9", "7.05", minutes)
    await lab.owner.execute("update lab.qc_point set created_at = measured_at")
    stream = Stream(lab.context.analyzer_id, await lab.owner.fetchval("select test_id from lab.qc_stream"), "")
    async with lab.database.transaction(lab.organization_id) as connection:
        await qc_gate.act(
            connection, lab.director, stream, "corrective", "needle cleaned", meanwhile=Meanwhile.STANDS, point_id=None
        )
    await lab.owner.execute("update lab.qc_action set created_at = $1 where created_at > $1", known)
    await sweep(lab.database, lab.organization_id)


@pytest.mark.parametrize("how", ["ended", "changed"])
async def test_what_failed_since_is_looked_back_at_from_what_vouched_before_it(database_url: str, how: str) -> None:
    """Only the last failure was: of those before it what had been released behind the wrong control was on no list."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        wrong, right = await at.lot(1, "QC1"), await at.lot(1, "QC9", number="78")
        await at.target(wrong, "7", "10", "10*9/L")
        await at.target(right, "7", "0.1", "10*9/L")
        target: UUID = await lab.owner.fetchval("select id from lab.qc_target where sd = 10")
        for good, passed, failed, good_again in ((600, 500, 400, 300), (250, 200, 100, 50)):
            await at.send("QC9", "7.05", good)
            await at.send("QC1", "9.0", passed)
            await at.send("QC9", "9.0", failed)
            await made_good(at, good_again)
        begin = at.now - timedelta(days=80)
        async with lab.database.transaction(lab.organization_id) as connection:
            if how == "ended":
                await qc_targets.end_target(connection, lab.director, target, WHY, never=True)
            else:
                change = TargetChange(sd=Decimal("0.1"))
                await qc_targets.change_target(connection, lab.director, target, change, WHY, begin)
        since = await lab.owner.fetch("select from_at from lab.qc_lookback order by from_at")
        assert [(at.now - row["from_at"]) // timedelta(minutes=1) for row in since] == [600, 250]


@pytest.mark.parametrize("how", ["ended", "changed", "ended now"])
@pytest.mark.parametrize("before", [None, 26 * 60, 60])
async def test_what_only_a_wrong_target_vouched_for_is_looked_back_at_at_once(
    database_url: str, how: str, before: int | None
) -> None:
    """It was on no list until a control failed by the right one, which may be never. Where another one vouches still
    (it is from an hour before) there is nothing to be looked at."""
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        wrong, right = await at.lot(1, "QC1"), await at.lot(1, "QC9", number="78")
        if before is not None:
            await at.target(right, "140", "1", "mmol/L", "NA")
            await at.send("QC9", "140.5", before, unit="mmol/L", code="2951-2")
        await at.target(wrong, "140", "100", "mmol/L", "NA")
        target: UUID = await lab.owner.fetchval("select id from lab.qc_target where sd = 100")
        await at.send("QC1", "149", 40, unit="mmol/L", code="2951-2")
        await lab.order("S1", "NA")
        await people.send("S1", 30, NA="139")
        assert await people.said() == {"S1": ("final", "")}
        async with lab.database.transaction(lab.organization_id) as connection:
            if how == "changed":
                change = TargetChange(sd=Decimal(1))
                begin = at.now - timedelta(days=80)
                await qc_targets.change_target(connection, lab.director, target, change, WHY, begin)
            else:
                await qc_targets.end_target(connection, lab.director, target, WHY, never=how == "ended")
        await sweep(lab.database, lab.organization_id)
        listed = how != "ended now" and before != 60
        assert await people.listed() == (["S1"] if listed else [])
        # A control that is acceptable now ends the list; whether what is on it stands is said by a person.
        await at.send("QC9" if before else "QC1", "140.2", 10, unit="mmol/L", code="2951-2")
        await sweep(lab.database, lab.organization_id)
        found = await lab.owner.fetch(
            "select k.from_at, k.to_at, k.reason, i.state, k.state as open from lab.qc_lookback k"
            " join lab.qc_lookback_item i on i.lookback_id = k.id"
        )
        if listed:
            since = at.now - timedelta(minutes=before - 24 * 60 if before else 40)
            ends = at.now - timedelta(minutes=10) if before or how == "changed" else None
            said = "the target of lot 77/1 was wrong"
            assert [tuple(row) for row in found] == [(since, ends, said, "waiting", "open")]

"""What was judged by a target of which a person said since that it was wrong vouches for nothing."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from interface.flow import qc_targets
from interface.flow.qc_sweep import sweep
from interface.flow.qc_targets import Place, TargetChange, Wanted
from tests.flow.control_bench import ControlBench, control_bench
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

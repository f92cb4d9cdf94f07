"""Two controls of one level number: one hides nothing of what the other breaks."""

from __future__ import annotations

from tests.flow.control_bench import ControlBench, control_bench, judged
from tests.flow.laboratory import laboratory


async def two(at: ControlBench) -> None:
    """QC1 and NEW1, both of level 1."""
    await at.levels(1)
    await at.target(await at.lot(1, "NEW1", number="88"), "7", "0.1", "10*9/L")


async def test_what_one_breaks_over_runs_is_seen_however_often_another_was_measured(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await two(at)
        for n in range(8):
            await at.send("QC1", f"7.0{1 + n % 2}", 600 - 30 * n)
            await at.send("NEW1", f"6.9{1 + n % 2}", 599 - 30 * n)
        found = judged(await at.found())
        assert found[-2:] == [("7.02", "reject", "8x"), ("6.92", "reject", "8x")], found

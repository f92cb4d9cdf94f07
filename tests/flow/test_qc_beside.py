"""Two controls of one level number: one never makes the other good, nor hides what it breaks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from interface.domain.qc_state import Meanwhile
from interface.errors import ApiError
from interface.flow import qc_gate, qc_targets
from interface.flow.qc_targets import TargetChange
from interface.ops.doctor import level_findings
from interface.store.qc import stream_of
from tests.flow.control_bench import ControlBench, control_bench, judged
from tests.flow.laboratory import laboratory


async def state(at: ControlBench) -> str:
    return str(await at.lab.owner.fetchval("select state from lab.qc_stream"))


async def two(at: ControlBench) -> None:
    """QC1 and NEW1, both of level 1."""
    await at.levels(1)
    await at.target(await at.lot(1, "NEW1", number="88"), "7", "0.1", "10*9/L")


async def test_what_failed_is_not_made_good_by_another_lot_of_its_level(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await two(at)
        await at.send("QC1", "7.0", 60)
        await at.send("NEW1", "7.0", 59)
        await at.send("QC1", "8.0", 30)
        async with lab.database.transaction(lab.organization_id) as connection:
            stream = await stream_of(connection, (await at.found())[-1].id)
            await qc_gate.act(connection, lab.director, stream, "corrective", "cleaned", meanwhile=Meanwhile.STANDS)
        await at.send("NEW1", "7.0", 20)
        assert await state(at) == "fail"
        await at.send("QC1", "7.0", 10)
        assert await state(at) == "ok"


async def test_what_one_breaks_over_runs_is_seen_however_often_another_was_measured(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await two(at)
        for n in range(8):
            await at.send("QC1", f"7.0{1 + n % 2}", 600 - 30 * n)
            await at.send("NEW1", f"6.9{1 + n % 2}", 599 - 30 * n)
        found = judged(await at.found())
        assert found[-2:] == [("7.02", "reject", "8x"), ("6.92", "reject", "8x")], found


async def test_once_it_has_no_target_another_of_its_level_stands_in_its_place(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await two(at)
        await at.send("QC1", "7.0", 60)
        await at.send("QC1", "8.0", 30)
        async with lab.database.transaction(lab.organization_id) as connection:
            stream = await stream_of(connection, (await at.found())[-1].id)
            await qc_gate.act(connection, lab.director, stream, "corrective", "thrown away", meanwhile=Meanwhile.AGAIN)
        await at.send("NEW1", "7.0", 20)
        assert await state(at) == "fail"
        reason = await lab.owner.fetchval("select reason from lab.qc_stream")
        assert reason.endswith("wanted: an acceptable control of level 1 (77/1)")
        old = await lab.owner.fetchval(
            "select t.id from lab.qc_target t join lab.qc_lot l on l.id = t.lot_id where l.lot = '77'"
        )
        async with lab.database.transaction(lab.organization_id) as connection:
            await qc_targets.end_target(connection, lab.director, old, "used up", at.now - timedelta(minutes=10))
        assert await state(at) == "fail"
        await at.send("NEW1", "7.0", 5)
        assert await state(at) == "ok"


async def test_two_levels_of_one_number_are_refused_and_those_that_are_there_are_told_of(database_url: str) -> None:
    """A run would have to have but one of the two."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        other, high = await at.lot(1, "X1", material="Other"), await at.lot(2, "HIGH", number="78")
        module = "m"
        await at.target(await at.lot(1, "OLD1", number="76"), "7", "0.1", "10*9/L")  # an old lot of the same level
        await lab.owner.execute("update lab.qc_lot set level_number = 1 where id = $1", high.id)
        for lot, of in ((other, ""), (other, module), (high, "")):
            with pytest.raises(ApiError, match=r"level number 1 of WBC on bench is lot 7./1 of Norm, and") as no:
                await at.target(lot, "9", "0.1", "10*9/L", module=of)
            assert no.value.status == 409
        await lab.owner.execute("update lab.qc_lot set level_number = 2 where id = any($1)", [other.id, high.id])
        await at.target(high, "9", "0.1", "10*9/L", module="m")
        await at.target(other, "9", "0.1", "10*9/L", module="n")
        async with lab.database.transaction(lab.organization_id) as connection:
            assert await qc_targets.sharing(connection) == []
            await lab.owner.execute("update lab.qc_lot set level_number = 1 where id = $1", high.id)
            told = await qc_targets.sharing(connection)
            assert told == ["Norm/76/1 and Norm/78/2 of WBC on bench"]
            [found] = level_findings("riverside", told)
            assert found.text.endswith("such as Norm/76/1 and Norm/78/2 of WBC on bench")
            [known] = await lab.owner.fetch("select id from lab.qc_target where lot_id = $1", high.id)
            change = TargetChange(note="insert 8")
            assert (await qc_targets.change_target(connection, lab.director, known["id"], change, "typed")).note

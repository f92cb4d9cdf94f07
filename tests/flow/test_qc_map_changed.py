"""A map that was put right: what controls showed of another test by it vouches for that test no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.mapping import MapKey, Target, Wanted
from interface.flow import maps as flow
from interface.flow import qc_people
from interface.flow.qc_sweep import sweep
from interface.store import maps
from interface.store import qc as rows
from tests.flow.control_bench import control_bench
from tests.flow.laboratory import Laboratory, laboratory


async def mapped(lab: Laboratory, target: Target, start: datetime | None = None, code: str = "WBC") -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        wanted = [Wanted(MapKey("generic_lis2", "", code, ""), target, start)]
        proposal = await flow.propose_put(connection, wanted, await maps.basis(connection), "set")
        await flow.commit(connection, lab.director, proposal, "it is the channel of RBC")
    await sweep(lab.database, lab.organization_id)


async def found(lab: Laboratory) -> tuple[str, list[str]]:
    """The stream's state, and why controls are excluded."""
    rows = await lab.owner.fetch("select exclude_reason from lab.qc_point where excluded_at is not null")
    state: str = await lab.owner.fetchval("select state from lab.qc_stream")
    return state, [row["exclude_reason"] for row in rows]


@pytest.mark.parametrize("target", [Target("RBC", "10*12/L"), Target("")])
async def test_what_controls_showed_of_another_test_vouches_for_it_no_more(database_url: str, target: Target) -> None:
    """They opened the gate of a test of which they said nothing, until somebody came to exclude them."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.05", 30)
        assert await found(lab) == ("ok", [])
        await mapped(lab, target)
        why = "its code stands for this test no more: it is the channel of RBC"
        assert await found(lab) == ("unknown", [why])
        told = await lab.owner.fetch("select text from lab.qc_action where kind = 'exclude'")
        assert [row["text"] for row in told] == [why]


async def test_what_failed_by_it_holds_all_the_same(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.95", 30)
        await mapped(lab, Target("RBC", "10*12/L"))
        assert await found(lab) == ("fail", [])


async def test_another_unit_a_later_time_and_another_code_change_nothing(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.05", 30)
        await mapped(lab, Target("WBC", "/uL"))
        await mapped(lab, Target("RBC", "10*12/L"), datetime.now(UTC) + timedelta(days=30))
        assert await found(lab) == ("ok", [])


async def test_a_code_whose_results_are_held_for_a_time_stands_for_its_test_again_afterwards(database_url: str) -> None:
    """Nobody said that it had stood for another: the controls of 90 days were excluded for a pause of a day."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.05", 30)
        async with lab.database.transaction(lab.organization_id) as connection:
            key, until = MapKey("generic_lis2", "", "WBC", ""), datetime.now(UTC) + timedelta(days=1)
            basis = await maps.basis(connection)
            proposal = await flow.propose_unset(connection, key, None, until, basis, own=False)
            await flow.commit(connection, lab.director, proposal, "its reagent is late")
        assert await found(lab) == ("ok", [])


async def test_what_a_code_stands_for_is_asked_once_and_not_for_each_of_its_controls(database_url: str) -> None:
    """A map of 300 codes with the controls of 90 days took half a minute, twice, and results waited for it."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        for minutes in (50, 40, 30, 20):
            await at.send("QC1", "7.05", minutes)
        async with lab.database.transaction(lab.organization_id) as connection:
            asked = ["generic_lis2"], ["WBC"], timedelta(days=90)
            plan = await connection.fetch(f"explain (analyze, timing off) {rows._MAPPED_OTHERWISE}", *asked)
        asked_of = [str(row[0]) for row in plan if " on code_map " in row[0]]
        assert asked_of and all("loops=1)" in line for line in asked_of)
        assert await lab.owner.fetchval("select count(*) from lab.qc_point") == 4


async def test_what_an_undone_change_excluded_counts_again(database_url: str) -> None:
    """A map that was changed by mistake and put back left its test without controls, which held every result of it."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.05", 40)
        await at.send("QC1", "7.06", 30)
        async with lab.database.organization(lab.organization_id) as connection:
            [_, own] = await connection.fetch("select qc_result_id from lab.qc_point order by measured_at")
        async with lab.database.transaction(lab.organization_id) as connection:
            await qc_people.exclude(connection, lab.director, own["qc_result_id"], "air bubble")
        await mapped(lab, Target("RBC", "10*12/L"))
        assert (await found(lab))[0] == "unknown"
        async with lab.database.transaction(lab.organization_id) as connection:
            basis = await maps.basis(connection)
            proposal = await flow.propose_undo(connection, basis.seen, basis)
            await flow.commit(connection, lab.director, proposal, "the wrong code")
        await sweep(lab.database, lab.organization_id)
        assert await found(lab) == ("ok", ["air bubble"]), "what a person excluded is for a person to restore"
        told = await lab.owner.fetch("select text from lab.qc_action where kind = 'restore'")
        assert [row["text"] for row in told] == ["its code stands for this test again: the wrong code"]

"""An acceptable control that is excluded vouches no more: what nothing else vouched for is looked at."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from interface.domain.mapping import Target
from interface.domain.qc_lots import LotView
from interface.domain.qc_state import Meanwhile, Plan
from interface.flow import qc_lookback, qc_lots, qc_people
from interface.flow.qc_lots import LotChange
from interface.flow.qc_sweep import sweep
from tests.flow.control_bench import ControlBench, control_bench
from tests.flow.controls import Bench, bench
from tests.flow.laboratory import laboratory
from tests.flow.test_qc_map_changed import mapped

DAY = 24 * 60


async def sodium(at: ControlBench, specimen: str, minutes: float) -> UUID:
    """An acceptable control, so many minutes ago."""
    await at.send(specimen, "140.2", minutes, unit="mmol/L", code="2951-2")
    await sweep(at.lab.database, at.lab.organization_id)
    found: UUID = await at.lab.owner.fetchval("select qc_result_id from lab.qc_point order by created_at desc limit 1")
    return found


async def released(people: Bench, barcode: str, minutes: float) -> None:
    await people.lab.order(barcode, "NA")
    await people.send(barcode, minutes, NA="139")


async def exclude(at: ControlBench, id: UUID, *, back: bool = False) -> None:
    lab, step = at.lab, qc_people.restore if back else qc_people.exclude
    async with lab.database.transaction(lab.organization_id) as connection:
        await step(connection, lab.director, id, "the wrong vial")
    await sweep(lab.database, lab.organization_id)


async def items(at: ControlBench) -> dict[str, str]:
    """Of each specimen that is or was on a list what is said of it."""
    rows = await at.lab.owner.fetch(
        """select v.specimen_as_sent, max(i.state) as state from lab.qc_lookback_item i
           join lab.result_version v on v.id = i.result_version_id group by 1 order by 1"""
    )
    return {row["specimen_as_sent"]: row["state"] for row in rows}


async def lists(at: ControlBench) -> list[tuple[float | None, float | None, str]]:
    """From when and up to when each goes, in minutes before now, and whether it is open."""
    rows = await at.lab.owner.fetch("select from_at, to_at, state from lab.qc_lookback order by from_at, id")
    return [
        (*((at.now - each) / timedelta(minutes=1) if each else None for each in (row["from_at"], row["to_at"])),
         row["state"])
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["a person", "the map"])
@pytest.mark.parametrize("before", [None, 26 * 60, 60])
async def test_what_only_an_excluded_control_vouched_for_is_looked_back_at(
    database_url: str, how: str, before: int | None
) -> None:
    """It was of the wrong vial, or of another test: what had been released behind it was on no list. Where another one
    vouches still (of an hour before) there is nothing to be looked at."""
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        lot = await at.lot(1, "QC1")
        await at.target(lot, "140", "1", "mmol/L", "NA")
        if before is not None:
            await sodium(at, "QC1", before)
            if how == "the map":  # it came by another analyzer's code
                await lab.owner.execute("update lab.qc_result set code = 'Na+'")
        wrong = await sodium(at, "QC1", 40)
        await released(people, "S1", 30)
        assert await people.said() == {"S1": ("final", "")}
        if how == "a person":
            await exclude(at, wrong)
        else:
            await mapped(lab, Target("CL", "mmol/L"), code="2951-2")
        listed = before != 60
        assert await items(at) == ({"S1": "waiting"} if listed else {})
        since = before - DAY if before else 40
        assert await lists(at) == ([(since, None, "open")] if listed else [])
        await exclude(at, wrong, back=True)  # it was the right one after all
        assert await items(at) == ({"S1": "stands"} if listed else {})
        assert {state for *_, state in await lists(at)} == ({"closed"} if listed else set())
        await exclude(at, wrong)
        assert await items(at) == ({"S1": "waiting"} if listed else {})


async def test_what_vouched_for_nothing_hid_nothing(database_url: str) -> None:
    """The run was whole without it: what had waited for that run is as good as it was."""
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        for level in (1, 2):
            await at.target(await at.lot(level, f"QC{level}"), "140", "1", "mmol/L", "NA")
            await sodium(at, f"QC{level}", 26 * 60 - level)
        await released(people, "S1", 100)
        assert await people.said() == {"S1": ("registered", "qc_expired")}
        twice = await sodium(at, "QC1", 50)
        await sodium(at, "QC1", 45)
        await sodium(at, "QC2", 40)
        assert await people.said() == {"S1": ("final", "")}
        await exclude(at, twice)
        assert await lists(at) == []


async def test_of_several_that_are_excluded_one_counts_again(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        lot = await at.lot(1, "QC1")
        await at.target(lot, "140", "1", "mmol/L", "NA")
        first = await sodium(at, "QC1", 49 * 60)
        await released(people, "S1", 48 * 60)
        second = await sodium(at, "QC1", 23 * 60)
        await released(people, "S2", 22 * 60)
        await exclude(at, first)
        await exclude(at, second)
        assert await items(at) == {"S1": "waiting", "S2": "waiting"}
        await exclude(at, first, back=True)
        assert await items(at) == {"S1": "stands", "S2": "waiting"}
        assert (25 * 60, None, "open") in await lists(at)
        await sodium(at, "QC1", 10)
        assert (25 * 60, 10, "open") in await lists(at)
        await exclude(at, second, back=True)
        assert await items(at) == {"S1": "stands", "S2": "stands"}
        assert {state for *_, state in await lists(at)} == {"closed"}


async def expires(at: ControlBench, lot: LotView, days: int) -> None:
    lab, change = at.lab, LotChange(expires_on=(at.now + timedelta(days=days)).date())
    async with lab.database.transaction(lab.organization_id) as connection:
        await qc_lots.change_lot(connection, lab.director, lot.id, change, "the year was mistyped")
    await sweep(lab.database, lab.organization_id)


async def test_what_only_a_lot_vouched_for_that_had_expired_is_looked_back_at(database_url: str) -> None:
    """The year of its expiry was mistyped: 42 CFR 493.1252(d) lets nobody use it. Nobody was told of what had been
    released behind it."""
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        lot = await at.lot(1, "QC1", expires_on=(at.now + timedelta(days=365)).date())
        await at.target(lot, "140", "1", "mmol/L", "NA")
        await sodium(at, "QC1", 40)
        await released(people, "S1", 30)

        await expires(at, lot, -2)
        assert (await items(at), await lists(at)) == ({"S1": "waiting"}, [(40, None, "open")])
        await expires(at, lot, 300)
        assert await items(at) == {"S1": "stands"}
        assert [state for *_, state in await lists(at)] == ["closed"]


async def test_what_had_failed_is_made_good_by_no_lot_that_had_expired(database_url: str) -> None:
    """Its failure was over by a control that nobody could use: what was released after that was on no list."""
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        lot = await at.lot(1, "QC1", expires_on=(at.now + timedelta(days=365)).date())
        await at.target(lot, "140", "1", "mmol/L", "NA")
        await sodium(at, "QC1", 3 * DAY)
        await at.send("QC1", "150", 100, unit="mmol/L", code="2951-2")
        await sodium(at, "QC1", 60)
        await people.act(Meanwhile.STANDS)
        await released(people, "S1", 50)
        assert (await people.said(), await items(at)) == ({"S1": ("final", "")}, {})
        await expires(at, lot, -2)
        assert (await items(at), await lists(at)) == ({"S1": "waiting"}, [(3 * DAY, None, "open")])
        await released(people, "S2", 10)
        assert (await people.said())["S2"] == ("registered", "qc_failed")
        await expires(at, lot, 300)
        assert await items(at) == {"S1": "stands"}
        assert (await people.said())["S2"] == ("final", "")


async def test_what_was_looked_at_is_left_alone_by_what_says_nothing_of_it(database_url: str) -> None:
    """A lot is used up, or a control of this week counts again: a list of last week, which a person had closed, was
    made anew by the plan of today, and asked for what had been in order by the plan of then."""
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        lot = await at.lot(1, "QC1")
        await at.target(lot, "140", "1", "mmol/L", "NA")
        await sodium(at, "QC1", 49 * 60)
        wrong = await sodium(at, "QC1", 40 * 60)
        await released(people, "S1", 30 * 60)
        await released(people, "S2", 20 * 60)
        await sodium(at, "QC1", 10 * 60)
        other = await sodium(at, "QC1", 5 * 60)
        await exclude(at, wrong)
        assert (await items(at), await lists(at)) == ({"S2": "waiting"}, [(25 * 60, 10 * 60, "open")])
        async with lab.database.transaction(lab.organization_id) as connection:
            [known] = await qc_lookback.lookbacks(connection)
            await qc_lookback.decide(connection, lab.director, known.id, qc_lookback.Decision.STANDS, "repeated")
        await people.plan(Plan(interval_minutes=12 * 60))
        await exclude(at, other)
        await exclude(at, other, back=True)
        async with lab.database.transaction(lab.organization_id) as connection:
            await qc_lots.close_lot(connection, lab.director, lot.id, "used up")
        await sweep(lab.database, lab.organization_id)
        assert (await items(at), await lists(at)) == ({"S2": "stands"}, [(25 * 60, 10 * 60, "closed")])
        await exclude(at, wrong, back=True)
        assert {state for *_, state in await lists(at)} == {"closed"}


async def test_a_lot_that_had_expired_ends_no_list(database_url: str) -> None:
    """Another control vouched still, when its expiry was put right. That one is excluded since: nothing vouched."""
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        await at.target(await at.lot(1, "QC1"), "140", "1", "mmol/L", "NA")
        old = await at.lot(1, "QC2", number="78")
        await at.target(old, "140", "1", "mmol/L", "NA")
        other = await sodium(at, "QC1", 40)
        await released(people, "S1", 30)
        await sodium(at, "QC2", 20)
        await released(people, "S2", 10)
        await expires(at, old, -2)
        assert await items(at) == {}
        await exclude(at, other)
        assert (await items(at), await lists(at)) == ({"S1": "waiting", "S2": "waiting"}, [(40, None, "open")])
        await exclude(at, other, back=True)
        assert await items(at) == {"S1": "stands", "S2": "stands"}


async def test_a_failure_is_suspect_since_what_vouched_before_a_lot_that_had_expired(database_url: str) -> None:
    """What had waited for a control was released because of that one, and is on the list of what failed since."""
    async with laboratory(database_url) as lab:
        at, people = control_bench(lab), await bench(lab)
        await at.target(await at.lot(1, "QC1"), "140", "1", "mmol/L", "NA")
        old = await at.lot(1, "QC2", number="78")
        await at.target(old, "140", "1", "mmol/L", "NA")
        await sodium(at, "QC1", 26 * 60)
        await released(people, "S1", 100)
        assert await people.said() == {"S1": ("registered", "qc_expired")}
        await sodium(at, "QC2", 60)
        assert await people.said() == {"S1": ("final", "")}
        await at.send("QC1", "150", 10, unit="mmol/L", code="2951-2")
        await sweep(lab.database, lab.organization_id)
        assert await items(at) == {}
        await expires(at, old, -2)
        assert (await items(at), await lists(at)) == ({"S1": "waiting"}, [(26 * 60, None, "open")])
        await expires(at, old, 2)
        assert await items(at) == {"S1": "stands"}

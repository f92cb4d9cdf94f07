"""What comes late is seen however many points came after it, and what vouches is not forgotten for their number."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from interface.domain.qc_state import MOST_SPANS, Meanwhile, Plan
from interface.flow import qc_gate
from interface.store.ids import uuid7
from interface.store.qc_gate import POINTS
from tests.flow.controls import IN_CONTROL, REJECT, WARN, Bench, bench, modular
from tests.flow.laboratory import laboratory
from tests.flow.rulebook import RULES

RUN = uuid7()


async def many(at: Bench, minutes: float, level: int = 1, count: int = POINTS + 20) -> None:
    """More acceptable points than a stream's state is made of, one a second, the first of them so long ago."""
    async with at.lab.database.transaction(at.lab.organization_id) as connection:
        stream, org = at.stream(), at.lab.organization_id
        of = (org, stream.analyzer_id, stream.test_id, at.ago(minutes), count)
        lot_id = await at._lot(connection, level)
        await connection.execute(
            """with made as (
                   insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, test_id, measured_at, role,
                       kind)
                   select gen_random_uuid(), $1, decode(md5(gen_random_uuid()::text), 'hex'), $2, $3,
                       $4::timestamptz + make_interval(secs => n), 'qc', 'numeric'
                   from generate_series(1, $5::int) n returning id, measured_at)
               insert into lab.qc_point (qc_result_id, organization_id, analyzer_id, test_id, lot_id, level_number,
                   run_id, measured_at, verdict, steps)
               select id, $1, $2, $3, $6, $7, id, measured_at, 'accept', '[]' from made""",
            *of, lot_id, level,
        )  # fmt: skip


async def documented(at: Bench, minutes: float) -> None:
    """As if points had been known when they were measured, and actions so long ago: what follows comes after them."""
    await at.lab.owner.execute("update lab.qc_point set created_at = measured_at")
    await at.lab.owner.execute("update lab.qc_action set created_at = $1", at.ago(minutes))


async def state(at: Bench) -> str:
    return str(await at.lab.owner.fetchval("select state from lab.qc_stream"))


async def test_a_failure_that_comes_late_is_seen_however_many_points_came_after_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.control(600)
        await many(at, 300)
        await at.control(30)
        assert await state(at) == "ok"
        await at.control(400, REJECT)
        assert await state(at) == "fail"
        await at.control(20)
        assert await state(at) == "fail"  # nobody has said what was done
        await at.act()
        assert await state(at) == "ok"


async def test_a_point_of_long_ago_that_counts_no_more_vouches_no_more(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.wanted(1, 2)
        await at.plan(Plan(interval_minutes=None))
        run = await at.control(601, level=1)
        second = await at.control(600, level=2, run=run)
        await many(at, 300)
        await at.control(10)
        assert await state(at) == "ok"  # what vouched is older than all the points since
        async with lab.database.transaction(lab.organization_id) as connection:
            await connection.execute("update lab.qc_point set excluded_at = now() where qc_result_id = $1", second)
            await qc_gate.refresh(connection, lab.director, at.stream(), "excluded", second)
        assert await state(at) == "unknown"


async def test_what_vouches_is_forgotten_once_it_has_expired(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.wanted(1, 2)
        await at.plan(Plan(interval_minutes=60))
        run = await at.control(601, level=1)
        await at.control(600, level=2, run=run)
        await many(at, 300)
        await at.control(10)
        ends = await lab.owner.fetchval("select expires_at from lab.qc_stream")
        assert ends is None or ends == at.ago(600) + timedelta(minutes=60)


async def test_a_failure_that_comes_late_opens_the_list_again_for_what_was_released_meanwhile(
    database_url: str,
) -> None:
    """What stood by a person's word stands no more when they did not know of all of the failure."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.wanted(1)
        await at.control(300)
        await at.control(200, REJECT)
        for barcode in ("S1", "S2"):
            await lab.order(barcode, "NA")
        await at.send("S1", 190, NA="140")
        await at.control(100)
        assert (await at.said())["S1"] == ("registered", "qc_failed")
        await at.act()
        assert (await at.said())["S1"] == ("final", "")
        assert await lab.owner.fetchval("select state from lab.qc_lookback") == "closed"
        await at.control(150, REJECT)
        assert await at.listed() == ["S1"]
        assert await lab.owner.fetchval("select state from lab.qc_lookback") == "open"
        await at.send("S2", 180, NA="140")
        assert (await at.said())["S2"] == ("registered", "qc_failed")


async def test_a_list_that_an_earlier_failure_takes_over_is_bounded_with_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.control(300)
        await at.control(200, REJECT)
        await at.control(250, REJECT)
        await at.control(100)
        await at.act()
        found = await lab.owner.fetch("select state, to_at from lab.qc_lookback order by id")
        assert [tuple(row) for row in found] == [("closed", at.ago(100))] * 2


async def test_what_vouches_no_more_lets_what_it_vouched_for_wait_again(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await lab.order("S1", "NA")
        await at.control(300)
        await at.send("S1", 290, NA="140")
        await at.control(200, REJECT)
        late = await at.control(250)
        state_of = "select state from lab.qc_lookback_item"
        assert await lab.owner.fetchval(state_of) == "stands"
        async with lab.database.transaction(lab.organization_id) as connection:
            await connection.execute("update lab.qc_point set excluded_at = now() where qc_result_id = $1", late)
            await qc_gate.refresh(connection, lab.director, at.stream(), "excluded", late)
        await at.follow()
        assert await lab.owner.fetchval(state_of) == "waiting"


async def test_a_warning_of_a_run_that_is_not_whole_does_not_open_what_had_expired(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.wanted(1, 2)
        await at.plan(Plan(interval_minutes=60))
        run = await at.control(201, level=1)
        await at.control(200, level=2, run=run)
        await lab.order("S1", "NA")
        await at.send("S1", 100, NA="140")
        await at.control(50, WARN, level=1)
        assert await at.said() == {"S1": ("registered", "qc_expired")}


async def test_a_module_that_was_never_in_control_keeps_back_what_may_be_its(database_url: str, tmp_path: Path) -> None:
    async with laboratory(database_url, drivers=[modular(tmp_path)]) as lab:
        at = await bench(lab)
        await at.plan(Plan(levels=2))
        for level in (1, 2):
            await at.control(300, level=level, module="1", run=RUN)
        await at.control(300, level=1, module="2")  # half a run
        await lab.order("S1", "NA")
        await at.send("S1", 200, NA="140")
        assert await at.said() == {"S1": ("preliminary", "")}


async def test_a_reagent_lot_that_failed_is_not_made_good_by_another(database_url: str, tmp_path: Path) -> None:
    async with laboratory(database_url, drivers=[modular(tmp_path)]) as lab:
        at = await bench(lab)
        await at.control(300, lot="R1")
        await at.control(300, lot="R2")
        await at.control(200, REJECT, lot="R2")
        await at.control(100, lot="R1")
        await at.act()
        for barcode, lot in (("S1", "R1"), ("S2", "R2")):
            await lab.order(barcode, "NA")
            await at.send(barcode, 50, f"^{lot}", NA="140")
        assert await at.said() == {"S1": ("final", ""), "S2": ("preliminary", "")}


async def test_a_good_control_that_comes_late_lists_what_another_word_is_said_of_now(database_url: str) -> None:
    """Two failures were one, of which a person said that it stands; the first is by itself now, to be done again."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.control(300)
        await at.control(200, REJECT)
        await lab.order("S1", "NA")
        await at.send("S1", 190, NA="140")
        await at.act(Meanwhile.AGAIN)
        await at.control(150, REJECT)
        await at.act(Meanwhile.STANDS)
        await at.control(100)
        assert await at.said() == {"S1": ("final", "")}
        await lab.owner.execute("update lab.qc_action set created_at = $1 where measured = 'again'", at.ago(170))
        await lab.owner.execute("update lab.qc_point set created_at = measured_at")
        await at.control(180)
        assert await at.listed() == ["S1"]


async def test_of_two_reagent_lots_that_fail_both_are_looked_back_at(database_url: str, tmp_path: Path) -> None:
    """One failure, begun with one lot; what was released with the other since it was last acceptable is listed too."""
    async with laboratory(database_url, drivers=[modular(tmp_path)]) as lab:
        at = await bench(lab)
        await at.control(400, lot="R2")
        await at.control(300, lot="R1")
        for barcode, lot, minutes in (("S1", "R1", 290), ("S2", "R2", 290), ("S3", "R2", 350)):
            await lab.order(barcode, "NA")
            await at.send(barcode, minutes, f"^{lot}", NA="140")
        assert set((await at.said()).values()) == {("final", "")}
        await at.control(200, REJECT, lot="R1")
        assert await at.listed() == ["S1"]
        await at.control(190, REJECT, lot="R2")
        assert await at.listed() == ["S1", "S2", "S3"]


@pytest.mark.parametrize("rules", [IN_CONTROL, RULES], ids=["rules ask for controls", "exempt by name"])
@pytest.mark.parametrize("count", [MOST_SPANS + 2, POINTS + 20])
async def test_a_failure_is_remembered_however_many_runs_were_good_since(
    database_url: str, rules: str, count: int
) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules)
        for barcode in ("BEFORE", "S1", "S2", "S3", "AFTER"):
            await lab.order(barcode, "NA")
        await at.control(1000)
        await at.control(950)
        await at.control(900, REJECT)
        await at.control(800)
        await at.act(Meanwhile.AGAIN)
        await documented(at, 795)
        await at.send("S1", 850, NA="140")
        assert (await at.said())["S1"] == ("registered", "qc_failed")
        for barcode, minutes in (("S2", 700), ("S3", 600)):
            await many(at, minutes, count=count)
            await at.control(minutes - 50)
            await at.control(minutes - 60)
            await at.send(barcode, 850, NA="140")
            assert (await at.said())[barcode] == ("registered", "qc_failed")
        await at.send("BEFORE", 960, NA="140")
        await at.send("AFTER", 790, NA="140")
        said = await at.said()
        assert (said["BEFORE"], said["AFTER"]) == (("final", ""), ("final", ""))

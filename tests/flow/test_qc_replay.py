"""A replay judges the controls that made no point, as they are read now; those that are points stay as they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from interface.driver import registry
from interface.flow.qc_people import dismiss
from interface.flow.replay import Replayed, replay
from interface.settings import packaged
from interface.store.replay import waiting_since
from tests.flow.control_bench import ControlBench, control_bench, judged
from tests.flow.laboratory import Laboratory, laboratory, message


async def again(lab: Laboratory, *, dry_run: bool = False, code: str | None = None) -> list[Replayed]:
    """All messages, oldest first."""
    rows = await lab.owner.fetch("select id from lab.message where settled <> 'duplicate' order by id")
    return [
        await replay(
            lab.database, lab.director, row["id"], lab.contexts.get, dry_run=dry_run, code=code, reason="mended"
        )
        for row in rows
    ]


def told(found: list[Replayed]) -> list[tuple[str, str, str, bool]]:
    return [(one.specimen, one.before, one.after, one.stays) for each in found for one in each.controls]


def mend(lab: Laboratory, folder: Path, paths: str) -> None:
    """The link's driver reads more from now on."""
    made = folder / "generic_lis2"
    made.mkdir()
    text = (packaged("drivers") / "generic_lis2" / "driver.toml").read_text(encoding="utf-8")
    (made / "driver.toml").write_text(text + paths, encoding="utf-8")
    driver = registry.load("generic_lis2", [folder])
    lab.contexts[lab.context.link_id] = replace(lab.context, driver=driver)


async def counted(lab: Laboratory) -> tuple[int, int, int]:
    """Controls, points, and problems that are open."""
    row = await lab.owner.fetchrow(
        """select (select count(*) from lab.qc_result), (select count(*) from lab.qc_point),
                  (select count(*) from lab.qc_problem where ended_at is null)"""
    )
    assert row is not None
    return row[0], row[1], row[2]


async def test_a_control_whose_lot_is_known_by_now_is_judged_in_its_place(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.send("QC1", "7.15", 30)
        await at.send("QC1", "7.35", 20)
        assert [one[2] for one in judged(await at.found())] == ["unknown_control"] * 2
        await at.levels(1)
        assert told(await again(lab, dry_run=True)) == [
            ("QC1", "held: unknown_control", "accept as of Norm, lot 77/1", False),
            ("QC1", "held: unknown_control", "reject 1-3s as of Norm, lot 77/1", False),
        ]  # fmt: skip
        assert await counted(lab) == (2, 0, 2)  # a dry run changes nothing
        await again(lab)
        assert judged(await at.found()) == [("7.15", "accept", ""), ("7.35", "reject", "1-3s")]
        assert await counted(lab) == (2, 2, 0)
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "fail"
        audited = await lab.owner.fetch("select actor_name from lab.audit_event where action = 'replay_control'")
        assert len(audited) == 2 and {row["actor_name"] for row in audited} == {lab.director.name}
        assert told(await again(lab)) == []
        assert await counted(lab) == (2, 2, 0)


async def test_a_failure_that_a_replay_finds_holds_what_waits(database_url: str) -> None:
    """What follows for patients' results follows at once."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await lab.order("S1", "WBC")
        await at.send("QC1", "7.35", 60)
        of = "P|1||P-1||Muster^Maria||19800501|F", "O|1|S1||^^^WBC|R"
        await lab.send(message(*of, f"R|1|^^^WBC|5|10*9/L||N||F||||{at.stamp(30)}", control="C9"))
        await lab.settle()
        (before,) = await lab.results()
        assert before.held == ()
        await at.levels(1)
        await again(lab)
        (after,) = await lab.results()
        assert [reason.value for reason in after.held] == ["qc_failed"]


async def test_what_a_person_has_seen_to_is_left_alone(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.send("QC1", "7.15", 30)
        (one,) = await at.found()
        async with lab.database.transaction(lab.organization_id) as connection:
            await dismiss(connection, lab.director, one.id, "an old vial")
        await at.levels(1)
        assert told(await again(lab)) == []
        assert await counted(lab) == (1, 0, 0)


async def test_a_mended_driver_tells_two_levels_apart(database_url: str, tmp_path: Path) -> None:
    """The control as it is read now is kept beside what was read then; the same sent again is neither."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        for level in (1, 2):
            await at.target(await at.lot(level, "QC"), "7", "0.1", "10*9/L")
        of = "P|1", "O|1|QC||^^^WBC|R||||||Q", f"R|1|^^^WBC|7.15|10*9/L||N||F||||{at.stamp(30)}|2"
        await lab.send(message(*of))
        await lab.settle()
        assert judged(await at.found()) == [("7.15", "", "ambiguous_control")]
        mend(lab, tmp_path, '\n[paths]\nlevel = "R.14.1"\n')
        assert told(await again(lab)) == [("QC", "held: ambiguous_control", "accept as of Norm, lot 77/2", False)]
        assert await counted(lab) == (2, 1, 0)
        assert told(await again(lab)) == []
        await lab.send(message(*of, control="C2"))
        await lab.settle()
        assert await counted(lab) == (2, 1, 0)


async def test_what_the_driver_reads_as_a_control_by_now_is_judged(database_url: str, tmp_path: Path) -> None:
    """It was taken for a patient's, who is nobody's: that waits for a person as before."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await lab.send(message("P|1", "O|1|QC1||^^^WBC|R||||||K", f"R|1|^^^WBC|7.15|10*9/L||N||F||||{at.stamp(30)}"))
        await lab.settle()
        assert await counted(lab) == (0, 0, 0)
        mend(lab, tmp_path, '\n[[role]]\nrole = "qc"\npath = "O.12"\nequals = ["K"]\n')
        assert told(await again(lab, dry_run=True)) == [("QC1", "", "accept as of Norm, lot 77/1", False)]
        assert await counted(lab) == (0, 0, 0)
        await again(lab)
        assert await counted(lab) == (1, 1, 0)
        assert told(await again(lab)) == []


async def test_a_point_stays_as_it_was_judged_and_what_it_would_be_is_said(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.15", 30)
        before = await lab.owner.fetch("select * from lab.qc_point")
        await lab.owner.execute("update lab.qc_lot set identifiers = '{OTHER}'")
        lot = await at.lot(2, "QC1", number="78")
        await at.target(lot, "9", "0.1", "10*9/L")
        assert told(await again(lab)) == [
            ("QC1", "accept as of Norm, lot 77/1",
             "stays; it would be of Norm, lot 78/2: exclude it with the reason, and enter it", True),
        ]  # fmt: skip
        assert await lab.owner.fetch("select * from lab.qc_point") == before
        assert await counted(lab) == (1, 1, 0)


async def test_the_messages_of_which_a_control_waits_are_found(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at: ControlBench = control_bench(lab)
        await at.send("QC1", "7.15", 30)
        async with lab.database.transaction(lab.organization_id) as connection:
            assert len(await waiting_since(connection, at.now - timedelta(days=1), 10)) == 1
        await at.levels(1)
        await again(lab)
        async with lab.database.transaction(lab.organization_id) as connection:
            assert await waiting_since(connection, at.now - timedelta(days=1), 10) == []

"""A control of which the analyzer itself says what would hold a patient's result vouches for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from interface.driver import registry
from interface.flow import qc_people
from tests.flow.control_bench import ControlBench, control_bench, judged
from tests.flow.laboratory import laboratory, message
from tests.flow.test_qc_replay import again, mend, told

DOUBTED = [("W", "N"), ("P", "N"), ("I", "N"), ("?", "N"), ("F", "ZZ"), ("F", ">")]


async def send(at: ControlBench, value: str, minutes: float, status: str, flag: str = "N", qc: str = "QC1") -> None:
    line = f"R|1|^^^WBC|{value}|10*9/L||{flag}||{status}||||{at.stamp(minutes)}"
    records = message(
        "P|1", f"O|1|{qc}||^^^WBC|R||||||Q", line, control=f"{qc} {value} {minutes} {status} {flag}"
    )  # fmt: skip
    await at.lab.send(records)
    await at.lab.settle()


async def state(at: ControlBench) -> str:
    return str(await at.lab.owner.fetchval("select state from lab.qc_stream"))


@pytest.mark.parametrize(("status", "flag"), DOUBTED)
async def test_what_the_analyzer_doubts_vouches_for_nothing_and_makes_nothing_good(
    database_url: str, status: str, flag: str
) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await send(at, "7.0", 60, status, flag)
        assert (judged(await at.found()), await state(at)) == ([("7.0", "unknown", "")], "unknown")
        (one,) = await at.found()
        shown = await at.shown(one)
        assert shown.point is not None
        assert (shown.point.number, shown.point.z) == (None, None)
        assert "what would hold a patient's result" in shown.point.steps[-1].text
        await send(at, "8.0", 30, status, flag)
        assert (judged(await at.found())[-1], await state(at)) == (("8.0", "reject", "1-3s"), "fail")


async def test_what_is_said_without_a_doubt_afterwards_counts(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        for status in ("P", "F"):
            await send(at, "7.0", 60, status)
        assert judged(await at.found()) == [("7.0", "unknown", ""), ("7.0", "accept", "")]
        assert await state(at) == "ok"


@pytest.mark.parametrize(("again", "vouched"), [(190, "ok"), (60, "unknown")])
async def test_the_level_that_was_doubted_is_measured_again_in_its_run(
    database_url: str, again: int, vouched: str
) -> None:
    """It took the place of its level, so the run was never whole: good controls of all levels vouched for nothing."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1, 2)
        await send(at, "7.0", 200, "F", "ZZ")
        await send(at, "7.0", 199, "F", qc="QC2")
        assert await state(at) == "unknown"
        await send(at, "7.0", again, "F")
        assert await state(at) == vouched


async def test_a_doubt_is_known_when_a_person_says_of_which_lot_it_is(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        (lot,) = await at.levels(1)
        await send(at, "7.0", 60, "W", qc="STRANGE")
        (one,) = await at.found()
        async with lab.database.transaction(lab.organization_id) as connection:
            await qc_people.assign(connection, lab.director, one.id, f"{lot.lot}/{lot.level}", "it is that")
        assert judged(await at.found()) == [("7.0", "unknown", "")]


async def test_a_replay_says_of_a_point_that_the_analyzer_is_known_to_doubt_or_not_by_now(
    database_url: str, tmp_path: Path
) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await send(at, "7.0", 60, "F", "ZZ")
        assert told(await again(lab)) == []
        mend(lab, tmp_path, "")
        made = tmp_path / "generic_lis2" / "driver.toml"
        text = made.read_text(encoding="utf-8").replace("[flags]\n", '[flags]\nZZ = ""\n', 1)
        made.write_text(text, encoding="utf-8")
        driver = registry.load("generic_lis2", [tmp_path])
        lab.contexts[lab.context.link_id] = replace(lab.context, driver=driver)
        [(_, before, after, stays)] = told(await again(lab))
        assert (before.split()[0], stays) == ("unknown", True)
        assert after == "stays; it would be read otherwise: exclude it with the reason, and enter it"


@pytest.mark.parametrize("driver_id", ["mindray_bs", "mindray_bs_astm"])
async def test_a_control_that_is_all_in_its_order_has_no_status_to_be_doubted_for(
    database_url: str, driver_id: str
) -> None:
    async with laboratory(database_url, driver_id) as lab:
        await lab.owner.execute(
            "insert into lab.code_map (id, organization_id, driver, code, unit, test_id, origin, valid_from)"
            " select gen_random_uuid(), organization_id, $2, 'X', '10*9/L', id, 'site', '2020-01-01' from lab.test"
            " where code = 'WBC' and organization_id = $1", lab.organization_id, driver_id,
        )  # fmt: skip
        at = control_bench(lab)
        await at.levels(1)
        for minutes, value in ((60, "8.0"), (30, "7.0")):
            time = at.stamp(minutes)
            if driver_id == "mindray_bs":
                head = f"MSH|^~\\&|Mindray|BS-480|||{time}||ORU^R01|{minutes}|P|2.3.1||||2||ASCII|||"
                order = f"OBR|1|X|WBC|Mindray^BS-480||{time}|||||||QC1|77|||1|7|0.1|{value}|10*9/L"
                await lab.intake.block(f"{head}\r{order}\r".encode(), "127.0.0.1:1")
            else:
                head = f"H|\\^&|||Mindry^^|||||||QR|1394-97|{time}"
                order = f"O|1||2|X^WBC||{time}|||||2^QC1^77^20990201^7^1^0.1^{value}||||||||||||||F"
                await lab.send([head, "P|1", order, "L|1|N"])
            await lab.settle()
        assert [one[1] for one in judged(await at.found())] == ["reject", "accept"]

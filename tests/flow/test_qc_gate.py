"""Controls and what they mean for patients' results: held, listed, judged anew and released."""

from __future__ import annotations

from interface.domain.qc_state import Meanwhile
from tests.flow.controls import REJECT, bench
from tests.flow.laboratory import laboratory
from tests.flow.test_deciding import by_code

FINAL, FAILED, EXPIRED = ("final", ""), ("registered", "qc_failed"), ("registered", "qc_expired")
HELD_ALONE = ("preliminary", "")


async def test_a_failing_control_holds_fifty_results_and_a_good_one_with_an_action_releases_them(
    database_url: str,
) -> None:
    """What was released since the last good control is the list, and nothing else is."""
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        after = [f"A{number}" for number in range(50)]
        for barcode in ("OLD", "S1", "S2", *after):
            await lab.order(barcode, "NA")
        await at.control(300)
        await at.send("OLD", 290, NA="140")
        await at.control(200)
        await at.send("S1", 190, NA="140")
        await at.send("S2", 110, NA="141")
        assert await at.said() == dict.fromkeys(("OLD", "S1", "S2"), FINAL)
        await at.control(100, REJECT)
        assert await at.listed() == ["S1", "S2"]
        for number, barcode in enumerate(after):
            await at.send(barcode, 90 - number, NA="140")
        assert await at.said() == dict.fromkeys(("OLD", "S1", "S2"), FINAL) | dict.fromkeys(after, FAILED)
        await at.control(30)
        assert set((await at.said()).values()) == {FINAL, FAILED}
        await at.act()
        assert await at.said() == dict.fromkeys(("OLD", "S1", "S2", *after), FINAL)
        assert await at.listed() == ["S1", "S2"]


async def test_every_result_says_which_control_vouches_for_it_or_why_it_is_held(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await lab.order("S1", "NA", "K")
        good = await at.control(200)
        await at.send("S1", 190, NA="140", K="4.1")
        found = await by_code(lab)
        said = await lab.owner.fetchval(
            "select steps from lab.decision where result_version_id = $1", found["NA"].version_id
        )
        (step,) = [one for one in said if one["step"] == "qc"]
        assert (step["verdict"], step["version"], step["inputs"]) == (
            "ok", "without a plan", {"state": "ok", "point": str(good)},
        )  # fmt: skip
        assert (await at.said("K"))["S1"] == HELD_ALONE  # nobody controls it: a person releases
        bad = await at.control(100, REJECT)
        await lab.order("S2", "NA")
        await at.send("S2", 90, NA="140")
        (held,) = [one for one in await lab.results() if one.barcode == "S2"]
        said = await lab.owner.fetchval("select steps from lab.decision where result_version_id = $1", held.version_id)
        (step,) = [one for one in said if one["step"] == "qc"]
        assert (step["verdict"], step["inputs"]) == ("hold", {"state": "fail", "point": str(bad)})


async def test_what_was_uploaded_before_the_control_failed_and_waits_is_held(database_url: str) -> None:
    """A batch upload: the patients first, measured after the last good control; what is older is left alone."""
    async with laboratory(database_url) as lab:
        at = await bench(lab, rules="")
        for barcode in ("S0", "S1", "S2"):
            await lab.order(barcode, "NA")
        await at.control(200)
        await at.send("S0", 210, NA="140")
        await at.send("S1", 190, NA="140")
        await at.control(100, REJECT)
        assert await at.said() == {"S0": HELD_ALONE, "S1": FAILED}
        assert await at.listed() == []
        await at.send("S2", 150, NA="140")  # late, and of that time
        assert (await at.said())["S2"] == FAILED
        await at.control(50)
        await at.act()
        assert await at.said() == dict.fromkeys(("S0", "S1", "S2"), HELD_ALONE)


async def test_what_is_to_be_measured_again_stays_held(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        for barcode in ("S1", "S2", "S3"):
            await lab.order(barcode, "NA")
        await at.control(200)
        await at.control(100, REJECT)
        await at.send("S1", 90, NA="140")
        await at.control(50)
        await at.send("S2", 40, NA="140")
        assert await at.said() == {"S1": FAILED, "S2": FAILED}
        await at.act(Meanwhile.AGAIN)
        assert await at.said() == {"S1": FAILED, "S2": FINAL}
        await at.send("S3", 30, NA="140")
        assert (await at.said())["S3"] == FINAL

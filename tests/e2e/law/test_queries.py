"""LAB-27, the query for work, over real connections. Each test is named by the profile's assertion that it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface.driver.law_analyzer import Heard
from interface.simulator.law import Silence
from tests.e2e.law.bench import LawBench, codes, law_bench

TAG = "T-4711"


async def placed(bench: LawBench, barcode: str, rack: str, position: str) -> None:
    """Put a specimen into a rack, as a person does."""
    await bench.owner.execute(
        "update lab.specimen set rack = $2, position = $3 where barcode = $1", barcode, rack, position
    )


async def test_lab27_001_each_specimen_is_asked_about_by_itself(founded_url: str, tmp_path: Path) -> None:
    """Queries for several specimens, one behind the other, are each answered, and their work comes in their order."""
    async with law_bench(founded_url, tmp_path) as bench:
        analyzer = bench.analyzer
        for barcode in ("S-1", "S-2", "S-3"):
            await bench.order(barcode, "GLU")
        for barcode in ("S-2", "S-3", "S-1"):
            assert (await analyzer.ask(barcode)).type == "RSP^K11"
        assert [(await analyzer.next()).order.specimen_id for _ in range(3)] == ["S-2", "S-3", "S-1"]


async def test_lab27_002_the_query_is_acknowledged_at_once(founded_url: str, tmp_path: Path) -> None:
    """RSP^K11^RSP_K11 with MSA AA, the tag in QAK-1, OK in QAK-2 and QPD as it came; a query that cannot be understood
    gets AE with the place of the fault in ERR, and no LAB-28 follows."""
    async with law_bench(founded_url, tmp_path) as bench:
        reply = await bench.analyzer.ask("S-1", tag=TAG)
        asked = bench.analyzer.trace[0].data.decode().split("\r")
        msa, qak, qpd = (reply.first(name) for name in ("MSA", "QAK", "QPD"))
        assert msa and qak and qpd
        assert [reply.header.field(at) for at in (9, 18, 21)] == ["RSP^K11^RSP_K11", "UNICODE UTF-8", "LAB-27^IHE"]
        assert [reply.header.field(at) for at in (15, 16)] == ["", ""]
        assert msa.text == f"MSA|AA|{bench.analyzer.trace[0].data.decode().split('|')[9]}"
        assert [qak.field(at) for at in (1, 2, 3)] == [TAG, "OK", "WOS^Work Order Step^IHELAW"]
        assert qpd.text == asked[1]
        await bench.analyzer.next()

        refused = await bench.analyzer.ask(tag="T-2")
        assert [refused.first("MSA").value(1), refused.first("QAK").value(2)] == ["AE", "AE"]  # type: ignore[union-attr]
        assert refused.first("ERR").field(2) == "QPD^1^3"  # type: ignore[union-attr]
        with pytest.raises(Silence):
            await bench.analyzer.next(0.3)
        settled = await bench.owner.fetch(
            "select settled, reason from lab.message where message_type = 'QBP^Q11' order by id"
        )
        assert [row["settled"] for row in settled] == ["released", "rejected"]
        assert settled[1]["reason"].startswith("segment: ")


async def test_lab27_003_then_comes_the_work(founded_url: str, tmp_path: Path) -> None:
    """LAB-28 comes over the connection that we make, with every step of the specimen by the analyzer's own codes, each
    under an id of its own, the rack and position echoed, and whose specimen it is."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.order("S-1", "GLU", "CREA", "TSH")
        await bench.analyzer.ask("S-1", more="R7|3")
        told = await bench.analyzer.next()
        assert (told.order.specimen_id, told.order.role) == ("S-1", "P")
        assert (told.order.rack, told.order.rack_position) == ("R7", "3")
        assert codes(told.order.steps) == ["GLU", "CREA", "TSH"]
        assert len({step.step_id for step in told.order.steps}) == 3
        assert {(step.control, step.priority) for step in told.order.steps} == {("NW", "R")}
        said = next(line for line in bench.analyzer.trace if not line.said and not line.made)
        assert b"\rPID|1||P-S-1||Muster^Maria^^^^^L||19800501|F\r" in said.data
        await bench.become("accepted", "accepted", "accepted")
        assert [step for (step,) in await bench.dispatches("id_told")] == [one.step_id for one in told.order.steps]


@pytest.mark.parametrize("why", ["unknown", "not for this analyzer", "not received"])
async def test_lab27_004_no_work_is_said(why: str, founded_url: str, tmp_path: Path) -> None:
    """A specimen that is unknown, has nothing for this analyzer or was not received gets the negative query response:
    ORC-1 DC, a specimen of role U, and the container and its place as they were asked for."""
    async with law_bench(founded_url, tmp_path) as bench:
        if why == "not for this analyzer":
            await bench.order("S-1", "WBC")
        elif why == "not received":
            await bench.order("S-1", "GLU", there=False)
        await bench.analyzer.ask("S-1", more="R7|3")
        told = await bench.analyzer.next()
        assert told.order.steps == (Heard("DC"),)
        assert (told.order.specimen_id, told.order.role, told.order.rack) == ("S-1", "U", "R7")
        assert await bench.dispatches("id") == []


async def test_lab27_005_all_work_is_asked_for(founded_url: str, tmp_path: Path) -> None:
    """WOS_ALL is answered by a LAB-28 for each specimen with work for this analyzer; where there is none, by one
    negative query response."""
    async with law_bench(founded_url, tmp_path) as bench:
        for barcode, test in (("S-1", "GLU"), ("S-2", "WBC"), ("S-3", "CREA")):
            await bench.order(barcode, test)
        everything = "WOS_ALL^Work Order Step All^IHELAW"
        reply = await bench.analyzer.ask(name=everything)
        assert reply.first("QAK").field(3) == everything  # type: ignore[union-attr]
        told = [await bench.analyzer.next() for _ in range(2)]
        assert sorted((one.order.specimen_id, *codes(one.order.steps)) for one in told) == [
            ("S-1", "GLU"),
            ("S-3", "CREA"),
        ]
        await bench.become("accepted", "accepted")
        await bench.owner.execute("update lab.order_item set status = 'completed'")
        await bench.analyzer.ask(name=everything)
        assert (await bench.analyzer.next()).order.steps == (Heard("DC"),)


@pytest.mark.parametrize("racks", [True, False])
async def test_lab27_006_a_place_in_a_rack_is_asked_for(racks: bool, founded_url: str, tmp_path: Path) -> None:
    """A place is answered by the specimen that the laboratory has there, named in SAC-3, where the site says that its
    racks are the analyzer's carriers (`racks = true`); otherwise, and where nothing stands, that there is no work."""
    async with law_bench(founded_url, tmp_path, racks=racks) as bench:
        await bench.order("S-1", "GLU")
        await placed(bench, "S-1", "R7", "3")
        await bench.analyzer.ask(name="WOS_BY_RACK", more="R7|3")
        told = await bench.analyzer.next()
        assert (told.order.rack, told.order.rack_position) == ("R7", "3")
        if racks:
            assert (told.order.specimen_id, codes(told.order.steps)) == ("S-1", ["GLU"])
        else:
            assert (told.order.specimen_id, told.order.steps) == ("", (Heard("DC"),))
        await bench.analyzer.ask(name="WOS_BY_RACK", more="R7|4")
        assert (await bench.analyzer.next()).order.steps == (Heard("DC"),)


async def test_lab27_007_a_place_in_a_tray_is_asked_for(founded_url: str, tmp_path: Path) -> None:
    """As by rack, the tray and the position being echoed in SAC-13 and SAC-14."""
    async with law_bench(founded_url, tmp_path, racks=True) as bench:
        await bench.order("S-1", "GLU")
        await placed(bench, "S-1", "T1", "9")
        await bench.analyzer.ask(name="WOS_BY_TRAY", more="||T1|9")
        told = await bench.analyzer.next()
        assert (told.order.specimen_id, codes(told.order.steps)) == ("S-1", ["GLU"])
        said = next(line.data for line in bench.analyzer.trace if not line.said and not line.made)
        assert b"\rSAC|||S-1||||||||||T1|9\r" in said


async def test_lab27_008_an_isolate_is_not_known_here(founded_url: str, tmp_path: Path) -> None:
    """The query by isolate is refused with AE, ERR naming QPD-1 (table 0357, 103): it is not supported."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.order("S-1", "GLU")
        reply = await bench.analyzer.ask("S-1", name="WOS_BY_ISOLATE^Work Order Step by Isolate^IHELAW")
        assert reply.first("MSA").value(1) == "AE"  # type: ignore[union-attr]
        assert [reply.first("ERR").field(2), reply.first("ERR").value(3)] == ["QPD^1^1", "103"]  # type: ignore[union-attr]
        with pytest.raises(Silence):
            await bench.analyzer.next(0.3)


async def test_a_query_in_enhanced_mode_is_accepted_and_then_answered(founded_url: str, tmp_path: Path) -> None:
    """MSH-15 and MSH-16 AL: CA, then RSP^K11, each in a block of its own."""
    async with law_bench(founded_url, tmp_path, accept="AL") as bench:
        reply = await bench.analyzer.ask("S-1")
        assert reply.type == "RSP^K11"
        accepted = bench.analyzer.trace[1].data
        assert b"||ACK^Q11^ACK|" in accepted and b"\rMSA|CA|law-1-1\r" in accepted
        await bench.analyzer.next()

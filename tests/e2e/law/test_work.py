"""LAB-28, the work and the analyzer's answer, over real connections. Named by the assertion that each test shows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from interface.cli import run_command
from interface.domain.model import Priority
from interface.driver.law_analyzer import Heard, HeardOrder
from interface.simulator.law import Policy
from interface.wire import hl7
from tests.e2e.law.bench import LawBench, codes, eventually, law_bench


def lab28(bench: LawBench, at: int = -1) -> hl7.Message:
    """One of the messages that we began."""
    return hl7.parse([line.data for line in bench.analyzer.trace if not line.said and not line.made][at])


def refusing(*refused: str) -> Policy:
    def policy(order: HeardOrder, step: Heard) -> str:
        return "UA" if step.code in refused else "OK"

    return policy


async def test_lab28_001_no_work_is_four_segments(founded_url: str, tmp_path: Path) -> None:
    """The negative query response is MSH, SPM, SAC and ORC."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.analyzer.ask("S-1")
        await bench.analyzer.next()
        assert [segment.id for segment in lab28(bench).segments] == ["MSH", "SPM", "SAC", "ORC"]


async def test_lab28_002_work_is_an_oml_o33(founded_url: str, tmp_path: Path) -> None:
    """OML^O33^OML_O33 of HL7 2.5.1 in UTF-8, naming LAB-28^IHE, wanting an application acknowledgement alone (MSH-15
    NE, MSH-16 AL); its segments stand in the structure's order."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.order("S-1", "GLU", "CREA")
        await bench.analyzer.ask("S-1")
        await bench.analyzer.next()
        message = lab28(bench)
        fields = [message.header.field(at) for at in (9, 12, 15, 16, 18, 21)]
        assert fields == ["OML^O33^OML_O33", "2.5.1", "NE", "AL", "UNICODE UTF-8", "LAB-28^IHE"]
        step = ["ORC", "TQ1", "OBR"]
        assert [one.id for one in message.segments] == ["MSH", "PID", "PV1", "SPM", "SAC", *step, *step]
        assert [message.header.value(at) for at in (3, 5)] == ["LABORA", "law-1"]


@pytest.mark.parametrize("structure", ["ORL_O42", "ORL_O34"])
async def test_lab28_003_the_answer_is_read(structure: str, founded_url: str, tmp_path: Path) -> None:
    """ORL^O34 is taken as ORL_O42, as the profile has it, and as ORL_O34, as some analyzers send it."""
    async with law_bench(founded_url, tmp_path, structure=structure) as bench:
        await bench.order("S-1", "GLU")
        await bench.analyzer.ask("S-1")
        await bench.analyzer.next()
        await bench.become("accepted")


async def test_lab28_003_a_header_alone_says_nothing_of_the_steps(founded_url: str, tmp_path: Path) -> None:
    """Where MSH and MSA AA are all the answer to work, its steps stay `sent`, with a word of that: a BioSystems
    analyzer answers so what it takes, Roche's x800 what it does not."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.order("S-1", "GLU")
        bench.analyzer.brief = True
        await bench.analyzer.ask("S-1")
        await bench.analyzer.next()

        async def words() -> bool:
            return await bench.dispatches("answer") == [("MSA-1 AA",)]

        await eventually(words)
        await bench.become("sent")


async def test_lab28_004_each_step_is_accepted_or_refused(founded_url: str, tmp_path: Path) -> None:
    """OK and UA are kept with each step, a refusal with the analyzer's words and as an alert."""
    async with law_bench(founded_url, tmp_path, policy=refusing("CREA")) as bench:
        await bench.order("S-1", "GLU", "CREA")
        await bench.analyzer.ask("S-1")
        assert (await bench.analyzer.next()).controls == ("OK", "UA")
        await bench.become("accepted", "refused")
        assert await bench.dispatches("code", "answer") == [
            ("GLU", "ORC-1 OK, ORC-5 SC"),
            ("CREA", "ORC-1 UA, ORC-5 CA"),
        ]


async def test_lab28_005_each_step_is_cancelled_or_cannot_be(founded_url: str, tmp_path: Path) -> None:
    """What is cancelled here is taken back by ORC-1 CA with the step's own id, though the link is told of no other work
    without asking; CR ends it, UC is an alert."""
    async with law_bench(founded_url, tmp_path) as bench:
        order = await bench.order("S-1", "GLU", "CREA")
        await bench.analyzer.ask("S-1")
        told = await bench.analyzer.next()
        await bench.become("accepted", "accepted")
        ids = {step.code: step.step_id for step in told.order.steps}
        bench.analyzer.run(ids["CREA"])
        await bench.cancel(order)
        again = await bench.analyzer.next()
        assert {(step.control, step.code, step.step_id) for step in again.order.steps} == {
            ("CA", code, own) for code, own in ids.items()
        }
        assert dict(zip(codes(again.order.steps), again.controls, strict=True)) == {"GLU": "CR", "CREA": "UC"}
        await bench.become("cancelled", "refused")


async def test_lab28_006_an_id_is_never_used_again(founded_url: str, tmp_path: Path) -> None:
    """Asked again, an analyzer is told of the same work by new ids, and refuses none of it."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.order("S-1", "GLU", "CREA")
        seen: list[str] = []
        for _ in range(3):
            await bench.analyzer.ask("S-1")
            told = await bench.analyzer.next()
            assert told.controls == ("OK", "OK")
            seen += [step.step_id for step in told.order.steps]
        assert len(set(seen)) == 6
        await bench.become(*["cancelled"] * 4, "accepted", "accepted")


async def test_lab28_006_a_message_whose_answer_was_lost_is_sent_again_as_it_was(
    founded_url: str, tmp_path: Path
) -> None:
    """A LAB-28 whose answer does not come goes again byte for byte; the refusal that this earns is not taken for one,
    because the first may have been taken."""
    async with law_bench(founded_url, tmp_path, answer_wait_s=0.5) as bench:
        await bench.order("S-1", "GLU")
        bench.analyzer.mute = 1
        await bench.analyzer.ask("S-1")
        first, second = await bench.analyzer.next(), await bench.analyzer.next()
        assert first.order == second.order and second.controls == ("UA",)

        async def words() -> bool:
            return any("may have been taken" in answer for (answer,) in await bench.dispatches("answer"))

        await eventually(words)
        await bench.become("sent")


async def test_lab28_007_the_answer_is_about_the_specimen_alone(founded_url: str, tmp_path: Path) -> None:
    """Of several specimens with work, the answer to a query for one has that one, whole."""
    async with law_bench(founded_url, tmp_path) as bench:
        for barcode in ("S-1", "S-2"):
            await bench.order(barcode, "GLU", "CREA", patient_id="P-1")
        await bench.analyzer.ask("S-2")
        told = await bench.analyzer.next()
        assert (told.order.specimen_id, codes(told.order.steps)) == ("S-2", ["GLU", "CREA"])
        message = lab28(bench)
        assert len(list(message.all("SPM"))) == 1
        assert {one.value(3) for one in message.all("SAC")} == {"S-2"}


async def test_lab28_008_an_analyzer_that_does_not_know_the_specimen_is_heard(founded_url: str, tmp_path: Path) -> None:
    """AR to a negative query response ends that answer; what comes after it goes on."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.analyzer.ask("S-1")
        await bench.analyzer.next()
        bench.analyzer.forget("S-2")
        await bench.analyzer.say(bench.analyzer.voice.asks(bench.analyzer.now(), "T9", "S-2"))
        await bench.analyzer.next()
        answer = hl7.parse([line.data for line in bench.analyzer.trace if line.said and not line.made][-1])
        assert answer.first("MSA").value(1) == "AR"  # type: ignore[union-attr]
        await bench.order("S-3", "GLU")
        await bench.analyzer.ask("S-3")
        assert codes((await bench.analyzer.next()).order.steps) == ["GLU"]


async def test_lab28_009_the_answer_to_no_work_is_a_header(founded_url: str, tmp_path: Path) -> None:
    """MSH and MSA alone are all that is needed: the query is answered, and is not answered again."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.analyzer.ask("S-1")
        await bench.analyzer.next()
        answer = hl7.parse([line.data for line in bench.analyzer.trace if line.said and not line.made][-1])
        assert [segment.id for segment in answer.segments] == ["MSH", "MSA"]

        async def told() -> bool:
            return not await bench.owner.fetchval("select count(*) from lab.law_query where told_at is null")

        await eventually(told)
        assert await bench.owner.fetchval("select count(*) from lab.sending where query_id is not null") == 1


async def test_work_is_sent_without_being_asked_for_where_the_link_says_so(founded_url: str, tmp_path: Path) -> None:
    """`download = true`: what is ordered goes at once, STAT with its priority, to whom the analyzer was never asked."""
    async with law_bench(founded_url, tmp_path, download=True) as bench:

        async def told() -> bool:
            return bool(await bench.owner.fetchval("select bool_and(worklist) from lab.analyzer where name = 'law-1'"))

        await eventually(told)
        await bench.order("S-1", "GLU", priority=Priority.STAT)
        work = await bench.analyzer.next()
        assert (work.order.specimen_id, codes(work.order.steps)) == ("S-1", ["GLU"])
        assert {step.priority for step in work.order.steps} == {"S"}
        await bench.become("accepted")
        assert await bench.owner.fetchval("select count(*) from lab.law_query") == 0


async def test_a_query_that_was_acknowledged_is_answered_after_a_restart(founded_url: str, tmp_path: Path) -> None:
    """While our connection to the analyzer is down the query is acknowledged and kept; its work comes when there is one
    again, also from another process, and is what there is to do then."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.order("S-1", "GLU")
        address = bench.analyzer.address
        await bench.analyzer.close()
        assert (await bench.analyzer.ask("S-1")).first("MSA").value(1) == "AA"  # type: ignore[union-attr]
        await bench.restart()
        await bench.order("S-2", "CREA")
        await bench.analyzer.listen(address)
        told = await bench.analyzer.next()
        assert (told.order.specimen_id, codes(told.order.steps)) == ("S-1", ["GLU"])

        async def accepted_once() -> bool:
            """What was written for the connection that was down is off, and its work ids with it (LAB28-006)."""
            *before, last = [state for (state,) in await bench.dispatches("state")]
            return last == "accepted" and set(before) <= {"cancelled"}

        await eventually(accepted_once)


async def test_an_answer_that_wants_to_be_acknowledged_is(founded_url: str, tmp_path: Path) -> None:
    """ORL^O34 with MSH-15 AL, as enhanced mode allows, is given its CA on the connection that it came by."""
    async with law_bench(founded_url, tmp_path) as bench:
        bench.analyzer.voice.wants = "AL"
        await bench.order("S-1", "GLU")
        await bench.analyzer.ask("S-1")
        await bench.analyzer.next()
        await bench.become("accepted")

        async def acknowledged() -> bool:
            heard = [line for line in bench.analyzer.trace if not line.made]
            return len(heard) == 3 and b"\rMSA|CA|" + hl7.control_id(heard[1].data).encode() in heard[2].data

        await eventually(acknowledged)


async def test_the_simulator_is_such_an_analyzer(
    founded_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`labora simulate --listen`: it asks about each specimen, is told over the other connection, and reports."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.order("S-1", "GLU", "CREA")
        listen, host = bench.analyzer.address, bench.analyzer.host
        await bench.analyzer.close()
        arguments = ["simulate", "--driver", "ihe_law", "--to", str(host), "--listen", str(listen), "--json"]
        capsys.readouterr()
        status = await asyncio.to_thread(run_command, [*arguments, "--specimen", "S-1", "--specimen", "S-9"])
        said = capsys.readouterr()
        known, unknown = json.loads(said.out[said.out.index("{") :])["specimens"]
        assert status == 0
        assert (known["tests"], known["acknowledged"]) == (["GLU", "CREA"], "AA")
        assert unknown == {"specimen_id": "S-9", "answered": True, "tests": [], "acknowledged": "", "results": []}
        measured = {one.code: one.value for one in await bench.results(2)}
        assert measured == {one["code"]: one["value"] for one in known["results"]}
        await bench.become("resulted", "resulted")

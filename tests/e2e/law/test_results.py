"""LAB-29 and the flow as a whole, over real connections. Named by the assertion of the profile that each test shows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from interface.domain.model import FollowUpKind
from interface.driver.law_analyzer import NULL, Result
from interface.flow import follow_ups
from interface.wire import hl7
from tests.e2e.law.bench import LawBench, eventually, law_bench


async def given(bench: LawBench, barcode: str, *tests: str, analyzer: str = "law-1") -> dict[str, str]:
    """Order tests, have the analyzer ask and take them; the step ids by code."""
    await bench.order(barcode, *tests)
    await bench.analyzers[analyzer].ask(barcode)
    told = await bench.analyzers[analyzer].next()
    return {step.code: step.step_id for step in told.order.steps}


def code(reply: hl7.Message) -> str:
    msa = reply.first("MSA")
    return msa.value(1) if msa else ""


async def test_lab29_001_results_come_as_oul_r22(founded_url: str, tmp_path: Path) -> None:
    """OUL^R22 with the step's id in OBR-2 is the result of that step: its order item has it, and the step is done."""
    async with law_bench(founded_url, tmp_path) as bench:
        ids = await given(bench, "S-1", "GLU")
        await bench.analyzer.report("S-1", (Result(ids["GLU"], "GLU", "98.5", "mg/dL"),))
        (result,) = await bench.results(1)
        assert (result.test_code, result.value, result.barcode) == ("GLU", "98.5", "S-1")
        assert result.order_id is not None
        await bench.become("resulted")


@pytest.mark.parametrize("accept", ["NE", "ER"])
async def test_lab29_002_results_are_acknowledged_once_they_are_stored(
    accept: str, founded_url: str, tmp_path: Path
) -> None:
    """ACK^R22^ACK with AA and LAB-29^IHE, when the message is committed; with MSH-15 ER and MSH-16 AL, as Roche's
    analyzers have it, there is that one answer too."""
    async with law_bench(founded_url, tmp_path, accept=accept) as bench:
        ids = await given(bench, "S-1", "GLU")
        reply = await bench.analyzer.report("S-1", (Result(ids["GLU"], "GLU", "98.5", "mg/dL"),))
        assert [reply.header.field(at) for at in (9, 18, 21)] == ["ACK^R22^ACK", "UNICODE UTF-8", "LAB-29^IHE"]
        assert code(reply) == "AA"
        assert reply.first("MSA").value(2) == hl7.control_id(bench.analyzer.trace[-2].data)  # type: ignore[union-attr]
        assert await bench.owner.fetchval("select count(*) from lab.message where message_type = 'OUL^R22'") == 1


async def test_lab29_003_results_that_nobody_asked_for_are_taken(founded_url: str, tmp_path: Path) -> None:
    """OBR-2 `""` is acknowledged like every result; without an order it is held, and nobody is guessed."""
    async with law_bench(founded_url, tmp_path) as bench:
        reply = await bench.analyzer.report("S-NOBODY", (Result("", "GLU", "98.5", "mg/dL"),))
        assert code(reply) == "AA"
        assert f"OBR||{NULL}||GLU".encode() in bench.analyzer.trace[-2].data
        (result,) = await bench.results(1)
        assert result.order_id is None and "no_such_specimen" in {str(one) for one in result.held}


async def test_law_001_redundant_work_is_cancelled_elsewhere(founded_url: str, tmp_path: Path) -> None:
    """Two analyzers have the same test of a specimen; when one reports it, the other is told CA, and its step ends."""
    async with law_bench(founded_url, tmp_path, "law-1", "law-2") as bench:
        await bench.order("S-1", "GLU")
        ids = {}
        for name, analyzer in bench.analyzers.items():
            await analyzer.ask("S-1")
            ids[name] = (await analyzer.next()).order.steps[0].step_id
        await bench.become("accepted", "accepted")
        await bench.analyzers["law-1"].report("S-1", (Result(ids["law-1"], "GLU", "98.5", "mg/dL"),))
        told = await bench.analyzers["law-2"].next()
        assert [(step.control, step.step_id) for step in told.order.steps] == [("CA", ids["law-2"])]
        assert told.controls == ("CR",)
        await bench.become("resulted", "cancelled")


async def test_law_002_what_the_analyzer_intends_is_kept(founded_url: str, tmp_path: Path) -> None:
    """What became of each step, sent and accepted, is kept with who said so, and never overwritten."""
    async with law_bench(founded_url, tmp_path) as bench:
        await given(bench, "S-1", "GLU")
        await bench.become("accepted")
        events = await bench.owner.fetch(
            "select state, answer, actor_kind, actor_name from lab.dispatch_event order by id"
        )
        assert [tuple(row) for row in events] == [
            ("sent", "", "link", "law-1-out"),
            ("accepted", "ORC-1 OK, ORC-5 SC", "link", "law-1-out"),
        ]


async def test_law_004_what_cannot_be_cancelled_is_an_alert(founded_url: str, tmp_path: Path) -> None:
    """UC to a cancellation is kept as refused, with the analyzer's words; a result that comes all the same is taken."""
    async with law_bench(founded_url, tmp_path) as bench:
        order = await bench.order("S-1", "GLU")
        await bench.analyzer.ask("S-1")
        step = (await bench.analyzer.next()).order.steps[0].step_id
        await bench.become("accepted")
        bench.analyzer.run(step)
        await bench.cancel(order)
        assert (await bench.analyzer.next()).controls == ("UC",)
        await bench.become("refused")
        assert await bench.dispatches("kind", "answer") == [("cancel", "ORC-1 UC, ORC-5 IP")]
        reply = await bench.analyzer.report("S-1", (Result(step, "GLU", "98.5", "mg/dL"),))
        assert code(reply) == "AA"
        (result,) = await bench.results(1)
        assert result.held, "nothing of a cancelled order is released by itself"


async def test_law_005_a_step_that_was_entered_at_the_analyzer_has_no_id(founded_url: str, tmp_path: Path) -> None:
    """OBR-2 `""` for a test that is ordered: it is found by specimen and code, as the result of that order."""
    async with law_bench(founded_url, tmp_path) as bench:
        await bench.order("S-1", "GLU")
        reply = await bench.analyzer.report("S-1", (Result("", "GLU", "98.5", "mg/dL"),))
        assert code(reply) == "AA"
        (result,) = await bench.results(1)
        assert result.order_id is not None and result.value == "98.5"


async def test_law_006_results_come_over_time_and_together(founded_url: str, tmp_path: Path) -> None:
    """Three steps: one reported alone while the others are in process, two together after it; each is done when its
    result is there."""
    async with law_bench(founded_url, tmp_path) as bench:
        ids = await given(bench, "S-1", "GLU", "CREA", "K")
        await bench.become("accepted", "accepted", "accepted")
        first = Result(ids["CREA"], "CREA", "0.9", "mg/dL", order_status="IP")
        assert code(await bench.analyzer.report("S-1", (first,))) == "AA"
        await bench.become("accepted", "resulted", "accepted")
        both = (Result(ids["GLU"], "GLU", "98.5", "mg/dL"), Result(ids["K"], "K", "4.1", "mmol/L"))
        assert code(await bench.analyzer.report("S-1", both)) == "AA"
        await bench.become("resulted", "resulted", "resulted")
        assert [one.test_code for one in await bench.results(3)] == ["CREA", "GLU", "K"]


async def test_law_007_a_reflex_of_the_analyzers_own_has_no_id(founded_url: str, tmp_path: Path) -> None:
    """A child of a step of ours, OBR-2 `""` and its parent in OBR-29, is a result of the specimen beside the one that
    was ordered; what was not ordered is held."""
    async with law_bench(founded_url, tmp_path) as bench:
        ids = await given(bench, "S-1", "TSH")
        results = (Result(ids["TSH"], "TSH", "9.1", "m[IU]/L"), Result("", "K", "4.1", "mmol/L", parent=ids["TSH"]))
        assert code(await bench.analyzer.report("S-1", results)) == "AA"
        ordered, reflex = await bench.results(2)
        assert (ordered.test_code, reflex.test_code) == ("TSH", "K")
        assert ordered.order_id is not None and reflex.held
        await bench.become("resulted")


async def test_law_008_results_that_come_again_are_not_rejected(founded_url: str, tmp_path: Path) -> None:
    """The same message once more, and the same results in a new message, are acknowledged with AA; the result stays
    one."""
    async with law_bench(founded_url, tmp_path) as bench:
        ids = await given(bench, "S-1", "GLU")
        results = (Result(ids["GLU"], "GLU", "98.5", "mg/dL"),)
        assert code(await bench.analyzer.report("S-1", results)) == "AA"
        message = bench.analyzer.trace[-2].data
        assert code(await bench.analyzer.say(message)) == "AA"
        await bench.results(1)
        again = message.replace(b"|law-1-", b"|again-")
        assert code(await bench.analyzer.say(again)) == "AA"
        stored = "select count(*) from lab.message where message_type = 'OUL^R22' and settled is not null"

        async def settled() -> bool:
            return bool(await bench.owner.fetchval(stored) == 3)

        await eventually(settled)
        assert len(await bench.results(1)) == 1
        assert await bench.owner.fetchval("select count(*) from lab.result_version") == 1


async def test_what_could_not_be_measured_is_no_result(founded_url: str, tmp_path: Path) -> None:
    """OBX-11 X is held as a failed run; its step is not done."""
    async with law_bench(founded_url, tmp_path) as bench:
        ids = await given(bench, "S-1", "GLU")
        failed = Result(ids["GLU"], "GLU", "", status="X", order_status="CA")
        assert code(await bench.analyzer.report("S-1", (failed,))) == "AA"
        (result,) = await bench.results(1)
        assert "run_failed" in {str(one) for one in result.held}


async def test_a_result_under_another_specimens_work_id_is_held(founded_url: str, tmp_path: Path) -> None:
    """The container and the work id name two specimens: which is right a person says. The right one goes on."""
    async with law_bench(founded_url, tmp_path) as bench:
        ids = {barcode: (await given(bench, barcode, "GLU"))["GLU"] for barcode in ("S-1", "S-2")}
        for barcode, named in (("S-2", ids["S-1"]), ("S-1", ids["S-1"])):
            reply = await bench.analyzer.report(barcode, (Result(named, "GLU", "98.5", "mg/dL"),))
            assert code(reply) == "AA"
        # Order is kept within a specimen: which of the two is decided first is nobody's promise.
        held = {one.barcode: {str(reason) for reason in one.held} for one in await bench.results(2)}
        assert held.keys() == {"S-1", "S-2"}
        assert "ambiguous_specimen" in held["S-2"] and "ambiguous_specimen" not in held["S-1"]


async def test_a_dilution_that_was_asked_for_is_a_new_step_with_its_factor(founded_url: str, tmp_path: Path) -> None:
    """A person asks for another, diluted run of a result: told by a new work id, TCD-2 with the factor."""
    async with law_bench(founded_url, tmp_path) as bench:
        ids = await given(bench, "S-1", "GLU", "CREA")
        await bench.analyzer.report("S-1", (Result(ids["GLU"], "GLU", "698.5", "mg/dL"),))
        (result,) = await bench.results(1)
        async with bench.database.transaction(bench.organization_id) as connection:
            await follow_ups.request(
                connection, bench.director, result.id, FollowUpKind.DILUTION, dilution=Decimal(5), reason="too high"
            )
        await bench.analyzer.ask("S-1")
        steps = {step.code: step for step in (await bench.analyzer.next()).order.steps}
        assert (steps["GLU"].control, steps["GLU"].dilution, steps["CREA"].dilution) == ("NW", "^1^:^5", "")
        assert steps["GLU"].step_id not in ids.values()

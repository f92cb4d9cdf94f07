"""A simulated analyzer at work: reports, controls, reruns, queries, faults, against real links and answering hosts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from interface import cli
from interface.domain.model import SpecimenRole
from interface.driver import registry
from interface.driver.capture import read_capture
from interface.errors import LinkError
from interface.link.clock import Clock
from interface.link.stream import null_modem
from interface.link.supervisor import LinkSpec, Supervisor
from interface.settings import Address, TransportType
from interface.simulator import Fault
from interface.simulator.analyzer import Simulation, Worklist, model, simulate, told
from interface.simulator.hosting import AstmHost
from interface.wire import lis01, mllp
from interface.wire.frames import LEGACY_TEXT_BYTES, cut
from interface.wire.trace import Direction, parse_trace
from tests.link.bench import FakeClock, HastyClock, RecordingIntake, settings
from tests.test_simulator import AckingIntake, command

AT = datetime(2026, 2, 3, 4, 5, 6)  # noqa: DTZ001 - an instrument's clock has no zone
XN, BC, C311 = (model(name) for name in ("sysmex_xn", "mindray_bc5380", "roche_cobas_c311"))


@asynccontextmanager
async def listening(driver_id: str) -> AsyncIterator[tuple[Address, RecordingIntake]]:
    """A link for the driver on a free port."""
    driver = registry.load(driver_id)
    kind = TransportType.MLLP_LISTEN if driver.link == "mllp" else TransportType.TCP_LISTEN
    intake = AckingIntake() if driver.link == "mllp" else RecordingIntake()
    supervisor = Supervisor([LinkSpec(settings(kind), intake, driver)])
    await supervisor.start()
    yield supervisor.address("link-1"), intake
    await supervisor.stop(0.0)


def taken(intake: RecordingIntake) -> list[bytes]:
    return list(intake.blocks) or [frame.text for frame in intake.stored]


@pytest.mark.parametrize("driver_id", ["sysmex_xn", "mindray_bc5380", "biomerieux_mini_vidas"])
async def test_orders_controls_and_reruns_arrive_as_they_were_meant(driver_id: str) -> None:
    one = model(driver_id)
    controls = int(SpecimenRole.QC in one.known.shapes)
    work = Worklist(AT, orders=3, seed=5, controls=controls, reruns=True)
    async with listening(driver_id) as (address, intake):
        made = await simulate(one, work, address)
    assert made.report.complete
    assert len(made.runs) == made.report.acknowledged == 6 + controls
    said = [registry.decode(one.driver, text).specimens[0] for text in taken(intake)]
    assert [(each.specimen_id, each.role) for each in said] == [(run.specimen_id, run.role) for run in made.runs]
    for specimen, run in zip(said, made.runs, strict=True):
        values = {result.code: result.value for result in specimen.results}
        assert {result.code: result.value for result in run.results}.items() <= values.items()
    first, second = made.runs[controls : controls + 2]
    assert first.specimen_id == second.specimen_id
    if driver_id != "biomerieux_mini_vidas":  # whose vector has one value of one test
        assert first.results != second.results


async def test_the_same_seed_and_clock_send_the_same_bytes() -> None:
    sent = []
    for _ in range(2):
        async with listening("mindray_bc5380") as (address, intake):
            await simulate(BC, Worklist(AT, orders=2, seed=3, controls=1), address)
        sent.append(taken(intake))
    assert sent[0] == sent[1]
    assert len(set(sent[0])) == 3


async def test_the_fault_of_each_transmission_is_drawn_from_the_seed() -> None:
    work = Worklist(AT, orders=12, seed=2, faults=(Fault.CHECKSUM, Fault.REPEAT, Fault.NONE))
    counts = []
    for _ in range(2):
        async with listening("sysmex_xn") as (address, intake):
            made = await simulate(XN, work, address)
        assert made.report.complete
        assert len(set(taken(intake))) == 12
        counts.append((made.report.rejections, [reason for reason, _ in intake.refused]))
    assert counts[0] == counts[1]
    assert 0 < counts[0][0] < 12


async def test_a_fault_that_the_protocol_does_not_have_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(LinkError, match="no checksum"):
        await simulate(BC, Worklist(AT, faults=(Fault.NONE, Fault.CHECKSUM)), Address("127.0.0.1", 1))


# ---- queries --------------------------------------------------------------------------------------------------------


def said_by_host(driver_id: str, vector: str) -> bytes:
    trace = next(one.trace for one in registry.vectors(driver_id) if one.name == vector)
    return parse_trace(trace.read_text()).bytes_of(Direction.HOST)


def answer_text(driver_id: str, vector: str) -> bytes:
    frame = said_by_host(driver_id, vector)
    return frame[frame.index(b"\x02") + 2 : frame.index(b"\x03")]


async def asked(
    driver_id: str, vector: str, specimen: str, fault: Fault = Fault.NONE, clock: FakeClock | None = None
) -> tuple[AstmHost, Simulation]:
    analyzer, host_end = null_modem()
    time: Clock = clock or HastyClock()
    answers = [cut(answer_text(driver_id, vector), LEGACY_TEXT_BYTES)] if vector else []
    host = AstmHost(host_end, answers, lis01.LinkOptions(), time)
    serving = asyncio.create_task(host.serve())
    work = Worklist(AT, specimens=(specimen,), query=True, faults=(fault,), answer_wait_s=60.0)
    playing = asyncio.create_task(simulate(model(driver_id), work, analyzer, clock=time))
    if clock is not None:
        async with asyncio.timeout(20):
            while not playing.done():
                await clock.advance(0.5)
    made = await playing
    serving.cancel()
    return host, made


@pytest.mark.parametrize(("driver_id", "specimen", "tests"), [
    ("sysmex_xn", "S-100001", 14), ("roche_cobas_c311", "S-200001", 2),
])  # fmt: skip
async def test_what_the_host_orders_is_measured(driver_id: str, specimen: str, tests: int) -> None:
    host, made = await asked(driver_id, "query-with-orders", specimen)
    (answer,), (run,) = made.answers, made.runs
    assert (answer.specimen_id, answer.heard, len(answer.tests)) == (specimen, True, tests)
    assert {result.code for result in run.results} == set(answer.tests)
    driver = registry.load(driver_id)
    query, report = (registry.decode(driver, one.text) for one in read_capture(b"".join(host.texts)))
    assert query.queries[0].specimen_ids == (specimen,)
    assert [(one.specimen_id, len(one.results)) for one in report.specimens] == [(specimen, tests)]


async def test_a_host_without_orders_is_believed() -> None:
    host, made = await asked("sysmex_xn", "query-without-orders", "S-199999")
    assert [(one.heard, one.tests) for one in made.answers] == [(True, ())]
    assert made.runs == ()
    assert len(host.texts) == 1


async def test_a_host_that_does_not_answer_is_said_to_be_silent() -> None:
    host, made = await asked("sysmex_xn", "", "S-100001", clock=FakeClock())
    assert [(one.heard, one.tests) for one in made.answers] == [(False, ())]
    assert made.runs == ()
    assert len(host.texts) == 1


async def test_in_contention_the_analyzer_goes_first_and_the_answer_still_arrives() -> None:
    host, made = await asked("sysmex_xn", "query-with-orders", "S-100001", Fault.CONTENTION, FakeClock())
    assert [(one.heard, len(one.tests)) for one in made.answers] == [(True, 14)]
    queries = [text for text in host.texts if b"\rQ|1|" in text]
    assert len(queries) == 2
    assert queries[0] == queries[1]
    assert len(made.runs) == 1


@pytest.mark.parametrize(("vector", "specimen", "tests"), [
    ("query-with-orders", "S-300001", ("CBC", "DIFF")), ("query-without-orders", "S-399999", ()),
])  # fmt: skip
async def test_an_hl7_host_answers_in_its_acknowledgement(vector: str, specimen: str, tests: tuple[str, ...]) -> None:
    reply = said_by_host("mindray_bc5380", vector)
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = mllp.Decoder()
        while data := await reader.read(65536):
            for event in decoder.receive(data):
                if isinstance(event, mllp.BlockReceived):
                    received.append(event.block)
                    control = event.block.split(b"|")[9]
                    old = b"|6\r" if tests else b"|7\r"
                    plain = b"\x0bMSH|^~\\&|||BC|||ACK^R01\rMSA|AA|" + control + b"\r\x1c\r"
                    writer.write(reply.replace(old, b"|" + control + b"\r") if b"ORM^O01" in event.block else plain)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    work = Worklist(AT, specimens=(specimen,), query=True)
    made = await simulate(BC, work, Address("127.0.0.1", server.sockets[0].getsockname()[1]))
    server.close()
    await server.wait_closed()
    assert [(one.heard, one.tests) for one in made.answers] == [(True, tests)]
    assert made.report.complete
    # The parameters of the modes that are ordered.
    assert BC.driver.answer is not None
    panel = tuple(code for code in BC.known.panel(SpecimenRole.PATIENT) if code in BC.driver.answer.orders)
    assert [tuple(one.code for one in run.results) for run in made.runs] == ([panel] if tests else [])
    assert len(received) == 1 + len(made.runs)


def test_what_is_told_of_another_specimen_is_not_done() -> None:
    text = answer_text("roche_cobas_c311", "query-with-orders")
    assert told(C311.driver, [text], "S-200001") == ("685", "158")
    assert told(C311.driver, [text], "S-1") == ()


# ---- the command ----------------------------------------------------------------------------------------------------


async def test_the_command_says_what_was_measured_and_acknowledged() -> None:
    async with listening("sysmex_xn") as (address, intake):
        options = [
            "--driver",
            "sysmex_xn",
            "--orders",
            "2",
            "--seed",
            "4",
            "--qc",
            "--test",
            "WBC",
            "--at",
            "2026-02-03",
        ]
        status, out, err = await command(*options, "--to", str(address), "--json")
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert (said["messages"], said["acknowledged"], said["faults"]) == (3, 3, [])
    assert [one["role"] for one in said["specimens"]] == ["qc", "patient", "patient"]
    assert [len(one["results"]) for one in said["specimens"][1:]] == [1, 1]
    assert len(taken(intake)) == 3


async def test_the_command_says_that_nobody_answered_a_query() -> None:
    async with listening("sysmex_xn") as (address, _):
        options = ["--driver", "sysmex_xn", "--specimen", "S-1", "--query", "--answer-wait", "0.05"]
        status, _, err = await command(*options, "--to", str(address))
    assert (status, err) == (1, "S-1: no answer from the host\n")


@pytest.mark.parametrize(("options", "said"), [
    ([], "give a FILE to play"),
    (["FILE", "--query"], "are for an analyzer without FILE"),
    (["FILE", "--fault", "cut", "--fault", "noise"], "one --fault at a time"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    capture = tmp_path / "capture.astm"
    capture.write_bytes(b"H|\\^&\rL|1|N\r")
    arguments = [str(capture) if one == "FILE" else one for one in options]
    assert cli.run_command(["simulate", *arguments, "--to", "127.0.0.1:1"]) == 2
    assert said in capsys.readouterr().err

"""The simulator against real links: what an analyzer sends arrives, whatever goes wrong on the line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interface.errors import LaboraError, LinkError, StoreUnavailable
from interface.link.intake import Receipt
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import connect
from interface.settings import Address, TransportType
from interface.simulator import Fault, PlayProtocol, Source, load, parse_source, play
from interface.wire.frames import build_frame, parse_frame
from interface.wire.lis01 import LinkOptions
from interface.wire.trace import Direction, Trace, TraceStep, format_trace
from tests.link.bench import (
    ACK,
    ENQ,
    EOT,
    NAK,
    Analyzer,
    FakeClock,
    Framing,
    HastyClock,
    RecordingIntake,
    settings,
    settle,
)

CORPUS = Path(os.environ.get("LABORA_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
CAPTURES = sorted(path for folder in ("astm", "hl7") for path in CORPUS.glob(f"{folder}/*.*"))

TEXTS = [b"H|\\^&\r", b"P|1\r", b"O|1|S-1\r", b"R|1|^^^GLU|5.4\r", b"L|1|N\r"]
ASTM = parse_source(b"".join(TEXTS))
HL7 = b"MSH|^~\\&|A|B|C|D|20260101||ORU^R01|%d|P|2.5.1\rPID|1\rOBX|1|NM|GLU||5.4\r"


class AckingIntake(RecordingIntake):
    """Acknowledges HL7 messages with their control id."""

    def __init__(self) -> None:
        super().__init__()
        self.code = b"AA"

    async def block(self, block: bytes, peer: str) -> Receipt:
        receipt = await super().block(block, peer)
        header = block.split(b"\r")[0].split(b"|")
        if b"NE" in header[14:16] and {*header[14:16]} <= {b"", b"NE"}:  # HL7 v2.5.1 2.9.2: no acknowledgement wanted
            return Receipt(receipt.message_id)
        control_id = header[9]
        return Receipt(receipt.message_id, b"MSH|^~\\&|\rMSA|" + self.code + b"|" + control_id + b"\r")

    @property
    def texts(self) -> list[bytes]:
        return [frame.text for frame in self.stored]


@pytest.fixture
async def hosts() -> AsyncIterator[tuple[AckingIntake, Supervisor]]:
    """Two links with one intake: `astm` and `mllp`."""
    intake = AckingIntake()
    mllp = settings(TransportType.MLLP_LISTEN, id="mllp")
    supervisor = Supervisor(
        [LinkSpec(settings(id="astm"), intake, Framing(frozenset({"fn_unsequenced"}))), LinkSpec(mllp, intake)]
    )
    await supervisor.start()
    yield intake, supervisor
    await supervisor.stop(0.0)


Hosts = tuple[AckingIntake, Supervisor]


def address(hosts: Hosts, source: Source) -> Address:
    return hosts[1].address(source.protocol)


async def test_a_bare_message_goes_out_as_one_record_per_frame(hosts: Hosts) -> None:
    report = await play(ASTM, address(hosts, ASTM))
    assert report.complete
    assert (report.messages, report.rejections, report.faults) == (1, 0, ())
    assert hosts[0].texts == TEXTS


@pytest.mark.parametrize("fault", list(Fault))
async def test_every_record_arrives_once_whatever_goes_wrong(hosts: Hosts, fault: Fault) -> None:
    report = await play(ASTM, address(hosts, ASTM), fault=fault, clock=HastyClock())
    assert report.complete
    status = next(status for status in hosts[1].statuses() if status.id == "astm")
    await asyncio.wait_for(hosts[0].ended.wait(), 10)
    if fault is Fault.CUT:
        assert hosts[0].texts == TEXTS[:2] + TEXTS
        assert "lost" in hosts[0].ends
    else:
        assert hosts[0].texts == TEXTS
    assert status.repeats == (len(TEXTS) if fault is Fault.REPEAT else 0)
    assert status.checksum_errors == report.rejections == (1 if fault is Fault.CHECKSUM else 0)
    assert [reason for reason, _ in hosts[0].refused].count("skipped") >= (len(TEXTS) if fault is Fault.NOISE else 0)


async def test_hl7_messages_wait_for_their_acknowledgement(hosts: Hosts) -> None:
    source = parse_source(HL7 % 1 + HL7 % 2)
    assert source.protocol is PlayProtocol.MLLP
    report = await play(source, address(hosts, source), repeat=2)
    assert (report.messages, report.acknowledged, len(report.replies)) == (4, 4, 4)
    assert hosts[0].blocks == [HL7 % 1, HL7 % 2] * 2


@pytest.mark.parametrize(("fault", "blocks"), [(Fault.CUT, 1), (Fault.REPEAT, 2), (Fault.NOISE, 1), (Fault.SLOW, 1)])
async def test_hl7_faults(hosts: Hosts, fault: Fault, blocks: int) -> None:
    source = parse_source(HL7 % 1)
    assert (await play(source, address(hosts, source), fault=fault, clock=HastyClock())).complete
    assert hosts[0].blocks == [HL7 % 1] * blocks


async def test_a_refused_hl7_message_is_not_acknowledged(hosts: Hosts) -> None:
    hosts[0].code = b"AE"
    source = parse_source(HL7 % 1)
    report = await play(source, address(hosts, source))
    assert not report.complete
    assert report.rejections == 1
    assert report.faults == ("the host answered AE",)


async def test_a_checksum_fault_is_not_for_mllp(hosts: Hosts) -> None:
    source = parse_source(HL7 % 1)
    for fault in (Fault.CHECKSUM, Fault.CONTENTION):
        with pytest.raises(LinkError):
            await play(source, address(hosts, source), fault=fault)


async def test_a_host_that_never_stores_is_reported(hosts: Hosts) -> None:
    hosts[0].failures = [StoreUnavailable("down")] * 6
    report = await play(ASTM, address(hosts, ASTM))
    assert (report.acknowledged, report.rejections) == (0, 6)
    assert report.faults == ("the host did not take the transmission: rejected",)


async def test_a_busy_host_is_asked_again_until_it_is_ready(hosts: Hosts) -> None:
    hosts[0].ready = False
    clock = FakeClock()
    playing = asyncio.create_task(play(ASTM, address(hosts, ASTM), clock=clock))
    async with asyncio.timeout(10):
        while not hosts[1].statuses()[0].naks:
            await clock.advance(0.0)
    hosts[0].ready = True
    async with asyncio.timeout(10):
        while not playing.done():
            await clock.advance(10.0)
    assert (await playing).complete


async def test_what_the_host_sends_by_itself_is_acknowledged_and_kept() -> None:
    said = list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = [ACK, ACK, ENQ, build_frame(1, b"H|\\^&\r", True), EOT]
        for answer in host:
            said.append(await reader.readexactly(1))
            while said[-1] == b"\x02" and not said[-1].endswith(b"\n"):
                await reader.readuntil(b"\n")
                break
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    source = parse_source(b"H|\\^&\r")
    report = await play(source, Address("127.0.0.1", server.sockets[0].getsockname()[1]), linger_s=10.0)
    server.close()
    assert report.complete
    assert report.replies == (b"H|\\^&\r",)
    assert said == [ENQ, b"\x02", EOT, ACK, ACK]


async def test_an_altered_value_travels_with_a_fitting_checksum(hosts: Hosts) -> None:
    altered = ASTM.altered(b"|5.4", b"|5.5")
    assert (await play(altered, address(hosts, ASTM))).complete
    assert b"R|1|^^^GLU|5.5\r" in hosts[0].texts
    with pytest.raises(LaboraError):
        ASTM.altered(b"absent", b"")
    assert parse_source(HL7 % 1).altered(b"5.4", b"5.5").transmissions == ((HL7.replace(b"5.4", b"5.5") % 1,),)


async def test_nobody_at_the_address_is_one_sentence(hosts: Hosts) -> None:
    await hosts[1].stop(0.0)
    with pytest.raises(LinkError, match="cannot connect to 127"):
        await play(ASTM, address(hosts, ASTM))


async def test_transmissions_keep_the_rate(hosts: Hosts) -> None:
    clock = FakeClock()
    playing = asyncio.create_task(play(ASTM, address(hosts, ASTM), rate_per_s=2.0, repeat=3, clock=clock))
    async with asyncio.timeout(10):
        while not playing.done():
            await clock.advance(0.25)
    report = await playing
    assert report.messages == 3
    assert report.seconds >= 1.0


def test_a_trace_is_played_without_what_its_host_refused(tmp_path: Path) -> None:
    frame, damaged = build_frame(1, b"H|\\^&\r", True), b"\x021H!\\^&\r\x03E5\r\n"
    talk = [(">", ENQ), ("<", ACK), (">", damaged), ("<", NAK), (">", frame), ("<", ACK), (">", frame), (">", EOT)]
    path = tmp_path / "one.trace"
    path.write_text(format_trace(Trace("made up", tuple(TraceStep(Direction(way), data) for way, data in talk))))
    assert load(path) == Source(PlayProtocol.ASTM, ((frame, frame),))


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\x05\x04", b"\x05\x02cut"])
def test_a_source_without_message_is_refused(data: bytes) -> None:
    with pytest.raises(LaboraError):
        parse_source(data)


def test_a_record_longer_than_a_frame_is_cut_with_etb() -> None:
    (frames,) = parse_source(b"H|\\^&\rR|1|" + b"x" * 70_000 + b"\r").transmissions
    parts = [parse_frame(frame) for frame in frames]
    assert [(fn, last) for fn, _, last in parts] == [(1, True), (2, False), (3, True)]
    assert max(map(len, frames)) == 64_000


def test_a_batch_is_played_message_by_message() -> None:
    source = parse_source(
        b"\xef\xbb\xbfFHS|^~\\&\nBHS|^~\\&\n" + (HL7 % 1).replace(b"\r", b"\n") + HL7 % 2 + b"BTS|2\n"
    )
    assert source.transmissions == ((HL7 % 1,), (HL7 % 2,))


@pytest.mark.skipif(not CAPTURES, reason="the corpus is not there (LABORA_CORPUS)")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
async def test_every_capture_of_the_corpus_can_be_played(hosts: Hosts, path: Path) -> None:
    source = load(path)
    if source.protocol is PlayProtocol.MLLP and b"MSH" not in source.transmissions[0][0][:3]:
        pytest.skip("no HL7 message in it")
    report = await play(source, address(hosts, source), options=LinkOptions(reply_wait_s=5.0))
    assert report.complete, report.faults
    if source.protocol is PlayProtocol.ASTM:
        assert hosts[0].texts == [parse_frame(frame)[1] for frames in source.transmissions for frame in frames]
        return
    async with asyncio.timeout(10):  # where no acknowledgement is wanted nothing tells when it has arrived
        while len(hosts[0].blocks) < len(source.transmissions):
            await settle()
    assert hosts[0].blocks == [block for (block,) in source.transmissions]


async def command(*arguments: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of `labora simulate`."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from interface.cli import main; main()", "simulate", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await program.communicate()
    return program.returncode or 0, out.decode(), err.decode()


async def test_the_command_says_what_was_acknowledged(hosts: Hosts, tmp_path: Path) -> None:
    path = tmp_path / "capture.astm"
    path.write_bytes(b"".join(TEXTS))
    to = str(address(hosts, ASTM))
    status, out, err = await command(str(path), "--to", to, "--json")
    assert (status, json.loads(out)["acknowledged"], err) == (0, 1, "")
    hosts[0].failures = [StoreUnavailable("down")] * 6
    status, _, err = await command(str(path), "--to", to)
    assert (status, err) == (1, "the host did not take the transmission: rejected\n")
    assert (await command(str(path), "--to", "nowhere"))[0] == 2
    await hosts[1].stop(0.0)
    status, _, err = await command(str(path), "--to", to)
    assert (status, err) == (1, f"labora: cannot connect to {to}: connection refused\n")


async def test_the_players_line_is_an_ordinary_connection(hosts: Hosts) -> None:
    """A second analyzer on the same link is served while the first plays."""
    other = Analyzer(await connect(hosts[1].address("astm")))
    await other.talk((ENQ, ACK))
    assert (await play(ASTM, address(hosts, ASTM))).complete
    await other.talk((EOT + ENQ, ACK))
    await other.stream.close()

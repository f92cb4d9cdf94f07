"""Framings that a driver declares, on a line: nothing positive before the commit, nothing of a one-way device lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from interface.driver import registry
from interface.errors import StoreUnavailable
from interface.link.declared import FIRST_RETRY_S, DeclaredSession
from interface.link.folder import FolderLink
from interface.link.session import Counters
from interface.link.stream import MemoryStream, null_modem
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import connect
from interface.settings import Address, Folder, LinkSettings, Match, Transport, TransportType
from interface.wire.declared import Decoder, Grammar
from tests.e2e.daemon import free_ports
from tests.link.bench import ACK, ENQ, EOT, NAK, PATIENCE_S, Analyzer, FakeClock, RecordingIntake, settings, settle
from tests.link.cable import Cable

VIDAS = registry.load("biomerieux_mini_vidas")
assert VIDAS.blocks is not None
LINES = Grammar(end=b"\r\n")
BURST = Grammar(silence_s=2.0)


def block(text: bytes) -> bytes:
    covered = text + b"\x1d"
    return b"\x02" + covered + b"%02x" % (sum(covered) & 0xFF) + b"\x03"


ONE, TWO = b"\x1emtrsl|\x1eciS1|\x1ertA|\x1eqn1|", b"\x1emtrsl|\x1eciS2|\x1ertA|\x1eqn2|"
BAD = block(ONE)[:-3] + b"00\x03"


@dataclass
class Line:
    """A session on a null modem; `analyzer` is its other end."""

    analyzer: Analyzer
    stream: MemoryStream
    intake: RecordingIntake
    clock: FakeClock
    counters: Counters
    session: DeclaredSession
    task: asyncio.Task[None]

    async def end(self) -> None:
        await self.stream.close()
        await self.task


@asynccontextmanager
async def line(grammar: Grammar = VIDAS.blocks, max_bytes: int = 1 << 20) -> AsyncIterator[Line]:
    ours, theirs = null_modem()
    intake, clock, counters = RecordingIntake(), FakeClock(), Counters()
    session = DeclaredSession("link-1", theirs, intake, counters, clock, Decoder(grammar, max_bytes))
    made = Line(Analyzer(ours), ours, intake, clock, counters, session, asyncio.create_task(session.run()))
    try:
        yield made
    finally:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


async def test_a_block_is_answered_only_when_it_is_committed() -> None:
    async with line() as one:
        await one.analyzer.talk((ENQ, ACK))
        one.intake.gate.clear()
        await one.analyzer.send(block(ONE))
        await one.intake.until(1)
        answer = asyncio.create_task(one.analyzer.expect(ACK))
        await settle()
        assert not answer.done()
        assert one.intake.replies == []
        one.intake.gate.set()
        await answer
        await one.analyzer.talk((EOT, b""))
        await one.end()
        assert one.intake.blocks == [ONE]
        assert [sent for _, sent in one.intake.replies] == [True]
        assert (one.counters.frames, one.counters.messages) == (1, 1)


async def test_one_byte_at_a_time() -> None:
    async with line() as one:
        await one.analyzer.talk((ENQ, ACK))
        await one.analyzer.send(*(bytes([code]) for code in block(ONE)))
        await one.analyzer.expect(ACK)


async def test_a_wrong_checksum_is_refused_kept_and_may_be_sent_again() -> None:
    async with line() as one:
        await one.analyzer.talk((ENQ, ACK), (BAD, NAK), (block(ONE), ACK), (EOT, b""))
        assert one.intake.refused == [("checksum", BAD)]
        assert one.intake.blocks == [ONE]
        assert (one.counters.checksum_errors, one.counters.naks, one.counters.rejected) == (1, 1, 1)


async def test_a_store_that_fails_is_a_refusal() -> None:
    async with line() as one:
        one.intake.failures = [StoreUnavailable("down")]
        await one.analyzer.talk((ENQ, ACK), (block(ONE), NAK), (block(ONE), ACK))
        assert one.intake.blocks == [ONE]


async def test_a_device_may_not_begin_while_nothing_can_be_stored() -> None:
    async with line() as one:
        one.intake.ready = False
        await one.analyzer.talk((ENQ, NAK))
        one.intake.ready = True
        await one.analyzer.talk((ENQ, ACK))


async def test_a_link_that_is_asked_to_stop_finishes_the_session_and_begins_none() -> None:
    async with line() as one:
        await one.analyzer.talk((ENQ, ACK))
        one.session.stop()
        assert not one.session.idle
        await one.analyzer.talk((block(ONE), ACK), (ENQ, NAK))
        await asyncio.wait_for(one.task, 10)
        assert one.intake.blocks == [ONE]


async def test_silence_within_a_block_ends_it() -> None:
    async with line() as one:
        await one.analyzer.send(ENQ, block(ONE)[:9])
        await one.analyzer.expect(ACK)
        await one.clock.advance(15.0)
        assert one.intake.refused == [("timeout", block(ONE)[:9])]
        await one.analyzer.talk((block(TWO), ACK))


async def test_a_line_that_is_cut_within_a_block_keeps_what_came() -> None:
    async with line() as one:
        await one.analyzer.send(block(ONE)[:9])
        await settle()
        await one.end()
        assert one.intake.refused == [("cut", block(ONE)[:9])]


async def test_an_endless_block_is_dropped_and_the_link_goes_on() -> None:
    async with line(max_bytes=100) as one:
        await one.analyzer.send(b"\x02" + b"x" * 50_000 + b"\x03")
        await one.analyzer.expect(NAK)
        await one.analyzer.talk((block(ONE), ACK))
        assert [reason for reason, _ in one.intake.refused] == ["oversize"]


async def test_a_one_way_device_hears_nothing_and_is_committed_all_the_same() -> None:
    async with line(LINES) as one:
        await one.analyzer.send(b"A,1\r\nB,2\r\n")
        await settle()
        assert one.intake.blocks == [b"A,1", b"B,2"]
        await one.analyzer.send(b"C,3\r\n")
        await one.stream.close()
        await one.analyzer.expect_end()


async def test_what_a_one_way_device_said_waits_until_it_can_be_stored() -> None:
    async with line(LINES) as one:
        one.intake.failures = [StoreUnavailable("down"), StoreUnavailable("down")]
        await one.analyzer.send(b"A,1\r\nB,2\r\n")
        await settle()
        assert one.intake.blocks == []
        await one.clock.advance(FIRST_RETRY_S)
        assert one.intake.blocks == []
        await one.clock.advance(2 * FIRST_RETRY_S)
        assert one.intake.blocks == [b"A,1", b"B,2"]


async def test_nothing_is_read_while_a_block_waits_for_its_commit() -> None:
    async with line(LINES) as one:
        one.intake.gate.clear()
        await one.analyzer.send(b"A,1\r\n")
        await one.intake.until(1)
        flood = asyncio.create_task(one.stream.write(b"x" * 1_000_000))
        await settle()
        assert not flood.done()  # more than the null modem holds: it stays with the sender
        flood.cancel()


async def test_what_could_not_be_stored_at_the_stop_is_evidence() -> None:
    async with line(LINES) as one:
        one.intake.failures = [StoreUnavailable("down")] * 9
        await one.analyzer.send(b"A,1\r\nB,2\r\n")
        await settle()
        one.task.cancel()
        await asyncio.gather(one.task, return_exceptions=True)
        assert one.intake.refused == [("stop", b"A,1\r\n"), ("cut", b"B,2\r\n")]


async def test_a_burst_ends_with_silence_or_with_the_connection() -> None:
    async with line(BURST) as one:
        await one.analyzer.send(b"H1,H2\r\n1,2\r\n")
        await one.clock.advance(1.9)
        assert one.intake.blocks == []
        await one.clock.advance(0.1)
        assert one.intake.blocks == [b"H1,H2\r\n1,2\r\n"]
        await one.analyzer.send(b"H1,H2\r\n3,4\r\n")
        await settle()
        await one.end()
        assert one.intake.blocks[1:] == [b"H1,H2\r\n3,4\r\n"]


# ---- over what carries it -------------------------------------------------------------------------------------------


async def test_a_drivers_framing_is_spoken_over_a_socket() -> None:
    intake = RecordingIntake()
    link = settings(driver=VIDAS.id)
    supervisor = Supervisor([LinkSpec(link, intake, VIDAS)], FakeClock())
    await supervisor.start()
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    await analyzer.talk((ENQ, ACK), (BAD, NAK), (block(ONE), ACK), (block(TWO), ACK), (EOT, b""))
    (status,) = supervisor.statuses()
    assert (status.frames, status.messages, status.naks, status.checksum_errors) == (2, 2, 1, 1)
    assert intake.blocks == [ONE, TWO]
    await analyzer.stream.close()
    await supervisor.stop(0.0)


async def test_a_drivers_framing_is_spoken_over_a_cable(tmp_path: Path) -> None:
    cable, intake = Cable(tmp_path / "port"), RecordingIntake()
    link = LinkSettings("cable", "main", VIDAS.id, Transport(TransportType.SERIAL, cable.port))
    supervisor = Supervisor([LinkSpec(link, intake, VIDAS)], FakeClock())
    await supervisor.start()
    try:
        await Analyzer(cable).talk((ENQ, ACK), (BAD, NAK), (block(ONE), ACK), (EOT, b""))
        assert intake.blocks == [ONE]
    finally:
        await supervisor.stop(0.0)
        cable.unplug()


@pytest.mark.parametrize("noise", [b"", b"\x00\xff", b"\x02", b"\x02\x1emt", b"\x15\x06"])
async def test_noise_before_a_block_wedges_nothing(noise: bytes) -> None:
    async with line() as one:
        await one.analyzer.talk((noise + ENQ, ACK), (noise + block(ONE), ACK))
        assert one.intake.blocks == [ONE]


async def test_a_drivers_framing_is_read_from_files(tmp_path: Path) -> None:
    """The end of a file ends a burst; damaged blocks go to `failed`, what is good in the file is stored."""
    csv, intake, clock = registry.load("generic_csv"), RecordingIntake(), FakeClock()
    transport = Transport(TransportType.FOLDER, Folder(tmp_path, "*", 1.0))
    link = LinkSettings("drop", "main", csv.id, transport)
    (tmp_path / "one.csv").write_bytes(b"sample_id,test\r\nS1,GLU\r\n")
    await _dropped(Supervisor([LinkSpec(link, intake, csv)], clock), clock)
    assert [path.name for path in (tmp_path / "done").iterdir()] == ["one.csv"]
    assert intake.blocks == [b"sample_id,test\r\nS1,GLU\r\n"]
    (tmp_path / "two.raw").write_bytes(block(ONE) + BAD + block(TWO))
    other = RecordingIntake()
    await _dropped(Supervisor([LinkSpec(link, other, VIDAS)], clock), clock)
    assert (tmp_path / "failed" / "two.raw.reason").read_text() == "a block is damaged: checksum\n"
    assert other.blocks == [ONE, TWO]
    assert other.refused == [("checksum", BAD)]


async def _dropped(supervisor: Supervisor, clock: FakeClock) -> None:
    """Let a folder's link look until what is in it has been stable for long enough, is stored and moved."""
    await supervisor.start()
    link = supervisor._links["drop"]
    assert isinstance(link, FolderLink)
    async with asyncio.timeout(PATIENCE_S):
        for number in range(1, 5):
            while link.polls < number:
                await settle()
            await clock.advance(1.0)
    await supervisor.stop(0.0)


async def test_on_a_shared_port_the_peers_host_says_whose_a_block_is() -> None:
    here, elsewhere, clock = RecordingIntake(), RecordingIntake(), FakeClock()
    transport = Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", free_ports(1)[0]))
    specs = [
        LinkSpec(replace(settings(id=name, match=Match(peer=peer)), transport=transport), intake, VIDAS)
        for name, peer, intake in (("here", "127.0.0.0/8", here), ("there", "10.1.2.0/24", elsewhere))
    ]
    supervisor = Supervisor(specs, clock)
    await supervisor.start()
    analyzer = Analyzer(await connect(supervisor.address("here")))
    await analyzer.talk((ENQ, ACK), (block(ONE), ACK))
    assert (here.blocks, elsewhere.blocks) == ([ONE], [])
    assert [sent for _, sent in here.replies] == [True]
    await analyzer.stream.close()
    await supervisor.stop(0.0)


async def test_a_block_that_is_for_no_link_of_its_port_is_refused() -> None:
    intake, clock = RecordingIntake(), FakeClock()
    spec = LinkSpec(settings(match=Match(peer="10.1.2.0/24")), intake, VIDAS)
    supervisor = Supervisor([spec], clock)
    await supervisor.start()
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    await analyzer.talk((ENQ, ACK), (block(ONE), NAK))
    assert intake.blocks == []
    await analyzer.stream.close()
    await supervisor.stop(0.0)

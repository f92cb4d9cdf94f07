"""A LIS01-A2 link from its bytes to the intake and back, over a null modem and over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from interface.errors import StoreAmbiguous, StoreUnavailable
from interface.link.session import EMPTY_WINDOW_S, MOST_EMPTY, AstmSession, Counters
from interface.link.stream import null_modem
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import connect
from interface.wire.lis01 import DataLink, Leniency, LinkOptions, Station, build_frame
from tests.link.bench import ACK, ENQ, EOT, NAK, Analyzer, FakeClock, Framing, RecordingIntake, settings, settle

H, P, L = build_frame(1, b"H|\\^&\r", True), build_frame(2, b"P|1\r", True), build_frame(3, b"L|1|N\r", True)
TEXTS = [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]


@dataclass
class Line:
    analyzer: Analyzer
    intake: RecordingIntake
    clock: FakeClock = field(default_factory=FakeClock)

    @property
    def texts(self) -> list[bytes]:
        return [frame.text for frame in self.intake.stored]

    async def end(self) -> str:
        """The reason of the session's end."""
        async with asyncio.timeout(10):
            await self.intake.ended.wait()
        self.intake.ended.clear()
        return self.intake.ends[-1]


@pytest.fixture(params=["null modem", "socket"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    intake, clock = RecordingIntake(), FakeClock()
    if request.param == "socket":
        supervisor = Supervisor([LinkSpec(settings(), intake)], clock)
        await supervisor.start()
        stream = await connect(supervisor.address("link-1"))
        yield Line(Analyzer(stream), intake, clock)
        await stream.close()
        await supervisor.stop(0.0)
        return
    ours, theirs = null_modem()
    session = AstmSession("link-1", theirs, intake, Counters(), clock, DataLink(Station.HOST))
    task = asyncio.create_task(session.run())
    yield Line(Analyzer(ours), intake, clock)
    await ours.close()
    await task


async def test_a_message_is_committed_frame_by_frame_and_its_reply_reported(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK), (P, ACK), (L, ACK), (EOT, b""))
    assert await line.end() == "eot"
    assert line.texts == TEXTS
    assert [frame.raw for frame in line.intake.stored] == [H, P, L]
    assert [sent for _, sent in line.intake.replies] == [True]


async def test_the_ack_waits_for_the_commit(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK))
    line.intake.gate.clear()
    await line.analyzer.send(H)
    await line.intake.until(1)
    reply = asyncio.create_task(line.analyzer.expect(ACK))
    await settle()
    assert not reply.done()
    line.intake.gate.set()
    await reply


async def test_bytes_one_at_a_time(line: Line) -> None:
    await line.analyzer.send(*(bytes([code]) for code in ENQ + H + P + L + EOT))
    await line.analyzer.expect(ACK * 4)
    assert await line.end() == "eot"
    assert line.texts == TEXTS


async def test_everything_in_one_read(line: Line) -> None:
    await line.analyzer.talk((ENQ + H + P + L + EOT, ACK * 4))
    assert await line.end() == "eot"
    assert line.texts == TEXTS


async def test_a_frame_split_across_reads(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK))
    await line.analyzer.send(H[:5])
    await settle()
    await line.analyzer.talk((H[5:], ACK))
    assert line.texts == TEXTS[:1]


async def test_a_wrong_checksum_is_refused_and_kept_as_evidence(line: Line) -> None:
    damaged = H.replace(b"H|", b"H!")
    await line.analyzer.talk((ENQ, ACK), (damaged, NAK), (H, ACK))
    assert line.texts == TEXTS[:1]
    assert line.intake.refused == [("checksum", damaged)]


async def test_a_repeated_frame_is_acknowledged_and_stored_once(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK), (H, ACK), (P, ACK))
    assert line.texts == TEXTS[:2]


async def test_the_same_number_with_other_bytes_is_refused(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK), (build_frame(1, b"H|\\^&|2\r", True), NAK))
    assert line.texts == TEXTS[:1]


async def test_garbage_before_stx_is_skipped_and_kept(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (b"garbage" + H, ACK))
    assert line.intake.refused == [("skipped", b"garbage")]


async def test_an_oversize_frame_is_refused_and_the_link_goes_on(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (build_frame(1, b"x" * 70_000, True), NAK), (H, ACK))
    assert [reason for reason, _ in line.intake.refused] == ["oversize"]
    assert line.texts == TEXTS[:1]


async def test_an_empty_session_stores_nothing(line: Line) -> None:
    await line.analyzer.talk((ENQ + EOT, ACK))
    assert await line.end() == "eot"
    assert line.texts == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
async def test_any_record_end_reaches_the_intake_as_sent(line: Line, end: bytes) -> None:
    text = end.join([b"H|\\^&", b"L|1|N", b""])
    await line.analyzer.talk((ENQ, ACK), (build_frame(1, text, True), ACK))
    assert line.texts == [text]


async def test_a_message_without_terminator_ends_with_the_session(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK), (P, ACK), (EOT, b""))
    assert await line.end() == "eot"
    assert line.intake.replies == []


async def test_enq_within_a_session(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK), (ENQ, ACK), (H, ACK), (P, ACK))
    assert line.intake.ends == ["enq"]
    assert line.texts == [TEXTS[0], *TEXTS[:2]]


async def test_eot_and_enq_in_one_segment(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK), (EOT + ENQ, ACK), (H, ACK))
    assert line.intake.ends == ["eot"]
    assert line.texts == TEXTS[:1] * 2


@pytest.mark.parametrize("failure", [StoreUnavailable("down"), StoreAmbiguous("who knows")])
async def test_a_failed_commit_is_nak_and_the_frame_is_taken_when_it_works_again(
    line: Line, failure: Exception
) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK))
    line.intake.failures = [failure, failure]
    await line.analyzer.talk((P, NAK), (P, NAK), (P, ACK), (L, ACK))
    assert line.texts == TEXTS


async def test_a_store_that_is_not_ready_refuses_the_enq_and_recovers(line: Line) -> None:
    line.intake.ready = False
    await line.analyzer.talk((ENQ, NAK), (ENQ, NAK))
    line.intake.ready = True
    await line.analyzer.talk((ENQ, ACK), (H, ACK))


async def test_thirty_seconds_of_silence_end_the_session(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK))
    await line.clock.advance(29.0)
    assert line.intake.ends == []
    await line.clock.advance(1.0)
    assert await line.end() == "timeout"
    await line.analyzer.talk((ENQ, ACK), (H, ACK))


async def test_noise_does_not_prolong_a_session(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK))
    await line.clock.advance(20.0)
    await line.analyzer.send(b"~")
    await line.clock.advance(10.0)
    assert await line.end() == "timeout"


async def test_a_cut_line_ends_the_session(line: Line) -> None:
    await line.analyzer.talk((ENQ, ACK), (H, ACK))
    await line.analyzer.send(P[:5])
    await line.analyzer.stream.close()
    assert await line.end() == "lost"


async def test_a_crashed_connection_costs_only_itself() -> None:
    intake = RecordingIntake()
    supervisor = Supervisor([LinkSpec(settings(), intake)])
    await supervisor.start()
    address = supervisor.address("link-1")
    first, second = Analyzer(await connect(address)), Analyzer(await connect(address))
    await first.talk((ENQ, ACK))
    await second.talk((ENQ, ACK))
    intake.failures = [RuntimeError("a bug")]
    await first.send(H)
    await first.expect_end()
    assert intake.ends == ["lost"]
    await second.talk((H, ACK))
    await first.stream.close()
    await second.stream.close()
    await supervisor.stop(0.0)


async def test_a_driver_leniency_reaches_the_line() -> None:
    intake = RecordingIntake()
    supervisor = Supervisor([LinkSpec(settings(), intake, Framing(frozenset({Leniency.NO_CHECKSUM})))])
    await supervisor.start()
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    await analyzer.talk((ENQ, ACK), (H[:-4] + b"00\r\n", ACK))
    assert supervisor.statuses()[0].leniencies == {"no_checksum": 1}
    await analyzer.stream.close()
    await supervisor.stop(0.0)


async def test_a_slow_frame_may_take_longer_than_the_wait_between_frames() -> None:
    intake, clock = RecordingIntake(), FakeClock()
    ours, theirs = null_modem()
    session = AstmSession("s", theirs, intake, Counters(), clock, DataLink(Station.HOST, LinkOptions()))
    task = asyncio.create_task(session.run())
    analyzer = Analyzer(ours)
    await analyzer.talk((ENQ, ACK))
    for at in range(0, len(H), 3):
        await analyzer.send(H[at : at + 3])
        await clock.advance(20.0)
    await analyzer.expect(ACK)
    assert intake.ends == []
    await ours.close()
    await task


async def test_a_line_that_bids_without_end_is_heard_no_faster_than_an_analyzer_bids() -> None:
    """Other links would wait for it: two that send ENQ as fast as a network can took all of a processor."""
    intake, clock = RecordingIntake(), FakeClock()
    ours, theirs = null_modem(capacity_bytes=1 << 20)
    session = AstmSession("s", theirs, intake, Counters(), clock, DataLink(Station.HOST))
    task = asyncio.create_task(session.run())
    heard = 0

    async def hear() -> None:
        nonlocal heard
        while chunk := await ours.read():
            heard += len(chunk)

    hearing = asyncio.create_task(hear())
    await ours.write((ENQ + EOT) * 1000)
    await settle()
    await settle()
    assert 0 < heard <= 2 * MOST_EMPTY
    for _ in range(1000 // MOST_EMPTY + 1):
        await clock.advance(EMPTY_WINDOW_S)
    await settle()
    assert heard >= 1000  # nobody is refused, and nothing forgotten
    await ours.close()
    await asyncio.gather(task, hearing)

"""What a LIS01-A2 link says of itself: once nobody has the line, one message at a time, until it was taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interface.link.session import AstmSession, Counters
from interface.link.stream import null_modem
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import connect
from interface.settings import LinkSettings, Transport, TransportType
from interface.wire.frames import cut
from interface.wire.lis01 import DataLink, LinkOptions, Station, build_frame
from tests.link.bench import ACK, ENQ, EOT, NAK, Analyzer, FakeClock, settings, settle
from tests.link.cable import Cable
from tests.link.speaking import Saying, sending

Q = b"H|\\^&\rQ|1|^S-1\rL|1|N\r"
TEXT, OTHER = b"H|\\^&\rP|1\rO|1|S-1\rL|1|F\r", b"H|\\^&\rP|1\rO|1|S-2\rL|1|F\r"
(FRAME,), (OTHER_FRAME,) = cut(TEXT, 240), cut(OTHER, 240)
OPTIONS = LinkOptions(max_attempts=1)


@dataclass
class Line:
    analyzer: Analyzer
    intake: Saying
    session: AstmSession
    task: asyncio.Task[None]
    clock: FakeClock = field(default_factory=FakeClock)

    async def ask(self) -> None:
        """The analyzer's query, up to its EOT."""
        await self.analyzer.talk((ENQ, ACK), (build_frame(1, Q, True), ACK), (EOT, b""))


@asynccontextmanager
async def line(intake: Saying) -> AsyncIterator[Line]:
    ours, theirs = null_modem()
    clock = FakeClock()
    session = AstmSession("link-1", theirs, intake, Counters(), clock, DataLink(Station.HOST, OPTIONS))
    task = asyncio.create_task(session.run())
    try:
        yield Line(Analyzer(ours), intake, session, task, clock)
    finally:
        await ours.close()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_due_is_said_at_once_where_nobody_has_the_line() -> None:
    async with line(Saying(sending(1, TEXT), sending(2, OTHER))) as at:
        for frame in (FRAME, OTHER_FRAME):
            await at.analyzer.expect(ENQ)
            await at.analyzer.talk((ACK, frame), (ACK, EOT))
        await at.intake.told_times(2)
        assert at.intake.told_of == [(1, True, ""), (2, True, "")]


async def test_the_answer_to_a_query_waits_for_its_end_and_then_does_not_wait() -> None:
    async with line(Saying()) as at:
        await at.analyzer.talk((ENQ, ACK), (build_frame(1, Q, True), ACK))
        at.intake.todo.append(sending(1, TEXT))
        at.intake.due()
        await settle()
        await at.analyzer.talk((EOT, ENQ), (ACK, FRAME), (ACK, EOT))  # nothing came before its EOT


async def test_results_that_come_while_it_is_being_built_go_first() -> None:
    async with line(Saying(sending(1, TEXT))) as at:
        at.intake.building.clear()
        await at.analyzer.talk((ENQ, ACK), (build_frame(1, Q, True), ACK))
        at.intake.building.set()
        await settle()
        await at.analyzer.talk((EOT, ENQ), (ACK, FRAME), (ACK, EOT))
        assert [frame.text for frame in at.intake.stored] == [Q]


async def test_a_busy_analyzer_is_asked_again_after_ten_seconds() -> None:
    async with line(Saying(sending(1, TEXT))) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.send(NAK)
        await at.intake.told_times(1)
        assert at.intake.told_of == [(1, False, "busy")]
        await at.clock.advance(9.0)
        reply = asyncio.create_task(at.analyzer.expect(ENQ))
        await settle()
        assert not reply.done()
        await at.clock.advance(1.1)
        await reply
        await at.analyzer.talk((ACK, FRAME), (ACK, EOT))
        await at.intake.told_times(2)
        assert at.intake.told_of[-1] == (1, True, "")


async def test_contention_the_host_waits_twenty_seconds_and_the_analyzer_goes_first() -> None:
    async with line(Saying(sending(1, TEXT))) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.send(ENQ)
        await at.intake.told_times(1)
        assert at.intake.told_of == [(1, False, "contention")]
        await at.clock.advance(19.0)
        await at.ask()  # within our silence, and answered as always
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk((ACK, FRAME), (ACK, EOT))


async def test_contention_with_an_analyzer_that_stays_silent_is_over_after_twenty_seconds() -> None:
    async with line(Saying(sending(1, TEXT))) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.send(ENQ)
        await at.intake.told_times(1)
        await at.clock.advance(19.9)
        reply = asyncio.create_task(at.analyzer.expect(ENQ))
        await settle()
        assert not reply.done()
        await at.clock.advance(0.2)
        await reply


async def test_six_rejections_of_a_frame_end_the_attempt_and_it_is_due_again() -> None:
    async with line(Saying(sending(1, TEXT))) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk((ACK, FRAME), *[(NAK, FRAME)] * 5, (NAK, EOT))
        await at.intake.told_times(1)
        assert at.intake.told_of == [(1, False, "refused")]
        await at.clock.advance(10.1)
        await at.analyzer.expect(ENQ)


@pytest.mark.parametrize(("before", "reason"), [(b"", "silent"), (ACK, "timeout")])
async def test_fifteen_seconds_without_a_word_end_the_attempt_with_eot(before: bytes, reason: str) -> None:
    async with line(Saying(sending(1, TEXT))) as at:
        await at.analyzer.expect(ENQ)
        if before:
            await at.analyzer.talk((before, FRAME))
        await at.clock.advance(15.1)
        await at.analyzer.expect(EOT)
        await at.intake.told_times(1)
        assert at.intake.told_of == [(1, False, reason)]
        await at.clock.advance(10.1)
        await at.analyzer.expect(ENQ)


async def test_nobody_at_home_is_called_less_and_less_often_and_at_once_when_it_speaks() -> None:
    async with line(Saying(sending(1, TEXT))) as at:
        waits = []
        for _ in range(5):
            await at.analyzer.expect(ENQ)
            await at.clock.advance(15.1)
            await at.analyzer.expect(EOT)
            begin, reply = at.clock.now(), asyncio.create_task(at.analyzer.expect(ENQ))
            for _ in range(100):
                await at.clock.advance(1.0)
                if reply.done():
                    break
            await reply
            waits.append(round(at.clock.now() - begin))
            await at.clock.advance(15.1)
            await at.analyzer.expect(EOT)
            await at.clock.advance(100.0)
        assert waits == sorted(waits) and waits[-1] > waits[0]
        await at.analyzer.expect(ENQ)
        await at.clock.advance(15.1)
        await at.analyzer.expect(EOT)
        await at.ask()
        await at.analyzer.expect(ENQ)  # it is there again


async def test_a_line_cut_in_the_middle_is_told_and_the_next_connection_says_it_whole() -> None:
    intake = Saying(sending(1, TEXT))
    async with line(intake) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk((ACK, FRAME))
    assert intake.told_of == [(1, False, "lost")]
    assert intake.closed == 1
    async with line(intake) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk((ACK, FRAME), (ACK, EOT))
        await intake.told_times(2)
    assert intake.told_of[-1] == (1, True, "")


async def test_a_stop_lets_what_is_on_the_line_end_and_begins_nothing() -> None:
    intake = Saying(sending(1, TEXT), sending(2, OTHER))
    async with line(intake) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk((ACK, FRAME))
        at.session.stop()
        assert not at.session.idle
        await at.analyzer.talk((ACK, EOT))
        await at.analyzer.expect_end()
        await at.task
    assert intake.told_of == [(1, True, "")]


async def test_what_was_built_when_the_stop_came_stays_due() -> None:
    intake = Saying(sending(1, TEXT))
    async with line(intake) as at:
        await at.analyzer.talk((ENQ, ACK))  # it has the line
        await settle()
        at.session.stop()
        at.task.cancel()
        await asyncio.gather(at.task, return_exceptions=True)
    assert all(not delivered for _, delivered, _ in intake.told_of)
    assert len(intake.todo) == 1


async def test_a_store_that_is_away_is_asked_again() -> None:
    intake = Saying(sending(1, TEXT))
    intake.refusals = 2
    async with line(intake) as at:
        for _ in range(3):
            await at.clock.advance(1.1)
        await at.analyzer.expect(ENQ)


async def test_a_message_that_no_frame_can_carry_is_told_and_the_next_is_said() -> None:
    intake = Saying(sending(1, b"H|\\^&\x05\rL|1\r"))
    async with line(intake) as at:
        await intake.told_times(1)
        assert intake.told_of == [(1, False, "unsendable")]
        intake.todo[:] = [sending(2, OTHER)]
        await at.ask()
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk((ACK, OTHER_FRAME), (ACK, EOT))


async def collide(analyzer: Analyzer, intake: Saying) -> None:
    """Over a real line: the analyzer's ENQ was on its way when the host's came."""
    await analyzer.expect(ENQ)
    await analyzer.send(ENQ)
    await intake.told_times(1)
    assert intake.told_of == [(1, False, "contention")]
    await analyzer.talk((ENQ, ACK), (build_frame(1, Q, True), ACK), (EOT, ENQ), (ACK, FRAME), (ACK, EOT))
    await intake.told_times(2)
    assert intake.told_of[1:] == [(1, True, "")]
    assert [frame.text for frame in intake.stored] == [Q]


async def test_contention_over_tcp() -> None:
    intake = Saying(sending(1, TEXT))
    supervisor = Supervisor([LinkSpec(settings(), intake)])
    await supervisor.start()
    stream = await connect(supervisor.address("link-1"))
    try:
        await collide(Analyzer(stream), intake)
    finally:
        await stream.close()
        await supervisor.stop(0.0)


async def test_contention_over_a_pseudo_terminal(tmp_path: Path) -> None:
    cable, intake = Cable(tmp_path / "port"), Saying(sending(1, TEXT))
    settings = LinkSettings("link-1", "main", "generic_lis2", Transport(TransportType.SERIAL, cable.port))
    supervisor = Supervisor([LinkSpec(settings, intake)])
    await supervisor.start()
    try:
        await collide(Analyzer(cable), intake)
    finally:
        await supervisor.stop(0.0)
        await cable.close()

"""What an MLLP link says of itself: one message at a time, until its acknowledgement has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from interface.link.mllp_session import MllpOptions, MllpSession
from interface.link.session import Counters
from interface.link.stream import null_modem
from interface.link.supervisor import LinkSpec, Supervisor
from interface.settings import LinkSettings, Transport, TransportType
from interface.wire.mllp import Decoder, encode
from tests.link.bench import Analyzer, FakeClock, settle
from tests.link.speaking import Saying, sending
from tests.link.test_dial import Instrument


def oml(control_id: str, modes: str = "|||NE|AL") -> bytes:
    return rf"MSH|^~\&|Labora||AN||20260101||OML^O33^OML_O33|{control_id}|P|2.5.1{modes}".encode() + b"\rSPM|1|S-1\r"


def ack(control_id: str, code: str = "AA") -> bytes:
    return rf"MSH|^~\&|AN||Labora||20260101||ORL^O34^ORL_O42|R{control_id}|P|2.5.1".encode() + (
        f"\rMSA|{code}|{control_id}\r".encode()
    )


ORU = b"MSH|^~\\&|AN|||||ORU^R01|7|P|2.5.1\rOBX|1\r"


@dataclass
class Line:
    analyzer: Analyzer
    intake: Saying
    session: MllpSession
    task: asyncio.Task[None]
    clock: FakeClock = field(default_factory=FakeClock)


@asynccontextmanager
async def line(intake: Saying, *, redial: bool = True) -> AsyncIterator[Line]:
    ours, theirs = null_modem()
    clock = FakeClock()
    options = MllpOptions(answer_wait_s=30.0, redial=redial)
    session = MllpSession("link-1", theirs, intake, Counters(), clock, Decoder(), options=options)
    task = asyncio.create_task(session.run())
    try:
        yield Line(Analyzer(ours), intake, session, task, clock)
    finally:
        await ours.close()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_message_is_outstanding_and_known_by_its_control_id() -> None:
    intake = Saying(sending(1, oml("A1"), expects_reply=True), sending(2, oml("A2"), expects_reply=True))
    async with line(intake) as at:
        await at.analyzer.expect(encode(oml("A1")))
        await at.analyzer.send(encode(ack("A1")))
        await at.analyzer.expect(encode(oml("A2")))
        await at.analyzer.send(encode(ack("A2", "AE")))
        await intake.told_times(2)
    assert intake.told_of == [(1, True, ""), (2, True, "")]
    assert intake.heard == [ack("A1"), ack("A2", "AE")], "what an answer means is not the link's to say"


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\r\n"], ids=["mark", "line end"])
async def test_what_is_tolerated_before_a_message_is_before_an_answer(before: bytes) -> None:
    """A byte order mark, or a line end: the message had been taken, and was said again until it had failed."""
    intake = Saying(sending(1, oml("A1"), expects_reply=True))
    async with line(intake) as at:
        await at.analyzer.expect(encode(oml("A1")))
        await at.analyzer.send(encode(before + ack("A1")))
        await intake.told_times(1)
    assert (intake.told_of, intake.blocks) == ([(1, True, "")], [])


async def test_an_accept_acknowledgement_is_waited_on_where_the_application_is_to_answer_too() -> None:
    for modes, last in (("||||AL|AL", False), ("||||AL|NE", True)):
        intake = Saying(sending(1, oml("A1", modes[1:]), expects_reply=True))
        async with line(intake) as at:
            await at.analyzer.expect(encode(oml("A1", modes[1:])))
            await at.analyzer.send(encode(ack("A1", "CA")))
            await settle()
            assert bool(intake.told_of) is last
            if not last:
                await at.analyzer.send(encode(ack("A1", "AR")))
                await intake.told_times(1)
                assert intake.heard == [ack("A1", "AR")]


async def test_what_the_reply_asks_for_is_answered() -> None:
    intake = Saying(sending(1, oml("A1"), expects_reply=True))
    intake.answers = [b"MSH|CA\r"]
    async with line(intake) as at:
        await at.analyzer.expect(encode(oml("A1")))
        await at.analyzer.send(encode(ack("A1")))
        await at.analyzer.expect(encode(b"MSH|CA\r"))


async def test_results_are_stored_and_answered_while_a_reply_is_waited_for() -> None:
    intake = Saying(sending(1, oml("A1"), expects_reply=True))
    async with line(intake) as at:
        await at.analyzer.expect(encode(oml("A1")))
        await at.analyzer.talk((encode(ORU), encode(b"AA " + ORU)))
        await at.analyzer.send(encode(ack("A1")))
        await intake.told_times(1)
    assert intake.blocks == [ORU], "the reply is nobody's message"


async def test_without_a_reply_the_connection_is_made_anew_and_the_same_bytes_are_said_again() -> None:
    intake = Saying(sending(1, oml("A1"), expects_reply=True))
    async with line(intake) as at:
        await at.analyzer.expect(encode(oml("A1")))
        await at.clock.advance(30.1)
        await at.analyzer.expect_end()
        await at.task
    assert intake.told_of == [(1, False, "timeout")]
    async with line(intake) as at:
        await at.analyzer.expect(encode(oml("A1")))
        await at.analyzer.send(encode(ack("A1")))
        await intake.told_times(2)


async def test_a_connection_that_the_analyzer_made_is_kept_and_the_message_said_again() -> None:
    intake = Saying(sending(1, oml("A1"), expects_reply=True))
    async with line(intake, redial=False) as at:
        await at.analyzer.expect(encode(oml("A1")))
        await at.clock.advance(30.1)
        await intake.told_times(1)
        await at.clock.advance(10.1)
        await at.analyzer.expect(encode(oml("A1")))


async def test_a_message_that_wants_no_reply_is_delivered_when_it_has_gone() -> None:
    intake = Saying(sending(1, oml("A1")))
    async with line(intake) as at:
        await at.analyzer.expect(encode(oml("A1")))
        await intake.told_times(1)
    assert intake.told_of == [(1, True, "")]


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_cut_or_a_stop_leaves_it_due(stopped: bool) -> None:
    intake = Saying(sending(1, oml("A1"), expects_reply=True))
    async with line(intake) as at:
        await at.analyzer.expect(encode(oml("A1")))
        if stopped:
            at.session.stop()
            at.task.cancel()
            await asyncio.gather(at.task, return_exceptions=True)
    assert intake.told_of == [(1, False, "stop" if stopped else "lost")]
    assert intake.closed == 1


async def test_a_dialled_analyzer_is_sent_to_and_called_again_when_it_hangs_up() -> None:
    instrument = Instrument()
    await instrument.listener.start()
    intake, clock = Saying(sending(1, oml("A1"), expects_reply=True)), FakeClock()
    settings = LinkSettings(
        "link-1", "main", "generic_hl7", Transport(TransportType.MLLP_DIAL, instrument.listener.address)
    )
    supervisor = Supervisor([LinkSpec(settings, intake)], clock, jitter=lambda: 0.0)
    await supervisor.start()
    try:
        first = await instrument.answered()
        await first.expect(encode(oml("A1")))
        await first.stream.close()
        await intake.told_times(1)
        await clock.advance(2.0)
        again = await instrument.answered()
        await again.expect(encode(oml("A1")))
        await again.send(encode(ack("A1")))
        await intake.told_times(2)
        assert intake.told_of == [(1, False, "lost"), (1, True, "")]
    finally:
        await supervisor.stop(0.0)
        await instrument.stop()

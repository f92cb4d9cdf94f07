"""What a link says in a framing that its driver declares: in a session of its own, until it was taken (Maglumi)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from interface.driver import registry
from interface.link.declared import MOST_REJECTIONS, REPLY_WAIT_S, DeclaredSession
from interface.link.session import Counters
from interface.link.stream import null_modem
from interface.wire.declared import Decoder, Grammar, may_send, sendable
from tests.link.bench import ACK, ENQ, EOT, NAK, Analyzer, FakeClock
from tests.link.speaking import Saying, sending

MAGLUMI = registry.load("snibe_maglumi").blocks
assert MAGLUMI is not None
TEXT = b"H|\\^&\rL|1|I\r"
BLOCK = b"\x02" + TEXT + b"\x03"


@dataclass
class Line:
    analyzer: Analyzer
    intake: Saying
    clock: FakeClock
    session: DeclaredSession
    task: asyncio.Task[None]


@asynccontextmanager
async def line(*todo: bytes) -> AsyncIterator[Line]:
    assert MAGLUMI is not None
    ours, theirs = null_modem()
    clock, intake = FakeClock(), Saying(*(sending(at, text) for at, text in enumerate(todo, start=1)))
    session = DeclaredSession("link-1", theirs, intake, Counters(), clock, Decoder(MAGLUMI, 1 << 20))
    task = asyncio.create_task(session.run())
    try:
        yield Line(Analyzer(ours), intake, clock, session, task)
    finally:
        await ours.close()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_message_is_said_and_told_of_when_it_was_taken() -> None:
    async with line(TEXT) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk((ACK, BLOCK), (ACK, EOT))
        await at.intake.told_times(1)
        assert at.intake.told_of == [(1, True, "")]
        await at.analyzer.talk((ENQ, ACK), (BLOCK, ACK))  # and the device may send as ever
        assert len(at.intake.blocks) == 1


async def test_it_waits_until_the_device_has_ended_its_session() -> None:
    async with line() as at:
        await at.analyzer.talk((ENQ, ACK), (BLOCK, ACK))
        at.intake.todo.append(sending(7, TEXT))
        at.intake.due()
        await at.analyzer.send(EOT)
        await at.analyzer.expect(ENQ)


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        (((ENQ, b""),), "contention"),  # the host yields
        (((NAK, b""),), "busy"),
        (((ACK, BLOCK), *((NAK, BLOCK),) * (MOST_REJECTIONS - 1), (NAK, EOT)), "refused"),
    ],
)
async def test_why_it_was_not_taken(heard: tuple[tuple[bytes, bytes], ...], reason: str) -> None:
    async with line(TEXT) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk(*heard)
        if reason == "contention":
            await at.analyzer.expect(ACK)
            await at.analyzer.talk((BLOCK, ACK), (EOT, ENQ))  # then it is said
        await at.intake.told_times(1)
        assert at.intake.told_of == [(1, False, reason)]


@pytest.mark.parametrize(("first", "reason"), [(b"", "silent"), (ACK, "timeout")])
async def test_a_device_that_says_nothing(first: bytes, reason: str) -> None:
    async with line(TEXT) as at:
        await at.analyzer.expect(ENQ)
        if first:
            await at.analyzer.talk((first, BLOCK))
        await at.clock.advance(REPLY_WAIT_S)
        await at.analyzer.expect(EOT)
        await at.intake.told_times(1)
        assert at.intake.told_of == [(1, False, reason)]


async def test_a_line_that_is_cut_before_it_was_taken() -> None:
    async with line(TEXT) as at:
        await at.analyzer.expect(ENQ)
        await at.analyzer.talk((ACK, BLOCK))
        await at.analyzer.stream.close()
        await at.task
        assert at.intake.told_of == [(1, False, "lost")] and at.intake.closed == 1


async def test_what_cannot_be_framed_is_not_sent() -> None:
    async with line(b"H|\x03\r") as at:
        await at.intake.told_times(1)
        assert at.intake.told_of == [(1, False, "unsendable")]


def test_only_a_framing_with_sessions_and_answers_can_say_anything() -> None:
    assert MAGLUMI is not None and may_send(MAGLUMI) and sendable(MAGLUMI, TEXT)
    one_way = (Grammar(end=b"\r\n"), Grammar(silence_s=2.0), Grammar(start=b"\x02", end=b"\x03", good=ACK, bad=NAK))
    assert not any(map(may_send, one_way))
    assert not any(sendable(MAGLUMI, text) for text in (b"", b"\x02", b"a\x04"))

"""An analyzer that speaks again before it was answered: over TCP and PostgreSQL, it hears nothing that is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from interface.flow.intake import LinkIntake
from interface.flow.outgoing import ANSWER_S, LinkOutgoing
from interface.flow.speeches import answer_of
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import connect
from interface.wire.frames import build_frame
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.test_two_links import WAITING
from tests.link.bench import ACK, ENQ, EOT, PATIENCE_S, Analyzer

SECOND_QUESTION = b"H|\\^&\rQ|1|^S-2||ALL||||||||O\rL|1|N\r"
QUESTION = SECOND_QUESTION.replace(b"S-2", b"S-1")
TAKEN_BACK = QUESTION.replace(b"|O\r", b"|A\r")
RESULTS = b"H|\\^&\rP|1\rO|1|S-9||^^^2345-7\rR|1|^^^2345-7|5.1|mmol/L||N||F\rL|1|N\r"


class At:
    """A link whose clock of answers is turned by hand, its analyzer, and a database that keeps it waiting."""

    analyzer: Analyzer

    def __init__(self, lab: Laboratory, ack_colliding_enq: bool) -> None:
        self.lab, self.now = lab, datetime.now(UTC)
        self.outgoing = LinkOutgoing(lab.context, lab.database, answer_of(lab.context), None, lambda: self.now)
        intake = LinkIntake(lab.context, lab.journal, outgoing=self.outgoing)
        self.supervisor = Supervisor(
            [LinkSpec(replace(lab.context.settings, id="link-1", ack_colliding_enq=ack_colliding_enq), intake)]
        )

    async def talk(self, text: bytes) -> None:
        await self.analyzer.talk((ENQ, ACK), (build_frame(1, text, True), ACK), (EOT, b""))

    async def ask_and_go_on(self, more: bytes) -> None:
        """The answer is built, and not said yet, when the analyzer has the line again."""
        slow = self.lab.owner.transaction()
        await slow.start()
        await self.lab.owner.execute("lock table lab.sending")
        await self.talk(QUESTION)
        async with asyncio.timeout(PATIENCE_S):
            while not await self.lab.owner.fetchval(WAITING):
                await self.lab.owner.execute("select pg_stat_clear_snapshot()")
        await self.analyzer.talk((ENQ, ACK))
        await slow.commit()
        async with asyncio.timeout(PATIENCE_S):
            while not await self.lab.owner.fetchval("select count(*) from lab.sending"):
                pass
        await self.analyzer.talk((build_frame(1, more, True), ACK))

    async def hears(self) -> bytes:
        """What it is told of the specimen that it asks for next."""
        await self.talk(SECOND_QUESTION)
        await self.analyzer.talk((b"", ENQ))
        await self.analyzer.send(ACK)
        async with asyncio.timeout(PATIENCE_S):
            said = b""
            while not said.endswith(b"\r\n"):
                said += await self.analyzer.stream.read()
        await self.analyzer.talk((ACK, EOT))
        return said


@asynccontextmanager
async def serving(database_url: str, ack_colliding_enq: bool = False) -> AsyncIterator[At]:
    async with laboratory(database_url, "generic_lis2") as lab:
        for number in (1, 2):
            await lab.order(f"S-{number}", "GLU", patient_id=f"P-{number}")
        at = At(lab, ack_colliding_enq)
        await at.supervisor.start()
        stream = await connect(at.supervisor.address("link-1"))
        at.analyzer = Analyzer(stream)
        try:
            yield at
        finally:
            await stream.close()
            await at.supervisor.stop(0.0)


@pytest.fixture
async def at(database_url: str) -> AsyncIterator[At]:
    async with serving(database_url) as made:
        yield made


async def test_a_question_that_was_taken_back_meanwhile_is_not_answered(at: At) -> None:
    await at.ask_and_go_on(TAKEN_BACK)
    await at.analyzer.send(EOT)
    assert b"|S-2|" in await at.hears()


async def test_nor_is_one_that_nobody_waits_for_any_more(at: At) -> None:
    await at.ask_and_go_on(RESULTS)
    at.now += timedelta(seconds=ANSWER_S + 1)  # so long the results took
    await at.analyzer.send(EOT)
    assert b"|S-2|" in await at.hears()


async def test_what_the_analyzer_still_waits_for_is_said(at: At) -> None:
    await at.ask_and_go_on(RESULTS)
    await at.analyzer.talk((EOT, ENQ))
    await at.analyzer.send(ACK)
    assert b"|S-1|" in await at.analyzer.stream.read()


async def test_nor_one_that_collided_with_its_taking_back(database_url: str) -> None:
    """Where the link acknowledges a colliding ENQ at once (`ack_colliding_enq`)."""
    async with serving(database_url, ack_colliding_enq=True) as at:
        await at.talk(QUESTION)
        await at.analyzer.expect(ENQ)
        await at.talk(TAKEN_BACK)
        assert b"|S-2|" in await at.hears()

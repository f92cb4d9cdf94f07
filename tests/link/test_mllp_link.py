"""An MLLP link from its bytes to the intake and back, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from interface.errors import StoreUnavailable
from interface.link.intake import Receipt
from interface.link.session import MAX_OUTSTANDING, Counters, MllpSession
from interface.link.stream import null_modem
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import connect
from interface.settings import TransportType
from interface.wire.mllp import Decoder, encode
from tests.link.bench import Analyzer, FakeClock, RecordingIntake, settings, settle

ONE, TWO = b"MSH|^~\\&|1\r", b"MSH|^~\\&|2\r"


@dataclass
class Line:
    analyzer: Analyzer
    intake: RecordingIntake
    clock: FakeClock
    supervisor: Supervisor


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    intake, clock = RecordingIntake(), FakeClock()
    link = settings(TransportType.MLLP_LISTEN, max_message_bytes=1000)
    supervisor = Supervisor([LinkSpec(link, intake)], clock)
    await supervisor.start()
    stream = await connect(supervisor.address("link-1"))
    yield Line(Analyzer(stream), intake, clock, supervisor)
    await stream.close()
    await supervisor.stop(0.0)


def answer(*blocks: bytes) -> bytes:
    return b"".join(encode(b"AA " + block) for block in blocks)


async def test_a_block_is_committed_and_then_answered(line: Line) -> None:
    line.intake.gate.clear()
    await line.analyzer.send(encode(ONE))
    await line.intake.until(1)
    reply = asyncio.create_task(line.analyzer.expect(answer(ONE)))
    await settle()
    assert not reply.done()
    line.intake.gate.set()
    await reply
    assert [sent for _, sent in line.intake.replies] == [True]


async def test_one_byte_at_a_time(line: Line) -> None:
    await line.analyzer.send(*(bytes([code]) for code in encode(ONE)))
    await line.analyzer.expect(answer(ONE))


async def test_blocks_of_one_read_are_submitted_together_and_answered_in_order(line: Line) -> None:
    blocks = [b"MSH|%d\r" % number for number in range(40)]
    line.intake.gate.clear()
    await line.analyzer.send(b"".join(map(encode, blocks)))
    await line.intake.until(MAX_OUTSTANDING)
    await settle()
    line.intake.gate.set()
    await line.analyzer.expect(answer(*blocks))
    assert line.intake.most_waiting == MAX_OUTSTANDING


async def test_stray_bytes_are_skipped_and_kept(line: Line) -> None:
    await line.analyzer.talk((b"stray" + encode(ONE) + b"\n" + encode(TWO), answer(ONE, TWO)))
    assert line.intake.refused == [("skipped", b"stray")]


async def test_an_oversize_block_is_dropped_and_the_link_goes_on(line: Line) -> None:
    await line.analyzer.talk((encode(b"x" * 1001) + encode(ONE), answer(ONE)))
    assert [reason for reason, _ in line.intake.refused] == ["oversize"]


async def test_a_store_that_fails_is_answered_by_the_intake(line: Line) -> None:
    line.intake.failures = [StoreUnavailable("down")]
    await line.analyzer.talk((encode(ONE), encode(b"AR")), (encode(ONE), answer(ONE)))
    assert line.intake.blocks == [ONE]


async def test_a_receipt_may_close_the_connection(line: Line) -> None:
    line.intake.receipts = [Receipt(reply=b"AR", close=True)]
    await line.analyzer.send(encode(ONE) + encode(TWO))
    await line.analyzer.expect(encode(b"AR"))
    await line.analyzer.expect_end()
    assert [sent for _, sent in line.intake.replies] == [False]  # the second was stored and could not be answered


async def test_a_receipt_without_reply_sends_nothing(line: Line) -> None:
    line.intake.receipts = [Receipt(message_id=uuid4())]
    await line.analyzer.talk((encode(ONE) + encode(TWO), answer(TWO)))
    assert [sent for _, sent in line.intake.replies] == [True, True]


async def test_a_crash_answers_what_came_before_and_hangs_up(line: Line) -> None:
    await line.analyzer.talk((encode(ONE), answer(ONE)))
    line.intake.failures = [RuntimeError("a bug")]
    await line.analyzer.send(encode(TWO))
    await line.analyzer.expect_end()
    other = Analyzer(await connect(line.supervisor.address("link-1")))
    await other.talk((encode(TWO), answer(TWO)))
    await other.stream.close()


async def test_a_missing_0d_is_tolerated_after_a_second(line: Line) -> None:
    await line.analyzer.send(encode(ONE)[:-1])
    async with asyncio.timeout(10):
        while not line.intake.blocks:
            await line.clock.advance(1.0)
    await line.analyzer.expect(answer(ONE))
    assert line.supervisor.statuses()[0].leniencies == {"missing_cr": 1}


async def test_silence_within_a_block_hangs_up(line: Line) -> None:
    await line.analyzer.talk((encode(ONE), answer(ONE)))
    await line.analyzer.send(encode(TWO)[:5])
    ended = asyncio.create_task(line.analyzer.expect_end())
    async with asyncio.timeout(10):
        while not ended.done():
            await line.clock.advance(60.0)
    await ended
    assert line.intake.refused == [("cut", TWO[:4])]


async def test_a_peer_that_hangs_up_unanswered_is_reported() -> None:
    intake, clock = RecordingIntake(), FakeClock()
    ours, theirs = null_modem()
    task = asyncio.create_task(MllpSession("s", theirs, intake, Counters(), clock, Decoder()).run())
    intake.gate.clear()
    await ours.write(encode(ONE))
    await intake.until(1)
    await ours.close()
    intake.gate.set()
    await task
    assert [sent for _, sent in intake.replies] == [False]


async def test_a_peer_that_reads_no_replies_is_read_from_no_more_and_cut_off() -> None:
    """Each reply is larger than the line takes: the second block is not even read while the first reply waits."""
    intake, clock = RecordingIntake(), FakeClock()
    ours, theirs = null_modem(capacity_bytes=4)
    task = asyncio.create_task(MllpSession("s", theirs, intake, Counters(), clock, Decoder()).run())
    first = asyncio.create_task(ours.write(encode(ONE)))
    await settle()
    second = asyncio.create_task(ours.write(encode(TWO)))
    await settle()
    assert intake.blocks == [ONE]
    assert not second.done()
    await clock.advance(30.0)
    await task
    assert [sent for _, sent in intake.replies] == [False]
    await asyncio.gather(first, second, return_exceptions=True)

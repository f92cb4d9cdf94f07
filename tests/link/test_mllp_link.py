"""An MLLP link from its bytes to the intake and back, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest

from interface.errors import StoreUnavailable
from interface.link.intake import Receipt
from interface.link.mllp_session import MAX_OUTSTANDING, MllpSession
from interface.link.session import Counters
from interface.link.stream import null_modem
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import connect
from interface.settings import TransportType
from interface.wire.mllp import COMMITTED, NOT_COMMITTED, Decoder, encode
from tests.link.bench import Analyzer, FakeClock, RecordingIntake, settings, settle

ONE, TWO = b"MSH|^~\\&|1\r", b"MSH|^~\\&|2\r"


@dataclass
class Line:
    analyzer: Analyzer
    intake: RecordingIntake
    clock: FakeClock
    supervisor: Supervisor

    def leniencies(self) -> dict[str, int]:
        return dict(self.supervisor.statuses()[0].leniencies)


@asynccontextmanager
async def connected(**options: object) -> AsyncIterator[Line]:
    intake, clock = RecordingIntake(), FakeClock()
    link = settings(TransportType.MLLP_LISTEN, max_message_bytes=1000, **options)
    supervisor = Supervisor([LinkSpec(link, intake)], clock)
    await supervisor.start()
    stream = await connect(supervisor.address("link-1"))
    yield Line(Analyzer(stream), intake, clock, supervisor)
    await stream.close()
    await supervisor.stop(0.0)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with connected() as line:
        yield line


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
    assert line.intake.refused == [("stray_bytes", b"stray")]
    assert line.leniencies() == {"stray_bytes": 1, "pipelined": 1}


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
    assert line.leniencies() == {"missing_cr": 1}


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


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (ONE[:-1], "no_final_cr"),
        (ONE.replace(b"\r", b"\n"), "lf_segments"),
        (ONE.replace(b"\r", b"\r\n"), "lf_segments"),
        (b"\xef\xbb\xbf" + ONE, "bom"),
    ],
)
async def test_a_departure_inside_a_block_is_taken_counted_by_name_and_stored_as_sent(
    line: Line, block: bytes, name: str
) -> None:
    await line.analyzer.talk((encode(block), answer(block)), (encode(ONE), answer(ONE)))
    assert line.intake.blocks == [block, ONE]
    assert line.leniencies() == {name: 1}


async def test_nuls_between_blocks_are_skipped_kept_and_counted(line: Line) -> None:
    await line.analyzer.talk((encode(ONE) + b"\0\0" + encode(TWO), answer(ONE, TWO)))
    assert line.intake.refused == [("stray_nuls", b"\0\0")]
    assert line.leniencies() == {"stray_nuls": 1, "pipelined": 1}


async def test_a_block_begun_anew_costs_only_the_first(line: Line) -> None:
    await line.analyzer.talk((b"\x0b" + ONE + encode(TWO), answer(TWO)))
    assert line.intake.refused == [("restarted", ONE)]
    assert line.leniencies() == {"second_begin": 1}


async def test_hl7_without_an_envelope_is_refused_and_kept_although_the_line_stays_open(line: Line) -> None:
    await line.analyzer.send(ONE)
    async with asyncio.timeout(10):
        while not line.intake.refused:
            await line.clock.advance(1.0)
    assert line.intake.refused == [("unframed", ONE)]
    assert line.intake.blocks == []
    await line.analyzer.talk((encode(TWO), answer(TWO)))


async def test_with_one_outstanding_each_reply_is_sent_before_the_next_block_is_looked_at() -> None:
    async with connected(outstanding=1) as line:
        line.intake.gate.clear()
        await line.analyzer.send(encode(ONE) + encode(TWO))
        await line.intake.until(1)
        await settle()
        assert line.intake.waiting == 1
        line.intake.gate.set()
        await line.analyzer.expect(answer(ONE, TWO))
        assert line.intake.most_waiting == 1
        assert line.leniencies() == {"pipelined": 1}


async def test_with_one_outstanding_a_fault_leaves_the_next_block_alone() -> None:
    async with connected(outstanding=1) as line:
        line.intake.receipts = [Receipt(reply=b"AR", close=True)]
        await line.analyzer.send(encode(ONE) + encode(TWO))
        await line.analyzer.expect(encode(b"AR"))
        await line.analyzer.expect_end()
        assert line.intake.blocks == [ONE]


async def test_release_2_says_committed_only_after_the_commit_and_then_answers() -> None:
    async with connected(mllp_release=2) as line:
        line.intake.gate.clear()
        await line.analyzer.send(encode(ONE))
        await line.intake.until(1)
        reply = asyncio.create_task(line.analyzer.expect(COMMITTED + answer(ONE)))
        await settle()
        assert not reply.done()
        line.intake.gate.set()
        await reply


async def test_release_2_says_not_committed_and_nothing_else_of_what_is_not_stored() -> None:
    async with connected(mllp_release=2) as line:
        line.intake.failures = [StoreUnavailable("down")]
        await line.analyzer.talk((encode(ONE), NOT_COMMITTED), (encode(ONE), COMMITTED + answer(ONE)))


async def test_release_2_commits_what_is_refused_but_kept_and_what_needs_no_reply() -> None:
    async with connected(mllp_release=2) as line:
        line.intake.receipts = [Receipt(uuid4(), b"AE"), Receipt(uuid4())]
        await line.analyzer.talk((encode(ONE), COMMITTED + encode(b"AE")), (encode(TWO), COMMITTED))


async def test_release_2_takes_the_peers_commit_of_a_reply_and_keeps_its_refusal() -> None:
    async with connected(mllp_release=2) as line:
        await line.analyzer.talk((COMMITTED + encode(ONE), COMMITTED + answer(ONE)))
        assert line.intake.refused == []
        await line.analyzer.talk((NOT_COMMITTED + encode(ONE), COMMITTED + answer(ONE)))
        assert line.intake.refused == [("reply_not_committed", b"\x15")]


async def test_a_commit_block_on_a_link_of_release_1_is_no_message(line: Line) -> None:
    await line.analyzer.talk((COMMITTED + encode(ONE), answer(ONE)))
    assert line.intake.refused == [("commit_block", b"\x06")]


async def test_an_application_acknowledgement_follows_the_accept_acknowledgement_in_a_block_of_its_own(
    line: Line,
) -> None:
    line.intake.receipts = [Receipt(uuid4(), b"CA", (b"AA",))]
    await line.analyzer.talk((encode(ONE), encode(b"CA") + encode(b"AA")))


BATCH = b"FHS|^~\\&|\rBHS|^~\\&|\r%s%sBTS|2\rFTS|1\r" % (ONE, TWO)


async def test_each_message_of_a_batch_is_stored_and_answered_as_if_it_had_come_by_itself(line: Line) -> None:
    await line.analyzer.talk((encode(BATCH) + encode(ONE), answer(ONE, TWO, ONE)))
    assert line.intake.blocks == [ONE, TWO, ONE]
    assert line.intake.refused == [("batch_envelope", BATCH.replace(ONE, b"").replace(TWO, b""))]


async def test_a_batch_whose_count_is_wrong_is_answered_and_reported(line: Line) -> None:
    await line.analyzer.talk((encode(BATCH.replace(b"BTS|2", b"BTS|3")), answer(ONE, TWO)))
    assert [reason for reason, _ in line.intake.refused] == ["batch_count"]
    assert line.supervisor.statuses()[0].rejected == 1


async def test_release_2_commits_a_batch_as_a_whole() -> None:
    async with connected(mllp_release=2, outstanding=1) as line:
        await line.analyzer.talk((encode(BATCH), COMMITTED + answer(ONE, TWO)))
        line.intake.receipts = [Receipt(uuid4(), b"AA"), Receipt(reply=b"AR")]
        await line.analyzer.talk((encode(BATCH), NOT_COMMITTED))
        assert [sent for _, sent in line.intake.replies] == [True, True, False]


async def test_release_2_commits_no_batch_of_which_the_journal_would_not_have_all() -> None:
    """Its commit block vouches for the whole block; then that is stored, and refused, as the one message it says."""
    async with connected(mllp_release=2) as line:
        empty, strays = b"FHS|^~\\&|\rPID|1\rFTS|0\r", BATCH + b"OBX|1\r"
        await line.analyzer.talk(
            (encode(empty), COMMITTED + answer(empty)), (encode(strays), COMMITTED + answer(strays))
        )
        assert line.intake.blocks == [empty, strays]


async def test_a_batch_without_a_message_is_stored_and_answered(line: Line) -> None:
    empty = b"BHS|^~\\&|\rBTS|0\r"
    await line.analyzer.talk((encode(empty), answer(empty)))
    assert line.intake.blocks == [empty]

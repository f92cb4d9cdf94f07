"""What a link takes beside LIS01-A2 when its driver or its settings say so, over real sockets, and how it counts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest

from interface import telemetry
from interface.driver.capture import read_capture
from interface.errors import StoreUnavailable
from interface.link.base import link_options
from interface.link.intake import Receipt
from interface.link.supervisor import LinkSpec, LinkStatus, Supervisor
from interface.link.tcp import connect
from interface.simulator import parse_source, play
from interface.wire.lis01 import Leniency, build_frame
from tests import corpus
from tests.link.bench import ACK, ENQ, EOT, NAK, Analyzer, FakeClock, Framing, RecordingIntake, settings, settle

H, P, L = build_frame(1, b"H|\\^&\r", True), build_frame(2, b"P|1\r", True), build_frame(3, b"L|1|N\r", True)
BARE = [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]


@dataclass
class Bench:
    supervisor: Supervisor
    intake: RecordingIntake
    clock: FakeClock
    analyzer: Analyzer
    name: str

    @property
    def status(self) -> LinkStatus:
        return self.supervisor.statuses()[0]

    @property
    def texts(self) -> list[bytes]:
        return [frame.text for frame in self.intake.stored]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that the intake's next changes bring about."""
        async with asyncio.timeout(10):
            while not holds():
                self.intake.changed.clear()
                await self.intake.changed.wait()

    def metric(self, leniency: str) -> float:
        return telemetry.REGISTRY.get_sample_value(
            "labora_leniencies_total", {"link": self.name, "leniency": leniency}
        ) or 0.0  # fmt: skip


@asynccontextmanager
async def link(*leniencies: str, driver: Sequence[str] = (), **more: object) -> AsyncIterator[Bench]:
    name = f"lenient-{uuid4().hex[:8]}"
    intake, clock = RecordingIntake(), FakeClock()
    own = settings(id=name, leniencies=frozenset(leniencies), **more)  # type: ignore[arg-type]
    supervisor = Supervisor([LinkSpec(own, intake, Framing(frozenset(driver)))], clock)
    await supervisor.start()
    analyzer = Analyzer(await connect(supervisor.address(name)))
    try:
        yield Bench(supervisor, intake, clock, analyzer, name)
    finally:
        await analyzer.stream.close()
        await supervisor.stop(0.0)


async def test_the_links_own_leniencies_are_added_to_the_drivers_and_each_use_is_counted_by_name() -> None:
    async with link("zero_checksum", driver=["lower_case_checksum"]) as bench:
        lower, zero = H.replace(b"E5", b"e5"), b"00\r\n"
        assert lower != H
        await bench.analyzer.talk((ENQ, ACK), (lower, ACK), (P[:-4] + zero, ACK), (L[:-4] + zero, ACK))
        await bench.analyzer.talk((EOT + ENQ, ACK), (build_frame(0, b"H|\\^&\n", True), ACK))
        counted = {"fn_from_zero": 1, "lf_records": 1, "lower_case_checksum": 1, "zero_checksum": 2}
        assert bench.status.leniencies == counted
        assert {name: bench.metric(name) for name in counted} == counted


async def test_nothing_is_lenient_that_was_not_named() -> None:
    async with link() as bench:
        await bench.analyzer.send(*BARE)
        await bench.analyzer.talk((H, b""), (ENQ, ACK), (H[:-4] + b"00\r\n", NAK), (H, ACK), (ENQ, ACK))
        assert bench.status.leniencies == {}
        assert bench.intake.ends == ["enq"]


def test_of_other_options_the_links_setting_goes_before_the_drivers() -> None:
    framing = Framing(frozenset({"no_checksum"}), frame_text_bytes=1000, ack_colliding_enq=True)
    plain = link_options(LinkSpec(settings(), RecordingIntake()))
    assert (plain.frame_text_bytes, plain.max_frame_bytes, plain.ack_colliding_enq) == (240, 64_000, False)
    drivers = link_options(LinkSpec(settings(), RecordingIntake(), framing))
    assert (drivers.frame_text_bytes, drivers.ack_colliding_enq) == (1000, True)
    own = settings(frame_text_bytes=63_993, ack_colliding_enq=False, max_frame_bytes=247)
    links = link_options(LinkSpec(own, RecordingIntake(), framing))
    assert (links.frame_text_bytes, links.max_frame_bytes, links.ack_colliding_enq) == (63_993, 247, False)
    assert links.leniencies == {Leniency.NO_CHECKSUM}


async def test_a_frame_of_any_size_up_to_the_links_limit_is_taken() -> None:
    async with link(max_frame_bytes=300_000) as bench:
        text = b"x" * 299_993
        await bench.analyzer.talk((ENQ, ACK), (build_frame(1, text, True), ACK))
        await bench.analyzer.talk((build_frame(2, text + b"x", True), NAK))
        assert bench.texts == [text]


# ---- EOT completes ---------------------------------------------------------------------------------------------------


async def test_a_message_that_eot_completes_is_counted_and_its_reply_was_the_last_ack() -> None:
    async with link("no_terminator_record") as bench:
        message_id = uuid4()
        bench.intake.end_receipts = [Receipt(message_id)]
        await bench.analyzer.talk((ENQ, ACK), (H, ACK), (P, ACK), (EOT, b""))
        await bench.until(lambda: bool(bench.intake.replies))
        assert bench.intake.ends == ["eot"]
        assert bench.intake.replies == [(message_id, True)]
        assert (bench.status.messages, bench.status.leniencies) == (1, {"no_terminator_record": 1})


@pytest.mark.parametrize(("silence_s", "reason"), [(0.0, "eot"), (13.0, "eot"), (14.5, "aborted")])
async def test_eot_of_a_sender_that_cannot_have_heard_our_ack_ends_no_message(silence_s: float, reason: str) -> None:
    async with link("no_terminator_record") as bench:
        await bench.analyzer.talk((ENQ, ACK), (H, ACK))
        await bench.clock.advance(silence_s)
        await bench.analyzer.send(EOT)
        await bench.until(lambda: bool(bench.intake.ends))
        assert bench.intake.ends == [reason]


async def test_an_empty_session_ends_as_it_was_meant() -> None:
    async with link("no_terminator_record") as bench:
        await bench.clock.advance(1000.0)
        await bench.analyzer.talk((ENQ, ACK), (EOT, b""))
        await bench.until(lambda: bool(bench.intake.ends))
        assert bench.intake.ends == ["eot"]


@pytest.mark.parametrize("how", ["damaged", "refused", "cut"])
async def test_eot_of_a_sender_that_gives_up_ends_no_message(how: str) -> None:
    async with link("no_terminator_record") as bench:
        await bench.analyzer.talk((ENQ, ACK), (H, ACK))
        if how == "refused":
            bench.intake.failures = [StoreUnavailable("down")]
        if how == "cut":
            await bench.analyzer.send(P[:5])
        else:
            await bench.analyzer.talk((P.replace(b"P", b"Q") if how == "damaged" else P, NAK))
        await bench.analyzer.send(EOT)
        await bench.until(lambda: bool(bench.intake.ends))
        assert bench.intake.ends == ["aborted"]


# ---- records without frames ------------------------------------------------------------------------------------------


async def test_bare_records_are_stored_in_order_and_nothing_is_answered() -> None:
    async with link("bare_records") as bench:
        await bench.analyzer.send(b"".join(BARE), *BARE)
        await bench.until(lambda: len(bench.intake.replies) == 2)
        assert bench.texts == BARE * 2
        assert {frame.fn for frame in bench.intake.stored} == {None}
        assert bench.intake.ends == ["terminator"] * 2
        assert bench.status.leniencies == {"bare_records": 2}
        assert (bench.status.messages, bench.status.naks) == (2, 0)
        await bench.analyzer.talk((ENQ, ACK))  # the first answer that there is


async def test_while_nothing_can_be_stored_a_bare_record_waits_and_so_does_its_sender() -> None:
    async with link("bare_records") as bench:
        bench.intake.ready = False
        bench.intake.failures = [StoreUnavailable("down")] * 10
        await bench.analyzer.send(b"".join(BARE))
        for left in range(9, -1, -1):
            await bench.until(lambda left=left: len(bench.intake.failures) == left)  # type: ignore[misc]
            assert bench.texts == []
            await settle()
            await bench.clock.advance(1.0)
        await bench.until(lambda: len(bench.intake.stored) == 3)
        assert bench.texts == BARE
        assert bench.status.naks == 0


async def test_a_bare_record_that_a_working_store_refuses_costs_its_message_alone() -> None:
    async with link("bare_records") as bench:
        bench.intake.failures = [StoreUnavailable("poison")] * 3
        await bench.analyzer.send(b"".join(BARE * 2))
        for left in (2, 1):
            await bench.until(lambda left=left: len(bench.intake.failures) == left)  # type: ignore[misc]
            await settle()
            await bench.clock.advance(1.0)
        await bench.until(lambda: len(bench.intake.stored) == 3)
        assert bench.texts == BARE
        assert bench.intake.ends[0] == "refused"
        assert ("refused", BARE[0]) in bench.intake.refused


async def test_the_end_of_the_connection_ends_a_bare_message() -> None:
    async with link("bare_records") as bench:
        await bench.analyzer.send(b"".join(BARE)[:-1])
        await bench.analyzer.stream.close()
        await bench.until(lambda: bench.intake.ends == ["lost"])
        assert bench.texts == [*BARE[:2], b"L|1|N"]
        assert [frame.last for frame in bench.intake.stored] == [False, False, True]


# ---- the whole way ---------------------------------------------------------------------------------------------------


def whole(texts: Sequence[bytes]) -> list[bytes]:
    return [line for line in b"".join(texts).replace(b"\n", b"\r").split(b"\r") if line.strip()]


async def test_the_h500_capture_is_replayed_through_a_link() -> None:
    data = corpus.read("astm/horiba-yumizen-h500-qc.astm")
    async with link(driver=["fn_unsequenced"]) as bench:
        report = await play(parse_source(data), bench.supervisor.address(bench.name))
        assert (report.complete, report.rejections, report.faults) == (True, 0, ())
        assert b"".join(bench.texts) == read_capture(data)[0].text
        assert bench.status.leniencies == {"fn_unsequenced": 4}
    async with link() as strict:
        report = await play(parse_source(data), strict.supervisor.address(strict.name))
        assert not report.complete


@pytest.mark.parametrize("file", ["astm/abbott-m2000-hiv-dbs.astm", "astm/hologic-panther-hiv.astm"])
async def test_a_capture_without_terminator_is_ended_by_eot(file: str) -> None:
    data = corpus.read(file)
    async with link("no_terminator_record") as bench:
        assert (await play(parse_source(data), bench.supervisor.address(bench.name))).complete
        await bench.until(lambda: bench.intake.ends == ["eot"])
        assert whole(bench.texts) == whole([read_capture(data)[0].text])


@pytest.mark.parametrize("file", ["astm/biorad-ihcom-two-patients.astm", "astm/horiba-yumizen-h550-qc.astm"])
async def test_a_capture_of_bare_records_arrives_over_a_socket(file: str) -> None:
    data = corpus.read(file)
    async with link("bare_records") as bench:
        await bench.analyzer.send(data)
        await bench.analyzer.stream.close()
        await bench.until(lambda: bool(bench.intake.ends))
        assert b"".join(bench.texts) == data
        assert bench.intake.stored[-1].last  # its L record has no end of its own

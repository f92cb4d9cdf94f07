"""The wire log's recorder on real connections: what it heard is what was said, and nothing waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from interface.domain.model import Protocol
from interface.errors import LinkLost, StoreUnavailable
from interface.link.intake import Receipt, ReceivedBlock, ReceivedFrame
from interface.link.recorder import (
    ALLOWANCE_BYTES,
    ALLOWANCE_BYTES_PER_S,
    EARNED_BYTES,
    FLUSH_BYTES,
    Allowance,
    RecordedIntake,
    RecordedStream,
    Recorder,
)
from interface.link.session import AstmSession, Counters
from interface.link.stream import ByteStream, null_modem
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import TcpListener, connect
from interface.settings import Address, Folder, LinkSettings, Transport, TransportType
from interface.wire.declared import Grammar
from interface.wire.lis01 import DataLink, Station, build_frame
from interface.wire.tape import PENDING_BYTES
from interface.wire.wirelog import Came, Event, FrameCame, Left, Meaning, Noted, What, decode
from tests.link.bench import (
    ACK,
    ENQ,
    EOT,
    NAK,
    Analyzer,
    FakeClock,
    Framing,
    RecordingBlocks,
    RecordingIntake,
    settings,
)
from tests.link.cable import Cable

H, P, L = build_frame(1, b"H|\\^&\r", True), build_frame(2, b"P|1\r", True), build_frame(3, b"L|1|N\r", True)


class NamingIntake(RecordingIntake):
    """Gives each frame and block an id, as the journal does."""

    def __init__(self) -> None:
        super().__init__()
        self.named = dict[UUID, bytes]()

    def _name(self, data: bytes) -> tuple[UUID, ...]:
        identifier = uuid4()
        self.named[identifier] = data
        return (identifier,)

    def frames(self, peer: str) -> NamingIntake:
        return self

    def declared(self, peer: str) -> NamingBlocks:
        return NamingBlocks(self)

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        receipt = await super().frame(frame)
        return Receipt(receipt.message_id, frames=self._name(frame.raw))

    async def block(self, block: bytes, peer: str) -> Receipt:
        receipt = await super().block(block, peer)
        if receipt.message_id is None:
            return receipt
        return Receipt(receipt.message_id, receipt.reply, frames=self._name(block))


class NamingBlocks(RecordingBlocks):
    """The same for blocks of a framing that a driver declares."""

    def __init__(self, intake: NamingIntake) -> None:
        super().__init__(intake)
        self._naming = intake

    async def block(self, block: ReceivedBlock) -> Receipt:
        receipt = await super().block(block)
        return Receipt(receipt.message_id, frames=self._naming._name(block.raw))


@dataclass
class Log:
    """Keeps pieces in memory, as long as there is room."""

    intake: NamingIntake
    pieces: list[tuple[UUID, str, list[Event]]] = field(default_factory=list)
    room: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, connection_id: UUID, peer: str, began_at: datetime, ended_at: datetime, events: bytes) -> bool:
        if not self.room:
            return False
        found = decode(events)
        assert found[0].at == began_at
        assert ended_at >= max(event.at for event in found)
        self.pieces.append((connection_id, peer, found))
        self.changed.set()
        return True

    @property
    def events(self) -> list[Event]:
        return [event for _, _, events in self.pieces for event in events]

    def notes(self, what: What) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Noted) and event.what is what]

    def said(self) -> list[tuple[str, bytes]]:
        """The conversation: who said what in turn."""
        turns: list[tuple[str, bytes]] = []
        for event in self.events:
            if isinstance(event, Came):
                sign, data = ">", event.data
            elif isinstance(event, FrameCame) and event.meaning is not Meaning.APART:
                sign, data = ">", self.intake.named[event.ids[0]]
            elif isinstance(event, Left):
                sign, data = "<", event.data
            else:
                continue
            if turns and turns[-1][0] == sign:
                data = turns.pop()[1] + data
            turns.append((sign, data))
        return turns

    async def closed(self) -> None:
        """Wait until the connection's end is in the log."""
        async with asyncio.timeout(10):
            while not self.notes(What.CLOSED):
                self.changed.clear()
                await self.changed.wait()


def turns(*parts: tuple[bytes, bytes]) -> list[tuple[str, bytes]]:
    said: list[tuple[str, bytes]] = []
    for sign, data in ((sign, data) for part in parts for sign, data in zip("><", part, strict=True)):
        if data and said and said[-1][0] == sign:
            data = said.pop()[1] + data
        said += [(sign, data)] if data else []
    return said


@dataclass
class Bench:
    analyzer: Analyzer
    log: Log
    intake: NamingIntake


@asynccontextmanager
async def line(kind: str, folder: Path, clock: FakeClock | None = None) -> AsyncIterator[Bench]:
    """A link of each transport, and the analyzer's end of its line."""
    intake = NamingIntake()
    log = Log(intake)

    def supervise(link: LinkSettings) -> Supervisor:
        return Supervisor([LinkSpec(link, intake, wire_log=log)], clock)

    if kind == "serial":
        cable = Cable(folder / "port")
        supervisor = supervise(
            LinkSettings("link-1", "main", "generic_lis2", Transport(TransportType.SERIAL, cable.port))
        )
        await supervisor.start()
        yield Bench(Analyzer(cable), log, intake)
        await supervisor.stop(0.0)
        await cable.close()
        return
    if kind == "dial":
        arrived: asyncio.Future[ByteStream] = asyncio.get_running_loop().create_future()
        done = asyncio.Event()

        async def serve(stream: ByteStream) -> None:
            arrived.set_result(stream)
            await done.wait()

        listener = TcpListener(Address("127.0.0.1", 0), serve)
        await listener.start()
        supervisor = supervise(
            LinkSettings("link-1", "main", "generic_lis2", Transport(TransportType.TCP_DIAL, listener.address))
        )
        await supervisor.start()
        yield Bench(Analyzer(await arrived), log, intake)
        await supervisor.stop(0.0)
        done.set()
        await (await arrived).close()
        await listener.stop()
        return
    type = TransportType.MLLP_LISTEN if kind == "mllp" else TransportType.TCP_LISTEN
    supervisor = supervise(settings(type))
    await supervisor.start()
    stream = await connect(supervisor.address("link-1"))
    yield Bench(Analyzer(stream), log, intake)
    await stream.close()
    await supervisor.stop(0.0)


async def test_a_conversation_in_a_drivers_own_framing_is_in_the_log_as_it_was() -> None:
    intake, driver = NamingIntake(), Framing(blocks=Grammar(start=b"\x02", end=b"\x03", good=ACK, bad=NAK, max_bytes=9))
    log = Log(intake)
    supervisor = Supervisor([LinkSpec(settings(), intake, driver, wire_log=log)])
    await supervisor.start()
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    parts = [(b"?\x02one\x03", ACK), (b"\x02" + b"x" * 20 + b"\x03", NAK), (b"\x02two\x03", ACK)]
    await analyzer.talk(*parts)
    intake.failures = [StoreUnavailable("down")]
    await analyzer.talk((b"\x02red\x03", NAK))
    await analyzer.stream.close()
    await log.closed()
    await supervisor.stop(0.0)
    assert log.said() == turns(*parts, (b"\x02red\x03", NAK))
    assert log.notes(What.REFUSED) == ["skipped", "oversize"]
    assert sorted(intake.named.values()) == [b"\x02one\x03", b"\x02two\x03"]


@pytest.mark.parametrize("kind", ["listen", "dial", "serial"])
async def test_a_conversation_is_in_the_log_as_it_was_whatever_carries_it(kind: str, tmp_path: Path) -> None:
    bad = P.replace(b"P|", b"P!")
    parts = [(b"\x00~" + ENQ, ACK), (H, ACK), (bad, NAK), (P, ACK), (P, ACK), (build_frame(2, b"P|9\r", True), NAK),
             (b"#" + L, ACK), (EOT + ENQ, ACK), (EOT, b"")]  # fmt: skip
    async with line(kind, tmp_path) as bench:
        await bench.analyzer.talk(*parts)
        async with asyncio.timeout(10):
            while len(bench.intake.ends) < 2:
                bench.intake.ended.clear()
                await bench.intake.ended.wait()
    assert bench.log.said() == turns(*parts)
    frames = [event for event in bench.log.events if isinstance(event, FrameCame)]
    assert [bench.intake.named[one.ids[0]] for one in frames] == [H, P, P, L], "stored frames are named, not copied"
    assert [one.meaning for one in frames] == [Meaning.STORED, Meaning.STORED, Meaning.AGAIN, Meaning.STORED]
    assert bench.log.notes(What.REFUSED) == ["skipped", "checksum", "same_fn", "skipped"]
    assert bench.log.notes(What.ENDED) == ["eot", "eot"]
    assert (len(bench.log.notes(What.OPENED)), len(bench.log.notes(What.CLOSED))) == (1, 1)
    instants = [event.at for event in bench.log.events if not isinstance(event, Noted)]
    assert instants == sorted(instants)
    assert len({at.microsecond % 1000 for at in instants}) > 1, "times have microseconds"


async def test_hl7_blocks_and_what_was_answered_to_each(tmp_path: Path) -> None:
    blocks = [b"MSH|^~\\&|1\r", b"MSH|^~\\&|2\r", b"MSH|^~\\&|3\r"]
    sent = b"#" + b"".join(b"\x0b" + one + b"\x1c\r" for one in blocks) + b"\x0b\x1c\r"
    replies = b"".join(b"\x0bAA " + one + b"\x1c\r" for one in blocks)
    async with line("mllp", tmp_path) as bench:
        await bench.analyzer.talk((sent, replies))
    assert bench.log.said() == [(">", sent), ("<", replies)]
    left = [event for event in bench.log.events if isinstance(event, Left)]
    assert [bench.intake.named[one.answers] for one in left if one.answers] == blocks
    assert [one.data for one in left] == [b"\x0bAA " + one + b"\x1c\r" for one in blocks]
    assert bench.log.notes(What.REFUSED) == ["stray_bytes", "empty"]


async def test_a_frame_that_was_not_stored_is_in_the_log_with_the_reason(tmp_path: Path) -> None:
    async with line("listen", tmp_path) as bench:
        bench.intake.failures = [StoreUnavailable("down")]
        await bench.analyzer.talk((ENQ, ACK), (H, NAK), (H, ACK))
    assert bench.log.said() == turns((ENQ, ACK), (H, NAK), (H, ACK))
    assert bench.log.notes(What.NOT_STORED) == ["store_unavailable"]


async def test_a_block_that_was_not_stored_is_in_the_log(tmp_path: Path) -> None:
    async with line("mllp", tmp_path) as bench:
        bench.intake.failures = [StoreUnavailable("down")]
        await bench.analyzer.talk((b"\x0bMSH|1\x1c\r", b"\x0bAR\x1c\r"))
    assert bench.log.said() == [(">", b"\x0bMSH|1\x1c\r"), ("<", b"\x0bAR\x1c\r")]
    assert len(bench.log.notes(What.NOT_STORED)) == 1


async def test_what_was_said_is_given_to_the_writer_though_the_connection_stays(tmp_path: Path) -> None:
    async with line("listen", tmp_path) as bench:
        await bench.analyzer.talk((ENQ, ACK), (EOT, b""))
        async with asyncio.timeout(10):
            while bench.log.said() != turns((ENQ, ACK), (EOT, b"")):
                bench.log.changed.clear()
                await bench.log.changed.wait()
        assert bench.log.notes(What.CLOSED) == []


async def test_a_session_that_is_cut_while_a_frame_is_committed_loses_no_byte_of_its_log(tmp_path: Path) -> None:
    async with line("listen", tmp_path) as bench:
        await bench.analyzer.talk((ENQ, ACK))
        bench.intake.gate.clear()
        await bench.analyzer.send(H)
        await bench.intake.until(1)
    assert bench.log.said() == turns((ENQ, ACK), (H, b""))
    assert bench.log.notes(What.NOT_STORED) == ["stopped"]
    assert bench.log.notes(What.ENDED) == ["stop"]


@pytest.mark.parametrize(
    ("protocol", "data", "stored", "refused"),
    [
        (Protocol.LIS2, ENQ + H + P + P + L + EOT, [H, P, P, L], []),
        (Protocol.LIS2, b"H|\\^&\rP|1\r\nL|1|N\r", [b"H|\\^&\r", b"P|1\r", b"\nL|1|N\r"], []),
        (Protocol.LIS2, H + P.replace(b"P|", b"P!"), [], ["checksum"]),
        (Protocol.HL7, b"MSH|^~\\&|1\rPID|1\r" * 3000 + b"MSH|^~\\&|2\r", None, []),
    ],
)
async def test_a_file_is_in_the_log_as_it_was(
    tmp_path: Path, protocol: Protocol, data: bytes, stored: list[bytes] | None, refused: list[str]
) -> None:
    intake, clock = NamingIntake(), FakeClock()
    log = Log(intake)
    transport = Transport(TransportType.FOLDER, Folder(tmp_path, "*", 0.0))
    link = LinkSettings("link-1", "main", "generic", transport)
    (tmp_path / "results").write_bytes(data)
    supervisor = Supervisor([LinkSpec(link, intake, Framing(protocol=protocol), log)], clock)
    await supervisor.start()
    async with asyncio.timeout(30):
        while not log.notes(What.CLOSED):
            await clock.advance(1.0)
    await supervisor.stop(0.0)
    assert log.said() == [(">", data)]
    assert log.notes(What.OPENED) == ["results"]
    assert log.notes(What.REFUSED) == refused
    frames = [intake.named[event.ids[0]] for event in log.events if isinstance(event, FrameCame)]
    assert frames == (stored if stored is not None else intake.blocks)
    if stored is None:
        assert len(frames) == 3001


class Deaf:
    """A peer that takes nothing."""

    peer = "deaf"

    async def read(self) -> bytes:
        return b""

    async def write(self, data: bytes) -> None:
        raise LinkLost("gone")

    async def close(self) -> None:
        """Nothing to do."""


def recorder(log: Log, clock: FakeClock) -> Recorder:
    return Recorder(log, "peer", Allowance(clock), clock)


async def test_a_reply_that_could_not_be_sent_is_not_said_to_have_left() -> None:
    log = Log(NamingIntake())
    stream = RecordedStream(Deaf(), recorder(log, FakeClock()))
    with pytest.raises(LinkLost):
        await stream.write(ACK)
    await stream.close()
    await stream.close()
    assert log.said() == []
    assert next(event for event in log.events if isinstance(event, Noted) and event.what is What.UNSENT).count == 1
    assert len(log.notes(What.CLOSED)) == 1


def missing(log: Log) -> int:
    return sum(event.count for event in log.events if isinstance(event, Noted) and event.what is What.MISSING)


def logged(log: Log) -> int:
    return sum(len(event.data) for event in log.events if isinstance(event, Came | Left))


@pytest.mark.parametrize("noise", [b"~" * 4096, b"\x02" * 4096, b"\x02garbage\x03FF\r\n" * 300, ENQ + EOT, ENQ])
async def test_a_flood_is_logged_within_limits_and_the_rest_counted(noise: bytes) -> None:
    """Through the real session: garbage, broken frames, empty sessions."""
    intake, clock = NamingIntake(), FakeClock()
    log = Log(intake)
    ours, theirs = null_modem()
    heard = recorder(log, clock)
    recorded, counters = RecordedIntake(intake, heard), Counters()
    session = AstmSession("s", RecordedStream(theirs, heard), recorded, counters, clock, DataLink(Station.HOST))
    task = asyncio.create_task(session.run())
    sent = 0
    reader = asyncio.create_task(_listen(ours))
    most = 0
    while sent < 4 * ALLOWANCE_BYTES and sent < 20_000 * len(noise):
        await ours.write(noise)
        sent += len(noise)
        most = max(most, heard._tape.size + heard._tape._pending.waiting)
    await ours.close()
    await task
    answered = await reader
    assert most <= FLUSH_BYTES + 2 * PENDING_BYTES
    came = sum(len(event.data) for event in log.events if isinstance(event, Came))
    left = sum(len(event.data) for event in log.events if isinstance(event, Left))
    assert logged(log) <= ALLOWANCE_BYTES
    assert came + left + missing(log) == sent + answered, "what is not in the log is counted in it"


async def _listen(stream: ByteStream) -> int:
    total = 0
    while data := await stream.read():
        total += len(data)
    return total


async def test_what_the_writer_has_no_room_for_is_counted_when_it_has() -> None:
    log, clock = Log(NamingIntake(), room=False), FakeClock()
    heard = recorder(log, clock)
    for _ in range(4):
        heard.came(b"x" * 50_000)
        heard._tape.settle()
        heard.left(ACK)
    log.room = True
    heard.close()
    assert logged(log) + missing(log) == 4 * 50_001
    assert missing(log) > 0


async def test_the_allowance_grows_with_time_and_with_what_is_stored() -> None:
    clock = FakeClock()
    allowance = Allowance(clock)
    assert allowance.take(ALLOWANCE_BYTES)
    assert not allowance.take(1)
    await clock.advance(2.0)
    assert allowance.take(2 * ALLOWANCE_BYTES_PER_S)
    assert not allowance.take(1)
    allowance.earn()
    assert allowance.take(EARNED_BYTES)
    assert not allowance.take(1)
    await clock.advance(1e6)
    assert not allowance.take(ALLOWANCE_BYTES + 1), "saved up, it stays bounded"


async def test_a_frame_that_comes_slowly_is_named_all_the_same() -> None:
    """At 9600 baud the largest frame takes a minute: it waits, but silence is not waited for."""
    intake, clock = NamingIntake(), FakeClock()
    log = Log(intake)
    heard = recorder(log, clock)
    for at in range(0, len(H), 3):
        heard.came(H[at : at + 3])
        await clock.advance(0.5)
        heard._on_time()
    assert log.said() == []
    heard.stored(heard.frame(H), Receipt(frames=intake._name(H)))
    heard.came(b"\x02half a fr")
    heard._on_time()
    assert log.said() == [(">", H)]
    await clock.advance(5.0)
    heard._on_time()
    assert log.said() == [(">", H + b"\x02half a fr")]
    heard.close()

"""The doctor on real lines: sockets and pseudo-terminals, with the simulator as the analyzer."""

from __future__ import annotations

import asyncio
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from interface.driver.diagnose import diagnose
from interface.driver.diagnosis import Framing
from interface.errors import LinkError
from interface.link.clock import LoopClock
from interface.link.stream import ByteStream
from interface.link.tcp import TcpListener, connect
from interface.ops import line_doctor
from interface.ops.line_doctor import LineDoctor, Place, Recording, Tap
from interface.ops.refusal import Hl7Refusal
from interface.settings import Address, LineFormat, Parity
from interface.simulator import Source, parse_source, play
from interface.wire.lis01 import LinkOptions
from interface.wire.mllp import encode
from interface.wire.trace import Direction
from tests.driver.test_diagnose import ENQ, EOT, HL7, SESSION, frames
from tests.driver.uart import heard as as_heard
from tests.link.bench import PATIENCE_S
from tests.link.cable import Cable

ACK, NAK = b"\x06", b"\x15"
ANYWHERE = Address("127.0.0.1", 0)
ONCE = LinkOptions(max_attempts=1)  # an analyzer that gives up after one refused session


class Listening:
    """A doctor at work, and what it said of the line."""

    def __init__(self, place: Place, **how: object) -> None:
        self.said = list[str]()
        self._changed = asyncio.Event()
        self.doctor = LineDoctor(place, LoopClock(), tell=self._tell, **how)  # type: ignore[arg-type]

    def _tell(self, sentence: str) -> None:
        self.said.append(sentence)
        self._changed.set()

    async def until(self, words: str, count: int = 1) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while sum(words in sentence for sentence in self.said) < count:
                self._changed.clear()
                await self._changed.wait()

    async def heard(self, direction: Direction, count: int) -> bytes:
        """What one side said, once there is so much of it."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.bytes_of(direction)) < count:  # noqa: ASYNC110  it tells nobody that it grows
                await asyncio.sleep(0)
        return found

    def bytes_of(self, direction: Direction) -> bytes:
        return b"".join(one.data for one in self.doctor.recording.heard() if one.direction is direction)

    @property
    def address(self) -> Address:
        endpoint = self.doctor.place.endpoint
        assert isinstance(endpoint, Address)
        return endpoint


@asynccontextmanager
async def listening(place: Place, **how: object) -> AsyncIterator[Listening]:
    one = Listening(place, **how)
    task = asyncio.create_task(one.doctor.run(PATIENCE_S))
    try:
        if isinstance(place.endpoint, Address) and not place.dial:
            await one.until("listening on")
        else:
            await one.until("connected with")
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    cable = Cable(tmp_path / "port")
    yield cable
    cable.unplug()


def astm() -> Source:
    return parse_source(SESSION)


async def _answer(cable: Cable) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await cable.read()


# ---- passive --------------------------------------------------------------------------------------------------------


async def test_a_passive_listener_sends_no_byte() -> None:
    async with listening(Place(ANYWHERE)) as one:
        stream = await connect(one.address)
        await stream.write(SESSION + encode(HL7))
        await one.heard(Direction.ANALYZER, len(SESSION))
        await stream.close()
        await one.until("is over")
        assert one.bytes_of(Direction.HOST) == b""
    assert one.bytes_of(Direction.ANALYZER) == SESSION + encode(HL7)


async def test_a_passive_listener_leaves_an_analyzer_waiting_and_says_why() -> None:
    """The analyzer's own word: nobody answered its ENQ."""
    async with listening(Place(ANYWHERE)) as one:
        options = LinkOptions(max_attempts=1, reply_wait_s=0.05)
        report = await play(astm(), one.address, options=options)
        assert (report.acknowledged, report.rejections) == (0, 0)
    found = diagnose(one.doctor.recording.heard(), whole=True)
    assert found.framing is Framing.HANDSHAKE


async def test_an_analyzer_that_waits_to_be_called_is_called() -> None:
    said: list[bytes] = []

    async def analyzer(stream: ByteStream) -> None:
        await stream.write(SESSION)
        while data := await stream.read():
            said.append(data)

    server = TcpListener(ANYWHERE, analyzer)
    await server.start()
    async with listening(Place(server.address, dial=True)) as one:
        assert await one.heard(Direction.ANALYZER, len(SESSION)) == SESSION
    await server.stop()
    assert said == []


async def test_a_line_that_cannot_be_had_is_one_sentence() -> None:
    async with listening(Place(ANYWHERE)) as one:
        with pytest.raises(LinkError, match="another program uses this address"):
            await LineDoctor(Place(one.address), LoopClock()).run(PATIENCE_S)
    with pytest.raises(LinkError, match="cannot connect"):
        await LineDoctor(Place(one.address, dial=True), LoopClock()).run(PATIENCE_S)


async def test_it_ends_by_itself() -> None:
    await LineDoctor(Place(ANYWHERE), LoopClock()).run(0.01)


# ---- probe ----------------------------------------------------------------------------------------------------------


async def test_a_probed_analyzer_keeps_its_message() -> None:
    """Over a socket: the simulator's message is not delivered, and of six frames the first was refused six times."""
    async with listening(Place(ANYWHERE), probe=True) as one:
        report = await play(astm(), one.address, options=ONCE)
        assert (report.acknowledged, report.messages, report.rejections) == (0, 1, 6)
        assert one.bytes_of(Direction.HOST) == ACK + NAK * 6
        sent = ENQ + frames()[0] * 6 + EOT
        assert await one.heard(Direction.ANALYZER, len(sent)) == sent
    found = diagnose(one.doctor.recording.heard(), whole=True)
    assert found.framing is Framing.LIS01
    assert found.records is not None
    assert found.records.senders == ("ACME^Tester^1.2",)
    assert found.proof is not None
    assert (found.proof.needed, found.proof.proven, found.proof.terminator_unknown) == (frozenset(), True, True)


async def test_a_probe_over_a_real_terminal_is_the_same(cable: Cable) -> None:
    async with listening(Place(cable.port), probe=True) as one:
        await cable.write(ENQ)
        assert await _answer(cable) == ACK
        for frame in frames():
            await cable.write(frame)
            assert await _answer(cable) == NAK
        await cable.write(EOT)
        await one.heard(Direction.ANALYZER, len(SESSION))
    assert one.bytes_of(Direction.HOST) == ACK + NAK * 6


async def test_a_passive_ear_at_a_terminal_sends_no_byte(cable: Cable) -> None:
    async with listening(Place(cable.port)) as one:
        await cable.write(SESSION)
        assert await one.heard(Direction.ANALYZER, len(SESSION)) == SESSION
        assert one.bytes_of(Direction.HOST) == b""
        silent = asyncio.create_task(cable.read())
        await asyncio.sleep(0)
        assert not silent.done()
        silent.cancel()


async def test_a_probed_hl7_sender_hears_nothing_or_a_refusal() -> None:
    async with listening(Place(ANYWHERE), probe=True) as one:
        report = await play(parse_source(encode(HL7)), one.address, options=LinkOptions(reply_wait_s=0.05))
        assert report.acknowledged == 0
        assert one.bytes_of(Direction.HOST) == b""
    async with listening(Place(ANYWHERE), probe=True, hl7=Hl7Refusal.AE) as one:
        report = await play(parse_source(encode(HL7)), one.address)
        assert (report.acknowledged, report.faults) == (0, ("the host answered AE",))


# ---- tap ------------------------------------------------------------------------------------------------------------


class Host:
    """A host behind the tap: remembers what it is sent, answers by table."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.received = b""
        self.over = asyncio.Event()
        self._answer = answer
        self.listener = TcpListener(ANYWHERE, self._serve)

    async def _serve(self, stream: ByteStream) -> None:
        while data := await stream.read():
            self.received += data
            await stream.write(self._answer(data))
        self.over.set()


async def test_a_tap_forwards_every_byte_unchanged() -> None:
    every = bytes(range(256)) * 40
    host = Host(lambda data: bytes(reversed(data)))
    await host.listener.start()
    async with listening(Place(ANYWHERE), tap=Tap(host.listener.address)) as one:
        stream = await connect(one.address)
        answered = b""
        for at in range(0, len(every), 997):
            await stream.write(every[at : at + 997])
            expected = min(at + 997, len(every))
            while len(answered) < expected:
                answered += await stream.read()
        await stream.close()
        async with asyncio.timeout(PATIENCE_S):
            await host.over.wait()
        await one.until("is over")
    await host.listener.stop()
    assert host.received == every == one.bytes_of(Direction.ANALYZER)
    assert answered == one.bytes_of(Direction.HOST)
    assert sorted(answered) == sorted(every)


async def test_a_tapped_transmission_succeeds_and_both_sides_are_known() -> None:
    host = Host(lambda data: ACK if data[:1] in (ENQ, b"\x02") else b"")
    await host.listener.start()
    async with listening(Place(ANYWHERE), tap=Tap(host.listener.address)) as one:
        report = await play(astm(), one.address)
        assert report.complete
        await one.until("is over")
    await host.listener.stop()
    assert host.received == SESSION
    found = diagnose(one.doctor.recording.heard(), whole=True)
    assert found.host is not None
    assert (found.framing, found.host.framing, found.host.handshake.ack) == (Framing.LIS01, Framing.HANDSHAKE, 7)
    assert found.proof is not None
    assert (found.proof.proven, found.proof.needed, found.proof.terminator_unknown) == (True, frozenset(), False)


async def test_a_host_that_connects_is_told_from_the_analyzer_that_listens() -> None:
    analyzer = Host(lambda data: SESSION)
    await analyzer.listener.start()
    async with listening(Place(ANYWHERE), tap=Tap(analyzer.listener.address, host_connects=True)) as one:
        stream = await connect(one.address)
        await stream.write(NAK)
        assert await one.heard(Direction.ANALYZER, len(SESSION)) == SESSION
        assert one.bytes_of(Direction.HOST) == NAK
        await stream.close()
    await analyzer.listener.stop()


async def test_a_tap_without_a_host_lets_the_analyzer_go_and_says_so() -> None:
    nobody = TcpListener(ANYWHERE, lambda stream: stream.close())
    await nobody.start()
    await nobody.stop()
    async with listening(Place(ANYWHERE), tap=Tap(nobody.address)) as one:
        stream = await connect(one.address)
        async with asyncio.timeout(PATIENCE_S):
            assert await stream.read() == b""
        await stream.close()
        await one.until(f"cannot connect to {nobody.address}")


async def test_a_serial_tap_joins_two_cables(tmp_path: Path) -> None:
    near, far = Cable(tmp_path / "analyzer"), Cable(tmp_path / "host")
    try:
        async with listening(Place(near.port), tap=Tap(far.port)) as one:
            await near.write(SESSION)
            received = b""
            async with asyncio.timeout(PATIENCE_S):
                while len(received) < len(SESSION):
                    received += await far.read()
                await far.write(ACK)
                assert await near.read() == ACK
            assert received == SESSION == one.bytes_of(Direction.ANALYZER)
    finally:
        near.unplug()
        far.unplug()


# ---- scan -----------------------------------------------------------------------------------------------------------

_SPEEDS = {getattr(termios, f"B{baud}"): baud for baud in line_doctor.SCAN_BAUDS}


async def scan(cable: Cable, baud: int, form: LineFormat, said: bytes, *, probe: bool = False) -> Listening:
    """Scan while an analyzer with this setting sends `said` once at each; a terminal has no speed, so what the port
    would hear is made from the speed that it is really set to."""
    one = Listening(Place(cable.port), probe=probe)
    task = asyncio.create_task(one.doctor.scan(dwell_s=PATIENCE_S, bauds=(19200, 9600, 4800)))
    tried = 0
    while not task.done():
        tried += 1
        waits = asyncio.create_task(one.until("listening at", tried))
        await asyncio.wait([task, waits], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waits.cancel()
            break
        speed = _SPEEDS[termios.tcgetattr(cable.adapter)[4]]
        await cable.write(as_heard(said, form, LineFormat(), sent_baud=baud, read_baud=speed, gap_bits=12))
        heard = asyncio.create_task(one.until(" bytes, ", tried))
        await asyncio.wait([task, heard], return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()
    await task
    return one


@pytest.mark.parametrize(
    ("baud", "form"),
    [
        (9600, LineFormat()),
        (4800, LineFormat()),
        (9600, LineFormat(7, Parity.EVEN, 1)),
        (4800, LineFormat(7, Parity.ODD, 1)),
    ],
    ids=str,
)
async def test_a_scan_ends_at_the_setting_that_gives_sense(cable: Cable, baud: int, form: LineFormat) -> None:
    one = await scan(cable, baud, form, SESSION)
    port = one.doctor.place.endpoint
    assert not isinstance(port, Address)
    assert (port.baud, str(port.format)) == (baud, "8N1")
    run = asyncio.create_task(one.doctor.run(PATIENCE_S))
    await one.heard(Direction.ANALYZER, len(SESSION))
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    found = diagnose(one.doctor.recording.heard())
    assert found.framing is Framing.LIS01
    assert found.line_format == ("" if str(form) == "8N1" else str(form))


async def test_a_scan_that_hears_nothing_says_so(cable: Cable) -> None:
    doctor = LineDoctor(Place(cable.port), LoopClock())
    steps = await doctor.scan(dwell_s=0.01, bauds=(9600, 4800))
    assert len(steps) == 2 * len(line_doctor.SCAN_FORMATS)
    assert not any(step.makes_sense or step.byte_count for step in steps)


# ---- bounds ---------------------------------------------------------------------------------------------------------


async def test_a_recording_is_bounded_and_the_rest_still_forwarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_doctor, "MAX_RECORDED_BYTES", 10)
    recording = Recording(LoopClock())
    note = recording.conversation()
    note(Direction.ANALYZER, b"1234567")
    note(Direction.HOST, b"1234567")
    note(Direction.ANALYZER, b"8")
    assert [one.data for one in recording.heard()] == [b"1234567", b"123"]
    assert recording.full

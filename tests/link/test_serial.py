"""Serial ports over pseudo-terminals: streams, whole sessions, unplugging and coming back."""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from serial.tools.list_ports_common import ListPortInfo

from interface.errors import LinkError, LinkLost
from interface.link import cable as cable_link
from interface.link import serial
from interface.link.backoff import LONGEST_S
from interface.link.serial import FoundPort, LineFault, LineMarks, PortBusy, SerialStream, list_ports, open_port
from interface.link.session import IDLE_WAIT_S
from interface.link.stream import CHUNK_BYTES
from interface.link.supervisor import LinkSpec, LinkState, LinkStatus, Supervisor
from interface.settings import Address, LineFormat, LinkSettings, Parity, SerialPort, Transport, TransportType
from interface.simulator import Fault, PlayProtocol, Source, parse_source, play
from interface.wire.lis01 import build_frame
from tests.link.bench import ACK, ENQ, EOT, NAK, PATIENCE_S, Analyzer, FakeClock, RecordingIntake, settle
from tests.link.cable import Cable, splice

H, P, L = build_frame(1, b"H|\\^&\r", True), build_frame(2, b"P|1\r", True), build_frame(3, b"L|1|N\r", True)
TEXTS = [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]
MUCH = bytes(range(256)) * 4096  # more than any kernel buffer of a terminal

Loop = Callable[[], asyncio.AbstractEventLoop]
on_both_loops = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    cable = Cable(tmp_path / "port")
    yield cable
    cable.unplug()


def run(loop: Loop, coroutine: Coroutine[Any, Any, None]) -> None:
    """On a loop of this kind: the daemon's is not the tests'."""

    async def in_time() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await coroutine

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(in_time())


async def read_all(stream: SerialStream | Cable, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = await stream.read()
        assert chunk
        assert len(chunk) <= CHUNK_BYTES
        data += chunk
    return data


# ---- the stream -----------------------------------------------------------------------------------------------------


@on_both_loops
def test_every_byte_there_is_passes_both_ways(cable: Cable, loop: Loop) -> None:
    async def talk() -> None:
        stream = open_port(cable.port)
        assert stream.peer == str(cable.name)
        every = bytes(range(256))
        await cable.write(every)
        assert await read_all(stream, 256) == every
        await stream.write(every)
        assert await read_all(cable, 256) == every
        await stream.close()
        await stream.close()

    run(loop, talk())


@on_both_loops
def test_a_writer_waits_for_a_line_that_takes_nothing_without_turning_in_circles(
    cable: Cable, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return real(descriptor, data)

    async def stall() -> None:
        stream = open_port(cable.port)
        monkeypatch.setattr(os, "write", write)
        writing = asyncio.create_task(stream.write(MUCH))
        await settle()
        tried = len(writes)
        for _ in range(20):
            await settle()
        monkeypatch.undo()
        assert not writing.done()
        assert len(writes) <= tried + 1  # at most the kernel's buffer was emptied once more
        assert await read_all(cable, len(MUCH)) == MUCH
        await writing
        await stream.close()

    run(loop, stall())


@on_both_loops
def test_a_reader_that_does_not_read_leaves_the_bytes_with_their_sender(cable: Cable, loop: Loop) -> None:
    async def stall() -> None:
        stream = open_port(cable.port)
        sending = asyncio.create_task(cable.write(MUCH))
        await settle()
        assert not sending.done()
        assert await read_all(stream, len(MUCH)) == MUCH
        await sending
        await stream.close()

    run(loop, stall())


@on_both_loops
def test_silence_is_not_an_unplugged_cable(cable: Cable, loop: Loop) -> None:
    async def wait() -> None:
        stream = open_port(cable.port)
        reading = asyncio.create_task(stream.read())
        await settle()
        assert not reading.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert stream.fault == ""
        await cable.write(b"x")
        assert await stream.read() == b"x"  # the cancelled read has taken nothing
        await stream.close()

    run(loop, wait())


@on_both_loops
def test_an_unplugged_cable_ends_readers_and_writers(cable: Cable, loop: Loop) -> None:
    async def pull() -> None:
        stream = open_port(cable.port)
        reading = asyncio.create_task(stream.read())
        await settle()
        cable.unplug()
        assert await reading == b""
        assert await stream.read() == b""
        assert stream.fault.startswith(f"{cable.name} was unplugged")
        with pytest.raises(LinkLost):
            await stream.write(ACK)
        await stream.close()
        cable.plug()
        stream = open_port(cable.port)
        writing = asyncio.create_task(stream.write(MUCH))
        await settle()
        cable.unplug()
        with pytest.raises(LinkLost):
            await writing
        await stream.close()

    run(loop, pull())


@on_both_loops
def test_closing_wakes_a_reader(cable: Cable, loop: Loop) -> None:
    async def close() -> None:
        stream = open_port(cable.port)
        reading = asyncio.create_task(stream.read())
        await settle()
        await stream.close()
        assert await reading == b""
        assert stream.fault == ""
        with pytest.raises(LinkLost):
            await stream.write(ACK)

    run(loop, close())


async def test_what_the_line_does_not_take_before_a_close_is_dropped_in_time(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = open_port(cable.port)
    dropped: list[bool] = []
    monkeypatch.setattr(serial, "_CLOSE_WAIT_S", 0.0)
    monkeypatch.setattr(type(stream._port), "out_waiting", 17)
    monkeypatch.setattr(type(stream._port), "reset_output_buffer", lambda port: dropped.append(port.is_open))
    await stream.close()
    assert dropped == [True]
    open_again = open_port(cable.port)
    monkeypatch.undo()
    await open_again.close()


# ---- opening --------------------------------------------------------------------------------------------------------


async def test_a_port_is_opened_once_and_free_again_after_a_close(cable: Cable) -> None:
    stream = open_port(cable.port)
    with pytest.raises(PortBusy) as caught:
        open_port(cable.port)
    assert str(caught.value) == f"cannot open {cable.name}: another program uses it"
    await stream.close()
    await open_port(cable.port).close()


def test_what_is_wrong_with_a_port_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(LinkError) as caught:
            open_port(SerialPort(path))
        text = str(caught.value)
        assert text.startswith(f"cannot open {path}: ")
        return text.removeprefix(f"cannot open {path}: ")

    file = tmp_path / "file"
    assert reason(file) == "there is no such port"
    file.touch()
    assert reason(file) == "it is not a serial port, or cannot be set to this speed and format"

    def deny(*arguments: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    assert reason(file) == "this user may not use it; it must be in the group dialout"


@pytest.mark.parametrize(
    ("line_format", "bits", "flags"),
    [
        (LineFormat(), termios.CS8, 0),
        (LineFormat(7, Parity.EVEN, 1), termios.CS7, termios.PARENB),
        (LineFormat(7, Parity.ODD, 2), termios.CS7, termios.PARENB | termios.PARODD | termios.CSTOPB),
        (LineFormat(8, Parity.NONE, 2), termios.CS8, termios.CSTOPB),
    ],
    ids=str,
)
async def test_the_format_and_speed_are_asked_of_the_port(
    cable: Cable, monkeypatch: pytest.MonkeyPatch, line_format: LineFormat, bits: int, flags: int
) -> None:
    """A pseudo-terminal keeps eight bits whatever it is told, so what it is told is looked at."""
    asked: list[list[Any]] = []
    monkeypatch.setattr(termios, "tcsetattr", lambda descriptor, when, attributes: asked.append(attributes))
    stream = open_port(SerialPort(cable.name, 4800, line_format))
    cflag, iflag, characters = asked[0][2], asked[0][0], asked[0][6]
    assert cflag & termios.CSIZE == bits
    assert cflag & (termios.PARENB | termios.PARODD | termios.CSTOPB) == flags
    assert not cflag & termios.CRTSCTS
    assert not iflag & (termios.IXON | termios.IXOFF | termios.ICRNL)
    assert asked[0][4:6] == [termios.B4800, termios.B4800]
    assert (characters[termios.VMIN], characters[termios.VTIME]) == (1, 0)
    marks = asked[-1][0]
    assert marks & termios.PARMRK
    assert bool(marks & termios.INPCK) is (line_format.parity is not Parity.NONE)
    assert not marks & (termios.IGNBRK | termios.BRKINT | termios.IGNPAR | termios.ISTRIP)
    await stream.close()


@on_both_loops
def test_a_line_of_seven_bits_carries_seven(cable: Cable, loop: Loop) -> None:
    """A pseudo-terminal would carry eight."""

    async def talk() -> None:
        stream = open_port(SerialPort(cable.name, 9600, LineFormat(7, Parity.EVEN, 1)))
        await cable.write(b"\xc8\x7c\xff")
        assert await read_all(stream, 3) == b"H|\x7f"
        await stream.write(b"\xc8|")
        assert await read_all(cable, 2) == b"H|"
        await stream.close()

    run(loop, talk())


# ---- breaks and damaged characters ----------------------------------------------------------------------------------

BREAK, DAMAGED = b"\xff\x00\x00", b"\xff\x00A"  # as a terminal driver marks them (termios(3), PARMRK)


def heard(*chunks: bytes) -> tuple[bytes, list[LineFault]]:
    marks, data, faults = LineMarks(), b"", list[LineFault]()
    for chunk in chunks:
        some, more = marks.read(chunk)
        data, faults = data + some, [*faults, *more]
    return data, faults


def test_marks_are_read_however_they_are_cut() -> None:
    marked = b"H" + BREAK + b"|" + DAMAGED + b"\xff\xff" + BREAK + b"\xff\xff\x00"
    said = (b"H|\x00\xff\xff\x00", [LineFault.BREAK, LineFault.PARITY, LineFault.BREAK])
    assert heard(marked) == said
    assert heard(*(bytes([code]) for code in marked)) == said
    for cut in range(len(marked)):
        assert heard(marked[:cut], marked[cut:]) == said


def unmarked(cable: Cable) -> None:
    """From here on the cable gives its bytes as they are, so that the test can play the terminal driver."""
    attributes = termios.tcgetattr(cable.adapter)
    attributes[0] &= ~termios.PARMRK
    termios.tcsetattr(cable.adapter, termios.TCSANOW, attributes)


async def test_a_break_is_counted_and_no_data(cable: Cable) -> None:
    host, analyzer = Host(cable.port), Analyzer(cable)
    await host.supervisor.start()
    unmarked(cable)
    await analyzer.talk((ENQ + BREAK, ACK), (H[:5] + BREAK + H[5:], ACK), (BREAK + P, ACK), (L, ACK))
    assert host.texts == TEXTS
    assert host.status.line_faults == {"break": 3}
    assert host.intake.refused == []
    await host.supervisor.stop(0.0)


async def test_a_line_that_only_breaks_ends_nothing_and_keeps_nobody_waiting(cable: Cable) -> None:
    host, analyzer = Host(cable.port), Analyzer(cable)
    await host.supervisor.start()
    unmarked(cable)
    await analyzer.send(BREAK * 1000)
    await analyzer.talk((ENQ, ACK), (H, ACK), (P, ACK), (L, ACK), (EOT, b""))
    assert host.status.line_faults == {"break": 1000}
    assert (host.status.up, host.status.connections_made) == (True, 1)
    await host.supervisor.stop(0.0)


async def test_a_damaged_character_makes_no_good_frame(cable: Cable) -> None:
    host, analyzer = Host(cable.port), Analyzer(cable)
    await host.supervisor.start()
    unmarked(cable)
    await analyzer.talk((ENQ, ACK), (H.replace(b"|", b"\xff\x00|", 1), NAK), (H, ACK))
    assert host.status.line_faults == {"parity": 1}
    assert [reason for reason, _ in host.intake.refused] == ["checksum"]
    await host.supervisor.stop(0.0)


def test_ports_are_listed_by_the_name_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usb, built_in = ListPortInfo("/dev/ttyUSB7"), ListPortInfo("/dev/ttyS0")
    usb.description = "FT232R"
    monkeypatch.setattr(serial, "comports", lambda: [usb, built_in])
    (tmp_path / "usb-FTDI-if00").symlink_to("/dev/ttyUSB7")
    assert list_ports(tmp_path) == (
        FoundPort("/dev/ttyS0", "/dev/ttyS0", ""),
        FoundPort(str(tmp_path / "usb-FTDI-if00"), "/dev/ttyUSB7", "FT232R"),
    )
    assert list_ports(tmp_path / "nothing")[1].port == "/dev/ttyUSB7"


# ---- a link ---------------------------------------------------------------------------------------------------------


class Host:
    """A serial link under supervision."""

    def __init__(self, port: SerialPort) -> None:
        self.intake, self.clock = RecordingIntake(), FakeClock()
        settings = LinkSettings("link-1", "main", "generic_lis2", Transport(TransportType.SERIAL, port))
        self.supervisor = Supervisor([LinkSpec(settings, self.intake)], self.clock)

    @property
    def status(self) -> LinkStatus:
        return self.supervisor.statuses()[0]

    @property
    def texts(self) -> list[bytes]:
        return [frame.text for frame in self.intake.stored]

    async def until(self, up: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.status.up is not up:
                await settle()


async def test_a_simulator_on_one_end_of_a_cable_and_a_link_on_the_other(cable: Cable, tmp_path: Path) -> None:
    host, theirs = Host(cable.port), Cable(tmp_path / "theirs")
    await host.supervisor.start()
    assert host.status.up
    assert host.status.address == f"{cable.name} 9600 8N1"
    middle = asyncio.create_task(splice(cable, theirs))
    source = parse_source(b"".join(TEXTS))
    for fault in (Fault.NONE, Fault.CHECKSUM, Fault.REPEAT, Fault.NOISE):
        host.intake.stored.clear()
        async with asyncio.timeout(PATIENCE_S):
            report = await play(source, theirs.port, fault=fault)
        assert report.complete, fault
        assert host.texts == TEXTS, fault
    middle.cancel()
    await asyncio.gather(middle, return_exceptions=True)
    assert (host.status.connections, host.status.connections_made, host.status.messages) == (1, 1, 4)
    await host.supervisor.stop(0.0)
    assert host.status.state is LinkState.STOPPED
    await open_port(cable.port).close()  # it was given back
    theirs.unplug()


async def test_bytes_that_trickle(cable: Cable) -> None:
    host, analyzer = Host(cable.port), Analyzer(cable)
    await host.supervisor.start()
    await analyzer.send(*(bytes([code]) for code in ENQ + H + P + L + EOT))
    await analyzer.expect(ACK * 4)
    assert host.texts == TEXTS
    await host.supervisor.stop(0.0)


async def test_an_unplugged_cable_ends_the_session_and_is_taken_up_again_by_its_name(cable: Cable) -> None:
    host, analyzer = Host(cable.port), Analyzer(cable)
    await host.supervisor.start()
    await analyzer.talk((ENQ, ACK), (H, ACK))
    await analyzer.send(P[:4])
    cable.unplug()
    await host.until(up=False)
    assert host.intake.ends == ["lost"]
    assert "was unplugged" in host.status.fault
    await host.clock.advance(1.0)
    assert host.status.fault == f"cannot open {cable.name}: there is no such port"
    cable.plug()
    await host.clock.advance(2.0)
    await host.until(up=True)
    assert host.status.fault == ""
    await analyzer.talk((ENQ, ACK), (H, ACK), (P, ACK), (L, ACK), (EOT, b""))
    assert host.texts == [TEXTS[0], *TEXTS]
    assert host.status.connections_made == 2
    await host.supervisor.stop(0.0)


async def test_a_port_that_is_not_there_keeps_nothing_from_starting_and_is_asked_for_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(SerialPort(tmp_path / "later"))
    tried: list[float] = []

    def look(port: SerialPort, noted: Callable[[LineFault], None]) -> SerialStream:
        tried.append(host.clock.now())
        return open_port(port, noted)

    monkeypatch.setattr(cable_link, "open_port", look)
    await host.supervisor.start()
    assert host.status.state is LinkState.DOWN
    for _ in range(185):
        await host.clock.advance(1.0)
    assert tried == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]
    assert tried[-1] - tried[-2] == LONGEST_S
    with pytest.raises(KeyError):
        host.supervisor.address("link-1")
    await host.supervisor.stop(0.0)


async def test_a_port_in_use_is_down_with_the_reason_until_it_is_free(cable: Cable) -> None:
    other, host = open_port(cable.port), Host(cable.port)
    await host.supervisor.start()
    assert host.status.fault == f"cannot open {cable.name}: another program uses it"
    await other.close()
    await host.clock.advance(1.0)
    await host.until(up=True)
    await host.supervisor.stop(0.0)


async def test_a_day_of_silence_is_no_fault_of_the_port(cable: Cable) -> None:
    host, analyzer = Host(cable.port), Analyzer(cable)
    await host.supervisor.start()
    await host.clock.advance(IDLE_WAIT_S)
    async with asyncio.timeout(PATIENCE_S):
        while host.status.connections_made < 2:
            await settle()
    assert host.status.up
    await analyzer.talk((ENQ, ACK), (H, ACK))
    await host.supervisor.stop(0.0)


async def test_a_loose_contact_is_tried_less_and_less_often(cable: Cable) -> None:
    host = Host(cable.port)
    await host.supervisor.start()
    for wait_s in (1.0, 2.0, 4.0):
        cable.unplug()
        await host.until(up=False)
        cable.plug()
        await host.clock.advance(wait_s - 0.5)
        assert not host.status.up
        await host.clock.advance(0.5)
        await host.until(up=True)
    await host.supervisor.stop(0.0)


async def test_a_stop_lets_a_session_end(cable: Cable) -> None:
    host, analyzer = Host(cable.port), Analyzer(cable)
    await host.supervisor.start()
    await analyzer.talk((ENQ, ACK), (H, ACK))
    stopping = asyncio.create_task(host.supervisor.stop(60.0))
    await settle()
    await analyzer.talk((P, ACK), (L, ACK), (EOT, b""))
    await stopping
    assert host.intake.ends == ["eot"]
    assert host.texts == TEXTS
    await open_port(cable.port).close()


async def test_a_stop_cuts_a_session_that_does_not_end(cable: Cable) -> None:
    host, analyzer = Host(cable.port), Analyzer(cable)
    await host.supervisor.start()
    await analyzer.talk((ENQ, ACK), (H, ACK))
    await host.supervisor.stop(0.0)
    assert host.intake.ends == ["stop"]
    await open_port(cable.port).close()


async def test_a_link_that_is_stopped_as_soon_as_it_is_started_gives_its_port_back(cable: Cable) -> None:
    host = Host(cable.port)
    await host.supervisor.start()
    await host.supervisor.stop(0.0)
    await open_port(cable.port).close()


async def test_two_links_do_not_disturb_each_other(cable: Cable) -> None:
    """A port that is missing keeps no listener from its work, and a taken address closes the port again."""
    intake = RecordingIntake()
    specs = [
        LinkSettings("gone", "main", "generic_lis2", Transport(TransportType.SERIAL, SerialPort(Path("/nowhere")))),
        LinkSettings("tcp", "main", "generic_lis2", Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0))),
    ]
    both = Supervisor([LinkSpec(one, intake) for one in specs])
    await both.start()
    assert {status.id: status.up for status in both.statuses()} == {"gone": False, "tcp": True}
    assert list(both.addresses()) == ["tcp"]
    taken = Transport(TransportType.TCP_LISTEN, both.address("tcp"))
    plugged = LinkSettings("plugged", "main", "generic_lis2", Transport(TransportType.SERIAL, cable.port))
    third = Supervisor(
        [LinkSpec(plugged, intake), LinkSpec(LinkSettings("taken", "main", "generic_lis2", taken), intake)]
    )
    with pytest.raises(LinkError):
        await third.start()
    await open_port(cable.port).close()
    await both.stop(0.0)


async def test_hl7_is_not_played_into_a_serial_line(cable: Cable) -> None:
    with pytest.raises(LinkError, match="not for a serial line"):
        await play(Source(PlayProtocol.MLLP, ((b"MSH|",),)), cable.port)

"""Dialling: the analyzer listens, we call it, receive, and call again when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from interface.errors import LinkError
from interface.link import dial
from interface.link.backoff import LONGEST_S, STABLE_S, BackOff
from interface.link.dial import CONNECT_WAIT_S, DialLink
from interface.link.stream import ByteStream
from interface.link.supervisor import LinkSpec, LinkState, LinkStatus, Supervisor
from interface.link.tcp import TcpListener, TcpStream
from interface.settings import Address, LinkSettings, Transport, TransportType
from interface.wire.lis01 import build_frame
from interface.wire.mllp import encode
from tests.link.bench import ACK, ENQ, EOT, PATIENCE_S, Analyzer, FakeClock, RecordingIntake, settle

H, L = build_frame(1, b"H|\\^&\r", True), build_frame(2, b"L|1|N\r", True)
ORU = b"MSH|^~\\&|1\r"


class Instrument:
    """An analyzer that is called: it listens, and hands each connection to the test."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[ByteStream] = asyncio.Queue()
        self.listener = TcpListener(Address("127.0.0.1", 0), self._take)
        self._over = asyncio.Event()

    async def _take(self, stream: ByteStream) -> None:
        self.calls.put_nowait(stream)
        await self._over.wait()

    async def answered(self) -> Analyzer:
        async with asyncio.timeout(PATIENCE_S):
            return Analyzer(await self.calls.get())

    async def stop(self) -> None:
        self._over.set()
        await self.listener.stop()


class Host:
    """A supervisor with one link that dials."""

    def __init__(self, peer: Address, kind: TransportType = TransportType.TCP_DIAL) -> None:
        self.intake, self.clock = RecordingIntake(), FakeClock()
        settings = LinkSettings("link-1", "main", "generic_lis2", Transport(kind, peer))
        self.supervisor = Supervisor([LinkSpec(settings, self.intake)], self.clock, jitter=lambda: 0.0)

    @property
    def status(self) -> LinkStatus:
        return self.supervisor.statuses()[0]

    async def until(self, *, up: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.status.up is not up:
                await settle()


@pytest.fixture
async def instrument() -> AsyncIterator[Instrument]:
    instrument = Instrument()
    await instrument.listener.start()
    yield instrument
    await instrument.stop()


async def test_a_dialled_analyzer_is_received_from(instrument: Instrument) -> None:
    host = Host(instrument.listener.address)
    await host.supervisor.start()
    analyzer = await instrument.answered()
    await analyzer.talk((ENQ, ACK), (H, ACK), (L, ACK), (EOT, b""))
    await host.until(up=True)
    assert host.status.address == str(instrument.listener.address)
    assert (host.status.frames, host.status.messages, host.status.connections) == (2, 1, 1)
    await host.supervisor.stop(0.0)
    assert host.status.state is LinkState.STOPPED


async def test_hl7_is_received_over_a_dialled_connection(instrument: Instrument) -> None:
    host = Host(instrument.listener.address, TransportType.MLLP_DIAL)
    await host.supervisor.start()
    await (await instrument.answered()).talk((encode(ORU), encode(b"AA " + ORU)))
    assert host.intake.blocks == [ORU]
    await host.supervisor.stop(0.0)


async def test_an_analyzer_that_is_off_keeps_nothing_from_starting_and_is_called_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Host(Address("127.0.0.1", 1))  # tcpmux, which nobody serves
    tried: list[float] = []

    async def look(address: Address) -> TcpStream:
        tried.append(host.clock.now())
        raise LinkError(f"cannot connect to {address}: connection refused")

    monkeypatch.setattr(dial, "connect", look)
    await host.supervisor.start()
    assert host.status.fault == "not yet connected to 127.0.0.1:1"
    for _ in range(185):
        await host.clock.advance(1.0)
    assert tried == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]
    assert tried[-1] - tried[-2] == LONGEST_S
    assert host.status.state is LinkState.DOWN
    assert host.status.fault == "cannot connect to 127.0.0.1:1: connection refused"
    await host.supervisor.stop(0.0)


async def test_a_connection_that_is_refused_is_down_with_the_reason() -> None:
    host = Host(Address("127.0.0.1", 1))
    await host.supervisor.start()
    async with asyncio.timeout(PATIENCE_S):
        while "cannot connect" not in host.status.fault:
            await settle()
    assert host.status.fault == "cannot connect to 127.0.0.1:1: connection refused"
    await host.supervisor.stop(0.0)


async def test_a_host_that_says_nothing_at_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(Address("127.0.0.1", 1))

    async def hang(address: Address) -> TcpStream:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(dial, "connect", hang)
    await host.supervisor.start()
    await host.clock.advance(CONNECT_WAIT_S)
    assert host.status.fault == "cannot connect to 127.0.0.1:1: it does not answer"
    await host.supervisor.stop(0.0)


async def test_an_analyzer_that_hangs_up_is_called_again_and_its_cut_transmission_ends(instrument: Instrument) -> None:
    host = Host(instrument.listener.address)
    await host.supervisor.start()
    first = await instrument.answered()
    await first.talk((ENQ, ACK), (H, ACK))
    await first.stream.close()
    await host.until(up=False)
    assert host.intake.ends == ["lost"]
    assert host.status.fault == f"the connection to {instrument.listener.address} ended"
    await host.clock.advance(1.0)
    second = await instrument.answered()
    await second.talk((ENQ, ACK), (H, ACK), (L, ACK), (EOT, b""))
    assert host.status.connections_made == 2
    await host.supervisor.stop(0.0)


async def test_only_a_connection_that_lasted_makes_the_wait_short_again(instrument: Instrument) -> None:
    host = Host(instrument.listener.address)
    await host.supervisor.start()
    for lasted_s, wait_s in ((0.0, 1.0), (0.0, 2.0), (STABLE_S, 1.0), (STABLE_S - 1.0, 2.0)):
        analyzer = await instrument.answered()
        await host.until(up=True)
        await host.clock.advance(lasted_s)
        await analyzer.stream.close()
        await host.until(up=False)
        await host.clock.advance(wait_s - 0.5)
        assert instrument.calls.empty()
        await host.clock.advance(0.5)
    await instrument.answered()
    await host.supervisor.stop(0.0)


async def test_a_stop_lets_a_dialled_session_end_and_calls_nobody_again(instrument: Instrument) -> None:
    host = Host(instrument.listener.address)
    await host.supervisor.start()
    analyzer = await instrument.answered()
    await analyzer.talk((ENQ, ACK), (H, ACK))
    stopping = asyncio.create_task(host.supervisor.stop(PATIENCE_S))
    await settle()
    await analyzer.talk((L, ACK), (EOT, b""))
    await stopping
    assert host.intake.ends == ["eot"]
    await host.clock.advance(LONGEST_S)
    assert instrument.calls.empty()


def test_waits_double_and_jitter_shortens_them() -> None:
    numbers = iter((0.0, 1.0, 0.5))
    back_off = BackOff(lambda: next(numbers))
    assert [back_off.next_s() for _ in range(3)] == [1.0, 1.0, 3.0]


def test_links_that_dial_do_so_with_jitter() -> None:
    settings = LinkSettings("a", "main", "d", Transport(TransportType.TCP_DIAL, Address("127.0.0.1", 1)))
    link = DialLink(LinkSpec(settings, RecordingIntake()), FakeClock(), Address("127.0.0.1", 1))
    assert len({link._back_off.next_s() / 2**at for at in range(6)}) > 1

"""Listening, admitting, counting, coming back and stopping."""

from __future__ import annotations

import asyncio
import socket

import pytest

from interface.errors import LinkError
from interface.link.listening import CHECK_S, ListeningLink
from interface.link.supervisor import LinkSpec, LinkState, Supervisor
from interface.link.tcp import TcpListener, connect
from interface.settings import Address
from interface.wire.lis01 import build_frame
from tests.link.bench import ACK, ENQ, EOT, NAK, Analyzer, FakeClock, RecordingIntake, settings, settle

H = build_frame(1, b"H|\\^&\r", True)
L = build_frame(2, b"L|1|N\r", True)


async def start(intake: RecordingIntake, clock: FakeClock | None = None, **more: object) -> Supervisor:
    supervisor = Supervisor([LinkSpec(settings(**more), intake)], clock)  # type: ignore[arg-type]
    await supervisor.start()
    return supervisor


async def test_the_status_counts_what_happens() -> None:
    supervisor = await start(RecordingIntake())
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    damaged = H.replace(b"H|", b"H!")
    await analyzer.talk((ENQ, ACK), (damaged, NAK), (H, ACK), (H, ACK), (L, ACK))
    status = supervisor.statuses()[0]
    assert status.up
    assert status.address == str(supervisor.address("link-1"))
    assert (status.connections, status.connections_made) == (1, 1)
    assert (status.frames, status.repeats, status.naks, status.checksum_errors) == (2, 1, 1, 1)
    assert (status.messages, status.rejected) == (1, 1)
    assert status.last_activity is not None
    assert status.last_activity.tzinfo is not None
    await analyzer.stream.close()
    await supervisor.stop(0.0)
    assert supervisor.statuses()[0].state is LinkState.STOPPED


async def test_a_taken_port_is_one_clear_sentence_and_nothing_is_left_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free, busy = settings(id="free"), settings(id="busy")
        busy = type(busy)(
            id="busy", organization="main", driver="generic_lis2",
            transport=type(busy.transport)(busy.transport.type, Address("127.0.0.1", port)),
        )  # fmt: skip
        supervisor = Supervisor([LinkSpec(free, RecordingIntake()), LinkSpec(busy, RecordingIntake())])
        with pytest.raises(LinkError) as caught:
            await supervisor.start()
        expected = f"link busy: cannot listen on 127.0.0.1:{port}: another program uses this address"
        assert str(caught.value) == expected
        with pytest.raises(LinkError):
            await connect(supervisor.address("free"))


async def test_only_listed_networks_may_connect() -> None:
    supervisor = await start(RecordingIntake(), allow=("10.1.2.0/24",))
    stranger = await connect(supervisor.address("link-1"))
    assert await stranger.read() == b""
    await stranger.close()
    assert supervisor.statuses()[0].connections_refused == 1
    await supervisor.stop(0.0)
    supervisor = await start(RecordingIntake(), allow=("10.1.2.0/24", "127.0.0.0/8"))
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    await analyzer.talk((ENQ, ACK))
    await analyzer.stream.close()
    await supervisor.stop(0.0)


async def test_the_connection_limit_holds_and_frees() -> None:
    supervisor = await start(RecordingIntake(), max_connections=1)
    address = supervisor.address("link-1")
    first = Analyzer(await connect(address))
    await first.talk((ENQ, ACK))
    second = await connect(address)
    assert await second.read() == b""
    await second.close()
    await first.stream.close()
    async with asyncio.timeout(10):
        while supervisor.statuses()[0].connections:
            await settle()
    third = Analyzer(await connect(address))
    await third.talk((ENQ, ACK))
    await third.stream.close()
    await supervisor.stop(0.0)


async def test_a_stop_lets_a_session_end_and_begins_none() -> None:
    intake = RecordingIntake()
    supervisor = await start(intake)
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    idle = await connect(supervisor.address("link-1"))
    await analyzer.talk((ENQ, ACK), (H, ACK))
    stopping = asyncio.create_task(supervisor.stop(60.0))
    assert await idle.read() == b""  # cut at once
    await idle.close()
    await analyzer.talk((L, ACK), (EOT, b""))
    await analyzer.expect_end()
    await stopping
    assert intake.ends == ["eot"]
    await analyzer.stream.close()


async def test_a_stop_cuts_what_does_not_end() -> None:
    intake = RecordingIntake()
    supervisor = await start(intake)
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    await analyzer.talk((ENQ, ACK), (H, ACK))
    await supervisor.stop(0.0)
    assert intake.ends == ["stop"]
    await analyzer.expect_end()
    await analyzer.stream.close()


async def test_a_listener_that_fails_comes_back_on_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    supervisor = await start(RecordingIntake(), clock)
    address = supervisor.address("link-1")
    link = supervisor._links["link-1"]
    assert isinstance(link, ListeningLink)
    await link.listener.stop()
    real, failures = TcpListener.start, [LinkError("not yet")]

    async def fail_once(self: TcpListener) -> None:
        if failures:
            raise failures.pop()
        await real(self)

    monkeypatch.setattr(TcpListener, "start", fail_once)
    await clock.advance(CHECK_S)
    assert supervisor.statuses()[0].state is LinkState.DOWN
    assert supervisor.statuses()[0].fault == "not yet"
    await clock.advance(1.0)
    await clock.advance(CHECK_S)
    async with asyncio.timeout(10):
        while not supervisor.statuses()[0].up:
            await settle()
    assert supervisor.address("link-1") == address
    analyzer = Analyzer(await connect(address))
    await analyzer.talk((ENQ, ACK))
    await analyzer.stream.close()
    await supervisor.stop(0.0)


async def test_a_peer_without_power_is_found_by_keep_alive() -> None:
    supervisor = await start(RecordingIntake())
    stream = await connect(supervisor.address("link-1"))
    sock = stream._writer.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    await stream.close()
    await supervisor.stop(0.0)

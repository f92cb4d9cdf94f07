"""Listening, admitting, counting, coming back and stopping."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
import uvloop

from interface.errors import LinkError
from interface.link import tcp
from interface.link.intake import Receipt
from interface.link.listening import CHECK_S, TAKEOVER_S, ListeningLink
from interface.link.supervisor import LinkSpec, LinkState, Supervisor
from interface.link.tcp import TcpListener, connect
from interface.settings import Address, Transport, TransportType
from interface.wire.lis01 import build_frame
from tests.link.bench import ACK, ENQ, EOT, NAK, PATIENCE_S, Analyzer, FakeClock, RecordingIntake, settings, settle
from tests.link.dead_host import dead_host

H = build_frame(1, b"H|\\^&\r", True)
L = build_frame(2, b"L|1|N\r", True)
EVERYWHERE = Transport(TransportType.TCP_LISTEN, Address("0.0.0.0", 0))  # noqa: S104


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


async def test_an_analyzer_that_lost_its_power_finds_its_place_free() -> None:
    """It comes back while its old connection still counts: nobody has hung up."""
    clock, intake = FakeClock(), RecordingIntake()
    supervisor = await start(intake, clock, max_connections=1)
    address = supervisor.address("link-1")
    dead = Analyzer(await connect(address))
    await dead.talk((ENQ, ACK), (H, ACK))
    await clock.advance(29.0)
    early = await connect(address)
    assert await early.read() == b""  # a transmission is under way: nothing is cut
    await early.close()
    await clock.advance(1.0)  # LIS01-A2 6.5.2: the receiver waits 30 s
    await asyncio.wait_for(intake.ended.wait(), 10)
    again = Analyzer(await connect(address))
    await again.talk((ENQ, ACK), (H, ACK), (L, ACK))
    await dead.expect_end()
    status = supervisor.statuses()[0]
    assert (status.connections, status.connections_made, status.connections_refused) == (1, 2, 1)
    await again.stream.close()
    await dead.stream.close()
    await supervisor.stop(0.0)


@pytest.mark.parametrize(("silent_s", "takeover"), [(TAKEOVER_S - 1.0, True), (TAKEOVER_S, False)])
async def test_a_connection_that_is_not_silent_or_not_to_be_replaced_keeps_its_place(
    silent_s: float, takeover: bool
) -> None:
    clock = FakeClock()
    supervisor = await start(RecordingIntake(), clock, max_connections=1, takeover=takeover)
    first = Analyzer(await connect(supervisor.address("link-1")))
    await first.talk((ENQ, ACK), (EOT, b""))
    async with asyncio.timeout(10):
        while not supervisor._links["link-1"].sessions:
            await settle()
    await clock.advance(silent_s)
    second = await connect(supervisor.address("link-1"))
    assert await second.read() == b""
    await first.talk((ENQ, ACK))
    await first.stream.close()
    await second.close()
    await supervisor.stop(0.0)


async def test_only_a_connection_from_the_same_address_is_replaced() -> None:
    clock = FakeClock()
    supervisor = await start(RecordingIntake(), clock, max_connections=1)
    address = supervisor.address("link-1")
    first = Analyzer(await connect(address))
    await first.talk((ENQ, ACK), (EOT, b""))
    await clock.advance(3600.0)
    reader, writer = await asyncio.open_connection(address.host, address.port, local_addr=("127.0.0.2", 0))
    assert await reader.read() == b""
    writer.close()
    await first.talk((ENQ, ACK))
    await first.stream.close()
    await supervisor.stop(0.0)


@pytest.mark.parametrize("idle_s", [600.0, 0.0])
async def test_a_silent_connection_is_closed_after_the_links_own_time_or_never(idle_s: float) -> None:
    clock = FakeClock()
    supervisor = await start(RecordingIntake(), clock, idle_s=idle_s)
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    await analyzer.talk((ENQ, ACK), (EOT, b""))
    await settle()
    if idle_s:
        await clock.advance(idle_s - 1.0)
        await analyzer.talk((ENQ, ACK), (EOT, b""))
        await clock.advance(idle_s)
        await analyzer.expect_end()
    else:
        await clock.advance(400 * 86400.0)
        await analyzer.talk((ENQ, ACK))
    await analyzer.stream.close()
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


@pytest.mark.parametrize("steps", range(8))
def test_nobody_connects_to_a_link_that_has_stopped(steps: int) -> None:
    """A connection on its way in while a reload stops the link would be served by nobody's link, for a day.

    On the daemon's own event loop: the standard library's leaks such a connection.
    """

    async def stop() -> int:
        supervisor = await start(RecordingIntake())
        address = supervisor.address("link-1")
        stopping = asyncio.create_task(supervisor.stop(0.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        with socket.socket() as peer:
            peer.connect_ex((address.host, address.port))
            await stopping
            await settle()
            return supervisor.statuses()[0].connections

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(stop()) == 0


async def test_a_session_that_is_sealing_its_message_is_not_idle() -> None:
    """It is not to be replaced or cut at once: the frames are acknowledged, and their seal is on its way."""
    intake = RecordingIntake()
    sealed = asyncio.Event()

    async def end(reason: str) -> Receipt:
        intake.changed.set()
        await sealed.wait()
        intake.ends.append(reason)
        return Receipt()

    intake.end = end  # type: ignore[method-assign]
    supervisor = await start(intake)
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    await analyzer.talk((ENQ, ACK), (H, ACK))
    intake.changed.clear()
    await analyzer.send(EOT)
    async with asyncio.timeout(PATIENCE_S):
        await intake.changed.wait()
    stopping = asyncio.create_task(supervisor.stop(PATIENCE_S))
    await settle()
    sealed.set()
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


async def test_two_links_may_exchange_their_ports_beside_one_that_goes_on() -> None:
    supervisor, intake = Supervisor(), RecordingIntake()
    specs = [LinkSpec(settings(id=name), intake) for name in ("a", "b", "c")]
    await supervisor.start(specs)
    one, other = supervisor.address("a"), supervisor.address("b")
    kept = Analyzer(await connect(supervisor.address("c")))
    await kept.talk((ENQ, ACK))
    fixed = [
        LinkSpec(replace(settings(id=name), transport=Transport(TransportType.TCP_LISTEN, address)), intake)
        for name, address in (("a", other), ("b", one))
    ]
    changes = await supervisor.apply([specs[2], *fixed], 0.0)
    assert (changes.added, set(changes.changed), changes.removed) == ((), {"a", "b"}, ())
    assert [status.id for status in supervisor.statuses()] == ["c", "a", "b"]
    assert (supervisor.address("a"), supervisor.address("b")) == (other, one)
    await kept.talk((H, ACK), (L, ACK))
    await kept.stream.close()
    await supervisor.stop(0.0)


async def test_a_link_that_cannot_be_started_at_a_reload_is_tried_again() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock=clock)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        link = replace(settings(), transport=Transport(TransportType.TCP_LISTEN, address))
        changes = await supervisor.apply([LinkSpec(link, RecordingIntake())], 0.0)
        assert changes.added == ("link-1",)
        assert "another program uses this address" in supervisor.statuses()[0].fault
    await clock.advance(CHECK_S)
    async with asyncio.timeout(10):
        while not supervisor.statuses()[0].up:
            await settle()
    await supervisor.stop(0.0)


@pytest.mark.parametrize("owing", [False, True], ids=["idle", "owed an answer"])
async def test_a_peer_that_vanished_is_found_whether_it_owes_us_a_receipt_or_not(
    monkeypatch: pytest.MonkeyPatch, owing: bool
) -> None:
    """While an answer of ours is under way nothing is asked by keep-alive: the kernel would repeat it for 15 min."""
    short = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 1, "TCP_USER_TIMEOUT": 1000}
    monkeypatch.setattr("interface.link.tcp._VANISHED", tuple((name, short[name]) for name, _ in tcp._VANISHED))
    with dead_host() as host:
        if host is None:
            pytest.skip("needs root and network namespaces")
        link = replace(settings(max_connections=1), transport=EVERYWHERE)
        supervisor = Supervisor([LinkSpec(link, RecordingIntake())])
        await supervisor.start()
        port = supervisor.address("link-1").port
        with host.connected(port) as analyzer:
            assert analyzer.stdin is not None and analyzer.stdout is not None
            try:
                analyzer.stdin.write(ENQ.hex().encode() + b"\n")
                analyzer.stdin.flush()
                assert await asyncio.to_thread(analyzer.stdout.readline) == ACK.hex().encode() + b"\n"
                host.fall_silent()
                if owing:
                    analyzer.stdin.write(H.hex().encode() + b"\n")
                    analyzer.stdin.flush()
                assert supervisor.statuses()[0].connections == 1
                async with asyncio.timeout(PATIENCE_S):
                    while supervisor.statuses()[0].connections:
                        await settle()
            finally:
                analyzer.kill()
        again = Analyzer(await connect(Address("127.0.0.1", port)))
        await again.talk((ENQ, ACK))
        await again.stream.close()
        await supervisor.stop(0.0)


def test_a_peer_that_vanished_is_found_within_a_minute() -> None:
    of = dict(tcp._VANISHED)
    assert of["TCP_KEEPIDLE"] + of["TCP_KEEPINTVL"] * of["TCP_KEEPCNT"] == 60
    assert of["TCP_USER_TIMEOUT"] == 60_000


async def test_a_peer_without_power_is_found_by_keep_alive() -> None:
    supervisor = await start(RecordingIntake())
    stream = await connect(supervisor.address("link-1"))
    assert stream._transport is not None
    sock = stream._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    await stream.close()
    await supervisor.stop(0.0)

"""TLS: who is admitted, who is refused and why, and that a peer which says nothing costs nothing."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from interface.link.listening import HANDSHAKE_WAIT_S, REFUSALS_S, ListeningLink, Refusals
from interface.link.stream import ByteStream, null_modem
from interface.link.supervisor import LinkSpec, LinkStatus, Supervisor
from interface.link.tcp import MOST_HANDSHAKES, TcpStream, connect
from interface.link.tls import TlsStream, accept, call, dial_context, listen_context, normalised
from interface.settings import Address, DialTls, LinkSettings, ListenTls, Transport, TransportType
from interface.telemetry import REGISTRY
from interface.wire.lis01 import build_frame
from interface.wire.mllp import encode
from tests.link.bench import ACK, ENQ, EOT, PATIENCE_S, Analyzer, FakeClock, RecordingIntake, settings, settle
from tests.link.certificates import Authority, Pair, listen_tls

H, L = build_frame(1, b"H|\\^&\r", True), build_frame(2, b"L|1|N\r", True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def ours(authority: Authority) -> Pair:
    return authority.pair("ours")


class Host:
    """A supervisor with one link that listens with TLS."""

    def __init__(self, tls: ListenTls, kind: TransportType = TransportType.TCP_LISTEN, **more: object) -> None:
        self.intake, self.clock = RecordingIntake(), FakeClock()
        self.supervisor = Supervisor([LinkSpec(settings(kind, tls=tls, **more), self.intake)], self.clock)

    async def __aenter__(self) -> Host:
        await self.supervisor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.supervisor.stop(0.0)

    @property
    def address(self) -> Address:
        return self.supervisor.address("link-1")

    async def refused(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.supervisor.statuses()[0].connections_refused < number:
                await settle()

    async def call(self, ca: Path, pair: Pair | None = None) -> TlsStream:
        mine = DialTls(ca, pair.cert, pair.key) if pair else DialTls(ca)
        return await call(await connect(self.address), dial_context(mine), "127.0.0.1")


def refusals(link: str, reason: str) -> float:
    return REGISTRY.get_sample_value("labora_connections_refused_total", {"link": link, "reason": reason}) or 0.0


async def test_a_session_over_tls(authority: Authority, ours: Pair) -> None:
    async with Host(listen_tls(ours)) as host:
        analyzer = Analyzer(await host.call(authority.file))
        await analyzer.talk((ENQ, ACK), (H, ACK), (L, ACK), (EOT, b""))
        assert (await status_of(host, messages=1)).connections == 1
        await analyzer.stream.close()


async def status_of(host: Host, messages: int) -> LinkStatus:
    async with asyncio.timeout(PATIENCE_S):
        while host.supervisor.statuses()[0].messages < messages:
            await settle()
    return host.supervisor.statuses()[0]


async def test_a_large_message_comes_through_as_it_is(authority: Authority, ours: Pair) -> None:
    block = b"MSH|^~\\&|" + bytes(range(0x20, 0x7F)) * 20_000
    async with Host(listen_tls(ours), TransportType.MLLP_LISTEN) as host:
        stream = await host.call(authority.file)
        writing = asyncio.create_task(stream.write(encode(block)))
        answer = encode(b"AA " + block)
        got = b""
        async with asyncio.timeout(PATIENCE_S):
            await writing
            while len(got) < len(answer):
                got += await stream.read()
        assert got == answer
        assert host.intake.blocks == [block]
        await stream.close()


async def test_no_tls_below_1_2() -> None:
    dialling = dial_context(DialTls())
    assert dialling.minimum_version == ssl.TLSVersion.TLSv1_2
    assert dialling.check_hostname
    assert dialling.verify_mode is ssl.CERT_REQUIRED


async def test_a_listener_takes_no_tls_below_1_2(ours: Pair) -> None:
    assert listen_context(listen_tls(ours)).minimum_version == ssl.TLSVersion.TLSv1_2


async def test_where_an_authority_is_named_a_peer_must_show_a_certificate_of_it(
    tmp_path: Path, authority: Authority, ours: Pair
) -> None:
    other = Authority(tmp_path, "other")
    async with Host(listen_tls(ours, authority.file), id="mutual") as host:
        before = refusals("mutual", "certificate")
        link = host.supervisor._links["mutual"]
        assert isinstance(link, ListeningLink)
        for number, pair in enumerate((None, other.pair("stranger")), start=1):
            tls = DialTls(authority.file, pair.cert, pair.key) if pair else DialTls(authority.file)
            stream = await call(await connect(link.listener.address), dial_context(tls), "127.0.0.1")
            assert await stream.read() == b""
            await stream.close()
            await host.refused(number)
        assert refusals("mutual", "certificate") == before + 2
        mine = authority.pair("analyzer", "xn-1.lab.example")
        known = DialTls(authority.file, mine.cert, mine.key)
        analyzer = Analyzer(await call(await connect(link.listener.address), dial_context(known), "127.0.0.1"))
        await analyzer.talk((ENQ, ACK))
        assert link.status().connections_made == 1
        await analyzer.stream.close()


@pytest.mark.parametrize("by", ["common name", "alternative name", "fingerprint", "fingerprint with colons"])
async def test_a_listed_certificate_is_admitted_and_no_other(authority: Authority, ours: Pair, by: str) -> None:
    listed = authority.pair("listed", "XN-1.lab.example", common_name="Hema 1")
    unlisted = authority.pair("unlisted", "xn-2.lab.example", common_name="Hema 2")
    colons = ":".join(listed.fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    entry = {
        "common name": "hema 1", "alternative name": "xn-1.LAB.example", "fingerprint": listed.fingerprint,
        "fingerprint with colons": colons,
    }[by]  # fmt: skip
    async with Host(listen_tls(ours, authority.file, normalised(entry))) as host:
        analyzer = Analyzer(await host.call(authority.file, listed))
        await analyzer.talk((ENQ, ACK))
        stranger = await host.call(authority.file, unlisted)
        assert await stranger.read() == b""
        await host.refused(1)
        await stranger.close()
        await analyzer.talk((H, ACK))
        await analyzer.stream.close()


async def test_who_is_called_as_anothers_fingerprint_is_not_that_one(authority: Authority, ours: Pair) -> None:
    """A common name may have 64 letters (RFC 5280, ub-common-name), which is what a fingerprint has."""
    listed = authority.pair("listed", common_name="hema-1")
    impostor = authority.pair("impostor", common_name=listed.fingerprint)
    async with Host(listen_tls(ours, authority.file, normalised(listed.fingerprint))) as host:
        stranger = await host.call(authority.file, impostor)
        async with asyncio.timeout(PATIENCE_S):
            assert await stranger.read() == b""
        await host.refused(1)
        await stranger.close()
        analyzer = Analyzer(await host.call(authority.file, listed))
        await analyzer.talk((ENQ, ACK), (H, ACK))
        await analyzer.stream.close()


async def test_a_peer_that_says_nothing_takes_no_place_and_is_cut_off(authority: Authority, ours: Pair) -> None:
    async with Host(listen_tls(ours), max_connections=1, id="silent") as host:
        link = host.supervisor._links["silent"]
        assert isinstance(link, ListeningLink)
        silent = await connect(link.listener.address)
        analyzer = Analyzer(
            await call(await connect(link.listener.address), dial_context(DialTls(authority.file)), "127.0.0.1")
        )
        await analyzer.talk((ENQ, ACK))
        before = refusals("silent", "timeout")
        await host.clock.advance(HANDSHAKE_WAIT_S)
        assert await silent.read() == b""
        await host.refused(1)
        assert refusals("silent", "timeout") == before + 1
        await analyzer.talk((H, ACK))
        await silent.close()
        await analyzer.stream.close()


async def test_handshakes_under_way_are_limited(ours: Pair) -> None:
    async with Host(listen_tls(ours)) as host:
        silent = [await connect(host.address) for _ in range(MOST_HANDSHAKES + 3)]
        await host.refused(3)
        assert host.supervisor.statuses()[0].connections_refused == 3
        await asyncio.gather(*(stream.close() for stream in silent))


async def test_a_peer_without_tls_is_refused_and_the_link_goes_on(authority: Authority, ours: Pair) -> None:
    async with Host(listen_tls(ours), id="plain") as host:
        link = host.supervisor._links["plain"]
        assert isinstance(link, ListeningLink)
        before = refusals("plain", "handshake")
        plain = await connect(link.listener.address)
        await plain.write(b"MSH|^~\\&|plain text, no TLS record\r" * 3)
        await host.refused(1)
        assert refusals("plain", "handshake") == before + 1
        assert host.intake.refused == []
        await plain.close()
        stream = await call(await connect(link.listener.address), dial_context(DialTls(authority.file)), "127.0.0.1")
        await Analyzer(stream).talk((ENQ, ACK))
        await stream.close()


async def test_a_connection_that_is_cut_without_a_goodbye_ends_the_session(authority: Authority, ours: Pair) -> None:
    async with Host(listen_tls(ours)) as host:
        carrier = await connect(host.address)
        stream = await call(carrier, dial_context(DialTls(authority.file)), "127.0.0.1")
        await Analyzer(stream).talk((ENQ, ACK), (H, ACK))
        carrier.abort()
        await asyncio.wait_for(host.intake.ended.wait(), PATIENCE_S)
        assert host.intake.ends == ["lost"]


async def test_certificates_are_read_again_at_a_reload_though_the_link_is_the_same(
    authority: Authority, ours: Pair
) -> None:
    async with Host(listen_tls(ours)) as host:
        old = await host.call(authority.file)
        fresh = authority.pair("fresh", "127.0.0.1", "renewed.example")
        ours.cert.write_bytes(fresh.cert.read_bytes())
        ours.key.write_bytes(fresh.key.read_bytes())
        changes = await host.supervisor.apply([host.supervisor._links["link-1"].spec], 0.0)
        assert (changes.added, changes.changed, changes.removed) == ((), (), ())
        new = await host.call(authority.file)
        assert "renewed.example" in new.identities()
        assert "renewed.example" not in old.identities()
        await Analyzer(old).talk((ENQ, ACK))  # and what is open stays open
        await old.close()
        await new.close()


class Instrument:
    """An analyzer that listens with TLS and takes one call after the other."""

    def __init__(self, tls: ListenTls) -> None:
        self._context = listen_context(tls)
        self.streams: asyncio.Queue[ByteStream] = asyncio.Queue()

    async def __aenter__(self) -> Instrument:
        loop = asyncio.get_running_loop()
        self._takers: set[asyncio.Task[None]] = set()
        self._server = await loop.create_server(lambda: TcpStream(self._made), "127.0.0.1", 0)
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def _made(self, stream: TcpStream) -> None:
        taker = asyncio.get_running_loop().create_task(self._take(stream))
        self._takers.add(taker)
        taker.add_done_callback(self._takers.discard)

    async def _take(self, stream: TcpStream) -> None:
        try:
            self.streams.put_nowait(await accept(stream, self._context, frozenset()))
        except Exception:
            stream.abort()

    def dialled_with(self, tls: DialTls) -> Supervisor:
        link = LinkSettings(
            "dial", "main", "generic_lis2", Transport(TransportType.TCP_DIAL, self.address), tls=tls
        )  # fmt: skip
        return Supervisor([LinkSpec(link, RecordingIntake())], FakeClock(), jitter=lambda: 0.0)


async def test_an_analyzer_is_dialled_with_tls_and_shown_our_certificate(authority: Authority, ours: Pair) -> None:
    mine = authority.pair("host")
    async with Instrument(listen_tls(ours, authority.file)) as instrument:
        supervisor = instrument.dialled_with(DialTls(authority.file, mine.cert, mine.key))
        await supervisor.start()
        analyzer = Analyzer(await asyncio.wait_for(instrument.streams.get(), PATIENCE_S))
        await analyzer.talk((ENQ, ACK), (H, ACK), (L, ACK))
        await supervisor.stop(0.0)
        await analyzer.stream.close()


@pytest.mark.parametrize(
    ("name", "other_authority", "said"),
    [("wrong.example", False, "hostname mismatch"), ("", True, "certificate verify failed")],
)
async def test_a_dialled_analyzer_that_is_not_who_it_should_be_is_given_nothing(
    tmp_path: Path, authority: Authority, ours: Pair, name: str, other_authority: bool, said: str
) -> None:
    ca = Authority(tmp_path, "other").file if other_authority else authority.file
    async with Instrument(listen_tls(ours)) as instrument:
        supervisor = instrument.dialled_with(DialTls(ca, server_name=name))
        await supervisor.start()
        async with asyncio.timeout(PATIENCE_S):
            while "TLS" not in supervisor.statuses()[0].fault:
                await settle()
        assert said in supervisor.statuses()[0].fault.lower()
        assert supervisor.statuses()[0].fault.startswith(f"cannot connect to {instrument.address}: the TLS handshake")
        await supervisor.stop(0.0)


async def test_tls_runs_byte_by_byte(authority: Authority, ours: Pair) -> None:
    """Records come through however the carrier cuts them."""
    here, there = null_modem()

    class Trickle:
        peer = "trickle"
        left = b""

        async def read(self) -> bytes:
            self.left = self.left or await here.read()
            first, self.left = self.left[:1], self.left[1:]
            return first

        write, close = here.write, here.close

    server = asyncio.create_task(accept(there, listen_context(listen_tls(ours)), frozenset()))
    client = await call(Trickle(), dial_context(DialTls(authority.file)), "127.0.0.1")
    host = await server
    await host.write(b"one")
    assert await client.read() == b"one"
    await client.write(b"two")
    assert await host.read() == b"two"
    await client.close()
    assert await host.read() == b""
    await host.close()


def test_refusals_are_logged_once_in_a_while_for_each_reason() -> None:
    clock = FakeClock()
    refusals = Refusals(clock)
    assert [refusals.note("limit") for _ in range(3)] == [0, None, None]
    assert refusals.note("address") == 0
    clock._now += REFUSALS_S
    assert refusals.note("limit") == 2


@pytest.mark.parametrize("kind", [TransportType.TCP_LISTEN, TransportType.MLLP_LISTEN])
async def test_the_address_is_looked_at_before_the_handshake(ours: Pair, kind: TransportType) -> None:
    async with Host(listen_tls(ours), kind, allow=("10.1.2.0/24",), id=f"far-{kind}") as host:
        link = host.supervisor._links[f"far-{kind}"]
        assert isinstance(link, ListeningLink)
        stranger = await connect(link.listener.address)
        assert await stranger.read() == b""
        assert refusals(f"far-{kind}", "address") == 1
        await stranger.close()

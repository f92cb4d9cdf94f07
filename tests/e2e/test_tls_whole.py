"""TLS of a whole daemon, link and API: every protocol and cipher that OpenSSL knows is tried, and every certificate
that should not be admitted (F16)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from interface.cli.check import daemon_answers
from interface.cli.running import Daemon
from interface.daemon import started
from interface.settings import (
    Address,
    ApiSettings,
    DatabaseSettings,
    LimitSettings,
    ListenTls,
    Settings,
    TransportType,
)
from interface.store.ids import uuid7
from tests.bench.messages import hl7_message
from tests.cluster import owner_of
from tests.e2e.daemon import ANY, COMMIT_WAIT_S, link
from tests.e2e.standby import Analyzer
from tests.link.certificates import Authority, Pair, listen_tls
from tests.link.tls_probe import probe


@dataclass(frozen=True, slots=True)
class Bench:
    """`plain`: whoever has no certificate is taken; `mutual`: who shows one that is good."""

    authority: Authority
    revoked: Pair
    api: Address
    plain: Address
    mutual: Address

    def shown(self, pair: Pair | None) -> ssl.SSLContext:
        """An analyzer's context with its certificate."""
        context = ssl.create_default_context(cafile=self.authority.file)
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context


@pytest.fixture
async def bench(tmp_path: Path, database_url: str) -> AsyncIterator[Bench]:
    authority = Authority(tmp_path)
    ours, revoked = authority.pair("ours", rsa=True), authority.pair("revoked", "xn-9.lab.example")
    tls = {"plain": listen_tls(ours), "mutual": listen_tls(ours, authority.revoke(revoked))}
    links = tuple(replace(link(name, TransportType.MLLP_LISTEN, "generic_hl7"), tls=of) for name, of in tls.items())
    api = ApiSettings(ANY, tls=ListenTls(ours.cert, ours.key))
    settings = Settings(
        tmp_path, DatabaseSettings(database_url), api, LimitSettings(commit_wait_s=COMMIT_WAIT_S), links
    )
    owner = await asyncpg.connect(owner_of(database_url))
    await owner.execute("insert into lab.organization (id, name) values ($1, 'main')", uuid7())
    await owner.close()
    async with started(settings) as daemon:
        yield Bench(authority, revoked, daemon.api, daemon.links["plain"], daemon.links["mutual"])


async def test_only_tls_1_2_and_newer_with_forward_secrecy_is_taken(bench: Bench) -> None:
    for address in (bench.api, bench.plain):
        taken = await asyncio.to_thread(probe, address)
        assert {one.version for one in taken} == {"TLSv1.2", "TLSv1.3"}
        assert [one for one in taken if not one.secret] == []


async def test_a_listener_that_takes_what_is_old_is_found_out(tmp_path: Path) -> None:
    """Planted: TLS 1.0, and a cipher whose recordings are read by who gets the key."""
    ours = Authority(tmp_path).pair("ours", rsa=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.load_cert_chain(ours.cert, ours.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(asyncio.to_thread(_greet, listener, context))
        taken = await asyncio.to_thread(probe, Address(*listener.getsockname()))
        listener.shutdown(socket.SHUT_RDWR)
        await serving
    assert {"TLSv1", "TLSv1.1"} <= {one.version for one in taken}
    assert any(not one.secret for one in taken if one.version == "TLSv1.2")


async def test_certificates_that_ended_were_revoked_or_are_anothers_are_refused_and_a_good_one_is_served(
    bench: Bench, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    ended = bench.authority.pair(
        "ended", "xn-8.lab.example", not_before=now - timedelta(days=9), not_after=now - timedelta(hours=1)
    )
    foreign = Authority(tmp_path, "other").pair("foreign")
    for pair in (None, ended, foreign, bench.revoked):
        reader, writer = await _opened(bench.mutual, bench.shown(pair))
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            writer.write(b"\x0b" + hl7_message("S1", "K1") + b"\x1c\r")
            await reader.readexactly(1)
        writer.transport.abort()
    good = Analyzer((bench.mutual,), "K", tls=bench.shown(bench.authority.pair("good", "xn-1.lab.example")))
    await good.send()
    await good.close()
    assert good.refused == 0


async def test_who_stalls_in_a_handshake_or_speaks_plainly_costs_nobody_else(bench: Bench) -> None:
    """Twenty say nothing, twenty speak HL7 without TLS: an analyzer beside them is served, on each port."""
    stalled = [await asyncio.open_connection(bench.mutual.host, bench.mutual.port) for _ in range(20)]
    for _ in range(20):
        reader, writer = await asyncio.open_connection(bench.mutual.host, bench.mutual.port)
        writer.write(b"\x0b" + hl7_message("S1", "K1") + b"\x1c\r")
        async with asyncio.timeout(30):
            assert b"MSA" not in await reader.read()
        writer.close()
        await writer.wait_closed()
    good = Analyzer((bench.mutual,), "K", tls=bench.shown(bench.authority.pair("good", "xn-1.lab.example")))
    await good.send()
    await good.close()
    assert good.refused == 0 and not any(reader.at_eof() for reader, _ in stalled)
    for _, writer in stalled:
        writer.close()
        await writer.wait_closed()


def _greet(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Whoever comes, until the listener is shut down."""
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        with plain, suppress(OSError), context.wrap_socket(plain, server_side=True):
            pass


async def _opened(address: Address, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Of TLS 1.3 who connects is told only afterwards that its certificate was refused."""
    return await asyncio.open_connection(address.host, address.port, ssl=context)


async def test_commands_on_its_machine_find_the_daemon_by_its_api(bench: Bench) -> None:
    """Else `labora check` takes its ports for another program's, and no release is put in its place."""
    api = ApiSettings(bench.api, tls=ListenTls(Path("cert"), Path("key")))
    assert await asyncio.to_thread(daemon_answers, api)
    assert (await asyncio.to_thread(Daemon(api).ask, "GET", "/ready"))["ready"] is True

"""How much one address and one client may ask for, how slow a request may be, and from where it comes."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector
from structlog.testing import capture_logs

from interface import serving as running
from interface.api import connections
from interface.api.app import Readiness, build_app
from interface.api.fhir import searches
from interface.api.limits import BURST_S, LIMITS, Buckets, Limits, bucket_of, client_address
from interface.domain.permissions import Role
from interface.link.tls import dial_context, listen_context
from interface.settings import ApiSettings, DialTls, ListenTls, Settings
from interface.store.audit import AuditWriter
from interface.store.db import Database
from interface.store.search.along import find_along
from tests.api.bench import Bench, Laboratory, serving
from tests.link.certificates import Authority

PROXIES = ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "6.6.6.6", "203.0.113.7"),  # who is no proxy says nothing for others
        ("127.0.0.1", "198.51.100.2", "198.51.100.2"),
        ("127.0.0.1", "6.6.6.6, 198.51.100.2", "198.51.100.2"),  # what the client itself said first
        ("127.0.0.1", "6.6.6.6,198.51.100.2 , 10.1.1.1", "198.51.100.2"),
        ("127.0.0.1", "10.2.2.2, 10.1.1.1", "10.2.2.2"),
        ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("fd00::1", "198.51.100.2", "198.51.100.2"),
        ("127.0.0.1", "6.6.6.6, unknown, 10.1.1.1", "10.1.1.1"),
        ("127.0.0.1", "'; drop table", "127.0.0.1"), ("127.0.0.1", ",,", "127.0.0.1"), ("", "6.6.6.6", ""),
    ],
)  # fmt: skip
def test_an_address_is_what_the_last_trusted_proxy_saw(peer: str, forwarded: str, address: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == address
    assert client_address(peer, forwarded, ()) == peer, "nobody is trusted by default"


def test_a_bucket_fills_again_and_never_over() -> None:
    buckets = Buckets(rate=2.0, most=3.0, keys=2)
    assert [buckets.take("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b", 0.0) == 0.0, "each has its own"
    assert buckets.wait_s("a", 0.25) == 0.25
    assert [buckets.take("a", 0.5), buckets.take("a", 0.5)] == [0.0, 0.5]
    assert [buckets.take("a", 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    for key in "cdef":
        buckets.take(key, 1000.0)
    assert len(buckets._buckets) == 2, "what is remembered is bounded"
    without = Buckets(rate=0.0, most=0.0)
    assert all(without.take("a", 0.0) == 0.0 for _ in range(100))


def test_processes_share_what_is_allowed_and_a_subscriber_has_one_bucket() -> None:
    for processes, share in ((1, 100), (4, 25)):
        limits = Limits.of(ApiSettings(client_rate=100, workers=processes))
        taken = sum(limits.clients.take("a", 0.0) == 0.0 for _ in range(int(BURST_S * 100) + 1))
        assert taken == BURST_S * share
    assert bucket_of("2001:db8::1") == bucket_of("2001:db8::ffff") != bucket_of("2001:db8:0:1::1")
    assert bucket_of("10.0.0.1") != bucket_of("10.0.0.2")


async def test_who_asks_too_often_is_told_when_to_come_again(database: Database, laboratory: Laboratory) -> None:
    async with serving(database, client_rate=1, address_rate=2) as bench:
        now = [0.0]
        bench.app[LIMITS].clock = lambda: now[0]
        token, other = await laboratory.client_token("system/*.rs"), await laboratory.user_token(Role.VIEWER)
        for _ in range(10):
            assert (await bench.get("/fhir/Patient", token)).status == 200
        answer = await bench.get("/fhir/Patient", token)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert answer.json["resourceType"] == "OperationOutcome"
        assert answer.json["issue"][0]["code"] == "throttled"
        assert (await bench.get("/fhir/Patient", token)).status == 429
        assert (await bench.get("/api/results", other)).status == 200, "another one is not slowed down"
        now[0] += 1.0
        assert (await bench.get("/fhir/Patient", token)).status == 200
        await bench.writer.flush()
        rows = await laboratory.audit("throttle")
        assert [(row["outcome"], row["actor_kind"]) for row in rows] == [("refused", "client")], "once a minute"
        statuses = [(await bench.get("/fhir/metadata")).status for _ in range(20)]
        assert (statuses[0], statuses[-1]) == (200, 429), "so is an address, whoever asks from it"
        problem = await bench.get("/api/results", other)
        assert problem.headers["Content-Type"].startswith("application/problem+json")
        assert problem.json["code"] == "throttled"
        assert (await bench.get("/health")).status == 200, "who watches the daemon is not slowed down"


async def test_nothing_is_searched_for_who_asks_too_often(
    database: Database, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though who asks is found with what they ask for: once, then first who asks."""
    asked = list[object]()

    async def noted(*of: Any) -> Any:
        asked.append(of)
        return await find_along(*of)

    monkeypatch.setattr(searches, "find_along", noted)
    of = await laboratory.order()
    token, now = await laboratory.client_token("system/*.rs"), [0.0]
    async with serving(database, client_rate=0.1) as bench:
        bench.app[LIMITS].clock = lambda: now[0]
        path = f"/fhir/Observation?patient={of['patient']}"
        statuses = [(await bench.get(path, token)).status for _ in range(5)]
        assert statuses == [200, 429, 429, 429, 429]
        assert len(asked) == 2
        now[0] = 10.0
        assert (await bench.get(path, token)).status == 200
        assert len(asked) == 3


async def test_an_address_behind_a_proxy_is_told_apart(database: Database, laboratory: Laboratory) -> None:
    async with serving(database, address_rate=1, trusted_proxies=("127.0.0.1/32",)) as bench:
        bench.app[LIMITS].clock = lambda: 0.0
        token = await laboratory.client_token("system/*.rs")
        here, there = {"X-Forwarded-For": "6.6.6.6, 198.51.100.1"}, {"X-Forwarded-For": "198.51.100.2"}
        for _ in range(10):
            assert (await bench.get("/fhir/Patient", token, headers=here)).status == 200
        assert (await bench.get("/fhir/Patient", token, headers=here)).status == 429
        assert (await bench.get("/fhir/Patient", token, headers=there)).status == 200
        await bench.writer.flush()
        assert {row["address"] for row in await laboratory.audit("search")} == {"198.51.100.1", "198.51.100.2"}


# ---- slow ones ------------------------------------------------------------------------------------------------------


async def said(bench: Bench, *parts: bytes) -> bytes:
    """What is answered to `parts` before the server hangs up by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(bench.url.rpartition(":")[2]))
    for part in parts:
        writer.write(part)
        await writer.drain()
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


async def test_a_request_that_never_ends_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADERS_WAIT_S", 0.1)
    bench.app[LIMITS].body_wait_s = 0.1
    assert await said(bench) == b"", "a connection on which nothing is said"
    assert await said(bench, b"GET /health HT") == b""
    assert await said(bench, b"GET /health HTTP/1.1\r\nHost: a\r\n", b"X: 1\r\n") == b""
    monkeypatch.setattr(connections, "IDLE_S", 0.1)
    answer = await said(bench, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /health HTTP")
    assert answer.startswith(b"HTTP/1.1 200"), "what was whole is answered, what follows is not waited for"
    head = b"POST /oauth/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    answer = await said(bench, head + b"Content-Length: 100\r\nConnection: close\r\n\r\n", b"grant")
    assert answer.startswith(b"HTTP/1.1 408")
    assert (await bench.get("/health")).status == 200


async def test_a_reader_that_does_not_read_is_cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = asyncio.Event()
    monkeypatch.setattr(connections, "UNREAD_WAIT_S", 0.05)
    abort = connections.BoundedHandler.abort_connection

    def seen(handler: connections.BoundedHandler) -> None:
        abort(handler)
        cut.set()

    monkeypatch.setattr(connections.BoundedHandler, "abort_connection", seen)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(bench.url.rpartition(":")[2]), limit=1)
    request = b"GET /fhir/metadata HTTP/1.1\r\nHost: a\r\n\r\n"
    writer.write(request * 2000)  # answers pile up until the server stops
    async with asyncio.timeout(20):
        await cut.wait()
    writer.close()
    del reader
    assert (await bench.get("/health")).status == 200


async def test_connections_have_an_end(database: Database) -> None:
    async with serving(database, most_connections=3) as bench:
        port = int(bench.url.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for _, writer in held:
            writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        for reader, _ in held:
            assert b"200" in await reader.readline()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        for _, each in held:
            each.close()


# ---- TLS ------------------------------------------------------------------------------------------------------------


async def test_over_tls_everything_is_https(database: Database, laboratory: Laboratory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair("api", "127.0.0.1")
    tls = ListenTls(pair.cert, pair.key)
    async with serving(database, tls=tls, context=listen_context(tls)) as bench:
        assert bench.url.startswith("https:")
        token = await laboratory.client_token("system/*.rs")
        connector = TCPConnector(ssl=dial_context(DialTls(authority.file)))
        async with ClientSession(connector=connector) as session:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{bench.url}/fhir/Patient", headers=headers) as answer:
                assert answer.status == 200
                assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
                assert (await answer.json(content_type=None))["link"][0]["url"].startswith(bench.url)
            async with session.get(f"{bench.url}/.well-known/smart-configuration") as answer:
                assert (await answer.json())["token_endpoint"] == f"{bench.url}/oauth/token"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(bench.url.rpartition(":")[2]))
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not (await reader.read()).startswith(b"HTTP"), "nothing is said without TLS"
        writer.close()


async def test_connections_have_an_end_also_before_their_handshake(database: Database, tmp_path: Path) -> None:
    """Each has a descriptor of the process, and the links may be in it."""
    authority = Authority(tmp_path)
    pair = authority.pair("api", "127.0.0.1")
    tls = ListenTls(pair.cert, pair.key)
    async with serving(database, tls=tls, context=listen_context(tls), most_connections=3) as bench:
        port = int(bench.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        waiting = {asyncio.ensure_future(reader.read()) for reader, _ in silent}
        async with asyncio.timeout(connections.HEADERS_WAIT_S / 2):
            while len(waiting) > 3:
                cut, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                assert all(isinstance(one.exception(), ConnectionResetError) or not one.result() for one in cut)
        assert len(waiting) == 3
        for _, writer in silent:
            writer.close()
        await asyncio.gather(*waiting, return_exceptions=True)
        connector = TCPConnector(ssl=dial_context(DialTls(authority.file)))
        async with ClientSession(connector=connector) as session:
            async with session.get(f"{bench.url}/health") as answer:
                assert answer.status == 200, "who comes when they have gone is served"


async def test_a_new_certificate_is_shown_when_it_is_read_again(database: Database, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair("api", "127.0.0.1")
    tls = ListenTls(pair.cert, pair.key)
    app = build_app(
        database, Settings(tmp_path, api=ApiSettings(tls=tls)), AuditWriter(database),
        ready=lambda: Readiness(True, True), link_status=tuple,
    )  # fmt: skip
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    trusted = dial_context(DialTls(authority.file))

    async def shown() -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return hashlib.sha256(certificate).hexdigest()

    async with running.serving(app, listener, drain_s=1.0):
        assert await shown() == pair.fingerprint
        newer = authority.pair("api", "127.0.0.1")
        assert await shown() == pair.fingerprint
        await running.renew_certificate(app)
        assert await shown() == newer.fingerprint
        pair.key.chmod(0o644)
        authority.pair("api", "127.0.0.1")
        pair.cert.write_text("no certificate")
        with capture_logs() as logs:
            await running.renew_certificate(app)
        assert [log["action"] for log in logs] == ["daemon.configuration"]
        assert await shown() == newer.fingerprint, "one that cannot be used changes nothing"

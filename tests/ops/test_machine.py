"""What the machine tells, at the limits of its tables."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from interface.domain.alerts import AlertKind, Severity
from interface.ops import doctor, machine
from interface.ops.looks import Looks
from interface.ops.machine import GIB, Room, Steps
from interface.settings import (
    Address,
    ApiSettings,
    DialTls,
    LinkSettings,
    ListenTls,
    Settings,
    Transport,
    TransportType,
)
from tests.link.certificates import Authority

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("free", "total", "files", "severity"),
    [
        (150, 1000, 1.0, None),
        (49.9, 340, 1.0, Severity.WARNING),
        (50, 1000, 1.0, None),  # 5 % of a large disk is room enough
        (9.9, 1000, 1.0, Severity.URGENT),
        (15, 100, 1.0, None),
        (14.9, 100, 1.0, Severity.WARNING),
        (5, 100, 1.0, Severity.WARNING),
        (4.9, 100, 1.0, Severity.URGENT),
        (500, 1000, 0.049, Severity.WARNING),
        (500, 1000, 0.05, None),
    ],
)
def test_a_disk_is_full_by_its_share_and_by_what_is_left(
    free: float, total: float, files: float, severity: Severity | None
) -> None:
    found = machine.disk(Room(Path("/x"), int(free * GIB), int(total * GIB), files))
    assert found.severity is severity
    assert bool(found.command) == (severity is not None)


def test_each_file_system_is_looked_at_once_where_it_will_be_needed(tmp_path: Path) -> None:
    found = list(machine.rooms([tmp_path / "not" / "yet", tmp_path, Path("/proc/1")]))
    assert [room.path for room in found] == [tmp_path, Path("/proc/1")]
    assert 0 < found[0].free <= found[0].total


@pytest.mark.parametrize(
    ("seconds", "severity", "text"),
    [
        (1.9, None, "as the database server's"),
        (2.0, Severity.WARNING, "the clock is 2 s ahead of the database server's"),
        (-59.0, Severity.WARNING, "the clock is 59 s behind the database server's"),
        (3600.0, Severity.URGENT, "the clock is 60 min ahead of the database server's"),
        (-86400.0, Severity.URGENT, "the clock is 24.0 h behind the database server's"),
    ],
)
def test_clocks_that_are_apart(seconds: float, severity: Severity | None, text: str) -> None:
    found = machine.apart(seconds)
    assert (found.severity, found.text) == (severity, text)


def test_a_step_of_the_clock_is_told_for_an_hour() -> None:
    steps = Steps(1_000.0, 50.0)
    assert steps.look(1_061.0, 110.0).severity is None  # slewed by a second
    found = steps.look(4_721.0, 170.0)  # an hour on, in a minute
    assert (found.severity, found.text) == (Severity.WARNING, "the clock was stepped forward by 60 min")
    assert steps.look(4_721.0 + 3_539, 170.0 + 3_539).severity is Severity.WARNING
    assert steps.look(4_721.0 + 3_600, 170.0 + 3_600).severity is None
    back = steps.look(4_721.0, 3_830.0)
    assert back.text == "the clock was stepped back by 61 min"


def test_a_clock_without_a_time_server() -> None:
    assert [machine.time_server(state).severity for state in (True, None, False)] == [None, None, Severity.WARNING]
    assert machine.synchronized() in (True, False, None)


@pytest.mark.parametrize(
    ("left", "severity"),
    [
        (timedelta(days=30), None),
        (timedelta(days=30, seconds=-1), Severity.WARNING),
        (timedelta(days=7), Severity.WARNING),
        (timedelta(days=7, seconds=-1), Severity.URGENT),
        (timedelta(seconds=-1), Severity.URGENT),
    ],
)
def test_a_certificate_tells_in_time(tmp_path: Path, left: timedelta, severity: Severity | None) -> None:
    pair = Authority(tmp_path).pair("ours", not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=NOW + left)
    found = machine.certificate("link a", pair.cert, NOW, authorities=False)
    assert found.severity is severity, found
    assert found.text.startswith("expired" if left < timedelta(0) else "is good until")


def test_of_authorities_the_last_to_end_counts(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    old, new = (authority.pair(name, not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=NOW + timedelta(days=days))
                for name, days in (("old", -1), ("new", 90)))  # fmt: skip
    both = tmp_path / "both.pem"
    both.write_bytes(old.cert.read_bytes() + new.cert.read_bytes())
    assert machine.certificate("link a", both, NOW, authorities=True).severity is None
    assert machine.certificate("link a", both, NOW, authorities=False).severity is Severity.URGENT
    both.write_text("no certificate")
    assert machine.certificate("link a", both, NOW, authorities=True).text == "cannot be read: it is no certificate"
    both.unlink()
    assert "No such file" in machine.certificate("link a", both, NOW, authorities=True).text


def test_every_certificate_of_the_configuration_is_looked_at(tmp_path: Path) -> None:
    one = tmp_path / "one.pem"
    tls = ListenTls(one, tmp_path / "one.key", tmp_path / "ca.pem")
    dial = DialTls(tmp_path / "their-ca.pem", tmp_path / "two.pem", tmp_path / "two.key")
    at = Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0))
    links = tuple(LinkSettings(id, "main", "x", at, tls=of) for id, of in (("a", tls), ("b", dial), ("c", None)))
    settings = Settings(tmp_path, api=ApiSettings(tls=ListenTls(tmp_path / "api.pem", one)), links=links)
    found = [(owner, path.name, authorities) for owner, path, authorities in machine.certificate_files(settings)]
    assert found == [
        ("api", "api.pem", False), ("link a", "one.pem", False), ("link a", "ca.pem", True),
        ("link b", "two.pem", False), ("link b", "their-ca.pem", True),
    ]  # fmt: skip


async def test_the_certificate_that_a_proxy_here_shows_to_clients_is_looked_at(tmp_path: Path) -> None:
    """scripts/install's nginx has it: it is in no configuration of ours, and ends after a year."""
    authority, now = Authority(tmp_path), datetime.now(UTC)
    pair = authority.pair("web", "lab.example.org", not_after=now + timedelta(days=3))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    api = ApiSettings(behind_proxy=True, base_url=f"https://lab.example.org:{port}")
    async with server:
        ends = await asyncio.to_thread(machine.shown_by_proxy, api)
        assert ends is not None and abs(ends - (now + timedelta(days=3))) < timedelta(seconds=2)
        for none in (replace(api, behind_proxy=False), replace(api, base_url="")):
            assert await asyncio.to_thread(machine.shown_by_proxy, none) is None
        found = await doctor.of_machine(Settings(tmp_path, api=api), now, Looks())
    (seen,) = [one for one in found.findings if one.kind is AlertKind.CERTIFICATE]
    assert (seen.severity, seen.subject.name) == (Severity.URGENT, f"of {api.base_url}")
    assert "systemctl reload nginx" in seen.command
    assert machine.shown_by_proxy(api) is None, "a proxy that is elsewhere is not seen from here"


@pytest.mark.parametrize(
    ("changed", "severity", "text"),
    [
        ({}, None, "active"),
        ({"ActiveState": "failed", "Result": "watchdog"}, Severity.URGENT, "failed (watchdog)"),
        ({"ActiveState": "inactive"}, Severity.WARNING, "is inactive"),
        ({"Id": "labora-backup.service", "ActiveState": "inactive"}, None, "inactive"),
        ({"Id": "labora-backup.service", "ActiveState": "failed"}, Severity.URGENT, "failed (success)"),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, Severity.NOTICE, "is not installed"),
        ({"NRestarts": "3"}, Severity.NOTICE, "active; systemd has started it anew 3 times"),
    ],
)
def test_a_unit_of_systemds(changed: dict[str, str], severity: Severity | None, text: str) -> None:
    shown = {
        "Id": "labora.service",
        "LoadState": "loaded",
        "ActiveState": "active",
        "Result": "success",
        "NRestarts": "0",
    }
    found = machine.unit(shown | changed)
    assert (found.severity, found.text) == (severity, text)


def test_a_machine_without_systemd_or_without_us_is_no_fault() -> None:
    assert [one.severity for one in machine.services(None)] == [None]
    nothing = [{"Id": name, "LoadState": "not-found"} for name in machine.UNITS]
    assert [(one.severity, one.command) for one in machine.services(nothing)] == [(Severity.NOTICE, "scripts/install")]


@pytest.fixture
def answering() -> Iterator[tuple[Address, list[tuple[int, bytes]]]]:
    answers: list[tuple[int, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Address("127.0.0.1", server.server_port), answers
        server.shutdown()
        thread.join()


def test_whether_the_daemon_is_ready(answering: tuple[Address, list[tuple[int, bytes]]]) -> None:
    address, answers = answering
    cases = [
        (200, b'{"ready": true, "text": ""}', None, "is ready"),
        (503, b'{"ready": false, "text": "2 links are not up"}', Severity.WARNING, "is not ready: 2 links are not up"),
        (200, b"<html>", Severity.URGENT, "does not answer: is it running?"),
        (200, b"[]", Severity.URGENT, "does not answer: is it running?"),
    ]
    for status, body, severity, text in cases:
        answers.append((status, body))
        found = machine.daemon(ApiSettings(listen=address))
        assert (found.severity, found.text) == (severity, text)


def test_a_daemon_that_is_not_there() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        address = Address("127.0.0.1", server.server_port)
    assert machine.daemon(ApiSettings(listen=address)).severity is Severity.URGENT

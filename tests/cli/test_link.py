from __future__ import annotations

import json
from pathlib import Path
from socket import socket

import pytest

from interface.store.db import Database
from tests.cli.conftest import Daemon
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization


@pytest.fixture
async def shell(
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    daemon: Daemon,
) -> Shell:
    return await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys, daemon.port)


def ready(up: bool, text: str = "") -> tuple[int, bytes]:
    answer = {"ready": up, "database": True, "links": up, "text": text}
    return (200 if up else 503), json.dumps(answer).encode()


async def test_links_are_listed_from_configuration_and_database(shell: Shell) -> None:
    async with shell.laboratory.database.transaction(shell.organization.id) as connection:
        await connection.execute(
            "insert into lab.link (id, organization_id, name, analyzer_id, driver, role)"
            " select gen_random_uuid(), organization_id, 'old-1', analyzer_id, driver, role from lab.link"
        )
    listed = (await shell.run("link", "list", "--json")).json
    assert [(one["id"], one["configured"], one["driver"]) for one in listed] == [
        ("hema-1", True, "generic_lis2"),
        ("old-1", False, ""),
    ]
    assert "tcp-listen" in (await shell.run("link", "list")).out


async def test_the_daemon_is_asked_how_it_is(shell: Shell, daemon: Daemon) -> None:
    daemon.answers["/ready"] = ready(True)
    answer = await shell.run("link", "status")
    assert (answer.status, answer.err) == (0, "database ready, links ready: --as USER shows each link\n")
    daemon.answers["/ready"] = ready(False, "1 links are not up")
    answer = await shell.run("link", "status", "--json")
    assert (answer.status, answer.json["ready"]) == (1, False)
    assert answer.err == "database ready, links not ready: 1 links are not up\n"


async def test_a_user_sees_each_link_and_leaves_no_session(shell: Shell, daemon: Daemon) -> None:
    daemon.answers |= {
        "/ready": ready(True),
        "/api/login": (200, b'{"access_token": "T"}'),
        "/api/links": (
            200,
            b'{"links": [{"name": "hema-1", "up": true, "leniencies": {"lf_records": 3, "no_checksum": 2}}]}',
        ),
        "/api/logout": (204, b""),
    }
    answer = await shell.run("link", "status", "--as", "vera")
    assert answer.status == 0
    assert "hema-1" in answer.out
    assert "lf_records 3, no_checksum 2" in answer.out
    assert daemon.asked == [("/ready", ""), ("/api/login", ""), ("/api/links", "Bearer T"), ("/api/logout", "Bearer T")]
    daemon.answers["/api/login"] = (401, b"{}")
    refused = await shell.run("link", "status", "--as", "vera")
    assert refused.err == "labora: the daemon refused the name, the password or the token\n"


async def test_what_is_not_the_daemon_is_said_so(shell: Shell, daemon: Daemon) -> None:
    for body in (b"<html>", b"[]", b"{}"):
        daemon.answers["/ready"] = (200, body)
        answer = await shell.run("link", "status")
        assert answer.status == 1
        assert answer.err == f"labora: what answers on 127.0.0.1:{daemon.port} is not Labora's daemon\n"


async def test_a_daemon_that_does_not_run_is_said_plainly(shell: Shell) -> None:
    with socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, and it refuses
        port = free.getsockname()[1]
        shell.config.write_text(f'[api]\nlisten = "127.0.0.1:{port}"\n')
        answer = await shell.run("link", "status")
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == f"labora: the daemon does not run: nothing listens on 127.0.0.1:{port}\n"

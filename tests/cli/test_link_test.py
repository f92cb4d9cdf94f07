"""`labora link test`: each line says proved, not proved or failed, and why; nothing is sent to an analyzer."""

from __future__ import annotations

import json
import shutil
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from interface.cli import link_test, run_command
from interface.cli.check import moving_obstacle
from interface.cli.loopback import MemoryIntake, drop_file
from interface.driver import registry
from interface.driver.manifest import Driver, LinkFraming
from interface.link.base import LinkSpec
from interface.settings import Folder, ListenTls, Transport, TransportType
from interface.simulator import PlayProtocol, Source
from tests.cli.conftest import Daemon
from tests.e2e.daemon import free_ports
from tests.link.bench import settings
from tests.link.cable import Cable
from tests.link.certificates import Authority


def _vector_bytes(driver: Driver) -> int:
    return sum(vector.trace.stat().st_size for vector in registry.vectors(driver.id))


def _one_of_each_kind(drivers: Iterable[Driver]) -> list[Any]:
    """Every driver; those whose link is like that of one with less to prove in the long tests only."""
    seen = set[object]()
    chosen: list[Any] = []
    for driver in sorted(drivers, key=_vector_bytes):
        kind = (driver.link, driver.protocol, driver.leniencies, driver.blocks, driver.ack_colliding_enq)
        chosen.append(pytest.param(driver.id, marks=[pytest.mark.long] if kind in seen else []))
        seen.add(kind)
    return chosen


_DRIVERS = registry.find_all()
# A burst ends with seconds of silence, which no test waits for.
_PLAYED = [one for one in _DRIVERS if one.blocks is None or not one.blocks.ends_in_silence]


_QUICK = "snibe_maglumi"  # `link test` proves the driver, each time: one of LIS01-A2 whose vectors are short


class Desk:
    """Runs `labora link test` with a configuration of one link, beside a daemon that may run."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str], api_port: int) -> None:
        self.folder, self._capture, self.api_port = folder, capture, api_port

    def run(
        self, transport: str, *arguments: str, driver: str = _QUICK, link: str = "hema-1", more: str = ""
    ) -> tuple[int, str]:
        config = self.folder / "config.toml"
        config.write_text(
            f'driver_path = ["{self.folder}"]\n[api]\nlisten = "127.0.0.1:{self.api_port}"\n'
            f'[[link]]\nid = "hema-1"\norganization = "main"\ndriver = "{driver}"\n'
            f"transport = {{ {transport} }}\n{more}\n",
            encoding="utf-8",
        )
        self._capture.readouterr()
        status = run_command(["--config", str(config), "link", "test", link, *arguments])
        said = self._capture.readouterr()
        assert "Traceback" not in said.err
        return status, said.out + said.err

    def checks(self, transport: str, *arguments: str, **how: str) -> dict[str, tuple[str, str]]:
        """Subject to verdict and words."""
        _, said = self.run(transport, "--json", *arguments, **how)
        found: list[dict[str, Any]] = json.loads(said)
        return {one["subject"]: (one["verdict"], one["text"]) for one in found}


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that nobody listens on, and nobody else gets."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        yield free.getsockname()[1]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("LABORA_TOKEN", "LABORA_ORGANIZATION", "LABORA_CONFIG", "LABORA_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABORA_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("LABORA_PASSWORD", "x")
    with socket() as free:
        free.bind(("127.0.0.1", 0))  # no daemon is there, unless `running` says so
        yield Desk(tmp_path, capsys, free.getsockname()[1])


def listening(port: int) -> str:
    return f'type = "tcp-listen", listen = "127.0.0.1:{port}"'


@pytest.fixture
def running(desk: Desk, daemon: Daemon) -> Daemon:
    """The daemon, which has hema-1 up."""
    desk.api_port = daemon.port
    daemon.answers |= {
        "/health": (200, b"{}"),
        "/api/login": (200, b'{"access_token": "T"}'),
        "/api/logout": (204, b""),
        "/api/links": (200, b'{"links": [{"name": "hema-1", "up": true, "messages": 12}]}'),
    }
    return daemon


def test_what_is_proved_without_a_daemon(desk: Desk) -> None:
    [port] = free_ports(1)  # not one of those that the kernel gives to whoever connects meanwhile
    status, said = desk.run(listening(port))
    assert status == 0
    lines = said.splitlines()
    assert [line[:10].strip() for line in lines] == [
        "proved", "proved", "proved", "not proved", "proved", "not proved",
    ]  # fmt: skip
    assert "vectors decode as expected" in lines[1]
    assert "in memory" in lines[2]
    assert "nothing was stored" in lines[2]
    assert f"127.0.0.1:{port} is free" in lines[4]


@pytest.mark.parametrize("driver", _one_of_each_kind(_PLAYED))
def test_each_driver_passes_its_own_loopback(desk: Desk, driver: str, nobody: int) -> None:
    kind = "mllp-dial" if registry.load(driver).link is LinkFraming.MLLP else "tcp-dial"
    found = desk.checks(f'type = "{kind}", dial = "127.0.0.1:{nobody}"', driver=driver)
    assert found["receiver"][0] == "proved", found["receiver"]


@pytest.mark.parametrize("driver", _one_of_each_kind(_DRIVERS))
def test_each_driver_passes_its_own_loopback_as_a_file(desk: Desk, driver: str) -> None:
    """A folder has no line: its own receiver is tried, which also hears the end of a burst at once."""
    found = desk.checks(f'type = "folder", path = "{desk.folder}"', driver=driver)
    assert found["receiver"][0] == "proved", found["receiver"]


async def test_what_the_receiver_of_files_refuses_is_no_success(tmp_path: Path) -> None:
    intake, folder = MemoryIntake(), Folder(tmp_path)
    link = replace(settings(), transport=Transport(TransportType.FOLDER, folder))
    refusal = await drop_file(
        LinkSpec(link, intake, registry.load("generic_hl7")), folder, intake,
        Source(PlayProtocol.MLLP, ((b"PID|1\r",),)),
    )  # fmt: skip
    assert refusal
    assert intake.messages == []


def test_a_folder_is_proved_with_what_waits_in_it(desk: Desk, tmp_path: Path) -> None:
    dropped = tmp_path / "dropped"
    at = f'type = "folder", path = "{dropped}", pattern = "*.hl7"'
    assert desk.checks(at)["folder"] == ("failed", f"{dropped} is not a folder")
    dropped.mkdir()
    for name in ("one.hl7", "two.hl7", ".hidden.hl7", "other.txt"):
        (dropped / name).write_bytes(b"")
    assert desk.checks(at)["folder"] == ("proved", f"{dropped}/*.hl7 can be used; files that wait: 2")
    assert sorted(path.name for path in dropped.iterdir()) == [".hidden.hl7", "one.hl7", "other.txt", "two.hl7"]
    (dropped / "link.hl7").symlink_to("one.hl7")
    verdict, words = desk.checks(at)["folder"]
    assert verdict == "not proved"
    assert words.endswith("what fits and is no file will not be taken: 1")


@pytest.mark.parametrize("name", ["done", "failed"])
def test_a_folder_whose_files_could_not_be_moved_fails(desk: Desk, tmp_path: Path, name: str) -> None:
    dropped = tmp_path / "dropped"
    dropped.mkdir()
    at, words = f'type = "folder", path = "{dropped}"', f"no file can be moved to {dropped / name}: "
    (dropped / name).symlink_to(tmp_path)
    assert desk.checks(at)["folder"] == ("failed", words + "it is a link")
    (dropped / name).unlink()
    (dropped / name).touch()
    assert desk.checks(at)["folder"] == ("failed", words + "it is not a folder")
    (dropped / name).unlink()
    (dropped / name).mkdir()
    assert desk.checks(at)["folder"][0] == "proved"


def test_a_file_is_not_moved_to_another_file_system(tmp_path: Path) -> None:
    assert moving_obstacle(Path("/"), "proc") == "it is on another file system"
    assert moving_obstacle(tmp_path, "done") == ""


def test_a_pattern_that_fits_only_what_is_left_alone_fails(desk: Desk, tmp_path: Path) -> None:
    verdict, words = desk.checks(f'type = "folder", path = "{tmp_path}", pattern = ".*"')["folder"]
    assert verdict == "failed"
    assert "names that begin with a dot, which are left alone" in words


def test_a_driver_that_is_wrong_fails_and_so_does_its_loopback(desk: Desk) -> None:
    shutil.copytree(registry.packaged_path() / "sysmex_xn", desk.folder / "sysmex_xn")
    for expected in (desk.folder / "sysmex_xn" / "vectors").glob("*.expected.json"):
        expected.write_text(expected.read_text(encoding="utf-8").replace('"code": "WBC"', '"code": "WBX"'), "utf-8")
    status, said = desk.run(listening(1), driver="sysmex_xn")
    assert status == 1
    assert "failed      driver sysmex_xn" in said
    assert "failed      receiver" in said
    assert "in memory: " in said
    assert "receiver" not in desk.checks(listening(1), "--no-loopback", driver="sysmex_xn")


def test_a_port_of_another_program_fails(desk: Desk) -> None:
    with socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(1)
        port = held.getsockname()[1]
        status, _ = desk.run(listening(port))
        assert status == 1
        assert desk.checks(listening(port))["tcp-listen"] == (
            "failed",
            f"127.0.0.1:{port} is in use by another program",
        )


def test_the_running_daemon_is_asked_and_its_port_left_alone(desk: Desk, running: Daemon) -> None:
    with socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(1)
        port = held.getsockname()[1]
        found = desk.checks(listening(port), "--as", "vera")
        assert found["daemon"] == ("proved", "it says that hema-1 is up")
        assert found["tcp-listen"] == (
            "proved", f"the running daemon holds 127.0.0.1:{port} and says that it is up",
        )  # fmt: skip
        assert found["analyzer"] == ("proved", "12 messages since the daemon started")
        assert running.asked[-1][0] == "/api/logout"
        nameless = desk.checks(listening(port))
        assert nameless["daemon"][0] == "not proved"
        assert nameless["tcp-listen"] == ("proved", f"127.0.0.1:{port} is in use; a Labora runs here")


@pytest.mark.parametrize(
    ("links", "words"),
    [
        (b'[{"name": "hema-1", "up": false, "text": "nobody is there"}]', "hema-1 is down: nobody is there"),
        (b"[]", "it runs without hema-1"),
    ],
)
def test_a_link_that_is_down_fails(desk: Desk, running: Daemon, links: bytes, words: str, nobody: int) -> None:
    running.answers["/api/links"] = (200, b'{"links": ' + links + b"}")
    status, said = desk.run(f'type = "tcp-dial", dial = "127.0.0.1:{nobody}"', "--as", "vera")
    assert status == 1
    assert words in said
    assert "a second call could disturb it" in said


def test_an_analyzer_that_is_called_hears_nothing(desk: Desk) -> None:
    heard = []
    with socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        found = desk.checks(f'type = "tcp-dial", dial = "127.0.0.1:{port}"')
        thread.join()
    assert found["tcp-dial"] == ("proved", f"127.0.0.1:{port} can be connected to; nothing was sent")
    assert heard == [b""]


def test_an_analyzer_that_is_not_there_fails(desk: Desk, nobody: int) -> None:
    status, said = desk.run(f'type = "tcp-dial", dial = "127.0.0.1:{nobody}"')
    assert status == 1
    assert f"failed      tcp-dial: cannot connect to 127.0.0.1:{nobody}" in said


def test_a_serial_port_is_opened_and_given_back(desk: Desk) -> None:
    cable = Cable(desk.folder / "port")
    try:
        found = desk.checks(f'type = "serial", port = "{cable.name}"')
        assert found["serial"] == ("proved", f"{cable.name} 9600 8N1 can be opened")
    finally:
        cable.unplug()
    assert desk.checks(f'type = "serial", port = "{cable.name}"')["serial"][0] == "failed"


def test_a_link_that_is_not_configured_is_one_sentence(desk: Desk) -> None:
    status, said = desk.run(listening(1), link="hema-2")
    assert status == 1
    assert said.startswith("labora: there is no link 'hema-2' in ")
    assert said.endswith("known are hema-1\n")
    assert run_command(["link", "test"]) == 2


def test_a_configuration_that_is_wrong_is_78(desk: Desk) -> None:
    status, said = desk.run('type = "tcp-listen"')
    assert status == 78
    assert "link[0].transport.listen" in said


def test_tls_to_an_analyzer_is_proved_by_its_handshake(desk: Desk) -> None:
    """The certificate must be of the authority that the link names; no message is sent."""
    ours, other = Authority(desk.folder), Authority(desk.folder, "other")
    pair, heard = ours.pair("analyzer"), list[bytes]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(2)

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as line:
                    heard.append(line.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        at = f'type = "tcp-dial", dial = "127.0.0.1:{server.getsockname()[1]}"'
        trusted = desk.checks(at, more=f'tls = {{ ca = "{ours.file}" }}')["tcp-dial"]
        refused = desk.checks(at, more=f'tls = {{ ca = "{other.file}" }}')["tcp-dial"]
        thread.join()
    assert trusted[0] == "proved"
    assert "its certificate is accepted; no message was sent" in trusted[1]
    assert refused[0] == "failed"
    assert heard == [b""]


def test_the_certificate_of_a_listener_is_proved_by_a_handshake_in_memory(desk: Desk, nobody: int) -> None:
    ours = Authority(desk.folder)
    pair, other = ours.pair("labora"), Authority(desk.folder, "other").pair("stranger")
    tls = f'tls = {{ cert = "{pair.cert}", key = "{pair.key}" }}'
    mutual = tls.replace(" }", f', client_ca = "{ours.file}" }}')
    assert "certificate" not in desk.checks(listening(nobody))
    assert desk.checks(listening(nobody), more=tls)["certificate"] == (
        "proved",
        f"{pair.cert} and its key are taken in a handshake in memory by who trusts the last certificate in it",
    )
    verdict, words = desk.checks(listening(nobody), more=mutual)["certificate"]
    assert verdict == "not proved"
    assert words.endswith(f"; that the analyzer shows one of {ours.file} is not proved")
    whole = pair.cert.read_bytes()
    pair.cert.write_bytes(whole + ours.file.read_bytes())
    assert desk.checks(listening(nobody), more=tls)["certificate"][0] == "proved"
    pair.cert.write_bytes(whole + other.cert.read_bytes())
    verdict, words = desk.checks(listening(nobody), more=tls)["certificate"]
    assert verdict == "not proved"
    assert "lead from its first to its last: " in words


def test_a_certificate_that_was_taken_away_fails(tmp_path: Path) -> None:
    pair = Authority(tmp_path).pair("labora")
    pair.key.unlink()
    check = link_test._certificate(ListenTls(pair.cert, pair.key))
    assert (check.verdict, check.text) == ("failed", "its certificate or key cannot be used any more")

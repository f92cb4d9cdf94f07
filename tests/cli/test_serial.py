"""Serial ports at the command line: listed, looked at before the daemon starts, played into."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serial.tools.list_ports_common import ListPortInfo

from interface import cli
from interface.cli import check
from interface.link import serial
from interface.link.serial import open_port
from interface.settings import (
    Address,
    ApiSettings,
    LineFormat,
    LinkSettings,
    Parity,
    SerialPort,
    Settings,
    Transport,
    TransportType,
)
from tests.link.cable import Cable


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    cable = Cable(tmp_path / "port")
    yield cable
    cable.unplug()


def look(port: SerialPort) -> check.Finding:
    """What `labora check` says of a link on this port."""
    link = LinkSettings("a-1", "main", "generic_lis2", Transport(TransportType.SERIAL, port))
    settings = Settings(Path("/nowhere"), api=ApiSettings(Address("127.0.0.1", 0)), links=(link,))
    findings = {finding.subject: finding for finding in check._ports(settings)}
    return findings["link[0].transport.port"]


def test_a_check_opens_the_port_and_gives_it_back(cable: Cable) -> None:
    for _ in range(2):
        finding = look(cable.port)
        assert (finding.status, finding.text) == (0, f"{cable.name} 9600 8N1 can be opened")


def test_a_check_finds_the_port_that_is_not_there(tmp_path: Path) -> None:
    finding = look(SerialPort(tmp_path / "port"))
    assert (finding.status, finding.text) == (1, f"cannot open {tmp_path / 'port'}: there is no such port")


def test_a_check_beside_the_daemon_takes_its_port_for_its_own(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = open_port(cable.port)
    assert look(cable.port) == check.Finding(
        "link[0].transport.port", 1, f"cannot open {cable.name}: another program uses it"
    )
    monkeypatch.setattr(check, "daemon_answers", lambda address: True)
    assert look(cable.port) == check.Finding("link[0].transport.port", 0, f"{cable.name} is in use; a Labora runs here")
    asyncio.run(taken.close())


def test_the_ports_are_listed_without_a_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("LABORA_CONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(serial, "comports", lambda: [ListPortInfo("/dev/ttyS0")])
    assert cli.run_command(["link", "ports", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"port": "/dev/ttyS0", "device": "/dev/ttyS0", "description": ""}]
    monkeypatch.setattr(serial, "comports", list)
    assert cli.run_command(["link", "ports"]) == 0
    assert capsys.readouterr() == ("", "no serial ports\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give one of --to and --serial"),
        (("--to", "127.0.0.1:1", "--serial", "/dev/ttyS0"), "give one of --to and --serial"),
        (("--to", "127.0.0.1:1", "--baud", "9600"), "--baud and --format belong to --serial"),
        (("--to", "127.0.0.1:1", "--format", "7E1"), "--baud and --format belong to --serial"),
        (("--serial", "/dev/ttyS0", "--format", "9N1"), "is not the format of a serial line"),
    ],
)
def test_a_simulation_has_one_place_to_play(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    capture = tmp_path / "capture.astm"
    capture.write_bytes(b"H|\\^&\rL|1|N\r")
    assert cli.run_command(["simulate", str(capture), *options]) == 2
    assert said in capsys.readouterr().err


def test_a_simulation_opens_the_port_as_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from interface.simulator import playing

    asked: list[SerialPort] = []

    def refuse(port: SerialPort) -> serial.SerialStream:
        asked.append(port)
        return open_port(port)

    monkeypatch.setattr(playing, "open_port", refuse)
    capture, port = tmp_path / "capture.astm", tmp_path / "port"
    capture.write_bytes(b"H|\\^&\rL|1|N\r")
    options = ["--serial", str(port), "--baud", "4800", "--format", "7E1"]
    assert cli.run_command(["simulate", str(capture), *options]) == 1
    assert capsys.readouterr().err == f"labora: cannot open {port}: there is no such port\n"
    assert asked == [SerialPort(port, 4800, LineFormat(7, Parity.EVEN, 1))]

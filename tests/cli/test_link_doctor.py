"""`labora link doctor`: what it prints of captures, what it never prints, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import create_connection, socket

import pytest

from interface import config
from interface.cli import check, run_command
from interface.cli.link_words import Where, snippet, understood
from interface.driver import registry
from interface.driver.diagnose import examine
from interface.driver.manifest import LinkFraming
from interface.settings import Address, SerialPort, Settings
from tests.corpus import corpus
from tests.driver.test_diagnose import HL7, RECORDS, SESSION, frames, session
from tests.interrupts import hear_interrupts

VECTOR = registry.packaged_path() / "sysmex_xn" / "vectors" / "result-1.trace"


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def look(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    capsys.readouterr()
    assert run_command(["link", "doctor", *arguments]) == status
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return said.out


def test_a_capture_is_explained_to_a_person(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "capture").write_bytes(SESSION)
    said = look(capsys, str(tmp_path / "capture"))
    for words in (
        "LIS02-A2 records in LIS01-A2 frames (ASTM)",
        "6 frames: one record a frame",
        "6 right (of 6)",
        "ACME^Tester^1.2",
        "generic_lis2 reads 2 results without a problem",
        "takes 1 message as it is; no leniency is needed",
        'driver = "generic_lis2"',
    ):
        assert words in said
    assert max(map(len, said.splitlines())) <= 100


def test_a_narrow_terminal_gets_narrow_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    said = look(capsys, str(VECTOR)).split("For config.toml")[0]
    assert max(map(len, said.splitlines())) <= 70


def test_a_trace_has_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    said = look(capsys, str(VECTOR))
    assert "sysmex_xn recognises the header" in said
    assert "from the host" in said


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(look(capsys, str(VECTOR), "--json"))
    assert (found["framing"], found["driver"]) == ("lis01", "sysmex_xn")
    assert found["frames"]["checksums"] == {"right": found["frames"]["count"]}
    assert found["proof"]["needed"] == []
    assert found["host"]["framing"] == "handshake"
    assert found["link"].startswith("[[link]]\n")


def test_standard_input_is_a_file_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SESSION)))
    assert "LIS01-A2" in look(capsys, "-")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Nothing was heard."),
        (b"\x05", "waits for an ACK to its ENQ"),
        (bytes(range(128, 256)), "No protocol that Labora knows."),
        (b"\x16\x03\x01\x00\x05", "Set tls for this link"),
        (HL7, "A live link needs MLLP"),
    ],
)
def test_what_no_link_can_be_made_of_ends_with_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / "capture").write_bytes(data)
    said = look(capsys, str(tmp_path / "capture"), status=1)
    assert words in " ".join(said.split())
    assert "[[link]]" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one of FILE"),
        (["/nowhere/at/all"], "does not exist"),
        ([str(VECTOR), "--listen", "127.0.0.1:0"], "give one of FILE"),
        (["--listen", "127.0.0.1:0", "--baud", "9600"], "belong to --serial"),
        (["--listen", "127.0.0.1:0", "--scan"], "belong to --serial"),
        (["--serial", "/dev/x", "--scan", "--baud", "9600"], "--scan tries every"),
        (["--listen", "127.0.0.1:0", "--tap", "127.0.0.1:1", "--probe"], "--tap only listens"),
        (["--listen", "127.0.0.1:0", "--tap", "nonsense"], "--tap: "),
        (["--listen", "127.0.0.1:0", "--host-connects"], "belongs to --tap"),
        (["--listen", "127.0.0.1:0", "--hl7-reply", "ae"], "belongs to --probe"),
        (["--listen", "127.0.0.1:0", "--hl7-reply", "aa"], "is not one of"),
        (["--listen", "nonsense"], "nonsense"),
        ([str(VECTOR), "--probe"], "need a line"),
        (["--listen", "127.0.0.1:0", "--seconds", "0"], "not in the range"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    capsys.readouterr()
    assert run_command(["link", "doctor", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in " ".join(said.err.split())


# ---- on a line ------------------------------------------------------------------------------------------------------


@pytest.fixture
def analyzer() -> Iterator[int]:
    """An analyzer that waits to be called, sends a session and hangs up; its port."""
    with socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(SESSION)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_line_is_heard_to_its_end(capsys: pytest.CaptureFixture[str], analyzer: int) -> None:
    said = look(capsys, "--dial", f"127.0.0.1:{analyzer}")
    assert "generic_lis2 reads 2 results" in said
    assert f'transport = {{ type = "tcp-dial", dial = "127.0.0.1:{analyzer}" }}' in said
    assert "5.4" not in said


def test_the_traffic_is_shown_and_saved_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], analyzer: int, tmp_path: Path
) -> None:
    saved = tmp_path / "heard.trace"
    said = look(capsys, "--dial", f"127.0.0.1:{analyzer}", "--show-data", "--save", str(saved))
    assert "> <ENQ>" in said
    assert "^^^GLU|5.4" in said
    assert saved.stat().st_mode & 0o777 == 0o600
    assert "generic_lis2 reads 2 results" in look(capsys, str(saved))
    capsys.readouterr()
    assert run_command(["link", "doctor", str(saved), "--save", str(saved)]) == 1
    assert capsys.readouterr().err == f"labora: {saved} is there already\n"


def test_ctrl_c_prints_what_was_heard(tmp_path: Path) -> None:
    """The program as it is, an analyzer that connects to it, and SIGINT."""
    command = [sys.executable, "-c", "from interface.cli import main; main()", "link", "doctor"]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", "--json", "--seconds", "3600"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LABORA_STATE_DIR": str(tmp_path)}, preexec_fn=hear_interrupts,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stderr is not None
        port = int(program.stderr.readline().rsplit(":", 1)[1])
        with create_connection(("127.0.0.1", port)) as line:
            assert "connected with" in program.stderr.readline()
            line.sendall(SESSION)
        assert "is over" in program.stderr.readline()
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "stopped\n")
    found = json.loads(out)
    assert (found["byte_count"], found["driver"], found["host"]) == (len(SESSION), "generic_lis2", None)
    assert f'listen = "127.0.0.1:{port}"' in found["link"]


def test_a_port_of_the_running_daemon_is_named_as_such(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(1)
        port = held.getsockname()[1]
        text = (
            f'[[link]]\nid = "hema-1"\norganization = "main"\ndriver = "generic_lis2"\n'
            f'transport = {{ type = "tcp-listen", listen = "127.0.0.1:{port}" }}\n'
        )
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        monkeypatch.setenv("LABORA_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.setenv("LABORA_STATE_DIR", str(tmp_path))
        for ours in (False, True):
            monkeypatch.setattr(check, "daemon_answers", lambda address, ours=ours: ours)
            assert run_command(["link", "doctor", "--listen", f"127.0.0.1:{port}"]) == 1
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            words = "is held by the running daemon for the link hema-1" if ours else "another program uses this address"
            assert words in said


def test_a_serial_port_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(["link", "doctor", "--serial", str(tmp_path / "port")]) == 1
    assert capsys.readouterr().err == f"labora: cannot open {tmp_path / 'port'}: there is no such port\n"


def test_control_characters_of_an_analyzer_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    header = RECORDS[0].replace(b"ACME", b"AC\x1b[31mME")
    (tmp_path / "capture").write_bytes(session(*frames((header, *RECORDS[1:]))))
    assert "\x1b" not in look(capsys, str(tmp_path / "capture"))


def test_no_capture_makes_it_say_who_was_tested(capsys: pytest.CaptureFixture[str]) -> None:
    with (corpus() / "MANIFEST.tsv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    looked_at = 0
    for row in rows:
        if not row["file"].startswith(("astm/", "hl7/")):
            continue
        path = corpus() / row["file"]
        status = 0 if understood(examine(path.read_bytes())) else 1
        said = look(capsys, str(path), status=status) + look(capsys, str(path), "--json", status=status)
        for identifier in (row["sample_id"], row["patient_id"]):
            if identifier and len(identifier) >= 5:
                assert identifier not in said, row["file"]
                looked_at += 1
    assert looked_at >= 40


def parsed(link: str) -> Settings:
    return config.parse(link, Path("config.toml"), {"LABORA_STATE_DIR": "/var/lib/labora"})


def test_every_snippet_is_a_configuration() -> None:
    for path in sorted((corpus() / "astm").iterdir()) + sorted((corpus() / "hl7").iterdir()):
        link = snippet(examine(path.read_bytes()), Where())
        if link:
            assert len(parsed(link).links) == 1, path


def test_a_snippet_says_where_it_was_heard() -> None:
    found = examine(SESSION)
    (link,) = parsed(snippet(found, Where(Address("10.1.2.3", 5000)))).links
    assert str(link.transport.endpoint) == "10.1.2.3:5000"
    (link,) = parsed(snippet(found, Where(SerialPort(Path("/dev/ttyS0"), 4800)))).links
    assert link.transport.endpoint == SerialPort(Path("/dev/ttyS0"), 4800)
    assert '"tcp-dial", dial = "10.1.2.3:5000"' in snippet(found, Where(Address("10.1.2.3", 5000), True))


@pytest.mark.parametrize(
    "where",
    [
        Where(),
        Where(Address("10.1.2.3", 5000)),
        Where(Address("10.1.2.3", 5000), True),
        Where(SerialPort(Path("/dev/ttyS0"), 2400)),
    ],
    ids=["file", "listen", "dial", "serial"],
)
def test_a_snippet_for_a_framing_that_a_driver_declares_is_a_configuration(where: Where) -> None:
    known = 0
    for driver in registry.find_all():
        for vector in registry.vectors(driver.id) if driver.link is LinkFraming.DECLARED else ():
            if said := snippet(examine(vector.trace.read_bytes()), where):
                (link,) = parsed(said).links
                assert link.driver == driver.id
                known += 1
    assert known >= 3

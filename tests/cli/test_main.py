"""The trunk of the command: fast, lazy, and every error one sentence and the right status."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import click
import pytest

from interface import __version__, cli
from interface.domain.model import ResultStatus
from interface.errors import ConfigError, ConfigProblem, StoreUnavailable


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `labora check` raise `error`."""

    @click.command()
    def check() -> None:
        raise error

    monkeypatch.setattr(cli.labora, "get_command", lambda _ctx, _name: check)


def test_help_names_every_command_without_importing_one() -> None:
    script = (
        "import sys; from interface.cli import run_command; status = run_command(['--help']); "
        "print(status, [m for m in sys.modules if m.startswith('interface.') and m not in "
        "('interface.cli', 'interface.compiled', 'interface.errors')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
    for name in cli.COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_of_the_table_exists_and_explains_itself(name: str) -> None:
    command = cli.labora.get_command(click.Context(cli.labora), name)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help, f"labora {name} --help says nothing"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"labora {__version__}\n"


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["chekc"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "No such command" in captured.err


def test_every_configuration_problem_has_its_own_line_and_the_status_is_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ConfigError([ConfigProblem("api.listen", "is wrong"), ConfigProblem("link[0].id", "too")]))
    assert cli.run_command(["check"]) == 78
    assert capsys.readouterr().err == "labora: api.listen: is wrong\nlabora: link[0].id: too\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreUnavailable("the database does not answer"), "the database does not answer"),
        (OSError(errno.EADDRINUSE, "127.0.0.1:4001 is in use"), "127.0.0.1:4001 is in use"),
        (PermissionError(errno.EACCES, "Permission denied", "/var/lib/labora"), "Permission denied (/var/lib/labora)"),
        (
            ExceptionGroup("two", [StoreUnavailable("no database"), OSError(1, "no port")]),
            "no database\nlabora: no port",
        ),
    ],
)
def test_an_error_is_a_sentence_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, said: str
) -> None:
    fail_with(monkeypatch, error)
    assert cli.run_command(["check"]) == 1
    assert capsys.readouterr().err == f"labora: {said}\n"


def test_an_unexpected_error_is_named_but_never_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ValueError("Doe^Jane"))
    assert cli.run_command(["check"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("labora: unexpected ValueError")
    assert "Doe" not in said
    assert "Traceback" not in said


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(monkeypatch, ValueError("here"))
    monkeypatch.setenv("LABORA_DEBUG", "1")
    assert cli.run_command(["check"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_gives_130(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    assert cli.run_command(["check"]) == 130


def test_a_commands_own_status_is_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def check() -> int:
        return 3

    monkeypatch.setattr(cli.labora, "get_command", lambda _ctx, _name: check)
    assert cli.run_command(["check"]) == 3


def test_a_faulty_file_ends_any_command_with_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[api]\nlisten = "nowhere"\nport = 3\n')
    assert cli.run_command(["--config", str(file), "run"]) == 78
    assert [line.split(" ")[1] for line in capsys.readouterr().err.splitlines()] == ["api.listen:", "api.port:"]


def test_roles_are_not_shared_out_over_an_embedded_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    assert cli.run_command(["--config", str(file), "run", "--role", "links", "--role", "api"]) == 78
    assert capsys.readouterr().err.startswith("labora: database.url: ")
    assert cli.run_command(["--config", str(file), "run", "--role", "everything"]) == 2


@dataclass(frozen=True, slots=True)
class Row:
    test: str
    value: Decimal
    status: ResultStatus


def test_json_keeps_a_decimal_as_its_exact_text(capsys: pytest.CaptureFixture[str]) -> None:
    cli.emit([Row("GLU", Decimal("5.10"), ResultStatus.FINAL)], as_json=True)
    assert '"value": "5.10"' in capsys.readouterr().out


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row("GLU", Decimal("5.10"), ResultStatus.FINAL), Row("CREA", Decimal("7"), ResultStatus.PRELIMINARY)]
    cli.emit(rows, as_json=False)
    assert capsys.readouterr().out == "test  value  status\nGLU   5.10   final\nCREA  7      preliminary\n"


def test_an_analyzers_control_characters_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cli.emit([Row("\x1b[31mGLU", Decimal(1), ResultStatus.FINAL)], as_json=False)
    assert "\x1b" not in capsys.readouterr().out

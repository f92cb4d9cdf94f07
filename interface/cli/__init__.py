"""The command `labora`: its trunk. Each noun is a module of this package, imported only when it is called.

Data goes to stdout, words to stderr. Exit 0 done, 1 failed, 2 usage, 78 configuration, 130 interrupted. No traceback
unless LABORA_DEBUG=1: an error of ours is one sentence, any other is named by type and place (it may quote a patient).
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from interface import __version__
from interface.errors import ConfigError, LaboraError

if TYPE_CHECKING:
    from interface.settings import Settings

EXIT_FAILED = 1
EXIT_CONFIG = 78  # sysexits.h EX_CONFIG; systemd's RestartPreventExitStatus names it
EXIT_INTERRUPTED = 130

COMMANDS: Mapping[str, tuple[str, str]] = {  # noun: (its module's attribute, one line for --help)
    "run": ("interface.cli.run:run", "Run the daemon in the foreground."),
    "check": ("interface.cli.check:check", "Check the configuration, drivers, ports and database."),
    "doctor": ("interface.cli.doctor:doctor", "Find what is wrong or will be, and what mends it."),
    "demo": ("interface.cli.demo:demo", "Run the whole way once, from analyzers to an EMR."),
    "decode": ("interface.cli.decode:decode", "Show what a raw capture says, without a database."),
    "simulate": ("interface.cli.simulate:simulate", "Play a capture or vector as the analyzer would."),
    "db": ("interface.cli.db:db", "Upgrade the database, show its state."),
    "backup": ("interface.cli.backup:backup", "Make backups, prove that they can be restored, restore them."),
    "alert": ("interface.cli.alert:alert", "See what is wrong, see to it, silence it, try the channels."),
    "link": ("interface.cli.link:link", "List links and their state."),
    "driver": ("interface.cli.driver:driver", "List, show and test analyzer drivers."),
    "map": ("interface.cli.map:map_", "Map analyzers' codes to tests, check and undo it."),
    "rule": ("interface.cli.rule:rule", "Check results by rules; release what they release."),
    "message": ("interface.cli.message:message", "List, show and replay messages."),
    "result": ("interface.cli.result:result", "List, show, verify, release and correct results."),
    "critical": ("interface.cli.critical:critical", "Tell critical results, and say who was told."),
    "qc": ("interface.cli.qc:qc", "Control materials and lots, their results, what they gate."),
    "report": ("interface.cli.report:report", "Reports of orders, workload, turn-around time, quality control."),
    "patient": ("interface.cli.patient:patient", "Find, add, change and merge patients."),
    "provider": ("interface.cli.provider:provider", "List, add and change who orders."),
    "test": ("interface.cli.test:test", "List and change the laboratory's tests."),
    "panel": ("interface.cli.panel:panel", "List and change the laboratory's panels."),
    "interval": ("interface.cli.interval:interval", "List and change reference intervals."),
    "order": ("interface.cli.order:order", "Create, list, show, extend and cancel orders."),
    "dispatch": ("interface.cli.dispatch:dispatch", "See what analyzers were told; send it again, take it back."),
    "specimen": ("interface.cli.specimen:specimen", "Collect, receive, divide, reject, label and store specimens."),
    "specimen-type": ("interface.cli.specimen_type:specimen_type", "List and change the laboratory's specimen types."),
    "worksheet": ("interface.cli.worksheet:worksheet", "Build worksheets, enter values by hand, complete them."),
    "organization": ("interface.cli.organization:organization", "Create and list organizations."),
    "user": ("interface.cli.user:user", "Create, list and disable users."),
    "client": ("interface.cli.client:client", "Create and list API clients."),
    "audit": ("interface.cli.audit:audit", "See who did what; prove that the audit trail is whole."),
    "subscription": ("interface.cli.subscription:subscription", "See to the EMRs that are told of changes."),
    "trace": ("interface.cli.trace:trace", "Explain every result of a specimen, from the bytes on."),
}


@dataclass
class Context:
    """What every command gets as `ctx.obj`: where the configuration is, and the settings once somebody asks."""

    config_path: Path | None = None
    debug: bool = field(default_factory=lambda: os.environ.get("LABORA_DEBUG") == "1")

    @cached_property
    def settings(self) -> Settings:
        """The settings; read at the first use, from which on warnings go to stderr. Raises ConfigError."""
        from interface.config import load
        from interface.telemetry import configure_logs

        settings = load(self.config_path)
        configure_logs(logging.WARNING)  # before anything that logs: stdout is for data
        return settings


pass_context = click.make_pass_decorator(Context, ensure=True)


class Nouns(click.Group):
    """A group that knows its commands by a table, as COMMANDS, and imports the one that is called."""

    def __init__(self, *arguments: Any, table: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        return cast(click.Command, getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])


@click.group(
    cls=Nouns, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), envvar="LABORA_CONFIG",
    show_envvar=True,
    help="Configuration file.  [default: /etc/labora/config.toml, else the one Labora comes with]",
)  # fmt: skip
@click.version_option(__version__, prog_name="labora", message="%(prog)s %(version)s")
@click.pass_context
def labora(ctx: click.Context, config_path: Path | None) -> None:
    """Clinical-laboratory middleware: analyzers in, explained results out.

    \b
    Environment:
      LABORA_CONFIG        configuration file
      LABORA_DATABASE_URL  database, in place of database.url; the only place for its password
      LABORA_STATE_DIR     state directory, in place of state_dir
      LABORA_DEBUG=1       show tracebacks

    Exit status: 0 done, 1 failed, 2 usage, 78 configuration.
    """
    ctx.obj = Context(config_path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: runs the command and exits with its status."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run `labora arguments` and return its exit status; every error has been said on stderr.

    A command's own return value is its status when it is an int.
    """
    try:
        status = labora.main(
            args=list(arguments) if arguments is not None else None, prog_name="labora", standalone_mode=False
        )
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away; nothing may be written when Python closes stdout at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        if os.environ.get("LABORA_DEBUG") == "1":
            traceback.print_exc()
        for line in explain(error):
            click.echo(f"labora: {line}", err=True)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED


def explain(error: BaseException) -> list[str]:
    """What to tell a person about `error`, a sentence a line, without a traceback."""
    if isinstance(error, ConfigError):
        return [str(problem) for problem in error.problems]
    if isinstance(error, LaboraError):
        return [str(error)]
    if isinstance(error, ExceptionGroup):
        return [line for inner in error.exceptions for line in explain(inner)]
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            # asyncio says which address in its own words; a bare bind does not.
            return [error.strerror or "an address the configuration listens on is already in use"]
        where = f" ({error.filename})" if error.filename else ""
        return [f"{error.strerror or type(error).__name__}{where}"]
    if type(error).__module__.startswith("asyncpg"):
        return [f"the database refused: {type(error).__name__} ({getattr(error, 'sqlstate', None) or 'no SQLSTATE'})"]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "interface" in Path(frame.filename).parts]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return [f"unexpected {type(error).__name__}{place}; LABORA_DEBUG=1 shows the traceback"]


def _plain(value: object) -> str:
    """What JSON has no word for: Decimal as its exact text, bytes as hexadecimal, sets and paths as they read."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)


def _row(value: object) -> Mapping[str, object]:
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: getattr(value, entry.name) for entry in fields(value)}
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {"": value}


def _cell(value: object) -> str:
    """One cell of a table. Control characters, which may come from an analyzer, never reach the terminal."""
    if value is None:
        text = ""
    elif isinstance(value, tuple | list | set | frozenset):
        text = " ".join(_cell(entry) for entry in value)
    else:
        text = str(value)
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns under their headings, without a trailing newline."""
    cells = [list(headings), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(lines)


def emit(data: Any, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Write `data` to stdout: as JSON, or a list as a table, one object as `key  value` lines, text as it is.

    `data` is text, a dataclass, a mapping, or a list of these. `columns` picks and orders the fields of a table.
    """
    if as_json:
        import orjson

        option = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
        click.echo(orjson.dumps(data, default=_plain, option=option).decode())
    elif isinstance(data, str):
        click.echo(data)
    elif isinstance(data, list | tuple):
        rows = [_row(entry) for entry in data]
        names = list(columns) or (list(rows[0]) if rows else [])
        if rows:
            click.echo(table([name.replace("_", " ") for name in names], [[row.get(n) for n in names] for row in rows]))
    else:
        row = _row(data)
        width = max((len(name) for name in row), default=0)
        for name in columns or row:
            click.echo(f"{name.replace('_', ' ').ljust(width)}  {_cell(row.get(name))}".rstrip())

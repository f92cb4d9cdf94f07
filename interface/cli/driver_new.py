"""`labora driver new` and `labora driver vector`: from a capture to a driver folder and to vectors without people."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from interface.cli import EXIT_FAILED
from interface.cli.decode import DRIVER_PATH
from interface.cli.laboratory import CommandError
from interface.domain.model import Protocol, SpecimenRole
from interface.driver import registry
from interface.driver.capture import CapturedMessage, CaptureError, read_capture
from interface.driver.conversation import steps_of
from interface.driver.deidentify import deidentified
from interface.driver.describe import describe
from interface.driver.diagnose import diagnose, read_heard
from interface.driver.diagnosis import Diagnosis
from interface.driver.drafting import Drafted, draft
from interface.driver.manifest import Driver
from interface.errors import DriverError, LaboraError
from interface.wire.trace import Trace, format_trace

_KEY_FILE = ".deidentify.key"
_CAPTURE = click.Path(exists=True, dir_okay=False, path_type=Path)
_KEY = click.option(
    "--key", "key_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Secret by which people are replaced, the same by the same; made when it is not there.  "
    f"[default: {_KEY_FILE} beside the drivers]",
)  # fmt: skip
_KEEP = click.option(
    "--keep", multiple=True, metavar="WORD", help="A word that tells nobody, though it stands where names do."
)


@click.command()
@click.argument("driver_id", metavar="ID")
@click.option(
    "--from", "captures", type=_CAPTURE, required=True, multiple=True,
    help="What the analyzer sent: raw bytes or a trace. Several captures make one driver.",
)  # fmt: skip
@click.option("--in", "folder", type=click.Path(file_okay=False, path_type=Path), help="Where drivers are kept.")
@click.option("--specimen", metavar="ID", default="", help="The id on the label of one of the tubes in the capture.")
@_KEY
@_KEEP
@DRIVER_PATH
def new(
    driver_id: str,
    captures: tuple[Path, ...],
    folder: Path | None,
    specimen: str,
    key_file: Path | None,
    keep: tuple[str, ...],
    driver_path: tuple[Path, ...],
) -> int:
    """Draft a driver folder from captures of one analyzer.

    What the bytes show is filled in: protocol, leniencies, character set, header, where the specimen id and the codes
    stand, codes, units, flags, statuses. What they do not show is left with a TODO and printed. Each capture becomes a
    vector, without the people in it.
    """
    home = folder or driver_path[0]
    made = home / driver_id
    if made.exists():
        raise CommandError(f"{made} is there already")
    read = [_read(capture) for capture in captures]
    heard = [one for data in read for one in read_heard(data)]
    diagnosis = diagnose(heard, site=driver_path)
    drafted = _draft(driver_id, read, diagnosis, specimen, driver_path)
    (made / "vectors").mkdir(parents=True)
    (made / registry.MANIFEST).write_text(drafted.text, encoding="utf-8")
    click.echo(str(made / registry.MANIFEST))
    if diagnosis.driver is not None and diagnosis.driver.recognised:
        click.echo(f"driver {diagnosis.driver.driver} knows this analyzer already", err=True)
    for point in drafted.open_points:
        click.echo(f"to find out: {point}", err=True)
    status, key = 0, _secret(key_file, home)
    for capture, data in zip(captures, read, strict=True):
        try:
            _write_vector(made, drafted.driver, data, _free_name(made, drafted.driver, data), key, keep, replace=False)
        except LaboraError as error:
            click.echo(f"labora: {capture} is no vector yet: {error}", err=True)
            status = EXIT_FAILED
    return status


def _free_name(folder: Path, driver: Driver, data: bytes) -> str:
    """A name for the vector of a capture by what is in it: result, qc or query, and the next number."""
    decoded = [registry.decode(driver, message.text) for message in registry.read(data, driver)]
    roles = {one.role for message in decoded for one in message.specimens if one.results}
    queries = any(message.queries for message in decoded)
    kind = "qc" if roles and SpecimenRole.PATIENT not in roles else "query" if queries and not roles else "result"
    numbers = range(1, 1000)
    return next(name for n in numbers if not (folder / "vectors" / f"{(name := f'{kind}-{n}')}.trace").exists())


def _draft(
    driver_id: str, captures: Sequence[bytes], found: Diagnosis, specimen: str, site: tuple[Path, ...]
) -> Drafted:
    messages: list[CapturedMessage] = []
    for data in captures:
        with suppress(CaptureError):  # `draft` says what the bytes are
            messages += read_capture(data)
    protocol = messages[0].protocol if messages else Protocol.LIS2
    generic = registry.load(registry.GENERIC.get(protocol, "generic_lis2"), site)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return draft(driver_id, [message.text for message in messages], found, generic, specimen, day)


@click.command()
@click.argument("driver_id", metavar="ID")
@click.argument("capture", metavar="FILE", type=_CAPTURE)
@click.option("--name", required=True, metavar="NAME", help="Of the vector: result-1, qc, rerun, query-with-orders.")
@click.option("--replace", is_flag=True, help="Write over a vector of this name.")
@_KEY
@_KEEP
@DRIVER_PATH
def vector(
    driver_id: str,
    capture: Path,
    name: str,
    replace: bool,
    key_file: Path | None,
    keep: tuple[str, ...],
    driver_path: tuple[Path, ...],
) -> int:
    """Make a vector of a capture, without the people in it.

    Names, ids, dates, addresses, phones, doctors and comments become others of the same length and form, the same by
    the same under one key; values, units, codes, flags and controls stay. Nothing is written where something would
    be left, or where it would read differently. NAME.expected.json is what the driver makes of it: compare it with
    what the instrument shows before you rely on it.
    """
    found = registry.load(driver_id, driver_path)
    folder = registry.folders(driver_path)[driver_id]
    _write_vector(folder, found, _read(capture), name, _secret(key_file, folder.parent), keep, replace=replace)
    return 0


def _read(capture: Path) -> bytes:
    try:
        return capture.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {capture}: {(error.strerror or 'unknown').lower()}") from error


def _secret(file: Path | None, home: Path) -> bytes:
    """The key, made when it is not there: who has it could find out whether a name is in a vector."""
    path = file or home / _KEY_FILE
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        key = secrets.token_bytes(32)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
            out.write(key.hex() + "\n")
        return key
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read as a key") from error


def _write_vector(
    folder: Path, driver: Driver, data: bytes, name: str, key: bytes, keep: Sequence[str], *, replace: bool
) -> None:
    trace_file = folder / "vectors" / f"{name}.trace"
    if trace_file.parent.parent != folder or trace_file.parent.name != "vectors" or "/" in name:
        raise CommandError(f"{name!r} is no name of a vector")
    if trace_file.exists() and not replace:
        raise CommandError(f"{trace_file} is there already; --replace writes over it")
    steps = deidentified(steps_of(data, driver), driver, key, frozenset(keep))
    title = driver.title or driver.id
    origin = f"A capture of {title}; names, ids, dates and comments are replaced. No real person."
    text = format_trace(Trace(origin, steps))
    messages = registry.read(text.encode(), driver)
    said = [describe(registry.decode(driver, message.text), message.problems) for message in messages]
    if not said:
        raise DriverError("there is no message in it")
    trace_file.parent.mkdir(parents=True, exist_ok=True)
    trace_file.write_text(text, encoding="utf-8")
    expected = json.dumps(said, ensure_ascii=False, indent=2) + "\n"
    trace_file.with_suffix(".expected.json").write_text(expected, encoding="utf-8")
    results = sum(len(specimen["results"]) for message in said for specimen in message["specimens"])
    click.echo(str(trace_file))
    click.echo(f"{len(said)} messages, {results} results: compare {name}.expected.json with the instrument", err=True)

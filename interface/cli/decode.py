"""`labora decode`: what a raw capture says, in the analyzer's terms. No database, no daemon."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from interface.cli import emit, table
from interface.driver import registry
from interface.driver.capture import CapturedMessage
from interface.driver.describe import describe
from interface.driver.manifest import Driver
from interface.errors import DriverError

DRIVER_PATH = click.option(
    "--driver-path",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    default=("/etc/labora/drivers",),
    show_default=True,
    help="Folder with drivers of your own, searched first.",
)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--driver", "driver_id", help="Driver to read it with; otherwise the header says which.")
@click.option("--encoding", default="", help="Character set, when neither message nor driver says it.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def decode(file: str, driver_id: str | None, encoding: str, as_json: bool, driver_path: tuple[Path, ...]) -> None:
    """Show what a raw capture says: ASTM frames or records, HL7 with or without MLLP, blocks of a framing that a driver
    declares, or a trace.

    FILE may be - for standard input. Nothing is stored. The output holds patient data if the capture does.
    """
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    chosen = registry.load(driver_id, driver_path) if driver_id else None
    messages = registry.read(data, chosen, driver_path)
    described = []
    for captured in messages:
        driver = _driver_for(captured, chosen, driver_path)
        decoded = registry.decode(driver, captured.text, encoding)
        described.append(describe(decoded, captured.problems))
        if not as_json:
            click.echo(f"decoded with {driver.id} {driver.revision}", err=True)
    if as_json:
        emit(described, True)
    else:
        click.echo("\n".join(line for message in described for line in _lines(message)))


def _driver_for(captured: CapturedMessage, chosen: Driver | None, site: tuple[Path, ...]) -> Driver:
    if chosen is None:
        return registry.sniff(captured.protocol, captured.text, site)
    if chosen.protocol is not captured.protocol:
        raise DriverError(f"driver {chosen.id} reads {chosen.protocol}, the capture is {captured.protocol}")
    return chosen


def _lines(message: dict[str, Any]) -> Iterator[str]:
    yield f"message {message['control_id'] or '(no control id)'} from {message['sender'] or '(no sender)'}"
    for query in message["queries"]:
        yield f"  asks for {'all specimens' if query['all'] else ' '.join(query['specimen_ids']) or 'nothing named'}"
    for specimen in message["specimens"]:
        patient = "" if specimen["patient"] is None else f", patient {specimen['patient'] + 1} of the message"
        yield f"  specimen {specimen['specimen_id'] or '(no id)'} ({specimen['role']}{patient})"
        rows = [
            (r["code"], r["comparator"] or "", _shown(r), r["unit"], " ".join(r["flags"]), r["status"], r["kind"])
            for r in specimen["results"]
        ]
        if rows:
            text = table(["code", "", "value", "unit", "flags", "status", "kind"], rows)
            yield from (f"    {line}" for line in text.splitlines())
    for problem in message["problems"]:
        yield f"  problem at {problem['location']}: {problem['text']}"


def _shown(result: dict[str, Any]) -> str:
    words = (result["value"] or "").replace("\n", " / ")
    return words if len(words) <= 60 else words[:59] + "…"

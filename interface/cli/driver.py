"""`labora driver`: analyzers that Labora knows, and whether their vectors still decode as they should."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from interface.cli import EXIT_FAILED, emit
from interface.cli.decode import DRIVER_PATH
from interface.driver import registry
from interface.driver.describe import describe
from interface.driver.manifest import Driver
from interface.errors import DriverError, LaboraError
from interface.wire import declared
from interface.wire.frames import LEGACY_TEXT_BYTES
from interface.wire.trace import Direction, parse_trace


@dataclass(frozen=True, slots=True)
class DriverRow:
    """One line of `labora driver list`. `fault` is set, and the rest empty, when the folder cannot be used."""

    id: str
    revision: str = ""
    protocol: str = ""
    tier: str = ""
    title: str = ""
    vectors: int = 0
    folder: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class VectorOutcome:
    """One vector's run. `difference` is "" when it decoded as expected."""

    driver: str
    vector: str
    difference: str = ""

    @property
    def passed(self) -> bool:
        return not self.difference


@click.group()
def driver() -> None:
    """List, show and test analyzer drivers."""


@driver.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def list_(as_json: bool, driver_path: tuple[Path, ...]) -> int:
    """List the drivers, a folder of your own before a packaged one of the same name."""
    rows = [_row(driver_id, folder, driver_path) for driver_id, folder in registry.folders(driver_path).items()]
    rows.sort(key=lambda row: row.id)
    emit(rows, as_json, ("id", "revision", "protocol", "tier", "vectors", "title"))
    for row in rows:
        if row.fault:
            click.echo(f"labora: {row.fault}", err=True)
    return EXIT_FAILED if any(row.fault for row in rows) else 0


@driver.command()
@click.argument("driver_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def show(driver_id: str, as_json: bool, driver_path: tuple[Path, ...]) -> None:
    """Show one driver: what it recognises, where it reads, what it is known from."""
    emit(_shown(registry.load(driver_id, driver_path), driver_path), as_json)


@driver.command()
@click.argument("driver_id", metavar="[ID]", required=False)
@click.option("--all", "all_drivers", is_flag=True, help="Every driver.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def test(driver_id: str | None, all_drivers: bool, as_json: bool, driver_path: tuple[Path, ...]) -> int:
    """Run a driver's vectors: status 1 when one decodes differently from what is expected."""
    if (driver_id is None) != all_drivers:
        raise click.UsageError("give one driver ID, or --all")
    chosen = sorted(registry.folders(driver_path)) if driver_id is None else [driver_id]
    outcomes = [outcome for each in chosen for outcome in run_vectors(each, driver_path)]
    if as_json:
        emit(outcomes, True)
    else:
        for outcome in outcomes:
            click.echo(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.driver} {outcome.vector}")
            if outcome.difference:
                click.echo(f"     {outcome.difference}", err=True)
    return 0 if all(outcome.passed for outcome in outcomes) else EXIT_FAILED


def run_vectors(driver_id: str, site: tuple[Path, ...] = ()) -> list[VectorOutcome]:
    """Decode every vector of a driver and compare. A driver without vectors fails: it proves nothing."""
    chosen = registry.load(driver_id, site)
    found = registry.vectors(driver_id, site)
    if not found:
        return [VectorOutcome(driver_id, "-", "the driver has no vectors")]
    return [VectorOutcome(driver_id, vector.name, _run(chosen, vector)) for vector in found]


def _run(chosen: Driver, vector: registry.Vector) -> str:
    try:
        expected = json.loads(vector.expected.read_text(encoding="utf-8"))
        messages = registry.read(vector.trace.read_bytes(), chosen)
        if chosen.blocks is not None:
            said = parse_trace(vector.trace.read_text(encoding="utf-8")).bytes_of(Direction.ANALYZER)
            if place := cut_differs(chosen.blocks, said):
                return f"the blocks are others when the bytes are cut {place}"
    except (OSError, ValueError, LaboraError) as error:
        return str(error)
    actual = [describe(registry.decode(chosen, message.text), message.problems) for message in messages]
    return difference(expected, actual)


def cut_differs(grammar: declared.Grammar, data: bytes) -> str:
    """Where a cut of the analyzer's bytes makes other blocks of them; "" when nowhere."""

    def events(*parts: bytes) -> list[declared.Event]:
        decoder = declared.Decoder(grammar, max(len(data), 1))
        return [event for part in parts for event in decoder.receive(part)] + decoder.silence()

    whole = events(data)
    if events(*(data[at : at + 1] for at in range(len(data)))) != whole:
        return "byte by byte"
    return next((f"at byte {at}" for at in range(1, len(data)) if events(data[:at], data[at:]) != whole), "")


def difference(expected: Any, actual: Any, path: str = "") -> str:  # JSON: any of its types
    """The first place where two JSON values differ, in words; "" when nowhere."""
    if type(expected) is not type(actual):
        return f"{path or 'the whole'}: expected {expected!r}, got {actual!r}"
    if isinstance(expected, dict):
        if expected.keys() != actual.keys():
            return f"{path or 'the whole'}: other keys: {', '.join(sorted(expected.keys() ^ actual.keys()))}"
        return next((d for key in expected if (d := difference(expected[key], actual[key], f"{path}.{key}"))), "")
    if isinstance(expected, list):
        if len(expected) != len(actual):
            return f"{path or 'the whole'}: expected {len(expected)} entries, got {len(actual)}"
        pairs = enumerate(zip(expected, actual, strict=True))
        return next((d for index, (e, a) in pairs if (d := difference(e, a, f"{path}[{index}]"))), "")
    return "" if expected == actual else f"{path}: expected {expected!r}, got {actual!r}"


def _row(driver_id: str, folder: Path, site: tuple[Path, ...]) -> DriverRow:
    try:
        found = registry.load(driver_id, site)
    except DriverError as error:
        return DriverRow(driver_id, folder=str(folder), fault=str(error))
    count = len(registry.vectors(driver_id, site))
    return DriverRow(found.id, found.revision, found.protocol.value, found.tier.value, found.title, count, str(folder))


def _shown(found: Driver, site: tuple[Path, ...]) -> dict[str, object]:
    return {
        "id": found.id,
        "revision": found.revision,
        "title": found.title,
        "vendor": found.vendor,
        "model": found.model,
        "protocol": found.protocol.value,
        "framing": found.link.value,
        "tier": found.tier.value,
        "document": found.document,
        "evidence": list(found.evidence),
        "recognises": [f"{rule.path} {rule.pattern.pattern}" for rule in found.match],
        "leniencies": sorted(found.leniencies),
        "frame_text_bytes": found.frame_text_bytes or LEGACY_TEXT_BYTES,
        "ack_colliding_enq": found.ack_colliding_enq,
        "specimen_id": [str(path) for path in found.paths.specimen_id],
        "code": [str(path) for path in found.paths.code],
        "flags": dict(found.flags) | {flag: f"hold {reason.value}" for flag, reason in found.flag_holds.items()},
        "statuses": {status: meaning.value for status, meaning in found.statuses.items()},
        "vectors": [vector.name for vector in registry.vectors(found.id, site)],
    }

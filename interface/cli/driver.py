"""`labora driver`: analyzers that Labora knows, and whether their vectors still decode as they should."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from interface.cli import EXIT_FAILED, emit
from interface.cli.decode import DRIVER_PATH
from interface.driver import registry
from interface.driver.manifest import Driver
from interface.driver.proof import VectorOutcome, run_vectors
from interface.errors import DriverError
from interface.wire.frames import LEGACY_TEXT_BYTES

_WORTH_PROCESSES = 8  # fewer drivers are proved before another process is up


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
    outcomes = _proved(chosen, driver_path)
    if as_json:
        emit(outcomes, True)
    else:
        for outcome in outcomes:
            click.echo(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.driver} {outcome.vector}")
            if outcome.difference:
                click.echo(f"     {outcome.difference}", err=True)
    return 0 if all(outcome.passed for outcome in outcomes) else EXIT_FAILED


def _proved(chosen: list[str], site: tuple[Path, ...]) -> list[VectorOutcome]:
    """Several drivers are proved side by side, on as many processors as there are."""
    prove = partial(_prove, site=site)
    workers = min(os.cpu_count() or 1, len(chosen))
    if workers < 2 or len(chosen) < _WORTH_PROCESSES:
        return [outcome for driver_id in chosen for outcome in prove(driver_id)]
    with ProcessPoolExecutor(workers) as pool:
        return [outcome for outcomes in pool.map(prove, chosen) for outcome in outcomes]


def _prove(driver_id: str, site: tuple[Path, ...]) -> list[VectorOutcome]:
    try:
        return run_vectors(driver_id, site)
    except DriverError as error:
        return [VectorOutcome(driver_id, "-", str(error))]


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


@driver.command()
def schema() -> None:
    """Print the JSON Schema of driver.toml, for editors and checks."""
    from interface.driver.schema import as_text

    click.echo(as_text(), nl=False)

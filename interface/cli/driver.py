"""`labora driver`: analyzers that Labora knows, and whether their vectors still decode as they should."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click

from interface.cli import EXIT_FAILED, Context, driver_new, driver_words, emit, pass_context
from interface.cli.decode import DRIVER_PATH
from interface.cli.laboratory import ENVIRONMENT, CommandError, json_option
from interface.cli.rehearsal import rehearse
from interface.driver import registry
from interface.driver.proof import VectorOutcome, run_vectors
from interface.driver.revisions import changes
from interface.errors import DriverError

_WORTH_PROCESSES = 8  # fewer drivers are proved before another process is up


@click.group()
def driver() -> None:
    """List, show, compare, prove and draft analyzer drivers."""


driver.add_command(driver_new.new)
driver.add_command(driver_new.vector)


@driver.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def list_(as_json: bool, driver_path: tuple[Path, ...]) -> int:
    """List the drivers and where each comes from; a folder of your own hides a packaged one of the same name."""
    rows = driver_words.rows(driver_path)
    emit(rows, as_json, ("id", "revision", "tier", "protocol", "codes", "vectors", "origin", "title"))
    for row in rows:
        if row.hides:
            click.echo(f"labora: {row.folder} hides {', '.join(row.hides)}", err=True)
        if row.fault:
            click.echo(f"labora: {row.fault}", err=True)
    return EXIT_FAILED if any(row.fault for row in rows) else 0


@driver.command()
@click.argument("driver_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def show(driver_id: str, as_json: bool, driver_path: tuple[Path, ...]) -> None:
    """Show one driver: what it is known from, what it recognises, where it reads, how it is answered."""
    found = driver_words.shown(registry.load(driver_id, driver_path), driver_path)
    emit(found if as_json else driver_words.text(found), as_json)


@driver.command(epilog=ENVIRONMENT)
@click.argument("driver_id", metavar="ID")
@click.option("--from", "revision", help="One that a link has run, or `packaged`. Default: those that links run.")
@json_option
@DRIVER_PATH
@pass_context
def diff(context: Context, driver_id: str, revision: str | None, as_json: bool, driver_path: tuple[Path, ...]) -> None:
    """Show what a driver's folder says otherwise than an older revision: what an upgrade of a link would change.

    A link is moved by naming the revision in the configuration: driver = "ID@REVISION".
    """
    new = registry.load(driver_id, driver_path)
    if revision == driver_words.PACKAGED:
        olds = {driver_words.PACKAGED: (registry.packaged_path() / driver_id / registry.MANIFEST).read_text("utf-8")}
    else:
        olds = asyncio.run(_kept(context, driver_id, revision))
    found = [
        {"from": old, "to": new.revision, "changes": [str(change) for change in changes(text, new.manifest)]}
        for old, text in olds.items()
    ]
    if as_json:
        emit(found, True)
        return
    for one in found:
        click.echo(f"{driver_id} {one['from']} -> {one['to']}")
        for line in one["changes"] or ["no difference"]:
            click.echo(f"  {line}")
    if not found:
        click.echo(f"no link of this configuration has run {driver_id}", err=True)


async def _kept(context: Context, driver_id: str, revision: str | None) -> dict[str, str]:
    """Revisions that the configuration's laboratories know, each with what it says: the one asked for, else all run."""
    from interface.flow.pinning import read_manifest
    from interface.store.embedded import opened_database

    settings = context.settings
    found: dict[str, str] = {}
    async with opened_database(settings) as database:
        for organization in dict.fromkeys(one.organization for one in settings.links):
            organization_id = await database.find_organization(organization)
            if organization_id is None:
                continue
            async with database.organization(organization_id) as connection:
                run = "SELECT DISTINCT driver_revision FROM lab.link WHERE driver = $1 ORDER BY 1"
                rows = await connection.fetch(run, driver_id)
                for wanted in [revision] if revision else [row["driver_revision"] for row in rows]:
                    if (text := await read_manifest(connection, organization_id, driver_id, wanted)) is not None:
                        found[wanted] = text
    if revision and not found:
        raise CommandError(f"no laboratory of this configuration has run revision {revision!r} of {driver_id}")
    return found


@driver.command()
@click.argument("driver_id", metavar="[ID]", required=False)
@click.option("--all", "all_drivers", is_flag=True, help="Every driver.")
@click.option("--live", is_flag=True, help="Also in the simulator, both ways.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def test(driver_id: str | None, all_drivers: bool, live: bool, as_json: bool, driver_path: tuple[Path, ...]) -> int:
    """Prove a driver: every vector whole, byte by byte and at every split, the host's answers, its evidence per code.

    With --live each vector is also played by the simulator to the link's own receiver, in memory, and the host's answer
    to a query is played back to the simulated analyzer. Status 1, with the first difference of each that fails.
    """
    if (driver_id is None) != all_drivers:
        raise click.UsageError("give one driver ID, or --all")
    chosen = sorted(registry.folders(driver_path)) if driver_id is None else [driver_id]
    outcomes = _proved(chosen, driver_path)
    if live:
        outcomes = _lived(outcomes, driver_path)
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


def _lived(outcomes: list[VectorOutcome], site: tuple[Path, ...]) -> list[VectorOutcome]:
    """Those that passed, as the simulator has them."""
    names = dict.fromkeys(one.driver for one in outcomes if one.passed)
    live = {(one.driver, one.vector): one for name in names for one in rehearse(name, site)}
    return [live.get((one.driver, one.vector), one) if one.passed else one for one in outcomes]


@driver.command()
def schema() -> None:
    """Print the JSON Schema of driver.toml, for editors and checks."""
    from interface.driver.schema import as_text

    click.echo(as_text(), nl=False)

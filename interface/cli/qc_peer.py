"""`labora qc peer`: what other laboratories measure with the same lots, and our own months for a peer programme."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, CommandError, desk, laboratory_options
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.domain.qc_peers import PeerRows, PeerView
    from interface.flow.qc_peers import Imported
    from interface.settings import Settings
    from interface.store.db import Connection

T = TypeVar("T")
_Command = TypeVar("_Command", bound=Callable[..., Any])
_COMPARED = (
    "analyzer", "module", "test", "lot", "level", "unit", "n", "mean", "sd", "cv", "peer_group", "laboratories",
    "peer_mean", "peer_sd", "peer_cv", "bias", "sdi", "cvr",
)  # fmt: skip
_PEERS = ("period", "test", "material", "lot", "level", "peer_group", "laboratories", "points", "mean", "sd", "unit",
          "source")  # fmt: skip
_period = click.option("--period", metavar="YYYY-MM", required=True, help="The month, in UTC.")


def _filters(command: _Command) -> _Command:
    analyzer = click.option("--analyzer", default="", metavar="NAME")
    return analyzer(click.option("--test", default="", metavar="CODE")(command))


@click.group()
def peer() -> None:
    """Compare with what other laboratories measure, and hand over what ours measured."""


@peer.command("import", epilog=ENVIRONMENT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the change.")
@click.option("--source", default="", metavar="TEXT", help="The programme that it is from.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
@laboratory_options
@pass_context
def import_peers(
    context: Context,
    file: Path,
    reason: str,
    source: str,
    dry_run: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Import what peer groups measured: CSV, all of it or nothing.

    Columns: lot, test, peer_group, period (2026-11), mean, sd; material, level, unit, laboratories, points. A row of a
    lot, test, group and month that there is takes its place.
    """
    done = asyncio.run(_import(context.settings, organization, username, file, reason, source, dry_run))
    emit(done, as_json)
    if dry_run:
        click.echo("nothing was changed", err=True)


async def _import(
    settings: Settings, organization: str | None, username: str | None, file: Path, reason: str, source: str,
    dry_run: bool,
) -> Imported:  # fmt: skip
    from interface.flow import qc_peers

    read = _read_file(file)
    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        if dry_run:
            await at.note_read(connection, "read", "qc_peer", detail={"by": "import"})
        return await qc_peers.import_peers(connection, at.actor, read, reason, source=source, dry_run=dry_run)


def _read_file(file: Path) -> PeerRows:
    from interface.render.qc_peer_table import read_peers

    try:
        return read_peers(str(file), file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "unknown").lower() if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CommandError(f"cannot read {file}: {why}") from error


@peer.command("list", epilog=ENVIRONMENT)
@click.option("--period", metavar="YYYY-MM", default="", help="Only this month.")
@click.option("--group", "peer_group", default="", metavar="NAME")
@click.option("--test", default="", metavar="CODE")
@laboratory_options
@pass_context
def list_peers(
    context: Context,
    period: str,
    peer_group: str,
    test: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List what was imported, the newest month first."""
    from interface.store import qc_peers as rows

    def find(connection: Connection) -> Awaitable[list[PeerView]]:
        return rows.find_peers(connection, period=period, peer_group=peer_group, test=test)

    found = _ask(context.settings, organization, username, "search", find)
    emit(found, as_json, _PEERS)
    if not found:
        click.echo("nothing was imported", err=True)


@peer.command(epilog=ENVIRONMENT)
@_period
@_filters
@click.option("--group", "peer_group", default="", metavar="NAME")
@laboratory_options
@pass_context
def compare(
    context: Context,
    period: str,
    analyzer: str,
    test: str,
    peer_group: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Show each level of each lot beside what peer groups measured in the month: bias %, SDI, CVR."""
    from interface.flow import qc_peers

    wanted = {"analyzer": analyzer, "test": test, "peer_group": peer_group}
    found = _ask(context.settings, organization, username, "read", lambda c: qc_peers.compare(c, period, **wanted))
    emit(found, as_json, _COMPARED)
    if not found:
        click.echo("no lot was measured by us and by peers in this month", err=True)


@peer.command(epilog=ENVIRONMENT)
@_period
@_filters
@click.option("--form", type=click.Choice(["csv", "fhir"]), default="csv", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A file in place of the standard output.")
@laboratory_options
@pass_context
def export(
    context: Context,
    period: str,
    analyzer: str,
    test: str,
    form: str,
    output: Path | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Write our own month for a peer programme: CSV, or FHIR Observations of the analyzers. Nothing of a patient.

    --json is --form fhir.
    """
    from interface.flow import qc_peers
    from interface.render.json import dumps
    from interface.render.qc_fhir import periods_bundle
    from interface.render.qc_peer_table import write_periods

    wanted = {"analyzer": analyzer, "test": test}
    laboratory, found = _ask(
        context.settings, organization, username, "export", lambda c: qc_peers.export(c, period, **wanted)
    )
    fhir = as_json or form == "fhir"
    text = dumps(periods_bundle(laboratory, found)).decode() if fhir else write_periods(laboratory, found)
    if output is None:
        click.echo(text.removesuffix("\n"))
    else:
        try:
            output.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise CommandError(f"cannot write {output}: {(error.strerror or 'unknown').lower()}") from error
    if not found:
        click.echo("no control was measured in this month", err=True)


def _ask(
    settings: Settings,
    organization: str | None,
    username: str | None,
    action: str,
    find: Callable[[Connection], Awaitable[T]],
) -> T:
    async def run() -> T:
        async with desk(settings, organization, username, named=False) as at:
            at.require(Permission.QC_READ)
            async with at.transaction() as connection:
                found = await find(connection)
                await at.note_read(connection, action, "qc_peer")
        return found

    return asyncio.run(run())

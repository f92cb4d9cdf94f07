"""The commands of `labora map` that change maps: each shows its difference and writes it as one change, or nothing."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import (
    ENVIRONMENT,
    INSTANT,
    CommandError,
    Desk,
    aware,
    desk,
    laboratory_options,
    only_organization,
)
from interface.domain.map_files import HELD, Choices, FileFaults, FileRow, FileRows, Laboratory, resolve, understood
from interface.domain.mapping import MapKey
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.domain.map_lint import Finding
    from interface.flow.map_facts import Analyzers
    from interface.flow.maps import Proposal
    from interface.settings import Settings
    from interface.store.db import Connection
    from interface.store.maps import Basis

MAX_FILE_BYTES = 64 << 20
REPLAYS_NAMED = 20  # of the codes whose held results can be replayed after a change
_Command = TypeVar("_Command", bound=Callable[..., Any])
Propose = Callable[["Connection", Laboratory, "Basis"], Awaitable["Proposal"]]


@dataclass(frozen=True, slots=True)
class Ask:
    """What every command that changes maps is told. `confirm`: a person is asked first, unless `yes`."""

    organization: str | None
    username: str | None
    as_json: bool
    reason: str
    dry_run: bool
    yes: bool = True
    confirm: bool = False
    accept_errors: bool = True


def change_options(command: _Command) -> _Command:
    reason = click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the change.")
    dry_run = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
    return reason(dry_run(laboratory_options(command)))


def file_options(command: _Command) -> _Command:
    """For commands that take many rows at once."""
    yes = click.option("--yes", is_flag=True, help="Apply it without asking.")
    errors = click.option("--accept-errors", is_flag=True, help="Apply it although `map lint` finds errors.")
    return yes(errors(command))


def scope_options(command: _Command) -> _Command:
    driver = click.option("--driver", default="", metavar="ID", help="For every link of this driver.")
    link = click.option("--link", default="", metavar="ID", help="For this link only.")
    return driver(link(command))


# ---- one change ------------------------------------------------------------------------------------------------------


async def carry_out(settings: Settings, ask: Ask, propose: Propose, source: str = "") -> int:
    """Show what `propose` finds and write it; returns the exit status."""
    if ask.confirm and not (ask.yes or ask.dry_run) and (ask.as_json or not sys.stdin.isatty()):
        raise click.UsageError("--yes applies it, --dry-run only shows it")
    if not ask.dry_run and not ask.reason.strip():
        raise click.UsageError("say why, with --reason TEXT")
    name = ask.organization or only_organization(settings)
    from interface.flow.map_facts import analyzers_of, findings_of, laboratory
    from interface.store import maps

    analyzers = analyzers_of(settings, name)
    async with desk(settings, name, ask.username, named=not ask.dry_run) as at:
        at.require(Permission.LINK_READ if ask.dry_run else Permission.MAP_WRITE)
        try:
            async with at.transaction() as connection:
                basis = await maps.basis(connection)
                proposal = await propose(connection, await laboratory(connection, analyzers), basis)
                findings = await findings_of(connection, analyzers, proposal)
        except FileFaults as error:
            return _refuse(error, ask.as_json)
        refused = any(one.severity == "error" for one in findings) and not ask.accept_errors
        if not ask.as_json:
            _show(proposal, findings)
        if refused:
            click.echo("labora: nothing was changed; --accept-errors applies it although there are errors", err=True)
        number = None if refused else await _write(at, settings, analyzers, ask, proposal, source)
    if ask.as_json:
        _emit(proposal, findings, number)
    return EXIT_FAILED if refused else 0


async def _write(
    at: Desk, settings: Settings, analyzers: Analyzers, ask: Ask, proposal: Proposal, source: str
) -> int | None:
    """The change's number; None when there is nothing to write or nobody wants it."""
    from interface.flow import maps as flow

    if not proposal.changes or ask.dry_run:
        click.echo("nothing was changed" if proposal.changes else "there is nothing to change", err=True)
        return None
    if ask.confirm and not ask.yes and not click.confirm("Apply this?", err=True):
        click.echo("nothing was changed", err=True)
        return None
    async with at.transaction() as connection:
        await _register(connection, at, settings, analyzers, proposal)
        _, number = await flow.commit(connection, at.actor, proposal, ask.reason, source)
        waiting = await _waiting(connection, proposal)
    words = f"change {number}: {len(proposal.added)} rows added, {len(proposal.ended)} ended"
    click.echo(f"{words}; `labora map undo {number}` takes it back", err=True)
    for code, results in list(waiting.items())[:REPLAYS_NAMED]:
        click.echo(f"{results} held results wait: `labora message replay --unmapped {shlex.quote(code)}`", err=True)
    return number


async def _waiting(connection: Connection, proposal: Proposal) -> dict[str, int]:
    """How many results are held for want of a test for the codes that have one now."""
    from interface.store.map_traffic import unmapped_codes

    mapped = {(new.key.driver, new.key.code) for new in proposal.added if new.span.target.test}
    waiting: dict[str, int] = {}
    for one in await unmapped_codes(connection):
        if (one.driver, one.code) in mapped:
            waiting[one.code] = waiting.get(one.code, 0) + one.results
    return waiting


async def _register(
    connection: Connection, at: Desk, settings: Settings, analyzers: Analyzers, proposal: Proposal
) -> None:
    """Rows for links that the daemon has not started yet, so that maps can be made before the first start."""
    from interface.driver import registry
    from interface.flow.context import register
    from interface.store.catalogue import load_code_map
    from interface.store.maps import known_links

    known = await known_links(connection)
    for name in sorted({row.key.link for row in proposal.added} - {""} - known.keys()):
        link = analyzers.links[name]
        driver = registry.load(link.driver, settings.driver_path)
        await register(connection, at.actor.organization_id, link, driver)
        await load_code_map(connection, at.actor.organization_id, driver.id)


def _refuse(error: FileFaults, as_json: bool) -> int:
    if as_json:
        emit({"applied": False, "faults": list(error.faults)}, True)
    for fault in error.faults:
        click.echo(f"labora: {fault}", err=True)
    click.echo("labora: nothing was changed", err=True)
    return EXIT_FAILED


def _show(proposal: Proposal, findings: Sequence[Finding]) -> None:
    from interface.cli.map_show import counts, difference_text, finding_text, say

    if proposal.changes:
        emit("\n".join(difference_text(proposal)), False)
    say([f"left out: {one}" for one in proposal.left_out])
    say([finding_text(one) for one in findings])
    told = ", ".join(f"{number} {kind}" for kind, number in counts(proposal).items())
    click.echo(f"codes: {told}; {len(proposal.left_out)} rows left out", err=True)


def _emit(proposal: Proposal, findings: Sequence[Finding], number: int | None) -> None:
    from interface.cli.map_show import counts, proposal_json

    told = {
        "applied": number is not None, "change": number, "counts": counts(proposal),
        "difference": proposal_json(proposal), "left_out": list(proposal.left_out), "findings": list(findings),
    }  # fmt: skip
    emit(told, True)


# ---- files -----------------------------------------------------------------------------------------------------------


def read_file(path: Path) -> FileRows:
    """A map's file. Raises FileFaults, CommandError."""
    from interface.render.map_read import read_map

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CommandError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MB, which no map is")
        data = path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {(error.strerror or 'unknown').lower()}") from error
    return read_map(str(path), data)


def read_folder(folder: Path) -> FileRows:
    """All files of a plan as one. Raises FileFaults with the faults of every file."""
    from interface.domain.map_files import Fault
    from interface.render.map_read import SUFFIXES

    rows: list[FileRow] = []
    scopes: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix == ".md" or path.is_dir():
            continue
        if path.suffix not in SUFFIXES:
            faults.append(Fault(str(path), 0, "", f"is no file of a plan ({', '.join(sorted(SUFFIXES))})"))
            continue
        try:
            read = read_file(path)
        except FileFaults as error:
            faults += error.faults
            continue
        rows += read.rows
        scopes += read.scopes
        faults += read.faults
    return FileRows(tuple(rows), tuple(faults), tuple(scopes))


# ---- commands --------------------------------------------------------------------------------------------------------


@click.command("set", epilog=ENVIRONMENT)
@click.argument("code")
@click.argument("test", metavar="TEST|-")
@scope_options
@click.option("--specimen-type", default="", metavar="TYPE", help="On this type only.  [default: on any]")
@click.option("--unit", default="", metavar="UCUM", help="What the number is in when the analyzer sends no unit.")
@click.option("--method", default="", metavar="TEXT", help="By which it is measured.  [default: as the analyzer says]")
@click.option("--from", "start", type=INSTANT, help="Valid from; without an offset it is UTC.  [default: now]")
@click.option("--until", "end", type=INSTANT, help="Valid before.  [default: for good]")
@click.option("--note", default="", metavar="TEXT", help="Kept with the row.")
@change_options
@pass_context
def set_(
    context: Context, /, code: str, test: str, driver: str, link: str, specimen_type: str, unit: str,
    method: str, start: datetime | None, end: datetime | None, note: str, organization: str | None,
    username: str | None, as_json: bool, reason: str, dry_run: bool,
) -> int:  # fmt: skip
    """Map an analyzer's code to a test of the laboratory's; - holds its results.

    What is valid then for the code on this specimen type gives way for that time; what was valid before stays.
    """
    from interface.flow import maps as flow

    names = {
        "code": "CODE", "test": "TEST", "driver": "--driver", "link": "--link", "unit": "--unit", "method": "--method",
        "specimen": "--specimen-type", "valid_to": "--until", "note": "--note",
    }  # fmt: skip
    row = FileRow(
        "labora map set", 0, code, test=test or HELD, driver=driver, link=link, specimen=specimen_type, unit=unit,
        method=method, start=aware(start), end=aware(end), note=note, names=names,
    )  # fmt: skip

    async def propose(connection: Connection, known: Laboratory, basis: Basis) -> Proposal:
        return await flow.propose_put(connection, resolve([row], known, Choices()).wanted, basis, "set")

    ask = Ask(organization, username, as_json, reason, dry_run)
    return asyncio.run(carry_out(context.settings, ask, propose))


@click.command("unset", epilog=ENVIRONMENT)
@click.argument("code")
@scope_options
@click.option("--specimen-type", default="", metavar="TYPE", help="The row for this type.  [default: for any]")
@click.option("--from", "start", type=INSTANT, help="From; without an offset it is UTC.  [default: now]")
@click.option("--until", "end", type=INSTANT, help="Before; then it is mapped as now.  [default: for good]")
@click.option("--own", is_flag=True, help="Only take the site's own row away: what is shipped holds again.")
@change_options
@pass_context
def unset(
    context: Context, /, code: str, driver: str, link: str, specimen_type: str, start: datetime | None,
    end: datetime | None, own: bool, organization: str | None, username: str | None, as_json: bool, reason: str,
    dry_run: bool,
) -> int:  # fmt: skip
    """Map a code to nothing: its results are held, whatever the shipped map says."""
    from interface.flow import maps as flow

    async def propose(connection: Connection, known: Laboratory, basis: Basis) -> Proposal:
        where = scope(known, driver, link)
        key = MapKey(*where, code, specimen_type)
        return await flow.propose_unset(connection, key, aware(start), aware(end), basis, own=own)

    ask = Ask(organization, username, as_json, reason, dry_run)
    return asyncio.run(carry_out(context.settings, ask, propose))


def scope(known: Laboratory, driver: str, link: str) -> tuple[str, str]:
    """Driver and link of --driver or --link. Raises UsageError, CommandError."""
    if bool(driver) == bool(link):
        raise click.UsageError("give one of --driver and --link")
    if link:
        if link not in known.links:
            raise CommandError(f"there is no link {link!r}")
        return known.links[link], link
    if driver not in known.drivers:
        raise CommandError(f"there is no driver {driver!r}")
    return driver, ""


@click.command("import", epilog=ENVIRONMENT)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@scope_options
@click.option("--model", default="", metavar="TEXT", help="Of a LIVD file of several models, this one's rows.")
@click.option(
    "--specimen", "specimens", multiple=True, metavar="WORDS=TYPE[,TYPE]",
    help="What the file's words for a specimen mean; no type is any.",
)  # fmt: skip
@click.option("--any-specimen", is_flag=True, help="Ignore a vendor's words for specimens: rows are for any type.")
@click.option(
    "--unit", "units", multiple=True, metavar="UNIT",
    help="Where a vendor has several LOINC codes for a code, the one whose result is in this unit.",
)  # fmt: skip
@click.option("--from", "start", type=INSTANT, help="Valid from, for rows that do not say.  [default: now]")
@file_options
@change_options
@pass_context
def import_(
    context: Context, /, file: Path, driver: str, link: str, model: str, specimens: tuple[str, ...],
    any_specimen: bool, units: tuple[str, ...], start: datetime | None, yes: bool, accept_errors: bool,
    organization: str | None, username: str | None, as_json: bool, reason: str, dry_run: bool,
) -> int:  # fmt: skip
    """Map the codes of a file: CSV, FHIR ConceptMap, LIVD as Bundle or sheet (.xlsx, CSV, tab-separated).

    All of it or nothing: every broken row is named with file, line and field. Rows of a vendor's file that cannot be
    taken without guessing are left out and named. `map apply` also takes away what a file does not have.
    """
    from interface.flow import maps as flow

    choices = Choices(driver, link, model, _specimens(specimens), any_specimen, units)

    async def propose(connection: Connection, known: Laboratory, basis: Basis) -> Proposal:
        read = read_file(file)
        rows = tuple(row if row.start else replace(row, start=aware(start)) for row in read.rows)
        found = understood(replace(read, rows=rows), known, choices)
        return await flow.propose_put(connection, found.wanted, basis, "import", found.left_out)

    ask = Ask(organization, username, as_json, reason, dry_run, yes, True, accept_errors)
    return asyncio.run(carry_out(context.settings, ask, propose, file.name))


def _specimens(said: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found = {}
    for one in said:
        words, mark, types = one.partition("=")
        if not mark or not words.strip():
            raise click.UsageError(f"--specimen {one!r}: it reads WORDS=TYPE, or WORDS=TYPE,TYPE")
        found[words.strip().casefold()] = tuple(filter(None, (kind.strip() for kind in types.split(","))))
    return found


@click.command("apply", epilog=ENVIRONMENT)
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--shipped", default="", metavar="DRIVER", help="In place of a folder: the newest shipped map of a driver."
)
@file_options
@change_options
@pass_context
def apply(
    context: Context, /, folder: Path | None, shipped: str, yes: bool, accept_errors: bool, organization: str | None,
    username: str | None, as_json: bool, reason: str, dry_run: bool,
) -> int:  # fmt: skip
    """Make the site's maps what a folder says: shows what is added, changed and removed, then applies all or nothing.

    The folder's files (TOML as the shipped maps have it, CSV) are the whole truth for the drivers and links they name;
    others are not touched. A shipped map of a later revision comes into force by --shipped only.
    """
    from interface.flow import maps as flow

    if (folder is None) == (not shipped):
        raise click.UsageError("give a folder, or --shipped DRIVER")

    async def propose(connection: Connection, known: Laboratory, basis: Basis) -> Proposal:
        if folder is None:
            return await flow.propose_upgrade(connection, shipped, basis)
        read = read_folder(folder)
        found = understood(read, known, Choices())
        scopes = {(one.key.driver, one.key.link) for one in found.wanted}
        scopes |= {scope(known, "" if link else driver, link) for driver, link in read.scopes}
        proposal = await flow.propose_plan(connection, found.wanted, scopes, basis)
        return replace(proposal, left_out=found.left_out)

    ask = Ask(organization, username, as_json, reason, dry_run, yes, True, accept_errors)
    return asyncio.run(carry_out(context.settings, ask, propose, folder.name if folder else f"shipped {shipped}"))


@click.command("copy", epilog=ENVIRONMENT)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@change_options
@pass_context
def copy(
    context: Context, /, source: str, target: str, organization: str | None, username: str | None, as_json: bool,
    reason: str, dry_run: bool,
) -> int:  # fmt: skip
    """Give one link or driver the site's rows of another: for a link or driver that was copied."""
    from interface.flow import maps as flow

    async def propose(connection: Connection, known: Laboratory, basis: Basis) -> Proposal:
        places = [scope(known, *(("", one) if one in known.links else (one, ""))) for one in (source, target)]
        return await flow.propose_copy(connection, places[0], places[1], basis)

    ask = Ask(organization, username, as_json, reason, dry_run)
    return asyncio.run(carry_out(context.settings, ask, propose, f"{source} to {target}"))


@click.command("undo", epilog=ENVIRONMENT)
@click.argument("number", type=click.IntRange(1))
@change_options
@pass_context
def undo(
    context: Context, /, number: int, organization: str | None, username: str | None, as_json: bool, reason: str,
    dry_run: bool,
) -> int:  # fmt: skip
    """Take a change back, of one row or of thousands; it is a change itself, so that it can be undone.

    `map history` has the numbers. Refused where a later change is about the same codes: undo that one first.
    """
    from interface.flow import maps as flow

    async def propose(connection: Connection, known: Laboratory, basis: Basis) -> Proposal:
        return await flow.propose_undo(connection, number, basis)

    ask = Ask(organization, username, as_json, reason, dry_run)
    return asyncio.run(carry_out(context.settings, ask, propose, f"change {number}"))

"""`labora worksheet`: what waits, worksheets built of it, values entered by hand."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, CommandError, desk, laboratory_options
from interface.domain.model import Priority
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.flow.worksheets import PlaceEntry
    from interface.store.db import Connection
    from interface.store.worksheets import PendingView, WorksheetView

_PLACES = ("place", "barcode", "time_point_min", "test_code", "priority", "status", "value", "result_unit", "flags",
           "held")  # fmt: skip
_WAITING = ("priority", "since", "test_code", "barcode", "status", "ward", "order_number", "worksheet")
_filters = (
    click.option("--analyzer", "analyzers", multiple=True, help="What it can measure."),
    click.option("--test", "tests", multiple=True, metavar="CODE"),
    click.option("--department", "departments", multiple=True),
    click.option("--ward", "wards", multiple=True),
    click.option("--priority", "priorities", multiple=True, type=click.Choice([one.value for one in Priority])),
)


@click.group()
def worksheet() -> None:
    """See what waits, build worksheets, enter values by hand. WORKSHEET is a number or an id."""


@worksheet.command("waiting", epilog=ENVIRONMENT)
@_filters[0]
@_filters[1]
@_filters[2]
@_filters[3]
@_filters[4]
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def waiting(
    context: Context,
    analyzers: tuple[str, ...],
    tests: tuple[str, ...],
    departments: tuple[str, ...],
    wards: tuple[str, ...],
    priorities: tuple[str, ...],
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List what waits to be measured, the most urgent first, then the oldest."""
    from interface.store.worksheets import WorkFilter, pending

    chosen = WorkFilter(analyzers, tests, departments, wards, tuple(map(Priority, priorities)), limit=limit)

    async def run() -> list[PendingView]:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.ORDER_READ)
            async with at.transaction() as connection:
                found = await pending(connection, chosen)
                patients = [one.patient_id for one in found]
                await at.note_read(connection, "search", "worklist", None, patients, {"found": str(len(found))})
        return found

    found = asyncio.run(run())
    emit(found, as_json, _WAITING)
    if not found:
        click.echo("nothing waits", err=True)
    elif len(found) == limit:
        click.echo(f"the first {limit}; --limit shows more", err=True)


@worksheet.command("build", epilog=ENVIRONMENT)
@_filters[0]
@_filters[1]
@_filters[2]
@_filters[3]
@_filters[4]
@click.option("--name", default="", help="What it is called.  [default: what it is of]")
@click.option("--limit", type=click.IntRange(1, 400), default=100, show_default=True)
@click.option("--expected", is_flag=True, help="Also what the laboratory has not received yet.")
@laboratory_options
@pass_context
def build(
    context: Context,
    analyzers: tuple[str, ...],
    tests: tuple[str, ...],
    departments: tuple[str, ...],
    wards: tuple[str, ...],
    priorities: tuple[str, ...],
    name: str,
    limit: int,
    expected: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Build a worksheet of what waits, in the order of `waiting`."""
    from interface.flow import worksheets
    from interface.store.worksheets import WorkFilter

    chosen = WorkFilter(analyzers, tests, departments, wards, tuple(map(Priority, priorities)), limit=limit)

    async def run() -> WorksheetView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            return await worksheets.build(connection, at.actor, chosen, name, expected=expected)

    _shown(asyncio.run(run()), as_json)


@worksheet.command("show", epilog=ENVIRONMENT)
@click.argument("name", metavar="[WORKSHEET]", default="")
@laboratory_options
@pass_context
def show(context: Context, name: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a worksheet with its places; without a name list the newest."""
    from interface.flow import worksheets
    from interface.store.worksheets import find

    async def run() -> list[WorksheetView]:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.RESULT_READ)
            async with at.transaction() as connection:
                if not name:
                    return await find(connection)
                found = await worksheets.view(connection, await _named(connection, name))
                await at.note_read(connection, "read", "worksheet", found.id, [item.patient_id for item in found.items])
        return [found]

    found = asyncio.run(run())
    if name:
        _shown(found[0], as_json)
    else:
        emit(found, as_json, ("number", "name", "state", "analyzer", "test_code", "created_at", "created_by", "qc"))


@worksheet.command("enter", epilog=ENVIRONMENT)
@click.argument("name", metavar="WORKSHEET")
@click.argument("values", nargs=-1, metavar="[PLACE=VALUE]...")
@click.option("--file", "file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True, exists=True),
              help="Lines of place, value, unit, comment and method with commas between; - reads stdin.")  # fmt: skip
@click.option("--version", type=click.IntRange(1),
              help="Of the worksheet you looked at: the same value again is the rerun that is asked for.")  # fmt: skip
@laboratory_options
@pass_context
def enter(
    context: Context,
    name: str,
    values: tuple[str, ...],
    file: Path | None,
    version: int | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Enter values at places of a worksheet, all of them or none. A value is in the test's own unit."""
    from interface.flow import worksheets
    from interface.flow.worksheets import PlaceEntry

    entries = [PlaceEntry(_place(place), value) for place, _, value in (text.partition("=") for text in values)]
    entries += _from_file(file) if file is not None else []
    if not entries:
        raise click.UsageError("say PLACE=VALUE, or --file")

    async def run() -> WorksheetView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            sheet, _ = await worksheets.enter(connection, at.actor, await _named(connection, name), entries, version)
        return sheet

    _shown(asyncio.run(run()), as_json)


@worksheet.command("complete", epilog=ENVIRONMENT)
@click.argument("name", metavar="WORKSHEET")
@click.option("--note", default="", help="What is to be kept with it.")
@click.option("--unmeasured", default="", metavar="REASON", help="Why what was not measured goes back to wait.")
@laboratory_options
@pass_context
def complete(
    context: Context,
    name: str,
    note: str,
    unmeasured: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Complete a worksheet, with the state of quality control of its tests."""
    from interface.flow import worksheets

    async def run() -> WorksheetView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            worksheet_id = await _named(connection, name)
            return await worksheets.complete(connection, at.actor, worksheet_id, note=note, unmeasured=unmeasured)

    _shown(asyncio.run(run()), as_json)


async def _named(connection: Connection, name: str) -> UUID:
    from interface.store.worksheets import find_id

    try:
        return UUID(name)
    except ValueError:
        found = await find_id(connection, name)
    if found is None:
        raise CommandError("there is no such worksheet")
    return found


def _place(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise click.UsageError("a value is entered as PLACE=VALUE")
    return int(text)


def _from_file(file: Path) -> list[PlaceEntry]:
    from interface.flow.worksheets import PlaceEntry

    with click.open_file(str(file), encoding="utf-8") as source:
        rows = [[cell.strip() for cell in row] for row in csv.reader(source) if row]
    if any(len(row) < 2 or len(row) > 5 or not row[0].isdigit() for row in rows):
        raise CommandError(f"{file}: each line is a place, a value, and if need be a unit, a comment and a method")
    return [PlaceEntry(int(row[0]), *row[1:]) for row in rows]


def _shown(sheet: WorksheetView, as_json: bool) -> None:
    if as_json:
        emit(sheet, as_json)
        return
    qc = f"qc {sheet.qc}" if sheet.qc else ""
    said = (sheet.number, sheet.name, sheet.state.value, f"version {sheet.version}", qc)
    click.echo(" ".join(part for part in said if part))
    emit(list(sheet.items), False, _PLACES)

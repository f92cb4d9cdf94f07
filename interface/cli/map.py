"""`labora map`: which code of which analyzer is which test; what waits for a mapping, what is doubtful or missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import (
    ENVIRONMENT,
    CommandError,
    Desk,
    desk,
    laboratory_options,
    only_organization,
)
from interface.cli.map_change import (
    apply,
    copy,
    import_,
    read_file,
    read_folder,
    scope_options,
    set_,
    undo,
    unset,
)
from interface.domain.map_files import Choices, FileFaults, FileRow, FileRows, understood
from interface.domain.map_lint import LINT_DAYS
from interface.domain.mapping import MapRow, Span
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.domain.map_lint import Finding
    from interface.flow.map_facts import Analyzers, LinkCoverage, Suggested, Waiting
    from interface.render.concept_map import MapLine
    from interface.settings import Settings
    from interface.store.db import Connection
    from interface.store.maps import MapChange

ROW_COLUMNS = (
    "driver", "link", "code", "specimen_type", "test", "loinc", "unit", "method", "valid_from", "valid_to", "origin",
    "revision",
)  # fmt: skip
FORMATS = ("csv", "conceptmap", "livd", "livd-xlsx")


@click.group("map")
def map_() -> None:
    """Map analyzers' codes to the laboratory's tests."""


for _command in (set_, unset, import_, apply, copy, undo):
    map_.add_command(_command)


@dataclass(frozen=True, slots=True)
class Table:
    """What a command that only reads works with."""

    desk: Desk
    connection: Connection
    analyzers: Analyzers
    at: datetime

    @property
    def since(self) -> datetime:
        return self.at - timedelta(days=LINT_DAYS)


@asynccontextmanager
async def _table(
    settings: Settings, organization: str | None, username: str | None, permission: Permission, action: str
) -> AsyncIterator[Table]:
    from interface.flow.map_facts import analyzers_of

    name = organization or only_organization(settings)
    async with desk(settings, name, username, named=False) as at:
        at.require(permission)
        async with at.transaction() as connection:
            yield Table(at, connection, analyzers_of(settings, name), datetime.now(UTC))
            await at.note_read(connection, action, "code_map")


# ---- rows and changes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows; "" and None ask nothing. `every`: also what is not valid now or not yet."""

    driver: str
    link: str
    code: str = ""
    test: str = ""
    site: bool = False
    every: bool = False

    def takes(self, row: MapRow, at: datetime) -> bool:
        return (
            (not self.driver or row.key.driver == self.driver)
            and (not self.link or row.key.link == self.link)
            and (not self.code or row.key.code == self.code)
            and (not self.test or row.span.target.test == self.test)
            and (not self.site or row.site)
            and (self.every or row.span.end is None or row.span.end > at)
        )


@map_.command("list", epilog=ENVIRONMENT)
@scope_options
@click.option("--code", default="", metavar="CODE")
@click.option("--test", default="", metavar="CODE", help="Rows that map to this test.")
@click.option("--site", is_flag=True, help="Only the site's own rows, not the shipped ones.")
@click.option("--all", "every", is_flag=True, help="Also rows whose time has passed.")
@laboratory_options
@pass_context
def list_rows(
    context: Context, /, driver: str, link: str, code: str, test: str, site: bool, every: bool,
    organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List the rows of the maps. For one code and specimen type the site's row wins, then the link's own."""
    from interface.cli.map_show import row_line

    chosen = Chosen(driver, link, code, test, site, every)
    found = asyncio.run(_rows(context.settings, organization, username, chosen))
    emit([row_line(row) for row in found], as_json, () if as_json else ROW_COLUMNS)
    if not found:
        click.echo("no rows", err=True)


async def _rows(settings: Settings, organization: str | None, username: str | None, chosen: Chosen) -> list[MapRow]:
    from interface.store.maps import read_rows

    async with _table(settings, organization, username, Permission.LINK_READ, "search") as at:
        return [row for row in await read_rows(at.connection) if chosen.takes(row, at.at)]


@map_.command("history", epilog=ENVIRONMENT)
@click.argument("number", required=False, type=click.IntRange(1))
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@laboratory_options
@pass_context
def history(
    context: Context, number: int | None, limit: int, organization: str | None, username: str | None, as_json: bool
) -> None:
    """List the changes of the maps, newest first: who, when, why; or the rows that one of them added and ended."""
    from interface.cli.map_show import row_line

    changes, added, ended = asyncio.run(_history(context.settings, organization, username, number, limit))
    if number is None:
        emit(changes, as_json, () if as_json else ("number", "at", "kind", "actor", "added", "ended", "reason"))
        return
    rows = {"added": [row_line(row) for row in added], "ended": [row_line(row) for row in ended]}
    if as_json:
        emit(asdict(changes[0]) | rows, True)
        return
    emit(changes[0], False)
    for what, lines in rows.items():
        if lines:
            emit(f"\n{what}", False)
            emit(lines, False, ROW_COLUMNS)


async def _history(
    settings: Settings, organization: str | None, username: str | None, number: int | None, limit: int
) -> tuple[list[MapChange], list[MapRow], list[MapRow]]:
    from interface.store import maps

    async with _table(settings, organization, username, Permission.LINK_READ, "search") as at:
        if number is None:
            return await maps.read_changes(at.connection, limit), [], []
        change = await maps.find_change(at.connection, number)
        if change is None:
            raise CommandError(f"there is no change {number}")
        added, ended = await maps.rows_of_change(at.connection, change.id)
        return [change], added, ended


# ---- export ----------------------------------------------------------------------------------------------------------


@map_.command("export", epilog=ENVIRONMENT)
@click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it there.  [default: stdout]")
@click.option("--site", is_flag=True, help="Only the site's own rows: what `map apply` takes back.")
@scope_options
@laboratory_options
@pass_context
def export(
    context: Context, /, form: str, output: Path | None, site: bool, driver: str, link: str,
    organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Export the rows in force and those of the future: CSV, FHIR ConceptMap, LIVD as Bundle or sheet.

    LIVD is of one analyzer, so of one --driver or --link, and of what is in force, with LOINC codes only.
    """
    if as_json:
        raise click.UsageError("--format says what it is written as")
    if form.startswith("livd") and not (driver or link):
        raise click.UsageError("LIVD is of one analyzer: give --driver or --link")
    data, left_out = asyncio.run(
        _export(context.settings, organization, username, form, Chosen(driver, link, site=site))
    )
    if output is None:
        click.echo(data, nl=False)
    else:
        output.write_bytes(data)
    if left_out:
        click.echo(f"{left_out} rows are not in it: no LOINC code, or not in force", err=True)
    click.echo("LOINC codes are under the LOINC license (https://loinc.org/license); see LOINC-NOTICE.md", err=True)


async def _export(
    settings: Settings, organization: str | None, username: str | None, form: str, chosen: Chosen
) -> tuple[bytes, int]:
    from interface.cli.map_show import row_line
    from interface.flow.map_facts import known_links
    from interface.render import concept_map
    from interface.render.map_table import write_csv, write_livd_sheet
    from interface.store.maps import read_rows

    async with _table(settings, organization, username, Permission.LINK_READ, "export") as at:
        links = await known_links(at.connection, at.analyzers)
        if chosen.link and chosen.link not in links:
            raise CommandError(f"there is no link {chosen.link!r}")
        rows = [row for row in await read_rows(at.connection) if chosen.takes(row, at.at)]
        name = organization or only_organization(settings)
    hidden = {row.key for row in rows if row.site and row.span.covers(at.at)}
    rows = [row for row in rows if row.site or row.key not in hidden]
    if form == "csv":
        return write_csv(_csv_row(asdict(row_line(row))) for row in rows), 0
    if form == "conceptmap":
        return concept_map.write_concept_map([_line(row) for row in rows], name, at.at), 0
    told = [row for row in rows if row.loinc and row.span.covers(at.at)]
    driver_id = chosen.driver or links[chosen.link]
    driver = at.analyzers.driver(driver_id)
    device = concept_map.Device(driver_id, driver.vendor if driver else "", driver.model if driver else "")
    if form == "livd":
        return concept_map.write_livd([_line(row) for row in told], device, name, at.at), len(rows) - len(told)
    sheet = ({
        "Publication Version ID": at.at.isoformat(timespec="seconds"), "Manufacturer": device.manufacturer,
        "Model": device.model, "Vendor Analyte Code": row.key.code, "Vendor Analyte Name": row.test_name,
        "Vendor Specimen Description": row.key.specimen_type, "Vendor Result Description": row.span.target.unit,
        "LOINC Code": row.loinc,
    } for row in told)  # fmt: skip
    return write_livd_sheet(sheet), len(rows) - len(told)


def _csv_row(line: dict[str, object]) -> dict[str, str]:
    """As `map import` takes it back: a row of a link names no driver twice, a code that is held has the mark for it."""
    told = {name: _text(value) for name, value in line.items() if name != "id"}
    return told | {"test": told["test"] or "-"}


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else "" if value is None else str(value)


def _line(row: MapRow) -> MapLine:
    from interface.render.concept_map import MapLine

    span: Span = row.span
    return MapLine(
        row.key.driver, row.key.link, row.key.code, row.key.specimen_type, span.target.test, row.test_name, row.loinc,
        span.target.unit, span.target.method, span.start, span.end, span.target.note,
    )  # fmt: skip


# ---- what waits, and what it may be ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """A code that holds results. `now`: the test that a map has for it by now; a replay decides its results anew."""

    link: str
    driver: str
    code: str
    specimen_type: str
    results: int
    controls: int
    first_seen: datetime
    last_seen: datetime
    names: tuple[str, ...]
    units: tuple[str, ...]
    examples: tuple[str, ...]
    now: str


@map_.command("unmapped", epilog=ENVIRONMENT)
@click.option("--link", default="", metavar="ID")
@laboratory_options
@pass_context
def unmapped(context: Context, link: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """List the codes that hold results because no test is known for them, as they are at this moment.

    `now` names the test of a code that has been mapped since: `labora message replay --unmapped CODE` is due.
    """
    found = asyncio.run(_unmapped(context.settings, organization, username, link))
    lines = [
        WaitingLine(
            code.link, code.driver, code.code, code.specimen_type, code.results, code.controls, code.first_seen,
            code.last_seen, code.names, tuple(filter(None, code.units)), code.examples, one.now,
        )
        for one in found
        for code in (one.code,)
    ]  # fmt: skip
    emit(lines, as_json)
    if not lines:
        click.echo("nothing waits for a mapping", err=True)


async def _unmapped(settings: Settings, organization: str | None, username: str | None, link: str) -> list[Waiting]:
    from interface.flow.map_facts import waiting

    async with _table(settings, organization, username, Permission.RESULT_READ, "search") as at:
        found = await waiting(at.connection, at.analyzers, at.since, at.at)
        return [one for one in found if link in ("", one.code.link)]


@map_.command("suggest", epilog=ENVIRONMENT)
@click.argument("codes", nargs=-1)
@click.option("--link", default="", metavar="ID")
@click.option(
    "--livd", "livd", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="A vendor's LIVD file, to be heard as well; repeat for more.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 50), default=5, show_default=True, help="Candidates for each code.")
@laboratory_options
@pass_context
def suggest(
    context: Context, codes: tuple[str, ...], link: str, livd: tuple[Path, ...], limit: int, organization: str | None,
    username: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Rank tests for unmapped codes: by names, units, LIVD files, other analyzers' maps and open orders.

    A suggestion maps nothing: `labora map set` does.
    """
    try:
        rows = [row for path in livd for row in read_file(path).rows]
    except FileFaults as error:
        for fault in error.faults:
            click.echo(f"labora: {fault}", err=True)
        return EXIT_FAILED
    found = asyncio.run(_suggest(context.settings, organization, username, link, codes, rows, limit))
    if as_json:
        emit([{"link": one.code.link, "driver": one.code.driver, "code": one.code.code,
               "specimen_type": one.code.specimen_type, "results": one.code.results,
               "candidates": list(one.candidates)} for one in found], True)  # fmt: skip
        return 0
    for one in found:
        on = f" on {one.code.specimen_type}" if one.code.specimen_type else ""
        emit(f"{one.code.link} {one.code.code}{on}: {one.code.results} results", False)
        for candidate in one.candidates:
            emit(f"  {candidate.score:3}  {candidate.test}  {candidate.name}: {'; '.join(candidate.reasons)}", False)
        if not one.candidates:
            emit("       nothing speaks for any test", False)
    if not found:
        click.echo("nothing waits for a mapping", err=True)
    return 0


async def _suggest(
    settings: Settings, organization: str | None, username: str | None, link: str, codes: Sequence[str],
    livd: Sequence[FileRow], limit: int,
) -> list[Suggested]:  # fmt: skip
    from interface.flow.map_facts import suggestions, waiting

    async with _table(settings, organization, username, Permission.RESULT_READ, "search") as at:
        chosen = [
            one.code
            for one in await waiting(at.connection, at.analyzers, at.since, at.at)
            if not one.now and link in ("", one.code.link) and (not codes or one.code.code in codes)
        ]
        return await suggestions(at.connection, at.analyzers, livd, chosen, limit)


# ---- lint and coverage -----------------------------------------------------------------------------------------------


@map_.command("lint", epilog=ENVIRONMENT)
@click.argument("path", required=False, type=click.Path(path_type=Path, exists=True))
@scope_options
@laboratory_options
@pass_context
def lint(
    context: Context, path: Path | None, driver: str, link: str, organization: str | None, username: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Check the maps, or a file or folder as if it were applied. Status 1 when there is an error.

    LOINC codes of impossible form, units that do not convert, duplicates, rows that nothing reaches, tests without a
    reference interval.
    """
    from interface.cli.map_show import finding_text

    try:
        read = None if path is None else read_folder(path) if path.is_dir() else read_file(path)
        found = asyncio.run(_lint(context.settings, organization, username, read, driver, link))
    except FileFaults as error:
        if as_json:
            emit(list(error.faults), True)
        for fault in error.faults:
            click.echo(f"labora: {fault}", err=True)
        return EXIT_FAILED
    if as_json:
        emit(found, True)
    else:
        for finding in found:
            emit(finding_text(finding), False)
    return EXIT_FAILED if any(one.severity == "error" for one in found) else 0


async def _lint(
    settings: Settings, organization: str | None, username: str | None, read: FileRows | None, driver: str, link: str
) -> list[Finding]:
    from interface.flow.map_facts import laboratory, lint_maps
    from interface.store.maps import read_rows

    async with _table(settings, organization, username, Permission.LINK_READ, "search") as at:
        if read is None:
            chosen = Chosen(driver, link)
            rows = [row for row in await read_rows(at.connection) if chosen.takes(row, at.at)]
        else:
            found = understood(read, await laboratory(at.connection, at.analyzers), Choices(driver, link))
            rows = [
                MapRow(UUID(int=number), one.key, Span(one.target, one.start or at.at, one.end), True, 0)
                for number, one in enumerate(found.wanted)
            ]
        return await lint_maps(at.connection, at.analyzers, rows, at.since, at.at)


@map_.command("coverage", epilog=ENVIRONMENT)
@click.option("--link", default="", metavar="ID")
@click.option("--codes", "with_codes", is_flag=True, help="Each code; in JSON they are always there.")
@laboratory_options
@pass_context
def coverage(
    context: Context, link: str, with_codes: bool, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Show per link how many of the codes that its driver declares or that it has sent lately are mapped now."""
    found = asyncio.run(_coverage(context.settings, organization, username, link))
    if as_json:
        emit(found, True)
        return
    emit(found, False, ("link", "driver", "declared", "seen", "mapped", "unmapped", "held"))
    for one in found if with_codes else ():
        emit(f"\n{one.link}", False)
        emit(list(one.codes), False)
    if not found:
        click.echo("no links", err=True)


async def _coverage(
    settings: Settings, organization: str | None, username: str | None, link: str
) -> list[LinkCoverage]:
    from interface.flow.map_facts import coverage as covered

    async with _table(settings, organization, username, Permission.LINK_READ, "search") as at:
        if link and link not in at.analyzers.links:
            raise CommandError(f"there is no analyzer link {link!r} in the configuration")
        return await covered(at.connection, at.analyzers, at.since, at.at, link or None)

"""`labora report`: reports of orders, workload, turn-around time and quality control, as files or on stdout."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, CommandError, Desk, desk, laboratory_options
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.store.db import Connection

T = TypeVar("T")
_DAY = click.DateTime(["%Y-%m-%d"])
_Command = TypeVar("_Command", bound=Callable[..., Any])
_paper = click.option("--paper", type=click.Choice(["a4", "letter"]), help="[default: the laboratory's]")
_output = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file that ends in .pdf."
)
_table_output = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="A file that ends in .csv or .pdf.  [default: CSV to stdout]",
)  # fmt: skip


@click.group()
def report() -> None:
    """Reports of orders, workload, turn-around time and quality control. docs/reports.md says what is in them."""


@report.command("order", epilog=ENVIRONMENT)
@click.argument("number")
@click.option("--version", type=click.IntRange(1), help="[default: the current one]")
@_paper
@click.option("--language", type=click.Choice(["en", "id"]), help="[default: the laboratory's]")
@click.option("--versions", "listed", is_flag=True, help="List the versions that were issued.")
@_output
@laboratory_options
@pass_context
def order(
    context: Context,
    number: str,
    version: int | None,
    paper: str | None,
    language: str | None,
    listed: bool,
    output: Path | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Write the report of the order NUMBER (the laboratory's, the placer's, or its id) as PDF; --json: its content."""
    if not (output or as_json or listed):
        raise click.UsageError("say where to, with -o FILE.pdf, or --json for what is in it")
    _ending(output, ".pdf")

    async def run(at: Desk, connection: Connection) -> tuple[Any, Any, bytes]:
        from interface.domain.report import Language, Paper
        from interface.flow import reports
        from interface.flow.report_watch import emr_audience

        at.require(Permission.RESULT_READ)
        audience, order_id = emr_audience(context.settings), await _order_id(connection, number)
        if listed:
            found = await reports.versions(connection, order_id, audience)
            await at.note_read(connection, "read", "report", order_id, (), {"versions": str(len(found))})
            return found, None, b""
        made = await reports.pdf_of(
            connection, order_id, audience, version, Paper(paper) if paper else None,
            Language(language) if language else None,
        )  # fmt: skip
        told = {"order": made.number, "version": str(made.report.version)}
        await at.note_read(connection, "print", "report", made.report.id, (made.patient_id,), told)
        return made.report, await reports.content_of(connection, made.report), made.body

    found, content, body = _at_desk(context, organization, username, run)
    if listed:
        if as_json:
            emit({"versions": found}, True)
        else:
            for one in found:
                click.echo(f"{one.version}\t{one.status}\t{one.created_at.isoformat()}")
        return
    if as_json:
        emit({"report": found, "content": content}, True)
    if output is not None:
        output.write_bytes(body)
        click.echo(f"{output}: version {found.version}, {found.status}", err=True)


def _period_options(command: _Command) -> _Command:
    for option in reversed((
        click.option("--from", "first", type=_DAY, help="The first day.  [default: 30 days]"),
        click.option("--to", "last", type=_DAY, help="The last day.  [default: today]"),
        click.option("--zone", default="", metavar="ZONE", help="Time zone.  [default: of the reports]"),
        click.option("--by", type=click.Choice(["test", "department", "analyzer", "priority", "day"]),
                     default="department", show_default=True),
        _paper, _table_output, laboratory_options,
    )):  # fmt: skip
        command = option(command)
    return command


@report.command("workload", epilog=ENVIRONMENT)
@_period_options
@pass_context
def workload(context: Context, /, **asked: Any) -> None:
    """How much was done: results, those released and by whom, held, corrected, runs, orders, specimens."""
    _of_period(context, "workload", **asked)


@report.command("turnaround", epilog=ENVIRONMENT)
@_period_options
@pass_context
def turnaround(context: Context, /, **asked: Any) -> None:
    """How long it took, stage by stage: median, the time nine of ten took, and how many met their target."""
    _of_period(context, "turnaround", **asked)


def _of_period(
    context: Context, kind: str, first: datetime | None, last: datetime | None, zone: str, by: str, paper: str | None,
    output: Path | None, organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    _ending(output, ".csv", ".pdf")

    async def run(at: Desk, connection: Connection) -> Any:
        from interface.domain.statistics import By
        from interface.flow import statistics

        at.require(Permission.RESULT_READ)
        period = await statistics.period_of(
            connection, first.date() if first else None, last.date() if last else None, zone
        )
        await at.note_read(connection, "read", f"{kind}_report", None, (), {"by": by})
        make = statistics.workload if kind == "workload" else statistics.turnaround
        return at.actor.name, await make(connection, period, By(by))

    name, made = _at_desk(context, organization, username, run)
    from interface.render import statistics_table as tables

    if kind == "workload":
        _written(made, tables.workload_csv, tables.workload_pdf, name, paper, output, as_json)
    else:
        _written(made, tables.turnaround_csv, tables.turnaround_pdf, name, paper, output, as_json)


@report.command("qc", epilog=ENVIRONMENT)
@click.option("--month", required=True, metavar="YYYY-MM")
@click.option("--zone", default="", metavar="ZONE", help="Time zone.  [default: of the plan]")
@_paper
@_table_output
@laboratory_options
@pass_context
def qc(
    context: Context,
    month: str,
    zone: str,
    paper: str | None,
    output: Path | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """A month's summary of quality control: each lot of each level with its statistics; the PDF has the charts too."""
    _ending(output, ".csv", ".pdf")

    async def run(at: Desk, connection: Connection) -> Any:
        from interface.flow import qc_reports

        at.require(Permission.QC_READ)
        named = qc_reports.zone_named(zone) if zone else None
        await at.note_read(connection, "read", "qc_report", None, (), {"month": month})
        return await qc_reports.month(connection, at.actor, month, zone=named)

    made = _at_desk(context, organization, username, run)
    from interface.domain.statistics import qc_summary
    from interface.render import qc_pdf
    from interface.render import statistics_table as tables

    _written(
        made, tables.qc_csv, lambda found, on, *_: qc_pdf.pdf(found, on), "", paper, output, as_json, qc_summary(made)
    )


@report.command("settings", epilog=ENVIRONMENT)
@click.option("--address", help="Of the laboratory, on one line.")
@click.option("--phone")
@click.option("--director", metavar="NAME")
@click.option("--accreditation", metavar="TEXT")
@click.option("--zone", metavar="ZONE", help="Of all times on the page and of the days of ages, such as Asia/Jakarta.")
@click.option("--paper", type=click.Choice(["a4", "letter"]))
@click.option("--language", type=click.Choice(["en", "id"]))
@laboratory_options
@pass_context
def settings(
    context: Context,
    /, organization: str | None, username: str | None, as_json: bool, paper: str | None,
    language: str | None, **texts: str | None,
) -> None:  # fmt: skip
    """Show how reports of orders look; with options, change it (as a user with catalogue:write)."""
    changing = any(value is not None for value in (paper, language, *texts.values()))

    async def run(at: Desk, connection: Connection) -> Any:
        from interface.domain.report import Language, Paper
        from interface.flow import reports

        at.require(Permission.CATALOGUE_WRITE if changing else Permission.ORDER_READ)
        if not changing:
            return await reports.get_settings(connection)
        change = reports.SettingsChange(
            texts["address"],
            texts["phone"],
            texts["director"],
            texts["accreditation"],
            texts["zone"],
            paper=Paper(paper) if paper else None,
            language=Language(language) if language else None,
        )
        return await reports.change_settings(connection, at.actor, change)

    found = _at_desk(context, organization, username, run, named=changing)
    if as_json:
        emit(found, True)
        return
    for name in ("address", "phone", "director", "accreditation", "zone", "paper", "language"):
        click.echo(f"{name}\t{getattr(found, name)}")


@report.command("target", epilog=ENVIRONMENT)
@click.argument("targets", nargs=-1, metavar="[STAGE=MINUTES[,test=CODE][,department=NAME][,priority=WORD]]...")
@click.option("--none", "empty", is_flag=True, help="There are no targets any more.")
@laboratory_options
@pass_context
def target(
    context: Context, targets: tuple[str, ...], empty: bool, organization: str | None, username: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show the targets of turn-around; given some, they take the place of all (as a user with catalogue:write)."""
    wanted = [_target(text) for text in targets]

    async def run(at: Desk, connection: Connection) -> Any:
        from interface.flow import statistics

        changing = bool(wanted) or empty
        at.require(Permission.CATALOGUE_WRITE if changing else Permission.RESULT_READ)
        return await (statistics.put_targets(connection, at.actor, wanted) if changing
                      else statistics.targets(connection))  # fmt: skip

    found = _at_desk(context, organization, username, run, named=bool(wanted) or empty)
    if as_json:
        emit({"targets": found}, True)
        return
    for one in found:
        click.echo("\t".join((one.stage, str(one.minutes), one.test, one.department, one.priority)))


def _target(text: str) -> Any:
    from interface.domain.statistics import Stage, Target

    first, *more = text.split(",")
    stage, _, minutes = first.partition("=")
    given = dict(part.partition("=")[::2] for part in more)
    if stage not in list(Stage) or not minutes.isdecimal() or set(given) - {"test", "department", "priority"}:
        raise click.UsageError(f"{text!r} is no target; it reads {Stage.RECEIVED_RELEASED}=60,priority=stat; stages: "
                               + ", ".join(Stage))  # fmt: skip
    return Target(Stage(stage), int(minutes), **given)


# ---- what they share ------------------------------------------------------------------------------------------------


def _at_desk(
    context: Context, organization: str | None, username: str | None,
    run: Callable[[Desk, Connection], Awaitable[T]], named: bool = False,
) -> T:  # fmt: skip
    async def work() -> T:
        async with desk(context.settings, organization, username, named=named) as at:
            async with at.transaction() as connection:
                return await run(at, connection)

    return asyncio.run(work())


async def _order_id(connection: Connection, number: str) -> UUID:
    from interface.domain.views import Audience
    from interface.store.lab import OrderFilter, find_orders

    try:
        return UUID(number)
    except ValueError:
        found = await find_orders(connection, OrderFilter(numbers=(number,)), Audience.STAFF)
    if len(found) != 1:
        raise CommandError("there is no order of this number" if not found else "several orders have this number")
    return found[0].id


def _ending(output: Path | None, *endings: str) -> None:
    if output is not None and output.suffix.lower() not in endings:
        raise click.UsageError(f"it is written to a file that ends in {' or '.join(endings)}")


def _written(
    made: T, csv: Callable[[T], str], pdf: Callable[..., bytes], name: str, paper: str | None, output: Path | None,
    as_json: bool, shown: object = None,
) -> None:  # fmt: skip
    if as_json:
        emit(shown if shown is not None else made, True)
    if output is None:
        if not as_json:
            sys.stdout.write(csv(made))
        return
    if output.suffix.lower() == ".csv":
        output.write_text(csv(made), encoding="utf-8")
    else:
        from interface.domain.report import Paper

        output.write_bytes(pdf(made, Paper(paper or "a4"), datetime.now(UTC), name))
    click.echo(str(output), err=True)

"""`labora qc chart` and `labora qc report`: pictures of quality control, as files."""

from __future__ import annotations

import asyncio
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, desk, laboratory_options
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.domain.qc import Chart
    from interface.domain.qc_report import MonthReport

_DAY = click.DateTime(["%Y-%m-%d"])
_zone_option = click.option(
    "--zone", metavar="ZONE", help="Time zone, such as Asia/Jakarta.  [default: of the plan]"
)  # fmt: skip


@click.command("chart", epilog=ENVIRONMENT)
@click.argument("test")
@click.option("--analyzer", required=True, metavar="NAME")
@click.option("--module", metavar="NAME", help="Needed where the test is controlled on several.")
@click.option("--days", type=click.IntRange(1), default=30, show_default=True, help="So many, today the last.")
@click.option("--from", "first", type=_DAY, help="The first day, in place of --days.")
@click.option("--to", "last", type=_DAY, help="The last day, in place of today.")
@_zone_option
@click.option("--together", is_flag=True, help="All levels in one panel.")
@click.option("--width", type=click.IntRange(480, 3000), default=800, show_default=True, help="Pixels.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
              help="A file that ends in .svg or .png.  [default: SVG to stdout]")  # fmt: skip
@laboratory_options
@pass_context
def chart(
    context: Context,
    test: str,
    analyzer: str,
    module: str | None,
    days: int,
    first: datetime | None,
    last: datetime | None,
    zone: str | None,
    together: bool,
    width: int,
    output: Path | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Draw a Levey-Jennings chart of TEST, a code of the catalogue."""
    ending = output.suffix.lower() if output is not None else ".svg"
    if ending not in (".svg", ".png"):
        raise click.UsageError("a chart is written to a file that ends in .svg or .png")

    async def run() -> tuple[Chart, tzinfo]:
        from interface.flow import qc_reports

        wanted = qc_reports.zone_named(zone) if zone else None
        begin, end = first.date() if first else None, last.date() if last else None
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.QC_READ)
            async with at.transaction() as connection:
                found = await qc_reports.chart(
                    connection, analyzer, test, module=module, days=days, first=begin, last=end, zone=wanted
                )
                said = {"analyzer": analyzer, "module": found[0].module, "test": test}
                await at.note_read(connection, "read", "qc_chart", None, (), said)
        return found

    made, of = asyncio.run(run())
    if as_json:
        emit({"chart": made, "zone": str(of)}, True)
    if output is None and as_json:
        return
    from interface.render.charts import Look, levey_jennings
    from interface.render.drawing import svg

    drawing = levey_jennings(made, Look(width, of, together))
    if output is None:
        click.echo(svg(drawing), nl=False)
    elif ending == ".svg":
        output.write_text(svg(drawing), encoding="utf-8")
    else:
        from interface.render.png import png

        output.write_bytes(png(drawing))
    if output is not None:
        click.echo(f"{output}: {len(made.points)} points", err=True)


@click.command("report", epilog=ENVIRONMENT)
@click.option("--month", required=True, metavar="YYYY-MM")
@_zone_option
@click.option("--paper", type=click.Choice(["a4", "letter"]), default="a4", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file that ends in .pdf.")
@laboratory_options
@pass_context
def report(
    context: Context,
    month: str,
    zone: str | None,
    paper: str,
    output: Path | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Write a month's report of quality control as PDF: statistics, charts, failures and what was done about them."""
    if output is None and not as_json:
        raise click.UsageError("say where to, with -o FILE.pdf, or --json for what is in it")
    if output is not None and output.suffix.lower() != ".pdf":
        raise click.UsageError("a report is written to a file that ends in .pdf")

    async def run() -> MonthReport:
        from interface.flow import qc_reports

        wanted = qc_reports.zone_named(zone) if zone else None
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.QC_READ)
            async with at.transaction() as connection:
                made = await qc_reports.month(connection, at.actor, month, zone=wanted)
                await at.note_read(connection, "print", "qc_report", None, (), {"month": month})
        return made

    made = asyncio.run(run())
    if as_json:
        emit(made, True)
    if output is not None:
        from interface.render.pdf import Paper
        from interface.render.qc_pdf import pdf

        output.write_bytes(pdf(made, Paper(paper)))
        click.echo(f"{output}: {sum(not one.empty for one in made.streams)} of {len(made.streams)} tests", err=True)

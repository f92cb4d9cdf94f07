"""`labora qc pbrtqc`: quality control by the patients' own results. What changes something is in `qc_pbrtqc_change`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interface.cli import Context, emit, pass_context, qc_pbrtqc_change
from interface.cli.laboratory import ENVIRONMENT, INSTANT, aware, desk, laboratory_options
from interface.domain.permissions import Permission
from interface.domain.times import earlier

if TYPE_CHECKING:
    from interface.domain.pbrtqc_simulation import Bias
    from interface.flow.pbrtqc import Simulated
    from interface.settings import Settings
    from interface.store.db import Connection

_Made = TypeVar("_Made")
LISTED = (
    "version", "analyzer", "module", "test", "mode", "since", "statistic", "block", "low", "high", "validated", "void",
)  # fmt: skip
STATUS = (
    "version", "analyzer", "module", "test", "mode", "values", "statistic", "low", "high", "inside", "last_at", "alarm",
    "gates", "alarm_since", "void",
)  # fmt: skip
ALARMS = ("id", "kind", "since", "mode", "gates", "side", "statistic", "bound", "reason", "by", "at")
BIASES = ("bias", "median", "p95", "undetected", "undetected_fraction")
CHART = ("value", "at", "statistic")
CHART_DAYS = 30
NAMED = click.argument("version", metavar="NAME[@REVISION]")


@click.group()
def pbrtqc() -> None:
    """Quality control by the patients' own results: a moving statistic, its limits, its alarms. docs/qc.md."""


def version_of(text: str) -> tuple[str, int | None]:
    """`hgb@3`, or `hgb` for its newest. Raises UsageError."""
    name, at, number = text.partition("@")
    if not name or (at and not (number.isascii() and number.isdigit() and int(number[:9]) > 0)):
        raise click.UsageError(f"{text!r} is not NAME or NAME@REVISION")
    return name, int(number[:9]) if at else None


async def _read(
    settings: Settings,
    organization: str | None,
    username: str | None,
    what: Callable[[Connection], Awaitable[_Made]],
    noted: tuple[str, str],
    permission: Permission = Permission.QC_READ,
) -> _Made:
    """What `what` reads; `noted`: as the audit says it."""
    async with desk(settings, organization, username, named=False) as at:
        at.require(permission)
        async with at.transaction() as connection:
            found = await what(connection)
            await at.note_read(connection, *noted)
            return found


# ---- what there is --------------------------------------------------------------------------------------------------


@pbrtqc.command("list", epilog=ENVIRONMENT)
@click.option("--name", default="", help="Only the revisions of this plan.")
@laboratory_options
@pass_context
def list_plans(context: Context, name: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """List plans, the newest revision first, and why one may not gate."""
    from interface.flow import pbrtqc_shown as shown
    from interface.store import pbrtqc as store

    found = asyncio.run(
        _read(
            context.settings, organization, username, lambda connection: store.read_revisions(connection, name),
            ("search", "pbrtqc_plan"),
        )
    )  # fmt: skip
    rows = [shown.revision(one) for one in found]
    emit(rows, as_json, () if as_json else LISTED)
    if not found:
        click.echo("no plans; `labora qc pbrtqc plan` writes one", err=True)


@pbrtqc.command("show", epilog=ENVIRONMENT)
@NAMED
@laboratory_options
@pass_context
def show(context: Context, version: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show everything a plan's revision says, and its validation; the newest without a number."""
    from interface.flow import pbrtqc as flow
    from interface.flow import pbrtqc_shown as shown

    named = version_of(version)
    found = asyncio.run(
        _read(
            context.settings, organization, username, lambda connection: flow.find(connection, *named),
            ("read", "pbrtqc_plan"),
        )
    )  # fmt: skip
    told = shown.whole(found)
    if as_json:
        emit(told, True)
        return
    plan: Any = told.pop("plan")
    validation: Any = told.pop("validation") or {}
    goals, biases = plan.pop("goals"), validation.pop("biases", [])
    emit(dict(_lines({**told, **plan, "validation": validation})), False)
    for rows in (goals, biases):
        if rows:
            click.echo()
            emit(rows, False)


def _lines(told: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Parts within parts as lines of their own; what is not said is left out."""
    for key, value in told.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{before}{key} ")
        elif value not in (None, "", (), []):
            yield f"{before}{key}", value


@pbrtqc.command("status", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def status(context: Context, organization: str | None, username: str | None, as_json: bool) -> None:
    """Where each plan in use stands: values counted, the statistic now, the alarm that is open."""
    from interface.flow import pbrtqc as flow
    from interface.flow import pbrtqc_shown as shown

    found = asyncio.run(_read(context.settings, organization, username, flow.status, ("search", "pbrtqc_state")))
    emit([shown.status(one) for one in found], as_json, () if as_json else STATUS)
    if not found:
        click.echo("no plan is in use", err=True)


@pbrtqc.command("alarms", epilog=ENVIRONMENT)
@click.option("--name", default="", help="Only of this plan.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def alarms(
    context: Context, name: str, limit: int, organization: str | None, username: str | None, as_json: bool
) -> None:
    """List alarms and what ended them, the newest first."""
    from interface.flow import pbrtqc_shown as shown
    from interface.store import pbrtqc as store

    found = asyncio.run(
        _read(
            context.settings, organization, username, lambda connection: store.read_events(connection, name, limit),
            ("search", "pbrtqc_event"),
        )
    )  # fmt: skip
    emit([shown.event(one) for one in found], as_json, () if as_json else ALARMS)
    if not found:
        click.echo("no alarms", err=True)


@pbrtqc.command("chart-data", epilog=ENVIRONMENT)
@NAMED
@click.option(
    "--from", "begin", type=INSTANT, help="Of results measured then or later.  [default: 30 days before --to]"
)
@click.option("--to", "end", type=INSTANT, help="Of results measured before.  [default: now]")
@click.option("--values", type=click.IntRange(1, 1_000_000), default=5000, show_default=True, help="The newest.")
@click.option("--days", is_flag=True, help="The extremes of each day in place of the values.")
@laboratory_options
@pass_context
def chart_data(
    context: Context,
    version: str,
    begin: datetime | None,
    end: datetime | None,
    values: int,
    days: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """The statistic after each result that was counted, as a chart shows it; no patient's value."""
    from interface.flow import pbrtqc as flow
    from interface.flow import pbrtqc_shown as shown

    named, until = version_of(version), aware(end) or datetime.now(UTC)
    since = aware(begin) or earlier(until, timedelta(days=CHART_DAYS))
    found = asyncio.run(
        _read(
            context.settings, organization, username,
            lambda connection: flow.chart_data(connection, *named, since, until, values), ("read", "pbrtqc_value"),
        )
    )  # fmt: skip
    told: Any = shown.chart(found)
    if as_json:
        emit(told, True)
        return
    emit(told["days"] if days else told["values"], False, () if days else CHART)
    words = f"{len(found.values)} values, {len(found.events)} events"
    low, centre, high = (f"{number:f}" for number in (found.limits.low, found.limits.centre, found.limits.high))
    click.echo(f"{found.revision.version}: {words}; limits {low} to {high}, centre {centre}", err=True)


# ---- simulations ----------------------------------------------------------------------------------------------------


@pbrtqc.command("simulate", epilog=ENVIRONMENT)
@NAMED
@click.option("--from", "begin", type=INSTANT, required=True, help="Of results decided then or later; a date is UTC.")
@click.option("--to", "end", type=INSTANT, required=True, help="Of results decided before.")
@click.option("--bias", "biases", multiple=True, metavar="BIAS", help="10%, -0.5SD or 0.4.  [default: the goals']")
@click.option("--seed", type=click.IntRange(0), help="Of the positions.  [default: the plan's own]")
@click.option("--runs", type=click.IntRange(1), default=200, show_default=True, help="Positions for each bias.")
@laboratory_options
@pass_context
def simulate(
    context: Context,
    version: str,
    begin: datetime,
    end: datetime,
    biases: tuple[str, ...],
    seed: int | None,
    runs: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Put biases into the laboratory's own results and count the patients until each is found. Nothing is kept."""
    from interface.flow import pbrtqc as flow

    named, asked = version_of(version), [bias_of(text) for text in biases]
    since, until = aware(begin) or begin, aware(end) or end
    started = time.monotonic()
    done = asyncio.run(
        _read(
            context.settings, organization, username,
            lambda connection: flow.run(connection, *named, since, until, asked, seed=seed, runs=runs),
            ("simulate", "pbrtqc_plan"), Permission.QC_MANAGE,
        )
    )  # fmt: skip
    say_simulated(done, as_json, time.monotonic() - started)


def bias_of(text: str) -> Bias:
    """Raises UsageError."""
    from interface.domain.pbrtqc_plan import parse_bias
    from interface.domain.pbrtqc_simulation import Bias as Made

    try:
        made: Made = parse_bias(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return made


def say_simulated(done: Simulated, as_json: bool, took_s: float) -> None:
    """Figures on stdout, words and the goals that were missed on stderr."""
    from interface.flow import pbrtqc_shown as shown

    told: Any = shown.simulated(done)
    emit(told if as_json else told["biases"], as_json, () if as_json else BIASES)
    false = told["false_alarms"]
    words = f"{false['alarms']} false alarms on {false['alarm_days']} of {false['days']} days"
    runs = f"{told['runs']} runs of {told['horizon']} patients each"
    click.echo(f"{told['version']}: {told['results']} results, {words}; {runs}; {took_s:.1f} s", err=True)
    for text in done.unmet or ():
        click.echo(f"not met: {text}", err=True)


qc_pbrtqc_change.join(pbrtqc)

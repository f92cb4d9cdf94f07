"""The commands of `labora qc pbrtqc` that change something: each by a Labora user, audited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, Desk, aware, desk, laboratory_options
from interface.cli.test import EXACT, reason_option
from interface.domain.pbrtqc import Mode, Outlying, Statistic

if TYPE_CHECKING:
    from interface.domain.pbrtqc_plan import Goal
    from interface.flow.pbrtqc import Draft
    from interface.settings import Settings
    from interface.store.db import Connection
    from interface.store.pbrtqc import Event, Revision

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Made = TypeVar("_Made")
EXACTLY = click.argument("version", metavar="NAME@REVISION")


def join(group: click.Group) -> None:
    """Put the commands into `labora qc pbrtqc`."""
    for command in (plan, validate, activate, deactivate, close):
        group.add_command(command)


def _exactly(text: str) -> tuple[str, int]:
    """A revision by its number: what is proved or used is named, never "the newest"."""
    from interface.cli.qc_pbrtqc import version_of

    name, revision = version_of(text)
    if revision is None:
        raise click.UsageError(f"say which revision: {name}@NUMBER")
    return name, revision


async def _change(
    settings: Settings,
    organization: str | None,
    username: str | None,
    change: Callable[[Connection, Desk], Awaitable[_Made]],
) -> _Made:
    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        return await change(connection, at)


def _say(made: Revision, as_json: bool, words: str) -> None:
    from interface.flow import pbrtqc_shown as shown

    emit(shown.revision(made) if as_json else made.version, as_json)
    click.echo(f"{made.version} {words}", err=True)


# ---- plans ----------------------------------------------------------------------------------------------------------


def _method(command: _Command) -> _Command:
    """How the statistic is computed."""
    options = (
        click.option("--statistic", type=click.Choice([one.value for one in Statistic]), required=True),
        click.option("--block", type=click.IntRange(1), required=True, help="Values in it; ewma: before the first."),
        click.option("--weight", type=EXACT, help="Of the newest value in an ewma, such as 0.1."),
        click.option("--outlying", type=click.Choice([one.value for one in Outlying]), default=Outlying.KEEP.value,
                     show_default=True, help="What becomes of values below --low and above --high."),
        click.option("--low", type=EXACT),
        click.option("--high", type=EXACT),
        click.option("--boxcox", type=EXACT, help="Exponent of the transform; 0 is the logarithm."),
        click.option("--restart-after", "restart_after_min", type=click.IntRange(1), metavar="MINUTES",
                     help="A longer pause between results begins anew.  [default: none does]"),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _wanted(command: _Command) -> _Command:
    """Where limits come from, and what a validation must show."""
    options = (
        click.option("--from", "begin", type=INSTANT, help="Training: of results decided then or later."),
        click.option("--to", "end", type=INSTANT, help="Training: of results decided before."),
        click.option("--rate", type=EXACT, help="Wanted: the fraction of days with a false alarm, such as 0.05."),
        click.option("--limits", type=(EXACT, EXACT, EXACT), metavar="LOW CENTRE HIGH", help="In place of a training."),
        click.option("--goal", "goals", multiple=True, metavar="TEXT",
                     help='"NAME BIAS median=N p95=N undetected=FRACTION", such as "tea 10% median=40 p95=120".'),
        click.option("--most-false-alarms", type=EXACT, help="A day, in a validation."),
        click.option("--horizon", type=click.IntRange(1), default=1000, show_default=True,
                     help="Patients within whom a bias is to be found."),
        click.option("--day-begins", "day_begins_min", type=click.IntRange(0, 1439), default=0, show_default=True,
                     metavar="MINUTES", help="After midnight UTC."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command("plan", epilog=ENVIRONMENT)
@click.argument("name")
@click.option("--analyzer", required=True, metavar="NAME")
@click.option("--module", default="", help="Only this module of it.")
@click.option("--test", required=True, metavar="CODE")
@_method
@_wanted
@click.option("--exclude-ward", "wards", multiple=True, metavar="WARD", help="Whose results are not counted.")
@click.option("--exclude-group", "groups", multiple=True, metavar="GROUP", help="Patients who are not counted.")
@reason_option
@laboratory_options
@pass_context
def plan(
    context: Context, /, reason: str, organization: str | None, username: str | None, as_json: bool, **asked: Any
) -> None:
    """Write the next revision of plan NAME, its limits from a training period of the laboratory's own results.

    Nothing follows by it: `validate` proves it, `activate` puts it to use.
    """
    from interface.flow import pbrtqc

    draft = _draft(**asked)

    async def change(connection: Connection, at: Desk) -> Revision:
        return await pbrtqc.write(connection, at.actor, draft, reason)

    made = asyncio.run(_change(context.settings, organization, username, change))
    limits = pbrtqc.plan_of(made).limits
    _say(made, as_json, f"is written: limits {limits.low:f} to {limits.high:f}, centre {limits.centre:f}")


def _draft(
    *, name: str, analyzer: str, test: str, module: str, statistic: str, block: int, weight: Decimal | None,
    outlying: str, low: Decimal | None, high: Decimal | None, boxcox: Decimal | None, restart_after_min: int | None,
    begin: datetime | None, end: datetime | None, rate: Decimal | None, limits: tuple[Decimal, Decimal, Decimal] | None,
    goals: tuple[str, ...], most_false_alarms: Decimal | None, horizon: int, day_begins_min: int,
    wards: tuple[str, ...], groups: tuple[str, ...],
) -> Draft:  # fmt: skip
    from interface.domain.pbrtqc import Limits, Method
    from interface.flow.pbrtqc import Draft as Made

    return Made(
        name, analyzer, test,
        Method(Statistic(statistic), block, weight, Outlying(outlying), low, high, boxcox, restart_after_min), module,
        Limits(limits[0], limits[2], limits[1]) if limits else None, aware(begin), aware(end), rate, wards, groups,
        day_begins_min, tuple(map(_goal, goals)), most_false_alarms, horizon,
    )  # fmt: skip


def _goal(text: str) -> Goal:
    from interface.domain.pbrtqc_plan import parse_goal

    try:
        return parse_goal(text)
    except ValueError as error:
        raise click.UsageError(f"--goal: {error}") from None


@click.command("validate", epilog=ENVIRONMENT)
@EXACTLY
@click.option("--from", "begin", type=INSTANT, required=True, help="Of results decided then or later; a date is UTC.")
@click.option("--to", "end", type=INSTANT, required=True, help="Of results decided before.")
@click.option("--runs", type=click.IntRange(1), default=200, show_default=True, help="Positions for each bias.")
@laboratory_options
@pass_context
def validate(
    context: Context,
    version: str,
    begin: datetime,
    end: datetime,
    runs: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> int:
    """Simulate a revision's goals over results it was not trained on, and keep the outcome.

    Status 1 when a goal is missed. The seed is the revision's own. Only a revision whose newest validation met its
    goals may warn or hold.
    """
    from interface.cli.qc_pbrtqc import say_simulated
    from interface.flow import pbrtqc

    name, revision = _exactly(version)
    since, until = aware(begin) or begin, aware(end) or end
    started = time.monotonic()

    async def change(connection: Connection, at: Desk) -> pbrtqc.Simulated:
        return await pbrtqc.validate(connection, at.actor, name, revision, since, until, runs=runs)

    done = asyncio.run(_change(context.settings, organization, username, change))
    say_simulated(done, as_json, time.monotonic() - started)
    return EXIT_FAILED if done.unmet else 0


# ---- uses and alarms ------------------------------------------------------------------------------------------------


@click.command("activate", epilog=ENVIRONMENT)
@EXACTLY
@click.option(
    "--mode",
    type=click.Choice([one.value for one in Mode]),
    default=Mode.WATCH.value,
    show_default=True,
    help="What an alarm does: it is told; the stream's state is WARN; it is FAIL, which holds results.",
)
@reason_option
@laboratory_options
@pass_context
def activate(
    context: Context,
    version: str,
    mode: str,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Let a revision follow its analyzer and test from now on, in place of another of its name.

    To warn or hold wants a validation of exactly this revision that met its goals.
    """
    from interface.flow import pbrtqc

    name, revision = _exactly(version)

    async def change(connection: Connection, at: Desk) -> Revision:
        return await pbrtqc.activate(connection, at.actor, name, revision, Mode(mode), reason)

    _say(asyncio.run(_change(context.settings, organization, username, change)), as_json, f"follows, to {mode}")


@click.command("deactivate", epilog=ENVIRONMENT)
@click.argument("name")
@reason_option
@laboratory_options
@pass_context
def deactivate(
    context: Context, name: str, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Let a plan follow no more. Refused while an alarm of it warns or holds."""
    from interface.flow import pbrtqc

    async def change(connection: Connection, at: Desk) -> Revision:
        return await pbrtqc.deactivate(connection, at.actor, name, reason)

    _say(asyncio.run(_change(context.settings, organization, username, change)), as_json, "follows no more")


@click.command("close", epilog=ENVIRONMENT)
@click.argument("alarm_id", type=click.UUID)
@reason_option
@laboratory_options
@pass_context
def close(
    context: Context, alarm_id: UUID, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """End an alarm, and what it warns or holds: --reason says what was found and done. The statistic begins anew."""
    from interface.flow import pbrtqc
    from interface.flow import pbrtqc_shown as shown
    from interface.flow.qc_sweep import follow

    async def run() -> Event:
        async with desk(context.settings, organization, username, named=True) as at:
            async with at.transaction() as connection:
                event = await pbrtqc.close(connection, at.actor, alarm_id, reason)
            await follow(at.database, at.actor.organization_id)
            return event

    event = asyncio.run(run())
    emit(shown.event(event) if as_json else str(event.id), as_json)
    click.echo(f"the alarm is closed; the statistic begins anew{'; the gate knows' if event.gates else ''}", err=True)

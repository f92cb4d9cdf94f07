"""`labora interval`: reference intervals and critical limits. A change ends one and adds another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, CommandError, aware, laboratory_options
from interface.cli.test import EXACT, change, read, reason_option
from interface.domain.model import Interval, IntervalUse, Sex
from interface.domain.views import Actor, IntervalView

if TYPE_CHECKING:
    from interface.store.db import Connection

_Command = TypeVar("_Command", bound=Callable[..., Any])
COLUMNS = (
    "test", "low", "high", "critical_low", "critical_high", "unit", "sex", "age_low_d", "age_high_d", "specimen_type",
    "text", "priority", "valid_from", "valid_to", "source", "id",
)  # fmt: skip
_OPTIONS = (
    click.option("--low", type=EXACT),
    click.option("--high", type=EXACT),
    click.option("--critical-low", type=EXACT),
    click.option("--critical-high", type=EXACT),
    click.option("--unit", help="UCUM.  [default: the test's]"),
    click.option("--text", help="Shown in place of the limits."),
    click.option("--sex", type=click.Choice([Sex.FEMALE.value, Sex.MALE.value])),
    click.option("--age-low-d", type=click.IntRange(0), help="Days at collection, from this on."),
    click.option("--age-high-d", type=click.IntRange(1), help="Days at collection, below this."),
    click.option("--age-low-h", type=click.IntRange(0), help="Hours, in place of days."),
    click.option("--age-high-h", type=click.IntRange(1)),
    click.option("--pregnant/--not-pregnant", default=None),
    click.option("--gestation-low-w", type=click.IntRange(0), help="Weeks of gestation."),
    click.option("--gestation-high-w", type=click.IntRange(1)),
    click.option("--specimen-type", metavar="CODE"),
    click.option("--method", help="Measured by it only, as a map or the analyzer calls it.  [default: any]"),
    click.option("--analyzer", metavar="NAME"),
    click.option("--use", type=click.Choice([use.value for use in IntervalUse])),
    click.option("--normal", "normal_values", multiple=True, metavar="WORD"),
    click.option("--abnormal", "abnormal_values", multiple=True, metavar="WORD"),
    click.option("--critical", "critical_values", multiple=True, metavar="WORD"),
    click.option("--priority", type=int, help="Of two that apply alike, the higher."),
)


def _limits(command: _Command) -> _Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def flat(view: IntervalView) -> dict[str, object]:
    """With the test's code, and the interval's own fields beside it."""
    return {"test": view.test, **{one.name: getattr(view.interval, one.name) for one in fields(Interval)}}


def _given(base: Interval, options: dict[str, Any]) -> Interval:
    words: dict[str, Callable[[Any], Any]] = {"sex": Sex, "use": IntervalUse}
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return replace(base, **{name: words.get(name, lambda value: value)(value) for name, value in given.items()})


@click.group()
def interval() -> None:
    """List and change reference intervals."""


@interval.command("list", epilog=ENVIRONMENT)
@click.option("--test", "tests", multiple=True, metavar="CODE")
@click.option("--ended", is_flag=True, help="Also those that have ended.")
@laboratory_options
@pass_context
def list_intervals(
    context: Context, tests: tuple[str, ...], ended: bool, organization: str | None, username: str | None, as_json: bool
) -> None:
    """List intervals by their tests."""
    from interface.store.catalogue_rows import read_intervals

    found = read(
        context,
        organization,
        username,
        "interval",
        lambda connection: read_intervals(connection, tests or None, ended=ended),
    )
    emit([flat(view) for view in found], as_json, () if as_json else COLUMNS)
    if not found:
        click.echo("no intervals", err=True)


@interval.command("add", epilog=ENVIRONMENT)
@click.argument("test")
@reason_option
@click.option("--source", required=True, help="Where it is from: the study, the kit's leaflet.")
@click.option("--from", "valid_from", type=INSTANT, help="For specimens collected from then on.")
@_limits
@laboratory_options
@pass_context
def add(
    context: Context,
    /,
    test: str,
    reason: str,
    source: str,
    valid_from: datetime | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **limits: Any,
) -> None:
    """Add an interval of TEST."""
    from interface.flow.catalogue import add_interval

    new = _given(Interval("", "", "", source=source, valid_from=aware(valid_from)), limits)
    made = change(
        context,
        organization,
        username,
        lambda connection, actor: add_interval(connection, actor, test, new, reason),
    )
    emit(flat(made), as_json)


@interval.command("change", epilog=ENVIRONMENT)
@click.argument("interval_id", metavar="ID", type=click.UUID)
@reason_option
@click.option("--source", help="Where it is from.")
@click.option("--from", "at", type=INSTANT, help="For specimens collected from then on.  [default: now]")
@_limits
@laboratory_options
@pass_context
def change_(
    context: Context,
    /,
    interval_id: UUID,
    reason: str,
    source: str | None,
    at: datetime | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **limits: Any,
) -> None:
    """End an interval and add another that differs in what is given: what decided a result stays readable."""
    from interface.flow.catalogue import change_interval
    from interface.store.catalogue_rows import read_intervals

    async def apply(connection: Connection, actor: Actor) -> IntervalView:
        known = await read_intervals(connection, ids=[interval_id], ended=True)
        if not known:
            raise CommandError("there is no interval of this id")
        new = _given(known[0].interval, {**limits, "source": source})
        return await change_interval(connection, actor, interval_id, new, reason, aware(at))

    emit(flat(change(context, organization, username, apply)), as_json)


@interval.command("end", epilog=ENVIRONMENT)
@click.argument("interval_id", metavar="ID", type=click.UUID)
@reason_option
@click.option("--from", "at", type=INSTANT, help="Not for specimens collected from then on.  [default: now]")
@click.option("--never", is_flag=True, help="It was wrong: for no specimen, whenever collected.")
@laboratory_options
@pass_context
def end(
    context: Context,
    interval_id: UUID,
    reason: str,
    at: datetime | None,
    never: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """End an interval."""
    from interface.flow.catalogue import end_interval

    made = change(
        context,
        organization,
        username,
        lambda connection, actor: end_interval(connection, actor, interval_id, reason, aware(at), never),
    )
    emit(flat(made), as_json)
    if never:
        click.echo(
            "what was released under it stays as it is; once another is in its place, "
            "`labora message replay --since DATE --dry-run --released` shows it", err=True,
        )  # fmt: skip

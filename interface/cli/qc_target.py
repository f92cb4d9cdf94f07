"""`labora qc target`: what controls should measure. A target is ended and another begins; none is ever changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, aware, laboratory_options
from interface.cli.test import EXACT, change, read, reason_option
from interface.domain.permissions import Permission
from interface.domain.qc_lots import TargetKind, TargetSource, TargetView
from interface.domain.qc_targets import Proposal, Spread

if TYPE_CHECKING:
    from interface.store.db import Connection

_Command = TypeVar("_Command", bound=Callable[..., Any])
TARGETS = (
    "analyzer", "module", "test", "material", "lot", "level", "mean", "sd", "unit", "kind", "source", "points",
    "reagent_lot", "valid_from", "valid_to", "ended_at", "id",
)  # fmt: skip
_SOURCE = click.Choice([one.value for one in TargetSource])
_KIND = click.Choice([one.value for one in TargetKind])
_PLACE = (
    click.argument("lot", metavar="LOT"),
    click.option("--analyzer", required=True, metavar="NAME"),
    click.option("--test", required=True, metavar="CODE"),
    click.option("--module", default="", help="Of the analyzer.  [default: all]"),
    click.option("--reagent-lot", default="", help="Only with this lot of the reagent.  [default: any]"),
)


def place_options(command: _Command) -> _Command:
    """Which lot, where."""
    for option in reversed(_PLACE):
        command = option(command)
    return command


@click.group()
def target() -> None:
    """Mean and SD of a lot on an analyzer: set, replaced, ended, established from its own points."""


def _show(view: TargetView | list[TargetView], as_json: bool) -> None:
    emit(view, as_json, () if as_json else TARGETS)


@target.command("list", epilog=ENVIRONMENT)
@click.option("--analyzer", default="", metavar="NAME")
@click.option("--test", default="", metavar="CODE")
@click.option("--lot", default="", metavar="LOT")
@click.option("--at", type=INSTANT, help="In force then; without an offset it is UTC.")
@click.option("--ended", is_flag=True, help="All there ever were.")
@laboratory_options
@pass_context
def list_targets(
    context: Context,
    analyzer: str,
    test: str,
    lot: str,
    at: datetime | None,
    ended: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List targets that are not over, by analyzer and test."""
    from interface.flow.qc_targets import filter_of
    from interface.store.qc_lots import find_targets

    async def find(connection: Connection) -> list[TargetView]:
        return await find_targets(connection, await filter_of(connection, analyzer, test, lot, aware(at), ended))

    found = read(context, organization, username, "qc_target", find, Permission.QC_READ)
    _show(found, as_json)
    if not found:
        click.echo("no targets", err=True)


@target.command("show", epilog=ENVIRONMENT)
@click.argument("target_id", metavar="ID", type=click.UUID)
@laboratory_options
@pass_context
def show(context: Context, target_id: UUID, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a target, by whom it was set and ended."""
    from interface.flow.qc_targets import target_of

    found = read(context, organization, username, "qc_target", lambda c: target_of(c, target_id), Permission.QC_READ)
    emit(found, as_json)


@target.command("set", epilog=ENVIRONMENT)
@place_options
@click.option("--mean", required=True, type=EXACT)
@click.option("--sd", required=True, type=EXACT)
@click.option("--unit", default="", help="UCUM, or as analyzers write it.")
@click.option("--source", type=_SOURCE, default=TargetSource.LABORATORY.value, show_default=True)
@click.option("--kind", type=_KIND, default=TargetKind.FIXED.value, show_default=True)
@click.option("--note", default="", help="Such as the insert that it is from.")
@click.option("--from", "valid_from", type=INSTANT, help="Without an offset it is UTC.  [default: now]")
@click.option("--to", "valid_to", type=INSTANT)
@reason_option
@laboratory_options
@pass_context
def set_(
    context: Context,
    /,
    lot: str,
    analyzer: str,
    test: str,
    module: str,
    reagent_lot: str,
    mean: Decimal,
    sd: Decimal,
    unit: str,
    source: str,
    kind: str,
    note: str,
    valid_from: datetime | None,
    valid_to: datetime | None,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Say what a lot should measure. Refused while another target says it: change that, or end it first."""
    from interface.flow import qc_targets as flow

    place = flow.Place(lot, analyzer, test, module, reagent_lot)
    wanted = flow.Wanted(
        mean, sd, unit, TargetSource(source), TargetKind(kind), note, aware(valid_from), aware(valid_to)
    )
    _show(change(context, organization, username, lambda c, a: flow.set_target(c, a, place, wanted, reason)), as_json)


@target.command("change", epilog=ENVIRONMENT)
@click.argument("target_id", metavar="ID", type=click.UUID)
@click.option("--mean", type=EXACT)
@click.option("--sd", type=EXACT)
@click.option("--unit")
@click.option("--source", type=_SOURCE)
@click.option("--kind", type=_KIND)
@click.option("--note")
@click.option("--to", "valid_to", type=INSTANT)
@click.option("--from", "at", type=INSTANT, help="From then on; at its begin: as if it had never been.  [default: now]")
@reason_option
@laboratory_options
@pass_context
def change_(
    context: Context,
    /,
    target_id: UUID,
    source: str | None,
    kind: str | None,
    valid_to: datetime | None,
    at: datetime | None,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **said: Any,
) -> None:
    """End a target and begin another that differs in what is given. Points keep the verdict that they were given."""
    from interface.flow import qc_targets as flow

    new = flow.TargetChange(
        source=TargetSource(source) if source else None,
        kind=TargetKind(kind) if kind else None,
        valid_to=aware(valid_to),
        **said,
    )
    step = change(
        context,
        organization,
        username,
        lambda c, a: flow.change_target(c, a, target_id, new, reason, aware(at)),
    )
    _show(step, as_json)


@target.command("end", epilog=ENVIRONMENT)
@click.argument("target_id", metavar="ID", type=click.UUID)
@click.option("--from", "at", type=INSTANT, help="It judges nothing measured from then on.  [default: now]")
@click.option("--never", is_flag=True, help="It was wrong from its begin.")
@reason_option
@laboratory_options
@pass_context
def end(
    context: Context,
    target_id: UUID,
    at: datetime | None,
    never: bool,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """End a target."""
    from interface.flow import qc_targets as flow

    step = change(
        context,
        organization,
        username,
        lambda c, a: flow.end_target(c, a, target_id, reason, aware(at), never),
    )
    _show(step, as_json)


@target.command("recompute", epilog=ENVIRONMENT)
@click.argument("target_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--all", "everything", is_flag=True, help="Every one for which there is something new.")
@reason_option
@laboratory_options
@pass_context
def recompute(
    context: Context,
    target_id: UUID | None,
    everything: bool,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Work cumulative targets out anew from all counted points of their lots; another begins for each."""
    from interface.flow import qc_targets as flow

    if (target_id is None) != everything:
        raise click.UsageError("say which target, or --all")
    if target_id is not None:
        one = target_id
        _show(change(context, organization, username, lambda c, a: flow.recompute(c, a, one, reason)), as_json)
        return
    made = change(context, organization, username, lambda c, a: flow.recompute_all(c, a, reason))
    _show(made, as_json)
    if not made:
        click.echo("there is nothing new", err=True)


# ---- establishing ---------------------------------------------------------------------------------------------------


@target.command("establish", epilog=ENVIRONMENT)
@place_options
@click.option(
    "--spread", type=click.Choice([one.value for one in Spread]), default=Spread.OBSERVED.value, show_default=True,
    help="The SD of its own points, or the CV of the lot in use.",
)  # fmt: skip
@click.option("--fewest-points", type=int, help="Wanted at least.  [default: 20; 10 with --spread previous]")
@click.option("--fewest-days", type=int, help="On so many days at least.  [default: 10]")
@click.option("--since", type=INSTANT, help="Only points measured since.")
@click.option("--set", "points", type=int, metavar="POINTS", help="Set it: as it was shown, from so many points.")
@click.option("--kind", type=_KIND, default=TargetKind.FIXED.value, show_default=True)
@click.option("--from", "valid_from", type=INSTANT, help="[default: now]")
@click.option("--reason", default="", help="Why; with --set.")
@laboratory_options
@pass_context
def establish(
    context: Context,
    /,
    lot: str,
    analyzer: str,
    test: str,
    module: str,
    reagent_lot: str,
    spread: str,
    fewest_points: int | None,
    fewest_days: int | None,
    since: datetime | None,
    points: int | None,
    kind: str,
    valid_from: datetime | None,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> int:
    """Show what a lot's own points make of its target, beside that of the lot in use; with --set, set that.

    Status 1 when it cannot be set so.
    """
    from interface.flow import qc_targets as flow

    place = flow.Place(lot, analyzer, test, module, reagent_lot)
    of = flow.Establishing(place, Spread(spread), fewest_points, fewest_days, aware(since))
    if points is not None:
        count, begin = points, aware(valid_from)
        made = change(
            context,
            organization,
            username,
            lambda c, a: flow.establish(c, a, of, count, reason, TargetKind(kind), begin),
        )
        _show(made, as_json)
        return 0
    found = read(context, organization, username, "qc_target", lambda c: flow.proposal(c, of), Permission.QC_READ)
    if as_json:
        emit(found, True)
    else:
        emit(list(_lines(found)), False)
    for text in (*found.remarks, *found.problems):
        click.echo(text, err=True)
    return EXIT_FAILED if found.problems else 0


def _lines(found: Proposal) -> list[dict[str, object]]:
    """The proposal, its points, and the lot in use, below each other."""
    measured, former = found.measured, found.former
    rows: list[dict[str, object]] = [
        {"": "proposed", "mean": found.mean, "sd": found.sd, "cv %": _short(found.cv), "unit": found.unit},
        {"": "measured", "mean": _short(measured.mean, 4), "sd": _short(measured.sd, 4), "cv %": _short(measured.cv),
         "unit": found.unit, "points": measured.points, "days": measured.days},
    ]  # fmt: skip
    if former is not None:
        rows += [
            {"": f"target of {former.lot}", "mean": former.mean, "sd": former.sd, "cv %": _short(former.cv),
             "unit": former.unit},
            {"": f"measured of {former.lot}", "mean": _short(former.measured.mean, 4),
             "sd": _short(former.measured.sd, 4), "cv %": _short(former.measured.cv), "unit": found.unit,
             "points": former.measured.points, "days": former.measured.days},
        ]  # fmt: skip
    return [{name: row.get(name) for name in ("", "mean", "sd", "cv %", "unit", "points", "days")} for row in rows]


def _short(number: Decimal | None, decimals: int = 2) -> str:
    from interface.domain.exact import shown

    return "" if number is None else shown(number, decimals)

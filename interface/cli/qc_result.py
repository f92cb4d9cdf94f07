"""`labora qc result`: results of controls, as they were sent or entered, and the points made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, aware, desk, laboratory_options
from interface.cli.test import read, reason_option
from interface.domain.permissions import Permission
from interface.domain.qc import QcVerdict

if TYPE_CHECKING:
    from interface.domain.qc_views import AnalysisView, ControlView
    from interface.domain.views import Actor
    from interface.store.db import Connection

_Command = TypeVar("_Command", bound=Callable[..., Any])
_SENT = (
    "analyzer", "module", "test", "code", "role", "origin", "specimen_as_sent", "lot_as_sent", "level_as_sent", "value",
    "sent_unit", "raw_flags", "instrument_time", "measured_at", "created_at", "message_id", "reagent_lot",
    "calibrator_lot", "comment", "by", "id",
)  # fmt: skip
_POINT = (
    "material", "lot", "level", "number", "unit", "mean", "sd", "target_unit", "z", "verdict", "rules", "insufficient",
    "run_id", "reagent_lot", "calibrator_lot", "excluded_at", "excluded_by", "exclude_reason",
)  # fmt: skip
_ANALYSIS = (
    "analyzer", "module", "test", "material", "lot", "level", "unit", "n", "mean", "sd", "cv", "target_mean",
    "target_sd", "bias", "sdi", "total_error", "allowable_error", "sigma",
)  # fmt: skip


@click.group()
def result() -> None:
    """Results of controls: list and show them, enter one, say of which lot one is, exclude a point."""


def _where(command: _Command) -> _Command:
    """Which streams, and when it was measured."""
    for option in reversed(
        (
            click.option("--analyzer", default="", metavar="NAME"),
            click.option("--module", default=None),
            click.option("--test", default="", metavar="CODE"),
            click.option("--lot", default="", help="LOT, LOT/LEVEL, MATERIAL/LOT/LEVEL or an id."),
            click.option("--since", type=INSTANT, help="Measured from then on; without an offset it is UTC."),
            click.option("--until", type=INSTANT, help="Measured before then."),
        )
    ):
        command = option(command)
    return command


@result.command("list", epilog=ENVIRONMENT)
@_where
@click.option("--verdict", type=click.Choice([one.value for one in QcVerdict]))
@click.option("--rule", default="", metavar="RULE", help="Points that broke it, such as 1-3s.")
@click.option("--problems", is_flag=True, help="Those that made no point and wait for a person.")
@click.option("--excluded", is_flag=True, help="Only points that count nowhere.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_results(
    context: Context, analyzer: str, module: str | None, test: str, lot: str, since: datetime | None,
    until: datetime | None, verdict: str | None, rule: str, problems: bool, excluded: bool, limit: int,
    organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List controls, the newest first."""
    from interface.flow.qc_lots import lots_named
    from interface.store.qc_find import ControlFilter, find_controls
    from interface.store.query import Page

    async def find(connection: Connection) -> list[ControlView]:
        filter = ControlFilter(
            analyzer=analyzer, module=module, test=test,
            lot_ids=await lots_named(connection, lot) if lot else (),
            verdicts=(QcVerdict(verdict),) if verdict else (), rule=rule, excluded=True if excluded else None,
            problems=True if problems else None, since=aware(since), until=aware(until),
            page=Page(newest_first=True, limit=limit),
        )  # fmt: skip
        return await find_controls(connection, filter)

    found = read(context, organization, username, "qc_result", find, Permission.QC_READ)
    if as_json or found:
        emit(found if as_json else [_line(one) for one in found], as_json)
    if not found:
        click.echo("nothing waits for anybody" if problems else "no controls", err=True)


def _line(one: ControlView) -> dict[str, object]:
    """One control of a list."""
    point = one.point
    what = f"{point.lot}/{point.level}" if point else one.lot_as_sent or one.specimen_as_sent
    said = point.verdict.value if point else one.problem.kind if one.problem else one.role
    if point and point.excluded_at:
        said = f"{said}, excluded"
    return {
        "measured": one.measured_at, "analyzer": " ".join(filter(None, (one.analyzer, one.module))),
        "test": one.test or one.code, "lot": what, "value": f"{one.value} {one.sent_unit}".strip(),
        "z": f"{point.z:.2f}" if point and point.z is not None else "", "said": said,
        "rules": " ".join(point.rules) if point else one.problem.text if one.problem else "", "id": one.id,
    }  # fmt: skip


@result.command("show", epilog=ENVIRONMENT)
@click.argument("result_id", type=click.UUID)
@laboratory_options
@pass_context
def show(context: Context, result_id: UUID, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a control, why it was judged so, and what was said of it."""
    from interface.flow.qc_people import control_of

    found = read(
        context, organization, username, "qc_result", lambda c: control_of(c, result_id), Permission.QC_READ
    )  # fmt: skip
    _show(found, as_json)


def _show(found: ControlView, as_json: bool) -> None:
    if as_json:
        emit(found, as_json)
        return
    emit(found, as_json, _SENT)
    if found.problem is not None:
        ended = f"; seen to by {found.problem.ended_by}: {found.problem.end_reason}" if found.problem.ended_at else ""
        click.echo(f"\nno point: {found.problem.kind}, {found.problem.text}{ended}")
    if found.point is not None:
        click.echo()
        emit(found.point, as_json, _POINT)
        click.echo()
        for step in found.point.steps:
            click.echo(f"{step.step}: {step.text}" + (f" ({step.version})" if step.version else ""))
    for one in found.remarks:
        click.echo(f"{one.at:%Y-%m-%d %H:%M} {one.by}, {one.kind}: {one.text}")


@result.command("enter", epilog=ENVIRONMENT)
@click.argument("analyzer")
@click.argument("test")
@click.argument("lot")
@click.argument("value")
@click.option("--unit", default="", help="UCUM, or as analyzers write it.  [default: the test's own]")
@click.option("--module", default="")
@click.option("--at", type=INSTANT, help="When it was measured; without an offset it is UTC.  [default: now]")
@click.option("--reagent-lot", default="")
@click.option("--calibrator-lot", default="")
@click.option("--comment", default="")
@laboratory_options
@pass_context
def enter(
    context: Context, analyzer: str, test: str, lot: str, value: str, unit: str, module: str, at: datetime | None,
    reagent_lot: str, calibrator_lot: str, comment: str, organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Enter a control that no analyzer sent. LOT: LOT/LEVEL, MATERIAL/LOT/LEVEL or an id."""
    from interface.flow.qc_people import Entry
    from interface.flow.qc_people import enter as take

    entry = Entry(analyzer, test, lot, value, unit, module, aware(at), reagent_lot, calibrator_lot, comment)
    _step(context, organization, username, as_json, lambda c, actor: take(c, actor, entry))


def _about(command: _Command) -> _Command:
    """One control, and why."""
    return click.argument("result_id", type=click.UUID)(reason_option(laboratory_options(command)))


@result.command("exclude", epilog=ENVIRONMENT)
@_about
@pass_context
def exclude(
    context: Context, result_id: UUID, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Let a point count nowhere: it stays on the chart, and a failure that it was stays one."""
    from interface.flow.qc_people import exclude as take

    _step(context, organization, username, as_json, lambda c, actor: take(c, actor, result_id, reason))


@result.command("restore", epilog=ENVIRONMENT)
@_about
@pass_context
def restore(
    context: Context, result_id: UUID, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Let an excluded point count again."""
    from interface.flow.qc_people import restore as take

    _step(context, organization, username, as_json, lambda c, actor: take(c, actor, result_id, reason))


@result.command("dismiss", epilog=ENVIRONMENT)
@_about
@pass_context
def dismiss(
    context: Context, result_id: UUID, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Let a control that made no point be none: somebody has seen to it."""
    from interface.flow.qc_people import dismiss as take

    _step(context, organization, username, as_json, lambda c, actor: take(c, actor, result_id, reason))


@result.command("assign", epilog=ENVIRONMENT)
@click.argument("result_id", type=click.UUID)
@click.argument("lot")
@click.option("--test", default="", metavar="CODE", help="Of what, where no map says it.")
@reason_option
@laboratory_options
@pass_context
def assign(
    context: Context, result_id: UUID, lot: str, test: str, reason: str, organization: str | None,
    username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say of which lot a control is that made no point; it is judged now, in its place."""
    from interface.flow.qc_people import assign as take

    _step(context, organization, username, as_json, lambda c, actor: take(c, actor, result_id, lot, reason, test))


@result.command("comment", epilog=ENVIRONMENT)
@click.argument("result_id", type=click.UUID)
@click.argument("text")
@laboratory_options
@pass_context
def comment(
    context: Context, result_id: UUID, text: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Remark on a point; it is kept, and stands on the chart."""
    from interface.flow.qc_people import comment as take

    _step(context, organization, username, as_json, lambda c, actor: take(c, actor, result_id, text))


@result.command("analysis", epilog=ENVIRONMENT)
@_where
@laboratory_options
@pass_context
def analysis(
    context: Context, analyzer: str, module: str | None, test: str, lot: str, since: datetime | None,
    until: datetime | None, organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """What the points that count come to: mean, SD, CV, bias, SDI, total error, sigma.  [default: of 30 days]"""
    from interface.flow.qc_lots import lots_named
    from interface.flow.qc_people import analysis as analyse
    from interface.flow.qc_people import window
    from interface.store.qc import AnalysisFilter

    begin, end = window(aware(since), aware(until))

    async def find(connection: Connection) -> list[AnalysisView]:
        lots = await lots_named(connection, lot) if lot else ()
        return await analyse(connection, AnalysisFilter(begin, end, analyzer, module, test, lots))

    found = read(context, organization, username, "qc_analysis", find, Permission.QC_READ)
    emit(found, as_json, () if as_json else _ANALYSIS)
    if not found:
        click.echo("no points that count", err=True)


def _step(
    context: Context,
    organization: str | None,
    username: str | None,
    as_json: bool,
    step: Callable[[Connection, Actor], Awaitable[ControlView]],
) -> None:
    """A person's step, and what follows for the patients' results."""

    async def run() -> ControlView:
        from interface.flow.qc_sweep import sweep

        async with desk(context.settings, organization, username, named=True) as at:
            async with at.transaction() as connection:
                view = await step(connection, at.actor)
            await sweep(at.database, at.actor.organization_id)
            return view

    _show(asyncio.run(run()), as_json)

"""`labora qc status`, `action`, `lookback`, `plan`: where streams stand, what was done, what is looked at."""

from __future__ import annotations

import asyncio
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, desk, laboratory_options
from interface.domain.permissions import Permission
from interface.domain.qc import QcMode, QcRule
from interface.domain.qc_state import DEFAULT_PLAN, Meanwhile, Plan

if TYPE_CHECKING:
    from interface.flow.qc_lookback import LookbackView
    from interface.flow.qc_plans import StreamStatus
    from interface.store.qc_gate import ActionView, PlanView
    from interface.store.qc_lookback import Lookback

_STREAMS = ("analyzer", "module", "test", "state", "since", "last_ok_at", "expires_at", "due", "wanted", "plan")
_ACTIONS = ("at", "analyzer", "module", "test", "kind", "meanwhile", "text", "by", "id")
_LISTS = ("id", "version", "state", "analyzer", "module", "test", "since", "until", "items", "waiting", "created_at",
          "reason")  # fmt: skip
_ITEMS = ("result_id", "barcode", "test", "measured_at", "released_at", "status", "state", "reason", "decided_by")
_PLANS = ("analyzer", "test", "version", "mode", "rules", "levels", "run_minutes", "interval_minutes", "before_first",
          "timezone", "allowable_error")  # fmt: skip
_analyzer = click.option("--analyzer", required=True, metavar="NAME")
_module = click.option("--module", default="", help="Of an analyzer that has several.")


@click.command("status", epilog=ENVIRONMENT)
@click.option("--due", "only_due", is_flag=True, help="Only where a control or an action is wanted.")
@click.option("--within", "minutes", type=click.IntRange(0, 100_000), default=60, show_default=True, metavar="MINUTES",
              help="A control is due so long before the last one expires.")  # fmt: skip
@laboratory_options
@pass_context
def status(
    context: Context, only_due: bool, minutes: int, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Show the state of each test on each analyzer, and what is due."""
    from interface.flow import qc_plans

    async def run() -> list[StreamStatus]:
        async with desk(context.settings, organization, username, named=False) as at, at.transaction() as connection:
            at.require(Permission.QC_READ)
            await at.note_read(connection, "search", "qc_stream")
            return await qc_plans.status(connection, due_minutes=minutes, only_due=only_due)

    found = asyncio.run(run())
    emit(found, as_json, _STREAMS)
    if not found:
        click.echo("nothing is due" if only_due else "nothing is controlled", err=True)


# ---- actions ---------------------------------------------------------------------------------------------------------


@click.group()
def action() -> None:
    """Say what was done about a failure, or about an analyzer."""


@action.command("add", epilog=ENVIRONMENT)
@click.argument("test")
@click.argument("text")
@_analyzer
@_module
@click.option("--kind", type=click.Choice(["corrective", "comment", "maintenance"]), default="corrective",
              show_default=True)  # fmt: skip
@click.option("--meanwhile", type=click.Choice([one.value for one in Meanwhile]),
              help="What was measured since the last acceptable control: it stands, or must be measured again. To be "
                   "said of a failure.")  # fmt: skip
@click.option("--control", "point_id", type=click.UUID, metavar="ID",
              help="The control that it is about. Of a failure: refused when another has failed since.")  # fmt: skip
@laboratory_options
@pass_context
def add(
    context: Context,
    test: str,
    text: str,
    analyzer: str,
    module: str,
    kind: str,
    meanwhile: str | None,
    point_id: UUID | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Document in words what was found and done.

    After a failure an acceptable control and a corrective action are both wanted, in either order.
    """
    from interface.flow import qc_gate, qc_plans
    from interface.flow.qc_sweep import follow

    async def run() -> dict[str, str]:
        async with desk(context.settings, organization, username, named=True) as at:
            async with at.transaction() as connection:
                stream = await qc_plans.stream_of(connection, analyzer, test, module)
                said = Meanwhile(meanwhile) if meanwhile else None
                action_id, state = await qc_gate.act(
                    connection, at.actor, stream, kind, text, meanwhile=said, point_id=point_id
                )
            await follow(at.database, at.actor.organization_id)
        return {"id": str(action_id), "state": state.value}

    emit([asyncio.run(run())], as_json, ("id", "state"))


@action.command("list", epilog=ENVIRONMENT)
@click.option("--analyzer", default="", metavar="NAME")
@click.option("--test", default="", metavar="CODE")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_(
    context: Context, analyzer: str, test: str, limit: int, organization: str | None, username: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """List what was done and said, newest first."""
    from interface.store import qc_gate as rows

    async def run() -> list[ActionView]:
        async with desk(context.settings, organization, username, named=False) as at, at.transaction() as connection:
            at.require(Permission.QC_READ)
            await at.note_read(connection, "search", "qc_action")
            return await rows.actions(connection, analyzer, test, limit)

    emit(asyncio.run(run()), as_json, _ACTIONS)


# ---- look-back -------------------------------------------------------------------------------------------------------


@click.group()
def lookback() -> None:
    """Look at patients' results that were released since the last acceptable control. LIST is a list's id."""


@lookback.command("list", epilog=ENVIRONMENT)
@click.option("--closed", is_flag=True, help="Those that are closed as well.")
@laboratory_options
@pass_context
def lists(context: Context, closed: bool, organization: str | None, username: str | None, as_json: bool) -> None:
    """List the lists, newest first."""
    from interface.flow import qc_lookback

    async def run() -> list[Lookback]:
        async with desk(context.settings, organization, username, named=False) as at, at.transaction() as connection:
            at.require(Permission.QC_READ)
            await at.note_read(connection, "search", "qc_lookback")
            return await qc_lookback.lookbacks(connection, closed=closed)

    found = asyncio.run(run())
    emit(found, as_json, _LISTS)
    if not found:
        click.echo("no list is open", err=True)


@lookback.command("show", epilog=ENVIRONMENT)
@click.argument("lookback_id", metavar="LIST", type=click.UUID)
@laboratory_options
@pass_context
def show(context: Context, lookback_id: UUID, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show the results of a list, in the order in which they were measured."""
    from interface.flow import qc_lookback

    async def run() -> LookbackView:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.RESULT_READ)
            async with at.transaction() as connection:
                found = await qc_lookback.view(connection, lookback_id)
                patients = [item.patient_id for item in found.items]
                await at.note_read(connection, "read", "qc_lookback", lookback_id, patients)
        return found

    _shown(asyncio.run(run()), as_json)


@lookback.command("decide", epilog=ENVIRONMENT)
@click.argument("lookback_id", metavar="LIST", type=click.UUID)
@click.argument("decision", type=click.Choice(["stands", "repeat", "corrected"]))
@click.argument("results", metavar="[RESULT]...", type=click.UUID, nargs=-1)
@click.option("--reason", required=True, help="Why; it is kept with each of them.")
@click.option("--version", type=click.IntRange(1), help="Only if it is still this version of the list.")
@laboratory_options
@pass_context
def decide(
    context: Context,
    lookback_id: UUID,
    decision: str,
    results: tuple[UUID, ...],
    reason: str,
    version: int | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Decide about results of a list, without RESULT about all that wait.

    They stand, are to be run again, or were corrected or retracted. The list closes with the last of them.
    """
    from interface.flow import qc_lookback
    from interface.flow.qc_lookback import Decision

    async def run() -> LookbackView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            return await qc_lookback.decide(
                connection, at.actor, lookback_id, Decision(decision), reason, results, version
            )

    _shown(asyncio.run(run()), as_json)


def _shown(found: LookbackView, as_json: bool) -> None:
    if as_json:
        emit(found, as_json)
        return
    emit([found.lookback], False, _LISTS)
    emit(list(found.items), False, _ITEMS)


# ---- plans -----------------------------------------------------------------------------------------------------------


@click.group()
def plan() -> None:
    """Say which rules judge controls and how often they are wanted. The most special plan holds."""


@plan.command("list", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def plans(context: Context, organization: str | None, username: str | None, as_json: bool) -> None:
    """List the plans, the most general first."""
    from interface.store import qc_gate as rows

    async def run() -> list[PlanView]:
        async with desk(context.settings, organization, username, named=False) as at, at.transaction() as connection:
            at.require(Permission.QC_READ)
            await at.note_read(connection, "search", "qc_plan")
            return await rows.plans(connection)

    _listed(asyncio.run(run()), as_json)


@plan.command("set", epilog=ENVIRONMENT)
@click.option("--analyzer", default="", metavar="NAME", help="Of this analyzer.  [default: of every one]")
@click.option("--test", default="", metavar="CODE", help="Of this test.  [default: of every one]")
@click.option("--rule", "rules", multiple=True, type=click.Choice([one.value for one in QcRule]),
              help="Repeatable.  [default: those for the number of levels]")  # fmt: skip
@click.option("--mode", type=click.Choice([one.value for one in QcMode]), default=DEFAULT_PLAN.mode.value,
              show_default=True)  # fmt: skip
@click.option("--levels", type=int, default=0, show_default=True, help="Of an acceptable run; 0: those with a target.")
@click.option("--run-minutes", type=int, default=DEFAULT_PLAN.run_minutes, show_default=True, metavar="MINUTES",
              help="Points further apart are of different runs.")  # fmt: skip
@click.option("--every", "interval", type=int, default=DEFAULT_PLAN.interval_minutes, show_default=True,
              metavar="MINUTES", help="An acceptable run is wanted so often; 0: it never expires.")  # fmt: skip
@click.option("--before-first", is_flag=True, help="One is wanted before the first patient of the day.")
@click.option("--timezone", default="UTC", show_default=True, help="Whose day that is.")
@click.option("--loose-r4s", is_flag=True, help="R-4s by the range of a run.")
@click.option("--allowable-error", metavar="PERCENT", help="Total error that is allowed, for sigma metrics.")
@laboratory_options
@pass_context
def set_(
    context: Context,
    analyzer: str,
    test: str,
    rules: tuple[str, ...],
    mode: str,
    levels: int,
    run_minutes: int,
    interval: int,
    before_first: bool,
    timezone: str,
    loose_r4s: bool,
    allowable_error: str | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Set a plan, whole: for a test on an analyzer, an analyzer, a test, or all."""
    from interface.flow import qc_plans
    from interface.flow.qc_sweep import follow

    made = Plan(
        analyzer, test, QcMode(mode), tuple(map(QcRule, rules)), levels, run_minutes, interval or None, before_first,
        timezone, loose_r4s, _percent(allowable_error),
    )  # fmt: skip

    async def run() -> list[PlanView]:
        async with desk(context.settings, organization, username, named=True) as at:
            async with at.transaction() as connection:
                found = await qc_plans.set_plan(connection, at.actor, made)
            await follow(at.database, at.actor.organization_id)
        return found

    _listed(asyncio.run(run()), as_json)


@plan.command("end", epilog=ENVIRONMENT)
@click.option("--analyzer", default="", metavar="NAME")
@click.option("--test", default="", metavar="CODE")
@laboratory_options
@pass_context
def end(
    context: Context, analyzer: str, test: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Take a plan out of use; the next more general one holds."""
    from interface.flow import qc_plans
    from interface.flow.qc_sweep import follow

    async def run() -> list[PlanView]:
        async with desk(context.settings, organization, username, named=True) as at:
            async with at.transaction() as connection:
                found = await qc_plans.end_plan(connection, at.actor, analyzer, test)
            await follow(at.database, at.actor.organization_id)
        return found

    _listed(asyncio.run(run()), as_json)


def _listed(found: list[PlanView], as_json: bool) -> None:
    emit([one.plan for one in found], as_json, _PLANS)
    if not found:
        click.echo("no plan is set: a run of every level that has a target is wanted every 24 hours", err=True)


def _percent(text: str | None) -> Decimal | None:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        raise click.BadParameter("is not a number", param_hint="--allowable-error") from None

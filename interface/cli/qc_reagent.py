"""`labora qc reagent`: the lots of reagents, calibrators and diluents that analyzers use."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, aware, laboratory_options
from interface.cli.qc_lot import DAY
from interface.cli.test import change, read, reason_option
from interface.domain.permissions import Permission
from interface.domain.qc_lots import AnalyzerLotView, LotKind

if TYPE_CHECKING:
    from interface.store.db import Connection

USES = ("analyzer", "module", "test", "kind", "lot", "expires_on", "from_at", "ended_at", "by", "id")
_KIND = click.Choice([one.value for one in LotKind])


@click.group()
def reagent() -> None:
    """Lots in use on analyzers: results that do not say their lot carry that which was in use."""


@reagent.command("list", epilog=ENVIRONMENT)
@click.option("--analyzer", default="", metavar="NAME")
@click.option("--kind", type=_KIND)
@click.option("--ended", is_flag=True, help="Also those that are not used any more.")
@laboratory_options
@pass_context
def list_uses(
    context: Context,
    analyzer: str,
    kind: str | None,
    ended: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List lots in use by analyzer."""
    from interface.flow.qc_lots import analyzer_named
    from interface.store.qc_lots import find_analyzer_lots

    async def find(connection: Connection) -> list[AnalyzerLotView]:
        analyzer_id = await analyzer_named(connection, analyzer) if analyzer else None
        wanted = LotKind(kind) if kind else None
        return await find_analyzer_lots(connection, analyzer_id=analyzer_id, kind=wanted, ended=ended)

    found = read(context, organization, username, "analyzer_lot", find, Permission.QC_READ)
    emit(found, as_json, () if as_json else USES)
    if not found:
        click.echo("no lots in use are known", err=True)


@reagent.command("set", epilog=ENVIRONMENT)
@click.argument("analyzer")
@click.argument("lot")
@click.option("--kind", type=_KIND, default=LotKind.REAGENT.value, show_default=True)
@click.option("--test", default="", metavar="CODE", help="[default: every test]")
@click.option("--module", default="", help="Of the analyzer.  [default: all]")
@click.option("--expires", "expires_on", type=DAY)
@click.option("--from", "from_at", type=INSTANT, help="Without an offset it is UTC.  [default: now]")
@laboratory_options
@pass_context
def set_(
    context: Context,
    analyzer: str,
    lot: str,
    kind: str,
    test: str,
    module: str,
    expires_on: date | None,
    from_at: datetime | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Say which lot an analyzer uses from then on; the one in its place ends."""
    from interface.flow import qc_lots as flow

    new = flow.NewUse(analyzer, LotKind(kind), lot, module, test, expires_on, aware(from_at))
    made = change(context, organization, username, lambda c, actor: flow.enter_use(c, actor, new))
    emit(made, as_json, () if as_json else USES)


@reagent.command("end", epilog=ENVIRONMENT)
@click.argument("use_id", metavar="ID", type=click.UUID)
@click.option("--from", "at", type=INSTANT, help="[default: now]")
@reason_option
@laboratory_options
@pass_context
def end(
    context: Context,
    use_id: UUID,
    at: datetime | None,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """It is not used any more."""
    from interface.flow import qc_lots as flow

    made = change(context, organization, username, lambda c, actor: flow.end_use(c, actor, use_id, reason, aware(at)))
    emit(made, as_json, () if as_json else USES)

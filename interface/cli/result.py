"""`labora result`: list, show and decide about results."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, CommandError, aware, desk, laboratory_options
from interface.domain.model import RELEASED, ResultStatus
from interface.domain.permissions import Permission
from interface.domain.views import Audience, ResultView

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.lab import ResultFilter

COLUMNS = (
    "id", "version", "barcode", "test_code", "code", "comparator", "value", "unit", "flags", "status", "held",
    "pending",
)  # fmt: skip


@click.group()
def result() -> None:
    """List, show and release results."""


@result.command("list", epilog=ENVIRONMENT)
@click.option("--held", is_flag=True, help="Only what waits for a person: held, or released with a change.")
@click.option("--specimen", "barcodes", multiple=True, metavar="BARCODE")
@click.option("--test", "tests", multiple=True, metavar="CODE")
@click.option("--patient", "patients", multiple=True, type=click.UUID, metavar="ID")
@click.option("--order", "orders", multiple=True, type=click.UUID, metavar="ID")
@click.option("--status", "statuses", multiple=True, type=click.Choice([status.value for status in ResultStatus]))
@click.option("--since", type=INSTANT, help="Changed at or after; a date is UTC.")
@click.option("--until", type=INSTANT, help="Changed before.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_results(
    context: Context,
    held: bool,
    barcodes: tuple[str, ...],
    tests: tuple[str, ...],
    patients: tuple[UUID, ...],
    orders: tuple[UUID, ...],
    statuses: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List results, newest change first."""
    from interface.store.lab import Page, ResultFilter

    page = Page(since=aware(since), until=aware(until), newest_first=True, limit=limit)
    chosen = ResultFilter(
        patient_ids=patients,
        order_ids=orders,
        barcodes=barcodes,
        test_codes=tests,
        statuses=tuple(map(ResultStatus, statuses)),
        held_only=held,
        page=page,
    )
    found = asyncio.run(_find(context.settings, organization, username, chosen))
    emit(found, as_json, () if as_json else COLUMNS)
    if not found:
        click.echo("no results", err=True)
    elif len(found) == limit:
        click.echo(f"the newest {limit}; --limit and --until show more", err=True)


@result.command("show", epilog=ENVIRONMENT)
@click.argument("result_id", type=click.UUID)
@click.option("--history", is_flag=True, help="Every version, oldest first.")
@laboratory_options
@pass_context
def show(
    context: Context, result_id: UUID, history: bool, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Show a result. `labora trace` explains it."""
    versions = asyncio.run(_read(context.settings, organization, username, result_id, history))
    if history:
        emit(versions, as_json, () if as_json else ("version", "updated_at", *COLUMNS[5:11], "note"))
    else:
        emit(versions[0], as_json)


@result.command("release", epilog=ENVIRONMENT)
@click.argument("result_ids", type=click.UUID, nargs=-1, required=True)
@click.option("--comment", default="", help="Becomes part of the result's note.")
@click.option("--version", "version", type=click.IntRange(1), help="Only if it is still this version (one result).")
@click.option("--accept-hold", is_flag=True, help="Also when the analyzer doubts it or was cut off; needs --comment.")
@laboratory_options
@pass_context
def release(
    context: Context,
    result_ids: tuple[UUID, ...],
    comment: str,
    version: int | None,
    accept_hold: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> int:
    """Release results. Each is decided for itself: status 1 when one could not be released."""
    if version is not None and len(result_ids) > 1:
        raise click.UsageError("--version is of one result")
    work = _release(context.settings, organization, username, result_ids, comment, version, accept_hold)
    released, failures = asyncio.run(work)
    emit(released, as_json, () if as_json else COLUMNS)
    for line in failures:
        click.echo(f"labora: {line}", err=True)
    return EXIT_FAILED if failures else 0


async def _find(
    settings: Settings, organization: str | None, username: str | None, chosen: ResultFilter
) -> list[ResultView]:
    from interface.store import lab

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RESULT_READ)
        async with at.transaction() as connection:
            found = await lab.find_results(connection, chosen, Audience.STAFF)
            patients = [one.patient_id for one in found]
            await at.note_read(connection, "search", "result", None, patients, {"found": str(len(found))})
    return found


async def _read(
    settings: Settings, organization: str | None, username: str | None, result_id: UUID, history: bool
) -> list[ResultView]:
    from interface.store import lab

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RESULT_READ)
        async with at.transaction() as connection:
            if history:
                versions = await lab.result_history(connection, result_id, Audience.STAFF)
            else:
                current = await lab.get_result(connection, result_id, Audience.STAFF)
                versions = [current] if current else []
            patients = [one.patient_id for one in versions]
            await at.note_read(connection, "read", "result", result_id, patients)
    if not versions:
        raise CommandError("there is no such result")
    return versions


async def _release(
    settings: Settings,
    organization: str | None,
    username: str | None,
    result_ids: tuple[UUID, ...],
    comment: str,
    version: int | None,
    accept_hold: bool,
) -> tuple[list[ResultView], list[str]]:
    from interface.domain.review import ReviewError
    from interface.flow import review
    from interface.store import lab

    released: list[ResultView] = []
    failures: list[str] = []
    async with desk(settings, organization, username, named=True) as at:
        for result_id in dict.fromkeys(result_ids):
            try:
                async with at.transaction() as connection:
                    before = await lab.get_result(connection, result_id, Audience.STAFF)
                    view = await review.release(connection, at.actor, result_id, comment, version, accept_hold)
            except ReviewError as error:
                failures.append(f"{result_id}: {error}")
                continue
            released.append(view)
            if before is not None and before.status in RELEASED:
                click.echo(f"{result_id} was released already", err=True)
    return released, failures

"""`labora result`: list and show results. The steps of reviewing them are in `result_review`."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, CommandError, aware, desk, laboratory_options
from interface.cli.result_review import STEPS, Seen, list_comments, policy
from interface.cli.result_words import queue_table, result_table, waiting_words
from interface.domain.model import HoldReason, Priority, ResultStatus
from interface.domain.permissions import Permission
from interface.domain.review import HOLDS
from interface.domain.views import Audience, ResultView

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.lab import ResultFilter
    from interface.store.review import QueueFilter, Waiting

QUEUES = ("all", "held", "preliminary", "verified", "changed")
_HISTORY = ("version", "updated_at", "comparator", "value", "unit", "flags", "status", "held", "note")


@click.group()
def result() -> None:
    """List, show and review results."""


for _step in (*STEPS, list_comments, policy):
    result.add_command(_step)


@result.command("list", epilog=ENVIRONMENT)
@click.option(
    "--queue", type=click.Choice(QUEUES), help="What waits for a person: STAT first, then the longest waiting."
)
@click.option("--reason", "reasons", multiple=True, type=click.Choice([reason.value for reason in HoldReason]))
@click.option("--analyzer", "analyzers", multiple=True, metavar="NAME", help="Of a queue.")
@click.option("--ward", "wards", multiple=True, metavar="WARD", help="Of a queue.")
@click.option("--priority", "priorities", multiple=True, type=click.Choice([word.value for word in Priority]))
@click.option("--older-than", "older_than_min", type=click.IntRange(0), default=0, metavar="MIN", help="Of a queue.")
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
    queue: str | None,
    reasons: tuple[str, ...],
    analyzers: tuple[str, ...],
    wards: tuple[str, ...],
    priorities: tuple[str, ...],
    older_than_min: int,
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
    """List results, newest change first; with --queue, what waits for a person, the most urgent first."""
    from interface.store.lab import Page, ResultFilter
    from interface.store.review import Queue, QueueFilter

    of_queue = reasons or analyzers or wards or priorities or older_than_min
    if queue and (held or statuses or since or until):
        raise click.UsageError("--queue says itself which states it has: leave out --held, --status, --since, --until")
    if queue or of_queue:
        if held or statuses or since or until:
            raise click.UsageError("--reason, --analyzer, --ward, --priority and --older-than are of a queue")
        asked = QueueFilter(
            queue=Queue(queue or "all"), reasons=tuple(map(HoldReason, reasons)), test_codes=tests, analyzers=analyzers,
            wards=wards, priorities=tuple(map(Priority, priorities)), patient_ids=patients, order_ids=orders,
            barcodes=barcodes, older_than_min=older_than_min, limit=limit,
        )  # fmt: skip
        _show_queue(context, asked, organization, username, as_json)
        return
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
    if as_json or found:
        emit(found if as_json else result_table(found), as_json)
    if not found:
        click.echo("no results", err=True)
    elif len(found) == limit:
        click.echo(f"the newest {limit}; --limit and --until show more", err=True)


def _show_queue(
    context: Context, asked: QueueFilter, organization: str | None, username: str | None, as_json: bool
) -> None:
    from interface.store.review import flat

    found, reasons = asyncio.run(_wait(context.settings, organization, username, asked))
    if as_json:
        emit([flat(row) for row in found], as_json)
    elif found:
        emit(queue_table(found), as_json)
    click.echo(waiting_words(len(found), asked.limit, reasons), err=True)


@result.command("show", epilog=ENVIRONMENT)
@click.argument("result_id", type=Seen())
@click.option("--history", is_flag=True, help="Every version, oldest first.")
@laboratory_options
@pass_context
def show(
    context: Context,
    result_id: tuple[UUID, int | None],
    history: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Show a result. `labora trace` explains it."""
    versions = asyncio.run(_read(context.settings, organization, username, result_id[0], history))
    if history:
        emit(versions, as_json, () if as_json else _HISTORY)
    else:
        emit(versions[0], as_json)
    for reason in () if as_json else versions[-1].held:
        hold = HOLDS[reason]
        click.echo(f"{reason}: {'may be accepted: ' if hold.acceptable else ''}{hold.words}", err=True)


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


async def _wait(
    settings: Settings, organization: str | None, username: str | None, asked: QueueFilter
) -> tuple[list[Waiting], dict[str, int]]:
    from interface.store import review

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RESULT_READ)
        async with at.transaction() as connection:
            found, reasons = await review.waiting(connection, asked), await review.counts(connection, asked)
            patients = [one.result.patient_id for one in found]
            await at.note_read(connection, "search", "result", None, patients, {"found": str(len(found))})
    return found, reasons


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

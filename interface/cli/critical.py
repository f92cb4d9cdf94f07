"""`labora critical`: who must be told of a critical result, who was called and who was told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, aware, desk, laboratory_options
from interface.cli.result_words import critical_table
from interface.domain.critical import Means, Obstacle
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.domain.views import Actor
    from interface.settings import Settings
    from interface.store.criticals import CriticalView, EventView
    from interface.store.db import Connection

Take: TypeAlias = "Callable[[Connection, Actor], Awaitable[CriticalView]]"
_Command = TypeVar("_Command", bound=Callable[..., Any])
_EVENTS = ("happened_at", "what", "person", "means", "outcome", "read_back", "comment", "actor")
_SHOWN = (
    "id", "version", "kind", "state", "level", "opened_at", "escalate_at", "patient", "ward", "barcode", "test_code",
    "comparator", "value", "unit", "flags", "status", "notified", "notified_at", "means", "read_back", "closed_at",
)  # fmt: skip


def _task(command: _Command) -> _Command:
    """One task, the version that was looked at, and who does it."""
    version = click.option("--version", type=click.IntRange(1), help="Only if it is still this version of the task.")
    return click.argument("task_id", type=click.UUID)(version(laboratory_options(command)))


def _call(command: _Command) -> _Command:
    """How and when somebody was called."""
    means = click.option("--means", type=click.Choice([one.value for one in Means]), default=Means.PHONE.value)
    at = click.option("--at", type=INSTANT, help="When; a time without an offset is UTC.  [default: now]")
    return means(at(click.option("--comment", default="")(command)))


@click.group()
def critical() -> None:
    """Tell critical results: who was called, who was told, when, and whether it was read back."""


@critical.command("list", epilog=ENVIRONMENT)
@click.option("--overdue", is_flag=True, help="Only what is past its time and not read back.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=500, show_default=True)
@laboratory_options
@pass_context
def list_criticals(
    context: Context, overdue: bool, limit: int, organization: str | None, username: str | None, as_json: bool
) -> None:
    """List what is not finished: what is to be told, then what is to be closed, the longest waiting first. Each ! is a
    time for escalation that has passed."""
    found = asyncio.run(_find(context.settings, organization, username, overdue, limit + 1))
    found, more = found[:limit], len(found) > limit
    if as_json or found:
        emit(found if as_json else critical_table(found), as_json)
    if more:
        click.echo(f"the first {limit}; --limit shows more", err=True)
    if not found:
        click.echo("nothing is overdue" if overdue else "nobody is to be told anything", err=True)


@critical.command(epilog=ENVIRONMENT)
@click.argument("task_id", type=click.UUID)
@laboratory_options
@pass_context
def show(context: Context, task_id: UUID, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a task and everything that was done about it."""
    task, events = asyncio.run(_read(context.settings, organization, username, task_id))
    if as_json:
        emit({"critical": task, "events": events}, as_json)
        return
    emit(task, as_json, _SHOWN)
    click.echo()
    emit(events, as_json, _EVENTS)


@critical.command(epilog=ENVIRONMENT)
@_task
@click.option("--obstacle", type=click.Choice([one.value for one in Obstacle]), required=True, help="Why nobody was.")
@click.option("--person", default="", help="Who was called.")
@_call
@pass_context
def attempt(
    context: Context, /, obstacle: str, person: str, means: str, at: datetime | None, comment: str, **asked: Any
) -> None:
    """Somebody was called and not reached. The time for escalation goes on."""
    from interface.flow import criticals

    _take(
        context,
        lambda connection, actor: criticals.attempt(
            connection, actor, asked["task_id"], Obstacle(obstacle), person=person, means=Means(means), at=aware(at),
            comment=comment, version=asked["version"],
        ),
        **asked,
    )  # fmt: skip


@critical.command(epilog=ENVIRONMENT)
@_task
@click.option("--person", default="", help="Who was told: name, role, ward.")
@click.option("--practitioner", "practitioner_id", type=click.UUID, help="The practitioner who was told.")
@click.option("--read-back/--not-read-back", required=True, help="Whether it was repeated, and right.")
@_call
@pass_context
def notify(
    context: Context, /, person: str, practitioner_id: UUID | None, read_back: bool, means: str, at: datetime | None,
    comment: str, **asked: Any,
) -> None:  # fmt: skip
    """Somebody was told. Without having been read back, it is told again."""
    from interface.flow import criticals

    told = criticals.Told(person, practitioner_id, aware(at), Means(means), read_back)
    _take(
        context,
        lambda connection, actor: criticals.notify(
            connection, actor, asked["task_id"], told, comment=comment, version=asked["version"]
        ),
        **asked,
    )


@critical.command(epilog=ENVIRONMENT)
@_task
@click.option("--comment", default="")
@pass_context
def close(context: Context, /, comment: str, **asked: Any) -> None:
    """Finish a task that was told and read back."""
    from interface.flow import criticals

    _take(
        context,
        lambda connection, actor: criticals.close(
            connection, actor, asked["task_id"], comment=comment, version=asked["version"]
        ),
        **asked,
    )


@critical.command(epilog=ENVIRONMENT)
@_task
@click.option("--comment", required=True, help="Says why.")
@pass_context
def withdraw(context: Context, /, comment: str, **asked: Any) -> None:
    """End a task whose result was taken back before anybody was told, or saw it released."""
    from interface.flow import criticals

    _take(
        context,
        lambda connection, actor: criticals.withdraw(
            connection, actor, asked["task_id"], comment=comment, version=asked["version"]
        ),
        **asked,
    )


def _take(
    context: Context, step: Take, *, organization: str | None, username: str | None, as_json: bool, **_task: object
) -> None:
    task = asyncio.run(_done(context.settings, organization, username, step))
    emit(task, as_json, () if as_json else _SHOWN)


async def _done(settings: Settings, organization: str | None, username: str | None, step: Take) -> CriticalView:
    async with desk(settings, organization, username, named=True) as at:
        async with at.transaction() as connection:
            return await step(connection, at.actor)


async def _find(
    settings: Settings, organization: str | None, username: str | None, overdue: bool, limit: int
) -> list[CriticalView]:
    from interface.flow import criticals

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RESULT_READ)
        async with at.transaction() as connection:
            found = await criticals.waiting(connection, overdue=overdue, limit=limit)
            await at.note_read(connection, "search", "critical", None, [task.patient_id for task in found])
    return found


async def _read(
    settings: Settings, organization: str | None, username: str | None, task_id: UUID
) -> tuple[CriticalView, list[EventView]]:
    from interface.flow import criticals

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RESULT_READ)
        async with at.transaction() as connection:
            task, events = await criticals.show(connection, task_id)
            await at.note_read(connection, "read", "critical", task_id, [task.patient_id])
    return task, events

"""`labora dispatch`: what analyzers were told and answered, and which analyzer measures what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, desk, laboratory_options
from interface.domain.permissions import Permission
from interface.domain.routing import DispatchKind, DispatchState, WhenDown

if TYPE_CHECKING:
    from interface.domain.views import Actor
    from interface.flow.dispatches import RouteEntry
    from interface.settings import Settings
    from interface.store.db import Connection
    from interface.store.dispatch_views import DispatchEventView, DispatchView, RouteView

Change: TypeAlias = "Callable[[Connection, Actor, UUID, str], Awaitable[DispatchView]]"
_Command = TypeVar("_Command", bound=Callable[..., Any])
_LISTED = ("work_id", "state", "kind", "analyzer", "code", "test_code", "barcode", "priority", "attempts", "answer",
           "reason", "updated_at")  # fmt: skip
_EVENTS = ("at", "kind", "state", "answer", "reason", "actor")
_ROUTES = ("test_code", "specimen_type", "place", "analyzer", "share", "when_down", "codes", "down", "by", "at")
_reason = click.option("--reason", required=True, help="Why; it is kept.")


def _works(command: _Command) -> _Command:
    return click.argument("works", metavar="WORK...", nargs=-1, required=True)(_reason(laboratory_options(command)))


@click.group()
def dispatch() -> None:
    """See what analyzers were told to measure, send it again, take it back. WORK is a work id or an id."""


@dispatch.command("list", epilog=ENVIRONMENT)
@click.option("--state", "states", multiple=True, type=click.Choice([one.value for one in DispatchState]))
@click.option("--kind", "kinds", multiple=True, type=click.Choice([one.value for one in DispatchKind]))
@click.option("--analyzer", "analyzers", multiple=True, metavar="NAME")
@click.option("--barcode", "barcodes", multiple=True, help="Of the specimen.")
@click.option("--order", "orders", multiple=True, metavar="NUMBER", help="The laboratory's number.")
@click.option("--test", "tests", multiple=True, metavar="CODE")
@click.option("--all", "everything", is_flag=True, help="Also what has ended.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_dispatches(
    context: Context,
    states: tuple[str, ...],
    kinds: tuple[str, ...],
    analyzers: tuple[str, ...],
    barcodes: tuple[str, ...],
    orders: tuple[str, ...],
    tests: tuple[str, ...],
    everything: bool,
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List the work of analyzers, the newest first. What was refused or has failed waits for a person."""
    from interface.store.dispatch_views import DispatchFilter, find
    from interface.store.query import Page

    filter = DispatchFilter(
        states=tuple(map(DispatchState, states)),
        kinds=tuple(map(DispatchKind, kinds)),
        analyzers=analyzers,
        barcodes=barcodes,
        order_numbers=orders,
        tests=tests,
        open_only=not (states or everything),
        page=Page(limit=limit),
    )

    async def run() -> list[DispatchView]:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.ORDER_READ)
            async with at.transaction() as connection:
                found = await find(connection, filter)
                patients = [each.patient_id for each in found]
                await at.note_read(connection, "search", "dispatch", None, patients, {"found": str(len(found))})
        return found

    found = asyncio.run(run())
    emit(found, as_json, _LISTED)
    if not found:
        click.echo("no analyzer has such work", err=True)
    elif len(found) == limit:
        click.echo(f"the newest {limit}; --limit shows more", err=True)


@dispatch.command("show", epilog=ENVIRONMENT)
@click.argument("work")
@laboratory_options
@pass_context
def show(context: Context, work: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show one piece of work and everything that happened to it."""
    from interface.flow import dispatches

    async def run() -> tuple[DispatchView, list[DispatchEventView]]:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.ORDER_READ)
            async with at.transaction() as connection:
                view, events = await dispatches.show(connection, await dispatches.find_id(connection, work))
                await at.note_read(connection, "read", "dispatch", view.id, [view.patient_id])
        return view, events

    view, events = asyncio.run(run())
    if as_json:
        emit({"dispatch": view, "events": events}, as_json)
        return
    emit(view, as_json)
    click.echo()
    emit(events, as_json, _EVENTS)


@dispatch.command("resend", epilog=ENVIRONMENT)
@_works
@pass_context
def resend(
    context: Context,
    works: tuple[str, ...],
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Tell it to the analyzer again, as new work; one that is not told of its work gets it when it asks."""
    from interface.flow import dispatches

    _change(context.settings, works, reason, organization, username, as_json, dispatches.resend)


@dispatch.command("cancel", epilog=ENVIRONMENT)
@_works
@pass_context
def cancel(
    context: Context,
    works: tuple[str, ...],
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """This analyzer is not to measure it, and is told so; the order waits for another. All of them or none."""
    from interface.flow import dispatches

    _change(context.settings, works, reason, organization, username, as_json, dispatches.cancel)


def _change(
    settings: Settings,
    works: tuple[str, ...],
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
    change: Change,
) -> None:
    from interface.flow.dispatches import find_id

    async def run() -> list[DispatchView]:
        async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
            ids = sorted([await find_id(connection, work) for work in works])  # locked in the order of everybody
            return [await change(connection, at.actor, one, reason) for one in dict.fromkeys(ids)]

    emit(asyncio.run(run()), as_json, _LISTED)


# ---- routing --------------------------------------------------------------------------------------------------------


@dispatch.command("routes", epilog=ENVIRONMENT)
@click.option("--test", "tests", multiple=True, metavar="CODE")
@laboratory_options
@pass_context
def list_routes(
    context: Context, tests: tuple[str, ...], organization: str | None, username: str | None, as_json: bool
) -> None:
    """List which analyzers measure which tests, in order of preference. Of a test that is not listed, all that can."""
    from interface.store.dispatch_views import find_routes

    async def run() -> list[RouteView]:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.ORDER_READ)
            async with at.transaction() as connection:
                await at.note_read(connection, "search", "route")
                return await find_routes(connection, tests)

    found = asyncio.run(run())
    emit(found, as_json, _ROUTES)
    if not found:
        click.echo("every analyzer is offered what it can measure", err=True)


@dispatch.command("route", epilog=ENVIRONMENT)
@click.argument("test")
@click.argument("analyzers", nargs=-1, metavar="[ANALYZER[=SHARE]]...")
@click.option("--any", "of_any", is_flag=True, help="No routes: every analyzer that can measure it is offered it.")
@click.option("--specimen-type", default="", metavar="CODE", help="For these specimens only.")
@click.option("--code", "codes", multiple=True, metavar="ANALYZER=CODE", help="Order it by this code, where its map "
              "has several; more than once: by all of them.")  # fmt: skip
@click.option("--when-down", type=click.Choice([one.value for one in WhenDown]), default=WhenDown.NEXT.value,
              show_default=True, help="Whether the next has the work of one that is down.")  # fmt: skip
@_reason
@laboratory_options
@pass_context
def route(
    context: Context,
    test: str,
    analyzers: tuple[str, ...],
    of_any: bool,
    specimen_type: str,
    codes: tuple[str, ...],
    when_down: str,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Say which analyzers measure a test, the preferred first, in the place of what was said before.

    With shares (chem-1=70 chem-2=30) specimens are divided; an analyzer that is down leaves its own to the next.
    """
    from interface.flow import dispatches

    if of_any is bool(analyzers):
        raise click.UsageError("name the analyzers, or say --any")
    entries = _entries(analyzers, codes, WhenDown(when_down))

    async def run() -> list[RouteView]:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            return await dispatches.set_routes(connection, at.actor, test, entries, reason, specimen_type)

    emit(asyncio.run(run()), as_json, _ROUTES)


def _entries(analyzers: tuple[str, ...], codes: tuple[str, ...], when_down: WhenDown) -> list[RouteEntry]:
    from interface.flow.dispatches import RouteEntry

    by_analyzer: dict[str, list[str]] = {}
    for text in codes:
        name, _, code = text.partition("=")
        by_analyzer.setdefault(name, []).append(code)
    entries = []
    for text in analyzers:
        name, _, share = text.partition("=")
        if share and not (share.isascii() and share.isdigit() and len(share) < 6):
            raise click.UsageError(f"a share is a whole number: {text}")
        entries.append(RouteEntry(name, int(share or 0), when_down, tuple(by_analyzer.pop(name, ()))))
    if by_analyzer:
        raise click.UsageError(f"--code names {', '.join(by_analyzer)}, which is none of the analyzers")
    return entries


@dispatch.command("down", epilog=ENVIRONMENT)
@click.argument("analyzer")
@_reason
@laboratory_options
@pass_context
def down(
    context: Context, analyzer: str, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Say that an analyzer measures nothing: what is routed to it goes to the next. It may ask all the same."""
    _set_down(context.settings, analyzer, reason, organization, username, as_json, is_down=True)


@dispatch.command("up", epilog=ENVIRONMENT)
@click.argument("analyzer")
@_reason
@laboratory_options
@pass_context
def up(
    context: Context, analyzer: str, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Say that an analyzer measures again."""
    _set_down(context.settings, analyzer, reason, organization, username, as_json, is_down=False)


def _set_down(
    settings: Settings,
    analyzer: str,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
    *,
    is_down: bool,
) -> None:
    from interface.flow import dispatches

    async def run() -> None:
        async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
            await dispatches.set_down(connection, at.actor, analyzer, reason, is_down=is_down)

    asyncio.run(run())
    emit({"analyzer": analyzer, "down": is_down}, as_json)

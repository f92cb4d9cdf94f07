"""`labora provider`: who orders."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, CommandError, desk, laboratory_options
from interface.cli.patient import identifier_of
from interface.domain.permissions import Permission
from interface.domain.views import ProviderView


@click.group()
def provider() -> None:
    """List, add and change who orders."""


@provider.command("list", epilog=ENVIRONMENT)
@click.option("--name", default="", help="How the family or given name begins.")
@click.option("--identifier", metavar="[AUTHORITY|]VALUE")
@click.option("--active/--inactive", default=None)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_providers(
    context: Context,
    name: str,
    identifier: str | None,
    active: bool | None,
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List providers, newest change first."""
    from interface.store.practitioners import ProviderFilter, find_providers
    from interface.store.query import Page

    known = identifier_of(identifier) if identifier else None
    chosen = ProviderFilter(
        identifier=known.value if known else "",
        authority=known.authority or None if known else None,
        name=name,
        active=active,
        page=Page(newest_first=True, limit=limit),
    )

    async def find() -> list[ProviderView]:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.ORDER_READ)
            async with at.transaction() as connection:
                found = await find_providers(connection, chosen)
                await at.note_read(connection, "search", "provider", None, (), {"found": str(len(found))})
        return found

    found = asyncio.run(find())
    _show(found, as_json)
    if not found:
        click.echo("no providers", err=True)


@provider.command("show", epilog=ENVIRONMENT)
@click.argument("provider_id", metavar="ID", type=click.UUID)
@laboratory_options
@pass_context
def show(context: Context, provider_id: UUID, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a provider."""
    from interface.store.practitioners import get_provider

    async def find() -> ProviderView:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.ORDER_READ)
            async with at.transaction() as connection:
                view = await get_provider(connection, provider_id)
                await at.note_read(connection, "read", "provider", provider_id)
        if view is None:
            raise CommandError("there is no provider of this id")
        return view

    _show(asyncio.run(find()), as_json)


@provider.command("create", epilog=ENVIRONMENT)
@click.option("--identifier", "identifiers", multiple=True, metavar="[AUTHORITY|]VALUE")
@click.option("--family", default="")
@click.option("--given", default="")
@click.option("--role", default="", help="In the laboratory's own words.")
@laboratory_options
@pass_context
def create(
    context: Context,
    identifiers: tuple[str, ...],
    family: str,
    given: str,
    role: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Add a provider."""
    from interface.flow.practitioners import NewProvider, create_provider

    new = NewProvider(tuple(map(identifier_of, identifiers)), family, given, role)

    async def add() -> ProviderView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            return await create_provider(connection, at.actor, new)

    _show(asyncio.run(add()), as_json)


@provider.command("update", epilog=ENVIRONMENT)
@click.argument("provider_id", metavar="ID", type=click.UUID)
@click.option(
    "--identifier", "identifiers", multiple=True, metavar="[AUTHORITY|]VALUE", help="All of them; others end."
)
@click.option("--family")
@click.option("--given")
@click.option("--role")
@click.option("--active/--inactive", default=None)
@click.option("--version", type=int, help="What you looked at.  [default: as it is now]")
@laboratory_options
@pass_context
def update(
    context: Context,
    provider_id: UUID,
    identifiers: tuple[str, ...],
    family: str | None,
    given: str | None,
    role: str | None,
    active: bool | None,
    version: int | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Change what is said of a provider; what is not given stays."""
    from interface.flow.practitioners import ProviderChange, update_provider
    from interface.store.practitioners import get_provider

    named = tuple(map(identifier_of, identifiers)) or None
    change = ProviderChange(named, family, given, role, active)

    async def apply() -> ProviderView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            known = await get_provider(connection, provider_id)
            looked_at = version if version is not None else known.version if known else 0
            return await update_provider(connection, at.actor, provider_id, change, looked_at)

    _show(asyncio.run(apply()), as_json)


def _show(views: list[ProviderView] | ProviderView, as_json: bool) -> None:
    if as_json:
        emit(views, True)
        return
    emit([_line(view) for view in (views if isinstance(views, list) else [views])], False)


def _line(view: ProviderView) -> dict[str, Any]:
    numbers = tuple(f"{each.authority}|{each.value}" if each.authority else each.value for each in view.identifiers)
    return {
        "family": view.family,
        "given": view.given,
        "role": view.role,
        "identifiers": numbers,
        "active": view.active,
        "version": view.version,
        "id": view.id,
    }

"""`labora organization`: create and list laboratories."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import json_option

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.actors import OrganizationView

_ENVIRONMENT = "Environment: LABORA_CONFIG, LABORA_DATABASE_URL, LABORA_STATE_DIR."


@click.group()
def organization() -> None:
    """Create and list organizations: laboratories that never see each other's rows."""


@organization.command("create", epilog=_ENVIRONMENT)
@click.argument("name")
@click.option("--title", default="", help="What the laboratory is called on reports.  [default: its name]")
@json_option
@pass_context
def create(context: Context, name: str, title: str, as_json: bool) -> None:
    """Create a laboratory with the shipped catalogue of tests. `labora user create` makes its first user."""
    made = asyncio.run(_create(context.settings, name, title))
    emit(made, as_json)
    if made.name not in context.settings.laboratories:
        click.echo(
            f"no link of the configuration is of {made.name}: name it in `organizations` there, or the daemon looks"
            " after nothing of it, such as critical results that nobody is told of",
            err=True,
        )


@organization.command("list", epilog=_ENVIRONMENT)
@json_option
@pass_context
def list_all(context: Context, as_json: bool) -> None:
    """List every laboratory of the database; needs its owner's login."""
    found = asyncio.run(_list(context.settings))
    emit(found, as_json)
    if not found:
        click.echo("no organizations", err=True)


async def _create(settings: Settings, name: str, title: str) -> OrganizationView:
    from interface.flow import actors
    from interface.store.embedded import opened_database

    async with opened_database(settings) as database:
        return await actors.create_organization(database, name, title)


async def _list(settings: Settings) -> tuple[OrganizationView, ...]:
    from interface.store.actors import list_organizations
    from interface.store.db import open_connection
    from interface.store.embedded import login_url
    from interface.store.schema import OWNER_ROLE

    async with login_url(settings) as url:
        connection = await open_connection(url, role=OWNER_ROLE)
        try:
            return await list_organizations(connection)
        finally:
            await connection.close()

"""`labora client`: create and list the programs (EMRs) that may ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, desk, laboratory_options

if TYPE_CHECKING:
    from interface.settings import Settings


@dataclass(frozen=True, slots=True)
class NewClient:
    """What is shown once: nobody can show the secret again."""

    name: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListedClient:
    name: str
    client_id: str
    scopes: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None


@click.group()
def client() -> None:
    """Create and list API clients."""


@client.command("create", epilog=ENVIRONMENT)
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, metavar="SCOPE",
              help="SMART scope, for example system/Observation.rs or system/*.read; repeatable.")  # fmt: skip
@laboratory_options
@pass_context
def create(
    context: Context, name: str, scopes: tuple[str, ...], organization: str | None, username: str | None, as_json: bool
) -> None:
    """Create a client and show its id and secret, this once."""
    made = asyncio.run(_create(context.settings, organization, username, name, scopes))
    emit(made, as_json)
    click.echo("keep the secret now: it cannot be shown again", err=True)


@client.command("list", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def list_clients(context: Context, organization: str | None, username: str | None, as_json: bool) -> None:
    """List the clients of an organization."""
    found = asyncio.run(_list(context.settings, organization, username))
    emit(found, as_json)
    if not found:
        click.echo("no clients", err=True)


async def _create(
    settings: Settings, organization: str | None, username: str | None, name: str, scopes: tuple[str, ...]
) -> NewClient:
    from interface.flow import actors

    async with desk(settings, organization, username, named=False) as at:
        made = await actors.create_client(at.database, at.actor, name, scopes)
    return NewClient(made.client.name, made.client_id, made.secret, made.client.scopes)


async def _list(settings: Settings, organization: str | None, username: str | None) -> list[ListedClient]:
    from interface.flow import actors

    async with desk(settings, organization, username, named=False) as at:
        found = await actors.list_clients(at.database, at.actor)
        ids = [actors.client_id_of(at.actor.organization_id, one) for one in found]
    return [
        ListedClient(one.name, id, one.scopes, one.created_at, one.disabled_at)
        for one, id in zip(found, ids, strict=True)
    ]

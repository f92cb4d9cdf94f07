"""`labora client`: create, list and disable the programs (EMRs) that may ask; change the keys of those that sign."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, as_option, desk, laboratory_options, organization_option

if TYPE_CHECKING:
    from interface.flow.client_keys import ClientKeys
    from interface.settings import Settings


@dataclass(frozen=True, slots=True)
class NewClient:
    """What is shown once: nobody can show the secret again."""

    name: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SigningClient:
    """A client without a secret: it signs with the private key of its own."""

    name: str
    client_id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListedClient:
    name: str
    client_id: str
    scopes: tuple[str, ...]
    authentication: str
    jwks_url: str
    created_at: datetime
    disabled_at: datetime | None


_JWKS_HELP = (
    "The client's public keys, a JWK set (RS384: RSA of 2048 bits or more; ES384: EC P-384): a file, or an https:// "
    "address at a host that [api] jwks_hosts names."
)


@click.group()
def client() -> None:
    """Create, list and disable API clients."""


@client.command("create", epilog=ENVIRONMENT)
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, metavar="SCOPE",
              help="SMART scope, for example system/Observation.rs or system/*.read; repeatable.")  # fmt: skip
@click.option("--jwks", metavar="FILE|URL", help=f"{_JWKS_HELP}  [default: the client gets a secret]")
@laboratory_options
@pass_context
def create(
    context: Context, name: str, scopes: tuple[str, ...], jwks: str | None, organization: str | None,
    username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Create a client and show its id and secret, this once. With --jwks it signs (SMART Backend Services) instead."""
    keys = _keys(jwks) if jwks else None
    made = asyncio.run(_create(context.settings, organization, username, name, scopes, keys))
    emit(made, as_json)
    if keys is None:
        click.echo("keep the secret now: it cannot be shown again", err=True)


@client.command("keys", epilog=ENVIRONMENT)
@click.argument("name")
@click.option("--jwks", metavar="FILE|URL", required=True, help=_JWKS_HELP)
@organization_option
@as_option
@pass_context
def keys(context: Context, name: str, jwks: str, organization: str | None, username: str | None) -> None:
    """Give a client other keys, in place of those it had or of its secret. Its tokens end."""
    asyncio.run(_change_keys(context.settings, organization, username, name, _keys(jwks)))
    click.echo(f"{name} signs with these keys from now on", err=True)


@client.command("disable", epilog=ENVIRONMENT)
@click.argument("name")
@organization_option
@as_option
@pass_context
def disable(context: Context, name: str, organization: str | None, username: str | None) -> None:
    """End a client's tokens and let it have no others. It stays in the audit trail."""
    asyncio.run(_disable(context.settings, organization, username, name))
    click.echo(f"{name} is disabled", err=True)


@client.command("list", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def list_clients(context: Context, organization: str | None, username: str | None, as_json: bool) -> None:
    """List the clients of an organization."""
    found = asyncio.run(_list(context.settings, organization, username))
    emit(found, as_json)
    if not found:
        click.echo("no clients", err=True)


def _keys(text: str) -> ClientKeys:
    from interface.flow.client_keys import ClientKeys

    if "://" in text:
        return ClientKeys(url=text)
    try:
        return ClientKeys(json.loads(Path(text).read_text(encoding="utf-8")))
    except OSError as error:
        raise click.UsageError(f"{text} cannot be read: {error.strerror}") from None
    except ValueError:
        raise click.UsageError(f"{text} is not JSON") from None


async def _create(
    settings: Settings,
    organization: str | None,
    username: str | None,
    name: str,
    scopes: tuple[str, ...],
    keys: ClientKeys | None,
) -> NewClient | SigningClient:
    from interface.flow import actors

    async with desk(settings, organization, username, named=False) as at:
        made = await actors.create_client(at.database, at.actor, name, scopes, keys, settings.api.jwks_hosts)
    if keys is not None:
        return SigningClient(made.client.name, made.client_id, made.client.scopes)
    return NewClient(made.client.name, made.client_id, made.secret, made.client.scopes)


async def _change_keys(
    settings: Settings, organization: str | None, username: str | None, name: str, keys: ClientKeys
) -> None:
    from interface.flow import actors

    async with desk(settings, organization, username, named=True) as at:
        await actors.set_client_keys(at.database, at.actor, name, keys, settings.api.jwks_hosts)


async def _disable(settings: Settings, organization: str | None, username: str | None, name: str) -> None:
    from interface.flow import actors

    async with desk(settings, organization, username, named=True) as at:
        await actors.disable_client(at.database, at.actor, name)


async def _list(settings: Settings, organization: str | None, username: str | None) -> list[ListedClient]:
    from interface.flow import actors

    async with desk(settings, organization, username, named=False) as at:
        found = await actors.list_clients(at.database, at.actor)
        ids = [actors.client_id_of(at.actor.organization_id, one) for one in found]
    return [
        ListedClient(one.name, id, one.scopes, one.authentication, one.jwks_url, one.created_at, one.disabled_at)
        for one, id in zip(found, ids, strict=True)
    ]

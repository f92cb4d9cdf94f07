"""`labora user`: create, list and disable users, change passwords."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, as_option, desk, laboratory_options, organization_option
from interface.domain.permissions import Role

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.actors import UserView

_ENVIRONMENT = f"{ENVIRONMENT} LABORA_NEW_PASSWORD: the password to set, in place of asking for it."
COLUMNS = ("username", "full_name", "roles", "created_at", "disabled_at", "locked_until")


@click.group()
def user() -> None:
    """Create, list and disable users.

    The first user of an organization must be an administrator and is created without --as; later changes need one.
    """


@user.command("create", epilog=_ENVIRONMENT)
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice([role.value for role in Role]))
@click.option("--full-name", default="")
@laboratory_options
@pass_context
def create(
    context: Context, name: str, roles: tuple[str, ...], full_name: str, organization: str | None, username: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Create a user; the password is asked for twice."""
    made = asyncio.run(_create(context.settings, organization, username, name, roles, full_name))
    emit(made, as_json)


@user.command("list", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def list_users(context: Context, organization: str | None, username: str | None, as_json: bool) -> None:
    """List the users of an organization."""
    found = asyncio.run(_list(context.settings, organization, username))
    emit(found, as_json, () if as_json else COLUMNS)
    if not found:
        click.echo("no users", err=True)


@user.command("disable", epilog=ENVIRONMENT)
@click.argument("name")
@organization_option
@as_option
@pass_context
def disable(context: Context, name: str, organization: str | None, username: str | None) -> None:
    """End a user's account and sessions. The user stays in the audit trail."""
    asyncio.run(_disable(context.settings, organization, username, name))
    click.echo(f"{name} is disabled", err=True)


@user.command("password", epilog=_ENVIRONMENT)
@click.argument("name")
@organization_option
@as_option
@pass_context
def password(context: Context, name: str, organization: str | None, username: str | None) -> None:
    """Change a password: one's own, or as an administrator anybody's. Unlocks the account and ends its sessions."""
    asyncio.run(_password(context.settings, organization, username, name))
    click.echo(f"the password of {name} is changed", err=True)


def _new_password(name: str) -> str:
    given = os.environ.get("LABORA_NEW_PASSWORD")
    if given is not None:
        return given
    return str(click.prompt(f"New password of {name}", hide_input=True, confirmation_prompt=True, err=True))


async def _create(
    settings: Settings,
    organization: str | None,
    username: str | None,
    name: str,
    roles: tuple[str, ...],
    full_name: str,
) -> UserView:
    from interface.flow import actors

    async with desk(settings, organization, username, named=False) as at:
        new = actors.NewUser(name, _new_password(name), roles, full_name)
        return await actors.create_user(at.database, at.actor, new)


async def _list(settings: Settings, organization: str | None, username: str | None) -> tuple[UserView, ...]:
    from interface.flow import actors

    async with desk(settings, organization, username, named=False) as at:
        return await actors.list_users(at.database, at.actor)


async def _disable(settings: Settings, organization: str | None, username: str | None, name: str) -> None:
    from interface.flow import actors

    async with desk(settings, organization, username, named=True) as at:
        await actors.disable_user(at.database, at.actor, name)


async def _password(settings: Settings, organization: str | None, username: str | None, name: str) -> None:
    from interface.flow import actors

    async with desk(settings, organization, username, named=True) as at:
        await actors.set_password(at.database, at.actor, name, _new_password(name))

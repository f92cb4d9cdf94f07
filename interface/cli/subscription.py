"""`labora subscription`: which EMRs are told of changes, and whether they take it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, desk, laboratory_options

if TYPE_CHECKING:
    from interface.flow.subscriptions import Shown
    from interface.settings import Settings
    from interface.store.subscriptions import LetterView

_SHOWN = ("id", "client", "status", "criteria", "endpoint", "behind", "letters", "sent", "sent_at", "error")


@click.group()
def subscription() -> None:
    """See to the EMRs that are told of changes (FHIR Subscriptions)."""


@subscription.command("list", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def list_subscriptions(context: Context, organization: str | None, username: str | None, as_json: bool) -> None:
    """List subscriptions: whether each is told, how far it is behind, what its endpoint refused."""
    found = asyncio.run(_list(context.settings, organization, username))
    if as_json or found:
        emit(found, as_json, () if as_json else _SHOWN)
    if not found:
        click.echo("no subscriptions", err=True)


@subscription.command(epilog=ENVIRONMENT)
@click.argument("subscription_id", type=click.UUID)
@laboratory_options
@pass_context
def show(
    context: Context, subscription_id: UUID, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Show a subscription and the letters that its endpoint refused."""
    found, letters = asyncio.run(_show(context.settings, organization, username, subscription_id))
    if as_json:
        emit({"subscription": found, "letters": letters}, as_json)
        return
    emit(found, as_json)
    if letters:
        click.echo()
        emit(letters, as_json)


@subscription.command(epilog=ENVIRONMENT)
@click.argument("subscription_id", type=click.UUID)
@click.option("--letters", is_flag=True, help="Send first what its endpoint refused.")
@laboratory_options
@pass_context
def resume(
    context: Context, subscription_id: UUID, letters: bool, organization: str | None, username: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Go on at once from where it stopped: nothing in between is left out."""
    emit(asyncio.run(_resume(context.settings, organization, username, subscription_id, letters)), as_json)


@subscription.command(epilog=ENVIRONMENT)
@click.argument("subscription_id", type=click.UUID)
@click.option("--reason", required=True, help="Says why; its client is told.")
@laboratory_options
@pass_context
def off(
    context: Context, subscription_id: UUID, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Tell it nothing more. Its place is kept, for when it is resumed."""
    emit(asyncio.run(_off(context.settings, organization, username, subscription_id, reason)), as_json)


async def _list(settings: Settings, organization: str | None, username: str | None) -> list[Shown]:
    from interface.flow import subscriptions

    async with desk(settings, organization, username, named=False) as at, at.transaction() as connection:
        return await subscriptions.listed(connection, at.actor)


async def _show(
    settings: Settings, organization: str | None, username: str | None, id: UUID
) -> tuple[Shown, list[LetterView]]:
    from interface.flow import subscriptions

    async with desk(settings, organization, username, named=False) as at, at.transaction() as connection:
        return await subscriptions.shown(connection, at.actor, id)


async def _resume(settings: Settings, organization: str | None, username: str | None, id: UUID, letters: bool) -> Shown:
    from interface.flow import subscriptions

    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        return await subscriptions.resume(connection, at.actor, id, letters=letters)


async def _off(settings: Settings, organization: str | None, username: str | None, id: UUID, reason: str) -> Shown:
    from interface.flow import subscriptions

    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        return await subscriptions.switch_off(connection, at.actor, id, reason)

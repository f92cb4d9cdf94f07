"""`labora db hold`: what is kept beyond its time."""

from __future__ import annotations

import asyncio
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, desk, laboratory_options


@click.group()
def hold() -> None:
    """Legal holds: while one stands, nothing of what it names is deleted."""


@hold.command("add", epilog=ENVIRONMENT)
@click.option("--patient", metavar="ID", help="Everything of a patient, and of whoever is found to be the same.")
@click.option("--order", metavar="NUMBER", help="Everything of an order.  [default: of the laboratory]")
@click.option("--reason", required=True, help="Why; it is audited.")
@laboratory_options
@pass_context
def add(
    context: Context, patient: str | None, order: str | None, reason: str, organization: str | None,
    username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Keep everything of a patient, an order or the whole laboratory, as a Labora user. Prints the hold's id."""
    from interface.flow import holds
    from interface.store.holds import HoldKind

    if patient and order:
        raise click.UsageError("a patient or an order, not both")
    kind = HoldKind.PATIENT if patient else HoldKind.ORDER if order else HoldKind.ORGANIZATION

    async def work() -> UUID:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            return await holds.add(connection, at.actor, kind, patient or order or "", reason)

    made = asyncio.run(work())
    emit({"id": made} if as_json else str(made), as_json)


@hold.command("remove", epilog=ENVIRONMENT)
@click.argument("hold_id", type=click.UUID)
@click.option("--reason", required=True, help="Why; it is audited.")
@laboratory_options
@pass_context
def remove(
    context: Context, hold_id: UUID, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """End a hold, as a Labora user: what it kept goes with the next `labora db maintain`, if it is old enough."""
    from interface.flow import holds

    async def work() -> None:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            await holds.remove(connection, at.actor, hold_id, reason)

    asyncio.run(work())
    emit({"id": hold_id} if as_json else str(hold_id), as_json)


@hold.command("list", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def list_all(context: Context, organization: str | None, username: str | None, as_json: bool) -> None:
    """List the holds that stand. Patients are named by their ids only."""
    from interface.store.holds import Hold, standing

    async def work() -> list[Hold]:
        async with desk(context.settings, organization, username, named=False) as at, at.transaction() as connection:
            await at.note_read(connection, "search", "legal_hold")
            return await standing(connection)

    found = asyncio.run(work())
    emit(found, as_json)
    if not found:
        click.echo("no holds", err=True)

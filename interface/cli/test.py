"""`labora test`: the tests of the laboratory's catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, TypeVar

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, CommandError, desk, laboratory_options
from interface.domain.model import ValueKind
from interface.domain.permissions import Permission
from interface.domain.units import Substance
from interface.domain.views import Actor, IntervalView, LabTestView

if TYPE_CHECKING:
    from interface.store.db import Connection

_Made = TypeVar("_Made")
KINDS = (ValueKind.NUMERIC, ValueKind.TEXT, ValueKind.CODED, ValueKind.RATIO)
reason_option = click.option("--reason", required=True, help="Why; it is kept.")
_LISTED = ("code", "name", "loinc", "unit", "decimals", "kind", "department", "specimen_types", "active", "source")


class Exact(click.ParamType[Decimal]):
    """A number as it is written, never a float."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not number.is_finite():
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


EXACT = Exact()


def change(
    context: Context,
    organization: str | None,
    username: str | None,
    step: Callable[[Connection, Actor], Awaitable[_Made]],
) -> _Made:
    """Make a change as the --as user."""

    async def run() -> _Made:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            return await step(connection, at.actor)

    return asyncio.run(run())


def read(
    context: Context,
    organization: str | None,
    username: str | None,
    kind: str,
    step: Callable[[Connection], Awaitable[_Made]],
    permission: Permission = Permission.RESULT_READ,
) -> _Made:
    """Read of the catalogue or of what else is no patient's, audited."""

    async def run() -> _Made:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(permission)
            async with at.transaction() as connection:
                await at.note_read(connection, "search", kind)
                return await step(connection)

    return asyncio.run(run())


@click.group()
def test() -> None:
    """List, show and change the laboratory's tests."""


@test.command("list", epilog=ENVIRONMENT)
@click.option("--department", default="")
@click.option("--active/--inactive", default=None)
@laboratory_options
@pass_context
def list_tests(
    context: Context,
    department: str,
    active: bool | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List tests by code."""
    from interface.store.catalogue_rows import read_tests

    found = read(
        context, organization, username, "test", lambda connection: read_tests(connection, None, department, active)
    )
    emit(found, as_json, _LISTED)
    if not found:
        click.echo("no tests", err=True)


@test.command("show", epilog=ENVIRONMENT)
@click.argument("code")
@laboratory_options
@pass_context
def show(context: Context, code: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a test with its intervals, also those that have ended."""
    from interface.cli.interval import COLUMNS, flat
    from interface.store.catalogue_rows import read_intervals, read_tests

    async def find(connection: Connection) -> tuple[list[LabTestView], list[IntervalView]]:
        return await read_tests(connection, [code]), await read_intervals(connection, [code], ended=True)

    found, intervals = read(context, organization, username, "test", find)
    if not found:
        raise CommandError(f"there is no test {code}")
    if as_json:
        emit({"test": found[0], "intervals": list(map(flat, intervals))}, True)
        return
    emit(found[0], False)
    if intervals:
        click.echo()
        emit([flat(view) for view in intervals], False, COLUMNS[1:])


@test.command("set", epilog=ENVIRONMENT)
@click.argument("code")
@reason_option
@click.option("--name")
@click.option("--unit", help="UCUM; 1 for none.")
@click.option("--decimals", type=click.IntRange(0, 10), help="Digits after the point, as reported.")
@click.option("--as-measured", is_flag=True, help="No fixed decimals.")
@click.option("--kind", type=click.Choice([kind.value for kind in KINDS]))
@click.option("--loinc")
@click.option("--department")
@click.option("--specimen-type", "specimen_types", multiple=True, metavar="CODE", help="All of them; repeat for more.")
@click.option("--molar-mass", type=EXACT, help="g/mol: lets mass and amount be converted.")
@click.option("--valence", type=int)
@click.option("--no-molar-mass", is_flag=True, help="It is not known any more.")
@click.option("--no-valence", is_flag=True, help="It is not known any more.")
@click.option("--source", help="Where it is from.")
@click.option("--active/--inactive", default=None)
@click.option("--version", type=int, help="What you looked at: refused when it has changed since.")
@laboratory_options
@pass_context
def set_(
    context: Context,
    code: str,
    reason: str,
    name: str | None,
    unit: str | None,
    decimals: int | None,
    as_measured: bool,
    kind: str | None,
    loinc: str | None,
    department: str | None,
    specimen_types: tuple[str, ...],
    molar_mass: Decimal | None,
    valence: int | None,
    no_molar_mass: bool,
    no_valence: bool,
    source: str | None,
    active: bool | None,
    version: int | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Add a test or change one; what is not given stays. A test with results keeps its unit and kind."""
    from interface.flow.catalogue import TestChange, set_test

    given = (("molar_mass", no_molar_mass, molar_mass), ("valence", no_valence, valence))
    for member, gone, value in given:
        if gone and value is not None:
            option = member.replace("_", "-")
            raise click.UsageError(f"--{option} and --no-{option} contradict each other")
    wanted = TestChange(
        name=name,
        loinc=loinc,
        unit=unit,
        decimals=decimals,
        as_measured=as_measured,
        kind=ValueKind(kind) if kind else None,
        department=department,
        specimen_types=specimen_types or None,
        substance=Substance(molar_mass, valence) if molar_mass is not None or valence is not None else None,
        unknown=tuple([member for member, gone, _ in given if gone]),
        source=source,
        active=active,
    )
    made = change(
        context,
        organization,
        username,
        lambda connection, actor: set_test(connection, actor, code, wanted, reason, version),
    )
    emit(made, as_json)


@test.command("deactivate", epilog=ENVIRONMENT)
@click.argument("code")
@reason_option
@laboratory_options
@pass_context
def deactivate(
    context: Context, code: str, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Take a test out of use: it is not ordered any more, and what an analyzer sends of it is held."""
    from interface.flow.catalogue import deactivate_test

    emit(
        change(
            context, organization, username, lambda connection, actor: deactivate_test(connection, actor, code, reason)
        ),
        as_json,
    )

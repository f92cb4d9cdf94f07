"""`labora panel`: what is ordered by one code and is several tests."""

from __future__ import annotations

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, laboratory_options
from interface.cli.test import change, read, reason_option

_LISTED = ("code", "name", "tests", "loinc", "active", "source", "version")


@click.group()
def panel() -> None:
    """List and change the laboratory's panels."""


@panel.command("list", epilog=ENVIRONMENT)
@click.option("--active/--inactive", default=None)
@laboratory_options
@pass_context
def list_panels(
    context: Context, active: bool | None, organization: str | None, username: str | None, as_json: bool
) -> None:
    """List panels by code, with their tests."""
    from interface.store.catalogue_rows import read_panels

    found = read(context, organization, username, "panel", lambda connection: read_panels(connection, None, active))
    emit(found, as_json, _LISTED)
    if not found:
        click.echo("no panels", err=True)


@panel.command("set", epilog=ENVIRONMENT)
@click.argument("code")
@reason_option
@click.option("--name")
@click.option("--test", "tests", multiple=True, metavar="CODE", help="All of them, in order; repeat for more.")
@click.option("--loinc")
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
    tests: tuple[str, ...],
    loinc: str | None,
    source: str | None,
    active: bool | None,
    version: int | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Add a panel or change one; what is not given stays."""
    from interface.flow.catalogue import PanelChange, set_panel

    wanted = PanelChange(name, loinc, tests or None, source, active)
    made = change(
        context,
        organization,
        username,
        lambda connection, actor: set_panel(connection, actor, code, wanted, reason, version),
    )
    emit(made, as_json)


@panel.command("deactivate", epilog=ENVIRONMENT)
@click.argument("code")
@reason_option
@laboratory_options
@pass_context
def deactivate(
    context: Context, code: str, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Take a panel out of use; its tests stay."""
    from interface.flow.catalogue import deactivate_panel

    emit(
        change(
            context, organization, username, lambda connection, actor: deactivate_panel(connection, actor, code, reason)
        ),
        as_json,
    )

"""`labora specimen-type`: what specimens are of, as maps, intervals and tests name them."""

from __future__ import annotations

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, laboratory_options
from interface.cli.test import change, read, reason_option

_LISTED = ("code", "name", "active", "source")


@click.group("specimen-type")
def specimen_type() -> None:
    """List and change the laboratory's specimen types."""


@specimen_type.command("list", epilog=ENVIRONMENT)
@click.option("--active/--inactive", default=None)
@laboratory_options
@pass_context
def list_types(
    context: Context, active: bool | None, organization: str | None, username: str | None, as_json: bool
) -> None:
    """List specimen types by code."""
    from interface.store.catalogue_rows import read_specimen_types

    found = read(
        context, organization, username, "specimen_type", lambda connection: read_specimen_types(connection, active)
    )
    emit(found, as_json, _LISTED)
    if not found:
        click.echo("no specimen types", err=True)


@specimen_type.command("set", epilog=ENVIRONMENT)
@click.argument("code")
@reason_option
@click.option("--name")
@click.option("--source", help="Where it is from.")
@click.option("--active/--inactive", default=None)
@laboratory_options
@pass_context
def set_(
    context: Context, /, code: str, reason: str, name: str | None, source: str | None, active: bool | None,
    organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Add a specimen type or change one; what is not given stays."""
    from interface.flow.catalogue import set_specimen_type

    made = change(
        context,
        organization,
        username,
        lambda connection, actor: set_specimen_type(connection, actor, code, name, reason, source, active),
    )
    emit(made, as_json)

"""`labora qc material` and `labora qc lot`: control materials and their lots, a level each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, laboratory_options
from interface.cli.rule import read_text
from interface.cli.test import change, read, reason_option
from interface.domain.map_files import FileFaults
from interface.domain.permissions import Permission
from interface.domain.qc_lots import LotView, MaterialView
from interface.domain.views import Actor

if TYPE_CHECKING:
    from interface.flow.qc_lot_files import Imported
    from interface.store.db import Connection

_Command = TypeVar("_Command", bound=Callable[..., Any])
MATERIALS = ("name", "manufacturer", "catalogue_number", "note", "closed_at", "version", "id")
LOTS = (
    "material", "lot", "level", "level_number", "expires_on", "identifiers", "analyzers", "closed_at", "version", "id",
)  # fmt: skip
closed_option = click.option("--closed", is_flag=True, help="Also those that are closed.")
version_option = click.option("--version", type=int, help="What you looked at: refused when it has changed since.")


class Day(click.ParamType[date]):
    """A date as ISO 8601 writes it."""

    name = "date"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a date, YYYY-MM-DD", param, ctx)


DAY = Day()


# ---- materials ------------------------------------------------------------------------------------------------------


@click.group()
def material() -> None:
    """Control materials: what a maker sells, in lots of one or more levels. By name or id."""


def _material_options(command: _Command) -> _Command:
    for option in reversed(
        (
            click.option("--manufacturer"),
            click.option("--catalogue-number"),
            click.option("--note"),
        )
    ):
        command = option(command)
    return command


@material.command("list", epilog=ENVIRONMENT)
@closed_option
@laboratory_options
@pass_context
def list_materials(
    context: Context, closed: bool, organization: str | None, username: str | None, as_json: bool
) -> None:
    """List materials."""
    from interface.store.qc_lots import read_materials

    found = read(
        context, organization, username, "qc_material", lambda c: read_materials(c, closed=closed), Permission.QC_READ
    )
    emit(found, as_json, () if as_json else MATERIALS)
    if not found:
        click.echo("no control materials", err=True)


@material.command("show", epilog=ENVIRONMENT)
@click.argument("material_name", metavar="MATERIAL")
@laboratory_options
@pass_context
def show_material(
    context: Context, material_name: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Show a material with all its lots."""
    from interface.flow.qc_lots import material_named
    from interface.store.qc_lots import read_lots

    async def find(connection: Connection) -> tuple[MaterialView, list[LotView]]:
        view = await material_named(connection, material_name)
        return view, await read_lots(connection, material_id=view.id, closed=True)

    view, lots = read(context, organization, username, "qc_material", find, Permission.QC_READ)
    if as_json:
        emit({"material": view, "lots": lots}, True)
        return
    emit(view, False, MATERIALS)
    emit("", False)
    emit(lots, False, LOTS)


@material.command("create", epilog=ENVIRONMENT)
@click.argument("name")
@_material_options
@laboratory_options
@pass_context
def create_material(
    context: Context, /, name: str, organization: str | None, username: str | None, as_json: bool, **said: str | None
) -> None:
    """Add a material."""
    from interface.flow import qc_lots as flow

    new = flow.MaterialChange(name, **said)
    made = change(context, organization, username, lambda c, actor: flow.create_material(c, actor, new))
    emit(made, as_json, () if as_json else MATERIALS)


@material.command("change", epilog=ENVIRONMENT)
@click.argument("material_name", metavar="MATERIAL")
@click.option("--name")
@_material_options
@version_option
@reason_option
@laboratory_options
@pass_context
def change_material(
    context: Context,
    /,
    material_name: str,
    version: int | None,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **said: str | None,
) -> None:
    """Change what a material says; what is not given stays."""
    from interface.flow import qc_lots as flow

    new = flow.MaterialChange(**said)

    async def apply(connection: Connection, actor: Actor) -> MaterialView:
        known = await flow.material_named(connection, material_name)
        return await flow.change_material(connection, actor, known.id, new, reason, version)

    emit(change(context, organization, username, apply), as_json, () if as_json else MATERIALS)


def _switch_material(name: str, help: str) -> None:
    @material.command(name, help=help, epilog=ENVIRONMENT)
    @click.argument("material_name", metavar="MATERIAL")
    @reason_option
    @laboratory_options
    @pass_context
    def switch(
        context: Context,
        material_name: str,
        reason: str,
        organization: str | None,
        username: str | None,
        as_json: bool,
    ) -> None:
        from interface.flow import qc_lots as flow

        step = flow.close_material if name == "close" else flow.reopen_material

        async def apply(connection: Connection, actor: Actor) -> MaterialView:
            known = await flow.material_named(connection, material_name)
            return await step(connection, actor, known.id, reason)

        emit(change(context, organization, username, apply), as_json, () if as_json else MATERIALS)


_switch_material("close", "It is not used any more: it takes no new lot.")
_switch_material("reopen", "It was closed by mistake, or is used again.")


# ---- lots -----------------------------------------------------------------------------------------------------------


@click.group()
def lot() -> None:
    """Lots of control materials. LOT is an id, `4711`, `4711/low` or `Material/4711/low`, as long as it says one."""


def _lot_options(command: _Command) -> _Command:
    for option in reversed(
        (
            click.option("--level-number", type=int, help="The order of the levels within a run, from 1."),
            click.option("--expires", "expires_on", type=DAY, help="Good to the end of that day, in UTC."),
            click.option(
                "--identifier", "identifiers", multiple=True, metavar="TEXT",
                help="What analyzers call it: specimen id or lot as they send it; * at the end is any end.",
            ),
            click.option(
                "--analyzer", "analyzers", multiple=True, metavar="NAME", help="That measures it.  [default: any]"
            ),
            click.option("--note"),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _lot_change(said: dict[str, Any]) -> dict[str, Any]:
    """What was given, for a `LotChange`."""
    return {name: value for name, value in said.items() if value not in (None, ())}


@lot.command("list", epilog=ENVIRONMENT)
@click.option("--material", "material_name", metavar="MATERIAL")
@closed_option
@laboratory_options
@pass_context
def list_lots(
    context: Context,
    material_name: str | None,
    closed: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List lots by their materials."""
    from interface.flow.qc_lots import material_named
    from interface.store.qc_lots import read_lots

    async def find(connection: Connection) -> list[LotView]:
        of = (await material_named(connection, material_name)).id if material_name else None
        return await read_lots(connection, material_id=of, closed=closed)

    found = read(context, organization, username, "qc_lot", find, Permission.QC_READ)
    emit(found, as_json, () if as_json else LOTS)
    if not found:
        click.echo("no lots", err=True)


@lot.command("show", epilog=ENVIRONMENT)
@click.argument("lot_name", metavar="LOT")
@laboratory_options
@pass_context
def show_lot(context: Context, lot_name: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a lot with all its targets, those too that have ended."""
    from interface.cli.qc_target import TARGETS
    from interface.domain.qc_lots import TargetView
    from interface.flow.qc_lots import lot_named
    from interface.store.qc_lots import TargetFilter, find_targets

    async def find(connection: Connection) -> tuple[LotView, list[TargetView]]:
        view = await lot_named(connection, lot_name)
        return view, await find_targets(connection, TargetFilter(lot_ids=(view.id,), ended=True))

    view, targets = read(context, organization, username, "qc_lot", find, Permission.QC_READ)
    if as_json:
        emit({"lot": view, "targets": targets}, True)
        return
    emit(view, False, (*LOTS, "note"))
    emit("", False)
    emit(targets, False, TARGETS)


@lot.command("create", epilog=ENVIRONMENT)
@click.argument("material_name", metavar="MATERIAL")
@click.argument("number", metavar="LOT")
@click.option("--level", default="", help="As the laboratory calls it, such as low.")
@_lot_options
@laboratory_options
@pass_context
def create_lot(
    context: Context,
    /,
    material_name: str,
    number: str,
    level: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Add one level of a lot."""
    from interface.flow import qc_lots as flow

    new = flow.LotChange(number, level, **_lot_change(said))

    async def apply(connection: Connection, actor: Actor) -> LotView:
        of = await flow.material_named(connection, material_name)
        return await flow.create_lot(connection, actor, of.id, new)

    made = change(context, organization, username, apply)
    emit(made, as_json, () if as_json else LOTS)
    if not made.identifiers:
        click.echo("it has no identifier yet: what analyzers send of it will not be recognised", err=True)


@lot.command("change", epilog=ENVIRONMENT)
@click.argument("lot_name", metavar="LOT")
@click.option("--lot", "number")
@click.option("--level")
@_lot_options
@click.option("--no-identifiers", is_flag=True, help="Take all identifiers away.")
@click.option("--any-analyzer", is_flag=True, help="Any analyzer may measure it.")
@version_option
@reason_option
@laboratory_options
@pass_context
def change_lot(
    context: Context,
    /,
    lot_name: str,
    number: str | None,
    no_identifiers: bool,
    any_analyzer: bool,
    version: int | None,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Change what a lot says; what is not given stays. Identifiers and analyzers are then all of them."""
    from interface.flow import qc_lots as flow

    given = _lot_change({"lot": number, **said})
    given |= ({"identifiers": ()} if no_identifiers else {}) | ({"analyzers": ()} if any_analyzer else {})
    new = flow.LotChange(**given)

    async def apply(connection: Connection, actor: Actor) -> LotView:
        known = await flow.lot_named(connection, lot_name)
        return await flow.change_lot(connection, actor, known.id, new, reason, version)

    emit(change(context, organization, username, apply), as_json, () if as_json else LOTS)


def _switch_lot(name: str, help: str) -> None:
    @lot.command(name, help=help, epilog=ENVIRONMENT)
    @click.argument("lot_name", metavar="LOT")
    @reason_option
    @laboratory_options
    @pass_context
    def switch(
        context: Context, lot_name: str, reason: str, organization: str | None, username: str | None, as_json: bool
    ) -> None:
        from interface.flow import qc_lots as flow

        step = flow.close_lot if name == "close" else flow.reopen_lot

        async def apply(connection: Connection, actor: Actor) -> LotView:
            known = await flow.lot_named(connection, lot_name)
            return await step(connection, actor, known.id, reason)

        emit(change(context, organization, username, apply), as_json, () if as_json else LOTS)


_switch_lot("close", "It is not measured any more: a control of it makes no acceptable point from now on.")
_switch_lot("reopen", "It was closed by mistake, or is measured again.")


# ---- files ----------------------------------------------------------------------------------------------------------


@lot.command("import", epilog=ENVIRONMENT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what it would add, and add nothing.")
@reason_option
@laboratory_options
@pass_context
def import_lots(
    context: Context,
    file: Path,
    dry_run: bool,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> int:
    """Add the materials, lots and targets of a CSV or JSON file: all of it or nothing. docs/qc.md names the columns."""
    from interface.flow import qc_lot_files
    from interface.render.qc_lot_table import read_lots

    text = read_text(file).removeprefix("\ufeff")

    async def apply(connection: Connection, actor: Actor) -> Imported:
        done = await qc_lot_files.import_lots(connection, actor, read_lots(file.name, text), reason, dry_run)
        if dry_run:
            from interface.store import audit

            await audit.record(connection, actor, "read", "qc_lot", None, {"by": "import"})
        return done

    try:
        done = change(context, organization, username, apply)
    except FileFaults as error:
        for fault in error.faults:
            click.echo(f"labora: {fault}", err=True)
        return EXIT_FAILED
    emit(done, as_json)
    if dry_run:
        click.echo("nothing was added", err=True)
    return 0


@lot.command("export", epilog=ENVIRONMENT)
@click.option("--material", "material_name", default="", metavar="NAME")
@closed_option
@laboratory_options
@pass_context
def export_lots(
    context: Context,
    material_name: str,
    closed: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Write lots with the targets that are not over as CSV, or with --json as JSON, that `import` takes."""
    from interface.flow import qc_lot_files
    from interface.render.qc_lot_table import write_csv

    found = read(
        context,
        organization,
        username,
        "qc_lot",
        lambda c: qc_lot_files.export_lots(c, material=material_name, closed=closed),
        Permission.QC_READ,
    )
    emit(list(found) if as_json else write_csv(found).rstrip("\n"), as_json)

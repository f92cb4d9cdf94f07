"""`labora specimen`: find specimens, take them their way, print their labels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, aware, desk, laboratory_options
from interface.domain.permissions import Permission
from interface.domain.specimens import RejectReason
from interface.domain.states import SpecimenState
from interface.domain.views import Audience, SpecimenView

if TYPE_CHECKING:
    from interface.flow.specimens import Rejected
    from interface.settings import Settings
    from interface.store.db import Connection
    from interface.store.lab import SpecimenFilter

_COLUMNS = ("barcode", "state", "type", "container", "time_point_min", "collected_at", "received_at", "rack",
            "position", "id")  # fmt: skip


@click.group()
def specimen() -> None:
    """Find specimens, take them their way, print their labels. SPECIMEN is a barcode or an id."""


@specimen.command("list", epilog=ENVIRONMENT)
@click.option("--barcode", "barcodes", multiple=True)
@click.option("--state", "states", multiple=True, type=click.Choice([state.value for state in SpecimenState]))
@click.option("--rack", "racks", multiple=True)
@click.option("--order", "orders", multiple=True, type=click.UUID, metavar="ID")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_specimens(
    context: Context,
    barcodes: tuple[str, ...],
    states: tuple[str, ...],
    racks: tuple[str, ...],
    orders: tuple[UUID, ...],
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List specimens, the newest change first."""
    from interface.store.lab import SpecimenFilter
    from interface.store.query import Page

    page = Page(newest_first=True, limit=limit)
    chosen = SpecimenFilter(barcodes=barcodes, states=states, racks=racks, order_ids=orders, page=page)
    found = asyncio.run(_list(context.settings, organization, username, chosen))
    emit(found, as_json, _COLUMNS)
    if not found:
        click.echo("no specimens", err=True)
    elif len(found) == limit:
        click.echo(f"the newest {limit}; --limit shows more", err=True)


@specimen.command("show", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@laboratory_options
@pass_context
def show(context: Context, name: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a specimen, and each of its steps and places."""
    from interface.flow import specimens
    from interface.store.specimens import read_events

    async def run() -> dict[str, object]:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.ORDER_READ)
            async with at.transaction() as connection:
                one = await specimens.view(connection, await _named(connection, name))
                history = await read_events(connection, one.id)
                await at.note_read(connection, "read", "specimen", one.id, [one.patient_id])
        return {"specimen": one, "history": history}

    said = asyncio.run(run())
    if as_json:
        emit(said, as_json)
        return
    emit(said["specimen"], False)
    click.echo()
    emit(said["history"], False, ("happened_at", "action", "state", "actor", "rack", "position", "reason"))


@specimen.command("collect", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--at", type=INSTANT, help="When it was taken; without an offset it is UTC.  [default: now]")
@click.option("--by", default="", help="Who took it.  [default: the user]")
@click.option("--container", default="", help="The type of tube.")
@laboratory_options
@pass_context
def collect(
    context: Context,
    name: str,
    at: datetime | None,
    by: str,
    container: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Say that a specimen was taken."""
    from interface.flow import specimens

    said = {"at": aware(at), "by": by, "container": container}
    _shown(_step(context, organization, username, name, specimens.collect, **said), as_json)


@specimen.command("retime", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--at", type=INSTANT, required=True, help="When it was taken; without an offset it is UTC.")
@click.option("--reason", required=True, help="Why what was said before is wrong.")
@laboratory_options
@pass_context
def retime(
    context: Context,
    name: str,
    at: datetime,
    reason: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Put right when a specimen was taken, with what was parted from it: its results are of that time from now on."""
    from interface.flow import specimens

    said = {"at": aware(at), "reason": reason}
    _shown(_step(context, organization, username, name, specimens.retime, **said), as_json)


@specimen.command("receive", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--at", type=INSTANT, help="When the laboratory got it.  [default: now]")
@click.option("--by", default="", help="Who got it.  [default: the user]")
@click.option("--collected", type=INSTANT, help="When it was taken, where nobody has said so.")
@laboratory_options
@pass_context
def receive(
    context: Context,
    name: str,
    at: datetime | None,
    by: str,
    collected: datetime | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Say that the laboratory has a specimen."""
    from interface.flow import specimens

    said = {"at": aware(at), "by": by, "collected_at": aware(collected)}
    _shown(_step(context, organization, username, name, specimens.receive, **said), as_json)


@specimen.command("reject", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--reason", required=True, type=click.Choice([reason.value for reason in RejectReason]))
@click.option("--text", default="", help="What more there is to say; for other it is needed.")
@click.option("--recollect", is_flag=True, help="The same is expected once more, in a new specimen.")
@laboratory_options
@pass_context
def reject(
    context: Context,
    name: str,
    reason: str,
    text: str,
    recollect: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Reject a specimen with its aliquots, its open tests and what was measured on it and not released."""
    from interface.flow import specimens

    said = {"code": RejectReason(reason), "text": text, "recollect": recollect}
    done: Rejected = _step(context, organization, username, name, specimens.reject, **said)  # type: ignore[assignment]
    if as_json:
        emit(done, as_json)
        return
    _shown(done.specimen, False)
    click.echo(f"rejected: {', '.join(done.rejected) or 'no test'}", err=True)
    if done.released:
        click.echo(f"released before, and still released: {', '.join(done.released)}", err=True)
    if done.again is not None:
        click.echo(f"expected in its place: {done.again.barcode}", err=True)


@specimen.command("reinstate", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--reason", required=True, help="Why it was no mistake of the specimen's.")
@laboratory_options
@pass_context
def reinstate(
    context: Context, name: str, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Take back that a specimen was rejected or used up."""
    from interface.flow import specimens

    _shown(_step(context, organization, username, name, specimens.reinstate, reason=reason), as_json)


@specimen.command("aliquot", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--barcode", default="", help="The aliquot's.  [default: the specimen's and a number]")
@click.option("--container", default="", help="Its type of tube.  [default: the specimen's]")
@click.option("--test", "tests", multiple=True, metavar="CODE", help="An open test that is measured on it from now on.")
@laboratory_options
@pass_context
def aliquot(
    context: Context,
    name: str,
    barcode: str,
    container: str,
    tests: tuple[str, ...],
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Make an aliquot of a specimen, and show it."""
    from interface.flow import specimens

    said = {"barcode": barcode, "container": container, "tests": tests}
    _shown(_step(context, organization, username, name, specimens.aliquot, **said), as_json)


@specimen.command("move", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--rack", default="", help="Where it is stored; without one it is taken out.")
@click.option("--position", default="")
@laboratory_options
@pass_context
def move(
    context: Context,
    name: str,
    rack: str,
    position: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Store a specimen, or take it out."""
    from interface.flow import specimens

    _shown(_step(context, organization, username, name, specimens.move, rack=rack, position=position), as_json)


@specimen.command("exhaust", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--reason", default="")
@laboratory_options
@pass_context
def exhaust(
    context: Context, name: str, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Say that nothing is left of a specimen."""
    from interface.flow import specimens

    _shown(_step(context, organization, username, name, specimens.exhaust, reason=reason), as_json)


@specimen.command("dispose", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--reason", default="")
@laboratory_options
@pass_context
def dispose(
    context: Context, name: str, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Say that a specimen was thrown away."""
    from interface.flow import specimens

    _shown(_step(context, organization, username, name, specimens.dispose, reason=reason), as_json)


@specimen.command("label", epilog=ENVIRONMENT)
@click.argument("name", metavar="SPECIMEN")
@click.option("--zpl", is_flag=True, help="For a Zebra printer, in place of SVG.")
@click.option("--width", type=click.IntRange(20, 200), default=50, show_default=True, help="Millimetres.")
@click.option("--height", type=click.IntRange(10, 200), default=25, show_default=True, help="Millimetres.")
@click.option("--dpmm", type=click.Choice(["8", "12", "24"]), default="8", show_default=True,
              help="Dots to the millimetre: 203, 300 or 600 dpi.")  # fmt: skip
@laboratory_options
@pass_context
def label(
    context: Context,
    name: str,
    zpl: bool,
    width: int,
    height: int,
    dpmm: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Write a specimen's label to stdout, as SVG or ZPL."""
    from interface.flow.labels import label_of
    from interface.render import labels

    async def run() -> labels.Label:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.ORDER_READ)
            async with at.transaction() as connection:
                made, one = await label_of(connection, await _named(connection, name))
                await at.note_read(connection, "label", "specimen", one.id, [one.patient_id])
        return made

    made = asyncio.run(run())
    size = labels.Size(width * 1000, height * 1000, int(dpmm))
    text = labels.zpl(made, size) if zpl else labels.svg(made, size)
    if as_json:
        emit({"label": made, "text": text}, True)
    else:
        click.echo(text, nl=False)


# ---- what they share ------------------------------------------------------------------------------------------------


async def _named(connection: Connection, name: str) -> UUID:
    """The specimen of this id or barcode."""
    from interface.flow import specimens

    try:
        return UUID(name)
    except ValueError:
        return await specimens.by_barcode(connection, name)


def _step(
    context: Context,
    organization: str | None,
    username: str | None,
    name: str,
    step: Callable[..., Awaitable[object]],
    **said: object,
) -> object:
    """One step of one specimen, by the user."""

    async def run() -> object:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            return await step(connection, at.actor, await _named(connection, name), **said)

    return asyncio.run(run())


async def _list(
    settings: Settings, organization: str | None, username: str | None, chosen: SpecimenFilter
) -> list[SpecimenView]:
    from interface.store.lab import find_specimens

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.ORDER_READ)
        async with at.transaction() as connection:
            found = await find_specimens(connection, chosen, Audience.STAFF)
            patients = [one.patient_id for one in found]
            await at.note_read(connection, "search", "specimen", None, patients, {"found": str(len(found))})
    return found


def _shown(done: object, as_json: bool) -> None:
    emit(done if as_json else [done], as_json, () if as_json else _COLUMNS)

"""`labora order`: create, list and show orders."""

from __future__ import annotations

import asyncio
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, CommandError, aware, desk, laboratory_options
from interface.domain.model import Priority, Sex
from interface.domain.permissions import Permission
from interface.domain.views import Audience, IdentifierView, OrderView

if TYPE_CHECKING:
    from interface.flow.orders import NewOrder
    from interface.settings import Settings
    from interface.store.lab import OrderFilter


@click.group()
def order() -> None:
    """Create, list and show orders."""


@order.command("create", epilog=ENVIRONMENT)
@click.option(
    "--file", "file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True, exists=True),
    help="JSON as POST /api/orders takes it, one order or a list; - reads stdin. All are made, or none.",
)  # fmt: skip
@click.option("--test", "tests", multiple=True, metavar="CODE", help="A test or panel; repeat for more.")
@click.option("--barcode", default="", help="The specimen's.  [default: one is made]")
@click.option("--type", "specimen_type", default="", help="The specimen's type.")
@click.option("--collected", type=INSTANT, help="When the specimen was taken; without an offset it is UTC.")
@click.option("--received", type=INSTANT, help="When the laboratory got it.")
@click.option("--patient", "patient_id", type=click.UUID, metavar="ID", help="A patient there is.")
@click.option("--identifier", "identifiers", multiple=True, metavar="[AUTHORITY|]VALUE", help="The patient's.")
@click.option("--family", default="")
@click.option("--given", default="")
@click.option("--birth-date", type=click.DateTime(["%Y-%m-%d"]))
@click.option("--sex", type=click.Choice([sex.value for sex in Sex]), default=Sex.UNKNOWN.value)
@click.option("--placer-number", default="", help="The orderer's number: the same one again makes no second order.")
@click.option("--priority", type=click.Choice([one.value for one in Priority]), default=Priority.ROUTINE.value)
@click.option("--history", "clinical_history", default="", help="Clinical history.")
@laboratory_options
@pass_context
def create(
    context: Context,
    /,
    file: Path | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Create an order of one specimen from flags, or orders from a JSON file."""
    given = [name for name, value in flags.items() if value not in ("", (), None, "unknown", "routine")]
    if file is not None and given:
        raise click.UsageError("--file has the whole order; give it alone")
    new = [_from_flags(**flags)] if file is None else _from_file(file)  # type: ignore[arg-type]
    made = asyncio.run(_create(context.settings, organization, username, new))
    _show(made if len(made) > 1 else made[0], as_json)


@order.command("list", epilog=ENVIRONMENT)
@click.option("--specimen", "barcodes", multiple=True, metavar="BARCODE")
@click.option("--test", "tests", multiple=True, metavar="CODE")
@click.option("--patient", "patients", multiple=True, type=click.UUID, metavar="ID")
@click.option("--since", type=INSTANT, help="Ordered at or after; a date is UTC.")
@click.option("--until", type=INSTANT, help="Ordered before.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_orders(
    context: Context,
    barcodes: tuple[str, ...],
    tests: tuple[str, ...],
    patients: tuple[UUID, ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List orders, newest change first."""
    from interface.store.lab import OrderFilter, Page

    chosen = OrderFilter(
        patient_ids=patients,
        barcodes=barcodes,
        test_codes=tests,
        ordered_since=aware(since),
        ordered_until=aware(until),
        page=Page(newest_first=True, limit=limit),
    )
    found = asyncio.run(_find(context.settings, organization, username, chosen, "search"))
    _show(found, as_json)
    if not found:
        click.echo("no orders", err=True)
    elif len(found) == limit:
        click.echo(f"the newest {limit}; --limit and --until show more", err=True)


@order.command("show", epilog=ENVIRONMENT)
@click.argument("number")
@laboratory_options
@pass_context
def show(context: Context, number: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show an order by its number, the placer's number or its id."""
    from interface.store.lab import OrderFilter

    try:
        chosen = OrderFilter(ids=(UUID(number),))
    except ValueError:
        chosen = OrderFilter(numbers=(number,))
    found = asyncio.run(_find(context.settings, organization, username, chosen, "read"))
    if not found:
        raise CommandError("there is no such order")
    if len(found) > 1:
        found = [one for one in found if one.number == number]
    _show(found[0], as_json)


def _from_flags(
    tests: tuple[str, ...],
    barcode: str,
    specimen_type: str,
    collected: datetime | None,
    received: datetime | None,
    patient_id: UUID | None,
    identifiers: tuple[str, ...],
    family: str,
    given: str,
    birth_date: datetime | None,
    sex: str,
    placer_number: str,
    priority: str,
    clinical_history: str,
) -> NewOrder:
    from interface.flow.orders import NewOrder, NewPatient, NewSpecimen

    parts = [text.rpartition("|") for text in identifiers]
    born: date | None = birth_date.date() if birth_date else None
    named = tuple(IdentifierView(authority, value) for authority, _, value in parts)
    patient = NewPatient(named, family, given, born, Sex(sex))
    return NewOrder(
        specimens=(NewSpecimen(tests, barcode, specimen_type, aware(collected), aware(received)),),
        patient=None if patient_id and patient == NewPatient() else patient,
        patient_id=patient_id,
        placer_number=placer_number,
        priority=Priority(priority),
        clinical_history=clinical_history,
    )


def _from_file(file: Path) -> list[NewOrder]:
    import orjson

    from interface.api.bodies import Body
    from interface.api.orders import new_order

    with click.open_file(str(file), "rb") as source:
        data = source.read()
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CommandError(f"{file} is not JSON: line {error.lineno}") from None
    entries = document if isinstance(document, list) else [document]
    if not entries:
        raise CommandError(f"{file} has no order")
    orders = []
    for place, entry in enumerate(entries):
        body = Body(entry, f"[{place}]" if isinstance(document, list) else "")
        orders.append(new_order(body))
        body.done()
    return orders


async def _create(
    settings: Settings, organization: str | None, username: str | None, new: list[NewOrder]
) -> list[OrderView]:
    from interface.flow import orders

    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        return [await orders.create_order(connection, at.actor, one) for one in new]


async def _find(
    settings: Settings, organization: str | None, username: str | None, chosen: OrderFilter, action: str
) -> list[OrderView]:
    from interface.store import lab

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.ORDER_READ)
        async with at.transaction() as connection:
            found = await lab.find_orders(connection, chosen, Audience.STAFF)
            one = found[0].id if len(found) == 1 else None
            patients = [order.patient_id for order in found]
            await at.note_read(connection, action, "order", one, patients, {"found": str(len(found))})
    return found


def _show(orders: list[OrderView] | OrderView, as_json: bool) -> None:
    if as_json:
        emit(orders, as_json)
        return
    several = orders if isinstance(orders, list) else [orders]
    emit([_line(one) for one in several], False)


def _line(order: OrderView) -> dict[str, object]:
    barcodes = tuple(dict.fromkeys(item.barcode for item in order.items))
    return {
        "number": order.number,
        "placer": order.placer_number,
        "priority": order.priority,
        "ordered at": order.ordered_at.isoformat(timespec="seconds"),
        "patient": order.patient_id,
        "specimens": barcodes,
        "tests": tuple(f"{item.test_code}:{item.status}" for item in order.items),
        "id": order.id,
    }

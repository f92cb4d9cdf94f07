"""`labora order`: create, list, show, change, extend, replace and cancel orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
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
    from interface.store.db import Connection
    from interface.store.lab import OrderFilter


Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def order() -> None:
    """Create, list, show, change, extend, replace and cancel orders. An ORDER is named by number or id."""


_ORDER_OPTIONS = (
    click.option(
        "--file",
        "file",
        type=click.Path(path_type=Path, dir_okay=False, allow_dash=True, exists=True),
        help="JSON as POST /api/orders takes it, one order or a list; - reads stdin. All are made, or none.",
    ),
    click.option("--test", "tests", multiple=True, metavar="CODE", help="A test or panel; repeat for more."),
    click.option("--barcode", default="", help="The specimen's.  [default: one is made]"),
    click.option("--type", "specimen_type", default="", help="The specimen's type."),
    click.option("--collected", type=INSTANT, help="When the specimen was taken; without an offset it is UTC."),
    click.option("--received", type=INSTANT, help="When the laboratory got it."),
    click.option("--patient", "patient_id", type=click.UUID, metavar="ID", help="A patient there is."),
    click.option("--identifier", "identifiers", multiple=True, metavar="[AUTHORITY|]VALUE", help="The patient's."),
    click.option("--family", default=""),
    click.option("--given", default=""),
    click.option("--birth-date", type=click.DateTime(["%Y-%m-%d"])),
    click.option("--sex", type=click.Choice([sex.value for sex in Sex]), default=Sex.UNKNOWN.value),
    click.option(
        "--placer-number",
        default="",
        metavar="[AUTHORITY|]VALUE",
        help="The orderer's number: the same one again makes no second order.",
    ),
    click.option("--priority", type=click.Choice([one.value for one in Priority]), default=Priority.ROUTINE.value),
    click.option("--history", "clinical_history", default="", help="Clinical history."),
    click.option("--container", default="", help="The type of tube."),
    click.option(
        "--time-point",
        "time_points",
        multiple=True,
        type=click.IntRange(0),
        metavar="MINUTES",
        help="Of a time series: a specimen for each; repeat for more.",
    ),
    click.option("--ward", default=""),
    click.option("--patient-group", default="", help="Such as dialysis."),
    click.option("--pregnant/--not-pregnant", default=None),
    click.option("--gestation-weeks", type=click.IntRange(0, 45)),
    click.option("--requester", "requester_id", type=click.UUID, metavar="ID", help="The provider who asks."),
    click.option("--requester-number", default="", metavar="[AUTHORITY|]VALUE", help="The provider's identifier."),
)


def _order_options(command: Command) -> Command:
    """What says an order: a file, or flags for one of one specimen."""
    for option in reversed(_ORDER_OPTIONS):
        command = option(command)
    return command


def _new_orders(file: Path | None, flags: dict[str, Any], *, replaces: bool = False) -> list[NewOrder]:
    """`replaces`: another order, whose patient need not be named again."""
    given = [name for name, value in flags.items() if value not in ("", (), None, "unknown", "routine")]
    if file is not None and given:
        raise click.UsageError("--file has the whole order; give it alone")
    return [_from_flags(**flags, replaces=replaces)] if file is None else _from_file(file)


@order.command("create", epilog=ENVIRONMENT)
@_order_options
@laboratory_options
@pass_context
def create(
    context: Context,
    /,
    file: Path | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Create an order of one specimen from flags, or orders from a JSON file."""
    new = _new_orders(file, flags)
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
    if len(found) > 1:  # an authority's number may be another's too; ours is one order's
        found = [one for one in found if one.number == number] or found
    _show(found if len(found) > 1 else found[0], as_json)


@order.command("add", epilog=ENVIRONMENT)
@click.argument("number", metavar="ORDER")
@click.option("--test", "tests", multiple=True, required=True, metavar="CODE", help="A test or panel; repeat for more.")
@click.option("--specimen", "barcode", default="", metavar="BARCODE", help="One of the order's.  [default: a new one]")
@click.option("--type", "specimen_type", default="", help="The new specimen's type.")
@click.option("--container", default="", help="The new specimen's type of tube.")
@laboratory_options
@pass_context
def add(
    context: Context,
    number: str,
    tests: tuple[str, ...],
    barcode: str,
    specimen_type: str,
    container: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Order more tests, on a specimen of the order or on a new one."""
    from interface.flow import order_changes
    from interface.flow.orders import NewSpecimen

    async def run() -> OrderView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            found = await _named(connection, number)
            on = next((item.specimen_id for item in found.items if barcode and item.barcode == barcode), None)
            if barcode and on is None:
                raise CommandError("the order has no specimen of this barcode")
            new = None if barcode else NewSpecimen(tests, type=specimen_type, container=container)
            return await order_changes.add(
                connection, at.actor, found.id, tests if barcode else (), specimen_id=on, specimen=new
            )

    _show(asyncio.run(run()), as_json)


@order.command("change", epilog=ENVIRONMENT)
@click.argument("number", metavar="ORDER")
@click.option("--priority", type=click.Choice([one.value for one in Priority]))
@click.option("--history", "clinical_history", help="Clinical history.")
@click.option("--ward")
@click.option("--patient-group")
@click.option("--pregnant/--not-pregnant", default=None)
@click.option("--gestation-weeks", type=click.IntRange(0, 45))
@click.option("--requester", "requester_id", type=click.UUID, metavar="ID", help="The provider who asks.")
@click.option("--requester-number", metavar="[AUTHORITY|]VALUE", help="The provider's identifier.")
@click.option("--clear", "cleared", multiple=True, type=click.Choice(["pregnant", "gestation_weeks", "requester"]),
              help="What is not known any more.")  # fmt: skip
@laboratory_options
@pass_context
def change(
    context: Context,
    /,
    number: str,
    priority: str | None,
    requester_number: str | None,
    cleared: tuple[str, ...],
    organization: str | None,
    username: str | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Say something else of an order, as long as something of it waits. `add` orders more, `cancel` takes back."""
    from interface.flow import order_changes
    from interface.flow.orders import NewPractitioner

    if priority is requester_number is None and not cleared and all(value is None for value in said.values()):
        raise click.UsageError("say what is to be changed")
    authority, _, value = (requester_number or "").rpartition("|")
    wanted = order_changes.OrderChange(
        priority=Priority(priority) if priority else None,
        requester=NewPractitioner(value, authority=authority) if value else None,
        cleared=frozenset(cleared),
        ward_at=datetime.now(UTC),
        **said,
    )

    async def run() -> OrderView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            found = await _named(connection, number)
            return await order_changes.change(connection, at.actor, found.id, wanted)

    _show(asyncio.run(run()), as_json)


@order.command("replace", epilog=ENVIRONMENT)
@click.argument("number", metavar="ORDER")
@click.option("--reason", required=True)
@click.option("--in-progress", is_flag=True, help="Also what is being measured.")
@_order_options
@laboratory_options
@pass_context
def replace(
    context: Context,
    /,
    number: str,
    reason: str,
    in_progress: bool,
    file: Path | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Cancel an order and make another in its place, both or neither; for the same patient, who need not be named."""
    from interface.flow import order_changes

    new = _new_orders(file, flags, replaces=True)
    if len(new) != 1:
        raise click.UsageError("an order is replaced by one order")

    async def run() -> OrderView:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            found = await _named(connection, number)
            return await order_changes.replace_order(
                connection, at.actor, found.id, reason, new[0], in_progress=in_progress
            )

    _show(asyncio.run(run()), as_json)


@order.command("cancel", epilog=ENVIRONMENT)
@click.argument("number", metavar="ORDER")
@click.option("--reason", required=True)
@click.option("--test", "tests", multiple=True, metavar="CODE", help="Only this test; repeat for more.")
@click.option("--in-progress", is_flag=True, help="Also what is being measured.")
@laboratory_options
@pass_context
def cancel(
    context: Context,
    number: str,
    reason: str,
    tests: tuple[str, ...],
    in_progress: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Cancel an order, or tests of it. What was measured stays: release or discard it."""
    from interface.flow import order_changes

    async def run() -> order_changes.Cancelled:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            found = await _named(connection, number)
            items = [item.id for item in found.items if item.test_code in tests]
            if missing := set(tests) - {item.test_code for item in found.items}:
                raise CommandError(f"not in the order: {', '.join(sorted(missing))}")
            return await order_changes.cancel(
                connection, at.actor, found.id, reason, item_ids=items, in_progress=in_progress
            )

    done = asyncio.run(run())
    if as_json:
        emit(done, as_json)
        return
    _show(done.order, False)
    click.echo(f"cancelled: {', '.join(done.cancelled) or 'nothing more'}", err=True)
    if done.kept:
        click.echo(f"stays: {'; '.join(done.kept)}", err=True)


async def _named(connection: Connection, number: str) -> OrderView:
    """The order of this id, or of the laboratory's or else the placer's number. Raises CommandError."""
    from interface.store import lab
    from interface.store.lab import OrderFilter

    try:
        chosen = OrderFilter(ids=(UUID(number),))
    except ValueError:
        chosen = OrderFilter(numbers=(number,))
    found = await lab.find_orders(connection, chosen, Audience.STAFF)
    exact = [one for one in found if one.number == number] if len(found) > 1 else found
    if len(exact) != 1:
        raise CommandError("there is no such order" if not found else "several orders have this number; say the id")
    return exact[0]


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
    container: str,
    time_points: tuple[int, ...],
    ward: str,
    patient_group: str,
    pregnant: bool | None,
    gestation_weeks: int | None,
    requester_id: UUID | None,
    requester_number: str,
    replaces: bool = False,
) -> NewOrder:
    from interface.flow.orders import NewOrder, NewPatient, NewPractitioner, NewSpecimen

    parts = [text.rpartition("|") for text in identifiers]
    born: date | None = birth_date.date() if birth_date else None
    named = tuple(IdentifierView(authority, value) for authority, _, value in parts)
    patient = NewPatient(named, family, given, born, Sex(sex))
    authority, _, number = requester_number.rpartition("|")
    of = NewSpecimen(tests, barcode, specimen_type, aware(collected), aware(received), container, time_points)
    whose, _, placer = placer_number.rpartition("|")
    return NewOrder(
        specimens=(of,),
        patient=None if patient == NewPatient() and (patient_id or replaces) else patient,
        patient_id=patient_id,
        placer_number=placer,
        placer_authority=whose,
        priority=Priority(priority),
        clinical_history=clinical_history,
        requester=NewPractitioner(number, authority=authority) if number else None,
        requester_id=requester_id,
        ward=ward,
        patient_group=patient_group,
        pregnant=pregnant,
        gestation_weeks=gestation_weeks,
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

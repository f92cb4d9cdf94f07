"""Orders as an EMR, a member of staff or the command line hands them in.

An order is made whole or not at all, and all that is wrong with it is said at once. An order that is sent again (the
same placer number, the same content) is answered with the one that exists. Everything happens in the caller's
transaction, with its audit row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from interface.domain.model import ItemStatus, Priority
from interface.domain.permissions import Permission
from interface.domain.views import Actor, ActorKind, Audience, OrderView
from interface.flow.actors import require
from interface.flow.people import NewPatient as NewPatient
from interface.flow.people import find_patient, in_use, insert_patient, patient_of, patient_problems
from interface.flow.problems import OrderError as OrderError
from interface.flow.problems import instant_problems, text_problems
from interface.store import audit, lab, lab_changes, people
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.lab_changes import SpecimenInsert, SpecimenRow

LONGEST_HISTORY = 20_000  # characters
LONGEST_BARCODE = 64
MOST_SPECIMENS = 99


@dataclass(frozen=True, slots=True)
class NewSpecimen:
    """A specimen and what is ordered on it. `tests`: codes of tests and panels. Without a barcode it is given one."""

    tests: tuple[str, ...]
    barcode: str = ""
    type: str = ""
    collected_at: datetime | None = None
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order for one patient: `patient_id` of one we have, or `patient`, who is found by identifier or created."""

    specimens: tuple[NewSpecimen, ...]
    patient: NewPatient | None = None
    patient_id: UUID | None = None
    placer_number: str = ""
    priority: Priority = Priority.ROUTINE
    clinical_history: str = ""
    ordered_at: datetime | None = None  # None: now


async def create_order(connection: Connection, actor: Actor, order: NewOrder) -> OrderView:
    """Make the order, or return the one that exists under its placer number.

    Raises OrderError; ApiError 403 for a user without the permission (what a client may do is decided by its scopes,
    at the API).
    """
    if actor.kind is ActorKind.USER:
        require(actor, Permission.ORDER_WRITE)
    if problems := _problems(order):
        raise OrderError(problems)
    await lab_changes.lock_orders(connection, actor.organization_id)
    existing = await lab_changes.find_placed(connection, order.placer_number) if order.placer_number else None
    tests, problems = await _expand(connection, order.specimens)
    if problems:
        raise OrderError(problems)
    if existing is not None:
        return await _repeated(connection, actor, existing, order, tests)
    barcodes = [one.barcode for one in order.specimens if one.barcode]
    if taken := await lab_changes.known_barcodes(connection, barcodes, open_only=True):
        text = [f'the barcode "{barcode}" is already on a specimen that is open' for barcode in sorted(taken)]
        raise OrderError(text, conflict=True)
    patient = await _order_patient(connection, actor, order)
    order_id, number = await _insert(connection, actor, order, tests, patient)
    await audit.record(connection, actor, "create", "order", order_id, {"number": number})
    return await _view(connection, order_id)


# ---- what is wrong with it, before the database is asked ------------------------------------------------------------


def _problems(order: NewOrder) -> list[str]:
    problems = list(text_problems("placer number", order.placer_number))
    problems += text_problems("clinical history", order.clinical_history, LONGEST_HISTORY, lines=True)
    problems += instant_problems("ordered_at", order.ordered_at)
    if (order.patient is None) == (order.patient_id is None):
        problems.append("an order names either a patient or a patient's id")
    if order.patient is not None:
        problems += patient_problems(order.patient)
    if not order.specimens:
        problems.append("an order needs at least one specimen")
    if len(order.specimens) > MOST_SPECIMENS:
        problems.append(f"an order has at most {MOST_SPECIMENS} specimens")
    for place, specimen in enumerate(order.specimens, 1):
        problems += [f"specimen {place}: {problem}" for problem in _specimen_problems(specimen)]
    barcodes = [specimen.barcode for specimen in order.specimens if specimen.barcode]
    if len(barcodes) != len(set(barcodes)):
        problems.append("two specimens of the order carry the same barcode")
    return problems


def _specimen_problems(specimen: NewSpecimen) -> Iterable[str]:
    if not specimen.tests:
        yield "no test is ordered on it"
    if specimen.barcode != specimen.barcode.strip():
        yield "the barcode begins or ends with a space"
    yield from text_problems("barcode", specimen.barcode, LONGEST_BARCODE)
    yield from text_problems("type", specimen.type)
    for test in specimen.tests:
        yield from text_problems("test code", test)
    yield from instant_problems("collected_at", specimen.collected_at)
    yield from instant_problems("received_at", specimen.received_at)
    if specimen.collected_at and specimen.received_at and specimen.received_at < specimen.collected_at:
        yield "it was received before it was collected"


# ---- parts of making it ---------------------------------------------------------------------------------------------


async def _expand(connection: Connection, specimens: Sequence[NewSpecimen]) -> tuple[list[tuple[UUID, ...]], list[str]]:
    """The tests of each specimen, panels resolved and each test once; and what is wrong with the codes."""
    codes = list(dict.fromkeys(code for specimen in specimens for code in specimen.tests))
    found = await lab_changes.find_codes(connection, codes)
    problems: list[str] = []
    for code in codes:
        if code not in found:
            problems.append(f'there is no test or panel "{code}"')
        elif len(found[code]) > 1:
            problems.append(f'"{code}" is the code of a test and of a panel')
        elif not found[code][0]:
            problems.append(f'the panel "{code}" has no active test')
    if problems:
        return [], problems
    return [
        tuple(dict.fromkeys(test_id for code in specimen.tests for test_id in found[code][0])) for specimen in specimens
    ], []


async def _order_patient(connection: Connection, actor: Actor, order: NewOrder) -> UUID:
    await people.lock_merging(connection, actor.organization_id, share=True)  # none begins until the order is there
    if order.patient_id is not None:
        return await in_use(connection, await patient_of(connection, order.patient_id))
    if order.patient is None:
        raise OrderError(["an order names either a patient or a patient's id"])
    if found := await find_patient(connection, order.patient):
        return await in_use(connection, found)
    return await insert_patient(connection, actor, order.patient)


async def _insert(
    connection: Connection, actor: Actor, order: NewOrder, tests: Sequence[tuple[UUID, ...]], patient_id: UUID
) -> tuple[UUID, str]:
    year = datetime.now(UTC).year
    place = await lab_changes.next_number(connection, actor.organization_id, f"order.{year}")
    number = f"{year}-{place:06d}"
    barcodes = await _barcodes(connection, order.specimens, f"{year % 100:02d}{place:06d}")
    order_id = await lab_changes.insert_order(
        connection,
        actor.organization_id,
        number,
        order.placer_number,
        patient_id,
        order.priority,
        order.clinical_history,
        order.ordered_at,
    )
    rows = [
        SpecimenInsert(uuid7(), barcode, one.type, one.collected_at, one.received_at, ordered, _item_status(one))
        for one, barcode, ordered in zip(order.specimens, barcodes, tests, strict=True)
    ]
    await lab_changes.insert_specimens(connection, actor.organization_id, order_id, patient_id, rows)
    return order_id, number


async def _barcodes(connection: Connection, specimens: Sequence[NewSpecimen], stem: str) -> list[str]:
    """Each specimen's barcode; where it has none, `stem` and two digits, which no specimen ever carried.

    Digits alone, so that Code 128 C prints them short and every analyzer's reader takes them.
    """
    possible = [f"{stem}{place:02d}" for place in range(1, 100)]
    used = await lab_changes.known_barcodes(connection, possible, open_only=False)
    used |= {specimen.barcode for specimen in specimens}
    free = iter([barcode for barcode in possible if barcode not in used])
    barcodes = [specimen.barcode or next(free, "") for specimen in specimens]
    if not all(barcodes):
        raise OrderError(["no barcode is free for a specimen of this order; give it one"], conflict=True)
    return barcodes


def _item_status(specimen: NewSpecimen) -> ItemStatus:
    if specimen.received_at is not None:
        return ItemStatus.RECEIVED
    return ItemStatus.COLLECTED if specimen.collected_at is not None else ItemStatus.REQUESTED


# ---- the same order again -------------------------------------------------------------------------------------------


async def _repeated(
    connection: Connection, actor: Actor, order_id: UUID, order: NewOrder, tests: Sequence[tuple[UUID, ...]]
) -> OrderView:
    """The order that exists under this placer number, when it says the same. Raises OrderError when it does not."""
    view = await _view(connection, order_id)
    specimens = await lab_changes.order_specimens(connection, order_id)
    differs: list[str] = []
    if not await _same_patient(connection, view, order):
        differs.append("patient")
    if view.priority is not order.priority:
        differs.append("priority")
    if view.clinical_history != order.clinical_history:
        differs.append("clinical history")
    if order.ordered_at not in (None, view.ordered_at):
        differs.append("time of the order")
    asked = list(zip(order.specimens, tests, strict=True))
    if len(asked) != len(specimens) or not all(map(_same_specimen, asked, specimens)):
        differs.append("specimens and tests")
    if differs:
        text = f"there is already an order with this placer number, with a different {', '.join(differs)}"
        raise OrderError([text], conflict=True)
    await audit.record(connection, actor, "read", "order", order_id, {"by": "create order"})
    return view


def _same_specimen(asked: tuple[NewSpecimen, tuple[UUID, ...]], known: SpecimenRow) -> bool:
    specimen, tests = asked
    return (
        specimen.barcode in ("", known.barcode)
        and specimen.type == known.type
        and specimen.collected_at in (None, known.collected_at)
        and frozenset(tests) == known.test_ids
    )


async def _same_patient(connection: Connection, view: OrderView, order: NewOrder) -> bool:
    """Whether it is the same person: the order may be older than a merge of its patient."""
    if view.patient_id is None:
        return False
    if order.patient is None or order.patient.identifiers:
        named = order.patient_id if order.patient is None else await find_patient(connection, order.patient)
        records = await people.persons(connection, [view.patient_id])
        return named in records.get(view.patient_id, ())
    asked = order.patient
    [known] = await people.find_rows(connection, [view.patient_id])
    return (known.family, known.given, known.birth_date, known.sex) == (
        asked.family.strip(),
        asked.given.strip(),
        asked.born,
        asked.sex,
    )


async def _view(connection: Connection, order_id: UUID) -> OrderView:
    view = await lab.get_order(connection, order_id, Audience.STAFF)
    if view is None:
        raise OrderError(["the order could not be read back"])
    return view

"""Orders as an EMR, a member of staff or the command line hands them in.

An order is made whole or not at all, and all that is wrong with it is said at once. An order that is sent again (the
same placer number, the same content) is answered with the one that exists. Everything happens in the caller's
transaction, with its audit row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from interface.domain.model import ItemStatus, Priority
from interface.domain.permissions import Permission
from interface.domain.specimens import LAST_PLACE, order_stem, own_number
from interface.domain.states import CLOSED_ITEM, SpecimenState
from interface.domain.views import Actor, ActorKind, Audience, OrderView
from interface.flow.actors import require
from interface.flow.people import NewPatient as NewPatient
from interface.flow.people import find_patient, in_use, insert_patient, patient_of, patient_problems
from interface.flow.problems import OrderError as OrderError
from interface.flow.problems import instant_problems, past_problems, text_problems
from interface.store import audit, history, lab, lab_changes, people, placing, specimens
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.lab_changes import OrderInsert, SpecimenInsert, SpecimenRow
from interface.store.placing import PlacerNumber

LONGEST_HISTORY = 20_000  # characters
LONGEST_BARCODE = 64
MOST_SPECIMENS = 99
MOST_GESTATION_WEEKS = 45
MOST_TIME_POINT_MIN = 7 * 24 * 60  # a week


_BEGINNINGS = {
    SpecimenState.EXPECTED: ItemStatus.REQUESTED,
    SpecimenState.COLLECTED: ItemStatus.COLLECTED,
    SpecimenState.RECEIVED: ItemStatus.RECEIVED,
    SpecimenState.STORED: ItemStatus.RECEIVED,
}
MEASURED = frozenset(_BEGINNINGS)  # a specimen in one of these may be measured


@dataclass(frozen=True, slots=True)
class NewSpecimen:
    """A specimen and what is ordered on it. `tests`: codes of tests and panels. Without a barcode it is given one.

    `time_points_min`: of a time series such as a glucose tolerance test, minutes after its beginning; one specimen is
    expected for each of them, and the tests are ordered on each.
    """

    tests: tuple[str, ...]
    barcode: str = ""
    type: str = ""
    collected_at: datetime | None = None
    received_at: datetime | None = None
    container: str = ""  # type of tube
    time_points_min: tuple[int, ...] = ()
    collected_by: str = ""
    received_by: str = ""

    @property
    def time_point_min(self) -> int | None:
        return self.time_points_min[0] if self.time_points_min else None


@dataclass(frozen=True, slots=True)
class NewPractitioner:
    """Who orders: found by identifier and authority, else by the whole name, or added."""

    identifier: str = ""
    family: str = ""
    given: str = ""
    authority: str = ""  # of the identifier; "" is the laboratory's own


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
    requester: NewPractitioner | None = None
    requester_id: UUID | None = None
    ward: str = ""
    patient_group: str = ""  # such as dialysis, oncology: rules and intervals may ask for it
    pregnant: bool | None = None  # None: not known
    gestation_weeks: int | None = None  # completed weeks
    placer_authority: str = ""  # whose number it is, such as a hospital's; the same number of another is another order

    @property
    def placer(self) -> PlacerNumber:
        return PlacerNumber(self.placer_number, self.placer_authority)


async def create_order(
    connection: Connection, actor: Actor, order: NewOrder, audience: Audience = Audience.STAFF, *, if_none: bool = False
) -> OrderView:
    """Make the order, or return the one that exists under its placer number, as the audience sees it; `if_none`:
    whatever that one says beside, but for the patient and for what is to be measured on what.

    Raises OrderError; ApiError 403 for a user without the permission (what a client may do is decided by its scopes,
    at the API).
    """
    if actor.kind is ActorKind.USER:
        require(actor, Permission.ORDER_WRITE)
    if problems := _problems(order):
        raise OrderError(problems)
    order = replace(order, specimens=tuple(_one_by_one(order.specimens)))
    await lab_changes.lock_orders(connection, actor.organization_id)
    existing = await placed_order(connection, order.placer)
    tests, problems = await expand(connection, order.specimens)
    if problems:
        raise OrderError(problems)
    if existing is not None:
        return await _repeated(connection, actor, existing, order, tests, audience, if_none)
    # What says nothing else is said now: also its ward, which a transfer of before leaves as it is.
    now = replace(order, ordered_at=order.ordered_at or datetime.now(UTC))
    order_id, number = await _make(connection, actor, now, tests)
    if order.placer_number:
        placed_id = await placing.insert(
            connection, actor.organization_id, order.placer, order_id, number, ward=order.ward.strip()
        )
        await placing.stand_for_order(connection, actor.organization_id, placed_id, order_id)
    return await _view(connection, order_id, audience)


async def placed_order(connection: Connection, placer: PlacerNumber) -> UUID | None:
    """The order that is known by this number: a service's, the order's own, or the group's in which it was placed."""
    if not placer.number:
        return None
    known = await placing.find(connection, placer)
    return known.order_id if known is not None else await placing.order_of_group(connection, placer)


async def make_order(connection: Connection, actor: Actor, order: NewOrder) -> tuple[UUID, str]:
    """Make an order that nobody has made yet; its id and number. Whoever calls it sees to its placer's numbers, and
    holds `lock_orders`. Raises OrderError."""
    if problems := _problems(order):
        raise OrderError(problems)
    order = replace(order, specimens=tuple(_one_by_one(order.specimens)))
    tests, problems = await expand(connection, order.specimens)
    if problems:
        raise OrderError(problems)
    return await _make(connection, actor, order, tests)


async def _make(
    connection: Connection, actor: Actor, order: NewOrder, tests: Sequence[tuple[UUID, ...]]
) -> tuple[UUID, str]:
    await free(connection, [one.barcode for one in order.specimens if one.barcode])
    patient = await _order_patient(connection, actor, order)
    order_id, number = await _insert(connection, actor, order, tests, patient)
    await audit.record(connection, actor, "create", "order", order_id, {"number": number})
    return order_id, number


# ---- what is wrong with it, before the database is asked ------------------------------------------------------------


def _problems(order: NewOrder) -> list[str]:
    problems = [problem for text in astuple(order.placer) for problem in text_problems("placer number", text)]
    problems += history_problems(order.clinical_history)
    problems += instant_problems("ordered_at", order.ordered_at)
    problems += about_problems(order)
    if (order.patient is None) == (order.patient_id is None):
        problems.append("an order names either a patient or a patient's id")
    if order.patient is not None:
        problems += patient_problems(order.patient)
    if not order.specimens:
        problems.append("an order needs at least one specimen")
    if sum(max(len(one.time_points_min), 1) for one in order.specimens) > MOST_SPECIMENS:
        problems.append(f"an order has at most {MOST_SPECIMENS} specimens")
    for place, specimen in enumerate(order.specimens, 1):
        problems += [f"specimen {place}: {problem}" for problem in specimen_problems(specimen)]
    barcodes = [specimen.barcode for specimen in order.specimens if specimen.barcode]
    if len(barcodes) != len(set(barcodes)):
        problems.append("two specimens of the order carry the same barcode")
    return problems


def history_problems(text: str) -> Iterable[str]:
    return text_problems("clinical history", text, LONGEST_HISTORY, lines=True)


def about_problems(order: NewOrder) -> Iterable[str]:
    """What is said of the patient's state and of who asks."""
    yield from text_problems("ward", order.ward)
    yield from text_problems("patient group", order.patient_group)
    if order.gestation_weeks is not None and not 0 <= order.gestation_weeks <= MOST_GESTATION_WEEKS:
        yield f"gestation_weeks is a number from 0 to {MOST_GESTATION_WEEKS}"
    if order.gestation_weeks is not None and order.pregnant is not True:
        yield "gestation_weeks is given of a patient who is not said to be pregnant"
    if order.requester is not None and order.requester_id is not None:
        yield "an order names either a requester or a requester's id"
    if order.requester is not None:
        words = astuple(order.requester)
        if not any(word.strip() for word in words[:3]):
            yield "the requester has neither an identifier nor a name"
        for word in words:
            yield from text_problems("requester", word)


def specimen_problems(specimen: NewSpecimen) -> Iterable[str]:
    """What is wrong with it in itself."""
    if not specimen.tests:
        yield "no test is ordered on it"
    if specimen.barcode != specimen.barcode.strip():
        yield "the barcode begins or ends with a space"
    yield from text_problems("barcode", specimen.barcode, LONGEST_BARCODE)
    yield from text_problems("type", specimen.type)
    yield from text_problems("container", specimen.container)
    yield from text_problems("collector", specimen.collected_by)
    yield from text_problems("receiver", specimen.received_by)
    points = specimen.time_points_min
    if len(set(points)) < len(points) or any(not 0 <= point <= MOST_TIME_POINT_MIN for point in points):
        yield f"time points are different minutes from 0 to {MOST_TIME_POINT_MIN}"
    if len(points) > 1 and (specimen.barcode or specimen.collected_at or specimen.received_at):
        yield "the specimens of a time series have one barcode and time each: give each of them for itself"
    for test in specimen.tests:
        yield from text_problems("test code", test)
    yield from past_problems("collected_at", specimen.collected_at)
    yield from past_problems("received_at", specimen.received_at)
    if specimen.collected_at and specimen.received_at and specimen.received_at < specimen.collected_at:
        yield "it was received before it was collected"


# ---- parts of making it ---------------------------------------------------------------------------------------------


async def expand(connection: Connection, specimens: Sequence[NewSpecimen]) -> tuple[list[tuple[UUID, ...]], list[str]]:
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


async def requester_of(
    connection: Connection, actor: Actor, requester_id: UUID | None, requester: NewPractitioner | None
) -> UUID | None:
    """Who asks: the one named, found, or added. Two of one name are not told apart by guessing."""
    if requester_id is not None:
        if not await lab_changes.is_practitioner(connection, requester_id):
            raise OrderError(["there is no provider with this id"])
        return requester_id
    if requester is None:
        return None
    parts = [part.strip() for part in astuple(requester)]
    found = await lab_changes.find_practitioners(connection, *parts)
    if len(found) > 1:
        raise OrderError(["several providers have this name; give an identifier"], conflict=True)
    return found[0] if found else await lab_changes.insert_practitioner(connection, actor.organization_id, *parts)


async def _insert(
    connection: Connection, actor: Actor, order: NewOrder, tests: Sequence[tuple[UUID, ...]], patient_id: UUID
) -> tuple[UUID, str]:
    year = datetime.now(UTC).year
    place = await lab_changes.next_number(connection, actor.organization_id, f"order.{year}")
    number = f"{year}-{place:06d}"
    order_id = uuid7()
    requester_id = await requester_of(connection, actor, order.requester_id, order.requester)
    row = OrderInsert(
        order_id,
        number,
        order.placer_number,
        patient_id,
        order.priority,
        order.clinical_history,
        order.ordered_at,
        requester_id,
        order.ward.strip(),
        order.patient_group.strip(),
        order.pregnant,
        order.gestation_weeks,
        order.placer_authority,
    )
    await lab_changes.insert_order(connection, actor.organization_id, row)
    await insert(connection, actor, order_id, patient_id, number, order.specimens, tests)
    return order_id, number


async def insert(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    patient_id: UUID | None,
    number: str,
    new: Sequence[NewSpecimen],
    tests: Sequence[tuple[UUID, ...]],
) -> list[UUID]:
    """Add specimens to an order, each with its tests and its first event; returns their ids. Under `lock_orders`."""
    barcodes = await numbered(connection, actor, number, [one.barcode for one in new])
    rows = [
        SpecimenInsert(
            uuid7(), barcode, one.type, one.collected_at, one.received_at, ordered, item_status(state), state,
            one.container, one.time_point_min, one.collected_by, one.received_by,
        )
        for one, barcode, ordered in zip(new, barcodes, tests, strict=True)
        for state in (_state(one),)
    ]  # fmt: skip
    await lab_changes.insert_specimens(connection, actor.organization_id, order_id, patient_id, rows)
    ids = [row.id for row in rows]
    await specimens.add_events(connection, actor, ids, "create", [row.state for row in rows])
    return ids


async def free(connection: Connection, barcodes: Sequence[str]) -> None:
    """Raise OrderError when one of the barcodes is on a specimen that may still be measured."""
    if taken := await lab_changes.known_barcodes(connection, barcodes, open_only=True):
        text = [f'the barcode "{barcode}" is already on a specimen that is open' for barcode in sorted(taken)]
        raise OrderError(text, conflict=True)


async def numbered(connection: Connection, actor: Actor, order_number: str, given: Sequence[str]) -> list[str]:
    """Each specimen's barcode; "" is given a number that no specimen ever carried (`domain.specimens`)."""
    if all(given):
        return list(given)
    stem = order_stem(order_number)
    if not stem:  # an order of another system's numbers, or none
        year = datetime.now(UTC).year
        place = await lab_changes.next_number(connection, actor.organization_id, f"specimen.{year}")
        stem = f"{year % 100:02d}{place:06d}"
    possible = [own_number(stem, place) for place in range(1, LAST_PLACE + 1)]
    used = set(given) | await lab_changes.known_barcodes(connection, possible, open_only=False)
    free = iter([barcode for barcode in possible if barcode not in used])
    barcodes = [barcode or next(free, "") for barcode in given]
    if not all(barcodes):
        raise OrderError(["no barcode is free for a specimen of this order; give it one"], conflict=True)
    return barcodes


def _one_by_one(new: Iterable[NewSpecimen]) -> Iterable[NewSpecimen]:
    """A time series as its specimens."""
    for one in new:
        if len(one.time_points_min) < 2:
            yield one
        else:
            yield from (replace(one, time_points_min=(point,)) for point in one.time_points_min)


def _state(specimen: NewSpecimen) -> SpecimenState:
    if specimen.received_at is not None:
        return SpecimenState.RECEIVED
    return SpecimenState.COLLECTED if specimen.collected_at is not None else SpecimenState.EXPECTED


def item_status(state: SpecimenState) -> ItemStatus:
    """Where the items of a specimen in this state begin."""
    return _BEGINNINGS[state]


# ---- the same order again -------------------------------------------------------------------------------------------


async def _repeated(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    order: NewOrder,
    tests: Sequence[tuple[UUID, ...]],
    audience: Audience,
    if_none: bool,
) -> OrderView:
    """The order that exists under this placer number, when it says the same. Raises OrderError when it does not."""
    view = await _view(connection, order_id, audience)
    known = await lab_changes.order_specimens(connection, order_id, *astuple(order.placer))
    asked = list(zip(order.specimens, tests, strict=True))
    differs = [] if await _same_patient(connection, view, order) else ["patient"]
    if if_none:
        same = _are_among(asked, known)
    else:
        differs += await _facts_that_differ(connection, view, order)
        # What the laboratory has added since, such as a specimen in place of one that it rejected, was never said.
        first = [one for one in known if one.at_first]
        same = any(len(asked) == len(of) and all(map(_same_specimen, asked, of)) for of in (known, first))
    if not same:
        differs.append("specimens and tests")
    if differs:
        text = f"there is already an order with this placer number, with a different {', '.join(differs)}"
        raise OrderError([text], conflict=True)
    if view.cancelled:  # whoever is told that it is there believes that it will be done
        raise OrderError(["the order with this placer number is cancelled"], conflict=True)
    if view.items and all(item.status in CLOSED_ITEM for item in view.items):
        raise OrderError(["the specimen of the order with this placer number was rejected"], conflict=True)
    await audit.record(connection, actor, "read", "order", order_id, {"by": "create order"})
    return view


async def _facts_that_differ(connection: Connection, view: OrderView, order: NewOrder) -> list[str]:
    """From what is said of the order now, and from what was said at first: what the laboratory has changed since, such
    as how urgent it is, whoever had no answer cannot know."""
    first = await history.order_at_first(connection, view.id)
    said = [view] if first is None else [view, first]
    differs: list[str] = []
    if order.priority not in [one.priority for one in said]:
        differs.append("priority")
    if order.clinical_history not in [one.clinical_history for one in said]:
        differs.append("clinical history")
    # The ward from which it was ordered is another than the order's once the patient was moved.
    wards = {*(one.ward for one in said), *await placing.wards(connection, view.id)}
    if order.ward.strip() not in wards or view.patient_group != order.patient_group.strip():
        differs.append("ward or patient group")
    if (view.pregnant, view.gestation_weeks) != (order.pregnant, order.gestation_weeks):
        differs.append("pregnancy")
    if not await _same_requester(connection, said, order):
        differs.append("requester")
    if order.ordered_at not in (None, view.ordered_at):
        differs.append("time of the order")
    return differs


def _are_among(asked: Iterable[tuple[NewSpecimen, tuple[UUID, ...]]], known: Iterable[SpecimenRow]) -> bool:
    """Whether all that is asked for is there already, each specimen as another one; those with a number first."""
    left = list(known)
    for one in sorted(asked, key=lambda each: not each[0].barcode):
        found = next((each for each in left if _is_within(one, each)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _is_within(asked: tuple[NewSpecimen, tuple[UUID, ...]], known: SpecimenRow) -> bool:
    specimen, tests = asked
    return (
        specimen.barcode in ("", known.barcode)
        and specimen.type in ("", known.type)
        and specimen.time_point_min == known.time_point_min
        and known.wanted_ids.issuperset(tests)
    )


def _same_specimen(asked: tuple[NewSpecimen, tuple[UUID, ...]], known: SpecimenRow) -> bool:
    specimen, tests = asked
    return (
        specimen.barcode in ("", known.barcode)
        and specimen.type in (known.type, known.first_type)
        and specimen.container in ("", known.container, known.first_container)
        and specimen.time_point_min == known.time_point_min
        and specimen.collected_at in (None, known.collected_at, known.first_collected)
        and frozenset(tests) in (known.test_ids, known.placed_ids)
    )


async def _same_requester(connection: Connection, said: Sequence[OrderView], order: NewOrder) -> bool:
    known = {one.requester.id if one.requester else None for one in said}
    if order.requester is None:
        return order.requester_id in known
    parts = [part.strip() for part in astuple(order.requester)]
    return not known.isdisjoint(await lab_changes.find_practitioners(connection, *parts))


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


async def _view(connection: Connection, order_id: UUID, audience: Audience) -> OrderView:
    view = await lab.get_order(connection, order_id, audience)
    if view is None:
        raise OrderError(["the order could not be read back"])
    return view

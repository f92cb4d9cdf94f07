"""Services as a placer orders them: each has the placer's number, and the same number of the same authority is one.

HL7 v2, FHIR and whoever else speaks for a hospital go through here. What is placed together, in one message or group,
becomes one order of the laboratory's, and each number stands for its items: what two numbers ask of one tube is
measured once. What is said again is answered again and changes nothing; another content under a known number is
refused. Everything happens in the caller's transaction; a step that raises must be undone by the caller (a savepoint).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from interface.domain.model import ItemStatus, Priority
from interface.domain.specimens import RejectReason
from interface.domain.states import CLOSED_ITEM, DONE_ITEM, OPEN_ITEM
from interface.domain.views import Actor, Audience, OrderItemView
from interface.flow import order_changes, orders, specimens
from interface.flow.order_changes import OrderChange
from interface.flow.orders import NewOrder, NewPractitioner, NewSpecimen
from interface.flow.problems import OrderError
from interface.settings import WINDOW_DAYS
from interface.store import audit, lab, lab_changes, people
from interface.store import placing as rows
from interface.store.db import Connection
from interface.store.order_changes import still_there
from interface.store.placing import Placed as Placed
from interface.store.placing import PlacedItem, Tube
from interface.store.placing import PlacerNumber as PlacerNumber

MOST_URGENT = (Priority.STAT, Priority.ASAP, Priority.PREOP, Priority.CALLBACK, Priority.ROUTINE)


_NOTHING_SAID = NewSpecimen(())
_NO_NUMBER = PlacerNumber()
_NO_ORDER = NewOrder(())


@dataclass(frozen=True, slots=True)
class PlacedTube:
    """A specimen of a service, its tests left out. One without a barcode is given one.

    `apart`: of those without a barcode, what tells two tubes apart that are alike: which of a service, which of a
    message that names its specimens one by one, when it is to be taken.
    """

    specimen: NewSpecimen = _NOTHING_SAID
    reject: RejectReason | None = None
    reject_text: str = ""
    apart: tuple[int, int, datetime | None] = (0, 0, None)


_ANY_TUBE = PlacedTube()


@dataclass(frozen=True, slots=True)
class Placing:
    """One service. `tests`: the laboratory's codes of tests and panels. `content`: a digest of all it says; None: what
    is said again under its number cannot be compared, and is refused."""

    placer: PlacerNumber
    tests: tuple[str, ...]
    tubes: tuple[PlacedTube, ...] = (_ANY_TUBE,)
    group: PlacerNumber = _NO_NUMBER
    content: bytes | None = None
    priority: Priority | None = None  # None: nothing is said of it
    order: NewOrder = _NO_ORDER  # what is said of the order as a whole: history, who asks, ward, when it was ordered …


@dataclass(slots=True)
class Batch:
    """What is placed together, for one patient. `window_days`: open specimens are meant for so long, 0: always;
    `order_id`: the order that was made of it; `left_out`: what was told beside an order that is placed or changed, and
    cannot be."""

    actor: Actor
    patient_id: UUID
    link_id: UUID | None = None
    message_id: UUID | None = None
    window_days: int = WINDOW_DAYS
    order_id: UUID | None = None
    # Those without barcodes, by what they are: the specimen and its order
    tubes: dict[tuple[object, ...], tuple[UUID, UUID]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


class OtherContent(OrderError):
    """The placer's number is known, and what is ordered under it is something else."""


async def place(connection: Connection, batch: Batch, asked: Placing) -> Placed:
    """Place a service, or find that it is placed. The caller holds `lab_changes.lock_orders`.

    Raises OrderError, also OtherContent; ApiError; IllegalStep.
    """
    known = await rows.find(connection, asked.placer)
    if known is not None:
        return await _again(connection, batch, known, asked)
    tests, problems = await orders.expand(connection, [NewSpecimen(asked.tests)])
    if problems or not asked.placer.number:
        raise OrderError(problems or ["the order has no placer number"])
    found: list[UUID] = []
    before: set[UUID] = set()
    for tube in asked.tubes or (_ANY_TUBE,):
        if tube.specimen.barcode:
            there = await rows.open_tubes(connection, tube.specimen.barcode)
            before |= await rows.nobodys(connection, [one.id for one in there], tests[0])
        specimen_id, order_id = await _tube(connection, batch, asked, tube, tests[0])
        found += (await _ordered(connection, batch.actor, order_id, specimen_id, asked.tests, tests[0])).values()
        await _step(connection, batch, specimen_id, tube)
        await _also_said(connection, batch.actor, order_id, asked)
    filler = await rows.next_filler(connection, order_id)
    placed_id = await rows.insert(
        connection, batch.actor.organization_id, asked.placer, order_id, filler, group=asked.group,
        content=asked.content, link_id=batch.link_id, ward=asked.order.ward.strip(),
        requester_id=await _requester(connection, batch.actor, asked),
    )  # fmt: skip
    await rows.stand_for(connection, batch.actor.organization_id, placed_id, found, before)
    detail = {"placer": asked.placer.number, "filler": filler, "tests": " ".join(asked.tests)}
    await audit.record(connection, batch.actor, "place", "order", order_id, detail)
    return Placed(placed_id, asked.placer, asked.group, order_id, filler, asked.content, asked.content, None)


async def change(connection: Connection, batch: Batch, asked: Placing) -> Placed:
    """Order something else under a known number: other tests as long as those left out are not begun, more said of the
    order or of its specimens. What is so already changes nothing."""
    known = await _of_patient(connection, batch, await _found(connection, asked.placer))
    if asked.content is not None and known.content == asked.content:
        return known
    items = await rows.items(connection, known.id)
    if known.ended or not any(item.status in OPEN_ITEM for item in items):
        raise OrderError([_why_not(known, items)], conflict=True)
    await _retest(connection, batch, known, items, asked)
    await _change_facts(connection, batch.actor, known, asked)
    requester_id = await _requester(connection, batch.actor, asked)
    await rows.say(connection, known.id, asked.content, asked.order.ward.strip(), requester_id)
    detail = {"placer": asked.placer.number, "tests": " ".join(asked.tests)}
    await audit.record(connection, batch.actor, "change", "order", known.order_id, detail)
    return await _found(connection, asked.placer)


async def cancel(
    connection: Connection, actor: Actor, known: Placed, reason: str, *, message: bytes | None = None
) -> None:
    """Cancel all that is ordered under a number, or raise OrderError, IllegalStep; what another number also asks for
    stays for that one. `message`: a digest of what says so; the same once more is answered as before.
    """
    if message is not None and known.ended_by == message:
        return
    items = await rows.items(connection, known.id)
    waiting = [item for item in items if item.status not in CLOSED_ITEM]
    if known.ended or not waiting or any(item.status in DONE_ITEM for item in waiting):
        raise OrderError([_why_not(known, items)], conflict=True)
    await _off(connection, actor, waiting, reason)
    await rows.end(connection, known.id, message)
    detail = {"placer": known.placer.number, "reason": reason}
    await audit.record(connection, actor, "cancel", "placer_order", known.id, detail)


async def _off(connection: Connection, actor: Actor, items: Sequence[PlacedItem], reason: str) -> None:
    """Cancel what no other number asks for, of each order what is of it."""
    own: dict[UUID, list[UUID]] = {}
    for item in items:
        if not item.shared:
            own.setdefault(item.order_id, []).append(item.id)
    for order_id, ids in sorted(own.items()):
        await order_changes.cancel(connection, actor, order_id, reason, item_ids=ids, audience=Audience.EMR)


async def ordered(connection: Connection, known: Sequence[Placed]) -> dict[UUID, list[OrderItemView]]:
    """The items of each number, by the number's id, as an EMR may see them."""
    stands = await rows.items_of(connection, [one.id for one in known])
    wanted = tuple({id for ids in stands.values() for id in ids})
    if not wanted:
        return {one.id: [] for one in known}
    filter = lab.OrderFilter(item_ids=wanted, page=lab.Page(limit=len(wanted)))
    views = await lab.find_orders(connection, filter, Audience.EMR)
    items = {item.id: item for view in views for item in view.items}
    return {one.id: [items[id] for id in stands.get(one.id, ()) if id in items] for one in known}


async def find(connection: Connection, placer: PlacerNumber, filler: str = "") -> Placed | None:
    """By the placer's number, else by the filler's."""
    if placer.number:
        return await rows.find(connection, placer)
    return await rows.find_filler(connection, filler) if filler else None


# ---- the same again --------------------------------------------------------------------------------------------------


async def _again(connection: Connection, batch: Batch, known: Placed, asked: Placing) -> Placed:
    await _of_patient(connection, batch, known)
    if known.content is None:
        same = await _orders_the_same(connection, known, asked)
    else:
        same = asked.content in (known.content, known.first_content)
    items = await rows.items(connection, known.id)
    over = known.ended or (items and all(item.status in CLOSED_ITEM for item in items))
    # What placed it says the same however its times are read: by another zone of the link's, or when it comes late.
    resent = (over or not same) and batch.message_id and await rows.said_before(connection, batch.message_id, known.id)
    if not (same or resent):
        raise OtherContent(["there is already an order with this placer number, and it says something else"], True)
    if over and not resent:
        # Who is told OK believes that it will be done. Only what placed it is answered as before, not what was refused.
        raise OrderError([_why_not(known, items)], conflict=True)
    await audit.record(connection, batch.actor, "read", "order", known.order_id, {"by": "place"})
    return known


async def _orders_the_same(connection: Connection, known: Placed, asked: Placing) -> bool:
    """Of a number that came without a digest, by REST or FHIR: whether these tests are ordered on these tubes."""
    items = await rows.items(connection, known.id)
    tests, problems = await orders.expand(connection, [NewSpecimen(asked.tests)])
    tubes = await rows.tubes(connection, {item.specimen_id for item in items if item.specimen_id})
    named = {tube.specimen.barcode for tube in asked.tubes if tube.specimen.barcode}
    return (
        not problems and {item.test_id for item in items} == set(tests[0]) and named <= {tube.barcode for tube in tubes}
    )


async def _of_patient(connection: Connection, batch: Batch, known: Placed) -> Placed:
    order = await lab.get_order(connection, known.order_id, Audience.STAFF)
    if order is None or order.patient_id is None:
        raise OrderError(["the order could not be read back"])
    if not await _same_person(connection, order.patient_id, batch.patient_id):
        raise OtherContent(["there is already an order with this placer number, for another patient"], True)
    return known


async def _same_person(connection: Connection, one: UUID, other: UUID) -> bool:
    return other in (await people.persons(connection, [one])).get(one, ())


async def _found(connection: Connection, placer: PlacerNumber) -> Placed:
    known = await rows.find(connection, placer)
    if known is None:
        raise OrderError(["there is no order of this placer number"], missing=True)
    return known


def _why_not(known: Placed, items: Sequence[PlacedItem]) -> str:
    """Why nothing can be done about it any more, without what an EMR may not know: what is measured and not released
    is in progress."""
    if known.ended or all(item.status in CLOSED_ITEM for item in items):
        rejected = any(item.status is ItemStatus.REJECTED for item in items)
        return "its specimen was rejected" if rejected else "it is cancelled already"
    return "it is in progress or done, or part of it is"


# ---- specimens -------------------------------------------------------------------------------------------------------


async def _tube(
    connection: Connection, batch: Batch, asked: Placing, tube: PlacedTube, tests: Sequence[UUID]
) -> tuple[UUID, UUID]:
    """The specimen on which the tests are to be ordered, one there is or a new one with them; and its order."""
    wanted = tube.specimen
    alike = (wanted.type, wanted.container, wanted.collected_at, wanted.received_at, tube.apart)
    if wanted.barcode:
        if there := await rows.open_tubes(connection, wanted.barcode):
            specimen_id, order_id = await _usable(connection, batch, there, asked, wanted, tests)
            await specimens.tell_type(connection, batch.actor, specimen_id, wanted.type)
            return specimen_id, order_id
    elif alike in batch.tubes:
        return batch.tubes[alike]
    new = replace(wanted, tests=asked.tests)
    into = await _into(connection, batch, asked)
    if into is None:
        into, _ = await orders.make_order(connection, batch.actor, _whole(batch, asked, new))
        batch.order_id = into
        [specimen_id] = await lab_changes.order_specimen_ids(connection, into)
    else:
        if problems := [*orders.specimen_problems(new)]:
            raise OrderError(problems)
        specimen_id = await order_changes.extend(connection, batch.actor, into, new, tests)
    if not wanted.barcode:
        batch.tubes[alike] = specimen_id, into
    return specimen_id, into


def _whole(batch: Batch, asked: Placing, new: NewSpecimen) -> NewOrder:
    named = asked.group if asked.group.number else asked.placer
    return replace(
        asked.order, specimens=(new,), priority=asked.priority or Priority.ROUTINE, patient_id=batch.patient_id,
        patient=None, placer_number=named.number, placer_authority=named.authority,
    )  # fmt: skip


async def _into(connection: Connection, batch: Batch, asked: Placing) -> UUID | None:
    """The order that a new specimen belongs to: what was placed with it, now or before in its group."""
    if batch.order_id is None and asked.group.number:
        known = await rows.order_of_group(connection, asked.group)
        order = await lab.get_order(connection, known, Audience.STAFF) if known else None
        if order is None or order.cancelled or order.patient_id is None:
            return None
        if not await _same_person(connection, order.patient_id, batch.patient_id):
            return None
        batch.order_id = order.id
    return batch.order_id


async def _usable(
    connection: Connection, batch: Batch, there: Sequence[Tube], asked: Placing, wanted: NewSpecimen,
    tests: Sequence[UUID],
) -> tuple[UUID, UUID]:  # fmt: skip
    """The one specimen that carries the barcode, and its order, if it is this patient's and what is said of it fits.

    Barcodes are used again. A specimen that nobody has closed is not meant where results would not be taken for its
    own either (`specimen_window_days`), or where it is of another day and what is asked for was measured then: that
    result would answer what is ordered of another tube now.
    """
    if len(there) > 1:
        raise OrderError(["several open specimens carry this barcode"], conflict=True)
    [one] = there
    if one.order_id is None or one.patient_id is None:
        raise OrderError(["an analyzer has measured a specimen of this barcode, of which nobody knows whose it is"],
                         conflict=True)  # fmt: skip
    if one.order_id != batch.order_id and not await _same_person(connection, one.patient_id, batch.patient_id):
        raise OrderError(["the barcode is on an open specimen of another patient"], conflict=True)
    if wanted.type and one.type and wanted.type != one.type:
        raise OrderError([f"the barcode is on a specimen of type {one.type}"], conflict=True)
    days = batch.window_days
    if days and datetime.now(UTC) - one.known_since > timedelta(days=days):
        text = f"the barcode is on an open specimen of more than {days} days ago, which is to be closed first"
        raise OrderError([text], conflict=True)
    if _of_another_day(one, asked, wanted) and await rows.begun_on(connection, one.id, tests):
        text = "the barcode is on an open specimen of another day, and the test was begun on it"
        raise OrderError([text], conflict=True)
    return one.id, one.order_id


def _of_another_day(one: Tube, asked: Placing, wanted: NewSpecimen) -> bool:
    """By when it was collected, where that is told of both; else by when it came, and what is ordered was ordered: most
    order before anybody has collected anything. What is told late, after an outage, was ordered then."""
    day = timedelta(days=1)
    if wanted.collected_at and one.collected_at:
        return abs(wanted.collected_at - one.collected_at) > day
    ordered_at = wanted.collected_at or asked.order.ordered_at or datetime.now(UTC)
    return ordered_at - max(one.known_since, one.collected_at or one.known_since) > day


async def _ordered(
    connection: Connection, actor: Actor, order_id: UUID, specimen_id: UUID, codes: Sequence[str], tests: Sequence[UUID]
) -> Mapping[UUID, UUID]:
    """The items of these tests on the specimen, those that were missing ordered. `codes` come to `tests`."""
    there = await rows.items_on(connection, specimen_id, tests)
    if missing := [test for test in tests if test not in there]:
        added = NewSpecimen(tuple(codes))
        await order_changes.extend(connection, actor, order_id, added, missing, specimen_id, reopen=True)
        there = await rows.items_on(connection, specimen_id, tests)
    return there


async def _also_said(connection: Connection, actor: Actor, order_id: UUID, asked: Placing) -> None:
    """An order that has more than one service is as urgent as the most urgent of them. Of the patient it has what was
    said last: a critical result is called to the ward where they are now, and judged for whom it is of. Who asked
    first, and what for, stays."""
    order = await lab.get_order(connection, order_id, Audience.STAFF)
    if order is None or not any(item.status in OPEN_ITEM for item in order.items):
        return
    said = asked.order
    if said.ward.strip() == order.ward:
        await still_there(connection, [order_id], said.ordered_at)
    now: dict[str, Any] = {
        "priority": min(order.priority, asked.priority or order.priority, key=MOST_URGENT.index),
        "ward": said.ward.strip() or order.ward,
        "patient_group": said.patient_group.strip() or order.patient_group,
        "pregnant": order.pregnant if said.pregnant is None else said.pregnant,
        "gestation_weeks": said.gestation_weeks or (None if said.pregnant is False else order.gestation_weeks),
    }
    if other := {name: value for name, value in now.items() if value != getattr(order, name)}:
        if "ward" in other:
            await rows.keep_asked(connection, [order_id])
        cleared = frozenset(name for name, value in other.items() if value is None)
        told = OrderChange(**other, cleared=cleared, ward_at=said.ordered_at)
        await order_changes.change(connection, actor, order_id, told)


_IS_HERE = ("received", "stored")


async def _step(connection: Connection, batch: Batch, specimen_id: UUID, tube: PlacedTube) -> None:
    """What is told of the specimen and was not known: that it was collected, received, rejected. A ward notes late, or
    by another clock, when it took a tube that is here already: that is no reason to measure nothing."""
    actor, said = batch.actor, tube.specimen
    if said.collected_at is None and said.received_at is None and tube.reject is None:
        return
    view = await specimens.view(connection, specimen_id)
    if said.collected_at and view.collected_at not in (None, said.collected_at):
        batch.left_out.append("it is known already when the specimen was taken; another time of collection is not kept")
    if said.received_at and view.received_at is None and view.state in ("expected", "collected"):
        taken = said.collected_at if view.collected_at is None else None
        await specimens.receive(connection, actor, specimen_id, at=said.received_at, collected_at=taken)
    elif said.collected_at and view.received_at and view.collected_at is None and said.collected_at > view.received_at:
        batch.left_out.append("the time of collection is after that of the receipt, and is not kept")
    elif said.collected_at and (view.state == "expected" or (view.collected_at is None and view.state in _IS_HERE)):
        await specimens.collect(
            connection, actor, specimen_id, at=said.collected_at, by=said.collected_by, container=said.container
        )
    if tube.reject is not None and view.state != "rejected":
        await specimens.reject(connection, actor, specimen_id, tube.reject, tube.reject_text)


# ---- changes ---------------------------------------------------------------------------------------------------------


async def _retest(
    connection: Connection, batch: Batch, known: Placed, items: Sequence[PlacedItem], asked: Placing
) -> None:
    """Other tests, and what is said of the specimens now."""
    tests, problems = await orders.expand(connection, [NewSpecimen(asked.tests)])
    if problems:
        raise OrderError(problems)
    waits = [item for item in items if item.status not in CLOSED_ITEM]
    gone = [item for item in waits if item.test_id not in tests[0]]
    ordered_on = await _ordered_on(connection, {item.specimen_id for item in waits if item.specimen_id}, asked)
    of = {ordered_on[item.specimen_id]: item.order_id for item in waits if item.specimen_id}
    on = list(of)
    found: list[UUID] = []
    before = await rows.nobodys(connection, on, tests[0])
    for specimen_id in on:
        found += (await _ordered(connection, batch.actor, of[specimen_id], specimen_id, asked.tests, tests[0])).values()
    await rows.stand_for(connection, batch.actor.organization_id, known.id, found, before)
    await _off(connection, batch.actor, gone, "changed by who ordered it")
    await rows.drop(connection, known.id, [item.id for item in gone])
    tubes = [tube for tube in asked.tubes if replace(tube, apart=_ANY_TUBE.apart) != _ANY_TUBE]
    if any(item.status is ItemStatus.REJECTED for item in items) and any(map(_says_which, tubes)):
        # It would be said of the tube that is expected in its place.
        raise OrderError(
            ["a specimen of it was rejected; what is said of its specimens cannot be changed"], conflict=True
        )
    if len(tubes) == len(on):
        for specimen_id, tube in zip(on, tubes, strict=True):
            await _label(connection, batch.actor, specimen_id, tube.specimen)
            await _step(connection, batch, specimen_id, tube)
    elif tubes:
        raise OrderError(["the number of its specimens cannot be changed; replace the order"], conflict=True)


async def _ordered_on(connection: Connection, waits_on: Collection[UUID], asked: Placing) -> Mapping[UUID, UUID]:
    """Of each specimen on which an item waits the one that it was ordered on. What is measured on an aliquot was
    ordered on its tube; where all of it is on one aliquot, on that one by its own barcode, or once its tube is gone."""
    whole = await rows.parted_from(connection, waits_on)
    tubes = {one.id: one for one in await rows.tubes(connection, {*waits_on, *whole.values()})}
    parts, said = Counter(whole.values()), {tube.specimen.barcode for tube in asked.tubes}

    def itself(part: UUID, tube: UUID) -> bool:
        named = tubes[part].barcode in said
        return parts[tube] == 1 and (named or (tubes[tube].disposed and tubes[tube].barcode not in said))

    return {part: part if itself(part, tube) else tube for part, tube in whole.items()}


def _says_which(tube: PlacedTube) -> bool:
    """Whether something is said that is so of one tube alone."""
    said = tube.specimen
    return bool(said.barcode or said.collected_at or said.received_at or tube.reject)


async def _label(connection: Connection, actor: Actor, specimen_id: UUID, said: NewSpecimen) -> None:
    """A barcode that is told later, as long as nobody has taken the specimen."""
    [tube] = await rows.tubes(connection, [specimen_id])
    if said.type and tube.type and said.type != tube.type:
        raise OrderError(["the type of its specimen cannot be changed; replace the order"], conflict=True)
    await specimens.tell_type(connection, actor, specimen_id, said.type)
    if said.barcode in ("", tube.barcode):
        return
    if tube.collected:
        raise OrderError(["its specimen has been collected under another barcode"], conflict=True)
    if problems := [p for p in orders.specimen_problems(replace(said, tests=("-",))) if "barcode" in p]:
        raise OrderError(problems)
    await orders.free(connection, [said.barcode])
    await rows.relabel(connection, specimen_id, said.barcode)
    detail = {"barcode": f"{tube.barcode} → {said.barcode}"}
    await audit.record(connection, actor, "relabel", "specimen", specimen_id, detail)


async def _change_facts(connection: Connection, actor: Actor, known: Placed, asked: Placing) -> None:
    """What is said of the order as a whole. What is not said stays; and it is no less urgent for one service as long
    as something else that was ordered on it waits, nor is it another's, or without the history that was told with
    that, where there is something else."""
    said, priority = asked.order, asked.priority
    order = await lab.get_order(connection, known.order_id, Audience.STAFF)
    own = {item.id for item in await rows.items(connection, known.id) if not item.shared}
    others = [one for one in order.items if one.status not in CLOSED_ITEM and one.id not in own] if order else []
    if priority and order and any(item.status in OPEN_ITEM for item in others):
        priority = min(order.priority, priority, key=MOST_URGENT.index)
    history = said.clinical_history
    if history and order and others:
        history = "\n".join(dict.fromkeys((*order.clinical_history.splitlines(), *history.splitlines())))
    if order and said.ward.strip() not in ("", order.ward):
        await rows.keep_asked(connection, [order.id])
    change = OrderChange(
        priority=priority,
        clinical_history=history or None,
        ward=said.ward or None,
        patient_group=said.patient_group or None,
        pregnant=said.pregnant,
        gestation_weeks=said.gestation_weeks,
        requester=None if others else _practitioner(said.requester),
        requester_id=None if others else said.requester_id,
        ward_at=said.ordered_at,
    )
    await order_changes.change(connection, actor, known.order_id, change)


async def _requester(connection: Connection, actor: Actor, asked: Placing) -> UUID | None:
    """Who asks under this number; nobody where two have the name: what is added to a tube is not refused for that."""
    said = asked.order
    try:
        return await orders.requester_of(connection, actor, said.requester_id, _practitioner(said.requester))
    except OrderError:
        return None


def _practitioner(said: NewPractitioner | None) -> NewPractitioner | None:
    return said if said is not None and (said.identifier or said.family) else None


async def replace_placed(
    connection: Connection, batch: Batch, olds: Sequence[Placed], news: Sequence[Placing], reason: str,
    *, message: bytes | None = None,
) -> list[Placed]:  # fmt: skip
    """In place of some numbers others: all of it, or (a savepoint of the caller's) nothing. What is so already is
    answered, by whichever message it is said again."""
    if not news:
        raise OrderError(["nothing is named that replaces it"])
    if {one.placer for one in news} & {old.placer for old in olds}:
        # What is there already would be cancelled as the old one, and answered as the new one.
        raise OrderError(["no order is replaced by itself: give the new one another number, or change it (XO)"])
    there = [await rows.find(connection, one.placer) for one in news]
    done = all(one is not None for one in there) and all(old.ended for old in olds)
    # First the new ones: an order of which nothing is wanted any more is closed, and its expected tubes with it.
    placed = [await place(connection, batch, one) for one in news]
    for old in olds:
        await _of_patient(connection, batch, old)
        if not done:
            await cancel(connection, batch.actor, old, reason, message=message)
    return placed

"""What happens to an order after it was made: it is changed, tests are added, items cancelled. API and CLI share it.

What may be cancelled is one rule. Requested, collected or received: yes. In progress: only where the one who cancels
says so, because a result may be on its way; it will be held as not ordered. Completed or verified: never; a person
discards the result or leaves it. What is released stays, whatever is cancelled. Whoever may not see unreleased results
is told of completed items that they are in progress, and so of those that have a result which is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from interface.domain.model import ItemStatus, Priority
from interface.domain.permissions import Permission
from interface.domain.states import CLOSED_ITEM, DONE_ITEM, OPEN_ITEM, SpecimenState, item_step, specimen_step
from interface.domain.views import Actor, ActorKind, Audience, OrderView
from interface.errors import IllegalStep
from interface.flow import orders, recalculation
from interface.flow.actors import require
from interface.flow.orders import NewOrder, NewPractitioner, NewSpecimen
from interface.flow.problems import OrderError, text_problems
from interface.store import (
    audit,
    dispatch_ends,
    follow_ups,
    lab,
    lab_changes,
    order_changes,
    people,
    placing,
    specimens,
)
from interface.store.db import Connection
from interface.store.specimens import ItemLocked, SpecimenLocked

LONGEST_REASON = 1000  # characters
CLEARABLE: Final = frozenset({"pregnant", "gestation_weeks", "requester"})


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What came of cancelling. `kept`: the tests that stay, each with why."""

    order: OrderView
    cancelled: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OrderChange:
    """What is to be said of an order from now on; None leaves it. `cleared`: what is not known any more; `ward_at`:
    when the ward was said, None where that is not known."""

    priority: Priority | None = None
    clinical_history: str | None = None
    ward: str | None = None
    patient_group: str | None = None
    pregnant: bool | None = None
    gestation_weeks: int | None = None
    requester: NewPractitioner | None = None
    requester_id: UUID | None = None
    cleared: frozenset[str] = frozenset()  # of CLEARABLE
    ward_at: datetime | None = None


async def change(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    change: OrderChange,
    *,
    version: int | None = None,
    audience: Audience = Audience.STAFF,
) -> OrderView:
    """Say something else of the order, as long as something of it waits to be done. `version`: what was looked at.

    What was decided before is not decided anew. Raises OrderError; ApiError 403.
    """
    _may(actor)
    await lab_changes.lock_orders(connection, actor.organization_id)  # a requester may be added
    order, _, items = await _locked(connection, order_id, Audience.STAFF)
    if version is not None and version != order.version:
        raise OrderError([f"the order has been changed: it is at version {order.version} now"], conflict=True)
    given = {
        one.name: value
        for one in fields(change)
        if one.name not in ("requester", "requester_id", "cleared", "ward_at")
        and (value := getattr(change, one.name)) is not None
    }
    cleared = {name: None for name in change.cleared if name != "requester"}
    if cleared.get("pregnant", ...) is None:
        cleared["gestation_weeks"] = None
    new = replace(order, **(given | cleared))
    told = orders.NewOrder(
        (), None, order.patient_id, "", new.priority, new.clinical_history, None, change.requester,
        change.requester_id, new.ward, new.patient_group, new.pregnant, new.gestation_weeks,
    )  # fmt: skip
    if problems := [*orders.about_problems(told), *orders.history_problems(new.clinical_history)]:
        raise OrderError(problems)
    known = order.requester.id if order.requester else None
    asks = await orders.requester_of(connection, actor, change.requester_id, change.requester) or known
    asks = None if "requester" in change.cleared else asks
    if change.ward is not None and new.ward == order.ward:
        await order_changes.still_there(connection, [order_id], change.ward_at)
    if new == order and asks == known:
        await audit.record(connection, actor, "read", "order", order_id, {"by": "change"})
        return await _view(connection, order_id, audience)
    if order.cancelled or all(item.status not in OPEN_ITEM for item in items):
        raise OrderError(["nothing of the order waits to be done any more"], conflict=True)
    await order_changes.update_facts(connection, new, asks, change.ward_at)
    if known is not None and asks != known:  # a critical result calls who asked under the numbers of its test
        await placing.ask_for(connection, order_id, known, asks)
    await audit.record(connection, actor, "update", "order", order_id, _difference(order, new, known, asks))
    return await _view(connection, order_id, audience)


async def add(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    tests: Sequence[str],
    *,
    specimen_id: UUID | None = None,
    specimen: NewSpecimen | None = None,
    audience: Audience = Audience.STAFF,
) -> OrderView:
    """Order more tests, on a specimen that the order has or on one more.

    Raises OrderError (also when the order is cancelled, the specimen is closed or a test is ordered on it already);
    ApiError 403.
    """
    _may(actor)
    if (specimen_id is None) == (specimen is None):
        raise OrderError(["tests are added to one of the order's specimens or with a new one"])
    new = specimen or NewSpecimen(tuple(tests))
    if specimen is not None and tests:
        raise OrderError(["the tests of a new specimen stand with it"])
    if problems := [*orders.specimen_problems(new)]:
        raise OrderError(problems)
    await lab_changes.lock_orders(connection, actor.organization_id)
    await _view(connection, order_id, audience)
    expanded, problems = await orders.expand(connection, [new])
    if problems:
        raise OrderError(problems)
    await extend(connection, actor, order_id, new, expanded[0], specimen_id)
    return await _view(connection, order_id, audience)


async def extend(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    new: NewSpecimen,
    tests: Sequence[UUID],
    specimen_id: UUID | None = None,
    *,
    reopen: bool = False,
) -> UUID:
    """Order these tests, which `new.tests` stand for, on a specimen that the order has, or on `new`; the specimen's id.

    `reopen`: also where the order was cancelled, which it is no more then: its tube was drawn, and serves another. The
    caller has found nothing wrong with `new`, and holds `lab_changes.lock_orders`. Raises OrderError.
    """
    named = [specimen_id] if specimen_id else []
    measured = await recalculation.lock_measured(connection, specimen_id) if specimen_id else []
    locked = await specimens.lock_specimens(connection, named)
    if specimen_id and not measured:
        measured = await recalculation.lock_measured(connection, specimen_id)  # by whom it waited for
    items = await specimens.lock_items(connection, specimen_ids=named)
    order = await order_changes.lock_order(connection, order_id)
    if order is None:
        raise OrderError(["there is no order of this id"], missing=True)
    if order.cancelled and not reopen:
        raise OrderError(["the order is cancelled; nothing can be added to it"], conflict=True)
    if order.cancelled:
        await order_changes.reopen_order(connection, order_id)
    if specimen_id is None:
        await orders.free(connection, [new.barcode] if new.barcode else [])
        if len(new.time_points_min) > 1:
            raise OrderError(["specimens of a time series are added one by one"])
        [on] = await orders.insert(connection, actor, order_id, order.patient_id, order.number, [new], [tuple(tests)])
    else:
        on = specimen_id
        await _add_items(connection, actor, order_id, next(iter(locked), None), tests, items)
        # Nothing comes any more with which it would be calculated.
        await recalculation.of_specimens(connection, actor, measured, "a test was ordered", wanted=True)
    await specimens.touch_orders(connection, [order_id])
    await audit.record(connection, actor, "add", "order", order_id, {"tests": " ".join(new.tests)})
    return on


async def cancel(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    reason: str,
    *,
    item_ids: Sequence[UUID] = (),
    in_progress: bool = False,
    audience: Audience = Audience.STAFF,
) -> Cancelled:
    """Cancel these items, or the whole order where none are named; see above what can be.

    Of named items all are cancelled or none (IllegalStep). Of a whole order what can be, and the answer names what
    stays; the order itself is cancelled when nothing of it stays. Raises OrderError; ApiError 403.
    """
    _may(actor)
    said = _reason(reason)
    order, locked, items = await _locked(connection, order_id, audience)
    wanted = [item for item in items if item.id in item_ids] if item_ids else items
    if len(wanted) < len(set(item_ids)):
        raise OrderError(["the order has no item of one of these ids"])
    going: list[ItemLocked] = []
    kept: list[str] = []
    # Who ordered it takes back its own word only; a member of staff says that it is not measured.
    others = await placing.asked_twice(connection, item_ids or [item.id for item in items])
    held = await order_changes.measured(connection, [item.id for item in wanted])
    for item in wanted:
        if item.status is ItemStatus.CANCELLED:
            continue
        if item.id in others and audience is not Audience.STAFF:
            kept.append(f"{item.test_code}: asked for by another number as well")
            continue
        try:
            # What was measured waits for a person, who could not release it any more; a member of staff knows of it.
            if item.id in held and audience is not Audience.STAFF:
                raise IllegalStep("the order item was measured")
            _may_cancel(item, in_progress)
        except IllegalStep:
            kept.append(f"{item.test_code}: {_shown(order, item)}")
        else:
            going.append(item)
    if item_ids and kept:
        raise IllegalStep(f"nothing was cancelled: {'; '.join(kept)}")
    if not going and kept:
        raise OrderError([f"nothing can be cancelled: {'; '.join(kept)}"], conflict=True)
    if going:
        await _take_back(connection, actor, order_id, going, items, locked, said)
        detail = {"items": " ".join(str(item.id) for item in going), "reason": said}
        await audit.record(connection, actor, "cancel", "order", order_id, detail)
    return Cancelled(await _view(connection, order_id, audience), tuple(i.test_code for i in going), tuple(kept))


async def replace_order(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    reason: str,
    new: NewOrder,
    *,
    in_progress: bool = False,
    audience: Audience = Audience.STAFF,
) -> OrderView:
    """Cancel an order whole, or nothing of it, and make another in its place for the same patient, who need not be
    named again. Said again with the placer's number of the new order, it is answered with that.

    Raises OrderError, also where something of the order cannot be cancelled; ApiError 403.
    """
    _may(actor)
    said = _reason(reason)
    await lab_changes.lock_orders(connection, actor.organization_id)
    order, _, _ = await _locked(connection, order_id, audience)
    named = (new.patient, new.patient_id) != (None, None)
    new = new if named else replace(new, patient_id=order.patient_id)
    if order.cancelled and not (new.placer_number and await placing.find(connection, new.placer)):
        raise OrderError(["the order is cancelled already"], conflict=True)
    done = await cancel(connection, actor, order_id, said, in_progress=in_progress, audience=audience)
    if any(item.status not in CLOSED_ITEM for item in done.order.items):
        raise OrderError([f"nothing was replaced: {'; '.join(done.kept)}"], conflict=True)
    made = await orders.create_order(connection, actor, new, audience)
    if not await same_person(connection, order.patient_id, made.patient_id):
        raise OrderError(["an order is replaced by one for the same patient"])
    await audit.record(connection, actor, "replace", "order", order_id, {"by": made.number, "reason": said})
    return made


async def same_person(connection: Connection, one: UUID | None, other: UUID | None) -> bool:
    """Whether two patients' records are one person's."""
    if one is None or other is None:
        return False
    return other in (await people.persons(connection, [one])).get(one, ())


# ---- parts ----------------------------------------------------------------------------------------------------------


def _may(actor: Actor) -> None:
    if actor.kind is ActorKind.USER:  # what a client may do is decided by its scopes, at the API
        require(actor, Permission.ORDER_WRITE)


def _reason(text: str) -> str:
    said = text.strip()
    problems = list(text_problems("reason", said, LONGEST_REASON, lines=True))
    if not said:
        problems.append("cancelling needs a reason")
    if problems:
        raise OrderError(problems)
    return said


async def _locked(
    connection: Connection, order_id: UUID, audience: Audience
) -> tuple[OrderView, list[SpecimenLocked], list[ItemLocked]]:
    """The order, and its specimens and items locked, in the order in which everybody locks."""
    locked = await specimens.lock_specimens(connection, await specimens.specimens_of(connection, order_id))
    items = await specimens.lock_items(connection, order_id=order_id)
    return await _view(connection, order_id, audience), locked, items


async def _view(connection: Connection, order_id: UUID, audience: Audience) -> OrderView:
    view = await lab.get_order(connection, order_id, audience)
    if view is None:
        raise OrderError(["there is no order of this id"], missing=True)
    return view


def _difference(before: OrderView, after: OrderView, asked: UUID | None, asks: UUID | None) -> dict[str, str]:
    """What changed, as `old → new`."""
    told = {
        name: (getattr(before, name), getattr(after, name))
        for name in ("priority", "clinical_history", "ward", "patient_group", "pregnant", "gestation_weeks")
    } | {"requester": (asked, asks)}
    return {
        name: f"{'' if old is None else old} → {'' if new is None else new}"
        for name, (old, new) in told.items()
        if old != new
    }


async def _add_items(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    on: SpecimenLocked | None,
    tests: Sequence[UUID],
    items: Sequence[ItemLocked],
) -> None:
    if on is None or on.order_id != order_id:
        raise OrderError(["the order has no specimen of this id"])
    if on.state not in orders.MEASURED:
        raise OrderError([f"the specimen is {on.state}; nothing can be ordered on it"], conflict=True)
    there = {item.test_id: item for item in items if item.specimen_id == on.id and item.status not in CLOSED_ITEM}
    if twice := [there[test].test_code for test in tests if test in there]:
        raise OrderError([f"already ordered on this specimen: {', '.join(twice)}"], conflict=True)
    status = orders.item_status(on.state)
    await lab_changes.insert_items(connection, actor.organization_id, order_id, [(on.id, t, status) for t in tests])


def _may_cancel(item: ItemLocked, in_progress: bool) -> None:
    item_step(item.status, ItemStatus.CANCELLED)
    if item.status is ItemStatus.IN_PROGRESS and not in_progress:
        raise IllegalStep("the order item is in progress; whoever cancels it must say that it is to be all the same")


def _shown(order: OrderView, item: ItemLocked) -> str:
    """Why it stays, in what the audience may know."""
    seen = next((one.status for one in order.items if one.id == item.id), item.status)
    if item.status is ItemStatus.REJECTED:
        return "rejected"
    return seen.value if seen in DONE_ITEM else "in progress"


async def _take_back(
    connection: Connection,
    actor: Actor,
    order_id: UUID,
    going: Sequence[ItemLocked],
    items: Sequence[ItemLocked],
    locked: Sequence[SpecimenLocked],
    reason: str,
) -> None:
    """Cancel the items; then specimens that were only expected for them, and the order, when nothing else is left."""
    gone = {item.id for item in going}
    await specimens.set_items(connection, sorted(gone), ItemStatus.CANCELLED, reason=reason)
    await order_changes.off_worksheets(connection, sorted(gone))
    await dispatch_ends.withdraw(connection, actor, gone, reason)
    await follow_ups.cancel(connection, gone)
    staying = [item for item in items if item.id not in gone and item.status not in CLOSED_ITEM]
    needed = {item.specimen_id for item in staying}
    idle = [one for one in locked if one.state is SpecimenState.EXPECTED and one.id not in needed]
    for one in idle:
        specimen_step(one.state, SpecimenState.CANCELLED)
        await specimens.set_state(connection, one, SpecimenState.CANCELLED)
    states = [SpecimenState.CANCELLED] * len(idle)
    await specimens.add_events(connection, actor, [one.id for one in idle], "cancel", states, reason=reason)
    if not staying:
        await order_changes.close_order(connection, order_id, reason)

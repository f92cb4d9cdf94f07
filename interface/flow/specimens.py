"""A specimen's way through the laboratory: collected, received, stored, divided, rejected, disposed of. API and CLI
share it; every step is legal by `domain.states`, has an actor, an event and an audit row, and takes the specimen's
order items with it. Everything happens in the caller's transaction.

Rejecting takes back what was measured and not released: those results, and changes that wait beside released ones, are
cancelled, because nothing measured on an unfit specimen may be released by mistake later. What is released stays, for a
person to correct, and so does what a person has made of it; the answer names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from interface.domain.model import ItemStatus, ResultStatus, Step
from interface.domain.permissions import Permission
from interface.domain.specimens import RejectReason, mistyped
from interface.domain.states import CLOSED_ITEM, OPEN_ITEM, SPECIMEN_BACK, SpecimenState, item_step, specimen_step
from interface.domain.views import Actor, ActorKind, Audience, SpecimenView
from interface.errors import IllegalStep
from interface.flow import collected_later, consequences, orders, recalculation, review
from interface.flow.actors import require
from interface.flow.criticals import open_for
from interface.flow.orders import LONGEST_BARCODE, MEASURED
from interface.flow.problems import OrderError, past_problems, text_problems
from interface.store import audit, dispatch, dispatch_ends, follow_ups, lab_changes, order_changes, placing, specimens
from interface.store.criticals import Judged
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.lab import SpecimenFilter, find_specimens
from interface.store.lab_changes import SpecimenInsert
from interface.store.specimens import ItemLocked, SpecimenLocked
from interface.store.surroundings import lock_only

LONGEST_REASON = 1000  # characters
MOST_ALIQUOTS = 99
_TIMED = "the time of its collection was told"
_BEGUN = "say when it was taken: it is in progress already, so that is not now"
_BACKWARDS = "it was received before it was collected"


@dataclass(frozen=True, slots=True)
class Rejected:
    """What came of rejecting. `released`: tests whose released results stay; `again`: the specimen that is expected."""

    specimen: SpecimenView
    rejected: tuple[str, ...]
    released: tuple[str, ...]
    again: SpecimenView | None = None


async def collect(
    connection: Connection,
    actor: Actor,
    specimen_id: UUID,
    *,
    at: datetime | None = None,
    by: str = "",
    container: str = "",
    audience: Audience = Audience.STAFF,
) -> SpecimenView:
    """It was taken, `at` (now, unless it has been measured) by `by` (the actor). That may be told, once, of one that
    has come already: it and what was parted from it stay where they are. Raises IllegalStep, OrderError; ApiError
    403."""
    _may(actor)
    problems = [
        *past_problems("the time of collection", at),
        *_text_problems(("collector", by), ("container", container)),
    ]
    if problems:
        raise OrderError(problems)
    measured = await recalculation.lock_measured(connection, specimen_id)
    [one] = await _locked(connection, [specimen_id])
    measured = measured or await recalculation.lock_measured(connection, specimen_id)  # by whom it waited for
    if at is not None and one.collected_at is None and one.state in (SpecimenState.RECEIVED, SpecimenState.STORED):
        if one.received_at is not None and one.received_at < at:
            raise OrderError([_BACKWARDS])
        await _timed(connection, actor, one, at, "collect", by=by.strip() or actor.name)
        return await view(connection, specimen_id, audience)
    specimen_step(one.state, SpecimenState.COLLECTED)
    if at is None and await specimens.has_results(connection, one.id):
        raise OrderError([_BEGUN], conflict=True)
    when = at or datetime.now(UTC)
    await specimens.set_state(
        connection, one, SpecimenState.COLLECTED, collected_at=when, collected_by=by.strip() or actor.name,
        container=container.strip(),
    )  # fmt: skip
    await specimens.time_results(connection, one.id, when)
    await collected_later.hold(connection, actor, one.id, when)
    await _forward(connection, [one], ItemStatus.COLLECTED)
    await _note(connection, actor, one, "collect", SpecimenState.COLLECTED, at=when)
    await recalculation.of_specimens(connection, actor, measured, _TIMED)
    return await view(connection, specimen_id, audience)


async def retime(
    connection: Connection, actor: Actor, specimen_id: UUID, *, at: datetime | None, reason: str
) -> SpecimenView:
    """The time of its collection that was told is wrong: it was taken `at`, and so was what was parted from it. Their
    results are of that time from now on. Raises IllegalStep, OrderError; ApiError 403."""
    _may(actor)
    said = _reason(reason)
    problems = [*past_problems("the time of collection", at)]
    if problems or at is None:
        raise OrderError(problems or ["say when it was taken"])
    await recalculation.lock_measured(connection, specimen_id)
    [one] = await _locked(connection, [specimen_id])
    if one.collected_at is None or one.state is SpecimenState.CANCELLED:
        raise IllegalStep("there is no time of its collection to be put right")
    # What was told of it alone is its own, and does not follow that of its tube.
    if one.parent_id is not None and (await view(connection, one.parent_id)).collected_at == one.collected_at:
        raise IllegalStep("it was parted from another specimen: put the time of that one right")
    if one.received_at is not None and one.received_at < at:
        raise OrderError([_BACKWARDS])
    if at != one.collected_at:
        await _timed(connection, actor, one, at, "retime", reason=said)
    return await view(connection, specimen_id)


async def _timed(
    connection: Connection, actor: Actor, one: SpecimenLocked, at: datetime, action: str, *, by: str = "",
    reason: str = "",
) -> None:  # fmt: skip
    """When it was taken, and its aliquots, of which the same or nothing was said before."""
    family = await specimens.lock_family(connection, one.id)
    for each in (each for each in family if each.collected_at == one.collected_at):
        if one.collected_at is None and each.state not in MEASURED:
            continue
        measured = await recalculation.lock_measured(connection, each.id)
        await specimens.set_collected(connection, each.id, at, by)
        await specimens.time_results(connection, each.id, at)
        await collected_later.hold(connection, actor, each.id, at)
        before = f"in place of {each.collected_at:%Y-%m-%d %H:%M} UTC: {reason}" if each.collected_at else ""
        await _note(
            connection, actor, each, action, each.state, at=at, rack=each.rack, position=each.position, reason=before
        )
        await recalculation.of_specimens(connection, actor, measured, _TIMED)


async def tell_type(connection: Connection, actor: Actor, specimen_id: UUID, type: str) -> None:
    """What it is, of one of which nobody had said so, and of its aliquots: by its type it is known which codes measure
    a test on it, and whose limits count. Of one that has a type, or where none is said, nothing."""
    family = await specimens.lock_family(connection, specimen_id) if type else []
    if not family or _first(family, specimen_id).type:
        return
    told = [each.id for each in family if not each.type and each.state in MEASURED]
    items = await specimens.lock_items(connection, specimen_ids=told)
    await specimens.set_type(connection, told, type)
    await dispatch.make_due(connection, [item.id for item in items])  # more analyzers may measure it now
    for each in told:
        await audit.record(connection, actor, "update", "specimen", each, {"type": f" → {type}"})


async def receive(
    connection: Connection,
    actor: Actor,
    specimen_id: UUID,
    *,
    at: datetime | None = None,
    by: str = "",
    collected_at: datetime | None = None,
) -> SpecimenView:
    """The laboratory has it, `at` (now). `collected_at`: where nobody said before when it was taken."""
    _may(actor)
    problems = [*past_problems("the time of receipt", at), *past_problems("the time of collection", collected_at)]
    problems += _text_problems(("receiver", by))
    measured = await recalculation.lock_measured(connection, specimen_id) if collected_at is not None else []
    [one] = await _locked(connection, [specimen_id])
    if collected_at is not None and not measured:
        measured = await recalculation.lock_measured(connection, specimen_id)  # by whom it waited for
    when = at or datetime.now(UTC)
    taken = collected_at or one.collected_at
    if collected_at is not None and one.collected_at not in (None, collected_at):
        problems.append("it is known already when the specimen was taken, and it was another time")
    if taken is not None and taken > when:
        problems.append(_BACKWARDS)
    if problems:
        raise OrderError(problems)
    if one.state is SpecimenState.STORED:
        raise IllegalStep("the specimen is stored; take it out instead")
    if one.state in SPECIMEN_BACK:
        raise IllegalStep(f"the specimen is {one.state}; reinstate it instead")
    specimen_step(one.state, SpecimenState.RECEIVED)
    await specimens.set_state(
        connection, one, SpecimenState.RECEIVED, received_at=when, received_by=by.strip() or actor.name,
        collected_at=collected_at,
    )  # fmt: skip
    if collected_at is not None and one.collected_at is None:
        await specimens.time_results(connection, one.id, collected_at)
        await collected_later.hold(connection, actor, one.id, collected_at)
    await _forward(connection, [one], ItemStatus.RECEIVED)
    await _note(connection, actor, one, "receive", SpecimenState.RECEIVED, at=when)
    await recalculation.of_specimens(connection, actor, measured, _TIMED)
    return await view(connection, specimen_id)


async def move(
    connection: Connection, actor: Actor, specimen_id: UUID, *, rack: str = "", position: str = ""
) -> SpecimenView:
    """It is stored at this place, or taken out where no rack is named. Two specimens are never at one position."""
    _may(actor)
    rack, position = rack.strip(), position.strip()
    problems = _text_problems(("rack", rack), ("position", position))
    if position and not rack:
        problems.append("a position is one of a rack; name the rack")
    if problems:
        raise OrderError(problems)
    await lab_changes.lock_orders(connection, actor.organization_id)  # no two find a place free
    [one] = await _locked(connection, [specimen_id])
    state = SpecimenState.STORED if rack else SpecimenState.RECEIVED
    if state is not SpecimenState.STORED and one.state is not SpecimenState.STORED:
        raise IllegalStep(f"the specimen is {one.state}, not stored; it cannot be taken out")
    if one.state is not state:
        specimen_step(one.state, state)
    if position and await specimens.place_taken(connection, rack, position, one.id):
        raise OrderError(["another specimen is at this place"], conflict=True)
    await specimens.set_state(connection, one, state, rack=rack, position=position)
    await _note(connection, actor, one, "store" if rack else "take_out", state, rack=rack, position=position)
    return await view(connection, specimen_id)


async def reject(
    connection: Connection,
    actor: Actor,
    specimen_id: UUID,
    code: RejectReason,
    text: str = "",
    *,
    recollect: bool = False,
) -> Rejected:
    """It is unfit, with every aliquot of it. Its open and unreleased items are rejected, its unreleased results
    cancelled (for which the actor needs result:release). `recollect`: the same is expected once more."""
    _may(actor)
    problems = _text_problems(("reason", text))
    if code is RejectReason.OTHER and not text.strip():
        problems.append("say what the reason is")
    if problems:
        raise OrderError(problems)
    await lab_changes.lock_orders(connection, actor.organization_id)
    await lock_only(connection, [specimen_id])  # with what it was parted from: its results are theirs too
    family = await specimens.lock_family(connection, specimen_id)
    one = _first(family, specimen_id)
    specimen_step(one.state, SpecimenState.REJECTED)
    unfit = [one, *(child for child in family if child.id != one.id and child.state in MEASURED)]
    items = await specimens.lock_items(connection, specimen_ids=[each.id for each in unfit])
    gone = [item for item in items if item.status in OPEN_ITEM or item.status is ItemStatus.COMPLETED]
    stays = await specimens.answered_elsewhere(connection, [item.id for item in gone], [each.id for each in unfit])
    for item_id, on in stays.items():  # it was measured on a tube that is fit
        await specimens.move_items(connection, [item_id], on)
    gone = [item for item in gone if item.id not in stays]
    ended = [item.id for item in gone]
    reported = await specimens.reported(connection, ended)  # a rerun of it was awaited, and what is reported stands
    asked, gone = gone, [item for item in gone if item.id not in reported]
    for item in asked:
        item_step(item.status, ItemStatus.VERIFIED if item.id in reported else ItemStatus.REJECTED)
    said = f"{_words(code)}: {text.strip()}" if text.strip() else _words(code)
    cancelled = await _cancel_results(connection, actor, unfit, said)
    await specimens.set_items(connection, [item.id for item in gone], ItemStatus.REJECTED, reason=said)
    await specimens.set_items(connection, sorted(reported), ItemStatus.VERIFIED)
    await order_changes.off_worksheets(connection, ended)
    await dispatch_ends.withdraw(connection, actor, ended, said)
    await follow_ups.cancel(connection, ended)
    for each in unfit:
        await specimens.set_state(
            connection, each, SpecimenState.REJECTED, reject_code=code, reject_reason=text.strip()
        )
        await _note(connection, actor, each, "reject", SpecimenState.REJECTED, reason=said)
    await consequences.follow(connection, actor, cancelled)  # what was calculated of them, on its other specimens
    again = await _expect_again(connection, actor, one, asked) if recollect and asked else None
    released = tuple(item.test_code for item in items if item.status is ItemStatus.VERIFIED or item.id in reported)
    return Rejected(
        await view(connection, one.id),
        tuple(item.test_code for item in gone),
        released,
        await view(connection, again) if again else None,
    )


async def reinstate(connection: Connection, actor: Actor, specimen_id: UUID, reason: str) -> SpecimenView:
    """It was rejected, or said to be used up, by mistake: it is received again, and so are its rejected items."""
    _may(actor)
    said = _reason(reason)
    measured = await recalculation.lock_measured(connection, specimen_id)
    [one] = await _locked(connection, [specimen_id])
    if one.state not in SPECIMEN_BACK:
        raise IllegalStep(f"the specimen is {one.state}; only one that is rejected or exhausted is reinstated")
    specimen_step(one.state, SpecimenState.RECEIVED, said)
    await orders.free(connection, [one.barcode])  # its barcode may be on another tube by now
    items = await specimens.lock_items(connection, specimen_ids=[one.id])
    back = [item for item in items if item.status is ItemStatus.REJECTED]
    for item in back:
        item_step(item.status, ItemStatus.RECEIVED, said)
    when = None if one.received_at else datetime.now(UTC)
    await specimens.set_state(connection, one, SpecimenState.RECEIVED, received_at=when)
    await specimens.set_items(connection, [item.id for item in back], ItemStatus.RECEIVED, reason=said)
    for order_id in {item.order_id for item in back}:  # all else of it may have been cancelled meanwhile
        await order_changes.reopen_order(connection, order_id)
    await _note(connection, actor, one, "reinstate", SpecimenState.RECEIVED, reason=said)
    # What is made of results that are released by now: of these nothing comes any more.
    await recalculation.of_specimens(connection, actor, measured, "its specimen was reinstated", wanted=True)
    return await view(connection, specimen_id)


async def exhaust(connection: Connection, actor: Actor, specimen_id: UUID, reason: str = "") -> SpecimenView:
    """Nothing is left of it. While tests wait for it, reject it for its quantity instead, so that they are seen to."""
    return await _end(connection, actor, specimen_id, SpecimenState.EXHAUSTED, "exhaust", reason)


async def dispose(connection: Connection, actor: Actor, specimen_id: UUID, reason: str = "") -> SpecimenView:
    """It is thrown away. Not while tests wait for it."""
    return await _end(connection, actor, specimen_id, SpecimenState.DISPOSED, "dispose", reason)


async def aliquot(
    connection: Connection,
    actor: Actor,
    specimen_id: UUID,
    *,
    barcode: str = "",
    container: str = "",
    tests: Sequence[str] = (),
) -> SpecimenView:
    """A part of it in a tube of its own, of the same patient and order; `barcode` "": the parent's and a number.

    `tests`: open tests of the parent that are measured on the aliquot from now on; the others stay where they are.
    """
    _may(actor)
    problems = [*_text_problems(("container", container)), *text_problems("barcode", barcode, LONGEST_BARCODE)]
    if barcode != barcode.strip():
        problems.append("the barcode begins or ends with a space")
    if problems:
        raise OrderError(problems)
    await lab_changes.lock_orders(connection, actor.organization_id)
    [one] = await _locked(connection, [specimen_id])
    if one.state not in MEASURED or one.state is SpecimenState.EXPECTED:
        raise IllegalStep(f"the specimen is {one.state}; no aliquot can be made of it")
    number = barcode or await _aliquot_number(connection, one)
    await orders.free(connection, [number])
    moved = await _items_to_move(connection, one, tests)
    state = SpecimenState.COLLECTED if one.state is SpecimenState.COLLECTED else SpecimenState.RECEIVED
    child = SpecimenInsert(
        uuid7(), number, one.type, one.collected_at, one.received_at, (), orders.item_status(state), state,
        container.strip() or one.container, one.time_point_min, parent_id=one.id,
    )  # fmt: skip
    await lab_changes.insert_specimens(connection, actor.organization_id, one.order_id, one.patient_id, [child])
    await specimens.move_items(connection, moved, child.id)
    await dispatch_ends.withdraw(connection, actor, moved, "it is measured on an aliquot")
    await dispatch.make_due(connection, moved)  # whoever has a worklist is told of the other tube
    await specimens.add_events(connection, actor, [child.id], "create", [state], reason=f"aliquot of {one.barcode}")
    await _note(connection, actor, one, "aliquot", one.state, reason=number, rack=one.rack, position=one.position)
    return await view(connection, child.id)


async def view(connection: Connection, specimen_id: UUID, audience: Audience = Audience.STAFF) -> SpecimenView:
    """The specimen. Raises OrderError `missing` when there is none that the audience may see."""
    found = await find_specimens(connection, SpecimenFilter(ids=(specimen_id,)), audience)
    if not found:
        raise _missing()
    return found[0]


async def by_barcode(connection: Connection, barcode: str) -> UUID:
    """The one specimen of this barcode that may be measured, else the newest that carried it.

    Raises OrderError: `missing` when there is none (and says so where the check digit shows a typing mistake),
    `conflict` when several that may be measured carry it.
    """
    found = await specimens.find_by_barcode(connection, barcode)
    if not found:
        wrong = "; its check digit is wrong: was it mistyped?" if mistyped(barcode) else ""
        raise OrderError([f"there is no specimen of this barcode{wrong}"], missing=True)
    if len(found) > 1:
        raise OrderError([f"{len(found)} open specimens carry this barcode; say which by its id"], conflict=True)
    return found[0]


# ---- parts ----------------------------------------------------------------------------------------------------------


def _may(actor: Actor) -> None:
    if actor.kind is ActorKind.USER:  # what a client may do is decided by its scopes, at the API
        require(actor, Permission.SPECIMEN_WRITE)


def _missing() -> OrderError:
    return OrderError(["there is no specimen of this id"], missing=True)


def _words(code: RejectReason) -> str:
    return code.value.replace("_", " ")


def _text_problems(*texts: tuple[str, str]) -> list[str]:
    return [problem for name, text in texts for problem in text_problems(name, text, LONGEST_REASON)]


def _reason(text: str) -> str:
    problems = _text_problems(("reason", text))
    if not text.strip():
        problems.append("it needs a reason")
    if problems:
        raise OrderError(problems)
    return text.strip()


async def _locked(connection: Connection, ids: Sequence[UUID]) -> list[SpecimenLocked]:
    found = await specimens.lock_specimens(connection, ids)
    if len(found) < len(ids):
        raise _missing()
    return found


def _first(family: Sequence[SpecimenLocked], specimen_id: UUID) -> SpecimenLocked:
    if not family:
        raise _missing()
    return next(one for one in family if one.id == specimen_id)


async def _forward(connection: Connection, on: Sequence[SpecimenLocked], status: ItemStatus) -> None:
    """The items that are not so far yet come as far as their specimen is."""
    items = await specimens.lock_items(connection, specimen_ids=[one.id for one in on])
    behind = (ItemStatus.REQUESTED, ItemStatus.COLLECTED)
    going = [item.id for item in items if item.status in behind and item.status is not status]
    await specimens.set_items(connection, going, status)


async def _note(
    connection: Connection,
    actor: Actor,
    one: SpecimenLocked,
    action: str,
    state: SpecimenState,
    *,
    at: datetime | None = None,
    rack: str = "",
    position: str = "",
    reason: str = "",
) -> None:
    """The step's event and its audit row."""
    await specimens.add_events(
        connection, actor, [one.id], action, [state], at=at, rack=rack, position=position, reason=reason
    )
    detail = {"from": one.state.value, "to": state.value}
    await audit.record(connection, actor, action, "specimen", one.id, detail | ({"reason": reason} if reason else {}))


async def _end(
    connection: Connection, actor: Actor, specimen_id: UUID, state: SpecimenState, action: str, reason: str
) -> SpecimenView:
    _may(actor)
    if problems := _text_problems(("reason", reason)):
        raise OrderError(problems)
    [one] = await _locked(connection, [specimen_id])
    specimen_step(one.state, state)
    items = await specimens.lock_items(connection, specimen_ids=[one.id])
    if waiting := [item.test_code for item in items if item.status in OPEN_ITEM]:
        text = f"tests wait for it: {', '.join(waiting)}; reject it, or cancel them first"
        raise IllegalStep(text)
    rejected = one.state is SpecimenState.REJECTED
    code, why = await specimens.rejection(connection, one.id) if rejected else ("", "")
    await specimens.set_state(connection, one, state, reject_code=code, reject_reason=why)
    await _note(connection, actor, one, action, state, reason=reason.strip())
    return await view(connection, specimen_id)


async def _cancel_results(
    connection: Connection, actor: Actor, unfit: Sequence[SpecimenLocked], reason: str
) -> list[UUID]:
    """Cancel what was measured on these specimens and never released, each as a version with its explanation; the
    results. A change that waits beside a released one is never accepted."""
    found = await specimens.unreleased_results(connection, [one.id for one in unfit])
    if found and actor.kind is ActorKind.USER:
        require(actor, Permission.RESULT_RELEASE)
    text = f"the specimen was rejected by {actor.name}: {reason}"
    cancelled = []
    for result_id in found:
        row = await lab_changes.lock_result(connection, result_id)
        if row is not None and row.pending:
            await review.leave(connection, actor, row, f"specimen rejected: {reason}")
            continue
        if row is None or row.released or row.status is ResultStatus.CANCELLED:
            continue
        step = Step("release", "none", text, inputs={"from_version": str(row.candidate_version)})
        version_id, version = await lab_changes.copy_version(
            connection, actor, row, ResultStatus.CANCELLED, f"specimen rejected: {reason}", step
        )
        await lab_changes.point_to(connection, row, version_id, version, ResultStatus.CANCELLED, False)
        # It may have answered a test that stayed with the tube it was parted from: that one waits again.
        await lab_changes.reopen_item(connection, row, text)
        await open_for(connection, actor, [Judged(result_id, version_id, critical=False)])
        await audit.record(connection, actor, "discard", "result", result_id, {"version": str(version)})
        cancelled.append(result_id)
    return cancelled


async def _expect_again(
    connection: Connection, actor: Actor, one: SpecimenLocked, gone: Sequence[ItemLocked]
) -> UUID | None:
    """The specimen that replaces a rejected one, with the tests that were rejected; of the order that asked for it."""
    if one.order_id is None:
        return None
    [number] = await orders.numbered(connection, actor, one.order_number, [""])
    tests = tuple(dict.fromkeys(item.test_id for item in gone))
    row = SpecimenInsert(
        uuid7(), number, one.type, None, None, tests, ItemStatus.REQUESTED, SpecimenState.EXPECTED, one.container,
        one.time_point_min,
    )  # fmt: skip
    await lab_changes.insert_specimens(connection, actor.organization_id, one.order_id, one.patient_id, [row])
    await placing.stand_again(connection, row.id, [item.id for item in gone])  # who ordered it may cancel it as well
    reason = f"in place of {one.barcode}"
    await specimens.add_events(connection, actor, [row.id], "create", [row.state], reason=reason)
    await audit.record(connection, actor, "create", "specimen", row.id, {"reason": reason})
    return row.id


async def _aliquot_number(connection: Connection, one: SpecimenLocked) -> str:
    first = await specimens.count_aliquots(connection, one.id) + 1
    possible = [f"{one.barcode}-{number}" for number in range(first, MOST_ALIQUOTS + 1)]
    possible = [barcode for barcode in possible if len(barcode) <= LONGEST_BARCODE]
    used = await lab_changes.known_barcodes(connection, possible, open_only=False)
    number = next((barcode for barcode in possible if barcode not in used), "")
    if not number:
        raise OrderError(["no barcode is free for an aliquot of this specimen; give it one"], conflict=True)
    return number


async def _items_to_move(connection: Connection, one: SpecimenLocked, tests: Sequence[str]) -> list[UUID]:
    if not tests:
        return []
    items = await specimens.lock_items(connection, specimen_ids=[one.id])
    waiting = {item.test_code: item.id for item in items if item.status in OPEN_ITEM}
    if missing := [test for test in tests if test not in waiting]:
        ordered = {item.test_code for item in items if item.status not in CLOSED_ITEM}
        text = ", ".join(f"{test} is {'done' if test in ordered else 'not ordered on it'}" for test in missing)
        raise OrderError([f"these tests do not wait for the specimen: {text}"])
    return [waiting[test] for test in tests]

"""Worksheets: what a bench measures by hand, in one order, entered together and completed. API and CLI share it.

An item on an open worksheet is in progress and on no other one. Values that are entered are decided exactly as an
analyzer's (`flow.entry`). A worksheet is completed when every item of it was measured; what was not goes back to wait,
and that needs a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from interface.domain.facts import QcState
from interface.domain.judging import QcGate
from interface.domain.model import ItemStatus
from interface.domain.permissions import Permission
from interface.domain.states import OPEN_ITEM, item_step
from interface.domain.views import Actor, ResultView
from interface.flow.actors import require
from interface.flow.entry import Entry, EntryError
from interface.flow.entry import enter as decide_entries
from interface.flow.orders import MEASURED, item_status
from interface.flow.problems import OrderError, text_problems
from interface.flow.qc_gate import gate_of
from interface.store import audit, dispatch, lab_changes, specimens, worksheets
from interface.store.db import Connection
from interface.store.worksheets import WorkFilter, WorksheetState, WorksheetView

MOST_ITEMS = 400
# The worst first: what a worksheet's tests have among them is its state of quality control.
_WORST = (QcState.FAIL, QcState.EXPIRED, QcState.UNKNOWN, QcState.WARN, QcState.OK)
# In progress, and on no open worksheet: it is to be measured again.
_IN_THE_LABORATORY = (ItemStatus.RECEIVED, ItemStatus.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class PlaceEntry:
    """A value for the item at a place of the worksheet; `unit` "" is the test's own, `method` "" is not said."""

    place: int
    value: str
    unit: str = ""
    comment: str = ""
    method: str = ""


async def build(
    connection: Connection, actor: Actor, filter: WorkFilter, name: str = "", *, expected: bool = False
) -> WorksheetView:
    """A worksheet of what waits for these tests or this analyzer, in the worklist's order; its items are in progress.

    `expected`: also what the laboratory has not received yet. Raises OrderError, also when nothing waits; ApiError 403.
    """
    require(actor, Permission.WORKSHEET_WRITE)
    problems = list(text_problems("name", name))
    if not (filter.analyzers or filter.test_codes or filter.departments):
        problems.append("a worksheet is of an analyzer, of tests or of a department")
    if not 1 <= filter.limit <= MOST_ITEMS:
        problems.append(f"a worksheet has from 1 to {MOST_ITEMS} items")
    analyzer_id, test_id, unknown = await _of(connection, filter)
    if problems := [*problems, *unknown]:
        raise OrderError(problems)
    begin = (*_IN_THE_LABORATORY, ItemStatus.COLLECTED, ItemStatus.REQUESTED) if expected else _IN_THE_LABORATORY
    found = await worksheets.pending(connection, replace(filter, statuses=begin), free=True)
    ids = await _take(connection, [one.item_id for one in found], [one.specimen_id for one in found], begin)
    if not ids:
        raise OrderError(["nothing waits for such a worksheet"], conflict=True)
    year = datetime.now(UTC).year
    place = await lab_changes.next_number(connection, actor.organization_id, f"worksheet.{year}")
    number = f"W{year}-{place:05d}"
    worksheet_id = await worksheets.insert(
        connection, actor.organization_id, number, name.strip() or _name(filter), ids, analyzer_id=analyzer_id,
        test_id=test_id, created_by=actor.name,
    )  # fmt: skip
    # Not for an EMR to see: what is in progress looks to it as it was before (`store.lab`).
    await specimens.set_items(connection, ids, ItemStatus.IN_PROGRESS, seen=False)
    await audit.record(
        connection, actor, "create", "worksheet", worksheet_id, {"number": number, "items": str(len(ids))}
    )
    return await view(connection, worksheet_id)


async def enter(
    connection: Connection, actor: Actor, worksheet_id: UUID, entries: Sequence[PlaceEntry], version: int | None = None
) -> tuple[WorksheetView, list[ResultView]]:
    """Enter values, all or none. `version`: of the worksheet the person looked at.

    Raises OrderError (with the place of each fault), ApiError 403.
    """
    require(actor, Permission.WORKSHEET_WRITE)
    analyzer = await _analyzer(connection, worksheet_id)
    sheet = await _open(connection, worksheet_id, version)
    places = {item.place: item for item in sheet.items}
    problems = [f"there is no place {one.place}" for one in entries if one.place not in places]
    if not entries:
        problems.append("nothing is entered")
    if len({one.place for one in entries}) < len(entries):
        problems.append("a place is entered twice")
    if problems:
        raise OrderError(problems)
    if closed := [one.place for one in entries if not places[one.place].open]:
        raise OrderError([f"place {place} was taken off the worksheet" for place in closed], conflict=True)
    # Who says which version of the worksheet they looked at does not repeat what they entered: that made another.
    there = {place: item.result_id if version is None else None for place, item in places.items()}
    asked = [
        Entry(places[one.place].item_id, one.value, one.unit, one.comment, one.method, there[one.place])
        for one in entries
    ]
    try:
        results = await decide_entries(connection, actor, asked, analyzer)
    except EntryError as error:
        at = next((place for place, item in places.items() if item.item_id == error.item_id), None)
        raise OrderError([f"place {at}: {error}" if at else str(error)]) from None
    pairs = [(one.order_item_id, result.id) for one, result in zip(asked, results, strict=True)]
    await worksheets.set_results(connection, worksheet_id, pairs)
    await worksheets.touch(connection, worksheet_id)
    detail = {"places": " ".join(str(one.place) for one in entries)}
    await audit.record(connection, actor, "enter", "worksheet", worksheet_id, detail)
    return await view(connection, worksheet_id), results


async def complete(
    connection: Connection,
    actor: Actor,
    worksheet_id: UUID,
    *,
    note: str = "",
    unmeasured: str = "",
    version: int | None = None,
    qc: QcGate | None = None,
) -> WorksheetView:
    """Close the worksheet with the state of quality control of its tests. `unmeasured`: why what was not measured goes
    back to wait. Raises OrderError; ApiError 403."""
    require(actor, Permission.WORKSHEET_WRITE)
    if problems := [*text_problems("note", note, 1000, lines=True), *text_problems("reason", unmeasured, 1000)]:
        raise OrderError(problems)
    analyzer = await _analyzer(connection, worksheet_id)
    gate = qc or await gate_of(connection, [analyzer[0]] if analyzer else [])
    sheet = await _open(connection, worksheet_id, version)
    back = [item for item in sheet.items if item.open and item.result_id is None and item.status in OPEN_ITEM]
    if back and not unmeasured.strip():
        places = ", ".join(str(item.place) for item in back)
        raise OrderError([f"not measured: {places}; say why they are left"], conflict=True)
    locked = await _lock(connection, [item.specimen_id for item in back], [item.item_id for item in back])
    waiting = [item_id for item_id, (status, _) in locked.items() if status is ItemStatus.IN_PROGRESS]
    out = await worksheets.released(connection, waiting)  # what was to be measured again stays: it is no new request
    waiting = [item_id for item_id in waiting if item_id not in out]
    for begun in {locked[item_id][1] for item_id in waiting}:  # what never came is not received
        item_step(ItemStatus.IN_PROGRESS, begun, unmeasured)
        ids = [item_id for item_id in waiting if locked[item_id][1] is begun]
        await specimens.set_items(connection, ids, begun, reason=unmeasured.strip(), seen=False)
    # Of what was begun before its tube had come no analyzer was told, for there was nothing to measure yet.
    await dispatch.make_due(connection, waiting)
    state = _qc(gate, sheet)
    await worksheets.complete(connection, worksheet_id, state, note.strip(), actor.name)
    detail = {"qc": state.value, "back": str(len(waiting))}
    await audit.record(connection, actor, "complete", "worksheet", worksheet_id, detail)
    return await view(connection, worksheet_id)


async def view(connection: Connection, worksheet_id: UUID) -> WorksheetView:
    """A worksheet with its items. Raises OrderError `missing`."""
    found = await worksheets.get(connection, worksheet_id)
    if found is None:
        raise OrderError(["there is no such worksheet"], missing=True)
    return found


# ---- parts ----------------------------------------------------------------------------------------------------------


async def _of(connection: Connection, filter: WorkFilter) -> tuple[UUID | None, UUID | None, list[str]]:
    """The analyzer and the test it is of, where it is of one, and what of the filter is not known."""
    problems = []
    analyzer_id = test_id = None
    for name in filter.analyzers:
        analyzer_id = await worksheets.analyzer_id(connection, name)
        problems += [] if analyzer_id else [f'there is no analyzer "{name}"']
    for code in filter.test_codes:
        test_id = await worksheets.test_id(connection, code)
        problems += [] if test_id else [f'there is no test "{code}"']
    return (
        analyzer_id if len(filter.analyzers) == 1 else None,
        test_id if len(filter.test_codes) == 1 else None,
        problems,
    )


async def _analyzer(connection: Connection, worksheet_id: UUID) -> tuple[UUID, str] | None:
    """That on which the worksheet's items are measured; its controls speak of what is entered."""
    sheet = await view(connection, worksheet_id)
    found = await worksheets.analyzer_id(connection, sheet.analyzer) if sheet.analyzer else None
    return (found, sheet.analyzer) if found is not None else None


async def _lock(
    connection: Connection, specimen_ids: Sequence[UUID | None], item_ids: Sequence[UUID]
) -> dict[UUID, tuple[ItemStatus, ItemStatus]]:
    """Lock specimens, then their items; of the wanted ones on specimens that may be measured the status, and where
    items of such a specimen begin."""
    locked = await specimens.lock_specimens(connection, {one for one in specimen_ids if one is not None})
    begun = {one.id: item_status(one.state) for one in locked if one.state in MEASURED}
    items = await specimens.lock_items(connection, specimen_ids=begun)
    wanted = set(item_ids)
    return {
        item.id: (item.status, begun[item.specimen_id])
        for item in items
        if item.id in wanted and item.specimen_id is not None
    }


async def _take(
    connection: Connection, item_ids: Sequence[UUID], specimen_ids: Sequence[UUID | None], begin: Sequence[ItemStatus]
) -> list[UUID]:
    """Those that are still free once they are locked, in their order: another worksheet may have been faster."""
    locked = await _lock(connection, specimen_ids, item_ids)
    waiting = [item_id for item_id in item_ids if item_id in locked and locked[item_id][0] in begin]
    free = await worksheets.still_free(connection, waiting)
    for item_id in waiting:
        if locked[item_id][0] is not ItemStatus.IN_PROGRESS:
            item_step(locked[item_id][0], ItemStatus.IN_PROGRESS)
    return [item_id for item_id in waiting if item_id in free]


async def _open(connection: Connection, worksheet_id: UUID, version: int | None) -> WorksheetView:
    locked = await worksheets.lock(connection, worksheet_id)
    sheet = await view(connection, worksheet_id)
    if locked is None or locked[0] is not WorksheetState.OPEN:
        raise OrderError([f"the worksheet {sheet.number} is completed"], conflict=True)
    if version not in (None, locked[1]):
        text = f"the worksheet has changed: version {version} was looked at, it is now version {locked[1]}"
        raise OrderError([text], conflict=True)
    return sheet


def _name(filter: WorkFilter) -> str:
    return " ".join((*filter.analyzers, *filter.test_codes, *filter.departments))[:200]


def _qc(gate: QcGate, sheet: WorksheetView) -> QcState:
    """The worst state among the tests of the worksheet, now."""
    now = datetime.now(UTC)
    tests = {item.test_code for item in sheet.items}
    return min((gate.state(sheet.analyzer, test, now) for test in tests), key=_WORST.index, default=QcState.UNKNOWN)

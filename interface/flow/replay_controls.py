"""The controls of a message that is decided anew: those that made no point are judged as they are read now.

A lot, a map or a driver was mended since. What is a point stays as it was judged, for points are append-only: that it
would be another now is said, so that a person excludes it with the reason and enters it. What a person has seen to is
left alone. Where the driver reads a control that made no point otherwise than it was kept, it is kept as it is read
now, beside what was read then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

from interface.domain.catalogue import Catalogue
from interface.domain.model import SpecimenRole
from interface.domain.qc_arrival import QcProblem, Sent, recognise
from interface.domain.qc_lots import LotView
from interface.domain.views import Actor
from interface.flow import qc
from interface.flow.controls import controls_of
from interface.flow.work import Work, own_key
from interface.store import audit
from interface.store import qc as rows
from interface.store.controls import ControlResult, write_controls
from interface.store.db import Connection
from interface.store.qc import READING, Kept
from interface.store.qc_find import read_control
from interface.store.qc_gate import lock_judging
from interface.store.qc_lots import lots_of


@dataclass(frozen=True, slots=True)
class ControlChange:
    """A control before and after, in words. `stays`: it is a point, which it would not be now; nothing was changed."""

    message_id: UUID
    qc_result_id: UUID
    location: str
    specimen: str
    code: str
    before: str
    after: str
    stays: bool = False


async def judged_again(
    connection: Connection, actor: Actor, work: Work, catalogue: Catalogue, code: str | None, reason: str
) -> tuple[ControlChange, ...]:
    """Judge them, in the order in which they were measured. `code`: only those that had no test for it. To be called
    before the gate is asked; `flow.qc_sweep` does what follows, after the commit."""
    kept = await rows.kept_of(connection, work.message.id)
    if not work.has_controls and not kept:
        return ()
    await lock_judging(connection, actor.organization_id, work.link.analyzer_id)
    kept = await rows.kept_of(connection, work.message.id)
    pairs = _paired(controls_of(work, catalogue), kept)
    lots = await lots_of(connection, work.link.analyzer_id)
    paired = {before.id for _, before in pairs if before is not None}
    points = {one.location for one in kept if one.lot_id is not None and one.id not in paired}
    stays: list[ControlChange] = []
    again: list[tuple[ControlResult, Kept | None]] = []
    for control, before in pairs:
        if before is None and (code is not None or control.location in points):
            continue  # what is a point of this message already is never a second one
        if before is not None and before.lot_id is not None:
            stays += _stays(control, before, lots, code)
        elif before is None or (before.waits and (code is None or _of_code(before, code))):
            again.append((control, before))
    return (*stays, *await _judged(connection, actor, again, reason))


def _of_code(before: Kept, code: str) -> bool:
    return before.code == code and before.problem == QcProblem.UNMAPPED_CODE


def _paired(controls: Sequence[ControlResult], kept: Sequence[Kept]) -> list[tuple[ControlResult, Kept | None]]:
    """Each control with how it was kept: under the same key; else read from the same place of the message, where the
    driver reads it otherwise now."""
    by_key = {one.natural_key: one for one in kept}
    found = {one.id: by_key[one.natural_key] for one in controls if one.natural_key in by_key}
    for place in (_place_and_code, _place):
        taken = {one.id for one in found.values()}
        there = _only(place, [one for one in kept if one.id not in taken])
        for at, one in _only(place, [one for one in controls if one.id not in found]).items():
            if at in there:
                found[one.id] = there[at]
    return [(one, found.get(one.id)) for one in controls]


_Read = TypeVar("_Read", ControlResult, Kept)


def _place(one: ControlResult | Kept) -> tuple[str, ...]:
    return (one.location,)


def _place_and_code(one: ControlResult | Kept) -> tuple[str, ...]:
    return one.location, one.code


def _only(
    place: Callable[[ControlResult | Kept], tuple[str, ...]], read: Sequence[_Read]
) -> dict[tuple[str, ...], _Read]:
    """What is alone in its place."""
    counted = Counter(map(place, read))
    return {place(one): one for one in read if counted[place(one)] == 1}


def _reading(control: ControlResult) -> tuple[object, ...]:
    return tuple(getattr(control, name) for name in READING)


def _stays(control: ControlResult, before: Kept, lots: Sequence[LotView], code: str | None) -> list[ControlChange]:
    """What is said of a point that would be another now."""
    of = next((one for one in lots if one.id == before.lot_id), None)
    now = recognise(
        Sent(control.specimen_as_sent, control.lot_as_sent, control.level_as_sent), lots, control.measured_at
    )
    would = []
    if now.lot is not None and now.lot.id != before.lot_id:
        would.append(f"of {_lot(now.lot)}")
    if control.test_id != before.test_id:
        would.append("of another test" if control.test_id else "of no test")
    if _reading(control) != before.read:
        would.append("read otherwise")
    if not would or code is not None:
        return []
    helps = "enter it, the point is excluded" if before.excluded else "exclude it with the reason, and enter it"
    text = f"stays; it would be {', '.join(would)}: {helps}"
    verdict = " ".join([before.verdict, *before.rules])
    was = f"{verdict} as of {_lot(of)}" if of is not None else verdict
    return [_change(control, before.id, was, text, stays=True)]


async def _judged(
    connection: Connection, actor: Actor, again: Sequence[tuple[ControlResult, Kept | None]], reason: str
) -> list[ControlChange]:
    controls: list[ControlResult] = []
    new: list[ControlResult] = []
    for control, before in again:
        if before is not None and _reading(control) == before.read:
            controls.append(replace(control, id=before.id))
            continue
        if before is not None and control.natural_key == before.natural_key:
            said = [str(part) for part in _reading(control)]
            control = replace(control, natural_key=own_key("read anew", str(before.id), *said))
        controls.append(control)
        new.append(control)
    organization_id = actor.organization_id
    await write_controls(connection, organization_id, new)
    await qc.lots_in_use(connection, actor, new)
    await qc.judge(connection, actor, controls)
    changes = []
    for control, (_, before) in zip(controls, again, strict=True):
        view = await read_control(connection, control.id)
        if view is None or (before is None and control.role != SpecimenRole.QC):
            continue  # kept of another message; or a calibrator's, which makes no point
        if before is not None and before.id != control.id:
            await rows.end_problem(connection, actor, before.id, f"read anew as {control.id}")
        if view.point is None:
            if before is not None and before.id == control.id:
                continue  # as it was
            after = f"held: {view.problem.kind}" if view.problem else "no point"
        else:
            await rows.end_problem(connection, actor, control.id, f"judged anew by {actor.name}")
            lot = f"{view.point.material}, lot {view.point.lot}/{view.point.level}".rstrip("/")
            after = f"{' '.join([view.point.verdict.value, *view.point.rules])} as of {lot}"
        was = f"held: {before.problem}" if before is not None else ""
        changes.append(_change(control, control.id, was, after))
        detail = {"before": was, "after": after} | ({"reason": reason} if reason else {})
        await audit.record(connection, actor, "replay_control", "qc_result", control.id, detail)
    return changes


def _lot(lot: LotView) -> str:
    return f"{lot.material}, lot {lot.name}"


def _change(control: ControlResult, id: UUID, before: str, after: str, *, stays: bool = False) -> ControlChange:
    assert control.message_id is not None  # noqa: S101 - it is of a message
    return ControlChange(
        control.message_id, id, control.location, control.specimen_as_sent, control.code, before, after, stays
    )  # fmt: skip

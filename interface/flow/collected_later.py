"""What was measured before its specimen was collected, where that is told only after it was decided.

It is held as it would have been (`domain.matching.before`): barcodes are used again, and it is of the tube that carried
this one before. What is released stays, and a change of the same value waits beside it for a person.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from interface.domain.matching import before_collected
from interface.domain.model import RELEASED, HoldReason, ResultStatus, Step
from interface.domain.times import measured_at
from interface.domain.views import Actor, ActorKind
from interface.store import audit, lab_changes, specimens
from interface.store.db import Connection


async def hold(connection: Connection, actor: Actor, specimen_id: UUID, collected_at: datetime) -> None:
    """Hold it. The caller has the specimen locked, and has told its results when it was taken."""
    for one in await specimens.measured_on(connection, specimen_id):
        measured = measured_at(one.instrument_at, one.received_at)
        if text := before_collected(collected_at, measured):
            times = {"measured": measured.isoformat(), "collected": collected_at.isoformat()}
            step = Step("match", "hold", f"{text}, as {actor.name} told later", inputs=times)
            await _held(connection, actor, one.result_id, step)


async def _held(connection: Connection, actor: Actor, result_id: UUID, step: Step) -> None:
    row = await lab_changes.lock_result(connection, result_id)
    if row is None or HoldReason.BEFORE_SPECIMEN in row.candidate_held:
        return
    released = row.status in RELEASED
    reasons = {HoldReason.BEFORE_SPECIMEN} | ({HoldReason.CHANGED_AFTER_RELEASE} if released else set())
    held = tuple(sorted(row.candidate_held | reasons))
    # The version is nobody's word about the result: who told is in the audit.
    by = Actor(ActorKind.RULE_SET, None, "collection told later", actor.organization_id)
    version_id, version = await lab_changes.copy_version(connection, by, row, ResultStatus.REGISTERED, "", step, held)
    if released:
        await lab_changes.set_pending(connection, row.id, version_id)
    else:
        await lab_changes.point_to(connection, row, version_id, version, ResultStatus.REGISTERED, False, held)
    detail = {"version": str(version), "held": " ".join(held)}
    await audit.record(connection, actor, "hold", "result", result_id, detail)

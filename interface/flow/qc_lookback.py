"""Look-back: a person decides about each patient's result that was released since the last acceptable control.

42 CFR 493.1282(b)(2): when a control fails, what was obtained since the last acceptable run is evaluated. API and CLI
share it.

    stands       it is right all the same; the reason says why
    repeat       the test is to be run again on the specimen: a follow-up, as `labora result rerun` makes it
    corrected    it was corrected or retracted since; only where it was
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from interface.domain.model import FollowUpKind
from interface.domain.permissions import Permission
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError
from interface.flow import consequences, follow_ups
from interface.flow.actors import require
from interface.flow.problems import reason_of
from interface.store import audit, lab_changes
from interface.store import qc_lookback as rows
from interface.store.db import Connection
from interface.store.qc_lookback import Item, Lookback


class Decision(StrEnum):
    STANDS = "stands"
    REPEAT = "repeat"
    CORRECTED = "corrected"


WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class LookbackView:
    """A list with its results, in the order in which they were measured."""

    lookback: Lookback
    items: tuple[Item, ...]


def by_controls(organization_id: UUID) -> Actor:
    """Who writes what follows from what controls, or persons who looked at what they say, have brought about."""
    return Actor(ActorKind.RULE_SET, None, "quality control", organization_id)


async def lookbacks(connection: Connection, *, closed: bool = False, limit: int = 200) -> list[Lookback]:
    """The lists, newest first; without `closed` those that are open."""
    return await rows.lookbacks(connection, closed=closed, limit=limit)


async def view(connection: Connection, lookback_id: UUID) -> LookbackView:
    """Raises ApiError 404."""
    found = await rows.lookback(connection, lookback_id)
    if found is None:
        raise ApiError(404, "not-found", "there is no such look-back list")
    return LookbackView(found, tuple(await rows.items(connection, lookback_id)))


async def decide(
    connection: Connection,
    actor: Actor,
    lookback_id: UUID,
    decision: Decision,
    reason: str,
    result_ids: Collection[UUID] = (),
    version: int | None = None,
) -> LookbackView:
    """Decide about results of a list; about none by name: about all that wait. The list closes when nothing waits and a
    control has been acceptable since. `version`: of the list that the person looked at, so that nothing stands that
    nobody saw: a list grows when what vouched counts no more, and what was decided about waits again.

    It is a decision about patients' results: it needs `result:release`. Raises ApiError; then nothing was decided.
    """
    require(actor, Permission.RESULT_RELEASE)
    reason = reason_of(reason)
    found = await view(connection, lookback_id)
    wanted = set(result_ids) or {item.result_id for item in found.items if item.state == WAITING}
    if unknown := wanted - {item.result_id for item in found.items}:
        raise ApiError(404, "not-found", f"the list has no result {min(unknown)}")
    if not wanted:
        raise ApiError(409, "conflict", "no result of the list waits")
    roots = {item.of_result_id for item in found.items if item.result_id in wanted and item.of_result_id is not None}
    await lab_changes.lock_results(connection, sorted(wanted | roots))
    now = await rows.lock(connection, lookback_id)
    if version not in (None, now):
        raise ApiError(409, "conflict", f"the list has changed: version {version} was looked at, it is now {now}")
    items = await rows.items(connection, lookback_id, wanted)
    _check(items, decision)
    if decision is Decision.REPEAT:
        # What was calculated is calculated anew when what it was made of is measured again.
        for of, item in {item.of_result_id or item.result_id: item for item in items}.items():
            try:
                await follow_ups.request(connection, actor, of, FollowUpKind.RERUN, reason=reason)
            except follow_ups.FollowUpError as error:
                raise ApiError(409, "conflict", f"{item.barcode}: {error}") from None
    closed = await rows.decide(connection, actor, lookback_id, wanted, decision.value, reason)
    detail = {"decision": decision.value, "results": str(len(wanted)), "closed": str(closed).lower()}
    await audit.record(connection, actor, "qc_lookback", "qc_lookback", lookback_id, detail)
    for item in items:
        told = {"decision": decision.value, "lookback": str(lookback_id)}
        await audit.record(connection, actor, "qc_lookback", "result", item.result_id, told)
    # What is calculated of them, and waited for this, is nobody's word about it.
    await consequences.follow(connection, by_controls(actor.organization_id), wanted)
    return await view(connection, lookback_id)


def _check(items: Sequence[Item], decision: Decision) -> None:
    if decided := [item for item in items if item.state != WAITING]:
        raise ApiError(409, "conflict", f"{decided[0].barcode} was decided about: {decided[0].state}")
    if decision is Decision.CORRECTED and (left := [item for item in items if not item.changed]):
        raise ApiError(409, "conflict", f"{left[0].barcode} was neither corrected nor retracted since")

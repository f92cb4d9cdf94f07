"""What is asked for because of a result: to measure it again, diluted perhaps. People and rules ask by this one way.

The result waits for its rerun, held; a result that is released stays as it is. Its order item is in progress again, and
whichever run comes next for it is one more run of the item: all are kept, one is reported (`domain.runs`).
"""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from interface.domain.model import RELEASED, FollowUpKind, FollowUpState, HoldReason, ItemStatus, ResultStatus, Step
from interface.domain.permissions import Permission
from interface.domain.views import Actor, ActorKind
from interface.errors import IllegalStep, LaboraError
from interface.flow.actors import may
from interface.store import audit, dispatch_ends, follow_ups, lab_changes
from interface.store.db import Connection
from interface.store.follow_ups import FollowUp
from interface.store.lab_changes import ResultRow
from interface.store.review import released_runs

PERSON = "person"  # what follow-ups that nobody's rule asked for are named for, with a number behind it
_OPEN = frozenset({FollowUpState.REQUESTED, FollowUpState.SENT})
_RUNS = frozenset({FollowUpKind.RERUN, FollowUpKind.DILUTION})
_GONE = frozenset({ResultStatus.CANCELLED, ResultStatus.ENTERED_IN_ERROR})


class FollowUpError(LaboraError):
    """What may not be asked for, in one sentence. `found`: there is such a result."""

    slug = "follow_up"

    def __init__(self, text: str, *, found: bool = True) -> None:
        self.found = found
        super().__init__(text)


async def request(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    kind: FollowUpKind,
    *,
    rule: str = "",
    dilution: Decimal | None = None,
    reason: str = "",
) -> FollowUp:
    """Ask, in the caller's transaction, for another run of a result's test on its specimen.

    `rule`: the rule that asks; "" is a person, who needs `result:release` and may ask as often as they like. The same
    again, while it is open, is the one that was asked for. Raises FollowUpError; a reflex is a rule's alone.
    """
    _check(actor, kind, rule, dilution)
    row = await lab_changes.lock_result(connection, result_id)
    if row is None:
        raise FollowUpError("there is no such result", found=False)
    if row.order_item_id is None:
        raise FollowUpError("the result answers no order item; there is nothing to measure again")
    if row.status in _GONE:
        raise FollowUpError(f"the result is {row.status}")
    before = await follow_ups.of_result(connection, result_id)
    same = (one for one in before if one.state in _OPEN and (one.kind, one.dilution) == (kind, dilution))
    again = next((one for one in same if one.rule == rule or not rule), None)
    if again is not None:
        return again
    if any(one.rule == rule for one in before):
        raise FollowUpError(f"the rule {rule} has asked for it before")
    rule = rule or f"{PERSON} {1 + sum(one.rule.startswith(PERSON) for one in before)}"
    led_here = await follow_ups.of_items(connection, [row.order_item_id])
    depth = 1 + max((one.depth for one in led_here), default=0)
    made = await follow_ups.add(
        connection, actor, result_id, kind, rule, depth, row.order_item_id, dilution, reason
    )  # fmt: skip
    try:
        await lab_changes.step_item(connection, row, ItemStatus.IN_PROGRESS, f"{kind} asked for by {actor.name}")
    except IllegalStep as error:  # it was cancelled, or its specimen rejected
        raise FollowUpError(f"nothing can be measured again: {error}") from None
    if row.status not in RELEASED:
        await _hold(connection, actor, row, made)
    detail = {"kind": kind.value, "rule": rule, "reason": reason, "dilution": _plain(dilution)}
    await audit.record(connection, actor, "follow_up", "result", result_id, {k: v for k, v in detail.items() if v})
    return made


async def end(connection: Connection, actor: Actor, row: ResultRow) -> None:
    """A person has decided about a result (locked) that waited for its rerun: nobody awaits that any more. What an
    analyzer measures all the same nobody has asked for."""
    asked = [
        one.id for one in await follow_ups.of_result(connection, row.id) if one.state in _OPEN and one.kind in _RUNS
    ]
    if row.order_item_id is None or not asked:
        return
    text = f"{actor.name} has decided about the result that was to be measured again"
    await dispatch_ends.withdraw_runs(connection, actor, row.order_item_id, asked, text)
    for follow_up_id in asked:
        await follow_ups.set_state(connection, follow_up_id, FollowUpState.CANCELLED)
    awaited = any(one.state in _OPEN for one in await follow_ups.of_items(connection, [row.order_item_id]))
    if not awaited and await released_runs(connection, row.order_item_id, row.id):  # as it was before it was asked for
        await lab_changes.step_item(connection, row, ItemStatus.VERIFIED)


def _check(actor: Actor, kind: FollowUpKind, rule: str, dilution: Decimal | None) -> None:
    if not rule and not may(actor, Permission.RESULT_RELEASE):
        raise FollowUpError(f"only a user with the permission {Permission.RESULT_RELEASE} may ask for a rerun")
    if rule and actor.kind is ActorKind.USER:
        raise FollowUpError("a rule asks as the rule set it is of")
    if kind is FollowUpKind.REFLEX:
        raise FollowUpError("another test is ordered by a rule, or by an order")
    if (kind is FollowUpKind.DILUTION) != (dilution is not None):
        raise FollowUpError("a dilution has a factor, and nothing else has")
    if dilution is not None and not (dilution.is_finite() and dilution > 1):
        raise FollowUpError("the factor of a dilution is a number above 1")


async def _hold(connection: Connection, actor: Actor, row: ResultRow, asked: FollowUp) -> None:
    """The result in a version of its own that waits for its rerun."""
    held = tuple(dict.fromkeys((*sorted(row.held), HoldReason.RERUN)))
    words = f"{asked.kind} asked for by {actor.name}" + (f", 1:{_plain(asked.dilution)}" if asked.dilution else "")
    inputs = {"rule": asked.rule, "from_version": str(row.candidate_version)}
    if asked.reason:
        inputs["reason"] = asked.reason
    step = Step(asked.kind.value, "hold", words, inputs=inputs)
    version_id, version = await lab_changes.copy_version(
        connection, actor, row, ResultStatus.REGISTERED, "", step, held
    )
    await lab_changes.point_to(connection, row, version_id, version, ResultStatus.REGISTERED, False, held)


def _plain(factor: Decimal | None) -> str:
    return "" if factor is None else f"{factor.normalize():f}"

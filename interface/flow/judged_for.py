"""Whether a result is judged otherwise now than it was, because something else is known of its patient, specimen or
order: a sex that was put right, a time of collection that was added, a pregnancy.

Nothing is judged anew by such a change. Whoever would release the result is told, so that nobody gives out the limits
and flags of somebody else; replaying its message, or entering the value once more, judges it for whom it is of.
"""

from __future__ import annotations

from interface.domain.decide import DecisionContext, decide_value
from interface.domain.flags import ABNORMAL, CRITICAL, HIGH, LOW, NORMAL
from interface.domain.model import Step
from interface.store import judged_for as rows
from interface.store import surroundings
from interface.store.db import Connection
from interface.store.lab_changes import ResultRow

_OF_LIMITS = CRITICAL | {NORMAL, LOW, HIGH, ABNORMAL}
_ONLY_TO_COMPARE = Step("enter", "ok", "to compare")


async def against(connection: Connection, row: ResultRow) -> str:
    """What speaks against releasing the version that a person would release, in a sentence; "" when nothing does. The
    caller has the result's locks."""
    if row.specimen_id is None or row.test_id is None:
        return ""
    judged = await rows.changed_since(connection, row.id, row.candidate_id)
    if judged is None:
        return ""
    catalogue = await rows.catalogue_of(connection, row.organization_id, row.test_id)
    test = catalogue.tests.get(str(row.test_id))
    locked = await surroundings.lock(connection, (), [row.specimen_id])
    specimen = locked.by_id.get(str(row.specimen_id))
    if test is None or specimen is None or judged.unit != test.unit:
        return ""
    context = DecisionContext(catalogue, received_at=judged.received_at, analyzer=judged.analyzer)
    now = decide_value(test, judged.value, judged.unit, specimen, None, context, _ONLY_TO_COMPARE, judged.method)
    limits, flags = (now.low, now.high, now.reference), _OF_LIMITS.intersection(now.flags)
    if limits == (judged.low, judged.high, judged.reference) and flags == _OF_LIMITS.intersection(judged.flags):
        return ""
    was, becomes = _words(judged.reference, judged.flags & _OF_LIMITS), _words(now.reference, flags)
    return (
        f"its patient, specimen or order was changed since it was judged: {was} then, {becomes} now;"
        " replay its message, or correct it to the same value"
    )


def _words(reference: str, flags: frozenset[str]) -> str:
    return " ".join((*sorted(flags), f"({reference or 'no interval'})"))

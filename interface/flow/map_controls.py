"""Controls under a map that was changed: what they showed of a test that their code does not stand for vouches for it
no more.

They are excluded, as a person would exclude them: they stay on the chart, what failed holds all the same, and what was
released while nothing else vouched is looked at. What they show of the right test nobody knows: its control is
measured, or entered. Where the change is undone, they count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

from interface.domain.mapping import MapKey
from interface.domain.qc import Stream
from interface.domain.views import Actor
from interface.flow import qc_gate
from interface.store import audit
from interface.store import qc as rows
from interface.store.db import Connection
from interface.store.qc_gate import add_action, lock_judging

_Find = Callable[[], Awaitable[list[tuple[UUID, Stream]]]]


async def exclude(connection: Connection, actor: Actor, keys: Collection[MapKey], reason: str) -> int:
    """Exclude those of these codes that were acceptable for a test that no row in force names; how many. The caller has
    written the change; what follows for patients' results follows after its commit."""
    codes = {(key.driver, key.code) for key in keys}
    text = f"its code stands for this test no more: {reason}"
    return await _said(connection, actor, lambda: rows.mapped_otherwise(connection, codes), "exclude", text)


async def restore(connection: Connection, actor: Actor, change_id: UUID, reason: str) -> int:
    """Let those count again that a change which is undone had excluded; how many. As for `exclude`."""
    text = f"its code stands for this test again: {reason}"
    return await _said(connection, actor, lambda: rows.excluded_with(connection, change_id), "restore", text)


async def _said(connection: Connection, actor: Actor, find: _Find, verb: str, text: str) -> int:
    analyzers = {stream.analyzer_id for _, stream in await find()}
    for analyzer_id in sorted(analyzers):
        await lock_judging(connection, actor.organization_id, analyzer_id)
    found: dict[Stream, list[UUID]] = defaultdict(list)
    for id, stream in await find() if analyzers else ():
        if stream.analyzer_id in analyzers:
            found[stream].append(id)
    for stream, ids in sorted(found.items(), key=lambda one: (one[0].analyzer_id, one[0].test_id, one[0].module)):
        for id in ids:
            await rows.set_excluded(connection, actor, id, text if verb == "exclude" else None)
            await add_action(connection, actor, stream, verb, text, qc_result_id=id)
            await audit.record(connection, actor, verb, "qc_result", id, {"reason": text})
        # From the oldest on: what failed since may have been good for less long.
        why = "the map of its controls' code was changed"
        await qc_gate.refresh(connection, actor, stream, why, ids[0])
        if verb == "exclude":
            await qc_gate.look_at_unvouched(connection, actor, stream, ids, why)
        else:
            await qc_gate.look_no_more(connection, actor, stream, ids[0], why)
    return sum(map(len, found.values()))

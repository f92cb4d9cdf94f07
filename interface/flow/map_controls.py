"""Controls under a map that was changed: what they showed of a test that their code does not stand for vouches for it
no more.

They are excluded, as a person would exclude them: they stay on the chart, and what failed holds all the same. What
they show of the right test nobody knows: its control is measured, or entered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from interface.domain.mapping import MapKey
from interface.domain.qc import Stream
from interface.domain.views import Actor
from interface.flow import qc_gate
from interface.store import audit
from interface.store import qc as rows
from interface.store.db import Connection
from interface.store.qc_gate import add_action, lock_judging


async def exclude(connection: Connection, actor: Actor, keys: Collection[MapKey], reason: str) -> int:
    """Exclude those of these codes that were acceptable for a test that no row in force names; how many. The caller has
    written the change; what follows for patients' results follows after its commit."""
    codes = {(key.driver, key.code) for key in keys}
    analyzers = {stream.analyzer_id for _, stream in await rows.mapped_otherwise(connection, codes)}
    for analyzer_id in sorted(analyzers):
        await lock_judging(connection, actor.organization_id, analyzer_id)
    found: dict[Stream, list[UUID]] = defaultdict(list)
    for id, stream in await rows.mapped_otherwise(connection, codes) if analyzers else ():
        if stream.analyzer_id in analyzers:
            found[stream].append(id)
    text = f"its code stands for this test no more: {reason}"
    for stream, ids in sorted(found.items(), key=lambda one: (one[0].analyzer_id, one[0].test_id, one[0].module)):
        for id in ids:
            await rows.set_excluded(connection, actor, id, text)
            await add_action(connection, actor, stream, "exclude", text, qc_result_id=id)
            await audit.record(connection, actor, "exclude", "qc_result", id, {"reason": text})
        # From the oldest on: what failed since may have been good for less long.
        await qc_gate.refresh(connection, actor, stream, "the map of its controls' code was changed", ids[0])
    return sum(map(len, found.values()))

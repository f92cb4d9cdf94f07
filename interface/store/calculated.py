"""Of which specimens something is calculated, and what a calculated result stands on, as rows."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from interface.store.db import Connection

# What waits for a result may be calculated as soon as more is known: it is looked at only where there is one to make it
# of. The open items of a person are few.
_OF_PERSONS = """
SELECT r.specimen_id FROM lab.result r
WHERE r.patient_id = ANY($1) AND r.origin = 'calculation' AND r.specimen_id IS NOT NULL
  AND r.status NOT IN ('cancelled', 'entered-in-error')
UNION
SELECT i.specimen_id FROM lab.lab_order o JOIN lab.order_item i ON i.order_id = o.id
WHERE o.patient_id = ANY($1) AND o.waiting AND i.status IN ('requested', 'collected', 'received', 'in_progress')
  AND EXISTS (SELECT FROM lab.result r WHERE r.specimen_id = i.specimen_id)
"""


async def specimens_of(connection: Connection, patient_ids: Iterable[UUID]) -> set[UUID]:
    """The specimens of these records on which something is calculated, or may be."""
    return {row["specimen_id"] for row in await connection.fetch(_OF_PERSONS, list(patient_ids))}


async def is_measured(connection: Connection, specimen_id: UUID) -> bool:
    """Whether the specimen has results."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM lab.result WHERE specimen_id = $1)", specimen_id))

"""Of which specimens something is calculated, and what a calculated result stands on, as rows."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from interface.store.db import Connection

# What waits for a result may be calculated as soon as more is known: it is looked at only where there is one to make it
# of, on an aliquot perhaps, which is of the same order. The open items of a person are few.
_OF_PERSONS = """
SELECT r.specimen_id FROM lab.result r
WHERE r.patient_id = ANY($1) AND r.origin = 'calculation' AND r.specimen_id IS NOT NULL
  AND r.status NOT IN ('cancelled', 'entered-in-error')
UNION
SELECT i.specimen_id FROM lab.lab_order o JOIN lab.order_item i ON i.order_id = o.id
WHERE o.patient_id = ANY($1) AND o.waiting AND i.status IN ('requested', 'collected', 'received', 'in_progress')
  AND (EXISTS (SELECT FROM lab.result r WHERE r.specimen_id = i.specimen_id)
       OR EXISTS (SELECT FROM lab.result r WHERE r.order_id = o.id))
"""


async def specimens_of(connection: Connection, patient_ids: Iterable[UUID]) -> set[UUID]:
    """The specimens of these records on which something is calculated, or may be."""
    return {row["specimen_id"] for row in await connection.fetch(_OF_PERSONS, list(patient_ids))}


_ORDERED = """
SELECT DISTINCT i.specimen_id FROM lab.lab_order o JOIN lab.order_item i ON i.order_id = o.id
JOIN lab.test t ON t.id = i.test_id
WHERE o.waiting AND t.code = ANY($1) AND i.status IN ('requested', 'collected', 'received', 'in_progress')
  AND i.specimen_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM lab.result r WHERE r.order_id = o.id AND r.order_item_id = i.id)
  AND (EXISTS (SELECT FROM lab.result r WHERE r.specimen_id = i.specimen_id)
       OR EXISTS (SELECT FROM lab.result r WHERE r.order_id = o.id))
ORDER BY i.specimen_id
"""


async def waiting_for(connection: Connection, tests: Iterable[str]) -> list[UUID]:
    """The specimens that were measured and wait for a first result of one of these tests."""
    return [row["specimen_id"] for row in await connection.fetch(_ORDERED, list(tests))]


_MEASURED = """
WITH RECURSIVE up (id, parent_id) AS (
    SELECT id, parent_id FROM lab.specimen WHERE id = $1
    UNION ALL SELECT s.id, s.parent_id FROM up JOIN lab.specimen s ON s.id = up.parent_id
), family (id) AS (
    SELECT id FROM up UNION SELECT s.id FROM family f JOIN lab.specimen s ON s.parent_id = f.id
)
SELECT EXISTS (SELECT FROM family f JOIN lab.result r ON r.specimen_id = f.id)
"""


async def is_measured(connection: Connection, specimen_id: UUID) -> bool:
    """Whether the specimen has results, or what it was parted from or into."""
    return bool(await connection.fetchval(_MEASURED, specimen_id))

"""Results that were compared with another person's, because the two were one while their records were merged.

Which result another was compared with stands in its explanation: `previous`, or `later`, of the step `delta`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from asyncpg import Record

from interface.domain.delta import CHECK
from interface.domain.model import ResultStatus
from interface.domain.views import LookAgain
from interface.store.db import Connection
from interface.store.explanations import read_steps

_JUDGED = """
SELECT r.id, r.patient_id, r.version, r.status, coalesce(s.barcode, '') AS barcode, v.test_code,
       v.comparator || v.value AS value, v.unit, d.steps
FROM lab.result r
CROSS JOIN LATERAL (SELECT * FROM lab.result_version w WHERE w.id = r.version_id OFFSET 0) v
CROSS JOIN LATERAL (
    SELECT lab.explained(y.steps) AS steps FROM lab.decision y WHERE y.result_version_id = v.id OFFSET 0) d
LEFT JOIN lab.specimen s ON s.id = r.specimen_id
WHERE r.patient_id = ANY($1) AND r.status NOT IN ('cancelled', 'entered-in-error')
ORDER BY r.id
"""
_OTHERS = """
SELECT v.id, v.result_id, r.patient_id, v.comparator || v.value AS value, v.unit
FROM lab.result_version v JOIN lab.result r ON r.id = v.result_id WHERE v.id = ANY($1)
"""


async def compared_with_others(connection: Connection, persons: Mapping[UUID, UUID]) -> tuple[LookAgain, ...]:
    """The results of these records that were compared with a result of another of the persons, whenever that was: the
    time of the merge is of a clock that may have been ahead. `persons`: of each record whose it is now."""
    judged = await connection.fetch(_JUDGED, list(persons))
    compared = {row["id"]: _compared(row) for row in judged}
    asked = list({version for versions in compared.values() for version in versions})
    others = {row["id"]: row for row in await connection.fetch(_OTHERS, asked)} if asked else {}
    return tuple(
        _line(row, other)
        for row in judged
        for version in compared[row["id"]]
        if (other := others.get(version)) is not None
        and persons.get(other["patient_id"], other["patient_id"]) != persons[row["patient_id"]]
    )


def _compared(row: Record) -> list[UUID]:
    """The versions that a result was compared with."""
    steps = (step.inputs for step in read_steps(row["steps"]) if step.step == CHECK)
    return list(dict.fromkeys(_ids(inputs.get(name, "") for inputs in steps for name in ("previous", "later"))))


def _ids(texts: Iterable[str]) -> Iterable[UUID]:
    return (UUID(text) for text in texts if text)


def _line(row: Record, other: Record) -> LookAgain:
    return LookAgain(
        row["id"], row["version"], ResultStatus(row["status"]), row["patient_id"], row["barcode"], row["test_code"],
        f"{row['value']} {row['unit']}".strip(), other["result_id"], other["patient_id"],
        f"{other['value']} {other['unit']}".strip(),
    )  # fmt: skip

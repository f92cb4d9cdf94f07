"""Results that were compared with what is not so: with another person's, because the two were one while their records
were merged, or with what was corrected or retracted since.

Which result another was compared with stands in its explanation: `previous`, or `later`, of the step `delta`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from asyncpg import Record

from interface.domain.delta import CHECK
from interface.domain.model import RELEASED, ResultStatus
from interface.domain.views import LookAgain, OrderedMeanwhile
from interface.store.db import Connection
from interface.store.explanations import read_steps
from interface.store.people import persons
from interface.store.versions import versions_of

_JUDGED = """
SELECT r.id, r.patient_id, r.version, r.status, coalesce(s.barcode, '') AS barcode, v.test_code,
       v.comparator || v.value AS value, v.unit, d.steps
FROM lab.result r
CROSS JOIN LATERAL (SELECT * FROM lab.result_version w WHERE w.id = r.version_id OFFSET 0) v
CROSS JOIN LATERAL (
    SELECT lab.explained(y.steps) AS steps FROM lab.decision y WHERE y.result_version_id = v.id OFFSET 0) d
LEFT JOIN lab.specimen s ON s.id = r.specimen_id
WHERE r.patient_id = ANY($1) AND {} ORDER BY r.id
"""
_OF_ANY = _JUDGED.format("r.status NOT IN ('cancelled', 'entered-in-error')")
_OF_TEST = _JUDGED.format("r.test_id = $2 AND r.id <> $3 AND r.status = ANY($4)")
# Of a result, and of the runs in whose place it is reported.
_WAS = f"""
SELECT v.id, v.result_id, r.patient_id, v.comparator || v.value AS value, v.unit
FROM lab.result r CROSS JOIN LATERAL {versions_of("= r.id")} v
CROSS JOIN LATERAL (SELECT * FROM lab.result_version w WHERE w.id = r.version_id OFFSET 0) now
WHERE r.id = ANY(ARRAY(
    SELECT $1::uuid UNION
    SELECT b.id FROM lab.result a JOIN lab.result b ON b.order_id = a.order_id AND b.order_item_id = a.order_item_id
     WHERE a.id = $1 AND b.status = 'entered-in-error')) AND (r.status = 'entered-in-error'
    OR (v.comparator, v.value, v.unit) IS DISTINCT FROM (now.comparator, now.value, now.unit))
"""  # noqa: S608 - words of ours
# A merge that was turned round (`flow.people.turn_round`) took another one back in its own transaction: what was
# ordered since that one is of the record that was in use then, which is the prior's now.
_SINCE = """
WITH RECURSIVE m AS (
    SELECT e.survivor_id, e.created_at FROM lab.patient_merge e WHERE e.id = $1
     UNION
    SELECT e.survivor_id, e.created_at FROM m
      JOIN lab.patient_merge u ON u.prior_id = m.survivor_id AND u.created_at = m.created_at
      JOIN lab.patient_merge e ON e.id = u.undoes_id
)
SELECT o.id, o.number, o.placer_number, o.patient_id, o.ordered_at
FROM lab.lab_order o CROSS JOIN (SELECT min(created_at) AS first, count(*) AS times FROM m) m
WHERE (o.patient_id = ANY($2) OR m.times > 1 AND o.patient_id = ANY($3)) AND (m.first > now()
    OR ('x' || substr(replace(o.id::text, '-', ''), 1, 12))::bit(48)::bigint
        >= floor(extract(epoch FROM m.first) * 1000)) ORDER BY o.id
"""
_OTHERS = """
SELECT v.id, v.result_id, r.patient_id, v.comparator || v.value AS value, v.unit
FROM lab.result_version v JOIN lab.result r ON r.id = v.result_id WHERE v.id = ANY($1)
"""


async def ordered_since(
    connection: Connection, merge_id: UUID, survivors: Iterable[UUID], priors: Iterable[UUID]
) -> tuple[OrderedMeanwhile, ...]:
    """The orders of the survivor's records that were made since a merge, by the time in their ids, and where that was
    turned round since the first, of the prior's too; all, where the merge is of a time that is to come, by a clock that
    was put back since."""
    rows = await connection.fetch(_SINCE, merge_id, list(survivors), list(priors))
    return tuple(OrderedMeanwhile(*row) for row in rows)


async def compared_with_others(connection: Connection, whose: Mapping[UUID, UUID]) -> tuple[LookAgain, ...]:
    """The results of these records that were compared with a result of another of the persons, whenever that was: the
    time of the merge is of a clock that may have been ahead. `whose`: of each record whose it is now."""
    judged = await connection.fetch(_OF_ANY, list(whose))
    compared = {row["id"]: _compared(row) for row in judged}
    asked = list({version for versions in compared.values() for version in versions})
    others = {row["id"]: row for row in await connection.fetch(_OTHERS, asked)} if asked else {}
    return tuple(
        _line(row, other)
        for row in judged
        for version in compared[row["id"]]
        if (other := others.get(version)) is not None
        and whose.get(other["patient_id"], other["patient_id"]) != whose[row["patient_id"]]
    )


async def compared_with(connection: Connection, result_id: UUID) -> tuple[LookAgain, ...]:
    """The released results of the same person that were compared with what this result said, and says no more, or with
    a run of the test that was retracted, such as by releasing this one."""
    was = {row["id"]: row for row in await connection.fetch(_WAS, result_id)}
    if not was:
        return ()
    of = await connection.fetchrow("SELECT patient_id, test_id FROM lab.result WHERE id = $1", result_id)
    if of is None or of["patient_id"] is None:
        return ()
    records = (await persons(connection, [of["patient_id"]])).get(of["patient_id"], ())
    judged = await connection.fetch(_OF_TEST, list(records), of["test_id"], result_id, sorted(RELEASED))
    return tuple(_line(row, was[version]) for row in judged for version in _compared(row) if version in was)


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

"""What is read to see whether a result would be judged otherwise now. In the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from interface.domain.catalogue import Catalogue
from interface.domain.model import HoldReason, Step, Value
from interface.store import catalogue as rows
from interface.store.db import Connection
from interface.store.explanations import read_steps
from interface.store.qc_gate import MEASURED_ON
from interface.store.surroundings import value_of
from interface.store.versions import versions_of


@dataclass(frozen=True, slots=True)
class JudgedVersion:
    """A version as it was judged, by which analyzer's limits, and when its message came."""

    value: Value
    unit: str
    low: Decimal | None
    high: Decimal | None
    reference: str
    flags: frozenset[str]
    analyzer: str
    method: str
    received_at: datetime
    changed: bool  # its patient, specimen or order may be another since
    limits: bool  # an interval of its test is, or was about to be as it was judged
    steps: tuple[Step, ...]  # of a calculated result


def _until(row: str) -> str:
    return f"{row}.updated_at + CASE WHEN {row}.version > 1 THEN interval '1 minute' ELSE '0' END"


# A patient's record changes with its merges too. An order does with all that becomes of it: of what it says of the
# patient intervals ask for a pregnancy. When an interval began or ended by a person's word, the audit knows.
# A change has the time at which its transaction began, which may have waited for who judged the result meanwhile: it is
# looked at for a minute. It is asked since the first version that says the same: who comments on a result, or holds it,
# makes one that is judged as the one before it, and so do its controls.
_CHANGED = f"""
SELECT v.kind, v.comparator, v.value, v.unit, v.low, v.high, v.reference, v.flags, v.method,
       coalesce(a.name, '') AS analyzer, coalesce(m.received_at, r.created_at) AS received_at, c.changed, c.limits,
       CASE WHEN r.origin = 'calculation' THEN (
           SELECT lab.explained(d.steps) FROM lab.decision d WHERE d.result_version_id = v.id) END AS explained
FROM lab.result r
JOIN lab.result_version v ON v.id = $2
JOIN lab.specimen s ON s.id = r.specimen_id
LEFT JOIN lab.lab_order o ON o.id = s.order_id
LEFT JOIN lab.patient p ON p.id = r.patient_id
LEFT JOIN lab.patient w ON w.id = p.merged_into_id
LEFT JOIN lab.analyzer a ON a.id = {MEASURED_ON}
LEFT JOIN lab.message m ON m.id = v.message_id
CROSS JOIN LATERAL (
    SELECT min(w.created_at) AS at FROM {versions_of("= r.id")} w
    WHERE (w.comparator, w.value, w.unit, w.low, w.high, w.reference, w.flags)
          IS NOT DISTINCT FROM (v.comparator, v.value, v.unit, v.low, v.high, v.reference, v.flags)) j
CROSS JOIN LATERAL (SELECT
    j.at <= greatest({_until("s")}, {_until("p")}, {_until("w")})
    OR (j.at <= {_until("o")} AND EXISTS (
        SELECT FROM lab.reference_interval i WHERE i.test_id = r.test_id AND i.pregnant IS NOT NULL)) AS changed,
    EXISTS (SELECT FROM lab.reference_interval i JOIN lab.audit_event e
            ON e.organization_id = i.organization_id AND e.entity_id IN (i.id, i.test_id)
               AND e.at > j.at - interval '1 minute' WHERE i.test_id = r.test_id) AS limits) c
WHERE r.id = $1 AND (c.changed OR c.limits OR r.origin = 'calculation')
  AND NOT EXISTS (SELECT FROM lab.order_item c WHERE c.id = r.order_item_id AND c.status = 'cancelled')
"""  # noqa: S608 - a constant


async def changed_since(connection: Connection, result_id: UUID, version_id: UUID) -> JudgedVersion | None:
    """The version, where its specimen, order or patient may be another since it was judged, or its limits, or where it
    is calculated."""
    row = await connection.fetchrow(_CHANGED, result_id, version_id)
    if row is None:
        return None
    return JudgedVersion(
        value_of(row), row["unit"], row["low"], row["high"], row["reference"], frozenset(row["flags"]),
        row["analyzer"], row["method"], row["received_at"], row["changed"],
        row["limits"], read_steps(row["explained"] or "[]"),
    )  # fmt: skip


async def other_test(connection: Connection, result_id: UUID, version_id: UUID) -> str:
    """The code of the version's test where the result is of another; "" where it is of the same, or of none."""
    other: str | None = await connection.fetchval(
        """SELECT v.test_code FROM lab.result r JOIN lab.result_version v ON v.id = $2
             JOIN lab.test t ON t.id = r.test_id WHERE r.id = $1 AND v.test_code <> t.code""",
        result_id,
        version_id,
    )
    return other or ""


async def held_before(connection: Connection, result_ids: Collection[UUID]) -> dict[UUID, frozenset[HoldReason]]:
    """Of each result the reasons for which it was held last: what a person says of one takes none away, or all, while
    one that a person has decided anew is held for reasons of its own."""
    rows = await connection.fetch(
        f"""SELECT k.id, v.held FROM unnest($1::uuid[]) AS k (id) CROSS JOIN LATERAL (
               SELECT w.held FROM {versions_of("= k.id")} w
                WHERE w.held <> '{{}}' OR w.actor_kind NOT IN ('user', 'client')
                ORDER BY w.version DESC LIMIT 1) v""",  # noqa: S608 - words of ours
        list(result_ids),
    )
    return {row["id"]: frozenset(map(HoldReason, row["held"])) for row in rows}


async def measured_by(connection: Connection, result_id: UUID, version_id: UUID) -> tuple[str, str]:
    """The name of the analyzer on which the result was measured, "" for none, and the version's method."""
    row = await connection.fetchrow(
        f"""SELECT coalesce(a.name, '') AS analyzer, v.method FROM lab.result r
              JOIN lab.result_version v ON v.id = $2 LEFT JOIN lab.analyzer a ON a.id = {MEASURED_ON}
             WHERE r.id = $1""",  # noqa: S608 - a constant
        result_id,
        version_id,
    )
    return (row["analyzer"], row["method"]) if row else ("", "")


async def analyzers_of(connection: Connection, result_ids: Collection[UUID]) -> dict[UUID, tuple[str, str]]:
    """Of each result the name and the driver of the analyzer it was measured on, by hand or not; others are left
    out. What was typed was read by no driver."""
    rows = await connection.fetch(
        f"""SELECT r.id, a.name, CASE WHEN r.analyzer_id IS NULL THEN '' ELSE a.driver END AS driver
            FROM lab.result r JOIN lab.analyzer a ON a.id = {MEASURED_ON} WHERE r.id = ANY($1)""",  # noqa: S608 - a constant
        list(result_ids),
    )
    return {row["id"]: (row["name"], row["driver"]) for row in rows}


async def catalogue_of(connection: Connection, organization_id: UUID, test_id: UUID) -> Catalogue:
    """As much of the catalogue as judging values of one test takes, whether it is in use or not."""
    tests = {one.id: one for one in await rows.read_tests(connection, organization_id)}
    retired = {one.id: one for one in await rows.read_tests(connection, organization_id, active=False)}
    found = [rows.lab_interval(row) for row in await rows.read_intervals(connection, organization_id, test_id)]
    zone = ZoneInfo(await rows.read_zone(connection, organization_id))
    return Catalogue(tests, {str(test_id): tuple(found)}, aliases=rows.shipped_aliases(), zone=zone, retired=retired)

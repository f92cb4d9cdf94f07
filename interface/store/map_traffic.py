"""What the analyzers send, as the maps need it: codes that wait for a mapping, codes and units that were seen.

Always read from the results themselves, never counted beside them, so that it cannot go stale. Every function works in
the caller's connection, which must act for the organization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.store.db import Connection
from interface.store.ids import uuid7_floor

EXAMPLES = 5

# A result that waits is held for its current version, or for the change that stands beside a released one.
_HELD = """
SELECT r.id AS result_id, r.specimen_id, v.id AS version_id, v.code, v.raw_value, v.raw_unit, v.kind, v.message_id,
       CASE WHEN v.test_code = '' THEN v.test_name ELSE '' END AS name
  FROM lab.result r
  JOIN lab.result_version v ON v.id = CASE WHEN 'unmapped_code' = ANY(r.held) THEN r.version_id
                                           ELSE r.pending_version_id END
 WHERE ('unmapped_code' = ANY(r.held) OR r.pending_version_id IS NOT NULL) AND 'unmapped_code' = ANY(v.held)
"""

_UNMAPPED = f"""
WITH held AS ({_HELD})
SELECT l.name AS link, l.driver, h.code, coalesce(s.specimen_type, '') AS specimen_type, count(*) AS results,
       min(m.received_at) AS first_seen, max(m.received_at) AS last_seen,
       (array_agg(DISTINCT h.raw_value) FILTER (WHERE h.raw_value <> ''))[1:{EXAMPLES}] AS examples,
       array_agg(DISTINCT h.raw_unit) AS units, array_agg(DISTINCT h.kind) AS kinds,
       array_agg(DISTINCT h.name) FILTER (WHERE h.name <> '') AS names,
       count(DISTINCT h.specimen_id) AS specimens
  FROM held h
  JOIN lab.message m ON m.id = h.message_id
  JOIN lab.link l ON l.id = m.link_id
  LEFT JOIN LATERAL (
       SELECT step -> 'inputs' ->> 'specimen_type' AS specimen_type
         FROM lab.decision d, json_array_elements(lab.explained(d.steps)::json) AS step
        WHERE d.result_version_id = h.version_id AND step ->> 'step' = 'map' LIMIT 1) s ON true
 GROUP BY 1, 2, 3, 4
 ORDER BY results DESC, link, code, specimen_type
"""  # noqa: S608 - constants

_OPEN = f"""
WITH held AS ({_HELD})
SELECT l.name AS link, h.code, t.code AS test, count(DISTINCT h.specimen_id) AS specimens
  FROM held h
  JOIN lab.message m ON m.id = h.message_id
  JOIN lab.link l ON l.id = m.link_id
  JOIN lab.order_item i ON i.specimen_id = h.specimen_id
       AND i.status IN ('requested', 'collected', 'received', 'in_progress')
  JOIN lab.test t ON t.id = i.test_id
 GROUP BY 1, 2, 3
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class UnmappedCode:
    """Results that are held because their code has no test, of one link, code and specimen type.

    `controls`: results on controls that were kept without a test, and are no points yet.
    """

    link: str
    driver: str
    code: str
    specimen_type: str
    results: int
    first_seen: datetime
    last_seen: datetime
    examples: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    specimens: int = 0
    controls: int = 0


async def unmapped_codes(connection: Connection) -> list[UnmappedCode]:
    """Every code that waits for a mapping, the most frequent first."""
    rows = await connection.fetch(_UNMAPPED)
    found = []
    for row in rows:
        fields = dict(row.items())
        for name in ("examples", "units", "kinds", "names"):
            fields[name] = tuple(fields[name] or ())
        found.append(UnmappedCode(**fields))
    return found


async def unmapped_controls(connection: Connection, since: datetime) -> list[UnmappedCode]:
    """Codes of controls that had no test when they came."""
    rows = await connection.fetch(
        f"""SELECT l.name AS link, l.driver, q.code, count(*) AS controls, min(q.created_at) AS first_seen,
                   max(q.created_at) AS last_seen,
                   (array_agg(DISTINCT q.raw_value) FILTER (WHERE q.raw_value <> ''))[1:{EXAMPLES}] AS examples,
                   array_agg(DISTINCT q.unit) AS units
              FROM lab.qc_result q JOIN lab.message m ON m.id = q.message_id JOIN lab.link l ON l.id = m.link_id
             WHERE q.test_id IS NULL AND q.created_at >= $1
               AND NOT EXISTS (SELECT FROM lab.qc_point p WHERE p.qc_result_id = q.id)
             GROUP BY 1, 2, 3 ORDER BY 1, 3""",  # noqa: S608
        since,
    )
    return [
        UnmappedCode(
            row["link"], row["driver"], row["code"], "", 0, row["first_seen"], row["last_seen"],
            tuple(row["examples"] or ()), tuple(row["units"]), controls=row["controls"],
        )
        for row in rows
    ]  # fmt: skip


async def open_items(connection: Connection) -> dict[tuple[str, str], Mapping[str, int]]:
    """Of each link and unmapped code: on how many of its specimens a test is ordered and not answered yet."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in await connection.fetch(_OPEN):
        found.setdefault((row["link"], row["code"]), {})[row["test"]] = row["specimens"]
    return dict(found)


@dataclass(frozen=True, slots=True)
class SeenCode:
    """A code as a link has sent it since an instant, on controls too."""

    link: str
    driver: str
    code: str
    results: int
    last_seen: datetime
    units: frozenset[str]
    specimen_types: frozenset[str]


async def seen_codes(connection: Connection, since: datetime) -> list[SeenCode]:
    """What the links have sent since; whether it was mapped is another question."""
    rows = await connection.fetch(
        """
        SELECT l.name AS link, l.driver, v.code, count(*) AS results, max(m.received_at) AS last_seen,
               array_agg(DISTINCT v.raw_unit) AS units,
               array_agg(DISTINCT coalesce(s.type, '')) AS specimen_types
          FROM lab.result_version v
          JOIN lab.message m ON m.id = v.message_id
          JOIN lab.link l ON l.id = m.link_id
          JOIN lab.result r ON r.id = v.result_id
          LEFT JOIN lab.specimen s ON s.id = r.specimen_id
         WHERE v.id >= $1 GROUP BY 1, 2, 3
        UNION ALL
        SELECT l.name, l.driver, q.code, count(*), max(q.created_at), array_agg(DISTINCT q.unit), ARRAY['']
          FROM lab.qc_result q JOIN lab.message m ON m.id = q.message_id JOIN lab.link l ON l.id = m.link_id
         WHERE q.created_at >= $2 GROUP BY 1, 2, 3
        """,
        uuid7_floor(since),
        since,
    )
    found: dict[tuple[str, str], SeenCode] = {}
    for row in rows:
        one = SeenCode(
            row["link"], row["driver"], row["code"], row["results"], row["last_seen"], frozenset(row["units"]),
            frozenset(row["specimen_types"]),
        )  # fmt: skip
        there = found.get((one.link, one.code))
        found[one.link, one.code] = one if there is None else _together(there, one)
    return sorted(found.values(), key=lambda one: (one.link, one.code))


def _together(first: SeenCode, second: SeenCode) -> SeenCode:
    return SeenCode(
        first.link, first.driver, first.code, first.results + second.results, max(first.last_seen, second.last_seen),
        first.units | second.units, first.specimen_types | second.specimen_types,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message with results that are held for an unmapped code."""

    id: UUID
    link: str


async def methods_said(connection: Connection, since: datetime) -> list[tuple[str, str]]:
    """Tests, by their codes, with the methods that a map's row, or a result since, says they are measured by."""
    rows = await connection.fetch(
        """SELECT t.code, m.method FROM lab.code_map m JOIN lab.test t ON t.id = m.test_id
            WHERE m.ended_at IS NULL AND m.method <> ''
           UNION
           SELECT test_code, method FROM lab.result_version WHERE id >= $1 AND method <> '' AND test_code <> ''""",
        uuid7_floor(since),
    )
    return [(row["code"], row["method"]) for row in rows]


async def messages_waiting(connection: Connection, code: str, link: str | None) -> list[WaitingMessage]:
    """The messages whose results, or controls, wait because this code had no test, in the order they came."""
    rows = await connection.fetch(
        f"""WITH held AS ({_HELD})
            SELECT DISTINCT m.id, l.name AS link, m.received_at
              FROM held h JOIN lab.message m ON m.id = h.message_id JOIN lab.link l ON l.id = m.link_id
             WHERE h.code = $1 AND ($2::text IS NULL OR l.name = $2)
            UNION
            SELECT m.id, l.name, m.received_at
              FROM lab.qc_problem b JOIN lab.qc_result q ON q.id = b.qc_result_id
              JOIN lab.message m ON m.id = q.message_id JOIN lab.link l ON l.id = m.link_id
             WHERE b.ended_at IS NULL AND b.kind = 'unmapped_code' AND q.code = $1
               AND ($2::text IS NULL OR l.name = $2)
             ORDER BY received_at, id""",  # noqa: S608
        code,
        link,
    )
    return [WaitingMessage(row["id"], row["link"]) for row in rows]

"""Rows of the code maps and their changes. A change adds rows and ends others; what a row says is never written again.

Every function works in the caller's connection and transaction, which must act for the organization.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.mapping import MapKey, MapRow, Span, Target
from interface.domain.views import Actor
from interface.store.catalogue import SITE
from interface.store.db import Connection
from interface.store.ids import uuid7


@dataclass(frozen=True, slots=True)
class NewRow:
    key: MapKey
    span: Span
    origin: str = SITE
    revision: int | None = None  # None: the change's number


@dataclass(frozen=True, slots=True)
class MapChange:
    """Who changed maps when, and why. `undone_by`: the number of the change that undid it, 0 when none did."""

    id: UUID
    number: int
    kind: str
    reason: str
    source: str
    actor: str
    at: datetime
    undoes: int
    undone_by: int
    added: int
    ended: int


_ROWS = """
SELECT m.id, m.driver, coalesce(l.name, '') AS link, m.code, m.specimen_type, coalesce(t.code, '') AS test, m.unit,
       m.method, m.note, m.valid_from, m.valid_to, m.origin, m.revision, coalesce(c.number, 0) AS change,
       coalesce(t.name, '') AS test_name, coalesce(t.loinc, '') AS loinc, coalesce(t.unit, '') AS test_unit,
       m.ended_at, coalesce(e.number, 0) AS ended_by
  FROM lab.code_map m
  LEFT JOIN lab.link l ON l.id = m.link_id
  LEFT JOIN lab.test t ON t.id = m.test_id
  LEFT JOIN lab.map_change c ON c.id = m.change_id
  LEFT JOIN lab.map_change e ON e.id = m.ended_by
"""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a change is computed from: an instant, and the number of the last change that was seen."""

    at: datetime
    seen: int


async def basis(connection: Connection) -> Basis:
    rows = await connection.fetch("SELECT now() AS at, coalesce(max(number), 0) AS seen FROM lab.map_change")
    return Basis(rows[0]["at"], rows[0]["seen"])


async def lock(connection: Connection, organization_id: UUID) -> None:
    """Let one transaction at a time change an organization's maps."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"labora maps {organization_id}")


async def read_rows(connection: Connection, drivers: Collection[str] | None = None) -> list[MapRow]:
    """The rows that no change has ended, of all times they are valid for; of these drivers, None for all."""
    rows = await connection.fetch(
        f"{_ROWS} WHERE m.ended_at IS NULL AND ($1::text[] IS NULL OR m.driver = ANY($1))"
        " ORDER BY m.driver, link, m.code, m.specimen_type, m.origin, m.valid_from, m.id",
        None if drivers is None else list(drivers),
    )
    return [_row(row) for row in rows]


async def rows_of_change(connection: Connection, change_id: UUID) -> tuple[list[MapRow], list[MapRow]]:
    """The rows that a change added, and those that it ended."""
    rows = await connection.fetch(f"{_ROWS} WHERE m.change_id = $1 OR m.ended_by = $1 ORDER BY m.id", change_id)
    added = await connection.fetch("SELECT id FROM lab.code_map WHERE change_id = $1", change_id)
    own = {row["id"] for row in added}
    read = [_row(row) for row in rows]
    return [row for row in read if row.id in own], [row for row in read if row.id not in own]


async def rows_as_of(connection: Connection, number: int, keys: Collection[MapKey]) -> list[MapRow]:
    """The rows of the keys as they were once the change `number` was made."""
    rows = await connection.fetch(
        f"{_ROWS} WHERE coalesce(c.number, 0) <= $1 AND (e.number IS NULL OR e.number > $1)"
        " AND m.driver = ANY($2) AND m.code = ANY($3)",
        number,
        list({key.driver for key in keys}),
        list({key.code for key in keys}),
    )
    return [row for row in map(_row, rows) if row.key in keys]


async def later_changes(connection: Connection, number: int, keys: Collection[MapKey]) -> list[int]:
    """The numbers of the changes after `number` that added or ended a row of one of the keys."""
    rows = await connection.fetch(
        f"{_ROWS} WHERE (c.number > $1 OR e.number > $1) AND m.driver = ANY($2) AND m.code = ANY($3)",
        number,
        list({key.driver for key in keys}),
        list({key.code for key in keys}),
    )
    touched = [row for row in map(_row, rows) if row.key in keys]
    return sorted({n for row in touched for n in (row.change, row.ended_by) if n > number})


def _row(row: Record) -> MapRow:
    return MapRow(
        row["id"],
        MapKey(row["driver"], row["link"], row["code"], row["specimen_type"]),
        Span(Target(row["test"], row["unit"], row["note"], row["method"]), row["valid_from"], row["valid_to"]),
        row["origin"] == SITE,
        row["revision"],
        row["change"],
        row["test_name"],
        row["loinc"],
        row["test_unit"],
        row["ended_at"],
        row["ended_by"],
    )


async def write_change(
    connection: Connection,
    actor: Actor,
    kind: str,
    reason: str,
    source: str,
    ended: Iterable[UUID],
    added: Sequence[NewRow],
    undoes: UUID | None = None,
) -> tuple[UUID, int]:
    """One change with its rows; returns its id and number. The caller holds `lock`."""
    change_id, organization_id = uuid7(), actor.organization_id
    number: int = await connection.fetchval(
        """INSERT INTO lab.map_change (id, organization_id, number, kind, reason, source, undoes_id, actor_kind,
                                       actor_id, actor_name)
           SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6, $7, $8, $9 FROM lab.map_change
           RETURNING number""",
        change_id, organization_id, kind, reason, source, undoes, actor.kind, actor.id, actor.name,
    )  # fmt: skip
    await connection.execute(
        "UPDATE lab.code_map SET ended_at = now(), ended_by = $1 WHERE id = ANY($2) AND ended_at IS NULL",
        change_id,
        list(ended),
    )
    await connection.execute(
        """INSERT INTO lab.code_map (id, organization_id, driver, link_id, code, specimen_type, test_id, unit, note,
                                     origin, revision, valid_from, valid_to, change_id, method)
           SELECT n.id, $1, n.driver, l.id, n.code, n.specimen_type, t.id, n.unit, n.note, n.origin, n.revision,
                  n.valid_from, n.valid_to, $2, n.method
             FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                         $10::text[], $11::text[], $12::int[], $13::timestamptz[], $14::timestamptz[], $15::text[])
                  AS n (id, driver, link, code, specimen_type, test, unit, note, origin, revision, valid_from, valid_to,
                        method)
             LEFT JOIN lab.link l ON l.name = n.link LEFT JOIN lab.test t ON t.code = n.test""",
        organization_id,
        change_id,
        [uuid7() for _ in added],
        [one.key.driver for one in added],
        [one.key.link for one in added],
        [one.key.code for one in added],
        [one.key.specimen_type for one in added],
        [one.span.target.test for one in added],
        [one.span.target.unit for one in added],
        [one.span.target.note for one in added],
        [one.origin for one in added],
        [number if one.revision is None else one.revision for one in added],
        [one.span.start for one in added],
        [one.span.end for one in added],
        [one.span.target.method for one in added],
    )
    return change_id, number


_CHANGES = """
SELECT c.id, c.number, c.kind, c.reason, c.source, c.actor_name AS actor, c.created_at AS at,
       coalesce(u.number, 0) AS undoes, coalesce(b.number, 0) AS undone_by,
       (SELECT count(*) FROM lab.code_map m WHERE m.change_id = c.id) AS added,
       (SELECT count(*) FROM lab.code_map m WHERE m.ended_by = c.id) AS ended
  FROM lab.map_change c
  LEFT JOIN lab.map_change u ON u.id = c.undoes_id
  LEFT JOIN lab.map_change b ON b.undoes_id = c.id
"""


async def read_changes(connection: Connection, limit: int) -> list[MapChange]:
    """The newest changes first."""
    rows = await connection.fetch(f"{_CHANGES} ORDER BY c.number DESC LIMIT $1", limit)
    return [MapChange(**dict(row.items())) for row in rows]


async def find_change(connection: Connection, number: int) -> MapChange | None:
    row = await connection.fetchrow(f"{_CHANGES} WHERE c.number = $1", number)
    return MapChange(**dict(row.items())) if row else None


async def known_links(connection: Connection) -> dict[str, str]:
    """The organization's links by name, with their drivers."""
    return {row["name"]: row["driver"] for row in await connection.fetch("SELECT name, driver FROM lab.link")}

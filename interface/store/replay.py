"""What deciding a message anew needs to read and write beside `store.results`, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from asyncpg import Record

from interface.domain.model import HoldReason, Origin, ResultStatus
from interface.domain.runs import GONE
from interface.store.db import Connection
from interface.store.versions import versions_of


@dataclass(frozen=True, slots=True)
class Candidate:
    """The version of a result that waits: the current one, or the change beside a released one."""

    message_id: UUID | None
    version_id: UUID
    version: int
    held: frozenset[HoldReason]
    code: str
    test_code: str
    comparator: str
    value: str
    unit: str
    low: Decimal | None
    high: Decimal | None
    reference: str
    flags: tuple[str, ...]
    method: str
    by_person: bool
    result_id: UUID
    status: ResultStatus
    location: str
    specimen: str  # as sent
    patient_id: UUID | None
    pending: bool  # it waits beside a released version


async def lock_message(connection: Connection, message_id: UUID) -> tuple[str | None, bool] | None:
    """What a message has come to and whether it is in the queue; None when there is no such message."""
    row = await connection.fetchrow("SELECT settled FROM lab.message WHERE id = $1 FOR UPDATE", message_id)
    if row is None:
        return None
    queued = await connection.fetchval("SELECT EXISTS (SELECT FROM lab.queue WHERE message_id = $1)", message_id)
    return row["settled"], bool(queued)


async def waiting_since(
    connection: Connection, since: datetime, limit: int, *, links: Collection[UUID] | None = None, every: bool = False
) -> list[tuple[UUID, datetime]]:
    """The messages received since then of which something waits for a decision, and when, oldest first. `links`: of
    these only; `every`: also those of which nothing waits."""
    rows = await connection.fetch(
        """SELECT m.id, m.received_at FROM lab.message m
            WHERE m.received_at >= $1 AND m.settled IN ('held', 'released')
              AND ($3::uuid[] IS NULL OR m.link_id = ANY($3)) AND ($4 OR EXISTS (
                  SELECT FROM lab.result_version v JOIN lab.result r ON r.id = v.result_id
                   WHERE v.message_id = m.id AND v.id IN (r.version_id, r.pending_version_id)
                     AND (v.held <> '{}' OR v.status = 'preliminary'))
               OR EXISTS (SELECT FROM lab.qc_result q JOIN lab.qc_problem b ON b.qc_result_id = q.id
                           WHERE q.message_id = m.id AND b.ended_at IS NULL))
            ORDER BY m.received_at, m.id LIMIT $2""",
        since,
        limit,
        None if links is None else list(links),
        every,
    )
    return [(row["id"], row["received_at"]) for row in rows]


_CANDIDATES = """
SELECT r.id AS result_id, v.message_id, v.id AS version_id, v.version, v.held, v.code, v.test_code, v.comparator,
       v.value, v.unit, v.low, v.high, v.reference, v.flags, v.method, v.status, v.location, v.specimen_as_sent,
       r.patient_id, r.pending_version_id IS NOT NULL AS pending, v.actor_kind IN ('user', 'client') AS by_person
  FROM lab.result r JOIN lab.result_version v ON v.id = coalesce(r.pending_version_id, r.version_id)
"""


async def candidates(connection: Connection, result_ids: Collection[UUID]) -> dict[UUID, Candidate]:
    """What waits of each result; the caller has locked them."""
    rows = await connection.fetch(f"{_CANDIDATES} WHERE r.id = ANY($1)", list(result_ids))
    return {row["result_id"]: _candidate(row) for row in rows}


async def stored(connection: Connection, message_id: UUID) -> dict[UUID, Candidate]:
    """What a message said last of each result, as the analyzer's: what no later message or person has replaced."""
    rows = await connection.fetch(
        f"{_CANDIDATES} WHERE v.message_id = $1 AND r.origin = $2 AND v.status <> ALL($3)",
        message_id,
        Origin.ANALYZER,
        list(GONE),
    )
    return {row["result_id"]: _candidate(row) for row in rows}


async def held_ever(connection: Connection, result_ids: Collection[UUID]) -> dict[UUID, frozenset[HoldReason]]:
    """What each result was held for, in any of its versions."""
    rows = await connection.fetch(
        f"""SELECT v.result_id, array_agg(DISTINCT reason) AS held
              FROM {versions_of("= ANY($1)")} v, unnest(v.held) reason GROUP BY v.result_id""",  # noqa: S608 - words of ours
        list(result_ids),
    )
    found = {row["result_id"]: frozenset(map(HoldReason, row["held"])) for row in rows}
    return {one: found.get(one, frozenset()) for one in result_ids}


async def taken_back(connection: Connection, message_id: UUID) -> dict[tuple[str, str], int]:
    """The places in a message, by the specimen as sent and where, of which a person has rejected or retracted the
    result; with the number of that version."""
    rows = await connection.fetch(
        """SELECT DISTINCT v.specimen_as_sent, v.location, r.version FROM lab.result_version v
             JOIN lab.result r ON r.id = v.result_id WHERE v.message_id = $1 AND r.status = ANY($2)""",
        message_id,
        list(GONE),
    )
    return {(row["specimen_as_sent"], row["location"]): row["version"] for row in rows}


def _candidate(row: Record) -> Candidate:
    return Candidate(
        row["message_id"], row["version_id"], row["version"], frozenset(map(HoldReason, row["held"])), row["code"],
        row["test_code"], row["comparator"], row["value"], row["unit"],
        row["low"], row["high"], row["reference"], tuple(row["flags"]), row["method"],
        row["by_person"], row["result_id"], ResultStatus(row["status"]), row["location"], row["specimen_as_sent"],
        row["patient_id"], row["pending"],
    )  # fmt: skip


async def settle_again(connection: Connection, message_id: UUID, problems: Sequence[str], incomplete: bool) -> str:
    """What a message that was decided anew has come to: held while anything that it said waits."""
    settled: str = await connection.fetchval(
        """UPDATE lab.message m SET problems = $2, settled_at = now(), reason = '', settled = CASE
               WHEN $3 OR EXISTS (
                   SELECT FROM lab.result_version v JOIN lab.result r ON r.id = v.result_id
                    WHERE v.message_id = m.id AND v.id IN (r.version_id, r.pending_version_id) AND v.held <> '{}')
               THEN 'held' ELSE 'released' END
           WHERE m.id = $1 RETURNING settled""",
        message_id,
        [problem.replace("\0", "\N{REPLACEMENT CHARACTER}") for problem in problems],
        bool(problems) or incomplete,
    )
    return settled

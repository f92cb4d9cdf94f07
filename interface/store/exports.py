"""Bulk exports as rows: what was asked for, how far it is, and its files. Every function runs in the caller's
transaction. One process at a time has a job claimed; what it notes counts only while it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.store.db import Connection
from interface.store.ids import uuid7


@dataclass(frozen=True, slots=True)
class ExportFile:
    type: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class ExportJob:
    """`state`: accepted, running, completed, failed, cancelled. `progress`: resources written so far."""

    id: UUID
    client_id: UUID
    client: str
    client_disabled: bool
    client_scopes: tuple[str, ...]
    state: str
    request: str
    level: str
    types: tuple[str, ...]
    filters: tuple[str, ...]
    since: datetime | None
    scopes: tuple[str, ...]
    transaction_time: datetime | None
    progress: int
    files: tuple[ExportFile, ...]
    error: str
    attempts: int
    expires_at: datetime | None
    removed_at: datetime | None


_COLUMNS = """j.id, j.client_id, c.name as client, c.disabled_at is not null as client_disabled,
    c.scopes as client_scopes, j.state, j.request, j.level, j.types, j.filters, j.since, j.scopes, j.transaction_time,
    j.progress, j.files, j.error, j.attempts, j.expires_at, j.removed_at"""


def _job(row: Record) -> ExportJob:
    lists = {name: tuple(row[name]) for name in ("client_scopes", "types", "filters", "scopes")}
    return ExportJob(**{**row, **lists, "files": tuple(ExportFile(**one) for one in row["files"])})


async def insert(
    connection: Connection,
    organization_id: UUID,
    client_id: UUID,
    request: str,
    level: str,
    types: Sequence[str],
    filters: Sequence[str],
    since: datetime | None,
    scopes: Sequence[str],
) -> UUID:
    id = uuid7()
    await connection.execute(
        """insert into lab.export_job (id, organization_id, client_id, state, request, level, types, filters, since,
               scopes) values ($1, $2, $3, 'accepted', $4, $5, $6, $7, $8, $9)""",
        id, organization_id, client_id, request, level, list(types), list(filters), since, list(scopes),
    )  # fmt: skip
    return id


async def find(connection: Connection, id: UUID) -> ExportJob | None:
    row = await connection.fetchrow(
        f"select {_COLUMNS} from lab.export_job j join lab.client c on c.id = j.client_id where j.id = $1",  # noqa: S608 - ours
        id,
    )
    return _job(row) if row is not None else None


async def waiting(connection: Connection, client_id: UUID | None = None) -> int:
    """How many jobs of a client, or of all, are not at an end. Holds off others who count, until the commit."""
    await connection.execute("select pg_advisory_xact_lock(hashtextextended('labora exports', 0))")
    return int(
        await connection.fetchval(
            """select count(*) from lab.export_job
                where state in ('accepted', 'running') and removed_at is null
                  and ($1::uuid is null or client_id = $1)""",
            client_id,
        )
    )


async def claim(
    connection: Connection, holder: UUID, now: datetime, until: datetime, position: int
) -> ExportJob | None:
    """The oldest job that nobody works on; its attempts are counted. `position`: up to which the feed has been read.
    One that is claimed for much later than `until` is so by a clock that has been put back since."""
    row = await connection.fetchrow(
        f"""with due as (
                select id from lab.export_job
                 where state in ('accepted', 'running') and removed_at is null
                   and (claimed_until is null or claimed_until < $2
                        or claimed_until > $3::timestamptz + interval '10 minutes')
                 order by id limit 1 for update skip locked
            ), j as (
                update lab.export_job set state = 'running', claimed_by = $1, claimed_until = $3,
                       attempts = attempts + 1, started_at = coalesce(started_at, now()),
                       transaction_time = coalesce(transaction_time, clock_timestamp()),
                       position = coalesce(position, $4)
                 where id = (select id from due) returning *
            ) select {_COLUMNS} from j join lab.client c on c.id = j.client_id""",  # noqa: S608 - names of ours
        holder, now, until, position,
    )  # fmt: skip
    return _job(row) if row is not None else None


async def position_at(connection: Connection, client_id: UUID, transaction_time: datetime) -> int | None:
    """Where the feed stood when the client's export of this time began, which it may say to the second only; None where
    there is none."""
    found: int | None = await connection.fetchval(
        """select min(position) from lab.export_job where client_id = $1
            and transaction_time >= $2 and transaction_time < $2 + interval '1 second'""",
        client_id, transaction_time,
    )  # fmt: skip
    return found


async def release(connection: Connection, id: UUID, holder: UUID) -> None:
    """A stop is not a failure: whoever goes on does so at once."""
    await connection.execute(
        """update lab.export_job set claimed_by = null, claimed_until = null, attempts = attempts - 1
            where id = $1 and claimed_by = $2 and state = 'running'""",
        id, holder,
    )  # fmt: skip


async def note_progress(connection: Connection, id: UUID, holder: UUID, progress: int, until: datetime) -> bool:
    """False when it is not the holder's any more: cancelled, or another's."""
    done = await connection.execute(
        """update lab.export_job set progress = $3, claimed_until = $4
            where id = $1 and claimed_by = $2 and state = 'running'""",
        id, holder, progress, until,
    )  # fmt: skip
    return done.endswith(" 1")


async def note_files(connection: Connection, id: UUID, holder: UUID, files: Sequence[ExportFile]) -> bool:
    """All files that are whole so far: a process that comes after begins with the next type."""
    made = [{"type": one.type, "name": one.name, "count": one.count} for one in files]
    done = await connection.execute(
        "update lab.export_job set files = $3 where id = $1 and claimed_by = $2 and state = 'running'",
        id, holder, made,
    )  # fmt: skip
    return done.endswith(" 1")


async def end(connection: Connection, id: UUID, holder: UUID, state: str, error: str, expires_at: datetime) -> bool:
    done = await connection.execute(
        """update lab.export_job set state = $3, error = $4, ended_at = now(), expires_at = $5, claimed_by = null,
               claimed_until = null where id = $1 and claimed_by = $2 and state = 'running'""",
        id, holder, state, error, expires_at,
    )  # fmt: skip
    return done.endswith(" 1")


async def cancel(connection: Connection, id: UUID) -> None:
    """Its files go at the next sweep; who works on it stops."""
    await connection.execute(
        """update lab.export_job set state = 'cancelled', ended_at = coalesce(ended_at, now()), expires_at = now(),
               claimed_by = null, claimed_until = null where id = $1 and removed_at is null""",
        id,
    )


async def expire_older(connection: Connection, client_id: UUID, kept: int) -> None:
    """Of a client's jobs that are at an end only the newest stay; the files of the others go at the next sweep."""
    await connection.execute(
        """update lab.export_job set expires_at = least(expires_at, clock_timestamp())
            where removed_at is null and state in ('completed', 'failed') and id in (
                select id from lab.export_job
                 where client_id = $1 and removed_at is null and state in ('completed', 'failed')
                 order by id desc offset $2)""",
        client_id, kept,
    )  # fmt: skip


async def expired(connection: Connection, now: datetime) -> list[UUID]:
    """Jobs whose files are to go."""
    rows = await connection.fetch(
        """select id from lab.export_job
            where removed_at is null and expires_at <= $1 and state in ('completed', 'failed', 'cancelled')""",
        now,
    )
    return [row["id"] for row in rows]


async def note_removed(connection: Connection, id: UUID) -> None:
    await connection.execute("update lab.export_job set removed_at = now(), files = '[]' where id = $1", id)

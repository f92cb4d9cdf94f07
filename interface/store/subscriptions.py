"""Subscriptions and the letters that endpoints refused, as rows. Every function runs in the caller's transaction.

`position` and `done` say how far a subscription has been told: all up to `position`, and of the row after it the first
`done` resources. One sender at a time has it claimed; what it notes counts only while it has. `version` is counted by
a trigger (migration 0043), where something else is said of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.subscription import Status
from interface.store.db import Connection
from interface.store.ids import uuid7


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """`headers` are secrets of the EMR's: whoever shows a subscription shows their names. `end`: of the feed."""

    id: UUID
    client_id: UUID
    client: str
    client_disabled: bool
    client_scopes: tuple[str, ...]
    status: Status
    resource: str
    criteria: str
    endpoint: str
    payload: str
    headers: tuple[str, ...]
    reason: str
    ends_at: datetime | None
    scopes: tuple[str, ...]
    position: int
    done: int
    error: str
    attempts: int
    due_at: datetime
    sent: int
    sent_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewSubscription:
    client_id: UUID
    resource: str
    criteria: str
    endpoint: str
    payload: str
    headers: tuple[str, ...]
    reason: str
    ends_at: datetime | None
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LetterView:
    """A resource of which the endpoint refused to be told. `again_at`: a person asked for it to be sent again."""

    id: UUID
    position: int
    resource_id: UUID
    error: str
    attempts: int
    created_at: datetime
    again_at: datetime | None
    sent_at: datetime | None


_COLUMNS = """s.id, s.client_id, c.name as client, c.disabled_at is not null as client_disabled,
    c.scopes as client_scopes, s.status, s.resource, s.criteria, s.endpoint, s.payload, s.headers, s.reason, s.ends_at,
    s.scopes, s.position, s.done, s.error, s.attempts, s.due_at, s.sent, s.sent_at, s.version, s.created_at,
    s.updated_at"""
_FIND = f"select {_COLUMNS} from lab.subscription s join lab.client c on c.id = s.client_id"  # noqa: S608 - ours


def _view(row: Record) -> SubscriptionView:
    lists = {name: tuple(row[name]) for name in ("client_scopes", "headers", "scopes")}
    return SubscriptionView(**{**row, **lists, "status": Status(row["status"])})


async def insert(
    connection: Connection, organization_id: UUID, new: NewSubscription, position: int
) -> SubscriptionView:
    """A subscription that is told of what comes after `position`."""
    id = uuid7()
    await connection.execute(
        """insert into lab.subscription (id, organization_id, client_id, status, resource, criteria, endpoint, payload,
               headers, reason, ends_at, scopes, position)
           values ($1, $2, $3, 'active', $4, $5, $6, $7, $8, $9, $10, $11, $12)""",
        id, organization_id, new.client_id, new.resource, new.criteria, new.endpoint, new.payload, list(new.headers),
        new.reason, new.ends_at, list(new.scopes), position,
    )  # fmt: skip
    found = await find(connection, id)
    assert found is not None  # noqa: S101 - it was inserted above
    return found


async def replace(connection: Connection, id: UUID, new: NewSubscription, position: int | None) -> None:
    """What the EMR says anew: it is active, without a fault. `position`: told from here on, None: from where it is."""
    await connection.execute(
        """update lab.subscription set status = 'active', resource = $2, criteria = $3, endpoint = $4, payload = $5,
               headers = $6, reason = $7, ends_at = $8, scopes = $9, position = coalesce($10, position),
               done = case when $10::bigint is null then done else 0 end, error = '', attempts = 0, due_at = now(),
               claimed_by = null, claimed_until = null where id = $1""",
        id, new.resource, new.criteria, new.endpoint, new.payload, list(new.headers), new.reason, new.ends_at,
        list(new.scopes), position,
    )  # fmt: skip


async def find(connection: Connection, id: UUID, *, lock: bool = False) -> SubscriptionView | None:
    """None for one that was deleted as well."""
    end = "for update of s" if lock else ""
    row = await connection.fetchrow(" ".join((_FIND, "where s.id = $1 and s.ended_at is null", end)), id)
    return _view(row) if row is not None else None


async def deleted(connection: Connection, id: UUID, client_id: UUID) -> bool:
    """Whether this client once had a subscription of this id."""
    return bool(
        await connection.fetchval(
            "select exists (select from lab.subscription where id = $1 and client_id = $2 and ended_at is not null)",
            id, client_id,
        )
    )  # fmt: skip


async def all_of(connection: Connection, client_id: UUID | None = None) -> list[SubscriptionView]:
    """Every subscription, or a client's, the oldest first."""
    rows = await connection.fetch(
        " ".join((_FIND, "where s.ended_at is null and ($1::uuid is null or s.client_id = $1) order by s.id")),
        client_id,
    )
    return [_view(row) for row in rows]


async def live(connection: Connection, client_id: UUID) -> int:
    """How many of a client's subscriptions are not off."""
    return int(
        await connection.fetchval(
            "select count(*) from lab.subscription where client_id = $1 and ended_at is null and status <> 'off'",
            client_id,
        )
    )


async def end(connection: Connection, id: UUID) -> None:
    await connection.execute(
        """update lab.subscription set status = 'off', ended_at = now(), claimed_by = null, claimed_until = null,
               headers = '{}' where id = $1""",
        id,
    )


async def set_status(connection: Connection, id: UUID, status: Status, error: str = "") -> None:
    """What a person or the EMR decides: with a clean slate, and nobody who still sends notes anything."""
    await connection.execute(
        """update lab.subscription set status = $2, error = $3, attempts = 0, due_at = now(), claimed_by = null,
               claimed_until = null where id = $1""",
        id, status, error,
    )  # fmt: skip


# ---- the sender -----------------------------------------------------------------------------------------------------


async def due(connection: Connection, now: datetime, longest: datetime, end: int) -> list[UUID]:
    """Whose turn it is: what is not off and has something to be told, which nobody is telling, the longest waiting
    first. What is due or claimed for later than `longest` is so by a clock that has been put back since."""
    rows = await connection.fetch(
        """select s.id from lab.subscription s
            where s.status in ('active', 'error') and (s.due_at <= $1 or s.due_at > $3)
              and (s.claimed_until is null or s.claimed_until < $1 or s.claimed_until > $3)
              and (s.position < $2 or s.ends_at <= $1 or exists (
                    select from lab.subscription_letter l
                     where l.subscription_id = s.id and l.again_at is not null and l.sent_at is null))
            order by s.due_at, s.id""",
        now, end, longest,
    )  # fmt: skip
    return [row["id"] for row in rows]


async def claim(
    connection: Connection, id: UUID, holder: UUID, now: datetime, until: datetime, longest: datetime
) -> SubscriptionView | None:
    """Have it until then; None when another has, or it is off. `longest`: as for `due`."""
    row = await connection.fetchrow(
        f"""with s as (
                update lab.subscription set claimed_by = $2, claimed_until = $4
                 where id = $1 and status in ('active', 'error') and (due_at <= $3 or due_at > $5)
                   and (claimed_until is null or claimed_until < $3 or claimed_until > $5) returning *
            ) select {_COLUMNS} from s join lab.client c on c.id = s.client_id""",  # noqa: S608 - names of ours
        id, holder, now, until, longest,
    )  # fmt: skip
    return _view(row) if row is not None else None


async def renew(connection: Connection, id: UUID, holder: UUID, until: datetime) -> bool:
    """Have it until then; False when it is not the holder's any more."""
    done = await connection.execute(
        "update lab.subscription set claimed_until = $3 where id = $1 and claimed_by = $2", id, holder, until
    )
    return done.endswith(" 1")


async def release(connection: Connection, id: UUID, holder: UUID) -> None:
    await connection.execute(
        "update lab.subscription set claimed_by = null, claimed_until = null where id = $1 and claimed_by = $2",
        id, holder,
    )  # fmt: skip


async def note_sent(
    connection: Connection, id: UUID, holder: UUID, position: int, done: int, now: datetime, until: datetime, count: int
) -> bool:
    """`count` messages were taken (0: what follows was passed over), it is at this place now, and the holder's `until`
    then. False when it is not the holder's any more: somebody has switched it off, or another sends."""
    status = await connection.execute(
        """update lab.subscription set position = $3, done = $4, sent = sent + $6, claimed_until = $7,
               sent_at = case when $6 > 0 then $5 else sent_at end,
               attempts = case when $6 > 0 then 0 else attempts end,
               status = case when $6 > 0 then 'active' else status end,
               error = case when $6 > 0 then '' else error end
            where id = $1 and claimed_by = $2""",
        id, holder, position, done, now, count, until,
    )  # fmt: skip
    return status.endswith(" 1")


async def note_failure(
    connection: Connection, id: UUID, holder: UUID, status: Status, error: str, attempts: int, due_at: datetime
) -> bool:
    """It was not taken, and is tried again at `due_at` unless it is off now. False when it is not the holder's."""
    done = await connection.execute(
        """update lab.subscription set status = $3, error = $4, attempts = $5, due_at = $6,
               claimed_by = null, claimed_until = null where id = $1 and claimed_by = $2""",
        id, holder, status, error, attempts, due_at,
    )  # fmt: skip
    return done.endswith(" 1")


# ---- letters --------------------------------------------------------------------------------------------------------


async def insert_letter(
    connection: Connection,
    organization_id: UUID,
    subscription_id: UUID,
    position: int,
    resource_id: UUID,
    error: str,
    attempts: int,
) -> UUID:
    id = uuid7()
    await connection.execute(
        """insert into lab.subscription_letter
               (id, organization_id, subscription_id, seq, resource_id, error, attempts)
           values ($1, $2, $3, $4, $5, $6, $7)""",
        id, organization_id, subscription_id, position, resource_id, error, attempts,
    )  # fmt: skip
    return id


async def letters(connection: Connection, subscription_id: UUID, *, again: bool = False) -> list[LetterView]:
    """Those that were not sent since, the oldest first; `again`: that are to be sent again."""
    rows = await connection.fetch(
        """select id, seq as position, resource_id, error, attempts, created_at, again_at, sent_at
             from lab.subscription_letter
            where subscription_id = $1 and sent_at is null and (not $2 or again_at is not null) order by id""",
        subscription_id, again,
    )  # fmt: skip
    return [LetterView(**row) for row in rows]


async def send_again(connection: Connection, subscription_id: UUID) -> int:
    """Have all letters of a subscription sent again; returns how many there are."""
    done = await connection.execute(
        "update lab.subscription_letter set again_at = now() where subscription_id = $1 and sent_at is null",
        subscription_id,
    )
    return int(done.rpartition(" ")[2])


async def note_letter(connection: Connection, id: UUID, error: str, now: datetime | None) -> None:
    """It was taken at `now`; None: refused once more, and waits for a person again."""
    await connection.execute(
        """update lab.subscription_letter set sent_at = $3, error = $2, attempts = attempts + 1,
               again_at = case when $3::timestamptz is null then null else again_at end where id = $1""",
        id, error, now,
    )  # fmt: skip

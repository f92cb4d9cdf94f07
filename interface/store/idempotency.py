"""The answers of changes that were made under a key of their client's, so that the same request again is answered so
again (the Idempotency-Key header, draft-ietf-httpapi-idempotency-key-header). One transaction with the change."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from interface.store.db import Connection

KEPT_HOURS = 48


@dataclass(frozen=True, slots=True)
class Kept:
    """What was answered. `request`: a digest of what was asked; `location`, `etag`: headers, "" for none."""

    request: bytes
    status: int
    media: str
    location: str
    etag: str
    body: bytes


async def claim(connection: Connection, organization_id: UUID, actor_id: UUID, key: str) -> Kept | None:
    """Take the key for the transaction that `connection` is in: None; or what was answered under it.

    Waits while another transaction has it.
    """
    taken = await connection.fetchval(
        "insert into lab.idempotency_key (organization_id, actor_id, key) values ($1, $2, $3)"
        " on conflict do nothing returning true",
        organization_id, actor_id, key,
    )  # fmt: skip
    if taken:
        return None
    row = await connection.fetchrow(
        "select request, status, media, location, etag, body from lab.idempotency_key where actor_id = $1 and key = $2",
        actor_id, key,
    )  # fmt: skip
    if row is None:  # it was forgotten between the two statements: this is the first again
        return await claim(connection, organization_id, actor_id, key)
    return Kept(*row)


async def forget(connection: Connection) -> int:
    """Delete the organization's answers that have been kept for long enough; how many."""
    done = await connection.execute(
        "delete from lab.idempotency_key where created_at < now() - make_interval(hours => $1)", KEPT_HOURS
    )
    return int(done.split()[-1])


async def keep(connection: Connection, actor_id: UUID, key: str, kept: Kept) -> None:
    """What is answered under the claimed key, before the change is committed."""
    await connection.execute(
        "update lab.idempotency_key set request = $3, status = $4, media = $5, location = $6, etag = $7, body = $8"
        " where actor_id = $1 and key = $2",
        actor_id, key, kept.request, kept.status, kept.media, kept.location, kept.etag, kept.body,
    )  # fmt: skip

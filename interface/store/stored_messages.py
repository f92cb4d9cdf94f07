"""Messages as the journal has them, read with their frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from asyncpg import DataCorruptedError, IndexCorruptedError, PostgresIOError, Record

from interface.domain.record import record
from interface.store.db import Connection
from interface.store.ids import of_int
from interface.store.journal import FRAME_BITS
from interface.store.journal_sql import READ_FRAMES


@record
class StoredFrame:
    ordinal: int
    fn: int | None
    bytes: bytes
    start: int | None
    stop: int | None
    received_at: datetime


@record
class StoredMessage:
    """A message with its frames, the last attempt of each ordinal, in order."""

    id: UUID
    organization_id: UUID
    link_id: UUID
    protocol: str
    state: str
    settled: str | None
    control_id: str
    message_type: str
    reason: str
    reply: str
    bytes: int
    attempts: int
    received_at: datetime
    sealed_at: datetime | None
    settled_at: datetime | None
    peer: str
    duplicate_of: UUID | None
    frames: tuple[StoredFrame, ...] = ()


_READ_MESSAGES = """
SELECT id, organization_id, link_id, protocol, state, settled, control_id, message_type, reason, reply, bytes, attempts,
       received_at, sealed_at, settled_at, peer, duplicate_of FROM lab.message WHERE id = ANY($1)
"""


async def read_messages(connection: Connection, message_ids: Sequence[UUID]) -> dict[UUID, StoredMessage]:
    """Messages by id, with their frames (last attempt of each ordinal); unknown ids left out."""
    return await with_frames(connection, await read_heads(connection, message_ids))


async def read_heads(connection: Connection, message_ids: Sequence[UUID]) -> dict[UUID, Record]:
    """Messages by id, not their frames; unknown ids left out."""
    return {row["id"]: row for row in await connection.fetch(_READ_MESSAGES, list(message_ids))}


async def readable_heads(connection: Connection, message_ids: Sequence[UUID]) -> tuple[dict[UUID, Record], set[UUID]]:
    """The same, and those whose own page is damaged in the database: others are read."""
    try:
        return await read_heads(connection, message_ids), set()
    except DAMAGES:
        if len(message_ids) == 1:
            return {}, set(message_ids)
    heads: dict[UUID, Record] = {}
    damaged: set[UUID] = set()
    for id_ in message_ids:
        found, lost = await readable_heads(connection, [id_])
        heads |= found
        damaged |= lost
    return heads, damaged


async def with_frames(connection: Connection, heads: Mapping[UUID, Record]) -> dict[UUID, StoredMessage]:
    """Sealed messages whose heads were read, with their frames."""
    frames: dict[UUID, dict[int, StoredFrame]] = {message_id: {} for message_id in heads}
    last = [of_int(message_id.int | (1 << FRAME_BITS) - 1) for message_id in heads]
    for message_id, *frame in await connection.fetch(READ_FRAMES, list(heads), last):
        # in order of (ordinal, attempt): the last attempt wins
        frames[message_id][frame[0]] = StoredFrame(*frame)
    return {id_: StoredMessage(**dict(head), frames=tuple(frames[id_].values())) for id_, head in heads.items()}


# What PostgreSQL says of a damaged page, in a table or its index, and where the disk gives none: whoever asks for it.
Damaged = DataCorruptedError | IndexCorruptedError | PostgresIOError
DAMAGES = DataCorruptedError, IndexCorruptedError, PostgresIOError


async def readable(connection: Connection, heads: Mapping[UUID, Record]) -> dict[UUID, StoredMessage | Damaged]:
    """The same, and of a message whose frames are damaged in the database, what it says of them: others are read."""
    try:
        return {**await with_frames(connection, heads)}
    except DAMAGES as error:
        if len(heads) == 1:
            return dict.fromkeys(heads, error)
    found: dict[UUID, StoredMessage | Damaged] = {}
    for id_, head in heads.items():
        found |= await readable(connection, {id_: head})
    return found


async def read_message(connection: Connection, message_id: UUID) -> StoredMessage | None:
    """One message with its frames, or None."""
    return (await read_messages(connection, [message_id])).get(message_id)

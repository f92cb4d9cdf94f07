"""Messages as the journal has them, read with their frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from interface.store.db import Connection
from interface.store.journal import FRAME_BITS
from interface.store.journal_sql import READ_FRAMES


@dataclass(frozen=True, slots=True)
class StoredFrame:
    ordinal: int
    fn: int | None
    bytes: bytes
    start: int | None
    stop: int | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
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


async def read_messages(
    connection: Connection, message_ids: Sequence[UUID], *, with_frames: bool = True
) -> dict[UUID, StoredMessage]:
    """Messages by id, with their frames (last attempt of each ordinal) unless told otherwise; unknown ids left out."""
    rows = await connection.fetch(_READ_MESSAGES, list(message_ids))
    heads = {row["id"]: StoredMessage(**dict(row)) for row in rows}
    return await add_frames(connection, heads) if with_frames else heads


async def add_frames(connection: Connection, heads: Mapping[UUID, StoredMessage]) -> dict[UUID, StoredMessage]:
    """Sealed messages that were read without their frames, with them."""
    frames: dict[UUID, dict[int, StoredFrame]] = {message_id: {} for message_id in heads}
    last = [UUID(int=message_id.int | (1 << FRAME_BITS) - 1) for message_id in heads]
    for row in await connection.fetch(READ_FRAMES, list(heads), last):
        # in order of (ordinal, attempt): the last attempt wins
        frames[row["message_id"]][row["ordinal"]] = StoredFrame(*list(row)[1:])
    return {one.id: replace(one, frames=tuple(frames[one.id].values())) for one in heads.values()}


async def read_message(connection: Connection, message_id: UUID) -> StoredMessage | None:
    """One message with its frames, or None."""
    return (await read_messages(connection, [message_id])).get(message_id)

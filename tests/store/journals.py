"""A journal on a real database, and what is appended to it, for the tests of the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TypeAlias
from uuid import UUID

import asyncpg

from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.journal import (
    Append,
    BlockRow,
    FrameRow,
    Journal,
    MessageRow,
    new_message_id,
)
from tests.conftest import Organization

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def make_link(owner: Owner, organization: Organization) -> UUID:
    analyzer_id, link_id = uuid7(), uuid7()
    await owner.execute(
        "insert into lab.analyzer (id, organization_id, name) values ($1, $2, $3)",
        analyzer_id, organization.id, f"analyzer-{analyzer_id}",
    )  # fmt: skip
    await owner.execute(
        "insert into lab.link (id, organization_id, name, analyzer_id, driver, role) values ($1, $2, $3, $4, $5, $6)",
        link_id, organization.id, f"link-{link_id}", analyzer_id, "generic_lis2", "analyzer",
    )  # fmt: skip
    return link_id


@asynccontextmanager
async def running(database: Database, organization: Organization, commit_wait_s: float = 5.0) -> AsyncIterator[Journal]:
    journal = Journal(database, organization.id, resend_window_s=3600, commit_wait_s=commit_wait_s, wake=lambda: None)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


def whole(link_id: UUID, text: bytes, control_id: str = "1") -> Append:
    """A message of one block, complete at once, as HL7 has them."""
    row = MessageRow(
        new_message_id(), link_id, "hl7", "complete", received_at=AT, sealed_at=AT, control_id=control_id,
        digest=blake2b(text, digest_size=32).digest(), bytes=len(text),
    )  # fmt: skip
    return Append((row,), (FrameRow(row.id, 0, 0, None, text, AT),))


def block_of(append: Append) -> BlockRow | None:
    """The same as the journal takes a whole message of HL7 in one block; None for anything else."""
    if (len(append.messages), len(append.frames)) != (1, 1):
        return None
    row, frame = append.messages[0], append.frames[0]
    if row.digest is None:
        return None
    block = BlockRow(
        row.id, row.link_id, row.control_id, row.message_type, row.digest, row.received_at, row.peer, frame.bytes
    )
    return block if block.in_general() == append else None


_append = Journal.append


async def append_blocks_as_such(journal: Journal, append: Append) -> frozenset[UUID]:
    """`Journal.append` by the way that is a block's own, where there is one."""
    if (block := block_of(append)) is None:
        return await _append(journal, append)
    return frozenset((block.id,)) if await journal.append_block(block) else frozenset()


async def until(probe: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is so; the writer is a task of its own."""
    async with asyncio.timeout(20):
        while True:
            if await probe():
                return
            await asyncio.sleep(0.01)


async def is_available(journal: Journal) -> bool:
    return journal.available


async def is_sealed(owner: Owner, message_id: UUID) -> bool:
    state: str = await owner.fetchval("select state from lab.message where id = $1", message_id)
    return state == "incomplete"


async def is_answered(owner: Owner, append: Append) -> bool:
    reply: str = await owner.fetchval("select reply from lab.message where id = $1", append.messages[0].id)
    return reply == "sent"


@asynccontextmanager
async def hanging(owner: Owner, organization: Organization, append: Append) -> AsyncIterator[None]:
    """Whoever wants to commit this append waits, for somebody else holds its key, until the block ends."""
    row = append.messages[0]
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute(
        "insert into lab.message_key (link_id, digest, organization_id, message_id, sealed_at)"
        " values ($1, $2, $3, $4, $5)", row.link_id, row.digest, organization.id, uuid7(), AT,
    )  # fmt: skip
    try:
        yield
    finally:
        await transaction.rollback()


async def in_flight(owner: Owner) -> bool:
    """Whether somebody waits for the end of the owner's transaction."""
    waiting: int = await owner.fetchval(
        "select count(*) from pg_locks where not granted and transactionid = pg_current_xact_id()::xid"
    )
    return waiting > 0

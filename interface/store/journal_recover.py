"""What a former owner of links was still receiving when it ended, sealed before they are opened again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

import asyncpg
import structlog

from interface.store.db import COMMAND_TIMEOUT_S, Connection
from interface.store.driver_errors import translate
from interface.store.journal_sql import LAST_WAITING, LEFT_OPEN, RECOVER, RECOVER_ONE

log = structlog.get_logger()


async def recovered(
    connection: Connection, organization_id: UUID, link_ids: Collection[UUID], takes: Callable[[], Awaitable[object]]
) -> tuple[int, UUID | None]:
    """How many were sealed, over links that nobody has and over these, and what came last of what waits now. One that
    the database refuses for itself stays open, and keeps no analyzer of the laboratory from its answers. `takes`:
    raises where the database takes nothing at all, which this does then too."""
    of = organization_id, list(link_ids)
    sealed = 0
    try:
        sealed = await connection.fetchval(RECOVER, *of, timeout=COMMAND_TIMEOUT_S)
    except asyncpg.PostgresError as error:
        if translate(error) is not None:
            raise
        await takes()
        for row in await connection.fetch(LEFT_OPEN, *of, timeout=COMMAND_TIMEOUT_S):
            sealed += await _sealed(connection, of, row["id"])
    return sealed, await connection.fetchval(LAST_WAITING, organization_id, timeout=COMMAND_TIMEOUT_S)


async def _sealed(connection: Connection, of: tuple[UUID, list[UUID]], message_id: UUID) -> int:
    try:
        found: int = await connection.fetchval(RECOVER_ONE, *of, message_id, timeout=COMMAND_TIMEOUT_S)
    except asyncpg.PostgresError as error:
        if translate(error) is not None:
            raise
        log.error("cut transmission not sealed", action="journal.fault", message_id=str(message_id),
                  error=type(error).__name__)  # fmt: skip
        return 0
    return found

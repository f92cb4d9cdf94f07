"""What only the schema's owner may do while the daemon runs: keep each link's wire log within its bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import structlog

from interface.errors import ConfigError, StoreError
from interface.settings import WIRE_LOG_MB, Settings
from interface.store.db import open_connection
from interface.store.embedded import EmbeddedPostgres
from interface.store.migrate import may_upgrade
from interface.store.schema import OWNER_ROLE
from interface.store.wire_log import WireLogWriter, prune

PRUNE_PAUSE_S = 30.0

log = structlog.get_logger(__name__)


def wire_log_bound(settings: Settings) -> Callable[[str, str], int]:
    """The bound of a link's wire log, in bytes, by organization and link; the default for one not configured now."""
    known = {(link.organization, link.id): link.wire_log_mb for link in settings.links}
    return lambda organization, link: known.get((organization, link), WIRE_LOG_MB) << 20


async def prune_wire_log(settings: Settings, owner_url: str) -> int:
    """Delete the oldest rows of logs that are over their bound; returns how many. The login must be the owner's."""
    connection = await open_connection(owner_url)
    try:
        return await prune(connection, wire_log_bound(settings))
    finally:
        await connection.close()


async def keep_wire_log(
    settings: Callable[[], Settings], server: EmbeddedPostgres | None, writer: WireLogWriter
) -> None:
    """Prune whenever a log is over its bound, for as long as the daemon runs and where it may.

    `settings`: those in force.
    """
    owner_url = settings().database.url if server is None else server.url(OWNER_ROLE)
    warned = False
    while True:
        await writer.over.wait()
        try:
            if await may_upgrade(owner_url):
                rows = await prune_wire_log(settings(), owner_url)
                log.info("wire log pruned", action="wire_log.prune", rows=rows)
            elif not warned:
                warned = True
                log.warning(
                    "a wire log is full and this login may not prune it: `labora db maintain` as one that may",
                    action="wire_log.full",
                )
            await writer.measure()
        except (StoreError, ConfigError, asyncpg.PostgresError) as error:  # nothing more is logged meanwhile
            log.warning("wire log not pruned", action="wire_log.prune", reason=str(error))
        await asyncio.sleep(PRUNE_PAUSE_S)

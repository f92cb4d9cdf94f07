"""What only the schema's owner may do while the daemon runs: make the coming partitions, keep each link's wire log
within its bound, and the planner's statistics near the truth while tables are young."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from interface.errors import ConfigError, StoreError
from interface.settings import WIRE_LOG_MB, Settings
from interface.store import idempotency, pbrtqc
from interface.store.db import Connection, Database, open_connection
from interface.store.driver_errors import DRIVER_ERRORS
from interface.store.embedded import EmbeddedPostgres
from interface.store.migrate import maintain, may_upgrade
from interface.store.schema import OWNER_ROLE, SCHEMA
from interface.store.wire_log import WireLogWriter, prune

ANSWERS_PAUSE_S = 3600.0
COUNTED_PAUSE_S = PARTITIONS_PAUSE_S = 86_400.0
PRUNE_PAUSE_S, STATISTICS_PAUSE_S, LONGEST_PAUSE_S = 30.0, 5.0, 60.0
GROWN_ROWS = 500  # a table that has changed by so many rows, and by as many as it has, is analyzed
# Up to so many rows by a sample of 3,000 of them, not of 30,000, which takes a second from what is decided meanwhile:
# that a table is not empty any more is all that must be known soon. Autovacuum looks closer as it grows on.
YOUNG_ROWS, YOUNG_TARGET = 1_000_000, 10

log = structlog.get_logger(__name__)


def wire_log_bound(settings: Settings) -> Callable[[str, str], int]:
    """The bound of a link's wire log, in bytes, by organization and link; the default for one not configured now."""
    known = {(link.organization, link.id): link.wire_log_mb for link in settings.links}
    return lambda organization, link: known.get((organization, link), WIRE_LOG_MB) << 20


# The database is away, or ends in mid-answer: what is upkept waits for the next time.
_PASSING = (StoreError, ConfigError, *DRIVER_ERRORS)


def _always() -> bool:
    return True


async def keep_partitions(
    settings: Callable[[], Settings], server: EmbeddedPostgres | None, leads: Callable[[], bool] = _always
) -> None:
    """Make the coming months' partitions now and every day, for as long as the daemon runs and where it may.

    `leads`: of several daemons on one database, whether this is the one that does it.
    """
    owner_url = settings().database.url if server is None else server.url(OWNER_ROLE)
    while True:
        try:
            if leads() and await may_upgrade(owner_url):
                await maintain(owner_url)
        except _PASSING as error:  # rows go to the DEFAULT partition meanwhile
            log.warning("partitions not made", action="db.maintain", reason=str(error))
        await asyncio.sleep(PARTITIONS_PAUSE_S)


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
        except _PASSING as error:  # nothing more is logged meanwhile
            log.warning("wire log not pruned", action="wire_log.prune", reason=str(error))
        await asyncio.sleep(PRUNE_PAUSE_S)


async def prune_counted(owner_url: str) -> int:
    """Delete what patient-based quality control counted long ago; how many values. The login must be the owner's."""
    connection = await open_connection(owner_url)
    try:
        return await pbrtqc.prune(connection, datetime.now(UTC))
    finally:
        await connection.close()


async def keep_counted(
    settings: Callable[[], Settings], server: EmbeddedPostgres | None, leads: Callable[[], bool] = _always
) -> None:
    """The same once a day for as long as the daemon runs, where it may."""
    owner_url = settings().database.url if server is None else server.url(OWNER_ROLE)
    while True:
        try:
            if not await may_upgrade(owner_url):
                return
            if leads() and (rows := await prune_counted(owner_url)):
                log.info("counted values pruned", action="pbrtqc.prune", rows=rows)
        except _PASSING as error:
            log.warning("counted values not pruned", action="pbrtqc.prune", reason=str(error))
        await asyncio.sleep(COUNTED_PAUSE_S)


async def keep_answers(database: Database) -> None:
    """Forget, hour by hour, what was answered under clients' own keys: it may be of patients (`store.idempotency`)."""
    while True:
        for organization_id in database.served:
            try:
                async with database.transaction(organization_id) as connection:
                    if rows := await idempotency.forget(connection):
                        log.info("answers forgotten", action="idempotency.forget", rows=rows)
            except _PASSING as error:
                log.warning("answers not forgotten", action="idempotency.forget", reason=str(error))
        await asyncio.sleep(ANSWERS_PAUSE_S)


async def keep_statistics(
    settings: Callable[[], Settings], server: EmbeddedPostgres | None, leads: Callable[[], bool] = _always
) -> None:
    """Analyze what has grown, for as long as the daemon runs, where it may; else autovacuum does, a minute later."""
    owner_url = settings().database.url if server is None else server.url(OWNER_ROLE)
    pause_s = STATISTICS_PAUSE_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)  # what is old doubles seldom
        try:
            if not await may_upgrade(owner_url):
                return
            if not leads():
                continue
            connection = await open_connection(owner_url)
            try:
                if grown := await analyze_grown(connection):
                    pause_s = STATISTICS_PAUSE_S
                    log.info("tables analyzed", action="statistics.analyze", tables=" ".join(grown))
            finally:
                await connection.close()
        except _PASSING as error:
            log.warning("tables not analyzed", action="statistics.analyze", reason=str(error))


async def analyze_grown(connection: Connection) -> list[str]:
    """Analyze the tables that have at least doubled since they were, and return their names. The login must be the
    owner's.

    A plan that was made for an empty table, and is kept, reads the whole of it for every row that is looked for: the
    first thousands of messages of a new laboratory would be decided slower and slower.
    """
    rows = await connection.fetch(
        """select relname, n_live_tup from pg_stat_user_tables
           where schemaname = $1 and n_mod_since_analyze > $2 and 2 * n_mod_since_analyze >= n_live_tup
           order by relname""",
        SCHEMA, GROWN_ROWS,
    )  # fmt: skip
    for row in rows:
        async with connection.transaction():  # whatever happens, the connection keeps its own target
            if row["n_live_tup"] <= YOUNG_ROWS:
                await connection.execute(f"set local default_statistics_target = {YOUNG_TARGET}")
            await connection.execute(f'analyze {SCHEMA}."{row["relname"]}"')
    return [row["relname"] for row in rows]

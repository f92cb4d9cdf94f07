"""Restoring: beside the database in use, compared, and then put into its place by renaming, all or nothing.

Until that moment the old database is as it was, whatever ends the restore; from then on it waits under another name
until somebody confirms, or takes the restore back. What a killed restore leaves is half a database under a name that
nobody uses; the next one drops it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from interface.errors import BackupError, StoreError
from interface.ops import backup
from interface.ops.backup_manifest import Manifest
from interface.ops.backup_verify import checked, compare, compatible, pour
from interface.settings import Settings
from interface.store import databases, migrate, restored
from interface.store.databases import Replaced, database_name, with_database
from interface.store.db import Connection, open_connection
from interface.store.driver_errors import store_errors
from interface.store.embedded import AlreadyRunning, EmbeddedPostgres, attach
from interface.store.restored import Issued
from interface.store.schema import OWNER_ROLE, SCHEMA

LEAVING_S = 1.0  # how long whoever is still connected may take to go

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done. `replaced`: the database that waits; None where there was none. `applied`: of the schema."""

    name: str
    taken_at: datetime
    age_s: float
    seconds: float
    replaced: str | None
    applied: tuple[str, ...]


async def restore(settings: Settings, name: str | None, identity: Path | None) -> Restored:
    """Put a backup into the place of the database. No daemon may run.

    Raises BackupError, ConfigError or StoreError, and then the database is the one that it was.
    """
    folder = backup.find(settings, name)
    manifest = await asyncio.to_thread(checked, folder)
    compatible(manifest)
    began = time.monotonic()
    async with _server(settings) as (url, connection):
        _new_enough(connection, manifest)
        current = database_name(url)
        making = databases.restoring_name(current)
        await _unused(connection, current)
        old = await _issued(connection, url, current)
        await databases.make_roles(connection)
        await databases.drop(connection, making)
        await databases.create(connection, making, current)
        beside = with_database(url, making)
        try:
            await pour(settings, folder, manifest, identity, beside)
            if differences := await compare(beside, manifest):
                raise BackupError(f"{folder.name} did not come back as it was backed up: {'; '.join(differences)}")
            applied = await migrate.upgrade(beside)
            now = datetime.now(UTC)
            await _go_on(beside, manifest.taken_at, now, old or Issued(), folder.name)
            replaced = await _swap(connection, current, making, now, keep=old is not None)
        except BaseException:
            await asyncio.shield(_dropped(url, making))
            raise
    _log.info("database restored", action="backup.restore", backup=folder.name, replaced=replaced)
    return Restored(
        folder.name, manifest.taken_at, (now - manifest.taken_at).total_seconds(), time.monotonic() - began, replaced,
        tuple(applied),
    )  # fmt: skip


async def take_back(settings: Settings) -> Replaced:
    """Put the database that was replaced last into its place again; the restored one waits then. No daemon may run."""
    async with _server(settings) as (url, connection):
        current = database_name(url)
        waiting = await databases.waiting(connection, current)
        if not waiting:
            raise BackupError("no replaced database waits")
        await _unused(connection, current)
        await _unused(connection, waiting[0].name)
        now, old = datetime.now(UTC), await _issued(connection, url, current)
        again = with_database(url, waiting[0].name)
        await migrate.upgrade(again)
        await _go_on(again, waiting[0].at, now, old or Issued(), "taken back")
        await _swap(connection, current, waiting[0].name, now, keep=old is not None)
    return waiting[0]


async def adopt(settings: Settings, taken_at: datetime) -> None:
    """Let a database go on that was brought back to an earlier moment by other means: WAL, a disk's snapshot."""
    async with _server(settings) as (url, connection):
        await _unused(connection, database_name(url))
        await migrate.upgrade(url)
        await _go_on(url, taken_at, datetime.now(UTC), Issued(), "of the server")


async def replaced(settings: Settings) -> tuple[Replaced, ...]:
    """The databases that wait until somebody confirms, the latest first. Raises ConfigError, StoreError."""
    async with _beside(settings) as (url, connection):
        return await databases.waiting(connection, database_name(url))


async def confirm(settings: Settings) -> tuple[str, ...]:
    """Drop the databases that restores have replaced, and what an interrupted restore left; their names."""
    async with _beside(settings) as (url, connection):
        current = database_name(url)
        names = [one.name for one in await databases.waiting(connection, current)]
        left = databases.restoring_name(current)
        if await databases.exists(connection, left) and not await databases.sessions(connection, left):
            names.append(left)
        for each in names:
            await databases.drop(connection, each)
    return tuple(names)


# ---- the server -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _server(settings: Settings) -> AsyncIterator[tuple[str, Connection]]:
    """The administrator's URL of the database, and a connection beside it, where no daemon has the embedded server."""
    if settings.database.url != "embedded":
        async with _maintenance(settings.database.url) as found:
            yield found
        return
    server = EmbeddedPostgres(settings.state_dir, settings.database.bin_dir)
    try:
        await server.start(lock_wait_s=0.0)
    except AlreadyRunning:
        raise BackupError(f"a daemon runs on {settings.state_dir}: stop it first") from None
    try:
        async with _maintenance(server.url(OWNER_ROLE)) as found:
            yield found
    finally:
        await server.stop()


@asynccontextmanager
async def _beside(settings: Settings) -> AsyncIterator[tuple[str, Connection]]:
    """The same where a daemon may run."""
    if settings.database.url != "embedded":
        async with _maintenance(settings.database.url) as found:
            yield found
        return
    async with attach(settings) as server, _maintenance(server.url(OWNER_ROLE)) as found:
        yield found


@asynccontextmanager
async def _maintenance(url: str) -> AsyncIterator[tuple[str, Connection]]:
    connection = await databases.open_maintenance(url)
    try:
        with store_errors():
            yield url, connection
    finally:
        await connection.close()


def _new_enough(connection: Connection, manifest: Manifest) -> None:
    here = connection.get_server_version().major
    if here < manifest.server_major:
        raise BackupError(
            f"the backup is of PostgreSQL {manifest.server}, and this server is {here}: restore it into one that is "
            "not older"
        )


async def _unused(connection: Connection, name: str) -> None:
    """Raises BackupError where anybody is connected and stays: of a daemon that was stopped some may yet be leaving."""
    for _ in range(20):
        if not (count := await databases.sessions(connection, name)):
            return
        await asyncio.sleep(LEAVING_S / 20)
    raise BackupError(
        f"{count} connection{'s are' if count > 1 else ' is'} open to the database {name}: stop the daemon, and "
        "whatever else uses it"
    )


async def _issued(connection: Connection, url: str, name: str) -> Issued | None:
    """What the database has handed out; None where there is none, or one without a schema."""
    if not await databases.exists(connection, name):
        return None
    try:
        current = await open_connection(url)
    except StoreError:
        return Issued()
    try:
        if await current.fetchval("select to_regnamespace($1) is null", SCHEMA):
            return None
        return await restored.issued(current)
    finally:
        await current.close()


async def _go_on(url: str, taken_at: datetime, now: datetime, old: Issued, name: str) -> None:
    connection = await open_connection(url)
    try:
        with store_errors():
            await restored.go_on(connection, taken_at, now, old, name)
    finally:
        await connection.close()


async def _swap(connection: Connection, current: str, new: str, now: datetime, *, keep: bool) -> str | None:
    """One for the other; the name under which the old one waits."""
    if not await databases.exists(connection, current):
        await databases.rename(connection, {new: current})
        return None
    while await databases.exists(connection, aside := databases.replaced_name(current, now)):
        now += timedelta(seconds=1)  # two restores within one
    await databases.rename(connection, {current: aside, new: current})
    if keep:
        return aside
    await databases.drop(connection, aside)
    return None


async def _dropped(url: str, name: str) -> None:
    """Best effort, on a connection of its own: the other may be in the middle of something."""
    try:
        async with _maintenance(url) as (_, connection):
            await databases.drop(connection, name)
    except Exception as error:
        _log.warning("half a database is left", action="backup.left", database=name, error=type(error).__name__)

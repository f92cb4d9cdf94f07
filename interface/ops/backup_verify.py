"""Whether a backup can be restored: into a server of its own, made for it and thrown away, and compared.

Where the machine has no programs of a server, because the database is on another, the database is made there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from interface.errors import BackupError
from interface.ops import backup, backup_manifest, backup_pipe
from interface.ops.backup_manifest import Manifest
from interface.ops.backup_pipe import Encryption, Run
from interface.settings import Settings
from interface.store import audit_chain, census, databases, migrate
from interface.store.db import Connection, open_connection
from interface.store.driver_errors import store_errors
from interface.store.embedded import DATABASE, EmbeddedPostgres
from interface.store.programs import client_at_least, server_account, server_at_least
from interface.store.schema import APP_ROLE, OWNER_ROLE

_SCRATCH: Final = "verify-"
# What is thrown away need not survive anything.
_HURRIED: Final[Mapping[str, str]] = {
    "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off",
    "wal_level": "minimal", "max_wal_senders": "0", "maintenance_work_mem": "256MB", "max_wal_size": "4GB",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. `age_s`: since it was taken. `seconds`: how long restoring and comparing took; None where only
    the checksum was compared."""

    name: str
    taken_at: datetime
    age_s: float
    bytes: int
    seconds: float | None
    rows: int
    server: str
    differences: tuple[str, ...]


async def verify(
    settings: Settings, name: str | None, identity: Path | None, *, only_checksum: bool = False
) -> Verdict:
    """Restore a backup beside everything and compare it with its manifest.

    Raises BackupError where it cannot even be restored: cut, changed, another key, a newer schema, programs too old.
    """
    folder = backup.find(settings, name)
    manifest = await asyncio.to_thread(checked, folder)
    age_s = (datetime.now(UTC) - manifest.taken_at).total_seconds()
    rows = sum(one.rows for one in manifest.tables.values())
    if only_checksum:
        return Verdict(folder.name, manifest.taken_at, age_s, manifest.stored.bytes, None, rows, "", ())
    compatible(manifest)
    began = time.monotonic()
    async with _scratch(settings, manifest) as (url, server):
        await pour(settings, folder, manifest, identity, url)
        differences = await compare(url, manifest) + await _trails(url, manifest)
    return Verdict(
        folder.name, manifest.taken_at, age_s, manifest.stored.bytes, time.monotonic() - began, rows, server,
        differences,
    )  # fmt: skip


def checked(folder: Path) -> Manifest:
    """The manifest of a backup whose file is as it was written. Raises BackupError."""
    manifest = backup_manifest.read(folder)
    stored = backup_pipe.checksum(folder / manifest.file)
    if stored.bytes < manifest.stored.bytes:
        raise BackupError(f"{folder.name} is cut: {stored.bytes} of {manifest.stored.bytes} bytes are there")
    if stored != manifest.stored:
        raise BackupError(f"{folder.name} was changed: its SHA-256 is not that of the manifest")
    return manifest


def compatible(manifest: Manifest) -> None:
    """Refuse what this program is too old for. Raises BackupError."""
    head = migrate.revisions()[-1]
    if manifest.schema > head:
        raise BackupError(
            f"the backup's schema ({manifest.schema}, of Labora {manifest.labora}) is newer than this program's "
            f"({head}); install the newer program"
        )


@asynccontextmanager
async def _scratch(settings: Settings, manifest: Manifest) -> AsyncIterator[tuple[str, str]]:
    """The URL of an empty database that nobody else uses, and its server's version; gone at the end."""
    programs = await asyncio.to_thread(server_at_least, manifest.server_major, settings.database.bin_dir)
    if programs is None:
        async with _beside(settings, manifest) as found:
            yield found
        return
    _remove_left(settings.state_dir)
    folder = _scratch_folder(settings.state_dir)
    try:
        server = EmbeddedPostgres(folder, programs.bin_dir, _HURRIED)
        await server.start()
        try:
            yield server.url(OWNER_ROLE, DATABASE), programs.version
        finally:
            await server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _scratch_folder(state_dir: Path) -> Path:
    account = server_account(state_dir / "none")
    try:
        state_dir.mkdir(mode=0o755 if account.drop else 0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=state_dir))
    except OSError as error:
        raise BackupError(f"{error.filename or state_dir}: {error.strerror}") from None
    folder.chmod(0o755 if account.drop else 0o700)  # the server's account passes through
    return folder


def _remove_left(state_dir: Path) -> None:
    """What a killed one left: nobody else makes such folders, and a running one has a server on it."""
    for folder in state_dir.glob(f"{_SCRATCH}*"):
        try:
            pid = int((folder / "pg" / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 0)
        except (OSError, ValueError, IndexError):
            if time.time() - folder.stat().st_mtime > 3600:
                shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _beside(settings: Settings, manifest: Manifest) -> AsyncIterator[tuple[str, str]]:
    """A database on the configured server."""
    url = settings.database.url
    if url == "embedded":
        raise BackupError(f"PostgreSQL {manifest.server_major} or newer is not here to restore the backup into")
    name = f"labora_verify_{os.getpid()}"
    connection = await databases.open_maintenance(url)
    try:
        with store_errors():
            await databases.make_roles(connection)
            await databases.create(connection, name, databases.database_name(url))
            try:
                yield databases.with_database(url, name), str(connection.get_server_version().major)
            finally:
                await databases.drop(connection, name)
    finally:
        await connection.close()


async def pour(settings: Settings, folder: Path, manifest: Manifest, identity: Path | None, url: str) -> None:
    """Restore a backup into an empty database. Raises BackupError."""
    programs = await asyncio.to_thread(client_at_least, manifest.client_major, settings.database.bin_dir)
    if programs is None:
        raise BackupError(
            f"the backup was made by pg_dump {manifest.dumped_by}, and no pg_restore here is as new: install the "
            f"package postgresql-client-{manifest.client_major}"
        )
    target, environment = databases.for_programs(url)
    command = [programs.path("pg_restore"), "--exit-on-error", "--no-owner", f"--role={OWNER_ROLE}", "--no-password",
               f"--dbname={target}"]  # fmt: skip
    await run_in_thread(folder / manifest.file, manifest.encryption, identity, command, environment)


async def run_in_thread(
    path: Path, encryption: Encryption, identity: Path | None, command: Sequence[str], environment: Mapping[str, str]
) -> None:
    """`backup_pipe.load` beside the event loop; its processes end when the caller does."""
    run = Run()
    loading = asyncio.create_task(
        asyncio.to_thread(backup_pipe.load, run, path, encryption, identity, command, environment)
    )
    try:
        await asyncio.shield(loading)
    finally:
        run.end()
        await asyncio.wait([loading])


async def compare(url: str, manifest: Manifest) -> tuple[str, ...]:
    """In what a restored database differs from what was backed up."""
    connection = await open_connection(url)
    try:
        with store_errors():
            await analyze(connection)
            role = await census.reader_role(connection)
            if role is not None:
                await connection.execute(f"set role {role}")
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                said = census.differences(manifest.tables, await census.census(connection))
                here = await census.laboratories(connection)
    finally:
        await connection.close()
    if set(here) != set(manifest.laboratories):  # in whichever order their names stand on this server
        said += ("the organizations, or the heads of their audit trails, are others than those backed up",)
    return said


async def analyze(connection: Connection) -> None:
    """Without statistics the first statements of whoever comes next would be planned for empty tables."""
    await connection.execute(f"set role {OWNER_ROLE}")
    await connection.execute("analyze")
    await connection.execute("reset role")


async def _trails(url: str, manifest: Manifest) -> tuple[str, ...]:
    """Whether each audit trail is what was sealed, up to the head of that moment."""
    said: list[str] = []
    for one in manifest.laboratories:
        connection = await open_connection(url, role=APP_ROLE, organization_id=one.id)
        try:
            with store_errors():
                verdict = await audit_chain.verify(connection, one.id, [one.audit_head] if one.audit_head else [])
        finally:
            await connection.close()
        said += (f"audit trail of {one.name}: segment {each.segment}: {each.what}" for each in verdict.findings)
    return tuple(said)

"""Backups of the database: making them, listing them, keeping so many.

What `pg_dump` writes and what the manifest counts are of one snapshot. A backup gets its name when it is whole and on
the disk; what an interrupted one leaves has another name and goes with the next.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from interface import __version__
from interface.domain.views import Actor, ActorKind
from interface.errors import BackupError
from interface.ops import backup_manifest, backup_pipe, backup_upload
from interface.ops.backup_manifest import DUMP, MANIFEST, PART, SUMS, Manifest
from interface.ops.backup_pipe import Encryption, Run
from interface.settings import BackupSettings, DatabaseSettings, Settings
from interface.store import audit, census, databases
from interface.store.databases import for_programs
from interface.store.db import Connection, open_connection
from interface.store.driver_errors import store_errors
from interface.store.embedded import login_url
from interface.store.programs import Programs, client_at_least
from interface.store.schema import OWNER_ROLE, SCHEMA

_LOCK: Final = ".lock"
_APART: Final = timedelta(hours=1)  # of the database's clock, by which backups are dated, and this machine's


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """A backup as its folder says. `whole`: the dump is as long as it was; its checksum was not read."""

    name: str
    path: Path
    taken_at: datetime
    bytes: int
    encryption: Encryption
    schema: str
    labora: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was just made. `uploaded`: where a copy is; `problem`: why there is none, though one is wanted.
    `deleted`: the names of those that were kept long enough."""

    info: BackupInfo
    manifest: Manifest
    seconds: float
    uploaded: str
    problem: str
    deleted: tuple[str, ...]


def directory(settings: Settings) -> Path:
    """Where backups are."""
    return settings.backup.directory or settings.state_dir / "backups"


def found(settings: Settings) -> tuple[BackupInfo, ...]:
    """Every backup there is, the newest first; a folder whose manifest cannot be read is passed over."""
    return tuple(_found(directory(settings), datetime.now(UTC)))


def newest(settings: Settings, now: datetime | None = None) -> BackupInfo | None:
    """The newest backup that is whole, for whoever asks for its age; reads no dump. Raises BackupError where the folder
    may not be read."""
    return next((one for one in _found(directory(settings), now or datetime.now(UTC)) if one.whole), None)


def dated_ahead(taken_at: datetime, now: datetime) -> bool:
    """Whether a clock was wrong when it was made, or is: nobody knows how old it is."""
    return taken_at > now + _APART


def _found(folder: Path, now: datetime) -> list[BackupInfo]:
    """The newest first. One that is dated ahead comes last: it would be the newest for years, to who restores too."""
    try:
        names = [entry.name for entry in os.scandir(folder) if backup_manifest.is_name(entry.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BackupError(f"{folder}: {error.strerror}") from None
    infos = []
    for name in names:
        with suppress(BackupError):
            infos.append(info_of(folder / name, backup_manifest.read(folder / name)))
    return sorted(infos, key=lambda one: (not dated_ahead(one.taken_at, now), one.taken_at, one.name), reverse=True)


def info_of(folder: Path, manifest: Manifest) -> BackupInfo:
    """What a list shows of a backup."""
    try:
        whole = (folder / manifest.file).stat().st_size == manifest.stored.bytes
    except OSError:
        whole = False
    return BackupInfo(
        folder.name, folder, manifest.taken_at, manifest.stored.bytes, manifest.encryption, manifest.schema,
        manifest.labora, whole,
    )  # fmt: skip


def find(settings: Settings, name: str | None) -> Path:
    """The folder of a backup by its name or path; without one the newest that is whole. Raises BackupError."""
    if name is not None:
        path = Path(name) if "/" in name else directory(settings) / name
        if not path.is_dir():
            raise BackupError(f"there is no backup {path}")
        return path
    latest = newest(settings)
    if latest is None:
        raise BackupError(f"there is no backup in {directory(settings)}")
    return latest.path


# ---- making one -----------------------------------------------------------------------------------------------------


async def create(settings: Settings) -> Made:
    """Make a backup, then delete what was kept long enough. Raises BackupError, ConfigError, StoreUnavailable."""
    _of_the_daemon(settings.database)
    encryption, recipients = _encryption(settings.backup)
    backup_pipe.check_recipients(encryption, recipients)
    if settings.backup.upload is not None:
        backup_upload.check_keys(settings.backup.upload)
    folder = directory(settings)
    began = datetime.now(UTC)
    with _alone(folder):
        part = _new_part(folder)
        try:
            async with login_url(settings) as url:
                manifest = await _dumped(settings, url, part, encryption, recipients)
                _finish(part, manifest)
                path = _free(part.parent, manifest.taken_at)
                await _told(url, path.name, manifest)  # before it is one: none leaves without a row in every trail
            _name(part, path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        info = info_of(path, manifest)
        uploaded, problem = await asyncio.to_thread(_uploaded, settings.backup, path, manifest)
        deleted = await asyncio.to_thread(_prune, settings.backup, folder, datetime.now(UTC))
    return Made(info, manifest, (datetime.now(UTC) - began).total_seconds(), uploaded, problem, deleted)


def _of_the_daemon(database: DatabaseSettings) -> None:
    """A backup of another database looks well each night and helps nobody: a server's owner.env may still be of the one
    that was installed, while the daemon works on one elsewhere. Raises BackupError."""
    if "embedded" in (database.url, database.daemon_url or "embedded"):
        return
    asked, daemons = databases.place(database.url), databases.place(database.daemon_url)
    if asked != daemons:
        raise BackupError(
            f"LABORA_DATABASE_URL is of {asked}, and the daemon works on {daemons}, as its configuration or credential"
            " says: a backup must be of that one. On a server it is /etc/labora/owner.env that names it, as its owner"
        )


def _uploaded(settings: BackupSettings, path: Path, manifest: Manifest) -> tuple[str, str]:
    """A backup that was not copied is one all the same."""
    if settings.upload is None:
        return "", ""
    try:
        return backup_upload.upload(settings.upload, path, manifest.file), ""
    except BackupError as error:
        return "", str(error)


def _encryption(settings: BackupSettings) -> tuple[Encryption, Sequence[str]]:
    if settings.recipients:
        return Encryption.AGE, settings.recipients
    if settings.gpg_recipients:
        return Encryption.GPG, settings.gpg_recipients
    return Encryption.NONE, ()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time in a folder; it is made where it is missing. Raises BackupError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupError(f"{error.filename}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another backup is being made in {folder}") from None
        yield
    finally:
        os.close(descriptor)


def _new_part(folder: Path) -> Path:
    """A folder for what is not whole yet; what interrupted ones have left goes."""
    for entry in os.scandir(folder):
        if entry.name.endswith(PART) and backup_manifest.is_name(entry.name.removesuffix(PART).lstrip(".")):
            shutil.rmtree(entry.path, ignore_errors=True)
    part = folder / f".{backup_manifest.name_of(datetime.now(UTC))}{PART}"
    try:
        part.mkdir(mode=0o700)
    except OSError as error:
        raise BackupError(_no_room(folder, error)) from None
    return part


def _no_room(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room is left on the disk of {folder}: nothing was kept there"
    return f"{error.filename or folder}: {error.strerror}"


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[tuple[Connection, str | None, str]]:
    """A connection that sees everything as it is now, in whose role, and the name of its snapshot for others."""
    connection = await open_connection(url)
    try:
        with store_errors():
            role = await census.reader_role(connection)
            if await connection.fetchval("select to_regclass($1) is null", f"{SCHEMA}.alembic_version"):
                raise BackupError("the database has no Labora schema: there is nothing to back up")
            if role is not None:
                await connection.execute(f"set role {role}")
            # It waits for whatever writes the dump, however long that takes.
            await connection.execute("set idle_in_transaction_session_timeout = 0")
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection, role, await connection.fetchval("select pg_export_snapshot()")
    finally:
        await connection.close()


async def _dumped(
    settings: Settings, url: str, part: Path, encryption: Encryption, recipients: Sequence[str]
) -> Manifest:
    file, run = DUMP + encryption.suffix, Run()
    async with _snapshot(url) as (connection, role, snapshot):
        taken_at: datetime = await connection.fetchval("select now()")  # of the transaction: before its snapshot
        server: str = await connection.fetchval("select current_setting('server_version')")
        schema: str = await connection.fetchval(f"select version_num from {SCHEMA}.alembic_version")  # noqa: S608
        programs = await asyncio.to_thread(_client, settings, int(server.split(".")[0]))
        target, environment = for_programs(url)
        command = [programs.path("pg_dump"), "--format=custom", "--compress=1", f"--schema={SCHEMA}", "--no-password",
                   "--lock-wait-timeout=60s", f"--snapshot={snapshot}", f"--dbname={target}"]  # fmt: skip
        dumping = asyncio.create_task(
            asyncio.to_thread(
                backup_pipe.dump, run, [*command, *([f"--role={role}"] if role else [])], environment, part / file,
                encryption, recipients,
            )
        )  # fmt: skip
        try:
            tables = await census.census(connection)
            laboratories = await census.laboratories(connection)
            stored = await asyncio.shield(dumping)
        finally:
            run.end()
            await asyncio.wait([dumping])
    return Manifest(
        taken_at, datetime.now(UTC), __version__, schema, server.split(" ")[0], programs.version, file, stored,
        encryption, tables, laboratories,
    )  # fmt: skip


def _client(settings: Settings, major: int) -> Programs:
    programs = client_at_least(major, settings.database.bin_dir)
    if programs is None:
        raise BackupError(f"pg_dump of PostgreSQL {major} is not here: install the package postgresql-client-{major}")
    return programs


def _finish(part: Path, manifest: Manifest) -> None:
    """Everything on the disk, before it gets its name."""
    said = backup_manifest.write(manifest)
    try:
        _write(part / MANIFEST, said)
        checked = backup_pipe.checksum(part / MANIFEST)
        sums = f"{manifest.stored.sha256}  {manifest.file}\n{checked.sha256}  {MANIFEST}\n"
        _write(part / SUMS, sums.encode())
        _sync(part)
    except OSError as error:
        raise BackupError(_no_room(part.parent, error)) from None


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(folder: Path, at: datetime) -> Path:
    number = 0
    while (path := folder / backup_manifest.name_of(at, number)).exists():
        number += 1
    return path


def _name(part: Path, path: Path) -> None:
    part.rename(path)
    _sync(path.parent)


async def _told(url: str, name: str, manifest: Manifest) -> None:
    """All records of every laboratory are in it: each one's audit trail says so."""
    detail = {
        "backup": name, "sha256": manifest.stored.sha256, "encryption": manifest.encryption.value,
        "results": str(manifest.tables["result"].rows),
    }  # fmt: skip
    connection = await open_connection(url)
    try:
        with store_errors():
            async with connection.transaction():
                await connection.execute(f"set local role {OWNER_ROLE}")
                for one in manifest.laboratories:
                    await connection.execute("select set_config('labora.org', $1, true)", str(one.id))
                    actor = Actor(ActorKind.SETUP, None, "command line", one.id)
                    await audit.record(connection, actor, "backup", "database", None, detail)
    finally:
        await connection.close()


# ---- keeping so many ------------------------------------------------------------------------------------------------


def _prune(settings: BackupSettings, folder: Path, now: datetime) -> tuple[str, ...]:
    """Delete the backups that are neither young nor among the last; the newest good one stays, whatever it is."""
    there = _found(folder, now)
    kept = {one.name for one in there[: settings.keep_number]}
    kept |= {one.name for one in there if one.taken_at > now - timedelta(days=settings.keep_days)}
    old = [one for one in there if one.name not in kept]
    if not old:
        return ()
    good = next((one.name for one in there if _good(one.path)), None)
    deleted = []
    for one in old:
        if good is not None and one.name != good and _delete(one.path):
            deleted.append(one.name)
    _sync(folder)
    return tuple(deleted)


def _good(folder: Path) -> bool:
    """Whether what is in it is what was written, read from its beginning to its end."""
    with suppress(BackupError):
        manifest = backup_manifest.read(folder)
        return backup_pipe.checksum(folder / manifest.file) == manifest.stored
    return False


def _delete(folder: Path) -> bool:
    """Delete a backup's own files, the manifest first: what is left without one is no backup. Others' stay."""
    try:
        file = backup_manifest.read(folder).file
        for name in (MANIFEST, file, SUMS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except (OSError, BackupError):
        return False
    return True

"""Bulk exports: jobs that write what a client may read into files, a type after the other.

Read page by page in the order of the last change, written as it comes: memory stays as it is, however much there is.
What changes while it is read is found at its new place, twice perhaps, or by the next export with `_since`: that asks
`store.changes.changed_since`, so that a transaction that was under way is in one of the two. A process that stops or
dies leaves the types that it has finished; another goes on with the next, or the job says that it failed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from interface.domain.permissions import granted, parse_scopes
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError, StoreError
from interface.flow.feed import Feed
from interface.flow.subscriptions import Parameters, read_criteria, within
from interface.render.json import dumps
from interface.store import audit, changes
from interface.store import exports as rows
from interface.store.db import Connection, Database
from interface.store.exports import ExportFile, ExportJob
from interface.store.ids import uuid7

_WALK: Final = "set local plan_cache_mode = force_generic_plan; set local random_page_cost = 1.1"
PAGE: Final = 500
LEASE_S: Final = 60.0  # a page takes far less
KEPT_S: Final = 86400.0
TIDIED_EVERY_S: Final = 3600.0
LOOK_S: Final = 1.0
MOST_ATTEMPTS: Final = 3
MOST_OF_A_CLIENT, MOST_OF_ALL = 2, 8  # jobs that are not at an end
MOST_KEPT: Final = 4  # of a client's that are, while it has another made: each is as large as what it may read

log = structlog.get_logger(__name__)


class Exported(Protocol):
    @property
    def resource(self) -> dict[str, Any]: ...
    @property
    def patient_id(self) -> UUID | None: ...


class Paging(Protocol):
    """Reads resources page by page, as an EMR would by search (`api.fhir.reading`)."""

    def of(self, scopes: Any) -> Paging: ...

    async def page(
        self,
        connection: Connection,
        type: str,
        parameters: Parameters,
        since: datetime | None,
        after: Any,
        limit: int,
        within: Sequence[Parameters],
    ) -> tuple[Sequence[Exported], Any]: ...


class _Stopped(Exception):
    """The job is not ours any more: it was cancelled."""


class Exporter:
    """Of all organizations that the feed knows, one job at a time. `folder`: for the files; nobody else may read it."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        reading: Paging,
        folder: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database, self._feed, self._reading, self._folder, self._now = database, feed, reading, folder, now
        self.holder = uuid7()
        self._tidy_at = now()

    async def run(self) -> None:
        """Work until cancelled; what is under way then is gone on with by whoever comes next."""
        while True:
            for organization_id in self._feed.organizations:
                try:
                    while await self.work(organization_id):
                        pass
                    await self.sweep(organization_id)
                except StoreError as error:
                    log.warning("exports wait", action="export.store", error=error.slug)
                except OSError as error:
                    log.error("exports cannot be written", action="export.folder", error=type(error).__name__)
                except Exception as error:  # nor must a fault of ours end it for all, and subscriptions beside it
                    log.error("exports wait", action="export.store", exc_info=error)
            if self._now() >= self._tidy_at:
                self._tidy_at = self._now() + timedelta(seconds=TIDIED_EVERY_S)
                try:
                    await asyncio.to_thread(self.tidy)
                except OSError as error:
                    log.error("exports cannot be tidied", action="export.folder", error=type(error).__name__)
            await asyncio.sleep(LOOK_S)

    async def work(self, organization_id: UUID) -> bool:
        """One job, to its end; False when there is none. Raises StoreError, OSError."""
        async with self._database.transaction(organization_id) as connection:
            end = await changes.last_position(connection)
            job = await rows.claim(connection, self.holder, self._now(), self._until(), end)
        if job is None:
            return False
        actor = Actor(ActorKind.CLIENT, job.client_id, job.client, organization_id)
        try:
            if job.attempts > MOST_ATTEMPTS:
                await self._end(job, actor, "failed", f"it was begun {MOST_ATTEMPTS} times and never came to its end")
            elif job.client_disabled:
                await self._end(job, actor, "failed", "its client is disabled")
            else:
                await self._export(job, organization_id)
                await self._end(job, actor, "completed", "")
        except _Stopped:
            log.info("export was cancelled", action="export.cancelled", job=str(job.id))
        except (asyncio.CancelledError, StoreError):
            await asyncio.shield(self._release(job, organization_id))
            raise
        except ApiError as error:
            await self._end(job, actor, "failed", str(error))
        except Exception:
            log.error("export failed", action="export.failed", job=str(job.id), exc_info=True)
            await self._end(job, actor, "failed", f"something went wrong inside; the log has it as {job.id}")
        return True

    async def _release(self, job: ExportJob, organization_id: UUID) -> None:
        try:
            async with self._database.transaction(organization_id) as connection:
                await rows.release(connection, job.id, self.holder)
        except StoreError as error:
            log.warning("export waits until its claim ends", action="export.store", error=error.slug)

    async def _end(self, job: ExportJob, actor: Actor, state: str, error: str) -> None:
        expires_at = self._now() + timedelta(seconds=KEPT_S)
        async with self._database.transaction(actor.organization_id) as connection:
            if await rows.end(connection, job.id, self.holder, state, error, expires_at):
                detail = {"state": state, "types": " ".join(job.types)} | ({"error": error} if error else {})
                await audit.record(connection, actor, "export", "export", job.id, detail)

    def folder_of(self, id: UUID) -> Path:
        return self._folder / str(id)

    # ---- the files --------------------------------------------------------------------------------------------------

    async def _export(self, job: ExportJob, organization_id: UUID) -> None:
        folder = self.folder_of(job.id)
        await asyncio.to_thread(_made, self._folder, folder)
        scopes = tuple(map(str, granted(parse_scopes(job.scopes), parse_scopes(job.client_scopes))))
        since = job.since
        if since is not None:
            async with self._database.organization(organization_id) as connection:
                position = await rows.position_at(connection, job.client_id, since)
                since = await changes.changed_since(connection, since, position)
        filters = dict(map(read_criteria, job.filters))
        files = list(job.files) if await asyncio.to_thread(_are_there, folder, job.files) else []
        progress = sum(one.count for one in files)
        for type in job.types[len(files) :]:  # a file for each that is finished, an empty one too
            narrowed = within(scopes, type)
            if not narrowed:
                raise ApiError(403, "forbidden", f"the client may not read {type} any more")
            name = f"{len(files) + 1}.{type}.ndjson"
            count = await self._file(
                job, organization_id, folder / name, type, filters.get(type, ()), since, scopes, narrowed, progress
            )
            files.append(ExportFile(type, name, count))
            progress += count
            async with self._database.transaction(organization_id) as connection:
                if not await rows.note_files(connection, job.id, self.holder, files):
                    raise _Stopped

    async def _file(
        self,
        job: ExportJob,
        organization_id: UUID,
        path: Path,
        type: str,
        parameters: Parameters,
        since: datetime | None,
        scopes: Sequence[str],
        narrowed: Sequence[Parameters],
        progress: int,
    ) -> int:
        """The resources of one type; returns how many. The file has its name when it is whole and on disk."""
        reading, after, count = self._reading.of(scopes), None, 0
        part = path.with_suffix(".part")
        descriptor = await asyncio.to_thread(os.open, part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            while True:
                async with walking(self._database, organization_id) as connection:
                    found, after = await reading.page(connection, type, parameters, since, after, PAGE, narrowed)
                kept = [one for one in found if job.level == "system" or one.patient_id is not None]
                await asyncio.to_thread(file.write, b"".join(dumps(one.resource) + b"\n" for one in kept))
                count += len(kept)
                async with self._database.transaction(organization_id) as connection:
                    if not await rows.note_progress(connection, job.id, self.holder, progress + count, self._until()):
                        raise _Stopped
                if after is None:
                    break
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await asyncio.to_thread(os.replace, part, path)
        return count

    def _until(self) -> datetime:
        return self._now() + timedelta(seconds=LEASE_S)

    async def sweep(self, organization_id: UUID) -> None:
        """Remove the files of what is over."""
        async with self._database.organization(organization_id) as connection:
            over = await rows.expired(connection, self._now())
        for id in over:
            await asyncio.to_thread(shutil.rmtree, self.folder_of(id), True)
            async with self._database.organization(organization_id) as connection:
                await rows.note_removed(connection, id)

    def tidy(self) -> None:
        """Remove what no sweep has come to: of a laboratory that nobody has asked for since the start, or of an export
        that a daemon on another machine has swept."""
        before = (self._now() - timedelta(seconds=2 * KEPT_S)).timestamp()
        for folder in self._folder.glob("*"):
            try:
                written = max(one.stat().st_mtime for one in (folder, *folder.glob("*")))
            except OSError:
                continue  # it goes just now
            if written < before:
                log.info("files of an export that is over", action="export.tidied", job=folder.name)
                shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def walking(database: Database, organization_id: UUID) -> AsyncIterator[Connection]:
    """A transaction that reads a page as a search does, along the index that has its order, and may take its time: as
    planned for its values, each page of reports would put in order all that are left."""
    async with database.transaction(organization_id) as connection:
        await connection.execute(_WALK)
        yield connection


def _are_there(folder: Path, files: Sequence[ExportFile]) -> bool:
    """Not where they were made on another machine, or too long ago."""
    return all((folder / one.name).is_file() for one in files)


def _made(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)


# ---- what a client asks for -----------------------------------------------------------------------------------------


async def begin(
    connection: Connection,
    actor: Actor,
    request: str,
    level: str,
    types: Sequence[str],
    filters: Mapping[str, str],
    since: datetime | None,
) -> UUID:
    """A new job. Raises ApiError 429 where too many are not at an end."""
    assert actor.id is not None  # noqa: S101 - a client has one
    if (
        await rows.waiting(connection, actor.id) >= MOST_OF_A_CLIENT
        or await rows.waiting(connection) >= MOST_OF_ALL
    ):  # fmt: skip
        raise ApiError(429, "throttled", "too many exports are under way; ask again when one has ended")
    await rows.expire_older(connection, actor.id, MOST_KEPT)
    id = await rows.insert(
        connection, actor.organization_id, actor.id, request, level, types, list(filters.values()), since,
        sorted(actor.scopes),
    )  # fmt: skip
    detail = {"level": level, "types": " ".join(types)}
    await audit.record(connection, actor, "create", "export", id, detail)
    return id


async def own(connection: Connection, actor: Actor, id: UUID) -> ExportJob:
    """The client's job. Raises ApiError 404 for what is not there, or not any more."""
    job = await rows.find(connection, id)
    if job is None or job.client_id != actor.id or job.state == "cancelled" or job.removed_at is not None:
        raise ApiError(404, "not-found", "there is no export of this id, or it is over")
    return job


async def cancel(connection: Connection, actor: Actor, id: UUID) -> None:
    """End it, and have its files removed. Raises ApiError 404."""
    await own(connection, actor, id)
    await rows.cancel(connection, id)
    await audit.record(connection, actor, "delete", "export", id)

"""What was kept long enough is deleted by the schema's owner: once a day by a daemon that may, or `labora db maintain`.

How old something is, is not the clock's to say alone: a time in which nothing was stored counts as a week at most
(`proven`). So a clock that is years ahead makes nothing more than a week older.

Each month of frames and audit rows is one transaction, and each few thousand rows of anything else: killed in the
middle, it goes on the next time where it was. A run takes one month that holds something, the oldest, of each: that is
all there is to take where it runs every day.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import asyncpg
import structlog

from interface.errors import ConfigError, StoreError
from interface.settings import RetentionSettings, Settings
from interface.store import retention
from interface.store.db import Connection, open_connection
from interface.store.driver_errors import DRIVER_ERRORS, store_errors
from interface.store.embedded import EmbeddedPostgres
from interface.store.migrate import may_upgrade
from interface.store.retention import BATCH, Deleted, Kind, Month
from interface.store.schema import OWNER_ROLE

SILENCE: Final = timedelta(days=7)  # a laboratory that is closed for longer keeps its data for so much longer
FIRST_S, PAUSE_S = 900.0, 86_400.0  # a start has other things to do
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PASSING: Final = (StoreError, ConfigError, *DRIVER_ERRORS)
_IN_USE: Final = "in use; the next time"

_log = structlog.get_logger(__name__)


def months_before(now: datetime, months: int) -> datetime:
    """The first instant of the month so many months ago."""
    at = now.astimezone(UTC)
    index = at.year * 12 + at.month - 1 - months
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


class Proven:
    """How long ago something was, by the days on which something was stored: `days`, the last first, are drawn as they
    are needed."""

    def __init__(self, now: datetime, days: AsyncIterator[datetime]) -> None:
        self._days = days
        self._passed = [(timedelta(0), now)]  # so much time has passed for certain since then

    async def since(self, wanted: datetime) -> datetime:
        """The instant since which as much time has passed for certain as the clock says has passed since `wanted`;
        that one itself where there was no silence. 1970 where there never was as much."""
        period = self._passed[0][1] - wanted
        while self._passed[-1][0] < period:
            passed, at = self._passed[-1]
            day = await anext(self._days, None)
            if day is None:
                return at - (period - passed) if period - passed <= SILENCE else _NEVER
            self._passed.append((passed + min(at - day, SILENCE), day))
        for (before, later), (after, _) in pairwise(self._passed):
            if period <= after:
                return later - (period - before)
        return wanted


async def deleted(url: str, settings: RetentionSettings, now: datetime, *, dry_run: bool) -> AsyncIterator[Deleted]:
    """Delete what was kept long enough, saying each step when it is done. The login must be the owner or a member.

    `dry_run`: nothing is deleted, and what would be is said.
    """
    connection = await open_connection(url)
    try:
        with store_errors():
            laboratories = await retention.organizations(connection)
            async with aclosing(retention.lived_days(connection, laboratories, now)) as days:
                async for one in _by_class(connection, settings, now, Proven(now, days), dry_run):
                    yield one
            if not dry_run:
                for each in laboratories:
                    await retention.forget_assertions(connection, each, now)
    finally:
        await connection.close()


async def _by_class(
    connection: Connection, settings: RetentionSettings, now: datetime, proven: Proven, dry_run: bool
) -> AsyncIterator[Deleted]:
    if settings.frames_months:
        before = await proven.since(months_before(now, settings.frames_months))
        async for one in _frames(connection, before, dry_run):
            yield one
    if settings.audit_months:
        before = await proven.since(months_before(now, settings.audit_months))
        async for one in _audit(connection, before, dry_run):
            yield one
    for kind, wanted in _limits(settings, now):
        async for one in _rows(connection, kind, await proven.since(wanted), dry_run):
            yield one


def _limits(settings: RetentionSettings, now: datetime) -> list[tuple[Kind, datetime]]:
    days = {
        Kind.WIRE_LOG: settings.wire_log_days, Kind.EXPORTS: settings.exports_days, Kind.TOKENS: settings.tokens_days,
    }  # fmt: skip
    found = [(kind, now - timedelta(days=number)) for kind, number in days.items() if number]
    months = {Kind.FEED: settings.feed_months, Kind.ALERTS: settings.alerts_months}
    return found + [(kind, months_before(now, number)) for kind, number in months.items() if number]


async def _frames(connection: Connection, before: datetime, dry_run: bool) -> AsyncIterator[Deleted]:
    for month in await retention.months(connection, "frame", before):
        done = await _month(retention.drop_frames, connection, month, Kind.FRAMES, dry_run)
        if done != _nothing(done):
            yield done
            if not dry_run and done.why != retention.ALL_STAYS:
                before = month.stop
                break
    for each in await retention.organizations(connection):
        swept = await retention.sweep_frames(connection, each, before, dry_run=dry_run)
        if swept.rows:
            yield swept


async def _audit(connection: Connection, before: datetime, dry_run: bool) -> AsyncIterator[Deleted]:
    """In order, and none after one that stays: a trail is cut at its beginning only."""
    for month in await retention.months(connection, "audit_event", before):
        done = await _month(retention.drop_audit, connection, month, Kind.AUDIT, dry_run)
        if done != _nothing(done):
            yield done
        if done.why or (done.rows and not dry_run):
            return


def _nothing(done: Deleted) -> Deleted:
    """The same step, of a month in which nothing was."""
    return Deleted(done.kind, done.name, 0, 0)


async def _month(
    drop: Callable[..., object], connection: Connection, month: Month, kind: Kind, dry_run: bool
) -> Deleted:  # fmt: skip
    try:
        done = await drop(connection, month, dry_run=dry_run)  # type: ignore[misc]
    except asyncpg.LockNotAvailableError:  # somebody reads it for long: a backup
        return Deleted(kind, month.name, 0, 0, _IN_USE)
    assert isinstance(done, Deleted)  # noqa: S101
    return done


async def _rows(connection: Connection, kind: Kind, before: datetime, dry_run: bool) -> AsyncIterator[Deleted]:
    for each in await retention.organizations(connection):
        for table in retention.tables(kind):
            while True:
                done = await retention.delete_rows(connection, kind, table, each, before, dry_run=dry_run)
                if done.rows:
                    yield done
                if dry_run or done.rows < BATCH:
                    break


async def keep(settings: Callable[[], Settings], server: EmbeddedPostgres | None) -> None:
    """Once a day, for as long as the daemon runs, where its login may."""
    owner_url = settings().database.url if server is None else server.url(OWNER_ROLE)
    pause_s = FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = PAUSE_S
        try:
            if not await may_upgrade(owner_url):
                return
            async for one in deleted(owner_url, settings().retention, datetime.now(UTC), dry_run=False):
                _log.info(
                    "deleted what was kept long enough", action="retention.delete", kind=one.kind, what=one.name,
                    rows=one.rows, kept=one.kept, why=one.why,
                )  # fmt: skip
        except _PASSING as error:
            _log.warning("retention not done", action="retention.delete", reason=str(error))

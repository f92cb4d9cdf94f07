"""The daemon's alerts: looks for what is wrong, decides who is told, sends; goes on where the database does not.

Settings and roster are put in at SIGHUP (`configure`). What several daemons on one database could do twice is claimed
in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from interface.domain.alerts import AlertKind, Subject
from interface.domain.roster import Roster
from interface.errors import StoreError
from interface.flow import alerting
from interface.ops import alert_watch
from interface.ops.alert_desk import AlertDesk
from interface.ops.alert_sender import AlertSender
from interface.ops.alert_teller import tell
from interface.ops.alert_watch import LinkHeard, Look
from interface.ops.notices import tell_of_orders
from interface.settings import AlertSettings, ChannelSettings
from interface.store import alerts as store
from interface.store.db import Database

LOOK_S: Final = 10.0
LONG_LOOK: Final = timedelta(minutes=1)
SEND_S: Final = 5.0  # for what is due again; what is new is sent at once
DATABASE: Final = Subject("database", "")

log = structlog.get_logger(__name__)


class AlertCenter:
    """`organizations`: those this daemon works for, with their names; `available`: whether commits come about."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        organizations: Callable[[], Mapping[UUID, str]],
        links: Callable[[], Mapping[UUID, Sequence[LinkHeard]]],
        available: Callable[[], bool] = lambda: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database, self._organizations, self._links = database, organizations, links
        self._available, self._now = available, now
        self._alerts, self._roster = AlertSettings(), Roster()
        self._channels: dict[str, ChannelSettings] = {}
        self._desk = AlertDesk(folder)
        self._sender = AlertSender(database, lambda: self._channels, now)
        self._made = asyncio.Event()
        self._down_since: datetime | None = None
        self._told: dict[UUID, set[tuple[AlertKind, Subject]]] = {}  # of what stands, as the database said last
        self._looked_long: dict[UUID, datetime] = {}

    def configure(self, alerts: AlertSettings, roster: Roster) -> None:
        self._alerts, self._roster = alerts, roster
        self._channels = {channel.id: channel for channel in alerts.channels}

    async def settle(self, organization_id: UUID, kind: AlertKind, found: Mapping[Subject, str]) -> None:
        """As `flow.alerting.settle`; what the database does not take is told without it. Never raises StoreError."""
        if self._down_since is None:  # else it may take this all the same, and no message: its disk is full
            try:
                async with self._database.transaction(organization_id) as connection:
                    await alerting.settle(connection, organization_id, kind, found)
                return
            except StoreError:
                pass
        told = {subject for of, subject in self._told.get(organization_id, ()) if of is kind}
        self._desk.settle(organization_id, kind, found, told, self._now())

    async def look(self) -> None:
        """One round for every organization; what the database does not take is told without it."""
        now = self._now()
        down = not self._available()
        for organization_id, name in self._organizations().items():
            try:
                await self._round(organization_id, name, now, down)
            except StoreError as error:
                down = True
                log.warning("alerts not looked after", action="alert.look", error=error.slug)
            except Exception as error:  # a fault of ours in one laboratory must not end it for the others
                log.error("alerts not looked after", action="alert.look", exc_info=error)
        try:
            await self._database_is(down, now)
        except Exception as error:  # nobody would be told of anything any more, until the next start
            log.error("alerts not looked after", action="alert.look", exc_info=error)

    async def _round(self, organization_id: UUID, name: str, now: datetime, down: bool) -> None:
        links = self._links().get(organization_id, ())
        if not down:
            self._desk.settle(organization_id, AlertKind.DATABASE, {}, set(), now)
        async with self._database.transaction(organization_id) as connection:
            stored = [] if down else await self._desk.store(connection, organization_id, now)
            if not down:
                await alerting.settle(connection, organization_id, AlertKind.DATABASE, {}, mine=DATABASE.__eq__)
        self._desk.forget(stored)
        looks = alert_watch.looks(organization_id, self._alerts, self._roster, links, now)
        last = self._looked_long.get(organization_id)
        if last is None or not last <= now < last + LONG_LOOK:  # the clock may have been put back
            self._looked_long[organization_id] = now
            looks += alert_watch.long_looks(self._alerts, now)
        missed = False
        for look in looks:
            missed |= not await self._look(organization_id, look, missed)
        async with self._database.transaction(organization_id) as connection:
            elsewhere = self._desk.holds(organization_id)
            made = await tell(connection, organization_id, name, self._alerts, self._roster, now, elsewhere)
            told = await store.told(connection)
        self._told[organization_id] = told
        if made:
            self._made.set()
        async with self._database.transaction(organization_id) as connection:
            made = await tell_of_orders(connection, organization_id, name, self._alerts, self._roster, now)
        if made:
            self._made.set()

    async def _look(self, organization_id: UUID, look: Look, missed: bool) -> bool:
        """By a transaction of its own: neither a fault of ours in one nor that the database does not answer one in time
        keeps another alert from being told. Where it is gone, who tells says so, and so where it answers a second of a
        round no more (`missed`): its disk is full. Whether it answered."""
        try:
            async with self._database.transaction(organization_id) as connection:
                for kind, found in (await look(connection)).items():
                    await alerting.settle(connection, organization_id, kind, found)
        except StoreError as error:
            if missed or not self._available():
                raise
            log.error("alerts not looked after", action="alert.look", error=error.slug)
            return False
        except Exception as error:
            log.error("alerts not looked after", action="alert.look", exc_info=error)
        return True

    async def _database_is(self, down: bool, now: datetime) -> None:
        """An alert while it does not serve: told directly after a while, and stored when it serves again."""
        names = self._organizations()
        if down and (self._down_since is None or self._down_since > now):
            self._down_since = now
        elif not down:
            self._down_since = None
        for organization_id in names if down else ():
            found = {DATABASE: "What analyzers send is refused until it does"}
            self._desk.settle(organization_id, AlertKind.DATABASE, found, set(), now)
        waited_s = (now - self._down_since).total_seconds() if self._down_since else 0.0
        if self._down_since is not None and waited_s >= self._alerts.database_after_s:
            await self._desk.tell(self._channels, names, self._roster, now)

    async def send(self) -> None:
        """Try what is due. A channel that hangs keeps nobody else waiting for longer than its own `wait_s`."""
        for organization_id in self._organizations():
            try:
                while await self._sender.serve(organization_id):
                    pass
            except StoreError:
                continue  # `look` says so
            except Exception as error:
                log.error("alerts not sent", action="alert.send", exc_info=error)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._looking())
            group.create_task(self._sending())

    async def _looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)  # first: a start has other things to do
            await self.look()

    async def _sending(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SEND_S):
                    await self._made.wait()
            self._made.clear()
            await self.send()

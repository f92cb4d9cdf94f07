"""Sends the messages that wait, in order for each address, at least once, with one key however often.

A message is claimed, tried once and noted; while the database does not take what came of it, that is remembered.
Whoever dies in between has it sent again, under the same key. A failure is
waited out, longer each time; after FALTERS of them the channel itself is an alert, told by whatever else the roster
has, until it takes a message again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from interface.domain.alerts import AlertKind, Subject
from interface.errors import DeliveryError, DeliveryRejected, DeliveryTransient, StoreError
from interface.flow import alerting
from interface.ops.channels import Outgoing, send
from interface.settings import ChannelSettings
from interface.store import alert_messages as rows
from interface.store.alert_messages import Waiting
from interface.store.db import Database
from interface.store.ids import uuid7

LEASE: Final = timedelta(minutes=5)  # longer than any attempt
FALTERS: Final = 3
MOST_REFUSALS: Final = 3  # of one message for what it says, or for whom it is
GIVEN_UP_AFTER: Final = timedelta(hours=24)
AT_ONCE: Final = 8
LONGEST: Final = timedelta(minutes=15)  # nothing waits so long

log = structlog.get_logger(__name__)


def wait_s(attempts: int) -> float:
    """5 s, 15 s, 45 s … to ten minutes."""
    return min(5.0 * 3.0 ** max(0, attempts - 1), 600.0)


class AlertSender:
    def __init__(
        self,
        database: Database,
        channels: Callable[[], Mapping[str, ChannelSettings]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database, self._channels, self._now = database, channels, now
        self.holder = uuid7()
        # What came of messages, which the database did not take: noted before anything else is sent.
        self._owed: dict[UUID, dict[UUID, tuple[Waiting, DeliveryError | None]]] = {}
        self._refused: dict[UUID, int] = {}  # how often, of messages that wait: another process counts anew
        self._places = asyncio.Semaphore(AT_ONCE)

    async def serve(self, organization_id: UUID) -> int:
        """Try once what is due; returns how many messages were taken. One call at a time for an organization. Raises
        StoreError."""
        owed = self._owed.get(organization_id, {})
        for message, error in list(owed.values()):
            await self._note(organization_id, message, error)
            del owed[message.id]
        now = self._now()
        async with self._database.transaction(organization_id) as connection:
            claimed = await rows.claim(connection, self.holder, now, now + LEASE, LONGEST)
        if not claimed:
            return 0
        try:
            # all of them to their end: one that cannot be noted does not break off what another is sending
            tried = await asyncio.gather(*(self._try(organization_id, one) for one in claimed), return_exceptions=True)
        except asyncio.CancelledError:
            await asyncio.shield(self._release(organization_id, [one.id for one in claimed]))
            raise
        for one in tried:
            if isinstance(one, BaseException):
                raise one
        return sum(one is True for one in tried)

    async def _release(self, organization_id: UUID, ids: list[UUID]) -> None:
        try:
            async with self._database.transaction(organization_id) as connection:
                await rows.release(connection, ids, self.holder)
        except StoreError:
            return  # their lease ends

    async def _try(self, organization_id: UUID, message: Waiting) -> bool:
        channel, failed = self._channels().get(message.channel), None
        try:
            if channel is None:
                raise DeliveryTransient(f"there is no channel {message.channel} any more")
            outgoing = Outgoing(message.id, message.address, message.title, message.body, message.severity)
            async with self._places:
                await send(channel, outgoing)
        except DeliveryError as error:
            failed = error
        try:
            await self._note(organization_id, message, failed)
        except StoreError:
            self._owed.setdefault(organization_id, {})[message.id] = message, failed
            raise
        return failed is None

    async def _note(self, organization_id: UUID, message: Waiting, failed: DeliveryError | None) -> None:
        if failed is not None:
            await self._failed(organization_id, message, failed)
            return
        self._refused.pop(message.id, None)
        actor = alerting.watch_actor(organization_id)
        async with self._database.transaction(organization_id) as connection:
            await rows.note_sent(connection, actor, message, self.holder, self._now())
            for subject in (Subject("channel", message.channel), alerting.receiver(message.channel, message.person)):
                await alerting.recover(connection, organization_id, AlertKind.CHANNEL, subject)
        log.info("alert told", action="alert.told", channel=message.channel, message=str(message.id))

    async def _failed(self, organization_id: UUID, message: Waiting, error: DeliveryError) -> None:
        attempts, now = message.attempts + 1, self._now()
        refusals = self._refused.get(message.id, 0) + isinstance(error, DeliveryRejected)  # no outage counts for one
        over = refusals >= MOST_REFUSALS or now - message.created_at >= GIVEN_UP_AFTER
        due_at = None if over else now + timedelta(seconds=max(wait_s(attempts), getattr(error, "wait_s", 0.0)))
        actor = alerting.watch_actor(organization_id)
        async with self._database.transaction(organization_id) as connection:
            await rows.note_failure(connection, actor, message, self.holder, str(error), due_at)
            if attempts >= FALTERS:
                subject = Subject("channel", message.channel)
                await alerting.enter(connection, organization_id, AlertKind.CHANNEL, subject, str(error))
            if refusals >= MOST_REFUSALS:  # the channel is well with the next message that it takes, for another
                subject = alerting.receiver(message.channel, message.person)
                await alerting.enter(connection, organization_id, AlertKind.CHANNEL, subject, f"given up: {error}")
        self._refused[message.id] = refusals
        if over or not refusals:
            del self._refused[message.id]
        log.warning("alert not told", action="alert.wait", channel=message.channel, message=str(message.id),
                    error=error.slug, attempts=attempts, given_up=over)  # fmt: skip

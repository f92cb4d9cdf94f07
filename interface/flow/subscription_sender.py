"""Sends what subscriptions ask for: in order for each, at least once, several side by side.

A turn claims a subscription, reads what changed after its place, and for each resource that meets its criteria reads it
once more, as its client may see it now, sends it, and notes the place when it was taken. A process that dies between
sending and noting has it sent again by whoever has the next turn, before anything that comes after it. A failure ends
the turn and is waited out, longer each time; what is behind it waits too, for order is promised. After MOST_ATTEMPTS
the subscription is off until a person or its EMR resumes it, at the same place. What an endpoint refuses for what it
says becomes a letter, so that one message does not hold up all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.alerts import AlertKind, Subject
from interface.domain.subscription import (
    JSON,
    LONGEST_WAIT_S,
    MOST_ATTEMPTS,
    MOST_REFUSALS,
    Status,
    read_header,
    wait_s,
)
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError, DeliveryError, DeliveryRejected, DeliveryTransient, StoreError
from interface.flow import alerting
from interface.flow.feed import Feed
from interface.flow.hooks import Hooks, Sender
from interface.flow.subscriptions import Found, Parameters, Reading, read_criteria, scopes_of, within
from interface.render.json import dumps
from interface.store import audit, changes
from interface.store import subscriptions as rows
from interface.store.audit import AuditWriter
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.subscriptions import SubscriptionView

LEASE_S: Final = 60.0  # longer than one message may take; noting it renews it
LONGEST: Final = timedelta(seconds=LONGEST_WAIT_S + LEASE_S)  # nothing waits so long, nor is claimed for so long
TURN_S: Final = 20.0  # then another subscription's turn
ROWS: Final = 200  # of the feed at once
AT_ONCE: Final = 32
LOOK_S: Final = 5.0  # where nothing new is, for what is due again

log = structlog.get_logger(__name__)


class _Lost(Exception):
    """The subscription is not ours any more."""


@dataclass(slots=True)
class _Turn:
    """A subscription at work. `position` and `done` as its row has them."""

    view: SubscriptionView
    actor: Actor
    reading: Reading
    parameters: Parameters
    within: tuple[Parameters, ...]
    position: int
    done: int
    attempts: int
    tried: tuple[changes.Resource, int] | None = None  # what was sent last, and its place in its row
    said: dict[UUID, str] = field(default_factory=dict)  # versions that were sent in this turn


class SubscriptionSender:
    """Of all organizations that the feed knows. `now`: of what is due and claimed."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        hooks: Hooks,
        reading: Reading,
        audit_writer: AuditWriter,
        kinds: tuple[str, ...],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database, self._feed, self._hooks, self._reading = database, feed, hooks, reading
        self._audit, self._kinds, self._now = audit_writer, kinds, now
        self.holder = uuid7()
        self._at_work: dict[UUID, asyncio.Task[None]] = {}
        self._refused: dict[UUID, tuple[tuple[int, int], int]] = {}  # of a subscription its last message, how often
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Send until cancelled; what is under way then is not noted, and sent again by whoever comes next."""
        seen: Mapping[UUID, int] = {}
        try:
            while True:
                for organization_id in self._feed.organizations:
                    try:
                        for id in await self.due(organization_id):
                            if id not in self._at_work:
                                self._begin(organization_id, id)
                    except StoreError as error:
                        log.warning("subscriptions not read", action="subscription.due", error=error.slug)
                    except Exception as error:  # nor must a fault of ours end it for all, until the next start
                        log.error("subscriptions not read", action="subscription.due", exc_info=error)
                seen = await self._feed.moved(seen, LOOK_S)
        finally:
            for task in list(self._at_work.values()):
                task.cancel()
            await asyncio.gather(*self._at_work.values(), return_exceptions=True)

    def _begin(self, organization_id: UUID, id: UUID) -> None:
        async def work() -> None:
            try:
                async with self._places:
                    while await self.serve(organization_id, id):
                        pass
            except StoreError as error:
                log.warning("subscription waits", action="subscription.store", error=error.slug)
            except Exception:  # a fault of ours with one subscription must not take the others'
                log.error("subscription failed", action="subscription.failed", subscription=str(id), exc_info=True)
            finally:
                del self._at_work[id]

        self._at_work[id] = asyncio.create_task(work(), name="subscription")

    async def due(self, organization_id: UUID) -> list[UUID]:
        """Whose turn it is."""
        async with self._database.organization(organization_id) as connection:
            now, end = self._now(), await changes.last_position(connection)
            return await rows.due(connection, now, now + LONGEST, end)

    async def serve(self, organization_id: UUID, id: UUID) -> bool:
        """One turn; whether there is more to be told at once. Raises StoreError."""
        now = self._now()
        async with self._database.organization(organization_id) as connection:
            view = await rows.claim(connection, id, self.holder, now, self._until(now), now + LONGEST)
        if view is None:
            return False
        actor = Actor(ActorKind.CLIENT, view.client_id, view.client, organization_id)
        scopes = scopes_of(view)
        narrowed = within(scopes, view.resource)
        if text := _over(view, narrowed, now):
            await self._stop(view, actor, text)
            return False
        _, parameters = read_criteria(view.criteria)
        turn = _Turn(
            view, actor, self._reading.of(scopes), parameters, narrowed, view.position, view.done, view.attempts
        )
        try:
            more = await self._told(turn)
        except DeliveryError as error:
            await self._failed(turn, error)
            return False
        except _Lost:
            return False
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StoreError):
                # A fault of ours with one: EMR and people are told that it waits, and it is not tried at once.
                log.error("subscription failed", action="subscription.failed", subscription=str(id), exc_info=error)
                await self._failed(turn, DeliveryTransient(_inside(error, id)))
                return False
            await asyncio.shield(self._release(organization_id, id))
            raise
        await self._release(organization_id, id)
        return more

    @staticmethod
    def _until(now: datetime) -> datetime:
        return now + timedelta(seconds=LEASE_S)

    async def _release(self, organization_id: UUID, id: UUID) -> None:
        async with self._database.organization(organization_id) as connection:
            await rows.release(connection, id, self.holder)

    async def _told(self, turn: _Turn) -> bool:
        """Letters that a person has sent again, then a piece of the feed; whether there is more."""
        until = asyncio.get_running_loop().time() + TURN_S
        async with self._hooks.opened(turn.view.endpoint) as sender:
            await self._letters(turn, sender)
            async with self._database.organization(turn.actor.organization_id) as connection:
                found = await changes.after(connection, turn.position, ROWS, self._kinds)
                more = len(found) == ROWS
                last = found[-1].position if more else await changes.last_position(connection)
                meant = await changes.resources(connection, turn.view.resource, turn.position, last, self._kinds)
            matching = await self._matching(turn, [one.id for one in meant])
            begin, done, place = turn.position, turn.done, 0
            for number, one in enumerate(meant):
                place = place + 1 if number and meant[number - 1].position == one.position else 1
                if one.id not in matching or (one.position == begin + 1 and place <= done):
                    continue
                if not turn.view.payload:
                    await self._bell(turn, sender, last)
                    return more
                await self._resource(turn, sender, one, place)
                if asyncio.get_running_loop().time() > until:
                    return True
        await self._note(turn, last, 0, 0)
        return more

    async def _matching(self, turn: _Turn, ids: Sequence[UUID]) -> frozenset[UUID]:
        """Of what changed, what may have to be told: each is looked at again when it is."""
        wanted, found = list(dict.fromkeys(ids)), set[UUID]()
        for at in range(0, len(wanted), ROWS):
            found |= (await self._read(turn, wanted[at : at + ROWS])).keys()
        return frozenset(found)

    async def _read(self, turn: _Turn, ids: Sequence[UUID]) -> Mapping[UUID, Found]:
        async with self._database.organization(turn.actor.organization_id) as connection:
            return await turn.reading.among(connection, turn.view.resource, ids, turn.parameters, turn.within)

    async def _resource(self, turn: _Turn, sender: Sender, one: changes.Resource, place: int) -> None:
        """Send it as it is now, unless it may not be seen any more or was sent in this version a moment ago."""
        found = (await self._read(turn, [one.id])).get(one.id)
        if found is None or turn.said.get(one.id) == (version := str(found.resource["meta"]["versionId"])):
            return
        turn.tried = one, place
        await self._send(turn, sender, one.id, found)
        await self._note(turn, one.position - 1, place, 1)
        turn.said[one.id] = version

    async def _send(self, turn: _Turn, sender: Sender, id: UUID, found: Found) -> None:
        """Whoever reads it on the way has read it: the audit row is first."""
        detail = {"subscription": str(turn.view.id), "to": sender.endpoint.origin}
        await self._audit.read(turn.actor, "send", turn.view.resource, id, detail)
        if found.patient_id is not None and found.patient_id != id:
            seen = {"by": f"send {turn.view.resource}", "subscription": str(turn.view.id)}
            await self._audit.read(turn.actor, "disclose", "patient", found.patient_id, seen)
        headers = {**_headers(turn.view), "Content-Type": f"{JSON}; charset=utf-8"}
        await sender.send("PUT", f"/{turn.view.resource}/{id}", headers, dumps(found.resource))

    async def _bell(self, turn: _Turn, sender: Sender, last: int) -> None:
        """Without a payload, the EMR is told that it has something to ask for: once, whatever there is."""
        await sender.send("POST", "", _headers(turn.view), b"")
        await self._note(turn, last, 0, 1)

    async def _note(self, turn: _Turn, position: int, done: int, count: int) -> None:
        now = self._now()
        async with self._database.transaction(turn.actor.organization_id) as connection:
            until = self._until(now)
            if not await rows.note_sent(connection, turn.view.id, self.holder, position, done, now, until, count):
                raise _Lost
        turn.position, turn.done = position, done
        if count:
            turn.attempts = 0
            telemetry.count_notification("sent")

    async def _letters(self, turn: _Turn, sender: Sender) -> None:
        async with self._database.organization(turn.actor.organization_id) as connection:
            letters = await rows.letters(connection, turn.view.id, again=True)
        for letter in letters:
            refused = ""
            if (found := (await self._read(turn, [letter.resource_id])).get(letter.resource_id)) is not None:
                try:
                    await self._send(turn, sender, letter.resource_id, found)
                except DeliveryRejected as error:
                    refused = str(error)
            async with self._database.transaction(turn.actor.organization_id) as connection:
                await rows.note_letter(connection, letter.id, refused, None if refused else self._now())
                ours = await rows.renew(connection, turn.view.id, self.holder, self._until(self._now()))
            if not ours:
                raise _Lost

    # ---- what is not taken ------------------------------------------------------------------------------------------

    async def _failed(self, turn: _Turn, error: DeliveryError) -> None:
        """Wait it out; or a letter; or off. Who refuses a message is there: what was an outage before is over, and
        counts for no refusal."""
        view, attempts = turn.view, turn.attempts + 1
        telemetry.count_notification(error.slug)
        if isinstance(error, DeliveryRejected) and turn.tried is not None:
            attempts = self._refusals(turn, *turn.tried)
            if attempts >= MOST_REFUSALS:
                await self._letter(turn, *turn.tried, str(error), attempts)
                return
        if attempts >= MOST_ATTEMPTS:
            await self._stop(view, turn.actor, f"stopped after {attempts} attempts: {error}", attempts)
            return
        asked_s = error.wait_s if isinstance(error, DeliveryTransient) else 0.0
        due_at = self._now() + timedelta(seconds=wait_s(attempts, asked_s))
        async with self._database.transaction(turn.actor.organization_id) as connection:
            if await rows.note_failure(
                connection, view.id, self.holder, Status.ERROR, str(error), attempts, due_at
            ) and attempts == 1:  # fmt: skip
                await audit.record(connection, turn.actor, "fail", "subscription", view.id, {"error": str(error)})
        log.warning("subscription not told", action="subscription.wait", subscription=str(view.id),
                    error=error.slug, attempts=attempts)  # fmt: skip

    def _refusals(self, turn: _Turn, one: changes.Resource, place: int) -> int:
        """How often this message was refused, with now. A process that starts anew begins to count anew, and so does
        who was resumed meanwhile."""
        message, before = (one.position, place), self._refused.get(turn.view.id)
        count = before[1] + 1 if turn.attempts and before is not None and before[0] == message else 1
        self._refused[turn.view.id] = message, count
        return count

    async def _letter(self, turn: _Turn, one: changes.Resource, place: int, error: str, attempts: int) -> None:
        """What was refused is put aside, and its place passed."""
        organization_id, now, id = turn.actor.organization_id, self._now(), turn.view.id
        async with self._database.transaction(organization_id) as connection:
            if not await rows.note_sent(connection, id, self.holder, one.position - 1, place, now, now, 0):
                return
            text = f"a message was refused: {error}"
            await rows.note_failure(connection, id, self.holder, Status.ACTIVE, text, 0, now)
            await rows.insert_letter(connection, organization_id, id, one.position, one.id, error, attempts)
            detail = {"error": error, "resource": f"{one.type}/{one.id}"}
            await audit.record(connection, turn.actor, "letter", "subscription", id, detail)
            subject = Subject("subscription", str(id))
            await alerting.enter(connection, organization_id, AlertKind.DELIVERY, subject, text)

    async def _stop(self, view: SubscriptionView, actor: Actor, text: str, attempts: int = 0) -> None:
        """Off, at the place where it is; the laboratory's people are told."""
        async with self._database.transaction(actor.organization_id) as connection:
            if await rows.note_failure(connection, view.id, self.holder, Status.OFF, text, attempts, self._now()):
                await audit.record(connection, actor, "off", "subscription", view.id, {"error": text})
                subject = Subject("subscription", str(view.id))
                await alerting.enter(
                    connection, actor.organization_id, AlertKind.DELIVERY, subject, f"it is off: {text}"
                )
        log.warning("subscription is off", action="subscription.off", subscription=str(view.id))


def _over(view: SubscriptionView, narrowed: tuple[Parameters, ...], now: datetime) -> str:
    """Why nothing may be told any more; empty where it may."""
    if view.client_disabled:
        return "its client is disabled"
    if view.ends_at is not None and view.ends_at <= now:
        return "it has come to its end"
    if not narrowed:
        return f"its client may not read {view.resource} any more"
    return ""


def _inside(error: Exception, id: UUID) -> str:
    if isinstance(error, ApiError):  # of criteria that an earlier program took
        return f"its criteria cannot be searched by: {error}"
    return f"something went wrong inside; the log has it as {id}"


def _headers(view: SubscriptionView) -> dict[str, str]:
    return dict(map(read_header, view.headers))

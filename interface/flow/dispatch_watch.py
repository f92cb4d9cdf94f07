"""What the order book must know that no message says: which links are connected, when the hospital was heard last.

Beside that the book is looked over: work for items that need none any more is taken back, work of an analyzer that is
down is offered to the others, and what a person must decide about is counted for the metrics.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.routing import ALERTS, DispatchState
from interface.domain.views import Actor, ActorKind
from interface.errors import StoreError
from interface.flow.context import LinkContext
from interface.flow.speeches import speech_of
from interface.settings import LinkRole
from interface.store import dispatch_ends, leases, routes
from interface.store.db import Database

WATCH_S = 10.0
_COUNTED = (DispatchState.QUEUED, *sorted(ALERTS))

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """A link as it stands. `heard_at`: when a byte came last since the daemon's start."""

    link: LinkContext
    connected: bool
    heard_at: datetime | None

    def up(self, now: datetime) -> bool:
        """Whether its analyzer can be told. One that connects only to send is up for as long as the link says."""
        after_s = self.link.settings.down_after_s
        silent_s = (now - self.heard_at).total_seconds() if self.heard_at is not None else None
        return self.connected or not after_s or (silent_s is not None and silent_s < after_s)


async def look(database: Database, seen: Sequence[LinkSeen], now: datetime) -> Counter[str]:
    """Look once, for all organizations; returns how much work is in each state that is counted.

    Raises what one of them was not looked at for, when the others were; then the metrics stay as they were.
    """
    counted: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
    failed: Exception | None = None
    by_organization: dict[UUID, list[LinkSeen]] = {}
    for one in seen:
        by_organization.setdefault(one.link.organization_id, []).append(one)
    for organization_id, links in by_organization.items():
        try:
            counted.update(await _look_at(database, organization_id, links, now))
        except Exception as error:  # of those behind it no work would go to another analyzer
            failed = failed or error
    if failed is not None:
        raise failed
    telemetry.set_dispatches(counted)
    return counted


async def _look_at(
    database: Database, organization_id: UUID, links: Sequence[LinkSeen], now: datetime
) -> dict[str, int]:
    """The same of one of them."""
    async with database.transaction(organization_id) as connection:
        states = [(one.link.link_id, one.up(now), one.heard_at) for one in links]
        heard = await routes.note_links(connection, organization_id, states, now)
        actor = Actor(ActorKind.SETUP, None, "order book", organization_id)
        ids = [one.link.link_id for one in links]
        elsewhere = _told_elsewhere(links[0].link, await leases.links_elsewhere(connection, ids))
        await dispatch_ends.give_up(connection, actor, _deaf(links) - elsewhere)
        gone = await dispatch_ends.sweep(connection, actor)
        left = await dispatch_ends.hand_over(connection, actor, _told(links), ids)
        await routes.offer_elsewhere(connection)
        counted = await routes.count_states(connection)
    if gone:
        log.info("work taken back", action="dispatch.sweep", works=gone)
    if left:
        log.warning("work of links that went is told anew", action="dispatch.handed_over", works=left)
    for one in links:
        if (at := heard.get(one.link.link_id)) is not None:
            telemetry.set_heard(one.link.name, at.timestamp())
    return counted


def _deaf(links: Sequence[LinkSeen]) -> set[UUID]:
    """The analyzers that ask for their work and cannot be told anything else: no link of theirs has words for it, of
    these; another daemon may have one that has."""
    analyzers = {one.link.analyzer_id for one in links if one.link.settings.role is LinkRole.ANALYZER}
    return analyzers - _told(links)


def _told_elsewhere(link: LinkContext, theirs: Mapping[UUID, UUID]) -> set[UUID]:
    """The analyzers of these links of other daemons, each by link, that may be told something by one: all but of those
    that are known here to have no words. `link`: any of this daemon's."""
    known = {link_id: link.others(link_id) for link_id in theirs}
    return {theirs[id] for id, of in known.items() if of is None or speech_of(of) is not None}


def _told(links: Sequence[LinkSeen]) -> set[UUID]:
    """The analyzers that a link tells of something without being asked."""
    return {one.link.analyzer_id for one in links if speech_of(one.link) is not None}


async def watch_dispatches(database: Database, seen: Callable[[], Sequence[LinkSeen]]) -> None:
    """Look until cancelled, and say in the log when more waits for a person."""
    alerts = 0
    while True:
        await asyncio.sleep(WATCH_S)  # first: a start has other things to do
        try:
            counted = await look(database, seen(), datetime.now(UTC))
        except StoreError as error:
            log.warning("order book not looked over", action="dispatch.watch", error=error.slug)
        except Exception as error:  # no order would go to another analyzer any more, until the next start
            log.error("order book not looked over", action="dispatch.watch", exc_info=error)
        else:
            waiting = sum(counted[state] for state in ALERTS)
            if waiting > alerts:
                log.warning("analyzers do not do their work; a person decides", action="dispatch.alert", works=waiting)
            alerts = waiting

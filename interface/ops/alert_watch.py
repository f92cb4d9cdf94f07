"""Looks for what is wrong in a laboratory, by which its alerts are settled: one look is one transaction."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from interface.domain.alerts import AlertKind, Subject, threshold
from interface.domain.facts import QcState
from interface.domain.hours import read_hours, working_s
from interface.domain.roster import Roster
from interface.flow import alerting, qc_plans
from interface.settings import AlertSettings, Content
from interface.store import alert_conditions as conditions
from interface.store import alerts as store
from interface.store.db import Connection
from interface.store.routes import AHEAD

Found = dict[Subject, str]
Look = Callable[[Connection], Awaitable[Mapping[AlertKind, Found]]]
QUEUE = Subject("queue", "messages")
QUEUE_AGE = Subject("queue", "age")
HELD = Subject("results", "held")
LEAST_ATTEMPTS = 5  # of a subscription's message, in half a minute


@dataclass(frozen=True, slots=True)
class LinkHeard:
    """A link of the configuration. `heard_at`: since this daemon's start; `since`: when it began to listen."""

    link_id: UUID
    name: str
    silent_after_s: float
    working_hours: tuple[str, ...]
    heard_at: datetime | None
    since: datetime


def looks(
    organization_id: UUID, alerts: AlertSettings, roster: Roster, links: Sequence[LinkHeard], now: datetime
) -> tuple[Look, ...]:
    """What changes from minute to minute."""
    return (
        _of(AlertKind.BACKLOG, lambda connection: _backlog(connection, organization_id, alerts, links, now)),
        _of(AlertKind.LINK_SILENT, lambda connection: _silent(connection, roster, links, now)),
        lambda connection: _parked(connection, organization_id),
        _of(AlertKind.CRITICAL_UNTOLD, lambda connection: _criticals(connection, alerts)),
        _of(AlertKind.DISPATCH, _dispatch),
        _of(AlertKind.DELIVERY, _deliveries),
        lambda connection: _receivers(connection, organization_id, roster),
    )


def long_looks(alerts: AlertSettings, now: datetime) -> tuple[Look, ...]:
    """What changes from hour to hour, and costs more to look at."""
    return (
        _of(AlertKind.HELD_AGE, lambda connection: _held(connection, alerts, now)),
        _of(AlertKind.UNMAPPED, lambda connection: _unmapped(connection, alerts, now)),
        lambda connection: _controls(connection, alerts, now),
    )


def _of(kind: AlertKind, find: Callable[[Connection], Awaitable[Found]]) -> Look:
    async def look(connection: Connection) -> Mapping[AlertKind, Found]:
        return {kind: await find(connection)}

    return look


async def _backlog(
    connection: Connection, organization_id: UUID, alerts: AlertSettings, links: Sequence[LinkHeard], now: datetime
) -> Found:
    """By number and by age, each entered at its threshold and recovered at half of it; and what waits for more than
    time, as long as the configuration is as it is."""
    standing = await store.standing(connection, AlertKind.BACKLOG)
    amount = await conditions.backlog(connection, organization_id)
    age_s = (now - amount.oldest).total_seconds() if amount.oldest else 0.0
    ahead = age_s < -AHEAD.total_seconds()  # it came by a clock that has been put back since: nobody knows when
    found: Found = {}
    if threshold(alerts.backlog_messages).stands(amount.number, QUEUE in standing):
        found[QUEUE] = f"{amount.number} messages wait"
    if threshold(alerts.backlog_age_s).stands(math.inf if ahead else age_s, QUEUE_AGE in standing):
        found[QUEUE_AGE] = f"the oldest {'from before the clock was put back' if ahead else f'for {_long(age_s)}'}"
    unread = await conditions.unread(connection, organization_id, {link.link_id for link in links})
    for name, number in unread.items():
        found[Subject("link", name)] = f"{number} messages wait: this link is in another daemon's configuration alone"
    return found


async def _silent(connection: Connection, roster: Roster, links: Sequence[LinkHeard], now: datetime) -> Found:
    asked = [link for link in links if link.silent_after_s]
    stored = await conditions.heard(connection) if asked else {}
    found: Found = {}
    for link in asked:
        # What is later was noted by a clock that has been put back since.
        times = [at for at in (link.heard_at, stored.get(link.link_id)) if at and at <= now + AHEAD]
        heard = max(times, default=link.since)
        hours = [read_hours(text) for text in link.working_hours]
        silent_s = working_s(hours, roster.calendar, heard, now)
        if silent_s >= link.silent_after_s:
            local = heard.astimezone(roster.calendar.zone)
            found[Subject("link", link.name)] = f"heard last {local:%Y-%m-%d %H:%M %Z}"
    return found


async def _parked(connection: Connection, organization_id: UUID) -> Mapping[AlertKind, Found]:
    """Who parks a message enters the alert, and may do so at any moment: here those are over that were decided since,
    and no other."""
    for id in await conditions.parked_no_more(connection):
        await alerting.recover(connection, organization_id, AlertKind.PARKED, Subject("message", id))
    return {}


async def _receivers(connection: Connection, organization_id: UUID, roster: Roster) -> Mapping[AlertKind, Found]:
    """Who sends enters that nothing reaches somebody by a channel, and recovers it with what does. Nothing ever reaches
    who is no contact by it any more: here those are over."""
    contacts = [(person.id, person.contacts) for person in roster.people.values()]
    contacts += [(wish.ward or wish.practitioner, wish.contacts) for wish in roster.wishes]
    known = {alerting.receiver(one.channel, name) for name, some in contacts for one in some}
    for subject in await store.standing(connection, AlertKind.CHANNEL) - known:
        if subject.thing == alerting.RECEIVER:
            await alerting.recover(connection, organization_id, AlertKind.CHANNEL, subject, "no contact any more")
    return {}


def note_of(content: Content, order_number: str, test: str) -> str:
    """What may be said of whose it is: by policy nothing, the order's number, or the test's name as well."""
    if content is Content.NONE or not order_number:
        return ""
    return f"order {order_number}" + (f", {test}" if content is Content.TEST and test else "")


async def _criticals(connection: Connection, alerts: AlertSettings) -> Found:
    return {
        Subject("critical", str(task.id)): note_of(alerts.critical_content, task.order_number, task.test)
        for task in await conditions.untold_criticals(connection)
    }


async def _dispatch(connection: Connection) -> Found:
    found = await conditions.refused_work(connection)
    return {
        Subject("analyzer", name): f"{number} refused or not sent; a person decides" for name, number in found.items()
    }


async def _deliveries(connection: Connection) -> Found:
    found = await conditions.deliveries(connection, LEAST_ATTEMPTS)
    return {Subject("subscription", str(id)): error for id, error in found.items()}


async def _held(connection: Connection, alerts: AlertSettings, now: datetime) -> Found:
    if not alerts.held_after_s:
        return {}
    held = await conditions.held(connection, now - timedelta(seconds=alerts.held_after_s))
    return {HELD: f"{held.number} for more than {_long(alerts.held_after_s)}"} if held.number else {}


async def _unmapped(connection: Connection, alerts: AlertSettings, now: datetime) -> Found:
    if not alerts.unmapped_after_s:
        return {}
    found = await conditions.unmapped(connection, now - timedelta(seconds=alerts.unmapped_after_s))
    return {Subject("analyzer", name): f"{number} results wait" for name, number in found.items()}


async def _controls(connection: Connection, alerts: AlertSettings, now: datetime) -> Mapping[AlertKind, Found]:
    due: dict[str, list[str]] = {}
    failed: dict[str, list[str]] = {}
    for stream in await qc_plans.status(connection, now, due_minutes=alerts.qc_due_min, only_due=True):
        if stream.state is QcState.FAIL:
            failed.setdefault(stream.analyzer, []).append(stream.test)
        elif alerts.qc_due_min and stream.due:
            due.setdefault(stream.analyzer, []).append(stream.test)
    return {AlertKind.QC_DUE: _by_analyzer(due), AlertKind.QC_PROBLEM: _by_analyzer(failed)}


def _by_analyzer(tests: Mapping[str, Sequence[str]]) -> Found:
    found: Found = {}
    for analyzer, names in tests.items():
        ordered = sorted(set(names))
        more = f" and {len(ordered) - 10} more" if len(ordered) > 10 else ""
        found[Subject("analyzer", analyzer)] = ", ".join(ordered[:10]) + more
    return found


def _long(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{round(minutes / 60)} h"

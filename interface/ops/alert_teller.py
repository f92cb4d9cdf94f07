"""Decides who is told of which alert, and writes it down as messages: entries, escalations, recoveries.

One pass makes one message for each person and channel, whatever it speaks of: a hundred links behind one switch are
one message. What comes within `gather_s` is told together; a laboratory's messages are `apart_s` apart, but for urgent
ones. A link that was down for less than `link_down_after_s` is told nobody. What is silenced is told when the silence
ends, if it still stands; who was told that something is wrong is told that it is over, silence or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from interface.domain.alert_words import Line, compose
from interface.domain.alerts import AlertKind, Phase, Severity, Subject
from interface.domain.roster import Person, Roster
from interface.flow.alerting import watch_actor
from interface.settings import AlertSettings
from interface.store import alert_messages as rows
from interface.store.alert_messages import NewMessage, Pending, Receiver
from interface.store.db import Connection

Lines = dict[Receiver, list[Line]]
# What was noted for later than that was noted by a clock that has been put back since: it is not waited for.
AHEAD = timedelta(minutes=1)


async def tell(
    connection: Connection, organization_id: UUID, laboratory: str, alerts: AlertSettings, roster: Roster,
    now: datetime, elsewhere: Collection[tuple[AlertKind, Subject]] = (),
) -> int:  # fmt: skip
    """One pass, in the caller's transaction; returns how many messages were made. `elsewhere`: what is told without the
    database."""
    found = [
        one for one in await rows.pending(connection, now)
        if (one.kind, Subject(one.thing, one.subject)) not in elsewhere
    ]  # fmt: skip
    if not found:
        return 0
    last = await rows.last_made(connection)
    early = last is not None and now < _noted(last, now) + timedelta(seconds=alerts.apart_s)
    if ahead := [one.id for one in found if one.told_at is not None and one.told_at > now + AHEAD]:
        await rows.told_from(connection, ahead, now)  # and what follows by that is counted from here
    lines: Lines = defaultdict(list)
    steps = _entered(found, laboratory, alerts, roster, now, early, lines)
    steps |= _escalated(found, laboratory, roster, now, lines)
    over = await _recovered(connection, found, alerts, now, early, lines)
    messages = messages_of(laboratory, lines, roster)
    await rows.insert(connection, watch_actor(organization_id), messages, now)
    if steps:
        await rows.note_told(connection, steps, now)
    if over:
        await rows.note_recovery_told(connection, over, now)
    return len(messages)


def messages_of(laboratory: str, lines: Mapping[Receiver, Sequence[Line]], roster: Roster) -> list[NewMessage]:
    """One message for each receiver."""
    made = []
    for receiver, of_them in lines.items():
        title, body = compose(laboratory, of_them, roster.calendar.zone)
        phases = {line.phase for line in of_them}
        standing = [line.severity for line in of_them if line.phase is not Phase.RECOVERED]
        made.append(
            NewMessage(
                receiver,
                next(iter(phases)).value if len(phases) == 1 else "several",
                max(standing, key=lambda severity: severity.rank, default=Severity.NOTICE),
                title,
                body,
                tuple((line.id, line.phase.value) for line in of_them if line.id is not None),
            )
        )
    return made


def address(lines: Lines, people: Sequence[Person], line: Line) -> None:
    """To everybody by all that is meant for it."""
    for person in people:
        for contact in person.reached(line.severity):
            lines[Receiver(contact.channel, person.id, contact.to)].append(line)


def _entered(
    found: Sequence[Pending], laboratory: str, alerts: AlertSettings, roster: Roster, now: datetime, early: bool,
    lines: Lines,
) -> dict[UUID, int]:  # fmt: skip
    untold = [one for one in found if one.told_at is None and one.recovered_at is None and not one.silenced]
    ready = {one.id: _noted(one.entered_at, now) + _wait(one, alerts) for one in untold}
    due = [one for one in untold if ready[one.id] <= now and (not early or one.severity is Severity.URGENT)]
    if not due:
        return {}
    together = now + timedelta(seconds=alerts.gather_s)
    steps: dict[UUID, int] = {}
    for one in untold:
        if ready[one.id] <= together:
            step, people = roster.first_told(laboratory, one.kind, one.severity, now)
            if people:
                steps[one.id] = step
                address(lines, people, line_of(Phase.ENTERED, one))
    return steps


def _noted(at: datetime, now: datetime) -> datetime:
    """When it was, as far as the clock is right now: long ago, where that is not known."""
    return at if at <= now + AHEAD else now - timedelta(days=1)


def _wait(one: Pending, alerts: AlertSettings) -> timedelta:
    after_s = alerts.link_down_after_s if one.kind == AlertKind.LINK_DOWN else 0.0
    return timedelta(seconds=max(after_s, alerts.gather_s))


def _escalated(
    found: Sequence[Pending], laboratory: str, roster: Roster, now: datetime, lines: Lines
) -> dict[UUID, int]:
    steps: dict[UUID, int] = {}
    for one in found:
        if one.told_at is None or one.recovered_at is not None or one.acknowledged or one.silenced:
            continue
        waited_s = max(0.0, (now - one.told_at).total_seconds())
        step, people = roster.escalated(laboratory, one.kind, one.severity, one.step, waited_s)
        if people:
            steps[one.id] = step
            address(lines, people, line_of(Phase.ESCALATED, one))
    return steps


async def _recovered(
    connection: Connection, found: Sequence[Pending], alerts: AlertSettings, now: datetime, early: bool, lines: Lines
) -> list[UUID]:
    over = [one for one in found if one.recovered_at is not None]
    gathered = now - timedelta(seconds=alerts.gather_s)
    if early or not any(one.recovered_at is not None and _noted(one.recovered_at, now) <= gathered for one in over):
        return []
    told = await rows.receivers(connection, [one.id for one in over])
    for one in over:
        for receiver in sorted(told.get(one.id, ()), key=lambda to: (to.channel, to.person)):
            lines[receiver].append(line_of(Phase.RECOVERED, one))
    return [one.id for one in over]


def line_of(phase: Phase, one: Pending) -> Line:
    note = one.recovery if phase is Phase.RECOVERED else one.note
    return Line(
        phase, one.kind, Subject(one.thing, one.subject), one.severity, note, one.entered_at,
        one.recovered_at if phase is Phase.RECOVERED else None, one.id,
    )  # fmt: skip

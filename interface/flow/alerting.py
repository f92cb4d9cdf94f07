"""Alerts: entered when something is wrong, recovered when it is not any more. Whoever finds a condition says it here.

All of it is idempotent: what is entered is not entered again, what does not stand is not recovered. Who is told of it,
when and by what means is the concern of `ops.alert_teller`; the feed of changes (`/api/events`) tells of both at once.
Note and subject hold nothing of a patient: they leave the house.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from interface.domain.alerts import (
    MOST_NOTE_CHARACTERS,
    MOST_SUBJECT_CHARACTERS,
    SEVERITY,
    AlertKind,
    Severity,
    Subject,
)
from interface.domain.permissions import Permission
from interface.domain.review import Refusal, ReviewError
from interface.domain.views import Actor, ActorKind
from interface.flow.actors import may
from interface.store import alerts as store
from interface.store import audit
from interface.store.alerts import AlertEvent, AlertView, SilenceView
from interface.store.db import Connection

LONGEST_SILENCE: Final = timedelta(days=31)
RECEIVER: Final = "receiver"
MOST_PARKED: Final = 100  # alerts of messages that could not be decided, to which nobody has seen yet


def watch_actor(organization_id: UUID) -> Actor:
    """Who enters and recovers: no person does."""
    return Actor(ActorKind.SETUP, None, "alerts", organization_id)


async def enter(
    connection: Connection,
    organization_id: UUID,
    kind: AlertKind,
    subject: Subject,
    note: str = "",
    *,
    severity: Severity | None = None,
    at: datetime | None = None,
) -> UUID | None:
    """Something is wrong: the new alert's id, None where it stands already. `severity`: by default the kind's; `at`:
    when it began, by default now."""
    return await store.enter(
        connection, watch_actor(organization_id), kind, _short(subject), severity or SEVERITY[kind],
        _line(note, MOST_NOTE_CHARACTERS), at,
    )  # fmt: skip


async def parked(connection: Connection, organization_id: UUID, message_id: UUID, link: str, why: str) -> None:
    """A message could not be decided, and what it says is in no list of results: somebody is told of each, also where
    another has waited for long. Not of thousands, which a driver that stumbles over everything leaves, until somebody
    has seen to those that stand: some stand for ever, as of a link that is gone."""
    if await store.unseen(connection, AlertKind.PARKED) < MOST_PARKED:
        await enter(
            connection, organization_id, AlertKind.PARKED, Subject("message", str(message_id)), f"{link}: {why}"
        )


async def recover(
    connection: Connection,
    organization_id: UUID,
    kind: AlertKind,
    subject: Subject,
    note: str = "",
    *,
    at: datetime | None = None,
) -> UUID | None:
    """It is well again: the id of the alert that stood, None where none did."""
    actor = watch_actor(organization_id)
    return await store.recover(connection, actor, kind, _short(subject), _line(note, MOST_NOTE_CHARACTERS), at)


async def settle(
    connection: Connection,
    organization_id: UUID,
    kind: AlertKind,
    found: Mapping[Subject, str],
    recovery: str = "",
    mine: Callable[[Subject], bool] = lambda _: True,
) -> int:
    """Enter what was found, with its note, and recover all else of the kind that stands and that is `mine` to see;
    returns how many of both."""
    wanted = {_short(subject): note for subject, note in found.items()}
    there = {subject for subject in await store.standing(connection, kind) if subject in wanted or mine(subject)}
    for subject in sorted(wanted.keys() - there):
        await enter(connection, organization_id, kind, subject, wanted[subject])
    for subject in sorted(there - wanted.keys()):
        await recover(connection, organization_id, kind, subject, recovery)
    return len(wanted.keys() ^ there)


def receiver(channel: str, person: str) -> Subject:
    """Whom nothing reaches by a channel that serves others, as it is stored."""
    return _short(Subject(RECEIVER, f"{channel} to {person}"))


def _short(subject: Subject) -> Subject:
    return Subject(_line(subject.thing, 40).replace(" ", "_"), _line(subject.name, MOST_SUBJECT_CHARACTERS))


def _line(text: str, most: int) -> str:
    """One line, without what PostgreSQL cannot store."""
    line = " ".join(text.replace("\0", " ").encode(errors="replace").decode().split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


# ---- what people do -------------------------------------------------------------------------------------------------


async def listed(
    connection: Connection, actor: Actor, *, kinds: tuple[AlertKind, ...] = (), standing: bool = True, limit: int = 500
) -> list[AlertView]:
    """Alerts, the latest first. Raises ReviewError."""
    _need(actor, Permission.ALERT_READ)
    return await store.find(connection, kinds=[kind.value for kind in kinds], standing=standing, limit=limit)


async def shown(connection: Connection, actor: Actor, id: UUID) -> tuple[AlertView, list[AlertEvent]]:
    """An alert with its history. Raises ReviewError."""
    _need(actor, Permission.ALERT_READ)
    found = await store.find(connection, ids=(id,), standing=False)
    if not found:
        raise ReviewError(Refusal.NOT_FOUND, "there is no alert of this id")
    return found[0], await store.history(connection, id)


async def acknowledge(connection: Connection, actor: Actor, id: UUID, comment: str = "") -> AlertView:
    """Somebody sees to it: it is escalated no further. Again it does nothing, nor after it recovered. Raises
    ReviewError."""
    _need(actor, Permission.ALERT_WRITE)
    alert = await store.lock(connection, id)
    if alert is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no alert of this id")
    if alert.acknowledged_at is not None or alert.recovered_at is not None:
        return alert
    note = _line(comment, MOST_NOTE_CHARACTERS)
    await store.acknowledge(connection, actor, id)
    await store.append(connection, actor, id, "acknowledged", note=note)
    await audit.record(connection, actor, "acknowledge", "alert", id, {"kind": alert.kind, "comment": note})
    (after,) = await store.find(connection, ids=(id,), standing=False)
    return after


def _need(actor: Actor, permission: Permission) -> None:
    """Who reads at the machine without a name has got at the database itself."""
    asks = actor.kind is ActorKind.SETUP and permission is Permission.ALERT_READ
    if not asks and not may(actor, permission):
        raise ReviewError(Refusal.FORBIDDEN, f"this needs the permission {permission}")


# ---- silences -------------------------------------------------------------------------------------------------------


async def silences(connection: Connection, actor: Actor, *, past: bool = False) -> list[SilenceView]:
    """What is quiet now or will be; `past`: and what was. Raises ReviewError."""
    _need(actor, Permission.ALERT_READ)
    return await store.silences(connection, past=past)


async def silence(
    connection: Connection,
    actor: Actor,
    *,
    ends_at: datetime,
    reason: str,
    kind: AlertKind | None = None,
    subject: Subject | None = None,
    begins_at: datetime | None = None,
) -> SilenceView:
    """Have nothing told of these alerts for a while, of a maintenance perhaps: they are entered all the same, and told
    when it ends, if they still stand. Without kind and subject: of all. Raises ReviewError."""
    _need(actor, Permission.ALERT_WRITE)
    now = datetime.now(UTC)
    begins_at = begins_at or now
    if not reason.strip():
        raise ReviewError(Refusal.INVALID, "a silence needs a reason")
    if not max(begins_at, now) < ends_at <= now + LONGEST_SILENCE:
        days = LONGEST_SILENCE.days
        raise ReviewError(Refusal.INVALID, f"a silence ends after it begins, in the next {days} days")
    about = _short(subject) if subject else Subject("", "")
    note = _line(reason, MOST_NOTE_CHARACTERS)
    id = await store.insert_silence(connection, actor, kind.value if kind else "", about, begins_at, ends_at, note)
    detail = {"kind": kind.value if kind else "", "subject": str(about), "until": ends_at.isoformat(), "reason": note}
    await audit.record(connection, actor, "silence", "alert_silence", id, detail)
    (made,) = await store.silences(connection, ids=(id,))
    return made


async def end_silence(connection: Connection, actor: Actor, id: UUID) -> SilenceView:
    """Have them told again; again it does nothing. Raises ReviewError."""
    _need(actor, Permission.ALERT_WRITE)
    if await store.end_silence(connection, actor, id):
        await audit.record(connection, actor, "end", "alert_silence", id)
    found = await store.silences(connection, ids=(id,), past=True)
    if not found:
        raise ReviewError(Refusal.NOT_FOUND, "there is no silence of this id")
    return found[0]

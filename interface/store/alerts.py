"""Alerts as rows: entered, recovered, acknowledged, read. Every function runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.alerts import AlertKind, Phase, Severity, Subject, Told
from interface.domain.views import Actor
from interface.store import changes
from interface.store.db import Connection
from interface.store.ids import uuid7


@dataclass(frozen=True, slots=True)
class AlertView:
    """`thing` and `subject`: what it is about. `step`: how far it is escalated, 0 where it is not."""

    id: UUID
    version: int
    kind: str
    severity: Severity
    thing: str
    subject: str
    note: str
    entered_at: datetime
    recovered_at: datetime | None
    recovery: str
    told_at: datetime | None
    step: int
    acknowledged_at: datetime | None
    acknowledged_name: str


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """Something that happened to an alert. `channel` and `person`: of whom was told, or could not be."""

    what: str
    at: datetime
    channel: str
    person: str
    note: str
    actor: str


_VIEW = """select a.id, a.version, a.kind, a.severity, a.thing, a.subject, a.note, a.entered_at, a.recovered_at,
    a.recovery, a.told_at, a.step, a.acknowledged_at, a.acknowledged_name from lab.alert a"""


def _view(row: Record) -> AlertView:
    return AlertView(**{**dict(row.items()), "severity": Severity(row["severity"])})


async def enter(
    connection: Connection, actor: Actor, kind: AlertKind, subject: Subject, severity: Severity, note: str,
    at: datetime | None,
) -> UUID | None:  # fmt: skip
    """A new alert, which the feed tells of; None where one stands already."""
    organization_id = actor.organization_id
    id: UUID | None = await connection.fetchval(
        """insert into lab.alert (id, organization_id, kind, thing, subject, severity, note, entered_at)
           values ($1, $2, $3, $4, $5, $6, $7, coalesce($8, now()))
           on conflict (organization_id, kind, thing, subject) where recovered_at is null do nothing returning id""",
        uuid7(), organization_id, kind.value, subject.thing, subject.name, severity.value, note, at,
    )  # fmt: skip
    if id is not None:
        await append(connection, actor, id, Phase.ENTERED.value, note=note)
        told = str(Told(Phase.ENTERED, kind.value, subject))
        await changes.note_alert(connection, organization_id, changes.ALERT, id, told)
    return id


async def recover(
    connection: Connection, actor: Actor, kind: AlertKind, subject: Subject, note: str, at: datetime | None
) -> UUID | None:
    """End the alert that stands, which the feed tells of; None where none does."""
    id: UUID | None = await connection.fetchval(
        """update lab.alert set recovered_at = greatest(coalesce($4, now()), entered_at), recovery = $5,
               version = version + 1
           where kind = $1 and thing = $2 and subject = $3 and recovered_at is null returning id""",
        kind.value, subject.thing, subject.name, at, note,
    )  # fmt: skip
    if id is not None:
        await append(connection, actor, id, Phase.RECOVERED.value, note=note)
        told = str(Told(Phase.RECOVERED, kind.value, subject))
        await changes.note_alert(connection, actor.organization_id, changes.ALERT, id, told)
    return id


async def append(
    connection: Connection, actor: Actor, alert_id: UUID | None, what: str, *, note: str = "", channel: str = "",
    person: str = "", message_id: UUID | None = None,
) -> None:  # fmt: skip
    """A row of the history."""
    await connection.execute(
        """insert into lab.alert_event (id, organization_id, alert_id, message_id, what, channel, person, note,
               actor_kind, actor_id, actor_name) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        uuid7(), actor.organization_id, alert_id, message_id, what, channel, person, note,
        actor.kind.value, actor.id, actor.name,
    )  # fmt: skip


async def standing(connection: Connection, kind: AlertKind) -> set[Subject]:
    """Of what alerts of a kind stand."""
    rows = await connection.fetch(
        "select thing, subject from lab.alert where kind = $1 and recovered_at is null", kind.value
    )
    return {Subject(row["thing"], row["subject"]) for row in rows}


async def unseen(connection: Connection, kind: AlertKind) -> int:
    """How many alerts of a kind stand to which nobody has said that they see to it."""
    found: int = await connection.fetchval(
        "select count(*) from lab.alert where kind = $1 and recovered_at is null and acknowledged_at is null",
        kind.value,
    )
    return found


async def told(connection: Connection) -> set[tuple[AlertKind, Subject]]:
    """Of what alerts stand of which people were told, or are to be by a message that is there."""
    rows = await connection.fetch(
        "select kind, thing, subject from lab.alert where recovered_at is null and told_at is not null"
    )
    return {(AlertKind(row["kind"]), Subject(row["thing"], row["subject"])) for row in rows}


async def find(
    connection: Connection, *, ids: Iterable[UUID] = (), kinds: Iterable[str] = (), standing: bool = True,
    limit: int = 500,
) -> list[AlertView]:  # fmt: skip
    """Alerts, the latest first. Empty lists ask nothing; `standing`: only what is not recovered."""
    rows = await connection.fetch(
        _VIEW
        + """ where (cardinality($1::uuid[]) = 0 or a.id = any($1))
              and (cardinality($2::text[]) = 0 or a.kind = any($2))
              and (not $3 or a.recovered_at is null) order by a.entered_at desc, a.id desc limit $4""",
        list(ids), list(kinds), standing, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def lock(connection: Connection, id: UUID) -> AlertView | None:
    """The alert, locked; None when there is none of this id."""
    row = await connection.fetchrow(_VIEW + " where a.id = $1 for update", id)
    return _view(row) if row else None


async def history(connection: Connection, id: UUID) -> list[AlertEvent]:
    """Everything that happened to an alert, oldest first."""
    rows = await connection.fetch(
        """select what, created_at as at, channel, person, note,
               concat_ws(' ', actor_kind, nullif(actor_name, '')) as actor
           from lab.alert_event where alert_id = $1 order by id""",
        id,
    )
    return [AlertEvent(**dict(row.items())) for row in rows]


async def acknowledge(connection: Connection, actor: Actor, id: UUID) -> None:
    await connection.execute(
        """update lab.alert set acknowledged_at = now(), acknowledged_by = $2, acknowledged_name = $3,
               version = version + 1 where id = $1""",
        id, actor.id, actor.name,
    )  # fmt: skip


async def standing_id(connection: Connection, kind: AlertKind, subject: Subject) -> UUID | None:
    """The alert that stands of it."""
    found: UUID | None = await connection.fetchval(
        "select id from lab.alert where kind = $1 and thing = $2 and subject = $3 and recovered_at is null",
        kind.value, subject.thing, subject.name,
    )  # fmt: skip
    return found


# ---- silences -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SilenceView:
    """Of what nothing is told from `begins_at` to `ends_at`, or until a person ended it; empty words: of everything."""

    id: UUID
    kind: str
    thing: str
    subject: str
    begins_at: datetime
    ends_at: datetime
    reason: str
    by: str
    ended_at: datetime | None
    ended_by: str


async def insert_silence(
    connection: Connection, actor: Actor, kind: str, subject: Subject, begins_at: datetime, ends_at: datetime,
    reason: str,
) -> UUID:  # fmt: skip
    id = uuid7()
    await connection.execute(
        """insert into lab.alert_silence (id, organization_id, kind, thing, subject, begins_at, ends_at, reason,
               actor_kind, actor_id, actor_name) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        id, actor.organization_id, kind, subject.thing, subject.name, begins_at, ends_at, reason, actor.kind.value,
        actor.id, actor.name,
    )  # fmt: skip
    return id


async def silences(connection: Connection, *, ids: Iterable[UUID] = (), past: bool = False) -> list[SilenceView]:
    """Those that are, and are to come; `past`: and those that were, a year back."""
    rows = await connection.fetch(
        """select id, kind, thing, subject, begins_at, ends_at, reason, actor_name as by, ended_at,
               ended_by_name as ended_by from lab.alert_silence
           where (cardinality($1::uuid[]) = 0 or id = any($1))
             and ((ended_at is null and ends_at > now()) or ($2 and ends_at > now() - interval '1 year'))
           order by begins_at, id""",
        list(ids), past,
    )  # fmt: skip
    return [SilenceView(**dict(row.items())) for row in rows]


async def end_silence(connection: Connection, actor: Actor, id: UUID) -> bool:
    """False where it has ended."""
    done = await connection.execute(
        """update lab.alert_silence set ended_at = now(), ended_by = $2, ended_by_name = $3
            where id = $1 and ended_at is null and ends_at > now()""",
        id, actor.id, actor.name,
    )  # fmt: skip
    return bool(done == "UPDATE 1")

"""Messages that tell of alerts, as rows: claimed by one sender at a time, sent in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from asyncpg import Record

from interface.domain.alerts import Severity
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7

TOLD = "told"  # the history's word for it


@dataclass(frozen=True, slots=True)
class Receiver:
    """One person by one channel; `address` as the channel needs it."""

    channel: str
    person: str
    address: str


@dataclass(frozen=True, slots=True)
class NewMessage:
    """`alerts`: those that it tells of, with what it says of each. `sent_at`: of one that was sent already."""

    receiver: Receiver
    about: str
    severity: Severity
    title: str
    body: str
    alerts: tuple[tuple[UUID, str], ...] = ()
    id: UUID | None = None
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is claimed. `attempts`: made before."""

    id: UUID
    channel: str
    person: str
    address: str
    severity: Severity
    title: str
    body: str
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """An alert of which something may have to be told."""

    id: UUID
    kind: str
    thing: str
    subject: str
    severity: Severity
    note: str
    entered_at: datetime
    recovered_at: datetime | None
    recovery: str
    told_at: datetime | None
    step: int
    acknowledged: bool
    silenced: bool


async def pending(connection: Connection, now: datetime) -> list[Pending]:
    """Alerts that stand, and those whose recovery is to be told, locked; one that another has locked is left to it."""
    rows = await connection.fetch(
        """select a.id, a.kind, a.thing, a.subject, a.severity, a.note, a.entered_at, a.recovered_at, a.recovery,
               a.told_at, a.step, a.acknowledged_at is not null as acknowledged,
               exists (select from lab.alert_silence s
                        where s.ended_at is null and s.begins_at <= $1 and s.ends_at > $1 and s.kind in ('', a.kind)
                          and s.thing in ('', a.thing) and s.subject in ('', a.subject)) as silenced
             from lab.alert a
            where a.recovered_at is null or (a.told_at is not null and a.recovery_told_at is null)
            order by a.id for update of a skip locked""",
        now,
    )
    return [Pending(**{**dict(row.items()), "severity": Severity(row["severity"])}) for row in rows]


async def last_made(connection: Connection) -> datetime | None:
    """When a message about alerts was made last."""
    found: datetime | None = await connection.fetchval(
        """select created_at from lab.alert_message where about not in ('notice', 'test')
            order by created_at desc limit 1"""
    )
    return found


async def receivers(connection: Connection, alert_ids: Collection[UUID]) -> Mapping[UUID, set[Receiver]]:
    """Who was told of each."""
    rows = await connection.fetch(
        """select distinct e.alert_id, m.channel, m.person, m.address
             from lab.alert_event e join lab.alert_message m on m.id = e.message_id
            where e.alert_id = any($1) and e.what = 'told'""",
        list(alert_ids),
    )
    found: dict[UUID, set[Receiver]] = defaultdict(set)
    for row in rows:
        found[row["alert_id"]].add(Receiver(row["channel"], row["person"], row["address"]))
    return found


async def insert(connection: Connection, actor: Actor, messages: Sequence[NewMessage], now: datetime) -> None:
    """The messages, in this order, and in the history that they were told."""
    for one in messages:
        id, to = one.id or uuid7(), one.receiver
        await connection.execute(
            """insert into lab.alert_message (id, organization_id, about, channel, person, address, severity, title,
                   body, state, due_at, created_at, sent_at)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce($12::timestamptz, $11::timestamptz),
                   $12)""",
            id, actor.organization_id, one.about, to.channel, to.person, to.address, one.severity.value, one.title,
            one.body, "waiting" if one.sent_at is None else "sent", now, one.sent_at,
        )  # fmt: skip
        await connection.execute(
            """insert into lab.alert_event (id, organization_id, alert_id, message_id, what, channel, person, note,
                   actor_kind, actor_id, actor_name)
               select i.id, $1, i.alert, $2, $3, $4, $5, i.note, $6, $7, $8
                 from unnest($9::uuid[], $10::uuid[], $11::text[]) as i (id, alert, note)""",
            actor.organization_id, id, TOLD, to.channel, to.person, actor.kind.value, actor.id, actor.name,
            [uuid7() for _ in one.alerts], [alert for alert, _ in one.alerts], [said for _, said in one.alerts],
        )  # fmt: skip


async def note_told(connection: Connection, steps: Mapping[UUID, int], now: datetime) -> None:
    """That their entry was told, and how far each is escalated by it."""
    await connection.execute(
        """update lab.alert a set told_at = coalesce(a.told_at, $3), step = i.step, version = a.version + 1,
               stepped_at = case when a.told_at is null then a.stepped_at else $3 end
             from unnest($1::uuid[], $2::int[]) as i (id, step) where a.id = i.id""",
        list(steps), list(steps.values()), now,
    )  # fmt: skip


async def note_recovery_told(connection: Connection, ids: Collection[UUID], now: datetime) -> None:
    await connection.execute("update lab.alert set recovery_told_at = $2 where id = any($1)", list(ids), now)


async def told_from(connection: Connection, ids: Collection[UUID], now: datetime) -> None:
    """Count from now how long nobody has seen to them."""
    await connection.execute("update lab.alert set told_at = $2 where id = any($1)", list(ids), now)


# ---- sending --------------------------------------------------------------------------------------------------------


async def claim(
    connection: Connection, holder: UUID, now: datetime, until: datetime, longest: timedelta
) -> list[Waiting]:
    """Of each address the first message that waits, where it is due and nobody else has it: what is behind it waits.
    The holder itself has nothing under way: what it has claimed already it does not know of.

    `longest` after now nothing is due, nor anybody's, but by a clock that has been put back since.
    """
    rows = await connection.fetch(
        """with first as (
               select distinct on (channel, address) id from lab.alert_message where state = 'waiting'
                order by channel, address, place
           ), due as (
               select m.id from lab.alert_message m join first f on f.id = m.id
                where m.state = 'waiting' and (m.due_at <= $2 or m.due_at > $4)
                  and (m.claimed_until is null or m.claimed_by = $1 or m.claimed_until < $2 or m.claimed_until > $4)
                order by m.place limit 100 for update of m skip locked
           )
           update lab.alert_message m set claimed_by = $1, claimed_until = $3 from due where m.id = due.id
           returning m.id, m.channel, m.person, m.address, m.severity, m.title, m.body, m.attempts, m.created_at""",
        holder, now, until, now + longest,
    )  # fmt: skip
    return [_waiting(row) for row in rows]


def _waiting(row: Record) -> Waiting:
    return Waiting(**{**dict(row.items()), "severity": Severity(row["severity"] or Severity.NOTICE.value)})


async def note_sent(connection: Connection, actor: Actor, message: Waiting, holder: UUID, now: datetime) -> bool:
    """False where it is not ours any more."""
    done = await connection.execute(
        """update lab.alert_message set state = 'sent', sent_at = $3, attempts = attempts + 1, error = '',
               claimed_by = null, claimed_until = null where id = $1 and claimed_by = $2 and state = 'waiting'""",
        message.id, holder, now,
    )  # fmt: skip
    return bool(done == "UPDATE 1")


async def note_failure(
    connection: Connection, actor: Actor, message: Waiting, holder: UUID, error: str, due_at: datetime | None
) -> None:
    """`due_at` None: it is given up, which the history of its alerts says."""
    done = await connection.execute(
        """update lab.alert_message set attempts = attempts + 1, error = $3, due_at = coalesce($4, due_at),
               state = case when $4::timestamptz is null then 'failed' else state end,
               claimed_by = null, claimed_until = null where id = $1 and claimed_by = $2 and state = 'waiting'""",
        message.id, holder, error, due_at,
    )  # fmt: skip
    if done == "UPDATE 1" and due_at is None:
        await connection.execute(
            """insert into lab.alert_event (id, organization_id, alert_id, message_id, what, channel, person, note,
                   actor_kind, actor_id, actor_name)
               select lab.new_id(), $1, a.alert_id, $2, 'failed', $3, $4, $5, $6, $7, $8
                 from (select distinct alert_id from lab.alert_event where message_id = $2 and what = 'told') a""",
            actor.organization_id, message.id, message.channel, message.person, error, actor.kind.value, actor.id,
            actor.name,
        )  # fmt: skip


async def release(connection: Connection, ids: Collection[UUID], holder: UUID) -> None:
    """What was claimed and not tried, for a sender that stops."""
    await connection.execute(
        """update lab.alert_message set claimed_by = null, claimed_until = null
            where id = any($1) and claimed_by = $2 and state = 'waiting'""",
        list(ids), holder,
    )  # fmt: skip


async def tell_nothing_old(connection: Connection, actor: Actor, reason: str) -> int:
    """Of a database of an earlier moment: what waits to be sent may have been sent since, and is not sent, which the
    history says; what stood is told anew where it stands still, and nobody is told that it is over. The messages."""
    number: int = await connection.fetchval(
        """with unsent as (
               update lab.alert_message set state = 'failed', error = $3, claimed_by = null, claimed_until = null
                where organization_id = $1 and state = 'waiting' returning id, channel, person
           ), said as (
               insert into lab.alert_event (id, organization_id, alert_id, message_id, what, channel, person, note,
                   actor_kind, actor_id, actor_name)
               select lab.new_id(), $1, t.alert_id, u.id, 'failed', u.channel, u.person, $3, $2, $4, $5
                 from unsent u cross join lateral (
                     select distinct e.alert_id from lab.alert_event e
                      where e.organization_id = $1 and e.message_id = u.id and e.what = 'told') t
           )
           select count(*) from unsent""",
        actor.organization_id, actor.kind.value, reason, actor.id, actor.name,
    )  # fmt: skip
    await connection.execute(
        """update lab.alert set recovery_told_at = coalesce(recovery_told_at, now()), version = version + 1
            where organization_id = $1 and recovered_at is not null and told_at is not null
              and recovery_told_at is null""",
        actor.organization_id,
    )
    await connection.execute(
        """update lab.alert set told_at = null, step = 0, stepped_at = null, version = version + 1
            where organization_id = $1 and recovered_at is null and told_at is not null and acknowledged_at is null""",
        actor.organization_id,
    )
    return number


async def waiting_notices(connection: Connection) -> list[Receiver]:
    """To whom notices wait to be sent that nobody is sending at this moment."""
    rows = await connection.fetch(
        """select distinct channel, person, address from lab.alert_message
            where about = 'notice' and state = 'waiting' and claimed_by is null order by 1, 2, 3"""
    )
    return [Receiver(**row) for row in rows]


async def readdress(connection: Connection, former: Receiver, contacts: Sequence[Receiver], at: datetime) -> None:
    """Send what waits for the one at once to the first of these who has no copy of it; to nobody where each has one."""
    await connection.execute(
        """with m as (
               select m.id, c.channel, c.address from lab.alert_message m left join lateral (
                   select c.channel, c.address
                     from unnest($4::text[], $5::text[]) with ordinality as c (channel, address, place)
                    where not exists (
                        select from lab.alert_message o
                         where o.organization_id = m.organization_id and o.created_at = m.created_at
                           and (o.about, o.person, o.title, o.body) = (m.about, m.person, m.title, m.body)
                           and (o.channel, o.address) = (c.channel, c.address))
                    order by c.place limit 1) c on true
                where m.about = 'notice' and m.state = 'waiting' and m.claimed_by is null
                  and m.channel = $1 and m.person = $2 and m.address = $3
           )
           update lab.alert_message a set channel = coalesce(m.channel, a.channel),
               address = coalesce(m.address, a.address), due_at = $6, attempts = 0,
               state = case when m.channel is null then 'failed' else state end,
               error = case when m.channel is null then 'it is no contact of a notice any more' else '' end
             from m where a.id = m.id and a.state = 'waiting' and a.claimed_by is null""",
        former.channel, former.person, former.address, [one.channel for one in contacts],
        [one.address for one in contacts], at,
    )  # fmt: skip

"""What the daemon looks at for alerts, of one organization: backlog, held results, untold tasks, work, deliveries."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.domain.subscription import SWITCHED_OFF
from interface.store.db import Connection
from interface.store.ids import instant_of
from interface.store.leases import elsewhere
from interface.store.stored_messages import DAMAGES


@dataclass(frozen=True, slots=True)
class Amount:
    """`oldest`: since when the oldest of them waits; None where there are none."""

    number: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class UntoldCritical:
    """A task nobody has confirmed to know of. `order_number` and `test`: for a policy that allows to say them."""

    id: UUID
    order_number: str
    test: str


async def backlog(connection: Connection, organization_id: UUID) -> Amount:
    """Messages that wait to be decided. The oldest is the first by its id, and came when it was received: ids go on
    after those of a clock that was ahead."""
    row = await connection.fetchrow(
        """select count(*)::int as number, min(message_id::text) as oldest from lab.queue where organization_id = $1""",
        organization_id,
    )
    if row is None or not row["oldest"]:
        return Amount(0, None)
    first = UUID(row["oldest"])
    came = None
    with suppress(*DAMAGES):  # whose page cannot be read waits for as long as that is so
        async with connection.transaction():
            came = await connection.fetchval("select received_at from lab.message where id = $1", first)
    return Amount(row["number"], came or instant_of(first))


async def unread(connection: Connection, organization_id: UUID, known: Collection[UUID]) -> dict[str, int]:
    """How many messages wait of links that another daemon has, and that are none of these, by their names."""
    names = {id: name for id, name in (await elsewhere(connection)).items() if id not in known}
    if not names:
        return {}
    rows = await connection.fetch(
        """select lane, count(*)::int as number from lab.queue where organization_id = $1 and lane = any($2)
            group by lane""",
        organization_id, list(names),
    )  # fmt: skip
    return {names[row["lane"]]: row["number"] for row in rows}


async def held(connection: Connection, before: datetime) -> Amount:
    """Results that are held since before then, or by a clock that has been put back since: nobody knows how long."""
    row = await connection.fetchrow(
        """select count(*)::int as number, min(created_at) as oldest from lab.result
            where held <> '{}' and (created_at < $1 or created_at > now() + interval '1 minute')""",
        before,
    )
    return Amount(row["number"], row["oldest"]) if row else Amount(0, None)


async def unmapped(connection: Connection, before: datetime) -> dict[str, int]:
    """How many results of which analyzer wait for a map since before then; as for `held`."""
    rows = await connection.fetch(
        """select coalesce(a.name, '') as analyzer, count(*)::int as number
             from lab.result r left join lab.analyzer a on a.id = r.analyzer_id
            where r.held <> '{}' and 'unmapped_code' = any(r.held)
              and (r.created_at < $1 or r.created_at > now() + interval '1 minute') group by 1""",
        before,
    )
    return {row["analyzer"]: row["number"] for row in rows}


async def refused_work(connection: Connection) -> dict[str, int]:
    """How much work which analyzer has refused, or could not be told."""
    rows = await connection.fetch(
        """select a.name as analyzer, count(*)::int as number
             from lab.dispatch d join lab.analyzer a on a.id = d.analyzer_id
            where d.state in ('refused', 'failed') group by 1"""
    )
    return {row["analyzer"]: row["number"] for row in rows}


async def parked_no_more(connection: Connection) -> list[str]:
    """Of the messages of which an alert stands that they could not be decided, those that were since. By one statement:
    who parks one says so in the transaction that does."""
    rows = await connection.fetch(
        """select a.subject from lab.alert a
            where a.kind = 'parked' and a.thing = 'message' and a.recovered_at is null and not exists (
                select from lab.message m where m.id = a.subject::uuid and m.settled = 'parked')"""
    )
    return [row["subject"] for row in rows]


async def untold_criticals(connection: Connection, limit: int = 500) -> list[UntoldCritical]:
    """Those of which an alert stands, and the newest `limit`: however many nobody ever told of, the next one is."""
    rows = await connection.fetch(
        """with t as (
               select * from lab.critical_notification
                where state in ('open', 'attempted') or (state = 'notified' and not read_back)
           )
           select t.id, coalesce(o.number, '') as order_number, v.test_name as test
             from t
             join lab.result r on r.id = t.result_id
             join lab.result_version v on v.id = t.result_version_id
             left join lab.lab_order o on o.id = r.order_id
            where t.id in (select id from t order by created_at desc, id desc limit $1)
               or exists (select from lab.alert a where a.organization_id = t.organization_id
                             and a.kind = 'critical_untold' and a.thing = 'critical' and a.subject = t.id::text
                             and a.recovered_at is null)
            order by t.created_at, t.id""",
        limit,
    )
    return [UntoldCritical(row["id"], row["order_number"], row["test"]) for row in rows]


async def deliveries(connection: Connection, least_attempts: int) -> dict[UUID, str]:
    """Subscriptions that are not told, though nobody switched them off, or whose endpoint refused something: why."""
    rows = await connection.fetch(
        """select s.id, s.error from lab.subscription s
            where s.ended_at is null and (
                (s.status = 'error' and s.attempts >= $1)
                or (s.status = 'off' and s.error <> '' and not starts_with(s.error, $2))
                or exists (select from lab.subscription_letter l where l.subscription_id = s.id and l.sent_at is null))
            order by s.id limit 500""",
        least_attempts, SWITCHED_OFF,
    )  # fmt: skip
    return {row["id"]: row["error"] for row in rows}


async def heard(connection: Connection) -> dict[UUID, datetime]:
    """When each link was heard last, as it is stored."""
    rows = await connection.fetch("select link_id, heard_at from lab.link_state where heard_at is not null")
    return {row["link_id"]: row["heard_at"] for row in rows}

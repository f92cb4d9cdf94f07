"""Of which orders a ward or a practitioner may have to be told: found by the feed of changes, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from interface.domain.flags import CRITICAL
from interface.domain.roster import NoticeKind
from interface.store import changes
from interface.store.db import Connection

ROWS = 200  # of the feed at once
COUNTER: Final = "notices"  # of the feed, up to where it was looked through
_ASLEEP = -1  # its value where nobody asks
_KINDS = ("order", "result", "specimen")

# The newest test of an order (`l`) that was ordered since its ward was told that all of it is reported, or cancelled,
# by the time in its id: what a hospital orders on a tube that is there is of the same order here, and has an end of its
# own.
_LATER = """
    select i.id from lab.notice n join lab.order_item i on i.order_id = l.id
     where n.organization_id = l.organization_id and n.record_id = l.id and n.what = e.what and i.status = any(e.ended)
       and ('x' || substr(replace(i.id::text, '-', ''), 1, 12))::bit(48)::bigint
           > extract(epoch from n.created_at) * 1000
     order by i.id desc limit 1
"""
# Orders that rows of the feed mean, with what is true of each now; those of which a result, a test or the whole changed
# in the row's own transaction: that a report has another name on it is no news of an order that ended years ago.
_ORDERS = f"""
with meant as (
    select o.entity_id as id from lab.outbox o where o.seq > $1 and o.seq <= $2 and o.kind = 'order' and (
        exists (select from lab.result r where r.order_id = o.entity_id and r.updated_at = o.created_at)
        or exists (select from lab.order_item i where i.order_id = o.entity_id and i.updated_at = o.created_at)
        or exists (select from lab.lab_order c where c.id = o.entity_id and c.cancelled_at = o.created_at))
    union
    select r.order_id from lab.outbox o join lab.result r on r.id = o.entity_id
     where o.seq > $1 and o.seq <= $2 and o.kind = 'result' and r.order_id is not null
)
select e.what, coalesce(({_LATER}), l.id) as record_id, l.id as order_id
  from meant m join lab.lab_order l on l.id = m.id
  join (values ('final', '{{verified}}'::text[]), ('cancelled', '{{cancelled,rejected}}')) as e (what, ended)
    on (e.what = 'cancelled') = (l.cancelled_at is not null)
 where l.cancelled_at is not null
    or (exists (select from lab.order_item i where i.order_id = l.id and i.status = 'verified')
        and not exists (select from lab.order_item i
                         where i.order_id = l.id and i.status not in ('verified', 'cancelled', 'rejected')))
union all
select 'rejected', s.id, s.order_id from lab.outbox o join lab.specimen s on s.id = o.entity_id
 where o.seq > $1 and o.seq <= $2 and o.kind = 'specimen' and s.state = 'rejected' and s.order_id is not null
"""  # noqa: S608 - put together of constants
# Of what is released only: whoever is told of a result that is held knows that there is one. A task goes on to name the
# version that it was opened for, which a person's release is not; what it names may also wait beside what is released.
_CRITICAL = """
select 'critical' as what, t.id as record_id, r.order_id
  from lab.critical_notification t join lab.result r on r.id = t.result_id
  join lab.result_version v on v.id = r.version_id
 where (t.state in ('open', 'attempted') or (t.state = 'notified' and not t.read_back))
   and t.kind = 'critical' and r.order_id is not null and v.flags && $1::text[]
   and r.status in ('final', 'corrected', 'amended') and r.held = '{}'
   and not exists (select from lab.notice n
                    where n.organization_id = t.organization_id and n.what = 'critical' and n.record_id = t.id)
"""


# What the order says now, then what each number says under which something of it was ordered.
_ASKED = """
select a.order_id, a.ward, array(
    select x from lab.practitioner_identifier p, unnest(array[p.authority || '|' || p.value, p.value]) x
     where p.practitioner_id = a.requester_id and p.ended_at is null) as practitioners
  from (select l.id as order_id, l.ward, l.requester_id, 0 as place from lab.lab_order l where l.id = any($1::uuid[])
        union all
        select distinct i.order_id, q.ward, q.requester_id, 1 from lab.order_item i
          join lab.placer_item w on w.order_item_id = i.id and w.dropped_at is null
          join lab.placer_order q on q.id = w.placer_order_id and q.ended_at is null
         where i.order_id = any($1::uuid[])) a
 order by a.place
"""
# Of a critical result: the ward where the patient is now, and who asked for its test under each number that stands for
# it, or before there was one; where that does not say who, who asked for the order.
_ASKED_OF_CRITICAL = """
with t as (
    select t.id as record_id, l.ward, l.requester_id, r.order_item_id from lab.critical_notification t
      join lab.result r on r.id = t.result_id join lab.lab_order l on l.id = r.order_id where t.id = any($1::uuid[])
), q as (
    select t.record_id, coalesce(p.requester_id, t.requester_id) as requester_id
      from t join lab.placer_item w on w.order_item_id = t.order_item_id
      join lab.placer_order p on p.id = w.placer_order_id
     where w.dropped_at is null and p.ended_at is null
     union
    select t.record_id, t.requester_id from t join lab.placer_item w on w.order_item_id = t.order_item_id
     where w.ordered_before
)
select t.record_id, t.ward, array(
    select x from lab.practitioner_identifier p, unnest(array[p.authority || '|' || p.value, p.value]) x
     where p.practitioner_id = coalesce(q.requester_id, t.requester_id) and p.ended_at is null) as practitioners
  from t left join q using (record_id)
"""


@dataclass(frozen=True, slots=True)
class Happened:
    """`asked`: the ward that the order has now and who asked for it first, then those of each number on it; of a
    critical result, that ward and who asked for the test. Of a practitioner the numbers, each as `authority|value` and
    as `value`."""

    what: NoticeKind
    record_id: UUID
    order_number: str
    asked: tuple[tuple[str, tuple[str, ...]], ...]
    tests: tuple[str, ...]


async def happened(connection: Connection, organization_id: UUID) -> list[Happened]:
    """What has happened since the last call and was never noted; noted in the caller's transaction. The first call, and
    the first after `nobody_asks`, finds nothing: what happened before is no news."""
    await connection.execute(
        """insert into lab.counter (organization_id, name, value) values ($1, $2, $3) on conflict do nothing""",
        organization_id, COUNTER, _ASLEEP,
    )  # fmt: skip
    position: int = await connection.fetchval("select value from lab.counter where name = $1 for update", COUNTER)
    of_critical = await connection.fetch(_CRITICAL, sorted(CRITICAL))
    found = [(row["what"], row["record_id"], row["order_id"]) for row in of_critical]
    if position == _ASLEEP:
        await _go_on(connection, await changes.last_position(connection))
        await _noted(connection, organization_id, found)
        return []
    if rows := await changes.after(connection, position, ROWS, _KINDS):
        until = rows[-1].position
        of_orders = await connection.fetch(_ORDERS, position, until)
        found += [(row["what"], row["record_id"], row["order_id"]) for row in of_orders]
        await _go_on(connection, until)
    return await _noted(connection, organization_id, list(dict.fromkeys(found)))


async def nobody_asks(connection: Connection) -> None:
    """Nobody is told of orders now: what happens from here on is no news to who asks for it later."""
    await connection.execute("update lab.counter set value = $2 where name = $1 and value <> $2", COUNTER, _ASLEEP)


async def _go_on(connection: Connection, position: int) -> None:
    await connection.execute("update lab.counter set value = $2 where name = $1", COUNTER, position)


async def _noted(
    connection: Connection, organization_id: UUID, found: Sequence[tuple[str, UUID, UUID]]
) -> list[Happened]:
    rows = await connection.fetch(
        """with fresh as (
               insert into lab.notice (organization_id, what, record_id)
               select distinct $1::uuid, i.what, i.record_id from unnest($2::text[], $3::uuid[]) as i (what, record_id)
               on conflict do nothing returning what, record_id
           )
           select f.what, f.record_id, l.id as order_id, l.number as order_number,
                  array(select distinct t.name from lab.order_item i join lab.test t on t.id = i.test_id
                         where i.order_id = l.id and i.status <> 'cancelled' order by t.name) as tests
             from fresh f
             join unnest($2::text[], $3::uuid[], $4::uuid[]) as i (what, record_id, order_id)
               on i.what = f.what and i.record_id = f.record_id
             join lab.lab_order l on l.id = i.order_id""",
        organization_id, [what for what, _, _ in found], [id for _, id, _ in found], [order for _, _, order in found],
    )  # fmt: skip
    asked: dict[UUID, list[tuple[str, tuple[str, ...]]]] = {}
    critical = [row["record_id"] for row in rows if row["what"] == NoticeKind.CRITICAL]
    orders = [row["order_id"] for row in rows if row["what"] != NoticeKind.CRITICAL]
    for row in await connection.fetch(_ASKED, orders) if orders else ():
        asked.setdefault(row["order_id"], []).append((row["ward"], tuple(row["practitioners"])))
    for row in await connection.fetch(_ASKED_OF_CRITICAL, critical) if critical else ():
        asked.setdefault(row["record_id"], []).append((row["ward"], tuple(row["practitioners"])))
    return [
        Happened(
            NoticeKind(row["what"]), row["record_id"], row["order_number"],
            tuple(asked[row["record_id" if row["what"] == NoticeKind.CRITICAL else "order_id"]]), tuple(row["tests"]),
        )
        for row in rows
    ]  # fmt: skip

"""Rows that say which analyzer measures what: routes, analyzers that are down, links as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from interface.store.db import Connection

AHEAD: Final = timedelta(minutes=1)  # two clocks may be so far apart


async def note_links(
    connection: Connection, organization_id: UUID, links: Sequence[tuple[UUID, bool, datetime | None]], now: datetime
) -> dict[UUID, datetime]:
    """Write how links stand: id, whether the other end can be told, when it was heard since the daemon's start (None:
    not yet). Returns when each was heard last at all: what is later than `now` was noted by a clock that has been put
    back since, and says no more than that it was before."""
    rows = await connection.fetch(
        """
        insert into lab.link_state as s (link_id, organization_id, connected, heard_at, changed_at, looked_at)
        select i.id, $1, i.connected, i.heard_at, $5, $5
          from (select id, connected, case when heard_at <= $5::timestamptz + $6::interval then heard_at end as heard_at
                  from unnest($2::uuid[], $3::boolean[], $4::timestamptz[]) as of_now (id, connected, heard_at)) i
        on conflict (link_id) do update set connected = excluded.connected, looked_at = excluded.looked_at,
            heard_at = greatest(
                case when s.heard_at > $5::timestamptz + $6::interval then $5 else s.heard_at end, excluded.heard_at),
            changed_at = case when s.connected = excluded.connected then s.changed_at else excluded.changed_at end
        returning link_id, heard_at
        """,
        organization_id, [one for one, _, _ in links], [up for _, up, _ in links], [at for _, _, at in links], now,
        AHEAD,
    )  # fmt: skip
    return {row["link_id"]: row["heard_at"] for row in rows if row["heard_at"] is not None}


# One definition of an analyzer that is down, for whoever routes. Nobody looks at a link that is not there any more: how
# it stood last says nothing.
DOWN = """
    select analyzer_id from lab.analyzer_down where ended_at is null
    union
    select l.analyzer_id from lab.link_state s join lab.link l on l.id = s.link_id
     where l.role = 'analyzer' and s.looked_at > now() - interval '5 minutes'
     group by l.analyzer_id having not bool_or(s.connected)
"""


async def looked_at(connection: Connection) -> set[str]:
    """The analyzers that a daemon has a link of, whichever it is."""
    rows = await connection.fetch(
        """select distinct a.name from lab.link_state s join lab.link l on l.id = s.link_id
             join lab.analyzer a on a.id = l.analyzer_id where s.looked_at > now() - interval '5 minutes'"""
    )
    return {row["name"] for row in rows}


async def offer_elsewhere(connection: Connection) -> None:
    """What an analyzer that is down was given is looked at again by the others that measure the test by a route and are
    told of their work; what is to be measured again by one that is down, by all that have a code for the test."""
    await connection.execute(
        f"""
        insert into lab.work_due (analyzer_id, order_item_id, organization_id)
        select distinct w.analyzer_id, w.item_id, w.organization_id from (
            select r.analyzer_id, i.id as item_id, i.organization_id
              from ({DOWN}) gone
              join lab.dispatch d on d.analyzer_id = gone.analyzer_id and d.kind = 'new'
                                 and d.state in ('queued', 'sent', 'accepted')
              join lab.order_item i on i.id = d.order_item_id
              join lab.route r on r.test_id = i.test_id and r.ended_at is null and r.analyzer_id <> d.analyzer_id
            union all
            select a.id, i.id, i.organization_id
              from lab.lab_order o
              join lab.order_item i on i.order_id = o.id and i.status = 'in_progress'
              join lab.follow_up f on f.order_item_id = i.id and f.state in ('requested', 'sent')
                                  and f.kind in ('rerun', 'dilution')
              join lab.result r on r.id = f.result_id
              join lab.analyzer a on a.id <> r.analyzer_id
             where o.waiting and r.analyzer_id in ({DOWN})
               and exists (select from lab.code_map c
                            where c.driver = a.driver and c.test_id = i.test_id and c.ended_at is null)
        ) w join lab.analyzer a on a.id = w.analyzer_id and a.worklist
         where not exists (select from lab.dispatch o where o.order_item_id = w.item_id
                              and o.analyzer_id = w.analyzer_id and o.state not in ('resulted', 'cancelled'))
        on conflict do nothing
        """  # noqa: S608 - a constant
    )


async def count_states(connection: Connection) -> dict[str, int]:
    """How much work is queued, refused and failed."""
    rows = await connection.fetch(
        """select state, count(*) as works from lab.dispatch where state in ('refused', 'failed') group by state
           union all select state, count(*) from lab.dispatch where state = 'queued' group by state"""
    )
    return {row["state"]: row["works"] for row in rows}

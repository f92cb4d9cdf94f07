"""Which specimens wait for an analyzer that asks for whatever there is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from interface.store.db import Connection


async def waiting_specimens(
    connection: Connection,
    analyzer_id: UUID,
    test_ids: Collection[UUID],
    most: int,
    *,
    all_: bool = False,
    ranges: Sequence[tuple[str, str]] = (),
    racks: Sequence[str] = (),
    places: Sequence[tuple[str, str]] = (),
    since: datetime | None = None,
) -> list[UUID]:
    """Received specimens with an item of one of these tests that waits: all, those whose barcode is within a range (as
    long as both its ends), those in a rack or at a place (rack and position). The most urgent first, then those of
    which the analyzer was not told all, then the oldest. `since`: when it was received, or else ordered, at the
    earliest."""
    rows = await connection.fetch(
        """
        select s.id from lab.lab_order o
          join lab.order_item i on i.order_id = o.id join lab.specimen s on s.id = i.specimen_id
          left join lab.dispatch d on d.order_item_id = i.id and d.analyzer_id = $9
                                  and d.state not in ('resulted', 'cancelled', 'queued')
         where o.waiting and i.status in ('received', 'in_progress') and i.test_id = any($1::uuid[])
           and s.state in ('received', 'stored')
           and ($10::timestamptz is null or greatest(s.received_at, s.created_at) >= $10) and (
               $3 or s.rack <> '' and s.rack = any($4::text[])
               or exists (select from unnest($5::text[], $6::text[]) as p (rack, position)
                           where s.rack = p.rack and s.rack <> '' and s.position = p.position)
               or exists (select from unnest($7::text[], $8::text[]) as p (first, last)
                           where length(s.barcode) = length(p.first) and length(s.barcode) = length(p.last)
                             and s.barcode collate "C" between p.first and p.last))
         group by s.id, s.received_at
         order by min(array_position(array['stat', 'asap'], o.priority)) nulls last, bool_and(d.id is not null),
                  s.received_at, s.id
         limit $2
        """,
        list(test_ids), most, all_, list(racks), [rack for rack, _ in places], [at for _, at in places],
        [first for first, _ in ranges], [last for _, last in ranges], analyzer_id, since,
    )  # fmt: skip
    return [row["id"] for row in rows]

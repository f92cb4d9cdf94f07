"""Writes to orders that are there: changed, cancelled, measured, off worksheets; when is for `flow.order_changes`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.domain.model import Priority
from interface.domain.times import CLOCK_AHEAD
from interface.domain.views import OrderView
from interface.store.db import Connection
from interface.store.placing import keep_asked


@dataclass(frozen=True, slots=True)
class OrderLocked:
    """An order, locked, as far as something is added to it."""

    number: str
    patient_id: UUID | None
    priority: Priority
    cancelled: bool


async def lock_order(connection: Connection, order_id: UUID) -> OrderLocked | None:
    """After specimens and items, as everybody locks."""
    row = await connection.fetchrow(
        "select number, patient_id, priority, cancelled_at is not null as cancelled from lab.lab_order where id = $1"
        " for no key update",
        order_id,
    )
    return OrderLocked(row["number"], row["patient_id"], Priority(row["priority"]), row["cancelled"]) if row else None


async def close_order(connection: Connection, order_id: UUID, reason: str) -> None:
    """The order as a whole is cancelled, unless somebody has added to it at the same moment. Its version was counted up
    with its items."""
    await connection.execute(
        """
        update lab.lab_order set cancelled_at = now(), cancel_reason = $2, updated_at = now()
        where id = $1 and cancelled_at is null and not exists (
            select from lab.order_item where order_id = $1 and status not in ('cancelled', 'rejected'))
        """,
        order_id,
        reason,
    )


async def reopen_order(connection: Connection, order_id: UUID) -> None:
    """Something of the order is wanted again, which was cancelled as a whole. Its version is counted by the caller."""
    await connection.execute(
        "update lab.lab_order set cancelled_at = null, cancel_reason = '', updated_at = now()"
        " where id = $1 and cancelled_at is not null",
        order_id,
    )


async def update_facts(
    connection: Connection, order: OrderView, requester_id: UUID | None, ward_at: datetime | None
) -> None:
    """What the view says of the patient's state and of who asks, as the order's next version. `ward_at`: when the
    hospital said its ward."""
    await connection.execute(
        """
        update lab.lab_order
        set priority = $2, clinical_history = $3, ward = $4, patient_group = $5, pregnant = $6, gestation_weeks = $7,
            requester_id = $8, version = version + 1, updated_at = now(),
            ward_at = case when ward = $4 then ward_at when $9::timestamptz is not null then least($9, now()) end
        where id = $1
        """,
        order.id, order.priority, order.clinical_history, order.ward, order.patient_group, order.pregnant,
        order.gestation_weeks, requester_id, ward_at,
    )  # fmt: skip


_MOVING = """
select o.id, o.ward from lab.lab_order o
where o.patient_id = any($1::uuid[]) and o.cancelled_at is null
  and coalesce(o.ward_at <= $2::timestamptz + $3::interval, true) and (exists (
    select from lab.order_item i
    where i.order_id = o.id and i.status in ('requested', 'collected', 'received', 'in_progress', 'completed')
) or exists (
    select from lab.result r join lab.critical_notification t on t.result_id = r.id
    where r.order_id = o.id and (t.state in ('open', 'attempted') or (t.state = 'notified' and not t.read_back))))
order by o.id for no key update of o
"""


async def move(
    connection: Connection, patient_ids: Sequence[UUID], ward: str, at: datetime | None
) -> list[tuple[UUID, str]]:
    """These patients are on this ward now: so say the orders of which something is still to be reported or told. Each
    with the ward of before. `at`: when the hospital noted it, where it says so: what it has said since stays. Two of
    its systems may have clocks that differ a little; what was noted in a time that is to come was noted by now."""
    rows = await connection.fetch(_MOVING, list(patient_ids), at, CLOCK_AHEAD)
    moved = [(row["id"], row["ward"]) for row in rows if row["ward"] != ward]
    await still_there(connection, [row["id"] for row in rows if row["ward"] == ward], at)
    await keep_asked(connection, [order_id for order_id, _ in moved])
    await connection.execute(
        "update lab.lab_order set ward = $2, version = version + 1, updated_at = now(),"
        " ward_at = case when $3::timestamptz is not null then least($3, now()) end where id = any($1::uuid[])",
        [order_id for order_id, _ in moved],
        ward,
        at,
    )
    return moved


async def measured(connection: Connection, item_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the items that have a result, held or not, which a person has not discarded and is no failed run."""
    rows = await connection.fetch(
        """
        select i.id from lab.order_item i where i.id = any($1::uuid[]) and exists (
            select from lab.result r where r.order_id = i.order_id and r.order_item_id = i.id
            and r.status not in ('cancelled', 'entered-in-error') and not r.held && '{run_failed,no_value}')
        """,
        list(item_ids),
    )
    return frozenset(row["id"] for row in rows)


async def still_there(connection: Connection, order_ids: Sequence[UUID], at: datetime | None) -> None:
    """The ward of these orders was said once more at a time, where that is known: what was noted before it, and is told
    late, moves nobody either. No ward is none that was said."""
    await connection.execute(
        "update lab.lab_order set ward_at = greatest(ward_at, least($2, now())) where id = any($1::uuid[])"
        " and ward <> '' and $2::timestamptz is not null",
        order_ids,
        at,
    )


async def off_worksheets(connection: Connection, item_ids: Sequence[UUID]) -> None:
    """These items are not worked on at any worksheet any more; they stay on it, to be read."""
    await connection.execute(
        "update lab.worksheet_item set open = false where open and order_item_id = any($1::uuid[])", list(item_ids)
    )


_NONE_WAITS = """
UPDATE lab.lab_order o SET waiting = false
WHERE o.id = ANY($1) AND o.waiting AND NOT EXISTS (
    SELECT FROM lab.order_item i WHERE i.order_id = o.id
    AND i.status IN ('requested', 'collected', 'received', 'in_progress'))
"""


# In the order in which everybody locks several.
_LOCK = "SELECT FROM lab.lab_order WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"
_COUNT_RELEASED = """
UPDATE lab.lab_order o SET version = version + 1, updated_at = now(), waiting = waiting AND EXISTS (
    SELECT FROM lab.order_item i WHERE i.order_id = o.id
    AND i.status IN ('requested', 'collected', 'received', 'in_progress'))
WHERE o.id = ANY($1)
"""


async def count_released(connection: Connection, order_ids: Iterable[UUID | None]) -> None:
    """The next version of orders of which results have been released, by earlier statements of the transaction; with
    what `none_waits` says of them.

    In one change of each order, for each change writes all its indexes. Whoever adds an item at the same moment holds
    the order (migration 0017): it is waited for before the items are looked at, or waits itself.
    """
    if known := [order_id for order_id in order_ids if order_id is not None]:
        await connection.execute(_LOCK, known)
        await connection.execute(_COUNT_RELEASED, known)


async def none_waits(connection: Connection, order_ids: Iterable[UUID | None]) -> None:
    """Say of those of the orders whose items have all come that nothing of them is waited for.

    Only of orders that the transaction has written to in an earlier statement: an item that somebody else adds at the
    same moment is then seen, or added after this has been committed (migration 0017).
    """
    if known := [order_id for order_id in order_ids if order_id is not None]:
        await connection.execute(_NONE_WAITS, known)

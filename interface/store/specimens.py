"""Specimens as rows: locked, stepped, moved, each step with its event; what may be done when is in `flow.specimens`.

Locks are taken in one order by everybody: specimens by id, then order items by id, then orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.domain.model import RELEASED, TAKEN_BACK, ItemStatus
from interface.domain.states import SPECIMEN_STATUS, SpecimenState
from interface.domain.views import Actor, SpecimenEventView
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.order_changes import none_waits
from interface.store.versions import was_preliminary


@dataclass(frozen=True, slots=True)
class SpecimenLocked:
    """A locked specimen as far as a step needs it."""

    id: UUID
    barcode: str
    type: str
    state: SpecimenState
    order_id: UUID | None
    order_number: str
    patient_id: UUID | None
    parent_id: UUID | None
    container: str
    time_point_min: int | None
    collected_at: datetime | None
    received_at: datetime | None
    rack: str
    position: str


@dataclass(frozen=True, slots=True)
class ItemLocked:
    """A locked order item. `test_name` is for people."""

    id: UUID
    order_id: UUID
    specimen_id: UUID | None
    test_id: UUID
    test_code: str
    status: ItemStatus


_LOCK = """
select s.id, s.barcode, s.type, s.state, s.order_id, coalesce(o.number, '') as order_number, s.patient_id, s.parent_id,
       s.container, s.time_point_min, s.collected_at, s.received_at, s.rack, s.position
from lab.specimen s left join lab.lab_order o on o.id = s.order_id
where s.id = any($1::uuid[]) order by s.id for update of s
"""
# Told of each as it is seen: also of what was taken back, and of what was released and is retracted.
_TIME_RESULTS = f"""
with changed as (
    update lab.result
    set effective_at = $2, updated_at = now(), told_of = version_id, told_id = lab.new_id(), told_at = now()
    where specimen_id = $1 returning *
), preliminary as (
    insert into lab.outbox (id, organization_id, kind, entity_id, versions)
    select lab.new_id(), organization_id, 'preliminary', coalesce(order_id, id), array[version_id] from changed c
    where c.status = 'preliminary' and c.held = '{{}}' and c.reportable
       or c.status = any($4::text[]) and c.released_at is null and {was_preliminary("c.id")}
)
insert into lab.outbox (id, organization_id, kind, entity_id, entity_version)
select lab.new_id(), organization_id, 'result', id, version from changed
where status = any($3::text[]) and held = '{{}}' and reportable
   or status = 'entered-in-error' and released_at is not null
"""  # noqa: S608 - names of ours
_FAMILY = """
with recursive family (id) as (
    select id from lab.specimen where id = $1
    union
    select s.id from lab.specimen s join family f on s.parent_id = f.id
)
select id from family
"""


async def lock_specimens(connection: Connection, specimen_ids: Iterable[UUID]) -> list[SpecimenLocked]:
    """In the order of their ids, as the deciding of results does."""
    rows = await connection.fetch(_LOCK, list(specimen_ids))
    return [SpecimenLocked(**{**dict(row.items()), "state": SpecimenState(row["state"])}) for row in rows]


async def lock_family(connection: Connection, specimen_id: UUID) -> list[SpecimenLocked]:
    """The specimen and every aliquot of it and of these."""
    return await lock_specimens(connection, [row["id"] for row in await connection.fetch(_FAMILY, specimen_id)])


async def specimens_of(connection: Connection, order_id: UUID) -> list[UUID]:
    rows = await connection.fetch("select id from lab.specimen where order_id = $1 order by id", order_id)
    return [row["id"] for row in rows]


async def specimens_beside(connection: Connection, item_ids: Iterable[UUID]) -> list[UUID]:
    """All specimens of the orders that these items belong to."""
    rows = await connection.fetch(
        """
        select id from lab.specimen
        where order_id in (select order_id from lab.order_item where id = any($1::uuid[])) order by id
        """,
        list(item_ids),
    )
    return [row["id"] for row in rows]


async def find_by_barcode(connection: Connection, barcode: str) -> list[UUID]:
    """The specimens of this barcode that may be measured; where there are none, the newest of the others."""
    rows = await connection.fetch(
        "select id, status from lab.specimen where barcode = $1 order by id desc",
        barcode,
    )
    available = [row["id"] for row in rows if row["status"] == "available"]
    return available or [row["id"] for row in rows[:1]]


async def lock_items(
    connection: Connection, *, specimen_ids: Iterable[UUID] = (), order_id: UUID | None = None
) -> list[ItemLocked]:
    """The order items on these specimens, or of this order, in the order of their ids."""
    rows = await connection.fetch(
        """
        select i.id, i.order_id, i.specimen_id, i.test_id, t.code as test_code, i.status
        from lab.order_item i join lab.test t on t.id = i.test_id
        where i.specimen_id = any($1::uuid[]) or i.order_id = $2 order by i.id for update of i
        """,
        list(specimen_ids),
        order_id,
    )
    return [ItemLocked(**{**dict(row.items()), "status": ItemStatus(row["status"])}) for row in rows]


async def set_state(
    connection: Connection,
    specimen: SpecimenLocked,
    state: SpecimenState,
    *,
    collected_at: datetime | None = None,
    received_at: datetime | None = None,
    collected_by: str = "",
    received_by: str = "",
    container: str = "",
    reject_code: str = "",
    reject_reason: str = "",
    rack: str = "",
    position: str = "",
) -> None:
    """The specimen in its new state. What is given of collection, receipt and container is written where it is given;
    rejection and place are what is given here, also when that is nothing."""
    await connection.execute(
        """
        update lab.specimen
        set state = $2, status = $3, collected_at = coalesce($4, collected_at), received_at = coalesce($5, received_at),
            collected_by = coalesce(nullif($6, ''), collected_by), received_by = coalesce(nullif($7, ''), received_by),
            container = coalesce(nullif($8, ''), container), reject_code = $9, reject_reason = $10, rack = $11,
            position = $12, version = version + 1, updated_at = now()
        where id = $1
        """,
        specimen.id, state, SPECIMEN_STATUS[state], collected_at, received_at, collected_by, received_by, container,
        reject_code, reject_reason, rack, position,
    )  # fmt: skip


async def set_collected(connection: Connection, specimen_id: UUID, at: datetime, by: str) -> None:
    """When it was taken; `by` "": by whom stays."""
    await connection.execute(
        "update lab.specimen set collected_at = $2, collected_by = coalesce(nullif($3, ''), collected_by),"
        " version = version + 1, updated_at = now() where id = $1",
        specimen_id, at, by,
    )  # fmt: skip


async def set_type(connection: Connection, specimen_ids: Sequence[UUID], type: str) -> None:
    await connection.execute(
        "update lab.specimen set type = $2, version = version + 1, updated_at = now() where id = any($1::uuid[])",
        specimen_ids,
        type,
    )


async def time_results(connection: Connection, specimen_id: UUID, collected_at: datetime) -> None:
    """Its results are of the time at which it was taken, which nobody had said before; who may see one of them is told.
    The caller has the specimen locked.

    What was measured is what it was, so that no result is amended: its version stands, with what was decided of it. But
    what is shown of it is another content, and has another versionId (FHIR R4 resource.html#Meta: it changes each time
    the content does; http.html#cread: 304 is of the same version)."""
    await connection.execute(_TIME_RESULTS, specimen_id, collected_at, sorted(RELEASED), sorted(TAKEN_BACK))


@dataclass(frozen=True, slots=True)
class MeasuredOn:
    """When a result was measured, as its analyzer said, and when that came."""

    result_id: UUID
    instrument_at: datetime | None
    received_at: datetime


async def has_results(connection: Connection, specimen_id: UUID) -> bool:
    """Whether there are results of it that nobody has taken back."""
    found: bool = await connection.fetchval(
        """select exists (select from lab.result where specimen_id = $1
            and status not in ('cancelled', 'entered-in-error'))""",
        specimen_id,
    )
    return found


async def measured_on(connection: Connection, specimen_id: UUID) -> list[MeasuredOn]:
    """What an analyzer measured on it and nobody has taken back."""
    rows = await connection.fetch(
        """
        select r.id, v.instrument_at, m.received_at from lab.result r
        cross join lateral (select * from lab.result_version w where w.id = r.version_id offset 0) v
        join lab.message m on m.id = v.message_id
        where r.specimen_id = $1 and r.origin = 'analyzer' and r.status not in ('cancelled', 'entered-in-error')
        order by r.natural_key
        """,
        specimen_id,
    )
    return [MeasuredOn(row["id"], row["instrument_at"], row["received_at"]) for row in rows]


async def add_events(
    connection: Connection,
    actor: Actor,
    specimen_ids: Sequence[UUID],
    action: str,
    states: Sequence[SpecimenState],
    *,
    at: datetime | None = None,
    rack: str = "",
    position: str = "",
    reason: str = "",
) -> None:
    """One event of each specimen with the state it is then in; `at` None is now."""
    await connection.execute(
        """
        insert into lab.specimen_event (id, organization_id, specimen_id, action, state, rack, position, reason,
                                        happened_at, actor_kind, actor_id, actor_name)
        select row.id, $1, row.specimen_id, $2, row.state, $3, $4, $5, coalesce($6, now()), $7, $8, $9
        from unnest($10::uuid[], $11::uuid[], $12::text[]) as row (id, specimen_id, state)
        """,
        actor.organization_id, action, rack, position, reason, at, actor.kind, actor.id, actor.name,
        [uuid7() for _ in specimen_ids], list(specimen_ids), [state.value for state in states],
    )  # fmt: skip


async def read_events(connection: Connection, specimen_id: UUID) -> list[SpecimenEventView]:
    """Every step and place of a specimen, oldest first. For staff."""
    rows = await connection.fetch(
        """
        select happened_at, action, state, actor_name as actor, rack, position, reason from lab.specimen_event
        where specimen_id = $1 order by id
        """,
        specimen_id,
    )
    return [SpecimenEventView(**{**dict(row.items()), "state": SpecimenState(row["state"])}) for row in rows]


async def set_items(
    connection: Connection, item_ids: Sequence[UUID], status: ItemStatus, *, reason: str = "", seen: bool = True
) -> None:
    """These items' new status. `seen`: an EMR sees the change, so that their orders have a new version."""
    rows = await connection.fetch(
        """
        update lab.order_item set status = $2, reason = $3, updated_at = now() where id = any($1::uuid[])
        returning order_id
        """,
        list(item_ids),
        status,
        reason,
    )
    if seen:
        order_ids = {row["order_id"] for row in rows}
        await touch_orders(connection, order_ids)
        await none_waits(connection, order_ids)


async def touch_orders(connection: Connection, order_ids: Iterable[UUID], after: datetime | None = None) -> None:
    """A new version of these orders, in the order of their ids; of a time `after` this one, whatever the clock says."""
    await connection.execute(
        """
        with o as (select id from lab.lab_order where id = any($1::uuid[]) order by id for update)
        update lab.lab_order
        set version = version + 1, updated_at = greatest(now(), $2::timestamptz + interval '1 microsecond')
        from o where lab_order.id = o.id
        """,
        list(order_ids),
        after,
    )


async def reject_on_unfit(connection: Connection, item_id: UUID | None, reason: str) -> None:
    """An item that waits again is rejected where its specimen is: nothing is measured on that any more."""
    unfit = await connection.fetchval(
        "select exists (select from lab.order_item i join lab.specimen s on s.id = i.specimen_id"
        " where i.id = $1 and s.state = 'rejected')",
        item_id,
    )
    if unfit and item_id is not None:
        await set_items(connection, [item_id], ItemStatus.REJECTED, reason=reason)


async def move_items(connection: Connection, item_ids: Sequence[UUID], specimen_id: UUID) -> None:
    """These items are measured on another specimen from now on; so their requests say, and the orders' next version."""
    rows = await connection.fetch(
        "update lab.order_item set specimen_id = $2, updated_at = now() where id = any($1::uuid[]) returning order_id",
        list(item_ids),
        specimen_id,
    )
    await touch_orders(connection, {row["order_id"] for row in rows})


async def reported(connection: Connection, item_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the items of which a result is released."""
    rows = await connection.fetch(
        """
        select distinct i.id from lab.order_item i
        join lab.result r on r.order_id = i.order_id and r.order_item_id = i.id
        where i.id = any($1::uuid[]) and r.status = any($2::text[])
        """,
        list(item_ids),
        sorted(RELEASED),
    )
    return {row["id"] for row in rows}


async def answered_elsewhere(
    connection: Connection, item_ids: Iterable[UUID], specimen_ids: Iterable[UUID]
) -> dict[UUID, UUID]:
    """Of the items those that have a result on another specimen, which is it: a tube answers for what was parted."""
    rows = await connection.fetch(
        """
        select i.id, r.specimen_id from lab.order_item i
        join lab.result r on r.order_id = i.order_id and r.order_item_id = i.id
        where i.id = any($1::uuid[]) and r.specimen_id <> all($2::uuid[])
          and r.status not in ('cancelled', 'entered-in-error')
        """,
        list(item_ids),
        list(specimen_ids),
    )
    return {row["id"]: row["specimen_id"] for row in rows}


async def count_aliquots(connection: Connection, specimen_id: UUID) -> int:
    count: int = await connection.fetchval("select count(*) from lab.specimen where parent_id = $1", specimen_id)
    return count


async def unreleased_results(connection: Connection, specimen_ids: Iterable[UUID]) -> list[UUID]:
    """The results of these specimens of which something waits that was measured: those that were never released and are
    not cancelled, and those beside which a change waits that no person made."""
    rows = await connection.fetch(
        """
        select r.id from lab.result r left join lab.result_version p on p.id = r.pending_version_id
        where r.specimen_id = any($1::uuid[]) and (
            r.released_at is null and r.status not in ('cancelled', 'entered-in-error')
            or r.origin <> 'calculation' and (p.actor_kind not in ('user', 'client') or p.verified_by is not null)
        ) order by r.natural_key
        """,
        list(specimen_ids),
    )
    return [row["id"] for row in rows]


async def rejection(connection: Connection, specimen_id: UUID) -> tuple[str, str]:
    """Why a specimen was rejected: code and text."""
    row = await connection.fetchrow("select reject_code, reject_reason from lab.specimen where id = $1", specimen_id)
    return (row["reject_code"], row["reject_reason"]) if row else ("", "")


async def place_taken(connection: Connection, rack: str, position: str, but: UUID) -> bool:
    """Whether another specimen stands at this place."""
    taken: bool = await connection.fetchval(
        "select exists (select from lab.specimen where rack = $1 and position = $2 and id <> $3)", rack, position, but
    )
    return taken

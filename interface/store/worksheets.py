"""What waits to be measured, and the worksheets it is worked on, as rows; what may be done is in `flow.worksheets`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from interface.domain.model import HoldReason, ItemStatus, Priority, ResultStatus
from interface.domain.states import OPEN_ITEM
from interface.domain.values import signed
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.query import Query


class WorksheetState(StrEnum):
    OPEN = "open"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class WorkFilter:
    """Which pending items. Values of one field any, different fields all; `analyzer` is one that can measure them."""

    analyzers: tuple[str, ...] = ()
    test_codes: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()
    wards: tuple[str, ...] = ()
    priorities: tuple[Priority, ...] = ()
    statuses: tuple[ItemStatus, ...] = ()  # of the open ones
    limit: int = 100


@dataclass(frozen=True, slots=True)
class PendingView:
    """An order item that waits, for the bench. `since`: when the laboratory got the specimen, else when it was taken,
    else when it was ordered."""

    item_id: UUID
    status: ItemStatus
    priority: Priority
    since: datetime
    test_code: str
    test_name: str
    department: str
    order_id: UUID
    order_number: str
    ward: str
    patient_id: UUID | None
    specimen_id: UUID | None
    barcode: str
    specimen_type: str
    container: str
    time_point_min: int | None
    worksheet: str = ""  # the open one it is on


@dataclass(frozen=True, slots=True)
class WorksheetItemView:
    """One place of a worksheet. `value`, with its sign, and the rest of the latest result since it was built, whoever
    measured it."""

    place: int
    item_id: UUID
    test_code: str
    test_name: str
    unit: str
    barcode: str
    time_point_min: int | None
    priority: Priority
    status: ItemStatus
    open: bool
    specimen_id: UUID | None
    patient_id: UUID | None
    result_id: UUID | None = None
    value: str = ""
    result_unit: str = ""
    flags: tuple[str, ...] = ()
    held: tuple[HoldReason, ...] = ()
    result_status: ResultStatus | None = None


@dataclass(frozen=True, slots=True)
class WorksheetView:
    id: UUID
    number: str
    name: str
    state: WorksheetState
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    analyzer: str = ""
    test_code: str = ""
    qc: str = ""  # the state of quality control when it was completed
    note: str = ""
    completed_at: datetime | None = None
    completed_by: str = ""
    items: tuple[WorksheetItemView, ...] = ()


# Nobody waits for a routine that somebody bleeds for: STAT, then as soon as possible, then who waits on the telephone
# or before an operation, then the rest; the oldest first.
_RANK = "array_position(array['stat', 'asap', 'callback', 'preop', 'routine'], o.priority)"
_SINCE = "coalesce(s.received_at, s.collected_at, o.ordered_at)"
_PENDING = f"""
select i.id as item_id, i.status, o.priority, {_SINCE} as since, t.code as test_code, t.name as test_name, t.department,
       o.id as order_id, o.number as order_number, o.ward, o.patient_id, i.specimen_id,
       coalesce(s.barcode, '') as barcode,
       coalesce(s.type, '') as specimen_type, coalesce(s.container, '') as container, s.time_point_min,
       coalesce(w.number, '') as worksheet
from lab.order_item i
join lab.lab_order o on o.id = i.order_id
join lab.test t on t.id = i.test_id
left join lab.specimen s on s.id = i.specimen_id
left join lab.worksheet_item wi on wi.order_item_id = i.id and wi.open
left join lab.worksheet w on w.id = wi.worksheet_id
where
"""  # noqa: S608 - our own two expressions
_MEASURES = """exists (
    select from lab.analyzer a join lab.link l on l.analyzer_id = a.id
    join lab.code_map m on m.driver = l.driver and (m.link_id is null or m.link_id = l.id)
    where a.name = any(?::text[]) and m.test_id = i.test_id and m.ended_at is null
      and m.valid_from <= now() and (m.valid_to is null or m.valid_to > now()))"""


async def pending(connection: Connection, filter: WorkFilter, *, free: bool = False) -> list[PendingView]:
    """What waits, the most urgent first. `free`: only what is on no open worksheet and on a specimen that is there."""
    query = Query()
    statuses = frozenset(filter.statuses or OPEN_ITEM)
    query.where("i.status = any(?::text[])", sorted(statuses))
    if statuses <= OPEN_ITEM:
        query.where("o.waiting")
    query.any(_MEASURES, filter.analyzers)
    query.any("t.code = any(?::text[])", filter.test_codes)
    query.any("t.department = any(?::text[])", filter.departments)
    query.any("o.ward = any(?::text[])", filter.wards)
    query.any("o.priority = any(?::text[])", filter.priorities)
    if free:
        query.where("wi.id is null and s.status = 'available'")
    end = " ".join(("order by", _RANK, ",", _SINCE, ", i.id limit", query.bind(filter.limit)))
    rows = await connection.fetch(" ".join((_PENDING, query.conditions, end)), *query.values)
    return [
        PendingView(**{**dict(row.items()), "status": ItemStatus(row["status"]), "priority": Priority(row["priority"])})
        for row in rows
    ]


# ---- worksheets -----------------------------------------------------------------------------------------------------


async def insert(
    connection: Connection,
    organization_id: UUID,
    number: str,
    name: str,
    item_ids: Sequence[UUID],
    *,
    analyzer_id: UUID | None,
    test_id: UUID | None,
    created_by: str,
) -> UUID:
    """An open worksheet with these items at the places from 1. An item of another open one raises
    asyncpg.UniqueViolationError."""
    worksheet_id = uuid7()
    await connection.execute(
        """
        insert into lab.worksheet (id, organization_id, number, name, state, analyzer_id, test_id, created_by)
        values ($1, $2, $3, $4, 'open', $5, $6, $7)
        """,
        worksheet_id, organization_id, number, name, analyzer_id, test_id, created_by,
    )  # fmt: skip
    await connection.execute(
        """
        insert into lab.worksheet_item (id, organization_id, worksheet_id, place, order_item_id)
        select row.id, $1, $2, row.place, row.item_id
        from unnest($3::uuid[], $4::uuid[]) with ordinality as row (id, item_id, place)
        """,
        organization_id, worksheet_id, [uuid7() for _ in item_ids], list(item_ids),
    )  # fmt: skip
    return worksheet_id


async def lock(connection: Connection, worksheet_id: UUID) -> tuple[WorksheetState, int] | None:
    """State and version of a worksheet; None when there is none."""
    row = await connection.fetchrow("select state, version from lab.worksheet where id = $1 for update", worksheet_id)
    return (WorksheetState(row["state"]), row["version"]) if row else None


async def still_free(connection: Connection, item_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the (locked) items that are on no open worksheet."""
    rows = await connection.fetch(
        "select order_item_id from lab.worksheet_item where open and order_item_id = any($1::uuid[])", list(item_ids)
    )
    return frozenset(item_ids) - {row["order_item_id"] for row in rows}


async def released(connection: Connection, item_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the (locked) items of which a result is released."""
    rows = await connection.fetch(
        """
        select i.id from lab.order_item i where i.id = any($1::uuid[]) and exists (
            select from lab.result r where r.order_id = i.order_id and r.order_item_id = i.id
            and r.status in ('final', 'corrected', 'amended'))
        """,
        list(item_ids),
    )
    return frozenset(row["id"] for row in rows)


async def set_results(connection: Connection, worksheet_id: UUID, results: Sequence[tuple[UUID, UUID]]) -> None:
    """The result that was entered for each of these order items."""
    await connection.execute(
        """
        update lab.worksheet_item w set result_id = row.result_id
        from unnest($2::uuid[], $3::uuid[]) as row (item_id, result_id)
        where w.worksheet_id = $1 and w.order_item_id = row.item_id
        """,
        worksheet_id,
        [item for item, _ in results],
        [result for _, result in results],
    )


async def touch(connection: Connection, worksheet_id: UUID) -> None:
    await connection.execute(
        "update lab.worksheet set version = version + 1, updated_at = now() where id = $1", worksheet_id
    )


async def complete(connection: Connection, worksheet_id: UUID, qc: str, note: str, by: str) -> None:
    """Close it and every place of it."""
    await connection.execute(
        """
        update lab.worksheet set state = 'completed', qc = $2, note = $3, completed_by = $4, completed_at = now(),
               version = version + 1, updated_at = now()
        where id = $1
        """,
        worksheet_id, qc, note, by,
    )  # fmt: skip
    await connection.execute(
        "update lab.worksheet_item set open = false where open and worksheet_id = $1", worksheet_id
    )


async def find_id(connection: Connection, number: str) -> UUID | None:
    found: UUID | None = await connection.fetchval("select id from lab.worksheet where number = $1", number)
    return found


async def analyzer_id(connection: Connection, name: str) -> UUID | None:
    found: UUID | None = await connection.fetchval("select id from lab.analyzer where name = $1", name)
    return found


async def test_id(connection: Connection, code: str) -> UUID | None:
    found: UUID | None = await connection.fetchval("select id from lab.test where code = $1", code)
    return found


_WORKSHEETS = """
select w.id, w.number, w.name, w.state, w.version, w.created_at, w.created_by, w.updated_at,
       coalesce(a.name, '') as analyzer, coalesce(t.code, '') as test_code, w.qc, w.note, w.completed_at, w.completed_by
from lab.worksheet w left join lab.analyzer a on a.id = w.analyzer_id left join lab.test t on t.id = w.test_id
where
"""


async def find(
    connection: Connection, *, ids: Sequence[UUID] = (), states: Sequence[WorksheetState] = (), limit: int = 100
) -> list[WorksheetView]:
    """Worksheets without their items, the newest first."""
    query = Query()
    query.any("w.id = any(?::uuid[])", ids)
    query.any("w.state = any(?::text[])", states)
    end = " ".join(("order by w.id desc limit", query.bind(limit)))
    rows = await connection.fetch(" ".join((_WORKSHEETS, query.conditions, end)), *query.values)
    return [WorksheetView(**{**dict(row.items()), "state": WorksheetState(row["state"])}) for row in rows]


async def get(connection: Connection, worksheet_id: UUID) -> WorksheetView | None:
    """A worksheet with its items and the result of each: the one entered here, else the reported one of the item that
    has come since it was built. What was measured before is what is measured again."""
    found = await find(connection, ids=[worksheet_id])
    if not found:
        return None
    rows = await connection.fetch(
        """
        select w.place, i.id as item_id, t.code as test_code, t.name as test_name, t.unit,
               coalesce(s.barcode, '') as barcode, s.time_point_min, o.priority, i.status, w.open, i.specimen_id,
               o.patient_id, r.id as result_id, coalesce(v.value, '') as value, v.comparator,
               coalesce(v.unit, '') as result_unit,
               coalesce(v.flags, '{}') as flags, coalesce(r.held, '{}') as held, r.status as result_status
        from lab.worksheet_item w
        join lab.worksheet sheet on sheet.id = w.worksheet_id
        join lab.order_item i on i.id = w.order_item_id
        join lab.lab_order o on o.id = i.order_id
        join lab.test t on t.id = i.test_id
        left join lab.specimen s on s.id = i.specimen_id
        left join lateral (
            select r.* from lab.result r
            where r.order_id = i.order_id and r.order_item_id = i.id
              and r.status not in ('cancelled', 'entered-in-error')
              and (r.id = w.result_id or r.created_at >= sheet.created_at)
            order by r.id = w.result_id desc nulls last, r.reportable desc, r.id desc limit 1
        ) r on true
        left join lab.result_version v on v.id = r.version_id
        where w.worksheet_id = $1 order by w.place
        """,
        worksheet_id,
    )
    items = tuple(
        WorksheetItemView(
            **{
                **{name: value for name, value in row.items() if name != "comparator"},
                "value": signed(row["comparator"], row["value"]),  # `<5` is not 5
                "priority": Priority(row["priority"]),
                "status": ItemStatus(row["status"]),
                "flags": tuple(row["flags"]),
                "held": tuple(map(HoldReason, row["held"])),
                "result_status": ResultStatus(row["result_status"]) if row["result_status"] else None,
            }
        )
        for row in rows
    )
    return replace(found[0], items=items)

"""The order book as people read it: work of analyzers with what happened to it, routes, analyzers that are down."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from asyncpg import Record

from interface.domain.model import ItemStatus, Priority
from interface.domain.routing import DispatchKind, DispatchState, WhenDown
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.query import FIRST_PAGE, Page, Query
from interface.store.routes import DOWN


@dataclass(frozen=True, slots=True)
class DispatchFilter:
    """Which work. An empty tuple asks nothing; different fields must all hold. Newest first."""

    ids: tuple[UUID, ...] = ()
    work_ids: tuple[int, ...] = ()
    states: tuple[DispatchState, ...] = ()
    kinds: tuple[DispatchKind, ...] = ()
    analyzers: tuple[str, ...] = ()
    barcodes: tuple[str, ...] = ()
    order_numbers: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    open_only: bool = False
    page: Page = FIRST_PAGE


@dataclass(frozen=True, slots=True)
class DispatchView:
    """`answer`: the analyzer's words, `reason`: the laboratory's; `specimen_told`: the id that the analyzer knows."""

    id: UUID
    work_id: str
    kind: DispatchKind
    state: DispatchState
    analyzer: str
    code: str
    test_code: str
    barcode: str
    specimen_told: str
    priority: Priority
    answer: str
    reason: str
    attempts: int
    barred: bool
    dilution: Decimal | None
    link: str
    order_id: UUID
    order_number: str
    item_id: UUID
    item_status: ItemStatus
    patient_id: UUID | None
    created_at: datetime
    updated_at: datetime
    sent_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class DispatchEventView:
    at: datetime
    kind: DispatchKind
    state: DispatchState
    answer: str
    reason: str
    actor: str


_VIEWS = """
select d.id, d.work_id::text, d.kind, d.state, a.name as analyzer, d.code, t.code as test_code, s.barcode,
       d.specimen_told, o.priority, d.answer, d.reason, d.attempts, d.barred, d.dilution, coalesce(l.name, '') as link,
       o.id as order_id, o.number as order_number, i.id as item_id, i.status as item_status, o.patient_id,
       d.created_at, d.updated_at, d.sent_at, d.answered_at, d.ended_at
from lab.dispatch d
join lab.analyzer a on a.id = d.analyzer_id
join lab.order_item i on i.id = d.order_item_id
join lab.lab_order o on o.id = i.order_id
join lab.test t on t.id = i.test_id
join lab.specimen s on s.id = d.specimen_id
left join lab.link l on l.id = d.link_id
where
"""


async def find(connection: Connection, filter: DispatchFilter) -> list[DispatchView]:
    """A page of the work, the newest first."""
    query = Query()
    query.any("d.id = any(?::uuid[])", filter.ids)
    query.any("d.work_id = any(?::bigint[])", filter.work_ids)
    query.any("d.state = any(?::text[])", [state.value for state in filter.states])
    query.any("d.kind = any(?::text[])", [kind.value for kind in filter.kinds])
    query.any("a.name = any(?::text[])", filter.analyzers)
    query.any("s.barcode = any(?::text[])", filter.barcodes)
    query.any("o.number = any(?::text[])", filter.order_numbers)
    query.any("t.code = any(?::text[])", filter.tests)
    if filter.states and set(filter.states) <= {DispatchState.REFUSED, DispatchState.FAILED}:
        query.where("d.state in ('refused', 'failed')")  # as the index that holds no others is asked for
    if filter.open_only:
        query.where("d.state not in ('resulted', 'cancelled')")
    if filter.page.after is not None:  # ids are made in the order of time
        query.where("d.id < ?", filter.page.after.id)
    end = f"order by d.id desc limit {query.bind(filter.page.limit)}"
    return [_view(row) for row in await connection.fetch(" ".join((_VIEWS, query.conditions, end)), *query.values)]


def _view(row: Record) -> DispatchView:
    fields = dict(row.items())
    fields["kind"], fields["state"] = DispatchKind(row["kind"]), DispatchState(row["state"])
    fields["priority"], fields["item_status"] = Priority(row["priority"]), ItemStatus(row["item_status"])
    return DispatchView(**fields)


async def events(connection: Connection, dispatch_id: UUID) -> list[DispatchEventView]:
    """Everything that happened to a piece of work, oldest first."""
    rows = await connection.fetch(
        """select created_at as at, kind, state, answer, reason, actor_name as actor from lab.dispatch_event
            where dispatch_id = $1 order by id""",
        dispatch_id,
    )
    return [
        DispatchEventView(row["at"], DispatchKind(row["kind"]), DispatchState(row["state"]), *list(row)[3:])
        for row in rows
    ]


# ---- routes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RouteView:
    """That an analyzer measures a test; `place` from 1 in the order of preference. `down`: it measures nothing now."""

    test_code: str
    specimen_type: str
    place: int
    analyzer: str
    share: int
    when_down: WhenDown
    codes: tuple[str, ...]
    down: bool
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NewRoute:
    analyzer_id: UUID
    share: int
    when_down: WhenDown
    codes: tuple[str, ...]


async def find_routes(connection: Connection, tests: Collection[str] = ()) -> list[RouteView]:
    """Those in force, of these tests, by their codes, or of all."""
    rows = await connection.fetch(
        f"""
        select t.code as test_code, r.specimen_type, r.place, a.name as analyzer, r.share, r.when_down, r.codes,
               r.analyzer_id in ({DOWN}) as down, r.actor_name as by, r.created_at as at
          from lab.route r join lab.test t on t.id = r.test_id join lab.analyzer a on a.id = r.analyzer_id
         where r.ended_at is null and ($1::text[] = '{{}}' or t.code = any($1)) order by 1, 2, 3
        """,  # noqa: S608 - a constant
        list(tests),
    )
    return [
        RouteView(**{**dict(row.items()), "when_down": WhenDown(row["when_down"]), "codes": tuple(row["codes"])})
        for row in rows
    ]


async def find_test(connection: Connection, code: str) -> UUID | None:
    found: UUID | None = await connection.fetchval("select id from lab.test where code = $1 and active", code)
    return found


async def find_analyzers(connection: Connection, names: Collection[str]) -> dict[str, UUID]:
    """By name: those of an analyzer's link."""
    rows = await connection.fetch(
        """select distinct a.name, a.id from lab.analyzer a join lab.link l on l.analyzer_id = a.id
            where a.name = any($1::text[]) and l.role = 'analyzer'""",
        list(names),
    )
    return {row["name"]: row["id"] for row in rows}


async def replace_routes(
    connection: Connection, actor: Actor, test_id: UUID, specimen_type: str, new: Sequence[NewRoute], reason: str
) -> None:
    """These in the place of all that are in force for a test on a specimen type; looked at again is what waits."""
    await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"labora route {test_id}")
    await connection.execute(
        """update lab.route set ended_at = now(), ended_by = $3, ended_by_name = $4, end_reason = $5
            where test_id = $1 and specimen_type = $2 and ended_at is null""",
        test_id, specimen_type, actor.id, actor.name, reason,
    )  # fmt: skip
    await connection.executemany(
        """insert into lab.route (id, organization_id, test_id, specimen_type, analyzer_id, place, share, when_down,
                                  codes, actor_kind, actor_id, actor_name)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)""",
        [
            (
                uuid7(), actor.organization_id, test_id, specimen_type, one.analyzer_id, place, one.share,
                one.when_down.value, list(one.codes), actor.kind.value, actor.id, actor.name,
            )
            for place, one in enumerate(new, start=1)
        ],
    )  # fmt: skip
    await connection.execute(
        """
        insert into lab.work_due (analyzer_id, order_item_id, organization_id)
        select a.id, i.id, i.organization_id
          from lab.lab_order o join lab.order_item i on i.order_id = o.id join lab.analyzer a on a.worklist
         where o.waiting and i.test_id = $1 and i.status in ('received', 'in_progress') on conflict do nothing
        """,
        test_id,
    )


async def set_down(connection: Connection, actor: Actor, analyzer_id: UUID, reason: str) -> bool:
    """From now on it measures nothing; whether that is new."""
    new = await connection.fetchval(
        """insert into lab.analyzer_down (id, organization_id, analyzer_id, reason, actor_kind, actor_id, actor_name)
           values ($1, $2, $3, $4, $5, $6, $7) on conflict (analyzer_id) where ended_at is null do nothing
           returning true""",
        uuid7(), actor.organization_id, analyzer_id, reason, actor.kind.value, actor.id, actor.name,
    )  # fmt: skip
    return new is True


async def set_up(connection: Connection, actor: Actor, analyzer_id: UUID, reason: str) -> bool:
    """It measures again; whether a person had said that it does not."""
    ended = await connection.fetchval(
        """update lab.analyzer_down set ended_at = now(), ended_by = $2, ended_by_name = $3, end_reason = $4
            where analyzer_id = $1 and ended_at is null returning true""",
        analyzer_id, actor.id, actor.name, reason,
    )  # fmt: skip
    return ended is True

"""Rows of the order book: what there is to measure, what each analyzer was told, and what became of it.

Reading takes no lock but one: the items that are about to be offered are shared (`FOR KEY SHARE`, in the order of
their ids), so that whoever cancels one waits for the offer and then takes it back, and an item that was cancelled first
is not offered. That lock does not conflict with those of whoever decides about results, who waits for nobody here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from asyncpg import Record

from interface.domain.mapping import Effective, MapKey, MapRow, Span, Target
from interface.domain.model import FollowUpKind, ItemStatus, Priority, Sex
from interface.domain.routing import DispatchKind, DispatchState, Route, WhenDown
from interface.domain.states import OPEN_ITEM, SpecimenState
from interface.domain.views import Actor
from interface.store.catalogue import SITE
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.routes import DOWN

URGENCY = (Priority.STAT, Priority.ASAP, Priority.PREOP, Priority.CALLBACK, Priority.ROUTINE)


@dataclass(frozen=True, slots=True)
class BookSpecimen:
    """A specimen as an analyzer is told of it. The patient as the record that survived its merges."""

    id: UUID
    barcode: str
    type: str
    state: SpecimenState
    collected_at: datetime | None
    received_at: datetime | None
    created_at: datetime
    order_number: str
    priority: Priority
    patient_id: str
    family: str
    given: str
    birth_date: date | None
    sex: Sex | None
    map_changes: int  # the number of the organization's last change of a code map at that moment
    routed: bool  # whether the organization has any route


@dataclass(frozen=True, slots=True)
class Again:
    """That an item is to be measured once more, and by whom it was measured."""

    id: UUID
    kind: FollowUpKind
    dilution: Decimal | None
    analyzer_id: UUID | None


@dataclass(frozen=True, slots=True)
class BookItem:
    """An order item. `measured`: it has a result that a person has not discarded and that is no failed run; `told`: an
    analyzer has it to do, or is not to have it."""

    id: UUID
    specimen_id: UUID
    test_id: UUID
    test: str
    status: ItemStatus
    measured: bool
    told: bool
    again: Again | None


@dataclass(frozen=True, slots=True)
class DispatchRow:
    """One piece of work of an analyzer. `answer`: the analyzer's words, `reason`: ours."""

    id: UUID
    order_item_id: UUID
    specimen_id: UUID
    analyzer_id: UUID
    link_id: UUID | None
    work_id: int
    kind: DispatchKind
    code: str
    state: DispatchState
    answer: str
    reason: str
    follow_up_id: UUID | None
    dilution: Decimal | None
    specimen_told: str
    attempts: int  # to tell it that did not succeed
    sending_id: UUID | None
    sent_at: datetime | None
    barred: bool  # a person has said that the analyzer is not to do it
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewDispatch:
    order_item_id: UUID
    specimen_id: UUID
    kind: DispatchKind
    code: str
    specimen_told: str
    follow_up_id: UUID | None = None
    dilution: Decimal | None = None


# ---- what there is to measure ---------------------------------------------------------------------------------------

# Each patient by its id, whatever the planner makes of a record that may have been merged: else all of them are read.
SPECIMENS = """
select s.id, s.barcode, s.type, s.state, s.collected_at, s.received_at, s.created_at,
       coalesce(o.number, '') as order_number, coalesce(o.priority, 'routine') as priority,
       coalesce((select n.value from lab.patient_identifier n where n.patient_id = p.id and n.ended_at is null
                  order by n.id limit 1), '') as patient_id,
       coalesce(p.family, '') as family, coalesce(p.given, '') as given, p.birth_date, p.sex,
       (select coalesce(max(number), 0) from lab.map_change) as map_changes,
       exists (select from lab.route where ended_at is null) as routed
from lab.specimen s
left join lab.lab_order o on o.id = s.order_id
left join lateral (
    select coalesce(merged_into_id, id) as id from lab.patient where id = s.patient_id offset 0) w on true
left join lateral (select * from lab.patient where id = w.id offset 0) p on true
where {} order by s.id
"""
# What is said of an item is looked up for each, by index: what the planner would rather do, read a whole table once, is
# dear as soon as the plan is older than the rows. `limit` leaves it no choice.
ITEMS = """
select i.id as item_id, i.specimen_id, i.test_id, t.code as test, i.status, coalesce((
           select true from lab.result r where r.order_id = i.order_id and r.order_item_id = i.id
           and r.status not in ('cancelled', 'entered-in-error') and not r.held && '{{run_failed,no_value}}' limit 1
       ), false) as measured, coalesce((
           select true from lab.dispatch d where d.order_item_id = i.id
           and (d.state not in ('resulted', 'cancelled') or d.barred) limit 1
       ), false) as told, f.id as again_id, f.kind as again_kind, f.dilution, f.analyzer_id
from lab.order_item i join lab.test t on t.id = i.test_id
left join lateral (
    select f.id, f.kind, f.dilution, (select r.analyzer_id from lab.result r where r.id = f.result_id)
    from lab.follow_up f
    where f.order_item_id = i.id and f.state in ('requested', 'sent') and f.kind in ('rerun', 'dilution')
    order by f.id desc limit 1
) f on true
where i.specimen_id = {} order by i.id
"""


async def plan_once(connection: Connection) -> None:
    """Let the statements of this transaction be planned once for each connection and not anew for the specimens that
    are asked for, which takes longer than they do. A plan of when a table was all but empty may read all of it: it ends
    when the table is analyzed (`store.upkeep`)."""
    await connection.execute("set local plan_cache_mode = force_generic_plan")


async def by_barcode(connection: Connection, barcodes: Collection[str]) -> list[BookSpecimen]:
    """Every specimen that carries one of the barcodes, whatever its state."""
    possible = [barcode for barcode in barcodes if "\0" not in barcode]  # text of PostgreSQL holds no NUL
    rows = await connection.fetch(SPECIMENS.format("s.barcode = any($1::text[])"), possible) if possible else []
    return [specimen_of(row) for row in rows]


async def by_id(connection: Connection, specimen_ids: Collection[UUID]) -> list[BookSpecimen]:
    rows = await connection.fetch(SPECIMENS.format("s.id = any($1::uuid[])"), list(specimen_ids))
    return [specimen_of(row) for row in rows]


async def items_of(connection: Connection, specimen_ids: Collection[UUID]) -> dict[UUID, list[BookItem]]:
    """Every order item, by specimen, in the order in which they were asked for."""
    found: defaultdict[UUID, list[BookItem]] = defaultdict(list)
    query = ITEMS.format("any($1::uuid[])")
    for row in await connection.fetch(query, list(specimen_ids)) if specimen_ids else []:
        found[row["specimen_id"]].append(item_of(row))
    return found


def item_of(row: Record) -> BookItem:
    """A row of `ITEMS`."""
    again = None
    if row["again_id"] is not None:
        again = Again(row["again_id"], FollowUpKind(row["again_kind"]), row["dilution"], row["analyzer_id"])
    return BookItem(
        row["item_id"], row["specimen_id"], row["test_id"], row["test"], ItemStatus(row["status"]), row["measured"],
        row["told"], again,
    )  # fmt: skip


_OF_SPECIMEN = [one.name for one in fields(BookSpecimen)]


def specimen_of(row: Record) -> BookSpecimen:
    """A row of `SPECIMENS`."""
    known = {name: row[name] for name in _OF_SPECIMEN}
    known["state"], known["priority"] = SpecimenState(row["state"]), Priority(row["priority"])
    known["sex"] = Sex(row["sex"]) if row["sex"] else None
    return BookSpecimen(**known)


async def code_map(connection: Connection, driver: str, link_id: UUID) -> Effective:
    """What the link's code map says now, by code and specimen type: the strongest row of each. The targets are named by
    the ids of their tests."""
    rows = await connection.fetch(
        """select id, code, specimen_type, coalesce(test_id::text, '') as test, link_id is not null as own, origin,
                  revision, valid_from
             from lab.code_map
            where driver = $1 and (link_id is null or link_id = $2) and ended_at is null
              and valid_from <= now() and (valid_to is null or valid_to > now())""",
        driver,
        link_id,
    )
    found: Effective = {}
    for row in rows:
        key = MapKey(driver, str(link_id) if row["own"] else "", row["code"], row["specimen_type"])
        span = Span(Target(row["test"]), row["valid_from"])
        made = MapRow(row["id"], key, span, row["origin"] == SITE, row["revision"])
        place = key.code, key.specimen_type
        if place not in found or found[place].strength < made.strength:
            found[place] = made
    return found


# ---- who measures what ----------------------------------------------------------------------------------------------


async def routes_of(connection: Connection, test_ids: Collection[UUID]) -> dict[tuple[UUID, str], list[Route]]:
    """The routes of these tests, by test and specimen type ("": any that has none of its own)."""
    rows = await connection.fetch(
        """select test_id, specimen_type, analyzer_id, place, share, when_down, codes from lab.route
            where test_id = any($1::uuid[]) and ended_at is null order by place, id""",
        list(test_ids),
    )
    found: defaultdict[tuple[UUID, str], list[Route]] = defaultdict(list)
    for row in rows:
        route = Route(row["analyzer_id"], row["place"], row["share"], WhenDown(row["when_down"]), tuple(row["codes"]))
        found[row["test_id"], row["specimen_type"]].append(route)
    return found


async def down(connection: Connection) -> set[UUID]:
    """The analyzers that a person has said are down, and those none of whose links was connected for a while."""
    return {row["analyzer_id"] for row in await connection.fetch(DOWN)}


async def hospital_heard(connection: Connection) -> datetime | None:
    """When a link of the hospital's said something last; None where there is none that ever did."""
    heard: datetime | None = await connection.fetchval(
        """select max(s.heard_at) from lab.link_state s join lab.link l on l.id = s.link_id
            where l.role = 'hospital'"""
    )
    return heard


# ---- what was told --------------------------------------------------------------------------------------------------

_COLUMNS = """d.id, d.order_item_id, d.specimen_id, d.analyzer_id, d.link_id, d.work_id, d.kind, d.code, d.state,
    d.answer, d.reason, d.follow_up_id, d.dilution, d.specimen_told, d.attempts, d.sending_id, d.sent_at,
    d.barred, d.created_at"""
_OPEN = "d.state not in ('resulted', 'cancelled')"
WAITING = [status.value for status in sorted(OPEN_ITEM)]  # of an item


async def open_of(connection: Connection, item_ids: Collection[UUID]) -> dict[UUID, list[DispatchRow]]:
    """The work on these items that has not ended or was barred, of every analyzer, by item."""
    rows = await connection.fetch(
        f"""select {_COLUMNS} from lab.dispatch d
             where d.order_item_id = any($1::uuid[]) and ({_OPEN} or d.barred) order by d.id""",  # noqa: S608 - constants
        list(item_ids),
    )
    found: defaultdict[UUID, list[DispatchRow]] = defaultdict(list)
    for row in rows:
        found[row["order_item_id"]].append(_dispatch(row))
    return found


async def by_ids(connection: Connection, dispatch_ids: Collection[UUID]) -> list[DispatchRow]:
    rows = await connection.fetch(
        f"select {_COLUMNS} from lab.dispatch d where d.id = any($1::uuid[]) order by d.id",  # noqa: S608 - constants
        list(dispatch_ids),
    )
    return [_dispatch(row) for row in rows]


async def by_work_ids(connection: Connection, analyzer_id: UUID, work_ids: Iterable[str]) -> list[DispatchRow]:
    """The work of an analyzer by the ids it was told; what is no such id finds nothing."""
    numbers = [int(text) for text in work_ids if text.isascii() and text.isdigit() and len(text) < 19]
    rows = await connection.fetch(
        f"""select {_COLUMNS} from lab.dispatch d
             where d.organization_id = (select organization_id from lab.analyzer where id = $1)
               and d.work_id = any($2::bigint[]) and d.analyzer_id = $1 order by d.id""",  # noqa: S608 - constants
        analyzer_id,
        numbers,
    )
    return [_dispatch(row) for row in rows]


async def still_open(connection: Connection, item_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the items that are to be measured, kept so until the transaction ends (see above)."""
    rows = await connection.fetch(
        """select id from lab.order_item where id = any($1::uuid[]) and status = any($2::text[])
            order by id for key share""",
        list(item_ids),
        WAITING,
    )
    return {row["id"] for row in rows}


async def add(
    connection: Connection, organization_id: UUID, analyzer_id: UUID, new: Sequence[NewDispatch]
) -> list[DispatchRow]:
    """Make work of an analyzer, queued, of the items that are still to be measured, which are kept so as by
    `still_open`; what another connection of it makes at the same moment is found, not doubled. Returns all of it."""
    made = await connection.fetch(
        f"""
        with i as (
            select * from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::uuid[],
                                 $10::numeric[])
                as t (id, order_item_id, specimen_id, kind, code, specimen_told, follow_up_id, dilution)
        ), o as materialized (
            select id from lab.order_item where id = any($4::uuid[]) and status = any($11::text[])
             order by id for key share
        )
        insert into lab.dispatch as d (id, organization_id, analyzer_id, work_id, order_item_id, specimen_id, kind,
                                       code, specimen_told, follow_up_id, dilution, state)
        select i.id, $1, $2, nextval('lab.dispatch_work_id_seq'), order_item_id, specimen_id, kind, code,
               specimen_told, follow_up_id, dilution, 'queued'
          from i join o on o.id = i.order_item_id order by order_item_id, code
        on conflict (order_item_id, analyzer_id, code) where state not in ('resulted', 'cancelled') do nothing
        returning {_COLUMNS}
        """,  # noqa: S608 - constants
        organization_id, analyzer_id, [uuid7() for _ in new], [one.order_item_id for one in new],
        [one.specimen_id for one in new], [one.kind.value for one in new], [one.code for one in new],
        [one.specimen_told for one in new], [one.follow_up_id for one in new], [one.dilution for one in new],
        WAITING,
    )  # fmt: skip
    if len(made) == len(new):
        return [_dispatch(row) for row in made]
    there = await open_of(connection, await still_open(connection, {one.order_item_id for one in new}))
    wanted = {(one.order_item_id, one.code) for one in new}
    return [
        row for rows in there.values() for row in rows
        if row.analyzer_id == analyzer_id and (row.order_item_id, row.code) in wanted and not row.barred
    ]  # fmt: skip


async def add_events(
    connection: Connection, actor: Actor, dispatch_ids: Sequence[UUID], answer: str = "", reason: str = ""
) -> None:
    """One event of each piece of work, with what it is then."""
    if dispatch_ids:
        await connection.execute(
            """
            insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, answer, reason, sending_id,
                                            actor_kind, actor_id, actor_name)
            select i.event_id, d.organization_id, d.id, d.kind, d.state, $3, $4, d.sending_id, $5, $6, $7
              from unnest($1::uuid[], $2::uuid[]) as i (event_id, id) join lab.dispatch d on d.id = i.id
            """,
            [uuid7() for _ in dispatch_ids], list(dispatch_ids), answer, reason, actor.kind, actor.id, actor.name,
        )  # fmt: skip


async def lock(connection: Connection, dispatch_ids: Iterable[UUID]) -> list[DispatchRow]:
    """In the order of their ids, as everybody locks them."""
    return await locked(connection, "d.id = any($1::uuid[])", list(dispatch_ids))


async def locked(connection: Connection, condition: str, *values: object, skip: bool = False) -> list[DispatchRow]:
    """Those that meet a condition over `d`, locked as by `lock`. `skip`: none that another has locked."""
    end = "for update of d skip locked" if skip else "for update of d"
    text = f"select {_COLUMNS} from lab.dispatch d where {condition} order by d.id {end}"  # noqa: S608 - constants
    return [_dispatch(row) for row in await connection.fetch(text, *values)]


async def tell(
    connection: Connection, actor: Actor, link_id: UUID, sending_id: UUID, dispatch_ids: Collection[UUID], data: bytes,
    query_id: UUID | None, now: datetime,
) -> int:  # fmt: skip
    """Keep a message of ours before it leaves, and that it tells of these pieces of work. Once more with the same id is
    the same message. Returns how many are told: none that has ended, nor in an answer one that is to be taken back."""
    ids = sorted(set(dispatch_ids))
    told: int = await connection.fetchval(
        """
        with s as (
            insert into lab.sending (id, organization_id, link_id, query_id, bytes, created_at)
            values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing
        ), l as materialized (
            select l.id, i.event_id from unnest($7::uuid[], $8::uuid[]) as i (id, event_id)
             cross join lateral (
                 select d.id, d.state, d.kind from lab.dispatch d where d.id = i.id offset 0 for update) l
             where l.state not in ('resulted', 'cancelled')  -- outside, lest the index of what is open be read for it
               and (l.kind <> 'cancel' or $4::uuid is null)
        ), d as (
            update lab.dispatch d set state = 'sent', link_id = $3, sending_id = $1, sent_at = $6, answer = '',
                   updated_at = $6 from l where d.id = l.id returning d.id, d.kind, d.follow_up_id
        ), e as (
            insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, sending_id, actor_kind,
                                            actor_id, actor_name)
            select l.event_id, $2, d.id, d.kind, 'sent', $1, $9, $10, $11 from d join l using (id)
        ), f as (
            update lab.follow_up f set state = 'sent', updated_at = $6
             where f.state = 'requested'
               and f.id = any(array(select follow_up_id from d where follow_up_id is not null))
        )
        select count(*) from l
        """,
        sending_id, actor.organization_id, link_id, query_id, data, now, ids, [uuid7() for _ in ids],
        actor.kind.value, actor.id, actor.name,
    )  # fmt: skip
    return told


async def times_sent(connection: Connection, dispatch_ids: Sequence[UUID], sending_id: UUID) -> int:
    """How often a message that speaks of these was sent, as far as anybody knows."""
    return int(
        await connection.fetchval(
            """select coalesce(max(n), 0) from (
                   select count(*) as n from lab.dispatch_event where dispatch_id = any($1::uuid[]) and sending_id = $2
                      and state = 'sent' and answer = '' group by dispatch_id) each""",
            list(dispatch_ids),
            sending_id,
        )
    )


async def taken_before(connection: Connection, dispatch_ids: Collection[UUID], sending_id: UUID) -> set[UUID]:
    """Those of which the analyzer said last, of another message that told of them, that it does them."""
    rows = await connection.fetch(
        """select d.id from unnest($1::uuid[]) as d (id) where 'accepted' = (
               select e.state from lab.dispatch_event e where e.dispatch_id = d.id and e.sending_id <> $2
                  and e.state in ('accepted', 'refused') order by e.id desc limit 1)""",
        list(dispatch_ids),
        sending_id,
    )
    return {row["id"] for row in rows}


async def set_state(
    connection: Connection, actor: Actor, dispatch_ids: Sequence[UUID], state: DispatchState, now: datetime, *,
    kind: DispatchKind | None = None, answer: str | None = None, reason: str | None = None, why: str | None = None,
    unsent: bool = False,
) -> None:  # fmt: skip
    """The new state of these, which are locked, with an event of each. None: as it is. `why`: the event's reason, where
    it is not the work's. `unsent`: to be told by another message."""
    if not dispatch_ids:
        return
    await connection.execute(
        """
        with d as (
            update lab.dispatch set state = $2, kind = coalesce($4, kind), answer = coalesce($5, answer),
                   reason = coalesce($6, reason), answered_at = case when $5::text is null then answered_at else $3 end,
                   ended_at = case when $2 in ('resulted', 'cancelled') then $3 end, updated_at = $3,
                   sending_id = case when $7 then null else sending_id end,
                   attempts = case when $7 then 0 else attempts end
             where id = any($1::uuid[]) returning id, organization_id, kind, sending_id
        )
        insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, answer, reason, sending_id,
                                        actor_kind, actor_id, actor_name)
        select i.event_id, d.organization_id, d.id, d.kind, $2, coalesce($5, ''), coalesce($9, $6, ''), d.sending_id,
               $10, $11, $12
          from unnest($1::uuid[], $8::uuid[]) as i (id, event_id) join d on d.id = i.id
        """,
        list(dispatch_ids), state.value, now, kind.value if kind else None, answer, reason, unsent,
        [uuid7() for _ in dispatch_ids], why, actor.kind, actor.id, actor.name,
    )  # fmt: skip


async def bar(connection: Connection, dispatch_id: UUID) -> None:
    """Its analyzer is not to do it, until `unbar`."""
    await connection.execute("update lab.dispatch set barred = true where id = $1", dispatch_id)


async def unbar(connection: Connection, item_id: UUID, analyzer_id: UUID) -> None:
    await connection.execute(
        "update lab.dispatch set barred = false where order_item_id = $1 and analyzer_id = $2 and barred",
        item_id,
        analyzer_id,
    )


async def count_attempts(connection: Connection, dispatch_ids: Sequence[UUID]) -> None:
    await connection.execute(
        "update lab.dispatch set attempts = attempts + 1 where id = any($1::uuid[])", list(dispatch_ids)
    )


_KIND, _STATE = (tuple(one.name for one in fields(DispatchRow)).index(name) for name in ("kind", "state"))


def _dispatch(row: Record) -> DispatchRow:
    known = list(row)  # in the order of `_COLUMNS`, which is that of the fields
    known[_KIND], known[_STATE] = DispatchKind(known[_KIND]), DispatchState(known[_STATE])
    return DispatchRow(*known)


# ---- analyzers that are told of their work --------------------------------------------------------------------------


async def make_due(connection: Connection, item_ids: Collection[UUID], but: UUID | None = None) -> None:
    """Analyzers that are told of their work, `but` this one, are to be looked at again for these items."""
    await connection.execute(
        """
        insert into lab.work_due (analyzer_id, order_item_id, organization_id)
        select a.id, i.id, i.organization_id from lab.order_item i join lab.analyzer a using (organization_id)
         where i.id = any($1::uuid[]) and a.worklist and a.id is distinct from $2
           and i.status in ('received', 'in_progress')
        on conflict do nothing
        """,
        list(item_ids),
        but,
    )


async def take_due(connection: Connection, analyzer_id: UUID, most: int) -> list[UUID]:
    """Items that the analyzer may have to be told of, the most urgent first; they are due no more. What it is to be
    told first that it is off on another tube (the item was moved to an aliquot) is due until then."""
    rows = await connection.fetch(
        """
        delete from lab.work_due where (analyzer_id, order_item_id) in (
            select w.analyzer_id, w.order_item_id from lab.work_due w
              left join lab.order_item i on i.id = w.order_item_id left join lab.lab_order o on o.id = i.order_id
             where w.analyzer_id = $1 and not exists (
                   select from lab.dispatch d where d.order_item_id = w.order_item_id and d.analyzer_id = w.analyzer_id
                      and d.kind = 'cancel' and d.state in ('queued', 'sent') and d.specimen_id <> i.specimen_id)
             order by array_position($3::text[], o.priority), w.order_item_id limit $2 for update of w skip locked)
        returning order_item_id
        """,
        analyzer_id, most, [one.value for one in URGENCY],
    )  # fmt: skip
    return [row["order_item_id"] for row in rows]


async def specimens_of(connection: Connection, item_ids: Collection[UUID]) -> list[UUID]:
    rows = await connection.fetch(
        "select distinct specimen_id from lab.order_item where id = any($1::uuid[]) and specimen_id is not null",
        list(item_ids),
    )
    return [row["specimen_id"] for row in rows]


async def queued(connection: Connection, analyzer_id: UUID, most: int, *, everything: bool = True) -> list[DispatchRow]:
    """What the analyzer is to be told and no message that is on its way tells it: what is to be taken back, the most
    urgent, the oldest; not `everything`: what is to be taken back alone. Returned in the order of their ids.

    They are locked, so that who ends one of them does it before, and it is not told, or after, and takes it back.
    """
    first = await connection.fetch(
        """select d.id from lab.dispatch d
             left join lab.order_item i on i.id = d.order_item_id left join lab.lab_order o on o.id = i.order_id
            where d.analyzer_id = $1 and d.state = 'queued' and d.sending_id is null and (d.kind = 'cancel' or $3)
            order by d.kind <> 'cancel', array_position($4::text[], o.priority), d.id limit $2""",
        analyzer_id, most, everything, [one.value for one in URGENCY],
    )  # fmt: skip
    if not first:
        return []
    return await locked(
        connection,
        "d.id = any($1::uuid[]) and d.state = 'queued' and d.sending_id is null and (d.kind = 'cancel' or $2)",
        [row["id"] for row in first],
        everything,
    )


async def is_waiting(connection: Connection, analyzer_id: UUID, link_id: UUID) -> bool:
    """Whether there may be anything to tell an analyzer, or a message of the link to send again."""
    found: bool = await connection.fetchval(
        """select exists (select from lab.dispatch where analyzer_id = $1 and state = 'queued' and sending_id is null)
               or exists (select from lab.work_due where analyzer_id = $1)
               or exists (select from lab.dispatch where link_id = $2 and state in ('queued', 'sent')
                                                     and sending_id is not null)""",
        analyzer_id,
        link_id,
    )
    return found


async def analyzers_with_work(connection: Connection, analyzer_ids: Collection[UUID]) -> set[UUID]:
    """Those of the analyzers that there may be anything new to tell."""
    rows = await connection.fetch(
        """select a.id from unnest($1::uuid[]) as a (id)
            where exists (select from lab.dispatch d where d.analyzer_id = a.id and d.state = 'queued'
                                                       and d.sending_id is null)
               or exists (select from lab.work_due w where w.analyzer_id = a.id)""",
        list(analyzer_ids),
    )
    return {row["id"] for row in rows}


async def of_sending(connection: Connection, sending_id: UUID) -> tuple[UUID, ...]:
    """The work that a message told of."""
    rows = await connection.fetch(
        "select distinct dispatch_id as id from lab.dispatch_event where sending_id = $1 order by 1", sending_id
    )
    return tuple(row["id"] for row in rows)

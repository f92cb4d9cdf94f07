"""The order book for an analyzer that waits: its query read by one statement, its answer committed by another.

Between the two nothing is locked. What is written says what it was written from, and where any of that is not so any
more nothing is written at all: then whoever asks does it again in a transaction (`store.dispatch`). All statements are
for connections of `Database.at_once`, and reach the rows that there are by their indexes.

What several links want at the same moment is one statement and one commit for all of them (`store.together`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg

from interface.domain.views import Actor
from interface.store.db import Connection, Database
from interface.store.dispatch import (
    ITEMS,
    SPECIMENS,
    WAITING,
    BookItem,
    BookSpecimen,
    DispatchRow,
    item_of,
    specimen_of,
)
from interface.store.ids import uuid7
from interface.store.journal import MessageRow
from interface.store.leases import FENCE
from interface.store.together import Together

_LOOK = f"""
select s.*, i.* from ({SPECIMENS.format("s.barcode = any($1::text[])")}) s
  left join lateral ({ITEMS.format("s.id")}) i on true order by s.id, i.item_id
"""  # noqa: S608 - constants


Look = tuple[list[BookSpecimen], dict[UUID, list[BookItem]]]


async def _look(connection: Connection, asked: Sequence[Collection[str]]) -> list[Look]:
    possible = list({barcode for one in asked for barcode in one if "\0" not in barcode})
    specimens: dict[UUID, BookSpecimen] = {}
    items: dict[UUID, list[BookItem]] = {}
    for row in await connection.fetch(_LOOK, possible) if possible else []:
        if (known := row["id"]) not in specimens:
            specimens[known] = specimen_of(row)
            items[known] = []
        if row["item_id"] is not None:
            items[known].append(item_of(row))
    if len(asked) == 1:
        return [(list(specimens.values()), items)]
    carrying: dict[str, list[BookSpecimen]] = {}
    for specimen in specimens.values():
        carrying.setdefault(specimen.barcode, []).append(specimen)
    each = [[specimen for barcode in one for specimen in carrying.get(barcode, ())] for one in asked]
    return [(mine, {specimen.id: items[specimen.id] for specimen in mine}) for mine in each]


async def _work_ids(connection: Connection, number: int) -> list[int]:
    rows = await connection.fetch(
        "select nextval('lab.dispatch_work_id_seq') as work_id from generate_series(1, $1::int)", number
    )
    return [row["work_id"] for row in rows]


# ---- what is told ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """A message of ours and the work that it tells of: `new` is made, by the ids and work ids it has here; `known` is
    there."""

    sending_id: UUID
    data: bytes
    new: tuple[DispatchRow, ...] = ()
    known: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message in one block that is stored and settled by the same statement. `reason`: a note to it."""

    row: MessageRow
    block: bytes
    reason: str = ""

    @property
    def id(self) -> UUID:
        return self.row.id


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is stored, waits in the queue and is settled by the same statement."""

    id: UUID
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Telling:
    """What a link answers to a query, by one message or several. `items`: those of all the work."""

    actor: Actor
    analyzer_id: UUID
    told: tuple[Told, ...]
    items: frozenset[UUID]
    query: Arrived | Waiting
    now: datetime


# What arrives is kept where `ok` has a row.
_ARRIVED = """
), came as materialized (
    select c.* from ok cross join
           unnest({at}::uuid[], {at1}::uuid[], {at2}::text[], {at3}::timestamptz[], {at4}::bytea[], {at5}::bytea[],
                  {at6}::text[], {at7}::text[], {at8}::text[], {at9}::text[])
        as c (id, link_id, link, at, bytes, digest, control_id, message_type, peer, reason)
), came_frame as (
    insert into lab.frame (id, organization_id, message_id, ordinal, attempt, bytes, digest, received_at)
    select id, $1::uuid, id, 0, 0, bytes, digest, at from came
), came_message as (
    insert into lab.message (id, organization_id, link_id, protocol, state, settled, reply, control_id, message_type,
                             reason, bytes, received_at, sealed_at, settled_at, peer)
    select id, $1::uuid, link_id, 'hl7', 'complete', 'released', 'owed', control_id, message_type, reason,
           octet_length(bytes), at, at, at, peer from came
), came_audit as (
    insert into lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
                                 address, outcome)
    select id, $1::uuid, 'link', link_id, link, 'message.settle', 'message', id, peer, 'released' from came
"""


def _arrived(first: int) -> str:
    """`first`: the number of the first of the arguments of `_of_arrived`."""
    return _ARRIVED.format(**{f"at{at or ''}": f"${first + at}" for at in range(10)})


def _of_arrived(arrived: Sequence[tuple[Actor, Arrived]]) -> list[Sequence[object]]:
    values = [
        (
            one.row.id, actor.id, actor.name, one.row.received_at, one.block,
            # The digest as `store.journal` has it of each frame.
            blake2b(one.block, digest_size=32).digest()[:16],
            one.row.control_id, one.row.message_type, one.row.peer, one.reason,
        )
        for actor, one in arrived
    ]  # fmt: skip
    return _columns(values, 10)


def _columns(rows: Sequence[tuple[object, ...]], number: int) -> list[Sequence[object]]:
    return list(zip(*rows, strict=True)) if rows else [()] * number


# The items are locked as by `dispatch.still_open`, then the work that is there, by id, as everybody does; the queue's
# rows are the claims of who settles their messages. A unique index refuses work that another connection of the analyzer
# has made meanwhile.
_TELL = f"""
with o as materialized (
    select id from lab.order_item where id = any($2::uuid[]) and status in ({", ".join(f"'{one}'" for one in WAITING)})
     order by id for key share
), l as materialized (
    select l.id, l.kind, l.follow_up_id, k.event_id, k.sending_id, k.link_id, k.link, k.at
      from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::timestamptz[])
        as k (id, event_id, sending_id, link_id, link, at)
     cross join lateral (
         select d.id, d.state, d.kind, d.follow_up_id from lab.dispatch d where d.id = k.id offset 0 for update) l
     where l.state not in ('resulted', 'cancelled') and l.kind <> 'cancel'
), w as materialized (
    select w.message_id, w.attempts, i.link_id, i.link, i.audit_id, i.reason
      from unnest($9::uuid[], $10::uuid[], $11::text[], $12::uuid[], $13::text[])
        as i (message_id, link_id, link, audit_id, reason)
     cross join lateral (
         select q.message_id, q.attempts from lab.queue q where q.message_id = i.message_id offset 0 for update) w
), ok as materialized (
    select from (select (select count(*) from o) = cardinality($2::uuid[])
                    and (select count(*) from l) = cardinality($3::uuid[])
                    and (select count(*) from w) = cardinality($9::uuid[]) as go) c where c.go and {FENCE}
), i as materialized (
    select i.* from ok cross join
           unnest($14::uuid[], $15::uuid[], $16::uuid[], $17::text[], $18::text[], $19::text[], $20::uuid[],
                  $21::numeric[], $22::bigint[], $23::uuid[], $24::uuid[], $25::uuid[], $26::uuid[], $27::text[],
                  $28::timestamptz[])
        as i (id, order_item_id, specimen_id, kind, code, specimen_told, follow_up_id, dilution, work_id, sending_id,
              event_id, analyzer_id, link_id, link, at)
), s as (
    insert into lab.sending (id, organization_id, bytes, link_id, query_id, created_at)
    select s.id, $1::uuid, s.bytes, s.link_id, s.query_id, s.at
      from ok cross join unnest($29::uuid[], $30::bytea[], $31::uuid[], $32::uuid[], $33::timestamptz[])
        as s (id, bytes, link_id, query_id, at)
), n as (
    insert into lab.dispatch (id, organization_id, analyzer_id, link_id, work_id, order_item_id, specimen_id, kind,
                              code, specimen_told, follow_up_id, dilution, state, sending_id, sent_at)
    select id, $1::uuid, analyzer_id, link_id, work_id, order_item_id, specimen_id, kind, code, specimen_told,
           follow_up_id, dilution, 'sent', sending_id, at from i
), u as (
    update lab.dispatch d set state = 'sent', link_id = l.link_id, sending_id = l.sending_id, sent_at = l.at,
           answer = '', updated_at = l.at from ok cross join l where d.id = l.id
), e as (
    insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, sending_id, actor_kind, actor_id,
                                    actor_name)
    select event_id, $1::uuid, id, kind, 'sent', sending_id, 'link', link_id, link from i
    union all
    select event_id, $1::uuid, id, kind, 'sent', sending_id, 'link', link_id, link from ok cross join l
), f as (
    update lab.follow_up f set state = 'sent', updated_at = now()
     where f.state = 'requested' and f.id = any(array(
           select follow_up_id from i where follow_up_id is not null
           union all select l.follow_up_id from ok cross join l where l.follow_up_id is not null))
), gone as (
    delete from lab.queue where message_id = any(array(select message_id from ok cross join w))
), settled as (
    update lab.message m set settled = 'released', settled_at = now(), problems = '{{}}', attempts = w.attempts,
           reason = case when w.reason = '' then m.reason else w.reason end
      from ok cross join w where m.id = w.message_id
), settled_audit as (
    insert into lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
                                 outcome, detail)
    select audit_id, $1::uuid, 'link', link_id, link, 'message.settle', 'message', message_id, 'released', '{{}}'
      from ok cross join w
{_arrived(34)}
)
select count(*) from ok
"""  # noqa: S608 - constants


async def _tell(connection: Connection, tellings: Sequence[Telling]) -> bool:
    """All of them or, where something is in the way of one, none."""
    new: list[tuple[Any, ...]] = []
    known: list[tuple[Any, ...]] = []
    said: list[tuple[Any, ...]] = []
    waiting: list[tuple[Any, ...]] = []
    for each in tellings:
        link_id, link, query, now = each.actor.id, each.actor.name, each.query, each.now
        for one in each.told:
            said.append((one.sending_id, one.data, link_id, query.id, now))
            known += [(dispatch_id, uuid7(), one.sending_id, link_id, link, now) for dispatch_id in one.known]
            new += [
                (
                    row.id, row.order_item_id, row.specimen_id, row.kind.value, row.code, row.specimen_told,
                    row.follow_up_id, row.dilution, row.work_id, one.sending_id, uuid7(), each.analyzer_id, link_id,
                    link, now,
                )
                for row in one.new
            ]  # fmt: skip
        if isinstance(query, Waiting):
            waiting.append((query.id, link_id, link, uuid7(), query.reason))
    arrived = [(each.actor, each.query) for each in tellings if isinstance(each.query, Arrived)]
    try:
        done: int = await connection.fetchval(
            _TELL, tellings[0].actor.organization_id, sorted({item_id for each in tellings for item_id in each.items}),
            *_columns(sorted(known, key=_id), 6), *_columns(sorted(waiting, key=_id), 5),
            *_columns(sorted(new, key=_place), 15), *_columns(said, 5), *_of_arrived(arrived),
        )  # fmt: skip
    except asyncpg.UniqueViolationError:
        return False
    return done == 1


def _id(row: tuple[Any, ...]) -> UUID:
    """Rows are locked in the order of their ids."""
    found: UUID = row[0]
    return found


def _place(new: tuple[Any, ...]) -> tuple[UUID, str]:
    """Work is made in one order, so that two that make the same wait for one another one way round."""
    return new[1], new[4]


# ---- what is taken --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taking:
    """That an analyzer has taken all that a message told it. `words`: its own; `arrived`: the message they came by."""

    actor: Actor
    sending_id: UUID
    dispatches: frozenset[UUID]
    words: str
    arrived: Arrived | None
    now: datetime


_TAKEN = f"""
with l as materialized (
    select l.id, l.kind, t.event_id, t.sending_id, t.words, t.link_id, t.link, t.at
      from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::timestamptz[])
        as t (id, event_id, sending_id, words, link_id, link, at)
     cross join lateral (
         select d.id, d.state, d.kind, d.sending_id from lab.dispatch d where d.id = t.id offset 0 for update) l
     where l.state = 'sent' and l.kind <> 'cancel' and l.sending_id = t.sending_id
), ok as materialized (
    select from (select count(*) = cardinality($2::uuid[]) as go from l) c where c.go and {FENCE}
), u as (
    update lab.dispatch d set state = 'accepted', answer = l.words, answered_at = l.at, updated_at = l.at
      from ok cross join l where d.id = l.id
), e as (
    insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, answer, sending_id, actor_kind,
                                    actor_id, actor_name)
    select event_id, $1::uuid, id, kind, 'accepted', words, sending_id, 'link', link_id, link from ok cross join l
{_arrived(9)}
)
select count(*) from ok
"""  # noqa: S608 - constants


async def _taken(connection: Connection, takings: Sequence[Taking]) -> bool:
    """As `_tell`."""
    rows = [
        (dispatch_id, uuid7(), one.sending_id, one.words, one.actor.id, one.actor.name, one.now)
        for one in takings for dispatch_id in one.dispatches
    ]  # fmt: skip
    arrived = [(one.actor, one.arrived) for one in takings if one.arrived is not None]
    done: int = await connection.fetchval(
        _TAKEN, takings[0].actor.organization_id, *_columns(sorted(rows, key=_id), 7), *_of_arrived(arrived)
    )
    return done == 1


# ---- one organization's ---------------------------------------------------------------------------------------------

_One = TypeVar("_One")
MOST_TOGETHER = 32  # queries
RESERVED = 512  # work ids at a time: what a process does not use is used by nobody
HELD_S = 0.01  # so long at most what was taken waits while somebody is answered


class Desk:
    """The order book of one organization, for the links that want something of it at the same moment."""

    def __init__(self, database: Database, organization_id: UUID) -> None:
        self._database, self._organization_id = database, organization_id
        self._looks: Together[Collection[str], Look] = Together(self._do_look, MOST_TOGETHER)
        self._tellings: Together[Telling, bool] = Together(self._do_tell, MOST_TOGETHER)
        self._takings: Together[Taking, bool] = Together(self._do_take, MOST_TOGETHER)
        self._work_ids: deque[int] = deque()  # in hand
        self._reserving = asyncio.Lock()

    async def look(self, barcodes: Collection[str]) -> Look:
        """`dispatch.by_barcode` and `dispatch.items_of` at once. Raises StoreError."""
        return await self._looks.want(barcodes)

    async def work_ids(self, number: int) -> list[int]:
        """So many that nobody else gets, in their order. Raises StoreError."""
        while len(self._work_ids) < number:
            async with self._reserving:
                if len(self._work_ids) < number:
                    async with self._database.at_once(self._organization_id) as connection:
                        self._work_ids.extend(await _work_ids(connection, max(RESERVED, number)))
        return [self._work_ids.popleft() for _ in range(number)]

    async def tell(self, telling: Telling) -> bool:
        """Commit what a link answers to a query, and that the query is answered.

        False: nothing is written, for some of it is not to be done any more, or was made or settled by another
        meanwhile. Raises StoreError.
        """
        return await self._tellings.want(telling)

    async def take(self, taking: Taking) -> bool:
        """Commit that the analyzer has taken work, as far as that is as it was told by this message; False: nothing is
        written. Raises StoreError. Who waits for an answer goes before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HELD_S):
                while self._looks.busy or self._tellings.busy:
                    await self._looks.idle()
                    await self._tellings.idle()
        return await self._takings.want(taking)

    async def _do_look(self, asked: Sequence[Collection[str]]) -> list[Look]:
        async with self._database.at_once(self._organization_id) as connection:
            return await _look(connection, asked)

    async def _do_tell(self, tellings: Sequence[Telling]) -> list[bool]:
        return await self._done(_tell, tellings)

    async def _do_take(self, takings: Sequence[Taking]) -> list[bool]:
        return await self._done(_taken, takings)

    async def _done(
        self, do: Callable[[Connection, Sequence[_One]], Awaitable[bool]], group: Sequence[_One]
    ) -> list[bool]:
        """Together, or each by itself where something is in the way of one."""
        async with self._database.at_once(self._organization_id) as connection:
            if await do(connection, group):
                return [True] * len(group)
            return [len(group) > 1 and await do(connection, [one]) for one in group]


_desks: WeakKeyDictionary[Database, dict[UUID, Desk]] = WeakKeyDictionary()


def desk_of(database: Database, organization_id: UUID) -> Desk:
    """The one desk of an organization in this process."""
    desks = _desks.setdefault(database, {})
    if organization_id not in desks:
        desks[organization_id] = Desk(database, organization_id)
    return desks[organization_id]

"""The order book for an analyzer that waits: its query read by one statement, its answer committed by another.

Between the two nothing is locked. What is written says what it was written from, and where any of that is not so any
more nothing is written at all: then whoever asks does it again in a transaction (`store.dispatch`). All statements are
for connections of `Database.at_once`, and reach the rows that there are by their indexes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

import asyncpg

from interface.domain.views import Actor
from interface.store.db import Connection
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

_LOOK = f"""
select s.*, i.* from ({SPECIMENS.format("s.barcode = any($1::text[])")}) s
  left join lateral ({ITEMS.format("s.id")}) i on true order by s.id, i.item_id
"""  # noqa: S608 - constants


async def look(
    connection: Connection, barcodes: Collection[str]
) -> tuple[list[BookSpecimen], dict[UUID, list[BookItem]]]:
    """`dispatch.by_barcode` and `dispatch.items_of` at once."""
    possible = [barcode for barcode in barcodes if "\0" not in barcode]
    specimens: dict[UUID, BookSpecimen] = {}
    items: dict[UUID, list[BookItem]] = {}
    for row in await connection.fetch(_LOOK, possible) if possible else []:
        if (known := row["id"]) not in specimens:
            specimens[known] = specimen_of(row)
            items[known] = []
        if row["item_id"] is not None:
            items[known].append(item_of(row))
    return list(specimens.values()), items


async def work_ids(connection: Connection, number: int) -> list[int]:
    """So many work ids that nobody else gets, in their order."""
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


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is stored, waits in the queue and is settled by the same statement."""

    message_id: UUID
    reason: str = ""


_ACTOR = "'link', $2::uuid, $3::text"  # of a link's own doing
# What arrives is kept where `ok` has a row.
_ARRIVED = """
), arrived_frame as (
    insert into lab.frame (id, organization_id, message_id, ordinal, attempt, bytes, digest, received_at)
    select {id}::uuid, $1::uuid, {id}::uuid, 0, 0, {bytes}::bytea, {digest}::bytea, $4::timestamptz from ok
), arrived as (
    insert into lab.message (id, organization_id, link_id, protocol, state, settled, reply, control_id, message_type,
                             reason, bytes, received_at, sealed_at, settled_at, peer)
    select {id}::uuid, $1::uuid, $2::uuid, 'hl7', 'complete', 'released', 'owed', {control_id}::text, {kind}::text,
           {reason}::text, octet_length({bytes}::bytea), $4::timestamptz, $4::timestamptz, $4::timestamptz,
           {peer}::text from ok
), arrived_audit as (
    insert into lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
                                 address, outcome)
    select {id}::uuid, $1::uuid, {actor}, 'message.settle', 'message', {id}::uuid, {peer}::text, 'released' from ok
"""


def _arrived(first: int) -> str:
    """`first`: the number of the first of the arguments of `_of_arrived`."""
    names = ("id", "bytes", "digest", "control_id", "kind", "peer", "reason")
    return _ARRIVED.format(actor=_ACTOR, **{name: f"${first + at}" for at, name in enumerate(names)})


def _of_arrived(arrived: Arrived) -> tuple[object, ...]:
    # The digest as `store.journal` has it of each frame.
    row, digest = arrived.row, blake2b(arrived.block, digest_size=32).digest()[:16]
    return row.id, arrived.block, digest, row.control_id, row.message_type, row.peer, arrived.reason


# A message in the queue is claimed by its row there: who settles it takes that.
_CLAIM = """
), waiting as materialized (
    select message_id, attempts from lab.queue where message_id = $22 for update
"""
_CLAIMED = "and exists (select from waiting)"
_SETTLED = f"""
), gone as (
    delete from lab.queue where message_id = $22 and exists (select from ok)
), settled as (
    update lab.message m set settled = 'released', settled_at = now(), problems = '{{}}', attempts = waiting.attempts,
           reason = case when $25::text = '' then m.reason else $25::text end
      from ok cross join waiting where m.id = waiting.message_id
), settled_audit as (
    insert into lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
                                 outcome, detail)
    select $24::uuid, $1::uuid, {_ACTOR}, 'message.settle', 'message', $22::uuid, 'released', '{{}}' from ok
"""  # noqa: S608 - constants
# The items are locked as by `dispatch.still_open`, then the work that is there, by id, as everybody does. A unique
# index refuses work that another connection of the analyzer has made meanwhile.
_TELL = """
with o as materialized (
    select id from lab.order_item where id = any($5::uuid[]) and status in ({waiting}) order by id for key share
), l as materialized (
    select l.id, l.kind, l.follow_up_id, i.event_id, i.sending_id
      from unnest($17::uuid[], $18::uuid[], $19::uuid[]) as i (id, event_id, sending_id)
     cross join lateral (
         select d.id, d.state, d.kind, d.follow_up_id from lab.dispatch d where d.id = i.id offset 0 for update) l
     where l.state not in ('resulted', 'cancelled') and l.kind <> 'cancel'
{claim}
), ok as materialized (
    select from (select (select count(*) from o) = cardinality($5::uuid[])
                    and (select count(*) from l) = cardinality($17::uuid[]) {claimed} as go) c where c.go
), i as materialized (
    select i.* from ok cross join
           unnest($6::uuid[], $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::numeric[],
                  $14::bigint[], $15::uuid[], $16::uuid[])
        as i (id, order_item_id, specimen_id, kind, code, specimen_told, follow_up_id, dilution, work_id, sending_id,
              event_id)
), s as (
    insert into lab.sending (id, organization_id, link_id, query_id, bytes, created_at)
    select s.id, $1::uuid, $2::uuid, $22::uuid, s.bytes, $4::timestamptz
      from ok cross join unnest($20::uuid[], $21::bytea[]) as s (id, bytes)
), n as (
    insert into lab.dispatch (id, organization_id, analyzer_id, link_id, work_id, order_item_id, specimen_id, kind,
                              code, specimen_told, follow_up_id, dilution, state, sending_id, sent_at)
    select id, $1::uuid, $23::uuid, $2::uuid, work_id, order_item_id, specimen_id, kind, code, specimen_told,
           follow_up_id, dilution, 'sent', sending_id, $4::timestamptz from i
), u as (
    update lab.dispatch d set state = 'sent', link_id = $2::uuid, sending_id = l.sending_id, sent_at = $4::timestamptz,
           answer = '', updated_at = $4::timestamptz from ok cross join l where d.id = l.id
), e as (
    insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, sending_id, actor_kind, actor_id,
                                    actor_name)
    select event_id, $1::uuid, id, kind, 'sent', sending_id, {actor} from i
    union all select event_id, $1::uuid, id, kind, 'sent', sending_id, {actor} from ok cross join l
), f as (
    update lab.follow_up f set state = 'sent', updated_at = $4::timestamptz
     where f.state = 'requested' and f.id = any(array(
           select follow_up_id from i where follow_up_id is not null
           union all select l.follow_up_id from ok cross join l where l.follow_up_id is not null))
{journal}
)
select count(*) from ok
"""
_OPEN_ITEM = ", ".join(f"'{status}'" for status in WAITING)
_TELL_ARRIVED = _TELL.format(waiting=_OPEN_ITEM, actor=_ACTOR, claim="", claimed="", journal=_arrived(24))
_TELL_WAITING = _TELL.format(waiting=_OPEN_ITEM, actor=_ACTOR, claim=_CLAIM, claimed=_CLAIMED, journal=_SETTLED)


async def tell(
    connection: Connection, actor: Actor, analyzer_id: UUID, told: Sequence[Told], items: Collection[UUID],
    query: Arrived | Waiting, now: datetime,
) -> bool:  # fmt: skip
    """Commit what a link answers to a query, and that the query is answered. `items`: those of all the work.

    False: nothing is written, for some of it is not to be done any more, or was made or settled by another meanwhile.
    """
    new = [(row, one.sending_id) for one in told for row in one.new]
    known = sorted((dispatch_id, one.sending_id) for one in told for dispatch_id in one.known)
    rows = [row for row, _ in new]
    if isinstance(query, Arrived):
        statement, query_id, of_query = _TELL_ARRIVED, query.row.id, _of_arrived(query)
    else:
        statement, query_id, of_query = _TELL_WAITING, query.message_id, (uuid7(), query.reason)
    try:
        done: int = await connection.fetchval(
            statement,
            actor.organization_id, actor.id, actor.name, now, sorted(items),
            [row.id for row in rows], [row.order_item_id for row in rows], [row.specimen_id for row in rows],
            [row.kind.value for row in rows], [row.code for row in rows], [row.specimen_told for row in rows],
            [row.follow_up_id for row in rows], [row.dilution for row in rows], [row.work_id for row in rows],
            [sending_id for _, sending_id in new], [uuid7() for _ in new],
            [one for one, _ in known], [uuid7() for _ in known], [sending_id for _, sending_id in known],
            [one.sending_id for one in told], [one.data for one in told], query_id, analyzer_id, *of_query,
        )  # fmt: skip
    except asyncpg.UniqueViolationError:
        return False
    return done == 1


# ---- what is taken --------------------------------------------------------------------------------------------------

_TAKEN = """
with l as materialized (
    select l.id, l.kind, i.event_id from unnest($5::uuid[], $6::uuid[]) as i (id, event_id)
     cross join lateral (
         select d.id, d.state, d.kind, d.sending_id from lab.dispatch d where d.id = i.id offset 0 for update) l
     where l.state = 'sent' and l.kind <> 'cancel' and l.sending_id = $7::uuid
), ok as materialized (
    select from (select count(*) = cardinality($5::uuid[]) as go from l) c where c.go
), u as (
    update lab.dispatch d set state = 'accepted', answer = $8::text, answered_at = $4::timestamptz,
           updated_at = $4::timestamptz from ok cross join l where d.id = l.id
), e as (
    insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, answer, sending_id, actor_kind,
                                    actor_id, actor_name)
    select event_id, $1::uuid, id, kind, 'accepted', $8::text, $7::uuid, {actor} from ok cross join l
{journal}
)
select count(*) from ok
"""
_TAKEN_SILENTLY = _TAKEN.format(actor=_ACTOR, journal="")
_TAKEN_ARRIVED = _TAKEN.format(actor=_ACTOR, journal=_arrived(9))


async def taken(
    connection: Connection, actor: Actor, sending_id: UUID, dispatches: Collection[UUID], words: str,
    arrived: Arrived | None, now: datetime,
) -> bool:  # fmt: skip
    """Commit that the analyzer has taken all the work of a message of ours, as far as it was told of it by that one;
    `arrived`: its answer. False: nothing is written."""
    ids = sorted(dispatches)
    values = (actor.organization_id, actor.id, actor.name, now, ids, [uuid7() for _ in ids], sending_id, words)
    if arrived is None:
        done: int = await connection.fetchval(_TAKEN_SILENTLY, *values)
    else:
        done = await connection.fetchval(_TAKEN_ARRIVED, *values, *_of_arrived(arrived))
    return done == 1

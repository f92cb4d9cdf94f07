"""How work of analyzers ends: its result comes, it is taken back, or the analyzer cannot be told.

What an analyzer was told and is not to do any more is told to it too: the row is of the kind `cancel` from then on, and
queued. What it was not told ends at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from interface.domain.routing import TOLD, DispatchKind, DispatchState
from interface.domain.views import Actor, ActorKind
from interface.store import dispatch
from interface.store.db import Connection
from interface.store.dispatch import DispatchRow
from interface.store.follow_ups import asked_before

if TYPE_CHECKING:
    from interface.store.version_rows import ResultVersion

_DONE = frozenset({"completed", "verified"})
_OPEN_OF = "d.order_item_id = any($1::uuid[]) and d.state not in ('resulted', 'cancelled')"


async def resulted(connection: Connection, organization_id: UUID, versions: Sequence[ResultVersion]) -> None:
    """Results have come, and are written in the same transaction. The work of the analyzer that sent one has ended,
    whatever is said of the result, but for a rerun of which it is none; that of others is redundant once the item is
    done."""
    by: dict[UUID, set[UUID | None]] = {}
    done: set[UUID] = set()
    for one in versions:
        if one.order_item_id is not None:
            by.setdefault(one.order_item_id, set()).add(one.alike.analyzer_id)
            if one.alike.item_status in _DONE:
                done.add(one.order_item_id)
    rows = await dispatch.locked(connection, _OPEN_OF, list(by))
    own = [row for row in rows if row.analyzer_id in by[row.order_item_id]]
    awaited = await _still_awaited(connection, own, versions)
    mine = [row.id for row in own if row.id not in awaited]
    others = [row for row in rows if row.order_item_id in done and row.analyzer_id not in by[row.order_item_id]]
    actor = await _who(connection, organization_id, versions[0])
    now = datetime.now(UTC)
    if mine:
        await dispatch.set_state(connection, actor, mine, DispatchState.RESULTED, now)
    await _take_back(connection, actor, others, "another run of the test has come", now)


_ASKED = """
select d.id, d.order_item_id, d.analyzer_id, f.id as follow_up_id, f.created_at as made_at, v.instrument_at as before
  from lab.dispatch d join lab.follow_up f on f.id = d.follow_up_id
  left join lab.result r on r.id = f.result_id left join lab.result_version v on v.id = r.version_id
 where d.id = any($1::uuid[])
"""


async def _still_awaited(
    connection: Connection, rows: Sequence[DispatchRow], versions: Sequence[ResultVersion]
) -> set[UUID]:
    """The reruns among this work of which no result is the run that was asked for, as `flow.cases` has it: what an
    analyzer had sent by then, and waited for its turn or is decided anew, or what it kept and sends late, is none. Who
    was not told of the rerun yet would not be any more, nor a person that it was refused."""
    again = [row.id for row in rows if row.follow_up_id is not None]
    if not again:
        return set()
    messages = {one.message.message_id for one in versions}
    came = {
        row["id"]: row["received_at"]
        for row in await connection.fetch(
            "select id, received_at from lab.message where id = any($1::uuid[])", [one for one in messages if one]
        )
    }
    awaited = set()
    for row in await connection.fetch(_ASKED, again):
        said = [
            one.message for one in versions
            if one.order_item_id == row["order_item_id"] and one.alike.analyzer_id == row["analyzer_id"]
        ]  # fmt: skip
        if not any(
            (one.message_id not in came or asked_before(row["follow_up_id"], row["made_at"], came[one.message_id]))
            and (row["before"] is None or one.instrument_at is None or one.instrument_at >= row["before"])
            for one in said
        ):
            awaited.add(row["id"])
    return awaited


async def _who(connection: Connection, organization_id: UUID, version: ResultVersion) -> Actor:
    name, by = "", version.alike
    if by.actor_kind is ActorKind.LINK:
        name = await connection.fetchval("select name from lab.link where id = $1", by.actor_id) or ""
    return Actor(by.actor_kind, by.actor_id, name, organization_id)


async def withdraw(
    connection: Connection, actor: Actor, item_ids: Collection[UUID], reason: str, *, but: UUID | None = None
) -> None:
    """Nothing is to be measured for these items any more, whose rows the caller has locked; `but` by this analyzer."""
    if not item_ids:
        return
    rows = await dispatch.locked(connection, _OPEN_OF, list(item_ids))
    await _take_back(connection, actor, [row for row in rows if row.analyzer_id != but], reason, datetime.now(UTC))


async def withdraw_runs(
    connection: Connection, actor: Actor, item_id: UUID, follow_up_ids: Collection[UUID], reason: str
) -> None:
    """These runs of the item, which were asked for, are not to be measured any more."""
    condition = f"{_OPEN_OF} and d.follow_up_id = any($2::uuid[])"
    rows = await dispatch.locked(connection, condition, [item_id], list(follow_up_ids))
    await _take_back(connection, actor, rows, reason, datetime.now(UTC))


async def take_back(
    connection: Connection, actor: Actor, dispatch_ids: Iterable[UUID], reason: str, now: datetime
) -> None:
    """The same of single pieces of work."""
    await _take_back(connection, actor, await dispatch.lock(connection, dispatch_ids), reason, now)


async def _take_back(
    connection: Connection, actor: Actor, rows: Iterable[DispatchRow], reason: str, now: datetime
) -> None:
    going = [row for row in rows if row.kind is not DispatchKind.CANCEL]
    told = [row.id for row in going if knows(row)]
    untold = [row.id for row in going if not knows(row)]
    if told:
        await dispatch.set_state(
            connection, actor, told, DispatchState.QUEUED, now, kind=DispatchKind.CANCEL, reason=reason, unsent=True
        )
    if untold:
        await dispatch.set_state(connection, actor, untold, DispatchState.CANCELLED, now, reason=reason)


def knows(row: DispatchRow) -> bool:
    """Whether the analyzer may have the work: it was told, and has not refused it."""
    return row.state in TOLD or (row.sent_at is not None and row.state is not DispatchState.REFUSED)


_SWEEP = """
d.state not in ('resulted', 'cancelled') and d.kind <> 'cancel' and d.updated_at < now() - interval '30 seconds'
and exists (select from lab.order_item i where i.id = d.order_item_id
             and i.status in ('completed', 'verified', 'cancelled', 'rejected'))
"""


async def sweep(connection: Connection, actor: Actor) -> int:
    """Take back what is still to be measured of items that are not: an offer and the end of its item may have been
    committed in the same moment. Returns how many there were."""
    rows = await dispatch.locked(connection, _SWEEP, skip=True)
    await _take_back(connection, actor, rows, "its order item is done or closed", datetime.now(UTC))
    return len(rows)


async def give_up(connection: Connection, actor: Actor, analyzer_ids: Collection[UUID]) -> int:
    """These analyzers cannot be told that work is off: it has ended all the same, and a result of it that comes is held
    as any that was not ordered. Returns how much that was."""
    condition = "d.analyzer_id = any($1::uuid[]) and d.state = 'queued' and d.kind = 'cancel'"
    rows = [row.id for row in await dispatch.locked(connection, condition, list(analyzer_ids), skip=True)]
    if rows:
        why = "the analyzer cannot be told"
        await dispatch.set_state(connection, actor, rows, DispatchState.CANCELLED, datetime.now(UTC), why=why)
    return len(rows)


_LEFT = """
d.analyzer_id = any($1::uuid[]) and d.state in ('queued', 'sent') and d.link_id <> all($2::uuid[])
and exists (select from lab.sending s where s.id = d.sending_id and s.query_id is null)
and not exists (select from lab.lease l join lab.daemon o on o.id = l.daemon_id and o.gone_at is null
                 where l.id = d.link_id)
"""


async def hand_over(
    connection: Connection, actor: Actor, analyzer_ids: Collection[UUID], link_ids: Collection[UUID]
) -> int:
    """What was to be said to these analyzers by a link that is neither one of these, by which they can be told, nor
    anybody else's: it is told anew. Nobody knows of it whether it arrived. Returns how much that was."""
    rows = await dispatch.locked(connection, _LEFT, list(analyzer_ids), list(link_ids), skip=True)
    reason = "its link is not there any more"
    await dispatch.set_state(
        connection, actor, [row.id for row in rows], DispatchState.QUEUED, datetime.now(UTC), reason=reason, unsent=True
    )
    return len(rows)


async def ordered_for_others(connection: Connection, dispatch_ids: Collection[UUID]) -> set[UUID]:
    """Those of these whose code the analyzer still has for other work on the same specimen."""
    rows = await connection.fetch(
        """select d.id from lab.dispatch d
            where d.id = any($1::uuid[]) and exists (
                  select from lab.dispatch o join lab.order_item i on i.id = o.order_item_id
                   where i.specimen_id = d.specimen_id and o.analyzer_id = d.analyzer_id and o.code = d.code
                     and o.kind <> 'cancel' and o.state in ('queued', 'sent', 'accepted'))""",
        list(dispatch_ids),
    )
    return {row["id"] for row in rows}


# ---- what could not be told -----------------------------------------------------------------------------------------


async def not_delivered(
    connection: Connection, actor: Actor, dispatch_ids: Iterable[UUID], reason: str, limit: int | None, now: datetime
) -> tuple[UUID, ...]:
    """These were not told after all: they are queued again, or have failed at the `limit`th attempt. None: it does not
    count as one. Returns those that have failed. What has ended meanwhile, or is to be taken back, stays."""
    waiting = (DispatchState.SENT, DispatchState.QUEUED)
    rows = [row for row in await dispatch.lock(connection, dispatch_ids) if row.state in waiting and row.sending_id]
    failed = tuple(row.id for row in rows if limit is not None and row.attempts + 1 >= limit)
    again = [row.id for row in rows if row.id not in failed]
    if limit is not None:
        await dispatch.count_attempts(connection, [row.id for row in rows])
    for ids, state in ((again, DispatchState.QUEUED), (failed, DispatchState.FAILED)):
        if ids:
            await dispatch.set_state(connection, actor, ids, state, now, reason=reason)
    await (
        connection.execute(  # an answer that was not said is not said later unasked: its work is queued like any other
            """update lab.dispatch d set sending_id = null where d.id = any($1::uuid[])
            and exists (select from lab.sending s where s.id = d.sending_id and s.query_id is not null)""",
            again,
        )
    )
    return failed


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A message of ours of which nobody knows whether it was taken: to be sent again as it is."""

    sending_id: UUID
    data: bytes
    dispatches: tuple[UUID, ...]


_UNCONFIRMED = """
select s.id, s.bytes, array_agg(d.id order by d.id) as ids, (
           select count(distinct e.dispatch_id) from lab.dispatch_event e where e.sending_id = s.id) as told
  from lab.dispatch d join lab.sending s on s.id = d.sending_id
 where d.link_id = $1 and d.state in ('queued', 'sent') and s.query_id is null
 group by s.id, s.bytes order by s.id
"""


async def unconfirmed(connection: Connection, actor: Actor, link_id: UUID) -> list[Unconfirmed]:
    """The link's messages that were not asked for and to which there was no answer, the oldest first.

    One of whose work some has ended or is to be taken back is not sent again; the rest of its work is queued anew.
    """
    rows = await connection.fetch(_UNCONFIRMED, link_id)
    if rows:  # who ends one of them now comes before this, or takes it back after
        await dispatch.lock(connection, [dispatch_id for row in rows for dispatch_id in row["ids"]])
        rows = await connection.fetch(_UNCONFIRMED, link_id)
    broken = [dispatch_id for row in rows if len(row["ids"]) < row["told"] for dispatch_id in row["ids"]]
    if broken:
        await dispatch.lock(connection, broken)
        reason = "its message is not sent again: not all of it is to be done"
        await dispatch.set_state(
            connection, actor, broken, DispatchState.QUEUED, datetime.now(UTC), reason=reason, unsent=True
        )
    return [Unconfirmed(row["id"], row["bytes"], tuple(row["ids"])) for row in rows if len(row["ids"]) >= row["told"]]

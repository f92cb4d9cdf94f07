"""What follows from results: reruns, dilutions and reflexes, one row each. Rows and nothing else; `flow.follow_ups`
says what may be asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from asyncpg import Record

from interface.domain.model import FollowUpKind, FollowUpState
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import instant_of, uuid7
from interface.store.routes import AHEAD

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class FollowUp:
    """`rule`: of the rule set, or `person` and a number. `depth`: how many follow-ups led to it, itself included."""

    id: UUID
    kind: FollowUpKind
    result_id: UUID
    rule: str
    depth: int
    order_item_id: UUID | None  # the item its result answers
    state: FollowUpState
    dilution: Decimal | None
    reason: str


_COLUMNS = "id, kind, result_id, rule, depth, order_item_id, state, dilution, reason"


async def of_result(connection: Connection, result_id: UUID) -> list[FollowUp]:
    """Everything that was asked for because of a result, oldest first."""
    rows = await connection.fetch(
        f"select {_COLUMNS} from lab.follow_up where result_id = $1 order by id",  # noqa: S608 - a constant
        result_id,
    )
    return [_follow_up(row) for row in rows]


async def of_results(connection: Connection, result_ids: Collection[UUID]) -> dict[UUID, tuple[FollowUp, ...]]:
    """The same of several results."""
    found: dict[UUID, tuple[FollowUp, ...]] = {}
    for row in await connection.fetch(
        f"select {_COLUMNS} from lab.follow_up where result_id = any($1) order by id",  # noqa: S608 - a constant
        list(result_ids),
    ):
        found[row["result_id"]] = (*found.get(row["result_id"], ()), _follow_up(row))
    return found


async def of_items(connection: Connection, order_item_ids: Collection[UUID]) -> list[FollowUp]:
    """The follow-ups whose results answer these order items, oldest first."""
    rows = await connection.fetch(
        f"select {_COLUMNS} from lab.follow_up where order_item_id = any($1) order by id",  # noqa: S608 - a constant
        list(order_item_ids),
    )
    return [_follow_up(row) for row in rows]


async def add(
    connection: Connection,
    actor: Actor,
    result_id: UUID,
    kind: FollowUpKind,
    rule: str,
    depth: int,
    order_item_id: UUID | None,
    dilution: Decimal | None,
    reason: str,
) -> FollowUp:
    """Raises asyncpg.UniqueViolationError when the rule has asked for one because of the result before."""
    row = await connection.fetchrow(
        f"""
        insert into lab.follow_up (id, organization_id, kind, result_id, rule, depth, order_item_id, dilution, reason,
                                   actor_kind, actor_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) returning {_COLUMNS}
        """,  # noqa: S608 - a constant
        uuid7(),
        actor.organization_id,
        kind,
        result_id,
        rule,
        depth,
        order_item_id,
        dilution,
        reason,
        actor.kind,
        actor.id,
    )
    assert row is not None  # noqa: S101 - an insert that returns
    return _follow_up(row)


async def set_state(connection: Connection, follow_up_id: UUID, state: FollowUpState) -> None:
    await connection.execute(
        "update lab.follow_up set state = $2, updated_at = now() where id = $1 and state <> $2", follow_up_id, state
    )


async def cancel(connection: Connection, order_item_ids: Collection[UUID]) -> None:
    """Nothing is measured for these items any more: of what was asked for, nobody awaits what has not come."""
    await connection.execute(
        """update lab.follow_up set state = 'cancelled', updated_at = now()
            where order_item_id = any($1::uuid[]) and state in ('requested', 'sent')""",
        list(order_item_ids),
    )


def asked_before(follow_up_id: UUID, made_at: datetime, came: datetime) -> bool:
    """Whether what came then came after it was asked for. Its id has the millisecond: within it nobody knows. But ids
    go on after those of a clock that was ahead, and may be of a time that is to come: then `made_at`, the database's,
    counts."""
    asked_at = instant_of(follow_up_id)
    if asked_at > made_at + AHEAD:
        asked_at = made_at
    return asked_at + _MILLISECOND <= came


def _follow_up(row: Record) -> FollowUp:
    fields = dict(row.items())
    fields["kind"], fields["state"] = FollowUpKind(row["kind"]), FollowUpState(row["state"])
    return FollowUp(**fields)

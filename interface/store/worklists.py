"""Which analyzers are told of their work without asking; from then on what begins to be measurable is due to them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from interface.store.db import Connection


async def set_worklists(
    connection: Connection, organization_id: UUID, analyzer_ids: Collection[UUID], left: Collection[UUID] = ()
) -> None:
    """From now on these of the organization's analyzers are told of their work, what waits already included, and no
    others: to them nothing is due any more. Those of `left` stay as they are.

    To be called with nothing else in the transaction. Whoever makes an item measurable is before this, and his item is
    seen, or after it, and sees which analyzers there are: the triggers that make it due hold the lock shared until they
    are committed (migration 0027).
    """
    now = list(analyzer_ids), list(left)
    differs = "worklist is distinct from (id = any($1::uuid[])) and id <> all($2::uuid[])"
    if await connection.fetchval(f"select exists (select from lab.analyzer where {differs})", *now):  # noqa: S608
        await connection.execute(
            "select pg_advisory_xact_lock(hashtextextended('labora worklist ' || $1::uuid::text, 0))", organization_id
        )
        changed = await connection.fetch(
            f"update lab.analyzer set worklist = not worklist where {differs} returning id, worklist",  # noqa: S608
            *now,
        )
        await connection.execute(
            """
            insert into lab.work_due (analyzer_id, order_item_id, organization_id)
            select a.id, i.id, i.organization_id from unnest($1::uuid[]) as a (id)
             cross join lab.lab_order o join lab.order_item i on i.order_id = o.id
             where o.waiting and i.status in ('received', 'in_progress') on conflict do nothing
            """,
            [row["id"] for row in changed if row["worklist"]],
        )
    await connection.execute(
        "delete from lab.work_due where analyzer_id in (select id from lab.analyzer where not worklist)"
    )

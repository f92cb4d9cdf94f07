"""Which analyzers are told of their work without asking; from then on what begins to be measurable is due to them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from interface.store.db import Connection
from interface.store.leases import links_elsewhere


async def set_worklists(
    connection: Connection, organization_id: UUID, analyzer_ids: Collection[UUID], link_ids: Collection[UUID] = ()
) -> None:
    """From now on these of the organization's analyzers are told of their work, what waits already included, and no
    others: to them nothing is due any more. `link_ids`: all of this daemon; an analyzer of which another has a link
    that is none of these may be told by that, and is not switched off.

    To be called with nothing else in the transaction. Whoever makes an item measurable is before this, and his item is
    seen, or after it, and sees which analyzers there are: the triggers that make it due hold the lock shared until they
    are committed (migration 0027).
    """
    told = list(analyzer_ids)
    differs = "worklist is distinct from (id = any($1::uuid[])) and (not worklist or id <> all($2::uuid[]))"
    now = told, list((await links_elsewhere(connection, list(link_ids))).values())
    if await connection.fetchval(f"select exists (select from lab.analyzer where {differs})", *now):  # noqa: S608
        await connection.execute(
            "select pg_advisory_xact_lock(hashtextextended('labora worklist ' || $1::uuid::text, 0))", organization_id
        )
        # Anew: another that starts has taken its links before it waits for the lock, or said so of its own meanwhile.
        now = told, list((await links_elsewhere(connection, list(link_ids))).values())
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

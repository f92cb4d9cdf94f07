"""Writes that cancel: orders closed, items taken off worksheets. When is decided in `flow.order_changes`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from interface.store.db import Connection


async def close_order(connection: Connection, order_id: UUID, reason: str) -> None:
    """The order as a whole is cancelled. Its version was counted up with its items."""
    await connection.execute(
        """
        update lab.lab_order set cancelled_at = now(), cancel_reason = $2, updated_at = now()
        where id = $1 and cancelled_at is null
        """,
        order_id,
        reason,
    )


async def off_worksheets(connection: Connection, item_ids: Sequence[UUID]) -> None:
    """These items are not worked on at any worksheet any more; they stay on it, to be read."""
    await connection.execute(
        "update lab.worksheet_item set open = false where open and order_item_id = any($1::uuid[])", list(item_ids)
    )

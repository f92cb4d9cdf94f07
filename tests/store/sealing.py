"""Sealing an audit trail whole: the server's transactions, those of other tests too, may be in the way for a moment."""

from __future__ import annotations

from uuid import UUID

from interface.store import audit_chain
from interface.store.db import Database


async def sealed(
    database: Database, organization_id: UUID, *, most: int = audit_chain.SEGMENT_ROWS, first: str = ""
) -> audit_chain.Sealed:
    """Seal until no row waits any more, each time after the statement `first`; what the last pass did."""
    while True:
        async with database.transaction(organization_id) as connection:
            if first:
                await connection.execute(first)
            done = await audit_chain.seal(connection, organization_id, most=most)
        async with database.transaction(organization_id) as connection:
            if not (await audit_chain.verify(connection, organization_id)).unsealed:
                return done

"""The key of each organization that its page links are sealed with (`api.paging`): made once, for every process."""

from __future__ import annotations

import os
from uuid import UUID

from interface.store.db import Connection

_KEY_BYTES = 32


async def page_key(connection: Connection, organization_id: UUID) -> bytes:
    """The organization's key; whoever asks first makes it."""
    await connection.execute(
        "insert into lab.page_key (organization_id, key) values ($1, $2) on conflict do nothing",
        organization_id,
        os.urandom(_KEY_BYTES),
    )
    key: bytes = await connection.fetchval("select key from lab.page_key where organization_id = $1", organization_id)
    return key

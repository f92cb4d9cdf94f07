"""A connection of the journal's writer to the database."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from interface.store.db import Database
from interface.store.journal_sql import PREPARE_SESSION
from interface.store.rows import know_arrays

CONNECT_WAIT_S: Final = 10.0


class Line:
    """One of the writer's connections, made again when it has been lost. Raises what the driver does."""

    def __init__(self, database: Database, organization_id: UUID) -> None:
        self._database, self._organization_id = database, organization_id
        self._connection: asyncpg.Connection[Any] | None = None
        self._statements: dict[str, PreparedStatement[Any]] = {}

    async def connect(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            async with asyncio.timeout(CONNECT_WAIT_S):  # a server may freeze between its first answer and its second
                connection = await self._database.dedicated(self._organization_id)
                try:
                    await connection.execute(PREPARE_SESSION)
                    # Instants here are aware by their making; the driver's own way to write them is the quicker one.
                    await connection.reset_type_codec("timestamptz", schema="pg_catalog")
                    know_arrays(connection)
                except BaseException:
                    connection.terminate()
                    raise
                self._connection = connection
                self._statements.clear()
        return self._connection

    async def fetch(self, statement: str, *arguments: object, timeout_s: float) -> list[asyncpg.Record]:
        """The rows of a statement, which is prepared once for each connection."""
        prepared = self._statements.get(statement)
        if prepared is None or self._connection is None or self._connection.is_closed():
            connection = await self.connect()
            prepared = self._statements[statement] = await connection.prepare(statement, timeout=timeout_s)
        rows: list[asyncpg.Record] = await prepared.fetch(*arguments, timeout=timeout_s)
        return rows

    def cut(self) -> None:
        if self._connection is not None:
            self._connection.terminate()  # never waits: the server may be frozen
            self._connection = None

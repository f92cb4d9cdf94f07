"""A connection of the journal's writer to the database."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from interface.store.db import Database
from interface.store.journal_sql import PREPARE_SESSION
from interface.store.rows import know_arrays

CONNECT_WAIT_S: Final = 10.0
SEE_OFF_S: Final = 0.02  # between two looks whether a session has ended
WHO: Final = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
SEE_OFF: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"

Session: TypeAlias = tuple[int, datetime]


class Line:
    """One of the writer's connections, made again when it has been lost. Raises what the driver does.

    `former`: the sessions of all the writer's lines whose end nobody has seen. What one of them was doing when its
    answer was given up goes on in the server, and could be done after what is said next; so they are ended before that.
    """

    def __init__(self, database: Database, organization_id: UUID, former: set[Session] | None = None) -> None:
        self._database, self._organization_id = database, organization_id
        self._connection: asyncpg.Connection[Any] | None = None
        self._session: Session | None = None
        self._former = former if former is not None else set()
        self._statements: dict[str, PreparedStatement[Any]] = {}

    async def connect(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self.cut()
            async with asyncio.timeout(CONNECT_WAIT_S):  # a server may freeze between its first answer and its second
                connection = await self._database.dedicated(self._organization_id)
                try:
                    await connection.execute(PREPARE_SESSION)
                    # Instants here are aware by their making; the driver's own way to write them is the quicker one.
                    await connection.reset_type_codec("timestamptz", schema="pg_catalog")
                    know_arrays(connection)
                    self._session = await _session(connection)
                except BaseException:
                    connection.terminate()
                    raise
                self._connection = connection
                self._statements.clear()
        if self._former:
            async with asyncio.timeout(CONNECT_WAIT_S):
                await self._see_off(self._connection)
        return self._connection

    async def _see_off(self, connection: asyncpg.Connection[Any]) -> None:
        """As the login itself, whose sessions they are."""
        while self._former:
            session = min(self._former)
            async with connection.transaction():
                await connection.execute("SET LOCAL ROLE NONE")
                left = await connection.fetch(SEE_OFF, *session)
            if left:
                await asyncio.sleep(SEE_OFF_S)
            else:
                self._former.discard(session)

    async def fetch(self, statement: str, *arguments: object, timeout_s: float) -> list[asyncpg.Record]:
        """The rows of a statement, which is prepared once for each connection."""
        prepared = self._statements.get(statement)
        if prepared is None or self._former or self._connection is None or self._connection.is_closed():
            connection = await self.connect()
            prepared = self._statements[statement] = await connection.prepare(statement, timeout=timeout_s)
        rows: list[asyncpg.Record] = await prepared.fetch(*arguments, timeout=timeout_s)
        return rows

    def cut(self, *, idle: bool = False) -> None:
        """Let go of the connection. `idle`: its last answer has come, so that nothing of it goes on in the server."""
        if self._connection is not None:
            self._connection.terminate()  # never waits: the server may be frozen
            self._connection = None
        if self._session is not None and not idle:
            self._former.add(self._session)
        self._session = None


async def _session(connection: asyncpg.Connection[Any]) -> Session:
    (row,) = await connection.fetch(WHO)
    return row[0], row[1]

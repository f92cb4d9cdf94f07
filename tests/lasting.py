"""Connections that outlive a test: what one test's statements cost to plan, the next need not pay.

A backend costs some milliseconds to start and again as many until it knows the tables; a test of the API asked for four
to eight of them. What the pools of `interface.store.db` are for each organization, a `Lasting` gives to every test
and its organizations from one pool for each use. Tests of the pools themselves take `Database.connect`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import asyncpg

from interface.errors import StoreUnavailable
from interface.store.db import (
    _SETTINGS,
    ACQUIRE_TIMEOUT_S,
    COMMAND_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    Connection,
    Database,
    Pool,
    Use,
    prepare,
    session_settings,
)
from interface.store.driver_errors import DRIVER_ERRORS
from interface.store.schema import APP_ROLE
from tests.cluster import owner_of

MOST = 16  # connections for each use; an organization's own pool has eight


class Lender:
    """A database's pools, one for each use, whom each connection acts for, and the administrator's connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pools: dict[Use, Pool] = {}
        self._acts_for: dict[int, tuple[object, UUID | None]] = {}  # by its backend: whose it was, and for whom
        self._lent: set[int] = set()
        self._owner: asyncpg.Connection[asyncpg.Record] | None = None

    @asynccontextmanager
    async def lend(self, borrower: object, organization_id: UUID | None, use: Use) -> AsyncIterator[Connection]:
        """A connection that acts for the organization; what another borrower has set is gone. Raises
        StoreUnavailable."""
        try:
            pool = await self._pool(use)
            connection = await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
            pid = connection.get_server_pid()
            self._lent.add(pid)
            if self._acts_for.get(pid) != (borrower, organization_id):
                await connection.execute(f"{connection.get_reset_query()}\n{_acting_for(organization_id)}")
                self._acts_for[pid] = borrower, organization_id
        except DRIVER_ERRORS as error:
            raise StoreUnavailable("the database cannot be reached") from error
        try:
            yield connection
        finally:
            with suppress(*DRIVER_ERRORS):
                await pool.release(connection)
            self._lent.discard(pid)

    async def _pool(self, use: Use) -> Pool:
        if (pool := self._pools.get(use)) is None:
            pool = self._pools[use] = asyncpg.create_pool(
                self.url, min_size=0, max_size=MOST, init=prepare,
                reset=self._reset if use is Use.ANY else self._as_it_is,
                timeout=CONNECT_TIMEOUT_S, command_timeout=COMMAND_TIMEOUT_S,
                server_settings=session_settings(APP_ROLE) | _SETTINGS[use],
            )  # fmt: skip
            await pool
        return pool

    async def _reset(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """As the driver does it, and back to what is a start-up setting in a pool of an organization's own."""
        _, organization_id = self._acts_for[connection.get_server_pid()]
        await connection.execute(f"{connection.get_reset_query()}\n{_acting_for(organization_id)}")

    async def _as_it_is(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """The pools for single statements reset nothing."""

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """The administrator's connection, for one test at a time."""
        if self._owner is None or self._owner.is_closed():
            self._owner = await asyncpg.connect(owner_of(self.url))
            await prepare(self._owner)
        yield self._owner
        if not self._owner.is_closed():
            await self._owner.reset()

    def idle(self) -> list[int]:
        """The backends of the connections that are not lent."""
        owner = [] if self._owner is None or self._owner.is_closed() else [self._owner.get_server_pid()]
        return owner + [pid for pid in self._acts_for if pid not in self._lent]

    def terminate(self) -> None:
        """End every connection."""
        for pool in self._pools.values():
            pool.terminate()
        if self._owner is not None:
            self._owner.terminate()


def _acting_for(organization_id: UUID | None) -> str:
    return f"SET labora.org = '{organization_id or ''}'"


class Lasting(Database):
    """One test's way into a database, over the connections of its lender."""

    def __init__(self, lender: Lender) -> None:
        super().__init__(lender.url)
        self._lender = lender
        self._lent: set[Connection] = set()
        self._returned = asyncio.Event()
        self._returned.set()
        self._known: set[UUID] = set()

    def knows(self, organization_id: UUID) -> bool:
        return organization_id in self._known

    @asynccontextmanager
    async def _connection_of(self, key: tuple[UUID | None, Use]) -> AsyncIterator[Connection]:
        organization_id, use = key
        if self._closed:
            raise StoreUnavailable("the database is closed")
        if organization_id is not None:
            self._served.add(organization_id)
            if use is Use.ANY:
                self._known.add(organization_id)
        async with self._lender.lend(self, organization_id, use) as connection:
            self._lent.add(connection)
            self._returned.clear()
            try:
                yield connection
            finally:
                self._lent.discard(connection)
                if not self._lent:
                    self._returned.set()

    async def close(self) -> None:
        """What the test has not given back is cut after a short wait, as a pool does it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._returned.wait()
        for connection in self._lent:
            connection.terminate()
        await super().close()

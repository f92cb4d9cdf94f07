"""Connections that go from hand to hand, of a real server."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from interface.store import lending
from interface.store.db import Connection, Database, Use
from tests.conftest import Organization

_WHO = "select pg_backend_pid()"


@pytest.fixture
def database(own_database: Database) -> Database:
    return own_database


async def _who(database: Database, organization: Organization) -> int:
    async with database.at_once(organization.id) as connection:
        found: int = await connection.fetchval(_WHO)
        return found


async def _idle(database: Database, organization: Organization) -> int:
    """How many connections the pool has at hand."""
    return (await database.pool(organization.id, Use.AT_ONCE)).get_idle_size()


async def test_the_one_that_was_used_last_is_lent_again(database: Database, organization: Organization) -> None:
    first = await _who(database, organization)
    assert await _who(database, organization) == first and not await _idle(database, organization)
    async with database.at_once(organization.id) as one:
        assert await one.fetchval(_WHO) == first
        async with database.at_once(organization.id) as other:
            assert await other.fetchval(_WHO) != first
    assert await _idle(database, organization) == 1  # of two one is enough


async def test_it_is_given_back_after_a_while(
    database: Database, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lending, "LENT_S", 0.0)
    await _who(database, organization)
    assert await _idle(database, organization) == 1
    monkeypatch.setattr(lending, "LENT_S", 0.01)
    await _who(database, organization)
    async with asyncio.timeout(10):
        while not await _idle(database, organization):  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0)


async def test_one_whose_statement_failed_or_that_is_no_more_is_not_lent_again(
    database: Database, organization: Organization, owner: Connection
) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with database.at_once(organization.id) as connection:
            await connection.fetchval("select 1 / 0")
    assert await _idle(database, organization) == 1
    first = await _who(database, organization)
    await owner.execute("select pg_terminate_backend($1, 10000)", first)
    async with asyncio.timeout(10):
        while True:  # until it has heard of its end it cannot know
            try:
                assert await _who(database, organization) != first
                break
            except Exception:
                await asyncio.sleep(0)


async def test_a_database_that_is_closed_has_none_out(database: Database, organization: Organization) -> None:
    await _who(database, organization)
    pool = await database.pool(organization.id, Use.AT_ONCE)
    async with asyncio.timeout(4):  # less than a pool is waited for whose connections are in use
        await database.close()
    assert pool.get_size() == 0

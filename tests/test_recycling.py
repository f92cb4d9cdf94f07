"""What the tests' own ground promises: a recycled database is as its template, whatever was done to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from interface.flow import actors
from interface.store.db import Database
from tests.cluster import owner_of
from tests.conftest import Organization
from tests.flow.laboratory import laboratory, message
from tests.lasting import Lasting, Lender
from tests.recycling import Recycler

SUM = """
select coalesce(string_agg(x::text, ' ' order by x::text), '') from (
    select relname, (xpath('/row/n/text()', query_to_xml(
        format('select md5(string_agg(t::text, '','' order by t::text)) as n from lab.%I as t', relname),
        true, true, '')))[1]::text as content
    from pg_class where relnamespace = 'lab'::regnamespace and relkind = 'r'
) as x
"""
SEQUENCES = "select schemaname, sequencename, last_value from pg_sequences order by 1, 2"


@pytest.fixture
async def recycler(cluster_url: str, founded: str) -> AsyncIterator[Recycler]:
    made = Recycler(cluster_url, founded)
    yield made
    await made.drop()


async def _content(url: str) -> tuple[str, list[asyncpg.Record]]:
    connection = await asyncpg.connect(owner_of(url))
    try:
        return await connection.fetchval(SUM), await connection.fetch(SEQUENCES)
    finally:
        await connection.close()


async def test_what_a_test_wrote_is_gone_before_the_next(recycler: Recycler, founded_url: str) -> None:
    new = await _content(founded_url)
    async with recycler.database() as url:
        assert await _content(url) == new
        async with laboratory(url) as lab:
            await lab.order("S1", "HGB")
            await lab.send(message("P|1", "O|1|S1||^^^HGB", "R|1|^^^HGB|13.5|g/dL||N||F"))
            await lab.settle()
            assert len(await lab.results()) == 1
            await lab.owner.execute("delete from lab.reference_interval")
            await lab.owner.execute("set search_path = nowhere")
        left = await Database.connect(url)  # a session that a test forgot
        await actors.create_organization(left, "another")
        assert await _content(url) != new
    async with recycler.database() as again:
        assert again == url
        assert await _content(again) == new
        async with laboratory(again) as lab:
            assert await lab.owner.fetchval("show search_path") != "nowhere"
            assert await lab.results() == []
    await left.close()


async def test_what_a_test_set_in_a_session_the_next_does_not_find(lender: Lender, organization: Organization) -> None:
    for _ in range(2):
        database = Lasting(lender)
        for connected in (database.organization, database.searching, database.at_once, database.by_index):
            async with connected(organization.id) as connection:
                assert await connection.fetchval("show work_mem") != "64kB"
                assert await connection.fetchval("show labora.org") == str(organization.id)
                await connection.execute("set work_mem = '64kB'")
        await database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "alter table lab.message disable trigger all",
        "alter table lab.message add column more text",
        "create index on lab.message (id)",
        "create table lab.another ()",
        "drop schema kept cascade",
        "alter database {} set work_mem = '1MB'",
    ],
)
async def test_a_database_that_was_changed_otherwise_is_not_used_again(recycler: Recycler, statement: str) -> None:
    async with recycler.database() as url:
        owner = await asyncpg.connect(owner_of(url))
        await owner.execute(statement.format(await owner.fetchval("select current_database()")))
        await owner.close()
    async with recycler.database() as again:
        assert again != url

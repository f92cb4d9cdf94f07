"""An order says whether an item of it may wait: never no while one does, whoever adds one at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import pytest

from interface.domain.model import ItemStatus
from interface.domain.states import OPEN_ITEM
from interface.store.db import Connection, Database
from interface.store.lab_changes import insert_items
from interface.store.order_changes import count_released, none_waits
from interface.store.specimens import set_items, touch_orders
from interface.store.worksheets import WorkFilter, pending
from tests.conftest import Organization
from tests.records import Laboratory, found, order

WAITING = """
select count(*) from pg_sleep(0.01), pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def says(connection: Connection, order_id: UUID) -> bool:
    waiting: bool = await connection.fetchval("select waiting from lab.lab_order where id = $1", order_id)
    return waiting


async def test_an_order_waits_until_its_last_item_has_come_and_again_when_one_is_reopened(
    laboratory: Laboratory,
) -> None:
    made = await laboratory.order(order("HGB", "WBC"))
    first, *others = [item.id for item in made.items]
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        assert await says(connection, made.id)
        await set_items(connection, others, ItemStatus.VERIFIED)
        assert await says(connection, made.id)
        await set_items(connection, [first], ItemStatus.COMPLETED)
        assert not await says(connection, made.id)
        assert await pending(connection, WorkFilter()) == []
        for status in sorted(OPEN_ITEM):
            await set_items(connection, [first], status)
            assert await says(connection, made.id)
            assert [item.item_id for item in await pending(connection, WorkFilter())] == [first]
            await set_items(connection, [first], ItemStatus.VERIFIED)
            assert not await says(connection, made.id)


@pytest.mark.parametrize("added_first", [True, False])
@pytest.mark.parametrize("released", [True, False])
async def test_an_item_that_is_added_while_the_last_one_comes_waits(
    laboratory: Laboratory, owner: asyncpg.Connection[asyncpg.Record], added_first: bool, released: bool
) -> None:
    made = await laboratory.order(order())
    item = made.items[0]
    specimen_id = item.specimen_id
    assert specimen_id is not None

    async def add(connection: Connection) -> None:
        row = (specimen_id, laboratory.tests[item.test_code], ItemStatus.RECEIVED)
        await insert_items(connection, laboratory.organization_id, made.id, [row])

    async def measure(connection: Connection) -> None:
        await connection.execute("update lab.order_item set status = 'verified' where id = $1", item.id)
        if released:
            await count_released(connection, [made.id])
        else:
            await touch_orders(connection, [made.id])
            await none_waits(connection, [made.id])

    async def in_a_transaction(work: Callable[[Connection], Awaitable[None]]) -> None:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            await work(connection)

    first, second = (add, measure) if added_first else (measure, add)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await first(connection)
        other = asyncio.create_task(in_a_transaction(second))
        async with asyncio.timeout(30):
            while not await owner.fetchval(WAITING):  # nothing tells that a statement has begun to wait
                assert not other.done()
    await other
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        assert await says(connection, made.id)
        assert len(await pending(connection, WorkFilter())) == 1

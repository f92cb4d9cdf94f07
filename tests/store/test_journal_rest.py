"""A writer that rests while another group fails looks for the database all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from interface.errors import StoreError
from interface.store.db import Database
from interface.store.journal import SECOND_ENTRIES, Journal
from tests.cluster import owner_of
from tests.conftest import Organization, make_organization
from tests.store.journals import Owner, hanging, in_flight, is_available, make_link, running, until, whole


async def is_unavailable(journal: Journal) -> bool:
    return not journal.available


async def test_a_second_group_that_fails_while_the_writer_rests_does_not_leave_the_journal_unavailable(
    database: Database, owner: Owner, organization: Organization, shared_database_url: str
) -> None:
    """The second connection hangs (a firewall forgot it, a lock); the first one works, and has nothing to do."""
    links = [await make_link(owner, organization) for _ in range(SECOND_ENTRIES + 1)]
    first, *others = (whole(link, b"text") for link in links)
    beside = await asyncpg.connect(owner_of(shared_database_url))
    async with running(database, organization, commit_wait_s=1.0) as journal:
        async with hanging(beside, organization, others[0]):
            async with hanging(owner, organization, first):
                tasks = [asyncio.create_task(journal.append(first))]
                await until(lambda: in_flight(owner))
                tasks += [asyncio.create_task(journal.append(one)) for one in others]
                await until(lambda: in_flight(beside))
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            await until(lambda: is_unavailable(journal))
        assert answers[0] == frozenset()
        assert all(isinstance(one, StoreError) for one in answers[1:])
        await until(lambda: is_available(journal))  # nobody appends: an ENQ is answered with NAK till then
    await beside.close()


async def test_a_journal_whose_schema_is_another_is_not_available_for_as_long(database_url: str) -> None:
    """A newer program upgraded the database beside the daemon: its server answers, and takes nothing of ours."""
    owner, database = await asyncpg.connect(owner_of(database_url)), await Database.connect(database_url)
    organization = await make_organization(owner)
    link = await make_link(owner, organization)
    looks = 0
    async with running(database, organization, commit_wait_s=1.0) as journal:
        connect = journal._first.connect

        async def counted() -> asyncpg.Connection[Any]:
            nonlocal looks
            looks += 1
            return await connect()

        await owner.execute("alter table lab.frame rename column fn to number")
        with pytest.raises(StoreError):
            await journal.append(whole(link, b"text"))
        journal._first.connect = counted  # type: ignore[method-assign]
        async with asyncio.timeout(20):
            while looks < 3:  # it looks whether it can commit again, and again
                assert not journal.available, "an ENQ would be answered with ACK, and /ready say that all is well"
                await asyncio.sleep(0.01)
        await owner.execute("alter table lab.frame rename column number to fn")
        await until(lambda: is_available(journal))
        assert await journal.append(whole(link, b"text")) == frozenset()
    await database.close()
    await owner.close()

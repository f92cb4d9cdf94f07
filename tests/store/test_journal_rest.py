"""A writer that rests while another group fails looks for the database all the same."""

from __future__ import annotations

import asyncio

import asyncpg

from interface.errors import StoreError
from interface.store.db import Database
from interface.store.journal import SECOND_ENTRIES, Journal
from tests.cluster import owner_of
from tests.conftest import Organization
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

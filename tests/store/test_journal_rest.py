"""A writer that rests while another group fails looks for the database all the same."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from interface.errors import StoreError
from interface.store.db import Database
from interface.store.journal import SECOND_ENTRIES, Append, FrameRow, Journal, MessageRow, new_message_id
from tests.cluster import owner_of
from tests.conftest import Organization, make_organization
from tests.store.journals import (
    AT,
    Owner,
    hanging,
    in_flight,
    is_available,
    is_sealed,
    make_link,
    running,
    until,
    whole,
)


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


async def begun(journal: Journal, link: UUID) -> MessageRow:
    """What is acknowledged of a transmission that is cut now."""
    opened = MessageRow(new_message_id(), link, "lis2", "receiving", received_at=AT)
    await journal.append(Append((opened,), (FrameRow(opened.id, 0, 0, 1, b"one", AT),)))
    return opened._replace(state="incomplete", sealed_at=AT, reason="lost")


async def refusing(owner: Owner, refused: MessageRow) -> None:
    """It cannot be sealed, and everything else can."""
    await owner.execute(
        f"""create function refuse() returns trigger language plpgsql as $$
            begin if new.id = '{refused.id}' then raise 'damaged'; end if; return new; end $$;
        create trigger refuse before update on lab.message for each row execute function refuse()"""
    )


async def test_what_is_cut_while_the_database_refuses_everything_is_sealed_once_it_does_not(database_url: str) -> None:
    """A grant that somebody took away for a minute: nobody was told of these frames until the next start."""
    owner, database = await asyncpg.connect(owner_of(database_url)), await Database.connect(database_url)
    organization = await make_organization(owner)
    link = await make_link(owner, organization)
    async with running(database, organization, commit_wait_s=1.0) as journal:
        cut = await begun(journal, link)
        await owner.execute("revoke usage on schema lab from labora_app")
        journal.seal_later([cut])
        await until(lambda: is_unavailable(journal))
        await owner.execute("grant usage on schema lab to labora_app")
        await until(lambda: is_sealed(owner, cut.id))
    await database.close()
    await owner.close()


async def test_one_that_the_database_refuses_to_seal_leaves_no_other_open(database_url: str) -> None:
    """Nor the journal without its peers: it is that row, and not the database."""
    owner, database = await asyncpg.connect(owner_of(database_url)), await Database.connect(database_url)
    organization = await make_organization(owner)
    link = await make_link(owner, organization)
    async with running(database, organization, commit_wait_s=1.0) as journal:
        refused, cut = await begun(journal, link), await begun(journal, link)
        await refusing(owner, refused)
        journal.seal_later([refused, cut])
        await until(lambda: is_sealed(owner, cut.id))
        assert not await is_sealed(owner, refused.id)
        assert await journal.append(whole(link, b"text")) == frozenset()
        assert journal.available
    await database.close()
    await owner.close()


async def test_nor_does_it_at_the_next_start(database_url: str) -> None:
    """All of them were sealed by one statement: the laboratory's links could not be opened any more."""
    owner, database = await asyncpg.connect(owner_of(database_url)), await Database.connect(database_url)
    organization = await make_organization(owner)
    link = await make_link(owner, organization)
    async with running(database, organization, commit_wait_s=1.0) as journal:
        refused, cut = await begun(journal, link), await begun(journal, link)
    await refusing(owner, refused)
    async with running(database, organization, commit_wait_s=1.0) as journal:
        assert await is_sealed(owner, cut.id)
        assert await owner.fetchval("select count(*) from lab.queue where message_id = $1", cut.id) == 1
        assert not await is_sealed(owner, refused.id)
        assert await journal.append(whole(link, b"text")) == frozenset()
    await database.close()
    await owner.close()

"""The audit trail: rows that stay, in the transaction of the change, and reads that never wait for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from interface.domain.views import Actor, ActorKind
from interface.errors import StoreAmbiguous, StoreUnavailable
from interface.store import audit
from interface.store.audit import MAX_TEXT_CHARACTERS, AuditWriter
from interface.store.db import Connection, Database
from tests.conftest import Organization


def reader(organization: Organization) -> Actor:
    return Actor(ActorKind.USER, uuid4(), "vera", organization.id, address="10.1.2.3")


async def rows(database: Database, organization: Organization) -> list[asyncpg.Record]:
    async with database.organization(organization.id) as connection:
        return await connection.fetch("select * from lab.audit_event order by id")


async def test_a_row_says_who_did_what_to_which_and_stays(database: Database, organization: Organization) -> None:
    actor, entity = reader(organization), uuid4()
    async with database.transaction(organization.id) as connection:
        await audit.record(connection, actor, "release", "result", entity, {"version": "2"})
    [row] = await rows(database, organization)
    assert (row["actor_kind"], row["actor_id"], row["actor_name"]) == ("user", actor.id, "vera")
    assert (row["action"], row["entity_kind"], row["entity_id"], row["outcome"]) == ("release", "result", entity, "ok")
    assert (row["address"], row["detail"]) == ("10.1.2.3", {"version": "2"})
    for statement in ("update lab.audit_event set action = 'x'", "delete from lab.audit_event"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(organization.id) as connection:
                await connection.execute(statement)


async def test_a_change_that_is_rolled_back_takes_its_row_along(database: Database, organization: Organization) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction(organization.id) as connection:
            await audit.record(connection, reader(organization), "release", "result")
            raise ZeroDivisionError
    assert await rows(database, organization) == []


async def test_reads_of_several_laboratories_end_up_with_each(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    writer = AuditWriter(database, batch=7)
    writer.start()
    for place in range(20):
        await writer.read(reader(organization), "read", "patient", None, {"place": str(place)})
        await writer.read(reader(other_organization), "read", "order")
    await writer.flush()
    mine = await rows(database, organization)
    assert [row["detail"]["place"] for row in mine] == [str(place) for place in range(20)]
    assert [row["entity_kind"] for row in await rows(database, other_organization)] == ["order"] * 20
    await writer.close()


async def test_what_is_queued_is_written_at_close(database: Database, organization: Organization) -> None:
    writer = AuditWriter(database)
    writer.start()
    for _ in range(5):
        await writer.read(reader(organization), "read", "patient")
    await writer.close()
    assert len(await rows(database, organization)) == 5


async def test_a_text_that_the_database_cannot_hold_is_made_storable(
    database: Database, organization: Organization
) -> None:
    writer = AuditWriter(database)
    writer.start()
    await writer.read(reader(organization), "search", "patient", None, {"query": "a\0b\ud800", "long": "x" * 9999})
    await writer.close()
    [row] = await rows(database, organization)
    assert row["detail"]["query"] == "a\N{REPLACEMENT CHARACTER}b?"
    assert len(row["detail"]["long"]) == MAX_TEXT_CHARACTERS


class Failing:
    """A database that is not there until `back` is set; it tells when it was asked."""

    def __init__(self, database: Database) -> None:
        self._database, self.back, self.asked = database, False, asyncio.Event()
        self.commits: list[str] = []
        self.after: list[str] = []

    @asynccontextmanager
    async def at_once(self, organization_id: UUID) -> AsyncIterator[Connection]:
        self.asked.set()
        if not self.back:
            raise StoreUnavailable("not now")
        async with self._database.at_once(organization_id) as connection:
            async with connection.transaction():  # what is said for the statement's transaction is said for this one
                yield connection
                self.commits.append(await connection.fetchval("show synchronous_commit"))
            self.after.append(await connection.fetchval("show synchronous_commit"))


async def test_a_failure_keeps_the_rows_and_a_full_queue_makes_readers_wait(
    database: Database, organization: Organization
) -> None:
    failing = Failing(database)
    writer = AuditWriter(failing, capacity=2, batch=1)
    writer.start()
    await writer.read(reader(organization), "read", "first")
    await failing.asked.wait()  # the first row is being written, in vain
    for kind in ("second", "third"):
        await writer.read(reader(organization), "read", kind)
    waiting = asyncio.create_task(writer.read(reader(organization), "read", "fourth"))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    failing.back = True
    await waiting
    await writer.flush()
    assert [row["entity_kind"] for row in await rows(database, organization)] == ["first", "second", "third", "fourth"]
    assert set(failing.commits) == {"off"}, "a read never waits for the disk"
    assert set(failing.after) == {"on"}, "who uses the connection next does"
    await writer.close()


class Doubtful:
    """A database that does what it is asked, and the first time does not get to say so."""

    def __init__(self, database: Database) -> None:
        self._database, self.asked = database, 0

    @asynccontextmanager
    async def at_once(self, organization_id: UUID) -> AsyncIterator[Connection]:
        async with self._database.at_once(organization_id) as connection:
            yield connection
        self.asked += 1
        if self.asked == 1:
            raise StoreAmbiguous("was it done?")


async def test_rows_whose_commit_is_in_doubt_are_there_once(database: Database, organization: Organization) -> None:
    doubtful = Doubtful(database)
    writer = AuditWriter(doubtful)
    for kind in ("first", "second"):
        await writer.read(reader(organization), "read", kind)
    writer.start()
    await writer.close()
    assert doubtful.asked == 2
    assert [row["entity_kind"] for row in await rows(database, organization)] == ["first", "second"]


async def test_a_close_without_a_database_ends(database: Database, organization: Organization) -> None:
    failing = Failing(database)
    writer = AuditWriter(failing)
    writer.start()
    await writer.read(reader(organization), "read", "patient")
    await failing.asked.wait()
    await writer.close(wait_s=0.05)
    assert await rows(database, organization) == []


async def test_a_row_that_is_refused_does_not_hold_up_the_others(
    database: Database, organization: Organization
) -> None:
    nowhere = Organization(uuid4(), "nowhere")
    writer = AuditWriter(database)
    await writer.read(reader(nowhere), "read", "patient")
    await writer.read(reader(organization), "read", "patient")
    writer.start()
    await writer.flush()
    await writer.close()
    assert len(await rows(database, organization)) == 1

"""Notes vouch for nothing and cost nobody anything: they wait, and they are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from interface.errors import StoreUnavailable
from interface.store import notes
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from interface.store.journal import Append, MessageRow
from interface.store.notes import Notes
from tests.cluster import owner_of
from tests.conftest import Organization, make_organization
from tests.store.journals import Owner, make_link, running, until, whole


async def stored(database: Database, organization: Organization, appends: list[Append]) -> list[MessageRow]:
    async with running(database, organization) as journal:
        for append in appends:
            await journal.append(append)
    return [row for append in appends for row in append.messages]


async def replies(owner: Owner, organization: Organization) -> dict[UUID, str]:
    rows = await owner.fetch("select id, reply from lab.message where organization_id = $1", organization.id)
    return {row["id"]: row["reply"] for row in rows}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLUSH_S", "RETRY_S"):
        monkeypatch.setattr(notes, name, 0.001)


async def test_notes_wait_while_links_deliver_but_not_for_ever(
    database: Database, owner: Owner, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_id = await make_link(owner, organization)
    first, second = await stored(database, organization, [whole(link_id, b"1"), whole(link_id, b"2")])
    asked = asyncio.Event()
    delivering = True

    def busy() -> bool:
        asked.set()
        return delivering

    written = Notes(database, organization.id, busy)
    written.start()
    written.replied(first.id, True)
    await asked.wait()
    assert (await replies(owner, organization))[first.id] == "owed"
    delivering = False
    await until(lambda: _has(owner, organization, first.id, "sent"))
    delivering = True
    monkeypatch.setattr(notes, "LONGEST_WAIT_S", 0.01)
    written.replied(second.id, False)
    await until(lambda: _has(owner, organization, second.id, "unsent"))
    await written.stop()


async def _has(owner: Owner, organization: Organization, message_id: UUID, reply: str) -> bool:
    return (await replies(owner, organization))[message_id] == reply


async def test_what_could_not_be_written_is_kept_until_the_database_is_back(
    database: Database, owner: Owner, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_id = await make_link(owner, organization)
    [row] = await stored(database, organization, [whole(link_id, b"1")])
    real, tries = database.transaction, 0

    @asynccontextmanager
    async def away(organization_id: UUID) -> AsyncIterator[Connection]:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise StoreUnavailable("the database is away")
        async with real(organization_id) as connection:
            yield connection

    monkeypatch.setattr(database, "transaction", away)
    written = Notes(database, organization.id, lambda: False)
    written.start()
    written.replied(row.id, True)
    await until(lambda: _has(owner, organization, row.id, "sent"))
    await written.stop()


async def test_an_error_that_nobody_waits_out_ends_no_notes(founded_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would know any more which replies left, nor whose sender went on after them: a control's second point,
    which an analyzer without a clock says in the same bytes, would be a resend until the next start."""
    database, owner = await Database.connect(founded_url), await asyncpg.connect(owner_of(founded_url))
    organization = await make_organization(owner)
    link_id = await make_link(owner, organization)
    [row] = await stored(database, organization, [whole(link_id, b"1")])
    written = Notes(database, organization.id, lambda: False)
    written.start()
    with capture_logs() as said:
        await owner.execute("revoke usage on schema lab from labora_app")
        written.replied(row.id, True)

        async def failed() -> bool:
            return any(one["action"] == "notes.failed" for one in said)

        await until(failed)
        await owner.execute("grant usage on schema lab to labora_app")
    await until(lambda: _has(owner, organization, row.id, "sent"))
    await written.stop()
    await database.close()
    await owner.close()


async def test_memory_for_notes_is_bounded_and_the_newest_are_kept(
    database: Database, owner: Owner, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "REPLIES_KEPT", 3)
    link_id = await make_link(owner, organization)
    rows = await stored(database, organization, [whole(link_id, b"%d" % number) for number in range(5)])
    written = Notes(database, organization.id, lambda: False)
    for row in rows:
        written.replied(row.id, True)
    written.start()
    await written.stop()
    assert list((await replies(owner, organization)).values()).count("sent") == 3


async def test_more_replies_than_one_statement_takes_are_all_written(
    database: Database, owner: Owner, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "REPLIES_AT_ONCE", 2)
    link_id = await make_link(owner, organization)
    rows = await stored(database, organization, [whole(link_id, b"%d" % number) for number in range(5)])
    written = Notes(database, organization.id, lambda: False)
    written.start()
    for row in rows:
        written.replied(row.id, True)
    written.replied(uuid7(), True)  # of a message that is not there: nobody waits for it
    await until(lambda: _all_sent(owner, organization))
    await written.stop()


async def _all_sent(owner: Owner, organization: Organization) -> bool:
    return set((await replies(owner, organization)).values()) == {"sent"}

"""The wire log in the database: written in the background, bounded, pruned by the owner, kept apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from interface.store import wire_log
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.wire_log import LINK_WAITING_BYTES, ROW_BYTES, LinkLog, WireLogWriter, newest_rows, rows_between
from tests.conftest import Organization
from tests.store.journals import make_link, running, whole

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MB = 1 << 20
CONNECTION = UUID(int=7)


def keep(link: LinkLog, events: bytes = b"x", number: int = 0) -> bool:
    at = AT + timedelta(seconds=number)
    return link.keep(CONNECTION, "peer:1", at, at, events)


@asynccontextmanager
async def writing(
    database: Database, organization: Organization, link_id: UUID, bound_bytes: int = 64 * MB
) -> AsyncIterator[tuple[WireLogWriter, LinkLog]]:
    writer = WireLogWriter(database)
    link = writer.of(organization.id, link_id, bound_bytes)
    await writer.start()
    try:
        yield writer, link
    finally:
        await writer.stop()


async def stored(owner: Owner, link_id: UUID) -> list[bytes]:
    rows = await owner.fetch("select events from lab.wire_log where link_id = $1 order by id", link_id)
    return [row["events"] for row in rows]


async def written(link: LinkLog) -> None:
    """Wait until nothing waits; the database has no event for it."""
    async with asyncio.timeout(20):
        while link.waiting_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_is_kept_is_written_in_order_and_read_back(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    async with writing(database, organization, link_id) as (_, link):
        assert all(keep(link, b"%d" % number, number) for number in range(1200))
    assert await stored(owner, link_id) == [b"%d" % number for number in range(1200)]
    assert (link.waiting_bytes, link.stored_bytes) == (0, sum(len(b"%d" % n) + ROW_BYTES for n in range(1200)))
    async with database.organization(organization.id) as connection:
        until = AT + timedelta(seconds=12)
        rows = await rows_between(connection, link_id, CONNECTION, AT + timedelta(seconds=10), until)
        assert [row.events for row in rows] == [b"10", b"11", b"12"]
        assert (rows[0].peer, rows[0].ended_at) == ("peer:1", AT + timedelta(seconds=10))
        assert await rows_between(connection, link_id, uuid7(), AT, until) == []
        newest = await newest_rows(connection, link_id, 3, None, None)
        assert [row.events for row in newest] == [b"1197", b"1198", b"1199"]
        older = await newest_rows(connection, link_id, 2, None, newest[0].id)
        assert [row.events for row in older] == [b"1195", b"1196"]
        assert await newest_rows(connection, link_id, 9, AT + timedelta(days=1), None) == []


async def test_a_database_that_is_away_keeps_nobody_waiting_and_no_memory_grows(
    database: Database, owner: Owner, organization: Organization
) -> None:
    """The table is locked: the log waits, the frames are committed as ever."""
    link_id = await make_link(owner, organization)
    async with writing(database, organization, link_id) as (_, link), running(database, organization) as journal:
        async with owner.transaction():
            await owner.execute("lock table lab.wire_log in access exclusive mode")
            kept = [keep(link, b"x" * 10_000) for _ in range(1000)]
            for number in range(20):
                await asyncio.wait_for(journal.append(whole(link_id, b"%d" % number)), 5)
            assert link.waiting_bytes <= LINK_WAITING_BYTES
            assert kept == [True] * sum(kept) + [False] * (1000 - sum(kept))
            assert 0 < sum(kept) < 110
    assert len(await stored(owner, link_id)) == sum(kept), "what was taken is written when the table is free"


async def test_many_links_share_what_may_wait(database: Database, owner: Owner, organization: Organization) -> None:
    writer = WireLogWriter(database)
    links = [writer.of(organization.id, uuid7(), 64 * MB) for _ in range(100)]
    for link in links:
        while keep(link, b"x" * 50_000):
            pass
    assert writer.waiting_bytes <= wire_log.WAITING_BYTES


async def test_a_row_the_database_does_not_take_is_dropped_and_the_next_is_written(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    writer = WireLogWriter(database)
    unknown, link = writer.of(organization.id, uuid7(), MB), writer.of(organization.id, link_id, MB)
    await writer.start()
    assert keep(unknown, b"of a link that is not there")
    await written(unknown)
    assert keep(link, b"good")
    await writer.stop()
    assert await stored(owner, link_id) == [b"good"]
    assert unknown.stored_bytes == 0


async def test_a_log_that_is_full_takes_nothing_until_it_is_pruned(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    async with writing(database, organization, link_id, 100_000) as (writer, link):
        number = 0
        while keep(link, b"x" * 1000, number):
            number += 1
        assert link.waiting_bytes <= 125_000
        await written(link)
        assert writer.over.is_set()
        assert not keep(link, b"x" * 1000)
        assert await wire_log.prune(owner, lambda _, __: 100_000) > 0
        await writer.measure()
        assert not writer.over.is_set()
        assert 0.8 * 100_000 <= link.stored_bytes <= 100_000
        assert keep(link, b"newest", number)
    left = await owner.fetch("select ended_at from lab.wire_log where link_id = $1 order by ended_at", link_id)
    assert left[0]["ended_at"] > AT, "the oldest went"
    assert left[-1]["ended_at"] == AT + timedelta(seconds=number)


async def test_at_the_start_it_is_known_how_full_a_log_is(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    async with writing(database, organization, link_id) as (_, link):
        assert keep(link, b"x" * 1000)
    async with writing(database, organization, link_id, 500) as (writer, link):
        assert link.stored_bytes == 1000 + ROW_BYTES
        assert writer.over.is_set()
        assert not keep(link)


async def test_a_link_that_is_added_later_is_measured_too_and_one_that_is_changed_keeps_its_log(
    database: Database, owner: Owner, organization: Organization
) -> None:
    first, second = await make_link(owner, organization), await make_link(owner, organization)
    async with writing(database, organization, second) as (_, link):
        assert keep(link, b"x" * 1000)
    async with writing(database, organization, first) as (writer, _):
        added = writer.of(organization.id, second, 64 * MB)
        assert keep(added, b"y" * 10)
        await written(added)
        assert added.stored_bytes == 1010 + 2 * ROW_BYTES
        assert writer.of(organization.id, second, 100) is added
        assert not keep(added)


async def test_pruning_holds_each_link_to_its_own_bound_and_touches_no_frame(
    database: Database, owner: Owner, organization: Organization, other_organization: Organization
) -> None:
    mine, theirs = await make_link(owner, organization), await make_link(owner, other_organization)
    names = {link: await owner.fetchval("select name from lab.link where id = $1", link) for link in (mine, theirs)}
    async with running(database, organization) as journal:
        await journal.append(whole(mine, b"a message"))
    for where, link_id in ((organization, mine), (other_organization, theirs)):
        async with writing(database, where, link_id) as (_, link):
            assert all(keep(link, b"x" * 800, number) for number in range(50))
    bounds = {(organization.name, names[mine]): 10_000, (other_organization.name, names[theirs]): 30_000}
    await wire_log.prune(owner, lambda where, link: bounds.get((where, link), 64 * MB))
    assert len(await stored(owner, mine)) == 9
    assert len(await stored(owner, theirs)) == 27
    frames = "select count(*) from lab.frame f join lab.message m on m.id = f.message_id where m.link_id = $1"
    assert await owner.fetchval(frames, mine) == 1


async def test_stopping_does_not_wait_for_a_database_that_is_away(
    database: Database, owner: Owner, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_log, "LAST_WAIT_S", 0.2)
    link_id = await make_link(owner, organization)
    writer = WireLogWriter(database)
    link = writer.of(organization.id, link_id, MB)
    await writer.start()
    async with owner.transaction():
        await owner.execute("lock table lab.wire_log in access exclusive mode")
        assert keep(link)
        await asyncio.wait_for(writer.stop(), 10)
    assert await stored(owner, link_id) == []

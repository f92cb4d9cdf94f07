"""Who is told of work without asking is what the configuration says, also when it is read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from interface.daemon import started
from interface.driver import registry
from interface.flow.context import register
from interface.links import Links
from interface.settings import (
    Address,
    LinkSettings,
    Settings,
    StandbySettings,
    Transport,
    TransportType,
)
from interface.store import leases
from interface.store.ids import uuid7
from interface.store.leases import DaemonRow
from interface.store.worklists import set_worklists
from tests.e2e.daemon import eventually, settings
from tests.flow.laboratory import Laboratory, laboratory

WAITS = """select true from pg_locks l join pg_database d on d.oid = l.database
            where l.locktype = 'advisory' and not l.granted and d.datname = current_database() limit 1"""
LISTEN = Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0))


@pytest.fixture
async def lab(founded_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(founded_url) as made:
        yield made


async def test_download_is_switched_on_and_off_by_the_configuration(lab: Laboratory, tmp_path: Path) -> None:
    name = await lab.owner.fetchval("select name from lab.organization where id = $1", lab.organization_id)
    told = LinkSettings("told", name, "generic_lis2", LISTEN, download=True)
    asks = replace(told, id="asks", download=False)
    two = (  # links of one analyzer: one of them says it
        replace(told, id="in", analyzer="two", download=False), replace(told, id="out", analyzer="two"),
    )  # fmt: skip
    of = Settings(tmp_path)
    links = Links(lab.database, of)
    await lab.order("S-1", "GLU")

    async def due(*configured: LinkSettings) -> list[str]:
        await links.prepare(replace(of, links=configured))
        await links.set_worklists()
        rows = await lab.owner.fetch(
            "select a.name from lab.work_due w join lab.analyzer a on a.id = w.analyzer_id order by a.name"
        )
        flags = await lab.owner.fetch("select name from lab.analyzer where worklist order by name")
        assert [row["name"] for row in rows] == [row["name"] for row in flags]
        return [row["name"] for row in rows]

    try:
        assert await due(told, asks, *two) == ["told", "two"]
        assert await due(replace(told, download=False), asks, *two) == ["two"]
        assert await due(told, asks) == ["told"]  # the other is not there any more
        assert await due(asks) == []
        assert await due(told) == ["told"]
    finally:
        await links.close()


async def test_a_daemon_that_starts_leaves_alone_whom_another_tells_of_their_work(
    lab: Laboratory, founded_url: str, tmp_path: Path
) -> None:
    """Each has links that are in its own configuration alone, if only until the other's is changed too.
    The other's analyzers were told of no order any more, without a word, until it was started anew."""
    name = await lab.owner.fetchval("select name from lab.organization where id = $1", lab.organization_id)
    told = {one: LinkSettings(one, name, "generic_lis2", LISTEN, download=True) for one in ("mine", "theirs", "late")}
    first, second = (
        replace(settings(tmp_path / each, founded_url), standby=StandbySettings(True, each, 60.0), links=(told[each],))
        for each in ("mine", "theirs")
    )
    await lab.order("S-1", "GLU")

    async def due() -> list[str]:
        rows = await lab.owner.fetch(
            "select a.name from lab.work_due w join lab.analyzer a on a.id = w.analyzer_id order by a.name"
        )
        return [row["name"] for row in rows]

    async with started(first):
        async with started(second) as other:
            assert await due() == ["mine", "theirs"]
            assert len(other.links) == 1
        assert await due() == ["mine", "theirs"]
    async with started(replace(first, links=(told["late"],))):
        assert await due() == ["late"], "of those whom nobody tells any more nothing is due"


async def test_an_analyzer_is_told_by_one_daemon_whose_results_another_takes(
    lab: Laboratory, founded_url: str, tmp_path: Path
) -> None:
    """Each link in the configuration of its machine alone. The one that only takes came first, or came again while the
    other was away: the analyzer was told of no order any more, without a word, however often the other was started."""
    name = await lab.owner.fetchval("select name from lab.organization where id = $1", lab.organization_id)
    takes = LinkSettings("in", name, "generic_lis2", LISTEN, analyzer="one")
    tells = replace(takes, id="out", download=True)
    first, second = (
        replace(settings(tmp_path / one.id, founded_url), standby=StandbySettings(True, one.id, 60.0), links=(one,))
        for one in (takes, tells)
    )
    await lab.order("S-1", "GLU")

    async def due() -> int:
        return int(await lab.owner.fetchval("select count(*) from lab.work_due"))

    async with started(first):
        assert await due() == 0
        async with started(second):
            assert await due() == 1
    async with started(second):
        async with started(first):
            assert await due() == 1


async def test_of_two_that_start_at_once_neither_silences_the_other(lab: Laboratory, tmp_path: Path) -> None:
    """Whom the other tells was asked before the lock for which it waits: what was said of them meanwhile was undone."""
    name = await lab.owner.fetchval("select name from lab.organization where id = $1", lab.organization_id)
    mine = LinkSettings("mine", name, "generic_lis2", LISTEN, download=True)
    links, other = Links(lab.database, Settings(tmp_path)), DaemonRow(uuid7(), "theirs", "", ("links",), "", "", 60.0)
    await lab.order("S-1", "GLU")
    try:
        await links.prepare(replace(Settings(tmp_path), links=(mine,)))
        async with lab.database.transaction(lab.organization_id) as connection:
            theirs = await register(
                connection, lab.organization_id, replace(mine, id="theirs"), registry.load("generic_lis2")
            )
        async with lab.database.transaction(lab.organization_id) as connection:  # which has the lock
            await set_worklists(connection, lab.organization_id, {theirs.analyzer_id})
            starting = asyncio.create_task(links.set_worklists())
            await eventually(lambda: lab.owner.fetchval(WAITS))
            await leases.register(connection, other)
            await leases.take(connection, other.id, lab.organization_id, [theirs.link_id], False)
        await starting
    finally:
        await links.close()
    rows = await lab.owner.fetch("select a.name from lab.work_due w join lab.analyzer a on a.id = w.analyzer_id")
    assert sorted(row["name"] for row in rows) == ["mine", "theirs"]

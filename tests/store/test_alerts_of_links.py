"""Alerts about links of one laboratory that several daemons serve: each daemon tells of its own, and of no other's."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from interface.beside import heard_of
from interface.domain.alerts import AlertKind
from interface.flow.link_watch import START_LOOKS, LinkUp, LinkWatch
from interface.links import Links
from interface.settings import Address, LinkSettings, Settings, Transport, TransportType
from interface.store import alerts
from interface.store.db import Database
from tests.conftest import Organization
from tests.store.journals import make_link
from tests.store.test_leases import Daemons, Owner, administrator, daemons, database_of, laboratory

__all__ = ["administrator", "daemons", "laboratory"]


@pytest.fixture
async def links(administrator: Owner, laboratory: Organization) -> dict[str, UUID]:
    """Two, by their names."""
    ids = [await make_link(administrator, laboratory) for _ in range(2)]
    return {f"link-{id}": id for id in ids}


async def look(watch: LinkWatch, times: int = 1) -> None:
    for _ in range(times):
        await watch.look()


async def test_a_link_that_is_down_at_one_daemon_is_not_over_for_what_another_sees(
    daemons: Daemons, administrator: Owner, laboratory: Organization, links: dict[str, UUID]
) -> None:
    (here, here_id), (there, there_id) = links.items()
    a, b = await daemons.join("a"), await daemons.join("b")
    await a.take([(laboratory.id, [here_id], True)])
    await b.take([(laboratory.id, [there_id], True)])
    async with database_of(a, daemons.url) as of_a, database_of(b, daemons.url) as of_b:
        seen = {one: LinkUp(laboratory.id, one, up=True) for one in links}
        watch_b = LinkWatch(of_b, lambda: [seen[there]])
        watch_a = LinkWatch(of_a, lambda: [seen[one] for one in links if one == here or taken])
        taken = False

        async def stands(database: Database = of_a) -> list[str]:
            async with database.organization(laboratory.id) as connection:
                return sorted(one.name for one in await alerts.standing(connection, AlertKind.LINK_DOWN))

        await look(watch_b, START_LOOKS + 1)
        seen[there] = LinkUp(laboratory.id, there, up=False, fault="the port is gone")
        await look(watch_b)
        assert await stands() == [there]
        await look(watch_a)  # its first look, and one at which something of its own has changed
        seen[here] = LinkUp(laboratory.id, here, up=False)
        await look(watch_a, START_LOOKS)
        assert await stands() == sorted(links)
        seen[here] = LinkUp(laboratory.id, here, up=True)
        await look(watch_a)
        assert await stands() == [there], "the other's link is still down"

        await b.leave()  # and its link is taken over, and is well
        await a.take([(laboratory.id, [there_id], True)])
        taken, seen[there] = True, LinkUp(laboratory.id, there, up=True)
        await look(watch_a)
        assert await stands() == []


async def test_the_silence_of_a_link_is_seen_where_messages_are_decided_whoever_serves_it(
    daemons: Daemons, laboratory: Organization, tmp_path: Path
) -> None:
    """As in a process of `--role workers`, which serves none."""
    listen = Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0))
    hours = ("mon-fri 07:00-15:30",)
    link = LinkSettings("hema-1", laboratory.name, "generic_lis2", listen, silent_after_s=3600.0, working_hours=hours)
    settings, since = Settings(tmp_path, links=(link,)), datetime.now(UTC)
    database = Database(daemons.url)
    try:
        links = Links(database, settings, journaling=False)
        await links.prepare(settings)
        (one,) = heard_of(links, since)[laboratory.id]
        assert (one.name, one.silent_after_s, one.working_hours, one.heard_at, one.since) == (
            "hema-1", 3600.0, hours, None, since,
        )  # fmt: skip
        await links.close()
    finally:
        await database.close()

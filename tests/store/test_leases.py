"""Leases: who has what, who ends whom, and that an ended daemon stores nothing more. On a real database, with time
that the test makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from interface.errors import LeaseLost, StoreError
from interface.flow.results import ResultWorker
from interface.settings import LimitSettings
from interface.store import leases, place, results
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.journal import Append, FrameRow, Journal, MessageRow, new_message_id
from interface.store.leases import DaemonRow
from interface.store.membership import FREE, Membership
from interface.store.schema import APP_ROLE, OWNER_ROLE
from tests.cluster import owner_of
from tests.conftest import Organization, make_organization
from tests.store.journals import AT, block_of, make_link, until, whole

LEASE_S = 6.0
Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Daemons:
    """Daemons of one database, and their time."""

    def __init__(self, url: str) -> None:
        self.url, self.time = url, Time()
        self.made: list[Membership] = []

    async def join(self, name: str, where: str = "") -> Membership:
        row = DaemonRow(uuid7(), name, where, ("links", "workers", "api"), "1", "", LEASE_S)
        member = Membership(self.url, row, self.time)
        await member.join()
        self.made.append(member)
        return member

    async def pass_s(self, seconds: int, *beating: Membership) -> None:
        """So many seconds, in which these beat and look."""
        for _ in range(seconds):
            self.time.now += 1.0
            for one in beating:
                await one.tick()


@pytest.fixture
async def daemons(founded_url: str) -> AsyncIterator[Daemons]:
    made = Daemons(founded_url)
    yield made
    for one in made.made:
        await one.leave()


@pytest.fixture
async def administrator(founded_url: str) -> AsyncIterator[Owner]:
    connection = await asyncpg.connect(owner_of(founded_url))
    yield connection
    await connection.close()


@pytest.fixture
async def laboratory(administrator: Owner) -> Organization:
    return await make_organization(administrator)


@pytest.fixture
async def link_id(administrator: Owner, laboratory: Organization) -> UUID:
    return await make_link(administrator, laboratory)


@asynccontextmanager
async def database_of(member: Membership, url: str) -> AsyncIterator[Database]:
    database = Database(url, daemon_id=member.id)
    try:
        yield database
    finally:
        await database.close()


async def sessions_of(administrator: Owner, member: Membership) -> int:
    number: int = await administrator.fetchval(
        "select count(*) from pg_stat_activity where application_name = 'labora ' || $1::text", str(member.id)
    )
    return number


async def test_beats_and_bells_go_on_after_an_error_that_nobody_waits_out(
    daemons: Daemons, administrator: Owner
) -> None:
    """A page is damaged, a grant was taken away: who beats no more is dead to others, and takes itself for it."""
    one = await daemons.join("a")
    heard, count = asyncio.Event(), "select beat from lab.daemon where id = $1"
    one.hear(lambda bell: heard.set() if bell == "now" else None)
    one.pause_s = 0.01
    await administrator.execute("revoke usage on schema lab from labora_app")
    beating = asyncio.create_task(one.run())
    try:
        async with asyncio.timeout(10.0):
            while one._heard_of:
                assert not beating.done(), beating.exception()
                await asyncio.sleep(0.01)
        await administrator.execute("grant usage on schema lab to labora_app")
        before = await administrator.fetchval(count, one.id)
        one.ring("now")
        async with asyncio.timeout(10.0):
            await heard.wait()
            while await administrator.fetchval(count, one.id) <= before:
                assert not beating.done(), beating.exception()
                await asyncio.sleep(0.01)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def test_what_one_has_no_other_takes_until_it_is_dead(
    daemons: Daemons, administrator: Owner, laboratory: Organization, link_id: UUID
) -> None:
    first, second = await daemons.join("a"), await daemons.join("b")
    wanted = [(laboratory.id, [link_id], True)]
    assert await first.take(wanted) == {link_id: 1, laboratory.id: 1}
    await daemons.pass_s(60, first, second)
    assert await second.take(wanted) == {}

    await daemons.pass_s(5, second)
    assert await second.take(wanted) == {}, "it may be slow"
    assert not first.lost.is_set()
    await daemons.pass_s(1, second)
    assert await sessions_of(administrator, first) == 0, "nothing of it is under way any more"
    assert await second.take(wanted) == {link_id: 2, laboratory.id: 2}
    async with database_of(second, daemons.url) as database, database.organization(laboratory.id) as connection:
        assert [(one.daemon, one.epoch) for one in await leases.owners(connection)] == [("b", 2), ("b", 2)]

    assert not first.valid, "by its own clock it knew"
    await first.tick()  # it wakes up
    assert first.lost.is_set()
    assert not await first.vouched()
    with pytest.raises(LeaseLost):
        await first.take(wanted)


async def test_who_is_killed_is_waited_for_half_as_long(
    daemons: Daemons, laboratory: Organization, link_id: UUID
) -> None:
    first, second = await daemons.join("a"), await daemons.join("b")
    wanted = [(laboratory.id, [link_id], False)]
    await first.take(wanted)
    await daemons.pass_s(1, second)
    first._hang_up()  # as the kernel does for a process that ends
    await until(lambda: _no_session(second))
    await daemons.pass_s(3, second)
    assert await second.take(wanted) == {link_id: 2}


async def _no_session(member: Membership) -> bool:
    await member.tick()
    return not any(one.session for one in member.others)


async def test_what_is_given_back_is_told_and_free_at_once(
    daemons: Daemons, laboratory: Organization, link_id: UUID
) -> None:
    first, second = await daemons.join("a"), await daemons.join("b")
    wanted = [(laboratory.id, [link_id], True)]
    await first.take(wanted)
    heard = asyncio.Event()
    second.hear(lambda bell: heard.set() if bell == FREE else None)
    await first.give_back(laboratory.id, [link_id])
    async with asyncio.timeout(10):
        await heard.wait()
    assert await second.take(wanted) == {link_id: 2}
    heard.clear()
    await first.leave()
    async with asyncio.timeout(10):
        await heard.wait()
    assert await second.take(wanted) == {laboratory.id: 2}


async def test_two_that_take_at_the_same_moment_do_not_share(
    daemons: Daemons, administrator: Owner, laboratory: Organization
) -> None:
    links = [await make_link(administrator, laboratory) for _ in range(5)]
    both = [await daemons.join("a"), await daemons.join("b")]
    taken = await asyncio.gather(*(one.take([(laboratory.id, links, True)]) for one in both))
    assert sorted(len(one) for one in taken) == [0, 6]


async def test_a_former_life_at_the_same_place_is_not_waited_for(
    daemons: Daemons, laboratory: Organization, link_id: UUID, tmp_path: Path
) -> None:
    with place.held(tmp_path) as here, place.held(tmp_path) as meanwhile:
        assert here, "a kernel that says which boot it is"
        assert not meanwhile, "another process has it: nothing is proved"
    first = await daemons.join("a", here)
    await first.take([(laboratory.id, [link_id], False)])
    elsewhere = await daemons.join("b", "another place")
    assert await elsewhere.take([(laboratory.id, [link_id], False)]) == {}
    with place.held(tmp_path) as again:
        assert again == here
    second = await daemons.join("a", here)
    assert await second.take([(laboratory.id, [link_id], False)]) == {link_id: 2}
    await first.tick()
    assert first.lost.is_set()


async def _gone(administrator: Owner, member: Membership) -> bool:
    return await sessions_of(administrator, member) == 0


async def test_a_life_before_another_boot_is_not_waited_for_where_it_has_no_connection(
    daemons: Daemons, administrator: Owner, laboratory: Organization, link_id: UUID, tmp_path: Path
) -> None:
    wanted = [(laboratory.id, [link_id], False)]
    with place.held(tmp_path) as here:
        machine = place.machine_of(here)
    assert machine
    first = await daemons.join("a", f"{machine}.the boot before")
    await first.take(wanted)
    copy = await daemons.join("a", here)
    assert await copy.take(wanted) == {}, "its original is connected: nothing is proved"
    await copy.leave()
    first._hang_up()  # the power is cut
    await until(lambda: _gone(administrator, first))
    elsewhere = await daemons.join("b", "another machine.another boot")
    assert await elsewhere.take(wanted) == {}
    second = await daemons.join("a", here)
    assert await second.take(wanted) == {link_id: 2}
    await first.tick()
    assert first.lost.is_set()


async def test_without_the_machines_name_a_life_before_another_boot_is_waited_for(
    daemons: Daemons, administrator: Owner, laboratory: Organization, link_id: UUID
) -> None:
    first = await daemons.join("a", ".the boot before")
    await first.take([(laboratory.id, [link_id], False)])
    first._hang_up()
    await until(lambda: _gone(administrator, first))
    second = await daemons.join("a", ".this boot")
    assert await second.take([(laboratory.id, [link_id], False)]) == {}


# ---- fencing --------------------------------------------------------------------------------------------------------


def frame_of(link_id: UUID) -> Append:
    message_id = new_message_id()
    return Append((), (FrameRow(message_id, 1, 0, 2, b"more", AT),))


def opening(link_id: UUID) -> Append:
    row = MessageRow(new_message_id(), link_id, "lis2", "receiving", received_at=AT)
    return Append((row,), (FrameRow(row.id, 0, 0, 1, b"begin", AT),))


@pytest.mark.parametrize("made", [whole, lambda link_id, _: opening(link_id), lambda link_id, _: frame_of(link_id)])
async def test_an_ended_daemon_appends_nothing(
    daemons: Daemons, administrator: Owner, laboratory: Organization, link_id: UUID,
    made: Callable[[UUID, bytes], Append],
) -> None:  # fmt: skip
    member = await daemons.join("a")
    await member.take([(laboratory.id, [link_id], True)])
    async with database_of(member, daemons.url) as database:
        journal = Journal(
            database, laboratory.id, resend_window_s=3600, commit_wait_s=14.0, wake=lambda: None, vouched=member.vouched
        )
        await journal.start()
        append = made(link_id, b"one")
        await (journal.append_block(block) if (block := block_of(append)) else journal.append(append))
        count = "select (select count(*) from lab.frame) + (select count(*) from lab.message)"
        stored = await administrator.fetchval(count)
        assert stored
        # No connection is cut: what was sent before the end must be refused all the same.
        await administrator.execute("update lab.daemon set ended_at = now() where id = $1", member.id)
        began = asyncio.get_running_loop().time()
        append = made(link_id, b"two")
        with pytest.raises(LeaseLost):
            await (journal.append_block(block) if (block := block_of(append)) else journal.append(append))
        assert asyncio.get_running_loop().time() - began < 10, "nobody waits for a database that has answered"
        assert await administrator.fetchval(count) == stored
        await journal.stop()


async def test_what_is_committed_while_nobody_knows_whose_the_links_are_is_not_acknowledged(
    daemons: Daemons, administrator: Owner, laboratory: Organization, link_id: UUID
) -> None:
    """A process that was stopped finds the commit of a second ago; another may have taken the links meanwhile."""
    member = await daemons.join("a")
    await member.take([(laboratory.id, [link_id], True)])
    async with database_of(member, daemons.url) as database:
        journal = Journal(
            database, laboratory.id, resend_window_s=3600, commit_wait_s=14.0, wake=lambda: None, vouched=member.vouched
        )
        await journal.start()
        daemons.time.now += LEASE_S + 1
        await journal.append(whole(link_id, b"one"))  # it asks, and is told that nobody has
        assert member.valid
        daemons.time.now += LEASE_S + 1
        journal._write = _committed(administrator, member)  # type: ignore[method-assign,assignment]
        with pytest.raises(LeaseLost):
            await journal.append(whole(link_id, b"two"))
        await journal.stop()


def _committed(administrator: Owner, member: Membership) -> Callable[..., object]:
    async def write(*_: object) -> tuple[frozenset[UUID], bool]:
        """It was committed, and then the daemon was ended."""
        await administrator.execute("update lab.daemon set ended_at = now() where id = $1", member.id)
        return frozenset(), True

    return write


async def test_an_ended_daemon_decides_nothing(
    daemons: Daemons, administrator: Owner, laboratory: Organization, link_id: UUID
) -> None:
    member = await daemons.join("a")
    async with database_of(member, daemons.url) as database:
        journal = Journal(database, laboratory.id, resend_window_s=3600, commit_wait_s=14.0, wake=lambda: None)
        await journal.start()
        await journal.append(whole(link_id, b"one"))
        async with database.system() as system:
            [claim] = await results.claim(system, 10)
            await administrator.execute("update lab.daemon set ended_at = now() where id = $1", member.id)
            queue = "select attempts, not_before from lab.queue"
            before = await administrator.fetch(queue)
            with pytest.raises(LeaseLost):
                await ResultWorker(database, lambda _: None, LimitSettings()).work()
            outcome = results.Outcome(claim.message_id, "released", link_id, "link")
            with pytest.raises(LeaseLost):
                async with database.transaction(laboratory.id) as connection:
                    await results.commit(connection, laboratory.id, [outcome])
        with pytest.raises(LeaseLost):
            async with database.system() as system:
                await results.give_back(system, [claim.message_id], refund=1)
        assert await administrator.fetch(queue) == before
        assert await administrator.fetchval("select settled from lab.message") is None
        await journal.stop()


async def test_a_start_seals_what_nobody_receives_and_leaves_alone_what_another_does(
    daemons: Daemons, administrator: Owner, laboratory: Organization, link_id: UUID
) -> None:
    orphan = await make_link(administrator, laboratory)
    first, second = await daemons.join("a"), await daemons.join("b")
    await first.take([(laboratory.id, [link_id], False)])

    async def states() -> list[str]:
        rows = await administrator.fetch("select state from lab.message order by link_id = $1 desc", link_id)
        return [row["state"] for row in rows]

    async with database_of(first, daemons.url) as database, database_of(second, daemons.url) as other:
        receiving = Journal(database, laboratory.id, resend_window_s=3600, commit_wait_s=14.0, wake=lambda: None)
        await receiving.start()
        await receiving.append(opening(link_id))
        await receiving.append(opening(orphan))
        standing_by = Journal(other, laboratory.id, resend_window_s=3600, commit_wait_s=14.0, wake=lambda: None)
        await standing_by.start()
        assert await states() == ["receiving", "incomplete"]
        await daemons.pass_s(7, second)
        assert await second.take([(laboratory.id, [link_id], False)]) == {link_id: 2}
        await standing_by.recover([link_id])
        assert await states() == ["incomplete", "incomplete"]
        await receiving.stop()
        await standing_by.stop()


async def test_a_command_is_no_daemon_and_is_not_refused(
    founded_url: str, link_id: UUID, laboratory: Organization
) -> None:
    database = Database(founded_url)
    journal = Journal(database, laboratory.id, resend_window_s=3600, commit_wait_s=14.0, wake=lambda: None)
    await journal.start()
    await journal.append(whole(link_id, b"one"))
    await journal.stop()
    await database.close()


async def test_a_daemon_that_nobody_knows_is_refused(founded_url: str, link_id: UUID, laboratory: Organization) -> None:
    """Its row is not there, as after a restore of an older database."""
    database = Database(founded_url, daemon_id=uuid7())
    journal = Journal(database, laboratory.id, resend_window_s=3600, commit_wait_s=14.0, wake=lambda: None)
    await journal.start()
    with pytest.raises(LeaseLost):
        await journal.append(whole(link_id, b"one"))
    await journal.stop()
    await database.close()


async def test_after_an_outage_of_the_database_everybody_has_what_he_had(state_dir: Path) -> None:
    """For a minute, ten leases long, nobody beats and nobody can look; then each comes back in his own time."""
    server = EmbeddedPostgres(state_dir)
    await server.start()
    owner = await asyncpg.connect(server.url(OWNER_ROLE))
    daemons = Daemons(server.url(APP_ROLE))
    try:
        laboratory = await make_organization(owner)
        link_id = await make_link(owner, laboratory)
        await owner.close()
        first, second = await daemons.join("a"), await daemons.join("b")
        wanted = [(laboratory.id, [link_id], True)]
        await first.take(wanted)
        await daemons.pass_s(2, first, second)
        await server.stop()
        for _ in range(60):
            for one in (first, second):
                with pytest.raises(StoreError):
                    await daemons.pass_s(1, one)
        assert not first.valid, "it does not know"
        await server.start()
        await daemons.pass_s(2, second)  # who stands by is the first to be back
        await daemons.pass_s(1, first)
        await daemons.pass_s(60, first, second)
        assert first.valid and not first.lost.is_set()
        assert await second.take(wanted) == {}
        await second.leave()
        await first.leave()
    finally:
        await server.stop()

"""The journal's promises: committed before it returns, once, and only the culprit refused (DESIGN §1.1, §1.2)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from interface.errors import StoreError
from interface.store import journal_sql
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.journal import (
    GROUP_ENTRIES,
    PROBE_S,
    SECOND_ENTRIES,
    Append,
    FrameRow,
    Journal,
    MessageRow,
    frame_id,
    new_message_id,
)
from interface.store.stored_messages import read_message
from tests.cluster import owner_of
from tests.conftest import Organization, make_organization
from tests.store.journals import (
    AT,
    Owner,
    append_blocks_as_such,
    hanging,
    in_flight,
    is_answered,
    is_available,
    is_sealed,
    make_link,
    running,
    until,
    whole,
)


@pytest.fixture(autouse=True, params=["its own statement", "the general statement"])
def statement(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of blocks has a statement of its own; everything must be the same by the general one."""
    if request.param == "its own statement":
        monkeypatch.setattr(Journal, "append", append_blocks_as_such)


async def test_what_is_appended_is_there_when_append_returns(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    async with running(database, organization) as journal:
        append = whole(link_id, b"MSH|\x00\xff")
        assert await journal.append(append) == frozenset()
        async with database.organization(organization.id) as connection:
            stored = await read_message(connection, append.messages[0].id)
        assert stored is not None
        assert [frame.bytes for frame in stored.frames] == [b"MSH|\x00\xff"]
        assert (stored.state, stored.settled, stored.reply) == ("complete", None, "owed")
        queued = await owner.fetchval("select lane from lab.queue where message_id = $1", stored.id)
        assert queued == link_id


async def test_a_message_of_frames_is_one_message_in_order_and_its_last_attempt_counts(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    opened = MessageRow(new_message_id(), link_id, "lis2", "receiving", received_at=AT)
    async with running(database, organization) as journal:
        await journal.append(Append((opened,), (FrameRow(opened.id, 0, 0, 1, b"one", AT),)))
        assert await owner.fetchval("select count(*) from lab.queue where message_id = $1", opened.id) == 0
        await journal.append(Append((), (FrameRow(opened.id, 1, 0, 2, b"doubtful", AT),)))
        sealed = opened._replace(state="complete", sealed_at=AT, digest=b"d" * 32, control_id="C1", bytes=6)
        await journal.append(Append((sealed,), (FrameRow(opened.id, 1, 1, 2, b"two", AT),)))
        async with database.organization(organization.id) as connection:
            stored = await read_message(connection, opened.id)
    assert stored is not None
    assert [frame.bytes for frame in stored.frames] == [b"one", b"two"]
    assert (stored.state, stored.control_id) == ("complete", "C1")
    assert await owner.fetchval("select count(*) from lab.queue where message_id = $1", opened.id) == 1


async def test_repeating_an_append_whose_commit_was_in_doubt_changes_nothing(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    append = whole(link_id, b"again")
    async with running(database, organization) as journal:
        assert await journal.append(append) == frozenset()
        assert await journal.append(append) == frozenset(), "the same ids are the same message, not a resend"
    assert await owner.fetchval("select count(*) from lab.message where organization_id = $1", organization.id) == 1
    assert await owner.fetchval("select count(*) from lab.frame where organization_id = $1", organization.id) == 1


async def test_a_resend_is_stored_as_a_duplicate_and_not_queued(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id, other_link = await make_link(owner, organization), await make_link(owner, organization)
    first, second, third = whole(link_id, b"same"), whole(link_id, b"same"), whole(link_id, b"same")
    elsewhere = whole(other_link, b"same")
    async with running(database, organization) as journal:
        answers = await asyncio.gather(*(journal.append(one) for one in (first, second, elsewhere)))
        assert answers == [frozenset(), {second.messages[0].id}, frozenset()]
        assert await journal.append(third) == {third.messages[0].id}
    rows = await owner.fetch(
        "select id, settled, duplicate_of from lab.message where organization_id = $1 and settled is not null",
        organization.id,
    )
    original = first.messages[0].id
    assert {(row["id"], row["settled"], row["duplicate_of"]) for row in rows} == {
        (second.messages[0].id, "duplicate", original),
        (third.messages[0].id, "duplicate", original),
    }
    queued = await owner.fetchval("select count(*) from lab.queue where organization_id = $1", organization.id)
    assert queued == 2


@pytest.mark.parametrize("later_s", [3601, -3601])  # the clock was put back: else it would be a resend until then
async def test_the_same_bytes_after_the_resend_window_are_a_message_of_their_own(
    database: Database, owner: Owner, organization: Organization, later_s: int
) -> None:
    link_id = await make_link(owner, organization)
    early, late = whole(link_id, b"same"), whole(link_id, b"same")
    late = late._replace(messages=(late.messages[0]._replace(sealed_at=AT + timedelta(seconds=later_s)),))
    async with running(database, organization) as journal:
        await journal.append(early)
        assert await journal.append(late) == frozenset()


async def test_after_the_resend_window_the_later_message_is_the_one_that_is_resent(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    early, late, again = whole(link_id, b"same"), whole(link_id, b"same"), whole(link_id, b"same")
    late = late._replace(messages=(late.messages[0]._replace(sealed_at=AT + timedelta(seconds=3601)),))
    again = again._replace(messages=(again.messages[0]._replace(sealed_at=AT + timedelta(seconds=7000)),))
    async with running(database, organization) as journal:
        assert await journal.append(early) == frozenset()
        assert await journal.append(late) == frozenset()
        assert await journal.append(late) == frozenset(), "its commit was in doubt"
        assert await journal.append(again) == {again.messages[0].id}
    twin = await owner.fetchval("select duplicate_of from lab.message where id = $1", again.messages[0].id)
    assert twin == late.messages[0].id


async def test_repeating_an_append_puts_nothing_into_the_queue_that_has_been_decided(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    append = whole(link_id, b"decided meanwhile")
    async with running(database, organization) as journal:
        await journal.append(append)
        await owner.execute("delete from lab.queue where message_id = $1", append.messages[0].id)
        await owner.execute("update lab.message set settled = 'released' where id = $1", append.messages[0].id)
        await journal.append(append)
    assert await owner.fetchval("select count(*) from lab.queue where message_id = $1", append.messages[0].id) == 0
    settled = await owner.fetchval("select settled from lab.message where id = $1", append.messages[0].id)
    assert settled == "released"


async def test_repeating_the_append_of_a_resend_leaves_it_one(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    first, again = whole(link_id, b"same"), whole(link_id, b"same")
    async with running(database, organization) as journal:
        for append in (first, again, again, first):
            await journal.append(append)
    rows = await owner.fetch("select settled from lab.message where organization_id = $1 order by id", organization.id)
    assert [row["settled"] for row in rows] == [None, "duplicate"]
    assert await owner.fetchval("select count(*) from lab.queue where organization_id = $1", organization.id) == 1


async def test_a_group_of_frames_only_is_stored_once_however_often_it_is_repeated(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    opened = [MessageRow(new_message_id(), link_id, "lis2", "receiving", received_at=AT) for _ in range(3)]
    frames = [Append((), (FrameRow(row.id, 1, 0, 2, b"two", AT, 1, 3),)) for row in opened]
    async with running(database, organization) as journal:
        for row in opened:
            await journal.append(Append((row,), (FrameRow(row.id, 0, 0, 1, b"one", AT),)))
        for _ in range(2):
            assert await asyncio.gather(*map(journal.append, frames)) == [frozenset()] * 3
        async with database.organization(organization.id) as connection:
            stored = [await read_message(connection, row.id) for row in opened]
    assert [[(one.bytes, one.start) for one in each.frames] for each in stored if each] == [
        [(b"one", None), (b"two", 1)]
    ] * 3


async def test_a_poisoned_frame_among_frames_only_refuses_only_its_own_link(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    opened = [MessageRow(new_message_id(), link_id, "lis2", "receiving", received_at=AT) for _ in range(3)]
    frames = [Append((), (FrameRow(row.id, 1, 0, 2, b"two", AT),)) for row in opened]
    frames[1] = Append((), (frames[1].frames[0]._replace(fn=1 << 20),))
    async with running(database, organization) as journal:
        for row in opened:
            await journal.append(Append((row,), (FrameRow(row.id, 0, 0, 1, b"one", AT),)))
        answers = await asyncio.gather(*map(journal.append, frames), return_exceptions=True)
    assert answers[0] == answers[2] == frozenset()
    assert isinstance(answers[1], StoreError)
    stored = await owner.fetch("select message_id from lab.frame where organization_id = $1 and ordinal = 1",
                               organization.id)  # fmt: skip
    assert {row["message_id"] for row in stored} == {opened[0].id, opened[2].id}


async def test_opening_going_on_and_sealing_share_a_group(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    one, two, three = (MessageRow(new_message_id(), link_id, "lis2", "receiving", received_at=AT) for _ in range(3))
    sealed = one._replace(state="complete", sealed_at=AT, digest=b"d" * 32, control_id="C1")
    async with running(database, organization) as journal:
        for row in (one, two):
            await journal.append(Append((row,), (FrameRow(row.id, 0, 0, 1, b"first", AT),)))
        await asyncio.gather(
            journal.append(Append((sealed,), (FrameRow(one.id, 1, 0, 2, b"last", AT),))),
            journal.append(Append((), (FrameRow(two.id, 1, 0, 2, b"middle", AT),))),
            journal.append(Append((three,), (FrameRow(three.id, 0, 0, 1, b"first", AT),))),
            journal.append(whole(link_id, b"a block of HL7")),
        )
    rows = await owner.fetch(
        "select state, control_id, (select count(*) from lab.frame f where f.message_id = m.id) as frames"
        " from lab.message m where organization_id = $1 order by id", organization.id,
    )  # fmt: skip
    assert [tuple(row) for row in rows] == [
        ("complete", "C1", 2), ("receiving", "", 2), ("receiving", "", 1), ("complete", "1", 1)
    ]  # fmt: skip
    assert await owner.fetchval("select count(*) from lab.queue where organization_id = $1", organization.id) == 2


async def test_a_second_group_is_committed_while_the_first_is(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    stuck = whole(link_id, b"stuck")
    others = [whole(await make_link(owner, organization), b"%d" % number) for number in range(SECOND_ENTRIES)]
    async with running(database, organization) as journal:
        async with hanging(owner, organization, stuck):
            first = asyncio.create_task(journal.append(stuck))
            await until(lambda: in_flight(owner))
            assert await asyncio.gather(*map(journal.append, others)) == [frozenset()] * SECOND_ENTRIES
            assert not first.done()
        assert await first == frozenset()
        assert await journal.append(whole(link_id, b"and on")) == frozenset()


async def test_a_link_is_taken_over_while_others_are_being_committed(
    database: Database, owner: Owner, organization: Organization
) -> None:
    """As when SIGHUP adds a link: what commits for the others is neither in the way nor cut."""
    link_id, taken = await make_link(owner, organization), await make_link(owner, organization)
    opened = MessageRow(new_message_id(), taken, "lis2", "receiving", received_at=AT)
    stuck = whole(link_id, b"stuck")
    async with running(database, organization) as journal:
        await journal.append(Append((opened,), (FrameRow(opened.id, 0, 0, 1, b"one", AT),)))
        async with hanging(owner, organization, stuck):
            first = asyncio.create_task(journal.append(stuck))
            await until(lambda: in_flight(owner))
            await journal.recover([taken])
            assert await owner.fetchval("select state from lab.message where id = $1", opened.id) == "incomplete"
            assert await in_flight(owner)
        assert await first == frozenset()
        assert journal.available


async def test_a_group_waits_for_half_of_what_links_have_under_way_and_no_longer(
    database: Database, owner: Owner, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes first would else be committed alone, and all the others after it."""
    link_ids = [await make_link(owner, organization) for _ in range(8)]
    groups: list[int] = []
    monkeypatch.setattr("interface.telemetry.observe_commit", lambda seconds, group: groups.append(group))

    async def deliver(journal: Journal, link: int, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await journal.append(whole(link_ids[link], b"%d %d" % (link, turns)))

    async with running(database, organization) as journal:
        await asyncio.gather(*(deliver(journal, link, 0) for link in range(8)))
        await asyncio.gather(*(deliver(journal, link, link) for link in range(4)))
        await asyncio.gather(*(deliver(journal, link, 100 * link) for link in range(2)))
        for _ in range(2):  # in step: in two halves, once it is known that no commit takes as long as their answers
            await asyncio.gather(*(deliver(journal, link, 0) for link in range(8)))
            journal._halves._turn_s = 3600.0
    assert groups == [8, 4, 1, 1, 8, 4, 4]


@pytest.mark.parametrize("twin", ["connection", "digest"])
async def test_what_must_keep_its_order_does_not_overtake_the_group_before(
    database: Database, owner: Owner, organization: Organization, twin: str
) -> None:
    """Blocks of one connection; and the same bytes twice, of which the second is a resend."""
    link_id = await make_link(owner, organization)
    stuck = whole(link_id, b"stuck")
    if twin == "connection":
        later = [whole(link_id, b"%d" % number) for number in range(SECOND_ENTRIES)]
    else:
        later = [whole(link_id, b"stuck")] * SECOND_ENTRIES
        later = [Append((one.messages[0]._replace(peer="another"),), one.frames) for one in later]
    async with running(database, organization) as journal:
        async with hanging(owner, organization, stuck):
            tasks = [asyncio.create_task(journal.append(stuck))]
            await until(lambda: in_flight(owner))
            tasks += [asyncio.create_task(journal.append(one)) for one in later]
            for _ in range(5):
                await owner.fetchval("select 1")
            stored = await owner.fetchval(
                "select count(*) from lab.message where organization_id = $1", organization.id
            )
            assert stored == 0
            assert not any(task.done() for task in tasks)
        answers = await asyncio.gather(*tasks)
    assert answers[0] == frozenset()
    expected = frozenset() if twin == "connection" else {later[0].messages[0].id}
    assert answers[1] == expected


async def test_a_cut_transmission_whose_begin_is_still_being_committed_is_sealed_after_it(
    database: Database, owner: Owner, organization: Organization, shared_database_url: str
) -> None:
    """Its begin hangs in the second group; the first line, free again, must not look for it before it is there."""
    links = [await make_link(owner, organization) for _ in range(SECOND_ENTRIES + 2)]
    first, second, *others = (whole(link, b"text") for link in links)
    opened = MessageRow(new_message_id(), links[0], "lis2", "receiving", received_at=AT, peer="another")
    begun = Append((opened,), (FrameRow(opened.id, 0, 0, 1, b"one", AT),))
    beside = await asyncpg.connect(owner_of(shared_database_url))
    async with running(database, organization) as journal:
        async with hanging(beside, organization, second):
            async with hanging(owner, organization, first):
                hung = asyncio.create_task(journal.append(first))
                await until(lambda: in_flight(owner))
                tasks = [asyncio.create_task(journal.append(one)) for one in (begun, second, *others[1:])]
                await until(lambda: in_flight(beside))
            await hung
            journal.seal_later([opened._replace(state="incomplete", sealed_at=AT, reason="lost")])
            await journal.append(others[0])
        await asyncio.gather(*tasks)
        await until(lambda: _is_sealed(owner, opened.id))
    await beside.close()


async def _is_sealed(owner: Owner, message_id: UUID) -> bool:
    return bool(await owner.fetchval("select state = 'incomplete' from lab.message where id = $1", message_id))


async def test_no_statement_of_the_hot_path_searches_a_table_that_grows(
    database: Database, organization: Organization
) -> None:
    """Their plans are made once, with the tables as empty as they may be then."""
    async with database.organization(organization.id) as connection:
        for statement in (journal_sql.APPEND, journal_sql.APPEND_BLOCKS, journal_sql.APPEND_FRAMES):
            prepared = await connection.prepare(statement)
            empty: list[object] = [timedelta(1) if one.name == "interval" else [] for one in prepared.get_parameters()]
            plan = await connection.fetch("EXPLAIN " + statement, organization.id, *empty[1:])
            read = [row[0] for row in plan if " on " in row[0] and "Insert on" not in row[0] and "CTE" not in row[0]]
            assert all("Function Scan" in line or " on link " in line or " on daemon " in line for line in read), read


async def test_a_poisoned_row_refuses_only_its_own_link(
    database: Database, owner: Owner, organization: Organization
) -> None:
    """Three links in one group; the second says something that no database row can hold."""
    links = [await make_link(owner, organization) for _ in range(3)]
    good, poisoned, other = (whole(link, b"text of %d" % at) for at, link in enumerate(links))
    poisoned = poisoned._replace(frames=(poisoned.frames[0]._replace(fn=1 << 20),))
    async with running(database, organization) as journal:
        answers = await asyncio.gather(
            *(journal.append(one) for one in (good, poisoned, other)), return_exceptions=True
        )
        assert answers[0] == answers[2] == frozenset()
        assert isinstance(answers[1], StoreError)
        assert journal.available
        assert await journal.append(whole(links[1], b"and the link goes on")) == frozenset()
    stored = await owner.fetch("select id from lab.message where organization_id = $1", organization.id)
    assert poisoned.messages[0].id not in {row["id"] for row in stored}
    assert len(stored) == 3


async def test_a_row_the_server_refuses_is_refused_alone_too(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    stranger = whole(uuid7(), b"of a link that does not exist")  # a foreign key, found by the server only
    async with running(database, organization) as journal:
        answers = await asyncio.gather(
            journal.append(whole(link_id, b"good")), journal.append(stranger), return_exceptions=True
        )
    assert answers[0] == frozenset()
    assert isinstance(answers[1], StoreError)


async def test_a_cut_connection_is_survived_within_the_time_an_append_may_wait(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    async with running(database, organization) as journal:
        for number in range(3):
            await owner.execute(
                """select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()"""
            )
            assert await journal.append(whole(link_id, b"after cut %d" % number)) == frozenset()
        assert journal.available


async def test_what_was_being_received_when_the_process_died_is_sealed_incomplete_at_the_next_start(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    opened = MessageRow(new_message_id(), link_id, "lis2", "receiving", received_at=AT)
    async with running(database, organization) as journal:
        await journal.append(Append((opened,), (FrameRow(opened.id, 0, 0, 1, b"one", AT),)))
    async with running(database, organization):
        row = await owner.fetchrow("select state, reason from lab.message where id = $1", opened.id)
    assert row is not None
    assert tuple(row) == ("incomplete", "restart")
    assert await owner.fetchval("select count(*) from lab.queue where message_id = $1", opened.id) == 1


async def test_replies_are_noted_at_the_latest_when_the_journal_stops(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    sent, unsent = whole(link_id, b"answered"), whole(link_id, b"not answered")
    async with running(database, organization) as journal:
        await journal.append(sent)
        await journal.append(unsent)
        journal.replied(sent.messages[0].id, True)
        journal.replied(unsent.messages[0].id, False)
    rows = await owner.fetch("select id, reply from lab.message where organization_id = $1", organization.id)
    assert {row["id"]: row["reply"] for row in rows} == {sent.messages[0].id: "sent", unsent.messages[0].id: "unsent"}


async def test_after_stop_nothing_is_taken(database: Database, owner: Owner, organization: Organization) -> None:
    link_id = await make_link(owner, organization)
    async with running(database, organization) as journal:
        pass
    with pytest.raises(StoreError):
        await journal.append(whole(link_id, b"too late"))


def test_frames_of_a_message_are_one_range_of_ids() -> None:
    message_id = new_message_id()
    ids = [frame_id(message_id, ordinal, attempt) for ordinal in range(3) for attempt in range(3)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 9
    assert all(one.int >> 24 == message_id.int >> 24 for one in ids)


async def test_what_is_settled_without_a_decision_is_audited_once(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    first, again, refused = whole(link_id, b"a"), whole(link_id, b"a"), whole(link_id, b"b")
    refused = refused._replace(messages=(refused.messages[0]._replace(settled="rejected", digest=None, peer="p:1"),))
    async with running(database, organization) as journal:
        for append in (first, again, refused, refused):
            await journal.append(append)
    rows = await owner.fetch(
        "select entity_id, action, actor_kind, actor_id, address, outcome from lab.audit_event"
        " where organization_id = $1 order by id",
        organization.id,
    )
    assert [tuple(row) for row in rows] == [
        (again.messages[0].id, "message.settle", "link", link_id, "", "duplicate"),
        (refused.messages[0].id, "message.settle", "link", link_id, "p:1", "rejected"),
    ]


async def test_the_notes_of_a_group_with_a_poisoned_row_are_kept(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    first = whole(link_id, b"first")
    async with running(database, organization) as journal:
        await journal.append(first)
        journal.replied(first.messages[0].id, True)
        with pytest.raises(StoreError):
            await journal.append(whole(uuid7(), b"of a link that does not exist"))
    reply = await owner.fetchval("select reply from lab.message where id = $1", first.messages[0].id)
    assert reply == "sent"


async def test_a_poisoned_row_that_comes_first_after_an_outage_leaves_the_journal_available(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    async with running(database, organization) as journal:
        journal.available = False  # as an outage leaves it
        with pytest.raises(StoreError):
            await journal.append(whole(uuid7(), b"of a link that does not exist"))
        await until(lambda: is_available(journal))
        assert await journal.append(whole(link_id, b"good")) == frozenset()


async def test_notes_are_written_though_nothing_follows_them(
    database: Database, owner: Owner, organization: Organization
) -> None:
    link_id = await make_link(owner, organization)
    append = whole(link_id, b"the last of the night")
    async with running(database, organization) as journal:
        await journal.append(append)
        await asyncio.sleep(0)  # the writer waits already
        journal.replied(append.messages[0].id, True)
        await until(lambda: is_answered(owner, append))


async def test_a_message_that_is_being_decided_holds_up_no_commit(
    database: Database, owner: Owner, organization: Organization
) -> None:
    """The decision's transaction holds the message's row; the note of its reply waits, the links do not."""
    link_id = await make_link(owner, organization)
    decided = whole(link_id, b"decided")
    async with running(database, organization, commit_wait_s=2.0) as journal:
        await journal.append(decided)
        async with owner.transaction():
            await owner.execute("update lab.message set attempts = 1 where id = $1", decided.messages[0].id)
            journal.replied(decided.messages[0].id, True)
            assert await journal.append(whole(link_id, b"another")) == frozenset()
        await until(lambda: is_answered(owner, decided))


async def test_an_append_is_refused_in_time_whatever_the_writer_waits_for(
    database: Database, owner: Owner, organization: Organization
) -> None:
    """More than a group waits behind a commit that hangs: LIS01-A2 gives the receiver 15 s, not 5 s for each group."""
    link_id = await make_link(owner, organization)
    async with running(database, organization, commit_wait_s=0.6) as journal:
        loop = asyncio.get_running_loop()
        async with owner.transaction():
            await owner.execute("lock table lab.frame in access exclusive mode")
            began = loop.time()
            appends = [journal.append(whole(link_id, b"%d" % number)) for number in range(2 * GROUP_ENTRIES + 1)]
            answers = await asyncio.gather(*appends, return_exceptions=True)
            assert all(isinstance(answer, StoreError) for answer in answers)
            assert loop.time() - began < 3.0
        await until(lambda: is_available(journal))
        assert await journal.append(whole(link_id, b"after")) == frozenset()


async def test_a_seal_that_fails_though_the_server_answers_is_tried_again_at_intervals(
    database_url: str,
) -> None:
    """A full disk refuses it and answers `SELECT 1`: connecting as fast as that goes, and telling of each time, would
    take what is left of the machine."""
    owner = await asyncpg.connect(owner_of(database_url))
    organization = await make_organization(owner)
    link_id = await make_link(owner, organization)
    await owner.execute("""
        create sequence tries; grant usage on sequence tries to public;
        create function refuse() returns trigger language plpgsql as $$
            begin perform nextval('public.tries'); raise 'no space left on device' using errcode = '53100'; end $$;
        create trigger refuse before update on lab.message for each row execute function refuse()""")

    async def tried() -> bool:
        return bool(await owner.fetchval("select last_value >= 4 from tries"))

    database = await Database.connect(database_url)
    opened = MessageRow(new_message_id(), link_id, "lis2", "receiving", received_at=AT)
    async with running(database, organization) as journal:
        await journal.append(Append((opened,), (FrameRow(opened.id, 0, 0, 1, b"one", AT),)))
        began = asyncio.get_running_loop().time()
        journal.seal_later([opened._replace(state="incomplete", sealed_at=AT, reason="lost")])
        await until(tried)
        assert asyncio.get_running_loop().time() - began >= 3 * PROBE_S
        await owner.execute("drop trigger refuse on lab.message")
        await until(lambda: is_sealed(owner, opened.id))
    await database.close()
    await owner.close()


async def test_a_message_larger_than_what_may_wait_is_taken_when_nothing_waits(
    database: Database, owner: Owner, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interface.store.journal.WAITING_BYTES", 1000)
    link_id = await make_link(owner, organization)
    async with running(database, organization) as journal:
        assert await journal.append(whole(link_id, b"x" * 2000)) == frozenset()
        taken, refused = await asyncio.gather(
            journal.append(whole(link_id, b"y" * 900)), journal.append(whole(link_id, b"z" * 900)),
            return_exceptions=True,
        )  # fmt: skip
        assert taken == frozenset()
        assert isinstance(refused, StoreError)

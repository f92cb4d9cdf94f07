# ruff: noqa: S608 - statements of the test's own
"""The audit trail's chain: what it seals, and that no tampering with what is sealed goes unseen, whoever does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import pytest
import structlog
from structlog.testing import capture_logs

from interface.domain.views import Actor, ActorKind
from interface.store import audit, audit_chain, audit_sealer
from interface.store.audit import WAITED, AuditWriter
from interface.store.audit_chain import LATE, Head, Tampering, Verdict, parse_head
from interface.store.audit_sealer import Sealer
from interface.store.db import Database, prepare
from interface.store.ids import uuid7
from interface.store.migrate import maintain
from tests.cluster import administer, owner_of
from tests.conftest import FOUNDED, Organization
from tests.store.sealing import sealed

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def actor(organization: Organization) -> Actor:
    return Actor(ActorKind.USER, uuid4(), "vera", organization.id, address="10.1.2.3")


async def write(database: Database, organization: Organization, rows: int = 1) -> None:
    async with database.transaction(organization.id) as connection:
        for place in range(rows):
            await audit.record(connection, actor(organization), "release", "result", uuid7(), {"place": str(place)})


async def verified(database: Database, organization: Organization, *kept: Head) -> Verdict:
    async with database.transaction(organization.id) as connection:
        return await audit_chain.verify(connection, organization.id, kept)


def found(verdict: Verdict) -> set[tuple[Tampering, int]]:
    return {(finding.what, finding.segment) for finding in verdict.findings}


async def test_what_is_committed_is_sealed_once_and_in_order(database: Database, organization: Organization) -> None:
    for rows in (1, 3, 1):
        await write(database, organization, rows)
        await sealed(database, organization.id)
    verdict = await verified(database, organization)
    assert (verdict.segments, verdict.rows, verdict.unsealed, verdict.findings) == (3, 5, 0, ())
    done = await sealed(database, organization.id)
    assert (done.rows, done.head) == (0, verdict.head), "nothing is sealed twice, and nothing makes no segment"
    assert verdict.head is not None
    assert parse_head(str(verdict.head)) == verdict.head


async def test_many_rows_are_sealed_piece_by_piece(database: Database, organization: Organization) -> None:
    await write(database, organization, 7)  # of one transaction: all have the same position
    await sealed(database, organization.id, most=3)
    verdict = await verified(database, organization)
    assert (verdict.segments, verdict.rows, verdict.findings) == (3, 7, ())


async def test_a_row_waits_for_transactions_that_began_before_it(
    database: Database, organization: Organization
) -> None:
    async with database.transaction(organization.id) as slow:
        await audit.record(slow, actor(organization), "slow", "result")
        await write(database, organization)
        async with database.transaction(organization.id) as connection:
            assert (await audit_chain.seal(connection, organization.id)).rows == 0
        waiting = await verified(database, organization)
        assert (waiting.unsealed, waiting.findings) == (1, ()), "that is told, and is no fault"
        assert waiting.oldest is not None
    await sealed(database, organization.id)
    async with database.organization(organization.id) as connection:
        rows = await connection.fetch("select action from lab.audit_event order by position, id")
    assert [row["action"] for row in rows] == ["slow", "release"]
    assert (await verified(database, organization)).findings == ()


async def test_two_that_seal_make_one_chain(database: Database, organization: Organization) -> None:
    other = Sealer(database)
    for _ in range(4):
        await write(database, organization, 2)
        await asyncio.gather(other.seal_all(), Sealer(database).seal_all())
    await sealed(database, organization.id)
    verdict = await verified(database, organization)
    assert (verdict.rows, verdict.findings) == (8, ())


@pytest.mark.parametrize("state", ["XX001", "57014"])
async def test_a_laboratory_whose_trail_cannot_be_sealed_keeps_no_other_from_it(
    database: Database, organization: Organization, other_organization: Organization, shared_database_url: str,
    state: str,
) -> None:  # fmt: skip
    """A page of its segments is damaged, for instance, or the database does not come to an end with it in time: what
    all others did could be changed unseen."""
    name = f"broken_{organization.id.hex}"
    owner = owner_of(shared_database_url)
    await administer(
        owner,
        f"""create function lab.{name}() returns trigger language plpgsql as
            $$begin if new.organization_id = '{organization.id}' then raise 'damaged' using errcode = '{state}'; end if;
              return new; end$$""",
    )
    await administer(
        owner,
        f"create trigger {name} before insert on lab.audit_segment for each row execute function lab.{name}()",
    )
    try:
        for first, second in ((organization, other_organization), (other_organization, organization)):
            served = SimpleNamespace(served=(first.id, second.id), transaction=database.transaction)
            for each in (organization, other_organization):
                await write(database, each)
            sealer = Sealer(served)  # type: ignore[arg-type]
            async with asyncio.timeout(20):
                while (await verified(database, other_organization)).unsealed:
                    await sealer.seal_all()
        assert (await verified(database, organization)).unsealed == 2
    finally:
        await administer(owner, f"drop trigger {name} on lab.audit_segment")
        await administer(owner, f"drop function lab.{name}")


async def test_each_laboratory_has_a_chain_of_its_own(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    for each in (organization, other_organization):
        await write(database, each, 2)
        await sealed(database, each.id)
        assert (await verified(database, each)).rows == 2


# ---- tampering, as one who may do everything to the tables ----------------------------------------------------------

SEGMENTS, ROWS = 4, 3  # of each
ROW = "(select id from lab.audit_event where organization_id = $1 order by position, id limit 1 offset {})"
FIRST, MIDDLE, LAST = ROW.format(0), ROW.format(5), ROW.format(SEGMENTS * ROWS - 1)
EVENT, SEGMENT = "lab.audit_event where organization_id = $1 and", "lab.audit_segment where organization_id = $1 and"
COPY = "insert into lab.audit_event (id, organization_id, at, actor_kind, action, entity_kind, position) "


def changed(assignment: str, row: str = MIDDLE) -> str:
    return f"update lab.audit_event set {assignment} where organization_id = $1 and id = {row}"


def swapped(columns: str) -> str:
    mine = ", ".join(f"{name} = o.{name}" for name in columns.split())
    return (
        f"update lab.audit_event e set {mine} from lab.audit_event o where e.organization_id = $1"
        f" and (e.id, o.id) in (({MIDDLE}, {FIRST}), ({FIRST}, {MIDDLE}))"
    )


T = Tampering
TAMPERINGS: list[tuple[list[str], set[tuple[Tampering, int]]]] = [
    *(([changed(assignment)], {(T.CHANGED, 2)}) for assignment in (
        "action = 'read'", "actor_kind = 'link'", "actor_name = 'eve'", "actor_id = null", "entity_kind = 'x'",
        "entity_id = null", "address = ''", "outcome = 'refused'", "detail = '{}'",
        "at = at + interval '1 microsecond'",
    )),
    ([changed("actor_name = 'eve'", FIRST)], {(T.CHANGED, 1)}),
    ([changed("actor_name = 'eve'", LAST)], {(T.CHANGED, 4)}),
    ([swapped("at actor_id entity_id detail")], {(T.CHANGED, 1), (T.CHANGED, 2)}),
    ([swapped("position")], {(T.INSERTED, 1), (T.DELETED, 1), (T.INSERTED, 2), (T.DELETED, 2)}),
    ([f"delete from {EVENT} id = {FIRST}"], {(T.DELETED, 1)}),
    ([f"delete from {EVENT} id = {MIDDLE}"], {(T.DELETED, 2)}),
    ([f"delete from {EVENT} id = {LAST}"], {(T.DELETED, 4)}),
    ([f"delete from {EVENT} true"], {(T.DELETED, number) for number in (1, 2, 3, 4)}),
    ([changed("id = gen_random_uuid()")], {(T.INSERTED, 2), (T.DELETED, 2)}),
    ([changed("position = (select max(position) from lab.audit_event) + 1000000000")],
     {(T.DELETED, 2), (T.INSERTED, 0)}),
    ([changed("position = -1")], {(T.DELETED, 2), (T.INSERTED, 0)}),
    ([COPY + f"select gen_random_uuid(), $1, at, 'user', 'x', 'y', position from {EVENT} id = {MIDDLE}"],
     {(T.INSERTED, 2)}),
    ([COPY + "select gen_random_uuid(), $1, now(), 'user', 'x', 'y', 0"], {(T.INSERTED, 1)}),
    ([COPY + "select gen_random_uuid(), $1, now(), 'user', 'x', 'y', -1"], {(T.INSERTED, 0)}),
    ([COPY + "select gen_random_uuid(), $1, now(), 'user', 'x', 'y', 1000000000000"], {(T.INSERTED, 0)}),
    ([f"delete from {SEGMENT} number = 1"], {(T.MISSING, 1)}),
    ([f"delete from {SEGMENT} number in (2, 3)"], {(T.MISSING, 2)}),
    (["update lab.audit_segment set entries = entries || entries where organization_id = $1 and number = 2"],
     {(T.BROKEN, 2)}),
    (["update lab.audit_segment set sealed_at = now() + interval '1 s' where organization_id = $1 and number = 3"],
     {(T.BROKEN, 3)}),
    (["update lab.audit_segment set number = 5 where organization_id = $1 and number = 2"],
     {(T.MISSING, 2), (T.BROKEN, 5)}),
    (["update lab.audit_segment set digest = sha256('x') where organization_id = $1 and number = 2"],
     {(T.BROKEN, 2), (T.BROKEN, 3)}),
]  # fmt: skip


@pytest.fixture
async def chain(database: Database, organization: Organization) -> Head:
    for _ in range(SEGMENTS):
        await write(database, organization, ROWS)
        done = await sealed(database, organization.id)
    verdict = await verified(database, organization)
    assert (verdict.segments, verdict.rows, verdict.findings) == (SEGMENTS, SEGMENTS * ROWS, ())
    assert done.head is not None
    return done.head


async def test_whatever_is_done_to_what_is_sealed_is_found_where_it_was_done(
    database: Database, owner: Owner, organization: Organization, chain: Head
) -> None:
    for statements, expected in TAMPERINGS:
        transaction = owner.transaction()
        await transaction.start()
        for statement in statements:
            assert not (await owner.execute(statement, organization.id)).endswith(" 0"), statement
        await owner.execute(
            "select set_config('labora.org', $1, true), set_config('role', 'labora_app', true)", str(organization.id)
        )
        verdict = await audit_chain.verify(owner, organization.id)
        await transaction.rollback()
        assert found(verdict) == expected, statements
        for finding in verdict.findings:
            assert finding.text
            assert (finding.row is None) == (finding.what in (T.MISSING, T.BROKEN))
    assert (await verified(database, organization, chain)).findings == ()


async def test_a_tail_that_is_cut_off_is_missed_by_who_kept_the_head(
    database: Database, owner: Owner, organization: Organization, chain: Head
) -> None:
    sealer = Sealer(database)
    await sealer.seal_all()
    for statement in (
        f"delete from {EVENT} position >= (select began_position from {SEGMENT} number = 4)",
        f"delete from {SEGMENT} number = 4",
    ):
        await owner.execute(statement, organization.id)
    verdict = await verified(database, organization)
    assert verdict.findings == (), "the chain alone cannot tell"
    assert found(await verified(database, organization, chain)) == {(T.HEAD, 4)}
    await write(database, organization)
    await sealed(database, organization.id)
    assert found(await verified(database, organization, chain)) == {(T.HEAD, 4)}, "nor does another take its place"
    with capture_logs() as logs:
        await sealer.seal_all()
    assert [log["segment"] for log in logs if log["action"] == "audit.cut"] == [4], "a daemon that runs says so"


@pytest.mark.parametrize("since", [0, 2])
async def test_a_trail_that_was_emptied_whole_lacks_its_beginning(
    database: Database, owner: Owner, organization: Organization, chain: Head, since: int
) -> None:
    """Rows and segments, as if the laboratory had begun today; and what is written since."""
    await owner.execute(
        "update lab.organization set created_at = created_at - interval '1 day' where id = $1", organization.id
    )
    for table in ("audit_event", "audit_segment"):
        await owner.execute(" ".join(("delete from", f"lab.{table}", "where organization_id = $1")), organization.id)
    if since:
        await write(database, organization, since)
        await sealed(database, organization.id)
    assert found(await verified(database, organization)) == {(T.MISSING, 1)}


async def test_a_row_that_is_made_up_later_is_found_by_its_date(
    database: Database, owner: Owner, organization: Organization, chain: Head
) -> None:
    made_up = COPY.replace(", position", "") + "values ($1, $2, $3, 'user', 'read', 'patient')"
    yesterday = datetime.now(UTC) - LATE - timedelta(minutes=1)
    await owner.execute(made_up, uuid7(), organization.id, yesterday)
    await sealed(database, organization.id)
    assert found(await verified(database, organization, chain)) == {(T.BACKDATED, SEGMENTS + 1)}
    await owner.execute(made_up, uuid7(), organization.id, datetime.now(UTC) + timedelta(days=1))
    await write(database, organization)
    await sealed(database, organization.id)
    assert len((await verified(database, organization, chain)).findings) == 1, "one dated ahead makes no other late"


async def test_a_clock_that_was_put_right_is_told_and_makes_nobody_a_forger(
    database: Database, owner: Owner, organization: Organization, chain: Head
) -> None:
    """It was a year ahead, or years behind, for a while: rows and seals of then are dated by it, later ones are not."""

    async def by_clock(at: datetime, rows: int = 1) -> None:
        await owner.execute("create schema if not exists wrong; grant usage on schema wrong to public")
        await owner.execute(
            "create or replace function wrong.clock_timestamp() returns timestamptz language sql"
            f" as $$select '{at.isoformat()}'::timestamptz$$"
        )
        for _ in range(rows):
            await owner.execute(
                COPY.replace(", position", "") + "values ($1, $2, $3, 'user', 'read', 'patient')",
                uuid7(), organization.id, at - timedelta(seconds=1),
            )  # fmt: skip
        while (await verified(database, organization)).unsealed:
            async with database.transaction(organization.id) as connection:
                await connection.execute("set local search_path = wrong, pg_catalog")
                await audit_chain.seal(connection, organization.id)

    now = datetime.now(UTC)
    await by_clock(now + timedelta(days=365), 2)
    await by_clock(now + timedelta(seconds=2), 2)
    await by_clock(datetime(2020, 1, 1, tzinfo=UTC), 2)
    await by_clock(now + timedelta(seconds=4), 2)
    verdict = await verified(database, organization, chain)
    assert verdict.findings == ()
    assert [each.segment for each in verdict.set_back] == [SEGMENTS + 2, SEGMENTS + 3]
    assert verdict.set_back[0].by > timedelta(days=364)
    made_up = COPY.replace(", position", "") + "values ($1, $2, $3, 'user', 'read', 'patient')"
    await owner.execute(made_up, uuid7(), organization.id, now - LATE - timedelta(minutes=1))
    await sealed(database, organization.id)
    assert {what for what, _ in found(await verified(database, organization, chain))} == {T.BACKDATED}


async def test_rows_that_waited_for_the_database_are_not_taken_for_made_up(
    database: Database, organization: Organization, chain: Head
) -> None:
    writer = AuditWriter(database)
    await writer.read(actor(organization), "read", "patient", None, {"request": "1"})
    old = writer._queue.get_nowait()
    assert old is not None
    happened = old.at - 2 * LATE
    writer._queue.put_nowait(replace(old, at=happened))
    writer.start()
    await writer.close()
    await sealed(database, organization.id)
    assert (await verified(database, organization, chain)).findings == ()
    async with database.organization(organization.id) as connection:
        row = await connection.fetchrow("select at, detail from lab.audit_event where action = 'read'")
    assert row is not None
    assert datetime.now(UTC) - row["at"] < WAITED
    assert row["detail"] == {"request": "1", "happened_at": happened.isoformat()}


@pytest.mark.parametrize("text", ["", "1", "1:", "1:zz", "0:" + "a" * 64, "x:" + "a" * 64, "1:" + "a" * 62])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a head"):
        parse_head(text)


async def test_the_application_cannot_unseal(database: Database, organization: Organization, chain: Head) -> None:
    for statement in ("update lab.audit_segment set rows = 0", "delete from lab.audit_segment"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(organization.id) as connection:
                await connection.execute(statement)


# ---- moved to another server ----------------------------------------------------------------------------------------


@pytest.fixture
async def moved(founded_url: str) -> AsyncIterator[tuple[Database, Organization, Callable[[], Awaitable[None]]]]:
    """A database of the test's own, and a way to make it look as if its server's transactions began anew."""
    database = await Database.connect(founded_url)
    organization_id = await database.find_organization(FOUNDED)
    assert organization_id is not None
    connection = await asyncpg.connect(owner_of(founded_url))
    await prepare(connection)

    async def move() -> None:
        await connection.execute(
            "create or replace function lab.audit_offset() returns bigint language sql immutable"
            " as 'select -1000000::bigint'"
        )

    yield database, Organization(organization_id, FOUNDED), move
    await connection.close()
    await database.close()


async def test_a_database_that_was_moved_goes_on_after_an_upgrade(
    moved: tuple[Database, Organization, Callable[[], Awaitable[None]]], founded_url: str
) -> None:
    database, organization, move = moved
    await sealed(database, organization.id)
    await move()
    with capture_logs() as logs:
        assert await Sealer(database).seal_all() == 0
    assert [log["action"] for log in logs if log["log_level"] == "error"] == ["audit.moved"]
    await maintain(owner_of(founded_url))
    await write(database, organization, 3)
    await sealed(database, organization.id)
    sealer = Sealer(database)
    await sealer.seal_all()
    verdict = await verified(database, organization)
    assert verdict.segments == 2
    assert verdict.findings == ()


async def test_the_sealer_tells_the_head_at_first_and_at_last(
    moved: tuple[Database, Organization, Callable[[], Awaitable[None]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, organization, _ = moved
    await write(database, organization, 2)
    sealer = Sealer(database)
    every = structlog.make_filtering_bound_logger(0)  # whatever another test has made of the log
    monkeypatch.setattr(audit_sealer, "_log", structlog.wrap_logger(None, wrapper_class=every))
    with capture_logs() as logs:
        while (await verified(database, organization)).unsealed:
            await sealer.seal_all()
        await sealer.close()
    heads = [log["head"] for log in logs if log["action"] == "audit.head"]
    assert len(heads) == 2
    assert heads[-1] == str((await verified(database, organization)).head)
    assert audit_sealer.PAUSE_S < 10, "what is not sealed yet can be tampered with unseen"

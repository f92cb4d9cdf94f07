"""Connections for an organization, and the driver's errors in our words."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit
from uuid import RFC_4122, UUID

import asyncpg
import pytest

from interface.errors import ConfigError, SchemaChanged, StoreAmbiguous, StoreError, StoreUnavailable
from interface.store import ids
from interface.store.db import (
    MOST_POOLS,
    Connection,
    Database,
    open_connection,
)
from interface.store.driver_errors import store_errors, translate
from interface.store.ids import instant_of, uuid7, uuid7_floor, uuid7s
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.store.server_checks import check_server
from tests.cluster import owner_of
from tests.conftest import Organization


@pytest.fixture
def database(own_database: Database) -> Database:
    """With pools of its own, which are the subject."""
    return own_database


# ---- identifiers


def test_ids_are_version_7_and_always_grow() -> None:
    made = [uuid7() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert {(each.version, each.variant) for each in made} == {(7, "specified in RFC 4122")}


def test_ids_differ_even_without_their_low_24_bits() -> None:
    made = [uuid7().int >> 24 for _ in range(20_000)]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("counter", [5, (1 << 30) - 3, (1 << 42) - 3])
def test_ids_that_are_made_at_once_stand_in_the_same_order(counter: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the counter passes the variant between its two parts, and where it begins anew."""
    monkeypatch.setattr(ids, "_last_ms", 4_000_000_000_000)
    monkeypatch.setattr(ids, "_last_counter", counter)
    made = [uuid7(), *uuid7s(5), *uuid7s(0), uuid7(), *uuid7s(1)]
    assert made == sorted(set(made))
    assert {(one.version, one.variant) for one in made} == {(7, RFC_4122)}


def test_the_floor_of_an_instant_is_below_its_ids_and_above_those_before() -> None:
    at = datetime(2026, 12, 1, tzinfo=UTC)
    at_ms = int(at.timestamp() * 1000)
    assert uuid7(at_ms - 1) < uuid7_floor(at) <= uuid7(at_ms)
    assert instant_of(uuid7_floor(at)) == at
    assert uuid7_floor(at).version == 7


@pytest.mark.parametrize("at", [datetime(1969, 12, 31, 23, 59, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_the_floor_of_an_instant_before_there_were_ids_is_below_them_all(at: datetime) -> None:
    assert uuid7_floor(at) == uuid7_floor(datetime(1970, 1, 1, tzinfo=UTC)) <= uuid7(0)


def test_a_naive_instant_has_no_floor() -> None:
    with pytest.raises(ValueError, match="time zone"):
        uuid7_floor(datetime(2026, 12, 1))  # noqa: DTZ001 - the fault under test


# ---- errors

LOST = ConnectionResetError("reset by peer")


@pytest.mark.parametrize(
    ("error", "committing", "expected"),
    [
        (ConnectionRefusedError(), False, StoreUnavailable),
        (FileNotFoundError(), False, StoreUnavailable),
        (LOST, False, StoreUnavailable),
        (LOST, True, StoreAmbiguous),
        (TimeoutError(), False, StoreAmbiguous),
        (TimeoutError(), True, StoreAmbiguous),
        (asyncpg.ConnectionDoesNotExistError("closed"), False, StoreUnavailable),
        (asyncpg.ConnectionDoesNotExistError("closed"), True, StoreAmbiguous),
        (asyncpg.InterfaceError("connection is closed"), False, StoreUnavailable),
        (asyncpg.AdminShutdownError("shutdown"), False, StoreUnavailable),
        (asyncpg.CrashShutdownError("crash"), True, StoreAmbiguous),
        (asyncpg.CannotConnectNowError("starting up"), False, StoreUnavailable),
        (asyncpg.TooManyConnectionsError("too many"), False, StoreUnavailable),
        (asyncpg.DiskFullError("no space"), True, StoreUnavailable),
        (asyncpg.OutOfMemoryError("memory"), True, StoreUnavailable),
        (asyncpg.QueryCanceledError("statement timeout"), False, StoreUnavailable),
        (asyncpg.ReadOnlySQLTransactionError("standby"), False, StoreUnavailable),
        (asyncpg.DeadlockDetectedError("deadlock"), True, StoreUnavailable),  # nothing is said against the work
        (asyncpg.SerializationError("concurrent update"), True, StoreUnavailable),
        (asyncpg.UndefinedObjectError('type "lab.own_row[]" does not exist'), False, SchemaChanged),
        (asyncpg.UndefinedColumnError("column"), True, SchemaChanged),
        (asyncpg.UndefinedTableError("table"), False, SchemaChanged),
        (asyncpg.UndefinedFunctionError("function"), False, SchemaChanged),
        (asyncpg.DatatypeMismatchError("wrong number of columns: 11, expected 12"), False, SchemaChanged),
        (asyncpg.InvalidCachedStatementError("cached plan must not change result type"), False, SchemaChanged),
        (asyncpg.InternalServerError("cache lookup failed for type 19447"), False, SchemaChanged),
        (asyncpg.InternalServerError("could not open relation with OID 19447"), False, SchemaChanged),
        (asyncpg.InternalServerError("unexpected node"), False, None),
        (asyncpg.NumericValueOutOfRangeError("too large"), False, None),
        (asyncpg.CheckViolationError("not so"), False, None),
        (asyncpg.UniqueViolationError("twice"), True, None),
        (asyncpg.InsufficientPrivilegeError("no"), False, None),
        (asyncpg.InterfaceError("another operation is in progress"), False, None),
        (ValueError("ours"), False, None),
    ],
)
def test_an_error_of_the_driver_says_what_is_certain(
    error: Exception, committing: bool, expected: type[StoreError] | None
) -> None:
    translated = translate(error, committing=committing)
    assert (None if translated is None else type(translated)) is expected


def test_what_is_no_error_of_the_store_passes_unchanged() -> None:
    with pytest.raises(asyncpg.UniqueViolationError), store_errors():
        raise asyncpg.UniqueViolationError("twice")
    with pytest.raises(StoreAmbiguous), store_errors():
        raise StoreAmbiguous("already said")


# ---- values


async def test_decimals_in_json_keep_their_digits(database: Database, organization: Organization) -> None:
    async with database.organization(organization.id) as connection:
        kept = await connection.fetchval("select $1::jsonb", {"number": Decimal("12.50"), "list": [1, None]})
    assert kept == {"number": "12.50", "list": [1, None]}


async def test_instants_come_back_aware_and_exact_also_in_arrays(
    database: Database, organization: Organization
) -> None:
    at = datetime(2026, 11, 22, 13, 14, 15, 123456, tzinfo=timezone(timedelta(hours=7)))
    async with database.organization(organization.id) as connection:
        one = await connection.fetchval("select $1::timestamptz", at)
        many = await connection.fetchval("select array_agg(x) from unnest($1::timestamptz[]) x", [at, at])
    assert one == at and one.tzinfo is UTC
    assert many == [at, at] and many[0].tzinfo is UTC


@pytest.mark.parametrize(
    ("at", "hours"), [(datetime.min.replace(tzinfo=UTC), 7), (datetime.max.replace(tzinfo=UTC), -7)]
)
async def test_an_instant_that_could_not_be_read_again_is_not_written(
    database: Database, at: datetime, hours: int
) -> None:
    async with database.system() as connection:
        assert await connection.fetchval("select $1::timestamptz", at) == at
        beyond = at.replace(tzinfo=timezone(timedelta(hours=hours)))
        with pytest.raises(asyncpg.DataError, match="is before the year 1 or after the year 9999"):
            await connection.fetchval("select $1::timestamptz", beyond)


async def test_a_naive_instant_is_refused(database: Database, organization: Organization) -> None:
    async with database.organization(organization.id) as connection:
        with pytest.raises(asyncpg.DataError):
            await connection.fetchval("select $1::timestamptz", datetime(2026, 11, 22))  # noqa: DTZ001 - the fault


# ---- transactions


async def _add_analyzer(connection: Connection, organization: UUID, name: str) -> None:
    await connection.execute(
        "insert into lab.analyzer (id, organization_id, name) values ($1, $2, $3)", uuid7(), organization, name
    )


async def _analyzers(database: Database, organization: Organization) -> list[str]:
    async with database.organization(organization.id) as connection:
        return [row["name"] for row in await connection.fetch("select name from lab.analyzer order by name")]


async def test_a_transaction_is_committed_at_its_end(database: Database, organization: Organization) -> None:
    async with database.transaction(organization.id) as connection:
        await _add_analyzer(connection, organization.id, "xn-1")
    assert await _analyzers(database, organization) == ["xn-1"]


async def test_a_transaction_that_raises_leaves_nothing(database: Database, organization: Organization) -> None:
    with pytest.raises(RuntimeError, match="ours"):
        async with database.transaction(organization.id) as connection:
            await _add_analyzer(connection, organization.id, "xn-1")
            raise RuntimeError("ours")
    assert await _analyzers(database, organization) == []


async def test_a_cancelled_transaction_leaves_nothing_and_the_pool_goes_on(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    inside: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def hang() -> None:
        async with database.transaction(organization.id) as connection:
            await _add_analyzer(connection, organization.id, "xn-1")
            inside.set_result(await connection.fetchval("select pg_backend_pid()"))
            await connection.execute("select pg_sleep(100)")

    task = asyncio.create_task(hang())
    pid = await inside
    # A cancel request that comes before the statement it means cancels nothing (PostgreSQL, protocol flow).
    while await owner.fetchval("select wait_event from pg_stat_activity where pid = $1", pid) != "PgSleep":
        pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _analyzers(database, organization) == []


async def _cut(owner: Connection, connection: Connection) -> None:
    """End the server's side of a connection and wait until it is gone."""
    pid = await connection.fetchval("select pg_backend_pid()")
    assert await owner.fetchval("select pg_terminate_backend($1, 5000)", pid)


async def test_a_connection_lost_before_the_commit_certainly_stored_nothing(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    with pytest.raises(StoreUnavailable):
        async with database.transaction(organization.id) as connection:
            await _add_analyzer(connection, organization.id, "xn-1")
            await _cut(owner, connection)
            await connection.execute("select 1")
    assert await _analyzers(database, organization) == []


async def test_a_connection_lost_in_a_commit_leaves_it_open_what_was_stored(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    with pytest.raises(StoreAmbiguous):
        async with database.transaction(organization.id) as connection:
            await _add_analyzer(connection, organization.id, "xn-1")
            await _cut(owner, connection)
    assert await _analyzers(database, organization) == []  # and the pool has a new connection


async def test_a_single_statement_that_is_lost_is_ambiguous(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    with pytest.raises(StoreAmbiguous):
        async with database.organization(organization.id) as connection:
            await _cut(owner, connection)
            await connection.execute("select 1")


# ---- the session


async def test_a_released_connection_returns_to_its_organization(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        await connection.execute("select set_config('labora.org', $1, false)", str(other_organization.id))
    pool = await database.pool(organization.id)
    async with pool.acquire() as connection:
        assert await connection.fetchval("select current_setting('labora.org')") == str(organization.id)


async def test_a_statement_at_once_acts_for_its_organization_and_reads_by_index(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    for one in (organization, other_organization):
        for use in (database.at_once, database.by_index):
            async with use(one.id) as connection:
                assert await connection.fetchval("select name from lab.organization") == one.name
                assert await connection.fetchval("select current_user") == APP_ROLE
                assert await connection.fetchval("show plan_cache_mode") == "force_generic_plan"
                assert await connection.fetchval("show enable_seqscan") == "off"


def _faults(pid: int) -> int:
    """How many pages a process has been given."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


async def test_a_connection_for_work_by_index_keeps_what_a_statement_took(
    database: Database, organization: Organization
) -> None:
    async with database.by_index(organization.id) as connection:
        faults = []
        for _ in range(4):
            await connection.fetchval("select cardinality($1::text[])", ["x"] * 200_000)  # some 8 MB there
            faults.append(_faults(connection.get_server_pid()))
        assert faults[-1] - faults[-2] < 300, "pages were taken anew; it were 700"


async def test_work_by_index_is_one_transaction(database: Database, organization: Organization) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.by_index(organization.id) as connection:
            await connection.execute(
                "insert into lab.counter (organization_id, name) values ($1, 'x')", organization.id
            )
            raise ZeroDivisionError
    async with database.by_index(organization.id) as connection:
        assert await connection.fetchval("select count(*) from lab.counter where name = 'x'") == 0


async def test_a_dedicated_connection_acts_for_its_organization(database: Database, organization: Organization) -> None:
    connection = await database.dedicated(organization.id)
    try:
        assert await connection.fetchval("select name from lab.organization") == organization.name
        assert await connection.fetchval("select current_user") == APP_ROLE
    finally:
        await connection.close()


async def test_reset_role_stays_the_application_whoever_logged_in(database_url: str) -> None:
    connection = await open_connection(owner_of(database_url), role=APP_ROLE)
    try:
        await connection.execute("reset role")
        await connection.execute("reset all")
        assert await connection.fetchval("select current_user") == APP_ROLE
        assert await connection.fetchval("show timezone") == "UTC"
    finally:
        await connection.close()


async def test_an_organization_is_found_by_its_exact_name_only(database: Database, organization: Organization) -> None:
    assert await database.find_organization(organization.name) == organization.id
    assert await database.find_organization(organization.name[:-1]) is None
    async with database.system() as connection:
        assert await connection.fetch("select id from lab.organization") == []


# ---- what an administrator is told


async def test_an_unreachable_server_is_unavailable_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await open_connection(f"postgresql:///labora?host={tmp_path}&user=labora_app")


async def test_a_server_that_does_not_answer_is_said_not_to(
    empty_state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interface.store.db.CONNECT_TIMEOUT_S", 0.02)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_unix_server(silence, empty_state_dir / ".s.PGSQL.5432")
    url = f"postgresql:///labora?host={empty_state_dir}&user=labora_app"
    async with silent:
        with pytest.raises(StoreUnavailable, match=r"cannot be reached: no answer in time$"):
            await open_connection(url)
        database = Database(url)
        with pytest.raises(StoreUnavailable, match=r"cannot be reached: no answer in time$"):
            async with database.system():
                pass
        await database.close()


async def test_an_unknown_database_is_a_configuration_fault_at_once(database_url: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.url: .*does not exist"):
        await Database.connect(database_url.replace("postgresql:///", "postgresql:///no_"))


async def test_a_missing_application_role_names_the_command(database_url: str) -> None:
    with pytest.raises(ConfigError, match="labora db upgrade"):
        await Database.connect(database_url, role="no_such_role")


async def test_a_login_that_may_not_act_as_the_application_is_told_what_to_grant(database_url: str) -> None:
    with pytest.raises(ConfigError, match=f"grant {OWNER_ROLE} to"):
        await Database.connect(database_url, role=OWNER_ROLE)


async def test_a_bad_url_never_repeats_its_password() -> None:
    with pytest.raises(ConfigError) as raised:
        await Database.connect("postgresql://labora:hidden/word@127.0.0.1/labora")
    assert "hidden" not in str(raised.value)


async def test_a_closed_database_is_unavailable(database_url: str) -> None:
    database = await Database.connect(database_url)
    await database.close()
    with pytest.raises(StoreUnavailable):
        async with database.system():
            pass


@pytest.mark.parametrize(
    ("setting", "word"), [("off", "synchronous_commit is off"), ("local", "synchronous_commit is local")]
)
async def test_commits_that_do_not_wait_for_the_disk_are_refused(database_url: str, setting: str, word: str) -> None:
    owner = await asyncpg.connect(owner_of(database_url))
    try:
        name = await owner.fetchval("select current_database()")
        await owner.execute(f"alter database {name} set synchronous_commit = {setting}")
    finally:
        await owner.close()
    database = await Database.connect(database_url)
    try:
        async with database.system() as connection:
            with pytest.raises(ConfigError, match=word):
                await check_server(connection)
    finally:
        await database.close()


async def test_a_role_above_row_level_security_is_refused(database_url: str) -> None:
    connection = await open_connection(owner_of(database_url))
    try:
        with pytest.raises(ConfigError, match="above row-level security"):
            await check_server(connection)
    finally:
        await connection.close()


async def test_a_good_server_passes(database: Database) -> None:
    async with database.system() as connection:
        await check_server(connection)
        assert await connection.fetchval("select current_user") == APP_ROLE


async def test_many_organizations_do_not_keep_connections_from_one_another(
    database_url: str, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    database = await Database.connect(database_url)
    name = urlsplit(database_url).path.lstrip("/")
    try:
        for _ in range(40):
            async with database.organization(uuid7()) as connection:
                assert await connection.fetchval("select count(*) from lab.patient") == 0
        open_now = await owner.fetchval("select count(*) from pg_stat_activity where datname = $1", name)
        assert open_now <= MOST_POOLS + 3  # a server process or two may still be on its way out
    finally:
        await database.close()


async def test_many_organizations_at_once_do_not_close_each_others_connections(database_url: str) -> None:
    database = await Database.connect(database_url)
    organizations = [uuid7() for _ in range(MOST_POOLS)]

    async def asked(organization_id: UUID, at_once: bool) -> str:
        within = database.at_once if at_once else database.organization
        async with within(organization_id) as connection:
            return str(await connection.fetchval("select current_setting('labora.org')"))

    try:
        for _ in range(3):
            both = [(each, at_once) for each in organizations for at_once in (True, False)]
            assert await asyncio.gather(*(asked(*one) for one in both)) == [str(each) for each, _ in both]
    finally:
        await database.close()


async def test_a_connection_nobody_waits_for_any_more_is_not_left_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while it is being prepared, by `open_connection` or for a pool."""
    made: list[Connection] = []
    at_work = asyncio.Event()

    async def hangs(connection: Connection) -> None:
        made.append(connection)
        at_work.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("interface.store.db.travel", hangs)
    database = Database(database_url)

    async def of_a_pool() -> None:
        async with database.system():
            raise AssertionError("it is never ready")

    for wait in (open_connection(database_url, role=APP_ROLE), of_a_pool()):
        at_work.clear()
        task = asyncio.ensure_future(wait)
        await at_work.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await database.close()
    assert len(made) == 2 and all(connection.is_closed() for connection in made)

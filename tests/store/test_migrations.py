"""The migrations, the metadata and the program agree, whoever logs in to upgrade."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from interface.domain.identity import natural_key
from interface.domain.model import Observed, ObservedSpecimen
from interface.domain.values import parse_value
from interface.errors import ConfigError
from interface.settings import DatabaseSettings, Settings, packaged
from interface.store import migrate
from interface.store.db import Database, open_connection
from interface.store.embedded import open_database, opened_database
from interface.store.ids import uuid7
from interface.store.programs import choose_programs, reachable, server_account
from interface.store.schema import APP_ROLE, APPEND_ONLY, DELETABLE, PARTITIONED, SCHEMA, WITHOUT_ROW_SECURITY
from interface.store.tables import metadata
from interface.store.upkeep import prune_wire_log
from interface.wire.wirelog import Came, Noted, What, decode
from tests.cluster import new_state_dir, owner_of


def _ours(item: Any, name: str | None, kind: str, reflected: bool, _compared: Any) -> bool:
    """Leave out partitions (they differ by date) and Alembic's own table."""
    table = str(name) if kind == "table" else str(item.table.name) if hasattr(item, "table") else ""
    partition = any(table.startswith(f"{parent}_") and table != parent for parent in PARTITIONED)
    return not (reflected and (partition or table == "alembic_version"))


def _differences(connection: SyncConnection) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "compare_server_default": True,
            "include_schemas": True,
            "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
            "include_object": _ours,
        },
    )
    return list(compare_metadata(context, metadata))


async def _compare(url: str) -> list[Any]:
    async def connect(*_args: Any, **_kwargs: Any) -> Any:
        return await asyncpg.connect(url)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_differences)
    finally:
        await engine.dispose()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


# ---- the migrations say what the metadata says


async def test_the_migrated_schema_is_the_one_the_program_was_written_for(database_url: str) -> None:
    assert await _compare(owner_of(database_url)) == []


# What changes the schema, and what of it the comparison then names.
FAULTS = {
    "alter table lab.patient drop column sex cascade": r"add_column.*'sex'",
    "alter table lab.patient add column hidden text": r"remove_column.*'hidden'",
    "alter table lab.frame alter column fn type integer": r"modify_type.*'fn'",
    "alter table lab.patient alter column active set default false": r"modify_default.*'active'",
    "drop index lab.result_held_idx": r"add_index.*'result_held_idx'",
    "alter table lab.client drop constraint client_organization_id_name_key": r"add_constraint.*'name'",
    "alter table lab.specimen drop constraint specimen_order_id_fkey": r"add_fk.*'order_id'",
}


async def test_the_comparison_finds_each_planted_difference(database_url: str) -> None:
    for fault in FAULTS:
        await _execute(owner_of(database_url), fault)
    found = [repr(one) for one in await _compare(owner_of(database_url))]
    assert [fault for fault, named in FAULTS.items() if not any(re.search(named, one) for one in found)] == [], found


def test_the_revisions_are_alembics() -> None:
    config = Config()
    config.set_main_option("script_location", str(packaged("migrations")))
    scripts = ScriptDirectory.from_config(config)
    assert list(migrate.revisions()) == [each.revision for each in scripts.walk_revisions()][::-1]
    assert scripts.get_heads() == [migrate.revisions()[-1]]


def test_a_migration_is_frozen() -> None:
    for path in (packaged("migrations") / "versions").glob("*.py"):
        assert "interface" not in path.read_text(), f"{path.name} depends on what may change"


async def test_the_grants_are_those_the_metadata_promises(owner: asyncpg.Connection[asyncpg.Record]) -> None:
    for name in (table.name for table in metadata.sorted_tables):
        rights = {
            right: await owner.fetchval("select has_table_privilege('labora_app', $1, $2)", f"{SCHEMA}.{name}", right)
            for right in ("select", "insert", "update", "delete", "truncate", "references", "trigger")
        }
        allowed = {right for right, has in rights.items() if has}
        expected = {"select", "insert"}
        expected |= set() if name in APPEND_ONLY else {"update"}
        expected |= {"delete"} if name in DELETABLE else set()
        assert allowed == expected, name
    assert set(PARTITIONED) | APPEND_ONLY | DELETABLE | WITHOUT_ROW_SECURITY <= {t.name for t in metadata.sorted_tables}


# ---- upgrading


async def test_an_upgrade_is_applied_once_even_by_two_at_a_time(empty_url: str) -> None:
    program = (
        "import asyncio, sys; from interface.store.migrate import upgrade; print(asyncio.run(upgrade(sys.argv[1])))"
    )
    both = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, empty_url, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [(await each.communicate())[0].decode().strip() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert sorted(said) == sorted([str(list(migrate.revisions())), "[]"])
    assert await migrate.upgrade(empty_url) == []


async def test_the_status_before_and_after(empty_url: str) -> None:
    before = await migrate.status(empty_url)
    assert (before.current, before.pending) == (None, migrate.revisions())
    await migrate.upgrade(empty_url)
    after = await migrate.status(empty_url)
    assert (after.current, after.pending, after.newer) == (after.head, (), False)


async def test_a_database_that_is_newer_is_refused_everywhere(database_url: str) -> None:
    await _execute(owner_of(database_url), "update lab.alembic_version set version_num = '9999'")
    connection = await open_connection(database_url, role=APP_ROLE)
    try:
        with pytest.raises(ConfigError, match=r"\(9999\) is newer than this program's"):
            await migrate.gate(connection)
    finally:
        await connection.close()
    with pytest.raises(ConfigError, match="newer"):
        await migrate.upgrade(owner_of(database_url))


async def test_a_database_that_is_older_is_refused_and_names_the_command(database_url: str) -> None:
    await _execute(owner_of(database_url), "update lab.alembic_version set version_num = '0000'")
    connection = await open_connection(database_url, role=APP_ROLE)
    try:
        with pytest.raises(ConfigError, match=r"older than this program's .* run `labora db upgrade`"):
            await migrate.gate(connection)
    finally:
        await connection.close()


async def test_the_current_schema_passes_the_gate(database: Database) -> None:
    async with database.system() as connection:
        await migrate.gate(connection)


async def test_refused_bytes_of_an_earlier_version_are_found_in_the_wire_log(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "TARGET", "0001")
    await migrate.upgrade(empty_url)
    refused = {b"\x02garbage": "checksum", b"": "empty", b"\xff" * 4096: "skipped", b"x" * 127: "", b"y" * 128: "gap"}
    connection = await open_connection(empty_url)
    await connection.execute(
        """insert into lab.organization (id, name) values (gen_random_uuid(), 'main');
           insert into lab.analyzer (id, organization_id, name) select gen_random_uuid(), id, 'a' from lab.organization;
           insert into lab.link (id, organization_id, name, analyzer_id, driver, role)
               select gen_random_uuid(), organization_id, 'l', id, 'd', 'analyzer' from lab.analyzer"""
    )
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    for data, reason in refused.items():
        await connection.execute(
            """insert into lab.rejected_frame (id, organization_id, link_id, reason, bytes, received_at)
               select gen_random_uuid(), organization_id, id, $1, $2, $3 from lab.link""",
            reason, data, at,
        )  # fmt: skip
    monkeypatch.undo()
    assert await migrate.upgrade(empty_url) == list(migrate.revisions()[1:])
    rows = await connection.fetch("select w.*, l.name from lab.wire_log w join lab.link l on l.id = w.link_id")
    await connection.close()
    found = {tuple(decode(row["events"])) for row in rows}
    assert found == {(Came(at, data), Noted(at, What.REFUSED, reason, len(data))) for data, reason in refused.items()}
    assert all((row["name"], row["ended_at"], row["bytes"]) == ("l", at, len(row["events"])) for row in rows)


async def test_intervals_of_an_earlier_version_were_valid_ever_since_unless_they_followed_others(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A specimen collected before the catalogue was loaded still has its interval."""
    monkeypatch.setattr(migrate, "TARGET", "0009")
    await migrate.upgrade(empty_url)
    connection = await open_connection(empty_url)
    await connection.execute(
        """insert into lab.organization (id, name) values (gen_random_uuid(), 'main');
           insert into lab.test (id, organization_id, code, name, kind)
               select gen_random_uuid(), id, code, code, 'numeric' from lab.organization, unnest('{A,B}'::text[]) code;
           insert into lab.reference_interval (id, organization_id, test_id, text, valid_to)
               select gen_random_uuid(), organization_id, id, 'new', null from lab.test
               union all select gen_random_uuid(), organization_id, id, 'old', now() from lab.test where code = 'B'"""
    )
    monkeypatch.undo()
    await migrate.upgrade(empty_url)
    rows = await connection.fetch(
        """select t.code, i.text, i.valid_from is null as ever, i.use from lab.reference_interval i
             join lab.test t on t.id = i.test_id order by t.code, i.text"""
    )
    await connection.close()
    assert [tuple(row) for row in rows] == [
        ("A", "new", True, "both"), ("B", "new", False, "both"), ("B", "old", False, "both"),
    ]  # fmt: skip


async def test_results_of_an_earlier_version_are_found_by_the_keys_that_are_made_now(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "TARGET", "0021")
    await migrate.upgrade(empty_url)
    connection = await open_connection(empty_url)
    analyzer = str(uuid7())
    ids = ("S1", "", "20261126-0001-7", "µ" * 6 + "x", "\U0001f9ea" * 4)
    now = {of: natural_key(analyzer, ObservedSpecimen(specimen_id=of), Observed("K", parse_value("4"))) for of in ids}
    other = b"\1" * 24  # of a calculated result
    await connection.execute("insert into lab.organization (id, name) values (gen_random_uuid(), 'main')")
    before = [(of, b"\2" * 8 + key[12:], "analyzer") for of, key in now.items()]
    for of, key, origin in [*before, ("S1", other, "calculation")]:
        await connection.execute(
            """with v as (insert into lab.result_version (id, organization_id, result_id, status, kind, actor_kind,
                                                          specimen_as_sent)
                          select gen_random_uuid(), id, gen_random_uuid(), 'final', 'numeric', 'link', $1
                          from lab.organization returning *)
               insert into lab.result (id, organization_id, natural_key, version_id, status, origin)
               select result_id, organization_id, $2, id, 'final', $3 from v""",
            of, key, origin,
        )  # fmt: skip
    monkeypatch.undo()
    await migrate.upgrade(empty_url)
    rows = await connection.fetch("select natural_key from lab.result")
    await connection.close()
    assert {row["natural_key"] for row in rows} == {*now.values(), other}


async def test_versions_of_an_earlier_version_are_explained_as_they_were(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "TARGET", "0037")
    await migrate.upgrade(empty_url)
    connection = await open_connection(empty_url)
    version, other, part = uuid7(), uuid7(), uuid7()
    steps = '{"step":"decode","verdict":"ok","text":"read"}'
    for organization_id, of in ((uuid7(), version), (uuid7(), other)):
        await connection.execute(
            """with o as (insert into lab.organization (id, name) values ($1, gen_random_uuid()) returning id),
                    v as (insert into lab.result_version (id, organization_id, result_id, status, kind, actor_kind)
                          select $2, id, gen_random_uuid(), 'final', 'numeric', 'link' from o),
                    e as (insert into lab.explanation (organization_id, id, steps) select id, $3, $4 from o)
               insert into lab.decision (result_version_id, organization_id, steps, driver_revision, map_revision)
               select $2, id, $5, 'xn 2', 3 from o""",
            organization_id, of, part, steps, f'["{part}",{{"step":"release","verdict":"ok","text":"{of}"}}]',
        )  # fmt: skip
        await connection.execute("select set_config('labora.org', $1, false)", str(organization_id))
    monkeypatch.undo()
    await migrate.upgrade(empty_url)
    await connection.execute("set role labora_app")
    said = "select result_version_id, lab.explained(steps)::json, driver_revision, map_revision from lab.decision"
    rows = await connection.fetch(said)
    await connection.close()
    assert [(id, [one["step"] for one in steps], *more) for id, steps, *more in rows] == [
        (other, ["decode", "release"], "xn 2", 3)
    ], "as they were, and only one's own"


async def test_of_what_was_there_before_no_method_is_known(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "TARGET", "0040")
    await migrate.upgrade(empty_url)
    connection = await open_connection(empty_url)
    await connection.execute(
        """with o as (insert into lab.organization (id, name) values ($1, 'one') returning id),
                m as (insert into lab.code_map (id, organization_id, driver, code, origin)
                      select $1, id, 'd', '1', 'site' from o)
           insert into lab.result_version (id, organization_id, result_id, status, kind, actor_kind)
           select $1, id, $1, 'final', 'numeric', 'link' from o""",
        uuid7(),
    )
    monkeypatch.undo()
    await migrate.upgrade(empty_url)
    said = await connection.fetch("select m.method, v.method from lab.code_map m, lab.result_version v")
    await connection.close()
    assert [tuple(row) for row in said] == [("", "")]


async def test_laboratories_analyzers_and_subscriptions_of_before_have_the_version_that_they_were_at(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "TARGET", "0042")
    await migrate.upgrade(empty_url)
    connection = await open_connection(empty_url)
    ids = [uuid7(), uuid7()]
    made = datetime(2026, 1, 2, tzinfo=UTC)
    for id in ids:
        await connection.execute(
            """with o as (insert into lab.organization (id, name, title, created_at) values ($1, $2, 'Title', $3)
                          returning id),
                    r as (insert into lab.driver_revision (organization_id, driver, revision, digest, manifest,
                                                           first_used_at)
                          select id, 'd', n::text, '', format('driver = {vendor = "V", model = "M%s"}', n),
                                 $3 + n * interval '1 day' from o, generate_series(1, 2) n),
                    a as (insert into lab.analyzer (id, organization_id, name, driver, serial, created_at)
                          select case when n = 1 then id else gen_random_uuid() end, id, 'a' || n,
                                 case n when 1 then 'd' else '' end, 'S', $3 from o, generate_series(1, 2) n),
                    c as (insert into lab.client (id, organization_id, name, secret_hash) select id, id, 'c', '' from o
                          returning id)
               insert into lab.subscription (id, organization_id, client_id, status, resource, criteria, endpoint,
                                             headers, version, updated_at)
               select id, id, id, 'active', 'Patient', 'Patient', 'https://emr', '{"Authorization: s3cret"}', 7, $3
                 from c""",
            id, str(id), made,
        )  # fmt: skip
    monkeypatch.undo()
    await migrate.upgrade(empty_url)
    later = datetime(2026, 1, 4, tzinfo=UTC)  # when what it says of maker and model was first used
    shown = await connection.fetch("select name, manufacturer, model, updated_at from lab.analyzer order by name")
    assert {tuple(row) for row in shown} == {("a1", "V", "M2", later), ("a2", "", "", made)}
    rows = await connection.fetch(
        "select kind, version, updated_at, body::text from lab.record_version where record_id = $1 order by kind",
        ids[1],
    )
    assert [(row["kind"], row["version"], row["updated_at"]) for row in rows] == [
        ("analyzer", 1, later), ("organization", 1, made), ("subscription", 7, made)
    ]  # fmt: skip
    assert '["Authorization"]' in rows[2]["body"] and "s3cret" not in rows[2]["body"]
    await _change_as_owner_and_as_application(connection, ids)
    await connection.close()


async def _change_as_owner_and_as_application(connection: Any, ids: list[Any]) -> None:
    """Who administers the database acts for no organization, and changes any; the application its own only."""
    await connection.execute("set role labora_owner")
    await connection.execute("update lab.organization set title = 'New' where id = any($1::uuid[])", ids)
    await connection.execute("set role labora_app")
    for id in ids:
        await connection.execute("select set_config('labora.org', $1, false)", str(id))
        await connection.execute("update lab.subscription set criteria = 'Patient?name=x'")
        rows = await connection.fetch(
            "select kind, organization_id, version, body ->> 'title' from lab.record_version where version in (2, 8)"
            " order by kind"
        )
        assert [tuple(row) for row in rows] == [("organization", id, 2, "New"), ("subscription", id, 8, None)]


# ---- a server of the laboratory's own, as it comes: nothing of ours is there


@pytest.fixture(scope="module")
async def foreign_server() -> AsyncIterator[str]:
    """The URL, less database and user, of a server with the superuser `bench` and trust for all."""
    state = new_state_dir()
    account = server_account(state / "data")
    programs = reachable(choose_programs(state / "data", None), state, account)
    state.chmod(0o755)
    for folder in (state / "data", state / "run"):
        folder.mkdir(mode=0o700)
        account.take(folder)
    as_account: dict[str, Any] = {
        **account.popen(),
        "cwd": "/",
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    initdb = [
        programs.path("initdb"),
        "-D",
        str(state / "data"),
        "-U",
        "bench",
        "-E",
        "UTF8",
        "--locale=C",
        "-A",
        "trust",
    ]
    await asyncio.to_thread(lambda: subprocess.run([*initdb, "--no-sync"], **as_account, check=True))
    settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={state / 'run'}"]
    command = [programs.path("postgres"), "-D", str(state / "data"), *settings]
    server = subprocess.Popen(command, **as_account)  # noqa: ASYNC220 - ours to end, not the loop's
    url = f"postgresql:///{{database}}?host={quote(str(state / 'run'), safe='/')}&user={{user}}"
    try:
        connection = await open_connection(url.format(database="postgres", user="bench"), wait_s=30)
        await connection.close()
        yield url
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(state, ignore_errors=True)


async def test_a_foreign_server_is_taken_as_it_is_by_each_kind_of_login(
    foreign_server: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = foreign_server.format(database="postgres", user="bench")
    await _execute(root, "create role plain login")
    await _execute(root, "create role maker login createrole")
    for name in ("by_plain", "by_maker", "by_superuser"):
        await _execute(root, f"create database {name}")

    def settings(database: str, user: str) -> Settings:
        url = foreign_server.format(database=database, user=user)
        return Settings(state_dir=state_dir, database=DatabaseSettings(url=url))

    # A login without rights is told the command that somebody with rights must run.
    with pytest.raises(ConfigError, match="has no Labora schema; run `labora db upgrade`"):
        await open_database(settings("by_plain", "plain"))
    with pytest.raises(ConfigError, match=r"may not upgrade the schema .* create role labora_owner"):
        await migrate.upgrade(foreign_server.format(database="by_plain", user="plain"))

    # One that may create roles and schemas does it all by itself.
    await _execute(root, "grant create on database by_maker to maker")
    await _use(settings("by_maker", "maker"))

    # So does a superuser, who nevertheless acts as the application.
    await _use(settings("by_superuser", "bench"))

    await _prune(foreign_server.format(database="by_maker", user="bench"), settings("by_maker", "maker"))

    # After that, a plain login needs to be a member of the application role only.
    with pytest.raises(ConfigError, match="grant labora_app to"):
        await open_database(settings("by_superuser", "plain"))
    await _execute(root, "grant labora_app to plain")
    await _use(settings("by_superuser", "plain"))

    await _execute(root, "create database specimens")
    await _upgrade_specimens(foreign_server.format(database="specimens", user="bench"), monkeypatch)


async def _upgrade_specimens(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an earlier version are where their times and status say, of every organization, though the owner, who is
    no superuser here, is held to row-level security."""
    monkeypatch.setattr(migrate, "TARGET", "0008")
    await migrate.upgrade(url)
    connection = await open_connection(url)
    await connection.execute(
        """insert into lab.organization (id, name) values (gen_random_uuid(), 'main'), (gen_random_uuid(), 'second');
           insert into lab.specimen (id, organization_id, barcode, status, collected_at, received_at)
               select gen_random_uuid(), o.id, barcode, status, collected, received
               from lab.organization o, (values ('expected', 'available', null, null),
                   ('collected', 'available', '0001-01-01 00:00+07', null), ('received', 'available', null, now()),
                   ('exhausted', 'unavailable', now(), now()), ('rejected', 'rejected', now(), null)
               ) as s (barcode, status, collected, received)"""
    )
    await connection.close()  # the server ends when nobody is connected
    monkeypatch.undo()
    await migrate.upgrade(url)
    connection = await open_connection(url)
    rows = await connection.fetch("select barcode, state, status, collected_at, version from lab.specimen")
    kept = await connection.fetch("select body from lab.record_version where version = 2")
    await connection.close()
    assert len(rows) == 10
    assert all(row["state"] == row["barcode"] for row in rows)
    collected = [(row["collected_at"], row["version"]) for row in rows if row["state"] == "collected"]
    assert collected == [(None, 2), (None, 2)], "what nobody can read is not known"
    assert [row["body"]["collected_at"] for row in kept] == [None, None]
    assert {row["status"] for row in rows if row["state"] == "rejected"} == {"unsatisfactory"}


async def _prune(root: str, settings: Settings) -> None:
    """The owner, who is no superuser here, is held to row-level security and prunes all the same."""
    await _execute(
        root,
        """insert into lab.organization (id, name) values (gen_random_uuid(), 'a'), (gen_random_uuid(), 'b');
           insert into lab.analyzer (id, organization_id, name) select gen_random_uuid(), id, 'a' from lab.organization;
           insert into lab.link (id, organization_id, name, analyzer_id, driver, role)
               select gen_random_uuid(), organization_id, 'l', id, 'd', 'analyzer' from lab.analyzer;
           insert into lab.wire_log (id, organization_id, link_id, connection_id, began_at, ended_at, bytes, events)
               select gen_random_uuid(), organization_id, id, id, now(), now() + n * interval '1 s', 1000000, ''
               from lab.link, generate_series(1, 100) n""",
    )
    assert await prune_wire_log(settings, settings.database.url) == 2 * 40  # down to nine tenths of 64 MB each
    assert await prune_wire_log(settings, settings.database.url) == 0
    await _execute(
        root,
        "set session_replication_role = replica; delete from lab.wire_log; delete from lab.link;"
        " delete from lab.analyzer; delete from lab.organization",
    )


async def _use(settings: Settings) -> None:
    async with opened_database(settings) as database, database.system() as connection:
        assert await connection.fetchval("select current_user") == "labora_app"
        assert await connection.fetchval("select count(*) from lab.patient") == 0

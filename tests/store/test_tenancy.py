"""One laboratory never sees another's rows: a hostile client against every table of the schema."""

# ruff: noqa: S608 - the names put into statements are the schema's own

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, LargeBinary, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from interface.store.schema import APPEND_ONLY, DELETABLE, PARTITIONED, SCHEMA, WITHOUT_ROW_SECURITY
from interface.store.tables import metadata
from tests.conftest import Organization


@pytest.fixture
def database(own_database: Database) -> Database:
    """With pools of its own, which are the subject."""
    return own_database


TABLES = sorted(metadata.tables.values(), key=lambda table: table.name)
PROTECTED = [table for table in TABLES if table.name not in WITHOUT_ROW_SECURITY]


def names(tables: list[Table]) -> list[str]:
    return [table.name for table in tables]


def organization_column(table: Table) -> str:
    return "id" if table.name == "organization" else "organization_id"


def value_for(column: Column[Any], organization_id: UUID) -> object:
    """Something a column accepts; different each time, as keys need."""
    if column.name == organization_column(column.table):
        return organization_id
    kinds: list[tuple[type[Any], object]] = [
        (ARRAY, []), (JSON, {}), (Uuid, uuid7()), (Text, uuid4().hex), (LargeBinary, uuid4().bytes), (Boolean, True),
        (DateTime, datetime.now(UTC)), (Date, date(2026, 1, 1)), (BigInteger, 1), (Integer, 1), (Numeric, 1),
    ]  # fmt: skip
    return next(value for kind, value in kinds if isinstance(column.type, kind))


async def insert(connection: Connection, table: Table, organization_id: UUID) -> None:
    """One row of an organization, with what its columns demand."""
    columns = [each for each in table.columns if not each.nullable and each.server_default is None]
    places = ", ".join(f"${at}" for at in range(1, len(columns) + 1))
    await connection.execute(
        f"insert into {SCHEMA}.{table.name} ({', '.join(each.name for each in columns)}) values ({places})",
        *(value_for(each, organization_id) for each in columns),
    )


async def fill(owner: asyncpg.Connection[asyncpg.Record], *organizations: Organization) -> None:
    """A row of each organization in every table, foreign keys unchecked."""
    async with owner.transaction():
        await owner.execute("set local session_replication_role = replica")
        for organization in organizations:
            for table in TABLES:
                if table.name != "organization":
                    await insert(owner, table, organization.id)


@pytest.fixture
async def filled(
    owner: asyncpg.Connection[asyncpg.Record], organization: Organization, other_organization: Organization
) -> None:
    await fill(owner, organization, other_organization)


@pytest.mark.usefixtures("filled")
async def test_a_client_sees_only_its_own_rows_in_every_table(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        for table in PROTECTED:
            seen = await connection.fetch(f"select {organization_column(table)} as id from {SCHEMA}.{table.name}")
            assert {row["id"] for row in seen} == {organization.id}, table.name
            asked = await connection.fetchval(
                f"select count(*) from {SCHEMA}.{table.name} where {organization_column(table)} = $1",
                other_organization.id,
            )
            assert asked == 0, table.name


@pytest.mark.usefixtures("filled")
async def test_without_an_organization_no_table_has_a_row(database: Database) -> None:
    async with database.system() as connection:
        for table in PROTECTED:
            assert await connection.fetchval(f"select count(*) from {SCHEMA}.{table.name}") == 0, table.name


async def test_no_row_of_another_organization_can_be_inserted(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        for table in PROTECTED:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await insert(connection, table, uuid7() if table.name == "organization" else other_organization.id)


async def test_without_an_organization_nothing_can_be_inserted(database: Database, organization: Organization) -> None:
    async with database.system() as connection:
        for table in PROTECTED:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await insert(connection, table, organization.id)


@pytest.mark.usefixtures("filled")
async def test_another_organizations_rows_are_neither_changed_nor_taken_nor_given(
    database: Database,
    owner: asyncpg.Connection[asyncpg.Record],
    organization: Organization,
    other_organization: Organization,
) -> None:
    theirs = await _counted(owner, other_organization)
    async with database.organization(organization.id) as connection:
        for table in PROTECTED:
            if table.name in APPEND_ONLY:
                continue
            mine, name = organization_column(table), f"{SCHEMA}.{table.name}"
            taken = await connection.execute(
                f"update {name} set {mine} = $1 where {mine} = $2", organization.id, other_organization.id
            )
            assert taken == "UPDATE 0", table.name
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute(f"update {name} set {mine} = $1", other_organization.id)
    assert await _counted(owner, other_organization) == theirs
    assert min(theirs.values()) == 1


async def _counted(owner: asyncpg.Connection[asyncpg.Record], organization: Organization) -> dict[str, int]:
    """How many rows of each table are the organization's."""
    counted = {}
    for table in PROTECTED:
        text = f"select count(*) from {SCHEMA}.{table.name} where {organization_column(table)} = $1"
        counted[table.name] = await owner.fetchval(text, organization.id)
    return counted


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", sorted(APPEND_ONLY))
async def test_the_application_may_add_but_never_change(
    database: Database, organization: Organization, name: str
) -> None:
    async with database.organization(organization.id) as connection:
        for statement in (
            f"update {SCHEMA}.{name} set organization_id = organization_id",
            f"delete from {SCHEMA}.{name}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await connection.execute(statement)


@pytest.mark.parametrize("name", sorted(set(names(TABLES)) - DELETABLE))
async def test_the_application_deletes_only_from_the_queue(
    database: Database, organization: Organization, name: str
) -> None:
    async with database.organization(organization.id) as connection:
        for statement in (f"delete from {SCHEMA}.{name}", f"truncate {SCHEMA}.{name}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "set role labora_owner",
        "set role postgres",
        "set session authorization labora_owner",
        "alter table lab.patient disable row level security",
        "alter table lab.patient no force row level security",
        "drop policy organization on lab.patient",
        "create policy all_rows on lab.patient using (true)",
        "alter role labora_app bypassrls",
        "grant labora_owner to labora_app",
        "create table lab.mine (id int)",
        "create view lab.mine as select 1",
        "create function lab.mine() returns int language sql as 'select 1'",
        "select * from lab.frame_default",
        "select pg_read_file('postgresql.conf')",
        "copy lab.patient to '/tmp/patients'",
        "copy lab.patient to program 'cat'",
        "update lab.alembic_version set version_num = 'x'",
        "set session_replication_role = replica",
    ],
)
async def test_the_application_cannot_lift_its_limits(
    database: Database, organization: Organization, statement: str
) -> None:
    async with database.organization(organization.id) as connection:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
            await connection.execute(statement)


@pytest.mark.usefixtures("filled")
async def test_turning_row_security_off_gives_an_error_and_no_rows(
    database: Database, organization: Organization
) -> None:
    async with database.transaction(organization.id) as connection:
        await connection.execute("set local row_security = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.fetch("select * from lab.patient")


@pytest.mark.usefixtures("filled")
async def test_reset_leaves_the_application_in_its_role_and_organization(
    database: Database, organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        await connection.execute("reset role; reset session authorization; reset all")
        assert await connection.fetchval("select current_user") == "labora_app"
        assert {row["id"] for row in await connection.fetch("select id from lab.organization")} == {organization.id}


@pytest.mark.parametrize("value", ["", "not an id", "' or true --"])
@pytest.mark.usefixtures("filled")
async def test_an_absurd_organization_gives_an_error_or_no_rows(database: Database, value: str) -> None:
    async with database.system() as connection:
        await connection.execute("select set_config('labora.org', $1, false)", value)
        try:
            seen = await connection.fetch("select * from lab.patient")
        except asyncpg.InvalidTextRepresentationError:
            seen = []
        assert seen == []


async def test_every_table_but_the_queue_and_the_daemons_forces_row_security(
    owner: asyncpg.Connection[asyncpg.Record],
) -> None:
    found = await owner.fetch(
        "select c.relname as name, c.relrowsecurity as enabled, c.relforcerowsecurity as forced,"
        " c.relispartition as part, has_table_privilege('labora_app', c.oid, 'select') as readable,"
        " exists (select from pg_policy p where p.polrelid = c.oid) as policy, c.relowner::regrole::text as owner"
        " from pg_class c where c.relnamespace = 'lab'::regnamespace and c.relkind in ('r', 'p')"
        " and c.relname <> 'alembic_version'"
    )
    assert {row["name"] for row in found if not row["part"]} == set(names(TABLES))
    for row in found:
        assert row["owner"] == "labora_owner"
        if row["part"]:
            assert row["enabled"] and not row["readable"] and row["name"].startswith(tuple(PARTITIONED))
        elif row["name"] in WITHOUT_ROW_SECURITY:
            assert not row["enabled"]
        else:
            assert row["enabled"] and row["forced"] and row["policy"], row["name"]


def test_the_queue_names_no_patient() -> None:
    allowed = {"message_id", "organization_id", "lane", "priority", "attempts", "not_before"}
    assert {column.name for column in metadata.tables["lab.queue"].columns} == allowed


def test_a_daemon_is_of_no_laboratory() -> None:
    allowed = {"id", "name", "place", "roles", "version", "configuration", "lease_ms", "started_at", "beat", "ended_at",
               "ended_by", "gone_at"}  # fmt: skip
    assert {column.name for column in metadata.tables["lab.daemon"].columns} == allowed


async def test_every_reference_is_within_one_organization(owner: asyncpg.Connection[asyncpg.Record]) -> None:
    found = await owner.fetch(
        "select c.conrelid::regclass::text as source, c.confrelid::regclass::text as target,"
        " array(select attname::text from unnest(c.conkey) key, pg_attribute a"
        "       where a.attrelid = c.conrelid and a.attnum = key) as columns"
        " from pg_constraint c where c.contype = 'f' and c.connamespace = 'lab'::regnamespace"
    )
    assert len(found) > len(TABLES)
    for row in found:
        assert "organization_id" in row["columns"], f"{row['source']} refers to any organization's {row['target']}"


@pytest.mark.parametrize(
    "statement",
    [
        "insert into lab.patient_identifier (id, organization_id, patient_id, value) values ($1, $2, $3, 'x')",
        "insert into lab.lab_order (id, organization_id, number, patient_id) values ($1, $2, 'x', $3)",
        "insert into lab.specimen (id, organization_id, barcode, patient_id) values ($1, $2, 'x', $3)",
    ],
)
async def test_a_row_cannot_refer_to_another_organizations_patient(
    database: Database, organization: Organization, other_organization: Organization, statement: str
) -> None:
    """Being taken or not must not tell either whether the other organization has a row of that id."""
    theirs = uuid7()
    async with database.organization(other_organization.id) as connection:
        await connection.execute(
            "insert into lab.patient (id, organization_id) values ($1, $2)", theirs, other_organization.id
        )
    said = []
    async with database.organization(organization.id) as connection:
        for patient_id in (theirs, uuid7()):
            with pytest.raises(asyncpg.ForeignKeyViolationError) as refusal:
                await connection.execute(statement, uuid7(), organization.id, patient_id)
            said.append(refusal.value.constraint_name)
    assert said[0] == said[1]


async def test_no_organization_can_take_the_keys_of_anothers_link(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    """Whoever took them would make the other's messages resends, or hold its lease."""
    link_id = uuid7()
    async with database.organization(other_organization.id) as connection:
        analyzer_id = uuid7()
        await connection.execute(
            "insert into lab.analyzer (id, organization_id, name) values ($1, $2, 'a')",
            analyzer_id, other_organization.id,
        )  # fmt: skip
        await connection.execute(
            "insert into lab.link (id, organization_id, name, analyzer_id, driver, role)"
            " values ($1, $2, 'a', $3, 'generic_lis2', 'analyzer')",
            link_id, other_organization.id, analyzer_id,
        )  # fmt: skip
    key = """insert into lab.message_key (link_id, digest, organization_id, message_id, sealed_at)
             values ($1, '\\x00', $2, $1, now()) on conflict (organization_id, link_id, digest) do nothing"""
    async with database.organization(organization.id) as connection:
        assert await connection.execute(key, link_id, organization.id) == "INSERT 0 1"
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(key.partition("on conflict")[0], link_id, organization.id)
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute(
                "insert into lab.lease (id, link_id, organization_id) values ($1, $1, $2)", link_id, organization.id
            )
    async with database.organization(other_organization.id) as connection:
        assert await connection.execute(key, link_id, other_organization.id) == "INSERT 0 1", "its own, untouched"

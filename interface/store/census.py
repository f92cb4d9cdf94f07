"""How many rows each table has and what they say, in digests: two databases of the same content have the same census.

Who takes it sees every organization's rows, past row-level security: a superuser (the embedded server's owner is one),
or a login that may act as READER_ROLE. Digests do not depend on the order of rows and are made of their text, which is
the same on every server; MD5, for they are against damage: who wants to forge one has easier ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from interface.store.audit_chain import Head
from interface.store.db import Connection, database_problem
from interface.store.schema import READER_ROLE, SCHEMA

# Of what a row's text depends on.
_TEXTS: Final = (
    "set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; set local timezone = 'UTC';"
    " set local bytea_output = 'hex'; set local extra_float_digits = 1"
)
_TABLES: Final = f"""select relname from pg_class where relnamespace = '{SCHEMA}'::regnamespace
    and relkind in ('r', 'p') and not relispartition order by relname"""  # noqa: S608 - a constant
_COUNT: Final = """
select count(*) as rows, coalesce(sum(('x' || left(digest, 16))::bit(64)::bigint), 0)::text
    || ':' || coalesce(sum(('x' || right(digest, 16))::bit(64)::bigint), 0)::text as digest
from (select md5(t::text) as digest from {table} t) d
"""


@dataclass(frozen=True, slots=True)
class TableCount:
    """A table's rows, and the digest of all of them together."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Laboratory:
    """An organization, and the head of its audit trail; `unsealed`: audit rows that no segment has sealed yet."""

    id: UUID
    name: str
    audit_head: Head | None
    unsealed: int


async def reader_role(connection: Connection) -> str | None:
    """As whom this login sees every row: None as itself. Raises ConfigError, with what an administrator has to do."""
    found = await connection.fetchrow(
        """select r.rolsuper or r.rolbypassrls as above, current_user::text as login, exists (select from pg_roles
                where rolname = $1 and rolbypassrls and pg_has_role(current_user, oid, $2)) as may
             from pg_roles r where r.rolname = current_user""",
        READER_ROLE,
        "set" if connection.get_server_version().major >= 16 else "member",
    )
    if found is not None and found["above"]:
        return None
    if found is not None and found["may"]:
        return READER_ROLE
    raise database_problem(
        f"this login does not see every laboratory's rows, which a backup must; as a superuser: create role"
        f" {READER_ROLE} nologin bypassrls; grant pg_read_all_data to {READER_ROLE}; grant {READER_ROLE} to"
        f' "{found["login"] if found else "LOGIN"}";'
    )


async def census(connection: Connection) -> Mapping[str, TableCount]:
    """Every table's count, in the caller's transaction, whose snapshot it is of; partitions count with their table."""
    await connection.execute(_TEXTS)
    counted = {}
    for row in await connection.fetch(_TABLES):
        found = await connection.fetchrow(_COUNT.format(table=f'{SCHEMA}."{row["relname"]}"'))
        assert found is not None  # noqa: S101 - an aggregate gives one row
        counted[row["relname"]] = TableCount(found["rows"], found["digest"])
    return counted


async def laboratories(connection: Connection) -> tuple[Laboratory, ...]:
    """Every organization with its audit trail's head, by name."""
    rows = await connection.fetch(
        """select o.id, o.name, s.number, s.digest,
                  (select count(*) from lab.audit_event e where e.organization_id = o.id
                      and (e.position, e.id) >= (coalesce(s.ended_position, 0),
                          coalesce(s.ended_id, '00000000-0000-0000-0000-000000000000'))) as unsealed
             from lab.organization o
             left join lateral (select number, digest, ended_position, ended_id from lab.audit_segment a
                 where a.organization_id = o.id order by number desc limit 1) s on true
            order by o.name"""
    )
    return tuple(
        Laboratory(
            row["id"],
            row["name"],
            Head(row["number"], row["digest"]) if row["number"] is not None else None,
            row["unsealed"],
        )
        for row in rows
    )


def differences(expected: Mapping[str, TableCount], found: Mapping[str, TableCount]) -> tuple[str, ...]:
    """What two censuses differ in, a sentence each."""
    said = []
    for table in sorted(expected.keys() | found.keys()):
        before, after = expected.get(table), found.get(table)
        if before is None or after is None:
            said.append(f"{table}: {'is not in the manifest' if before is None else 'is missing'}")
        elif before.rows != after.rows:
            said.append(f"{table}: {before.rows} rows were backed up, {after.rows} came back")
        elif before.digest != after.digest:
            said.append(f"{table}: its {after.rows} rows say something else than those backed up")
    return tuple(said)

"""Whole databases of a server: their URLs, and making, renaming and dropping them.

A database that a restore replaced keeps waiting under its name with REPLACED and the instant, until somebody says that
it may go. One that is being restored has RESTORING: it is nobody's until it takes the place of the other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg

from interface.errors import BackupError
from interface.store.db import Connection, open_connection
from interface.store.migrate import BY_HAND
from interface.store.schema import APP_ROLE, OWNER_ROLE

MAINTENANCE: Final = "postgres"
RESTORING, REPLACED = "_restoring", "_replaced_"
_STAMP: Final = "%Y%m%dt%H%M%Sz"
_DATABASE_KEYS: Final = ("dbname", "database")
_HERE: Final = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Replaced:
    """A database that a restore took out of its place."""

    name: str
    at: datetime


def database_name(url: str) -> str:
    """The name of the database that a URL is of."""
    parts = urlsplit(url)
    named = [value for key, value in parse_qsl(parts.query) if key in _DATABASE_KEYS]
    return named[-1] if named else unquote(parts.path.lstrip("/"))


def with_database(url: str, name: str) -> str:
    """The same server and login, another database."""
    parts = urlsplit(url)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key not in _DATABASE_KEYS]
    encoded = f"?{urlencode(query, safe='/', quote_via=quote)}" if query else ""
    return f"{parts.scheme}://{parts.netloc}/{quote(name, safe='')}{encoded}"


def place(url: str) -> str:
    """Where a database is, as its URL says: server and name, without who logs in. This machine has several names."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    host = query.get("host") or parts.hostname or ""
    here = host.startswith("/") or host in _HERE
    return f"{'this machine' if here else host}:{query.get('port') or parts.port or 5432}/{database_name(url)}"


def for_programs(url: str) -> tuple[str, dict[str, str]]:
    """The URL as PostgreSQL's programs may be given it, where everybody sees it, and the environment they need, where
    a password goes."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    query = dict(parse_qsl(parts.query))
    password = query.pop("password", None) or (unquote(parts.password) if parts.password else None)
    environment = {key: value for key, value in os.environ.items() if key.startswith("PG") or key in ("HOME", "PATH")}
    environment |= {"LC_ALL": "C"} | ({"PGPASSWORD": password} if password else {})
    encoded = f"?{urlencode(query, safe='/', quote_via=quote)}" if query else ""
    return f"{parts.scheme}://{login.partition(':')[0]}{at}{host}{parts.path}{encoded}", environment


def replaced_name(name: str, at: datetime) -> str:
    """What the database is called while it waits; PostgreSQL's names have 63 bytes."""
    stamp = f"{REPLACED}{at.astimezone(UTC):{_STAMP}}"
    return name[: 63 - len(stamp)] + stamp


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def restoring_name(name: str) -> str:
    return name[: 63 - len(RESTORING)] + RESTORING


async def open_maintenance(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to the server beside its databases. Raises ConfigError, StoreUnavailable."""
    return await open_connection(with_database(url, MAINTENANCE))


async def exists(connection: Connection, name: str) -> bool:
    return bool(await connection.fetchval("select exists (select from pg_database where datname = $1)", name))


async def sessions(connection: Connection, name: str) -> int:
    """How many clients are connected to a database, beside the caller; the server's own, as autovacuum, give way."""
    found: int = await connection.fetchval(
        "select count(*) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid() "
        "and backend_type = 'client backend'",
        name,
    )
    return found


async def waiting(connection: Connection, name: str) -> tuple[Replaced, ...]:
    """The databases that restores took out of this one's place, the latest first."""
    found = []
    for row in await connection.fetch("select datname from pg_database where strpos(datname, $1) > 0", REPLACED):
        stem, _, stamp = row["datname"].rpartition(REPLACED)
        try:
            at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
        except ValueError:
            continue
        if row["datname"] == replaced_name(name, at) and stem:
            found.append(Replaced(row["datname"], at))
    return tuple(sorted(found, key=lambda one: one.at, reverse=True))


async def create(connection: Connection, name: str, like: str = "") -> None:
    """An empty database of the login's, in which the schema's owner may make the schema; `like`: one of whose locale it
    is to be, where there is that, else the server's own. Raises BackupError."""
    locale = await _locale(connection, like)
    try:
        await connection.execute(f"create database {_quoted(name)} template template0 encoding 'UTF8'{locale}")
        await connection.execute(f"grant create on database {_quoted(name)} to {OWNER_ROLE}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise BackupError(
            "this login may not create databases: as a superuser, alter role LOGIN createdb; or run this with an"
            " administrator's URL in LABORA_DATABASE_URL"
        ) from error


async def _locale(connection: Connection, like: str) -> str:
    """As another database has it. An index of texts keeps the order that the locale had when it was made, and upgrades
    of a system change that, but for C's: `scripts/install` makes a database of such a one, a restore leaves it so."""
    row = await connection.fetchrow(
        """select quote_literal(datcollate::text) as sorts, quote_literal(datctype::text) as letters from pg_database d
            where datname = $1 and coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'""",
        like,
    )
    if row is None:
        return ""
    provider = " locale_provider libc" if connection.get_server_version().major >= 15 else ""
    return f" lc_collate {row['sorts']} lc_ctype {row['letters']}{provider}"


async def drop(connection: Connection, name: str) -> None:
    """Drop a database, if it is there, whoever is connected to it."""
    await connection.execute(f"drop database if exists {_quoted(name)} with (force)")


async def rename(connection: Connection, names: Mapping[str, str]) -> None:
    """Rename databases, all of them or none. Raises BackupError where one is in use."""
    try:
        async with connection.transaction():  # unlike making or dropping one, renaming can be taken back
            for before, after in names.items():
                await connection.execute(f"alter database {_quoted(before)} rename to {_quoted(after)}")
    except asyncpg.ObjectInUseError as error:
        raise BackupError("the database is in use: stop the daemon, and whatever else is connected to it") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise BackupError(
            f"this login may not rename the database, which must be its own ({error.message}); run this with an"
            " administrator's URL in LABORA_DATABASE_URL"
        ) from error


async def make_roles(connection: Connection) -> None:
    """The two roles that a restored schema belongs to, where the server has never had one. Raises BackupError."""
    for role in (OWNER_ROLE, APP_ROLE):
        try:
            if not await connection.fetchval("select exists (select from pg_roles where rolname = $1)", role):
                await connection.execute(f"create role {role} nologin nosuperuser nobypassrls")
                await connection.execute(f"grant {role} to current_user")
        except asyncpg.InsufficientPrivilegeError as error:
            raise BackupError(f"the server has no role {role}, and this login may not make it; {BY_HAND}") from error

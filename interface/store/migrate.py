"""The schema's version: upgrade, status, and the gate that keeps a program and a database of different versions apart.

Alembic is imported only to upgrade; a daemon whose schema is current never pays for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog

from interface.errors import ConfigError, StoreUnavailable
from interface.settings import packaged
from interface.store import audit_chain, partitions
from interface.store.db import (
    CONNECT_TIMEOUT_S,
    START_WAIT_S,
    Connection,
    database_problem,
    open_connection,
    session_settings,
)
from interface.store.driver_errors import store_errors
from interface.store.schema import APP_ROLE, OWNER_ROLE, SCHEMA

BY_HAND = (
    f"as a superuser: create role {OWNER_ROLE} nologin; create role {APP_ROLE} nologin; "
    f"grant {OWNER_ROLE}, {APP_ROLE} to LOGIN; grant create on database DATABASE to {OWNER_ROLE}, LOGIN;"
)

TARGET = "head"
_log = structlog.get_logger(__name__)

_one_at_a_time = (
    asyncio.Lock()
)  # Alembic keeps its context in module globals; between processes the database's lock serves


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """`current`: the database's revision, None where there is no schema; `head`: this program's newest."""

    current: str | None
    head: str
    pending: tuple[str, ...]

    @property
    def newer(self) -> bool:
        """The database was upgraded by a later program."""
        return self.current is not None and self.current > self.head


def revisions() -> tuple[str, ...]:
    """All revisions in order; each file is named for its own (`0001_first.py`), and there are no branches."""
    return tuple(sorted(path.name.split("_")[0] for path in (packaged("migrations") / "versions").glob("[0-9]*_*.py")))


def _status(current: str | None) -> SchemaStatus:
    known = revisions()
    return SchemaStatus(current, known[-1], tuple(each for each in known if current is None or each > current))


async def _current(connection: Connection) -> str | None:
    """The revision the database says it has. The application role may read it; the login itself need not."""
    exists = await connection.fetchval(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = $1 and c.relname = 'alembic_version')",
        SCHEMA,
    )
    if not exists:
        return None
    async with connection.transaction():
        await connection.execute(f"set local role {APP_ROLE}")
        revision: str | None = await connection.fetchval(f"select version_num from {SCHEMA}.alembic_version")  # noqa: S608
        return revision


async def status(url: str) -> SchemaStatus:
    """What the database has and what this program needs. Raises ConfigError, StoreUnavailable."""
    connection = await open_connection(url, wait_s=START_WAIT_S)
    try:
        with store_errors():
            return _status(await _current(connection))
    except asyncpg.InsufficientPrivilegeError as error:
        raise database_problem(
            f"the login may not act as {APP_ROLE}: grant {APP_ROLE} to it ({error.message})"
        ) from error
    finally:
        await connection.close()


async def gate(connection: Connection) -> None:
    """Raise ConfigError unless the database's schema is exactly this program's."""
    try:
        with store_errors():
            found = _status(await _current(connection))
    except asyncpg.InsufficientPrivilegeError as error:
        raise database_problem(f"{APP_ROLE} may not read the schema's version ({error.message})") from error
    refusal = mismatch(found)
    if refusal is not None:
        raise refusal


def mismatch(found: SchemaStatus) -> ConfigError | None:
    """Why a database of this status cannot be used; None when it can."""
    if found.current is None:
        return database_problem("the database has no Labora schema; run `labora db upgrade`")
    if found.newer:
        return database_problem(
            f"the database's schema ({found.current}) is newer than this program's ({found.head}); "
            "install the newer program"
        )
    if found.pending:
        return database_problem(
            f"the database's schema ({found.current}) is older than this program's ({found.head}); "
            "run `labora db upgrade`"
        )
    return None


async def may_upgrade(url: str) -> bool:
    """Whether this login owns the schema, or may make it where there is none."""
    connection = await open_connection(url)
    try:
        return bool(
            await connection.fetchval(
                """
                select r.rolsuper
                    or coalesce((select pg_has_role(r.oid, o.oid, 'member') from pg_roles o where o.rolname = $1),
                                r.rolcreaterole)
                       and (exists (select from pg_namespace where nspname = $2)
                            or has_database_privilege(current_database(), 'create'))
                  from pg_roles r where r.rolname = current_user
                """,
                OWNER_ROLE,
                SCHEMA,
            )
        )
    finally:
        await connection.close()


async def has_organizations(url: str) -> bool:
    """Whether any organization exists; asked as the owner, since nobody else can see them all."""
    connection = await open_connection(url, role=OWNER_ROLE)
    try:
        with store_errors():
            return bool(await connection.fetchval("select exists (select from lab.organization)"))
    finally:
        await connection.close()


async def upgrade(url: str) -> list[str]:
    """Bring the schema to this program's revision in one transaction and make the partitions; returns what was applied.

    Raises ConfigError (this login may not; the database is newer) or StoreUnavailable.
    """
    found = await status(url)
    if found.newer:
        raise mismatch(found) or AssertionError("a newer schema is a mismatch")
    try:
        async with _one_at_a_time:
            applied = await _run_alembic(url) if found.pending else []
    except asyncpg.InsufficientPrivilegeError as error:
        raise database_problem(f"this login may not upgrade the schema ({error.message}); {BY_HAND}") from error
    await maintain(url)
    return applied


async def maintain(url: str) -> list[str]:
    """Make the partitions of the coming months; returns those newly made. The login must be the owner or a member."""
    connection = await open_connection(url)
    try:
        with store_errors():
            await _rebase(connection)
            return await partitions.ensure(connection, datetime.now(UTC))
    except asyncpg.InsufficientPrivilegeError as error:
        raise database_problem(
            f"this login may not make partitions: grant {OWNER_ROLE} to it ({error.message})"
        ) from error
    finally:
        await connection.close()


async def _rebase(connection: Connection) -> None:
    """Let audit rows follow on those of the server that the database came from, where this login may."""
    async with connection.transaction():
        if await connection.fetchval(
            "select to_regclass('lab.audit_segment') is not null and pg_has_role($1, 'member')", OWNER_ROLE
        ):
            await connection.execute(f"set local role {OWNER_ROLE}")
            if offset := await audit_chain.rebase(connection):
                _log.info("audit positions go on", action="audit.rebase", offset=offset)


async def _run_alembic(url: str) -> list[str]:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.engine import Connection as SyncConnection
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    applied: list[str] = []
    config = Config()
    config.set_main_option("script_location", str(packaged("migrations")).replace("%", "%%"))
    config.attributes["applied"] = applied

    def run(connection: SyncConnection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, TARGET)

    async def connect(*_args: Any, **_kwargs: Any) -> asyncpg.Connection[asyncpg.Record]:
        # the driver reads the URL itself, so that passfile, sockets and the environment mean what they mean everywhere
        return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, server_settings=session_settings(None))

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        if isinstance(cause, asyncpg.PostgresError):
            raise cause from error
        raise StoreUnavailable("the connection to the database was lost during the upgrade; run it again") from error
    finally:
        await engine.dispose()
    return applied

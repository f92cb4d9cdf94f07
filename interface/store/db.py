"""The way to PostgreSQL: connections that act for one organization, checks of the server.

Row-level security needs `labora.org` on the connection. A small pool per organization carries it as a start-up setting,
so that it costs no round trip and the pool's RESET ALL returns to it. A second, smaller one is for single statements
that somebody waits for (`at_once`): they change nothing of the session, so that nothing is reset after them. The
start-up setting `role` makes the application role the one that RESET ROLE returns to, whoever logged in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import orjson
import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from interface.errors import ConfigError, ConfigProblem, SchemaChanged, StoreUnavailable
from interface.store.driver_errors import DRIVER_ERRORS, store_errors
from interface.store.rows import know_arrays, microseconds, travel
from interface.store.schema import APP_ROLE

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

CONNECT_TIMEOUT_S: Final = 5.0
ACQUIRE_TIMEOUT_S: Final = 10.0
COMMAND_TIMEOUT_S: Final = 60.0
AT_ONCE_SIZE: Final = 4  # connections: more statements at the same time only take the processors from one another
MOST_POOLS: Final = 8  # kept with idle connections; a server has 100 connections for everybody
START_WAIT_S: Final = 8.0  # how long a server that is still starting is waited for
MINIMUM_SERVER: Final = 140000

# Planned once for each connection and by index: none of these statements has a reason to read a whole table, whatever
# the tables held at that moment.
_AT_ONCE: Final = {
    "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}  # fmt: skip
# Two indexes are never read for what one finds: where many organizations have little, the planner expects little of
# each, and would read all rows of a large one to have those of a person.
_BY_INDEX: Final = _AT_ONCE | {"enable_bitmapscan": "off"}
SEARCH_TIMEOUT_S: Final = 10.0  # a search that takes longer is stopped: it keeps everybody else from the database
LOCK_WAIT_S: Final = 5.0  # who searches behind somebody's lock asks for nothing too costly, and is told something else
ANSWER_S: Final = 12.0  # a server that has not answered what somebody waits for by then stands still
# A search is planned once, not over every partition anew for each value; it writes nothing. A page at random costs what
# the next one does: so it goes by an index also where a table has only a few pages of others' rows yet.
_SEARCH: Final = {
    "plan_cache_mode": "force_generic_plan", "default_transaction_read_only": "on", "random_page_cost": "1.1",
    "statement_timeout": str(int(SEARCH_TIMEOUT_S * 1000)), "lock_timeout": str(int(LOCK_WAIT_S * 1000)),
}  # fmt: skip


class Use(Enum):
    """What a pool's connections are for, and the settings that they have for it."""

    ANY = "any"
    AT_ONCE = "at once"
    SEARCH = "search"
    BY_INDEX = "by index"


_SETTINGS: Final[dict[Use, dict[str, str]]] = {
    Use.ANY: {}, Use.AT_ONCE: _AT_ONCE, Use.SEARCH: _SEARCH, Use.BY_INDEX: _BY_INDEX,
}  # fmt: skip

# What a statement of thousands of rows took the server's C library gives back, and takes again page by page: 5 % of
# what deciding costs there. Once it has freed a block of this size, it keeps so much (mallopt(3), M_MMAP_THRESHOLD).
_KEEP_MEMORY: Final = "select octet_length(repeat(repeat('x', 1024), 8 * 1024))"
_PG_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def database_problem(text: str) -> ConfigError:
    """A ConfigError of one sentence about the database."""
    return ConfigError([ConfigProblem("database.url", text)])


# ---- one connection --------------------------------------------------------------------------------------------------


def _encode_instant(value: datetime) -> tuple[int]:
    return (microseconds(value),)  # the driver would take one without a zone for local time without a word


def _decode_instant(value: tuple[int]) -> datetime:
    return _PG_EPOCH + value[0] * _MICROSECOND


def _encode_json(value: object) -> str:
    return orjson.dumps(value, default=str).decode()  # Decimal becomes its exact text, never a float


async def prepare(connection: Connection, first: str | None = None) -> None:
    """Set the codecs: json and jsonb as Python values (Decimal as text), timestamptz from aware datetimes only, rows as
    `rows.Columns` makes them. A connection that could not be prepared, for an error or because nobody waits for it any
    more, is cut: it is nobody's yet."""
    try:
        for json in ("json", "jsonb"):
            await connection.set_type_codec(
                json, schema="pg_catalog", encoder=_encode_json, decoder=orjson.loads, format="text"
            )
        await connection.set_type_codec(
            "timestamptz", schema="pg_catalog", encoder=_encode_instant, decoder=_decode_instant, format="tuple"
        )
        await travel(connection)
        know_arrays(connection)
        if first:
            await connection.fetchval(first)
    except BaseException:
        connection.terminate()
        raise


def application_name(daemon_id: UUID) -> str:
    """What a daemon's sessions are called, by which another ends them."""
    return f"labora {daemon_id}"


def session_settings(
    role: str | None, organization_id: UUID | None = None, daemon_id: UUID | None = None
) -> dict[str, str]:
    """The start-up settings of a session: these are what RESET returns to. `daemon_id`: see `store.leases`."""
    settings = {"application_name": "labora", "TimeZone": "UTC", "idle_in_transaction_session_timeout": "5min"}
    # Our statements read few rows each. Estimated dear (many partitions, a plan that is to use an index whatever it
    # costs), they would be compiled for longer than they run.
    settings["jit"] = "off"
    if role is not None:
        settings["role"] = role
    if organization_id is not None:
        settings["labora.org"] = str(organization_id)
    if daemon_id is not None:
        settings |= {"labora.daemon": str(daemon_id), "application_name": application_name(daemon_id)}
    return settings


def _refusal(error: Exception, role: str | None) -> ConfigError | None:
    """What an administrator must change before a connection can succeed; None when waiting may help."""
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return database_problem(f"{error}; create it first")
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):  # and its subclass, the wrong password
        return database_problem(f"the database server refused the login: {error}")
    if isinstance(error, asyncpg.InvalidParameterValueError) and role is not None:
        return database_problem(f"the role {role} does not exist; run `labora db upgrade`")
    if isinstance(error, asyncpg.InsufficientPrivilegeError) and role is not None:
        return database_problem(f"the login may not act as {role}; run `grant {role} to` that login ({error})")
    if isinstance(error, asyncpg.ClientConfigurationError):
        return database_problem(f"not a usable PostgreSQL URL: {error}")
    if isinstance(error, ValueError):  # its text may quote a piece of the password
        return database_problem("not a usable PostgreSQL URL")
    return None


def _reason(error: Exception) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


async def _reached(connect: Callable[[], Awaitable[_T]], role: str | None, wait_s: float) -> _T:
    """A connection. A server that cannot be reached is tried again for `wait_s`; a refused login is not.

    Raises ConfigError, StoreUnavailable.
    """
    try:
        async for attempt in AsyncRetrying(
            stop=stop_after_delay(wait_s),
            wait=wait_exponential(multiplier=0.05, max=1.0),
            retry=retry_if_exception_type((OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)),
            reraise=True,
        ):
            with attempt:
                connection = await connect()
    except (*DRIVER_ERRORS, ValueError) as error:
        refusal = _refusal(error, role)
        if refusal is not None:
            raise refusal from error
        raise StoreUnavailable(f"the database cannot be reached: {_reason(error)}") from error
    return connection


async def open_connection(
    url: str,
    *,
    role: str | None = None,
    organization_id: UUID | None = None,
    daemon_id: UUID | None = None,
    wait_s: float = 0.0,
) -> asyncpg.Connection[asyncpg.Record]:
    """One connection outside every pool, as `role` or as the login itself; the caller closes it.

    A server that cannot be reached is tried again for `wait_s`; a refused login is not.
    Raises ConfigError, StoreUnavailable.
    """
    settings = session_settings(role, organization_id, daemon_id)
    connection = await _reached(
        lambda: asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, server_settings=settings), role, wait_s
    )
    await prepare(connection)
    return connection


# ---- the pools -------------------------------------------------------------------------------------------------------

_Key: TypeAlias = tuple[UUID | None, Use]  # an organization, and what the pool is for


async def _as_it_is(connection: Connection) -> None:
    """What is done to a connection of `at_once` or `searching` between two users."""


class _Joined(NamedTuple):
    database: Database
    organization_id: UUID
    task: asyncio.Task[object] | None
    connection: Connection


_joined: ContextVar[_Joined | None] = ContextVar("joined", default=None)


class Database:
    """The application's connections: one small pool per organization, and one that belongs to none.

    Every context manager raises StoreUnavailable when no connection can be had, and StoreUnavailable or StoreAmbiguous
    when it is lost in use; constraint violations and programming errors pass as the driver raises them.
    """

    def __init__(self, url: str, role: str = APP_ROLE, pool_size: int = 8, daemon_id: UUID | None = None) -> None:
        """`daemon_id`: of the daemon that it is of, which others may end; then what it writes is refused."""
        self._url, self._role, self._pool_size, self._daemon_id = url, role, pool_size, daemon_id
        self._pools: dict[_Key, Pool] = {}  # least recently used first
        self._users: Counter[_Key] = Counter()
        self._served: set[UUID] = set()
        self._closed = False

    @property
    def url(self) -> str:
        """Where it is, for another process of ours. It may hold a password."""
        return self._url

    @classmethod
    async def connect(
        cls, url: str, *, role: str = APP_ROLE, pool_size: int = 8, daemon_id: UUID | None = None
    ) -> Database:
        """Reach the server (waiting a few seconds for one that starts) and make sure that `role` can be had.

        Raises ConfigError (bad URL, refused login, missing role or database) or StoreUnavailable.
        """
        made = cls(url, role, pool_size, daemon_id)
        async with made.reached(START_WAIT_S):
            return made

    @asynccontextmanager
    async def reached(self, wait_s: float) -> AsyncIterator[Connection]:
        """The first connection, for which a server that starts is waited for: as `system`, which has it afterwards.
        Closed where that or the block raises. Raises ConfigError, StoreUnavailable."""
        try:
            pool = await self.pool(None)
            connection = await _reached(lambda: pool.acquire(timeout=ACQUIRE_TIMEOUT_S), self._role, wait_s)
            try:
                yield connection
            finally:
                await _release(pool, connection)
        except BaseException:
            await self.close()
            raise

    async def pool(self, organization_id: UUID | None, use: Use = Use.ANY) -> Pool:
        """The pool whose connections act for one organization (None: for none); made on first use."""
        if self._closed:
            raise StoreUnavailable("the database is closed")
        if organization_id is not None:
            self._served.add(organization_id)
        key = organization_id, use
        pool = self._pools.pop(key, None)
        if pool is not None:
            self._pools[key] = pool
        else:
            # min_size 0: making the pool opens no connection, so there is no wait in which a second could be made
            pool = self._pools[key] = asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=min(self._pool_size, AT_ONCE_SIZE) if use is Use.AT_ONCE else self._pool_size,
                init=partial(prepare, first=_KEEP_MEMORY if use is Use.BY_INDEX else None),
                reset=None if use is Use.ANY else _as_it_is,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=ANSWER_S if use in (Use.SEARCH, Use.AT_ONCE) else COMMAND_TIMEOUT_S,
                max_inactive_connection_lifetime=300.0,
                server_settings=session_settings(self._role, organization_id, self._daemon_id) | _SETTINGS[use],
            )
            await pool
        return pool

    @property
    def served(self) -> tuple[UUID, ...]:
        """The organizations that this process has acted for."""
        return tuple(self._served)

    @asynccontextmanager
    async def _acquired(self, organization_id: UUID | None, use: Use = Use.ANY) -> AsyncIterator[Connection]:
        key = organization_id, use
        self._users[key] += 1
        try:
            async with self._connection_of(key) as connection:
                yield connection
        finally:
            self._users[key] -= 1
            if len(self._pools) > MOST_POOLS:
                await self._close_idle_pools()

    async def _close_idle_pools(self) -> None:
        """Many organizations must not keep connections from one another: of the pools nobody uses, the latest stay."""
        unused = [key for key in self._pools if not self._users[key]][: max(0, len(self._pools) - MOST_POOLS)]
        pools = [self._pools.pop(key) for key in unused]  # all at once: who comes while they are closed has a new one
        for key in unused:
            del self._users[key]
        await asyncio.gather(*map(_close, pools))

    @asynccontextmanager
    async def _connection_of(self, key: _Key) -> AsyncIterator[Connection]:
        pool = await self.pool(*key)
        try:
            connection = await _acquire(pool)
            try:
                yield connection
            finally:
                await _release(pool, connection)
        except SchemaChanged as error:  # no connection is left that was prepared for the former one
            log.error("schema not as it was", action="db.schema", error=str(error))
            for each in list(self._pools.values()):
                await each.expire_connections()
            raise

    @asynccontextmanager
    async def organization(self, organization_id: UUID) -> AsyncIterator[Connection]:
        """A connection for one organization. Each statement is its own transaction, so a lost one is ambiguous."""
        if (outer := self._outer(organization_id)) is not None:
            yield outer
            return
        async with self._each(organization_id, Use.ANY) as connection:
            yield connection

    @asynccontextmanager
    async def _each(self, organization_id: UUID | None, use: Use) -> AsyncIterator[Connection]:
        async with self._acquired(organization_id, use) as connection:
            with store_errors(committing=True):
                yield connection

    def at_once(self, organization_id: UUID) -> AbstractAsyncContextManager[Connection]:
        """As `organization`, for statements that reach every row by an index and that somebody waits for. None of them
        may change the session: what one leaves there the next user finds."""
        return self._each(organization_id, Use.AT_ONCE)

    @asynccontextmanager
    async def searching(self, organization_id: UUID) -> AsyncIterator[Connection]:
        """As `organization`, for searches: it cannot write, and what takes longer than SEARCH_TIMEOUT_S is stopped
        (asyncpg.QueryCanceledError). Nothing may change the session."""
        async with self._acquired(organization_id, Use.SEARCH) as connection:
            with store_errors():
                yield connection

    @asynccontextmanager
    async def transaction(self, organization_id: UUID) -> AsyncIterator[Connection]:
        """A transaction for one organization: committed at the end of the block, rolled back when it raises."""
        if (outer := self._outer(organization_id)) is not None:
            async with _transaction(outer):  # a savepoint
                yield outer
            return
        async with self._acquired(organization_id) as connection, _transaction(connection):
            yield connection

    @asynccontextmanager
    async def by_index(self, organization_id: UUID) -> AsyncIterator[Connection]:
        """As `transaction`, for work behind the links and the API that is made of the same statements over and over,
        each of which reaches its rows by an index: they are planned once for each connection. Nothing may change the
        session."""
        async with self._acquired(organization_id, Use.BY_INDEX) as connection, _transaction(connection):
            yield connection

    def each_by_index(self, organization_id: UUID) -> AbstractAsyncContextManager[Connection]:
        """The same without a transaction around the statements, as `organization`."""
        return self._each(organization_id, Use.BY_INDEX)

    @asynccontextmanager
    async def joined(self, organization_id: UUID) -> AsyncIterator[Connection]:
        """A transaction of which those are part that the same task begins for the same organization inside the block:
        all of it is committed at the end, or nothing."""
        async with self.transaction(organization_id) as connection:
            token = _joined.set(_Joined(self, organization_id, asyncio.current_task(), connection))
            try:
                yield connection
            finally:
                _joined.reset(token)

    def _outer(self, organization_id: UUID) -> Connection | None:
        joined = _joined.get()
        mine = joined is not None and joined[:3] == (self, organization_id, asyncio.current_task())
        return joined.connection if joined is not None and mine else None

    def knows(self, organization_id: UUID) -> bool:
        """Whether it is one that a connection has acted for: an existing one."""
        return (organization_id, Use.ANY) in self._pools

    @asynccontextmanager
    async def claimed(self, organization_id: UUID) -> AsyncIterator[Connection]:
        """`transaction` for an organization that a caller only claims to be of: no pool is made for it.

        Who is not known yet must not be able to open connections by inventing organizations.
        """
        if self.knows(organization_id):
            async with self.transaction(organization_id) as connection:
                yield connection
            return
        async with self._acquired(None) as connection, _transaction(connection):
            await connection.execute("select set_config('labora.org', $1, true)", str(organization_id))
            yield connection

    def system(self) -> AbstractAsyncContextManager[Connection]:
        """A connection that acts for no organization: it sees `queue` and `daemon`, and of every other table no row."""
        return self._each(None, Use.ANY)

    async def dedicated(self, organization_id: UUID) -> asyncpg.Connection[asyncpg.Record]:
        """A connection outside the pools for one organization, such as the journal writer's; the caller closes it.

        Raises StoreUnavailable when it cannot be had.
        """
        try:
            return await open_connection(
                self._url, role=self._role, organization_id=organization_id, daemon_id=self._daemon_id
            )
        except ConfigError as error:  # it could be had at the start, so it is the server that has changed
            raise StoreUnavailable(str(error)) from error

    async def find_organization(self, name: str) -> UUID | None:
        """The id of the organization of exactly this name. Who does not know a name cannot list any."""
        async with self._acquired(None) as connection, _transaction(connection):
            await connection.execute("select set_config('labora.org_name', $1, true)", name)
            found: UUID | None = await connection.fetchval("select id from lab.organization where name = $1", name)
            return found

    async def close(self) -> None:
        """Close every pool; connections still in use are cut after a short wait."""
        self._closed = True
        pools, self._pools = list(self._pools.values()), {}
        await asyncio.gather(*map(_close, pools))


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    transaction = connection.transaction()
    with store_errors():
        await transaction.start()
        try:
            yield
        except BaseException:
            try:
                await transaction.rollback()
            except DRIVER_ERRORS as error:
                # the server rolls back what has no commit; the first error is the one to tell
                log.info("rollback not confirmed", action="db.rollback", error=type(error).__name__)
            raise
    with store_errors(committing=True):
        await transaction.commit()


async def _acquire(pool: Pool) -> Connection:
    try:
        return await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
    except DRIVER_ERRORS as error:  # nothing was sent yet, so even a timeout is not ambiguous
        raise StoreUnavailable(f"the database cannot be reached: {_reason(error)}") from error


async def _release(pool: Pool, connection: Any) -> None:
    try:
        await pool.release(connection)
    except DRIVER_ERRORS as error:
        log.info("connection discarded", action="db.discard", error=type(error).__name__)


async def _close(pool: Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), CONNECT_TIMEOUT_S)
    except DRIVER_ERRORS:
        pool.terminate()

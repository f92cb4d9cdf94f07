"""A database server that fails, and the driver's side of it: `asyncpg` as far as `store.db` and the journal use it.

Everything above is the real code: `Database`, its pools and transactions, the journal's lines, the translation of
errors. What a statement does is in `statements`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import asyncpg

from interface.store.journal_line import SEE_OFF, WHO
from tests.simulation.loop import EPOCH, Process, current, spawn, utc
from tests.simulation.statements import find, name_of, nothing
from tests.simulation.tables import Row, Tables, Transaction, View, Waits

_SYNC_S = 0.6  # three times wal_writer_delay
_WRITES = frozenset(
    "append append_frames append_blocks seal_cut recover settle claim give_back free_all free_lost lock_specimens"
    " write_versions note_taken note_replies".split()
)


@dataclass(frozen=True, slots=True)
class Troubles:
    """Chances that befall a call. `refused`: the connection breaks before it is done; `unheard`: after;
    `serialization`: it is undone, and the server says so; `slow`: it takes up to `slow_s`."""

    refused: float = 0.0
    unheard: float = 0.0
    serialization: float = 0.0
    slow: float = 0.0
    slow_s: float = 8.0


NONE = Troubles()


class Server:
    """See above. `note(what, about)` is told of everything; `committed()` after each commit."""

    def __init__(self, dice: Random, note: Callable[[str, str], None]) -> None:
        self.dice, self.note = dice, note
        self.tables = Tables()
        self.troubles = NONE
        self.connections: list[SimConnection] = []
        self.up, self.full = True, False
        self.pids = 0
        self.thawed = asyncio.Event()  # not frozen
        self.thawed.set()

    def crash(self) -> None:
        """Every session ends, whatever it was doing; what was not committed is lost, and of what did not wait for the
        disk perhaps more."""
        self.up = False
        lost = self.dice.randint(0, self.tables.unsynced)
        self.note("database crashes", f"{lost} unsynced commits lost")
        for connection in list(self.connections):
            connection.drop()
        self.tables.crash(lost)

    def start(self) -> None:
        self.up = True
        self.note("database is up", "")

    def terminate(self) -> None:
        """`pg_terminate_backend` for everybody."""
        self.note("database sessions are ended", "")
        for connection in list(self.connections):
            connection.drop()

    async def connect(self, process: Process | None) -> SimConnection:
        """Raises what the driver does."""
        await asyncio.sleep(self.dice.uniform(0.0005, 0.005))
        await self.thawed.wait()
        if not self.up:
            if self.dice.random() < 0.3:
                raise asyncpg.CannotConnectNowError("the database system is starting up")
            raise ConnectionRefusedError(111, "connection refused")
        connection = SimConnection(self, process)
        self.connections.append(connection)
        return connection

    def killed(self, process: Process) -> None:
        """Its sessions end, once what they are doing is done."""
        for connection in list(self.connections):
            if connection.process is process:
                spawn(None, connection.abandoned())

    def see_off(self, dead: Sequence[Process]) -> None:
        """What is left of former lives ends before another begins, as `store.membership` has it (`Membership.join`)."""
        for connection in list(self.connections):
            if connection.process in dead:
                connection.drop()

    async def run(self, transaction: Transaction, text: str, arguments: tuple[Any, ...]) -> list[Row]:
        """One statement, whole or not at all."""
        statement = find(text)
        if statement.__name__ in _WRITES and self.dice.random() < self.troubles.serialization:
            # READ COMMITTED has none of the first, and the second where two wait for one another.
            raise self.dice.choice((asyncpg.SerializationError, asyncpg.DeadlockDetectedError))("not done")
        if self.full and statement.__name__ in _WRITES:
            raise asyncpg.DiskFullError("could not extend file: No space left on device")
        while True:
            view = View(self.tables, transaction)
            try:
                return statement(view, utc(), *arguments)
            except Waits as waits:
                view.undo()
                if waits.holder is transaction or waits.holder.behind(transaction):
                    raise asyncpg.DeadlockDetectedError("deadlock detected") from None
                transaction.waits_for = waits.holder
                await waits.holder.ended.wait()
                transaction.waits_for = None
            except Exception:
                view.undo()
                raise

    def commit(self, transaction: Transaction) -> None:
        asynchronous = bool(transaction.writes) and not transaction.synchronous
        self.tables.commit(transaction)
        if asynchronous:
            asyncio.get_running_loop().call_later(_SYNC_S, self.tables.synced)


class _Codecs:
    """What the driver is told of types, which the model has no use for."""

    def get_settings(self) -> _Codecs:
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class SimConnection:
    """`asyncpg.Connection`, as far as it is used."""

    _protocol = _Codecs()

    def __init__(self, server: Server, process: Process | None) -> None:
        self.server, self.process = server, process
        server.pids += 1
        self.pid = server.pids
        self._open = True
        self._transaction: Transaction | None = None
        self._asked: asyncio.Task[Any] | None = None
        self._answer: asyncio.Future[Any] | None = None

    # ---- what the code calls

    def is_closed(self) -> bool:
        return not self._open

    async def set_type_codec(self, *_: Any, **__: Any) -> None:
        return

    async def reset_type_codec(self, *_: Any, **__: Any) -> None:
        return

    async def prepare(self, text: str, *, timeout: float | None = None) -> SimStatement:  # noqa: ASYNC109  the driver's
        find(text)
        await self._call(lambda: self._nothing(), timeout)
        return SimStatement(self, text)

    async def fetch(self, text: str, *arguments: Any, timeout: float | None = None) -> list[Row]:  # noqa: ASYNC109  the driver's
        found: list[Row] = await self._call(lambda: self._statement(text, arguments), timeout)
        return found

    async def fetchrow(self, text: str, *arguments: Any, timeout: float | None = None) -> Row | None:  # noqa: ASYNC109  the driver's
        return next(iter(await self.fetch(text, *arguments, timeout=timeout)), None)

    async def fetchval(self, text: str, *arguments: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109  the driver's
        row = await self.fetchrow(text, *arguments, timeout=timeout)
        return None if row is None else row[0]

    async def execute(self, text: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109  the driver's
        await self.fetch(text, *arguments, timeout=timeout)
        return ""

    def transaction(self) -> SimTransaction:
        return SimTransaction(self)

    def is_in_transaction(self) -> bool:
        return self._transaction is not None

    def terminate(self) -> None:
        """Hang up; the server notices, once what it does is done."""
        if self._open:
            self._open = False
            self._fail()
            if self.process is not None and not self.process.alive:
                return  # its end has been seen to
            spawn(None, self.abandoned())

    async def close(self) -> None:
        self.terminate()

    # ---- the server's side

    def drop(self) -> None:
        """The session ends now: the server's doing."""
        self._open = False
        if self._asked is not None:
            self._asked.cancel()
        self._rolled_back()
        self._fail()

    async def abandoned(self) -> None:
        """Nobody is at the other end any more."""
        if self._asked is not None:
            await asyncio.wait({self._asked})
        self._open = False
        self._rolled_back()

    def _rolled_back(self) -> None:
        if self._transaction is not None:
            self.server.tables.end(self._transaction)
            self._transaction = None
        if self in self.server.connections:
            self.server.connections.remove(self)

    def _fail(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(
                asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            )

    async def _call(self, work: Callable[[], Awaitable[Any]], timeout: float | None) -> Any:  # noqa: ASYNC109  the driver's
        """A round trip."""
        if not self._open:
            raise asyncpg.InterfaceError("connection is closed")
        loop = asyncio.get_running_loop()
        if self._answer is not None and not self._answer.done():
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")
        answer: asyncio.Future[Any] = loop.create_future()
        before, self._answer = self._asked, answer
        self._asked = spawn(None, self._served(before, work, answer))
        try:
            async with asyncio.timeout(timeout if timeout is not None else 60.0):
                return await answer
        except (TimeoutError, asyncio.CancelledError):
            # The driver asks the server to cancel it, which may come too late.
            answer.cancel()
            if self.server.dice.random() < 0.5:
                self._asked.cancel()
            raise

    async def _served(
        self, before: asyncio.Task[Any] | None, work: Callable[[], Awaitable[Any]], answer: asyncio.Future[Any]
    ) -> None:
        server, dice, troubles = self.server, self.server.dice, self.server.troubles
        if before is not None and not before.done():
            await asyncio.wait({before})
        slow = dice.random() < troubles.slow
        await asyncio.sleep(dice.uniform(0.0, troubles.slow_s) if slow else dice.uniform(0.0002, 0.003))
        await server.thawed.wait()
        chance = dice.random()
        if chance < troubles.refused:
            server.note("session breaks", "before it is done")
            self.drop()
            return
        chance -= troubles.refused
        try:
            result = await work()
        except asyncio.CancelledError:
            if self._transaction is not None:
                self._transaction.aborted = True
            raise
        except Exception as error:
            if self._transaction is not None:
                self._transaction.aborted = True
            server.note("statement fails", type(error).__name__)
            await asyncio.sleep(dice.uniform(0.0002, 0.003))
            if not answer.done():
                answer.set_exception(error)
            return
        if chance < troubles.unheard:
            server.note("session breaks", "after it is done")
            self.drop()
            return
        await asyncio.sleep(dice.uniform(0.0002, 0.003))
        await server.thawed.wait()
        if not answer.done():
            answer.set_result(result)

    async def _nothing(self) -> None:
        return

    async def _statement(self, text: str, arguments: tuple[Any, ...]) -> list[Row]:
        server, transaction = self.server, self._transaction
        statement = find(text)
        if text == WHO:
            return [Row(("pid", "backend_start"), (self.pid, EPOCH))]
        if text == SEE_OFF:
            found = [one for one in server.connections if one.pid == arguments[0]]
            for one in found:
                one.drop()
            return [Row(("done",), (True,)) for _ in found]
        if transaction is not None:
            if transaction.aborted:
                raise asyncpg.InFailedSQLTransactionError("current transaction is aborted")
            if "synchronous_commit = off" in text:
                transaction.synchronous = False
            rows = await server.run(transaction, text, arguments)
            server.note(name_of(statement), str(len(rows)))
            return rows
        alone = Transaction()
        try:
            rows = await server.run(alone, text, arguments)
        except BaseException:
            server.tables.end(alone)
            raise
        server.commit(alone)
        if statement is not nothing:
            server.note(name_of(statement), str(len(rows)))
        return rows

    async def begin(self) -> None:
        self._transaction = Transaction()

    async def commit(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return
        if transaction.aborted:  # COMMIT of a failed transaction rolls it back, and says so in its tag only
            self.server.tables.end(transaction)
            return
        self.server.note("commit", str(len(transaction.writes)))
        self.server.commit(transaction)

    async def rollback(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self.server.tables.end(transaction)


class SimStatement:
    """A prepared statement."""

    def __init__(self, connection: SimConnection, text: str) -> None:
        self._connection, self._text = connection, text

    async def fetch(self, *arguments: Any, timeout: float | None = None) -> list[Row]:  # noqa: ASYNC109  the driver's
        return await self._connection.fetch(self._text, *arguments, timeout=timeout)


class SimTransaction:
    """`asyncpg.transaction.Transaction`."""

    def __init__(self, connection: SimConnection) -> None:
        self._connection = connection

    async def start(self) -> None:
        await self._connection._call(self._connection.begin, None)

    async def commit(self) -> None:
        await self._connection._call(self._connection.commit, None)

    async def rollback(self) -> None:
        await self._connection._call(self._connection.rollback, None)

    async def __aenter__(self) -> None:
        await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self.commit() if kind is None else self.rollback())


class SimPool:
    """`asyncpg.Pool`, as far as it is used."""

    def __init__(self, server: Server, size: int, init: Callable[[Any], Awaitable[None]]) -> None:
        self._server, self._init = server, init
        self._room = asyncio.Semaphore(size)
        self._idle: list[SimConnection] = []
        self._closed = False

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self

    async def acquire(self, *, timeout: float) -> SimConnection:  # noqa: ASYNC109  the driver's
        if self._closed:
            raise asyncpg.InterfaceError("pool is closed")
        async with asyncio.timeout(timeout):
            await self._room.acquire()
            try:
                while self._idle:
                    connection = self._idle.pop()
                    if not connection.is_closed():
                        return connection
                connection = await self._server.connect(current())
                await self._init(connection)
            except BaseException:
                self._room.release()
                raise
            return connection

    async def release(self, connection: SimConnection) -> None:
        try:
            if connection.is_closed():
                return
            if connection.is_in_transaction():
                await connection._call(connection.rollback, None)
            self._idle.append(connection)
        finally:
            self._room.release()

    async def close(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        self._closed = True
        for connection in self._idle:
            connection.terminate()


class Driver:
    """Stands in for the module `asyncpg` in `store.db`: its errors are the real ones."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncpg, name)

    async def connect(self, url: str, *, timeout: float, server_settings: dict[str, str]) -> SimConnection:  # noqa: ASYNC109  the driver's
        async with asyncio.timeout(timeout):
            return await self._server.connect(current())

    def create_pool(self, url: str, *, max_size: int, init: Callable[[Any], Awaitable[None]], **_: Any) -> SimPool:
        return SimPool(self._server, max_size, init)

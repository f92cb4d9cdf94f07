"""This daemon among those of its database: it beats, looks at the others, ends who is dead, and hears bells.

One connection of its own, acting for no organization. What is asked of it while the database is away fails, and the
next beat makes the connection anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from interface.domain.lease import BEATS, Seen, Watch
from interface.errors import ConfigError, LaboraError, LeaseLost, StoreError
from interface.store import leases
from interface.store.db import Connection, open_connection
from interface.store.driver_errors import DRIVER_ERRORS, store_errors
from interface.store.leases import DaemonRow, Other
from interface.store.schema import APP_ROLE

CHANNEL: Final = "labora"
FREE: Final = "lease"  # a bell: something is free to be taken
ENDED: Final = "ended"  # heard here alone: another has ended this daemon
_CUT_PAUSE_S: Final = 0.02
_LAST_WAIT_S: Final = 2.0
_RING_PAUSE_S: Final = 0.02  # bells that are rung meanwhile are one

log = structlog.get_logger(__name__)
_Lease = tuple[UUID, Sequence[UUID], bool]  # an organization, links, and whether to decide for it


class Membership:
    """`join` before, `leave` after all else. `now`: seconds on a clock that never goes back."""

    def __init__(self, url: str, row: DaemonRow, now: Callable[[], float] = time.monotonic) -> None:
        self.row, self._url, self._now = row, url, now
        self.pause_s = row.lease_s / BEATS
        self._watch: Watch[UUID] = Watch(self.pause_s)
        self._connection: asyncpg.Connection[Any] | None = None
        self._turn = asyncio.Lock()
        self._beaten_at = now()
        self._rung: dict[str, None] = {}
        self._ring, self._look = asyncio.Event(), asyncio.Event()
        self._listeners: list[Callable[[str], None]] = []
        self._heard_of = True  # whether the last beat was taken
        self.others: tuple[Other, ...] = ()
        self.leads = False  # among all daemons of the database that ask to
        self.lost = asyncio.Event()  # another has ended this daemon

    @property
    def id(self) -> UUID:
        return self.row.id

    @property
    def valid(self) -> bool:
        """Whether no other can have ended this daemon yet, by this one's own clock."""
        return not self.lost.is_set() and self._now() - self._beaten_at < self.row.lease_s

    async def vouched(self) -> bool:
        """The same; where it is long ago that the database said so, it is asked."""
        if not self.valid and not self.lost.is_set():
            try:
                await self.tick()
            except LaboraError:
                return False
        return self.valid

    def hear(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with each bell that a daemon rings, this one included."""
        self._listeners.append(listener)

    def ring(self, bell: str) -> None:
        """Tell all daemons, soon. Returns at once; it may be lost, and whoever waits for it looks now and then too."""
        self._rung[bell] = None
        self._ring.set()

    async def join(self) -> None:
        """Begin to be, in the place of lives that ended here. Raises StoreError."""
        async with self._connected() as connection:
            await leases.register(connection, self.row)
            former = [one for one in await leases.lives_at(connection, self.row.place) if one[0] != self.id]
        for id, seen in former:
            await self._see_off(id, seen)
        await self.tick()

    async def run(self) -> None:
        """Beat and look until cancelled, or until this daemon was ended."""
        bells = asyncio.create_task(self._ring_forever(), name="bells")
        try:
            while not self.lost.is_set():
                await self._wait(self.pause_s)
                try:
                    await self.tick()
                except LaboraError as error:
                    self._note(False, error.slug)
                except Exception as error:  # who beats no more is dead to others, and to itself, until the next start
                    self._note(False, type(error).__name__)
                else:
                    self._note(True)
        finally:
            bells.cancel()
            await asyncio.gather(bells, return_exceptions=True)

    def _note(self, heard: bool, why: str = "") -> None:
        """Once for each time that the database goes away."""
        if heard != self._heard_of:
            self._heard_of = heard
            log.warning("seen by other daemons again" if heard else "not seen by other daemons: the database is away",
                        action="daemon.beat", error=why)  # fmt: skip

    async def tick(self) -> None:
        """Beat once, look once, end who is dead. Raises StoreError."""
        began = self._now()
        try:
            async with self._connected() as connection:
                alive, others = await leases.beat(connection, self.id)
                self.leads = self.leads or await leases.lead(connection)
        except Exception:
            self._watch.interrupted()
            raise
        if not alive:
            self._end()
            return
        self._beaten_at = began
        self.others = tuple(others)
        seen = [Seen(one.id, one.beat, one.lease_s, one.session) for one in others]
        dead = self._watch.look(seen, began)
        for one in others:
            if one.ended or one.id in dead:
                log.warning("a daemon is dead", action="daemon.dead", daemon=str(one.id), name=one.name)
                await self._see_off(one.id, one.beat)

    def _end(self) -> None:
        if not self.lost.is_set():
            log.error("another daemon has ended this one", action="daemon.lost")
            self.lost.set()
            self._tell(ENDED)

    async def _see_off(self, id: UUID, seen: int | None) -> None:
        """End a daemon, and let others take what it had when nothing of it is under way any more."""
        async with self._connected() as connection:
            if not await leases.end(connection, id, self.id, seen):
                return
        until = self._now() + self.row.lease_s / 2  # meanwhile nothing beats
        while await self._cut(id):
            if self._now() > until:  # what it would store is refused all the same
                log.error("connections of a dead daemon cannot be cut", action="daemon.cut", daemon=str(id))
                break
            await asyncio.sleep(_CUT_PAUSE_S)
        async with self._connected() as connection:
            await leases.gone(connection, id)
        self.others = tuple(one for one in self.others if one.id != id)
        self._tell(FREE)
        self.ring(FREE)

    async def _cut(self, id: UUID) -> int:
        async with self._connected() as connection:
            try:
                return await leases.cut(connection, id)
            except asyncpg.InsufficientPrivilegeError:  # another login than ours
                return 1

    async def take(self, wanted: Sequence[_Lease]) -> dict[UUID, int]:
        """Take what is free of all this, at once; the epochs of what was. Raises StoreError."""
        async with self._connected() as connection, connection.transaction():
            taken: dict[UUID, int] = {}
            for organization_id, link_ids, work in wanted:
                taken |= await leases.take(connection, self.id, organization_id, link_ids, work)
        return taken

    async def give_back(self, organization_id: UUID, ids: Sequence[UUID]) -> None:
        """Let others take these, which is told to them. Raises StoreError."""
        async with self._connected() as connection:
            async with connection.transaction():
                await leases.give_back(connection, self.id, organization_id, ids)
            await self._notify(connection, FREE)

    async def tell(self, organization_id: UUID, statuses: Mapping[UUID, Mapping[str, object]]) -> None:
        """See `leases.tell`. Raises StoreError."""
        async with self._connected() as connection, connection.transaction():
            await connection.execute("select set_config('labora.org', $1, true)", str(organization_id))
            await leases.tell(connection, self.id, statuses)

    async def leave(self) -> None:
        """The last of all: nothing of this daemon is under way any more. Never raises."""
        try:
            async with asyncio.timeout(_LAST_WAIT_S):
                async with self._connected() as connection:
                    await leases.leave(connection, self.id)
                    await self._notify(connection, FREE)
        except (StoreError, ConfigError, *DRIVER_ERRORS) as error:  # others find out
            log.warning("other daemons were not told of the end", action="daemon.leave", error=type(error).__name__)
        self._hang_up()

    # ---- the connection ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """The connection, for one thing at a time; made anew after whatever went wrong."""
        async with self._turn:
            try:
                with store_errors(committing=True):
                    async with asyncio.timeout(self.row.lease_s):  # a server may be frozen, or a network gone
                        if self._connection is None or self._connection.is_closed():
                            self._connection = await self._connect()
                        yield self._connection
            except LeaseLost:
                self._end()
                raise
            except asyncpg.InsufficientPrivilegeError:
                raise
            except BaseException:
                self._hang_up()
                raise

    async def _connect(self) -> asyncpg.Connection[Any]:
        connection = await open_connection(self._url, role=APP_ROLE, daemon_id=self.id)
        try:
            await connection.add_listener(CHANNEL, self._heard)
            connection.add_termination_listener(lambda _: self._look.set())  # it may have been another's doing
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()  # never waits: the server may be frozen
            self._connection = None
        self.leads = False

    def _heard(self, connection: object, pid: int, channel: str, payload: object) -> None:
        self._tell(str(payload))

    def _tell(self, bell: str) -> None:
        for listener in self._listeners:
            listener(bell)

    async def _ring_forever(self) -> None:
        while True:
            await self._ring.wait()
            self._ring.clear()
            bells, self._rung = list(self._rung), {}
            try:
                async with self._connected() as connection:
                    for bell in bells:
                        await self._notify(connection, bell)
            except LaboraError as error:
                log.info("bells not rung", action="daemon.ring", error=error.slug)
            except Exception as error:
                log.error("bells not rung", action="daemon.ring", exc_info=error)
            await asyncio.sleep(_RING_PAUSE_S)

    @staticmethod
    async def _notify(connection: Connection, bell: str) -> None:
        await connection.execute("select pg_notify($1, $2)", CHANNEL, bell)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._look.wait()
        except TimeoutError:
            return
        finally:
            self._look.clear()

"""The daemon: everything is built here, started in order and stopped in reverse (DESIGN §3).

Start: database → schema → leases → journals (a cut transmission is sealed) → links → workers and API → READY.
Stop: links take nothing more and finish what they hold → API → workers → journals → leases → database.

An acknowledgement needs the journal's commit and nothing else: so the links are opened before the rest is even imported
(`interface.beside`). What is sent meanwhile waits in the queue.

A process may do a part of it (`roles`), and a daemon whose links another one has is ready to take them over
(docs/standby.md).
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from interface import telemetry
from interface.footprint import give_back, settle
from interface.link.clock import Clock
from interface.links import Links
from interface.ownership import Ownership, joined
from interface.settings import ROLES, Address, Role, Settings
from interface.store.embedded import open_database
from interface.store.ids import uuid7
from interface.systemd import API, Progress, Sockets, Standstill, notify, passed_sockets, watchdog_s

if TYPE_CHECKING:
    from interface.beside import Beside
    from interface.servers import Servers

log = structlog.get_logger(__name__)

# Every wait for the database ends within 14 s (`commit_wait_s`) and 60 s (`store.db`), and is a turn: what takes longer
# than this is a fault of ours.
JOURNAL_STUCK_S, WORKER_STUCK_S = 60.0, 300.0
EXIT_LOST = 1  # another daemon has ended this one: whoever runs it starts another life, which stands by


def run_daemon(settings: Settings, roles: Collection[Role] = ROLES) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status, 1 where another daemon has ended this one. Raises
    LaboraError for what prevents the start."""
    give_back()
    lines = telemetry.configure_logs(for_good=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(lines.gathering(run(settings, roles)))


async def run(settings: Settings, roles: Collection[Role] = ROLES) -> int:
    """The daemon's life inside an event loop. A signal before it is ready breaks the start off."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()

    def end() -> None:
        if starting is not None and not stop.is_set():
            starting.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    reload = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    # Where another machine may open the links, systemd must not hold this one's open with nobody behind them.
    sockets = Sockets(passed_sockets()) if settings.standby.enabled else Sockets.of_process()
    try:
        async with (
            started(settings, sockets=sockets, roles=roles) as running,
            _cancelled_after(_reload_when(reload, running.reload)),
            _cancelled_after(_live(running.stuck)),
        ):
            starting = None
            notify("READY=1")
            log.info("ready", action="daemon.ready", links=len(settings.links), api=str(settings.api.listen))
            settle()
            await _either(stop, running.lost)
            notify("STOPPING=1")
            log.info("stopping", action="daemon.stopping")
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        sockets.close()
    log.info("stopped", action="daemon.stopped")
    return 0 if stop.is_set() else EXIT_LOST


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


async def _reload_when(asked: asyncio.Event, reload: Callable[[], Awaitable[None]]) -> None:
    """Each SIGHUP, one after the other. systemd is told by the protocol of Type=notify-reload (sd_notify(3))."""
    while True:
        await asked.wait()
        asked.clear()
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            await reload()
        except Exception as error:  # a fault of ours must not take the daemon from its analyzers
            log.error("reload failed", action="daemon.configuration", exc_info=error)
        notify("READY=1")


async def _live(stuck: Callable[[], list[str]]) -> None:
    """Tell systemd's watchdog that all is well for as long as it is: the event loop turns, since this runs in it, and
    nothing that has work stands still. Else systemd ends this process and starts another, which has lost nothing."""
    every_s = watchdog_s()
    said = False
    while every_s is not None:
        if not (names := stuck()):
            notify("WATCHDOG=1")
            said = False
        elif not said:
            said = True
            log.critical("stands still; systemd will start the daemon anew", action="daemon.stuck", what=names)
        await asyncio.sleep(every_s / 3)


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that has started: where it listens (ports that were configured as 0 are real ones here).

    `reload` reads the configuration file again, changes the links and puts new API processes in the place of the old.
    """

    addresses: Callable[[], dict[str, Address]]
    api: Address
    reload: Callable[[], Awaitable[None]]
    stuck: Callable[[], list[str]]  # what has work and stands still, for the watchdog
    lost: asyncio.Event  # another daemon has ended this one, whose links are closed
    servers: Servers | None = None  # the API's processes, where it has some of its own

    @property
    def links(self) -> Mapping[str, Address]:
        return self.addresses()


@asynccontextmanager
async def started(
    settings: Settings,
    clock: Clock | None = None,
    sockets: Sockets | None = None,
    roles: Collection[Role] = ROLES,
) -> AsyncIterator[Running]:
    """The whole daemon, or what it does in these roles, for the duration of the block. `clock`: of the links, else the
    event loop's."""
    sockets = sockets or Sockets()
    async with AsyncExitStack() as stack:
        id = uuid7()
        importing: asyncio.Task[type[Beside]] | None = None
        if settings.database.url == "embedded":  # there is time while that starts
            importing = asyncio.create_task(_beside())
            stack.push_async_callback(_cancelled, importing)
        database, server = await open_database(settings, id)
        if server is not None:
            stack.push_async_callback(server.stop)
        stack.push_async_callback(database.close)
        membership = await joined(database.url, id, settings, roles, stack)
        links = Links(database, settings, clock, sockets, journaling=Role.LINKS in roles, vouched=membership.vouched)
        stack.push_async_callback(links.close)
        owned = Ownership(membership, links, settings, roles)
        stack.push_async_callback(owned.end_work)
        if roles != {Role.API}:
            await links.prepare(settings)
        await owned.begin()
        # The API's from systemd, before the links settle what nobody took.
        passed = sockets.take(API, settings.api.listen) if Role.API in roles else None
        if passed is not None:
            stack.callback(passed.close)
        opened = AsyncExitStack()  # analyzers are answered first, and closed first in the end
        stack.push_async_callback(opened.aclose)
        opened.push_async_callback(links.wire_log.stop)
        opened.push_async_callback(owned.end_links)
        opened.push_async_callback(links.supervisor.stop, settings.limits.drain_s)
        await links.supervisor.start(links.served())
        await links.wire_log.start()  # keeps until then what it is given
        kind = await (importing or _beside())
        rest = kind(owned, settings, passed, server, roles)
        stack.push_async_callback(links.worker.stop)
        await owned.begin_work()
        await rest.serve(stack)
        stack.push_async_callback(opened.aclose)
        await rest.watch(stack)

        async def reload() -> None:
            if roles != {Role.API}:
                async with owned.turn:
                    await links.reload()
                rest.configure()
            await rest.renew()

        stuck = partial(_stuck, links, Standstill())
        yield Running(links.supervisor.addresses, rest.address, reload, stuck, membership.lost, rest.servers)


async def _beside() -> type[Beside]:
    """What nothing that is acknowledged waits for: half of the time to READY is its import. In a thread, so that the
    links answer meanwhile."""
    module = await asyncio.to_thread(importlib.import_module, "interface.beside")
    found: type[Beside] = module.Beside
    return found


@asynccontextmanager
async def _cancelled_after(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` beside the block, and no longer than it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await _cancelled(task)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _stuck(links: Links, standstill: Standstill) -> list[str]:
    """What has had work for too long without doing any of it."""
    watched: dict[Progress, float] = {journal: JOURNAL_STUCK_S for journal in links.journals.values()}
    watched[links.worker] = WORKER_STUCK_S
    found = standstill.look(asyncio.get_running_loop().time(), watched)
    return ["worker" if each is links.worker else "journal" for each in found]

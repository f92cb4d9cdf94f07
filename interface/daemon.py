"""The daemon: everything is built here, started in order and stopped in reverse (DESIGN §3).

Start: database → schema → journals (a cut transmission is sealed) → workers → links and API → READY.
Stop: links take nothing more and finish what they hold → API → workers → journals → database.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
import uvloop

from interface import telemetry
from interface.errors import ConfigError
from interface.flow.critical_watch import watch_criticals
from interface.flow.dispatch_watch import LinkSeen, watch_dispatches
from interface.flow.feed import Feed
from interface.flow.link_watch import LinkUp, LinkWatch
from interface.flow.outgoing import watch_work
from interface.flow.pbrtqc_watch import watch_patients
from interface.flow.qc_watch import watch_quality_control
from interface.flow.report_watch import emr_audience, watch_reports
from interface.link.clock import Clock
from interface.links import Links
from interface.ops import retention
from interface.settings import Address, Settings
from interface.store.audit import AuditWriter
from interface.store.audit_sealer import Sealer
from interface.store.db import Database
from interface.store.embedded import open_database
from interface.store.upkeep import keep_answers, keep_counted, keep_partitions, keep_statistics, keep_wire_log
from interface.systemd import API, Progress, Sockets, Standstill, notify, watchdog_s

if TYPE_CHECKING:
    from interface.api.app import LinkStatus, Readiness
    from interface.ops.alert_center import AlertCenter
    from interface.servers import Servers

log = structlog.get_logger(__name__)

# What a message leaves is small and without cycles. Messages that are decided together keep some 20,000 objects until
# they are committed: to look through those for cycles again and again cost 4 % of the rate.
GC_THRESHOLDS = (100_000, 20, 20)
# Every wait for the database ends within 14 s (`commit_wait_s`) and 60 s (`store.db`), and is a turn: what takes longer
# than this is a fault of ours.
JOURNAL_STUCK_S, WORKER_STUCK_S = 60.0, 300.0


def run_daemon(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. Raises LaboraError for what prevents the start."""
    telemetry.configure_logs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(settings))


async def run(settings: Settings) -> int:
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
    sockets = Sockets.of_process()
    try:
        async with (
            started(settings, sockets=sockets) as running,
            _cancelled_after(_reload_when(reload, running.reload)),
            _cancelled_after(_live(running.stuck)),
        ):
            starting = None
            gc.collect()
            gc.freeze()  # what is there now stays: the collector need not look at it again and again
            gc.set_threshold(*GC_THRESHOLDS)
            notify("READY=1")
            log.info("ready", action="daemon.ready", links=len(settings.links), api=str(settings.api.listen))
            await stop.wait()
            notify("STOPPING=1")
            log.info("stopping", action="daemon.stopping")
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        sockets.close()
    log.info("stopped", action="daemon.stopped")
    return 0


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
    servers: Servers | None = None  # the API's processes, where it has some of its own

    @property
    def links(self) -> Mapping[str, Address]:
        return self.addresses()


@asynccontextmanager
async def started(
    settings: Settings, clock: Clock | None = None, sockets: Sockets | None = None
) -> AsyncIterator[Running]:
    """The whole daemon for the duration of the block. `clock`: of the links, else the event loop's."""
    sockets = sockets or Sockets()
    async with AsyncExitStack() as stack:
        # A third of the time to READY is the web server's import: it is made while PostgreSQL starts.
        api = asyncio.create_task(asyncio.to_thread(importlib.import_module, "interface.api.app"))
        try:
            database, server = await open_database(settings)
        finally:
            await api
        if server is not None:
            stack.push_async_callback(server.stop)
        stack.push_async_callback(database.close)
        links = Links(database, settings, clock, sockets)
        stack.push_async_callback(links.close)
        specs = await links.prepare(settings)
        await links.worker.start(sorted(links.journals))
        stack.push_async_callback(links.worker.stop)
        sealer = Sealer(database)
        stack.push_async_callback(sealer.close)  # when the last row is written
        audit = AuditWriter(database)
        audit.start()
        stack.push_async_callback(audit.close)
        feed = Feed(database)
        address, servers, renew = await _serve(settings, sockets, database, audit, links, feed, stack)
        await links.wire_log.start()
        stack.push_async_callback(links.wire_log.stop)
        stack.push_async_callback(links.supervisor.stop, settings.limits.drain_s)
        await links.supervisor.start(specs)
        if servers is not None:  # analyzers first: a server takes a second to be there
            await servers.start(settings.api.workers)
        alerts = _alerts(links, database)
        for upkeep in (
            keep_partitions(links.settings, server),
            keep_wire_log(links.settings, server, links.wire_log),
            keep_statistics(links.settings, server),
            keep_counted(links.settings, server),
            keep_answers(database),
            retention.keep(links.settings, server),
            watch_criticals(database, lambda: list(links.journals)),
            watch_patients(database, lambda: list(links.journals)),
            watch_quality_control(database, lambda: list(links.journals)),
            watch_work(database),
            watch_reports(database, lambda: list(links.journals), emr_audience(settings), lambda: links.worker.at_work),
            watch_dispatches(database, lambda: _seen(links)),
            feed.run(lambda: list(links.journals)),
            sealer.run(),
            _tell(settings, database, audit, feed),
            LinkWatch(database, lambda: _ups(links)).run(),
            _watch_machine(links, database, alerts),
            alerts.run(),
        ):
            stack.push_async_callback(_cancelled, asyncio.create_task(upkeep, name="upkeep"))

        async def reload() -> None:
            await links.reload()
            _configure(alerts, links)
            await renew()

        yield Running(links.supervisor.addresses, address, reload, partial(_stuck, links, Standstill()), servers)


@asynccontextmanager
async def _cancelled_after(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` beside the block, and no longer than it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await _cancelled(task)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _serve(
    settings: Settings,
    sockets: Sockets,
    database: Database,
    audit: AuditWriter,
    links: Links,
    feed: Feed,
    stack: AsyncExitStack,
) -> tuple[Address, Servers | None, Callable[[], Awaitable[None]]]:
    """Start the API; returns where it listens, its processes, and what reads its certificate again at SIGHUP.

    Raises LaboraError when its address cannot be had.
    """
    from interface.api.app import build_app
    from interface.serving import LINGER_S, listen_on, renew_certificate, serving

    passed = sockets.take(API, settings.api.listen)
    listener = passed or listen_on(settings.api.listen)
    address = Address(settings.api.listen.host, listener.getsockname()[1])
    drain_s = settings.limits.drain_s
    if settings.api.workers == 1:
        app = build_app(
            database, settings, audit, ready=lambda: _ready(links), link_status=lambda: _statuses(links), feed=feed
        )
        await stack.enter_async_context(serving(app, listener, drain_s=drain_s, linger_s=LINGER_S if passed else 0.0))
        return address, None, partial(renew_certificate, app)
    from interface.servers import Servers, State

    stack.callback(listener.close)
    at_work = replace(settings, database=replace(settings.database, url=database.url))
    servers = Servers(at_work, listener, lambda: State(_ready(links), tuple(_statuses(links))), drain_s, feed.poke)
    stack.push_async_callback(servers.stop)
    return address, servers, servers.restart


def _stuck(links: Links, standstill: Standstill) -> list[str]:
    """What has had work for too long without doing any of it."""
    watched: dict[Progress, float] = {journal: JOURNAL_STUCK_S for journal in links.journals.values()}
    watched[links.worker] = WORKER_STUCK_S
    found = standstill.look(asyncio.get_running_loop().time(), watched)
    return ["worker" if each is links.worker else "journal" for each in found]


def _ready(links: Links) -> Readiness:
    from interface.api.app import Readiness

    down = [status for status in links.supervisor.statuses() if not status.up]
    stored = all(journal.available for journal in links.journals.values())
    text = "the database is not available" if not stored else f"{len(down)} links are not up" if down else ""
    return Readiness(stored, not down, text)


def _ups(links: Links) -> list[LinkUp]:
    by_name = {context.name: context for context in links.contexts}
    return [
        LinkUp(by_name[link.id].organization_id, link.id, link.up, link.fault)
        for link in links.supervisor.statuses()
        if link.id in by_name  # while SIGHUP is at work, it may be one that goes
    ]


async def _tell(settings: Settings, database: Database, audit: AuditWriter, feed: Feed) -> None:
    """Tell EMRs of changes, until cancelled."""
    from interface.api.told import tell

    await tell(settings, database, audit, feed)


def _alerts(links: Links, database: Database) -> AlertCenter:
    """What finds out what is wrong, and tells people; to be run by the caller."""
    from interface.ops.alert_center import AlertCenter
    from interface.ops.alert_watch import LinkHeard

    since = datetime.now(UTC)

    def heard() -> dict[UUID, list[LinkHeard]]:
        found: dict[UUID, list[LinkHeard]] = {}
        for seen in _seen(links):
            of = seen.link.settings
            one = LinkHeard(seen.link.link_id, of.id, of.silent_after_s, of.working_hours, seen.heard_at, since)
            found.setdefault(seen.link.organization_id, []).append(one)
        return found

    def organizations() -> dict[UUID, str]:
        return {context.organization_id: context.settings.organization for context in links.contexts}

    def available() -> bool:
        return all(journal.available for journal in links.journals.values())

    center = AlertCenter(database, links.settings().state_dir, organizations, heard, available)
    _configure(center, links)
    return center


def _configure(center: AlertCenter, links: Links) -> None:
    """At the start and at SIGHUP, after the configuration: a roster that cannot be used changes nothing."""
    from interface.config.roster import load_roster

    alerts = links.settings().alerts
    try:
        center.configure(alerts, load_roster(alerts))
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
        log.error("the roster has problems; nothing was changed", action="daemon.configuration", problems=problems)


async def _watch_machine(links: Links, database: Database, alerts: AlertCenter) -> None:
    """Look at disks, clock, certificates and backups until cancelled, and tell the metrics."""
    from interface.ops.machine_watch import MachineWatch

    watch = MachineWatch(links.settings, database, lambda: list(links.journals), settle=alerts.settle)
    asked = telemetry.Asked(lambda: (*_up_gauges(links), *watch.readings()))
    try:
        await watch.run()
    finally:
        asked.close()


def _up_gauges(links: Links) -> list[telemetry.Reading]:
    return [telemetry.Reading("link_up", (link.id,), float(link.up)) for link in links.supervisor.statuses()]


def _statuses(links: Links) -> list[LinkStatus]:
    """The links as the API shows them, each to its own organization."""
    from interface.api.app import LinkStatus

    organization = {context.name: context.organization_id for context in links.contexts}
    roles = {context.name: context.settings.role.value for context in links.contexts}
    return [
        LinkStatus(
            name=link.id,
            organization_id=organization[link.id],
            role=roles[link.id],
            driver=link.driver,
            transport=link.transport,
            listen=link.address,
            up=link.up,
            connections=link.connections,
            text=link.fault,
            leniencies=link.leniencies,
            messages=link.messages,
            last_activity=link.last_activity,
        )
        for link in links.supervisor.statuses()
        if link.id in organization  # while SIGHUP is at work, it may be one that goes
    ]


def _seen(links: Links) -> list[LinkSeen]:
    """The links as they stand."""
    by_name = {context.name: context for context in links.contexts}
    return [
        LinkSeen(by_name[link.id], link.connections > 0, link.last_activity)
        for link in links.supervisor.statuses()
        if link.id in by_name  # while SIGHUP is at work, it may be one that goes
    ]

"""The daemon: everything is built here, started in order and stopped in reverse (DESIGN §3).

Start: database → schema → leases → journals (a cut transmission is sealed) → workers → links and API → READY.
Stop: links take nothing more and finish what they hold → API → workers → journals → leases → database.

A process may do a part of it (`roles`), and a daemon whose links another one has is ready to take them over
(docs/standby.md).
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
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
from interface.ownership import Ownership, joined
from interface.settings import ROLES, Address, Role, Settings
from interface.store.audit import AuditWriter
from interface.store.audit_sealer import Sealer
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres, open_database
from interface.store.ids import uuid7
from interface.store.upkeep import keep_answers, keep_counted, keep_partitions, keep_statistics, keep_wire_log
from interface.systemd import API, Progress, Sockets, Standstill, notify, passed_sockets, watchdog_s

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
EXIT_LOST = 1  # another daemon has ended this one: whoever runs it starts another life, which stands by


def run_daemon(settings: Settings, roles: Collection[Role] = ROLES) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status, 1 where another daemon has ended this one. Raises
    LaboraError for what prevents the start."""
    telemetry.configure_logs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(settings, roles))


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
            gc.collect()
            gc.freeze()  # what is there now stays: the collector need not look at it again and again
            gc.set_threshold(*GC_THRESHOLDS)
            notify("READY=1")
            log.info("ready", action="daemon.ready", links=len(settings.links), api=str(settings.api.listen))
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
        # A third of the time to READY is the web server's import: it is made while PostgreSQL starts.
        api = asyncio.create_task(asyncio.to_thread(importlib.import_module, "interface.api.app"))
        id = uuid7()
        try:
            database, server = await open_database(settings, id)
        finally:
            await api
        if server is not None:
            stack.push_async_callback(server.stop)
        stack.push_async_callback(database.close)
        membership = await joined(database.url, id, settings, roles, stack)
        links = Links(database, settings, clock, sockets, journaling=Role.LINKS in roles, vouched=membership.vouched)
        stack.push_async_callback(links.close)
        if roles != {Role.API}:
            await links.prepare(settings)
        owned = Ownership(membership, links, settings, roles)
        stack.push_async_callback(owned.end_work)
        stack.push_async_callback(links.worker.stop)
        await owned.begin()
        sealer = Sealer(database)
        stack.push_async_callback(sealer.close)  # when the last row is written
        audit = AuditWriter(database)
        audit.start()
        stack.push_async_callback(audit.close)
        feed = Feed(database)
        address, servers = settings.api.listen, None
        renew: Callable[[], Awaitable[None]] = _nothing
        if Role.API in roles:
            address, servers, renew = await _serve(settings, sockets, database, audit, owned, feed, stack)
        await links.wire_log.start()
        stack.push_async_callback(links.wire_log.stop)
        stack.push_async_callback(owned.end_links)
        stack.push_async_callback(links.supervisor.stop, settings.limits.drain_s)
        await links.supervisor.start(links.served())
        if servers is not None:  # analyzers first: a server takes a second to be there
            await servers.start(settings.api.workers)
        beside = [owned.run(), owned.close_lost(), sealer.run(), feed.run(lambda: owned.organizations)]
        alerts = _alerts(owned, database)
        beside.append(_watch_machine(owned, database, alerts))
        if Role.LINKS in roles:
            beside += _beside_links(links, server)
        if Role.WORKERS in roles:
            beside += [*_beside_work(owned, settings, server), _tell(settings, database, audit, feed), alerts.run()]
        for upkeep in beside:
            stack.push_async_callback(_cancelled, asyncio.create_task(upkeep, name="upkeep"))

        async def reload() -> None:
            if roles != {Role.API}:
                async with owned.turn:
                    await links.reload()
                _configure(alerts, links)
            await renew()

        stuck = partial(_stuck, links, Standstill())
        yield Running(links.supervisor.addresses, address, reload, stuck, membership.lost, servers)


async def _nothing() -> None:
    return


def _beside_links(links: Links, server: EmbeddedPostgres | None) -> list[Coroutine[Any, Any, None]]:
    """What goes on where links are served."""
    database = links.database
    return [
        keep_wire_log(links.settings, server, links.wire_log),
        watch_work(database),
        watch_dispatches(database, lambda: _seen(links)),
        LinkWatch(database, lambda: _ups(links)).run(),
    ]


def _beside_work(
    owned: Ownership, settings: Settings, server: EmbeddedPostgres | None
) -> list[Coroutine[Any, Any, None]]:
    """What goes on where messages are decided, in one daemon at a time for each organization; and what one daemon does
    for the whole database."""
    links, database = owned.links, owned.links.database
    return [
        keep_partitions(links.settings, server, lambda: owned.leads),
        keep_statistics(links.settings, server, lambda: owned.leads),
        keep_counted(links.settings, server, lambda: owned.leads),
        keep_answers(database),
        retention.keep(links.settings, server),
        watch_criticals(database, lambda: owned.organizations),
        watch_patients(database, lambda: owned.organizations),
        watch_quality_control(database, lambda: owned.organizations),
        watch_reports(
            database, lambda: owned.organizations, emr_audience(settings), lambda: links.worker.at_work
        ),
    ]  # fmt: skip


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
    owned: Ownership,
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
            database,
            settings,
            audit,
            ready=lambda: _ready(owned),
            link_status=lambda: _statuses(owned.links),
            feed=feed,
        )
        await stack.enter_async_context(serving(app, listener, drain_s=drain_s, linger_s=LINGER_S if passed else 0.0))
        return address, None, partial(renew_certificate, app)
    from interface.servers import Servers, State

    stack.callback(listener.close)
    at_work = replace(settings, database=replace(settings.database, url=database.url))
    servers = Servers(
        at_work, listener, lambda: State(_ready(owned), tuple(_statuses(owned.links))), drain_s, feed.poke
    )
    stack.push_async_callback(servers.stop)
    return address, servers, servers.restart


def _stuck(links: Links, standstill: Standstill) -> list[str]:
    """What has had work for too long without doing any of it."""
    watched: dict[Progress, float] = {journal: JOURNAL_STUCK_S for journal in links.journals.values()}
    watched[links.worker] = WORKER_STUCK_S
    found = standstill.look(asyncio.get_running_loop().time(), watched)
    return ["worker" if each is links.worker else "journal" for each in found]


def _ready(owned: Ownership) -> Readiness:
    from interface.api.app import Readiness

    links = owned.links
    down = [status for status in links.supervisor.statuses() if not status.up]
    stored = owned.membership.valid and all(journal.available for journal in links.journals.values())
    text = "the database is not available" if not stored else f"{len(down)} links are not up" if down else ""
    text = text or ("standing by: another daemon has the links" if owned.waits else "")
    return Readiness(stored, not down, text, owned.active)


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


def _alerts(owned: Ownership, database: Database) -> AlertCenter:
    """What finds out what is wrong with laboratories for which this daemon decides, and tells people; to be run by the
    caller."""
    from interface.ops.alert_center import AlertCenter
    from interface.ops.alert_watch import LinkHeard

    since, links = datetime.now(UTC), owned.links

    def heard() -> dict[UUID, list[LinkHeard]]:
        found: dict[UUID, list[LinkHeard]] = {}
        for seen in _seen(links):
            of = seen.link.settings
            one = LinkHeard(seen.link.link_id, of.id, of.silent_after_s, of.working_hours, seen.heard_at, since)
            found.setdefault(seen.link.organization_id, []).append(one)
        return found

    def organizations() -> dict[UUID, str]:
        return {
            context.organization_id: context.settings.organization
            for context in links.contexts if context.organization_id in owned.work
        }  # fmt: skip

    def available() -> bool:
        return owned.membership.valid and all(journal.available for journal in links.journals.values())

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


async def _watch_machine(owned: Ownership, database: Database, alerts: AlertCenter) -> None:
    """Look at disks, clock, certificates and backups until cancelled, and tell the metrics. A laboratory has alerts of
    one machine: of several, of the one where its messages are decided."""
    from interface.ops.machine_watch import MachineWatch

    links = owned.links
    watch = MachineWatch(links.settings, database, lambda: owned.organizations, settle=alerts.settle)
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

"""What a daemon does beside its links: it decides, serves the API, looks after the database, watches and tells.

Nothing of this is needed to acknowledge, and it takes longer to import than the links take to open: `interface.daemon`
imports it while they answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from interface import config, telemetry
from interface.api.app import LinkStatus, Readiness, build_app
from interface.api.shares import Share, Shares
from interface.api.told import tell
from interface.config.roster import load_roster
from interface.errors import ConfigError
from interface.flow import hospital, results  # noqa: F401 - what the links and the worker import when they first need it
from interface.flow.critical_watch import watch_criticals
from interface.flow.dispatch_watch import LinkSeen, watch_dispatches
from interface.flow.feed import Feed
from interface.flow.link_watch import LinkUp, LinkWatch
from interface.flow.outgoing import watch_work
from interface.flow.pbrtqc_watch import watch_patients
from interface.flow.qc_watch import watch_quality_control
from interface.flow.report_watch import emr_audience, watch_reports
from interface.links import Links
from interface.ops import retention
from interface.ops.alert_center import AlertCenter
from interface.ops.alert_watch import LinkHeard
from interface.ops.machine_watch import MachineWatch
from interface.ownership import Ownership
from interface.servers import Servers, State
from interface.serving import LINGER_S, listen_on, renew_certificate, serving
from interface.settings import Address, Role, Settings
from interface.store.audit import AuditWriter
from interface.store.audit_sealer import Sealer
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres
from interface.store.upkeep import keep_answers, keep_counted, keep_partitions, keep_statistics, keep_wire_log

log = structlog.get_logger(__name__)


class Beside:
    """Of one daemon. `serve` when its worker is at work, then `watch`; both end with the stack that they are given.

    `passed`: the socket on which the API listens, where there is one already; `address`: where it does; `servers`: its
    processes, where it has some of its own; `renew` reads its certificate again.
    """

    def __init__(
        self,
        owned: Ownership,
        settings: Settings,
        passed: socket.socket | None,
        server: EmbeddedPostgres | None,
        roles: Collection[Role],
    ) -> None:
        self._owned, self._settings, self._passed, self._server, self._roles = owned, settings, passed, server, roles
        self._links, self._database = owned.links, owned.links.database
        self._audit, self._feed = AuditWriter(self._database), Feed(self._database)
        self._sealer = Sealer(self._database)
        self._alerts = _alerts(owned, self._database)
        self.address = settings.api.listen
        self.servers: Servers | None = None
        self.renew: Callable[[], Awaitable[None]] = _nothing

    def configure(self) -> None:
        """Put the alerts' settings into force; at the start and at SIGHUP."""
        _configure(self._alerts, self._links)

    async def serve(self, stack: AsyncExitStack) -> None:
        """Start the API, where it is this process's. Raises LaboraError when its address cannot be had."""
        stack.push_async_callback(self._sealer.close)  # when the last row is written
        self._audit.start()
        stack.push_async_callback(self._audit.close)
        if Role.API in self._roles:
            await self._serve(stack)

    async def watch(self, stack: AsyncExitStack) -> None:
        """Begin all that goes on beside. Raises LaboraError when a process of the API does not start."""
        if self.servers is not None:  # analyzers first: a server takes a second to be there
            await self.servers.start(self._settings.api.workers)
        owned, database, server = self._owned, self._database, self._server
        beside = [owned.run(), owned.close_lost(), self._sealer.run(), self._feed.run(lambda: owned.organizations)]
        beside.append(_watch_machine(owned, database, self._alerts))
        if Role.LINKS in self._roles:
            beside += _beside_links(owned, server)
        if Role.WORKERS in self._roles:
            beside += _beside_work(owned, self._settings, server)
            beside += [tell(self._settings, database, self._audit, self._feed), self._alerts.run()]
        for upkeep in beside:
            stack.push_async_callback(_cancelled, asyncio.create_task(upkeep, name="upkeep"))

    async def _serve(self, stack: AsyncExitStack) -> None:
        settings, drain_s = self._settings, self._settings.limits.drain_s
        listener = self._passed or listen_on(settings.api.listen)
        self.address = Address(settings.api.listen.host, listener.getsockname()[1])
        if settings.api.workers == 1:
            app = build_app(
                self._database,
                settings,
                self._audit,
                ready=lambda: _ready(self._owned),
                link_status=lambda: _statuses(self._links),
                feed=self._feed,
            )
            linger_s, shares = LINGER_S if self._passed else 0.0, Shares()
            serves = serving(app, listener, drain_s=drain_s, linger_s=linger_s, share=Share(shares))
            await stack.enter_async_context(serves)
            self._links.asked = lambda: shares.asked
            self.renew = partial(renew_certificate, app)
            return
        stack.callback(listener.close)
        at_work = replace(settings, database=replace(settings.database, url=self._database.url))
        servers = self.servers = Servers(
            at_work,
            listener,
            lambda: State(_ready(self._owned), tuple(_statuses(self._links))),
            drain_s,
            self._feed.poke,
        )
        self._links.asked = lambda: servers.asked
        stack.push_async_callback(servers.stop)
        self.renew = self.servers.restart


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _nothing() -> None:
    return


def _beside_links(owned: Ownership, server: EmbeddedPostgres | None) -> list[Coroutine[Any, Any, None]]:
    """What goes on where links are served."""
    links, database = owned.links, owned.links.database
    return [
        keep_wire_log(links.settings, server, links.wire_log),
        watch_work(database),
        watch_dispatches(database, lambda: _seen(links)),
        LinkWatch(database, lambda: _ups(owned)).run(),
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


def _ready(owned: Ownership) -> Readiness:
    links = owned.links
    down = [status.id for status in links.supervisor.statuses() if not status.up]
    down += [context.name for context in owned.unsealed]
    stored = owned.membership.valid and all(journal.available for journal in links.journals.values())
    text = "the database is not available" if not stored else f"{len(down)} links are not up" if down else ""
    text = text or ("standing by: another daemon has the links" if owned.waits else "")
    return Readiness(stored, not down, text, owned.active)


def _ups(owned: Ownership) -> list[LinkUp]:
    links = owned.links
    by_name = {context.name: context for context in links.contexts}
    unsealed = "what it was receiving when the daemon ended cannot be sealed: see the log"
    return [LinkUp(context.organization_id, context.name, False, unsealed) for context in owned.unsealed] + [
        LinkUp(by_name[link.id].organization_id, link.id, link.up, link.fault)
        for link in links.supervisor.statuses()
        if link.id in by_name  # while SIGHUP is at work, it may be one that goes
    ]


def _alerts(owned: Ownership, database: Database) -> AlertCenter:
    """What finds out what is wrong with laboratories for which this daemon decides, and tells people; to be run by the
    caller."""
    since, links = datetime.now(UTC), owned.links

    def organizations() -> dict[UUID, str]:
        return {id: name for id, name in links.laboratories.items() if id in owned.work}

    def available() -> bool:
        return owned.membership.valid and all(journal.available for journal in links.journals.values())

    center = AlertCenter(database, links.settings().state_dir, organizations, lambda: heard_of(links, since), available)
    _configure(center, links)
    return center


def heard_of(links: Links, since: datetime) -> dict[UUID, list[LinkHeard]]:
    """The configured links by organization, whoever serves them: of another's it is stored when it was heard."""
    here = {one.link.link_id: one.heard_at for one in _seen(links)}
    found: dict[UUID, list[LinkHeard]] = {}
    for context in links.contexts:
        of, heard_at = context.settings, here.get(context.link_id)
        one = LinkHeard(context.link_id, of.id, of.silent_after_s, of.working_hours, heard_at, since)
        found.setdefault(context.organization_id, []).append(one)
    return found


def _configure(center: AlertCenter, links: Links) -> None:
    """At the start and at SIGHUP, after the configuration: a roster that cannot be used changes nothing."""
    alerts = links.settings().alerts
    try:
        center.configure(alerts, load_roster(alerts))
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
        log.error("the roster has problems; nothing was changed", action="daemon.configuration", problems=problems)


async def _watch_machine(owned: Ownership, database: Database, alerts: AlertCenter) -> None:
    """Look at disks, clock, certificates and backups until cancelled, and tell the metrics. A laboratory has alerts of
    one machine: of several, of the one where its messages are decided."""
    links = owned.links
    watch = MachineWatch(
        links.settings, database, lambda: owned.organizations, settle=alerts.settle,
        unusable=lambda: _unusable(links),
    )  # fmt: skip
    asked = telemetry.Asked(lambda: (*_up_gauges(links), *watch.readings()))
    try:
        await watch.run()
    finally:
        asked.close()


def _unusable(links: Links) -> str:
    """What is wrong with the configuration and the roster as they are on the disk by now, or was at their reload."""
    source = links.settings().source
    try:
        return "" if source is None else links.refused(config.load(source))
    except ConfigError as error:
        return "; ".join(map(str, error.problems))


def _up_gauges(links: Links) -> list[telemetry.Reading]:
    return [telemetry.Reading("link_up", (link.id,), float(link.up)) for link in links.supervisor.statuses()]


def _statuses(links: Links) -> list[LinkStatus]:
    """The links as the API shows them, each to its own organization."""
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

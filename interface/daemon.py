"""The daemon: everything is built here, started in order and stopped in reverse (DESIGN §3).

Start: database → schema → journals (a cut transmission is sealed) → workers → links and API → READY.
Stop: links take nothing more and finish what they hold → API → workers → journals → database.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
import uvloop

from interface import config, telemetry
from interface.driver import registry
from interface.errors import ConfigError, ConfigProblem, LaboraError
from interface.flow import actors
from interface.flow.context import LinkContext, register
from interface.flow.intake import LinkIntake
from interface.flow.results import ResultWorker
from interface.link.supervisor import LinkSpec, Supervisor
from interface.settings import Address, Settings
from interface.store import migrate
from interface.store.audit import AuditWriter, record
from interface.store.catalogue import load_code_map
from interface.store.db import Database
from interface.store.embedded import keep_partitions, login_url, open_database
from interface.store.journal import Journal

if TYPE_CHECKING:
    from interface.api.app import LinkStatus

log = structlog.get_logger(__name__)


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
    loop.add_signal_handler(signal.SIGHUP, _check_configuration, settings)
    try:
        async with started(settings):
            starting = None
            notify("READY=1")
            log.info("ready", action="daemon.ready", links=len(settings.links), api=str(settings.api.listen))
            await stop.wait()
            notify("STOPPING=1")
            log.info("stopping", action="daemon.stopping")
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    log.info("stopped", action="daemon.stopped")
    return 0


def _check_configuration(settings: Settings) -> None:
    """SIGHUP: say whether a restart would find a configuration it can run with. The running one stays."""
    try:
        config.load(settings.source)
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
        log.error("configuration has problems", action="daemon.configuration", problems=problems)
    else:
        log.info("configuration can be used; a restart applies it", action="daemon.configuration")


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that has started: where it listens (ports that were configured as 0 are real ones here)."""

    links: Mapping[str, Address]
    api: Address


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Running]:
    """The whole daemon for the duration of the block."""
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
        contexts = await _contexts(settings, database)
        by_id = {context.link_id: context for context in contexts}
        journals: dict[UUID, Journal] = {}
        worker = ResultWorker(
            database, by_id.get, settings.limits, lambda: any(journal.busy for journal in journals.values())
        )
        journals |= await _journals(settings, database, contexts, worker, stack)
        await worker.start(sorted(journals))
        stack.push_async_callback(worker.stop)
        audit = AuditWriter(database)
        audit.start()
        stack.push_async_callback(audit.close)
        supervisor = Supervisor(
            [
                LinkSpec(context.settings, LinkIntake(context, journals[context.organization_id]), context.driver)
                for context in contexts
            ]
        )
        address = await _serve(settings, database, audit, supervisor, contexts, journals, stack)
        await supervisor.start()
        stack.push_async_callback(supervisor.stop, settings.limits.drain_s)
        upkeep = asyncio.create_task(keep_partitions(settings, server), name="partitions")
        stack.push_async_callback(_cancelled, upkeep)
        yield Running(supervisor.addresses(), address)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _contexts(settings: Settings, database: Database) -> list[LinkContext]:
    """The links with their rows in the database; organizations that the configuration names wrongly are reported."""
    organizations = await _organizations(settings, database)
    contexts: list[LinkContext] = []
    for link in settings.links:
        organization_id = organizations[link.organization]
        driver = registry.load(link.driver, settings.driver_path)
        async with database.transaction(organization_id) as connection:
            context = await register(connection, organization_id, link, driver)
            contexts.append(context)
            if rows := await load_code_map(connection, organization_id, driver.id):
                detail = {"driver": driver.id, "rows": str(rows)}
                await record(connection, context.actor, "load", "code_map", None, detail)
    return contexts


async def _organizations(settings: Settings, database: Database) -> dict[str, UUID]:
    """The organizations that the links name. Into a database that has none yet they are put at the first start."""
    found: dict[str, UUID] = {}
    problems: list[ConfigProblem] = []
    for at, link in enumerate(settings.links):
        if link.organization in found:
            continue
        organization_id = await database.find_organization(link.organization)
        if organization_id is None and not await _any_organization(settings):
            organization_id = (await actors.create_organization(database, link.organization)).id
            log.info("organization created", action="organization.create", organization=link.organization)
        if organization_id is None:
            text = f"there is no organization {link.organization}; create it with `labora organization create`"
            problems.append(ConfigProblem(f"link[{at}].organization", text))
        else:
            found[link.organization] = organization_id
    if problems:
        raise ConfigError(problems)
    return found


async def _any_organization(settings: Settings) -> bool:
    """Whether the database has organizations; True as well where this login may not look."""
    async with login_url(settings) as url:
        return not await migrate.may_upgrade(url) or await migrate.has_organizations(url)


async def _journals(
    settings: Settings, database: Database, contexts: list[LinkContext], worker: ResultWorker, stack: AsyncExitStack
) -> dict[UUID, Journal]:
    """One running journal per organization (row-level security holds for it too)."""
    journals: dict[UUID, Journal] = {}
    for organization_id in sorted({context.organization_id for context in contexts}):
        journals[organization_id] = Journal(
            database,
            organization_id,
            resend_window_s=settings.limits.resend_window_s,
            commit_wait_s=settings.limits.commit_wait_s,
            wake=worker.wake,
        )
        await journals[organization_id].start()
        stack.push_async_callback(journals[organization_id].stop)
    return journals


async def _serve(
    settings: Settings,
    database: Database,
    audit: AuditWriter,
    supervisor: Supervisor,
    contexts: list[LinkContext],
    journals: dict[UUID, Journal],
    stack: AsyncExitStack,
) -> Address:
    """Start the API; returns where it listens. Raises LaboraError when its address cannot be had."""
    from aiohttp import web

    from interface.api.app import Readiness, build_app

    def ready() -> Readiness:
        down = [status for status in supervisor.statuses() if not status.up]
        stored = all(journal.available for journal in journals.values())
        text = "the database is not available" if not stored else f"{len(down)} links are not up" if down else ""
        return Readiness(stored, not down, text)

    app = build_app(database, settings, audit, ready=ready, link_status=lambda: _statuses(supervisor, contexts))
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=settings.limits.drain_s)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    listen = settings.api.listen
    try:
        await web.TCPSite(runner, listen.host, listen.port).start()
    except OSError as error:
        raise LaboraError(f"api.listen: cannot listen on {listen}: {os.strerror(error.errno or 0)}") from error
    return Address(listen.host, runner.addresses[0][1])


def _statuses(supervisor: Supervisor, contexts: list[LinkContext]) -> list[LinkStatus]:
    """The links as the API shows them, each to its own organization."""
    from interface.api.app import LinkStatus

    organization = {context.name: context.organization_id for context in contexts}
    roles = {context.name: context.settings.role.value for context in contexts}
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
        )
        for link in supervisor.statuses()
    ]


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing where it did not start us."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)

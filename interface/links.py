"""The daemon's links and what stands behind them: rows, journals, intakes, the worker. SIGHUP changes them here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from interface import config, telemetry
from interface.driver import registry
from interface.errors import ConfigError, ConfigProblem, DriverError, LaboraError, StoreError
from interface.flow.context import Before, LinkContext, register
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.outgoing import LinkOutgoing
from interface.flow.requests import Requests
from interface.flow.speeches import answer_of, speech_of
from interface.link.clock import Clock
from interface.link.supervisor import LinkSpec, Supervisor
from interface.settings import Settings
from interface.store import migrate
from interface.store.audit import record
from interface.store.catalogue import load_code_map
from interface.store.db import Connection, Database
from interface.store.embedded import login_url
from interface.store.journal import Journal
from interface.store.wire_log import WireLogWriter
from interface.store.worklists import set_worklists
from interface.systemd import Sockets

if TYPE_CHECKING:
    from interface.flow.results import ResultWorker

log = structlog.get_logger(__name__)

# What only a start can put into force. All else is with a reload: how long data is kept most of all, since what is
# deleted by the former number is gone.
_AT_START = ("state_dir", "database", "api", "limits", "standby")


class Links:
    """Built by `prepare`; the supervisor serves what is `served`. `close` after the supervisor and the worker stopped;
    the wire log is started and stopped by whoever starts and stops the supervisor.

    `journaling`: whether links are served here at all; `vouched`: see `Journal`.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Clock | None = None,
        sockets: Sockets | None = None,
        *,
        journaling: bool = True,
        vouched: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.database, self._settings, self._journaling, self._vouched = database, settings, journaling, vouched
        self.serves: set[UUID] | None = None  # the links that this daemon has the leases of; None: all
        self.queued: Callable[[UUID], None] = lambda _: self.worker.wake()  # messages of an organization wait
        self.asked: Callable[[], bool] = lambda: False  # whether clients of the API ask for much at the moment
        self.taking: Callable[[], Awaitable[None]] | None = None  # before links are served, and after some are not
        self.leaving: Callable[[], Awaitable[None]] | None = None
        self._specs: dict[UUID, LinkSpec] = {}
        self._by_id: dict[UUID, LinkContext] = {}  # removed ones as well: their last messages are still decided
        self.contexts: tuple[LinkContext, ...] = ()
        self.laboratories: dict[UUID, str] = {}  # for which the configuration has this daemon decide, with their names
        self._refused: tuple[Settings, str] | None = None
        self.journals: dict[UUID, Journal] = {}
        self.wire_log = WireLogWriter(database)
        self.supervisor = Supervisor((), clock, sockets=sockets)

    @cached_property
    def worker(self) -> ResultWorker:
        """Who decides what the links took. What it imports is not needed to acknowledge: a start comes to it last."""
        from interface.flow.results import ResultWorker

        return ResultWorker(
            self.database,
            self._by_id.get,
            self._settings.limits,
            self._busy,
            lambda: self.asked(),
        )

    def _busy(self) -> bool:
        """Whether links of any organization deliver. It is asked for again and again while results are decided."""
        for journal in self.journals.values():  # a generator would cost as much as they do
            if journal.busy:
                return True
        return False

    async def prepare(self, settings: Settings) -> tuple[LinkSpec, ...]:
        """Rows and journals for the links of `settings`, which are then known to the worker.

        Raises ConfigError for organizations that are not there; then nothing has changed.
        """
        organizations = await self._organizations(settings)
        contexts = await self._contexts(settings, organizations)
        if self._journaling:
            await self._start_journals({context.organization_id for context in contexts})
        self.contexts = contexts
        self.laboratories = {id: name for name, id in organizations.items()}
        for context in contexts:
            telemetry.expect(context.name)
        self._by_id.update((context.link_id, context) for context in contexts)
        self._specs = {
            context.link_id: LinkSpec(
                context.settings,
                LinkIntake(
                    context,
                    self.journals[context.organization_id],
                    requests=Requests(context, self.database, HANDLERS, self._settings.limits.reply_s),
                    outgoing=LinkOutgoing(context, self.database, answer_of(context), speech_of(context)),
                ),
                context.driver,
                self.wire_log.of(context.organization_id, context.link_id, context.settings.wire_log_mb << 20),
            )
            for context in contexts if self._journaling
        }  # fmt: skip
        return self.served()

    def served(self) -> tuple[LinkSpec, ...]:
        """What the supervisor is to serve now."""
        return tuple(spec for id, spec in self._specs.items() if self.serves is None or id in self.serves)

    def standing(self) -> dict[UUID, Mapping[str, object]]:
        """How the links are that are served here, for who reads it in the database (`store.leases`)."""
        by_name = {context.name: context for context in self.contexts}
        return {
            by_name[link.id].link_id: {
                "role": by_name[link.id].settings.role.value, "driver": link.driver, "transport": link.transport,
                "listen": link.address, "up": link.up, "connections": link.connections, "text": link.fault,
                "leniencies": dict(link.leniencies), "messages": link.messages,
                "last_activity": link.last_activity.isoformat() if link.last_activity else None,
            }
            for link in self.supervisor.statuses() if link.id in by_name
        }  # fmt: skip

    def settings(self) -> Settings:
        """What is in force now."""
        return self._settings

    def refused(self, settings: Settings) -> str:
        """Why the last reload did not put these into force, though nothing is wrong in the file itself."""
        return self._refused[1] if self._refused is not None and self._refused[0] == settings else ""

    async def reload(self) -> None:
        """SIGHUP: put the links of the configuration file into force; the others' connections are not touched.

        A file that cannot be used changes nothing, nor does an error, which is raised where it is a fault of ours.
        """
        before = self.contexts, self.laboratories, self._specs, dict(self._by_id)
        self._refused = None
        tried: Settings | None = None
        try:
            tried = settings = config.load(self._settings.source)
            await self.prepare(settings)
            if self.taking is not None:
                await self.taking()
            await self.set_worklists()
        except Exception as error:
            # Else the worker read by what is not in force, and all of it came with the next lease that is taken. Also
            # where it is a ConfigError: the leases' connection is made anew, and its login may be refused by now.
            self.contexts, self.laboratories, self._specs, known = before
            self._by_id.update(known)
            if not isinstance(error, LaboraError):
                raise
            if tried is not None and not isinstance(error, StoreError):
                self._refused = tried, str(error)
            if isinstance(error, ConfigError):
                problems = [str(problem) for problem in error.problems]
                log.error("configuration has problems; nothing was changed", action="daemon.configuration",
                          problems=problems)  # fmt: skip
            else:
                log.error("links could not be changed", action="daemon.configuration", error=error)
            return
        changes = await self.supervisor.apply(self.served(), self._settings.limits.drain_s)
        try:
            if self.leaving is not None:
                await self.leaving()
        except LaboraError as error:  # nobody else can serve them yet
            log.warning("leases not given back", action="lease.return", error=error.slug)
        kept = [key for key in _AT_START if getattr(settings, key) != getattr(self._settings, key)]
        if kept:
            log.warning("some changes need a restart", action="daemon.configuration", kept=kept)
        self._settings = replace(settings, **{key: getattr(self._settings, key) for key in _AT_START})
        self.worker.not_of = self.worker.not_of.difference(self._by_id)  # what waits of these can be read from now on
        self.worker.wake()
        log.info("configuration applied", action="daemon.configuration", added=changes.added,
                 changed=changes.changed, removed=changes.removed)  # fmt: skip

    async def close(self) -> None:
        """Stop the journals."""
        await asyncio.gather(*(journal.stop() for journal in self.journals.values()))

    async def _start_journals(self, organization_ids: set[UUID]) -> None:
        """One journal per organization (row-level security holds for it too). Where links are served by their leases,
        who takes those starts it: it recovers then what the former owner was receiving."""
        limits = self._settings.limits
        for organization_id in sorted(organization_ids - self.journals.keys()):
            journal = Journal(
                self.database,
                organization_id,
                resend_window_s=limits.resend_window_s,
                commit_wait_s=limits.commit_wait_s,
                wake=partial(self._queued, organization_id),
                vouched=self._vouched,
            )
            if self.serves is None:
                await journal.start()
            self.journals[organization_id] = journal

    def _queued(self, organization_id: UUID) -> None:
        self.queued(organization_id)

    async def _contexts(self, settings: Settings, organizations: Mapping[str, UUID]) -> tuple[LinkContext, ...]:
        """The links with their rows in the database."""
        found: dict[str, LinkContext] = {}
        for name, organization_id in organizations.items():
            async with self.database.transaction(organization_id) as connection:
                found |= await self._contexts_of(connection, name, organization_id, settings)
        return tuple(found[link.id] for link in settings.links)

    async def _contexts_of(
        self, connection: Connection, organization: str, organization_id: UUID, settings: Settings
    ) -> dict[str, LinkContext]:
        """An organization's links by name."""
        found: dict[str, LinkContext] = {}
        mapped: set[str] = set()  # drivers
        before = await Before.read(connection, organization_id)
        for at, link in enumerate(settings.links):
            if link.organization != organization:
                continue
            driver = registry.load(link.driver, settings.driver_path)
            try:
                context = await register(connection, organization_id, link, driver, before)
            except DriverError as error:  # a revision that is named and that nobody knows
                raise ConfigError([ConfigProblem(f"link[{at}].driver", str(error))]) from error
            found[link.id] = replace(context, others=self._by_id.get)
            _tell_of_revisions(context)
            if driver.id not in mapped:
                mapped.add(driver.id)
                await _load_codes(connection, context)
        return found

    async def set_worklists(self) -> None:
        """The analyzers that a link tells of their work, and no others: also those are left out that have no link.
        Those of which another daemon has a link that is none of these (docs/standby.md) are not switched off.
        To be called when this one's leases are taken, so that of two that start at once one sees the other's."""
        ids = [context.link_id for context in self.contexts]
        for organization_id in self.journals:
            told = {
                context.analyzer_id for context in self.contexts
                if context.organization_id == organization_id and context.settings.download
            }  # fmt: skip
            async with self.database.transaction(organization_id) as connection:
                await set_worklists(connection, organization_id, told, ids)

    async def _organizations(self, settings: Settings) -> dict[str, UUID]:
        """The organizations that the links name, and those without a link. Into a database that has none yet they are
        put at the first start. Raises ConfigError for those that are not there."""
        found: dict[str, UUID] = {}
        problems: list[ConfigProblem] = []
        first_start: bool | None = None  # not asked yet
        named = [(f"link[{at}].organization", link.organization) for at, link in enumerate(settings.links)]
        named += [(f"organizations[{at}]", name) for at, name in enumerate(settings.organizations)]
        for key, name in named:
            if name in found:
                continue
            organization_id = await self.database.find_organization(name)
            if organization_id is None and first_start is None:
                first_start = not await _any_organization(self._settings)
            if organization_id is None and first_start:
                from interface.flow import actors  # which a start that finds them does not wait for

                organization_id = (await actors.create_organization(self.database, name)).id
                log.info("organization created", action="organization.create", organization=name)
            if organization_id is None:
                text = f"there is no organization {name}; create it with `labora organization create`"
                problems.append(ConfigProblem(key, text))
            else:
                found[name] = organization_id
        if problems:
            raise ConfigError(problems)
        return found


async def _load_codes(connection: Connection, context: LinkContext) -> None:
    """The code map that is shipped for the link's driver, where there is one and it is the first time."""
    if rows := await load_code_map(connection, context.organization_id, context.driver.id):
        detail = {"driver": context.driver.id, "rows": str(rows)}
        await record(connection, context.actor, "load", "code_map", None, detail)


def _tell_of_revisions(context: LinkContext) -> None:
    """A link that does not run what its driver's folder has is said, whatever the reason."""
    driver = context.driver
    if context.driver_changed:
        log.error("a driver has changed without a new revision; its links run what the revision was first used with",
                  action="driver.changed", link=context.name, driver=driver.id,
                  revision=context.offered_revision)  # fmt: skip
    elif context.offered_revision != driver.revision:
        log.warning("a link stays at its driver's revision", action="driver.pinned", link=context.name,
                    driver=driver.id, revision=driver.revision, offered=context.offered_revision)  # fmt: skip


async def _any_organization(settings: Settings) -> bool:
    """Whether the database has organizations; True as well where this login may not look."""
    async with login_url(settings) as url:
        return not await migrate.may_upgrade(url) or await migrate.has_organizations(url)

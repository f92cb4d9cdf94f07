"""Which links this daemon serves and for whom it decides: those whose leases it has (docs/standby.md).

A link is opened only after its lease is this daemon's and what its former owner was receiving is sealed. When another
has ended this daemon every link is closed at once, and the daemon ends; whoever runs it starts another life of it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from hashlib import blake2b
from typing import Final
from uuid import UUID

import structlog

from interface import __version__
from interface.errors import LaboraError, StoreError
from interface.flow import waking
from interface.flow.context import LinkContext
from interface.links import Links
from interface.settings import Address, Role, Settings
from interface.store import leases, place
from interface.store.leases import DaemonRow
from interface.store.membership import ENDED, FREE, Membership

TELL_S: Final = 5.0  # how often it is said how links are, for others' APIs
QUEUED, WORK = "queue", "work"  # bells: messages wait for their decision; links may have something to say

log = structlog.get_logger(__name__)


async def joined(url: str, id: UUID, settings: Settings, roles: Collection[Role], stack: AsyncExitStack) -> Membership:
    """This daemon among those of its database, until the end of `stack`. Raises StoreError."""
    standby = settings.standby
    row = DaemonRow(
        id, standby.name or socket.gethostname(), stack.enter_context(place.held(settings.state_dir)),
        tuple(sorted(roles)), __version__, _digest(settings), standby.lease_s,
    )  # fmt: skip
    membership = Membership(url, row)
    stack.push_async_callback(membership.leave)
    await membership.join()
    beating = asyncio.create_task(membership.run(), name="beats")
    stack.push_async_callback(_cancelled, beating)
    return membership


def _digest(settings: Settings) -> str:
    """Of what all daemons that share links should have in common: all but where they are."""
    nowhere = Address("", 0)
    links = [replace(one, transport=replace(one.transport, endpoint=nowhere), tls=None) for one in settings.links]
    texts = sorted(json.dumps(asdict(one), default=_plain) for one in links) + sorted(settings.organizations)
    return blake2b("".join(texts).encode(), digest_size=16).hexdigest()


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Ownership:
    """`begin` before the links are opened, `begin_work` then; `run` beside them; `end_links`, `end_work` when they are
    closed."""

    def __init__(self, membership: Membership, links: Links, settings: Settings, roles: Collection[Role]) -> None:
        self.membership, self.links, self._roles = membership, links, roles
        self._standby, self._drain_s = settings.standby.enabled, settings.limits.drain_s
        self.work: set[UUID] = set()  # the organizations for which it decides
        self._mine: dict[UUID, UUID] = {}  # links whose leases it has, with their organizations
        self._unsealed: dict[UUID, UUID] = {}  # it has the lease, and what was being received is not sealed yet
        self._undecided: set[UUID] = set()  # it has the lease, and the worker does not know yet
        self._decides = False  # the worker is there
        self._failing: set[UUID] = set()  # organizations whose links could not be taken up at the last try
        self.turn = asyncio.Lock()  # who changes which links are served
        self._woken = asyncio.Event()
        self._open = True
        self._told: dict[UUID, Mapping[str, object]] = {}
        self._differing: set[UUID] = set()
        membership.hear(self._heard)
        links.serves, links.queued = set(), self.queued
        links.taking, links.leaving = self.take, self._give_back

    @property
    def organizations(self) -> list[UUID]:
        """For whom it decides, and does all else that one daemon does for an organization."""
        return sorted(self.work)

    @property
    def leads(self) -> bool:
        """Whether it does what one daemon does for the whole database."""
        return Role.WORKERS in self._roles and self.membership.leads

    @property
    def waits(self) -> bool:
        """Whether it stands by: another has links that it would serve."""
        return not self._unsealed.keys() >= self._absent()

    @property
    def unsealed(self) -> list[LinkContext]:
        """The links that are its own and are not served: what was being received over them cannot be sealed."""
        return [one for one in self.links.contexts if one.link_id in self._unsealed]

    @property
    def active(self) -> bool:
        """Whether it serves all links of its configuration."""
        return Role.LINKS in self._roles and self._open and not self.membership.lost.is_set() and not self._absent()

    async def begin(self) -> None:
        """Take what is free. Without a standby all of it must be: who was killed is waited for. Raises LaboraError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.5 * self.membership.row.lease_s
        waking.elsewhere(self._wake_elsewhere)
        await self.take()
        while not self._standby and self.waits and loop.time() < until:
            await self._pause(self.membership.pause_s)
            await self.take()
        if not self._standby and self.waits:
            raise LaboraError(
                f"{self._whose()}; stop that daemon, or let this one stand by ([standby] enabled = true, on both)"
            )
        await self.links.set_worklists()

    async def begin_work(self) -> None:
        """Decide for whom it has the lease to. What was acknowledged before waits in the queue. Raises StoreError."""
        if Role.WORKERS in self._roles:
            await self.links.worker.start(())
            self._decides = True
            for organization_id in sorted(self._undecided):
                await self._take_on(organization_id)

    def _whose(self) -> str:
        names = sorted({one.name for one in self.membership.others if Role.LINKS in one.roles})
        missing = len(self._absent() - self._unsealed.keys())
        return f"{missing} links are served by another daemon ({', '.join(names) or 'unknown'})"

    async def run(self) -> None:
        """Take what becomes free, until cancelled; close all links when this daemon was ended."""
        loop = asyncio.get_running_loop()
        tell_at = 0.0
        while not self.membership.lost.is_set():
            await self._pause(self.membership.pause_s)
            try:
                async with self.turn:
                    await self._keep()
                if loop.time() >= tell_at and self.membership.valid:
                    tell_at = loop.time() + TELL_S
                    await self._tell()
            except StoreError as error:
                log.warning("leases not looked after", action="lease.watch", error=error.slug)
            except Exception as error:  # a fault of ours must not leave links without an owner
                log.error("leases not looked after", action="lease.watch", exc_info=error)

    async def close_lost(self) -> None:
        """Once another has ended this daemon, close every link at once."""
        await self.membership.lost.wait()
        self.links.serves = set()
        await self.links.supervisor.apply((), 0.0)

    async def _keep(self) -> None:
        """Serve what is this daemon's, as far as it may know that; take what is free."""
        valid = self.membership.valid
        may = valid or not self._standby  # else analyzers shall try the other address
        if may != self._open:
            self._open = may
            log.warning("the database is there again: links are opened" if may else
                        "the database is away, and another may have the links: they are closed",
                        action="lease.known" if may else "lease.unknown")  # fmt: skip
            await self._serve()
        if not valid:
            return
        before = len(self._mine)
        try:
            await self.take()
            await self._give_back()  # what a reload left: the database was away when its links were served no more
        finally:  # what it has is opened also where the rest could not be taken: nobody else will
            if len(self._mine) > before:
                log.warning("links taken over", action="lease.taken", links=len(self._mine) - before)
                await self._serve()

    async def _serve(self) -> None:
        self.links.serves = set(self._mine) if self._open else set()
        if not self.membership.lost.is_set():
            await self.links.supervisor.apply(self.links.served(), self._drain_s if self._open else 0.0)

    # ---- taking and giving back -------------------------------------------------------------------------------------

    def _missing(self) -> dict[UUID, list[UUID]]:
        """The links that it would serve and has not, by organization."""
        found: dict[UUID, list[UUID]] = {}
        if Role.LINKS in self._roles:
            for one in self.links.contexts:
                if one.link_id not in self._mine:
                    found.setdefault(one.organization_id, []).append(one.link_id)
        return found

    def _absent(self) -> set[UUID]:
        return {link_id for some in self._missing().values() for link_id in some}

    async def take(self) -> None:
        """Take what is free of what this daemon would have; links can be opened afterwards. Raises StoreError.

        What cannot be taken up of one organization (a row that is damaged) keeps no other's links closed: it is tried
        again each time."""
        missing = self._missing()
        undecided = (set(self.links.laboratories) if Role.WORKERS in self._roles else set()) - self.work
        if not missing and not undecided:
            return
        wanted = [(one, missing.get(one, []), one in undecided) for one in sorted(missing.keys() | undecided)]
        taken = await self.membership.take(wanted)
        for organization_id, links, _ in wanted:  # all, before anything fails: what it has it is given once
            self._unsealed.update(dict.fromkeys(taken.keys() & set(links), organization_id))
            if organization_id in taken:
                self._undecided.add(organization_id)
        for organization_id, links, _ in wanted:
            try:
                await self._take_up(organization_id, self._unsealed.keys() & set(links))
            except Exception as error:
                if organization_id not in self._failing:
                    self._failing.add(organization_id)
                    log.error("an organization's links are not taken up; it is tried again", action="lease.recover",
                              organization_id=str(organization_id), error=type(error).__name__)  # fmt: skip
            else:
                self._failing.discard(organization_id)
        self.links.serves = set(self._mine) if self._open else set()

    async def _take_up(self, organization_id: UUID, links: set[UUID]) -> None:
        if links:
            await self.links.journals[organization_id].recover(links)
            self._mine.update(dict.fromkeys(links, organization_id))
            for link_id in links:
                del self._unsealed[link_id]
        if self._decides and organization_id in self._undecided:
            await self._take_on(organization_id)

    async def _take_on(self, organization_id: UUID) -> None:
        await self.links.worker.take_on([organization_id], await self._of_others(organization_id))
        self._undecided.remove(organization_id)
        self.work.add(organization_id)

    async def _give_back(self) -> None:
        """Let others have what this daemon serves no more; they decide, where there are others. Raises StoreError."""
        await self._return((self._mine | self._unsealed).keys() - {one.link_id for one in self.links.contexts})
        gone = (self.work | self._undecided) - self.links.laboratories.keys()
        if gone and self.membership.others:
            self.links.worker.leave(gone)
            await self._return(gone)

    async def end_links(self) -> None:
        """The links are closed, in order: another may open them. Never raises."""
        await self._returned({*self._mine, *self._unsealed})

    async def end_work(self) -> None:
        """Nothing is decided any more: another may. Never raises."""
        waking.elsewhere(None)
        await self._returned(self.work | self._undecided)

    async def _returned(self, ids: set[UUID]) -> None:
        try:
            await self._return(ids)
        except LaboraError as error:  # with this daemon's end they are free
            log.warning("leases not given back", action="lease.return", error=error.slug)

    async def _return(self, ids: set[UUID]) -> None:
        by_organization: dict[UUID, list[UUID]] = {}
        for id in ids:
            by_organization.setdefault((self._mine | self._unsealed).get(id, id), []).append(id)
        for organization_id, some in by_organization.items():
            await self.membership.give_back(organization_id, some)
        for id in ids:
            self._mine.pop(id, None)
            self._unsealed.pop(id, None)
            self.work.discard(id)
            self._undecided.discard(id)

    # ---- what is said to others -------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        """Say how the links are, and look who else serves which."""
        others = self.membership.others
        for other in others:
            if other.configuration not in ("", self.membership.row.configuration) and other.id not in self._differing:
                self._differing.add(other.id)
                log.error("another daemon of this database has other links in its configuration",
                          action="daemon.configuration", daemon=other.name)  # fmt: skip
        if not others:
            self.links.worker.not_of = frozenset()  # what they left that nobody can read is parked: everybody sees that
            return
        by_organization: dict[UUID, dict[UUID, Mapping[str, object]]] = {}
        for link_id, said in self.links.standing().items():
            if (organization_id := self._mine.get(link_id)) is not None and self._told.get(link_id) != said:
                by_organization.setdefault(organization_id, {})[link_id] = said
        for organization_id, statuses in by_organization.items():
            await self.membership.tell(organization_id, statuses)
            self._told |= statuses
        self.links.worker.not_of = await self._unknown()

    async def _unknown(self) -> frozenset[UUID]:
        """The links of others that are not in this daemon's configuration: it cannot read what they take, which waits
        until they are (docs/standby.md)."""
        found: dict[UUID, str] = {}
        for organization_id in self.work:
            found |= await self._of_others(organization_id)
        for one in self.links.contexts:
            found.pop(one.link_id, None)
        if new := sorted(found[id] for id in found.keys() - self.links.worker.not_of):
            log.error("what links take that only another daemon has in its configuration is not decided: put them into "
                      "this one's too, and reload it", action="daemon.configuration", links=new)  # fmt: skip
        return frozenset(found)

    async def _of_others(self, organization_id: UUID) -> dict[UUID, str]:
        """The links of an organization that other daemons have."""
        async with self.links.database.organization(organization_id) as connection:
            return await leases.elsewhere(connection)

    def queued(self, organization_id: UUID) -> None:
        """Messages of an organization wait for their decision."""
        if organization_id in self.work:
            self.links.worker.wake()
        else:
            self.membership.ring(f"{QUEUED} {organization_id}")

    def _wake_elsewhere(self, organization_id: UUID) -> None:
        """Links may have something to say, and may be another daemon's."""
        if self.membership.others:
            self.membership.ring(f"{WORK} {organization_id}")

    def _heard(self, bell: str) -> None:
        what, _, about = bell.partition(" ")
        if what in (FREE, ENDED):
            self._woken.set()
        elif what == QUEUED and UUID(about) in self.work:
            self.links.worker.wake()
        elif what == WORK:
            waking.here(UUID(about))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()

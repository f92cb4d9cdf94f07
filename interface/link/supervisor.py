"""All links of the daemon: started together, stopped together, shown by `labora link status`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import random

import structlog

from interface.errors import LinkError
from interface.link.base import Link, LinkSpec, LinkState, LinkStatus
from interface.link.cable import SerialLink
from interface.link.clock import Clock, LoopClock
from interface.link.dial import DialLink
from interface.link.folder import FolderLink
from interface.link.listening import ListeningLink
from interface.link.shared import SharedPort
from interface.settings import Address, Folder, SerialPort
from interface.systemd import Sockets

__all__ = ["Changes", "LinkSpec", "LinkState", "LinkStatus", "Supervisor"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """What `Supervisor.apply` did, by the links' ids."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class Supervisor:
    """All links of the daemon. `jitter` gives numbers between 0 and 1 for the waits of links that dial; `sockets` has
    those on which links listen and that outlive the process.
    """

    def __init__(
        self,
        specs: Iterable[LinkSpec] = (),
        clock: Clock | None = None,
        jitter: Callable[[], float] = random,
        sockets: Sockets | None = None,
    ) -> None:
        self._clock, self._jitter, self._sockets = clock or LoopClock(), jitter, sockets or Sockets()
        self._specs = {spec.settings.id: spec for spec in specs}
        self._links = self._made(self._specs.values())

    async def start(self, specs: Iterable[LinkSpec] = ()) -> None:
        """Open every link, `specs` too. Raises LinkError naming each that could not be; then none is left open.

        A serial port that cannot be opened or a peer that cannot be dialled is tried again later, not raised.
        """
        more = {spec.settings.id: spec for spec in specs}
        self._specs |= more
        self._links |= self._made(more.values())
        faults: list[str] = []
        for link in self._links.values():
            try:
                await link.start()
            except LinkError as error:
                faults.append(str(error))
        if faults:
            await self.stop(0.0)
            raise LinkError("; ".join(faults))
        self._sockets.settle()

    async def apply(self, specs: Sequence[LinkSpec], drain_s: float) -> Changes:
        """Serve exactly these links from now on. Those that are the same as before go on, connections and all.

        Others are stopped as by `stop`, then started; one that cannot be is down, and tried again. Certificates are
        read again.
        """
        units = _units(specs)
        same = {
            name
            for name, link in self._links.items()
            if name in units and (link.same_as(units[name]) or link.change(units[name]))
        }
        await asyncio.gather(*(link.stop(drain_s) for name, link in self._links.items() if name not in same))
        for name in same:
            try:
                self._links[name].refresh()
            except LinkError as error:
                log.error("link not refreshed", link=name, action="link.refresh", error=error)
        self._links = {
            name: self._links[name] if name in same else self._link(unit) for name, unit in units.items()
        }  # fmt: skip
        before, self._specs = self._specs, {spec.settings.id: spec for spec in specs}
        for name in units.keys() - same:
            with suppress(LinkError):  # the link has logged it
                await self._links[name].start()
        self._sockets.settle()
        return Changes(
            tuple(name for name in self._specs if name not in before),
            tuple(name for name, spec in self._specs.items() if name in before and not spec.same_as(before[name])),
            tuple(name for name in before if name not in self._specs),
        )

    async def stop(self, drain_s: float) -> None:
        """Close every link, all at the same time."""
        await asyncio.gather(*(link.stop(drain_s) for link in self._links.values()))

    def _made(self, specs: Iterable[LinkSpec]) -> dict[str, Link]:
        return {name: self._link(unit) for name, unit in _units(specs).items()}

    def _link(self, unit: Sequence[LinkSpec]) -> Link:
        spec, transport = unit[0], unit[0].settings.transport
        if isinstance(transport.endpoint, SerialPort):
            return SerialLink(spec, self._clock, transport.endpoint)
        if isinstance(transport.endpoint, Folder):
            return FolderLink(spec, self._clock, transport.endpoint)
        if transport.type.dials:
            return DialLink(spec, self._clock, transport.endpoint, self._jitter)
        if spec.settings.match is not None:
            return SharedPort(unit, self._clock, transport.endpoint, self._sockets)
        return ListeningLink(spec, self._clock, transport.endpoint, self._sockets)

    def statuses(self) -> tuple[LinkStatus, ...]:
        """Every link as it is now, in the order of the configuration."""
        found = {status.id: status for link in self._links.values() for status in link.statuses()}
        return tuple(found[name] for name in self._specs if name in found)

    def address(self, link_id: str) -> Address:
        """Where a link listens; raises KeyError for an unknown id and for a link that does not listen."""
        return self.addresses()[link_id]

    def addresses(self) -> dict[str, Address]:
        """Where each link listens that does; the ports are the real ones."""
        return {
            status.id: link.listener.address
            for link in self._links.values()
            if isinstance(link, ListeningLink)
            for status in link.statuses()
        }


def _units(specs: Iterable[LinkSpec]) -> dict[str, tuple[LinkSpec, ...]]:
    """The links by what serves them: each its own, but for those that share a port."""
    units: dict[str, tuple[LinkSpec, ...]] = {}
    for spec in specs:
        endpoint = spec.settings.transport.endpoint
        shares = spec.settings.match is not None and isinstance(endpoint, Address) and endpoint.port
        name = f"port {endpoint}" if shares else spec.settings.id
        units[name] = (*units.get(name, ()), spec)
    return units

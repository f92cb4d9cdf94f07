"""The links: a listener each, a task per connection, and what `labora link status` shows of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import structlog

from interface import telemetry
from interface.errors import LaboraError, LinkError
from interface.link.clock import Clock, LoopClock
from interface.link.intake import Intake
from interface.link.session import AstmSession, Counters, MllpSession, Session
from interface.link.stream import ByteStream
from interface.link.tcp import TcpListener
from interface.settings import Address, LinkSettings, TransportType
from interface.wire import lis01, mllp

CHECK_S = 5.0  # how often a listener is looked after
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 1.0, 60.0

log = structlog.get_logger(__name__)


class Framing(Protocol):
    """What a link needs of its driver."""

    @property
    def leniencies(self) -> frozenset[str]:
        """Names of `wire.lis01.Leniency`."""
        ...


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One link to be served."""

    settings: LinkSettings
    intake: Intake
    framing: Framing | None = None


class LinkState(StrEnum):
    DOWN = "down"
    UP = "up"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """A link at one moment. Counts are since the daemon's start."""

    id: str
    organization: str
    driver: str
    transport: str
    address: str
    state: LinkState
    connections: int
    connections_made: int
    connections_refused: int
    frames: int
    repeats: int
    naks: int
    checksum_errors: int
    messages: int
    rejected: int
    leniencies: int
    last_activity: datetime | None
    fault: str  # why it is down

    @property
    def up(self) -> bool:
        return self.state is LinkState.UP


class _Link:
    """One link: its listener, and the sessions on it."""

    def __init__(self, spec: LinkSpec, clock: Clock) -> None:
        self.spec, self.settings, self._clock = spec, spec.settings, clock
        self.state, self.fault = LinkState.DOWN, ""
        self.counters = Counters()
        self.sessions: dict[asyncio.Task[None], Session] = {}
        names = spec.framing.leniencies if spec.framing else frozenset()
        self._options = lis01.LinkOptions(leniencies=frozenset(map(lis01.Leniency, names)))
        self.listener = TcpListener(
            self.settings.transport.listen,
            self._serve,
            allow=self.settings.allow,
            max_connections=self.settings.max_connections,
            refused=self._refused,
        )
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises LinkError with one sentence that names the link."""
        await self._listen()
        self._watch = asyncio.create_task(self._look_after(), name=f"link {self.settings.id}")

    async def stop(self, drain_s: float) -> None:
        """Accept nothing more, let sessions end for at most `drain_s`, then cut them. Idle ones are cut at once."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.listener.stop()
        tasks = self.listener.connections
        for task in tasks:
            session = self.sessions.get(task)
            if session is not None:
                session.stop()
            if session is None or session.idle:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.state = LinkState.STOPPED
        log.info("link down", link=self.settings.id, action="link.down", reason="stopped")

    def status(self) -> LinkStatus:
        counters = self.counters
        return LinkStatus(
            id=self.settings.id,
            organization=self.settings.organization,
            driver=self.settings.driver,
            transport=self.settings.transport.type,
            address=str(self.listener.address),
            state=self.state,
            connections=len(self.sessions),
            connections_made=counters.connections_made,
            connections_refused=counters.connections_refused,
            frames=counters.frames,
            repeats=counters.repeats,
            naks=counters.naks,
            checksum_errors=counters.checksum_errors,
            messages=counters.messages,
            rejected=counters.rejected,
            leniencies=counters.leniencies,
            last_activity=counters.last_activity,
            fault=self.fault,
        )

    async def _listen(self) -> None:
        try:
            await self.listener.start()
        except LinkError as error:
            self.fault = str(error)
            raise LinkError(f"link {self.settings.id}: {error}") from error
        self.state, self.fault = LinkState.UP, ""
        log.info("link up", link=self.settings.id, action="link.up", address=str(self.listener.address))

    async def _look_after(self) -> None:
        """Put a listener that failed back, with back-off; connections that are open are not touched."""
        back_off_s = FIRST_BACK_OFF_S
        while True:
            await self._clock.sleep(CHECK_S)
            if self.listener.serving:
                back_off_s = FIRST_BACK_OFF_S
                continue
            if self.state is LinkState.UP:
                self.state, self.fault = LinkState.DOWN, "the listener failed"
                log.error("link down", link=self.settings.id, action="link.down", reason=self.fault)
            try:
                await self._listen()
            except LinkError:
                await self._clock.sleep(back_off_s)
                back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)

    async def _serve(self, stream: ByteStream) -> None:
        """One connection, from its begin to its end. A fault in it costs it alone."""
        task = asyncio.current_task()
        if task is None:
            raise LinkError("a connection is served by a task")
        self.counters.connections_made += 1
        try:
            session = self._session(stream)
            self.sessions[task] = session
            telemetry.set_connections(self.settings.id, len(self.sessions))
            log.info("connected", link=self.settings.id, action="link.connected", peer=stream.peer)
            await session.run()
        except LaboraError as error:
            log.error("connection failed", link=self.settings.id, action="link.failed", error=str(error))
        except Exception as error:
            log.error("connection failed", link=self.settings.id, action="link.failed", error=error)
        finally:
            self.sessions.pop(task, None)
            telemetry.set_connections(self.settings.id, len(self.sessions))
            await stream.close()
            log.info("disconnected", link=self.settings.id, action="link.disconnected", peer=stream.peer)

    def _session(self, stream: ByteStream) -> Session:
        settings, intake = self.settings, self.spec.intake
        if settings.transport.type is TransportType.MLLP_LISTEN:
            decoder = mllp.Decoder(settings.max_message_bytes)
            return MllpSession(settings.id, stream, intake, self.counters, self._clock, decoder)
        core = lis01.DataLink(lis01.Station.HOST, self._options)
        return AstmSession(settings.id, stream, intake, self.counters, self._clock, core)

    def _refused(self, reason: str, peer: str) -> None:
        self.counters.connections_refused += 1
        log.warning("connection refused", link=self.settings.id, action="link.refused", reason=reason, peer=peer)


class Supervisor:
    """All links of the daemon."""

    def __init__(self, specs: Iterable[LinkSpec], clock: Clock | None = None) -> None:
        self._links = {spec.settings.id: _Link(spec, clock or LoopClock()) for spec in specs}

    async def start(self) -> None:
        """Open every link. Raises LinkError naming each that could not be; then none is left open."""
        faults: list[str] = []
        for link in self._links.values():
            try:
                await link.start()
            except LinkError as error:
                faults.append(str(error))
        if faults:
            await self.stop(0.0)
            raise LinkError("; ".join(faults))

    async def stop(self, drain_s: float) -> None:
        """Close every link, all at the same time."""
        await asyncio.gather(*(link.stop(drain_s) for link in self._links.values()))

    def statuses(self) -> tuple[LinkStatus, ...]:
        """Every link as it is now, in the order of the configuration."""
        return tuple(link.status() for link in self._links.values())

    def address(self, link_id: str) -> Address:
        """Where a link listens; raises KeyError for an unknown id."""
        return self._links[link_id].listener.address

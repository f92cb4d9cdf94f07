"""The links: a listener and a task per connection, or a serial port; and what `labora link status` shows of them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
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
from interface.link.serial import SerialStream, open_port
from interface.link.session import AstmSession, Counters, MllpSession, Session
from interface.link.stream import ByteStream
from interface.link.tcp import TcpListener
from interface.settings import Address, LinkSettings, SerialPort, TransportType
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


class _Link(ABC):
    """One link, and the sessions on it. What carries its bytes is a subclass's."""

    def __init__(self, spec: LinkSpec, clock: Clock) -> None:
        self.spec, self.settings, self._clock = spec, spec.settings, clock
        self.state, self.fault = LinkState.DOWN, ""
        self.counters = Counters()
        self.sessions: dict[asyncio.Task[None], Session] = {}
        names = spec.framing.leniencies if spec.framing else frozenset()
        self._options = lis01.LinkOptions(leniencies=frozenset(map(lis01.Leniency, names)))

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the link is, as `labora link status` shows it."""

    @abstractmethod
    async def start(self) -> None:
        """Raises LinkError with one sentence that names the link."""

    @abstractmethod
    async def stop(self, drain_s: float) -> None:
        """Accept nothing more, let sessions end for at most `drain_s`, then cut them. Idle ones are cut at once."""

    def status(self) -> LinkStatus:
        counters = self.counters
        return LinkStatus(
            id=self.settings.id,
            organization=self.settings.organization,
            driver=self.settings.driver,
            transport=self.settings.transport.type,
            address=self.address,
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

    def _up(self) -> None:
        self.state, self.fault = LinkState.UP, ""
        log.info("link up", link=self.settings.id, action="link.up", address=self.address)

    def _down(self, reason: str) -> None:
        """Logged once for each reason, however often it is found again."""
        if (self.state, self.fault) == (LinkState.DOWN, reason):
            return
        self.state, self.fault = LinkState.DOWN, reason
        log.error("link down", link=self.settings.id, action="link.down", reason=reason)

    async def _end(self, tasks: frozenset[asyncio.Task[None]], drain_s: float) -> None:
        """Ask the sessions that `tasks` serve to stop, and cut what does not in time."""
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


class _ListeningLink(_Link):
    """A link that is connected to: a listener, and a task for each connection."""

    def __init__(self, spec: LinkSpec, clock: Clock, address: Address) -> None:
        super().__init__(spec, clock)
        self.listener = TcpListener(
            address,
            self._serve,
            allow=self.settings.allow,
            max_connections=self.settings.max_connections,
            refused=self._refused,
        )
        self._watch: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return str(self.listener.address)

    async def start(self) -> None:
        try:
            await self._listen()
        except LinkError as error:
            raise LinkError(f"link {self.settings.id}: {error}") from error
        self._watch = asyncio.create_task(self._look_after(), name=f"link {self.settings.id}")

    async def stop(self, drain_s: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.listener.stop()
        await self._end(self.listener.connections, drain_s)

    async def _listen(self) -> None:
        try:
            await self.listener.start()
        except LinkError as error:
            self._down(str(error))
            raise
        self._up()

    async def _look_after(self) -> None:
        """Put a listener that failed back, with back-off; connections that are open are not touched."""
        back_off_s = FIRST_BACK_OFF_S
        while True:
            await self._clock.sleep(CHECK_S)
            if self.listener.serving:
                back_off_s = FIRST_BACK_OFF_S
                continue
            if self.state is LinkState.UP:
                self._down("the listener failed")
            try:
                await self._listen()
            except LinkError:
                await self._clock.sleep(back_off_s)
                back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)

    def _refused(self, reason: str, peer: str) -> None:
        self.counters.connections_refused += 1
        log.warning("connection refused", link=self.settings.id, action="link.refused", reason=reason, peer=peer)


class _SerialLink(_Link):
    """A cable: one session for as long as its port is there, opened again by name when it is back.

    A port that cannot be opened never keeps the daemon from starting: the cable may come later.
    """

    def __init__(self, spec: LinkSpec, clock: Clock, port: SerialPort) -> None:
        super().__init__(spec, clock)
        self._port = port
        self._stream: SerialStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def address(self) -> str:
        return str(self._port)

    async def start(self) -> None:
        self._open()
        self._task = asyncio.create_task(self._keep_open(), name=f"link {self.settings.id}")

    async def stop(self, drain_s: float) -> None:
        self._stopping = True
        await self._end(frozenset({self._task} if self._task else ()), drain_s)
        if self._stream is not None:  # of use only where the task was cancelled before it began
            await self._stream.close()

    def _open(self) -> None:
        try:
            self._stream = open_port(self._port)
        except LinkError as error:
            self._down(str(error))
        else:
            self._up()

    async def _keep_open(self) -> None:
        back_off_s = FIRST_BACK_OFF_S
        while True:
            if self._stream is not None:
                opened_at, stream = self._clock.now(), self._stream
                await self._serve(stream)
                self._stream = None
                if self._stopping:
                    return
                if (
                    self._clock.now() - opened_at >= LONGEST_BACK_OFF_S
                ):  # else its contact is loose: less and less often
                    back_off_s = FIRST_BACK_OFF_S
                    if not stream.fault:  # silent for a day, which says nothing about the port
                        self._open()
                        continue
                self._down(stream.fault or "the session ended")
            await self._clock.sleep(back_off_s)
            back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)
            self._open()


def _link(spec: LinkSpec, clock: Clock) -> _Link:
    endpoint = spec.settings.transport.endpoint
    if isinstance(endpoint, SerialPort):
        return _SerialLink(spec, clock, endpoint)
    return _ListeningLink(spec, clock, endpoint)


class Supervisor:
    """All links of the daemon."""

    def __init__(self, specs: Iterable[LinkSpec], clock: Clock | None = None) -> None:
        self._links = {spec.settings.id: _link(spec, clock or LoopClock()) for spec in specs}

    async def start(self) -> None:
        """Open every link. Raises LinkError naming each that could not be; then none is left open.

        A serial port that cannot be opened is tried again later, not raised.
        """
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
        """Where a link listens; raises KeyError for an unknown id and for a link that does not listen."""
        return self.addresses()[link_id]

    def addresses(self) -> dict[str, Address]:
        """Where each link listens that does; the ports are the real ones."""
        listening = {name: link for name, link in self._links.items() if isinstance(link, _ListeningLink)}
        return {name: link.listener.address for name, link in listening.items()}

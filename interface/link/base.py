"""A link: its settings, its state, the sessions on it. What carries its bytes is a subclass's."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import structlog

from interface import telemetry
from interface.domain import model
from interface.errors import LaboraError, LinkError
from interface.link.clock import Clock
from interface.link.declared import DeclaredSession
from interface.link.intake import Intake
from interface.link.mllp_session import MllpOptions, MllpSession
from interface.link.recorder import Allowance, RecordedIntake, RecordedStream, Recorder, WireLog
from interface.link.session import AstmSession, Counters, Session
from interface.link.stream import ByteStream
from interface.settings import LinkSettings, TransportType
from interface.wire import declared, lis01, mllp

log = structlog.get_logger(__name__)


class Framing(Protocol):
    """What a link needs of its driver."""

    @property
    def protocol(self) -> model.Protocol:
        """What its messages are written in."""
        ...

    @property
    def leniencies(self) -> frozenset[str]:
        """Names of `wire.lis01.Leniency`."""
        ...

    @property
    def frame_text_bytes(self) -> int:
        """Of the frames we send; 0: no matter."""
        ...

    @property
    def ack_colliding_enq(self) -> bool:
        """Whether the analyzer's ENQ is acknowledged at once when it collides with ours."""
        ...

    @property
    def blocks(self) -> declared.Grammar | None:
        """The framing that the driver declares itself, whatever carries the bytes."""
        ...


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One link to be served."""

    settings: LinkSettings
    intake: Intake
    framing: Framing | None = None
    wire_log: WireLog | None = None

    def same_as(self, other: LinkSpec) -> bool:
        """Whether both are served in the same way; an intake is only ever made anew."""
        return (self.settings, self.framing) == (other.settings, other.framing)


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
    leniencies: Mapping[str, int]  # departures that were taken, by name
    line_faults: Mapping[str, int]  # of a serial line: break, parity
    last_activity: datetime | None
    fault: str  # why it is down

    @property
    def up(self) -> bool:
        return self.state is LinkState.UP


class Link(ABC):
    """One link, and the sessions on it. What carries its bytes is a subclass's."""

    def __init__(self, spec: LinkSpec, clock: Clock) -> None:
        self.spec, self.settings, self.clock = spec, spec.settings, clock
        self.state, self.fault = LinkState.DOWN, ""
        self.counters = Counters()
        self.sessions: dict[asyncio.Task[None], Session] = {}
        self._options = link_options(spec)
        self._allowance = Allowance(clock)

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the link is, as `labora link status` shows it."""

    @abstractmethod
    async def start(self) -> None:
        """Raises LinkError with one sentence that names the link."""

    def same_as(self, specs: Sequence[LinkSpec]) -> bool:
        """Whether what serves `specs` would be this one."""
        return len(specs) == 1 and self.spec.same_as(specs[0])

    def change(self, specs: Sequence[LinkSpec]) -> bool:
        """Serve `specs` from now on, connections and all; False where that is not possible."""
        return False

    def connection(self, stream: ByteStream) -> tuple[ByteStream, Intake]:
        """A connection that was made and its intake, both listened to where there is a wire log."""
        return self.recorded(stream, self.spec.intake, self.spec.wire_log)

    def recorded(self, stream: ByteStream, intake: Intake, wire_log: WireLog | None) -> tuple[ByteStream, Intake]:
        """Both, as all that they hear goes to `wire_log`."""
        if wire_log is None:
            return stream, intake
        recorder = self.recorder(wire_log, stream.peer)
        return RecordedStream(stream, recorder), RecordedIntake(intake, recorder)

    def recorder(self, wire_log: WireLog, peer: str) -> Recorder:
        """Who hears a connection, or reads along in a file."""
        return Recorder(wire_log, peer, self._allowance, self.clock)

    def disconnected(self, peer: str) -> None:
        """The connection has ended."""
        return

    def refresh(self) -> None:
        """Read again what stands in files beside the configuration: certificates. Raises LinkError."""
        return

    @abstractmethod
    async def stop(self, drain_s: float) -> None:
        """Accept nothing more, let sessions end for at most `drain_s`, then cut them. Idle ones are cut at once."""

    def statuses(self) -> tuple[LinkStatus, ...]:
        """Of each link that is served here."""
        return (self.status(),)

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
            leniencies=dict(sorted(counters.leniencies.items())),
            line_faults=counters.line_faults.copy(),
            last_activity=counters.last_activity,
            fault=self.fault,
        )

    def went_up(self) -> None:
        self.state, self.fault = LinkState.UP, ""
        log.info("link up", link=self.settings.id, action="link.up", address=self.address)

    def went_down(self, reason: str) -> None:
        """Logged once for each reason, however often it is found again."""
        if (self.state, self.fault) == (LinkState.DOWN, reason):
            return
        self.state, self.fault = LinkState.DOWN, reason
        log.error("link down", link=self.settings.id, action="link.down", reason=reason)

    async def end(self, tasks: frozenset[asyncio.Task[None]], drain_s: float) -> None:
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

    async def serve(self, stream: ByteStream) -> None:
        """One connection, from its begin to its end. A fault in it costs it alone."""
        task = asyncio.current_task()
        if task is None:
            raise LinkError("a connection is served by a task")
        self.counters.connections_made += 1
        stream, intake = self.connection(stream)
        try:
            session = self._session(stream, intake)
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
            self.disconnected(stream.peer)
            log.info("disconnected", link=self.settings.id, action="link.disconnected", peer=stream.peer)

    def _session(self, stream: ByteStream, intake: Intake) -> Session:
        settings = self.settings
        if self.spec.framing is not None and self.spec.framing.blocks is not None:
            blocks = declared.Decoder(self.spec.framing.blocks, settings.max_message_bytes)
            return DeclaredSession(settings.id, stream, intake, self.counters, self.clock, blocks, settings.idle_s)
        if settings.transport.type in (TransportType.MLLP_LISTEN, TransportType.MLLP_DIAL):
            decoder = mllp.Decoder(settings.max_message_bytes)
            options = MllpOptions(
                settings.outstanding, settings.mllp_release, settings.answer_wait_s, settings.transport.type.dials
            )
            return MllpSession(
                settings.id, stream, intake, self.counters, self.clock, decoder, settings.idle_s, options
            )
        core = lis01.DataLink(lis01.Station.HOST, self._options)
        return AstmSession(settings.id, stream, intake, self.counters, self.clock, core, settings.idle_s)


def link_options(spec: LinkSpec) -> lis01.LinkOptions:
    """What the driver asks for and the link's settings add or override."""
    settings, framing = spec.settings, spec.framing
    names, text_bytes, conceding = settings.leniencies, settings.frame_text_bytes, settings.ack_colliding_enq
    if framing is not None:
        names |= framing.leniencies
        text_bytes = text_bytes or framing.frame_text_bytes
        conceding = framing.ack_colliding_enq if conceding is None else conceding
    return lis01.LinkOptions(
        leniencies=frozenset(map(lis01.Leniency, names)),
        max_frame_bytes=settings.max_frame_bytes,
        frame_text_bytes=text_bytes or lis01.LinkOptions().frame_text_bytes,
        ack_colliding_enq=bool(conceding),
        max_attempts=1,  # what was not taken is due again, and what is sent then may be something else
    )

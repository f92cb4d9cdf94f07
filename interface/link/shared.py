"""Several links on one port: each session, or each HL7 message, belongs to the one link whose `match` fits its header.

What fits none of them, or more than one, is refused before anything of it is stored: NAK, or AR with ERR. It is then
nobody's: it is counted and logged without its bytes. Where all links of a port are of one organization the wire log has
the whole of each connection; where they are not, each link's has what was attributed to it (`shared_log`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from uuid import UUID, uuid4

import structlog

from interface import telemetry
from interface.errors import NotAttributed, UnsupportedMessage
from interface.link.base import LinkSpec, LinkStatus, link_options
from interface.link.clock import Clock
from interface.link.intake import (
    BlockIntake,
    FrameIntake,
    Intake,
    Outgoing,
    Receipt,
    ReceivedBlock,
    ReceivedFrame,
    Sending,
)
from interface.link.listening import ListeningLink, Refusals
from interface.link.recorder import Allowance, RecordedStream
from interface.link.session import Counters
from interface.link.shared_log import SharedLog
from interface.link.stream import ByteStream
from interface.settings import Address, LinkSettings, Match
from interface.systemd import Sockets
from interface.wire import hl7, hl7_ack
from interface.wire.transmission import MessageSplitter, begins_header

UNKNOWN_SENDER = 204  # HL7 table 0357: unknown key identifier
_LONGEST_SENDER = 256
_RECORD_END = re.compile(rb"[\r\n]")
# What holds for a connection before its header is read, and so for all links of a port.
PORT_SETTINGS = (
    "transport", "allow", "max_connections", "takeover", "idle_s", "tls", "max_message_bytes", "leniencies",
    "max_frame_bytes", "frame_text_bytes", "ack_colliding_enq", "ack", "outstanding", "mllp_release",
    "answer_wait_s",
)  # fmt: skip

log = structlog.get_logger(__name__)


def differing(one: LinkSettings, other: LinkSettings) -> str:
    """The first setting in which two links differ that one port cannot serve both ways; "" where it can."""
    return next((key for key in PORT_SETTINGS if getattr(one, key) != getattr(other, key)), "")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a message: as its header says (H-5; MSH-3 and MSH-4), and from which host."""

    name: str
    facility: str
    host: str


def fits(match: Match, sender: Sender) -> bool:
    """Whether all that `match` asks for is so. Expressions are searched for, as in drivers."""
    if match.sender and not _expression(match.sender).search(sender.name):
        return False
    if match.facility and not _expression(match.facility).search(sender.facility):
        return False
    return not match.peer or _within(sender.host, match.peer)


def lis2_sender(text: bytes, ended: bool) -> str | None:
    """H-5 at the begin of a message; None when `text` has no H record or not the whole field.

    `ended`: the record ends with `text`.
    """
    if len(text) < 2 or not begins_header(text, 0):
        return None
    end = _RECORD_END.search(text)
    fields = text[: end.start() if end else len(text)].split(text[1:2], 5)
    if len(fields) < 6 and not end and not ended:
        return None
    return fields[4].decode("latin-1")[:_LONGEST_SENDER] if len(fields) > 4 else ""


@cache
def _expression(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _within(host: str, network: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address) in ipaddress.ip_network(network, strict=False)


class Member:
    """One link of a shared port, with what was counted of it alone."""

    def __init__(self, spec: LinkSpec, clock: Clock) -> None:
        self.spec, self.counters, self.allowance = spec, Counters(), Allowance(clock)
        self.intake, self.wire_log = spec.intake, spec.wire_log

    @property
    def id(self) -> str:
        return self.spec.settings.id

    def fits(self, sender: Sender) -> bool:
        return self.spec.settings.match is not None and fits(self.spec.settings.match, sender)

    def count(self, receipt: Receipt, now: datetime, frames: int = 1) -> None:
        self.counters.frames += frames
        self.counters.messages += receipt.message_id is not None
        self.counters.last_activity = now


class SharedPort(ListeningLink):
    """The listener of several links. Its own settings are the first one's, under the name of its address."""

    def __init__(
        self, specs: Sequence[LinkSpec], clock: Clock, address: Address, sockets: Sockets | None = None
    ) -> None:
        first = specs[0]
        super().__init__(replace(first, settings=replace(first.settings, id=str(address))), clock, address, sockets)
        self.members = tuple(Member(spec, clock) for spec in specs)
        self._intakes: dict[str, SharedIntake] = {}  # by peer, of connections that are open
        self._unattributed = Refusals(clock)

    def same_as(self, specs: Sequence[LinkSpec]) -> bool:
        pairs = zip(self.members, specs, strict=False)
        return len(self.members) == len(specs) and all(member.spec.same_as(spec) for member, spec in pairs)

    def change(self, specs: Sequence[LinkSpec]) -> bool:
        """Let links come and go on a port that stays. Connections of one that went end with their session."""
        before = self.members[0].spec
        if any(differing(before.settings, spec.settings) for spec in specs):
            return False
        if any(link_options(before) != link_options(spec) for spec in specs):
            return False
        # The whole of a connection is in the log of one laboratory, which must stay the only one.
        if self.one_organization and {before.settings.organization} != {spec.settings.organization for spec in specs}:
            return False
        known = {member.id: member for member in self.members}
        self.members = tuple(
            known[spec.settings.id]
            if spec.settings.id in known and known[spec.settings.id].spec.same_as(spec)
            else Member(spec, self.clock)
            for spec in specs
        )
        for kept in self._intakes.values():
            kept.keep_to(self.members)
        for task, session in self.sessions.items():
            intake = self._intakes.get(session.peer)
            if intake is not None and intake.current is not None and intake.current not in self.members:
                session.stop()
                if session.idle:
                    task.cancel()
        return True

    def statuses(self) -> tuple[LinkStatus, ...]:
        """Frames, messages, activity and connections are a link's own; the rest is counted for the port."""
        port = self.status()
        connected = [intake.current for intake in self._intakes.values()]
        return tuple(
            replace(
                port,
                id=member.id,
                organization=member.spec.settings.organization,
                driver=member.spec.settings.driver,
                connections=connected.count(member),
                frames=member.counters.frames,
                messages=member.counters.messages,
                last_activity=member.counters.last_activity,
            )
            for member in self.members
        )

    def attribute(self, sender: Sender | None) -> Member:
        """The one link that a message is for. Raises NotAttributed; None: its header does not say."""
        found = [member for member in self.members if sender is not None and member.fits(sender)]
        if len(found) == 1:
            return found[0]
        raise NotAttributed("header" if sender is None else "several" if found else "none")

    def not_attributed(self, error: NotAttributed, peer: str) -> None:
        """Once in a while for each reason; the sender's name is not told, which may be anything."""
        self.counters.rejected += 1
        telemetry.count_rejected(self.settings.id, f"not_attributed_{error.reason}")
        before = self._unattributed.note(error.reason)
        if before is not None:
            log.warning("not attributed", link=self.settings.id, action="link.not_attributed", reason=error.reason,
                        peer=peer, not_logged_before=before)  # fmt: skip

    def connection(self, stream: ByteStream) -> tuple[ByteStream, Intake]:
        log = None if self.one_organization else SharedLog(stream.peer, self.clock)
        intake = self._intakes[stream.peer] = SharedIntake(self, stream.peer, self.clock, log)
        return self.recorded(stream, intake, intake) if log is None else (RecordedStream(stream, log), intake)

    def disconnected(self, peer: str) -> None:
        self._intakes.pop(peer, None)

    @property
    def one_organization(self) -> bool:
        return len({member.spec.settings.organization for member in self.members}) == 1


class SharedIntake:
    """The `Intake` and `WireLog` of one connection to a shared port. `current`: whose it is, as far as is known.

    `log`: of a port of several laboratories; then this is nobody's `WireLog`.
    """

    def __init__(self, port: SharedPort, peer: str, clock: Clock, log: SharedLog | None) -> None:
        self.port, self.peer, self.clock, self.log = port, peer, clock, log
        self.current: Member | None = None
        self.last: Member | None = None  # whose it was last
        self._owed: dict[UUID, Member] = {}
        self._outgoing: SharedOutgoing | None = None

    @property
    def host(self) -> str:
        return self.peer.rpartition(":")[0].strip("[]")

    @property
    def ready(self) -> bool:
        members = self.port.members if self.current is None else (self.current,)
        return any(member.intake.ready for member in members)

    def of(self, member: Member) -> Intake:
        """The link's own intake."""
        return member.intake if self.log is None else self.log.of(member)

    def begin(self, member: Member) -> None:
        """A session is this link's."""
        self.last = self.current = member
        self._hears(member)
        if self.log is not None:
            self.log.begin(member)

    def _hears(self, member: Member) -> None:
        """The link may say on this connection what it has to say."""
        if self._outgoing is not None:
            self._outgoing.add(member)

    def end(self) -> None:
        """It is over, or its next message may be another link's."""
        self.current = None
        if self.log is not None:
            self.log.end()

    def keep_to(self, members: Sequence[Member]) -> None:
        """Other links than these say nothing more on this connection."""
        if self._outgoing is not None:
            self._outgoing.keep_to(members)

    def frames(self, peer: str) -> FrameIntake:
        return SharedFrames(self)

    async def block(self, block: bytes, peer: str) -> Receipt:
        name, facility = hl7.sender(block)
        try:
            member = self.last = self.current = self.port.attribute(Sender(name, facility, self.host))
        except NotAttributed as error:
            self.port.not_attributed(error, peer)
            telemetry.count_nak(self.port.settings.id, error.slug)
            return Receipt(reply=self._negative(block))
        self._hears(member)
        receipt = await self.of(member).block(block, peer)
        if receipt.message_id is not None:
            member.count(receipt, self.clock.utc())
        self.owe(receipt, member)
        return receipt

    def declared(self, peer: str) -> BlockIntake:
        return SharedBlocks(self)

    def outgoing(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        self._outgoing = SharedOutgoing(peer, due)
        return self._outgoing

    def owe(self, receipt: Receipt, member: Member) -> None:
        """A reply is due to what `member` has stored."""
        if receipt.message_id is not None:
            self._owed[receipt.message_id] = member

    def replied(self, receipt: Receipt, sent: bool) -> None:
        if receipt.message_id is not None and (member := self._owed.pop(receipt.message_id, None)) is not None:
            self.of(member).replied(receipt, sent)

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        if self.current is not None:
            self.current.intake.rejected(reason, data, peer)
            if self.log is not None:
                self.log.refused(reason, data)
        else:
            telemetry.count_rejected(self.port.settings.id, reason)

    def keep(self, connection_id: UUID, peer: str, began_at: datetime, ended_at: datetime, events: bytes) -> bool:
        """See `WireLog.keep`: into the log of the link whose connection it is, or may be."""
        log = (self.current or self.last or self.port.members[0]).wire_log
        return log is not None and log.keep(connection_id, peer, began_at, ended_at, events)

    def _negative(self, block: bytes) -> bytes | None:
        due = hl7_ack.due(block, hl7_ack.Outcome.REJECTED, self.port.settings.ack)
        code = due.first or due.then
        error = UnsupportedMessage("no link of this port is for this sender", "MSH^1^3", UNKNOWN_SENDER)
        if code is None:
            return None
        return hl7_ack.acknowledge(block, code, control_id=uuid4().hex[:20], now=self.clock.utc(), error=error)


class SharedOutgoing:
    """The `Outgoing` of one connection to a shared port: of the links that have spoken on it, in that order."""

    def __init__(self, peer: str, due: Callable[[], None]) -> None:
        self._peer, self._due = peer, due
        self._members: dict[Member, Outgoing] = {}
        self._taken: Outgoing | None = None

    def add(self, member: Member) -> None:
        """It has spoken."""
        if member not in self._members and (own := member.intake.outgoing(self._peer, self._due)) is not None:
            self._members[member] = own
            self._due()

    async def take(self) -> Sending | None:
        """See `Outgoing`."""
        for member, own in list(self._members.items()):
            if member in self._members and (sending := await own.take()) is not None:
                self._taken = own
                return sending
        return None

    async def told(self, sending: Sending, delivered: bool, reply: bytes | None, reason: str) -> bytes | None:
        """See `Outgoing`."""
        own, self._taken = self._taken, None
        return await own.told(sending, delivered, reply, reason) if own is not None else None

    def keep_to(self, members: Sequence[Member]) -> None:
        """What another link has on the line is still told of (`told`); it is asked for nothing more."""
        for member in [one for one in self._members if one not in members]:
            self._members.pop(member).close()

    def close(self) -> None:
        """See `Outgoing`."""
        for own in self._members.values():
            own.close()


class SharedBlocks:
    """The `BlockIntake` of one connection: declared blocks have no header, so the peer's host says whose they
    are. Each link's own intake is kept, which knows a block again whose commit was in doubt."""

    def __init__(self, intake: SharedIntake) -> None:
        self._shared = intake
        self._of: dict[str, tuple[Member, BlockIntake]] = {}

    async def block(self, block: ReceivedBlock) -> Receipt:
        """Raises NotAttributed."""
        shared = self._shared
        try:
            member = shared.port.attribute(Sender("", "", shared.host))
        except NotAttributed as error:
            shared.port.not_attributed(error, shared.peer)
            raise
        known = self._of.get(member.id)
        if known is None or known[0] is not member:
            known = self._of[member.id] = (member, shared.of(member).declared(shared.peer))
        if member is not shared.current:
            shared.begin(member)
        receipt = await known[1].block(block)
        member.count(receipt, shared.clock.utc())
        shared.owe(receipt, member)
        return receipt


class SharedFrames:
    """The `FrameIntake` of one connection to a shared port: each message goes to the link its H record names."""

    def __init__(self, intake: SharedIntake) -> None:
        self._shared = intake
        self._splitter = MessageSplitter()
        self._frames: FrameIntake | None = None

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        """Raises NotAttributed, also for a frame that has not the whole of H-5, or messages for several links."""
        splitter = self._splitter.fork()
        member = self._member(frame, splitter)
        if member is not self._shared.current or self._frames is None:
            await self._leave("header")
            self._shared.begin(member)
            self._frames = self._shared.of(member).frames(self._shared.peer)
        receipt = await self._frames.frame(frame)
        self._splitter = splitter
        member.count(receipt, self._shared.clock.utc())
        self._shared.owe(receipt, member)
        return receipt

    async def end(self, reason: str) -> Receipt:
        self._splitter = MessageSplitter()
        return await self._leave(reason)

    async def _leave(self, reason: str) -> Receipt:
        frames, member = self._frames, self._shared.current
        self._frames = None
        self._shared.end()
        if frames is None or member is None:
            return Receipt()
        receipt = await frames.end(reason)
        if receipt.message_id is not None:
            member.count(receipt, self._shared.clock.utc(), frames=0)
        self._shared.owe(receipt, member)
        return receipt

    def _member(self, frame: ReceivedFrame, splitter: MessageSplitter) -> Member:
        """Whose the frame is, all of it. Raises NotAttributed."""
        shared = self._shared
        found: list[Member] = []
        pieces = splitter.feed(frame.text, frame.last)
        try:
            for piece in pieces:
                if not piece.opens and shared.current is not None:
                    found.append(shared.current)
                    continue
                ended = frame.last and piece.stop == len(frame.text)
                name = lis2_sender(frame.text[piece.start : piece.stop], ended)
                found.append(shared.port.attribute(None if name is None else Sender(name, "", shared.host)))
            if not pieces and shared.current is not None:
                found.append(shared.current)
            if len(set(found)) != 1:
                raise NotAttributed("several" if found else "header")
        except NotAttributed as error:
            shared.port.not_attributed(error, shared.peer)
            raise
        return found[0]

"""A link tried on itself: its driver's vector is played to its own receiver in memory. Nothing is stored anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from interface.domain.model import Protocol
from interface.errors import LocatedError, SegmentError, UnsupportedMessage
from interface.link.base import Link, LinkSpec
from interface.link.clock import Clock, LoopClock
from interface.link.folder import FolderLink
from interface.link.intake import Receipt, ReceivedBlock, ReceivedFrame
from interface.link.stream import null_modem
from interface.settings import Folder
from interface.simulator import PlayProtocol, PlayReport, Source, play
from interface.wire import hl7, hl7_ack
from interface.wire.frames import ENQ, EOT, parse_frame
from interface.wire.hl7_frames import Hl7Splitter
from interface.wire.transmission import MessageSplitter, part_text


class MemoryIntake:
    """Takes everything, into memory: what a journal would hold, for as long as the object lives.

    `hl7_in_frames`: LIS01-A2 frames carry HL7, whose messages go to the next MSH or to EOT. `eot_ends`: EOT also ends a
    LIS2 message without its L record (no_terminator_record).
    """

    ready = True

    def __init__(self, hl7_in_frames: bool = False, eot_ends: bool = False) -> None:
        self._hl7, self._eot_ends = hl7_in_frames, hl7_in_frames or eot_ends
        self._begin()
        self.messages: list[bytes] = []

    def _begin(self) -> None:
        self._splitter = Hl7Splitter() if self._hl7 else MessageSplitter()
        self._open: bytearray | None = None

    def frames(self, peer: str) -> MemoryIntake:
        return self

    def declared(self, peer: str) -> MemoryBlocks:
        return MemoryBlocks(self.messages)

    def outgoing(self, peer: str, due: Callable[[], None]) -> None:
        return None

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        """One LIS01-A2 frame, as `flow.frames` cuts it into messages."""
        sealed = 0
        for piece in self._splitter.feed(frame.text, frame.last):
            if piece.breaks and self._hl7 and self._open is not None:
                self.messages.append(bytes(self._open))
            if piece.opens or self._open is None:
                self._open = bytearray()
            self._open += part_text(frame.text, frame.last, piece.start, piece.stop)
            if piece.seals:
                self.messages.append(bytes(self._open))
                self._open = None
                sealed += 1
        return Receipt(message_id=uuid4() if sealed else None)

    async def end(self, reason: str) -> Receipt:
        if self._eot_ends and reason == "eot" and self._open is not None:
            self.messages.append(bytes(self._open))
        self._begin()
        return Receipt()

    async def block(self, block: bytes, peer: str) -> Receipt:
        """One HL7 message, answered as a journal that works would have it answered."""
        outcome = hl7_ack.Outcome.STORED
        error: LocatedError | None = None
        try:
            hl7.check_syntax(block)
        except SegmentError as fault:
            outcome, error = hl7_ack.Outcome.ERROR, fault
        except UnsupportedMessage as fault:
            outcome, error = hl7_ack.Outcome.REJECTED, fault
        else:
            self.messages.append(block)
        due, now = hl7_ack.due(block, outcome), datetime.now(UTC)
        replies = [
            hl7_ack.acknowledge(block, code, control_id=str(uuid4()), now=now, error=error)
            for code in (due.first, due.then)
            if code
        ]
        return Receipt(uuid4(), replies[0] if replies else None, tuple(replies[1:]))

    def replied(self, receipt: Receipt, sent: bool) -> None:
        """Nobody is owed anything."""

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        """The sender's report says it."""


class MemoryBlocks:
    """One connection's blocks of a declared framing, into `messages`."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages

    async def block(self, block: ReceivedBlock) -> Receipt:
        self._messages.append(block.text)
        return Receipt(uuid4())


class _LoopbackLink(Link):
    """The link as configured, on a null modem."""

    @property
    def address(self) -> str:
        return "memory"

    async def start(self) -> None:
        self.went_up()

    async def stop(self, drain_s: float) -> None:
        await self.end(frozenset(self.sessions), drain_s)


async def drop_file(spec: LinkSpec, folder: Folder, intake: MemoryIntake, source: Source) -> str:
    """Give `source` to the receiver of a folder's files, as one file. Why it was refused; "" when it was not."""
    taken = await FolderLink(spec, LoopClock(), folder).commit(_file(source, spec), "loopback", intake)
    return taken.refusal


def _file(source: Source, spec: LinkSpec) -> bytes:
    """As an instrument would write it: HL7 without frames, LIS2 as it would be sent."""
    if source.protocol is not PlayProtocol.ASTM:
        return b"".join(part for parts in source.transmissions for part in parts)
    if spec.framing is not None and spec.framing.protocol is Protocol.HL7:
        return b"".join(parse_frame(part)[1] for parts in source.transmissions for part in parts)
    return b"".join(bytes((ENQ,)) + b"".join(parts) + bytes((EOT,)) for parts in source.transmissions)


async def loop_back(spec: LinkSpec, intake: MemoryIntake, source: Source, clock: Clock | None = None) -> PlayReport:
    """Play `source` to the receiver that `spec` describes, whose intake is `intake`. Raises LaboraError."""
    analyzer, host = null_modem()
    link = _LoopbackLink(spec, clock or LoopClock())
    serving = asyncio.create_task(link.serve(host))
    try:
        return await play(source, analyzer, clock=clock)
    finally:
        await analyzer.close()
        await serving

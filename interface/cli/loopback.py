"""A link tried on itself: its driver's vector is played to its own receiver in memory. Nothing is stored anywhere."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from interface.errors import LocatedError, SegmentError, UnsupportedMessage
from interface.link.base import Link, LinkSpec
from interface.link.clock import Clock, LoopClock
from interface.link.intake import Receipt, ReceivedFrame
from interface.link.stream import null_modem
from interface.simulator import PlayReport, Source, play
from interface.wire import hl7, hl7_ack
from interface.wire.transmission import MessageSplitter, part_text


class MemoryIntake:
    """Takes everything, into memory: what a journal would hold, for as long as the object lives."""

    ready = True

    def __init__(self) -> None:
        self._splitter = MessageSplitter()
        self._open: bytearray | None = None
        self.messages: list[bytes] = []

    def frames(self, peer: str) -> MemoryIntake:
        return self

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        """One LIS01-A2 frame, as `flow.frames` cuts it into messages."""
        sealed = 0
        for piece in self._splitter.feed(frame.text, frame.last):
            if piece.opens or self._open is None:
                self._open = bytearray()
            self._open += part_text(frame.text, frame.last, piece.start, piece.stop)
            if piece.seals:
                self.messages.append(bytes(self._open))
                self._open = None
                sealed += 1
        return Receipt(message_id=uuid4() if sealed else None)

    async def end(self, reason: str) -> Receipt:
        self._splitter, self._open = MessageSplitter(), None
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
        first, then = (
            hl7_ack.acknowledge(block, code, control_id=str(uuid4()), now=now, error=error) if code else None
            for code in (due.first, due.then)
        )
        return Receipt(uuid4(), first, then)

    def declared(self, peer: str) -> _MemoryBlocks:
        return _MemoryBlocks(self.messages)

    def replied(self, receipt: Receipt, sent: bool) -> None:
        """Nobody is owed anything."""

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        """The sender's report says it."""


class _MemoryBlocks:
    """Takes the blocks of a framing that a driver declares."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages

    async def block(self, block: Any) -> Receipt:
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

"""The wire log's recorder: it stands between a connection's stream, its session and its intake, and hears everything.

Whatever carries the bytes and whatever frames them, they pass here. Nothing waits for the log: it is written later, by
somebody else, and what limits do not allow is counted in it instead of kept (docs/decisions/wire-log.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

from interface.errors import LinkLost, NotAttributed, StoreError
from interface.link.clock import Clock
from interface.link.intake import BlockIntake, FrameIntake, Intake, Outgoing, Receipt, ReceivedBlock, ReceivedFrame
from interface.link.stream import CHUNK_BYTES, ByteStream
from interface.wire.tape import Slot, Tape
from interface.wire.wirelog import Came, Event, Left, Noted, What, encode

FLUSH_S = 1.0  # what was heard is given to the writer after so long
FLUSH_BYTES = 32 * 1024  # or when it is so much
# What a link may put into its log without anything being stored: a flood is kept at its begin, then as a sample.
ALLOWANCE_BYTES, ALLOWANCE_BYTES_PER_S = 1 << 20, 16 * 1024
EARNED_BYTES = 4096  # and more for each frame that was: its refused attempts and its reply are always kept
_EVENT_BYTES = 8
MOST_DUE = 64  # replies that are known again when they leave; a session has 16 messages under way


class WireLog(Protocol):
    """One link's wire log, as whoever stores it offers it."""

    def keep(self, connection_id: UUID, peer: str, began_at: datetime, ended_at: datetime, events: bytes) -> bool:
        """Take a piece (`wire.wirelog.encode`) to be written soon; False when there is no room. Returns at once.

        `began_at`: its first event; `ended_at`: now, when nothing more can come into it.
        """
        ...


class Allowance:
    """How many bytes a link may still log; shared by its connections."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._left, self._at = clock, float(ALLOWANCE_BYTES), clock.now()

    def earn(self) -> None:
        """A frame was stored."""
        self._left = min(self._left + EARNED_BYTES, ALLOWANCE_BYTES)

    def take(self, number: int) -> bool:
        """Whether so many bytes may be logged now."""
        now = self._clock.now()
        self._left = min(self._left + (now - self._at) * ALLOWANCE_BYTES_PER_S, ALLOWANCE_BYTES)
        self._at = now
        if number > self._left:
            return False
        self._left -= number
        return True


class Recorder:
    """One connection's."""

    def __init__(
        self, log: WireLog, peer: str, allowance: Allowance, clock: Clock, opened_at: datetime | None = None
    ) -> None:
        """`opened_at`: when the connection was made; now where it is not said."""
        self._log, self._allowance, self._clock = log, allowance, clock
        self._connection_id, self._peer = uuid4(), peer
        self._tape = Tape()
        self._due: dict[bytes, UUID] = {}  # replies that are on their way, and the frames that they answer
        self._missing = 0  # bytes that were not logged, and of which the log does not know yet
        self._heard_at = clock.now()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._tape.note(What.OPENED, opened_at or clock.utc(), peer)
        self._flush_later()

    # ---- what happens

    def came(self, data: bytes) -> None:
        self._heard_at = self._clock.now()
        self._tape.came(data, self._clock.utc())
        self._flush_later()

    def left(self, data: bytes) -> None:
        """`data` was handed to the peer; the replies that are due are known again in it."""
        now, at = self._clock.utc(), 0
        for _, end, frame in self._answers(data) if self._due else ():
            self._tape.left(data[at:end], now, frame)
            at = end
        if at < len(data):
            self._tape.left(data[at:], now)
        self._flush_later()

    def answered(self, data: bytes) -> None:
        """`data` was handed to the peer, of which only the replies that are due here are heard."""
        now = self._clock.utc()
        for start, end, frame in self._answers(data):
            self._tape.left(data[start:end], now, frame)
            self._flush_later()

    def _answers(self, data: bytes) -> list[tuple[int, int, UUID]]:
        """Begin, end and frame of each reply in `data` that was due, which it is no more."""
        if len(self._due) == 1 and (frame := self._due.pop(data[1:-2], None)):  # nearly always: one MLLP block
            return [(0, len(data), frame)]
        found: list[tuple[int, int, UUID]] = []
        for start, reply in sorted((start, reply) for reply in self._due if (start := data.find(reply)) >= 0):
            end = data.find(b"\x0b", start + len(reply))  # MLLP: the envelope is the reply's too
            begin = start - data.startswith(b"\x0b", max(start - 1, 0), start)
            found.append((begin, len(data) if end < 0 else end, self._due.pop(reply)))
        return found

    def replay(self, events: Iterable[Came | Left]) -> None:
        """What happened before it was known that it belongs here."""
        for event in events:
            if isinstance(event, Came):
                self._tape.came(event.data, event.at)
            else:
                self._tape.left(event.data, event.at)
        self._flush_later()

    def unsent(self, data: bytes) -> None:
        self._note(What.UNSENT, count=len(data))

    def refused(self, reason: str, data: bytes) -> None:
        self._note(What.REFUSED, reason, len(data))

    def ended(self, reason: str) -> None:
        self._note(What.ENDED, reason)

    def frame(self, raw: bytes) -> Slot:
        """A frame is given to the intake."""
        return self._tape.frame(raw, self._clock.utc())

    def stored(self, slot: Slot, receipt: Receipt) -> None:
        """The intake took it."""
        self._tape.stored(slot, receipt.frames)
        if receipt.frames:
            self._allowance.earn()
            for reply in (receipt.reply, *receipt.then):
                if reply:
                    self._due[reply] = receipt.frames[0]
            while len(self._due) > MOST_DUE:  # nobody sends them
                del self._due[next(iter(self._due))]
        self._flush_later()

    def not_stored(self, slot: Slot, reason: str) -> None:
        self._tape.not_stored(slot, self._clock.utc(), reason)
        self._flush_later()

    def replied(self, receipt: Receipt) -> None:
        """What was to be sent was, or will not be."""
        for reply in (receipt.reply, *receipt.then):
            if reply:
                self._due.pop(reply, None)

    def close(self) -> None:
        """The connection is over; what was heard goes to the writer. Harmless when it was called before."""
        if self._closed:
            return
        self._closed = True
        self._tape.note(What.CLOSED, self._clock.utc())
        self._tape.settle()
        self._flush()
        if self._timer is not None:
            self._timer.cancel()

    def _note(self, what: What, text: str = "", count: int = 0) -> None:
        self._tape.note(what, self._clock.utc(), text, count)
        self._flush_later()

    # ---- to the writer

    def _flush_later(self) -> None:
        if self._timer is not None and self._tape.size <= FLUSH_BYTES:
            return
        if self._closed:
            return
        if self._tape.size > FLUSH_BYTES:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        # A frame that is still coming stays until it is whole; a line that fell silent says that none is.
        if self._clock.now() - self._heard_at >= FLUSH_S:
            self._tape.settle()
        self._flush()
        if not self._tape.empty:
            self._flush_later()

    def _flush(self) -> None:
        events = self._allowed(self._tape.take())
        if not events:
            return
        if not self._log.keep(self._connection_id, self._peer, events[0].at, self._clock.utc(), encode(events)):
            self._missing += sum(map(_bytes_of, events))

    def _allowed(self, events: list[Event]) -> list[Event]:
        """The events, less the bytes that exceed the link's allowance, and with the number of those."""
        if not self._missing:
            number = sum(_bytes_of(event) for event in events if not isinstance(event, Noted))
            if self._allowance.take(number + _EVENT_BYTES * len(events)):
                return events
        kept: list[Event] = []
        for event in events:
            number = _bytes_of(event) if not isinstance(event, Noted) else 0
            if not self._allowance.take(number + _EVENT_BYTES):
                self._missing += _bytes_of(event)
                continue
            if self._missing:
                kept.append(Noted(event.at, What.MISSING, count=self._missing))
                self._missing = 0
            kept.append(event)
        return kept


def _bytes_of(event: Event) -> int:
    """How many bytes of the wire only this event has."""
    if isinstance(event, Came | Left):
        return len(event.data)
    return event.count if isinstance(event, Noted) and event.what is What.MISSING else 0


# ---- its ears -------------------------------------------------------------------------------------------------------


class Ear(Protocol):
    """Who hears a stream. See `Recorder`."""

    def came(self, data: bytes) -> None: ...

    def left(self, data: bytes) -> None: ...

    def unsent(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class RecordedStream:
    """A `ByteStream` that is listened to."""

    def __init__(self, stream: ByteStream, recorder: Ear) -> None:
        self._stream, self._recorder = stream, recorder

    @property
    def peer(self) -> str:
        return self._stream.peer

    async def read(self) -> bytes:
        data = await self._stream.read()
        if data:
            self._recorder.came(data)
        return data

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except (LinkLost, asyncio.CancelledError):  # some of it may have left
            self._recorder.unsent(data)
            raise
        self._recorder.left(data)

    async def close(self) -> None:
        try:
            await self._stream.close()
        finally:
            self._recorder.close()


class RecordedIntake:
    """An `Intake` that is listened to, for one connection."""

    def __init__(self, intake: Intake, recorder: Recorder) -> None:
        self._intake, self._recorder = intake, recorder

    @property
    def ready(self) -> bool:
        return self._intake.ready

    def frames(self, peer: str) -> FrameIntake:
        return _RecordedFrames(self._intake.frames(peer), self._recorder, self._hear)

    def _hear(self, raw: bytes) -> None:
        """A frame is to be stored, whose bytes the recorder has heard: they were read from the connection."""

    async def block(self, block: bytes, peer: str) -> Receipt:
        self._hear(block)
        slot, reason = self._recorder.frame(block), "stopped"
        try:
            receipt = await self._intake.block(block, peer)
            reason = "" if receipt.frames else "store"
        finally:
            if reason:
                self._recorder.not_stored(slot, reason)
        if not reason:
            self._recorder.stored(slot, receipt)
        return receipt

    def declared(self, peer: str) -> BlockIntake:
        return _RecordedBlocks(self._intake.declared(peer), self._recorder, self._hear)

    def outgoing(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        return self._intake.outgoing(peer, due)

    def replied(self, receipt: Receipt, sent: bool) -> None:
        self._recorder.replied(receipt)
        self._intake.replied(receipt, sent)

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        self._recorder.refused(reason, data)
        self._intake.rejected(reason, data, peer)


class RecordedFile(RecordedIntake):
    """An `Intake` for what stands in one file, whose bytes are heard as far as they are taken. Close it after use."""

    def __init__(self, intake: Intake, recorder: Recorder, data: bytes) -> None:
        super().__init__(intake, recorder)
        self._data, self._at = data, 0

    def _hear(self, raw: bytes) -> None:
        at = self._data.find(raw, self._at)
        if at >= 0:
            self._hear_until(at + len(raw))

    def _hear_until(self, stop: int) -> None:
        for at in range(self._at, stop, CHUNK_BYTES):
            self._recorder.came(self._data[at : min(at + CHUNK_BYTES, stop)])
        self._at = stop

    def close(self) -> None:
        """Nothing more of the file is taken."""
        self._hear_until(len(self._data))
        self._recorder.close()


class _RecordedFrames:
    """A `FrameIntake` that is listened to."""

    def __init__(self, frames: FrameIntake, recorder: Recorder, hear: Callable[[bytes], None]) -> None:
        self._frames, self._recorder, self._hear = frames, recorder, hear

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        self._hear(frame.raw)
        return await _stored(self._recorder, frame.raw, self._frames.frame(frame))

    async def end(self, reason: str) -> Receipt:
        self._recorder.ended(reason)
        return await self._frames.end(reason)


class _RecordedBlocks:
    """A `BlockIntake` that is listened to."""

    def __init__(self, blocks: BlockIntake, recorder: Recorder, hear: Callable[[bytes], None]) -> None:
        self._blocks, self._recorder, self._hear = blocks, recorder, hear

    async def block(self, block: ReceivedBlock) -> Receipt:
        self._hear(block.raw)
        return await _stored(self._recorder, block.raw, self._blocks.block(block))


async def _stored(recorder: Recorder, raw: bytes, commit: Awaitable[Receipt]) -> Receipt:
    """What `commit` gives; the log hears whether `raw` was stored."""
    slot, reason = recorder.frame(raw), "stopped"
    try:
        receipt = await commit
        reason = ""
    except (StoreError, NotAttributed) as error:
        reason = error.slug
        raise
    finally:
        if reason:
            recorder.not_stored(slot, reason)
    recorder.stored(slot, receipt)
    return receipt

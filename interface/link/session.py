"""What every pump has, and the pump of LIS01-A2: bytes into the core, events to the intake, answers back.

A positive reply is written only after the intake's call returned (DESIGN §1.1). The pumps read nothing while they wait
for the intake or for the peer to take a reply, so memory per connection is bounded by the cores' own limits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from interface import telemetry
from interface.errors import LinkFrameError, LinkLost, NotAttributed, StoreError
from interface.link.clock import Clock
from interface.link.intake import FrameIntake, Intake, Receipt, ReceivedFrame
from interface.link.speaker import Speaker
from interface.link.stream import ByteStream
from interface.wire import lis01

WRITE_WAIT_S = 30.0  # a peer that takes no reply for so long is cut off
IDLE_WAIT_S = 24 * 3600.0  # the longest a connection may be silent unless the link says otherwise
BARE_TRIES, BARE_RETRY_S = 3, 1.0  # commits of a record whose sender cannot be told to repeat it
MOST_EMPTY, EMPTY_WINDOW_S = 32, 0.1  # sessions without a frame in so long; who bids for more has to wait
SLICE_BYTES = 4096  # fed to a core at once, so that no flood of control characters keeps the other links waiting

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counters:
    """What has happened on a link since the start; shared by its connections, read by `supervisor.LinkStatus`."""

    connections_made: int = 0
    connections_refused: int = 0
    frames: int = 0
    repeats: int = 0
    naks: int = 0
    checksum_errors: int = 0
    messages: int = 0
    rejected: int = 0  # frames, blocks and runs of stray bytes
    leniencies: Counter[str] = field(default_factory=Counter)  # departures that were taken, by name
    line_faults: Counter[str] = field(default_factory=Counter)  # of a serial line: breaks and damaged characters
    last_activity: datetime | None = None


class Session(Protocol):
    """One connection at work."""

    @property
    def idle(self) -> bool:
        """Whether it could be cut now without cutting a transmission."""
        ...

    @property
    def peer(self) -> str:
        """Who is at the other end."""
        ...

    @property
    def heard_at(self) -> float:
        """When the last byte came, or the connection was made (`Clock.now`)."""
        ...

    def stop(self) -> None:
        """Take nothing new; `run` returns when what is under way is done."""
        ...

    async def run(self) -> None:
        """Serve the connection to its end. The stream is closed when it returns."""
        ...


class Connection:
    """What the pumps share: reading with a deadline, writing with one."""

    def __init__(
        self, link: str, stream: ByteStream, intake: Intake, counters: Counters, clock: Clock, idle_wait_s: float
    ) -> None:
        self._link, self._stream, self._intake = link, stream, intake
        self._counters, self._clock = counters, clock
        self._idle_wait_s = idle_wait_s
        self._limit = clock.limit()
        self._stopping = False
        self._reading = self._woken = False
        self.heard_at = clock.now()

    @property
    def peer(self) -> str:
        return self._stream.peer

    def stop(self) -> None:
        self._stopping = True

    def _wake(self) -> None:
        """Let who reads, or is about to, look at what else there is to do."""
        self._woken = True
        if self._reading:
            self._limit.cut()

    async def _read(self, deadline: float | None) -> bytes | None:
        """Bytes, b"" at the end, None when the deadline passed or somebody woke us."""
        if self._woken:
            return None
        self._reading = True
        try:
            with self._limit.at(deadline):
                data = await self._stream.read()
        except TimeoutError:
            return None
        finally:
            self._reading = False
        if data:
            self._counters.last_activity = self._clock.utc()
            self.heard_at = self._clock.now()
        return data

    def _idle_deadline(self) -> float | None:
        return self._clock.now() + self._idle_wait_s if self._idle_wait_s else None

    async def _write(self, data: bytes) -> None:
        """Raises LinkLost, also when the peer does not take the bytes in time."""
        try:
            with self._limit.at(self._clock.now() + WRITE_WAIT_S):
                await self._stream.write(data)
        except TimeoutError as error:
            raise LinkLost("the peer takes no replies") from error

    async def _close(self) -> None:
        self._limit.close()
        await self._stream.close()

    def _lenient(self, name: str) -> None:
        self._counters.leniencies[str(name)] += 1
        telemetry.count_leniency(self._link, name)

    def _reject(self, reason: str, data: bytes) -> None:
        self._counters.rejected += 1
        self._intake.rejected(reason, data, self._stream.peer)

    def _replied(self, receipt: Receipt, sent: bool) -> None:
        if receipt.message_id is not None:
            self._intake.replied(receipt, sent)


def earlier(one: float | None, other: float | None) -> float | None:
    """Of two instants, None being never."""
    return other if one is None else one if other is None else min(one, other)


class AstmSession(Connection):
    """LIS01-A2 on one connection: the ACK to a frame waits for its commit."""

    def __init__(
        self,
        link: str,
        stream: ByteStream,
        intake: Intake,
        counters: Counters,
        clock: Clock,
        core: lis01.DataLink,
        idle_wait_s: float = IDLE_WAIT_S,
    ) -> None:
        super().__init__(link, stream, intake, counters, clock, idle_wait_s)
        self._core = core
        self._frames: FrameIntake = intake.frames(stream.peer)
        self._in_session = False  # as far as the intake knows
        self._empty, self._empty_since = 0, 0.0  # sessions that had no frame, since then
        self._heard_at = 0.0  # when the last good frame was, or the session's begin
        self._timer: lis01.Timer | None = None
        self._deadline: float | None = None
        self._speaker = Speaker(link, intake, stream.peer, clock, self._wake)

    @property
    def idle(self) -> bool:
        return not self._in_session and self._core.idle and self._speaker.idle

    async def run(self) -> None:
        reason = "lost"
        try:
            while not (self._stopping and self.idle):
                await self._speak()
                deadline = self._next_deadline()
                data = await self._read(deadline)
                woken, self._woken = self._woken, False
                if data is None and not woken and not self._on_time(deadline):
                    return  # idle for too long
                if data:
                    await self._take(data)
                elif data is not None:
                    self._core.lost()
                await self._handle()
                if data == b"":
                    return
        except LinkLost:
            return
        except asyncio.CancelledError:
            reason = "stop"
            raise
        finally:
            try:
                if self._in_session:
                    await self._end(reason)
                await self._speaker.close(reason)
            finally:
                await self._close()

    def _next_deadline(self) -> float | None:
        if self._core.timer is None:
            self._timer = None
            return earlier(self._idle_deadline(), None if self._stopping else self._speaker.look_at)
        if self._core.timer is not self._timer or self._deadline is None:
            self._timer = self._core.timer
            self._deadline = self._clock.now() + self._timer.seconds
        return self._deadline

    def _on_time(self, deadline: float | None) -> bool:
        """Something was waited for other than bytes; False: only the end of our patience."""
        if self._core.timer is not None:
            self._core.timeout()
            return True
        return deadline == self._speaker.look_at

    async def _speak(self) -> None:
        """Put our next message on the line when nobody has it (LIS01-A2: after EOT, in the neutral state)."""
        if self._core.state is not lis01.State.NEUTRAL or self._in_session or self._stopping:
            return
        if self._speaker.taken is None:
            self._speaker.look()
            return
        sending = self._speaker.begin()
        if sending is None:
            return
        try:
            self._core.send(sending.data)
        except LinkFrameError as error:
            log.error("message cannot be sent", link=self._link, action="link.unsendable", reason=error.slug)
            self._speaker.told(False, reason="unsendable")
            return
        await self._flush()

    async def _take(self, data: bytes) -> None:
        """Feed the core, all but the last slice to the end of their events."""
        self._core.receive(data[:SLICE_BYTES])
        for at in range(SLICE_BYTES, len(data), SLICE_BYTES):
            await self._handle()
            await asyncio.sleep(0)
            self._core.receive(data[at : at + SLICE_BYTES])

    async def _handle(self) -> None:
        """Every event that the core has, and what it wants written."""
        while True:
            # A link that is asked to stop finishes its session and begins none.
            self._core.ready = self._intake.ready and not self._stopping
            event = self._core.next_event()
            await self._flush()
            if event is None:
                return
            await self._on(event)

    async def _flush(self) -> None:
        if data := self._core.data_to_send():
            await self._write(data)

    async def _on(self, event: lis01.Event) -> None:
        match event:
            case lis01.FrameReceived():
                await self._store(event)
            case lis01.SessionStarted():
                self._in_session, self._heard_at = True, self._clock.now()
                await self._pace(self._heard_at)
            case lis01.SessionEnded(reason):
                await self._end(self._as_meant(reason))
                self._speaker.heard()
            case lis01.FrameRejected(reason, data):
                self._counters.checksum_errors += reason == "checksum"
                if reason not in ("cut", "refused"):  # EOT needs no answer, and without frames there is none
                    self._count_nak(reason)
                self._reject(reason, data)
            case lis01.Skipped(data):
                self._reject("skipped", data)
            case lis01.SessionRefused():
                self._count_nak("not_ready")
            case lis01.FrameRepeated():
                self._counters.repeats += 1
            case lis01.LeniencyUsed(leniency):
                self._lenient(leniency)
            case lis01.Delivered():
                self._speaker.told(True)
            case lis01.SendFailed(_, reason):
                self._speaker.told(False, reason="refused" if reason == "rejected" else reason)

    async def _pace(self, now: float) -> None:
        """Let a line that bids again and again, and says nothing, wait: each bid is answered, and the other links would
        wait for that."""
        if now - self._empty_since >= EMPTY_WINDOW_S:
            self._empty, self._empty_since = 0, now
        self._empty += 1
        if self._empty > MOST_EMPTY:
            await self._clock.sleep(self._empty_since + EMPTY_WINDOW_S - now)
            self._empty, self._empty_since = 0, self._clock.now()

    async def _store(self, event: lis01.FrameReceived) -> None:
        """Commit, and only then answer."""
        self._heard_at = self._clock.now()
        self._empty = 0
        frame = ReceivedFrame(event.fn, event.raw, event.text, event.last)
        try:
            receipt = await (self._frames.frame(frame) if event.fn is not None else self._insist(frame))
        except (StoreError, NotAttributed) as error:
            self._core.refused()
            if event.fn is not None:
                self._count_nak(error.slug)
            await self._flush()
            return
        self._core.stored()
        self._counters.frames += 1
        self._counters.messages += receipt.message_id is not None
        try:
            await self._flush()
        except LinkLost:
            self._replied(receipt, False)
            raise
        self._replied(receipt, True)

    async def _insist(self, frame: ReceivedFrame) -> Receipt:
        """A record without a frame: its sender cannot be told to repeat it, so the line waits until it is stored.

        Raises StoreError for what is refused though the store works.
        """
        tries = 0
        while True:
            try:
                return await self._frames.frame(frame)
            except StoreError:
                tries += self._intake.ready
                if tries >= BARE_TRIES or self._stopping:
                    raise
            await self._clock.sleep(BARE_RETRY_S)

    def _as_meant(self, reason: str) -> str:
        """LIS01-A2: without a reply for 15 s a sender gives up with EOT, which then does not end a message."""
        silent_s = self._clock.now() - self._heard_at
        return "aborted" if reason == "eot" and silent_s >= self._core.options.reply_wait_s - 1.0 else reason

    async def _end(self, reason: str) -> None:
        try:
            receipt = await self._frames.end(reason)
        finally:
            self._in_session = False  # not before: who is idle may be cut at any time
        if receipt.message_id is not None:
            self._counters.messages += 1
            if lis01.Leniency.NO_TERMINATOR_RECORD in self._core.options.leniencies:  # HL7 has no such record
                self._lenient(lis01.Leniency.NO_TERMINATOR_RECORD)
            self._replied(receipt, True)  # the ACK of its last frame

    def _count_nak(self, reason: str) -> None:
        self._counters.naks += 1
        telemetry.count_nak(self._link, reason)

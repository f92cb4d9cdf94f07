"""The pump for framings that a driver declares: a block is committed, and only then answered, if it is answered at all.

Memory per connection is bounded by the core's own limit: nothing is read while a block waits for its commit.
"""

from __future__ import annotations

import asyncio

import structlog

from interface import telemetry
from interface.errors import LinkLost, NotAttributed, StoreError
from interface.link.clock import Clock
from interface.link.intake import BlockIntake, Intake, Receipt, ReceivedBlock
from interface.link.session import IDLE_WAIT_S, SLICE_BYTES, Connection, Counters, earlier
from interface.link.speaker import Speaker
from interface.link.stream import ByteStream
from interface.wire import declared

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 30.0
# Of a message of ours, as LIS01-A2 has them: a session that a driver declares is the same dialogue without frames.
REPLY_WAIT_S, MOST_REJECTIONS = 15.0, 6

log = structlog.get_logger(__name__)


class DeclaredSession(Connection):
    """Blocks on one connection.

    A device that hears nothing will not send its block again: until it is committed it is kept here, and nothing more
    is read, so that what follows waits in the kernel and on the line.
    """

    def __init__(
        self,
        link: str,
        stream: ByteStream,
        intake: Intake,
        counters: Counters,
        clock: Clock,
        core: declared.Decoder,
        idle_wait_s: float = IDLE_WAIT_S,
    ) -> None:
        super().__init__(link, stream, intake, counters, clock, idle_wait_s)
        self._blocks: BlockIntake = intake.declared(stream.peer)
        self._core, self._grammar = core, core.grammar
        self._busy = False
        self._opened = False  # the device was told that it may send
        self._heard = b""  # behind the answer to something of ours
        speaks = declared.may_send(self._grammar)
        self._speaker = Speaker(link, intake, stream.peer, clock, self._wake) if speaks else None

    @property
    def idle(self) -> bool:
        said = self._speaker is None or self._speaker.idle
        return said and not (self._busy or self._opened or self._core.inside)

    async def run(self) -> None:
        reason = "lost"
        try:
            while not (self._stopping and self.idle):
                if self._speaker is not None and not (self._opened or self._core.inside or self._stopping):
                    await self._speak(self._speaker)
                wait_s, again_at = self._core.wait_s, self._look_at()
                deadline = self._idle_deadline() if wait_s is None else self._clock.now() + wait_s
                data = await self._next(earlier(deadline, again_at))
                woken, self._woken = self._woken, False
                if data is None and (woken or (again_at is not None and self._clock.now() >= again_at)):
                    continue
                self._busy = True
                try:
                    if not await self._take(data, waited=wait_s is not None):
                        return
                finally:
                    self._busy = False
        except LinkLost:
            return
        except asyncio.CancelledError:
            reason = "stop"
            raise
        finally:
            try:
                if self._speaker is not None:
                    await self._speaker.close(reason)
            finally:
                self._keep(self._core.eof())
                await self._close()

    def _look_at(self) -> float | None:
        busy = self._speaker is None or self._opened or self._core.inside or self._stopping
        return None if busy or self._speaker is None else self._speaker.look_at

    async def _next(self, deadline: float | None) -> bytes | None:
        """What was heard and not looked at yet, else what comes."""
        heard, self._heard = self._heard, b""
        return heard or await self._read(deadline)

    # ---- what is said ----

    async def _speak(self, speaker: Speaker) -> None:
        """Put our next message on the line, which nobody has. Raises LinkLost."""
        if speaker.taken is None:
            speaker.look()
            return
        sending = speaker.begin()
        if sending is None:
            return
        if not declared.sendable(self._grammar, sending.data):
            log.error("message cannot be sent", link=self._link, action="link.unsendable", reason="marks")
            speaker.told(False, reason="unsendable")
            return
        reason = await self._say(declared.encode(self._grammar, sending.data))
        speaker.told(not reason, reason=reason)

    async def _say(self, block: bytes) -> str:
        """Why the device did not take it; "" where it did. Raises LinkLost."""
        grammar = self._grammar
        await self._write(grammar.opens)
        word = await self._word(grammar.ready, grammar.busy)
        if word == grammar.opens:
            return "contention"  # it has the line; it is answered as ever
        if word != grammar.ready:
            if word == b"":
                await self._write(grammar.closes)
            return "silent" if word == b"" else "busy"
        for _ in range(MOST_REJECTIONS):
            await self._write(block)
            word = await self._word(grammar.good, grammar.bad)
            if word != grammar.bad:
                break
        await self._write(grammar.closes)
        return {grammar.good: "", grammar.bad: "refused"}.get(word, "timeout")

    async def _word(self, *words: bytes) -> bytes:
        """The device's answer, or that it begins itself; b"" when none came in time. Raises LinkLost at the end."""
        until = self._clock.now() + REPLY_WAIT_S
        while True:
            data = await self._next(until)
            self._woken = False
            if data == b"":
                raise LinkLost("the connection has ended")
            if data is None:
                if self._clock.now() >= until:
                    return b""
                continue
            for at in range(len(data)):
                if data[at : at + 1] == self._grammar.opens:
                    self._heard = data[at:]
                    return self._grammar.opens
                if data[at : at + 1] in words:
                    self._heard = data[at + 1 :]
                    return data[at : at + 1]
            self._reject("skipped", data)

    # ---- what is heard ----

    async def _take(self, data: bytes | None, *, waited: bool) -> bool:
        """What a read brought; False at the end of the connection. `waited`: for the rest of a block."""
        if data is None:
            await self._handle(self._core.silence())
            return waited
        if not data:
            await self._handle(self._core.eof())
            return False
        for at in range(0, len(data), SLICE_BYTES):
            await self._handle(self._core.receive(data[at : at + SLICE_BYTES]))
            await asyncio.sleep(0)
        return True

    async def _handle(self, events: list[declared.Event]) -> None:
        """Raises LinkLost; what was not handled then is evidence."""
        for at, event in enumerate(events):
            try:
                await self._on(event)
            except BaseException:
                self._keep(events[at + 1 :])
                raise

    async def _on(self, event: declared.Event) -> None:
        match event:
            case declared.BlockReceived():
                await self._store(event)
            case declared.BlockRejected(reason, data, answer):
                self._counters.checksum_errors += reason == "checksum"
                self._reject(reason, data)
                if answer:
                    await self._refuse(reason)
            case declared.Skipped(data):
                self._reject("skipped", data)
            case declared.Opened():
                # A link that is asked to stop finishes its session and begins none.
                self._opened = self._intake.ready and not self._stopping
                if self._opened:
                    await self._write(self._grammar.ready)
                else:
                    self._count_nak("not_ready")
                    await self._write(self._grammar.busy)
            case declared.Closed():
                self._opened = False
                if self._speaker is not None:
                    self._speaker.heard()

    async def _store(self, event: declared.BlockReceived) -> None:
        """Commit, and only then answer."""
        block = ReceivedBlock(event.raw, event.start, event.stop)
        try:
            receipt = await self._committed(block)
        except (StoreError, NotAttributed) as error:
            await self._refuse(error.slug)
            return
        self._counters.frames += 1
        self._counters.messages += receipt.message_id is not None
        sent = False
        try:
            if self._grammar.good:
                await self._write(self._grammar.good)
            sent = True
        finally:
            if receipt.message_id is not None:
                self._intake.replied(receipt, sent)

    async def _committed(self, block: ReceivedBlock) -> Receipt:
        """The receipt; raises StoreError where the device can be told to send the block again."""
        retry_s = FIRST_RETRY_S
        try:
            while True:
                try:
                    return await self._blocks.block(block)
                except StoreError as error:
                    if not self._grammar.one_way:
                        raise
                    log.warning("block not stored yet", link=self._link, action="link.waiting", reason=error.slug)
                    await self._clock.sleep(retry_s)
                    retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        except asyncio.CancelledError:
            if self._grammar.one_way:
                log.error("block not stored", link=self._link, action="link.lost_block", bytes=len(block.raw))
            self._reject("stop", block.raw)
            raise

    async def _refuse(self, reason: str) -> None:
        if self._grammar.bad:
            self._count_nak(reason)
            await self._write(self._grammar.bad)

    def _keep(self, events: list[declared.Event]) -> None:
        """What is not answered any more, as evidence."""
        for event in events:
            match event:
                case declared.BlockReceived(raw):
                    self._reject("cut", raw)
                case declared.BlockRejected(reason, data):
                    self._reject(reason, data)
                case declared.Skipped(data):
                    self._reject("skipped", data)

    def _count_nak(self, reason: str) -> None:
        self._counters.naks += 1
        telemetry.count_nak(self._link, reason)

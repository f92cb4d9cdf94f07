"""The pump of an MLLP connection: blocks to the intake, its acknowledgements back, in the order of the blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from interface.errors import LinkLost
from interface.link.clock import Clock
from interface.link.intake import Intake, Receipt
from interface.link.session import IDLE_WAIT_S, SLICE_BYTES, Connection, Counters, earlier
from interface.link.speaker import Speaker
from interface.link.stream import ByteStream
from interface.wire import hl7, hl7_batch, hl7_reply, mllp

MAX_OUTSTANDING = 16  # HL7 messages of one connection submitted at the same time
ANSWER_WAIT_S = 30.0  # for the acknowledgement of a message of ours
BLOCK_WAIT_S = 60.0  # silence in the middle of an MLLP block
SILENCE_S = 1.0  # after it a missing 0D is taken for sent, and stray bytes are told


@dataclass(frozen=True, slots=True)
class MllpOptions:
    """`outstanding`: blocks submitted at once; 1: each is answered before the next. `release`: of MLLP, 1 or 2.

    `answer_wait_s`: how long the peer may take to answer a message of ours. `redial`: we made the connection, and make
    it anew when it does not.
    """

    outstanding: int = MAX_OUTSTANDING
    release: int = 1
    answer_wait_s: float = ANSWER_WAIT_S
    redial: bool = False


@dataclass(slots=True)
class _Answered:
    """What became of some messages, in their order."""

    due: list[Receipt] = field(default_factory=list)
    late: list[Receipt] = field(default_factory=list)  # committed, but the line ends before: the peer will ask again
    fault: BaseException | None = None
    over: bool = False  # the connection is to be closed

    @property
    def goes_on(self) -> bool:
        return self.fault is None and not self.over

    @property
    def stored(self) -> bool:
        """Whether all of them are committed."""
        return self.goes_on and all(receipt.message_id is not None for receipt in self.due)

    def add(self, outcomes: Iterable[Receipt | BaseException]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                self.fault = self.fault or outcome
            elif not self.goes_on:
                self.late.append(outcome)
            else:
                self.due.append(outcome)
                self.over = outcome.close


class MllpSession(Connection):
    """HL7 over MLLP on one connection: blocks that come together are submitted together and answered in order.

    Release 2 answers each block with a commit block first, positive only when all of it is committed; what is not
    committed gets nothing but the negative one, for the peer then sends it again.
    """

    def __init__(
        self,
        link: str,
        stream: ByteStream,
        intake: Intake,
        counters: Counters,
        clock: Clock,
        core: mllp.Decoder,
        idle_wait_s: float = IDLE_WAIT_S,
        options: MllpOptions = MllpOptions(),
    ) -> None:
        super().__init__(link, stream, intake, counters, clock, idle_wait_s)
        self._core, self._options = core, options
        self._busy = False
        self._speaker = Speaker(link, intake, stream.peer, clock, self._wake)
        self._answer_at: float | None = None  # the latest for the reply to our message

    @property
    def idle(self) -> bool:
        return not self._busy and not self._core.inside and self._speaker.idle

    async def run(self) -> None:
        reason = "lost"
        try:
            while not (self._stopping and self.idle):
                await self._speak()
                deadline = self._deadline()
                data = await self._read(deadline)
                woken, self._woken = self._woken, False
                if data and len(data) <= SLICE_BYTES:
                    events, over = self._core.receive(data), False
                elif data:
                    events, over = await self._take(data), False
                elif data is None and (woken or deadline in (self._answer_at, self._speaker.look_at)):
                    events, over = [], self._unanswered()
                elif data is None and self._core.pending:
                    events, over = self._core.silence(), False
                else:
                    events, over = self._core.eof(), True
                self._busy = True
                try:
                    over = await self._handle(events) or over
                finally:
                    self._busy = False
                if over:
                    return
        except LinkLost:
            return
        except asyncio.CancelledError:
            reason = "stop"
            raise
        finally:
            try:
                await self._speaker.close(reason)
            finally:
                await self._close()

    async def _speak(self) -> None:
        """Say what we have to say of ourselves, one message at a time. Raises LinkLost."""
        if (answer := self._speaker.answer) is not None:
            self._speaker.answer = None
            await self._write(mllp.encode(answer))
        if self._stopping or self._core.inside:
            return
        if self._speaker.taken is None:
            self._speaker.look()
        elif (sending := self._speaker.begin()) is not None:
            if sending.expects_reply:
                self._answer_at = self._clock.now() + self._options.answer_wait_s
            await self._write(mllp.encode(sending.data))
            if not sending.expects_reply:
                self._speaker.told(True)

    def _unanswered(self) -> bool:
        """Whether the connection is to be made anew: the peer has not answered our message in time."""
        if self._answer_at is None or self._clock.now() < self._answer_at:
            return False
        self._answer_at = None
        self._speaker.told(False, reason="timeout")
        return self._options.redial

    def _ours(self, event: mllp.Event) -> bool:
        """Whether it answers the message of ours that is under way; then its sender has been told."""
        sending = self._speaker.on_line
        if sending is None or not isinstance(event, mllp.BlockReceived):
            return False
        found = hl7_reply.verdict(event.block)
        if found is None or found.control_id != hl7.control_id(sending.data):
            return False
        if hl7_reply.is_last(sending.data, found.code):
            self._answer_at = None
            self._speaker.told(True, event.block)
        return True

    async def _take(self, data: bytes) -> list[mllp.Event]:
        events = self._core.receive(data[:SLICE_BYTES])
        for at in range(SLICE_BYTES, len(data), SLICE_BYTES):
            await asyncio.sleep(0)
            events += self._core.receive(data[at : at + SLICE_BYTES])
        return events

    def _deadline(self) -> float | None:
        if self._core.pending:
            return self._clock.now() + SILENCE_S
        deadline = self._clock.now() + BLOCK_WAIT_S if self._core.inside else self._idle_deadline()
        return earlier(deadline, earlier(self._answer_at, None if self._stopping else self._speaker.look_at))

    async def _handle(self, events: list[mllp.Event]) -> bool:
        """Whether the connection is to be closed. Raises LinkLost."""
        if self._speaker.on_line is not None:
            events = [event for event in events if not self._ours(event)]
        match events:
            case [mllp.BlockReceived(block, ())] if self._options.release < 2 and not hl7_batch.is_batch(block):
                return await self._one(block)
        blocks: list[bytes] = []
        for event in events:
            match event:
                case mllp.BlockReceived(block, tolerated):
                    for name in (*tolerated, *((mllp.Tolerated.PIPELINED,) if blocks else ())):
                        self._lenient(name)
                    blocks.append(block)
                case mllp.BlockRejected(reason, data):
                    if reason == "restarted":
                        self._lenient(mllp.Tolerated.SECOND_BEGIN)
                    self._reject(reason, data)
                case mllp.Skipped(data):
                    if not event.unframed:
                        self._lenient(event.reason)
                    self._reject(event.reason, data)
                case mllp.CommitReceived(positive):
                    self._committed(positive)
        return await self._submit(blocks)

    def _committed(self, positive: bool) -> None:
        """The peer's word on a reply of ours, which in release 2 is the rule."""
        if self._options.release < 2:
            self._reject("commit_block", b"\x06" if positive else b"\x15")
        elif not positive:
            self._reject("reply_not_committed", b"\x15")

    async def _submit(self, blocks: list[bytes]) -> bool:
        """Have the blocks committed and answer them in their order; whether to close the connection."""
        waiting: list[bytes] = []
        for block in blocks:
            batch = hl7_batch.is_batch(block)
            if waiting and (batch or len(waiting) == self._options.outstanding):
                if await self._messages(waiting):
                    return True
                waiting = []
            if not batch:
                waiting.append(block)
            elif await self._batch(block):
                return True
        return bool(waiting) and await self._messages(waiting)

    async def _one(self, block: bytes) -> bool:
        """As nearly always: one message, and nothing else under way."""
        receipt, sent = await self._intake.block(block, self._stream.peer), False
        self._counters.frames += 1
        self._counters.messages += receipt.message_id is not None
        try:
            if not receipt.then and receipt.reply is not None:
                await self._write(mllp.encode(receipt.reply))
            elif replies := _replies(receipt):
                await self._write(b"".join(replies))
            sent = True
        finally:
            self._replied(receipt, sent)
        return receipt.close

    async def _messages(self, blocks: list[bytes]) -> bool:
        """Blocks of one message each."""
        answered = await self._commit(blocks)
        parts: list[bytes] = []
        for receipt in answered.due:
            stored = receipt.message_id is not None
            if not receipt.close:
                parts += self._commit_block(stored)
            if stored or self._options.release < 2:
                parts += _replies(receipt)
        return await self._answer(answered, parts)

    async def _batch(self, block: bytes) -> bool:
        """A block that holds a batch: each of its messages is stored and answered as if it had come by itself."""
        envelope = hl7_batch.envelope(block)
        if envelope.strays and self._options.release == 2:  # a commit block would vouch for them too
            return await self._messages([block])
        # Its counts are all that an envelope adds; the messages have their own bytes in the journal.
        self._intake.rejected("batch_count" if envelope.fault else "batch_envelope", envelope.data, self._stream.peer)
        self._counters.rejected += bool(envelope.fault)
        messages = hl7_batch.messages(block)
        answered = _Answered()
        while answered.goes_on and (some := list(islice(messages, self._options.outstanding))):
            part = await self._commit(some)
            if self._options.release < 2:
                if await self._answer(part, [reply for receipt in part.due for reply in _replies(receipt)]):
                    return True
            else:
                answered.add([*part.due, *part.late])
                answered.fault, answered.over = part.fault, part.over
        if self._options.release < 2:
            return False
        parts = [] if answered.over else self._commit_block(answered.stored)
        if answered.stored:
            parts += [reply for receipt in answered.due for reply in _replies(receipt)]
        else:
            answered.due, answered.late = [], answered.due + answered.late
        return await self._answer(answered, parts)

    def _commit_block(self, stored: bool) -> list[bytes]:
        if self._options.release < 2:
            return []
        return [mllp.COMMITTED if stored else mllp.NOT_COMMITTED]

    async def _commit(self, messages: list[bytes]) -> _Answered:
        peer = self._stream.peer
        commits = (self._intake.block(message, peer) for message in messages)
        answered = _Answered()
        answered.add(await asyncio.gather(*commits, return_exceptions=True))
        return answered

    async def _answer(self, answered: _Answered, parts: list[bytes]) -> bool:
        """Send what is due; whether to close the connection. Raises what went wrong."""
        due, late = answered.due, answered.late
        self._counters.frames += len(due) + len(late)
        self._counters.messages += sum(receipt.message_id is not None for receipt in due + late)
        sent = False
        try:
            if parts:
                await self._write(b"".join(parts))
            sent = True
        finally:
            for receipt in due:
                self._replied(receipt, sent)
            for receipt in late:
                self._replied(receipt, False)
        if answered.fault is not None:
            raise answered.fault
        return answered.over


def _replies(receipt: Receipt) -> list[bytes]:
    return [mllp.encode(reply) for reply in (receipt.reply, *receipt.then) if reply is not None]

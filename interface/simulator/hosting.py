"""The host's side of a recorded conversation, played back to an analyzer: for trying a driver both ways."""

from __future__ import annotations

from collections.abc import Sequence

from interface.link.clock import Clock
from interface.link.stream import ByteStream
from interface.wire import hl7, lis01, mllp
from interface.wire.frames import build_frame, parse_frame


class AstmHost:
    """Takes what the analyzer sends; once it has ended a session, bids for the line and says what it has to say.

    `texts`: frames that were taken. `answers`: messages, each of the frames that were recorded.
    """

    def __init__(
        self, stream: ByteStream, answers: Sequence[Sequence[bytes]], options: lis01.LinkOptions, clock: Clock
    ) -> None:
        self._stream, self._answers, self._clock = stream, list(answers), clock
        self._core = lis01.DataLink(lis01.Station.HOST, options)
        self.texts: list[bytes] = []

    async def serve(self) -> None:
        """Until the analyzer hangs up."""
        deadline, timer = None, None
        while True:
            while (event := self._core.next_event()) is not None:
                if isinstance(event, lis01.FrameReceived):
                    self.texts.append(event.text)
                    self._core.stored()
                elif isinstance(event, lis01.SessionEnded) and self._answers:
                    for frames in self._answers:
                        self._core.send_frames(tuple(_again(frame) for frame in frames))
                    self._answers = []
            await self._stream.write(self._core.data_to_send())
            if self._core.timer is not timer:
                timer = self._core.timer
                deadline = self._clock.now() + timer.seconds if timer else None
            try:
                async with self._clock.timeout_at(deadline):
                    data = await self._stream.read()
            except TimeoutError:
                self._core.timeout()
                continue
            if not data:
                return
            self._core.receive(data)


def _again(frame: bytes) -> bytes:
    return build_frame(*parse_frame(frame))


class MllpHost:
    """Answers each message with the recorded replies that acknowledge it, and then says what else was recorded."""

    def __init__(self, stream: ByteStream, answers: Sequence[bytes]) -> None:
        self._stream, self._answers = stream, list(answers)
        self.blocks: list[bytes] = []

    async def serve(self) -> None:
        """Until the analyzer hangs up."""
        decoder = mllp.Decoder()
        while data := await self._stream.read():
            for event in decoder.receive(data):
                if not isinstance(event, mllp.BlockReceived):
                    continue
                self.blocks.append(event.block)
                await self._reply(event.block)

    async def _reply(self, block: bytes) -> None:
        control_id = hl7.read_header(block).control_id.encode()
        mine = [one for one in self._answers if _acknowledges(one, control_id)]
        for answer in mine:
            self._answers.remove(answer)
            await self._stream.write(mllp.encode(answer))
            while self._answers and not _acknowledges(self._answers[0]):  # the orders behind a reply
                await self._stream.write(mllp.encode(self._answers.pop(0)))


def _acknowledges(reply: bytes, control_id: bytes = b"") -> bool:
    for line in reply.split(b"\r"):
        if line[:3] == b"MSA":
            fields = line.split(reply[3:4])
            return not control_id or (len(fields) > 2 and fields[2] == control_id)
    return False

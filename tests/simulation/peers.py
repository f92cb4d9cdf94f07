"""Analyzers as the standards have them, written apart from the code under test: they send until they are acknowledged.

What they were promised is noted at the moment the reply leaves the daemon, and must be committed then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.network import Network, Port, SimTransport

ENQ, ACK, NAK, EOT, STX, ETX, ETB = (bytes([code]) for code in (5, 6, 0x15, 4, 2, 3, 0x17))
REPLY_WAIT_S, BUSY_WAIT_S, RECEIVE_WAIT_S = 15.0, 10.0, 30.0  # LIS01-A2 6.5.2
MOST_REJECTS = 6


@dataclass(eq=False, slots=True)
class Message:
    """One that an analyzer has to send. `said`: what stands in it, by specimen and test. `acknowledged`: to its end."""

    control_id: str
    text: bytes
    specimen: str
    value: str
    acknowledged: bool = False


class Wire(asyncio.Protocol):
    """A peer's end of a connection or cable: bytes as they come, and how it ended."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.unread = bytearray()
        self.over = False
        self._changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.unread += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.over = True
        self._changed.set()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.over = True
        self._changed.set()

    async def more(self, seconds: float) -> bool:
        """Wait for a byte; False at the end, or when none came in time."""
        until = asyncio.get_running_loop().time() + seconds
        while not self.unread:
            if self.over:
                return False
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                return bool(self.unread)
        return True

    async def byte(self, seconds: float) -> bytes:
        """One byte; b"" at the end, or when none came in time."""
        if not await self.more(seconds):
            return b""
        found = bytes(self.unread[:1])
        del self.unread[:1]
        return found

    async def quiet(self, seconds: float) -> None:
        """Let time pass; what comes meanwhile stays unread."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Habits:
    """How an analyzer behaves beside the standard. Chances are of a frame or of a session."""

    frame_bytes: int = 0  # 0: a record to a frame
    bad_checksum: float = 0.0
    wrong_number: float = 0.0
    babbles: float = 0.0  # before ENQ
    falls_silent: float = 0.0  # in mid-session, to begin again
    again: float = 0.0  # says a frame again though it has heard the ACK
    together: float = 0.0  # EOT and the next ENQ in one segment
    refuses: float = 0.0  # a frame of the host's
    window: int = 1  # HL7: messages that it sends before the first is answered


CALM = Habits()


class Sender:
    """What both kinds have. `wrong`: told what was promised and is not so."""

    def __init__(self, name: str, messages: list[Message], habits: Habits, dice: Random, network: Network) -> None:
        self.name, self.messages, self.habits, self.dice, self.network = name, messages, habits, dice, network
        self.wire = Wire()
        self.address: tuple[str, int] | None = None
        self.port: Port | None = None
        self.promised: Callable[[bytes, Any], None] = lambda data, wire: None
        self.calm = False  # the faults are over

    @property
    def done(self) -> bool:
        return all(message.acknowledged for message in self.messages)

    def chance(self, of: float) -> bool:
        return self.dice.random() < of and not self.calm

    async def connected(self) -> None:
        """Have a line, a new one where the old one is over."""
        if self.port is not None:
            if self.port.protocol is not self.wire:
                self.port.protocol = self.wire
            return
        assert self.address is not None
        while self.wire.over or self.wire.transport is None:
            try:
                _, self.wire = await self.network.connect(Wire, *self.address, None, self.name, self.promised)
            except OSError:
                await asyncio.sleep(self.dice.uniform(0.3, 2.0))

    async def reconnected(self) -> None:
        """Another connection. The old one is closed, or left as it is: nobody at the other end learns of it."""
        if self.port is None and self.wire.transport is not None:
            if self.dice.random() < 0.7:
                self.wire.transport.close()
            self.wire = Wire()
        await self.connected()

    def say(self, data: bytes) -> None:
        if self.port is not None:
            self.port.say(data)
        elif self.wire.transport is not None:
            self.wire.transport.write(data)


@dataclass(slots=True)
class _Heard:
    """A message of the host's that is being received."""

    text: bytearray = field(default_factory=bytearray)
    number: int = 1
    last: bytes = b""


class Astm(Sender):
    """LIS01-A2 as an instrument."""

    def __init__(self, name: str, messages: list[Message], habits: Habits, dice: Random, network: Network) -> None:
        super().__init__(name, messages, habits, dice, network)
        self.pending: bytes | None = None  # the frame that waits for its reply
        self.heard: list[bytes] = []  # the host's messages that it has taken to their end
        self.work: asyncio.Task[Any] | None = None
        self._begun = False  # ENQ went out with the EOT before

    async def run(self) -> None:
        for message in self.messages:
            await asyncio.sleep(self.dice.uniform(0.0, 4.0))
            while not message.acknowledged:
                await self.connected()
                if not await self._session(message):
                    self.pending, self._begun = None, False
                    if self.wire.over or self.chance(0.2):
                        await self.reconnected()
                    await self._rest(self.dice.uniform(0.5, 4.0))
        while True:  # what the host has to say
            await self.connected()
            await self._rest(60.0)

    async def _rest(self, seconds: float) -> None:
        """Nothing to say for a while: hear the host."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0 and not self.wire.over:
            if await self.wire.byte(left) == ENQ:
                await self._receive()
        if self.wire.over and loop.time() < until:
            await asyncio.sleep(min(1.0, until - loop.time()))

    async def _session(self, message: Message) -> bool:
        """Whether the message was acknowledged to its end."""
        if self.chance(self.habits.babbles):
            self.say(b"\x00~\x11")
        if not self._begun and not await self._bid():
            return False
        self._begun = False
        frames = self._frames(message.text)
        for at, frame in enumerate(frames):
            if at and self.chance(self.habits.falls_silent):
                await asyncio.sleep(35.0 if self.dice.random() < 0.5 else 5.0)
                return False
            if not await self._frame(frame):
                self.pending = None
                self.say(EOT)
                return False
            if at + 1 < len(frames) and self.chance(self.habits.again):
                await self._frame(frame)
        message.acknowledged = True
        self.pending = None
        following = self.messages[self.messages.index(message) + 1 :]
        if following and self.chance(self.habits.together):
            self.say(EOT + ENQ)
            self._begun = await self._granted()
        else:
            self.say(EOT)
        return True

    async def _bid(self) -> bool:
        self.wire.unread.clear()
        self.say(ENQ)
        return await self._granted()

    async def _granted(self) -> bool:
        for _ in range(4):
            reply = await self.wire.byte(REPLY_WAIT_S)
            if reply == ACK:
                return True
            if reply == ENQ:  # contention: the instrument has the right of way, after a second
                await asyncio.sleep(1.0 + self.dice.random())
                self.say(ENQ)
                continue
            if reply == NAK:
                await asyncio.sleep(BUSY_WAIT_S)
                return False
            if not reply:
                self.say(EOT)
                return False
        return False

    def _frames(self, text: bytes) -> list[bytes]:
        size = self.habits.frame_bytes
        parts: list[tuple[bytes, bytes]] = []
        for record in text.split(b"\r")[:-1]:
            whole = record + b"\r"
            cut = [whole[at : at + size] for at in range(0, len(whole), size)] if size else [whole]
            parts += [(part, ETB if at + 1 < len(cut) else ETX) for at, part in enumerate(cut)]
        return [self._framed(at + 1, part, end) for at, (part, end) in enumerate(parts)]

    @staticmethod
    def _framed(number: int, text: bytes, end: bytes, *, wrong: int = 0) -> bytes:
        body = b"%d" % (number % 8) + text + end
        return STX + body + b"%02X\r\n" % ((sum(body) + wrong) % 256)

    async def _frame(self, frame: bytes) -> bool:
        for tries in range(MOST_REJECTS):
            sent = frame
            if not tries and self.chance(self.habits.bad_checksum):
                sent = frame[:-4] + b"%02X\r\n" % ((int(frame[-4:-2], 16) + 1) % 256)
            elif not tries and self.chance(self.habits.wrong_number):
                sent = self._framed(int(frame[1:2]) + 3, frame[2:-5], frame[-5:-4])
            self.pending = frame if sent is frame else None
            self.say(sent)
            reply = await self.wire.byte(REPLY_WAIT_S)
            if reply in (ACK, EOT):  # LIS01-A2 6.5.2.5: EOT is an ACK of who wants the line
                return sent is frame
            if not reply:
                return False
        return False

    async def _receive(self) -> None:
        """The host has bid for the line."""
        if self.chance(0.1):
            self.say(NAK)
            return
        self.say(ACK)
        heard, buffer = _Heard(), bytearray()
        while True:
            byte = await self.wire.byte(RECEIVE_WAIT_S)
            if not byte or (not buffer and byte == EOT):
                return
            if not buffer and byte != STX:
                continue
            buffer += byte
            if len(buffer) > 6 and buffer.endswith(b"\r\n") and buffer[-5] in (ETX[0], ETB[0]):
                self.say(self._taken(heard, bytes(buffer)))
                buffer.clear()

    def _taken(self, heard: _Heard, frame: bytes) -> bytes:
        right = frame[-4:-2] == b"%02X" % (sum(frame[1:-4]) % 256)  # what noise left there may be no number
        if not right or self.chance(self.habits.refuses):
            return NAK
        if frame == heard.last:
            return ACK
        if frame[1:2] != b"%d" % (heard.number % 8):
            return NAK
        heard.text += frame[2:-5]
        heard.number, heard.last = heard.number + 1, frame
        if heard.text.endswith(b"L|1|N\r"):  # whole, whether its EOT comes or not
            self.heard.append(bytes(heard.text))
        return ACK


class Mllp(Sender):
    """HL7 over MLLP, original mode: a message is sent again until its AA has come."""

    async def run(self) -> None:
        at = 0
        while at < len(self.messages):
            await asyncio.sleep(self.dice.uniform(0.0, 3.0))
            some = self.messages[at : at + self.habits.window]
            while not all(message.acknowledged for message in some):
                await self.connected()
                left = [message for message in some if not message.acknowledged]
                if self.chance(self.habits.babbles):
                    self.say(b"\r\n\x00")
                for message in left:
                    self.say(b"\x0b" + message.text + b"\x1c\r")
                if not await self._answered(left):
                    await self.reconnected()
                    await asyncio.sleep(self.dice.uniform(0.2, 2.0))
            at += len(some)

    async def _answered(self, waiting: list[Message]) -> bool:
        """Whether each was answered, whatever the answer."""
        for _ in range(len(waiting)):
            while b"\x1c\r" not in self.wire.unread:
                before = len(self.wire.unread)
                if self.wire.over or not await self._grows(before):
                    return False
            block, _, rest = bytes(self.wire.unread).partition(b"\x1c\r")
            self.wire.unread[:] = rest
            for message in waiting:
                if f"MSA|AA|{message.control_id}".encode() in block:
                    message.acknowledged = True
            if b"MSA|AA" not in block:
                await asyncio.sleep(self.dice.uniform(0.5, 2.0))
        return True

    async def _grows(self, before: int) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.dice.choice((6.0, 10.0, 30.0))
        while len(self.wire.unread) == before:
            if self.wire.over or loop.time() >= until:
                return False
            self.wire._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self.wire._changed.wait()
            except TimeoutError:
                return len(self.wire.unread) > before
        return True


__all__ = ["ACK", "CALM", "Astm", "Habits", "Message", "Mllp", "Sender", "SimTransport"]

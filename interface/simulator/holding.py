"""An analyzer that stays on the line, simulated from its driver: it asks for work, is told of work without asking, does
what it is told and reports it. Its line is a session of ours at the other end: the same data link, as the instrument.

What it was told is counted: each order by specimen, code and action, so that one that came twice or never is seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid4

from interface.domain.model import Protocol
from interface.driver.compose import compose, compose_query
from interface.driver.dialogue import ordered_code
from interface.driver.planned import Stamp
from interface.errors import LinkError, LinkLost, SegmentError, StoreUnavailable
from interface.link.clock import Clock, LoopClock
from interface.link.intake import Intake, Outgoing, Receipt, ReceivedBlock, ReceivedFrame, Sending
from interface.link.mllp_session import MllpSession
from interface.link.session import AstmSession, Counters, Session
from interface.link.stream import ByteStream
from interface.link.tcp import connect
from interface.settings import Address
from interface.simulator.analyzer import ANSWER_WAIT_S, Model, told
from interface.simulator.invent import Dice, measure
from interface.wire import hl7, hl7_ack, lis01, lis02, mllp
from interface.wire.lis01 import LinkOptions
from interface.wire.transmission import MessageSplitter, part_text

REDIAL_S = 0.5
_CANCEL = frozenset({"C", "CA"})  # LIS02-A2 O-12, HL7 table 0119


class Mood(StrEnum):
    """How it takes what it is told."""

    WILLING = "willing"
    REFUSING = "refusing"  # every frame is rejected; HL7: AE
    BUSY = "busy"  # it does not let the host begin; HL7: CE
    DROPPING = "dropping"  # its line breaks in the middle of the next download, then it is willing


@dataclass(frozen=True, slots=True)
class Order:
    """One code that it was told to measure on a specimen, or to measure no more."""

    specimen_id: str
    code: str
    cancel: bool = False


@dataclass(slots=True)
class _Saying:
    """What it has to say, until the host has taken it."""

    sending: Sending
    taken: asyncio.Future[bool]


@dataclass
class Holder:
    """The analyzer. `at`: its clock as it begins. `hear` is called with each order that it takes; not of a message that
    came before byte for byte, which says nothing new.

    Use: `run` as a task; `ask`, `report` and `tell` from others.
    """

    model: Model
    endpoint: Address
    at: datetime
    seed: int = 0
    clock: Clock = field(default_factory=LoopClock)
    mood: Mood = Mood.WILLING
    hear: Callable[[Order], None] = lambda order: None
    said_to_it: Counter[Order] = field(default_factory=Counter)  # that it has taken, by message
    messages: Counter[bytes] = field(default_factory=Counter)  # whole messages of the host, as often as they came
    refusals: int = 0
    connections: int = 0
    silences: int = 0  # queries without an answer: it did not come in time, or the line broke before
    _todo: deque[_Saying] = field(default_factory=deque)
    _due: Callable[[], None] = lambda: None
    _sent: int = 0
    _splitter: MessageSplitter = field(default_factory=MessageSplitter)
    _open: bytearray = field(default_factory=bytearray)
    _answers: list[bytes] = field(default_factory=list)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _stream: ByteStream | None = None

    # ---- its life ----

    async def run(self) -> None:
        """Until cancelled: connected, and connected again."""
        while True:
            try:
                self._stream = await connect(self.endpoint)
            except LinkError:
                await self.clock.sleep(REDIAL_S)
                continue
            self.connections += 1
            self._splitter, self._open = MessageSplitter(), bytearray()
            self._answered.set()  # who waits for an answer waits in vain: it goes where its query came from
            await self._session(self._stream).run()
            await self.clock.sleep(REDIAL_S)

    def _session(self, stream: ByteStream) -> Session:
        intake: Intake = self
        name = f"simulated {self.model.driver.id}"
        if self._hl7:
            return MllpSession(name, stream, intake, Counters(), self.clock, mllp.Decoder())
        core = lis01.DataLink(lis01.Station.INSTRUMENT, LinkOptions(max_attempts=1))
        return AstmSession(name, stream, intake, Counters(), self.clock, core)

    @property
    def _hl7(self) -> bool:
        return self.model.driver.protocol is Protocol.HL7

    def _stamp(self) -> Stamp:
        self._sent += 1
        at = self.at + timedelta(seconds=self._sent)
        return Stamp(at, f"{self.at:%y%m%d%H%M%S}{self._sent % 10**6:06d}")

    # ---- what it says ----

    async def ask(self, specimen_id: str, wait_s: float = ANSWER_WAIT_S) -> tuple[str, ...]:
        """Ask for a specimen's work; the tests that the host names, in its words. Empty: none, or no answer in time."""
        self._answers.clear()
        if not await self.say((compose_query(self.model.known, specimen_id, self._stamp()),)):
            return ()
        until, connection = self.clock.now() + wait_s, self.connections
        while not (tests := told(self.model.driver, self._answers, specimen_id)):
            self._answered.clear()
            try:
                async with self.clock.timeout_at(until):
                    await self._answered.wait()
            except TimeoutError:
                self.silences += 1
                return ()
            if connection != self.connections:
                self.silences += 1
                return ()
            if self._answers and not self._hl7 and not told(self.model.driver, self._answers, specimen_id):
                return ()  # HL7 may say first that it has heard, and the orders behind it
        return tests

    async def report(self, specimen_id: str, codes: Sequence[str], run: int = 0) -> bool:
        """Measure these and say so; whether the host took it."""
        made = measure(self.model.known, specimen_id, Dice(self.seed + self._sent), codes=tuple(codes), run=run)
        return await self.say(compose(self.model.known, made, self._stamp()))

    def codes_of(self, tests: Sequence[str]) -> tuple[str, ...]:
        """Its own codes for the tests that a host names."""
        driver, known = self.model.driver, self.model.known
        names = {code: ordered_code(driver.answer, code) if driver.answer else code for code in known.sayings}
        return tuple(code for code, name in names.items() if {code, name} & set(tests))

    async def say(self, texts: Sequence[bytes]) -> bool:
        """Have the host take these messages, one after the other; False when it refuses one."""
        futures = []
        for text in texts:
            taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._todo.append(_Saying(Sending(uuid4(), text, self._hl7), taken))
            futures.append(taken)
        self._due()
        return all(await asyncio.gather(*futures))

    # ---- `link.intake.Outgoing` ----

    async def take(self) -> Sending | None:
        """See there."""
        return self._todo[0].sending if self._todo else None

    async def told(self, sending: Sending, delivered: bool, reply: bytes | None, reason: str) -> bytes | None:
        """See there: what the host did not take is said again, until it says no."""
        saying = next((one for one in self._todo if one.sending.id == sending.id), None)
        refused = reason == "unsendable" or (reply is not None and b"MSA|A" in reply and b"MSA|AA" not in reply)
        if saying is not None and (delivered or refused):
            self._todo.remove(saying)
            if reply is not None:
                self._heard(reply)
            if not saying.taken.done():
                saying.taken.set_result(not refused)
        return None

    def close(self) -> None:
        """See there."""

    # ---- `link.intake.Intake` ----

    @property
    def ready(self) -> bool:
        """See there: while it is busy the host's ENQ is refused."""
        return self.mood is not Mood.BUSY

    def frames(self, peer: str) -> Holder:
        """See there."""
        return self

    def outgoing(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        """See there."""
        self._due = due
        return self

    def declared(self, peer: str) -> Holder:
        """See there: framings of its own are not simulated so."""
        return self

    async def frame(self, frame: ReceivedFrame) -> Receipt:
        """See there."""
        if self.mood is Mood.REFUSING:
            self.refusals += 1
            raise StoreUnavailable("the analyzer does not take it")
        if self.mood is Mood.DROPPING and self._stream is not None:
            self.mood = Mood.WILLING
            await self._stream.close()
            raise LinkLost("the analyzer's line broke")
        for piece in self._splitter.feed(frame.text, frame.last):
            if piece.opens:
                self._open = bytearray()
            self._open += part_text(frame.text, frame.last, piece.start, piece.stop)
            if piece.seals:
                self._heard(bytes(self._open))
        return Receipt()

    async def end(self, reason: str) -> Receipt:
        """See there."""
        self._splitter = MessageSplitter()
        return Receipt()

    async def block(self, block: bytes | ReceivedBlock, peer: str = "") -> Receipt:
        """See there: a message of the host's own, over MLLP."""
        data = block if isinstance(block, bytes) else block.text
        if self.mood is Mood.DROPPING and self._stream is not None:
            self.mood = Mood.WILLING
            await self._stream.close()
            return Receipt(close=True)
        code = {Mood.REFUSING: hl7_ack.AckCode.AE, Mood.BUSY: hl7_ack.AckCode.CE}.get(self.mood, hl7_ack.AckCode.AA)
        self.refusals += not code.positive
        if code.positive:
            self._heard(data)
        answer = hl7_ack.acknowledge(data, code, control_id=uuid4().hex[:20], now=self.clock.utc())
        return Receipt(UUID(int=0), answer)

    def replied(self, receipt: Receipt, sent: bool) -> None:
        """See there."""

    def rejected(self, reason: str, data: bytes, peer: str) -> None:
        """See there."""

    # ---- what it hears ----

    def _heard(self, text: bytes) -> None:
        self.messages[text] += 1
        self._answers.append(text)
        self._answered.set()
        for order in orders(self.model.driver.protocol, text):
            self.said_to_it[order] += 1
            if self.messages[text] == 1:
                self.hear(order)


def orders(protocol: Protocol, text: bytes) -> tuple[Order, ...]:
    """What a message of the host orders, and takes back. Of HL7 what OBR-4 names below an ORC."""
    return _lis2_orders(text) if protocol is Protocol.LIS2 else _hl7_orders(text)


def _lis2_orders(text: bytes) -> tuple[Order, ...]:
    found = []
    for record in lis02.parse(text).records:
        if record.type == "O":
            for number in range(1, len(record.repeats(5)) + 1):
                # LIS02-A2 has the maker's code in the fourth component; some makers have it elsewhere.
                code = next(filter(None, (record.component(5, at, number) for at in (4, 5, 1, 2, 3))), "")
                if code:
                    found.append(Order(record.component(3, 1).strip(), code, record.field(12) in _CANCEL))
    return tuple(found)


def _hl7_orders(text: bytes) -> tuple[Order, ...]:
    try:
        segments = hl7.parse(text).segments
    except SegmentError:
        return ()
    found, control, specimen = [], "", ""
    for segment in segments:
        if segment.id == "ORC":
            control = segment.value(1)
        elif segment.id in ("SPM", "SAC"):
            specimen = segment.value(2) or segment.value(3) or specimen
        elif segment.id == "OBR" and segment.value(4):
            found.append(Order(specimen or segment.value(3), segment.value(4), control in _CANCEL))
    return tuple(found)

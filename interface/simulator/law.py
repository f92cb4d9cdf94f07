"""An analyzer that speaks IHE LAW, over both its connections: it asks and reports over the one that it makes, and is
told of work over the one that it listens on. It does with work what the profile says an analyzer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from interface.driver.law_analyzer import Heard, HeardOrder, Result, Voice, hear
from interface.link.clock import Clock, LoopClock
from interface.link.tcp import connect
from interface.settings import Address
from interface.simulator.invent import Dice
from interface.wire import hl7, mllp
from interface.wire.trace import escape

CHUNK_BYTES = 65_536
ANYWHERE = Address("127.0.0.1", 0)  # a port of the system's choice
REPLY_WAIT_S = 10.0


class Stage(StrEnum):
    """What the analyzer has made of a step so far."""

    WAITING = "waiting"
    RUNNING = "running"  # too late to cancel it
    DONE = "done"
    REFUSED = "refused"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Line:
    """One message of the conversation. `said`: by the analyzer. `made`: over the connection that it makes."""

    said: bool
    made: bool
    data: bytes

    def __str__(self) -> str:
        way = f"{'analyzer' if self.said else 'host    '} {'LAB-27/29' if self.made else 'LAB-28   '}"
        return f"{way} {escape(self.data)}"


@dataclass(frozen=True, slots=True)
class Told:
    """A LAB-28 that came, and what was answered: ORC-1 of each step, none where there was nothing to do."""

    order: HeardOrder
    controls: tuple[str, ...]


class Silence(Exception):
    """What the analyzer waited for did not come in time."""


# What it does with a step that it could take; its own rules come first. None: nothing is answered at all.
Policy = Callable[[HeardOrder, Heard], str | None]


def takes_all(order: HeardOrder, step: Heard) -> str | None:
    """Every step is taken."""
    return "OK"


class LawAnalyzer:
    """Made by `law_analyzer`. `told`: LAB-28 as they come. `trace`: all that was said, both ways."""

    def __init__(self, voice: Voice, host: Address, clock: Clock, policy: Policy, structure: str) -> None:
        self.voice, self.policy, self.structure = voice, policy, structure
        self.stages: dict[str, Stage] = {}  # by step id
        self.told: asyncio.Queue[Told] = asyncio.Queue()
        self.trace: list[Line] = []
        self.mute = 0  # answers to LAB-28 that are lost on their way
        self.brief = False  # it answers work with a header alone
        self.host, self._clock, self._asked, self._tags = host, clock, set[str](), 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> Address:
        """Where it listens for LAB-28."""
        if self._server is None:
            raise ValueError("it does not listen")
        host, port = self._server.sockets[0].getsockname()[:2]
        return Address(host, port)

    def reach(self, host: Address) -> None:
        """Where LAB-27 and LAB-29 go."""
        self.host = host

    def run(self, step_id: str) -> None:
        """Begin to measure: it cannot be cancelled any more."""
        self.stages[step_id] = Stage.RUNNING

    def forget(self, specimen_id: str) -> None:
        """It was never here."""
        self._asked.discard(specimen_id)

    def now(self) -> datetime:
        """Its clock."""
        return self._clock.utc()

    # ---- over the connection that it makes

    async def ask(
        self, specimen_id: str = "", *, name: str = "WOS^Work Order Step^IHELAW", more: str = "", tag: str = ""
    ) -> hl7.Message:
        """LAB-27; the host's RSP^K11. Raises Silence."""
        self._tags += 1
        if specimen_id:
            self._asked.add(specimen_id)
        return await self.say(self.voice.asks(self.now(), tag or f"T{self._tags}", specimen_id, name, more))

    async def report(self, specimen_id: str, results: Sequence[Result], role: str = "P") -> hl7.Message:
        """LAB-29; the host's ACK^R22. Raises Silence."""
        reply = await self.say(self.voice.reports(self.now(), specimen_id, results, role))
        for result in results:
            if result.step_id in self.stages and result.order_status != "IP":
                self.stages[result.step_id] = Stage.DONE
        return reply

    async def say(self, block: bytes) -> hl7.Message:
        """One message on a connection of its own; what the host answers. Raises Silence, LinkLost."""
        stream, decoder = await connect(self.host), mllp.Decoder()
        self._heard(Line(True, True, block))
        try:
            await stream.write(mllp.encode(block))
            async with self._clock.timeout_at(self._clock.now() + REPLY_WAIT_S):
                while data := await stream.read():
                    for event in decoder.receive(data):
                        if isinstance(event, mllp.BlockReceived):
                            self._heard(Line(False, True, event.block))
                            if not self._goes_on(reply := hl7.parse(event.block)):
                                return reply
            raise Silence("the host hung up")
        except TimeoutError as error:
            raise Silence("the host does not answer") from error
        finally:
            await stream.close()

    def _goes_on(self, reply: hl7.Message) -> bool:
        """Whether it accepts alone what is still to be answered (MSH-15 and MSH-16 AL)."""
        acknowledged = reply.first("MSA")
        return self.voice.application == "AL" and acknowledged is not None and acknowledged.value(1) == "CA"

    async def next(self, wait_s: float = REPLY_WAIT_S) -> Told:
        """The next LAB-28. Raises Silence."""
        try:
            async with self._clock.timeout_at(self._clock.now() + wait_s):
                return await self.told.get()
        except TimeoutError as error:
            raise Silence("no LAB-28 came") from error

    # ---- over the connection that the host makes

    async def listen(self, address: Address) -> None:
        self._server = await asyncio.start_server(self._serve, address.host, address.port)

    async def close(self) -> None:
        await self.hang_up()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def hang_up(self) -> None:
        """Drop the host's connections; it may make new ones."""
        for writer in list(self._writers):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = mllp.Decoder()
        self._writers.add(writer)
        try:
            while data := await reader.read(CHUNK_BYTES):
                for event in decoder.receive(data):
                    if isinstance(event, mllp.BlockReceived):
                        self._heard(Line(False, False, event.block))
                        for answer in self._answers(event.block):
                            self._heard(Line(True, False, answer))
                            writer.write(mllp.encode(answer))
                            await writer.drain()
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answers(self, block: bytes) -> list[bytes]:
        """The answer to a LAB-28, at most one. Of several specimens in one message each is answered for itself."""
        answers = []
        for order in hear(block):
            if any(step.control == "DC" for step in order.steps):
                answers.append(self._nothing(order))
                continue
            controls = [self._takes(order, step) for step in order.steps]
            known = [control for control in controls if control is not None]
            self.told.put_nowait(Told(order, tuple(known)))
            if len(known) == len(controls):
                answers.append(self.voice.answers(self.now(), order, () if self.brief else known, self.structure))
        if self.mute and answers:
            self.mute -= 1
            return []
        return answers

    def _nothing(self, order: HeardOrder) -> bytes:
        """LAB28-009; LAB28-008 for a specimen that it did not ask about."""
        self.told.put_nowait(Told(order, ()))
        if order.specimen_id and order.specimen_id not in self._asked:
            error = "ERR||SAC^1^3|204^Unknown key identifier^HL70357|E"
            return self.voice.refuses(self.now(), order.control_id, "AR", error)
        return self.voice.answers(self.now(), order, (), self.structure)

    def _takes(self, order: HeardOrder, step: Heard) -> str | None:
        """ORC-1: an id is taken once (LAB28-006), and given back while it waits."""
        stage = self.stages.get(step.step_id)
        if step.control == "CA":
            if stage is not Stage.WAITING:
                return "UC"
            self.stages[step.step_id] = Stage.CANCELLED
            return "CR"
        if stage is not None:
            return "UA"
        control = self.policy(order, step)
        if control is not None:
            self.stages[step.step_id] = Stage.WAITING if control == "OK" else Stage.REFUSED
        return control

    def _heard(self, line: Line) -> None:
        self.trace.append(line)


@asynccontextmanager
async def law_analyzer(
    host: Address,
    listen: Address = ANYWHERE,
    *,
    name: str = "LAW1",
    policy: Policy = takes_all,
    structure: str = "ORL_O42",
    accept: str = "NE",
    application: str = "AL",
    clock: Clock | None = None,
) -> AsyncIterator[LawAnalyzer]:
    """An analyzer that listens at `listen` and reaches the host at `host`. `accept`, `application`: its MSH-15, -16."""
    analyzer = LawAnalyzer(
        Voice(name, accept=accept, application=application), host, clock or LoopClock(), policy, structure
    )
    await analyzer.listen(listen)
    try:
        yield analyzer
    finally:
        await analyzer.close()


@dataclass(frozen=True, slots=True)
class Worked:
    """One specimen of a day: what the host told of it (`heard`), what was measured, and MSA-1 of its report."""

    specimen_id: str
    heard: bool
    tests: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()
    answer: str = ""


async def work_through(
    analyzer: LawAnalyzer, specimen_ids: Sequence[str], *, seed: int = 0, answer_wait_s: float = REPLY_WAIT_S
) -> list[Worked]:
    """Ask about each specimen, do what is told of it, and report that; values are invented from the seed.

    Raises LinkLost where the host is not there.
    """
    done = []
    for specimen_id in specimen_ids:
        try:
            await analyzer.ask(specimen_id)
            told = await analyzer.next(answer_wait_s)
            while told.order.specimen_id != specimen_id:  # work that was sent without being asked for
                told = await analyzer.next(answer_wait_s)
        except Silence:
            done.append(Worked(specimen_id, False))
            continue
        results = tuple(_measured(step, specimen_id, Dice(seed)) for step in _taken(told))
        answer = ""
        if results:
            reply = await analyzer.report(specimen_id, results)
            acknowledged = reply.first("MSA")
            answer = acknowledged.value(1) if acknowledged else ""
        done.append(
            Worked(specimen_id, True, tuple(step.code for step in told.order.steps if step.code), results, answer)
        )
    return done


def _taken(told: Told) -> list[Heard]:
    steps = zip(told.order.steps, told.controls, strict=False)
    return [step for step, control in steps if step.control == "NW" and control == "OK"]


def _measured(step: Heard, specimen_id: str, dice: Dice) -> Result:
    tenths = 10 + dice.roll(990, specimen_id, step.code)
    return Result(step.step_id, step.code, f"{tenths // 10}.{tenths % 10}")

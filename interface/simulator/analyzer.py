"""A whole analyzer, simulated from its driver: it reports specimens and controls, asks the host for work and does what
it is told, runs specimens again. What it says is invented (`invent`), how it says it is the driver's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from interface.domain.model import Protocol, SpecimenRole
from interface.driver import registry
from interface.driver.capture import CaptureError, read_capture
from interface.driver.compose import compose, compose_query
from interface.driver.dialogue import ordered_code
from interface.driver.hearing import ordered
from interface.driver.manifest import Driver
from interface.driver.planned import Run, Stamp
from interface.driver.repertoire import Repertoire, repertoire
from interface.errors import SegmentError
from interface.link.clock import Clock, LoopClock
from interface.simulator.framing import FrameHabit, frame_habit, framed
from interface.simulator.invent import Dice, control_id, measure, specimen_ids
from interface.simulator.playing import Endpoint, Fault, Player, PlayReport, player_for, refuse
from interface.simulator.source import PlayProtocol, count_messages
from interface.wire import hl7, lis01
from interface.wire.trace import Direction, parse_trace

ANSWER_WAIT_S = 15.0
_REFUSED = "the host answered A"  # AE, AR: an answer to a query as well


@dataclass(frozen=True, slots=True)
class Model:
    """One analyzer as it can be simulated: what it says, and how it frames it."""

    known: Repertoire
    habit: FrameHabit

    @property
    def driver(self) -> Driver:
        return self.known.driver


@dataclass(frozen=True, slots=True)
class Worklist:
    """What the analyzer is to do. `specimens`: by name, else `orders` are invented. `codes`: empty is its usual panel.

    `at`: its clock as it begins. `faults`: one is drawn for each transmission.
    """

    at: datetime
    orders: int = 1
    specimens: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    seed: int = 0
    controls: int = 0
    query: bool = False
    reruns: bool = False
    faults: tuple[Fault, ...] = ()
    rate_per_s: float | None = None
    answer_wait_s: float = ANSWER_WAIT_S
    linger_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the host said to a query. `heard`: it said anything; `tests`: as it named them, empty for no work."""

    specimen_id: str
    heard: bool
    tests: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came of it: the play, what was measured, what the host answered."""

    report: PlayReport
    runs: tuple[Run, ...]
    answers: tuple[Answer, ...]


@dataclass(slots=True)
class _Day:
    """What has happened so far."""

    sent: int = 0
    runs: list[Run] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def model(driver_id: str, site: Sequence[Path] = ()) -> Model:
    """The analyzer of a driver. Raises DriverError where there is no such driver."""
    driver = registry.load(driver_id, site)
    texts: list[bytes] = []
    said = b""
    # Plain results first: their shape is the analyzer's everyday one.
    for vector in sorted(registry.vectors(driver_id, site), key=lambda one: not one.name.startswith("result")):
        data = vector.trace.read_bytes()
        said += parse_trace(data.decode("utf-8", "replace")).bytes_of(Direction.ANALYZER)
        try:
            texts += [message.text for message in registry.read(data, driver) if message.whole]
        except CaptureError:
            continue  # a vector of bytes that are no message
    return Model(repertoire(driver, texts), frame_habit(driver, said))


def told(driver: Driver, replies: Sequence[bytes], specimen_id: str) -> tuple[str, ...]:
    """The tests that the host names for a specimen, in its words.

    By the driver's own dialect, else as it reads any message; there orders may have the id where results have none:
    then it is enough that the message names it.
    """
    texts = list(replies)
    if driver.protocol is Protocol.LIS2 and replies:
        try:
            texts = [message.text for message in read_capture(b"".join(replies))]
        except CaptureError:
            texts = []
    tests = list(ordered(driver, texts, specimen_id))
    for text in texts if driver.answer is None and not tests else ():
        named = specimen_id.encode() in text
        for one in registry.decode(driver, text).specimens:
            if one.specimen_id == specimen_id or (one.specimen_id is None and named):
                tests += [test for test in one.order_code.split("\\") if test]
    return tuple(dict.fromkeys(tests))


async def simulate(
    model: Model, work: Worklist, to: Endpoint, *, options: lis01.LinkOptions | None = None, clock: Clock | None = None
) -> Simulation:
    """Do the work against a host. Ends at the first transmission that fails.

    Raises DriverError for what the driver's vectors do not show, LinkError as `play` does.
    """
    clock, empty = clock or LoopClock(), framed(model.driver, model.habit, ())
    for fault in work.faults:
        refuse(empty, fault)
    player = player_for(empty, to, Fault.NONE, options or lis01.LinkOptions(), clock)
    return await _Analyzer(model, work, player, clock).run(empty.protocol)


class _Analyzer:
    def __init__(self, model: Model, work: Worklist, player: Player, clock: Clock) -> None:
        self._model, self._work, self._player, self._clock = model, work, player, clock
        self._dice, self._day = Dice(work.seed), _Day()
        self._begin = clock.now()

    async def run(self, protocol: PlayProtocol) -> Simulation:
        known, work, day, player = self._model.known, self._work, self._day, self._player
        specimens = work.specimens or specimen_ids(known, work.orders, self._dice)
        try:
            await player.line()
            for number in range(work.controls):
                await self._report(control_id(known), SpecimenRole.QC, run=number)
            for specimen in specimens:
                codes: tuple[str, ...] | None = work.codes
                if work.query and not day.faults:
                    codes = await self._ask(specimen)
                for run in range(2 if work.reruns else 1):
                    if codes is not None:
                        await self._report(specimen, SpecimenRole.PATIENT, codes, run)
            if work.linger_s and not day.faults:
                await player.listen(work.linger_s)
        finally:
            await player.hang_up()
        tally = player.tally
        report = PlayReport(
            protocol, tally.messages, tally.acknowledged, tally.rejections, self._clock.now() - self._begin,
            tuple(player.replies), tuple(day.faults),
        )  # fmt: skip
        return Simulation(report, tuple(day.runs), tuple(day.answers))

    def _stamp(self) -> Stamp:
        at = self._work.at + timedelta(seconds=self._day.sent)
        return Stamp(at, f"{self._work.at:%y%m%d%H%M%S}{self._day.sent % 10**6:06d}")

    async def _report(self, specimen: str, role: SpecimenRole, codes: tuple[str, ...] = (), run: int = 0) -> None:
        if self._day.faults:
            return
        made = measure(self._model.known, specimen, self._dice, role=role, codes=codes, run=run)
        texts = compose(self._model.known, made, self._stamp())
        if problem := await self._send(texts):
            self._day.faults.append(problem)
        else:
            self._day.runs.append(made)

    async def _send(self, texts: tuple[bytes, ...]) -> str:
        """Send what is said at once; "" when it was acknowledged."""
        player, work, day = self._player, self._work, self._day
        source = framed(self._model.driver, self._model.habit, texts)
        if work.rate_per_s is not None:
            await self._clock.sleep(max(0.0, self._begin + day.sent / work.rate_per_s - self._clock.now()))
        for parts in source.transmissions:
            if work.faults:
                player.fault = work.faults[self._dice.roll(len(work.faults), "fault", day.sent)]
            day.sent += 1
            count = count_messages(source, parts)
            player.tally.messages += count
            if problem := await player.play(parts):
                return problem
            player.tally.acknowledged += count
        return ""

    async def _ask(self, specimen: str) -> tuple[str, ...] | None:
        """What to measure by the host's answer: the tests it names, the panel where it names others, None for none."""
        player, known, driver = self._player, self._model.known, self._model.driver
        before = len(player.replies)
        problem = await self._send((compose_query(known, specimen, self._stamp()),))
        refused = problem.startswith(_REFUSED)
        if problem and not refused:
            self._day.faults.append(problem)
            return None
        if refused:
            player.tally.acknowledged += 1  # it was heard
        tests = told(driver, player.replies[before:], specimen)
        if not tests and not refused:
            await player.listen(self._work.answer_wait_s, once=True)
            tests = told(driver, player.replies[before:], specimen)
        said = [reply for reply in player.replies[before:] if refused or not _receipt(driver, reply)]
        words = b"".join(said).decode(driver.encoding or "utf-8", "backslashreplace")
        self._day.answers.append(Answer(specimen, bool(said), tests, words))
        # Of tests that it never reported it measures its panel: they are a profile's.
        names = {code: ordered_code(driver.answer, code) if driver.answer else code for code in known.sayings}
        measured = tuple(code for code, name in names.items() if {code, name} & set(tests))
        return measured if tests else None


def _receipt(driver: Driver, reply: bytes) -> bool:
    """Whether a reply says no more than that the message has arrived."""
    if driver.protocol is not Protocol.HL7:
        return False
    try:
        return hl7.parse(reply).type.startswith("ACK")
    except SegmentError:
        return False

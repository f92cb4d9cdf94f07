"""One run from one seed: analyzers, a daemon, a database, faults for a while, and then what must be so (I1 to I8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import structlog

from interface.errors import LinkError, StoreError
from interface.flow import results
from interface.flow.message import message_text
from interface.link import cable
from interface.link.intake import Sending
from interface.link.serial import LineFault
from interface.settings import SerialPort
from interface.store import db, ids
from interface.store.stored_messages import StoredMessage, read_messages
from tests.simulation import network, server
from tests.simulation.daemon import SimLink, Speech, astm, live, mllp
from tests.simulation.loop import EPOCH, Process, SimLoop, bury, simulated, spawn, utc
from tests.simulation.peers import ACK, CALM, EOT, Astm, Habits, Message, Mllp, Sender
from tests.simulation.statements import digest_of
from tests.simulation.tables import Transaction, View

FAULTS_S = (15.0, 60.0)  # how long there are faults
PATIENCE_S = 1800.0  # after which everything must have been said and decided, of virtual time
STOP_S = 60.0
RESTART_S = (0.05, 3.0)
KEPT_EVENTS = 400
PATIENT = "Muster^Maria"  # whom no log line may name


class Broken(AssertionError):
    """What was promised is not so. `events`: the last of the trace."""

    def __init__(self, seed: int, text: str, events: list[str]) -> None:
        self.seed, self.events = seed, events
        super().__init__(f"seed {seed}: {text}")


@dataclass(slots=True)
class Run:
    """What a run came to. `digest`: of all its events; `values`: by natural key in the order they were decided."""

    seed: int
    digest: str
    values: dict[str, tuple[str, ...]]
    virtual_s: float
    events: int
    faults: Counter[str] = field(default_factory=Counter)


class _Time:
    """Stands in for the module `time` where ids are made."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def time_ns(self) -> int:
        return int((EPOCH.timestamp() + self._loop.time()) * 1e9)


class _System:
    """Stands in for the module `os` there."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice

    def urandom(self, count: int) -> bytes:
        return self._dice.randbytes(count)


class _Instants:
    """Stands in for the class `datetime` where a worker asks how old a message is."""

    @staticmethod
    def now(zone: tzinfo) -> datetime:
        return utc()


class World:
    """See above. `faults` False: the same analyzers and messages, and nothing goes wrong."""

    def __init__(self, loop: SimLoop, seed: int, *, faults: bool = True) -> None:
        self.loop, self.seed, self.with_faults = loop, seed, faults
        dice = Random(seed)  # noqa: S311  a simulation
        self.plan, self.dice, self.chance = (Random(dice.random()) for _ in range(3))  # noqa: S311
        self.ids = Random(dice.random())  # noqa: S311
        self.digest = blake2b(digest_size=16)
        self.events: list[str] = []
        self.counted: Counter[str] = Counter()
        self.network = network.Network(loop, self.dice, self._heard)
        self.server = server.Server(self.dice, self.note)
        self.ports: dict[Path, network.Port] = {}
        self.process: Process | None = None
        self.dead: list[Process] = []
        self.lives = 0
        self.calm = not faults
        self.stop = asyncio.Event()
        self.links: list[SimLink] = []
        self.senders: list[Sender] = []
        self.logged: Counter[str] = Counter()
        self._people()

    # ---- the trace

    def note(self, what: str, about: str = "") -> None:
        event = f"{self.loop.time():.6f} {what} {about}"
        self.digest.update(event.encode())
        self.events.append(event)
        if len(self.events) > 2 * KEPT_EVENTS:
            del self.events[:KEPT_EVENTS]

    def _heard(self, who: str, what: str, data: bytes) -> None:
        self.note(who, f"{what} {data!r}" if len(data) < 12 else f"{what} {len(data)} bytes {digest_of(data)}")

    def log(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        """A log line of the daemon: it is in the trace, and names no patient (I8)."""
        said = str(event.get("action", event["event"]))
        self.logged[said] += 1
        self.note("log", said)
        for value in event.values():
            if isinstance(value, str) and PATIENT in value:
                self.loop.faults.append(AssertionError(f"a log line names a patient: {said}"))
        if event.get("action") in ("journal.fault", "queue.fault", "message.failed", "link.fault", "link.failed"):
            self.loop.faults.append(AssertionError(f"the daemon stumbled: {event}"))
        raise structlog.DropEvent

    def broken(self, text: str) -> Broken:
        return Broken(self.seed, text, self.events[-KEPT_EVENTS:])

    # ---- who is there

    def _people(self) -> None:
        """Three analyzers, what they measure, and how they behave."""
        plan = self.plan
        for number, kind in enumerate(("tcp", "serial" if plan.random() < 0.5 else "tcp", "mllp"), 1):
            name, count = f"{kind}-{number}", plan.randint(1, 4)
            specimens = [f"S{number}{at}" for at in range(plan.randint(1, 2))]
            speech = None
            if kind != "mllp" and plan.random() < 0.5:
                speech = Speech([self._order(number, at) for at in range(plan.randint(1, 2))])
            write = self._oru if kind == "mllp" else self._lis2
            messages = [write(number, at, plan.choice(specimens)) for at in range(count)]
            link = mllp(name, number) if kind == "mllp" else astm(name, number, speech, serial=kind == "serial")
            sender = (Mllp if kind == "mllp" else Astm)(name, messages, self._habits(kind), self.chance, self.network)
            sender.calm = self.calm
            sender.promised = self._promised_blocks(sender) if kind == "mllp" else self._promised_frames(sender)
            if kind == "serial":
                port = self.ports[link.transport.endpoint.path] = network.Port(self.network, name)  # type: ignore[union-attr]
                port.answered, port.protocol, sender.port = sender.promised, sender.wire, port
            else:
                sender.address = ("127.0.0.1", 4000 + number)
            self.links.append(link)
            self.senders.append(sender)

    def _habits(self, kind: str) -> Habits:
        plan = self.plan
        often = plan.choice((0.0, 0.05, 0.2))
        habits = Habits(
            frame_bytes=plan.choice((0, 0, 20, 64)), bad_checksum=often, wrong_number=often / 2, babbles=often,
            falls_silent=often / 4, again=often, together=plan.choice((0.0, 0.5)), refuses=often,
            window=plan.choice((1, 1, 3)),
        )  # fmt: skip
        return habits if self.with_faults else CALM

    def _lis2(self, number: int, at: int, specimen: str) -> Message:
        control, value = f"A{number}{at}", f"{number}{at}.5"
        text = (
            f"H|\\^&|{control}||Sim^1||||||||LIS2-A2|20260102030405\rP|1||P{number}||{PATIENT}\r"
            f"O|1|{specimen}||^^^CBC|R\rR|1|^^^WBC|{value}|10*3/uL||N||F||||20260102030000\rL|1|N\r"
        )
        return Message(control, text.encode(), specimen, value)

    def _oru(self, number: int, at: int, specimen: str) -> Message:
        control, value = f"M{number}{at}", f"{number}{at}.5"
        text = (
            f"MSH|^~\\&|SIM|LAB|L|LAB|20260102030405||ORU^R01^ORU_R01|{control}|P|2.5.1\r"
            f"PID|1||P{number}^^^TEST||{PATIENT}\rOBR|1|||CBC\r"
            f"OBX|1|NM|2823-3^K^LN||{value}|mmol/L|||||F|||20260102030000\rSPM|1|{specimen}||SER\r"
        )
        return Message(control, text.encode(), specimen, value)

    def _order(self, number: int, at: int) -> Sending:
        text = f"H|\\^&|||Host\rP|1\rO|1|T{number}{at}||^^^WBC|R\rL|1|N\r"
        return Sending(UUID(int=number << 8 | at), text.encode())

    # ---- I1, at the moment of the promise

    def _stored(self) -> set[bytes]:
        return {row["bytes"] for row in self.server.tables.rows["frame"].values()}

    def _promised_in_vain(self, text: str) -> None:
        """Not raised where it is found, which is in the daemon's code."""
        self.loop.faults.append(self.broken(text))

    def _promised_frames(self, sender: Any) -> Callable[[bytes, Any], None]:
        def promised(data: bytes, wire: Any) -> None:
            if (
                wire is sender.wire
                and data[:1] in (ACK, EOT)
                and sender.pending is not None
                and sender.pending not in self._stored()
            ):
                self._promised_in_vain(f"{sender.name} is told {data[:1]!r} for a frame that is not committed")

        return promised

    def _promised_blocks(self, sender: Any) -> Callable[[bytes, Any], None]:
        def promised(data: bytes, wire: Any) -> None:
            for message in sender.messages:
                if f"MSA|AA|{message.control_id}\r".encode() in data and message.text not in self._stored():
                    self._promised_in_vain(f"{sender.name} is told AA for {message.control_id}, which is not committed")

        return promised

    # ---- the daemon's lives

    async def serve(self) -> None:
        """Systemd: a daemon that has ended is started again, until it is stopped for good."""
        while True:
            self.lives += 1
            self.server.see_off(self.dead)
            process = self.process = Process(f"life {self.lives}")
            self.note(process.name, "begins")
            task = spawn(
                process, live(self.links, self.dice, lambda: self.server.up, self.stop, lambda: self.note("ready"))
            )
            ended = asyncio.Event()
            task.add_done_callback(lambda _, ended=ended: ended.set())  # type: ignore[misc]
            self.killed = ended
            await ended.wait()
            if process.alive and task.done() and (error := task.exception()) is not None:
                self.note("daemon ends", type(error).__name__)
                if not isinstance(error, StoreError | LinkError):
                    raise error
            if self.stop.is_set() and process.alive:
                return
            self.kill()
            await asyncio.sleep(self.dice.uniform(*RESTART_S))

    def kill(self) -> None:
        """kill -9, at whatever await it is."""
        process = self.process
        if process is None or not process.alive:
            return
        process.alive = False
        self.dead.append(process)
        self.note(process.name, "is killed")
        self.counted["kill"] += 1
        self.network.killed(process)
        self.server.killed(process)
        for port in self.ports.values():
            if port.opened is not None and port.opened.process is process:
                port.opened = None
        self.killed.set()

    # ---- faults

    async def weather(self) -> None:
        """Everything that goes wrong, for a while."""
        plan, until = self.plan, self.loop.time() + self.plan.uniform(*FAULTS_S)
        self.network.weather = network.Weather(
            stalled=plan.choice((0.0, 0.02)), pieces=plan.choice((0.0, 0.5, 1.0)), reset=plan.choice((0.0, 0.2)),
            half_open=plan.choice((0.0, 0.1)), damaged=plan.choice((0.0, 0.03)), lost=plan.choice((0.0, 0.03)),
            delay_s=plan.choice(((0.0005, 0.01), (0.01, 0.4))),
        )  # fmt: skip
        self.server.troubles = server.Troubles(
            refused=plan.choice((0.0, 0.02)), unheard=plan.choice((0.0, 0.03)),
            serialization=plan.choice((0.0, 0.03)), slow=plan.choice((0.0, 0.05)),
        )  # fmt: skip
        doing = plan.choices(
            (self._kill_soon, self._crash, self._freeze, self._fill, self._end_sessions, self._unplug, self._cut),
            weights=(4, 3, 2, 1, 1, 1, 2), k=plan.randint(1, 5),
        )  # fmt: skip
        for at, fault in zip(sorted(plan.uniform(0.0, until) for _ in doing), doing, strict=True):
            await asyncio.sleep(max(at - self.loop.time(), 0.0))
            self.counted[fault.__name__.strip("_")] += 1
            await fault()
        await asyncio.sleep(max(until - self.loop.time(), 0.0))
        self.calm = True
        self.network.weather, self.server.troubles = network.CALM, server.NONE
        for sender in self.senders:
            sender.calm = True
        for end in self.network.ends:  # a keep-alive finds what is half open, sooner or later
            if end.fate[0] == "half_open" or end.other.over:
                end.break_off()
            end.fate = ("", 0)
        self.note("calm")

    async def _kill_soon(self) -> None:
        """At any await: after so many steps of the daemon."""
        if self.process is not None and self.counted["kill"] < 2:
            self.process.fuse = self.plan.randint(1, 300)
            self.process.burnt = self.kill

    async def _crash(self) -> None:
        self.server.crash()
        await asyncio.sleep(self.plan.choice((0.1, 1.0, 8.0)))
        self.server.start()

    async def _freeze(self) -> None:
        self.note("database freezes")
        self.server.thawed.clear()
        await asyncio.sleep(self.plan.uniform(0.5, 12.0))
        self.server.thawed.set()

    async def _fill(self) -> None:
        self.note("disk is full")
        self.server.full = True
        await asyncio.sleep(self.plan.uniform(1.0, 10.0))
        self.server.full = False

    async def _end_sessions(self) -> None:
        self.server.terminate()

    async def _unplug(self) -> None:
        for port in self.ports.values():
            port.unplug()
            await asyncio.sleep(self.plan.uniform(0.5, 10.0))
            port.plugged = True

    async def _cut(self) -> None:
        for end in list(self.network.ends):
            end.break_off()

    # ---- from begin to end

    async def run(self) -> Run:
        """Raises Broken."""
        serving = spawn(None, self.serve())
        for sender in self.senders:
            sender.work = spawn(None, sender.run())  # type: ignore[attr-defined]
        if self.with_faults:
            await self.weather()
        until = self.loop.time() + PATIENCE_S
        while not self._all_done():
            self._raise_faults(serving)
            if self.loop.time() > until:
                raise self.broken(f"not everything was said and decided in {PATIENCE_S} s: {self._undone()}")  # I7
            await asyncio.sleep(1.0)
        self.stop.set()
        for _ in range(int(STOP_S)):
            if serving.done():
                break
            await asyncio.sleep(1.0)
        else:
            raise self.broken("the daemon does not stop")
        self._raise_faults(serving)
        values = await self._judge()
        return Run(self.seed, self.digest.hexdigest(), values, self.loop.time(), self.loop.events, self.counted)

    def _raise_faults(self, serving: asyncio.Task[Any]) -> None:
        tasks = [serving, *(sender.work for sender in self.senders)]  # type: ignore[attr-defined]
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if self.loop.faults:
            raise self.loop.faults[0]

    def _undone(self) -> str:
        said = [
            f"{sender.name} has {sum(not m.acknowledged for m in sender.messages)} to say" for sender in self.senders
        ]
        queue = len(self.server.tables.rows["queue"])
        unsaid = sum(len(link.speech.todo) for link in self.links if link.speech is not None)
        return f"{', '.join(said)}; {queue} to decide; the host has {unsaid} to say"

    def _all_done(self) -> bool:
        return (
            all(sender.done for sender in self.senders)
            and not self.server.tables.rows["queue"]
            and not any(link.speech.todo for link in self.links if link.speech is not None)
            and not any(row["state"] == "receiving" for row in self.server.tables.rows["message"].values())
        )

    async def _judge(self) -> dict[str, tuple[str, ...]]:
        """What must be so when everything is over; the values by key."""
        tables = self.server.tables
        assert not tables.holders, "a lock is left"
        reader: Any = _Reader(View(tables, Transaction()))
        stored = await read_messages(reader, list(tables.rows["message"]))
        for one in stored.values():
            if one.settled is None or one.state == "receiving":
                raise self.broken(f"message {one.id} is {one.state}, settled {one.settled}")  # I5
            if one.settled == "parked":
                raise self.broken(f"message {one.id} was parked: {one.reason}")
        values: dict[str, tuple[str, ...]] = {}
        for sender in self.senders:
            for message in self._judge_sender(sender, stored):
                name = f"{sender.name} {message.specimen}"
                values[name] = (*values.get(name, ()), message.value)
        found: dict[str, tuple[str, ...]] = {}
        links = {row["id"]: link.name for link in self.links for row in [{"id": link.context.link_id}]}
        for row in tables.rows["version"].values():
            by = links[stored[row["versions"][0][0]].link_id]
            found[f"{by} {row['barcode']}"] = tuple(value for _, value in row["versions"])
        if found != values:  # I2, I3, I4
            raise self.broken(f"results are {found}, and should be {values}")
        self._judge_speech()
        return found

    def _judge_sender(self, sender: Sender, stored: dict[UUID, StoredMessage]) -> list[Message]:
        """I1, I2, I3 of what one analyzer sent; its messages in the order of receipt."""
        link_id = next(link.context.link_id for link in self.links if link.name == sender.name)
        own = [one for one in stored.values() if one.link_id == link_id and one.state == "complete"]
        firsts: dict[int, Message] = {}
        for message in sender.messages:
            found = [one for one in own if message_text(one) == message.text]
            once = [one for one in found if one.settled != "duplicate"]
            if not found:
                raise self.broken(f"{message.control_id} was acknowledged and is not stored")  # I1
            if len(once) != 1:
                raise self.broken(f"{message.control_id} is decided {len(once)} times")  # I2
            firsts[once[0].id.int] = message
        # Who has several under way sends those again that were refused, after the others.
        if sender.habits.window == 1 and list(firsts) != sorted(firsts):
            raise self.broken(f"{sender.name}: its messages are not stored in their order")  # I3
        known = {message.text for message in sender.messages}
        for one in own:
            if message_text(one) not in known:
                raise self.broken(f"a message is stored that {sender.name} never sent: {message_text(one)!r}")
        return [message for _, message in sorted(firsts.items(), key=lambda one: one[0])]

    def _judge_speech(self) -> None:
        """I6: what the daemon holds for delivered the analyzer has; nothing else has it heard."""
        for link, sender in zip(self.links, self.senders, strict=True):
            if link.speech is not None and isinstance(sender, Astm):
                lost = [text for text in link.speech.told if text not in sender.heard]
                strange = [text for text in sender.heard if text not in link.speech.told]
                if lost or strange:
                    raise self.broken(f"{sender.name} was to hear {lost}, and heard {strange}")


class _Reader:
    """A connection that only reads, without a loop."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def fetch(self, text: str, *arguments: Any) -> Any:
        from tests.simulation.statements import find

        return find(text)(self._view, EPOCH + timedelta(0), *arguments)


@contextmanager
def _replaced(*replacements: tuple[Any, str, Any]) -> Iterator[None]:
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replacements]
    try:
        for owner, name, value in replacements:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def run(seed: int, *, faults: bool = True) -> Run:
    """Simulate one seed. Raises Broken, or what else went wrong."""
    before = structlog.get_config()
    with simulated() as loop:
        world = World(loop, seed, faults=faults)

        def open_port(port: SerialPort, noted: Callable[[LineFault], None]) -> network.SerialEnd:
            try:
                return world.ports[port.path].open(noted)
            except OSError as error:
                raise LinkError(f"cannot open {port.path}") from error

        replaced = _replaced(
            (db, "asyncpg", server.Driver(world.server)), (cable, "open_port", open_port),
            (ids, "time", _Time(loop)), (ids, "os", _System(world.ids)), (ids, "_last_ms", -1), (ids, "_random", []),
            (ids, "_last_counter", 0), (results, "datetime", _Instants),
        )  # fmt: skip
        structlog.reset_defaults()  # what a command has set is no part of a seed
        structlog.configure(processors=[world.log], cache_logger_on_first_use=False)
        try:
            with replaced:
                task = loop.create_task(world.run())
                return loop.run_until_complete(task)
        finally:
            for process in (*world.dead, *([world.process] if world.process else [])):
                bury(process)
            rest = Process("the world", tasks=[one for one in asyncio.all_tasks(loop)])
            bury(rest)
            structlog.configure(**before)

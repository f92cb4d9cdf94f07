"""Histories of a laboratory: what analyzers, a hospital and the laboratory's people do, in any order; a seed is one.

Steps that are refused are steps too: a random one often is. What they say of the step is for whoever reads a failure.
More kinds of steps are in `walk_analyzers`, `walk_staff` and `walk_settings`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

from interface.domain.model import Priority, Sex
from interface.domain.review import ReviewError, ReviewStep
from interface.domain.specimens import RejectReason
from interface.domain.views import Actor, IdentifierView
from interface.driver import registry
from interface.errors import ApiError, IllegalStep, StoreUnavailable
from interface.flow import order_changes, people, specimens
from interface.flow.context import LinkContext, register
from interface.flow.entry import EntryError
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.maps import MapError
from interface.flow.order_changes import OrderChange
from interface.flow.orders import NewOrder, NewSpecimen, OrderError, create_order
from interface.flow.people import NewPatient, PatientChange
from interface.flow.replay import ReplayError, replay
from interface.flow.requests import Requests
from interface.flow.rules import RuleError
from interface.settings import LinkRole, LinkSettings
from interface.store.catalogue import load_code_map
from interface.store.db import Connection
from tests.flow import walk_analyzers, walk_settings, walk_staff
from tests.flow.control_bench import control_bench
from tests.flow.hospital_use import Hospital
from tests.flow.hospital_use import order as placing
from tests.flow.laboratory import Laboratory, frames, laboratory
from tests.flow.rulebook import put_in_force, sent
from tests.flow.test_recalculated import WITH_EGFR
from tests.flow.test_review_together import DO

# What is measured: the first value is released by `rulebook.RULES`, the others mostly wait, or ask for something.
VALUES = {
    "NA": ("140", "128", "70"), "K": ("4.1", "7.2", "2.5"), "CL": ("100", "80"), "HCO3": ("24", "10"),
    "CREA": ("0.9", "1.9", "9.5"), "MG": ("0.8", "2"),
}  # fmt: skip
ORDERED = ("NA", "K", "CL", "HCO3", "CREA", "AGAP", "EGFR_2021")
# Quality control is asked for where potassium is concerned; a result may be given out only as it is calculated.
WALKED = WITH_EGFR.replace('test = "K"\nqc = true\n', 'test = "K"\n')
REFUSALS = (
    ReplayError,
    OrderError,
    ReviewError,
    ApiError,
    IllegalStep,
    EntryError,
    MapError,
    RuleError,
    StoreUnavailable,
)
Kind: TypeAlias = tuple[Callable[["Walk"], Coroutine[Any, Any, str]], ...]
KINDS: tuple[Kind, ...] = (walk_analyzers.STEPS, walk_staff.STEPS, walk_settings.STEPS)
_LIKELY = (*DO, *[ReviewStep.RELEASE] * 3, ReviewStep.ACCEPT_CHANGE)
_WANTED = """
select t.code from lab.order_item i join lab.specimen s on s.id = i.specimen_id join lab.test t on t.id = i.test_id
where s.barcode = $1
"""
_TUBE: dict[str, Callable[[Connection, Actor, UUID, random.Random], Awaitable[object]]] = {
    "collect": lambda at, who, id, chance: specimens.collect(at, who, id, at=_ago(chance), by="ward 3"),
    "retime": lambda at, who, id, chance: specimens.retime(at, who, id, at=_ago(chance), reason="mistyped"),
    "receive": lambda at, who, id, chance: specimens.receive(at, who, id),
    "type": lambda at, who, id, chance: specimens.tell_type(at, who, id, "SER"),
    "reject": lambda at, who, id, chance: specimens.reject(at, who, id, chance.choice(list(RejectReason)), "bad"),
    "reinstate": lambda at, who, id, chance: specimens.reinstate(at, who, id, "a mistake"),
    "exhaust": lambda at, who, id, chance: specimens.exhaust(at, who, id, "empty"),
    "dispose": lambda at, who, id, chance: specimens.dispose(at, who, id, "old"),
    "move": lambda at, who, id, chance: specimens.move(at, who, id, rack="R1", position=str(chance.randint(1, 999))),
    "aliquot": lambda at, who, id, chance: specimens.aliquot(at, who, id),
}
_ORDER: dict[str, Callable[[Connection, Actor, UUID, random.Random], Awaitable[object]]] = {
    "cancel": lambda at, who, id, chance: order_changes.cancel(at, who, id, "not wanted"),
    "add": lambda at, who, id, chance: order_changes.add(at, who, id, [chance.choice(ORDERED)]),
    "hurry": lambda at, who, id, chance: order_changes.change(
        at, who, id, OrderChange(priority=chance.choice(list(Priority)))
    ),
}


def _ago(chance: random.Random) -> datetime:
    return datetime.now(UTC) - timedelta(hours=chance.randint(1, 30))


@dataclass(frozen=True, slots=True)
class Placed:
    """A service that the hospital has ordered, and for whom."""

    number: str
    code: str
    barcode: str
    pid: str


@dataclass(slots=True)
class Walk:
    """A laboratory of clinical chemistry with rules in force, and what has happened to it so far."""

    lab: Laboratory
    his: Hospital
    chance: random.Random
    done: list[str] = field(default_factory=list)
    links: list[LinkContext] = field(default_factory=list)  # analyzers of the same tests
    analyzers: list[LinkIntake] = field(default_factory=list)
    tubes: dict[str, UUID] = field(default_factory=dict)  # by barcode
    orders: list[UUID] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    said: list[list[str]] = field(default_factory=list)  # messages of analyzers
    rules: str = WALKED
    kinds: tuple[Kind, ...] = KINDS
    mapped: bool = False  # sodium's code stands for something else
    rested: bool = False  # the rules, or the switch of a test, are off
    waits: int = 0  # so many steps long what comes is not decided
    count: int = 0

    async def step(self) -> str:
        """Something happens; what it was."""
        steps: tuple[Callable[[], Coroutine[Any, Any, str]], ...] = (
            self._order, self._measure, self._measure, self._replay, self._hospital, self._hospital,
            *[self._review] * 3, self._tube, self._person, self._change,
        )  # fmt: skip
        step = self.chance.choice(steps) if len(self.done) > 2 else self._order
        if len(self.done) > 2 and self.chance.random() < 0.4:
            step = partial(self.chance.choice(self.chance.choice(self.kinds)), self)
        try:
            said = await step()
        except REFUSALS as refusal:
            said = f"{getattr(step, 'func', step).__name__} refused: {refusal}"
        self.done.append(said)
        if self.waits:
            self.waits -= 1
            if not self.waits:
                await self.lab.settle()
        return said

    async def do(self, step: Callable[[Connection], Awaitable[object]]) -> None:
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            await step(connection)

    def number(self) -> int:
        self.count += 1
        return self.count

    def barcode(self) -> str:
        """Of a tube; mostly of one of the last."""
        return self.chance.choice(list(self.tubes)[-5 if self.chance.random() < 0.7 else 0 :])

    def choices(self, code: str) -> tuple[str, ...]:
        return VALUES.get(code, ("11",))

    async def values(self, barcode: str) -> dict[str, str]:
        """What an analyzer measures of a tube: mostly what is ordered."""
        chance = self.chance
        wanted = [row["code"] for row in await self.lab.owner.fetch(_WANTED, barcode)] if chance.random() < 0.9 else []
        codes = [code for code in wanted if code in VALUES] or chance.sample(list(VALUES), chance.randint(1, 4))
        return {code: chance.choice((*[VALUES[code][0]] * 4, *VALUES[code])) for code in codes}

    def listen(self) -> None:
        """Over all links, with the journal that there is now."""
        lab = self.lab
        self.analyzers = [LinkIntake(one, lab.journal) for one in self.links]
        lab.intake = self.analyzers[0]
        requests = Requests(self.his.context, lab.database, HANDLERS, 20.0)
        self.his.intake = LinkIntake(self.his.context, lab.journal, requests=requests)

    async def send(self, records: Sequence[str], which: int = 0, *, controls: bool = False) -> None:
        transmission = self.analyzers[which].frames("127.0.0.1:1")
        for frame in frames(records):
            await transmission.frame(frame)
        await transmission.end("eot")
        if not controls:
            self.said.append(list(records))
        if not self.waits:
            await self.lab.settle()

    def new_placed(self, code: str, barcode: str, pid: str) -> Placed:
        self.placed.append(Placed(f"N{self.number()}", code, barcode, pid))
        return self.placed[-1]

    async def _order(self) -> str:
        barcode, chance = f"W{self.number()}", self.chance
        at = _ago(chance) if chance.random() < 0.6 else None
        some = tuple(chance.sample(ORDERED, chance.randint(1, 3)))
        tests = chance.choice((some, some, ("NA", "CL", "HCO3", "AGAP"), ("CREA", "EGFR_2021", "K")))
        patient = NewPatient((IdentifierView("TEST", chance.choice("123")),), "Muster", "Maria", date(1980, 5, 1),
                             Sex.FEMALE)  # fmt: skip
        tube = NewSpecimen(tests, barcode, type=chance.choice(("", "SER")), collected_at=at, received_at=at)
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            made = await create_order(connection, self.lab.director, NewOrder((tube,), patient=patient))
        assert made.items[0].specimen_id is not None
        self.tubes[barcode] = made.items[0].specimen_id
        self.orders.append(made.id)
        return f"order {barcode} {tests}"

    async def _measure(self) -> str:
        barcode = self.barcode()
        values = await self.values(barcode)
        at = f"{datetime.now(UTC) - timedelta(minutes=self.chance.choice((1, 10, 60, 120))):%Y%m%d%H%M%S}"
        await self.send(sent(barcode, values, control=f"C{self.number()}", at=at, patient=""))
        return f"measure {barcode} {values} {at}"

    async def _replay(self) -> str:
        rows = await self.lab.owner.fetch("select id from lab.message where settled <> '' order by id desc limit 12")
        if not rows:
            return "replay nothing"
        named = self.chance.choice(rows)["id"]
        await replay(self.lab.database, self.lab.director, named, self.lab.contexts.get, dry_run=False, reason="again")
        return "replay"

    async def _review(self) -> str:
        results = await self.lab.results()
        if not results:
            return "review nothing"
        one, step = self.chance.choice(results), self.chance.choice(_LIKELY)
        await self.do(lambda at: DO[step](at, self.lab.director, one))
        return f"{step} {one.test_code} {one.value} {one.status}"

    async def _tube(self) -> str:
        step, barcode = self.chance.choice(list(_TUBE)), self.chance.choice(list(self.tubes))
        await self.do(lambda at: _TUBE[step](at, self.lab.director, self.tubes[barcode], self.chance))
        return f"{step} {barcode}"

    async def _change(self) -> str:
        step, order_id = self.chance.choice(list(_ORDER)), self.chance.choice(self.orders)
        await self.do(lambda at: _ORDER[step](at, self.lab.director, order_id, self.chance))
        return f"{step} {order_id}"

    async def _person(self) -> str:
        who, chance = self.lab.director, self.chance
        rows = await self.lab.owner.fetch("select id, version from lab.patient order by id")
        one, other = chance.choice(rows), chance.choice(rows)
        name = PatientChange(family=chance.choice(("Muster", "Model", "Beispiel")))
        number = IdentifierView("OTHER", str(self.number()))
        steps: dict[str, Callable[[Connection], Awaitable[object]]] = {
            "name": lambda at: people.update_patient(at, who, one["id"], name, one["version"]),
            "number": lambda at: people.add_identifier(at, who, one["id"], number),
            "merge": lambda at: people.merge(at, who, one["id"], other["id"], "the same person"),
            "unmerge": lambda at: people.unmerge(at, who, one["id"], "not the same person"),
        }
        step = chance.choice(list(steps))
        await self.do(steps[step])
        return step

    async def _hospital(self) -> str:
        chance = self.chance
        event = chance.choice(("NW", "NW", "NW", "CA", "XO", "A08", "A40"))
        pid = f"PID|1||{chance.choice('123')}^^^TEST^MR||MUSTER^{chance.choice(('MARIA', 'ANNA'))}||19800501|F"
        if event == "NW":
            said = await self._place(pid)
        elif event == "A40":
            said = (await self.his.adt("A40^ADT_A39", pid, f"MRG|{chance.choice('123')}^^^TEST^MR")).code
        elif event == "A08" or not self.placed:
            said = (await self.his.adt("A08^ADT_A01", pid, f"PV1|1|I|{chance.choice('34')}B")).code
        else:
            one = chance.choice(self.placed)
            urgent = chance.choice(("", "S"))
            told = placing(one.number, one.code, barcode=one.barcode, control=event, priority=urgent)
            said = (await self.his.oml(*told, pid=one.pid)).code
        return f"{event} {said}"

    async def _place(self, pid: str) -> str:
        chance, barcode = self.chance, f"H{self.number()}"
        if self.placed and chance.random() < 0.3:  # one more on a tube that is there
            barcode, pid = self.placed[-1].barcode, self.placed[-1].pid
        segments: list[str] = []
        for code in chance.sample(("NA", "K", "CL", "HCO3", "CREA"), chance.randint(1, 3)):
            self.placed.append(Placed(f"N{self.number()}", code, barcode, pid))
            segments += placing(self.placed[-1].number, code, barcode=barcode, priority=chance.choice(("", "S")))
        said = await self.his.oml(*segments, pid=pid)
        row = await self.lab.owner.fetchrow("select id from lab.specimen where barcode = $1", barcode)
        if row is not None:
            self.tubes[barcode] = row["id"]
        return f"{barcode} {said.code}"


@asynccontextmanager
async def walking(database_url: str, seed: int) -> AsyncIterator[Walk]:
    """A laboratory with two analyzers, a hospital and rules, to which nothing has happened yet."""
    async with laboratory(database_url) as lab, walking_in(lab, seed) as walk:
        yield walk


@asynccontextmanager
async def walking_in(lab: Laboratory, seed: int) -> AsyncIterator[Walk]:
    await put_in_force(lab, WALKED)
    settings = lab.context.settings
    second = await _linked(lab, replace(settings, id="bench-2"))
    hospital = await _linked(lab, replace(settings, id="his", driver="generic_hospital", role=LinkRole.HOSPITAL))
    bench = control_bench(lab)
    lot = await bench.lot(1, "QC1")
    for analyzer in ("bench", "bench-2"):
        await bench.target(lot, "4", "0.1", "mmol/L", "K", analyzer=analyzer)
    his = Hospital(lab, hospital, lab.intake)
    walk = Walk(lab, his, random.Random(seed), links=[lab.context, second])  # noqa: S311
    walk.listen()
    for which in range(2):
        await walk_settings.control(walk, which, "accept", minutes=150)
    try:
        yield walk
    finally:
        await lab.journal.stop()


async def _linked(lab: Laboratory, settings: LinkSettings) -> LinkContext:
    async with lab.database.transaction(lab.organization_id) as connection:
        context = await register(connection, lab.organization_id, settings, registry.load(settings.driver))
        await load_code_map(connection, lab.organization_id, settings.driver)
    lab.contexts[context.link_id] = context
    return context

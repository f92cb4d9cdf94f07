"""Histories of a laboratory: what an analyzer, a hospital and the laboratory's people do, in any order; a seed is one.

Steps that are refused are steps too: a random one often is. What they say of the step is for whoever reads a failure.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from interface.domain.model import Priority, Sex
from interface.domain.review import ReviewError, ReviewStep
from interface.domain.specimens import RejectReason
from interface.domain.views import Actor, IdentifierView
from interface.driver import registry
from interface.errors import ApiError, IllegalStep
from interface.flow import order_changes, people, specimens
from interface.flow.context import register
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.order_changes import OrderChange
from interface.flow.orders import NewOrder, NewSpecimen, OrderError, create_order
from interface.flow.people import NewPatient, PatientChange
from interface.flow.replay import ReplayError, replay
from interface.flow.requests import Requests
from interface.settings import LinkRole
from interface.store.catalogue import load_code_map
from interface.store.db import Connection
from tests.flow.hospital_use import Hospital
from tests.flow.hospital_use import order as placing
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import put_in_force, sent
from tests.flow.test_review_together import DO

# What is measured: the first value is released by `rulebook.RULES`, the others mostly wait, or ask for something.
VALUES = {
    "NA": ("140", "128", "70"), "K": ("4.1", "7.2", "2.5"), "CL": ("100", "80"), "HCO3": ("24", "10"),
    "CREA": ("0.9", "1.9", "9.5"), "MG": ("0.8", "2"),
}  # fmt: skip
ORDERED = ("NA", "K", "CL", "HCO3", "CREA", "AGAP")
REFUSALS = (ReplayError, OrderError, ReviewError, ApiError, IllegalStep)
_LIKELY = (*DO, *[ReviewStep.RELEASE] * 3, ReviewStep.ACCEPT_CHANGE)
_WANTED = """
select t.code from lab.order_item i join lab.specimen s on s.id = i.specimen_id join lab.test t on t.id = i.test_id
where s.barcode = $1
"""
_TUBE: dict[str, Callable[[Connection, Actor, UUID, random.Random], Awaitable[object]]] = {
    "collect": lambda at, who, id, chance: specimens.collect(at, who, id, at=_ago(chance), by="ward 3"),
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
    _tubes: dict[str, UUID] = field(default_factory=dict)  # by barcode
    _orders: list[UUID] = field(default_factory=list)
    _placed: list[Placed] = field(default_factory=list)
    _count: int = 0

    async def step(self) -> str:
        """Something happens; what it was."""
        steps: tuple[Callable[[], Coroutine[Any, Any, str]], ...] = (
            self._order, self._measure, self._measure, self._replay, self._hospital, self._hospital,
            *[self._review] * 3, self._tube, self._person, self._change,
        )  # fmt: skip
        step = self.chance.choice(steps) if len(self.done) > 2 else self._order
        try:
            said = await step()
        except REFUSALS as refusal:
            said = f"{step.__name__[1:]} refused: {refusal}"
        self.done.append(said)
        return said

    async def _do(self, step: Callable[[Connection], Awaitable[object]]) -> None:
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            await step(connection)

    def _number(self) -> int:
        self._count += 1
        return self._count

    async def _order(self) -> str:
        barcode, chance = f"W{self._number()}", self.chance
        at = _ago(chance) if chance.random() < 0.6 else None
        tests = tuple(chance.sample(ORDERED, chance.randint(1, 3)))
        patient = NewPatient((IdentifierView("TEST", chance.choice("123")),), "Muster", "Maria", date(1980, 5, 1),
                             Sex.FEMALE)  # fmt: skip
        tube = NewSpecimen(tests, barcode, type=chance.choice(("", "SER")), collected_at=at, received_at=at)
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            made = await create_order(connection, self.lab.director, NewOrder((tube,), patient=patient))
        assert made.items[0].specimen_id is not None
        self._tubes[barcode] = made.items[0].specimen_id
        self._orders.append(made.id)
        return f"order {barcode} {tests}"

    async def _measure(self) -> str:
        barcode, chance = self.chance.choice(list(self._tubes)), self.chance
        wanted = [row["code"] for row in await self.lab.owner.fetch(_WANTED, barcode)] if chance.random() < 0.9 else []
        codes = [code for code in wanted if code in VALUES] or chance.sample(list(VALUES), chance.randint(1, 4))
        values = {code: chance.choice((VALUES[code][0], *VALUES[code])) for code in codes}
        at = f"202601020{chance.randint(1, 4)}0000"
        await self.lab.send(sent(barcode, values, control=f"C{self._number()}", at=at, patient=""))
        await self.lab.settle()
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
        await self._do(lambda at: DO[step](at, self.lab.director, one))
        return f"{step} {one.test_code} {one.value} {one.status}"

    async def _tube(self) -> str:
        step, barcode = self.chance.choice(list(_TUBE)), self.chance.choice(list(self._tubes))
        await self._do(lambda at: _TUBE[step](at, self.lab.director, self._tubes[barcode], self.chance))
        return f"{step} {barcode}"

    async def _change(self) -> str:
        step, order_id = self.chance.choice(list(_ORDER)), self.chance.choice(self._orders)
        await self._do(lambda at: _ORDER[step](at, self.lab.director, order_id, self.chance))
        return f"{step} {order_id}"

    async def _person(self) -> str:
        who, chance = self.lab.director, self.chance
        rows = await self.lab.owner.fetch("select id, version from lab.patient order by id")
        one, other = chance.choice(rows), chance.choice(rows)
        name = PatientChange(family=chance.choice(("Muster", "Model", "Beispiel")))
        number = IdentifierView("OTHER", str(self._number()))
        steps: dict[str, Callable[[Connection], Awaitable[object]]] = {
            "name": lambda at: people.update_patient(at, who, one["id"], name, one["version"]),
            "number": lambda at: people.add_identifier(at, who, one["id"], number),
            "merge": lambda at: people.merge(at, who, one["id"], other["id"], "the same person"),
            "unmerge": lambda at: people.unmerge(at, who, one["id"], "not the same person"),
        }
        step = chance.choice(list(steps))
        await self._do(steps[step])
        return step

    async def _hospital(self) -> str:
        chance = self.chance
        event = chance.choice(("NW", "NW", "NW", "CA", "XO", "A08", "A40"))
        pid = f"PID|1||{chance.choice('123')}^^^TEST^MR||MUSTER^{chance.choice(('MARIA', 'ANNA'))}||19800501|F"
        if event == "NW":
            said = await self._place(pid)
        elif event == "A40":
            said = (await self.his.adt("A40^ADT_A39", pid, f"MRG|{chance.choice('123')}^^^TEST^MR")).code
        elif event == "A08" or not self._placed:
            said = (await self.his.adt("A08^ADT_A01", pid, f"PV1|1|I|{chance.choice('34')}B")).code
        else:
            one = chance.choice(self._placed)
            urgent = chance.choice(("", "S"))
            told = placing(one.number, one.code, barcode=one.barcode, control=event, priority=urgent)
            said = (await self.his.oml(*told, pid=one.pid)).code
        return f"{event} {said}"

    async def _place(self, pid: str) -> str:
        chance, barcode = self.chance, f"H{self._number()}"
        if self._placed and chance.random() < 0.3:  # one more on a tube that is there
            barcode, pid = self._placed[-1].barcode, self._placed[-1].pid
        segments: list[str] = []
        for code in chance.sample(("NA", "K", "CL", "HCO3", "CREA"), chance.randint(1, 3)):
            self._placed.append(Placed(f"N{self._number()}", code, barcode, pid))
            segments += placing(self._placed[-1].number, code, barcode=barcode, priority=chance.choice(("", "S")))
        said = await self.his.oml(*segments, pid=pid)
        row = await self.lab.owner.fetchrow("select id from lab.specimen where barcode = $1", barcode)
        if row is not None:
            self._tubes[barcode] = row["id"]
        return f"{barcode} {said.code}"


@asynccontextmanager
async def walking(database_url: str, seed: int) -> AsyncIterator[Walk]:
    """A laboratory with an analyzer, a hospital and rules, to which nothing has happened yet."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        settings = replace(lab.context.settings, id="his", driver="generic_hospital", role=LinkRole.HOSPITAL)
        async with lab.database.transaction(lab.organization_id) as connection:
            context = await register(connection, lab.organization_id, settings, registry.load("generic_hospital"))
            await load_code_map(connection, lab.organization_id, "generic_hospital")
        lab.contexts[context.link_id] = context
        intake = LinkIntake(context, lab.journal, requests=Requests(context, lab.database, HANDLERS, 20.0))
        yield Walk(lab, Hospital(lab, context, intake), random.Random(seed))  # noqa: S311

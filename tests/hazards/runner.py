"""A plan through the real thing: orders, messages on their links, the journal, the worker, PostgreSQL; and what is
found there afterwards."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from uuid import UUID

import asyncpg

from interface.domain.autoverify import Scope
from interface.domain.autoverify import Switch as SwitchOff
from interface.domain.model import Priority, Sex
from interface.domain.specimens import RejectReason
from interface.domain.views import Audience, IdentifierView
from interface.driver import registry
from interface.flow import order_changes, people, rules, specimens
from interface.flow.context import register
from interface.flow.intake import LinkIntake
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.flow.rule_proof import prove
from interface.settings import BarcodeRules, NameMismatch, Unsolicited
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.lab import Page, ResultFilter, find_results
from tests.flow.laboratory import Laboratory, frames, laboratory
from tests.hazards import wire
from tests.hazards.book import ANALYTES
from tests.hazards.book import rules as rule_text
from tests.hazards.plan import (
    Aliquot,
    Cancel,
    Dispose,
    Key,
    MakeOld,
    Merge,
    Order,
    Plan,
    Reject,
    Relabel,
    Send,
    Setup,
    Switch,
    Tube,
    Unmerge,
)

AUTHORITY = "LAB"
LINKS = {  # driver, and what is particular
    "lis-1": ("generic_lis2", {}),
    "lis-2": ("generic_lis2", {"name_mismatch": NameMismatch.HOLD}),
    "lis-open": ("generic_lis2", {"unsolicited": Unsolicited.REGISTER}),
    "lis-code": ("generic_lis2", {"barcode": BarcodeRules(strip_prefix="]C1", pad=7)}),
    "lis-off": ("generic_lis2", {}),
    "hl7-1": ("generic_hl7", {}),
    "hl7-2": ("generic_hl7", {"name_mismatch": NameMismatch.HOLD}),
}
ORDERS_AT_ONCE = 50
EVERYTHING = 1_000_000  # results on one page


@dataclass(frozen=True, slots=True)
class Found:
    """What the laboratory has of one result. `pending`: value and reasons of a version that waits beside it."""

    key: Key
    status: str
    held: frozenset[str]
    value: str
    unit: str
    flags: tuple[str, ...]
    test: str
    patients: frozenset[str]  # identifiers
    reportable: bool
    versions: int
    pending: str | None
    pending_held: frozenset[str]
    critical: bool  # there is, or was, a task to tell somebody
    emr: str | None  # value and unit that an EMR is shown; None: it is shown nothing
    actor: str  # who wrote the current version
    dated: str = ""  # collection, receipt, clock (the instrument's)


@dataclass(frozen=True, slots=True)
class State:
    """All that is found at the end. `messages`: by state and what became of them."""

    results: tuple[Found, ...]
    controls: int
    duplicates: int
    unsettled: int
    parked: int
    unexplained: int  # versions without an explanation


class Run:
    """A laboratory in which a plan happens."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab
        self._intakes: dict[str, LinkIntake] = {}
        self._specimens: dict[str, UUID] = {}  # the latest that carries a barcode
        self._director = lab.director

    async def prepare(self) -> None:
        """The catalogue, the code maps, the links and the rules in force."""
        lab = self._lab
        await _catalogue(lab)
        for name, (driver, special) in LINKS.items():
            settings = replace(
                lab.context.settings, id=name, driver=driver, control_ids=("77.*",), **special  # type: ignore[arg-type]
            )  # fmt: skip
            async with lab.database.transaction(lab.organization_id) as connection:
                context = await register(connection, lab.organization_id, settings, registry.load(driver))
            lab.contexts[context.link_id] = context
            self._intakes[name] = LinkIntake(context, lab.journal)
        async with lab.database.transaction(lab.organization_id) as connection:
            made = await rules.import_rules(connection, self._director, rule_text(), "here", "for the hazards")
            proof = await prove(connection, self._director, made.name, made.revision)
            assert proof.stamped, proof
            await rules.activate(connection, self._director, made.name, made.revision, "for the hazards")

    async def play(self, plan: Plan) -> None:
        """Stage by stage: set up, send while the worker works, and let it come to its end."""
        for stage in plan.stages:
            await self._set_up(stage.setup)
            sending = asyncio.gather(*(self._lane(lane) for lane in stage.lanes))
            while not sending.done():
                if not await self._lab.worker.work():
                    await asyncio.wait([sending], timeout=0.02)
            await sending
            await self._lab.settle()

    async def _lane(self, sends: Sequence[Send]) -> None:
        for send in sends:
            await self._send(send)

    async def _send(self, send: Send) -> None:
        intake = self._intakes[send.link]
        if send.hl7:
            receipt = await intake.block(wire.block(send), "127.0.0.1:1")
            assert receipt.reply is not None and b"MSA|CA|" in receipt.reply, receipt
            return
        transmission = intake.frames("127.0.0.1:1")
        for frame in frames(wire.records(send)):
            await transmission.frame(frame)
        await transmission.end("lost" if send.cut else "eot")

    # ---- setting up --------------------------------------------------------------------------------------------------

    async def _set_up(self, steps: Sequence[Setup]) -> None:
        """Orders that stand together in a transaction, everything else in one of its own."""
        orders: list[Tube] = []
        for step in steps:
            if isinstance(step, Order) and len(orders) < ORDERS_AT_ONCE:
                orders.append(step.tube)
                continue
            await self._order(orders)
            orders = [step.tube] if isinstance(step, Order) else []
            if not isinstance(step, Order):
                await self._step(step)
        await self._order(orders)

    async def _order(self, tubes: Sequence[Tube]) -> None:
        if not tubes:
            return
        async with self._transaction() as connection:
            for tube in tubes:
                await create_order(connection, self._director, _new_order(tube))
                self._specimens[tube.barcode] = await specimens.by_barcode(connection, tube.barcode)

    async def _step(self, step: Setup) -> None:
        actor = self._director
        async with self._transaction() as connection:
            match step:
                case Reject(barcode):
                    await specimens.reject(connection, actor, self._specimens[barcode], RejectReason.CLOTTED)
                case Dispose(barcode):
                    await specimens.dispose(connection, actor, self._specimens[barcode], "done with")
                case Merge(prior, survivor):
                    gone, stays = [await self._patient(connection, one) for one in (prior, survivor)]
                    await people.merge(connection, actor, gone, stays, "the same person")
                case Aliquot(parent, barcode, tests):
                    made = await specimens.aliquot(
                        connection, actor, self._specimens[parent], barcode=barcode, tests=tests
                    )  # fmt: skip
                    self._specimens[barcode] = made.id
                case Unmerge(prior):
                    one = await self._record(connection, prior)
                    await people.unmerge(connection, actor, one, "it was a mistake")
                case Cancel(barcode):
                    order_id = await connection.fetchval(
                        "select order_id from lab.specimen where id = $1", self._specimens[barcode]
                    )
                    await order_changes.cancel(connection, actor, order_id, "not wanted any more")
                case Switch(key, off, analyzer):
                    scope = Scope.ANALYZER if analyzer else Scope.TEST
                    turn = rules.switch_off if off else rules.switch_on
                    await turn(connection, actor, SwitchOff(scope, key, "planted"))
                case MakeOld(barcode):
                    await self._by_owner(
                        "update lab.specimen set created_at = received_at where id = $1",
                        self._specimens[barcode],
                    )
                case Relabel(barcode, to):
                    await self._by_owner(
                        "update lab.specimen set barcode = $2 where id = $1", self._specimens[barcode], to
                    )

    async def _by_owner(self, statement: str, *values: object) -> None:
        """What no program of the laboratory does: time passing, and accidents."""
        await self._lab.owner.execute(statement, *values)

    async def _record(self, connection: Connection, identifier: str) -> UUID:
        """The record itself, be it merged or not."""
        found: UUID = await connection.fetchval(
            "select patient_id from lab.patient_identifier where value = $1", identifier
        )  # fmt: skip
        return found

    async def _patient(self, connection: Connection, identifier: str) -> UUID:
        found = await people.find_patient(connection, NewPatient(identifiers=(IdentifierView(AUTHORITY, identifier),)))
        assert found is not None
        return found

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._lab.database.transaction(self._lab.organization_id) as connection:
            yield connection

    # ---- what is found -----------------------------------------------------------------------------------------------

    async def state(self) -> State:
        """All results, as the laboratory and an EMR see them."""
        owner, organization = self._lab.owner, self._lab.organization_id
        seen = await self._shown()
        patients = await self._identifiers()
        tasks = {row[0] for row in await owner.fetch("select result_id from lab.critical_event e"
                 " join lab.result_version v on v.id = e.result_version_id")}  # fmt: skip
        rows = await owner.fetch(_RESULTS, organization)
        results = tuple(_found(row, seen, patients, tasks) for row in rows)
        counts = [await owner.fetchval(statement, organization) for statement in _COUNTS]
        return State(results, *counts)

    async def _shown(self) -> dict[UUID, str]:
        """What an EMR is shown, by result."""
        async with self._lab.database.organization(self._lab.organization_id) as connection:
            views = await find_results(connection, ResultFilter(page=Page(limit=EVERYTHING)), Audience.EMR)
        return {view.id: f"{view.comparator or ''}{view.value} {view.unit}".strip() for view in views}

    async def _identifiers(self) -> dict[UUID, frozenset[str]]:
        found: dict[UUID, set[str]] = defaultdict(set)
        for row in await self._lab.owner.fetch("select patient_id, value from lab.patient_identifier"):
            found[row["patient_id"]].add(row["value"])
        return {patient: frozenset(values) for patient, values in found.items()}


_COUNTS = (
    "select count(*) from lab.qc_result where organization_id = $1",
    "select count(*) from lab.message where settled = 'duplicate' and organization_id = $1",
    "select count(*) from lab.message where settled is null and organization_id = $1",
    "select count(*) from lab.message where settled = 'parked' and organization_id = $1",
    "select count(*) from lab.result_version v left join lab.decision d on d.result_version_id = v.id"
    " where v.organization_id = $1 and (d.steps is null or json_array_length(lab.explained(d.steps)::json) < 2)",
)
_RESULTS = """
select r.id, r.status, r.held, r.reportable, r.origin, r.patient_id, v.specimen_as_sent, v.code, v.instrument_time,
       v.test_code, v.comparator, v.value, v.kind, v.unit, v.flags, v.actor_kind, p.value as pending_value,
       p.comparator as pending_comparator, p.held as pending_held,
       (select count(*) from lab.result_version w where w.result_id = r.id) as versions,
       case r.effective_at when s.collected_at then 'collection' when m.received_at then 'receipt'
            when v.instrument_at then 'clock' else '' end as dated
from lab.result r
join lab.result_version v on v.id = r.version_id
left join lab.result_version p on p.id = r.pending_version_id
left join lab.specimen s on s.id = r.specimen_id
left join lab.message m on m.id = v.message_id
where r.organization_id = $1
"""


def _found(row: asyncpg.Record, seen: dict[UUID, str], patients: dict[UUID, frozenset[str]], tasks: set[UUID]) -> Found:
    calculated = row["origin"] == "calculation"
    pending = row["pending_value"]
    ids = patients.get(row["patient_id"], frozenset()) if row["patient_id"] else frozenset[str]()
    time = row["instrument_time"] or (f"of {' '.join(sorted(ids))}" if ids else "")
    return Found(
        key=(row["specimen_as_sent"], f"={row['test_code']}", "") if calculated
        else (row["specimen_as_sent"], row["code"], time),
        status=row["status"],
        held=frozenset(row["held"]),
        value=row["comparator"] + row["value"],
        unit=row["unit"],
        flags=tuple(row["flags"]),
        test=row["test_code"],
        patients=ids,
        reportable=row["reportable"],
        versions=row["versions"],
        pending=None if pending is None else row["pending_comparator"] + pending,
        pending_held=frozenset(row["pending_held"] or ()),
        critical=row["id"] in tasks,
        emr=seen.get(row["id"]),
        actor=row["actor_kind"],
        dated=row["dated"],
    )  # fmt: skip


def _new_order(tube: Tube) -> NewOrder:
    person = tube.person
    patient = NewPatient(
        identifiers=(IdentifierView(AUTHORITY, person.id),), family=person.family, given=person.given,
        birth_date=person.birth, sex=Sex(person.sex),
    )  # fmt: skip
    specimen = NewSpecimen(
        tests=tube.tests, barcode=tube.barcode, type="SER", collected_at=tube.collected, received_at=tube.collected
    )
    return NewOrder((specimen,), patient=patient, priority=Priority(tube.priority))


# ---- the catalogue, written as the book has it -----------------------------------------------------------------------


async def _catalogue(lab: Laboratory) -> None:
    """Only the book's tests and limits, under the book's codes."""
    owner, organization = lab.owner, lab.organization_id
    await owner.execute("delete from lab.reference_interval where organization_id = $1", organization)
    for test in ANALYTES:
        test_id = await owner.fetchval(
            """insert into lab.test (id, organization_id, code, name, unit, decimals, kind, molar_mass)
               values ($1, $2, $3, $3, $4, $5, $6, $7)
               on conflict (organization_id, code) do update set unit = excluded.unit, decimals = excluded.decimals,
                   kind = excluded.kind, molar_mass = excluded.molar_mass, valence = null, active = true
               returning id""",
            uuid7(), organization, test.code, test.unit, test.decimals, test.kind, _number(test.molar_mass),
        )  # fmt: skip
        for one in test.limits:
            await owner.execute(
                """insert into lab.reference_interval (id, organization_id, test_id, unit, low, high, critical_low,
                       critical_high, sex, age_low_d, age_high_d, normal_values, abnormal_values, critical_values)
                   values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)""",
                uuid7(), organization, test_id, test.unit, _number(one.low), _number(one.high),
                _number(one.critical_low), _number(one.critical_high), one.sex or None, one.age_low_d, one.age_high_d,
                list(one.normal), list(one.abnormal), list(one.critical),
            )  # fmt: skip
        for driver in ("generic_lis2", "generic_hl7"):
            await owner.execute(
                """insert into lab.code_map (id, organization_id, driver, code, test_id, origin)
                   values ($1, $2, $3, $4, $5, 'site')""",
                uuid7(), organization, driver, test.sent, test_id,
            )  # fmt: skip


def _number(text: str) -> Decimal | None:
    return Decimal(text) if text else None


async def run(database_url: str, plan: Plan) -> State:
    """Let the plan happen in a laboratory of its own; what is found at the end."""
    async with laboratory(database_url) as lab:
        happening = Run(lab)
        await happening.prepare()
        await happening.play(plan)
        return await happening.state()

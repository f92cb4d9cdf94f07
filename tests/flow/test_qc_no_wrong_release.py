"""Days of controls and patients in any order: nothing is released that quality control speaks against.

A seed draws a day of an analyzer (a link of its own, with its own streams): controls of one or two levels, in order,
late, failing, sent again, unknown, entered by hand, excluded; patients' results at once, in batches, late; corrective
actions. Everything goes through the worker. What each result must be is said by a plain model, which shares no code
with the program: it paints the time of a stream by what `docs/qc.md` says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from interface.domain.qc import QcMode, QcRule, Stream
from interface.domain.qc_state import Meanwhile, Plan
from interface.driver import registry
from interface.flow import qc_gate, qc_lots, qc_people, qc_targets
from interface.flow.context import register
from interface.flow.intake import LinkIntake
from interface.flow.qc_lots import LotChange, MaterialChange
from interface.flow.qc_people import Entry
from interface.flow.qc_sweep import sweep
from interface.flow.qc_targets import Place, Wanted
from interface.store import qc_gate as rows
from tests.flow.controls import IN_CONTROL, modular
from tests.flow.laboratory import Laboratory, laboratory, message
from tests.flow.rulebook import LOINC, put_in_force, sent

SEEDS, MANY = 5, 1_000
STEPS = 20
NA = LOINC["NA"]
FINAL, FAILED, EXPIRED, ALONE = "final", "registered qc_failed", "registered qc_expired", "preliminary"
WORST = ("fail", "fail, good since", "expired", "unknown", "opened", "stands", "in")
VALUES = {"accept": "140.5", "warn": "145", "reject": "149"}  # the mean is 140, the SD 2


# ---- the plain model -------------------------------------------------------------------------------------------------


@dataclass
class Control:
    id: UUID
    at: datetime
    known: datetime
    level: int
    run: UUID
    verdict: str
    module: str
    lot: str
    excluded: bool = False

    @property
    def good(self) -> bool:
        return self.verdict in ("accept", "warn") and not self.excluded


@dataclass
class Word:
    at: datetime
    about: UUID
    stands: bool


@dataclass
class Period:
    """Of a stream: what is measured in it, from `begin` (inclusive) to `end`."""

    begin: datetime | None
    end: datetime | None
    says: str
    lots: frozenset[str] = frozenset()  # of the controls that failed in it


def before(made: list[Period], vouched: datetime | None) -> list[Period]:
    return [one for one in made if vouched is not None and (one.begin is None or one.begin < vouched)]


@dataclass
class Model:
    """A stream. It says in, expired, unknown; opened: unknown, but a person's word has ended a failure; fail; or `fail,
    good since`: a control was acceptable again, and nobody has said what was done. Only `fail` is looked back at."""

    levels: int
    interval: timedelta | None
    controls: list[Control] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)

    def periods(self) -> list[Period]:
        """From the failures in it, and the runs that vouch."""
        told: list[tuple[datetime, int, UUID | None, Control | Word]] = [(c.at, 0, c.id, c) for c in self.controls]
        ats = {one.id: one.at for one in self.controls}
        told += [(max(w.at, ats[w.about]), 1, None, w) for w in self.words if w.about in ats]
        vouched: datetime | None = None  # the last run that vouches, or end of a failure
        run_ok: datetime | None = None
        seen: dict[UUID, dict[int, Control]] = {}  # of each run
        failing: list[Control] = []
        shown: dict[int, datetime] = {}
        good_at: datetime | None = None
        word: Word | None = None
        made: list[Period] = []
        for _, _, _, one in sorted(told, key=lambda each: (each[0], each[1], str(each[2]))):
            if isinstance(one, Word):
                if failing and one.about == failing[-1].id and one.at >= max(c.known for c in failing):
                    word = one
            elif one.verdict == "reject":
                if not failing:
                    shown = {level: c.at for level, c in seen.get(one.run, {}).items() if level != one.level}
                failing.append(one)
                shown.pop(one.level, None)
                for each in failing:
                    shown.pop(each.level, None)
                seen, good_at, word = {}, None, None
            elif one.good:
                seen.setdefault(one.run, {})[one.level] = one
                if failing:
                    shown[one.level] = one.at
                    if good_at is None and {c.level for c in failing} <= set(shown):
                        good_at = one.at
                elif len(seen[one.run]) >= self.levels:
                    vouched = run_ok = one.at
                    made.append(Period(one.at, None, "in"))
            if failing and good_at is not None and word is not None:
                if not word.stands:
                    says = "fail"
                else:
                    says = "stands" if vouched is not None and run_ok is not None else "opened"
                lots = frozenset(c.lot for c in failing)
                made = before(made, vouched)
                made.append(Period(vouched, good_at, says, lots))
                if len(shown) >= self.levels:
                    run_ok = good_at
                made.append(Period(good_at, None, "in" if run_ok is not None else "opened"))
                vouched = good_at
                failing, shown, good_at, word = [], {}, None, None
        if failing:
            made = before(made, vouched)
            made.append(Period(vouched, good_at, "fail", frozenset(c.lot for c in failing)))
            if good_at is not None:
                made.append(Period(good_at, None, "fail, good since"))
        elif run_ok is not None and self.interval is not None:
            made.append(Period(run_ok + self.interval, None, "expired"))
        return made

    def says(self, at: datetime) -> Period:
        found = Period(None, None, "unknown")
        expired = None
        for one in self.periods():
            if one.says == "expired":
                expired = one
            elif one.begin is None or one.begin <= at:
                found = one
        if expired is not None and found.says in ("in", "stands") and expired.begin is not None and at >= expired.begin:
            return expired
        return found


def model_of(streams: dict[str, Model], module: str, at: datetime) -> str:
    """What a result of a module, or of none that is known, must be."""
    streams = {name: model for name, model in streams.items() if model.controls}
    own = [model for name, model in streams.items() if module in ("", name)]
    said = {model.says(at).says for model in own}
    if module and "" in streams:
        said |= {streams[""].says(at).says} & {"fail", "fail, good since", "expired"}
    return next((one for one in WORST if one in said), "unknown")


# ---- a day -----------------------------------------------------------------------------------------------------------


@dataclass
class Patient:
    barcode: str
    at: datetime
    module: str
    expected: set[str] = field(default_factory=set)  # its status and what holds it; empty: not decided yet
    alone: bool = False  # a person decides about it: nothing was known of the controls when it was decided
    suspect: bool = False  # released, and out of control by what is known now
    was_suspect: bool = False  # was between a failure and the controls beside it: it may be on a list

    def decided(self, said: str) -> None:
        self.was_suspect |= said == "stands"
        said = "in" if said == "stands" else said
        self.expected = {
            "in": {FINAL}, "fail": {FAILED}, "fail, good since": {FAILED}, "expired": {EXPIRED}, "unknown": {ALONE},
            "opened": {ALONE},
        }[said]  # fmt: skip
        self.alone = ALONE in self.expected

    def follows(self, said: str) -> None:
        """Something else is said of the time at which it was measured."""
        self.was_suspect |= said in ("fail", "stands", "opened")
        said = "in" if said == "stands" else said
        if FINAL in self.expected:
            self.suspect = said == "fail"
            if len(self.expected) == 1:
                return
        if said.startswith("fail") or said == "expired":
            self.expected = {EXPIRED if said == "expired" else FAILED} | self.expected & {FINAL}
        elif said != "unknown" and self.expected & {FAILED, EXPIRED}:
            self.expected = {ALONE, FINAL} if self.alone and said == "in" else {FINAL if said == "in" else ALONE}
            self.alone |= said == "opened"


@dataclass
class Day:
    lab: Laboratory
    random: Random
    name: str
    number: int
    analyzer_id: UUID
    test_id: UUID
    levels: int
    interval: int | None
    modules: tuple[str, ...]
    streams: dict[str, Model] = field(default_factory=dict)
    patients: list[Patient] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)  # the last control's message
    count: int = 0
    followed: set[UUID] = field(default_factory=set)  # controls

    def time(self) -> datetime:
        """When something is measured: now, lately, or long ago."""
        now = datetime.now(UTC)
        how = self.random.random()
        if how < 0.5:
            return now
        known = sorted(one.at for model in self.streams.values() for one in model.controls)
        if how < 0.85 and len(known) > 1:
            place = self.random.randrange(len(known) - 1)
            return known[place] + (known[place + 1] - known[place]) * self.random.uniform(0.2, 0.8)
        return now - timedelta(minutes=self.random.uniform(1, 300))

    def stamp(self, at: datetime) -> str:
        return f"{at:%Y%m%d%H%M%S}.{at.microsecond:06}"

    def module(self, blank: float = 0.0) -> str:
        return "" if self.random.random() < blank else self.random.choice(self.modules)

    async def control(self) -> None:
        at, level, module = self.time(), self.random.randint(1, self.levels), self.module()
        verdict = self.random.choices(list(VALUES), (6, 2, 2))[0]
        if self.random.random() < 0.05:
            self.last, verdict = self.record("QC9", VALUES["reject"], at, module), "unknown control"
        else:
            self.last = self.record(f"QC{level}", VALUES[verdict], at, module)
        self.log.append(f"control {verdict} level {level} module {module!r} at {at:%H:%M:%S.%f}")
        await self.lab.send(self.last)

    def record(self, specimen: str, value: str, at: datetime, module: str) -> list[str]:
        self.count += 1
        return message(
            "P|1", f"O|1|{specimen}||^^^{NA}|R||||||Q",
            f"R|1|^^^{NA}|{value}|mmol/L||N||F||||{self.stamp(at)}|{module}^",
            control=f"{self.name}-{self.count}",
        )  # fmt: skip

    async def run(self) -> None:
        """All levels, one after the other, acceptable: what a technologist does to go on."""
        module, start = self.module(), self.time()
        verdict = self.random.choice(["accept", "warn"])
        for level in range(1, self.levels + 1):
            at = start + timedelta(microseconds=level * 10)
            self.log.append(f"run {verdict} level {level} module {module!r} at {at:%H:%M:%S.%f}")
            await self.lab.send(self.record(f"QC{level}", VALUES[verdict], at, module))

    async def resent(self) -> None:
        if self.last:
            self.log.append("the last control again")
            await self.lab.send(self.last)

    async def by_hand(self) -> None:
        level, module, at = self.random.randint(1, self.levels), self.module(), self.time()
        verdict = self.random.choice(list(VALUES))
        self.log.append(f"by hand {verdict} level {level} module {module!r} at {at:%H:%M:%S.%f}")
        entry = Entry(self.name, "NA", f"Norm/77/{level}", VALUES[verdict], module=module, measured_at=at)
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            await qc_people.enter(connection, self.lab.director, entry)

    async def patient(self) -> None:
        for _ in range(self.random.choice([1, 1, 1, 3])):
            barcode = f"{self.name}-{len(self.patients)}"
            at, module = self.time(), self.module(blank=0.1)
            await self.lab.order(barcode, "NA")
            records = sent(barcode, {"NA": "140"}, control=barcode, at=self.stamp(at))
            await self.lab.send([f"{one}|{module}^" if one.startswith("R|") else one for one in records])
            self.patients.append(Patient(barcode, at, module))
            self.log.append(f"patient {barcode} module {module!r} at {at:%H:%M:%S.%f}")

    async def act(self) -> None:
        module, stands = self.module(), self.random.random() < 0.6
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            stream = Stream(self.analyzer_id, self.test_id, module)
            before = await rows.stream_row(connection, stream)
            failed = before is not None and before.failed_id is not None
            action_id, _ = await qc_gate.act(
                connection, self.lab.director, stream, "corrective", "needle cleaned",
                meanwhile=(Meanwhile.STANDS if stands else Meanwhile.AGAIN) if failed else None,
            )  # fmt: skip
        if before is not None and before.failed_id is not None:
            at = await self.lab.owner.fetchval("select created_at from lab.qc_action where id = $1", action_id)
            self.streams[module].words.append(Word(at, before.failed_id, stands))
            self.log.append(f"act module {module!r} {'stands' if stands else 'again'}")

    async def exclude(self) -> None:
        known = [one for model in self.streams.values() for one in model.controls]
        if not known:
            return
        one = self.random.choice(known)
        self.log.append(f"{'restore' if one.excluded else 'exclude'} {one.verdict} at {one.at:%H:%M:%S.%f}")
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            change = qc_people.restore if one.excluded else qc_people.exclude
            await change(connection, self.lab.director, one.id, "air bubble")
        one.excluded = not one.excluded
        for patient in self.patients:  # what only it vouched for is on a list
            patient.was_suspect |= FINAL in patient.expected and one.verdict != "reject"

    async def step(self) -> None:
        steps = [self.control, self.run, self.patient, self.act, self.by_hand, self.exclude, self.resent]
        chosen = self.random.choices(steps, (5, 4, 8, 3, 1, 1, 1), k=self.random.choice([1, 1, 2, 3]))
        sending = (self.control, self.run, self.patient, self.resent)
        for one in chosen:
            if one not in sending:  # a person sees what came before
                await self.settle()
                await self.check()
            await one()
        await self.settle()
        await self.check()

    async def settle(self) -> None:
        await self.lab.settle()
        await sweep(self.lab.database, self.lab.organization_id)
        await self.read()

    async def read(self) -> None:
        """Which controls there are, when they were known and in which runs: these have tests of their own."""
        found = await self.lab.owner.fetch(
            """select p.*, r.value from lab.qc_point p join lab.qc_result r on r.id = p.qc_result_id
               where p.analyzer_id = $1 order by p.created_at""",
            self.analyzer_id,
        )
        interval = None if self.interval is None else timedelta(minutes=self.interval)
        said = {value: verdict for verdict, value in VALUES.items()}
        for row in found:
            model = self.streams.setdefault(row["module"], Model(self.levels, interval))
            if row["qc_result_id"] not in {one.id for one in model.controls}:
                model.controls.append(
                    Control(
                        row["qc_result_id"], row["measured_at"], row["created_at"], row["level_number"], row["run_id"],
                        said[row["value"]], row["module"], row["reagent_lot"],
                    )
                )  # fmt: skip

    async def check(self) -> None:
        found = {
            row["barcode"]: row
            for row in await self.lab.owner.fetch(
                """select v.specimen_as_sent as barcode, r.status, r.held, f.created_at,
                          exists (select from lab.qc_lookback_item i join lab.qc_lookback k on k.id = i.lookback_id
                                  where i.result_id = r.id and (i.state <> 'waiting' or k.state = 'open')) as listed
                   from lab.result r join lab.result_version v on v.id = r.version_id
                   join lab.result_version f on f.result_id = r.id and f.version = 1 where r.analyzer_id = $1""",
                self.analyzer_id,
            )
        }
        self.follow({one.barcode: found[one.barcode]["created_at"] for one in self.patients if not one.expected})
        told = "\n".join(self.log)
        for one in self.patients:
            row = found[one.barcode]
            status = " ".join([row["status"], *row["held"]])
            where = f"{one.barcode} is {status}, and is to be {one.expected}\n{told}"
            assert status in one.expected, where
            one.expected = {status}
            assert row["listed"] or not one.suspect, f"not looked back at: {where}"
            assert one.suspect or one.was_suspect or not row["listed"], f"looked back at: {where}"

    def follow(self, decided: dict[str, datetime]) -> None:
        """What becomes of each result with each decision and each control, in the order in which they came."""
        new = {one.id for model in self.streams.values() for one in model.controls} - self.followed
        turns = [(one.known, None) for model in self.streams.values() for one in model.controls if one.id in new]
        turns += [(at, barcode) for barcode, at in decided.items()]  # type: ignore[misc]
        all_known = max([at for at, _ in turns], default=datetime.now(UTC))
        for until, barcode in sorted([*turns, (all_known, None)], key=lambda turn: turn[0]):
            known = {
                name: replace(model, controls=[c for c in model.controls if c.id not in new or c.known <= until])
                for name, model in self.streams.items()
            }
            for one in self.patients:
                if one.barcode == barcode:
                    one.decided(model_of(known, one.module, one.at))
                elif one.expected:
                    one.follows(model_of(known, one.module, one.at))
        self.followed |= new


@pytest.fixture
async def days(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Laboratory, Path]]:
    async with laboratory(database_url, drivers=[modular(tmp_path)]) as lab:
        await put_in_force(lab, IN_CONTROL)
        async with lab.database.transaction(lab.organization_id) as connection:
            material = await qc_lots.create_material(connection, lab.director, MaterialChange(name="Norm"))
            for level in (1, 2):
                change = LotChange("77", str(level), level, identifiers=(f"QC{level}",))
                await qc_lots.create_lot(connection, lab.director, material.id, change)
        yield lab, tmp_path


async def day(lab: Laboratory, drivers: Path, seed: int) -> Day:
    """A day's analyzer, with its plan and its targets."""
    random, name = Random(seed), f"day-{seed}"  # noqa: S311 - a seed that can be told
    settings = replace(lab.context.settings, id=name)
    levels, interval = random.choice([1, 1, 2]), random.choice([None, 60, 1440])
    async with lab.database.transaction(lab.organization_id) as connection:
        context = await register(connection, lab.organization_id, settings, registry.load("generic_lis2", [drivers]))
        plan = Plan(
            analyzer=name, mode=QcMode.MODERN, rules=(QcRule.R1_2S, QcRule.R1_3S), levels=0, run_minutes=1,
            interval_minutes=interval,
        )  # fmt: skip
        await rows.set_plan(connection, lab.organization_id, context.analyzer_id, None, plan)
        for level in range(1, levels + 1):
            wanted = Wanted(Decimal(140), Decimal(2), "mmol/L", valid_from=datetime.now(UTC) - timedelta(days=80))
            await qc_targets.set_target(
                connection, lab.director, Place(f"Norm/77/{level}", name, "NA", ""), wanted, "?"
            )
        test_id = await connection.fetchval("select id from lab.test where code = 'NA'")
    lab.contexts[context.link_id] = context
    own = replace(lab, context=context, intake=LinkIntake(context, lab.journal))
    modules = random.choice([("",), ("",), ("1", "2")])
    return Day(own, random, name, seed, context.analyzer_id, test_id, levels, interval, modules)


async def _days(lab: Laboratory, drivers: Path, seeds: range) -> list[Day]:
    made = []
    for seed in seeds:
        one = await day(lab, drivers, seed)
        made.append(one)
        for _ in range(STEPS):
            await one.step()
    return made


@pytest.mark.parametrize("count", [SEEDS, pytest.param(MANY, marks=[pytest.mark.long, pytest.mark.timeout(3_600)])])
async def test_nothing_is_released_that_quality_control_speaks_against(
    days: tuple[Laboratory, Path], count: int
) -> None:
    """And what was released and is suspect now stands on a list that is open, or was decided about."""
    made = await _days(*days, range(count))
    patients = [one for each in made for one in each.patients]
    assert sum(FINAL in one.expected for one in patients) > count  # else it would show nothing
    assert sum(one.was_suspect for one in patients) > count

"""Plans of patient-based quality control, from the training to the alarm, over a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from interface.domain.facts import QcState
from interface.domain.pbrtqc import Follower, Limits, Method, Mode, Outlying, Reading, Side, Statistic, treated
from interface.domain.pbrtqc_plan import Goal, parse_goal, read_plan, seed_of
from interface.domain.pbrtqc_simulation import Bias, BiasUnit
from interface.domain.permissions import Role
from interface.domain.review import Refusal
from interface.domain.views import Actor
from interface.errors import StoreError
from interface.flow import pbrtqc, pbrtqc_watch, qc_gate
from interface.flow.pbrtqc import Draft, PbrtqcError
from interface.flow.pbrtqc_watch import BATCH, SETTLE_S, PatientWatch
from interface.store import pbrtqc as store
from interface.store.db import Database
from interface.store.pbrtqc import Event, Revision
from tests.conftest import Organization
from tests.flow.patients import BEGIN, Measured, Patients, healthy
from tests.records import found, user

D = Decimal
MEAN = Method(Statistic.MEAN, 5)
BY_HAND = Limits(D("13"), D("14"), D("13.5"))
TRAINED, PROVED = BEGIN + timedelta(days=30), BEGIN + timedelta(days=50)
GOAL = parse_goal("tea 15% median=40 p95=90 undetected=0.02")
REAL = Draft(
    "hgb", "hema", "HGB", replace(MEAN, block=20), begin=BEGIN, end=TRAINED, rate=D("0.2"), goals=(GOAL,),
    most_false_alarms=D("2"), horizon=100,
)  # fmt: skip
PLAIN = Draft("hgb", "hema", "HGB", MEAN, limits=BY_HAND)


@dataclass
class Clock:
    """A daemon's clock, that stands."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Daemon:
    """What follows, on a clock that goes with what is measured. `dies`: another goes on."""

    patients: Patients
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.dies()

    def dies(self) -> None:
        self.watch = PatientWatch(self.patients.database, self.clock)

    async def follow(self, results: Sequence[Measured] = ()) -> int:
        """Results are decided, and once they have settled it looks; how many it counted."""
        if results:
            await self.patients.measure(results)
            self.clock.now = results[-1].at + timedelta(seconds=SETTLE_S + 1)
        return await self.watch.follow(self.patients.organization_id)


@pytest.fixture
async def patients(database: Database, organization: Organization) -> Patients:
    return Patients(await found(database, organization.id))


async def change(patients: Patients, what: Any, *arguments: Any, actor: Actor | None = None, **named: Any) -> Any:
    """One of the flow's functions in a transaction of its own."""
    async with patients.database.transaction(patients.organization_id) as connection:
        return await what(connection, actor or patients.director, *arguments, **named)


async def read(patients: Patients, what: Any, *arguments: Any, **named: Any) -> Any:
    async with patients.database.transaction(patients.organization_id) as connection:
        return await what(connection, *arguments, **named)


async def written(patients: Patients, draft: Draft = PLAIN) -> Revision:
    made: Revision = await change(patients, pbrtqc.write, draft, "first")
    return made


async def following(patients: Patients, draft: Draft = PLAIN, mode: Mode = Mode.WATCH) -> tuple[Revision, datetime]:
    """A plan in use, and a time after which what is decided is its own."""
    made = await written(patients, draft)
    used: Revision = await change(patients, pbrtqc.activate, made.name, made.revision, mode, "go")
    assert used.since is not None
    return used, used.since + timedelta(seconds=1)


def minutes(begin: datetime, numbers: str, **facts: Any) -> list[Measured]:
    return [
        Measured(begin + timedelta(minutes=at), number, **facts) for at, number in enumerate(numbers.split())
    ]  # fmt: skip


async def values(patients: Patients, version: Revision) -> list[tuple[int, str]]:
    now = datetime.now(UTC)
    rows = await read(
        patients, store.read_values, version.id, now - timedelta(days=9), now + timedelta(days=9), 100_000
    )
    return [(row.ordinal, "" if row.statistic is None else f"{row.statistic:f}") for row in rows]


async def alarms(patients: Patients) -> list[Event]:
    """All events, the oldest first."""
    found: list[Event] = await read(patients, store.read_events)
    return found[::-1]


# ---- from a history to being in force -------------------------------------------------------------------------------


@pytest.fixture
async def seasoned(patients: Patients) -> Patients:
    """With 30 days to train on and 20 to validate on."""
    await patients.measure(healthy(50, 30))
    return patients


async def test_a_plan_goes_from_its_training_to_gating(seasoned: Patients) -> None:
    made = await written(seasoned, REAL)
    plan = read_plan(made.body)
    assert plan.training is not None and (plan.training.results, plan.training.days) == (900, 30)
    assert plan.limits.low < D("13.3") < plan.limits.centre < D("13.7") < plan.limits.high
    with pytest.raises(PbrtqcError, match="may not hold: it has not been validated"):
        await change(seasoned, pbrtqc.activate, "hgb", 1, Mode.HOLD, "go")
    done = await change(seasoned, pbrtqc.validate, "hgb", 1, TRAINED, PROVED)
    assert done.kept and done.unmet == () and done.results == 600 and done.simulation.seed == seed_of(made.digest)
    kept = done.revision.validation
    assert kept is not None and kept.stamp.met and kept.by == "dora" and (kept.begin, kept.end) == (TRAINED, PROVED)
    assert kept.outcome == done.outcome and kept.outcome["runs"] == 200
    told = kept.outcome["biases"]
    assert isinstance(told, list) and [one["bias"] for one in told] == ["-15%", "+15%"]
    used = await change(seasoned, pbrtqc.activate, "hgb", 1, Mode.HOLD, "go")
    assert used.mode == "hold"
    async with seasoned.database.organization(seasoned.organization_id) as connection:
        rows = await connection.fetch(
            "select action from lab.audit_event where entity_kind = 'pbrtqc_plan' order by id"
        )
    assert [row["action"] for row in rows] == ["write", "validate", "activate"]


async def test_what_a_validation_is_of(seasoned: Patients) -> None:
    """Of one revision, over results that it was not trained on, with its own seed, and met or not: all is kept."""
    await written(seasoned, REAL)
    with pytest.raises(PbrtqcError, match="the limits come from 2026-01-01 to 2026-01-31: take another period"):
        await change(seasoned, pbrtqc.validate, "hgb", 1, TRAINED - timedelta(days=1), PROVED)
    with pytest.raises(PbrtqcError, match="100 runs or more"):
        await change(seasoned, pbrtqc.validate, "hgb", 1, TRAINED, PROVED, runs=50)
    hard = replace(REAL, goals=(parse_goal("small 1% median=2 p95=3 undetected=0"),), most_false_alarms=D("0"))
    await written(seasoned, hard)
    missed = await change(seasoned, pbrtqc.validate, "hgb", 2, TRAINED, PROVED, runs=100)
    assert any("false alarms a day, 0 at most" in text for text in missed.unmet)
    assert any(text.startswith("goal small: +1%: median") for text in missed.unmet)
    with pytest.raises(PbrtqcError, match="may not warn: its validation did not meet the laboratory's goals"):
        await change(seasoned, pbrtqc.activate, "hgb", 2, Mode.WARN, "go")
    await written(seasoned, replace(REAL, goals=(), most_false_alarms=None))
    with pytest.raises(PbrtqcError, match="has no goals"):
        await change(seasoned, pbrtqc.validate, "hgb", 3, TRAINED, PROVED)
    assert (await change(seasoned, pbrtqc.activate, "hgb", 3, Mode.WATCH, "look")).mode == "watch"


async def test_whatever_changes_voids_a_validation(seasoned: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    await written(seasoned, REAL)
    await change(seasoned, pbrtqc.validate, "hgb", 1, TRAINED, PROVED)
    await written(seasoned, replace(REAL, horizon=101))  # one patient more to find it in
    with pytest.raises(PbrtqcError, match="hgb@2 may not hold: it has not been validated"):
        await change(seasoned, pbrtqc.activate, "hgb", 2, Mode.HOLD, "go")
    await change(seasoned, pbrtqc.activate, "hgb", 1, Mode.HOLD, "go")
    with monkeypatch.context() as patch:
        patch.setattr("interface.domain.pbrtqc_plan.ENGINE", "pbrtqc 2")
        assert "another version" in (await read(seasoned, pbrtqc.status))[0].void
    async with seasoned.database.transaction(seasoned.organization_id) as connection:
        await connection.execute("update lab.test set unit = 'g/L' where code = 'HGB'")
    status = (await read(seasoned, pbrtqc.status))[0]
    assert status.void == "the test is reported in g/L now, the plan is in g/dL"


async def test_a_simulation_says_the_same_each_time_and_keeps_nothing(seasoned: Patients) -> None:
    await written(seasoned, REAL)
    asked = ("hgb", 1, TRAINED, PROVED, [Bias(D(1), BiasUnit.SD), Bias(D(1), BiasUnit.SD)])
    one, two = [await read(seasoned, pbrtqc.run, *asked, seed=4, runs=50) for _ in range(2)]
    assert one.simulation == two.simulation and len(one.simulation.found) == 1
    assert (await read(seasoned, pbrtqc.find, "hgb")).validation is None
    for wrong, said in (
        ({"runs": 1}, "runs are from"), ({"most_steps": 100}, "more than 100 steps"),
    ):  # fmt: skip
        with pytest.raises(PbrtqcError, match=said):
            await read(seasoned, pbrtqc.run, *asked, **wrong)
    with pytest.raises(PbrtqcError, match="no position"):
        await read(seasoned, pbrtqc.run, "hgb", 1, PROVED, PROVED + timedelta(days=9))


WRONG = (
    (replace(PLAIN, name="Hgb!"), "the name is of"),
    (replace(PLAIN, analyzer="nosuch"), "there is no analyzer 'nosuch'"),
    (replace(PLAIN, method=replace(MEAN, block=1)), "block is from 2"),
    (replace(PLAIN, method=replace(MEAN, weight=D("0.1"))), "an ewma has a weight"),
    (replace(PLAIN, method=Method(Statistic.EWMA, 1, D("0.9"))), "weight is from 0.001 to 0.5"),
    (replace(PLAIN, method=replace(MEAN, outlying=Outlying.TRUNCATE)), "wants low, high or both"),
    (replace(PLAIN, method=replace(MEAN, low=D(1))), "for truncate and winsorise"),
    (replace(PLAIN, limits=Limits(D(14), D(13), D(13))), "the lower limit is below"),
    (replace(PLAIN, limits=Limits(D(13), D(14), D(15))), "the centre is between"),
    (replace(PLAIN, limits=None), "limits want a training period"),
    (replace(PLAIN, rate=D("0.1")), "limits are given, or come"),
    (replace(REAL, rate=D(0)), "rate is a fraction"),
    (replace(REAL, rate=D("1E-999999")), "rate is a fraction"),
    (replace(REAL, begin=datetime(1, 1, 1, tzinfo=UTC), end=BEGIN), "in 1970 or later"),
    (replace(REAL, begin=BEGIN, end=datetime(9999, 12, 31, tzinfo=UTC)), "ten years at most"),
    (replace(PLAIN, limits=Limits(D(13), D("1E+999999"), D(14))), "larger or smaller than anything is measured"),
    (replace(PLAIN, excluded_wards=("a\nb",)), "are printable"),
    (replace(REAL, end=BEGIN), "the training period ends after it begins"),
    (replace(REAL, begin=BEGIN - timedelta(days=3660)), "ten years at most"),
    (replace(REAL, end=BEGIN + timedelta(days=3)), "3 days of history; a rate of 0.2 needs 10"),
    (replace(PLAIN, goals=(Goal("x", Bias(D(1), BiasUnit.SD)),)), "goal x: a bias in SD wants"),
    (replace(PLAIN, goals=(GOAL, GOAL)), "names of their own"),
    (replace(PLAIN, horizon=4), "horizon is at least the block"),
)  # fmt: skip


async def test_a_draft_that_is_wrong_is_told_why(seasoned: Patients) -> None:
    for draft, said in WRONG:
        with pytest.raises(PbrtqcError, match=said) as refusal:
            await written(seasoned, draft)
        assert refusal.value.refusal is Refusal.INVALID


async def test_who_may_do_what(patients: Patients) -> None:
    technologist, viewer = user(patients.organization_id), user(patients.organization_id, Role.VIEWER)
    for actor in (technologist, viewer):
        with pytest.raises(PbrtqcError, match="permission qc:manage"):
            await change(patients, pbrtqc.write, PLAIN, "r", actor=actor)
    await written(patients)
    with pytest.raises(PbrtqcError, match="says the same"):
        await written(patients)
    for what, arguments in (
        (pbrtqc.activate, ("hgb", 1, Mode.WATCH, "r")), (pbrtqc.deactivate, ("hgb", "r")),
        (pbrtqc.validate, ("hgb", 1, BEGIN, TRAINED)),
    ):  # fmt: skip
        with pytest.raises(PbrtqcError, match="permission qc:manage"):
            await change(patients, what, *arguments, actor=technologist)
    administrator = user(patients.organization_id, Role.ADMINISTRATOR)
    with pytest.raises(PbrtqcError, match="permission qc:write"):
        await change(patients, pbrtqc.close, UUID(int=1), "r", actor=administrator)
    for reason in (" ", "x" * 501, "a\nb"):
        with pytest.raises(PbrtqcError) as refusal:
            await change(patients, pbrtqc.activate, "hgb", 1, Mode.WATCH, reason)
        assert refusal.value.refusal is Refusal.INVALID


# ---- following ------------------------------------------------------------------------------------------------------


async def test_values_are_counted_once_in_their_order(patients: Patients) -> None:
    used, begin = await following(patients)
    daemon = Daemon(patients)
    assert await daemon.follow(minutes(begin, "13 14 13 14 13 14")) == 6
    assert await daemon.follow() == 0
    expected = [(1, ""), (2, ""), (3, ""), (4, ""), (5, "13.4"), (6, "13.6")]
    assert await values(patients, used) == expected
    daemon.dies()  # the next reads the last minutes again and counts nothing twice
    assert await daemon.follow() == 0
    daemon.dies()
    assert await daemon.follow(minutes(begin + timedelta(minutes=7), "14.5")) == 1
    assert (await values(patients, used))[-1] == (7, "13.7")


async def test_only_valid_results_of_patients_are_counted(patients: Patients) -> None:
    """What is left out stands beside its reason; each is a 99 that would be seen in the mean."""
    limits = Limits(D(0), D(1000), D(14))
    draft = replace(PLAIN, method=replace(MEAN, block=2), limits=limits, module="m1", excluded_wards=("dialysis",))
    used, begin = await following(patients, replace(draft, excluded_groups=("research",)))
    specimen, other = (one.specimen_id for one in minutes(begin, "1 1"))
    ward, group, plain = [
        await patients.order_of(*facts) for facts in (("dialysis",), ("", "research"), ("ward 3", "neonate"))
    ]
    left_out: dict[str, dict[str, Any]] = {
        "another module": {"module": "m2"}, "no module": {"module": ""}, "another unit": {"unit": "g/L"},
        "another test": {"test": "WBC"}, "a person's value": {"origin": "manual"},
        "calculated": {"origin": "calculation"}, "a later version": {"version": 2},
        "an excluded ward": {"order_id": ward}, "an excluded group": {"order_id": group},
        "no specimen": {"specimen_id": None}, "words": {"kind": "text"}, "a limit of the range": {"comparator": ">"},
        "retracted": {"status": "entered-in-error"}, "rejected": {"status": "cancelled"},
        "held for cause": {"held": ("questionable",)}, "a delta": {"held": ("rule", "delta")},
        "controls failed": {"held": ("qc_failed",)}, "a rerun was asked for": {"held": ("rerun",)},
        "the second run of a specimen": {"specimen_id": specimen},
        "the second run, of which the first was bad": {"specimen_id": other},
        "before it was in use": {"at": begin - timedelta(hours=1)},
    }  # fmt: skip
    module: dict[str, Any] = {"module": "m1"}
    results = [
        Measured(begin, "14", specimen_id=specimen, **module),
        Measured(begin + timedelta(seconds=1), "99", specimen_id=other, held=("questionable",), **module),
        *(
            Measured(**{"at": begin + timedelta(minutes=1, seconds=at), "number": "99", **module, **facts})
            for at, facts in enumerate(left_out.values())
        ),
        Measured(begin + timedelta(minutes=3), "15", held=("rule",), order_id=plain, **module),
        Measured(begin + timedelta(minutes=4), "16", held=("measuring_range",), status="preliminary", **module),
    ]
    assert await Daemon(patients).follow(results) == 3
    assert await values(patients, used) == [(1, ""), (2, "14.5"), (3, "15.5")]
    plan = read_plan(used.body)
    series = await read(patients, pbrtqc.load, plan, begin, begin + timedelta(hours=1))
    seen = [(one.number, one.comparator) for one in series.readings]
    assert seen == [(D(14), None), (D(99), ">"), (D(15), None), (D(16), None)]  # what to do with `>` is the method's


@pytest.mark.parametrize(
    "method",
    [
        MEAN,
        Method(Statistic.MEDIAN, 4, outlying=Outlying.TRUNCATE, low=D(12), high=D(15)),
        Method(Statistic.EWMA, 3, D("0.2"), Outlying.WINSORISE, D(12), D(15), restart_after_min=20),
        Method(Statistic.MEAN, 3, boxcox=D("-0.5"), restart_after_min=5),
    ],
    ids=lambda method: method.statistic,
)
async def test_what_is_followed_is_what_a_simulation_sees(patients: Patients, method: Method) -> None:
    """In rounds of any size, by processes that die between them, the statistics are those of one walk over it all."""
    used, begin = await following(patients, replace(PLAIN, method=method, limits=Limits(D("-9"), D(99), D("13.5"))))
    results: list[Measured] = []
    at = begin
    for one in healthy(1, 60, seed=5):
        at += timedelta(minutes=30 if len(results) % 17 == 16 else 1)
        results.append(replace(one, at=at))
    daemon = Daemon(patients)
    for number, size in enumerate((1, 2, 7, 1, 20, 29)):
        await daemon.follow(results[:size])
        results = results[size:]
        if number % 2:
            daemon.dies()
    series = await read(patients, pbrtqc.load, read_plan(used.body), begin, begin + timedelta(days=1))
    follower = Follower(method, D("13.5"))
    walked = [
        (treated(method, reading), follower.see(when, treated(method, reading)))
        for when, reading in zip(series.at, series.readings, strict=True)
    ]
    expected = ["" if statistic is None else f"{statistic:f}" for value, statistic in walked if value is not None]
    assert [text for _, text in await values(patients, used)] == expected
    assert len(expected) > 25 and expected.count("") >= (method.block - 1)


async def test_pages_are_read_to_the_end(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pbrtqc_watch, "BATCH", 4)
    used, begin = await following(patients)
    assert await Daemon(patients).follow(minutes(begin, "13 14 " * 9)) == 18
    assert [ordinal for ordinal, _ in await values(patients, used)] == list(range(1, 19))
    assert BATCH == 2000


async def test_what_was_committed_late_is_counted_late_and_once(patients: Patients) -> None:
    used, begin = await following(patients)
    daemon = Daemon(patients)
    await daemon.follow(minutes(begin, "13 14 13"))
    await patients.measure(minutes(begin + timedelta(seconds=90), "15"))  # behind the cursor
    rounds = [await daemon.follow() for _ in range(pbrtqc_watch.AGAIN_EVERY)]
    assert sum(rounds) == 1 and rounds[-1] == 1
    assert [ordinal for ordinal, _ in await values(patients, used)] == [1, 2, 3, 4]


async def test_a_result_is_looked_at_once_it_has_settled(patients: Patients) -> None:
    _, begin = await following(patients)
    clock = Clock()
    watch = PatientWatch(patients.database, clock)
    await patients.measure([Measured(begin, "13")])
    clock.now = begin + timedelta(seconds=SETTLE_S)
    assert await watch.follow(patients.organization_id) == 0
    clock.now += timedelta(milliseconds=1)
    assert await watch.follow(patients.organization_id) == 1


async def test_a_process_that_dies_has_counted_nothing(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    used, begin = await following(patients)
    daemon = Daemon(patients)

    async def fail(*_: object) -> None:
        raise StoreError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_state", fail)
        with pytest.raises(StoreError):
            await daemon.follow(minutes(begin, "13 14 13 14 13 14"))
    assert await values(patients, used) == []
    assert await daemon.follow() == 6
    assert [text for _, text in await values(patients, used)] == ["", "", "", "", "13.4", "13.6"]


async def test_two_processes_count_each_value_once(patients: Patients) -> None:
    used, begin = await following(patients)
    results = minutes(begin, "13 14 " * 20)
    await patients.measure(results)
    clock = Clock(results[-1].at + timedelta(minutes=1))
    watches = [PatientWatch(patients.database, clock) for _ in range(3)]
    counted = await asyncio.gather(*(watch.follow(patients.organization_id) for watch in watches))
    counted += [await watches[0].follow(patients.organization_id)]
    assert sum(counted) == 40
    assert [ordinal for ordinal, _ in await values(patients, used)] == list(range(1, 41))


async def test_the_database_refuses_to_count_a_version_twice(patients: Patients) -> None:
    used, begin = await following(patients)
    (version,) = await patients.measure([Measured(begin, "13")])
    daemon = Daemon(patients, Clock(begin + timedelta(minutes=1)))
    assert await daemon.follow() == 1 and used.use_id is not None
    with pytest.raises(asyncpg.UniqueViolationError):
        await read(
            patients, store.add_values, patients.organization_id, used.use_id, [store.Counted(9, version, begin, None)]
        )


async def test_without_a_plan_nothing_is_read(patients: Patients) -> None:
    assert await Daemon(patients).follow(minutes(datetime.now(UTC), "13 14")) == 0


# ---- alarms ---------------------------------------------------------------------------------------------------------


def sides(events: Sequence[Event]) -> list[tuple[str, Side | None, bool]]:
    return [(one.kind, one.side, one.gates) for one in events]


async def test_a_watched_alarm_ends_when_the_statistic_comes_back(patients: Patients) -> None:
    used, begin = await following(patients)
    daemon = Daemon(patients)
    await daemon.follow(minutes(begin, "13.5 13.5 13.5 13.5 13.5 17 0 0 0"))
    found = await alarms(patients)
    # Means of five: 13.5, then 14.2 above, then 11.5 below, without having been back in between.
    assert sides(found) == [("alarm", Side.HIGH, False)]
    first = found[0]
    assert (first.statistic, first.bound, first.ordinal) == (D("14.2"), D("14"), 6)
    assert first.since == begin + timedelta(minutes=5)
    assert first.reason == "hgb@1: mean of patients' results above 14" and first.by == "hgb@1"
    await daemon.follow(minutes(begin + timedelta(minutes=20), "13.5 " * 5 + "99"))
    found = await alarms(patients)
    assert sides(found) == [("alarm", Side.HIGH, False), ("back", None, False), ("alarm", Side.HIGH, False)]
    assert found[1].alarm_id == first.id
    status = (await read(patients, pbrtqc.status))[0]
    assert status.alarm is not None and status.alarm.id == found[2].id and status.state.ordinal == 15
    assert await read(patients, store.open_alarms, [patients.laboratory.analyzer_id]) == []
    ended = await change(patients, pbrtqc.deactivate, "hgb", "no more")
    assert ended.mode == "" and (await alarms(patients))[-1].kind == "closed"
    assert used.version == ended.version


async def gating(patients: Patients, mode: Mode = Mode.HOLD) -> datetime:
    """A validated plan in use that gates; a time after its begin."""
    await patients.measure(healthy(50, 30))
    await written(patients, REAL)
    await change(patients, pbrtqc.validate, "hgb", 1, TRAINED, PROVED)
    used = await change(patients, pbrtqc.activate, "hgb", 1, mode, "go")
    return used.since + timedelta(seconds=1)  # type: ignore[no-any-return]


async def gate_says(patients: Patients, at: datetime) -> QcState:
    """What deciding would go by for a result measured then."""
    async with patients.database.transaction(patients.organization_id) as connection:
        gate = await qc_gate.gate_of(connection, [patients.laboratory.analyzer_id])
        return gate.state("hema", "HGB", at)


@pytest.mark.parametrize("mode", [Mode.WARN, Mode.HOLD])
async def test_a_gating_alarm_ends_by_a_person_alone(patients: Patients, mode: Mode) -> None:
    begin, analyzer = await gating(patients, mode), [patients.laboratory.analyzer_id]
    daemon = Daemon(patients)
    await daemon.follow(minutes(begin, "16 " * 30))
    (alarm,) = await read(patients, store.open_alarms, analyzer)
    assert (alarm.mode, alarm.stream.test_id) == (mode, patients.laboratory.tests["HGB"])
    later = begin + timedelta(minutes=40)
    assert await gate_says(patients, later) is {Mode.WARN: QcState.UNKNOWN, Mode.HOLD: QcState.FAIL}[mode]
    assert "above" in alarm.reason
    assert alarm.since == begin  # the statistic was never at its centre: all that led to it is suspect
    (event,) = await alarms(patients)
    assert event.since == begin + timedelta(minutes=19)
    await daemon.follow(minutes(begin + timedelta(hours=1), "13.5 " * 30))
    assert len(await read(patients, store.open_alarms, analyzer)) == 1  # inside again, and still there
    for refused in (
        change(patients, pbrtqc.deactivate, "hgb", "r"), change(patients, pbrtqc.activate, "hgb", 1, Mode.WATCH, "r"),
    ):  # fmt: skip
        with pytest.raises(PbrtqcError, match=f"an alarm of hgb@1 gates: `labora qc pbrtqc close {alarm.event_id}`"):
            await refused
    technologist = user(patients.organization_id)
    closed = await change(patients, pbrtqc.close, alarm.event_id, "recalibrated", actor=technologist)
    assert (closed.kind, closed.reason, closed.by, closed.alarm_id) == (
        "closed",
        "recalibrated",
        "vera",
        alarm.event_id,
    )
    assert await read(patients, store.open_alarms, analyzer) == []
    assert await gate_says(patients, datetime.now(UTC)) is QcState.UNKNOWN  # as the controls say: there are none
    with pytest.raises(PbrtqcError, match="the alarm has ended"):
        await change(patients, pbrtqc.close, alarm.event_id, "again", actor=technologist)
    # What led to it is out of the window: 19 values later there is no statistic yet, at the 20th there is.
    await daemon.follow(minutes(begin + timedelta(hours=2), "16 " * 19))
    assert await read(patients, store.open_alarms, analyzer) == []
    await daemon.follow(minutes(begin + timedelta(hours=3), "16"))
    assert len(await read(patients, store.open_alarms, analyzer)) == 1


async def test_an_alarm_of_a_void_plan_is_told_and_does_not_gate(patients: Patients) -> None:
    begin = await gating(patients)
    async with patients.database.transaction(patients.organization_id) as connection:
        await connection.execute("update lab.test set unit = 'mg/dL' where code = 'HGB'")
    await Daemon(patients).follow(minutes(begin, "16 " * 30))
    (alarm,) = await alarms(patients)
    assert not alarm.gates and "it does not hold: the test is reported in mg/dL now" in alarm.reason
    assert await read(patients, store.open_alarms, [patients.laboratory.analyzer_id]) == []
    closed = await change(patients, pbrtqc.close, alarm.id, "looked at")
    assert closed.kind == "closed"


async def test_what_is_suspect_was_measured_since_the_statistic_stood_at_its_centre(patients: Patients) -> None:
    begin = await gating(patients)
    daemon = Daemon(patients)
    await daemon.follow(minutes(begin, "13 " * 25 + "15 " * 40))
    (alarm,) = await read(patients, store.open_alarms, [patients.laboratory.analyzer_id])
    (event,) = await alarms(patients)
    # The mean of 20 is 13 until the 25th value, then 13 + 2 n / 20 after n more: at the centre, about 13.5, for n = 5.
    centre = read_plan((await read(patients, pbrtqc.find, "hgb")).body).limits.centre
    good = max(n for n in range(20) if 13 + D(2 * n) / 20 <= centre)
    assert alarm.since == event.suspect_from == begin + timedelta(minutes=24 + good) < event.since


async def test_the_gate_knows_the_worst_of_two_plans(patients: Patients) -> None:
    """Two plans of one stream: while one of them holds, closing the other changes nothing for the patients."""
    begin, analyzer = await gating(patients), [patients.laboratory.analyzer_id]
    other = replace(REAL, name="hgb.median", method=Method(Statistic.MEDIAN, 21))
    await written(patients, other)
    done = await change(patients, pbrtqc.validate, "hgb.median", 1, TRAINED, PROVED)
    assert done.unmet == ()
    await change(patients, pbrtqc.activate, "hgb.median", 1, Mode.HOLD, "go")
    daemon = Daemon(patients)
    await daemon.follow(minutes(begin + timedelta(seconds=5), "16 " * 30))
    first, second = await read(patients, store.open_alarms, analyzer)
    for alarm, says in ((first, QcState.FAIL), (second, QcState.UNKNOWN)):
        await change(patients, pbrtqc.close, alarm.event_id, "recalibrated")
        assert await gate_says(patients, datetime.now(UTC) + timedelta(hours=1)) is says


async def test_a_chart_shows_what_was_counted(patients: Patients) -> None:
    _, begin = await following(patients)
    await Daemon(patients).follow(minutes(begin, "13.5 13.5 13.5 13.5 13.5 17 17"))
    day = timedelta(days=1)
    chart = await read(patients, pbrtqc.chart_data, "hgb", None, begin - day, begin + day, 100)
    assert [one.statistic for one in chart.values] == [None] * 4 + [D("13.5"), D("14.2"), D("14.9")]
    assert chart.limits == BY_HAND and [one.kind for one in chart.events] == ["alarm"]
    assert sum(one.values for one in chart.days) == 3 and max(one.high for one in chart.days) == D("14.9")
    newest = await read(patients, pbrtqc.chart_data, "hgb", 1, begin - day, begin + day, 2)
    assert [one.ordinal for one in newest.values] == [6, 7]
    with pytest.raises(PbrtqcError, match="there is no plan nosuch"):
        await read(patients, pbrtqc.chart_data, "nosuch", None, begin, begin, 1)


def test_a_reading_is_not_a_patients() -> None:
    """What is remembered of a result for a window is a number, and in the rows the version it is of."""
    assert [one.name for one in fields(Reading)] == ["number", "comparator"]
    assert [one.name for one in fields(store.Counted)] == ["ordinal", "version_id", "at", "statistic"]

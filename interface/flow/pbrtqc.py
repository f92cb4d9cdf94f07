"""Plans of patient-based quality control: written, simulated, validated, put to use; their alarms ended.

API and command line share it. A revision never changes. One that gates has a validation of exactly its text, by this
meaning of plans, that met the goals it names; any change voids that, also while it is in use. What follows the results
is `flow.pbrtqc_watch`.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from interface.domain.facts import QcState
from interface.domain.pbrtqc import ENGINE, Day, Limits, Method, Mode, Reading
from interface.domain.pbrtqc_plan import (
    Goal,
    Plan,
    PlanError,
    Stamp,
    Training,
    check_method,
    check_plan,
    is_name,
    read_plan,
    seed_of,
    unmet,
    void,
    write_plan,
)
from interface.domain.pbrtqc_simulation import (
    FEWEST_RUNS,
    HORIZON,
    MOST_RUNS,
    RUNS,
    Bias,
    Found,
    Series,
    Simulation,
    daily,
    establish,
    simulate,
)
from interface.domain.permissions import Permission
from interface.domain.qc import Stream
from interface.domain.review import Refusal, ReviewError
from interface.domain.views import Actor
from interface.flow import qc_gate
from interface.flow.actors import may
from interface.store import audit
from interface.store import pbrtqc as store
from interface.store.db import Connection
from interface.store.ids import uuid7, uuid7_floor
from interface.store.pbrtqc import Event, Revision, State

LONGEST_REASON = 500
FEWEST_TO_VALIDATE = 100  # runs; fewer tell little of a 95th percentile
MOST_STEPS = 200_000_000  # of a simulation: some minutes
LONGEST_PERIOD = timedelta(days=3660)
LEAST_RATE = Decimal("0.001")  # of days with a false alarm: five years and more of history promise no less
GATING = frozenset({Mode.WARN, Mode.HOLD})
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class PbrtqcError(ReviewError):
    """A step with plans that is not allowed, in one sentence."""

    slug = "pbrtqc"


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan as a person gives it. Either `limits`, or a training period and the `rate` of days with a false alarm."""

    name: str
    analyzer: str
    test: str
    method: Method
    module: str = ""
    limits: Limits | None = None
    begin: datetime | None = None
    end: datetime | None = None
    rate: Decimal | None = None
    excluded_wards: tuple[str, ...] = ()
    excluded_groups: tuple[str, ...] = ()
    day_begins_min: int = 0
    goals: tuple[Goal, ...] = ()
    most_false_alarms: Decimal | None = None
    horizon: int = HORIZON


# ---- plans ----------------------------------------------------------------------------------------------------------


async def write(connection: Connection, actor: Actor, draft: Draft, reason: str) -> Revision:
    """Store a draft as the next revision of its name, its limits established from the training period.

    Nothing follows by it. Raises PbrtqcError with everything that is wrong with it.
    """
    _allowed(actor, Permission.QC_MANAGE, reason)
    problems = [] if is_name(draft.name) else ["the name is of a-z 0-9 _ . - and at most 64 long"]
    problems += check_method(draft.method) + _check_training(draft)
    found = await store.find_stream(connection, draft.analyzer, draft.test)
    if found is None:
        problems.append(f"there is no analyzer {draft.analyzer!r} or no test {draft.test!r} in use")
    if problems or found is None:
        raise PbrtqcError(Refusal.INVALID, "; ".join(problems))
    analyzer_id, test_id, unit = found
    stream = Stream(analyzer_id, test_id, draft.module)
    nothing = Limits(Decimal(0), Decimal(1), Decimal(0))
    plan = Plan(
        str(analyzer_id), draft.module, str(test_id), unit, draft.method, draft.limits or nothing, None,
        draft.excluded_wards, draft.excluded_groups, draft.day_begins_min, draft.goals, draft.most_false_alarms,
        draft.horizon,
    )  # fmt: skip
    if draft.limits is None:
        plan = await _established(connection, plan, draft)
    if problems := check_plan(plan):
        raise PbrtqcError(Refusal.INVALID, "; ".join(problems))
    body = write_plan(plan)
    await store.lock(connection, actor.organization_id)
    newest = await store.find_revision(connection, draft.name)
    if newest is not None and newest.body == body:
        raise PbrtqcError(Refusal.CONFLICT, f"{newest.version} says the same")
    number = await store.add_revision(connection, actor, draft.name, stream, body, reason)
    made = await find(connection, draft.name, number)
    await _audit(connection, actor, "write", made, reason, digest=made.digest)
    return made


def _check_training(draft: Draft) -> list[str]:
    given = [draft.begin, draft.end, draft.rate]
    if draft.limits is not None:
        return [] if given == [None] * 3 else ["limits are given, or come from a training period"]
    if draft.begin is None or draft.end is None or draft.rate is None:
        return ["limits want a training period, from and to, and the rate of days with a false alarm"]
    wrong = [] if _is_period(draft.begin, draft.end) else [f"the training {_PERIOD}"]
    return wrong if LEAST_RATE <= draft.rate <= 1 else [*wrong, f"rate is a fraction of days, from {LEAST_RATE} to 1"]


_PERIOD = "period ends after it begins, in 1970 or later, and has ten years at most"


def _is_period(begin: datetime, end: datetime) -> bool:
    return begin >= EPOCH and timedelta(0) < end - begin <= LONGEST_PERIOD


async def _established(connection: Connection, plan: Plan, draft: Draft) -> Plan:
    begin, end, rate = draft.begin, draft.end, draft.rate
    if begin is None or end is None or rate is None:
        raise PbrtqcError(Refusal.INVALID, "a training period has a begin, an end and a rate")
    series = await load(connection, plan, begin, end)
    try:
        limits, days = await asyncio.to_thread(establish, plan.method, series, rate, plan.day_begins_min)
    except ValueError as error:
        raise PbrtqcError(Refusal.INVALID, f"the training period has too little: {error}") from error
    return replace(plan, limits=limits, training=Training(begin, end, len(series), days, rate))


async def find(connection: Connection, name: str, revision: int | None = None) -> Revision:
    """A stored revision, the newest without a number. Raises PbrtqcError."""
    found = await store.find_revision(connection, name, revision)
    if found is None:
        named = name if revision is None else f"{name}@{revision}"
        raise PbrtqcError(Refusal.NOT_FOUND, f"there is no plan {named}")
    return found


def plan_of(revision: Revision) -> Plan:
    """What a revision says. Raises PbrtqcError when another version of the program wrote it."""
    try:
        return read_plan(revision.body)
    except PlanError as error:
        raise PbrtqcError(Refusal.CONFLICT, f"{revision.version}: {error}") from error


def why_void(revision: Revision) -> str:
    """Why it may not gate; "" when it may."""
    stamp = revision.validation.stamp if revision.validation else None
    return void(stamp, revision.digest, plan_of(revision).unit, revision.test_unit)


async def load(connection: Connection, plan: Plan, begin: datetime, end: datetime) -> Series:
    """The results that the plan would have counted of those decided in [begin, end), as it would have seen them."""
    at, readings = array("q"), list[Reading]()
    known: dict[Reading, Reading] = {}  # the same few numbers come again and again: each is kept once
    stream = Stream(UUID(plan.analyzer_id), UUID(plan.test_id), plan.module)
    async for found in store.stream_results(connection, begin, end, stream):
        for one in found:
            if plan.counts(one.module, one.unit, one.ward, one.group):
                at.append(seconds(one.at))
                readings.append(known.setdefault(one.reading, one.reading))
    return Series(at, readings)


def seconds(at: datetime) -> int:
    """Whole seconds since 1970 UTC."""
    since = at - EPOCH
    return since.days * 86_400 + since.seconds


# ---- simulations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation found. `unmet`: goals that were missed, None when other biases were asked for; `kept`: as a
    validation."""

    revision: Revision
    begin: datetime
    end: datetime
    results: int
    simulation: Simulation
    unmet: tuple[str, ...] | None
    kept: bool = False

    @property
    def outcome(self) -> dict[str, object]:
        """As it is kept and shown: figures, no patient's."""
        one = self.simulation
        return {
            "results": self.results, "seed": one.seed, "runs": one.runs, "horizon": one.horizon, "places": one.places,
            "false_alarms": {
                "values": one.false.values, "days": one.false.days, "alarms": one.false.alarms,
                "alarm_days": one.false.alarm_days, "per_day": rounded(one.false.per_day),
            },
            "biases": [found_row(found) for found in one.found],
        }  # fmt: skip


def found_row(found: Found) -> dict[str, object]:
    return {
        "bias": str(found.bias), "median": found.median, "p95": found.p95, "undetected": found.undetected,
        "undetected_fraction": rounded(found.undetected_fraction),
    }  # fmt: skip


def rounded(number: Decimal) -> str:
    return f"{round(number, 4):f}"


async def run(
    connection: Connection,
    name: str,
    revision: int | None,
    begin: datetime,
    end: datetime,
    biases: Sequence[Bias] = (),
    *,
    seed: int | None = None,
    runs: int = RUNS,
    most_steps: int = MOST_STEPS,
) -> Simulated:
    """Simulate over the results decided in [begin, end); nothing is kept. Without biases those of the plan's goals.

    `seed` None: the plan's own. Raises PbrtqcError.
    """
    found = await find(connection, name, revision)
    plan = plan_of(found)
    asked = tuple(dict.fromkeys(biases)) or plan.biases
    if not _is_period(begin, end):
        raise PbrtqcError(Refusal.INVALID, f"the {_PERIOD}")
    if not asked:
        raise PbrtqcError(Refusal.INVALID, f"{found.version} has no goals: say which biases")
    if not FEWEST_RUNS <= runs <= MOST_RUNS:
        raise PbrtqcError(Refusal.INVALID, f"runs are from {FEWEST_RUNS} to {MOST_RUNS}")
    if runs * plan.horizon * len(asked) > most_steps:
        text = f"{runs} runs of {plan.horizon} patients for {len(asked)} biases are more than {most_steps:,} steps"
        raise PbrtqcError(Refusal.INVALID, text)
    series = await load(connection, plan, begin, end)
    try:
        simulation = await asyncio.to_thread(
            simulate, plan.method, plan.limits, series, asked, seed=seed_of(found.digest) if seed is None else seed,
            runs=runs, horizon=plan.horizon, day_begins_min=plan.day_begins_min,
        )  # fmt: skip
    except ValueError as error:
        raise PbrtqcError(Refusal.INVALID, str(error)) from error
    missed = None if biases else unmet(plan, simulation)
    return Simulated(found, begin, end, len(series), simulation, missed)


async def validate(
    connection: Connection,
    actor: Actor,
    name: str,
    revision: int,
    begin: datetime,
    end: datetime,
    *,
    runs: int = RUNS,
    most_steps: int = MOST_STEPS,
) -> Simulated:
    """Simulate the goals of exactly this revision with its own seed, over results that it was not trained on, and keep
    the outcome, met or not. Raises PbrtqcError."""
    _allowed(actor, Permission.QC_MANAGE)
    plan = plan_of(await find(connection, name, revision))
    if runs < FEWEST_TO_VALIDATE:
        raise PbrtqcError(Refusal.INVALID, f"a validation has {FEWEST_TO_VALIDATE} runs or more")
    if plan.training is not None and begin < plan.training.end and plan.training.begin < end:
        text = (
            f"the limits come from {plan.training.begin:%Y-%m-%d} to {plan.training.end:%Y-%m-%d}: take another period"
        )
        raise PbrtqcError(Refusal.INVALID, text)
    done = await run(connection, name, revision, begin, end, runs=runs, most_steps=most_steps)
    stamp = Stamp(done.revision.digest, ENGINE, not done.unmet)
    missed = done.unmet or ()
    await store.add_validation(connection, actor, done.revision, stamp, (begin, end), done.outcome, missed)
    met = "yes" if stamp.met else "no"
    await _audit(connection, actor, "validate", done.revision, "", digest=stamp.digest, engine=ENGINE, met=met)
    return replace(done, revision=await find(connection, name, revision), kept=True)


# ---- uses -----------------------------------------------------------------------------------------------------------


async def activate(connection: Connection, actor: Actor, name: str, revision: int, mode: Mode, reason: str) -> Revision:
    """Let a revision follow its stream from now on, in place of the one of its name that did. Raises PbrtqcError: one
    that gates wants a validation of exactly it that met its goals."""
    _allowed(actor, Permission.QC_MANAGE, reason)
    await store.lock(connection, actor.organization_id)
    found = await find(connection, name, revision)
    if found.mode == mode:
        raise PbrtqcError(Refusal.CONFLICT, f"{found.version} follows already, to {mode}")
    if mode in GATING and (why := why_void(found)):
        text = f"{found.version} may not {mode}: {why}; `labora qc pbrtqc validate {found.version}` proves it"
        raise PbrtqcError(Refusal.CONFLICT, text)
    replaced = await _end(connection, actor, name, reason)
    now: datetime = await connection.fetchval("select now()")
    await store.begin_use(connection, actor, found, mode, reason, uuid7_floor(now))
    before = replaced.version if replaced else ""
    await _audit(connection, actor, "activate", found, reason, mode=mode, replaced=before, digest=found.digest)
    return await find(connection, name, revision)


async def deactivate(
    connection: Connection, actor: Actor, name: str, reason: str, revision: int | None = None
) -> Revision:
    """Let the plan follow no more; `revision`: only if it is that. Raises PbrtqcError, also while an alarm gates."""
    _allowed(actor, Permission.QC_MANAGE, reason)
    await store.lock(connection, actor.organization_id)
    asked = await find(connection, name, revision)
    if revision is not None and not asked.mode:
        raise PbrtqcError(Refusal.CONFLICT, f"{asked.version} does not follow")
    ended = await _end(connection, actor, name, reason)
    if ended is None:
        raise PbrtqcError(Refusal.CONFLICT, f"no revision of {name} follows")
    await _audit(connection, actor, "deactivate", ended, reason)
    return await find(connection, name, ended.revision)


async def _end(connection: Connection, actor: Actor, name: str, reason: str) -> Revision | None:
    """End the use of a name, if there is one. What gates is first ended by who may: a person, with what was done."""
    used = next((one for one in await store.in_use(connection) if one.name == name), None)
    if used is None or used.use_id is None:
        return None
    state = (await store.lock_states(connection, [used.use_id], wait=True))[used.use_id]
    if state.alarm_id is not None:
        alarm = await store.find_event(connection, state.alarm_id)
        if alarm is not None and alarm.gates:
            text = f"an alarm of {used.version} gates: `labora qc pbrtqc close {alarm.id}` ends it first"
            raise PbrtqcError(Refusal.CONFLICT, text)
        if alarm is not None:
            await _closed(connection, actor, alarm, state, reason)
    await store.end_use(connection, actor, used.use_id, reason)
    return used


# ---- alarms ---------------------------------------------------------------------------------------------------------


async def close(connection: Connection, actor: Actor, alarm_id: UUID, reason: str) -> Event:
    """End an alarm: `reason` says what was found and done. The statistic begins anew, without what led to it.

    What it held follows when `flow.qc_sweep.follow` is called after the commit. Raises PbrtqcError.
    """
    _allowed(actor, Permission.QC_WRITE, reason)
    alarm = await store.find_event(connection, alarm_id)
    if alarm is None or alarm.kind != "alarm":
        raise PbrtqcError(Refusal.NOT_FOUND, "there is no such alarm")
    state = (await store.lock_states(connection, [alarm.use_id], wait=True))[alarm.use_id]
    if state.alarm_id != alarm_id:
        raise PbrtqcError(Refusal.CONFLICT, "the alarm has ended")
    event = await _closed(connection, actor, alarm, state, reason)
    told = {"alarm": str(alarm_id), "reason": reason}
    await audit.record(connection, actor, "close", "pbrtqc_event", alarm_id, told)
    if alarm.gates:
        await tell_gate(connection, actor, alarm.stream, reason)
    return event


async def tell_gate(connection: Connection, actor: Actor, stream: Stream, reason: str) -> None:
    """Let the gate of quality control know what is open now in a stream: the worst of its alarms, or none any more."""
    found = await store.open_alarms(connection, [stream.analyzer_id])
    here = [one for one in found if one.stream == stream]
    if not here:
        await qc_gate.patient_alarm_ended(connection, actor, stream, reason)
        return
    worst = [one for one in here if one.mode is Mode.HOLD] or here
    state = QcState.FAIL if worst[0].mode is Mode.HOLD else QcState.WARN
    first = min(worst, key=lambda one: one.since)
    await qc_gate.patient_alarm(connection, actor, stream, state, first.since, first.reason)


async def _closed(connection: Connection, actor: Actor, alarm: Event, state: State, reason: str) -> Event:
    event = replace(
        alarm, id=uuid7(), kind="closed", alarm_id=alarm.id, reason=reason, statistic=state.statistic,
        ordinal=state.ordinal, since=state.last_at or alarm.since, by=actor.name, suspect_from=None,
    )  # fmt: skip
    await store.add_event(connection, actor, event)
    await store.write_state(connection, replace(state, alarm_id=None, restart=state.ordinal, statistic=None))
    return event


# ---- what is shown --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """Where a plan in use stands. `void`: why it may not gate."""

    revision: Revision
    state: State
    limits: Limits
    void: str
    alarm: Event | None


async def status(connection: Connection) -> list[Status]:
    """Of all plans in use, by name."""
    used = await store.in_use(connection)
    states = await store.read_states(connection, [one.use_id for one in used if one.use_id])
    found = []
    for one in used:
        state = states.get(one.use_id) if one.use_id else None
        if state is not None:
            alarm = await store.find_event(connection, state.alarm_id) if state.alarm_id else None
            found.append(Status(one, state, plan_of(one).limits, why_void(one), alarm))
    return found


@dataclass(frozen=True, slots=True)
class ChartData:
    """What a chart of a revision shows: the statistic after each counted result, and its extremes day by day."""

    revision: Revision
    limits: Limits
    values: Sequence[store.Counted]
    days: Sequence[Day]
    events: Sequence[Event]


async def chart_data(
    connection: Connection, name: str, revision: int | None, begin: datetime, end: datetime, limit: int
) -> ChartData:
    """The newest `limit` values of what a revision's uses counted, of results measured in [begin, end)."""
    found = await find(connection, name, revision)
    plan = plan_of(found)
    values = await store.read_values(connection, found.id, begin, end, limit)
    series = Series([seconds(one.at) for one in values], [Reading(Decimal(0))] * len(values))
    days = daily(series, [one.statistic for one in values], plan.day_begins_min)
    events = [one for one in await store.read_events(connection, name) if one.plan_id == found.id]
    inside = [one for one in events if begin <= one.since < end]
    return ChartData(found, plan.limits, values, days, inside[::-1])


# ---- what all of them check and write -------------------------------------------------------------------------------


def _allowed(actor: Actor, permission: Permission, reason: str | None = None) -> None:
    if not may(actor, permission):
        raise PbrtqcError(Refusal.FORBIDDEN, f"only a user with the permission {permission} may do this")
    if reason is None:
        return
    if not reason.strip():
        raise PbrtqcError(Refusal.INVALID, "say why: it is kept")
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise PbrtqcError(Refusal.INVALID, f"the reason is longer than {LONGEST_REASON} characters, or not printable")


async def _audit(
    connection: Connection, actor: Actor, action: str, revision: Revision, reason: str, **detail: str
) -> None:
    told = {"plan": revision.version, "reason": reason, **{key: text for key, text in detail.items() if text}}
    await audit.record(connection, actor, action, "pbrtqc_plan", revision.id, told)

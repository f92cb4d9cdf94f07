"""Controls on their way to judged points: those that links sent, and those that persons enter (`flow.qc_people`).

A control is kept as it was sent (`qc_result`). Of which lot it is, is found by what the lot is called; then it is a
point: put into its run, compared with the target that was in force when it was measured, judged by the rules of the
stream's plan with the points before it, and taken to the gate. What is of no lot, or may not be judged, is kept with
the reason for a person to see, who may say of which lot it is.

A point that comes late is judged in its place. Those measured after it stay as they were judged; what they break only
with it is said of it (`domain.qc_arrival.judge_late`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.exact import shown
from interface.domain.model import SpecimenRole, Step, ValueKind
from interface.domain.qc import Evaluation, Point, QcVerdict, Stream
from interface.domain.qc_arrival import QcProblem, Recognised, Sent, judge_late, off_scale, recognise
from interface.domain.qc_lots import InUse, LotKind, LotView, TargetView, in_force
from interface.domain.qc_runs import run_of
from interface.domain.qc_state import Plan
from interface.domain.times import measured_at
from interface.domain.units import bare, canonical, convert
from interface.domain.values import read_field
from interface.domain.views import Actor
from interface.domain.westgard import z_of
from interface.errors import UnknownUnit
from interface.flow import qc_gate, qc_lots
from interface.store import audit
from interface.store import qc as rows
from interface.store.catalogue import shipped_aliases
from interface.store.controls import ControlResult
from interface.store.db import Connection
from interface.store.explanations import write_steps
from interface.store.ids import uuid7
from interface.store.qc import Arrived, Beside, PointRow
from interface.store.qc_gate import lock_judging, plan_of
from interface.store.qc_lots import in_use, lots_of, targets_of
from interface.store.version_rows import ResultVersion

log = structlog.get_logger(__name__)
_Use: TypeAlias = tuple[UUID, str, UUID, LotKind]


@dataclass(slots=True)
class _Analyzer:
    """What is known of an analyzer's controls, read once for all that are judged."""

    lots: Sequence[LotView]
    targets: Sequence[TargetView]
    used: InUse
    plans: dict[UUID, Plan] = field(default_factory=dict)


async def record(connection: Connection, actor: Actor, controls: Sequence[ControlResult]) -> list[UUID]:
    """Make points of controls that the caller's transaction has written; the ids of those that are points now.

    The caller has the analyzers' locks alone.

    What the message says of the lots of reagents and calibrators is written down too. Afterwards, when the transaction
    is committed, `flow.qc_sweep.sweep` does what follows for the patients' results.
    """
    await lots_in_use(connection, actor, controls)
    return await judge(connection, actor, controls)


async def judge(connection: Connection, actor: Actor, controls: Sequence[ControlResult]) -> list[UUID]:
    """The same for controls that may have been kept some time ago: of their tests as they are mapped now."""
    tests = {one.id: one.test_id for one in controls if one.role == SpecimenRole.QC}
    found = await rows.arrived(connection, list(tests), tests)
    if not found:
        return []
    said = {one.id: one for one in controls}
    patients = await rows.of_patients(connection, {said[one.id].barcode for one in found if said[one.id].barcode})
    problems: dict[UUID, QcProblem] = {one.id: QcProblem(doubt) for one in found if (doubt := said[one.id].doubt)} | {
        one.id: QcProblem.PATIENT_ID for one in found if said[one.id].barcode in patients
    }
    return await _judge_all(connection, actor, found, problems)


async def assign(connection: Connection, actor: Actor, one: Arrived, lot: LotView) -> list[UUID]:
    """Make a point of a control that was of no lot; a person says of which it is. The caller has the lock."""
    step = Step("recognise", "ok", f"{lot.material}, lot {lot.name}, as {actor.name} says")
    known = {one.id: Recognised(lot, None, step)}
    return await _judge_all(connection, actor, [one], {}, known)


_WORDS = {
    QcProblem.PATIENT_ID: "its id is the barcode of a patient's specimen",
    QcProblem.INCOMPLETE: "the transmission was cut",
    QcProblem.DRIVER_MISMATCH: "the message's header is not that of this driver's analyzer",
    QcProblem.UNREADABLE: "its record could not be read",
    QcProblem.UNMAPPED_CODE: "no test is mapped to its code",
}


async def _judge_all(
    connection: Connection,
    actor: Actor,
    found: Sequence[Arrived],
    problems: dict[UUID, QcProblem],
    known: dict[UUID, Recognised] | None = None,
) -> list[UUID]:
    analyzers: dict[UUID, _Analyzer] = {}
    made: list[UUID] = []
    for one in found:
        at = analyzers.get(one.analyzer_id)
        if at is None:
            of_it = [each for each in found if each.analyzer_id == one.analyzer_id]
            at = analyzers[one.analyzer_id] = await _read(connection, actor, one.analyzer_id, of_it)
        problem = problems.get(one.id) or (None if one.test_id else QcProblem.UNMAPPED_CODE)
        if problem is not None:
            await _keep_problem(connection, actor, one, problem, _WORDS[problem])
            continue
        sent = Sent(one.specimen_as_sent, one.lot_as_sent, one.level_as_sent)
        recognised = (known or {}).get(one.id) or recognise(sent, at.lots, one.measured_at)
        if recognised.lot is None:
            await _keep_problem(
                connection, actor, one, recognised.problem or QcProblem.UNKNOWN_CONTROL, recognised.step.text
            )
            continue
        await _make_point(connection, actor, one, at, recognised.lot, recognised.step)
        made.append(one.id)
    return made


async def _read(connection: Connection, actor: Actor, analyzer_id: UUID, found: Sequence[Arrived]) -> _Analyzer:
    await lock_judging(connection, actor.organization_id, analyzer_id)
    return _Analyzer(
        await lots_of(connection, analyzer_id),
        await targets_of(connection, analyzer_id, test_ids={one.test_id for one in found if one.test_id}),
        await in_use(connection, analyzer_id, min(one.measured_at for one in found)),
    )


async def _keep_problem(connection: Connection, actor: Actor, one: Arrived, problem: QcProblem, text: str) -> None:
    """A control that is no point: kept with the reason, where a person sees it."""
    if not await rows.insert_problem(connection, actor.organization_id, one.id, problem.value, text):
        return
    await audit.record(connection, actor, "qc_problem", "qc_result", one.id, {"problem": problem.value})
    telemetry.count_qc_problem(problem.value)
    log.warning("control makes no point", action="qc.problem", problem=problem.value, qc_result_id=str(one.id),
                by=actor.name)  # fmt: skip


# ---- lots in use -----------------------------------------------------------------------------------------------------


async def lots_in_use(connection: Connection, actor: Actor, controls: Iterable[ControlResult]) -> None:
    """Write down the lots that controls and calibrators which came just now name."""
    said: dict[tuple[UUID, UUID | None], list[qc_lots.Seen]] = {}
    for one in controls:
        for kind, lot in ((LotKind.REAGENT, one.reagent_lot), (LotKind.CALIBRATOR, one.calibrator_lot)):
            if lot and one.test_id is not None:
                seen = qc_lots.Seen(one.module, one.test_id, kind, lot, None, one.measured_at)
                said.setdefault((one.analyzer_id, one.message_id), []).append(seen)
    for (analyzer_id, message_id), found in said.items():
        await qc_lots.seen_many(connection, actor, analyzer_id, found, message_id)


def names_lots(versions: Sequence[ResultVersion]) -> bool:
    """Whether any of them names a lot: most analyzers name none, and are asked for each message."""
    return any([one.alike.reagent_lot or one.alike.calibrator_lot for one in versions])


class LotsSaid:
    """The lots that patients' results name, written down where they are others than before. One per process."""

    def __init__(self) -> None:
        self._known: dict[_Use, str] = {}

    async def note(
        self, connection: Connection, actor: Actor, message_id: UUID, versions: Iterable[ResultVersion], came: datetime
    ) -> dict[_Use, str]:
        """Write what is new; to be given to `keep` when the transaction is committed."""
        new: dict[_Use, str] = {}
        said: dict[UUID, list[qc_lots.Seen]] = {}
        for version in versions:
            one = version.alike
            if not (one.reagent_lot or one.calibrator_lot) or one.analyzer_id is None or one.test_id is None:
                continue
            for kind, lot in ((LotKind.REAGENT, one.reagent_lot), (LotKind.CALIBRATOR, one.calibrator_lot)):
                use = one.analyzer_id, one.module, one.test_id, kind
                if lot and self._known.get(use) != lot:
                    new[use] = lot
                    at = measured_at(version.message.instrument_at, came)
                    said.setdefault(one.analyzer_id, []).append(
                        qc_lots.Seen(one.module, one.test_id, kind, lot, None, at)
                    )
        for analyzer_id, found in said.items():
            await qc_lots.seen_many(connection, actor, analyzer_id, found, message_id)
        return new

    def keep(self, written: dict[_Use, str]) -> None:
        self._known |= written


# ---- one point -------------------------------------------------------------------------------------------------------


async def _make_point(
    connection: Connection, actor: Actor, one: Arrived, at: _Analyzer, lot: LotView, recognised: Step
) -> None:
    assert one.test_id is not None  # noqa: S101 - the caller has looked
    stream = Stream(one.analyzer_id, one.test_id, one.module)
    plan = at.plans.get(one.test_id)
    if plan is None:
        plan = at.plans[one.test_id] = await plan_of(connection, one.analyzer_id, one.test_id)
    reagent, calibrator = (
        own or at.used.lot(kind, one.module, one.test_id, one.measured_at)
        for own, kind in ((one.reagent_lot, LotKind.REAGENT), (one.calibrator_lot, LotKind.CALIBRATOR))
    )
    of_test = [each for each in at.targets if each.test_id == one.test_id]
    target = in_force(of_test, lot.id, one.module, one.test_id, reagent, one.measured_at)
    measured = _measured(one, target)
    current = _current(of_test, one, reagent)
    wanted = {each.level_number for each in current}
    around = await rows.beside(connection, stream, current, one.measured_at, one.id, plan.run_minutes)
    # A lot that is being established is measured between the levels of the one in use: it takes no place in its runs.
    # Nor does what could not be judged, or is doubted: its level is measured again, and the run is whole then.
    of_its_kind = [each for each in around.run if (each.z is not None if target else not each.target)]
    run = run_of(of_its_kind, one.measured_at, lot.level_number, plan.run_minutes)
    point = Point(
        str(one.id), one.measured_at, run or str(uuid7()), lot.level_number, str(lot.id),
        str(target.id) if target else "", measured.z, measured.number,
    )  # fmt: skip
    aims = {(str(each.lot_id), str(each.id)) for each in current}
    evaluation = measured.certain or evaluated(plan, around, point, aims, plan.levels or len(wanted) or 1)
    if one.doubts and evaluation.verdict is not QcVerdict.REJECT:  # it shows no good; what is bad all the same counts
        measured, evaluation = _doubted(one, measured), Evaluation(QcVerdict.UNKNOWN)
    steps = (recognised, *measured.steps, _run_step(run, around), _rules_step(plan, evaluation, measured))
    row = PointRow(
        one.id, stream, lot.id, target.id if target else None, lot.level_number, UUID(point.run), one.measured_at,
        measured.number, measured.z, reagent, calibrator, evaluation.verdict,
        tuple(dict.fromkeys(each.rule.value for each in evaluation.violations)),
        tuple(each.value for each in evaluation.insufficient), write_steps(steps),
    )  # fmt: skip
    await rows.insert_point(connection, actor.organization_id, row)
    await qc_gate.judge(connection, actor, stream, point, evaluation)


def evaluated(plan: Plan, around: Beside, point: Point, aims: Collection[tuple[str, str]], levels: int) -> Evaluation:
    """What the plan's rules say of a point with those around it. `aims`: lots with the targets that are in force:
    another lot or target begins anew, for the other levels' points too."""
    mates = [one for one in around.run if one.run == point.run and one.id not in {each.id for each in around.before}]
    beside = {each.id for each in mates}
    history = sorted((*around.before, *mates), key=lambda one: (one.at, one.id))
    history = [one for one in history if (one.lot, one.target) in aims]
    after = [one for one in around.after if one.id not in beside and (one.lot, one.target) in aims]
    return judge_late(plan.multirule, history, point, after, levels)


def _current(targets: Sequence[TargetView], one: Arrived, reagent_lot: str) -> list[TargetView]:
    """Those in force in this stream when the point was measured, one for each lot. `targets`: of its test."""
    assert one.test_id is not None  # noqa: S101 - as above
    found = (
        in_force(targets, lot_id, one.module, one.test_id, reagent_lot, one.measured_at)
        for lot_id in {each.lot_id for each in targets}
    )
    return [each for each in found if each is not None]


@dataclass(frozen=True, slots=True)
class Measured:
    """A control's number: in the unit of the test's results, and in SD from the target's mean; with the lines of its
    explanation. `why`: it is not judged. `certain`: of a value beyond a limit, which counts for nothing else."""

    number: Decimal | None
    z: Decimal | None
    steps: tuple[Step, ...]
    why: str = ""
    certain: Evaluation | None = None


def _measured(one: Arrived, target: TargetView | None) -> Measured:
    """The number is converted exactly: to the test's unit for whoever counts, to the target's to be compared."""
    if one.number is None:
        if (beyond := _off_scale(one, target)) is not None:
            return beyond
        text = f"{one.value or 'no value'} is no number"
        return Measured(None, None, (Step("value", "none", text),), text)
    try:
        sent = _sent_unit(one.unit, one.test_unit)
        number = one.number if sent == one.test_unit else convert(one.number, sent, one.test_unit, one.substance)
        step = Step("unit", "ok", f"{one.number:f} {sent or 'without a unit'}" + (
            f" is {number:f} {one.test_unit}" if sent != one.test_unit else ""))  # fmt: skip
        if target is None:
            text = "no target of this lot is in force"
            return Measured(number, None, (step, Step("target", "none", text)), text)
        compared = one.number if sent == target.unit else convert(one.number, sent, target.unit, one.substance)
    except UnknownUnit as error:
        return Measured(None, None, (Step("unit", "hold", error.text, inputs={"unit": one.unit}),), error.text)
    z = z_of(compared, target.mean, target.sd)
    inputs = {"target": str(target.id)}
    aim = Step("target", "ok", f"mean {target.mean:f}, SD {target.sd:f} {target.unit}".rstrip(), inputs=inputs)
    if z is None:
        text = "the target has no usable SD"
        return Measured(number, None, (step, aim, Step("z", "none", text)), text)
    return Measured(number, z, (step, aim, Step("z", "ok", f"{shown(z, 2)} SD from the mean", inputs={"z": f"{z:f}"})))


def _doubted(one: Arrived, measured: Measured) -> Measured:
    """A patient's result would be held for it: a control vouches for nothing, and counts for nothing else."""
    text = f"the analyzer says of it what would hold a patient's result: {', '.join(one.doubts)}"
    return Measured(None, None, (*measured.steps, Step("doubt", "none", text)), measured.why or text)


def _off_scale(one: Arrived, target: TargetView | None) -> Measured | None:
    """`>50` is not 50; that it is too high may be certain all the same."""
    value = read_field(one.value).value
    if one.kind != ValueKind.NUMERIC or value.number is None or value.comparator is None:
        return None
    limit = _measured(replace(one, number=value.number), target)
    found = None if limit.z is None else off_scale(value.comparator, limit.z, str(one.id))
    if found is None:
        return None
    return Measured(None, None, (Step("value", "flag", f"{one.value} is beyond a limit"), *limit.steps), certain=found)


def _sent_unit(unit: str, test_unit: str) -> str:
    """The UCUM code of the unit that the number is in, as for a patient's result. Raises UnknownUnit."""
    if not unit:
        if test_unit and not bare(test_unit):
            raise UnknownUnit("no unit was sent and the map names none")
        return test_unit
    code = canonical(unit, shipped_aliases(), test_unit)
    if not test_unit and not bare(code):
        raise UnknownUnit("a unit for a test that has none")
    return code if test_unit else ""


def _run_step(run: str | None, around: Beside) -> Step:
    if run is None:
        return Step("run", "ok", "it begins a run")
    levels = ", ".join(str(level) for level in sorted({one.level for one in around.run if one.run == run}))
    return Step("run", "ok", f"it joins the run of level {levels}", inputs={"run": run})


_VERDICTS = {QcVerdict.ACCEPT: "ok", QcVerdict.WARN: "flag", QcVerdict.REJECT: "hold", QcVerdict.UNKNOWN: "none"}


def _rules_step(plan: Plan, evaluation: Evaluation, measured: Measured) -> Step:
    text = f"{evaluation.verdict.value}: {measured.why or evaluation.text}"
    inputs = {one.rule.value: " ".join(one.points) for one in evaluation.violations}
    return Step("rules", _VERDICTS[evaluation.verdict], text, f"plan {plan.name}", inputs)

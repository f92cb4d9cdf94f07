"""What persons do with controls: enter them, say of which lot one is, exclude a point, remark on it.

Who does it is a user with `qc:write`. Each locks the analyzer's controls first of all and goes the way of a control
that a link sent (`flow.qc`); what it means for patients' results follows when the caller has committed and calls
`flow.qc_sweep.sweep`. Nothing is judged again: an excluded point stays, and counts nowhere from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from interface.domain.model import SpecimenRole, ValueKind
from interface.domain.permissions import Permission
from interface.domain.qc import QcVerdict, Stream
from interface.domain.qc_arrival import QcProblem
from interface.domain.qc_lots import LotView, unusable
from interface.domain.qc_statistics import analysed, decimals_of, presented, statistics
from interface.domain.qc_views import AnalysisView, ControlView
from interface.domain.times import CLOCK_AHEAD, CLOCK_BEHIND, earlier
from interface.domain.units import canonical, commensurable, convert
from interface.domain.values import read_field
from interface.domain.views import Actor
from interface.errors import ApiError, UnknownUnit
from interface.flow import qc_gate
from interface.flow.actors import require
from interface.flow.problems import reason_of, text_problems
from interface.flow.qc import assign as make_point
from interface.flow.qc_lots import analyzer_named, lot_named
from interface.store import audit
from interface.store import qc as rows
from interface.store.catalogue import shipped_aliases
from interface.store.db import Connection
from interface.store.qc import AnalysisFilter, Arrived, Entered, Measurements
from interface.store.qc_find import read_control
from interface.store.qc_gate import add_action, lock_judging, plan_of

NO_MORE = "an acceptable control was excluded"
LONGEST_NAME, LONGEST_COMMENT = 100, 2000  # characters
ANALYSIS_DAYS = 30  # unless another time is asked for


@dataclass(frozen=True, slots=True)
class Entry:
    """A control as a person enters it. `value` as an analyzer would send it, `unit` "" for the test's own; `lot` as
    `flow.qc_lots.lot_named` takes it; `measured_at` None: now."""

    analyzer: str
    test: str
    lot: str
    value: str
    unit: str = ""
    module: str = ""
    measured_at: datetime | None = None
    reagent_lot: str = ""
    calibrator_lot: str = ""
    comment: str = ""


async def enter(connection: Connection, actor: Actor, entry: Entry) -> ControlView:
    """Enter a control's result; it is judged as one that an analyzer sent. Raises ApiError 403, 404, 409, 422."""
    require(actor, Permission.QC_WRITE)
    analyzer_id = await analyzer_named(connection, entry.analyzer)
    await lock_judging(connection, actor.organization_id, analyzer_id)
    test = await _test(connection, entry.test)
    lot = await lot_named(connection, entry.lot)
    at = _checked(entry)
    if lot.analyzers and entry.analyzer not in lot.analyzers:
        raise ApiError(409, "conflict", f"lot {lot.name} is not measured on {entry.analyzer}")
    if why := unusable(lot, at):
        raise ApiError(409, "conflict", why)
    value = read_field(entry.value.strip()).value
    if value.kind is ValueKind.EMPTY:
        raise ApiError(422, "value", "a control needs a value")
    if test.numeric and value.number is None:
        raise ApiError(422, "value", f"the test is measured in numbers, and {entry.value.strip()!r} is none")
    shown = value.text if value.number is None else f"{value.comparator or ''}{value.text}"
    entered = Entered(
        analyzer_id, entry.module.strip(), test.id, lot.lot, lot.level, value.kind.value,
        value.number if value.comparator is None else None, shown, entry.value, _unit(entry.unit, test), at,
        entry.reagent_lot.strip(), entry.calibrator_lot.strip(), entry.comment.strip(),
    )  # fmt: skip
    id = await rows.insert_entered(connection, actor, entered)
    await audit.record(connection, actor, "create", "qc_result", id, {"lot": lot.name, "test": entry.test})
    (one,) = await rows.arrived(connection, [id])
    return await _made_point(connection, actor, one, lot)


def _checked(entry: Entry) -> datetime:
    """When it was measured. Raises ApiError for what cannot be kept."""
    problems = [
        problem
        for name, text in (
            ("value", entry.value), ("unit", entry.unit), ("module", entry.module), ("reagent lot", entry.reagent_lot),
            ("calibrator lot", entry.calibrator_lot),
        )
        for problem in text_problems(name, text, LONGEST_NAME)
    ]  # fmt: skip
    problems += text_problems("comment", entry.comment, LONGEST_COMMENT, lines=True)
    if problems:
        raise ApiError(422, "value", "; ".join(problems))
    now = datetime.now(UTC)
    at = entry.measured_at or now
    if at.tzinfo is None:
        raise ApiError(422, "value", "the time has no time zone")
    if not now - CLOCK_BEHIND <= at <= now + CLOCK_AHEAD:
        raise ApiError(
            422, "value", f"a control is entered within {CLOCK_BEHIND.days} days, and not before it is measured"
        )
    return at


def _unit(text: str, test: rows.Test) -> str:
    """What was typed as UCUM; the test's own where nothing was. Raises ApiError 422."""
    if not text.strip():
        return test.unit
    try:
        unit = canonical(text.strip(), shipped_aliases(), test.unit)
        if test.unit and commensurable(unit, test.unit, test.substance):
            return unit
    except UnknownUnit as error:
        raise ApiError(422, "value", error.text) from None
    raise ApiError(422, "value", f"{unit} cannot be converted to {test.unit or 'no unit'}")


async def _test(connection: Connection, code: str) -> rows.Test:
    found = await rows.test_named(connection, code)
    if found is None:
        raise ApiError(404, "not-found", f"there is no test {code!r}")
    return found


async def _made_point(connection: Connection, actor: Actor, one: Arrived, lot: LotView) -> ControlView:
    await make_point(connection, actor, one, lot)
    return await control_of(connection, one.id)


async def control_of(connection: Connection, id: UUID) -> ControlView:
    """One control with its explanation. Raises ApiError 404."""
    found = await read_control(connection, id)
    if found is None:
        raise ApiError(404, "not-found", "there is none of this id")
    return found


async def _begin(connection: Connection, actor: Actor, id: UUID) -> ControlView:
    """The control, read again once its analyzer is locked."""
    require(actor, Permission.QC_WRITE)
    await lock_judging(connection, actor.organization_id, (await control_of(connection, id)).analyzer_id)
    return await control_of(connection, id)


async def assign(
    connection: Connection, actor: Actor, id: UUID, lot_name: str, reason: str, test_code: str = ""
) -> ControlView:
    """Say of which lot a control is that made no point; it is judged now, in its place. `test_code`: of what, where no
    map says it. Never one whose id is a patient's specimen's: it may be a patient's result. Raises ApiError."""
    reason = reason_of(reason)
    known = await _begin(connection, actor, id)
    if known.point is not None:
        raise ApiError(409, "conflict", f"it is a point of lot {known.point.lot} already")
    if known.role != SpecimenRole.QC:
        raise ApiError(409, "conflict", f"it is no control's but a {known.role}'s")
    if known.problem is not None and known.problem.kind == QcProblem.PATIENT_ID:
        raise ApiError(409, "conflict", "its id is the barcode of a patient's specimen: it may be a patient's result")
    (one,) = await rows.arrived(connection, [id])
    if test_code or one.test_id is None:
        if one.test_id is not None and test_code != one.test:
            raise ApiError(409, "conflict", f"it is a result of {one.test}")
        if not test_code:
            raise ApiError(422, "value", "no test is mapped to its code: say which it is")
        test = await _test(connection, test_code)
        one = replace(one, test_id=test.id, test=test_code, test_unit=test.unit, substance=test.substance)
    lot = await lot_named(connection, lot_name)
    if why := unusable(lot, one.measured_at):
        raise ApiError(409, "conflict", why)
    if lot.analyzers and known.analyzer not in lot.analyzers:
        raise ApiError(409, "conflict", f"lot {lot.name} is not measured on {known.analyzer}")
    await rows.end_problem(connection, actor, id, reason)
    await audit.record(connection, actor, "assign", "qc_result", id, {"lot": lot.name, "reason": reason})
    return await _made_point(connection, actor, one, lot)


async def dismiss(connection: Connection, actor: Actor, id: UUID, reason: str) -> ControlView:
    """Let a control that made no point be none: somebody has seen to it. Raises ApiError."""
    reason = reason_of(reason)
    await _begin(connection, actor, id)
    if not await rows.end_problem(connection, actor, id, reason):
        raise ApiError(409, "conflict", "nothing about it waits for anybody")
    await audit.record(connection, actor, "dismiss", "qc_result", id, {"reason": reason})
    return await control_of(connection, id)


async def exclude(connection: Connection, actor: Actor, id: UUID, reason: str) -> ControlView:
    """Let a point count nowhere from now on. It stays on the chart, and a failure that it was stays one; what only it
    vouched for is looked at."""
    return await _excluded(connection, actor, id, reason, out=True)


async def restore(connection: Connection, actor: Actor, id: UUID, reason: str) -> ControlView:
    """Let an excluded point count again."""
    return await _excluded(connection, actor, id, reason, out=False)


async def _excluded(connection: Connection, actor: Actor, id: UUID, reason: str, *, out: bool) -> ControlView:
    reason = reason_of(reason)
    known = await _begin(connection, actor, id)
    if known.point is None or known.test_id is None:
        raise ApiError(409, "conflict", "it is no point")
    if (known.point.excluded_at is not None) is out:
        raise ApiError(409, "conflict", "it is excluded already" if out else "it is not excluded")
    verb, stream = "exclude" if out else "restore", await rows.stream_of(connection, id)
    await rows.set_excluded(connection, actor, id, reason if out else None)
    await add_action(connection, actor, stream, verb, reason, qc_result_id=id)
    await audit.record(connection, actor, verb, "qc_result", id, {"reason": reason})
    await qc_gate.refresh(connection, actor, stream, f"{actor.name} has {verb}d a point", id)
    if not out:
        await qc_gate.look_no_more(connection, actor, stream, id, NO_MORE)
    elif known.point.verdict in (QcVerdict.ACCEPT, QcVerdict.WARN):
        await qc_gate.look_at_unvouched(connection, actor, stream, [id], NO_MORE)
    return await control_of(connection, id)


async def comment(connection: Connection, actor: Actor, id: UUID, text: str) -> ControlView:
    """Say something of a control; what was said is kept, and stands on the chart. Raises ApiError."""
    text = text.strip()
    if not text:
        raise ApiError(422, "value", "a comment needs words")
    for problem in text_problems("comment", text, LONGEST_COMMENT, lines=True):
        raise ApiError(422, "value", problem)
    known = await _begin(connection, actor, id)
    if known.point is None:
        raise ApiError(409, "conflict", "it is no point of a stream")
    await add_action(connection, actor, await rows.stream_of(connection, id), "comment", text, qc_result_id=id)
    await audit.record(connection, actor, "comment", "qc_result", id)
    return await control_of(connection, id)


# ---- analysis --------------------------------------------------------------------------------------------------------


async def analysis(connection: Connection, filter: AnalysisFilter) -> list[AnalysisView]:
    """What the counted points of each stream, lot and target come to, in the unit of the test's results."""
    allowable: dict[Stream, Decimal | None] = {}
    made = []
    for one in await rows.measurements(connection, filter):
        if one.stream not in allowable:
            plan = await plan_of(connection, one.stream.analyzer_id, one.stream.test_id)
            allowable[one.stream] = plan.allowable_error
        made.append(_analysed(one, allowable[one.stream]))
    return made


def window(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """The time of an analysis: a month to now unless another is asked for."""
    until = until or datetime.now(UTC) + CLOCK_AHEAD
    return since or earlier(until, timedelta(days=ANALYSIS_DAYS)), until


def _analysed(one: Measurements, allowable: Decimal | None) -> AnalysisView:
    own = statistics(one.numbers)
    assert own is not None  # noqa: S101 - a group has a row
    target = _target(one)
    found = analysed(own, *target, allowable) if target else None
    decimals = decimals_of(one.numbers)
    return AnalysisView(
        one.stream.analyzer_id, one.analyzer, one.stream.module, one.test, one.unit, one.material, one.lot_id, one.lot,
        one.level, one.level_number, one.target_id, target[0] if target else None, target[1] if target else None,
        own.n, own.mean if own.n == 1 else presented(own.mean, decimals) or own.mean, presented(own.sd, decimals),
        presented(own.cv), own.minimum, own.maximum, presented(found.bias) if found else None,
        presented(found.sdi) if found else None, presented(found.total_error) if found else None, allowable,
        presented(found.sigma) if found else None, one.first_at, one.last_at,
    )  # fmt: skip


def _target(one: Measurements) -> tuple[Decimal, Decimal] | None:
    """Mean and SD in the unit of the test's results; None without a target."""
    if one.mean is None or one.sd is None:
        return None
    if one.target_unit == one.unit:
        return one.mean, one.sd
    try:
        return (
            convert(one.mean, one.target_unit, one.unit, one.substance),
            convert(one.sd, one.target_unit, one.unit, one.substance),
        )
    except UnknownUnit:
        return None

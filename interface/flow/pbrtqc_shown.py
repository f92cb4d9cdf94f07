"""Plans, simulations, alarms and charts of patient-based quality control as API and command line show them."""

from __future__ import annotations

from datetime import date, timedelta

from interface.domain.pbrtqc import Limits
from interface.domain.pbrtqc_plan import Goal, Plan
from interface.flow.pbrtqc import ChartData, PbrtqcError, Simulated, Status, plan_of, why_void
from interface.store.pbrtqc import Event, Revision, Validation

_BEGIN = date(1970, 1, 1)


def revision(one: Revision) -> dict[str, object]:
    """A revision in a list. `void`: why it may not gate."""
    try:
        plan, void = plan_of(one), why_void(one)
    except PbrtqcError as error:  # written by another version of the program: listed all the same
        plan, void = None, str(error)
    return {
        "version": one.version, "name": one.name, "revision": one.revision, "analyzer": one.analyzer,
        "module": one.stream.module, "test": one.test, "mode": one.mode, "since": one.since, "by": one.by,
        "statistic": plan.method.statistic if plan else "", "block": plan.method.block if plan else None,
        "low": plan.limits.low if plan else None, "high": plan.limits.high if plan else None, "void": void,
        "validated": one.validation.at if one.validation else None, "author": one.author, "created_at": one.created_at,
        "reason": one.reason, "digest": one.digest,
    }  # fmt: skip


def whole(one: Revision) -> dict[str, object]:
    """A revision with everything it says. Raises PbrtqcError when it cannot be read."""
    plan = plan_of(one)
    return {**revision(one), "plan": _plan(plan), "validation": _validation(one.validation)}


def _plan(plan: Plan) -> dict[str, object]:
    method, training = plan.method, plan.training
    return {
        "unit": plan.unit,
        "method": {
            "statistic": method.statistic, "block": method.block, "weight": method.weight, "outlying": method.outlying,
            "low": method.low, "high": method.high, "boxcox": method.boxcox,
            "restart_after_min": method.restart_after_min,
        },
        "limits": limits(plan.limits),
        "training": None if training is None else {
            "from": training.begin, "to": training.end, "results": training.results, "days": training.days,
            "rate": training.rate,
        },
        "excluded_wards": plan.excluded_wards, "excluded_groups": plan.excluded_groups,
        "day_begins_min": plan.day_begins_min, "goals": [goal(one) for one in plan.goals],
        "most_false_alarms": plan.most_false_alarms, "horizon": plan.horizon,
    }  # fmt: skip


def limits(one: Limits) -> dict[str, object]:
    return {"low": one.low, "centre": one.centre, "high": one.high, "sd": one.sd}


def goal(one: Goal) -> dict[str, object]:
    return {
        "name": one.name, "bias": str(one.biases[1])[1:], "median": one.median, "p95": one.p95,
        "undetected": one.undetected,
    }  # fmt: skip


def _validation(one: Validation | None) -> dict[str, object] | None:
    if one is None:
        return None
    return {
        "at": one.at, "by": one.by, "met": one.stamp.met, "unmet": one.unmet, "engine": one.stamp.engine,
        "from": one.begin, "to": one.end, **one.outcome,
    }  # fmt: skip


def simulated(done: Simulated) -> dict[str, object]:
    return {
        "version": done.revision.version, "from": done.begin, "to": done.end,
        "met": None if done.unmet is None else not done.unmet, "unmet": done.unmet, "kept": done.kept, **done.outcome,
    }  # fmt: skip


def status(one: Status) -> dict[str, object]:
    """Where a plan in use stands. `inside`: None while there are too few values for a statistic."""
    statistic = one.state.statistic
    return {
        "version": one.revision.version, "analyzer": one.revision.analyzer, "module": one.revision.stream.module,
        "test": one.revision.test, "mode": one.revision.mode, "values": one.state.ordinal, "statistic": statistic,
        "low": one.limits.low, "high": one.limits.high,
        "inside": None if statistic is None else one.limits.low <= statistic <= one.limits.high,
        "last_at": one.state.last_at, "alarm": one.alarm.id if one.alarm else None,
        "gates": one.alarm is not None and one.alarm.gates, "alarm_since": one.alarm.since if one.alarm else None,
        "void": one.void,
    }  # fmt: skip


def event(one: Event) -> dict[str, object]:
    return {
        "id": one.id, "kind": one.kind, "alarm": one.alarm_id, "mode": one.mode, "gates": one.gates, "side": one.side,
        "statistic": one.statistic, "bound": one.bound, "value": one.ordinal, "since": one.since,
        "suspect_from": one.suspect_from, "reason": one.reason,
        "by": one.by, "at": one.created_at,
    }  # fmt: skip


def chart(data: ChartData) -> dict[str, object]:
    """`result_version` names what was counted, for who may read results; no value of a patient is here."""
    return {
        "version": data.revision.version, "analyzer": data.revision.analyzer, "module": data.revision.stream.module,
        "test": data.revision.test, "limits": limits(data.limits),
        "values": [
            {"value": one.ordinal, "at": one.at, "statistic": one.statistic, "result_version": one.version_id}
            for one in data.values
        ],
        "days": days(data), "events": [event(one) for one in data.events],
    }  # fmt: skip


def days(data: ChartData) -> list[dict[str, object]]:
    """The extremes of each day."""
    return [
        {
            "day": _BEGIN + timedelta(days=one.number), "values": one.values, "low": one.low, "high": one.high,
            "outside": one.low < data.limits.low or one.high > data.limits.high,
        }
        for one in data.days
    ]  # fmt: skip

"""Plans of quality control, and where each stream stands: which controls are due or overdue. API and CLI share it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from interface.domain.facts import QcState
from interface.domain.permissions import Permission
from interface.domain.qc import Stream
from interface.domain.qc_state import Plan
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow.actors import require
from interface.flow.qc_gate import refresh
from interface.store import audit
from interface.store import qc_gate as rows
from interface.store.db import Connection
from interface.store.qc_gate import PlanView

DUE_MINUTES = 60  # before a stream expires a control is due
MOST_MINUTES, MOST_LEVELS = 90 * 24 * 60, 9


async def stream_of(connection: Connection, analyzer: str, test: str, module: str = "") -> Stream:
    """A stream by the names of its analyzer and test. Raises ApiError 404."""
    analyzer_id, test_id = await rows.ids_of(connection, analyzer, test)
    if analyzer_id is None:
        raise ApiError(404, "not-found", f"there is no analyzer {analyzer}")
    if test_id is None:
        raise ApiError(404, "not-found", f"there is no test {test}")
    return Stream(analyzer_id, test_id, module)


# ---- status ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """Where a stream stands at a time. `due`: "", due, overdue; `wanted`: what it takes, in words."""

    analyzer: str
    module: str
    test: str
    state: QcState
    since: datetime | None
    last_ok_at: datetime | None
    expires_at: datetime | None
    due: str
    action_due: bool
    wanted: str
    failed_id: UUID | None
    plan: str
    alarm: str  # what the patients' own results say


async def status(
    connection: Connection, now: datetime | None = None, *, due_minutes: int = DUE_MINUTES, only_due: bool = False
) -> list[StreamStatus]:
    """Every stream, and those that have a target and were never controlled. `only_due`: where a control is wanted now,
    or within so many minutes, or something is to be documented."""
    now = now or datetime.now(UTC)
    found = [_status(row, now, timedelta(minutes=due_minutes)) for row in await rows.all_streams(connection)]
    found += [
        StreamStatus(
            analyzer, module, test, QcState.UNKNOWN, None, None, None, "overdue", False, "a first control", None, "", ""
        )
        for analyzer, module, test in await rows.never_controlled(connection)
    ]  # fmt: skip
    return [one for one in found if one.due or one.action_due or not only_due]


def _status(row: rows.StreamRow, now: datetime, ahead: timedelta) -> StreamStatus:
    state = row.history.at(now).state
    due, wanted = "", ""
    if state is QcState.FAIL:  # by a control, or by the patients' own results, whose alarm a person ends
        due = "overdue"
        wanted = row.alarm_reason if row.failed_id is None else row.reason.partition("wanted: ")[2]
    elif state in (QcState.EXPIRED, QcState.UNKNOWN):
        due, wanted = "overdue", "an acceptable control"
    elif row.expires_at is not None and row.expires_at - ahead <= now:
        due, wanted = "due", f"an acceptable control before {row.expires_at:%Y-%m-%d %H:%M} UTC"
    elif row.alarm:
        wanted = row.alarm_reason
    return StreamStatus(
        row.analyzer, row.stream.module, row.test, state, row.since, row.last_ok_at, row.expires_at, due,
        row.action_due, wanted, row.failed_id, row.plan, row.alarm.value if row.alarm else "",
    )  # fmt: skip


# ---- plans -----------------------------------------------------------------------------------------------------------


async def set_plan(connection: Connection, actor: Actor, plan: Plan) -> list[PlanView]:
    """Say how the streams of an analyzer, of a test, of both or of all are controlled; all plans as they are then.

    Every stream that it speaks of is gone through anew. Needs `qc:manage`. Raises ApiError.
    """
    require(actor, Permission.QC_MANAGE)
    _check(plan)
    analyzer_id, test_id = await _of(connection, plan)
    await rows.lock_plans(connection, actor.organization_id)
    version = await rows.set_plan(connection, actor.organization_id, analyzer_id, test_id, plan)
    told = {
        "analyzer": plan.analyzer, "test": plan.test, "version": str(version), "levels": str(plan.levels),
        "interval_minutes": "" if plan.interval_minutes is None else str(plan.interval_minutes),
        "rules": " ".join(plan.rules), "mode": plan.mode.value, "before_first": str(plan.before_first).lower(),
    }  # fmt: skip
    return await _changed(connection, actor, "set", analyzer_id, test_id, told)


async def end_plan(connection: Connection, actor: Actor, analyzer: str, test: str) -> list[PlanView]:
    """Take a plan out of use: the next more general one holds. Needs `qc:manage`. Raises ApiError."""
    require(actor, Permission.QC_MANAGE)
    plan = Plan(analyzer, test)
    analyzer_id, test_id = await _of(connection, plan)
    await rows.lock_plans(connection, actor.organization_id)
    if not await rows.end_plan(connection, analyzer_id, test_id):
        raise ApiError(404, "not-found", "there is no such plan")
    return await _changed(connection, actor, "end", analyzer_id, test_id, {"analyzer": analyzer, "test": test})


async def _changed(
    connection: Connection, actor: Actor, action: str, analyzer_id: UUID | None, test_id: UUID | None,
    told: dict[str, str],
) -> list[PlanView]:  # fmt: skip
    await audit.record(connection, actor, f"qc_plan_{action}", "qc_plan", None, told)
    streams = [row.stream for row in await rows.all_streams(connection)]
    streams = [one for one in streams if analyzer_id in (None, one.analyzer_id) and test_id in (None, one.test_id)]
    for stream in sorted(streams, key=lambda one: (one.analyzer_id, one.test_id, one.module)):
        await refresh(connection, actor, stream, "another plan")
    return await rows.plans(connection)


async def _of(connection: Connection, plan: Plan) -> tuple[UUID | None, UUID | None]:
    analyzer_id, test_id = await rows.ids_of(connection, plan.analyzer, plan.test)
    if plan.analyzer and analyzer_id is None:
        raise ApiError(404, "not-found", f"there is no analyzer {plan.analyzer}")
    if plan.test and test_id is None:
        raise ApiError(404, "not-found", f"there is no test {plan.test}")
    return analyzer_id, test_id


def _check(plan: Plan) -> None:
    problems = []
    if not 0 <= plan.levels <= MOST_LEVELS:
        problems.append(f"levels are from 0 to {MOST_LEVELS}")
    if not 1 <= plan.run_minutes <= MOST_MINUTES:
        problems.append(f"the minutes of a run are from 1 to {MOST_MINUTES}")
    if plan.interval_minutes is not None and not 1 <= plan.interval_minutes <= MOST_MINUTES:
        problems.append(f"the minutes between runs are from 1 to {MOST_MINUTES}")
    if len(set(plan.rules)) < len(plan.rules):
        problems.append("a rule is named twice")
    if plan.allowable_error is not None and not (plan.allowable_error.is_finite() and plan.allowable_error > 0):
        problems.append("the allowable error is a number of percent above 0")
    try:
        ZoneInfo(plan.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems.append("there is no such time zone")
    if problems:
        raise ApiError(422, "value", "; ".join(problems))

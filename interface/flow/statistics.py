"""Reports of the laboratory's own work: how much was done, how long it took. API and command line share them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from interface.domain.model import Priority
from interface.domain.statistics import By, Period, Target, TurnaroundReport, WorkloadReport
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow.changes import refuse
from interface.flow.qc_reports import zone_named
from interface.store import actors, audit
from interface.store import reports as report_rows
from interface.store import statistics as rows
from interface.store.db import Connection

DEFAULT_DAYS, MOST_DAYS = 30, 366
YEARS = range(1900, 3000)  # days about their ends are still days in every zone
MOST_TARGETS, MOST_MINUTES = 500, 60 * 24 * 60


async def period_of(
    connection: Connection, first: date | None, last: date | None, zone: str = "", now: datetime | None = None
) -> Period:
    """Whole days of the zone, the reports' own if none is given; the last 30 unless days are given. Raises ApiError."""
    if any(day is not None and day.year not in YEARS for day in (first, last)):
        raise ApiError(422, "value", f"the days are of the years {YEARS.start} to {YEARS[-1]}")
    name = zone or (await report_rows.get_settings(connection)).zone
    where = zone_named(name)
    today = (now or datetime.now(UTC)).astimezone(where).date()
    last = last or (today if first is None else min(today, first + timedelta(days=MOST_DAYS - 1)))
    first = first or last - timedelta(days=DEFAULT_DAYS - 1)
    if not first <= last or (last - first).days >= MOST_DAYS:
        raise ApiError(422, "value", f"the days are at most {MOST_DAYS}, the first not after the last")
    return Period(_midnight(first, where), _midnight(last + timedelta(days=1), where), where)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


async def workload(connection: Connection, period: Period, by: By) -> WorkloadReport:
    found, total = await rows.workload(connection, period, by)
    name = await actors.laboratory_name(connection)
    return WorkloadReport(name, period.begin, period.end, str(period.zone), by, found, total)


async def turnaround(connection: Connection, period: Period, by: By) -> TurnaroundReport:
    found, total = await rows.turnaround(connection, period, by)
    name, aims = await actors.laboratory_name(connection), await rows.targets(connection)
    return TurnaroundReport(name, period.begin, period.end, str(period.zone), by, found, total, aims)


async def targets(connection: Connection) -> tuple[Target, ...]:
    return await rows.targets(connection)


async def put_targets(connection: Connection, actor: Actor, new: Sequence[Target]) -> tuple[Target, ...]:
    """In place of all there are. Raises ApiError with everything that is wrong."""
    problems = [f"there are at most {MOST_TARGETS} targets"] if len(new) > MOST_TARGETS else []
    if any(not 1 <= one.minutes <= MOST_MINUTES for one in new):
        problems.append(f"minutes are from 1 to {MOST_MINUTES}")
    known = {priority.value for priority in Priority}
    problems += [f"priority is one of {', '.join(sorted(known))}" for one in new if one.priority not in known | {""}]
    codes = sorted({one.test for one in new if one.test})
    problems += [f'there is no test "{code}"' for code in await rows.unknown_tests(connection, codes)]
    places = [(one.stage, one.test, one.department, one.priority) for one in new]
    problems += ["two targets are of the same"] if len(set(places)) < len(places) else []
    refuse(problems)
    before = await rows.targets(connection)
    await rows.put_targets(connection, actor.organization_id, new)
    after = await rows.targets(connection)
    told = {"before": "; ".join(map(_words, before)), "after": "; ".join(map(_words, after))}
    action = "update" if before != after else "read"
    await audit.record(connection, actor, action, "turnaround_target", None, told)
    return after


def _words(target: Target) -> str:
    of = ", ".join(filter(None, (target.test, target.department, target.priority))) or "all"
    return f"{of}: {target.stage} within {target.minutes} min"

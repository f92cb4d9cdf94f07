"""Charts and monthly reports of quality control, put together from what is stored. API and command line share it.

Both are read, never kept: what was excluded or said later is in a chart that is drawn later, and says when it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from interface.domain.exact import in_unit, rounded
from interface.domain.qc import Chart, ChartLevel, ChartMark, ChartPoint, PointKind, QcVerdict, Stream, Target
from interface.domain.qc_lots import AnalyzerLotView, LotKind, TargetView
from interface.domain.qc_report import Deed, Exclusion, LotInUse, LotReport, MonthReport, StreamReport
from interface.domain.qc_state import Plan
from interface.domain.qc_statistics import analysed, statistics
from interface.domain.views import Actor, LabTestView
from interface.errors import UnknownUnit
from interface.flow.problems import OrderError
from interface.store import actors, catalogue_rows, qc_charts, qc_gate, qc_lots, worksheets
from interface.store.db import Connection
from interface.store.qc_charts import PointRow, level_name
from interface.store.qc_lots import TargetFilter

MOST_DAYS, MOST_POINTS = 1100, 20_000  # of one chart: three years; of more points nobody sees one
DEFAULT_DAYS = 30
_DEEDS = {
    "corrective": PointKind.ACTION, "maintenance": PointKind.ACTION, "look_back": PointKind.ACTION,
    "comment": PointKind.COMMENT, "restore": PointKind.COMMENT,
}  # fmt: skip
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Window:
    """The time that a chart is of, in the laboratory's zone."""

    begin: datetime
    end: datetime
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class _Read:
    """Everything that was read of a stream in a window."""

    stream: Stream
    analyzer: str
    test: LabTestView
    rows: Sequence[PointRow]
    targets: Sequence[TargetView]
    in_use: Sequence[AnalyzerLotView]
    deeds: Sequence[Deed]
    window: Window


# ---- charts ---------------------------------------------------------------------------------------------------------


def zone_named(name: str) -> tzinfo:
    """An IANA time zone. Raises OrderError."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise OrderError(["the time zone is an IANA name such as Asia/Jakarta"]) from None


def days_of(first: date | None, last: date | None, days: int, zone: tzinfo, now: datetime) -> Window:
    """Whole days from `first` to `last`, so many up to today where neither is said. Raises OrderError."""
    if not 1 <= days <= MOST_DAYS:
        raise OrderError([f"a chart is of 1 to {MOST_DAYS} days"])
    try:
        if last is None:
            last = now.astimezone(zone).date() if first is None else first + timedelta(days=days - 1)
        begin = first or last - timedelta(days=days - 1)
        after = last + timedelta(days=1)
        if not timedelta(0) < after - begin <= timedelta(days=MOST_DAYS):
            raise OrderError([f"a chart is of days of which the last is not before the first, {MOST_DAYS} at most"])
        return Window(_midnight(begin, zone), _midnight(after, zone), zone)
    except OverflowError:
        raise OrderError(["there are no such days"]) from None


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def month_of(month: str, zone: tzinfo) -> Window:
    """`2026-11`, whole. Raises OrderError."""
    found = _MONTH.fullmatch(month)
    if found is None or not 1970 <= int(found[1]) <= 9998:
        raise OrderError(["a month is written as 2026-11"])
    year, number = int(found[1]), int(found[2])
    begin = datetime(year, number, 1, tzinfo=zone)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=zone)
    return Window(begin.astimezone(UTC), end.astimezone(UTC), zone)


async def find_stream(
    connection: Connection, analyzer: str, test: str, module: str | None = None
) -> tuple[Stream, Plan]:
    """The stream of these names and its plan; no module: the only one that was measured on. Raises OrderError."""
    analyzer_id = await worksheets.analyzer_id(connection, analyzer)
    test_id = await worksheets.test_id(connection, test)
    problems = [] if analyzer_id else [f'there is no analyzer "{analyzer}"']
    problems += [] if test_id else [f'there is no test "{test}"']
    if analyzer_id is None or test_id is None:
        raise OrderError(problems, missing=True)
    if module is None:
        found = await qc_charts.modules(connection, analyzer_id, test_id)
        if len(found) > 1:
            names = ", ".join(f'"{name}"' for name in found)
            raise OrderError([f"{test} is measured on several modules of {analyzer}: say which, of {names}"])
        module = found[0] if found else ""
    return Stream(analyzer_id, test_id, module), await qc_gate.plan_of(connection, analyzer_id, test_id)


async def chart(
    connection: Connection,
    analyzer: str,
    test: str,
    *,
    module: str | None = None,
    days: int = DEFAULT_DAYS,
    first: date | None = None,
    last: date | None = None,
    zone: tzinfo | None = None,
    now: datetime | None = None,
) -> tuple[Chart, tzinfo]:
    """A stream's chart and the zone it is read in, that of its plan if none is given.

    Of the last `days`, today included; or of the days from `first` to `last`, of which one may be left out. Whether
    somebody may read it is the caller's to ask (`qc:read`). Raises OrderError.
    """
    stream, plan = await find_stream(connection, analyzer, test, module)
    zone, now = zone or ZoneInfo(plan.timezone), now or datetime.now(UTC)
    window = days_of(first, last, days, zone, now)
    [of] = await catalogue_rows.read_tests(connection, [test])
    read = await _read(connection, stream, analyzer, of, window)
    return _chart(read, await _state(connection, stream, now)), zone


async def _read(connection: Connection, stream: Stream, analyzer: str, test: LabTestView, window: Window) -> _Read:
    rows = await qc_charts.points(connection, stream, window.begin, window.end, MOST_POINTS + 1)
    if len(rows) > MOST_POINTS:
        raise OrderError([f"there are more than {MOST_POINTS} points in that time: ask for fewer days"])
    every = TargetFilter(analyzer_id=stream.analyzer_id, test_id=stream.test_id, ended=True)
    targets = [_in_unit_of(test, one) for one in await qc_lots.find_targets(connection, every)]
    used = await qc_lots.in_use(connection, stream.analyzer_id, window.begin)
    return _Read(
        stream, analyzer, test, rows,
        [one for one in targets if one.module in ("", stream.module)],
        [one for one in used.lots if one.module in ("", stream.module) and one.test_id in (None, stream.test_id)],
        await qc_charts.deeds(connection, stream, window.begin, window.end), window,
    )  # fmt: skip


def _in_unit_of(test: LabTestView, target: TargetView) -> TargetView:
    """As points are: in the test's unit. One that cannot be converted keeps its own, which the chart then names."""
    try:
        mean = in_unit(target.mean, target.unit, test.unit, test.substance)
        sd = in_unit(target.sd, target.unit, test.unit, test.substance)
    except UnknownUnit:
        return target
    if target.unit != test.unit:  # a converted number has no more digits than somebody reads
        mean, sd = rounded(mean, 4), rounded(sd, 4)
    return replace(target, mean=mean, sd=sd, unit=test.unit)


async def _state(connection: Connection, stream: Stream, now: datetime) -> str:
    row = await qc_gate.stream_row(connection, stream)
    return row.history.at(now).state.value if row is not None else "unknown"


def _chart(read: _Read, state: str) -> Chart:
    test, window = read.test, read.window
    return Chart(
        read.analyzer, read.stream.module, test.code, test.name, test.unit, window.begin, window.end,
        _levels(read), tuple(_point(row) for row in read.rows), tuple(_marks(read)), state,
    )  # fmt: skip


def _lot_name(material: str, lot: str) -> str:
    return f"{material} {lot}".strip()


def _point(row: PointRow) -> ChartPoint:
    note = row.comment
    if row.excluded_at is not None:
        note = "; ".join(filter(None, (f"excluded: {row.exclude_reason} ({row.excluded_by})", row.comment)))
    return ChartPoint(
        str(row.id), row.at, level_name(row.level, row.level_number), _lot_name(row.material, row.lot), row.number,
        row.z, row.verdict, row.rules, row.excluded_at is not None, note,
    )  # fmt: skip


def _levels(read: _Read) -> tuple[ChartLevel, ...]:
    """The lots that were measured or had a target in the window, by level; of one level in the order of their time."""
    begin, end = read.window.begin, read.window.end
    first: dict[tuple[int, str, str], datetime] = {}
    periods: dict[tuple[int, str, str], list[Target]] = {}
    judged = {row.target_id for row in read.rows}
    for one in read.targets:
        within = one.valid_from < end and (one.end is None or one.end > begin) and one.end != one.valid_from
        if within or one.id in judged:
            place = one.level_number, level_name(one.level, one.level_number), _lot_name(one.material, one.lot)
            periods.setdefault(place, []).append(one.as_target())
            first.setdefault(place, one.valid_from)
    for row in {row.lot_id: row for row in reversed(read.rows)}.values():  # the first of each lot
        place = row.level_number, level_name(row.level, row.level_number), _lot_name(row.material, row.lot)
        first.setdefault(place, row.at)
    return tuple(
        ChartLevel(level, number, lot, tuple(sorted(periods.get(place, ()), key=lambda one: one.valid_from)))
        for place in sorted(first, key=lambda place: (place[0], place[1], first[place], place[2]))
        for number, level, lot in [place]
    )


# ---- marks ----------------------------------------------------------------------------------------------------------


def _marks(read: _Read) -> list[ChartMark]:
    marks = [*_target_marks(read), *_reagent_marks(read)]
    marks += [
        ChartMark(deed.at, _DEEDS[deed.kind], f"{deed.text} ({deed.by})", deed.level)
        for deed in read.deeds
        if deed.kind in _DEEDS
    ]
    return sorted(marks, key=lambda mark: mark.at)


def _target_marks(read: _Read) -> Iterable[ChartMark]:
    """A lot's first target is a new lot, each further one another target."""
    last: dict[tuple[object, ...], TargetView] = {}
    for one in sorted(read.targets, key=lambda one: (one.valid_from, one.id)):
        place = one.lot_id, one.module, one.reagent_lot
        before, last[place] = last.get(place), one
        if not read.window.begin < one.valid_from < read.window.end or one.end == one.valid_from:
            continue
        now = f"{one.mean:f} ± {one.sd:f}"
        level = level_name(one.level, one.level_number)
        if before is None:
            yield ChartMark(one.valid_from, PointKind.LOT, f"{_lot_name(one.material, one.lot)}: {now}", level)
        elif (before.mean, before.sd) != (one.mean, one.sd):
            yield ChartMark(one.valid_from, PointKind.TARGET, f"{before.mean:f} ± {before.sd:f} → {now}", level)


def _reagent_marks(read: _Read) -> Iterable[ChartMark]:
    """Another reagent or calibrator lot: as it was entered, else from the first point that was measured with it."""
    said: set[str] = set()
    for one in read.in_use:
        if one.kind in (LotKind.REAGENT, LotKind.CALIBRATOR) and read.window.begin < one.from_at < read.window.end:
            yield ChartMark(one.from_at, PointKind.REAGENT, f"{one.kind} lot {one.lot}")
        said.add(one.lot)
    last = ""
    for row in read.rows:
        if row.reagent_lot and row.reagent_lot != last:
            if last and row.reagent_lot not in said:
                yield ChartMark(row.at, PointKind.REAGENT, f"reagent lot {row.reagent_lot} after {last}")
            last = row.reagent_lot


# ---- the month's report ---------------------------------------------------------------------------------------------


async def month(
    connection: Connection, actor: Actor, month: str, *, zone: tzinfo | None = None, now: datetime | None = None
) -> MonthReport:
    """A month of every stream of the laboratory, printed by `actor`. Raises OrderError."""
    zone = zone or ZoneInfo(await _usual_zone(connection))
    window = month_of(month, zone)
    now = now or datetime.now(UTC)
    tests = {one.code: one for one in await catalogue_rows.read_tests(connection)}
    reports = []
    for name in await qc_charts.streams(connection, window.begin, window.end):
        read = await _read(connection, name.stream, name.analyzer, tests[name.test], window)
        reports.append(await _report(connection, read, now))
    return MonthReport(
        await actors.laboratory_name(connection), month, window.begin, window.end, zone, tuple(reports),
        tuple(await qc_charts.unjudged(connection, window.begin, window.end)), now,
        actor.name,
    )  # fmt: skip


async def _usual_zone(connection: Connection) -> str:
    """That of the most general plan."""
    plans = await qc_gate.plans(connection)
    return plans[0].plan.timezone if plans else Plan().timezone


async def _report(connection: Connection, read: _Read, now: datetime) -> StreamReport:
    stream, window = read.stream, read.window
    plan = await qc_gate.plan_of(connection, stream.analyzer_id, stream.test_id)
    drawn = _chart(read, await _state(connection, stream, now))
    exclusions = [
        Exclusion(point, row.excluded_at, row.excluded_by, row.exclude_reason)
        for row, point in zip(read.rows, drawn.points, strict=True)
        if row.excluded_at is not None
    ]
    return StreamReport(
        replace(drawn, state=""), drawn.state, plan_words(plan), plan.allowable_error,
        tuple(_lot_reports(read, drawn, plan.allowable_error)),
        tuple(point for point in drawn.points if point.verdict in (QcVerdict.WARN, QcVerdict.REJECT)),
        tuple(read.deeds), tuple(exclusions),
        tuple(
            LotInUse(one.kind.value, one.lot, one.from_at, one.ended_at, one.expires_on)
            for one in read.in_use
            if one.from_at < window.end
        ),
        tuple(await qc_charts.lookbacks(connection, stream, window.begin, window.end)),
    )  # fmt: skip


def _lot_reports(read: _Read, drawn: Chart, allowable: Decimal | None) -> Iterable[LotReport]:
    for level in drawn.levels:
        mine = [
            (row, point)
            for row, point in zip(read.rows, drawn.points, strict=True)
            if (point.level, point.lot) == (level.level, level.lot)
        ]
        counted = [(row, row.number) for row, point in mine if row.number is not None and not point.excluded]
        newest = level.targets[-1] if level.targets else None
        own = statistics(number for _, number in counted)
        judged = statistics(number for row, number in counted if newest and str(row.target_id) == newest.id)
        about = [one for one in read.targets if _lot_name(one.material, one.lot) == level.lot]
        yield LotReport(
            level.level,
            mine[0][0].material if mine else about[0].material,
            mine[0][0].lot if mine else about[0].lot,
            mine[0][0].expires_on if mine else None,
            level.targets,
            own,
            analysed(judged, newest.mean, newest.sd, allowable) if judged is not None and newest is not None else None,
            warned=sum(point.verdict is QcVerdict.WARN for _, point in mine),
            rejected=sum(point.verdict is QcVerdict.REJECT for _, point in mine),
            excluded=sum(point.excluded for _, point in mine),
        )


def plan_words(plan: Plan) -> str:
    """A plan in words."""
    rules = " ".join(plan.rules) or "by the number of levels"
    parts = [plan.name, f"rules: {rules} ({plan.mode})"]
    if plan.levels:
        parts.append(f"levels in a run: {plan.levels}")
    if plan.interval_minutes is not None:
        hours, minutes = divmod(plan.interval_minutes, 60)
        parts.append(f"wanted every {hours} h" + (f" {minutes} min" if minutes else ""))
    if plan.before_first:
        parts.append("before the day's first patient")
    if plan.allowable_error is not None:
        parts.append(f"allowable total error {plan.allowable_error:f} %")
    return "; ".join(parts)

"""The month's report of quality control as PDF: what an inspector asks for, stream by stream, and lines to sign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, tzinfo
from decimal import Decimal

from reportlab.platypus import Flowable, KeepTogether, PageBreak, Spacer

from interface.domain.qc import Chart, ChartPoint, QcVerdict
from interface.domain.qc_report import Deed, LotReport, MonthReport, StreamReport
from interface.domain.qc_statistics import decimals_of, presented
from interface.render import typeface
from interface.render.chart_time import moment, period
from interface.render.charts import Look, levey_jennings
from interface.render.pdf import (
    BODY,
    HEADING,
    SUBHEADING,
    TITLE,
    Paper,
    Picture,
    Sheet,
    Signatures,
    build,
    said,
    table,
)

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_CHART_WIDTH = 720  # pixels: on a page of A4 its small letters are 7 points
_KINDS = {
    "corrective": "corrective action", "comment": "comment", "exclude": "excluded", "restore": "counted again",
    "look_back": "look-back", "maintenance": "maintenance",
}  # fmt: skip
SIGNED_BY = ("Prepared by", "Reviewed by", "Laboratory director")


def pdf(report: MonthReport, paper: Paper = Paper.A4) -> bytes:
    """The report; the same report is the same bytes."""
    year, month = report.month.split("-")
    name = f"Quality control, {_MONTHS[int(month) - 1]} {year}"
    printed = f"printed {moment(report.printed_at, report.zone, True)} {report.zone}, by {report.printed_by}"
    sheet = Sheet(name, report.laboratory, printed, report.printed_at, paper)
    story: list[Flowable] = [said(name, TITLE), said(report.laboratory)]
    story.append(said(f"{period(report.begin, report.end, report.zone)}, {report.zone}"))
    story += _summary(report)
    for stream in report.streams:
        if not stream.empty:
            story += [PageBreak(), *_stream(stream, report.zone)]
    story.append(KeepTogether([Spacer(1, 16), said("Signatures", SUBHEADING), Signatures(SIGNED_BY)]))
    return build(sheet, story)


# ---- summary --------------------------------------------------------------------------------------------------------


def _summary(report: MonthReport) -> Iterator[Flowable]:
    if all(stream.empty for stream in report.streams):
        yield said("No control was measured in this month, and nothing was done about any.", HEADING)
    if report.unjudged:
        counts = ", ".join(f"{analyzer}: {count}" for analyzer, count in report.unjudged)
        yield said(
            f"Controls that were sent and made no point (lot or test not known, lot closed or expired): {counts}."
        )
    if not report.streams:
        yield said("No test of any analyzer had a target.")
        return
    yield said("Summary", SUBHEADING)
    head = (
        "analyzer",
        "module",
        "test",
        "points",
        "warned",
        "rejected",
        "excluded",
        "actions",
        "look-backs",
        "state now",
    )
    yield table(head, [_summary_row(one) for one in report.streams], (16, 10, 16, 7, 8, 9, 9, 8, 15, 10), range(3, 8))
    if empty := [_title(one.chart) for one in report.streams if one.empty]:
        yield said("Without a control in this month", SUBHEADING)
        yield said("; ".join(empty))


def _summary_row(stream: StreamReport) -> Sequence[str]:
    chart, counts = stream.chart, [point.verdict for point in stream.chart.points]
    waiting = sum(one.state == "open" for one in stream.lookbacks)
    lookbacks = f"{len(stream.lookbacks)}, {waiting} open" if stream.lookbacks else "none"
    return (
        chart.analyzer, chart.module, f"{chart.test_name} ({chart.test})",
        str(len(counts)) if counts else "none",
        str(counts.count(QcVerdict.WARN)), str(counts.count(QcVerdict.REJECT)), str(len(stream.exclusions)),
        str(sum(deed.kind in ("corrective", "maintenance") for deed in stream.deeds)), lookbacks, stream.state,
    )  # fmt: skip


def _title(chart: Chart) -> str:
    module = f", module {chart.module}" if chart.module else ""
    unit = f", {chart.unit}" if chart.unit else ""
    return f"{chart.analyzer}{module}: {chart.test_name} ({chart.test}){unit}"


# ---- a stream -------------------------------------------------------------------------------------------------------


def _stream(stream: StreamReport, zone: tzinfo) -> Iterator[Flowable]:
    chart = stream.chart
    yield said(_title(chart), HEADING)
    yield said(f"State when printed: {stream.state}. Plan: {stream.plan}.")
    if not chart.points:
        yield said("No control was measured in this month.")
    yield from _lots(stream.lots, zone)
    if chart.points:
        yield Spacer(1, 8)
        yield Picture(levey_jennings(chart, Look(_CHART_WIDTH, zone, tips=False)))
    yield from _failures(stream, zone)
    yield from _exclusions(stream, zone)
    yield from _deeds(stream, zone)
    yield from _in_use(stream, zone)
    yield from _lookbacks(stream, zone)


def _lots(lots: Sequence[LotReport], zone: tzinfo) -> Iterator[Flowable]:
    if not lots:
        return
    yield said("Levels, lots and targets; what was measured and counted", SUBHEADING)
    head = (
        "level", "material, lot", "expires", "target (mean ± SD, from)", "n", "mean", "SD", "CV %", "bias %", "SDI",
        "TE %", "sigma", "warned / rejected / excluded",
    )  # fmt: skip
    widths = (8, 15, 11, 21, 4, 8, 7, 6, 7, 6, 6, 6, 11)
    yield table(head, [_lot_row(lot, zone) for lot in lots], widths, range(4, 12))
    yield said(
        "Mean, SD and CV are of all points of the lot that count; bias, SDI (against the target), total error and "
        "sigma of those that the newest target judged.", BODY,
    )  # fmt: skip


def _lot_row(lot: LotReport, zone: tzinfo) -> Sequence[str]:
    own, analysis = lot.own, lot.analysis
    places = decimals_of([own.minimum, own.maximum]) if own is not None else 0
    targets = "; ".join(
        f"{target.mean:f} ± {target.sd:f} {target.unit} from {_day(target.valid_from.astimezone(zone).date())}"
        for target in lot.targets
    )
    return (
        lot.level, f"{lot.material} {lot.lot}", _day(lot.expires_on), targets or "no target",
        str(own.n if own is not None else 0),
        _number(own.mean if own else None, places), _number(own.sd if own else None, places),
        _number(own.cv if own else None, 1), _number(analysis.bias if analysis else None, 1),
        _number(analysis.sdi if analysis else None, 2), _number(analysis.total_error if analysis else None, 1),
        _number(analysis.sigma if analysis else None, 1), f"{lot.warned} / {lot.rejected} / {lot.excluded}",
    )  # fmt: skip


def _number(number: Decimal | None, places: int) -> str:
    shown = presented(number, places)
    return typeface.DASH if shown is None else f"{shown:f}".replace("-", typeface.MINUS)


def _day(day: date | None) -> str:
    return typeface.DASH if day is None else day.isoformat()


def _failures(stream: StreamReport, zone: tzinfo) -> Iterator[Flowable]:
    yield said("Controls out of their rules, and what was done", SUBHEADING)
    if not stream.failures:
        yield said("None.")
        return
    done = attached(stream.failures, stream.deeds)
    head = ("measured", "level, lot", "value", "SD", "rules", "verdict", "what was said and done")
    rows = [
        (
            moment(point.at, zone), f"{point.level}, {point.lot}", _value(point), _z(point), " ".join(point.rules),
            point.verdict.value + (" (excluded)" if point.excluded else ""),
            "; ".join(_deed(deed, zone) for deed in done.get(point.id, ())) or _nothing(point),
        )
        for point in stream.failures
    ]  # fmt: skip
    yield table(head, rows, (12, 17, 9, 7, 10, 9, 36), (2, 3))


def _nothing(point: ChartPoint) -> str:
    return "nothing documented" if point.verdict is QcVerdict.REJECT and not point.excluded else typeface.DASH


def attached(failures: Iterable[ChartPoint], deeds: Iterable[Deed]) -> dict[str, list[Deed]]:
    """Which deeds belong to which failure: those about it; one about none to the last rejection before it."""
    points = list(failures)
    known = {point.id for point in points}
    found: dict[str, list[Deed]] = {}
    for deed in deeds:
        about = deed.point_id
        if not about:
            rejected = [one for one in points if one.verdict is QcVerdict.REJECT and one.at <= deed.at]
            about = rejected[-1].id if rejected else ""
        if about in known:
            found.setdefault(about, []).append(deed)
    return found


def _deed(deed: Deed, zone: tzinfo) -> str:
    return f"{moment(deed.at, zone)} {_KINDS.get(deed.kind, deed.kind)}: {deed.text} ({deed.by})"


def _value(point: ChartPoint) -> str:
    return typeface.DASH if point.number is None else f"{point.number:f}"


def _z(point: ChartPoint) -> str:
    return typeface.DASH if point.z is None else f"{point.z:+.2f}".replace("-", typeface.MINUS)


def _exclusions(stream: StreamReport, zone: tzinfo) -> Iterator[Flowable]:
    if not stream.exclusions:
        return
    yield said("Excluded points, which count nowhere", SUBHEADING)
    rows = [
        (moment(one.point.at, zone), f"{one.point.level}, {one.point.lot}", _value(one.point), _z(one.point),
         one.reason, f"{one.by}, {moment(one.at, zone)}")
        for one in stream.exclusions
    ]  # fmt: skip
    yield table(("measured", "level, lot", "value", "SD", "reason", "by"), rows, (12, 18, 9, 7, 34, 20), (2, 3))


def _deeds(stream: StreamReport, zone: tzinfo) -> Iterator[Flowable]:
    if not stream.deeds:
        return
    yield said("Actions and comments", SUBHEADING)
    rows = [
        (moment(one.at, zone), _KINDS.get(one.kind, one.kind), one.level, one.text, one.by) for one in stream.deeds
    ]  # fmt: skip
    yield table(("when", "what", "level", "text", "by"), rows, (12, 14, 9, 49, 16))


def _in_use(stream: StreamReport, zone: tzinfo) -> Iterator[Flowable]:
    if not stream.in_use:
        return
    yield said("Reagents and calibrators in use", SUBHEADING)
    rows = [
        (one.kind, one.lot, _day(one.expires_on), moment(one.since, zone, True),
         moment(one.until, zone, True) if one.until is not None else "in use")
        for one in stream.in_use
    ]  # fmt: skip
    yield table(("kind", "lot", "expires", "from", "until"), rows, (15, 25, 15, 20, 20))


def _lookbacks(stream: StreamReport, zone: tzinfo) -> Iterator[Flowable]:
    if not stream.lookbacks:
        return
    yield said("Look-backs: patients' results since the last acceptable control", SUBHEADING)
    rows = [
        (
            f"{moment(one.since, zone) if one.since is not None else 'the beginning'} {typeface.DASH} "
            f"{moment(one.until, zone)}",
            ", ".join(f"{count} {state}" for state, count in one.outcomes) or "no result",
            one.state + (f" {moment(one.closed_at, zone)}" if one.closed_at is not None else ""), one.reason,
        )
        for one in stream.lookbacks
    ]  # fmt: skip
    yield table(("measured from, to", "results: what became of them", "state", "because of"), rows, (25, 30, 18, 27))

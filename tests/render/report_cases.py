"""Invented months of quality control."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from interface.domain.qc import Chart, QcVerdict
from interface.domain.qc_report import Deed, Exclusion, LookbackReport, LotInUse, LotReport, MonthReport, StreamReport
from interface.domain.qc_statistics import analysed, statistics
from tests.render.chart_cases import BEGIN, END, LONG, ZONE, crowded, drifting, new_lot, nothing, ordinary, six


def stream(chart: Chart, *, state: str = "ok", full: bool = False) -> StreamReport:
    lots = []
    for level in chart.levels:
        mine = [point for point in chart.points if (point.level, point.lot) == (level.level, level.lot)]
        own = statistics(point.number for point in mine if point.number is not None and not point.excluded)
        aim = level.targets[-1] if level.targets else None
        made = analysed(own, aim.mean, aim.sd, Decimal(10)) if own is not None and aim is not None else None
        counts = [point.verdict for point in mine]
        lots.append(
            LotReport(
                level.level, "MultiQual", level.lot, date(2027, 8, 31), level.targets, own, made,
                counts.count(QcVerdict.WARN), counts.count(QcVerdict.REJECT), sum(point.excluded for point in mine),
            )
        )  # fmt: skip
    failures = tuple(one for one in chart.points if one.verdict in (QcVerdict.WARN, QcVerdict.REJECT))
    deeds: list[Deed] = []
    lookbacks: tuple[LookbackReport, ...] = ()
    if full:
        [reject] = [one for one in failures if one.z == Decimal("4.90")]
        deeds = [
            Deed(reject.at + timedelta(minutes=25), "corrective", "S. Wijaya", "sample probe rinsed, control repeated",
                 reject.level, reject.id),
            Deed(BEGIN + timedelta(days=20, hours=20), "maintenance", "Müller", "cuvettes & lamp <changed>"),
            Deed(BEGIN + timedelta(days=26), "comment", "A. Putri", "Suhu ruang 27 °C, AC diperbaiki (µ ± ½)"),
        ]  # fmt: skip
        lookbacks = (
            LookbackReport(reject.at, reject.at - timedelta(hours=12), reject.at, "closed", reject.at, "1-3s",
                           (("corrected", 1), ("stands", 41))),
            LookbackReport(END, None, END, "open", None, "", (("waiting", 7),)),
        )  # fmt: skip
    exclusions = tuple(
        Exclusion(one, one.at + timedelta(hours=1), "S. Wijaya", "wrong vial") for one in chart.points if one.excluded
    )
    used = (LotInUse("reagent", "771204", BEGIN + timedelta(days=8), None, date(2027, 3, 31)),)
    return StreamReport(
        replace(chart, state=""), state, "cobas-1 3; rules: by the number of levels (modern); wanted every 24 h",
        Decimal(10), tuple(lots), failures, tuple(deeds), exclusions, used if full else (), lookbacks,
    )  # fmt: skip


def month(*streams: StreamReport) -> MonthReport:
    unjudged = (("cobas-1", 3),) if streams else ()
    printed_at = END + timedelta(days=1, hours=2)
    return MonthReport(
        "Laboratorium Klinik Sehat", "2026-11", BEGIN, END, ZoneInfo(ZONE), streams, unjudged, printed_at, "S. Wijaya"
    )


def usual() -> MonthReport:
    return month(
        stream(ordinary(), full=True), stream(new_lot(), state="warn"), stream(drifting(), state="fail"),
        stream(six(), state="expired"), stream(replace(nothing(), test="K", test_name="Potassium"), state="unknown"),
    )  # fmt: skip


def worst() -> MonthReport:
    return replace(month(stream(crowded(), state="unknown")), laboratory=LONG, printed_by=LONG)

"""Workload, turn-around and quality control summaries as CSV and as pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from interface.domain.qc_report import MonthReport
from interface.domain.report import Paper
from interface.domain.statistics import (
    QcRow,
    Stage,
    Target,
    TurnaroundReport,
    TurnaroundRow,
    WorkloadReport,
    WorkloadRow,
    qc_summary,
)
from interface.render.csv_text import write

if TYPE_CHECKING:
    from reportlab.platypus import Flowable

    from interface.render.pdf import Sheet

_WORKLOAD = tuple(field.name for field in fields(WorkloadRow) if field.name != "key")
ALL = "all"


def workload_csv(report: WorkloadReport) -> str:
    """A row for each key, and the last for all together."""
    rows = [(row.key, *_counts(row)) for row in report.rows]
    return write((report.by.value, *_WORKLOAD), [*rows, (ALL, *_counts(report.total))])


def turnaround_csv(report: TurnaroundReport) -> str:
    """A row for each key and stage; times in seconds."""
    names = (
        report.by.value,
        "stage",
        "known",
        "median_s",
        "p90_s",
        "longest_s",
        "unknown",
        "disordered",
        "aimed",
        "met",
    )
    rows = [(row.key, *_times(row)) for row in report.rows]
    return write(names, [*rows, *((ALL, *_times(row)) for row in report.total)])


def qc_csv(report: MonthReport) -> str:
    """A row for each lot of each level of each test on each analyzer."""
    names = [field.name for field in fields(QcRow)]
    return write(names, ([getattr(row, name) for name in names] for row in qc_summary(report).rows))


def _counts(row: WorkloadRow) -> tuple[int, ...]:
    return tuple(getattr(row, name) for name in _WORKLOAD)


def _times(row: TurnaroundRow) -> tuple[object, ...]:
    return (
        row.stage.value, row.known, row.median, row.p90, row.longest, row.unknown, row.disordered, row.aimed, row.met,
    )  # fmt: skip


def minutes(seconds: int | None) -> str:
    """`3 h 05 min`, `7 min 20 s`, `12 s`; "" for none."""
    if seconds is None:
        return ""
    hours, rest = divmod(seconds, 3600)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {rest // 60:02} min"
    return f"{rest // 60} min {rest % 60:02} s" if rest >= 60 else f"{rest} s"


# ---- pages ----------------------------------------------------------------------------------------------------------


def workload_pdf(report: WorkloadReport, paper: Paper, printed_at: datetime, by: str) -> bytes:
    from interface.render.pdf import SUBHEADING, TITLE, build, said, table

    sheet, when = _sheet("Workload", report, paper, printed_at, by)
    names = (report.by.value, *(name.replace("_", " ") for name in _WORKLOAD))
    rows = [(row.key or "none", *map(str, _counts(row))) for row in (*report.rows,)]
    rows.append((ALL, *map(str, _counts(report.total))))
    story: list[Flowable] = [said(f"Workload by {report.by}", TITLE), said(when), said("Results", SUBHEADING)]
    story.append(table(names, rows, (20, *(9 for _ in _WORKLOAD)), range(1, len(names))))
    story.append(
        said(
            "results: that came in the period, every run; released: of those reported; automatic: of those released, by"
            " rules; held: when this was printed."
        )
    )  # fmt: skip
    return build(sheet, story)


def turnaround_pdf(report: TurnaroundReport, paper: Paper, printed_at: datetime, by: str) -> bytes:
    from interface.render.pdf import SUBHEADING, TITLE, build, said, table

    sheet, when = _sheet("Turn-around time", report, paper, printed_at, by)
    names = (report.by.value, "results", "median", "p90", "longest", "unknown", "disordered", "within target")
    story: list[Flowable] = [said(f"Turn-around time by {report.by}", TITLE), said(when)]
    for stage in Stage:
        found = [(row.key or "none", row) for row in report.rows if row.stage is stage]
        found += [(ALL, row) for row in report.total if row.stage is stage]
        if not any(row.known for _, row in found):
            continue
        story.append(said(_named(stage), SUBHEADING))
        rows = [
            (key, str(row.known), minutes(row.median), minutes(row.p90), minutes(row.longest), str(row.unknown),
             str(row.disordered), _met(row))
            for key, row in found
        ]  # fmt: skip
        story.append(table(names, rows, (22, 9, 13, 13, 13, 9, 10, 14), range(1, len(names))))
    if report.targets:
        story.append(said("Targets", SUBHEADING))
        story.append(table(("test", "department", "priority", "stage", "minutes"), list(map(_aim, report.targets)),
                           (15, 20, 15, 30, 10), (4,)))  # fmt: skip
    story.append(
        said("Of the results that were released in the period. Measured: when the first value came from the analyzer."
             " Unknown: one of the two moments is not known; disordered: the later lies before the earlier.")
    )  # fmt: skip
    return build(sheet, story)


def _named(stage: Stage) -> str:
    return stage.value.replace("-", " to ")


def _met(row: TurnaroundRow) -> str:
    return f"{row.met} of {row.aimed}" if row.aimed else ""


def _aim(target: Target) -> Sequence[str]:
    return target.test, target.department, target.priority, _named(target.stage), str(target.minutes)


def _sheet(
    title: str, report: WorkloadReport | TurnaroundReport, paper: Paper, printed_at: datetime, by: str
) -> tuple[Sheet, str]:
    from interface.render.chart_time import moment, period
    from interface.render.pdf import Sheet

    zone = ZoneInfo(report.zone)
    when = f"{report.laboratory}: {period(report.begin, report.end, zone)}, {report.zone}"
    printed = f"printed {moment(printed_at, zone, True)} {report.zone}, by {by}"
    return Sheet(title, report.laboratory, printed, printed_at, paper), when

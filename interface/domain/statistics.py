"""How much a laboratory did, and how long it took: what its workload and turn-around reports say. Never of a patient.

Times are whole seconds; a share is counted, not computed: of so many, so many.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from enum import StrEnum

from interface.domain.qc_report import MonthReport
from interface.domain.qc_statistics import decimals_of, presented
from interface.domain.record import record


class By(StrEnum):
    """What the rows of a report are of."""

    TEST = "test"
    DEPARTMENT = "department"
    ANALYZER = "analyzer"
    PRIORITY = "priority"
    DAY = "day"


class Stage(StrEnum):
    """From one moment of a result's way to another. Measured: when its first value came from the analyzer."""

    ORDERED_COLLECTED = "ordered-collected"
    COLLECTED_RECEIVED = "collected-received"
    RECEIVED_MEASURED = "received-measured"
    MEASURED_RELEASED = "measured-released"
    ORDERED_RELEASED = "ordered-released"
    COLLECTED_RELEASED = "collected-released"
    RECEIVED_RELEASED = "received-released"


@record
class WorkloadRow:
    """Of the results that came first in the period. `key` "" is what has none, such as no department."""

    key: str
    results: int  # every run
    reported: int  # of runs for one order item exactly one is
    released: int  # of those reported
    automatic: int  # of those released: by rules, without a person
    held: int  # now
    corrected: int  # after their release
    withdrawn: int
    orders: int
    specimens: int


@record
class TurnaroundRow:
    """Of the results that were released in the period, from one moment to another, in seconds.

    `median`, `p90` and `longest` are times that there were (nearest rank), None where none is known. `unknown`: one of
    the moments is not; `disordered`: the later lies before the earlier, so somebody's clock was wrong. Both count
    nowhere else. `met` of `aimed`, those that have a target.
    """

    key: str
    stage: Stage
    known: int
    median: int | None
    p90: int | None
    longest: int | None
    unknown: int
    disordered: int
    aimed: int
    met: int


@record
class Target:
    """How soon. An empty field is any; of several that fit, a test's goes before a department's before a priority's."""

    stage: Stage
    minutes: int
    test: str = ""
    department: str = ""
    priority: str = ""


@dataclass(frozen=True, slots=True)
class Period:
    """From `begin` to before `end`; days are the zone's."""

    begin: datetime
    end: datetime
    zone: tzinfo


@record
class QcRow:
    """A lot of a level of a test on an analyzer in a month; `actions` are the stream's. Numbers as they are shown."""

    analyzer: str
    module: str
    test: str
    name: str
    unit: str
    state: str
    level: str
    material: str
    lot: str
    points: int
    mean: Decimal | None
    sd: Decimal | None
    warned: int
    rejected: int
    excluded: int
    actions: int


@record
class QcSummary:
    laboratory: str
    month: str
    zone: str
    rows: tuple[QcRow, ...]


def qc_summary(report: MonthReport) -> QcSummary:
    """The numbers of a month's report, without its points."""
    rows = []
    for stream in report.streams:
        chart = stream.chart
        decimals = decimals_of(point.number for point in chart.points if point.number is not None)
        for lot in stream.lots:
            own = lot.own
            rows.append(
                QcRow(
                    chart.analyzer, chart.module, chart.test, chart.test_name, chart.unit, stream.state, lot.level,
                    lot.material, lot.lot, own.n if own else 0, presented(own.mean, decimals) if own else None,
                    presented(own.sd, decimals) if own else None, lot.warned, lot.rejected, lot.excluded,
                    len(stream.deeds),
                )
            )  # fmt: skip
    return QcSummary(report.laboratory, report.month, str(report.zone), tuple(rows))


@record
class WorkloadReport:
    laboratory: str
    begin: datetime
    end: datetime
    zone: str
    by: By
    rows: tuple[WorkloadRow, ...]
    total: WorkloadRow


@record
class TurnaroundReport:
    laboratory: str
    begin: datetime
    end: datetime
    zone: str
    by: By
    rows: tuple[TurnaroundRow, ...]
    total: tuple[TurnaroundRow, ...]
    targets: tuple[Target, ...]

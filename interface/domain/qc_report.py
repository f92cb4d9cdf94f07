"""A month of quality control as it is reported: what was measured against what, what was wrong, what was done. Pure."""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from decimal import Decimal

from interface.domain.qc import Chart, ChartPoint, Target
from interface.domain.qc_statistics import Analysis, Statistics
from interface.domain.record import record


@record
class LotReport:
    """One lot of one level in the period. `own`, `analysis`: None where nothing was counted, or there is no target."""

    level: str
    material: str
    lot: str
    expires_on: date | None
    targets: tuple[Target, ...]  # in force at any time of the period
    own: Statistics | None
    analysis: Analysis | None  # against the newest target, of the points that it judged
    warned: int
    rejected: int
    excluded: int


@record
class Deed:
    """What a person said or did. `kind`: corrective, comment, exclude, restore, look_back, maintenance."""

    at: datetime
    kind: str
    by: str
    text: str
    level: str = ""
    point_id: str = ""  # that it is about


@record
class Exclusion:
    """A point that counts nowhere, and why."""

    point: ChartPoint
    at: datetime
    by: str
    reason: str


@record
class LotInUse:
    """A reagent, calibrator or diluent lot that was used in the period."""

    kind: str
    lot: str
    since: datetime
    until: datetime | None
    expires_on: date | None


@record
class LookbackReport:
    """A worklist of patients' results after a failure, without the patients: how many became what."""

    created_at: datetime
    since: datetime | None
    until: datetime
    state: str
    closed_at: datetime | None
    reason: str
    outcomes: tuple[tuple[str, int], ...]  # waiting, stands, repeat, corrected


@record
class StreamReport:
    """A stream's month. `state`: when it was printed; `deeds` include those about points."""

    chart: Chart
    state: str
    plan: str
    allowable_error: Decimal | None
    lots: tuple[LotReport, ...]
    failures: tuple[ChartPoint, ...]  # warned or rejected, oldest first
    deeds: tuple[Deed, ...]
    exclusions: tuple[Exclusion, ...]
    in_use: tuple[LotInUse, ...]
    lookbacks: tuple[LookbackReport, ...]

    @property
    def empty(self) -> bool:
        """Nothing was measured and nothing was done."""
        return not (self.chart.points or self.deeds or self.lookbacks)


@record
class MonthReport:
    """All streams of a laboratory from `begin` to `end`, by analyzer, test and module."""

    laboratory: str
    month: str  # 2026-11
    begin: datetime
    end: datetime
    zone: tzinfo
    streams: tuple[StreamReport, ...]
    unjudged: tuple[tuple[str, int], ...]  # controls by analyzer that were sent in this time and made no point
    printed_at: datetime
    printed_by: str

"""Controls as people see them: as sent, the point that was made of them, or why none was. No patient data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from interface.domain.model import Step
from interface.domain.qc import QcVerdict


@dataclass(frozen=True, slots=True)
class ProblemView:
    """Why a control made no point when it came. `ended_at`: a person has seen to it."""

    kind: str
    text: str
    created_at: datetime
    ended_at: datetime | None = None
    ended_by: str = ""
    end_reason: str = ""


@dataclass(frozen=True, slots=True)
class PointView:
    """A control of a known lot, judged. `number` in the test's own unit, `mean` and `sd` in `target_unit`."""

    material: str
    lot_id: UUID
    lot: str
    level: str
    level_number: int
    target_id: UUID | None
    mean: Decimal | None
    sd: Decimal | None
    target_unit: str
    number: Decimal | None
    unit: str
    z: Decimal | None
    verdict: QcVerdict
    rules: tuple[str, ...]  # that it broke
    insufficient: tuple[str, ...]
    run_id: UUID
    reagent_lot: str
    calibrator_lot: str
    judged_at: datetime
    excluded_at: datetime | None = None
    excluded_by: str = ""
    exclude_reason: str = ""
    steps: tuple[Step, ...] = ()  # its explanation; of one that is asked for alone


@dataclass(frozen=True, slots=True)
class RemarkView:
    """What a person said or did about a control."""

    id: UUID
    kind: str
    text: str
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class ControlView:
    """A control's result. `value` and `sent_unit` as the analyzer, or a person, said them."""

    id: UUID
    analyzer_id: UUID
    analyzer: str
    module: str
    role: str
    origin: str  # analyzer, manual
    test_id: UUID | None
    test: str
    test_name: str
    code: str
    specimen_as_sent: str
    lot_as_sent: str
    level_as_sent: str
    value: str
    raw_value: str
    raw_flags: str
    sent_unit: str
    instrument_time: str
    measured_at: datetime
    created_at: datetime
    message_id: UUID | None
    location: str
    reagent_lot: str
    calibrator_lot: str
    comment: str
    by: str  # the person who entered it
    problem: ProblemView | None = None
    point: PointView | None = None
    remarks: tuple[RemarkView, ...] = ()  # of one that is asked for alone

    @property
    def updated_at(self) -> datetime:
        """What lists are in the order of."""
        return self.created_at


@dataclass(frozen=True, slots=True)
class AnalysisView:
    """What the counted points of a lot come to against one target, in `unit`; per cents, SDI and sigma with two
    decimals. None: there is none."""

    analyzer_id: UUID
    analyzer: str
    module: str
    test: str
    unit: str
    material: str
    lot_id: UUID
    lot: str
    level: str
    level_number: int
    target_id: UUID | None
    target_mean: Decimal | None
    target_sd: Decimal | None
    n: int
    mean: Decimal
    sd: Decimal | None
    cv: Decimal | None
    minimum: Decimal
    maximum: Decimal
    bias: Decimal | None
    sdi: Decimal | None
    total_error: Decimal | None
    allowable_error: Decimal | None
    sigma: Decimal | None
    first_at: datetime
    last_at: datetime

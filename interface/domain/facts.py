"""What the checks on a result see, and what each of them says. All of it is known before any of them runs.

A check is pure: facts in, `Verdict`s out. What is not known is None (or absent from a mapping) and never a default: a
check that needs it says `UNKNOWN`, which holds exactly as `HOLD` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType

from interface.domain.model import HoldReason, LabTest, Priority, ResultStatus, Sex, Step, Value
from interface.domain.record import Word, record


class QcState(Word):
    """Of one stream of quality control: an analyzer's (module's) test. PROTOCOLS §4.4."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"  # holds new patient results
    EXPIRED = "expired"  # no acceptable point inside the interval; holds as well
    UNKNOWN = "unknown"  # nothing autoverifies on it; a person may release


class Finding(Word):
    """What a check says."""

    PASS = "pass"  # noqa: S105
    HOLD = "hold"
    UNKNOWN = "unknown"  # a fact was absent, or evaluating failed: holds
    NOT_APPLICABLE = "none"  # the check does not speak of this result


NOTHING: Mapping[str, str] = MappingProxyType({})


@record
class Verdict:
    """What one check said of one result: becomes one step of its explanation.

    `check`: delta, index, range, consistency, qc, rule, … (the step's name); `rule`: the name of the rule in its set;
    `version`: the set's name and revision; `text`: one sentence without patient data; `holds`: the reasons, for HOLD
    and UNKNOWN only, and then at least one; `flags`: what the check adds to the result's own (delta: U, D); `comment`:
    the laboratory's words for the report.
    """

    check: str
    finding: Finding
    text: str
    rule: str = ""
    version: str = ""
    inputs: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    holds: tuple[HoldReason, ...] = ()
    flags: tuple[str, ...] = ()
    comment: str = ""
    step: Step | None = field(default=None, init=False, compare=False, repr=False)  # once it was made


@record
class Subject:
    """About whom and what: the same for every result of a specimen. Age is at collection, by the laboratory's zone."""

    sex: Sex = Sex.UNKNOWN
    birth_date: date | None = None
    birth_at: datetime | None = None  # with the hour, where the hospital sends it: newborns are aged in hours
    pregnant: bool | None = None
    gestation_weeks: int | None = None
    ward: str = ""
    patient_group: str = ""  # such as dialysis, oncology; "" when none is known
    priority: Priority = Priority.ROUTINE
    specimen_type: str = ""
    collected_at: datetime | None = None
    received_at: datetime | None = None  # by the laboratory
    age_h: int | None = None  # whole hours, only where `birth_at` is known
    age_d: int | None = None  # whole days


@record
class PreviousResult:
    """The latest released result before this one of the same person (merges followed), test and like specimen."""

    value: Value
    unit: str
    at: datetime  # collected, else measured, else received
    version_id: str
    specimen_id: str = ""


@record
class Sibling:
    """Another test's reportable result on the same specimen, as reported: from this message or from an earlier one."""

    test: str  # the laboratory's code
    value: Value
    unit: str
    flags: tuple[str, ...] = ()
    holds: tuple[HoldReason, ...] = ()
    status: ResultStatus = ResultStatus.PRELIMINARY
    version_id: str = ""
    suspect: str = ""  # released before its control failed: it waits on a look-back list, or is to be measured again


@record
class Facts:
    """One result as reported (converted and rounded), and all that is known around it."""

    test: LabTest
    value: Value
    unit: str
    subject: Subject
    flags: tuple[str, ...] = ()  # the laboratory's own, computed
    instrument_flags: tuple[str, ...] = ()  # as the analyzer sent them
    instrument_status: str = ""
    low: Decimal | None = None
    high: Decimal | None = None
    critical_low: Decimal | None = None
    critical_high: Decimal | None = None
    holds: tuple[HoldReason, ...] = ()  # what stands against it already
    analyzer: str = ""  # its name in this laboratory
    driver: str = ""
    method: str = ""
    dilution: Decimal | None = None  # the factor, 1 of what was not diluted; None: not known
    previous: PreviousResult | None = None
    siblings: Mapping[str, Sibling] = field(default_factory=lambda: MappingProxyType({}))  # by test code
    qc: QcState = QcState.UNKNOWN
    reagent_lot: str = ""
    calibrated_at: datetime | None = None
    measured_at: datetime | None = None  # by the instrument's clock; None: not said, or not to be believed
    qc_step: Step | None = None  # what quality control says of it, where it has a say
    follow_ups: int = 0  # reruns, dilutions and reflexes that led to this result: the loop guard counts them
    interval_unsure: bool = False  # without an interval because sex, age or the like is not known: one may apply
    critical_unsure: bool = False  # so with the critical limits

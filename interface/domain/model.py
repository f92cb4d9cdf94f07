"""The words every room shares: what an analyzer said, and what the laboratory makes of it.

Two families. *Observed* things are in the analyzer's terms, exactly as sent (`DecodedMessage` and its parts).
*Laboratory* things are ours (`LabTest`, `Interval`, `Patient`, `Result` states). Quantities are `Decimal`, instants are
aware UTC; an instrument's clock is kept apart as `instrument_time`, the text as sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from interface.domain.record import Word, record
from interface.domain.units import UNKNOWN_SUBSTANCE, Substance

LONGEST_METHOD = 200  # characters of what a method is called


class Protocol(Word):
    LIS2 = "lis2"
    HL7 = "hl7"
    DECLARED = "declared"  # records that a driver lays out itself


class SpecimenRole(Word):
    """HL7 table 0369, in words; only `patient` is ever patient data."""

    PATIENT = "patient"
    QC = "qc"
    CALIBRATOR = "calibrator"
    PROFICIENCY = "proficiency"
    OTHER = "other"


class ValueKind(Word):
    NUMERIC = "numeric"
    TEXT = "text"
    CODED = "coded"
    RATIO = "ratio"
    RANGE = "range"
    TIME = "time"
    IMAGE = "image"
    EMPTY = "empty"  # nothing was sent: never a result
    FAILED = "failed"  # the run failed: never a result, least of all a negative one


class Comparator(Word):
    """FHIR quantity-comparator."""

    LT = "<"
    LE = "<="
    GE = ">="
    GT = ">"


class Sex(Word):
    FEMALE = "female"
    MALE = "male"
    OTHER = "other"
    UNKNOWN = "unknown"


class Priority(Word):
    STAT = "stat"
    ASAP = "asap"
    ROUTINE = "routine"
    CALLBACK = "callback"
    PREOP = "preop"


class ResultStatus(Word):
    """DESIGN §5. `held` is not a status: it stands beside it as a list of reasons."""

    REGISTERED = "registered"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    CORRECTED = "corrected"
    AMENDED = "amended"
    CANCELLED = "cancelled"
    ENTERED_IN_ERROR = "entered-in-error"


RELEASED = frozenset({ResultStatus.FINAL, ResultStatus.CORRECTED, ResultStatus.AMENDED})
# What an EMR sees of a result that it saw while it was preliminary, once that is held or rejected: nothing but that.
TAKEN_BACK = frozenset({ResultStatus.REGISTERED, ResultStatus.CANCELLED})


class ItemStatus(Word):
    """Order item: requested → collected → received → in_progress → completed → verified, or cancelled/rejected."""

    REQUESTED = "requested"
    COLLECTED = "collected"
    RECEIVED = "received"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    VERIFIED = "verified"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class Origin(Word):
    """Whose value it is."""

    ANALYZER = "analyzer"
    MANUAL = "manual"  # a person's: read from a strip, typed from a printout
    CALCULATION = "calculation"


class FollowUpKind(Word):
    """What may follow from a result."""

    REFLEX = "reflex"  # another test
    RERUN = "rerun"  # the same test again
    DILUTION = "dilution"  # the same test again, diluted


class FollowUpState(Word):
    REQUESTED = "requested"
    SENT = "sent"  # the analyzer was told
    DONE = "done"  # its result has come
    CANCELLED = "cancelled"


class HoldReason(Word):
    """Why a result waits for a person; the first block are the slugs of `errors.HoldError`."""

    UNMAPPED_CODE = "unmapped_code"
    UNKNOWN_UNIT = "unknown_unit"
    NO_SUCH_SPECIMEN = "no_such_specimen"
    AMBIGUOUS_SPECIMEN = "ambiguous_specimen"
    PATIENT_MISMATCH = "patient_mismatch"
    DRIVER_MISMATCH = "driver_mismatch"
    RUN_FAILED = "run_failed"
    INCOMPLETE_TRANSMISSION = "incomplete_transmission"
    NOT_ORDERED = "not_ordered"  # the specimen is known, this test was not ordered on it
    NO_VALUE = "no_value"
    UNKNOWN_FLAG = "unknown_flag"
    UNKNOWN_STATUS = "unknown_status"
    QUESTIONABLE = "questionable"  # the analyzer itself doubts the value (LIS02-A2 R-9 W, HL7 OBX-11 W)
    UNREADABLE_VALUE = "unreadable_value"
    AMBIGUOUS_INTERVAL = "ambiguous_interval"
    CHANGED_AFTER_RELEASE = "changed_after_release"
    NOT_PATIENT = "not_patient"  # a control or calibrator: never a patient's result
    CONTROL_LIKE_ID = "control_like_id"  # sent as a patient's, with an id that looks like a control's
    OUTSIDE_WINDOW = "outside_window"  # the barcode's specimen was received too long ago: barcodes are used again
    PATIENT_NAME = "patient_name"  # the analyzer's name is another, and the link's policy is to hold for that
    # What a check of `domain.facts` found; a person judges.
    DELTA = "delta"
    INTERFERENCE = "interference"
    SUPPRESSED = "suppressed"  # so much that the laboratory never reports the value
    MEASURING_RANGE = "measuring_range"
    IMPLAUSIBLE = "implausible"  # no living patient has it
    INCONSISTENT = "inconsistent"  # with another analyte of the same specimen
    QC_FAILED = "qc_failed"
    QC_EXPIRED = "qc_expired"
    RULE = "rule"  # a rule of the active rule set holds it, or could not be evaluated
    RERUN = "rerun"  # a rerun or dilution was asked for; its result is awaited
    ALREADY_REPORTED = "already_reported"  # another run of the same order item is released
    PERSON = "person"  # somebody wants it to be looked at
    BEFORE_SPECIMEN = "before_specimen"  # measured before it was taken: of one that carried its barcode before
    SAID_ANEW = "said_anew"  # unasked, of what was critical, or of what a person has said something of


@record
class Value:
    """A parsed value. `text` is what is shown: for numeric the exact decimal text, for others the words."""

    kind: ValueKind
    text: str = ""
    number: Decimal | None = None
    comparator: Comparator | None = None  # in the text too, unless it is a number's
    numerator: Decimal | None = None  # ratio and titre: 1:128 is 1 and 128; range: low and high
    denominator: Decimal | None = None

    def __hash__(self) -> int:
        """Of what is shown alone: a number's own takes as long as all else that is done with it."""
        return hash(self.text)


# ---- what the analyzer said ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a message that could not be taken as it stands. `location`: `O 1 field 3`, `OBX^2^5`."""

    location: str
    text: str


@record
class MeasuredWith:
    """What the analyzer says it measured with, and of a control which it was; "" where it says nothing."""

    module: str = ""  # of an analyzer that has several
    reagent_lot: str = ""
    calibrator_lot: str = ""
    control_lot: str = ""
    level: str = ""


UNSAID = MeasuredWith()


@record
class ObservedPatient:
    """The analyzer's idea of the patient: compared with the order's, never applied to it."""

    patient_id: str = ""
    name: str = ""
    birth_date: date | None = None
    sex: Sex | None = None


@record
class Observed:
    """One R record or OBX segment, in order, none merged."""

    code: str  # the analyzer's test code by the driver's path; "" when there is none
    value: Value
    raw_value: str = ""  # the field as sent
    code_path: str = ""  # the whole code field as sent; part of the result key
    sub_id: str = ""  # OBX-4
    occurrence: int = 0  # of this (specimen, code_path, sub_id) in the message, from 0
    name: str = ""
    unit: str = ""  # as sent, stripped
    reference: str = ""  # as sent
    flags: tuple[str, ...] = ()  # as sent, one per repetition, blanks left out
    status: str = ""  # as sent (LIS02-A2 R-9, OBX-11)
    instrument_time: str = ""  # as sent
    operator: str = ""
    comments: tuple[str, ...] = ()
    holds: tuple[HoldReason, ...] = ()  # what the driver's own tables say against it
    location: str = ""  # `R 3`, `OBX 7`
    detail: bool = False  # of another result (a count, a cycle, a time): a result of its own only where a map names it
    ucum: str | None = None  # what `unit` means on this analyzer, "" for none; None: the driver does not say
    measured_with: MeasuredWith = UNSAID
    method: str = ""  # as sent (OBX-17): what a map says of the code comes before it
    dilution: Decimal | None = None  # the factor as sent (TCD-2, SAC-29); 0: one that is no factor. None: not said


@dataclass(frozen=True, slots=True)
class Attachment:
    """An image, a curve, a histogram: kept with the specimen, not interpreted."""

    name: str
    media_type: str
    data: str  # as sent: base64 text, a path, numbers
    location: str = ""


@record
class ObservedSpecimen:
    patient: int | None = None  # index into DecodedMessage.patients
    specimen_id: str | None = None  # None: not where the standard or the driver says; never a guess
    type: str = ""
    role: SpecimenRole = SpecimenRole.PATIENT
    order_code: str = ""
    collected: str = ""  # as sent
    results: tuple[Observed, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    comments: tuple[str, ...] = ()  # on the specimen, not on one of its results
    work_id: str = ""  # ours, of the work these results come from, where the analyzer returns it


@dataclass(frozen=True, slots=True)
class Query:
    """An analyzer asks for work. `ranges`: of specimen ids, the first and the last of each.

    `places`: at which repetition of its field each of `specimen_ids` stands, from 1.
    """

    specimen_ids: tuple[str, ...] = ()
    all: bool = False
    patient_id: str = ""
    tests: tuple[str, ...] = ()
    raw: str = ""
    cancels: bool = False  # it takes back what it asked before: no answer is due
    ranges: tuple[tuple[str, str], ...] = ()
    places: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DecodedMessage:
    """One message in the analyzer's terms. Order is the message's; nothing is grouped across patients."""

    protocol: Protocol
    control_id: str = ""
    sender: str = ""
    message_type: str = ""  # HL7 `ORU^R01`; LIS02-A2 `result`, `query`, `order`
    version: str = ""
    patients: tuple[ObservedPatient, ...] = ()
    specimens: tuple[ObservedSpecimen, ...] = ()
    queries: tuple[Query, ...] = ()
    problems: tuple[Problem, ...] = ()


# ---- what the laboratory knows ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LabTest:
    """One row of the test catalogue."""

    id: str
    code: str
    name: str
    loinc: str = ""
    unit: str = ""  # UCUM code of the unit results are reported in; "" for text
    decimals: int | None = None  # reported digits after the point; None: as measured
    kind: ValueKind = ValueKind.NUMERIC
    substance: Substance = UNKNOWN_SUBSTANCE


class IntervalUse(Word):
    """Which of its limits a row gives. Critical limits may have age bands of their own, in rows of their own."""

    BOTH = "both"
    REFERENCE = "reference"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Interval:
    """A reference interval; limits are inclusive, None is open.

    What it applies to, each None or "" for any: sex, age at collection [low, high), specimen type, pregnancy and weeks
    of gestation [low, high), method and analyzer as the laboratory calls them, and specimens collected in
    [valid_from, valid_to). An age limit in hours stands in place of the one in days. Words of tests that are no number
    are compared without regard to case and spacing; where `normal_values` are named, a word in no list is not judged.
    """

    id: str
    test_id: str
    unit: str
    low: Decimal | None = None
    high: Decimal | None = None
    critical_low: Decimal | None = None
    critical_high: Decimal | None = None
    sex: Sex | None = None  # None: any
    age_low_d: int = 0
    age_high_d: int | None = None
    specimen_type: str = ""  # "": any
    text: str = ""
    source: str = ""
    priority: int = 0
    age_low_h: int | None = None
    age_high_h: int | None = None
    pregnant: bool | None = None
    gestation_low_w: int | None = None
    gestation_high_w: int | None = None
    method: str = ""
    analyzer: str = ""
    use: IntervalUse = IntervalUse.BOTH
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    normal_values: tuple[str, ...] = ()
    abnormal_values: tuple[str, ...] = ()
    critical_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodeMapping:
    """Analyzer code → test. `unit`: what the number is in when the analyzer sends no unit.

    `test_id` "": the laboratory wants the code held. `revision`: of the shipped map, or the number of the laboratory's
    own change when it is `site`; `row` is the map's row. `method`: by which it measures, "" where the map does not say.
    """

    code: str
    test_id: str
    specimen_type: str = ""
    unit: str = ""
    revision: int = 1
    site: bool = False
    row: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """The order's patient, as far as decisions need it."""

    id: str
    identifiers: tuple[str, ...] = ()
    family: str = ""
    given: str = ""
    birth_date: date | None = None
    sex: Sex = Sex.UNKNOWN
    birth_at: datetime | None = None  # with the hour, where the hospital sends it


@record
class OrderedItem:
    """An open order item of a specimen."""

    id: str
    test_id: str
    order_id: str
    status: ItemStatus


@dataclass(frozen=True, slots=True)
class SpecimenFacts:
    id: str
    barcode: str
    type: str = ""
    collected_at: datetime | None = None
    patient: PatientFacts | None = None
    items: tuple[OrderedItem, ...] = ()
    pregnant: bool | None = None  # as the order says; None: it does not
    gestation_weeks: int | None = None
    received_at: datetime | None = None  # by the laboratory
    created_at: datetime | None = None  # when it was ordered
    order_id: str = ""
    ward: str = ""
    patient_group: str = ""
    priority: Priority = Priority.ROUTINE
    time_point_min: int | None = None  # of a series, after its beginning
    available: bool = True  # it may be measured
    family: tuple[str, ...] = ()  # the ids of the specimens it was parted from and into, its own too
    person: tuple[str, ...] = ()  # the ids of all records of its patient, as far as anybody merged them


@record
class Step:
    """One line of a result's explanation: which rule, in which version, on which inputs, said what."""

    step: str  # decode, map, method, match, unit, interval, flag, hold, release
    verdict: str  # ok, hold, none, or the flag itself
    text: str
    version: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    written: str = field(default="", init=False, compare=False, repr=False)  # as it is stored, once it was

"""What the laboratory shows of its own records: read models that API, FHIR, CLI and documents render. Frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from interface.domain.model import (
    Comparator,
    HoldReason,
    Interval,
    ItemStatus,
    Origin,
    Priority,
    ResultStatus,
    Sex,
    ValueKind,
)
from interface.domain.record import record
from interface.domain.states import SpecimenState
from interface.domain.times import believed
from interface.domain.units import UNKNOWN_SUBSTANCE, Substance


class ActorKind(StrEnum):
    """Who changes a state: never the operating-system user. `setup` only makes what the first actor needs to exist."""

    USER = "user"
    CLIENT = "client"
    LINK = "link"
    RULE_SET = "rule_set"
    SETUP = "setup"


@record
class Actor:
    """An authenticated actor of one organization. `address`: where the request came from, "" for the command line."""

    kind: ActorKind
    id: UUID | None
    name: str
    organization_id: UUID
    scopes: frozenset[str] = frozenset()  # a client's SMART scopes, a user's permissions
    roles: frozenset[str] = frozenset()
    address: str = ""


class Audience(StrEnum):
    """Who reads. Everyone but staff never sees a held result (DESIGN §1.4); see `store.lab`."""

    STAFF = "staff"
    EMR = "emr"  # released only
    EMR_PRELIMINARY = "emr_preliminary"  # [api] preliminary = "visible": also preliminary, never held


@dataclass(frozen=True, slots=True)
class IdentifierView:
    authority: str  # a system URI or an assigning authority's name; "" for the laboratory's own
    value: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class FormerIdentifier:
    """One that has ended: it finds nobody any more, and may be another's."""

    authority: str
    value: str
    type: str
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class PatientView:
    """One record of a patient. `active` is as it was set; one that was merged into another is in use no more."""

    id: UUID
    version: int
    updated_at: datetime
    identifiers: tuple[IdentifierView, ...] = ()  # those that have not ended
    family: str = ""
    given: str = ""
    birth_date: date | None = None
    sex: Sex = Sex.UNKNOWN
    active: bool = True
    birth_at: datetime | None = None  # where the hour is known
    merged_into: UUID | None = None  # the survivor, to be used in its place
    replaces: tuple[UUID, ...] = ()  # those that were merged into it


@dataclass(frozen=True, slots=True)
class LookAgain:
    """A result that was compared with what is not so: with a result of another person, whose record was merged then, or
    with what was corrected or retracted since."""

    result_id: UUID
    version: int
    status: ResultStatus
    patient_id: UUID
    barcode: str
    test_code: str
    value: str  # with its unit, as of the other
    compared_with: UUID  # the other's result
    other_patient_id: UUID
    other_value: str


@dataclass(frozen=True, slots=True)
class OrderedMeanwhile:
    """An order that was placed while two records were one: of the one that was in use, whomever it was for."""

    order_id: UUID
    order_number: str
    placer_number: str
    patient_id: UUID
    ordered_at: datetime


@dataclass(frozen=True, slots=True)
class UnmergedView(PatientView):
    """A patient whose merge was taken back. `look_again`: what a person has to look at, of either; `ordered_meanwhile`:
    orders of the other record of which a person has to say whose they are."""

    look_again: tuple[LookAgain, ...] = ()
    ordered_meanwhile: tuple[OrderedMeanwhile, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderView:
    """Who orders."""

    id: UUID
    version: int
    updated_at: datetime
    identifiers: tuple[IdentifierView, ...] = ()  # those that have not ended
    family: str = ""
    given: str = ""
    role: str = ""
    active: bool = True


@dataclass(frozen=True, slots=True)
class SpecimenView:
    id: UUID
    version: int
    updated_at: datetime
    barcode: str
    type: str = ""
    status: str = "available"
    patient_id: UUID | None = None
    order_id: UUID | None = None
    collected_at: datetime | None = None
    received_at: datetime | None = None
    reject_reason: str = ""
    state: SpecimenState = SpecimenState.EXPECTED
    reject_code: str = ""  # a `RejectReason`
    container: str = ""
    time_point_min: int | None = None  # of a time series: minutes after its beginning
    parent_id: UUID | None = None  # of an aliquot
    collected_by: str = ""
    received_by: str = ""
    rack: str = ""  # where it is stored; "" when it is not
    position: str = ""


@dataclass(frozen=True, slots=True)
class SpecimenEventView:
    """One step of a specimen, or a place it had."""

    happened_at: datetime
    action: str  # create, collect, receive, store, take_out, reject, reinstate, exhaust, dispose, cancel, aliquot
    state: SpecimenState  # afterwards
    actor: str
    rack: str = ""
    position: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RequesterView:
    id: UUID
    identifier: str | None = None
    family: str = ""
    given: str = ""


@dataclass(frozen=True, slots=True)
class OrderItemView:
    id: UUID
    test_code: str
    test_name: str
    loinc: str
    status: ItemStatus
    specimen_id: UUID | None = None
    barcode: str = ""
    time_point_min: int | None = None
    reason: str = ""  # why it was cancelled or rejected
    placers: tuple[IdentifierView, ...] | None = None  # the numbers by which it is known; None: its order's


@dataclass(frozen=True, slots=True)
class OrderView:
    id: UUID
    version: int
    updated_at: datetime
    number: str
    placer_number: str
    priority: Priority
    ordered_at: datetime
    patient_id: UUID | None = None
    clinical_history: str = ""
    cancelled: bool = False
    items: tuple[OrderItemView, ...] = ()
    cancel_reason: str = ""
    requester: RequesterView | None = None
    ward: str = ""
    patient_group: str = ""  # such as dialysis
    pregnant: bool | None = None  # None: not said
    gestation_weeks: int | None = None
    placer_authority: str = ""  # whose number `placer_number` is


@dataclass(frozen=True, slots=True)
class ResultView:
    """One result in one version, with what is needed to show it and no more look-ups."""

    id: UUID
    version: int
    version_id: UUID
    status: ResultStatus
    held: tuple[HoldReason, ...]
    updated_at: datetime
    created_at: datetime
    released_at: datetime | None
    test_code: str
    test_name: str
    loinc: str
    kind: ValueKind
    value: str  # exact decimal text for numeric, as reported
    number: Decimal | None
    comparator: Comparator | None
    unit: str  # UCUM
    low: Decimal | None
    high: Decimal | None
    reference: str
    flags: tuple[str, ...]  # final flags (HL7 v3 ObservationInterpretation codes)
    note: str
    specimen_id: UUID | None
    barcode: str  # the specimen as sent by the analyzer
    patient_id: UUID | None
    order_id: UUID | None
    order_item_id: UUID | None
    analyzer: str
    message_id: UUID | None
    code: str  # as the analyzer says it
    raw_value: str
    raw_unit: str
    raw_flags: str
    instrument_time: str
    instrument_at: datetime | None
    comments: tuple[str, ...] = ()
    pending: bool = False  # a later version of this released result waits for a person
    collected_at: datetime | None = None  # when the specimen was taken, as far as the order says
    reportable: bool = True  # of several runs for one order item exactly one is
    origin: Origin = Origin.ANALYZER
    analyzer_id: UUID | None = None  # None: a person's or a calculated one
    method: str = ""  # by which it was measured, as the laboratory or else the analyzer calls it; "": not known

    @property
    def effective_at(self) -> datetime | None:
        """When it was so: collected, else measured by a clock that is believed (`store.versions.measured`)."""
        return self.collected_at or believed(self.instrument_at, self.created_at)


class ObservationRow(NamedTuple):
    """Of a result what an Observation shows, as plain as the tables have it: a page of them is made at once, and what
    many share is found again by being equal (`render.fhir`). None and "" say nothing.

    Instants are RFC 3339 texts in UTC, numbers the digits that they were reported with.
    """

    id: UUID
    version_id: UUID
    order_item_id: UUID | None
    updated: str
    effective: str
    patient_id: UUID | None
    laboratory_id: UUID | None
    laboratory_title: str | None
    laboratory_name: str | None
    test_code: str
    test_name: str
    loinc: str
    status: str
    kind: str
    comparator: str
    number: str | None
    value: str
    unit: str
    low: str | None
    high: str | None
    reference: str
    flags: tuple[str, ...] | None
    comments: tuple[str, ...] | None
    note: str
    origin: str
    method: str
    specimen_id: UUID | None
    analyzer_id: UUID | None
    analyzer: str | None


@dataclass(frozen=True, slots=True)
class LabTestView:
    """A test of the catalogue, with what only the catalogue shows of it."""

    id: UUID
    version: int
    code: str
    name: str
    loinc: str = ""
    unit: str = ""
    decimals: int | None = None
    kind: ValueKind = ValueKind.NUMERIC
    department: str = ""
    specimen_types: tuple[str, ...] = ()
    source: str = ""
    active: bool = True
    substance: Substance = UNKNOWN_SUBSTANCE


@dataclass(frozen=True, slots=True)
class PanelView:
    id: UUID
    version: int
    code: str
    name: str
    loinc: str = ""
    tests: tuple[str, ...] = ()  # codes, in the order in which they are shown
    source: str = ""
    active: bool = True


@dataclass(frozen=True, slots=True)
class SpecimenTypeView:
    code: str
    name: str
    source: str = ""
    active: bool = True


@dataclass(frozen=True, slots=True)
class IntervalView:
    """`test`: the code."""

    test: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class ReportView:
    """A DiagnosticReport: one order and those of its results that the audience may see."""

    order: OrderView
    results: tuple[ResultView, ...]
    updated_at: datetime

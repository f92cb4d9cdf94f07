"""The report of an order: what stands on its pages, as it was at one moment. A version is never changed.

It has what an EMR may see and nothing else: no held result, no control. Values are the texts that were reported; no
number in it is a float. API, FHIR, command line and the pages are made of it (`render.report_layout`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from interface.domain.model import ItemStatus, Priority, ResultStatus, Sex
from interface.domain.record import record


class Paper(StrEnum):
    A4 = "a4"
    LETTER = "letter"


class Language(StrEnum):
    """Of the report's own words; names of tests are the catalogue's."""

    ENGLISH = "en"
    INDONESIAN = "id"


@record
class Header:
    """The laboratory as its reports name it: 42 CFR 493.1291(c)(2) asks for name and address."""

    laboratory: str
    address: str = ""
    phone: str = ""
    director: str = ""
    accreditation: str = ""
    zone: str = "UTC"  # IANA; every instant on the page is in it


@record
class Number:
    """A patient's identifier."""

    authority: str
    value: str
    type: str = ""


@record
class Person:
    """493.1291(c)(1): name and identification number."""

    family: str = ""
    given: str = ""
    birth_date: date | None = None
    sex: Sex = Sex.UNKNOWN
    numbers: tuple[Number, ...] = ()


@record
class Tube:
    """A specimen. `rejected`: why it is unfit (493.1291(c)(7)); "" where it is not."""

    barcode: str
    type: str = ""
    collected_at: datetime | None = None
    received_at: datetime | None = None
    rejected: str = ""
    time_point_min: int | None = None


@record
class Former:
    """What the result was in a version that was given out before: 493.1291(k) keeps the original beside it."""

    value: str
    unit: str
    status: ResultStatus
    released_at: datetime
    reference: str = ""
    flags: tuple[str, ...] = ()


@record
class Earlier:
    """What the same test gave the patient before, in the same unit."""

    at: datetime
    value: str
    number: Decimal | None = None


@record
class Line:
    """One result. One that was withdrawn (entered in error) has no value of its own, only `before`."""

    test: str
    name: str
    status: ResultStatus
    version: int
    value: str = ""
    number: Decimal | None = None
    unit: str = ""
    reference: str = ""  # in words, or made of the limits
    low: Decimal | None = None
    high: Decimal | None = None
    flags: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    department: str = ""
    specimen: str = ""  # its barcode
    analyzer: str = ""
    measured_at: datetime | None = None
    made_at: datetime | None = None  # this version: it was released then, or withdrawn
    released_by: str = ""  # a person, or the rule set and its revision
    by_rules: bool = False
    verified_by: str = ""  # the first of two people
    before: tuple[Former, ...] = ()  # the oldest first
    earlier: tuple[Earlier, ...] = ()  # the newest first

    @property
    def withdrawn(self) -> bool:
        return self.status is ResultStatus.ENTERED_IN_ERROR


@record
class Open:
    """A test that was ordered and has no result here: it is not finished, or never will be."""

    test: str
    name: str
    status: ItemStatus
    department: str = ""
    reason: str = ""


@record
class OrderReport:
    """`status` is of FHIR's diagnostic-report-status. `replaces_at`: when the version before was made."""

    header: Header
    number: str
    status: str
    priority: Priority
    ordered_at: datetime
    person: Person | None = None
    placer_number: str = ""  # of several placers all
    requester: str = ""
    ward: str = ""
    history: str = ""  # what the requester said of the patient
    tubes: tuple[Tube, ...] = ()
    lines: tuple[Line, ...] = ()
    open: tuple[Open, ...] = ()
    version: int = 0
    issued_at: datetime | None = None
    replaces_at: datetime | None = None
    replaces: int = 0  # the version before, for who may see it

    @property
    def empty(self) -> bool:
        """Nothing to report: no result that may be seen, and no specimen that was unfit."""
        unfit = any(tube.rejected for tube in self.tubes) or any(one.status is ItemStatus.REJECTED for one in self.open)
        return not self.lines and not unfit

    @property
    def preliminary(self) -> bool:
        """Whether it tells what was not released, which only some sites show their EMRs."""
        return any(line.status is ResultStatus.PRELIMINARY for line in self.lines)

    @property
    def content(self) -> OrderReport:
        """What makes a version: the order's own part. A new director, an earlier result of another order that was
        corrected and the hour are no reason to issue every report again."""
        lines = tuple(replace(line, earlier=()) for line in self.lines)
        return replace(self, header=Header(""), lines=lines, version=0, issued_at=None, replaces_at=None, replaces=0)


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """How an organization's reports look, beside its name."""

    address: str = ""
    phone: str = ""
    director: str = ""
    accreditation: str = ""
    zone: str = "UTC"
    paper: Paper = Paper.A4
    language: Language = Language.ENGLISH
    version: int = 0


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A version of an order's report, as a row. `paper` and `language`: its own form, which FHIR refers to."""

    id: UUID
    order_id: UUID
    version: int
    status: str
    created_at: datetime
    preliminary: bool
    paper: Paper
    language: Language


@dataclass(frozen=True, slots=True)
class ReportDocument:
    """A version as PDF, or what is to be known of it where `body` is empty. `hash`: SHA-1, as FHIR's Attachment has it.

    The same version in the same form is the same bytes for ever: they are kept when they were made first.
    """

    report: StoredReport
    patient_id: UUID | None
    number: str  # the order's
    paper: Paper
    language: Language
    hash: bytes
    size: int
    body: bytes = b""

    @property
    def filename(self) -> str:
        """Without what names a person."""
        return f"report-{self.report.order_id}-{self.report.version}.pdf"

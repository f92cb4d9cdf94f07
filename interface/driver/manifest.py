"""The schema of `driver.toml` (DESIGN §7): an analyzer as data. Pure: text in, a frozen `Driver` or DriverError out.

Field paths are the documents' own: `R.3.5` is record R, field 3, component 5; `OBX-3.1` and `SPM-2.1.1` are HL7's.
Where several paths are given, the first that is not empty counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from interface.domain.model import HoldReason, Protocol, SpecimenRole
from interface.domain.values import DEFAULT_GRAMMAR, ValueGrammar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interface.driver.layout import Layout
    from interface.wire.declared import Grammar


class Tier(StrEnum):
    """How a driver is known to be right."""

    SIMULATED = "simulated"
    CAPTURED = "captured"
    SITE_VALIDATED = "site-validated"


class StatusMeaning(StrEnum):
    """What a result status says about the value. It never sets ours (DESIGN §1.4)."""

    OK = "ok"
    QUESTIONABLE = "questionable"  # preliminary, to be verified, doubted
    FAILED = "failed"  # there is no result
    PENDING = "pending"  # not yet
    UNKNOWN = "unknown"


class RecordKind(StrEnum):
    """What a result record is when it is not a measurement."""

    IMAGE = "image"  # a picture or curve, or where one lies
    FLAG = "flag"  # a message about the specimen: it has fired when it has a flag or a value
    TEXT = "text"  # words, however much they look like a number


class LinkFraming(StrEnum):
    """What lies around a message on the line."""

    LIS01 = "lis01"  # LIS01-A2 frames; HL7 in them is a message from MSH to the next or to EOT
    MLLP = "mllp"
    DECLARED = "declared"  # blocks as the driver's own grammar has them


@dataclass(frozen=True, slots=True)
class FieldPath:
    """Where in a record something stands; numbers from 1, component and subcomponent None for the whole."""

    record: str
    field: int
    component: int | None = None
    subcomponent: int | None = None

    def __str__(self) -> str:
        if not self.field:
            return self.record
        mark = "-" if len(self.record) == 3 else "."
        rest = "".join(f".{n}" for n in (self.component, self.subcomponent) if n is not None)
        return f"{self.record}{mark}{self.field}{rest}"


# Of records that a driver lays out itself: the block's whole text, and what its field `role` says.
TEXT_PATH, ROLE_PATH = FieldPath("text", 0), FieldPath("role", 0)


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A regular expression that must match (search) the field at `path` for the driver to recognise a header."""

    path: FieldPath
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Who a specimen is of: the first rule whose condition holds says it; without one it is a patient's."""

    role: SpecimenRole
    path: FieldPath | None  # None: the specimen id
    equals: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None

    def holds(self, value: str) -> bool:
        """Whether the field's value meets the rule. Blanks around it do not count."""
        value = value.strip()
        if value in self.equals:
            return True
        return self.pattern is not None and self.pattern.search(value) is not None


@dataclass(frozen=True, slots=True)
class SpecimenIdRule:
    """How a specimen id is read: blanks are stripped, then `pattern`'s first group is taken where it matches."""

    strip: str = " "
    pattern: re.Pattern[str] | None = None
    null: frozenset[str] = frozenset()  # values that mean that none was read

    def read(self, raw: str) -> str:
        """The id; "" when there is none."""
        value = raw.strip(self.strip)
        if self.pattern is not None and (match := self.pattern.search(value)):
            value = match[1] if match.re.groups else match[0]
        return "" if value in self.null else value


@dataclass(frozen=True, slots=True)
class Classification:
    """Result records that are no measurements, by their code."""

    kind: RecordKind
    codes: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    media_type: str = "application/octet-stream"

    def matches(self, code: str) -> bool:
        return code in self.codes or (self.pattern is not None and self.pattern.search(code) is not None)


@dataclass(frozen=True, slots=True)
class QueryRule:
    """How the analyzer asks for work. `message_types`: HL7 only, the messages that are queries."""

    specimen_id: tuple[FieldPath, ...] = ()
    patient_id: tuple[FieldPath, ...] = ()
    tests: tuple[FieldPath, ...] = ()
    all_words: frozenset[str] = frozenset({"ALL"})
    message_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """A data alarm in a comment below a result: `known` says which values need no hold."""

    path: FieldPath
    known: frozenset[str]


@dataclass(frozen=True, slots=True)
class FieldPaths:
    """Where things stand. All have a default by protocol; a driver names what differs."""

    sender: tuple[FieldPath, ...] = ()
    patient_id: tuple[FieldPath, ...] = ()
    patient_name: tuple[FieldPath, ...] = ()
    birth_date: tuple[FieldPath, ...] = ()
    sex: tuple[FieldPath, ...] = ()
    specimen_id: tuple[FieldPath, ...] = ()
    specimen_type: tuple[FieldPath, ...] = ()
    order_code: tuple[FieldPath, ...] = ()
    collected: tuple[FieldPath, ...] = ()
    code: tuple[FieldPath, ...] = ()
    name: tuple[FieldPath, ...] = ()
    value: tuple[FieldPath, ...] = ()
    unit: tuple[FieldPath, ...] = ()
    reference: tuple[FieldPath, ...] = ()
    flags: tuple[FieldPath, ...] = ()
    status: tuple[FieldPath, ...] = ()
    instrument_time: tuple[FieldPath, ...] = ()
    operator: tuple[FieldPath, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver folder. `revision` is what results pin."""

    id: str
    revision: str
    protocol: Protocol
    tier: Tier
    title: str
    vendor: str = ""
    model: str = ""
    document: str = ""  # the vendor's document and its revision
    evidence: tuple[str, ...] = ()
    generic: bool = False
    encoding: str = ""
    literal_escapes: bool = False  # LIS2: `&|&` is a bar that is data (Beckman's way, not the standard's)
    leniencies: frozenset[str] = frozenset()  # names of `wire.datalink_events.Leniency`
    link: LinkFraming = LinkFraming.LIS01
    blocks: Grammar | None = None  # what one is, where `link` is declared
    layout: Layout | None = None  # of its records, where the protocol is declared
    frame_text_bytes: int = 0  # of the frames we send; 0: 240, which every receiver takes
    ack_colliding_enq: bool = False  # in contention the analyzer expects its ENQ to be acknowledged at once
    match: tuple[HeaderMatch, ...] = ()
    paths: FieldPaths = FieldPaths()
    specimen_ids: SpecimenIdRule = SpecimenIdRule()
    code_pattern: re.Pattern[str] | None = None  # the code is its first group, where it matches
    roles: tuple[RoleRule, ...] = ()
    grammar: ValueGrammar = DEFAULT_GRAMMAR
    flags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    flag_holds: Mapping[str, HoldReason] = field(default_factory=lambda: MappingProxyType({}))
    statuses: Mapping[str, StatusMeaning] = field(default_factory=lambda: MappingProxyType({}))
    classifications: tuple[Classification, ...] = ()
    query: QueryRule = QueryRule()
    alarm: AlarmRule | None = None

    def code(self, as_sent: str) -> str:
        """The test code without what the analyzer glues to it; the whole field stays in the result's code path."""
        match = self.code_pattern.search(as_sent) if self.code_pattern else None
        return match[1] if match else as_sent

    def status(self, as_sent: str) -> StatusMeaning:
        """What a status means; UNKNOWN when the table does not have it."""
        return self.statuses.get(as_sent.strip(), StatusMeaning.UNKNOWN)

    def flag(self, as_sent: str) -> str | None:
        """Our HL7 v3 interpretation code for a flag; "" when it says nothing, None when it is unknown or holds."""
        return self.flags.get(as_sent)

    def flag_hold(self, as_sent: str) -> HoldReason | None:
        """Why a flag holds the result, if it does: a reason of the table's, or that it is not in the table."""
        if as_sent in self.flags:
            return None
        return self.flag_holds.get(as_sent, HoldReason.UNKNOWN_FLAG)

    def classify(self, code: str) -> Classification | None:
        return next((c for c in self.classifications if c.matches(code)), None)

    def role(self, value_at: Mapping[FieldPath | None, str]) -> SpecimenRole:
        """The role by the first rule that holds; `value_at` has the rules' paths and None for the specimen id."""
        for rule in self.roles:
            if rule.holds(value_at.get(rule.path, "")):
                return rule.role
        return SpecimenRole.PATIENT

    def recognises(self, header: Mapping[FieldPath, str]) -> bool:
        """Whether the header is of this analyzer; a driver without `match` recognises none."""
        return bool(self.match) and all(rule.pattern.search(header.get(rule.path, "")) for rule in self.match)

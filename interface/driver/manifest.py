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

from interface.domain.model import HoldReason, Observed, Protocol, SpecimenRole
from interface.domain.values import DEFAULT_GRAMMAR, ValueGrammar
from interface.driver.dialogue import Answer
from interface.driver.download import Download
from interface.driver.law import LawDialect
from interface.driver.materials import MaterialRule
from interface.driver.order_value import OrderValue
from interface.driver.rules import (
    CODE_PATH,
    VALUE_PATH,
    AlarmRule,
    AttachmentRule,
    Classification,
    FieldPath,
    HoldRule,
    Reader,
    RecordKind,
    RoleRule,
    met,
)
from interface.driver.specimen_ids import SpecimenIdRule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


class LinkFraming(StrEnum):
    """What lies around a message on the line."""

    LIS01 = "lis01"  # LIS01-A2 frames; HL7 in them is a message from MSH to the next or to EOT
    MLLP = "mllp"
    DECLARED = "declared"  # blocks as the driver's own grammar has them


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A regular expression that must match (search) the field at `path` for the driver to recognise a header."""

    path: FieldPath
    pattern: re.Pattern[str]


class Feature(StrEnum):
    """What not every analyzer has. One that `lacks` it needs no vector of it."""

    QC = "qc"  # it does not say of a result that it is a control's
    RERUN = "rerun"
    QUERY = "query"
    RETRANSMISSION = "retransmission"


class CodeKind(StrEnum):
    """What the results of a code are, as far as the vendor says."""

    NUMERIC = "numeric"
    CODED = "coded"
    TEXT = "text"
    RATIO = "ratio"
    TIME = "time"
    IMAGE = "image"
    FLAG = "flag"
    DETAIL = "detail"


@dataclass(frozen=True, slots=True)
class CodeEntry:
    """One code that the analyzer sends, and where that is documented."""

    code: str
    name: str  # the vendor's
    source: str
    unit: str = ""  # as the analyzer prints it
    kind: CodeKind = CodeKind.NUMERIC


@dataclass(frozen=True, slots=True)
class QueryRule:
    """How the analyzer asks for work. `message_types`: HL7 only, the messages that are queries.

    `cancels`: what at `status` says that the analyzer takes a query back (cobas: A in Q-13).
    """

    specimen_id: tuple[FieldPath, ...] = ()
    patient_id: tuple[FieldPath, ...] = ()
    tests: tuple[FieldPath, ...] = ()
    all_words: frozenset[str] = frozenset({"ALL"})
    message_types: frozenset[str] = frozenset()
    status: tuple[FieldPath, ...] = ()
    cancels: frozenset[str] = frozenset()


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
    call: tuple[FieldPath, ...] = ()  # words beside the number: DETECTED
    unit: tuple[FieldPath, ...] = ()
    reference: tuple[FieldPath, ...] = ()
    flags: tuple[FieldPath, ...] = ()
    status: tuple[FieldPath, ...] = ()
    instrument_time: tuple[FieldPath, ...] = ()
    operator: tuple[FieldPath, ...] = ()
    method: tuple[FieldPath, ...] = ()
    dilution: tuple[FieldPath, ...] = ()  # the factor, of LIS2; HL7 has segments for it


def _nothing(path: FieldPath) -> tuple[str, ...]:
    return ()


_MOST_ROLES, _LONG_ROLE = 256, 200  # that are kept, and of how many characters at most
_READ_ALWAYS = frozenset({2, 3, 4, 5})  # of an OBX, whatever the paths say

_RECORD_KINDS = {
    CodeKind.TEXT: Classification(RecordKind.TEXT),
    CodeKind.IMAGE: Classification(RecordKind.IMAGE),
    CodeKind.FLAG: Classification(RecordKind.FLAG),
    CodeKind.DETAIL: Classification(RecordKind.DETAIL),
}


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
    unverified: tuple[str, ...] = ()  # what of this driver nobody could check
    lacks: frozenset[Feature] = frozenset()
    generic: bool = False
    named_only: bool = False  # its header says too little: it is taken only where a link or a person names it
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
    control: OrderValue | None = None  # of controls that have no OBX
    specimen_ids: SpecimenIdRule = field(default_factory=SpecimenIdRule)
    code_parts: tuple[tuple[FieldPath, ...], ...] = ()  # of a composite code; () where `paths.code` says all
    code_join: str = "/"
    code_pattern: re.Pattern[str] | None = None  # the code is its groups, where it matches
    dilution: re.Pattern[str] | None = None  # its groups are the factors; None: all that stands there
    codes: Mapping[str, CodeEntry] = field(default_factory=lambda: MappingProxyType({}))
    units: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # as printed: UCUM, "" for none
    roles: tuple[RoleRule, ...] = ()
    grammar: ValueGrammar = DEFAULT_GRAMMAR
    flag_separator: str = ""  # between flags in one place: `H,D`
    flag_width: int = 0  # or so many characters are one
    flags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    flag_holds: Mapping[str, HoldReason] = field(default_factory=lambda: MappingProxyType({}))
    statuses: Mapping[str, StatusMeaning] = field(default_factory=lambda: MappingProxyType({}))
    classifications: tuple[Classification, ...] = ()
    holds: tuple[HoldRule, ...] = ()
    attachments: tuple[AttachmentRule, ...] = ()
    query: QueryRule = QueryRule()
    answer: Answer | None = None  # how the host answers; None: as the standard has it
    download: Download | None = None  # how it is told of work that it has not asked for
    law: LawDialect | None = None  # it speaks IHE LAW over two connections: a query's work goes by the one that we make
    alarm: AlarmRule | None = None
    materials: tuple[MaterialRule, ...] = ()  # what a result was measured with
    manifest: str = field(default="", compare=False, repr=False)  # the text itself
    digest: str = field(default="", compare=False)  # of the text: what a revision is known by
    code_fields: tuple[tuple[str, int], ...] = field(init=False, compare=False)  # what a composite code is made of
    material_records: frozenset[str] = field(init=False, compare=False)  # that `materials` are read from
    # Of HL7: the fields of an OBX that are its own in each message; None: what it says depends on others around it.
    own_fields: tuple[int, ...] | None = field(init=False, compare=False, repr=False)
    seen: dict[str, Observed] = field(init=False, default_factory=dict, compare=False, repr=False)  # by an OBX's text
    role_paths: tuple[FieldPath, ...] = field(init=False, compare=False, repr=False)  # all that `roles` ask
    _roles_of: dict[tuple[tuple[str, ...], ...], SpecimenRole | None] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "own_fields", self._own_fields())
        object.__setattr__(self, "material_records", frozenset(rule.path.record for rule in self.materials))
        fields = dict.fromkeys((path.record, path.field) for parts in self.code_parts for path in parts)
        object.__setattr__(self, "code_fields", tuple(fields))
        asked = dict.fromkeys(one.path for rule in self.roles for one in rule.when)
        object.__setattr__(self, "role_paths", tuple(asked))

    def _own_fields(self) -> tuple[int, ...] | None:
        """OBX-1, a number that says nothing, and the time of the measurement."""
        paths = self.paths
        read = [paths.code, paths.name, paths.value, paths.call, paths.unit, paths.reference, paths.flags]
        read += [paths.status, paths.operator, paths.method, *self.code_parts]
        rules = [*(rule.when for rule in self.holds), *(rule.when for rule in self.classifications)]
        asked = [one.path for when in rules for one in when]
        here = [path for several in read for path in several]
        here += [path for path in asked if path not in (CODE_PATH, VALUE_PATH)]
        own = (1, *(path.field for path in paths.instrument_time if path.record == "OBX"))
        alone = all(path.record == "OBX" and path.field and path.field not in own for path in here)
        return own if alone and not _READ_ALWAYS.intersection(own[1:]) else None

    def code(self, as_sent: str) -> str:
        """The test code without what the analyzer glues to it; the whole field stays in the result's code path."""
        match = self.code_pattern.search(as_sent) if self.code_pattern else None
        return self.code_join.join(filter(None, match.groups())) if match else as_sent

    def composed(self, read: Callable[[FieldPath], str]) -> str:
        """A composite code: empty parts at either end fall away, empty ones between two others stay."""
        for parts in self.code_parts:
            said = [read(path) for path in parts]
            while said and not said[-1]:
                said.pop()
            while said and not said[0]:
                del said[0]
            if said:
                return self.code_join.join(said)
        return ""

    def flags_of(self, as_sent: str) -> tuple[str, ...]:
        """The flags of one place."""
        parts = as_sent.split(self.flag_separator) if self.flag_separator else [as_sent]
        if self.flag_width:
            parts = [part[at : at + self.flag_width] for part in parts for at in range(0, len(part), self.flag_width)]
        elif not self.flag_separator:
            return (as_sent,)
        return tuple(flag for part in parts if (flag := part.strip()))

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

    def classify(self, code: str, read: Reader = _nothing) -> Classification | None:
        """What the record is when it is no measurement. `read`: what the rules' other paths say."""
        if (entry := self.codes.get(code)) is not None and (kind := _RECORD_KINDS.get(entry.kind)) is not None:
            return kind
        return next((c for c in self.classifications if c.matches(code, read)), None)

    def role(self, read: Reader) -> SpecimenRole | None:
        """The role by the first rule that holds; None where none does. An analyzer says the same of most specimens."""
        said = tuple([tuple(read(path)) for path in self.role_paths])
        if said in (known := self._roles_of):
            return known[said]
        role = next((rule.role for rule in self.roles if met(rule.when, read)), None)
        if sum([len(value) for values in said for value in values]) > _LONG_ROLE:
            return role
        if len(known) >= _MOST_ROLES:
            object.__setattr__(self, "_roles_of", known := {})  # another thread may be reading the one of before
        known[said] = role
        return role

    def hold(self, read: Reader, *, beside: bool = False) -> tuple[HoldReason, ...]:
        """Why the driver's own conditions hold a result. `beside`: all of its order."""
        rules = (rule for rule in self.holds if rule.beside or not beside)
        return tuple(dict.fromkeys(rule.reason for rule in rules if met(rule.when, read)))

    def recognises(self, header: Mapping[FieldPath, str]) -> bool:
        """Whether the header is of this analyzer; a driver without `match` recognises none."""
        return bool(self.match) and all(rule.pattern.search(header.get(rule.path, "")) for rule in self.match)

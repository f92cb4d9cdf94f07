"""What is planted, and what must become of it. Frozen rows; nothing here knows the code under test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class Fate(StrEnum):
    """What must have become of a result at the end of the run."""

    RELEASED = "released"  # without a person, and an EMR sees it
    HELD = "held"  # for exactly the expected reasons
    WAITS = "waits"  # preliminary: nothing stands against it, and nothing released it


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    family: str
    given: str
    birth: date | None
    sex: str  # female, male, unknown


@dataclass(frozen=True, slots=True)
class Tube:
    """A specimen to order. `tests`: the laboratory's codes."""

    barcode: str
    person: Person
    tests: tuple[str, ...]
    collected: datetime | None
    priority: str = "routine"


@dataclass(frozen=True, slots=True)
class Order:
    tube: Tube


@dataclass(frozen=True, slots=True)
class Reject:
    barcode: str


@dataclass(frozen=True, slots=True)
class Dispose:
    barcode: str


@dataclass(frozen=True, slots=True)
class MakeOld:
    """The specimen came to the laboratory so long ago that its barcode may have been used again since."""

    barcode: str


@dataclass(frozen=True, slots=True)
class Relabel:
    """By an accident that the laboratory's own programs forbid, a tube carries the barcode of another one."""

    barcode: str
    to: str


@dataclass(frozen=True, slots=True)
class Merge:
    """Two records, by identifier, are found to be one person's."""

    prior: str
    survivor: str


@dataclass(frozen=True, slots=True)
class Unmerge:
    """It was a mistake."""

    prior: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The order of a specimen, by its barcode."""

    barcode: str


@dataclass(frozen=True, slots=True)
class Aliquot:
    parent: str
    barcode: str
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Switch:
    """Autoverification of a test, or of an analyzer, is switched off, or on again."""

    key: str
    off: bool
    analyzer: bool = False


Setup = Order | Reject | Dispose | MakeOld | Relabel | Merge | Unmerge | Cancel | Aliquot | Switch


@dataclass(frozen=True, slots=True)
class Said:
    """The patient as an analyzer sends him. "" is not sent."""

    id: str = ""
    name: str = ""
    birth: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One R record, one OBX. `type`: of HL7's OBX-2."""

    code: str
    value: str
    unit: str = ""
    flag: str = "N"
    status: str = "F"
    type: str = "NM"
    time: str = ""  # "" is the message's, "-" is not sent
    comment: str = ""
    reference: str = ""  # as the analyzer prints it
    dilution: str = ""  # TCD-2 of HL7: ^1^:^5


@dataclass(frozen=True, slots=True)
class Part:
    """A specimen in a message with its patient. `control`: it says of itself that it is quality control's."""

    said: Said
    barcode: str
    rows: tuple[Row, ...]
    control: bool = False
    again: bool = False  # another specimen of the patient of the part before it


@dataclass(frozen=True, slots=True)
class Send:
    """One message. `cut`: the transmission ends before the terminator record."""

    link: str
    control_id: str
    time: str
    parts: tuple[Part, ...]
    cut: bool = False

    @property
    def hl7(self) -> bool:
        return self.link.startswith("hl7")

    @property
    def results(self) -> int:
        return sum(len(part.rows) for part in self.parts)


# Barcode as sent, code as sent, instrument's time; without one, whose it is. Of what is calculated: barcode, =test, "".
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be found of one result. None is not compared; `flags` without regard to order.

    `pending`: the value of a version that waits beside the released one, which must be held as changed after release.
    `critical`: there is, or is not, a task to tell somebody.
    """

    key: Key
    kind: str  # the class of hazard it belongs to
    planted: str  # in words
    fate: Fate
    hazard: bool = False  # it is one itself; else it stands beside one, or is of a healthy message
    value: str | None = None
    unit: str | None = None
    flags: tuple[str, ...] | None = None
    patients: tuple[str, ...] = ()  # identifiers of the one it is of: any of several records of him; none: nobody's
    test: str | None = None
    reasons: frozenset[str] = frozenset()
    reportable: bool | None = True
    pending: str | None = None
    critical: bool | None = False
    versions: int = 1
    dated: str = ""  # by which it is dated: collection, receipt, clock (the instrument's)


@dataclass(frozen=True, slots=True)
class Stage:
    """What is set up, then what is sent; each lane in its order, the lanes at once. Then all of it is decided."""

    setup: tuple[Setup, ...]
    lanes: tuple[tuple[Send, ...], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    stages: tuple[Stage, ...]
    expected: tuple[Expected, ...]
    controls: int  # results on quality control's specimens
    duplicates: int  # messages that were resent to the byte
    sent: int  # results, as sent

"""What a hospital asks of a laboratory and says of its patients, in its own terms. Frozen; nothing is mapped.

`decode_orders` reads it from HL7 v2, `encode_orders` writes the answer. What is wrong stands beside what it touches,
with its place for ERR-2 and its code of HL7 table 0357.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import date, datetime
from enum import StrEnum
from hashlib import blake2b

from interface.domain.model import Priority, Sex
from interface.domain.specimens import RejectReason
from interface.domain.views import IdentifierView


class Control(StrEnum):
    """HL7 table 0119: what the placer of an order may ask for here; what else it may send is refused by name."""

    NEW = "NW"
    CHANGE = "XO"
    CANCEL = "CA"
    DISCONTINUE = "DC"
    REPLACE = "RP"  # this order, by those that follow with RO
    REPLACEMENT = "RO"
    NUMBER = "SN"  # send the filler's number
    STATUS = "SS"  # send the order's status


# What each is answered with where it was done, and where it was not (HL7 table 0119, typical responses).
DONE: dict[Control, str] = {
    Control.NEW: "OK", Control.CHANGE: "XR", Control.CANCEL: "CR", Control.DISCONTINUE: "DR", Control.REPLACE: "RQ",
    Control.REPLACEMENT: "RO", Control.NUMBER: "NA", Control.STATUS: "SR",
}  # fmt: skip
UNABLE: dict[Control, str] = {
    Control.NEW: "UA", Control.CHANGE: "UX", Control.CANCEL: "UC", Control.DISCONTINUE: "UD", Control.REPLACE: "UM",
    Control.REPLACEMENT: "UA", Control.NUMBER: "UA", Control.STATUS: "UA",
}  # fmt: skip
# What a laboratory does not do with an order, each with its answer; whatever is in neither table is answered UA.
REFUSED: dict[str, tuple[str, str]] = {
    "HD": ("UH", "an order cannot be put on hold here; cancel it"),
    "RL": ("UR", "no order is on hold here"),
    "RF": ("UF", "an order of the laboratory's has no refills"),
}


class Event(StrEnum):
    """What an ADT message says of a patient; its trigger events are in `decode_orders.ADT`."""

    SAID = "said"  # admitted, registered, changed: this is the patient
    MOVED = "moved"  # lies elsewhere now
    MERGED = "merged"
    NOTHING = "nothing"  # that the laboratory needs to know of


@dataclass(frozen=True, slots=True)
class Fault:
    """`location` as ERR-2, `code` of HL7 table 0357. `warning`: it was left out, and the rest was taken."""

    location: str
    code: int
    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class EntityId:
    """A number and who gave it (EI-1; EI-2, else EI-3)."""

    number: str = ""
    authority: str = ""

    def __bool__(self) -> bool:
        return bool(self.number)


@dataclass(frozen=True, slots=True)
class Person:
    """A patient as the hospital says. None: nothing is said, what is known stays. `cleared`: it is not known any more.

    `location`: of the PID.
    """

    location: str
    identifiers: tuple[IdentifierView, ...] = ()
    family: str | None = None
    given: str | None = None
    birth_date: date | None = None
    birth_at: datetime | None = None
    sex: Sex | None = None
    cleared: frozenset[str] = frozenset()  # of "birth_date", "birth_at"


@dataclass(frozen=True, slots=True)
class Requester:
    identifier: str = ""
    authority: str = ""
    family: str = ""
    given: str = ""


@dataclass(frozen=True, slots=True)
class SpecimenRequest:
    """One tube of an order; without `barcode` it is to be given one. `place`: which SPM of the message, from 1; 0: the
    order says something of its specimen and has none of its own."""

    barcode: str = ""
    type: str = ""
    container: str = ""
    collected_at: datetime | None = None
    received_at: datetime | None = None
    collected_by: str = ""
    reject: RejectReason | None = None
    reject_text: str = ""
    location: str = ""
    place: int = 0


@dataclass(frozen=True, slots=True)
class Code:
    """A coded service: identifier, text, coding system, and the alternate identifier with its system (CE, CWE)."""

    code: str = ""
    text: str = ""
    system: str = ""
    alternate: str = ""
    alternate_system: str = ""


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One ORC with its OBR. `control` as sent. `location`: of its ORC, else of its OBR; `service_location` OBR-4's."""

    control: str
    location: str
    placer: EntityId = EntityId()
    filler: str = ""
    group: EntityId = EntityId()
    service: Code = Code()
    service_location: str = ""
    specimens: tuple[SpecimenRequest, ...] = ()
    priority: Priority | None = None  # None: nothing is said of it
    history: str = ""
    ordered_at: datetime | None = None
    requester: Requester = Requester()
    ward: str = ""
    pregnant: bool | None = None
    gestation_weeks: int | None = None
    reason: str = ""  # ORC-16
    faults: tuple[Fault, ...] = ()

    def content(self) -> bytes:
        """A digest of what is ordered. Not in it: the control code, the numbers, where it stands in its message and
        when it was said, so that the same order said again is the same."""
        said = [_said(self, _APART), *(_said(tube, _TUBE_APART) for tube in self.specimens)]
        return blake2b("\n".join(said).encode(), digest_size=32).digest()


_APART = frozenset(
    "control location service_location placer filler group ordered_at reason faults specimens".split()
)  # fmt: skip
_TUBE_APART = frozenset({"location", "place"})


def _said(of: OrderRequest | SpecimenRequest, apart: frozenset[str]) -> str:
    """Only what differs from saying nothing, so that a field that is read one day changes no digest of before."""
    values = [(one.name, getattr(of, one.name), one.default) for one in fields(of) if one.name not in apart]
    return repr([(name, str(value)) for name, value, default in values if value != default])


@dataclass(frozen=True, slots=True)
class OrderMessage:
    """OML or ORM. `faults`: against the message as a whole, warnings among them; `by_specimen`: each SPM is a specimen,
    with the orders that are of it (HL7 v2.5.1 4.4.8, OML^O33)."""

    person: Person | None
    orders: tuple[OrderRequest, ...]
    faults: tuple[Fault, ...] = ()
    by_specimen: bool = False


@dataclass(frozen=True, slots=True)
class PatientEvent:
    """One PID of an ADT message. `prior`: of a merge, whose number is the person's from now on; `ward`: where the
    patient is from now on, "" where that is not said; `noted_at`: when the hospital noted the event."""

    person: Person
    prior: tuple[IdentifierView, ...] = ()
    prior_location: str = ""
    ward: str = ""
    noted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PatientMessage:
    event: Event
    patients: tuple[PatientEvent, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a link's configuration says of its hospital's words. `authority`: of numbers that come without one;
    `authorities`: the hospital's name of an authority: ours."""

    authority: str = ""
    authorities: dict[str, str] = field(default_factory=dict)

    def named(self, authority: str) -> str:
        return self.authorities.get(authority, authority) if authority else self.authority

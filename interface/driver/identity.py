"""Which fields of LIS02-A2 and HL7 tell a person, and how. Pure.

The standards' own places; a driver's paths come on top (`deidentify`). What is not named here is kept, but for records
that are about people altogether, whose every field is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from interface.domain.model import Protocol


class Telling(StrEnum):
    """What a field may tell. In all but values and ids, dates are moved."""

    NOTHING = "nothing"
    VALUE = "value"  # results: kept as they are
    ID = "id"  # the first component; others that are longer than a code are words
    NAME = "name"
    WORDS = "words"  # addresses, phones, places: each word for itself
    FREE = "free"  # what somebody has written


@dataclass(frozen=True, slots=True)
class Record:
    """One record or segment. `rest`: what fields tell that are not named."""

    fields: Mapping[int, Telling]
    rest: Telling = Telling.NOTHING


def _record(rest: Telling = Telling.NOTHING, **groups: tuple[int, ...]) -> Record:
    made = {number: Telling(telling) for telling, numbers in groups.items() for number in numbers}
    return Record(MappingProxyType(made), rest)


_PERSON = Telling.WORDS

# LIS02-A2 6 to 12: laboratory's and practice's own fields (O-19 to O-22, P-12) may hold anything.
_LIS2 = {
    "H": _record(words=(6, 8)),
    "P": _record(_PERSON, nothing=(1, 2, 9), id=(3, 4, 5), name=(6, 7)),
    "O": _record(id=(3, 4, 18), name=(11, 17), words=(19, 20, 21, 22, 28, 31), free=(14,)),
    "R": _record(value=(4,), name=(11,)),
    "C": _record(free=(4,)),
    "Q": _record(name=(10,), id=(3, 11)),
    "S": _record(_PERSON, nothing=(1, 2)),
    "L": _record(),
    "M": _record(),
}

# HL7 v2.5.1 chapters 3, 4 and 7.
_HL7 = {
    "MSH": _record(words=(4, 6, 8)),
    "PID": _record(_PERSON, nothing=(1, 8), id=(2, 3, 4, 18, 19, 20, 21), name=(5, 6, 9)),
    "PV1": _record(_PERSON, nothing=(1, 2), id=(5, 19, 50), name=(7, 8, 9, 17)),
    "EVN": _record(name=(5,), words=(7,)),
    "OBR": _record(id=(2, 3, 17, 18, 19, 20, 21, 29), name=(10, 16, 28, 32, 33, 34, 35), free=(13,)),
    "ORC": _record(id=(2, 3, 4, 8, 14), name=(10, 11, 12, 19), words=(13, 17, 18, 21, 22, 23, 24)),
    "OBX": _record(value=(5,), name=(16,), words=(23, 24, 25)),
    "NTE": _record(free=(3,)),
    "SPM": _record(id=(2, 3), free=(14,)),
    "SAC": _record(id=(3, 4)),
    "QRD": _record(id=(8,)),
    "QRF": _record(),
    "QPD": _record(id=(3,)),
    "DSP": _record(words=(3,)),
} | {name: _record() for name in (
    "MSA", "ERR", "EQU", "INV", "TCD", "SID", "TQ1", "TQ2", "CTI", "DSC", "QAK", "RCP", "SFT", "BHS", "BTS", "FHS",
    "FTS", "TCC", "ISD",
)}  # fmt: skip

_KNOWN: dict[Protocol, Mapping[str, Record]] = {Protocol.LIS2: _LIS2, Protocol.HL7: _HL7}
# Next of kin, insurance, guarantors, a site's own: nobody knows what they hold, so all of it is replaced.
_UNKNOWN = _record(_PERSON, nothing=(1,))


def record(protocol: Protocol, kind: str) -> Record:
    """What the fields of a record tell; of one that is not known, every field tells something."""
    return _KNOWN.get(protocol, {}).get(kind, _UNKNOWN)


def telling(protocol: Protocol, kind: str, field: int) -> Telling:
    known = record(protocol, kind)
    return known.fields.get(field, known.rest)

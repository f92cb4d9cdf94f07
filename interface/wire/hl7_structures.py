"""HL7 v2 message structures as one table: which segments belong together, in the standard's order. Pure data.

The standard writes `MSH {[PID [PV1]] {[ORC] OBR {OBX [NTE]}}}` and names the same group otherwise in every message;
here a group is called what it is (`Part`). A rule is read with tolerance by `hl7_groups`, so optional and repeating
need no marks: what a sender leaves out or repeats is taken as it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias


class Part(StrEnum):
    """What a group of segments is about. HL7's own names for them differ by message and version."""

    MESSAGE = "message"
    PATIENT_GROUP = "patient_group"  # PATIENT_RESULT of ORU; ours elsewhere, for a second PID
    PATIENT = "patient"
    PATIENT_OBSERVATION = "patient_observation"  # OBX between PID and the first order or specimen (2.7)
    VISIT = "visit"
    PROCEDURE = "procedure"
    INSURANCE = "insurance"
    SPECIMEN = "specimen"
    SPECIMEN_OBSERVATION = "specimen_observation"  # OBX that describe the specimen
    CONTAINER = "container"
    ORDER = "order"  # ORDER_OBSERVATION, ORDER, OBSERVATION_REQUEST, COMMON_ORDER
    TIMING = "timing"
    OBSERVATION = "observation"  # also RESULT
    PRIOR_RESULT = "prior_result"  # of an earlier order, told with a new one
    ROW_DEFINITION = "row_definition"


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A group: the segments that begin it, then its members in the standard's order.

    A member is the ids of segments between which the order is free, or a group. `again`: what begins a repetition of
    the group (default: what begins it). `once`: it does not repeat. `back`: what may begin a member group although a
    later member was there, because senders alternate them. `implied`: a group in it opens it too, where its own begin
    is left out.
    """

    part: Part
    begins: tuple[str, ...]
    members: tuple[str | Rule, ...]
    again: frozenset[str]
    once: bool = False
    back: frozenset[str] = frozenset()
    implied: bool = True
    segments: dict[str, tuple[int, ...]] = field(init=False, default_factory=dict)  # id: the members it may stand in
    groups: dict[str, tuple[tuple[int, Rule], ...]] = field(init=False, default_factory=dict)  # by what can open them
    full: int = field(init=False, default=1_000_000)  # from this member on a begin is the next group's
    of_results: bool = field(init=False, default=False)  # OBX alone begins it
    by_specimen: bool = field(init=False, default=False)  # orders stand below their specimens

    def __post_init__(self) -> None:
        object.__setattr__(self, "of_results", self.begins == ("OBX",))
        for at, member in enumerate(self.members):
            if isinstance(member, str):
                for name in member.split():
                    self.segments[name] = (*self.segments.get(name, ()), at)
                continue
            if member.part is Part.SPECIMEN or (member.part is Part.PATIENT_GROUP and member.by_specimen):
                object.__setattr__(self, "by_specimen", True)
            if member.part in _FILLING:
                object.__setattr__(self, "full", min(self.full, at))
            for name in member.openers:
                self.groups[name] = (*self.groups.get(name, ()), (at, member))

    @property
    def openers(self) -> frozenset[str]:
        """What can open the group."""
        return frozenset((*self.begins, *self.groups)) if self.implied else frozenset(self.begins)


_FILLING = frozenset({Part.OBSERVATION, Part.ORDER, Part.SPECIMEN_OBSERVATION, Part.PRIOR_RESULT})
_Member: TypeAlias = "str | Rule"


def _rule(
    part: Part,
    begins: str,
    *members: _Member,
    again: str = "",
    once: bool = False,
    back: str = "",
    implied: bool = True,
) -> Rule:
    repeats = frozenset((again or begins).split())
    return Rule(part, tuple(begins.split()), members, repeats, once, frozenset(back.split()), implied)


# ---- what stands in many messages ------------------------------------------------------------------------------------

_TIMING = _rule(Part.TIMING, "TQ1", "TQ2")
# INV stands in SAC's group by the standard; Roche sends it behind TCD, between two OBX. TXA: HL7 v2.8 OUL^R22.
_OBSERVATION = _rule(Part.OBSERVATION, "OBX", "NTE PRT TCD SID INV TXA")
_SPECIMEN_OBSERVATION = _rule(Part.SPECIMEN_OBSERVATION, "OBX", "NTE PRT")
_CONTAINER = _rule(Part.CONTAINER, "SAC", "INV SID NTE", _SPECIMEN_OBSERVATION, implied=False)
_BARE_CONTAINER = _rule(Part.CONTAINER, "SAC", "INV SID NTE")
_VISIT = _rule(Part.VISIT, "PV1", "PV2 PRT ARV ROL")
_PATIENT = _rule(
    Part.PATIENT, "PID", "PD1 PRT ARV NTE NK1 MRG QRI ROL",
    _rule(Part.PATIENT_OBSERVATION, "OBX", "NTE PRT"),
    _VISIT,
    "DB1 MRG",
    _rule(Part.PATIENT_OBSERVATION, "OBX", "NTE PRT"),
    "AL1 DG1 DRG",
    _rule(Part.PROCEDURE, "PR1", "ROL"),
    "GT1",
    _rule(Part.INSURANCE, "IN1", "IN2 IN3 RF1 ROL"),
    "GT1 AL1 ACC UB1 UB2 PDA",
    once=True,
    implied=False,
)  # fmt: skip


def _order(begins: str, *last: _Member) -> Rule:
    """An order and its results. SPM behind the results describes the order's specimen and OBX behind it too (HL7 v2.5.1
    7.3.1); before the first result it is the order's specimen, and OBX are results all the same, as senders mean it.
    """
    return _rule(
        Part.ORDER, begins, "NTE PRT TCD SAC RQD RQ1 RXO ODS ODT", _TIMING, "NTE PRT CTD DG1 TCD SAC",
        _rule(Part.SPECIMEN, "SPM", "NTE PRT", _BARE_CONTAINER, implied=False),
        _OBSERVATION,
        "FT1 CTI BLG SAC",
        _rule(Part.SPECIMEN, "SPM", "NTE PRT", _SPECIMEN_OBSERVATION, _CONTAINER, implied=False),
        *last, "FT1 CTI BLG",
        back="OBX SPM",
    )  # fmt: skip


def _specimen(order: Rule) -> Rule:
    """A specimen and its orders. A second SAC is another container of it, for the orders that follow."""
    return _rule(Part.SPECIMEN, "SPM", "NTE PRT", _SPECIMEN_OBSERVATION, _CONTAINER, order, back="SAC ORC OBR")


def _lone_order(begins: str, *last: _Member) -> Rule:
    """An order below its specimen, where another SPM is another specimen's."""
    return _rule(
        Part.ORDER, begins, "NTE PRT TCD", _TIMING, "NTE PRT CTD DG1 TCD", _OBSERVATION, "FT1 CTI BLG", *last,
        "FT1 CTI BLG", back="OBX",
    )  # fmt: skip


def _by_patient(*members: _Member) -> Rule:
    return _rule(Part.PATIENT_GROUP, "", _PATIENT, _VISIT, *members, again="PID")


def _message(*members: _Member) -> Rule:
    return _rule(Part.MESSAGE, "", *members, back="PID ORC OBR SPM OBX")


# HL7 v2.5.1 4.4.6: prior results follow their order, with a PID, orders and results of their own.
_PRIOR = _rule(
    Part.PRIOR_RESULT, "PID", "PD1 PRT NTE", _rule(Part.VISIT, "PV1", "PV2 PRT"), "AL1",
    _rule(Part.ORDER, "ORC OBR", "NTE PRT", _TIMING, "NTE PRT CTD", _OBSERVATION, back="OBX"),
    implied=False,
)  # fmt: skip

_HEAD, _ANSWER = "MSH SFT UAC NTE", "MSH SFT UAC MSA ERR NTE QAK QPD RCP QID"
_RESULT, _REQUEST = _order("ORC OBR"), _order("ORC OBR", _PRIOR)

_RESULTS = _message(_HEAD, "MSA ERR NTE", _by_patient(_RESULT), "DSC")
_RESULTS_BY_SPECIMEN = _message(_HEAD, "MSA ERR NTE", _by_patient(_specimen(_lone_order("ORC OBR"))), "DSC")
_REQUESTS = _message(_HEAD, _by_patient(_REQUEST), "DSC")
_REQUESTS_BY_SPECIMEN = _message(_HEAD, _by_patient(_specimen(_lone_order("ORC OBR", _PRIOR))), "DSC")
# HL7 v2.5.1 7.3: OBR stands before ORC in these.
_OUL = _message(_HEAD, _by_patient(_specimen(_lone_order("OBR ORC"))), "DSC")
_OUL_R24 = _message(_HEAD, _by_patient(_order("OBR ORC")), "DSC")
_ADT = _message("MSH SFT UAC EVN", _by_patient("ROL"), "DSC")
_QUERY = _message(_HEAD, "QPD RCP QRD QRF", "DSC")
_DISPLAY = _message("MSH SFT MSA ERR NTE", "QAK", "QRD QRF", "DSP", "DSC")
_ROWS = _rule(Part.ROW_DEFINITION, "RDF", "RDT")
_RESPONSE = _message(_ANSWER, _ROWS, _by_patient(_RESULT), "DSC")
_RESPONSE_BY_SPECIMEN = _message(_ANSWER, _ROWS, _by_patient(_specimen(_lone_order("ORC OBR"))), "DSC")

# By message code and trigger event, else by code. What is not here is read as orders with their results.
STRUCTURES: dict[str, Rule] = {
    "ACK": _message("MSH SFT UAC MSA ERR NTE"),
    "MCF": _message("MSH MSA ERR"),
    # Results: R01, and R30, R31, R32 from points of care
    "ORU": _RESULTS,
    "OUL": _OUL,  # R21, R22, R23
    "OUL^R24": _OUL_R24,
    # Orders and their replies
    "ORM": _RESULTS,
    "ORR": _RESULTS,
    "OML": _REQUESTS,  # O21
    "OML^O33": _REQUESTS_BY_SPECIMEN,
    "OML^O35": _REQUESTS_BY_SPECIMEN,
    "OML^O41": _REQUESTS_BY_SPECIMEN,
    "ORL": _RESULTS,  # O22
    "ORL^O34": _RESULTS_BY_SPECIMEN,  # also as structure ORL_O42
    "ORL^O36": _RESULTS_BY_SPECIMEN,
    "ORL^O42": _RESULTS_BY_SPECIMEN,
    # Queries and their answers: Q11, Z03, Q22, Q23; K11, K22, K23
    "QBP": _QUERY,
    "QRY": _QUERY,
    "QCN": _QUERY,
    "RSP": _RESPONSE,
    "RTB": _RESPONSE,
    "QCK": _DISPLAY,
    "DSR": _DISPLAY,
    # Patients: A01, A04, A08, A28, A31, A40 and the others
    "ADT": _ADT,
}

OTHERS = _RESULTS
# How a message is read whose first specimen stands before its first order, whatever its type says.
BY_SPECIMEN: dict[Rule, Rule] = {
    _RESULTS: _RESULTS_BY_SPECIMEN,
    _REQUESTS: _REQUESTS_BY_SPECIMEN,
    _OUL_R24: _OUL,
    _RESPONSE: _RESPONSE_BY_SPECIMEN,
}

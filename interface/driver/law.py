"""IHE LAW as its Analyzer Manager: what we say. Pure.

PaLM TF-2b, as far as public traces and the profile's test assertions (LAB27-…, LAB28-…) show it: the query (LAB-27) is
answered at once by RSP^K11, which says that it was understood; the work goes by OML^O33 (LAB-28) over the connection
that we make, one message for each specimen. One test on one specimen is an analytical work order step, whose id stands
in OBR-2 and is never used again. What is evidence and what is not says docs/ihe-law.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from interface.domain.model import ObservedPatient, Priority, Sex
from interface.driver.dialogue import Work
from interface.driver.law_read import NOWHERE, LawQuery, Place, read_query
from interface.errors import LocatedError, SegmentError
from interface.wire import hl7
from interface.wire.hl7 import DEFAULT_DELIMITERS, Delimiters
from interface.wire.hl7_ack import AckCode, error_segment

CHARSET = "UNICODE UTF-8"
_STAMP = "%Y%m%d%H%M%S"
_NULL = '""'  # HL7 v2.5.1 2.5.3.4: there is none
# HL7 tables 0485 and 0001
_PRIORITIES = {
    Priority.STAT: "S", Priority.ASAP: "A", Priority.ROUTINE: "R", Priority.CALLBACK: "C", Priority.PREOP: "P",
}  # fmt: skip
_SEXES = {Sex.FEMALE: "F", Sex.MALE: "M", Sex.OTHER: "O", Sex.UNKNOWN: "U"}


class Control(StrEnum):
    """HL7 table 0119, as LAB-28 uses it."""

    NEW = "NW"
    CANCEL = "CA"
    NOTHING = "DC"  # the negative query response: there is no work


class Names(StrEnum):
    """Where the specimen's id stands."""

    CONTAINER = "container"  # in SAC-3 alone
    BOTH = "both"  # in SPM-2 too


@dataclass(frozen=True, slots=True)
class LawDialect:
    """What analyzers do otherwise than others that speak LAW.

    `namespace`: of the id in SPM-2. `code_system`: of the test's code in OBR-4; `code_part`: of a composite code, from
    1, that an order names, 0: all of it.
    """

    application: str = "LABORA"
    query_profile: str = "LAB-27^IHE"
    order_profile: str = "LAB-28^IHE"
    names: Names = Names.CONTAINER
    namespace: str = ""
    code_system: str = "L"  # HL7 table 0396: local
    code_part: int = 0
    code_join: str = "/"
    type_system: str = "HL70487"  # of specimen types, which are sent as they are
    patient: bool = True  # who it is goes along


@dataclass(frozen=True, slots=True)
class Parties:
    """MSH-3 to MSH-6, each as it stands there, in the default delimiters."""

    application: str = ""
    facility: str = ""
    peer_application: str = ""
    peer_facility: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One analytical work order step. `dilution`: the factor, 5 for one in five; `code`: the analyzer's."""

    id: str
    code: str
    control: Control = Control.NEW
    dilution: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done on one specimen, or not any more. `collected` in the analyzer's local time."""

    specimen_id: str
    steps: tuple[Step, ...]
    place: Place = NOWHERE
    patient: ObservedPatient = field(default_factory=ObservedPatient)
    priority: Priority = Priority.ROUTINE
    specimen_type: str = ""
    collected: datetime | None = None


def parties_of(message: hl7.Message) -> Parties:
    """Who we are to the sender of a message, and who it is to us."""
    said = (_clean(message, number) for number in (5, 6, 3, 4))
    return Parties(*said)


def _clean(message: hl7.Message, number: int) -> str:
    """A field of MSH in the default delimiters."""
    repeats = (message.header.components(number)) if message.header.field(number) else []
    return DEFAULT_DELIMITERS.component.join(hl7.escape(part) for part in repeats)


# ---- LAB-27 ----------------------------------------------------------------------------------------------------------


def response(
    message: hl7.Message, query: LawQuery, now: datetime, control_id: str, dialect: LawDialect = LawDialect()
) -> bytes:
    """RSP^K11: the query was understood (LAB27-002). Whether there is work is said by LAB-28. `now`: aware, theirs."""
    return _response(message, AckCode.AA, "OK", query.tag, now, control_id, dialect)


def refusal(
    message: hl7.Message, fault: LocatedError, now: datetime, control_id: str, dialect: LawDialect = LawDialect()
) -> bytes:
    """RSP^K11: the query was not understood, and where (ERR). No LAB-28 follows."""
    query = message.first("QPD")
    tag = query.field(2) if query else ""
    return _response(message, AckCode.AE, "AE", tag, now, control_id, dialect, fault)


def _response(
    message: hl7.Message,
    code: AckCode,
    status: str,
    tag: str,
    now: datetime,
    control_id: str,
    dialect: LawDialect,
    fault: LocatedError | None = None,
) -> bytes:
    header, marks = message.header, message.delimiters
    query = message.first("QPD")
    parties = tuple(header.field(number) for number in (5, 6, 3, 4))
    version = header.field(12) or "2.5.1"
    lines = [
        _msh(marks, parties, now, "RSP^K11^RSP_K11", control_id, header.field(11) or "P", version, "", "",
             dialect.query_profile),
        _line(marks, "MSA", str(code), header.field(10)),
    ]  # fmt: skip
    if fault is not None:
        lines.append(error_segment(marks, version, fault))
    lines.append(_line(marks, "QAK", tag, status, query.field(1) if query else ""))
    if query is not None:
        lines.append(query.text)  # echoed as it came (HL7 v2.5.1 5.4.1)
    return _encoded(lines)


# ---- LAB-28 ----------------------------------------------------------------------------------------------------------


def order(work: Order, parties: Parties, now: datetime, control_id: str, dialect: LawDialect = LawDialect()) -> bytes:
    """OML^O33: the steps of one specimen, new ones and ones that are to go. `now`: aware, theirs; MSH-10 is ours."""
    marks = DEFAULT_DELIMITERS
    kind = work.specimen_type
    lines = [_oml(parties, now, control_id, dialect)]
    if dialect.patient and (work.patient.patient_id or work.patient.name):
        lines += _patient(work.patient)
    coded = f"{hl7.escape(kind)}^^{dialect.type_system}" if kind else _NULL
    collected = work.collected.strftime(_STAMP) if work.collected else ""
    lines += [
        _line(marks, "SPM", "1", _specimen(work.specimen_id, dialect), "", coded, *_blank(6), _coded("P", "0369"),
              *_blank(5), collected),
        _container(work.specimen_id, work.place),
    ]  # fmt: skip
    for step in work.steps:
        lines += _step(step, work.priority, now, dialect)
    return _encoded(lines)


def nothing(
    specimen_id: str,
    place: Place,
    parties: Parties,
    now: datetime,
    control_id: str,
    dialect: LawDialect = LawDialect(),
) -> bytes:
    """OML^O33, the negative query response: MSH, SPM, SAC and ORC alone (LAB28-001), of a specimen of unknown role."""
    marks = DEFAULT_DELIMITERS
    return _encoded([
        _oml(parties, now, control_id, dialect),
        _line(marks, "SPM", "1", "", "", _NULL, *_blank(6), _coded("U", "0369")),
        _container(specimen_id, place),
        _control(Control.NOTHING, now),
    ])  # fmt: skip


def of_work(work: Work, place: Place = NOWHERE) -> Order:
    """New work as an order; the steps' ids are the tests' own."""
    steps = tuple(Step(test.item_id, test.code) for test in work.tests)
    return Order(work.specimen_id, steps, place, work.patient, work.priority, work.specimen_type, work.collected)


def answer(
    dialect: LawDialect, block: bytes, worklist: Sequence[Work], now: datetime, control_id: str
) -> tuple[bytes, ...]:
    """All that is said to one LAB-27, as `dialogue.answer` gives it: RSP^K11, then a LAB-28 for each specimen.

    A specimen that was asked for and is not in `worklist`, or has no tests there, gets the negative query response.
    """
    message = hl7.parse(block)
    try:
        query = read_query(message)
    except SegmentError as fault:
        return (refusal(message, fault, now, control_id, dialect),)
    parties, said = parties_of(message), [response(message, query, now, control_id, dialect)]
    known = {work.specimen_id: work for work in worklist if work.tests}
    for name in query.specimen_ids or tuple(known) or ("",):
        own = f"{control_id}-{len(said) + 1}"
        if name in known:
            said.append(order(of_work(known[name], query.place), parties, now, own, dialect))
        else:
            said.append(nothing(name, query.place, parties, now, own, dialect))
    return tuple(said)


def _step(step: Step, priority: Priority, now: datetime, dialect: LawDialect) -> list[str]:
    marks = DEFAULT_DELIMITERS
    code = f"{hl7.escape(ordered_code(step.code, dialect))}^^{dialect.code_system}"
    lines = [_control(step.control, now)]
    if step.control is Control.NEW:
        lines.append(_line(marks, "TQ1", *_blank(8), _coded(_PRIORITIES[priority], "0485")))
    lines.append(_line(marks, "OBR", "", hl7.escape(step.id), "", code))
    if step.dilution is not None:
        # TCD-2, auto-dilution factor: SN, one part in so many (HL7 v2.5.1 13.4.10)
        lines.append(_line(marks, "TCD", code, f"^1^:^{step.dilution.normalize():f}"))
    return lines


def ordered_code(code: str, dialect: LawDialect) -> str:
    """What an order names of a code that results come under."""
    parts = code.split(dialect.code_join)
    return parts[dialect.code_part - 1] if 0 < dialect.code_part <= len(parts) else code


def _patient(patient: ObservedPatient) -> list[str]:
    family, _, given = patient.name.partition("^")
    name = f"{hl7.escape(family)}^{hl7.escape(given.partition('^')[0])}^^^^^L" if patient.name else ""
    birth = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else ""
    sex = _SEXES[patient.sex] if patient.sex else ""
    marks = DEFAULT_DELIMITERS
    # HL7 table 0004 U: the class of the visit is not known here
    return [
        _line(marks, "PID", "1", "", hl7.escape(patient.patient_id), "", name, "", birth, sex),
        _line(marks, "PV1", "", "U"),
    ]


def _specimen(specimen_id: str, dialect: LawDialect) -> str:
    if dialect.names is Names.CONTAINER:
        return ""
    own = hl7.escape(specimen_id)
    return f"{own}&{hl7.escape(dialect.namespace)}" if dialect.namespace else own


def _container(specimen_id: str, place: Place) -> str:
    """SAC: the container, and where it stands, as it was asked for."""
    where = (place.rack, place.rack_position, "", place.tray, place.tray_position, place.location)
    return _line(DEFAULT_DELIMITERS, "SAC", "", "", hl7.escape(specimen_id), *_blank(6), *map(hl7.escape, where))


def _control(control: Control, now: datetime) -> str:
    return _line(DEFAULT_DELIMITERS, "ORC", str(control), *_blank(7), now.strftime(_STAMP))


def _oml(parties: Parties, now: datetime, control_id: str, dialect: LawDialect) -> str:
    sent_by = parties.application or dialect.application
    who = (sent_by, parties.facility, parties.peer_application, parties.peer_facility)
    return _msh(DEFAULT_DELIMITERS, who, now, "OML^O33^OML_O33", control_id, "P", "2.5.1", "NE", "AL",
                dialect.order_profile)  # fmt: skip


# ---- segments --------------------------------------------------------------------------------------------------------


def _msh(
    marks: Delimiters,
    parties: Sequence[str],
    now: datetime,
    kind: str,
    control_id: str,
    processing: str,
    version: str,
    accept: str,
    application: str,
    profile: str,
) -> str:
    def own(text: str) -> str:
        return text.replace("^", marks.component)

    fields = [
        "MSH", marks.definition, *parties, now.strftime(f"{_STAMP}%z"), "", own(kind), control_id, processing, version,
        "", "", accept, application, "", CHARSET, "", "", own(profile),
    ]  # fmt: skip
    return marks.field.join(fields)


def _line(marks: Delimiters, *fields: str) -> str:
    """A segment without the empty fields behind its last."""
    return marks.field.join(fields).rstrip(marks.field)


def _blank(count: int) -> tuple[str, ...]:
    return ("",) * count


def _coded(code: str, table: str) -> str:
    return f"{code}^^HL7{table}"


def _encoded(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\r" for line in lines).encode("utf-8")

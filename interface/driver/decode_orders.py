"""HL7 v2 orders and patients as a hospital sends them: OML^O21, OML^O33, ORM^O01, ADT. Pure; never raises.

What belongs together is `wire.hl7_groups`' to say. Fields that IHE forbids in favour of others (OBR-5, OBR-15, OBR-27:
PaLM TF-2a 3.1) are read where those are empty, because senders fill them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, tzinfo

from interface.domain.model import Priority, Sex
from interface.domain.specimens import RejectReason
from interface.domain.times import instrument_instant, offset_by_rote
from interface.domain.views import IdentifierView
from interface.driver.orders import (
    Code,
    EntityId,
    Event,
    Fault,
    OrderMessage,
    OrderRequest,
    PatientEvent,
    PatientMessage,
    Person,
    Requester,
    SpecimenRequest,
    Terms,
)
from interface.wire.hl7 import REQUIRED_MISSING, SEGMENT_SEQUENCE, TABLE_VALUE, FieldState, Message, Segment
from interface.wire.hl7_groups import Group, group
from interface.wire.hl7_structures import Part

MOST_REPEATS = 100  # of a field: nobody has more numbers or names, and each is looked up
MOST_ORDERS = 200  # of one message: a laboratory's day is some thousands, and they are placed in one transaction
DATA_TYPE, APPLICATION = 102, 207  # HL7 table 0357

# HL7 v2.5.1 chapter 3. Others change whose record is whose: what is not understood is refused, never ignored.
ADT: dict[str, Event] = {
    **dict.fromkeys(("A01", "A04", "A08", "A28", "A31"), Event.SAID),
    "A40": Event.MERGED,
    # transferred; that is taken back; an inpatient from now on, or not any more
    **dict.fromkeys(("A02", "A12", "A06", "A07"), Event.MOVED),
    # discharged, cancelled of this and of an admission, allergies
    **dict.fromkeys(("A03", "A11", "A13", "A60"), Event.NOTHING),
}
# After which the patient is where PV1-3 says (HL7 v2.5.1 3.3.1, 3.3.2, 3.3.6, 3.3.7; 3.3.12: where she was before).
# A08 is of all else (3.3.8), and A04 of a visit that may be beside a stay.
_MOVES = frozenset({"A01", "A02", "A06", "A07", "A12"})
_SEXES = {"F": Sex.FEMALE, "M": Sex.MALE, "O": Sex.OTHER, "A": Sex.OTHER, "U": None, "N": None}  # table 0001
# Tables 0485 and 0027. T: as close as possible to the requested time; PRN: as needed.
PRIORITIES = {
    "R": Priority.ROUTINE, "PRN": Priority.ROUTINE, "S": Priority.STAT, "A": Priority.ASAP,
    "T": Priority.ASAP, "P": Priority.PREOP, "C": Priority.CALLBACK,
}  # fmt: skip
_REJECTS = {  # table 0490
    "EX": RejectReason.EXPIRED, "QS": RejectReason.QUANTITY_NOT_SUFFICIENT, "RA": RejectReason.MISSING_PATIENT_ID,
    "RB": RejectReason.BROKEN_CONTAINER, "RC": RejectReason.CLOTTED, "RD": RejectReason.MISSING_COLLECTION_DATE,
    "RE": RejectReason.MISSING_PATIENT_NAME, "RH": RejectReason.HAEMOLYSED, "RI": RejectReason.IDENTIFICATION,
    "RM": RejectReason.LABELLING, "RN": RejectReason.CONTAMINATED, "RP": RejectReason.MISSING_COLLECTOR,
    "RR": RejectReason.STORAGE, "RS": RejectReason.NAME_MISSPELT,
}  # fmt: skip
# HL7 table 0335, of repeat patterns those by which something is done again: Q6H, Q1D, QOD, BID, 3ID … and C, for ever.
_REPEATED = re.compile(r"Q\d+[SMHDWL]\d*|Q\d*J\d+|Q(OD|D|HS|AM|PM|SHIFT)|[BTQ2-9]ID|C", re.IGNORECASE)
_PREGNANT = "B6"  # table 0009, ambulatory status
# LOINC: pregnancy status, as observed and as reported; SNOMED CT, LOINC answers and table 0136 for yes and no.
_PREGNANCY = frozenset({"82810-3", "11449-6"})
_YES = frozenset({"77386006", "LA15173-0", "Y"})
_NO = frozenset({"60001007", "LA26683-5", "N"})
_GESTATION = frozenset({"18185-9", "11884-4"})  # LOINC: gestational age, and as estimated
_WEEKS = frozenset({"WK", "WKS", "WEEK", "WEEKS"})


def orders(message: Message, terms: Terms, zone: tzinfo, came_at: datetime | None = None) -> OrderMessage:
    """OML or ORM. `zone`: the hospital's, for times without an offset; `came_at`: when the message came."""
    return _Orders(message, terms, zone, came_at).read()


def patients(message: Message, terms: Terms, zone: tzinfo, came_at: datetime | None = None) -> PatientMessage:
    """ADT. An event that is not in `ADT` is not for this function."""
    reader = _Reader(message, terms, zone, came_at)
    trigger = message.header.value(9, 2).strip().upper()
    event = ADT[trigger]
    found: list[PatientEvent] = []
    if event is not Event.NOTHING:
        for of in group(message).find(Part.PATIENT_GROUP):
            found += reader.patient_events(of, event, moves=trigger in _MOVES)
        if not found:
            reader.fault("PID^1", SEGMENT_SEQUENCE, "the message names no patient: PID is missing")
    faults = reader.faults
    if event is Event.MOVED:  # of many whom the laboratory does not know, and no reason to hold up what comes behind
        faults = [replace(one, warning=True) for one in faults]
    return PatientMessage(event, tuple(found), tuple(faults))


class _Reader:
    """Data types of HL7 in our words; what is wrong is noted in `faults`."""

    def __init__(self, message: Message, terms: Terms, zone: tzinfo, came_at: datetime | None) -> None:
        self._message, self._terms, self._zone, self._came_at = message, terms, zone, came_at
        self._by_rote = offset_by_rote(message.header.value(7), zone)  # means nothing in other times either
        self.faults: list[Fault] = []

    def fault(self, location: str, code: int, text: str, *, warning: bool = False) -> None:
        self.faults.append(Fault(location, code, text, warning))

    def at(self, segment: Segment, field: int = 0, repeat: int = 0, component: int = 0) -> str:
        return self._message.location(segment, field, repeat, component)

    def _each(self, segment: Segment, field: int) -> range:
        """The numbers of a field's repetitions. Each is read by itself, so that too many would take for ever."""
        count = len(segment.repeats(field))
        if count > MOST_REPEATS:
            text = f"the field is repeated more than {MOST_REPEATS} times"
            self.fault(self.at(segment, field), DATA_TYPE, text)
        return range(1, min(count, MOST_REPEATS) + 1)

    # ---- data types --------------------------------------------------------------------------------------------------

    def _instant(self, text: str) -> datetime | None:
        return instrument_instant(text, self._zone, self._by_rote, self._came_at)

    def entity(self, segment: Segment | None, field: int) -> EntityId:
        """EI: identifier, namespace, universal id."""
        if segment is None or not (number := segment.value(field).strip()):
            return EntityId()
        return EntityId(number, self._terms.named(segment.value(field, 2).strip() or segment.value(field, 3).strip()))

    def _authority(self, segment: Segment, field: int, repeat: int, component: int) -> str:
        """HD: namespace, else universal id."""
        namespace = segment.value(field, component, repeat).strip()
        return self._terms.named(namespace or segment.value(field, component, repeat, 2).strip())

    def code(self, segment: Segment, field: int) -> Code:
        """CE or CWE."""
        return Code(*(segment.value(field, at).strip() for at in (1, 2, 3, 4, 6)))

    def instant(self, segment: Segment, field: int) -> datetime | None:
        text = segment.value(field).strip()
        if not text:
            return None
        found = self._instant(text)
        if found is None:
            self.fault(self.at(segment, field), DATA_TYPE, "not a time with its hour; it was left out", warning=True)
        return found

    def identifiers(self, segment: Segment, field: int, on: str = "") -> tuple[IdentifierView, ...]:
        """CX: number (1), assigning authority (4), type (5), last day of its validity (8). One without an authority
        is nobody's. What is valid no more `on` this day may be another's, and is left out where there is another."""
        found: dict[tuple[str, str], IdentifierView] = {}
        ended: dict[tuple[str, str], IdentifierView] = {}
        places: list[str] = []
        for repeat in self._each(segment, field):
            value = segment.value(field, 1, repeat).strip()
            if not value:
                continue
            authority = self._authority(segment, field, repeat, 4)
            if not authority:
                text = "the number has no assigning authority, and this link has none for such numbers"
                self.fault(self.at(segment, field, repeat, 4), REQUIRED_MISSING, text)
                continue
            view = IdentifierView(authority, value, segment.value(field, 5, repeat).strip())
            until = segment.value(field, 8, repeat).strip()[:8]
            over = len(until) == 8 and until.isdecimal() and "0001" < until < on  # zeros are no day
            (ended if over else found).setdefault((authority, value), view)
            places += [self.at(segment, field, repeat, 8)] if over else []
        for place in places if found else ():
            self.fault(place, DATA_TYPE, "the number is valid no more; it was left out", warning=True)
        return tuple((found or ended).values())

    def requester(self, orc: Segment | None, obr: Segment | None) -> Requester:
        """XCN of ORC-12, else OBR-16: number, family, given, second names, assigning authority (9)."""
        for segment, field in ((orc, 12), (obr, 16)):
            if segment is None or not segment.field(field):
                continue
            number, family = segment.value(field).strip(), segment.value(field, 2).strip()
            given = " ".join(part for at in (3, 4) if (part := segment.value(field, at).strip()))
            if number or family:
                return Requester(number, self._authority(segment, field, 1, 9) if number else "", family, given)
        return Requester()

    # ---- PID ---------------------------------------------------------------------------------------------------------

    def person(self, pid: Segment) -> Person:
        """PID-3 identifiers (2 where there are none), 5 name, 7 birth, 8 sex."""
        cleared: set[str] = set()
        born, born_at = self._birth(pid, cleared)
        family, given = self._name(pid)
        numbers = self.identifiers(pid, 3 if pid.field(3) else 2, self._message.header.value(7).strip()[:8])
        if not numbers and not any(fault.code == REQUIRED_MISSING for fault in self.faults):
            self.fault(self.at(pid, 3), REQUIRED_MISSING, "the patient has no number")
        return Person(self.at(pid), numbers, family, given, born, born_at, self._sex(pid), frozenset(cleared))

    def _name(self, pid: Segment) -> tuple[str | None, str | None]:
        """XPN: the legal name where several are told, else the first."""
        repeats = self._each(pid, 5)
        at = next((at for at in repeats if pid.value(5, 7, at).strip().upper() == "L"), 1)
        family = pid.value(5, 1, at).strip()
        given = " ".join(part for place in (2, 3) if (part := pid.value(5, place, at).strip()))
        return family or None, given or None

    def _birth(self, pid: Segment, cleared: set[str]) -> tuple[date | None, datetime | None]:
        text = pid.value(7).strip()
        if pid.state(7) is FieldState.NULL:
            cleared |= {"birth_date", "birth_at"}
        if not text:
            return None, None
        try:
            born = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
        except ValueError:
            self.fault(self.at(pid, 7), DATA_TYPE, "not a date of birth; it was left out", warning=True)
            return None, None
        instant = self._instant(text) if len(text) > 8 else None
        # Midnight is what a system without hours writes; a newborn's age in hours must not come of it.
        if instant is None or text[8:].strip("0") == "":
            return born, None
        return born, instant.astimezone(self._zone)

    def _sex(self, pid: Segment) -> Sex | None:
        code = pid.value(8).strip().upper()
        if not code:
            return Sex.UNKNOWN if pid.state(8) is FieldState.NULL else None
        if code not in _SEXES:
            self.fault(self.at(pid, 8), TABLE_VALUE, "not a sex of table 0001; it was left out", warning=True)
        return _SEXES.get(code)

    # ---- ADT ---------------------------------------------------------------------------------------------------------

    def patient_events(self, of: Group, event: Event, *, moves: bool) -> Iterator[PatientEvent]:
        found = list(of.segments())
        pid = next((one for one in found if one.id == "PID"), None)
        if pid is None:
            return
        prior: tuple[IdentifierView, ...] = ()
        where = ""
        if event is Event.MERGED:
            merged = [one for one in found if one.id == "MRG"]
            if len(merged) != 1:
                self.fault(self.at(pid), SEGMENT_SEQUENCE, "a merge has one MRG behind its PID")
                return
            where = self.at(merged[0], 1)
            prior = self.identifiers(merged[0], 1)
            if not prior:
                self.fault(where, REQUIRED_MISSING, "the merge names no number of the prior patient")
        visit = next((one for one in found if one.id == "PV1"), None) if moves else None
        ward = visit.value(3).strip() if visit is not None else ""
        yield PatientEvent(self.person(pid), prior, where, ward, self._noted_at())

    def _noted_at(self) -> datetime | None:
        """EVN-2, when the event was recorded (HL7 v2.5.1 3.4.1): of what is said once more, or late, it is of then."""
        event = self._message.first("EVN")
        text = event.value(2) if event is not None else ""
        return self._instant(text)


class _Orders(_Reader):
    """The orders of one message. Faults of an order are its own; of the patient's and the message's, the message's."""

    def read(self) -> OrderMessage:
        if sum(one.id in ("ORC", "OBR") for one in self._message.segments) > 2 * MOST_ORDERS:
            self.fault("ORC^1", SEGMENT_SEQUENCE, f"the message has more than {MOST_ORDERS} orders")
            return OrderMessage(None, (), tuple(self.faults))
        tree = group(self._message)
        named = [pid for one in tree.find(Part.PATIENT) if (pid := one.first("PID")) is not None]
        if len(named) > 1:
            self.fault(self.at(named[1]), SEGMENT_SEQUENCE, "the message names more than one patient")
        person = self.person(named[0]) if named else None
        visit = next((one for one in _told_now(tree) if one.id == "PV1"), None)
        found = tuple(self._order(each, tubes, visit) for each, tubes in self._walk(tree, []))
        if not found:
            self.fault("ORC^1", SEGMENT_SEQUENCE, "the message orders nothing: ORC is missing")
        return OrderMessage(person, found, tuple(self.faults), tree.by_specimen)

    def _walk(self, at: Group, tubes: list[tuple[Segment | None, Segment | None]]) -> Iterator[
        tuple[Group, list[tuple[Segment | None, Segment | None]]]
    ]:  # fmt: skip
        """Every order with the specimen it stands below: SPM, and the SAC before the order. No prior results."""
        spm, beside = at.first("SPM"), False
        for item in at.items:
            if isinstance(item, Segment):
                continue
            if item.part is Part.ORDER:
                yield item, tubes
            elif item.part is Part.SPECIMEN:
                yield from self._walk(item, [(item.first("SPM"), None)])
            elif item.part is Part.CONTAINER:
                # All that stand together are of the orders behind them; one behind orders is of those behind it.
                tubes = [*(tubes if beside else ()), (spm, item.first("SAC"))]
            elif item.part is not Part.PRIOR_RESULT:
                yield from self._walk(item, tubes)
            beside = item.part is Part.CONTAINER

    def _order(
        self, of: Group, tubes: list[tuple[Segment | None, Segment | None]], visit: Segment | None
    ) -> OrderRequest:
        before, self.faults = self.faults, []
        orc, obr = of.first("ORC"), of.first("OBR")
        first = orc or obr or next(of.segments())
        if orc is None:
            self.fault(self.at(first), SEGMENT_SEQUENCE, "an order begins with ORC")
        placer, service_location = self._placer(orc, obr), self.at(obr, 4) if obr is not None else self.at(first)
        service = self.code(obr, 4) if obr is not None else Code()
        pregnant, weeks = self._pregnancy(of, visit)
        self._done_once(of, orc, obr)
        asked = OrderRequest(
            control=orc.value(1).strip().upper() if orc is not None else "",
            location=self.at(first),
            placer=placer,
            filler=next((number for one in (orc, obr) if one and (number := one.value(3).strip())), ""),
            group=self.entity(orc, 4),
            service=service,
            service_location=service_location,
            specimens=self._specimens(of, obr, tubes),
            priority=self._priority(of, orc, obr),
            history=self._history(of, obr),
            ordered_at=self.instant(orc, 9) if orc is not None else None,
            requester=self.requester(orc, obr),
            ward=visit.value(3).strip() if visit is not None else "",
            pregnant=pregnant,
            gestation_weeks=weeks,
            reason=(orc.value(16, 2).strip() or orc.value(16).strip()) if orc is not None else "",
            faults=tuple(self.faults),
        )
        self.faults = before
        return asked

    def _placer(self, orc: Segment | None, obr: Segment | None) -> EntityId:
        """ORC-2; OBR-2 is the same number (HL7 v2.5.1 4.5.1.2), and stands alone with some senders."""
        one, other = self.entity(orc, 2), self.entity(obr, 2)
        if one and other and one.number != other.number and orc is not None:
            self.fault(self.at(orc, 2), DATA_TYPE, "ORC-2 and OBR-2 are different placer numbers")
        return one or other

    def _priority(self, of: Group, orc: Segment | None, obr: Segment | None) -> Priority | None:
        """TQ1-9, else the sixth component of OBR-27 or ORC-7, else OBR-5."""
        timings = [one for timing in of.groups(Part.TIMING) if (one := timing.first("TQ1"))]
        places: list[tuple[Segment | None, int, int]] = [(one, 9, 1) for one in timings]
        for segment, field, component in (*places, (obr, 27, 6), (orc, 7, 6), (obr, 5, 1)):
            text = segment.value(field, component).strip().upper() if segment is not None else ""
            if segment is None or not text:
                continue
            if text not in PRIORITIES:
                self.fault(self.at(segment, field), TABLE_VALUE, "not a priority of table 0485")
            return PRIORITIES.get(text)
        return None

    def _done_once(self, of: Group, orc: Segment | None, obr: Segment | None) -> None:
        """Say that what is to be repeated is not: TQ1-2 and -3, else the first components of OBR-27 and ORC-7."""
        timings = [one for timing in of.groups(Part.TIMING) if (one := timing.first("TQ1"))]
        places = [(one, 3, one.value(2), one.value(3)) for one in timings]
        places += [(one, at, one.value(at, 1), one.value(at, 2)) for one, at in ((obr, 27), (orc, 7)) if one]
        for segment, field, quantity, pattern in places:
            often = quantity.strip().isdecimal() and quantity.strip().lstrip("0") not in ("", "1")
            if often or _REPEATED.fullmatch(pattern.strip()) or len(timings) > 1:
                text = "it is done once; what is to be repeated is to be ordered each time"
                self.fault(self.at(segment, field), APPLICATION, text, warning=True)
                return

    def _history(self, of: Group, obr: Segment | None) -> str:
        """What is told with the order, a line each: OBR-13, OBR-31, diagnoses, notes."""
        lines: list[str] = []
        if obr is not None:
            lines.append(obr.value(13).strip())
            for at in self._each(obr, 31):
                lines.append(obr.value(31, 2, at).strip() or obr.value(31, 1, at).strip())
        for segment in of.own("DG1"):
            code, text = segment.value(3).strip(), segment.value(3, 2).strip() or segment.value(4).strip()
            lines.append(" ".join(part for part in (code, text) if part))
        for segment in of.own("NTE"):
            lines += [segment.unescape(part).strip() for part in segment.repeats(3)]
        return "\n".join(dict.fromkeys(line for line in lines if line))

    def _pregnancy(self, of: Group, visit: Segment | None) -> tuple[bool | None, int | None]:
        """PV1-15, and what OBX with the order say."""
        pregnant: bool | None = None
        weeks: int | None = None
        if visit is not None:
            status = [visit.value(15, 1, at).strip().upper() for at in self._each(visit, 15)]
            pregnant = True if _PREGNANT in status else None
        for seen in of.groups(Part.OBSERVATION):
            obx = seen.first("OBX")
            code = obx.value(3).strip() if obx is not None else ""
            if obx is None or code not in _PREGNANCY | _GESTATION:
                continue
            answer = obx.value(5).strip().upper()
            if code in _PREGNANCY:
                if answer not in _YES | _NO:
                    self.fault(self.at(obx, 5), TABLE_VALUE, "not understood as pregnant or not", warning=True)
                pregnant = answer in _YES if answer in _YES | _NO else pregnant
            elif answer.isdecimal() and obx.value(6).strip().upper() in _WEEKS:
                weeks, pregnant = int(answer), True if pregnant is None else pregnant
            else:
                self.fault(self.at(obx, 5), DATA_TYPE, "not a whole number of weeks", warning=True)
        return pregnant, weeks

    # ---- specimens ---------------------------------------------------------------------------------------------------

    def _specimens(
        self, of: Group, obr: Segment | None, tubes: list[tuple[Segment | None, Segment | None]]
    ) -> tuple[SpecimenRequest, ...]:
        """The order's own, else the one it stands below, else what OBR-15 says of it (before SPM there was, 2.5)."""
        own = [
            (each.first("SPM"), sac)
            for each in of.groups(Part.SPECIMEN)
            for sac in self._containers(each)
        ] or [(None, sac) for sac in of.own("SAC")]  # fmt: skip
        found = [self._specimen(spm, sac, obr) for spm, sac in own or tubes]
        if found or obr is None:
            return tuple(found)
        return (self._specimen(None, None, obr),)

    def _containers(self, of: Group) -> Iterable[Segment | None]:
        return [one.first("SAC") for one in of.groups(Part.CONTAINER)] or (None,)

    def _specimen(self, spm: Segment | None, sac: Segment | None, obr: Segment | None) -> SpecimenRequest:
        """SAC-3 is on the tube; where there is none, the placer's or the filler's number of the specimen (SPM-2)."""
        barcode = sac.value(3).strip() if sac is not None else ""
        kind = container = by = reject_text = ""
        collected = received = None
        reject: RejectReason | None = None
        if spm is not None:
            barcode = barcode or spm.value(2, 1).strip() or spm.value(2, 2).strip()
            kind, container = spm.value(4).strip() or spm.value(4, 4).strip(), spm.value(27).strip()
            collected, received = self.instant(spm, 17), self.instant(spm, 18)
            reject, reject_text = self._reject(spm)
        if obr is not None:
            kind = kind or obr.value(15).strip() or obr.value(15, 1, 1, 1).strip()
            collected = collected or self.instant(obr, 7)
            received = received or self.instant(obr, 14)
            by = (obr.value(10, 2).strip() or obr.value(10).strip()) if obr.field(10) else ""
        if collected and received and received < collected:
            where = self.at(spm, 18) if spm is not None else self.at(obr, 14) if obr is not None else ""
            self.fault(where, DATA_TYPE, "the specimen was received before it was collected")
        place = [one for one in self._message.segments if one.id in ("SPM", "SAC")]
        owner = spm if spm is not None else sac
        return SpecimenRequest(
            barcode, kind, container, collected, received, by, reject, reject_text,
            self.at(owner) if owner is not None else self.at(obr) if obr is not None else "",
            place.index(owner) + 1 if owner is not None else 0,
        )  # fmt: skip

    def _reject(self, spm: Segment) -> tuple[RejectReason | None, str]:
        code, text = spm.value(21).strip().upper(), spm.value(21, 2).strip()
        if not code and not text:
            return None, ""
        return _REJECTS.get(code, RejectReason.OTHER), text or ("" if code in _REJECTS else code)


def _told_now(of: Group) -> Iterator[Segment]:
    """The segments but for those of prior results: these have a visit of their own (HL7 v2.5.1 4.4.6), of an earlier
    stay, on another ward."""
    for item in of.items:
        if isinstance(item, Segment):
            yield item
        elif item.part is not Part.PRIOR_RESULT:
            yield from _told_now(item)


def now_in(zone: tzinfo, at: datetime) -> str:
    """An instant as HL7 writes it, in the hospital's zone."""
    return at.astimezone(zone or UTC).strftime("%Y%m%d%H%M%S%z")

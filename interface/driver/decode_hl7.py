"""HL7 v2 messages into the analyzer's terms, as a driver's manifest says. Pure.

One entry for each OBX in order, none merged. Segments are read by position, tolerant of order and of segments nobody
knows; what is malformed becomes a problem with its location and only what it touches is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from interface.domain.model import (
    Attachment,
    DecodedMessage,
    ObservedPatient,
    Protocol,
    Query,
    SpecimenRole,
    Value,
    ValueKind,
)
from interface.domain.values import EMPTY, is_failed, parse_structured, parse_value
from interface.driver.manifest import Driver, FieldPath
from interface.driver.observe import Draft, OpenSpecimen, RawResult, join_name, observe, read_date, read_sex
from interface.errors import SegmentError
from interface.wire.hl7 import Message, Segment, parse, segment_fault

# HL7 v2.5.1 7.4.2: what OBX-2 makes of OBX-5
_TEXT_TYPES = frozenset({"ST", "TX", "FT", "IS", "ID", "EI", "RP", "CX", "XPN", "XAD", "XTN", "PN"})
_CODED_TYPES = frozenset({"CE", "CWE", "CNE", "CF"})
_TIME_TYPES = frozenset({"TS", "DTM", "DT", "TM", "DR"})
_ARRAY_TYPES = frozenset({"NA", "MA"})
_ATTACHED_TYPES = _ARRAY_TYPES | {"ED"}
# The specimen stands before its orders in these, after them in all others (HL7 v2.5.1 7.3, 4.4).
_SPECIMEN_FIRST_EVENTS = frozenset({"O33", "O34", "O35", "O36", "O41", "O42"})
_ROLES = {
    # HL7 table 0369
    "P": SpecimenRole.PATIENT,
    "Q": SpecimenRole.QC,
    "E": SpecimenRole.QC,
    "C": SpecimenRole.CALIBRATOR,
    "V": SpecimenRole.CALIBRATOR,
    "F": SpecimenRole.PROFICIENCY,
    "O": SpecimenRole.PROFICIENCY,
    "": SpecimenRole.PATIENT,
    # A repeat's value is still the patient's.
    "R": SpecimenRole.PATIENT,
}


_Result: TypeAlias = tuple[Segment, str, list[Segment]]  # an OBX, where it is, and its comments


@dataclass(slots=True)
class _Group:
    """The segments that belong to one order: its OBR, its specimen, and its results with their comments."""

    patient: int | None
    segments: dict[str, Segment]  # by segment id, what paths may point into
    results: list[_Result] = field(default_factory=list)
    about_specimen: list[_Result] = field(default_factory=list)
    order: bool = False  # there was an OBR
    ambiguous: bool = False  # it names several specimens

    @property
    def filled(self) -> bool:
        return bool(self.results or self.about_specimen)


def decode(driver: Driver, text: bytes, encoding: str = "") -> DecodedMessage:
    """Decode one message. `encoding`: the link's, else the driver's, where MSH-18 does not say. Never raises."""
    draft = Draft(Protocol.HL7)
    try:
        message = parse(text, encoding or driver.encoding)
    except SegmentError as error:
        draft.problem(error.location, error.text)
        return draft.finish()
    if message.charset_fault:
        draft.problem("MSH^1^18", message.charset_fault)
    _Engine(driver, draft, message).run()
    return draft.finish()


def read_path(segments: dict[str, Segment], path: FieldPath) -> str:
    """The field at a path, unescaped and stripped; "" when its segment is not there."""
    segment = segments.get(path.record)
    return segment.read(path.field, path.component, path.subcomponent) if segment is not None else ""


class _Engine:
    def __init__(self, driver: Driver, draft: Draft, message: Message) -> None:
        self._driver = driver
        self._draft = draft
        self._message = message
        code, event = message.header.value(9), message.header.value(9, 2)
        # HL7 v2.5.1 7.3.4: OUL^R24 is order-oriented, its specimens stand behind their order.
        self._specimen_first = (code == "OUL" and event != "R24") or event in _SPECIMEN_FIRST_EVENTS
        self._counts: dict[str, int] = {}
        # The state of the walk over the segments
        self._patient: int | None = None
        self._specimen: dict[str, Segment] = {}
        self._group: _Group | None = None
        self._misplaced = False  # a specimen stood behind its results where it should stand before them
        self._after_specimen = False  # OBX now describe the specimen: HL7 v2.5.1 7.3.1, SPM stands last in its group
        self._notes: list[Segment] | None = None

    def run(self) -> None:
        message, draft = self._message, self._draft
        draft.control_id = message.control_id
        draft.message_type = message.type
        draft.version = message.version
        draft.sender = self._read({"MSH": message.header}, self._driver.paths.sender)
        for segment in message.segments:
            self._counts[segment.id] = self._counts.get(segment.id, 0) + 1
            fault = segment_fault(segment)
            if fault:
                draft.problem(self._location(segment), fault)
            else:
                self._take(segment)
        self._close()
        self._queries()

    def _location(self, segment: Segment) -> str:
        name = segment.id if segment.id.isascii() and segment.id.isalnum() else "?"
        return f"{name}^{self._counts[segment.id]}"

    def _read(self, segments: dict[str, Segment], paths: Iterable[FieldPath]) -> str:
        for path in paths:
            segment = segments.get(path.record)
            if segment is not None and (value := segment.read(path.field, path.component, path.subcomponent)):
                return value
        return ""

    def _take(self, segment: Segment) -> None:
        """One segment of the walk."""
        kind = segment.id
        if kind == "PID":
            self._close()
            self._specimen = {}
            self._draft.patients.append(self._read_patient(segment))
            self._patient = len(self._draft.patients) - 1
        elif kind == "OBR":
            self._close()
            self._group = self._open({"OBR": segment}, order=True)
        elif kind == "ORC" and not self._specimen_first and self._group and self._group.filled:
            self._close()  # the next order of the message; some senders put ORC behind their OBR
        elif kind == "SPM":
            self._take_specimen(segment)
        elif kind == "SAC":
            self._take_container(segment)
        elif kind == "OBX":
            self._take_result(segment)
        elif kind == "NTE" and self._notes is not None:
            self._notes.append(segment)
        if kind not in ("OBX", "NTE"):
            self._notes = None

    def _take_specimen(self, segment: Segment) -> None:
        group = self._group
        if self._specimen_first and group is not None and group.order and group.filled and not self._specimen:
            self._misplaced = True
            text = "a specimen behind results without one: whose the others are is not said"
            self._draft.problem(self._location(segment), text)
        # A message that put a specimen before its order goes on like that, whatever its type says.
        if self._specimen_first or self._group is None or "SPM" in self._specimen:
            self._close()
            self._specimen = {"SPM": segment}
        else:
            self._name_specimen(self._group, segment)
        # A sender that puts SPM between OBR and its first OBX means results all the same.
        self._after_specimen = self._group is None or self._group.filled

    def _take_container(self, segment: Segment) -> None:
        if self._specimen_first or self._group is None or "SAC" in self._specimen:
            self._close()
            self._specimen["SAC"] = segment
        else:
            self._name_specimen(self._group, segment)

    def _name_specimen(self, group: _Group, segment: Segment) -> None:
        """The group's SPM or SAC. A second one that names another specimen leaves none."""
        known = group.segments.get(segment.id)
        paths = self._driver.paths.specimen_id
        if known is not None and self._read({segment.id: known}, paths) != self._read({segment.id: segment}, paths):
            group.ambiguous = True
            text = "several specimens for one order: whose the results are is not said"
            self._draft.problem(self._location(segment), text)
        group.segments[segment.id] = segment

    def _take_result(self, segment: Segment) -> None:
        if self._group is None:
            self._group = self._open({}, order=False)
        notes: list[Segment] = []
        self._notes = notes
        about = self._after_specimen or (self._specimen_first and not self._group.order)
        (self._group.about_specimen if about else self._group.results).append((segment, self._location(segment), notes))

    def _open(self, segments: dict[str, Segment], order: bool) -> _Group:
        self._after_specimen = bool(self._specimen) and not order
        return _Group(self._patient, self._specimen | segments, order=order, ambiguous=self._misplaced)

    def _close(self) -> None:
        """The group is complete: make its specimen entry, and one for what describes the specimen itself."""
        group, self._group, self._notes = self._group, None, None
        self._after_specimen = False
        if group is None:
            return
        segments = {"MSH": self._message.header} | group.segments
        if group.order or group.results:
            specimen = self._entry(group, segments)
            for result in group.results:
                self._result(segments, result, specimen)
        if group.about_specimen:
            # Never a result of the patient's: its own entry, in a role that nobody reports.
            segments.pop("OBX", None)
            about = self._entry(group, segments)
            if about.role is SpecimenRole.PATIENT:
                about.role = SpecimenRole.OTHER
            for result in group.about_specimen:
                self._result(segments, result, about)

    def _entry(self, group: _Group, segments: dict[str, Segment]) -> OpenSpecimen:
        paths = self._driver.paths
        specimen_id = self._driver.specimen_ids.read(self._read(segments, paths.specimen_id)) or None
        if group.ambiguous:
            specimen_id = None
        elif specimen_id is None:
            anchor = segments.get("SPM") or segments.get("OBR")
            place = self._message.location(anchor) if anchor else "OBX^1"
            self._draft.problem(place, "no specimen id where this driver looks for it")
        if not group.order and group.results:
            self._draft.problem(group.results[0][1], "a result without an order segment")
        specimen = OpenSpecimen(
            group.patient,
            specimen_id,
            self._read(segments, paths.specimen_type),
            self._role(segments, specimen_id),
            self._read(segments, paths.order_code),
            self._read(segments, paths.collected),
        )
        self._draft.specimens.append(specimen)
        return specimen

    def _role(self, segments: dict[str, Segment], specimen_id: str | None) -> SpecimenRole:
        values: dict[FieldPath | None, str] = {None: specimen_id or ""}
        for rule in self._driver.roles:
            if rule.path is not None:
                values[rule.path] = read_path(segments, rule.path)
        role = self._driver.role(values)
        specimen = segments.get("SPM")
        if role is not SpecimenRole.PATIENT or specimen is None:
            return role
        return _ROLES.get(specimen.value(11).strip(), SpecimenRole.OTHER)

    def _read_patient(self, segment: Segment) -> ObservedPatient:
        paths, segments = self._driver.paths, {"PID": segment}
        birth = self._read(segments, paths.birth_date)
        born = read_date(birth)
        if birth and born is None:
            self._draft.problem(self._location(segment), "the birth date is not a date")
        name = ""
        for path in paths.patient_name:
            name = name or join_name(segment.components(path.field)[:5])
        return ObservedPatient(
            self._read(segments, paths.patient_id), name, born, read_sex(self._read(segments, paths.sex))
        )

    def _result(self, segments: dict[str, Segment], result: _Result, specimen: OpenSpecimen) -> None:
        paths, read = self._driver.paths, self._read
        segment, location, notes = result
        segments["OBX"] = segment
        code = self._driver.code(self._code(segments))
        if not code:
            self._draft.problem(location, "no test code where this driver looks for it")
        kind, text = segment.value(2).strip().upper(), segment.read(5)
        value, contradicts = self._value(segment, kind, text)
        raw = RawResult(
            location,
            code,
            segment.field(paths.code[0].field) if paths.code else "",
            segment.field(5),
            value,
            text,
            self._flags(segment),
            read(segments, paths.status),
            segment.read(4, 1),
            read(segments, paths.name),
            read(segments, paths.unit),
            read(segments, paths.reference),
            read(segments, paths.instrument_time),
            read(segments, paths.operator),
            tuple(words for note in notes if (words := note.read(3))) if notes else (),
            attachment=self._attachment(segment, kind, text, segments, location) if kind in _ATTACHED_TYPES else None,
            contradicts=contradicts,
        )
        observed, attachment = observe(self._driver, raw)
        specimen.results.append(observed)
        if attachment is not None:
            specimen.attachments.append(attachment)

    def _code(self, segments: dict[str, Segment]) -> str:
        """The test code with its sub-components, unless the driver names one: `HIV` of `HIV&Ct` is another test's."""
        for path in self._driver.paths.code:
            segment = segments.get(path.record)
            if segment is not None and (value := segment.read(path.field, path.component, path.subcomponent)):
                if path.component is None or path.subcomponent is not None:
                    return value
                return segment.components(path.field)[path.component - 1].strip()
        return ""

    def _value(self, segment: Segment, kind: str, text: str) -> tuple[Value, bool]:
        """OBX-5 by OBX-2, and whether it contradicts its own type."""
        grammar = self._driver.grammar
        if not text or text == '""' or text.casefold() in grammar.empty_words:
            return EMPTY, False
        if kind in _CODED_TYPES:
            coded = [
                segment.value(5, 2, at).strip() or segment.value(5, 1, at).strip()
                for at in range(1, len(segment.repeats(5)) + 1)
            ]
            words = [one for one in coded if one]  # `^^99ROC`: a coding system without a code says nothing
            if not words:
                return EMPTY, False
            failed = any(is_failed(one, grammar) for one in words)
            return Value(ValueKind.FAILED if failed else ValueKind.CODED, "\n".join(words)), False
        if kind == "SN":
            return parse_structured(segment.components(5), grammar), False
        if kind in _TIME_TYPES:
            return Value(ValueKind.TIME, text), False
        if kind in _ARRAY_TYPES:
            return Value(ValueKind.IMAGE, segment.value(3, 2) or segment.value(3)), False
        if kind in _TEXT_TYPES:
            value = parse_value(text, grammar)
            # Numbers in text types are common and are numbers; the rest are words with their lines.
            return (value if value.kind is not ValueKind.TEXT else Value(ValueKind.TEXT, self._lines(segment))), False
        value = parse_value(text, grammar)
        return value, kind == "NM" and value.kind not in (ValueKind.NUMERIC, ValueKind.FAILED)

    def _lines(self, segment: Segment) -> str:
        """HL7 v2.5.1 2.A.78: repetitions of TX are lines."""
        return "\n".join(segment.unescape(line) for line in segment.repeats(5)).strip()

    def _attachment(
        self, segment: Segment, kind: str, text: str, segments: dict[str, Segment], location: str
    ) -> Attachment | None:
        name = self._read(segments, self._driver.paths.name) or self._read(segments, self._driver.paths.code)
        if kind == "ED":
            # HL7 v2.5.1 2.A.24: source, type, subtype, encoding, data
            data = segment.value(5, 5)
            media = "/".join(part for part in (segment.value(5, 2), segment.value(5, 3)) if part).lower()
            return Attachment(name, media, data, location) if data or media else None
        if kind in _ARRAY_TYPES and segment.field(5):
            return Attachment(name, "text/plain", text, location)
        return None

    def _flags(self, segment: Segment) -> tuple[str, ...]:
        """Component 1 of each repetition: analyzers send CWE here long before 2.7 allowed it."""
        flags = []
        for path in self._driver.paths.flags:
            raw = segment.field(path.field)
            if not raw:
                continue
            repeats = raw.count(segment.delimiters.repeat) + 1
            for repeat in range(1, repeats + 1):
                flag = segment.value(path.field, path.component or 1, repeat).strip()
                if flag:
                    flags.append(flag)
        return tuple(flags)

    def _queries(self) -> None:
        rule = self._driver.query
        if self._message.type not in rule.message_types:
            return
        segments: dict[str, Segment] = {}
        for segment in self._message.segments:
            segments.setdefault(segment.id, segment)
        specimen = self._driver.specimen_ids.read(self._read(segments, rule.specimen_id))
        everything = specimen in rule.all_words
        patient = self._read(segments, rule.patient_id)
        if not specimen and not patient:
            self._draft.problem(self._message.location(self._message.header), "a query that names no specimen")
        tests = tuple(value for value in (read_path(segments, path) for path in rule.tests) if value)
        raw = next((segments[path.record].text for path in rule.specimen_id if path.record in segments), "")
        ids = (specimen,) if specimen and not everything else ()
        self._draft.queries.append(Query(ids, everything, patient, tests, raw))

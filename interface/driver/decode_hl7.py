"""HL7 v2 messages into the analyzer's terms, as a driver's manifest says. Pure.

One entry for each OBX in order, none merged. What belongs together is `wire.hl7_groups`' to say; what is malformed
becomes a problem with its location and only what it touches is lost.
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
from interface.wire.hl7_groups import Group, group
from interface.wire.hl7_structures import Part
from interface.wire.hl7_values import ATTACHED, ValueType, coded, encapsulated, lines, pointer, value_type

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
class _Order:
    """What one entry is made of: an order's OBR, its specimen, and its results with their comments."""

    segments: dict[str, Segment]  # by segment id, what paths may point into
    results: list[_Result] = field(default_factory=list)
    about: list[_Result] = field(default_factory=list)  # that describe the specimen
    named: bool = True  # there is an order segment
    ambiguous: bool = False  # it names several specimens


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
        self._malformed: set[int] = set()  # segments, by identity
        self._patient: int | None = None
        self._misplaced = False  # a specimen stood behind its results where it should stand before them
        self._lone: list[_Result] = []  # results outside any order
        self._by_specimen = False

    def run(self) -> None:
        message, draft = self._message, self._draft
        draft.control_id = message.control_id
        draft.message_type = message.type
        draft.version = message.version
        draft.sender = self._read({"MSH": message.header}, self._driver.paths.sender)
        for segment in message.segments:
            fault = segment_fault(segment)
            if fault:
                self._malformed.add(id(segment))
                draft.problem(self._location(segment), fault)
        tree = group(message)
        self._by_specimen = tree.by_specimen
        self._walk(tree)
        self._close_lone()
        self._queries()

    def _location(self, segment: Segment) -> str:
        place = self._message.location(segment)
        return place if segment.id.isascii() and segment.id.isalnum() else f"?{place[len(segment.id) :]}"

    def _read(self, segments: dict[str, Segment], paths: Iterable[FieldPath]) -> str:
        for path in paths:
            segment = segments.get(path.record)
            if segment is not None and (value := segment.read(path.field, path.component, path.subcomponent)):
                return value
        return ""

    def _walk(self, at: Group) -> None:
        """Everything below a group that is no order and no specimen."""
        unnamed = False  # the specimen before had results and no name
        for item in at.items:
            if isinstance(item, Segment):
                if item.id == "PID":
                    self._take_patient(item)
                elif item.id == "OBX":
                    self._lone += self._results((item,), [])
            elif item.part is Part.ORDER:
                self._take_order(item, {})
            elif item.part is Part.SPECIMEN:
                if unnamed and item.first("SPM"):
                    self._misplaced = True
                    text = "a specimen behind results without one: whose the others are is not said"
                    self._draft.problem(self._location(item.items[0]), text)  # type: ignore[arg-type]
                unnamed = self._take_specimen(item)
            elif item.part is Part.PATIENT_OBSERVATION:
                self._lone += self._observations(item)
            else:
                self._walk(item)

    def _take_patient(self, segment: Segment) -> None:
        self._close_lone()
        if id(segment) not in self._malformed:
            self._draft.patients.append(self._read_patient(segment))
            self._patient = len(self._draft.patients) - 1

    def _take_specimen(self, at: Group) -> bool:
        """A specimen and its orders; whether it has results without having a name."""
        self._close_lone()
        specimen = _Order({}, named=False, ambiguous=self._misplaced)
        unnamed = False
        for item in at.items:
            if isinstance(item, Segment):
                self._note(specimen.segments, item)
            elif item.part is Part.SPECIMEN_OBSERVATION:
                specimen.about += self._observations(item)
            elif item.part is Part.CONTAINER:
                self._close(specimen)
                self._take_container(item, specimen)
            elif item.part is Part.ORDER:
                self._close(specimen)
                filled = self._take_order(item, specimen.segments)
                unnamed = filled and not specimen.segments
        self._close(specimen)
        return unnamed

    def _take_container(self, at: Group, order: _Order) -> None:
        for item in at.items:
            if isinstance(item, Segment):
                if item.id == "SAC":
                    self._note(order.segments, item)
            else:
                order.about += self._observations(item)

    def _note(self, segments: dict[str, Segment], segment: Segment) -> None:
        """Keep a segment for the paths that point into it; the last of its kind stands."""
        if id(segment) not in self._malformed:
            segments[segment.id] = segment
        else:
            segments.pop(segment.id, None)

    def _take_order(self, at: Group, shared: dict[str, Segment]) -> bool:
        """One order with its results. `shared`: what stands above it. Whether it has results."""
        self._close_lone()
        order = _Order(dict(shared), named=at.first("OBR") is not None, ambiguous=self._misplaced)
        prior: list[Group] = []
        for item in at.items:
            if isinstance(item, Segment):
                if item.id == "SAC":
                    self._name_specimen(order, item)
                elif item.id in ("OBR", "ORC"):
                    self._note(order.segments, item)
            elif item.part is Part.OBSERVATION:
                order.results += self._observations(item)
            elif item.part is Part.SPECIMEN:
                self._take_own_specimen(item, order)
            elif item.part is Part.PRIOR_RESULT:
                prior.append(item)
        self._close(order)
        for each in prior:
            self._take_prior(each)
        return bool(order.results)

    def _take_own_specimen(self, at: Group, order: _Order) -> None:
        """A specimen within its order."""
        for item in at.items:
            if isinstance(item, Segment):
                if item.id == "SPM":
                    self._name_specimen(order, item)
            elif item.part is Part.CONTAINER:
                for sac in item.own("SAC"):
                    self._name_specimen(order, sac)
                for about in item.groups(Part.SPECIMEN_OBSERVATION):
                    order.about += self._observations(about)
            else:
                order.about += self._observations(item)

    def _take_prior(self, at: Group) -> None:
        """Results of earlier orders are told of, not reported: their entries are in a role that nobody reports."""
        patient, begin = self._patient, len(self._draft.specimens)
        self._walk(at)
        self._close_lone()
        self._patient = patient
        for specimen in self._draft.specimens[begin:]:
            specimen.role = SpecimenRole.OTHER

    def _name_specimen(self, order: _Order, segment: Segment) -> None:
        """The order's SPM or SAC. A second one that names another specimen leaves none."""
        if id(segment) in self._malformed:
            order.ambiguous = True
            return
        known = order.segments.get(segment.id)
        paths = self._driver.paths.specimen_id
        if known is not None and self._read({segment.id: known}, paths) != self._read({segment.id: segment}, paths):
            order.ambiguous = True
            text = "several specimens for one order: whose the results are is not said"
            self._draft.problem(self._location(segment), text)
        order.segments[segment.id] = segment

    def _observations(self, at: Group) -> list[_Result]:
        """The OBX of a group with the comments below it."""
        return self._results(at.own("OBX"), list(at.own("NTE")) if len(at.items) > 1 else [])

    def _results(self, segments: Iterable[Segment], notes: list[Segment]) -> list[_Result]:
        return [(one, self._message.location(one), notes) for one in segments if id(one) not in self._malformed]

    def _close_lone(self) -> None:
        """Results outside any order: of the patient, or, where specimens stand first, in a role that nobody reports."""
        lone, self._lone = self._lone, []
        if lone:
            order = _Order({}, named=False, ambiguous=self._misplaced)
            (order.about if self._by_specimen else order.results).extend(lone)
            self._close(order)

    def _close(self, order: _Order) -> None:
        """Make an order's entry, and one for what describes the specimen itself."""
        segments = {"MSH": self._message.header} | order.segments
        if order.named or order.results:
            specimen = self._entry(order, segments)
            for result in order.results:
                self._result(segments, result, specimen)
        if order.about:
            # Never a result of the patient's: its own entry, in a role that nobody reports.
            segments.pop("OBX", None)
            about = self._entry(order, segments)
            if about.role is SpecimenRole.PATIENT:
                about.role = SpecimenRole.OTHER
            for result in order.about:
                self._result(segments, result, about)
            order.about = []

    def _entry(self, order: _Order, segments: dict[str, Segment]) -> OpenSpecimen:
        paths = self._driver.paths
        specimen_id = self._driver.specimen_ids.read(self._read(segments, paths.specimen_id)) or None
        if order.ambiguous:
            specimen_id = None
        elif specimen_id is None:
            anchor = segments.get("SPM") or segments.get("OBR")
            place = self._message.location(anchor) if anchor else "OBX^1"
            self._draft.problem(place, "no specimen id where this driver looks for it")
        if not order.named and order.results:
            self._draft.problem(order.results[0][1], "a result without an order segment")
        specimen = OpenSpecimen(
            self._patient,
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
        kind, text = value_type(segment.value(2)), segment.read(5)
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
            attachment=self._attachment(segment, kind, text, segments, location) if kind in ATTACHED else None,
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

    def _value(self, segment: Segment, kind: ValueType, text: str) -> tuple[Value, bool]:
        """OBX-5 by OBX-2, and whether it contradicts its own type."""
        grammar = self._driver.grammar
        if not text or text == '""' or text.casefold() in grammar.empty_words:
            return EMPTY, False
        if kind is ValueType.CODED:
            words = coded(segment)
            if not words:
                return EMPTY, False
            failed = any(is_failed(one, grammar) for one in words)
            return Value(ValueKind.FAILED if failed else ValueKind.CODED, "\n".join(words)), False
        if kind is ValueType.STRUCTURED:
            return parse_structured(segment.components(5), grammar), False
        if kind is ValueType.TIME:
            return Value(ValueKind.TIME, text), False
        if kind in ATTACHED:
            return Value(ValueKind.IMAGE, segment.value(3, 2) or segment.value(3)), False
        value = parse_value(text, grammar)
        if kind is ValueType.TEXT:
            # Numbers in text types are common and are numbers; the rest are words with their lines.
            return (value if value.kind is not ValueKind.TEXT else Value(ValueKind.TEXT, lines(segment))), False
        return value, kind is ValueType.NUMBER and value.kind not in (ValueKind.NUMERIC, ValueKind.FAILED)

    def _attachment(
        self, segment: Segment, kind: ValueType, text: str, segments: dict[str, Segment], location: str
    ) -> Attachment | None:
        if not text:
            return None
        name = self._read(segments, self._driver.paths.name) or self._read(segments, self._driver.paths.code)
        if kind is ValueType.ARRAY:
            return Attachment(name, "text/plain", text, location)
        found = encapsulated(segment) if kind is ValueType.ENCAPSULATED else pointer(segment)
        return Attachment(name, found.media_type, found.data, location)

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

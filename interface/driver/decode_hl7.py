"""HL7 v2 messages into the analyzer's terms, as a driver's manifest says. Pure.

One entry for each OBX in order, none merged, and one for an order that has none and cannot be done. What belongs
together is `wire.hl7_groups`' to say; what is malformed becomes a problem with its location and only what it touches is
lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from interface.domain.model import (
    UNSAID,
    Attachment,
    DecodedMessage,
    MeasuredWith,
    Observed,
    ObservedPatient,
    Protocol,
    Query,
    SpecimenRole,
    Value,
    ValueKind,
)
from interface.domain.values import EMPTY, Reading, is_failed, parse_structured, read_field
from interface.driver.around_hl7 import alarms_of, comments_of, read_path, reader_of, values_at
from interface.driver.diluted import diluted
from interface.driver.doubted import doubted
from interface.driver.manifest import Driver
from interface.driver.materials import MaterialRule, measured_with
from interface.driver.observe import (
    NO_SPECIMEN_ID,
    Draft,
    OpenSpecimen,
    RawResult,
    join_name,
    not_done,
    observe,
    read_date,
    read_sex,
    take_from_order,
)
from interface.driver.rules import CODE_PATH, SPECIMEN_ID_PATH, VALUE_PATH, FieldPath, Reader
from interface.driver.seen_hl7 import Seen, said_again
from interface.errors import SegmentError
from interface.wire.hl7 import Message, Segment, parse
from interface.wire.hl7_ack import INITIATIVES
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


_OBSERVATION = Part.OBSERVATION

# An OBX, where it is, its comments, and what it was measured with
_Result: TypeAlias = tuple[Segment, str, Sequence[Segment], Sequence[Segment]]


@dataclass(slots=True)
class _Order:
    """What one entry is made of: an order's OBR, its specimen, and its results with their comments."""

    segments: dict[str, Segment]  # by segment id, what paths may point into
    others: list[Segment] = field(default_factory=list)  # INV, TQ1 and such, for the driver's conditions
    results: list[_Result] = field(default_factory=list)
    about: list[_Result] = field(default_factory=list)  # that describe the specimen
    details: list[Segment] = field(default_factory=list)  # TCD
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


class _Engine:
    def __init__(self, driver: Driver, draft: Draft, message: Message) -> None:
        self._driver = driver
        self._draft = draft
        self._message = message
        self._malformed: set[int] = set()  # segments, by identity
        self._patient: int | None = None
        self._pid: Segment | None = None
        self._misplaced = False  # a specimen stood behind its results where it should stand before them
        self._lone: list[_Result] = []  # results outside any order
        self._by_specimen = False
        self._doubted = False  # what was found for the order that is read
        self._materials: tuple[MaterialRule, ...] = ()  # that this message may say
        self._known = Seen(driver, message)

    def run(self) -> None:
        message, draft = self._message, self._draft
        draft.control_id = message.control_id
        draft.message_type = message.type
        draft.version = message.version
        draft.sender = self._read({"MSH": message.header}, self._driver.paths.sender)
        for segment, fault in message.faults():
            self._malformed.add(id(segment))
            draft.problem(self._location(segment), fault)
        if self._driver.materials and not self._driver.material_records.isdisjoint(one.id for one in message.segments):
            self._materials = self._driver.materials
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
        self._patient = self._pid = None  # of one that cannot be read nothing is known: it is not the one before
        if id(segment) not in self._malformed:
            self._draft.patients.append(self._read_patient(segment))
            self._patient, self._pid = len(self._draft.patients) - 1, segment

    def _take_specimen(self, at: Group) -> bool:
        """A specimen and its orders; whether it has results without having a name."""
        self._close_lone()
        specimen = _Order({}, named=False, ambiguous=self._misplaced)
        unnamed = False
        for item in at.items:
            if isinstance(item, Segment):
                self._note(specimen.segments, item)
                specimen.others.append(item)
            elif item.part is Part.SPECIMEN_OBSERVATION:
                specimen.about += self._observations(item)
            elif item.part is Part.CONTAINER:
                self._close(specimen)
                self._take_container(item, specimen)
            elif item.part is Part.ORDER:
                self._close(specimen)
                filled = self._take_order(item, specimen.segments, specimen.others)
                unnamed = filled and not specimen.segments
        self._close(specimen)
        return unnamed

    def _take_container(self, at: Group, order: _Order) -> None:
        for item in at.items:
            if isinstance(item, Segment):
                if item.id == "SAC":
                    self._note(order.segments, item)
                else:
                    order.others.append(item)
            else:
                order.about += self._observations(item)

    def _note(self, segments: dict[str, Segment], segment: Segment) -> None:
        """Keep a segment for the paths that point into it; the last of its kind stands."""
        if id(segment) not in self._malformed:
            segments[segment.id] = segment
        else:
            segments.pop(segment.id, None)

    def _take_order(self, at: Group, shared: dict[str, Segment], others: Iterable[Segment] = ()) -> bool:
        """One order with its results. `shared`: what stands above it. Whether it has results."""
        self._close_lone()
        order = _Order(dict(shared), [*others], named=at.first("OBR") is not None, ambiguous=self._misplaced)
        prior: list[Group] = []
        for item in at.items:
            if isinstance(item, Segment):
                if item.id == "SAC":
                    self._name_specimen(order, item)
                elif item.id in ("OBR", "ORC"):
                    self._note(order.segments, item)
                else:
                    order.others.append(item)
            elif item.part is _OBSERVATION:
                order.results += self._observations(item)
                if len(item.items) > 1:
                    order.details += [one for one in item.own("TCD") if id(one) not in self._malformed]
            elif item.part is Part.SPECIMEN:
                self._take_own_specimen(item, order)
            elif item.part is Part.PRIOR_RESULT:
                prior.append(item)
            else:
                order.others += [one for one in item.items if isinstance(one, Segment)]
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
                else:
                    order.others.append(item)
            elif item.part is Part.CONTAINER:
                for own in item.items:
                    if not isinstance(own, Segment):
                        order.about += self._observations(own)
                    elif own.id == "SAC":
                        self._name_specimen(order, own)
                    else:
                        order.others.append(own)
            else:
                order.about += self._observations(item)

    def _take_prior(self, at: Group) -> None:
        """Results of earlier orders are told of, not reported: their entries are in a role that nobody reports."""
        patient, pid, begin = self._patient, self._pid, len(self._draft.specimens)
        self._walk(at)
        self._close_lone()
        self._patient, self._pid = patient, pid
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
        """The OBX of a group with the comments below it, and with its own INV."""
        if len(at.items) == 1:
            alone = at.items[0]
            if isinstance(alone, Segment) and alone.id == "OBX" and id(alone) not in self._malformed:
                return [(alone, self._message.location(alone), (), ())]  # most are like this
            return self._results(at.own("OBX"), [])
        return self._results(at.own("OBX"), list(at.own("NTE")), list(at.own("INV")))

    def _results(
        self, segments: Iterable[Segment], notes: Sequence[Segment], used: Sequence[Segment] = ()
    ) -> list[_Result]:
        return [(one, self._message.location(one), notes, used) for one in segments if id(one) not in self._malformed]

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
        if self._pid is not None:
            segments.setdefault("PID", self._pid)
        if order.named or order.results:
            specimen = self._entry(order, segments)
            used = [inv for result in order.results for inv in result[3]] if self._materials else []
            if not order.results and "OBR" in segments:
                place, read = self._location(segments["OBR"]), partial(self._read, segments)
                take_from_order(self._driver, specimen, read, place, partial(reader_of, segments, ()))
                if not specimen.results and (status := self._cannot_be_done(segments)):
                    code = self._driver.code(specimen.order_code)
                    not_done(specimen, [code], segments["OBR"].field(4), status, place)
            self._doubted = doubted((*segments.values(), *order.others))
            # What is said of an order is said of its results: they depend on more than their segments.
            again = not (self._materials or self._doubted or any(one.id in ("OBX", "NTE") for one in order.others))
            if order.results:
                self._surround(segments, order.others)
            for result in order.results:
                if not again or not self._seen(segments, result, specimen):
                    lasting = self._result(segments, result, specimen, order.others, used)
                    if again and lasting is not None:
                        self._known.keep(result[0], lasting)
            if order.details or "SAC" in segments:
                codes = {location: segment.value(3).strip() for segment, location, *_ in order.results}
                specimen.results = diluted(specimen.results, codes, order.details, segments.get("SAC"))
        if order.about:
            # Never a result of the patient's: its own entry, in a role that nobody reports.
            segments.pop("OBX", None)
            about = self._entry(order, segments)
            if about.role is SpecimenRole.PATIENT:
                about.role = SpecimenRole.OTHER
            self._surround(segments, order.others)
            for result in order.about:
                self._result(segments, result, about, order.others)
            order.about = []

    def _cannot_be_done(self, segments: dict[str, Segment]) -> str:
        """HL7 table 0123, OBR-25: X, the order was cancelled, there are no results. IHE LAW says it of a work step by
        ORC-5 (table 0038: CA)."""
        control, reports = segments.get("ORC"), self._message.type.partition("^")[0] in INITIATIVES
        said = (segments["OBR"].value(25).strip(), control.value(5).strip() if control is not None else "")
        return next((one for one, no in zip(said, ("X", "CA"), strict=True) if one == no), "") if reports else ""

    def _surround(self, segments: dict[str, Segment], others: list[Segment]) -> None:
        """What else stands around the results of an order, for the paths that point there."""
        for other in others:
            segments.setdefault(other.id, other)
        self._known.time = None

    def _entry(self, order: _Order, segments: dict[str, Segment]) -> OpenSpecimen:
        paths = self._driver.paths
        read_id, wrong = self._driver.specimen_ids.take(self._read(segments, paths.specimen_id))
        specimen_id = read_id or None
        if order.ambiguous:
            specimen_id = None
        elif specimen_id is None:
            anchor = segments.get("SPM") or segments.get("OBR")
            place = self._message.location(anchor) if anchor else "OBX^1"
            self._draft.problem(place, wrong or NO_SPECIMEN_ID)
        if not order.named and order.results:
            self._draft.problem(order.results[0][1], "a result without an order segment")
        specimen = OpenSpecimen(
            self._patient,
            specimen_id,
            self._read(segments, paths.specimen_type),
            self._role(segments, specimen_id or "", order.others),
            self._read(segments, paths.order_code),
            self._read(segments, paths.collected),
        )
        if order.others:
            specimen.comments = specimen.remarks = comments_of(self._driver.alarm, order.others)
        if self._driver.law is not None and (named := segments.get("OBR")) is not None:
            specimen.work_id = named.value(2).strip()
        self._draft.specimens.append(specimen)
        return specimen

    def _role(self, segments: dict[str, Segment], specimen_id: str, others: list[Segment]) -> SpecimenRole:
        """The driver's word, where it has one; else HL7 table 0369."""
        if self._driver.roles:
            role = self._driver.role(reader_of(segments, others, {SPECIMEN_ID_PATH: specimen_id}))
            if role is not None:
                return role
        specimen = segments.get("SPM")
        if specimen is None:
            return SpecimenRole.PATIENT
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

    def _result(
        self,
        segments: dict[str, Segment],
        result: _Result,
        specimen: OpenSpecimen,
        others: list[Segment],
        used: Sequence[Segment] = (),
    ) -> Observed | None:
        """One entry; what it is, where its segment may be all that it depends on. `used`: the INV of all results of its
        order."""
        paths, read, driver = self._driver.paths, self._read, self._driver
        segment, location, notes, own = result
        segments["OBX"] = segment
        code = driver.code(self._code(segments))
        if not code:
            self._draft.problem(location, "no test code where this driver looks for it")
        kind, text = value_type(segment.value(2)), segment.read(5)
        reading, contradicts = self._value(segments, segment, kind, text)
        comments = comments_of(driver.alarm, notes) if notes else ()
        raw = RawResult(
            location,
            code,
            self._code_path(segments),
            segment.field(5),
            reading.value,
            text,
            (*reading.flags, *self._flags(segment)),
            read(segments, paths.status),
            segment.read(4),  # the whole: `^1^1` and `^2^1` are two (HL7 v2.8.2 7.4.2.4), and so are `H` and `H&LOG`
            read(segments, paths.name),
            read(segments, paths.unit) or reading.unit,
            read(segments, paths.reference),
            read(segments, paths.instrument_time),
            read(segments, paths.operator),
            (reading.comment, *comments) if reading.comment else comments,
            alarms_of(driver.alarm, (*others, *notes)) if driver.alarm is not None else (),
            attachment=self._attachment(segment, kind, text, segments, location) if kind in ATTACHED else None,
            contradicts=contradicts,
            doubted=self._doubted or doubted(own),
            measured_with=self._measured_with(segments, (*own, *notes), others, used) if self._materials else UNSAID,
            method=read(segments, paths.method),
        )
        seen = reader_of(segments, (*others, *notes), {CODE_PATH: code, VALUE_PATH: text})
        observed, attachment = observe(driver, raw, seen)
        specimen.results.append(observed)
        if attachment is not None:
            specimen.attachments.append(attachment)
        return observed if code and attachment is None and not (notes or own or self._materials) else None

    def _seen(self, segments: dict[str, Segment], result: _Result, specimen: OpenSpecimen) -> bool:
        """Add a result that says what one before it said."""
        segment, location, notes, own = result
        if notes or own or (known := self._known.find(segment)) is None:
            return False
        if (time := self._known.time) is None:
            segments["OBX"] = segment
            time = self._known.time = self._read(segments, self._driver.paths.instrument_time)
        specimen.results.append(said_again(known, location, time))
        return True

    def _measured_with(
        self,
        segments: dict[str, Segment],
        own: Sequence[Segment],
        others: Sequence[Segment],
        used: Sequence[Segment],
    ) -> MeasuredWith:
        around = reader_of(segments, others, {})

        def alone(segment: Segment) -> Reader:
            return lambda path: values_at(segment, path) if path.record == segment.id else around(path)

        def levels(kind: str, beside: bool) -> list[list[Reader]]:
            nearest = [alone(one) for one in own if one.id == kind]
            order = [alone(one) for one in others if one.id == kind]
            if not order and kind in segments:
                order = [alone(segments[kind])]
            return [nearest, order, [alone(one) for one in used if beside and one.id == kind]]

        return measured_with(self._materials, levels)

    def _code_path(self, segments: dict[str, Segment]) -> str:
        """The fields of the code as sent. OBX-4 is the sub-id, which the result's key has by itself."""
        fields = self._driver.code_fields or tuple((path.record, path.field) for path in self._driver.paths.code[:1])
        return " ".join(segments[id_].field(at) for id_, at in fields if id_ in segments and (id_, at) != ("OBX", 4))

    def _code(self, segments: dict[str, Segment]) -> str:
        """The test code with its sub-components, unless the driver names one: `HIV` of `HIV&Ct` is another test's."""
        if self._driver.code_parts:
            return self._driver.composed(lambda path: read_path(segments, path))
        for path in self._driver.paths.code:
            segment = segments.get(path.record)
            if segment is not None and (value := segment.read(path.field, path.component, path.subcomponent)):
                if path.component is None or path.subcomponent is not None:
                    return value
                return segment.components(path.field)[path.component - 1].strip()
        return ""

    def _value(
        self, segments: dict[str, Segment], segment: Segment, kind: ValueType, text: str
    ) -> tuple[Reading, bool]:
        """OBX-5 by OBX-2, and whether it contradicts its own type; where it says nothing, the driver's next place."""
        paths, grammar = self._driver.paths, self._driver.grammar
        if paths.call or (paths.value and paths.value[0].component is not None):
            return read_field(self._words(segments), grammar, self._read(segments, paths.call)), False
        if not text or text == '""' or text.casefold() in grammar.empty_words:
            return (Reading(EMPTY) if len(paths.value) < 2 else read_field(self._words(segments), grammar)), False
        if kind is ValueType.CODED:
            words = coded(segment)
            if not words:
                return Reading(EMPTY), False
            failed = any(is_failed(one, grammar) for one in words)
            return Reading(Value(ValueKind.FAILED if failed else ValueKind.CODED, "\n".join(words))), False
        if kind is ValueType.STRUCTURED:
            parts = segment.components(5)  # four of one number: of more nobody says which is the result
            if len(segment.repeats(5)) > 1 or any(parts[4:]):
                return Reading(Value(ValueKind.TEXT, text)), True
            return Reading(parse_structured(parts, grammar)), False
        if kind is ValueType.TIME:
            return Reading(Value(ValueKind.TIME, text)), False
        if kind in ATTACHED:
            return Reading(Value(ValueKind.IMAGE, segment.value(3, 2) or segment.value(3))), False
        reading = read_field(text, grammar)
        if kind is ValueType.TEXT:
            # Numbers in text types are common and are numbers; the rest are words with their lines.
            words_only = reading.value.kind is ValueKind.TEXT
            return (Reading(Value(ValueKind.TEXT, lines(segment))) if words_only else reading), False
        return reading, kind is ValueType.NUMBER and reading.value.kind not in (ValueKind.NUMERIC, ValueKind.FAILED)

    def _words(self, segments: dict[str, Segment]) -> str:
        """The first place of the value that says something."""
        empty = self._driver.grammar.empty_words
        said = (read_path(segments, path) for path in self._driver.paths.value)
        return next((words for words in said if words and words != '""' and words.casefold() not in empty), "")

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
        leaves = [leaf for path in self._driver.paths.flags for leaf in segment.every(path.field, path.component or 1)]
        return tuple([flag for leaf in leaves if leaf.strip() for flag in self._driver.flags_of(leaf.strip())])

    def _queries(self) -> None:
        rule = self._driver.query
        if self._message.type not in rule.message_types:
            return
        segments = {segment.id: segment for segment in reversed(self._message.segments)}  # the first of each
        ids: dict[str, int] = {}
        said = (values_at(segments[path.record], path) for path in rule.specimen_id if path.record in segments)
        values = next((values for values in said if any(values)), ())
        patient = self._read(segments, rule.patient_id)
        everything = not any(values) and patient in rule.all_words  # which may have "", that nothing is said at all
        patient = "" if patient in rule.all_words else patient
        for at, sent in enumerate(values, start=1):
            specimen = self._driver.specimen_ids.read(sent)
            if specimen and specimen in rule.all_words:
                everything = True
            elif specimen:
                ids.setdefault(specimen, at)
        if not ids and not everything and not patient:
            self._draft.problem(self._message.location(self._message.header), "a query that names no specimen")
        tests = tuple(value for value in (read_path(segments, path) for path in rule.tests) if value)
        cancels = bool(rule.cancels) and self._read(segments, rule.status) in rule.cancels
        raw = next((segments[path.record].text for path in rule.specimen_id if path.record in segments), "")
        named = ids if not everything else {}
        query = Query(tuple(named), everything, patient, tests, raw, cancels, places=tuple(named.values()))
        self._draft.queries.append(query)

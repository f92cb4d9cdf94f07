"""LIS02-A2 messages into the analyzer's terms, as a driver's manifest says. Pure.

One entry for each R record in order, none merged, never grouped across patients; and for each test of an order that has
no results and cannot be done. What is malformed becomes a problem with its location; only what it touches is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from interface.domain.model import (
    UNSAID,
    Attachment,
    DecodedMessage,
    HoldReason,
    MeasuredWith,
    Observed,
    ObservedPatient,
    Protocol,
    Query,
    SpecimenRole,
    Value,
    ValueKind,
)
from interface.domain.values import read_field
from interface.driver.diluted import factor_of
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
from interface.driver.rules import CODE_PATH, SPECIMEN_ID_PATH, VALUE_PATH, FieldPath, Reader, met
from interface.errors import RecordError
from interface.wire.lis02 import ATTACHED, DEFAULT_ENCODING, LEVELS, Message, Node, Record, parse

_CANNOT_BE_DONE = "X"  # LIS02-A2 9.4.26, of an order
_BROKEN_OFF = frozenset("TRE")  # LIS02-A2 12: sender aborted, receiver requested abort, unknown error


@dataclass(frozen=True, slots=True)
class _Scope:
    """The records a path may point into, from the header down to the one being read."""

    driver: Driver
    records: dict[str, Record] = field(default_factory=dict)

    def inside(self, record: Record) -> _Scope:
        return _Scope(self.driver, self.records | {record.type: record})

    def without(self, kind: str) -> _Scope:
        return _Scope(self.driver, {at: record for at, record in self.records.items() if at != kind})

    def read(self, paths: tuple[FieldPath, ...]) -> str:
        """The first path that is not empty, unescaped and stripped."""
        for path in paths:
            record = self.records.get(path.record)
            if record is not None and (value := record.read(path.field, path.component)):
                return value
        return ""

    def read_id(self, paths: tuple[FieldPath, ...]) -> str:
        """As `read`. Behind another component of its field the first counts only where it stands alone: before an id
        that was not read it is a counter, or a container."""
        for at, path in enumerate(paths):
            record = self.records.get(path.record)
            if record is None or not (value := record.read(path.field, path.component)):
                continue
            behind = path.component == 1 and any(
                (one.record, one.field) == (path.record, path.field) for one in paths[:at]
            )
            if not behind or record.delimiters.component not in record.field(path.field):
                return value
        return ""

    def at(self, path: FieldPath) -> str:
        record = self.records.get(path.record)
        if record is None:
            return ""
        return record.read(path.field, path.component) if path.field else record.text

    def reader(self, said: dict[FieldPath, str], *nodes: Node) -> Reader:
        """What the driver's conditions see: `said`, and every record of a kind, those that hang below included."""

        def read(path: FieldPath) -> tuple[str, ...]:
            if path in said:
                return (said[path],)
            hanging = (one for node in nodes for one in (*node.comments, *node.manufacturer))
            records = [one for one in hanging if one.type == path.record]
            if not records and path.record in self.records:
                records = [self.records[path.record]]
            return tuple(value for record in records for value in _values(record, path))

        return read


def decode(driver: Driver, text: bytes, encoding: str = "") -> DecodedMessage:
    """Decode the bytes of one assembled message. `encoding`: the link's, else the driver's. Never raises."""
    draft = Draft(Protocol.LIS2)
    try:
        message = parse(text, encoding or driver.encoding or DEFAULT_ENCODING, driver.literal_escapes)
    except RecordError as error:
        draft.problem(error.location, error.text)
        return draft.finish()
    for fault in message.faults:
        draft.problem(fault.location, fault.text)
    _Engine(driver, draft).run(message)
    return draft.finish()


def sniffed_header(driver: Driver, record: Record) -> dict[FieldPath, str]:
    """The header's fields that the driver's `match` asks for."""
    scope = _Scope(driver).inside(record)
    return {rule.path: scope.at(rule.path) for rule in driver.match}


def _values(record: Record, path: FieldPath) -> tuple[str, ...]:
    """What a record says at a path, one value for each repetition."""
    if not path.field:
        return (record.text,)
    if path.component is None:
        return (record.read(path.field),)
    return tuple(leaf.strip() for leaf in record.every(path.field, path.component))


def _held(observed: Observed, reason: HoldReason) -> Observed:
    value = observed.value
    if reason is HoldReason.RUN_FAILED and value.kind is not ValueKind.FAILED:
        value = Value(ValueKind.FAILED, value.text)  # as `observe` has it
    return replace(observed, value=value, holds=tuple(dict.fromkeys((*observed.holds, reason))))


def _astray(records: Sequence[Record]) -> frozenset[str]:
    """Where the records are behind one that cannot be read, and that may have been their P, until the next P."""
    found: list[str] = []
    lost = False
    for record in records:
        if record.type not in LEVELS and record.type not in ATTACHED:
            lost = True
        elif record.type == "P":
            lost = False
        elif lost:
            found.append(record.location)
    return frozenset(found)


def _named_by_patient(driver: Driver) -> bool:
    """Whether a P record says which specimen it is, or of what kind, or whose."""
    paths = (*driver.paths.specimen_id, *driver.paths.specimen_type)
    conditions = (condition.path for rule in driver.roles for condition in rule.when)
    return any(path.record == "P" for path in (*paths, *conditions))


def _of_analyzer(order: Node) -> list[Record]:
    """What an analyzer says of an order. A generic comment (C-5 G) is a person's: on Roche's, what they typed of the
    specimen, such as a name."""
    return [one for one in order.comments if one.read(5, 1) != "G"] if order.record.type == "O" else []


class _Engine:
    def __init__(self, driver: Driver, draft: Draft) -> None:
        self._driver = driver
        self._draft = draft
        self._materials: tuple[MaterialRule, ...] = ()  # that this message may say
        self._faulty: frozenset[str] = frozenset()  # where the records are whose fields may not be where they should
        self._astray: frozenset[str] = frozenset()  # and those whose P may be one that cannot be read
        self._by_patient = False  # which specimen it is stands in a P, in a message with faults

    def run(self, message: Message) -> None:
        if message.faults:
            self._faulty = frozenset(fault.location for fault in message.faults)
            self._astray = _astray(message.records)
            self._by_patient = _named_by_patient(self._driver)
        if self._driver.materials and not self._driver.material_records.isdisjoint(one.type for one in message.records):
            self._materials = self._driver.materials
        draft, scope = self._draft, _Scope(self._driver).inside(message.header)
        draft.control_id = message.header.component(3).strip()
        draft.sender = scope.read(self._driver.paths.sender)
        draft.version = message.header.component(13).strip()
        for node in message.tree().children:
            self._node(node, scope, None)
        if not message.complete:
            draft.problem(message.records[-1].location, "the message has no terminator record")
        elif (how := message.records[-1].component(3).strip().upper()) in _BROKEN_OFF:
            draft.problem(message.records[-1].location, f"the sender ended the message with {how}")
            for specimen in draft.specimens:
                specimen.results = [_held(one, HoldReason.INCOMPLETE_TRANSMISSION) for one in specimen.results]
        draft.message_type = self._kind()

    def _kind(self) -> str:
        if self._draft.queries:
            return "query"
        return "result" if any(s.results for s in self._draft.specimens) or not self._draft.specimens else "order"

    def _node(self, node: Node, scope: _Scope, patient: int | None) -> None:
        record = node.record
        scope = scope.inside(record)
        if record.type == "P":
            self._draft.patients.append(self._patient(scope, record))
            patient = len(self._draft.patients) - 1
            for child in node.children:
                self._node(child, scope, patient)
        elif record.type == "O":
            self._order(node, scope, patient)
        elif record.type == "Q":
            self._draft.queries.append(self._query(scope, record))
        elif record.type == "R":
            self._draft.problem(record.location, "a result without an order record above it")
            self._order(Node(record, [node]), scope, patient)
        for child in node.children if record.type not in "POR" else ():
            self._node(child, scope, patient)

    def _patient(self, scope: _Scope, record: Record) -> ObservedPatient:
        paths = self._driver.paths
        birth = scope.read(paths.birth_date)
        born = read_date(birth)
        if birth and born is None:
            self._draft.problem(record.location, "the birth date is not a date")
        if any(path.component is not None for path in paths.patient_name):
            name = join_name([scope.at(path) for path in paths.patient_name])  # the driver names the parts in order
        else:
            name = next((name for p in paths.patient_name if (name := join_name(record.components(p.field)))), "")
        return ObservedPatient(scope.read(paths.patient_id), name, born, read_sex(scope.read(paths.sex)))

    def _order(self, node: Node, scope: _Scope, patient: int | None) -> None:
        """One O record: one specimen entry, with what hangs below it."""
        paths, record = self._driver.paths, node.record
        # A record that cannot be read may have been the next O, or P: what follows it may be another's.
        doubtful = False
        if self._astray and record.location in self._astray:
            patient, scope, doubtful = None, scope.without("P"), self._by_patient
        read_id, wrong = self._driver.specimen_ids.take(scope.read_id(paths.specimen_id))
        specimen_id = read_id or None
        if specimen_id is None:
            self._draft.problem(record.location, wrong or NO_SPECIMEN_ID)
        elif self._names_several(record):
            specimen_id = None
            self._draft.problem(record.location, "several specimen ids: whose the results are is not said")
        order_codes = [code for code in self._order_codes(record)] if record.type == "O" else []
        specimen = OpenSpecimen(
            patient,
            specimen_id,
            scope.read(paths.specimen_type),
            self._role(scope, read_id, node),
            "\\".join(order_codes),
            scope.read(paths.collected),
        )
        self._draft.specimens.append(specimen)
        self._attach(node, scope, specimen)
        if record.type == "O":
            specimen.comments = self._comments(node.comments, scope)
            specimen.remarks = self._comments(_of_analyzer(node), scope)
        below = scope.inside(record)  # its R is each result in turn
        beside: list[HoldReason] = []
        if record.type == "O" and all(child.record.type != "R" for child in node.children):
            take_from_order(self._driver, specimen, below.read, record.location, below.reader)
            if record.component(26).strip().upper() == _CANNOT_BE_DONE and not specimen.results:
                not_done(specimen, order_codes, record.field(5), _CANNOT_BE_DONE, record.location)
        for child in node.children:
            if child.record.type == "R":
                below.records["R"] = child.record
                beside += self._result(child, below, specimen, node)
                if doubtful:
                    specimen.results[-1] = _held(specimen.results[-1], HoldReason.AMBIGUOUS_SPECIMEN)
                if child.record.location in self._faulty:
                    specimen.results[-1] = _held(specimen.results[-1], HoldReason.UNREADABLE_VALUE)
            else:
                doubtful = doubtful or child.record.type not in LEVELS
                self._node(child, scope, patient)
        for reason in dict.fromkeys(beside):
            specimen.results[:] = [_held(one, reason) for one in specimen.results]
        if self._faulty and self._has_moved(record, scope):  # a control's Q may stand where nobody looks for it
            specimen.results[:] = [_held(one, HoldReason.UNREADABLE_VALUE) for one in specimen.results]

    def _has_moved(self, order: Record, scope: _Scope) -> bool:
        """Whether what says which specimen it is, of what kind and whose may not stand in the field that is read."""
        named_in = scope.records.get("P") if self._by_patient else None
        return order.location in self._faulty or (named_in is not None and named_in.location in self._faulty)

    def _names_several(self, record: Record) -> bool:
        """Whether the field of the specimen id is repeated with another id."""
        read = self._driver.specimen_ids.read
        for path in self._driver.paths.specimen_id:
            if path.record == record.type and record.delimiters.repeat in record.field(path.field):
                ids = set(map(read, record.every(path.field, path.component or 1)))
                if len(ids - {""}) > 1:
                    return True
        return False

    def _order_codes(self, record: Record) -> list[str]:
        """Every test an O record names: its universal test id repeats."""
        paths = [path for path in self._driver.paths.order_code if path.field == 5 and path.component]
        leaves = [record.every(5, path.component or 1) for path in paths]
        said = (next((leaf for leaf in each if leaf), "").strip() for each in zip(*leaves, strict=True))
        return [self._driver.code(code) for code in said if code]

    def _role(self, scope: _Scope, specimen_id: str, node: Node) -> SpecimenRole:
        if not self._driver.roles:
            return SpecimenRole.PATIENT
        return self._driver.role(scope.reader({SPECIMEN_ID_PATH: specimen_id}, node)) or SpecimenRole.PATIENT

    def _code(self, scope: _Scope, record: Record) -> tuple[str, str]:
        """The test code, and the fields it stands in as sent."""
        driver, paths = self._driver, self._driver.paths
        if not driver.code_parts:
            return driver.code(scope.read(paths.code)), record.field(paths.code[0].field) if paths.code else ""
        as_sent = (scope.at(FieldPath(*place)) for place in driver.code_fields)
        return driver.code(driver.composed(scope.at)), " ".join(as_sent)

    def _result(self, node: Node, scope: _Scope, specimen: OpenSpecimen, order: Node) -> tuple[HoldReason, ...]:
        """One R record; why all results of its order are held."""
        record, paths, driver = node.record, self._driver.paths, self._driver
        code, code_path = self._code(scope, record)
        if not code:
            self._draft.problem(record.location, "no test code where this driver looks for it")
        words = self._words(scope)
        call = scope.read(paths.call) if paths.call else ""
        reading = read_field(words, driver.grammar, call)
        value_path = paths.value[0] if paths.value else None
        comments = self._comments(node.comments, scope) if node.comments else ()
        raw = RawResult(
            record.location,
            code,
            code_path,
            record.field(value_path.field) if value_path else "",
            reading.value,
            words or call,
            (*reading.flags, *self._flags(record)),
            scope.read(paths.status),
            "",
            scope.read(paths.name),
            scope.read(paths.unit) or reading.unit,
            scope.read(paths.reference),
            scope.read(paths.instrument_time),
            scope.read(paths.operator),
            (reading.comment, *comments) if reading.comment else comments,
            (*self._alarms(_of_analyzer(order)), *self._alarms(node.comments)),
            measured_with=self._measured_with(node, scope, order) if self._materials else UNSAID,
            method=scope.read(paths.method) if paths.method else "",
        )
        read = scope.reader({CODE_PATH: code, VALUE_PATH: words}, node, order)
        observed, attachment = observe(driver, raw, read)
        if paths.dilution:
            observed = replace(observed, dilution=factor_of(scope.read(paths.dilution), driver.dilution))
        specimen.results.append(observed)
        if attachment is not None:
            specimen.attachments.append(attachment)
        self._attach(node, scope, specimen)
        for child in node.children:
            self._draft.problem(child.record.location, "not expected below a result; kept in the message only")
        return driver.hold(read, beside=True) if driver.holds else ()

    def _measured_with(self, node: Node, scope: _Scope, order: Node) -> MeasuredWith:
        around = scope.reader({}, node, order)

        def alone(record: Record) -> Reader:
            return lambda path: _values(record, path) if path.record == record.type else around(path)

        def below(place: Node, kind: str) -> list[Reader]:
            return [alone(one) for one in (*place.comments, *place.manufacturer) if one.type == kind]

        def levels(kind: str, beside: bool) -> list[list[Reader]]:
            hanging = [below(node, kind), below(order, kind)]
            above = [alone(scope.records[kind])] if kind in scope.records and not any(hanging) else []
            others = [one for each in order.children for one in below(each, kind)] if beside else []
            return [*hanging, above, others]

        return measured_with(self._materials, levels)

    def _words(self, scope: _Scope) -> str:
        """The first place of the value that says something."""
        empty = self._driver.grammar.empty_words
        said = (scope.at(path) for path in self._driver.paths.value)
        return next((words for words in said if words and words.casefold() not in empty), "")

    def _attach(self, node: Node, scope: _Scope, specimen: OpenSpecimen) -> None:
        """Pictures and curves in the records that hang below an order or a result."""
        for record in (*node.manufacturer, *node.comments) if self._driver.attachments else ():
            own = scope.inside(record)
            for rule in self._driver.attachments:
                if rule.record == record.type and met(rule.when, own.reader({})):
                    data = own.at(rule.data)
                    if data:
                        attached = Attachment(own.at(rule.name), rule.media_type, data, record.location)
                        specimen.attachments.append(attached)
                    break

    def _flags(self, record: Record) -> tuple[str, ...]:
        flags: list[str] = []
        for path in self._driver.paths.flags:
            raw, marks = record.field(path.field), record.delimiters
            if not raw:
                continue
            if path.component is None:
                parts = (part.split(marks.component) for part in raw.split(marks.repeat))
                every = [marks.component.join(map(record.unescape, part)) for part in parts]
            else:
                every = record.every(path.field, path.component)
            for flag in map(str.strip, every):
                if flag.strip(marks.component):
                    flags += self._driver.flags_of(flag)
        return tuple(flags)

    def _comments(self, comments: Iterable[Record], scope: _Scope) -> tuple[str, ...]:
        """What is said below a record in words; an alarm that says there is none is no remark about the value."""
        rule = self._driver.alarm
        return tuple(
            text
            for comment in comments
            if (text := comment.read(4)).strip("^ ")
            and (rule is None or not rule.is_known(scope.inside(comment).at(rule.path)))
        )

    def _alarms(self, comments: Sequence[Record]) -> tuple[str, ...]:
        """LIS02-A2 9.5: where the driver says nothing of alarms, what C-5 calls instrument flags is one in words."""
        rule = self._driver.alarm
        if not comments:
            return ()
        if rule is None:
            return tuple(text for one in comments if one.read(5, 1) == "I" and (text := one.read(4)).strip("^ "))
        return tuple(value for comment in comments for value in _values(comment, rule.path) if value)

    def _query(self, scope: _Scope, record: Record) -> Query:
        """LIS02-A2 10: Q-3 repeats for a list of specimens, Q-4 is where a range ends; ALL asks for everything. Where
        saying nothing does too, nothing stands in all of Q-3."""
        rule = self._driver.query
        ids: dict[str, int] = {}
        ranges: list[tuple[str, str]] = []
        ask_all = record.field(3).strip(f" {record.delimiters.component}{record.delimiters.repeat}") in rule.all_words
        paths = [path for path in rule.specimen_id if path.record == "Q"]
        sent = {path: record.every(path.field, path.component or 1) for path in paths}
        ends = {path: record.every(4, path.component or 1) if path.field == 3 else [] for path in paths}
        for at, repeat in enumerate(record.repeats(3) or [""]):
            for path in paths:
                value = sent[path][at] if at < len(sent[path]) else ""
                if ids and not value and record.delimiters.component not in repeat:
                    value = record.unescape(repeat)  # the list is of specimens: `^S1\\S2` as Erba sends it
                value = self._driver.specimen_ids.read(value)
                if value and value in rule.all_words:
                    ask_all = True
                elif value:
                    last = self._driver.specimen_ids.read(ends[path][at]) if at < len(ends[path]) else ""
                    if last and last != value:
                        ranges.append((value, last))
                    else:
                        ids.setdefault(value, at + 1)
                if value:
                    break
        patient = scope.read(rule.patient_id)
        tests = self._query_tests(record, rule.tests)
        if not ids and not ranges and not ask_all and (not patient or patient in rule.all_words):
            if patient in rule.all_words and patient:
                ask_all = True
            else:
                self._draft.problem(record.location, "a query that names neither specimen nor patient")
        cancels = bool(rule.cancels) and scope.read(rule.status) in rule.cancels
        patient = "" if patient in rule.all_words else patient
        return Query(
            tuple(ids), ask_all, patient, tests, record.field(3), cancels, tuple(ranges), tuple(ids.values())
        )  # fmt: skip

    def _query_tests(self, record: Record, paths: tuple[FieldPath, ...]) -> tuple[str, ...]:
        tests = []
        for path in paths:
            for leaf in record.every(path.field, path.component or 1):
                value = leaf.strip()
                if value and value not in self._driver.query.all_words:
                    tests.append(value)
            if tests:
                break
        return tuple(tests)

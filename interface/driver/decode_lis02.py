"""LIS02-A2 messages into the analyzer's terms, as a driver's manifest says. Pure.

One entry for each R record in order, none merged, never grouped across patients. What is malformed becomes a problem
with its location; only what it touches is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from interface.domain.model import (
    DecodedMessage,
    HoldReason,
    Observed,
    ObservedPatient,
    Protocol,
    Query,
    SpecimenRole,
)
from interface.domain.values import parse_value
from interface.driver.manifest import Driver, FieldPath
from interface.driver.observe import Draft, OpenSpecimen, RawResult, join_name, observe, read_date, read_sex
from interface.errors import RecordError
from interface.wire.lis02 import DEFAULT_ENCODING, LEVELS, Message, Node, Record, parse

_BROKEN_OFF = frozenset("TRE")  # LIS02-A2 12: sender aborted, receiver requested abort, unknown error


@dataclass(frozen=True, slots=True)
class _Scope:
    """The records a path may point into, from the header down to the one being read."""

    driver: Driver
    records: dict[str, Record] = field(default_factory=dict)

    def inside(self, record: Record) -> _Scope:
        return _Scope(self.driver, self.records | {record.type: record})

    def read(self, paths: tuple[FieldPath, ...]) -> str:
        """The first path that is not empty, unescaped and stripped."""
        for path in paths:
            record = self.records.get(path.record)
            if record is not None and (value := record.read(path.field, path.component)):
                return value
        return ""

    def at(self, path: FieldPath) -> str:
        record = self.records.get(path.record)
        return record.read(path.field, path.component) if record is not None else ""


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


def _held(observed: Observed, reason: HoldReason) -> Observed:
    return replace(observed, holds=tuple(dict.fromkeys((*observed.holds, reason))))


class _Engine:
    def __init__(self, driver: Driver, draft: Draft) -> None:
        self._driver = driver
        self._draft = draft
        self._faulty: frozenset[str] = frozenset()  # where the records are whose fields may not be where they should

    def run(self, message: Message) -> None:
        self._faulty = frozenset(fault.location for fault in message.faults)
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
        specimen_id = self._driver.specimen_ids.read(scope.read(paths.specimen_id)) or None
        if specimen_id is None:
            self._draft.problem(record.location, "no specimen id where this driver looks for it")
        elif self._names_several(record):
            specimen_id = None
            self._draft.problem(record.location, "several specimen ids: whose the results are is not said")
        order_codes = [code for code in self._order_codes(record)] if record.type == "O" else []
        specimen = OpenSpecimen(
            patient,
            specimen_id,
            scope.read(paths.specimen_type),
            self._role(scope, specimen_id),
            "\\".join(order_codes),
            scope.read(paths.collected),
        )
        self._draft.specimens.append(specimen)
        below = scope.inside(record)  # its R is each result in turn
        doubtful = False  # a record that cannot be read may have been the next O: what follows it may be another's
        for child in node.children:
            if child.record.type == "R":
                below.records["R"] = child.record
                self._result(child, below, specimen)
                if doubtful:
                    specimen.results[-1] = _held(specimen.results[-1], HoldReason.AMBIGUOUS_SPECIMEN)
                if child.record.location in self._faulty:
                    specimen.results[-1] = _held(specimen.results[-1], HoldReason.UNREADABLE_VALUE)
            else:
                doubtful = doubtful or child.record.type not in LEVELS
                self._node(child, scope, patient)

    def _names_several(self, record: Record) -> bool:
        """Whether the field of the specimen id is repeated with another id."""
        read = self._driver.specimen_ids.read
        for path in self._driver.paths.specimen_id:
            if path.record == record.type and record.delimiters.repeat in record.field(path.field):
                places = range(1, len(record.repeats(path.field)) + 1)
                ids = {read(record.component(path.field, path.component or 1, place)) for place in places}
                if len(ids - {""}) > 1:
                    return True
        return False

    def _order_codes(self, record: Record) -> list[str]:
        """Every test an O record names: its universal test id repeats."""
        codes = []
        for index in range(len(record.repeats(5))):
            parts = record.components(5, index + 1)
            code = next(
                (
                    parts[path.component - 1].strip()
                    for path in self._driver.paths.order_code
                    if path.field == 5 and path.component and len(parts) >= path.component and parts[path.component - 1]
                ),
                "",
            )
            if code:
                codes.append(self._driver.code(code))
        return codes

    def _role(self, scope: _Scope, specimen_id: str | None) -> SpecimenRole:
        values: dict[FieldPath | None, str] = {None: specimen_id or ""}
        for rule in self._driver.roles:
            if rule.path is not None:
                values[rule.path] = scope.at(rule.path)
        return self._driver.role(values)

    def _result(self, node: Node, scope: _Scope, specimen: OpenSpecimen) -> None:
        record, paths = node.record, self._driver.paths
        code = self._driver.code(scope.read(paths.code))
        if not code:
            self._draft.problem(record.location, "no test code where this driver looks for it")
        words = scope.read(paths.value)
        value = parse_value(words, self._driver.grammar)
        value_path = paths.value[0] if paths.value else None
        raw = RawResult(
            record.location,
            code,
            record.field(paths.code[0].field) if paths.code else "",
            record.field(value_path.field) if value_path else "",
            value,
            words,
            self._flags(record),
            scope.read(paths.status),
            "",
            scope.read(paths.name),
            scope.read(paths.unit),
            scope.read(paths.reference),
            scope.read(paths.instrument_time),
            scope.read(paths.operator),
            self._comments(node, scope) if node.comments else (),
            self._alarms(node, scope) if self._driver.alarm is not None else (),
        )
        observed, attachment = observe(self._driver, raw)
        specimen.results.append(observed)
        if attachment is not None:
            specimen.attachments.append(attachment)
        for child in node.children:
            self._draft.problem(child.record.location, "not expected below a result; kept in the message only")

    def _flags(self, record: Record) -> tuple[str, ...]:
        flags = []
        for path in self._driver.paths.flags:
            raw, marks = record.field(path.field), record.delimiters
            if not raw:
                continue
            for repeat in range(raw.count(marks.repeat) + 1):
                if path.component is None:
                    flag = marks.component.join(record.components(path.field, repeat + 1)).strip()
                else:
                    flag = record.component(path.field, path.component, repeat + 1).strip()
                if flag.strip(marks.component):
                    flags.append(flag)
        return tuple(flags)

    def _comments(self, node: Node, scope: _Scope) -> tuple[str, ...]:
        """What is said below a result in words; an alarm that says there is none is no remark about the value."""
        rule = self._driver.alarm
        return tuple(
            text
            for comment in node.comments
            if (text := comment.read(4)).strip("^ ")
            and (rule is None or scope.inside(comment).at(rule.path) not in rule.known)
        )

    def _alarms(self, node: Node, scope: _Scope) -> tuple[str, ...]:
        rule = self._driver.alarm
        if rule is None:
            return ()
        values = (scope.inside(comment).at(rule.path) for comment in node.comments)
        return tuple(value for value in values if value)

    def _query(self, scope: _Scope, record: Record) -> Query:
        """LIS02-A2 10: Q-3 repeats for a list of specimens; ALL asks for everything."""
        rule = self._driver.query
        ids: list[str] = []
        ask_all = record.field(3).strip() in rule.all_words
        repeats = record.repeats(3)
        for repeat in range(1, max(len(repeats), 1) + 1):
            for path in rule.specimen_id:
                if path.record != "Q":
                    continue
                value = record.component(path.field, path.component or 1, repeat)
                if ids and not value and record.delimiters.component not in repeats[repeat - 1]:
                    value = record.component(3, 1, repeat)  # the list is of specimens: `^S1\\S2` as Erba sends it
                value = self._driver.specimen_ids.read(value)
                if value in rule.all_words:
                    ask_all = True
                elif value:
                    ids.append(value)
                if value:
                    break
        patient = scope.read(rule.patient_id)
        tests = self._query_tests(record, rule.tests)
        if not ids and not ask_all and (not patient or patient in rule.all_words):
            if patient in rule.all_words and patient:
                ask_all = True
            else:
                self._draft.problem(record.location, "a query that names neither specimen nor patient")
        return Query(tuple(ids), ask_all, "" if patient in rule.all_words else patient, tests, record.field(3))

    def _query_tests(self, record: Record, paths: tuple[FieldPath, ...]) -> tuple[str, ...]:
        tests = []
        for path in paths:
            for repeat in range(1, len(record.repeats(path.field)) + 1):
                value = record.component(path.field, path.component or 1, repeat).strip()
                if value and value not in self._driver.query.all_words:
                    tests.append(value)
            if tests:
                break
        return tuple(tests)

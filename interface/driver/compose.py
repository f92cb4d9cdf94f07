"""Messages as an analyzer would write them, from its driver's manifest: the inverse of decoding. Pure.

Shapes come from the driver's vectors (`repertoire`), places from its manifest. Every message is decoded again before it
is given out: one that does not read back as what was meant is an error, never a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from interface.domain.check_digits import check_character
from interface.domain.model import DecodedMessage, Observed, Protocol, Value, ValueKind
from interface.driver.compose_rows import compose_rows
from interface.driver.leaves import Lines, escaped, fitted, line_id, lines_of, put, raw
from interface.driver.manifest import Driver
from interface.driver.planned import Measured, Run, Stamp, timed
from interface.driver.registry import decode
from interface.driver.repertoire import OrderShape, Repertoire, RowShape, Shape
from interface.driver.rules import FieldPath
from interface.errors import DriverError, RecordError, SegmentError

_SET_ID = {Protocol.LIS2: FieldPath("R", 2), Protocol.HL7: FieldPath("OBX", 1)}
_CONTROL_ID = {Protocol.LIS2: FieldPath("H", 3), Protocol.HL7: FieldPath("MSH", 10)}
_SENT_AT = {Protocol.LIS2: FieldPath("H", 14), Protocol.HL7: FieldPath("MSH", 7)}
_PATIENT = ("P", "PID")


def compose(known: Repertoire, run: Run, stamp: Stamp) -> tuple[bytes, ...]:
    """The texts of the messages (of a declared framing: of the blocks) that say what `run` measured.

    Raises DriverError where the driver's vectors show no such message, or what is said does not read back as meant.
    """
    shape = known.shapes.get(run.role)
    if shape is None:
        raise DriverError(f"driver {known.driver.id} has no vector with results of a specimen in the role {run.role}")
    if isinstance(shape, RowShape):
        texts = compose_rows(known, shape, run, stamp)
    else:
        texts = (_Writer(known, shape, run, stamp).message(),)
    _check(known.driver, run, shape, [decode(known.driver, text) for text in texts])
    return texts


def compose_query(known: Repertoire, specimen_id: str, stamp: Stamp) -> bytes:
    """The analyzer asks what is to be done with a specimen. Raises DriverError as `compose` does."""
    driver = known.driver
    if not known.asking:
        raise DriverError(f"driver {driver.id} has no vector with a query")
    try:
        source = lines_of(driver.protocol, known.asking, driver.encoding, driver.literal_escapes)
    except (RecordError, SegmentError) as error:
        raise DriverError(f"driver {driver.id}: {error}") from error
    old = decode(driver, known.asking).queries[0].specimen_ids[0]
    editor = _Editor(driver, source, stamp)
    lines = [editor.swap(editor.header(line), old, specimen_id) for line in source.lines]
    text = source.encode([editor.single(line, driver.query.specimen_id) for line in lines])
    asked = [query.specimen_ids for query in decode(driver, text).queries]
    if asked != [(specimen_id,)]:
        raise DriverError(f"driver {driver.id}: a query for {specimen_id!r} reads back as one for {asked}")
    return text


def _check(driver: Driver, run: Run, shape: Shape | RowShape, said: Sequence[DecodedMessage]) -> None:
    """Raises DriverError unless what was said is what was meant, in any order of the results."""
    specimens = [one for message in said for one in message.specimens]
    heard_of = {(one.specimen_id, one.role.value) for one in specimens}
    if heard_of != {(run.specimen_id, run.role.value)}:
        raise DriverError(f"driver {driver.id}: {run.specimen_id!r} ({run.role}) reads back as {sorted(heard_of)}")
    new = {problem.text for message in said for problem in message.problems} - shape.problems
    if new:
        raise DriverError(f"driver {driver.id}: {'; '.join(sorted(new))}")
    meant = sorted((one.code, *_words(one.value), one.unit, *one.flags) for one in run.results)
    heard = sorted(map(_heard, (one for each in specimens for one in each.results if one.code in run.codes)))
    if meant != heard:
        one, other = next((pair for pair in zip(meant, heard, strict=False) if pair[0] != pair[1]), (meant, heard))
        raise DriverError(f"driver {driver.id}: {one} reads back as {other}")


def _heard(one: Observed) -> tuple[str, ...]:
    return (one.code, *_words(one.value), one.unit, *one.flags)


def _words(value: Value) -> tuple[str, str, str]:
    return value.kind.value, str(value.comparator or ""), value.text if value.kind is not ValueKind.EMPTY else ""


class _Editor:
    """What is changed in any line."""

    def __init__(self, driver: Driver, source: Lines, stamp: Stamp) -> None:
        self.driver, self.source, self.stamp, self.marks = driver, source, stamp, source.marks

    def kind(self, line: str) -> str:
        return line_id(line, self.source.protocol)

    def raw(self, line: str, path: FieldPath) -> str:
        return raw(line, path, self.marks)

    def put(self, line: str, path: FieldPath, value: str) -> str:
        return put(line, path, value, self.marks)

    def header(self, line: str) -> str:
        """The message's own time and number, where it has them; HL7 always has a number."""
        control, at = _CONTROL_ID[self.source.protocol], _SENT_AT[self.source.protocol]
        if self.kind(line) != at.record:
            return line
        if self.source.protocol is Protocol.HL7 or self.raw(line, control):
            line = self.put(line, control, escaped(self.stamp.control_id, self.marks))
        return self.put(line, at, timed(self.raw(line, at), self.stamp.at))

    def times(self, line: str) -> str:
        """The instrument's times of results."""
        for path in self.driver.paths.instrument_time:
            if path.record == self.kind(line) and (old := self.raw(line, path)):
                line = self.put(line, path, timed(old, self.stamp.at))
        return line

    def single(self, line: str, paths: Sequence[FieldPath]) -> str:
        """Of repeated fields at the paths, the first."""
        for path in paths:
            if path.record == self.kind(line):
                whole = FieldPath(path.record, path.field)
                line = self.put(line, whole, self.raw(line, whole).split(self.marks.repeat)[0])
        return line

    def swap(self, line: str, old: str, new: str) -> str:
        """Another specimen id at its paths, and wherever else in the line it stands by itself."""
        was, becomes = (escaped(self._checked(one), self.marks) for one in (old, new))
        kind = self.kind(line)
        if kind in ("H", "MSH"):
            return line
        for path in (*self.driver.paths.specimen_id, *self.driver.query.specimen_id):
            leaf = self.raw(line, path) if path.record == kind else ""
            if leaf and self.driver.specimen_ids.read(leaf) == old:
                line = self.put(line, path, fitted(leaf, was, becomes))
        edges = re.escape(self.marks.field + self.marks.definition)
        alone = re.compile(rf"(?<![^{edges}])( *{re.escape(was)} *)(?![^{edges}])")
        return alone.sub(lambda match: fitted(match[1], was, becomes), line)

    def _checked(self, specimen_id: str) -> str:
        """The id with the check digit that is sent and not read."""
        rule = self.driver.specimen_ids
        if rule.check_digit is None or not rule.drop_check_digit:
            return specimen_id
        return specimen_id + check_character(rule.check_digit, specimen_id)


class _Writer(_Editor):
    """One message about one specimen."""

    def __init__(self, known: Repertoire, shape: Shape, run: Run, stamp: Stamp) -> None:
        super().__init__(known.driver, shape.source, stamp)
        self._known, self._shape, self._run = known, shape, run
        self._number = 0

    def message(self) -> bytes:
        lines = [self._around(line) for line in self._shape.head]
        set_id, first = _SET_ID[self.source.protocol], [order.sayings[0].lines[0] for order in self._shape.orders]
        counts_anew = any(self.raw(line, set_id) == "1" for line in first[1:])
        for order, results in self._orders():
            self._number = 0 if counts_anew else self._number
            lines += [self._ordered(self._around(line), results) for line in order.lead]
            for result in results:
                lines += self._result(result)
            lines += [self._around(line) for line in order.trail]
        return self.source.encode([*lines, *self._shape.tail])

    def _orders(self) -> Iterator[tuple[OrderShape, list[Measured]]]:
        """The orders of the shape that have results here. Codes that none of them has go to the first, or, where each
        result has an order of its own, into one more like it."""
        waiting = list(self._run.results)
        orders = self._shape.orders
        own = {code for order in orders for code in (saying.code for saying in order.sayings)}
        for number, order in enumerate(orders):
            codes = {saying.code for saying in order.sayings}
            if len(orders) == 1:
                mine, waiting = waiting, []
            else:
                mine = [one for one in waiting if one.code in codes]
                waiting = [one for one in waiting if one.code not in codes]
            if mine or (number == 0 and not own & self._run.codes and not waiting):
                yield order, mine
        for one in waiting:
            yield orders[0], [one]

    def _around(self, line: str) -> str:
        """A line that is no result."""
        if self.kind(line) in _PATIENT:
            line = self._nobody(line)
        return self.times(self.swap(self.header(line), self._shape.specimen.specimen_id or "", self._run.specimen_id))

    def _nobody(self, line: str) -> str:
        """A patient's record without the patient, as of an analyzer that was told none: the order says whose it is."""
        kept = {path.field for path in self.driver.paths.specimen_id if path.record == self.kind(line)}
        parts = line.split(self.marks.field)
        first = 1 if self.source.protocol is Protocol.LIS2 else 0
        parts = [part if at < 2 or at + first in kept else "" for at, part in enumerate(parts)]
        while len(parts) > 2 and not parts[-1]:
            parts.pop()
        return self.marks.field.join(parts)

    def _ordered(self, line: str, results: Sequence[Measured]) -> str:
        """The tests that an order names, where it names those of its example."""
        paths = [path for path in self.driver.paths.order_code if path.record == self.kind(line)]
        for path in paths:
            whole = FieldPath(path.record, path.field)
            named = self.raw(line, whole).split(self.marks.repeat)
            component = path.component or 1
            codes = {self._code(one, component): one for one in named}
            if not codes.keys() & self._known.sayings.keys():
                continue
            like, code = next((one, code) for code, one in codes.items() if code in self._known.sayings)
            wanted = [codes.get(one.code) or like.replace(code, one.code, 1) for one in results]
            return self.put(line, whole, self.marks.repeat.join(dict.fromkeys(wanted)))
        return line

    def _code(self, repeat: str, component: int) -> str:
        parts = repeat.split(self.marks.component)
        return self.driver.code(parts[component - 1].strip()) if component <= len(parts) else ""

    def _result(self, result: Measured) -> list[str]:
        said = self._known.said(self._run.role, result.code)
        saying = next(one for one in said if one.seen == result.like)
        line, *below = saying.lines
        self._number += 1
        set_id = _SET_ID[self.source.protocol]
        if self.raw(line, set_id).isdigit():
            line = self.put(line, set_id, str(self._number))
        if result.raw != result.like.raw_value:
            line = self.put(line, self._value_field(line, result.like.raw_value), result.raw)
        if result.flags != result.like.flags:
            flags = self.driver.paths.flags[0]
            line = self.put(line, flags, escaped(result.flags[0], self.marks) if result.flags else "")
        return [self.times(line), *below]

    def _value_field(self, line: str, sent: str) -> FieldPath:
        """The field that the value came from."""
        fields = [FieldPath(path.record, path.field) for path in self.driver.paths.value]
        return next((one for one in fields if self.raw(line, one) == sent), fields[0])

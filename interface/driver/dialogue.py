"""Host query: what the host answers, written by a driver's dialect from the query and a worklist. Pure.

A dialect is lines as the vendor's document prints them, with places in braces: `{specimen_id}`, `{specimen_id:>22}` (to
the right in 22), `{Q.3.1}` and `{QPD-2}` (a field of the query, to echo it), `{QRD}` (a whole record of it). What a
place holds is escaped for the message it stands in; the message's own first line says with which delimiters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from interface.domain.model import ObservedPatient, Priority, Protocol, Sex
from interface.driver.rules import FieldPath
from interface.errors import DriverError, LaboraError
from interface.wire import hl7, lis02

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)(?:\+([0-9]{1,3}))?(?::([<>])([0-9]{1,3}))?\}")
_BRACE = re.compile(r"[{}]")

# What a place may name, beside fields of the query.
WORDS = frozenset(
    "specimen_id specimen_type collected order_id patient_id family given name birth_date sex priority "
    "tests count code item_id n now control_id".split()
)
_PRIORITIES = {
    Priority.STAT: "S", Priority.ASAP: "A", Priority.ROUTINE: "R", Priority.CALLBACK: "C", Priority.PREOP: "P",
}  # fmt: skip
_SEXES = {Sex.FEMALE: "F", Sex.MALE: "M", Sex.OTHER: "O", Sex.UNKNOWN: "U"}


class Over(StrEnum):
    """What lines are repeated for."""

    SPECIMEN = "specimen"  # with work to do
    MISSING = "missing"  # that was asked for and has none
    TEST = "test"  # of the specimen


@dataclass(frozen=True, slots=True)
class Each:
    """Lines that are written once for each."""

    over: Over
    lines: tuple[Line, ...]


Line = str | Each


@dataclass(frozen=True, slots=True)
class Answer:
    """A dialect. `found` and `none`: the messages, each of lines; HL7 may answer with two, the reply and the orders."""

    found: tuple[tuple[Line, ...], ...] = ()
    none: tuple[tuple[Line, ...], ...] = ()
    test: str = "{code}"  # one of `{tests}`
    code_part: int = 0  # of a composite code, from 1, that an order names; 0: all of it
    code_join: str = "/"
    join: str = ""  # between two of them; "": the message's repeat delimiter
    priority: Mapping[Priority, str] = field(default_factory=lambda: MappingProxyType(_PRIORITIES))
    sex: Mapping[Sex, str] = field(default_factory=lambda: MappingProxyType(_SEXES))
    specimen_types: Mapping[str, str] | None = None  # ours: the analyzer's word; None: as it is
    time_format: str = "%Y%m%d%H%M%S"
    date_format: str = "%Y%m%d"


@dataclass(frozen=True, slots=True)
class Ordered:
    """One test to do, by the analyzer's own code. `item_id`: ours, for dialects that carry it."""

    code: str
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done on one specimen. `collected` in the analyzer's local time."""

    specimen_id: str
    tests: tuple[Ordered, ...] = ()
    patient: ObservedPatient = field(default_factory=ObservedPatient)
    priority: Priority = Priority.ROUTINE
    specimen_type: str = ""
    collected: datetime | None = None
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query as it came, for what its answer echoes."""

    protocol: Protocol
    records: Mapping[str, lis02.Record | hl7.Segment]

    def at(self, path: FieldPath, repeat: int = 1) -> str:
        """A leaf, unescaped; a whole field or record as sent."""
        record = self.records.get(path.record)
        if record is None:
            return ""
        if not path.field:
            return record.text
        if path.component is None:
            repeats = record.repeats(path.field)
            return repeats[repeat - 1] if 1 < repeat <= len(repeats) else record.field(path.field)
        if isinstance(record, hl7.Segment):
            return record.value(path.field, path.component, repeat, path.subcomponent or 1)
        return record.component(path.field, path.component, repeat)


def read_query(protocol: Protocol, text: bytes, encoding: str = "") -> Asked:
    """The query's records, the first of each kind. Raises DriverError for bytes that are no message."""
    try:
        if protocol is Protocol.LIS2:
            found: Sequence[lis02.Record | hl7.Segment] = lis02.parse(text, encoding or lis02.DEFAULT_ENCODING).records
        else:
            found = hl7.parse(text, encoding).segments
    except LaboraError as error:
        raise DriverError(f"the query cannot be read: {error}") from error
    first: dict[str, lis02.Record | hl7.Segment] = {}
    for record in found:
        first.setdefault(record.type if isinstance(record, lis02.Record) else record.id, record)
    return Asked(protocol, first)


def answer(
    dialect: Answer,
    asked: Asked,
    worklist: Sequence[Work],
    now: datetime,
    control_id: str,
    missing: Sequence[str] = (),
    encoding: str = "",
) -> tuple[bytes, ...]:
    """The messages that answer a query: of `found` when there is work, else of `none`.

    `missing`: specimens that were asked for and have no work. `now`: local time of the analyzer. The second message's
    control id is the first's with `-2`. Raises DriverError when the encoding lacks a character: nothing is changed.
    """
    fit = [_as_asked(one, dialect) for one in worklist]
    work = [one for one in fit if one.tests]
    without = [*missing, *(one.specimen_id for one in fit if not one.tests)]
    messages = dialect.found if work else dialect.none
    written = []
    for number, lines in enumerate(messages, start=1):
        own = control_id if number == 1 else f"{control_id}-{number}"
        text = _Writer(dialect, asked, now, own, lines).write(work, without)
        try:
            written.append(text.encode(encoding or ("latin-1" if asked.protocol is Protocol.LIS2 else "utf-8")))
        except UnicodeEncodeError as error:
            raise DriverError(f"the answer cannot be written in {error.encoding}") from error
    return tuple(written)


def _as_asked(work: Work, dialect: Answer) -> Work:
    """The work in the dialect's terms: what several codes have in common is ordered once.

    A specimen of a type that the dialect has no word for is not ordered at all: another word would be another's fluid.
    """
    if dialect.specimen_types is not None and work.specimen_type not in dialect.specimen_types:
        return replace(work, tests=())
    tests: dict[str, Ordered] = {}
    for test in work.tests:
        code = ordered_code(dialect, test.code)
        tests.setdefault(code, Ordered(code, test.item_id))
    return replace(work, tests=tuple(tests.values()))


def ordered_code(dialect: Answer, code: str) -> str:
    """What an order names of a code: of a composite one the part that the dialect says, else all of it."""
    parts = code.split(dialect.code_join)
    return parts[dialect.code_part - 1] if 0 < dialect.code_part <= len(parts) else code


def faults(lines: Sequence[Line], protocol: Protocol, parse: Callable[[str], FieldPath]) -> Iterator[str]:
    """What is wrong with a message of a dialect, in words. `parse` raises ValueError for what is no path."""
    begins = {Protocol.LIS2: "H", Protocol.HL7: "MSH"}.get(protocol, "")
    first = lines[0] if lines else ""
    if not isinstance(first, str) or not begins or not first.startswith(begins):
        yield f"a message begins with {begins or 'a record'}"
    yield from _inner_faults(lines, parse)


def _inner_faults(lines: Sequence[Line], parse: Callable[[str], FieldPath]) -> Iterator[str]:
    for line in lines:
        if isinstance(line, str):
            yield from line_faults(line, parse)
        elif line.lines:
            yield from _inner_faults(line.lines, parse)
        else:
            yield "nothing is repeated"


def line_faults(line: str, parse: Callable[[str], FieldPath]) -> Iterator[str]:
    """What is wrong with the places of one line."""
    for match in _PLACE.finditer(line):
        try:
            _named(match[1], parse)
        except ValueError:
            yield f"{{{match[1]}}} is neither a field of the query nor one of {', '.join(sorted(WORDS))}"
    if _BRACE.search(_PLACE.sub("", line)):
        yield f"a brace is left over in {line!r}"


def _named(name: str, parse: Callable[[str], FieldPath]) -> None:
    if name not in WORDS and not re.fullmatch(r"[A-Z][A-Z0-9]{2}|[A-Z]", name):
        parse(name)


def path_of(name: str) -> FieldPath:
    """`Q`, `Q.3`, `Q.3.1`, `QPD-3.1.1` of a place."""
    record, *numbers = re.split(r"[.-]", name)
    parts = [int(number) for number in numbers]
    return FieldPath(record, *(parts or [0])[:1], *parts[1:])


class _Writer:
    """One message."""

    def __init__(self, dialect: Answer, asked: Asked, now: datetime, control_id: str, lines: tuple[Line, ...]) -> None:
        self._dialect, self._asked, self._lines = dialect, asked, lines
        self._always = {"now": now.strftime(dialect.time_format), "control_id": control_id}
        head = lines[0] if isinstance(lines[0], str) else ""
        self._repeat, self._escape = _marks(asked.protocol, head)
        self._out: list[str] = []

    def write(self, work: Sequence[Work], missing: Sequence[str]) -> str:
        first = self._of(work[0], 1) if work else {"specimen_id": next(iter(missing), ""), "n": "1", "count": "0"}
        self._write(self._lines, first, 1, work, missing)
        return "".join(f"{line}\r" for line in self._out)

    def _write(
        self,
        lines: tuple[Line, ...],
        said: Mapping[str, str],
        repeat: int,
        work: Sequence[Work],
        missing: Sequence[str],
    ) -> None:
        """`work`: what `each` goes over here; within a specimen it is that one alone."""
        for line in lines:
            if isinstance(line, str):
                self._out.append(self._filled(line, said, repeat))
            elif line.over is Over.SPECIMEN:
                for at, one in enumerate(work, start=1):
                    self._write(line.lines, self._of(one, at), at, [one], ())
            elif line.over is Over.MISSING:
                for at, name in enumerate(missing, start=1):
                    self._write(line.lines, {"specimen_id": name, "n": str(at), "count": "0"}, at, (), ())
            else:
                tests = work[0].tests if work else ()
                for at, test in enumerate(tests, start=1):
                    own = {"code": test.code, "item_id": test.item_id, "n": str(at)}
                    self._write(line.lines, {**said, **own}, repeat, work, ())

    def _of(self, work: Work, at: int) -> dict[str, str]:
        dialect, patient = self._dialect, work.patient
        family, _, rest = patient.name.partition("^")
        return {
            "specimen_id": work.specimen_id,
            "specimen_type": (dialect.specimen_types or {}).get(work.specimen_type, work.specimen_type),
            "collected": work.collected.strftime(dialect.time_format) if work.collected else "",
            "order_id": work.order_id,
            "patient_id": patient.patient_id,
            "name": patient.name.replace("^", " "),
            "family": family,
            "given": rest.partition("^")[0],
            "birth_date": patient.birth_date.strftime(dialect.date_format) if patient.birth_date else "",
            "sex": dialect.sex.get(patient.sex, "") if patient.sex else "",
            "priority": dialect.priority.get(work.priority, ""),
            "count": str(len(work.tests)),
            "n": str(at),
            "tests": (dialect.join or self._repeat).join(
                self._filled(dialect.test, {"code": test.code, "item_id": test.item_id}, at) for test in work.tests
            ),
        }

    def _filled(self, line: str, said: Mapping[str, str], repeat: int) -> str:
        def place(match: re.Match[str]) -> str:
            name, more, side, width = match[1], int(match[2] or 0), match[3], int(match[4] or 0)
            if name == "tests":
                return said.get(name, "")
            if name in WORDS:
                text, raw = said.get(name, self._always.get(name, "")), False
                text = str(int(text) + more) if more and text.isdigit() else text
            else:
                path = path_of(name)
                text, raw = self._asked.at(path, repeat), path.component is None
            text = text.rjust(width) if side == ">" else text.ljust(width)
            return text if raw else self._escape(text)

        return _PLACE.sub(place, line)


def _marks(protocol: Protocol, head: str) -> tuple[str, Callable[[str], str]]:
    """The repeat delimiter and the escaping of a message, by its first line."""
    if protocol is Protocol.LIS2:
        marks = lis02.parse(head.split("{", 1)[0] + "\r").delimiters
        return marks.repeat, lambda text: lis02.escape(text, marks)
    own = hl7.Delimiters(*head[3:8]) if len(head) > 8 else hl7.DEFAULT_DELIMITERS
    return own.repeat, lambda text: hl7.escape(text, own)

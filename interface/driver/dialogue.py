"""Host query: what the host answers, written by a driver's dialect from the query and a worklist. Pure.

A dialect is lines as the vendor's document prints them, with places in braces: `{specimen_id}`, `{specimen_id:>22}` (to
the right in 22), `{Q.3.1}` and `{QPD-2}` (a field of the query, to echo it), `{QRD}` (a whole record of it). What a
place holds is escaped for the message it stands in; the message's own first line says with which delimiters.

A message whose lines speak of one specimen, and do not repeat them for each, is written once for each specimen.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from interface.domain.model import ObservedPatient, Priority, Protocol, Query, Sex
from interface.driver.rules import FieldPath
from interface.errors import DriverError, LaboraError
from interface.wire import hl7, lis02

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)(?:\+([0-9]{1,3}))?(?::([<>])([0-9]{1,3}))?\}")
_BRACE = re.compile(r"[{}]")

# What a place may name, beside fields of the query.
WORDS = frozenset(
    "specimen_id specimen_type collected order_id patient_id family given name birth_date sex priority "
    "tests count code item_id n now control_id reason reason_code note stale more".split()
)
# Of these a message speaks where it speaks of one specimen.
_OF_A_SPECIMEN = frozenset(
    "specimen_id specimen_type collected order_id patient_id family given name birth_date sex priority tests count "
    "reason reason_code".split()
)
_PRIORITIES = {
    Priority.STAT: "S", Priority.ASAP: "A", Priority.ROUTINE: "R", Priority.CALLBACK: "C", Priority.PREOP: "P",
}  # fmt: skip
_SEXES = {Sex.FEMALE: "F", Sex.MALE: "M", Sex.OTHER: "O", Sex.UNKNOWN: "U"}  # HL7 table 0001
LIS2_SEXES = MappingProxyType({**_SEXES, Sex.OTHER: "U"})  # LIS02-A2, P-9: M, F or U

# Why there is no work, in words for whoever stands at the analyzer; the keys are those of `domain.routing.NoWork`.
REASONS = MappingProxyType(
    {
        "unknown_specimen": "specimen not known",
        "not_received": "specimen not received",
        "done": "all tests done",
        "not_for_this_analyzer": "no test for this analyzer",
        "rejected": "specimen rejected",
        "cancelled": "order cancelled",
    }
)
# Letters that Unicode does not decompose, as ICAO Doc 9303-3 section 6 writes them in passports.
_LETTERS = str.maketrans(
    {"đ": "d", "Đ": "D", "ł": "l", "Ł": "L", "ø": "oe", "Ø": "OE", "ħ": "h", "Ħ": "H", "æ": "ae", "Æ": "AE",
     "œ": "oe", "Œ": "OE", "ß": "ss", "ð": "d", "Ð": "D", "þ": "th", "Þ": "TH", "\N{LATIN SMALL LETTER DOTLESS I}": "i"}
)  # fmt: skip


class Over(StrEnum):
    """What lines are repeated for."""

    SPECIMEN = "specimen"  # with work to do
    MISSING = "missing"  # that was asked for and has none
    TEST = "test"  # of the specimen
    STALE = "stale"  # once where the order book may lack what the hospital has ordered lately, else not at all


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
    orders: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # of a result's code: its name
    needs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # what is ordered along with another
    join: str = ""  # between two of them; "": the message's repeat delimiter
    priority: Mapping[Priority, str] = field(default_factory=lambda: MappingProxyType(_PRIORITIES))
    sex: Mapping[Sex, str] = field(default_factory=lambda: MappingProxyType(_SEXES))
    specimen_types: Mapping[str, str] | None = None  # ours: the analyzer's word; None: as it is
    reason_codes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # of `REASONS`; "" where not
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


class Without(NamedTuple):
    """A specimen that was asked for and has no work. `reason`: a key of `REASONS`; "" where nothing is known of it."""

    specimen_id: str
    reason: str = ""


class Written(NamedTuple):
    """One message of an answer. `works`: which of the worklist it orders."""

    text: bytes
    works: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A query as it came, for what its answer echoes.

    `places`: at which repetition of its field a specimen is named, from 1; None: the specimens are as asked for, in
    order. `id_places`: where the query's rule looks for a specimen's id.
    """

    protocol: Protocol
    records: Mapping[str, lis02.Record | hl7.Segment]
    places: Mapping[str, int] | None = None
    id_places: frozenset[FieldPath] = frozenset()
    charset: str = ""  # of an HL7 query, in which its answer is written

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

    def echo(self, path: FieldPath, specimen_id: str, at: int) -> tuple[str, bool]:
        """What the query says at a place about a specimen, and whether that is as sent.

        What stands in the field of the ids stands there for each of them: for one that the query did not name (it asked
        for a range, or for everything) it says nothing, and the id is the specimen's.
        """
        of_ids = any((path.record, path.field) == (one.record, one.field) for one in self.id_places)
        if self.places is None or not path.field or not of_ids or path.component is None:
            return self.at(path, at), path.component is None
        place = self.places.get(specimen_id)
        if place is not None:
            return self.at(path, place), False
        return (specimen_id if path in self.id_places else ""), False


def read_query(protocol: Protocol, text: bytes, encoding: str = "") -> Asked:
    """The query's records, the first of each kind. Raises DriverError for bytes that are no message."""
    return read_queries(protocol, text, encoding)[0]


def read_queries(
    protocol: Protocol,
    text: bytes,
    encoding: str = "",
    named: Sequence[Query] = (),
    id_places: Sequence[FieldPath] = (),
) -> tuple[Asked, ...]:
    """One for each Q record of a LIS02-A2 message, one of any other.

    `named`: the queries that a driver reads in it, `id_places`: where its rule finds the ids. Raises DriverError for
    bytes that are no message.
    """
    charset = ""
    try:
        if protocol is Protocol.LIS2:
            found: Sequence[lis02.Record | hl7.Segment] = lis02.parse(text, encoding or lis02.DEFAULT_ENCODING).records
        else:
            message = hl7.parse(text, encoding)
            found, charset = message.segments, message.encoding
    except LaboraError as error:
        raise DriverError(f"the query cannot be read: {error}") from error
    first: dict[str, lis02.Record | hl7.Segment] = {}
    asking: list[lis02.Record | hl7.Segment] = []
    for record in found:
        kind = record.type if isinstance(record, lis02.Record) else record.id
        first.setdefault(kind, record)
        if kind == "Q":
            asking.append(record)
    found_in = [first | {"Q": one} for one in asking] or [first]
    places = [dict(zip(one.specimen_ids, one.places, strict=False)) for one in named]
    at = frozenset(id_places)
    return tuple(
        Asked(protocol, records, places[number] if number < len(places) else None, at, charset)
        for number, records in enumerate(found_in)
    )


def answer(
    dialect: Answer,
    asked: Asked,
    worklist: Sequence[Work],
    now: datetime,
    control_id: str,
    missing: Sequence[str | Without] = (),
    encoding: str = "",
) -> tuple[bytes, ...]:
    """The messages of `write`."""
    return tuple(one.text for one in write(dialect, asked, worklist, now, control_id, missing, encoding))


def write(
    dialect: Answer,
    asked: Asked,
    worklist: Sequence[Work],
    now: datetime,
    control_id: str,
    missing: Sequence[str | Without] = (),
    encoding: str = "",
    stale: str = "",
    *,
    leave_out: bool = False,
) -> tuple[Written, ...]:
    """The messages that answer a query: of `found` when there is work, else of `none`.

    `missing`: specimens that were asked for and have no work. Beside work they are said where `found` has a place for
    them, in LIS02-A2 else by `none`, if that names them. `now`: local time of the analyzer. `stale`: since when the
    hospital was not heard of, in words. A further message's control id is the first's with `-2`, `-3`.

    A name in letters that the encoding lacks is written without their marks, or not at all. Nothing else is changed:
    what cannot be written raises DriverError, or with `leave_out` its specimen is left out.
    """
    codec = encoding or (lis02.DEFAULT_ENCODING if asked.protocol is Protocol.LIS2 else asked.charset or "utf-8")
    fit = [(at, _as_asked(one, dialect)) for at, one in enumerate(worklist)]
    without = [Without(one) if isinstance(one, str) else one for one in missing]
    without += [Without(one.specimen_id, "not_for_this_analyzer") for _, one in fit if not one.tests]
    work = [(at, one) for at, one in fit if one.tests]
    if leave_out:
        work = [(at, one) for at, one in work if _has(codec, *_words_of(one))]
        without = [one for one in without if _has(codec, one.specimen_id)]
    written = []
    for number, part in enumerate(_planned(dialect, asked, work, without), start=1):
        own = control_id if number == 1 else f"{control_id}-{number}"
        reasons = dict.fromkeys(REASONS.get(one.reason, "") for one in part.without)
        writer = _Writer(dialect, asked, part.lines, {
            "now": now.strftime(dialect.time_format), "control_id": own, "more": part.more, "stale": stale,
            "note": "; ".join(filter(None, (*reasons, stale))),
        })  # fmt: skip
        text = _encoded(writer, [one for _, one in part.work], part.without, codec)
        written.append(Written(text, tuple(at for at, _ in part.work) if _orders(part.lines) else ()))
    return tuple(written)


class _Part(NamedTuple):
    """One message of an answer. `more`: see the word."""

    lines: tuple[Line, ...]
    work: Sequence[tuple[int, Work]] = ()
    without: Sequence[Without] = ()
    more: str = ""


def _planned(
    dialect: Answer, asked: Asked, work: Sequence[tuple[int, Work]], without: Sequence[Without]
) -> Iterator[_Part]:
    for lines in dialect.found if work else ():
        each = [[one] for one in work] if _of_one(lines, asked.id_places) else [work]
        for at, group in enumerate(each, start=1):
            yield _Part(lines, group, without, str(at) if at < len(each) else "")
    told = not without or any(_repeats(lines, Over.MISSING) for lines in dialect.found)
    for lines in dialect.none if not work or (asked.protocol is Protocol.LIS2 and not told) else ():
        one_by_one = _of_one(lines, asked.id_places)
        if one_by_one and without:
            for one in without:
                yield _Part(lines, (), [one])
        elif not work or one_by_one or _repeats(lines, Over.MISSING):
            yield _Part(lines, (), without)  # else it would say of the whole query that there is nothing


def _words_of(work: Work) -> Iterator[str]:
    """What must be written of it as it is."""
    yield from (work.specimen_id, work.specimen_type, work.order_id, work.patient.patient_id)
    yield from (word for test in work.tests for word in (test.code, test.item_id))


def _has(codec: str, *words: str) -> bool:
    """Whether an encoding has all the characters."""
    try:
        "".join(words).encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _encoded(writer: _Writer, works: Sequence[Work], without: Sequence[Without], codec: str) -> bytes:
    try:
        return writer.write(works, without).encode(codec)
    except UnicodeEncodeError:
        pass
    try:
        return writer.write([_spelled(one, codec) for one in works], without).encode(codec)
    except UnicodeEncodeError as error:
        raise DriverError(f"the answer cannot be written in {error.encoding}") from error


def _spelled(work: Work, codec: str) -> Work:
    """The work with its patient's name in the letters of an encoding. A part of it that has others is left out."""

    def spelled(part: str) -> str:
        if _has(codec, part):
            return part
        plain = unicodedata.normalize("NFKD", part.translate(_LETTERS))
        kept = "".join(letter for letter in plain if not unicodedata.combining(letter))
        return kept if _has(codec, kept) else ""

    name = "^".join(spelled(part) for part in work.patient.name.split("^"))
    return replace(work, patient=replace(work.patient, name=name))


@lru_cache(1024)
def _of_one(lines: tuple[Line, ...], id_places: frozenset[FieldPath]) -> bool:
    """Whether a message speaks of one specimen: outside of what it repeats for each."""
    of_ids = {(one.record, one.field) for one in id_places}
    inner = [line for line in lines if isinstance(line, Each)]
    return (
        any(line.over is Over.TEST or (line.over is Over.STALE and _of_one(line.lines, id_places)) for line in inner)
        or any(place.name in _OF_A_SPECIMEN for place in _places(lines))
        or any(
            place.path is not None and place.path.component and (place.path.record, place.path.field) in of_ids
            for place in _places(lines)
        )
    )


@lru_cache(1024)
def _repeats(lines: tuple[Line, ...], over: Over) -> bool:
    return any(isinstance(line, Each) and (line.over is over or _repeats(line.lines, over)) for line in lines)


@lru_cache(1024)
def _orders(lines: tuple[Line, ...]) -> bool:
    """Whether a message names tests."""
    inner = any(_orders(line.lines) for line in lines if isinstance(line, Each))
    return inner or any(place.name in ("tests", "code") for place in _places(lines))


def _as_asked(work: Work, dialect: Answer) -> Work:
    """The work in the dialect's terms: what several codes have in common is ordered once, in the dialect's order.

    A specimen of a type that the dialect has no word for is not ordered at all: another word would be another's fluid.
    """
    if dialect.specimen_types is not None and work.specimen_type not in dialect.specimen_types:
        return replace(work, tests=())
    tests: dict[str, Ordered] = {}
    for test in work.tests:
        code = ordered_code(dialect, test.code)
        for each in (dialect.needs.get(code, code), code):
            tests.setdefault(each, Ordered(each, test.item_id))
    if dialect.orders:
        places = {name: at for at, name in enumerate(dict.fromkeys(dialect.orders.values()))}
        tests = dict(sorted(tests.items(), key=lambda one: places.get(one[0], len(places))))
    return replace(work, tests=tuple(tests.values()))


def ordered_code(dialect: Answer, code: str) -> str:
    """What an order names for a code of results: the group or mode that the dialect says, of a composite one the part,
    else all of it."""
    if code in dialect.orders:
        return dialect.orders[code]
    parts = code.split(dialect.code_join)
    return parts[dialect.code_part - 1] if 0 < dialect.code_part <= len(parts) else code


def faults(lines: Sequence[Line], protocol: Protocol, parse: Callable[[str], FieldPath]) -> Iterator[str]:
    """What is wrong with a message of a dialect, in words. `parse` raises ValueError for what is no path."""
    begins = {Protocol.LIS2: "H", Protocol.HL7: "MSH"}.get(protocol, "")
    first = lines[0] if lines else ""
    if not isinstance(first, str) or not begins or not first.startswith(begins):
        yield f"a message begins with {begins or 'a record'}"
    elif protocol is Protocol.LIS2 and len(set(first[1:5])) < len(first[1:5]):
        yield f"{first[:5]!r} does not define four different delimiters"
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
    """One message. `always`: what its words mean wherever they stand."""

    def __init__(self, dialect: Answer, asked: Asked, lines: tuple[Line, ...], always: Mapping[str, str]) -> None:
        self._dialect, self._asked, self._lines, self._always = dialect, asked, lines, always
        head = lines[0] if isinstance(lines[0], str) else ""
        self._repeat, self._escape = _marks(asked.protocol, head)
        self._out: list[str] = []

    def write(self, work: Sequence[Work], missing: Sequence[Without]) -> str:
        self._out = []
        if work:
            first = self._of(work[0], 1)
        else:
            first = self._without(missing[0] if missing else Without(""), 1)
        self._write(self._lines, first, 1, work, missing)
        return "".join(f"{line}\r" for line in self._out)

    def _write(
        self,
        lines: tuple[Line, ...],
        said: Mapping[str, str],
        at: int,
        work: Sequence[Work],
        missing: Sequence[Without],
    ) -> None:
        """`work`: what `each` goes over here; within a specimen it is that one alone."""
        for line in lines:
            if isinstance(line, str):
                self._out.append(self._filled(line, said, at))
            elif line.over is Over.SPECIMEN:
                for number, one in enumerate(work, start=1):
                    self._write(line.lines, self._of(one, number), number, [one], ())
            elif line.over is Over.MISSING:
                for number, none in enumerate(missing, start=1):
                    self._write(line.lines, self._without(none, number), number, (), ())
            elif line.over is Over.STALE:
                if self._always["stale"]:
                    self._write(line.lines, said, at, work, missing)
            else:
                tests = work[0].tests if work else ()
                for number, test in enumerate(tests, start=1):
                    own = {"code": test.code, "item_id": test.item_id, "n": str(number)}
                    self._write(line.lines, {**said, **own}, at, work, ())

    def _without(self, one: Without, at: int) -> dict[str, str]:
        code = self._dialect.reason_codes.get(one.reason, "")
        reason = REASONS.get(one.reason, "")
        return {"specimen_id": one.specimen_id, "reason": reason, "reason_code": code, "n": str(at), "count": "0"}

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
                self._filled(
                    dialect.test, {"specimen_id": work.specimen_id, "code": test.code, "item_id": test.item_id}, at
                )
                for test in work.tests
            ),
        }

    def _filled(self, line: str, said: Mapping[str, str], at: int) -> str:
        return "".join(part if isinstance(part, str) else self._said(part, said, at) for part in _parts(line))

    def _said(self, place: _Place, said: Mapping[str, str], at: int) -> str:
        raw = False
        if place.path is not None:
            text, raw = self._asked.echo(place.path, said["specimen_id"], at)
        else:
            text = said.get(place.name, self._always.get(place.name, ""))
            if place.name == "tests":
                return text
            if place.more and text.isdigit():
                text = str(int(text) + place.more)
        if place.width:
            text = text.rjust(place.width) if place.side == ">" else text.ljust(place.width)
        return text if raw or not text or text.isalnum() else self._escape(text)  # no mark is a letter or a digit


class _Place(NamedTuple):
    name: str
    more: int
    side: str
    width: int
    path: FieldPath | None  # of the query


@lru_cache(4096)
def _parts(line: str) -> tuple[str | _Place, ...]:
    """A line taken apart: every line of a dialect is written again and again."""
    parts: list[str | _Place] = []
    at = 0
    for match in _PLACE.finditer(line):
        name = match[1]
        parts.append(line[at : match.start()])
        path = None if name in WORDS else path_of(name)
        parts.append(_Place(name, int(match[2] or 0), match[3] or "", int(match[4] or 0), path))
        at = match.end()
    return tuple(part for part in (*parts, line[at:]) if part)


def _places(lines: Sequence[Line]) -> Iterator[_Place]:
    for line in lines:
        if isinstance(line, str):
            yield from (part for part in _parts(line) if not isinstance(part, str))


@lru_cache(1024)
def _marks(protocol: Protocol, head: str) -> tuple[str, Callable[[str], str]]:
    """The repeat delimiter and the escaping of a message, by its first line."""
    if protocol is Protocol.LIS2:
        marks = lis02.parse(head.split("{", 1)[0] + "\r").delimiters
        return marks.repeat, lambda text: lis02.escape(text, marks)
    own = hl7.Delimiters(*head[3:8]) if len(head) > 8 else hl7.DEFAULT_DELIMITERS
    return own.repeat, lambda text: hl7.escape(text, own)

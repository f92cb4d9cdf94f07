"""Records as a driver's own layout has them, into the analyzer's terms. Pure.

One entry for each result in order, none merged. Nothing is guessed: a tag that the layout does not know and a record
that does not fit it are problems, and what stands in such a record is held, since its fields may be another's.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from interface.domain.model import (
    UNSAID,
    DecodedMessage,
    HoldReason,
    MeasuredWith,
    ObservedPatient,
    Protocol,
    Query,
    SpecimenRole,
    Value,
    ValueKind,
)
from interface.domain.values import Reading, numeric, read_field
from interface.driver.layout import MATERIALS, Fields, Layout, LayoutKind, Meaning, Place, Places
from interface.driver.manifest import Driver
from interface.driver.observe import (
    NO_SPECIMEN_ID,
    Draft,
    OpenSpecimen,
    RawResult,
    observe,
    read_date,
    read_sex,
)
from interface.driver.rules import CODE_PATH, ROLE_PATH, SPECIMEN_ID_PATH, VALUE_PATH

DEFAULT_ENCODING = "latin-1"
_LINE_ENDS = "\r\n"
_LINE_END = re.compile(r"\r\n?|\n")  # not all that Unicode takes for one: RS is a separator here
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Row:
    """One record: what stands at each of the layout's places, as sent. `doubt`: it does not fit the layout.

    `results`: what differs for each of its results.
    """

    location: str
    values: Mapping[str, str]
    results: tuple[Fields, ...]
    doubt: bool = False
    text: str = ""  # the record as sent, where it is one piece

    def at(self, places: Places) -> str:
        """Places that stand for one value, a blank between them."""
        parts = (place.word if place.word is not None else self.values.get(place.name, "") for place in places)
        return " ".join(text for part in parts if (text := part.strip()))

    def first(self, fields: Fields, meaning: Meaning) -> str:
        """The first of the meaning's places that is not empty."""
        return next((text for places in fields.get(meaning, ()) if (text := self.at(places))), "")

    def every(self, fields: Fields, meaning: Meaning) -> tuple[str, ...]:
        return tuple(text for places in fields.get(meaning, ()) if (text := self.at(places)))


def decode(driver: Driver, text: bytes, encoding: str = "") -> DecodedMessage:
    """Decode the text of one block. `encoding`: the link's, else the driver's. Never raises."""
    draft = Draft(Protocol.DECLARED, message_type="result")
    if driver.layout is None:
        draft.problem("block", "this driver lays out no records")
        return draft.finish()
    _Engine(driver, driver.layout, draft).run(read_text(driver, text, encoding, draft))
    return draft.finish()


def read_text(driver: Driver, text: bytes, encoding: str = "", draft: Draft | None = None) -> str:
    """The block's characters; what does not fit the encoding is a problem and stays as a mark of it."""
    name = encoding or driver.encoding or DEFAULT_ENCODING
    try:
        return text.decode(name).removeprefix(_BOM)
    except UnicodeDecodeError:
        if draft is not None:
            draft.problem("block", f"some bytes are not {name}")
        return text.decode(name, "replace").removeprefix(_BOM)


class _Engine:
    def __init__(self, driver: Driver, layout: Layout, draft: Draft) -> None:
        self._driver, self._layout, self._draft = driver, layout, draft
        self._specimen: OpenSpecimen | None = None
        self._key: tuple[str, ...] = ()

    def run(self, text: str) -> None:
        found = False
        for row in _READERS[self._layout.kind](self._layout, text, self._draft):
            found = True
            self._row(row)
        if not found and not self._draft.problems:
            self._draft.problem("block", "no record was found")

    def _row(self, row: Row) -> None:
        fields, draft = self._layout.fields, self._draft
        draft.sender = draft.sender or row.first(fields, Meaning.SENDER)
        draft.control_id = draft.control_id or row.first(fields, Meaning.CONTROL_ID)
        kind = row.first(fields, Meaning.TYPE)
        if kind in self._layout.query_types:
            self._ask(row)
            return
        if self._layout.types and kind not in self._layout.types:
            draft.problem(row.location, f"records of type {kind!r} are not read by this driver")
            return
        specimen = self._open(row)
        for places in row.results:
            self._result(row, {**fields, **places}, specimen)

    def _ask(self, row: Row) -> None:
        """A record that asks for work."""
        fields = self._layout.fields
        specimen_id, wrong = self._driver.specimen_ids.take(row.first(fields, Meaning.SPECIMEN_ID))
        if not specimen_id:
            self._draft.problem(row.location, wrong or NO_SPECIMEN_ID)
        patient = row.first(fields, Meaning.PATIENT_ID)
        self._draft.message_type = "query"
        self._draft.queries.append(Query((specimen_id,) if specimen_id else (), False, patient, (), row.text))

    def _open(self, row: Row) -> OpenSpecimen:
        """The specimen of a record: the one before it where all that is said of both is the same."""
        fields = self._layout.fields
        key = tuple(
            row.first(fields, meaning)
            for meaning in (
                Meaning.SPECIMEN_ID, Meaning.PATIENT_ID, Meaning.PATIENT_NAME, Meaning.BIRTH_DATE, Meaning.SEX,
                Meaning.SPECIMEN_TYPE, Meaning.ORDER_CODE, Meaning.COLLECTED, Meaning.ROLE,
            )
        )  # fmt: skip
        if self._specimen is not None and key == self._key:
            return self._specimen
        specimen_id, wrong = self._driver.specimen_ids.take(key[0])
        if not specimen_id:
            self._draft.problem(row.location, wrong or NO_SPECIMEN_ID)
        said = {SPECIMEN_ID_PATH: specimen_id, ROLE_PATH: row.first(fields, Meaning.ROLE)}
        role = self._driver.role(lambda path: (said.get(path, ""),)) or SpecimenRole.PATIENT
        specimen = OpenSpecimen(self._patient(row), specimen_id or None, key[5], role, key[6], key[7])
        self._draft.specimens.append(specimen)
        self._specimen, self._key = specimen, key
        return specimen

    def _patient(self, row: Row) -> int | None:
        """The record's patient as an index, None where nothing is said of one."""
        fields = self._layout.fields
        birth = row.first(fields, Meaning.BIRTH_DATE)
        born = read_date(birth.replace("-", ""))
        if birth and born is None:
            self._draft.problem(row.location, "the birth date is not a date")
        patient = ObservedPatient(
            row.first(fields, Meaning.PATIENT_ID),
            row.first(fields, Meaning.PATIENT_NAME),
            born,
            read_sex(row.first(fields, Meaning.SEX)),
        )
        if patient == ObservedPatient():
            return None
        if not self._draft.patients or self._draft.patients[-1] != patient:
            self._draft.patients.append(patient)
        return len(self._draft.patients) - 1

    def _result(self, row: Row, fields: Fields, specimen: OpenSpecimen) -> None:
        sent = row.first(fields, Meaning.VALUE)
        if not sent and self._layout.skip_empty:
            return
        words, unit = self._words(sent)
        driver = self._driver
        reading = read_field(words, self._driver.grammar)
        if scale := row.first(fields, Meaning.SCALE):
            reading = _scaled(reading, words, scale)
        as_sent = row.first(fields, Meaning.CODE)
        code = self._driver.code(as_sent)
        if not code:
            self._draft.problem(row.location, "no test code where this driver looks for it")
        said = {CODE_PATH: code, VALUE_PATH: words, ROLE_PATH: row.first(fields, Meaning.ROLE)}
        observed, attachment = observe(
            self._driver,
            RawResult(
                row.location, code, as_sent, sent, reading.value, words,
                (*reading.flags, *(one for all_ in row.every(fields, Meaning.FLAGS) for one in driver.flags_of(all_))),
                row.first(fields, Meaning.STATUS),
                "",
                row.first(fields, Meaning.NAME),
                row.first(fields, Meaning.UNIT) or unit or reading.unit,
                row.first(fields, Meaning.REFERENCE),
                row.first(fields, Meaning.INSTRUMENT_TIME),
                row.first(fields, Meaning.OPERATOR),
                row.every(fields, Meaning.COMMENTS),
                measured_with=_measured_with(row, fields),
                method=row.first(fields, Meaning.METHOD),
            ),
            lambda path: (said.get(path, ""),),
        )  # fmt: skip
        if row.doubt:
            observed = replace(observed, holds=tuple(dict.fromkeys((*observed.holds, HoldReason.UNREADABLE_VALUE))))
        specimen.results.append(observed)
        if attachment is not None:
            specimen.attachments.append(attachment)

    def _words(self, sent: str) -> tuple[str, str]:
        """The value's words, and the unit that stands with it."""
        pattern = self._layout.value_pattern
        match = pattern.fullmatch(sent) if pattern is not None else None
        groups = match.groupdict(default="") if match else {"value": sent}
        return groups["value"].strip(), groups.get("unit", "").strip()


def _measured_with(row: Row, fields: Fields) -> MeasuredWith:
    if not any(meaning in fields for meaning in MATERIALS):
        return UNSAID
    return MeasuredWith(*(row.first(fields, meaning) for meaning in MATERIALS))


def _scaled(reading: Reading, words: str, scale: str) -> Reading:
    """Digits whose point is implied, `0043` of a scale of -1 as 4.3. What has a point of its own is doubtful words."""
    number = reading.value.number
    if reading.value.kind is not ValueKind.NUMERIC or number is None:
        return reading
    if not (scale.removeprefix("-").isascii() and scale.removeprefix("-").isdigit()) or not words.isdigit():
        return replace(reading, value=Value(ValueKind.TEXT, words))
    return replace(reading, value=numeric(number.scaleb(int(scale))))


# ---- from text to records -------------------------------------------------------------------------------------------


def _tagged(layout: Layout, text: str, draft: Draft) -> Iterator[Row]:
    """A result begins with its tag; what was said of the specimen before it holds for it.

    A tag of the specimen behind results begins another: of the first, it and what followed it there hold no more.
    """
    specimen: dict[str, str] = {}
    order: list[str] = []  # of the specimen's tags
    result: dict[str, str] | None = None
    known, count, doubt = layout.needed | layout.ignored | {layout.begins}, 0, False
    of_specimen, results = layout.specimen_tags, layout.results or ({},)
    stray, pieces = layout.cut(text.replace(layout.fold, "") if layout.fold else text)
    if stray.strip():
        draft.problem("block", f"there is text {'before the first tag' if layout.separator else 'that nothing ends'}")
    for number, piece in enumerate(pieces, start=1):
        content = piece.strip(_LINE_ENDS)
        tag, value = content[: layout.tag_width], content[layout.tag_width :].removesuffix(layout.ends)
        if tag not in known:
            draft.problem(f"field {number}", f"the tag {tag!r} is not known to this driver")
        elif tag in of_specimen:
            if result is not None:
                yield Row(f"result {count}", specimen | result, results, doubt)
                result, doubt = None, False
                kept = order[: order.index(tag)] if tag in order else order
                specimen = {one: specimen[one] for one in kept if one in specimen}
            if specimen.get(tag):
                draft.problem(f"field {number}", f"the tag {tag!r} stands twice")
                doubt = True
            specimen[tag] = value
            order += [tag] if tag not in order else []
        elif tag == layout.begins:
            if result is not None:
                yield Row(f"result {count}", specimen | result, results, doubt)
                doubt = False
            count, result = count + 1, {tag: value}
        elif result is None:
            if tag not in layout.ignored:
                draft.problem(f"field {number}", f"the tag {tag!r} stands before any result")
        elif tag in result:
            draft.problem(f"field {number}", f"the tag {tag!r} stands twice")
            doubt = True
        else:
            result[tag] = value
    if result is not None:
        yield Row(f"result {count}", specimen | result, results, doubt)
    elif not count:
        # What it is may still be said: a type that this driver does not read, a specimen without results.
        yield Row("block", specimen, ())
        draft.problem("block", "there is no result in it")


def _fixed(layout: Layout, text: str, draft: Draft) -> Iterator[Row]:
    """Fields by their columns. A record of another width is read and doubted."""
    records = _LINE_END.split(text) if layout.lines else [_LINE_END.sub("", text) if layout.unfold else text]
    for number, record in enumerate(records, start=1):
        if layout.lines and not record.strip():
            continue
        location = f"line {number}" if layout.lines else "block"
        results, whole = _cells_of(layout, record)
        doubt = not whole or (len(record) != layout.width if layout.width else len(record) < layout.reach)
        if doubt:
            draft.problem(location, f"has {len(record)} characters, not {layout.width or layout.reach}")
        places = [place for fields in (layout.fields, *results) for place in _places(fields)]
        yield Row(location, {p.name: record[p.first - 1 : p.last] for p in places}, results, doubt, record)


def _cells_of(layout: Layout, record: str) -> tuple[tuple[Fields, ...], bool]:
    """The places of a fixed record's results, and whether it ends with a whole one."""
    if not layout.repeat_at:
        return layout.results or ({},), True
    begin, width = layout.repeat_at - 1, layout.repeat_width
    length = len(record.rstrip()) - begin
    count = max(-(-length // width), 0)
    cells = tuple(_moved(layout.results[0], begin + number * width) for number in range(count))
    return cells, len(record) - begin >= count * width


def _moved(fields: Fields, by: int) -> Fields:
    return {meaning: tuple(tuple(_further(p, by) for p in ps) for ps in many) for meaning, many in fields.items()}


def _further(place: Place, by: int) -> Place:
    if place.word is not None:
        return place
    first, last = place.first + by, place.last + by
    return Place(f"{first}-{last}", first, last)


def _csv(layout: Layout, text: str, draft: Draft) -> Iterator[Row]:
    """Rows of separated values. One with other columns than its header's is read and doubted."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=layout.delimiter, quotechar=layout.quote or None,
        quoting=csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE, strict=True,
    )  # fmt: skip
    header: list[str] | None = None
    places = [place for fields in (layout.fields, *layout.results) for place in _places(fields)]
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            location = f"line {reader.line_num}"
            if layout.header and header is None:
                header = [cell.strip() for cell in cells]
                _check_header(header, [place for place in places if not place.first], draft)
                continue
            wanted = len(header) if header is not None else max((p.first for p in places), default=0)
            doubt = len(cells) != wanted if header is not None else len(cells) < wanted
            if doubt:
                draft.problem(location, f"has {len(cells)} columns, not {wanted}")
            yield Row(location, *_cells(layout, cells, header or [], places), doubt)
    except csv.Error as error:
        draft.problem(f"line {reader.line_num}", f"is no row of separated values: {error}")


def _check_header(header: list[str], named: list[Place], draft: Draft) -> None:
    for name in sorted({place.name for place in named}):
        if header.count(name) != 1:
            draft.problem("header", f"has {header.count(name) or 'no'} columns {name!r}")


def _cells(
    layout: Layout, cells: list[str], header: list[str], places: list[Place]
) -> tuple[dict[str, str], tuple[Fields, ...]]:
    """What stands at the places of a row, and its results."""
    values: dict[str, str] = {}
    for place in places:
        # A name that the header has twice names none.
        at = place.first - 1 if place.first else header.index(place.name) if header.count(place.name) == 1 else -1
        values[place.name] = cells[at] if 0 <= at < len(cells) else ""
    if not layout.columns:
        return values, layout.results or ({},)
    results: list[Fields] = []
    for at in range(layout.columns - 1, len(header)):
        place = Place(f"column {at + 1}")
        values[place.name] = cells[at] if at < len(cells) else ""
        results.append({Meaning.CODE: ((Place("", word=header[at]),),), Meaning.VALUE: ((place,),)})
    return values, tuple(results)


def _places(fields: Fields) -> Iterator[Place]:
    return (place for many in fields.values() for places in many for place in places if place.word is None)


_READERS = {LayoutKind.TAGGED: _tagged, LayoutKind.FIXED: _fixed, LayoutKind.CSV: _csv}

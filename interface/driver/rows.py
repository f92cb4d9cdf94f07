"""Records of a declared layout, read and changed place by place with everything else left as it is. Pure."""

from __future__ import annotations

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from interface.domain.model import ObservedSpecimen
from interface.driver.decode_declared import read_text
from interface.driver.layout import Fields, Layout, LayoutKind, Meaning, Place
from interface.driver.leaves import fitted
from interface.driver.manifest import Driver
from interface.errors import DriverError

_LINE = re.compile(r"\r\n?|\n")
_NUMBER = re.compile(r"[0-9]+")


class Row(ABC):
    """One record that can be changed."""

    @abstractmethod
    def get(self, place: Place) -> str:
        """What stands there, as sent."""

    @abstractmethod
    def put(self, place: Place, value: str) -> None:
        """Raises DriverError where it does not fit."""

    @abstractmethod
    def text(self) -> str:
        """The record as it would be sent."""

    def replace(self, place: Place, value: str) -> None:
        """Another value there, padded as the one before was."""
        before = self.get(place)
        self.put(place, fitted(before, before.strip(), value))


class FixedRow(Row):
    def __init__(self, text: str) -> None:
        self._text = text

    def get(self, place: Place) -> str:
        return self._text[place.first - 1 : place.last]

    def put(self, place: Place, value: str) -> None:
        width = place.last - place.first + 1
        if len(value) > width:
            raise DriverError(f"{value!r} does not fit in the columns {place.name}")
        self._text = self._text[: place.first - 1] + value.ljust(width) + self._text[place.last :]

    def replace(self, place: Place, value: str) -> None:
        before = self.get(place)
        left = not before.strip() or not before.startswith(" ")
        width = place.last - place.first + 1
        self.put(place, value.ljust(width) if left else value.rjust(width))

    def text(self) -> str:
        return self._text


class CsvRow(Row):
    def __init__(self, cells: Sequence[str], header: Sequence[str], layout: Layout) -> None:
        self._cells, self._header, self._layout = list(cells), list(header), layout

    def _at(self, place: Place) -> int:
        if place.first:
            return place.first - 1
        column = re.fullmatch(r"column ([0-9]+)", place.name)
        if place.name in self._header:
            return self._header.index(place.name)
        return int(column[1]) - 1 if column else -1

    def get(self, place: Place) -> str:
        at = self._at(place)
        return self._cells[at] if 0 <= at < len(self._cells) else ""

    def put(self, place: Place, value: str) -> None:
        at = self._at(place)
        if 0 <= at < len(self._cells):
            self._cells[at] = value
        elif value:
            raise DriverError(f"there is no column {place.name}")

    def text(self) -> str:
        out = io.StringIO()
        quote = self._layout.quote
        csv.writer(
            out, delimiter=self._layout.delimiter, quotechar=quote or None, lineterminator="",
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        ).writerow(self._cells)  # fmt: skip
        return out.getvalue()


class TaggedRow(Row):
    """Fields behind their tags. `pieces` as split at the separator, without what stands before the first."""

    def __init__(self, pieces: Sequence[str], layout: Layout) -> None:
        self._pieces, self._layout = list(pieces), layout

    def _at(self, place: Place) -> int:
        return next((at for at, piece in enumerate(self._pieces) if self._tag(piece) == place.name), -1)

    def _tag(self, piece: str) -> str:
        return piece.strip("\r\n" + self._layout.fold)[: self._layout.tag_width]

    def _parts(self, piece: str) -> tuple[str, str, str]:
        """Up to and with the tag, the value, what ends it."""
        begin = len(piece) - len(piece.lstrip("\r\n" + self._layout.fold)) + self._layout.tag_width
        body = piece[begin:]
        value = body.rstrip("\r\n").removesuffix(self._layout.ends)
        return piece[:begin], value, body[len(value) :]

    def get(self, place: Place) -> str:
        at = self._at(place)
        return self._parts(self._pieces[at])[1] if at >= 0 else ""

    def put(self, place: Place, value: str) -> None:
        at = self._at(place)
        if at >= 0:
            head, _, end = self._parts(self._pieces[at])
            self._pieces[at] = head + value + end
        elif value:
            raise DriverError(f"the example has no field {place.name}")

    def text(self) -> str:
        return "".join(self._layout.separator + piece for piece in self._pieces)


@dataclass(frozen=True, slots=True)
class RowTemplate:
    """One record as sent. `places`: of each of its results; `codes`: which those are."""

    cells: tuple[str, ...]  # of fixed columns and tags the text itself, or the pieces
    places: tuple[Fields, ...]
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """The records of a block about one specimen. `begin`: what stands before them, a header or a specimen's fields."""

    layout: Layout
    encoding: str
    templates: tuple[RowTemplate, ...]
    begin: tuple[str, ...] = ()
    line_end: str = ""
    ended: bool = False

    def row(self, template: RowTemplate) -> Row:
        """A record to be changed."""
        if self.layout.kind is LayoutKind.FIXED:
            return FixedRow(template.cells[0])
        if self.layout.kind is LayoutKind.CSV:
            return CsvRow(template.cells, self.begin, self.layout)
        return TaggedRow(template.cells, self.layout)

    def opening(self) -> Row | None:
        """What the records of one specimen share, where that is a record of its own."""
        return TaggedRow(self.begin, self.layout) if self.layout.kind is LayoutKind.TAGGED else None

    def blocks(self, opening: Row | None, rows: Iterable[Row]) -> tuple[bytes, ...]:
        """Records as the texts of blocks."""
        texts = [row.text() for row in rows]
        if opening is not None:
            texts = ["".join([opening.text(), *texts])]
        elif self.line_end:
            if self.layout.kind is LayoutKind.CSV and self.begin:
                texts = [CsvRow(self.begin, self.begin, self.layout).text(), *texts]
            texts = [self.line_end.join(texts) + (self.line_end if self.ended else "")]
        return tuple(text.encode(self.encoding) for text in texts)


def rows_of(driver: Driver, text: bytes, specimen: ObservedSpecimen) -> Rows | None:
    """The records in which the specimen's results stand; None where they cannot be told."""
    layout = driver.layout
    if layout is None:
        return None
    words = read_text(driver, text)
    encoding = driver.encoding or "latin-1"
    by_row: dict[str, list[str]] = {}
    for result in specimen.results:
        by_row.setdefault(result.location, []).append(result.code)
    if layout.kind is LayoutKind.TAGGED:
        return _tagged(layout, encoding, words, by_row)
    lined = layout.lines or layout.kind is LayoutKind.CSV
    if not lined:
        places = layout.results or ({},)
        return Rows(layout, encoding, (RowTemplate((words,), places, tuple(by_row.get("block", ()))),))
    end = "\r\n" if "\r\n" in words else "\n" if "\n" in words else "\r"
    header: list[str] = []
    templates = []
    for number, line in enumerate(_LINE.split(words), start=1):
        if not line.strip():
            continue
        cells = [line] if layout.lines else _cells(line, layout)
        if layout.kind is LayoutKind.CSV and layout.header and not header:
            header = [cell.strip() for cell in cells]
        elif codes := by_row.get(f"line {number}"):
            templates.append(RowTemplate(tuple(cells), _places(layout, header), tuple(codes)))
    ended = words.endswith(("\r", "\n"))
    return Rows(layout, encoding, tuple(templates), tuple(header), end, ended) if templates else None


def _cells(line: str, layout: Layout) -> list[str]:
    return next(
        csv.reader(
            [line], delimiter=layout.delimiter, quotechar=layout.quote or None,
            quoting=csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE,
        )
    )  # fmt: skip


def _places(layout: Layout, header: Sequence[str]) -> tuple[Fields, ...]:
    if not layout.columns:
        return layout.results or ({},)
    return tuple(
        {
            Meaning.CODE: ((Place("", word=header[at]),),),
            Meaning.VALUE: ((Place(f"column {at + 1}"),),),
        }
        for at in range(layout.columns - 1, len(header))
    )


def _tagged(layout: Layout, encoding: str, words: str, by_row: dict[str, list[str]]) -> Rows | None:
    """The specimen's fields and its results; of a block with several specimens the first."""
    _, pieces = layout.cut(words)
    if layout.fold:  # a line that is altered is full elsewhere: only what begins a field stays
        pieces = [layout.fold * one.startswith(layout.fold) + one.replace(layout.fold, "") for one in pieces]
    begin: list[str] = []
    groups: list[list[str]] = []
    for piece in pieces:
        tag = piece.strip("\r\n" + layout.fold)[: layout.tag_width]
        if tag == layout.begins:
            groups.append([piece])
        elif groups and tag in layout.specimen_tags:
            break
        else:
            (groups[-1] if groups else begin).append(piece)
    templates = [
        RowTemplate(tuple(group), ({},), tuple(codes))
        for number, group in enumerate(groups, start=1)
        if (codes := by_row.get(f"result {number}"))
    ]
    return Rows(layout, encoding, tuple(templates), tuple(begin)) if templates else None

"""Spreadsheets (.xlsx, ECMA-376): the texts of the cells, read and written. No formulas, formats or dates.

Read with the standard library: a spreadsheet is a zip of XML. What it unpacks to is bounded, and a document type, which
only an attack would bring along, is refused.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

MAX_PART_BYTES = 256 << 20  # unpacked, of one part: a sheet of 100,000 rows has a tenth of it
MAX_COLUMNS = 1000
_CELL = re.compile(r"([A-Z]{1,3})[0-9]+")
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same table gives the same bytes


# What the zip, its XML and references in it that lead nowhere end in.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, IndexError, ValueError, NotImplementedError, RuntimeError,
    expat.ExpatError,
)  # fmt: skip


class SheetError(ValueError):
    """The bytes are no spreadsheet that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet's rows that have a cell: the row's number and its texts from the first column on."""

    name: str
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def is_sheet(data: bytes) -> bool:
    return data.startswith(b"PK\x03\x04")


def read_sheets(data: bytes) -> Iterator[Sheet]:
    """The sheets in the workbook's order. Raises SheetError."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as package:
            relations = _relations(package)
            shared = _shared(package)
            for name, identifier in _sheets(package):
                reader = _Cells(shared)
                _parse(_part(package, relations[identifier]), reader.start, reader.end, reader.text)
                yield Sheet(name, tuple(reader.rows))
    except SheetError:
        raise
    except _BROKEN as error:
        raise SheetError(f"it is no spreadsheet that can be read ({type(error).__name__})") from error


def _part(package: zipfile.ZipFile, name: str) -> bytes:
    with package.open(name) as part:
        data = part.read(MAX_PART_BYTES + 1)
    if len(data) > MAX_PART_BYTES:
        raise SheetError("it is too large to be a map")
    return data


def _parse(
    data: bytes,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] = lambda name: None,
    text: Callable[[str], None] = lambda text: None,
) -> None:
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = lambda name, attributes: start(name.rpartition("}")[2], attributes)
    parser.EndElementHandler = lambda name: end(name.rpartition("}")[2])
    parser.CharacterDataHandler = text
    parser.Parse(data, True)


def _refuse(*_said: object) -> None:
    raise SheetError("it declares a document type, which no spreadsheet does")


def _relations(package: zipfile.ZipFile) -> dict[str, str]:
    found: dict[str, str] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship":
            target = attributes["Target"]
            found[attributes["Id"]] = target[1:] if target.startswith("/") else f"xl/{target}"

    _parse(_part(package, "xl/_rels/workbook.xml.rels"), start)
    return found


def _sheets(package: zipfile.ZipFile) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "sheet":
            identifier = next((value for key, value in attributes.items() if key.endswith("relationships}id")), "")
            found.append((attributes["name"], identifier))

    _parse(_part(package, "xl/workbook.xml"), start)
    return found


@dataclass(slots=True)
class _Texts:
    """The shared strings: one per `si`, the `t` of its runs joined, phonetic readings left out."""

    found: list[str] = field(default_factory=list)
    _path: list[str] = field(default_factory=list)
    _now: list[str] = field(default_factory=list)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if name == "si":
            self._now = []

    def end(self, name: str) -> None:
        self._path.pop()
        if name == "si":
            self.found.append("".join(self._now))

    def text(self, text: str) -> None:
        if self._path[-1] == "t" and "rPh" not in self._path:
            self._now.append(text)


def _shared(package: zipfile.ZipFile) -> list[str]:
    texts = _Texts()
    if "xl/sharedStrings.xml" in package.namelist():
        _parse(_part(package, "xl/sharedStrings.xml"), texts.start, texts.end, texts.text)
    return texts.found


@dataclass(slots=True)
class _Cells:
    """The rows of one sheet."""

    shared: Sequence[str]
    rows: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    _number: int = 0
    _column: int = 0
    _kind: str = ""
    _inside: bool = False
    _cells: list[str] = field(default_factory=list)
    _now: list[str] = field(default_factory=list)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "row":
            self._number = int(attributes.get("r", self._number + 1))
            self._cells, self._column = [], 0
        elif name == "c":
            self._kind, self._now = attributes.get("t", ""), []
            self._column = self._place(attributes.get("r", ""))
        elif name in ("v", "t"):
            self._inside = True

    def _place(self, reference: str) -> int:
        match = _CELL.fullmatch(reference)
        if match is None:
            return self._column + 1
        column = 0
        for letter in match[1]:
            column = column * 26 + ord(letter) - 64
        return column

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._inside = False
        elif name == "c" and self._now and self._column <= MAX_COLUMNS:
            text = "".join(self._now)
            self._cells += [""] * (self._column - len(self._cells))
            self._cells[self._column - 1] = self._shared(text) if self._kind == "s" else text
        elif name == "row" and any(self._cells):
            self.rows.append((self._number, tuple(self._cells)))

    def _shared(self, number: str) -> str:
        if not number.isdecimal():
            raise SheetError("a cell refers to no shared string")
        return self.shared[int(number)]

    def text(self, text: str) -> None:
        if self._inside:
            self._now.append(text)


# ---- the other way ---------------------------------------------------------------------------------------------------


def write_sheet(name: str, rows: Iterable[Sequence[str]]) -> bytes:
    """A workbook of one sheet, its cells as text."""
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_RELATION}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATION}"><sheets>'
        f'<sheet name={quoteattr(name)} sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_RELATION}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>'
        + "".join(_row(number, cells) for number, cells in enumerate(rows, 1))
        + "</sheetData></worksheet>",
    }
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for part, text in parts.items():
            package.writestr(zipfile.ZipInfo(part, _EPOCH), (head + text).encode(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _row(number: int, cells: Sequence[str]) -> str:
    texts = (
        f'<c r="{_column(place)}{number}" t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'
        for place, cell in enumerate(cells, 1)
        if cell
    )
    return f'<row r="{number}">{"".join(texts)}</row>'


def _column(place: int) -> str:
    letters = ""
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(65 + rest) + letters
    return letters

"""Maps as tables: the laboratory's own CSV, and the LIVD sheet of a vendor as .xlsx, CSV or tab-separated text.

The LIVD sheet's columns are those of the IICC's LIVD specification ("LOINC Mapping" sheet); CDC's catalogue, which has
two LOINC codes a row, says `Test Performed LOINC Code` for the one that results carry.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO

from interface.domain.map_files import Fault, FileFaults, FileRow, FileRows
from interface.render.csv_text import plain, write
from interface.render.sheet import SheetError, read_sheets, write_sheet

# The laboratory's own CSV: column → what of a FileRow it is. TOLD is an export's and says nothing to an import.
OWN = {
    "driver": "driver", "link": "link", "code": "code", "specimen_type": "specimen", "test": "test", "loinc": "loinc",
    "unit": "unit", "method": "method", "valid_from": "start", "valid_to": "end", "note": "note",
}  # fmt: skip
TOLD = ("test_name", "origin", "revision", "change")
# LIVD: heading (folded, without marks) → what of a FileRow it is.
LIVD = {
    "manufacturer": "manufacturer", "model": "model", "vendor analyte code": "code", "vendor analyte name": "name",
    "vendor specimen description": "specimen", "vendor result description": "result", "loinc code": "loinc",
    "test performed loinc code": "loinc", "loinc": "loinc",
}  # fmt: skip
LIVD_COLUMNS = (
    "Publication Version ID", "Manufacturer", "Model", "Equipment UID", "Equipment UID Type", "Vendor Analyte Code",
    "Vendor Analyte Name", "Vendor Reference ID", "Vendor Specimen Description", "Vendor Result Description",
    "Vendor Comment", "LOINC Code", "LOINC Long Name",
)  # fmt: skip
LIVD_SHEET = "LOINC Mapping"
_HEADING_ROWS = 30  # what may stand above the headings: title, notes, version

Line = tuple[int, Sequence[str]]


def read_text_table(file: str, text: str) -> FileRows:
    """A CSV or tab-separated file, the laboratory's own or a LIVD sheet. Raises FileFaults when it is neither."""
    lines = list(text_lines(file, text))
    return _table(file, lines)


def read_workbook(file: str, data: bytes) -> FileRows:
    """The first sheet of a spreadsheet that has the headings of a map. Raises FileFaults."""
    try:
        for sheet in read_sheets(data):
            if _headings(sheet.rows) is not None:
                return _table(file, sheet.rows)
    except SheetError as error:
        raise FileFaults([Fault(file, 0, "", str(error))]) from error
    raise FileFaults([Fault(file, 0, "", "no sheet has the headings of a map or of LIVD")])


def text_lines(file: str, text: str) -> Iterator[Line]:
    first = text.partition("\n")[0]
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(StringIO(text), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileFaults(
            [Fault(file, line, "", f"is not {'CSV' if delimiter != chr(9) else 'tab-separated'}: {error}")]
        ) from error


def _folded(heading: str) -> str:
    return " ".join("".join(c for c in heading if c not in "®©*").casefold().replace("_", " ").split())


def _headings(lines: Iterable[Line]) -> tuple[int, dict[int, str], dict[str, str], bool] | None:
    """Where the headings are: their line, column → meaning, meaning → heading, whether LIVD."""
    for at, (line, cells) in enumerate(lines):
        if at == _HEADING_ROWS:
            return None
        plain = [cell.strip() for cell in cells]
        folded = [_folded(cell) for cell in cells]
        if "vendor analyte code" in folded and any(LIVD.get(one) == "loinc" for one in folded):
            meanings = {place: LIVD[one] for place, one in enumerate(folded) if one in LIVD}
            return (
                line,
                meanings,
                {LIVD[one]: cells[place].strip() for place, one in enumerate(folded) if one in LIVD},
                True,
            )
        if "code" in plain and ("test" in plain or "loinc" in plain):
            meanings = {place: OWN.get(one, one) for place, one in enumerate(plain) if one}
            return line, meanings, {meaning: column for column, meaning in OWN.items()}, False
    return None


def _table(file: str, lines: Sequence[Line]) -> FileRows:
    found = _headings(lines)
    if found is None:
        text = "has no headings of a map (code and test, or LIVD's Vendor Analyte Code and LOINC Code)"
        raise FileFaults([Fault(file, lines[0][0] if lines else 0, "", text)])
    at, meanings, names, livd = found
    known = {*OWN.values(), *TOLD}
    faults = [
        Fault(file, at, meaning, "is no column of a map")
        for meaning in meanings.values()
        if not livd and meaning not in known
    ]
    said_twice = sorted({one for one in meanings.values() if list(meanings.values()).count(one) > 1})
    faults += [Fault(file, at, names.get(one, one), "stands in two columns: which one counts?") for one in said_twice]
    if faults:
        raise FileFaults(faults)
    rows: list[FileRow] = []
    for line, cells in lines:
        if line <= at or not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[max(meanings) + 1 :]) and not livd:
            faults.append(Fault(file, line, "", "has more fields than there are headings"))
            continue
        said = {meanings[place]: plain(cell.strip()) for place, cell in enumerate(cells) if place in meanings}
        row, bad = _row(file, line, said, names, livd)
        faults += bad
        if row is not None:
            rows.append(row)
    return FileRows(tuple(rows), tuple(faults))


def _row(
    file: str, line: int, said: Mapping[str, str], names: Mapping[str, str], livd: bool
) -> tuple[FileRow | None, list[Fault]]:
    texts = {key: value for key, value in said.items() if key in _FIELDS}
    instants: dict[str, datetime] = {}
    faults = []
    for key in ("start", "end"):
        if text := said.get(key, ""):
            instant = read_instant(text)
            if instant is None:
                faults.append(
                    Fault(file, line, names[key], f"{text!r} is no date (2026-01-31, 2026-01-31T08:00+02:00)")
                )
            else:
                instants[key] = instant
    if faults:
        return None, faults
    return FileRow(file, line, vendor=livd, names=names, **{"code": ""} | texts, **instants), []  # type: ignore[arg-type]


_FIELDS = frozenset(
    ("driver", "link", "code", "specimen", "test", "loinc", "unit", "method", "note", "name", "model", "result")
)


def read_instant(text: str) -> datetime | None:
    """A date or an instant of ISO 8601, without an offset UTC; None when it is neither."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


# ---- the other way ---------------------------------------------------------------------------------------------------


def write_csv(rows: Iterable[Mapping[str, str]]) -> bytes:
    """The laboratory's own form: its columns, and what is told beside them."""
    names = (*OWN, *TOLD)
    return write(names, ([row.get(name, "") for name in names] for row in rows)).encode()


def write_livd_sheet(rows: Iterable[Mapping[str, str]]) -> bytes:
    """The LIVD sheet as .xlsx; `rows` by heading."""
    cells = ([row.get(column, "") for column in LIVD_COLUMNS] for row in rows)
    return write_sheet(LIVD_SHEET, [LIVD_COLUMNS, *cells])

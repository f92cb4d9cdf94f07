"""Files of lots with their targets: CSV or tab-separated text, and JSON with the same names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime

from interface.domain.map_files import Fault, FileFaults
from interface.domain.qc_lot_files import BETWEEN, COLUMNS, MOST_ROWS, REQUIRED, WRITTEN, LotRow, LotRows, read_row
from interface.render.csv_text import plain, write
from interface.render.map_table import text_lines


def read_lots(file: str, text: str) -> LotRows:
    """A file's rows, with what is wrong with single ones. Raises FileFaults when it is no such file."""
    return _read_json(file, text) if text.lstrip()[:1] == "[" else _read_csv(file, text)


def _read_csv(file: str, text: str) -> LotRows:
    lines = [(line, cells) for line, cells in text_lines(file, text) if any(cell.strip() for cell in cells)]
    if not lines:
        raise FileFaults([Fault(file, 0, "", "is empty")])
    (at, first), rest = lines[0], lines[1:]
    names = [cell.strip() for cell in first]
    known = f"is no column; they are {', '.join(COLUMNS)}"
    faults = [Fault(file, at, name, known) for name in names if name not in COLUMNS]
    faults += [Fault(file, at, name, "stands twice") for name in sorted(set(names)) if names.count(name) > 1]
    faults += [Fault(file, at, name, "is missing") for name in REQUIRED if name not in names]
    if faults:
        raise FileFaults(faults)
    said: list[tuple[int, Mapping[str, str]]] = []
    for line, cells in rest:
        if any(cell.strip() for cell in cells[len(names) :]):
            faults.append(Fault(file, line, "", "has more fields than there are columns"))
        else:
            said.append((line, dict(zip(names, map(plain, cells), strict=False))))
    return _rows(file, said, faults)


def _read_json(file: str, text: str) -> LotRows:
    try:
        found = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise FileFaults([Fault(file, 0, "", "is not JSON")]) from error
    said: list[tuple[int, Mapping[str, str]]] = []
    faults = []
    for number, entry in enumerate(found, 1):  # the place in the list stands for the line
        if not isinstance(entry, dict):
            faults.append(Fault(file, number, "", "is not an object"))
            continue
        unknown = [Fault(file, number, name, "is no column") for name in entry if name not in COLUMNS]
        wrong = [Fault(file, number, name, "is no text") for name, value in entry.items() if _text(value) is None]
        faults += [*unknown, *wrong]
        if not unknown and not wrong:
            said.append((number, {name: _text(value) or "" for name, value in entry.items()}))
    return _rows(file, said, faults)


def _text(value: object) -> str | None:
    """What a JSON value says in a CSV file; None where it is neither text nor a list of texts."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(entry, str) and BETWEEN not in entry for entry in value):
        return BETWEEN.join(value)
    return value if isinstance(value, str) else None


def _rows(file: str, said: Iterable[tuple[int, Mapping[str, str]]], faults: list[Fault]) -> LotRows:
    rows: list[LotRow] = []
    for line, row in said:
        if len(rows) == MOST_ROWS:
            faults.append(Fault(file, line, "", f"a file has at most {MOST_ROWS} rows"))
            break
        read, bad = read_row(file, line, row)
        faults += bad
        if read is not None:
            rows.append(read)
    if not rows and not faults:
        faults.append(Fault(file, 0, "", "has no row"))
    return LotRows(tuple(rows), tuple(sorted(faults, key=lambda fault: fault.line)))


def write_csv(rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as `domain.qc_lot_files.written` makes them."""
    return write(WRITTEN, ([_said(row.get(name)) for name in WRITTEN] for row in rows))


def _said(value: object) -> object:
    if isinstance(value, tuple):
        return BETWEEN.join(value)
    return value.isoformat() if isinstance(value, datetime | date) else value

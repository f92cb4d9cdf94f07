"""Files of what peers measure, and of our own for a peer programme: CSV or tab-separated text."""

from __future__ import annotations

from collections.abc import Iterable

from interface.domain.map_files import Fault, FileFaults
from interface.domain.qc_peers import COLUMNS, MOST_ROWS, REQUIRED, OwnPeriod, PeerRow, PeerRows, read_row, written
from interface.render.csv_text import write
from interface.render.map_table import text_lines

WRITTEN = (
    "laboratory", "analyzer", "driver", "module", "test", "loinc", "unit", "material", "manufacturer",
    "catalogue_number", "lot", "level", "expires_on", "period", "complete", "n", "mean", "sd", "cv", "minimum",
    "maximum", "n_to_date", "mean_to_date", "sd_to_date", "cv_to_date",
)  # fmt: skip


def read_peers(file: str, text: str) -> PeerRows:
    """A file's rows, with what is wrong with single ones. Raises FileFaults when it is no such file."""
    lines = [(line, cells) for line, cells in text_lines(file, text) if any(cell.strip() for cell in cells)]
    if len(lines) < 2:
        raise FileFaults([Fault(file, 0, "", f"has no row; its first line is {','.join(COLUMNS)}")])
    (at, first), rest = lines[0], lines[1 : MOST_ROWS + 1]
    names = [cell.strip() for cell in first]
    faults = [Fault(file, at, name, f"is no column; they are {', '.join(COLUMNS)}") for name in names
              if name not in COLUMNS]  # fmt: skip
    faults += [Fault(file, at, name, "stands twice") for name in sorted(set(names)) if names.count(name) > 1]
    faults += [Fault(file, at, name, "is missing") for name in REQUIRED if name not in names]
    if faults:
        raise FileFaults(faults)
    rows: list[PeerRow] = []
    for line, cells in rest:
        if any(cell.strip() for cell in cells[len(names) :]):
            faults.append(Fault(file, line, "", "has more fields than there are columns"))
            continue
        read, bad = read_row(file, line, dict(zip(names, cells, strict=False)))
        faults += bad
        if read is not None:
            rows.append(read)
    if len(lines) > MOST_ROWS + 1:
        faults.append(Fault(file, lines[MOST_ROWS + 1][0], "", f"a file has at most {MOST_ROWS} rows"))
    return PeerRows(tuple(rows), tuple(faults))


def write_periods(laboratory: str, periods: Iterable[OwnPeriod]) -> str:
    """A row for each stream and level of a lot. No spreadsheet takes a cell of it for a formula."""
    rows = [{"laboratory": laboratory, **written(period)} for period in periods]
    return write(WRITTEN, ([row[name] for name in WRITTEN] for row in rows))

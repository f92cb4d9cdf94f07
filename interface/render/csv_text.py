"""Tables as CSV that a spreadsheet takes for what they say: RFC 4180, and no cell is a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from decimal import Decimal
from io import StringIO

# What makes spreadsheets take a cell for a formula (OWASP, CSV Injection).
_FORMULA = ("=", "+", "-", "@", "\t")


def cell(value: object) -> str:
    """A text such as `=1+1`, which spreadsheets run, gets an apostrophe; a number may begin with a minus."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return format(value, "f")
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    return "'" + text if isinstance(value, str) and text.lstrip(" \n").startswith(_FORMULA) else text


def write(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under their names."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(list(map(cell, row)))
    return out.getvalue()

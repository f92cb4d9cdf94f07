"""Tables as CSV that a spreadsheet takes for what they say: RFC 4180, and no cell is a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from decimal import Decimal
from io import StringIO
from typing import Final

# What makes spreadsheets take a cell for a formula (OWASP, CSV Injection), also as wide as Japanese letters are; and
# what may stand before it without being seen.
_FORMULA: Final = ("=", "+", "-", "@", "\t", *"\uff1d\uff0b\uff0d\uff20")
_UNSEEN: Final = "".join(map(chr, {*range(0x21), 0x7F, 0xA0, 0x2007, 0x200B, 0x202F, 0xFEFF} - {0x09}))
_MARK: Final = "'"


def cell(value: object) -> str:
    """A text such as `=1+1`, which spreadsheets run, gets an apostrophe; a number may begin with a minus."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return format(value, "f")
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    return _MARK + text if isinstance(value, str) and _runs(text) else text


def plain(text: str) -> str:
    """What a cell said that `cell` wrote."""
    return text[1:] if text.startswith(_MARK) and _runs(text) else text


def _runs(text: str) -> bool:
    """Whether it would be a formula, with or without our mark; a sign alone is none."""
    said = text.lstrip(_MARK).lstrip(_UNSEEN)
    return len(said) > 1 and said.startswith(_FORMULA)


def write(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under their names."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(list(map(cell, row)))
    return out.getvalue()

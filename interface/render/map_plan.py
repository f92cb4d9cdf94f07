"""A file of a plan in TOML: `driver` or `link`, and `codes` as the shipped maps under `mappings/codes` have them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from interface.domain.map_files import Fault, FileFaults, FileRow, FileRows
from interface.render.map_table import read_instant

_HEAD = frozenset({"driver", "link", "source", "revision", "codes"})
_ROW = {
    "code": "code", "test": "test", "loinc": "loinc", "specimen_type": "specimen", "unit": "unit", "method": "method",
    "note": "note", "evidence": "note", "valid_from": "start", "valid_to": "end",
}  # fmt: skip
_CODE = re.compile(r"""^[^#\n]*?[{\s,]code\s*=|^code\s*=""", re.MULTILINE)
_PLACE = re.compile(r"\(at line (\d+), column \d+\)")


def read_plan(file: str, text: str) -> FileRows:
    """The rows of a plan's TOML file. Raises FileFaults when it is none."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = int(place[1]) if place else len(text.splitlines())  # "at end of document"
        raise FileFaults([Fault(file, line, "", f"is not TOML: {_PLACE.sub('', str(error)).strip()}")]) from error
    except RecursionError as error:
        raise FileFaults([Fault(file, 0, "", "is nested too deeply to be a map")]) from error
    faults = [Fault(file, 0, key, "is no key of a map") for key in data if key not in _HEAD]
    codes = data.get("codes", [])
    if not isinstance(codes, list) or not all(isinstance(row, dict) for row in codes):
        raise FileFaults([*faults, Fault(file, 0, "codes", "is not a list of tables")])
    lines = _lines(text, len(codes))
    rows = []
    for number, (line, said) in enumerate(zip(lines, codes, strict=True)):
        row, bad = _row(file, line, f"codes[{number}]", said, data)
        faults += bad
        if row is not None:
            rows.append(row)
    if faults:
        raise FileFaults(faults)
    scope = str(data.get("driver", "")), str(data.get("link", ""))
    return FileRows(tuple(rows), scopes=(scope,) if any(scope) else ())


def _lines(text: str, rows: int) -> list[int]:
    """In which line the code of each row stands; 0 for all where they cannot be told for certain."""
    found = [text.count("\n", 0, match.end()) + 1 for match in _CODE.finditer(text)]
    return found if len(found) == rows else [0] * rows


def _row(
    file: str, line: int, path: str, said: Mapping[str, Any], head: Mapping[str, Any]
) -> tuple[FileRow | None, list[Fault]]:
    faults = [Fault(file, line, f"{path}.{key}", "is no key of a row") for key in said if key not in _ROW]
    fields: dict[str, Any] = {}
    for key, value in said.items():
        meaning = _ROW.get(key, "")
        if meaning in ("start", "end"):
            instant = _instant(value)
            if instant is None:
                faults.append(Fault(file, line, f"{path}.{key}", "is no date"))
            fields[meaning] = instant
        elif not isinstance(value, str):
            faults.append(Fault(file, line, f"{path}.{key}", "is not text; write it in quotes"))
        elif meaning:
            fields[meaning] = value
    if faults:
        return None, faults
    names = {meaning: f"{path}.{key}" for key, meaning in _ROW.items() if key != "evidence"}
    where = {key: str(head.get(key, "")) for key in ("driver", "link")}
    return FileRow(file, line, **{"code": "", **where, **fields}, names=names), []


def _instant(value: object) -> datetime | None:
    if isinstance(value, str):
        return read_instant(value)
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return datetime.combine(value, time(), UTC) if isinstance(value, date) else None

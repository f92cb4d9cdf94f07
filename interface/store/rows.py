"""Many rows as one argument of a statement: as JSON for `jsonb_to_recordset`, or as an array of a composite type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import orjson

_SPECIAL = str.maketrans({'"': '\\"', "\\": "\\\\", "\0": "\N{REPLACEMENT CHARACTER}"})


def rows_json(rows: Sequence[object]) -> str:
    """Rows as a JSON array: decimals as their exact text, bytes as PostgreSQL's hex."""
    text = orjson.dumps(list(rows), default=_plain)
    if b"\\u0000" in text:  # jsonb holds no NUL; the bytes themselves are in the frame
        text = orjson.dumps(without_nul(orjson.loads(text)))
    return text.decode()


def _plain(value: object) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def without_nul(value: Any) -> Any:
    """A JSON value whose texts PostgreSQL can hold."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {key: without_nul(inner) for key, inner in value.items()}
    return [without_nul(inner) for inner in value] if isinstance(value, list) else value


class Columns:
    """Objects of one type as one argument: an array of the composite type `name`, whose attributes are these of theirs.

    The driver encodes it without asking of each value what it is, and the server reads it without parsing. What takes
    longer as itself (numbers, instants, arrays) travels as text, which the statement reads.
    """

    def __init__(self, name: str, types: dict[str, str]) -> None:
        self.name, self._types = name, types
        self._row = attrgetter(*types)
        self._written = [(at, _WRITERS[kind]) for at, kind in enumerate(types.values()) if kind in _WRITERS]
        self._texts = [at for at, kind in enumerate(types.values()) if kind == "text"]

    @property
    def ddl(self) -> str:
        """The composite type's attributes, as a migration must make them."""
        return ", ".join(f"{name} {'text' if kind in _WRITERS else kind}" for name, kind in self._types.items())

    def source(self, argument: int) -> str:
        """The rows as a query, whose argument is `$argument`."""
        fields = ", ".join(f"{name}::{kind}" if kind in _WRITERS else name for name, kind in self._types.items())
        return f"SELECT {fields} FROM unnest(${argument}::{self.name}[])"  # noqa: S608 - names of ours

    def rows(self, objects: Iterable[object]) -> list[tuple[Any, ...]]:
        """The argument."""
        columns: list[Sequence[Any]] = list(zip(*map(self._row, objects), strict=True))
        for at, write in self._written:
            columns[at] = [None if value is None else write(value) for value in columns[at]]
        for at in self._texts:
            if "\0" in "".join(filter(None, columns[at])):
                columns[at] = [text and without_nul(str(text)) for text in columns[at]]
        return list(zip(*columns, strict=True))


def array_text(texts: Iterable[str]) -> str:
    """Texts as PostgreSQL writes an array of them."""
    return "{" + ",".join([f'"{text.translate(_SPECIAL)}"' for text in texts]) + "}" if texts else "{}"


_WRITERS: dict[str, Callable[[Any], str]] = {"text[]": array_text, "numeric": str, "timestamptz": datetime.isoformat}

"""Many rows as one statement's arguments: as JSON for `jsonb_to_recordset`, or as arrays for `unnest`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    """Objects of one type as arrays, one for each of these attributes of theirs, by their PostgreSQL types.

    A `text[]` travels as text, which the statement reads: there are no arrays of arrays of different lengths.
    """

    def __init__(self, types: dict[str, str]) -> None:
        self._types = types
        self._row = attrgetter(*types)

    def source(self, first: int) -> str:
        """The rows as a query, whose arguments are `$first` and following."""
        fields = ", ".join(f"{name}::text[]" if kind == "text[]" else name for name, kind in self._types.items())
        sent = ["text" if kind == "text[]" else kind for kind in self._types.values()]
        arrays = ", ".join(f"${first + at}::{kind}[]" for at, kind in enumerate(sent))
        return f"SELECT {fields} FROM unnest({arrays}) AS t({', '.join(self._types)})"  # noqa: S608 - names of ours

    def arrays(self, objects: Iterable[object]) -> list[list[Any]]:
        """The arguments."""
        columns = zip(*map(self._row, objects), strict=True)
        return [_sent(list(column), kind) for column, kind in zip(columns, self._types.values(), strict=True)]


def _sent(column: list[Any], kind: str) -> list[Any]:
    if kind == "text[]":
        return [array_text(texts) if texts else "{}" for texts in column]
    if kind == "text" and "\0" in "".join(filter(None, column)):
        return [text and without_nul(str(text)) for text in column]
    return column


def array_text(texts: Iterable[str]) -> str:
    """Texts as PostgreSQL writes an array of them."""
    return "{" + ",".join(f'"{text.translate(_SPECIAL)}"' for text in texts) + "}"

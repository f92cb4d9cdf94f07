"""Versions of results on their way to PostgreSQL: what many of them say together travels once.

A version has fifty columns, of which a dozen are its own: all results of a message share what is said of the message,
and those of one test in a batch, but for the value, nearly everything else. So a statement gets three arrays: what is
each version's own, with the numbers of the other two; what is said of many alike; what is said of their messages. It
joins them (`store.results`). That a combination is found again is worth it and not needed: two rows may say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from interface.domain.model import ResultStatus
from interface.store.explanations import Part, in_parts
from interface.store.rows import Columns, Rows, pieces

# Each array is one of a composite type (migration 0048); one more column also needs a migration that gives the type the
# attribute, at the same place. What tells two combinations apart most often stands first. The numbers of rows are of a
# type that has no order, so that rows are joined by hashes, not sorted.
OWN: Final = Columns(
    "lab.own_row",
    {
        "alike": "xid", "message": "xid", "id": "uuid", "result_id": "uuid", "order_item_id": "uuid",
        "natural_key": "bytea", "location": "text", "raw_value": "text", "value": "text", "number": "numeric",
        "explanation": "text",
    },
)  # fmt: skip
ALIKE: Final = Columns(
    "lab.alike_row",
    {
        "place": "xid", "flags": "text[]", "status": "text", "held": "text[]", "comments": "text[]", "version": "int",
        "fresh": "boolean", "pending": "boolean", "kind": "text", "actor_kind": "text", "actor_id": "uuid",
        "analyzer_id": "uuid", "test_id": "uuid", "code": "text", "code_path": "text", "raw_unit": "text",
        "raw_flags": "text", "raw_status": "text", "raw_reference": "text", "test_code": "text", "test_name": "text",
        "loinc": "text", "comparator": "text", "unit": "text", "low": "numeric", "high": "numeric",
        "reference": "text", "note": "text", "module": "text", "reagent_lot": "text", "calibrator_lot": "text",
        "driver_revision": "text", "map_revision": "int", "reportable": "boolean", "origin": "text",
        "item_status": "text", "method": "text",
    },
)  # fmt: skip
MESSAGE: Final = Columns(
    "lab.message_row",
    {
        "place": "xid", "message_id": "uuid", "specimen_id": "uuid", "patient_id": "uuid", "order_id": "uuid",
        "specimen_as_sent": "text", "instrument_time": "text", "instrument_at": "timestamptz",
        "effective_at": "timestamptz",
    },
)  # fmt: skip
EXPLANATION: Final = Columns("lab.explanation_row", {"id": "uuid", "steps": "text"})
ROWS: Final = (OWN, ALIKE, MESSAGE, EXPLANATION)

_NEAR: Final = 8  # combinations of a code that are looked through; in a batch few differ, by their flags
_PLACES: Final = pieces("xid")
_TEXTS: Final = pieces("text")
_BYTEA: Final = (17).to_bytes(4)  # before the length and the bytes
_TEXT: Final = (25).to_bytes(4)
_ID: Final = (2950).to_bytes(4) + (16).to_bytes(4)  # before the bytes of an id; see `rows`
_NO_ID: Final = pieces("uuid").none
_FINAL: Final = ResultStatus.FINAL


def _of(names: Iterable[str], fields: Sequence[str]) -> Callable[[Any], Any]:
    return itemgetter(*[fields.index(name) for name in names])


class Layout:
    """Where in a version's tuple is what goes into which row. `fields`: the tuple's, by place."""

    def __init__(self, fields: Sequence[str]) -> None:
        self.own = _of(("code", "test_code", "status", "order_id", *OWN.names[2:-1]), fields)
        self.alike, self.message = _of(ALIKE.names[1:], fields), _of(MESSAGE.names[1:], fields)
        self.steps = fields.index("steps")
        self.low, self.high = ALIKE.names.index("low") - 1, ALIKE.names.index("high") - 1


class VersionRows:
    """The arguments of a statement, to which versions are added a part at a time. `released`: orders whose results are
    final."""

    def __init__(self, organization_id: UUID, layout: Layout) -> None:
        self.released: set[UUID] = set()
        self._organization_id, self._layout = organization_id, layout
        self._own: list[bytes] = []  # of each row its length, and the row
        self._alike: list[bytes] = []
        self._messages: list[bytes] = []
        self._near: dict[str, list[tuple[tuple[Any, ...], bytes]]] = {}  # by code
        self._parts: dict[UUID, Part] = {}
        self._message: tuple[Any, ...] = ()  # the last one, and how its rows say so
        self._of_message = b""

    def add(self, versions: Sequence[tuple[Any, ...]]) -> None:
        """Some more, in their order."""
        layout = self._layout
        of_own, of_alike, of_message, steps = layout.own, layout.alike, layout.message, layout.steps
        texts, parts = in_parts(self._organization_id, [one[steps] for one in versions])
        for part in parts:
            self._parts[part.id] = part
        released: object = None
        for one, text in zip(versions, texts, strict=True):
            code, test_code, status, order_id, made, result, item, key, location, raw, value, number = of_own(one)
            message = of_message(one)
            if message != self._message:
                self._begin(message)
            made_id = made.bytes
            fields = (
                self._beginning(code or test_code, of_alike(one)),
                self._of_message,
                _ID,
                made_id,
                _ID,
                made_id if result is made else result.bytes,
                _NO_ID if item is None else _ID + item.bytes,
                _BYTEA,
                len(key).to_bytes(4, "big"),
                key,
                _TEXTS[location],
                _TEXTS[raw],
                _TEXTS[value],
                _TEXTS.none if number is None else _TEXTS[str(number)],
                _TEXT,
                len(text).to_bytes(4, "big"),
                text,
            )
            row = b"".join(fields)
            self._own.append(len(row).to_bytes(4, "big"))
            self._own.append(row)
            if status is _FINAL and order_id is not released and order_id is not None:
                released = order_id
                self.released.add(order_id)

    def arguments(self) -> list[Rows]:
        """Of `OWN`, `ALIKE`, `MESSAGE`, `EXPLANATION`."""
        shared = sorted(self._parts.values(), key=_id)  # so that no two transactions wait for each other
        explanations = [EXPLANATION.row((part.id, part.steps)) for part in shared]
        others = [(len(rows), rows) for rows in (self._alike, self._messages, explanations)]
        return [(len(self._own) // 2, self._own), *others]

    def _begin(self, message: tuple[Any, ...]) -> None:
        place = len(self._messages)
        self._messages.append(MESSAGE.row((place, *message)))
        self._message, self._of_message = message, _PLACES[place]

    def _beginning(self, code: str, alike: tuple[Any, ...]) -> bytes:
        """How the rows begin of which this is said."""
        near = self._near.setdefault(code, [])
        low, high = self._layout.low, self._layout.high
        for said, beginning in near:
            if said == alike and _same(said[low], alike[low]) and _same(said[high], alike[high]):
                return beginning
        place = len(self._alike)
        self._alike.append(ALIKE.row((place, *alike)))
        beginning = OWN.head + _PLACES[place]
        if len(near) >= _NEAR:
            near.pop()
        near.insert(0, (alike, beginning))
        return beginning


def _same(one: object, other: object) -> bool:
    """Of numbers that are equal one may say more than the other: 4.10 and 4.1."""
    return one is other or str(one) == str(other)


def _id(part: Part) -> UUID:
    return part.id

"""Versions of results on their way to PostgreSQL: what many of them say together travels once.

A version has fifty columns, of which a dozen are its own: all results of a message share what is said of the message,
and those of one test in a batch, but for the value, nearly everything else. So a statement gets three arrays: what is
each version's own, with the numbers of the other two; what is said of many alike; what is said of their messages. It
joins them (`store.results`). That a combination is found again is worth it and not needed: two rows may say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Final
from uuid import UUID

from interface.domain.model import HoldReason, Origin, ResultStatus, Step, ValueKind
from interface.domain.record import record
from interface.domain.views import ActorKind
from interface.store.explanations import Part, in_parts
from interface.store.rows import Columns, Rows, pieces

# Each array is one of a composite type (migration 0048); one more column also needs a migration that gives the type the
# attribute, at the same place. The numbers of rows are of a type that has no order, so that rows are joined by hashes,
# not sorted.
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

_PLACES: Final = pieces("xid")
_TEXTS: Final = pieces("text")
_BYTEA: Final = (17).to_bytes(4)  # before the length and the bytes
_TEXT: Final = (25).to_bytes(4)
_ID: Final = (2950).to_bytes(4) + (16).to_bytes(4)  # before the bytes of an id; see `rows`
_NO_ID: Final = pieces("uuid").none
_FINAL: Final = ResultStatus.FINAL
_ATTRIBUTES: Final = attrgetter(*ALIKE.names[1:])
_LENGTHS: Final = [length.to_bytes(4, "big") for length in range(1024)]  # of most of what is written


@dataclass(slots=True, eq=False)
class Alike:
    """What is said of many versions: the attributes of `ALIKE`. Two that say the same are told from each other, as who
    makes versions gives those that are alike the same one.

    `fresh`: also the result itself is new; `pending`: beside a released version.
    """

    flags: tuple[str, ...]
    status: ResultStatus
    held: tuple[HoldReason, ...]
    comments: tuple[str, ...]
    version: int
    fresh: bool
    pending: bool
    kind: ValueKind
    actor_kind: ActorKind
    actor_id: UUID | None
    analyzer_id: UUID | None
    test_id: UUID | None
    code: str
    code_path: str
    raw_unit: str
    raw_flags: str
    raw_status: str
    raw_reference: str
    test_code: str
    test_name: str
    loinc: str
    comparator: str
    unit: str
    low: Decimal | None
    high: Decimal | None
    reference: str
    note: str
    module: str  # that the analyzer measured it with
    reagent_lot: str
    calibrator_lot: str
    driver_revision: str
    map_revision: int
    reportable: bool
    origin: Origin
    item_status: str  # of the order item from now on; "": as it is
    method: str  # by which it was measured; "": not known
    fields: bytes = b""  # as they stand in a row, once one was written


@record
class OfMessage:
    """What is said of all versions of a message, or of what a person says at once: the attributes of `MESSAGE`."""

    message_id: UUID | None
    specimen_id: UUID | None
    patient_id: UUID | None
    order_id: UUID | None
    specimen_as_sent: str
    instrument_time: str
    instrument_at: datetime | None
    effective_at: datetime | None  # None: now


@record
class ResultVersion:
    """One version of a result to be written: what is its own, and what it shares with others."""

    id: UUID
    result_id: UUID
    order_item_id: UUID | None
    natural_key: bytes
    location: str
    raw_value: str
    value: str
    number: Decimal | None
    steps: tuple[Step, ...]
    alike: Alike
    message: OfMessage


class VersionRows:
    """The arguments of a statement, to which versions are added a part at a time. `released`: orders whose results are
    final."""

    def __init__(self, organization_id: UUID) -> None:
        self.released: set[UUID] = set()
        self._organization_id = organization_id
        self._own: list[bytes] = []  # of each row its length, and the row
        self._alike: list[bytes] = []
        self._messages: list[bytes] = []
        self._beginnings: dict[Alike, bytes] = {}  # how the rows begin of which this is said
        self._parts: dict[UUID, Part] = {}
        self._message: OfMessage | None = None  # the last one, and how its rows say so
        self._of_message = b""

    def add(self, versions: Sequence[ResultVersion]) -> None:
        """Some more, in their order."""
        texts, parts = in_parts(self._organization_id, [one.steps for one in versions])
        for part in parts:
            self._parts[part.id] = part
        released: object = None
        for place, one in enumerate(versions):
            text, alike, message = texts[place], one.alike, one.message
            beginning = self._beginnings.get(alike)
            if beginning is None:
                beginning = self._begin(alike)
            if message is not self._message:
                self._begin_message(message)
            made, result, item, key, number = one.id, one.result_id, one.order_item_id, one.natural_key, one.number
            made_id: bytes = made.bytes
            fields = (
                beginning,
                self._of_message,
                _ID,
                made_id,
                _ID,
                made_id if result is made else result.bytes,
                _NO_ID if item is None else _ID + item.bytes,
                _BYTEA,
                _length(key),
                key,
                _TEXTS[one.location],
                _TEXTS[one.raw_value],
                _TEXTS[one.value],
                _TEXTS.none if number is None else _TEXTS[str(number)],
                _TEXT,
                _length(text),
                text,
            )
            row = b"".join(fields)
            self._own.append(_length(row))
            self._own.append(row)
            order_id = message.order_id
            if alike.status is _FINAL and order_id is not released and order_id is not None:
                released = order_id
                self.released.add(order_id)

    def arguments(self) -> list[Rows]:
        """Of `OWN`, `ALIKE`, `MESSAGE`, `EXPLANATION`."""
        shared = sorted(self._parts.values(), key=_id)  # so that no two transactions wait for each other
        explanations = [EXPLANATION.row((part.id, part.steps)) for part in shared]
        others = [(len(rows), rows) for rows in (self._alike, self._messages, explanations)]
        return [(len(self._own) // 2, self._own), *others]

    def _begin(self, alike: Alike) -> bytes:
        place = len(self._alike)
        if not alike.fields:
            alike.fields = ALIKE.fields(_ATTRIBUTES(alike), 1)
        row = ALIKE.head + _PLACES[place] + alike.fields
        self._alike.append(_length(row) + row)
        beginning = self._beginnings[alike] = OWN.head + _PLACES[place]
        return beginning

    def _begin_message(self, one: OfMessage) -> None:
        place = len(self._messages)
        values = (
            place, one.message_id, one.specimen_id, one.patient_id, one.order_id, one.specimen_as_sent,
            one.instrument_time, one.instrument_at, one.effective_at,
        )  # fmt: skip
        self._messages.append(MESSAGE.row(values))
        self._message, self._of_message = one, _PLACES[place]


def _length(data: bytes) -> bytes:
    """What stands before it."""
    length = len(data)
    return _LENGTHS[length] if length < 1024 else length.to_bytes(4, "big")


def _id(part: Part) -> UUID:
    return part.id

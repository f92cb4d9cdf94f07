"""Many rows as one argument of a statement: as JSON for `jsonb_to_recordset`, or as an array of a composite type.

And the arrays of PostgreSQL's own types, which the driver would ask each new connection for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from interface.domain.times import OUT_OF_RANGE
from interface.store.schema import SCHEMA

if TYPE_CHECKING:
    from interface.store.db import Connection


def rows_json(rows: Sequence[object]) -> str:
    """Rows as a JSON array: decimals as their exact text, bytes as PostgreSQL's hex."""
    return json_bytes(list(rows)).decode()


def json_bytes(value: object) -> bytes:
    """A value as JSON that PostgreSQL's functions take: they refuse a NUL; the bytes themselves are in the frame."""
    text = orjson.dumps(value, default=_plain)
    # A text may also say these six characters itself, so that the value is cleaned, not what is written of it.
    return orjson.dumps(without_nul(orjson.loads(text))) if b"\\u0000" in text else text


def _plain(value: object) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def without_nul(value: Any) -> Any:
    """A JSON value whose texts PostgreSQL can hold."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {without_nul(key): without_nul(inner) for key, inner in value.items()}
    return [without_nul(inner) for inner in value] if isinstance(value, list) else value


# ---- composite rows --------------------------------------------------------------------------------------------------
# As PostgreSQL receives them in its binary format (its `record_recv`, `array_recv` and the types' own): a row is the
# number of its fields, and of each the type's oid, the length and the bytes; an array its dimensions, the element's oid
# and the elements. The oids of its own types are the same in every server (pg_type.dat). The driver's codec asks of
# each value what it is: 58 of each result, 25 results a message, most of them said before.

_LENGTH = Struct("!i")
_ARRAY = Struct("!iiIii")
_PG_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# PostgreSQL knows instants that Python cannot make.
_FIRST = (datetime.min.replace(tzinfo=UTC) - _PG_EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _PG_EPOCH) // _MICROSECOND
_TEXT_OID = 25
_KEPT_BYTES, _KEPT_PIECES = 80, 4_000  # of each kind; 200 bytes each

Rows: TypeAlias = tuple[int, list[bytes]]  # how many, and they in pieces, each with its length before it


def with_length(data: bytes) -> bytes:
    """The bytes as an element of what is made of several."""
    return _LENGTH.pack(len(data)) + data


def _text(value: str) -> bytes:
    """PostgreSQL's text holds no NUL."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode()


def _array(oid: int, count: int, elements: bytes) -> bytes:
    """`elements`: each with its length before it."""
    return _ARRAY.pack(1, 0, oid, count, 1) + elements if count else _ARRAY.pack(0, 0, oid, 0, 0)[:12]


def _texts(values: Sequence[str]) -> bytes:
    return _array(_TEXT_OID, len(values), b"".join([with_length(_text(each)) for each in values]))


def microseconds(value: datetime) -> int:
    """An instant as PostgreSQL counts it. Raises ValueError for one without a zone, or that could not be read again."""
    if value.tzinfo is None:
        raise ValueError("an instant must carry its time zone")
    count = (value - _PG_EPOCH) // _MICROSECOND
    if not _FIRST <= count <= _LAST:
        raise ValueError(f"an instant {OUT_OF_RANGE}")
    return count


def _instant(value: datetime) -> bytes:
    return microseconds(value).to_bytes(8, signed=True)


# By kind of column: the type's oid, and its bytes. A number travels as its text, which the statement reads: exact.
_KINDS: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "boolean": (16, lambda value: b"\1" if value else b"\0"),
    "bytea": (17, bytes),
    "int": (23, _LENGTH.pack),
    "xid": (28, _LENGTH.pack),
    "text": (_TEXT_OID, _text),
    "numeric": (_TEXT_OID, _text),
    "text[]": (1009, _texts),
    "timestamptz": (1184, _instant),
    "uuid": (2950, lambda value: value.bytes),
}


class Pieces:
    """Values of one kind as fields of a row, kept for those that come again. Bounded in number and size."""

    def __init__(self, kind: str) -> None:
        oid, self._write = _KINDS[kind]
        self._oid = oid.to_bytes(4)
        self._kept: dict[Any, bytes] = {}
        self.none = self._oid + b"\xff\xff\xff\xff"

    def __getitem__(self, value: Any) -> bytes:
        """The field of a value."""
        piece = self._kept.get(value)
        return self._made(value) if piece is None else piece

    def _made(self, value: Any) -> bytes:
        piece = self.none if value is None else self._oid + with_length(self._write(value))
        if len(piece) <= _KEPT_BYTES:
            if len(self._kept) >= _KEPT_PIECES:
                self._kept.clear()
            self._kept[value] = piece
        return piece


# By kind of column, for all types: a specimen's id stands in the rows of each.
_kept: dict[str, Pieces] = {}


def pieces(kind: str) -> Pieces:
    """The fields of this kind that are kept."""
    found = _kept.get(kind)
    if found is None:
        found = _kept[kind] = Pieces(kind)
    return found


class Columns:
    """The attributes of the composite type `name`, of which rows travel as an array.

    The connection must have been prepared by `travel`.
    """

    def __init__(self, name: str, types: dict[str, str]) -> None:
        self.name, self._types = name, types
        self.names = list(types)
        # Of each what makes fields of its values, and whether they are numbers.
        self._fields = [(pieces(kind), kind == "numeric") for kind in types.values()]
        self.head = _LENGTH.pack(len(types))  # with which each row begins

    @property
    def ddl(self) -> str:
        """The composite type's attributes, as a migration must make them."""
        return ", ".join(f"{name} {'text' if kind == 'numeric' else kind}" for name, kind in self._types.items())

    def source(self, argument: int) -> str:
        """The rows as a query, whose argument is `$argument`."""
        fields = ", ".join(f"{name}::numeric" if kind == "numeric" else name for name, kind in self._types.items())
        return f"SELECT {fields} FROM unnest(${argument}::{self.name}[])"  # noqa: S608 - names of ours

    def row(self, values: Iterable[Any]) -> bytes:
        """One row, of a value for each attribute, with its length before it."""
        return with_length(self.head + self.fields(values))

    def fields(self, values: Iterable[Any], after: int = 0) -> bytes:
        """The fields of a row, of a value for each attribute after so many."""
        fields: list[bytes] = []
        for (kept, number), value in zip(self._fields[after:], values, strict=True):
            # Numbers that are equal are not the same: 4.10 says more than 4.1.
            fields.append(kept[str(value) if number and value is not None else value])
        return b"".join(fields)


async def travel(connection: Connection) -> None:
    """Let the connection take what `Columns.row` makes, for each composite type of the schema.

    The driver has codecs of one's own for scalars only (`Connection.set_type_codec`); what it keeps them in takes one
    for an array too. Its version is locked, and tests/store/test_rows.py fails when it does not any more.
    """
    rows = await connection.fetch(
        """select t.oid, t.typarray, t.typname from pg_type t join pg_class c on c.oid = t.typrelid
             join pg_namespace n on n.oid = t.typnamespace where n.nspname = $1 and c.relkind = 'c'""",
        SCHEMA,
    )
    for oid, array_oid, name in rows:
        _take(connection, oid, array_oid, name)


def _take(connection: Any, oid: int, array_oid: int, name: str) -> None:
    def encode(rows: Rows) -> bytes:
        count, pieces = rows  # megabytes: copied once
        return b"".join([_array(oid, count, b""), *pieces]) if count else _array(oid, 0, b"")

    settings = connection._protocol.get_settings()
    settings.add_python_codec(array_oid, f"{name}[]", SCHEMA, [], "scalar", encode, bytes, "binary")


# ---- arrays of PostgreSQL's own types --------------------------------------------------------------------------------

# Of each its oid, and of its elements the oid and the name: the same in every server (pg_type.dat).
_ARRAYS: Final = {
    1000: (16, "bool"), 1001: (17, "bytea"), 1003: (19, "name"), 1005: (21, "int2"), 1007: (23, "int4"),
    1016: (20, "int8"), 1022: (701, "float8"), 1182: (1082, "date"), 1185: (1184, "timestamptz"),
    1187: (1186, "interval"), 1231: (1700, "numeric"), 2951: (2950, "uuid"), 3807: (3802, "jsonb"),
}  # fmt: skip


def know_arrays(connection: Any) -> None:
    """Tell the connection of these types what the driver finds out by a query for each statement that is the first to
    have one: 20 ms of a start, several times over. To be called last: setting a codec makes it forget them."""
    connection._protocol.get_settings().register_data_types(
        [
            {
                "oid": oid, "name": f"_{name}", "ns": "pg_catalog", "kind": b"b", "basetype": None,
                "elemtype": element, "elemtype_name": name, "elemdelim": b",", "range_subtype": None,
                "attrtypoids": None, "attrnames": None,
            }
            for oid, (element, name) in _ARRAYS.items()
        ]
    )  # fmt: skip

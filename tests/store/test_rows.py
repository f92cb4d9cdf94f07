"""Rows arrive in PostgreSQL as they were, whatever a text has in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interface.store.db import prepare
from interface.store.rows import Columns, rows_json
from interface.store.turns import in_turns
from interface.store.version_rows import ROWS
from tests.cluster import owner_of


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    texts: tuple[str, ...]
    number: Decimal | None
    at: datetime | None


COLUMNS = Columns("lab.made_row", {"name": "text", "texts": "text[]", "number": "numeric", "at": "timestamptz"})
ZONES = (UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=11)))
TEXT = st.text(st.characters(codec="utf-8"))
MADE = st.lists(
    st.builds(
        Row,
        TEXT,
        st.lists(TEXT).map(tuple),
        st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=3),
        st.none() | st.datetimes(timezones=st.sampled_from(ZONES)),
    ),
    min_size=1,
)


def held(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


async def test_rows_come_back_as_they_were(database_url: str) -> None:
    connection = await asyncpg.connect(owner_of(database_url))
    await connection.execute(f"create type lab.made_row as ({COLUMNS.ddl})")
    await prepare(connection)

    async def back(rows: list[Row]) -> list[Row]:
        given = [COLUMNS.row([getattr(row, one.name) for one in fields(Row)]) for row in rows]
        found = await connection.fetch(COLUMNS.source(1), (len(rows), given))
        return [Row(row["name"], tuple(row["texts"]), row["number"], row["at"]) for row in found]

    one = Row("same", ("x",), Decimal("4.1"), None)
    cases = [
        [Row("", (), Decimal(equal), None) for equal in ("4.1", "4.10")],
        [one] * 3,
        [one, replace(one, name="other"), one],
        [one, replace(one, number=None), replace(one, at=datetime(2026, 1, 2, tzinfo=UTC)), one],
        [],
    ]

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(MADE)
    def collect(rows: list[Row]) -> None:
        cases.append(rows)

    try:
        collect()
        for rows in cases:
            found = await back(rows)
            assert found == [Row(held(r.name), tuple(map(held, r.texts)), r.number, r.at) for r in rows]
            assert [str(row.number) for row in found] == [str(row.number) for row in rows]
    finally:
        await connection.close()


async def test_thousands_of_rows_are_made_with_turns_of_the_loop_between() -> None:
    given = list(range(2001))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    parts = [some async for some in in_turns(given)]
    beside.cancel()
    assert [one for some in parts for one in some] == given
    assert turns >= 5
    assert [some async for some in in_turns(given[:0])] == []


def test_a_nul_is_told_from_the_words_for_it() -> None:
    assert rows_json([{"a": "x\0y"}, {"a": "\\u0000"}]) == '[{"a":"x\N{REPLACEMENT CHARACTER}y"},{"a":"\\\\u0000"}]'


@pytest.mark.parametrize("columns", ROWS, ids=lambda columns: columns.name)
async def test_the_database_has_the_type_that_rows_travel_as(
    owner: asyncpg.Connection[asyncpg.Record], columns: Columns
) -> None:
    rows = await owner.fetch(
        """select attname, format_type(atttypid, null) as kind from pg_attribute
            where attrelid = $1::text::regclass order by attnum""",
        columns.name,
    )
    short = {"integer": "int", "timestamp with time zone": "timestamptz"}
    made = [f"{row['attname']} {short.get(row['kind'], row['kind'])}" for row in rows]
    assert made == columns.ddl.split(", ")


ARRAYS = {
    "bool": True, "bytea": b"\0", "name": "a", "int2": 2, "int4": 4, "int8": 8, "float8": 0.5, "date": date(2026, 1, 2),
    "timestamptz": datetime(2026, 1, 2, 3, tzinfo=UTC), "interval": timedelta(hours=1), "numeric": Decimal("4.10"),
    "uuid": UUID(int=1), "jsonb": {"a": [1]},
}  # fmt: skip


async def test_arrays_of_the_servers_own_types_are_known_without_asking_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_: object) -> None:
        raise AssertionError("the driver has asked the server for a type")

    connection = await asyncpg.connect(database_url)
    try:
        await prepare(connection)
        monkeypatch.setattr(asyncpg.Connection, "_introspect_types", asked)
        for name, value in ARRAYS.items():
            assert await connection.fetchval(f"select $1::{name}[]", [value, None, value]) == [value, None, value], name
    finally:
        connection.terminate()

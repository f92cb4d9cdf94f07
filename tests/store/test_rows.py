"""Rows as arrays arrive in PostgreSQL as they were, whatever a text has in it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interface.store.rows import Columns, rows_json


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    texts: tuple[str, ...]
    number: Decimal | None


COLUMNS = Columns({"name": "text", "texts": "text[]", "number": "numeric"})
TEXT = st.text(st.characters(codec="utf-8"))
ROWS = st.lists(
    st.builds(
        Row, TEXT, st.lists(TEXT).map(tuple), st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=3)
    ),
    min_size=1,
)


def held(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


async def test_rows_come_back_as_they_were(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)

    async def back(rows: list[Row]) -> list[Row]:
        found = await connection.fetch(COLUMNS.source(1), *COLUMNS.arrays(rows))
        return [Row(row["name"], tuple(row["texts"]), row["number"]) for row in found]

    cases: list[list[Row]] = []

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(ROWS)
    def collect(rows: list[Row]) -> None:
        cases.append(rows)

    try:
        collect()
        for rows in cases:
            assert await back(rows) == [Row(held(r.name), tuple(map(held, r.texts)), r.number) for r in rows]
    finally:
        await connection.close()


def test_a_nul_is_told_from_the_words_for_it() -> None:
    assert rows_json([{"a": "x\0y"}, {"a": "\\u0000"}]) == '[{"a":"x\N{REPLACEMENT CHARACTER}y"},{"a":"\\\\u0000"}]'

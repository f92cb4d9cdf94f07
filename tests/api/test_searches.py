"""Searches that are in flight at the same moment: fewer statements than searches, and to each its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

from interface.api.fhir import observations
from interface.api.fhir.page import Found, find_page
from interface.api.fhir.search import Reader, Search
from interface.api.fhir.searches import Searches
from interface.api.fhir.types import TYPES
from interface.domain.permissions import Restriction
from interface.domain.views import Audience
from interface.store.db import Connection, Database
from interface.store.search.engine import Place
from interface.store.search.kinds import kinds
from tests.api.bench import Laboratory, found_laboratory
from tests.api.search_world import Maker

ALL = {name: (Restriction(),) for name in TYPES}
EMR = Audience.EMR


def test_what_is_remembered_of_pages_is_bounded_in_bytes() -> None:
    parts, longest = observations._Parts(bytes.decode), observations._LARGEST_KEPT
    for number in range(3 * observations._MOST_BYTES // longest):
        sent = b"%08d" % number + b"c" * (longest - 8)
        assert parts[sent] == sent.decode()
        assert parts[sent] is parts[sent]
        assert sum(map(len, parts)) <= observations._MOST_BYTES + longest
    long = b"c" * (longest + 1)
    assert parts[long] == long.decode() and long not in parts


class Counted:
    """The database, and how often it was asked for a connection to search by."""

    def __init__(self, database: Database) -> None:
        self._database, self.asked = database, 0

    @asynccontextmanager
    async def searching(self, organization_id: UUID) -> AsyncIterator[Connection]:
        self.asked += 1
        async with self._database.searching(organization_id) as connection:
            yield connection


def read(query: str, allowed: Sequence[Restriction] = (Restriction(),)) -> Search:
    reader = Reader(kinds(EMR), {**ALL, "Observation": tuple(allowed)}, "http://lab", datetime.now(UTC))
    return reader.search("Observation", [tuple(one.split("=", 1)) for one in query.split("&")], strict=True)  # type: ignore[misc]


def told(found: Found) -> tuple[list[bytes], Place | None, int | None]:
    return [one.json for one in found.matches], found.after, found.total


async def patients(laboratory: Laboratory, seed: int) -> list[UUID]:
    await Maker(laboratory, seed).make(patients=6, orders=10)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        return [row["id"] for row in await connection.fetch("select id from lab.patient order by id")]


async def test_searches_in_flight_share_statements_and_each_has_what_it_would_have_alone(database: Database) -> None:
    one, other = await found_laboratory(database), await found_laboratory(database)
    own = {laboratory.organization_id: await patients(laboratory, 3) for laboratory in (one, other)}
    narrowed = (Restriction((("code", "http://loinc.org|718-7"),)), Restriction((("status", "corrected"),)))
    asked = [
        (laboratory, read(f"patient={patient}&{query}", allowed))
        for laboratory in own
        for patient in (*own[one.organization_id], *own[other.organization_id])  # also of those who are none of its own
        for query, allowed in (
            ("category=laboratory&date=ge2025&_count=2", ALL["Observation"]),
            ("category=laboratory&_sort=-date&_count=3", ALL["Observation"]),
            ("category=laboratory&_sort=-date&_count=3", narrowed),
        )
    ]
    counted = Counted(database)
    searches = Searches(counted)  # type: ignore[arg-type]
    found = await asyncio.gather(*(searches.page(laboratory, search, EMR, None) for laboratory, search in asked))
    assert counted.asked < len(asked) / 3
    following = [
        (laboratory, search, page.after)
        for (laboratory, search), page in zip(asked, found, strict=True)
        if page.after is not None
    ]
    assert len(following) > 5
    more = await asyncio.gather(*(searches.page(*each[:2], EMR, each[2]) for each in following))
    assert sum(len(page.matches) for page in (*found, *more)) > 40
    for (laboratory, search, after), page in zip(
        [*((*each, None) for each in asked), *following], [*found, *more], strict=True
    ):
        async with database.searching(laboratory) as connection:
            assert told(page) == told(await find_page(connection, search, EMR, after))


async def test_a_search_that_may_read_much_is_waited_for_by_nobody_else(database: Database) -> None:
    laboratory = await found_laboratory(database)
    [patient, *_] = await patients(laboratory, 4)
    counted = Counted(database)
    searches = Searches(counted)  # type: ignore[arg-type]
    queries = (
        "category=laboratory",
        f"device={laboratory.analyzer_id}",
        "patient.name=Mus",
        f"patient={patient},{UUID(int=1)}",
        f"patient={patient}&_include=Observation:specimen",
        f"patient={patient}&_total=accurate&_count=1",
        f"patient={patient}&_summary=count",
    )
    same = [read(query) for query in queries for _ in range(2)]
    await asyncio.gather(*(searches.page(laboratory.organization_id, search, EMR, None) for search in same))
    assert counted.asked == len(same)

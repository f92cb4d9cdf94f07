"""Who asks and what they search, found by one statement: never more is shown than to who asks it in two steps."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from interface.api.fhir import searches
from interface.api.fhir.searches import known_page
from interface.domain.permissions import Role
from interface.domain.views import Audience
from interface.flow import actors
from interface.store.db import Connection, Database
from interface.store.search.along import Asked, along_text, find_along
from interface.store.search.engine import Form, TooCostly
from tests.api.bench import Bench, Laboratory, found_laboratory, serving
from tests.api.test_searches import patients, read


class Watched(Database):
    """A database that counts what it is asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: Counter[str] = Counter()

    @asynccontextmanager
    async def at_once(self, organization_id: UUID) -> AsyncIterator[Connection]:
        self.asked["at once"] += 1
        async with super().at_once(organization_id) as connection:
            yield connection

    @asynccontextmanager
    async def searching(self, organization_id: UUID) -> AsyncIterator[Connection]:
        self.asked["search"] += 1
        async with super().searching(organization_id) as connection:
            yield connection


@pytest.fixture
async def watched(database: Database) -> AsyncIterator[Watched]:
    watched = Watched(database.url)
    yield watched
    await watched.close()


@pytest.fixture
async def bench(watched: Watched) -> AsyncIterator[Bench]:
    async with serving(watched) as bench:
        yield bench


@pytest.fixture
async def laboratory(watched: Watched) -> Laboratory:
    return await found_laboratory(watched)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called nothing is found along with who asks."""

    def stop() -> None:
        monkeypatch.setattr(searches, "known_page", lambda *_: None)

    return stop


def bodies(found: dict[str, Any]) -> list[Any]:
    return [{**each, "resource": each["resource"]} for each in found.get("entry", [])]


async def test_a_search_is_one_statement_with_who_asks_and_finds_what_it_finds_alone(
    bench: Bench, watched: Watched, laboratory: Laboratory, never: Callable[[], None]
) -> None:
    own = await patients(laboratory, 7)
    token = await laboratory.client_token("system/Observation.rs")
    queries = [
        f"/fhir/Observation?patient={patient}&category=laboratory&date=ge2025{more}"
        for patient in (*own, uuid4())
        for more in ("", "&_sort=-date&_count=2", "&_elements=status", "&nonsense=1")
    ]
    await bench.get(queries[0], token)  # from here on the laboratory is known
    watched.asked.clear()
    along = [await bench.get(query, token) for query in queries]
    assert watched.asked["search"] == len(queries)
    assert sum(len(one.json.get("entry", [])) for one in along) > 10
    never()
    for query, one in zip(queries, along, strict=True):
        alone = (await bench.get(query, token)).json
        assert (bodies(one.json), one.json.get("total")) == (bodies(alone), alone.get("total"))
        assert one.json["link"][0] == alone["link"][0] and len(one.json["link"]) == len(alone["link"])
    assert len(await laboratory.audit("search")) >= len(queries)  # of which some are on their way


async def test_the_next_page_goes_on_where_the_first_ended(bench: Bench, laboratory: Laboratory) -> None:
    token, seen = await laboratory.client_token("system/*.rs"), list[str]()
    ids = await laboratory.order()
    results = {str(await laboratory.result(ids)) for _ in range(5)}
    url = f"/fhir/Observation?patient={ids['patient']}&_count=2"
    while url:
        page = (await bench.get(url, token)).json
        seen += [each["resource"]["id"] for each in page["entry"]]
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
        url = following[0].partition("/fhir")[1] + following[0].partition("/fhir")[2] if following else ""
    assert sorted(seen) == sorted(results)


async def test_what_was_found_is_shown_only_to_who_may_see_all_of_it(bench: Bench, laboratory: Laboratory) -> None:
    ids = await laboratory.order()
    await laboratory.result(ids, "13.50")
    query = f"/fhir/Observation?patient={ids['patient']}&category=laboratory"
    viewer = await laboratory.user_token(Role.VIEWER)  # the first, who is an administrator too
    seen = await bench.get(query, await laboratory.client_token("system/Observation.s"))
    assert seen.status == 200 and b"13.50" in seen.body
    for scope in ("system/Observation.rs?status=corrected", "system/Observation.rs?code=http://loinc.org|9999-9"):
        narrowed = await bench.get(query, await laboratory.client_token(scope))
        assert (narrowed.status, narrowed.json.get("entry", [])) == (200, [])
    for token in (
        await laboratory.client_token("system/Observation.r"),
        await laboratory.client_token("system/Patient.rs"),
        await laboratory.user_token(Role.PHLEBOTOMIST),
        await (await found_laboratory(laboratory.database)).client_token("system/*.rs"),
    ):
        other = await bench.get(query, token)
        assert b"13.50" not in other.body and (other.status == 403 or not other.json.get("entry"))
    assert (await bench.get(query, viewer)).status == 200
    assert (await bench.get(query)).status == 401


async def test_a_token_that_ended_opens_nothing(bench: Bench, watched: Watched, laboratory: Laboratory) -> None:
    ids = await laboratory.order()
    await laboratory.result(ids)
    query, token = f"/fhir/Observation?patient={ids['patient']}", await laboratory.user_token(Role.VIEWER)
    assert (await bench.get(query, token)).status == 200
    actor = await actors.token_actor(watched, token)
    assert actor is not None
    await actors.revoke_token(watched, actor, token)
    assert (await bench.get(query, token)).status == 401
    assert (await bench.get(query, token[:-1] + ("A" if token[-1] != "A" else "B"))).status == 401


async def test_a_search_that_takes_too_long_is_refused_in_words(
    bench: Bench, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, query = await laboratory.client_token("system/*.rs"), f"/fhir/Observation?patient={uuid4()}"
    assert (await bench.get(query, token)).status == 200

    async def costly(*_: object) -> None:
        raise TooCostly

    monkeypatch.setattr(searches, "find_along", costly)
    refused = await asyncio.gather(*(bench.get(query, token) for _ in range(3)))
    assert {(one.status, one.json["issue"][0]["code"]) for one in refused} == {(400, "too-costly")}


async def test_nothing_is_searched_for_a_token_that_is_not_valid(laboratory: Laboratory) -> None:
    [patient, *_] = await patients(laboratory, 8)
    search = read(f"patient={patient}&category=laboratory&date=ge2025")
    known = known_page(search, Audience.EMR, None)
    assert known is not None and known.form is not None
    async with laboratory.database.searching(laboratory.organization_id) as connection:
        asked = [Asked(b"nobody's", known.page.values)] * 2
        assert await find_along(connection, known.form, asked) == [None, None]
        plan = await explained(connection, known.form, patient)
    assert re_loops(plan, "result r") == 0, plan
    assert "access_token_pkey" in plan and "Seq Scan on result" not in plan, plan


async def explained(connection: Connection, form: Form, patient: UUID) -> str:
    await connection.execute("set enable_seqscan = off")  # of tables as small as these it would read some whole
    types = ", ".join(["bytea[]", *(f"{cast}[]" for cast, _ in form.casts)])
    await connection.execute(f"prepare along({types}) as {along_text(form)}")
    values = f"'{{\"\\\\x00\"}}', '{{{patient}}}', '{{laboratory}}', '{{2025-01-01}}'"
    rows = await connection.fetch(f"explain (analyze, timing off) execute along({values})")
    await connection.execute("deallocate along")
    return "\n".join(row[0] for row in rows)


def re_loops(plan: str, table: str) -> int:
    """How often a table was looked at."""
    lines = [line for line in plan.splitlines() if f"on {table}" in line]
    assert lines, plan
    return sum("never executed" not in line for line in lines)

"""Requests that come at the same moment share statements, and none of them hears what was true before it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest

from interface.domain.permissions import Role
from interface.flow import actors
from interface.store import actors as rows
from interface.store.db import Connection, Database
from interface.store.together import Together
from tests.api.bench import Answer, Bench, Laboratory, found_laboratory, serving


class Late(Database):
    """A database whose statements of one kind, once done, are answered when they may be."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.may, self.done = asyncio.Event(), asyncio.Event()
        self.may.set()
        self.late = ""

    async def _answered(self, kind: str) -> None:
        if kind == self.late:
            self.done.set()
            await self.may.wait()

    @asynccontextmanager
    async def at_once(self, organization_id: UUID) -> AsyncIterator[Connection]:
        async with super().at_once(organization_id) as connection:
            yield connection
        await self._answered("at_once")

    @asynccontextmanager
    async def searching(self, organization_id: UUID) -> AsyncIterator[Connection]:
        async with super().searching(organization_id) as connection:
            yield connection
        await self._answered("searching")

    @asynccontextmanager
    async def under_way(self, kind: str) -> AsyncIterator[None]:
        """From when the next statement of this kind is done to the end of the block, no answer comes."""
        self.late = kind
        self.may.clear()
        self.done.clear()
        yield
        self.may.set()


@pytest.fixture
async def late(database: Database) -> AsyncIterator[Late]:
    late = Late(database.url)
    yield late
    await late.close()


@pytest.fixture
async def bench(late: Late) -> AsyncIterator[Bench]:
    async with serving(late) as bench:
        yield bench


@pytest.fixture
async def laboratory(late: Late) -> Laboratory:
    return await found_laboratory(late)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks, and knows when what it asked for is wanted of the database: `wanted` has what is, in turn."""

    bench: Bench
    wanted: asyncio.Queue[object]

    async def read(self, id: UUID, token: str, until: type) -> asyncio.Task[Answer]:
        """A read that has come as far as wanting something of a type: bytes its token's holder, UUID the resource."""
        while not self.wanted.empty():
            self.wanted.get_nowait()
        asked = asyncio.create_task(self.bench.get(f"/fhir/Observation/{id}", token))
        while not isinstance(await self.wanted.get(), until):
            pass
        return asked


@pytest.fixture
def ask(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Asker:
    wanted, want = asyncio.Queue[object](), Together.want

    async def told(self: Together[object, object], one: object) -> object:
        wanted.put_nowait(one)
        return await want(self, one)

    monkeypatch.setattr(Together, "want", told)
    return Asker(bench, wanted)


async def test_a_token_that_ends_while_others_are_looked_up_opens_nothing_more(
    ask: Asker, laboratory: Laboratory, late: Late
) -> None:
    result = await laboratory.result(await laboratory.order())
    token = await laboratory.user_token(Role.VIEWER)
    assert (await (await ask.read(result, token, UUID))).status == 200
    actor = await actors.token_actor(late, token)
    assert actor is not None
    async with late.under_way("at_once"):
        before = await ask.read(result, token, bytes)
        await late.done.wait()
        await actors.revoke_token(late, actor, token)
        after = await ask.read(result, token, bytes)
    assert ((await before).status, (await after).status) == (200, 401)


@pytest.mark.parametrize("change", ["held", "retracted", "corrected"])
async def test_a_result_that_changes_while_others_are_read_is_shown_as_it_is_now(
    ask: Asker, laboratory: Laboratory, late: Late, change: str
) -> None:
    result = await laboratory.result(await laboratory.order(), "13.50")
    token = await laboratory.client_token("system/*.rs")
    assert (await (await ask.read(result, token, UUID))).status == 200
    changes = {
        "held": "update lab.result set held = '{questionable}' where id = $1",
        "retracted": "update lab.result set status = 'preliminary' where id = $1",
        "corrected": """update lab.result r set version_id = o.version_id from lab.result o
                        where r.id = $1 and o.id = $2""",
    }
    async with late.under_way("searching"):
        before = await ask.read(result, token, UUID)
        await late.done.wait()
        async with late.transaction(laboratory.organization_id) as connection:
            if change == "corrected":
                other = await laboratory.result(await laboratory.order(), "14.75")
                await connection.execute(changes[change], result, other)
            else:
                await connection.execute(changes[change], result)
        after = await ask.read(result, token, UUID)
    then, now = await before, await after
    assert then.status == 200 and b"13.50" in then.body
    if change == "corrected":
        assert now.status == 200 and b"14.75" in now.body and b"13.50" not in now.body
    else:
        assert now.status == 404 and b"13.50" not in now.body


async def test_names_that_change_are_shown_in_the_next_read(bench: Bench, laboratory: Laboratory, late: Late) -> None:
    result, token = await laboratory.result(await laboratory.order()), await laboratory.client_token("system/*.rs")
    first = (await bench.get(f"/fhir/Observation/{result}", token)).json
    assert (first["performer"][0]["display"], first["device"]["display"]) == ("Test Laboratory", "hema")
    async with late.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.analyzer set name = 'hema-2'")
    again = (await bench.get(f"/fhir/Observation/{result}", token)).json
    assert again["device"]["display"] == "hema-2"


async def test_reads_share_statements_by_laboratory_and_each_gets_its_own(
    ask: Asker, laboratory: Laboratory, late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another laboratory, or with a scope that does not reach it, one gets what one would get alone."""
    other = await found_laboratory(late)
    orders = [await laboratory.order() for _ in range(6)]
    results = [await laboratory.result(each, f"1{n}.25") for n, each in enumerate(orders)]
    token, foreign = await laboratory.client_token("system/*.rs"), await other.client_token("system/*.rs")
    narrowed = await laboratory.client_token(f"system/Observation.rs?patient={orders[0]['patient']}")
    elsewhere = await laboratory.client_token("system/Patient.rs")
    for one in (token, foreign, narrowed, elsewhere):
        await (await ask.read(results[0], one, bytes))
    looked_up, find = list[int](), rows.find_tokens

    async def counted(connection: Connection, digests: Collection[bytes]) -> dict[bytes, rows.TokenHolder]:
        looked_up.append(len(digests))
        return await find(connection, digests)

    monkeypatch.setattr(rows, "find_tokens", counted)
    async with late.under_way("at_once"):
        first = await ask.read(results[0], token, bytes)
        await late.done.wait()
        asked = [
            (n, own, await ask.read(id, own, bytes))
            for n, id in enumerate(results)
            for own in (token, foreign, narrowed, elsewhere)
        ]
    assert (await first).json["valueQuantity"]["value"] == 10.25
    for n, own, read in asked:
        answer = await read
        status = {token: 200, foreign: 404, narrowed: 404 if n else 200, elsewhere: 403}[own]
        assert answer.status == status
        if status == 200:
            assert answer.json["id"] == str(results[n]) and f"1{n}.25".encode() in answer.body
        else:
            assert b"25" not in answer.body.replace(str(results[n]).encode(), b"")
    assert looked_up == [1, 1, 3, 1]  # the first, the other laboratory's first, and then the others of each

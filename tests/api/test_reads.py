"""Requests that come at the same moment share statements, and none of them hears what was true before it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from interface.api.fhir.negotiation import Ready
from interface.api.fhir.reads import LONGEST_KEPT, Kept, Rendered
from interface.domain.permissions import Role
from interface.domain.views import Audience
from interface.flow import actors
from interface.store import observation_reads
from interface.store.actors import TokenHolder
from interface.store.db import Connection, Database
from interface.store.observation_reads import Asked, Beside, Said, Told
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
        task = asyncio.current_task()
        own = task is not None and task.get_name() == "audit-writer"  # it comes when it comes, and is no read's
        if kind == self.late and not own:
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
    """Asks for Observations, and knows when what it asked for is wanted of the database, with whose it is: `wanted` has
    what is, in turn."""

    bench: Bench
    wanted: asyncio.Queue[object]

    async def read(self, id: UUID, token: str) -> asyncio.Task[Answer]:
        """A read that has come as far as that."""
        while not self.wanted.empty():
            self.wanted.get_nowait()
        asked = asyncio.create_task(self.bench.get(f"/fhir/Observation/{id}", token))
        while not isinstance(await self.wanted.get(), Asked):
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
    assert (await (await ask.read(result, token))).status == 200
    actor = await actors.token_actor(late, token)
    assert actor is not None
    async with late.under_way("at_once"):
        before = await ask.read(result, token)
        await late.done.wait()
        await actors.revoke_token(late, actor, token)
        after = await ask.read(result, token)
    assert ((await before).status, (await after).status) == (200, 401)


@pytest.mark.parametrize("change", ["held", "retracted", "corrected"])
async def test_a_result_that_changes_while_others_are_read_is_shown_as_it_is_now(
    ask: Asker, laboratory: Laboratory, late: Late, change: str
) -> None:
    result = await laboratory.result(await laboratory.order(), "13.50")
    token = await laboratory.client_token("system/*.rs")
    assert (await (await ask.read(result, token))).status == 200
    changes = {
        "held": "update lab.result set held = '{questionable}' where id = $1",
        "retracted": "update lab.result set status = 'preliminary' where id = $1",
        "corrected": """update lab.result r set version_id = o.version_id from lab.result o
                        where r.id = $1 and o.id = $2""",
    }
    async with late.under_way("at_once"):
        before = await ask.read(result, token)
        await late.done.wait()
        async with late.transaction(laboratory.organization_id) as connection:
            if change == "corrected":
                other = await laboratory.result(await laboratory.order(), "14.75")
                await connection.execute(changes[change], result, other)
            else:
                await connection.execute(changes[change], result)
        after = await ask.read(result, token)
    then, now = await before, await after
    assert then.status == 200 and b"13.50" in then.body
    if change == "corrected":
        assert now.status == 200 and b"14.75" in now.body and b"13.50" not in now.body
    else:
        assert now.status == 404 and b"13.50" not in now.body


_WHAT_IS_BESIDE = {
    "the laboratory's title": ("organization set title = 'Anew' where id", b"Anew"),
    "the analyzer's name": ("analyzer set name = 'hema-2' where organization_id", b"hema-2"),
    "when it was collected": (
        "specimen set collected_at = '2026-01-02T03:04:05Z' where organization_id", b"2026-01-02T03:04:05Z"
    ),
    "when it changed": (
        "result set updated_at = '2036-01-02T03:04:05Z' where organization_id", b"2036-01-02T03:04:05Z"
    ),
    "how it came": ("result set origin = 'manual' where organization_id", b"entered by hand"),
}  # fmt: skip


@pytest.mark.parametrize("change", _WHAT_IS_BESIDE)
async def test_what_changes_beside_a_version_is_shown_in_the_next_read(
    bench: Bench, laboratory: Laboratory, owner: Connection, change: str
) -> None:
    statement, now = _WHAT_IS_BESIDE[change]
    result, token = await laboratory.result(await laboratory.order()), await laboratory.client_token("system/*.rs")
    first = [(await bench.get(f"/fhir/Observation/{result}", token)).body for _ in range(2)]
    assert first[0] == first[1] and now not in first[0]
    await owner.execute(f"update lab.{statement} = $1", laboratory.organization_id)
    again = await bench.get(f"/fhir/Observation/{result}", token)
    assert now in again.body
    found = await bench.get(f"/fhir/Observation?_id={result}", token)
    assert found.json["entry"][0]["resource"] == again.json  # as the search shows it, which remembers no resource


async def test_what_was_shown_once_is_not_made_again(
    bench: Bench, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, token = await laboratory.result(await laboratory.order()), await laboratory.client_token("system/*.rs")
    await bench.get("/fhir/Patient", token)  # from here on the laboratory is known
    said, find = list[Said | None](), observation_reads.find

    async def noted(connection: Connection, asked: Sequence[Asked], audience: Audience) -> list[Told | None]:
        found = await find(connection, asked, audience)
        said.extend(one.said for one in found if one is not None)
        return found

    monkeypatch.setattr(observation_reads, "find", noted)
    bodies = {(await bench.get(f"/fhir/Observation/{result}", token)).body for _ in range(3)}
    assert (len(bodies), [one is not None for one in said]) == (1, [True, False, False])


async def test_reads_reach_every_row_by_an_index(late: Late, laboratory: Laboratory) -> None:
    """As the pool for single statements plans them, once: whatever the tables hold at that moment."""
    async with late.at_once(laboratory.organization_id) as connection:
        text = observation_reads.find_text(Audience.EMR)
        await connection.execute(f"prepare planned(bytea[], bytea[], uuid[], uuid[]) as {text}")
        rows = await connection.fetch("explain (costs off) execute planned('{}', '{}', '{}', '{}')")
        await connection.execute("deallocate planned")
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan" not in plan and "Index" in plan, plan


# ---- what is kept ---------------------------------------------------------------------------------------------------

_OF, _ID = (UUID(int=1), Audience.EMR), UUID(int=2)
_UPDATED, _COLLECTED = bytes(8), bytes(7) + b"\1"
_BESIDE = Beside(
    UUID(int=3), UUID(int=3), UUID(int=4), _UPDATED, _COLLECTED, UUID(int=5), UUID(int=1), "Title", "name", "analyzer",
    UUID(int=6), UUID(int=7), "hema",
)  # fmt: skip
_SAID: Said = (
    None, "GLU", "Glucose", "", "final", "numeric", "", "5.1", "", "mmol/L", "3.9", "5.5", "", None, None, "", "",
)  # fmt: skip
_HOLDER = TokenHolder(None, UUID(int=8), "emr", (), ("system/*.rs",))


def _kept(body: bytes = b"{}") -> Kept:
    shown = Ready(_ID, None, "1", datetime(2026, 1, 2, tzinfo=UTC), body, CIMultiDictProxy(CIMultiDict()))
    return Kept(_BESIDE, _SAID, shown)


@pytest.mark.parametrize("name", Beside._fields)
def test_what_is_kept_is_shown_again_only_with_all_that_it_was_made_of(name: str) -> None:
    rendered, kept = Rendered(), _kept()
    told = Told(_HOLDER, _BESIDE, None)
    assert rendered.shown(_OF, _ID, told, kept) is kept.shown
    others = {"updated": _COLLECTED, "collected": _UPDATED, "origin": "manual"}
    other: Any = others.get(name, "other" if isinstance(getattr(_BESIDE, name), str) else UUID(int=9))
    changed = rendered.shown(_OF, _ID, told._replace(beside=_BESIDE._replace(**{name: other})), kept)
    if name == "version_id":  # of which nobody has said what it says
        assert changed is None
    else:
        fresh = Rendered().shown(_OF, _ID, Told(_HOLDER, _BESIDE._replace(**{name: other}), _SAID), None)
        assert changed is not None and fresh is not None
        assert changed is not kept.shown and (changed.json, changed.headers) == (fresh.json, fresh.headers)
        assert b"5.1" in changed.json


def test_another_version_is_shown_with_its_own_words() -> None:
    rendered, beside = Rendered(), _BESIDE._replace(version_id=UUID(int=9))
    shown = rendered.shown(_OF, _ID, Told(_HOLDER, beside, (*_SAID[:7], "7.25", *_SAID[8:])), _kept())
    assert shown is not None and b"7.25" in shown.json and b"5.1" not in shown.json
    assert rendered.shown(_OF, _ID, Told(_HOLDER, None, None), _kept()) is None


def test_what_is_kept_is_of_one_laboratory_audience_and_result() -> None:
    rendered = Rendered()
    rendered.keep(_OF, _ID, _kept())
    assert rendered.get(_OF, _ID) is not None
    for of, id in (
        ((UUID(int=8), Audience.EMR), _ID),
        ((UUID(int=1), Audience.EMR_PRELIMINARY), _ID),
        ((UUID(int=1), Audience.STAFF), _ID),
        (_OF, UUID(int=8)),
    ):
        assert rendered.get(of, id) is None


def test_so_many_are_kept_and_none_that_is_long() -> None:
    rendered = Rendered(most=2)
    rendered.keep(_OF, UUID(int=1), _kept(b"x" * (LONGEST_KEPT + 1)))
    assert len(rendered) == 0
    for n in (1, 2):
        rendered.keep(_OF, UUID(int=n), _kept())
    assert rendered.get(_OF, UUID(int=1)) is not None
    rendered.keep(_OF, UUID(int=3), _kept())
    assert [rendered.get(_OF, UUID(int=n)) is not None for n in (1, 2, 3)] == [True, False, True]


# ---- and of several laboratories ------------------------------------------------------------------------------------


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
        await (await ask.read(results[0], one))
    looked_up, find = list[int](), observation_reads.find

    async def counted(connection: Connection, asked: Sequence[Asked], audience: Audience) -> list[Told | None]:
        looked_up.append(len(asked))
        return await find(connection, asked, audience)

    monkeypatch.setattr(observation_reads, "find", counted)
    async with late.under_way("at_once"):
        first = await ask.read(results[0], token)
        await late.done.wait()
        asked = [
            (n, own, await ask.read(id, own))
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
    assert looked_up[:2] == [1, 1]  # the first, and the other laboratory's first
    assert sorted(looked_up[2:]) == [2, 5, 16]  # the others of each, and neither waits for the other

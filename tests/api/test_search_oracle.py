"""What a search finds is what the resources that are shown say: every parameter and modifier, chains, `_has` and
includes, over made-up laboratories, against a matcher that knows nothing of the engine (`search_oracle`)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from interface.api.fhir.observations import ShownResult
from interface.api.fhir.page import Found, find_page
from interface.api.fhir.search import MOST_COUNT, Reader, Search
from interface.api.fhir.types import TYPES
from interface.domain.permissions import Restriction
from interface.domain.views import Audience
from interface.render import fhir
from interface.render.json import dumps
from interface.store import evidence
from interface.store.db import Connection, Database
from interface.store.lab import Page, ResultFilter, find_results
from interface.store.search.fields import Link
from interface.store.search.kinds import kinds
from tests.api.bench import found_laboratory
from tests.api.search_oracle import COMMON, ELEMENTS, World, at, codings, element
from tests.api.search_world import Maker

ALL = {name: (Restriction(),) for name in TYPES}
NOW = datetime(2026, 11, 26, tzinfo=UTC)
Parameters = list[tuple[str, str]]
AUDIENCES = (Audience.EMR, Audience.EMR_PRELIMINARY)


class Asking:
    """The engine without HTTP, over one laboratory."""

    def __init__(self, connection: Connection, audience: Audience) -> None:
        self._connection, self.audience = connection, audience
        self._reader = Reader(kinds(audience), ALL, "http://lab", NOW)

    def search(self, kind: str, parameters: Parameters) -> Search:
        return self._reader.search(kind, parameters, strict=True)

    async def page(self, kind: str, parameters: Parameters) -> Found:
        search = self.search(kind, [*parameters, ("_count", str(MOST_COUNT))])
        return await find_page(self._connection, search, self.audience)

    async def in_pages(self, kind: str, parameters: Parameters, count: int = 3) -> list[str]:
        """The ids of all there are, in pages of a few."""
        search = self.search(kind, [*parameters, ("_count", str(count))])
        page = await find_page(self._connection, search, self.audience)
        found = [str(one.id) for one in page.matches]
        while page.after is not None:
            page = await find_page(self._connection, search, self.audience, page.after)
            found += [str(one.id) for one in page.matches]
        return found

    async def find(self, kind: str, parameters: Parameters) -> set[str]:
        found = await self.page(kind, parameters)
        assert found.after is None, "the world fits on one page"
        return {str(one.id) for one in found.matches}

    async def world(self) -> World:
        return World(
            {
                kind: {str(one.id): one.resource for one in (await self.page(kind, [])).matches}
                for kind in ELEMENTS
            }
        )  # fmt: skip


class Questions:
    """Parameters with values that resources have, nearly have, or have not; every choice is the seed's."""

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._random = world, random.Random(seed)  # noqa: S311

    def values(self, kind: str, name: str) -> Iterator[tuple[str, str]]:
        """(modifier, value) pairs that put a parameter to the test."""
        of, path, system = element(kind, name) or ("", "", "")
        there = [one for each in self._world.resources[kind].values() for one in at(each, path)]
        some = self._random.sample(there, min(2, len(there)))
        yield "missing", "true"
        yield "missing", "false"
        ask = {
            "token": self._tokens, "name": self._words, "string": self._words, "date": self._dates,
            "quantity": self._quantities, "reference": self._references, "uri": self._uris,
        }  # fmt: skip
        yield from ask[of](some, system, kind, name)

    def _tokens(self, some: list[Any], system: str, kind: str, name: str) -> Iterator[tuple[str, str]]:
        modifiers = kinds(Audience.EMR)[kind].parameters
        known = next(one for one in modifiers if one.name == name).field.modifiers
        pairs = [pair for one in some for pair in codings([one], system)]
        for at_system, code in pairs:
            yield "", code
            if name != "_id":
                yield "", f"{at_system}|{code}"
                yield "", f"|{code}"
                if at_system:
                    yield "", f"{at_system}|"
            yield "not", code
            yield "not", f"{code},nothing"
        yield "", ",".join(dict.fromkeys(code for _, code in pairs)) or "nothing"
        yield "", "urn:other|x"
        if "text" in known:
            for one in some:
                yield "text", one["text"][:4].upper()
        if "of-type" in known:
            for one in some:
                yield "of-type", f"http://terminology.hl7.org/CodeSystem/v2-0203|MR|{one['value']}"

    def _uris(self, some: list[str], system: str, kind: str, name: str) -> Iterator[tuple[str, str]]:
        yield "", "urn:nothing"
        yield from (("", one) for one in some)

    def _words(self, some: list[str], system: str, kind: str, name: str) -> Iterator[tuple[str, str]]:
        for one in some:
            yield "", one[:3]
            yield "", one.upper()
            yield "exact", one
            yield "exact", one.upper()
            yield "contains", one[1:4].strip() or one
            yield "contains", one[:2].lower()
        yield "", "nothing,M"
        yield "contains", "e"

    def _dates(self, some: list[str], system: str, kind: str, name: str) -> Iterator[tuple[str, str]]:
        for one in some:
            for text in (one[:4], one[:7], one[:10], *([] if len(one) == 10 else [one[:19] + "Z", one])):
                for prefix in self._random.sample(("", "eq", "ne", "gt", "ge", "lt", "le", "sa", "eb"), 3):
                    yield "", prefix + text
        yield "", "2026-01-02,1980"

    def _quantities(self, some: list[Any], system: str, kind: str, name: str) -> Iterator[tuple[str, str]]:
        for number in ("5.4", "5.40", "5.400", "5", "100", "99.5"):
            for prefix in ("", "ne", "gt", "ge", "lt", "le", "sa", "eb"):
                yield "", prefix + number
        yield "", "5.4|http://unitsofmeasure.org|g/dL"
        yield "", "le5.4||mmol/L"
        yield "", "5.4|urn:other|g/dL"

    def _references(self, some: list[Any], system: str, kind: str, name: str) -> Iterator[tuple[str, str]]:
        for one in some:
            if "reference" in one:
                target, _, id = one["reference"].partition("/")
                yield "", one["reference"]
                yield "", id
                yield "", f"http://lab/fhir/{one['reference']}"
                yield target, id
                yield "", f"{id},Medication/1"
        field = next(each for each in kinds(Audience.EMR)[kind].parameters if each.name == name).field
        assert isinstance(field, Link)
        for target in field.targets:
            other = self._random.choice(list(self._world.resources[target].values()))
            yield "", f"{target}/{other['id']}"
            for identifier in other.get("identifier", []):
                yield "identifier", f"{identifier['system']}|{identifier['value']}"

    def one(self, kind: str) -> tuple[str, str]:
        """Any parameter with any value."""
        while True:
            name = self._random.choice((*ELEMENTS[kind], *COMMON))
            modifier, value = self._random.choice(list(self.values(kind, name)))
            if value:
                return (f"{name}:{modifier}" if modifier else name), value

    def chained(self, kind: str, depth: int = 1) -> tuple[str, str]:
        """A parameter of what a reference of the type refers to, or of what refers to it."""
        links = [
            (name, target)
            for name, (of, _, _) in ELEMENTS[kind].items()
            if of == "reference"
            for field in [next(each for each in kinds(Audience.EMR)[kind].parameters if each.name == name).field]
            if isinstance(field, Link)
            for target in field.targets
        ]
        reverse = [
            (other, name)
            for other, each in ELEMENTS.items()
            for name, (of, _, _) in each.items()
            for field in [next(one for one in kinds(Audience.EMR)[other].parameters if one.name == name).field]
            if of == "reference" and isinstance(field, Link) and kind in field.targets
        ]
        if links and (not reverse or self._random.random() < 0.6):
            name, target = self._random.choice(links)
            rest, value = self.chained(target, depth - 1) if depth > 1 else self.one(target)
            head = f"{name}:{target}" if self._random.random() < 0.5 else name
            return f"{head}.{rest}", value
        other, name = self._random.choice(reverse)
        rest, value = self.chained(other, depth - 1) if depth > 1 else self.one(other)
        return f"_has:{other}:{name}:{rest}", value


def test_the_matcher_knows_every_parameter_there_is() -> None:
    for name, kind in kinds(Audience.EMR).items():
        if name in ELEMENTS:
            assert {one.name for one in kind.parameters} == {*ELEMENTS[name], *COMMON}


@pytest.mark.parametrize("audience", AUDIENCES)
async def test_searches_find_what_the_resources_say(database: Database, audience: Audience) -> None:
    seed = 7 if audience is Audience.EMR else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {audience}")  # a failure is repeated with it
    laboratory = await found_laboratory(database)
    await Maker(laboratory, seed).make(patients=8, orders=10)
    async with database.organization(laboratory.organization_id) as connection:
        asking = Asking(connection, audience)
        world = await asking.world()
        questions, found, wrong = Questions(world, seed), 0, list[str]()
        for kind, each in ELEMENTS.items():
            for name in (*each, *COMMON):
                for modifier, value in questions.values(kind, name):
                    if value:
                        asked = [(f"{name}:{modifier}" if modifier else name, value)]
                        found += await agree(asking, world, wrong, kind, asked)
        for _ in range(20):
            for kind in ELEMENTS:
                asked = [questions.one(kind) for _ in range(questions._random.choice((2, 3)))]
                found += await agree(asking, world, wrong, kind, asked)
                depth = questions._random.choice((1, 1, 2))
                found += await agree(asking, world, wrong, kind, [questions.chained(kind, depth)])
        assert not wrong, "\n".join(wrong[:20])
        assert found > 200, "most questions have an answer"


async def agree(asking: Asking, world: World, wrong: list[str], kind: str, asked: Parameters) -> int:
    expected = world.find(kind, asked)
    found = await asking.find(kind, asked)
    if found != expected:
        words = "&".join("=".join(one) for one in asked)
        wrong.append(f"{kind}?{words}: too many {found - expected}, too few {expected - found}")
    return len(found) > 0


@pytest.mark.parametrize("audience", AUDIENCES)
async def test_an_observation_that_a_search_shows_is_the_one_that_its_own_rows_give(
    database: Database, audience: Audience
) -> None:
    """Whichever statement reads it, and however it is put together."""
    laboratory = await found_laboratory(database)
    await Maker(laboratory, 5).make(patients=6, orders=8)
    async with database.organization(laboratory.organization_id) as connection:
        page = await Asking(connection, audience).page("Observation", [("_sort", "-date")])
        by = await evidence.laboratory(connection)
        read = {
            one.id: dumps(fhir.observation(one, by))
            for one in await find_results(connection, ResultFilter(page=Page(limit=MOST_COUNT)), audience)
        }
        assert {one.id: one.json for one in page.matches} == read
        assert {one.id: dumps(one.resource) for one in page.matches} == read
        assert len({one.row.status for one in page.matches if isinstance(one, ShownResult)}) > 2


@pytest.mark.parametrize("audience", AUDIENCES)
async def test_includes_bring_what_the_matches_refer_to(database: Database, audience: Audience) -> None:
    laboratory = await found_laboratory(database)
    await Maker(laboratory, 11).make(patients=6, orders=8)
    async with database.organization(laboratory.organization_id) as connection:
        asking = Asking(connection, audience)
        world = await asking.world()
        for kind, each in ELEMENTS.items():
            for name, (of, _, _) in each.items():
                if of != "reference":
                    continue
                found = await asking.page(kind, [("_include", f"{kind}:{name}")] if _targets(kind, name) else [])
                came = {(type, str(one.id)) for type, one in found.included}
                matched = {(kind, str(one.id)) for one in found.matches}
                expected = {
                    (target, id)
                    for target in _targets(kind, name)
                    for id, other in world.resources[target].items()
                    if any(world.refers(one.resource, name, other) for one in found.matches)
                }
                assert came == expected - matched, f"_include={kind}:{name}"
                for target in _targets(kind, name):
                    back = await asking.page(target, [("_revinclude", f"{kind}:{name}")])
                    came = {(type, str(one.id)) for type, one in back.included}
                    expected = {
                        (kind, id)
                        for id, one in world.resources[kind].items()
                        if any(world.refers(one, name, other.resource) for other in back.matches)
                    }
                    if kind != target:
                        assert came == expected, f"{target}?_revinclude={kind}:{name}"


SORTED = {  # where the resource says what it is sorted by
    "_lastUpdated": "meta.lastUpdated", "date": "effectiveDateTime", "issued": "issued", "authored": "authoredOn",
    "collected": "collection.collectedDateTime", "birthdate": "birthDate",
}  # fmt: skip
WINDOWS = ("_lastUpdated", "issued", "authored")


# Results of one order that change at one moment, the order's or a later one, as they do when they are released
_TOGETHER = """update lab.result r set held = '{}', reportable = true,
        updated_at = o.updated_at + (o.place % 3) * interval '1 hour'
    from (select id, updated_at, row_number() over (order by id) as place from lab.lab_order) o
    where o.id = r.order_id and o.place % 4 < 3"""


def said_at(resource: dict[str, Any], name: str) -> datetime | None:
    found = [datetime.fromisoformat(one) for one in at(resource, SORTED[name])]
    if not found and name == "issued":  # what was not issued yet stands where its last change puts it
        return said_at(resource, "_lastUpdated")
    return found[0].replace(tzinfo=found[0].tzinfo or UTC) if found else None


def in_turn(resources: dict[str, dict[str, Any]], name: str, descending: bool) -> list[str]:
    """The ids in the order of what the resources say, those that say nothing last."""
    said = {id: said_at(one, name) for id, one in resources.items()}
    first = [id for id, one in said.items() if one is not None]
    last = [id for id, one in said.items() if one is None]
    first.sort(key=lambda id: (said[id], id), reverse=descending)
    return first + sorted(last, reverse=descending)


@pytest.mark.parametrize("audience", AUDIENCES)
async def test_pages_come_in_the_order_of_what_the_resources_say(database: Database, audience: Audience) -> None:
    laboratory = await found_laboratory(database)
    await Maker(laboratory, 13).make(patients=6, orders=24)
    async with database.transaction(laboratory.organization_id) as connection:
        await connection.execute(_TOGETHER)
        asking = Asking(connection, audience)
        world = await asking.world()
        for name, each in world.resources.items():
            for sort in kinds(audience)[name].sorts:
                if sort in SORTED:
                    for sign in ("", "-"):
                        found = await asking.in_pages(name, [("_sort", f"{sign}{sort}")])
                        assert found == in_turn(dict(each), sort, bool(sign)), f"{name}?_sort={sign}{sort}"
        for name in ("DiagnosticReport", "ServiceRequest"):
            for parameter in WINDOWS:
                for value in ("ge2025-12-01", "lt2026-01-03", "2026-01-02", "sa2026-01-01", "2025,2026-02", "ne2026"):
                    if parameter not in ELEMENTS[name] and parameter not in COMMON:
                        continue
                    asked = [(parameter, value)]
                    met = {id: one for id, one in world.resources[name].items() if world.meets(one, parameter, value)}
                    found = await asking.in_pages(name, asked)
                    expected = sorted(met) if value.startswith("ne") else in_turn(met, parameter, False)
                    assert found == expected, f"{name}?{parameter}={value}"
                    counted = asking.search(name, [*asked, ("_count", "0")])
                    assert (await find_page(connection, counted, audience)).total == len(met)


async def test_a_page_of_what_changed_leaves_out_nothing_and_repeats_only_what_changed_meanwhile(
    database: Database,
) -> None:
    laboratory = await found_laboratory(database)
    maker = Maker(laboratory, 17)
    await maker.make(patients=6, orders=16)
    async with database.transaction(laboratory.organization_id) as connection:
        asking = Asking(connection, Audience.EMR)
        before = set((await asking.world()).resources["DiagnosticReport"])
        search = asking.search("DiagnosticReport", [("_lastUpdated", "ge2020-01-01"), ("_count", "5")])
        first = await find_page(connection, search, Audience.EMR)
        again = str(first.matches[0].id)
        await connection.execute("update lab.lab_order set updated_at = '2036-01-01Z' where id = $1", UUID(again))
        for number in (98, 99):
            await maker._order(connection, number)
        new = set((await asking.world()).resources["DiagnosticReport"]) - before
        found, place = [str(one.id) for one in first.matches], first.after
        while place is not None:
            page = await find_page(connection, search, Audience.EMR, place)
            found, place = found + [str(one.id) for one in page.matches], page.after
        old = [id for id in found if id not in new]
        assert sorted(old) == sorted([*before, again]) and old[-1] == again


def _targets(kind: str, name: str) -> list[str]:
    field = next(each for each in kinds(Audience.EMR)[kind].parameters if each.name == name).field
    assert isinstance(field, Link)
    return list(field.targets)

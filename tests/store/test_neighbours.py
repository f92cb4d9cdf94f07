"""What a result is compared with is found by an index, among however many results there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import asyncpg
import pytest

from interface.domain.model import SpecimenFacts
from interface.store import neighbours as rows
from interface.store.db import Database
from interface.store.ids import uuid7, uuid7s
from interface.store.neighbours import Asked, Neighbours, neighbours
from interface.store.surroundings import _SPECIMENS
from tests.conftest import Organization

AT = datetime(2026, 1, 1, tzinfo=UTC)
# 200 patients with 50 days of results each, of one test: one a day is released, of which two in five are reported:
# an index of all results of a person is the dearer way to these.
FILL = """
with p as (
    insert into lab.patient (id, organization_id) select gen_random_uuid(), $1 from generate_series(1, 200) returning id
), s as (
    insert into lab.specimen (id, organization_id, barcode, type, patient_id, collected_at)
    select gen_random_uuid(), $1, 'B' || row_number() over (), 'SER', p.id, $3::timestamptz + make_interval(days => d)
    from p cross join generate_series(1, 50) d returning id, patient_id, collected_at
), r as (
    insert into lab.result (id, organization_id, natural_key, specimen_id, patient_id, test_id, version_id, status,
                            released_at, reportable, effective_at)
    select id, $1, uuid_send(id), v.id_, patient_id, $2, version_id, 'final', now(),
           extract(day from collected_at)::int % 5 in (2, 3), collected_at
    from (select v.version_id, v.id as id_, v.patient_id, v.collected_at, gen_random_uuid() as id from (
              select gen_random_uuid() as version_id, s.id, s.patient_id, s.collected_at from s) v) v
    returning id, version_id, effective_at
)
insert into lab.result_version (id, organization_id, result_id, status, kind, number, value, unit, actor_kind)
select version_id, $1, id, 'final', 'numeric', extract(day from effective_at), extract(day from effective_at)::text,
       'mmol/L', 'link' from r
"""


# Organizations that have next to nothing: of any one the planner then expects as little.
SMALL = """
with o as (
    insert into lab.organization (id, name) select gen_random_uuid(), 'Small ' || gen_random_uuid()
    from generate_series(1, 1000) returning id
), r as (select o.id as organization_id, gen_random_uuid() as id, gen_random_uuid() as patient_id from o)
insert into lab.result (id, organization_id, natural_key, specimen_id, patient_id, test_id, version_id, status,
                        released_at, reportable, effective_at)
select id, organization_id, uuid_send(id), id, patient_id, id, id, 'final', now(), true, $1 from r
"""


REMOVED = """
with o as (delete from lab.organization where name like 'Small %' returning id)
delete from lab.result r using o where r.organization_id = o.id
"""


async def _as_replica(owner: asyncpg.Connection[asyncpg.Record], statement: str, *arguments: object) -> None:
    """Without triggers and references."""
    await owner.execute("set session_replication_role = replica")
    await owner.execute(statement, *arguments)
    await owner.execute("set session_replication_role = origin")


@pytest.fixture(params=[False, True], ids=["alone", "beside-many-small-organizations"])
async def beside(request: pytest.FixtureRequest, owner: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[bool]:
    there: bool = request.param
    if there:
        await _as_replica(owner, SMALL, AT)
    yield there
    if there:
        await _as_replica(owner, REMOVED)
        await owner.execute("analyze lab.result")


async def test_the_neighbours_of_a_specimen_are_found_by_index_among_many_results(
    beside: bool, database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    test_id = uuid7()
    await owner.execute(
        "insert into lab.test (id, organization_id, code, name) values ($1, $2, 'NA', 'Sodium')",
        test_id,
        organization.id,
    )
    await _as_replica(owner, FILL, organization.id, test_id, AT)
    await owner.execute("analyze lab.result, lab.result_version, lab.specimen")
    patient_id = await owner.fetchval(
        "select patient_id from lab.result where organization_id = $1 limit 1", organization.id
    )
    facts = SpecimenFacts(str(uuid7()), "N", "SER", AT + timedelta(days=11, hours=1), person=(str(patient_id),))
    others = replace(facts, id=str(uuid7()), type="UR")
    when = AT + timedelta(days=11, hours=1)
    asked = [Asked(one, {str(test_id): when}) for one in (facts, others)]
    reads = database.by_index if beside else database.organization
    async with reads(organization.id) as connection:
        found = await neighbours(connection, asked)
        near = found[facts.id][str(test_id)]
        assert near.previous is not None
        assert near.later is not None
        assert (near.previous.at, near.later.at) == (AT + timedelta(days=11), AT + timedelta(days=12))
        assert (near.previous.value.text, near.later.value.text, near.previous.unit) == ("12", "13", "mmol/L")
        assert others.id not in found
        # Where the newest of all is before it, nothing is after it.
        last = replace(facts, id=str(uuid7()))
        after = AT + timedelta(days=90)
        found = await neighbours(connection, [Asked(last, {str(test_id): after}), *asked])
        newest = await owner.fetchval(
            "select max(effective_at) from lab.result where reportable and patient_id = $1", patient_id
        )
        both = [near for of in found.values() for near in of.values()]
        assert [(near.previous and near.previous.at, near.later and near.later.at) for near in both] == [
            (newest, None), (AT + timedelta(days=11), AT + timedelta(days=12)),
        ]  # fmt: skip
        # Of the newest one's own specimen, the one before it.
        own_id = await owner.fetchval(
            "select specimen_id from lab.result where patient_id = $1 and effective_at = $2", patient_id, newest
        )
        found = await neighbours(connection, [Asked(replace(last, id=str(own_id)), {str(test_id): after})])
        (near,) = found[str(own_id)].values()
        assert near.previous is not None and near.previous.at < newest
        newest_plan = await connection.fetch(
            "explain (costs off) " + rows._NEWEST, [0], [patient_id], [1], [1], [test_id]
        )
        plan = await connection.fetch(
            "explain (costs off) " + rows._NEIGHBOURS, [patient_id], [UUID(facts.id)], [when], ["SER"], [None], [1],
            [1], [test_id],
        )  # fmt: skip
        own = UUID(near.previous.version_id)
        alone = await connection.fetch("explain (costs off) " + rows._VALUE, [own], own, own)
    async with database.by_index(organization.id) as connection:
        whole = await connection.fetch("explain (costs off) " + rows._ALL, [0], [patient_id], [18])
        locked = await connection.fetch("explain (costs off) " + _SPECIMENS, ["B1"], [own_id])
        values = await connection.fetch("explain (analyze, costs off) " + rows._VALUES, [own], [own], [2])
    text = "\n".join(row[0] for row in locked)
    assert [line for line in text.splitlines() if "Filter" in line and "ANY" in line] == [], text
    assert "result_previous_idx" in "\n".join(row[0] for row in newest_plan)
    text = "\n".join(row[0] for row in plan)
    assert text.count("result_previous_idx") == 2
    assert "Seq Scan on result " not in text
    text = "\n".join(row[0] for row in alone)
    assert "Seq Scan" not in text
    assert text.count("result_version_") == 2  # one partition and its index: the others are left out
    text = "\n".join(row[0] for row in whole)
    assert "result_previous_idx" in text, text
    assert "Bitmap" not in text, text  # two indexes, of which one leads to all that the organization has
    assert "Sort" not in text.split("Limit")[1], text  # it ends after so many
    text = "\n".join(row[0] for row in values)
    assert "Seq Scan" not in text
    read = [line for line in text.splitlines() if "result_version_" in line and "never executed" not in line]
    assert len(read) == 1
    assert "Index Scan" in read[0]  # which ends after so many


# One specimen and what was measured on it; `made` of each test: the version's id, and whether it is the one reported.
ONE_SPECIMEN = """
with s as (
    insert into lab.specimen (id, organization_id, barcode, type, time_point_min, patient_id, collected_at)
    values ($2, $1, $2::uuid::text, $4, $5, $3, $6)
), r as (
    insert into lab.result (id, organization_id, natural_key, specimen_id, patient_id, test_id, version_id, status,
                            released_at, reportable, effective_at)
    select version, $1, uuid_send(version), $2, $3, test, version, 'final', now(), reportable, $6
    from unnest($7::uuid[], $8::uuid[], $9::boolean[]) as made (test, version, reportable)
)
insert into lab.result_version (id, organization_id, result_id, status, kind, number, value, unit, actor_kind)
select version, $1, version, 'final', 'numeric', place, place::text, 'mmol/L', 'link'
from unnest($8::uuid[]) with ordinality as made (version, place)
"""


async def _filled(
    owner: asyncpg.Connection[asyncpg.Record], organization_id: UUID, tests: list[UUID], person: list[UUID], many: int
) -> list[Asked]:
    """A person with so many specimens of before; questions for each test at times before, between and after them, as
    of specimens that are not there and of one that is."""
    chance = Random(many)  # noqa: S311
    asked = []
    for patient_id in person:
        await owner.execute(
            "insert into lab.patient (id, organization_id) values ($1, $2)", patient_id, organization_id
        )
    for at, day in enumerate(chance.sample(range(many), many)):
        type_, point, id_ = chance.choice(["SER", "SER", "SER", "UR"]), chance.choice([None, None, 30]), uuid7()
        when = AT + timedelta(days=day)
        made = chance.sample(tests, chance.randrange(1, len(tests) + 1))
        versions = uuid7s(len(made)) if at % 2 else [uuid7(chance.randrange(10**12)) for _ in made]
        reportable = [chance.random() < 0.8 for _ in made]
        await owner.execute(
            ONE_SPECIMEN, organization_id, id_, chance.choice(person), type_, point, when, made, versions, reportable
        )
        times = {str(test): when + timedelta(hours=1) for test in tests}
        facts = SpecimenFacts(str(uuid7()), "N", "SER", when, person=tuple(map(str, person)))
        asked += [Asked(facts, times), Asked(replace(facts, id=str(id_), type=type_, time_point_min=point), times)]
    last = {str(test): AT + timedelta(days=many, hours=at % 2) for at, test in enumerate(tests)}
    return [*asked, Asked(SpecimenFacts(str(uuid7()), "N", "SER", person=tuple(map(str, person))), last)]


async def test_what_is_read_at_once_of_a_person_is_what_is_found_test_by_test(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    tests = [uuid7() for _ in range(8)]
    await owner.executemany(
        "insert into lab.test (id, organization_id, code, name) values ($1, $2, $3, '')",
        [(test_id, organization.id, f"T{at}") for at, test_id in enumerate(tests)],
    )
    await owner.execute("set session_replication_role = replica")
    asked: list[Asked] = []
    for records, many in ((1, 0), (1, 1), (1, 2), (2, 3), (1, 12), (3, 12)):
        asked += await _filled(owner, organization.id, tests, [uuid7() for _ in range(records)], many)
    await owner.execute("set session_replication_role = origin")
    async with database.by_index(organization.id) as connection:
        found = await neighbours(connection, asked)
        by_test: dict[str, dict[str, Neighbours]] = {}
        for test_id in map(str, tests):
            alone = [Asked(one.specimen, {test_id: one.times[test_id]}) for one in asked]
            for specimen_id, near in (await neighbours(connection, alone)).items():
                by_test.setdefault(specimen_id, {}).update(near)
    assert found == by_test
    every = [one for of in found.values() for one in of.values()]
    assert {(one.previous is None, one.later is None) for one in every} == {
        (True, False),
        (False, True),
        (False, False),
    }

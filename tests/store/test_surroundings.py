"""What a result is compared with is found by an index, among however many results there are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from interface.domain.model import SpecimenFacts
from interface.store import surroundings
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.surroundings import Asked
from tests.conftest import Organization

AT = datetime(2026, 1, 1, tzinfo=UTC)
# 200 patients with 50 days of results each, of one test: one a day is released, every fifth is not the one reported.
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
           extract(day from collected_at)::int % 5 <> 0, collected_at
    from (select v.version_id, v.id as id_, v.patient_id, v.collected_at, gen_random_uuid() as id from (
              select gen_random_uuid() as version_id, s.id, s.patient_id, s.collected_at from s) v) v
    returning id, version_id, effective_at
)
insert into lab.result_version (id, organization_id, result_id, status, kind, number, value, unit, actor_kind)
select version_id, $1, id, 'final', 'numeric', extract(day from effective_at), extract(day from effective_at)::text,
       'mmol/L', 'link' from r
"""


async def test_the_neighbours_of_a_specimen_are_found_by_index_among_many_results(
    database: Database, owner: asyncpg.Connection[asyncpg.Record], organization: Organization
) -> None:
    test_id = uuid7()
    await owner.execute(
        "insert into lab.test (id, organization_id, code, name) values ($1, $2, 'NA', 'Sodium')",
        test_id,
        organization.id,
    )
    await owner.execute("set session_replication_role = replica")
    await owner.execute(FILL, organization.id, test_id, AT)
    await owner.execute("set session_replication_role = origin")
    await owner.execute("analyze lab.result, lab.result_version, lab.specimen")
    patient_id = await owner.fetchval(
        "select patient_id from lab.result where organization_id = $1 limit 1", organization.id
    )
    facts = SpecimenFacts(str(uuid7()), "N", "SER", AT + timedelta(days=11, hours=1), person=(str(patient_id),))
    others = replace(facts, id=str(uuid7()), type="UR")
    asked = [Asked(one, str(test_id), AT + timedelta(days=11, hours=1)) for one in (facts, others)]
    async with database.organization(organization.id) as connection:
        found = await surroundings.neighbours(connection, asked)
        near = found[facts.id, str(test_id)]
        assert near.previous is not None
        assert near.later is not None
        assert (near.previous.at, near.later.at) == (AT + timedelta(days=11), AT + timedelta(days=12))
        assert (near.previous.value.text, near.later.value.text, near.previous.unit) == ("12", "13", "mmol/L")
        assert (others.id, str(test_id)) not in found
        # Where the newest of all is before it, nothing is after it.
        last = replace(facts, id=str(uuid7()))
        after = AT + timedelta(days=90)
        found = await surroundings.neighbours(connection, [Asked(last, str(test_id), after), *asked])
        newest = await owner.fetchval(
            "select max(effective_at) from lab.result where reportable and patient_id = $1", patient_id
        )
        assert [(near.previous and near.previous.at, near.later and near.later.at) for near in found.values()] == [
            (newest, None), (AT + timedelta(days=11), AT + timedelta(days=12)),
        ]  # fmt: skip
        # Of the newest one's own specimen, the one before it.
        own_id = await owner.fetchval(
            "select specimen_id from lab.result where patient_id = $1 and effective_at = $2", patient_id, newest
        )
        found = await surroundings.neighbours(connection, [Asked(replace(last, id=str(own_id)), str(test_id), after)])
        (near,) = found.values()
        assert near.previous is not None and near.previous.at < newest
        newest_plan = await connection.fetch(
            "explain (costs off) " + surroundings._NEWEST, [0], [patient_id], [1], [1], [0], [test_id]
        )
        plan = await connection.fetch(
            "explain (costs off) " + surroundings._NEIGHBOURS, [patient_id], [UUID(facts.id)], [asked[0].at], ["SER"],
            [None], [1], [1], [0], [test_id],
        )  # fmt: skip
        own = UUID(near.previous.version_id)
        values = await connection.fetch("explain (costs off) " + surroundings._VALUES, [own], own, own)
    assert "result_previous_idx" in "\n".join(row[0] for row in newest_plan)
    text = "\n".join(row[0] for row in plan)
    assert text.count("result_previous_idx") == 2
    assert "Seq Scan on result " not in text
    text = "\n".join(row[0] for row in values)
    assert "Seq Scan" not in text
    assert text.count("result_version_") == 2  # one partition and its index: the others are left out

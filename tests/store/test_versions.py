"""Whose a version is: told by its own id or by the index of later ones, also of what was there before that was so."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from interface.flow import trace
from interface.store import evidence, lab, migrate, reports, surroundings
from interface.store.db import open_connection
from interface.store.ids import uuid7
from interface.store.versions import last_version, versions_of
from tests.flow.laboratory import laboratory

_RESULT = """
insert into lab.result (id, organization_id, natural_key, version_id, version, status)
select result_id, organization_id, uuid_send(result_id), id, version, 'final' from lab.result_version
where result_id = $1 order by version desc limit 1
"""
_VERSION = """
insert into lab.result_version (id, organization_id, result_id, version, status, kind, actor_kind)
select $2, id, $1, $3, 'final', 'numeric', 'link' from lab.organization
"""
# By what they take; those of the whole program that ask for versions by their result, and are asked often.
_READS = {
    "uuid": (
        f"select * from {versions_of('= $1')} v",  # noqa: S608 - names of ours
        f"select {last_version('r.id', 'r.version')} from lab.result r where r.id = $1",  # noqa: S608 - names of ours
        f"{lab._HISTORY} r.id = $1 order by v.version",
    ),
    "uuid[]": (
        trace._VERSIONS,
        surroundings._RESULTS,
        reports._RELEASERS,
        evidence._PROVENANCE.format(visible="true", prior="true", before=versions_of("= v.result_id")),
    ),
}


async def test_no_read_of_a_results_versions_goes_through_them_all(founded_url: str) -> None:
    async with laboratory(founded_url) as found:
        async with found.owner.transaction():
            await found.owner.execute("set local session_replication_role = replica")
            await found.owner.execute(
                """insert into lab.result_version (id, organization_id, result_id, version, status, kind, actor_kind)
                   select case n when 1 then made.id else gen_random_uuid() end, $1, made.id, n, 'final', 'text', 'link'
                   from (select gen_random_uuid() as id, k from generate_series(1, 10000) k) made
                   cross join lateral generate_series(1, case when k % 50 = 0 then 2 else 1 end) n""",
                found.organization_id,
            )
            await found.owner.execute(
                """insert into lab.result (id, organization_id, natural_key, version_id, version, status, specimen_id)
                   select distinct on (result_id) result_id, organization_id, uuid_send(result_id), id, version,
                          'final', gen_random_uuid()
                   from lab.result_version order by result_id, version desc"""
            )
        await found.owner.execute("analyze lab.result, lab.result_version")
        async with found.database.organization(found.organization_id) as connection:
            await connection.execute("set plan_cache_mode = force_generic_plan")
            for argument, reads in _READS.items():
                value = "gen_random_uuid()" if argument == "uuid" else "array[gen_random_uuid(), gen_random_uuid()]"
                for read in reads:
                    await connection.execute(f"prepare versions ({argument}) as {read}")
                    rows = await connection.fetch(f"explain execute versions ({value})")
                    await connection.execute("deallocate versions")
                    plan = "\n".join(row[0] for row in rows)
                    assert not re.search(r"Seq Scan on result(_version_default)? ", plan), plan


async def test_versions_from_before_are_found_and_those_of_one_result_only(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "TARGET", "0044")
    await migrate.upgrade(empty_url)
    connection = await open_connection(empty_url)
    await connection.execute("insert into lab.organization (id, name) values ($1, 'one')", uuid7())
    before, now = uuid7(), uuid7()
    made: dict[UUID, list[UUID]] = {before: [uuid7(), uuid7()], now: [now, uuid7(), uuid7()]}
    for of in (before, now):
        for number, each in enumerate(made[of], 1):
            await connection.execute(_VERSION, of, each, number)
        await connection.execute(_RESULT, of)
        monkeypatch.undo()
        await migrate.upgrade(empty_url)
    newest = f"select {last_version('r.id', 'r.version')} from lab.result r where r.id = $1"  # noqa: S608 - names of ours
    versions = f"select id from {versions_of('= $1')} v order by version"  # noqa: S608 - names of ours
    for of, ids in made.items():
        assert [row["id"] for row in await connection.fetch(versions, of)] == ids
        assert await connection.fetchval(newest, of) == len(ids)
        assert not await connection.fetch(versions, ids[-1]), "a version's id is no result's"
    several = f"select id from {versions_of('= any($1)')} v"  # noqa: S608 - names of ours
    both = await connection.fetch(several, [before, now])
    assert {row["id"] for row in both} == {each for ids in made.values() for each in ids}
    await connection.close()

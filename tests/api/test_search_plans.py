"""The plans of the searches that EMRs ask all day, as the pool for reading makes them: once, whatever the values."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from interface.api.fhir.search import Reader, Search
from interface.api.fhir.types import TYPES
from interface.domain.permissions import Restriction
from interface.domain.search import All
from interface.domain.views import Audience
from interface.flow.exporting import PAGE, walking
from interface.store import db
from interface.store.db import Connection, Database, Use
from interface.store.schema import APP_ROLE
from interface.store.search.engine import (
    Covered,
    Kind,
    Order,
    Place,
    Rows,
    Statement,
    TooCostly,
    find_places,
    find_together,
    form_of,
)
from interface.store.search.kinds import kinds
from tests.api.bench import Laboratory, found_laboratory
from tests.cluster import administer, owner_of, with_database
from tests.lasting import Lasting, Lender

READER = Reader(kinds(Audience.EMR), {name: (Restriction(),) for name in TYPES}, "http://lab", datetime.now(UTC))
PATIENTS, RESULTS, FEW = 2000, 8_000, 50
ID = "01a21824-a424-7760-a1f0-3ef051021a2d"
_MERGED = r"Merge Append(?s:.*)result_organization_id_updated_at"  # orders and results in one order of time
HOT = {
    "Observation?patient={id}&category=laboratory&date=ge2026-01-01&date=lt2026-06-01": "patient_id",
    "Observation?patient={id}&category=laboratory&_sort=-date": "patient_id",
    "Observation?patient={id}&code=http://loinc.org|718-7": "patient_id",
    "Observation?patient.identifier=urn:hospital|M-7": "patient_id",
    "Observation?specimen=Specimen/{id}": "specimen_id",
    "Observation?_id={id}": "result_pkey",
    "Observation?based-on=ServiceRequest/{id}": "result_order_id",
    "Observation?_lastUpdated=gt2026-01-01&_sort=_lastUpdated": "organization_id_updated_at",
    "Observation?category=laboratory": "result_pkey",
    "DiagnosticReport?patient={id}&category=LAB": "lab_order_patient_id",
    "ServiceRequest?patient={id}&category=108252007": "patient_id",
    "ServiceRequest?identifier=urn:labora:order|N-7": "lab_order_organization_id_number",
    "ServiceRequest?patient={id}&authored=ge2026-01-01": "patient_id",
    "ServiceRequest?requester=Practitioner/{id}": "lab_order_requester_id",
    "ServiceRequest?_lastUpdated=gt2026-01-01&_sort=_lastUpdated": "lab_order_organization_id_updated_at",
    "DiagnosticReport?patient={id}&date=ge2026-01-01": "lab_order_patient_id",
    "DiagnosticReport?_lastUpdated=gt2026-01-01&_sort=_lastUpdated": _MERGED,
    "DiagnosticReport?_lastUpdated=gt2026-01-01": _MERGED,
    "DiagnosticReport?_lastUpdated=lt2036-01-01": _MERGED,
    "DiagnosticReport?issued=ge2026-01-01&issued=lt2036-01-01": _MERGED,
    "DiagnosticReport?issued=ge2026-01-01&status=partial": _MERGED,
    "DiagnosticReport?_sort=-_lastUpdated": _MERGED,
    "DiagnosticReport?_sort=-issued": _MERGED,
    "DiagnosticReport?status=partial": "lab_order_pkey|lab_order_organization_id_id",
    "Observation?_lastUpdated=gt2026-01-01": "organization_id_updated_at",
    "Specimen?_lastUpdated=gt2026-01-01": "specimen_organization_id_updated_at",
    "ServiceRequest?_lastUpdated=gt2026-01-01": "lab_order_organization_id_updated_at",
    "ServiceRequest?authored=gt2026-01-01": "lab_order_organization_id_ordered_at",
    "ServiceRequest?_sort=-authored": "lab_order_organization_id_ordered_at",
    "Patient?_lastUpdated=gt2026-01-01": "patient_organization_id_updated_at",
    "AuditEvent?date=gt2026-01-01": "Merge Append(?s:.*)audit_event_default_organization_id_at",
    "AuditEvent?_sort=-date": "Merge Append(?s:.*)audit_event_default_organization_id_at",
    "ServiceRequest?identifier=urn:emr|N-7": "placer_order_organization_id",
    "Specimen?patient={id}": "specimen_patient_id",
    "Specimen?_lastUpdated=gt2026-01-01&_sort=_lastUpdated": "specimen_organization_id_updated_at",
    "Patient?_lastUpdated=gt2026-01-01&_sort=_lastUpdated": "patient_organization_id_updated_at",
    "Patient?identifier=urn:hospital|M-7": "patient_identifier",
    "Patient?family=Must&given=Ev": "patient_word",
    "Patient?family:exact=Muster": "patient_word",
    "Patient?birthdate=1980-05-01": "patient_organization_id_birth_date",
    "Patient?_id={id}": "patient",
    "AuditEvent?patient={id}": "organization_id_entity_id",
    "AuditEvent?entity=Observation/{id}&_sort=-date": "organization_id_entity_id",
}
BY_KEY = {  # with what of a result
    "Patient?_id={id}": "patient_id",
    "Observation?_id={id}": "id",
    "Observation?patient={id}&category=laboratory&date=ge2026-01-01&date=lt2026-06-01": "patient_id",
    "Observation?patient={id}&category=laboratory&_sort=-date": "patient_id",
    "Specimen?patient={id}": "patient_id",
}
_IN_ORDER = (
    "_lastUpdated|issued|authored=gt|_sort=-authored|AuditEvent.(date|_sort)|status=partial|Observation.category"
)
WALKS = frozenset(query for query in HOT if re.search(_IN_ORDER, query))
_FILL = (
    """insert into lab.patient (id, organization_id, family, given)
       select gen_random_uuid(), $1, 'F' || n, 'G' || n from generate_series(1, $2::int) n""",
    """insert into lab.patient_identifier (id, organization_id, patient_id, authority, value)
       select gen_random_uuid(), $1, id, 'urn:hospital', 'M-' || family from lab.patient where organization_id = $1
       and $2 > 0""",
    """insert into lab.patient_word (organization_id, patient_id, word, part)
       select $1, id, lower(family), 'family' from lab.patient where organization_id = $1 and $2 > 0""",
    """insert into lab.lab_order (id, organization_id, number, patient_id, ordered_at, updated_at)
       select gen_random_uuid(), $1, 'N-' || p.family || '-' || n, p.id, t.at, t.at + interval '1 minute'
       from (select *, '2026-02-01Z'::timestamptz + row_number() over () * interval '5 minutes' as at
             from lab.patient where organization_id = $1 and $2 > 0) p,
           generate_series(1, 2) n, lateral (select p.at + n * interval '1 second' as at) t""",
    """insert into lab.specimen (id, organization_id, barcode, order_id, patient_id, collected_at)
       select gen_random_uuid(), $1, o.number, o.id, o.patient_id, now()
       from lab.lab_order o where o.organization_id = $1 and $2 > 0""",
    """insert into lab.order_item (id, organization_id, order_id, test_id, specimen_id)
       select gen_random_uuid(), $1, s.order_id, t.id, s.id from lab.specimen s, lab.test t
       where s.organization_id = $1 and t.organization_id = $1 and t.code in ('HGB', 'WBC', 'PLT') and $2 > 0""",
    """with made as (
           select gen_random_uuid() as id, gen_random_uuid() as version, s.id as specimen, s.patient_id, s.order_id,
                  o.updated_at + case when o.number like '%7-1' and n = 1 then interval '1 day' else '0' end as at
           from lab.specimen s join lab.lab_order o on o.id = s.order_id, generate_series(1, $2::int / 4000) n
           where s.organization_id = $1
       ), versions as (
           insert into lab.result_version (id, organization_id, result_id, status, kind, test_code, loinc, actor_kind)
           select version, $1, id, 'final', 'text', 'HGB', '718-7', 'link' from made
       )
       insert into lab.result (id, organization_id, natural_key, version_id, status, patient_id, specimen_id, order_id,
                               updated_at)
       select id, $1, uuid_send(id), version, 'final', patient_id, specimen, order_id, at from made""",
    """insert into lab.audit_event (id, organization_id, at, actor_kind, action, entity_kind)
       select gen_random_uuid(), $1, '2026-01-02Z'::timestamptz + n * interval '1 minute', 'client', 'read', 'Patient'
       from generate_series(1, $2::int) n""",
)


@pytest.fixture(scope="module")
async def own_url(cluster_url: str, template: str) -> AsyncIterator[str]:
    """A database for these tests alone: a plan hangs on all that is in the tables, of whichever laboratory."""
    name = f"plans_{uuid4().hex}"
    await administer(cluster_url, f"create database {name} template {template}")
    yield with_database(cluster_url, name, APP_ROLE)
    await administer(cluster_url, f"drop database {name} with (force)")


@pytest.fixture(scope="module")
async def lender(own_url: str) -> AsyncIterator[Lender]:
    lender = Lender(own_url)
    yield lender
    lender.terminate()


@pytest.fixture(scope="module")
async def owner(own_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(owner_of(own_url))
    await db.prepare(connection)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def filled(lender: Lender) -> AsyncIterator[Laboratory]:
    """A laboratory with patients and results, which these tests read."""
    database = Lasting(lender)
    laboratory = await found_laboratory(database)
    async with database.transaction(laboratory.organization_id) as connection:
        for place, text in enumerate(_FILL):
            await connection.execute(text, laboratory.organization_id, RESULTS if place == 6 else PATIENTS)
    yield laboratory
    await database.close()


async def think(owner: asyncpg.Connection[asyncpg.Record], laboratories: int) -> None:
    """How many laboratories the planner is to think there are; of many it thinks the one of `filled` small."""
    for name in ("patient", "patient_identifier", "patient_word", "lab_order", "specimen", "order_item", "result",
                 "result_version", "audit_event"):  # fmt: skip
        await owner.execute(f"alter table lab.{name} alter column organization_id set (n_distinct = {laboratories})")
        await owner.execute(f"analyze lab.{name}")


def literal(value: object) -> str:
    if isinstance(value, list):
        return "'{" + ",".join(map(str, value)) + "}'"
    return str(value) if isinstance(value, int) else f"'{value}'"


def searched(query: str) -> Search:
    kind, _, text = query.partition("?")
    return READER.search(kind, [tuple(one.split("=", 1)) for one in text.split("&")], strict=True)  # type: ignore[misc]


async def plan(
    connection: Connection, query: str, after: Place | None, id: object = ID, analyze: bool = False, limit: int = 26
) -> str:
    search = searched(query.format(id=id))
    statement, known = Statement(kinds(Audience.EMR)), kinds(Audience.EMR)[search.kind]
    made = statement.page(Rows(search.kind, search.where), search.order, after, limit, known.cover)
    await connection.execute(f"prepare hot as {made}")
    values = f"({', '.join(map(literal, statement.values))})" if statement.values else ""
    how = "explain (analyze, timing off)" if analyze else "explain"
    rows = await connection.fetch(f"{how} execute hot{values}")
    await connection.execute("deallocate hot")
    return "\n".join(row[0] for row in rows)


def unwanted(found: str) -> list[int]:
    """How many rows each scan read and threw away."""
    return [int(one) for one in re.findall(r"Rows Removed by \w+: (\d+)", found)]


async def test_hot_searches_follow_an_index(
    database: Database, filled: Laboratory, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await think(owner, 1)
    wrong = []
    async with database.searching(filled.organization_id) as connection:
        patient = await connection.fetchval("select patient_id from lab.result order by id limit 1")
        await connection.execute("set enable_seqscan = off")  # of tables as small as these it would read some whole
        for query, index in HOT.items():
            keys = ("2026-01-01",) * len(searched(query.format(id=ID)).order.by)
            for after in (None, Place(keys, UUID(ID))):
                found = await plan(connection, query, after)
                # the few that are asked for are found first, not left over on a walk along all there are
                first = query in WALKS or "CTE m" in found
                if "Seq Scan" in found or not re.search(index, found) or not first:
                    wrong.append(f"{query}\n{found}")
            found = await plan(connection, query, None, patient, analyze=True)
            removed = unwanted(found)
            if max(removed, default=0) > FEW:
                wrong.append(f"{query} reads {max(removed)} rows that are not wanted\n{found}")
        await connection.execute("reset all")
    assert not wrong, "\n\n".join(wrong)


async def test_what_changed_since_is_counted_among_what_did(
    database: Database, filled: Laboratory, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await think(owner, 1)
    async with database.searching(filled.organization_id) as connection:
        await connection.execute("set enable_seqscan = off")
        for parameter in ("_lastUpdated", "issued"):
            search, statement = searched(f"DiagnosticReport?{parameter}=ge2026-02-08"), Statement(kinds(Audience.EMR))
            text = statement.select(Rows(search.kind, search.where), "count(*)")
            rows = await connection.fetch(f"explain (analyze, timing off) {text}", *statement.values)
            found = "\n".join(row[0] for row in rows)
            for index in ("result_organization_id_updated_at", "lab_order_organization_id_updated_at"):
                assert index in found, found
            assert "Seq Scan" not in found and max(unwanted(found), default=0) <= FEW, found
        await connection.execute("reset all")


async def test_an_export_reads_its_pages_along_the_index(
    database: Database, filled: Laboratory, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await think(owner, 1)
    after = Place(("2026-02-03",), UUID(ID))
    async with walking(database, filled.organization_id) as connection:
        found = await plan(connection, "DiagnosticReport?_sort=_lastUpdated", after, limit=PAGE)
    assert "Seq Scan" not in found and re.search(_MERGED, found), found


async def test_what_is_asked_for_by_its_key_is_read_alone_in_however_small_a_laboratory(
    database: Database, filled: Laboratory, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    """It may not be small: the planner knows how many there are of each on average only."""
    await think(owner, 100)
    async with database.searching(filled.organization_id) as connection:
        ids = await connection.fetchrow("select patient_id, id from lab.result order by id limit 1")
        assert ids is not None
        for query, id in BY_KEY.items():
            found = await plan(connection, query, None, ids[id], analyze=True)
            removed = unwanted(found)
            assert max(removed, default=0) <= FEW, f"{query}\n{found}"
            # of a page each row looks up what it shows: no table is read whole to be joined, however small
            assert not re.search(r"(Hash|Merge) Join|Seq Scan on (specimen|result|patient) ", found), found


async def test_no_more_is_looked_up_than_fills_the_page(
    database: Database, filled: Laboratory, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await think(owner, 1)
    query = "Observation?patient={id}&category=laboratory&date=ge2020-01-01&code=http://loinc.org|718-7"
    async with database.searching(filled.organization_id) as connection:
        patient = await connection.fetchval(
            "select patient_id from lab.result group by patient_id having count(*) > 3 limit 1"
        )
        found = await plan(connection, query, None, patient, analyze=True, limit=2)
    times = [int(one) for one in re.findall(r"on (?:specimen|result_version_\w+) .*loops=(\d+)\)", found)]
    assert times and max(times) <= 2, found


async def test_searches_that_share_a_statement_read_what_is_each_ones_alone(
    database: Database, filled: Laboratory, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await think(owner, 100)
    async with database.searching(filled.organization_id) as connection:
        some = await connection.fetch("select distinct patient_id from lab.result limit 4")
        for query in HOT:
            if not query.startswith("Observation?patient={id}"):
                continue
            pages = [covered(query.format(id=row["patient_id"])) for row in some]
            form = form_of(pages[0])
            assert form is not None and {form_of(page) for page in pages} == {form}
            alone = [[tuple(row) for row in (await page.find(connection))[0]] for page in pages]
            together = await find_together(connection, form, [page.values for page in pages])
            both = zip(pages, together, strict=True)
            assert [[tuple(row)[:-1] for row in page.page(rows)[0]] for page, rows in both] == alone
            await connection.execute(f"prepare hot as {form.text}")
            values = ", ".join(literal([one[0] if isinstance(one, list) else one for one in each])
                               for each in zip(*(page.values for page in pages), strict=True))  # fmt: skip
            rows = await connection.fetch(f"explain (analyze, timing off) execute hot ({values})")
            await connection.execute("deallocate hot")
            found = "\n".join(row[0] for row in rows)
            removed = unwanted(found)
            assert max(removed, default=0) <= FEW, f"{query}\n{found}"
            assert not re.search(r"(Hash|Merge) Join|Seq Scan on (specimen|result|patient) ", found), found


async def test_a_laboratory_is_read_by_its_key_however_many_there_are(
    database: Database, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    laboratory = await found_laboratory(database)
    page, many = covered(f"Observation?patient={ID}"), owner.transaction()
    settings = db.session_settings(APP_ROLE, laboratory.organization_id) | db._SETTINGS[Use.SEARCH]
    await many.start()
    try:
        await owner.execute(
            "insert into lab.organization (id, name) select gen_random_uuid(), 'one of many ' || n"
            " from generate_series(1, 150) n"
        )
        await owner.execute("analyze lab.organization")
        for name, value in settings.items():
            await owner.execute("select set_config($1, $2, true)", name, value)
        rows = await owner.fetch(f"explain {page.text}", *page.values)
    finally:
        await many.rollback()
    found = "\n".join(row[0] for row in rows)
    assert "organization_pkey" in found, found
    assert "Seq Scan on organization" not in found, found


def covered(query: str) -> Covered:
    search = searched(query)
    return Covered.of(kinds(Audience.EMR), Rows(search.kind, search.where), search.order, None, 25)


async def test_the_pool_for_reading_writes_nothing_and_plans_once(database: Database) -> None:
    laboratory = await found_laboratory(database)
    async with database.searching(laboratory.organization_id) as connection:
        assert await connection.fetchval("show plan_cache_mode") == "force_generic_plan"
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("delete from lab.queue")
        assert await connection.fetchval("select name from lab.organization") == laboratory.name


async def test_a_search_that_takes_too_long_is_stopped(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert db._SETTINGS[Use.SEARCH]["statement_timeout"] == str(int(db.SEARCH_TIMEOUT_S * 1000))
    monkeypatch.setitem(db._SETTINGS, Use.SEARCH, {"statement_timeout": "50"})
    made = await Database.connect(database_url)
    try:
        slow = Kind("Slow", "(select gen_random_uuid() as id, pg_sleep(30)) t", "t.id", "now()", ())
        async with made.searching(UUID(ID)) as connection:
            with pytest.raises(TooCostly):
                await find_places(connection, {"Slow": slow}, Rows("Slow", All()), Order(), None, 1)
            assert await connection.fetchval("select 1") == 1
    finally:
        await made.close()

"""People for a measurement, straight into the tables: a specimen that waits for its results, and results of before.

Only the tables that deciding reads are filled, by the database itself: what is measured afterwards is the daemon, not
the making. Ids follow the time of what they name, as those that are made one by one do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from tests.bench.messages import ANALYTES

AGO = timedelta(days=20)  # when the results that the measured ones are compared with were released
APART = timedelta(seconds=90)  # two people whose results are stored already

_ID = """
create or replace function bench_id(ms text, key text) returns uuid language sql immutable as $$
    select (ms || overlay(overlay(substr(md5(key), 1, 20) placing '7' from 1) placing '8' from 5))::uuid $$
"""
_MS = "lpad(to_hex((extract(epoch from {}) * 1000)::bigint), 12, '0')"
_PEOPLE = f"""
create unlogged table bench_people as
select n, barcode, at, ms, now_ms, bench_id(now_ms, 'p' || $2 || lpad(person::text, 8, '0')) as patient,
       n = person as new,
       bench_id(now_ms, 'o' || barcode) as lab_order,
       bench_id(now_ms, 's' || barcode) as specimen, bench_id(ms, 'f' || barcode) as former,
       bench_id(ms, 'g' || barcode) as former_order, bench_id(ms, 'm' || barcode) as message,
       ms || '7' || substr(digest, 1, 3) || '8' || substr(digest, 4, 11) as stem,
       substr((barcode || '-  ')::bytea, 1, 12) || substr(sha256(barcode::bytea), 1, 14) as natural_stem
from generate_series(1, $1::int) as n,
     lateral (select (n - 1) % greatest(1, $1 / $5::int) + 1 as person) p,
     lateral (select $2 || lpad(n::text, 8, '0') as barcode, $3::timestamptz - ($1 - n) * $4::interval as at) a,
     lateral (select {_MS.format("at")} as ms, {_MS.format("now()")} as now_ms, md5(barcode) as digest) b
"""  # noqa: S608 - words of ours
_PATIENTS = (
    """insert into lab.patient (id, organization_id, family, given, birth_date, sex)
       select patient, $1, 'BENCH', 'PATIENT', '1980-05-01', 'female' from bench_people where new order by n""",
    """insert into lab.patient_identifier (id, organization_id, patient_id, authority, value, type)
       select bench_id(ms, 'i' || barcode), $1, patient, 'LAB', 'P' || barcode, 'MR'
       from bench_people where new order by n""",
    """insert into lab.lab_order (id, organization_id, number, patient_id, ordered_at, updated_at, version, waiting)
       select former_order, $1, barcode || '-', patient, at, at, 2, false from bench_people order by n""",
    # What a result is compared with is the same person's on a specimen of the same type.
    """insert into lab.specimen (id, organization_id, barcode, type, order_id, patient_id, state, collected_at,
                                 received_at)
       select former, $1, barcode || '-', 'SER', former_order, patient, 'received', at, at
       from bench_people order by n""",
)
_ORDERS = (
    """insert into lab.lab_order (id, organization_id, number, patient_id)
       select lab_order, $1, barcode, patient from bench_people order by n""",
    """insert into lab.specimen (id, organization_id, barcode, type, order_id, patient_id, state, collected_at,
                                 received_at)
       select specimen, $1, barcode, 'SER', lab_order, patient, 'received', now() - interval '1 hour', now()
       from bench_people order by n""",
)
_ITEMS = """
insert into lab.order_item (id, organization_id, order_id, test_id, specimen_id, status)
select bench_id(now_ms, 'y' || barcode || test), $1, lab_order, test, specimen, 'received'
from bench_people cross join unnest($2::uuid[]) as test order by n
"""
# What differs within one person's ids and keys: put to the person's stem, as making ten million digests takes minutes.
_TESTS = """
create unlogged table bench_tests as
select t.*, value::text as said, int2send(k::int2) as natural_tail, '0' || place as item, '1' || place as result,
       '2' || place as version
from unnest($1::uuid[], $2::text[], $3::numeric[], $4::text[]) with ordinality as t(test, code, value, unit, k),
     lateral (select lpad(to_hex(k), 3, '0') as place) h
"""
# Person by person, as the tables are read: an order by of ten million rows would sort them.
_RELEASED = (
    """insert into lab.order_item (id, organization_id, order_id, test_id, specimen_id, status, updated_at)
       select (stem || item)::uuid, $1, former_order, test, former, 'verified', at
       from bench_people cross join bench_tests""",
    """insert into lab.result (id, organization_id, natural_key, analyzer_id, specimen_id, patient_id, test_id,
                               order_id, order_item_id, version_id, status, created_at, updated_at, released_at,
                               effective_at)
       select (stem || result)::uuid, $1, natural_stem || natural_tail, $2, former, patient, test, former_order,
              (stem || item)::uuid, (stem || version)::uuid, 'final', at, at, at, at
       from bench_people cross join bench_tests""",
    """insert into lab.result_version (id, organization_id, result_id, status, message_id, specimen_as_sent, code,
                                       code_path, raw_value, raw_unit, test_code, test_name, kind, number, value,
                                       unit, actor_kind, created_at, steps)
       select (stem || version)::uuid, $1, (stem || result)::uuid, 'final', message, barcode || '-', code, code, said,
              unit, code, code, 'numeric', value, said, unit, 'link', at,
              '[{"step":"release","verdict":"ok","text":"made for a measurement"}]'
       from bench_people cross join bench_tests""",
)
_LARGE = ("order_item", "result", "result_version")
_INDEXES = """
select c.relname as name, pg_get_indexdef(c.oid) as made from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = any($1::text[]::regclass[]) and not exists (select from pg_constraint where conindid = c.oid)
"""


@dataclass(frozen=True, slots=True)
class Measurand:
    """A test of the measured message, as the laboratory knows it."""

    id: UUID
    code: str
    unit: str
    value: str


class Population:
    """People of one organization, by a connection of the administrator."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], organization_id: UUID) -> None:
        self._connection, self._organization_id = connection, organization_id

    async def tests(self) -> list[Measurand]:
        """The tests that the codes of the measured message mean."""
        rows = await self._connection.fetch(
            """select distinct on (m.code) m.code as sent, t.id, t.code, t.unit from lab.code_map m
               join lab.test t on t.id = m.test_id
               where m.organization_id = $1 and m.driver = 'generic_hl7' and m.ended_at is null and m.code = any($2)""",
            self._organization_id, [code for code, _, _ in ANALYTES],
        )  # fmt: skip
        values = {code: value for code, _, value in ANALYTES}
        return [Measurand(row["id"], row["code"], row["unit"], values[row["sent"]]) for row in rows]

    async def store(
        self, results: int, beside: asyncpg.Connection[asyncpg.Record], *, visits: int = 1, apart: timedelta = APART
    ) -> None:
        """So many released results of people who are not measured, 25 for each of their `visits`, in the order of their
        time, `apart` from one another. Indexes are built after the rows, no row is asked whether what it refers to is
        there, and a second connection helps."""
        connection = self._connection
        indexes = await connection.fetch(_INDEXES, [f"lab.{name}" for name in _LARGE])
        for each in (connection, beside):
            await each.execute("set session_replication_role = replica; set maintenance_work_mem = '512MB'")
            await each.execute("set synchronize_seqscans = off")
        for index in indexes:
            await connection.execute(f'drop index lab."{index["name"]}"')
        await self._make("S", results // len(ANALYTES), apart, beside=beside, visits=visits)
        for index in indexes:
            await connection.execute(index["made"].replace(" ON ONLY ", " ON "))
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")

    async def make(self, prefix: str, number: int) -> None:
        """So many people, each with 25 released results of 20 days ago and a specimen that waits for the same, whose
        barcode is `prefix` and eight digits."""
        await self._make(prefix, number, timedelta(), ordered=True)
        await self._connection.execute("analyze")

    async def _make(
        self, prefix: str, number: int, apart: timedelta, *, ordered: bool = False,
        beside: asyncpg.Connection[asyncpg.Record] | None = None, visits: int = 1,
    ) -> None:  # fmt: skip
        connection, own, tests = self._connection, self._organization_id, await self.tests()
        analyzer = await connection.fetchval(
            "select id from lab.analyzer where organization_id = $1 order by name limit 1", own
        )
        ids = [test.id for test in tests]
        facts = [[test.code for test in tests], [test.value for test in tests], [test.unit for test in tests]]
        await connection.execute(_ID)
        await connection.execute(_PEOPLE, number, prefix, datetime.now(UTC) - AGO, apart, visits)
        await connection.execute(_TESTS, ids, *facts)
        await connection.execute("analyze bench_people, bench_tests")
        for statement in (*_PATIENTS, *(_ORDERS if ordered else ())):
            await connection.execute(statement, own)
        if ordered:
            await connection.execute(_ITEMS, own, ids)
        # Of what was released before, everybody was told and each report printed then: no trigger has it done again.
        await connection.execute("set session_replication_role = replica")

        async def released(by: asyncpg.Connection[asyncpg.Record], statements: Sequence[str]) -> None:
            for statement in statements:
                await by.execute(statement, own, *((analyzer,) if "$2" in statement else ()))

        if beside is None:
            await released(connection, _RELEASED)
        else:
            await asyncio.gather(released(connection, _RELEASED[::2]), released(beside, _RELEASED[1::2]))
        await connection.execute("reset session_replication_role")
        await connection.execute("drop table bench_people, bench_tests")


def rule_set(tests: list[Measurand]) -> str:
    """A rule set that looks at every result in every way and releases those of a healthy person."""
    parts = ['name = "default"', 'autoverification = "on"']
    for test in tests:
        code, unit = test.code, f'unit = "{test.unit}"'
        parts += [
            f'[[delta]]\ntest = "{code}"\nkind = "percent"\nup = "30"\ndown = "30"\nwindow_d = 90',
            f'[[exempt]]\ntest = "{code}"\nqc = true\ncritical = "none"\nreason = "measured without controls"',
            f'[[rule]]\nname = "{code} in order"\ntests = ["{code}"]\n{unit}\n'
            'require = [{ critical = false }, { delta = ["pass", "none"] }, { value = { above = "0" } }]',
        ]
    return "\n\n".join(parts) + "\n"

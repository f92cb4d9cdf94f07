"""A laboratory full of made-up people for measurements: orders that wait, and what was released before.

Made by PostgreSQL itself, as the administrator: what is measured afterwards is the daemon, not the making.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from tests.bench.messages import ANALYTES

_ID = """
create or replace function pg_temp.new_id(at timestamptz) returns uuid language sql volatile as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7'
            || substr(replace(gen_random_uuid()::text, '-', ''), 14, 3)
            || substr(replace(gen_random_uuid()::text, '-', ''), 17, 16))::uuid $$
"""
_PEOPLE = """
create temp table people as
select n, $2 || lpad(n::text, 8, '0') as barcode, pg_temp.new_id(now()) as patient, pg_temp.new_id(now()) as lab_order,
       pg_temp.new_id(now()) as specimen, pg_temp.new_id(now() - interval '20 days') as former
from generate_series(1, $1::int) as n
"""
_PATIENTS = (
    """insert into lab.patient (id, organization_id, family, given, birth_date, sex)
       select patient, $1, 'BENCH', 'PATIENT', '1980-05-01', 'female' from people""",
    """insert into lab.patient_identifier (id, organization_id, patient_id, authority, value, type)
       select pg_temp.new_id(now()), $1, patient, 'LAB', 'P' || barcode, 'MR' from people""",
    # What a result is compared with is the same person's on a specimen of the same type.
    """insert into lab.specimen (id, organization_id, barcode, type, patient_id, state, collected_at, received_at)
       select former, $1, barcode || '-', 'SER', patient, 'received', now() - interval '20 days',
              now() - interval '20 days' from people""",
)
_ORDERS = (
    """insert into lab.lab_order (id, organization_id, number, patient_id)
       select lab_order, $1, barcode, patient from people""",
    """insert into lab.specimen (id, organization_id, barcode, type, order_id, patient_id, state, collected_at,
                                 received_at)
       select specimen, $1, barcode, 'SER', lab_order, patient, 'received', now() - interval '1 hour', now()
       from people""",
)
_ITEMS = """
insert into lab.order_item (id, organization_id, order_id, test_id, specimen_id, status)
select pg_temp.new_id(now()), $1, lab_order, test, specimen, 'received'
from people cross join unnest($2::uuid[]) as test order by n
"""
_BEFORE = """
create temp table before as
select pg_temp.new_id(now() - interval '20 days') as id, pg_temp.new_id(now() - interval '20 days') as version_id,
       patient, former, test, code, value, unit
from people cross join unnest($1::uuid[], $2::text[], $3::numeric[], $4::text[]) as t(test, code, value, unit)
"""
_RELEASED = (
    """insert into lab.result (id, organization_id, natural_key, analyzer_id, specimen_id, patient_id, test_id,
                               version_id, status, created_at, updated_at, released_at, effective_at)
       select id, $1, uuid_send(id), $2, former, patient, test, version_id, 'final', now() - interval '20 days',
              now() - interval '20 days', now() - interval '20 days', now() - interval '20 days'
       from before""",
    """insert into lab.result_version (id, organization_id, result_id, status, code, code_path, raw_value, raw_unit,
                                       test_code, test_name, kind, number, value, unit, actor_kind)
       select version_id, $1, id, 'final', code, code, value::text, unit, code, code, 'numeric', value, value::text,
              unit, 'link'
       from before""",
    """insert into lab.decision (result_version_id, organization_id, steps)
       select version_id, $1, '[{"step":"release","verdict":"ok","text":"made for a measurement"}]' from before""",
)


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

    async def make(self, prefix: str, number: int, *, ordered: bool) -> None:
        """So many people, each with 25 released results of 20 days ago; `ordered`: and a specimen that waits for the
        same, whose barcode is `prefix` and eight digits."""
        connection, own, tests = self._connection, self._organization_id, await self.tests()
        analyzer = await connection.fetchval(
            "select id from lab.analyzer where organization_id = $1 order by name limit 1", own
        )
        ids = [test.id for test in tests]
        await connection.execute(_ID)
        await connection.execute(_PEOPLE, number, prefix)
        for statement in (*_PATIENTS, *(_ORDERS if ordered else ())):
            await connection.execute(statement, own)
        if ordered:
            await connection.execute(_ITEMS, own, ids)
        facts = [[test.code for test in tests], [test.value for test in tests], [test.unit for test in tests]]
        await connection.execute(_BEFORE, ids, *facts)
        result, *others = _RELEASED
        await connection.execute(result, own, analyzer)
        for statement in others:
            await connection.execute(statement, own)
        await connection.execute("drop table people, before")
        await connection.execute("analyze")


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

"""The laboratory's own catalogue as rows: what is read of it to be shown, and what a person's change writes.

What may be written is decided in `flow.catalogue`. An interval's row says what it says for ever: a change ends it, by
`valid_to`, and adds another, so that what decided a result can be read as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.model import Interval, ValueKind
from interface.domain.units import Substance
from interface.domain.views import IntervalView, LabTestView, PanelView, SpecimenTypeView
from interface.store.catalogue import lab_interval
from interface.store.db import Connection
from interface.store.ids import uuid7


async def lock_catalogue(connection: Connection, organization_id: UUID) -> None:
    """Let one transaction at a time change an organization's catalogue: a test and a panel never take one code."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('labora catalogue ' || $1, 0))", str(organization_id)
    )


# ---- tests -----------------------------------------------------------------------------------------------------------

_TESTS = """
select id, version, code, name, loinc, unit, decimals, kind, department, specimen_types, source, active, molar_mass,
       valence
from lab.test
where ($1::text[] is null or code = any($1::text[])) and ($2::text = '' or department = $2)
  and ($3::boolean is null or active = $3)
order by code
"""


async def read_tests(
    connection: Connection, codes: Iterable[str] | None = None, department: str = "", active: bool | None = None
) -> list[LabTestView]:
    """Tests by code; None and "": any."""
    wanted = None if codes is None else list(codes)
    return [_test(row) for row in await connection.fetch(_TESTS, wanted, department, active)]


async def lock_test(connection: Connection, code: str) -> LabTestView | None:
    """As it is; no result of it begins until the transaction ends."""
    await connection.execute("select from lab.test where code = $1 for update", code)
    found = await read_tests(connection, [code])
    return found[0] if found else None


async def insert_test(connection: Connection, organization_id: UUID, test: LabTestView) -> None:
    await connection.execute(
        "insert into lab.test (id, organization_id, code, name, loinc, unit, decimals, kind, department,"
        " specimen_types, source, active, molar_mass, valence)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        test.id, organization_id, test.code, test.name, test.loinc, test.unit, test.decimals, test.kind,
        test.department, list(test.specimen_types), test.source, test.active, test.substance.molar_mass,
        test.substance.valence,
    )  # fmt: skip


async def update_test(connection: Connection, test: LabTestView) -> None:
    """What it says, but for its code, as its next version."""
    await connection.execute(
        "update lab.test set name = $2, loinc = $3, unit = $4, decimals = $5, kind = $6, department = $7,"
        " specimen_types = $8, source = $9, active = $10, molar_mass = $11, valence = $12, version = version + 1"
        " where id = $1",
        test.id, test.name, test.loinc, test.unit, test.decimals, test.kind, test.department,
        list(test.specimen_types), test.source, test.active, test.substance.molar_mass, test.substance.valence,
    )  # fmt: skip


async def has_results(connection: Connection, test_id: UUID) -> bool:
    """Of patients or of controls; what controls should measure is a result's too."""
    found: bool = await connection.fetchval(
        "select exists (select from lab.result where test_id = $1)"
        " or exists (select from lab.qc_result where test_id = $1)"
        " or exists (select from lab.qc_target where test_id = $1)",
        test_id,
    )
    return found


def _test(row: Record) -> LabTestView:
    return LabTestView(
        id=row["id"],
        version=row["version"],
        code=row["code"],
        name=row["name"],
        loinc=row["loinc"],
        unit=row["unit"],
        decimals=row["decimals"],
        kind=ValueKind(row["kind"]),
        department=row["department"],
        specimen_types=tuple(row["specimen_types"]),
        source=row["source"],
        active=row["active"],
        substance=Substance(row["molar_mass"], row["valence"]),
    )


# ---- panels ----------------------------------------------------------------------------------------------------------

_PANELS = """
select p.id, p.version, p.code, p.name, p.loinc, p.source, p.active,
       array(select t.code from unnest(p.test_ids) with ordinality as m (test_id, place)
             join lab.test t on t.id = m.test_id order by m.place) as tests
from lab.panel p
where ($1::text[] is null or p.code = any($1::text[])) and ($2::boolean is null or p.active = $2)
order by p.code
"""


async def read_panels(
    connection: Connection, codes: Iterable[str] | None = None, active: bool | None = None
) -> list[PanelView]:
    rows = await connection.fetch(_PANELS, None if codes is None else list(codes), active)
    return [PanelView(**{**dict(row.items()), "tests": tuple(row["tests"])}) for row in rows]


async def put_panel(connection: Connection, organization_id: UUID, panel: PanelView, tests: Iterable[UUID]) -> None:
    """The panel with these tests, in place of the one of its code if there is one."""
    await connection.execute(
        "insert into lab.panel as p (id, organization_id, code, name, loinc, source, active, test_ids)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8)"
        " on conflict (organization_id, code) do update set name = excluded.name, loinc = excluded.loinc,"
        " source = excluded.source, active = excluded.active, test_ids = excluded.test_ids, version = p.version + 1",
        panel.id, organization_id, panel.code, panel.name, panel.loinc, panel.source, panel.active, list(tests),
    )  # fmt: skip


# ---- specimen types --------------------------------------------------------------------------------------------------


async def read_specimen_types(connection: Connection, active: bool | None = None) -> list[SpecimenTypeView]:
    rows = await connection.fetch(
        "select code, name, source, active from lab.specimen_type"
        " where $1::boolean is null or active = $1 order by code",
        active,
    )
    return [SpecimenTypeView(**dict(row.items())) for row in rows]


async def put_specimen_type(connection: Connection, organization_id: UUID, type: SpecimenTypeView) -> None:
    """The type, in place of the one of its code if there is one."""
    await connection.execute(
        "insert into lab.specimen_type (id, organization_id, code, name, source, active)"
        " values ($1, $2, $3, $4, $5, $6) on conflict (organization_id, code) do update"
        " set name = excluded.name, source = excluded.source, active = excluded.active",
        uuid7(), organization_id, type.code, type.name, type.source, type.active,
    )  # fmt: skip


# ---- intervals -------------------------------------------------------------------------------------------------------

_INTERVALS = """
select i.*, t.code as test_code from lab.reference_interval i join lab.test t on t.id = i.test_id
where ($1::text[] is null or t.code = any($1::text[])) and ($2::uuid[] is null or i.id = any($2::uuid[]))
  and ($3::boolean or i.valid_to is null or i.valid_to > now())
order by t.code, i.specimen_type, i.sex nulls first, i.age_low_d, i.age_low_h nulls first, i.id
"""
_COLUMNS = (
    "id test_id unit low high critical_low critical_high sex age_low_d age_high_d specimen_type text source priority"
    " age_low_h age_high_h pregnant gestation_low_w gestation_high_w method analyzer use valid_from valid_to"
    " normal_values abnormal_values critical_values"
).split()


async def read_intervals(
    connection: Connection,
    tests: Iterable[str] | None = None,
    ids: Iterable[UUID] | None = None,
    ended: bool = False,
) -> list[IntervalView]:
    """Intervals by their test's code; `ended`: also those that apply to no specimen that is collected now or later."""
    rows = await connection.fetch(
        _INTERVALS, None if tests is None else list(tests), None if ids is None else list(ids), ended
    )
    return [IntervalView(row["test_code"], lab_interval(row)) for row in rows]


async def of_no_analyzer(connection: Connection) -> dict[str, list[str]]:
    """Of analyzers that intervals name and that there are not, the tests; such an interval is for no result."""
    rows = await connection.fetch(
        """
        select i.analyzer, array_agg(distinct t.code order by t.code) as tests
        from lab.reference_interval i join lab.test t on t.id = i.test_id
        where i.analyzer <> '' and (i.valid_to is null or i.valid_to > now())
          and not exists (select from lab.analyzer a where a.name = i.analyzer)
        group by i.analyzer order by i.analyzer
        """
    )
    return {row["analyzer"]: row["tests"] for row in rows}


async def insert_interval(connection: Connection, organization_id: UUID, interval: Interval) -> None:
    values = [getattr(interval, name) for name in _COLUMNS]
    places = ", ".join(f"${place}" for place in range(2, len(_COLUMNS) + 2))
    text = " ".join(
        ("insert into lab.reference_interval (organization_id,", ", ".join(_COLUMNS), f") values ($1, {places})")
    )
    await connection.execute(text, organization_id, *map(_column, values))


def _column(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


async def end_interval(connection: Connection, interval_id: UUID, at: datetime) -> bool:
    """It applies to specimens collected before `at`, and no others. False when it has ended before that, or is none."""
    done = await connection.execute(
        "update lab.reference_interval set valid_to = $2 where id = $1 and (valid_to is null or valid_to > $2)",
        interval_id, at,
    )  # fmt: skip
    return done.endswith(" 1")

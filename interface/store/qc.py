"""Controls' results and the points made of them, as rows. What they mean is `flow.qc`'s."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

from asyncpg import Record

from interface.domain.model import ValueKind
from interface.domain.qc import Point, QcVerdict, Stream
from interface.domain.qc_lots import TargetView
from interface.domain.qc_state import END
from interface.domain.record import record
from interface.domain.times import CLOCK_BEHIND
from interface.domain.units import Substance
from interface.domain.views import Actor
from interface.domain.westgard import HISTORY
from interface.store.catalogue import SITE
from interface.store.db import Connection
from interface.store.ids import uuid7

# ---- controls that wait for a point ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A control or calibrator as it was kept, of which nothing is said yet."""

    id: UUID
    analyzer_id: UUID
    message_id: UUID | None
    role: str
    specimen_as_sent: str
    lot_as_sent: str
    level_as_sent: str
    test_id: UUID | None
    test: str
    test_unit: str
    substance: Substance
    code: str
    kind: str
    number: Decimal | None
    value: str
    unit: str
    module: str
    reagent_lot: str
    calibrator_lot: str
    doubts: tuple[str, ...]
    measured_at: datetime


_ARRIVED = """
select r.id, r.analyzer_id, r.message_id, r.role, r.specimen_as_sent, r.lot_as_sent, r.level_as_sent, t.id as test_id,
       coalesce(t.code, '') as test, coalesce(t.unit, '') as test_unit, t.molar_mass, t.valence, r.code, r.kind,
       r.number, r.value, r.unit, r.module, r.reagent_lot, r.calibrator_lot, r.doubts, r.measured_at
from unnest($1::uuid[], $2::uuid[]) as k (id, test_id) join lab.qc_result r on r.id = k.id
left join lab.test t on t.id = coalesce(k.test_id, r.test_id)
where not exists (select from lab.qc_point p where p.qc_result_id = r.id)
order by r.measured_at, r.id
"""


async def arrived(
    connection: Connection, ids: Sequence[UUID], tests: Mapping[UUID, UUID | None] = MappingProxyType({})
) -> list[Arrived]:
    """Of these the ones that are there and have no point, in the order in which they were measured. `tests`: what a map
    makes of them by now."""
    rows = await connection.fetch(_ARRIVED, list(ids), [tests.get(id) for id in ids])
    return [_arrived(row) for row in rows]


def _arrived(row: Record) -> Arrived:
    said = dict(row.items())
    substance = Substance(said.pop("molar_mass"), said.pop("valence"))
    return Arrived(**said | {"doubts": tuple(said["doubts"])}, substance=substance)


@dataclass(frozen=True, slots=True)
class Kept:
    """A control of a message as it was read when it came. `lot_id`, `test_id`: of its point; `problem`: why it has
    none, `waits` unless a person has seen to it; `excluded`: its point."""

    id: UUID
    natural_key: bytes
    location: str
    code: str
    read: tuple[object, ...]  # see `READING`
    lot_id: UUID | None
    test_id: UUID | None
    verdict: str
    rules: tuple[str, ...]
    problem: str
    waits: bool
    excluded: bool


# What a driver reads of a control, and what is made of it; how it is called here and in `ControlResult`.
READING = (
    "role", "specimen_as_sent", "code", "kind", "number", "value", "raw_value", "unit", "instrument_time",
    "instrument_at", "module", "lot_as_sent", "level_as_sent", "reagent_lot", "calibrator_lot", "doubts",
)  # fmt: skip


async def kept_of(connection: Connection, message_id: UUID) -> list[Kept]:
    """The controls that were kept of a message."""
    rows = await connection.fetch(
        """select r.*, p.lot_id, p.test_id as point_test_id, coalesce(p.verdict, '') as verdict, p.rules,
                  p.excluded_at is not null as out,
                  coalesce(b.kind, '') as problem, b.qc_result_id is not null and b.ended_at is null as waits
           from lab.qc_result r left join lab.qc_point p on p.qc_result_id = r.id
           left join lab.qc_problem b on b.qc_result_id = r.id where r.message_id = $1 order by r.id""",
        message_id,
    )
    return [
        Kept(
            row["id"], row["natural_key"], row["location"], row["code"], _read(row),
            row["lot_id"], row["point_test_id"], row["verdict"], tuple(row["rules"] or ()), row["problem"],
            row["waits"], row["out"],
        )
        for row in rows
    ]  # fmt: skip


def _read(row: Record) -> tuple[object, ...]:
    said = [row[name] for name in READING]
    return tuple([tuple(one) if isinstance(one, list) else one for one in said])


async def of_patients(connection: Connection, barcodes: Collection[str]) -> set[str]:
    """Which of these are the barcodes of specimens that were ordered within a year."""
    rows = await connection.fetch(
        "select distinct barcode from lab.specimen where barcode = any($1) and created_at > now() - interval '1 year'",
        list(barcodes),
    )
    return {row["barcode"] for row in rows}


# ---- what a point is judged with -------------------------------------------------------------------------------------

_POINT = "qc_result_id, measured_at, run_id, level_number, lot_id, target_id, z, number, excluded_at is not null as out"
_OF = "analyzer_id = $1 and test_id = $2 and module = $3"
# Each target by itself along its level's index, within its time: one that is seldom measured costs no more than the
# others, and of one that is measured beside another of its level as many are found.
_AIMS = "unnest($6::int[], $7::uuid[], $8::uuid[], $9::timestamptz[], $10::timestamptz[]) as l (n, lot, target, b, e)"
_AIMED = f"{_OF} and level_number = l.n and lot_id = l.lot and target_id = l.target"
BESIDE = f"""
select * from (
    select p.* from {_AIMS} cross join lateral (
        select {_POINT} from lab.qc_point
        where {_AIMED} and (measured_at, qc_result_id) < ($4, $5) and measured_at >= l.b
          and excluded_at is null and z is not null
        order by measured_at desc, qc_result_id desc limit $11) p
    union
    select p.* from {_AIMS} cross join lateral (
        select {_POINT} from lab.qc_point
        where {_AIMED} and (measured_at, qc_result_id) > ($4, $5) and measured_at < l.e
          and excluded_at is null and z is not null
        order by measured_at, qc_result_id limit $11) p
    union
    select {_POINT} from lab.qc_point where {_OF} and measured_at between $4 - $12::interval and $4 + $12::interval
    union
    select {_POINT} from lab.qc_point
    where {_OF} and measured_at between $4 - $12::interval * 2 and $4 + $12::interval * 2
      and run_id in (select run_id from lab.qc_point
                     where {_OF} and measured_at between $4 - $12::interval and $4 + $12::interval)
) as found order by measured_at, qc_result_id
"""  # noqa: S608 - names of ours


@record
class Beside:
    """A stream's points around a time, oldest first. `run`: all of the runs that have one within a run's length of it,
    whether they count or not."""

    before: tuple[Point, ...]
    after: tuple[Point, ...]
    run: tuple[Point, ...]


async def beside(
    connection: Connection, stream: Stream, aims: Sequence[TargetView], at: datetime, id: UUID, run_minutes: int
) -> Beside:
    """What a point measured then is judged with: of each target in force the last and the next points that count."""
    window = timedelta(minutes=run_minutes)
    rows = await connection.fetch(
        BESIDE, stream.analyzer_id, stream.test_id, stream.module, at, id, [one.level_number for one in aims],
        [one.lot_id for one in aims], [one.id for one in aims], [one.valid_from for one in aims],
        [one.end or END for one in aims], HISTORY, window,
    )  # fmt: skip
    points = [(row["measured_at"], row["qc_result_id"], _point(row)) for row in rows]
    runs = {point.run for when, _, point in points if abs(when - at) <= window}
    return Beside(
        tuple(point for when, one, point in points if (when, one) < (at, id)),
        tuple(point for when, one, point in points if (when, one) > (at, id) and _counts(point)),
        tuple(point for _, _, point in points if point.run in runs),
    )


def _counts(point: Point) -> bool:
    return point.z is not None and not point.excluded


def _point(row: Record) -> Point:
    return Point(
        str(row["qc_result_id"]), row["measured_at"], str(row["run_id"]), row["level_number"], str(row["lot_id"]),
        str(row["target_id"] or ""), row["z"], row["number"], row["out"],
    )  # fmt: skip


# ---- what is written -------------------------------------------------------------------------------------------------


@record
class PointRow:
    """A point as it is written."""

    id: UUID
    stream: Stream
    lot_id: UUID
    target_id: UUID | None
    level_number: int
    run_id: UUID
    measured_at: datetime
    number: Decimal | None
    z: Decimal | None
    reagent_lot: str
    calibrator_lot: str
    verdict: QcVerdict
    rules: tuple[str, ...]
    insufficient: tuple[str, ...]
    steps: str  # as `decision.steps` holds them


async def insert_point(connection: Connection, organization_id: UUID, row: PointRow) -> None:
    await connection.execute(
        """insert into lab.qc_point (qc_result_id, organization_id, analyzer_id, test_id, module, lot_id, target_id,
               level_number, run_id, measured_at, number, z, reagent_lot, calibrator_lot, verdict, rules, insufficient,
               steps)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18::text::json)""",
        row.id, organization_id, row.stream.analyzer_id, row.stream.test_id, row.stream.module, row.lot_id,
        row.target_id, row.level_number, row.run_id, row.measured_at, row.number, row.z, row.reagent_lot,
        row.calibrator_lot, row.verdict.value, list(row.rules), list(row.insufficient), row.steps,
    )  # fmt: skip


async def insert_problem(connection: Connection, organization_id: UUID, id: UUID, kind: str, text: str) -> bool:
    """Keep why a control made no point. False where one is kept already."""
    done = await connection.execute(
        "insert into lab.qc_problem (qc_result_id, organization_id, kind, text) values ($1, $2, $3, $4)"
        " on conflict (qc_result_id) do nothing",
        id, organization_id, kind, text,
    )  # fmt: skip
    return done.endswith(" 1")


async def end_problem(connection: Connection, actor: Actor, id: UUID, reason: str) -> bool:
    """A person has seen to it. False where there is none that waits."""
    done = await connection.execute(
        "update lab.qc_problem set ended_at = now(), ended_by = $2, ended_by_name = $3, end_reason = $4"
        " where qc_result_id = $1 and ended_at is null",
        id, actor.id, actor.name, reason,
    )  # fmt: skip
    return done.endswith(" 1")


async def set_excluded(connection: Connection, actor: Actor, id: UUID, reason: str | None) -> None:
    """`reason` None: it counts again."""
    out = reason is not None
    await connection.execute(
        """update lab.qc_point set excluded_at = case when $2 then now() end, excluded_by = $3, excluded_by_name = $4,
               exclude_reason = $5 where qc_result_id = $1""",
        id, out, actor.id if out else None, actor.name if out else "", reason or "",
    )  # fmt: skip


# Of the rows in force for a code the first counts, for each type of specimen, as in `Catalogue.mapping`. Asked once for
# what a code was taken for, not once for each of its controls: of a whole map there are a hundred thousand. A code that
# stands for the test again later was never of another: its results are held meanwhile (`labora map unset --until`).
_MAPPED_OTHERWISE = f"""
with found as materialized (
    select p.qc_result_id, p.analyzer_id, p.test_id, p.module, p.measured_at, k.driver, k.code, m.link_id
    from unnest($1::text[], $2::text[]) as k (driver, code)
    join lab.analyzer a on a.driver = k.driver
    join lab.qc_result r on r.analyzer_id = a.id and r.code = k.code and r.measured_at > now() - $3::interval
    join lab.qc_point p on p.qc_result_id = r.id
    left join lab.message m on m.id = r.message_id
    where p.excluded_at is null and p.verdict in ('accept', 'warn')),
taken as (select distinct driver, code, link_id, test_id from found),
otherwise as materialized (
    select * from taken t where t.test_id not in (
        select coalesce(n.test_id, '00000000-0000-0000-0000-000000000000') from (
            select clock_timestamp() as at
            union select b.at from lab.code_map c cross join lateral (values (c.valid_from), (c.valid_to)) b (at)
            where c.driver = t.driver and c.code = t.code and c.ended_at is null and b.at > clock_timestamp()) i
        cross join lateral (
            select distinct on (c.specimen_type) c.test_id from lab.code_map c
            where c.driver = t.driver and c.code = t.code and (c.link_id is null or c.link_id = t.link_id)
              and c.ended_at is null and c.valid_from <= i.at and (c.valid_to is null or c.valid_to > i.at)
            order by c.specimen_type, c.origin = '{SITE}' desc, c.link_id is not null desc, c.revision desc,
                     c.id desc) n))
select f.qc_result_id, f.analyzer_id, f.test_id, f.module
from found f join otherwise o using (driver, code, test_id) where f.link_id is not distinct from o.link_id
order by f.measured_at, f.qc_result_id
"""  # noqa: S608 - a constant


async def mapped_otherwise(connection: Connection, codes: Collection[tuple[str, str]]) -> list[tuple[UUID, Stream]]:
    """The controls of these codes, each of a driver, that were acceptable for a test that no map makes of them, now or
    later; as far back as something that they vouch for may still come."""
    drivers, names = [driver for driver, _ in codes], [code for _, code in codes]
    found = await connection.fetch(_MAPPED_OTHERWISE, drivers, names, CLOCK_BEHIND)
    return [(row["qc_result_id"], Stream(row["analyzer_id"], row["test_id"], row["module"])) for row in found]


async def excluded_with(connection: Connection, change_id: UUID) -> list[tuple[UUID, Stream]]:
    """The controls that a change of the maps excluded, in its own transaction, and that nobody has restored since."""
    found = await connection.fetch(
        """select p.qc_result_id, p.analyzer_id, p.test_id, p.module from lab.map_change c
             join lab.qc_point p on p.excluded_at = c.created_at and p.excluded_by_name = c.actor_name
            where c.id = $1 order by p.measured_at, p.qc_result_id""",
        change_id,
    )
    return [(row["qc_result_id"], Stream(row["analyzer_id"], row["test_id"], row["module"])) for row in found]


@record
class Entered:
    """A control's result as a person enters it."""

    analyzer_id: UUID
    module: str
    test_id: UUID
    lot: str
    level: str
    kind: str
    number: Decimal | None
    value: str
    raw_value: str
    unit: str
    measured_at: datetime
    reagent_lot: str
    calibrator_lot: str
    comment: str


async def insert_entered(connection: Connection, actor: Actor, entered: Entered) -> UUID:
    """Its id. Each is a result of its own: what a person says twice was measured twice."""
    id = uuid7()
    await connection.execute(
        """insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, test_id, kind, number, value,
               raw_value, unit, module, lot_as_sent, level_as_sent, reagent_lot, calibrator_lot, origin, measured_at,
               comment, actor_kind, actor_id)
           values ($1, $2, $3, $4, 'qc', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'manual', $16, $17, $18,
               $19)""",
        id, actor.organization_id, id.bytes, entered.analyzer_id, entered.test_id, entered.kind, entered.number,
        entered.value, entered.raw_value, entered.unit, entered.module, entered.lot, entered.level,
        entered.reagent_lot, entered.calibrator_lot, entered.measured_at, entered.comment, actor.kind.value, actor.id,
    )  # fmt: skip
    return id


# ---- analysis --------------------------------------------------------------------------------------------------------


@record
class Measurements:
    """The counted points of one lot in a stream, and what they should be."""

    stream: Stream
    analyzer: str
    test: str
    unit: str
    lot_id: UUID
    material: str
    lot: str
    level: str
    level_number: int
    target_id: UUID | None
    mean: Decimal | None
    sd: Decimal | None
    target_unit: str
    substance: Substance
    numbers: tuple[Decimal, ...]
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class AnalysisFilter:
    """Which streams, and when it was measured."""

    since: datetime
    until: datetime
    analyzer: str = ""
    module: str | None = None
    test: str = ""
    lot_ids: tuple[UUID, ...] = ()


_ANALYSIS = """
select p.analyzer_id, p.test_id, p.module, a.name as analyzer, t.code as test, t.unit, t.molar_mass, t.valence, p.lot_id,
       m.name as material, l.lot, l.level, l.level_number, p.target_id, g.mean, g.sd, coalesce(g.unit, '') as target_unit,
       array_agg(p.number order by p.measured_at, p.qc_result_id) as numbers, min(p.measured_at) as first_at,
       max(p.measured_at) as last_at
from lab.qc_point p join lab.analyzer a on a.id = p.analyzer_id join lab.test t on t.id = p.test_id
join lab.qc_lot l on l.id = p.lot_id join lab.qc_material m on m.id = l.material_id
left join lab.qc_target g on g.id = p.target_id
where p.excluded_at is null and p.number is not null and p.measured_at >= $1 and p.measured_at < $2
  and ($3 = '' or a.name = $3) and ($4 = '' or t.code = $4) and ($5::text is null or p.module = $5)
  and ($6::uuid[] = '{}' or p.lot_id = any($6))
group by p.analyzer_id, p.test_id, p.module, a.name, t.code, t.unit, t.molar_mass, t.valence, p.lot_id, m.name, l.lot,
         l.level, l.level_number, p.target_id, g.mean, g.sd, g.unit
order by a.name, p.module, t.code, m.name, l.level_number, l.lot, min(p.measured_at)
"""  # noqa: E501


async def measurements(connection: Connection, filter: AnalysisFilter) -> list[Measurements]:
    """Of each stream, lot and target the counted points in the window."""
    rows = await connection.fetch(
        _ANALYSIS, filter.since, filter.until, filter.analyzer, filter.test, filter.module, list(filter.lot_ids)
    )
    return [
        Measurements(
            Stream(row["analyzer_id"], row["test_id"], row["module"]), row["analyzer"], row["test"], row["unit"],
            row["lot_id"], row["material"], row["lot"], row["level"], row["level_number"], row["target_id"],
            row["mean"], row["sd"], row["target_unit"], Substance(row["molar_mass"], row["valence"]),
            tuple(row["numbers"]), row["first_at"], row["last_at"],
        )
        for row in rows
    ]  # fmt: skip


@record
class Test:
    """What a control is of."""

    id: UUID
    unit: str
    substance: Substance
    numeric: bool


async def test_named(connection: Connection, code: str) -> Test | None:
    """An active test by the laboratory's code."""
    row = await connection.fetchrow(
        "select id, unit, molar_mass, valence, kind from lab.test where code = $1 and active", code
    )
    if row is None:
        return None
    substance = Substance(row["molar_mass"], row["valence"])
    return Test(row["id"], row["unit"], substance, row["kind"] == ValueKind.NUMERIC)


async def stream_of(connection: Connection, id: UUID) -> Stream:
    """The stream of a point."""
    row = await connection.fetchrow("select analyzer_id, test_id, module from lab.qc_point where qc_result_id = $1", id)
    if row is None:
        raise LookupError(id)
    return Stream(row["analyzer_id"], row["test_id"], row["module"])


async def calibrated_at(
    connection: Connection, analyzer_id: UUID, test_ids: Collection[UUID]
) -> dict[UUID, list[datetime]]:
    """When each test was calibrated on an analyzer, newest first, by its calibrators' results: the last ten times. What
    failed, or what the analyzer doubts, calibrated nothing."""
    rows = await connection.fetch(
        """select k.test_id, array(
               select r.measured_at from lab.qc_result r
               where r.analyzer_id = $1 and r.test_id = k.test_id and r.role = 'calibrator'
               and r.kind not in ('failed', 'empty') and r.doubts = '{}'
               order by r.measured_at desc limit 10) as times
           from unnest($2::uuid[]) as k (test_id)""",
        analyzer_id,
        list(test_ids),
    )
    return {row["test_id"]: list(row["times"]) for row in rows if row["times"]}

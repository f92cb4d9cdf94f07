"""Control materials, lots, targets and the lots in use on analyzers, as rows. What may be written: `flow.qc_lots`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from asyncpg import Record

from interface.domain.qc import Stream
from interface.domain.qc_lots import (
    AnalyzerLotView,
    InUse,
    LotKind,
    LotView,
    MaterialView,
    TargetKind,
    TargetSource,
    TargetView,
)
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.query import Query


async def lock_lots(connection: Connection, organization_id: UUID) -> None:
    """Let one transaction at a time change an organization's materials, lots and targets: none overlap unseen."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('labora qc lots ' || $1, 0))", str(organization_id)
    )


# ---- materials ------------------------------------------------------------------------------------------------------

_MATERIALS = """
select id, version, created_at, name, manufacturer, catalogue_number, note, closed_at from lab.qc_material where
"""


async def read_materials(
    connection: Connection, *, ids: Iterable[UUID] = (), names: Iterable[str] = (), closed: bool = False
) -> list[MaterialView]:
    """Materials by name; with neither ids nor names all that are open, `closed`: also those that are not."""
    query = Query()
    query.any("id = any(?::uuid[])", ids)
    query.any("name = any(?::text[])", names)
    if not query.values and not closed:
        query.where("closed_at is null")
    rows = await connection.fetch(f"{_MATERIALS} {query.conditions} order by name", *query.values)
    return [MaterialView(**dict(row.items())) for row in rows]


async def insert_material(connection: Connection, organization_id: UUID, view: MaterialView) -> None:
    """Raises asyncpg.UniqueViolationError for a name that there is."""
    await connection.execute(
        "insert into lab.qc_material (id, organization_id, name, manufacturer, catalogue_number, note)"
        " values ($1, $2, $3, $4, $5, $6)",
        view.id, organization_id, view.name, view.manufacturer, view.catalogue_number, view.note,
    )  # fmt: skip


async def update_material(connection: Connection, view: MaterialView) -> None:
    """What the view says, as the next version."""
    await connection.execute(
        "update lab.qc_material set name = $2, manufacturer = $3, catalogue_number = $4, note = $5, closed_at = $6,"
        " version = version + 1 where id = $1",
        view.id, view.name, view.manufacturer, view.catalogue_number, view.note, view.closed_at,
    )  # fmt: skip


# ---- lots -----------------------------------------------------------------------------------------------------------

_LOTS = """
select l.id, l.version, l.created_at, l.material_id, m.name as material, l.lot, l.level, l.level_number, l.expires_on,
       l.identifiers, l.note, l.closed_at,
       array(select a.name from lab.analyzer a where a.id = any(l.analyzer_ids) order by a.name) as analyzers
from lab.qc_lot l join lab.qc_material m on m.id = l.material_id
where
"""
_BY_LEVEL = "order by m.name, l.lot, l.level_number, l.level"


async def read_lots(
    connection: Connection,
    *,
    ids: Iterable[UUID] = (),
    material_id: UUID | None = None,
    named: str | None = None,
    closed: bool = False,
) -> list[LotView]:
    """Lots by material, their levels in order. `named`: `LOT`, `LOT/LEVEL` or `MATERIAL/LOT/LEVEL`.

    Those that are closed only with `closed` or by their id.
    """
    query = Query()
    query.any("l.id = any(?::uuid[])", ids)
    by_id = bool(query.values)
    if material_id is not None:
        query.where("l.material_id = ?", material_id)
    if named is not None:
        query.where("?::text in (l.lot, l.lot || '/' || l.level, m.name || '/' || l.lot || '/' || l.level)", named)
    if not (closed or by_id):
        query.where("l.closed_at is null")
    rows = await connection.fetch(f"{_LOTS} {query.conditions} {_BY_LEVEL}", *query.values)
    return [_lot(row) for row in rows]


async def lots_of(connection: Connection, analyzer_id: UUID) -> list[LotView]:
    """The lots that an analyzer may send: its own, and those of any.

    Also those that cannot be used any more, for a year, so that what is sent of one is known to be that.
    """
    rows = await connection.fetch(
        f"{_LOTS} (l.analyzer_ids = '{{}}' or $1 = any(l.analyzer_ids))"
        " and coalesce(least(l.closed_at, l.expires_on + interval '1 day'), now()) > now() - interval '1 year'"
        f" {_BY_LEVEL}",
        analyzer_id,
    )
    return [_lot(row) for row in rows]


async def insert_lot(
    connection: Connection, organization_id: UUID, view: LotView, analyzer_ids: Sequence[UUID]
) -> None:
    """Raises asyncpg.UniqueViolationError for a lot and level that there is."""
    await connection.execute(
        "insert into lab.qc_lot (id, organization_id, material_id, lot, level, level_number, expires_on, identifiers,"
        " analyzer_ids, note) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        view.id, organization_id, view.material_id, view.lot, view.level, view.level_number, view.expires_on,
        list(view.identifiers), list(analyzer_ids), view.note,
    )  # fmt: skip


async def update_lot(connection: Connection, view: LotView, analyzer_ids: Sequence[UUID]) -> None:
    """What the view says, but for its material, as the next version."""
    await connection.execute(
        "update lab.qc_lot set lot = $2, level = $3, level_number = $4, expires_on = $5, identifiers = $6,"
        " analyzer_ids = $7, note = $8, closed_at = $9, version = version + 1 where id = $1",
        view.id, view.lot, view.level, view.level_number, view.expires_on, list(view.identifiers), list(analyzer_ids),
        view.note, view.closed_at,
    )  # fmt: skip


async def has_points(connection: Connection, lot_id: UUID) -> bool:
    found: bool = await connection.fetchval(
        "select exists (select from lab.qc_point where lot_id = $1)"
        " or exists (select from lab.qc_target where lot_id = $1)",
        lot_id,
    )
    return found


def _lot(row: Record) -> LotView:
    return LotView(
        **{
            **dict(row.items()),
            "identifiers": tuple(row["identifiers"]),
            "analyzers": tuple(row["analyzers"]),
        }
    )


# ---- targets --------------------------------------------------------------------------------------------------------

# As `domain.qc_lots.until`. `least` leaves out what is null; the last day, written as infinity, ends with time itself.
_LOT_UNTIL = """least(l.closed_at,
    case when l.expires_on < '9999-12-31' then (l.expires_on + 1)::timestamp at time zone 'UTC'
         when l.expires_on is not null then timestamptz '9999-12-31 23:59:59.999999+00' end)"""
_TARGETS = f"""
select g.id, g.lot_id, l.lot, l.level, l.level_number, m.name as material, g.analyzer_id, a.name as analyzer, g.module,
       g.test_id, t.code as test, g.mean, g.sd, g.unit, g.source, g.kind, g.points, g.reagent_lot, g.note,
       g.valid_from, g.valid_to, g.created_at, g.actor_name as by, g.ended_at, g.ended_by_name as ended_by,
       g.end_reason, {_LOT_UNTIL} as lot_until
from lab.qc_target g
join lab.qc_lot l on l.id = g.lot_id
join lab.qc_material m on m.id = l.material_id
join lab.analyzer a on a.id = g.analyzer_id
join lab.test t on t.id = g.test_id
where
"""  # noqa: S608 - names of ours
_IN_ORDER = "order by a.name, g.module, t.code, m.name, l.level_number, l.lot, g.reagent_lot, g.valid_from, g.id"


@dataclass(frozen=True, slots=True)
class TargetFilter:
    """Which; what is not given is any. `at`: in force then; without it and without `ended` those not over now."""

    ids: tuple[UUID, ...] = ()
    analyzer_id: UUID | None = None
    test_id: UUID | None = None
    lot_ids: tuple[UUID, ...] = ()
    at: datetime | None = None
    ended: bool = False


_END = f"least(g.valid_to, g.ended_at, {_LOT_UNTIL})"


async def find_targets(connection: Connection, filter: TargetFilter) -> list[TargetView]:
    query = Query()
    query.any("g.id = any(?::uuid[])", filter.ids)
    query.any("g.lot_id = any(?::uuid[])", filter.lot_ids)
    if filter.analyzer_id is not None:
        query.where("g.analyzer_id = ?", filter.analyzer_id)
    if filter.test_id is not None:
        query.where("g.test_id = ?", filter.test_id)
    if filter.at is not None:
        query.where(f"g.valid_from <= ? and coalesce({_END} > ?, true)", filter.at, filter.at)
    elif not (filter.ended or filter.ids):
        query.where(f"coalesce({_END} > greatest(now(), g.valid_from), true)")
    rows = await connection.fetch(f"{_TARGETS} {query.conditions} {_IN_ORDER}", *query.values)
    return [_target(row) for row in rows]


async def targets_of(
    connection: Connection, analyzer_id: UUID, lot_ids: Iterable[UUID] = (), test_ids: Iterable[UUID] = ()
) -> list[TargetView]:
    """The targets that judge an analyzer's points, also late ones: all but those that ended more than a year ago.

    `lot_ids`, `test_ids`: of these only. `domain.qc_lots.in_force` finds the one for a point.
    """
    query = Query()
    query.where("g.analyzer_id = ?", analyzer_id)
    query.any("g.lot_id = any(?::uuid[])", lot_ids)
    query.any("g.test_id = any(?::uuid[])", test_ids)
    query.where(f"coalesce({_END} > now() - interval '1 year', true)")
    rows = await connection.fetch(f"{_TARGETS} {query.conditions} {_IN_ORDER}", *query.values)
    return [_target(row) for row in rows]


async def insert_targets(connection: Connection, actor: Actor, views: Sequence[TargetView]) -> None:
    await connection.executemany(
        "insert into lab.qc_target (id, organization_id, lot_id, analyzer_id, module, test_id, mean, sd, unit, source,"
        " kind, points, reagent_lot, note, valid_from, valid_to, actor_kind, actor_id, actor_name)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        [
            (
                one.id, actor.organization_id, one.lot_id, one.analyzer_id, one.module, one.test_id, one.mean, one.sd,
                one.unit, one.source.value, one.kind.value, one.points, one.reagent_lot, one.note, one.valid_from,
                one.valid_to, actor.kind.value, actor.id, actor.name,
            )
            for one in views
        ],
    )  # fmt: skip


async def end_target(connection: Connection, actor: Actor, target_id: UUID, at: datetime, reason: str) -> None:
    """End one that has not been ended, from `at` on."""
    await connection.execute(
        "update lab.qc_target set ended_at = $2, ended_by = $3, ended_by_name = $4, end_reason = $5"
        " where id = $1 and ended_at is null",
        target_id, at, actor.id, actor.name, reason,
    )  # fmt: skip


def _target(row: Record) -> TargetView:
    return TargetView(**{**dict(row.items()), "source": TargetSource(row["source"]), "kind": TargetKind(row["kind"])})


# ---- streams --------------------------------------------------------------------------------------------------------


async def streams_at(connection: Connection, analyzer_id: UUID, test_id: UUID, module: str) -> list[Stream]:
    """The streams that have a state and that a target judges; module "": of all."""
    rows = await connection.fetch(
        "select analyzer_id, test_id, module from lab.qc_stream"
        " where analyzer_id = $1 and test_id = $2 and $3 in ('', module) order by module",
        analyzer_id, test_id, module,
    )  # fmt: skip
    return [Stream(**dict(row.items())) for row in rows]


async def streams_with(connection: Connection, lot_id: UUID) -> list[Stream]:
    """The streams that have a state and a target of a lot, or a point of it in the last year."""
    rows = await connection.fetch(
        """
        select s.analyzer_id, s.test_id, s.module from lab.qc_stream s
        where exists (select from lab.qc_target g where g.lot_id = $1 and g.analyzer_id = s.analyzer_id
                      and g.test_id = s.test_id and g.module in ('', s.module))
           or exists (select from lab.qc_point p where p.lot_id = $1 and p.analyzer_id = s.analyzer_id
                      and p.test_id = s.test_id and p.module = s.module and p.measured_at > now() - interval '1 year')
        order by s.analyzer_id, s.test_id, s.module
        """,
        lot_id,
    )
    return [Stream(**dict(row.items())) for row in rows]


# ---- what was measured ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counted:
    """A point that statistics count, in the unit of the test's results."""

    at: datetime
    number: Decimal
    target_id: UUID | None


_COUNTED = """
select p.measured_at as at, p.number, p.target_id from lab.qc_point p
where p.analyzer_id = $1 and p.test_id = $2 and p.lot_id = $3 and ($4 = '' or p.module = $4)
  and ($5 = '' or p.reagent_lot = $5) and p.excluded_at is null and p.number is not null
  and ($6::timestamptz is null or p.measured_at >= $6) and ($7::timestamptz is null or p.measured_at < $7)
order by p.measured_at, p.qc_result_id
"""


async def counted_points(
    connection: Connection,
    analyzer_id: UUID,
    test_id: UUID,
    lot_id: UUID,
    module: str = "",
    reagent_lot: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Counted]:
    """All points of a lot in a stream that are not excluded, oldest first; "": of every module, any reagent lot."""
    rows = await connection.fetch(_COUNTED, analyzer_id, test_id, lot_id, module, reagent_lot, since, until)
    return [Counted(**dict(row.items())) for row in rows]


# ---- lots in use on analyzers ---------------------------------------------------------------------------------------


async def lock_uses(connection: Connection, organization_id: UUID, analyzer_id: UUID) -> None:
    """Let one transaction at a time say what an analyzer uses."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('labora analyzer lots ' || $1 || $2, 0))",
        str(organization_id), str(analyzer_id),
    )  # fmt: skip


_IN_USE = """
select u.id, u.analyzer_id, a.name as analyzer, u.module, u.test_id, coalesce(t.code, '') as test, u.kind, u.lot,
       u.expires_on, u.from_at, u.actor_name as by, u.ended_at, u.ended_by_name as ended_by, u.end_reason
from lab.analyzer_lot u
join lab.analyzer a on a.id = u.analyzer_id
left join lab.test t on t.id = u.test_id
where
"""


async def in_use(connection: Connection, analyzer_id: UUID, since: datetime | None = None) -> InUse:
    """What an analyzer uses, or will; `since`: also what it used then and later. One query."""
    rows = await connection.fetch(
        f"{_IN_USE} u.analyzer_id = $1 and (u.ended_at is null or u.ended_at > coalesce($2::timestamptz, now()))",
        analyzer_id, since,
    )  # fmt: skip
    return InUse([_analyzer_lot(row) for row in rows])


async def find_analyzer_lots(
    connection: Connection,
    *,
    ids: Iterable[UUID] = (),
    analyzer_id: UUID | None = None,
    kind: LotKind | None = None,
    ended: bool = False,
) -> list[AnalyzerLotView]:
    """Lots in use by analyzer, newest first; `ended`: also those that are not any more."""
    query = Query()
    query.any("u.id = any(?::uuid[])", ids)
    if analyzer_id is not None:
        query.where("u.analyzer_id = ?", analyzer_id)
    if kind is not None:
        query.where("u.kind = ?", kind.value)
    if not (ended or ids):
        query.where("(u.ended_at is null or u.ended_at > now())")
    order = "order by a.name, u.module, u.kind, t.code nulls first, u.from_at desc, u.id desc"
    rows = await connection.fetch(f"{_IN_USE} {query.conditions} {order}", *query.values)
    return [_analyzer_lot(row) for row in rows]


@dataclass(frozen=True, slots=True)
class NewUse:
    """A row to be written. `ended_at`: it is known already until when."""

    analyzer_id: UUID
    module: str
    test_id: UUID | None
    kind: LotKind
    lot: str
    expires_on: date | None
    from_at: datetime
    ended_at: datetime | None = None


async def insert_uses(
    connection: Connection, actor: Actor, uses: Sequence[NewUse], message_id: UUID | None = None
) -> list[UUID]:
    ids = [uuid7() for _ in uses]
    await connection.executemany(
        "insert into lab.analyzer_lot (id, organization_id, analyzer_id, module, test_id, kind, lot, expires_on,"
        " from_at, ended_at, message_id, actor_kind, actor_id, actor_name)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        [
            (
                id, actor.organization_id, one.analyzer_id, one.module, one.test_id, one.kind.value, one.lot,
                one.expires_on, one.from_at, one.ended_at, message_id, actor.kind.value, actor.id, actor.name,
            )
            for id, one in zip(ids, uses, strict=True)
        ],
    )  # fmt: skip
    return ids


async def end_uses(
    connection: Connection, actor: Actor, ends: Sequence[tuple[UUID, datetime]], reason: str = ""
) -> None:
    """End what has not been ended, each from its instant on."""
    await connection.executemany(
        "update lab.analyzer_lot set ended_at = $2, ended_by = $3, ended_by_name = $4, end_reason = $5"
        " where id = $1 and (ended_at is null or ended_at > $2)",
        [(id, at, actor.id, actor.name, reason) for id, at in ends],
    )


def _analyzer_lot(row: Record) -> AnalyzerLotView:
    return AnalyzerLotView(**{**dict(row.items()), "kind": LotKind(row["kind"])})

"""What peer groups measure, and what the laboratory's points of a month come to, as rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from interface.domain.qc_peers import OwnPeriod, PeerView
from interface.domain.qc_statistics import of_sums
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.query import Query

FURTHER_DECIMALS = 2  # of a mean and an SD: more than the finest number has

_PEERS = """
select p.id, p.lot_id, m.name as material, l.lot, l.level, p.test_id, t.code as test, p.peer_group, p.period, p.unit,
       p.laboratories, p.points, p.mean, p.sd, p.source, p.actor_name as by, p.created_at
from lab.qc_peer p join lab.qc_lot l on l.id = p.lot_id join lab.qc_material m on m.id = l.material_id
join lab.test t on t.id = p.test_id
where
"""


async def find_peers(
    connection: Connection, *, period: str = "", peer_group: str = "", test: str = "", limit: int = 10_000
) -> list[PeerView]:
    """The newest month first. `test`: its code."""
    query = Query()
    for column, value in (("p.period", period), ("p.peer_group", peer_group), ("t.code", test)):
        if value:
            query.where(f"{column} = ?", value)
    order = "order by p.period desc, t.code, m.name, l.lot, l.level_number, l.level, p.peer_group"
    rows = await connection.fetch(f"{_PEERS} {query.conditions} {order} limit {query.bind(limit)}", *query.values)
    return [PeerView(**dict(row.items())) for row in rows]


async def insert_peer(connection: Connection, actor: Actor, view: PeerView) -> None:
    """Raises asyncpg.UniqueViolationError for a lot, test, group and month that there is."""
    await connection.execute(
        "insert into lab.qc_peer (id, organization_id, lot_id, test_id, peer_group, unit, period, laboratories, points,"
        " mean, sd, source, actor_kind, actor_id, actor_name)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        view.id, actor.organization_id, view.lot_id, view.test_id, view.peer_group, view.unit, view.period,
        view.laboratories, view.points, view.mean, view.sd, view.source, actor.kind.value, actor.id, actor.name,
    )  # fmt: skip


async def update_peer(connection: Connection, actor: Actor, view: PeerView) -> None:
    """What the group measured, as it was corrected."""
    await connection.execute(
        "update lab.qc_peer set unit = $2, laboratories = $3, points = $4, mean = $5, sd = $6, source = $7,"
        " actor_kind = $8, actor_id = $9, actor_name = $10, created_at = now() where id = $1",
        view.id, view.unit, view.laboratories, view.points, view.mean, view.sd, view.source, actor.kind.value,
        actor.id, actor.name,
    )  # fmt: skip


# Sums of numeric are exact. Only streams that measured a lot in the month are asked for what they measured before it.
_OWN = """
with s as (
    select distinct analyzer_id, module, test_id, lot_id from lab.qc_point
    where measured_at >= $1 and measured_at < $2 and excluded_at is null and number is not null
), n as (
    select analyzer_id, module, test_id, lot_id, count(*) as n_to_date, sum(number) as sum_to_date,
           sum(number * number) as squares_to_date, min(number) as min_to_date, max(number) as max_to_date,
           count(*) filter (where measured_at >= $1) as n, sum(number) filter (where measured_at >= $1) as total,
           sum(number * number) filter (where measured_at >= $1) as squares,
           min(number) filter (where measured_at >= $1) as minimum,
           max(number) filter (where measured_at >= $1) as maximum, max(scale(number)) as decimals
    from lab.qc_point p join s using (analyzer_id, module, test_id, lot_id)
    where p.measured_at < $2 and p.excluded_at is null and p.number is not null
    group by analyzer_id, module, test_id, lot_id
)
select n.*, a.name as analyzer, a.driver, t.code as test, t.name as test_name, t.loinc, t.unit, m.name as material,
       m.manufacturer, m.catalogue_number, l.lot, l.level, l.level_number, l.expires_on
from n join lab.analyzer a on a.id = n.analyzer_id join lab.test t on t.id = n.test_id
join lab.qc_lot l on l.id = n.lot_id join lab.qc_material m on m.id = l.material_id
where ($3 = '' or a.name = $3) and ($4 = '' or t.code = $4)
order by a.name, n.module, t.code, m.name, l.lot, l.level_number, l.level
"""


async def own_periods(
    connection: Connection,
    period: str,
    begin: datetime,
    end: datetime,
    *,
    complete: bool,
    analyzer: str = "",
    test: str = "",
) -> list[OwnPeriod]:
    """What counted points measured in [begin, end) come to, by stream and lot; and those before `end`."""
    rows = await connection.fetch(_OWN, begin, end, analyzer, test)
    return [_own(dict(row.items()), period, complete) for row in rows]


def _own(row: dict[str, Any], period: str, complete: bool) -> OwnPeriod:
    own = of_sums(*(row.pop(name) for name in ("n", "total", "squares", "minimum", "maximum")))
    to_date = of_sums(*(row.pop(f"{name}_to_date") for name in ("n", "sum", "squares", "min", "max")))
    decimals = row.pop("decimals") + FURTHER_DECIMALS
    return OwnPeriod(**row, period=period, complete=complete, decimals=decimals, own=own, to_date=to_date)


async def peer_of(connection: Connection, lot_id: UUID, test_id: UUID, peer_group: str, period: str) -> PeerView | None:
    rows = await connection.fetch(
        f"{_PEERS} p.lot_id = $1 and p.test_id = $2 and p.peer_group = $3 and p.period = $4",
        lot_id, test_id, peer_group, period,
    )  # fmt: skip
    return PeerView(**dict(rows[0].items())) if rows else None

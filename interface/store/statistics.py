"""Counts of the laboratory's work over a period, made by the database: results are not read one by one.

For whom a held result is nothing to see this says nothing of it: these are the laboratory's own, for its staff.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from interface.domain.statistics import By, Period, Stage, Target, TurnaroundRow, WorkloadRow
from interface.store.db import Connection
from interface.store.ids import uuid7, uuid7_floor
from interface.store.versions import versions_of

# An id is made a moment before its row.
_SLACK = timedelta(hours=1)
_KEYS = {
    By.TEST: "coalesce(t.code, '')",
    By.DEPARTMENT: "coalesce(t.department, '')",
    By.ANALYZER: "coalesce(a.name, '')",
    By.PRIORITY: "coalesce(o.priority, '')",
    By.DAY: "to_char({at} at time zone $3::text, 'YYYY-MM-DD')",
}
_JOINED = """
lab.result r
left join lab.test t on t.id = r.test_id
left join lab.analyzer a on a.id = r.analyzer_id
left join lab.lab_order o on o.id = r.order_id
left join lab.specimen s on s.id = r.specimen_id
"""
_WORKLOAD = """
select case when grouping(x.key) = 1 then null else x.key end as key, count(*) as results,
       count(*) filter (where x.reportable) as reported,
       count(*) filter (where x.reportable and x.released_at is not null) as released,
       count(*) filter (where x.reportable and x.released_at is not null and x.automatic) as automatic,
       count(*) filter (where x.held) as held, count(*) filter (where x.status = 'corrected') as corrected,
       count(*) filter (where x.status = 'entered-in-error') as withdrawn,
       count(distinct x.order_id) as orders, count(distinct x.specimen_id) as specimens
from (
    select {key} as key, r.reportable, r.released_at, r.status, r.order_id, r.specimen_id,
           r.held <> '{{}}' or r.pending_version_id is not null as held, (
               select f.actor_kind = 'rule_set' from {versions} f
               where f.status = 'final' order by f.version limit 1) as automatic
    from {joined}
    where r.id >= $4 and r.id < $5 and r.created_at >= $1 and r.created_at < $2 and $3::text is not null
) x
group by grouping sets ((x.key), ())
order by x.key nulls last
"""
_TURNAROUND = """
with b as (
    select {key} as key, coalesce(t.code, '') as test, coalesce(t.department, '') as department, o.priority,
           o.ordered_at, s.collected_at, s.received_at, r.created_at as measured_at, r.released_at
    from {joined}
    where r.released_at >= $1 and r.released_at < $2 and r.updated_at >= $1 and r.reportable and o.id is not null
      and $3::text is not null
), g as (
    select distinct test, department, priority from b
), aims as (
    select g.test, g.department, g.priority, a.stage, a.minutes * interval '1 minute' as aim
    from g join lateral (
        select distinct on (w.stage) w.stage, w.minutes from lab.turnaround_target w
        where w.test_code in ('', g.test) and w.department in ('', g.department) and w.priority in ('', g.priority)
        order by w.stage, w.test_code <> '' desc, w.department <> '' desc, w.priority <> '' desc
    ) a on true
), x as (
    select b.key, p.stage, p.span, aims.aim
    from b cross join lateral (values
        ('ordered-collected', b.collected_at - b.ordered_at), ('collected-received', b.received_at - b.collected_at),
        ('received-measured', b.measured_at - b.received_at), ('measured-released', b.released_at - b.measured_at),
        ('ordered-released', b.released_at - b.ordered_at), ('collected-released', b.released_at - b.collected_at),
        ('received-released', b.released_at - b.received_at)
    ) p (stage, span)
    left join aims on aims.test = b.test and aims.department = b.department and aims.priority = b.priority
         and aims.stage = p.stage
)
select case when grouping(x.key) = 1 then null else x.key end as key, x.stage,
       count(*) filter (where x.span >= interval '0') as known,
       extract(epoch from percentile_disc(0.5) within group (order by x.span)
               filter (where x.span >= interval '0'))::bigint as median,
       extract(epoch from percentile_disc(0.9) within group (order by x.span)
               filter (where x.span >= interval '0'))::bigint as p90,
       extract(epoch from max(x.span) filter (where x.span >= interval '0'))::bigint as longest,
       count(*) filter (where x.span is null) as unknown,
       count(*) filter (where x.span < interval '0') as disordered,
       count(*) filter (where x.span >= interval '0' and x.aim is not null) as aimed,
       count(*) filter (where x.span >= interval '0' and x.span <= x.aim) as met
from x
group by grouping sets ((x.key, x.stage), (x.stage))
order by x.key nulls last
"""


async def workload(connection: Connection, period: Period, by: By) -> tuple[tuple[WorkloadRow, ...], WorkloadRow]:
    """Rows by key, and of all together."""
    text = _WORKLOAD.format(key=_KEYS[by].format(at="r.created_at"), joined=_JOINED, versions=versions_of("= r.id"))
    ids = (uuid7_floor(period.begin - _SLACK), uuid7_floor(period.end + _SLACK))
    found = await connection.fetch(text, period.begin, period.end, str(period.zone), *ids)
    rows = [dict(row.items()) for row in found]
    total = next(row for row in rows if row["key"] is None)
    return tuple(WorkloadRow(**row) for row in rows if row["key"] is not None), WorkloadRow(**{**total, "key": ""})


async def turnaround(
    connection: Connection, period: Period, by: By
) -> tuple[tuple[TurnaroundRow, ...], tuple[TurnaroundRow, ...]]:
    """Rows by key and stage, and by stage of all together."""
    text = _TURNAROUND.format(key=_KEYS[by].format(at="r.released_at"), joined=_JOINED)
    found = await connection.fetch(text, period.begin, period.end, str(period.zone))
    order = list(Stage)

    def made(row: dict[str, Any]) -> TurnaroundRow:
        return TurnaroundRow(**{**row, "key": row["key"] or "", "stage": Stage(row["stage"])})

    each = [dict(row.items()) for row in found]
    rows = sorted(
        (made(row) for row in each if row["key"] is not None), key=lambda one: (one.key, order.index(one.stage))
    )
    total = sorted((made(row) for row in each if row["key"] is None), key=lambda one: order.index(one.stage))
    return tuple(rows), tuple(total)


async def targets(connection: Connection) -> tuple[Target, ...]:
    rows = await connection.fetch(
        """select stage, minutes, test_code as test, department, priority from lab.turnaround_target
           order by stage, test_code, department, priority"""
    )
    return tuple(Target(**{**dict(row.items()), "stage": Stage(row["stage"])}) for row in rows)


async def put_targets(connection: Connection, organization_id: UUID, new: Sequence[Target]) -> None:
    """All there are; those that were there before are no more."""
    await connection.execute("delete from lab.turnaround_target")
    await connection.executemany(
        """insert into lab.turnaround_target (id, organization_id, stage, minutes, test_code, department, priority)
           values ($1, $2, $3, $4, $5, $6, $7)""",
        [(uuid7(), organization_id, one.stage.value, one.minutes, one.test, one.department, one.priority)
         for one in new],
    )  # fmt: skip


async def unknown_tests(connection: Connection, codes: Sequence[str]) -> list[str]:
    rows = await connection.fetch(
        """select code from unnest($1::text[]) as c (code)
            where not exists (select from lab.test t where t.code = c.code)""",
        list(codes),
    )
    return [row["code"] for row in rows]

"""What charts and reports of quality control are made of, as rows. Each read goes by an index, however much there is.

Nothing here is patient data: of a look-back only how many of its results became what.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from interface.domain.qc import QcVerdict, Stream
from interface.domain.qc_report import Deed, LookbackReport
from interface.domain.record import record
from interface.store.db import Connection


@record
class PointRow:
    """A point with what is needed to draw and to report it."""

    id: UUID
    at: datetime
    lot_id: UUID
    material: str
    lot: str
    level: str
    level_number: int
    expires_on: date | None
    target_id: UUID | None
    number: Decimal | None
    z: Decimal | None
    verdict: QcVerdict
    rules: tuple[str, ...]
    reagent_lot: str
    comment: str
    excluded_at: datetime | None
    excluded_by: str
    exclude_reason: str


_POINTS = """
select p.qc_result_id as id, p.measured_at as at, p.lot_id, p.target_id, p.number, p.z, p.verdict, p.rules,
       p.reagent_lot, p.excluded_at, p.excluded_by_name, p.exclude_reason
from lab.qc_point p
where p.analyzer_id = $1 and p.test_id = $2 and p.module = $3 and p.measured_at >= $4 and p.measured_at < $5
order by p.measured_at, p.qc_result_id
limit $6
"""
# What few points have, and few lots: not looked up once a point.
_COMMENTS = """
select id, comment from lab.qc_result
where analyzer_id = $1 and test_id = $2 and measured_at >= $3 and measured_at < $4 and comment <> ''
"""
_LOTS = """
select l.id, m.name as material, l.lot, l.level, l.level_number, l.expires_on
from lab.qc_lot l join lab.qc_material m on m.id = l.material_id where l.id = any($1)
"""


async def points(connection: Connection, stream: Stream, begin: datetime, end: datetime, limit: int) -> list[PointRow]:
    """The points of a stream from `begin` to before `end`, oldest first; at most `limit`."""
    rows = await connection.fetch(
        _POINTS, stream.analyzer_id, stream.test_id, stream.module, begin, end, limit
    )  # fmt: skip
    said = await connection.fetch(_COMMENTS, stream.analyzer_id, stream.test_id, begin, end)
    comments = {row["id"]: row["comment"] for row in said}
    lots = {row["id"]: tuple(row)[1:] for row in await connection.fetch(_LOTS, list({row["lot_id"] for row in rows}))}
    alike: dict[tuple[str, ...], tuple[str, ...]] = {}
    made = []
    for row in rows:
        id, at, lot_id, target_id, number, z, verdict, rules, reagent, out_at, out_by, why = row
        broken = tuple(rules)
        broken = alike.setdefault(broken, broken)
        material, lot, level, level_number, expires_on = lots[lot_id]
        made.append(
            PointRow(
                id, at, lot_id, material, lot, level, level_number, expires_on, target_id, number, z,
                _VERDICTS[verdict], broken, reagent, comments.get(id, ""), out_at, out_by, why,
            )
        )  # fmt: skip
    return made


_VERDICTS = {verdict.value: verdict for verdict in QcVerdict}


_MODULES = """
with recursive module (name) as (
    (select module from lab.qc_point where analyzer_id = $1 and test_id = $2 order by module limit 1)
    union all
    select (select p.module from lab.qc_point p where p.analyzer_id = $1 and p.test_id = $2 and p.module > module.name
            order by p.module limit 1)
    from module where module.name is not null)
select name from module where name is not null
union select module from lab.qc_stream where analyzer_id = $1 and test_id = $2
order by name
"""


async def modules(connection: Connection, analyzer_id: UUID, test_id: UUID) -> list[str]:
    """The modules of an analyzer's test that controls were measured on; each is one step in the index."""
    return [row["name"] for row in await connection.fetch(_MODULES, analyzer_id, test_id)]


_STREAMS = """
with known as (
    select analyzer_id, test_id, module from lab.qc_stream
    union
    select g.analyzer_id, g.test_id, g.module from lab.qc_target g
    where g.valid_from < $2 and coalesce(least(g.valid_to, g.ended_at) > $1, true)
      and not (g.module = '' and exists (
          select from lab.qc_stream s where s.analyzer_id = g.analyzer_id and s.test_id = g.test_id))
)
select k.analyzer_id, k.test_id, k.module, a.name as analyzer, t.code as test
from known k join lab.analyzer a on a.id = k.analyzer_id join lab.test t on t.id = k.test_id
order by a.name, t.code, k.module
"""


@dataclass(frozen=True, slots=True)
class StreamName:
    stream: Stream
    analyzer: str
    test: str


async def streams(connection: Connection, begin: datetime, end: datetime) -> list[StreamName]:
    """Every stream that something was ever measured or said of, and every one that has a target in the period."""
    rows = await connection.fetch(_STREAMS, begin, end)
    return [
        StreamName(Stream(row["analyzer_id"], row["test_id"], row["module"]), row["analyzer"], row["test"])
        for row in rows
    ]


_DEEDS = """
select d.created_at as at, d.kind, d.actor_name as by, d.text, coalesce(l.level, '') as level,
       l.level_number, d.qc_result_id
from lab.qc_action d
left join lab.qc_point p on p.qc_result_id = d.qc_result_id
left join lab.qc_lot l on l.id = p.lot_id
where d.analyzer_id = $1 and d.test_id = $2 and d.module = $3 and d.created_at >= $4 and d.created_at < $5
order by d.created_at, d.id
"""


async def deeds(connection: Connection, stream: Stream, begin: datetime, end: datetime) -> list[Deed]:
    """What was said and done about a stream in a period."""
    rows = await connection.fetch(_DEEDS, stream.analyzer_id, stream.test_id, stream.module, begin, end)
    return [
        Deed(
            row["at"], row["kind"], row["by"], row["text"],
            level_name(row["level"], row["level_number"]) if row["level_number"] is not None else "",
            str(row["qc_result_id"]) if row["qc_result_id"] is not None else "",
        )
        for row in rows
    ]  # fmt: skip


def level_name(level: str, number: int) -> str:
    """What a level is called: a name of its own, else its number."""
    return level or str(number)


_LOOKBACKS = """
select k.created_at, k.from_at, k.to_at, k.state, k.closed_at, k.reason,
       array(select i.state || ' ' || count(*) from lab.qc_lookback_item i where i.lookback_id = k.id
             group by i.state order by i.state) as outcomes
from lab.qc_lookback k
where k.analyzer_id = $1 and k.test_id = $2 and k.module = $3 and k.to_at >= $4 and coalesce(k.from_at, k.to_at) < $5
order by k.created_at, k.id
"""


async def lookbacks(connection: Connection, stream: Stream, begin: datetime, end: datetime) -> list[LookbackReport]:
    """The worklists of a stream that are of a time in the period."""
    rows = await connection.fetch(_LOOKBACKS, stream.analyzer_id, stream.test_id, stream.module, begin, end)
    return [
        LookbackReport(
            row["created_at"], row["from_at"], row["to_at"], row["state"], row["closed_at"], row["reason"],
            tuple(_outcome(text) for text in row["outcomes"]),
        )
        for row in rows
    ]  # fmt: skip


def _outcome(text: str) -> tuple[str, int]:
    state, _, count = text.partition(" ")
    return state, int(count)


_UNJUDGED = """
select a.name, count(*) as count from lab.qc_result r join lab.analyzer a on a.id = r.analyzer_id
where r.created_at >= $1 and r.created_at < $2 and r.role = 'qc'
  and not exists (select from lab.qc_point p where p.qc_result_id = r.id)
group by a.name order by a.name
"""


async def unjudged(connection: Connection, begin: datetime, end: datetime) -> list[tuple[str, int]]:
    """How many controls each analyzer sent in a period that made no point: their lot or test is not known, say."""
    return [(row["name"], row["count"]) for row in await connection.fetch(_UNJUDGED, begin, end)]

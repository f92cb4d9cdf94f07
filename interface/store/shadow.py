"""What revisions in the shadow said, beside what people then did with the same results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.store.db import Connection
from interface.store.versions import versions_of


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one test: how often the revision would have done this where people did that."""

    test: str
    action: str  # of the revision: release, wait or hold
    human: str  # released, changed, rejected, or open where nobody has decided
    results: int


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One result; no value and no patient: who may read results looks at it by its id."""

    result_id: UUID
    test: str
    action: str
    human: str
    against: tuple[str, ...]
    decided_by: str
    decided_at: datetime | None


# The last verdict of the revision on each result, and the last thing a person did with it after that. `released`: as it
# was judged; `changed`: with another value, or corrected; `rejected`: discarded, cancelled, entered in error, asked for
# again. A version of a person's that still holds the result, or is not released, is no decision yet.
_JUDGED = f"""
with judged as (
    select distinct on (s.result_id) s.result_id, s.result_version_id, s.test_code, s.action, s.against
      from lab.shadow_verdict s
     where s.rule_set_id = $1 and ($2::timestamptz is null or s.created_at >= $2)
     order by s.result_id, s.id desc
), decided as (
    select j.*, d.by, d.at,
           case when d.status is null then 'open'
                when d.status in ('cancelled', 'entered-in-error') or 'rerun' = any(d.held) then 'rejected'
                when d.status not in ('final', 'corrected', 'amended') then 'open'
                when d.status <> 'final' then 'changed'
                when (d.value, d.comparator, d.unit) is distinct from (o.value, o.comparator, o.unit) then 'changed'
                else 'released' end as human
      from judged j
      left join lab.result_version o on o.id = j.result_version_id
      left join lateral (
          select v.status, v.held, v.value, v.comparator, v.unit, v.created_at as at,
                 coalesce((select u.username from lab.app_user u where u.id = v.actor_id), '') as by
            from {versions_of("= j.result_id")} v
           where v.actor_kind = 'user' and v.id > j.result_version_id
           order by v.id desc limit 1) d on true
)
"""  # noqa: S608 - names of ours
_TALLY = (
    _JUDGED
    + """
select test_code as test, action, human, count(*) as results from decided
 group by test_code, action, human order by test_code, action, human
"""
)
_MISSED = (
    _JUDGED
    + """
select result_id, test_code as test, action, human, against, by as decided_by, at as decided_at from decided
 where action = 'release' and human in ('rejected', 'changed') order by at desc limit $3
"""
)


async def tally(connection: Connection, rule_set_id: UUID, since: datetime | None) -> list[Tally]:
    rows = await connection.fetch(_TALLY, rule_set_id, since)
    return [Tally(**dict(row.items())) for row in rows]


async def disagreements(
    connection: Connection, rule_set_id: UUID, since: datetime | None, limit: int
) -> list[Disagreement]:
    """What would have been released and a person rejected or changed, the newest first."""
    rows = await connection.fetch(_MISSED, rule_set_id, since, limit)
    return [Disagreement(**{**dict(row.items()), "against": tuple(row["against"])}) for row in rows]

"""Results that wait and what quality control says of them, as rows; see `flow.qc_sweep`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.domain.model import HoldReason
from interface.domain.qc import Stream
from interface.domain.times import measured_at
from interface.domain.views import Actor, ActorKind
from interface.store.db import Connection
from interface.store.qc_gate import MEASURED_ON
from interface.store.versions import versions_of

# As `result_waiting_idx` has it, so that only what waits is looked at.
_WAITING = f"""
select r.id from lab.result r
where (r.status in ('registered', 'preliminary') or r.pending_version_id is not null)
  and r.status in ('registered', 'preliminary') and r.test_id = $2 and {MEASURED_ON} = $1
order by r.specimen_id, r.id
"""  # noqa: S608 - a constant


async def waiting(connection: Connection, stream: Stream) -> list[UUID]:
    """The results of an analyzer's test, on whichever module, that are not released; those of a specimen together."""
    rows = await connection.fetch(_WAITING, stream.analyzer_id, stream.test_id)
    return [row["id"] for row in rows]


@dataclass(frozen=True, slots=True)
class Waits:
    """A result that waits. `by_person`: a person has said something of it, at some time."""

    id: UUID
    version_id: UUID
    specimen_id: UUID | None
    held: frozenset[HoldReason]
    module: str
    reagent_lot: str
    at: datetime  # measured
    by_person: bool


async def read(connection: Connection, result_ids: Collection[UUID]) -> list[Waits]:
    """Those of the results that still wait. The caller has them locked."""
    rows = await connection.fetch(
        f"""select r.id, r.version_id, r.specimen_id, r.held, v.module, v.reagent_lot, v.instrument_at,
                  coalesce(m.received_at, r.created_at) as received_at,
                  exists (select from {versions_of("= r.id")} p
                           where p.actor_kind in ('user', 'client')) as by_person
           from lab.result r join lab.result_version v on v.id = r.version_id
           left join lab.message m on m.id = v.message_id
           where r.id = any($1) and r.status in ('registered', 'preliminary') order by r.id""",  # noqa: S608 - names of ours
        list(result_ids),
    )
    return [
        Waits(
            row["id"], row["version_id"], row["specimen_id"], frozenset(map(HoldReason, row["held"])), row["module"],
            row["reagent_lot"], measured_at(row["instrument_at"], row["received_at"]), row["by_person"],
        )
        for row in rows
    ]  # fmt: skip


async def calculated_of(connection: Connection, specimen_id: UUID, test: str) -> list[UUID]:
    """The results that wait and were calculated of a test's result of this specimen, on whichever of its parts."""
    rows = await connection.fetch(
        """select r.id from lab.specimen s
           join lab.specimen f on f.id in (s.id, s.parent_id) or f.parent_id in (s.id, s.parent_id)
           join lab.result r on r.specimen_id = f.id
           cross join lateral (select * from lab.decision y where y.result_version_id = r.version_id offset 0) d
           where s.id = $1 and r.origin = 'calculation' and r.status in ('registered', 'preliminary')
           and exists (select from json_array_elements(lab.explained(d.steps)::json) as e (step)
                       where e.step ->> 'step' = 'calculation' and e.step -> 'inputs' -> $2 is not null)
           order by r.id""",
        specimen_id,
        test,
    )
    return [row["id"] for row in rows]


_OF_LISTED = """
select distinct {wanted} from lab.qc_lookback k join lab.qc_lookback_item i on i.lookback_id = k.id
join lab.result m on m.id = i.result_id join lab.test t on t.id = m.test_id join lab.specimen s on s.id = m.specimen_id
join lab.specimen f on f.id in (s.id, s.parent_id) or f.parent_id in (s.id, s.parent_id)
join lab.result r on r.specimen_id = f.id
cross join lateral (select * from lab.decision y where y.result_version_id = r.version_id offset 0) d
where k.analyzer_id = $1 and k.test_id = $2 and k.module = $3 and i.of_result_id is null and m.reportable
  and m.status in ('final', 'corrected', 'amended')
  and r.origin = 'calculation' and r.status in ('registered', 'preliminary') and r.pending_version_id is null
  and exists (select from json_array_elements(lab.explained(d.steps)::json) as e (step)
              where e.step ->> 'step' = 'calculation' and e.step -> 'inputs' -> t.code is not null)
  and {also} order by 1
"""
_SUSPECT = _OF_LISTED.format(
    wanted="r.id", also="k.state = 'open' and i.state = 'waiting' and not 'qc_failed' = any(r.held)"
)
_STANDS = _OF_LISTED.format(
    wanted="m.id",
    also="""'qc_failed' = any(r.held) and not exists (
        select from lab.qc_lookback_item w where w.result_id = m.id and w.state = 'waiting')""",
)


async def calculated_of_listed(connection: Connection, stream: Stream) -> list[UUID]:
    """What waits, is not held for it yet, and was calculated of a released result that waits on a list."""
    rows = await connection.fetch(_SUSPECT, stream.analyzer_id, stream.test_id, stream.module)
    return [row["id"] for row in rows]


async def held_back(connection: Connection, stream: Stream) -> list[UUID]:
    """The results that were on a list and wait on none any more, of which something calculated is still held."""
    rows = await connection.fetch(_STANDS, stream.analyzer_id, stream.test_id, stream.module)
    return [row["id"] for row in rows]


async def author(connection: Connection, organization_id: UUID, stream: Stream) -> Actor:
    """Whoever brought about the state that a stream has: what follows from it is audited as theirs."""
    row = await connection.fetchrow(
        """select actor_kind, actor_id, actor_name from lab.qc_event
           where analyzer_id = $1 and test_id = $2 and module = $3 order by created_at desc, id desc limit 1""",
        stream.analyzer_id, stream.test_id, stream.module,
    )  # fmt: skip
    if row is None:
        return Actor(ActorKind.RULE_SET, None, "quality control", organization_id)
    return Actor(ActorKind(row["actor_kind"]), row["actor_id"], row["actor_name"], organization_id)

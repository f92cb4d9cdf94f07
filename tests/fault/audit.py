"""What became of messages that were acknowledged (the invariants I1 to I5 of docs/evidence.md)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from tests.bench.messages import ANALYTES

PATIENCE_S = 120.0
VALUES = {code: value for code, _, value in ANALYTES}
HL7_FRAMES, ASTM_FRAMES = 1, 29

_KEPT = """
select m.control_id as id, m.id as message_id, m.settled, m.reason,
       (select count(*) from lab.frame f where f.message_id = m.id) as frames
  from lab.message m
 where m.organization_id = (select id from lab.organization where name = 'main') and m.control_id = any($1)
   and m.state = 'complete' and m.settled is distinct from 'duplicate'
 order by m.id
"""
# Of each specimen, which every message has for itself: its results, whether each version of them explains itself, and
# what the current ones say and of which message they are.
_RESULTS = """
with v as (
    select v.*, r.version_id = v.id as current, d.steps is not null and d.steps not in ('', '[]') as explained
      from lab.result_version v join lab.result r on r.id = v.result_id
      left join lab.decision d on d.result_version_id = v.id
     where v.organization_id = (select id from lab.organization where name = 'main') and v.specimen_as_sent = any($1)
)
select specimen_as_sent as specimen, count(*) filter (where current) as results,
       count(*) filter (where not explained) as unexplained,
       array_agg(distinct message_id) filter (where current) as messages,
       json_object_agg(code, raw_value) filter (where current) as values
  from v group by 1
"""
# `lab.decision` shows the explanations of the organization that is asked for, also to who sees all else of every one.
_ACTING = "select set_config('labora.org', (select id::text from lab.organization where name = 'main'), false)"
_WAITING = """
select count(*) from lab.message m
 where m.organization_id = (select id from lab.organization where name = 'main') and m.control_id = any($1)
   and m.state = 'complete' and m.settled is null
"""


@dataclass(frozen=True, slots=True)
class Acked:
    """A message whose acknowledgement has been read. `number`: of its analyzer's, in the order in which it sends."""

    control_id: str
    analyzer: str
    number: int
    astm: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong. `kind`: lost, doubled, order, decision, values, explanation, log."""

    kind: str
    control_id: str
    text: str


async def audit(owner: asyncpg.Connection[asyncpg.Record], acked: Sequence[Acked]) -> list[Finding]:
    """Once all of them are decided: each is in the journal whole and once, in the order in which its analyzer sent,
    with each of its results once, as it says them, and each version of those with its explanation."""
    ids = [one.control_id for one in acked]
    async with asyncio.timeout(PATIENCE_S):
        while await owner.fetchval(_WAITING, ids):  # noqa: ASYNC110  another process decides
            await asyncio.sleep(0.05)
    kept: dict[str, list[asyncpg.Record]] = defaultdict(list)
    order = await owner.fetch(_KEPT, ids)
    for row in order:
        kept[row["id"]].append(row)
    await owner.execute(_ACTING)
    rows = await owner.fetch(_RESULTS, [f"S{one}" for one in ids])
    results = {row["specimen"].removeprefix("S"): row for row in rows}
    return [
        *(finding for one in acked for finding in _of_message(one, kept[one.control_id], results.get(one.control_id))),
        *_of_order(acked, [row["id"] for row in order]),
    ]


def _of_message(one: Acked, kept: Sequence[Any], found: Any | None) -> Iterator[Finding]:
    if len(kept) != 1:
        yield Finding("doubled" if kept else "lost", one.control_id, f"{len(kept)} times in the journal")
        return
    [row] = kept
    frames = ASTM_FRAMES if one.astm else HL7_FRAMES
    if row["frames"] != frames:
        yield Finding("lost", one.control_id, f"{row['frames']} of its {frames} frames are in the journal")
    if row["settled"] not in ("released", "held"):
        yield Finding("decision", one.control_id, f"settled as {row['settled']}: {row['reason']}")
    if found is None:
        yield Finding("decision", one.control_id, "it has no result")
        return
    if found["results"] != len(VALUES):
        kind = "doubled" if found["results"] > len(VALUES) else "decision"
        yield Finding(kind, one.control_id, f"{found['results']} results of {len(VALUES)}")
    if found["messages"] != [row["message_id"]]:
        yield Finding("decision", one.control_id, f"its results are of {found['messages']}")
    if (said := _said(found["values"])) != VALUES:
        yield Finding("values", one.control_id, f"its results say {said}")
    if found["unexplained"]:
        yield Finding("explanation", one.control_id, f"{found['unexplained']} versions explain nothing")


def _said(values: str | dict[str, str]) -> dict[str, str]:
    loaded: dict[str, str] = orjson.loads(values) if isinstance(values, str) else values
    return loaded


def _of_order(acked: Sequence[Acked], order: Sequence[str]) -> Iterator[Finding]:
    """A message's id says when it was received."""
    of, last = {one.control_id: one for one in acked}, dict[str, int]()
    for control_id in order:
        one = of[control_id]
        if one.number < last.get(one.analyzer, 0):
            yield Finding("order", control_id, f"received after number {last[one.analyzer]} of its analyzer")
        last[one.analyzer] = max(one.number, last.get(one.analyzer, 0))

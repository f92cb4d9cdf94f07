"""What happened to work of `scripts/bench day` that did not end, as both sides say it: it is seen which lost it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

import asyncpg

from tests.bench.day_lab import Bench

MOST = 3  # pieces of work that are traced
WORK = """select d.*, s.barcode, t.code as test, i.status as item, a.name as analyzer from lab.dispatch d
    join lab.specimen s on s.id = d.specimen_id join lab.order_item i on i.id = d.order_item_id
    join lab.test t on t.id = i.test_id join lab.analyzer a on a.id = d.analyzer_id where d.id = any($1)"""
EVENTS = "select * from lab.dispatch_event where dispatch_id = $1 order by id"
SENDINGS = """select distinct s.* from lab.sending s join lab.dispatch_event e on e.sending_id = s.id
    where e.dispatch_id = $1"""
MESSAGES = """select m.id, m.state, m.settled, m.reason, m.reply, m.sealed_at, m.settled_at, l.name as link,
    string_agg(encode(f.bytes, 'escape'), '' order by f.ordinal) as text
    from lab.message m join lab.link l on l.id = m.link_id join lab.frame f on f.message_id = m.id
    where exists (select from lab.frame g where g.message_id = m.id and position($1::bytea in g.bytes) > 0)
    group by m.id, l.name order by m.id"""
RESULTS = """select r.id, r.status, r.held, r.reportable, r.order_item_id, v.version, v.message_id, v.instrument_time
    from lab.result r join lab.result_version v on v.result_id = r.id
    join lab.specimen s on s.id = r.specimen_id where s.barcode = $1 order by r.id, v.version"""


class Asked(Protocol):
    """Who asks the database."""

    async def rows(self, query: str, *values: object) -> list[asyncpg.Record]: ...


async def traced(day: Asked, benches: Mapping[str, Bench], ids: Sequence[UUID]) -> list[str]:
    """Each piece of work in lines: what the laboratory has of it, and what its analyzer did."""
    lines = []
    for work in (await day.rows(WORK, list(ids)))[:MOST]:
        barcode = work["barcode"]
        lines.append(f"work {_line(work)}")
        for name, query, value in (
            ("event", EVENTS, work["id"]), ("sending", SENDINGS, work["id"]),
            ("message", MESSAGES, barcode.encode()), ("result", RESULTS, barcode),
        ):  # fmt: skip
            lines += [f"  {name} {_line(row)}" for row in await day.rows(query, value)]
        lines += [f"  analyzer {text}" for text in benches[work["analyzer"]].history.get(barcode, ())]
    return lines


def _line(row: asyncpg.Record) -> str:
    kept = {key: value for key, value in row.items() if value not in (None, "", []) and key != "organization_id"}
    return json.dumps(kept, default=lambda one: one.decode("latin-1") if isinstance(one, bytes) else str(one))

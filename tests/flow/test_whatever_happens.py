"""What must be so of orders and results, whatever was done to them in whatever order (`tests.flow.walk`)."""

from __future__ import annotations

import pytest

from tests.flow.laboratory import Laboratory
from tests.flow.walk import walking

SEEDS = pytest.mark.parametrize("seed", [1, 2, *(pytest.param(at, marks=pytest.mark.long) for at in range(3, 60))])
STEPS = 80
_RUNS = "lab.order_item i join lab.result r on r.order_item_id = i.id"
_LIVE = "r.status not in ('cancelled', 'entered-in-error')"
_RELEASED = "r.status in ('final', 'corrected', 'amended')"
_AWAITED = "exists (select from lab.follow_up f where f.order_item_id = i.id and f.state in ('requested', 'sent'))"
_INPUT = """(select v.number from lab.result r join lab.result_version v on v.id = r.version_id
    where r.specimen_id = a.specimen_id and v.test_code = '{code}' and r.reportable and {released}
    order by r.id limit 1)"""
_WORDS = {"runs": _RUNS, "live": _LIVE, "released": _RELEASED, "awaited": _AWAITED} | {
    code: _INPUT.format(code=code, released=_RELEASED) for code in ("NA", "CL", "HCO3")
}
# Each finds what must not be.
NEVER = {
    "an item is done of which no result stands": """
        select from lab.order_item i where i.status in ('completed', 'verified')
        and not exists (select from lab.result r where r.order_item_id = i.id and {live})""",
    "an item is verified of which nothing is released": """
        select from lab.order_item i where i.status = 'verified'
        and not exists (select from lab.result r where r.order_item_id = i.id and {released})""",
    "an item is open of which a result is released, and no rerun is asked for": """
        select from {runs} where r.reportable and {released} and i.status <> 'verified' and not {awaited}""",
    "two runs of an item are reported": """
        select i.id from {runs} where r.reportable and {live} group by i.id having count(*) > 1""",
    "none of the runs of an item is reported": """
        select i.id from {runs} where {live} group by i.id having not bool_or(r.reportable)""",
    "an item of a cancelled order is open": """
        select from lab.order_item i join lab.lab_order o on o.id = i.order_id
        where o.cancelled_at is not null and i.status in ('requested', 'collected', 'received', 'in_progress')""",
    "a result is of another order, or another test, than its item": """
        select from {runs} where (r.order_id, r.test_id) is distinct from (i.order_id, i.test_id)""",
    "a result is of another patient than its order": """
        select from lab.result r join lab.lab_order o on o.id = r.order_id
        where r.patient_id is distinct from o.patient_id""",
    "a result that was never released has a change that waits": """
        select from lab.result r where r.pending_version_id is not null and not {released}""",
    "a result says something else than its current version": """
        select from lab.result r join lab.result_version v on v.id = r.version_id
        where (v.status, v.version, v.held) is distinct from (r.status, r.version, r.held)""",
    "something is released and held": """
        select from lab.result r where {released} and r.held <> '{{}}'""",
    "an anion gap is released of other values than those that are": """
        select from lab.result a join lab.result_version g on g.id = a.version_id where g.test_code = 'AGAP'
        and a.origin = 'calculation' and g.actor_kind <> 'user' and a.pending_version_id is null and a.reportable
        and a.status in ('final', 'corrected', 'amended') and abs({NA} - {CL} - {HCO3} - g.number) >= 1""",
}
_COUNT = "select count(*) from lab.result r where {released}"


async def _look(lab: Laboratory) -> list[str]:
    return [what for what, text in NEVER.items() if await lab.owner.fetch(text.format(**_WORDS))]


@SEEDS
async def test_orders_and_results_agree(database_url: str, seed: int) -> None:
    async with walking(database_url, seed) as walk:
        for _ in range(STEPS):
            await walk.step()
            assert await _look(walk.lab) == [], walk.done[-6:]
        assert await walk.lab.owner.fetchval(_COUNT.format(**_WORDS)) > 5, "the walk gets somewhere"

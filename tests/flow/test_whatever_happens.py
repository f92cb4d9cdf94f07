"""What must be so of orders and results, whatever was done to them in whatever order (`tests.flow.walk`)."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias, cast

import asyncpg
import pytest

from interface.domain.model import RELEASED, ResultStatus
from interface.domain.views import Audience
from interface.flow import reports
from tests.flow.laboratory import Laboratory, neighbour
from tests.flow.walk import Walk, walking, walking_in
from tests.flow.walk_analyzers import killed, later

SEEDS = pytest.mark.parametrize("seed", [1, *(pytest.param(at, marks=pytest.mark.long) for at in range(2, 60))])
FEW = pytest.mark.parametrize("seed", [1, *(pytest.param(at, marks=pytest.mark.long) for at in range(2, 20))])
Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
STEPS = 80
SEEN = RELEASED | {ResultStatus.ENTERED_IN_ERROR}
_RUNS = "lab.order_item i join lab.result r on r.order_item_id = i.id"
_LIVE = "r.status not in ('cancelled', 'entered-in-error')"
_RELEASED = "r.status in ('final', 'corrected', 'amended')"
# A person may leave what is released as it is, whatever is calculated now.
_LEFT = "exists (select from lab.result_version w where w.result_id = a.id and w.actor_kind = 'user')"
_AWAITED = "exists (select from lab.follow_up f where f.order_item_id = i.id and f.state in ('requested', 'sent'))"
_INPUT = """(select v.number from lab.result r join lab.result_version v on v.id = r.version_id
    where r.specimen_id = a.specimen_id and v.test_code = '{code}' and r.reportable and {released}
    order by r.id limit 1)"""
_WORDS = {"runs": _RUNS, "live": _LIVE, "released": _RELEASED, "awaited": _AWAITED, "left": _LEFT} | {
    code: _INPUT.format(code=code, released=_RELEASED) for code in ("NA", "CL", "HCO3", "CREA")
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
        and a.origin = 'calculation' and not {left} and g.actor_kind <> 'user' and a.pending_version_id is null
        and a.reportable
        and a.status in ('final', 'corrected', 'amended') and abs({NA} - {CL} - {HCO3} - g.number) >= 1""",
    "a filtration rate is released of another creatinine, or of another person, than is known": """
        select from lab.result a join lab.result_version g on g.id = a.version_id
        join lab.patient q on q.id = a.patient_id join lab.patient p on p.id = coalesce(q.merged_into_id, q.id)
        cross join lateral (select case p.sex when 'female' then 0.7 else 0.9 end as k,
            case p.sex when 'female' then -0.241 else -0.302 end as e, {CREA} as crea,
            extract(year from age(a.effective_at, p.birth_date)) as age) w
        where g.test_code = 'EGFR_2021' and g.number is not null and a.origin = 'calculation' and a.reportable
        and a.status in ('final', 'corrected', 'amended') and a.pending_version_id is null
        and g.actor_kind <> 'user' and not {left} and w.crea is not null and (p.sex = 'unknown' or abs(g.number - 142
            * least(w.crea / w.k, 1) ^ w.e * greatest(w.crea / w.k, 1) ^ -1.2 * 0.9938 ^ w.age
            * case p.sex when 'female' then 1.012 else 1 end) > 1.5)""",
    "a message that was acknowledged waits for nobody": """
        select from lab.message m where m.state <> 'receiving' and coalesce(m.settled, '') = ''
        and not exists (select from lab.queue q where q.message_id = m.id)""",
    "a message was parked": """
        select from lab.message m where m.settled = 'parked'""",
    "a result is of another patient than its specimen": """
        select from lab.result r join lab.specimen s on s.id = r.specimen_id
        where r.patient_id is distinct from s.patient_id""",
    "a result is of another specimen than its item": """
        select from {runs} where {live} and r.specimen_id is distinct from i.specimen_id and r.origin <> 'calculation'
        and not exists (select from lab.specimen s join lab.specimen o on o.id = r.specimen_id
            where s.id = i.specimen_id and split_part(s.barcode, '-', 1) = split_part(o.barcode, '-', 1))""",
    "an order of which something is awaited is passed over": """
        select from lab.order_item i join lab.lab_order o on o.id = i.order_id
        where i.status in ('requested', 'collected', 'received', 'in_progress') and not o.waiting""",
    "a critical result has no task": """
        select from lab.result r join lab.result_version v on v.id = r.version_id
        left join lab.order_item i on i.id = r.order_item_id
        where {live} and r.reportable and v.flags && '{{HH,LL}}' and coalesce(i.status, '') <> 'cancelled'
        and not exists (
            select from lab.critical_notification n where n.subject_id = coalesce(r.order_item_id, r.id)
            and n.kind = 'critical')""",
    "a task is to be told of what is critical no more": """
        select from lab.critical_notification n join lab.result r on r.id = n.result_id
        join lab.result_version v on v.id = r.version_id
        where n.state in ('open', 'attempted') and n.kind = 'critical' and {released} and r.pending_version_id is null
        and not exists (select from lab.result o
            join lab.result_version w on w.id in (o.version_id, o.pending_version_id)
            where coalesce(o.order_item_id, o.id) = n.subject_id and o.status not in ('cancelled', 'entered-in-error')
            and w.flags && '{{HH,LL}}')""",
    "an item that is closed is on a worksheet": """
        select from lab.worksheet_item w join lab.order_item i on i.id = w.order_item_id
        where w.open and i.status in ('cancelled', 'rejected')""",
    "an analyzer is to do what is closed": """
        select from lab.dispatch d join lab.order_item i on i.id = d.order_item_id
        where d.state not in ('resulted', 'cancelled') and d.kind <> 'cancel'
        and i.status in ('cancelled', 'rejected')""",
    "rules released potassium and no control spoke for it": """
        select from lab.result r join lab.result_version v on v.id = r.version_id
        cross join lateral json_array_elements(lab.explained(v.steps)::json) e
        where v.test_code = 'K' and v.actor_kind not in ('user') and {released} and r.origin = 'analyzer'
        and not exists (select from json_array_elements(lab.explained(v.steps)::json) e
            where e ->> 'step' = 'qc' and e -> 'inputs' ->> 'state' in ('ok', 'warn'))""",
    "what was released by rules does not name them": """
        select from lab.result r join lab.result_version v on v.id = r.version_id
        where v.actor_kind <> 'user' and {released}
        and not exists (select from json_array_elements(lab.explained(v.steps)::json) e
            where e ->> 'step' = 'autoverification' and coalesce(e ->> 'version', '') <> '')""",
    "a result waits that is on no list": """
        select from lab.result r where {live} and not r.reportable and r.order_item_id is null""",
    "a change waits that is on no list": """
        select from lab.result r join lab.result_version v on v.id = r.pending_version_id
        where not r.reportable and not 'already_reported' = any(v.held)""",
    "a result is dated otherwise than its specimen": """
        select from lab.result r join lab.specimen s on s.id = r.specimen_id
        where s.collected_at is not null and r.effective_at <> s.collected_at and r.origin <> 'calculation'""",
}
_COUNT = "select count(*) from lab.result_version"


_TOLD = """
select w.specimen_as_sent, w.code, w.raw_value from (
    select specimen_as_sent, code, raw_value, organization_id from lab.result_version
    union select specimen_as_sent, code, raw_value, organization_id from lab.qc_result) w
where w.organization_id = $1
"""


async def _look(walk: Walk) -> list[str]:
    found = [what for what, text in NEVER.items() if await walk.lab.owner.fetch(text.format(**_WORDS))]
    return [*found, *await _lost(walk), *await _reports(walk)]


async def _lost(walk: Walk) -> list[str]:
    """What analyzers were acknowledged, and no version of any result says."""
    if await walk.lab.owner.fetchval("select count(*) from lab.queue"):
        return []
    there = {tuple(row) for row in await walk.lab.owner.fetch(_TOLD, walk.lab.organization_id)}
    lost = []
    for records in walk.said:
        barcode = next(one.split("|")[2] for one in records if one.startswith("O|"))
        results = [one.split("|") for one in records if one.startswith("R|")]
        lost += [f"lost: {barcode} {one[2:4]}" for one in results if (barcode, one[2][3:], one[3]) not in there]
    return lost


async def _reports(walk: Walk) -> list[str]:
    """Reports that say something else than what is released."""
    if len(walk.done) % 10:
        return []
    lab, wrong = walk.lab, []
    shown = await lab.results(Audience.EMR)
    wrong += [f"shown: {one.test_code} {one.status} {one.held}" for one in shown if one.held or one.status not in SEEN]
    async with lab.database.transaction(lab.organization_id) as connection:
        for row in await connection.fetch(
            "select id from lab.lab_order where exists (select from lab.result r"
            " where r.order_id = lab_order.id and r.released_at is not null)"
        ):
            report = await reports.content_of(connection, await reports.version_of(connection, row["id"], Audience.EMR))
            says = sorted((one.test, one.value, one.status, one.version) for one in report.lines)
            of = [one for one in shown if one.order_id == row["id"]]
            is_so = sorted((one.test_code, one.value, one.status, one.version) for one in of)
            if says != is_so:
                wrong.append(f"report: {says} and not {is_so}")
    return wrong


@SEEDS
async def test_orders_and_results_agree(database_url: str, seed: int) -> None:
    async with walking(database_url, seed) as walk:
        for _ in range(STEPS):
            await walk.step()
            assert await _look(walk) == [], walk.done[-6:]
        assert await walk.lab.owner.fetchval(_COUNT) > 5, "the walk gets somewhere"


class _OneByOne:
    """A connection that several wait for."""

    def __init__(self, owner: Owner) -> None:
        self._owner, self._lock = owner, asyncio.Lock()

    async def fetch(self, *asked: Any) -> list[asyncpg.Record]:
        async with self._lock:
            return await self._owner.fetch(*asked)

    async def fetchval(self, *asked: Any) -> object:
        async with self._lock:
            return await self._owner.fetchval(*asked)

    async def fetchrow(self, *asked: Any) -> asyncpg.Record | None:
        async with self._lock:
            return await self._owner.fetchrow(*asked)


@FEW
async def test_so_they_do_where_several_do_something_at_the_same_moment(database_url: str, seed: int) -> None:
    async with walking(database_url, seed) as walk:
        walk.lab.owner = cast("Owner", _OneByOne(walk.lab.owner))
        walk.kinds = tuple(tuple(step for step in kind if step not in (killed, later)) for kind in walk.kinds)
        for turn in range(STEPS // 3):
            walk.waits = STEPS  # deciding is done beside the steps
            steps = [walk.step() for _ in range(3 if turn else 1)]
            await asyncio.gather(*steps, walk.lab.settle())
            await walk.lab.settle()
            assert await _look(walk) == [], walk.done[-6:]


_OF = "select md5(string_agg(t::text, ' ' order by t::text)) from lab.{table} t where organization_id = $1"
_KEPT = (
    "patient", "patient_identifier", "lab_order", "order_item", "specimen", "result", "result_version", "follow_up",
    "critical_notification", "worksheet", "worksheet_item", "dispatch", "code_map", "reference_interval", "qc_stream",
    "qc_point", "message", "placer_order", "audit_event", "rule_set",
)  # fmt: skip


async def _of(lab: Laboratory) -> dict[str, str]:
    return {table: await lab.owner.fetchval(_OF.format(table=table), lab.organization_id) for table in _KEPT}


@FEW
async def test_what_one_laboratory_does_changes_nothing_of_another(database_url: str, seed: int) -> None:
    """The same barcodes, numbers and codes; and whose ids a step names is chance."""
    async with walking(database_url, seed) as walk, neighbour(walk.lab) as lab, walking_in(lab, seed) as other:
        for _ in range(STEPS // 4):
            for one, beside in ((walk, other), (other, walk)):
                await beside.lab.settle()
                before = await _of(beside.lab)
                await one.step()
                assert await _of(beside.lab) == before, one.done[-1]
        assert await _look(walk) == []

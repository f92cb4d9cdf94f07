"""What comes late is seen however many points came after it, and what vouches is not forgotten for their number."""

from __future__ import annotations

from datetime import timedelta

from interface.domain.qc_state import Plan
from interface.flow import qc_gate
from interface.store.qc_gate import POINTS
from tests.flow.controls import REJECT, Bench, bench
from tests.flow.laboratory import laboratory


async def many(at: Bench, minutes: float, level: int = 1) -> None:
    """More acceptable points than a stream's state is made of, one a second, the first of them so long ago."""
    async with at.lab.database.transaction(at.lab.organization_id) as connection:
        stream, org = at.stream(), at.lab.organization_id
        of = (org, stream.analyzer_id, stream.test_id, at.ago(minutes), POINTS + 20)
        lot_id = await at._lot(connection, level)
        await connection.execute(
            """with made as (
                   insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, test_id, measured_at, role,
                       kind)
                   select gen_random_uuid(), $1, decode(md5(gen_random_uuid()::text), 'hex'), $2, $3,
                       $4::timestamptz + make_interval(secs => n), 'qc', 'numeric'
                   from generate_series(1, $5::int) n returning id, measured_at)
               insert into lab.qc_point (qc_result_id, organization_id, analyzer_id, test_id, lot_id, level_number,
                   run_id, measured_at, verdict, steps)
               select id, $1, $2, $3, $6, $7, id, measured_at, 'accept', '[]' from made""",
            *of, lot_id, level,
        )  # fmt: skip


async def state(at: Bench) -> str:
    return str(await at.lab.owner.fetchval("select state from lab.qc_stream"))


async def test_a_failure_that_comes_late_is_seen_however_many_points_came_after_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.control(600)
        await many(at, 300)
        await at.control(30)
        assert await state(at) == "ok"
        await at.control(400, REJECT)
        assert await state(at) == "fail"
        await at.control(20)
        assert await state(at) == "fail"  # nobody has said what was done
        await at.act()
        assert await state(at) == "ok"


async def test_a_point_of_long_ago_that_counts_no_more_vouches_no_more(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.wanted(1, 2)
        await at.plan(Plan(interval_minutes=None))
        run = await at.control(601, level=1)
        second = await at.control(600, level=2, run=run)
        await many(at, 300)
        await at.control(10)
        assert await state(at) == "ok"  # what vouched is older than all the points since
        async with lab.database.transaction(lab.organization_id) as connection:
            await connection.execute("update lab.qc_point set excluded_at = now() where qc_result_id = $1", second)
            await qc_gate.refresh(connection, lab.director, at.stream(), "excluded", second)
        assert await state(at) == "unknown"


async def test_what_vouches_is_forgotten_once_it_has_expired(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = await bench(lab)
        await at.wanted(1, 2)
        await at.plan(Plan(interval_minutes=60))
        run = await at.control(601, level=1)
        await at.control(600, level=2, run=run)
        await many(at, 300)
        await at.control(10)
        ends = await lab.owner.fetchval("select expires_at from lab.qc_stream")
        assert ends is None or ends == at.ago(600) + timedelta(minutes=60)

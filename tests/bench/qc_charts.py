"""`scripts/bench qc-charts`: what a chart of 30 days and a month's report take, asked over HTTP, of a stream with a
history of 100,000 points in two years, at two levels.

Time as the asking client sees it, and what of that is CPU of this process (server and client): the median and the worst
but for the first, which comes to a process that has drawn nothing yet and is shown by itself. The collector is set as
the daemon sets it. The database is a server of its own that is removed at the end.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from interface.domain.permissions import Role
from interface.footprint import settle
from interface.store.db import Database
from interface.store.migrate import upgrade
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.telemetry import configure_logs
from tests import qc_records
from tests.api.bench import Bench, found_laboratory, serving
from tests.cluster import new_state_dir, with_database

POINTS, DAYS, ROUNDS = 100_000, 730, 30
_RESULTS = """
insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, test_id, kind, number, value,
    measured_at)
select gen_random_uuid(), $1, decode(md5($4::text || n), 'hex'), $2, 'qc', $3, 'numeric', z * $6 + $5,
       (z * $6 + $5)::text, $7::timestamptz + n * ($8::interval / $9)
from (select n, round(sin(n * 12.9898)::numeric * 2, 2) as z from generate_series(0, $9 - 1) n) as made
"""
_POINTS = """
insert into lab.qc_point (qc_result_id, organization_id, analyzer_id, module, test_id, lot_id, target_id, level_number,
    run_id, measured_at, number, z, verdict, rules, steps)
select r.id, $1, r.analyzer_id, '', r.test_id, $2, $3, $4, r.id, r.measured_at, r.number, (r.number - $5) / $6,
       case when abs(r.number - $5) > 1.99 * $6 then 'warn' else 'accept' end,
       case when abs(r.number - $5) > 1.99 * $6 then '{1-2s}'::text[] else '{}'::text[] end, '[]'
from lab.qc_result r where not exists (select from lab.qc_point p where p.qc_result_id = r.id)
"""


@contextmanager
def _folder() -> Iterator[Path]:
    path = new_state_dir(on_disk=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


async def _fill(made: Any, now: datetime) -> None:
    """Two levels, each with half of the points."""
    from tests.records import Laboratory

    async with made.database.organization(made.organization_id) as connection:
        test_id = await connection.fetchval("select id from lab.test where code = 'HGB'")
    records = Laboratory(made.database, made.organization_id, made.analyzer_id, made.analyzer_id, {"HGB": test_id})
    begin = now - timedelta(days=DAYS)
    for number, (level, mean, sd) in enumerate((("low", "12.0", "0.3"), ("high", "17.0", "0.4")), 1):
        lot = await qc_records.add_lot(records, level=level, number=number)
        aim = await qc_records.add_target(records, f"4711/{level}", mean, sd, valid_from=begin)
        async with made.database.transaction(made.organization_id) as connection:
            await connection.execute(
                _RESULTS, made.organization_id, made.analyzer_id, test_id, level, aim.mean, aim.sd, begin,
                timedelta(days=DAYS), POINTS // 2,
            )  # fmt: skip
            await connection.execute(_POINTS, made.organization_id, lot.id, aim.id, number, aim.mean, aim.sd)


async def _ask(bench: Bench, token: str, what: str, path: str, rounds: int, **said: str) -> None:
    taken, used, size = [], [], 0
    for _ in range(rounds):
        began, spent = time.perf_counter(), time.process_time()
        answer = await bench.get(path, token, params=said)
        taken.append((time.perf_counter() - began) * 1e3)
        used.append((time.process_time() - spent) * 1e3)
        assert answer.status == 200, answer.body
        size = len(answer.body)
    first, later = taken[0], taken[1:]
    print(
        f"{what:<26}{median(later):>8.1f} ms{max(later):>8.1f} worst{first:>8.1f} first{median(used):>8.1f} CPU"
        f"{size / 1024:>8.0f} kB"
    )


async def _measure(folder: Path) -> None:
    from interface.store.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        await upgrade(server.url(OWNER_ROLE))
        database = await Database.connect(with_database(server.url(OWNER_ROLE), "labora", APP_ROLE))
        made = await found_laboratory(database)
        now = datetime.now(UTC)
        await _fill(made, now)
        async with serving(database) as bench:
            token = await made.user_token(Role.LABORATORY_DIRECTOR)
            chart = "/api/qc/charts/HGB"
            settle()
            for days in ("30", "90"):
                for form in (".svg", ".png", ""):
                    what = f"chart of {days} days, {form[1:] or 'data'}"
                    await _ask(bench, token, what, chart + form, ROUNDS, analyzer="hema", days=days)
            await _ask(bench, token, "the month's report", f"/api/qc/reports/{now:%Y-%m}.pdf", 3)
        await database.close()
    finally:
        await server.stop()


def main() -> None:
    """Print the table."""
    configure_logs(40)
    with _folder() as folder:
        asyncio.run(_measure(folder))


if __name__ == "__main__":
    main()

"""`scripts/bench qc`: what judging one new control takes, of a stream with a history of 100,000 points in two years, at
two levels: what is read beside it, with its plan; the rules; the whole way from the kept result to the judged point.

The median of many and the worst. Nothing is asserted. The database is a server of its own that is removed at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from uuid import UUID

import asyncpg

from interface.domain.permissions import Role
from interface.domain.qc import Point, Stream
from interface.domain.qc_lots import TargetView
from interface.domain.qc_state import DEFAULT_PLAN
from interface.flow import qc
from interface.store import qc as rows
from interface.store.controls import ControlResult, write_controls
from interface.store.db import Connection, Database
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from interface.store.qc_lots import targets_of
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.telemetry import configure_logs
from tests.api.bench import Laboratory, found_laboratory
from tests.bench.qc_charts import POINTS, _fill, _folder
from tests.cluster import with_database
from tests.records import user

ROUNDS = 100
Aims = set[tuple[str, str]]


class _Taken:
    """Times of one thing, in ms."""

    def __init__(self, what: str) -> None:
        self.what, self.ms = what, list[float]()

    async def of(self, work: Awaitable[object]) -> object:
        began = time.perf_counter()
        made = await work
        self.ms.append((time.perf_counter() - began) * 1e3)
        return made

    def __str__(self) -> str:
        return f"{self.what:<52}{median(self.ms):>8.2f} ms{max(self.ms):>8.2f} worst"


async def _reads(connection: Connection, stream: Stream, targets: Sequence[TargetView], at: datetime) -> None:
    """What is read beside a point, at the end of the history and in its midst; and the rules."""
    for what, when in (("the newest", at), ("one that is a year late", at - timedelta(days=365))):
        read, judged = _Taken(f"reads beside {what}"), _Taken(f"the rules of {what}")
        for _ in range(ROUNDS):
            id = uuid7()
            around = await read.of(rows.beside(connection, stream, targets, when, id, DEFAULT_PLAN.run_minutes))
            assert isinstance(around, rows.Beside)
            last = next(one for one in reversed(around.before) if one.level == 1)
            point = Point(str(id), when, str(uuid7()), 1, last.lot, last.target, Decimal("2.1"), Decimal(7))
            aims = {(one.lot, one.target) for one in around.before}

            async def rules(around: rows.Beside = around, point: Point = point, aims: Aims = aims) -> None:
                qc.evaluated(DEFAULT_PLAN, around, point, aims, 2)

            await judged.of(rules())
        print(read, judged, sep="\n")


async def _whole(laboratory: Laboratory, test_id: UUID, at: datetime) -> None:
    """From the kept result to the judged point and the stream's state, each in a transaction of its own."""
    actor = user(laboratory.organization_id, Role.TECHNOLOGIST, "tess")
    kept, judged = _Taken("keeping the result"), _Taken("recognised, judged, explained, taken to the gate")
    for number in range(ROUNDS):
        id, value = uuid7(), ("11.9", "12.1")[number % 2]
        control = ControlResult(
            id, id.bytes, None, laboratory.analyzer_id, "qc", "numeric", at + timedelta(minutes=number + 1),
            specimen_as_sent="4711", code="HGB", test_id=test_id, number=Decimal(value), value=value, unit="g/dL",
            level_as_sent="low",
        )  # fmt: skip
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            await kept.of(write_controls(connection, laboratory.organization_id, [control]))
            await judged.of(qc.record(connection, actor, [control]))
            number = await connection.fetchval("select count(*) from lab.qc_point where qc_result_id = $1", id)
            assert number == 1
    print(kept, judged, sep="\n")


async def _analyze(server: EmbeddedPostgres) -> None:
    """As the daemon does with tables that have grown (`store.upkeep`)."""
    owner = await asyncpg.connect(server.url(OWNER_ROLE))
    await owner.execute("analyze")
    await owner.close()


async def _measure(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        await upgrade(server.url(OWNER_ROLE))
        database = await Database.connect(with_database(server.url(OWNER_ROLE), "labora", APP_ROLE))
        laboratory, now = await found_laboratory(database), datetime.now(UTC)
        await _fill(laboratory, now)
        await _analyze(server)
        async with database.organization(laboratory.organization_id) as connection:
            test_id: UUID = await connection.fetchval("select id from lab.test where code = 'HGB'")
            number = await connection.fetchval("select count(*) from lab.qc_point")
            print(f"{number:,} points of one stream; {ROUNDS} rounds")
            stream = Stream(laboratory.analyzer_id, test_id)
            targets = await targets_of(connection, stream.analyzer_id, test_ids=[test_id])
            await _reads(connection, stream, targets, now)
            never = replace(targets[0], id=uuid7(), lot_id=uuid7())  # never measured, beside one that is
            await _reads(connection, stream, [*targets, never], now)
            plan = await connection.fetch(
                "explain (analyze, buffers) " + rows.BESIDE, stream.analyzer_id, test_id, "", now, uuid7(),
                [one.level_number for one in targets], [one.lot_id for one in targets], [one.id for one in targets],
                [one.valid_from for one in targets], [now for _ in targets], 12, timedelta(hours=1),
            )  # fmt: skip
            print("\n".join(row[0] for row in plan if "Index" in row[0] or "Time" in row[0] or "Seq" in row[0]))
        await _whole(laboratory, test_id, now)
        await database.close()
    finally:
        await server.stop()


def main() -> None:
    """Print the table."""
    configure_logs(40)
    assert POINTS >= 100_000
    with _folder() as folder:
        asyncio.run(_measure(folder))


if __name__ == "__main__":
    main()

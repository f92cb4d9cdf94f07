"""The planner's statistics are kept near the truth while tables are young: a look-up by key never reads the table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from interface.settings import DatabaseSettings, Settings
from interface.store import upkeep
from interface.store.db import Connection
from interface.store.upkeep import GROWN_ROWS, analyze_grown
from tests.flow.laboratory import laboratory

_BY_KEY = """prepare by_key (bytea[]) as
    select r.id from unnest($1) as k(key) cross join lateral (
        select id from lab.result where natural_key = k.key for update) r"""


async def _plan(connection: Connection) -> str:
    """Of a look-up that was prepared once and is not planned for its arguments."""
    return "\n".join(row[0] for row in await connection.fetch("explain execute by_key (array['\\x01'::bytea])"))


async def _fill(connection: Connection, organization_id: UUID, rows: int) -> None:
    await connection.execute(
        """insert into lab.result (id, organization_id, natural_key, version_id, status)
           select gen_random_uuid(), $1, uuid_send(gen_random_uuid()), gen_random_uuid(), 'registered'
           from generate_series(1, $2::int)""",
        organization_id, rows,
    )  # fmt: skip
    await connection.fetchval("select pg_stat_force_next_flush()")  # counted now, not when the session has time


async def test_a_table_that_has_grown_is_analyzed_once_and_its_plans_are_made_anew(database_url: str) -> None:
    async with laboratory(database_url) as lab, lab.database.organization(lab.organization_id) as connection:
        await connection.execute("set plan_cache_mode = force_generic_plan")
        await connection.execute(_BY_KEY)
        assert "natural_key_key" not in await _plan(connection), "an empty table is planned for as it should be"
        await _fill(connection, lab.organization_id, 10 * GROWN_ROWS)
        assert "result" in await analyze_grown(lab.owner)
        assert "natural_key_key" in await _plan(connection)
        assert "result" not in await analyze_grown(lab.owner)


@pytest.mark.parametrize(("young", "buckets"), [(10 * GROWN_ROWS, 10), (GROWN_ROWS, 100)])
async def test_a_young_table_is_looked_at_briefly_and_a_grown_one_as_closely_as_autovacuum_does(
    monkeypatch: pytest.MonkeyPatch, database_url: str, young: int, buckets: int
) -> None:
    monkeypatch.setattr(upkeep, "YOUNG_ROWS", young)
    async with laboratory(database_url) as lab:
        async with lab.database.organization(lab.organization_id) as connection:
            await _fill(connection, lab.organization_id, 10 * GROWN_ROWS)
        await analyze_grown(lab.owner)
        bounds = await lab.owner.fetchval(
            "select cardinality(histogram_bounds::text::text[]) from pg_stats"
            " where schemaname = 'lab' and tablename = 'result' and attname = 'version_id'"
        )
        assert bounds == buckets + 1
        assert await lab.owner.fetchval("show default_statistics_target") == "100"


async def test_a_table_of_a_few_rows_is_left_alone(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        async with lab.database.organization(lab.organization_id) as connection:
            await _fill(connection, lab.organization_id, 3)
        assert "result" not in await analyze_grown(lab.owner)


@pytest.mark.parametrize(
    ("keep", "work", "pause"),
    [
        (upkeep.keep_counted, "prune_counted", "COUNTED_PAUSE_S"),
        (upkeep.keep_partitions, "maintain", "PARTITIONS_PAUSE_S"),
    ],
)
async def test_a_server_that_ends_in_mid_answer_ends_no_upkeep(
    monkeypatch: pytest.MonkeyPatch,
    keep: Callable[[Callable[[], Settings], None], Coroutine[None, None, None]],
    work: str,
    pause: str,
) -> None:
    """What the driver then says is no error of PostgreSQL's."""
    faults: list[Exception] = [
        asyncpg.InterfaceError("the underlying connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 12"),
        BrokenPipeError("broken pipe"),
    ]
    done = asyncio.Event()

    async def worked(owner_url: str) -> int:
        if faults:
            raise faults.pop()
        done.set()
        return 0

    async def may(owner_url: str) -> bool:
        return True

    monkeypatch.setattr(upkeep, work, worked)
    monkeypatch.setattr(upkeep, "may_upgrade", may)
    monkeypatch.setattr(upkeep, pause, 0.0)
    settings = Settings(Path("unused"), database=DatabaseSettings("postgresql:///none"))
    task = asyncio.create_task(keep(lambda: settings, None))
    await done.wait()
    assert not task.done()
    task.cancel()

"""F19 at size: a laboratory of years comes back within five minutes for each million results."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from interface.ops import backup, backup_verify
from interface.settings import DatabaseSettings, Settings
from tests.cluster import new_state_dir, owner_of
from tests.flow.laboratory import laboratory
from tests.ops.test_backup import store

RESULTS = int(os.environ.get("LABORA_BACKUP_RESULTS", "1000000"))
OF_A_MESSAGE = 25
MOST_S_PER_MILLION = 300.0  # PERFORMANCE.md F19
# Columns that a copy of a row has of its own.
OWN = {
    "message": {"id": "lab.new_id()"},
    "frame": {"id": "lab.new_id()"},
    "result": {"id": "lab.new_id()", "natural_key": "sha256(n::text::bytea)"},
    "result_version": {"id": "lab.new_id()"},
    "audit_event": {"id": "lab.new_id()"},
}


@pytest.fixture
def on_disk() -> Iterator[Path]:
    path = new_state_dir(on_disk=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def multiply(owner: asyncpg.Connection[asyncpg.Record], table: str, times: int) -> None:
    """Copy the table's first row so often."""
    names = [
        row["attname"]
        for row in await owner.fetch(
            "select attname from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped",
            f"lab.{table}",
        )
        if row["attname"] != "position"  # of an audit row: its own, or it would stand among those that are sealed
    ]
    values = ", ".join(OWN[table].get(name, f"one.{name}") for name in names)
    await owner.execute(
        f"insert into lab.{table} ({', '.join(names)}) select {values} from (select * from lab.{table} limit 1) one,"  # noqa: S608
        f" generate_series(1, {times}) n"
    )


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_a_laboratory_of_years_comes_back_in_time(founded_url: str, on_disk: Path) -> None:
    settings = Settings(on_disk, DatabaseSettings(owner_of(founded_url)))
    async with laboratory(founded_url) as lab:
        await store(lab, "S1")
        for table in OWN:
            await multiply(lab.owner, table, RESULTS // OF_A_MESSAGE if table in ("message", "frame") else RESULTS)
        await lab.owner.execute("analyze")
    began = time.monotonic()
    made = await backup.create(settings)
    taken_s = time.monotonic() - began
    verdict = await backup_verify.verify(settings, None, None)
    assert verdict.differences == () and verdict.seconds is not None
    assert made.manifest.tables["result_version"].rows == RESULTS + 1
    print(
        f"{RESULTS} results, {made.info.bytes / 1e6:.0f} MB: backed up in {taken_s:.0f} s, RPO {verdict.age_s:.0f} s, "
        f"RTO {verdict.seconds:.0f} s (restored and compared)"
    )
    assert verdict.seconds <= MOST_S_PER_MILLION * max(1.0, RESULTS / 1e6)

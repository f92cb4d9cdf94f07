"""`scripts/bench backup`: a backup of a laboratory with a million results, proved and restored: RPO and RTO.

On the embedded server, in a folder on the disk. `--folder`: one that stays, filled once (`--fill`: and no more than
that), so that what is measured can be measured alone.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import asyncpg

from interface.ops import backup, backup_restore, backup_verify
from interface.settings import Settings
from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE
from tests.bench.population import Population
from tests.bench.yardstick import say, stopped_by_signal
from tests.cluster import new_state_dir
from tests.e2e.daemon import running

MOST_S = 300.0  # PERFORMANCE.md F19, for each million results
_FILLED = "filled"
_T = TypeVar("_T")


async def _fill(folder: Path, stored: int) -> None:
    if (folder / _FILLED).exists():
        return
    async with running(folder):
        url = EmbeddedPostgres(folder).url(OWNER_ROLE)
        connection, beside = await asyncpg.connect(url), await asyncpg.connect(url)
        organization_id = await connection.fetchval("select id from lab.organization where name = 'main'")
        await Population(connection, organization_id).store(stored, beside, visits=4)
        for each in (connection, beside):
            await each.close()
    (folder / _FILLED).touch()


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


async def _timed(what: str, work: Callable[[], Awaitable[_T]], told: Callable[[_T], str]) -> tuple[_T, float]:
    began, used = time.monotonic(), _cpu_s()
    done = await work()
    took_s = time.monotonic() - began
    say(f"{what:<34}{took_s:>8.1f} s  {_cpu_s() - used:>7.1f} s CPU   {told(done)}")
    return done, took_s


async def _measure(folder: Path) -> bool:
    settings = Settings(folder)
    made, created_s = await _timed(
        "backup create", lambda: backup.create(settings),
        lambda made: f"{made.manifest.tables['result_version'].rows:,} results, {made.info.bytes / 1e6:,.0f} MB",
    )  # fmt: skip
    verdict, verified_s = await _timed(
        "backup verify", lambda: backup_verify.verify(settings, None, None),
        lambda found: f"{found.rows:,} rows restored and compared, RPO {found.age_s:.0f} s",
    )  # fmt: skip
    _, restored_s = await _timed(
        "backup restore", lambda: backup_restore.restore(settings, None, None),
        lambda done: f"RPO {done.age_s:.0f} s, RTO {done.seconds:.0f} s",
    )  # fmt: skip
    await backup_restore.confirm(settings)
    shutil.rmtree(made.info.path)
    results = made.manifest.tables["result_version"].rows
    most_s = MOST_S * max(1.0, results / 1e6)
    say(f"wanted: each at most {most_s:.0f} s")
    return not verdict.differences and max(created_s, verified_s, restored_s) <= most_s


def main() -> None:
    """Print the table; status 1 when what is wanted was not met, or the backup was not what was backed up."""
    parser = argparse.ArgumentParser(prog="scripts/bench backup", description=__doc__)
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--fill", action="store_true")
    options = parser.parse_args()
    stopped_by_signal()
    folder = options.folder or new_state_dir(on_disk=True)
    try:
        folder.mkdir(exist_ok=True, mode=0o755)
        asyncio.run(_fill(folder, options.stored))
        met = options.fill or asyncio.run(_measure(folder))
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()

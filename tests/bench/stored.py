"""Databases with many results that measurements share: filled once, kept in a folder, used again.

    python -m tests.bench.stored [--results N] DIR [COMMAND...]

fills the one of N results where it is not there yet, and runs the command with $LABORA_DATABASE_URL, its URL as the
administrator. Two visits of 25 results for each patient, spread over a year.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import asyncpg

from tests.bench.messages import ANALYTES
from tests.bench.population import Population
from tests.bench.yardstick import NoYardstick, Postgres, Yardstick, say, stopped_by_signal

VISITS = 2
PERIOD = timedelta(days=365)


def stored(postgres: Postgres, results: int) -> str:
    """The URL of the database with so many results."""
    return postgres.filled(f"stored_{results}", lambda url: asyncio.run(fill(url, results)))


async def fill(url: str, results: int) -> None:
    """So many results in a database that a daemon has been started on."""
    connection, beside = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        began = time.perf_counter()
        own = await connection.fetchval("select id from lab.organization where name = 'main'")
        apart = PERIOD / max(1, results // len(ANALYTES))
        await Population(connection, own).store(results, beside, visits=VISITS, apart=apart)
        say(f"{'':<28}{results:,} results stored in {time.perf_counter() - began:.0f} s")
    finally:
        await connection.close()
        await beside.close()


def main() -> None:
    """The status is the command's."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stored", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=int, default=10_000_000)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    stopped_by_signal()
    try:
        with Yardstick().postgres(options.folder) as postgres:
            url = stored(postgres, options.results)
            env = os.environ | {"LABORA_DATABASE_URL": url}
            status = subprocess.run(options.command, env=env, check=False).returncode if options.command else 0
    except NoYardstick as error:
        sys.exit(str(error))
    sys.exit(status)


if __name__ == "__main__":
    main()

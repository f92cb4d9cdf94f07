"""A driver for the yardstick's compare.py: messages a second from the first byte to the last decision.

    sustained.py HOST PORT --dsn DSN [options of mllp_load.py, one of which is --duration]

mllp_load.py sends for so long; then the database is asked until nothing waits in it. A server whose database has no
queue has done everything when it acknowledges.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import asyncpg
import uvloop

from tests.bench.yardstick import Yardstick

POLL_S, MOST_S = 0.1, 240.0


async def _empty(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval("select to_regclass('lab.queue') is null"):
            return
        end = time.monotonic() + MOST_S
        while await connection.fetchval("select exists (select from lab.queue)"):
            if time.monotonic() > end:
                sys.exit(f"not all was decided within {MOST_S:.0f} s")
            time.sleep(POLL_S)  # noqa: ASYNC251 - there is nothing else to do
    finally:
        await connection.close()


def main() -> int:
    """Prints mllp_load.py's report with the rate of what was decided."""
    at = sys.argv.index("--dsn")
    dsn, arguments = sys.argv[at + 1], sys.argv[1:at] + sys.argv[at + 2 :]
    began = time.perf_counter()
    command = [sys.executable, str(Yardstick().folder / "mllp_load.py"), *arguments]
    sent = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        row = json.loads(sent.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        sys.exit((sent.stderr or sent.stdout)[-300:])
    starting_s = time.perf_counter() - began - row["elapsed_s"]  # of the driver itself
    uvloop.run(_empty(dsn))
    row["elapsed_s"] = time.perf_counter() - began - starting_s
    row["acked_per_s"], row["per_s"] = row["per_s"], row["ok"] / row["elapsed_s"]
    print(json.dumps(row))
    return sent.returncode


if __name__ == "__main__":
    sys.exit(main())

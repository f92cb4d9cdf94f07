"""`scripts/bench takeover`: the active of two daemons is killed again and again while analyzers send.

Two `labora run` on two addresses of this machine and one PostgreSQL; half the analyzers speak HL7, half ASTM, each
knows both addresses. The active daemon is killed (-9), or stopped as a machine is that freezes (SIGSTOP; it goes on
when the other has the links), or ended in order (SIGTERM). Printed: from that moment to the first acknowledgement by
the other, p50, p95 and the longest. Then the audit: what was acknowledged is in the journal, complete, once; each
result is there once. Status 1 where it is not, or where p95 is 10 s or more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import uvloop

from interface.flow import actors
from interface.settings import Settings
from interface.store.embedded import open_database
from interface.store.schema import APP_ROLE, OWNER_ROLE
from tests.cluster import new_state_dir
from tests.e2e.standby import Analyzer, Daemon, accounted, two

MOST_P95_S = 10.0
HOW = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "stop": signal.SIGTERM}
_RESULTS = """
with n as (
    select v.specimen_as_sent as specimen, count(*) as results
      from lab.result r join lab.result_version v on v.id = r.version_id group by 1
)
select count(*) filter (where n.results > 25), count(*) filter (where coalesce(n.results, 0) < 25)
  from unnest($1::text[]) as a (id) left join n on n.specimen = 'S' || a.id
"""


async def takeover(active: Daemon, other: Daemon, analyzers: Sequence[Analyzer], how: str) -> float:
    """Seconds from the end of the active daemon to the first acknowledgement by the other, which is active then; the
    first stands by again afterwards."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    os.kill(active.pid, HOW[how])
    while True:  # analyzers go on sending
        at = [when for one in analyzers for _, by, when in one.acknowledged[-50:] if by.host == other.hl7.host]
        if found := [when for when in at if when > began]:
            break
        if loop.time() - began > 60:
            raise SystemExit(f"nobody took over within a minute ({how}): {other.said()[-2000:]}")
        await asyncio.sleep(0.005)
    if how == "freeze":
        os.kill(active.pid, signal.SIGCONT)
    await active.wait()
    late = [when for one in analyzers for _, by, when in one.acknowledged if by.host == active.hl7.host]
    if how == "freeze" and max(late, default=0.0) > began + 0.1:
        raise SystemExit("a frozen daemon has acknowledged after its links were taken")
    await active.start()
    return min(found) - began


async def _send(analyzer: Analyzer, every_s: float) -> None:
    while True:
        await analyzer.send()
        await asyncio.sleep(every_s)


async def measure(options: argparse.Namespace, folder: Path) -> int:
    settings = Settings(new_state_dir(on_disk=True))
    database, server = await open_database(settings)
    assert server is not None
    await actors.create_organization(database, "main")
    await database.close()
    owner = await asyncpg.connect(server.url(OWNER_ROLE))
    try:
        a, b = two(server.url(APP_ROLE), "main", folder, options.lease_s)
        analyzers = [
            Analyzer(
                (a.astm, b.astm) if number % 2 else (a.hl7, b.hl7), f"K{number}", bool(number % 2), try_s=options.try_s
            )
            for number in range(options.analyzers)
        ]
        async with a, b:
            tasks = [asyncio.create_task(_send(one, options.every_s)) for one in analyzers]
            took = await _takeovers(a, b, analyzers, options)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in analyzers:
                await one.close()
            return await _verdict(owner, analyzers, took, options)
    finally:
        await owner.close()
        await server.stop()
        shutil.rmtree(settings.state_dir, ignore_errors=True)


async def _takeovers(a: Daemon, b: Daemon, analyzers: Sequence[Analyzer], options: argparse.Namespace) -> list[float]:
    seeded, took = random.Random(options.seed), []  # noqa: S311  no secret
    active, other = a, b
    for number in range(1, options.times + 1):
        await asyncio.sleep(seeded.uniform(0.3, 1.5))  # somewhere in what is sent
        took.append(await takeover(active, other, analyzers, options.how))
        active, other = other, active
        if not number % 10:
            sent = sum(len(one.acknowledged) for one in analyzers)
            print(f"{number} takeovers, {sent} messages acknowledged, the last took {took[-1]:.2f} s", flush=True)
    return took


async def _verdict(
    owner: asyncpg.Connection[asyncpg.Record], analyzers: Sequence[Analyzer], took: list[float],
    options: argparse.Namespace,
) -> int:  # fmt: skip
    lost = await accounted(owner, *analyzers, patience_s=600.0)
    ids = [control_id for one in analyzers for control_id, _, _ in one.acknowledged]
    [(doubled, short)] = await owner.fetch(_RESULTS, ids)
    took.sort()
    p95 = took[min(len(took) - 1, int(len(took) * 0.95))]
    print(f"takeovers ({options.how}, lease {options.lease_s:g} s): {len(took)}; p50 {took[len(took) // 2]:.2f} s, "
          f"p95 {p95:.2f} s, longest {took[-1]:.2f} s")  # fmt: skip
    print(f"messages acknowledged: {len(ids)}; not in the journal exactly once: {len(lost)}; with a result twice: "
          f"{doubled}; with results missing: {short}")  # fmt: skip
    return 0 if not (lost or doubled or short) and p95 < MOST_P95_S else 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench takeover", description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--how", choices=HOW, default="kill")
    parser.add_argument("--analyzers", type=int, default=4)
    parser.add_argument("--every-s", type=float, default=0.1, help="between two messages of an analyzer")
    parser.add_argument("--lease-s", type=float, default=6.0)
    parser.add_argument("--try-s", type=float, default=1.0, help="how long an analyzer waits for each answer")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="labora-takeover-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(options, folder))
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())

"""`scripts/bench soak`: 200 links at once, a tenth of them misbehaving, and what the healthy ones feel of it.

Half the links are ASTM, half MLLP, each with a port of its own. A healthy one sends a session of 29 frames or a message
of 25 OBX every 2 s. The daemon is `labora run` as configured by default on a PostgreSQL of its own. Printed: the
latency of every acknowledgement (ENQ, frame, message), the daemon's memory over the time, and the audit: what was
acknowledged is in the journal, complete, exactly once.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import uvloop

from tests.bench.crowd import Healthy, Protocol, Report, misbehave, shared_out
from tests.bench.yardstick import (
    Links,
    NoYardstick,
    Postgres,
    Yardstick,
    daemon,
    say,
    scratch_folder,
    stopped_by_signal,
)

EVERY_S, P99_S, ONE_IN = 2.0, 0.25, 10
# Beside what the daemon needs: a link may hold a message of 16 MiB, its limit, and each endless one does.
MOST_RSS_MB = 600
_AUDIT = """
select m.control_id, count(distinct m.id), count(f.id) from lab.message m join lab.frame f on f.message_id = m.id
 where m.state = 'complete' and m.settled is distinct from 'duplicate' and m.control_id like 'K%' group by 1
"""


def memory_mb(pid: int) -> float:
    """The resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


async def crowd(links: Links, pid: int, seconds: float) -> tuple[Report, list[float], Counter[str]]:
    """Everybody at once for so long; the healthy ones finish what they have begun."""
    report, memory, bad = Report(), [memory_mb(pid)], Counter[str]()
    ports = {Protocol.ASTM: list(links.astm), Protocol.MLLP: list(links.mllp)}
    healthy: list[asyncio.Task[None]] = []
    others: list[asyncio.Task[None]] = []
    for protocol, port, deed in shared_out(ports, ONE_IN):
        if deed:
            bad[deed] += 1
            others.append(asyncio.create_task(misbehave(deed, protocol, port, port)))
        else:
            analyzer = Healthy(protocol, port, f"K{port}", report)
            first_s = random.uniform(0, EVERY_S)  # noqa: S311
            healthy.append(asyncio.create_task(analyzer.run(round(seconds / EVERY_S), EVERY_S, first_s)))

    async def watch() -> None:
        while True:
            await asyncio.sleep(1.0)
            memory.append(memory_mb(pid))

    others.append(asyncio.create_task(watch()))
    await asyncio.gather(*healthy)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    memory.append(memory_mb(pid))
    return report, memory, bad


def percentiles(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds) or [0.0]
    ranks = {name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1e3
             for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))}  # fmt: skip
    return " ".join(f"{name} {value:8.1f}" for name, value in ranks.items()) + f" max {ordered[-1] * 1e3:8.1f} ms"


def audit(postgres: Postgres, url: str, report: Report) -> list[str]:
    """What was acknowledged and is not in the journal whole and once."""
    stored = {control_id: (int(messages), int(frames)) for control_id, messages, frames in postgres.ask(url, _AUDIT)}
    return [control_id for control_id, frames in report.promised.items() if stored.get(control_id) != (1, frames)]


def verdict(name: str, good: bool, text: str) -> bool:
    say(f"  {'ok  ' if good else 'FAIL'} {name}: {text}")
    return good


def settled(postgres: Postgres, url: str, wait_s: float) -> tuple[int, int, float]:
    """Messages that waited for their decision when the load ended, that still do, and how long that was watched."""
    began, first = time.monotonic(), -1
    while True:
        [[waiting]] = postgres.ask(url, "select count(*) from lab.queue")
        first = int(waiting) if first < 0 else first
        if waiting == "0" or time.monotonic() - began > wait_s:
            return first, int(waiting), time.monotonic() - began
        time.sleep(0.5)


def run(yardstick: Yardstick, links: int, seconds: float, drain_s: float) -> bool:
    with yardstick.postgres() as postgres, scratch_folder() as folder:
        url = postgres.fresh(migrated=True)
        with daemon(url, folder, mllp=links // 2, astm=links - links // 2) as (pid, ports):
            busy, own, began = yardstick.busy(), yardstick.cpu([pid, postgres.pid]), time.monotonic()
            report, memory, bad = uvloop.run(crowd(ports, pid, seconds))
            took = time.monotonic() - began
            cpu = (yardstick.cpu([pid, postgres.pid]) - own) / took
            machine = (yardstick.busy() - busy) / took
            waiting, left, watched_s = settled(postgres, url, drain_s)
            missing = audit(postgres, url, report)
            [[stored, decided]] = postgres.ask(url, "select count(*), count(settled) from lab.message")
    say(f"{links} links for {took:.0f} s, misbehaving: " + ", ".join(f"{n} {deed}" for deed, n in sorted(bad.items())))
    for name, latencies in (("ENQ", report.enq), ("frame", report.frame), ("message", report.message),
                            ("begun late", report.late)):  # fmt: skip
        say(f"  {name:10} {len(latencies):>8}  {percentiles(latencies)}")
    say(f"  {'every ack':10} {len(report.every):>8}  {percentiles(report.every)}")
    say(f"  CPU: daemon and PostgreSQL {cpu:.2f} cores, the whole machine {machine:.2f}")
    say(f"  memory of the daemon: start {memory[0]:.0f} MB, most {max(memory):.0f} MB, end {memory[-1]:.0f} MB")
    say(f"  NAKs {report.naks}; stored {stored}, decided {decided}; {waiting} waited when the load ended, {left} after"
        f" {watched_s:.0f} s")  # fmt: skip
    ordered = sorted(report.every)
    p99 = ordered[int(len(ordered) * 0.99)] if ordered else float("inf")
    checks = [
        verdict("acknowledgement", p99 < P99_S, f"p99 {p99 * 1e3:.0f} ms, wanted under {P99_S * 1e3:.0f} ms"),
        verdict("memory", max(memory) < MOST_RSS_MB, f"most {max(memory):.0f} MB, wanted under {MOST_RSS_MB} MB"),
        verdict("audit", not missing, f"{len(report.promised)} acknowledged, {len(missing)} missing {missing[:3]}"),
        verdict("healthy links", not report.faults, f"{len(report.faults)} faults {report.faults[:3]}"),
    ]
    return all(checks)


def main() -> int:
    """Print the figures; 1 when one is not as wanted, 2 when the yardstick is missing."""
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--links", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--drain", type=float, default=30.0, metavar="S", help="longest watch of the backlog after it")
    arguments = parser.parse_args()
    stopped_by_signal()
    try:
        return 0 if run(Yardstick(), arguments.links, arguments.seconds, arguments.drain) else 1
    except NoYardstick as error:
        say(str(error), sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""`scripts/bench links`: durable acknowledgement, MLLP and ASTM, beside the ceilings of this machine in the same run.

Messages are ORU^R01 of 25 OBX, sessions 29 frames, each frame committed before its ACK. The daemon is `labora run` as
configured by default, deciding included; what it had decided when the measurement ended is printed. Ceilings:
`pg-group`, one INSERT and COMMIT for all messages that wait, and `astm-echo`, an ACK for everything. Rounds are
interleaved, each with a daemon and a database of its own, so that no backlog slows the next; ratios are of the medians.
After 16 connections once more at half the rate they reached, in an open loop: what an unhurried sender waits, beside
`pg-full`, which stores each message with its 25 rows before it acknowledges.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.record import TARGETS, note
from tests.bench.yardstick import (
    Load,
    NoYardstick,
    Postgres,
    Yardstick,
    daemon,
    free_port,
    say,
    scratch_folder,
    server,
    stopped_by_signal,
)

CONNECTIONS, FRAMES = (1, 16, 64), 29
RATIOS = {("mllp", 1): "P2", ("mllp", 16): "P1-ack", ("astm", 1): "P5-1", ("astm", 16): "P5-16"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement; `decided` and `stored` messages when it ended."""

    load: Load
    stored: int = 0
    decided: int = 0


class Bench:
    """Runs single measurements."""

    def __init__(self, yardstick: Yardstick, postgres: Postgres, seconds: float, quiet_s: float) -> None:
        self._yardstick, self._postgres, self._seconds, self._quiet_s = yardstick, postgres, seconds, quiet_s

    def measure(self, name: str, connections: int, rate: float = 0.0) -> Measured:
        """`pg-group`, `pg-full`, `astm-echo`, `mllp` or `astm`; `rate`: in an open loop, so many a second."""
        ceiling = name.startswith("pg-")
        warmup = max(5, (200 if ceiling or name == "mllp" else 10) // connections)
        driver = "astm" if name.startswith("astm") else "mllp"
        options = ["--connections", str(connections), "--duration", str(self._seconds), "--warmup", str(warmup)]
        options += ["--rate", str(rate)] if rate else []
        with scratch_folder() as folder:
            if name == "astm-echo":
                port = free_port()
                with server(self._yardstick.reference("astm-echo", port), port, folder / "log") as pid:
                    return Measured(self._drive(driver, port, [pid], options))
            url = self._postgres.fresh(migrated=not ceiling)
            try:
                if ceiling:
                    port = free_port()
                    command = self._yardstick.reference(f"mllp-{name}", port, url)
                    with server(command, port, folder / "log") as pid:
                        return Measured(self._drive(driver, port, [pid, self._postgres.pid], options))
                with daemon(url, folder) as (pid, links):
                    port = (links.astm if driver == "astm" else links.mllp)[0]
                    load = self._drive(driver, port, [pid, self._postgres.pid], options)
                    [[stored, decided]] = self._postgres.ask(url, "select count(*), count(settled) from lab.message")
                    return Measured(load, int(stored), int(decided))
            finally:
                self._postgres.drop(url)

    def _drive(self, driver: str, port: int, servers: Sequence[int], options: Sequence[str]) -> Load:
        self._yardstick.quiet(self._quiet_s)
        return self._yardstick.drive(driver, port, servers, *options)


NAMES = ("pg-group", "mllp", "astm-echo", "astm")


def table(connections: int, found: dict[str, list[Measured]]) -> bool:
    """Print one case; whether nothing was bad and every ratio is as wanted."""
    say(f"\n{connections} connection{'s' if connections > 1 else ''}")
    say(f"  {'':10} {'per s':>8} {'min..max':>16} {'ratio':>6} {'wanted':>7} {'p50':>8} {'p95':>8} {'p99':>8}"
        f" {'max':>8} {'cpu ms':>7} {'driver':>7} {'others':>7} {'bad':>4}  decided")  # fmt: skip
    ceiling = median(one.load.per_s for one in found["pg-group"])
    good = True
    for name, rounds in found.items():
        loads = [one.load for one in rounds]
        rates = [load.per_s for load in loads]
        base = ceiling / FRAMES if name.startswith("astm") else ceiling
        ratio, bad = median(rates) / base, sum(load.bad for load in loads)
        target = RATIOS.get((name, connections))
        wanted = TARGETS[target].wanted if target else 0.0
        good = good and not bad and ratio >= wanted
        others = median(load.others for load in loads)
        if target:
            note(
                target,
                ratio,
                f"{median(rates):,.0f}/s of {ceiling:,.0f}/s, median of {len(rounds)}, others {others:.0%}",
            )
        latency = "".join(f" {median(load.latency[p] for load in loads):>8.2f}" for p in ("p50", "p95", "p99", "max"))
        decided = (
            f"{sum(one.decided for one in rounds)} of {sum(one.stored for one in rounds)}"
            if name in ("mllp", "astm")
            else ""
        )
        say(f"  {name:10} {median(rates):>8.1f} {min(rates):>8.0f}..{max(rates):<6.0f} {ratio:>6.2f}"
            f" {wanted or '':>7}{latency} {median(load.server_cpu_ms for load in loads):>7.3f}"
            f" {median(load.driver_cpu for load in loads):>7.0%} {others:>7.0%}"
            f" {bad:>4}  {decided}")  # fmt: skip
        if name == "astm":
            say(f"  {'  a frame':10} {'':>8} {'':>16} {'':>6} {'':>7}" + "".join(
                f" {median(load.frame[p] for load in loads):>8.2f}" for p in ("p50", "p95", "p99", "max")))  # fmt: skip
    return good


def unhurried(bench: Bench, found: dict[str, list[Measured]]) -> bool:
    """PERFORMANCE P3; whether it is as wanted."""
    rate = median(one.load.per_s for one in found["mllp"]) / 2
    full, load = (bench.measure(name, 16, rate).load for name in ("pg-full", "mllp"))
    say("")
    for name, one in (("pg-full", full), ("mllp", load)):
        shown = ", ".join(f"{rank} {one.latency[rank]:.1f}" for rank in ("p50", "p95", "p99", "p99.9"))
        say(f"open loop, {rate:,.0f}/s over 16 connections, {name}: {shown} ms, {one.per_s:,.0f}/s, {one.bad} bad")
    p99, least = load.latency["p99"], full.latency["p99"]
    how = f"{rate:,.0f}/s, others {load.others:.0%}"
    figures = (
        ("P3-p99", p99, how),
        ("P3-ratio", p99 / least, f"{p99:.1f} of {least:.1f} ms, {how}"),
        ("P3-p99.9", load.latency["p99.9"], how),
    )
    return all([note(*figure) for figure in figures]) and not load.bad


def main() -> int:
    """Print the tables; 1 when an answer was bad or a ratio too low, 2 when the yardstick is missing."""
    parser = argparse.ArgumentParser(prog="scripts/bench links", description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--quiet-wait", type=float, default=5.0, metavar="S", help="longest wait for an idle machine")
    parser.add_argument("--only", nargs="+", choices=NAMES, help="pg-group is always measured")
    arguments = parser.parse_args()
    stopped_by_signal()
    targets = [name for name in NAMES if name == "pg-group" or name in (arguments.only or NAMES)]
    good = True
    try:
        yardstick = Yardstick()
        with yardstick.postgres() as postgres:
            bench = Bench(yardstick, postgres, arguments.seconds, arguments.quiet_wait)
            for connections in arguments.connections:
                found: dict[str, list[Measured]] = {name: [] for name in targets}
                for _ in range(arguments.rounds):
                    for name in targets:
                        found[name].append(bench.measure(name, connections))
                good = table(connections, found) and good
                if connections == 16 and "mllp" in found:
                    good = unhurried(bench, found) and good
    except NoYardstick as error:
        say(str(error), sys.stderr)
        return 2
    say("\nA ratio is to pg-group, for ASTM to pg-group / 29. Rows with `others` above 20 % are not to be quoted.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

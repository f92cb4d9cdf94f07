"""`scripts/soak FAULT [OPTIONS]`: break the daemon again and again, and look for all that it has acknowledged.

FAULT: kill, term, reload, pg-kill, pg-restart, pg-sessions, pg-freeze, pg-lock, power-cut, or all; or one of the fault
plan, F4 to F19, whose tests are run again and again (`tests.fault.plan`). Status 1 where anything is wrong. --record
enters the run into docs/evidence.jsonl and writes docs/evidence.md anew.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.e2e import daemon, standby
from tests.fault import audit, disk, ledger, rig
from tests.fault.again import again
from tests.fault.ledger import Kind, Row, row_of
from tests.fault.loop import Outcome, percentile, run
from tests.fault.plan import SOAK
from tests.fault.rig import Fault, Where

KINDS = {Fault.KILL: Kind.KILL, Fault.PG_KILL: Kind.PG_KILL, Fault.POWER_CUT: Kind.POWER_CUT}


def rows_of(outcome: Outcome, timed: bool) -> list[Row]:
    """One for each kind of fault. What is found at the end, after them all, is entered with the last of them."""
    rows, last = [], list(outcome.cycles)[-1]
    for fault, cycles in outcome.cycles.items():
        whens = (fault, None) if fault is last else (fault,)
        found = Counter(one.kind for when, one in outcome.findings if when in whens)
        lost, doubled = found.pop("lost", 0), found.pop("doubled", 0)
        damaged = fault is last and outcome.damaged is not None
        lasted = f"for {rig.FROZEN_S:g} s" if fault in (Fault.PG_FREEZE, Fault.PG_LOCK) else ""
        took, database = outcome.next_ack_s[fault], f"{outcome.where.value} database"
        rows.append(row_of(
            kind=KINDS.get(fault, Kind.OTHER).value, what=database if fault in KINDS else f"{fault.value}, {database}",
            count=cycles, failed=outcome.failed[fault], seed=outcome.seed, acknowledged=outcome.acknowledged[fault],
            lost=lost, doubled=doubled, wrong=found.total() + damaged,
            next_ack_p50_s=round(percentile(took, 50), 2) if timed else None,
            next_ack_p95_s=round(percentile(took, 95), 2) if timed else None,
            by="scripts/soak", text=outcome.damaged or lasted,
        ))  # fmt: skip
    return rows


@dataclass(slots=True)
class Stop:
    """When no more is to be broken: after a time, or once a signal has come. What was done is entered all the same."""

    at: float  # time.monotonic
    told: bool = False

    def __call__(self) -> bool:
        return self.told or time.monotonic() >= self.at

    def tell(self) -> None:
        self.told = True


async def batch(where: Where, faults: Sequence[Fault], seed: int, stop: Stop, every: int) -> Outcome:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.tell)
    return await run(where, faults, seed, stopped=stop, every=every)


def soak(where: Where, faults: Sequence[Fault], options: argparse.Namespace) -> bool:
    """Batches of a daemon each; whether nothing was wrong."""
    good, left, seed, stop = True, options.cycles, options.seed, Stop(time.monotonic() + options.minutes * 60)
    while left > 0 and not stop():
        cycles = min(options.batch, left)
        chosen = [fault for _ in range(cycles) for fault in faults]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(batch(where, chosen, seed, stop, options.every))
        print(outcome, flush=True)
        if options.record and outcome.cycles:
            ledger.append(*rows_of(outcome, not options.busy), to=options.record)
            ledger.write()
        good &= not outcome.findings and outcome.damaged is None
        left, seed = left - cycles, seed + 1
    return good


def planned(fault: str, options: argparse.Namespace) -> bool:
    """Rounds of a fault's tests, for so long; whether nothing was wrong."""
    stop = Stop(time.monotonic() + options.minutes * 60)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.tell())
    left = iter(range(options.rounds))
    done = again(fault, lambda: stop() or next(left, None) is None, options.seed, options.cycles, options.examples)
    print(f"{fault}: {done.counted} {SOAK[fault].counted} in {done}; {done.failed} failed", flush=True)
    if options.record and done.rounds:
        ledger.append(row_of(kind=Kind.PLAN.value, what=f"{fault}, {SOAK[fault].counted}", count=done.counted,
                             failed=done.failed, seed=options.seed, by="scripts/soak", text=str(done)),
                      to=options.record)  # fmt: skip
        ledger.write()
    return not done.failed


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["record"]:
        return enter(given[1:])
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fault", choices=[*(fault.value for fault in Fault), "all", *SOAK])
    parser.add_argument("--cycles", type=int, default=30, help="of each fault (default: 30), or in a round of F4 or F6")
    parser.add_argument("--rounds", type=int, default=1000, help="of the tests of F4 to F19, at most")
    parser.add_argument("--examples", type=int, default=5000, help="of each property of F8 and F11, in a round")
    parser.add_argument("--frozen", type=float, default=rig.FROZEN_S, metavar="S", help="how long freezes, locks last")
    parser.add_argument("--database", choices=[where.value for where in Where], default=Where.EMBEDDED.value)
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFFFF, help="printed with the result")
    parser.add_argument("--batch", type=int, default=25, help="cycles of each daemon and database that is made")
    every = "look for what was acknowledged after so many cycles, and at the end (more ends than that in a row, and a "
    every += "message is parked as their cause)"
    parser.add_argument("--every", type=int, default=2, metavar="N", help=every)
    parser.add_argument("--minutes", type=float, default=600.0, help="break nothing more after so long")
    parser.add_argument("--patience", type=float, default=60.0, metavar="S", help="how long anything may take")
    parser.add_argument("--busy", action="store_true", help="the machine does other things too: times are not entered")
    parser.add_argument("--record", type=Path, nargs="?", const=ledger.ROWS, metavar="FILE",
                        help="enter the run into the ledger, or a file to be added to it")  # fmt: skip
    options = parser.parse_args(given)
    if options.fault in SOAK:
        return 0 if planned(options.fault, options) else 1
    rig.FROZEN_S = options.frozen
    faults = list(Fault) if options.fault == "all" else [Fault(options.fault)]
    if Fault.POWER_CUT in faults and (why := disk.obstacle()):
        print(f"power-cut {why}", file=sys.stderr)
        return 2
    os.environ.setdefault("PYTEST_XDIST_WORKER", "gw5")  # a range of ports beside those of `scripts/test`
    for module in (daemon, standby, audit, rig):
        vars(module)["PATIENCE_S"] = options.patience
    return 0 if soak(Where(options.database), faults, options) else 1


def enter(given: Sequence[str]) -> int:
    """`scripts/soak record KIND …`: enter what another program has done."""
    parser = argparse.ArgumentParser(prog="scripts/soak record", description=enter.__doc__)
    parser.add_argument("kind", choices=[kind.value for kind in Kind])
    for name in ("count", "failed", "seed", "acknowledged", "lost", "doubled", "wrong"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("next-ack-p50-s", "next-ack-p95-s"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("what", "by", "text", "test", "date", "commit"):
        parser.add_argument(f"--{name}")
    values = {name: value for name, value in vars(parser.parse_args(given)).items() if value is not None}
    ledger.append(row_of(**({"what": ""} | values)))
    ledger.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`scripts/soak FAULT [OPTIONS]`: break the daemon again and again, and look for all that it has acknowledged.

FAULT: kill, term, reload, pg-kill, pg-restart, pg-sessions, pg-freeze, pg-lock, power-cut, or all. Status 1 where
anything is wrong. --record enters the run into docs/evidence.jsonl and writes docs/evidence.md anew.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import uvloop

from tests.e2e import daemon, standby
from tests.fault import audit, disk, ledger, rig
from tests.fault.ledger import Kind, Row, row_of
from tests.fault.loop import Outcome, percentile, run
from tests.fault.rig import Fault, Where

BATCH = 25  # cycles for each daemon and database that is made
KINDS = {Fault.KILL: Kind.KILL, Fault.PG_KILL: Kind.PG_KILL, Fault.POWER_CUT: Kind.POWER_CUT}


def rows_of(outcome: Outcome) -> list[Row]:
    """One for each kind of fault. What is found at the end, after them all, is entered with the last of them."""
    rows, last = [], list(outcome.cycles)[-1]
    for fault, cycles in outcome.cycles.items():
        whens = (fault, None) if fault is last else (fault,)
        found = Counter(one.kind for when, one in outcome.findings if when in whens)
        lost, doubled = found.pop("lost", 0), found.pop("doubled", 0)
        damaged = fault is last and outcome.damaged is not None
        took, database = outcome.next_ack_s[fault], f"{outcome.where.value} database"
        rows.append(row_of(
            kind=KINDS.get(fault, Kind.OTHER).value, what=database if fault in KINDS else f"{fault.value}, {database}",
            count=cycles, failed=outcome.failed[fault], seed=outcome.seed, acknowledged=outcome.acknowledged[fault],
            lost=lost, doubled=doubled, wrong=found.total() + damaged, next_ack_p50_s=round(percentile(took, 50), 2),
            next_ack_p95_s=round(percentile(took, 95), 2), by="scripts/soak", text=outcome.damaged or "",
        ))  # fmt: skip
    return rows


def soak(
    where: Where, faults: Sequence[Fault], cycles: int, seed: int, record: Path | None, until: float
) -> bool:  # fmt: skip
    """Batches of a daemon each; whether nothing was wrong."""
    good = True
    while cycles > 0 and time.monotonic() < until:
        batch = min(BATCH, cycles)
        chosen = [fault for _ in range(batch) for fault in faults]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(run(where, chosen, seed))
        print(outcome, flush=True)
        if record:
            ledger.append(*rows_of(outcome), to=record)
            ledger.write()
        good &= not outcome.findings and outcome.damaged is None
        cycles, seed = cycles - batch, seed + 1
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["record"]:
        return enter(given[1:])
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fault", choices=[*(fault.value for fault in Fault), "all"])
    parser.add_argument("--cycles", type=int, default=30, help="of each fault (default: 30)")
    parser.add_argument("--database", choices=[where.value for where in Where], default=Where.EMBEDDED.value)
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFFFF, help="printed with the result")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no batch of cycles after so long")
    parser.add_argument("--patience", type=float, default=60.0, metavar="S", help="how long anything may take")
    parser.add_argument("--record", type=Path, nargs="?", const=ledger.ROWS, metavar="FILE",
                        help="enter the run into the ledger, or a file to be added to it")  # fmt: skip
    options = parser.parse_args(given)
    faults = list(Fault) if options.fault == "all" else [Fault(options.fault)]
    if Fault.POWER_CUT in faults and (why := disk.obstacle()):
        print(f"power-cut {why}", file=sys.stderr)
        return 2
    for module in (daemon, standby, audit, rig):
        vars(module)["PATIENCE_S"] = options.patience
    until = time.monotonic() + options.minutes * 60
    return 0 if soak(Where(options.database), faults, options.cycles, options.seed, options.record, until) else 1


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

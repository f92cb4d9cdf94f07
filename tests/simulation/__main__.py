"""Simulate seeds: `python -m tests.simulation --seeds A..B`. What broke is printed with its trace's end; status 1."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.simulation.world import Broken, run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0..199", help="A..B, both included")
    parser.add_argument("--digests", action="store_true", help="print the digest of each seed's events")
    parser.add_argument("--calm", action="store_true", help="nothing goes wrong")
    parser.add_argument("--events", type=int, default=60, help="of a broken seed's trace, so many are printed")
    chosen = parser.parse_args(arguments)
    first, _, last = chosen.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    began, virtual_s, faults, broken = time.process_time(), 0.0, Counter[str](), 0
    for seed in seeds:
        try:
            done = run(seed, faults=not chosen.calm)
        except Broken as fault:
            broken += 1
            print(fault, *fault.events[-chosen.events :], sep="\n  ")
        except Exception as fault:
            broken += 1
            print(f"seed {seed}: {type(fault).__name__}")
            traceback.print_exception(fault)
        else:
            virtual_s += done.virtual_s
            faults += done.faults
            if chosen.digests:
                print(seed, done.digest, flush=True)
        if seed % 500 == 499:
            print(f"to seed {seed}: {broken} broken", file=sys.stderr, flush=True)
    print(
        f"{len(seeds)} seeds, {broken} broken; {virtual_s:.0f} s of virtual time in {time.process_time() - began:.1f} s"
        f" of CPU; {', '.join(f'{name} {count}' for name, count in sorted(faults.items()))}",
        file=sys.stderr,
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.hazards --seed N --results 10000`: a run with its counts by class; status 1 for any disagreement."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import structlog

from interface.store.migrate import upgrade
from interface.store.schema import APP_ROLE, OWNER_ROLE
from tests.cluster import shared_cluster, with_database
from tests.hazards.generator import plan
from tests.hazards.report import lines, sample
from tests.hazards.runner import run
from tests.hazards.verdict import Verdict, compare

SHARE = 0.6  # of the results must be released: a laboratory that holds everything has proved nothing


async def _happen(url: str, seed: int, results: int, samples: int) -> Verdict:
    """One seed, in a database of its own."""
    name = f"hazards_{seed}"
    administrator = await asyncpg.connect(url)
    try:
        await administrator.execute(f"drop database if exists {name} with (force)")
        await administrator.execute(f"create database {name}")
    finally:
        await administrator.close()
    await upgrade(with_database(url, name, OWNER_ROLE))
    planned = plan(seed, results)
    began = time.perf_counter()
    state = await run(with_database(url, name, APP_ROLE), planned)
    took = time.perf_counter() - began
    verdict = compare(planned, state)
    print("\n".join((*lines(planned, verdict), *sample(planned, verdict, samples))))
    print(f"took {took:.0f} s", flush=True)
    return verdict


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hazards", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="may be given several times; default 1")
    parser.add_argument("--results", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=0, help="print so many results to be checked by hand")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors only
    met = True
    with tempfile.TemporaryDirectory() as folder, shared_cluster(Path(folder)) as url:
        for seed in options.seed or [1]:
            verdict = asyncio.run(
                _happen(with_database(url, "postgres", OWNER_ROLE), seed, options.results, options.sample)
            )
            met &= not verdict.faults and verdict.released >= SHARE * options.results
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()

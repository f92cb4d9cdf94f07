"""`scripts/bench api`: reads of one Observation and searches of 25 over FHIR, beside the yardstick's ceiling.

A daemon as configured by default but for `[api] workers`, on a PostgreSQL of its own, with token check and audit on,
and `limit-http-pg` (aiohttp, one query of a table of two columns) on the same server. Once with 100,000 observations,
once with as many as asked for, two visits of 25 for each patient over a year. Wanted (status 1 where it is not met):
reads at half of the ceiling's rate and more than 1,000 a second; searches by patient, category and date at 0.35 of its
Bundle of 25, 95 of 100 within 15 ms and 99 within 40; and not a fifth slower with many.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from interface.domain.views import Actor, ActorKind
from interface.flow import actors
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.bench.population import Population
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

FEW, CLIENTS, VISITS = 100_000, 16, 2
READ, SEARCH, FASTER_THAN = 0.5, 0.35, 1000.0
P95_MS, P99_MS, SLOWER = 15.0, 40.0, 0.8
PERIOD = timedelta(days=365)
URLS = 5000


@dataclass(frozen=True, slots=True)
class Rates:
    """One target's: reads of one resource, and Bundles of 25."""

    read: Load
    search: Load


class Bench:
    def __init__(self, yardstick: Yardstick, postgres: Postgres, seconds: float, workers: int) -> None:
        self._yardstick, self._postgres, self._workers = yardstick, postgres, workers
        self._options = ("--concurrency", str(CLIENTS), "--duration", str(seconds), "--warmup", "40")

    def ceiling(self) -> Rates:
        url, port = self._postgres.fresh(migrated=False), free_port()
        base = f"http://127.0.0.1:{port}"
        try:
            with (
                scratch_folder() as folder,
                server(self._yardstick.reference("http-pg", port, url), port, folder / "log") as pid,
            ):
                found = self._fetch([f"{base}/Patient/{{rand:1-10000}}"], [pid])
                return Rates(
                    found, self._fetch([f"{base}/Observation?patient=Patient/{{rand:1-10000}}&_count=25"], [pid])
                )
        finally:
            self._postgres.drop(url)

    def ours(self, observations: int) -> Rates:
        url = self._postgres.fresh(migrated=True)
        try:
            with scratch_folder() as folder:
                with daemon(url, folder, astm=0):
                    pass  # the first start makes the organization
                token, results, patients = asyncio.run(_fill(url, observations))
                api = f"workers = {self._workers}\nclient_rate = 0\naddress_rate = 0\n"
                with daemon(url, folder, astm=0, api=api) as (pid, links):
                    base, header = f"http://127.0.0.1:{links.api}/fhir", ("--header", f"Authorization: Bearer {token}")
                    reads = [f"{base}/Observation/{id}" for id in results]
                    searches = [
                        f"{base}/Observation?patient={id}&category=laboratory&date=ge2020-01-01&_count=25"
                        for id in patients
                    ]
                    return Rates(self._fetch(reads, [pid], *header), self._fetch(searches, [pid], *header))
        finally:
            self._postgres.drop(url)

    def _fetch(self, urls: Sequence[str], servers: Sequence[int], *more: str) -> Load:
        found = self._yardstick.fetch(urls, [*servers, self._postgres.pid], *self._options, *more)
        if found.bad:
            raise NoYardstick(f"{found.bad} answers were wrong")
        return found


async def _fill(url: str, observations: int) -> tuple[str, list[UUID], list[UUID]]:
    """A token for an EMR, and ids of observations and patients to ask for."""
    connection, beside = await asyncpg.connect(url), await asyncpg.connect(url)
    database = await Database.connect(url)
    try:
        began = time.perf_counter()
        own = await connection.fetchval("select id from lab.organization where name = 'main'")
        apart = PERIOD / max(1, observations // 25)
        await Population(connection, own).store(observations, beside, visits=VISITS, apart=apart)
        say(f"{'':<28}{observations:,} observations stored in {time.perf_counter() - began:.0f} s")
        actor = Actor(ActorKind.USER, uuid7(), "bench", own, frozenset({"client:write"}))
        made = await actors.create_client(database, actor, "bench", ["system/*.rs"])
        issued = await actors.client_token(database, made.client_id, made.secret, "", 3600)
        share = min(100.0, 300.0 * URLS / observations)
        results = await connection.fetch(
            "select id, patient_id from lab.result tablesample bernoulli ($1) where organization_id = $2", share, own
        )
        chosen = random.Random(1).sample(results, min(URLS, len(results)))  # noqa: S311
        return issued.token, [row["id"] for row in chosen], [row["patient_id"] for row in chosen]
    finally:
        await database.close()
        await connection.close()
        await beside.close()


def _say(name: str, found: Load, ceiling: Load, wanted: float) -> float:
    share = found.per_s / ceiling.per_s
    say(
        f"{name:<28}{found.per_s:>8,.0f}/s  p95 {found.latency['p95']:.1f}  p99 {found.latency['p99']:.1f} ms"
        f"  {found.server_cpu_ms:.2f} ms CPU  {share:.2f} of the ceiling's {ceiling.per_s:,.0f}/s (wanted {wanted})"
    )
    return share


def _judged(name: str, found: Rates, ceiling: Rates) -> bool:
    reads = _say(f"read, {name}", found.read, ceiling.read, READ)
    searches = _say(f"search of 25, {name}", found.search, ceiling.search, SEARCH)
    quick = found.search.latency["p95"] <= P95_MS and found.search.latency["p99"] <= P99_MS
    return reads >= READ and searches >= SEARCH and quick and found.read.per_s > FASTER_THAN


def main() -> None:
    """Print the table; status 1 when what is wanted was not met."""
    parser = argparse.ArgumentParser(prog="scripts/bench api", description=__doc__)
    parser.add_argument("--observations", type=int, default=0, help="also with so many stored, such as 10000000")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--workers", type=int, default=2, help="processes that serve")
    options = parser.parse_args()
    stopped_by_signal()
    met = True
    try:
        yardstick = Yardstick()
        with yardstick.postgres() as postgres:
            bench = Bench(yardstick, postgres, options.seconds, options.workers)
            ceiling = bench.ceiling()
            few = bench.ours(FEW)
            met &= _judged(f"{FEW:,}", few, ceiling)
            if options.observations:
                many = bench.ours(options.observations)
                met &= _judged(f"{options.observations:,}", many, ceiling)
                for name, before, after in (("read", few.read, many.read), ("search", few.search, many.search)):
                    share = after.per_s / before.per_s
                    say(f"{name + ', many beside few':<28}{share:>8.2f} (wanted {SLOWER})")
                    met &= share >= SLOWER
    except NoYardstick as error:
        sys.exit(str(error))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()

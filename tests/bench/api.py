"""`scripts/bench api`: reads of one Observation and searches of 25 over FHIR, beside the yardstick's ceiling.

A daemon as configured by default but for `[api] workers`, on a PostgreSQL of its own, with token check and audit on,
and `limit-http-pg` (aiohttp, one query of a table of two columns) on the same server. Once with 100,000 observations,
once with as many as asked for, two visits of 25 for each patient over a year. Wanted (P7, P8, P10; status 1 where it is
not met): reads at half of the ceiling's rate and more than 1,000 a second; searches by patient, category and date at
0.35 of its Bundle of 25, 95 of 100 within 15 ms and 99 within 40; and not a fifth slower with many.

`--keep DIR`: what is stored is kept there and used again; ten million take minutes to fill and 12 GB.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from interface.domain.views import Actor, ActorKind
from interface.flow import actors
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.bench.ingesting import Ingesting, Stored
from tests.bench.record import TARGETS, note
from tests.bench.stored import fill, stored
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

FEW, CLIENTS = 100_000, 16
FASTER_THAN = 1000.0  # reads a second
URLS = 5000


@dataclass(frozen=True, slots=True)
class Rates:
    """One target's: reads of one resource, and Bundles of 25."""

    read: Load
    search: Load


class Bench:
    def __init__(self, yardstick: Yardstick, postgres: Postgres, seconds: float, workers: int) -> None:
        self._yardstick, self._postgres, self._workers = yardstick, postgres, workers
        self._clients = ("--concurrency", str(CLIENTS))
        self._options = (*self._clients, "--duration", str(seconds), "--warmup", "40")

    def ceiling(self) -> Rates:
        return Rates(*self._reached("Patient/{rand:1-10000}", "Observation?patient=Patient/{rand:1-10000}&_count=25"))

    def reads(self) -> Load:
        """The ceiling's reads alone."""
        return self._reached("Patient/{rand:1-10000}")[0]

    def _reached(self, *paths: str) -> list[Load]:
        """What the ceiling reaches for each."""
        url, port = self._postgres.fresh(migrated=False), free_port()
        try:
            with (
                scratch_folder() as folder,
                server(self._yardstick.reference("http-pg", port, url), port, folder / "log") as pid,
            ):
                return [self._fetch([f"http://127.0.0.1:{port}/{path}"], [pid]) for path in paths]
        finally:
            self._postgres.drop(url)

    def ours(self, observations: int) -> Rates:
        url = stored(self._postgres, observations)
        token, results, patients = asyncio.run(asked_for(url, observations))
        api = f"workers = {self._workers}\nclient_rate = 0\naddress_rate = 0\n"
        with scratch_folder() as folder, daemon(url, folder, astm=0, api=api) as (pid, links):
            base, header = f"http://127.0.0.1:{links.api}/fhir", ("--header", f"Authorization: Bearer {token}")
            return Rates(
                self._fetch(reads_of(base, results), [pid], *header),
                self._fetch(searches_of(base, patients), [pid], *header),
            )

    def _fetch(self, urls: Sequence[str], servers: Sequence[int], *more: str) -> Load:
        # Each is asked for once before: what the disk has to bring costs what the disk does.
        first = self._yardstick.fetch(urls, servers, *self._clients, "--requests", str(URLS), *more)
        if first.bad:
            say(f"{'asked for the first time':<28}{first.bad} answers were wrong, such as {'; '.join(first.wrong)}")
        found = self._yardstick.fetch(urls, [*servers, self._postgres.pid], *self._options, *more)
        if found.bad:
            raise NoYardstick(f"{found.bad} answers were wrong, such as {'; '.join(found.wrong)}")
        return found


def reads_of(base: str, results: Sequence[UUID]) -> list[str]:
    """The URLs of reads by id."""
    return [f"{base}/Observation/{id}" for id in results]


def searches_of(base: str, patients: Sequence[UUID]) -> list[str]:
    """The URLs of searches that find 25."""
    return [f"{base}/Observation?patient={id}&category=laboratory&date=ge2020-01-01&_count=25" for id in patients]


async def asked_for(url: str, observations: int) -> tuple[str, list[UUID], list[UUID]]:
    """A token for an EMR, and ids of observations and patients to ask for."""
    connection = await asyncpg.connect(url)
    database = await Database.connect(url)
    try:
        own = await connection.fetchval("select id from lab.organization where name = 'main'")
        actor = Actor(ActorKind.USER, uuid7(), "bench", own, frozenset({"client:write"}))
        made = await actors.create_client(database, actor, f"bench-{actor.id}", ["system/*.rs"])
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


async def _few(url: str) -> Stored:
    await fill(url, FEW)
    token, results, _ = await asked_for(url, FEW)
    return Stored(token, results)


def _judged(name: str, found: Load, ceiling: Load, target: str) -> str:
    """Says what was found, and gives it for the record."""
    text = (
        f"{found.per_s:>8,.0f}/s  p95 {found.latency['p95']:.1f}  p99 {found.latency['p99']:.1f} ms"
        f"  {found.server_cpu_ms:.2f} ms CPU  {found.per_s / ceiling.per_s:.2f} of the ceiling's {ceiling.per_s:,.0f}/s"
    )
    say(f"{name:<28}{text} (wanted {TARGETS[target].wanted})")
    return text.strip()


def _met(found: Rates, ceiling: Rates, observations: int, *, noted: bool) -> bool:
    """`noted`: these are the figures of P7 and P8."""
    read = _judged(f"read, {observations:,}", found.read, ceiling.read, "P7")
    search = _judged(f"search of 25, {observations:,}", found.search, ceiling.search, "P8")
    figures = (
        ("P7", found.read.per_s / ceiling.read.per_s, read),
        ("P8", found.search.per_s / ceiling.search.per_s, search),
        ("P8-p95", found.search.latency["p95"], search),
        ("P8-p99", found.search.latency["p99"], search),
    )
    met = [note(*one) if noted else TARGETS[one[0]].met(one[1]) for one in figures]
    return all(met) and found.read.per_s > FASTER_THAN


def main() -> None:
    """Print the table; status 1 when what is wanted was not met."""
    parser = argparse.ArgumentParser(prog="scripts/bench api", description=__doc__)
    parser.add_argument("--observations", type=int, default=0, help="also with so many stored, such as 10000000")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--workers", type=int, default=2, help="processes that serve")
    parser.add_argument("--keep", type=Path, help="the folder of a database server whose data stay there")
    parser.add_argument("--ingesting", action="store_true", help="only reads while results come in: P9 and P11")
    parser.add_argument("--backlog", type=int, default=0, help="and then so many messages at once, such as 27000: P12")
    options = parser.parse_args()
    stopped_by_signal()
    met = True
    try:
        yardstick = Yardstick()
        with yardstick.postgres(options.keep) as postgres:
            bench = Bench(yardstick, postgres, options.seconds, options.workers)
            if options.ingesting:
                seconds, ceiling_per_s = max(8.0, options.seconds), bench.reads().per_s
                beside = Ingesting(yardstick, postgres, seconds, options.workers, options.backlog, ceiling_per_s)
                sys.exit(0 if beside.measure(_few) else 1)
            for observations in (FEW, options.observations):
                stored(postgres, observations or FEW)  # before anything is measured
            ceiling = bench.ceiling()
            few = bench.ours(FEW)
            met &= _met(few, ceiling, FEW, noted=True)
            if options.observations:
                many = bench.ours(options.observations)
                met &= _met(many, ceiling, options.observations, noted=False)
                for name, before, after in (("read", few.read, many.read), ("search", few.search, many.search)):
                    share = after.per_s / before.per_s
                    say(f"{name + ', many beside few':<28}{share:>8.2f} (wanted {TARGETS[f'P10-{name}'].wanted})")
                    met &= note(f"P10-{name}", share, f"{options.observations:,} beside {FEW:,}")
    except NoYardstick as error:
        sys.exit(str(error))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()

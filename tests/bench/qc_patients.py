"""`scripts/bench qc-patients`: what patient-based quality control costs.

A million results are trained on and simulated, by each statistic, in CPU seconds of this process; then what follows the
live results is given some thousands of them to count, on a server of its own: microseconds a value, of this process and
of PostgreSQL's. Nothing is asserted.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg

from interface.domain.pbrtqc import Limits, Method, Mode, Reading, Statistic
from interface.domain.pbrtqc_simulation import Bias, BiasUnit, Series, establish, simulate
from interface.flow import pbrtqc
from interface.flow.pbrtqc_watch import SETTLE_S, PatientWatch
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.telemetry import configure_logs
from tests.bench.settle import _folder, _server_cpu_s
from tests.cluster import with_database
from tests.flow.patients import Patients, healthy
from tests.records import found

RESULTS, A_DAY, VALUES, USES = 1_000_000, 1440, 20_000, 4
METHODS = (
    Method(Statistic.MEAN, 50),
    Method(Statistic.MEDIAN, 100),
    Method(Statistic.EWMA, 1, Decimal("0.05")),
    Method(Statistic.MEAN, 50, boxcox=Decimal("0.5")),
)


def _history() -> Series:
    rng = random.Random(1)  # noqa: S311 - no secret
    known: dict[int, Reading] = {}
    readings = []
    for _ in range(RESULTS):
        number = max(1, round(rng.gauss(135, 12)))
        readings.append(known.setdefault(number, Reading(Decimal(number).scaleb(-1))))
    every = 86_400 // A_DAY
    return Series(range(0, RESULTS * every, every), readings)


def _simulations() -> None:
    series = _history()
    biases = [Bias(Decimal(amount), BiasUnit.PERCENT) for amount in (-10, -5, -3, 3, 5, 10)]
    print(f"{RESULTS:,} results, {A_DAY} a day; {len(biases)} biases, 200 runs each within 1000 patients; CPU seconds")
    for method in METHODS:
        begun = time.process_time()
        limits, days = establish(method, series, Decimal("0.05"))
        trained = time.process_time()
        done = simulate(method, limits, series, biases, seed=1)
        took = time.process_time() - trained
        words = f"{method.statistic} of {method.block}{', Box-Cox' if method.boxcox is not None else ''}"
        finds = ", ".join(f"{one.bias} {one.median}" for one in done.found)
        print(f"{words:<22} training {trained - begun:5.1f}  simulating {took:5.1f}  alarms on {done.false.alarm_days}"
              f" of {days} days; found after {finds}")  # fmt: skip


async def _following(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        await upgrade(server.url(OWNER_ROLE))
        postmaster = server.pid
        if postmaster is None:
            raise RuntimeError("the server did not start")
        database = await Database.connect(with_database(server.url(OWNER_ROLE), "labora", APP_ROLE))
        try:
            await _follow(database, postmaster, server.url(OWNER_ROLE))
        finally:
            await database.close()
    finally:
        await server.stop()


async def _follow(database: Database, postmaster: int, owner_url: str) -> None:
    async with database.transaction(organization_id := uuid7()) as connection:
        await connection.execute("insert into lab.organization (id, name) values ($1, 'bench')", organization_id)
    patients = Patients(await found(database, organization_id))
    limits = Limits(Decimal(1), Decimal(99), Decimal("13.5"))
    async with database.transaction(organization_id) as connection:
        for number in range(USES):
            draft = pbrtqc.Draft(f"p{number}", "hema", "HGB", METHODS[number], limits=limits)
            await pbrtqc.write(connection, patients.director, draft, "measured")
            await pbrtqc.activate(connection, patients.director, draft.name, 1, Mode.WATCH, "measured")
    begin = datetime.now(UTC) + timedelta(seconds=1)
    results = healthy(1, VALUES, begin=begin)
    await patients.measure(results)
    owner = await asyncpg.connect(owner_url)
    await owner.execute("analyze")  # as `store.upkeep` does where tables have grown
    await owner.close()
    now = results[-1].at + timedelta(seconds=SETTLE_S + 1)
    watch = PatientWatch(database, lambda: now)
    here, there, started = time.process_time(), _server_cpu_s(postmaster), time.perf_counter()
    counted = await watch.follow(organization_id)
    used = time.process_time() - here, _server_cpu_s(postmaster) - there, time.perf_counter() - started
    mine, theirs, took = (1e6 * each / counted for each in used)
    print(f"following: {counted:,} values of {USES} plans: {mine:.1f} us here, {theirs:.1f} us of PostgreSQL a value,"
          f" {took:.1f} us in all")  # fmt: skip
    async with database.transaction(organization_id) as connection:
        plan = pbrtqc.plan_of(await pbrtqc.find(connection, "p0"))
        started = time.perf_counter()
        series = await pbrtqc.load(connection, plan, begin, now)
    took = 1e6 * (time.perf_counter() - started) / len(series)
    print(f"reading a history: {took:.1f} us a result")


def main() -> None:
    """Print the figures."""
    configure_logs(40)
    _simulations()
    with _folder() as folder:
        asyncio.run(_following(folder))


if __name__ == "__main__":
    main()

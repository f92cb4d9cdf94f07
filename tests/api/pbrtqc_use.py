"""Every route of patient-based quality control with something it can do, for tests that ask all routes there are."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from interface.api.context import Route
from interface.domain.pbrtqc import Mode
from interface.flow.pbrtqc_watch import SETTLE_S, PatientWatch
from interface.store import pbrtqc as store
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory
from tests.flow.patients import BEGIN, Measured, Patients, healthy
from tests.records import Laboratory as Records

ANALYZER = "hema"
TRAINED, PROVED = BEGIN + timedelta(days=12), BEGIN + timedelta(days=20)
PLAN: dict[str, Any] = {
    "name": "hgb", "reason": "first", "analyzer": ANALYZER, "test": "HGB",
    "method": {"statistic": "mean", "block": 20}, "horizon": 100, "most_false_alarms": "5",
    "goals": [{"name": "tea", "bias": "25%", "undetected": "0.1"}],
    "training": {"from": BEGIN.isoformat(), "to": TRAINED.isoformat(), "rate": "0.5"},
}  # fmt: skip
PERIOD: dict[str, Any] = {"from": TRAINED.isoformat(), "to": PROVED.isoformat(), "runs": 100}
BY_HAND = PLAN | {"training": None, "limits": {"low": "13", "centre": "13.5", "high": "14"}}
BODIES: dict[str, Any] = {
    "simulate": PERIOD, "validate": PERIOD, "activate": {"mode": "watch", "reason": "go"},
    "deactivate": {"reason": "no more"}, "close": {"reason": "recalibrated"},
}  # fmt: skip


async def patients_of(database: Database, organization_id: UUID) -> Patients:
    """Who is measured in a laboratory of any kind, on an analyzer of this name."""
    async with database.transaction(organization_id) as connection:
        analyzer_id = await connection.fetchval("select id from lab.analyzer where name = $1", ANALYZER)
        if analyzer_id is None:
            analyzer_id = uuid7()
            await connection.execute(
                "insert into lab.analyzer (id, organization_id, name) values ($1, $2, $3)",
                analyzer_id, organization_id, ANALYZER,
            )  # fmt: skip
        tests = {row["code"]: row["id"] for row in await connection.fetch("select code, id from lab.test")}
    return Patients(Records(database, organization_id, analyzer_id, uuid7(), tests))


async def alarm(patients: Patients, since: datetime) -> UUID:
    """Thirty results far too high after a plan was put to use; its alarm."""
    results = [Measured(since + timedelta(seconds=at + 1), "30") for at in range(30)]
    await patients.measure(results)
    now = results[-1].at + timedelta(seconds=SETTLE_S + 1)
    await PatientWatch(patients.database, lambda: now).follow(patients.organization_id)
    async with patients.database.organization(patients.organization_id) as connection:
        return (await store.read_events(connection))[0].id


async def use_pbrtqc(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Ask for something that can be done; the answer's status."""
    patients = await patients_of(laboratory.database, laboratory.organization_id)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        known = await connection.fetchval("select count(*) from lab.pbrtqc_plan")
    if not known:
        await patients.measure(healthy(20, 24))
    body = PLAN | {"name": f"p{known}"}
    if route.path == "/api/pbrtqc" and route.method == "POST":
        answer = await bench.ask("POST", route.path, token, json=body)
    else:
        made = await bench.ask("POST", "/api/pbrtqc", token, json=body)
        assert made.status == 201, made.body
        path, last = route.path.replace("{id}", made.json["version"]), route.path.rsplit("/", 1)[1]
        if last in ("deactivate", "close"):
            used = await bench.ask("POST", f"/api/pbrtqc/p{known}@1/activate", token, json=BODIES["activate"])
            assert used.json["mode"] == Mode.WATCH, used.body
            if last == "close":
                since = datetime.fromisoformat(used.json["since"])
                path = route.path.replace("{id}", str(await alarm(patients, since)))
        options = {"json": BODIES[last]} if route.method == "POST" else {}
        answer = await bench.ask(route.method, path, token, **options)
    assert answer.status < 300, answer.body
    return answer.status

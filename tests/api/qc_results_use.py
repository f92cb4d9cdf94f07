"""Every route of controls' results, used as a laboratory would."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from interface.api.context import Route
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory
from tests.api.qc_lots_use import lot, made, material
from tests.qc_records import Site

REASON = {"reason": "air bubble"}
# By route, of those about one control: what each takes at least.
RESULT_BODIES: dict[str, Any] = {
    "/api/qc-results/{id}/exclude": REASON,
    "/api/qc-results/{id}/restore": REASON,
    "/api/qc-results/{id}/dismiss": REASON,
    "/api/qc-results/{id}/assign": REASON | {"lot": "4711"},
    "/api/qc-results/{id}/comment": {"text": "new bottle"},
}


async def entered(bench: Bench, token: str) -> dict[str, Any]:
    """A control that was entered, and its lot's id under `lot_id`."""
    of = await made(bench, token, "qc-materials", material())
    lot_id = await made(bench, token, "qc-lots", lot(of))
    body = {"analyzer": "hema", "test": "HGB", "lot": lot_id, "value": "12.1"}
    answer = await bench.ask("POST", "/api/qc-results", token, json=body)
    assert answer.status == 201, answer.body
    return {**answer.json, "lot_id": lot_id}


async def waiting(laboratory: Site) -> UUID:
    """A control that made no point."""
    id = uuid7()
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            """insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, test_id, kind, number,
                   value, unit, specimen_as_sent) select $1, $2, $3, $4, 'qc', id, 'numeric', 12.1, '12.1', 'g/dL', $5
               from lab.test where code = 'HGB'""",
            id, laboratory.organization_id, id.bytes, laboratory.analyzer_id, uuid4().hex,
        )  # fmt: skip
        await connection.execute(
            "insert into lab.qc_problem (qc_result_id, organization_id, kind) values ($1, $2, 'unknown_control')",
            id, laboratory.organization_id,
        )  # fmt: skip
    return id


async def use_results(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Ask for something that is there, or can be done; the answer's status."""
    step = route.path.rsplit("/", 1)[-1]
    if route.path in ("/api/qc-results", "/api/qc-results/analysis"):
        if route.method == "POST":
            await entered(bench, token)
            return 201
        return (await bench.get(route.path, token)).status
    known = await entered(bench, token)
    key, body = str(known["id"]), dict(REASON)
    if step in ("assign", "dismiss"):
        key = str(await waiting(laboratory))
    if step == "assign":
        body["lot"] = known["lot_id"]
    if step == "comment":
        body = {"text": "new bottle"}
    if step == "restore":
        await bench.ask("POST", f"/api/qc-results/{key}/exclude", token, json=REASON)
    options = {"json": body} if route.method == "POST" else {}
    return (await bench.ask(route.method, route.path.replace("{id}", key), token, **options)).status

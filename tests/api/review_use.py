"""Each route of reviewing results and telling critical ones, asked in the way that it wants to be asked."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from interface.api.context import Route
from interface.domain.model import ResultStatus
from interface.domain.permissions import permissions
from interface.domain.views import Actor, ActorKind
from interface.flow.criticals import open_for
from interface.store.criticals import Judged
from interface.store.ids import uuid7
from tests import records
from tests.api.bench import Bench, Laboratory
from tests.flow.rulebook import put_text_in_force

BODIES: dict[str, Any] = {
    "rerun": {"comment": "doubtful"},
    "correct": {"value": "9.1", "comment": "typing error"},
    "attempt": {"obstacle": "no_answer", "person": "ward 3"},
    "notify": {"person": "ward 3, nurse Meier", "read_back": True},
    "policies": {"two_steps": False},
    "recalculate": {},
}
# What it would be made of is missing: a calculated result that loses its value.
_RULES = """
name = "default"

[[calculation]]
test = "HGB"
formula = "average_glucose"
inputs = { hba1c = ["WBC"] }
"""


async def let_be_calculated(laboratory: Laboratory | records.Laboratory, result_id: UUID) -> None:
    """As if rules in force had calculated the result."""
    roles = frozenset({"laboratory_director"})
    director = Actor(
        ActorKind.USER, uuid7(), "dora", laboratory.organization_id, permissions(roles), roles, address="127.0.0.1"
    )
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.result set origin = 'calculation' where id = $1", result_id)
        await put_text_in_force(connection, director, _RULES)


async def critical(laboratory: Laboratory, value: str = "2.1") -> tuple[UUID, UUID]:
    """A critical result with its task: (result, task)."""
    result_id = await laboratory.result(await laboratory.order(), value, ResultStatus.PRELIMINARY, flags=["LL"])
    actor = Actor(ActorKind.LINK, uuid7(), "hema-1", laboratory.organization_id)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        version_id = await connection.fetchval("select version_id from lab.result where id = $1", result_id)
        await open_for(connection, actor, [Judged(result_id, version_id, critical=True, fresh=True)])
        task_id = await connection.fetchval(
            "select id from lab.critical_notification where result_id = $1 order by id desc limit 1", result_id
        )
    return result_id, task_id


async def change(laboratory: Laboratory, result_id: UUID) -> None:
    """A change to a released result that waits."""
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        version_id = uuid7()
        await connection.execute(
            "insert into lab.result_version select (jsonb_populate_record(v, jsonb_build_object('id', $2::uuid,"
            " 'version', 2, 'status', 'registered', 'held', array['changed_after_release'], 'value', '9.1',"
            " 'number', 9.1))).*"
            " from lab.result_version v where result_id = $1",
            result_id, version_id,
        )  # fmt: skip
        await connection.execute("update lab.result set pending_version_id = $2 where id = $1", result_id, version_id)


async def use_review(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Ask for something that is there; the answer's status."""
    step = route.path.rsplit("/", 1)[-1]
    body: Any = BODIES.get(step, {"comment": "seen"})
    if route.path.startswith("/api/results/{id}/"):
        body = body | {"version": 2 if step.endswith("-change") else 1}
    if "/criticals/" in route.path:
        key = await _task(bench, laboratory, token, step)
    else:
        released = step in ("retract", "accept-change", "reject-change")
        status = ResultStatus.FINAL if released else ResultStatus.PRELIMINARY
        key = await laboratory.result(await laboratory.order(), status=status)
        if released:
            await _let_out(laboratory, key)
        if step.endswith("-change"):
            await change(laboratory, key)
    if step == "recalculate":
        await let_be_calculated(laboratory, key)
    if step == "batch":
        body = {"step": "release", "results": [{"id": str(key), "version": 1}], "comment": "seen"}
    options = {"json": body} if route.method != "GET" else {}
    answer = await bench.ask(route.method, route.path.replace("{id}", str(key)), token, **options)
    assert answer.status < 300, (route, answer.body)
    return answer.status


async def _let_out(laboratory: Laboratory, result_id: UUID) -> None:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute("update lab.result set released_at = now() where id = $1", result_id)


async def _task(bench: Bench, laboratory: Laboratory, token: str, step: str) -> UUID:
    """A task in the state that the step wants."""
    result_id, task_id = await critical(laboratory)
    if step == "close":
        await bench.ask("POST", f"/api/criticals/{task_id}/notify", token, json=BODIES["notify"])
    if step == "withdraw":
        await bench.ask("POST", f"/api/results/{result_id}/reject", token, json={"comment": "haemolysed", "version": 1})
    return task_id

"""Each route of orders' changes, specimens and worksheets, asked in the way that it wants to be asked."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from interface.api.context import Route
from tests.api.bench import Bench, Laboratory

SPECIMEN_BODIES: dict[str, Any] = {
    "/api/orders/{id}": {"version": 1, "ward": "3B"},
    "/api/orders/{id}/replace": {"reason": "another test", "order": {"specimens": [{"tests": ["WBC"]}]}},
    "/api/orders/{id}/items": {"specimen": {"tests": ["WBC"]}},
    "/api/orders/{id}/cancel": {"reason": "by mistake"},
    "/api/specimens/{id}/collect": {"by": "Nurse"},
    "/api/specimens/{id}/retime": {"at": "2026-01-02T03:04:05Z", "reason": "mistyped"},
    "/api/specimens/{id}/receive": {},
    "/api/specimens/{id}/move": {"rack": "R1"},
    "/api/specimens/{id}/reject": {"reason": "clotted"},
    "/api/specimens/{id}/reinstate": {"reason": "the other tube"},
    "/api/specimens/{id}/exhaust": {},
    "/api/specimens/{id}/dispose": {},
    "/api/specimens/{id}/aliquot": {},
    "/api/worksheets": {"tests": ["HGB"]},
    "/api/worksheets/{id}/entries": {"entries": [{"place": 1, "value": "13.5"}]},
    "/api/worksheets/{id}/complete": {"unmeasured": "tomorrow"},
}
BEFORE = {
    "retime": ("collect",), "move": ("receive",), "aliquot": ("receive",), "reinstate": ("reject",),
    "dispose": ("reject",),
}  # fmt: skip


def is_theirs(route: Route) -> bool:
    of = ("/api/specimens", "/api/worksheets", "/api/orders/worklist")
    return route.path.startswith(of) or route.path in SPECIMEN_BODIES


async def use_specimens(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Ask for something that is there; the answer's status."""
    barcode = uuid4().hex[:12]
    of = await laboratory.order(barcode)
    kind, step = route.path.split("/")[2], route.path.rsplit("/", 1)[-1]
    key = of["order"] if kind == "orders" else of["specimen"]
    if kind == "specimens":
        for before in BEFORE.get(step, ()):
            await ask(bench, token, f"/api/specimens/{key}/{before}")
        if step == "exhaust":
            await ask(bench, token, f"/api/specimens/{key}/receive")
            await ask(bench, token, f"/api/orders/{of['order']}/cancel")
    elif kind == "worksheets" and "{id}" in route.path:
        key = UUID((await ask(bench, token, "/api/worksheets"))["id"])
    sent = {"json": SPECIMEN_BODIES[route.path]} if route.method in ("POST", "PATCH") else {}
    path = route.path.replace("{id}", str(key)).replace("{barcode}", barcode)
    answer = await bench.ask(route.method, path, token, **sent)
    assert answer.status < 300, (path, answer.body)
    return answer.status


async def ask(bench: Bench, token: str, path: str) -> Any:
    """POST with the body that the route takes; its answer."""
    body = next(body for route, body in SPECIMEN_BODIES.items() if route.split("/")[-1] == path.split("/")[-1])
    answer = await bench.ask("POST", path, token, json=body)
    assert answer.status < 300, (path, answer.body)
    return answer.json

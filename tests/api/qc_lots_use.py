"""Every route of materials, lots, targets and lots in use, used as a laboratory would."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID, uuid4

from interface.api.context import Route
from interface.flow.qc_lots import MOST_LEVELS
from tests.api.bench import Bench, Laboratory
from tests.qc_records import add_points

WHY = {"reason": "new lot"}
# By route, of those about one of them: what each takes at least.
LOT_BODIES: dict[str, Any] = {
    f"/api/{route}": WHY
    for route in (
        "qc-materials/{id}", "qc-materials/{id}/close", "qc-materials/{id}/reopen", "qc-lots/{id}",
        "qc-lots/{id}/close", "qc-lots/{id}/reopen", "qc-targets/{id}/replace", "qc-targets/{id}/end",
        "qc-targets/{id}/recompute", "analyzer-lots/{id}/end",
    )
}  # fmt: skip
NUMBERS = ["12.0", "12.1"] * 10


def material() -> dict[str, Any]:
    return {"name": f"Control {uuid4().hex}", "manufacturer": "Maker"}


_numbers = itertools.cycle(range(1, MOST_LEVELS + 1))  # a number is one material's, as long as that has a target


def lot(of: str) -> dict[str, Any]:
    number = next(_numbers)
    return {"material": of, "lot": uuid4().hex, "level": "low", "level_number": number, "expires_on": "2999-01-31"}


def target(of: str) -> dict[str, Any]:
    return WHY | {"lot": of, "analyzer": "hema", "test": "HGB", "mean": "12.0", "sd": "0.5", "unit": "g/dL"}


def in_use() -> dict[str, Any]:
    return {"analyzer": "hema", "kind": "reagent", "lot": uuid4().hex, "test": "HGB", "expires_on": "2999-01-31"}


async def made(bench: Bench, token: str, path: str, body: dict[str, Any]) -> str:
    """The id of what a POST makes."""
    answer = await bench.ask("POST", f"/api/{path}", token, json=body)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


async def use_lots(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Ask for something that is there, or can be done; the answer's status."""
    kind, step = route.path.split("/")[2], route.path.rsplit("/", 1)[-1]
    of = await made(bench, token, "qc-materials", material())
    lot_id = await made(bench, token, "qc-lots", lot(of))
    body: dict[str, Any] = dict(WHY)
    key, query = of, ""
    if kind == "qc-materials":
        body = material() if route.path.endswith(kind) else body | ({} if step != "{id}" else {"note": "x"})
        if step in ("close", "reopen"):
            await bench.ask("POST", f"/api/qc-lots/{lot_id}/close", token, json=WHY)
    elif kind == "qc-lots":
        key = lot_id
        body = lot(of) if route.path.endswith(kind) else body | ({} if step != "{id}" else {"note": "x"})
        if step == "import":
            body["file"] = f"material,lot\n{uuid4().hex},1\n"
    elif kind == "qc-targets":
        key, body, query = await _target(bench, laboratory, token, route, lot_id)
    else:
        body = in_use() if route.path.endswith(kind) else body
        key = await made(bench, token, "analyzer-lots", in_use()) if "{id}" in route.path else ""
    options = {"json": body} if route.method in ("POST", "PATCH") else {}
    answer = await bench.ask(route.method, route.path.replace("{id}", key) + query, token, **options)
    assert answer.status < 300, (route, answer.body)
    return answer.status


async def _target(
    bench: Bench, laboratory: Laboratory, token: str, route: Route, lot_id: str
) -> tuple[str, dict[str, Any], str]:
    """An id, a body and a query that the route can do something with."""
    step = route.path.rsplit("/", 1)[-1]
    query = f"?lot={lot_id}&analyzer=hema&test=HGB" if step == "proposal" else ""
    if step in ("establish", "recompute"):
        await add_points(laboratory, UUID(lot_id), NUMBERS)
    if step == "establish":
        place = {name: value for name, value in target(lot_id).items() if name in ("lot", "analyzer", "test")}
        return "", WHY | place | {"points": len(NUMBERS)}, query
    if route.path == "/api/qc-targets" or step == "proposal":
        return "", target(lot_id), query
    key = await made(bench, token, "qc-targets", target(lot_id) | {"kind": "cumulative"})
    return key, WHY | ({"sd": "0.4"} if step == "replace" else {}), query

"""Every route of quality control, used as a laboratory would: for tests that ask all routes there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from interface.api.context import Route
from interface.domain.model import ResultStatus
from tests.api.bench import Bench, Laboratory
from tests.api.pbrtqc_use import use_pbrtqc
from tests.api.qc_lots_use import lot, made, material, use_lots
from tests.api.qc_results_use import use_results
from tests.qc_failing import looked_back_at


async def _peers(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    if route.method == "POST":
        wanted = lot(await made(bench, token, "qc-materials", material()))
        await made(bench, token, "qc-lots", wanted)
        file = f"lot,level,test,peer_group,period,mean,sd\n{wanted['lot']},low,HGB,all,2026-11,12,0.4\n"
        return (await bench.ask("POST", route.path, token, json={"file": file, "reason": "report"})).status
    period = {} if route.path == "/api/qc-peers" else {"period": "2026-11"}
    return (await bench.ask("GET", route.path, token, params=period)).status


async def use_pictures(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Charts and reports: empty ones are there for every test and month."""
    path = route.path.replace("{test}", "HGB").replace("{month}", "2026-11")
    return (await bench.get(path, token, params={"analyzer": "hema"} if "charts" in path else {})).status


# By the words after /api/qc/: the same.
BELOW = {"charts": use_pictures, "reports": use_pictures}


async def use_below(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    return await BELOW[route.path.split("/")[3]](bench, laboratory, token, route)


async def _gate(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    body: dict[str, object] = {}
    if route.path == "/api/qc-actions":
        body = {"analyzer": "hema", "test": "HGB", "kind": "comment", "text": "new tubing"}
    elif "qc-plans" in route.path:
        body = {"test": "HGB"}
        if route.path.endswith("/end"):
            await bench.ask("PUT", "/api/qc-plans", token, json=body)
    path = route.path
    if "{id}" in path:
        of = await laboratory.result(await laboratory.order(), status=ResultStatus.FINAL)
        id = await looked_back_at(laboratory, of)
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            seen = await connection.fetchval("select version from lab.qc_lookback where id = $1", id)
        path, body = path.replace("{id}", str(id)), {"decision": "stands", "reason": "compared", "version": seen}
    options = {} if route.method == "GET" else {"json": body}
    answer = await bench.ask(route.method, path, token, **options)
    assert answer.status < 300, (route, answer.body)
    return answer.status


async def _results(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    use = _gate if route.path == "/api/qc-results/status" else use_results
    return await use(bench, laboratory, token, route)


# By the word after /api/: asks for something that is there or can be done, and gives the answer's status.
USERS: dict[str, Callable[[Bench, Laboratory, str, Route], Awaitable[int]]] = {
    **dict.fromkeys(("qc-materials", "qc-lots", "qc-targets", "analyzer-lots"), use_lots),
    "qc-peers": _peers,
    "qc": use_below,
    **dict.fromkeys(("qc-actions", "qc-lookbacks", "qc-plans"), _gate),
    "qc-results": _results,
    "pbrtqc": use_pbrtqc,
}

"""Every route of the order book, asked for something that is there."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from interface.api.context import Route
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory


async def refused(laboratory: Laboratory, barcode: str) -> UUID:
    """Work that an analyzer has refused."""
    ids = await laboratory.order(barcode)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        organization_id = laboratory.organization_id
        analyzer_id = await connection.fetchval(
            """insert into lab.analyzer (id, organization_id, name) values ($1, $2, 'chem-1')
               on conflict (organization_id, name) do update set name = excluded.name returning id""",
            uuid7(), organization_id,
        )  # fmt: skip
        await connection.execute(
            """insert into lab.link (id, organization_id, name, analyzer_id, driver, role)
               values ($1, $2, 'chem-1', $3, 'd', 'analyzer') on conflict do nothing""",
            uuid7(), organization_id, analyzer_id,
        )  # fmt: skip
        dispatch_id: UUID = await connection.fetchval(
            """insert into lab.dispatch (id, organization_id, analyzer_id, order_item_id, specimen_id, work_id, code,
                                         state, answer, sent_at)
               values ($1, $2, $3, $4, $5, nextval('lab.dispatch_work_id_seq'), 'HB', 'refused', 'no reagent', now())
               returning id""",
            uuid7(), organization_id, analyzer_id, ids["item"], ids["specimen"],
        )  # fmt: skip
    return dispatch_id


async def use_dispatches(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """The answer's status."""
    work = await refused(laboratory, uuid4().hex[:12])
    path = route.path.replace("{id}", str(work)).replace("{test}", "HGB").replace("{name}", "chem-1")
    sent: dict[str, Any] = {} if route.method == "GET" else {"json": {"reason": "reagent is in"}}
    if route.method == "PUT":
        sent["json"]["analyzers"] = [{"analyzer": "chem-1"}]
    answer = await bench.ask(route.method, path, token, **sent)
    assert answer.status < 300, (path, answer.body)
    return answer.status


# By the word after /api/.
USERS = dict.fromkeys(("dispatches", "routes", "analyzers"), use_dispatches)

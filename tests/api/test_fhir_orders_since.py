"""What is said of an order over FHIR that has changed since it was placed."""

from __future__ import annotations

from uuid import UUID

import pytest

from interface.domain.views import Actor, ActorKind, Audience
from interface.flow import order_changes
from interface.store import lab
from tests.api.bench import Bench, Laboratory
from tests.api.test_fhir_orders import answered, send, whole


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.client_token("system/*.cruds")


async def test_what_the_laboratory_cancelled_is_said_of_the_same_again(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """200 was the answer, and nothing said that nobody measures it. What was ordered anew is where it is now."""
    staff = Actor(ActorKind.CLIENT, UUID(int=1), "laboratory", laboratory.organization_id)
    first = answered(await send(bench, token, whole()))
    id = UUID(first[2][1].partition("/")[2])
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        [order] = await lab.find_orders(connection, lab.OrderFilter(item_ids=(id,)), Audience.STAFF)
        await order_changes.cancel(connection, staff, order.id, "not enough", item_ids=(id,))
    answer = await send(bench, token, whole())
    assert answered(answer) == [("200", location) for _, location in first]
    told = [one["response"].get("outcome", {}).get("issue", []) for one in answer.json["entry"]]
    assert [len(each) for each in told] == [0, 0, 1, 0]
    [issue] = told[2]
    assert (issue["severity"], issue["diagnostics"]) == ("warning", "cancelled since: HGB (not enough)")
    tube = order.items[0].specimen_id
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await order_changes.add(connection, staff, order.id, ["HGB"], specimen_id=tube)
    answer = await send(bench, token, whole())
    assert all("outcome" not in one["response"] for one in answer.json["entry"])
    [now] = [location for status, location in answered(answer)[2:3] if status == "200"]
    assert (await bench.get(f"/fhir/{now}", token)).json["status"] == "active"

"""Every route about subscriptions that a user may ask, with one that is there: for tests that ask all routes."""

from __future__ import annotations

from uuid import UUID, uuid4

from interface.api.context import Route
from interface.store import subscriptions
from interface.store.actors import insert_client
from interface.store.subscriptions import NewSubscription
from tests.api.bench import Bench, Laboratory

BODIES = {"/api/subscriptions/{id}/off": {"reason": "moved"}, "/api/subscriptions/{id}/resume": {"letters": True}}


async def made(laboratory: Laboratory) -> UUID:
    """A subscription of a client's."""
    endpoint = "https://emr.example.org/fhir"
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        # not by `flow.actors`, which leaves an audit row of its own
        client = await insert_client(
            connection, laboratory.organization_id, uuid4().hex, ["system/*.rs"], secret_hash=b"x" * 32
        )
        new = NewSubscription(client.id, "Observation", "Observation", endpoint, "", (), "", None, ("system/*.rs",))
        return (await subscriptions.insert(connection, laboratory.organization_id, new, 0)).id


async def use_subscriptions(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    path = route.path.replace("{id}", str(await made(laboratory)))
    options = {"json": BODIES[route.path]} if route.path in BODIES else {}
    answer = await bench.ask(route.method, path, token, **options)
    assert answer.status < 300, answer.body
    return answer.status

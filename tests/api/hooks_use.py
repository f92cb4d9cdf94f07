"""An EMR's endpoint on loopback that does as it is told, and a sender whose clock the test holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from interface.api.told import subscription_sender
from interface.flow import actors
from interface.flow.feed import Feed
from interface.flow.subscription_sender import SubscriptionSender
from interface.settings import ApiSettings, Preliminary, Settings
from interface.store.lab_changes import owe
from tests.api.bench import Bench, Laboratory, serving


@dataclass(slots=True)
class Receiver:
    """`answers`: what is answered, one after the other, then 200: a status, or a function of the request."""

    url: str = ""
    got: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    answers: list[int | Callable[[web.Request], web.Response]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.got]

    @property
    def values(self) -> list[str]:
        """The values of the Observations that came."""
        return [str(body["valueQuantity"]["value"]) for *_, body in self.got]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.got.append((request.method, request.path, dict(request.headers), orjson.loads(body) if body else None))
        answer = self.answers.pop(0) if self.answers else 200
        return web.Response(status=answer) if isinstance(answer, int) else answer(request)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class Hooked:
    """A laboratory whose EMR has an endpoint. `now`: of the sender."""

    laboratory: Laboratory
    bench: Bench
    receiver: Receiver
    token: str
    client: Any
    preliminary: Preliminary = Preliminary.HIDDEN
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    feed: Feed = field(init=False)
    sender: SubscriptionSender = field(init=False)

    def __post_init__(self) -> None:
        self.feed = Feed(self.laboratory.database)
        self.sender = self.another()

    def another(self) -> SubscriptionSender:
        """As a process that starts anew."""
        settings = Settings(Path("unused"), api=ApiSettings(hooks=(self.receiver.url,), preliminary=self.preliminary))
        sender = subscription_sender(settings, self.laboratory.database, self.bench.writer, self.feed)
        sender._now = lambda: self.now
        return sender

    async def subscribe(self, criteria: str = "Observation", token: str = "", **changed: Any) -> dict[str, Any]:
        answer = await self.bench.ask(
            "POST", "/fhir/Subscription", token or self.token, json=self.wish(criteria, **changed)
        )
        assert answer.status == 201, answer.json
        made: dict[str, Any] = answer.json
        return made

    def wish(self, criteria: str = "Observation", **changed: Any) -> dict[str, Any]:
        channel = {
            "type": "rest-hook", "endpoint": f"{self.receiver.url}/hook", "payload": "application/fhir+json",
        } | changed.pop("channel", {})  # fmt: skip
        body = {"resourceType": "Subscription", "status": "requested", "reason": "test", "criteria": criteria}
        return body | {"channel": {name: value for name, value in channel.items() if value}} | changed

    async def told(self) -> None:
        """Everything that is due is sent."""
        self.now = max(self.now, datetime.now(UTC))
        await self.feed.look(self.laboratory.organization_id)
        for id in await self.sender.due(self.laboratory.organization_id):
            while await self.sender.serve(self.laboratory.organization_id, id):
                pass

    async def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        await self.told()

    async def state(self, made: dict[str, Any]) -> tuple[str, str]:
        found = (await self.bench.get(f"/fhir/Subscription/{made['id']}", self.token)).json
        return found["status"], found.get("error", "")

    async def released(self, value: str, **changed: Any) -> UUID:
        """A result that an EMR may see, of an order of its own."""
        of = changed.pop("of", None) or await self.laboratory.order()
        result_id = await self.laboratory.result(of, value, **changed)
        await self.owed(result_id)
        return result_id

    async def owed(self, result_id: UUID) -> None:
        async with self.laboratory.database.transaction(self.laboratory.organization_id) as connection:
            await owe(connection, self.laboratory.organization_id, result_id, 1)


@asynccontextmanager
async def hooked(laboratory: Laboratory, preliminary: Preliminary = Preliminary.HIDDEN) -> AsyncIterator[Hooked]:
    async with receiving() as receiver, serving(laboratory.database, preliminary, hooks=(receiver.url,)) as bench:
        client = await laboratory.client("system/*.cruds")
        issued = await actors.client_token(laboratory.database, client.client_id, client.secret, "", 600)
        yield Hooked(laboratory, bench, receiver, issued.token, client, preliminary)

"""Every route about alerts, with one that is there: for tests that ask all routes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from interface.api.context import Route
from interface.domain.alerts import AlertKind, Subject
from interface.flow import alerting
from tests.api.bench import Bench, Laboratory


def quiet(**changes: Any) -> dict[str, Any]:
    """A silence of two hours."""
    end = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    return {"kind": "link_down", "ends_at": end, "reason": "the switch is changed"} | changes


async def made(laboratory: Laboratory, kind: AlertKind = AlertKind.LINK_DOWN) -> UUID:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        id = await alerting.enter(connection, laboratory.organization_id, kind, Subject("link", uuid4().hex))
    assert id is not None
    return id


async def use_alerts(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    key = await made(laboratory)
    options: dict[str, Any] = {}
    if route.path == "/api/alert-silences" and route.method == "POST":
        options["json"] = quiet()
    if route.path.endswith("/end"):
        answer = await bench.ask("POST", "/api/alert-silences", token, json=quiet())
        key = UUID(answer.json["silence"]["id"])
    answer = await bench.ask(route.method, route.path.replace("{id}", str(key)), token, **options)
    assert answer.status < 300, answer.body
    return answer.status

"""`/api/alerts`: seen and seen to by whom the permissions allow, silenced for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from interface.domain.alerts import AlertKind
from interface.domain.permissions import Role
from tests.api.alerts_use import made, quiet
from tests.api.bench import Bench, Laboratory, found_laboratory


async def test_an_alert_is_listed_shown_and_acknowledged(bench: Bench, laboratory: Laboratory) -> None:
    await laboratory.user()
    token, auditor = await laboratory.user_token(Role.TECHNOLOGIST), await laboratory.user_token(Role.AUDITOR)
    viewer, client = await laboratory.user_token(Role.VIEWER), await laboratory.client_token("system/*.rs")
    id, other = await made(laboratory), await made(laboratory, AlertKind.DISK)
    listed = await bench.get("/api/alerts", token)
    assert [one["id"] for one in listed.json["alerts"]] == [str(other), str(id)]
    assert [one["id"] for one in (await bench.get("/api/alerts?kind=disk", auditor)).json["alerts"]] == [str(other)]
    assert (await bench.get("/api/alerts?kind=rain", token)).status == 400
    assert (await bench.ask("POST", f"/api/alerts/{id}/acknowledge", auditor)).status == 403
    for refused in (viewer, client):
        assert (await bench.get("/api/alerts", refused)).status == 403
    done = await bench.ask("POST", f"/api/alerts/{id}/acknowledge", token, json={"comment": "on my way"})
    assert (done.status, done.json["alert"]["acknowledged_at"] is not None) == (200, True)
    shown = (await bench.get(f"/api/alerts/{id}", token)).json
    assert [(one["what"], one["note"]) for one in shown["events"]] == [("entered", ""), ("acknowledged", "on my way")]
    for method, path in (("GET", f"/api/alerts/{uuid4()}"), ("POST", f"/api/alerts/{uuid4()}/acknowledge")):
        assert (await bench.ask(method, path, token)).status == 404


async def test_another_laboratory_sees_and_changes_none(
    bench: Bench, laboratory: Laboratory, database: Any
) -> None:  # fmt: skip
    other = await found_laboratory(database)
    await other.user()
    id, token = await made(laboratory), await other.user_token(Role.ADMINISTRATOR)
    assert (await bench.get("/api/alerts", token)).json == {"alerts": []}
    assert (await bench.get(f"/api/alerts/{id}", token)).status == 404
    assert (await bench.ask("POST", f"/api/alerts/{id}/acknowledge", token)).status == 404


async def test_a_silence_is_made_listed_and_ended(bench: Bench, laboratory: Laboratory) -> None:
    await laboratory.user()
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    done = await bench.ask("POST", "/api/alert-silences", token, json=quiet(thing="link", subject="hema-1"))
    assert (done.status, done.json["silence"]["subject"]) == (201, "hema-1")
    id = done.json["silence"]["id"]
    assert [one["id"] for one in (await bench.get("/api/alert-silences", token)).json["silences"]] == [id]
    for _ in range(2):
        ended = await bench.ask("POST", f"/api/alert-silences/{id}/end", token)
        assert (ended.status, ended.json["silence"]["ended_at"] is not None) == (200, True)
    assert (await bench.get("/api/alert-silences", token)).json["silences"] == []
    assert len((await bench.get("/api/alert-silences?all=true", token)).json["silences"]) == 1
    assert (await bench.ask("POST", f"/api/alert-silences/{uuid4()}/end", token)).status == 404


@pytest.mark.parametrize(
    "changes",
    [{"reason": " "}, {"ends_at": "2020-01-01T00:00:00Z"}, {"kind": "rain"},
     {"ends_at": (datetime.now(UTC) + timedelta(days=32)).isoformat()}, {"begins_at": "2100-01-01T00:00:00Z"}],
)  # fmt: skip
async def test_what_is_no_silence_is_refused(bench: Bench, laboratory: Laboratory, changes: dict[str, str]) -> None:
    await laboratory.user()
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    assert (await bench.ask("POST", "/api/alert-silences", token, json=quiet(**changes))).status in (400, 422)

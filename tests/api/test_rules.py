"""Rule sets over HTTP: the way of a revision from its text to being in force, and who may do what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from interface.api.idempotency import HEADER
from interface.domain.permissions import Role
from interface.domain.views import Actor
from interface.flow import recalculation
from interface.flow.rules import RuleSets
from interface.store.db import Database
from interface.store.rules import in_force as in_force_now
from tests.api.bench import Bench, Laboratory
from tests.api.rules_use import RULES as BODY

CASES = """
name,test,expect,value,qc,critical_limits
inside,HGB,release,13.5,ok,yes
above,HGB,hold,17,ok,yes
"""


@pytest.fixture
async def director(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.LABORATORY_DIRECTOR)


async def ask(bench: Bench, token: str, path: str, status: int = 200, **body: Any) -> Any:
    answer = await bench.ask("POST", f"/api/rules{path}", token, json=body)
    assert answer.status == status, answer.body
    return answer.json


async def stored(bench: Bench, token: str) -> None:
    made = await ask(bench, token, "", 201, body=BODY, reason="first", source="here")
    assert (made["version"], made["mode"], made["validation"]) == ("default@1", "", None)


async def test_a_revision_goes_from_text_to_being_in_force(bench: Bench, laboratory: Laboratory, director: str) -> None:
    await stored(bench, director)
    refused = await ask(bench, director, "/default@1/activate", 409, reason="ready")
    assert "has not been validated" in refused["detail"]
    proof = await ask(bench, director, "/default@1/test", cases=CASES.strip(), form="csv", stamp=True)
    assert (proof["passed"], proof["stamped"], proof["cases"], proof["failures"]) == (True, True, 2, [])
    shadow = await ask(bench, director, "/default@1/shadow", reason="beside us")
    assert shadow["mode"] == "shadow"
    report = (await bench.get("/api/rules/default@1/report?since=2026-01-01", director)).json
    assert (report["total"]["both_release"], report["tests"], report["would_have_released"]) == (0, [], [])
    active = await ask(bench, director, "/default@1/activate", reason="ready")
    assert active["mode"] == "active" and active["validation"]["cases"] == 2
    read = (await bench.get("/api/rules/default@1", director)).json
    assert read["body"] == BODY and read["by"]
    listed = (await bench.get("/api/rules?name=default", director)).json
    assert [one["version"] for one in listed["rules"]] == ["default@1"]
    assert (await ask(bench, director, "/default@1/deactivate", reason="no more"))["mode"] == ""
    await ask(bench, director, "/default@1/deactivate", 409, reason="no more")
    assert len(await laboratory.audit("activate")) == len(await laboratory.audit("validate")) == 1


async def test_a_switch_is_thrown_by_who_may_release_and_taken_back_by_who_may_write_rules(
    bench: Bench, laboratory: Laboratory, director: str
) -> None:
    technologist = await laboratory.user_token(Role.TECHNOLOGIST)
    off = await ask(bench, technologist, "/off", scope="test", key="HGB", reason="alarm")
    assert [(one["scope"], one["key"], one["reason"]) for one in off["off"]] == [("test", "HGB", "alarm")]
    assert off.pop("drained") is True
    assert (await bench.get("/api/rules/switches", technologist)).json == off
    await ask(bench, technologist, "/on", 403, scope="test", key="HGB", reason="r")
    assert await ask(bench, director, "/on", scope="test", key="HGB", reason="found") == {"off": []}
    administrator = await laboratory.user_token(Role.ADMINISTRATOR)
    await ask(bench, administrator, "/off", 403, reason="r")


async def test_a_switch_is_thrown_before_what_decides_is_waited_for_under_a_key_too(
    bench: Bench, laboratory: Laboratory
) -> None:
    """It was committed with the answer: until then rules went on releasing, and what began then was not waited for."""
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    async with laboratory.database.transaction(laboratory.organization_id) as deciding:
        await RuleSets().current(deciding, {})
        under = {"json": {"reason": "alarm"}, "headers": {HEADER: "one"}}
        asked = asyncio.create_task(bench.ask("POST", "/api/rules/off", token, **under))
        async with asyncio.timeout(20):
            while not (await bench.get("/api/rules/switches", token)).json["off"]:
                assert not asked.done()
        assert not asked.done()  # for who decides by what was in force before
    done = await asked
    assert (done.status, done.json["drained"], len(done.json["off"])) == (200, True, 1)
    assert (await bench.ask("POST", "/api/rules/off", token, **under)).json == done.json


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("", {"body": 'name = "A"', "reason": "r"}, 422, "name: 'A' is not"),
        ("", {"body": BODY.replace("HGB", "NOSUCH"), "reason": "r"}, 422, "there is no test 'NOSUCH' in use"),
        ("", {"body": BODY, "reason": " "}, 422, "say why"),
        ("", {"reason": "r"}, 422, "body is missing"),
        ("/default@9/activate", {"reason": "r"}, 404, "there is no rule set default@9"),
        ("/default@x/activate", {"reason": "r"}, 404, ""),
        ("/default@1/test", {"cases": "a,b\n", "form": "csv"}, 422, "the column name is missing"),
        ("/default@1/test", {"form": "xml"}, 422, "form is one of toml, csv"),
        ("/off", {"scope": "ward", "reason": "r"}, 422, "scope is none of"),
        ("/off", {"scope": "analyzer", "key": "nosuch", "reason": "r"}, 404, "there is no analyzer"),
    ],
)
async def test_what_is_refused(
    bench: Bench, director: str, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    assert said in (await ask(bench, director, path, status, **body))["detail"]


async def test_who_may_only_read_rules_changes_none(bench: Bench, laboratory: Laboratory, director: str) -> None:
    await stored(bench, director)
    technologist = await laboratory.user_token(Role.TECHNOLOGIST)
    assert (await bench.get("/api/rules", technologist)).status == 200
    assert (await ask(bench, technologist, "/default@1/test"))["stamped"] is False
    await ask(bench, technologist, "/default@1/test", 403, stamp=True)
    for path in ("", "/default@1/activate", "/default@1/shadow", "/default@1/deactivate"):
        await ask(bench, technologist, path, 403, body=BODY, reason="r")
    viewer, emr = await laboratory.user_token(Role.VIEWER), await laboratory.client_token("system/*.*")
    for token in (viewer, emr):
        assert (await bench.get("/api/rules", token)).status == 403
        await ask(bench, token, "/off", 403, reason="r")


async def test_who_puts_a_revision_in_force_has_calculated_what_was_ordered_before(
    bench: Bench, director: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[str] = []

    async def follow(_: Database, actor: Actor, name: str) -> None:
        followed.append(name)

    monkeypatch.setattr(recalculation, "put_in_force", follow)
    await stored(bench, director)
    await ask(bench, director, "/default@1/activate", 409, reason="not proved")
    assert followed == []
    await ask(bench, director, "/default@1/test", cases=CASES.strip(), form="csv", stamp=True)
    await ask(bench, director, "/default@1/activate", reason="ready")
    assert followed == ["default"]


async def test_a_revision_is_in_force_before_anything_is_calculated_by_it_under_a_key_too(
    bench: Bench, laboratory: Laboratory, director: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was committed with the answer: until then links decided by the rules of before, and what they measured was not
    looked for any more."""
    in_force: list[str] = []

    async def follow(_: Database, actor: Actor, name: str) -> None:
        async def seen() -> None:
            async with laboratory.database.transaction(laboratory.organization_id) as connection:
                in_force.extend(one.name for one in await in_force_now(connection))

        await asyncio.create_task(seen())

    monkeypatch.setattr(recalculation, "put_in_force", follow)
    await stored(bench, director)
    await ask(bench, director, "/default@1/test", cases=CASES.strip(), form="csv", stamp=True)
    under = {"json": {"reason": "ready"}, "headers": {HEADER: "one"}}
    for _ in range(2):
        assert (await bench.ask("POST", "/api/rules/default@1/activate", director, **under)).status == 200
    assert in_force == ["default"], "once"

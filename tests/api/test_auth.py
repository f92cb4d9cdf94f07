"""Who may ask: tokens, logins, scopes, permissions, and that nothing is open but what must be."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from interface.api.app import routes
from interface.api.context import Need
from interface.domain.permissions import NAMED_ONLY, ROLE_PERMISSIONS, Role
from interface.store.db import Database, Use
from tests.api.bench import PASSWORD, Bench, Laboratory, found_laboratory, serving

OPEN = {
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/api/docs"),
    ("GET", "/api/openapi.json"),
    ("POST", "/oauth/token"),
    ("GET", "/active"),
    ("POST", "/api/login"),
    ("GET", "/.well-known/smart-configuration"),
    ("GET", "/fhir/.well-known/smart-configuration"),
    ("GET", "/fhir/metadata"),
}


def a_path(pattern: str) -> str:
    return re.sub(r"\{\w+\}", str(uuid4()), pattern)


async def test_only_the_open_routes_answer_without_a_token(bench: Bench) -> None:
    asked = set()
    for route in bench.app.router.routes():
        assert route.resource is not None
        method = "GET" if route.method == "HEAD" else route.method
        asked.add((method, route.resource.canonical))
        answer = await bench.ask(route.method, a_path(route.resource.canonical))
        if (method, route.resource.canonical) in OPEN:
            assert answer.status != 401 or route.resource.canonical in ("/oauth/token", "/api/login")
        else:
            assert answer.status == 401, route
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert asked == {(route.method, route.path) for route in routes()}
    assert {(route.method, route.path) for route in routes() if route.need.public} == OPEN


async def test_a_token_of_nobody_opens_nothing(bench: Bench, laboratory: Laboratory) -> None:
    good = await laboratory.client_token("system/*.rs")
    head, organization, secret = good.split(".")
    wrong = (
        "x", f"{head}.{organization}", f"{head}.{organization}.{'A' * 43}", f"{head}.{uuid4().hex}.{secret}",
        f"lab2.{organization}.{secret}", good + "A", good.upper(),
    )  # fmt: skip
    for token in wrong:
        assert (await bench.get("/fhir/Patient", token)).status == 401, token
    assert (await bench.get("/fhir/Patient", headers={"Authorization": f"Basic {good}"})).status == 401
    assert (await bench.get(f"/fhir/Patient?access_token={good}")).status == 401
    assert (await bench.get("/fhir/Patient", good)).status == 200


# ---- clients --------------------------------------------------------------------------------------------------------


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_client_gets_a_token_for_its_secret_and_reads_with_it(
    bench: Bench, laboratory: Laboratory, by_header: bool
) -> None:
    made = await laboratory.client("system/Observation.read", "system/Patient.rs")
    form = {"grant_type": "client_credentials"}
    if not by_header:
        form |= {"client_id": made.client_id, "client_secret": made.secret}
    headers = basic(made.client_id, made.secret) if by_header else {}
    answer = await bench.ask("POST", "/oauth/token", data=form, headers=headers)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["token_type"] == "bearer"
    assert answer.json["expires_in"] == 3600
    assert answer.json["scope"] == "system/Observation.rs system/Patient.rs"
    assert (await bench.get("/fhir/Observation", answer.json["access_token"])).status == 200
    assert (await bench.get("/fhir/Specimen", answer.json["access_token"])).status == 403
    [row] = await laboratory.audit("token")
    assert (row["actor_kind"], row["actor_id"], row["outcome"]) == ("client", made.client.id, "ok")


async def test_a_client_may_ask_for_less_than_it_has_and_never_gets_more(bench: Bench, laboratory: Laboratory) -> None:
    made = await laboratory.client("system/Observation.rs", "system/Patient.r")

    async def granted(scope: str) -> str:
        form = {"grant_type": "client_credentials", "scope": scope}
        answer = await bench.ask("POST", "/oauth/token", data=form, headers=basic(made.client_id, made.secret))
        return str(answer.json.get("scope") or f"{answer.status} {answer.json['error']}")

    assert await granted("system/Observation.r") == "system/Observation.r"
    assert await granted("system/*.cruds") == "system/Observation.rs system/Patient.r"
    assert await granted("system/Patient.rs system/Specimen.rs") == "system/Patient.r"
    assert await granted("system/Specimen.rs") == "400 invalid_scope"
    assert await granted("system/Observation.rs?code=1") == "system/Observation.rs?code=1"
    assert await granted("system/Observation.rs?nothing=1") == "400 invalid_scope"
    assert await granted("patient/Observation.rs") == "400 invalid_scope"


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"client_id": f"{uuid4().hex}.{uuid4().hex}"}, 401, "invalid_client"),
        ({"client_id": "", "client_secret": ""}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": ""}, 400, "invalid_request"),
    ],
)
async def test_a_wrong_token_request_is_refused_in_the_words_of_oauth(
    bench: Bench, laboratory: Laboratory, change: dict[str, str], status: int, error: str
) -> None:
    made = await laboratory.client("system/*.rs")
    form = {"grant_type": "client_credentials", "client_id": made.client_id, "client_secret": made.secret} | change
    answer = await bench.ask("POST", "/oauth/token", data=form)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert "access_token" not in answer.json


async def test_a_wrong_secret_leaves_an_audit_row(bench: Bench, laboratory: Laboratory) -> None:
    made = await laboratory.client("system/*.rs")
    form = {"grant_type": "client_credentials"}
    answer = await bench.ask("POST", "/oauth/token", data=form, headers=basic(made.client_id, "wrong"))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    [row] = await laboratory.audit("token")
    assert (row["outcome"], row["detail"], row["address"]) == ("refused", {"reason": "wrong_secret"}, "127.0.0.1")


async def test_an_expired_a_revoked_and_a_disabled_clients_token_open_nothing(
    bench: Bench, laboratory: Laboratory
) -> None:
    changes = (
        ("update lab.access_token set expires_at = $1", datetime.now(UTC) - timedelta(seconds=1)),
        ("update lab.access_token set revoked_at = $1", datetime.now(UTC)),
        ("update lab.client set disabled_at = $1", datetime.now(UTC)),
    )
    for statement, at in changes:
        token = await laboratory.client_token("system/*.rs")
        assert (await bench.get("/fhir/Patient", token)).status == 200
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            await connection.execute(statement, at)
        assert (await bench.get("/fhir/Patient", token)).status == 401, statement


# ---- users ----------------------------------------------------------------------------------------------------------


async def log_in(bench: Bench, laboratory: Laboratory, name: str, password: str = PASSWORD) -> int:
    body = {"organization": laboratory.name, "username": name, "password": password}
    return (await bench.ask("POST", "/api/login", json=body)).status


async def test_a_user_logs_in_works_and_logs_out(bench: Bench, laboratory: Laboratory) -> None:
    name = await laboratory.user(Role.LABORATORY_DIRECTOR)
    body = {"organization": laboratory.name, "username": name.upper(), "password": PASSWORD}
    answer = await bench.ask("POST", "/api/login", json=body)
    assert answer.status == 200
    assert "result:release" in answer.json["permissions"]
    token = answer.json["access_token"]
    assert (await bench.get("/api/results", token)).status == 200
    assert (await bench.ask("POST", "/api/logout", token)).status == 204
    assert (await bench.get("/api/results", token)).status == 401
    assert [row["outcome"] for row in await laboratory.audit("login")] == ["ok"]
    assert len(await laboratory.audit("logout")) == 1


async def test_wrong_names_and_passwords_are_answered_alike(bench: Bench, laboratory: Laboratory) -> None:
    name = await laboratory.user(Role.VIEWER)
    answers = set()
    for organization, username, password in (
        (laboratory.name, name, "wrong horse battery"),
        (laboratory.name, "nobody", PASSWORD),
        ("no-such-laboratory", name, PASSWORD),
    ):
        body = {"organization": organization, "username": username, "password": password}
        answer = await bench.ask("POST", "/api/login", json=body)
        answers.add((answer.status, answer.body))
    assert len(answers) == 1
    assert answers.pop()[0] == 401
    assert [row["outcome"] for row in await laboratory.audit("login")] == ["refused", "refused"]


@pytest.mark.parametrize("role", Role)
async def test_a_user_may_what_the_role_says_and_no_more(bench: Bench, laboratory: Laboratory, role: Role) -> None:
    await laboratory.user(Role.ADMINISTRATOR)
    token = await laboratory.user_token(role)
    for route in routes():
        if route.need.public or route.need.any_actor:
            continue
        permitted = route.need.permission in ROLE_PERMISSIONS[role]
        answer = await bench.ask(route.method, a_path(route.path), token)
        assert (answer.status == 403) == (not permitted), route


@pytest.mark.parametrize(
    "scope", ["system/Observation.r", "system/Patient.s", "system/ServiceRequest.c", "system/*.rs", "system/*.write"]
)
async def test_a_client_may_what_its_scopes_say_and_no_more(bench: Bench, laboratory: Laboratory, scope: str) -> None:
    token = await laboratory.client_token(scope)
    resource, _, actions = scope.removeprefix("system/").partition(".")
    letters = {"write": "cud"}.get(actions, actions)
    for route in routes():
        if route.need.public or route.need.any_actor:
            continue
        need: Need = route.need
        permitted = bool(need.resource) and need.resource in (resource, need.resource if resource == "*" else "")
        permitted = permitted and need.action in letters and not (resource == "*" and need.resource in NAMED_ONLY)
        answer = await bench.ask(route.method, a_path(route.path), token)
        assert (answer.status == 403) == (not permitted), route


async def test_a_scope_that_a_query_narrows_opens_only_what_applies_the_query(
    bench: Bench, laboratory: Laboratory
) -> None:
    token = await laboratory.client_token("system/Observation.rs?status=final")
    for route in routes():
        if not route.need.public and not route.need.any_actor and not route.need.narrowed:
            assert (await bench.ask(route.method, a_path(route.path), token)).status == 403, route


async def test_a_refused_request_leaves_an_audit_row(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.client_token("system/Patient.rs")
    assert (await bench.get("/fhir/Observation", token)).status == 403
    await bench.writer.flush()
    rows = await laboratory.audit("get")
    assert [(row["outcome"], row["entity_kind"]) for row in rows] == [("refused", "route")]


async def test_invented_organizations_open_no_connections(own_database: Database) -> None:
    async with serving(own_database) as bench:
        await found_laboratory(own_database)
        before = set(own_database._pools)
        await _invent_organizations(bench)
        assert set(own_database._pools) - before <= {(None, Use.ANY)}


async def _invent_organizations(bench: Bench) -> None:
    for _ in range(5):
        organization = uuid4().hex
        assert (await bench.get("/fhir/Patient", f"lab1.{organization}.{'A' * 43}")).status == 401
        form = {"grant_type": "client_credentials", "client_id": f"{organization}.{organization}", "client_secret": "x"}
        assert (await bench.ask("POST", "/oauth/token", data=form)).status == 401
    body = {"organization": "nowhere", "username": "x", "password": "x"}
    assert (await bench.ask("POST", "/api/login", json=body)).status == 401

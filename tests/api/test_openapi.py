"""`/api/openapi.json` says what the routes do: every answer in these tests is held against it (`tests.api.conforming`),
and a client that knows nothing but the document finds no fault inside and nothing that it does not say."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from aiohttp import ServerDisconnectedError, web
from jsonschema import Draft202012Validator

from interface.api import health
from interface.api.app import routes
from interface.api.described import describe
from interface.api.openapi import described, document
from interface.domain.permissions import Role
from tests.api.bench import Bench, Laboratory

SEED = os.environ.get("LABORA_FAULT_SEED", "8")
EXAMPLES = pytest.mark.parametrize("examples", [1, pytest.param(10, marks=pytest.mark.long)])  # of each route
PATTERNS = [(route.method, route.path) for route in described(routes())]


async def test_every_handler_is_described_to_the_end_of_what_it_reads() -> None:
    cut_short = [
        f"{route.method} {route.path}"
        for route in described(routes())
        if not (await describe(route.handler, route.method)).whole
    ]
    assert not cut_short


async def test_the_document_has_every_route_once_and_every_schema_is_one() -> None:
    made = await document(routes())
    operations = [(method.upper(), path) for path, methods in made["paths"].items() for method in methods]
    assert sorted(operations) == sorted(PATTERNS)
    names = [operation["operationId"] for methods in made["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
    for name, schema in made["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert schema, name


async def test_what_a_body_may_hold_is_what_the_handler_takes() -> None:
    made = await document(routes())
    body = made["paths"]["/api/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["additionalProperties"] is False
    assert body["properties"]["priority"]["enum"] == ["stat", "asap", "routine", "callback", "preop", None]
    assert body["properties"]["specimens"]["items"]["properties"]["tests"]["items"] == {"type": "string"}
    parameters = {one["name"]: one for one in made["paths"]["/api/patients"]["get"]["parameters"]}
    assert parameters["birth_date"]["schema"] == {"type": "string", "format": "date"}
    assert {"limit", "cursor"} <= set(parameters)
    chart = made["paths"]["/api/qc/charts/{test}"]["get"]["parameters"]
    assert [one["name"] for one in chart if one["in"] == "query" and one["required"]] == ["analyzer"]


async def test_a_handler_that_gives_something_else_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other tests rely on: the check itself."""
    monkeypatch.setattr(health, "json_response", lambda value: web.json_response({"status": 1}))
    with pytest.raises(ServerDisconnectedError):
        await bench.get("/health")


async def test_the_page_shows_every_route_and_needs_nothing_from_elsewhere(bench: Bench) -> None:
    answer = await bench.get("/api/docs")
    text = answer.body.decode()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script" not in answer.headers["Content-Security-Policy"]
    for _, path in PATTERNS:
        assert f"<code>{path}</code>" in text
    assert "<script" not in text
    assert "src=" not in text
    assert "http" not in text.replace("http://www.w3.org", "")


@EXAMPLES
@pytest.mark.timeout(300)
async def test_schemathesis_finds_no_fault_inside_and_no_status_that_is_not_said(
    examples: int, bench: Bench, laboratory: Laboratory, tmp_path: Path
) -> None:
    token = await laboratory.user_token(Role.ADMINISTRATOR, Role.LABORATORY_DIRECTOR)
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = (
        "run", f"{bench.url}/api/openapi.json", "--checks", checks, "--phases", "fuzzing",
        "--max-examples", str(examples),
        "--header", f"Authorization: Bearer {token}", "--no-color", "--exclude-path", "/api/logout",
        "--seed", SEED, "--suppress-health-check", "all", "--max-failures", "20",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", *command, cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode().partition("= ERRORS =")[2][:6000] or output.decode()[-6000:]

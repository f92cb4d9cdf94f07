"""What is said over FHIR of a value that a person has typed in the place of what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from interface.domain.model import ResultStatus
from interface.domain.permissions import Role
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.TECHNOLOGIST, Role.LABORATORY_DIRECTOR)


async def test_a_typed_value_is_said_to_be_its_authors_and_no_analyzers(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    """The analyzer was named as who measured it, and its message as where the value is from, which says another one."""
    order = await laboratory.order()
    id = await laboratory.result(order, "13.5", ResultStatus.PRELIMINARY, message_id=uuid7())
    emr = await laboratory.client_token("system/*.rs")

    async def step(name: str, **body: Any) -> None:
        seen = (await bench.get(f"/api/results/{id}", token)).json["result"]["version"]
        answer = await bench.ask("POST", f"/api/results/{id}/{name}", token, json=body | {"version": seen})
        assert answer.status == 200, answer.body

    await step("release")
    await step("correct", value="9.1", comment="read from another tube's line")
    await step("comment", comment="called")
    traced = (await bench.get(f"/fhir/Provenance?target=Observation/{id}&_sort=recorded", emr)).json["entry"]
    shown = [_said(one["resource"]) for one in traced]
    user = (await laboratory.audit("correct"))[0]["actor_name"]
    assert shown == [
        (f"Device/{laboratory.analyzer_id}", ["source"]),
        (user, ["revision"]),
        (user, ["revision"]),
    ]


def _said(resource: dict[str, Any]) -> tuple[str, list[str]]:
    """Who is its author, and the roles of what it comes from."""
    [author] = [one["who"] for one in resource["agent"] if one["type"]["coding"][0]["code"] == "author"]
    named = author.get("reference") or author["identifier"]["value"]
    return named, [one["role"] for one in resource.get("entity", [])]
